"""Runs are made once, in a random order that a seed fixes, and nothing is decided around a gap."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.core.evidence import Cause, Progress, State
from skill_ratchet.core.records import (
    Fixture,
    How,
    Pair,
    Reply,
    Request,
    Score,
    Text,
    Trace,
    digest,
)
from skill_ratchet.experiment import plan
from skill_ratchet.experiment.budget import Budget, BudgetSpent
from skill_ratchet.experiment.runner import Duel, Runner, duel, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skill_ratchet.core.draw import Planned

CASES = {name: Fixture(id=name, split="train", input=f"input {name}") for name in "abcdef"}
OLD, NEW = (Text(text, digest("skill", text)) for text in ("old", "new"))
WINS = Score(value=1, reason="", scorer="exact")


class Answers:
    """A provider that answers from a function and remembers what it was asked."""

    name = "answers"
    deterministic = False
    tools = False

    def __init__(
        self, answer: Callable[[Request], Reply] | None = None, *, concurrency: int = 4
    ) -> None:
        self.concurrency = concurrency
        self.asked: list[tuple[str, str]] = []
        self._answer = answer or (lambda request: Reply(text=request.system))

    async def complete(self, request: Request) -> Reply:
        assert request.case is not None
        self.asked.append((request.system, str(request.case["id"])))
        await asyncio.sleep(0)
        return self._answer(request)

    def worst_case_usd(self, request: Request) -> float | None:  # noqa: ARG002 - the Protocol
        return 0.01

    async def aclose(self) -> None:
        pass


class Kept:
    """The part of a ledger that a runner writes to."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def add_trace(self, trace: Trace) -> None:
        self.traces.append(trace)


def make(provider: Answers, *, calls: int | None = None) -> tuple[Runner, Kept]:
    async def score(output: str, fixture: Fixture) -> tuple[Score, None]:  # noqa: ARG001
        return Score(value=float(output == "new"), reason="", scorer="exact"), None

    kept = Kept()
    ticks = iter(range(1_000_000))
    runner = Runner(
        how=How("triage", "SKILL.md", "m", 16, {}, digest("how")),
        provider=provider,
        scorer=score,
        ledger=kept,  # type: ignore[arg-type]  # the one method that is used
        budget=Budget(usd=None, calls=calls, minutes=None, clock=lambda: 0.0),
        now=lambda: f"2026-01-01T00:00:00.{next(ticks):06d}+00:00",
        on_trace=lambda trace, paid: None,  # noqa: ARG005
    )
    return runner, kept


def after(count: int) -> Callable[[Sequence[Pair]], Progress]:
    """Settles when ``count`` pairs are there."""

    def judge(pairs: Sequence[Pair]) -> Progress:
        state = State.PASS if len(pairs) >= count else State.OPEN
        return Progress(state, Cause.UNDECIDED, len(pairs), 0.0, 0.0)

    return judge


def run_duel(runner: Runner, *, settle: int, fresh: bool = True, limit: int = 60) -> Duel:
    return asyncio.run(
        duel(
            runner,
            islice(plan.sweeps(list(CASES), seed="s"), limit),
            fixtures=CASES,
            incumbent=OLD,
            candidate=NEW,
            experiment="e" * 64,
            fresh=fresh,
            judge=after(settle),
        )
    )


def test_pairs_come_in_planned_order_whatever_finishes_first() -> None:
    done = run_duel(make(Answers())[0], settle=12)
    wanted = [(one.fixture, one.sweep) for one in islice(plan.sweeps(list(CASES), seed="s"), 12)]
    assert [(pair.fixture, pair.sweep) for pair in done.pairs] == wanted
    assert all(pair.difference == 1 for pair in done.pairs)


def test_it_stops_when_settled_and_does_not_run_the_rest() -> None:
    provider = Answers()
    done = run_duel(make(provider)[0], settle=3)
    assert len(done.pairs) == 3
    assert len(provider.asked) <= 2 * (3 + 2)  # at most the pairs under way besides


