"""Every fault at every moment: what happens to a command, and what the next one makes of it.

    PYTHONPATH=tests:. python benchmarks/faults.py                # everything (an hour or more)
    PYTHONPATH=tests:. python benchmarks/faults.py --each 5       # every fifth moment
    PYTHONPATH=tests:. python benchmarks/faults.py --write        # rewrites docs/reliability.md too

The moments are not listed anywhere: each scene of ``tests/kills.py`` is played once, watched by
``tests/boundaries.py``, and then again for each moment that was seen: killed there (SIGKILL), or
with a disk that is full from there on. The jobs on GitHub are also played with each of their
exchanges spoiled in each way of ``tests/exchanges.py``. Then the same command is given again, and
has to end as if nothing had happened: same verdict, no call on record made again, nothing there
twice, every git object sound. What does not is printed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exchanges import FAULTS, exchange
from kills import SCENES, Job, play
from world import Mortuary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kills import Scene

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

    fault: str
    scene: str
    found: int
    tried: int
    wrong: int


def main(args: Sequence[str]) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description="Faults at every moment of every command.")
    parser.add_argument("--each", type=int, default=1, help="try every N-th moment")
    parser.add_argument("--only", action="append", help="a scene's name; may be repeated")
    parser.add_argument("--write", action="store_true", help="rewrite the page's table, too")
    asked = parser.parse_args(args)
    os.environ.update(SEALED)
    scenes = [scene for scene in SCENES if not asked.only or scene.name in asked.only]
    began = time.monotonic()
    rows = []
    for scene in scenes:
        for row in _rows(scene, asked.each):
            rows.append(row)
            print(_line(row), flush=True)
    minutes = (time.monotonic() - began) / 60
    told = _table(rows, each=asked.each)
    print(f"\n{told}\n{minutes:.0f} minutes")
    if asked.write:
        page = PAGE.read_text("utf-8")
        head, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n\n{told}\n{END}{rest.partition(END)[2]}", "utf-8")
    return int(any(row.wrong for row in rows))


def _rows(scene: Scene, each: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="ratchet-faults-") as name:
        folder = Path(name)
        (folder / "said").mkdir()
        mortuary = Mortuary(folder / "said")
        try:
            played = play(scene, mortuary, folder / "scene")
            for by, fault in ((signal.SIGKILL, "killed"), (0, "disk full")):
                tries: dict[str, Callable[[Path], list[str]]] = {
                    moment: lambda place, moment=moment, by=by: played.killed(  # type: ignore[misc]
                        mortuary, place, moment, by=by
                    )
                    for moment in played.moments
                }
                yield _tried(fault, scene, tries, folder / "place", each)
        finally:
            mortuary.close()
        if isinstance(scene, Job):
            made = exchange(scene, folder / "exchanged")
            spoils: dict[str, Callable[[Path], list[str]]] = {
                f"{number} {asked}: {how}": lambda place, at=number, how=how: made.spoiled(  # type: ignore[misc]
                    place, at, how
                )
                for number, asked in enumerate(made.exchanges)
                for how in FAULTS
            }
            yield _tried("exchange spoiled", scene, spoils, folder / "place", each)


def _tried(
    fault: str,
    scene: Scene,
    tries: dict[str, Callable[[Path], list[str]]],
    place: Path,
    each: int,
) -> Row:
    some = list(tries)[each // 2 :: each]
    wrong = 0
    for name in some:
        try:
            found = tries[name](place)
        except Exception as problem:  # noqa: BLE001 - is counted, and the rest is tried
            found = [f"{type(problem).__name__}: {problem}"]
        shutil.rmtree(place, ignore_errors=True)
        if found:
            wrong += 1
            print(f"{scene.name}, {fault} at {name}:", *found, sep="\n  ", flush=True)
    return Row(fault, scene.name, len(tries), len(some), wrong)


def _line(row: Row) -> str:
    return f"| {row.scene} | {row.fault} | {row.found} | {row.tried} | {row.wrong} |"


def _table(rows: Sequence[Row], *, each: int) -> str:
    head = "| command | fault | moments found | tried | ended otherwise |"
    lines = [head, "|---|---|--:|--:|--:|", *map(_line, rows)]
    total = Row("all", "all", *(sum(getattr(row, at) for row in rows) for at in _COUNTS))
    how = "" if each == 1 else f" Every {each}th moment was tried."
    return "\n".join([*lines, re.sub(r"\ball\b", "**all**", _line(total)), "", f"{how.strip()}\n"])


_COUNTS: Final = ("found", "tried", "wrong")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
