"""Commits that add to one file of the bot's, and how a branch of such commits is known again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import digest
from skill_ratchet.github.api import FileCommit, Unsupported
from skill_ratchet.ledger import remote, replay
from skill_ratchet.project import branches
from skill_ratchet.project.proposal import CASES, NOBODY
from skill_ratchet.project.repository import CommitTree, differences, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skill_ratchet.github.api import GitHub
    from skill_ratchet.project.proposal import Identity
    from skill_ratchet.project.repository import Difference, Project

_NEW: Final = "100644"
_LONGEST: Final = 500  # commits of a branch that are looked at


def fork(project: Project, one: str, other: str) -> str | None:
    """The last commit that two have in common; None when there is none."""
    found = run(project, "merge-base", one, other, ok=(0, 1)).text.split()
    return found[0] if found else None


def are_own(project: Project, *, since: str, head: str) -> bool:
    """Whether every commit from ``since`` to ``head`` is one addition as Ratchet makes them."""
    listed = ("rev-list", f"--max-count={_LONGEST + 1}", head, f"^{since}")
    commits = run(project, *listed).text.split()
    return len(commits) <= _LONGEST and all(_is_own(project, one) for one in commits)


def put(
    project: Project,
    github: GitHub,
    *,
    branch: str,
    head: str,
    path: str,
    content: bytes,
    subject: str,
    at: str,
) -> str:
    """One file on a branch that is at ``head``, or is made there; signed by GitHub where it can be.

    Returns:
        The commit, which is in this clone.

    Raises:
        RatchetError: The branch is elsewhere. Nothing was committed.
    """
    try:
        made = github.put_file_commit(
            FileCommit(
                branch=branch,
                parent=head,
                path=project.full(path),
                content=content,
                message=_message(project, subject, path, content),
            )
        )
        remote.fetch(project, branch)
    except Unsupported:
        tip = github.head_of(branch)
        if tip not in (None, head):
            raise
        who = github.identity()
        made = build(project, {path: content}, onto=head, subject=subject, at=at, who=who)
        remote.push(project, made, branch=branch, expect=tip)
    return made


def build(
    project: Project,
    files: Mapping[str, bytes],
    *,
    onto: str,
    subject: str,
    at: str,
    who: Identity = NOBODY,
) -> str:
    """A commit for each file, one on top of the other, and no ref; returns the last one.

    Raises:
        RatchetError: A path is a link or in a submodule, or has a twin that differs in case.
    """
    for path, content in files.items():
        onto = _commit(project, path, content, onto=onto, subject=subject, at=at, who=who)
    return onto


def _commit(
    project: Project,
    path: str,
    content: bytes,
    *,
    onto: str,
    subject: str,
    at: str,
    who: Identity,
) -> str:
    before = CommitTree(project, onto)
    mode = before.entry(path).mode if before.has(path) else _NEW
    before.refuse_twins(path)
    blob = run(project, "hash-object", "-w", "-t", "blob", "--stdin", stdin=content).text
    full = project.full(path)
    message = _message(project, subject, path, content)
    entry = {full: f"{mode} {blob}"}
    made = replay.commit(project, entry, onto=onto, message=message, at=at, who=who)
    if [one.path for one in differences(project, onto, made)] != [full]:
        raise RatchetError(f"{path} cannot be added to on top of {onto[:12]}: it is in the way.")
    return made


def _is_own(project: Project, commit: str) -> bool:
    """Whether a commit adds to one file, and its trailer names just that."""
    parent = branches.parent(project, commit)
    changed = differences(project, parent, commit) if parent else ()
    if len(changed) != 1 or not changed[0].is_plain:
        return False
    path = changed[0].path
    content = run(project, "cat-file", "blob", f"{commit}:{path}").raw
    return branches.trailer(project, commit, CASES) == _digest(path, content)


def _message(project: Project, subject: str, path: str, content: bytes) -> str:
    return f"{subject}\n\n{CASES}: {_digest(project.full(path), content)}\n"


def _digest(path: str, content: bytes) -> str:
    return digest("file", path, hashlib.sha256(content).hexdigest())


def paths(found: Iterable[Difference]) -> frozenset[str]:
    """The paths of changes."""
    return frozenset(one.path for one in found)
