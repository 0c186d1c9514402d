"""Publishes and merges proposals in a git repository, with nothing but git.

A proposal is one commit on ``ratchet/<skill>`` that changes one file. What may happen to a
branch or a checkout, and what a crash leaves behind, is written down in docs/design/forge.md.
"""

from __future__ import annotations

import os
import re
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from skill_ratchet.base import git
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import commit_words
from skill_ratchet.core.records import digest
from skill_ratchet.project.proposal import (
    EVIDENCE,
    EXPERIMENT,
    FORMER,
    MADE,
    NOBODY,
    PARENT,
    REVERT,
    Merged,
    OpenProposal,
    Refused,
    one_line,
    proposal_branch,
)
from skill_ratchet.project.repository import (
    CommitTree,
    checkout_at,
    differences,
    dirty,
    require_history,
    resolve,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skill_ratchet.base.git import Output
    from skill_ratchet.project.proposal import Identity
    from skill_ratchet.project.repository import Project

# For the reflog, which is nobody's but this clone's.
_IDENTITY: Final = NOBODY.environ | {"GIT_REFLOG_ACTION": "ratchet"}
_UNDER_WAY: Final = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "sequencer": "cherry-pick or revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase or 'git am'",
    "BISECT_LOG": "bisect",
}
_FAST_FORWARD: Final = (
    "merge",
    "--ff-only",
    "--no-squash",
    "--no-autostash",
    "--no-edit",
    "--quiet",
)


class _Commit(NamedTuple):
    """What the log says of a commit, in the order of ``_LOG_FORMAT``."""

    sha: str
    people: str
    at: str
    body: str
    experiments: str
    parents: str
    reverts: str
    evidence: str
    tree: str
    onto: str
    subject: str
    made: str


_LOG_FORMAT: Final = "%x00".join(
    ["%H", "%an <%ae>%n%cn <%ce>", "%cI", "%B"]
    + [f"%(trailers:key={key},valueonly)" for key in (EXPERIMENT, PARENT, REVERT, EVIDENCE)]
    + ["%T", "%P", "%s", f"%(trailers:key={MADE},valueonly)"]
)
_BOTH_FORMER: Final = f"{FORMER}\n{FORMER}"


def publish(
    project: Project,
    *,
    skill: str,
    path: str,
    base: str,
    text: str,
    message: str,
    trailers: Mapping[str, str],
    at: str,
) -> str:
    """Put one edit of one file on the skill's proposal branch, on top of ``base``.

    The same arguments make the same commit, so this can be done again. No checkout changes.

    Args:
        project: Says which repository.
        skill: Names the branch, ``ratchet/<skill>``.
        path: The file, relative to the project.
        base: The commit the verdict was reached on.
        text: The file's new content.
        message: Becomes the one-line subject.
        trailers: ``Ratchet-Experiment`` and its like; each value becomes one line.
        at: When, in ISO 8601 with a time zone.

    Returns:
        The commit.

    Raises:
        RatchetError: The file is not a regular one in ``base``, or the branch is checked out or
            carries someone's commits. The branch is then as it was.
    """
    branch = proposal_branch(skill)
    commit = build_commit(
        project,
        path=path,
        base=base,
        content=text.encode(),
        message=message,
        trailers=trailers,
        at=at,
    )
    tip = _tip(project, branch)
    if tip != commit:
        _refuse_taken(project, branch=branch, base=base, tip=tip)
        _move(project, branch=branch, old=tip, new=commit)
    return commit


