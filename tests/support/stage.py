"""A repository on the fake GitHub, and the jobs of its workflows, each in a fresh clone."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import templates
from fakehub import FakeHub
from skill_ratchet.github import http, publish
from world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

ROOT: Final = Path(__file__).parents[2]
EVENTS: Final = json.loads((ROOT / "tests/support/data/github-events.json").read_text("utf-8"))


@dataclass
class Stage:
    """A repository on GitHub and the jobs of its workflow, each in a fresh clone."""

    hub: FakeHub
    folder: Path
    token: str
    sha: str | None = None  # what the workflow was started on; every job checks it out

    def job(self, name: str, *, over_http: bool = False) -> World:
        """A fresh clone with the ledger's branches, as a checkout that fetched everything.

        It does not really come ``over_http``, which takes ten times as long, unless asked to.
        """
        path, url = self.folder / name, self.hub.clone_url_for(self.token)
        if over_http:
            subprocess.run(["git", "clone", "--quiet", url, str(path)], check=True)
        else:
            refs = self.hub.state.git.refs("refs")
            templates.copy(path, self._clone, "clone", self.hub.state.git.head, *refs.items())
            config = path / ".git/config"
            config.write_text(re.sub(r"(?<=url = ).*", url, config.read_text()))
        world = World(path)
        if self.sha:
            world.git("reset", "--quiet", "--hard", self.sha)
        return world

    def _clone(self, path: Path) -> None:
        bare = self.hub.state.git.path
        subprocess.run(["git", "clone", "--quiet", "--no-local", str(bare), str(path)], check=True)

    def decide(self, round_: str = "1") -> Any:
        """Propose and confirm; returns what confirm said."""
        self.sha = self.hub.tip("main")
        bundle, out = self.folder / f"proposal{round_}", self.folder / f"confirmation{round_}"
        proposed = self.job(f"propose{round_}").ratchet(
            "propose", "--json", "--bundle", str(bundle)
        )
        assert proposed.code == 0, proposed.err
        confirmed = self.job(f"confirm{round_}").ratchet(
            "confirm", "--json", "--bundle", str(bundle), "--out", str(out)
        )
        assert confirmed.code == 0, confirmed.err
        return confirmed.json

    def publish(self, round_: str = "1", *, bundle: bool = True) -> Any:
        """The publish job."""
        world = self.job(f"publish{round_}")
        given = ["--bundle", str(self.folder / f"confirmation{round_}")] if bundle else []
        return world.ratchet("publish", "--json", *given)


REMEMBERED: Final[dict[Path, dict[str, Any]]] = {}  # by hubs of prepared repositories


@contextmanager
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    """Makes stages out of what ``World.make`` takes; at the end GitHub has nothing to object to.

    ``prepare`` does something on a stage first: once, and what came of it is copied for each test.
    So it is a function of a module, and does the same at any time.
    """
    hubs: list[FakeHub] = []
    monkeypatch.setattr(http.Wire, "pause", lambda *_: None)  # nobody waits in a test

    def opened(bare: Path, folder: Path) -> Stage:
        hub = FakeHub(bare)
        hub.__enter__()
        hubs.append(hub)
        token = hub.actions_token()
        for name, value in {
            "GITHUB_TOKEN": token,
            "GITHUB_REPOSITORY": hub.repository,
            "GITHUB_API_URL": hub.url,
            "GITHUB_GRAPHQL_URL": hub.graphql,
        }.items():
            monkeypatch.setenv(name, value)
        return Stage(hub, folder, token)

    def build(*, prepare: Callable[[Stage], object] | None = None, **project: Any) -> Stage:
        bare, given = tmp_path / "bare.git", json.dumps(project)
        if prepare is None:
            templates.copy(bare, lambda made: _found(made, project), "bare", given)
            return opened(bare, tmp_path)

        def first(made: Path) -> None:
            _found(made, project)
            (folder := tmp_path / "prepared").mkdir()
            prepare(stage := opened(made, folder))
            REMEMBERED[made] = stage.hub.remembered()

        kept = templates.copy(bare, first, "scene", prepare.__module__, prepare.__name__, given)
        stage = opened(bare, tmp_path)
        stage.hub.recall(REMEMBERED[kept])
        return stage

    try:
        yield build
    finally:
        for hub in hubs:  # all of them: a server that is left behind would keep the process
            hub.__exit__(None, None, None)
    assert [hub.violations for hub in hubs] == [[] for _ in hubs]


def _found(bare: Path, project: dict[str, Any]) -> None:
    """A bare repository with a project."""
    start = World.make(bare.with_name(f"{bare.name}-start"), **project).path
    subprocess.run(["git", "clone", "--quiet", "--bare", str(start), str(bare)], check=True)


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Years later, for the jobs that publish."""
    monkeypatch.setattr(publish, "datetime", clock(datetime(2099, 1, 1, tzinfo=UTC)))


def clock(at: datetime) -> type[datetime]:
    """What a module takes for ``datetime``, with a clock that stands still."""

    class Standing(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return at.astimezone(tz)

    return Standing


def comment_event(hub: FakeHub, comment: int) -> dict[str, Any]:
    """What GitHub tells a workflow of a comment that was just made."""
    said = hub.state.comments[comment]
    user = {"login": said.user.login, "type": said.user.kind}
    event: dict[str, Any] = copy.deepcopy(EVENTS["issue_comment"])
    event["issue"] = {"number": said.number, "state": "open"}
    event["issue"] |= {"pull_request": {"url": "https://x"}} if hub.issue(said.number).pull else {}
    event["comment"] |= {"id": said.id, "body": said.body, "user": user}
    event["comment"] |= {"created_at": said.created_at, "updated_at": said.updated_at}
    event["repository"]["full_name"] = hub.repository
    event["sender"] = dict(user)
    return event
