"""Runs git: one command, or a process that answers for every object of a repository.

As processes of our own and not through GitPython, whose import takes as long as a dozen of them:
every command of Ratchet's begins here. GitPython's objects are for what begins rarely (``init``).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from skill_ratchet.base.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OLDEST_GIT: Final = (2, 30)

# Messages are looked at, so they are to be English.
_LANGUAGE: Final = {"LANGUAGE": "C", "LC_ALL": "C"}
# What a hook or a script has set says where another repository is.
_ELSEWHERE: Final = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
)
# With other values of these, git may give another answer to the same question.
_TELLING: Final = (
    *("PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"),
    *("GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS", "GIT_NO_LAZY_FETCH"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CEILING_DIRECTORIES"),
    *("GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_TEST_ASSUME_DIFFERENT_OWNER"),
)
_READING: Final = {
    "GIT_NO_REPLACE_OBJECTS": "1",  # a ref may not change what a name stands for
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_WORK_TREE": None,
    "GIT_COMMON_DIR": None,
    "GIT_INDEX_FILE": None,
}
TREE: Final = "040000"  # the mode of a folder


@dataclass(frozen=True, slots=True)
class Output:
    """What a git command said, and its exit status."""

    status: int
    raw: bytes
    error: str

    @property
    def text(self) -> str:
        """Standard output without its last line end."""
        return os.fsdecode(self.raw).removesuffix("\n")

    @property
    def fields(self) -> list[str]:
        """Standard output of a ``-z`` command, cut at the NULs."""
        return os.fsdecode(self.raw).split("\0")[:-1]


@dataclass(frozen=True, slots=True)
class Place:
    """A repository: ``git_dir`` is of this checkout, ``common_dir`` of all linked worktrees.

    ``toplevel`` is None where there is no checkout: in a bare one, or inside its git folder.
    """

    git_dir: Path
    common_dir: Path
    toplevel: Path | None


def execute(
    where: Path,
    args: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str | None] | None = None,
) -> Output:
    """Run ``git`` with ``args`` in the folder ``where``; any exit status is an answer.

    Args:
        where: The folder to run it in.
        args: Options of git's own, the command, and its arguments.
        stdin: What the command reads.
        env: Variables on top of the process's; None takes one away.

    Raises:
        RatchetError: There is no git, or no such folder.
    """
    changed = {**os.environ, **_LANGUAGE, **(env or {})}
    # A file and not a pipe: if we die, git still reads a whole stream or none.
    with tempfile.TemporaryFile() as source:
        source.write(stdin)
        source.seek(0)
        try:
            done = subprocess.run(
                ["git", *args],
                cwd=where,
                stdin=source,
                capture_output=True,
                check=False,
                env={name: value for name, value in changed.items() if value is not None},
            )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            if not where.is_dir():
                raise RatchetError(f"there is no folder {where}") from error
            raise no_git() from error
    return Output(done.returncode, done.stdout, os.fsdecode(done.stderr).removesuffix("\n"))


def locate(start: Path) -> Place:
    """The repository that the folder ``start`` lies in; git is asked once for each folder.

    Raises:
        RatchetError: There is no git, no such folder or no repository, or git will not use it.
    """
    asked = (start, _around())
    known = _PLACES.get(asked)
    if known is None or known.toplevel is None or known.toplevel != _nearest(start):
        known = _PLACES[asked] = _locate(start)
    return known


_PLACES: Final[dict[tuple[Path, tuple[str | None, ...]], Place]] = {}


def _around() -> tuple[str | None, ...]:
    return tuple(map(os.environ.get, _TELLING))


def _nearest(start: Path) -> Path | None:
    """The folder at or above ``start`` that looks like a checkout, which git finds first, too."""
    here = start.resolve()
    return next((one for one in (here, *here.parents) if os.path.lexists(one / ".git")), None)


def _locate(start: Path) -> Place:
    asked = ("rev-parse", "--absolute-git-dir", "--git-common-dir", "--show-toplevel")
    done = execute(start, asked, env=dict.fromkeys(_ELSEWHERE))
    git_dir, _, others = done.text.partition("\n")
    if not others:
        if "not a git repository" in done.error:
            raise RatchetError(
                f"{start} is not in a git repository",
                hint="Run 'git init' in the project's folder and commit its files.",
            )
        raise failure("rev-parse", done.error, start)
    common_dir, _, toplevel = others.partition("\n")
    return Place(
        Path(git_dir).resolve(),
        (start / common_dir).resolve(),
        Path(toplevel).resolve() if toplevel else None,
    )


def tip(common_dir: Path, ref: str) -> str | None:
    """The object that ``ref`` (a full name) stands for, or None when it does not exist.

    It is in a file of its own or in ``packed-refs`` (gitrepository-layout(5)); where a repository
    keeps its refs in another way, git is asked.

    Raises:
        RatchetError: The repository is gone, which is not the same as a ref that is not there.
    """
    try:
        text = _read_text(common_dir / ref)
        if text is None:
            text = _packed(common_dir, ref)
        if text is None and not os.path.lexists(common_dir / "HEAD"):
            raise RatchetError(f"there is no git repository in {common_dir}")
    except OSError:
        return _tip(common_dir, ref)
    return text if text is None or _OID.fullmatch(text) else _tip(common_dir, ref)


def tips_of_remotes(common_dir: Path, branch: str) -> set[str]:
    """Where a branch is on the remotes, as this clone knows it."""
    if (common_dir / "reftable").exists():
        asked = ("for-each-ref", "--format=%(objectname)", f"refs/remotes/*/{branch}")
        done = execute(common_dir, (f"--git-dir={common_dir}", *asked))
        if done.status:
            raise failure("for-each-ref", done.error, common_dir)
        return {*done.text.split()}
    listed = _read_text(common_dir / "packed-refs") or ""
    line = f"^[0-9a-f]+ (refs/remotes/[^/]+/{re.escape(branch)})$"
    names = re.findall(line, listed, re.MULTILINE)
    loose = (common_dir / "refs" / "remotes").glob(f"*/{branch}")
    names += [one.relative_to(common_dir).as_posix() for one in loose]
    return {found for name in names if (found := tip(common_dir, name))}


def pointed_to(git_dir: Path, ref: str) -> str | None:
    """The full name of the ref that ``ref`` is another name for; None where it is none.

    ``HEAD`` is in the folder of its checkout, any other in the common one.
    """
    file = git_dir / ref
    try:
        text = _read_text(file) or ""
        if text != _ELSEWHERE_HEAD and not file.is_symlink():  # which is how it was done once
            return text.removeprefix("ref: ").strip() if text.startswith("ref: ") else None
    except OSError:
        pass
    done = execute(git_dir, (f"--git-dir={git_dir}", "symbolic-ref", "--quiet", ref))
    return done.text or None


_OID: Final = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ELSEWHERE_HEAD: Final = "ref: refs/heads/.invalid"  # of a repository whose refs are in tables


def _read_text(file: Path) -> str | None:
    try:
        return os.fsdecode(file.read_bytes()).removesuffix("\n")
    except (FileNotFoundError, IsADirectoryError):
        return None


def _packed(common_dir: Path, ref: str) -> str | None:
    listed = _read_text(common_dir / "packed-refs") or ""
    line = re.search(f"^([0-9a-f]+) {re.escape(ref)}$", listed, re.MULTILINE)
    return line and line[1]


def _tip(common_dir: Path, ref: str) -> str | None:
    asked = ("for-each-ref", "--format=%(refname) %(objectname)", ref)
    done = execute(common_dir, (f"--git-dir={common_dir}", *asked))
    if done.status:
        raise failure("for-each-ref", done.error, common_dir)
    found = dict(line.split(" ") for line in done.text.splitlines())  # of 'a/b', too
    return found.get(ref)


def failure(command: str, error: str, where: Path) -> RatchetError:
    """The error for a git command that failed, with git's own words."""
    hint = "Put right what git says, and run again: what finished is kept."
    if "dubious ownership" in error:
        hint = f"If you trust its owner: git config --global --add safe.directory {where}"
    elif ".lock" in error:
        hint = "Another git command is at work, or one was killed: if none runs, delete the lock."
    return RatchetError(f"git {command} failed in {where}: {error.strip()}", hint=hint)


