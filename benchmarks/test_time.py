"""What the tests cost: CPU seconds and git processes, by file.

    python benchmarks/test_time.py tests/github/test_comments.py --slowest 10

CPU seconds are user and system, of everything that a test starts and waits for. Wall time says
little on a machine that does other things as well. Each file is run in a process of its own,
which loads this very file as a plugin of pytest.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

import pytest

OUT: Final = "TEST_TIME_OUT"
COSTS: Final[dict[str, list[float]]] = defaultdict(lambda: [0.0, 0])  # by test: CPU, processes
_STARTED: Final = [0]


def spent() -> float:
    """CPU seconds of this process, and of the children that it has waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and Path(os.fsdecode(args[0])).name == "git":
        _STARTED[0] += 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Add up what one test costs, with its fixtures."""
    cpu, processes = spent(), _STARTED[0]
    try:
        return (yield)
    finally:
        cost = COSTS[item.nodeid]
        cost[0] += spent() - cpu
        cost[1] += _STARTED[0] - processes


def pytest_sessionstart() -> None:
    """Count from here on."""
    sys.addaudithook(_audit)


def pytest_sessionfinish() -> None:
    """Hand over to the process that asked."""
    Path(os.environ[OUT]).write_text(json.dumps(COSTS), encoding="utf-8")


def measured(file: str) -> tuple[float, dict[str, list[float]]]:
    """The CPU seconds of a file's process, and the costs of its tests."""
    before = spent()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "costs.json")
        env = os.environ | {OUT: str(out), "PYTHONPATH": str(Path(__file__).parent)}
        # A base of its own: pytest would tidy up after other sessions in the one that they share.
        options = ["-q", "-p", "test_time", f"--basetemp={folder}/base"]
        command = [sys.executable, "-m", "pytest", *options, file]
        done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.stderr.write(done.stdout)
        costs = json.loads(out.read_text(encoding="utf-8"))
    return spent() - before, costs


def main() -> None:
    """Print a line for every file, and for its dearest tests."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--slowest", type=int, default=0, help="tests of each file to show")
    asked = parser.parse_args()
    print(f"{'file':40} tests  CPU s    git")
    total = [0.0, 0.0, 0.0]
    for file in asked.files:
        cpu, costs = measured(file)
        row = [len(costs), cpu, sum(processes for _, processes in costs.values())]
        total = [one + other for one, other in zip(total, row, strict=True)]
        print(f"{Path(file).name:40} {row[0]:5} {row[1]:6.1f} {row[2]:6.0f}", flush=True)
        for name, cost in sorted(costs.items(), key=lambda one: -one[1][0])[: asked.slowest]:
            print(f"  {cost[0]:6.2f} {cost[1]:6.0f}  {name.partition('::')[2]}")
    print(f"{'all':40} {total[0]:5.0f} {total[1]:6.1f} {total[2]:6.0f}")


if __name__ == "__main__":
    main()
