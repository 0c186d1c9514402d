r"""Cuts the parts of GitHub's official API descriptions that the fake (``fakehub``) speaks.

    npm pack @octokit/openapi @octokit/graphql-schema @octokit/webhooks-examples   # and unpack them
    python tests/support/data/slice.py OPENAPI/generated/api.github.com.json \
        GRAPHQL/schema.graphql EVENTS

with ``api.github.com/index.json`` of the last one as EVENTS

writes ``github-api.json``, ``github-graphql.graphql`` and ``github-events.json`` beside this file.
The packages are MIT licensed (github-api.LICENSE). Nothing is added or rewritten: whole operations
are kept with every component they refer to; prose, examples and ``x-`` extensions are left out; of
an event the fields that are listed are kept.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from graphql import (
    InterfaceTypeDefinitionNode,
    NamedTypeNode,
    Node,
    ObjectTypeDefinitionNode,
    TypeDefinitionNode,
    Visitor,
    parse,
    print_ast,
    visit,
)

HERE: Final = Path(__file__).parent
PROSE: Final = frozenset({"description", "summary", "example", "examples", "externalDocs", "tags"})
LEFT_OUT: Final[dict[str, Any]] = {"description": None, "directives": ()}
VERBS: Final = ("get", "put", "post", "patch", "delete")

REPO: Final = "/repos/{owner}/{repo}"
OPERATIONS: Final = {
    "/rate_limit": "get",
    "/user": "get",
    "/users/{username}": "get",
    REPO: "get",
    f"{REPO}/actions/workflows/{{workflow_id}}/dispatches": "post",
    f"{REPO}/branches": "get",
    f"{REPO}/branches/{{branch}}": "get",
    f"{REPO}/collaborators/{{username}}": "get",
    f"{REPO}/collaborators/{{username}}/permission": "get",
    f"{REPO}/commits": "get",
    f"{REPO}/commits/{{commit_sha}}/pulls": "get",
    f"{REPO}/commits/{{ref}}": "get",
    f"{REPO}/commits/{{ref}}/status": "get",
    f"{REPO}/commits/{{ref}}/statuses": "get",
    f"{REPO}/compare/{{basehead}}": "get",
    f"{REPO}/contents/{{path}}": "get",
    f"{REPO}/git/blobs/{{file_sha}}": "get",
    f"{REPO}/git/commits/{{commit_sha}}": "get",
    f"{REPO}/git/matching-refs/{{ref}}": "get",
    f"{REPO}/git/ref/{{ref}}": "get",
    f"{REPO}/git/refs": "post",
    f"{REPO}/git/refs/{{ref}}": "patch delete",
    f"{REPO}/git/trees/{{tree_sha}}": "get",
    f"{REPO}/issues": "get post",
    f"{REPO}/issues/comments/{{comment_id}}": "get patch delete",
    f"{REPO}/issues/comments/{{comment_id}}/reactions": "get post",
    f"{REPO}/issues/comments/{{comment_id}}/reactions/{{reaction_id}}": "delete",
    f"{REPO}/issues/{{issue_number}}": "get patch",
    f"{REPO}/issues/{{issue_number}}/comments": "get post",
    f"{REPO}/issues/{{issue_number}}/events": "get",
    f"{REPO}/issues/{{issue_number}}/labels": "get put post delete",
    f"{REPO}/issues/{{issue_number}}/labels/{{name}}": "delete",
    f"{REPO}/issues/{{issue_number}}/reactions": "get post",
    f"{REPO}/labels": "get post",
    f"{REPO}/labels/{{name}}": "get patch delete",
    f"{REPO}/pulls": "get post",
    f"{REPO}/pulls/{{pull_number}}": "get patch",
    f"{REPO}/pulls/{{pull_number}}/commits": "get",
    f"{REPO}/pulls/{{pull_number}}/files": "get",
    f"{REPO}/pulls/{{pull_number}}/merge": "get put",
    f"{REPO}/pulls/{{pull_number}}/reviews": "get post",
    f"{REPO}/pulls/{{pull_number}}/update-branch": "put",
    f"{REPO}/statuses/{{sha}}": "post",
}

# One example of each event, with these fields.
EVENTS: Final = {
    "issues": (
        "action issue.number issue.title issue.state issue.user.login issue.user.type "
        "issue.created_at issue.updated_at issue.author_association "
        "issue.performed_via_github_app issue.body repository.full_name "
        "repository.default_branch sender.login sender.type"
    ),
    "issue_comment": (
        "action issue.number issue.state comment.id comment.html_url comment.user.login "
        "comment.user.type comment.created_at comment.updated_at comment.author_association "
        "comment.performed_via_github_app comment.body repository.full_name "
        "repository.default_branch sender.login sender.type"
    ),
    "pull_request_review": (
        "action review.id review.html_url review.user.login review.user.type review.body "
        "review.commit_id review.submitted_at review.state review.author_association "
        "pull_request.number pull_request.state pull_request.head.sha repository.full_name "
        "repository.default_branch sender.login sender.type"
    ),
    "merge_group": (
        "action merge_group.head_sha merge_group.head_ref merge_group.base_sha "
        "merge_group.base_ref repository.full_name sender.login sender.type"
    ),
    "pull_request": (
        "action number pull_request.number pull_request.head.ref repository.full_name "
        "sender.login sender.type"
    ),
    "push": "ref after repository.full_name sender.login sender.type",
}

# Objects and interfaces keep these fields; inputs, enums and scalars they need are kept whole.
FIELDS: Final = {
    "Query": "id node repository viewer",
    "Mutation": (
        "createCommitOnBranch enablePullRequestAutoMerge disablePullRequestAutoMerge "
        "dequeuePullRequest enqueuePullRequest"
    ),
    "CreateCommitOnBranchPayload": "clientMutationId commit ref",
    "EnablePullRequestAutoMergePayload": "clientMutationId pullRequest",
    "DisablePullRequestAutoMergePayload": "clientMutationId pullRequest",
    "DequeuePullRequestPayload": "clientMutationId mergeQueueEntry",
    "EnqueuePullRequestPayload": "clientMutationId mergeQueueEntry",
    "MergeQueueEntry": "id position state",
    "MergeQueue": "id",
    "AutoMergeRequest": "enabledAt enabledBy mergeMethod",
    "Actor": "login",
    "User": "id login",
    "Bot": "id login",
    "Node": "id",
    "Ref": "id name target",
    "GitObject": "id oid",
    "Commit": "id oid url message",
    "Repository": "id nameWithOwner issue pullRequest ref mergeQueue autoMergeAllowed",
    "Issue": "id number author body lastEditedAt",
    "PullRequest": (
        "id number state isDraft merged mergeable mergeStateStatus headRefOid headRefName "
        "baseRefOid baseRefName autoMergeRequest isInMergeQueue mergeQueueEntry"
    ),
}


def sliced(description: dict[str, Any]) -> dict[str, Any]:
    """The kept operations with every component they reach."""
    paths = {
        path: {
            verb: _plain(description["paths"][path][verb])
            for verb in VERBS
            if verb in wanted.split()
        }
        for path, wanted in OPERATIONS.items()
    }
    kept: dict[str, dict[str, Any]] = {}
    waiting = _references(paths)
    while waiting:
        _, _, kind, name = waiting.pop().split("/")
        if name not in kept.setdefault(kind, {}):
            kept[kind][name] = _plain(description["components"][kind][name])
            waiting |= _references(kept[kind][name])
    return {
        "openapi": description["openapi"],
        "info": {
            "title": "GitHub REST API, a slice made by tests/support/data/slice.py",
            "version": description["info"]["version"],
            "license": description["info"]["license"],
        },
        "paths": paths,
        "components": {kind: dict(sorted(kept[kind].items())) for kind in sorted(kept)},
    }


def _plain(node: Any, *, names: bool = False) -> Any:
    """``node`` without prose; under ``names`` the keys are names of properties, not keywords."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _plain(value, names=key in ("properties", "patternProperties") and not names)
        for key, value in node.items()
        if names or not (key in PROSE or key.startswith("x-"))
    }


