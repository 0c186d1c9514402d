"""Ways in which what is held out could reach the proposer, a log or a page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.core.records import Correction, Note, digest
from skill_ratchet.experiment import proposer
from views import proposers
from world import World, case, idea, script

if TYPE_CHECKING:
    from pathlib import Path

MOVED = "Is it t2?"  # of t2, a train case until it moves
QUOTE = f'Rule beta: say yes to "{MOVED}"'
AT = "2026-01-01T00:00:00.000000+00:00"
OLD, NEW = "fixtures/triage/train/t2.yml", "fixtures/triage/holdout/{}.yml"


# A case that moves from train to the holdout ---------------------------------------------------


@pytest.fixture
def told(tmp_path: Path) -> World:
    """A project whose record tells of t2 in every way there is: it was a train case."""
    world = World.make(
        tmp_path / "p", model=script([idea(1, QUOTE), idea(2, "Rule gamma.")], right={})
    )
    assert world.run("--attempts", "1").code == ExitCode.DONE
    ledger, experiment = world.ledger(), world.only()
    said: dict[str, Any] = {"author": "ada", "at": AT}
    ledger.add_note(
        Note(
            skill="triage",
            words=f"It has to say yes to '{MOVED}', too.",
            url="https://x/1",
            experiment=experiment.id,
            kind="review",
            **said,
        )
    )
    for name, via in (("t2", "terminal"), ("t2", "comment")):
        ledger.add_correction(
            Correction(
                id=digest("correction", name, via),
                skill="triage",
                version=None,
                fixture=name,
                split="train",
                input=MOVED,
                output="no",
                expected="yes",
                why="It is t2, as everybody knows here.",
                link=None,
                via=via,
                **said,
            )
        )
    ledger.flush("what people said")
    return world


def move(world: World, name: str) -> None:
    """As the documentation advises for a worn holdout: swap cases."""
    world.write(NEW.format(name), (world.path / OLD).read_text())
    world.git("rm", "--quiet", OLD)
    world.write("fixtures/triage/train/t4.yml", case("t4", "train"))
    world.commit("swap cases")


def everything(world: World) -> str:
    """All that a proposer can be shown, by whatever way."""
    view = proposers(world)
    past = proposer.read_past(view)
    shown: list[Any] = [
        [*view.experiments(), *view.results().values(), *view.notes(), *view.train_corrections()],
        [past_of.shipped for past_of in past],
        [*view.shipped().values(), *view.task_runs(skip=0, most=1000)[0]],
        [run for one in view.experiments() for run in view.runs(one.id)],
        [view.trace(run.id) for run in world.ledger().traces(job="task")],
        [view.candidate_text(one.id) for one in view.experiments()],
        [view.skill_text(one.parent) for one in view.experiments()],
        [*view.texts()],
        [view.kept_runs(one.parent, one.setting.model_digest) for one in view.experiments()],
        [one.candidate_text for one in past],
    ]
    return str(shown)


def test_before_it_moves_all_of_it_is_told(told: World) -> None:
    """Or the scenes below would show nothing."""
    shown = everything(told)
    assert shown.count(MOVED) > 10
    assert "everybody knows" in shown
    assert "say yes to" in shown


@pytest.mark.parametrize("name", ["t2", "h9"])
@pytest.mark.parametrize("blind", [False, True])
def test_a_case_that_moved_to_the_holdout_is_nowhere(
    told: World,
    name: str,
    blind: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    """Not in a run, a diff, a hypothesis, a correction, a note or a tool, under whatever id.

    The owner rotates cases as the documentation says; the proposer has the old record to read.
    """
    move(told, name)
    command = ("propose", "--bundle", str(tmp_path / "bundle")) if blind else ("run",)
    ran = told.ratchet(*command, "--json")
    assert ran.code == ExitCode.DONE, ran.err
    *_, asked = told.ledger().traces(job="meta")
    prompt = json.dumps(asked.reply.request)
    assert "Is it t1?" in prompt  # what is train now is told
    assert "Is it t4?" in prompt
    assert "not shown: it repeats text" in prompt  # it was tried, and more it need not know
    for shown in (prompt, everything(told)):
        assert MOVED not in shown
        assert "Is it t2" not in shown
        assert "everybody knows" not in shown


def test_an_id_that_is_used_again_opens_nothing(told: World) -> None:
    """The held-out case has its own id, and another train case took the old one."""
    move(told, "h9")
    told.write(OLD, case("another t2 thing that is quite new", "train"))
    told.commit("the id is free")
    assert MOVED not in everything(told)


def test_what_stays_train_stays_told(told: World) -> None:
    """A file that is moved about, another tag or another source: the case is the same."""
    given = json.loads((told.path / OLD).read_text()) | {"tags": ["new"]}
    told.git("rm", "--quiet", OLD)
    told.write("fixtures/triage/train/sub/t2.yml", json.dumps(given))
    told.commit("tidy up")
    assert everything(told).count(MOVED) > 10


def test_a_correction_that_is_no_case_yet_is_told_unless_its_like_is_held_out(
    told: World,
) -> None:
    """It came in by a comment, and its pull request is open; then its case is held out."""
    ledger = told.ledger()
    (one, *_) = ledger.corrections()
    asked = "May I take it home today?"
    new = one.with_(id=digest("new"), fixture="new", input=asked, via="comment")
    ledger.add_correction(new)
    ledger.flush("a comment")
    assert asked in everything(told)
    given = {"input": "may I take it home  TODAY?", "expected": "yes"}
    told.write(NEW.format("h8"), json.dumps(given))
    told.commit("held out")
    assert asked not in everything(told)


def test_check_says_what_it_hides(told: World) -> None:
    """How many runs, of which cases; nothing where there is nothing to hide."""
    assert "proposer" not in told.ratchet("check").out
    move(told, "h9")
    ran = told.ratchet("check")
    count = sum(run.fixture == "t2" for run in told.ledger().traces(job="task"))
    assert count > 0
    noted = f"note: the proposer is not shown {count} earlier run{'s' * (count > 1)} of 1 case"
    assert noted in " ".join(ran.out.split())
    assert "train case now: t2" in " ".join(ran.out.split())


def test_check_says_that_the_skill_itself_quotes_a_held_out_case(tmp_path: Path) -> None:
    """It was an example in the skill, and its case was moved: the proposer reads the skill."""
    world = World.make(tmp_path / "p")
    world.write("skills/triage/SKILL.md", f"{world.skill()}For example: {MOVED} Say yes.\n")
    world.commit("an example")
    assert "repeats text of held-out cases" not in " ".join(world.ratchet("check").out.split())
    move(world, "h9")
    assert "repeats text of held-out cases" in " ".join(world.ratchet("check").out.split())


# What the proposer writes ---------------------------------------------------------------------

QUOTED = "Would the zebra agree to h1?"  # a held-out input, whole


def reply(hypothesis: str, lines: str, **more: object) -> str:
    """What a meta-agent answers."""
    edit = {"op": "add", "after": None, "lines": lines, **more}
    return f"```json\n{json.dumps({'hypothesis': hypothesis, 'edits': [edit]})}\n```"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (reply(f"It fails on '{QUOTED}'.", "Rule alpha."), "leaks_holdout"),
        (reply("It fails on some.", f"Rule alpha. {QUOTED}"), "leaks_holdout"),
        (reply(f"It fails on '{QUOTED}'.", "Rule alpha.", after="no such line"), "not_applied"),
        (reply("It fails on some.", "Rule alpha.", after=QUOTED), "not_applied"),
    ],
    ids=["hypothesis", "edit", "hypothesis of what does not apply", "edit that does not apply"],
)
def test_what_a_proposer_writes_is_searched_whole(tmp_path: Path, said: str, reason: str) -> None:
    """A model that knows a held-out case says so in its reason, which people and models read.

    The edit would win; it is not merged, and no later proposer, log or page is told of it.
    """
    world = World.make(tmp_path / "p", model=script([said], right={"alpha": ("t1", "h1")}))
    ran = world.run("--attempts", "1")
    assert ran.verdicts == [("reject", reason)], ran.err
    assert "zebra" not in ran.out + ran.err
    assert "zebra" not in everything(world)
    assert world.branches() >= {"main"}
    assert "ratchet/triage" not in world.branches()
    assert "zebra" not in json.dumps(world.ledger().results()[world.only().id].model_dump())


def test_a_word_that_train_has_too_is_no_leak(tmp_path: Path) -> None:
    """What may be said is said: the reason may quote train cases and the skill."""
    said = reply("It fails on 'Is it t1?': Say yes or no.", "Rule alpha.")
    world = World.make(tmp_path / "p", model=script([said]))
    assert world.run().verdicts == [("merge", "improved")]
