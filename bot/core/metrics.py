"""What people make of each version of a skill: records in, one row a version out.

Corrections, answers and proposals belong to the version they were made of. What names no version,
or one that the skill's history does not have, is in a row of its own, never in another's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from math import fsum
from statistics import fmean
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from bot.core.records import Digest, Record, UnitInterval, canonical_json
from bot.core.scoring import similarity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bot.core.records import Answers, Correction, Experiment, Landing, Result, Shipped
    from bot.core.reign import Confirmation

Z: Final = 1.959963984540054  # of a two-sided interval of 95%
DAY: Final = 86_400  # seconds
LONGEST: Final = 50_000  # characters of a text that is compared
EDITED: Final = "shipped_edited"  # reason of what a person changed and merged
REJECTED: Final = "rejected"  # reason of what a person did not want
BLOCKS: Final = "▁▂▃▄▅▆▇█"

T = TypeVar("T")


class Version(Record):
    """A text that was the incumbent, from ``since`` on (ISO 8601); ``seconds`` in all."""

    digest: Digest
    since: str
    seconds: float
    current: bool = False


class Interval(Record):
    """Ends of an interval in [0, 1]."""

    low: UnitInterval
    high: UnitInterval


class Fate(Record):
    """What became of the bot's proposals against a version that were published.

    ``unknown`` went in, and nobody knows whether they were changed. ``similarity`` is the mean of
    what was shipped and what was proposed, in [0, 1].
    """

    unchanged: int = 0
    edited: int = 0
    unknown: int = 0
    rejected: int = 0  # by a person
    similarity: UnitInterval | None = None

    @property
    def shipped(self) -> int:
        """How many went in."""
        return self.unchanged + self.edited + self.unknown

    @property
    def first_pass(self) -> float | None:
        """The share that went in as it was proposed, of those where that is known."""
        known = self.unchanged + self.edited
        return self.unchanged / known if known else None


Origin = tuple[Literal["first", "experiment", "edited", "by hand", "not known"], int | None]


class Row(Record):
    """One version; None is what is not known. Scores, rates and similarities are in [0, 1].

    ``rate`` is of ``corrected`` among ``answers``, as logs showed them, with its 95% interval by
    Wilson; where there is no log, ``per_day`` has the corrections a day of a version that was in
    for one. ``answer_similarity`` is of all answers in logs and what people made of them,
    ``correction_similarity`` of the corrected ones alone.
    """

    digest: Digest | None  # None for what belongs to no known version
    origin: Literal["first", "experiment", "edited", "by hand", "not known"]
    number: int | None  # of the experiment
    since: str | None
    days: float | None
    current: bool
    corrections: int
    answers: int
    corrected: int
    rate: UnitInterval | None
    interval: Interval | None
    per_day: float | None
    answer_similarity: UnitInterval | None
    correction_similarity: UnitInterval | None
    fate: Fate
    train: UnitInterval | None
    holdout: UnitInterval | None  # mean over all looks against it
    completion: UnitInterval | None  # cases that a program found done, of those it looked at
    completion_cases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What rows are made of.

    Args:
        versions: Every text once, oldest first.
        experiments: By number; those of people's own edits too.
        results, landings, shipped: By experiment id.
        corrections, answers: From people and logs.
        looks: At the holdout; none where it must not be read.
        kept: By version, the mean of its kept train runs.
        done: By version, how many cases a program judged, and how many of them it found done.
        person: Name of the proposer of people's own edits.
    """

    versions: Sequence[Version] = ()
    experiments: Sequence[Experiment] = ()
    results: Mapping[str, Result]
    landings: Mapping[str, Landing]
    shipped: Mapping[str, Shipped]
    corrections: Sequence[Correction] = ()
    answers: Sequence[Answers] = ()
    looks: Sequence[Confirmation] = ()
    kept: Mapping[str, float]
    done: Mapping[str, tuple[int, int]]
    person: str = "person"


def rows(facts: Facts) -> tuple[Row, ...]:
    """One row a version, oldest first, and last what belongs to none of them, if there is any."""
    known = {version.digest for version in facts.versions}
    corrections = _by_version(((one.version, one) for one in facts.corrections), known)
    answers = _by_version(((one.version, one) for one in facts.answers), known)
    bots = [one for one in facts.experiments if one.setting.proposer != facts.person]
    against = _by_version(((one.parent, one) for one in bots), known)
    origins = _origins(facts)
    made = [
        _row(
            facts,
            version,
            origin=origins[version.digest],
            corrections=corrections[version.digest],
            answers=answers[version.digest],
            against=against[version.digest],
        )
        for version in facts.versions
    ]
    if corrections[None] or answers[None] or against[None]:
        lost = _row(
            facts,
            None,
            origin=("not known", None),
            corrections=corrections[None],
            answers=answers[None],
            against=against[None],
        )
        made.append(lost)
    return tuple(made)


def _by_version(
    pairs: Iterable[tuple[str | None, T]], known: set[str]
) -> dict[str | None, list[T]]:
    groups: dict[str | None, list[T]] = defaultdict(list)
    for version, one in pairs:
        groups[version if version in known else None].append(one)
    return groups


def _origins(facts: Facts) -> dict[str, Origin]:
    """Where each text came from; one that came back has the origin it had at first."""
    made: dict[str, Origin] = {}
    for one in facts.experiments:
        result, shipped = facts.results.get(one.id), facts.shipped.get(one.id)
        if result and result.action == "merge" and one.candidate:
            made.setdefault(one.candidate, ("experiment", one.number))
        elif result and result.reason == EDITED and shipped:
            made.setdefault(shipped.shipped, ("edited", one.number))
    origins: dict[str, Origin] = {}
    for version in facts.versions:
        first: Origin = ("first", None) if not origins else ("by hand", None)
        origins[version.digest] = made.get(version.digest, first)
    return origins


