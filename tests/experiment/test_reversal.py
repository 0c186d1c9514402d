"""Taking a merged edit out again is one thing, here and on GitHub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skill_ratchet.core.records import Landing
from skill_ratchet.github import revert
from stage import staging
from tests.github.test_pull_request import job, states
from world import SKILL, SKILL_TEXT, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stage import Stage

EDITED = f"{SKILL_TEXT}Rule alpha.\n"


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    with staging(tmp_path, monkeypatch) as build:
        yield build


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World.make(tmp_path / "p")
    assert world.run().verdicts == [("merge", "improved")]
    return world


def test_the_record_is_made_once(world: World) -> None:
    first = world.ratchet("revert", "1", "--json")
    again = world.ratchet("revert", "1", "--json")

    assert (first.code, first.json["by"]) == (0, "ratchet revert")
    assert again.json == first.json
    assert world.skill() == SKILL_TEXT
    assert world.ledger().reversion(world.only().id) == Landing.model_validate(first.json)


def test_who_took_it_out_before_stays_on_record(world: World) -> None:
    """What somebody did on GitHub is not claimed for the terminal."""
    experiment = world.only().id
    world.git("revert", "--no-edit", "main")
    out = Landing(
        experiment=experiment,
        commit=world.tip("main"),
        branch="main",
        at="2026-01-01T00:00:00.000000+00:00",
        by="octo",
    )
    ledger = world.ledger()
    ledger.add_revert(out)
    ledger.flush("a revert")

    assert Landing.model_validate(world.ratchet("revert", "1", "--json").json) == out
    assert world.ledger().reversion(experiment) == out


def test_a_persons_own_revert_counts_whatever_came_after_it(world: World) -> None:
    """In the same place, where taking it back once more would be a conflict."""
    world.git("revert", "--no-edit", "main")
    out = world.tip("main")
    world.write(SKILL, f"{SKILL_TEXT}Rule gamma.\n")
    world.commit("another rule there")

    done = world.ratchet("revert", "1", "--json")

    assert done.json["commit"] == out
    assert "Rule gamma." in world.skill()


@pytest.mark.parametrize("after", ["", "Rule gamma.\n"])
def test_it_counts_on_github_too(make: Callable[..., Stage], after: str) -> None:
    stage = published(make)
    person = stage.job("person")
    person.git("revert", "--no-edit", "main^2")
    out = person.tip("main")
    if after:
        person.write(SKILL, f"{SKILL_TEXT}{after}")
        person.commit("another rule there")
    person.git("push", "--quiet", "origin", "main")

    done = revert.revert(job(stage, "command"), "1", by="octo")

    assert (done.action, done.pull) == ("revert", None)
    assert out[:12] in done.detail
    assert stage.hub.read("main", SKILL) == f"{SKILL_TEXT}{after}"
    assert states(stage, "after") == ["reverted"]
    assert revert.revert(job(stage, "twice"), "1", by="octo").action is None


def test_what_was_undone_without_a_word_is_recorded_on_github_too(
    make: Callable[..., Stage],
) -> None:
    """As in the terminal: else it would count as an edit that is in the skill."""
    stage = published(make)
    stage.hub.person_pushes("octo", "main", {SKILL: SKILL_TEXT})

    done = revert.revert(job(stage, "command"), "1", by="octo")

    assert done.action == "revert"
    assert states(stage, "after") == ["reverted"]


def published(make: Callable[..., Stage]) -> Stage:
    """With an edit that is in the base branch."""
    stage = make()
    stage.decide()
    assert stage.publish().json["action"] == "merge"
    stage.sha = None
    assert stage.hub.read("main", SKILL) == EDITED
    return stage
