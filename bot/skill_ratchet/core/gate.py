"""The merge decision: one pure function over facts that were gathered before it is called.

``decide`` is the only place that can answer 'merge'. Its policy is the numbered list in its
docstring; the code keeps that order and the first objection wins. ``docs/gate.md`` has one
heading per reason code.
"""

from __future__ import annotations

import math
from collections import Counter
from enum import StrEnum
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from skill_ratchet.core import draw
from skill_ratchet.core import evidence as stats
from skill_ratchet.core.records import Evidence, Pair, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skill_ratchet.core.evidence import Paired, Progress


class Action(StrEnum):
    """What to do with the candidate. ``hold`` decides nothing: it waits."""

    MERGE = "merge"
    HOLD = "hold"
    REJECT = "reject"


class Reason(StrEnum):
    """Why. One heading each in docs/gate.md."""

    HELD = "held"
    ALREADY_MERGED = "already_merged"
    STALE = "stale"
    LEAKS_HOLDOUT = "leaks_holdout"
    UNKNOWN = "unknown"
    EMPTY_SPLIT = "empty_split"
    FAILS_MORE = "fails_more"
    MISSING_SCORES = "missing_scores"
    BAD_EVIDENCE = "bad_evidence"
    TARGETS_MISSED = "targets_missed"
    SCREEN_OPEN = "screen_open"
    SCREEN_FAILED = "screen_failed"
    CONFIRM_OPEN = "confirm_open"
    LOSING = "losing"
    FUTILE = "futile"
    CAP_REACHED = "cap_reached"
    GUARD = "guard"
    NO_IMPROVEMENT = "no_improvement"
    BELOW_FLOOR = "below_floor"
    AWAITS_PERSON = "awaits_person"
    VETO_WINDOW = "veto_window"
    MERGE_REFUSED = "merge_refused"
    IMPROVED = "improved"


# Holds of a candidate that won. Any other hold is not about the candidate.
WAITS = frozenset({Reason.AWAITS_PERSON, Reason.VETO_WINDOW})


class Policy(Record):
    """What the repository's owner asked for in ``ratchet.yml`` (section ``gate``)."""

    rule: Literal["evidence", "improves"] = "evidence"
    merge: Literal["auto", "after", "manual"] = "auto"
    after: float = Field(default=0.0, ge=0)  # seconds of veto window, for merge 'after'
    alpha: float = Field(default=0.10, gt=0, le=0.5)
    k: float = Field(default=5.0, gt=0)
    confirm_effort: float = Field(default=1.0, gt=0, le=100)
    patience: Literal["default", "patient"] = "default"
    floor: float = Field(default=0.0, ge=0, le=1)


class Verdict(Record):
    """What to do, why, and the numbers behind it. ``detail`` is one sentence for a person."""

    action: Action
    reason: Reason
    detail: str
    version: int = 1  # of the rule that says so; records of before there were two have none
    attempt: int | None = None
    log_e: float | None = None
    log_bar: float | None = None
    path: tuple[float, ...] = ()  # log E at the end of each sweep (or block) of the confirm run
    false_merge_rate: float | None = None  # of rule 'improves', per decision
    errors: float | None = None  # standard errors to exceed, of a model that always answers alike


