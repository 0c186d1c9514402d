"""Commands that are killed at every moment at which they leave something behind, and given again.

A scene is played once to its end, which shows its moments (see ``boundaries``) and what has to
come of it. Then it is played anew for each of them, killed there, given again, and compared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from unittest.mock import patch

from fakehub import FakeHub
from world import BOTH, Mortuary, Ran, World, calls_file, idea, outcome, script

from bot import bundles, skillrepo, workspace
from bot.errors import ExitCode
from bot.forge.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KILLED: Final = -signal.SIGKILL
AT_ONCE: Final = 8  # calls that the scripted provider has under way, at most
PLACE: Final = "{folder}"  # in an argument: where the project is


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
            if (found := scene.outcome(world)) != self.outcome:
                wrong.append(f"another outcome: {found}\ninstead of: {self.outcome}")
            world.assert_sound()
            return wrong


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
    return workspace.open_at_base(skillrepo.open_project(world.path), skill=None, override={})


def _bundle(name: str, kind: bundles.Kind) -> Callable[[World], Any]:
    """What the next job, in a clone of its own, reads in a bundle."""

    def read(world: World) -> Any:
        reader = world.path.parent / "reader"
        if not reader.exists():
            subprocess.run(
                ["git", "clone", "-q", "--single-branch", world.path, reader], check=True
            )
        checked = bundles.read(world.path.parent / name, _space(World(reader)), kind=kind)
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
    """A command of a job on GitHub, in a clone; given again it has a fresh one, as there."""

    def build(self, template: Path) -> None:
        """The repository as the job before has left it, and what that handed on."""
        world = World.make(template / "p", **self.project)
        self.prepare(world)
        world.git("clone", "--quiet", "--bare", str(world.path), str(template / "bare.git"))
        shutil.rmtree(world.path)

    @contextmanager
    def place(self, template: Path, folder: Path) -> Iterator[World]:
        """A GitHub of its own, and a clone."""
        shutil.copytree(template, folder, symlinks=True)
        with FakeHub(folder / "bare.git") as hub, patch.object(Wire, "pause", lambda *_: None):
            token = hub.actions_token()
            where = {
                "GITHUB_TOKEN": token,
                "GITHUB_REPOSITORY": hub.repository,
                "GITHUB_API_URL": hub.url,
                "GITHUB_GRAPHQL_URL": hub.graphql,
            }
            with patch.dict(os.environ, where):
                world = Clone.of(hub, token, folder / "p")
                yield world

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


def _published(world: World) -> Any:
    """What is on GitHub, and what the ledger there says."""
    assert isinstance(world, Clone)
    after = Clone.of(world.hub, world.token, world.path.parent / "after")
    rows = outcome(after) | {"branches": None}
    # A job that is killed between a merge and its last comment leaves that unsaid.
    told = re.sub(r"127\.0\.0\.1:\d+|\b[0-9a-f]{12,40}\b", "*", world.hub.world())
    comments = re.findall(r"(?m)^ {4}comment by .*\n(?: {6}\|.*\n)*", told)
    for comment in comments:
        told = told.replace(comment, "")
    # In how many commits the ledger came is nobody's business; what it says is compared.
    told = re.sub(r"(?m)^ +\* .*Ratchet/Ratchet: triage: (?!idea).*\n", "", told)
    return {"hub": told, "one comment": len(comments) <= 1, "ledger": rows}


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


RUN: Final = ("run", "--json", "--attempts", "2")
BAD_EDIT: Final = [{"op": "add", "after": "No such line", "lines": "x"}]
# An attempt that ended in a rejection is one: the same command again would make the next.
ONE: Final[dict[str, Any]] = {
    "args": ("run", "--json", "--attempts", "1"),
    "done": lambda world: bool(world.ledger().results()) and not world.ledger().unfinished(),
    "finish": ("run", "--json", "--attempts", "0"),
}
MERGED: Final[dict[str, Any]] = {"prepare": lambda world: world.run()}
SCENES: Final = (
    Scene(name="run: merged", args=RUN),
    Scene(name="run: screen fails", project={"model": script(right={})}, **ONE),
    Scene(name="run: not confirmed", project={"model": script(right={"alpha": BOTH[:3]})}, **ONE),
    Scene(name="run: cannot be applied", project={"model": script([idea(1, BAD_EDIT)])}, **ONE),
    Scene(name="run: awaits a person", args=RUN, project={"config": {"gate": {"merge": "manual"}}}),
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
    Job(
        name="publish: merged",
        args=("publish", "--json", "--bundle", f"{PLACE}/made"),
        prepare=_confirmed,
        outcome=_published,
    ),
    Job(
        name="publish: awaits a person",
        args=("publish", "--json", "--bundle", f"{PLACE}/made"),
        project={"config": {"gate": {"merge": "manual"}}},
        prepare=_confirmed,
        outcome=_published,
    ),
)
