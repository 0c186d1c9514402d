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
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from skill_ratchet.core import wording
from skill_ratchet.core.records import Digest, Record, UnitInterval, canonical_json
from skill_ratchet.core.scoring import similarity
from skill_ratchet.report import sparklines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from skill_ratchet.core.looks import Confirmation
    from skill_ratchet.core.records import Answers, Correction, Experiment, Landing, Result, Shipped

Z: Final = 1.959963984540054  # of a two-sided interval of 95%
DAY: Final = 86_400  # seconds
LONGEST: Final = 50_000  # characters of a text that is compared
EDITED: Final = "shipped_edited"  # reason of what a person changed and merged
REJECTED: Final = "rejected"  # reason of what a person did not want

T = TypeVar("T")


class TextVersion(Record):
    """A text that was the incumbent, from ``since`` on (ISO 8601); ``seconds`` in all."""

    digest: Digest
    since: str
    seconds: float
    current: bool = False


class RateInterval(Record):
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


class VersionRow(Record):
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
    interval: RateInterval | None
    per_day: float | None
    answer_similarity: UnitInterval | None
    correction_similarity: UnitInterval | None
    fate: Fate
    train: UnitInterval | None
    holdout: UnitInterval | None  # mean over all looks against it
    completion: UnitInterval | None  # cases that a program found done, of those it looked at
    completion_cases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
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

    versions: Sequence[TextVersion] = ()
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


def rows(facts: Sources) -> tuple[VersionRow, ...]:
    """One row a version, oldest first, and last what belongs to none of them, if there is any."""
    known = {version.digest for version in facts.versions}
    corrections = _by_version(((one.version, one) for one in facts.corrections), known)
    answers = _by_version(((one.version, one) for one in facts.answers), known)
    bots = [one for one in facts.experiments if one.setting.proposer != facts.person]
    against = _by_version(((one.parent, one) for one in bots), known)
    origins = _origins(facts)
    found: list[tuple[str | None, TextVersion | None]] = [
        (one.digest, one) for one in facts.versions
    ]
    if corrections[None] or answers[None] or against[None]:
        found.append((None, None))
    return tuple(
        _row(
            facts,
            version,
            origin=origins[name],
            corrections=corrections[name],
            answers=answers[name],
            against=against[name],
        )
        for name, version in found
    )


def _by_version(
    pairs: Iterable[tuple[str | None, T]], known: set[str]
) -> dict[str | None, list[T]]:
    groups: dict[str | None, list[T]] = defaultdict(list)
    for version, one in pairs:
        groups[version if version in known else None].append(one)
    return groups


def _origins(facts: Sources) -> dict[str | None, Origin]:
    """Where each text came from; one that came back has the origin it had at first."""
    made: dict[str, Origin] = {}
    for one in facts.experiments:
        result, shipped = facts.results.get(one.id), facts.shipped.get(one.id)
        if result and result.action == "merge" and one.candidate:
            made.setdefault(one.candidate, ("experiment", one.number))
        elif result and result.reason == EDITED and shipped:
            made.setdefault(shipped.shipped, ("edited", one.number))
    origins: dict[str | None, Origin] = {None: ("not known", None)}
    for version in facts.versions:
        first: Origin = ("first", None) if len(origins) == 1 else ("by hand", None)
        origins[version.digest] = made.get(version.digest, first)
    return origins