def no_git() -> RatchetError:
    """The error for a machine without git."""
    oldest = ".".join(map(str, OLDEST_GIT))
    return RatchetError("the git command was not found", hint=f"Install git {oldest} or newer.")


# The objects of a repository --------------------------------------------------------------------


class Found(NamedTuple):
    """An object: ``kind`` is ``blob``, ``tree``, ``commit`` or ``tag``."""

    oid: str
    kind: str
    size: int
    data: bytes  # empty where it is larger than was asked for


class Member(NamedTuple):
    """What a folder has under a name: its mode, six digits, and the name of its content."""

    mode: str
    oid: str


_CHUNK: Final = 4096  # bytes of questions at a time; any pipe holds them, so nobody blocks
_KEPT: Final = 8_000_000  # bytes of what was read, for each repository
_LARGE: Final = 1_000_000  # bytes of an object that is not kept
_RUNNING: Final = 4  # processes, each of one repository


def read_object(git_dir: Path, name: str, *, most: int | None = None) -> Found | None:
    """One object; see ``read_objects``. Of one with more bytes than ``most`` no content is read."""
    return _read(git_dir, [name], most)[0]


def read_objects(git_dir: Path, names: Sequence[str]) -> list[Found | None]:
    """The objects that ``names``, as ``git rev-parse`` takes them, stand for; None where none is.

    One process answers for a repository as long as we run. It sees what others write meanwhile.

    Raises:
        RatchetError: There is no git, or it cannot read the repository.
    """
    return _read(git_dir, names, None)


