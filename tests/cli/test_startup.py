"""What commands that look back do not import (in sys.modules, not by a clock), and ``status``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from world import SEALED, SKILL, SKILL_TEXT, World

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each takes a tenth of a second or more, or belongs to something that runs, asks or publishes.
NEVER = {
    "anthropic",
    "anyio",
    "asyncio",
    "email",
    "genai_prices",
    "github",
    "html",
    "httpx2",
    "importlib.metadata",
    "jinja2",
    "openvino_genai",
    "rapidfuzz",
    "regex",
    "rich.console",
    "skill_ratchet.agents",
    "skill_ratchet.ledger.badge",
    "skill_ratchet.experiment.loop",
    "skill_ratchet.providers",
    "skill_ratchet.experiment.jobs",
    "skill_ratchet.experiment.scorers",
    "skill_ratchet.project.workspace",
}
IMPROVES = {"gate": {"rule": "improves"}}
BUDGET = {"budget": {"month_usd": 3}}
SEALING = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
PROBE = """
import json, sys
from skill_ratchet.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def modules_of(*args: str, folder: Path) -> set[str]:
    """What is imported once a command is done."""
    root = str(Path(__file__).parents[2] / "bot")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A project in which one edit was merged."""
    with pytest.MonkeyPatch.context() as patch:  # the seal of a test does not reach this far
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for name in SEALING:
            patch.setenv(f"GIT_{name}", "dev@example.com")
        made = World.make(tmp_path_factory.mktemp("startup") / "p", config=IMPROVES)
        assert made.run().verdicts == [("merge", "improved")]
    return made


@pytest.mark.parametrize(
    ("args", "more"),
    [
        (("--help",), {"git", "pydantic", "rich", "yaml"}),
        (("run", "--help"), {"git", "pydantic", "rich", "yaml"}),
        (("status",), {"rich"}),
        (("log",), set()),
        (("show", "1"), set()),
        (("compare", "--by", "level"), set()),
    ],
    ids=["help", "help of a command", "status", "log", "show", "compare"],
)
def test_looking_back_imports_nothing_that_runs(
    args: Sequence[str], more: set[str], world: World
) -> None:
    """A person who asks what there is does not wait for what is needed to make more of it."""
    assert not modules_of(*args, folder=world.path) & (NEVER | more)


@pytest.mark.parametrize(
    ("args", "most"),
    [
        (("--help",), []),
        (("log",), ["cat-file", "rev-parse", "version"]),
        (("show", "1"), ["cat-file", "rev-parse", "version"]),
        (("status",), ["cat-file", "for-each-ref", "rev-parse", "version"]),
        (("check",), ["cat-file", "ls-files", "ls-files", "rev-parse", "rev-parse", "version"]),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_looking_back_asks_git_a_few_times(
    args: Sequence[str], most: Sequence[str], world: World, tmp_path: Path
) -> None:
    """Each is a process; one of them reads whatever there is of commits and of the ledger."""
    assert processes_of(*args, folder=world.path, at=tmp_path) == [*most]


def test_an_evaluation_draws_nothing_that_moves_where_there_is_no_terminal(
    world: World, tmp_path: Path
) -> None:
    """Nor does it import what proposes edits, or the SDK."""
    copy = World(Path(shutil.copytree(world.path, tmp_path / "p", symlinks=True)))
    found = modules_of("eval", folder=copy.path)
    assert "skill_ratchet.experiment.evaluation" in found
    never = {"anthropic", "email", "git", "github", "jinja2", "rich.console", "rich.progress"}
    assert not found & (never | {"skill_ratchet.experiment.loop"})


def test_a_run_asks_git_as_often_however_much_there_is(world: World, tmp_path: Path) -> None:
    """With nothing to try; what is left is where the checkout and the proposal's branch are."""
    copy = World(Path(shutil.copytree(world.path, tmp_path / "p", symlinks=True)))
    asked = processes_of("run", "--attempts", "0", folder=copy.path, at=tmp_path)
    assert asked.count("cat-file") == asked.count("version") == 1
    assert len(asked) < 20


