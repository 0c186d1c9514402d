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

from skill_ratchet.agents import replies
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases import correction_text, exporter, formats
from skill_ratchet.cases.correction_text import FaultyError, SectionText
from skill_ratchet.cases.formats import KINDS, Notes
from skill_ratchet.core import edits
from skill_ratchet.core.edits import EditError
from skill_ratchet.core.records import Edit, Proposal
from skill_ratchet.github import commands, comments, events
from skill_ratchet.github.commands import SlashCommand, Unknown
from skill_ratchet.ledger import bundles, journal
from skill_ratchet.project import config, fixtures, skill_file

if TYPE_CHECKING:
    from pathlib import Path

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SKILL = "skills/triage/SKILL.md"
MOST_SAID = 10_000  # characters of an error
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


def require_short(error: RatchetError) -> None:
    """Whatever was read, its error can be read, too."""
    assert len(str(error)) < MOST_SAID


def read_fixtures(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    for name in ("f/train/a.yml", "f/train/a.jsonl"):
        file = fixtures.SourceFile(name, len(data), lambda: data)
        try:
            fixtures.parse([file], root="f", require=())
        except RatchetError as error:
            require_short(error)


def read_settings(text: str) -> None:
    try:
        config.load(text)
    except RatchetError as error:
        require_short(error)


def read_comment(text: str) -> None:
    assert isinstance(commands.parse(text), SlashCommand | Unknown | None)


def read_answer(text: str) -> None:
    assert isinstance(replies.parse_reply(text, known_traces=()), Proposal | str)
    assert isinstance(replies.written_calls(text, tools=("propose", "read_trace")), list)


def read_correction(text: str) -> None:
    for read in (correction_text.parse, correction_text.form):
        try:
            found = read(text)
        except FaultyError as fault:
            require_short(fault)
            continue
        if found is not None:
            correction_text.conversation(found.parts.get("input", SectionText(text="")))
            size = sum(len(part.text) for part in found.parts.values())
            assert size <= max(len(text), 1)


def read_skill(text: str) -> None:
    try:
        told = skill_file.decode(text.encode("utf-8", "surrogatepass"), path=SKILL)
    except RatchetError as error:
        require_short(error)
        return
    assert told.encode().decode() == told
    assert len("\n".join(skill_file.check(told, path=SKILL))) < MOST_SAID + len(told)


def read_rows(text: str) -> None:
    lines = text.splitlines(keepends=True)
    formats.recognise(lines, path="log")
    for kind in KINDS:
        try:
            list(formats.rows(lines, kind=kind, columns={}, notes=Notes("log")))
        except RatchetError as error:
            require_short(error)


EDIT: TypeAdapter[Edit] = TypeAdapter(Edit)
READERS = [
    *(read_fixtures, read_settings, read_comment, read_correction, read_answer, read_skill),
    read_rows,
]
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


# Files that somebody else may have damaged


FILES = [
    b"",
    b"\xff\xfe{\x00",
    b"{" * 100_000,
    b"[" * 100_000 + b"\n\n",
    b'{"path": ["x"], "data": 1}\n{}\n',
    b'{"path": "x", "data": 1}\n\n',
    b'{"path": "\\ud800", "data": "x"}\n\n',
    b'{"action": 1e999}',
    b'{"comment": {"id": ' + b"9" * 10_000 + b"}}",
]
BYTES = st.binary(max_size=60) | TEXTS.map(lambda one: one.encode("utf-8", "surrogatepass"))


def read_event(file: Path) -> None:
    name = {"GITHUB_EVENT_NAME": "issue_comment", "GITHUB_EVENT_PATH": str(file)}
    _, event = comments.read_event(None, environ=name)
    events.read("issue_comment", event, repository="octo/demo")


def read_lines(file: Path) -> None:
    found, end = journal.read_journal(file)
    assert all(isinstance(one, str) for pair in found.items() for one in pair)
    assert 0 <= end <= file.stat().st_size


FILE_READERS = [read_event, read_lines]
of_a_file = pytest.mark.parametrize("reader", FILE_READERS, ids=lambda one: one.__name__)


def _read(reader: Any, file: Path) -> None:
    try:
        reader(file)
    except RatchetError as error:
        require_short(error)


@of_a_file
@QUICK
@given(data=BYTES, more=BYTES)
def test_any_file_is_read_or_refused(tmp_path: Path, reader: Any, data: bytes, more: bytes) -> None:
    (tmp_path / "file").write_bytes(data + b"\n" + more)
    _read(reader, tmp_path / "file")


@of_a_file
@pytest.mark.parametrize("data", FILES, ids=lambda data: repr(data[:24]))
def test_a_file_that_is_made_to_hang_is_read_or_refused(
    tmp_path: Path, reader: Any, data: bytes
) -> None:
    (tmp_path / "file").write_bytes(data)
    _read(reader, tmp_path / "file")


# What is written is read back


SEEN = st.text(st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_categories=["Cc"]))
VISIBLE = st.lists(SEEN, max_size=4).map("\n".join)


@QUICK
@given(texts=st.dictionaries(st.sampled_from(["input", "answered", "expected", "why"]), VISIBLE))
def test_a_correction_that_is_written_out_is_read_as_it_was(texts: dict[Any, str]) -> None:
    """Or refused for what nobody would see; never read as another."""
    try:
        found = correction_text.parse(correction_text.written(texts))
    except FaultyError:
        return
    assert {name: part.text.strip() for name, part in found.parts.items()} == {
        name: text.strip() for name, text in texts.items()
    }


LABELLED = {
    "input": "Input",
    "answered": "What it answered",
    "expected": "What it should have answered",
}


@QUICK
@given(texts=st.fixed_dictionaries(dict.fromkeys(("input", "answered", "expected"), VISIBLE)))
def test_the_issue_form_is_read_as_it_was_filled_in(texts: dict[str, str]) -> None:
    """GitHub puts each field into a fence of three marks, whatever is in it."""
    fields = {"Skill": "triage", **{LABELLED[name]: text for name, text in texts.items()}}
    body = "\n\n".join(
        f"### {label}\n\n{text if label == 'Skill' else f'```text{chr(10)}{text}{chr(10)}```'}"
        for label, text in (fields | {"Why": "So."}).items()
    )
    try:
        found = correction_text.form(body)
    except FaultyError:
        return
    assert found is not None
    read = {name: (found.text(name) or "").strip() for name in ("input", "answered", "expected")}
    assert read == {name: text.strip() for name, text in texts.items()}


JSON = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | SEEN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SEEN, inner, max_size=3),
    max_leaves=6,
)


@QUICK
@given(
    asked=VISIBLE.filter(str.strip),
    expected=JSON,
    why=VISIBLE,
    split=st.sampled_from(["train", "holdout"]),
)
def test_a_fixture_that_is_exported_is_read_as_it_was(
    asked: str, expected: Any, why: str, split: str
) -> None:
    line = {"id": "a", "input": asked, "expected": expected, "correction": why}
    first = _one_fixture(json.dumps(line), split)
    if first is not None:
        exported = json.loads(exporter.dump((first,)))
        assert exported.pop("split") == split
        assert _one_fixture(json.dumps(exported), split) == first


def _one_fixture(line: str, split: str) -> Any:
    data = line.encode()
    file = fixtures.SourceFile(f"f/{split}/a.jsonl", len(data), lambda: data)
    try:
        (found,) = fixtures.parse([file], root="f", require=())
    except RatchetError:
        return None
    return found
