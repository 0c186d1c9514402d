"""Caps hold before a call is made, with the worst it can cost."""

from __future__ import annotations

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.core.records import Usage, total
from skill_ratchet.experiment import session
from skill_ratchet.experiment.budget import Budget, BudgetSpent
from skill_ratchet.project import config


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def make(
    *, usd: float | None = None, calls: int | None = None, minutes: float | None = None
) -> tuple[Budget, Clock]:
    clock = Clock()
    return Budget(usd=usd, calls=calls, minutes=minutes, clock=clock), clock


def test_calls_under_way_are_counted_at_their_worst() -> None:
    """Two calls that could cost 60 cents each do not both fit into a dollar."""
    budget, _ = make(usd=1.0)
    budget.reserve(0.6)
    with pytest.raises(BudgetSpent, match="could exceed"):
        budget.reserve(0.6)


def test_what_a_call_really_cost_makes_room_again() -> None:
    budget, _ = make(usd=1.0)
    budget.settle(budget.reserve(0.6), 0.1)
    budget.reserve(0.6)
    assert budget.usd == pytest.approx(0.1)


def test_an_unknown_price_costs_the_worst_case_and_is_said() -> None:
    budget, _ = make(usd=1.0)
    budget.settle(budget.reserve(0.6), None)
    assert budget.usd == pytest.approx(0.6)
    assert budget.spent is None


def test_a_refused_call_is_not_counted() -> None:
    budget, _ = make(calls=1)
    budget.reserve(None)
    with pytest.raises(BudgetSpent):
        budget.reserve(None)
    assert budget.calls == 1


def test_minutes_are_measured_from_the_start() -> None:
    budget, clock = make(minutes=2)
    clock.seconds = 119.9
    budget.reserve(None)
    clock.seconds = 120.0
    with pytest.raises(BudgetSpent, match="2 minutes"):
        budget.reserve(None)


def test_no_cap_means_no_cap() -> None:
    budget, clock = make()
    clock.seconds = 1e9
    for _ in range(10_000):
        budget.settle(budget.reserve(100.0), 100.0)
    assert budget.spent == pytest.approx(1e6)


def test_reaching_a_cap_has_its_own_exit_code_and_says_how_to_go_on() -> None:
    budget, _ = make(calls=0)
    with pytest.raises(BudgetSpent) as caught:
        budget.reserve(None)
    assert caught.value.exit_code is ExitCode.BUDGET
    assert "same command again" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("costs", "whole"),
    [([], 0.0), ([0.1, 0.2], 0.3), ([0.0, None], None), ([None], None), ([0.0], 0.0)],
)
def test_a_total_with_a_part_that_is_not_known_is_not_known(
    costs: list[float | None], whole: float | None
) -> None:
    """Nothing is taken for free because its price is missing."""
    assert total(costs) == (whole if whole is None else pytest.approx(whole))


@pytest.mark.parametrize(
    ("provider", "model", "known"),
    [
        (config.LocalConfig(), "m", True),
        (config.ScriptedConfig(), "m", True),
        (config.CommandConfig(command=("true",)), "m", False),
        (config.AnthropicConfig(), "claude-haiku-5-5", True),
        (config.AnthropicConfig(), "no-such-model", False),
    ],
    ids=lambda one: getattr(one, "type", str(one)),
)
def test_the_price_of_a_call_is_known_or_said_not_to_be(
    provider: config.AnyProvider, model: str, *, known: bool
) -> None:
    found = session.price_of(provider, model, Usage(input_tokens=1))
    assert (found is not None) == known
