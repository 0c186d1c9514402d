"""Git's part of the fake: all about commits is asked of, and done in, the bare repository."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import TYPE_CHECKING, Final

from fakehub.objects import Files, Line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_PERSON: Final = re.compile(r"(.*) <(.*)> (\d+) ([+-])(\d\d)(\d\d)")
_STATUS: Final = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "T": "changed"}
NULL: Final = "0" * 40
NONE: Final[dict[str, str]] = {}


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who made a commit, and when."""

    name: str
    email: str
    date: str


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What a commit says."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    message: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One file of a diff; ``patch`` is None for binary files."""

    status: str
    path: str
    previous: str | None
    blob: str
    additions: int
    deletions: int
    patch: str | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a tree."""

    mode: str
    kind: str
    sha: str
    size: int | None
    path: str


class Bare:
    """A bare repository. Methods that take a ``rev`` want a commit, unless they say otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = Files(path)
        self._said: dict[tuple[object, ...], str] = {}
        self._commits: dict[str, Commit] = {}

    def run(self, *args: str, codes: Sequence[int] = (0,)) -> bytes:
        """What git printed; a code that is not expected is the fake's own fault."""
        command = ["git", f"--git-dir={self.path}", *args]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode not in codes:
            raise RuntimeError(f"git {' '.join(args)}: {done.stderr.decode()}")
        return done.stdout

    def fixed(self, *args: str, codes: Sequence[int] = (0,), refs: Mapping[str, str] = NONE) -> str:
        """What git prints for ever, as ``args`` name objects, or ``refs``, which say where; once.

        Without the last line end.
        """
        key = (args, tuple(refs.items()))
        if key not in self._said:
            text = self.run(*args, codes=codes).decode(errors="replace")
            self._said[key] = text.removesuffix("\n")
        return self._said[key]

    @property
    def head(self) -> str:
        """The default branch."""
        return self.files.head

    def refs(self, *prefixes: str) -> dict[str, str]:
        """All refs under any of ``prefixes`` and what they point to."""
        return self.files.refs(*prefixes)

    def resolve(self, rev: str) -> str | None:
        """The commit that a branch, tag, ref or name of a commit stands for."""
        if not rev or rev.startswith("-") or ":" in rev:
            return None
        for name in (f"refs/heads/{rev}", f"refs/tags/{rev}", rev):
            if found := self.files.find(f"{name}^{{commit}}"):
                return found.sha
        return None

    def commit(self, sha: str) -> Commit:
        """One commit."""
        if sha not in self._commits:
            self._commits[sha] = _commit(sha, self.files.read(sha).decode(errors="replace"))
        return self._commits[sha]

    def log(self, *args: str) -> list[Commit]:
        """Commits as ``git log`` lists them, newest first; ``args`` name objects only."""
        return [self.commit(sha) for sha in self.fixed("log", "--format=%H", *args).split()]

    def count(self, span: str) -> int:
        """How many commits are in ``a..b``."""
        old, new = span.split("..")
        return len(self._history(new) - self._history(old))

    def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor."""
        for old, new in ((one, other), (other, one)):
            if self.is_ancestor(old, new):
                return old
        return self.fixed("merge-base", one, other, codes=(0, 1)).split("\n")[0] or None

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``new`` contains ``old``."""
        return old == new or old in self._history(new)

    def _history(self, sha: str) -> set[str]:
        """A commit and all before it."""
        seen, left = set[str](), [sha]
        while left:
            if (at := left.pop()) not in seen:
                seen.add(at)
                left += self.commit(at).parents
        return seen

    def changes(self, old: str, new: str) -> list[Change]:
        """The diff of two commits or trees, renames found."""
        raw = self.fixed("diff-tree", "-r", "-M", "--raw", "-z", "--no-abbrev", old, new)
        fields = raw.removesuffix("\0").split("\0") if raw else []
        found = []
        while fields:
            _, _, _, blob, kind = fields.pop(0).split(" ")
            first = fields.pop(0)
            path = fields.pop(0) if kind[0] in "RC" else first
            previous = first if path != first else None
            patch = self._patch(old, new, [each for each in (previous, path) if each])
            lines = (patch or "").split("\n")
            change = Change(
                status=_STATUS[kind[0]],
                path=path,
                previous=previous,
                blob=blob,
                additions=sum(line.startswith("+") for line in lines),
                deletions=sum(line.startswith("-") for line in lines),
                patch=patch,
            )
            found.append(change)
        return found

    def _patch(self, old: str, new: str, paths: Sequence[str]) -> str | None:
        """The hunks of one file; None where there are none, as for a binary file."""
        names = [f":(literal){each}" for each in paths]
        diff = self.fixed("diff-tree", "-r", "-M", "-p", old, new, "--", *names)
        at = diff.find("\n@@ ")
        return diff[at + 1 :] if at >= 0 else None

    def entries(self, tree: str, path: str = "", *, deep: bool = False) -> list[Entry]:
        """The lines of a folder in a commit or tree."""
        found = self.files.find(f"{tree}:{path}" if path else f"{tree}^{{tree}}")
        return list(self._entries(found.sha, path, deep=deep)) if found else []

    def _entries(self, tree: str, folder: str, *, deep: bool) -> Iterator[Entry]:
        for name, line in self.files.tree(tree).items():
            path = f"{folder}/{name}" if folder else name
            yield self._entry(line, path)
            if deep and line.kind == "tree":
                yield from self._entries(line.sha, path, deep=True)

    def entry(self, rev: str, path: str) -> Entry | None:
        """One path of a commit, whatever is there."""
        top = self.files.find(f"{rev}^{{tree}}")
        line = Line("40000", top.sha) if top else None
        for name in path.split("/"):
            line = self.files.tree(line.sha).get(name) if line and line.kind == "tree" else None
        return self._entry(line, path) if line else None

    def _entry(self, line: Line, path: str) -> Entry:
        found = self.files.find(line.sha) if line.kind == "blob" else None
        size = found.size if found else None
        return Entry(mode=line.mode.zfill(6), kind=line.kind, sha=line.sha, size=size, path=path)

    def blob(self, sha: str) -> bytes:
        """A file's bytes."""
        return self.files.read(sha)

    def kind(self, sha: str) -> str | None:
        """``commit``, ``tree``, ``blob`` or ``tag``, or None where there is no such object."""
        found = self.files.find(sha)
        return found.kind if found else None

    def tree(self, rev: str) -> str:
        """The tree of a commit or tree."""
        found = self.files.find(f"{rev}^{{tree}}")
        assert found, rev
        return found.sha

    def merge_tree(self, ours: str, theirs: str) -> str | None:
        """The tree of a merge, or None where they conflict."""
        for old, new in ((ours, theirs), (theirs, ours)):
            if self.is_ancestor(old, new):
                return self.commit(new).tree
        shown = self.fixed(
            "merge-tree", "--write-tree", "--no-messages", ours, theirs, codes=(0, 1)
        )
        lines = shown.split("\n")
        return lines[0] if len(lines) == 1 else None

    def tree_with(self, rev: str, put: Mapping[str, bytes | None]) -> str:
        """``rev``'s tree with these files written (a regular file keeps its mode) or removed."""
        return self.files.write_tree(self.files.changed(self.files.tree(self.tree(rev)), put))

    def make_commit(
        self, tree: str, parents: Sequence[str], message: str, *, author: Person, committer: Person
    ) -> str:
        """A commit, and no ref."""
        lines = [
            f"tree {tree}",
            *(f"parent {each}" for each in parents),
            f"author {_signed(author)}",
            f"committer {_signed(committer)}",
            "",
            message,
        ]
        return self.files.write("commit", "\n".join(lines).encode())

    def replayed(self, commit: str, onto: str, *, committer: Person) -> str | None:
        """``commit`` as a child of ``onto``, or None where that conflicts."""
        said = self.commit(commit)
        # A stand-in for ``onto`` whose parent is the commit's own: so that is the merge base.
        stand_in = self.make_commit(
            self.tree(onto), said.parents[:1], "", author=said.author, committer=committer
        )
        tree = self.merge_tree(stand_in, commit)
        if tree is None:
            return None
        return self.make_commit(tree, [onto], said.message, author=said.author, committer=committer)

    def move(self, ref: str, new: str | None, old: str | None = None) -> bool:
        """Point ``ref`` to ``new`` (None deletes it) if it is still at ``old``."""
        self.files.move(ref, new or NULL, old)
        return self.refs(ref).get(ref) == new

    def valid_ref(self, ref: str) -> bool:
        """Whether git could have such a ref."""
        return _valid(ref)


@cache
def _valid(ref: str) -> bool:
    command = ["git", "check-ref-format", "--normalize", ref]
    return not subprocess.run(command, check=False, capture_output=True).returncode


def _commit(sha: str, text: str) -> Commit:
    head, _, message = text.partition("\n\n")
    said = [line.partition(" ") for line in head.split("\n")]
    one = {name: value for name, _, value in said}
    return Commit(
        sha=sha,
        tree=one["tree"],
        parents=tuple(value for name, _, value in said if name == "parent"),
        author=_person(one["author"]),
        committer=_person(one["committer"]),
        message=message.rstrip("\n"),
    )


def _person(line: str) -> Person:
    found = _PERSON.fullmatch(line)
    assert found, line
    name, email, seconds, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    date = datetime.fromtimestamp(int(seconds), timezone(offset)).isoformat()
    return Person(name=name, email=email, date=date)


def _signed(person: Person) -> str:
    """A person, and when, as a commit has them."""
    date = datetime.fromisoformat(person.date)
    return f"{person.name} <{person.email}> {int(date.timestamp())} {date:%z}"
