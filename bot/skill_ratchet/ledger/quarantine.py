"""Looks into a git bundle before anything of it enters the repository.

Its objects are unpacked into a folder of their own that git reads beside the repository's, and
that goes away again. Nothing is checked out, no hook runs, no ref moves.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.project.repository import raw_differences, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from skill_ratchet.base.git import Output
    from skill_ratchet.project.repository import Difference, Project

ABSENT: Final = "0" * 40  # git's name for 'no object'
REGULAR: Final = "100644"

_SIGNATURE: Final = b"# v2 git bundle\n"
_MAX_HEADER: Final = 64 * 1024  # bytes
_NEEDED: Final = re.compile(r"-([0-9a-f]{40})(?: .*)?")
_OFFERED: Final = re.compile(r"([0-9a-f]{40}) (refs/[A-Za-z0-9._/-]+)")
_BATCH: Final = 64_000_000  # bytes of texts held at a time
_COMMIT: Final = ("%H", "%P", "%an <%ae>", "%cn <%ce>", "%B")


class Packed(NamedTuple):
    """A git bundle taken apart: what it needs, the refs it brings, and its objects."""

    needs: tuple[str, ...]
    refs: Mapping[str, str]
    pack: bytes
    objects: int


class Commit(NamedTuple):
    """What a commit says of itself."""

    sha: str
    parents: str
    author: str
    committer: str
    message: str


def take_apart(data: bytes) -> Packed:
    """The parts of a git bundle, version 2; its objects are not looked at.

    Raises:
        RatchetError: It is anything else, or names a ref twice.
    """
    end = data.find(b"\n\n", 0, _MAX_HEADER)
    if not data.startswith(_SIGNATURE) or end < 0:
        raise damaged("it is no git bundle of version 2")
    lines = data[len(_SIGNATURE) : end].decode("utf-8", "replace").split("\n")
    needs = [match for line in lines if (match := _NEEDED.fullmatch(line))]
    refs = [match for line in lines if (match := _OFFERED.fullmatch(line))]
    if len(needs) + len(refs) != len(lines):
        raise damaged("its header has a line that is neither a ref nor a commit it builds on")
    names = [match[2] for match in refs]
    if len(set(names)) != len(names):
        raise damaged("it names a ref twice")
    pack = data[end + 2 :]
    if pack[:8] != b"PACK\0\0\0\2" or len(pack) < 12 + 20:  # a header and a checksum
        raise damaged("it holds no pack of version 2")
    brought = {match[2]: match[1] for match in refs}
    return Packed(
        tuple(match[1] for match in needs), brought, pack, int.from_bytes(pack[8:12], "big")
    )


def damaged(why: str) -> RatchetError:
    """The error for a bundle that git cannot have written, or that was cut off."""
    return RatchetError(
        f"The bundle's refs.bundle cannot be used: {why}.",
        hint="Was it cut off on its way? Make it again.",
    )


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The repository with the objects of a bundle beside it, for reading."""

    project: Project
    env: Mapping[str, str]

    def commits(self, new: str, *, onto: str | None, most: int) -> list[Commit]:
        """What ``new`` has on top of ``onto``, oldest first.

        Raises:
            RatchetError: More than ``most``, or an object is missing.
        """
        shown = "%x00".join(_COMMIT)
        options = ("-z", "--reverse", "--topo-order", "--encoding=UTF-8", f"--max-count={most + 1}")
        fields = self._run("log", *options, f"--format={shown}", *_range(new, onto), "--").fields
        width = len(_COMMIT)
        if len(fields) % width:
            raise damaged("a commit cannot be read")
        if len(fields) > most * width:
            raise RatchetError(f"The bundle has more than {most:,} commits of one branch.")
        return [Commit(*fields[at : at + width]) for at in range(0, len(fields), width)]

    def has(self, older: str, *, newer: str) -> bool:
        """Whether ``older`` is ``newer`` or an ancestor of it; no when either is not there."""
        asked = ("merge-base", "--is-ancestor", older, newer)
        return self._run(*asked, ok=(0, 1, 128)).status == 0

    def fork(self, one: str, other: str) -> str | None:
        """The last commit that both go back to; None when they have nothing in common."""
        return self._run("merge-base", one, other, ok=(0, 1)).text or None

    def changed(self, old: str | None, new: str) -> list[str]:
        """Every path at which two commits differ; all of ``new`` when there is no ``old``."""
        if old is None:
            return list(self.files(new))
        return self._run("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new).fields

    def commits_in(self, folder: str, new: str, *, since: str | None) -> list[str]:
        """The commits of ``new`` after ``since`` that changed something in a folder."""
        return self._run("rev-list", *_range(new, since), "--", folder).text.split()

    def trees(self, commits: Sequence[str], folder: str) -> list[str | None]:
        """What each commit has in a folder, by name; None where it has no such folder."""
        stdin = "".join(f"{commit}:{folder}\n" for commit in commits).encode()
        asked = ("cat-file", "--batch-check=%(objectname) %(objecttype)")
        answers = [line.split() for line in self._run(*asked, stdin=stdin).text.splitlines()]
        return [sha if kind == "tree" else None for sha, kind in answers]

    def changes(self, commits: Sequence[Commit]) -> tuple[Difference, ...]:
        """Every change that each of ``commits`` makes to its parent, in no order."""
        options = ("--stdin", "--root", "-r", "-z", "--raw", "--no-renames", "--no-commit-id")
        asked = "".join(f"{commit.sha}\n" for commit in commits)
        return raw_differences(self._run("diff-tree", *options, stdin=asked.encode()).fields)

    def files(self, commit: str | None) -> dict[str, str]:
        """The content's name of every file of a commit, by path; none when there is no commit."""
        if commit is None:
            return {}
        listed = self._run("ls-tree", "-r", "-z", "--full-tree", commit).fields
        entries = (line.partition("\t") for line in listed)
        return {path: about.split()[2] for about, _, path in entries}

    def sizes(self, shas: Iterable[str]) -> dict[str, int]:
        """Bytes of each blob.

        Raises:
            RatchetError: One is missing, or is no blob.
        """
        asked = list(dict.fromkeys(shas))
        if not asked:
            return {}
        stdin = "".join(f"{sha}\n" for sha in asked).encode()
        lines = self._run("cat-file", "--batch-check", stdin=stdin).text.split("\n")
        answers = [line.split() for line in lines]
        if any(len(answer) != 3 or answer[1] != "blob" for answer in answers):  # noqa: PLR2004
            raise damaged("a file of it is missing")
        return {sha: int(size) for sha, _, size in answers}

    def contents(self, sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """The content of each blob of ``sizes``, some at a time."""
        batch: list[str] = []
        room = _BATCH
        for sha, size in sizes.items():
            if batch and size > room:
                yield from self._read(batch, sizes)
                batch, room = [], _BATCH
            batch.append(sha)
            room -= size
        if batch:
            yield from self._read(batch, sizes)

    def _read(self, shas: Sequence[str], sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        out = self._run("cat-file", "--batch", stdin="".join(f"{sha}\n" for sha in shas).encode())
        at = 0
        for sha in shas:
            start = out.raw.index(b"\n", at) + 1
            at = start + sizes[sha] + 1
            yield sha, out.raw[start : at - 1]

    def _run(self, *args: str, stdin: bytes | None = None, ok: Iterable[int] = (0,)) -> Output:
        done = run(self.project, *args, stdin=stdin, env=self.env, ok=range(256))
        if done.status not in tuple(ok):
            raise damaged(done.error.strip() or f"git {args[0]} ended with {done.status}")
        return done


@contextmanager
def unpacked(project: Project, pack: bytes | None, *, object_size: int) -> Iterator[Quarantine]:
    """The repository and, apart from it, the objects of ``pack``, each checked by git.

    Args:
        project: What the pack builds on.
        pack: As a bundle has it; None when it brings nothing.
        object_size: The most bytes an object may be unpacked to, as a bomb would be.
    """
    with tempfile.TemporaryDirectory(prefix="ratchet-bundle-") as folder:
        objects = Path(folder, "objects")
        objects.mkdir()
        env = {
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(project.common_dir / "objects"),
            # The one limit git has on what it inflates: a single allocation.
            "GIT_ALLOC_LIMIT": str(object_size),
        }
        if pack is not None:
            unpack(project, pack, env=env)
        yield Quarantine(project, env)


def unpack(project: Project, pack: bytes, *, env: Mapping[str, str] | None = None) -> None:
    """Have git check a pack, object by object, and keep it; without ``env`` in the repository."""
    command = ("index-pack", "--stdin", "--fix-thin", "--strict", "--threads=1")
    done = run(project, *command, stdin=pack, env=env, ok=range(256))
    if done.status:
        raise damaged(done.error.strip())


def _range(new: str, onto: str | None) -> list[str]:
    return [new, f"^{onto}"] if onto else [new]


def _quoted(path: Path) -> str:
    """A path as git reads it in a list that is separated by colons."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
