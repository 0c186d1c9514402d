"""Ways in which the books could say what is not so: calls, money, scores."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.core import wording
from skill_ratchet.experiment.budget import Budget, BudgetSpent
from skill_ratchet.github import pages
from skill_ratchet.report import history
from world import World, case, idea, script

if TYPE_CHECKING:
    from pathlib import Path

REPLY = idea(1, "Rule alpha.")
PROPOSER = "proposer.py"


def program(version: int) -> str:
    """A proposer that is a program; its answer is the same in every version."""
    return f"#!/usr/bin/env python3\n# version {version}\nprint({REPLY!r})\n"


@pytest.fixture
def stopped(tmp_path: Path) -> World:
    """A project with an experiment under way, stopped by a cap after some calls."""
    meta = {"provider": {"type": "command", "command": ["python3", PROPOSER]}}
    config = {"meta": meta, "budget": {"calls": 6}}
    world = World.make(tmp_path / "p", model=script([]), config=config)
    world.write(PROPOSER, program(1))
    world.commit("a proposer")
    ran = world.run()
    assert ran.code == ExitCode.BUDGET, ran.err
    (one,) = world.ledger().experiments()
    assert world.ledger().result(one.id) is None
    world.configure(budget={})
    return world


def test_an_edit_of_the_proposers_program_drops_nothing(stopped: World) -> None:
    """A candidate's numbers do not depend on who proposed it, so its experiment goes on."""
    stopped.write(PROPOSER, program(2))
    stopped.commit("a better proposer")
    ran = stopped.run()
    assert ran.verdicts == [("merge", "improved")], ran.err
    assert len(stopped.ledger().experiments()) == 1
    assert "Going on with experiment" in ran.err


def test_another_model_of_the_proposer_drops_nothing(stopped: World) -> None:
    """Nor do its model, its options or its way of using tools."""
    known = json.loads((stopped.path / "ratchet.yml").read_text())
    stopped.configure(meta=known["meta"] | {"model": "another", "max_tokens": 999, "turns": 2})
    assert stopped.run().verdicts == [("merge", "improved")]
    assert len(stopped.ledger().experiments()) == 1


def test_what_is_dropped_is_recorded_with_its_cost_and_said(stopped: World) -> None:
    """A train case changed: the numbers of then are no numbers of now."""
    made = [*stopped.ledger().traces()]
    shared = [run for run in made if run.job == "task" and run.side == "incumbent"]
    calls = len(made) - len(shared)  # those are of the skill, and kept for the next ones
    stopped.write("fixtures/triage/train/t1.yml", case("another t1", "train"))
    stopped.write(PROPOSER, program(2).replace("alpha", "gamma"))
    stopped.commit("another case")
    ran = stopped.run()
    first = stopped.ledger().experiments()[0]
    given_up = [one for one in ran.err.splitlines() if "given up after" in one]
    assert given_up, ran.err
    assert f"{calls} calls" in given_up[0]
    assert calls == 3
    result = stopped.ledger().result(first.id)
    assert result is not None
    assert (first.number, result.reason, result.calls) == (1, "superseded", calls)


# Money ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        ((0.025, 0.02), ["$0.0250", "$0.0200"]),  # not '$0.03 of $0.02'
        ((1.0, 0.996), ["$1.0000", "$0.9960"]),
        ((1.0, 0.98), ["$1.00", "$0.98"]),
        ((0.02, 0.02), ["$0.02", "$0.02"]),
        ((5.0, 0.0), ["$5.00", "$0.00"]),
        ((5.0, 0.00004), ["$5.000000", "$0.000040"]),
    ],
)
def test_what_differs_looks_different(usd: tuple[float, ...], shown: list[str]) -> None:
    """As many digits as it takes for the sentence to be true."""
    assert wording.amounts(*usd) == shown


