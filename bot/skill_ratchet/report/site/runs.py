"""Every task run of a skill by what it ran: what is left of 70,000 traces while pages are made."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skill_ratchet.report.comparison import Rollout


class Runs:
    """The runs, to be found by id, by text and by case."""

    def __init__(self) -> None:
        self._by_id: dict[str, Rollout] = {}
        self._by_text: dict[tuple[str, str], list[Rollout]] = defaultdict(list)
        self._by_fixture: dict[str, list[Rollout]] = defaultdict(list)

    def add(self, run: Rollout) -> None:
        """Take a run in."""
        self._by_id[run.id] = run
        self._by_text[run.text, run.model].append(run)
        self._by_fixture[run.fixture].append(run)

    def named(self, run_id: str) -> Rollout | None:
        """The run with this id."""
        return self._by_id.get(run_id)

    def all(self, ids: Iterable[str]) -> tuple[Rollout, ...]:
        """Those of these that are on record, each once."""
        found = map(self._by_id.get, dict.fromkeys(ids))
        return tuple(run for run in found if run is not None)

    def of(self, text: str, model: str) -> list[Rollout]:
        """The runs of one text of the skill with one way of calling a model."""
        return self._by_text.get((text, model), [])

    def by_fixture(self) -> dict[str, list[Rollout]]:
        """All runs by the id of their case."""
        return self._by_fixture


def scores(runs: Iterable[Rollout]) -> list[float]:
    """The scores there are; a run that failed has none."""
    return [run.score for run in runs if run.score is not None]


def mean(runs: Sequence[Rollout]) -> float | None:
    """The mean of the scores there are."""
    known = scores(runs)
    return fmean(known) if known else None
