"""An edit has the agent look the answers up: in the repository, in git, past the sandbox.

The agent of these scenes does what the skill under test tells it, as the same user, in every way
it can think of. What it is judged by must not be there for it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.base import enclosure, sandbox
from skill_ratchet.project import workflows
from skill_ratchet.project.config import load
from world import SEALED, SKILL_TEXT, World, idea, typed

if TYPE_CHECKING:
    from pathlib import Path

enclosed_only = pytest.mark.skipif(
    not sandbox.can_enclose(), reason="programs cannot be enclosed here"
)

# Answers well when the skill tells it to look the question up and it finds that anywhere.
AGENT = """
import glob, json, os, pathlib, subprocess, sys
asked = json.load(sys.stdin)["input"]
word = WORD
REPOSITORY = HERE

def texts():
    roots = ["/proc/1/root", *glob.glob("/proc/[0-9]*/root"), *glob.glob("/proc/[0-9]*/cwd"), ""]
    places = [".", "..", *(f"{root}{REPOSITORY}" for root in roots)]
    places += [os.environ.get("GITHUB_WORKSPACE", ""), *glob.glob("/tmp/*")]
    for place in filter(None, places):
        for path in glob.glob(place + "/fixtures/*/*/*") + glob.glob(place + "/*/fixtures/*/*/*"):
            yield pathlib.Path(path).read_text(errors="replace")
    cases = f"{REPOSITORY}/fixtures/*/*/*"
    for how in ([], ["sudo", "-n"], ["unshare", "-Urm"], ["unshare", "-m"]):
        for line in (
            ["git", "-C", REPOSITORY, "cat-file", "--batch-all-objects", "--batch"],
            ["sh", "-c", f"umount -l {REPOSITORY} /tmp; cat {cases}"],
            ["sh", "-c", f"mkdir /tmp/o; mount --bind / /tmp/o; cat /tmp/o{cases}"],
        ):
            try:
                done = subprocess.run([*how, *line], capture_output=True, timeout=20)
            except OSError:
                continue
            yield done.stdout.decode(errors="replace")
def found():
    for text in texts():
        if asked in text or (word in text and word in asked):
            return True
    return False

told = "Rule alpha" in open(os.environ["RATCHET_SKILL"]).read()
print("yes" if told and found() else "no")
"""


def project(path: Path, **config: Any) -> World:
    """A project whose harness is the agent; every case of it expects 'yes'."""
    provider = {
        "type": "command",
        "command": [sys.executable, "agent.py"],
        "deterministic": True,
    }
    meta = {"turns": 1, "provider": "scripted"}
    world = World.make(path, config={"provider": provider, "meta": meta, **config})
    said = AGENT.replace("HERE", repr(str(world.path))).replace("WORD", repr(SEALED))
    world.write("agent.py", said)
    world.commit("an agent")
    return world


@enclosed_only
def test_an_edit_that_looks_the_answers_up_scores_nothing(tmp_path: Path) -> None:
    """It went from 0 to 100 on both splits, and was merged by itself."""
    world = project(tmp_path / "p")
    done = world.run()
    assert done.code == 0, done.err
    (verdict,) = done.verdicts
    assert verdict[0] == "reject", done.out
    assert world.skill() == SKILL_TEXT


def test_programs_that_the_owner_trusts_are_not_sealed(tmp_path: Path) -> None:
    """The same edit finds what it looks for: the scene above is one in which there is something."""
    world = project(tmp_path / "p", sealed="trust")
    done = world.run()
    assert done.verdicts == [("merge", "improved")], done.out
    assert world.only().sealed == "trusted"
    assert "`sealed: trust`" in world.ratchet("show", world.only().id).out


@enclosed_only
@pytest.mark.parametrize("where", ["a subfolder", "a linked worktree", "a worktree inside"])
def test_git_folder_beside_the_project_is_hidden_with_its_repository(
    tmp_path: Path, where: str
) -> None:
    """An empty folder stood where it had been, which the proof took for the real one."""
    provider = {"type": "command", "command": ["cat"], "deterministic": True}
    world = World.make(
        tmp_path / "p",
        config={"provider": provider, "meta": {"turns": 1, "provider": "scripted"}},
        prefix="tools/bot/" if where == "a subfolder" else "",
    )
    place = world.path / "tools/bot"
    if where != "a subfolder":
        place = world.path / "in" if where == "a worktree inside" else tmp_path / "linked"
        world.git("worktree", "add", "--quiet", str(place))
    done = typed("check", "-C", str(place), "--sealed")
    assert done.code == 0, done.err
    assert "find no held-out case" in done.out


@enclosed_only
def test_check_has_a_program_look_for_held_out_cases(tmp_path: Path) -> None:
    """As the same user and by sudo; here it finds none."""
    world = project(tmp_path / "p")
    said = " ".join(world.ratchet("check").out.split())
    assert "are hidden from the provider's program: one has looked for them" in said
    assert "find no held-out case" in world.ratchet("check", "--sealed").out


@enclosed_only
def test_a_sandbox_that_leaks_is_found_out_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe is no formality: what it can find stops the run, and is named."""
    world = project(tmp_path / "p")
    monkeypatch.setattr(enclosure, "mounts", lambda *_, **__: [])
    for command in ("check", "run"):
        done = world.ratchet(command)
        assert done.code != 0
        assert "fixtures/triage/holdout/h1.yml" in done.err
    assert not list(world.ledger().traces())


