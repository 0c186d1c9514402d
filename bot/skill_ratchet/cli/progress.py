"""What people see on stderr while a command works. Decides nothing.

A line that moves takes as long to import as a hundred calls to make: elsewhere than on a terminal,
where there is none, nothing of it is.
"""

from __future__ import annotations

import sys
from statistics import fmean
from typing import TYPE_CHECKING, Self

from skill_ratchet.cli import columns
from skill_ratchet.cli.terminal import clean, width
from skill_ratchet.core import wording

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from skill_ratchet.core.records import Trace
    from skill_ratchet.experiment.budget import Budget
    from skill_ratchet.experiment.recorder import Attempt


class _Line:
    """A line that moves, on a terminal; elsewhere only what is said."""

    def __init__(self, *, states: bool = False) -> None:
        """``states``: a text beside the count."""
        self.live = sys.stderr.isatty()
        self._bar = _bar(states=states) if self.live else None
        self._task: TaskID | None = None

    def start(self) -> None:
        """Show it."""
        if self._bar:
            self._bar.start()

    def stop(self) -> None:
        """Take it away."""
        if self._bar:
            self._bar.stop()

    def begin(self, name: str, *, total: int | None) -> None:
        """Begin anew, with so many parts; None when their number is not known."""
        self.end()
        if self._bar:
            self._task = self._bar.add_task(name, total=total, state="")

    def advance(self, state: str = "") -> None:
        """One part is done."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, advance=1, state=state)

    def show(self, state: str) -> None:
        """Change the text beside the count."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, state=state)

    def end(self) -> None:
        """Remove what was begun."""
        if self._bar and self._task is not None:
            self._bar.remove_task(self._task)
        self._task = None

    def say(self, text: str) -> None:
        """Show a sentence, above the line if there is one."""
        said = "\n".join(columns.wrap(clean(text), width()))
        if self._bar:
            self._bar.console.print(said)
        else:
            sys.stderr.write(f"{said}\n")


class Reporter:
    """Shows a run on stderr: a moving line on a terminal, plain lines elsewhere.

    ``budget`` is set when the run has one, to show calls and dollars.
    """

    def __init__(self) -> None:
        self._budget: Budget | None = None
        self._waited: set[str] = set()  # for what, in this phase
        self._line = _Line(states=True)
        self._name, self._under_way = "", False  # the phase
        self._done = self._reused = 0
        self._scores: dict[str, list[float]] = {}  # by version of the skill
        self._incumbent = ""

    def __enter__(self) -> Self:
        self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish_phase()
        self._line.stop()

    @property
    def budget(self) -> Budget | None:
        """That of the run that is watched."""
        return self._budget

    @budget.setter
    def budget(self, budget: Budget | None) -> None:
        self._budget = budget
        if budget is not None:
            budget.traffic.watch = self._waits

    def _waits(self, why: str, seconds: float) -> None:
        """Show what calls wait for: elsewhere than on a terminal once a phase."""
        calls = self._budget.traffic.calls if self._budget else 0
        said = f"{why}: trying again within {max(1, round(seconds))} s, {calls} calls under way"
        if self._line.live:
            self._line.show(said)
        elif why not in self._waited:
            self._line.say(f"{self._name}: {said}")
        self._waited.add(why)

    def phase(self, name: str, *, runs: int, incumbent: str = "") -> None:
        """Begin a phase of at most ``runs`` runs; the incumbent's score is shown first."""
        self._finish_phase()
        self._name, self._under_way = name, True
        self._waited = set()
        self._incumbent = incumbent
        self._done = self._reused = 0
        self._scores = {}
        self._line.begin(name, total=runs or None)

    def ran(self, trace: Trace, paid: bool) -> None:  # noqa: FBT001 - the runner's callback
        """Count one finished run."""
        if paid and not self._line.live and self._done == self._reused:
            self._line.say(f"{self._name} ...")
        self._done += 1
        self._reused += not paid
        if trace.score is not None:
            version = trace.key.skill if trace.key else ""
            self._scores.setdefault(version, []).append(trace.score.value)
        if self._line.live:
            self._line.advance(self._state())

    def said(self, text: str) -> None:
        """Show a sentence."""
        self._finish_phase()
        self._line.say(text)

    def decided(self, attempt: Attempt) -> None:
        """Show how an attempt ended."""
        self._finish_phase()
        head = f"experiment {attempt.number} ({attempt.experiment[:8]}): {attempt.action}"
        self._line.say(f"{head}, {attempt.reason}; train {wording.change(attempt.train)}")

    def _state(self) -> str:
        sides = sorted(self._scores.items(), key=lambda side: side[0] != self._incumbent)
        means = [wording.percent(fmean(scores)) for _, scores in sides]
        parts = [f"score {wording.arrow(means)}"] if means else []
        if self.budget is not None:
            parts.append(wording.cost(self.budget.calls, self.budget.spent))
            if self.budget.predicted:
                parts[-1] += f" of {wording.dollars(self.budget.predicted)} predicted"
        return " \N{MIDDLE DOT} ".join(parts)

    def _finish_phase(self) -> None:
        if not self._under_way:
            return
        self._line.end()
        self._under_way = False
        if self._done > self._reused:
            again = f", {self._reused} re-used" if self._reused else ""
            self._line.say(f"{self._name}: {self._done} runs{again}, {self._state()}")


class Steps:
    """Shows on stderr how far a command is that calls no model.

    A moving line on a terminal, a plain line for each step elsewhere.
    """

    def __init__(self) -> None:
        self._line = _Line()

    def __enter__(self) -> Self:
        self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.stop()

    def begin(self, name: str, *, total: int | None) -> None:
        """Begin a step of so many parts; None when their number is not known."""
        self._line.begin(clean(name), total=total)
        if not self._line.live:
            self._line.say(f"{name} ...")

    def advance(self) -> None:
        """One part is done."""
        self._line.advance()


def _bar(*, states: bool) -> Progress:
    """A line that moves; colour only without NO_COLOR."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=False)
    console.width = min(console.width, wording.WIDTH)
    state = [progress.TextColumn("{task.fields[state]}", markup=False)] if states else []
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=16),
        progress.MofNCompleteColumn(),
        *state,
        progress.TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )
