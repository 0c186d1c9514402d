"""What comments and reviews on GitHub make the bot do, and above all what they do not."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from fakehub import FakeHub, Fault
from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.experiment.recorder import Recorder
from skill_ratchet.github import api, comments, events, pages, replies
from skill_ratchet.github.api import GitHub
from skill_ratchet.github.commands import NAMES, NEEDS, SlashCommand, parse
from skill_ratchet.github.http import Wire
from skill_ratchet.github.pull_request import Job
from skill_ratchet.github.replies import Asked
from skill_ratchet.github.reviews import UNKNOWN
from skill_ratchet.project import repository, workspace
from skill_ratchet.report import history
from stage import EVENTS, Stage, comment_event
from world import BOTH, SKILL, SKILL_TEXT, World, case, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skill_ratchet.github.comments import Handled
    from world import Ran

ROOT: Final = Path(__file__).parents[2]
FLOWS: Final = ("ratchet.yml", "ratchet-gate.yml", "ratchet-transfer.yml")
EDITED: Final = f"{SKILL_TEXT}Rule alpha.\n"
BRANCH: Final = "ratchet/triage"
PULL, ISSUE, THEIRS, FORKED = 1, 2, 3, 4
ROLES: Final = {
    "owner": "admin",
    "keeper": "maintain",
    "writer": "write",
    "sorter": "triage",
    "reader": "read",
}
SECRET: Final = "hunter2-hunter2-hunter2"  # noqa: S105 - what must not come out
LEAK: Final = "It must say yes: would the zebra agree to h1?"
ASKED: Final = "Asked GitHub to run"


@dataclass
class Scene:
    """A repository on GitHub, and the workflow that comments start."""

    hub: FakeHub
    stage: Stage
    monkeypatch: pytest.MonkeyPatch
    last: int = 0  # the comment that was answered last
    runs: int = 0

    def says(self, login: str, body: str, number: int = PULL, **changes: Any) -> Ran:
        """Somebody comments, and the workflow runs."""
        self.last = self.hub.person_comments(login, number, body)
        return self.again(**changes)

    def again(self, **changes: Any) -> Ran:
        """The workflow runs for the last comment."""
        return self.event("issue_comment", self.comment_event(**changes))

    def comment_event(self, **changes: Any) -> dict[str, Any]:
        """The event of the last comment, as GitHub has it; keys of ``changes`` are paths."""
        event = comment_event(self.hub, self.last)
        changed(event, changes)
        return event

    def reviews(self, login: str, verb: str, body: str = "", **changes: Any) -> Ran:
        """Somebody reviews the bot's pull request, and the workflow runs."""
        self.hub.person_reviews(login, PULL, verb, body)
        return self.reviewed(**changes)

    def reviewed(self, **changes: Any) -> Ran:
        """The workflow runs for the last review."""
        pull = self.hub.issue(PULL).pull
        assert pull is not None
        given = pull.reviews[-1]
        user = {"login": given.user.login, "type": given.user.kind}
        event = copy.deepcopy(EVENTS["pull_request_review"])
        event["review"] |= {"id": given.id, "body": given.body or None, "user": user}
        event["review"] |= {"state": given.state.lower(), "commit_id": given.commit}
        event["pull_request"]["number"] = PULL
        event["repository"]["full_name"] = self.hub.repository
        event["sender"] = dict(user)
        return self.event("pull_request_review", changed(event, changes))

    def event(self, name: str, event: Any, *, over_http: bool = False) -> Ran:
        """The job of the workflow, in a fresh clone."""
        self.runs += 1
        file = self.stage.folder / f"event{self.runs}.json"
        file.write_text(event if isinstance(event, str) else json.dumps(event), encoding="utf-8")
        self.monkeypatch.setenv("GITHUB_EVENT_NAME", name)
        self.monkeypatch.setenv("GITHUB_EVENT_PATH", str(file))
        job = self.stage.job(f"job{self.runs}", over_http=over_http)
        return job.ratchet("command", "--json")

    # What came of it

    @property
    def reply(self) -> str:
        """What the bot answered to the last comment, without its marker; "" for nothing."""
        number = self.hub.state.comments[self.last].number
        mark = pages.marker("reply", str(self.last))
        said = [one.body for one in self.hub.comments(number) if one.body.startswith(f"{mark}\n")]
        assert len(said) <= 1
        return said[0].removeprefix(mark).strip() if said else ""

    @property
    def reactions(self) -> list[str]:
        """The emoji at the last comment."""
        return [one.content for one in self.hub.state.comments[self.last].reactions]

    @property
    def started(self) -> list[tuple[str, str, dict[str, str]]]:
        """The workflows that were started."""
        return [(one.workflow, one.ref, one.inputs) for one in self.hub.dispatches]

    @property
    def asked(self) -> str:
        """The last comment as a workflow's input."""
        return f"{self.hub.state.comments[self.last].number}/{self.last}"

    def state(self, number: int = PULL) -> str:
        """Of an issue or pull request."""
        issue = self.hub.issue(number)
        return "merged" if issue.pull and issue.pull.merged_at else issue.state

    def head(self, number: int) -> str:
        """Of a pull request."""
        pull = self.hub.issue(number).pull
        assert pull is not None
        return pull.head_sha

    def ledger(self, skill: str = "triage") -> Any:
        """What is on the ledger of the remote."""
        self.runs += 1
        return self.stage.job(f"look{self.runs}").ledger() if skill else None

    def notes(self) -> list[tuple[str, str, str]]:
        """What the proposer will read of people."""
        return [(one.kind, one.author, one.words) for one in self.ledger().notes()]


def changed(event: Any, changes: dict[str, Any]) -> Any:
    """``event`` with some values replaced; ``a__b`` is key b in key a."""
    for path, value in changes.items():
        *way, last = path.split("__")
        part = event
        for step in way:
            part = part[step]
        part[last] = value
    return event


# The scenes: made once, then copied


def _waiting(world: World) -> None:
    world.configure(gate={"merge": "manual"})


def _two_skills(world: World) -> None:
    world.configure(skills={"triage": {"scorer": "label"}, "other": {"scorer": "label"}})
    world.write("skills/other/SKILL.md", SKILL_TEXT.replace("triage", "other"))
    for split in ("train", "holdout"):
        world.write(f"fixtures/other/{split}/{split[0]}9.yml", case(f"{split[0]}9", split))
    world.commit("other")


def _fresh(_: World) -> None:
    pass


