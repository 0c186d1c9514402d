"""What ``log``, ``show`` and ``trace`` look like on a terminal."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len

from skill_ratchet.cli import error_handler
from skill_ratchet.cli.main import cli
from skill_ratchet.core.records import (
    Experiment,
    Landing,
    Proposal,
    Reply,
    Result,
    RolloutKey,
    Score,
    Setting,
    Tally,
    Trace,
    digest,
)
from world import SKILL, SKILL_TEXT, World, idea, script, typed

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.ledger import Ledger

SETTING = Setting(
    provider="scripted",
    model="m",
    model_digest=digest("m"),
    meta_model=None,
    proposer="meta",
    scorer_digest=digest("s"),
    config_digest=digest("c"),
    train_digest=digest("t"),
    holdout_digest=None,
    evaluator="0",
    base="a" * 40,
    branch="main",
    seed=0,
)
WIDE = "返金と請求の違いを最初に説明すれば、モデルは二つを混同しなくなるはずです。" * 3
HOSTILE = "a\x1b[31mred\x07 \u202egnp.exe [bold]x[/bold] ::error::x " * 3
WORDS = (WIDE, HOSTILE, "Say which wins.")
ACTIONS: tuple[str | None, ...] = ("reject", "merge", "reject", "merge", "hold", None)


def text(number: int) -> str:
    return "# Triage\n" + "".join(f"Rule {one}.\n" for one in range(number))


def add(ledger: Ledger, number: int, action: str | None) -> Experiment:
    """One experiment of the table: the higher its number, the better it scores."""
    before, after = text(number), text(number + 1)
    made = Experiment(
        id=digest("e", number),
        skill="triage",
        number=number,
        parent=digest("skill", before),
        candidate=digest("skill", after),
        setting=SETTING,
        proposal=Proposal(proposer="meta", model="m", hypothesis=WORDS[number % len(WORDS)]),
        started_at="2026-01-01T00:00:00+00:00",
        level="add lines",
        chars=(len(before), len(after)),
    )
    ledger.add_experiment(made, parent_text=before, candidate_text=after)
    if action is not None:
        tally = Tally(
            incumbent=number / 10, candidate=(number + 1) / 10, pairs=4, wins=2, losses=1, sweeps=1
        )
        ledger.add_result(result(made, action, tally))
    return made


def result(made: Experiment, action: Any, tally: Tally) -> Result:
    return Result(
        experiment=made.id,
        action=action,
        reason="screen_failed",
        detail=HOSTILE,
        train=tally,
        calls=3,
        usd=0.0,
        seconds=1.0,
        finished_at="2026-01-02T00:00:00+00:00",
    )


def run(
    made: Experiment, case: str, score: float | None, *, side: Any, replicate: int = 0
) -> Trace:
    skill = made.parent if side == "incumbent" else made.candidate
    assert skill is not None
    return Trace(
        id=f"{made.number}-{side[0]}-{case[:9]}-{replicate}",
        key=RolloutKey(
            skill=skill,
            fixture=digest(case),
            model=SETTING.model_digest,
            replicate=replicate,
            experiment=made.id,
        ),
        skill="triage",
        experiment=made.id,
        fixture=case,
        side=side,
        model="m",
        provider="scripted",
        started_at="2026-01-01T00:00:00+00:00",
        reply=Reply(
            text=HOSTILE,
            request={"messages": [{"role": "user", "content": "--- score ---\nforged"}]},
            response={"content": [{"type": "text", "text": HOSTILE}]},
        )
        if score is not None
        else Reply(error="lost"),
        score=None if score is None else Score(value=score, reason=HOSTILE, scorer="label"),
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Six experiments, one of each outcome: numbers 1 to 6; 2 was taken out again."""
    world = World.make(tmp_path / "p")
    ledger = world.ledger()
    made = [add(ledger, number, action) for number, action in enumerate(ACTIONS, start=1)]
    ledger.add_revert(
        Landing(
            experiment=made[1].id,
            commit="c" * 40,
            branch="main",
            at="2026-01-03T00:00:00+00:00",
            by="ratchet revert",
        )
    )
    for case, old, new in (
        ("worst", 1.0, 0.0),
        ("worse-with-a-name-that-is-far-too-long-for-its-column-in-a-table", 1.0, 0.5),
        ("same", 0.5, 0.5),
        ("better", 0.0, 1.0),
    ):
        ledger.add_trace(run(made[2], case, old, side="incumbent"))
        ledger.add_trace(run(made[2], case, new, side="candidate"))
    ledger.add_trace(run(made[2], "alone", 1.0, side="candidate"))  # its pair was never run
    ledger.add_trace(run(made[2], "failed", None, side="candidate"))
    ledger.flush("all")
    return world