def decide(evidence: Evidence, policy: Policy) -> Verdict:
    """Decide whether a candidate is merged.

    1.  A person's hold stops everything; not knowing whether there is one does too.
    2.  An experiment is merged at most once.
    3.  The numbers must have been computed on what is there now: base, candidate, incumbent,
        fixtures, config, model and evaluator all agree, and so does the version of this rule.
        Otherwise wait.
    4.  A candidate in which held-out text was found is rejected.
    5.  The infrastructure did not fail the candidate significantly more often than the incumbent,
        nor one of its runs for ever: calls that are made again until they succeed are fair only
        while their failures have nothing to do with the skill.
    6.  Every run that should have a score has one. A missing score is not a score of zero.
    7.  If the train cases that the edit was meant to fix were tried first, one of them got
        better. That can only reject: the screen counts none of these runs.
    8.  The screen on train has passed: whole sweeps of the split, stopped when it settled, each
        pair against all runs of the incumbent that the rule asks for.
    9.  There is a holdout, the candidate was checked for its text, and how often it was
        consulted for this incumbent is known.
    10. Confirm runs are fresh (made for this experiment, each used once; only of a model that
        always answers the same the incumbent's are kept) and sweep the holdout, or the blocks of
        it that were drawn.
    11. The confirm run has reached its bar at the end of a block and passed the guard (rule
        'evidence'), or improved the mean with no fixture below its floor (rule 'improves').
    12. People may keep the last word: 'manual' waits for a release, 'after' for the window.
    13. Then, and only then, merge.

    Never raises for any evidence that is a valid record, and answers the same for the same facts.
    """
    objection = (
        _person(evidence)
        or _landed(evidence)
        or _binding(evidence)
        or _leak(evidence)
        or _failures(evidence)
        or _missing(evidence)
        or _targets(evidence)
        or _screen(evidence, policy)
        or _knowledge(evidence)
        or _freshness(evidence, policy)
        or _confirm(evidence, policy)
        or _patience(evidence, policy)
    )
    return objection or _merge(evidence, policy)


def out_of_date(evidence: Evidence) -> Verdict | None:
    """That what was tested is known not to be what is there now, whoever holds it; None otherwise.

    What is in is not out of date: it has changed the skill itself.
    """
    objection = _landed(evidence) or _binding(evidence)
    return objection if objection and objection.reason is Reason.STALE else None


def missed(targeted: Sequence[Pair]) -> bool:
    """Whether the cases an edit was meant to fix were tried and none of them got better."""
    return bool(targeted) and not any(pair.difference > 0 for pair in targeted)


def screen_progress(
    pairs: Sequence[Paired],
    *,
    fixtures: int,
    policy: Policy,
    deterministic: bool,
    holdout: int | None = None,
    scores: Mapping[str, float] = stats.NO_SCORES,
) -> Progress:
    """Where the screen on train stands; the loop stops running when this is settled.

    ``scores`` are the incumbent's, by fixture, where they are known: those its pairs will have.
    ``holdout`` is how many fixtures that has, None or 0 where it is not known.
    """
    if policy.rule == "improves":
        return stats.improves(pairs, fixtures=fixtures, whole=False, scores=scores)
    return stats.screen(
        pairs,
        fixtures=fixtures,
        patience=stats.PATIENCE[policy.patience],
        deterministic=deterministic,
        holdout=holdout or None,
    )


def confirm_progress(
    pairs: Sequence[Paired],
    *,
    fixtures: int,
    attempt: int,
    policy: Policy,
    deterministic: bool,
    train: Sequence[Paired] = (),
) -> Progress:
    """Where the confirm run on the holdout stands; the loop stops when this is settled.

    ``train`` has the screen's pairs, which count where runs are deterministic.
    """
    if policy.rule == "improves":
        return stats.improves(pairs, fixtures=fixtures, floor=policy.floor)
    return stats.confirm(
        pairs,
        fixtures=fixtures,
        error_level=stats.level(attempt, alpha=policy.alpha, k=policy.k),
        effort=policy.confirm_effort,
        patience=stats.PATIENCE[policy.patience],
        deterministic=deterministic,
        train=train,
    )


def block_size(fixtures: int, *, policy: Policy, deterministic: bool) -> int:
    """Pairs of a confirm run between two looks at its bar: a block, or a whole sweep."""
    if policy.rule == "improves" or deterministic:
        return fixtures
    return stats.block_size(fixtures)


def kept_runs(*, fixtures: int, sweep: int, policy: Policy, deterministic: bool) -> int:
    """Kept runs of the incumbent that a pair of the screen is compared with, at least."""
    if policy.rule == "improves" or deterministic:
        return 1
    return stats.kept_runs(fixtures=fixtures, sweep=sweep)


def most_pairs(*, fixtures: int, attempt: int | None, policy: Policy, deterministic: bool) -> int:
    """The most pairs a screen (``attempt`` None) or a confirm run may take."""
    if policy.rule == "improves" or deterministic:
        return fixtures
    if attempt is None:
        return stats.SCREEN_CAP
    error_level = stats.level(attempt, alpha=policy.alpha, k=policy.k)
    return stats.confirm_cap(error_level, fixtures=fixtures, effort=policy.confirm_effort)