SCENES: Final[dict[str, tuple[Callable[[World], None], bool]]] = {  # and whether a job was run
    "waiting": (_waiting, True),
    "merged": (_fresh, True),
    "fresh": (_fresh, False),
    "two skills": (_two_skills, False),
}


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Bare repositories, and what the hub remembers beside them, by scene."""
    return {"": (tmp_path_factory.mktemp("scenes"), {})}


@pytest.fixture
def scene(
    shelf: dict[str, tuple[Path, dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], Scene]]:
    monkeypatch.setattr(Wire, "pause", lambda *_: None)
    hubs: list[FakeHub] = []

    def hub_at(bare: Path, folder: Path) -> Scene:
        hub = FakeHub(bare)
        hub.__enter__()
        hubs.append(hub)
        token = hub.actions_token()
        for name, value in {
            "GITHUB_TOKEN": token,
            "GITHUB_REPOSITORY": hub.repository,
            "GITHUB_API_URL": hub.url,
            "GITHUB_GRAPHQL_URL": hub.graphql,
            "PASSWORD": SECRET,
        }.items():
            monkeypatch.setenv(name, value)
        return Scene(hub, Stage(hub, folder, token), monkeypatch)

    def build(name: str) -> Scene:
        if name not in shelf:
            shelf[name] = _made(name, shelf[""][0] / name.replace(" ", "-"), hub_at)
        bare, memory = shelf[name]
        shutil.copytree(bare, tmp_path / "bare.git")
        made = hub_at(tmp_path / "bare.git", tmp_path)
        made.hub.recall(memory)
        return made

    yield build
    for hub in hubs:
        hub.__exit__(None, None, None)
    assert [wrong for hub in hubs for wrong in hub.violations] == []
    assert sum(hub.pending for hub in hubs) == 0


def _made(
    name: str, folder: Path, hub_at: Callable[[Path, Path], Scene]
) -> tuple[Path, dict[str, Any]]:
    """A scene from nothing."""
    prepare, run = SCENES[name]
    world = World.make(folder / "start")
    for flow in FLOWS:
        text = (ROOT / ".github/workflows" / flow).read_text(encoding="utf-8")
        world.write(f".github/workflows/{flow}", text)
    world.commit("workflows")
    prepare(world)
    bare = folder / "bare.git"
    command = ["git", "clone", "--quiet", "--bare", str(folder / "start"), str(bare)]
    subprocess.run(command, check=True)
    made = hub_at(bare, folder)
    hub, stage = made.hub, made.stage
    for login, role in ROLES.items():
        hub.add_user(login, role)  # type: ignore[arg-type]  # they are roles
    if run:
        stage.decide()
        assert stage.publish().code == 0
    else:
        hub.person_opens_issue("owner", "in the place of a pull request")
    hub.person_opens_issue("owner", "an issue")
    for branch, fork in (("work", False), ("topic", True)):
        hub.person_pushes("writer", branch, {SKILL: f"{SKILL_TEXT}{branch}.\n"}, fork=fork)
        head = "writer:topic" if fork else branch
        hub.person_opens_pull("writer", head=head, title=f"My {branch}")
    return bare, hub.remembered()


# Every command


def test_run_starts_a_run(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    for number in (PULL, ISSUE, THEIRS):
        ran = stage.says("writer", "/ratchet run", number)
        assert (ran.code, ran.json["outcome"]) == (0, "started"), ran.err
        inputs = {"skill": "triage", "reply": stage.asked}
        assert stage.started[-1] == ("ratchet.yml", "main", inputs)
        assert stage.reply.startswith(f"{ASKED} `ratchet.yml`.")
        assert stage.reactions == ["eyes"], "the rocket is for what was done"
    assert len(stage.started) == 3


def test_eval_starts_a_run_that_proposes_nothing(scene: Callable[[str], Scene]) -> None:
    stage = scene("fresh")
    assert stage.says("keeper", "/ratchet eval triage", ISSUE).json["outcome"] == "started"
    inputs = {"skill": "triage", "attempts": "0", "reply": stage.asked}
    assert stage.started == [("ratchet.yml", "main", inputs)]


@pytest.mark.parametrize("number", [THEIRS, FORKED], ids=["of the repository", "of a fork"])
def test_gate_starts_the_test_of_a_persons_pull_request(
    scene: Callable[[str], Scene], number: int
) -> None:
    stage = scene("fresh")
    head = stage.head(number)
    assert stage.says("writer", f"/ratchet gate {head}", number).json["outcome"] == "started"
    inputs = {"pull": str(number), "sha": head, "reply": stage.asked}
    assert stage.started == [("ratchet-gate.yml", "main", inputs)]


def test_transfer_starts_one_of_the_pull_requests_edit(scene: Callable[[str], Scene]) -> None:
    """On a pull request of Ratchet's: the experiment says which text is meant."""
    stage = scene("waiting")
    ran = stage.says("writer", "/ratchet transfer claude-haiku-5-5,local")
    assert ran.json["outcome"] == "started", ran.err
    (experiment,) = stage.ledger().experiments()
    inputs = {"skill": "triage", "models": "claude-haiku-5-5,local", "to": experiment.id}
    assert stage.started == [("ratchet-transfer.yml", "main", inputs | {"reply": stage.asked})]
    assert stage.reply.startswith(f"{ASKED} `ratchet-transfer.yml`.")
    assert stage.reactions == ["eyes"]


@pytest.mark.parametrize("number", [ISSUE, THEIRS])
def test_transfer_elsewhere_is_of_what_was_merged_last(
    scene: Callable[[str], Scene], number: int
) -> None:
    """Another person's pull request says nothing of which texts are compared."""
    stage = scene("fresh")
    assert stage.says("keeper", "/ratchet transfer triage a,b", number).json["outcome"] == "started"
    inputs = {"skill": "triage", "models": "a,b", "reply": stage.asked}
    assert stage.started == [("ratchet-transfer.yml", "main", inputs)]


def test_must_not_happen_that_a_secret_is_sent_on_as_a_model(
    scene: Callable[[str], Scene],
) -> None:
    stage = scene("fresh")
    ran = stage.says("writer", f"/ratchet transfer a,{SECRET}", ISSUE)
    assert (ran.json["outcome"], stage.started) == ("refused", [])
    assert SECRET not in stage.reply + ran.out + ran.err


def test_must_not_happen_that_half_of_a_secret_is_repeated(scene: Callable[[str], Scene]) -> None:
    """A secret with a space in it is looked for before the words are told apart."""
    stage = scene("fresh")
    stage.monkeypatch.setenv("PASSWORD", "correct-horse battery!staple")
    ran = stage.says("writer", "/ratchet transfer correct-horse battery!staple", ISSUE)
    assert (ran.json["outcome"], stage.started) == ("refused", [])
    assert "staple" not in stage.reply + ran.out + ran.err


@pytest.mark.parametrize("number", [PULL, ISSUE, THEIRS])
def test_explain_shows_the_verdict_with_its_numbers(
    scene: Callable[[str], Scene], number: int
) -> None:
    stage = scene("waiting")
    assert stage.says("reader", "/ratchet explain", number).json["outcome"] == "done"
    assert stage.reply.startswith("Experiment 1 (`")
    assert "sealed fixtures the new skill won" in stage.reply
    assert "screen on train    0% -> 100%" in stage.reply.replace("\N{RIGHTWARDS ARROW}", "->")
    assert "zebra" not in stage.reply
    assert stage.reactions == ["eyes", "rocket"]


def test_explain_tells_of_the_pull_request_it_is_asked_on(scene: Callable[[str], Scene]) -> None:
    """The newest experiment is another one by now."""
    stage = scene("merged")
    first = stage.ledger().experiments()[-1]
    other = script([idea(2, "Rule beta.")], right={"beta": BOTH})
    stage.hub.person_pushes("owner", "main", {"ratchet.script.yml": other})
    world = stage.stage.job("more")
    assert world.run().code == 0
    world.git("push", "--quiet", "origin", "ratchet/ledger")
    assert len(stage.ledger().experiments()) > 1
    stage.says("reader", "/ratchet explain")
    assert f"Experiment 1 (`{first.id[:12]}`)" in stage.reply
    stage.says("reader", "/ratchet explain", ISSUE)
    assert f"Experiment 1 (`{first.id[:12]}`)" not in stage.reply


