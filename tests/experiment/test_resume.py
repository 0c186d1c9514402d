"""A command that is killed at any moment, and then given again."""

from __future__ import annotations

import json
import os
import signal
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from kills import the_mortuary, with_few
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.cli.progress import Reporter
from world import (
    BOTH,
    META,
    SKILL,
    SKILL_TEXT,
    Mortuary,
    World,
    calls_file,
    idea,
    outcome,
    script,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from world import Ran

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
OWN = 1 + 3 + 2 * 2  # calls of the experiment: proposer, candidate on train, both on the holdout
CALLS = 3 + OWN  # the old skill on train comes before; on the new one it is known by then
RUN = ("run", "--json", "--attempts", "2")
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def mortuary(tmp_path_factory: pytest.TempPathFactory) -> Mortuary:
    """Where commands die."""
    return the_mortuary(tmp_path_factory.getbasetemp())


def make(tmp_path: Path, **options: Any) -> World:
    """A project in which somebody is at work, on anything but the skill."""
    world = World.make(tmp_path / "p", **options)
    world.write("README.md", "staged\n")
    world.git("add", "README.md")
    world.write("README.md", "staged, and edited again\n")
    world.write("notes/untracked.txt", "mine\n")
    return world


def assert_untouched(world: World) -> None:
    """What the user had at hand is as it was, and every object and ref is sound."""
    assert world.status() == "MM README.md\n?? notes/untracked.txt"
    assert world.git("show", ":README.md") == "staged"
    assert (world.path / "README.md").read_text() == "staged, and edited again\n"
    assert (world.path / "notes/untracked.txt").read_text() == "mine\n"
    world.assert_sound()


def calls_of(world: World, *runs: Ran) -> int:
    """Model calls that came back: in commands that died, and in those that reported theirs."""
    made = calls_file(world)
    died = len(made.read_text().splitlines()) if made.exists() else 0
    return died + sum(int(run.json["calls"]) for run in runs)


def assert_merged_once(world: World, start: str) -> None:
    """One experiment, one look at the holdout, one commit, and nothing left to do."""
    ledger = world.ledger()
    experiment = world.only()
    result = ledger.results()[experiment.id]
    assert (result.action, result.reason, result.calls) == ("merge", "improved", OWN)
    assert (result.train.incumbent, result.train.candidate, result.train.pairs) == (0, 1, 3)
    assert [(look.attempt, bool(look.evidence)) for look in ledger.confirmations()] == [(1, True)]
    assert [row["state"] for row in world.ratchet("log", "--json").json] == ["merged"]
    assert world.skill() == EDITED
    assert (world.path / SKILL).read_text() == EDITED
    assert world.git("rev-list", "--count", f"{start}..main") == "1"
    assert ledger.landings()[experiment.id].commit == world.tip("main")
    runs = [*ledger.traces(), *ledger.traces(split="holdout")]
    assert len({trace.key.digest for trace in runs if trace.key}) == len(runs) == CALLS


def assert_at_rest(world: World) -> None:
    """A further run finds nothing to do, and every record is in git."""
    again = world.ratchet(*RUN)
    assert (again.code, again.json["experiments"], again.json["calls"]) == (ExitCode.DONE, [], 0)
    assert not list((world.path / ".git/ratchet").rglob("*.jsonl"))
    assert_untouched(world)


# The moment of death, and calls that came back but were not on record yet: only those are lost.
DEATHS = {
    "before call": 0,
    "after call #2": 1,
    "half of put trace #2": 1,
    "after put trace #2": 0,
    "before commit ledger": 0,
    "after commit ledger": 0,
    "before put proposal": 1,
    "after put proposal": 0,
    "after put candidate.txt": 0,
    "half of put experiment.json": 0,
    "after put trace #5": 0,
    "after put confirm.json": 0,
    "after put trace #9": 0,
    "after put confirm.json #2": 0,
    "before git update-ref": 0,
    "before git merge": 0,
    "after git merge": 0,
    "half of put result.json": 0,
    "after commit holdout": 0,
    "before commit ledger #2": 0,
    "after commit ledger #2": 0,
}


FEW = (
    *("half of put trace #2", "before put proposal", "after put trace #9"),
    *("before git merge", "after commit holdout"),
)


@pytest.mark.parametrize(
    ("death", "lost"), with_few([(row[0], row) for row in DEATHS.items()], *FEW)
)
def test_a_killed_run_is_gone_on_with(
    tmp_path: Path, mortuary: Mortuary, death: str, lost: int
) -> None:
    """The same command again: no call on record is made again, nothing happens twice."""
    world = make(tmp_path)
    start = world.tip("main")

    assert mortuary.run(world, *RUN, at=death).code == KILLED
    assert_untouched(world)
    again = world.ratchet(*RUN)

    assert again.code == ExitCode.DONE, again.err
    assert calls_of(world, again) == CALLS + lost
    assert_merged_once(world, start)
    assert_at_rest(world)


# Other ends of an experiment ------------------------------------------------------------------

BAD_EDIT = [{"op": "add", "after": "No such line", "lines": "x"}]
RUBRIC = {"triage": {"scorer": {"type": "rubric", "rubric": "Says yes."}}}
JUDGE: list[dict[str, Any]] = [
    {
        "when": {
            "system_contains": "You judge one answer",
            "input_matches": rf"(?m)^answer \w+\n{word}$",
        },
        "text": json.dumps({"reason": f"says {word}", "score": score}),
    }
    for word, score in (("yes", 10), ("no", 0))
]
AGAIN = {  # what the meta-agent answers when it is told that its edit does not apply
    "when": {"system_contains": META, "input_contains": "cannot be tried"},
    "text": idea(1, "Rule alpha."),
}
ENDS: dict[str, dict[str, Any]] = {
    "screen fails": {"model": script(right={})},
    "not confirmed": {"model": script(right={"alpha": BOTH[:3]})},
    "cannot be applied": {"model": script([idea(1, BAD_EDIT)])},
    "proposes nothing": {"model": script(["I would rather not say."])},
    "awaits a person": {"config": {"gate": {"merge": "manual"}}},
    "takes two turns": {
        "model": script([idea(1, BAD_EDIT)], first=[AGAIN]),
        "config": {"meta": {"turns": 3}},
    },
    "is judged": {"model": script(first=JUDGE), "config": {"skills": RUBRIC}},
}
ENDINGS = [
    ("screen fails", "after put trace #5"),
    ("screen fails", "before put result.json"),
    ("not confirmed", "after put trace #9"),
    ("not confirmed", "before put result.json"),
    ("cannot be applied", "after put proposal"),
    ("cannot be applied", "after put result.json"),
    ("proposes nothing", "before put experiment.json"),
    ("awaits a person", "after publish"),
    ("awaits a person", "after put result.json"),
    ("takes two turns", "after put proposal"),
    ("takes two turns", "after put proposal #2"),
    ("takes two turns", "after put trace #9"),
    ("is judged", "after put trace #5"),
    ("is judged", "after publish"),
]


FEW_ENDINGS = (
    "not confirmed, before put result.json",
    "cannot be applied, after put result.json",
    "awaits a person, after put result.json",
    "takes two turns, after put trace #9",
)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[int, dict[str, Any]]]:
    """Calls and outcome of a run that nothing happens to."""

    @cache
    def run(end: str) -> tuple[int, dict[str, Any]]:
        world = World.make(tmp_path_factory.mktemp("undisturbed") / "p", **ENDS[end])
        return world.ratchet(*RUN).json["calls"], outcome(world)

    return run


