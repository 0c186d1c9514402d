"""Files that hold cases, in the formats of other tools: lines in, rows out.

A row is a line number and cells. Tables (CSV, JSONL) have columns of any name, which
`skill_ratchet.cases.conversion` maps; the other formats give the keys of a fixture. What a fixture
cannot hold is left out and reported with its line, and never weakened. Documented in
docs/fixtures.md.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

import yaml

from skill_ratchet.base import documents
from skill_ratchet.base.documents import Problem, ReadError
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.project.config import Kind
from skill_ratchet.project.fixtures import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Row: TypeAlias = tuple[int, dict[str, Any]]  # line number (1 is the first), and the cells

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
TABLES: Final = frozenset({"csv", "jsonl"})
INPUTS: Final = ("input", "text", "message", "question", "prompt")
MAX_LINE: Final = 10_000_000  # characters; of a line, and of a document of many lines
MAX_BROKEN: Final = 10_000
LISTED: Final = 1_000  # of what is left out; the rest is counted
_LOOKED_AT: Final = 20  # lines, until one says what the file is

# The first line of a document that is written over several.
_BEGINNING: Final = re.compile(r'[\[{][\[{\s]*("\w+"\s*:\s*("[^"\\]*"\s*,?|[\[{\s]*))?')

# Parts of a message that are no part of what is asked or answered.
_THOUGHTS: Final = frozenset({"reasoning", "thinking", "redacted_thinking"})
# Answers that did not end by themselves are no example of a good one.
_CUT: Final = frozenset(
    {"length", "content_filter", "error", "max_tokens", "refusal", "model_context_window_exceeded"}
)
_INFERENCE: Final = frozenset({"chat", "generate_content", "text_completion", "invoke_agent"})


class _NoEquivalentError(Exception):
    """A fixture cannot say this."""


@dataclass(slots=True)
class Notes:
    """What was wrong with a file's rows, and which of them no fixture can hold."""

    path: str
    broken: list[Problem] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)
    unlisted: int = 0

    def fault(self, line: int, text: str) -> None:
        """Note a broken row."""
        self.broken.append(Problem(self.path, line, text))
        if len(self.broken) > MAX_BROKEN:
            raise RatchetError(
                f"{self.path}: more than {MAX_BROKEN:,} broken rows; the first is {self.broken[0]}",
                hint="Is it in another format? Name it: --format.",
            )

    def leave(self, line: int, text: str) -> None:
        """Note a row that has no equivalent."""
        if len(self.left_out) < LISTED:
            self.left_out.append(Problem(self.path, line, text))
        else:
            self.unlisted += 1


def recognise(lines: Iterable[str], *, path: str) -> Kind | None:
    """What the beginning of a file says it is; None when it is nothing known."""
    suffix = PurePath(path).suffix.lower()
    if suffix == ".csv":
        return "csv"
    if suffix in {".yml", ".yaml"}:
        return "promptfoo"
    text = (line for line in _without_bom(lines) if line.strip())
    first = list(itertools.islice(text, 1))
    if first and _is_document(first[0]):
        return _document_kind("".join(itertools.chain(first, itertools.islice(text, 100_000))))
    for line in itertools.chain(first, itertools.islice(text, _LOOKED_AT)):
        try:
            value = documents.load_json(line)
        except ReadError:
            continue
        if isinstance(value, dict):
            return _object_kind(value)
    return "jsonl" if suffix in {".jsonl", ".ndjson"} else None


def rows(
    lines: Iterable[str], *, kind: Kind, columns: Mapping[str, str], notes: Notes
) -> Iterator[Row]:
    """The rows of a file.

    Args:
        lines: With their line ends; a surrogate-escaped byte in one makes a broken row.
        kind: How the lines are written.
        columns: For ``promptfoo``: the variable of each fixture key, where one is named.
        notes: Takes the rows that are broken or left out.
    """
    return _READERS[kind](_without_bom(lines), columns, notes)


