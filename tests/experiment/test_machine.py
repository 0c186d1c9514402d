"""What a machine and a network may do to a run: an error that says so, and then the same end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from answers import FAILING, NO_HOST, ask
from messages_server import answer, serve, text
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.cli.progress import Reporter
from world import World, script

if TYPE_CHECKING:
    from messages_server import MessagesServer

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


def objects(world: World) -> dict[str, list[Path]]:
    """The files that git keeps the ledger in: loose objects, and packs."""
    folder = world.path / ".git/objects"
    return {
        "loose": sorted(folder.glob("??/*")),
        "pack": sorted(folder.glob("pack/*.pack")),
    }


@pytest.mark.parametrize("kind", ["loose", "pack"])
def test_a_damaged_object_is_an_error_and_nothing_is_decided(tmp_path: Path, kind: str) -> None:
    """Bytes of the ledger's newest commit are flipped on the disk; the rest is left as it is."""
    world = World.make(tmp_path / "p", model=script(right={}))
    assert world.run().code == ExitCode.DONE
    if kind == "pack":
        world.git("repack", "-qad")
        (damaged,) = objects(world)["pack"]
    else:
        pack = objects(world)["pack"]
        for one in pack:
            moved = one.rename(tmp_path / one.name)
            one.with_suffix(".idx").unlink()
            one.with_suffix(".rev").unlink(missing_ok=True)
            subprocess.run(
                ["git", "unpack-objects", "-q"],
                cwd=world.path,
                input=moved.read_bytes(),
                check=True,
            )
        name = world.tip("ratchet/ledger")
        damaged = world.path / ".git/objects" / name[:2] / name[2:]
    data = bytearray(damaged.read_bytes())
    for at in range(len(data) // 3, 2 * len(data) // 3):
        data[at] ^= 0xFF
    damaged.chmod(0o644)
    damaged.write_bytes(data)
    main = world.git("rev-parse", "--verify", "refs/heads/main")

    ran = world.ratchet("run", "--json")

    assert ran.code == ExitCode.ERROR, ran.err
    assert "Traceback" not in ran.err
    assert re.search(r"(?m)^hint: \S", ran.err)
    assert world.git("rev-parse", "--verify", "refs/heads/main") == main


def test_somebody_who_moves_the_ledger_during_a_run_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine's commits come in as each phase begins, so also between two flushes."""
    world = World.make(tmp_path / "p")
    assert world.ratchet("eval").code == ExitCode.DONE
    real = Reporter.phase
    moved: list[str] = []

    def begins(self: Reporter, name: str, *, runs: int, **more: Any) -> None:
        real(self, name, runs=runs, **more)
        for ref in ("ratchet/ledger", "ratchet/holdout"):
            if ref in world.branches():
                tree = world.git("rev-parse", f"{ref}^{{tree}}")
                commit = world.git("commit-tree", tree, "-p", ref, "-m", f"theirs {len(moved)}")
                world.git("update-ref", f"refs/heads/{ref}", commit)
                moved.append(commit)

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "phase", begins)
        ran = world.run("--attempts", "2")

    assert ran.verdicts == [("merge", "improved")]
    assert len(moved) >= 4
    for commit in moved:
        told = "ledger" if moved.index(commit) < 3 else "*"
        names = world.git("branch", "--list", f"ratchet/{told}", "--contains", commit)
        assert "ratchet/" in names
    assert world.run("--attempts", "2").json["calls"] == 0
    world.assert_sound()


def project(tmp_path: Path, server: MessagesServer | str) -> World:
    """One whose model is at an address."""
    url = server if isinstance(server, str) else server.url
    provider = {"type": "anthropic", "base_url": url, "max_retries": 1}
    return World.make(tmp_path / "p", config={"provider": provider})