def build_commit(
    project: Project,
    *,
    path: str,
    base: str,
    content: bytes,
    message: str,
    trailers: Mapping[str, str],
    at: str,
    who: Identity | None = None,
) -> str:
    """Make the commit that differs from ``base`` in the content of one file, and no ref.

    Args: as for ``publish``, and ``who`` commits; None is whoever git says this clone is of, whose
    ``commit.gpgsign`` is honoured. No hook is run.

    Raises:
        RatchetError: The file is missing from ``base``, is a link or in a submodule, has a twin
            that differs only in case, or already has this content.
    """
    base = resolve(project, base)
    before = CommitTree(project, base)
    entry = before.entry(path)
    before.refuse_twins(path)
    blob = run(project, "hash-object", "-w", "-t", "blob", "--stdin", stdin=content).text
    if blob == entry.sha:
        raise RatchetError(f"the proposal does not change {path}")
    tree = _tree_with(project, base=base, mode=entry.mode, blob=blob, path=project.full(path))
    subject = commit_words.plain(message) or commit_words.plain(f"Edit {path}")
    body = _message(subject, {**trailers, MADE: _made(base, tree, subject)})
    date = f"@{int(_instant(at).timestamp())} +0000"
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    sign = "-S" if who is None and _signs(project) else "--no-gpg-sign"
    make = ("commit-tree", sign, "-p", base, "-F", "-", tree)
    env = dates | (who.environ if who else identity(project))
    done = run(project, *make, stdin=body.encode(), env=env, ok=range(256))
    if done.status:
        raise _uncommitted(done, signed=sign == "-S")
    commit = done.text
    require_only(project, base=base, commit=commit, path=path)
    return commit


def merge(project: Project, *, branch: str, base: str, commit: str, path: str) -> Merged | Refused:
    """Fast-forward ``branch`` from ``base`` to ``commit``, wherever it is checked out.

    Nothing that is not committed is ever lost: git moves the checkout, and the one file that
    changes must be clean. Doing it twice is doing it once, also after a crash half-way.

    Args:
        project: Says which repository.
        branch: The branch to move.
        base: Where it must still be.
        commit: A child of ``base`` that changes ``path`` and nothing else.
        path: The skill, relative to the project.

    Raises:
        RatchetError: There is no such branch, or ``commit`` is not such a commit.
    """
    base, commit = resolve(project, base), resolve(project, commit)
    tip = require_tip(project, branch)
    if is_ancestor(project, commit, tip):
        return Merged(branch=branch, commit=commit, already=True)
    require_only(project, base=base, commit=commit, path=path)
    if tip != base:
        return _base_moved(branch, base=base, tip=tip)
    return _advance(project, branch=branch, old=tip, new=commit, path=path)


def open_proposal(project: Project, *, skill: str, branch: str) -> OpenProposal | None:
    """The skill's proposal that has not been merged into ``branch``, if there is one."""
    tip = _tip(project, proposal_branch(skill))
    if tip is None:
        return None
    commits = _log(project, tip, f"^{require_tip(project, branch)}")
    ours = next((commit for commit in commits if commit.experiments), None)
    if ours is None:
        return None
    return OpenProposal(
        skill=skill,
        commit=tip,
        experiment=ours.experiments.split("\n")[0],
        parent=ours.parents.split("\n")[0],
        committed_at=ours.at,
        evidence=ours.evidence.split("\n")[0],
        edited=not all(_is_bots(commit) for commit in commits),
    )


def remote_proposal(project: Project, *, skill: str, branch: str) -> str | None:
    """A remote's branch with a proposal that is not in ``branch``, as this clone last saw it."""
    name = proposal_branch(skill)
    listed = run(project, "for-each-ref", "--format=%(refname)", f"refs/remotes/*/{name}").text
    for ref in listed.split():
        if any(one.experiments for one in _log(project, ref, f"^{require_tip(project, branch)}")):
            return ref.removeprefix("refs/remotes/")
    return None


def half_merged(project: Project, *, skill: str, branch: str, path: str) -> bool:
    """Whether an uncommitted edit of ``path`` is just what the skill's open proposal makes of it.

    Args:
        project: The checkout that is on ``branch``.
        skill: Whose proposal.
        branch: The branch it would be merged into.
        path: A file that is not clean.
    """
    waiting = open_proposal(project, skill=skill, branch=branch)
    if waiting is None:
        return False
    tip = require_tip(project, branch)
    change = run(project, "diff-tree", "-r", "-z", "--name-only", tip, waiting.commit).fields
    edits_it = change == [project.full(path)]
    return edits_it and _holds(project, path=path, old=tip, new=waiting.commit)


def committed_at(project: Project, commit: str) -> datetime:
    """When a commit was made."""
    return datetime.fromisoformat(run(project, "show", "-s", "--format=%cI", commit).text)


