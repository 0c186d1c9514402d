"""From a request to its answer: faults, authentication, git, GraphQL, REST, and the record."""

from __future__ import annotations

import base64
import re
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fakehub import githttp, graphql, rest, routes
from fakehub.model import Problem
from fakehub.routes import Reply
from fakehub.shapes import Shapes
from fakehub.validate import Checker
from fakehub.wire import Exchange, Fault, Planned, Request, as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fakehub.model import Token
    from fakehub.state import State

_STATUSES: Final = re.compile(r"^(/repos/[^/]+/[^/]+)/statuses/([^/]+)$")


@dataclass(frozen=True, kw_only=True)
class _Served:
    """An answer and what is to be said of it in the record."""

    reply: Reply
    user: str | None = None
    violations: tuple[str, ...] = ()


class Service:
    """Answers requests to one repository, and records them.

    Args:
        state: The repository and its people.
        web: Where the server listens.
        prefix: What comes before every REST path.
        graphql_path: Where GraphQL is.
        formerly: Another ``owner/name`` that redirects here.
        backend: Serves git.
    """

    def __init__(
        self,
        state: State,
        *,
        web: str,
        prefix: str,
        graphql_path: str,
        formerly: str | None,
        backend: githttp.Backend,
    ) -> None:
        self.state = state
        self.web = web
        self.prefix = prefix
        self.graphql_path = graphql_path
        self.formerly = formerly
        self.backend = backend
        self.shapes = Shapes(state, api=f"{web}{prefix}", web=web)
        self.exchanges: list[Exchange] = []
        self.planned: list[Planned] = []
        self.watchers: list[Callable[[str, str], object]] = []
        self._checker = Checker()

    def handle(self, request: Request) -> Reply | None:
        """Answer one request and record it; None closes the connection."""
        for look in self.watchers:
            look(request.method, request.path)
        planned = self._meet(request)
        fault = planned.fault if planned else None
        if fault and planned and not planned.after_effect:
            served = _Served(reply=fault.reply())
        else:
            try:
                served = self._serve(request)
            except Exception:  # noqa: BLE001 - the fake's own faults must reach the test's eyes
                told = f"the fake failed: {traceback.format_exc()}"
                served = _Served(
                    reply=Reply(status=500, body={"message": told}), violations=(told,)
                )
            if fault:
                served = _Served(
                    reply=fault.reply(), user=served.user, violations=served.violations
                )
        self._record(request, served, injected=fault is not None)
        return None if fault and fault.status == 0 else served.reply

    def _meet(self, request: Request) -> Planned | None:
        """The next fault for this request; actions are run on the way."""
        with self.state.lock:
            due = [each for each in self.planned if each.action and each.fits(request)]
            fault = next((e for e in self.planned if e.fault and e.fits(request)), None)
            met = [*due, *([fault] if fault else [])]
            self.planned = [each for each in self.planned if not any(each is m for m in met)]
        for each in due:
            if each.action:
                each.action()
        return fault

    def _serve(self, request: Request) -> _Served:
        token = self._token(request.headers)
        user = token.user.login if token else None
        git = githttp.PATH.fullmatch(request.path)
        if git:
            return _Served(reply=self._git(request, git, token), user=user)
        with self.state.lock:
            self.state.sync()
            if request.path == self.graphql_path:
                reply, wrong = self._graphql(request, token)
            else:
                reply, wrong = self._rest(request, token)
        limit = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999"}
        headers = {**limit, "x-ratelimit-reset": "1767229200", **reply.headers}
        reply = Reply(status=reply.status, body=reply.body, media=reply.media, headers=headers)
        return _Served(reply=reply, user=user, violations=tuple(wrong))

    def _token(self, headers: Mapping[str, str]) -> Token | None:
        """Who asks: a token as such, or as the password of a basic login."""
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            value = base64.b64decode(value).decode().partition(":")[2]
        return self.state.tokens.get(value.strip())

    def _git(self, request: Request, at: re.Match[str], token: Token | None) -> Reply:
        name, service = f"{at[1]}/{at[2]}", at[3]
        if name not in (self.state.full_name, self.formerly):
            return Reply(status=404, body=b"Repository not found.", media="text/plain")
        pushing = githttp.PUSH in service or githttp.PUSH in request.query
        if token is None:
            asking = {"www-authenticate": 'Basic realm="GitHub"'}
            return Reply(status=401, body=b"", media="text/plain", headers=asking)
        if not self._may_use_git(token, pushing=pushing):
            told = f"Permission to {name}.git denied to {token.user.login}."
            return Reply(status=403, body=told.encode(), media="text/plain")
        asked = githttp.GitRequest(
            method=request.method,
            service=service,
            query=request.query,
            headers=request.headers,
            body=request.body,
            user=token.user.login,
            protected=list(self.state.protections),
        )
        answer = self.backend.answer(asked)
        headers = dict(answer.headers)
        media = headers.pop("Content-Type", "text/plain")
        return Reply(status=answer.status, body=answer.body, media=media, headers=headers)

    def _may_use_git(self, token: Token, *, pushing: bool) -> bool:
        level = "write" if pushing else "read"
        given = "write" if token.permissions is None else token.permissions.get("contents", "none")
        return self.state.at_least(token.user, "write" if pushing else "read") and (
            given in ("write", level)
        )

    def _graphql(self, request: Request, token: Token | None) -> tuple[Reply, list[str]]:
        if token is None:
            return Reply(status=401, body={"message": "Bad credentials"}), []
        asked = as_json(request.body)
        if not isinstance(asked, dict):
            return Reply(status=400, body={"message": "Problems parsing JSON"}), [
                "graphql: no JSON"
            ]
        body, wrong = graphql.execute(self.state, self.shapes, token, asked)
        self.state.sync()
        return Reply(body=body), wrong

    def _rest(self, request: Request, token: Token | None) -> tuple[Reply, list[str]]:
        path = self._canonical(request)
        found = routes.find(rest.ROUTES, request.method, path)
        if found is None or not request.path.startswith(self.prefix):
            wrong = [f"{request.method} {request.path} is not in the slice"]
            return Reply(status=404, body={"message": "Not Found"}), wrong
        route, params = found
        query, body = request.parameters, as_json(request.body)
        names = (route.verb, route.template)
        wrong = self._checker.request(*names, query, body, sent=bool(request.body))
        reply = self._moved(request, path)
        if reply is None:
            try:
                reply = self._called(request, token, route, params)
            except Problem as problem:
                reply = _refusal(problem)
        media = None if reply.body is None else reply.media
        return reply, wrong + self._checker.response(*names, reply.status, media, reply.body)

    def _called(
        self, request: Request, token: Token | None, route: routes.Route, params: dict[str, str]
    ) -> Reply:
        if token is None:
            given = "authorization" in request.headers
            raise Problem(401, "Bad credentials" if given else "Requires authentication")
        body = as_json(request.body)
        if request.body and body is None:
            raise Problem(400, "Problems parsing JSON")
        call = routes.Call(
            state=self.state,
            shapes=self.shapes,
            user=token.user,
            token=token,
            params=params,
            query=request.parameters,
            body=body,
            accept=request.headers.get("accept", ""),
            url=f"{self.web}{request.path}",
        )
        if {"owner", "repo"} <= params.keys():
            self._require_ours(params)
        routes.authorize(route, self.state, token)
        reply = route.handler(call)
        if route.verb != "GET":
            self.state.sync()
        return reply

    def _require_ours(self, params: dict[str, str]) -> None:
        if f"{params['owner']}/{params['repo']}".casefold() != self.state.full_name.casefold():
            raise Problem(404, "Not Found")

    def _moved(self, request: Request, path: str) -> Reply | None:
        """The redirect of a renamed repository: by number, and 307 for writes."""
        old = f"/repos/{self.formerly}/" if self.formerly else None
        if old is None or not f"{path}/".startswith(old):
            return None
        rest_of_it = path.removeprefix(old.rstrip("/"))
        query = f"?{request.query}" if request.query else ""
        location = f"{self.web}{self.prefix}/repositories/{self.state.id}{rest_of_it}{query}"
        status = 301 if request.method == "GET" else 307
        return Fault.redirect(location, status=status).reply()

    def _canonical(self, request: Request) -> str:
        """The path as the description has it."""
        path = request.path.removeprefix(self.prefix)
        by_number = f"/repositories/{self.state.id}"
        if f"{path}/".startswith(f"{by_number}/"):
            path = f"/repos/{self.state.full_name}{path.removeprefix(by_number)}"
        if request.method == "GET":  # ``statuses_url`` in every answer is an older path
            path = _STATUSES.sub(r"\1/commits/\2/statuses", path)
        return path

    def _record(self, request: Request, served: _Served, *, injected: bool) -> None:
        reply = served.reply
        exchange = Exchange(
            method=request.method,
            path=request.path,
            query=request.parameters,
            user=served.user,
            request=as_json(request.body),
            status=reply.status,
            response=reply.body if not isinstance(reply.body, bytes) else None,
            violations=served.violations,
            injected=injected,
        )
        with self.state.lock:
            self.exchanges.append(exchange)


def _refusal(problem: Problem) -> Reply:
    told: dict[str, Any] = {
        "message": problem.message,
        "documentation_url": "https://docs.github.com/rest",
        "status": str(problem.status),
    }
    if problem.errors:
        told["errors"] = list(problem.errors)
    return Reply(status=problem.status, body=told)
