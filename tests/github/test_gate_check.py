"""A person's pull request is tested as the bot's own are, and never merged, closed or run."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from fakehub import merging
from fakehub.model import Wish
from scenes import Scenes, Stages, stages
from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.core.records import Reply, experiment_id
from skill_ratchet.github import gate_check, http
from skill_ratchet.project import config, repository, workspace
from skill_ratchet.providers.scripted import Scripted
from stage import Stage, later
from world import BOTH, CASES, SEALED, SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from fakehub.model import Status
    from skill_ratchet.core.records import Request
    from world import Ran

BETTER = f"{SKILL_TEXT}Rule alpha.\n"
WORSE = f"{SKILL_TEXT}Rule beta.\n"
NUMBER = 1
MARK = "<!-- ratchet:gate -->"
CONTEXT = "ratchet/holdout"
ON_TRAIN, ON_HOLDOUT = 2 * 3, 2 * 2  # calls: both sides


@dataclass
class Gate:
    """A pull request by a person on a stage, and the two jobs of its workflow."""

    stage: Stage
    number: int = NUMBER
    sha: str = ""
    rounds: int = 0

    @property
    def hub(self) -> Any:
        return self.stage.hub

    @property
    def bundle(self) -> Path:
        """Of the last round."""
        return self.stage.folder / f"tested{self.rounds}"

    def push(self, files: dict[str, str | None], branch: str = "edit", **how: Any) -> str:
        """A person's commit on the pull request's branch."""
        self.sha = self.hub.person_pushes("octo", branch, files, **how)
        return self.sha

    def open(self, files: dict[str, str | None], title: str = "Better") -> None:
        self.push(files)
        self.number = self.hub.person_opens_pull("octo", head="edit", title=title)

    def job(self, name: str) -> World:
        return self.stage.job(f"{name}{self.rounds}")

    def try_out(self, *args: str, sha: str = "", number: int = 0) -> Ran:
        """The job with the LLM key."""
        self.rounds += 1
        self.stage.sha = self.hub.tip("main")  # both jobs work on it, whatever comes in between
        pull = (str(number or self.number), sha or self.sha)
        return self.job("test").ratchet("gate", *pull, "--json", "--out", str(self.bundle), *args)

    def say(self, *args: str, sha: str = "", bundle: Path | None = None) -> Ran:
        """The job with the write token."""
        self.rounds += 1
        given = ("--bundle", str(bundle or self.stage.folder / f"tested{self.rounds - 1}"), *args)
        pull = (str(self.number), sha or self.sha)
        return self.job("say").ratchet("gate", *pull, "--json", *given)

    def both(self) -> Any:
        """Both jobs; what the second said."""
        tested = self.try_out()
        assert tested.code == ExitCode.DONE, tested.err
        return self.told()

    def told(self) -> Any:
        """The second job, after the first; what it said."""
        said = self.say()
        assert said.code == ExitCode.DONE, said.err
        return said.json

    def status(self, sha: str = "") -> Status | None:
        found: Status | None = self.hub.state.latest_statuses(sha or self.sha).get(CONTEXT)
        return found

    def state(self, sha: str = "") -> str | None:
        found = self.status(sha)
        return found.state if found else None

    def comments(self) -> list[str]:
        return [one.body for one in self.hub.comments(self.number)]

    def log(self) -> Any:
        self.rounds += 1
        return self.job("log").ratchet("log", "--json").json


def try_edit(stage: Stage, text: str, *beside: str) -> Gate:
    """A person has opened a pull request with this skill, and the first job has tested it."""
    gate = Gate(stage)
    gate.open({SKILL: text, **dict.fromkeys(beside, "x\n")})
    tested = gate.try_out()
    assert tested.code == ExitCode.DONE, tested.err
    return gate


def try_and_tell(stage: Stage, *given: str) -> None:
    """The second job has run, too."""
    try_edit(stage, *given).told()


def publish_own(stage: Stage, reason: str) -> None:
    """The bot has opened a pull request of its own, which waits for this reason."""
    stage.decide("own")
    assert stage.publish("own").json["reason"] == reason


class Gates:
    """Makes gates that are copies of scenes."""

    def __init__(self, made: Stages) -> None:
        self._stages = made

    def __call__(self, **project: Any) -> Gate:
        """Nothing has happened."""
        return Gate(self._stages(**project))

    def tested(self, text: str, **project: Any) -> Gate:
        """As ``try_edit`` leaves it."""
        stage = self._stages.after(try_edit, text, **project)
        return Gate(stage, sha=stage.hub.tip("edit") or "", rounds=1)

    def told(self, *given: str, **project: Any) -> Gate:
        """As ``try_and_tell`` leaves it."""
        stage = self._stages.after(try_and_tell, *given, **project)
        return Gate(stage, sha=stage.hub.tip("edit") or "", rounds=2)

    def own(self, reason: str = "awaits_person", **project: Any) -> Gate:
        """As ``publish_own`` leaves it."""
        stage = self._stages.after(publish_own, reason, **project)
        return Gate(stage, sha=stage.hub.tip("ratchet/triage") or "")


@pytest.fixture
def make(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gates]:
    monkeypatch.setattr(http, "_PACE", 0.0)
    with stages(tmp_path, tmp_path_factory, monkeypatch) as made:
        yield Gates(made)


# What it is for -------------------------------------------------------------------------------


def test_an_edit_that_is_better_gets_the_status_and_one_comment(make: Gates) -> None:
    gate = make()
    gate.open({SKILL: BETTER, "README.md": "news\n"}, title="@octo closes #1 <!-- x -->")
    before = gate.hub.tip("main"), gate.hub.tip("edit")

    tested = gate.try_out()
    said = gate.say()

    assert tested.code == ExitCode.DONE, tested.err
    assert tested.json["holdout"] == {"incumbent": 0.0, "candidate": 1.0}
    assert tested.json["calls"] == ON_TRAIN + ON_HOLDOUT
    assert said.code == ExitCode.DONE, said.err
    assert (said.json["state"], said.json["reason"]) == ("success", "awaits_person")
    assert gate.state() == "success"
    (comment,) = gate.comments()
    assert comment.startswith(MARK)
    assert "merge this pull request to take the edit" in comment
    assert "pull request \\#1 by a person" not in comment  # a hypothesis is for a proposal
    assert "closes" not in comment
    assert (gate.hub.tip("main"), gate.hub.tip("edit")) == before
    assert gate.hub.issue(NUMBER).state == "open"
    assert gate.hub.issue(NUMBER).labels == []
    assert SEALED not in gate.hub.world()
    (row,) = gate.log()
    assert (row["state"], row["landed"]) == ("hold: improved", None)


def test_an_edit_that_is_no_better_fails(make: Gates) -> None:
    """At the screen, without a look at the holdout."""
    gate = make.tested(WORSE)

    told = gate.told()

    assert (told["state"], told["action"], told["reason"]) == ("failure", "reject", "screen_failed")
    assert gate.state() == "failure"
    assert "push a better edit" in gate.comments()[0]
    assert gate.hub.issue(NUMBER).state == "open"
    assert [row["state"] for row in gate.log()] == ["reject: screen_failed"]


def test_an_edit_that_is_better_on_train_alone_fails(make: Gates) -> None:
    gate = make(model=script(right={"alpha": CASES["train"]}))
    gate.open({SKILL: BETTER})

    told = gate.both()

    assert (told["state"], told["reason"]) == ("failure", "no_improvement")
    assert SEALED not in gate.hub.world()


@pytest.mark.parametrize("merge", ["auto", "manual", "after 1h"])
def test_a_person_merges_it_whatever_the_settings_say(make: Gates, merge: str) -> None:
    gate = make(config={"gate": {"merge": merge}})
    gate.open({SKILL: BETTER})

    assert gate.both()["reason"] == "awaits_person"

    assert gate.hub.read("main", SKILL) == SKILL_TEXT
    gate.hub.person_merges("octo", gate.number)
    gate.stage.sha = None
    proposed = gate.job("next").ratchet("propose", "--json", "--bundle", str(gate.bundle / "next"))
    assert proposed.code == ExitCode.DONE, proposed.err
    assert gate.hub.read("main", SKILL) == BETTER


def test_a_stranger_s_fork_is_read_as_data(make: Gates) -> None:
    gate = make()
    gate.hub.add_user("mallory", "none")
    gate.sha = gate.hub.person_pushes("mallory", "edit", {SKILL: BETTER}, fork=True)
    gate.number = gate.hub.person_opens_pull("mallory", head="mallory:edit", title="Better")

    assert gate.both()["state"] == "success"

    assert gate.stage.job("refs").branches() == {"main"}


def test_frozen_parts_do_not_bind_a_person(make: Gates) -> None:
    gate = make()
    frozen = "<!-- ratchet:frozen -->\nNever {}.\n<!-- /ratchet:frozen -->\n"
    before = SKILL_TEXT + frozen.format("lie")
    gate.hub.person_pushes("octo", "main", {SKILL: before})
    gate.open({SKILL: f"{SKILL_TEXT}{frozen.format('tell')}Rule alpha.\n"})

    assert gate.both()["state"] == "success"


def test_both_jobs_twice_are_both_jobs_once(make: Gates) -> None:
    gate = make.tested(BETTER)
    first = gate.told()
    world, writes = gate.hub.world(), len(gate.hub.writes)

    again = gate.try_out()
    assert (again.code, again.json["calls"], again.json["action"]) == (0, 0, "merge"), again.err
    second = gate.say()

    assert (second.code, second.json) == (0, first), second.err
    assert gate.hub.world() == world
    assert [one for one in gate.hub.writes[writes:] if "git-receive-pack" not in one] == []


@pytest.mark.parametrize("text", [BETTER, WORSE], ids=["better", "worse"])
def test_a_base_that_moved_elsewhere_costs_nothing(make: Gates, text: str) -> None:
    gate = make.tested(text)
    first = gate.told()
    unrelated_commit(gate)

    again = gate.try_out()
    said = gate.say()

    assert (again.code, again.json["calls"]) == (0, 0), again.err
    assert (said.code, said.json) == (0, first), said.err


def test_what_was_rejected_is_reported_again_and_not_run_again(make: Gates) -> None:
    gate = make.tested(WORSE)
    first = gate.told()
    world = gate.hub.world()

    again = gate.try_out()
    assert (again.code, again.json["calls"]) == (0, 0), again.err
    second = gate.say()

    assert (second.code, second.json) == (0, first), second.err
    assert gate.hub.world() == world


def test_a_later_commit_is_tested_for_itself(make: Gates) -> None:
    gate = make.told(WORSE)
    old = gate.sha
    gate.push({SKILL: BETTER})

    assert gate.both()["state"] == "success"

    assert (gate.state(old), gate.state()) == ("failure", "success")
    (comment,) = gate.comments()
    assert gate.sha[:12] in comment


def test_no_skill_no_test(make: Gates) -> None:
    """Such a pull request must not wait for a status, and gets no comment."""
    gate = make()
    gate.open({"README.md": "news\n", "fixtures/triage/train/t4.yml": '{"input": "x"}'})

    tested = gate.try_out()
    said = gate.say()

    assert (tested.code, tested.json["skill"]) == (0, None), tested.err
    assert not gate.bundle.exists()
    assert (said.code, said.json["state"]) == (0, "success"), said.err
    assert gate.comments() == []
    gate.push({SKILL: WORSE})
    gate.push({"fixtures/triage/train/t4.yml": None})
    assert gate.both()["state"] == "failure"
    gate.push({SKILL: SKILL_TEXT})
    assert gate.both()["state"] == "success"
    (comment,) = gate.comments()
    assert "nothing to test" in comment


def test_the_comment_that_asked_is_answered(make: Gates) -> None:
    gate = make.tested(BETTER)
    asked = gate.hub.person_comments("octo", gate.number, f"/ratchet gate {gate.sha}")

    for _ in range(2):
        said = gate.say("--reply", f"{gate.number}/{asked}", bundle=gate.stage.folder / "tested1")
        assert said.code == 0, said.err

    assert [MARK in body for body in gate.comments()] == [False, True, False]
    assert "hold, awaits_person" in gate.comments()[2].replace("\\", "")


# The bot's own proposals ----------------------------------------------------------------------


MANUAL: dict[str, Any] = {"config": {"gate": {"merge": "manual"}}}


def test_the_bot_s_own_proposal_costs_nothing_and_has_its_comment_already(
    make: Gates,
) -> None:
    gate = make.own(**MANUAL)
    comments = gate.comments()

    tested = gate.try_out()
    said = gate.say()

    assert (tested.code, tested.json["calls"]) == (0, 0), tested.err
    assert (said.code, said.json["state"], said.json["reason"]) == (0, "success", "awaits_person")
    assert gate.comments() == comments


def test_the_same_edit_by_a_person_costs_nothing(make: Gates) -> None:
    gate = make.own(**MANUAL)
    gate.open({SKILL: BETTER})

    tested = gate.try_out()
    said = gate.say()

    assert (tested.code, tested.json["calls"]) == (0, 0), tested.err
    assert (said.code, said.json["state"]) == (0, "success"), said.err
    assert len(gate.comments()) == 1


def test_the_bot_s_own_proposal_that_went_stale_is_left_to_its_own_job(
    make: Gates,
) -> None:
    gate = make.own(**MANUAL)
    gate.try_out()
    other_case(gate)

    said = gate.say()

    assert (said.code, said.json["state"], said.json["reason"]) == (0, "pending", "stale"), said.err
    assert [row["state"] for row in gate.log()] == ["hold: awaits_person"]


@pytest.mark.parametrize(
    "message", ["edit", "edit\n\nRatchet-Experiment: {}"], ids=["plain", "named"]
)
def test_a_person_s_commit_on_the_bot_s_branch_is_tested_and_only_a_person_merges_it(
    make: Gates, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    gate = make.own("veto_window", config={"gate": {"merge": "after 1h"}})
    theirs = f"{BETTER}Mine.\n"
    parent, candidate = (workspace.text_of(text).digest for text in (SKILL_TEXT, theirs))
    name = experiment_id("triage", parent=parent, candidate=candidate)
    gate.push({SKILL: theirs}, branch="ratchet/triage", message=message.format(name))

    told = gate.both()

    assert (told["experiment"], told["state"], gate.state()) == (name, "success", "success")
    later(monkeypatch)
    gate.stage.sha = None
    ran = gate.stage.publish("later", bundle=False)
    assert (ran.code, ran.json["action"]) == (0, "hold"), ran.err
    assert gate.hub.tip("ratchet/triage") == gate.sha
    assert gate.hub.read("main", SKILL) == SKILL_TEXT


def test_a_person_s_edit_that_waits_is_not_taken_for_the_bot_s(make: Gates) -> None:
    """Neither one that won, by publish, nor one whose test died, by propose."""
    gate = make(model=script([idea(1, "Rule gamma.")], right={"alpha": BOTH, "gamma": BOTH}))
    gate.open({SKILL: BETTER})
    gate.both()
    gate.stage.sha = None

    ran = gate.stage.publish("idle", bundle=False)

    assert (ran.code, ran.json["action"]) == (0, None), ran.err
    assert gate.hub.tip("ratchet/triage") is None
    assert gate.hub.read("main", SKILL) == SKILL_TEXT
    assert gate.stage.decide("own")["action"] == "merge"  # the bot has ideas of its own
    published = gate.stage.publish("own")
    assert published.json["action"] == "merge", published.err
    assert gate.hub.read("main", SKILL) == f"{SKILL_TEXT}Rule gamma.\n"
    assert gate.hub.issue(gate.number).state == "open"


def test_it_does_not_take_the_place_of_the_bot_s_when_that_is_closed(
    make: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {"alpha": BOTH, "gamma": BOTH}
    gate = make.own(
        "veto_window",
        model=script([idea(1, "Rule gamma.")], right=right),
        config={"gate": {"merge": "after 1h"}},
    )
    gate.open({SKILL: BETTER})
    assert gate.both()["state"] == "success"
    gate.hub.person_edits("octo", NUMBER, state="closed")
    later(monkeypatch)
    gate.stage.sha = None

    ran = gate.stage.publish("later", bundle=False)

    assert (ran.code, ran.json["action"]) == (0, "reject"), ran.err
    assert gate.hub.read("main", SKILL) == SKILL_TEXT
    assert sorted(row["state"] for row in gate.log()) == ["hold: veto_window", "reject: rejected"]


def test_a_test_that_died_is_gone_on_with_by_the_next_and_by_nobody_else(
    make: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = make(model=script([idea(1, "Rule gamma.")], right={"alpha": BOTH, "gamma": BOTH}))
    gate.open({SKILL: BETTER})
    with monkeypatch.context() as overload:
        overload.setattr(Scripted, "complete", failing_on("h2", Scripted.complete))
        died = gate.try_out()
    said = gate.say()

    assert died.code == ExitCode.ERROR
    assert (said.code, said.json["state"]) == (0, "pending"), said.err
    assert [row["state"] for row in gate.log()] == ["under way"]
    gate.stage.sha = None
    other = gate.job("other").ratchet("propose", "--json", "--bundle", str(gate.bundle / "other"))
    assert other.verdicts == [("hold", "confirm_open")]
    assert [one["id"] for one in other.json["experiments"]] != [gate.log()[0]["id"]]
    again = gate.try_out()
    assert (again.code, again.json["calls"]) == (0, ON_HOLDOUT // 2), again.err
    assert gate.say().json["state"] == "success"
    assert [look.attempt for look in gate.job("look").ledger().confirmations()] == [1]


def failing_on(case: str, real: Callable[..., Any]) -> Callable[..., Any]:
    async def complete(model: Scripted, request: Request) -> Reply:
        if case in str(request.messages):
            return Reply(error="overloaded")
        made: Reply = await real(model, request)
        return made

    return complete


# What must not happen: what is asked for ------------------------------------------------------


def test_a_commit_is_named_in_full(make: Gates) -> None:
    gate = make.tested(BETTER)
    world, out = gate.job("any"), str(gate.stage.folder / "out")
    names = ("abc", "0" * 39, "0" * 64, "HEAD", "main", "--help=", "A" * 40)
    for name in names:
        for given in (("--out", out), ("--bundle", str(gate.bundle))):
            ran = world.ratchet("gate", str(gate.number), name, "--json", *given)
            assert ran.code not in (ExitCode.DONE, ExitCode.BUG), (name, given)
    assert gate.hub.state.statuses == []
    assert world.branches() == {"main"}


def test_only_the_head_is_tested(make: Gates) -> None:
    """Neither an older head nor any other commit."""
    gate = make()
    gate.open({SKILL: BETTER})
    old = gate.sha
    gate.push({SKILL: WORSE})

    for sha in (old, gate.hub.tip("main"), "0" * 40):
        ran = gate.try_out(sha=sha)
        assert (ran.code, "has head" in ran.err) == (ExitCode.ERROR, True)
        assert not gate.bundle.exists()
        said = gate.say(sha=sha)
        assert (said.code, said.json["state"]) == (0, None), said.err
    assert gate.try_out(number=99).code == ExitCode.ERROR
    assert (gate.hub.state.statuses, gate.comments()) == ([], [])


def test_a_head_that_moved_meanwhile_gets_no_status(make: Gates) -> None:
    """Nor does the old one; the look at the holdout counts all the same."""
    gate = make.tested(BETTER)
    old = gate.sha
    gate.push({SKILL: WORSE})

    said = gate.say(sha=old)

    assert (said.code, said.json["state"]) == (0, None), said.err
    assert "stale" in said.json["detail"]
    assert (gate.hub.state.statuses, gate.comments()) == ([], [])
    assert [look.attempt for look in gate.job("look").ledger().confirmations()] == [1]


def test_a_head_that_moves_at_the_last_moment_gets_no_status(make: Gates) -> None:
    gate = make.tested(BETTER)
    old = gate.sha
    gate.hub.just_before("GET", "/labels", lambda: gate.push({SKILL: WORSE}))

    said = gate.say(sha=old)

    assert (said.code, said.json["state"]) == (0, None), said.err
    assert gate.hub.state.statuses == []
    assert gate.hub.pending == 0


def closed(gate: Gate) -> None:
    gate.hub.person_edits("octo", gate.number, state="closed")


def merged(gate: Gate) -> None:
    gate.hub.person_merges("octo", gate.number)


@pytest.mark.parametrize("end", [closed, merged], ids=lambda one: one.__name__)
def test_a_pull_request_that_is_over_is_left_alone(
    make: Gates, end: Callable[[Gate], None]
) -> None:
    gate = make.tested(BETTER)
    end(gate)

    said = gate.say()

    assert (said.code, said.json["state"], said.json["detail"]) == (0, None, "It is closed.")
    assert gate.comments() == []


def test_a_pull_request_to_another_branch_is_none_of_its_business(
    make: Gates,
) -> None:
    gate = make()
    gate.hub.person_pushes("octo", "release", {"README.md": "x\n"})
    gate.push({SKILL: BETTER})
    gate.number = gate.hub.person_opens_pull("octo", head="edit", title="x", base="release")

    said = gate.both()

    assert (said["state"], "aims at release" in said["detail"]) == (None, True)
    assert (gate.state(), gate.comments()) == (None, [])


# What must not happen: what it changes --------------------------------------------------------


@dataclass
class Branch:
    """A commit on a branch of a plain repository, made object by object."""

    world: World
    start: str = "main"

    def commit(self, *lines: str, files: Mapping[str, str | bytes | None] | None = None) -> str:
        """A commit on ``start`` with these files, and these lines of an index."""
        index = {"GIT_INDEX_FILE": "index.test"}
        self.world.git("read-tree", self.start, **index)
        for path, content in (files or {}).items():
            if content is None:
                self.world.git("update-index", "--force-remove", path, **index)
            else:
                lines = (*lines, f"100644 {self.blob(content)}\t{path}")
        for line in lines:
            about, _, path = line.partition("\t")
            entry = ",".join((*about.split(), path))
            self.world.git("update-index", "--add", "--replace", "--cacheinfo", entry, **index)
        tree = self.world.git("write-tree", **index)
        return self.world.git("commit-tree", "-p", self.start, "-m", "edit", tree)

    def blob(self, content: str | bytes) -> str:
        path = self.world.path.parent / "blob"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.world.git("hash-object", "-w", str(path))

    def read(self, sha: str) -> gate_check.Edit | None:
        """As both jobs do."""
        project = repository.open_project(self.world.path)
        tree = repository.CommitTree(project, "refs/heads/main")
        settings = config.load_config(tree)
        edit = gate_check.read_edit(project, tree=tree, settings=settings, sha=sha)
        if edit is not None:
            space = workspace.open_at_base(project, skill=edit.skill, override={})
            gate_check.require_testable(edit, space)
        return edit


SCORER = {"type": "command", "command": ["python", "tools/score.py"]}
OTHER = "skills/other/SKILL.md"
PROJECT: dict[str, Any] = {
    "meta": {"turns": 1, "instructions": "agents/meta.md"},
    "skills": {
        "triage": {"scorer": "label", "scorers": {"own": SCORER}},
        "other": {"scorer": {"type": "command", "command": "sh -c 'python lib/judge.py --x=$1'"}},
    },
}


def make_branch(folder: Path) -> None:
    world = World.make(folder / "plain", config=PROJECT)
    for path in ("tools/score.py", "lib/judge.py", "app.py"):
        world.write(path, "print(1)\n")
    world.write("agents/meta.md", "You improve one text file.\n")
    world.write(OTHER, SKILL_TEXT.replace("triage", "other"))
    world.write("fixtures/other/train/t1.yml", '{"input": "x?", "expected": "yes"}')
    world.commit("more")


@pytest.fixture
def branch(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Branch:
    Scenes(tmp_path_factory).copied(tmp_path / "branch", make_branch, "a plain repository")
    return Branch(World(tmp_path / "branch" / "plain"))


def with_skill(**files: str | None) -> Callable[[Branch], str]:
    """The skill is edited, and these, too (``__`` is a slash, ``_dot_`` a dot)."""
    named = {name.replace("__", "/").replace("_dot_", "."): text for name, text in files.items()}
    return lambda branch: branch.commit(files={SKILL: BETTER, **named})


def link(path: str, target: str = "../../README.md") -> Callable[[Branch], str]:
    def make(branch: Branch) -> str:
        gone = {SKILL: None} if SKILL.startswith(f"{path}/") else {}
        return branch.commit(f"120000 {branch.blob(target)}\t{path}", files=gone)

    return make


def content(text: str | bytes) -> Callable[[Branch], str]:
    return lambda branch: branch.commit(files={SKILL: text})


def executable(branch: Branch) -> str:
    return branch.commit(f"100755 {branch.blob(BETTER)}\t{SKILL}")


def submodule(branch: Branch) -> str:
    return branch.commit(f"160000 {branch.world.tip('main')}\t{SKILL}", files={SKILL: None})


def renamed(branch: Branch) -> str:
    return branch.commit(files={SKILL: None, "skills/triage/NEW.md": BETTER})


def twin(branch: Branch) -> str:
    return branch.commit(files={SKILL: BETTER, "skills/Triage/skill.md": WORSE})


def twin_from_before(branch: Branch) -> str:
    branch.world.git("reset", "--quiet", "--hard", twin(branch))
    return branch.commit(files={SKILL: f"{BETTER}Mine.\n"})


def odd_twin(branch: Branch) -> str:
    return branch.commit(files={SKILL: BETTER, "skills/triage/\uff33KILL.md": WORSE})


def folder_in_its_place(branch: Branch) -> str:
    return branch.commit(files={SKILL: None, f"{SKILL}/x ::error::": BETTER})


def unrelated(branch: Branch) -> str:
    tree = branch.world.git("rev-parse", f"{branch.commit(files={SKILL: BETTER})}^{{tree}}")
    return branch.world.git("commit-tree", "-m", "root", tree)


def criss_cross(branch: Branch) -> str:
    world = branch.world
    theirs = branch.commit(files={SKILL: BETTER})
    ours = branch.commit(files={"README.md": "news\n"})
    tree = world.git("rev-parse", f"{theirs}^{{tree}}")
    both = [
        world.git("commit-tree", "-p", a, "-p", b, "-m", "x", tree)
        for a, b in ((ours, theirs), (theirs, ours))
    ]
    world.git("reset", "--quiet", "--hard", both[0])
    return both[1]


def base_moved(branch: Branch) -> str:
    sha = branch.commit(files={SKILL: BETTER})
    branch.world.write(SKILL, f"{SKILL_TEXT}Other.\n")
    branch.world.commit("skill")
    return sha


REFUSED: dict[str, tuple[Callable[[Branch], str], str]] = {
    "config": (with_skill(ratchet_dot_yml="{}"), "ratchet.yml together"),
    "config's twin": (with_skill(RATCHET_dot_YML="{}"), "RATCHET.YML together"),
    "config removed": (with_skill(ratchet_dot_yml=None), "ratchet.yml together"),
    "train case": (with_skill(fixtures__triage__train__t1_dot_yml="{}"), "t1.yml together"),
    "train case gone": (with_skill(fixtures__triage__train__t1_dot_yml=None), "t1.yml together"),
    "held-out case": (with_skill(fixtures__triage__holdout__h9_dot_yml="{}"), "h9.yml together"),
    "vault case": (with_skill(fixtures__triage__vault__v1_dot_yml="{}"), "v1.yml together"),
    "case's twin": (with_skill(Fixtures__triage__train__x_dot_yml="{}"), "x.yml together"),
    "other's case": (with_skill(fixtures__other__train__x_dot_yml="{}"), "x.yml together"),
    "model": (with_skill(ratchet_dot_script_dot_yml="{}"), "ratchet.script.yml together"),
    "scorer": (with_skill(tools__score_dot_py="x"), "tools/score.py together"),
    "scorer of a shell": (with_skill(lib__judge_dot_py="x"), "lib/judge.py together"),
    "instructions": (with_skill(agents__meta_dot_md="x"), "agents/meta.md together"),
    "workflow": (with_skill(_dot_github__workflows__x_dot_yml="x"), "x.yml together"),
    "two skills": (with_skill(skills__other__SKILL_dot_md="x"), "several skills: other, triage"),
    "symlink": (link(SKILL), "no plain edit"),
    "symlinked folder": (link("skills/triage", "../agents"), "folder on the way"),
    "mode": (executable, "changes its mode"),
    "submodule": (submodule, "no plain edit"),
    "renamed": (renamed, "status 'D'"),
    "removed": (lambda branch: branch.commit(files={SKILL: None}), "status 'D'"),
    "twin": (twin, "some disks take for"),
    "twin from before": (twin_from_before, "differ only in case"),
    "twin by its form": (odd_twin, "some disks take for"),
    "a folder": (folder_in_its_place, "some disks take for"),
    "no history": (unrelated, "nothing in common"),
    "criss-cross": (criss_cross, "left the base several times"),
    "stale": (base_moved, "has changed skills/triage/SKILL.md"),
    "not UTF-8": (content(b"\xff\xfe"), "UTF-8"),
    "byte order mark": (content("\ufeff" + BETTER), "byte order mark"),
    "NUL": (content(f"{BETTER}\0"), "NUL"),
    "empty": (content(""), "empty"),
    "too long": (content(BETTER + "x" * 30_000), "20,000"),
    "far too long": (content(BETTER + "x" * 1_100_000), "1,000,000 fit"),
    "hidden text": (content(f"{BETTER}\U000e0041"), "invisible character"),
    "right to left": (content(f"{BETTER}\u202e"), "character"),
    "escape": (content(f"{BETTER}\x1b[0m"), "control character"),
    "line ends alone": (content(SKILL_TEXT.replace("\n", "\r\n")), "changes nothing"),
    "no frontmatter": (content("# Triage\n"), "frontmatter"),
    "another name": (content(BETTER.replace("name: triage", "name: other")), "'other'"),
    "open marker": (content(f"{BETTER}<!-- ratchet:frozen -->\n"), "not closed"),
    "held-out text": (content(f"{BETTER}Would the {SEALED} agree to h1?\n"), "held-out"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_plain_edit_of_one_skill_is_refused(branch: Branch, case: str) -> None:
    spoil, said = REFUSED[case]

    with pytest.raises(gate_check.Untestable) as refused:
        branch.read(spoil(branch))

    assert said in refused.value.message
    assert SEALED not in str(refused.value)
    assert "::" not in refused.value.message
    assert isinstance(refused.value, gate_check.Leak) == (case == "held-out text")


def test_what_the_owner_says_programs_need_is_not_changed_with_the_skill(branch: Branch) -> None:
    """Also what no command names: a program may import it."""
    branch.world.configure(visible=["lib"])
    branch.world.git("branch", "--force", "start")
    with pytest.raises(gate_check.Untestable, match=r"lib/imported.py together"):
        branch.read(with_skill(lib__imported_dot_py="x")(branch))
    found = branch.read(with_skill(app_dot_py="x")(branch))
    assert found and found.skill == "triage"  # noqa: PT018 - for the type checker


FINE: dict[str, tuple[Callable[[Branch], str], str | None]] = {
    "the skill": (content(BETTER), "triage"),
    "shorter": (content(SKILL_TEXT.replace("# Triage\n", "")), "triage"),
    "with code and docs": (with_skill(app_dot_py="x", README_dot_md=None, Makefile="x"), "triage"),
    "beside it": (with_skill(skills__triage__notes_dot_md="x", fixtures_dot_md="x"), "triage"),
    "nothing of it": (lambda b: b.commit(files={"app.py": "x", "ratchet.yml": "{}"}), None),
    "nothing at all": (lambda b: b.commit(), None),
    "a new skill": (lambda b: b.commit(files={"skills/new/SKILL.md": "x"}), None),
}


@pytest.mark.parametrize("case", FINE)
def test_what_the_numbers_do_not_depend_on_may_change(branch: Branch, case: str) -> None:
    change, skill = FINE[case]

    edit = branch.read(change(branch))

    assert (edit and edit.skill) == skill


def test_a_project_in_a_folder(tmp_path: Path) -> None:
    """Its skill is tested, a file of the same name outside is not its own, its inputs are."""
    world = World.make(tmp_path / "deep", prefix="tools/bot/")
    inner = Branch(World(world.path / "tools/bot"))
    inner.world.git("branch", "start")

    plain = inner.commit(files={f"tools/bot/{SKILL}": BETTER, "ratchet.yml": "x"})
    found = inner.read(plain)
    assert (found and found.skill) == "triage"
    assert inner.read(inner.commit(files={SKILL: BETTER})) is None
    for path in ("tools/bot/ratchet.yml", "tools/bot/fixtures/triage/train/t1.yml", ".github/x"):
        with pytest.raises(RatchetError, match="together with the skill"):
            inner.read(inner.commit(files={f"tools/bot/{SKILL}": BETTER, path: "x"}))


def test_what_cannot_be_tested_is_said_and_not_passed(make: Gates) -> None:
    """No call is made, and nothing of it is kept."""
    gate = make()
    config = gate.hub.read("main", "ratchet.yml")
    gate.open({SKILL: BETTER, "ratchet.yml": config.replace("{", "{ ", 1)})

    tested = gate.try_out()
    said = gate.say()

    assert tested.code == ExitCode.ERROR
    assert "Split it in two" in " ".join(tested.err.split())
    assert not gate.bundle.exists()
    assert (said.code, said.json["state"], said.json["action"]) == (0, "pending", None), said.err
    (comment,) = gate.comments()
    assert comment.startswith(MARK)
    assert "Split it in two" in comment
    assert gate.hub.tip("ratchet/ledger") is None
    gate.push({"ratchet.yml": config})
    assert gate.both()["state"] == "success"
    assert len(gate.comments()) == 1


def test_held_out_text_fails_and_is_kept_nowhere(make: Gates) -> None:
    gate = make()
    gate.open({SKILL: f"{BETTER}Would the {SEALED} agree to h1?\n"})

    tested = gate.try_out()
    said = gate.say()

    assert tested.code == ExitCode.ERROR
    assert (said.code, said.json["state"]) == (0, "failure"), said.err
    assert SEALED not in gate.hub.world()
    assert SEALED not in tested.out + tested.err + said.out + said.err
    assert gate.hub.tip("ratchet/ledger") is None


def test_a_secret_in_the_edit_is_kept_nowhere(make: Gates, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = "sk-canary-0123456789abcdef"
    monkeypatch.setenv("SERVICE_API_KEY", canary)
    gate = make()
    gate.open({SKILL: f"{BETTER}{canary}\n"})

    tested = gate.try_out()
    said = gate.say()

    assert tested.code == ExitCode.ERROR
    assert (said.code, said.json["state"]) == (0, "pending"), said.err
    assert canary not in tested.out + tested.err + said.out + said.err + gate.hub.world()
    assert gate.hub.tip("ratchet/ledger") is None


def test_the_bundle_s_pages_hold_no_secret_of_the_other_job(
    make: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that says it knows of a secret that the first one did not."""
    canary = "sk-canary-0123456789abcdef"
    gate = make()
    gate.open({SKILL: f"{BETTER}{canary}\n"})
    gate.try_out()
    monkeypatch.setenv("SERVICE_API_KEY", canary)

    gate.say()

    assert MARK in gate.comments()[0]
    assert canary not in gate.hub.world()


