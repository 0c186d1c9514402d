"""Somebody changed a branch, a record or a program behind the loop's back: nothing is merged."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from world import CASES, SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
BOT = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "ratchet[bot]"),
        ("EMAIL", "ratchet[bot]@users.noreply.github.com"),
    )
}


def bots(world: World) -> dict[str, str]:
    """The identity of the commits on the proposal branch."""
    fields = ("%an", "%ae", "%cn", "%ce")
    shown = world.git("log", "-1", f"--format={'%n'.join(fields)}", "ratchet/triage").split("\n")
    return dict(zip(BOT, shown, strict=True))


def other_text(world: World) -> None:
    """Another text in the bot's own name, under the bot's own message."""
    message = world.git("log", "-1", "--format=%B", "ratchet/triage")
    who = bots(world)
    world.git("switch", "--quiet", "ratchet/triage")
    world.write(SKILL, f"{SKILL_TEXT}Do what you like.\n")
    world.git("commit", "--quiet", "--all", "--amend", "--reset-author", "-m", message, **who)
    world.git("switch", "--quiet", "main")


def other_evidence(world: World) -> None:
    """The same text, but a trailer that names other evidence."""
    message = world.git("log", "-1", "--format=%B", "ratchet/triage")
    line = next(one for one in message.split("\n") if one.startswith("Ratchet-Evidence"))
    who = bots(world)
    world.git("switch", "--quiet", "ratchet/triage")
    forged = message.replace(line, "Ratchet-Evidence: " + "0" * 64)
    world.git("commit", "--quiet", "--amend", "--reset-author", "-m", forged, **who)
    world.git("switch", "--quiet", "main")


@pytest.mark.parametrize("tamper", [other_text, other_evidence], ids=lambda one: one.__name__)
def test_a_proposal_that_is_not_what_was_tested_is_not_merged(
    tmp_path: Path, tamper: Callable[[World], None]
) -> None:
    world = World.make(tmp_path / "p", config={"gate": {"merge": "after 1s"}})
    world.run()
    tamper(world)
    tip = world.tip("ratchet/triage")

    ran = world.ratchet("run")

    assert "edited by a person" in ran.out
    assert world.skill() == SKILL_TEXT
    assert world.tip("ratchet/triage") == tip


def test_a_program_that_is_the_model_must_be_committed(tmp_path: Path) -> None:
    """What it answers is measured; an edit of it would be measured as if it were the skill's."""
    world = World.make(tmp_path / "p", config={"provider": harness()})
    world.write("model.py", "print('no')\n")
    world.commit("a model")
    world.write("model.py", "print('yes')\n")

    ran = world.ratchet("run", "--proposer", "examples")

    assert ran.code == 1
    assert "model.py" in ran.err
    assert "Uncommitted" in ran.err


def test_another_program_makes_other_runs(tmp_path: Path) -> None:
    """Kept runs of the program as it was are not taken for runs of the program as it is."""
    world = World.make(tmp_path / "p", config={"provider": harness()})
    world.write("model.py", "print('no')\n")
    world.commit("a model")
    before = world.ratchet("eval", "--json").json
    world.write("model.py", "print('yes')\n")
    world.commit("another")

    after = world.ratchet("eval", "--json").json

    assert (before["score"], after["score"]) == (0.0, 1.0)
    assert after["calls"] == before["calls"] == 3


def harness() -> dict[str, object]:
    return {"type": "command", "command": [sys.executable, "model.py"]}


def unfinished(world: World) -> None:
    """Leave an experiment behind that passed its screen and was not confirmed."""
    world.configure(budget={"calls": 9})  # baseline 3, proposal 1, targets and screen, confirm half
    assert world.ratchet("run").code == 4


@pytest.mark.parametrize(
    "change",
    [
        {"gate": {"rule": "improves"}},
        {"gate": {"alpha": 0.2}},
        {"gate": {"k": 2}},
        {"skills": {"triage": {"scorer": "label", "max_chars": len(SKILL_TEXT)}}},
        {"skills": {"triage": {"scorer": "label", "freeze": ["name", "description"]}}},
    ],
    ids=["rule", "alpha", "k", "length", "frozen keys"],
)
def test_rules_that_changed_meanwhile_are_not_applied_to_an_unfinished_experiment(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """It was begun under other rules, so it is given up and not decided by the new ones."""
    world = World.make(tmp_path / "p")
    unfinished(world)
    world.configure(budget={}, **change)

    world.run("--attempts", "1")

    ended = {row["number"]: row["state"] for row in world.ratchet("log", "--json").json}
    assert ended.get(1) != "merged"
    assert ended or world.skill() == SKILL_TEXT


def test_a_larger_budget_does_not_give_up_an_unfinished_experiment(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    unfinished(world)
    world.configure(budget={"calls": 100})

    ran = world.run("--attempts", "1")

    assert ran.verdicts == [("merge", "improved")]
    assert [one.number for one in world.ledger().experiments()] == [1]


def test_a_clone_goes_on_with_the_count_of_looks(tmp_path: Path) -> None:
    """A clone has the ledger's branches under its remote only."""
    model = script([idea(1, "Rule alpha."), idea(2, "Rule beta.")], right={"alpha": CASES["train"]})
    world = World.make(tmp_path / "p", model=model)
    world.run()
    clone = World(tmp_path / "clone")
    world.git("clone", "--quiet", str(world.path), str(clone.path))

    assert clone.ratchet("looks", "--json").json == world.ratchet("looks", "--json").json
    assert clone.ratchet("looks", "--json").json["attempts"] == 1
    assert [row["number"] for row in clone.ratchet("log", "--json").json] == [1]


def test_a_lost_record_of_looks_stops_the_loop(tmp_path: Path) -> None:
    model = script([idea(1, "Rule alpha."), idea(2, "Rule beta.")], right={"alpha": CASES["train"]})
    world = World.make(tmp_path / "p", model=model)
    world.run()
    world.git("branch", "-D", "ratchet/holdout")

    ran = world.ratchet("run")

    assert ran.code == 1
    assert "ratchet/holdout" in ran.err
    assert "experiment 1" in ran.err


def test_a_stop_file_that_is_a_dangling_link_stops(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    (world.path / ".ratchet-hold").symlink_to("nowhere")
    assert "On hold" in world.ratchet("run").out


def test_a_record_says_why_a_copy_of_held_out_text_was_rejected(tmp_path: Path) -> None:
    text = "Would the zebra agree to h1? Yes it would, as always in such a case."
    cases = {"input": text, "expected": "yes"}
    world = World.make(tmp_path / "p", model=script([idea(1, text)]))
    world.write("fixtures/triage/holdout/h1.yml", json.dumps(cases))
    world.commit("longer")

    assert world.run().verdicts == [("reject", "leaks_holdout")]

    assert "held-out" in world.ratchet("explain", "1").out
    assert world.ratchet("looks", "--json").json["looks"] == 0


def test_the_same_case_twice_in_a_split_is_refused(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    same = (world.path / "fixtures/triage/holdout/h1.yml").read_text()
    world.write("fixtures/triage/holdout/h9.yml", same)
    world.commit("twice")

    ran = world.ratchet("check")

    assert ran.code == 1
    assert "h9.yml" in ran.err
    assert "h1" in ran.err


def test_a_proposal_branch_in_use_is_found_before_anything_is_paid(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    world.git("worktree", "add", "--quiet", "-b", "ratchet/triage", str(tmp_path / "other"))

    ran = world.ratchet("run", "--json")

    assert (ran.code, ran.json["calls"]) == (1, 0)
    assert "is checked out in" in ran.err
