"""GraphQL over the official schema's slice (tests/support/data/github-graphql.graphql)."""

from __future__ import annotations

import base64
import binascii
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    build_schema,
    execute_sync,
    parse,
    validate,
)

from fakehub import merging
from fakehub.model import Problem, Wish
from fakehub.routes import require_permission
from fakehub.shapes import node_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakehub.model import Issue, Pull, Token, User
    from fakehub.shapes import Shapes
    from fakehub.state import State

SCHEMA: Final = Path(__file__).parent.parent / "data" / "github-graphql.graphql"
CONDITIONS: Final = {True: "MERGEABLE", False: "CONFLICTING", None: "UNKNOWN"}


@cache
def schema() -> GraphQLSchema:
    """The slice, built once."""
    return build_schema(SCHEMA.read_text(encoding="utf-8"))


@cache
def _parsed(query: str) -> DocumentNode | list[GraphQLError]:
    """A query that the schema has, or what is wrong with it; a client has a few, asked often."""
    try:
        document = parse(query)
    except GraphQLError as error:
        return [error]
    return validate(schema(), document) or document


def execute(
    state: State, shapes: Shapes, token: Token, request: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The response body as GitHub words it, and what was wrong with the request itself."""
    query = _parsed(request.get("query", ""))
    if isinstance(query, DocumentNode):
        result = execute_sync(
            schema(),
            query,
            root_value=_Root(state, shapes, token).fields(),
            variable_values=request.get("variables") or {},
            operation_name=request.get("operationName"),
        )
    else:
        result = ExecutionResult(data=None, errors=query)
    body: dict[str, Any] = {}
    if result.data is not None or not result.errors:
        body["data"] = result.data
    if result.errors:
        body["errors"] = [_shown(each) for each in result.errors]
    wrong = [f"graphql: {each.message}" for each in result.errors or () if not _is_refusal(each)]
    return body, wrong


def _is_refusal(error: GraphQLError) -> bool:
    return isinstance(error.original_error, _Refused)


def _shown(error: GraphQLError) -> dict[str, Any]:
    places = [{"line": at.line, "column": at.column} for at in error.locations or ()]
    shown: dict[str, Any] = {"locations": places, "message": error.message}
    if error.path:
        shown["path"] = error.path
    if isinstance(error.original_error, _Refused):
        shown["type"] = error.original_error.kind
    return shown


class _Refused(Exception):
    """A refusal with GitHub's type of error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Root:
    """The root fields, for one caller."""

    def __init__(self, state: State, shapes: Shapes, token: Token) -> None:
        self.state = state
        self.shapes = shapes
        self.token = token

    def fields(self) -> dict[str, Callable[..., Any]]:
        """What a query or mutation may ask for."""
        return {
            "viewer": lambda _: self._user(self.token.user),
            "repository": self._repository,
            "node": self._node,
            "createCommitOnBranch": self._create_commit,
            "enablePullRequestAutoMerge": self._enable_auto_merge,
            "disablePullRequestAutoMerge": self._disable_auto_merge,
            "enqueuePullRequest": self._enqueue,
            "dequeuePullRequest": self._dequeue,
        }

    def _user(self, user: User) -> dict[str, Any]:
        return {"__typename": "User", "id": node_id("U", user.id), "login": user.login}

    def _repository(self, _: Any, *, owner: str, name: str, **__: Any) -> dict[str, Any] | None:
        state = self.state
        hidden = state.role(self.token.user) == "none"
        if hidden or f"{owner}/{name}".casefold() != state.full_name.casefold():
            message = f"Could not resolve to a Repository with the name '{owner}/{name}'."
            raise _Refused("NOT_FOUND", message)
        return {
            "__typename": "Repository",
            "id": node_id("R", state.id),
            "nameWithOwner": state.full_name,
            "autoMergeAllowed": state.switches.allow_auto_merge,
            "issue": lambda _, number: self._issue(number),
            "pullRequest": lambda _, number: self._pull(*self._found(number)),
            "ref": lambda _, qualifiedName: self._ref(qualifiedName),  # noqa: N803 - GitHub's name
            "mergeQueue": lambda _, branch=None: self._queue(branch or state.default_branch),
        }

    def _queue(self, branch: str) -> dict[str, Any] | None:
        rules = self.state.protections.get(branch)
        return {"id": f"MQ_{branch}"} if rules and rules.merge_queue else None

    def _issue(self, number: int) -> dict[str, Any]:
        issue = self.state.issues.get(number)
        if issue is None or issue.pull is not None:
            message = f"Could not resolve to an Issue with the number of {number}."
            raise _Refused("NOT_FOUND", message)
        kind = "Bot" if issue.user.kind == "Bot" else "User"
        return {
            "__typename": "Issue",
            "id": node_id("I", issue.id),
            "number": issue.number,
            "body": issue.body or "",
            "lastEditedAt": issue.edited_at,
            "author": {**self._user(issue.user), "__typename": kind},
        }

    def _found(self, number: int) -> tuple[Issue, Pull]:
        try:
            return self.state.pull(number)
        except Problem as error:
            message = f"Could not resolve to a PullRequest with the number of {number}."
            raise _Refused("NOT_FOUND", message) from error

    def _ref(self, name: str) -> dict[str, Any] | None:
        full = name if name.startswith("refs/") else f"refs/heads/{name}"
        sha = self.state.git.refs(full).get(full)
        if sha is None:
            return None
        short = full.removeprefix("refs/heads/")
        return {
            "__typename": "Ref",
            "id": f"REF_{full}",
            "name": short,
            "target": self._commit(sha),
        }

    def _commit(self, sha: str) -> dict[str, Any]:
        message = self.state.git.commit(sha).message
        url = f"{self.shapes.page}/commit/{sha}"
        return {
            "__typename": "Commit",
            "id": f"C_{sha}",
            "oid": sha,
            "url": url,
            "message": message,
        }

    def _node(self, _: Any, *, id: str) -> dict[str, Any]:  # noqa: A002 - GitHub's name
        return self._pull(*self._pull_by_id(id))

    def _pull_by_id(self, wanted: str) -> tuple[Issue, Pull]:
        for issue in self.state.issues.values():
            if issue.pull and node_id("PR", issue.id) == wanted:
                return issue, issue.pull
        raise _Refused("NOT_FOUND", f"Could not resolve to a node with the global id of '{wanted}'")

    def _pull(self, issue: Issue, pull: Pull) -> dict[str, Any]:
        state = self.state
        mergeable = merging.read_mergeable(state, issue, pull)
        known = mergeable is not None
        word = "MERGED" if pull.merged_at else issue.state.upper()
        wish = pull.auto_merge
        return {
            "__typename": "PullRequest",
            "id": node_id("PR", issue.id),
            "number": issue.number,
            "state": word,
            "isDraft": pull.draft,
            "merged": pull.merged_at is not None,
            "mergeable": CONDITIONS[mergeable],
            "mergeStateStatus": merging.condition(state, issue, pull, known=known).upper(),
            "headRefOid": pull.head_sha,
            "headRefName": pull.head,
            "baseRefOid": pull.base_sha,
            "baseRefName": pull.base,
            "autoMergeRequest": wish
            and {
                "enabledAt": wish.enabled_at,
                "enabledBy": self._user(wish.user),
                "mergeMethod": wish.method.upper(),
            },
            "isInMergeQueue": pull.queued,
            "mergeQueueEntry": self._entry(issue, pull),
        }

    def _entry(self, issue: Issue, pull: Pull) -> dict[str, Any] | None:
        if not pull.queued:
            return None
        queued = [each for each in self.state.issues.values() if each.pull and each.pull.queued]
        position = queued.index(issue) + 1
        return {"id": node_id("MQE", issue.id), "position": position, "state": "QUEUED"}

    def _require(self, needs: str) -> User:
        if self.token.permissions is not None:
            try:
                require_permission(self.token, needs)
            except Problem as error:
                raise _Refused("FORBIDDEN", error.message) from error
        if not self.state.at_least(self.token.user, "write"):
            name = self.token.user.login
            message = f"{name} does not have the correct permissions to execute this mutation"
            raise _Refused("FORBIDDEN", message)
        return self.token.user

    def _create_commit(self, _: Any, *, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 - GitHub's name
        user = self._require("contents:write")
        ref = self._target(input["branch"])
        expected = input["expectedHeadOid"]
        old = self.state.git.refs(ref).get(ref)
        if old is None:
            message = "A branch with that name does not exist"
            raise _Refused("NOT_FOUND", f"{message}: {ref.removeprefix('refs/heads/')}")
        if self.state.protections.get(ref.removeprefix("refs/heads/")):
            raise _Refused("UNPROCESSABLE", "Changes must be made through a pull request.")
        if old != expected:
            # Two spaces, as GitHub has them.
            message = (
                f'Expected branch to point to "{expected}" but it did not.  Pull and try again.'
            )
            raise _Refused("STALE_DATA", message)
        said = input["message"]
        text = "\n\n".join(filter(None, (said["headline"], said.get("body"))))
        files = self._files(input.get("fileChanges") or {}, old)
        sha = self.state.commit_files(user, ref, old, text, files)
        return {**_echo(input), "commit": self._commit(sha), "ref": self._ref(ref)}

    def _target(self, branch: dict[str, Any]) -> str:
        if branch.get("id"):
            return str(branch["id"]).removeprefix("REF_")
        name = str(branch.get("repositoryNameWithOwner") or "")
        if name.casefold() != self.state.full_name.casefold():
            message = f"Could not resolve to a Repository with the name '{name}'."
            raise _Refused("NOT_FOUND", message)
        return f"refs/heads/{str(branch.get('branchName') or '').removeprefix('refs/heads/')}"

    def _files(self, changes: dict[str, Any], old: str) -> dict[str, bytes | None]:
        files: dict[str, bytes | None] = {}
        for each in changes.get("deletions") or ():
            if self.state.git.entry(old, each["path"]) is None:
                message = f"A path was requested for deletion which does not exist: {each['path']}"
                raise _Refused("UNPROCESSABLE", message)
            files[each["path"]] = None
        for each in changes.get("additions") or ():
            try:
                files[each["path"]] = base64.b64decode(each["contents"], validate=True)
            except binascii.Error as error:
                raise _Refused("UNPROCESSABLE", "contents is not valid base64") from error
        return files

    def _enable_auto_merge(self, _: Any, *, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 - GitHub's name
        user = self._require("pull-requests:write")
        issue, pull = self._pull_by_id(input["pullRequestId"])
        wish = Wish(
            user=user,
            method=input.get("mergeMethod", "MERGE").lower(),
            enabled_at=self.state.now(),
            title=input.get("commitHeadline"),
            message=input.get("commitBody"),
        )
        sha = input.get("expectedHeadOid")
        _refusing(lambda: merging.enable_auto_merge(self.state, issue, pull, wish=wish, sha=sha))
        return {**_echo(input), "pullRequest": self._pull(issue, pull)}

    def _disable_auto_merge(self, _: Any, *, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 - GitHub's name
        self._require("pull-requests:write")
        issue, pull = self._pull_by_id(input["pullRequestId"])
        if pull.auto_merge is None:
            raise _Refused("UNPROCESSABLE", '["Can\'t disable auto-merge for this pull request."]')
        pull.auto_merge = None
        return {**_echo(input), "pullRequest": self._pull(issue, pull)}

    def _enqueue(self, _: Any, *, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 - GitHub's name
        user = self._require("pull-requests:write")
        issue, pull = self._pull_by_id(input["pullRequestId"])
        sha = input.get("expectedHeadOid")
        _refusing(lambda: merging.enqueue(self.state, issue, pull, user=user, sha=sha))
        return {**_echo(input), "mergeQueueEntry": self._entry(issue, pull)}

    def _dequeue(self, _: Any, *, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 - GitHub's name
        self._require("pull-requests:write")
        issue, pull = self._pull_by_id(input["id"])
        if not pull.queued:
            raise _Refused("UNPROCESSABLE", "Pull request is not in the merge queue")
        entry = self._entry(issue, pull)
        pull.queued, pull.auto_merge = False, None
        self.state.groups.pop(issue.number, None)
        return {**_echo(input), "mergeQueueEntry": entry}


def _refusing(act: Callable[[], None]) -> None:
    """Do it; a problem becomes GraphQL's error, its message a JSON list of one as GitHub has it."""
    try:
        act()
    except Problem as error:
        raise _Refused("UNPROCESSABLE", f'["{error.message}"]') from error


def _echo(given: dict[str, Any]) -> dict[str, Any]:
    return {"clientMutationId": given.get("clientMutationId")}
