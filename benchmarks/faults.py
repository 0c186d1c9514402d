"""Every fault at every moment: what happens to a command, and what the next one makes of it.

    PYTHONPATH=tests/support:. python benchmarks/faults.py           # everything (many hours)
    PYTHONPATH=tests/support:. python benchmarks/faults.py --each 5  # every fifth moment
    PYTHONPATH=tests/support:. python benchmarks/faults.py --write   # and docs/reliability.md

The moments are not listed anywhere: each scene of ``tests/support/kills.py`` is played once,
watched by ``tests/support/boundaries.py``, and then again for each moment that was seen: killed
there (SIGKILL), or with a disk that is full from there on. The jobs on GitHub are also played with
each of their exchanges spoiled in each way of ``tests/support/exchanges.py``, and a run with each
of its calls spoiled in each way of ``tests/support/answers.py``. Then the same command is given
again, and has to end as if nothing had happened: same verdict, no call on record made again,
nothing there twice, every git object sound. What does not is printed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import answers
from exchanges import exchange
from kills import SCENES, Job, play
from world import Mortuary

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from answers import Answered
    from exchanges import Exchanged
    from kills import Played, Scene

DEATHS: Final = {"killed": signal.SIGKILL, "disk full": 0}
GITHUB: Final = "GitHub"  # its side of each exchange
MODEL: Final = "model"  # the same of the model's server
FAULTS: Final = (*DEATHS, GITHUB, MODEL)

PAGE: Final = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN: Final = "<!-- measured: benchmarks/faults.py -->"
END: Final = "<!-- end of what was measured -->"
SEALED: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    **{f"GIT_{who}_NAME": "Benchmark" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "benchmark@example.com" for who in ("AUTHOR", "COMMITTER")},
    "TZ": "UTC",
    "NO_COLOR": "1",
    "COLUMNS": "80",
}


@dataclass(frozen=True)
class Row:
    """One kind of fault in one scene: how many moments there are, were tried, and went wrong."""

    scene: str
    fault: str
    found: int
    tried: int
    wrong: int
    minutes: float


class Try(NamedTuple):
    """One fault at one moment of a scene; ``play`` returns all that was wrong in a folder."""

    fault: str
    moment: str
    play: Callable[[Path], list[str]]


def main(args: Sequence[str]) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description="Faults at every moment of every command.")
    parser.add_argument("--each", type=int, default=1, help="try every N-th moment")
    parser.add_argument("--each-job", type=int, help="of the jobs on GitHub every N-th instead")
    parser.add_argument("--each-exchange", type=int, help="of their exchanges every N-th instead")
    parser.add_argument("--each-call", type=int, help="of a run's calls every N-th instead")
    parser.add_argument("--only", action="append", help="a scene's name; may be repeated")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="may be repeated")
    parser.add_argument("--write", action="store_true", help="rewrite the page's table, too")
    asked = parser.parse_args(args)
    os.environ.update(SEALED)
    names = asked.only or [answers.NAME, *(scene.name for scene in SCENES)]
    steps = {"commands": asked.each, "jobs": asked.each_job or asked.each}
    steps["exchanges"] = asked.each_exchange or steps["jobs"]
    steps["calls"] = asked.each_call or asked.each
    rows: list[Row] = []
    for row in _everything(names, asked.fault or FAULTS, steps):
        rows.append(row)
        print(_line(row), flush=True)
    told = _table(rows, steps)
    print(f"\n{told}")
    if asked.write:
        page = PAGE.read_text("utf-8")
        head, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n\n{told}\n{END}{rest.partition(END)[2]}", "utf-8")
    return int(any(row.wrong for row in rows))


def _everything(
    names: Collection[str], faults: Collection[str], steps: Mapping[str, int]
) -> Iterator[Row]:
    for scene in SCENES:
        if scene.name in names:
            yield from _rows(scene, faults, steps)
    if answers.NAME in names and MODEL in faults:
        yield from _refused(steps["calls"])


def _rows(scene: Scene, faults: Collection[str], steps: Mapping[str, int]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="ratchet-faults-") as name:
        folder, place = Path(name), Path(name) / "place"
        dying = [fault for fault in DEATHS if fault in faults]
        step = steps["jobs" if isinstance(scene, Job) else "commands"]
        if dying:
            (folder / "said").mkdir()
            mortuary = Mortuary(folder / "said")
            try:
                played = play(scene, mortuary, folder / "scene")
                for fault in dying:
                    yield from _tried(scene.name, _deaths(played, mortuary, fault), place, step)
            finally:
                mortuary.close()
        if GITHUB in faults and isinstance(scene, Job):
            made = exchange(scene, folder / "exchanged")
            yield from _tried(scene.name, _spoils(made), place, steps["exchanges"])


def _refused(step: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="ratchet-faults-") as name:
        folder = Path(name)
        answered = answers.ask(folder / "whole")
        tries = [
            Try(f"model: {fault}", f"call {number}", _at(answered, number, fault))
            for number, fault in sorted(answered.every, key=itemgetter(1))
        ]
        yield from _tried(answers.NAME, tries, folder / "place", step)


def _deaths(played: Played, mortuary: Mortuary, fault: str) -> list[Try]:
    def at(moment: str) -> Callable[[Path], list[str]]:
        return lambda place: played.killed(mortuary, place, moment, by=DEATHS[fault])

    return [Try(fault, moment, at(moment)) for moment in played.moments]


def _spoils(made: Exchanged) -> list[Try]:
    return [
        Try(f"GitHub: {fault}", f"{number} {made.exchanges[number]}", _at(made, number, fault))
        for number, fault in sorted(made.every, key=itemgetter(1))
    ]


def _at(made: Exchanged | Answered, number: int, fault: str) -> Callable[[Path], list[str]]:
    return lambda place: made.spoiled(place, number, fault)


def _tried(scene: str, tries: Sequence[Try], place: Path, step: int) -> Iterator[Row]:
    """A row for each kind of fault; each ``step``-th of all tries is made, and one of each kind."""
    chosen, counts = tries[step // 2 :: step], Counter(one.fault for one in tries)
    for fault, count in counts.items():
        began, wrong = time.monotonic(), 0
        some = [one for one in chosen if one.fault == fault]
        if not some:  # a row without a try would say that nothing is wrong
            some = [one for one in tries if one.fault == fault][count // 2 : count // 2 + 1]
        for one in some:
            try:
                found = one.play(place)
            except Exception as problem:  # noqa: BLE001 - is counted, and the rest is tried
                found = [f"{type(problem).__name__}: {problem}"]
            shutil.rmtree(place, ignore_errors=True)
            if found:
                wrong += 1
                print(f"{scene}, {fault} at {one.moment}:", *found, sep="\n  ", flush=True)
        minutes = (time.monotonic() - began) / 60
        yield Row(scene, fault, count, len(some), wrong, minutes)


def _line(row: Row) -> str:
    return f"| {row.scene} | {row.fault} | {row.found} | {row.tried} | {row.wrong} |"


def _table(rows: Sequence[Row], steps: Mapping[str, int]) -> str:
    """A line for each scene and death, one for each fault of GitHub's in all jobs, and a sum."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        scene = "the jobs on GitHub" if row.fault.startswith(GITHUB) else row.scene
        lines.setdefault((scene, row.fault), []).append(row)
    lines["**all**", "**all**"] = list(rows)
    table = [_line(_sum(*name, some)) for name, some in lines.items()]
    head = [
        "| command | fault | moments found | tried | ended otherwise |",
        "|---|---|--:|--:|--:|",
    ]
    said = ", ".join(f"{name} {step}" for name, step in steps.items())
    how = f"One of so many moments was tried: {said}. It took {_minutes(rows):.0f} minutes."
    return "\n".join([*head, *table, "", how, ""])


def _minutes(rows: Sequence[Row]) -> float:
    return sum(row.minutes for row in rows)


def _sum(scene: str, fault: str, rows: Sequence[Row]) -> Row:
    found, tried, wrong = (sum(getattr(row, at) for row in rows) for at in _COUNTS)
    return Row(scene, fault, found, tried, wrong, _minutes(rows))


_COUNTS: Final = ("found", "tried", "wrong")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
