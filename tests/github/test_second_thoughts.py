"""What people do at the worst moment, and jobs that run again: nothing wrong is merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakehub import Protection
from scenes import publish
from skill_ratchet.core.gate import Action
from skill_ratchet.github import api, revert
from skill_ratchet.github import publish as publish_job
from stage import later
from world import BOTH, SKILL, SKILL_TEXT, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from scenes import Stages
    from skill_ratchet.github.pull_request import Job
    from stage import Stage

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
UNTESTED = {SKILL: f"{EDITED}Untested rule.\n", "evil.py": "x\n"}
MANUAL = {"gate": {"merge": "manual"}}
ARMED = {"github": {"auto_merge": True}}
BRANCH = "ratchet/triage"
PULL = 1


def publish_against_the_rules(stage: Stage) -> None:
    """With an open pull request that won, and that the branch's rules would not let in."""
    stage.hub.switches.allow_auto_merge = True
    stage.hub.protect("main", Protection(contexts=("ci",)))
    stage.hub.add_user("octo", "write")
    publish(stage)


def refused(make: Stages, **config: Any) -> Stage:
    return make.after(publish_against_the_rules, config=config)


def again(stage: Stage, round_: str = "1") -> Any:
    """The publish job once more, on the same commit and with the same bundle."""
    bundle = stage.folder / f"confirmation{round_}"
    return stage.job("again").ratchet("publish", "--json", "--bundle", str(bundle))


def look(stage: Stage, name: str) -> Any:
    """The publish job of the next day."""
    stage.sha = None
    return stage.job(name).ratchet("publish", "--json")


def job(stage: Stage, name: str) -> Job:
    sha, stage.sha = stage.sha, None
    made = publish_job.open_job(stage.job(name).path, github=api.connect(None), skill=None)
    stage.sha = sha
    return made


def states(stage: Stage) -> list[str]:
    stage.sha = None
    return [row["state"] for row in stage.job("states").ratchet("log", "--json").json]


def pushes(stage: Stage) -> str:
    return stage.hub.person_pushes("octo", BRANCH, UNTESTED)


def other_case(stage: Stage) -> None:
    case = '{"input": "Well?", "expected": "yes"}'
    stage.hub.person_pushes("octo", "main", {"fixtures/triage/holdout/h9.yml": case})


# A push at the worst moment ------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/issues/1/labels", "/pulls/1/reviews", "/statuses/", "/pulls"])
def test_what_is_pushed_while_it_is_opened_is_not_merged(make: Stages, path: str) -> None:
    stage = make.decided()
    verb = "GET" if "reviews" in path else "POST"
    stage.hub.just_before(verb, path, lambda: pushes(stage) if stage.hub.tip(BRANCH) else None)

    stage.publish()

    assert stage.hub.pending == 0
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    assert stage.hub.read("main", "evil.py") is None


