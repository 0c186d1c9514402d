"""``ratchet init --github``: what is written, kept and said; what happens when it ends early."""

from __future__ import annotations

import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.project import scaffold, workflows
from skill_ratchet.project.config import load
from world import World

ROOT = Path(__file__).parents[2]
ACTION = f"octo/ratchet@{'0123456789' * 4}"
NEWER = f"octo/ratchet@{'9876543210' * 4}"
FILES = workflows.PATHS
FORM = FILES[-1]  # the only one that names no action


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "p")


def written(world: World, *args: str) -> dict[str, list[str] | str | None]:
    """What ``init --github --json`` says of the workflow files."""
    shown = world.ratchet("init", "--github", "--json", *args)
    assert shown.code == ExitCode.DONE, shown.err
    assert set(shown.json) == {"workflows"}
    found = shown.json["workflows"]
    assert found.pop("settings") == list(scaffold.SETTINGS)
    return {key: value for key, value in found.items() if value}


def test_a_project_gets_its_workflows(world: World) -> None:
    """Those and nothing else, in a commit of their own."""
    start = world.tip("HEAD")
    world.write("README.md", "mine\n")

    said = written(world, "--action", ACTION)

    assert said == {"written": sorted(FILES), "commit": world.tip("HEAD")}
    assert world.git("log", "--format=%s", f"{start}..") == "Run ratchet on GitHub"
    assert world.git("diff", "--name-only", start, "HEAD").split() == sorted(FILES)
    assert world.status() == " M README.md"
    config = load(world.show("ratchet.yml", "HEAD"))
    for path, content in workflows.render(config, action=ACTION, prefix="").items():
        assert (world.path / path).read_bytes() == content


def test_twice_is_once(world: World) -> None:
    written(world, "--action", ACTION)
    tip = world.tip("HEAD")
    assert written(world, "--action", ACTION) == {"same": sorted(FILES)}
    assert (world.tip("HEAD"), world.status()) == (tip, "")


def test_a_file_that_differs_is_kept_and_said(world: World) -> None:
    """Whoever wants the new one says so."""
    written(world, "--action", ACTION)
    world.write(FILES[0], "mine\n")
    world.commit("mine")

    shown = world.ratchet("init", "--github", "--action", ACTION)

    assert f"kept  {FILES[0]}, which is DIFFERENT; to replace it: --force" in shown.out
    assert f"kept  {FILES[1]} (it is as it would be written)" in shown.out
    assert (world.path / FILES[0]).read_text() == "mine\n"
    assert written(world, "--action", ACTION, "--force") == {
        "same": sorted(FILES[1:]),
        "replaced": [FILES[0]],
        "commit": world.tip("HEAD"),
    }
    assert ACTION in (world.path / FILES[0]).read_text()
    assert world.status() == ""


def test_a_newer_action_is_seen_in_every_file(world: World) -> None:
    written(world, "--action", ACTION)
    others = sorted(set(FILES) - {FORM})
    assert written(world, "--action", NEWER) == {"different": others, "same": [FORM]}
    assert written(world, "--action", NEWER, "--force")["replaced"] == others
    assert ACTION not in "".join((world.path / path).read_text() for path in FILES)


def test_shards_stay_as_many_until_somebody_says_otherwise(world: World) -> None:
    """The workflow itself says how many; a newer action changes nothing about it."""
    written(world, "--action", ACTION, "--shards", "4")
    text = (world.path / FILES[0]).read_text()
    assert "shard: [1, 2, 3, 4]\n" in text
    assert written(world, "--action", ACTION) == {"same": sorted(FILES)}
    assert FILES[0] in (written(world, "--action", NEWER, "--force")["replaced"] or ())
    assert (world.path / FILES[0]).read_text() == text.replace(ACTION, NEWER)

    fewer = ("--action", NEWER, "--shards", "1")
    assert written(world, *fewer)["different"] == [FILES[0]]
    written(world, *fewer, "--force")
    alone = workflows.render(load(world.show("ratchet.yml", "HEAD")), action=NEWER, prefix="")
    assert (world.path / FILES[0]).read_bytes() == alone[FILES[0]]


