"""Whatever way a person ships a proposal, the ledger says what was proposed and what went in."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from skill_ratchet.core.scoring import similarity
from skill_ratchet.experiment import proposer
from stage import staging
from views import proposers
from world import SEALED, SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fakehub.model import MergeMethod
    from skill_ratchet.core.records import Shipped
    from stage import Stage

EVENTS: Final = json.loads(
    (Path(__file__).parents[1] / "support/data" / "github-events.json").read_text(encoding="utf-8")
)
EDITED = f"{SKILL_TEXT}Rule alpha.\n"
THEIRS = f"{EDITED}And politely.\n"
LATER = f"{THEIRS}A later thought.\n"
MANUAL = {"gate": {"merge": "manual"}}
BRANCH = "ratchet/triage"
PULL = 1
# The first idea is right in all cases but one, so that there is something left to do after it.
HARD = {"train": ("t1", "t2", "t3", "t4"), "holdout": ("h1", "h2")}
MODEL = script([idea(1, "Rule alpha."), idea(2, "Rule beta.")])


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    with staging(tmp_path, monkeypatch) as build:
        yield build


def opened(make: Callable[..., Stage], **project: object) -> Stage:
    """With a pull request that waits for a person."""
    stage = make(**({"config": MANUAL} | project))
    stage.hub.add_user("octo", "write")
    stage.decide()
    stage.publish()
    assert stage.sha
    (stage.folder / "sha").write_text(stage.sha)
    stage.sha = None
    return stage


def look(stage: Stage, name: str) -> Any:
    ran = stage.job(name).ratchet("publish", "--json")
    assert ran.code == 0, ran.err
    return ran.json


def again(stage: Stage) -> Any:
    """The publish job of the first run once more, with its bundle."""
    bundle = stage.folder / "confirmation1"
    stage.sha = (stage.folder / "sha").read_text()
    ran = stage.job("again").ratchet("publish", "--json", "--bundle", str(bundle))
    stage.sha = None
    assert ran.code == 0, ran.err
    return ran.json


def ledger_tip(stage: Stage) -> str | None:
    return stage.hub.tip("ratchet/ledger")


def told(stage: Stage, name: str) -> tuple[list[str], dict[str, Shipped]]:
    """States, newest first, and what was shipped."""
    world = stage.job(name)
    states = [row["state"] for row in world.ratchet("log", "--json").json]
    return states, world.ledger().shipped()


def pushes(stage: Stage, text: str = THEIRS, branch: str = BRANCH) -> str:
    return stage.hub.person_pushes("octo", branch, {SKILL: text}, "Be polite")


def merges(stage: Stage, method: MergeMethod = "merge", message: str | None = None) -> str:
    return stage.hub.person_merges("octo", PULL, method=method, message=message)


# On GitHub ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [False, True], ids=["branch stays", "branch deleted"])
@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_what_a_person_changed_and_merged_is_not_the_experiments_own(
    make: Callable[..., Stage], method: MergeMethod, *, gone: bool
) -> None:
    """A suggestion taken is a commit, too. What comes later is not part of it."""
    stage = opened(make)
    pushes(stage)
    commit = merges(stage, method)
    pushes(stage, LATER, "main")
    if gone:
        stage.hub.person_deletes_branch(BRANCH)

    done = look(stage, "two")

    assert (done["action"], done["reason"]) == ("reject", "shipped_edited")
    states, shipped = told(stage, "told")
    (one,) = shipped.values()
    assert states == ["reject: shipped_edited"]
    assert (one.text, one.commit, one.by) == (THEIRS, commit, "octo")
    assert one.similarity == similarity(EDITED, THEIRS) < 1
    assert not one.unchanged
    assert (one.link or "").endswith("/pull/1")
    assert stage.hub.tip(BRANCH) is None
    (row,) = stage.job("row").ratchet("log", "--json").json
    assert row["landed"] is None

    before = ledger_tip(stage)
    assert look(stage, "three")["action"] is None
    assert again(stage)["reason"] == "shipped_edited"
    assert ledger_tip(stage) == before
    assert stage.hub.read("main", SKILL) == LATER


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_what_a_person_merged_as_it_was_landed(
    make: Callable[..., Stage], method: MergeMethod
) -> None:
    stage = opened(make)
    merges(stage, method, "Better triage" if method == "squash" else None)
    pushes(stage, LATER, "main")

    assert look(stage, "two")["reason"] == "improved"

    states, shipped = told(stage, "told")
    (one,) = shipped.values()
    assert states == ["merged"]
    assert (one.text, one.similarity, one.by, one.unchanged) == (EDITED, 1.0, "octo", True)
    before = ledger_tip(stage)
    look(stage, "three")
    again(stage)
    assert ledger_tip(stage) == before


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_what_the_bot_merged_was_shipped_as_it_was(make: Callable[..., Stage], method: str) -> None:
    stage = make(config={"github": {"method": method}})
    stage.decide()
    assert stage.publish().json["reason"] == "improved"
    stage.sha = None

    states, shipped = told(stage, "told")

    (one,) = shipped.values()
    assert (states, one.unchanged, one.by) == (["merged"], True, "ratchet")
    before = ledger_tip(stage)
    look(stage, "three")
    assert ledger_tip(stage) == before


def test_what_a_person_changed_and_closed_is_a_no_and_was_not_shipped(
    make: Callable[..., Stage],
) -> None:
    stage = opened(make)
    theirs = pushes(stage)
    stage.hub.person_edits("octo", PULL, state="closed")

    assert look(stage, "two")["reason"] == "rejected"

    assert told(stage, "told") == (["reject: rejected"], {})
    assert stage.hub.tip(BRANCH) == theirs


def test_what_a_person_merged_into_another_branch_is_not_in(make: Callable[..., Stage]) -> None:
    stage = opened(make)
    stage.hub.person_pushes("octo", "next", {"README.md": "next\n"})
    stage.hub.state.pull(PULL)[1].base = "next"
    stage.hub.issue(PULL)  # GitHub notices
    merges(stage)

    assert look(stage, "two")["reason"] == "rejected"
    assert told(stage, "told") == (["reject: rejected"], {})
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


def test_while_it_is_open_nothing_is_said_of_it(make: Callable[..., Stage]) -> None:
    stage = opened(make)
    pushes(stage)
    assert look(stage, "two")["reason"] == "edited"
    assert told(stage, "told")[1] == {}


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_run_that_sees_no_pull_request_comes_first(
    make: Callable[..., Stage], method: MergeMethod
) -> None:
    """It finds what git tells; the job that sees GitHub says the rest, or puts it right."""
    stage = opened(make, model=MODEL, cases=HARD)
    pushes(stage)
    merges(stage, method)
    stage.hub.person_deletes_branch(BRANCH)
    stage.decide("2")
    ran = stage.publish("2")
    assert ran.code == 0, ran.err
    stage.sha = None
    look(stage, "three")

    states, shipped = told(stage, "told")

    (one,) = shipped.values()
    assert states[-1] == "reject: shipped_edited"
    assert (one.text, one.by) == (THEIRS, "octo")


def test_held_out_text_that_a_person_shipped_reaches_no_proposer(
    make: Callable[..., Stage],
) -> None:
    stage = opened(make)
    leak = f"{EDITED}Would the {SEALED} agree to h1? Say yes.\n"
    pushes(stage, leak)
    merges(stage)

    assert look(stage, "two")["reason"] == "shipped_edited"

    (one,) = told(stage, "told")[1].values()
    assert one.text is None
    assert one.similarity == similarity(EDITED, leak)
    world = stage.job("read")
    assert SEALED not in world.told("origin/ratchet/ledger")
    (past,) = proposer.read_past(proposers(world))
    assert past.edited
    assert SEALED not in str(past)


def test_a_secret_that_a_person_shipped_is_not_kept(
    make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "correct horse battery staple"
    monkeypatch.setenv("DEPLOY_TOKEN", value)
    stage = opened(make)
    pushes(stage, f"{EDITED}{value}\n")
    merges(stage)

    look(stage, "two")

    (one,) = told(stage, "told")[1].values()
    assert "Rule alpha." in (one.text or "")
    assert value not in stage.job("read").told("origin/ratchet/ledger")


def test_a_persons_change_can_be_tested_and_only_a_change(make: Callable[..., Stage]) -> None:
    """The bot's own head was tested already; what a person made of it was not."""
    stage = opened(make, model=MODEL, cases=HARD)
    flow = ".github/workflows/ratchet-gate.yml"
    text = (Path(__file__).parents[2] / flow).read_text(encoding="utf-8")
    stage.hub.person_pushes("octo", "main", {flow: text})
    head = stage.hub.tip(BRANCH)
    assert comments(stage, f"/ratchet gate {head}") == "refused"
    theirs = pushes(stage)
    assert comments(stage, f"/ratchet gate {theirs}") == "started"
    out = stage.folder / "gated"
    tested = stage.job("gate").ratchet("gate", "1", theirs, "--json", "--out", str(out))
    assert tested.json["reason"] == "awaits_person", tested.err
    said = stage.job("say").ratchet("gate", "1", theirs, "--json", "--bundle", str(out))
    assert said.json["state"] == "success", said.err

    merges(stage)
    assert look(stage, "two")["reason"] == "shipped_edited"
    stage.decide("2")
    stage.publish("2")
    stage.sha = None

    states, shipped = told(stage, "told")
    assert states[-2:] == ["merged", "reject: shipped_edited"]
    assert [one.text for one in shipped.values()] == [THEIRS]