def test_the_stop_file_stops_the_test(make: Gates) -> None:
    gate = make()
    gate.hub.person_pushes("octo", "main", {".ratchet-hold": ""})
    gate.open({SKILL: BETTER})

    tested = gate.try_out()
    said = gate.say()

    assert (tested.code, tested.json["calls"], tested.json["action"]) == (0, 0, None), tested.err
    assert (said.code, said.json["state"]) == (0, "pending"), said.err


def test_budget_caps_hold(make: Gates) -> None:
    """And what was done by then goes into the bundle."""
    gate = make(config={"budget": {"calls": 5}})
    gate.open({SKILL: BETTER})

    tested = gate.try_out()
    said = gate.say()

    assert tested.code == ExitCode.BUDGET, tested.err
    assert tested.json["calls"] <= 5
    assert (said.code, said.json["state"]) == (0, "pending"), said.err
    assert len(list(gate.job("after").ledger().traces())) == 5


# What must not happen: what comes in between --------------------------------------------------


def label(gate: Gate) -> None:
    gate.hub.person_labels(gate.number, "ratchet:hold")


def stop_file(gate: Gate) -> None:
    gate.hub.person_pushes("octo", "main", {".ratchet-hold": ""})


def other_skill(gate: Gate) -> None:
    gate.hub.person_pushes("octo", "main", {SKILL: f"{SKILL_TEXT}Mine.\n"})


