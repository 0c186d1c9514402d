"""The merge decision: a case that merges, and everything that must keep one from merging."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skill_ratchet.core import draw
from skill_ratchet.core import evidence as stats
from skill_ratchet.core.evidence import State
from skill_ratchet.core.gate import (
    Action,
    Policy,
    Reason,
    Verdict,
    confirm_progress,
    decide,
    out_of_date,
    screen_progress,
)
from skill_ratchet.core.records import NO_FAILED_CALLS, Binding, Evidence, FailedCalls, Pair, digest
from skill_ratchet.experiment import proposer
from skill_ratchet.experiment.plan import sweeps
from skill_ratchet.github import pull_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE = Path(__file__).parents[2] / "docs" / "gate.md"
EXPERIMENT, OTHER = digest("experiment"), digest("another experiment")
TRAIN = ("t1", "t2", "t3", "t4", "t5")
HOLDOUT = ("h1", "h2", "h3", "h4", "h5")
AUTO = Policy()
IMPROVES = Policy(rule="improves")


def make_binding(**changes: Any) -> Binding:
    base = {
        "base": "c0ffee",
        "head": digest("candidate"),
        "skill": digest("incumbent"),
        "fixtures": digest("fixtures"),
        "config": digest("config"),
        "model": digest("model"),
        "evaluator": "0.1.0",
    }
    return Binding.model_validate(base | changes)


def make_pairs(
    differences: Sequence[float], fixtures: Sequence[str], *, made_for: str = "", kept: int = 0
) -> tuple[Pair, ...]:
    """Pairs in order, sweep after sweep, every run with an id of its own.

    With ``kept`` a case has so many runs of the incumbent, in all of its pairs.
    """
    n = len(fixtures)
    return tuple(
        Pair(
            fixture=fixtures[k % len(fixtures)],
            cluster=fixtures[k % len(fixtures)],
            sweep=k // len(fixtures),
            incumbent=max(0.0, -d),
            candidate=max(0.0, d),
            incumbent_run=f"{fixtures[0]}-incumbent-{k % n if kept else k}",
            candidate_run=f"{fixtures[0]}-candidate-{k}",
            made_for=made_for,
            more_runs=tuple(f"{fixtures[0]}-incumbent-{k % n}.{m}" for m in range(1, kept)),
        )
        for k, d in enumerate(differences)
    )


def screened(*differences: float) -> tuple[Pair, ...]:
    return make_pairs(differences, TRAIN, kept=16)


def confirmed(*differences: float) -> tuple[Pair, ...]:
    return make_pairs(differences, HOLDOUT, made_for=EXPERIMENT)


def make_evidence(**changes: Any) -> Evidence:
    """Evidence on which everything is in order: decide merges it."""
    base = {
        "experiment": EXPERIMENT,
        "tested": make_binding(),
        "current": make_binding(),
        "held": False,
        "landed": False,
        "leaks": (),
        "version": 2,
        "seed": 0,
        "deterministic": False,
        "train_fixtures": TRAIN,
        "holdout_fixtures": HOLDOUT,
        "train_scores": (),
        "screen": screened(*[1] * 10),
        "confirm": confirmed(*[1] * 30),
        "targeted": (),
        "missing": 0,
        "failed": NO_FAILED_CALLS,
        "attempt": 1,
        "age": 0.0,
        "released": False,
    }
    return Evidence.model_validate(base | changes)


def failing(candidate: int, incumbent: int = 0, *, stuck: int = 0) -> FailedCalls:
    return FailedCalls(candidate=candidate, incumbent=incumbent, stuck=stuck)


def one_sweep(**changes: Any) -> Evidence:
    """The same for rules that settle after one sweep of each split."""
    return make_evidence(
        **{"screen": screened(*[1] * 5), "confirm": confirmed(1, 1, 1, 0, 1)} | changes
    )


def improved(**changes: Any) -> Evidence:
    """The same for the rule 'improves', whose screen ends when two losses would not undo it."""
    return one_sweep(**{"screen": screened(1, 1, 1)} | changes)


# What merges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "policy"),
    [
        pytest.param(make_evidence(), AUTO, id="evidence"),
        pytest.param(make_evidence(attempt=2), AUTO, id="a later attempt"),
        pytest.param(make_evidence(age=None), AUTO, id="age does not matter to auto"),
        pytest.param(one_sweep(deterministic=True), AUTO, id="deterministic"),
        pytest.param(improved(), IMPROVES, id="improves"),
        pytest.param(
            make_evidence(released=True), Policy(merge="manual"), id="released by a person"
        ),
        pytest.param(make_evidence(age=60.0), Policy(merge="after", after=60), id="window over"),
        pytest.param(
            make_evidence(age=1.0, released=True),
            Policy(merge="after", after=60),
            id="window cut short by a person",
        ),
        pytest.param(
            make_evidence(confirm=confirmed(1, 1, 0, 0, 0, 1, 1, 0, 0, -1, *[1, 1, 0, 0, 0] * 8)),
            AUTO,
            id="mixed outcomes",
        ),
    ],
)
def test_merges(evidence: Evidence, policy: Policy) -> None:
    verdict = decide(evidence, policy)
    assert (verdict.action, verdict.reason) == (Action.MERGE, Reason.IMPROVED)


def test_a_merge_tells_its_numbers() -> None:
    verdict = decide(make_evidence(attempt=2), AUTO)
    assert verdict.attempt == 2
    assert verdict.log_bar == pytest.approx(math.log(84))
    stakes = [0.1 / ((5 * k + 8 / 3) / (5 * k + 8)) for k in range(6)]
    assert verdict.log_e == pytest.approx(sum(5 * math.log1p(stake) for stake in stakes))
    assert verdict.log_e == verdict.path[-1]
    assert len(verdict.path) == 6
    assert verdict.version == 2
    assert verdict.false_merge_rate is None


def test_improves_tells_how_often_it_is_wrong() -> None:
    """Of 16 ways to choose the signs of four decisive pairs, 5 have a positive sum."""
    verdict = decide(improved(), IMPROVES)
    assert verdict.false_merge_rate == pytest.approx(5 / 16)


# What does not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "action", "reason"),
    [
        ({"held": True}, Action.HOLD, Reason.HELD),
        ({"held": None}, Action.HOLD, Reason.UNKNOWN),
        ({"landed": True}, Action.HOLD, Reason.ALREADY_MERGED),
        ({"landed": None}, Action.HOLD, Reason.UNKNOWN),
        ({"tested": None}, Action.HOLD, Reason.UNKNOWN),
        ({"current": None}, Action.HOLD, Reason.UNKNOWN),
        ({"current": make_binding(base="d0d0")}, Action.HOLD, Reason.STALE),
        ({"leaks": ("a held-out phrase",)}, Action.REJECT, Reason.LEAKS_HOLDOUT),
        ({"leaks": None}, Action.HOLD, Reason.UNKNOWN),
        ({"missing": 1}, Action.HOLD, Reason.MISSING_SCORES),
        ({"failed": None}, Action.HOLD, Reason.UNKNOWN),
        ({"failed": failing(9)}, Action.REJECT, Reason.FAILS_MORE),
        ({"failed": failing(9), "missing": 1}, Action.REJECT, Reason.FAILS_MORE),
        ({"failed": failing(0, stuck=10)}, Action.REJECT, Reason.FAILS_MORE),
        ({"train_fixtures": ()}, Action.HOLD, Reason.EMPTY_SPLIT),
        ({"holdout_fixtures": ()}, Action.HOLD, Reason.EMPTY_SPLIT),
        (
            {"holdout_fixtures": (), "confirm": (), "attempt": None},
            Action.HOLD,
            Reason.EMPTY_SPLIT,
        ),
        ({"screen": ()}, Action.HOLD, Reason.SCREEN_OPEN),
        ({"screen": screened(*[1] * 9)}, Action.HOLD, Reason.SCREEN_OPEN),
        ({"screen": screened(-1, -1)}, Action.REJECT, Reason.SCREEN_FAILED),
        ({"screen": screened(*[1] * 11)}, Action.HOLD, Reason.BAD_EVIDENCE),
        ({"attempt": None}, Action.HOLD, Reason.UNKNOWN),
        ({"attempt": 10}, Action.HOLD, Reason.CONFIRM_OPEN),
        ({"confirm": ()}, Action.HOLD, Reason.CONFIRM_OPEN),
        ({"confirm": confirmed(*[1] * 29)}, Action.HOLD, Reason.CONFIRM_OPEN),
        ({"confirm": confirmed(*[1] * 31)}, Action.HOLD, Reason.BAD_EVIDENCE),
        ({"confirm": confirmed(*[-1] * 5)}, Action.REJECT, Reason.LOSING),
        ({"confirm": confirmed(*[0] * 77)}, Action.REJECT, Reason.FUTILE),
        ({"confirm": confirmed(*[1, 0, 0, 0, 0] * 12)}, Action.REJECT, Reason.GUARD),
        (
            {"confirm": tuple(p.with_(cluster="same") for p in confirmed(*[1] * 30))},
            Action.REJECT,
            Reason.GUARD,
        ),
    ],
)
def test_does_not_merge(changes: dict[str, Any], action: Action, reason: Reason) -> None:
    verdict = decide(make_evidence(**changes), AUTO)
    assert (verdict.action, verdict.reason) == (action, reason)
    assert verdict.detail.endswith(".")


LARGE = tuple(f"h{k:02}" for k in range(50))  # looked at in blocks of 20


def drawn(differences: Sequence[float], *, seed: int = 0) -> tuple[Pair, ...]:
    """A confirm run on the large holdout, in the blocks that the seed draws."""
    planned = sweeps(LARGE, seed=draw.seed_of(seed, EXPERIMENT, "holdout"), size=20)
    pairs = make_pairs(differences, LARGE, made_for=EXPERIMENT)
    return tuple(
        pair.with_(fixture=one.fixture, cluster=one.fixture, sweep=one.sweep)
        for pair, one in zip(pairs, planned, strict=False)
    )


def large(**changes: Any) -> Evidence:
    return make_evidence(**{"holdout_fixtures": LARGE, "confirm": drawn([1] * 20)} | changes)


def test_a_large_holdout_is_looked_at_in_blocks() -> None:
    """A block of 20 wins is enough: the other 30 cases need not be run."""
    verdict = decide(large(), AUTO)
    assert (verdict.action, len(verdict.path)) == (Action.MERGE, 1)
    later = decide(large(confirm=drawn([*[1, 0] * 10, *[1] * 20])), AUTO)
    assert (later.action, len(later.path)) == (Action.MERGE, 2)


def other_block() -> tuple[Pair, ...]:
    """A block with a case that was not drawn, in place of one that was."""
    pairs = drawn([1] * 20)
    spare = next(name for name in LARGE if name not in {pair.fixture for pair in pairs})
    return (pairs[0].with_(fixture=spare, cluster=spare), *pairs[1:])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"confirm": drawn([1] * 19)}, Reason.CONFIRM_OPEN),
        ({"confirm": drawn([1] * 20, seed=1)}, Reason.BAD_EVIDENCE),
        ({"confirm": other_block()}, Reason.BAD_EVIDENCE),
        ({"confirm": drawn([1] * 40)}, Reason.BAD_EVIDENCE),
        ({"confirm": drawn([1] * 40)[20:]}, Reason.BAD_EVIDENCE),
        ({"confirm": (*drawn([1] * 19), drawn([1] * 20)[0])}, Reason.BAD_EVIDENCE),
        ({"confirm": make_pairs([1] * 50, LARGE, made_for=EXPERIMENT)}, Reason.BAD_EVIDENCE),
        ({"seed": 1}, Reason.BAD_EVIDENCE),
        ({"seed": None}, Reason.UNKNOWN),
    ],
    ids=[
        "in the middle of a block",
        "drawn with another seed",
        "a case that was not drawn",
        "one block too many",
        "the first block left out",
        "a case twice",
        "a whole sweep",
        "another seed than is said",
        "no seed",
    ],
)
def test_no_other_block_than_the_one_that_was_drawn(
    changes: dict[str, Any], reason: Reason
) -> None:
    verdict = decide(large(**changes), AUTO)
    assert (verdict.action, verdict.reason) == (Action.HOLD, reason)


def test_the_cap_is_a_reason() -> None:
    """Above the bar inside the last block, below it at its end."""
    pairs = drawn([1.0] * 15 + [0.0] * 65 + [1.0] + [0.0] * 18 + [-1.0])
    verdict = decide(large(confirm=pairs), Policy(confirm_effort=0.12))
    assert (verdict.action, verdict.reason) == (Action.REJECT, Reason.CAP_REACHED)


def without_kept(*, at: int, runs: int) -> tuple[Pair, ...]:
    """The screen that passes, with so few kept runs in one pair."""
    pairs = list(screened(*[1] * 10))
    pairs[at] = pairs[at].with_(more_runs=pairs[at].more_runs[: runs - 1])
    return tuple(pairs)


@pytest.mark.parametrize(
    "screen",
    [
        without_kept(at=0, runs=15),
        without_kept(at=7, runs=1),
        make_pairs([1] * 10, TRAIN),
        tuple(p.with_(more_runs=(p.incumbent_run,) * 15) for p in screened(*[1] * 10)),
        tuple(p.with_(more_runs=screened(1)[0].more_runs) for p in screened(*[1] * 10)),
        (
            *screened(*[1] * 9),
            screened(*[1] * 10)[9].with_(more_runs=tuple(f"other-{k}" for k in range(15))),
        ),
        tuple(p.with_(incumbent_run=p.candidate_run) for p in screened(*[1] * 10)),
        tuple(p.with_(candidate_run="t1-candidate-0") for p in screened(*[1] * 10)),
    ],
    ids=[
        "one too few",
        "later one alone",
        "one run each",
        "one run many times",
        "those of another case",
        "other runs than before",
        "the candidate's own",
        "one run of the candidate for all",
    ],
)
def test_a_screen_counts_every_kept_run_once(screen: tuple[Pair, ...]) -> None:
    verdict = decide(make_evidence(screen=screen), AUTO)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.BAD_EVIDENCE)


def test_kept_held_out_runs_are_as_good_as_new_of_a_deterministic_model_alone() -> None:
    kept = make_pairs((1, 1, 1, 0, 1), HOLDOUT)
    assert decide(one_sweep(deterministic=True, confirm=kept), AUTO).action is Action.MERGE
    others = make_pairs((1, 1, 1, 0, 1), HOLDOUT, made_for=OTHER)
    for evidence in (
        one_sweep(deterministic=True, confirm=others),
        make_evidence(confirm=make_pairs([1] * 30, HOLDOUT)),
        improved(confirm=kept),
    ):
        policy = IMPROVES if len(evidence.screen) == 3 else AUTO
        assert decide(evidence, policy).reason is Reason.BAD_EVIDENCE


@pytest.mark.parametrize("wins", [(3, 3), (2, 4)])
def test_many_deterministic_cases_are_judged_together(wins: tuple[int, int]) -> None:
    names = [tuple(f"{split}{k:02}" for k in range(24)) for split in "th"]
    gains = [[1] * count + [0] * (24 - count) for count in wins]
    evidence = make_evidence(
        deterministic=True,
        train_fixtures=names[0],
        holdout_fixtures=names[1],
        screen=make_pairs(gains[0], names[0]),
        confirm=make_pairs(gains[1], names[1], made_for=EXPERIMENT),
    )
    verdict = decide(evidence, AUTO)
    assert verdict.action is (Action.MERGE if wins == (3, 3) else Action.REJECT)
    if verdict.action is Action.MERGE:
        assert verdict.errors == 2.5
        assert verdict.log_e == pytest.approx(6 / 48)


@pytest.mark.parametrize("version", [1, 3])
def test_no_verdict_is_made_of_runs_of_another_version_of_the_rule(version: int) -> None:
    """Also where everything else is what it was: what waits is dropped, and says why."""
    evidence = make_evidence(version=version)
    verdict = decide(evidence, AUTO)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.STALE)
    assert f"the gate's rule (version {version}, now 2)" in verdict.detail
    assert out_of_date(evidence) == verdict


@pytest.mark.parametrize(
    ("evidence", "policy", "action", "reason"),
    [
        (one_sweep(deterministic=True, confirm=confirmed(1, 0, 0, 0, 0)), AUTO, "reject", "n"),
        (one_sweep(deterministic=True, screen=screened(1, 1, 0, 0, 0)), AUTO, "reject", "s"),
        (one_sweep(deterministic=True, confirm=confirmed(1, 1, 1)), AUTO, "hold", "c"),
        (improved(confirm=confirmed(0, 0, 0, 0, 0)), IMPROVES, "reject", "n"),
        (improved(confirm=confirmed(1, 1, -1, -1, 0)), IMPROVES, "reject", "n"),
        (improved(confirm=confirmed(-1, -1, 0)), IMPROVES, "reject", "n"),
        (improved(confirm=confirmed(1, 1)), IMPROVES, "hold", "c"),
        (improved(confirm=confirmed(1, 1, 1, 1)), IMPROVES, "hold", "c"),  # settled, but mid-sweep
        (one_sweep(screen=screened(0, 0, 0, 0, 0)), IMPROVES, "reject", "s"),
        (
            improved(confirm=confirmed(1, 1, 1, 0)),
            Policy(rule="improves", floor=0.5),
            "reject",
            "f",
        ),
    ],
)
def test_does_not_merge_after_one_sweep(
    evidence: Evidence, policy: Policy, action: str, reason: str
) -> None:
    reasons = {
        "n": Reason.NO_IMPROVEMENT,
        "s": Reason.SCREEN_FAILED,
        "c": Reason.CONFIRM_OPEN,
        "f": Reason.BELOW_FLOOR,
    }
    verdict = decide(evidence, policy)
    assert (verdict.action, verdict.reason) == (action, reasons[reason])


@pytest.mark.parametrize("policy", [AUTO, IMPROVES])
def test_going_on_after_the_only_sweep_is_no_evidence(policy: Policy) -> None:
    """Sweeping again until the mean is up would always succeed."""
    lost = (-1, -1, -1, 1, 0)
    for changes in (
        {"confirm": confirmed(*lost, *[1] * 10)},
        {"screen": screened(*lost, *[1] * 10)},
        {"confirm": confirmed(*[1] * 10)},
    ):
        verdict = decide(one_sweep(deterministic=True, **changes), policy)
        assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.BAD_EVIDENCE)


@pytest.mark.parametrize(
    ("changes", "policy", "reason"),
    [
        ({}, Policy(merge="manual"), Reason.AWAITS_PERSON),
        ({"age": 1e9}, Policy(merge="manual"), Reason.AWAITS_PERSON),
        ({"age": 59.9}, Policy(merge="after", after=60), Reason.VETO_WINDOW),
        ({"age": None}, Policy(merge="after", after=60), Reason.VETO_WINDOW),
        ({"age": None}, Policy(merge="after", after=0), Reason.VETO_WINDOW),
    ],
)
def test_a_person_may_have_the_last_word(
    changes: dict[str, Any], policy: Policy, reason: Reason
) -> None:
    verdict = decide(make_evidence(**changes), policy)
    assert (verdict.action, verdict.reason) == (Action.HOLD, reason)
    assert verdict.log_e is not None


def test_the_veto_window_says_how_long() -> None:
    verdict = decide(make_evidence(age=10.0), Policy(merge="after", after=60))
    assert "50 s" in verdict.detail


# What must never merge, whatever else is in order ---------------------------------------------


def changed(*, at: int, **changes: Any) -> tuple[Pair, ...]:
    """The winning confirm run with one pair changed."""
    pairs = list(confirmed(*[1] * 30))
    pairs[at] = pairs[at].with_(**changes)
    return tuple(pairs)


NEVER: list[tuple[str, dict[str, Any]]] = [
    ("a missing score", {"missing": 1}),
    *(
        (f"stale {name}", {"current": make_binding(**{name: digest("changed")})})
        for name in Binding.model_fields
    ),
    *(
        (f"computed on another {name}", {"tested": make_binding(**{name: digest("changed")})})
        for name in Binding.model_fields
    ),
    ("a hold", {"held": True}),
    ("a hold that was released", {"held": True, "released": True}),
    *(
        (f"unknown {name}", {name: None})
        for name in ("tested", "current", "held", "landed", "leaks", "attempt")
    ),
    ("merged before", {"landed": True}),
    ("merged before, released", {"landed": True, "released": True}),
    ("leaked text", {"leaks": ("held-out text",)}),
    ("in the middle of a sweep", {"confirm": confirmed(*[1] * 29)}),
    ("one sweep and a bit", {"confirm": confirmed(*[1] * 32)}),
    ("no confirm run", {"confirm": ()}),
    ("no screen", {"screen": ()}),
    ("no train cases", {"train_fixtures": (), "screen": ()}),
    ("no held-out cases", {"holdout_fixtures": (), "confirm": ()}),
    ("a screen that lost", {"screen": screened(-1, -1)}),
    ("a screen that went on until it won", {"screen": screened(-1, -1, *[1] * 20)}),
    ("a candidate's run twice", {"confirm": changed(at=3, candidate_run="h1-candidate-0")}),
    ("an incumbent's run twice", {"confirm": changed(at=3, incumbent_run="h1-incumbent-0")}),
    ("a run on both sides", {"confirm": changed(at=3, incumbent_run="h1-candidate-3")}),
    ("a run of the screen", {"confirm": changed(at=3, candidate_run="t1-candidate-3")}),
    ("a kept run of the incumbent", {"confirm": changed(at=3, incumbent_run="t1-incumbent-3")}),
    ("a run for another experiment", {"confirm": changed(at=3, made_for=OTHER)}),
    ("a run for no experiment", {"confirm": changed(at=3, made_for="")}),
    ("all runs for another experiment", {"experiment": OTHER}),
    ("a case not in the split", {"confirm": changed(at=3, fixture="h9")}),
    ("a train case", {"confirm": changed(at=3, fixture="t1")}),
    ("a case twice in a sweep", {"confirm": changed(at=3, fixture="h1")}),
    ("a case twice in the split", {"holdout_fixtures": ("h1", "h1", "h2", "h3", "h4")}),
    ("more cases in the split than were run", {"holdout_fixtures": (*HOLDOUT, "h6")}),
    ("fewer cases in the split than were run", {"holdout_fixtures": HOLDOUT[:4]}),
    ("train as the holdout", {"holdout_fixtures": TRAIN}),
    (
        "a train case among the held-out ones",
        {
            "holdout_fixtures": (*HOLDOUT[:4], "t1"),
            "confirm": tuple(
                one.with_(fixture=one.fixture.replace("h5", "t1")) for one in confirmed(*[1] * 30)
            ),
        },
    ),
    ("a sweep out of order", {"confirm": changed(at=3, sweep=1)}),
    ("sweeps swapped", {"confirm": confirmed(*[1] * 30)[5:] + confirmed(*[1] * 30)[:5]}),
    ("a sweep left out", {"confirm": confirmed(*[1] * 35)[5:]}),
    ("the first sweep twice", {"confirm": confirmed(*[1] * 15) * 2}),
    ("the screen's sweeps out of order", {"screen": screened(*[1] * 10)[::-1]}),
    ("a held-out case in the screen", {"train_fixtures": (*TRAIN[:4], "h1")}),
    ("a confirm run that lost", {"confirm": confirmed(*[-1] * 5)}),
    ("a confirm run that went on until it won", {"confirm": confirmed(*[-1] * 5, *[1] * 50)}),
    ("one case alone", {"confirm": confirmed(*[1, 0, 0, 0, 0] * 12)}),
    ("runs of the first version of the rule", {"version": 1}),
    ("runs of one to come", {"version": 3}),
    ("a screen against one kept run each", {"screen": make_pairs([1] * 10, TRAIN)}),
    ("a bar that is not reached", {"attempt": 10}),
    ("the most attempts", {"attempt": 10**9}),
]


@pytest.mark.parametrize("changes", [pytest.param(row, id=name) for name, row in NEVER])
def test_never_merges(changes: dict[str, Any]) -> None:
    """Under no rule that reads this evidence, released or not."""
    for policy in (AUTO, Policy(merge="manual"), Policy(merge="after", after=0)):
        for released in (False, True):
            evidence = make_evidence(**{"released": released} | changes)
            assert decide(evidence, policy).action is not Action.MERGE


@pytest.mark.parametrize(
    "changes",
    [{"attempt": 0}, {"attempt": -1}, {"attempt": 10**10}, {"missing": -1}, {"age": -1.0}]
    + [{"age": value} for value in (math.nan, math.inf)]
    + [{"experiment": "short"}, {"surprise": 1}],
)
def test_evidence_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_evidence(**changes)


@pytest.mark.parametrize("name", ["alpha", "k", "confirm_effort", "floor", "after"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_policy_that_cannot_be(name: str, value: float) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.5, -0.5])
def test_numbers_that_are_no_scores_stay_out_of_evidence(value: float) -> None:
    """Also when they come in as data, past the construction of a pair."""
    data = make_evidence().model_dump()
    data["confirm"][0]["candidate"] = value
    with pytest.raises(ValidationError):
        Evidence.model_validate(data)


# The order of the policy ----------------------------------------------------------------------


def missed(*differences: float) -> tuple[Pair, ...]:
    return make_pairs(differences, ("t2", "t3"))


def spoil_freshness(evidence: Evidence) -> Evidence:
    spoilt = tuple(one.with_(made_for=OTHER) for one in evidence.confirm)
    return evidence.with_(confirm=spoilt)


def spoil_confirm(evidence: Evidence) -> Evidence:
    made_for = evidence.confirm[0].made_for
    return evidence.with_(confirm=make_pairs([-1] * 5, HOLDOUT, made_for=made_for))


OBJECTIONS: list[tuple[Reason, str, Callable[[Evidence], Evidence]]] = [
    (Reason.HELD, "A person", lambda e: e.with_(held=True)),
    (Reason.ALREADY_MERGED, "merged before", lambda e: e.with_(landed=True)),
    (Reason.STALE, "base", lambda e: e.with_(current=make_binding(base="d0d0"))),
    (Reason.LEAKS_HOLDOUT, "held-out", lambda e: e.with_(leaks=("x",))),
    (Reason.FAILS_MORE, "9 of its calls", lambda e: e.with_(failed=failing(9))),
    (Reason.MISSING_SCORES, "score: 2", lambda e: e.with_(missing=2)),
    (Reason.TARGETS_MISSED, "meant to fix", lambda e: e.with_(targeted=missed(0, -1))),
    (Reason.SCREEN_FAILED, "losing", lambda e: e.with_(screen=screened(-1, -1))),
    (Reason.UNKNOWN, "consulted", lambda e: e.with_(attempt=None)),
    (Reason.BAD_EVIDENCE, "another experiment", spoil_freshness),
    (Reason.LOSING, "losing", spoil_confirm),
    (Reason.AWAITS_PERSON, "a person", lambda e: e),  # always, by this policy
]


@pytest.mark.parametrize(("first", "second"), [*combinations(range(len(OBJECTIONS)), 2)])
def test_of_two_objections_the_earlier_is_named(first: int, second: int) -> None:
    """In the order of the numbered list in decide's docstring."""
    reason, detail, spoil = OBJECTIONS[first]
    evidence = spoil(OBJECTIONS[second][2](make_evidence()))
    verdict = decide(evidence, Policy(merge="manual"))
    assert verdict.reason is reason
    assert detail in verdict.detail


