"""A correction given in the terminal: where it goes, and that nothing typed is ever lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.cases import correction_text
from skill_ratchet.cases.correction_editor import CUT
from world import World, script

if TYPE_CHECKING:
    from pathlib import Path

CARD = ("--input", "My card is gone, what now?", "--expected", "yes")
KEY = "sk-ant-" + "a1B2" * 8


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "p", model=script([]), config={"feedback": {"ratio": 1}})


def correct(world: World, *said: str) -> dict[str, Any]:
    shown = world.ratchet("correct", *said, "--json")
    assert shown.code == ExitCode.DONE, shown.err
    read: dict[str, Any] = shown.json
    return read


def refusal(world: World, *said: str) -> str:
    shown = world.ratchet("correct", *said)
    assert shown.code == ExitCode.ERROR, shown.out
    assert "Traceback" not in shown.err
    return shown.err


def lines(world: World, split: str = "train") -> list[dict[str, Any]]:
    path = world.path / f"fixtures/triage/{split}/corrections.jsonl"
    return list(map(json.loads, path.read_text().splitlines())) if path.is_file() else []


class Editor:
    """Stands for a person's editor: gives back what ``types`` makes of what it was opened with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, types: str | None) -> None:
        self.types, self.opened = types, ""
        monkeypatch.setattr(click, "edit", self.edit)
        monkeypatch.setenv("VISUAL", "chosen")  # else none is started without a terminal

    def edit(self, text: str, **_: Any) -> str | None:
        self.opened = text
        return self.types if self.types is None else self.types + text[text.index(CUT) :]


# By options -----------------------------------------------------------------------------------


def test_a_correction_becomes_a_case(world: World) -> None:
    told = correct(world, *CARD, "--answered", "no", "--why", "It is about the card.")
    assert (told["outcome"], told["split"]) == ("new", "train")
    (case,) = lines(world)
    assert case["id"] == told["fixture"]
    assert (case["source"], case["author"]) == ("correction", "A Developer")
    assert case["correction"] == "It is about the card."
    (kept,) = world.ledger().corrections()
    assert (kept.output, kept.expected, kept.via) == ("no", "yes", "terminal")
    assert kept.id == told["correction"]
    world.git("add", "-A")
    world.commit("cases")
    assert world.ratchet("check").code == ExitCode.DONE


def test_said_twice_it_is_one(world: World) -> None:
    correct(world, *CARD)
    before = lines(world)
    again = correct(world, *CARD)
    assert (again["outcome"], again["file"]) == ("counted", None)
    assert lines(world) == before
    assert len(world.ledger().corrections()) == 1


def test_said_in_other_words_it_is_counted(world: World) -> None:
    correct(world, *CARD)
    told = correct(world, "--input", "My card is gone, what now??", "--expected", "yes")
    assert (told["outcome"], told["file"]) == ("counted", "fixtures/triage/train/corrections.jsonl")
    assert [case["count"] for case in lines(world)] == [2]


def test_a_conflict_changes_no_file_and_is_kept(world: World) -> None:
    correct(world, *CARD)
    before = lines(world)
    shown = world.ratchet("correct", *CARD[:2], "--expected", "no")
    assert shown.code == ExitCode.DONE
    assert "CONFLICT" in shown.out
    assert lines(world) == before
    assert {one.expected for one in world.ledger().corrections()} == {"yes", "no"}


def test_a_held_out_case_is_kept_apart_and_teaches_nobody(world: World) -> None:
    world.configure(feedback={"ratio": 0})
    told = correct(world, *CARD, "--why", "Because the card is gone for good.")
    assert told["split"] == "holdout"
    (case,) = lines(world, "holdout")
    assert "correction" not in case
    assert "My card is gone" in world.told("ratchet/holdout")
    assert "ratchet/ledger" not in world.branches() or (
        "My card is gone" not in world.told("ratchet/ledger")
    )


def test_secrets_are_taken_out_and_counted(world: World) -> None:
    told = correct(world, "--input", f"My key {KEY} is gone", "--expected", "yes")
    assert told["redacted"] == 1
    assert KEY not in json.dumps(lines(world))
    assert KEY.encode() not in world.objects()


