"""Real programs in the sandbox: what they may not do, and that they are gone afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from skill_ratchet.base import enclosure, sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

isolated_only = pytest.mark.skipif(
    not sandbox.can_enclose(), reason="this system allows no user namespaces"
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux only")


@pytest.fixture(params=["isolated", "plain"])
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a run in namespaces of its own, and of one without."""
    if request.param == "isolated" and not sandbox.can_enclose():
        pytest.skip("this system allows no user namespaces")
    return {"network": request.param == "plain"}


def run(argv: list[str], cwd: Path, **options: Any) -> sandbox.Finished:
    return asyncio.run(sandbox.run(argv, cwd=cwd, **{"timeout": 60, **options}))


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


class Pulse:
    """A named pipe that tells whether any process still holds its writing end."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def stopped(self) -> bool:
        """Whether it was held once, and nobody holds it any more."""
        beats = os.read(self.fd, 100)
        try:
            return bool(beats) and os.read(self.fd, 100) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    pulse = Pulse(tmp_path / "pulse")
    yield pulse
    os.close(pulse.fd)


def test_a_program_reads_stdin_and_is_told_its_arguments(
    tmp_path: Path, mode: dict[str, Any]
) -> None:
    """Words that a shell or the launcher could take for its own arrive as they are."""
    code = "import sys; print(sys.argv[1:], open('/dev/stdin').read()); sys.exit(3)"
    argv = [*python(code), "--", "-v", "a b\n$HOME", "*", ""]
    finished = run(argv, tmp_path, stdin="ä".encode(), memory_mb=512, **mode)
    assert finished.stdout.decode() == "['--', '-v', 'a b\\n$HOME', '*', ''] ä\n"
    assert (finished.returncode, finished.timed_out, finished.truncated) == (3, False, False)


@pytest.mark.parametrize("start", ["sleep 600", "sh -c 'sleep 600 & wait' &\nwait"])
def test_at_the_time_out_the_whole_family_is_killed(
    tmp_path: Path, mode: dict[str, Any], pulse: Pulse, start: str
) -> None:
    script = f"exec 3>pulse; echo up >&3; echo said; {start}"
    finished = run(["sh", "-c", script], tmp_path, timeout=1, **mode)
    assert finished.timed_out
    assert finished.returncode != 0
    assert finished.stdout == b"said\n"
    assert pulse.stopped()


@isolated_only
def test_what_left_the_process_group_dies_too(tmp_path: Path, pulse: Pulse) -> None:
    script = "exec 3>pulse; setsid sh -c 'echo up >&3; echo up; sleep 60' | head -n1"
    finished = run(["sh", "-c", script], tmp_path, timeout=1)
    assert finished.stdout == b"up\n"
    assert pulse.stopped()


def test_what_escapes_cannot_keep_the_caller_waiting(
    tmp_path: Path, pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without namespaces a process can leave the group and live on, holding the output open."""
    monkeypatch.setattr(sandbox, "_GRACE", 0.1)
    os.mkfifo(tmp_path / "go")
    script = "exec 3>pulse; setsid sh -c 'echo up >&3; echo $$ >go; exec sleep 600' & cat go"
    finished = run(["sh", "-c", script], tmp_path, network=True)
    lived_on = not pulse.stopped()
    os.kill(int(finished.stdout), signal.SIGKILL)
    assert (lived_on, finished.returncode, finished.timed_out) == (True, 0, False)


def test_what_a_program_leaves_behind_is_killed(
    tmp_path: Path, mode: dict[str, Any], pulse: Pulse
) -> None:
    """Nor does a child that holds the output open keep the caller waiting."""
    script = "exec 3>pulse; echo up >&3; sleep 600 & exit 0"
    finished = run(["sh", "-c", script], tmp_path, **mode)
    assert (finished.returncode, finished.timed_out) == (0, False)
    assert pulse.stopped()