def test_status_says_what_is_under_way(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.says("reader", "/ratchet status", ISSUE)
    (line,) = stage.reply.split("\n")
    assert line.startswith(f"- `triage`: [{PULL}](http")
    assert "is open; experiment 1 of 20" in line
    assert "hold: awaits\\_person" in line
    stage.hub.person_labels(PULL, "ratchet:hold")
    stage.hub.person_pushes("writer", "main", {".ratchet-hold": ""})
    stage.says("reader", "/ratchet status", ISSUE)
    line, stop = stage.reply.split("\n")
    assert "is open, held; experiment" in line
    assert "`.ratchet-hold` stops everything" in stop


def test_status_of_skills_that_were_never_run(scene: Callable[[str], Scene]) -> None:
    stage = scene("two skills")
    stage.says("reader", "/ratchet status", ISSUE)
    assert stage.reply.split("\n") == [
        "- `other`: nothing is open; nothing was tried yet",
        "- `triage`: nothing is open; nothing was tried yet",
    ]


def test_hold_and_resume(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.says("writer", "/ratchet hold", ISSUE)
    assert "ratchet:hold" in stage.hub.issue(PULL).labels
    assert (stage.reactions, "is stopped" in stage.reply) == (["eyes", "rocket"], True)
    stage.says("writer", "/ratchet merge")
    assert (stage.state(), stage.reactions) == ("open", ["eyes"])
    assert "hold, held" in stage.reply
    stage.says("writer", "/ratchet resume", ISSUE)
    assert "ratchet:hold" not in stage.hub.issue(PULL).labels
    assert "`triage` goes on." in stage.reply
    assert "awaits_person" in stage.reply
    assert stage.state() == "open"


def test_hold_ticks_the_box_of_the_dashboard(scene: Callable[[str], Scene]) -> None:
    stage = scene("fresh")
    mark = pages.marker("dashboard")
    body = f"{mark}\n\n- [ ] hold `triage`"
    board = api.connect(None).upsert_issue(marker=mark, title="Ratchet", body=body).number
    stage.says("writer", "/ratchet hold", ISSUE)
    assert stage.hub.issue(board).body == f"{mark}\n\n- [x] hold `triage`"
    stage.says("writer", "/ratchet status", ISSUE)
    assert stage.reply.startswith("- `triage`: nothing is open, held;")
    stage.says("writer", "/ratchet resume", ISSUE)
    assert stage.hub.issue(board).body == body


def test_there_must_be_something_to_hold(scene: Callable[[str], Scene]) -> None:
    stage = scene("fresh")
    ran = stage.says("writer", "/ratchet hold", ISSUE)
    assert (ran.code, ran.json["outcome"]) == (0, "refused")
    assert "no open pull request, and there is no dashboard" in stage.reply


REASON: Final = "It drops the **refund** rule.\n\n- `rm -rf`\n- see @octo, #1 <!-- x -->"


def test_reject_closes_it_and_the_proposer_hears_why(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    ran = stage.says("writer", f"/ratchet reject {REASON}")
    assert (ran.code, ran.json["outcome"], stage.state()) == (0, "done", "closed")
    assert stage.hub.tip(BRANCH) is None
    assert stage.notes() == [("reject", "writer", REASON)]
    assert stage.reactions == ["eyes", "rocket"]
    assert "reject, rejected: Closed" in stage.reply
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    bots = [one for one in stage.hub.comments(PULL) if one.user.kind == "Bot"]
    assert all("@octo" not in one.body and "#1" not in one.body for one in bots)


def test_retry_looks_again_at_what_is_open(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.says("writer", "/ratchet retry", ISSUE)
    assert (stage.started, stage.state()) == ([], "open")
    assert "hold, awaits_person" in stage.reply


def test_retry_of_what_is_stale_gives_it_up_and_starts_a_run(
    scene: Callable[[str], Scene],
) -> None:
    stage = scene("waiting")
    stage.hub.person_pushes("writer", "main", {SKILL: f"{SKILL_TEXT}Mine.\n"})
    ran = stage.says("writer", "/ratchet retry")
    assert (ran.json["outcome"], stage.state()) == ("started", "closed")
    assert stage.started == [("ratchet.yml", "main", {"skill": "triage", "reply": stage.asked})]
    assert "hold, stale" in stage.reply
    assert ASKED in stage.reply


def test_retry_without_anything_open_starts_a_run(scene: Callable[[str], Scene]) -> None:
    stage = scene("fresh")
    assert stage.says("writer", "/ratchet retry", ISSUE).json["outcome"] == "started"
    assert [inputs for _, _, inputs in stage.started] == [{"skill": "triage", "reply": stage.asked}]


@pytest.mark.parametrize("login", ["writer", "keeper", "owner"])
def test_merge_takes_what_waits_for_a_person(scene: Callable[[str], Scene], login: str) -> None:
    stage = scene("waiting")
    ran = stage.says(login, "/ratchet merge")
    assert (ran.code, ran.json["outcome"], stage.state()) == (0, "done", "merged")
    assert stage.hub.read("main", SKILL) == EDITED
    assert "merge, improved" in stage.reply
    assert stage.reactions == ["eyes", "rocket"]
    (landing,) = stage.ledger().landings().values()
    assert landing.by == f"ratchet, for {login}"


def test_in_a_clone_that_came_over_http_it_is_the_same(scene: Callable[[str], Scene]) -> None:
    """As a workflow has it: the others are copies of one that came from the disk."""
    stage = scene("waiting")
    copied = stage.stage.job("copied")
    real = stage.stage.job("real", over_http=True)
    for asked in (
        ("for-each-ref",),
        ("status", "--porcelain", "--branch"),
        ("config", "--local", "--list"),
        ("rev-list", "--all", "--objects", "--no-object-names"),
    ):
        assert sorted(copied.git(*asked).split("\n")) == sorted(real.git(*asked).split("\n"))
    assert copied.files() == real.files()
    stage.last = stage.hub.person_comments("writer", PULL, "/ratchet merge")
    ran = stage.event("issue_comment", stage.comment_event(), over_http=True)
    assert (ran.code, ran.json["outcome"], stage.state()) == (0, "done", "merged"), ran.err
    assert len(stage.ledger().landings()) == 1


def test_revert_takes_it_out_again(scene: Callable[[str], Scene]) -> None:
    stage = scene("merged")
    assert stage.hub.read("main", SKILL) == EDITED
    ran = stage.says("writer", "/ratchet revert #1", ISSUE)
    assert (ran.code, ran.json["outcome"]) == (0, "done"), stage.reply
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    assert stage.reactions == ["eyes", "rocket"]
    assert "Taken out again by" in stage.reply
    (landing,) = stage.ledger().reversions().values()
    assert landing.by == "writer"
    stage.says("writer", f"/ratchet revert {landing.experiment[:12]}", PULL)
    assert stage.reactions == ["eyes"]
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


def test_help_lists_every_command(scene: Callable[[str], Scene]) -> None:
    stage = scene("fresh")
    for body in ("/ratchet help", "/ratchet", "/Ratchet HELP me"):
        stage.says("reader", body, ISSUE)
        assert stage.reply == pages.usage()
        assert stage.reactions == ["eyes", "rocket"]


def test_every_command_has_something_that_does_it() -> None:
    assert set(comments._ACTS) == set(NAMES)


# Which skill


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("/ratchet run", "Not done: say for which skill: `other`, `triage`."),
        ("/ratchet hold", "Not done: Skill other has no open pull request, and there is no"),
        ("/ratchet run nothing", "Not done: there is no such skill. There is `other`, `triage`."),
        ("/ratchet run ../triage", "Not done: there is no such skill."),
        ("/ratchet run triage other", "Not done: there is no such skill."),
        ("/ratchet eval Triage", "Not done: there is no such skill."),
        ("/ratchet revert 1", "Not done: there is no such experiment"),
        ("/ratchet explain triage", "Not done: the ledger has no experiment for this."),
    ],
)
def test_a_skill_is_named_where_there_are_several(
    scene: Callable[[str], Scene], body: str, says: str
) -> None:
    stage = scene("two skills")
    ran = stage.says("writer", body, ISSUE)
    assert (ran.code, ran.json["outcome"]) == (0, "refused")
    assert stage.reply.startswith(says)
    assert stage.started == []


def test_the_skill_that_was_named_is_run(scene: Callable[[str], Scene]) -> None:
    stage = scene("two skills")
    stage.says("writer", "/ratchet run other", ISSUE)
    assert [inputs["skill"] for _, _, inputs in stage.started] == ["other"]


def test_on_the_bots_pull_request_it_is_that_ones(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.says("writer", "/ratchet run other")
    assert stage.reply == "Not done: this pull request is for skill `triage`."
    stage.says("writer", "/ratchet run triage")
    assert [inputs["skill"] for _, _, inputs in stage.started] == ["triage"]


def test_a_pull_request_that_only_looks_like_the_bots_is_not(
    scene: Callable[[str], Scene],
) -> None:
    stage = scene("fresh")
    stage.hub.person_pushes("writer", BRANCH, {SKILL: f"{SKILL_TEXT}Mine.\n"})
    body = f"{pages.marker('pull', 'triage')}\n\nBy the bot."
    number = stage.hub.person_opens_pull("writer", head=BRANCH, title="triage: x", body=body)
    for command in ("merge", "reject it is bad"):
        stage.says("writer", f"/ratchet {command}", number)
        assert stage.reply == "Not done: say that on a pull request of Ratchet's."
    assert stage.state(number) == "open"
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


# What is left alone


def untouched(stage: Scene, before: str) -> None:
    """Nothing has happened but the comment itself."""
    assert stage.hub.world() == before
    assert (stage.started, stage.reply, stage.reactions) == ([], "", [])


NO_COMMANDS: Final[tuple[tuple[str, dict[str, Any], str], ...]] = (
    ("> /ratchet merge", {}, "not a command"),
    ("Please /ratchet merge", {}, "not a command"),
    ("Hm.\n/ratchet merge", {}, "not a command"),
    ("```\n/ratchet merge\n```", {}, "not a command"),
    ("`/ratchet merge`", {}, "not a command"),
    ("    /ratchet merge", {}, "not a command"),
    ("<!--\n-->/ratchet merge", {}, "not a command"),
    ("/ratchet merge", {"comment__body": None}, "not a command"),
    ("/ratchet merge", {"action": "edited"}, "created just now"),
    ("/ratchet merge", {"action": "deleted"}, "created just now"),
    ("/ratchet merge", {"comment__updated_at": "2031-01-01T00:00:00Z"}, "it was edited"),
    ("/ratchet merge", {"comment__user__type": "Bot"}, "a bot wrote it"),
    ("/ratchet merge", {"comment__performed_via_github_app": {"id": 1}}, "an app wrote it"),
    ("/ratchet merge", {"comment__user": None}, "is not who sent it"),
    ("/ratchet merge", {"sender__login": "reader"}, "is not who sent it"),
    ("/ratchet merge", {"repository__full_name": "octo/other"}, "another repository"),
)


class Silent:
    """GitHub, of which nothing may be asked but the ``role`` of a person, if there is one."""

    repository = EVENTS["issue_comment"]["repository"]["full_name"]

    def __init__(self, role: str | None = None) -> None:
        self.role = role

    def permission(self, _: str) -> str:
        assert self.role is not None, "nobody's role matters"
        return self.role

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"GitHub was asked for {name}")


def heard(name: str, changes: dict[str, Any], folder: Path, role: str | None = None) -> Handled:
    """What becomes of an event where there is no repository, and next to nothing of GitHub."""
    event = changed(copy.deepcopy(EVENTS[name]), changes)
    github = cast("GitHub", Silent(role))
    return comments.handle(folder / "nowhere", github=github, name=name, event=event)


@pytest.mark.parametrize(("body", "changes", "why"), NO_COMMANDS)
def test_for_what_is_no_command_of_a_person_nothing_is_asked(
    tmp_path: Path, body: str, changes: dict[str, Any], why: str
) -> None:
    handled = heard("issue_comment", {"comment__body": body} | changes, tmp_path)
    assert (handled.command, handled.outcome) == (None, "ignored")
    assert why in handled.detail


def test_a_command_of_a_person_would_have_been_looked_at(tmp_path: Path) -> None:
    """The table above is about something."""
    with pytest.raises(pytest.fail.Exception, match="GitHub was asked for"):
        heard("issue_comment", {"comment__body": "/ratchet merge"}, tmp_path)


@pytest.mark.parametrize(
    ("body", "changes", "why"),
    [NO_COMMANDS[0], next(row for row in NO_COMMANDS if row[1])],
    ids=["no command", "not of a person"],
)
def test_what_is_no_command_of_a_person_is_left_alone(
    scene: Callable[[str], Scene], body: str, changes: dict[str, Any], why: str
) -> None:
    stage = scene("waiting")
    stage.last = stage.hub.person_comments("owner", PULL, body)
    before = stage.hub.world()
    ran = stage.again(**changes)
    assert (ran.code, ran.json["outcome"]) == (0, "ignored"), ran.err
    assert why in ran.json["detail"]
    untouched(stage, before)
    assert stage.hub.writes == []


def test_a_bot_with_write_access_is_left_alone(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.hub.add_user("helper[bot]", "write")
    stage.last = stage.hub.person_comments("helper[bot]", PULL, "/ratchet merge")
    before = stage.hub.world()
    assert stage.again().json["detail"] == "a bot wrote it"
    as_a_user = {"comment__user__type": "User", "sender__type": "User"}
    assert stage.again(**as_a_user).json["detail"] == "a bot wrote it"
    untouched(stage, before)


def test_another_event_is_left_alone(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.last = stage.hub.person_comments("owner", PULL, "/ratchet merge")
    ran = stage.event("discussion_comment", stage.comment_event())
    assert (ran.code, ran.json["outcome"]) == (0, "ignored")
    untouched(stage, stage.hub.world())


WRITE_COMMANDS: Final = (
    "run",
    "eval",
    "gate " + "a" * 40,
    "transfer scripted",
    "hold",
    "resume",
    "reject it is bad",
    "retry",
    "merge",
    "revert 1",
    "correct\nInput: a\nExpected: b",
)


@pytest.mark.parametrize("role", ["read", "triage", "docs", "Admin", "admin ", ""])
@pytest.mark.parametrize("command", WRITE_COMMANDS)
def test_for_who_may_not_write_nothing_is_looked_up(
    tmp_path: Path, command: str, role: str
) -> None:
    """Neither in the repository nor on GitHub; a role that is not known to write does not."""
    assert _refusal(command, role, tmp_path).startswith("Not done: that takes write access")


@pytest.mark.parametrize("command", [*WRITE_COMMANDS, "status", "merg"])
def test_for_who_may_not_read_nothing_is_looked_up(tmp_path: Path, command: str) -> None:
    assert "does not say that you may read" in _refusal(command, UNKNOWN, tmp_path)


def test_every_command_that_takes_write_access_is_among_them() -> None:
    writing = {name for name, role in NEEDS.items() if role == "write"}
    assert {command.split()[0] for command in WRITE_COMMANDS} == writing


def _refusal(command: str, role: str, folder: Path) -> str:
    """What a person with a role is told, without a repository."""
    said = events.read("issue_comment", EVENTS["issue_comment"], repository=Silent.repository)
    asked = parse(f"/ratchet {command}")
    assert isinstance(said, events.NewComment)
    assert asked is not None
    github = cast("GitHub", Silent(role))
    clerk = comments._Clerk(folder / "nowhere", github, said, Asked(said.number, said.id))
    with pytest.raises(replies.RefusedError) as refusal:
        clerk._act(asked)
    return refusal.value.message


def test_who_may_not_write_is_refused(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.hub.add_user("stranger", "none")
    for login, command in (("reader", "merge"), ("sorter", "reject no"), ("stranger", "hold")):
        ran = stage.says(login, f"/ratchet {command}")
        assert (ran.code, ran.json["outcome"]) == (0, "refused")
        assert stage.reply == "Not done: that takes write access to this repository."
        assert stage.reactions == ["eyes"]
    assert (stage.state(), stage.started, stage.notes()) == ("open", [], [])
    assert stage.hub.issue(PULL).labels == ["ratchet"]
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(status=404, message="Not Found"), "you may read"),
        (Fault(status=200, body={"permission": "admin", "role_name": "Admin"}), "write access"),
    ],
)
def test_a_role_that_is_not_known_to_write_may_not(
    scene: Callable[[str], Scene], fault: Fault, says: str
) -> None:
    stage = scene("waiting")
    stage.hub.fail_next("GET", r"/collaborators/owner/permission$", fault)
    ran = stage.says("owner", "/ratchet merge")
    assert (ran.json["outcome"], stage.state()) == ("refused", "open")
    assert says in stage.reply


def test_a_permission_that_github_does_not_tell_is_none(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.hub.fail_next("GET", r"/permission$", 502, times=4)
    assert stage.says("owner", "/ratchet help").json["outcome"] == "refused"
    assert "GitHub does not say" in stage.reply


# Commands that are not fit


@pytest.mark.parametrize(
    ("body", "number", "says"),
    [
        (
            "/ratchet merg",
            PULL,
            "Not done: there is no command 'merg'. Did you mean `/ratchet merge`?",
        ),
        (
            "/ratchet deploy",
            PULL,
            "Not done: there is no command 'deploy'. `/ratchet help` lists them.",
        ),
        ("/ratchet merge", ISSUE, "Not done: say that on a pull request of Ratchet's."),
        ("/ratchet merge", THEIRS, "Not done: say that on a pull request of Ratchet's."),
        ("/ratchet reject", PULL, "Not done: say why: `/ratchet reject <reason>`."),
        (f"/ratchet reject {LEAK}", PULL, "Not done: that repeats text of held-out cases."),
        ("/ratchet reject " + "x" * 10_001, PULL, "Not done: that is longer than 10,000"),
        ("/ratchet gate " + "a" * 40, ISSUE, "Not done: say that on a pull request."),
        ("/ratchet gate " + "a" * 40, PULL, "Not done: this one is Ratchet's own"),
        ("/ratchet gate main", THEIRS, "Not done: name the commit by all 40 digits"),
        ("/ratchet gate OTHER", THEIRS, "Not done: the head of this pull request is `"),
        (
            "/ratchet transfer",
            PULL,
            "Not done: name the models: `/ratchet transfer [skill] <model,model",
        ),
        ("/ratchet transfer triage a,b c", PULL, "Not done: name the models"),
        ("/ratchet transfer a,a", PULL, "Not done: The model a is named twice."),
        (
            "/ratchet transfer nobody a,b",
            ISSUE,
            "Not done: there is no such skill. There is `triage`.",
        ),
        ("/ratchet transfer other a,b", PULL, "Not done: this pull request is for skill `triage`."),
        ("/ratchet revert HEAD~1", PULL, "Not done: name the experiment"),
        ("/ratchet revert 77", PULL, "Not done: there is no such experiment"),
        ("/ratchet revert 1", PULL, "Not done: Experiment 1 is not merged into main."),
    ],
)
def test_what_is_not_fit_is_refused_with_the_reason(
    scene: Callable[[str], Scene], body: str, number: int, says: str
) -> None:
    stage = scene("waiting")
    ran = stage.says("owner", body.replace("OTHER", stage.head(FORKED)), number)
    assert (ran.code, ran.json["outcome"] in ("refused", "done")) == (0, True), ran.err
    assert stage.reply.startswith(says)
    assert stage.reactions == ["eyes"]
    assert (stage.state(), stage.started, stage.notes()) == ("open", [], [])
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    bots = [one for one in stage.hub.state.comments.values() if one.user.kind == "Bot"]
    assert not any("zebra" in one.body for one in bots)


SHA: Final = "ab" * 20


@pytest.mark.parametrize(
    "name",
    ["", "main", "HEAD", SHA[:12], SHA[:39], f"{SHA}0", f"{SHA} --force", f"{SHA}\u200b",
     f"-{SHA[1:]}", SHA.upper(), f"{SHA}^", f"{SHA[:-1]}\N{DIGIT ONE}\N{COMBINING ACUTE ACCENT}"],
)  # fmt: skip
def test_a_commit_to_be_tested_is_named_by_all_its_digits(name: str) -> None:
    assert not comments._SHA.fullmatch(_argument(f"/ratchet gate {name}"))
    assert comments._SHA.fullmatch(_argument(f"/ratchet gate {SHA}"))


@pytest.mark.parametrize(
    "name", ["", "HEAD~1", "1; rm -rf /", "-1", "##1", "1 2", "main", "#", "0" * 65, "1\u200b"]
)
def test_an_experiment_to_be_reverted_is_named_by_number_or_id(name: str) -> None:
    assert not comments._EXPERIMENT.fullmatch(_argument(f"/ratchet revert {name}"))


def _argument(body: str) -> str:
    said = parse(body)
    assert isinstance(said, SlashCommand)
    return said.argument


@pytest.mark.parametrize("words", [LEAK, LEAK.upper(), f"> {LEAK}", f"First.\n\n{LEAK}\n\nLast."])
def test_a_reason_with_held_out_text_is_not_fit_for_the_proposer(
    tmp_path: Path, words: str
) -> None:
    project = repository.open_project(World.make(tmp_path / "world").path)
    space = workspace.open_at_base(project, skill="triage", override={})
    assert "repeats text of held-out cases" in comments._unfit(words, space)
    assert comments._unfit("It drops the refund rule.", space) == ""


def test_a_head_that_moved_is_not_tested(scene: Callable[[str], Scene]) -> None:
    stage = scene("fresh")
    seen = stage.head(THEIRS)
    now = stage.hub.person_pushes("writer", "work", {SKILL: "other"})
    stage.says("writer", f"/ratchet gate {seen}", THEIRS)
    assert stage.started == []
    assert f"`{now}`, not that commit" in stage.reply


def test_a_closed_pull_request_is_left_closed(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    for number in (PULL, THEIRS):
        stage.hub.person_edits("owner", number, state="closed")
    for number, command in (
        (PULL, "merge"),
        (PULL, "reject no"),
        (THEIRS, f"gate {stage.head(THEIRS)}"),
    ):
        stage.says("owner", f"/ratchet {command}", number)
        assert stage.reply == "Not done: this pull request is closed."
    assert stage.started == []
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


# What changed after the comment


@pytest.mark.parametrize("text", [EDITED, f"{EDITED}Mine.\n"], ids=["the same text", "another"])
def test_a_head_that_is_newer_than_the_comment_is_not_merged(
    scene: Callable[[str], Scene], text: str
) -> None:
    stage = scene("waiting")
    stage.last = stage.hub.person_comments("owner", PULL, "/ratchet merge")
    stage.hub.person_pushes("writer", BRANCH, {SKILL: f"{EDITED}More.\n"})
    stage.hub.person_pushes("writer", BRANCH, {SKILL: text})
    stage.again()
    assert (stage.state(), stage.hub.read("main", SKILL)) == ("open", SKILL_TEXT)
    assert "is newer than your comment" in stage.reply
    assert stage.reactions == ["eyes"]


def test_a_branch_that_a_person_edited_is_not_merged(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.hub.person_pushes("writer", BRANCH, {SKILL: f"{EDITED}Mine.\n"})
    stage.says("owner", "/ratchet merge")
    assert (stage.state(), stage.hub.read("main", SKILL)) == ("open", SKILL_TEXT)
    assert "holds a person" in stage.reply


def test_a_comment_that_was_edited_afterwards_says_what_the_event_says(
    scene: Callable[[str], Scene],
) -> None:
    stage = scene("waiting")
    stage.last = stage.hub.person_comments("owner", PULL, "/ratchet status")
    event = stage.comment_event()
    stage.hub.person_edits_comment("owner", stage.last, "/ratchet merge")
    assert stage.event("issue_comment", event).json["command"] == "status"
    assert stage.state() == "open"


# Once


def test_a_comment_is_acted_on_once(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    for body in ("/ratchet run", "/ratchet merg", "/ratchet explain", "/ratchet merge"):
        stage.says("owner", body)
        world, started, writes = stage.hub.world(), stage.started, len(stage.hub.writes)
        ran = stage.again()
        assert (ran.code, ran.json["detail"]) == (0, "it was answered before")
        assert (stage.hub.world(), stage.started) == (world, started)
        assert len(stage.hub.writes) == writes
    assert stage.state() == "merged"


def _dies(stage: Scene, owner: type, step: str, words: str) -> None:
    """The job is ended at a step, before it has answered."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with stage.monkeypatch.context() as patch:
        patch.setattr(owner, step, die)
        assert stage.says("owner", words).code == ExitCode.INTERRUPTED
    assert (stage.reply, stage.reactions) == ("", ["eyes"])


@pytest.mark.parametrize(("owner", "step"), [(Job, "_land"), (GitHub, "delete_branch")])
def test_a_merge_whose_job_died_is_finished_and_answered(
    scene: Callable[[str], Scene], owner: type, step: str
) -> None:
    """Before the ledger had it, and when nothing was left but the branch."""
    stage = scene("waiting")
    _dies(stage, owner, step, "/ratchet merge")
    assert stage.state() == "merged"

    again = stage.again()

    assert (again.code, again.json["outcome"]) == (0, "done"), again.err
    assert (stage.reply, stage.reactions) == ("This pull request is merged.", ["eyes", "rocket"])
    assert stage.hub.tip(BRANCH) is None
    assert len(stage.ledger().landings()) == 1


@pytest.mark.parametrize(
    ("owner", "step"),
    [(Recorder, "take_out"), (GitHub, "delete_branch"), (GitHub, "set_status")],
    ids=["merged", "recorded", "proposed"],
)
def test_a_revert_whose_job_died_is_finished(
    scene: Callable[[str], Scene], owner: type, step: str
) -> None:
    """The ledger says so, and the commit is the one that GitHub has signed."""
    stage = scene("merged")
    _dies(stage, owner, step, "/ratchet revert 1")

    again = stage.again()

    assert (again.code, again.json["outcome"]) == (0, "done"), again.err
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    (gone,) = stage.ledger().reversions().values()
    assert gone.by == "owner"
    assert stage.hub.tip(f"ratchet/revert-{gone.experiment[:12]}") is None
    assert stage.hub.world().count("GitHub: triage: revert experiment 1") == 1


def test_a_rejection_whose_job_died_is_finished_and_answered(
    scene: Callable[[str], Scene],
) -> None:
    stage = scene("waiting")
    _dies(stage, GitHub, "delete_branch", "/ratchet reject Too short.")
    assert stage.state() == "closed"

    again = stage.again()

    assert (again.code, again.json["outcome"]) == (0, "done"), again.err
    assert stage.reply == "Closed; the proposer is told why."
    assert stage.reactions == ["eyes", "rocket"]
    assert stage.hub.tip(BRANCH) is None
    assert stage.notes() == [("reject", "owner", "Too short.")]


def test_a_persons_marker_does_not_keep_the_bot_from_answering(
    scene: Callable[[str], Scene],
) -> None:
    stage = scene("waiting")
    stage.last = stage.hub.person_comments("owner", PULL, "/ratchet hold")
    mark = pages.marker("reply", str(stage.last))
    stage.hub.person_comments("reader", PULL, f"{mark}\n\nDone.")
    assert stage.again().json["outcome"] == "done"
    assert "ratchet:hold" in stage.hub.issue(PULL).labels


@pytest.mark.parametrize("after", [False, True], ids=["not started", "started"])
def test_a_run_is_started_at_most_once(scene: Callable[[str], Scene], after: bool) -> None:  # noqa: FBT001 - a table's cell
    """What cannot be looked up is not asked for again; the reply says so."""
    stage = scene("fresh")
    stage.hub.fail_next("POST", r"/dispatches$", 502, after_effect=after)
    ran = stage.says("owner", "/ratchet run", ISSUE)
    assert (ran.code, ran.json["outcome"]) == (0, "refused")
    assert "did not say whether it has started ratchet.yml" in stage.reply
    assert "Look under 'Actions'" in stage.reply
    assert len(stage.started) == after
    assert stage.again().json["outcome"] == "ignored"
    assert len(stage.started) == after


def test_a_job_that_died_before_it_started_the_run_does_not_start_it_twice(
    scene: Callable[[str], Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = scene("fresh")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skill_ratchet.github.api.GitHub.dispatch", die)
        assert stage.says("owner", "/ratchet run", ISSUE).code == 130
    assert stage.reply.startswith(ASKED)
    assert stage.again().json["outcome"] == "ignored"
    assert stage.started == []


def test_a_workflow_that_is_not_there_is_said(scene: Callable[[str], Scene]) -> None:
    stage = scene("fresh")
    stage.hub.person_pushes("owner", "main", {".github/workflows/ratchet.yml": None})
    ran = stage.says("owner", "/ratchet run", ISSUE)
    assert (ran.code, ran.json["outcome"]) == (0, "refused")
    assert "must be on the default branch" in stage.reply


def test_the_job_that_was_started_answers_in_the_same_reply(
    scene: Callable[[str], Scene],
) -> None:
    stage = scene("fresh")
    stage.says("owner", "/ratchet run", ISSUE)
    asked = replies.parse(stage.asked)
    github = api.connect(None)
    replies.answer(github, asked, "Merged.", well=True, redact=str)
    assert stage.reply == "Merged."
    assert stage.reactions == ["eyes", "rocket"]


# Texts that want to be more than text

ATTACKS: Final = {
    "mention": "@octo @acme/team closes #1 https://evil.example",
    "html": "<!-- ratchet:reply 1 --><img src=https://evil.example/x.png>",
    "fence": "```\n::error::x\n```\n/ratchet merge",
    "workflow command": "::set-output name=x::y",
    "grouped": "##[error]x",
    "expression": "${{ secrets.GITHUB_TOKEN }} $(id) `id`",
    "secret": SECRET,
    "control": "a\x1b[31mb\u202e\u2066c",
    "surrogate": "\\ud800",
    "path": "../../../etc/passwd",
    "ref": "--upload-pack=x refs/heads/main",
}


AT_ONCE: Final = " ".join(text for text in ATTACKS.values() if "\n" not in text)


@pytest.mark.parametrize("attack", [*ATTACKS, "all at once"])
def test_no_argument_does_more_than_text(
    scene: Callable[[str], Scene], monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    """Each alone where words are repeated: an unknown command's, and a model's name."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    stage = scene("fresh")
    harmful = ("@octo", "@acme", "#1", "https://evil", "<!--", "<img", SECRET, "\x1b")
    all_of_them = ("", "run", "gate", "transfer", "revert", "explain", "hold")
    for command in ("", "transfer") if attack in ATTACKS else all_of_them:
        ran = stage.says("writer", f"/ratchet {command} {ATTACKS.get(attack, AT_ONCE)}", THEIRS)
        assert ran.code == 0, ran.err
        assert stage.started == []
        assert stage.reply
        for said in (stage.reply, ran.out, ran.err):
            assert not any(part in said for part in harmful), said
            assert not any(line.lstrip().startswith(("::", "##[")) for line in said.splitlines())
    assert stage.hub.tip("main") is not None
    assert {one for one in stage.hub.state.git.refs("refs/heads") if "ratchet" in one} == set()


@pytest.mark.parametrize("attack", ["fence", "all at once"])
def test_a_reason_is_kept_word_for_word_and_shown_inert(
    scene: Callable[[str], Scene], attack: str
) -> None:
    """How a page shows whatever text is tested where pages are."""
    text = ATTACKS.get(attack, AT_ONCE)
    stage = scene("waiting")
    stage.says("writer", f"/ratchet reject No: {text}")
    assert stage.state() == "closed", stage.reply
    ((_, _, words),) = stage.notes()
    assert words == f"No: {text}".replace(SECRET, "[redacted:PASSWORD]")
    bots = [one.body for one in stage.hub.comments(PULL) if one.user.kind == "Bot"]
    for said in bots:
        assert not any(part in said for part in ("@octo", "@acme", SECRET, "\x1b"))
        assert not re.search(r"(?<!\\)<img|<!-- ratchet:reply 1 ", said)


def test_errors_that_tell_of_a_held_out_case_are_not_posted(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    broken = {"fixtures/triage/holdout/h1.yml": "input: Would the zebra agree\nexpect: 1\n"}
    stage.hub.person_pushes("owner", "main", broken)
    ran = stage.says("owner", "/ratchet resume")
    assert ran.code == 1
    assert "fixtures/triage/holdout/h1.yml" in ran.err
    assert stage.reply == "Not done: something failed. The log of this run says why."
    assert stage.reactions == ["eyes"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Case h2 is odd.", False),
        ("fixtures/triage/holdout/x.yml:3: odd", False),
        ("Odd: 'would the zebra agree to h1'.", False),
        ("Graph2 of the holdout is odd.", True),
    ],
)
def test_an_error_is_said_unless_it_tells_of_a_held_out_case(
    scene: Callable[[str], Scene], monkeypatch: pytest.MonkeyPatch, said: str, *, shown: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RatchetError(said)

    stage = scene("waiting")
    monkeypatch.setattr("skill_ratchet.github.pull_request.Job.hold", fail)
    ran = stage.says("owner", "/ratchet resume")
    assert ran.code == (0 if shown else 1)
    generic = "Not done: something failed. The log of this run says why."
    assert stage.reply == (f"Not done: {said}" if shown else generic)


def test_an_explanation_that_tells_of_a_held_out_case_is_not_posted(
    scene: Callable[[str], Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = scene("waiting")
    told = history.Explanation("Rejected: case h1 is odd.", "1 of 2", {})
    monkeypatch.setattr(history, "explain", lambda _: told)
    assert stage.says("owner", "/ratchet explain").code == 1
    assert "h1" not in stage.reply


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Rejected: 2 of 4 pairs won, bar 1.5.", True),
        ("Rejected: case 4 is odd.", False),
        ("Rejected: fixture 'won' is odd.", False),
        ("Rejected: h-4 is odd.", False),
        ("Rejected: see fixtures/triage/holdout.", False),
    ],
)
def test_a_held_out_case_may_be_called_like_a_number_or_a_word_of_ours(
    scene: Callable[[str], Scene], monkeypatch: pytest.MonkeyPatch, said: str, *, shown: bool
) -> None:
    """Or an explanation, which has numbers in it, could not be posted for ever."""
    stage = scene("waiting")
    files = {
        f"fixtures/triage/holdout/{name}.yml": case(f"x {name}", "holdout")
        for name in ("4", "won", "h-4")
    }
    stage.hub.person_pushes("octo", "main", files)
    monkeypatch.setattr(history, "explain", lambda _: history.Explanation(said, "1 of 2", {}))
    assert (stage.says("owner", "/ratchet explain").code == 0) is shown


def test_errors_of_github_are_said(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    stage.hub.fail_next("POST", r"/labels$", Fault(status=403, message="No @octo #1"), times=2)
    ran = stage.says("owner", "/ratchet hold")
    assert (ran.code, ran.json["outcome"]) == (0, "refused")
    assert "GitHub refused" in stage.reply
    assert "@octo" not in stage.reply
    assert stage.reactions == ["eyes"]


# Reviews


def test_a_request_for_changes_is_kept_once_and_holds(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    ran = stage.reviews("writer", "REQUEST_CHANGES", "Too long.\r\n@octo #1")
    assert (ran.code, ran.json["outcome"], ran.json["detail"]) == (0, "done", "hold held"), ran.err
    assert stage.notes() == [("review", "writer", "Too long.\n@octo #1")]
    tip = stage.hub.tip("ratchet/ledger")
    assert stage.reviewed().code == 0
    assert stage.hub.tip("ratchet/ledger") == tip
    stage.says("owner", "/ratchet merge")
    assert stage.state() == "open"
    (note,) = stage.ledger().notes()
    assert note.experiment == stage.ledger().experiments()[-1].id
    assert note.url.endswith(f"/pull/{PULL}#pullrequestreview-{_review(stage).id}")


def _review(stage: Scene) -> Any:
    pull = stage.hub.issue(PULL).pull
    assert pull is not None
    return pull.reviews[-1]


def test_an_approval_merges_what_waits_for_a_person(scene: Callable[[str], Scene]) -> None:
    stage = scene("waiting")
    ran = stage.reviews("writer", "APPROVE", "Fine.")
    assert (ran.code, ran.json["detail"], stage.state()) == (0, "merge improved", "merged")
    assert stage.notes() == []


@pytest.mark.parametrize(
    ("words", "says"),
    [(LEAK, "repeats text of held-out cases"), ("x" * 10_001, "longer than 10,000")],
    ids=["held-out text", "long"],
)
def test_a_review_that_is_not_fit_for_the_proposer_holds_all_the_same(
    scene: Callable[[str], Scene], words: str, says: str
) -> None:
    stage = scene("waiting")
    assert stage.reviews("writer", "REQUEST_CHANGES", words).json["detail"] == "hold held"
    assert stage.reviewed().json["detail"] == "hold held"
    assert stage.notes() == []
    mark = pages.marker("reply", f"review-{_review(stage).id}")
    (reply,) = [one.body for one in stage.hub.comments(PULL) if one.body.startswith(mark)]
    assert says in reply
    assert "zebra" not in reply


@pytest.mark.parametrize(
    ("changes", "role", "why"),
    [
        ({}, "read", "no write access"),
        ({}, "triage", "no write access"),
        ({}, UNKNOWN, "no write access"),
        ({"review__state": "CHANGES_REQUESTED"}, "read", "no write access"),
        ({"review__state": "commented"}, None, "neither yes nor no"),
        ({"review__state": "dismissed"}, None, "neither yes nor no"),
        ({"action": "edited"}, None, "submitted just now"),
        ({"action": "dismissed"}, None, "submitted just now"),
        ({"review__user__type": "Bot"}, None, "a bot wrote it"),
        ({"review__user": None}, None, "is not who sent it"),
        ({"sender__login": "owner"}, None, "is not who sent it"),
        ({"repository__full_name": "octo/other"}, None, "another repository"),
    ],
)
def test_for_a_review_that_does_not_count_nothing_is_asked(
    tmp_path: Path, changes: dict[str, Any], role: str | None, why: str
) -> None:
    handled = heard("pull_request_review", {"review__state": "approved"} | changes, tmp_path, role)
    assert handled.outcome == "ignored"
    assert why in handled.detail


@pytest.mark.parametrize(
    ("login", "verb", "changes", "why"),
    [
        ("reader", "APPROVE", {}, "no write access"),
        ("writer", "APPROVE", {"action": "edited"}, "submitted just now"),
        ("owner", "APPROVE", {"pull_request__number": THEIRS}, "not on an open pull request of"),
    ],
)
def test_reviews_that_are_left_alone(
    scene: Callable[[str], Scene], login: str, verb: str, changes: dict[str, Any], why: str
) -> None:
    stage = scene("waiting")
    stage.hub.person_reviews(login, PULL, verb, "No.")
    before = stage.hub.world()
    ran = stage.reviewed(**changes)
    assert (ran.code, ran.json["outcome"]) == (0, "ignored"), ran.err
    assert why in ran.json["detail"]
    assert stage.hub.world() == before
    assert stage.notes() == []


# The event file


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"action": "created", "action": "created"}', "is there twice"),
        ('{"a": NaN}', "not a JSON number"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "nested deeper"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_an_event_that_github_would_not_send_is_an_error(
    tmp_path: Path, content: str, says: str
) -> None:
    file = tmp_path / "odd.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RatchetError, match=re.escape(says)):
        comments.read_event(str(file), environ={"GITHUB_EVENT_NAME": "issue_comment"})


@pytest.mark.parametrize(
    ("content", "says"), [("{}", "look at 'action'"), ('{"a": NaN}', "not a JSON number")]
)
def test_the_job_of_such_an_event_fails(
    scene: Callable[[str], Scene], content: str, says: str
) -> None:
    stage = scene("fresh")
    file = stage.stage.folder / "odd.json"
    file.write_text(content, encoding="utf-8")
    stage.monkeypatch.setenv("GITHUB_EVENT_NAME", "issue_comment")
    ran = stage.stage.job("odd").ratchet("command", "--event", str(file))
    assert ran.code == 1
    assert says in ran.err


@pytest.mark.parametrize(
    "changes",
    [
        {"comment__id": "1"},
        {"comment__id": 0},
        {"comment__id": True},
        {"issue__number": -1},
        {"comment__user": "octo"},
        {"comment__created_at": "yesterday"},
        {"comment__created_at": "2026-01-01T00:00:00"},
        {"sender": None},
        {"repository": {}},
    ],
    ids=str,
)
def test_an_event_of_another_form_is_an_error(changes: dict[str, Any]) -> None:
    event = changed(copy.deepcopy(EVENTS["issue_comment"]), changes)
    with pytest.raises(RatchetError, match="not one that GitHub sends"):
        events.read("issue_comment", event, repository="x/y")


def test_the_official_examples_are_read() -> None:
    known = "codertocat/hello-world"
    said = events.read("issue_comment", EVENTS["issue_comment"], repository=known)
    assert isinstance(said, events.NewComment)
    assert (said.number, said.author, said.on_pull) == (1, "Codertocat", False)
    given = changed(copy.deepcopy(EVENTS["pull_request_review"]), {"review__state": "approved"})
    review = events.read("pull_request_review", given, repository=known)
    assert isinstance(review, events.NewReview)
    assert (review.number, review.state, review.body) == (2, "APPROVED", "")


def test_a_huge_event_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "event.json"
    file.write_text("{}", encoding="utf-8")
    environ = {"GITHUB_EVENT_NAME": "issue_comment"}
    assert comments.read_event(str(file), environ=environ) == ("issue_comment", {})
    monkeypatch.setattr(comments, "LARGEST", 1)
    with pytest.raises(RatchetError, match="larger than 1 bytes"):
        comments.read_event(str(file), environ=environ)


def test_without_an_event_there_is_an_error(scene: Callable[[str], Scene]) -> None:
    ran = scene("fresh").stage.job("none").ratchet("command")
    assert (ran.code, "There is no event." in ran.err) == (1, True)


def test_one_line_is_said(scene: Callable[[str], Scene]) -> None:
    stage = scene("fresh")
    stage.last = stage.hub.person_comments("owner", ISSUE, "Hello")
    file = stage.stage.folder / "event.json"
    file.write_text(json.dumps(stage.comment_event()), encoding="utf-8")
    stage.monkeypatch.setenv("GITHUB_EVENT_NAME", "issue_comment")
    ran = stage.stage.job("line").ratchet("command", "--event", str(file))
    assert (ran.code, ran.out) == (0, "event: ignored; it is not a command\n")