def fewest_pairs(*, fixtures: int, attempt: int, policy: Policy, deterministic: bool) -> int:
    """The fewest pairs, in whole blocks, after which a confirm run may be hoped to be a merge."""
    most = most_pairs(
        fixtures=fixtures, attempt=attempt, policy=policy, deterministic=deterministic
    )
    if policy.rule == "improves" or deterministic:
        return most
    log_bar = -math.log(stats.level(attempt, alpha=policy.alpha, k=policy.k))
    return min(most, stats.fewest_pairs(log_bar, fixtures=fixtures))


# The policy, in its order ---------------------------------------------------------------------


def _person(evidence: Evidence) -> Verdict | None:
    if evidence.held is None:
        return _hold(Reason.UNKNOWN, "It is not known whether a person asked to hold.")
    return _hold(Reason.HELD, "A person asked to hold.") if evidence.held else None


def _landed(evidence: Evidence) -> Verdict | None:
    if evidence.landed is None:
        return _hold(Reason.UNKNOWN, "It is not known whether this experiment was merged before.")
    if evidence.landed:
        return _hold(Reason.ALREADY_MERGED, "This experiment was merged before.")
    return None


def _binding(evidence: Evidence) -> Verdict | None:
    if evidence.tested is None or evidence.current is None:
        return _hold(Reason.UNKNOWN, "What was tested, or what is there now, is not known.")
    if changed := evidence.tested.differing(evidence.current):
        return _hold(Reason.STALE, f"Changed since the runs: {', '.join(changed)}.")
    if evidence.version != stats.VERSION:
        versions = f"version {evidence.version}, now {stats.VERSION}"
        return _hold(Reason.STALE, f"Changed since the runs: the gate's rule ({versions}).")
    return None


def _leak(evidence: Evidence) -> Verdict | None:
    if evidence.leaks:
        return _reject(Reason.LEAKS_HOLDOUT, "The candidate repeats text of held-out cases.")
    return None


def _failures(evidence: Evidence) -> Verdict | None:
    failed = evidence.failed
    if failed is None:
        return _hold(Reason.UNKNOWN, "How often calls failed on each side is not known.")
    if stats.fails_more(candidate=failed.candidate, incumbent=failed.incumbent):
        counts = f"{failed.candidate} of its calls failed alone, {failed.incumbent} of the other's"
        return _reject(Reason.FAILS_MORE, f"Calls fail more often with the candidate: {counts}.")
    if failed.stuck >= stats.MOST_TRIES:
        detail = f"A call with the candidate failed {failed.stuck} times, and always."
        return _reject(Reason.FAILS_MORE, detail)
    return None


def _missing(evidence: Evidence) -> Verdict | None:
    if evidence.missing:
        return _hold(Reason.MISSING_SCORES, f"Runs without a score: {evidence.missing}.")
    return None


def _targets(evidence: Evidence) -> Verdict | None:
    filtered = {pair.candidate_run for pair in evidence.targeted}
    counted = {pair.candidate_run for pair in evidence.screen}
    # Of a deterministic model they are the same runs by declaration.
    if not evidence.deterministic and not filtered.isdisjoint(counted):
        return _hold(Reason.BAD_EVIDENCE, "The screen counted a run that was a filter before.")
    if not missed(evidence.targeted):
        return None
    count = len(evidence.targeted)
    detail = "The case it was meant to fix did not get better."
    if count > 1:
        detail = f"None of the {count} cases it was meant to fix got better."
    return _reject(Reason.TARGETS_MISSED, detail)


def _knowledge(evidence: Evidence) -> Verdict | None:
    if not evidence.holdout_fixtures:
        return _hold(Reason.EMPTY_SPLIT, "The holdout split has no fixtures.")
    if evidence.leaks is None:
        return _hold(Reason.UNKNOWN, "The candidate was not checked for held-out text.")
    if evidence.attempt is None:
        return _hold(Reason.UNKNOWN, "How often the holdout was consulted is not known.")
    return None


