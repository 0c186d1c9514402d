"""What people correct is on record word for word, on the side of its case, and can be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.core.records import Answers, Correction, Shipped, digest
from skill_ratchet.ledger import TrainLedger
from views import proposers
from world import World, idea, script

if TYPE_CHECKING:
    from pathlib import Path

AT = "2026-01-01T00:00:00.000000+00:00"
TRAIN, SEALED = "Is it t1?", "agree to h1?"


def correction(**changes: Any) -> Correction:
    """A correction of the train case t1."""
    given: dict[str, Any] = {
        "skill": "triage",
        "version": None,
        "fixture": "t1",
        "split": "train",
        "input": TRAIN,
        "output": "I would rather not say.",
        "expected": "yes",
        "why": "It is t1, as anybody can see from here.",
        "author": "ada",
        "at": AT,
        "link": None,
        "via": "terminal",
        **changes,
    }
    name = Correction.name(
        skill=given["skill"],
        asked=digest(given["input"]),
        expected=given["expected"],
        link=given["link"],
    )
    return Correction(id=name, **given)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A project in which one edit was tried."""
    world = World.make(tmp_path / "p", model=script([idea(1, "Rule alpha.")], right={}))
    assert world.run("--attempts", "1").code == ExitCode.DONE
    return world


def test_a_correction_is_kept_on_the_side_of_its_case(world: World) -> None:
    """A held-out one is in no view of the proposer's, nor on its branch."""
    ledger = world.ledger()
    open_one, sealed = correction(), correction(fixture="h1", split="holdout", input=SEALED)
    ledger.add_correction(open_one)
    ledger.add_correction(sealed)
    ledger.flush("corrections")

    again = world.ledger()

    assert again.corrections() == sorted([open_one, sealed], key=lambda one: one.id)
    view = proposers(world)
    assert isinstance(view, TrainLedger)
    assert view.train_corrections() == [open_one]
    assert SEALED not in world.told("ratchet/ledger")
    assert SEALED in world.told("ratchet/holdout")


def test_the_same_correction_twice_is_one(world: World) -> None:
    ledger = world.ledger()
    ledger.add_correction(correction())
    ledger.add_correction(correction())
    ledger.flush("corrections")
    assert world.ledger().corrections() == [correction()]


def test_what_was_shipped_and_seen_comes_back(world: World) -> None:
    ledger = world.ledger()
    (experiment,) = ledger.experiments()
    assert experiment.candidate is not None
    shipped = Shipped(
        experiment=experiment.id,
        skill="triage",
        proposed=experiment.candidate,
        shipped=digest("other"),
        text="other",
        similarity=0.25,
        commit="a" * 40,
        branch="main",
        by="ada",
        at=AT,
        link=None,
    )
    seen = Answers(
        skill="triage",
        version=None,
        log=digest("log"),
        at=AT,
        answers=10,
        corrected=3,
        similarity=0.9,
    )
    ledger.add_shipped(shipped)
    ledger.add_answers(seen)
    ledger.flush("feedback")

    again = world.ledger()

    assert again.shipped() == {experiment.id: shipped}
    assert not shipped.unchanged
    assert again.answers() == [seen]


def test_there_are_not_more_corrected_answers_than_answers() -> None:
    with pytest.raises(ValidationError, match="more corrected answers than answers"):
        Answers(
            skill="triage",
            version=None,
            log=digest("log"),
            at=AT,
            answers=1,
            corrected=2,
            similarity=None,
        )


@pytest.mark.parametrize(
    ("fixture", "branch"), [("t1", "ratchet/ledger"), ("h1", "ratchet/holdout")]
)
def test_a_forgotten_case_takes_its_corrections_along(
    world: World, fixture: str, branch: str
) -> None:
    """What was said of other cases stays."""
    ledger = world.ledger()
    ledger.add_correction(correction())
    sealed = correction(fixture="h1", split="holdout", input=SEALED, why="That one is agreed to.")
    ledger.add_correction(sealed)
    ledger.flush("corrections")
    kept = sealed if fixture == "t1" else correction()
    gone = correction() if fixture == "t1" else sealed
    assert gone.why is not None
    assert gone.why in world.told(branch)

    ran = world.ratchet("forget", fixture)

    assert ran.code == ExitCode.DONE, ran.err
    assert world.ledger().corrections() == [kept]
    assert gone.why not in world.told(branch)


def test_the_proposer_reads_why_of_train_corrections_and_of_no_others(tmp_path: Path) -> None:
    """Also of a case that is not among the fixtures yet, so that no run can tell of it."""
    world = World.make(tmp_path / "p", model=script([idea(1, "Rule alpha.")]))
    ledger = world.ledger()
    new = correction(fixture="new", input="Is it new?", why="It is new to us.", via="comment")
    ledger.add_correction(new)
    ledger.add_correction(correction(fixture="h1", split="holdout", input=SEALED, why="Hush, h1."))
    ledger.flush("corrections")

    assert world.run().code == ExitCode.DONE

    (asked,) = world.ledger().traces(job="meta")
    told = str(asked.reply.request)
    assert "It is new to us." in told
    assert "Is it new?" in told
    assert "Hush" not in told
    assert SEALED not in told
