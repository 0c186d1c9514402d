"""Commands that are killed at every moment at which they leave something behind, and given again.

A scene is played once to its end, which shows its moments (see ``boundaries``) and what has to
come of it. Then it is played anew for each of them, killed there, given again, and compared.
"""

from __future__ import annotations

import atexit
import difflib
import json
import os
import pickle
import pprint
import re
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self
from unittest.mock import patch

import pytest

from fakehub import FakeHub
from gitrepo import GitRepo
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.github import publish
from skill_ratchet.github.http import Wire
from skill_ratchet.ledger import bundles
from skill_ratchet.ledger import clock as clocks
from skill_ratchet.project import repository, workspace
from stage import ROOT, clock, comment_event
from world import (
    BOTH,
    SKILL,
    SKILL_TEXT,
    Mortuary,
    Ran,
    World,
    calls_file,
    idea,
    outcome,
    script,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KILLED: Final = -signal.SIGKILL
AT_ONCE: Final = 8  # calls that the scripted provider has under way, at most
PLACE: Final = "{folder}"  # in an argument: where the project is
HEAD: Final = "{head}"  # as an argument: the head of pull request ``PULL``
PULL: Final = 1


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A command on a project, and what comes of it.

    Args:
        name: What to call it.
        args: The command line.
        project: As ``World.make`` takes it.
        prepare: What happens before.
        outcome: What has to be the same, however often it was killed.
        done: Whether it must not be given again, since it had come to its end.
        finish: What is given instead then, if anything.
        under_way: Calls that may be lost, at most: those that had not been written down.
        elsewhere: Calls that its document counts and that others made before.
    """

    name: str
    args: tuple[str, ...]
    project: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[World], object] = lambda _: None
    outcome: Callable[[World], Any] = outcome
    done: Callable[[World], bool] = lambda _: False
    finish: tuple[str, ...] = ()
    under_way: int = 1
    elsewhere: int = 0  # calls that its document counts and that others made before

    def build(self, template: Path) -> None:
        """Make the project, once; it is copied for each time it is played."""
        world = World.make(template / "p", **self.project)
        self.prepare(world)

    @contextmanager
    def place(self, template: Path, folder: Path) -> Iterator[World]:
        """The project as it was made, in a folder of its own."""
        shutil.copytree(template, folder, symlinks=True)
        yield World(folder / "p")

    def command(self, world: World) -> tuple[str, ...]:
        """The command line in one place."""
        return tuple(arg.replace(PLACE, str(world.path.parent)) for arg in self.args)

    def again(self, world: World) -> Ran:
        """The same command after the first was killed."""
        return world.ratchet(*self.command(world))


@dataclass(frozen=True)
class Played:
    """A scene that nothing happened to: its moments, what came of it, its calls.

    ``others`` are the calls on record that it did not make itself.
    """

    scene: Scene
    template: Path
    moments: tuple[str, ...]
    outcome: Any
    calls: int
    others: int

    def killed(
        self, mortuary: Mortuary, folder: Path, moment: str, *, by: int = signal.SIGKILL
    ) -> list[str]:
        """Play it in ``folder``, killed at a moment; returns everything that is wrong.

        With ``by`` 0 the disk is full from the moment on, and the command has to say so.
        """
        scene = self.scene
        with scene.place(self.template, folder) as world:
            first = mortuary.run(world, *scene.command(world), stop=moment, by=by)
            if not by and (bad := badly_said(first)):
                return bad
            if by and first.code != KILLED:
                return [f"was not reached; it ended with {first.code}: {first.err[-500:]}"]
            paid = _came_back(world)
            lost = paid - max(0, _on_record(world) - self.others) if self.calls else 0
            wrong = (
                [f"{lost} calls were lost"]
                if not 0 <= lost <= (scene.under_way if by else AT_ONCE)
                else []
            )
            done = scene.done(world)
            if not done or scene.finish:
                again = world.ratchet(*scene.finish) if done else scene.again(world)
                if again.code != ExitCode.DONE:
                    return [*wrong, f"the second ended with {again.code}: {again.err[-500:]}"]
                paid += max(0, _calls(again) - scene.elsewhere)
            if paid != self.calls + lost:
                wrong.append(f"{paid} calls, {lost} of them lost; undisturbed {self.calls}")
            wrong += unlike(scene.outcome(world), self.outcome)
            world.assert_sound()
            return wrong


def unlike(found: Any, expected: Any) -> list[str]:
    """How an outcome differs from what it has to be, if it does."""
    if found == expected:
        return []
    before, after = (pprint.pformat(one, width=120).splitlines() for one in (expected, found))
    return [
        "another outcome:",
        *difflib.unified_diff(before, after, "expected", "found", "", "", 1, ""),
    ]


def badly_said(ran: Ran) -> list[str]:
    """What is wrong with how a command ended to which something has happened."""
    if ran.code not in (ExitCode.DONE, ExitCode.ERROR) or "Traceback" in ran.err:
        return [f"ended with {ran.code}: {ran.err[-1500:]}"]
    if ran.code and not re.search(r"(?m)^hint: \S", ran.err):
        return [f"says what is wrong and not what to do: {ran.err[-500:]}"]
    return []


def play(scene: Scene, mortuary: Mortuary, folder: Path) -> Played:
    """Play a scene to its end, watched."""
    template, tape = folder / "template", folder / "tape"
    template.mkdir(parents=True)
    scene.build(template)
    with scene.place(template, folder / "whole") as world:
        ran = mortuary.run(world, *scene.command(world), tape=tape)
        assert ran.code == ExitCode.DONE, ran.err
        return Played(
            scene=scene,
            template=template,
            moments=tuple(tape.read_text("utf-8").splitlines()),
            outcome=scene.outcome(world),
            calls=_came_back(world),
            others=_on_record(world) - _came_back(world),
        )


def _came_back(world: World) -> int:
    file = calls_file(world)
    return len(file.read_text().splitlines()) if file.exists() else 0


def _on_record(world: World) -> int:
    ledger = world.ledger()
    return sum(1 for split in ("train", "holdout") for _ in ledger.traces(split=split))


def _calls(ran: Ran) -> int:
    document = ran.json if ran.out else {}
    return int(document.get("noise", document).get("calls", 0))


@cache
def the_mortuary(folder: Path) -> Mortuary:
    """Where commands die: one for all the tests of a process, as it takes seconds to begin."""
    place = folder / "mortuary"
    place.mkdir()
    made = Mortuary(place)
    atexit.register(made.close)
    return made


def with_few(rows: Sequence[tuple[str, tuple[Any, ...]]], *few: str) -> list[Any]:
    """Parameters by their ids: a few of them for ``make test``, the rest for ``make test-full``."""
    assert {*few} <= {name for name, _ in rows}
    full = pytest.mark.full
    return [pytest.param(*row, marks=() if name in few else full, id=name) for name, row in rows]


# What can be played ---------------------------------------------------------------------------


def _files(world: World) -> dict[str, bytes]:
    return {name: data for name, data in world.files().items() if name.startswith("fixtures/")}


def _brought(world: World) -> Any:
    """An import: the cases, and what the ledger has of the log."""
    ledger = world.ledger()
    stamps = {"at": ""}
    return {
        "files": _files(world),
        "answers": [one.with_(**stamps) for one in ledger.answers()],
        "corrections": sorted(
            (one.with_(**stamps) for one in ledger.corrections()), key=lambda one: one.id
        ),
        "status": world.status(),
    }


def _log(world: World) -> None:
    rows = [
        f"Please tell me about {word}.,fees,{truth}\n"
        for word, truth in [
            *((word, "cards") for word in ("my lost card", "a new card", "contactless", "a PIN")),
            *((word, "fees") for word in ("exchange", "the yearly price", "transfers abroad")),
        ]
    ]
    (world.path.parent / "log.csv").write_text("input,output,expected\n" + "".join(rows))


def _forgotten(world: World) -> Any:
    told = [world.told(f"ratchet/{name}") for name in ("ledger", "holdout")]
    return {
        "looks": world.ratchet("looks", "--json").json,
        "log": world.ratchet("log").out,
        "in the ledger": [f"Is it {name}?" in told[0] for name in ("t1", "t2")],
        "commits": [len(world.git("rev-list", f"ratchet/{ref}").split()) for ref in REFS],
        "skill": world.skill(),
        "fixtures": _files(world),
        "head": world.git("log", "--format=%s", "main"),
        "status": world.status(),
        "refs": world.git("for-each-ref", "--format=%(refname)"),
    }


REFS: Final = ("ledger", "holdout")


def _reverted(world: World) -> Any:
    rows = world.ratchet("log", "--json").json
    return [row["state"] for row in rows], world.skill(), world.git("log", "--format=%s", "main")


def _measured(world: World) -> Any:
    ledger = world.ledger()
    return sorted(
        (one.fixture, one.split, one.key.replicate if one.key else -1)
        for split in ("train", "holdout")
        for one in ledger.traces(split=split)
    )


def _space(world: World) -> workspace.Workspace:
    return workspace.open_at_base(repository.open_project(world.path), skill=None, override={})


def _bundle(name: str, kind: bundles.Kind, *, by_person: bool = False) -> Callable[[World], Any]:
    """What the next job, in a clone of its own, reads in a bundle."""

    def read(world: World) -> Any:
        reader = world.path.parent / "reader"
        if not reader.exists():
            subprocess.run(
                ["git", "clone", "-q", "--single-branch", world.path, reader], check=True
            )
        bundle, space = world.path.parent / name, _space(World(reader))
        checked = bundles.read(bundle, space, kind=kind, by_person=by_person)
        decision = checked.decision
        return {
            "world": outcome(world) | {"branches": None},
            "experiment": checked.experiment and checked.experiment.id,
            "candidate": checked.candidate,
            "verdict": decision and decision.verdict,
            "beside": sorted(one.name for one in world.path.parent.iterdir() if name in one.name),
        }

    return read


def _whole(name: str) -> Callable[[World], bool]:
    return lambda world: (world.path.parent / name / bundles.MANIFEST).exists()


def _proposed(world: World) -> None:
    ran = world.ratchet("propose", "--json", "--bundle", str(world.path.parent / "proposal"))
    assert ran.code == ExitCode.DONE, ran.err
    # The next job has a clone of its own, with the ledger's branches of the remote alone.
    for name in REFS:
        if f"ratchet/{name}" in world.branches():
            world.git("branch", "--quiet", "-D", f"ratchet/{name}")


@dataclass(frozen=True, kw_only=True)
class Job(Scene):
    """A command of a job on GitHub, in a clone; given again it has a fresh one, as there.

    Args:
        before: What happens on GitHub before the job.
        environ: What the job's environment has besides.
    """

    before: Callable[[Clone], object] = lambda _: None
    environ: dict[str, str] = field(default_factory=dict)

    def build(self, template: Path) -> None:
        """The repository as the job before has left it, and what that handed on."""
        world = World.make(template / "p", **self.project)
        self.prepare(world)
        world.git("clone", "--quiet", "--bare", str(world.path), str(template / "bare.git"))
        shutil.rmtree(world.path)
        with self._on_github(template, "before") as clone:
            self.before(clone)
            remembered = clone.hub.remembered()
        shutil.rmtree(clone.path)
        (template / "remembered").write_bytes(pickle.dumps(remembered))

    @contextmanager
    def place(self, template: Path, folder: Path) -> Iterator[World]:
        """A GitHub of its own, and a clone."""
        shutil.copytree(template, folder, symlinks=True)
        with self._on_github(folder, "p") as clone:
            yield clone

    @contextmanager
    def _on_github(self, folder: Path, name: str) -> Iterator[Clone]:
        with FakeHub(folder / "bare.git") as hub, patch.object(Wire, "pause", lambda *_: None):
            if (remembered := folder / "remembered").exists():
                hub.recall(pickle.loads(remembered.read_bytes()))  # noqa: S301 - made above
            token = hub.actions_token()
            where = {
                "GITHUB_TOKEN": token,
                "GITHUB_REPOSITORY": hub.repository,
                "GITHUB_API_URL": hub.url,
                "GITHUB_GRAPHQL_URL": hub.graphql,
            }
            with patch.dict(os.environ, where | self.environ):
                yield Clone.of(hub, token, folder / name)

    def command(self, world: World) -> tuple[str, ...]:
        """The command line, with the head of the pull request that was open before it."""
        assert isinstance(world, Clone)
        args = super().command(world)
        if HEAD not in args:
            return args
        pull = world.hub.issue(PULL).pull
        assert pull
        return tuple(pull.head_sha if arg == HEAD else arg for arg in args)

    @staticmethod
    def objections(world: Clone) -> list[str]:
        """What GitHub had to object to; a request that was torn by a death is no one's."""
        # Git tries an older protocol where an answer of the new one was spoiled.
        return [one for one in world.hub.violations if ".git/" not in one]

    def again(self, world: World) -> Ran:
        """The job is started again."""
        assert isinstance(world, Clone)
        fresh = Clone.of(world.hub, world.token, world.path.parent / "fresh", sha=world.sha)
        return fresh.ratchet(*self.command(world))


class Clone(World):
    """A clone of a repository on the fake GitHub, whose ledger is the one there."""

    hub: FakeHub
    token: str
    sha: str

    @classmethod
    def of(cls, hub: FakeHub, token: str, path: Path, *, sha: str = "") -> Self:
        """Clone it; ``sha`` is what the workflow was started on, which a job checks out."""
        subprocess.run(["git", "clone", "-q", hub.clone_url_for(token), str(path)], check=True)
        clone = cls(path)
        clone.hub, clone.token, clone.sha = hub, token, sha or clone.tip("main")
        clone.git("reset", "--quiet", "--hard", clone.sha)
        return clone

    def assert_sound(self) -> None:
        """Every object of the clone, and of the repository on GitHub."""
        super().assert_sound()
        GitRepo(self.hub.state.git.path).assert_sound()


def _published(world: World) -> dict[str, Any]:
    """What is on GitHub, and what the ledger there says."""
    assert isinstance(world, Clone)
    after = Clone.of(world.hub, world.token, world.path.parent / "after")
    ledger = after.ledger()
    told = re.sub(r"127\.0\.0\.1:\d+|\b[0-9a-f]{12,40}\b", "*", world.hub.world())
    # In how many commits the ledger came is nobody's business; what it says is compared.
    told = re.sub(r"(?m)^ +\* .*Ratchet/Ratchet: triage: (?!idea|revert).*\n", "", told)
    bots = [one for one in world.hub.state.comments.values() if one.user.kind == "Bot"]
    marks = Counter((one.number, one.body.partition("\n")[0]) for one in bots)
    return {
        "hub": told,
        "comments twice": [mark for mark, count in marks.items() if count > 1],
        "ledger": outcome(after) | {"branches": None},
        "notes": {(one.kind, one.words) for one in ledger.notes()},
        "corrections": {(one.input, str(one.expected)) for one in ledger.corrections()},
    }


def _published_unsaid(world: World) -> dict[str, Any]:
    """The same without comments: a job killed between a merge and its last one leaves it unsaid."""
    found = _published(world)
    comments = re.compile(r"(?m)^ {4}comment by .*\n(?: {6}\|.*\n)*")
    return found | {"hub": comments.sub("", found["hub"])}


def _confirmed(world: World) -> None:
    """The two jobs before, in clones of their own."""
    folder = world.path.parent
    bundles_ = {"proposal": folder / "proposal", "made": folder / "made"}
    for name, args in {
        "one": ("propose", "--bundle", str(bundles_["proposal"])),
        "two": ("confirm", "--bundle", str(bundles_["proposal"]), "--out", str(bundles_["made"])),
    }.items():
        world.git("clone", "--quiet", str(world.path), str(folder / name))
        ran = World(folder / name).ratchet(*args)
        assert ran.code == ExitCode.DONE, ran.err
        shutil.rmtree(folder / name)


def _part(world: World) -> Any:
    """What one of several machines hands in: its runs, and what they were made for."""
    folder = world.path.parent / "part"
    runs = [json.loads(line) for line in (folder / "runs.jsonl").read_text("utf-8").splitlines()]
    made = json.loads((folder / bundles.MANIFEST).read_text("utf-8"))
    return {
        "world": outcome(world) | {"branches": None},
        "runs": sorted((run["fixture"], run["side"], run["key"]["replicate"]) for run in runs),
        "plan": made["plan"],
        "beside": sorted(one.name for one in world.path.parent.iterdir() if "part" in one.name),
    }


def _parted(world: World) -> None:
    """A proposal, and the shards of its confirm run, each made in a clone of its own."""
    _proposed(world)
    folder = world.path.parent
    for number in ("1", "2"):
        clone = World(folder / f"clone{number}")
        world.git("clone", "--quiet", str(world.path), str(clone.path))
        where = ("--bundle", str(folder / "proposal"), "--out", str(folder / "parts" / number))
        ran = clone.ratchet("confirm", "--json", "--shard", f"{number}/2", *where)
        assert (ran.code, ran.json["calls"]) == (ExitCode.DONE, 2), ran.err
        shutil.rmtree(clone.path)


def _long_ago(world: World) -> None:
    with patch.object(clocks, "now", lambda: EARLY):
        _confirmed(world)


EARLY: Final = FakeHub.START  # on its clock, which commits that are made there have


def _ratchet(clone: Clone, *args: str) -> None:
    ran = clone.ratchet(*args)
    assert ran.code == ExitCode.DONE, ran.err


def _waits(clone: Clone) -> None:
    """The bot's pull request is open."""
    folder = clone.path.parent
    with patch.object(publish, "datetime", clock(EARLY + timedelta(minutes=1))):
        _ratchet(clone, "publish", "--json", "--bundle", str(folder / "made"))
    assert clone.hub.issue(PULL).state == "open"


def _persons_merge(clone: Clone) -> None:
    _waits(clone)
    clone.hub.person_merges("octo", PULL)


def _persons_no(clone: Clone) -> None:
    _waits(clone)
    clone.hub.person_edits("octo", PULL, state="closed")


def _persons_edit(clone: Clone) -> None:
    """Somebody's pull request, which was tested in the job before."""
    edit = {SKILL: f"{SKILL_TEXT}Rule alpha.\n"}
    sha = clone.hub.person_pushes("octo", "edit", edit)
    assert clone.hub.person_opens_pull("octo", head="edit", title="Better") == PULL
    _ratchet(clone, "gate", str(PULL), sha, "--json", "--out", str(clone.path.parent / "tested"))


def _merged(clone: Clone) -> None:
    _ratchet(clone, "publish", "--json", "--bundle", str(clone.path.parent / "made"))
    assert clone.hub.issue(PULL).state == "closed"


def _with_workflow(world: World) -> None:
    flow = ROOT / ".github/workflows/ratchet.yml"
    world.write(".github/workflows/ratchet.yml", flow.read_text("utf-8"))
    world.commit("workflow")
    _confirmed(world)


def _tested(world: World) -> None:
    """A remote with a person's pull request, from which the project was cloned."""
    world.git("checkout", "--quiet", "-b", "edit")
    world.write(SKILL, f"{SKILL_TEXT}Rule alpha.\n")
    sha = world.commit("edit")
    world.git("checkout", "--quiet", "main")
    world.git("branch", "--quiet", "-D", "edit")
    (world.path.parent / "head").write_text(sha)
    origin = world.path.parent / "origin.git"
    world.git("clone", "--quiet", "--bare", str(world.path), str(origin))
    world.git("remote", "add", "origin", "../origin.git")
    world.git("push", "--quiet", "origin", f"{sha}:refs/pull/{PULL}/head")


def _seen_done(world: World) -> bool:
    """Whether who has asked can see that it was done, or begun."""
    assert isinstance(world, Clone)
    mine = (one for one in world.hub.comments(PULL) if one.user.kind == "User")
    rockets = any(reaction.content == "rocket" for one in mine for reaction in one.reactions)
    return rockets or bool(world.hub.dispatches)


@dataclass(frozen=True, kw_only=True)
class Command(Job):
    """The job of a comment. One that was answered is not acted on again, so it is said again.

    Args:
        words: What somebody says on the pull request.
    """

    words: str
    args: tuple[str, ...] = ("command", "--json", "--event", f"{PLACE}/event.json")
    environ: dict[str, str] = field(default_factory=lambda: {"GITHUB_EVENT_NAME": "issue_comment"})
    prepare: Callable[[World], object] = _confirmed
    outcome: Callable[[World], Any] = _published_unsaid
    done: Callable[[World], bool] = _seen_done

    def command(self, world: World) -> tuple[str, ...]:
        """The command line; the comment is made, unless it is there and has no answer yet."""
        assert isinstance(world, Clone)
        event = world.path.parent / "event.json"
        answers = [one for one in world.hub.comments(PULL) if "ratchet:reply" in one.body]
        if not event.exists() or answers:
            comment = world.hub.person_comments("octo", PULL, self.words)
            event.write_text(json.dumps(comment_event(world.hub, comment)), "utf-8")
        return super().command(world)


@dataclass(frozen=True, kw_only=True)
class Tests(Scene):
    """The job with the LLM key that tests a person's pull request."""

    def command(self, world: World) -> tuple[str, ...]:
        """With the head that the remote has."""
        head = (world.path.parent / "head").read_text()
        return tuple(head if arg == HEAD else arg for arg in super().command(world))


RUN: Final = ("run", "--json", "--attempts", "2")
BAD_EDIT: Final = [{"op": "add", "after": "No such line", "lines": "x"}]
# An attempt that ended in a rejection is one: the same command again would make the next.
ONE: Final[dict[str, Any]] = {
    "args": ("run", "--json", "--attempts", "1"),
    "done": lambda world: bool(world.ledger().experiments()) and not world.ledger().unfinished(),
    "finish": ("run", "--json", "--attempts", "0"),
}
BY_HAND: Final[dict[str, Any]] = {"config": {"gate": {"merge": "manual"}}}
MERGED: Final[dict[str, Any]] = {"prepare": lambda world: world.run()}
SCENES: Final = (
    Scene(name="run: merged", args=RUN),
    Scene(name="run: screen fails", project={"model": script(right={})}, **ONE),
    Scene(name="run: not confirmed", project={"model": script(right={"alpha": BOTH[:3]})}, **ONE),
    Scene(name="run: cannot be applied", project={"model": script([idea(1, BAD_EDIT)])}, **ONE),
    Scene(name="run: awaits a person", args=RUN, project=BY_HAND),
    Scene(name="eval", args=("eval", "--json"), outcome=_measured),
    Scene(name="check --noise", args=("check", "--noise", "--json"), outcome=_measured),
    Scene(
        name="import",
        args=(
            "import",
            f"{PLACE}/log.csv",
            "--json",
            "--output",
            "output",
            "--expected",
            "expected",
        ),
        prepare=_log,
        outcome=_brought,
    ),
    Scene(name="forget", args=("forget", "t1", "--json"), outcome=_forgotten, **MERGED),
    Scene(name="revert", args=("revert", "1", "--json"), outcome=_reverted, **MERGED),
    Scene(
        name="propose",
        args=("propose", "--json", "--bundle", f"{PLACE}/proposal"),
        outcome=_bundle("proposal", "proposal"),
        done=_whole("proposal"),
    ),
    Scene(
        name="confirm",
        args=("confirm", "--json", "--bundle", f"{PLACE}/proposal", "--out", f"{PLACE}/made"),
        prepare=_proposed,
        outcome=_bundle("made", "confirmation"),
        done=_whole("made"),
    ),
    Scene(
        name="confirm --shard",
        args=(
            *("confirm", "--json", "--bundle", f"{PLACE}/proposal"),
            *("--shard", "1/1", "--out", f"{PLACE}/part"),
        ),
        prepare=_proposed,
        outcome=_part,
        done=_whole("part"),
    ),
    Scene(
        name="confirm --from-shards",
        args=(
            *("confirm", "--json", "--bundle", f"{PLACE}/proposal"),
            *("--from-shards", f"{PLACE}/parts", "--out", f"{PLACE}/made"),
        ),
        prepare=_parted,
        outcome=_bundle("made", "confirmation"),
        done=_whole("made"),
        elsewhere=4,
    ),
    Tests(
        name="gate: test",
        args=("gate", str(PULL), HEAD, "--json", "--out", f"{PLACE}/tested"),
        prepare=_tested,
        outcome=_bundle("tested", "confirmation", by_person=True),
        done=_whole("tested"),
    ),
    Job(
        name="publish: merged",
        args=("publish", "--json", "--bundle", f"{PLACE}/made"),
        prepare=_confirmed,
        outcome=_published_unsaid,
    ),
    Job(
        name="publish: awaits a person",
        args=("publish", "--json", "--bundle", f"{PLACE}/made"),
        project=BY_HAND,
        prepare=_confirmed,
        outcome=_published,
    ),
    Job(
        name="publish: its time has come",
        args=("publish", "--json"),
        project={"config": {"gate": {"merge": "after 1h"}}},
        prepare=_long_ago,
        before=_waits,
        outcome=_published_unsaid,
    ),
    Job(
        name="publish: a person merged it",
        args=("publish", "--json"),
        project=BY_HAND,
        prepare=_confirmed,
        before=_persons_merge,
        outcome=_published,
    ),
    Job(
        name="publish: a person closed it",
        args=("publish", "--json"),
        project=BY_HAND,
        prepare=_confirmed,
        before=_persons_no,
        outcome=_published,
    ),
    Job(
        name="gate: say",
        args=("gate", str(PULL), HEAD, "--json", "--bundle", f"{PLACE}/tested"),
        before=_persons_edit,
        outcome=_published,
    ),
    Command(name="command: merge", words="/ratchet merge", project=BY_HAND, before=_waits),
    Command(name="command: reject", words="/ratchet reject No.", project=BY_HAND, before=_waits),
    Command(name="command: revert", words="/ratchet revert 1", before=_merged),
    Command(
        name="command: run",
        words="/ratchet run",
        project=BY_HAND,
        prepare=_with_workflow,
        before=_waits,
    ),
    Command(
        name="command: correct",
        words="/ratchet correct triage\nInput: My card is gone\nAnswered: no\nExpected: yes",
        project=BY_HAND,
        before=_waits,
    ),
)
