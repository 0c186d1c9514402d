"""Numbers of screens and confirm runs: right, and of the holdout never those of one case."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.core import evidence as stats
from skill_ratchet.core.gate import Action, Reason, Verdict
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import NO_FAILED_CALLS, Evidence, Pair
from skill_ratchet.report import comparison
from skill_ratchet.report.site import trials

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "a" * 64


def pair(fixture: str, sweep: int, before: float, after: float, cluster: str = "") -> Pair:
    return Pair(
        fixture=fixture,
        cluster=cluster or fixture,
        sweep=sweep,
        incumbent=before,
        candidate=after,
        incumbent_run=f"{fixture}-{sweep}-old",
        candidate_run=f"{fixture}-{sweep}-new",
    )


def look(
    pairs: Sequence[Pair],
    *,
    path: tuple[float, ...] = (),
    rate: float | None = None,
    deterministic: bool = False,
) -> Confirmation:
    """A finished look at the holdout."""
    facts = dict.fromkeys(("tested", "current", "held", "landed", "leaks"))
    names = tuple(dict.fromkeys(one.fixture for one in pairs))
    evidence = Evidence(
        experiment=NAME,
        **facts,
        version=2,
        seed=0,
        deterministic=deterministic,
        train_fixtures=("t",),
        holdout_fixtures=names,
        screen=(),
        confirm=tuple(pairs),
        missing=0,
        failed=NO_FAILED_CALLS,
        attempt=1,
        train_scores=(),
        targeted=(),
        age=None,
        released=False,
    )
    verdict = Verdict(
        action=Action.REJECT,
        reason=Reason.FUTILE,
        detail="The confirm run ended: futile.",
        log_e=path[-1] if path else 0.0,
        log_bar=3.0,
        path=path,
        false_merge_rate=rate,
    )
    return Confirmation(
        experiment=NAME, parent=NAME, attempt=1, started_at="1", evidence=evidence, verdict=verdict
    )


def sweeps(cases: int, count: int = 2) -> list[Pair]:
    return [pair(f"h{case}", sweep, 0.0, 1.0) for sweep in range(count) for case in range(cases)]


@pytest.mark.parametrize(("cases", "counted"), [(2, False), (4, False), (5, True), (9, True)])
def test_of_few_cases_no_sweep_is_counted(cases: int, counted: bool) -> None:  # noqa: FBT001 - a row
    made, note = trials.confirm(look(sweeps(cases), path=(1.0, 2.0)), everything=False)
    assert made
    assert [one.log_e for one in made.sweeps] == [1.0, 2.0]
    assert {(one.wins, one.losses) for one in made.sweeps} == {
        (cases, 0) if counted else (None, None)
    }
    told = made.tally
    assert (told.wins, told.losses, told.pairs) == (2 * cases, 0, 2 * cases)
    assert (note == "") is counted


def test_of_one_case_there_is_no_number_at_all() -> None:
    made, note = trials.confirm(look(sweeps(1), path=(1.0, 2.0)), everything=False)
    assert made is None
    assert "not shown" in note
    score = trials.held_out(look(sweeps(1)), side="candidate", number=1, url="", everything=False)
    assert score
    assert (score.mean, score.interval) == (None, None)


def test_on_ones_own_machine_there_is_all_of_it() -> None:
    made, note = trials.confirm(look(sweeps(1), path=(1.0, 2.0)), everything=True)
    assert made
    assert [(one.wins, one.losses) for one in made.sweeps] == [(1, 0), (1, 0)]
    assert note == ""


@pytest.mark.parametrize(
    "other",
    [look(sweeps(6), path=(0.1,), rate=0.4), look(sweeps(6), path=(0.1,), deterministic=True)],
)
def test_gains_are_not_drawn_as_odds(other: Confirmation) -> None:
    """With 'improves', and for a deterministic model, the path is a mean gain."""
    made, _ = trials.confirm(other, everything=False)
    assert made
    assert (made.sweeps, made.log_bar) == ((), None)


@pytest.mark.parametrize("none", [None, look([])])
def test_without_a_confirm_run_there_is_nothing(none: Confirmation | None) -> None:
    assert trials.confirm(none, everything=True) == (None, "")


def test_related_cases_count_as_one() -> None:
    """h1 and h2 are one cluster; runs are averaged first, then the cases of a cluster."""
    pairs = [
        pair("h1", 0, 0.0, 1.0, "c"),
        pair("h2", 0, 0.0, 0.0, "c"),
        pair("h3", 0, 0.0, 1.0),
        pair("h1", 1, 0.0, 0.0, "c"),
        pair("h2", 1, 0.0, 0.0, "c"),
        pair("h3", 1, 0.5, 1.0),
    ]
    score = trials.held_out(look(pairs), side="candidate", number=7, url="u", everything=False)
    assert score
    assert score.mean == pytest.approx((0.25 + 1.0) / 2)
    assert (score.cases, score.independent, score.sweeps) == (3, 2, 2)
    assert score.interval
    assert (score.interval.low, score.interval.high) == (0.0, 1.0)
    old = trials.held_out(look(pairs), side="incumbent", number=7, url="u", everything=False)
    assert old
    assert old.mean == pytest.approx(0.125)


def test_the_screens_evidence_is_the_gates() -> None:
    """At the ends of whole sweeps; a sweep that was cut short has no point."""
    pairs = [pair(f"t{n % 3}", n // 3, 0.2, 0.2 + 0.1 * (n % 4)) for n in range(8)]
    made = trials.screen(pairs, by_sweep=True)
    assert made
    wanted = stats.screen(pairs, fixtures=3).path
    assert [one.log_e for one in made.sweeps] == pytest.approx(wanted)
    assert made.log_bar == pytest.approx(math.log(8))


def run(fixture: str, replicate: int, score: float | None, text: str) -> comparison.Rollout:
    return comparison.Rollout(
        id=f"{text}-{fixture}-{replicate}",
        url="",
        fixture=fixture,
        case=fixture,
        text=text,
        model="m",
        experiment="",
        side=None,
        replicate=replicate,
        score=score,
        at="",
    )


def test_pairs_are_put_together_again_from_runs() -> None:
    """Of the same case and repeat; a run without a score, or without its other, makes none."""
    before = [run("a", 0, 0.0, "old"), run("b", 0, 0.5, "old"), run("c", 0, None, "old")]
    after = [
        run("b", 0, 1.0, "new"),
        run("a", 0, 1.0, "new"),
        run("c", 0, 1.0, "new"),
        run("a", 1, 1.0, "new"),
    ]
    made = comparison.paired(before, after)
    assert [(one.fixture, one.sweep, one.difference) for one in made] == [
        ("a", 0, 1.0),
        ("b", 0, 0.5),
    ]
