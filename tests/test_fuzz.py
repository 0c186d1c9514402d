"""Whatever is read from outside, the answer is a value or one kind of error, and it comes soon.

Bytes, texts and JSON that nobody would write: deep nesting, huge numbers, lone surrogates, NUL,
aliases that multiply. What is read as fixtures and as settings has such tests of its own in
test_fixtures and test_config.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from bot import bundles, config, fixtures, formats
from bot.agents import replies
from bot.core import commands, edits, events
from bot.core.commands import Command, Unknown
from bot.core.edits import EditError
from bot.core.records import Edit, Proposal
from bot.errors import RatchetError
from bot.formats import KINDS, Notes

if TYPE_CHECKING:
    from pathlib import Path

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ANY = st.text(st.characters(codec=None), max_size=60)  # lone surrogates and NUL among them
PIECES = st.sampled_from(
    [
        *("/ratchet", " ", "run", "revert", "12", "\n", "\r", "\x00", "\ud800", "\u202e", "é"),
        *("{", "}", "[", "]", '"', ":", ",", "```json\n", "```", "- ", "&a ", "*a", "!!python"),
        *('"edits"', '"op"', '"add"', '"lines"', '"input"', '"messages"', '"hypothesis"', "null"),
        *("ADD: ", "WHY: ", "1e999", "-0", "9" * 5000, "<<: ", "? ", "%YAML", "--- ", "propose("),
    ]
)
TEXTS = ANY | st.lists(PIECES, max_size=25).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["op", "edits", "lines", "text", "old", "new", "after", "hypothesis"])
            | ANY,
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
DEEP = [
    "[" * 100_000,
    '{"a":' * 50_000,
    "[" * 2_000 + "]" * 2_000,
    "- " * 5_000,
    "9" * 200_000,
    "\x00" * 1000,
    "\ud800",
    "a: &a [x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(50)),
    "{" * 3000 + '"op"' + "}" * 3000,
    "/ratchet " + "revert " * 20_000,
    "(" * 20_000,
    "propose(" * 5_000,
]


def read_fixtures(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    for name in ("f/train/a.yml", "f/train/a.jsonl"):
        file = fixtures.SourceFile(name, len(data), lambda: data)
        try:
            fixtures.parse([file], root="f", require=())
        except RatchetError:
            continue


def read_settings(text: str) -> None:
    try:
        config.load(text)
    except RatchetError:
        return


def read_comment(text: str) -> None:
    assert isinstance(commands.parse(text), Command | Unknown | None)


def read_answer(text: str) -> None:
    assert isinstance(replies.parse_reply(text, known_traces=()), Proposal | str)
    assert isinstance(replies.written_calls(text, tools=("propose", "read_trace")), list)


def read_rows(text: str) -> None:
    lines = text.splitlines(keepends=True)
    formats.recognise(lines, path="log")
    for kind in KINDS:
        try:
            list(formats.rows(lines, kind=kind, columns={}, notes=Notes("log")))
        except RatchetError:
            continue


EDIT: TypeAdapter[Edit] = TypeAdapter(Edit)
READERS = [read_fixtures, read_settings, read_comment, read_answer, read_rows]
named = pytest.mark.parametrize("reader", READERS, ids=lambda one: one.__name__)


@named
@QUICK
@given(text=TEXTS)
def test_any_text_is_read_or_refused(reader: Any, text: str) -> None:
    reader(text)


@named
@pytest.mark.parametrize("text", DEEP, ids=lambda text: repr(text[:12]))
def test_what_is_made_to_hang_or_to_fill_the_memory_is_read_or_refused(
    reader: Any, text: str
) -> None:
    reader(text)


@QUICK
@given(value=VALUES)
def test_any_value_a_tool_is_called_with_makes_a_proposal_or_a_reason(value: Any) -> None:
    for given_ in (value, {"edits": value}, {"hypothesis": "x", "edits": [value]}):
        assert isinstance(replies.read_call(given_, known_traces=()), Proposal | str)


@QUICK
@given(text=TEXTS, parts=st.lists(st.tuples(ANY, ANY), max_size=3), op=st.integers(0, 2))
def test_any_edit_is_applied_or_refused(text: str, parts: list[tuple[str, str]], op: int) -> None:
    """And what comes of it is Unicode that a file can hold."""
    made = []
    for old, new in parts:
        fields: dict[str, Any] = [
            {"op": "add", "after": old, "lines": new},
            {"op": "replace", "old": old, "new": new},
            {"op": "rewrite", "text": new},
        ][op]
        try:
            made.append(EDIT.validate_python(fields))
        except ValueError:  # pydantic's
            continue
    try:
        result = edits.apply(text, made, limits=edits.Limits(max_lines=100, max_chars=10_000))
    except (EditError, RatchetError):
        return
    assert result.encode("utf-8").decode("utf-8") == result


@QUICK
@given(value=st.dictionaries(st.sampled_from(["action", "comment", "issue", "review"]), VALUES))
def test_any_event_is_read_or_refused(value: dict[str, Any]) -> None:
    for name in ("issue_comment", "pull_request_review", "push"):
        try:
            events.read(name, value, repository="octo/demo")
        except RatchetError:
            continue


@QUICK
@given(text=TEXTS | VALUES.map(json.dumps))
def test_any_manifest_is_read_or_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RatchetError):
        bundles.read_manifest(tmp_path, kind="proposal")


@pytest.mark.parametrize("text", DEEP, ids=lambda text: repr(text[:12]))
def test_a_manifest_that_is_made_to_hang_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RatchetError):
        bundles.read_manifest(tmp_path, kind="proposal")