@pytest.mark.parametrize(
    ("end", "death"), with_few([(", ".join(row), row) for row in ENDINGS], *FEW_ENDINGS)
)
def test_a_killed_run_comes_to_what_it_would_have_come_to(
    tmp_path: Path,
    mortuary: Mortuary,
    undisturbed: Callable[[str], tuple[int, dict[str, Any]]],
    end: str,
    death: str,
) -> None:
    """Whatever becomes of an experiment, the ledger says the same as if nothing had happened."""
    world = make(tmp_path, **ENDS[end])
    calls, whole = undisturbed(end)

    assert mortuary.run(world, *RUN, at=death).code == KILLED
    again = world.ratchet(*RUN)

    assert again.code == ExitCode.DONE, again.err
    assert calls_of(world, again) == calls
    assert outcome(world) == whole
    assert_untouched(world)


def test_a_run_that_dies_again_and_again_gets_there(tmp_path: Path, mortuary: Mortuary) -> None:
    """Each process lives for two more records of a case; together they make each call once."""
    world = make(tmp_path)
    start = world.tip("main")

    deaths = 0
    while mortuary.run(world, *RUN, at="after put trace #2").code == KILLED:
        deaths += 1
        assert deaths < CALLS

    assert deaths == (CALLS - 1) // 2  # the proposer's is no trace of a case
    assert calls_of(world) == CALLS
    assert_merged_once(world, start)
    assert_at_rest(world)


# git dies too ---------------------------------------------------------------------------------


def proposed(world: World) -> str:
    """The skill on the proposal's branch."""
    return world.show(SKILL, "ratchet/triage")


