"""What people see while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skill_ratchet.cli import experiments
from skill_ratchet.cli.progress import Reporter
from skill_ratchet.core.records import Reply, RolloutKey, Score, Trace, digest
from skill_ratchet.experiment.evaluation import Evaluation

if TYPE_CHECKING:
    import pytest

OLD, NEW = digest("old"), digest("new")


def run(version: str, score: float) -> Trace:
    key = RolloutKey(skill=version, fixture=digest("f"), model=digest("m"), replicate=0)
    return Trace(
        id=f"{version[:6]}-{score}",
        key=key,
        skill="triage",
        fixture="f",
        model="m",
        provider="scripted",
        started_at="2026-01-01T00:00:00Z",
        reply=Reply(text="x", usd=0.0),
        score=Score(value=score, reason="", scorer="exact"),
    )


def test_the_incumbents_score_is_shown_first_whoever_ran_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Reporter() as reporter:
        reporter.phase("targeted cases", runs=1)
        reporter.ran(run(NEW, 1.0), paid=True)
        reporter.phase("screen on train", runs=4, incumbent=OLD)
        reporter.ran(run(NEW, 1.0), paid=False)
        reporter.ran(run(OLD, 0.0), paid=True)
    shown = capsys.readouterr().err
    assert "targeted cases: 1 runs, score 100%" in shown
    assert "screen on train: 2 runs, 1 re-used, score 0% \N{RIGHTWARDS ARROW} 100%" in shown


def test_a_phase_that_paid_for_nothing_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter() as reporter:
        reporter.phase("baseline on train", runs=1)
        reporter.ran(run(OLD, 1.0), paid=False)
    assert capsys.readouterr().err == ""


def test_of_many_cases_the_worst_are_listed_and_the_rest_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = [1.0] * 60 + [0.0]
    traces = tuple(
        run(OLD, score).with_(fixture=f"case-{number}") for number, score in enumerate(scores)
    )
    done = Evaluation("triage", "m", "train", "disk", traces, reused=0, calls=61, usd=0.0)
    experiments._show_evaluation(done)
    first, *shown = capsys.readouterr().out.splitlines()[1:]
    assert first.split() == ["case-60", "0%"]
    assert sum("100%" in line for line in shown) == 39
    assert "and 21 that scored no less; --json has them all" in shown
