"""What `ratchet report` takes for a ledger of hundreds of experiments, and how its pages open.

    python benchmarks/report.py [--experiments N] [--traces N] [--write] [--keep FOLDER]

Fills a ledger through the code that fills users' own: train runs of each experiment, kept runs of
each text the skill has had, evidence of confirm runs. A trace has 3 to 4 kB, every hundredth
60 kB more. Then it builds the report in a process of its own and opens pages in Chromium, where
there is one. --write puts the figures into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import chromium
from shared import git, markdown, workplace, write_section

from bot import bench, skillrepo, workspace
from bot.core.gate import Action, Reason, Verdict
from bot.core.records import (
    AddLines,
    Evidence,
    Experiment,
    Landing,
    Pair,
    Proposal,
    Reply,
    Result,
    RolloutKey,
    Score,
    Tally,
    Trace,
    Usage,
    digest,
    trace_id,
)
from bot.core.reign import Confirmation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bot.core.records import Fixture, Side, Split
    from bot.ledger import Ledger
    from bot.runner import Text
    from bot.workspace import Workspace

NAME: Final = "support"  # of the skill
CASES: Final = 20  # in each split
SWEEPS: Final = 10  # of a confirm run
CONFIRMED: Final = 5  # every so manieth experiment has one
KEPT: Final = 20  # every so manieth experiment is merged
LONG: Final = 100  # every so manieth trace is long
AT_ONCE: Final = 50  # experiments a commit
RULES: Final = (
    "Say what was found before what is to be done, and name the order it is about.",
    "A refund is only promised where the order was paid for and has not been shipped.",
    "Ask one question if the message can be read in two ways, and none otherwise.",
)
START: Final = "\n".join(["---", f"name: {NAME}", "description: Answers mail.", "---", *RULES * 8])
WORDS: Final = "The card that I ordered has not come and nobody could tell me where it may be. "


@dataclass(frozen=True, slots=True)
class Size:
    """What is made."""

    experiments: int
    traces: int  # of an experiment, on train


class Filler:
    """Fills the ledger of a project with experiments that look like real ones."""

    def __init__(self, folder: Path, size: Size) -> None:
        project = skillrepo.open_project(folder)
        self._space: Workspace = workspace.open_anywhere(
            project, skill=NAME, ref="HEAD", override={}, require=("holdout",)
        )
        self._ledger: Ledger = bench.open_ledger(project, NAME)
        self._size, self._random = size, random.Random(1)  # noqa: S311  no secret
        self._at = datetime(2026, 1, 1, tzinfo=UTC)
        self._text = workspace.text_of(START)
        self.traces = 0

    def fill(self) -> None:
        """Do it, the newest text being that of the file."""
        self._kept(self._text)
        for number in range(1, self._size.experiments + 1):
            self._experiment(number)
            if number % AT_ONCE == 0:
                self._ledger.flush(f"up to experiment {number}")
                print(f"\r{number} experiments", end="", file=sys.stderr, flush=True)
        self._ledger.flush("the rest")
        print(file=sys.stderr)

    def _now(self) -> str:
        self._at += timedelta(seconds=3.7)
        return self._at.isoformat(timespec="microseconds")

    def _kept(self, text: Text) -> None:
        """The incumbent's own runs on train."""
        self._ledger.add_skill_text(text.digest, text.text)
        for sweep in range(max(1, self._size.traces // CASES)):
            for fixture in self._space.train:
                self._run(text, fixture, sweep, side="incumbent", owner="")

    def _experiment(self, number: int) -> None:
        rule = f"Rule {number}: {self._random.choice(RULES)}"
        edited = workspace.text_of(f"{self._text.text}\n{rule}")
        one = Experiment(
            id=digest(NAME, self._text.digest, edited.digest),
            skill=NAME,
            number=number,
            parent=self._text.digest,
            candidate=edited.digest,
            setting=self._space.setting(),
            proposal=Proposal(
                proposer="meta",
                model="m",
                hypothesis=f"Half of the failures promise too much; {rule}",
                edits=(AddLines(lines=rule),),
            ),
            started_at=self._now(),
            level="narrow",
            chars=(len(self._text.text), len(edited.text)),
        )
        self._ledger.add_experiment(one, parent_text=self._text.text, candidate_text=edited.text)
        for at in range(self._size.traces):
            fixture = self._space.train[at % CASES]
            self._run(edited, fixture, at // CASES, side="candidate", owner=one.id)
        self._end(one, edited, kept=number % KEPT == 0)

    def _end(self, one: Experiment, edited: Text, *, kept: bool) -> None:
        looked = one.number % CONFIRMED == 0
        action, reason = (
            (Action.MERGE, Reason.IMPROVED)
            if kept
            else (Action.REJECT, Reason.FUTILE if looked else Reason.SCREEN_FAILED)
        )
        if looked:
            self._look(one, action, reason)
        self._ledger.add_result(
            Result(
                experiment=one.id,
                action=action.value,
                reason=reason.value if kept or not looked else "not_confirmed",
                detail="The screen says so.",
                train=Tally(incumbent=0.5, candidate=0.5 + kept / 10, pairs=self._size.traces),
                calls=self._size.traces + 1,
                usd=0.0031 * self._size.traces,
                seconds=93.0,
                finished_at=self._now(),
                tokens=(900.0, 920.0),
            )
        )
        if kept:
            at = self._now()
            self._ledger.add_landing(
                Landing(experiment=one.id, commit="a" * 40, branch="main", at=at, by="ratchet run")
            )
            self._text = edited
            self._kept(edited)

    def _look(self, one: Experiment, action: Action, reason: Reason) -> None:
        bar, gain = 3.0, 0.35 if action is Action.MERGE else 0.0
        pairs = self._pairs(one, "holdout", self._space.holdout, sweeps=SWEEPS)
        screen = self._pairs(one, "train", self._space.train, sweeps=self._size.traces // CASES)
        evidence = Evidence(
            experiment=one.id,
            tested=None,
            current=None,
            held=False,
            landed=False,
            leaks=(),
            deterministic=False,
            train_fixtures=tuple(case.id for case in self._space.train),
            holdout_fixtures=tuple(case.id for case in self._space.holdout),
            screen=screen,
            confirm=pairs,
            missing=0,
            attempt=1 + (one.number % KEPT) // CONFIRMED,
        )
        verdict = Verdict(
            action=action,
            reason=reason,
            detail="It is said by the evidence.",
            attempt=1,
            log_e=gain * SWEEPS,
            log_bar=bar,
            path=tuple(gain * sweep for sweep in range(1, SWEEPS + 1)),
        )
        self._ledger.put_confirmation(
            Confirmation(
                experiment=one.id,
                parent=one.parent,
                attempt=evidence.attempt or 1,
                started_at=one.started_at,
                evidence=evidence,
                verdict=verdict,
                completed_at=self._now(),
            )
        )

    def _pairs(
        self, one: Experiment, split: Split, cases: Sequence[Fixture], *, sweeps: int
    ) -> tuple[Pair, ...]:
        return tuple(
            Pair(
                fixture=case.id,
                cluster=case.id,
                sweep=sweep,
                incumbent=float(self._random.random() < 0.5),
                candidate=float(self._random.random() < 0.6),
                incumbent_run=digest(split, one.parent, case.id, sweep)[:16],
                candidate_run=digest(split, one.id, case.id, sweep)[:16],
                made_for=one.id if split == "holdout" else "",
            )
            for sweep in range(sweeps)
            for case in cases
        )

    def _run(self, text: Text, fixture: Fixture, sweep: int, *, side: Side, owner: str) -> None:
        key = RolloutKey(
            skill=text.digest,
            fixture=fixture.digest,
            model=self._space.how.digest,
            replicate=sweep,
            experiment=owner,
        )
        started, right = self._now(), self._random.random() < 0.6
        self.traces += 1
        self._ledger.add_trace(
            Trace(
                id=trace_id(key, started),
                key=key,
                skill=NAME,
                experiment=owner,
                fixture=fixture.id,
                split="train",
                side=side,
                model="m",
                provider="anthropic",
                started_at=started,
                reply=self._reply(text, fixture, right=right),
                score=Score(value=float(right), reason="it is the label", scorer="label"),
                fixture_input=fixture.input_text,
                expected=fixture.expected,
            )
        )

    def _reply(self, text: Text, fixture: Fixture, *, right: bool) -> Reply:
        thought = WORDS * (750 if self.traces % LONG == 0 else 4)
        answer = str(fixture.expected) if right else "something else"
        usage = {"input_tokens": 812, "output_tokens": 190}
        request: dict[str, Any] = {
            "model": "m",
            "max_tokens": 1024,
            "system": [{"type": "text", "text": text.text[: 2 * len(RULES[0]) * 8]}],
            "messages": [{"role": "user", "content": fixture.input_text}],
        }
        response: dict[str, Any] = {
            "id": f"msg_{self.traces:08d}",
            "content": [
                {"type": "thinking", "thinking": f"{self.traces}: {thought}", "signature": "c2ln"},
                {"type": "text", "text": answer},
            ],
            "stop_reason": "end_turn",
            "usage": usage,
        }
        return Reply(
            text=answer,
            stop_reason="end_turn",
            request=request,
            response=response,
            usage=Usage(**usage),
            usd=0.0031,
            latency=2.4,
            request_id=f"req_{self.traces:08d}",
        )


def write_project(folder: Path) -> None:
    """A repository with the skill as it is after the last merge."""
    files = {
        "ratchet.yml": json.dumps({"provider": "local", "skills": {NAME: {"scorer": "label"}}}),
        f"skills/{NAME}/SKILL.md": START,
    }
    for split in ("train", "holdout"):
        for number in range(CASES):
            words = f"{split} {number}: {WORDS * 3}"
            fixture = {"input": words, "expected": f"label {number}"}
            files[f"fixtures/{NAME}/{split}/{split}-{number:03d}.yml"] = json.dumps(fixture)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=start")


@dataclass(frozen=True, slots=True)
class Cost:
    """What building took."""

    seconds: float
    cpu: float  # seconds, git's included
    peak: int  # bytes


def build(folder: Path, out: Path) -> Cost:
    """Build the report in a process of its own."""
    command = [sys.executable, "-m", "bot", "report", "--out", str(out)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
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
            Filler(project, size).fill()
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