def processes_of(*args: str, folder: Path, at: Path) -> list[str]:
    """The git commands that a command runs, sorted."""
    git = at / "bin" / "git"
    git.parent.mkdir()
    git.write_text(
        f'#!/bin/sh\necho "$@" >> "{at}/asked"\nexec "{shutil.which("git")}" "$@"\n',
        encoding="utf-8",
    )
    git.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", "from skill_ratchet.__main__ import main; main()", *args],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2] / "bot"),
            "PATH": f"{git.parent}:{os.environ['PATH']}",
        },
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr.count("error") == 0
    asked = at / "asked"
    lines = asked.read_text(encoding="utf-8").splitlines() if asked.exists() else []
    return sorted(_command(line.split(" ")) for line in lines)


def _command(words: list[str]) -> str:
    """What is after git's own options."""
    while words[0].startswith("-"):
        words = words[2:] if words[0] == "-c" else words[1:]
    return words[0]


# ratchet status -------------------------------------------------------------------------------


def lines(world: World, *args: str) -> list[str]:
    """What the command prints."""
    ran = world.ratchet("status", *args)
    assert (ran.code, ran.err) == (0, "")
    return ran.out.splitlines()


def test_before_anything_was_run(tmp_path: Path) -> None:
    assert lines(World.make(tmp_path / "p")) == [
        "triage: not scored yet as it is: ratchet eval",
        "  experiments so far: 0",
        "  last run: none yet",
    ]


def test_after_a_run(world: World) -> None:
    """A text that was merged has the score of its whole sweep, also one it won with."""
    assert world.ratchet("eval").code == 0
    score, experiments, last = lines(world)
    assert score == "triage: 100% on 3 train cases, with scripted"
    assert experiments == "  experiments so far: 1"
    assert last.startswith("  last run: eval of 2")
    assert last.endswith(" UTC, done, 0 calls, $0.00")


def test_an_edited_skill_has_no_score(tmp_path: Path) -> None:
    """What was measured of another text says nothing of this one."""
    world = World.make(tmp_path / "p")
    assert world.ratchet("eval").code == 0
    assert lines(world)[0].startswith("triage: 0% on 3 train cases")
    world.write(SKILL, SKILL_TEXT + "More.\n")
    assert lines(world)[0].startswith("triage: not scored yet")


def test_what_waits_is_shown(tmp_path: Path) -> None:
    """An open proposal, an experiment that is not finished, the stop file, the budget."""
    world = World.make(
        tmp_path / "p", config={"gate": {"rule": "improves", "merge": "manual"}, **BUDGET}
    )
    assert world.run().verdicts == [("hold", "awaits_person")]
    world.write(".ratchet-hold", "")
    shown = lines(world)
    assert "  open proposal: branch ratchet/triage" in shown
    assert "Budget: $3.00 of $3.00 are left this month." in shown
    assert shown[-1] == "On hold: the file .ratchet-hold stops every run."


def test_an_experiment_that_is_not_finished_is_shown(world: World, tmp_path: Path) -> None:
    copy = World(Path(shutil.copytree(world.path, tmp_path / "p", symlinks=True)))
    ledger = copy.ledger()
    known = copy.only()
    begun = known.with_(id="f" * 64, number=2)
    ledger.add_experiment(begun, parent_text="a", candidate_text="b")
    ledger.flush("begun")
    assert "  experiment 2 is not finished: 'ratchet run' continues it" in " ".join(lines(copy))


def test_several_skills_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    two = {"triage": {"scorer": "label"}, "other": {"scorer": "label"}}
    world.configure(skills=two)
    shown = lines(world)
    assert shown[0].startswith("other: ")
    assert "skills/other/SKILL.md" in shown[0]
    assert shown[1].startswith("triage: not scored")
    assert lines(world, "triage")[0].startswith("triage: not scored")
    assert world.ratchet("status", "third").code == 1


def test_as_json(world: World) -> None:
    document = world.ratchet("status", "--json").json
    assert set(document) == {"held", "left_usd", "month_usd", "skills"}
    [skill] = document["skills"]
    assert (skill["skill"], skill["experiments"], skill["proposal"]) == ("triage", 1, None)
    assert skill["last"]["ended"] == "done"


def test_nothing_held_out_is_read_or_shown(world: World) -> None:
    """The score is that of train; the holdout's branch is not opened for it."""
    assert SEALED not in world.ratchet("status", "--json").out
