"""What is taken for Ratchet's own, and for a merge, when somebody else names its experiments.

A model writes hypotheses and edits that name other experiments' ids, an outsider writes trailers
into commit messages, and a person presses 'Update branch'. None of it may change whose pull
request it is, what a person's no is about, or what is in the base branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.github import api, pages
from skill_ratchet.github import publish as publish_job
from world import BOTH, SKILL, SKILL_TEXT, idea, script

if TYPE_CHECKING:
    from scenes import Stages
    from skill_ratchet.github.pull_request import Job
    from stage import Stage

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
MANUAL = {"gate": {"merge": "manual"}}
BRANCH = "ratchet/triage"
PULL = 1


def job(stage: Stage, name: str) -> Job:
    stage.sha = None
    return publish_job.open_job(stage.job(name).path, github=api.connect(None), skill=None)


def look(stage: Stage, name: str) -> Any:
    stage.sha = None
    return stage.job(name).ratchet("publish", "--json")


def states(stage: Stage) -> list[str]:
    stage.sha = None
    return [row["state"] for row in stage.job("states").ratchet("log", "--json").json]


# A person's no is about what the pull request proposed ----------------------------------------


def two_ideas(stage: Stage) -> None:
    """The first edit was closed by a person; the second one's page names the first one's id."""
    stage.decide()
    assert stage.publish().json["reason"] == "awaits_person"
    (first,) = job(stage, "known").ledger.experiments()
    stage.hub.person_edits("octo", 1, state="closed")
    assert look(stage, "no").json["reason"] == "rejected"
    stage.decide("2")
    ran = stage.publish("2")
    assert (ran.code, ran.err) == (0, ""), ran.err
    assert ran.json["pull"] == 2
    body = stage.hub.issue(2).body or ""
    said = f"### Hypothesis\n\n> better than\n\nRatchet-Experiment: {first.id}\n\n### Edit"
    stage.hub.state.issues[2].body = body.replace("### Hypothesis", f"{said}\n\n### Hypothesis")


def test_a_close_is_heard_whatever_the_page_names(make: Stages) -> None:
    """A model names the id of an experiment that was decided before, in the trailers' own form."""
    ideas = [idea(1, "Rule alpha."), idea(2, "Rule gamma.")]
    model = script(ideas, right={"alpha": BOTH, "gamma": BOTH})
    stage = make.after(two_ideas, config=MANUAL, model=model)
    stage.hub.person_edits("octo", 2, state="closed")

    ran = look(stage, "two")

    assert (ran.code, ran.json["reason"]) == (0, "rejected"), ran.err
    assert states(stage) == ["reject: rejected", "reject: rejected"]


def adds(stage: Stage) -> None:
    stage.hub.person_pushes("octo", BRANCH, {"more.txt": "x\n"})


def rewrites(stage: Stage) -> None:
    """The bot's commit is gone; only the page still says what this was."""
    world = stage.job("person")
    world.git("checkout", "--quiet", "-b", "mine", "origin/main")
    world.write("more.txt", "x\n")
    world.commit("mine")
    world.git("push", "--quiet", "--force", "origin", f"mine:{BRANCH}")


@pytest.mark.parametrize("does", [adds, rewrites])
def test_a_close_is_heard_also_when_the_branch_was_changed(make: Stages, does: Any) -> None:
    stage = make.published(config=MANUAL)
    stage.sha = None
    does(stage)
    stage.hub.person_edits("octo", PULL, state="closed")

    assert look(stage, "two").json["reason"] == "rejected"
    assert states(stage) == ["reject: rejected"]


A, B = "a" * 64, "b" * 64
END = f"Ratchet-Experiment: {A}\nRatchet-Parent: {B}"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (f"> x\n\n{END}", A),
        (f"> x\r\n\r\n{END}\r\n".replace("\n", "\r\n").replace("\r\r", "\r"), A),
        (f"Ratchet-Experiment: {B}\n\n{END}", A),
        (f"{END}\n\n### Edit\n\nno trailers here", None),
        (f"> x\n\nRatchet-Experiment: {A} \nand so on", None),
        (f"text\nRatchet-Experiment: {A}", None),
        ("", None),
    ],
)
def test_only_the_end_of_a_page_names_its_experiment(body: str, named: str | None) -> None:
    assert pages.proposed(body) == named


# What is in the base branch -------------------------------------------------------------------


def test_an_outsiders_trailer_takes_nothing_in(make: Stages) -> None:
    """A harmless pull request whose commit names the experiment that waits is merged."""
    stage = make.published(config=MANUAL)
    (experiment,) = job(stage, "known").ledger.experiments()
    stage.hub.add_user("eve", "none")
    said = f"Fix a typo\n\nRatchet-Experiment: {experiment.id}\n"
    stage.hub.person_pushes("eve", "typo", {"README.md": "x\n"}, said, fork=True)
    other = stage.hub.person_opens_pull("eve", head="eve:typo", title="Typo")
    stage.hub.person_merges("octo", other)

    assert look(stage, "look").json["reason"] == "awaits_person"
    assert job(stage, "merge").settle(released_by="octo").action == "merge"
    assert stage.hub.read("main", SKILL) == EDITED


def test_update_branch_leaves_it_the_bots(make: Stages) -> None:
    stage = make.published(config=MANUAL)
    stage.hub.person_pushes("octo", "main", {"README.md": "news\n"})
    stage.hub.person_updates_branch("octo", PULL)

    assert look(stage, "look").json["reason"] == "awaits_person"
    assert job(stage, "merge").settle(released_by="octo").action == "merge"
    assert stage.hub.read("main", SKILL) == EDITED
    assert stage.hub.read("main", "README.md") == "news\n"
    assert states(stage) == ["merged"]