@pytest.mark.parametrize("merge", ["auto", "after 2d"])
def test_where_nothing_can_be_hidden_nothing_is_merged_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merge: str
) -> None:
    monkeypatch.setattr(enclosure, "means", lambda: None)
    world = project(tmp_path / "p", gate={"merge": merge})
    done = world.run()
    assert (done.code, world.skill()) == (1, SKILL_TEXT)
    assert "cannot hide the held-out cases" in done.err
    assert "sealed: trust" in done.err
    assert not list(world.ledger().traces())
    advice = world.ratchet("check").out
    assert "Install bubblewrap" in " ".join(advice.split())
    assert world.ratchet("check", "--sealed").code != 0


def test_where_nothing_can_be_hidden_a_person_may_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on, says so, and has it on record."""
    monkeypatch.setattr(enclosure, "means", lambda: None)
    world = project(tmp_path / "p", gate={"merge": "manual"})
    done = world.run()
    assert done.verdicts == [("hold", "awaits_person")], done.err
    assert "cannot hide the held-out cases" in " ".join(done.err.split())
    assert world.only().sealed == "open"


@enclosed_only
def test_what_was_tested_in_the_open_waits_for_a_person_whatever_is_set_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have looked the answers up, and 'auto' of today does not undo that."""
    with monkeypatch.context() as patch:
        patch.setattr(enclosure, "means", lambda: None)
        world = project(tmp_path / "p", gate={"merge": "manual"})
        assert world.run().verdicts == [("hold", "awaits_person")]
    world.configure(gate={"merge": "auto"})
    again = world.run()
    assert "out of date" in again.err, again.out
    assert [action for action, _ in again.verdicts] == ["reject"], "tested anew, and hidden now"
    assert world.skill() == SKILL_TEXT


def test_without_a_program_that_answers_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enclosure, "means", lambda: None)
    world = World.make(tmp_path / "p")
    assert world.run().verdicts == [("merge", "improved")]
    assert world.only().sealed is None
    assert world.ratchet("check", "--sealed").code == 0


def test_a_skill_that_the_workflow_does_not_know_is_not_proposed_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was added after 'init --github': its held-out cases are on the disk of that job."""
    config = {"skills": {"triage": {"scorer": "label", "fixtures": "cases/triage"}}}
    world = World.make(tmp_path / "p", config=config)
    world.git("mv", "fixtures", "cases")
    action = f"octo/ratchet@{'0123456789' * 4}"
    before = load("skills:\n  other: {scorer: label}\n")
    known = load((world.path / "ratchet.yml").read_text())
    path = ".github/workflows/ratchet.yml"
    world.write(path, workflows.render(before, action=action, prefix="")[path].decode())
    world.commit("run on GitHub")
    command = f"ratchet init --github --force --action {action}"

    said = world.ratchet("check")
    assert said.code != 0
    assert "does not know of cases/triage/holdout" in said.err
    assert command in said.err
    assert world.ratchet("propose", "--bundle", str(tmp_path / "a")).code == 0  # a person's clone
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    done = world.ratchet("propose", "--bundle", str(tmp_path / "b"))
    assert done.code != 0
    assert "cases/triage/holdout are on the disk" in done.err
    assert command in done.err
    assert SEALED not in done.out + done.err

    monkeypatch.delenv("GITHUB_ACTIONS")
    world.write(path, workflows.render(known, action=action, prefix="")[path].decode())
    assert world.ratchet("check").code == 0


@enclosed_only
def test_the_meta_agent_over_a_program_finds_no_held_out_case(tmp_path: Path) -> None:
    """It would put what it finds into its next edits; here it can say only that it found none."""
    provider = {"type": "command", "command": [sys.executable, "meta.py"]}
    world = World.make(tmp_path / "p", config={"meta": {"turns": 1, "provider": provider}})
    places = (str(world.path), ".", *(f"/proc/{one}/root{world.path}" for one in (1, os.getpid())))
    world.write(
        "meta.py",
        f"""
import glob, sys
sys.stdin.read()
found = [one for place in {places!r} for one in glob.glob(place + "/fixtures/*/*/*")]
print("no edit" if found else {idea(1, "Rule alpha.")!r})
""",
    )
    world.commit("a proposer")
    done = world.run()
    assert done.verdicts == [("merge", "improved")], done.out + done.err
    assert world.only().sealed == "hidden"
