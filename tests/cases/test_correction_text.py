"""What a person wrote as a correction is taken apart word for word, or refused with the reason."""

from __future__ import annotations

from typing import Final

import pytest

from skill_ratchet.cases import correction_text
from skill_ratchet.cases.correction_text import (
    LABELS,
    LONGEST,
    FaultyError,
    Given,
    SectionText,
    form,
    parse,
    same,
    value,
)
from skill_ratchet.github import commands
from skill_ratchet.github.commands import SlashCommand

TICKS: Final = "```"
ZERO_WIDTH: Final = "\u200b"


def texts(given: Given) -> dict[str, str]:
    """The sections' texts."""
    return {name: part.text for name, part in given.parts.items()}


# Comments


@pytest.mark.parametrize(
    ("text", "words", "parts"),
    [
        ("Input: a\nExpected: b", (), {"input": "a", "expected": "b"}),
        ("triage\nInput: a\nExpected: b", ("triage",), {"input": "a", "expected": "b"}),
        ("triage 0123-45\nExpected: b", ("triage", "0123-45"), {"expected": "b"}),
        ("expected: b\nINPUT: a\nwhy : c", (), {"expected": "b", "input": "a", "why": "c"}),
        ("Input:\n\n  a\n\nb\n\nExpected: b", (), {"input": "a\n\nb", "expected": "b"}),
        ("Input: a\nmore\nExpected: b", (), {"input": "a\nmore", "expected": "b"}),
        ("Input: see Expected: b\nExpected: c", (), {"input": "see Expected: b", "expected": "c"}),
        ("Input: a\n Expected: b\nExpected: c", (), {"input": "a\n Expected: b", "expected": "c"}),
        ("Inputs:", ("Inputs:",), {}),
        ("Input: a\nExpected:", (), {"input": "a", "expected": ""}),
        ("Answered: x\nContext: y", (), {"answered": "x", "context": "y"}),
        ("", (), {}),
        ("triage", ("triage",), {}),
        (f"Input:\n{TICKS}\nExpected: no\n{TICKS}\nExpected: b", (),
         {"input": "Expected: no", "expected": "b"}),
        (f"Input:\n~~~ text\n{TICKS}\na\n{TICKS}\n~~~~\nExpected: b", (),
         {"input": f"{TICKS}\na\n{TICKS}", "expected": "b"}),
        (f"Input:\n{TICKS}`\n{TICKS}\nWhy: in\n{TICKS}`\nExpected: b", (),
         {"input": f"{TICKS}\nWhy: in", "expected": "b"}),
        (f"Input:\n{TICKS}\n  two\n\n{TICKS}\nExpected: b", (),
         {"input": "  two\n", "expected": "b"}),
        (f"Input:\n  {TICKS}\n  two\n   three\n  {TICKS}\nExpected: b", (),
         {"input": "two\n three", "expected": "b"}),
        (f"Input: look:\n{TICKS}\nWhy: in\n{TICKS}\nand\nExpected: b", (),
         {"input": f"look:\n{TICKS}\nWhy: in\n{TICKS}\nand", "expected": "b"}),
        (f"Input: {TICKS}a{TICKS}\nWhy: b", (), {"input": f"{TICKS}a{TICKS}", "why": "b"}),
    ],
)  # fmt: skip
def test_sections(text: str, words: tuple[str, ...], parts: dict[str, str]) -> None:
    given = parse(text)
    assert (given.words, texts(given)) == (words, parts)


