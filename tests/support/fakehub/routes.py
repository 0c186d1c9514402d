"""The REST operations: which path leads to which function, and what a caller must be allowed to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlencode

from fakehub.model import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fakehub.model import Role, Token, User
    from fakehub.shapes import Shapes
    from fakehub.state import State

PER_PAGE: Final = 30
PER_PAGE_LIMIT: Final = 100
REPO: Final = "/repos/{owner}/{repo}"
_DEEP: Final = frozenset({"path", "ref", "branch", "basehead", "name"})  # may hold slashes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is answered; ``body`` is JSON unless ``media`` says otherwise, None is no content."""

    status: int = 200
    body: Any = None
    media: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One authenticated request to a REST operation."""

    state: State
    shapes: Shapes
    user: User
    token: Token
    params: dict[str, str]
    query: dict[str, str]
    body: Any
    accept: str
    url: str  # without the query

    def number(self, name: str) -> int:
        """A path parameter that is a number; anything else is not found."""
        if not self.params[name].isdigit():
            raise Problem(404, "Not Found")
        return int(self.params[name])

    def wants(self, name: str) -> Any:
        """A property of the body that must be there."""
        if not isinstance(self.body, dict) or self.body.get(name) is None:
            raise Problem(422, f'Invalid request.\n\n"{name}" wasn\'t supplied.')
        return self.body[name]

    def maybe(self, name: str, default: Any = None) -> Any:
        """A property of the body."""
        return self.body.get(name, default) if isinstance(self.body, dict) else default

    def commit(self, rev: str) -> str:
        """The commit that a path or query names."""
        sha = self.state.git.resolve(rev)
        if sha is None:
            raise Problem(422, f"No commit found for SHA: {rev}")
        return sha

    def page(self, items: Sequence[Any], show: Callable[[Any], Any]) -> Reply:
        """One page of a list, with links to the others."""
        shown, headers = self.paged(items)
        return Reply(body=[show(each) for each in shown], headers=headers)

    def paged(self, items: Sequence[Any]) -> tuple[Sequence[Any], dict[str, str]]:
        """One page, and the ``link`` header that leads to the others."""
        size = min(self._count("per_page", PER_PAGE), PER_PAGE_LIMIT)
        page, last = self._count("page", 1), max(1, -(-len(items) // size))
        pages = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        links = [
            f'<{self.url}?{urlencode({**self.query, "page": number})}>; rel="{name}"'
            for name, number in pages.items()
            if 1 <= number <= last and number != page
        ]
        shown = items[(page - 1) * size : page * size]
        return shown, {"link": ", ".join(links)} if links else {}

    def _count(self, name: str, default: int) -> int:
        """A positive number of the query; anything else counts as not given."""
        text = self.query.get(name, "")
        return int(text) if text.isdecimal() and int(text) > 0 else default


@dataclass(frozen=True, kw_only=True)
class Route:
    """One operation of the official description."""

    verb: str
    template: str
    pattern: re.Pattern[str]
    needs: str  # a token's permission, "contents:read"; one of several, "issues|pull-requests:read"
    role: Role
    handler: Callable[[Call], Reply]


ROUTES: list[Route] = []


def route(
    verb: str, template: str, *, needs: str = "metadata:read", role: Role = "read"
) -> Callable[[Callable[[Call], Reply]], Callable[[Call], Reply]]:
    """Register the function for an operation."""

    def register(handler: Callable[[Call], Reply]) -> Callable[[Call], Reply]:
        names = re.sub(
            r"\{(\w+)\}",
            lambda at: f"(?P<{at[1]}>{'.+' if at[1] in _DEEP else '[^/]+'})",
            template,
        )
        made = Route(
            verb=verb,
            template=template,
            pattern=re.compile(names),
            needs=needs,
            role=role,
            handler=handler,
        )
        ROUTES.append(made)
        return handler

    return register


def find(table: Sequence[Route], verb: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The operation of a path that is still percent-encoded, and its parameters."""
    matches = [
        (each, at) for each in table if each.verb == verb and (at := each.pattern.fullmatch(path))
    ]
    if not matches:
        return None
    # commits/{ref}/status also looks like commits/{ref}: the most literal one is meant.
    best, at = max(matches, key=lambda found: len(re.sub(r"\{\w+\}", "", found[0].template)))
    return best, {name: unquote(value) for name, value in at.groupdict().items()}


def authorize(route_: Route, state: State, token: Token) -> None:
    """Refuse a caller without the role, or a token without the permission."""
    user = token.user
    if not route_.template.startswith(REPO):
        return
    if state.role(user) == "none":
        raise Problem(404, "Not Found")
    if token.permissions is not None:
        require_permission(token, route_.needs)
    if not state.at_least(user, route_.role):
        raise Problem(403, "Must have push access to repository")


def require_permission(token: Token, needs: str) -> None:
    """Refuse a token that was not given what an operation needs."""
    names, _, level = needs.partition(":")
    given = [(token.permissions or {}).get(name, "none") for name in names.split("|")]
    if names != "metadata" and not {"write", level} & set(given):
        raise Problem(403, "Resource not accessible by integration")