def test_the_policy_is_a_numbered_list() -> None:
    numbers = [int(n) for n in re.findall(r"^ *(\d+)\. ", decide.__doc__ or "", re.MULTILINE)]
    assert numbers == list(range(1, len(OBJECTIONS) + 2))


# Any evidence at all --------------------------------------------------------------------------

unit = st.sampled_from([0.0, 0.25, 1.0])
maybe = st.sampled_from([None, False, True])
few = st.integers(0, 3)
some_kept = st.sampled_from([0, 1, 16])


@st.composite
def any_pairs(some: st.DrawFn, names: tuple[str, ...]) -> tuple[Pair, ...]:
    """Pairs with no order or sense, or whole sweeps with random outcomes."""
    if some(st.booleans()):
        differences = some(st.lists(st.sampled_from([1, 1, 1, 0, -1, 0.5]), max_size=45))
        return make_pairs(differences, names, made_for=EXPERIMENT, kept=some(some_kept))
    return tuple(
        Pair(
            fixture=some(st.sampled_from([*names, "foreign"])),
            cluster=some(st.sampled_from(["a", "b"])),
            sweep=some(few),
            incumbent=some(unit),
            candidate=some(unit),
            incumbent_run=f"run-{some(few)}",
            candidate_run=f"run-{some(few)}",
            made_for=some(st.sampled_from(["", EXPERIMENT, OTHER])),
        )
        for _ in range(some(st.integers(0, 6)))
    )


