"""What programs find of a project, and that all of it is in the digest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skill_ratchet.base import enclosure
from skill_ratchet.base.enclosure import DiskView, Mount
from skill_ratchet.project import config, programs, repository, workspace
from world import SKILL, SKILL_TEXT, World, case

HARNESS = {"type": "command", "command": [sys.executable, "-m", "tools.harness"]}
FILES = {
    "tools/__init__.py": "",
    "tools/harness.py": "from tools import rules\n",
    "tools/rules.py": "WORD = 'yes'\n",
    "Makefile": "answer:\n\techo yes\n",
}
CHANGES = {
    "what a module imports": "tools/rules.py",
    "a Makefile": "Makefile",
    "a new file": "tools/more.txt",
    "what an agent reads by itself": "CLAUDE.md",
    "a file beside the skill": "skills/triage/scripts/label.py",
}
UNSEEN = {
    "the skill": (SKILL, SKILL_TEXT + "Be brief.\n"),
    "a train case": ("fixtures/triage/train/t9.yml", case("t9", "train")),
    "a held-out case": ("fixtures/triage/holdout/h9.yml", case("h9", "holdout")),
    "a case of the vault": ("fixtures/triage/vault/v9.yml", case("v9", "vault")),
    "a workflow": (".github/workflows/ratchet.yml", "on: push\n"),
    "the meta-agent's instructions": ("improve.md", "Improve it.\n"),
}


def project(path: Path, **settings: Any) -> World:
    world = World.make(path, config={"provider": HARNESS, **settings})
    for name, text in FILES.items():
        world.write(name, text)
    world.commit("a harness")
    return world


def model(world: World, *, on_disk: bool = False) -> str:
    """The digest that runs are kept under."""
    opened = repository.open_project(world.path)
    if on_disk:
        space = workspace.open_anywhere(opened, skill=None, ref=None, override={}, require=())
    else:
        space = workspace.open_at_base(opened, skill=None, override={})
    return space.how.digest


@pytest.mark.parametrize("path", CHANGES.values(), ids=CHANGES)
def test_whatever_a_program_finds_counts(tmp_path: Path, path: str) -> None:
    """A command that names no file, as ``-m``, a folder or ``make``, was in no digest."""
    world = project(tmp_path / "p")
    before = model(world)
    world.write(path, "something else\n")
    assert model(world, on_disk=True) != before
    world.commit("changed")
    assert model(world) == model(world, on_disk=True) != before


def test_what_a_program_does_not_find_does_not_count(tmp_path: Path) -> None:
    """The text under test least of all: the judge of two texts is the same."""
    world = project(
        tmp_path / "p", meta={"provider": "scripted", "turns": 1, "instructions": "improve.md"}
    )
    world.write("improve.md", "Improve.\n")
    world.commit("instructions")
    before = model(world)
    for path, text in UNSEEN.values():
        world.write(path, text)
    world.commit("changed")
    world.configure(budget={"calls": 7})
    assert model(world) == before
    tree = repository.CommitTree(repository.open_project(world.path), "main")
    found = programs.visible(tree, config.load_config(tree))
    assert sorted(found) == sorted([*FILES, "README.md", "ratchet.script.yml"])


def test_a_project_may_show_less(tmp_path: Path) -> None:
    """So that what else changes there makes no run anew; and never the cases."""
    world = project(tmp_path / "p", visible=["tools", "fixtures"])
    before = model(world)
    world.write("README.md", "other\n")
    world.commit("read me")
    assert model(world) == before
    world.write("tools/rules.py", "WORD = 'no'\n")
    world.commit("tools")
    assert model(world) != before
    tree = repository.CommitTree(repository.open_project(world.path), "main")
    found = programs.visible(tree, config.load_config(tree))
    assert sorted(found) == [name for name in sorted(FILES) if name.startswith("tools/")]


def test_who_proposes_does_not_change_what_is_measured(tmp_path: Path) -> None:
    """A change of the meta-agent's program leaves the task's runs what they are."""
    meta = {"provider": HARNESS, "turns": 1}
    world = World.make(tmp_path / "p", config={"meta": meta})
    before = model(world)
    world.write("tools/harness.py", "print('other')\n")
    world.commit("another proposer")
    assert model(world) == before


def test_links_and_what_git_ignores_are_not_exported(tmp_path: Path) -> None:
    world = project(tmp_path / "p")
    (world.path / "answers").symlink_to("fixtures/triage/holdout")
    world.write(".gitignore", "secret\n")
    world.write("secret", "x")
    opened = repository.open_project(world.path)
    for tree in (repository.WorkTree(opened), repository.CommitTree(opened, "main")):
        with programs.exported(opened, tree, config.load_config(tree)) as place:
            names = {str(one.relative_to(place.folder)) for one in place.folder.rglob("*")}
        assert not names & {"answers", "secret", "fixtures", ".git", SKILL}
        assert "tools/rules.py" in names


def test_every_place_of_the_repository_is_hidden(tmp_path: Path) -> None:
    """Worktrees, git's folder, what objects are borrowed from, and a remote on this disk."""
    origin = project(tmp_path / "origin")
    here = tmp_path / "here"
    subprocess.run(["git", "clone", "-q", "--shared", str(origin.path), str(here)], check=True)
    clone = World(here)
    clone.git("worktree", "add", "-q", str(tmp_path / "other"), "-b", "other")
    clone.git("remote", "add", "far", "https://example.com/x.git")
    clone.git("remote", "set-url", "origin", f"file://{tmp_path / 'bare'}")
    (tmp_path / "bare").mkdir()
    opened = repository.open_project(tmp_path / "other")
    assert set(programs.hidden(opened)) == {
        tmp_path / "other",
        here,
        here / ".git",
        here / ".git/worktrees/other",
        origin.path,
        tmp_path / "bare",
    }