def experiment_of(project: Project, commit: str) -> str | None:
    """The experiment that a commit's trailer names."""
    return trailer(project, commit, EXPERIMENT)


def evidence_of(project: Project, commit: str) -> str | None:
    """The evidence that a commit's trailer names, by its digest."""
    return trailer(project, commit, EVIDENCE)


def trailer(project: Project, commit: str, key: str) -> str | None:
    """The first value that a commit's trailers have under a key."""
    shown = run(project, "show", "-s", f"--format=%(trailers:key={key},valueonly)", commit)
    return shown.text.split("\n")[0].strip() or None


def parents(project: Project, commit: str) -> list[str]:
    """The parents of a commit, in their order."""
    return run(project, "rev-parse", f"{commit}^@").text.split()


def parent(project: Project, commit: str) -> str | None:
    """The only parent of a commit; None when it has none or several."""
    found = parents(project, commit)
    return found[0] if len(found) == 1 else None


def named_in(project: Project, head: str, *, since: str) -> list[str]:
    """The commits of a branch whose trailers name an experiment, newest first.

    Args:
        project: With the commits.
        head: The end of the branch.
        since: Where it left the base; when this clone does not have it, only ``head`` is read.
    """
    known = git.read_object(project.git_dir, since, most=0) is not None
    span = (head, f"^{since}") if known else ("--max-count=1", head)
    return [one.sha for one in _log(project, *span) if one.experiments]


def require_free(project: Project, *, skill: str) -> None:
    """Raise RatchetError when the skill's proposal branch is checked out somewhere."""
    _refuse_checked_out(project, proposal_branch(skill))


def drop(project: Project, *, skill: str, expect: str) -> None:
    """Delete the skill's proposal branch if it still points to ``expect``.

    Raises:
        RatchetError: It points elsewhere, or is checked out. It is then as it was.
    """
    branch = proposal_branch(skill)
    tip = _tip(project, branch)
    if tip is None:
        return
    if tip != expect:
        raise RatchetError(f"branch {branch} has moved from {expect[:12]} to {tip[:12]}")
    _refuse_checked_out(project, branch)
    run(project, "update-ref", "--no-deref", "-d", f"refs/heads/{branch}", expect, env=_IDENTITY)


def landed(project: Project, *, branch: str, experiment_id: str, path: str) -> str | None:
    """The newest commit on ``branch`` that took the experiment in, whoever made it.

    A trailer is not enough, as anybody's commit may have one: it has to change the skill.

    Args:
        project: Says which repository.
        branch: The branch.
        experiment_id: What the trailer names.
        path: The skill.

    Raises:
        RatchetError: There is none in what a shallow clone has of the branch.
    """
    tip = require_tip(project, branch)
    return landed_in(project, tip, experiment_id=experiment_id, path=path)


def landed_in(project: Project, commit: str, *, experiment_id: str, path: str) -> str | None:
    """The same for the history of a commit."""
    wanted = f"{EXPERIMENT}: {_plain(experiment_id)}"
    commits = _log(project, commit, grep=[wanted])
    named = (each.sha for each in commits if experiment_id in each.experiments.split("\n"))
    first = next((sha for sha in named if _changes(project, sha, path)), None)
    if first is None:
        require_history(project)
    return first


def _changes(project: Project, commit: str, path: str) -> bool:
    """Whether a file in a commit is another one than in its first parent, if that is here."""
    names = [f"{end}:{project.full(path)}" for end in (f"{commit}^1", commit)]
    before, after = (git.read_object(project.git_dir, name, most=0) for name in names)
    return (before and before.oid) != (after and after.oid)