def _row(
    facts: Facts,
    version: Version | None,
    *,
    origin: Origin,
    corrections: Sequence[Correction],
    answers: Sequence[Answers],
    against: Sequence[Experiment],
) -> Row:
    name = version.digest if version else ""
    seen, corrected = sum(one.answers for one in answers), sum(one.corrected for one in answers)
    days = version.seconds / DAY if version else None
    judged, done = facts.done.get(name, (0, 0))
    return Row(
        digest=version.digest if version else None,
        origin=origin[0],
        number=origin[1],
        since=version.since if version else None,
        days=days,
        current=bool(version and version.current),
        corrections=len(corrections),
        answers=seen,
        corrected=corrected,
        rate=corrected / seen if seen else None,
        interval=wilson(corrected, seen) if seen else None,
        per_day=len(corrections) / days if days and days >= 1 and not seen else None,
        answer_similarity=_answer_similarity(answers),
        correction_similarity=_correction_similarity(corrections),
        fate=_fate(facts, against),
        train=_train(facts, version, against),
        holdout=_holdout(facts, version),
        completion=done / judged if judged else None,
        completion_cases=judged,
    )


def _answer_similarity(answers: Sequence[Answers]) -> float | None:
    """Of all answers in the logs that say it; each log counts by its answers."""
    told = [(one.answers, one.similarity) for one in answers if one.similarity is not None]
    if not told:
        return None
    return min(1.0, fsum(many * value for many, value in told) / sum(many for many, _ in told))


def _correction_similarity(corrections: Sequence[Correction]) -> float | None:
    """Of what was answered and what should have been, where both are on record."""
    found = []
    for one in corrections:
        wanted = one.expected if isinstance(one.expected, str) else canonical_json(one.expected)
        if one.output is not None and max(len(one.output), len(wanted)) <= LONGEST:
            found.append(similarity(one.output, wanted))
    return fmean(found) if found else None


def _fate(facts: Facts, against: Sequence[Experiment]) -> Fate:
    counts = dict.fromkeys(("unchanged", "edited", "unknown", "rejected"), 0)
    alike = []
    for one in against:
        result, shipped = facts.results.get(one.id), facts.shipped.get(one.id)
        if shipped is not None:
            alike.append(shipped.similarity)
        fate = _ended(result, shipped, facts.landings.get(one.id)) if result else None
        if fate is not None:
            counts[fate] += 1
    return Fate(**counts, similarity=fmean(alike) if alike else None)


def _ended(result: Result, shipped: Shipped | None, landing: Landing | None) -> str | None:
    """How a published proposal ended; None for what waits, or was never published."""
    if result.reason == EDITED:
        return "edited"
    if result.action != "merge":
        return "rejected" if result.reason == REJECTED else None
    if shipped is not None:
        return "unchanged"
    # What the bot merged by itself is what it proposed, also where that was not written down yet.
    return "unchanged" if landing and landing.by.startswith("ratchet") else "unknown"


def _train(facts: Facts, version: Version | None, against: Sequence[Experiment]) -> float | None:
    """As the last experiment against it found it; else its kept runs; else those it won by."""
    if version is None:
        return None
    done = [(one, facts.results[one.id].train) for one in against if one.id in facts.results]
    measured = [
        tally.incumbent for _, tally in done if tally.sweeps and tally.incumbent is not None
    ]
    if measured:
        return measured[-1]
    if version.digest in facts.kept:
        return facts.kept[version.digest]
    won = [
        facts.results[one.id].train.candidate
        for one in facts.experiments
        if one.candidate == version.digest and one.id in facts.results
    ]
    return next((value for value in reversed(won) if value is not None), None)


def _holdout(facts: Facts, version: Version | None) -> float | None:
    """Mean of its fresh runs in every look at the holdout that was made against it."""
    scores = [
        pair.incumbent
        for look in facts.looks
        if version and look.parent == version.digest and look.evidence
        for pair in look.evidence.confirm
    ]
    return fmean(scores) if scores else None


def wilson(hits: int, of: int) -> Interval:
    """The 95% interval of a share by Wilson's score method (1927); ``of`` is at least 1."""
    share, square = hits / of, Z * Z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = Z / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    # At the ends the interval is closed; without this it would miss them by a rounding error.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return Interval(low=low, high=1.0 if hits == of else min(1.0, middle + half))


def spark(values: Sequence[float | None]) -> str:
    """Values in [0, 1] as a line of blocks, a space where one is not known."""
    top = len(BLOCKS) - 1
    return "".join(" " if value is None else BLOCKS[round(value * top)] for value in values)


def lasted(moments: Sequence[tuple[str, str]], *, until: str) -> tuple[Version, ...]:
    """The versions of a history of texts: each text once, in the order in which they came first.

    A text that came back (a revert) was the incumbent for all its periods together.

    Args:
        moments: Pairs of a digest and since when it was in (ISO 8601), oldest first.
        until: Now.
    """
    steps = [one for n, one in enumerate(moments) if n == 0 or one[0] != moments[n - 1][0]]
    ends = [since for _, since in [*steps[1:], ("", until)]][: len(steps)]
    first: dict[str, str] = {}
    seconds: dict[str, float] = defaultdict(float)
    for (name, since), end in zip(steps, ends, strict=True):
        first.setdefault(name, since)
        passed = datetime.fromisoformat(end) - datetime.fromisoformat(since)
        seconds[name] += max(0.0, passed.total_seconds())
    newest = steps[-1][0] if steps else None
    return tuple(
        Version(digest=name, since=since, seconds=seconds[name], current=name == newest)
        for name, since in first.items()
    )
