"""The fake's whole world as one readable text: what tests compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakehub.model import Issue, Pull, Reaction
    from fakehub.state import State

_TEXT = "      | "


def world(state: State) -> str:
    """Every issue and pull request with its talk, and the commit graph.

    Also stray statuses, and what was started. No object name, id or date is in it, so it is the
    same for the same doings.
    """
    return "\n".join(_lines(state)) + "\n"


def _lines(state: State) -> Iterator[str]:
    for issue in state.issues.values():
        yield from _issue(state, issue)
    heads = {issue.pull.head_sha for issue in state.issues.values() if issue.pull}
    for status in state.statuses:
        if status.sha not in heads:
            subject = state.git.commit(status.sha).message.split("\n")[0]
            yield f"status on {subject!r}: {status.context} {status.state}"
    for started in state.dispatches:
        names = ", ".join(started.inputs) or "no inputs"
        told = f"{started.workflow} on {started.ref} by {started.user.login}"
        yield f"started {told}, with {names}"
    yield from _graph(state)


def _issue(state: State, issue: Issue) -> Iterator[str]:
    pull = issue.pull
    kind = "pull" if pull else "issue"
    yield f"{kind} #{issue.number} {_condition(issue)}: {issue.title} (by {issue.user.login})"
    if pull:
        yield from _pull(state, pull)
    if issue.labels:
        yield f"    labels: {', '.join(issue.labels)}"
    yield from _said(issue.body or "")
    if issue.reactions:
        yield f"    reactions: {_reactions(issue.reactions)}"
    for review in pull.reviews if pull else ():
        stale = "" if pull and review.commit == pull.head_sha else " of an older head"
        yield f"    review by {review.user.login}: {review.state}{stale}"
        yield from _said(review.body)
    for comment in state.comments.values():
        if comment.number == issue.number:
            edited = " (edited)" if comment.updated_at != comment.created_at else ""
            reactions = f" [{_reactions(comment.reactions)}]" if comment.reactions else ""
            yield f"    comment by {comment.user.login}{edited}{reactions}:"
            yield from _said(comment.body)


def _condition(issue: Issue) -> str:
    pull = issue.pull
    if pull and pull.merged_by:
        return f"merged by {pull.merged_by.login}"
    if pull and pull.merged_at:
        return "merged by a push"
    by = f" by {issue.closed_by.login}" if issue.closed_by else ""
    reason = f" ({issue.state_reason})" if issue.state_reason == "not_planned" else ""
    return f"{issue.state}{by}{reason}"


def _pull(state: State, pull: Pull) -> Iterator[str]:
    fork = "" if pull.head_owner == state.owner.login else f"{pull.head_owner}:"
    flags = [
        *(["draft"] if pull.draft else []),
        *(["auto-merge"] if pull.auto_merge else []),
        *(["queued"] if pull.queued else []),
    ]
    subject = state.git.commit(pull.head_sha).message.split("\n")[0]
    more = f" [{', '.join(flags)}]" if flags else ""
    yield f"    {pull.base} <- {fork}{pull.head} at {subject!r}{more}"
    for status in state.latest_statuses(pull.head_sha).values():
        told = f": {status.description}" if status.description else ""
        yield f"    status {status.context} {status.state} by {status.user.login}{told}"


def _said(text: str) -> Iterator[str]:
    yield from (f"{_TEXT}{line}".rstrip() for line in text.splitlines())


def _reactions(reactions: list[Reaction]) -> str:
    return ", ".join(f"{each.content} by {each.user.login}" for each in reactions)


def _graph(state: State) -> Iterator[str]:
    refs = state.git.refs("refs/heads", "refs/forks")
    if not refs:
        return
    yield "commits:"
    show = "%d %an/%cn: %s"
    shown = ("--graph", "--decorate=short", "--decorate-refs=refs/heads", "--topo-order")
    lines = state.git.fixed("log", *shown, f"--format={show}", *refs, "--", refs=refs).splitlines()
    yield from (f"    {line}".rstrip() for line in lines if line.strip(" |*/\\"))