def test_a_run_has_input_and_answer(world: World) -> None:
    scored = world.ratchet("eval", "--json").json
    run = next(case for case in scored["cases"] if case["score"] == 0)
    told = correct(world, "--trace", run["trace"], "--expected", "never", "--why", "No.")
    assert (told["outcome"], told["fixture"]) == ("conflict", run["id"])
    (kept,) = world.ledger().corrections()
    assert kept.output
    assert kept.version


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((*CARD, "--answered", " YES "), "nothing to correct"),
        (("--input", "  ", "--expected", "yes"), "empty"),
        (("--input", "", "--expected", "yes"), "empty"),  # of a script's variable: no editor
        (("--input", "a\u200bb", "--expected", "yes"), "U+200B"),
        (("--input", "x" * 40_000, "--expected", "yes"), "40,000 characters"),
        ((*CARD, "--trace", "no-such-trace"), "no trace matches"),
        (("no-such-skill", *CARD), "no skill 'no-such-skill'"),
    ],
)
def test_refused(world: World, said: tuple[str, ...], why: str) -> None:
    assert why in refusal(world, *said)
    assert lines(world) == lines(world, "holdout") == []
    assert world.ledger().corrections() == []


def test_a_reason_that_repeats_held_out_cases_is_refused(world: World) -> None:
    case = '{"input": "A long and quite particular held-out question about the old tram stop?"}'
    world.write("fixtures/triage/holdout/long.yml", case.replace("}", ', "expected": "yes"}'))
    world.commit("long")
    why = "See the quite particular held-out question about the old tram stop."
    assert "repeats text of held-out cases" in refusal(world, *CARD, "--why", why)
    assert world.ledger().corrections() == []


# A label that is new --------------------------------------------------------------------------

NEW = ("--input", "Is it neither the one nor the other?", "--expected", "maybe")


@pytest.mark.parametrize("ratio", [0, 1])
def test_a_label_that_no_train_case_has_is_one_for_its_own_case(world: World, ratio: int) -> None:
    """The first case of a new label may be a held-out one."""
    world.write("fixtures/triage/train/no.yml", '{"input": "Is it not?", "expected": "no"}')
    world.configure(feedback={"ratio": ratio})
    assert correct(world, *NEW)["outcome"] == "new"
    world.commit("cases")
    checked = world.ratchet("check")
    assert checked.code == ExitCode.DONE, checked.err
    assert world.ratchet("eval", "--split", "holdout").code == ExitCode.DONE


def test_where_labels_are_listed_no_other_is_taken(world: World) -> None:
    world.configure(skills={"triage": {"scorer": {"type": "label", "labels": ["yes", "no"]}}})
    assert "'maybe' is not one of labels" in refusal(world, *NEW)
    assert world.ledger().corrections() == []


# In an editor ---------------------------------------------------------------------------------


def test_what_is_missing_is_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = Editor(monkeypatch, "Input: Is it\nmine?\nExpected: yes\nWhy: It is.\n")
    assert correct(world, "--input", "Is it")["outcome"] == "new"
    assert editor.opened.startswith("Input: Is it\nExpected:\n")
    assert [case["input"] for case in lines(world)] == ["Is it\nmine?"]


def test_what_cannot_be_taken_is_offered_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = "Input: Is it mine?\nExpected:\n"
    Editor(monkeypatch, typed)
    assert "opens it again" in refusal(world)
    assert world.ledger().corrections() == []

    again = Editor(monkeypatch, "Input: Is it mine?\nExpected: yes\n")
    assert correct(world)["outcome"] == "new"
    assert again.opened.startswith(typed.strip())

    third = Editor(monkeypatch, None)
    assert "Nothing was written" in refusal(world)
    assert third.opened.startswith("Input:\nExpected:\n")


@pytest.mark.parametrize(
    ("editor", "why"),
    [
        ("false", "false: Editing failed"),
        ("./no-such-editor", "No such file"),
        ("sh -c 'printf Input:\\\\344 >$0'", "not UTF-8"),
    ],
)
def test_an_editor_that_fails_is_an_error_that_says_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, editor: str, why: str
) -> None:
    monkeypatch.setenv("VISUAL", editor)
    said = refusal(world)
    assert why in said
    assert "hint: " in said
    assert world.ledger().corrections() == []


def test_no_editor_is_guessed_without_a_terminal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script would wait for one that nobody sees."""
    monkeypatch.setattr(click, "edit", lambda *_, **__: pytest.fail("an editor was started"))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    said = refusal(world)
    assert "no terminal" in said
    assert "--expected" in said


def test_an_editor_that_is_left_records_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for typed in (None, "", "  \n"):
        Editor(monkeypatch, typed)
        assert "Nothing was written" in refusal(world)
    assert world.ledger().corrections() == []


@pytest.mark.parametrize(
    "text",
    ["one line", "two\nlines", "Expected: x\nWhy: y", "```\nfence\n```", "````\nfour\n````\nmore"],
)
def test_what_is_written_into_the_form_reads_back(text: str) -> None:
    texts: Any = {"input": text, "expected": "a"}
    assert correction_text.parse(correction_text.written(texts)).text("input") == text
