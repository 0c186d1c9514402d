"""Commits that add to one file of the bot's, and how a branch of such commits is known again."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bot import remote
from bot.core.records import digest
from bot.errors import RatchetError
from bot.forge import CASES, IDENTITY, plain
from bot.forge.github import Unsupported
from bot.skillrepo import REGULAR_MODES, CommitTree, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bot.forge.github import GitHub
    from bot.skillrepo import Project

_NEW: Final = "100644"
_NOTHING: Final = "000000"
_LONGEST: Final = 500  # commits of a branch that are looked at


class Change(NamedTuple):
    """What became of one path, from the top of the repository: its modes, and how (A, M, D, T)."""

    path: str
    old: str
    new: str
    how: str

    @property
    def is_plain(self) -> bool:
        """Whether a regular file was added, or its content changed and nothing else."""
        if self.how == "A":
            return self.old == _NOTHING and self.new == _NEW
        return self.how == "M" and self.old == self.new and self.old in REGULAR_MODES


def changes(project: Project, old: str, new: str) -> tuple[Change, ...]:
    """What differs between two commits."""
    options = ("-r", "-z", "--no-renames", "--ignore-submodules=none")
    fields = run(project, "diff-tree", *options, old, new).fields
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return tuple(_change(info, path) for info, path in pairs)


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
    message = f"{subject}\n\n{CASES}: {_name(project, path, content)}\n"
    try:
        made = github.put_file_commit(
            branch,
            expected_head=head,
            path=project.full(path),
            content=content,
            message=message,
        )
        remote.fetch(project, branch)
    except Unsupported:
        tip = github.head_of(branch)
        if tip not in (None, head):
            raise
        made = build(project, {path: content}, onto=head, subject=subject, at=at)
        remote.push(project, made, branch=branch, expect=tip)
    return made


def build(project: Project, files: Mapping[str, bytes], *, onto: str, subject: str, at: str) -> str:
    """A commit for each file, one on top of the other, and no ref; returns the last one.

    Raises:
        RatchetError: A path is a link or in a submodule, or has a twin that differs in case.
    """
    for path, content in files.items():
        onto = _commit(project, path, content, onto=onto, subject=subject, at=at)
    return onto


def _commit(
    project: Project, path: str, content: bytes, *, onto: str, subject: str, at: str
) -> str:
    before = CommitTree(project, onto)
    mode = before.entry(path).mode if before.has(path) else _NEW
    before.refuse_twins(path)
    blob = run(project, "hash-object", "-w", "-t", "blob", "--stdin", stdin=content).text
    entry = f"{mode} {blob} 0\t{project.full(path)}\0"
    with tempfile.TemporaryDirectory(prefix="ratchet-index-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        run(project, "read-tree", onto, env=index)
        run(project, "update-index", "-z", "--index-info", stdin=entry.encode(), env=index)
        tree = run(project, "write-tree", env=index).text
    who = IDENTITY | {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}
    body = f"{subject}\n\n{CASES}: {_name(project, path, content)}\n"
    make = ("commit-tree", "--no-gpg-sign", "-p", onto, "-F", "-", tree)
    made = run(project, *make, stdin=body.encode(), env=who).text
    if [one.path for one in changes(project, onto, made)] != [project.full(path)]:
        raise RatchetError(f"{path} cannot be added to on top of {onto[:12]}: it is in the way.")
    return made


def _is_own(project: Project, commit: str) -> bool:
    """Whether a commit adds to one file, and its trailer names just that."""
    parent = plain.parent(project, commit)
    changed = changes(project, parent, commit) if parent else ()
    if len(changed) != 1 or not changed[0].is_plain:
        return False
    path = changed[0].path
    content = run(project, "cat-file", "blob", f"{commit}:{path}").raw
    return plain.trailer(project, commit, CASES) == _digest(path, content)


def _change(info: str, path: str) -> Change:
    old, new, _, _, how = info.removeprefix(":").split()
    return Change(path, old, new, how[:1])


def _name(project: Project, path: str, content: bytes) -> str:
    return _digest(project.full(path), content)


def _digest(path: str, content: bytes) -> str:
    return digest("file", path, hashlib.sha256(content).hexdigest())


def paths(found: Iterable[Change]) -> frozenset[str]:
    """The paths of changes."""
    return frozenset(one.path for one in found)