def _row(
    facts: Sources,
    version: TextVersion | None,
    *,
    origin: Origin,
    corrections: Sequence[Correction],
    answers: Sequence[Answers],
    against: Sequence[Experiment],
) -> VersionRow:
    name = version.digest if version else ""
    seen, corrected = sum(one.answers for one in answers), sum(one.corrected for one in answers)
    days = version.seconds / DAY if version else None
    judged, done = facts.done.get(name, (0, 0))
    return VersionRow(
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


def _fate(facts: Sources, against: Sequence[Experiment]) -> Fate:
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


def _train(
    facts: Sources, version: TextVersion | None, against: Sequence[Experiment]
) -> float | None:
    """As the last experiment against it found it; else its kept runs; else those it won by."""
    if version is None:
        return None
    done = [facts.results[one.id] for one in against if one.id in facts.results]
    each = [one.baseline if one.cases else one.train.sweeps and one.train.incumbent for one in done]
    measured = [mean for mean, one in zip(each, done, strict=True) if one.cases or one.train.sweeps]
    if measured:
        return measured[-1]
    if version.digest in facts.kept:
        return facts.kept[version.digest]
    won = [
        facts.results[one.id].train.candidate
        for one in facts.experiments
        if one.candidate == version.digest
        and one.id in facts.results
        and facts.results[one.id].train.sweeps  # a few pairs measure nothing
    ]
    return next((value for value in reversed(won) if value is not None), None)


def _holdout(facts: Sources, version: TextVersion | None) -> float | None:
    """Mean of its fresh runs in every look at the holdout that was made against it."""
    scores = [
        pair.incumbent
        for look in facts.looks
        if version and look.parent == version.digest and look.evidence
        for pair in look.evidence.confirm
    ]
    return fmean(scores) if scores else None


def wilson(hits: int, of: int) -> RateInterval:
    """The 95% interval of a share by Wilson's score method (1927); ``of`` is at least 1."""
    share, square = hits / of, Z * Z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = Z / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    # At the ends the interval is closed; without this it would miss them by a rounding error.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return RateInterval(low=low, high=1.0 if hits == of else min(1.0, middle + half))


def lasted(moments: Sequence[tuple[str, str]], *, until: str) -> tuple[TextVersion, ...]:
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
        TextVersion(digest=name, since=since, seconds=seconds[name], current=name == newest)
        for name, since in first.items()
    )


# For people -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows of one skill, oldest first."""

    skill: str
    branch: str
    rows: tuple[VersionRow, ...]


def document(done: Measured) -> dict[str, Any]:
    """The rows as plain JSON values, with what follows from them."""
    made = []
    for row in done.rows:
        more = {"first_pass": row.fate.first_pass, "shipped": row.fate.shipped}
        shown = row.model_dump(mode="json")
        made.append(shown | {"fate": shown["fate"] | more})
    return {"skill": done.skill, "branch": done.branch, "rows": made}


def name(row: VersionRow) -> str:
    """A version in a few words: where it came from; ``*`` is the one that is in now."""
    origins = {"experiment": f"exp {row.number}", "edited": f"exp {row.number}, edited"}
    return origins.get(row.origin, row.origin) + (" *" if row.current else "")


def of_use(row: VersionRow) -> tuple[str, ...]:
    """The first table's cells: what use shows."""
    rate = "-"
    if row.rate is not None and row.interval is not None:
        low, high = (f"{100 * end:.0f}" for end in (row.interval.low, row.interval.high))
        rate = f"{wording.percent(row.rate)} [{low}, {high}]"
    elif row.per_day is not None:
        rate = f"{row.per_day:.2g} a day"
    return (
        name(row),
        (row.since or "-")[:10],
        f"{row.answers:,}" if row.answers else "-",
        f"{row.corrections:,}",
        rate,
        wording.percent(row.answer_similarity),
        wording.percent(row.correction_similarity),
    )


def of_tests(row: VersionRow) -> tuple[str, ...]:
    """The second table's cells: what tests and reviews show."""
    fate = row.fate
    ended = any((fate.shipped, fate.rejected))
    return (
        name(row),
        wording.percent(row.train),
        wording.percent(row.holdout),
        wording.percent(row.completion),
        str(fate.shipped) if ended else "-",
        str(fate.edited) if ended else "-",
        str(fate.rejected) if ended else "-",
        wording.percent(fate.first_pass),
        wording.percent(fate.similarity),
    )


USE = ("version", "since", "answers", "corrections", "corrected", "kept", "alike")
TESTS = ("version", "train", "held-out", "done", "in", "edited", "no", "as is", "alike")
NOTES = (
    "corrected: share of the answers in logs, with its 95% interval; where there is no log, "
    "corrections a day. kept: how alike all answers in logs and what people made of them are; "
    "alike: the same of the answers that were corrected.\n"
    "in, edited, no: proposals against that version that went in, those of them that a person "
    "changed first, and those that a person turned down. as is: share that went in unchanged; "
    "alike: what was shipped and what was proposed."
)


def trends(rows: Sequence[VersionRow]) -> list[str]:
    """Lines that show how the versions compare, oldest first; none for a single one."""
    kept = [row for row in rows if row.digest is not None]
    series = {
        "train": [row.train for row in kept],
        "held-out": [row.holdout for row in kept],
        "corrected": [row.rate for row in kept],
    }
    return [
        f"{label:<9} {sparklines.spark(values, low=0, high=1)}  {_ends(values)}"
        for label, values in series.items()
        if sum(value is not None for value in values) > 1
    ]


def _ends(values: Sequence[float | None]) -> str:
    known = [wording.percent(value) for value in values if value is not None]
    return wording.arrow([known[0], known[-1]])