def test_a_person_is_told_what_is_left_to_do(world: World) -> None:
    shown = world.ratchet("init", "--github", "--action", ACTION)
    assert shown.code == ExitCode.DONE
    assert "Next: git push" in shown.out
    joined = " ".join(shown.out.split())
    for setting in scaffold.SETTINGS:
        assert " ".join(setting.split()) in joined


def test_the_commit_can_be_left_to_a_person(world: World) -> None:
    tip = world.tip("HEAD")
    shown = world.ratchet("init", "--github", "--action", ACTION, "--no-commit")
    assert world.tip("HEAD") == tip
    assert "git commit" in shown.out
    # The next call makes it.
    said = written(world, "--action", ACTION)
    assert said == {"same": sorted(FILES), "commit": world.tip("HEAD")}


def test_where_there_is_no_project_it_makes_one(tmp_path: Path) -> None:
    """Both at once, and then a run closes a loop."""
    world = World(tmp_path / "p")
    world.path.mkdir()
    shown = world.ratchet("init", "--github", "--action", ACTION, "--json")
    assert shown.code == ExitCode.DONE, shown.err
    assert "ratchet.yml" in shown.json["files"]
    assert shown.json["workflows"]["written"] == sorted(FILES)
    assert shown.json["made_repository"]
    assert world.git("log", "--format=%s").splitlines() == [
        "Run ratchet on GitHub",
        scaffold.MESSAGE,
    ]
    assert world.run().verdicts == [("merge", "improved")]
    assert world.status() == ""


def test_a_project_in_a_folder_is_found_there(tmp_path: Path) -> None:
    """GitHub reads workflows at the top of the repository alone."""
    world = World.make(tmp_path / "p", prefix="tools/bot/")
    shown = world.ratchet("init", "-C", str(world.path / "tools/bot/skills"), "--github",
                          "--action", ACTION, "--json")  # fmt: skip
    assert shown.json["workflows"]["written"] == sorted(FILES)
    assert world.status() == ""
    text = (world.path / FILES[0]).read_text()
    assert text.count("directory: 'tools/bot'\n") == 4
    assert "!/tools/bot/fixtures/*/holdout/\n" in text


@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        ({"provider": "local"}, True),
        ({"provider": "scripted", "meta": {"provider": "local"}}, True),
        ({"provider": "scripted"}, False),
    ],
)
def test_the_embedded_model_is_installed_where_it_is_used(
    world: World, settings: dict[str, object], *, extra: bool
) -> None:
    """In the jobs that ask a model; the others are quicker without it."""
    world.configure(**settings)
    written(world, "--action", ACTION)
    counts = [(world.path / path).read_text().count("extras: local\n") for path in FILES]
    assert counts == ([2, 1, 1, 0, 0, 0, 0] if extra else [0] * 7)
    assert "extras:" not in (world.path / FILES[3]).read_text()


@pytest.mark.parametrize(
    "args",
    [
        ["--github"],
        ["--github", "--action", "octo/ratchet@v1"],
        ["--action", ACTION],
        ["--force"],
        ["--shards", "4"],
    ],
    ids=" ".join,
)
def test_what_is_refused_writes_nothing(tmp_path: Path, args: list[str]) -> None:
    world = World(tmp_path / "p")
    world.path.mkdir()
    shown = world.ratchet("init", *args)
    assert shown.code in {ExitCode.ERROR, ExitCode.USAGE}
    assert "--action" in shown.err
    assert list(world.path.iterdir()) == []


def test_a_broken_config_writes_nothing(world: World) -> None:
    world.write("ratchet.yml", "skills: 5\n")
    shown = world.ratchet("init", "--github", "--action", ACTION)
    assert shown.code == ExitCode.ERROR
    assert "ratchet.yml:1" in shown.err
    assert not (world.path / ".github").exists()


