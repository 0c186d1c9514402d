"""Past experiments by what was recorded of them: grouped, and case by case. Records in, rows out.

What an edit did to a case is made here for all who show it: terminal, pull requests, the report.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from sys import intern
from typing import TYPE_CHECKING, Final

from pydantic import Field

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import draw
from skill_ratchet.core import evidence as stats
from skill_ratchet.core.looks import Confirmation  # noqa: TC001 - pydantic needs it at run time
from skill_ratchet.core.records import (
    FILTER,
    Experiment,
    Pair,
    Record,
    Result,
    Setting,
    UnitInterval,
    total,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skill_ratchet.core.records import Side, Trace

FIELDS: Final = ("level", "parent", *Setting.model_fields)
# As ratchet.yml names them.
ALIASES: Final = {
    "provider.type": "provider",
    "meta.model": "meta_model",
    "meta.proposer": "proposer",
    "loop.seed": "seed",
}
POINTS = 100  # in a score of 1


class Done(Record):
    """A finished experiment with everything that is known of it."""

    experiment: Experiment
    result: Result
    confirmation: Confirmation | None
    merged: bool  # and still in


class Group(Record):
    """What the experiments with one value of a field came to.

    Gains are in points and are sums over the merged ones. A sum is None when a part of it is not
    known, a mean when there is nothing to take it of.
    """

    value: str | int | None
    experiments: int
    merged: int  # and still in
    rate: float  # of merged among all
    gain: float | None  # held-out
    train_gain: float | None
    calls: int
    usd: float | None
    gain_per_usd: float | None  # held-out; None for what was free, too
    log_e: float | None  # mean over the looks at the holdout that measured evidence
    mean_gain: float | None  # held-out points, mean over the other looks
    size: float | None  # mean change of the text's length in characters


def field_named(name: str) -> str:
    """The recorded field that a person means.

    Raises:
        RatchetError: There is none.
    """
    if name in FIELDS:
        return name
    if name in ALIASES:
        return ALIASES[name]
    known = (*FIELDS, *ALIASES)
    close = difflib.get_close_matches(name, known, n=1)
    also = f" Did you mean '{close[0]}'?" if close else ""
    raise RatchetError(
        f"Experiments have no field {name!a} to compare by.{also}", hint=f"One of: {_listed(known)}"
    )


def tabulate(done: Iterable[Done], *, by: str) -> tuple[Group, ...]:
    """One row for each value of the field ``by``, in the order in which the values first appear.

    Args:
        done: Finished experiments, oldest first.
        by: From ``field_named``.
    """
    groups: dict[str | int | None, list[Done]] = {}
    for one in done:
        groups.setdefault(_value(one.experiment, by), []).append(one)
    return tuple(_group(value, members) for value, members in groups.items())


def _value(experiment: Experiment, by: str) -> str | int | None:
    holder = experiment if by in ("level", "parent") else experiment.setting
    value: str | int | None = getattr(holder, by)
    return None if value == "" else value


def _group(value: str | int | None, members: Sequence[Done]) -> Group:
    merged = [one for one in members if one.merged]
    gain = total([_held_out(one) for one in merged])
    usd = total([one.result.usd for one in members])
    without_evidence = [one for one in members if _log_e(one) is None]
    return Group(
        value=value,
        experiments=len(members),
        merged=len(merged),
        rate=len(merged) / len(members),
        gain=gain,
        train_gain=total([_on_train(one) for one in merged]),
        calls=sum(one.result.calls for one in members),
        usd=usd,
        gain_per_usd=gain / usd if gain is not None and usd else None,
        log_e=_mean(_log_e(one) for one in members),
        mean_gain=_mean(_held_out(one) for one in without_evidence),
        size=_mean(_growth(one.experiment) for one in members),
    )


def _held_out(one: Done) -> float | None:
    """The candidate's gain in the confirm run, in points."""
    evidence = one.confirmation.evidence if one.confirmation else None
    if evidence is None or not evidence.confirm:
        return None
    return POINTS * fmean(pair.difference for pair in evidence.confirm)


def _on_train(one: Done) -> float | None:
    train = one.result.train
    if train.incumbent is None or train.candidate is None:
        return None
    return POINTS * (train.candidate - train.incumbent)


def _log_e(one: Done) -> float | None:
    """Evidence of the confirm run; None where runs were deterministic, or the rule takes none."""
    confirmation = one.confirmation
    if confirmation is None or confirmation.evidence is None or confirmation.verdict is None:
        return None
    if confirmation.evidence.deterministic or confirmation.verdict.false_merge_rate is not None:
        return None
    return confirmation.verdict.log_e


def _growth(experiment: Experiment) -> int | None:
    return experiment.chars and experiment.chars[1] - experiment.chars[0]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _listed(names: Iterable[str]) -> str:
    return f"{', '.join(names)}."


