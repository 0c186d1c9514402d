"""Every task run of a skill by what it ran: what is left of 70,000 traces while pages are made."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from sys import intern
from typing import TYPE_CHECKING

from bot.report.views import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bot.core.records import Trace


def run_of(trace: Trace, *, url: str) -> Run | None:
    """A task run without its words; None for a call that is not the run of a case."""
    key = trace.key
    if trace.job != "task" or key is None:
        return None
    return Run(
        id=trace.id,
        url=url,
        fixture=intern(trace.fixture),
        case=intern(key.fixture),
        text=intern(key.skill),
        model=intern(key.model),
        experiment=intern(key.experiment),
        side=trace.side,
        replicate=key.replicate,
        score=trace.score.value if trace.score else None,
    )


class Runs:
    """The runs, to be found by id, by text and by case."""

    def __init__(self) -> None:
        self._by_id: dict[str, Run] = {}
        self._by_text: dict[tuple[str, str], list[Run]] = defaultdict(list)
        self._by_fixture: dict[str, list[Run]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, run: Run) -> None:
        """Take a run in."""
        self._by_id[run.id] = run
        self._by_text[run.text, run.model].append(run)
        self._by_fixture[run.fixture].append(run)

    def named(self, run_id: str) -> Run | None:
        """The run with this id."""
        return self._by_id.get(run_id)

    def of(self, text: str, model: str) -> list[Run]:
        """The runs of one text of the skill with one way of calling a model."""
        return self._by_text.get((text, model), [])

    def by_fixture(self) -> dict[str, list[Run]]:
        """All runs by the id of their case."""
        return self._by_fixture


def scores(runs: Iterable[Run]) -> list[float]:
    """The scores there are; a run that failed has none."""
    return [run.score for run in runs if run.score is not None]


def mean(runs: Sequence[Run]) -> float | None:
    """The mean of the scores there are."""
    known = scores(runs)
    return fmean(known) if known else None
