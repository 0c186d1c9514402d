"""Ways in which the books could say what is not so: calls, money, scores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.base.errors import ExitCode
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
