"""Merges that happen later: people must be able to see what is merged, and to stop it until then.

What waits for a window, or was handed to GitHub (auto-merge, the merge queue), is merged when
nobody of Ratchet's looks. So whatever stops a merge has to stop these, too, and what came of them
is judged again and recorded as what it was.
"""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fakehub import Protection, merging
from skill_ratchet.github import api, revert
from skill_ratchet.github import publish as publish_job
from skill_ratchet.project import workflows
from skill_ratchet.project.config import load
from stage import EVENTS, clock
from tests.github.test_corrections import TRAIN, Desk, seated, settings
from world import SKILL, SKILL_TEXT, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scenes import Stages
    from stage import Stage

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
BRANCH = "ratchet/triage"
PULL = 1
DAY_0 = datetime(2090, 1, 1, tzinfo=UTC)


def look(stage: Stage, name: str) -> Any:
    """The publish job of another day, which finds the base as it is by then."""
    stage.sha = None
    return stage.job(name).ratchet("publish", "--json")


@pytest.fixture
def days_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage, float], None]:
    """Let it be so many days later, for GitHub and for the jobs."""

    def arrange(stage: Stage, days: float) -> None:
        at = DAY_0 + timedelta(days=days)
        stage.hub.set_clock(at)
        monkeypatch.setattr(publish_job, "datetime", clock(at + timedelta(minutes=5)))

    return arrange


# A window counts from when people could see it ------------------------------------------------


def draft_until_now(stage: Stage) -> None:
    stage.hub.person_sets_draft("octo", PULL, draft=True)
    stage.hub.person_sets_draft("octo", PULL, draft=False)


def reopened_now(stage: Stage) -> None:
    stage.hub.person_edits("octo", PULL, state="closed")
    stage.hub.person_edits("octo", PULL, state="open")


def something_else_until_now(stage: Stage) -> None:
    """Somebody had put another commit there, and puts the bot's back."""
    bots, other = stage.hub.tip(BRANCH), stage.hub.person_pushes("octo", "other", {"x": "x\n"})
    for old, new in ((bots, other), (other, bots)):
        stage.hub.state.git.move(f"refs/heads/{BRANCH}", new, old)
        stage.hub.issue(PULL)  # GitHub sees it


@pytest.mark.parametrize(
    "does",
    [
        draft_until_now,
        pytest.param(reopened_now, marks=pytest.mark.full),
        pytest.param(something_else_until_now, marks=pytest.mark.full),
    ],
)
def test_a_window_begins_when_people_see_it_again(
    make: Stages, days_later: Callable[..., None], does: Callable[[Stage], None]
) -> None:
    stage = make.published(config={"gate": {"merge": "after 2d"}})
    days_later(stage, 3)
    does(stage)

    assert look(stage, "three").json["reason"] == "veto_window"
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    days_later(stage, 6)
    assert look(stage, "six").json["action"] == "merge"


def test_a_window_does_not_run_while_there_is_no_pull_request(
    make: Stages, days_later: Callable[..., None]
) -> None:
    """The branch waits for three days until somebody allows Actions to open it."""
    stage = make.decided(config={"gate": {"merge": "after 2d"}})
    days_later(stage, 0)
    stage.hub.switches.actions_may_open_pulls = False
    assert stage.publish().code != 0
    assert stage.hub.tip(BRANCH) is not None
    stage.hub.switches.actions_may_open_pulls = True
    days_later(stage, 3)

    ran = look(stage, "three")

    assert (ran.code, ran.json["reason"]) == (0, "veto_window"), ran.err
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    days_later(stage, 6)
    assert look(stage, "six").json["action"] == "merge"