def test_git_killed_with_it_leaves_a_lock_that_is_named(tmp_path: Path, mortuary: Mortuary) -> None:
    """As a machine that runs out of memory does; nothing was moved, and nothing is paid again."""
    world = make(tmp_path)
    start = world.tip("main")
    # git runs this as it writes the merged file, with its index locked.
    world.git("config", "filter.die.smudge", 'kill -9 "$VICTIM" "$PPID"; cat')
    world.write(".git/info/attributes", f"{SKILL} filter=die\n")

    assert mortuary.run(world, *RUN).code == KILLED
    world.git("config", "--unset", "filter.die.smudge")
    lock = world.path / ".git/index.lock"
    assert lock.exists()
    refused = world.ratchet("run")
    assert refused.code == ExitCode.ERROR
    assert str(lock) in refused.err
    assert world.skill() == SKILL_TEXT
    lock.unlink()
    world.git("checkout", "--", SKILL)
    again = world.ratchet(*RUN)

    assert again.code == ExitCode.DONE, again.err
    assert calls_of(world, again) == CALLS
    assert_merged_once(world, start)
    assert_at_rest(world)


@pytest.mark.parametrize("staged", [False, True], ids=["file written", "index written"])
def test_a_merge_that_died_with_the_file_written_is_finished(
    tmp_path: Path, mortuary: Mortuary, *, staged: bool
) -> None:
    """The file is the very proposal, so it is not taken for somebody's unsaved edit."""
    world = make(tmp_path)
    start = world.tip("main")
    assert mortuary.run(world, *RUN, at="before git merge").code == KILLED
    world.write(SKILL, proposed(world))
    if staged:
        world.git("add", SKILL)

    again = world.ratchet(*RUN)

    assert again.code == ExitCode.DONE, again.err
    assert calls_of(world, again) == CALLS
    assert_merged_once(world, start)
    assert_at_rest(world)