@st.composite
def any_evidence(some: st.DrawFn) -> Evidence:
    """The case that merges with any of its facts replaced."""
    anything: dict[str, st.SearchStrategy[Any]] = {
        "experiment": st.sampled_from([EXPERIMENT, OTHER]),
        "tested": st.sampled_from([None, make_binding(), make_binding(base="d0d0")]),
        "current": st.sampled_from([None, make_binding(), make_binding(model=OTHER)]),
        "held": maybe,
        "landed": maybe,
        "leaks": st.sampled_from([None, (), ("x",)]),
        "deterministic": st.booleans(),
        "train_fixtures": st.sampled_from([(), TRAIN, TRAIN[:2], ("t1", "t1")]),
        "holdout_fixtures": st.sampled_from([(), HOLDOUT, HOLDOUT[:2], ("h1",), TRAIN]),
        "screen": st.one_of(
            st.just(screened(*[1] * 5)),
            st.just(screened(*[1] * 10)),
            any_pairs(TRAIN),
            any_pairs(TRAIN[:2]),
            any_pairs(HOLDOUT),
        ),
        "confirm": st.one_of(
            any_pairs(HOLDOUT), any_pairs(HOLDOUT[:2]), any_pairs(("h1",)), any_pairs(TRAIN)
        ),
        "version": st.sampled_from([1, 2, 2, 3]),
        "seed": st.sampled_from([None, 0, 1]),
        "missing": few,
        "attempt": st.one_of(st.none(), st.integers(1, 10), st.integers(1, 10**9)),
        "age": st.one_of(st.none(), st.floats(0, 1e9)),
        "released": st.booleans(),
    }
    names = some(st.lists(st.sampled_from(sorted(anything)), unique=True, max_size=4))
    return make_evidence(**{name: some(anything[name]) for name in names})


