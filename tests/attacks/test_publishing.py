"""Somebody stands between a decision and its publication.

The owner of the repository forbids Actions to open pull requests, a job hands in what another was
to hand in, two jobs look at the held-out cases at once, a bundle lies about what it found.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet import providers
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.ledger import offers
from skill_ratchet.project import repository, workspace
from world import SKILL, SKILL_TEXT, World, script, typed

if TYPE_CHECKING:
    from pathlib import Path

    from scenes import Stages
    from stage import Stage

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
MANUAL = {"gate": {"merge": "manual"}}
BRANCH = "ratchet/triage"


def round_(stage: Stage, name: str) -> Any:
    """A whole run of the workflow: propose, confirm, publish."""
    stage.sha = stage.hub.tip("main")
    if not (stage.folder / f"confirmation{name}").exists():
        assert stage.decide(name)["experiment"] is None  # a proposal waits already
    return handed_over(stage, name, to=f"publish{name}")


def handed_over(stage: Stage, name: str, *, to: str) -> Any:
    """Publish what was decided in a round."""
    folder = stage.folder / f"bundles-{to}"
    shutil.copytree(stage.folder / f"confirmation{name}", folder / "triage")
    return stage.job(to).ratchet("publish", "--json", "--bundles", str(folder))


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
    ran = handed_over(stage, "2", to="last")

    assert ran.code == 0, ran.err
    (pull,) = pulls(stage)
    assert (pull.pull.head, pull.user.login) == (BRANCH, "github-actions[bot]")
    assert [one["reason"] for one in ran.json["skills"]] == ["awaits_person"]
    assert "not permitted" not in board(stage)


def test_a_persons_pull_request_of_the_bots_commit_is_the_bots(make: Stages) -> None:
    """By its branch and its commit, whatever it says; so it is held, listed, told and merged."""
    stage = make.decided(config=MANUAL)
    stage.hub.switches.actions_may_open_pulls = False
    stage.publish()
    words = "I opened this one.\n\n<!-- ratchet:pull notes -->"
    number = stage.hub.person_opens_pull("octo", head=BRANCH, title="Mine", body=words)

    ran = round_again(stage)

    assert ran.code == 0, ran.err
    assert [one.number for one in pulls(stage)] == [number]
    (told,) = [one for one in ran.json["skills"] if one["pull"]]
    assert (told["pull"], told["reason"]) == (number, "awaits_person")
    assert f"/pull/{number})" in board(stage)
    assert any("ratchet:sticky triage" in one.body for one in stage.hub.comments(number))
    assert stage.hub.issue(number).body == words
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


# What a job hands in under another's name ------------------------------------------------------


def manifest(skill: str) -> str:
    setting: dict[str, Any] = {"provider": "scripted", "model": "m", "proposer": "meta"}
    setting |= {"base": "", "branch": "main"}
    setting |= {"model_digest": D, "scorer_digest": D, "config_digest": D, "train_digest": D}
    setting |= {"holdout_digest": D, "rules": D, "evaluator": "0", "seed": 0, "meta_model": None}
    made: dict[str, Any] = {
        "kind": "confirmation",
        "skill": skill,
        "parent": D,
        "setting": setting,
        "experiment": None,
    }
    return json.dumps(made | {"candidate": None, "refs": {}, "files": {}})


D = "d" * 64
OWN = "ratchet-confirmation-triage/triage"
SAID = [
    # what lies where; what is taken of it; why the rest is not
    ({OWN: "triage"}, ["triage"], []),
    ({"triage": "triage"}, ["triage"], []),  # the only artifact lies flat
    ({OWN: "triage", "ratchet-confirmation-notes/notes": "notes"}, ["notes", "triage"], []),
    ({"0evil": "triage"}, [], ["has a bundle for skill"]),
    ({"0evil": "triage", OWN: "triage"}, [], ["2 bundles say"]),
    ({"ratchet-confirmation-0evil/triage": "triage", OWN: "triage"}, ["triage"], ["not just"]),
    ({"ratchet-confirmation-0evil/0evil": "triage", OWN: "triage"}, [], ["2 bundles say"]),
    ({OWN: "triage", "triage": "triage"}, [], ["2 bundles say"]),
    ({OWN: "notes", "ratchet-confirmation-notes/notes": "triage"}, [], ["bundle for skill"] * 2),
    ({OWN: "triage", "ratchet-confirmation-triage/notes": "notes"}, [], ["not just"]),
    ({"ratchet-confirmation-other/other": "other", OWN: "triage"}, ["triage"], ["No job"]),
    ({"ratchet-confirmation-": "triage"}, [], ["bundle for skill"]),
    ({}, [], []),
]


@pytest.mark.parametrize(("there", "taken", "said"), SAID)
def test_a_bundle_is_taken_from_the_job_that_was_to_make_it(
    tmp_path: Path, there: dict[str, str], taken: list[str], said: list[str]
) -> None:
    """By artifact, folder, manifest and plan; where two are for one skill, by none of them."""
    for folder, skill in there.items():
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "manifest.json").write_text(manifest(skill), "utf-8")

    found = offers.below(tmp_path / "in", planned=["triage", "notes"])

    assert sorted(found.taken) == taken
    assert all(at.name == skill for skill, at in found.taken.items())
    assert len(found.refused) == len(said)
    for (_, error), words in zip(found.refused, said, strict=True):
        assert words in error.message


def test_a_link_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/manifest.json").write_text(manifest("triage"), "utf-8")
    (tmp_path / "in" / OWN).parent.mkdir(parents=True)
    (tmp_path / "in" / OWN).symlink_to(tmp_path / "elsewhere")
    found = offers.below(tmp_path / "in", planned=None)
    assert (found.taken, len(found.refused)) == ({}, 1)


def test_a_forged_bundle_does_not_go_first(make: Stages) -> None:
    """Of two for one skill neither is published, whichever name sorts first, and the run is red."""
    stage = make.decided()
    folder = stage.folder / "confirmations"
    own = folder / OWN
    own.parent.mkdir(parents=True)
    (stage.folder / "confirmation1").rename(own)
    shutil.copytree(own, folder / "ratchet-confirmation-0evil/0evil")
    words = ("publish", "--json", "--bundles", str(folder), "--planned", '["triage"]')

    ran = stage.job("publish").ratchet(*words)

    assert ran.code == ExitCode.ERROR
    assert "2 bundles say that they are for skill" in board(stage).replace("\\", "")
    assert (stage.hub.read("main", SKILL), pulls(stage)) == (SKILL_TEXT, [])
    shutil.rmtree(folder / "ratchet-confirmation-0evil")
    ran = stage.job("again").ratchet(*words)
    assert (ran.code, stage.hub.read("main", SKILL)) == (0, EDITED), ran.err


# What a bundle says that can be told without it ------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "repeats"),
    [
        ("scripted", True),
        ("local", True),
        ("anthropic", False),
        ({"type": "command", "command": "true"}, False),
        ({"type": "command", "command": "true", "deterministic": True}, True),
    ],
)
def test_whether_answers_repeat_is_told_by_the_settings(
    tmp_path: Path, provider: Any, *, repeats: bool
) -> None:
    """So that no bundle is asked; what a provider says of itself is the same."""
    world = World.make(tmp_path / "p", config={"provider": provider})
    project = repository.open_project(world.path)
    space = workspace.open_at_base(project, skill=None, override={})
    assert workspace.repeats(space) is repeats
    if space.provider.type not in ("anthropic", "local"):  # which take a key, and a package
        built = providers.build(space.provider, project=project, tree=space.tree)
        assert built.deterministic is repeats


# Two looks at once ----------------------------------------------------------------------------


def both_look(stage: Stage) -> None:
    """The bot's confirm run and a person's gate run, side by side, neither of them published."""
    stage.decide()
    sha = stage.hub.person_pushes("octo", "edit", {SKILL: f"{SKILL_TEXT}Rule beta.\n"})
    stage.hub.person_opens_pull("octo", head="edit", title="Better")
    tested = gate(stage, "test", sha, "--out", str(stage.folder / "tested"))
    assert tested.code == 0, tested.err


def gate(stage: Stage, name: str, sha: str, *words: str) -> Any:
    return stage.job(name).ratchet("gate", "1", sha, "--json", *words)


TWO_RULES = {"alpha": ("t1", "t2", "t3", "h1", "h2"), "beta": ("t1", "t2", "t3", "h1", "h2")}


@pytest.mark.parametrize("first", ["the bot", "a person"])
def test_a_look_beside_another_counts(make: Stages, first: str) -> None:
    """Of two at once the later published is the second, whoever made it; its runs are kept.

    So it has to reach the second's bar, and when it is run again it pays for nothing twice.
    """
    stage = make.after(both_look, config=MANUAL, model=script(right=TWO_RULES))
    sha = stage.hub.tip("edit") or ""
    told = ("--bundle", str(stage.folder / "tested"))
    jobs = [lambda: gate(stage, "say", sha, *told), stage.publish]
    earlier, later = jobs if first == "a person" else reversed(jobs)

    assert earlier().code == 0
    ran = later()

    if first == "a person":
        assert (ran.code, "counted" in ran.err) == (ExitCode.ERROR, True), ran.out
    else:
        assert (ran.code, ran.json["state"]) == (0, "pending"), ran.err
        assert "counted" in stage.hub.comments(1)[0].body
    assert attempts(stage, "look") == [1, 2]
    stage.sha = None
    if first == "a person":
        assert stage.decide("2")["calls"] == 0
        ran = stage.publish("2")
    else:
        again = gate(stage, "test2", sha, "--out", str(stage.folder / "tested2"))
        assert (again.code, again.json["calls"]) == (0, 0), again.err
        ran = gate(stage, "say2", sha, "--bundle", str(stage.folder / "tested2"))
    assert (ran.code, ran.json["reason"]) == (0, "awaits_person"), ran.err
    assert attempts(stage, "look2") == [1, 2]


def attempts(stage: Stage, name: str) -> list[int]:
    stage.sha = None
    return sorted(one.attempt for one in stage.job(name).ledger().looks())


# Two projects in one repository ---------------------------------------------------------------


def test_a_second_project_is_refused_and_takes_nobodys_holds(make: Stages) -> None:
    """Its skill has the same name; the first one goes on, also with a dashboard from before."""
    stage = make.decided(config=MANUAL)
    files = stage.job("look").git("ls-files").split("\n")
    copied = {f"tools/{one}": stage.hub.read("main", one) for one in files if one != "README.md"}
    assert round_(stage, "1").code == 0
    stage.sha = None
    stage.hub.person_pushes("octo", "main", copied)
    page = board(stage)

    def due(name: str, folder: str) -> Any:
        world = stage.job(name)
        return typed("due", "-C", str(world.path / folder))

    ran = due("second", "tools")
    assert (ran.code, "Put all skills into one ratchet.yml" in ran.err) == (ExitCode.ERROR, True)
    assert due("first", ".").code == 0
    (issue,) = [one for one in stage.hub.state.issues.values() if one.title == "Ratchet"]
    old = "\n".join(row for row in page.split("\n") if row != "Of `ratchet.yml`.")
    stage.hub.person_edits("octo", issue.number, body=old)
    assert due("moved", "tools").code == 0
    assert round_again(stage).code == 0
    assert "Of `ratchet.yml`." in board(stage)