def comments(stage: Stage, body: str) -> str:
    """What came of a comment on the pull request."""
    number = stage.hub.person_comments("octo", PULL, body)
    said, user = stage.hub.state.comments[number], {"login": "octo", "type": "User"}
    event = copy.deepcopy(EVENTS["issue_comment"])
    event["issue"] = {"number": PULL, "state": "open", "pull_request": {"url": "https://x"}}
    event["comment"] |= {"id": said.id, "body": body, "user": user}
    event["comment"] |= {"created_at": said.created_at, "updated_at": said.updated_at}
    event["repository"]["full_name"] = stage.hub.repository
    event["sender"] = dict(user)
    file = stage.folder / f"event{number}.json"
    file.write_text(json.dumps(event), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_EVENT_NAME", "issue_comment")
        ran = stage.job(f"command{number}").ratchet("command", "--json", "--event", str(file))
    assert ran.code == 0, ran.err
    return str(ran.json["outcome"])


def test_a_merge_that_the_base_has_lost_is_taken_for_nothing(make: Callable[..., Stage]) -> None:
    stage = opened(make)
    pushes(stage)
    merges(stage)
    old = (stage.folder / "sha").read_text()
    world = stage.job("rewrite")
    world.git("push", "--quiet", "--force", "origin", f"{old}:refs/heads/main")
    stage.hub.person_deletes_branch(BRANCH)

    assert look(stage, "two")["action"] is None
    assert told(stage, "told") == (["hold: awaits_person"], {})


# With plain git -------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A project with a proposal that waits on its branch."""
    world = World.make(tmp_path / "p", model=MODEL, cases=HARD, config=MANUAL)
    assert world.run().verdicts == [("hold", "awaits_person")]
    return world


def edits(world: World) -> None:
    """A commit of a person's on the proposal's branch."""
    world.git("switch", "--quiet", BRANCH)
    world.write(SKILL, THEIRS)
    world.commit("Be polite")
    world.git("switch", "--quiet", "main")


def fast_forward(world: World) -> None:
    world.git("merge", "--quiet", "--ff-only", BRANCH)


def fast_forward_and_delete(world: World) -> None:
    fast_forward(world)
    world.git("branch", "--quiet", "-d", BRANCH)


def merge_commit(world: World) -> None:
    world.git("merge", "--quiet", "--no-ff", "--message=taken", BRANCH)


def merge_beside_other_work(world: World) -> None:
    world.write("README.md", "news\n")
    world.commit("news")
    merge_commit(world)


def squash(world: World) -> None:
    world.git("merge", "--quiet", "--squash", BRANCH)
    world.commit("taken")
    world.git("branch", "--quiet", "--force", "done", BRANCH)


WAYS = [fast_forward, fast_forward_and_delete, merge_commit, merge_beside_other_work, squash]


@pytest.mark.parametrize("later", [False, True], ids=["", "later"])
@pytest.mark.parametrize("changed", [False, True], ids=["as it was", "changed"])
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_merge_by_hand_is_written_down(
    world: World, way: Callable[[World], None], *, changed: bool, later: bool
) -> None:
    if changed:
        edits(world)
    way(world)
    if later:
        world.write(SKILL, LATER)
        world.commit("a later thought")

    ran = world.ratchet("run", "--json", "--attempts", "1")

    assert ran.code == 0, ran.err
    rows = world.ratchet("log", "--json").json
    (one,) = world.ledger().shipped().values()
    expected = ("reject: shipped_edited", THEIRS) if changed else ("merged", EDITED)
    assert (rows[-1]["state"], one.text) == expected
    assert (one.by, one.unchanged) == ("A Developer", not changed), "whose clone it is, too"
    assert (rows[-1]["landed"] is None) == changed
    tip = world.tip("ratchet/ledger")
    world.run("--attempts", "0")
    assert world.ledger().shipped() == {one.experiment: one}
    again = world.git("diff", "--name-only", tip, "ratchet/ledger")
    assert "shipped.json" not in again
    assert "result.json" not in again


def test_where_git_does_not_tell_nothing_is_said_to_have_been_shipped(world: World) -> None:
    """Rebased and reworded by a person: what came with it and what came later look alike."""
    edits(world)
    fast_forward_and_delete(world)
    world.git("reflog", "expire", "--expire=all", "--all")

    world.run("--attempts", "0")

    assert [row["state"] for row in world.ratchet("log", "--json").json] == ["merged"]
    assert world.ledger().shipped() == {}


def test_what_a_person_made_of_it_is_measured_afresh(world: World) -> None:
    """Its reign begins anew, the next edit is narrow, and the proposer sees the change."""
    edits(world)
    fast_forward(world)

    ran = world.run("--attempts", "1")

    assert ran.json["calls"] >= 3, ran.json
    newest = world.ledger().experiments()[-1]
    assert newest.level == "add lines"
    assert newest.parent != world.ledger().experiments()[0].candidate
    assert world.ratchet("looks", "--json").json["attempts"] <= 1
    asked = next(trace for trace in world.ledger().traces(job="meta") if "politely" in str(trace))
    message = str(asked.reply.request)
    assert "A person shipped it with these changes" in message
    assert "+And politely." in message


def test_what_the_bot_merges_by_itself_was_shipped_as_it_was(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    assert world.run().verdicts == [("merge", "improved")]
    (one,) = world.ledger().shipped().values()
    assert (one.text, one.similarity, one.by) == (EDITED, 1.0, "ratchet")


def test_a_proposal_that_is_dropped_was_not_shipped(world: World) -> None:
    world.git("branch", "-D", BRANCH)
    world.run("--attempts", "1")
    assert world.ledger().shipped() == {}