def _without_bom(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix(documents.BOM)


def _is_document(line: str) -> bool:
    """Whether a JSON value begins on this line and goes on; not a line that is just cut off."""
    return bool(_BEGINNING.fullmatch(line.strip()))


def _document_kind(text: str) -> Kind | None:
    if re.search(r'"resource(Spans|Logs)"\s*:', text):
        return "otel"
    if re.search(r'"evals"\s*:', text):
        return "evals"
    return "promptfoo" if re.search(r'"tests"\s*:', text) else None


def _object_kind(value: dict[str, Any]) -> Kind:
    request = value.get("request", value)
    if {"id", "input", "split"} <= value.keys() <= {*SHAPES, "split"}:
        return "fixtures"
    if {"resourceSpans", "resourceLogs"} & value.keys() or _has_messages(value):
        return "otel"
    if isinstance(value.get("evals"), list):
        return "evals"
    if isinstance(value.get("tests"), list):
        return "promptfoo"
    answered = {"response", "content"} & value.keys()
    if answered and isinstance(request, dict) and isinstance(request.get("messages"), list):
        return "messages"
    return "jsonl"


def _has_messages(value: dict[str, Any]) -> bool:
    """Whether it is one span, as some exporters write them a line each."""
    try:
        return any(key.startswith("gen_ai.") for key in _attributes(value))
    except ReadError:
        return False


# Tables ---------------------------------------------------------------------------------------


def _csv_rows(lines: Iterator[str], _: Mapping[str, str], notes: Notes) -> Iterator[Row]:
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
            if cells is None:
                return
            if header is not None and cells:
                yield line, _named(cells, header=header, line=line)
            elif cells:
                header = _header(cells, path=notes.path)
        except csv.Error as error:
            notes.fault(line, f"not valid CSV: {error}")
        except ReadError as error:
            notes.fault(error.line, error.text)


def _header(cells: list[str], *, path: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    for name, count in Counter(names).items():
        if count > 1:
            raise RatchetError(f"{path}:1: the column '{name}' is there {count} times")
    return names


def _named(cells: list[str], *, header: list[str], line: int) -> dict[str, Any]:
    if len(cells) != len(header):
        raise ReadError(f"{len(cells)} cells under {len(header)} columns", line=line)
    for cell in cells:
        documents.check_text(cell, line=line)
    return dict(zip(header, cells, strict=True))


def _jsonl_rows(lines: Iterator[str], _: Mapping[str, str], notes: Notes) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cells = documents.load_json(line, line=number)
        except ReadError as error:
            notes.fault(error.line, error.text)
            continue
        if isinstance(cells, dict):
            yield number, cells
        else:
            notes.fault(number, "not an object")


# Logs of model calls --------------------------------------------------------------------------


def _otel_rows(lines: Iterator[str], _: Mapping[str, str], notes: Notes) -> Iterator[Row]:
    """Rows of OTLP JSON: a request of an exporter a line, or one in the whole file."""
    for line, request in _requests(lines, notes):
        try:
            spans = list(_spans(request))
        except ReadError as error:
            notes.fault(line, error.text)
            continue
        for name, attributes in spans:
            try:
                if (cells := _span_cells(attributes)) is not None:
                    yield line, cells
            except ReadError as error:
                notes.fault(line, f"{name}: {error.text}")
            except _NoEquivalentError as error:
                notes.leave(line, f"{name}: {error}")


def _requests(lines: Iterator[str], notes: Notes) -> Iterator[Row]:
    first = next(lines, "")
    whole = itertools.chain([first], lines)
    if not _is_document(first):
        yield from _jsonl_rows(whole, {}, notes)
        return
    try:
        value = documents.load_json(_whole(whole, path=notes.path))
    except ReadError as error:
        raise RatchetError(f"{notes.path}: {error.text}") from error
    for request in value if isinstance(value, list) else [value]:
        if isinstance(request, dict):
            yield 1, request
        else:
            notes.fault(1, "not an object")


def _whole(lines: Iterable[str], *, path: str) -> str:
    parts: list[str] = []
    size = 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size > MAX_LINE:
            raise RatchetError(
                f"{path}: one document of more than {MAX_LINE // 1_000_000} MB",
                hint="A file with one JSON object a line may be of any size.",
            )
    return "".join(parts)


def _spans(request: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each span's and log record's name for messages, and its attributes with its events'."""
    found = [
        entry
        for outer, middle, inner in (
            ("resourceSpans", "scopeSpans", "spans"),
            ("resourceLogs", "scopeLogs", "logRecords"),
        )
        for resource in _objects(request, outer)
        for scope in _objects(resource, middle)
        for entry in _objects(scope, inner)
    ]
    for entry in found or ([request] if "attributes" in request else []):
        merged: dict[str, Any] = {}
        for event in _objects(entry, "events"):
            merged |= _attributes(event)
        merged |= _attributes(entry)
        yield f"span {entry.get('spanId') or entry.get('name') or '?'}", merged


def _objects(value: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = value.get(key) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ReadError(f"'{key}' is not a list of objects")
    return entries


def _attributes(entry: dict[str, Any]) -> dict[str, Any]:
    given = entry.get("attributes")
    if isinstance(given, dict):  # not OTLP, but what SDKs print
        return given
    return {
        key: _any_value(one.get("value"))
        for one in _objects(entry, "attributes")
        if isinstance(key := one.get("key"), str)
    }


def _any_value(value: Any) -> Any:
    """The value of OTLP's ``AnyValue``."""
    if not isinstance(value, dict):
        return value
    if isinstance(array := value.get("arrayValue"), dict):
        return [_any_value(one) for one in _objects(array, "values")]
    if isinstance(mapping := value.get("kvlistValue"), dict):
        entries = _objects(mapping, "values")
        return {str(one.get("key")): _any_value(one.get("value")) for one in entries}
    kinds = ("stringValue", "intValue", "doubleValue", "boolValue")
    return next((value[kind] for kind in kinds if kind in value), None)


def _span_cells(attributes: dict[str, Any]) -> dict[str, Any] | None:
    """The case of a span; None for a span that is not about a model's answer."""
    given = attributes.get("gen_ai.input.messages", attributes.get("gen_ai.prompt"))
    said = attributes.get("gen_ai.output.messages", attributes.get("gen_ai.completion"))
    if given is None:
        if attributes.get("gen_ai.operation.name") in _INFERENCE:
            raise _NoEquivalentError("no messages were captured")
        return None
    cells: dict[str, Any] = {"input": _input(_messages(given, role="user"))}
    if said is None:
        return cells
    answers = _messages(said, role="assistant")
    if len(answers) != 1:
        raise _NoEquivalentError(f"{len(answers)} answers; a fixture expects one")
    return cells | {"expected": _answer(answers[0], reason=answers[0].get("finish_reason"))}


def _messages(given: Any, *, role: str) -> list[dict[str, Any]]:
    """Messages as they are, or as a JSON text, or a plain text that was one message."""
    if isinstance(given, str):
        try:
            given = documents.load_json(given)
        except ReadError:
            if given.lstrip().startswith(("[", "{")):
                raise
            given = [{"role": role, "content": given}]
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise ReadError("its messages are not a list of objects")
    return given


def _messages_rows(lines: Iterator[str], _: Mapping[str, str], notes: Notes) -> Iterator[Row]:
    """Rows of a log of Anthropic's Messages API: a request and its response a line."""
    for line, entry in _jsonl_rows(lines, {}, notes):
        request = entry.get("request", entry)
        response = entry.get("response", {"content": entry.get("content")})
        try:
            if not isinstance(request, dict) or not isinstance(response, dict):
                raise ReadError("'request' and 'response' must be objects")  # noqa: TRY301 - one way out
            cells = {"input": _input(_messages(request.get("messages"), role="user"))}
            if response.get("type") == "error":
                raise _NoEquivalentError("the response is an error")  # noqa: TRY301 - one way out
            if response.get("content") is not None:
                cells["expected"] = _answer(response, reason=response.get("stop_reason"))
            yield line, cells
        except ReadError as error:
            notes.fault(line, error.text)
        except _NoEquivalentError as error:
            notes.leave(line, str(error))


def _input(messages: list[dict[str, Any]]) -> Any:
    """A fixture's input. Instructions are not part of it: they are what the skill replaces."""
    turns = []
    for message in messages:
        role = message.get("role")
        if role in {"system", "developer"}:
            continue
        if role not in {"user", "assistant"}:
            raise _NoEquivalentError(f"a message of the role '{role}'")
        turns.append({"role": role, "content": _text(message)})
    if not turns or any(not turn["content"].strip() for turn in turns):
        raise _NoEquivalentError("a message without text, or none")
    if turns[-1]["role"] != "user":
        raise _NoEquivalentError("its last message is the assistant's")
    return turns[0]["content"] if len(turns) == 1 else turns


def _answer(message: dict[str, Any], *, reason: Any) -> str:
    if reason in _CUT:
        raise _NoEquivalentError(f"the answer ended with '{reason}'")
    text = _text(message)
    if not text.strip():
        raise _NoEquivalentError("an answer without text")
    return text


def _text(message: dict[str, Any]) -> str:
    parts = message.get("parts", message.get("content"))
    if isinstance(parts, str):
        return parts
    if not isinstance(parts, list):
        raise ReadError("a message's content is neither text nor a list")
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _THOUGHTS:
            continue
        if kind != "text":
            raise _NoEquivalentError(f"a message with a part of the type '{kind}'")
        text = part.get("content", part.get("text"))
        if not isinstance(text, str):
            raise ReadError("a text part without text")
        texts.append(text)
    return "\n".join(texts)


# Evaluations ----------------------------------------------------------------------------------


def _evals_rows(lines: Iterator[str], _: Mapping[str, str], notes: Notes) -> Iterator[Row]:
    """Rows of a skill-creator's ``evals/evals.json``."""
    text = _whole(lines, path=notes.path)
    try:
        value = documents.load_json(text)
    except ReadError as error:
        raise RatchetError(f"{notes.path}: {error.text}") from error
    evals = value.get("evals") if isinstance(value, dict) else None
    if not isinstance(evals, list):
        raise RatchetError(f"{notes.path}: no list 'evals' in it")
    for number, line in enumerate(_lines_of(text, key="evals", count=len(evals))):
        one = evals[number]
        name = one.get("id", number + 1) if isinstance(one, dict) else number + 1
        if not isinstance(one, dict):
            notes.fault(line, f"eval {name}: not an object")
        elif one.get("files"):
            notes.leave(line, f"eval {name}: it has files, which a fixture cannot hold")
        else:
            yield line, _eval_cells(one)


def _lines_of(text: str, *, key: str, count: int) -> list[int]:
    """The line on which each entry of a list of a JSON text begins; the text is sound."""
    node = re.search(rf'"{key}"\s*:\s*\[', text)
    lines, at = [], node.end() if node else 0
    decoder = json.JSONDecoder()
    for _ in range(count):
        at = re.compile(r"[\s,]*").match(text, at).end()  # type: ignore[union-attr]  # matches nothing, too
        lines.append(text.count("\n", 0, at) + 1)
        at = decoder.raw_decode(text, at)[1]
    return lines


def _eval_cells(one: dict[str, Any]) -> dict[str, Any]:
    """What is expected is a description of success, so the skill's scorer has to be a judge."""
    wanted = [one["expected_output"]] if one.get("expected_output") else []
    stated = one.get("expectations", one.get("assertions")) or []
    for statement in stated if isinstance(stated, list) else [stated]:
        said = statement.get("text", statement) if isinstance(statement, dict) else statement
        wanted.append(f"- {said}")
    return {"input": one.get("prompt"), "expected": "\n".join(map(str, wanted)) or None}


# promptfoo ------------------------------------------------------------------------------------

_CONTAINS: Final[Mapping[str, Mapping[str, Any]]] = {
    "contains": {"type": "contains", "ignore_case": False},
    "contains-all": {"type": "contains", "ignore_case": False},
    "contains-any": {"type": "contains", "ignore_case": False, "all": False},
    "icontains": {"type": "contains"},
    "icontains-all": {"type": "contains"},
    "icontains-any": {"type": "contains", "all": False},
}
_LISTS: Final = frozenset(kind for kind in _CONTAINS if kind.endswith(("-all", "-any")))
_PLAIN_KEYS: Final = frozenset({"type", "value", "metric"})
_TEST_KEYS: Final = frozenset({"vars", "assert", "description", "metadata"})
_VARIABLE: Final = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
_TEMPLATE: Final = re.compile(r"\{\{|\{%|\{#")


def _promptfoo_rows(
    lines: Iterator[str], columns: Mapping[str, str], notes: Notes
) -> Iterator[Row]:
    """Rows of a promptfoo config, or of a file that is its list of tests."""
    try:
        node = documents.compose(_whole(lines, path=notes.path))
        tests, default = _tests(node)
        if default.get("assert") and not isinstance(default["assert"], list):
            raise ReadError("'defaultTest' has an 'assert' that is not a list")  # noqa: TRY301
    except ReadError as error:
        raise RatchetError(f"{notes.path}:{error.line}: {error.text}") from error
    for test in tests:
        line = test.start_mark.line + 1
        try:
            value = documents.value(test)
            yield line, _test_cells(value, default=default, columns=columns)
        except ReadError as error:
            notes.fault(max(line, error.line), error.text)
        except _NoEquivalentError as error:
            notes.leave(line, str(error))


def _tests(node: yaml.Node | None) -> tuple[list[yaml.Node], dict[str, Any]]:
    """The nodes of the tests, and what holds for all of them."""
    default: Any = {}
    if isinstance(node, yaml.MappingNode):
        entries = documents.pairs(node)
        if "scenarios" in entries:
            raise ReadError("'scenarios' cannot be imported", line=_at(entries["scenarios"][0]))
        if "defaultTest" in entries:
            default = documents.value(entries["defaultTest"][1]) or {}
        node = entries["tests"][1] if "tests" in entries else None
    if not isinstance(node, yaml.SequenceNode):
        raise ReadError("no list 'tests' in it", line=_at(node) if node else 1)
    if not isinstance(default, dict):
        raise ReadError("'defaultTest' is not a mapping")
    return list(node.value), default


def _at(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _test_cells(
    test: Any, *, default: dict[str, Any], columns: Mapping[str, str]
) -> dict[str, Any]:
    if not isinstance(test, dict):
        raise _NoEquivalentError("a test in another file")
    for part in (test, default):
        if strange := sorted(part.keys() - _TEST_KEYS):
            raise _NoEquivalentError(f"the key '{strange[0]}' of a test")
    variables = (default.get("vars") or {}) | _mapping(test.get("vars") or {})
    asserts = [*(default.get("assert") or []), *(test.get("assert") or [])]
    used: set[str] = set()
    cells = _asserted(asserts, variables=variables, used=used)
    places = {"input": _input_variable(variables, asked=columns.get("input"))} | {
        key: name for key, name in columns.items() if key not in {"input", "expected"} and name
    }
    for key, name in places.items():
        if name in variables:
            cells[key] = variables[name]
    if lost := sorted(variables.keys() - used - set(places.values())):
        raise _NoEquivalentError(
            f"the variable '{lost[0]}' has no place; name one: --column context={lost[0]}"
        )
    if not isinstance(cells.get("input"), str) or _is_reference(cells["input"]):
        raise _NoEquivalentError(f"the variable '{places['input']}' is not one text")
    return cells


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _NoEquivalentError("variables in another file")
    return value


def _input_variable(variables: Mapping[str, Any], *, asked: str | None) -> str:
    if asked:
        return asked
    fitting = [name for name in variables if name.casefold() in INPUTS]
    if len(fitting) == 1 or len(variables) == 1:
        return fitting[0] if fitting else next(iter(variables))
    raise _NoEquivalentError("which variable is the input is not clear; name it: --input NAME")


def _is_reference(text: str) -> bool:
    return text.startswith(("file://", "package:", "env:")) or bool(_TEMPLATE.search(text))


def _asserted(
    asserts: list[Any], *, variables: Mapping[str, Any], used: set[str]
) -> dict[str, Any]:
    """The expectation and the scorer that mean what the assertions mean together."""
    if not asserts:
        raise _NoEquivalentError("a test that asserts nothing")
    kinds = []
    for one in asserts:
        if not isinstance(one, dict) or not isinstance(one.get("type"), str):
            raise _NoEquivalentError("an assertion without a type")
        if strange := sorted(one.keys() - _PLAIN_KEYS):
            raise _NoEquivalentError(f"the key '{strange[0]}' of the assertion '{one['type']}'")
        kinds.append(one["type"])
    unknown = [kind for kind in kinds if kind not in {*_CONTAINS, "equals", "regex"}]
    if unknown:
        raise _NoEquivalentError(f"the assertion '{unknown[0]}'")
    values = [_value(one.get("value"), variables=variables, used=used) for one in asserts]
    joined = {kind.removesuffix("-all") for kind in kinds}
    if len(asserts) > 1 and joined not in ({"contains"}, {"icontains"}):
        raise _NoEquivalentError(f"the assertions {', '.join(kinds)} together")
    if kinds[0] in _CONTAINS:
        texts = [
            text for kind, value in zip(kinds, values, strict=True) for text in _texts(kind, value)
        ]
        expected = texts[0] if len(texts) == 1 else texts
        return {"expected": expected, "scorer": dict(_CONTAINS[kinds[0]])}
    (text,) = _texts(kinds[0], values[0])
    if kinds[0] == "equals":
        return {"expected": text, "scorer": {"type": "exact", "strip": False}}
    return {"expected": text, "scorer": {"type": "regex"}}


def _texts(kind: str, value: Any) -> list[str]:
    """The texts of an assertion; promptfoo reads a list in one text as separated by commas."""
    if kind in _LISTS and isinstance(value, list):
        texts = value
    elif kind in _LISTS and isinstance(value, str) and '"' not in value:
        texts = [part.strip() for part in value.split(",")]
    else:
        texts = [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise _NoEquivalentError(f"the value of the assertion '{kind}'")
    return texts


def _value(value: Any, *, variables: Mapping[str, Any], used: set[str]) -> Any:
    """A value with the test's variables filled in; other templates have no equivalent."""
    if isinstance(value, list):
        return [_value(one, variables=variables, used=used) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        used.add(match[1])
        given = variables.get(match[1])
        return given if isinstance(given, str) else match[0]

    filled = _VARIABLE.sub(fill, value)
    if _is_reference(filled):
        raise _NoEquivalentError("a value from a file, a program or a template")
    return filled


_READERS: Final[Mapping[Kind, Callable[..., Iterator[Row]]]] = {
    "csv": _csv_rows,
    "jsonl": _jsonl_rows,
    "fixtures": _jsonl_rows,
    "otel": _otel_rows,
    "messages": _messages_rows,
    "promptfoo": _promptfoo_rows,
    "evals": _evals_rows,
}
