"""What people see: progress while it works, tables at the end. Writes; decides nothing."""

from __future__ import annotations

import os
import sys
from statistics import fmean
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text as RichText

from bot import edge
from bot.core import charts, graph, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.budget import Budget
    from bot.core.records import Trace
    from bot.recording import Attempt


def console(*, stderr: bool = False) -> Console:
    """A console of at most 80 columns; colour only on a terminal and without NO_COLOR."""
    made = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=False)
    made.width = min(made.width, render.WIDTH)
    return made


class Reporter:
    """Shows a run on stderr: a moving line on a terminal, plain lines elsewhere.

    ``budget`` is set when the run has one, to show calls and dollars.
    """

    def __init__(self) -> None:
        self.budget: Budget | None = None
        self._console = console(stderr=True)
        self._live = sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
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
        self._say(f"{head}, {attempt.reason}; train {render.change(attempt.train)}")

    def _state(self) -> str:
        sides = sorted(self._scores.items(), key=lambda side: side[0] != self._incumbent)
        means = [render.percent(fmean(scores)) for _, scores in sides]
        parts = [f"score {render.arrow(means)}"] if means else []
        if self.budget is not None:
            parts.append(f"{self.budget.calls} calls")
            cost = render.dollars(self.budget.spent)
            if self.budget.predicted:
                cost += f" of {render.dollars(self.budget.predicted)} predicted"
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
        self._console = console(stderr=True)
        self._live = sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
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


clean = edge.clean


def plain() -> bool:
    """Whether only ASCII is safe: a terminal that is none, or an encoding without our marks."""
    return os.environ.get("TERM") == "dumb" or not _encodable(charts.BLOCKS + "●○◐⊘├→…")


def _encodable(text: str) -> bool:
    try:
        text.encode(_encoding())
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"  # a text buffer takes everything


def style() -> graph.Style:
    """The marks of experiments that can be shown here."""
    return graph.ASCII if plain() else graph.UNICODE


def sparks() -> str:
    """The marks of a line of values that can be shown here."""
    return charts.DIGITS if plain() else charts.BLOCKS


_ASCII: Final = {
    ord("\N{RIGHTWARDS ARROW}"): "->",
    ord("\N{MIDDLE DOT}"): "-",
    ord("\N{HORIZONTAL ELLIPSIS}"): "~",  # as wide: it also ends a cell that was cut
}


def _shown(text: str) -> str:
    """Words of ours and of others as this terminal can show them; a ``?`` is what it cannot."""
    shown = clean(text)
    if not plain():
        return shown
    return shown.translate(_ASCII).encode(_encoding(), "replace").decode(_encoding())


def _fitting(text: str) -> str:
    """What stdout cannot encode is spelt out, so that nothing is lost and nothing fails."""
    if _encodable(text):
        return text
    return text.encode(_encoding(), "backslashreplace").decode(_encoding())


def table(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str],
    right: Sequence[int] = (),
    rest: int | None = None,
) -> None:
    """Print a table on stdout; the cells are data, never markup.

    Args:
        rows: The cells.
        header: The columns' names.
        right: Columns of numbers.
        rest: The column that has the room the others leave, its cells cut to one line; without it
            cells that are too long are wrapped.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, name in enumerate(header):
        made.add_column(
            name,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=rest not in (None, column),
        )
    for row in rows:
        cells = [RichText(_shown(cell)) for cell in row]
        if rest is not None:
            cells[rest].no_wrap, cells[rest].overflow = True, "ellipsis"
        made.add_row(*cells)
    _print(made)


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values on stdout, a value's further lines below its first."""
    made = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(RichText(_shown(name), style="bold"), RichText(_shown(value)))
    _print(made)


def _print(made: Table) -> None:
    """A table without the spaces at the ends of its lines."""
    target = console()
    with target.capture() as capture:
        target.print(made)
    drawn = capture.get().translate(_ASCII) if plain() else capture.get()
    for line in drawn.splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")


def say(text: str) -> None:
    """Print text on stdout, wrapped at the width, data never markup."""
    console().print(RichText(_shown(text)))


def raw(text: str) -> None:
    """Print text on stdout as it is but for control characters: diffs, JSON, traces."""
    sys.stdout.write(_whole(text))


def paged(text: str) -> None:
    """The same through the user's pager (``PAGER``), where stdout is a terminal."""
    import click  # noqa: PLC0415 - heavier than the rest, and for one command

    click.echo_via_pager(_whole(text)) if sys.stdout.isatty() else raw(text)


def _whole(text: str) -> str:
    shown = _fitting(clean(text))
    return shown if shown.endswith("\n") else f"{shown}\n"
