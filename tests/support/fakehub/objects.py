"""A bare repository's refs and objects without a process for each look at one.

Refs are read from git's files. Objects come through one ``git cat-file`` that stays; they are
written as git's own loose files, and refs are moved by one ``git update-ref`` that stays.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import weakref
import zlib
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TREE: Final = "40000"


class Found(NamedTuple):
    """An object by one of its names."""

    sha: str
    kind: str
    size: int


class Line(NamedTuple):
    """One line of a tree object."""

    mode: str
    sha: str

    @property
    def kind(self) -> str:
        """What it points to."""
        return {TREE: "tree", "160000": "commit"}.get(self.mode, "blob")


class Lasting:
    """A git process that answers line by line, is started when needed and ends with its owner."""

    def __init__(self, path: Path, *args: str) -> None:
        self._command = ["git", f"--git-dir={path}", *args]
        self._running: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[[subprocess.Popen[bytes]], Lasting] | None = None

    def ask(self, question: str) -> bytes:
        """The first line of the answer to a line; nothing when the process has given up."""
        process = self._process()
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError):
            process.stdin.write(question.encode("utf-8", "surrogateescape") + b"\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            self.close()
        return line.removesuffix(b"\n")

    def rest(self, size: int) -> bytes:
        """The content that follows, without its line end."""
        process = self._process()
        assert process.stdout
        return process.stdout.read(size + 1)[:-1]

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._finalizer:
            self._finalizer()
        self._running = self._finalizer = None

    def _process(self) -> subprocess.Popen[bytes]:
        if self._running is None:
            pipe = subprocess.PIPE
            self._running = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
            )
            self._finalizer = weakref.finalize(self, _end, self._running)
        return self._running


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with suppress(BrokenPipeError):
        process.communicate()


class Files:
    """The refs and objects of one bare repository, for several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._objects = Lasting(path, "cat-file", "--batch-command")
        self._moves = Lasting(path, "update-ref", "--stdin", "--no-deref")
        self._known: dict[str, Found] = {}
        self._trees: dict[str, dict[str, Line]] = {}

    def close(self) -> None:
        """End what runs; a later question starts it again."""
        with self._lock:
            self._objects.close()
            self._moves.close()

    # Refs

    @property
    def head(self) -> str:
        """The branch that HEAD names."""
        return (self.path / "HEAD").read_text().strip().removeprefix("ref: refs/heads/")

    def refs(self, *prefixes: str) -> dict[str, str]:
        """All refs under any of ``prefixes``, in order, and what they point to."""
        # Loose ones first, as git reads them: packing writes the one file before it removes these.
        loose = {name: sha for each in prefixes for name, sha in self._loose(each)}
        packed = {
            name: sha
            for name, sha in self._packed()
            if any(name == each or name.startswith(f"{each}/") for each in prefixes)
        }
        return dict(sorted((packed | loose).items()))

    def _loose(self, prefix: str) -> Iterator[tuple[str, str]]:
        top = f"{self.path}/{prefix}"
        one = [("", (), (top,))] if not os.path.isdir(top) else ()  # noqa: PTH112 - many times
        for at, _, names in one or os.walk(top):
            for name in names:
                file = f"{at}/{name}" if at else name
                with suppress(OSError), open(file) as lines:  # noqa: PTH123
                    text = lines.read().strip()
                    if len(text) == 40 and not name.endswith(".lock"):
                        yield file[len(str(self.path)) + 1 :], text

    def _packed(self) -> list[tuple[str, str]]:
        try:
            lines = (self.path / "packed-refs").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(line[41:], line[:40]) for line in lines if line[0] not in "#^"]

    def move(self, ref: str, new: str, old: str | None) -> None:
        """Point a ref to ``new`` if it is at ``old`` (None: anywhere); zeros stand for no ref."""
        with self._lock:
            self._moves.ask("start")
            self._moves.ask(f"update {ref} {new}{f' {old}' if old else ''}\ncommit")

    # Objects

    def find(self, name: str) -> Found | None:
        """The object of a name, of whatever form git takes."""
        if not name or "\n" in name or "\0" in name:
            return None
        with self._lock:
            if name not in self._known:
                found = _header(self._objects.ask(f"info {name}"))
                if found is None or found.sha != name:
                    return found
                self._known[name] = found
            return self._known[name]

    def read(self, sha: str) -> bytes:
        """An object's content."""
        with self._lock:
            found = _header(self._objects.ask(f"contents {sha}"))
            if found is None:
                raise RuntimeError(f"{self.path} has no object {sha}")
            return self._objects.rest(found.size)

    def tree(self, sha: str) -> dict[str, Line]:
        """The lines of a tree, by name."""
        if sha not in self._trees:
            self._trees[sha] = dict(_lines(self.read(sha)))
        return self._trees[sha]

    def write(self, kind: str, content: bytes) -> str:
        """Add an object, as git writes it; returns its name."""
        whole = f"{kind} {len(content)}\0".encode() + content
        sha = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        file = self.path / "objects" / sha[:2] / sha[2:]
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            made = file.with_name(f"tmp_obj_{threading.get_ident()}")
            made.write_bytes(zlib.compress(whole, 1))
            made.chmod(0o444)
            made.replace(file)
        return sha

    def write_tree(self, lines: Mapping[str, Line]) -> str:
        """Add a tree."""
        # Git sorts folders as if their names ended in a slash.
        ordered = sorted(
            lines, key=lambda name: os.fsencode(name + "/" * (lines[name].kind == "tree"))
        )
        parts = [
            f"{lines[name].mode} ".encode()
            + os.fsencode(name)
            + b"\0"
            + bytes.fromhex(lines[name].sha)
            for name in ordered
        ]
        return self.write("tree", b"".join(parts))

    def changed(
        self, lines: Mapping[str, Line], put: Mapping[str, bytes | None]
    ) -> dict[str, Line]:
        """A tree's lines with files written (a regular file keeps its mode) or removed."""
        new, below = dict(lines), defaultdict[str, dict[str, bytes | None]](dict)
        for path, content in put.items():
            name, _, inside = path.partition("/")
            old = lines.get(name)
            if inside:
                below[name][inside] = content
            elif content is not None:
                mode = old.mode if old and old.mode.startswith("100") else "100644"
                new[name] = Line(mode, self.write("blob", content))
            elif old and old.kind != "tree":
                del new[name]
        for name, inner in below.items():
            old = lines.get(name)
            folder = self.tree(old.sha) if old and old.kind == "tree" else {}
            left = self.changed(folder, inner)
            if left:
                new[name] = Line(TREE, self.write_tree(left))
            elif folder:
                del new[name]
        return new


def _header(line: bytes) -> Found | None:
    """What ``cat-file`` says of an object before its content."""
    match line.decode("utf-8", "surrogateescape").split(" "):
        case [sha, "blob" | "tree" | "commit" | "tag" as kind, size]:
            return Found(sha, kind, int(size))
    return None


def _lines(tree: bytes) -> Iterator[tuple[str, Line]]:
    at = 0
    while at < len(tree):
        end = tree.index(b"\0", at)
        mode, name = tree[at:end].split(b" ", 1)
        at = end + 21
        yield os.fsdecode(name), Line(mode.decode(), tree[end + 1 : at].hex())
