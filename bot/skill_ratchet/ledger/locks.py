"""Locks that the operating system releases when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import re
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.git import locate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SKILL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of a write below ``path`` into an error a user can act on."""
    try:
        yield
    except OSError as error:
        raise RatchetError(
            f"cannot write {path}: {error.strerror or error}",
            hint="Make the repository's .git directory writable and check for free disk space.",
        ) from error


class FileLock:
    """An open file whose lock is held until ``release``, garbage collection or death."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self._close = weakref.finalize(self, os.close, fd)

    @classmethod
    def take(cls, path: Path, *, create: bool = True, wait: bool = False) -> Self | None:
        """Lock ``path``; None when another holds it, or when it is not there (any more).

        Raises:
            OSError: The file cannot be opened for writing.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            lock = cls(path, os.open(path, flags, 0o600))
            fcntl.flock(lock.fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Its holder may have removed the file between our open and our lock.
            return lock if os.fstat(lock.fd).st_nlink else None
        except (BlockingIOError, FileNotFoundError):
            return None

    def release(self) -> None:
        """Give the lock up; doing it twice is harmless."""
        self._close()


class RunLock:
    """Allows one run per skill and repository at a time, over all its worktrees.

    Use as a context manager.

    Raises:
        RatchetError: On entry, when another process holds the lock; the message names it.
    """

    def __init__(self, repo_path: Path, skill: str) -> None:
        if not _SKILL.fullmatch(skill):
            raise RatchetError(f"{skill!r} is not a usable skill name")
        self._skill = skill
        self._path = locate(repo_path).common_dir / "ratchet" / f"{skill}.lock"
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        with writing(self._path):
            self._path.parent.mkdir(exist_ok=True)
            lock = FileLock.take(self._path)
            if lock is None:
                raise self._taken()
            os.ftruncate(lock.fd, 0)
            os.write(lock.fd, f"{os.getpid()}\n".encode())
        self._lock = lock
        return self

    def __exit__(self, *_: object) -> None:
        # The file stays: removing it would let two processes lock two files of one name.
        if self._lock is not None:
            self._lock.release()

    def _taken(self) -> RatchetError:
        pid = self._path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
        return RatchetError(
            f"another run of skill {self._skill!r} is going on in this repository (process {pid})",
            hint="Wait for it to end, or stop that process: its work is kept.",
        )
