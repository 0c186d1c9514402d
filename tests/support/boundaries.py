"""Finds every moment at which a command leaves something behind, by watching it at work.

Nothing is listed by hand: Python reports each file that is opened for writing, moved or removed,
each program that is started and each request that is sent (``sys.addaudithook``), and writes to a
descriptor and calls of the scripted model are wrapped. Between two such steps nothing on disk or
elsewhere changes, so dying before each of them is dying everywhere.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from skill_ratchet.github.http import Wire
from skill_ratchet.providers.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from skill_ratchet.core.records import Reply, Request

EXIT: Final = "exit"
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES: Final = {
    "os.rename": "rename",
    "os.remove": "remove",
    "os.rmdir": "rmdir",
    "os.mkdir": "mkdir",
    "os.truncate": "truncate",
    "os.link": "link",
    "os.symlink": "symlink",
    "os.chmod": "chmod",
}
# Git commands that only read. Any other is taken for one that writes.
_READS: Final = frozenset(
    (
        *("cat-file", "check-attr", "check-ref-format", "describe", "diff", "diff-index"),
        *("diff-tree", "fast-export", "for-each-ref", "grep", "log", "ls-files", "ls-remote"),
        *("ls-tree", "merge-base", "merge-file", "rev-list", "rev-parse", "show", "status"),
        *("symbolic-ref", "var", "version"),
    )
)
_READS_WITH: Final = (
    ("config", "--get"),
    ("config", "--get-urlmatch"),
    ("reflog", "exists"),
    ("remote", "get-url"),
    ("worktree", "list"),
)
# What differs from run to run: a journal's name, object names, times.
_NAMES: Final = re.compile(r"[0-9]{20}-[0-9]+-[0-9a-f]+|\b[0-9a-f]{7,}\b|[0-9]{5,}")


class Boundaries:
    """Watches this process, and ends it at one of its moments.

    Args:
        root: The folder that counts; what is written elsewhere is lost with the process anyway.
        tape: Where each moment is written down, a line each; '' for nowhere.
        at: The moment at which the process sends itself ``by``, as on a tape; '' for never.
        by: A signal; 0 for a disk that is full from that moment on.
        deaf: Names below ``root`` that do not count.
    """

    def __init__(self, *, root: str, tape: str, at: str, by: int, deaf: Sequence[str] = ()) -> None:
        self._root, self._at, self._by = f"{os.path.realpath(root)}/", at, by
        self._deaf = {*deaf}
        self._tape = os.open(tape, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if tape else -1
        self._write, self._full = os.write, False
        self._seen: Counter[str] = Counter()
        self._within = threading.local()

    def arm(self) -> None:
        """Watch from now on."""
        sys.addaudithook(self._heard)
        os.write = self._writes
        setattr(subprocess.Popen, "_execute_child", self._children())  # noqa: B010 - private
        setattr(Scripted, "complete", self._calls(Scripted.complete))  # noqa: B010 - mypy
        Wire.pause = lambda *_: None  # type: ignore[method-assign]  # nobody waits in a test

    def reached(self, step: str, *, first: Callable[[], object] = lambda: None) -> None:
        """A moment; ``first`` is done before the process ends at it."""
        self._seen[step] += 1
        moment = f"{step} #{self._seen[step]}"
        if self._tape >= 0:
            self._write(self._tape, f"{moment}\n".encode())
        if moment == self._at and not self._by:
            self._full = True
        elif moment == self._at:
            first()
            os.kill(os.getpid(), self._by)
            signal.pause() if self._by == signal.SIGKILL else None

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if getattr(self._within, "step", False):
            return
        self._within.step = True
        try:
            if event == "open":
                self._opened(*args)
            elif event in _CHANGES:
                names = [self._name(one) for one in args if isinstance(one, str | bytes | Path)]
                made = event == "os.mkdir" and os.path.isdir(args[0])  # noqa: PTH112
                if any(names) and not made:
                    self.reached(f"{_CHANGES[event]} {' to '.join(filter(None, names))}")
                    if event in ("os.mkdir", "os.symlink"):
                        self._need_space(args[0])
            elif event == "subprocess.Popen":
                self._starts([os.fsdecode(one) for one in args[1]])
            elif event == "http.client.send":
                self._sends(args[1])
        finally:
            self._within.step = False

    def _opened(self, path: Any, _: Any, flags: int) -> None:
        name = self._name(path) if flags & _WRITING else ""
        if not name:
            return
        there = os.path.exists(path)  # noqa: PTH110 - a Path would be reported again
        if not there or flags & os.O_TRUNC:
            self.reached(f"open {name}")
            self._need_space(path)
            mode = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            self.reached(f"empty {name}", first=lambda: os.open(path, mode, 0o600))

    def _starts(self, command: list[str]) -> None:
        words = list(command)
        if Path(words[0]).name != "git":
            self.reached(f"start {Path(words[0]).name}")
            return
        words.pop(0)
        while words and words[0].startswith("-"):
            words = words[2 if words[0] in ("-c", "-C") else 1 :]
        name = words[0] if words else "version"
        reads = (
            name in _READS
            or any((name, option) in _READS_WITH for option in words[1:3])
            or (name == "hash-object" and "-w" not in words)
        )
        if not reads:
            self.reached(f"git {name}")

    def _sends(self, data: Any) -> None:
        line = bytes(data).split(b"\r\n")[0].decode("latin-1")
        asked = re.fullmatch(r"([A-Z]+) (\S+) HTTP/1.1", line)
        if asked is None:
            self.reached("http body")
        elif asked[1] != "GET":
            self.reached(f"http {asked[1]} {_NAMES.sub('*', asked[2].partition('?')[0])}")

    def _name(self, path: Any) -> str:
        """A path below the root, without what differs from run to run; '' elsewhere."""
        if not isinstance(path, str | bytes | Path):
            return ""
        full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - no audited call, no link followed
        folder = os.path.realpath(os.path.dirname(full))  # noqa: PTH120
        full = f"{folder}/{os.path.basename(full)}"  # noqa: PTH119
        rest = full.removeprefix(self._root)
        if rest == full or rest.split("/")[0] in self._deaf:
            return ""
        return _NAMES.sub("*", rest)

    def _writes(self, fd: int, data: Any, /) -> int:
        if not getattr(self._within, "step", False):
            try:
                name = self._name(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
            except OSError:
                name = ""
            if name:
                self.reached(f"write {name}")
                half = bytes(data)[: len(data) // 2]
                self.reached(f"half of write {name}", first=lambda: self._write(fd, half))
                self._need_space(name)
        return self._write(fd, data)

    def _need_space(self, path: Any) -> None:
        if self._full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))

    def _children(self) -> Callable[..., None]:
        """On a full disk a program that is started cannot write a byte to a file either."""
        real = subprocess.Popen._execute_child  # type: ignore[attr-defined]
        # A full disk is an error and no signal: SIGXFSZ stays ignored, as it is in Python.
        restore = list(inspect.signature(real).parameters).index("restore_signals")

        def execute(*args: Any, **kwargs: Any) -> None:
            if not self._full:
                return real(*args, **kwargs)  # type: ignore[no-any-return]
            args = (*args[:restore], False, *args[restore + 1 :])
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
            try:
                return real(*args, **kwargs)  # type: ignore[no-any-return]
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        return execute

    def _calls(self, real: Callable[..., Awaitable[Reply]]) -> Callable[..., Awaitable[Reply]]:
        async def complete(model: Scripted, request: Request) -> Reply:
            self.reached("call")
            reply = await real(model, request)
            self.reached("answer")
            return reply

        return complete
