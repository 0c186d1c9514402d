"""People who say no are heard, however they say it; and nobody without write access lets go.

The attacker has the triage role, or none, or nothing but bad luck: a maintainer's no that is
misread, overtaken by another job, or taken back by somebody who may not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from skill_ratchet.github import api, comments, pages, replies
from skill_ratchet.github.commands import BRAKES, NAMES, PEDALS, SlashCommand, Unknown, parse
from skill_ratchet.project import repository
from stage import comment_event
from world import SKILL, SKILL_TEXT, World

if TYPE_CHECKING:
    from pathlib import Path

    from scenes import Stages
    from stage import Stage
    from world import Ran

PULL: Final = 1
HOLD: Final = "ratchet:hold"
BRANCH: Final = "ratchet/triage"
EDITED: Final = f"{SKILL_TEXT}Rule alpha.\n"

# How people write ----------------------------------------------------------------------------

STOPS: Final = {  # what is written, and the reason that is kept of it
    "/ratchet hold": "",
    "/ratchet hold for now please": "for now please",
    "/ratchet hold please": "please",
    "/ratchet hold, I want to look at it": "I want to look at it",
    "/ratchet hold: not before Friday": "not before Friday",
    "/ratchet hold until @octo has seen it": "until @octo has seen it",
    "/ratchet HOLD!!!": "",
    "/ratchet **hold** it": "it",
    "/ratchet hold-off": "off",
    "/ratchet hold\nIt is wrong.\n\n/ratchet merge": "It is wrong.\n\n/ratchet merge",
    "/ratchet pause": "",
    "/ratchet stop this": "this",
    "/ratchet wait for me": "for me",
    "/ratchet halt.": "",
    "/ratchet please hold": "",
    "/ratchet pls stop, thanks": "thanks",
    "/ratchet: hold": "",
    "/ratchet do not merge": "do not merge",
    "/ratchet don't merge this yet": "don't merge this yet",
    "/ratchet don\u2019t merge": "don\u2019t merge",
    "/ratchet never run": "never run",
    "\ufeff/ratchet hold": "",
    "This is wrong.\n\n/ratchet hold\nSorry.": "Sorry.",
    "/ratchet merge\n/ratchet hold": "",
    "/ratchet status\n\n/ratchet stop": "",
}
NO_STOPS: Final = (
    "> /ratchet hold",
    "```\n/ratchet hold\n```",
    "~~~ sh\nx\n/ratchet hold\n~~~",
    "<!--\n/ratchet hold\n-->",
    "    /ratchet hold",
    "Say `/ratchet hold`.",
    "Use /ratchet hold for that",
    "/ratchet unhold",
    "/ratchet upholds",
    "/ratchet do not hold",
    "/ratchet\nhold",
    "/ratchet correct\nInput: x\n/ratchet hold\nExpected: y",
)
NOT_ALONE: Final = (  # and so nothing is merged, released or spent
    "/ratchet merge please",
    "/ratchet merge not before Friday",
    "/ratchet merge\nnot before Friday",
    "/ratchet merge, but only when the tests pass",
    "/ratchet merge?",
    "/ratchet merge!",
    "/ratchet merge triage",
    "/ratchet merge\n\n> It is fine.\n\nNo, it is not.",
    "/ratchet resume\nnot yet",
    "/ratchet resume triage\n\nwhen it is fixed",
    "/ratchet retry\nin a week",
    "/ratchet run triage\nno, wait",
    "/ratchet eval\nlater",
    "/ratchet revert 1\nif it is that one",
    "/ratchet gate " + "a" * 40 + "\n-- \nmy signature",
    "/ratchet transfer a,b\nnot c",
)


@pytest.mark.parametrize(("body", "reason"), STOPS.items())
def test_a_brake_is_heard_however_it_is_written(body: str, reason: str) -> None:
    assert parse(body) == SlashCommand(name="hold", argument=reason)


@pytest.mark.parametrize("body", NO_STOPS)
def test_what_is_shown_as_an_example_or_means_something_else_is_no_brake(body: str) -> None:
    said = parse(body)
    assert not (isinstance(said, SlashCommand) and said.name in BRAKES)


@pytest.mark.parametrize("body", NOT_ALONE)
def test_a_pedal_with_words_behind_it_is_refused(body: str) -> None:
    said = parse(body)
    if isinstance(said, SlashCommand):
        with pytest.raises(replies.RefusedError, match=r"^Not done: .*stands alone"):
            comments._require_alone(said)
    else:
        assert isinstance(said, Unknown), "which is refused, too"


@pytest.mark.parametrize(
    "body", ["/ratchet merge", "/ratchet merge\n\n> Is it ready?\n", " /ratchet merge  \n"]
)
def test_a_pedal_alone_goes(body: str) -> None:
    said = parse(body)
    assert said == SlashCommand(name="merge")
    comments._require_alone(said)


def test_no_pedal_takes_a_further_line() -> None:
    for name in PEDALS - {"correct"}:
        said = parse(f"/ratchet {name}\nbut not now")
        assert isinstance(said, SlashCommand)
        with pytest.raises(replies.RefusedError, match=r"^Not done: "):
            comments._require_alone(said)


@pytest.mark.parametrize("prefix", ["un", "de", "non", "dont", "don't-", "not-", "no", "stop-"])
def test_an_unknown_word_is_never_answered_with_its_opposite(prefix: str) -> None:
    for name in NAMES:
        said = parse(f"/ratchet {prefix}{name}")
        if isinstance(said, Unknown):
            assert said.nearest != name, said
            assert not (name in BRAKES and said.nearest in BRAKES)
        elif said is not None:
            assert said.name in BRAKES


# Scenes ---------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A repository on GitHub, its people, and the workflows that hear them."""

    stage: Stage
    monkeypatch: pytest.MonkeyPatch
    jobs: int = 0
    last: int = 0

    def __post_init__(self) -> None:
        self.hub = self.stage.hub
        for login, role in {"writer": "write", "sorter": "triage", "reader": "read"}.items():
            self.hub.add_user(login, role)  # type: ignore[arg-type]  # they are roles

    def job(self) -> World:
        """A fresh clone."""
        self.jobs += 1
        self.stage.sha = None
        return self.stage.job(f"job{self.jobs}")

    def says(self, login: str, body: str, number: int = PULL) -> Ran:
        """Somebody comments, and the workflow runs."""
        self.last = self.hub.person_comments(login, number, body)
        return self.again()

    def again(self) -> Ran:
        """The workflow runs for the last comment."""
        world = self.job()
        file = self.stage.folder / f"event{self.jobs}.json"
        file.write_text(json.dumps(comment_event(self.hub, self.last)), encoding="utf-8")
        self.monkeypatch.setenv("GITHUB_EVENT_NAME", "issue_comment")
        self.monkeypatch.setenv("GITHUB_EVENT_PATH", str(file))
        return world.ratchet("command", "--json")

    def look(self) -> Ran:
        """The publish job of the next day, when a maintainer has long approved."""
        return self.job().ratchet("publish", "--json")

    @property
    def reply(self) -> str:
        """What the bot answered to the last comment."""
        mark = pages.marker("reply", str(self.last))
        (said,) = [one.body for one in self.hub.comments(PULL) if one.body.startswith(f"{mark}\n")]
        return said.removeprefix(mark).strip()

    @property
    def labels(self) -> list[str]:
        """Of the pull request."""
        return self.hub.issue(PULL).labels

    def notes(self) -> list[tuple[str, str, str]]:
        """What the ledger has of people's words."""
        return [(one.kind, one.author, one.words) for one in self.job().ledger().notes()]

    @property
    def is_merged(self) -> bool:
        """Whether the edit is in."""
        return self.hub.read("main", SKILL) == EDITED


