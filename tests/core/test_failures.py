"""How often the infrastructure failed each side: pairs tried together are compared, once each."""

from __future__ import annotations

import math

import pytest

from skill_ratchet.core import evidence
from skill_ratchet.core.failures import counted
from skill_ratchet.core.records import (
    NO_FAILED_CALLS,
    FailedCalls,
    Failure,
    Reply,
    RolloutKey,
    Score,
    Trace,
    digest,
    trace_id,
)

OK, BAD = Reply(text="x"), Reply(error="overloaded", failure=Failure.SERVER)
ZERO = Reply(error="exit status 1", failure=Failure.EXIT)


def tries(side: str, runs: dict[str, list[Reply]]) -> list[Trace]:
    """Runs named by case, each with what its tries came to, one try a second."""
    made = []
    for case, replies in runs.items():
        for second, reply in enumerate(replies):
            key = RolloutKey(
                skill=digest(side), fixture=digest(case), model=digest("m"), replicate=0
            )
            at = f"2026-01-01T00:00:{second:02d}+00:00"
            scored = Score(value=0.5, reason="", scorer="exact")
            answered = reply.error is None or reply is ZERO
            made.append(
                Trace(
                    id=trace_id(key, at),
                    key=key,
                    skill="triage",
                    model="m",
                    provider="p",
                    started_at=at,
                    reply=reply,
                    score=scored if answered else None,
                )
            )
    return made


def compared(new: dict[str, list[Reply]], old: dict[str, list[Reply]]) -> FailedCalls:
    return counted(tries("candidate", new), tries("incumbent", old))


@pytest.mark.parametrize(
    ("new", "old", "candidate", "incumbent", "stuck"),
    [
        pytest.param({}, {}, 0, 0, 0, id="nothing"),
        pytest.param({"a": [OK]}, {"a": [OK]}, 0, 0, 0, id="both answered"),
        pytest.param({"a": [BAD]}, {"a": [BAD]}, 0, 0, 0, id="both failed"),
        pytest.param({"a": [BAD]}, {"a": [OK]}, 1, 0, 1, id="the candidate alone"),
        pytest.param({"a": [OK]}, {"a": [BAD]}, 0, 1, 0, id="the incumbent alone"),
        pytest.param({"a": [BAD, BAD, OK]}, {"a": [OK]}, 1, 0, 0, id="a pair counts once"),
        pytest.param({"a": [BAD, BAD]}, {"a": [BAD, OK]}, 1, 0, 2, id="the first that differs"),
        pytest.param({"a": [BAD] * 4}, {"a": [OK]}, 1, 0, 4, id="one for ever"),
        pytest.param({"a": [BAD] * 4}, {"a": [BAD] * 4}, 0, 0, 0, id="both for ever"),
        pytest.param({"a": [BAD] * 4}, {}, 0, 0, 4, id="the incumbent's was kept from before"),
        pytest.param({"a": [ZERO]}, {"a": [OK]}, 0, 0, 0, id="a score of 0 is a score"),
        pytest.param({"a": [BAD], "b": [BAD]}, {"a": [OK], "b": [OK]}, 2, 0, 1, id="two pairs"),
        pytest.param({"a": [Reply(error="old")]}, {"a": [OK]}, 1, 0, 1, id="of an old record"),
    ],
)
def test_sides_are_compared(
    new: dict[str, list[Reply]],
    old: dict[str, list[Reply]],
    candidate: int,
    incumbent: int,
    stuck: int,
) -> None:
    wanted = FailedCalls(candidate=candidate, incumbent=incumbent, stuck=stuck)
    assert compared(new, old) == wanted


@pytest.mark.parametrize("failure", [one for one in Failure if one.is_blind])
def test_what_cannot_depend_on_the_run_says_nothing_about_it(failure: Failure) -> None:
    """Ten mornings with an expired key are not the candidate's fault."""
    assert compared({"a": [Reply(error="x", failure=failure)] * 10}, {"a": [OK]}) == NO_FAILED_CALLS


def test_every_failure_is_of_one_sort() -> None:
    for one in Failure:
        assert one.by_skill + one.unsent + one.is_final <= 1, one
    assert {one for one in Failure if one.by_skill} == {
        Failure.TIME_OUT,
        Failure.EXIT,
        Failure.OUTPUT,
        Failure.TOO_LONG,
        Failure.BLOCKED,
    }


# The test ---------------------------------------------------------------------------------------


def test_nine_failures_of_its_own_are_enough() -> None:
    assert not evidence.fails_more(candidate=8, incumbent=0)
    assert evidence.fails_more(candidate=9, incumbent=0)
    assert not evidence.fails_more(candidate=9, incumbent=9)
    assert not evidence.fails_more(candidate=0, incumbent=500)


def test_however_often_one_looks_chance_alone_rejects_at_most_at_its_level() -> None:
    """Exactly: the share of all walks of 200 failures that have been rejected on their way."""
    alive, rejected = {0: 1.0}, 0.0
    for failures in range(1, 201):
        reached: dict[int, float] = {}
        for candidate, share in alive.items():
            for more in (0, 1):
                reached[candidate + more] = reached.get(candidate + more, 0.0) + share / 2
        out = {c for c in reached if evidence.fails_more(candidate=c, incumbent=failures - c)}
        rejected += math.fsum(reached[c] for c in out)
        alive = {c: share for c, share in reached.items() if c not in out}
    assert 0.001 < rejected <= evidence.FAILS_MORE_LEVEL
