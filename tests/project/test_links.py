"""A repository may hold links and submodules, as long as nothing of Ratchet's goes through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skill_ratchet.project import repository, workspace
from stage import staging
from world import SKILL_TEXT, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gitrepo import GitRepo
    from stage import Stage


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    with staging(tmp_path, monkeypatch) as build:
        yield build


def link(repo: GitRepo) -> None:
    (repo.path / "docs").symlink_to("README.md")


def twins(repo: GitRepo) -> None:
    repo.write("Notes.md", "one\n")
    repo.write("notes.md", "another\n")


def submodule(repo: GitRepo) -> None:
    head = repo.git("rev-parse", "HEAD")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{head},vendored")


STRANGE = [link, twins, submodule]


@pytest.mark.parametrize("strange", STRANGE)
def test_they_are_in_nobodys_way(tmp_path: Path, strange: Callable[[GitRepo], None]) -> None:
    world = World.make(tmp_path / "p")
    strange(world)
    world.git("add", "-A") if strange is not submodule else None
    world.git("commit", "-qm", "strange")
    if strange is submodule:
        (world.path / "vendored").mkdir()

    assert world.ratchet("check").code == 0
    assert world.run().verdicts == [("merge", "improved")]
    assert world.skill() == f"{SKILL_TEXT}Rule alpha.\n"


@pytest.mark.parametrize("strange", STRANGE)
def test_nor_on_github(make: Callable[..., Stage], strange: Callable[[GitRepo], None]) -> None:
    stage = make()
    world = stage.job("person")
    strange(world)
    world.git("add", "-A") if strange is not submodule else None
    world.git("commit", "-qm", "strange")
    world.git("push", "-q", "origin", "main")
    stage.decide()

    ran = stage.publish()

    assert (ran.code, ran.json["action"]) == (0, "merge"), ran.err


def test_a_stop_that_is_a_link_stops(make: Callable[..., Stage]) -> None:
    stage = make(config={"gate": {"merge": "manual"}})
    stage.decide()
    world = stage.job("person")
    (world.path / ".ratchet-hold").symlink_to("nowhere")
    world.git("add", "-A")
    world.git("commit", "-qm", "stop")
    world.git("push", "-q", "origin", "main")
    assert stage.publish().json["reason"] == "held"


@pytest.mark.parametrize(
    "command",
    [
        ["python3", "score.py"],
        ["python3", "./score.py"],
        ["sh", "-c", "python3 score.py"],
        ["sh", "-c", 'python3 "${RATCHET_ROOT}/score.py"'],
        ["sh", "-c", 'cat x | python3 "$RATCHET_ROOT/score.py" && true'],
    ],
)
def test_a_scorers_program_counts_however_it_is_spelled(tmp_path: Path, command: list[str]) -> None:
    """Scores of another program are other scores."""
    scorer = {"type": "command", "command": command}
    world = World.make(tmp_path / "p", config={"skills": {"triage": {"scorer": scorer}}})
    seen = []
    for text in ("print(1)\n", "print(0)\n"):
        world.write("score.py", text)
        world.commit("scorer")
        space = workspace.open_at_base(repository.open_project(world.path), skill=None, override={})
        seen.append((space.setting().scorer_digest, space.binding(head="0" * 64).model))
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]
