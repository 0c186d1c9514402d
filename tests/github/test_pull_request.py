"""What people do to a proposal on GitHub, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakehub import Protection
from skill_ratchet.github import api, publish, revert
from skill_ratchet.github.reviews import Review, standing
from stage import later
from world import SEALED, SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakehub.model import MergeMethod
    from scenes import Stages
    from skill_ratchet.github.pull_request import Job
    from stage import Stage

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
MANUAL = {"gate": {"merge": "manual"}}
BRANCH = "ratchet/triage"
PULL = 1


def opened(make: Stages, **project: object) -> Stage:
    """With a pull request that waits for a person."""
    stage = make.published(**({"config": MANUAL} | project))
    stage.sha = None
    return stage


def job(stage: Stage, name: str) -> Job:
    return publish.open_job(stage.job(name).path, github=api.connect(None), skill=None)


def states(stage: Stage, name: str = "look") -> list[str]:
    rows = stage.job(name).ratchet("log", "--json").json
    return [row["state"] for row in rows]


def approve(stage: Stage, login: str = "octo") -> None:
    stage.hub.person_reviews(login, PULL, "APPROVE")


def object_(stage: Stage, login: str = "octo") -> None:
    stage.hub.person_reviews(login, PULL, "REQUEST_CHANGES", "Not so.")


def reader_approves(stage: Stage) -> None:
    stage.hub.add_user("reader", "read")
    approve(stage, "reader")


def another_objects(stage: Stage) -> None:
    stage.hub.add_user("ann", "maintain")
    approve(stage)
    object_(stage, "ann")


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (approve, "improved"),
        (None, "awaits_person"),
        (reader_approves, "awaits_person"),
        (object_, "held"),
        (another_objects, "held"),
    ],
    ids=lambda one: getattr(one, "__name__", one or "nothing"),
)
def test_reviews_count(make: Stages, does: Callable[[Stage], None] | None, reason: str) -> None:
    stage = opened(make)
    stage.hub.add_user("octo", "write")
    if does is not None:
        does(stage)

    ran = stage.publish("2", bundle=False)

    assert (ran.code, ran.json["reason"]) == (0, reason), ran.err
    assert (stage.hub.read("main", SKILL) == EDITED) == (reason == "improved")


HEAD, OLDER = "a" * 40, "b" * 40
ROLES = {"octo": "write", "ann": "maintain", "reader": "read", "helper[bot]": "admin"}
YES, NO = "APPROVED", "CHANGES_REQUESTED"


@pytest.mark.parametrize(
    ("said", "holders", "releasers"),
    [
        ([], (), ()),
        ([("octo", YES)], (), ("octo",)),
        ([("octo", NO)], ("octo",), ()),
        ([("octo", "COMMENTED")], (), ()),
        ([("octo", NO), ("octo", YES)], (), ("octo",)),
        ([("octo", YES), ("octo", NO)], ("octo",), ()),
        ([("octo", NO), ("octo", "COMMENTED")], ("octo",), ()),
        ([("octo", NO), ("octo", "PENDING")], ("octo",), ()),
        ([("octo", NO), ("octo", "DISMISSED")], (), ()),
        ([("octo", YES), ("octo", "DISMISSED")], (), ()),
        ([("octo", YES), ("ann", NO)], ("ann",), ("octo",)),
        ([("reader", YES)], (), ()),
        ([("reader", NO)], (), ()),
        ([("stranger", YES)], (), ()),
        ([("stranger", NO)], ("stranger",), ()),
        ([("helper[bot]", YES), ("helper[bot]", NO)], (), ()),
        ([("", NO)], (), ()),
    ],
    ids=lambda one: " ".join(map("-".join, one)) if isinstance(one, list) else None,
)
def test_what_reviews_come_to(
    said: list[tuple[str, Any]], holders: tuple[str, ...], releasers: tuple[str, ...]
) -> None:
    """The last word of each; an approval of an older head is none, a no to it is one."""
    for head in (HEAD, OLDER):
        told = [
            Review(id=number, author=author, state=state, commit=head, body="", url="")
            for number, (author, state) in enumerate(said)
        ]
        found = standing(told, head=HEAD, roles=ROLES)
        assert found == (holders, releasers if head == HEAD else ())


def test_a_request_for_changes_stops_an_automatic_merge(
    make: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = opened(make, config={"gate": {"merge": "after 1h"}})
    stage.hub.add_user("octo", "write")
    object_(stage)
    later(monkeypatch)

    assert stage.publish("2", bundle=False).json["reason"] == "held"
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


@pytest.mark.parametrize(("review", "reason"), [(approve, "awaits_person"), (object_, "held")])
def test_a_role_that_github_does_not_tell_holds_and_releases_nothing(
    make: Stages, review: Callable[[Stage], None], reason: str
) -> None:
    """Not knowing whether somebody may object is taken as an objection, never as a release."""
    stage = opened(make)
    stage.hub.add_user("octo", "write")
    review(stage)
    stage.hub.fail_next("GET", "/collaborators/octo/permission", 500, times=9)

    ran = stage.publish("2", bundle=False)

    assert ran.json["reason"] == reason, ran.err


def test_an_approval_of_an_older_head_releases_nothing(make: Stages) -> None:
    stage = opened(make)
    stage.hub.add_user("octo", "write")
    approve(stage)
    # Somebody moves the branch to another commit with the very same text.
    world = stage.job("mover")
    world.git("checkout", "--quiet", BRANCH)
    world.git("commit", "--quiet", "--amend", "--no-edit", "--date=2001-01-01T00:00:00Z")
    world.git("push", "--quiet", "--force", "origin", BRANCH)

    ran = stage.publish("2", bundle=False)

    assert ran.json["reason"] == "awaits_person", ran.err


def test_what_is_merged_names_who_released_it(make: Stages) -> None:
    stage = opened(make)
    done = job(stage, "command").settle(released_by="octo")
    assert (done.action, done.reason) == ("merge", "improved")
    (row,) = stage.job("look").ratchet("log", "--json").json
    assert row["landed"]["by"] == "ratchet, for octo"
    assert stage.hub.tip(BRANCH) is None


def test_a_base_that_moved_elsewhere_rewrites_nothing(make: Stages) -> None:
    """No rebase storms: what was proposed stays as people saw it, and can still be merged."""
    stage = opened(make)
    head = stage.hub.tip(BRANCH)
    for number in range(3):
        stage.hub.person_pushes("octo", "main", {"README.md": f"news {number}\n"})
        assert stage.publish(f"again{number}", bundle=False).json["reason"] == "awaits_person"
        assert stage.hub.tip(BRANCH) == head

    assert job(stage, "command").settle(released_by="octo").action == "merge"
    assert stage.hub.read("main", SKILL) == EDITED
    assert stage.hub.read("main", "README.md") == "news 2\n"


def test_a_branch_that_must_be_up_to_date_is_brought_up_to_date(
    make: Stages,
) -> None:
    stage = opened(make)
    head = stage.hub.tip(BRANCH)
    stage.hub.person_pushes("octo", "main", {"README.md": "news\n"})
    stage.hub.protect("main", Protection(strict=True, contexts=("ratchet/holdout",)))

    first = job(stage, "one").settle(released_by="octo")
    assert first.reason == "merge_refused"
    assert "up to date" in first.detail
    assert stage.hub.tip(BRANCH) != head
    assert stage.hub.read("main", SKILL) == SKILL_TEXT

    assert job(stage, "two").settle(released_by="octo").action == "merge"
    assert stage.hub.read("main", SKILL) == EDITED
    assert stage.hub.read("main", "README.md") == "news\n"


def stale_skill(stage: Stage) -> None:
    stage.hub.person_pushes("octo", "main", {SKILL: f"{SKILL_TEXT}Mine.\n"})


def test_a_stale_proposal_is_closed_with_the_reason(make: Stages) -> None:
    stage = opened(make)
    stale_skill(stage)

    ran = stage.publish("2", bundle=False)

    assert ran.json["reason"] == "stale", ran.err
    assert stage.hub.issue(PULL).state == "closed"
    assert "skill" in stage.hub.comments(PULL)[-1].body
    assert stage.hub.tip(BRANCH) is None
    assert states(stage) == ["reject: superseded"]
    assert stage.decide("3")["experiment"]


def test_closing_the_pull_request_is_a_no(make: Stages) -> None:
    stage = opened(make)
    stage.hub.person_edits("octo", PULL, state="closed")

    ran = stage.publish("2", bundle=False)

    assert (ran.code, ran.json["reason"]) == (0, "rejected"), ran.err
    assert stage.hub.tip(BRANCH) is None
    assert states(stage) == ["reject: rejected"]
    again = stage.publish("3", bundle=False)
    assert again.json["action"] is None


@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_persons_merge_is_written_down(
    make: Stages, method: MergeMethod, *, delete: bool
) -> None:
    stage = opened(make)
    words = "Better triage" if method == "squash" else None  # without the trailers
    stage.hub.person_merges("octo", PULL, method=method, message=words)
    if delete:
        stage.hub.person_deletes_branch(BRANCH)

    ran = stage.publish("2", bundle=False)

    assert (ran.code, ran.json["action"]) == (0, "merge"), ran.err
    assert stage.hub.tip(BRANCH) is None
    assert states(stage) == ["merged"]


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_each_way_to_merge_is_found_again(make: Stages, method: str) -> None:
    stage = make.decided(config={"github": {"method": method}})

    assert stage.publish().json["action"] == "merge"

    stage.sha = None
    told = stage.job("look").git("log", "-1", "--format=%B", "--no-merges")
    assert "Ratchet-Experiment: " in told
    assert stage.hub.tip(BRANCH) is None
    assert stage.publish("2", bundle=False).json["detail"].startswith("There is no open")
    reverted = revert.revert(job(stage, "command"), "1", by="octo")
    assert (reverted.action, reverted.pull) == ("revert", 2)
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    assert states(stage, "after") == ["reverted"]
    assert revert.revert(job(stage, "twice"), "1", by="octo").action is None


def test_a_revert_that_the_branch_forbids_waits(make: Stages) -> None:
    stage = make.published()
    stage.sha = None
    stage.hub.protect("main", Protection(contexts=("ci",)))

    done = revert.revert(job(stage, "command"), "1", by="octo")

    assert (done.action, done.pull) == ("hold", 2)
    assert stage.hub.issue(2).state == "open"
    assert stage.hub.read("main", SKILL) == EDITED


def test_a_revert_is_merged_where_the_status_is_asked_for(make: Stages) -> None:
    stage = make.published()
    stage.sha = None
    stage.hub.protect("main", Protection(contexts=("ratchet/holdout",)))

    assert revert.revert(job(stage, "command"), "1", by="octo").action == "revert"
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


def test_auto_merge_is_used_where_it_is_wanted(make: Stages) -> None:
    stage = make(config={"github": {"auto_merge": True}})
    stage.hub.switches.allow_auto_merge = True
    stage.hub.protect("main", Protection(contexts=("ci",)))
    stage.decide()

    ran = stage.publish()

    assert ran.json["reason"] == "merge_refused", ran.err
    assert ran.json["detail"] == "GitHub merges it when the rules of the branch are met."
    assert "GitHub merges it" in stage.hub.comments(PULL)[0].body


def test_a_rejection_is_closed_with_the_words_and_told_to_the_proposer(
    make: Stages,
) -> None:
    words = "Too broad: @octo says\n<!-- ratchet:sticky triage -->\nname the bank."
    # The second idea is given only to a prompt that has the person's words in it.
    second = {"system_contains": "You improve one", "input_contains": "name the bank."}
    first = [{"when": second, "text": idea(2, "Rule beta.")}]
    stage = opened(make, model=script(first=first))

    done = job(stage, "command").reject(by="octo", words=words, url="https://x.test/1")

    assert (done.action, done.reason) == ("reject", "rejected")
    closing = stage.hub.comments(PULL)[-1].body
    assert "name the bank." in closing
    assert "@octo" not in closing
    assert stage.hub.issue(PULL).state == "closed"
    assert stage.hub.tip(BRANCH) is None
    assert states(stage) == ["reject: rejected"]
    (note,) = stage.job("notes").ledger().notes()
    assert (note.words, note.author, note.kind) == (words, "octo", "reject")

    again = stage.job("next").ratchet("propose", "--json", "--bundle", str(stage.folder / "n"))
    assert again.json["experiments"], again.err
    assert "idea 2" in stage.folder.joinpath("n").joinpath("manifest.json").read_text() or (
        World(stage.folder / "next").told("ratchet/ledger").count("idea 2")
    )


def test_everything_can_be_shown(make: Stages) -> None:
    """`publish: all` opens and closes what was rejected; what would leak is not shown."""
    leak = f"Would the {SEALED} agree to h1?"
    ideas = [idea(1, "Rule beta."), idea(2, leak), idea(3, "Rule alpha.")]
    stage = make(
        model=script(ideas),
        config={"github": {"publish": "all"}, "loop": {"attempts": 3}},
    )
    stage.decide()

    ran = stage.publish()

    assert ran.code == 0, ran.err
    shown = [one for _, one in sorted(stage.hub.state.issues.items()) if one.pull]
    closed = [one for one in shown if one.state == "closed"]
    assert len(closed) == len(shown) > 1
    assert SEALED not in stage.hub.world()
    assert "idea 1" in shown[0].title
    assert stage.hub.tip(BRANCH) is None
    world = stage.hub.world()
    again = stage.publish("1b", bundle=False)
    assert again.code == 0
    assert stage.hub.world() == world
