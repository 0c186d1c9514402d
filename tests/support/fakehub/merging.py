"""Whether a pull request can be merged, and the merge itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fakehub.model import Group, Problem, Wish

if TYPE_CHECKING:
    from fakehub.model import Issue, Pull, User
    from fakehub.repo import Person
    from fakehub.state import State

Condition = Literal["unknown", "draft", "dirty", "blocked", "behind", "unstable", "clean"]
QUEUE_BOT = "github-merge-queue[bot]"  # who merges, whoever has put it into the queue
NOT_ALLOWED = {
    "merge": "Merge commits are not allowed on this repository.",
    "squash": "Squash merges are not allowed on this repository.",
    "rebase": "Rebase merges are not allowed on this repository.",
}


def read_mergeable(state: State, issue: Issue, pull: Pull) -> bool | None:
    """What one look at ``mergeable`` shows: null first, while GitHub computes it."""
    if issue.state == "closed":
        return None
    if pull.unknown_reads > 0:
        pull.unknown_reads -= 1
        return None
    return not _conflicts(state, issue, pull)


def _conflicts(state: State, issue: Issue, pull: Pull) -> bool:
    return state.git.merge_tree(state.base_tip(issue), pull.head_sha) is None


def blockers(state: State, pull: Pull) -> list[str]:
    """What the base branch's protection still demands, in GitHub's words."""
    rules = state.protections.get(pull.base)
    if rules is None:
        return []
    latest = state.latest_statuses(pull.head_sha)
    found = []
    for context in rules.contexts:
        status = latest[context].state if context in latest else "expected"
        if status != "success":
            word = {"failure": "failing", "error": "failing"}.get(status, status)
            found.append(f'Required status check "{context}" is {word}.')
    said = {each.user: each.state for each in pull.reviews if each.state != "COMMENTED"}
    counted = [word for user, word in said.items() if state.at_least(user, "write")]
    if rules.approvals and "CHANGES_REQUESTED" in counted:
        found.append("Changes have been requested.")
    if counted.count("APPROVED") < rules.approvals:
        found.append(
            f"At least {rules.approvals} approving review is required by reviewers with "
            "write access."
        )
    return found


def condition(state: State, issue: Issue, pull: Pull, *, known: bool = True) -> Condition:
    """GitHub's ``mergeable_state``."""
    if issue.state == "closed" or not known:
        return "unknown"
    if pull.draft:
        return "draft"
    if _conflicts(state, issue, pull):
        return "dirty"
    if blockers(state, pull):
        return "blocked"
    rules = state.protections.get(pull.base)
    if rules and rules.strict and not state.git.is_ancestor(state.base_tip(issue), pull.head_sha):
        return "behind"
    passing = all(s.state == "success" for s in state.latest_statuses(pull.head_sha).values())
    return "clean" if passing else "unstable"


def merge(
    state: State,
    issue: Issue,
    pull: Pull,
    wish: Wish,
    *,
    sha: str | None = None,
    queue: bool = False,
) -> str:
    """Merge, or refuse as the merge endpoint does; ``queue`` says that the merge queue asks."""
    if issue.state == "closed":
        raise Problem(405, "Pull Request is not mergeable")
    if sha is not None and sha != pull.head_sha:
        raise Problem(409, "Head branch was modified. Review and try the merge again.")
    if wish.method not in state.switches.merge_methods:
        raise Problem(405, NOT_ALLOWED[wish.method])
    rules = state.protections.get(pull.base)
    if rules and rules.merge_queue and not queue:
        rule = "Changes must be made through the merge queue"
        raise Problem(405, f"Repository rule violations found\n\n{rule}\n\n")
    _require_ready(state, issue, pull)
    tip = state.base_tip(issue)
    commit = _commit(state, issue, pull, wish)
    if not state.git.move(f"refs/heads/{pull.base}", commit, tip):
        raise Problem(409, "Base branch was modified. Review and try the merge again.")
    state.verified.add(commit)
    state.landed(issue, pull, commit, wish.user)
    return commit


def _require_ready(state: State, issue: Issue, pull: Pull) -> None:
    where = condition(state, issue, pull)
    if where == "draft":
        raise Problem(405, "Pull Request is still a draft")
    if where == "dirty":
        raise Problem(405, "Pull Request is not mergeable")
    if where == "behind":
        raise Problem(405, "The head branch is not up to date with the base branch.")
    if where == "blocked":
        raise Problem(405, " ".join(blockers(state, pull)))


def _commit(state: State, issue: Issue, pull: Pull, wish: Wish, *, onto: str | None = None) -> str:
    """The commit that the base will point to; ``onto`` is what stands before it in the queue."""
    tip, head = onto or state.base_tip(issue), pull.head_sha
    author, committer = state.person(wish.user), state.web_flow()
    if wish.method == "rebase":
        return _rebased(state, tip, head, committer)
    tree = state.git.merge_tree(tip, head)
    if tree is None:
        raise Problem(405, "Pull Request is not mergeable")
    subject, body = (
        _merge_text(issue, pull)
        if wish.method == "merge"
        else _squash_text(
            issue, [each.message for each in state.git.log("--reverse", f"{tip}..{head}")]
        )
    )
    parents = [tip, head] if wish.method == "merge" else [tip]
    subject, body = wish.title or subject, body if wish.message is None else wish.message
    text = f"{subject}\n\n{body}" if body else subject
    return state.git.make_commit(tree, parents, text, author=author, committer=committer)