def _freshness(evidence: Evidence, policy: Policy) -> Verdict | None:
    runs = [run for pair in evidence.confirm for run in (pair.incumbent_run, pair.candidate_run)]
    # Made again, a run of a deterministic model would be the same run.
    fresh = {evidence.experiment, ""} if evidence.deterministic else {evidence.experiment}
    if any(pair.made_for not in fresh or pair.more_runs for pair in evidence.confirm):
        return _hold(Reason.BAD_EVIDENCE, "A confirm run was made for another experiment.")
    on_train = (*evidence.targeted, *evidence.screen)
    kept = {run for pair in on_train for run in (*pair.incumbent_runs, pair.candidate_run)}
    if len(set(runs)) != len(runs) or not kept.isdisjoint(runs):
        return _hold(Reason.BAD_EVIDENCE, "A confirm run was counted twice.")
    if not set(evidence.train_fixtures).isdisjoint(evidence.holdout_fixtures):
        return _hold(Reason.BAD_EVIDENCE, "A fixture is in train and in the holdout.")
    fixtures = evidence.holdout_fixtures
    size = block_size(len(fixtures), policy=policy, deterministic=evidence.deterministic)
    return _sweeps(evidence.confirm, fixtures, size=size, split="holdout") or _drawn(
        evidence, size=size
    )


def _drawn(evidence: Evidence, *, size: int) -> Verdict | None:
    """Blocks of a large holdout are those that were drawn: nobody has chosen them."""
    fixtures, pairs = evidence.holdout_fixtures, evidence.confirm
    if size == len(fixtures):
        return None
    if evidence.seed is None:
        return _hold(Reason.UNKNOWN, "The seed that the blocks were drawn with is not known.")
    seed = draw.seed_of(evidence.seed, evidence.experiment, "holdout")
    for number, start in enumerate(range(0, len(pairs), size)):
        planned = draw.block(fixtures, seed=seed, number=number, size=size)
        made = [pair.fixture for pair in pairs[start : start + size]]
        if made != [one.fixture for one in planned][: len(made)]:
            return _hold(Reason.BAD_EVIDENCE, "A block is not the one that was drawn.")
    return None


def _sweeps(
    pairs: Sequence[Pair], fixtures: Sequence[str], *, size: int, split: str
) -> Verdict | None:
    if not fixtures:
        return _hold(Reason.EMPTY_SPLIT, f"The {split} split has no fixtures.")
    problem = _sweep_problem(pairs, fixtures, size=size)
    return _hold(Reason.BAD_EVIDENCE, problem) if problem else None