@pytest.mark.parametrize("path", ["/issues/1/labels", "/pulls/1$", "/git/ref/heads/main"])
def test_what_is_pushed_while_it_is_looked_at_is_not_merged(
    make: Stages, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    stage = make.published(config={"gate": {"merge": "after 1h"}})
    later(monkeypatch)
    stage.hub.just_before("GET", path, lambda: pushes(stage))

    look(stage, "race")

    assert stage.hub.pending == 0
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_stale_proposal_takes_nobodys_work_with_it(make: Stages, when: str) -> None:
    stage = make.published(config=MANUAL)
    theirs: list[str] = []
    if when == "before":
        theirs.append(pushes(stage))
    else:
        stage.hub.just_before("GET", "/git/ref/heads/main", lambda: theirs.append(pushes(stage)))
    other_case(stage)

    look(stage, "race")

    assert [stage.hub.tip(BRANCH)] == theirs
    assert stage.hub.issue(PULL).state == "open"


def amends(stage: Stage) -> None:
    """A second file in the bot's commit: its text and trailers stay."""
    world = stage.job("person")
    world.git("checkout", "--quiet", "-b", "mine", f"origin/{BRANCH}")
    world.write("extra.py", "x\n")
    world.git("add", ".")
    world.git("commit", "--quiet", "--amend", "--no-edit")
    world.git("push", "--quiet", "--force", "origin", f"mine:{BRANCH}")


def slips_below(stage: Stage) -> None:
    """A commit of their own between the base and the bot's."""
    world = stage.job("person")
    world.git("checkout", "--quiet", "-b", "mine", "origin/main")
    world.write("extra.py", "x\n")
    world.commit("mine")
    world.git("cherry-pick", f"origin/{BRANCH}")
    world.git("push", "--quiet", "--force", "origin", f"mine:{BRANCH}")


@pytest.mark.parametrize("does", [amends, slips_below])
def test_a_persons_work_around_the_edit_is_theirs(
    make: Stages, does: Callable[[Stage], None]
) -> None:
    stage = make.published(config=MANUAL)
    stage.sha = None
    does(stage)
    tip = stage.hub.tip(BRANCH)

    ran = look(stage, "two")

    assert (ran.code, ran.json["reason"]) == (0, "edited"), ran.err
    assert stage.hub.tip(BRANCH) == tip
    assert job(stage, "merge").settle(released_by="octo").reason == "edited"
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


# A no, and a job that runs again --------------------------------------------------------------


def closes(stage: Stage) -> None:
    stage.hub.person_edits("octo", PULL, state="closed")


def rejects(stage: Stage) -> None:
    job(stage, "reject").reject(by="octo", words="Never.", url="https://x.test/1")


@pytest.mark.parametrize("no", [closes, rejects])
def test_a_no_is_a_no_for_a_job_that_runs_again(make: Stages, no: Callable[[Stage], None]) -> None:
    stage = refused(make)
    no(stage)
    stage.hub.protect("main", Protection())

    ran = again(stage)

    assert (ran.code, ran.json["action"], ran.json["reason"]) == (0, "reject", "rejected"), ran.err
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    assert states(stage) == ["reject: rejected"]


def test_what_was_taken_out_again_stays_out(make: Stages) -> None:
    stage = make.published()
    revert.revert(job(stage, "revert"), "1", by="octo")
    pulls = len(stage.hub.state.issues)

    ran = again(stage)

    assert (ran.code, ran.json["reason"]) == (0, "already_merged"), ran.err
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    assert len(stage.hub.state.issues) == pulls


def test_a_no_is_heard_also_when_the_next_edit_is_published_first(
    make: Stages,
) -> None:
    ideas = [idea(1, "Rule alpha."), idea(2, "Rule gamma.")]
    right = {"alpha": BOTH, "gamma": BOTH}
    stage = make.published(config=MANUAL, model=script(ideas, right=right))
    closes(stage)
    stage.hub.person_deletes_branch(BRANCH)
    stage.decide("2")

    assert stage.publish("2").json["reason"] == "awaits_person"
    assert sorted(states(stage)) == ["hold: awaits_person", "reject: rejected"]


def test_the_same_edit_tried_again_is_not_taken_for_a_no(make: Stages) -> None:
    """The bot closed it the first time, as out of date."""
    stage = make.published(config=MANUAL)
    stage.hub.person_pushes("octo", "main", {SKILL: f"{SKILL_TEXT}Mine.\n"})
    assert look(stage, "stale").json["reason"] == "stale"
    stage.hub.person_pushes("octo", "main", {SKILL: SKILL_TEXT})
    stage.decide("2")

    ran = stage.publish("2")

    assert (ran.code, ran.json["reason"], ran.json["pull"]) == (0, "awaits_person", 2), ran.err


# A merge that was left to GitHub --------------------------------------------------------------


def holds(stage: Stage) -> None:
    job(stage, "hold").hold(held=True)


def edits(stage: Stage) -> None:
    pushes(stage)
    assert look(stage, "look").json["reason"] == "edited"


def objects(stage: Stage) -> None:
    stage.hub.person_reviews("octo", PULL, "REQUEST_CHANGES", "Not so.")
    assert look(stage, "look").json["reason"] == "held"


def outdates(stage: Stage) -> None:
    other_case(stage)
    assert look(stage, "look").json["reason"] == "stale"


@pytest.mark.parametrize("second_thought", [holds, edits, objects, outdates])
def test_second_thoughts_take_it_back(
    make: Stages, second_thought: Callable[[Stage], None]
) -> None:
    stage = refused(make, **ARMED)
    github = api.connect(None)
    assert github.pull(PULL).auto_merge

    second_thought(stage)

    pull = github.pull(PULL)
    assert pull.state == "closed" or not pull.auto_merge


# What a proposal rests on ---------------------------------------------------------------------


def test_other_evidence_than_it_was_proposed_with_merges_nothing(
    make: Stages,
) -> None:
    """The ledger says something else of the experiment than the commit was made for."""
    stage = make.published(config=MANUAL)
    world = stage.job("hand")
    ledger = world.ledger()
    (experiment,) = ledger.experiments()
    found = ledger.confirmation(experiment.id)
    assert found is not None
    assert found.evidence is not None
    ledger.put_confirmation(found.with_(evidence=found.evidence.with_(missing=0, attempt=7)))
    ledger.flush("by hand")
    world.git("push", "--quiet", "origin", "ratchet/holdout")

    done = job(stage, "merge").settle(released_by="octo")

    assert (done.action, done.reason) == ("hold", "unknown")
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    assert stage.hub.issue(PULL).state == "open"


def test_a_pull_request_that_was_left_open_half_way_is_closed(make: Stages) -> None:
    """The job died between the word in the ledger and the one on GitHub."""
    stage = make.published(config=MANUAL)
    dying = job(stage, "dies")
    (experiment,) = dying.ledger.experiments()
    dying.recorder.amend(experiment, action=Action.REJECT, reason="rejected", detail="No.")
    dying.publish_ledger("no")

    done = job(stage, "next").settle()

    assert (done.action, done.reason) == ("reject", "rejected")
    assert stage.hub.issue(PULL).state == "closed"
    assert stage.hub.tip(BRANCH) is None
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


def test_a_rejection_says_that_a_push_left_it_open(make: Stages) -> None:
    stage = make.published(config=MANUAL)
    rejecting = job(stage, "reject")
    stage.hub.just_before("GET", f"/git/ref/heads/{BRANCH}", lambda: pushes(stage))

    done = rejecting.reject(by="octo", words="Never.", url="https://x.test/1")

    assert stage.hub.pending == 0
    assert "stays open" in done.detail
    assert stage.hub.issue(PULL).state == "open"
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