def _merge_text(issue: Issue, pull: Pull) -> tuple[str, str]:
    return f"Merge pull request #{issue.number} from {pull.head_owner}/{pull.head}", issue.title


def _squash_text(issue: Issue, messages: list[str]) -> tuple[str, str]:
    """A single commit keeps its own words; several are listed under the title."""
    if len(messages) == 1:
        subject, _, body = messages[0].partition("\n\n")
        return f"{subject} (#{issue.number})", body
    return f"{issue.title} (#{issue.number})", "\n\n".join(f"* {each}" for each in messages)


def _rebased(state: State, tip: str, head: str, committer: Person) -> str:
    for each in state.git.log("--reverse", "--no-merges", f"{tip}..{head}"):
        replayed = state.git.replayed(each.sha, tip, committer=committer)
        if replayed is None:
            raise Problem(405, "This branch can't be rebased")
        tip = replayed
    return tip


def enable_auto_merge(
    state: State, issue: Issue, pull: Pull, *, wish: Wish, sha: str | None
) -> None:
    """Merge as soon as nothing blocks it, or join the merge queue; refused on a clean one."""
    if not state.switches.allow_auto_merge:
        raise Problem(422, "Pull request Auto merge is not allowed for this repository")
    if issue.state == "closed":
        raise Problem(422, "Pull request Pull request is closed")
    if sha is not None and sha != pull.head_sha:
        raise Problem(422, "Pull request Head sha does not match the expected head sha")
    rules = state.protections.get(pull.base)
    if rules is None:
        raise Problem(422, "Pull request Protected branch rules not configured for this branch")
    where = condition(state, issue, pull)
    if where in ("clean", "unstable") and not rules.merge_queue:
        raise Problem(422, f"Pull request Pull request is in {where} status")
    pull.auto_merge = wish
    settle(state)


def enqueue(state: State, issue: Issue, pull: Pull, *, user: User, sha: str | None) -> None:
    """Put a pull request into the merge queue."""
    rules = state.protections.get(pull.base)
    if rules is None or not rules.merge_queue:
        raise Problem(422, "Pull request A merge queue is not enabled for this branch")
    if sha is not None and sha != pull.head_sha:
        raise Problem(422, "Pull request Head sha does not match the expected head sha")
    _require_ready(state, issue, pull)
    pull.queued, pull.enqueued_by = True, user


def settle(state: State) -> None:
    """Merge, or queue, what waited for its last requirement."""
    for issue in list(state.issues.values()):
        pull = issue.pull
        if pull is None or issue.state == "closed" or pull.auto_merge is None or pull.queued:
            continue
        if condition(state, issue, pull) not in ("clean", "unstable"):
            continue
        wish = pull.auto_merge
        rules = state.protections.get(pull.base)
        if rules and rules.merge_queue:
            pull.queued, pull.enqueued_by = True, wish.user
            continue
        merge(state, issue, pull, wish)
        state.sync()


def form_groups(state: State) -> list[Group]:
    """Make a merge group for everything in the queue, in order; GitHub then asks for checks."""
    ahead: dict[str, str] = {}
    for issue, pull in _queue(state):
        base = ahead.get(pull.base) or state.base_tip(issue)
        wish = pull.auto_merge or Wish(user=pull.enqueued_by or state.owner)
        try:
            made = _commit(state, issue, pull, wish, onto=base)
        except Problem:
            _leave(state, issue, pull)
            continue
        name = f"refs/heads/gh-readonly-queue/{pull.base}/pr-{issue.number}-{base}"
        state.git.move(name, made)
        into = f"refs/heads/{pull.base}"
        state.groups[issue.number] = Group(
            number=issue.number, head_sha=made, head_ref=name, base_sha=base, base_ref=into
        )
        ahead[pull.base] = made
    return [state.groups[issue.number] for issue, _ in _queue(state)]


def _queue(state: State) -> list[tuple[Issue, Pull]]:
    issues = list(state.issues.values())
    return [(issue, issue.pull) for issue in issues if issue.pull and issue.pull.queued]


def _leave(state: State, issue: Issue, pull: Pull) -> None:
    pull.queued, pull.auto_merge = False, None
    if (group := state.groups.pop(issue.number, None)) is not None:
        state.git.move(group.head_ref, None)


def run_merge_queue(state: State) -> list[int]:
    """Merge everything in the queue, in order; what cannot be merged, or fails a check, leaves it.

    The required checks are those reported on the group's own commit, and nobody is known to have
    merged it but the queue (https://docs.github.com/webhooks, merge_group).
    """
    merged = []
    if any(issue.number not in state.groups for issue, _ in _queue(state)):
        form_groups(state)
    for issue, pull in _queue(state):
        group, rules = state.groups[issue.number], state.protections[pull.base]
        latest = state.latest_statuses(group.head_sha)
        good = all(name in latest and latest[name].state == "success" for name in rules.contexts)
        into = f"refs/heads/{pull.base}"
        if not good or not state.git.move(into, group.head_sha, group.base_sha):
            _leave(state, issue, pull)
            continue
        _leave(state, issue, pull)
        state.verified.add(group.head_sha)
        state.landed(issue, pull, group.head_sha, state.add_user(QUEUE_BOT, "write"))
        merged.append(issue.number)
        state.sync()
    return merged