def came_with(project: Project, *, landed: str, tip: str, branch: str, skill: str) -> str | None:
    """The commit with which everything came in that was merged together with ``landed``.

    Where a merge brought it in, that is the merge. Where the commits of the proposal's branch are
    the base branch's own, it is the tip of that branch, or what the reflog of the base branch says
    of the merge. None when git does not tell: what follows ``landed`` may have come later.

    Args:
        project: Says which repository.
        landed: A commit of a proposal, in the history of ``tip``.
        tip: Of the base branch.
        branch: The base branch.
        skill: Whose proposal.
    """
    since = f"{landed}..{tip}"
    chain = run(project, "rev-list", "--first-parent", "--parents", "--reverse", since).text
    after = set(run(project, "rev-list", "--ancestry-path", since).text.split())
    steps = [line.split() for line in chain.splitlines()]
    first = next((step for step in steps if step[0] in after), None)
    if first is None:
        return landed
    if first[1:2] != [landed]:
        return first[0]
    name = proposal_branch(skill)
    refs = (f"refs/heads/{name}", f"refs/remotes/*/{name}")
    tips = run(project, "for-each-ref", "--format=%(objectname)", *refs).text.split()
    found = (at for at in (*tips, *_merges_of(project, name, into=branch)))
    return next((at for at in found if _came_along(project, landed=landed, at=at, tip=tip)), None)


def _merges_of(project: Project, name: str, *, into: str) -> list[str]:
    """Where this clone's branch was after each ``git merge`` of another branch, oldest first."""
    shown = ("log", "--walk-reflogs", "--format=%H %gs", f"refs/heads/{into}")
    lines = run(project, *shown, "--", ok=(0, 128)).text.splitlines()
    told = (line.partition(" ") for line in reversed(lines))
    return [sha for sha, _, what in told if re.match(rf"merge (\S+/)?{re.escape(name)}: ", what)]


def _came_along(project: Project, *, landed: str, at: str, tip: str) -> bool:
    """Whether ``at`` is on the way from ``landed`` to ``tip``, with no other proposal before it."""
    if not (is_ancestor(project, landed, at) and is_ancestor(project, at, tip)):
        return False
    return not any(one.experiments for one in _log(project, at, f"^{landed}"))


def author_of(project: Project, commit: str) -> str:
    """Who made a commit, by the name that git knows."""
    return one_line(run(project, "show", "-s", "--format=%an", commit).text)


def reverted_in(project: Project, commit: str, *, experiment_id: str, path: str) -> str | None:
    """The commit that took an experiment out again after it landed last, in a commit's history.

    A person's own ``git revert`` counts: it names the commit that it reverts.
    """
    since = landed_in(project, commit, experiment_id=experiment_id, path=path)
    return _reverting(project, since=since, tip=commit, experiment_id=experiment_id)


# Making a commit


def identity(project: Project) -> dict[str, str]:
    """What git's environment lacks to commit in this clone: nothing where git knows its owner."""
    known = run(project, "var", "GIT_COMMITTER_IDENT", ok=range(256)).status == 0
    return {} if known else NOBODY.environ


def idle_hooks(project: Project) -> list[str]:
    """The hooks of this clone that a commit of a person's would run, and Ratchet's does not."""
    # As git has it for people: our own commands are told that there are none.
    told = git.execute(project.toplevel, ("rev-parse", "--git-path", "hooks")).text
    there = project.toplevel / told
    return [name for name in _HOOKS if os.access(there / name, os.X_OK)]


_HOOKS: Final = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit")


def _signs(project: Project) -> bool:
    asked = ("config", "--type=bool", "--get", "commit.gpgsign")
    return run(project, *asked, ok=(0, 1)).text == "true"


def _uncommitted(done: Output, *, signed: bool) -> RatchetError:
    hint = "Put right what git says, and run again: what finished is kept."
    if signed:
        hint = (
            "'commit.gpgsign' is set: unlock your key, or 'git config commit.gpgsign false' in "
            "this clone, and run again. What finished is kept."
        )
    return RatchetError(f"git could not make the commit: {done.error}", hint=hint)


def _tree_with(project: Project, *, base: str, mode: str, blob: str, path: str) -> str:
    """The tree of ``base`` with one blob replaced; needs no index, so no checkout is involved."""
    made = f"{mode} blob {blob}"
    while True:
        folder, _, leaf = path.rpartition("/")
        lines = run(project, "ls-tree", "-z", "--full-tree", f"{base}:{folder}").fields
        changed = [f"{made}\t{leaf}" if line.endswith(f"\t{leaf}") else line for line in lines]
        listing = "".join(f"{line}\0" for line in changed)
        tree = run(project, "mktree", "-z", "--missing", stdin=os.fsencode(listing)).text
        if not folder:
            return tree
        made, path = f"040000 tree {tree}", folder


