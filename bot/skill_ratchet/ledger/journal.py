"""Writes that are not yet in git: one append-only file per writer, read by everyone.

A line is ``{"path": ..., "data": ...}``. A process that is killed leaves its file behind
and with it everything it wrote; whoever writes next finds the file unlocked and folds it in.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.ledger.locks import FileLock, writing

if TYPE_CHECKING:
    from pathlib import Path


class Journal:
    """The file one Store appends to, made when the first write comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: FileLock | None = None

    def append(self, path: str, data: str) -> None:
        """Hand one write to the operating system: killing this process cannot undo it.

        Raises:
            RatchetError: It cannot be written; then no part of it is.
        """
        line = json.dumps({"path": path, "data": data}).encode("ascii") + b"\n"
        with writing(self._folder):
            self._lock = self._lock or self._create()
            _append_whole(self._lock.fd, line)

    def claim(self) -> list[FileLock]:
        """Every file this process may fold into git, its own and those of the dead, oldest first.

        Raises:
            RatchetError: Its own file was removed, or one cannot be opened.
        """
        mine, self._lock = self._lock, None
        if mine and not os.fstat(mine.fd).st_nlink:
            raise RatchetError(f"{mine.path} was removed while it was in use; its records are lost")
        with writing(self._folder):
            locks = [
                mine if mine and path == mine.path else FileLock.take(path, create=False)
                for path in _files(self._folder)
            ]
        return [lock for lock in locks if lock]

    def _create(self) -> FileLock:
        self._folder.mkdir(parents=True, exist_ok=True)
        # The time comes first: where two files speak of one path, the younger is believed. A clock
        # that was set back must not make an older one of it.
        youngest = max((_time_of(path) for path in _files(self._folder)), default=0)
        began = max(time.time_ns(), youngest + 1)
        name = f"{began:020d}-{os.getpid()}-{secrets.token_hex(4)}"
        # Locked under another name, so that nobody can take it for a dead one's.
        lock = FileLock.take(self._folder / f"{name}.new")
        assert lock is not None  # noqa: S101  the name is random: nobody else can hold it
        lock.path = lock.path.rename(self._folder / f"{name}.jsonl")
        return lock


class JournalView:
    """What all the journals in a folder say together, read again only where they have grown."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, tuple[int, dict[str, str]]] = {}

    def entries(self) -> dict[str, str]:
        """Unwritten data by path, from every writer, dead or alive.

        Raises:
            RatchetError: A journal is damaged in its middle.
        """
        seen: dict[Path, tuple[int, dict[str, str]]] = {}
        for path in _files(self._folder):
            start, known = self._seen.get(path, (0, {}))
            try:
                added, end = read_journal(path, start)
            except FileNotFoundError:
                continue  # folded into git since we looked
            seen[path] = (end, known | added)
        self._seen = seen
        return {path: data for _, known in seen.values() for path, data in known.items()}


def read_journal(path: Path, start: int = 0) -> tuple[dict[str, str], int]:
    """Data by path from byte ``start`` on, and where the last whole line ends.

    A last line that is torn is what a killed writer never finished: it is left out.

    Raises:
        RatchetError: A line before the last is damaged.
        FileNotFoundError: There is no such file.
    """
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read().split(b"\n")
    entries: dict[str, str] = {}
    end = start
    for number, line in enumerate(lines[:-1]):
        try:
            name, data = _entry(line)
            entries[name] = data
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number == len(lines) - 2 and not lines[-1]:
                break
            raise _damaged(path, end) from error
        end += len(line) + 1
    return entries, end


def _entry(line: bytes) -> tuple[str, str]:
    entry = json.loads(line)
    name, data = entry["path"], entry["data"]
    if not (isinstance(name, str) and isinstance(data, str)):
        raise TypeError("a path or data that is no text")
    return name, data


def _append_whole(fd: int, line: bytes) -> None:
    before = os.fstat(fd).st_size
    try:
        written = os.write(fd, line)
        while written < len(line):
            written += os.write(fd, line[written:])
    except OSError:
        os.ftruncate(fd, before)  # or the next line would be glued to half of this one
        raise


def _time_of(path: Path) -> int:
    began = path.name.partition("-")[0]
    return int(began) if began.isdecimal() and began.isascii() else 0


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def _damaged(path: Path, at: int) -> RatchetError:
    return RatchetError(
        f"{path}: damaged at byte {at}",
        hint="Move the file out of that folder, keep it, and run again; what it holds is missing.",
    )