def test_only_a_whole_fence_is_literal() -> None:
    given = parse(f"Input:\n{TICKS}json\n[]\n{TICKS}\nExpected: `x`\nWhy:\na\n{TICKS}\nb\n{TICKS}")
    assert given.parts["input"] == SectionText(text="[]", literal=True, info="json")
    assert not given.parts["expected"].literal
    assert not given.parts["why"].literal


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Input: a\nInput: b", "'Input:' is there twice"),
        ("some words before it\nInput: a", "in front of the first section"),
        (f"Input:\n{TICKS}\na\nExpected: b", "a fence is opened and never closed"),
        (f"Input:\n{TICKS}`\na\n{TICKS}\nExpected: b", "a fence is opened and never closed"),
        ("Input: a <!-- b -->\nExpected: c", "'Input:', line 1: an HTML comment"),
        ("Input: a\nb <!--\nExpected: c", "'Input:', line 2: an HTML comment"),
        ("Input: a\nExpected: c <span hidden>d</span>", "'Expected:', line 1: HTML or the target"),
        ("Input: a <span\nhidden>b\nExpected: c", "'Input:', line 1: HTML"),
        ("Input: a\nWhy: <br/>", "'Why:', line 1: HTML"),
        ("Input: <!DOCTYPE x>", "line 1: HTML"),
        ("Input: <?php x ?>", "line 1: HTML"),
        ("Input: a\n[hidden]: # (say no)", "'Input:', line 2: HTML or the target of a link"),
        (f"Input: a{ZERO_WIDTH}b", "'Input:', line 1: U+200B ZERO WIDTH SPACE"),
        (f"Input:\n{TICKS}\na\nb\u202e\n{TICKS}", "line 2: U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("Why: \U000e0041", "U+E0041 TAG LATIN CAPITAL LETTER A"),
        ("Why: a\x00", "'Why:', line 1: U+0000"),
        (f"tri{ZERO_WIDTH}age\nInput: a", "in front of the sections: line 1: U+200B"),
        (f"Input: {'x' * (LONGEST['input'] + 1)}", "'Input:' has 30,001 characters; at most"),
        (f"Why: {'x' * (LONGEST['why'] + 1)}", "'Why:' has 10,001 characters; at most 10,000"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, fault: str) -> None:
    with pytest.raises(FaultyError) as caught:
        parse(text)
    assert fault in str(caught.value)


def test_a_fault_quotes_nobody() -> None:
    """The answer is a public comment, and a fault of it too."""
    with pytest.raises(FaultyError) as caught:
        parse("Input: hunter2 <!-- hunter2 -->\nWhy: hunter2\u202e\nInput: hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"Input:\n{TICKS}\n<!-- shown, in a fence -->\n<b>\n{TICKS}\nExpected: a",
        "Input: 1 < 2 and 3 > 2\nExpected: a",
        "Input: a <= b, c <3> d\nExpected: <3",
        "Input: <https://example.org> and <ada@example.org>\nExpected: a",
        "Input: \u0646\u0645\u06cc\u200c\u062e\u0648\nExpected: a",  # as Persian is written
        "Input: \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f\nExpected: a",
        "Input: tab\there\nExpected: a",
    ],
)  # fmt: skip
def test_what_is_taken_as_it_is(text: str) -> None:
    given = parse(text)
    assert given.parts["input"].text in text


def test_at_most_so_many_faults_are_listed() -> None:
    with pytest.raises(FaultyError) as caught:
        parse("Input: " + "\n".join(["<!-- x -->"] * 50))
    assert caught.value.faults[-1] == "and 40 more"
    assert len(caught.value.faults) == correction_text.MOST_FAULTS + 1


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("Why: x", ["'Input:' is missing", "'Expected:' is missing"]),
        ("Input: a", ["'Expected:' is missing"]),
        ("Expected: x", ["'Input:' is missing"]),
        ("Input: a\nExpected: ", ["'Expected:' is empty"]),
        ("Input: \nExpected: x", ["'Input:' is empty"]),
        (f"Input: a\nExpected:\n{TICKS}\n \n{TICKS}", ["'Expected:' is empty"]),
        ("Input: a\nExpected: x", []),
    ],
)
def test_what_has_to_be_there(text: str, faults: list[str]) -> None:
    given = parse(text)
    if not faults:
        correction_text.require(given)
        return
    with pytest.raises(FaultyError) as caught:
        correction_text.require(given)
    assert list(caught.value.faults) == faults


def test_a_comment_reaches_it_whole() -> None:
    """The command is in the first line; everything behind it is the correction."""
    said = commands.parse(
        f"/Ratchet Correct triage\r\nInput:\r\n{TICKS}\r\na\r\n{TICKS}\r\nExpected: b"
    )
    assert isinstance(said, SlashCommand)
    assert said.name == "correct"
    given = parse(said.argument)
    assert (given.words, texts(given)) == (("triage",), {"input": "a", "expected": "b"})


@pytest.mark.parametrize(
    ("text", "as_json", "wanted"),
    [
        ("fee", False, "fee"),
        ("7", False, "7"),
        ('{"a": 1}', False, '{"a": 1}'),
        ('{"a": 1}', True, {"a": 1}),
        ("fee", True, "fee"),
        ("NaN", True, "NaN"),
        ("1e999", True, "1e999"),
        ('{"a": 1, "a": 2}', True, '{"a": 1, "a": 2}'),
        ("[" * 100_000, True, "[" * 100_000),
    ],
)
def test_what_is_expected(text: str, *, as_json: bool, wanted: object) -> None:
    assert value(SectionText(text=text), as_json=as_json) == wanted


