"""What is a command to the bot, and above all what is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_ratchet.github.commands import (
    LONG,
    NAMES,
    NEEDS,
    SYNONYMS,
    USES,
    Kind,
    SlashCommand,
    Unknown,
    parse,
)

REASON = "It drops the refund rule.\n\n> quoted\n- and *this*"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_understood(name: str) -> None:
    assert parse(f"/ratchet {name}") == SlashCommand.model_validate({"name": name})


@pytest.mark.parametrize(
    ("body", "name", "argument"),
    [
        pytest.param("/ratchet run triage", "run", "triage", id="argument"),
        pytest.param("/ratchet RUN Triage", "run", "Triage", id="case of the word alone"),
        pytest.param("/Ratchet Run", "run", "", id="capitals of a telephone"),
        pytest.param("  /ratchet   run \t triage  ", "run", "triage", id="white space"),
        pytest.param("\n \t\n\r\n /ratchet hold", "hold", "", id="blank lines before it"),
        pytest.param("/ratchet\u00a0run\u00a0triage", "run", "triage", id="no-break spaces"),
        pytest.param("/ratchet explain\r\nthanks", "explain", "", id="Windows line ends"),
        pytest.param("/ratchet hold\r\nthanks", "hold", "thanks", id="a brake's reason"),
        pytest.param("/ratchet run a b  c", "run", "a b  c", id="argument word for word"),
        pytest.param("/ratchet explain\n> quoted", "explain", "", id="text after it"),
        pytest.param("/ratchet gate " + "ab" * 20, "gate", "ab" * 20, id="a commit"),
        pytest.param("/ratchet", "help", "", id="no word"),
        pytest.param("/ratchet\nmerge", "help", "", id="a word on the next line is no word"),
        pytest.param(f"/ratchet reject {REASON}\n", "reject", REASON, id="reason of many lines"),
        pytest.param(f"/ratchet reject\n{REASON}", "reject", REASON, id="reason from line two"),
        pytest.param("/ratchet reject a\r\nb", "reject", "a\nb", id="reason with line ends"),
        pytest.param("/ratchet reject `rm` <!-- x -->", "reject", "`rm` <!-- x -->", id="markup"),
        pytest.param("/ratchet reject", "reject", "", id="no reason"),
    ],
)
def test_what_a_command_says(body: str, name: str, argument: str) -> None:
    assert parse(body) == SlashCommand.model_validate({"name": name, "argument": argument})


def test_the_first_line_counts_and_what_follows_a_pedal_is_not_forgotten() -> None:
    said = parse("/ratchet run a\n/ratchet merge")
    assert said == SlashCommand(name="run", argument="a", more="/ratchet merge")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param(" \n\t\n", id="blank"),
        pytest.param("Please /ratchet merge", id="in a sentence"),
        pytest.param("Hello\n/ratchet merge", id="second line"),
        pytest.param("> /ratchet merge", id="quoted"),
        pytest.param(">/ratchet merge", id="quoted without a space"),
        pytest.param("> /ratchet merge\n\n/ratchet merge", id="after a quotation"),
        pytest.param("```\n/ratchet merge\n```", id="fence"),
        pytest.param("~~~ sh\n/ratchet merge\n~~~", id="fence of tildes"),
        pytest.param("`/ratchet merge`", id="code span"),
        pytest.param("    /ratchet merge", id="indented code"),
        pytest.param("\t/ratchet merge", id="indented code by a tab"),
        pytest.param("\n\n    /ratchet merge", id="indented code after blank lines"),
        pytest.param("<!-- /ratchet merge -->", id="comment"),
        pytest.param("<!--\n/ratchet merge\n-->", id="comment of many lines"),
        pytest.param("<!-- x --> /ratchet merge", id="after a comment"),
        pytest.param("- /ratchet merge", id="list"),
        pytest.param("# /ratchet merge", id="heading"),
        pytest.param("/ratchetmerge", id="no space"),
        pytest.param("/ratchet-merge", id="another command"),
        pytest.param("/ratchet: merge", id="colon"),
        pytest.param("//ratchet merge", id="two slashes"),
        pytest.param("ratchet merge", id="no slash"),
        pytest.param("@bot /ratchet merge", id="mention first"),
        pytest.param("\ufeff/ratchet merge", id="byte order mark"),
        pytest.param("\u200b/ratchet merge", id="zero-width space"),
        pytest.param("\u202e/ratchet merge", id="turned around"),
        pytest.param("\uff0fratchet merge", id="wide slash"),
    ],
)
def test_what_is_no_command(body: str) -> None:
    assert parse(body) is None


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("merg", "merge"),
        ("Rejct", "reject"),
        ("statsu", "status"),
        ("me\u200brge", "merge"),
        ("merge!", "merge"),
        ("\u017ftatus", "status"),  # long s: no capital folding makes a command of it
        ("deploy", None),
        ("--help", "help"),
        ("stopp", "hold"),
        ("unhold", "resume"),
        ("Unpause", "resume"),
        ("unmerge", "revert"),
        ("rehold", None),
        ("nomerge", None),
        ("dontmerge", None),
        pytest.param("x" * 100_000, None, id="huge"),
    ],
)
def test_an_unknown_word_gets_the_nearest_command(word: str, nearest: str | None) -> None:
    assert parse(f"/ratchet {word} now") == Unknown.model_validate(
        {"word": word[:50], "nearest": nearest}
    )


@pytest.mark.parametrize(
    "body",
    [" " * 100_000, "\n" * 100_000, " \n" * 50_000 + "x", "/" * 100_000],
    ids=["spaces", "line ends", "blank lines", "slashes"],
)
def test_a_huge_comment_is_read_at_once(body: str) -> None:
    assert parse(body) is None


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_only_blank_text_may_stand_before_a_command(before: str, after: str) -> None:
    if before.strip() and parse(before) is None:
        assert parse(f"{before}/ratchet merge {after}") is None


@given(st.text())
def test_any_text_is_understood_or_left_alone(text: str) -> None:
    said = parse(f"/ratchet reject {text}")
    assert isinstance(said, SlashCommand)
    assert said.argument == text.replace("\r\n", "\n").replace("\r", "\n").strip()
    assert isinstance(parse(text), SlashCommand | Unknown | None)


def test_readers_may_ask_and_no_more() -> None:
    assert {name for name, role in NEEDS.items() if role == "read"} == {"explain", "status", "help"}
    assert set(NEEDS) == set(USES) == set(NAMES)


def test_every_command_says_whether_it_is_a_brake_or_a_pedal() -> None:
    kinds = {kind: {name for name in NAMES if USES[name].kind == kind} for kind in get_args(Kind)}
    assert kinds["brake"] == {"hold", "reject"}
    assert kinds["question"] == {"explain", "status", "help"}
    assert set().union(*kinds.values()) == set(NAMES)
    assert set(SYNONYMS.values()) <= kinds["brake"], "no pedal has another name"
    assert not set(SYNONYMS) & set(NAMES)


def test_the_documentation_has_every_command_with_who_may_give_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `/ratchet ([^`]+)` \| .* \| (write|anyone) \|$", page, re.MULTILINE)
    assert rows == [
        (f"{name} {USES[name].argument}".strip(), "write" if NEEDS[name] == "write" else "anyone")
        for name in NAMES
    ]


def test_only_what_a_person_says_takes_more_than_one_line() -> None:
    for name in NAMES:
        said = parse(f"/ratchet {name} a\nb")
        assert isinstance(said, SlashCommand)
        assert said.argument == ("a\nb" if name in LONG else "a")