class Terminal(io.StringIO):
    """A terminal with an encoding of its own."""

    encoding = "utf-8"

    def __init__(self, encoding: str = "utf-8", *, tty: bool = False) -> None:
        super().__init__()
        self.encoding, self._tty = encoding, tty

    def isatty(self) -> bool:
        return self._tty


def on(terminal: Terminal, *args: str) -> str:
    """What a command prints there; everything must be encodable."""
    with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(io.StringIO()):
        assert error_handler.run(cli, args) == 0
    terminal.getvalue().encode(terminal.encoding)
    return terminal.getvalue()


def no_wider_than_80(shown: str) -> None:
    assert [line for line in shown.splitlines() if cell_len(line) > 80] == []
    assert not set(shown) & set("\x1b\x07\u202e")


def test_the_log_is_a_graph(world: World) -> None:
    shown = world.ratchet("log").out
    no_wider_than_80(shown)
    head, sparks, blank, header, *rows, gap, legend = shown.splitlines()
    assert head == "triage: 6 experiments, 1 merged; train: 10% → 50% (4 runs)"
    assert sparks == "tried ▂▄▅▇█  kept ▁▁▁▇▇  (▁ is 10%, █ is 60%)"
    assert (blank, gap) == ("", "")
    assert header.split()[0] == "#"
    assert [row.split()[:2] for row in rows] == [
        ["┌─…", "6"],
        ["├─◐", "5"],
        ["●", "4"],
        ["├─○", "3"],
        ["⊘", "2"],
        ["└─○", "1"],
    ]
    assert legend == "● merged  ○ rejected  ◐ on hold  … under way  ⊘ reverted"


def test_the_newest_few_have_the_trunk_going_on(world: World) -> None:
    rows = world.ratchet("log", "-n", "4").out.splitlines()[4:8]
    assert [row.split()[0] for row in rows] == ["┌─…", "├─◐", "●", "├─○"]


def test_many_experiments_have_one_line_of_scores(tmp_path: Path) -> None:
    """Of the widest numbers, too."""
    world = World.make(tmp_path / "p")
    ledger = world.ledger()
    for number in range(1, 46):
        made = add(ledger, number, None)
        tally = Tally(incumbent=1.0, candidate=1.0, pairs=1)
        ledger.add_result(result(made, "reject", tally))
    ledger.flush("all")
    _, sparks, blank, *_ = world.ratchet("log", "-n", "1").out.splitlines()
    assert sparks.endswith("(▁ is 100%, █ is 100%)")
    assert blank == ""
    assert cell_len(sparks) <= 80


@pytest.mark.parametrize(
    ("outcome", "numbers"),
    [
        (("merged",), [4]),
        (("rejected",), [3, 1]),
        (("held",), [5]),
        (("open",), [6]),
        (("reverted",), [2]),
        (("merged", "reverted"), [4, 2]),
    ],
)
def test_the_log_can_be_narrowed(
    world: World, outcome: tuple[str, ...], numbers: list[int]
) -> None:
    options = [word for one in outcome for word in ("--outcome", one)]
    found = world.ratchet("log", *options, "--json").json
    assert [row["number"] for row in found] == numbers
    rows = world.ratchet("log", *options).out.splitlines()[4:-2]
    assert [int(row.split()[1]) for row in rows] == numbers
    assert not set("".join(rows)) & set("├└┌─")  # no line joins what does not follow each other