def test_fresh_runs_are_made_for_the_experiment_alone() -> None:
    done = run_duel(make(Answers())[0], settle=6)
    assert {pair.made_for for pair in done.pairs} == {"e" * 64}
    runs = [run for pair in done.pairs for run in (pair.incumbent_run, pair.candidate_run)]
    assert len(set(runs)) == len(runs)


def test_kept_incumbent_runs_are_used_again_on_train_and_never_on_the_holdout() -> None:
    provider = Answers()
    runner, _ = make(provider)
    asyncio.run(sweep(runner, OLD, list(CASES.values())))
    run_duel(runner, settle=6, fresh=False, limit=6)
    assert provider.asked.count(("old", "a")) == 1
    run_duel(runner, settle=6, fresh=True, limit=6)
    assert provider.asked.count(("old", "a")) == 2


def test_a_run_that_is_known_is_not_paid_for_again() -> None:
    provider = Answers()
    first, kept = make(provider)
    done = run_duel(first, settle=6, limit=6)
    again, _ = make(provider)
    again.remember(kept.traces)
    asked = len(provider.asked)
    assert run_duel(again, settle=6, limit=6) == done
    assert len(provider.asked) == asked


def test_a_candidates_runs_are_not_the_incumbents_it_becomes() -> None:
    provider = Answers()
    runner, _ = make(provider)
    run_duel(runner, settle=6, limit=6)
    asyncio.run(sweep(runner, NEW, list(CASES.values())))
    assert provider.asked.count(("new", "a")) == 2


def test_a_failed_call_leaves_a_gap_that_nothing_is_decided_around() -> None:
    def fail_c(request: Request) -> Reply:
        assert request.case is not None
        broken = request.case["id"] == "c" and request.system == "new"
        return Reply(error="529") if broken else Reply(text=request.system)

    runner, kept = make(Answers(fail_c))
    done = run_duel(runner, settle=6, limit=6)
    assert done.progress.state is State.OPEN
    assert [trace.fixture for trace in done.missing] == ["c"]
    assert "c" not in {pair.fixture for pair in done.pairs}
    assert sum(trace.reply.error == "529" for trace in kept.traces) == 1


def test_a_gap_after_the_end_does_not_matter() -> None:
    def fail_new(request: Request) -> Reply:
        assert request.case is not None
        return Reply(error="x") if request.case["id"] == last else Reply(text=request.system)

    last = list(islice(plan.sweeps(list(CASES), seed="s"), 2))[1].fixture
    done = run_duel(make(Answers(fail_new))[0], settle=1)
    assert done.progress.state is State.PASS
    assert done.missing == ()


def test_reaching_a_cap_keeps_what_was_under_way() -> None:
    provider = Answers()
    runner, kept = make(provider, calls=7)
    with pytest.raises(BudgetSpent):
        run_duel(runner, settle=6, limit=6)
    assert len(provider.asked) == 7
    assert len(kept.traces) == 7


def test_never_more_calls_at_once_than_the_provider_takes() -> None:
    class Counting(Answers):
        now = most = 0

        async def complete(self, request: Request) -> Reply:
            self.now += 1
            self.most = max(self.most, self.now)
            reply = await super().complete(request)
            self.now -= 1
            return reply

    provider = Counting(concurrency=3)
    runner, _ = make(provider)
    asyncio.run(sweep(runner, OLD, list(CASES.values())))
    run_duel(runner, settle=12)
    assert provider.most <= 3


def test_the_plan_depends_on_the_set_of_fixtures_and_the_seed_alone() -> None:
    def first(names: Sequence[str], seed: str) -> list[Planned]:
        return list(islice(plan.sweeps(names, seed=seed), 18))

    assert first("abcdef", "1") == first("fedcba", "1")
    assert first("abcdef", "1") != first("abcdef", "2")
    for start in (0, 6, 12):
        assert sorted(one.fixture for one in first("abcdef", "1")[start : start + 6]) == list(
            "abcdef"
        )
    sides = [one.candidate_first for one in islice(plan.sweeps("ab", seed="x"), 400)]
    assert 150 < sum(sides) < 250