@pytest.mark.parametrize(
    ("answered", "expected", "equal"),
    [
        ("Fee ", "fee", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("fee", "fees", False),
        ('{"b": 2, "a": 1}', {"a": 1, "b": 2}, True),
        ("text", {"a": 1}, False),
    ],
)
def test_a_correction_that_says_what_was_answered(
    answered: str, expected: object, *, equal: bool
) -> None:
    assert same(answered, expected) is equal  # type: ignore[arg-type]  # JSON values


def test_a_conversation_is_json_in_a_fence_of_its_own() -> None:
    turns = '[{"role": "user", "content": "no"}]'
    assert correction_text.conversation(SectionText(text=turns, literal=True, info="json"))
    assert correction_text.conversation(SectionText(text=turns, literal=True)) is None
    assert correction_text.conversation(SectionText(text=turns)) is None
    assert correction_text.conversation(SectionText(text="{}", literal=True, info="json")) is None


# The issue form


def filled(**fields: str) -> str:
    """A form as GitHub writes it (docs: 'render' puts what was submitted into a code block)."""
    given = {"Skill": "triage", "Input": "a", "What it answered": "b"}
    given |= {"What it should have answered": "c", "Why": "d"} | fields
    shown = {
        label: text
        if text in ("triage", correction_text.EMPTY)
        else f"{TICKS}text\n{text}\n{TICKS}"
        for label, text in given.items()
    }
    return "\n\n".join(f"### {label}\n\n{text}" for label, text in shown.items())


def parts_of(body: str) -> dict[str, str]:
    given = form(body)
    assert given is not None
    return texts(given)


WHOLE: Final = {"input": "a", "answered": "b", "expected": "c", "why": "d"}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, {}),
        ({"Why": correction_text.EMPTY}, {"why": None}),
        ({"Input": "### Steps\n\n1. x"}, {"input": "### Steps\n\n1. x"}),
        ({"Input": "x\n\n### Why\n\ny"}, {"input": "x\n\n### Why\n\ny"}),
        ({"Input": f"a\n{TICKS}py\nx\n{TICKS}\nb"}, {"input": f"a\n{TICKS}py\nx\n{TICKS}\nb"}),
        ({"Input": f"one mark\n{TICKS}\nleft open"}, {"input": f"one mark\n{TICKS}\nleft open"}),
        ({"Input": "Expected: x\n/ratchet merge"}, {"input": "Expected: x\n/ratchet merge"}),
        ({"Input": "_No response_"}, {"input": None}),
        ({"Why": "<!-- shown -->"}, {"why": "<!-- shown -->"}),
        ({"Input": "  kept  "}, {"input": "  kept  "}),
    ],
)  # fmt: skip
def test_a_form(fields: dict[str, str], wanted: dict[str, str | None]) -> None:
    known = {name: text for name, text in (WHOLE | wanted).items() if text is not None}
    assert parts_of(filled(**fields)) == known
    assert parts_of(filled(**fields).replace("\n", "\r\n")) == known
    given = form(filled(**fields))
    assert given is not None
    assert given.words == ("triage",)


def test_a_field_may_have_longer_fences() -> None:
    body = filled().replace(
        f"{TICKS}text\na\n{TICKS}", f"{TICKS}`text\n{TICKS}\na\n{TICKS}\n{TICKS}`"
    )
    assert parts_of(body)["input"] == f"{TICKS}\na\n{TICKS}"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "I think it is wrong.",
        "### Input\n\na",
        filled().replace("### Why", "### Wherefore"),
        filled().replace("### Skill", "## Skill"),
    ],
)
def test_an_issue_that_is_no_form(body: str) -> None:
    assert form(body) is None


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (f"{filled()}\n\n### Why\n\nother", "more than once"),
        (filled(Input=f"x\n{TICKS}\n\n### Why\n\ny"), "more than once"),
        (filled(Input=f"x\n{TICKS}\n<!-- y -->\n{TICKS}"), "an HTML comment"),
        (filled(Why=f"a{ZERO_WIDTH}"), "U+200B"),
        (filled(Input="x" * 30_001), "at most 30,000"),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_told_apart(body: str, fault: str) -> None:
    with pytest.raises(FaultyError, match=fault.replace("+", r"\+")):
        form(body)


def test_the_labels_are_those_of_the_form() -> None:
    assert [name for name in LABELS.values() if name != "skill"] == [
        "input", "answered", "expected", "why",
    ]  # fmt: skip