def _references(node: Any) -> set[str]:
    """All ``$ref`` targets in ``node``."""
    if isinstance(node, list):
        return set().union(*map(_references, node))
    if not isinstance(node, dict):
        return set()
    here = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return here.union(*map(_references, node.values()))


def sliced_schema(text: str) -> str:
    """The kept fields of the GraphQL schema with every type they reach."""
    known = {
        node.name.value: node
        for node in parse(text, no_location=True).definitions
        if isinstance(node, TypeDefinitionNode)
    }
    kept: dict[str, TypeDefinitionNode] = {}
    waiting = list(FIELDS)
    while waiting:
        name = waiting.pop()
        if name not in kept and name in known:
            kept[name] = _bare(_narrowed(known[name]))
            names = _Names()
            visit(kept[name], names)
            waiting += names.found
    return "\n\n".join(print_ast(kept[name]) for name in sorted(kept)) + "\n"


def _narrowed(node: TypeDefinitionNode) -> TypeDefinitionNode:
    """Objects and interfaces with the fields and interfaces that are listed."""
    if not isinstance(node, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
        return node
    wanted = FIELDS[node.name.value].split()  # a KeyError names an object that must be listed
    return replace(
        node,
        fields=tuple(each for each in node.fields or () if each.name.value in wanted),
        interfaces=tuple(each for each in node.interfaces or () if each.name.value in FIELDS),
    )


def _bare(node: Any) -> Any:
    """``node`` without prose and directives (which are prose too: ``@possibleTypes``)."""
    if isinstance(node, tuple):
        return tuple(map(_bare, node))
    if not isinstance(node, Node):
        return node
    bare = {key: _bare(getattr(node, key)) for key in node.keys if key not in ("loc", *LEFT_OUT)}
    return replace(node, **bare, **{key: LEFT_OUT[key] for key in node.keys if key in LEFT_OUT})


class _Names(Visitor):
    """Collects the names of the types that are referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def enter_named_type(self, node: NamedTypeNode, *_: Any) -> None:
        """A type of a field, an argument or an interface."""
        self.found.append(node.name.value)


def sliced_events(known: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each kept event the first example that has every field that is listed."""
    examples = {each["name"]: each["examples"] for each in known}
    return {
        name: next(made for made in (_only(each, fields) for each in examples[name]) if made)
        for name, fields in EVENTS.items()
    }


def _only(example: dict[str, Any], fields: str) -> dict[str, Any] | None:
    """``example`` with these fields; None when it lacks one."""
    made: dict[str, Any] = {}
    for field in fields.split():
        *way, last = field.split(".")
        source, target = example, made
        for step in way:
            source, target = source.get(step, {}), target.setdefault(step, {})
        if last not in source:
            return None
        target[last] = source[last]
    return made


def main(openapi: str, graphql: str, events: str) -> None:
    """Write the slices beside this file."""
    description = json.loads(Path(openapi).read_text(encoding="utf-8"))
    text = json.dumps(sliced(description), separators=(",", ":"), ensure_ascii=False)
    (HERE / "github-api.json").write_text(text + "\n", encoding="utf-8")
    schema = sliced_schema(Path(graphql).read_text(encoding="utf-8"))
    (HERE / "github-graphql.graphql").write_text(schema, encoding="utf-8")
    kept = sliced_events(json.loads(Path(events).read_text(encoding="utf-8")))
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    (HERE / "github-events.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
