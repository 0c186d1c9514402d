"""When new fixtures are merged without a person: a base case that may be, and one change a row."""

from __future__ import annotations

from typing import Any, Final

import pytest

from skill_ratchet.github.intake_policy import IntakeFacts, decide

GOOD: Final[dict[str, Any]] = {
    "mode": "auto",
    "age": 0.0,
    "held": False,
    "objections": 0,
    "own_commits": True,
    "own_paths": True,
    "additions": True,
    "current": True,
    "conflicts": 0,
    "sound": True,
}


def facts(**changes: Any) -> IntakeFacts:
    return IntakeFacts(**GOOD | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"age": None},  # 'auto' has no window
        {"mode": "after", "after": 60.0, "age": 60.0},
        {"mode": "after", "after": 60.0, "age": 1e9},
    ],
)
def test_what_may_be_merged(changes: dict[str, Any]) -> None:
    decision = decide(facts(**changes))
    assert (decision.merge, decision.reason) == (True, "complete")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"held": True}, "held"),
        ({"held": None}, "held"),
        ({"objections": 1}, "objection"),
        ({"objections": None}, "objection"),
        ({"own_commits": False}, "edited"),
        ({"own_commits": None}, "edited"),
        ({"own_paths": False}, "other_paths"),
        ({"own_paths": None}, "other_paths"),
        ({"additions": False}, "not_additions"),
        ({"additions": None}, "not_additions"),
        ({"current": False}, "moved"),
        ({"current": None}, "moved"),
        ({"conflicts": 1}, "conflicts"),
        ({"conflicts": None}, "conflicts"),
        ({"sound": False}, "unsound"),
        ({"sound": None}, "unsound"),
        ({"mode": "manual"}, "awaits_person"),
        ({"mode": None}, "awaits_person"),
        ({"mode": "after", "after": 60.0, "age": 59.9}, "too_young"),
        ({"mode": "after", "after": 60.0, "age": None}, "too_young"),
        # The first objection in the order of the policy is the one that is said.
        ({"held": True, "mode": "manual", "sound": False}, "held"),
        ({"own_paths": False, "conflicts": 3}, "other_paths"),
    ],
)
def test_what_must_not_be_merged(changes: dict[str, Any], reason: str) -> None:
    decision = decide(facts(**changes))
    assert (decision.merge, decision.reason) == (False, reason)


def test_nothing_known_is_nothing_merged() -> None:
    unknown = dict.fromkeys(GOOD)
    assert not decide(IntakeFacts(**unknown)).merge
