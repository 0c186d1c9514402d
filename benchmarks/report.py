"""What `ratchet report` takes for a ledger of hundreds of experiments, and how its pages open.

    python benchmarks/report.py [--experiments N] [--traces N] [--write] [--keep FOLDER]

Fills a ledger (filling.py), builds the report in a process of its own and opens pages in Chromium,
where there is one. --write puts the figures into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import chromium
from filling import CASES, CONFIRMED, KEPT, Filler, Size, write_project
from shared import markdown, workplace, write_section

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Cost:
    """What building took."""

    seconds: float
    cpu: float  # seconds, git's included
    peak: int  # bytes


def build(folder: Path, out: Path) -> Cost:
    """Build the report in a process of its own."""
    command = [sys.executable, "-m", "skill_ratchet", "report", "--out", str(out)]
    path = os.pathsep.join(
        [str(Path(__file__).parents[1] / "bot"), os.environ.get("PYTHONPATH", "")]
    )
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ratchet report ended with {process.returncode}")
    seconds = time.perf_counter() - began
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)  # KiB on Linux


def weigh(out: Path) -> dict[str, str]:
    """The number of files, and how large they are."""
    sizes = {file: file.stat().st_size for file in out.rglob("*") if file.is_file()}
    page = max((file for file in sizes if file.suffix == ".html"), key=sizes.__getitem__)
    data = max((file for file in sizes if file.suffix == ".js"), key=sizes.__getitem__)
    return {
        "files": f"{len(sizes):,}",
        "size": f"{sum(sizes.values()) / 1e6:.0f} MB",
        "largest page": f"{sizes[page] / 1e3:.0f} kB ({page.relative_to(out)})",
        "largest file of traces": f"{sizes[data] / 1e3:.0f} kB",
    }


def opened(out: Path, program: str) -> dict[str, str]:
    """How long pages take to open, from the disk."""
    first = next(file for file in sorted((out / "traces").rglob("0.js")))
    group = first.parent.relative_to(out / "traces").as_posix()
    told = first.read_text().split('"id":"', 1)[1].split('"')[0]
    with chromium.browser(program) as browser:
        page = browser.new_page()
        page.goto((out / "index.html").as_uri())
        found = page.evaluate(
            """() => new Promise((done) => new PerformanceObserver((list) => done([
                performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd,
                performance.getEntriesByType("navigation")[0].loadEventEnd,
                list.getEntriesByName("first-contentful-paint")[0].startTime,
            ])).observe({type: "paint", buffered: true}))"""
        )
        page.goto(f"{(out / 'trace.html').as_uri()}?x={group}&t={told}")
        page.wait_for_selector("#trace[aria-busy=false]")
        trace = page.evaluate("performance.now()")
    names = ("overview: content loaded", "overview: loaded", "overview: first paint")
    return {name: f"{value:.0f} ms" for name, value in zip(names, found, strict=True)} | {
        "a trace: shown after": f"{trace:.0f} ms"
    }


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """A folder to work in, which is kept if it was named."""
    with workplace() as folder:
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
        yield (keep or folder).resolve()


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=700)
    parser.add_argument("--traces", type=int, default=100, help="train runs of an experiment")
    parser.add_argument("--keep", type=Path, help="work in this folder; a ledger there is used")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    asked = parser.parse_args()
    size = Size(asked.experiments, asked.traces)
    with place(asked.keep) as folder:
        project, out = folder / "project", folder / "report"
        if not project.exists():
            project.mkdir()
            write_project(project)
            Filler(project, size).fill(size.experiments)
        cost = build(project, out)
        found = {
            "time": f"{cost.seconds:.0f} s, on {os.cpu_count()} cores with a load of "
            f"{os.getloadavg()[1]:.0f}",
            "processor time": f"{cost.cpu:.0f} s",
            "peak memory": f"{cost.peak / 1e6:.0f} MB",
            **weigh(out),
        }
        program = chromium.find()
        found |= opened(out, program) if program else {"in a browser": "no Chromium here"}
    for name, value in found.items():
        print(f"{name:26}{value}")
    if asked.write:
        table = markdown(["what", "measured"], [[name, said] for name, said in found.items()])
        head = (
            f"Written by `python benchmarks/report.py --write`: {size.experiments} experiments "
            f"with {size.traces} train runs each,\n{CASES} cases in each split, a merge every "
            f"{KEPT} experiments, evidence of a confirm run every {CONFIRMED}.\n"
            "A load above the number of cores means that other programs wanted them, too."
        )
        write_section("report", f"{head}\n\n{table}")


if __name__ == "__main__":
    main()
