"""A broken evaluation is told from a bad skill."""

from __future__ import annotations

import pytest

from skill_ratchet.core.records import Reply, Score, Trace
from skill_ratchet.experiment.diagnosis import broken, suspicious


def run(value: float, *, answer: str, reason: str = "") -> Trace:
    return Trace(
        id=answer or "empty",
        skill="triage",
        fixture=answer or "case",
        model="m",
        provider="scripted",
        started_at="2026-01-01T00:00:00+00:00",
        reply=Reply(text=answer),
        score=Score(value=value, reason=reason or f"about {answer}", scorer="command"),
    )


SAME = [run(0.4, answer=answer) for answer in "abc"]


@pytest.mark.parametrize(
    ("traces", "null", "says"),
    [
        ([run(0, answer="") for _ in range(3)], [], "answered every case with nothing"),
        ([run(0, answer=a, reason="exit 1: no module") for a in "abc"], [], "same reason"),
        (SAME, [run(0.4, answer=a) for a in "xyz"], "does not depend on the answer"),
    ],
)
def test_a_broken_evaluation_is_named(traces: list[Trace], null: list[Trace], says: str) -> None:
    problem = broken(traces, null=null)
    assert problem is not None
    assert says in problem


@pytest.mark.parametrize(
    ("traces", "null"),
    [
        ([run(0, answer=a) for a in "abc"], []),  # bad answers, each wrong in its own way
        ([run(1, answer=a) for a in "abc"], []),  # a good skill
        ([run(0, answer="hello", reason="wrong") for _ in range(3)], []),  # one bad answer for all
        ([run(0, answer="a"), run(1, answer="b"), run(0, answer="c")], []),
        ([run(0, answer="", reason="x")] * 2, []),  # too few to tell
        (SAME, []),  # equal, but the empty skill was not tried
        (SAME, [run(0.4, answer="x"), run(0.5, answer="y")]),
    ],
)
def test_a_bad_skill_is_not_taken_for_a_broken_evaluation(
    traces: list[Trace], null: list[Trace]
) -> None:
    assert broken(traces, null=null) is None


def test_only_equal_partial_scores_are_worth_an_empty_skill() -> None:
    assert suspicious(SAME)
    assert not suspicious([run(0, answer=a) for a in "abc"])
    assert not suspicious([run(1, answer=a) for a in "abc"])
    assert not suspicious(SAME[:2])