def other_case(gate: Gate) -> None:
    case = '{"input": "Well?", "expected": "yes"}'
    gate.hub.person_pushes("octo", "main", {"fixtures/triage/holdout/h9.yml": case})


def other_config(gate: Gate) -> None:
    text = json.loads(gate.hub.read("main", "ratchet.yml") or "")
    gate.hub.person_pushes(
        "octo", "main", {"ratchet.yml": json.dumps(text | {"budget": {"calls": 99}})}
    )


def sibling(gate: Gate) -> None:
    gate.hub.person_pushes("octo", "release", {"app.py": "x\n"})
    gate.hub.person_opens_pull("octo", head="edit", title="Same", base="release")


def request_for_changes(gate: Gate) -> None:
    gate.hub.add_user("lead", "write")
    gate.hub.person_reviews("lead", gate.number, "REQUEST_CHANGES", "Not so.")


def approval(gate: Gate) -> None:
    gate.hub.add_user("lead", "write")
    gate.hub.person_reviews("lead", gate.number, "APPROVE")


def no_bundle(gate: Gate) -> None:
    shutil.rmtree(gate.bundle)


def unrelated_commit(gate: Gate) -> None:
    gate.hub.person_pushes("octo", "main", {"app.py": "x\n"})


@pytest.mark.parametrize(
    ("meanwhile", "state", "reason"),
    [
        (unrelated_commit, "success", "awaits_person"),
        (label, "pending", "held"),
        (stop_file, "pending", "held"),
        (other_skill, "pending", None),
        (other_case, "pending", "stale"),
        (other_config, "pending", "stale"),
        (sibling, "pending", "held"),
        (request_for_changes, "pending", "held"),
        (approval, "success", "awaits_person"),
        (no_bundle, "pending", None),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_changed_meanwhile(
    make: Gates, meanwhile: Callable[[Gate], None], state: str, reason: str | None
) -> None:
    gate = make.tested(BETTER)
    meanwhile(gate)

    said = gate.say()

    assert said.code == ExitCode.DONE, said.err
    assert (said.json["state"], said.json["reason"], gate.state()) == (state, reason, state)
    assert len(gate.comments()) == 1
    assert gate.hub.issue(gate.number).state == "open"
    assert gate.hub.read("main", SKILL) in (SKILL_TEXT, f"{SKILL_TEXT}Mine.\n")


@pytest.mark.parametrize("change", [other_case, other_config], ids=lambda one: one.__name__)
@pytest.mark.parametrize("text", [BETTER, WORSE], ids=["better", "worse"])
def test_what_is_out_of_date_is_tested_anew_when_it_is_asked_for(
    make: Gates, change: Callable[[Gate], None], text: str
) -> None:
    """Once the job that may write has seen that it is."""
    gate = make.tested(text)
    change(gate)
    assert gate.say().json["state"] == "pending"
    state = "success" if text == BETTER else "failure"

    again = gate.try_out()
    said = gate.say()

    assert again.code == 0, again.err
    assert (said.code, said.json["state"], gate.state()) == (0, state, state), said.err
    looks = [look.attempt for look in gate.job("look").ledger().confirmations()]
    assert looks == ([2] if text == BETTER else [])


def test_a_hold_that_is_gone_lets_it_pass_without_a_call(make: Gates) -> None:
    gate = make.tested(BETTER)
    label(gate)
    assert gate.told()["state"] == "pending"
    gate.hub.person_unlabels(gate.hub.state.owner.login, gate.number, "ratchet:hold")

    again = gate.try_out()

    assert (again.code, again.json["calls"]) == (0, 0), again.err
    assert gate.say().json["state"] == "success"
    assert gate.state() == "success"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/pulls/1$"), ("GET", "/pulls$"), ("GET", "/labels"), ("GET", "/issues$")],
)
def test_github_s_silence_is_no_yes(make: Gates, method: str, path: str) -> None:
    gate = make.tested(BETTER)
    gate.hub.fail_next(method, path, 403)

    said = gate.say()

    assert said.code == ExitCode.ERROR
    assert gate.state() is None
    assert gate.hub.pending == 0


# What must not happen: what is handed over ----------------------------------------------------


def rewritten(gate: Gate, name: str, **changes: Any) -> None:
    """Change a document of the bundle, and list it as it is then."""
    path = gate.bundle / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    manifest = json.loads((gate.bundle / "manifest.json").read_text())
    for listed in manifest["files"]:
        manifest["files"][listed] = hashlib.sha256((gate.bundle / listed).read_bytes()).hexdigest()
    (gate.bundle / "manifest.json").write_text(json.dumps(manifest))


def flipped(gate: Gate) -> None:
    verdict = json.loads((gate.bundle / "verdict.json").read_text())["verdict"]
    rewritten(gate, "verdict.json", verdict=verdict | {"action": "merge", "reason": "improved"})


def by_the_bot(gate: Gate) -> None:
    setting = json.loads((gate.bundle / "manifest.json").read_text())["setting"]
    bots = {"proposer": "meta", "meta_model": "scripted"}
    rewritten(gate, "manifest.json", setting=setting | bots)


def cut_off(gate: Gate) -> None:
    path = gate.bundle / "refs.bundle"
    path.write_bytes(path.read_bytes()[:-40])


def no_manifest(gate: Gate) -> None:
    (gate.bundle / "manifest.json").unlink()


def of_the_bot(gate: Gate) -> None:
    """A confirmation bundle of the other workflow."""
    gate.stage.decide("other")
    shutil.rmtree(gate.bundle)
    shutil.copytree(gate.stage.folder / "confirmationother", gate.bundle)


def of_another_pull(gate: Gate) -> None:
    """A sound one, for a text that won."""
    sha = gate.hub.person_pushes("octo", "good", {SKILL: BETTER})
    good = gate.hub.person_opens_pull("octo", head="good", title="Good")
    shutil.rmtree(gate.bundle)
    gate.rounds -= 1
    assert gate.try_out(sha=sha, number=good).code == 0


@pytest.mark.parametrize(
    "spoil",
    [flipped, by_the_bot, cut_off, no_manifest, of_the_bot, of_another_pull],
    ids=lambda one: one.__name__,
)
def test_a_bundle_that_is_not_this_test_s_says_nothing(
    make: Gates, spoil: Callable[[Gate], None]
) -> None:
    gate = make.tested(WORSE)
    spoil(gate)

    said = gate.say()

    assert said.code == ExitCode.ERROR
    assert (gate.state(), gate.comments()) == (None, [])
    if spoil is not of_another_pull:
        assert gate.hub.tip("ratchet/ledger") is None


def test_a_person_s_bundle_is_none_for_the_bot_s_jobs(make: Gates) -> None:
    """Neither to merge it nor, frozen parts and all, to confirm it as a proposal."""
    gate = make.tested(BETTER)

    ran = gate.job("publish").ratchet("publish", "--json", "--bundle", str(gate.bundle))

    assert (ran.code, "proposer" in ran.err) == (ExitCode.ERROR, True)
    assert gate.hub.read("main", SKILL) == SKILL_TEXT
    assert gate.hub.tip("ratchet/triage") is None
    by_the_bot(gate)  # with a setting that fits
    (gate.stage.folder / f"publish{gate.rounds}").rename(gate.stage.folder / "first")
    ran = gate.job("publish").ratchet("publish", "--json", "--bundle", str(gate.bundle))
    assert (ran.code, "ratchet gate" in ran.err) == (ExitCode.ERROR, True)
    assert gate.hub.tip("ratchet/ledger") is None


def test_the_options_of_the_two_forms_are_kept_apart(make: Gates) -> None:
    gate = make()
    gate.open({SKILL: BETTER})
    world = gate.job("any")
    pull, folder = (str(gate.number), gate.sha), str(gate.stage.folder / "x")
    for given in (
        (),
        ("--out", folder, "--bundle", folder),
        ("--out", folder, "--reply", "1/2"),
        ("--bundle", folder, "--usd", "1"),
        ("--bundle", folder, "--reply", "x"),
    ):
        assert world.ratchet("gate", *pull, *given).code != ExitCode.DONE
    assert world.ratchet("gate", "0", gate.sha, "--out", folder).code != ExitCode.DONE
    assert gate.hub.state.statuses == []


# A merge by a person --------------------------------------------------------------------------


def settled(gate: Gate) -> Any:
    """What the next run finds in the ledger, and leaves there: what became of each, the commit."""
    gate.stage.sha = None
    gate.rounds += 1
    world = gate.job("settle")
    ran = world.ratchet("propose", "--json", "--bundle", str(gate.stage.folder / f"s{gate.rounds}"))
    assert ran.code == ExitCode.DONE, ran.err
    world.git("push", "--quiet", "origin", "refs/heads/ratchet/ledger")
    ledger = world.ledger()
    return {
        one.number: (ledger.results()[one.id].action, ledger.landings().get(one.id))
        for one in ledger.experiments()
        if one.id in ledger.results()
    }


IDLE: dict[str, Any] = {"model": script([idea(1, "Rule omega.")])}


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_a_merge_by_a_person_is_known_to_the_next_run(make: Gates, how: Any) -> None:
    """Without a trailer, with commits before and after it; once."""
    gate = make.told(BETTER, "app.py", **IDLE)
    unrelated_commit(gate)
    before = gate.hub.tip("main")
    with gate.hub.state.lock:
        issue, pull = gate.hub.state.pull(gate.number)
        merging.merge(gate.hub.state, issue, pull, Wish(user=issue.user, method=how))
    taken = gate.hub.tip("main")
    gate.hub.person_pushes("octo", "main", {"README.md": "later\n"})

    first = settled(gate)

    action, landing = first[1]
    assert (action, landing.commit, landing.by) == ("merge", taken, "a merge on the base branch")
    assert landing.commit != before
    assert settled(gate)[1] == first[1]


def test_what_was_rejected_and_merged_all_the_same_stays_rejected(
    make: Gates,
) -> None:
    gate = make.told(WORSE, **IDLE)
    gate.hub.person_merges("octo", gate.number)

    assert settled(gate)[1] == ("reject", None)


def other_text(gate: Gate) -> None:
    gate.hub.person_pushes("octo", "main", {SKILL: f"{BETTER}More.\n"})


def another_way(gate: Gate) -> None:
    """The same text in the end, from another one."""
    gate.hub.person_pushes("octo", "main", {SKILL: f"{SKILL_TEXT}Rule.\n"})
    gate.hub.person_pushes("octo", "main", {SKILL: BETTER})


def elsewhere(gate: Gate) -> None:
    gate.hub.person_pushes("octo", "main", {"skills/copy/SKILL.md": BETTER})


@pytest.mark.parametrize(
    "change", [unrelated_commit, other_text, another_way, elsewhere], ids=lambda one: one.__name__
)
def test_only_the_very_edit_is_a_merge_of_it(make: Gates, change: Callable[[Gate], None]) -> None:
    gate = make.told(BETTER, **IDLE)
    change(gate)

    assert settled(gate)[1] == ("hold", None)


def test_the_base_may_move_between_the_two_jobs(make: Gates) -> None:
    """Each of them checks out the branch: what matters is whether the numbers still hold."""
    gate = make.tested(BETTER)
    unrelated_commit(gate)
    gate.stage.sha = None

    said = gate.say()

    assert (said.code, said.json["state"]) == (0, "success"), said.err
    assert [look.attempt for look in gate.job("look").ledger().confirmations()] == [1]


def test_a_bundle_may_not_choose_a_base_that_the_branch_never_had(
    make: Gates,
) -> None:
    gate = make.tested(BETTER)
    # History is rewritten: the commit of the test is on no branch any more.
    world = gate.job("rewriter")
    world.git("commit", "--quiet", "--amend", "--no-edit", "--message", "another start")
    world.git("push", "--quiet", "--force", "origin", "main")
    gate.stage.sha = None

    said = gate.say()

    assert said.code == 1
    assert gate.state() != "success"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"fixtures/triage/holdout/h9.yml": '{"input": "Well?", "expected": "yes"}'}, "pending"),
        ({SKILL: f"{SKILL_TEXT}Theirs.\n"}, "pending"),
        ({"README.md": "news\n"}, "success"),
    ],
)
def test_a_good_status_is_taken_back_when_the_base_goes_on_with_what_was_tested(
    make: Gates, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], state: str
) -> None:
    gate = make()
    gate.open({SKILL: BETTER})
    gate.both()
    assert gate.state() == "success"
    gate.hub.person_pushes("octo", "main", changes)
    event = {"ref": "refs/heads/main", "repository": {"full_name": gate.hub.repository}}
    (file := gate.stage.folder / "push.json").write_text(json.dumps(event))
    monkeypatch.setenv("GITHUB_EVENT_NAME", "push")
    gate.stage.sha = None

    ran = gate.stage.job("watch").ratchet("command", "--json", "--event", str(file))

    assert (ran.code, ran.json["outcome"]) == (0, "done"), ran.err
    assert gate.state() == state
    assert len(gate.hub.comments(gate.number)) == 1