def members_of(found: Found) -> dict[str, Member]:
    """What is directly in a folder, by name; what is none has nothing."""
    return dict(_members(found)) if found.kind == "tree" else {}


def files_below(git_dir: Path, tree: str) -> dict[str, Member] | None:
    """What is at any depth in a folder and is none itself, by path; None where ``tree`` is none."""
    level, files = [("", tree)], dict[str, Member]()
    while level:
        found = read_objects(git_dir, [name for _, name in level])
        deeper = []
        for (prefix, _), one in zip(level, found, strict=True):
            if one is None or one.kind != "tree":
                return None
            for name, member in _members(one):
                if member.mode == TREE:
                    deeper.append((f"{prefix}{name}/", member.oid))
                else:
                    files[prefix + name] = member
        level = deeper
    return files


def close_readers() -> None:
    """End the processes that read objects; the next question starts one again."""
    with _LOCK:
        for reader in _READERS.values():
            reader.close()
        _READERS.clear()


def _members(found: Found) -> Iterator[tuple[str, Member]]:
    """A folder's entries: a mode, a space, a name, a NUL and an object's name in bytes, each."""
    data, digest, at = found.data, len(found.oid) // 2, 0
    while at < len(data):
        end = data.index(b"\0", at)
        mode, _, name = data[at:end].partition(b" ")
        at = end + 1 + digest
        yield os.fsdecode(name), Member(mode.decode().zfill(6), data[end + 1 : at].hex())


class _EndedError(Exception):
    """The process that answers is gone."""