def laid(view: DiskView, cwd: Path, **env: str) -> dict[str, tuple[str | None, bool]]:
    """What is mounted where."""
    return {
        str(one.path): (None if one.source is None else str(one.source), one.writable)
        for one in enclosure.mounts(view, cwd=cwd, env=env)
    }


def test_an_environment_on_the_path_is_shown_but_not_the_repository(tmp_path: Path) -> None:
    """As when it was activated; a folder of the repository's own programs is in the export."""
    repo, export, call = tmp_path / "repo", tmp_path / "export", tmp_path / "call"
    for folder in (repo / ".venv/bin", repo / "fixtures", repo / "tools", export, call):
        folder.mkdir(parents=True)
    (repo / ".venv/pyvenv.cfg").write_text("")
    view = DiskView(hidden=(repo,), shown=(Mount(repo, export), Mount(call, call)))
    path = f"{repo}/.venv/bin:{repo}/tools:{repo}:{repo}/fixtures:{tmp_path}:/usr/bin"
    found = laid(view, repo, PATH=path)
    below = {one: said for one, said in found.items() if one.startswith(str(tmp_path))}
    assert below == {
        str(repo): (str(export), True),
        f"{repo}/.venv": (f"{repo}/.venv", False),
        str(call): (str(call), True),
    }
    assert found["/run"] == (None, True)
    assert list(found) == sorted(found, key=lambda one: Path(one).parts)


def test_a_home_that_is_the_repository_is_hidden_with_it(tmp_path: Path) -> None:
    """Its files are the repository's."""
    (tmp_path / "home/fixtures").mkdir(parents=True)
    (tmp_path / "export").mkdir()
    home = enclosure.home(tmp_path / "made", {"HOME": str(tmp_path / "home")})
    view = DiskView(
        hidden=(tmp_path / "home",),
        shown=(Mount(tmp_path / "home", tmp_path / "export"),),
        home=home,
    )
    found = laid(view, tmp_path / "home")
    assert [one for one in found if one.startswith(str(tmp_path))] == [str(tmp_path / "home")]


def test_a_repository_in_the_home_is_hidden(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "src/repo/.git").mkdir(parents=True)
    made = enclosure.home(tmp_path / "made", {"HOME": str(home)})
    view = DiskView(hidden=(home / "src/repo",), home=made)
    found = laid(view, Path("/usr"))
    assert found[str(home / "src")] == (str(home / "src"), False)
    assert found[str(home / "src/repo")] == (None, True)


def test_the_whole_disk_cannot_be_hidden() -> None:
    with pytest.raises(OSError, match="the whole disk"):
        laid(DiskView(hidden=(Path("/"),)), Path("/usr"))


def test_a_program_does_not_start_in_a_hidden_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is hidden"):
        laid(DiskView(hidden=(tmp_path,)), tmp_path)


def test_a_commit_with_an_odd_name_is_told_apart(tmp_path: Path) -> None:
    """Fixtures are left out on a disk that folds case, too."""
    world = project(tmp_path / "p")
    world.write("Fixtures/Triage/Holdout/h1.yml", json.dumps({"input": "x"}))
    world.commit("twins")
    tree = repository.CommitTree(repository.open_project(world.path), "main")
    found = programs.visible(tree, config.load_config(tree))
    assert not [name for name in found if "ixtures" in name]