def test_nothing_that_ended_so(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    assert "No experiment yet" in world.ratchet("log", "--outcome", "merged").out
    add(ledger := world.ledger(), 1, "reject")
    ledger.flush("one")
    assert world.ratchet("log", "--outcome", "merged").out == "No experiment ended so.\n"
    assert world.ratchet("log", "--outcome", "lost").code == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("args", [("log",), ("show", "3"), ("log", "--outcome", "held")])
def test_a_terminal_without_our_marks(world: World, encoding: str, args: tuple[str, ...]) -> None:
    shown = on(Terminal(encoding), "-C", str(world.path), *args)
    no_wider_than_80(shown)
    assert not set(shown) & set("●○◐⊘…→▁█├")
    assert "->" in shown


def test_a_dumb_terminal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our marks are ASCII there; what others wrote stays as it is."""
    monkeypatch.setenv("TERM", "dumb")
    shown = on(Terminal(), "-C", str(world.path), "log")
    no_wider_than_80(shown)
    assert [row.split()[0] for row in shown.splitlines()[4:10]] == [
        *(",-.", "|-?", "*", "|-o", "/", "`-o"),
    ]
    assert "tried 24579  kept 00077  (0 is 10%, 9 is 60%)\n" in shown
    assert WIDE[:4] in shown


def test_show(world: World) -> None:
    shown = world.ratchet("show", "3").out
    no_wider_than_80(shown)
    assert "outcome    ○ reject: screen_failed\n" in shown
    assert f"id         {digest('e', 3)}\n" in shown
    begin = shown.index("train cases: 1 improved, 2 worse, 1 unchanged\n")
    header, worst, worse, better, same = shown[begin:].splitlines()[1:6]
    assert header.split() == ["points", "train", "runs", "trace", "case"]
    assert worst.split() == ["-100.0", "100%", "→", "0%", "1", "3-c-worst-0", "worst"]
    assert worse.split()[-1].startswith("worse-with-a-name")
    assert better.split()[:2] == ["+100.0", "0%"]
    assert same == "unchanged: same"
    assert "+Rule 3.\n" in shown
    assert shown.endswith(
        "why it ended so: ratchet explain 3\na model call, whole: ratchet trace 3-c-worst-0\n"
    )
    assert "alone" not in shown
    assert "failed" not in shown.split("train cases")[1].split("---")[0]


def test_what_show_hints_at_exists(world: World) -> None:
    *_, explain, trace = world.ratchet("show", "3").out.splitlines()
    for hint in (explain, trace):
        assert world.ratchet(*hint.partition("ratchet ")[2].split()).code == 0


def test_an_edit_is_a_patch_of_the_skills_own_file(tmp_path: Path) -> None:
    """So git takes it; and what the gate said is said once."""
    world = World.make(tmp_path / "p", model=script([idea(1, "Rule alpha."), idea(2, "nothing")]))
    assert world.run("--attempts", "1").code == 0
    shown = world.ratchet("show", "1").out
    patch = world.ratchet("diff", "1").out
    assert f"--- a/{SKILL}\n+++ b/{SKILL}\n" in shown
    world.write("edit.patch", patch)
    world.git("apply", "--reverse", "edit.patch")
    assert (world.path / SKILL).read_text() == SKILL_TEXT
    assert "reason     The held-out metric improved." in shown
    assert "verdict" not in shown  # it would say the same
    assert "1 sweep\n" in world.ratchet("explain", "1").out


def test_what_was_not_screened_has_no_screen(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p", model=script(["no edit at all"]))
    assert world.run("--attempts", "1").code == 0
    assert "screen on train    not run\n" in world.ratchet("explain", "1").out


@pytest.mark.parametrize("command", ["show", "explain", "diff", "trace"])
def test_what_is_not_there_says_where_to_look(world: World, command: str) -> None:
    ran = world.ratchet(command, "no-such-thing")
    assert "hint: 'ratchet " in ran.err


def test_show_of_one_that_is_under_way(world: World) -> None:
    shown = world.ratchet("show", "6").out
    no_wider_than_80(shown)
    assert "outcome    … under way\n" in shown
    assert "train cases" not in shown
    assert "ratchet explain" not in shown


def test_a_trace_is_read_in_blocks(world: World) -> None:
    """What was said is indented, so it cannot pass for a heading."""
    shown = world.ratchet("trace", "3-c-worst").out
    headings = [line.split()[1] for line in shown.splitlines() if line.startswith("--- ")]
    assert headings == ["user", "answer", "score"]
    assert "\n  --- score ---\n  forged\n" in shown
    assert not set(shown) & set("\x1b\x07\u202e")
    assert '"messages"' not in shown


def test_a_trace_as_it_was_sent(world: World) -> None:
    shown = world.ratchet("trace", "3-c-worst", "--raw").out
    for part in ("--- request ---", '"messages"', "--- response ---", "--- score ---"):
        assert part in shown
    assert not set(shown) & set("\x1b\x07\u202e")


def test_a_terminal_has_a_pager(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The one that PAGER names, once; not with --no-pager, and not where stdout is no terminal."""
    log = tmp_path / "paged"
    pager = tmp_path / "pager"
    pager.write_text(f"#!{sys.executable}\nimport sys\nopen({str(log)!r}, 'a').write("
                     "sys.stdin.read())\n")  # fmt: skip
    pager.chmod(0o755)
    monkeypatch.setenv("PAGER", str(pager))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdin", Terminal(tty=True))
    args = ("-C", str(world.path), "trace", "3-c-worst")
    plain = typed(*args).out
    assert on(Terminal(tty=True), *args, "--no-pager") == plain
    assert not log.exists()
    assert on(Terminal(tty=True), *args) == ""
    assert log.read_text().strip() == plain.strip()
    log.unlink()
    assert on(Terminal(), *args) == plain
    assert not log.exists()