any_policy = st.builds(
    Policy,
    rule=st.sampled_from(["evidence", "improves"]),
    merge=st.sampled_from(["auto", "auto", "after", "manual"]),
    after=st.floats(0, 1e9),
    alpha=st.sampled_from([0.1, 0.5, 5e-324]),
    k=st.sampled_from([5.0, 1.0, 5e-324, 1e308]),
    confirm_effort=st.sampled_from([1.0, 100.0, 1e-9]),
    patience=st.sampled_from(["default", "patient"]),
    floor=st.sampled_from([0.0, 0.25, 1.0]),
)


def may_merge(evidence: Evidence, policy: Policy) -> bool:
    """The conditions for a merge, stated again without the gate's code."""
    held_out, trained = evidence.holdout_fixtures, evidence.train_fixtures
    facts = (
        evidence.held is False
        and evidence.landed is False
        and evidence.tested is not None
        and evidence.tested == evidence.current
        and evidence.leaks == ()
        and evidence.version == 2
        and evidence.missing == 0
        and evidence.attempt is not None
    )
    runs = Counter(
        run for one in evidence.confirm for run in (one.incumbent_run, one.candidate_run)
    )
    others = {run for one in evidence.screen for run in (*one.incumbent_runs, one.candidate_run)}
    exact = evidence.deterministic  # a kept run is the run that would be made
    fresh = (
        all(
            one.made_for == evidence.experiment or (exact and not one.made_for)
            for one in evidence.confirm
        )
        and set(runs.values()) == {1}
        and not set(held_out) & set(trained)
        and not others & set(runs)
    )
    whole = (
        len(held_out) > 0
        and len(evidence.confirm) % len(held_out) == 0
        and swept(evidence.confirm, held_out)
        and swept(evidence.screen, trained)
    )
    waited = (
        policy.merge == "auto"
        or evidence.released
        or (policy.merge == "after" and evidence.age is not None and evidence.age >= policy.after)
    )
    compared = exact or policy.rule == "improves" or len(trained) < 1 or enough_kept(evidence)
    return facts and fresh and whole and waited and compared and won(evidence, policy)