async def cancel_task(start: Callable[[], Any], ready: Callable[[], Any]) -> None:
    task = asyncio.ensure_future(start())
    await ready()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def cancel_scope(start: Callable[[], Any], ready: Callable[[], Any]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(start)
        await ready()
        group.cancel_scope.cancel()


@pytest.mark.parametrize("cancel", [cancel_task, cancel_scope])
def test_on_cancellation_the_whole_family_is_killed(
    tmp_path: Path, mode: dict[str, Any], pulse: Pulse, cancel: Callable[..., Any]
) -> None:
    """Before the call returns, so that its directory can be removed."""
    script = "exec 3>pulse; sleep 600 & echo up >&3; wait"

    async def start() -> None:
        await sandbox.run(["sh", "-c", script], cwd=tmp_path, timeout=60, **mode)

    async def main() -> None:
        await cancel(start, lambda: anyio.wait_readable(pulse.fd))
        assert pulse.stopped()

    asyncio.run(main())


@pytest.mark.parametrize("cancel", [cancel_task, cancel_scope])
def test_cancelled_while_it_starts_it_ends_all_the_same(
    tmp_path: Path, mode: dict[str, Any], cancel: Callable[..., Any]
) -> None:
    """One turn of the loop after the call, when asyncio is still setting up the pipes."""

    async def start() -> None:
        await sandbox.run(["sh", "-c", "sleep 600 & wait"], cwd=tmp_path, timeout=60, **mode)

    asyncio.run(cancel(start, anyio.lowlevel.checkpoint))


@linux_only
@pytest.mark.parametrize(("memory_mb", "fits"), [(128, False), (1024, True), (None, True)])
def test_memory_is_limited(
    tmp_path: Path, mode: dict[str, Any], memory_mb: int | None, *, fits: bool
) -> None:
    finished = run(python("bytearray(300 << 20)"), tmp_path, memory_mb=memory_mb, **mode)
    assert (finished.returncode == 0) is fits
    assert (b"MemoryError" in finished.stderr) is not fits


@isolated_only
@pytest.mark.parametrize("network", [False, True])
def test_no_network_unless_asked_for(tmp_path: Path, *, network: bool) -> None:
    """The same connection that succeeds with the network is refused without."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        finished = run(python(code), tmp_path, network=network)
    assert (finished.returncode == 0) is network
    assert (b"Error: [Errno" in finished.stderr) is not network


def test_the_environment_is_not_passed_on(
    tmp_path: Path, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-secret")
    monkeypatch.setenv("GITHUB_TOKEN", "a-secret")
    code = "import os, json; print(json.dumps(sorted(os.environ)))"
    finished = run(python(code), tmp_path, **mode)
    names = set(eval(finished.stdout))  # noqa: S307 - a list of names that this test printed
    assert names <= {"PATH", "HOME", "TMPDIR", "LANG", "PWD", "LC_CTYPE"}  # sh adds the PWD
    assert {"PATH", "HOME", "LANG"} <= names
    assert b"a-secret" not in run(["env"], tmp_path, **mode).stdout


def test_an_environment_given_whole_is_the_environment(tmp_path: Path) -> None:
    finished = run([shutil.which("env") or "env"], tmp_path, env={"A": "1"}, network=True)
    assert finished.stdout == b"A=1\n"


@isolated_only
@pytest.mark.parametrize("network", [False, True])
def test_the_environment_of_others_cannot_be_read(tmp_path: Path, *, network: bool) -> None:
    """Our own process holds the keys; it is readable where there are no namespaces."""
    finished = run(["cat", f"/proc/{os.getpid()}/environ"], tmp_path, network=network)
    assert (finished.returncode == 0) is network
    assert bool(finished.stdout) is network


def test_a_flood_of_output_is_read_but_not_kept(tmp_path: Path, mode: dict[str, Any]) -> None:
    """100 MB written, the last megabyte kept, little more than that ever held."""
    tracemalloc.start()
    try:
        script = "head -c 100000000 /dev/zero; echo the end"
        finished = run(["sh", "-c", script], tmp_path, max_output=1_000_000, **mode)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (finished.returncode, finished.truncated) == (0, True)
    assert len(finished.stdout) == 1_000_000
    assert finished.stdout.endswith(b"\0the end\n")
    assert peak < 10_000_000


@pytest.mark.parametrize(("size", "truncated"), [(10, False), (11, True)])
def test_output_up_to_the_limit_is_kept_whole(
    tmp_path: Path, size: int, *, truncated: bool
) -> None:
    finished = run(["sh", "-c", f"printf %0{size}d 1 >&2"], tmp_path, max_output=10)
    assert finished.stderr == b"0000000001"
    assert finished.truncated is truncated


@pytest.mark.parametrize("memory_mb", [None, 512])
@pytest.mark.parametrize("name", ["missing", "./missing", "exit", "./plain", "./broken", "."])
def test_a_program_that_cannot_be_started_is_an_error(
    tmp_path: Path, mode: dict[str, Any], name: str, memory_mb: int | None
) -> None:
    """And is never taken for one that ran and failed; ``exit`` is a builtin of the shell."""
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "broken").write_text("#!/no/such/interpreter\n")
    (tmp_path / "broken").chmod(0o755)
    with pytest.raises(OSError, match=r"no such|not found|No such|interpreter"):
        run([name, "0"], tmp_path, memory_mb=memory_mb, **mode)


def test_a_missing_directory_is_an_error(tmp_path: Path, mode: dict[str, Any]) -> None:
    with pytest.raises(FileNotFoundError):
        run(["env"], tmp_path / "gone", **mode)


@pytest.mark.parametrize("status", [1, 2, 126, 127])
def test_a_program_that_fails_is_never_taken_for_one_that_did_not_start(
    tmp_path: Path, mode: dict[str, Any], status: int
) -> None:
    """Whatever it says in the name of the launcher."""
    said = "unshare: sandbox-0123456789abcdef: 1: program: not found"
    finished = run(["sh", "-c", f"echo '{said}' >&2; exit {status}"], tmp_path, **mode)
    assert (finished.returncode, finished.stderr.decode()) == (status, f"{said}\n")


def test_a_program_killed_by_a_signal_did_start(tmp_path: Path, mode: dict[str, Any]) -> None:
    """It may also send itself a signal, which the first process of a namespace could not."""
    finished = run(["sh", "-c", "kill -SEGV $$; echo alive"], tmp_path, **mode)
    assert finished.returncode in {-11, 128 + 11}
    assert finished.stdout == b""


@pytest.fixture
def unprobed() -> Iterator[None]:
    enclosure.means.cache_clear()
    yield
    enclosure.means.cache_clear()


@pytest.mark.usefixtures("unprobed")
@pytest.mark.parametrize("candidate", [None, "false", "missing"])
def test_where_nothing_encloses_programs_run_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidate: str | None
) -> None:
    """Unless they are to be enclosed: the system has nothing for it, or that fails."""
    found = [(shutil.which(candidate) or f"/no/{candidate}",)] if candidate else []
    monkeypatch.setattr(enclosure, "_candidates", lambda: found)
    assert not sandbox.can_enclose()
    assert run(["echo", "ran"], tmp_path, memory_mb=512).stdout == b"ran\n"
    with pytest.raises(sandbox.SandboxFailed):
        run(["touch", "ran"], tmp_path, view=enclosure.DiskView())
    assert list(tmp_path.iterdir()) == []
