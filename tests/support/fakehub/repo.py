"""Git's part of the fake: all about commits is asked of, and done in, the bare repository."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FORMAT: Final = "%H%x00%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B%x01"
_STATUS: Final = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "T": "changed"}
NULL: Final = "0" * 40


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
        self._known: dict[tuple[str, ...], str] = {}

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        codes: Sequence[int] = (0,),
    ) -> bytes:
        """What git printed; a code that is not expected is the fake's own fault."""
        done = subprocess.run(
            ["git", f"--git-dir={self.path}", *args],
            input=stdin,
            env=os.environ | (env or {}),
            check=False,
            capture_output=True,
        )
        if done.returncode not in codes:
            raise RuntimeError(f"git {' '.join(args)}: {done.stderr.decode()}")
        return done.stdout

    def text(self, *args: str, codes: Sequence[int] = (0,)) -> str:
        """What git printed, without the last line end."""
        return self.run(*args, codes=codes).decode(errors="replace").removesuffix("\n")

    def fixed(self, *args: str, codes: Sequence[int] = (0,)) -> str:
        """What git prints for ever, because all that ``args`` name are objects; asked once."""
        if args not in self._known:
            self._known[args] = self.text(*args, codes=codes)
        return self._known[args]

    def refs(self, *prefixes: str) -> dict[str, str]:
        """All refs under any of ``prefixes`` and what they point to."""
        lines = self.text("for-each-ref", "--format=%(refname) %(objectname)", *prefixes)
        return dict(line.split(" ") for line in lines.splitlines())

    def resolve(self, rev: str) -> str | None:
        """The commit that a branch, tag, ref or name of a commit stands for."""
        if not rev or rev.startswith("-") or ":" in rev or "\0" in rev:
            return None
        for name in (f"refs/heads/{rev}", f"refs/tags/{rev}", rev):
            quiet = ("rev-parse", "--quiet", "--verify", "--end-of-options")
            sha = self.text(*quiet, f"{name}^{{commit}}", codes=(0, 1, 128))
            if sha:
                return sha
        return None

    def commit(self, sha: str) -> Commit:
        """One commit."""
        return _commit(
            self.fixed("show", "--no-patch", f"--format={_FORMAT}", sha).rstrip("\x01\n")
        )

    def log(self, *args: str) -> list[Commit]:
        """Commits as ``git log`` lists them: newest first."""
        text = self.run("log", f"--format={_FORMAT}", *args).decode(errors="replace")
        return [_commit(each.lstrip("\n")) for each in text.split("\x01") if each.strip()]

    def count(self, span: str) -> int:
        """How many commits are in ``a..b``."""
        return int(self.fixed("rev-list", "--count", span))

    def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor."""
        return self.fixed("merge-base", one, other, codes=(0, 1)).split("\n")[0] or None

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``new`` contains ``old``."""
        return self.merge_base(old, new) == old

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
        where = f"{tree}:{path}" if path else tree
        shown = ("ls-tree", "-z", "-l", *(("-r", "-t") if deep else ()), where)
        lines = self.text(*shown).split("\0")
        return [_entry(line, path) for line in lines if line]

    def entry(self, rev: str, path: str) -> Entry | None:
        """One path of a commit, whatever is there."""
        shown = self.text("ls-tree", "-z", "-l", "--full-tree", rev, "--", f":(literal){path}")
        line = shown.split("\0")[0]
        return _entry(line, "") if line else None

    def blob(self, sha: str) -> bytes:
        """A file's bytes."""
        return self.run("cat-file", "blob", sha)

    def kind(self, sha: str) -> str | None:
        """``commit``, ``tree``, ``blob`` or ``tag``, or None where there is no such object."""
        return self.text("cat-file", "-t", sha, codes=(0, 128)) or None

    def merge_tree(self, ours: str, theirs: str) -> str | None:
        """The tree of a merge, or None where they conflict."""
        shown = self.fixed(
            "merge-tree", "--write-tree", "--no-messages", ours, theirs, codes=(0, 1)
        )
        lines = shown.split("\n")
        return lines[0] if len(lines) == 1 else None

    def tree_with(self, rev: str, put: Mapping[str, bytes | None]) -> str:
        """``rev``'s tree with these files written (a regular file keeps its mode) or removed."""
        lines = []
        for path, content in put.items():
            if content is None:
                lines.append(f"0 {NULL}\t{path}\0")
                continue
            entry = self.entry(rev, path)
            mode = entry.mode if entry and entry.mode.startswith("100") else "100644"
            blob = self.run("hash-object", "-w", "--stdin", stdin=content).decode().strip()
            lines.append(f"{mode} {blob}\t{path}\0")
        with tempfile.TemporaryDirectory() as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
            self.run("read-tree", rev, env=env)
            self.run("update-index", "-z", "--index-info", stdin="".join(lines).encode(), env=env)
            return self.run("write-tree", env=env).decode().strip()

    def make_commit(
        self, tree: str, parents: Sequence[str], message: str, *, author: Person, committer: Person
    ) -> str:
        """A commit, and no ref."""
        env = {
            "GIT_AUTHOR_NAME": author.name,
            "GIT_AUTHOR_EMAIL": author.email,
            "GIT_AUTHOR_DATE": author.date,
            "GIT_COMMITTER_NAME": committer.name,
            "GIT_COMMITTER_EMAIL": committer.email,
            "GIT_COMMITTER_DATE": committer.date,
        }
        args = [arg for parent in parents for arg in ("-p", parent)]
        make = ("commit-tree", "--no-gpg-sign", *args, tree)
        return self.run(*make, stdin=message.encode(), env=env).decode().strip()

    def replayed(self, commit: str, onto: str, *, committer: Person) -> str | None:
        """``commit`` as a child of ``onto``, or None where that conflicts."""
        said = self.commit(commit)
        # A stand-in for ``onto`` whose parent is the commit's own: so that is the merge base.
        stand_in = self.make_commit(
            f"{onto}^{{tree}}", said.parents[:1], "", author=said.author, committer=committer
        )
        tree = self.merge_tree(stand_in, commit)
        if tree is None:
            return None
        return self.make_commit(tree, [onto], said.message, author=said.author, committer=committer)

    def move(self, ref: str, new: str | None, old: str | None = None) -> bool:
        """Point ``ref`` to ``new`` (None deletes it) if it is still at ``old``."""
        if new is None:
            args = ["-d", ref, *([old] if old else [])]
        else:
            args = [ref, new, *([old] if old else [])]
        self.run("update-ref", "--no-deref", *args, codes=(0, 1, 128))
        return self.refs(ref).get(ref) == new

    def valid_ref(self, ref: str) -> bool:
        """Whether git could have such a ref."""
        return bool(self.text("check-ref-format", "--normalize", ref, codes=(0, 1)))


def _commit(text: str) -> Commit:
    sha, tree, parents, name, email, date, by, by_email, by_date, message = text.split("\0", 9)
    return Commit(
        sha=sha,
        tree=tree,
        parents=tuple(parents.split()),
        author=Person(name=name, email=email, date=date),
        committer=Person(name=by, email=by_email, date=by_date),
        message=message.rstrip("\n"),
    )


def _entry(line: str, folder: str) -> Entry:
    about, name = line.split("\t", 1)
    mode, kind, sha, size = about.split()
    return Entry(
        mode=mode,
        kind=kind,
        sha=sha,
        size=None if size == "-" else int(size),
        path=f"{folder}/{name}" if folder else name,
    )
