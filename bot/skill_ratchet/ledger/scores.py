"""What a version of a skill scores on train: one number, made here for everything that shows it.

It is of a whole sweep: each train case once, as the skill of then was measured before anything was
tried. A screen that stops early has seen a few cases, and is no measure of the skill.
"""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from skill_ratchet.core.records import Experiment, Result, Trace
    from skill_ratchet.ledger.ledger import Ledger


class TrainScore(NamedTuple):
    """A mean score on train, and how many runs it is of."""

    value: float
    runs: int


def sweep(ledger: Ledger, text: str) -> list[Trace]:
    """The newest whole sweep of a text on record, each case once; empty if there is none.

    Of a model that always answers the same, the runs that a text won by are as good as any.
    """
    results = ledger.results()
    won = [
        (one, result)
        for one in ledger.experiments()
        if one.candidate == text and (result := results.get(one.id)) and result.deterministic
    ]
    runs = ledger.incumbent_runs(text)
    for one, _ in won:
        runs += [run for run in ledger.experiment_runs(one.id, "train") if _is_of(run, text)]
    found = _newest(runs)
    cases = won[-1][1].cases if won else 0
    return found if len(found) >= cases else []


def _is_of(run: Trace, text: str) -> bool:
    return run.key is not None and run.key.skill == text and run.score is not None


def _newest(runs: Sequence[Trace]) -> list[Trace]:
    first = [run for run in runs if run.key and run.key.replicate == 0]
    answered = {run.key.model for run in first if run.key and run.reply.failure is None}
    # A harness or a model that answered nothing at all has measured nothing.
    usable = (run for run in first if run.key and run.key.model in answered)
    ordered = sorted(usable, key=lambda run: run.started_at)
    made = ordered[-1].key.model if ordered and ordered[-1].key else None
    return list({run.fixture: run for run in ordered if run.key and run.key.model == made}.values())


def of_experiments(
    experiments: Iterable[Experiment], results: Mapping[str, Result]
) -> dict[str, TrainScore]:
    """By text, what experiments say of it: the last one against it, or else the one that made it.

    A text of which only a few runs were made has none.
    """
    tried: dict[str, TrainScore] = {}
    measured: dict[str, TrainScore] = {}
    for one in experiments:
        result = results.get(one.id)
        if result is None:
            continue
        train = result.train
        whole = train.sweeps > 0
        if result.baseline is not None:
            measured[one.parent] = TrainScore(result.baseline, result.cases)
        elif whole and train.incumbent is not None:
            measured[one.parent] = TrainScore(train.incumbent, train.pairs)
        if whole and one.candidate and train.candidate is not None:
            tried[one.candidate] = TrainScore(train.candidate, train.pairs)
    return tried | measured


def of_text(ledger: Ledger, text: str) -> TrainScore | None:
    """What one text scores: its newest sweep on record, or else what experiments say of it."""
    values = [run.score.value for run in sweep(ledger, text) if run.score]
    if values:
        return TrainScore(fsum(values) / len(values), len(values))
    return of_experiments(ledger.experiments(), ledger.results()).get(text)
