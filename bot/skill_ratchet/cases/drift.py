"""Do the cases still stand for the use that the skill is put to? Records in, advice out.

Advice goes to logs that anybody may read: it has counts and means over at least ``FEWEST`` cases,
and of held-out cases never a text, a label, an id or a score of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean, variance
from typing import TYPE_CHECKING, Final

from skill_ratchet.core import wording
from skill_ratchet.core.records import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skill_ratchet.core.looks import Confirmation
    from skill_ratchet.core.records import Correction, Fixture

FEWEST: Final = 5  # cases of a kind before anything is said of their mean
ERRORS: Final = 2.0  # standard errors by which one kind has to be below another
GAP: Final = 0.1  # and by at least that much
ENOUGH: Final = 20  # cases before one source can be said to drown the others
MOST: Final = 0.8  # share of all cases from which it does
NAMED: Final = 5  # labels that are named
LABEL: Final = 40  # characters of a label
OTHERS: Final = {"correction": "corrections", "production": "production"}


@dataclass(frozen=True, slots=True)
class DriftFacts:
    """What is known without a model call.

    Args:
        train, holdout: The cases.
        labels: Whether what is expected is a label of a set.
        scores: Of the skill as it is, by (split, case id); what was not run is left out.
        corrections: From people, all of them.
    """

    train: Sequence[Fixture]
    holdout: Sequence[Fixture]
    labels: bool = False
    scores: Mapping[tuple[str, str], float] = field(default_factory=dict)
    corrections: Sequence[Correction] = ()

    @property
    def cases(self) -> tuple[Fixture, ...]:
        """All of them."""
        return (*self.train, *self.holdout)


def advice(facts: DriftFacts) -> tuple[str, ...]:
    """What people should know, a sentence each.

    1. Cases from use score far below those that people wrote.
    2. Cases from use expect labels that no written case has.
    3. The skill passes every held-out case.
    4. Corrections wait, or contradict a case.
    5. One source drowns the others.
    """
    found = (
        *_below(facts),
        *_new_labels(facts),
        *_saturated(facts),
        *_open(facts),
        *_drowned(facts),
    )
    return tuple(found)


def _below(facts: DriftFacts) -> list[str]:
    written = _scores(facts, "authored")
    return [
        f"cases from {name} score {wording.percent(fmean(theirs))} ({len(theirs)} of them), "
        f"written ones {wording.percent(fmean(written))} ({len(written)}): the written cases do "
        "not show what use asks for; write more like those"
        for source, name in OTHERS.items()
        if is_below(theirs := _scores(facts, source), written)
    ]


def _scores(facts: DriftFacts, source: str) -> list[float]:
    return [
        facts.scores[case.split, case.id]
        for case in facts.cases
        if case.source == source and (case.split, case.id) in facts.scores
    ]


def is_below(these: Sequence[float], those: Sequence[float]) -> bool:
    """Whether one mean is below another by ``GAP`` and by more than ``ERRORS`` standard errors.

    Two standard errors are a one-sided test at about 2.5%; fewer than ``FEWEST`` cases of either
    kind say nothing.
    """
    if min(len(these), len(those)) < FEWEST:
        return False
    gap = fmean(those) - fmean(these)
    error = math.sqrt(variance(these) / len(these) + variance(those) / len(those))
    return gap >= GAP and gap > ERRORS * error


def _new_labels(facts: DriftFacts) -> list[str]:
    if not facts.labels:
        return []
    written = _labels([case for case in facts.cases if case.source == "authored"])
    used = [case for case in facts.cases if case.source != "authored"]
    new = {key: label for key, label in _labels(used).items() if key not in written}
    if not written or not new:
        return []
    # A label that is in train is in the skill's open; any other one is held out.
    shown = _labels(facts.train)
    open_ = sorted(wording.one_line(label, LABEL) for key, label in new.items() if key in shown)
    sealed = sum(key not in shown for key in new)
    names = ", ".join(repr(label) for label in open_[:NAMED])
    parts = [f"{names}{' and others' if len(open_) > NAMED else ''}"] if open_ else []
    parts += [f"{sealed} in held-out cases alone"] if sealed else []
    many = "a label" if len(new) == 1 else f"{len(new)} labels"
    return [f"use has {many} that no written case expects ({'; '.join(parts)}): write cases for it"]


def _labels(cases: Sequence[Fixture]) -> dict[str, str]:
    """What is expected, as it is spelt, by what it is without case and spaces around it."""
    found: dict[str, str] = {}
    for case in cases:
        wanted = case.expected if isinstance(case.expected, list) else [case.expected]
        found |= {one.strip().casefold(): one.strip() for one in wanted if isinstance(one, str)}
    return found


def _saturated(facts: DriftFacts) -> list[str]:
    scores = [facts.scores.get(("holdout", case.id)) for case in facts.holdout]
    if not scores or any(score is None or score < 1 for score in scores):
        return []
    return ["the skill passes every held-out case: add harder ones"]


def _open(facts: DriftFacts) -> list[str]:
    known = {case.id: case for case in facts.cases}
    said = {(one.fixture, canonical_json(one.expected)) for one in facts.corrections}
    waiting = {name for name, _ in said if name not in known}
    at_odds = {
        name
        for name, wanted in said
        if name in known and canonical_json(known[name].expected) != wanted
    }
    found = []
    if waiting:
        many = "1 corrected case is" if len(waiting) == 1 else f"{len(waiting)} corrected cases are"
        found.append(f"{many} not among the fixtures (yet)")
    if at_odds:
        many = "1 case" if len(at_odds) == 1 else f"{len(at_odds)} cases"
        found.append(f"people expect something else in {many} than the fixtures: settle which")
    return found


def _drowned(facts: DriftFacts) -> list[str]:
    total = len(facts.cases)
    counts = {name: sum(c.source == source for c in facts.cases) for source, name in OTHERS.items()}
    return [
        f"{count} of {total} cases are from {name}: the others hardly count beside them"
        for name, count in counts.items()
        if total >= ENOUGH and MOST * total < count < total
    ]


def held_out_scores(looks: Sequence[Confirmation], *, version: str) -> dict[str, float]:
    """Means by held-out case of the skill as it is, from the last look that says something of it.

    That is one against it, or the one by which it became what it is.

    Args:
        looks: At the holdout, in any order.
        version: The digest of the skill's text.
    """
    newest = sorted(looks, key=lambda look: look.completed_at or look.started_at)
    for look in reversed(newest):
        evidence = look.evidence
        if evidence is None or not evidence.confirm or evidence.tested is None:
            continue
        by: dict[str, list[float]] = {}
        for pair in evidence.confirm:
            if look.parent == version:
                by.setdefault(pair.fixture, []).append(pair.incumbent)
            elif evidence.tested.head == version:
                by.setdefault(pair.fixture, []).append(pair.candidate)
        if by:
            return {name: fmean(values) for name, values in by.items()}
    return {}
