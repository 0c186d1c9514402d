"""Somebody stands between a decision and its publication.

The owner of the repository forbids Actions to open pull requests, a job hands in what another was
to hand in, two jobs look at the held-out cases at once, a bundle lies about what it found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from scenes import stages
from skill_ratchet.base.errors import ExitCode
from world import SKILL, SKILL_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scenes import Stages
    from stage import Stage

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
MANUAL = {"gate": {"merge": "manual"}}
BRANCH = "ratchet/triage"


@pytest.fixture
def make(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stages]:
    with stages(tmp_path, tmp_path_factory, monkeypatch) as made:
        yield made


def round_(stage: Stage, name: str) -> Any:
    """A whole run of the workflow: propose, confirm, publish."""
    stage.sha = stage.hub.tip("main")
    if not (stage.folder / f"confirmation{name}").exists():
        stage.decide(name)
    folder = stage.folder / f"bundles{name}"
    folder.mkdir()
    (stage.folder / f"confirmation{name}").rename(folder / "triage")
    world = stage.job(f"publish{name}")
    return world.ratchet("publish", "--json", "--bundles", str(folder))


def pulls(stage: Stage) -> list[Any]:
    return [one for one in stage.hub.state.issues.values() if one.pull]


def board(stage: Stage) -> str:
    (issue,) = [one for one in stage.hub.state.issues.values() if one.title == "Ratchet"]
    return str(issue.body).replace("\u200b", "")


# Pull requests that may not be opened ---------------------------------------------------------


def test_what_may_not_be_opened_is_tried_by_every_run(make: Stages) -> None:
    """The runs after the first have no candidate of their own; each is red, until it is allowed."""
    stage = make.decided(config=MANUAL)
    stage.hub.switches.actions_may_open_pulls = False

    for name in ("1", "2"):
        ran = round_(stage, name)
        assert ran.code == ExitCode.ERROR, ran.out
        assert "not permitted to create" in ran.err
        assert "Settings" in ran.err
        assert "not permitted to create" in board(stage)
        assert f"/compare/main...{BRANCH})" in board(stage)
        assert pulls(stage) == []

    stage.hub.switches.actions_may_open_pulls = True
    ran = round_(stage, "3")

    assert ran.code == 0, ran.err
    (pull,) = pulls(stage)
    assert (pull.pull.head, pull.user.login) == (BRANCH, "github-actions[bot]")
    assert [one["reason"] for one in ran.json["skills"]] == ["awaits_person"]
    assert "not permitted" not in board(stage)


@pytest.mark.parametrize("words", ["", "I opened this one.\n\n<!-- ratchet:pull notes -->"])
def test_a_persons_pull_request_of_the_bots_commit_is_the_bots(make: Stages, words: str) -> None:
    """By its branch and its commit, whatever it says; so it is held, listed, told and merged."""
    stage = make.decided(config=MANUAL)
    stage.hub.switches.actions_may_open_pulls = False
    stage.publish()
    number = stage.hub.person_opens_pull("octo", head=BRANCH, title="Mine", body=words)

    ran = round_again(stage)

    assert ran.code == 0, ran.err
    assert [one.number for one in pulls(stage)] == [number]
    (told,) = [one for one in ran.json["skills"] if one["pull"]]
    assert (told["pull"], told["reason"]) == (number, "awaits_person")
    assert f"/pull/{number})" in board(stage)
    assert any("ratchet:sticky triage" in one.body for one in stage.hub.comments(number))
    body = stage.hub.issue(number).body or ""
    assert body == words if words else "Ratchet-Experiment" in body
    planned = stage.job("plan").ratchet("due")
    assert f"#{number} waits" in planned.out
    stage.hub.add_user("ann")
    stage.hub.person_reviews("ann", number, "APPROVE")
    ran = stage.job("last").ratchet("publish", "--json")
    assert (ran.code, ran.json["action"]) == (0, "merge"), ran.err
    assert stage.hub.read("main", SKILL) == EDITED


def round_again(stage: Stage) -> Any:
    stage.sha = None
    return stage.job("again").ratchet("publish", "--json", "--bundles", "none")


@pytest.mark.parametrize("base", ["main", "release"])
def test_must_not_happen_that_a_persons_own_work_is_taken_for_the_bots(
    make: Stages, base: str
) -> None:
    """A pull request from the bot's branch with a forged commit; one that goes elsewhere."""
    stage = make.decided(config=MANUAL)
    stage.hub.switches.actions_may_open_pulls = False
    stage.publish()
    if base == "release":
        stage.hub.person_pushes("octo", base, {"README.md": "x\n"})
        stage.hub.switches.actions_may_open_pulls = True
    else:
        forged = f"mine\n\nRatchet-Experiment: {'a' * 64}\n"
        stage.hub.person_pushes("octo", BRANCH, {SKILL: f"{EDITED}Ours.\n"}, message=forged)
    number = stage.hub.person_opens_pull("octo", head=BRANCH, base=base, title="Mine", body="")

    ran = round_again(stage)

    stage.hub.add_user("ann")
    stage.hub.person_reviews("ann", number, "APPROVE")
    again = stage.job("last").ratchet("publish", "--json")
    assert (ran.code, again.code) == (0, 0), ran.err
    reason = "held" if base == "release" else "edited"  # a sibling has the same head
    assert (again.json["action"], again.json["reason"]) == ("hold", reason)
    assert (again.json["pull"] == number) is (base == "main")
    assert stage.hub.issue(number).body == ""
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