@pytest.mark.parametrize("name", [*FAILING, "connection refused"])
def test_a_run_that_cannot_reach_its_model_waits_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No score is no verdict: an error with a hint, and nothing is decided; then it goes on."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "made-up-for-this-test")
    away = {"connection refused": "http://127.0.0.1:9", NO_HOST: "http://model.invalid"}
    with serve(FAILING.get(name, answer(text("no")))) as server:
        world = project(tmp_path, away.get(name, server))
        ran = world.ratchet("run", "--json")
        assert ran.code == ExitCode.ERROR, ran.err
        assert "Traceback" not in ran.err
        assert re.search(r"(?m)^hint: \S", ran.err)
        assert world.ledger().experiments() == []
        if name not in away:
            server.plan = [answer(text("no"))]
            again = world.ratchet("run", "--json")
            assert again.code == ExitCode.DONE, again.err
            assert len([one for one in world.ledger().traces(job="task") if one.score]) == 3


def test_a_run_whose_model_fails_from_some_call_on_ends_as_it_would_have(tmp_path: Path) -> None:
    """Same verdict and same cost, and no answer is paid for twice; ``benchmarks`` does the rest."""
    whole = ask(tmp_path / "whole")
    assert [row["state"] for row in whole.outcome["experiments"]] == ["merged"]
    # One in the screen, whose runs of the incumbent are kept for others, and one on the holdout.
    for number, fault in ((8, "connection cut in an answer"), (whole.calls - 8, NO_HOST)):
        assert whole.spoiled(tmp_path / f"{number}", number, fault) == []


def _read_only(world: World, part: str, *args: str) -> subprocess.CompletedProcess[str]:
    """A command in a mount namespace of its own, in which a folder is on a read-only disk."""
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    folder, command = (
        world.path / part,
        (sys.executable, "-m", "skill_ratchet", args[0], "-C", world.path),
    )
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", folder, *command, *args[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def _may_mount(tmp_path: Path) -> bool:
    """Whether this machine lets anybody have a mount namespace."""
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


WRITING = {
    "eval": ("eval", "--json"),
    "run": ("run", "--json"),
    "noise": ("check", "--noise", "--json"),
    "propose": ("propose", "--bundle", "{folder}/bundle"),
    "revert": ("revert", "1"),
    "forget": ("forget", "t1"),
    "import": ("import", "{folder}/log.csv", "--output", "output", "--expected", "expected"),
}


@pytest.mark.parametrize("part", ["", ".git"], ids=["project", "git"])
@pytest.mark.parametrize("name", WRITING)
def test_a_read_only_disk_is_said_before_anything_is_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, part: str
) -> None:
    """An error that says what to do; no call was made, and the project is as it was."""
    if not _may_mount(tmp_path):
        pytest.skip("nobody may mount here")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "made-up-for-this-test")
    world = World.make(tmp_path / "p")
    if name in ("revert", "forget"):
        assert world.run().code == ExitCode.DONE
    (tmp_path / "log.csv").write_text("input,output,expected\nMy card is gone,no,yes\n")
    with serve(answer(text("no"))) as server:
        provider = {"type": "anthropic", "base_url": server.url, "max_retries": 0}
        world.configure(provider=provider)
        before = world.git("for-each-ref"), world.files()

        ran = _read_only(
            world, part, *(one.replace("{folder}", str(tmp_path)) for one in WRITING[name])
        )

        assert server.bodies == []
    assert ran.returncode == ExitCode.ERROR, ran.stdout + ran.stderr
    assert "Read-only file system" in ran.stderr
    assert re.search(r"(?m)^hint: \S", ran.stderr)
    assert "Traceback" not in ran.stderr
    assert (world.git("for-each-ref"), world.files()) == before
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    "args", [("log",), ("show", "1"), ("looks",), ("check",), ("explain", "1")]
)
def test_a_read_only_disk_can_be_looked_at(tmp_path: Path, args: tuple[str, ...]) -> None:
    if not _may_mount(tmp_path):
        pytest.skip("nobody may mount here")
    world = World.make(tmp_path / "p")
    assert world.run().code == ExitCode.DONE
    ran = _read_only(world, "", *args)
    assert ran.returncode == ExitCode.DONE, ran.stderr


def test_every_test_that_the_page_names_is_there() -> None:
    """A promise without a test is none."""
    page = (ROOT / "docs/reliability.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    there = {
        name
        for file in TESTS.rglob("test_*.py")
        for name in re.findall(r"(?m)^def (test_\w+)\(", file.read_text("utf-8"))
    }
    assert len(named) > 20
    assert named - there == set()