def _message(subject: str, trailers: Mapping[str, str]) -> str:
    for key in trailers:
        if not re.fullmatch(r"[A-Za-z][A-Za-z-]*", key):
            raise ValueError(f"{key!r} is not the name of a trailer")
    lines = [f"{key}: {one_line(value)}" for key, value in trailers.items()]
    return "\n".join([subject, "", *lines]) + "\n"


def _instant(at: str) -> datetime:
    instant = datetime.fromisoformat(at)
    if instant.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone")
    return instant


def require_only(project: Project, *, base: str, commit: str, path: str) -> None:
    """Refuse a commit that is anything but one edit of one regular file on top of ``base``."""
    if not is_only(project, base=base, commit=commit, path=path):
        raise RatchetError(
            f"commit {commit[:12]} is not one edit of {path} on top of {base[:12]}",
            hint="Run the experiment again: Ratchet merges nothing else.",
        )


def is_only(project: Project, *, base: str, commit: str, path: str) -> bool:
    """Whether a commit is one edit of one regular file on top of ``base``, and nothing else."""
    return parents(project, commit) == [base] and is_one_edit(project, base, commit, path=path)


def is_one_edit(project: Project, old: str, new: str, *, path: str) -> bool:
    """Whether two commits differ by one edit of one regular file, and by nothing else."""
    found = differences(project, old, new)
    edits = [one.path for one in found if one.is_edit]
    return len(found) == 1 and edits == [project.full(path)]


def _tip(project: Project, branch: str) -> str | None:
    """The commit of a branch; None when there is no such branch."""
    ref = f"refs/heads/{branch}"
    if alias := git.pointed_to(project.common_dir, ref):
        raise RatchetError(f"branch {branch} is another name for {alias}", hint="Use that one.")
    return git.tip(project.common_dir, ref)


def require_tip(project: Project, branch: str) -> str:
    """The commit of a branch.

    Raises:
        RatchetError: There is no such branch.
    """
    tip = _tip(project, branch)
    if tip is None:
        raise RatchetError(
            f"there is no branch {branch} in {project.toplevel}",
            hint="'git branch' lists the branches; 'git switch <name>' makes one from a remote's.",
        )
    return tip


def is_ancestor(project: Project, older: str, newer: str) -> bool:
    """Whether ``older`` is ``newer`` or in its history."""
    return run(project, "merge-base", "--is-ancestor", older, newer, ok=(0, 1)).status == 0


def in_history(project: Project, commit: str, *, tip: str) -> bool:
    """Whether a commit, which this clone may not have, is in the history of ``tip``."""
    asked = ("merge-base", "--is-ancestor", commit, tip)
    return run(project, *asked, ok=range(256)).status == 0


def _log(project: Project, *revisions: str, grep: Iterable[str] = ()) -> list[_Commit]:
    """The commits of a range, newest first; with ``grep``, those with one of these texts."""
    options = [f"--grep={text}" for text in grep]
    fixed = ("-z", "--fixed-strings", "--encoding=UTF-8", f"--format={_LOG_FORMAT}")
    fields = run(project, "log", *fixed, *options, *revisions, "--").fields
    width = len(_Commit._fields)
    return [_Commit(*fields[at : at + width]) for at in range(0, len(fields), width)]


def _is_bots(commit: _Commit) -> bool:
    """Whether a commit is one that Ratchet made, and just as it made it.

    It is in the name of whoever the clone belongs to, so what it does is what tells.
    """
    former = commit.people == _BOTH_FORMER
    named = commit.made.strip() == _made(commit.onto, commit.tree, commit.subject)
    return (former or named) and bool(commit.experiments)


def _made(onto: str, tree: str, subject: str) -> str:
    """What a commit does: names its parents, its files and its first line."""
    return digest("commit", onto, tree, subject)