@pytest.mark.parametrize(
    ("cap", "spent", "worst"), [(0.025, 0.0, 0.026), (0.02, 0.0196, 0.0008), (1.0, 0.994, 0.0061)]
)
def test_a_cap_that_stops_a_call_adds_up(cap: float, spent: float, worst: float) -> None:
    """What is said to be spent and to come is more than the cap, to whoever adds it up."""
    budget = Budget(usd=cap, calls=None, minutes=None, clock=lambda: 0.0)
    budget.charge(calls=1, usd=spent)
    with pytest.raises(BudgetSpent) as stopped:
        budget.reserve(worst)
    limit, used, more = map(float, re.findall(r"\$([\d.]+)", stopped.value.message))
    assert used + more > limit


def test_calls_of_unknown_price_are_not_free(tmp_path: Path) -> None:
    """In words, with how many; nowhere '$?', and nowhere '$0.00' for them."""
    provider = {"type": "command", "command": ["python3", "answer.py"]}
    config = {"provider": provider, "meta": {"proposer": "examples"}}
    world = World.make(tmp_path / "p", config=config)
    world.write("answer.py", "print('yes')\n")
    world.commit("a harness")
    ran = [world.ratchet("eval"), world.ratchet("status")]
    said = "".join(one.out + one.err for one in ran)
    assert "3 calls of unknown price" in said
    assert "$?" not in said
    assert "$0.00" not in said


def test_a_months_calls_of_unknown_price_are_said() -> None:
    """The dashboard of a project whose programs have no price does not say that it is free."""
    month = pages.MonthBudget(month="2026-07", spent=0.0, limit=5.0, unpriced=40)
    told = pages.dashboard([], budget=month, repository="https://x/y/z", project="ratchet.yml")
    assert "Spent in 2026-07: $0.00 of $5.00, and 40 calls of unknown price." in told


def test_a_month_that_is_spent_is_not_run_again() -> None:
    """The hint says when the month begins anew, and which key raises the limit."""
    hint = BudgetSpent("It is spent.", setting="budget.month_usd").hint or ""
    assert "Run the same command again" not in hint
    assert re.search(r"begins anew on \d{4}-\d\d-01 \(UTC\)", hint)
    assert "`budget.month_usd`" in hint


# Scores ---------------------------------------------------------------------------------------

MANY = {"train": [f"t{n}" for n in range(1, 13)], "holdout": [f"h{n}" for n in range(1, 13)]}


def test_a_few_pairs_of_a_screen_are_no_score_of_the_skill(tmp_path: Path) -> None:
    """An edit that helps on some cases is merged early, and headlines say what those came to."""
    right = {"alpha": [name for name in (*MANY["train"], *MANY["holdout"]) if name != "t12"]}
    model = script([idea(1, "Rule alpha.")], right=right, deterministic=False)
    world = World.make(tmp_path / "p", model=model, cases=MANY)
    assert world.run("--attempts", "1").verdicts == [("merge", "improved")]
    result = world.ledger().results()[world.only().id]
    assert 0 < result.train.pairs < 12
    assert result.train.sweeps == 0
    assert (result.baseline, result.cases) == (0.0, 12)  # a whole sweep, of the text before
    early = world.ratchet("log").out.splitlines()[0]
    assert early.endswith("train: 0% → not measured yet: 'ratchet eval'")
    assert "not scored yet" in world.ratchet("status").out

    assert world.ratchet("eval").code == ExitCode.DONE
    assert world.ratchet("log").out.splitlines()[0].endswith("train: 0% → 92% (12 runs)")
    (status,) = world.ratchet("status", "--json").json["skills"]
    assert (round(status["score"], 2), status["runs"]) == (0.92, 12)
    assert "92%" in world.ratchet("badge", "--out", str(tmp_path / "badge.svg")).out + (
        tmp_path / "badge.svg"
    ).read_text("utf-8")
    points = history.points(world.ledger())
    assert [(round(one.score, 2), one.whole) for one in points] == [(0.92, True)]


@pytest.mark.parametrize("month", ["2026-13", "0000-00", "foo", "../x", "2026-1"])
def test_a_month_that_is_none_is_refused(tmp_path: Path, month: str) -> None:
    ran = World.make(tmp_path / "project").ratchet("budget", "--month", month)
    assert (ran.code, "such as 2026-07" in ran.err) == (ExitCode.USAGE, True)
