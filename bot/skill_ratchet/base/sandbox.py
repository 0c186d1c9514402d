"""Run one program with limits: time, memory, output, and no network where the system allows.

What holds everywhere: the program leads its own process group, and the whole group is killed at
the time-out, on cancellation, and once the program itself has ended, so nothing it started
outlives the call. Its environment is `minimal_env` unless the caller gives another one.

Where the system allows it (`can_enclose()` tells; see `base/enclosure.py`) it is also enclosed: it
finds on the disk what its `DiskView` shows, and may write there alone; it has no network, not even
localhost, unless it is given ours; its process tree dies whole, even what left the process group;
and it sees no other process. Elsewhere (macOS, most containers, hardened kernels) a program with a
`DiskView` does not run, and one without runs all the same.

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
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from skill_ratchet.base import enclosure
from skill_ratchet.base.enclosure import DiskView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_OUTPUT = 1_000_000
_GRACE = 5.0  # seconds a killed group may take to let go of its pipes

# sh stays the parent instead of exec'ing: as process 1 of a namespace the program itself would
# be deaf to its own signals (abort() and the like).
_LAUNCH = 'ulimit -v "$1" || exit 126; shift; "$@"; exit $?'


class SandboxFailed(OSError):
    """The sandbox could not be started, so the program was not, whatever it would have done."""


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


def can_enclose() -> bool:
    """Whether programs can be enclosed here (tried once)."""
    return enclosure.means() is not None


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float,  # noqa: ASYNC109 - running out of time is a result here, not a cancellation
    memory_mb: int | None = None,
    network: bool = False,
    view: DiskView | None = None,
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
        network: True leaves the program our network. Without a `view` it is not enclosed then.
        view: What it finds on the disk; None for all, ``cwd`` to write in.
        max_output: Bytes of stdout and of stderr that are kept; the rest is read and dropped.

    Raises:
        SandboxFailed: It could not be enclosed, though there is a `view` or the system can.
        OSError: The program could not be started.
    """
    env = minimal_env(cwd) if env is None else env
    name = f"sandbox-{secrets.token_hex(8)}"
    program = _program(argv[0], cwd=cwd, env=env, view=view or DiskView())
    command = _Command([program, *argv[1:]], cwd=cwd, env=env, stdin=stdin)
    command = _limited(command, name=name, memory_mb=memory_mb)
    if view is not None or (not network and can_enclose()):
        command = _enclosed(command, name=name, view=view or DiskView(), network=network)
    watch = _Watch(max_output)
    task = asyncio.ensure_future(_watched(command, watch, timeout))
    try:
        returncode, timed_out = await asyncio.shield(task)
    finally:
        watch.over.set()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
    stderr = watch.tail(2)
    if command.enclose and not timed_out and not watch.ran:
        raise SandboxFailed(f"the sandbox failed: {stderr.decode(errors='replace').strip()[-500:]}")
    # Only the launcher knows its random name, so no program can pass for it. (A shell may also
    # report a program killed by a signal under that name; the status is above 128 then.)
    if stderr.startswith(name.encode()) and 0 < returncode < 128:  # noqa: PLR2004
        raise OSError(stderr.decode(errors="replace").removeprefix(name).strip(": \n"))
    return Finished(returncode, watch.tail(1), stderr, timed_out, watch.truncated)


@dataclass(frozen=True, slots=True)
class _Command:
    """What to execute; ``enclose`` makes a command line that runs another one enclosed."""

    argv: list[str]
    cwd: Path
    env: Mapping[str, str]
    stdin: bytes
    enclose: Callable[..., list[str]] | None = None


def _program(name: str, *, cwd: Path, env: Mapping[str, str], view: DiskView) -> str:
    """The absolute path of a program, so that no shell builtin is taken for it."""
    if os.sep in name:
        path = cwd.absolute() / name
        found = shutil.which(view.outside(path)) and str(path)
    else:
        found = shutil.which(name, path=env.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(f"{name}: no such program, or it may not be executed")
    return str(Path(found).absolute())


def _limited(command: _Command, *, name: str, memory_mb: int | None) -> _Command:
    """Put the launcher before a command where there is a limit."""
    if memory_mb is None or sys.platform != "linux":
        return command
    return replace(command, argv=_launch(name, str(memory_mb * 1024), command.argv))


def _enclosed(command: _Command, *, name: str, view: DiskView, network: bool) -> _Command:
    """Enclose a command, behind the launcher where that is not there yet."""
    words = enclosure.means()
    if words is None:
        raise SandboxFailed("this system cannot enclose programs")
    if not view.outside(command.cwd).is_dir():
        raise FileNotFoundError(f"{command.cwd}: no such folder")
    try:
        laid = enclosure.mounts(view, cwd=command.cwd, env=command.env)
    except OSError as error:
        raise SandboxFailed(str(error)) from error
    argv = command.argv
    if name not in argv:
        argv = _launch(name, "unlimited", argv)
    enclose = partial(enclosure.command, words, laid, cwd=command.cwd, network=network)
    # Where it starts may not be a folder of the disk at all.
    return replace(command, argv=argv, cwd=Path("/"), enclose=enclose)


def _launch(name: str, limit: str, argv: list[str]) -> list[str]:
    return ["/bin/sh", "-c", _LAUNCH, name, limit, *argv]


class _Watch(asyncio.SubprocessProtocol):
    """Keeps the tail of what a process writes, and tells when it has ended."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = {1: bytearray(), 2: bytearray()}
        self._written = {1: 0, 2: 0}
        self.ran = False  # an enclosed program was started, and has ended
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
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as status:
        given.write(command.stdin)
        given.seek(0)
        argv = command.argv
        if command.enclose:
            argv = command.enclose(status=status.fileno(), program=argv)
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: watch,
            *argv,
            stdin=given,
            cwd=command.cwd,
            env=command.env,
            start_new_session=True,
            pass_fds=(status.fileno(),) if command.enclose else (),
        )
        try:
            return await _ended(transport, watch, seconds)
        finally:
            status.seek(0)
            watch.ran = b"exit-code" in status.read()


async def _ended(
    transport: asyncio.SubprocessTransport, watch: _Watch, seconds: float
) -> tuple[int, bool]:
    """Wait until it has ended or time is up, and kill what is left."""
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
