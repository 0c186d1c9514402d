"""How often the holdout was consulted, counted from the record of consultations."""

from __future__ import annotations

from typing import Any

import pytest

from skill_ratchet.core.gate import Policy
from skill_ratchet.core.looks import Confirmation, attempt_number, reign
from skill_ratchet.core.records import digest

A, B = digest("incumbent a"), digest("incumbent b")


def confirmation(name: str, *, parent: str, attempt: int, **more: Any) -> Confirmation:
    return Confirmation(
        experiment=digest(name),
        parent=parent,
        attempt=attempt,
        started_at="2026-01-01T00:00:00+00:00",
        **more,
    )


TWO = [confirmation("1", parent=A, attempt=1), confirmation("2", parent=A, attempt=2)]
OTHER = [confirmation("3", parent=B, attempt=1)]


@pytest.mark.parametrize(
    ("past", "parent", "experiment", "attempt"),
    [
        pytest.param([], A, "new", 1, id="first look"),
        pytest.param(TWO, A, "new", 3, id="third look"),
        pytest.param(TWO[::-1], A, "new", 3, id="in any order"),
        pytest.param(TWO[1:], A, "new", 3, id="a lost record lowers nothing"),
        pytest.param(TWO, B, "new", 1, id="another incumbent"),
        pytest.param([*TWO, *OTHER], A, "new", 3, id="back after a revert"),
        pytest.param(TWO, A, "1", 1, id="an experiment that goes on"),
        pytest.param(TWO, A, "2", 2, id="the latest goes on"),
    ],
)
def test_attempt_number(
    past: list[Confirmation], parent: str, experiment: str, attempt: int
) -> None:
    assert attempt_number(past, parent=parent, experiment=digest(experiment)) == attempt


def test_a_run_that_died_has_looked() -> None:
    """It counts before it is completed."""
    assert TWO[0].evidence is None
    assert TWO[0].completed_at is None
    assert attempt_number(TWO[:1], parent=A, experiment=digest("new")) == 2


def test_no_two_experiments_share_an_attempt() -> None:
    """Consultations numbered one after the other are numbered 1, 2, 3, ..."""
    past: list[Confirmation] = []
    for number in range(1, 21):
        name = f"experiment {number}"
        attempt = attempt_number(past, parent=A, experiment=digest(name))
        past.append(confirmation(name, parent=A, attempt=attempt))
    assert [one.attempt for one in past] == list(range(1, 21))


def test_nothing_spent_at_first() -> None:
    fresh = reign([], parent=A, policy=Policy())
    assert (fresh.attempts, fresh.alpha_spent, fresh.looks, fresh.share) == (0, 0.0, 0, 0.0)


def test_what_is_spent() -> None:
    """Half of the budget after five attempts at k = 5; looks count every incumbent's."""
    past = [confirmation(str(j), parent=A, attempt=j) for j in range(1, 6)]
    used = reign([*past, *OTHER], parent=A, policy=Policy(alpha=0.10, k=5))
    assert (used.attempts, used.looks) == (5, 6)
    assert used.alpha_spent == pytest.approx(0.05)
    assert used.share == pytest.approx(0.5)


def test_the_budget_is_never_used_up() -> None:
    past = [confirmation("last", parent=A, attempt=10**6)]
    assert 0.99 < reign(past, parent=A, policy=Policy()).share < 1
