"""What a log shows of a skill at work is recorded once, each correction on its case's side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.core.records import digest
from world import World, script

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    {"ask": f"Please tell me about {word}.", "said": "fees", "truth": truth}
    for word, truth in [
        *((word, "cards") for word in ("my lost card", "the new card", "contactless", "a PIN")),
        *((word, "fees") for word in ("exchange", "the yearly price", "transfers abroad")),
        *((word, "") for word in ("nothing in particular", "your weather")),
    ]
]
COLUMNS = {"input": "ask", "expected": "truth", "output": "said"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A project whose config says what its logs look like."""
    skill = {"scorer": "exact", "log": {"format": "jsonl", "columns": COLUMNS}}
    world = World.make(tmp_path / "p", model=script([]), config={"skills": {"triage": skill}})
    log = world.path.parent / "log.txt"
    log.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return world


def bring(world: World, *options: str) -> dict[str, object]:
    shown = world.ratchet("import", str(world.path.parent / "log.txt"), "--json", *options)
    assert shown.code == ExitCode.DONE, shown.err
    read: dict[str, object] = shown.json
    return read


def test_the_config_says_how_a_log_is_written(world: World) -> None:
    told = bring(world)
    assert told["answers"] == {"seen": 9, "corrected": 4}
    assert told["format"] == "jsonl"
    files = told["files"]
    assert isinstance(files, list)
    assert {name.rpartition("/")[2] for name in files} == {"corrections.jsonl", "imported.jsonl"}


def test_each_correction_is_recorded_on_the_side_of_its_case(world: World) -> None:
    bring(world)
    ledger = world.ledger()
    known = {one.fixture: one for one in ledger.corrections()}
    assert len(known) == 4
    assert {(one.output, one.expected, one.via) for one in known.values()} == {
        ("fees", "cards", "import")
    }
    for one in known.values():
        there = "ratchet/ledger" if one.split == "train" else "ratchet/holdout"
        apart = {"ratchet/ledger", "ratchet/holdout"} - {there}
        text = str(one.input)
        assert text in world.told(there)
        assert all(text not in world.told(name) for name in apart & world.branches())


def test_the_same_log_twice_counts_once(world: World) -> None:
    bring(world)
    again = bring(world)
    ledger = world.ledger()
    (seen,) = ledger.answers()
    assert (seen.answers, seen.corrected, seen.version) == (9, 4, None)
    assert seen.similarity is not None
    assert 5 / 9 < seen.similarity < 1
    assert len(ledger.corrections()) == 4
    assert again["fixtures"] == []


def test_a_ref_says_which_text_gave_the_answers(world: World) -> None:
    bring(world, "--answered-by", "HEAD")
    (seen,) = world.ledger().answers()
    assert seen.version == digest("skill", world.skill())
    assert {one.version for one in world.ledger().corrections()} == {seen.version}


def test_an_option_wins_over_the_config(world: World) -> None:
    shown = world.ratchet(
        "import", str(world.path.parent / "log.txt"), "--output", "", "--expected", "", "--json"
    )
    assert shown.code == ExitCode.DONE, shown.err
    assert shown.json["answers"] is None
    assert world.ledger().answers() == []