def test_ratchet_s_own_repository_needs_no_action(tmp_path: Path) -> None:
    """It has one, at its top."""
    world = World.make(tmp_path / "p")
    for path in ("action.yml", "bot/skill_ratchet/__main__.py"):
        world.write(path, (ROOT / path).read_text())
    world.commit("be Ratchet")
    written(world)
    assert "uses: ./ #" in (world.path / FILES[0]).read_text()


def test_a_folder_where_a_file_should_be_is_kept(world: World) -> None:
    (world.path / FILES[1]).mkdir(parents=True)
    (world.path / FILES[2]).symlink_to("nowhere")
    said = written(world, "--action", ACTION)
    assert said["different"] == sorted(FILES[1:3])
    assert (world.path / FILES[2]).is_symlink()
    assert said["written"] == sorted([FILES[0], *FILES[3:]])


# Ended early ----------------------------------------------------------------------------------

_DIE = """
import os, signal, sys
from skill_ratchet.cli import error_handler as edge
from skill_ratchet.cli.main import cli
left, name = int(sys.argv.pop(1)), sys.argv.pop(1)
from skill_ratchet.project import scaffold
real = {"write": scaffold._write, "commit": scaffold._commit}[name]
def counted(*args, **kwargs):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
setattr(scaffold, f"_{name}", counted)
sys.exit(edge.run(cli, sys.argv[1:]))
"""


def die(world: World, step: str, number: int, *args: str) -> None:
    """Run ``init`` up to just before a step."""
    line = [sys.executable, "-c", _DIE, str(number), step, "init", "-C", str(world.path), *args]
    done = subprocess.run(line, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("step", "number"), [("write", 1), ("write", 2), ("write", 8), ("commit", 1)]
)
def test_init_goes_on_where_it_ended(tmp_path: Path, step: str, number: int) -> None:
    """Killed at any moment, the same command again does the rest, up to the commit."""
    world = World(tmp_path / "p")
    world.path.mkdir()
    die(world, step, number)
    assert (world.path / "ratchet.yml").exists() is (step == "commit")

    again = world.ratchet("init", "--json")

    assert again.code == ExitCode.DONE, again.err
    files = sorted(scaffold._template())
    assert sorted(again.json["files"] + again.json["kept"]) == files
    assert world.git("show", "--name-only", "--format=", "HEAD").split() == files
    assert world.status() == ""
    assert world.ratchet("init").code == ExitCode.ERROR  # now it is done


@pytest.mark.parametrize(("step", "number"), [("write", 1), ("write", 3), ("commit", 1)])
def test_init_github_goes_on_where_it_ended(world: World, step: str, number: int) -> None:
    die(world, step, number, "--github", "--action", ACTION)
    written(world, "--action", ACTION)
    assert world.git("show", "--name-only", "--format=", "HEAD").split() == sorted(FILES)
    assert world.status() == ""


def test_a_config_of_a_person_s_own_is_no_beginning(tmp_path: Path) -> None:
    """Not even when it is not committed yet."""
    world = World(tmp_path / "p")
    world.path.mkdir()
    world.write("ratchet.yml", "skills: {a: {}}\n")
    shown = world.ratchet("init")
    assert shown.code == ExitCode.ERROR
    assert sorted(path.name for path in world.path.iterdir()) == ["ratchet.yml"]


def test_the_templates_are_in_the_wheel(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {path.rpartition("/")[2] for path in workflows.PATHS}
    assert {f"skill_ratchet/templates/github/{name}" for name in packaged} <= set(names)


def test_the_form_has_the_skills_to_choose_from(world: World) -> None:
    """One that comes later makes it different, which the next call says."""
    written(world, "--action", ACTION)
    assert '- "triage"' in (world.path / FORM).read_text()
    skills = {"triage": {"scorer": "label"}, "other": {"scorer": "label"}}
    world.configure(skills=skills)
    assert written(world, "--action", ACTION)["different"] == [FORM]