# Cases ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rollout:
    """One run of a case without its words, as light as 70,000 of them have to be.

    ``text``, ``case`` and ``model`` are digests; ``experiment`` is empty for a kept run of an
    incumbent. ``url`` is where the report has its trace; empty where it has none.
    """

    id: str
    url: str
    fixture: str
    case: str
    text: str
    model: str
    experiment: str
    side: Side | None
    replicate: int
    score: float | None
    at: str  # when it was made


def rollout(trace: Trace, *, url: str = "") -> Rollout | None:
    """A run without its words; None for a call that is not the run of a case."""
    key = trace.key
    if trace.job != "task" or key is None:
        return None
    return Rollout(
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
        at=trace.started_at,
    )


class CaseChange(Record):
    """What an edit did to one case: mean scores before and after it, and the runs they are of."""

    fixture: str
    before: UnitInterval | None
    after: UnitInterval | None
    pairs: int = Field(ge=0)
    old_runs: tuple[str, ...]  # ids
    new_runs: tuple[str, ...]
    trace: str = ""  # the worst run with the candidate: its id, or where it is

    @property
    def known(self) -> bool:
        """Whether there are scores of both."""
        return self.before is not None and self.after is not None

    @property
    def gain(self) -> float:
        """After minus before, in [-1, 1]; 0 where one is not known."""
        return 0.0 if self.before is None or self.after is None else self.after - self.before


def changes(pairs: Iterable[Pair]) -> tuple[CaseChange, ...]:
    """What pairs of runs say of each case, the worst first."""
    by_case: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_case[pair.fixture].append(pair)
    made = (
        CaseChange(
            fixture=name,
            before=fmean(pair.incumbent for pair in some),
            after=fmean(pair.candidate for pair in some),
            pairs=len(some),
            old_runs=tuple(dict.fromkeys(run for pair in some for run in pair.incumbent_runs)),
            new_runs=tuple(pair.candidate_run for pair in some),
            trace=min(some, key=lambda pair: pair.candidate).candidate_run,
        )
        for name, some in by_case.items()
    )
    return tuple(sorted(made, key=lambda case: (case.gain, case.fixture)))


def screened(experiment: Experiment, runs: Iterable[Rollout]) -> list[Pair]:
    """The pairs of a screen, from the runs there are, in the order of their plan.

    The text before has the mean of the kept runs that the rule compares with; by its first version
    the run of the same repeat. One from when that text was a candidate itself stands in only where
    there is no other.
    """
    found = [one for one in runs if one.model == experiment.setting.model_digest]
    before = sorted(
        (one for one in found if one.text == experiment.parent),
        key=lambda run: (run.experiment == experiment.id, not run.experiment),
    )
    own = (one for one in found if one.experiment == experiment.id)
    after = (one for one in own if one.text == experiment.candidate and one.replicate != FILTER)
    if experiment.setting.gate == 1:
        return paired(before, after)
    return _compared(before, after, experiment)


def _compared(
    before: Iterable[Rollout], after: Iterable[Rollout], experiment: Experiment
) -> list[Pair]:
    """Runs with a score, each with the mean of the kept runs that its case had in its sweep."""
    kept: dict[str, dict[int, Rollout]] = defaultdict(dict)  # by case, and which repeat it is
    for run in before:
        if run.score is not None:
            kept[run.case][run.replicate] = run
    pairs = []
    for run in after:
        least = stats.kept_runs(fixtures=max(len(kept), 1), sweep=run.replicate)
        old = [
            one
            for number, one in sorted(kept[run.case].items())
            if number < least or one.at < experiment.started_at
        ]
        if run.score is not None and old:
            pairs.append(_pair(run, old))
    seed = draw.seed_of(experiment.setting.seed, experiment.id, "train")
    return draw.in_order(pairs, seed=seed)


def _pair(run: Rollout, old: Sequence[Rollout]) -> Pair:
    return Pair(
        fixture=run.fixture,
        cluster=run.fixture,
        sweep=run.replicate,
        incumbent=fmean(one.score or 0.0 for one in old),
        candidate=run.score or 0.0,
        incumbent_run=old[0].id,
        candidate_run=run.id,
        more_runs=tuple(one.id for one in old[1:]),
    )


def paired(before: Iterable[Rollout], after: Iterable[Rollout]) -> list[Pair]:
    """Runs with a score, each with the last before of the same repeat of its case."""
    old = {(run.case, run.replicate): run for run in before if run.score is not None}
    return [
        _pair(run, [other])
        for run in sorted(after, key=lambda run: (run.replicate, run.fixture))
        if run.score is not None and (other := old.get((run.case, run.replicate)))
    ]
