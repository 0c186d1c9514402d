"""What an experiment costs, and what looking back costs, at the 10th, 100th and 700th experiment.

    python benchmarks/ledger.py [--at 10,100,700] [--write] [--keep FOLDER]

A ledger is filled (filling.py) up to each of these; more experiments are then made by `ratchet run`
itself with a model of no latency, so that what is left is ours and git's. The same ledger is asked
what people and the meta-agent ask, and at last fetched as the jobs on GitHub fetch it. Times are
CPU seconds, git's included; the sizes take turns, so that what else the machine does is the same
for all. About ten minutes for 700.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from filling import CASES, LABELS, NAME, START, Filler, Size, write_project
from shared import (
    Answer,
    Model,
    Watch,
    added_line,
    git,
    improve,
    markdown,
    workplace,
    write_section,
)
from skill_ratchet.agents.briefing import first_message
from skill_ratchet.agents.toolbox import Toolbox
from skill_ratchet.base import git as plumbing
from skill_ratchet.experiment.proposer import level, read_past, seen, worst_first
from skill_ratchet.ledger import Ref, access
from skill_ratchet.ledger.gitref import GitRef
from skill_ratchet.ledger.store import journal_folder
from skill_ratchet.project import repository, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from shared import Case
    from skill_ratchet.experiment.recorder import Attempt
    from skill_ratchet.ledger import Ledger

AT: Final = (10, 100, 700)
TRACES: Final = 100  # train runs of an experiment, and train cases
ROUNDS: Final = 3  # that everything is measured
MARK: Final = "Measured"
NONCE: Final = "0123456789abcdef"
NUMBER: Final = re.compile(r"(train|holdout) (\d+): ")


class Rules:
    """A model that is right on six cases of ten, and with any edit on seven of ten train cases.

    So an edit passes the screen, and fails on the held-out cases: it goes the whole way.
    """

    skill = START
    cases: Sequence[Case] = ()

    def __init__(self) -> None:
        self._made = 0

    def answer(self, skill: str, asked: str) -> Answer:
        """The label, or another one."""
        found = NUMBER.search(asked)
        assert found is not None
        number = int(found[2])
        gained = MARK in skill and found[1] == "train"
        right = number % 10 < (7 if gained else 6)
        return Answer(
            f"label {number % LABELS}" if right else "something else", "It says so. " * 30
        )

    def propose(self, prompt: str) -> str:  # noqa: ARG002  the World's
        """A line that was not there before."""
        self._made += 1
        line = f"{MARK} {time.time_ns()}: answer as before."
        return added_line(line, why=f"The {self._made}th of the benchmark.")


@dataclass(slots=True)
class Used:
    """What something took."""

    wall: float = 0.0
    cpu: float = 0.0  # seconds, git's included
    processes: int = 0  # of git
    objects: int = 0  # that git has more


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextlib.contextmanager
def measured() -> Iterator[Used]:
    """What goes on inside, in this process and in those of git it waits for."""
    used, run = Used(), plumbing.execute

    def counted(*args: Any, **options: Any) -> plumbing.Output:
        used.processes += 1
        return run(*args, **options)

    began, cpu = time.perf_counter(), _cpu()
    with patch.object(plumbing, "execute", counted):
        yield used
    used.wall, used.cpu = time.perf_counter() - began, _cpu() - cpu


def objects(folder: Path) -> dict[str, int]:
    """What ``git count-objects`` says: of the objects, loose and packed, and of the packs."""
    lines = git(folder, "count-objects", "-v").splitlines()
    return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}


class Steps(Watch):
    """Notes what each experiment of a run took, from the end of the one before it."""

    def __init__(self, folder: Path, used: Used) -> None:
        super().__init__()
        self._folder, self._used = folder, used
        self._last: tuple[float, float, int, int] | None = None
        self.took: list[Used] = []

    def decided(self, attempt: Attempt) -> None:
        """An experiment is on record."""
        super().decided(attempt)
        now, cpu, processes = time.perf_counter(), _cpu(), self._used.processes
        found = objects(self._folder)
        there = found["count"] + found["in-pack"]
        if self._last is not None:
            then, cpu_then, processes_then, there_then = self._last
            self.took.append(
                Used(now - then, cpu - cpu_then, processes - processes_then, there - there_then)
            )
        self._last = (time.perf_counter(), _cpu(), processes, there)


class Grown:
    """A project whose ledger is filled step by step, and asked at each of them."""

    def __init__(self, folder: Path, traces: int = TRACES) -> None:
        folder.mkdir()
        write_project(
            folder,
            train=traces,
            provider={"type": "command", "command": ["false"], "deterministic": True},
            budget={"usd": None, "calls": None, "minutes": None},
        )
        self.folder, self.last, self._traces = folder, 0, traces
        self.filler = Filler(folder, Size(0, traces, cases=traces, whole=True))
        self._model = Model(Rules(), deterministic=True)

    def experiments(self, many: int) -> list[Used]:
        """Make so many, and one before them, in one run; what each of the others took."""
        with measured() as used:
            watch, calls = Steps(self.folder, used), self._model.calls
            report = improve(self.folder, self._model, attempts=many + 1, watch=watch, skill=NAME)
        assert {one.reason for one in report.attempts} == {"no_improvement"}, report
        made = self._model.calls - calls - (many + 1) * (self._traces + CASES)
        assert made in (0, CASES), "the incumbent's held-out runs are made once, and kept"
        self.last += many + 1
        return watch.took

    def fill(self, last: int) -> None:
        """Experiments up to number ``last``, and the incumbent measured as it is then."""
        self.filler.fill(last, first=self.last + 1)
        self.last = last
        self.start()

    def copied(self, folder: Path) -> Grown:
        """The same as it is now, in another folder, to go on apart."""
        shutil.copytree(self.folder, folder)
        other = copy.copy(self)
        other.folder = folder
        return other

    def ledger(self) -> Ledger:
        """As a process that begins now finds it."""
        return access.open_ledger(repository.open_project(self.folder), NAME)

    def start(self) -> Used:
        """The start of a run that makes no attempt: what it checks, and what it reads again."""
        with measured() as used:
            report = improve(self.folder, self._model, attempts=0, watch=Watch(), skill=NAME)
        assert report.stopped is None, report.stopped
        return used

    def ask(self) -> dict[str, Used]:
        """What the meta-agent reads first, and each of its tools."""
        project = repository.open_project(self.folder)
        space = workspace.open_at_base(project, skill=NAME, override={})
        ledger = self.ledger()
        kept = ledger.kept_runs(space.text.digest, space.how.digest)
        runs = [kept[case.digest, 0] for case in space.train]
        view = access.for_proposer(ledger, space)
        first = ledger.find("1")
        found: dict[str, Used] = {}
        with measured() as found["past experiments"]:
            past = read_past(view)
        with measured() as found["first message"]:
            shown = seen(
                space,
                baseline=runs,
                failing=worst_first(runs),
                past=past,
                level=level(past, space),
                notes=(),
                corrections=(),
            )
            first_message(shown, nonce=NONCE)
        tools = Toolbox(shown, view, NONCE)
        asked: dict[str, Any] = {
            "list_experiments": {},
            "list_corrections": {},
            "list_traces": {"experiment": first.id[:12]},
            "read_trace": {"id": view.runs(first.id)[0].id},
            "read_skill": {"experiment": first.id[:12]},
            "search_traces": {"pattern": r"was \w+ly found nowhere"},
        }
        for name, given in asked.items():
            with measured() as found[f"tool {name}"]:
                tools.answer(name, given)
        return found

    def look_back(self) -> dict[str, Used]:
        """The commands that look back, each a process from its start to its end."""
        ledger = self.ledger()
        newest = ledger.experiment_runs(ledger.experiments()[-1].id, "train")[0].id
        first = ledger.experiment_runs(ledger.find("1").id, "train")[0].id
        asked = (
            ("log",),
            ("status",),
            ("show", str(self.last)),
            ("trace", newest, "--no-pager"),
            ("trace", first[:12], "--no-pager"),
        )
        names = ("log", "status", "show", "trace", "trace of the first")
        return {
            f"`ratchet {name}`": _ratchet(self.folder, *args)
            for name, args in zip(names, asked, strict=True)
        }


def _ratchet(folder: Path, *args: str) -> Used:
    """A command, as a process from its start to its end."""
    path = os.pathsep.join(
        [str(Path(__file__).parents[1] / "bot"), os.environ.get("PYTHONPATH", "")]
    )
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "skill_ratchet", *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, args
    return Used(time.perf_counter() - began, used.ru_utime + used.ru_stime)


# On the disk and over the wire ----------------------------------------------------------------


def stored(grown: Grown, joins: Sequence[Used]) -> dict[str, str]:
    """How large what is on the disk is, and what keeping it small took."""
    folder, ledger = grown.folder, grown.ledger()
    there, traces = objects(folder), ledger.count_traces()
    refs = {
        ref.removeprefix("refs/heads/"): int(
            git(folder, "rev-list", "--objects", "--disk-usage", ref.value)
        )
        for ref in Ref
    }
    run = ledger.experiment_runs(ledger.experiments()[-1].id, "train")
    for trace in run:
        ledger.add_trace(trace)
    journal = sum(
        file.stat().st_size for file in journal_folder(folder / ".git", Ref.LEDGER).glob("*.jsonl")
    )
    ledger.flush("the same once more")
    slowest = max((one.cpu for one in joins), default=0.0)
    return {
        "traces of train on record": f"{traces:,}",
        "a trace in the journal": f"{journal / len(run):,.0f} bytes",
        "a trace in git, everything else on its branch shared out": (
            f"{refs['ratchet/ledger'] / traces:,.0f} bytes"
        ),
        **{f"branch {name}": _mb(size) for name, size in refs.items()},
        "packs": f"{there['packs']}, and {there['count']} loose objects",
        "packs joined": f"{len(joins)} times, {sum(one.cpu for one in joins):.1f} s in all, "
        f"{slowest:.1f} s at most",
    }


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def fetched(source: Path, work: Path) -> dict[str, str]:
    """What the jobs bring over the wire: the objects that are in a clone afterwards."""
    for name in ("allowFilter", "allowAnySHA1InWant"):
        git(source, "config", f"uploadpack.{name}", "true")
    jobs = {
        "a checkout with the whole history, every branch": ((), ()),
        "propose": (("--filter=blob:none",), ("--train",)),
        "due": (("--depth=1", "--single-branch"), ("--runs",)),
    }
    found = {}
    for number, (name, (options, ours)) in enumerate(jobs.items()):
        clone = work / f"clone-{number}"
        git(work, "clone", "--quiet", *options, f"file://{source}", str(clone))
        if ours:
            _ratchet(clone, "fetch", *ours)
        packs = (clone / ".git" / "objects").rglob("*")
        found[name] = _mb(sum(file.stat().st_size for file in packs if file.is_file()))
        shutil.rmtree(clone)
    return found


# The page -------------------------------------------------------------------------------------


def look(grown: Grown) -> dict[str, Used]:
    """Everything that is compared between the sizes, at one of them."""
    (step,) = grown.experiments(1)
    found = {"an experiment": step, "the start of a run": grown.start(), **grown.ask()}
    return found | grown.look_back()


def median(found: Sequence[Used]) -> Used:
    """The one in the middle, by CPU."""
    return sorted(found, key=lambda one: one.cpu)[len(found) // 2]


def compared(sizes: Mapping[int, Grown]) -> dict[int, dict[str, Used]]:
    """What everything took at each size: the medians of some rounds."""
    rounds = [{at: look(grown) for at, grown in sizes.items()} for _ in range(ROUNDS)]
    return {
        at: {name: median([one[at][name] for one in rounds]) for name in first}
        for at, first in rounds[0].items()
    }


def table(columns: Mapping[int, Mapping[str, Used]]) -> str:
    """CPU seconds by what was done, a column for each size; the last over the first."""
    first, last = next(iter(columns.values())), list(columns.values())[-1]
    rows = [
        [
            name,
            *(f"{column[name].cpu:.2f} s" for column in columns.values()),
            f"{last[name].cpu / max(first[name].cpu, 0.005):.2f}",
        ]
        for name in first
    ]
    kinds: dict[str, Callable[[Used], str]] = {
        "an experiment, wall clock": lambda one: f"{one.wall:.2f} s",
        "an experiment, git's objects": lambda one: f"{one.objects}",
        "an experiment, git's processes": lambda one: f"{one.processes}",
    }
    for name, show in kinds.items():
        shown = [show(column["an experiment"]) for column in columns.values()]
        rows.append([name, *shown, ""])
    head = ["CPU, git's included", *(f"at {at}" for at in columns), "last over first"]
    return markdown(head, rows)


@contextlib.contextmanager
def joins_measured() -> Iterator[list[Used]]:
    """What each joining of packs takes that goes on inside."""
    joins: list[Used] = []
    join = GitRef.join_packs

    def timed(self: GitRef) -> bool:
        began, cpu = time.perf_counter(), _cpu()
        if joined := join(self):
            joins.append(Used(time.perf_counter() - began, _cpu() - cpu))
        return joined

    with patch.object(GitRef, "join_packs", timed):
        yield joins


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at", default=",".join(map(str, AT)), help="sizes, ascending")
    parser.add_argument("--keep", type=Path, help="leave the project in this folder")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.at.split(",")]
    with workplace() as work, joins_measured() as joins:
        grown = Grown(asked.keep or work / "project")
        grown_to = {}
        for at in sizes:
            grown.fill(at)
            grown_to[at] = grown.copied(work / f"at-{at}")
        columns = compared(grown_to)
        disk = stored(grown, joins)
        wire = fetched(grown.folder, work)
    tables = [
        table(columns),
        markdown(["on the disk", "measured"], [[name, said] for name, said in disk.items()]),
        markdown(["over the wire", "objects"], [[name, said] for name, said in wire.items()]),
    ]
    print("\n\n".join(tables))
    if asked.write:
        head = (
            f"Written by `python benchmarks/ledger.py --write`: {TRACES} train runs and "
            f"{CASES} held-out runs in an experiment\nthat the loop makes, a model without "
            f"latency, median of {ROUNDS}. Load {os.getloadavg()[1]:.0f} on {os.cpu_count()} cores "
            "at the end: compare by CPU."
        )
        write_section("ledger", "\n\n".join([head, *tables]))


if __name__ == "__main__":
    main()
