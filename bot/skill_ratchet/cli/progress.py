"""What people see on stderr while a command works. Decides nothing.

Apart from ``terminal``: what moves takes as long to import as tables, and few commands need it.
"""

from __future__ import annotations

import sys
from statistics import fmean
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text as RichText

from skill_ratchet.cli.terminal import clean
from skill_ratchet.core import wording

if TYPE_CHECKING:
    from skill_ratchet.core.records import Trace
    from skill_ratchet.experiment.budget import Budget
    from skill_ratchet.experiment.recorder import Attempt


class Reporter:
    """Shows a run on stderr: a moving line on a terminal, plain lines elsewhere.

    ``budget`` is set when the run has one, to show calls and dollars.
    """

    def __init__(self) -> None:
        self.budget: Budget | None = None
        self._console = _console()
        self._live = sys.stderr.isatty()
        self._bar = _bar(self._console, TextColumn("{task.fields[state]}", markup=False))
        self._task: TaskID | None = None
        self._name = ""
        self._done = self._reused = 0
        self._scores: dict[str, list[float]] = {}  # by version of the skill
        self._incumbent = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish_phase()
        self._bar.stop()

    def phase(self, name: str, *, runs: int, incumbent: str = "") -> None:
        """Begin a phase of at most ``runs`` runs; the incumbent's score is shown first."""
        self._finish_phase()
        self._name = name
        self._incumbent = incumbent
        self._done = self._reused = 0
        self._scores = {}
        self._task = self._bar.add_task(name, total=runs or None, state="")

    def ran(self, trace: Trace, paid: bool) -> None:  # noqa: FBT001 - the runner's callback
        """Count one finished run."""
        if paid and not self._live and self._done == self._reused:
            self._say(f"{self._name} ...")
        self._done += 1
        self._reused += not paid
        if trace.score is not None:
            version = trace.key.skill if trace.key else ""
            self._scores.setdefault(version, []).append(trace.score.value)
        if self._task is not None:
            self._bar.update(self._task, advance=1, state=self._state())

    def said(self, text: str) -> None:
        """Show a sentence."""
        self._finish_phase()
        self._say(text)

    def decided(self, attempt: Attempt) -> None:
        """Show how an attempt ended."""
        self._finish_phase()
        head = f"experiment {attempt.number} ({attempt.experiment[:8]}): {attempt.action}"
        self._say(f"{head}, {attempt.reason}; train {wording.change(attempt.train)}")

    def _state(self) -> str:
        sides = sorted(self._scores.items(), key=lambda side: side[0] != self._incumbent)
        means = [wording.percent(fmean(scores)) for _, scores in sides]
        parts = [f"score {wording.arrow(means)}"] if means else []
        if self.budget is not None:
            parts.append(f"{self.budget.calls} calls")
            cost = wording.dollars(self.budget.spent)
            if self.budget.predicted:
                cost += f" of {wording.dollars(self.budget.predicted)} predicted"
            parts.append(cost)
        return " \N{MIDDLE DOT} ".join(parts)

    def _finish_phase(self) -> None:
        if self._task is None:
            return
        self._bar.remove_task(self._task)
        self._task = None
        if self._done > self._reused:
            again = f", {self._reused} re-used" if self._reused else ""
            self._say(f"{self._name}: {self._done} runs{again}, {self._state()}")

    def _say(self, text: str) -> None:
        self._console.print(RichText(clean(text)))


class Steps:
    """Shows on stderr how far a command is that calls no model.

    A moving line on a terminal, a plain line for each step elsewhere.
    """

    def __init__(self) -> None:
        self._console = _console()
        self._live = sys.stderr.isatty()
        self._bar = _bar(self._console)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, name: str, *, total: int | None) -> None:
        """Begin a step of so many parts; None when their number is not known."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(clean(name), total=total)
        if not self._live:
            self._console.print(RichText(clean(f"{name} ...")))

    def advance(self) -> None:
        """One part is done."""
        if self._task is not None:
            self._bar.advance(self._task)


def _console() -> Console:
    """Stderr, at most 80 columns; colour only on a terminal and without NO_COLOR."""
    made = Console(stderr=True, highlight=False, markup=False, soft_wrap=False)
    made.width = min(made.width, wording.WIDTH)
    return made


def _bar(shown: Console, *more: ProgressColumn) -> Progress:
    """A line that moves on a terminal, and is not there elsewhere; ``more`` is beside the count."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        *more,
        TimeRemainingColumn(compact=True),
        console=shown,
        transient=True,
        disable=not sys.stderr.isatty(),
    )