def _plain(experiment_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", experiment_id):
        raise ValueError(f"{experiment_id!r} is not the id of an experiment")
    return experiment_id


def _reverting(project: Project, *, since: str | None, tip: str, experiment_id: str) -> str | None:
    """The newest commit after ``since`` that says it takes the experiment out."""
    after = [f"^{since}"] if since else []
    git_says = [f"This reverts commit {since}"] if since else []
    grep = [f"{REVERT}: {_plain(experiment_id)}", *git_says]
    for commit in _log(project, tip, *after, grep=grep):
        by_hand = any(line.startswith(tuple(git_says)) for line in commit.body.split("\n"))
        if by_hand or experiment_id in commit.reverts.split("\n"):
            return commit.sha
    return None


# Moving branches


def _refuse_taken(project: Project, *, branch: str, base: str, tip: str | None) -> None:
    """Refuse to move a proposal branch that a person works on."""
    if tip is None and _tip(project, "ratchet"):
        raise RatchetError(
            f"the branch 'ratchet' is in the way of {branch}",
            hint="Rename it: 'git branch --move ratchet <another name>'.",
        )
    _refuse_checked_out(project, branch)
    commits = _log(project, tip, f"^{base}") if tip else []
    theirs = [commit for commit in commits if not _is_bots(commit)]
    if theirs:
        who = theirs[0].people.split(" <")[0]
        raise RatchetError(
            f"branch {branch} carries commits that are not Ratchet's, such as "
            f"{theirs[0].sha[:12]} by {who}; it was left as it is",
            hint=f"Merge the branch, or delete it: 'git branch -D {branch}'.",
        )


def _refuse_checked_out(project: Project, branch: str) -> None:
    for checkout in _checkouts(project, branch):
        raise RatchetError(
            f"branch {branch} is checked out in {checkout}; it was left as it is",
            hint="Switch that checkout to another branch, then run Ratchet again.",
        )


def _move(project: Project, *, branch: str, old: str | None, new: str) -> None:
    update = ("update-ref", "--no-deref", "-m", "ratchet: publish", f"refs/heads/{branch}")
    run(project, *update, new, old or "", env=_IDENTITY)


def _checkouts(project: Project, branch: str) -> list[Path]:
    """The worktrees that are on a branch, or will be after their rebase or bisect."""
    blocks = run(project, "worktree", "list", "--porcelain").text.split("\n\n")
    found = []
    for lines in (block.splitlines() for block in blocks):
        where = Path(lines[0].removeprefix("worktree "))
        away = "detached" in lines and where.exists()
        if f"branch refs/heads/{branch}" in lines or (
            away and branch in _returning_to(checkout_at(project, where))
        ):
            found.append(where)
    return found


def _returning_to(checkout: Project) -> set[str]:
    notes = [
        checkout.git_dir / name
        for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
    ]
    return {
        note.read_text(encoding="utf-8").strip().removeprefix("refs/heads/")
        for note in notes
        if note.is_file()
    }


def _advance(project: Project, *, branch: str, old: str, new: str, path: str) -> Merged | Refused:
    checkouts = _checkouts(project, branch)
    if not checkouts:
        update = ("update-ref", "--no-deref", "-m", "ratchet: Fast-forward", f"refs/heads/{branch}")
        done = run(project, *update, new, old, env=_IDENTITY, ok=range(256))
        return _outcome(project, done, branch=branch, old=old, new=new)
    try:
        (checkout,) = (checkout_at(project, where) for where in checkouts)
    except (RatchetError, ValueError):
        where = ", ".join(map(str, checkouts))
        return Refused(
            reason="checkout_blocked",
            detail=f"branch {branch} is checked out in {where}, which is not one usable worktree",
            hint="'git worktree list' shows them; 'git worktree prune' forgets one that is gone.",
        )
    refused = _busy(checkout, branch) or _unsaved(checkout, path=path, old=old, new=new)
    if refused:
        return refused
    done = run(checkout, *_FAST_FORWARD, new, env=_IDENTITY, ok=range(256))
    return _outcome(project, done, branch=branch, old=old, new=new)


def _outcome(
    project: Project, done: Output, *, branch: str, old: str, new: str
) -> Merged | Refused:
    """What happened, judged by where the branch is now and not by what git said."""
    tip = require_tip(project, branch)
    if tip == new:
        return Merged(branch=branch, commit=new)
    if tip != old:
        return _base_moved(branch, base=old, tip=tip)
    reason: Final = "locked" if ".lock" in done.error else "checkout_blocked"
    return Refused(reason=reason, detail=f"git could not move {branch}: {done.error}")


def _base_moved(branch: str, *, base: str, tip: str) -> Refused:
    return Refused(
        reason="base_moved",
        detail=f"branch {branch} has moved from {base[:12]} to {tip[:12]}",
        hint="Run again: the edit has to be measured against what is there now.",
    )


def _busy(checkout: Project, branch: str) -> Refused | None:
    """Refuse while something is under way: git would stop half-way, the checkout moved already."""
    for name, what in _UNDER_WAY.items():
        if (checkout.git_dir / name).exists():
            detail = f"a {what} is under way in {checkout.toplevel}"
            return Refused(reason="in_progress", detail=detail, hint="Finish or abort it.")
    locks = [checkout.git_dir / "index.lock", checkout.git_dir / "HEAD.lock"]
    locks.append(checkout.common_dir / f"refs/heads/{branch}.lock")
    for lock in locks:
        if lock.exists():
            return Refused(
                reason="locked",
                detail=f"another git is at work, or one was killed: {lock} exists",
                hint=f"If no git is running, delete it: 'rm {lock}'.",
            )
    return None


def _unsaved(checkout: Project, *, path: str, old: str, new: str) -> Refused | None:
    """Refuse while someone is editing the file, unless the edit is the very one to be merged.

    The latter is what a merge leaves that was killed between the file and the branch.
    """
    full = checkout.full(path)
    tag = run(checkout, "ls-files", "-v", "-z", "--", full).text[:1]
    if tag.islower() or (tag == "S" and (checkout.toplevel / full).exists()):
        return Refused(
            reason="dirty",
            detail=f"{path} in {checkout.toplevel} is marked so that git does not see edits of it",
            hint=f"git update-index --no-assume-unchanged --no-skip-worktree {full}",
        )
    if not dirty(checkout, [path]):
        return None
    if _holds(checkout, path=path, old=old, new=new):
        run(checkout, "update-index", "--", full)
        return None
    return Refused(
        reason="dirty",
        detail=f"{path} has changes in {checkout.toplevel} that are not committed",
        hint=f"Commit them, or put them away: 'git stash push -- {full}'.",
    )


def _holds(checkout: Project, *, path: str, old: str, new: str) -> bool:
    """Whether the file is as in ``new``, and the index holds nothing that is nowhere else."""
    full = checkout.full(path)
    staged = [
        line.split()[1:3] for line in run(checkout, "ls-files", "-s", "-z", "--", full).fields
    ]
    known = [[CommitTree(checkout, commit).entry(path).sha, "0"] for commit in (old, new)]
    compare = ("diff", "--quiet", "--no-ext-diff", "--no-textconv", new, "--", full)
    same = run(checkout, *compare, ok=(0, 1)).status == 0
    return same and len(staged) == 1 and staged[0] in known


# Taking back


def undone(project: Project, *, path: str, commit: str, tip: str) -> bytes | Refused | None:
    """The file at ``tip`` without what ``commit`` did to it; None when that changes nothing."""
    was, did, now = (CommitTree(project, ref).read(path) for ref in (f"{commit}^", commit, tip))
    if did == was:
        detail = f"commit {commit[:12]} does not change {path}"
        return Refused(reason="not_landed", detail=detail)
    merged = _three_way(project, ours=now, base=did, theirs=was)
    if merged is None:
        return Refused(
            reason="conflict",
            detail=f"{path} has changed since {commit[:12]} in the same place",
            hint=f"Do it by hand: 'git revert {commit}', and settle the conflict.",
        )
    return None if merged == now else merged


def _three_way(project: Project, *, ours: bytes, base: bytes, theirs: bytes) -> bytes | None:
    if ours in (base, theirs):
        return theirs
    with tempfile.TemporaryDirectory(prefix="ratchet-") as folder:
        files = [Path(folder, name) for name in ("ours", "base", "theirs")]
        for file, content in zip(files, (ours, base, theirs), strict=True):
            file.write_bytes(content)
        merged = run(project, "merge-file", "-p", "-q", *map(str, files), ok=range(256))
    return merged.raw if merged.status == 0 else None