class _Objects:
    """One ``git cat-file --batch``, started by the first question, and again if it has died.

    Ctrl-C in a terminal ends it too, and what is written down after that is read again first.
    """

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None  # a file, as nobody would empty a pipe
        self._kept: dict[str, Found] = {}
        self._bytes = 0

    def read(self, names: Sequence[str], most: int | None) -> list[Found | None]:
        new = [name for name in dict.fromkeys(names) if name not in self._kept]
        found = dict[str, Found | None]()
        for chunk in _chunks(new):
            found |= zip(chunk, self._answers(chunk, most), strict=True)
        answers = [self._kept.get(name) or found[name] for name in names]
        for one in found.values():
            self._keep(one)
        return answers

    def close(self) -> str:
        """End the process; returns what it complained about."""
        process, errors, self._process, self._errors = self._process, self._errors, None, None
        if process is None or errors is None:
            return ""
        with contextlib.suppress(OSError), process:  # it waits, and closes the pipes
            process.kill()
        with errors:
            errors.seek(0)
            return os.fsdecode(errors.read())

    def forget(self) -> None:
        """In a fork: the process is the parent's."""
        if self._process and self._errors and self._process.stdin and self._process.stdout:
            for file in (self._process.stdin, self._process.stdout, self._errors):
                file.close()
            self._process.returncode = 0  # nobody here may wait for it

    def _keep(self, one: Found | None) -> None:
        if one is None or one.oid in self._kept or one.size > min(_LARGE, len(one.data)):
            return
        self._kept[one.oid] = one
        self._bytes += one.size
        while self._bytes > _KEPT:
            self._bytes -= self._kept.pop(next(iter(self._kept))).size

    def _answers(self, names: Sequence[str], most: int | None) -> list[Found | None]:
        for again in (True, False):
            try:
                return self._ask(names, most)
            except (_EndedError, BrokenPipeError) as ended:
                said = self.close()
                if not again:
                    raise failure("cat-file", said, self._git_dir) from ended
            except BaseException:
                self.close()  # in the middle of an answer
                raise
        raise AssertionError

    def _ask(self, names: Sequence[str], most: int | None) -> list[Found | None]:
        process = self._process = self._process or self._start()
        assert process.stdin  # noqa: S101  it is a pipe
        assert process.stdout  # noqa: S101
        process.stdin.write(b"".join(b"%s\n" % os.fsencode(name) for name in names))
        process.stdin.flush()
        return [self._answer(process.stdout, most) for _ in names]

    def _answer(self, out: IO[bytes], most: int | None) -> Found | None:
        head = out.readline()
        if not head.endswith(b"\n"):
            raise _EndedError
        oid, kind, size = [b"", b"", *head.split()][-3:]
        if not size.isdigit():  # '<name> missing', '<name> ambiguous'
            return None
        found = Found(oid.decode(), kind.decode(), int(size), b"")
        if most is not None and found.size > most:
            self.close()  # rather than read on to the end of it
            return found
        data = out.read(found.size + 1)
        if len(data) <= found.size:
            raise _EndedError
        return found._replace(data=data[:-1])

    def _start(self) -> subprocess.Popen[bytes]:
        here = {"GIT_DIR": str(self._git_dir), **_READING}
        changed = {**os.environ, **_LANGUAGE, **here}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  ``close`` does
        try:
            return subprocess.Popen(
                ["git", "cat-file", "--batch"],
                cwd=self._git_dir,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={name: value for name, value in changed.items() if value is not None},
            )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            self._errors.close()
            if not self._git_dir.is_dir():
                raise RatchetError(f"there is no folder {self._git_dir}") from error
            raise no_git() from error


def _chunks(names: Sequence[str]) -> Iterator[list[str]]:
    chunk, length = list[str](), 0
    for name in names:
        length += len(os.fsencode(name)) + 1
        if chunk and length > _CHUNK:
            yield chunk
            chunk, length = [], len(os.fsencode(name)) + 1
        chunk.append(name)
    if chunk:
        yield chunk


_READERS: Final[dict[tuple[Path, tuple[str | None, ...]], _Objects]] = {}
_LOCK: Final = threading.RLock()


def _read(git_dir: Path, names: Sequence[str], most: int | None) -> list[Found | None]:
    if any("\n" in name for name in names):
        raise ValueError(names)  # it would be two questions
    key = (git_dir, _around())
    with _LOCK:
        # Whichever was used last comes last.
        reader = _READERS.pop(key) if key in _READERS else _Objects(git_dir)
        _READERS[key] = reader
        while len(_READERS) > _RUNNING:
            _READERS.pop(next(iter(_READERS))).close()
        return reader.read(names, most)


def _forked() -> None:
    for reader in _READERS.values():
        reader.forget()
    _READERS.clear()
    _LOCK.release()


atexit.register(close_readers)
os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_forked)