def enough_kept(evidence: Evidence) -> bool:
    """Of five train cases or fewer each has its 16 kept runs."""
    return all(len(set(one.incumbent_runs)) == 16 for one in evidence.screen)


def swept(pairs: Sequence[Pair], fixtures: Sequence[str]) -> bool:
    """Sweep k has the fixtures of the split once each; the last one may be cut short."""
    n = len(fixtures)
    for sweep in range(math.ceil(len(pairs) / n) if n else 0):
        names = [one.fixture for one in pairs[sweep * n : (sweep + 1) * n]]
        if not set(names) <= set(fixtures) or len(set(names)) != len(names):
            return False
    return bool(pairs) and [one.sweep for one in pairs] == [k // n for k in range(len(pairs))]


def won(evidence: Evidence, policy: Policy) -> bool:
    """The numbers: evidence against the bar and the guard, or the gain after one sweep."""
    train, gains = gains_of(evidence.screen), gains_of(evidence.confirm)
    whole = len(evidence.confirm) == len(evidence.holdout_fixtures)
    only_sweep = whole and len(evidence.screen) == len(evidence.train_fixtures)
    if policy.rule == "improves":
        lowest = min(one.candidate for one in evidence.confirm)
        mean = fmean(one.difference for one in evidence.confirm)
        lead = sum(one.difference for one in evidence.screen)
        settled = lead > len(evidence.train_fixtures) - len(evidence.screen)
        return whole and settled and mean > 0 and lowest >= policy.floor
    tie = 1e-9  # one better case alone is exactly one standard error: no gain
    error = stdev(gains) / math.sqrt(len(gains)) + tie if len(gains) > 1 else math.inf
    if evidence.deterministic:
        spread = stdev(train) / math.sqrt(len(train)) if len(train) > 1 else math.inf
        return only_sweep and fmean(train) > 2 * spread and fmean(gains) > error
    assert evidence.attempt is not None
    a = stats.level(evidence.attempt, alpha=policy.alpha, k=policy.k)
    n = len(evidence.holdout_fixtures)
    s, e = wealths(evidence.screen, 0.2, block=1), wealths(evidence.confirm, 1 / 3, block=n)
    patient = policy.patience == "patient"
    going_on = (  # neither test was over before its last pair: nothing went on until it won
        min(s) > (0.20 if patient else 0.35)
        and max(s[:-1]) < 8
        and min(e) > (0.10 if patient else 0.20)
        and all(wealth * a < 1 for wealth in e[n - 1 : -1 : n])
    )
    enough = s[-1] >= 8 - 1e-9 and e[-1] * a >= 1 - 1e-9 and fmean(gains) > error
    return enough and going_on


def wealths(pairs: Sequence[Pair], spread: float, *, block: int) -> list[float]:
    """The gambler's wealth after each pair."""
    wealth, found, stake = 1.0, [], 0.0
    for k, one in enumerate(pairs):
        if k % block == 0:
            v = (sum(before.difference**2 for before in pairs[:k]) + 8 * spread) / (k + 8)
            stake = min(max(0.1 / v, 0.1), 0.6)
        wealth *= 1 + stake * one.difference
        found.append(wealth)
    return found


def gains_of(pairs: Sequence[Pair]) -> list[float]:
    """Mean difference of each cluster, over its fixtures' means."""
    fixtures = {(one.cluster, one.fixture) for one in pairs}
    means = {
        key: fmean(one.difference for one in pairs if (one.cluster, one.fixture) == key)
        for key in fixtures
    }
    return [
        fmean(mean for (name, _), mean in means.items() if name == cluster)
        for cluster in {cluster for cluster, _ in fixtures}
    ]


@given(any_evidence(), any_policy)
def test_decide_answers_everything_and_merges_only_what_it_may(
    evidence: Evidence, policy: Policy
) -> None:
    verdict = decide(evidence, policy)
    assert isinstance(verdict, Verdict)
    assert decide(evidence, policy) == verdict
    if verdict.action is Action.MERGE:
        assert verdict.reason is Reason.IMPROVED
        assert may_merge(evidence, policy)


def test_the_conditions_stated_again_hold_for_what_merges() -> None:
    """The property above is about something: it accepts what merges, and not much else."""
    assert may_merge(make_evidence(), AUTO)
    assert may_merge(one_sweep(deterministic=True), AUTO)
    assert may_merge(improved(), IMPROVES)
    assert not any(may_merge(make_evidence(**changes), AUTO) for _, changes in NEVER)


# What the loop asks while it runs -------------------------------------------------------------


@pytest.mark.parametrize("policy", [AUTO, IMPROVES])
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_loop_stops_when_the_gate_is_content(policy: Policy, *, deterministic: bool) -> None:
    """Runs that stop as soon as the progress is settled make evidence that decide accepts."""
    screen, confirm = screened(*[1] * 30), confirmed(*[1] * 40)
    train = screen_progress(screen, fixtures=5, policy=policy, deterministic=deterministic)
    held_out = confirm_progress(
        confirm,
        fixtures=5,
        attempt=1,
        policy=policy,
        deterministic=deterministic,
        train=screen[: train.pairs],
    )
    assert train.state is held_out.state is State.PASS
    evidence = make_evidence(
        screen=screen[: train.pairs],
        confirm=confirm[: held_out.pairs],
        deterministic=deterministic,
    )
    assert decide(evidence, policy).action is Action.MERGE


# The page -------------------------------------------------------------------------------------

LOOP_REASONS = (
    proposer.NO_EDIT,
    proposer.NOT_APPLIED,
    proposer.PROTECTED,
    proposer.DUPLICATE,
    proposer.SUPERSEDED,
    proposer.SHIPPED_EDITED,
    "not_confirmed",
    pull_request.REJECTED,
    pull_request.EDITED,
)


@pytest.mark.parametrize("code", [*(reason.value for reason in Reason), *LOOP_REASONS])
def test_every_code_has_its_heading(code: str) -> None:
    headings = re.findall(r"^#{2,3} .*$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [h for h in headings if f"`{code}`" in h] == [f"### `{code}`"]


def test_the_page_names_no_code_that_is_gone() -> None:
    named = set(re.findall(r"^### `([a-z_]+)`$", PAGE.read_text("utf-8"), re.MULTILINE))
    assert named == {reason.value for reason in Reason} | set(LOOP_REASONS)


def test_the_bars_and_caps_on_the_page_are_right() -> None:
    """The table of attempts, as the code computes it."""
    lines = PAGE.read_text("utf-8").splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if "|" in line}
    attempts = [int(cell) for cell in rows["attempt against the same incumbent"]]
    levels = [stats.level(attempt, alpha=AUTO.alpha, k=AUTO.k) for attempt in attempts]
    bars = [int(cell) for cell in rows["bar for `E`"]]
    caps = [int(cell) for cell in rows["most pairs, before rounding up to whole blocks"]]
    assert bars == pytest.approx([1 / a for a in levels])
    assert caps == [stats.confirm_cap(a, fixtures=1) for a in levels]


def test_the_page_links_to_what_is_there() -> None:
    text = PAGE.read_text("utf-8")
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(targets) >= 4
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []
    anchors = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
