"""Scenes that many tests begin with: each is made once in a process, and copied for every test."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fakehub import FakeHub
from skill_ratchet.github import http
from stage import Stage, staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMORY = "github"  # what the fake GitHub knew, beside its repository
SAID = "published.json"


class Scenes:
    """Folders that were made once, and that nobody writes to.

    What makes one must depend on nothing but its name: it runs within the first test that asks.

    Args:
        factory: Where they are, for as long as the process lasts.
    """

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._folder = factory.getbasetemp() / "scenes"

    def copied(self, to: Path, make: Callable[[Path], object], name: object) -> None:
        """Fill ``to`` with a copy of what ``make`` makes in an empty folder.

        Clones in it have each other as remotes, and not those of the scene.
        """
        key = hashlib.sha256(json.dumps(name, sort_keys=True).encode()).hexdigest()[:12]
        scene = self._folder / key
        if not scene.exists():
            self._make(scene, make)
        shutil.copytree(scene, to, symlinks=True, dirs_exist_ok=True, copy_function=_copy)
        for config in (*to.glob("*/.git/config"), *to.glob("*/config")):
            text = config.read_text("utf-8")
            config.write_text(text.replace(str(scene), str(to)), "utf-8")

    @staticmethod
    def _make(scene: Path, make: Callable[[Path], object]) -> None:
        scene.mkdir(parents=True)
        try:
            make(scene)
        except BaseException:
            shutil.rmtree(scene)  # or the next test would take half of it for the whole
            raise
        for hook in scene.glob("**/hooks/*.sample"):
            hook.unlink()  # git's examples, more than all other files together


def _copy(source: str, target: str) -> None:
    """Copy a file; git never writes to an object again, so one of those is shared."""
    if "objects" in Path(source).parts:
        os.link(source, target)
    else:
        shutil.copy(source, target)


class Stages:
    """Makes stages (see ``staging``) that are copies of scenes.

    Args:
        folder: Of the test.
        scenes: Where they come from.
        monkeypatch: Sets what a job's environment says of GitHub.
    """

    def __init__(self, folder: Path, scenes: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._scenes, self._monkeypatch = folder, scenes, monkeypatch
        self.hubs: list[FakeHub] = []

    def __call__(self, **project: Any) -> Stage:
        """Nothing has happened."""
        return self.after(_nothing, **project)

    def decided(self, **project: Any) -> Stage:
        """The bot has proposed and confirmed: bundles of round 1."""
        return self.after(decide, **project)

    def published(self, **project: Any) -> Stage:
        """The bot has published, too."""
        return self.after(publish, **project)

    def after(self, steps: Callable[..., object], *given: str, **project: Any) -> Stage:
        """What ``steps``, a function of a module, did to a stage; clones of jobs are gone."""

        def make(scene: Path) -> None:
            with pytest.MonkeyPatch.context() as apart, staging(scene, apart) as build:
                stage = build(**project)
                steps(stage, *given)
                memory = (stage.hub.remembered(), stage.sha)
            (scene / MEMORY).write_bytes(pickle.dumps(memory))
            for clone in scene.glob("*/.git"):
                shutil.rmtree(clone.parent)

        name = [f"{steps.__module__}.{steps.__qualname__}", given, project]
        self._scenes.copied(self._folder, make, name)
        return self._open()

    def _open(self) -> Stage:
        hub = FakeHub(self._folder / "bare.git")
        hub.__enter__()
        self.hubs.append(hub)
        memory, sha = pickle.loads((self._folder / MEMORY).read_bytes())  # noqa: S301 - made above
        hub.recall(memory)
        token = hub.actions_token()
        for name, value in {
            "GITHUB_TOKEN": token,
            "GITHUB_REPOSITORY": hub.repository,
            "GITHUB_API_URL": hub.url,
            "GITHUB_GRAPHQL_URL": hub.graphql,
        }.items():
            self._monkeypatch.setenv(name, value)
        return Stage(hub, self._folder, token, sha)


@contextmanager
def stages(
    folder: Path, factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stages]:
    """Makes stages that are copies; at the end GitHub has nothing to object to."""
    monkeypatch.setattr(http.Wire, "pause", lambda *_: None)  # nobody waits in a test
    made = Stages(folder, Scenes(factory), monkeypatch)
    try:
        yield made
    finally:
        for hub in made.hubs:  # all of them: a server that is left behind would keep the process
            hub.__exit__(None, None, None)
    assert [hub.violations for hub in made.hubs] == [[] for _ in made.hubs]


def _nothing(_: Stage) -> None:
    pass


def decide(stage: Stage) -> None:
    """Propose and confirm."""
    stage.decide()


def publish(stage: Stage) -> None:
    """Propose, confirm and publish."""
    stage.decide()
    ran = stage.publish()
    assert ran.code == 0, ran.err
    (stage.folder / SAID).write_text(ran.out, "utf-8")


def said(stage: Stage) -> Any:
    """What the job said that published a stage."""
    return json.loads((stage.folder / SAID).read_text("utf-8"))
