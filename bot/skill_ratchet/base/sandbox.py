"""Run one program with limits: time, memory, output, and no network where the system allows.

What holds everywhere: the program leads its own process group, and the whole group is killed at
the time-out, on cancellation, and once the program itself has ended, so nothing it started
outlives the call. Its environment is `minimal_env` unless the caller gives another one.

On Linux with unprivileged user namespaces (`network_isolated()` tells) it also gets namespaces of
its own: no network, not even localhost; a process tree that dies whole, even what left the process
group; and no sight of the environment of other processes in ``/proc``. Elsewhere (macOS,
most containers, hardened kernels) those three do not hold. The file system is never hidden.

The limits are set by a one-line ``sh`` launcher. A ``preexec_fn`` may deadlock in a process with
threads, and ``prlimit(2)`` on a child that already runs comes too late for what it has forked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_OUTPUT = 1_000_000
_GRACE = 5.0  # seconds a killed group may take to let go of its pipes

# sh stays the parent instead of exec'ing: as process 1 of a namespace the program itself would
# be deaf to its own signals (abort() and the like).
_LAUNCH = 'ulimit -v "$1" || exit 126; shift; "$@"; exit $?'
_NAMESPACES = ("--map-current-user", "--net", "--pid", "--fork", "--kill-child", "--")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    ``returncode`` is negative, or above 128, for a program that a signal killed. ``stdout`` and
    ``stderr`` hold the *last* ``max_output`` bytes of each; ``truncated`` says that more was
    written.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    truncated: bool


def minimal_env(home: Path) -> dict[str, str]:
    """An environment without anything of ours but the PATH; ``home`` serves as HOME and TMPDIR."""
    path = os.environ.get("PATH", os.defpath)
    place = str(home.absolute())
    return {"PATH": path, "HOME": place, "TMPDIR": place, "LANG": "C.UTF-8"}


@cache
def network_isolated() -> bool:
    """Whether programs run with ``network=False`` really have none here (tried once)."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    try:
        probe = subprocess.run(
            [unshare, *_NAMESPACES, "/bin/sh", "-c", ":"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float,  # noqa: ASYNC109 - running out of time is a result here, not a cancellation
    memory_mb: int | None = None,
    network: bool = False,
    max_output: int = MAX_OUTPUT,
) -> Finished:
    """Run ``argv`` in ``cwd`` until it ends or its time is up, and kill what it leaves behind.

    Args:
        argv: The program, found on the PATH of ``env`` or by a path relative to ``cwd``, and its
            arguments.
        cwd: Working directory.
        stdin: What the program reads (as a file, so ``/dev/stdin`` works too).
        env: The whole environment; None for ``minimal_env(cwd)``.
        timeout: Wall-clock seconds.
        memory_mb: Address space of each process in MiB (Linux only); None for no limit.
        network: True leaves the program in our own namespaces, with our network.
        max_output: Bytes of stdout and of stderr that are kept; the rest is read and dropped.

    Raises:
        OSError: The program, or the sandbox itself, could not be started.
    """
    env = minimal_env(cwd) if env is None else env
    name = f"sandbox-{secrets.token_hex(8)}"
    isolated = not network and network_isolated()
    command = _Command(
        [_program(argv[0], cwd=cwd, env=env), *argv[1:]], cwd=cwd, env=env, stdin=stdin
    )
    command = _launched(command, name=name, memory_mb=memory_mb, isolated=isolated)
    watch = _Watch(max_output)
    task = asyncio.ensure_future(_watched(command, watch, timeout))
    try:
        returncode, timed_out = await asyncio.shield(task)
    finally:
        watch.over.set()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
    stderr = watch.tail(2)
    # Only the launcher knows its random name, so no program can pass for it. (A shell may also
    # report a program killed by a signal under that name; the status is above 128 then.)
    if stderr.startswith(name.encode()) and 0 < returncode < 128:  # noqa: PLR2004
        raise OSError(stderr.decode(errors="replace").removeprefix(name).strip(": \n"))
    return Finished(returncode, watch.tail(1), stderr, timed_out, watch.truncated)


@dataclass(frozen=True, slots=True)
class _Command:
    """What to execute. ``executable`` differs from ``argv[0]`` where that is only a name."""

    argv: list[str]
    cwd: Path
    env: Mapping[str, str]
    stdin: bytes
    executable: str | None = None


def _program(name: str, *, cwd: Path, env: Mapping[str, str]) -> str:
    """The absolute path of a program, so that no shell builtin is taken for it."""
    sought = str(cwd.absolute() / name) if os.sep in name else name
    found = shutil.which(sought, path=env.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(f"{name}: no such program, or it may not be executed")
    return str(Path(found).absolute())


def _launched(command: _Command, *, name: str, memory_mb: int | None, isolated: bool) -> _Command:
    """Put the launcher, and the namespaces around it, before a command where they are wanted."""
    limited = memory_mb is not None and sys.platform == "linux"
    if not limited and not isolated:
        return command
    limit = str(memory_mb * 1024) if memory_mb is not None and limited else "unlimited"
    argv = ["/bin/sh", "-c", _LAUNCH, name, limit, *command.argv]
    if not isolated:
        return replace(command, argv=argv)
    return replace(command, argv=[name, *_NAMESPACES, *argv], executable=shutil.which("unshare"))


class _Watch(asyncio.SubprocessProtocol):
    """Keeps the tail of what a process writes, and tells when it has ended."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = {1: bytearray(), 2: bytearray()}
        self._written = {1: 0, 2: 0}
        self.over = asyncio.Event()  # it has exited, or the caller wants no more of it
        self.closed = asyncio.Event()  # it has exited and nothing holds its pipes any more

    @property
    def truncated(self) -> bool:
        return max(self._written.values()) > self._limit

    def tail(self, fd: int) -> bytes:
        return bytes(self._kept[fd][-self._limit :] if self._limit else b"")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        kept = self._kept[fd]
        kept += data
        self._written[fd] += len(data)
        if len(kept) > 2 * self._limit:  # in big steps, so that a flood costs no copy per read
            del kept[: len(kept) - self._limit]

    def process_exited(self) -> None:
        self.over.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base's name
        self.closed.set()


async def _watched(command: _Command, watch: _Watch, seconds: float) -> tuple[int, bool]:
    """Start the command, wait, kill all of it; its status, and whether time ran out.

    A task of its own that is never cancelled: asyncio, cancelled while it starts a program,
    kills only the program itself and then waits for all who hold its pipes.
    """
    with tempfile.TemporaryFile() as given:
        given.write(command.stdin)
        given.seek(0)
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: watch,
            *command.argv,
            executable=command.executable,
            stdin=given,
            cwd=command.cwd,
            env=command.env,
            start_new_session=True,
        )
    timed_out = False
    try:
        async with asyncio.timeout(seconds):
            await watch.over.wait()
    except TimeoutError:
        timed_out = True
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is gone
            os.killpg(transport.get_pid(), signal.SIGKILL)
        with anyio.move_on_after(_GRACE, shield=True):
            await watch.closed.wait()
        transport.close()
    code = transport.get_returncode()
    return (-signal.SIGKILL if code is None else code), timed_out
