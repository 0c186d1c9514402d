"""Ctrl-C while calls are under way: a real process and a real server, step by step, no clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from messages_server import MessagesServer, Planned, answer, serve, text
from world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = {"train": tuple(f"t{number}" for number in range(8)), "holdout": ("h1", "h2")}
# A shell that starts its tests in the background has them ignore the signal.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from skill_ratchet.experiment import runner
runner.DRAIN = {drain}
from skill_ratchet.__main__ import main
main()
"""


class Gate:
    """A model that answers the first calls at once and holds the others back until told."""

    def __init__(self, *, at_once: int, held: int) -> None:
        self._at_once, self._expected = at_once, at_once + held
        self.all_asked, self.go = threading.Event(), threading.Event()

    def reply(self, _: Any, number: int) -> Planned:
        """The answer to one call."""
        if number == self._expected:
            self.all_asked.set()
        if number > self._at_once:
            self.go.wait()
        return answer(text("yes"))


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(at_once=3, held=4)
    yield made
    made.go.set()


def project(path: Path, server: MessagesServer) -> World:
    provider = {"type": "anthropic", "base_url": server.url, "concurrency": 4}
    return World.make(path, config={"provider": provider, "model": "m"}, cases=CASES)


def begin(world: World, *args: str, drain: float) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2] / "bot")
    command = [sys.executable, "-c", COMMAND.format(drain=drain), *args]
    env = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen(
        command, cwd=world.path, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def kept(world: World) -> int:
    return sum(trace.score is not None for trace in world.ledger().traces())


def interrupted(process: subprocess.Popen[str], gate: Gate) -> None:
    gate.all_asked.wait()
    process.send_signal(signal.SIGINT)


def test_calls_that_do_not_end_are_given_up(tmp_path: Path, gate: Gate) -> None:
    """Exit code 130; what had finished is in git, what had not is made by the next run alone."""
    with serve(by=gate.reply) as server:
        world = project(tmp_path / "p", server)
        process = begin(world, "eval", drain=0)
        interrupted(process, gate)
        _, err = process.communicate()
        assert (process.returncode, kept(world)) == (130, 3), err
        assert "What finished is kept" in err
        assert len(server.bodies) == 7  # no call began after the signal
        gate.go.set()
        again = begin(world, "eval", drain=0)
        out, err = again.communicate()
        assert (again.returncode, kept(world)) == (0, 8), err
        assert len(server.bodies) == 7 + 5
        assert "8 runs, 3 of them re-used" in out


def test_calls_that_end_soon_are_kept(tmp_path: Path, gate: Gate) -> None:
    """What is under way is paid for, so it gets a moment; nothing new begins."""
    with serve(by=gate.reply) as server:
        world = project(tmp_path / "p", server)
        process = begin(world, "eval", drain=600)
        interrupted(process, gate)
        gate.go.set()
        _, err = process.communicate()
        assert process.returncode == 130, err
        assert kept(world) >= 3
        assert kept(world) == len(server.bodies)