def _sweep_problem(pairs: Sequence[Pair], fixtures: Sequence[str], *, size: int) -> str | None:
    """Sweeps (or blocks) come whole and in order, each with ``size`` fixtures exactly once."""
    for start in range(0, len(pairs), size):
        sweep = pairs[start : start + size]
        names = Counter(pair.fixture for pair in sweep)
        if set(names) - set(fixtures) or max(names.values()) > 1:
            return "A sweep has a fixture twice, or one that is not in its split."
        if {pair.sweep for pair in sweep} != {start // size}:
            return "Pairs are out of order."
    return None


def _kept_problem(evidence: Evidence, policy: Policy) -> str | None:
    """A screen's pairs count every kept run that the rule asks for, of one case each, once."""
    used: dict[str, tuple[str, ...]] = {}  # by case
    fixtures, deterministic = len(evidence.train_fixtures), evidence.deterministic
    for pair in evidence.screen:
        runs, before = pair.incumbent_runs, used.get(pair.fixture, ())
        least = kept_runs(
            fixtures=fixtures, sweep=pair.sweep, policy=policy, deterministic=deterministic
        )
        if len(runs) < least or len(set(runs)) < len(runs) or runs[: len(before)] != before:
            return "A pair of the screen leaves out a kept run of the incumbent, or has one twice."
        used[pair.fixture] = runs
    every = [run for runs in used.values() for run in runs]
    every += [pair.candidate_run for pair in evidence.screen]
    return "A run of the screen was counted twice." if len(set(every)) < len(every) else None


def _screen(evidence: Evidence, policy: Policy) -> Verdict | None:
    fixtures = evidence.train_fixtures
    if objection := _sweeps(evidence.screen, fixtures, size=len(fixtures), split="train"):
        return objection
    if problem := _kept_problem(evidence, policy):
        return _hold(Reason.BAD_EVIDENCE, problem)
    progress = screen_progress(
        evidence.screen,
        fixtures=len(fixtures),
        policy=policy,
        deterministic=evidence.deterministic,
        holdout=len(evidence.holdout_fixtures),
        scores=dict(zip(fixtures, evidence.train_scores, strict=False)),
    )
    if progress.pairs != len(evidence.screen):
        return _hold(Reason.BAD_EVIDENCE, "The screen went on after it was settled.")
    if progress.state is stats.State.PASS:
        return None
    if progress.state is stats.State.DROP:
        return _reject(Reason.SCREEN_FAILED, _screen_in_words(evidence.screen, progress))
    return _hold(Reason.SCREEN_OPEN, "The screen on train is not finished.")


def _screen_in_words(pairs: Sequence[Pair], progress: Progress) -> str:
    points = 100 * fmean(pair.difference for pair in pairs)
    why = {
        stats.Cause.LOSING: "it was losing",
        stats.Cause.FUTILE: "it could no longer pass",
        stats.Cause.CAP_REACHED: "still undecided, and it may take no more",
        stats.Cause.NO_IMPROVEMENT: f"more than {100 * progress.log_bar:.1f} were needed",
    }
    ended = why.get(progress.cause, progress.cause.value)
    return f"On train {len(pairs)} pairs came to {points:+.1f} points: {ended}."


def _confirm(evidence: Evidence, policy: Policy) -> Verdict | None:
    progress = _confirmation(evidence, policy)
    if progress.pairs != len(evidence.confirm):
        return _hold(Reason.BAD_EVIDENCE, "The confirm run went on after it was settled.")
    if progress.state is stats.State.PASS:
        return None
    numbers = _numbers(evidence, policy)
    if progress.state is stats.State.DROP:
        reason = Reason(progress.cause.value)
        return _reject(reason, f"The confirm run ended: {progress.cause.value}.").with_(**numbers)
    return _hold(Reason.CONFIRM_OPEN, "The confirm run is not finished.").with_(**numbers)


def _patience(evidence: Evidence, policy: Policy) -> Verdict | None:
    if evidence.released or policy.merge == "auto":
        return None
    numbers = _numbers(evidence, policy)
    if policy.merge == "manual":
        return _hold(Reason.AWAITS_PERSON, "Improved; a person merges it.").with_(**numbers)
    if evidence.age is None or evidence.age < policy.after:
        left = policy.after - (evidence.age or 0.0)
        detail = f"Improved; merges by itself in {math.ceil(left)} s unless somebody objects."
        return _hold(Reason.VETO_WINDOW, detail).with_(**numbers)
    return None


def _merge(evidence: Evidence, policy: Policy) -> Verdict:
    return Verdict(
        action=Action.MERGE,
        reason=Reason.IMPROVED,
        detail="The held-out metric improved.",
        version=stats.VERSION,
        **_numbers(evidence, policy),
    )


def _confirmation(evidence: Evidence, policy: Policy) -> Progress:
    assert evidence.attempt is not None  # noqa: S101 - _knowledge objects first
    return confirm_progress(
        evidence.confirm,
        fixtures=len(evidence.holdout_fixtures),
        attempt=evidence.attempt,
        policy=policy,
        deterministic=evidence.deterministic,
        train=evidence.screen,
    )


def _numbers(evidence: Evidence, policy: Policy) -> dict[str, object]:
    progress = _confirmation(evidence, policy)
    rate = None
    if policy.rule == "improves":
        rate = stats.false_merge_rate([pair.difference for pair in evidence.confirm])
    return {
        "attempt": evidence.attempt,
        "log_e": progress.log_e,
        "log_bar": progress.log_bar,
        "path": progress.path,
        "false_merge_rate": rate,
        "errors": progress.errors,
    }


def _hold(reason: Reason, detail: str) -> Verdict:
    return Verdict(action=Action.HOLD, reason=reason, detail=detail, version=stats.VERSION)


def _reject(reason: Reason, detail: str) -> Verdict:
    return Verdict(action=Action.REJECT, reason=reason, detail=detail, version=stats.VERSION)