def test_nor_does_that_of_new_fixtures(
    make: Stages, days_later: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make.after(seated, config=settings(merge="after 2d"))
    desk = Desk(stage.hub, stage, monkeypatch)
    days_later(stage, 0)
    stage.hub.switches.actions_may_open_pulls = False
    assert desk.correct().code != 0
    stage.hub.switches.actions_may_open_pulls = True
    days_later(stage, 3)
    assert look(stage, "three").code == 0
    assert stage.hub.read("main", TRAIN) is None

    days_later(stage, 6)
    look(stage, "six")

    assert stage.hub.read("main", TRAIN) is not None


# What was left to GitHub can be stopped until it is merged ------------------------------------

ARMED = {"github": {"auto_merge": True}}
AUTO = Protection(contexts=("ci",))
QUEUE = Protection(merge_queue=True)


def armed(stage: Stage) -> None:
    """Left to auto-merge: a check of the branch is missing."""
    _leave(stage, AUTO)


def queued(stage: Stage) -> None:
    """Left to the merge queue, which the branch demands."""
    _leave(stage, QUEUE)


def _leave(stage: Stage, rules: Protection) -> None:
    stage.hub.switches.allow_auto_merge = True
    stage.hub.protect("main", rules)
    stage.hub.add_user("ann", "write")
    stage.decide()
    stage.publish()
    assert look(stage, "dashboard").code == 0
    done = publish_all(stage, "board")
    assert done.code == 0, done.err


def publish_all(stage: Stage, name: str) -> Any:
    """The publish job of a day on which nothing was due; it writes the dashboard."""
    stage.sha = None
    none = str(stage.folder / "none")
    return stage.job(name).ratchet("publish", "--json", "--bundles", none)


def is_left(stage: Stage) -> bool:
    pull = stage.hub.issue(PULL).pull
    assert pull is not None
    return pull.queued or pull.auto_merge is not None


def hears(stage: Stage, name: str, **changes: Any) -> Any:
    """The job of the workflow that looks again after an event."""
    event = copy.deepcopy(EVENTS[name])
    event["repository"]["full_name"] = stage.hub.repository
    file = stage.folder / f"{name}.json"
    file.write_text(json.dumps(event | changes), encoding="utf-8")
    stage.sha = None
    number = len(list(stage.folder.glob("heard*")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_EVENT_NAME", name)
        return stage.job(f"heard{number}").ratchet("command", "--json", "--event", str(file))


def labels(stage: Stage) -> Any:
    stage.hub.person_labels(PULL, "ratchet:hold")
    return hears(stage, "pull_request", action="labeled")


def ticks(stage: Stage) -> Any:
    board = next(one for one in stage.hub.state.issues.values() if one.pull is None)
    body = (board.body or "").replace("- [ ] hold", "- [x] hold")
    stage.hub.person_edits("octo", board.number, body=body)
    return hears(stage, "issues", action="edited", issue={"body": body})


def stops_all(stage: Stage) -> Any:
    stage.hub.person_pushes("octo", "main", {".ratchet-hold": ""})
    return hears(stage, "push")


def adds_a_case(stage: Stage) -> Any:
    case = '{"input": "Well?", "expected": "yes"}'
    stage.hub.person_pushes("octo", "main", {"fixtures/triage/holdout/h9.yml": case})
    return hears(stage, "push")


def breaks_a_case(stage: Stage) -> Any:
    """Nothing can be judged any more."""
    stage.hub.person_pushes("octo", "main", {"fixtures/triage/holdout/h9.yml": "a: [\n"})
    return hears(stage, "push")


def pushes(stage: Stage) -> Any:
    stage.hub.person_pushes("ann", BRANCH, {"evil.py": "x\n"})
    return hears(stage, "pull_request", action="synchronize")


def breaks_the_settings(stage: Stage) -> Any:
    stage.hub.person_pushes("octo", "main", {"ratchet.yml": "skills: [\n"})
    return hears(stage, "push")


def drops_the_skill(stage: Stage) -> Any:
    settings = (stage.hub.read("main", "ratchet.yml") or "").replace("triage", "other")
    stage.hub.person_pushes("octo", "main", {"ratchet.yml": settings})
    return hears(stage, "push")


def aims_elsewhere(stage: Stage) -> Any:
    stage.hub.person_pushes("octo", "release", {"x.md": "x\n"})
    stage.hub.issue(PULL).pull.base = "release"  # type: ignore[union-attr]
    return hears(stage, "pull_request", action="edited")


def takes_the_marker_out(stage: Stage) -> Any:
    """And stops it by a label, but it does not look like the bot's any more."""
    stage.hub.person_edits("octo", PULL, body="Mine.")
    return labels(stage)


STOPS = [labels, ticks, stops_all, adds_a_case, breaks_a_case, pushes]
STOPS += [breaks_the_settings, drops_the_skill, aims_elsewhere, takes_the_marker_out]
UNREADABLE = {breaks_a_case, breaks_the_settings}


@pytest.mark.parametrize(
    ("left", "stops"),
    [
        *((armed, stops) for stops in STOPS),
        (queued, labels),
        # The way is the same from here on.
        *(pytest.param(queued, stops, marks=pytest.mark.full) for stops in STOPS[1:]),
    ],
    ids=lambda one: one.__name__,
)
def test_whatever_stops_a_merge_stops_what_github_would_merge(
    make: Stages, left: Callable[[Stage], None], stops: Callable[[Stage], Any]
) -> None:
    stage = make.after(left, config=ARMED)
    assert is_left(stage)

    ran = stops(stage)

    assert not is_left(stage), ran.err
    assert (ran.code == 0) == (stops not in UNREADABLE), ran.err
    assert stage.hub.run_merge_queue() == []
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


@pytest.mark.parametrize("left", [armed, queued], ids=lambda one: one.__name__)
def test_what_changes_nothing_stops_nothing(make: Stages, left: Callable[[Stage], None]) -> None:
    stage = make.after(left, config=ARMED)
    stage.hub.person_pushes("octo", "main", {"README.md": "news\n"})

    assert hears(stage, "push").json["outcome"] == "done"
    assert is_left(stage)
    assert hears(stage, "pull_request", action="opened").json["outcome"] == "ignored"
    assert look(stage, "tomorrow").json["reason"] == "merge_refused"
    assert is_left(stage)


def test_nothing_is_left_to_a_queue_that_was_not_asked_for(make: Stages) -> None:
    stage = make.decided()
    stage.hub.protect("main", QUEUE)

    ran = stage.publish()

    assert (ran.code, ran.json["reason"]) == (0, "merge_refused"), ran.err
    assert "auto_merge: true" in ran.json["detail"]
    assert not is_left(stage)
    stage.hub.person_enqueues("octo", PULL)
    assert look(stage, "look").code == 0
    assert stage.hub.run_merge_queue() == [PULL]
    assert look(stage, "after").json["detail"] == "A person merged it."


def released(stage: Stage) -> None:
    """A person has released it, and GitHub is to merge it when the checks are through."""
    stage.hub.switches.allow_auto_merge = True
    stage.hub.protect("main", AUTO)
    stage.decide()
    assert stage.publish().json["reason"] == "awaits_person"
    stage.sha = None
    github = api.connect(None)
    job = publish_job.open_job(stage.job("merge").path, github=github, skill=None)
    assert job.settle(released_by="octo").reason == "merge_refused"


def test_a_release_is_remembered_until_something_stops_it(make: Stages) -> None:
    stage = make.after(released, config=ARMED | {"gate": {"merge": "manual"}})
    stage.hub.person_pushes("octo", "main", {"README.md": "news\n"})
    hears(stage, "push")
    look(stage, "tomorrow")
    assert is_left(stage)

    labels(stage)
    stage.hub.person_unlabels("octo", PULL, "ratchet:hold")

    assert look(stage, "later").json["reason"] == "awaits_person"
    assert not is_left(stage)


def test_a_persons_own_order_waits_for_no_person(make: Stages) -> None:
    """Who presses 'Merge when ready' has decided; but a hold stops that, too."""
    stage = make.published(config={"gate": {"merge": "manual"}})
    stage.hub.protect("main", QUEUE)
    stage.hub.person_enqueues("octo", PULL)
    look(stage, "tomorrow")
    assert is_left(stage)

    labels(stage)

    assert not is_left(stage)


# The merge queue's own commits are judged, too ------------------------------------------------

REQUIRED = Protection(merge_queue=True, contexts=("ratchet/holdout",))


def forms(stage: Stage) -> list[Any]:
    """The queue makes its commits; the workflow is told of each."""
    done = []
    for group in stage.hub.form_groups():
        parts = {"head_sha": group.head_sha, "head_ref": group.head_ref}
        parts |= {"base_sha": group.base_sha, "base_ref": group.base_ref}
        done.append(hears(stage, "merge_group", action="checks_requested", merge_group=parts))
    return done


def test_the_queue_merges_what_is_judged_again_and_it_is_the_bots(make: Stages) -> None:
    stage = make.after(queued, config=ARMED)
    stage.hub.protect("main", REQUIRED)
    stage.hub.person_pushes("octo", "readme", {"README.md": "news\n"})
    other = stage.hub.person_opens_pull("octo", head="readme", title="News")
    stage.hub.protect("main", QUEUE)
    stage.hub.person_enqueues("octo", other)
    stage.hub.protect("main", REQUIRED)

    for ran in forms(stage):
        assert ran.code == 0, ran.err

    assert stage.hub.run_merge_queue() == [PULL, other]
    assert stage.hub.read("main", SKILL) == EDITED
    told = look(stage, "after").json
    assert (told["action"], told["reason"], told["detail"]) == ("merge", "improved", "Merged.")
    landing = stage.job("ledger").ledger().landings().popitem()[1]
    assert landing.by == "ratchet"


@pytest.mark.parametrize("stop", ["label", "untested"])
def test_the_queue_does_not_merge_what_must_not_be_merged(make: Stages, stop: str) -> None:
    stage = make.after(queued, config=ARMED)
    if stop == "label":
        stage.hub.person_labels(PULL, "ratchet:hold")
    else:
        case = '{"input": "Well?", "expected": "yes"}'
        stage.hub.state.protections.clear()
        stage.hub.person_pushes("octo", "main", {"fixtures/triage/holdout/h9.yml": case})
        stage.hub.protect("main", QUEUE)

    (ran,) = forms(stage)

    assert (ran.code, ran.json["detail"]) == (0, f"#{PULL} must not be merged"), ran.err
    assert stage.hub.run_merge_queue() == []
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


def test_what_a_person_opened_for_the_bot_leaves_the_queue_as_well(make: Stages) -> None:
    """The branch does not ask for the status; the label came when no job ran."""
    stage = make.decided(config=ARMED)
    stage.hub.switches.actions_may_open_pulls = False
    assert stage.publish().code != 0
    stage.hub.protect("main", QUEUE)
    assert stage.hub.person_opens_pull("octo", head=BRANCH, title="Opened by hand") == PULL
    look(stage, "look")
    assert is_left(stage)
    stage.hub.person_labels(PULL, "ratchet:hold")

    (ran,) = forms(stage)

    assert (ran.code, is_left(stage)) == (0, False), ran.err
    assert stage.hub.run_merge_queue() == []


def test_what_cannot_be_judged_leaves_the_queue(make: Stages) -> None:
    stage = make.after(queued, config=ARMED)
    stage.hub.state.protections.clear()
    stage.hub.person_pushes("octo", "main", {"ratchet.yml": "skills: [\n"})
    stage.hub.protect("main", QUEUE)

    (ran,) = forms(stage)

    assert ran.code != 0
    assert not is_left(stage)


def reverting(stage: Stage) -> None:
    """A merged edit is to be taken out again, which is left to the merge queue."""
    stage.decide()
    assert stage.publish().json["action"] == "merge"
    stage.hub.protect("main", QUEUE)
    stage.sha = None
    github = api.connect(None)
    job = publish_job.open_job(stage.job("revert").path, github=github, skill=None)
    number = job.ledger.experiments()[0].id
    assert revert.revert(job, number, by="octo").action == "hold"


@pytest.mark.parametrize("heard", [True, False])
def test_a_revert_in_the_queue_can_be_stopped(make: Stages, heard: bool) -> None:  # noqa: FBT001
    stage = make.after(reverting, config=ARMED)
    number = PULL + 1
    pull = stage.hub.issue(number).pull
    assert pull is not None
    assert pull.queued
    hears(stage, "push")
    assert pull.queued
    stage.hub.person_labels(number, "Ratchet:Hold")

    ran = hears(stage, "pull_request", action="labeled") if heard else forms(stage)[0]

    assert ran.code == 0, ran.err
    assert not stage.hub.issue(number).pull.queued  # type: ignore[union-attr]
    assert stage.hub.run_merge_queue() == []
    assert stage.hub.read("main", SKILL) == EDITED


@pytest.mark.parametrize("does", ["nothing", "spelt", "edits"])
def test_new_fixtures_in_the_queue_are_judged_as_such(
    make: Stages, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    stage = make.after(seated, config=settings(merge="manual"))
    desk = Desk(stage.hub, stage, monkeypatch)
    assert desk.correct().code == 0
    (number,) = (one.number for one in stage.hub.state.issues.values() if one.pull)
    head = stage.hub.tip("ratchet/fixtures") or ""
    if does == "edits":
        edit = {SKILL: f"{SKILL_TEXT}Mine.\n"}
        head = stage.hub.person_pushes("octo", "ratchet/fixtures", edit)
        stage.hub.issue(number)
    if does == "spelt":
        stage.hub.person_labels(number, "Ratchet:Hold")
    stage.hub.protect("main", REQUIRED)
    bot = stage.hub.state.users["github-actions[bot]"]
    stage.hub.state.set_status(bot, head, state="success", context="ratchet/holdout")
    stage.hub.person_enqueues("octo", number)

    (ran,) = forms(stage)

    assert ran.code == 0, ran.err
    assert stage.hub.run_merge_queue() == ([number] if does == "nothing" else [])


def test_a_persons_untested_edit_does_not_pass_the_queue(make: Stages) -> None:
    stage = make()
    stage.hub.protect("main", REQUIRED)
    sha = stage.hub.person_pushes("octo", "mine", {SKILL: f"{SKILL_TEXT}Mine.\n"})
    number = stage.hub.person_opens_pull("octo", head="mine", title="Mine")
    bot = stage.hub.state.users["github-actions[bot]"]
    stage.hub.state.set_status(bot, sha, state="success", context="ratchet/holdout")
    stage.hub.person_enqueues("octo", number)

    (ran,) = forms(stage)

    assert ran.code == 0, ran.err
    assert stage.hub.run_merge_queue() == []
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


def test_a_persons_edit_of_the_bots_branch_loses_a_status_that_is_old(make: Stages) -> None:
    """It was tested by itself, and the base has gone on since."""
    stage = make.published(config={"gate": {"merge": "manual"}})
    stage.hub.add_user("ann", "write")
    sha = stage.hub.person_pushes("ann", BRANCH, {SKILL: f"{SKILL_TEXT}Mine.\n"})
    bot = stage.hub.state.users["github-actions[bot]"]
    stage.hub.state.set_status(bot, sha, state="success", context="ratchet/holdout")

    assert hears(stage, "push").json["outcome"] == "done"

    (status,) = api.connect(None).statuses(sha)
    assert status.state == "pending"


# What came too late is said -------------------------------------------------------------------


def case_unheard(stage: Stage) -> None:
    case = '{"input": "Well?", "expected": "yes"}'
    stage.hub.person_pushes("octo", "main", {"fixtures/triage/holdout/h9.yml": case})


def label_unheard(stage: Stage) -> None:
    stage.hub.person_labels(PULL, "ratchet:hold")


@pytest.mark.parametrize(
    ("unheard", "reason"), [(None, "improved"), (case_unheard, "stale"), (label_unheard, "held")]
)
def test_what_github_merged_is_judged_again_and_recorded_as_the_bots(
    make: Stages, unheard: Callable[[Stage], None] | None, reason: str
) -> None:
    """No job ran between the change and the merge."""
    stage = make.after(armed, config=ARMED)
    if unheard:
        unheard(stage)
    bot = stage.hub.state.users["github-actions[bot]"]
    tip = stage.hub.tip(BRANCH) or ""
    stage.hub.state.set_status(bot, tip, state="success", context="ci")
    merging.settle(stage.hub.state)
    assert stage.hub.read("main", SKILL) == EDITED

    told = look(stage, "after").json

    assert (told["action"], told["reason"]) == ("merge", reason), told
    assert ("not to be merged any more" in told["detail"]) == (reason != "improved")
    ledger = stage.job("ledger").ledger()
    assert ledger.landings().popitem()[1].by == "ratchet"
    assert ledger.results().popitem()[1].reason == reason


# Nothing is missed between the last look and the merge ----------------------------------------


def objects(stage: Stage) -> None:
    stage.hub.person_reviews("ann", PULL, "REQUEST_CHANGES", "Not so.")


def ticks_unheard(stage: Stage) -> None:
    board = next(one for one in stage.hub.state.issues.values() if one.pull is None)
    body = (board.body or "").replace("- [ ] hold", "- [x] hold")
    stage.hub.person_edits("octo", board.number, body=body)


def approved(stage: Stage) -> None:
    stage.hub.add_user("ann", "write")
    stage.decide()
    assert stage.publish().json["reason"] == "awaits_person"
    assert publish_all(stage, "board").code == 0
    stage.hub.add_user("bob", "write")
    stage.hub.person_reviews("bob", PULL, "APPROVE")


@pytest.mark.parametrize("does", [objects, ticks_unheard, label_unheard])
def test_a_no_while_github_computes_is_heard(make: Stages, does: Callable[[Stage], None]) -> None:
    """Mergeability is polled for up to half a minute, after everything else was read."""
    stage = make.after(approved, config={"gate": {"merge": "manual"}})
    stage.hub.state.issues[PULL].pull.unknown_reads = 6  # type: ignore[union-attr]
    reads = []

    def watch(method: str, path: str) -> None:
        if method == "GET" and path.endswith(f"/pulls/{PULL}"):
            reads.append(path)
            if len(reads) == 6:  # in the midst of the polling
                does(stage)

    stage.hub.watch(watch)

    ran = look(stage, "race")

    assert len(reads) >= 6
    assert (ran.code, ran.json["action"]) == (0, "hold"), ran.err
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


# A stranger's pull request with the same head -------------------------------------------------


def test_a_strangers_fork_with_the_same_head_holds_nothing(make: Stages) -> None:
    stage = make.after(approved, config={"gate": {"merge": "manual"}})
    stage.hub.add_user("eve", "none")
    tip = stage.hub.tip(BRANCH)
    stage.hub.state.git.move("refs/forks/eve/heads/same", tip)
    stage.hub.person_opens_pull("eve", head="eve:same", title="Mine now")

    assert look(stage, "look").json["action"] == "merge"
    assert stage.hub.read("main", SKILL) == EDITED


def test_check_misses_the_workflow_that_hears_a_hold(tmp_path: Path) -> None:
    """The workflows of an older version had none, and GitHub would merge what a person holds."""
    world = World.make(tmp_path / "p", config={"github": {"auto_merge": True}})
    known = load((world.path / "ratchet.yml").read_text())
    files = workflows.render(known, action=f"octo/ratchet@{'0123456789' * 4}", prefix="")
    for path, data in files.items():
        world.write(path, data.decode())
    assert world.ratchet("check").code == 0
    (world.path / ".github/workflows/ratchet-watch.yml").unlink()
    said = world.ratchet("check")
    assert said.code == 1
    assert "ratchet-watch.yml is missing" in said.err
    assert "ratchet init --github --force" in said.err