@pytest.fixture
def scene(make: Stages, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A proposal that won, waits for a person, and has been approved by one.

    So whichever job looks at it next merges it, unless it is stopped.
    """
    made = Scene(make.published(config={"gate": {"merge": "manual"}}), monkeypatch)
    made.hub.person_reviews("writer", PULL, "APPROVE")
    return made


def test_without_a_no_it_is_merged(scene: Scene) -> None:
    """Or the scenes below would show nothing."""
    assert scene.look().json["reason"] == "improved"
    assert scene.is_merged


def test_a_hold_with_words_behind_it_holds_and_keeps_them(scene: Scene) -> None:
    assert scene.says("writer", "/ratchet hold for now please").json["outcome"] == "done"
    assert scene.labels == ["ratchet", HOLD]
    assert scene.reply.startswith("`triage` is stopped until `/ratchet resume`.")
    assert scene.notes() == [("hold", "writer", "for now please")]
    assert scene.look().json["reason"] == "held"
    assert not scene.is_merged


def test_a_merge_with_words_behind_it_does_not_merge(scene: Scene) -> None:
    scene.says("writer", "/ratchet merge not before Friday")
    assert not scene.is_merged
    assert scene.reply.startswith("Not done: `/ratchet merge` takes nothing after it")
    assert "`/ratchet hold` stops instead" in scene.reply


def test_a_release_with_words_behind_it_does_not_release(scene: Scene) -> None:
    scene.hub.person_labels(PULL, HOLD)
    for body in ("/ratchet resume when it is fixed", "/ratchet resume\nwhen it is fixed"):
        scene.says("writer", body)
        assert scene.reply.startswith("Not done: ")
        assert HOLD in scene.labels
    assert not scene.is_merged


@pytest.mark.parametrize("body", ["/ratchet unhold", "/ratchet holdd", "/ratchet don't"])
def test_a_word_that_is_no_command_is_a_refusal(scene: Scene, body: str) -> None:
    ran = scene.says("writer", body)
    assert (ran.json["outcome"], scene.labels) == ("refused", ["ratchet"])
    assert scene.reply.startswith("Not done: there is no command ")
    assert ("Did you mean `/ratchet hold" in scene.reply) is ("holdd" in body)


def test_a_hold_is_heard_although_the_cases_cannot_be_read(scene: Scene) -> None:
    scene.hub.person_pushes("writer", "main", {"fixtures/triage/train/t1.yml": "input: [\n"})
    scene.says("writer", "/ratchet hold it is broken")
    assert HOLD in scene.labels
    assert "is stopped" in scene.reply
    assert "The reason could not be kept" in scene.reply


def test_a_hold_where_it_is_not_said_for_which_skill_holds_all(
    make: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an issue of a repository with several skills; one that is named is held alone."""
    two = {"triage": {"scorer": "label"}, "other": {"scorer": "label"}}
    made = Scene(make(config={"skills": two}), monkeypatch)
    mark = pages.marker("dashboard")
    body = f"{mark}\n\n- [ ] hold `other`\n- [ ] hold `triage`"
    board = api.connect(None).upsert_issue(marker=mark, title="Ratchet", body=body).number
    assert board == PULL
    made.says("writer", "/ratchet hold other, for now")
    assert made.hub.issue(board).body == body.replace("[ ] hold `other`", "[x] hold `other`")
    made.says("writer", "/ratchet hold everything")
    assert made.hub.issue(board).body == body.replace("[ ]", "[x]")
    assert "until `/ratchet resume other`" in made.reply


def test_a_hold_on_a_persons_pull_request_holds_that_one(scene: Scene) -> None:
    scene.hub.person_pushes("writer", "work", {SKILL: f"{SKILL_TEXT}Mine.\n"})
    number = scene.hub.person_opens_pull("writer", head="work", title="Mine")
    scene.says("writer", "/ratchet hold", number)
    assert [HOLD in scene.hub.issue(each).labels for each in (PULL, number)] == [True, True]
    scene.says("writer", "/ratchet resume", number)
    assert [HOLD in scene.hub.issue(each).labels for each in (PULL, number)] == [False, False]


# A no that another job overtakes ----------------------------------------------------------------


def test_a_publish_job_beside_a_rejection_does_not_merge(scene: Scene) -> None:
    """It looks when the reason is just being written down."""

    def publishes() -> None:
        assert scene.look().json["action"] != "merge"

    scene.hub.just_before("POST", r"/git-receive-pack$", publishes)
    ran = scene.says("writer", "/ratchet reject It drops the refund rule.")
    assert (ran.code, ran.json["outcome"], scene.hub.issue(PULL).state) == (0, "done", "closed")
    assert not scene.is_merged
    assert scene.notes() == [("reject", "writer", "It drops the refund rule.")]
    assert "Closed; the proposer is told why." in scene.reply
    assert scene.look().json["action"] is None
    assert not scene.is_merged


def test_a_rejection_that_comes_too_late_says_so(scene: Scene) -> None:
    """A person merges it between the look and the close."""
    close = rf"/pulls/{PULL}$"
    scene.hub.just_before("PATCH", close, lambda: scene.hub.person_merges("writer", PULL))
    ran = scene.says("writer", "/ratchet reject It drops the refund rule.")
    assert (ran.json["outcome"], scene.is_merged) == ("refused", True)
    assert scene.reply.startswith("Not done: the pull request was merged just before.")
    assert "/ratchet revert" in scene.reply
    assert scene.notes() == []


def test_a_rejection_that_cannot_be_written_down_holds_all_the_same(scene: Scene) -> None:
    """It is closed, or held, and the answer does not say that all is well."""
    scene.hub.fail_next("POST", r"/git-receive-pack$", 403, times=10)
    scene.says("writer", "/ratchet reject It drops the refund rule.")
    scene.hub.cancel_planned()
    assert scene.reply.startswith("Not done: ")
    assert (scene.hub.issue(PULL).state, HOLD in scene.labels) == ("closed", True)
    scene.look()
    assert not scene.is_merged
    assert [row["state"] for row in scene.job().ratchet("log", "--json").json] == [
        "reject: rejected"
    ]


def test_a_rejection_whose_job_was_ended_is_finished_with_its_reason(scene: Scene) -> None:
    """Between the close and the ledger."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with scene.monkeypatch.context() as patch:
        patch.setattr("skill_ratchet.github.pull_request.Job.note", die)
        assert scene.says("writer", "/ratchet reject Too short.").code == 130
    assert scene.hub.issue(PULL).state == "closed"
    assert scene.again().json["outcome"] == "done"
    assert scene.notes() == [("reject", "writer", "Too short.")]
    assert scene.hub.tip(BRANCH) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "say why"),
        (" It must say yes: would the zebra agree to h1?", "repeats text of held-out"),
    ],
    ids=["without a reason", "with held-out text"],
)
def test_a_rejection_that_cannot_be_taken_stops_the_merge_until_it_can(
    scene: Scene, words: str, says: str
) -> None:
    scene.says("writer", f"/ratchet reject{words}")
    assert scene.reply.startswith("Not done: ")
    assert says in scene.reply
    assert "Until then the label `ratchet:hold` stops" in scene.reply
    assert scene.look().json["reason"] == "held"
    assert not scene.is_merged


# Who lets go ------------------------------------------------------------------------------------


def test_who_may_only_label_stops_and_does_not_release(scene: Scene) -> None:
    """The triage role is refused by '/ratchet resume', and takes the label off by hand."""
    scene.hub.person_labels(PULL, HOLD, by="writer")
    scene.hub.person_unlabels("sorter", PULL, HOLD)
    for _ in range(2):
        assert scene.look().json["reason"] == "held"
        assert HOLD in scene.labels
    assert not scene.is_merged
    told = [one.body for one in scene.hub.comments(PULL) if "is on again" in one.body]
    assert len(told) == 1
    assert "sorter, who took it off, has no write access" in told[0]

    scene.hub.person_unlabels("writer", PULL, HOLD)
    assert scene.look().json["reason"] == "improved"
    assert scene.is_merged


def test_the_hold_of_who_may_only_label_is_a_hold(scene: Scene) -> None:
    """Of theirs too only a writer lets go, by hand or by a command."""
    scene.hub.person_labels(PULL, HOLD, by="sorter")
    assert scene.look().json["reason"] == "held"
    scene.hub.person_unlabels("sorter", PULL, HOLD)
    scene.says("writer", "/ratchet resume")
    assert HOLD not in scene.labels
    assert scene.is_merged


def test_a_label_that_is_gone_from_the_repository_was_not_taken_off(scene: Scene) -> None:
    """Nobody can say who did that, so it is on again until somebody who may takes it off."""
    scene.hub.person_labels(PULL, HOLD)
    with scene.hub.state.lock:
        scene.hub.issue(PULL).labels.remove(HOLD)
    assert scene.look().json["reason"] == "held"
    assert HOLD in scene.labels
    scene.says("writer", "/ratchet resume")
    assert scene.is_merged


@pytest.mark.parametrize("spelt", ["Ratchet:Hold", "RATCHET:HOLD"])
def test_a_label_holds_however_the_repository_spells_it(scene: Scene, spelt: str) -> None:
    scene.hub.person_labels(PULL, spelt)
    assert scene.look().json["reason"] == "held"
    due = scene.job().ratchet("due", "--json").json
    assert "on hold by the label" in str(due)
    scene.says("reader", "/ratchet status")
    assert ", held;" in scene.reply
    scene.says("writer", "/ratchet hold")
    assert scene.labels == ["ratchet", spelt]
    scene.says("writer", "/ratchet resume")
    assert scene.is_merged


def test_a_label_in_any_spelling_stops_a_merge_at_the_last_moment(scene: Scene) -> None:
    put = rf"/pulls/{PULL}$"
    for _ in range(6):  # whenever it is read again
        scene.hub.just_before("GET", put, lambda: scene.hub.person_labels(PULL, "Ratchet:Hold"))
    assert scene.look().json["action"] == "hold"
    scene.hub.cancel_planned()
    assert not scene.is_merged


# The stop file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "stops"),
    [
        (".ratchet-hold", True),
        ("tools/.ratchet-hold", True),
        ("tools/bot/.ratchet-hold", True),
        ("other/.ratchet-hold", False),
        ("tools/bot/skills/.ratchet-hold", False),
    ],
)
def test_the_stop_file_is_heard_at_the_project_and_above(
    tmp_path: Path,
    file: str,
    stops: bool,  # noqa: FBT001 - a table's cell
) -> None:
    world = World.make(tmp_path / "world", prefix="tools/bot/")
    project = repository.open_project(world.path / "tools/bot")
    target = world.path / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    assert repository.WorkTree(project).is_stopped() is stops
    assert not repository.CommitTree(project, "HEAD").is_stopped()
    world.git("add", "--all", "--force")
    world.git("commit", "--quiet", "--message", "stop")
    assert repository.CommitTree(project, "HEAD").is_stopped() is stops


def test_the_stop_file_at_the_top_stops_a_merge(scene: Scene) -> None:
    scene.hub.person_pushes("writer", "main", {".ratchet-hold": ""})
    assert scene.look().json["reason"] == "held"
    assert not scene.is_merged


def test_check_names_the_hooks_that_a_merge_will_not_run(tmp_path: Path) -> None:
    """Whose commit-msg refuses what it does not like is not to believe that it does."""
    world = World.make(tmp_path / "world")
    assert "does not run your hooks" not in world.ratchet("check").out
    hook = world.path / ".git/hooks/commit-msg"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert "does not run your hooks: commit-msg" in world.ratchet("check").out


# A branch that was brought up to date -----------------------------------------------------------


def test_what_is_said_of_an_updated_branch_is_said_of_its_proposal(scene: Scene) -> None:
    """The button 'Update branch' makes GitHub's own commit the head, which names no experiment."""
    (experiment,) = scene.job().ledger().experiments()
    scene.hub.person_pushes("writer", "main", {"README.md": "news\n"})
    scene.hub.person_updates_branch("writer", PULL)
    scene.says("reader", "/ratchet explain")
    assert scene.reply.startswith(f"Experiment {experiment.number} (`{experiment.id[:12]}`)")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with scene.monkeypatch.context() as patch:
        patch.setattr("skill_ratchet.github.pull_request.Job.note", die)
        assert scene.says("writer", "/ratchet reject Too short.").code == 130
    assert scene.again().json["outcome"] == "done"
    assert scene.notes() == [("reject", "writer", "Too short.")]