UNSAVED = {
    "half of the file": lambda text: text[: len(text) // 2],
    "more than the proposal": lambda text: f"{text}And mine.\n",
}


@pytest.mark.parametrize("edit", UNSAVED.values(), ids=UNSAVED)
def test_what_is_not_the_very_proposal_is_an_edit_of_somebodys(
    tmp_path: Path, mortuary: Mortuary, edit: Callable[[str], str]
) -> None:
    """It is refused and left alone; put away, the merge is finished without a call."""
    world = make(tmp_path)
    start = world.tip("main")
    assert mortuary.run(world, *RUN, at="before git merge").code == KILLED
    text = edit(proposed(world))
    world.write(SKILL, text)

    refused = world.ratchet("run")

    assert refused.code == ExitCode.ERROR
    assert SKILL in refused.err
    assert (world.path / SKILL).read_text() == text
    assert world.tip("main") == start
    world.git("checkout", "--", SKILL)
    again = world.ratchet(*RUN)
    assert calls_of(world, again) == CALLS
    assert_merged_once(world, start)


# Other commands that die ----------------------------------------------------------------------


@pytest.mark.parametrize("death", ["before git merge", "after git merge"])
def test_a_killed_revert_is_done_once(tmp_path: Path, mortuary: Mortuary, death: str) -> None:
    """The same command again finds what was done, and writes down what was not."""
    world = make(tmp_path)
    world.run()
    merged = world.tip("main")

    assert mortuary.run(world, "revert", "1", at=death).code == KILLED
    again = world.ratchet("revert", "1", "--json")

    assert again.code == ExitCode.DONE, again.err
    assert world.git("rev-list", "--count", f"{merged}..main") == "1"
    assert world.skill() == SKILL_TEXT
    assert again.json["commit"] == world.tip("main")
    assert [row["state"] for row in world.ratchet("log", "--json").json] == ["reverted"]
    assert_untouched(world)


@pytest.mark.parametrize("death", ["after write", "after write #2"])
def test_a_killed_import_is_done_once(tmp_path: Path, mortuary: Mortuary, death: str) -> None:
    """Each case is there once, in the split it would have gone to."""
    rows = "".join(f"what is {n}?,yes\n" for n in range(20))
    files = []
    for name in ("killed", "whole"):
        world = World.make(tmp_path / name / "p", config={"feedback": {"near": 100}})
        csv = world.write("../rows.csv", f"input,expected\n{rows}")
        if name == "killed":
            assert mortuary.run(world, "import", str(csv), at=death).code == KILLED
        assert world.ratchet("import", str(csv)).code == ExitCode.DONE
        files.append(world.files())

    assert files[0] == files[1]
    assert sum(text.count(b"what is") for text in files[0].values()) == 20


@pytest.mark.parametrize(
    ("args", "death", "calls"),
    [
        (("eval",), "after put trace #2", 3),
        (("check", "--noise"), "after put trace #4", 9),
    ],
    ids=["eval", "check --noise"],
)
def test_a_killed_measurement_keeps_its_train_runs(
    tmp_path: Path, mortuary: Mortuary, args: tuple[str, ...], death: str, calls: int
) -> None:
    """The same command again makes only what is missing."""
    world = make(tmp_path)

    assert mortuary.run(world, *args, at=death).code == KILLED
    again = world.ratchet(*args, "--json")

    assert again.code == ExitCode.DONE, again.err
    found = again.json.get("noise", again.json)
    assert calls_of(world) + found["calls"] == calls
    assert_untouched(world)


# Ctrl-C ---------------------------------------------------------------------------------------

INTERRUPTIONS = [
    "after put trace #2",
    pytest.param("after put proposal", marks=pytest.mark.full),
    pytest.param("after put trace #9", marks=pytest.mark.full),
    pytest.param("after publish", marks=pytest.mark.full),
]


@pytest.mark.parametrize("moment", INTERRUPTIONS)
def test_an_interrupted_run_says_so_and_keeps_what_finished(
    tmp_path: Path, mortuary: Mortuary, moment: str
) -> None:
    """Ctrl-C: exit 130, one sentence, no traceback; the same command goes on."""
    world = make(tmp_path)
    start = world.tip("main")

    stopped = mortuary.run(world, *RUN, at=moment, by=signal.SIGINT)

    assert stopped.code == ExitCode.INTERRUPTED
    assert stopped.json["error"]["exit_code"] == ExitCode.INTERRUPTED
    assert "Interrupted." in stopped.err
    assert "Traceback" not in stopped.err
    assert_untouched(world)
    again = world.ratchet(*RUN)
    assert again.code == ExitCode.DONE, again.err
    assert calls_of(world, again) == CALLS
    assert_merged_once(world, start)
    assert_at_rest(world)


# Two at once ----------------------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch, mortuary: Mortuary) -> Callable[..., list[Ran]]:
    """Have another process run a command as each phase of a run in this one begins."""

    def arrange(world: World, *args: str) -> list[Ran]:
        real, ran = Reporter.phase, []

        def begins(self: Reporter, name: str, *, runs: int, **more: Any) -> None:
            real(self, name, runs=runs, **more)
            ran.append(mortuary.run(world, *args))

        monkeypatch.setattr(Reporter, "phase", begins)
        return ran

    return arrange


def test_a_second_run_is_refused_and_harms_nothing(
    tmp_path: Path, meanwhile: Callable[..., list[Ran]]
) -> None:
    """Whenever it comes: it makes no call and names the process that is at work."""
    world = make(tmp_path)
    start = world.tip("main")
    others = meanwhile(world, *RUN)

    ran = world.ratchet(*RUN)

    assert ran.verdicts == [("merge", "improved")]
    assert len(others) == 4  # baseline, screen, confirm, baseline
    for other in others:
        assert other.code == ExitCode.ERROR
        assert f"process {os.getpid()}" in other.err
    assert calls_of(world, ran) == CALLS
    assert_merged_once(world, start)


def test_a_second_run_in_another_worktree_is_refused_too(
    tmp_path: Path, meanwhile: Callable[..., list[Ran]]
) -> None:
    """They share the ledger, so they share the lock."""
    world = make(tmp_path)
    there = world.worktree(tmp_path / "there", "-b", "topic")
    others = meanwhile(World(there.path), *RUN)

    assert world.ratchet(*RUN).verdicts == [("merge", "improved")]
    assert {other.code for other in others} == {ExitCode.ERROR}
    assert there.tip("topic") == world.tip("main^")


def test_measurements_beside_a_run_lose_nothing(
    tmp_path: Path, meanwhile: Callable[..., list[Ran]]
) -> None:
    """They write to the same ledger, which keeps the traces of both."""
    world = make(tmp_path)
    start = world.tip("main")
    others = meanwhile(world, "eval", "--split", "holdout", "--json")

    ran = world.ratchet(*RUN)

    assert ran.verdicts == [("merge", "improved")]
    assert [other.code for other in others] == [ExitCode.DONE] * 4
    assert world.skill() == EDITED
    assert world.git("rev-list", "--count", f"{start}..main") == "1"
    ledger = world.ledger()
    traces = [*ledger.traces(), *ledger.traces(split="holdout")]
    # An evaluation takes the place of the last one of the same text, and there are two texts. The
    # incumbent's runs of the confirm run are the same as those: this model always answers alike.
    measured = [one for one in traces if not one.experiment and one.split == "holdout"]
    assert (len(traces) - len(measured), len(measured)) == (CALLS - 2, 2 * 2)
    assert_untouched(world)
