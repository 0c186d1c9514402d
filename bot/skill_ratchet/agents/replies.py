"""What a model wrote, read: the edit it proposes, or the tool it calls in words.

Models put their JSON into fences, into prose, into a tool call written as text, or write no JSON
at all; whatever stands there is data and is taken or refused, never followed.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from skill_ratchet.core.records import AddLines, Proposal, Replace, Rewrite

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PROPOSER = "meta"

_WRAPPED = 6  # levels: tool_calls, list, call, function, arguments as text, list
_WRAPPERS = ("input", "arguments", "parameters", "function", "tool_calls", "proposal")
_FIELDS = frozenset({*AddLines.model_fields, *Replace.model_fields, *Rewrite.model_fields})

_DECODER = json.JSONDecoder(strict=False)  # models put real line breaks into JSON strings
_TRIES = 100  # broken pieces of JSON in one reply, after which nothing is looked for
_OPENING = re.compile(r'[\[{](?=\s*["\[{])')
_TRAILING_COMMA = re.compile(r",\s*[\]}]")
_STRING_OR_COMMA = re.compile(r'"(?:\\.|[^"\\])*+(?:"|\\?\Z)|,(?=\s*[\]}])', re.DOTALL)
_RULE = re.compile(r"^[ \t]*(?:[-*] |\d+[.)] )?ADD:[ \t]*(\S.*)$", re.MULTILINE)
_WHY = re.compile(r"^[ \t]*(?:[-*] |\d+[.)] )?WHY:[ \t]*(\S.*)$", re.MULTILINE)
_THINKING = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_NAMES = ("tool", "name", "function", "tool_name")
_INPUTS = ("input", "arguments", "parameters", "args")
# A tool's name and what stands between it and its input; of JSON that lost a brace, its key.
_BESIDE = (
    r"(?<!\w)(?:{})(?!\w)"
    r'(?:"\s*,\s*"(?:input|arguments|parameters|args)"\s*:|[^\n{{"]{{0,60}})'
    r"\s*(?:```(?:json)?\s*)?(?=\{{)"
)
_TAG = r"(?:<\|\w+\|>)?"
_PYTHON_CALL = re.compile(rf"^[ \t]*{_TAG}(\[?\w+\([^\n]*\)\]?){_TAG}[ \t]*$", re.MULTILINE)


class Call(NamedTuple):
    """A tool the model asks for. ``id`` is the one an API gave the call, empty for one in words."""

    name: str
    input: Any
    id: str = ""


def parse_reply(
    text: str, *, known_traces: Collection[str], model: str | None = None, cut: bool = False
) -> Proposal | str:
    """The proposal that a reply ends with, or in words why there is none. Never raises.

    JSON is taken wherever it stands (fenced, bare, or a tool call written as text) and the last
    proposal counts; ``ADD:`` lines count when no JSON does.

    Args:
        text: What the model wrote.
        known_traces: Ids a target may have; others are dropped.
        model: The model's id, for the record.
        cut: The reply ended at the token limit: then only complete JSON counts, since a last
            line may be half a line.
    """
    thinking = _THINKING.match(text)
    start = thinking.end() if thinking else 0
    values, flaw = _json_values(text, start)
    drafts = [draft for value in values if (draft := _draft(value))]
    if not drafts and not flaw and not cut:
        drafts = _bare_edits(values)
    if not drafts and not cut:
        drafts = _rule_lines(text[start:])
    if drafts:
        return _proposal(drafts[-1], known_traces=known_traces, model=model)
    if cut:
        return "the reply was cut at the token limit before its edit was complete"
    if not text.strip():
        return "the reply is empty"
    return flaw or "no edit found in the reply"


def read_call(
    given: Any, *, known_traces: Collection[str], model: str | None = None
) -> Proposal | str:
    """The proposal that a call of ``propose`` makes, or in words why it makes none."""
    if not isinstance(given, dict):
        return "the call of propose has no fields"
    return _proposal(_draft(given) or given, known_traces=known_traces, model=model)


def written_calls(text: str, *, tools: Collection[str]) -> list[Call]:
    """The calls of these tools that a reply makes in words, in order. Never raises.

    Forms that models print when they have no tool channel: ``{"tool": ..., "input": ...}``,
    ``{"name": ..., "arguments": ...}`` in any wrapping, a name and its JSON
    (``<function=name>{...}``, ``[TOOL_CALLS]name[ARGS]{...}``) and ``name(key="value")``.
    """
    thinking = _THINKING.match(text)
    start = thinking.end() if thinking else 0
    calls = [call for value in _json_values(text, start)[0] for call in _called(value, tools)]
    if not calls:
        calls = list(_beside(text, start, tools))
    if not calls:
        lines = _PYTHON_CALL.findall(text, start)
        calls = [call for line in lines for call in _python_calls(line) if call.name in tools]
    return calls


def _called(value: Any, tools: Collection[str], depth: int = 0) -> Iterator[Call]:
    if depth > _WRAPPED:
        return
    if isinstance(value, list):
        for item in value:
            yield from _called(item, tools, depth + 1)
    if not isinstance(value, dict):
        return
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), "")
    if name in tools:
        yield Call(name, _given(value))
        return
    for key in ("function", "tool_calls", "tool_call"):
        yield from _called(value.get(key), tools, depth + 1)


def _given(call: dict[str, Any]) -> Any:
    """What a call is given: under one of the usual keys, or beside the name."""
    for key in _INPUTS:
        if key in call:
            return _object(call[key]) if isinstance(call[key], str) else call[key]
    return {key: value for key, value in call.items() if key not in (*_NAMES, "type")}


def _object(text: str) -> Any:
    values = _json_values(text)[0]
    return values[0] if values else {}


def _beside(text: str, start: int, tools: Collection[str]) -> Iterator[Call]:
    """Calls that are a name with a JSON object behind it."""
    pattern = re.compile(_BESIDE.format("|".join(map(re.escape, tools))))
    for found in itertools.islice(pattern.finditer(text, start), _TRIES):
        name = next(name for name in tools if found[0].startswith(name))
        with contextlib.suppress(ValueError, RecursionError):
            yield Call(name, _decode(text, found.end())[0])


def _python_calls(line: str) -> list[Call]:
    """``name(key="value")`` or a list of such, with constants only, read without running it."""
    with (
        contextlib.suppress(SyntaxError, ValueError, TypeError, RecursionError, MemoryError),
        warnings.catch_warnings(action="ignore"),  # of "\d", which in a pattern means what it says
    ):
        node = ast.parse(line, mode="eval").body
        nodes = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
        return [
            Call(
                call.func.id,
                {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg},
            )
            for call in nodes
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args
        ]
    return []


def _json_values(text: str, start: int = 0) -> tuple[list[Any], str | None]:
    """Every JSON array and object in a text, and what is wrong with the first broken one."""
    values: list[Any] = []
    flaws: list[str] = []
    while len(flaws) < _TRIES and (opening := _OPENING.search(text, start)):
        try:
            value, start = _decode(text, opening.start())
            values.append(value)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno} column {error.colno}"
            flaws.append(f"malformed JSON in the reply: {error.msg}: {where}")
            start = opening.end()
        except (ValueError, RecursionError):  # a number or a nesting beyond what Python reads
            flaws.append("malformed JSON in the reply: a number too long or nested too deep")
            start = opening.end()
    return values, (flaws[0] if flaws else None)


def _decode(text: str, start: int) -> tuple[Any, int]:
    """The JSON value at ``start`` and where it ends; trailing commas are forgiven."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError:
        if not _TRAILING_COMMA.search(text, start):
            raise
        # Blanks of the same length keep the offsets; commas within strings stay.
        tail = _STRING_OR_COMMA.sub(_blank_comma, text[start:])
        with contextlib.suppress(ValueError):
            value, end = _DECODER.raw_decode(tail)
            return value, start + end
        raise


def _blank_comma(found: re.Match[str]) -> str:
    return " " if found[0] == "," else found[0]


def _draft(value: Any, depth: int = 0) -> dict[str, Any] | None:
    """The object with ``edits`` in a value: itself, or what a tool call wraps."""
    if depth > _WRAPPED:
        return None
    if isinstance(value, str):
        value = _json_values(value)[0]
    if isinstance(value, dict) and "edits" in value:
        return value
    inside = _inside(value)
    return next((draft for item in inside if (draft := _draft(item, depth + 1))), None)


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        return (value[key] for key in _WRAPPERS if key in value)
    return reversed(value) if isinstance(value, list) else iter(())


def _bare_edits(values: list[Any]) -> list[dict[str, Any]]:
    """Edits given without the object around them, as one draft."""
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    edits = [item for item in flat if isinstance(item, dict) and "op" in item]
    return [{"edits": edits}] if edits else []


def _rule_lines(text: str) -> list[dict[str, Any]]:
    """The ``ADD:`` lines of a reply as one draft."""
    rules, why = [rule.rstrip() for rule in _RULE.findall(text)], _WHY.search(text)
    if not rules:
        return []
    hypothesis = why[1].rstrip() if why else "adds rule lines; no reason given"
    return [{"hypothesis": hypothesis, "edits": [{"op": "add", "lines": "\n".join(rules)}]}]


def _proposal(
    draft: dict[str, Any], *, known_traces: Collection[str], model: str | None
) -> Proposal | str:
    edits, hypothesis, targets = (draft.get(key) for key in ("edits", "hypothesis", "targets"))
    start = draft.get("start")
    start = start if isinstance(start, str) and start.strip() else None
    edits = [edits] if isinstance(edits, dict) else edits
    if not isinstance(edits, list) or not (edits or start):
        return "the reply proposes no edit"
    named = [t for t in targets if isinstance(t, str)] if isinstance(targets, list) else []
    fields = {
        "proposer": PROPOSER,
        "model": model,
        "hypothesis": hypothesis if isinstance(hypothesis, str) else "",
        "targets": tuple(dict.fromkeys(t for t in named if t in known_traces)),
        "edits": tuple(_edit(edit) for edit in edits),
        "start": start,
    }
    try:
        proposal = Proposal.model_validate(fields)
        proposal.model_dump_json()
    except ValidationError as error:
        return f"the proposal is not well formed: {_words(error)}"
    except PydanticSerializationError:
        return "the proposal has half of a surrogate pair, which is no text, in it"
    return proposal


def _edit(edit: Any) -> Any:
    """An edit without the keys we do not know, its lines as one text, an empty anchor as none."""
    if not isinstance(edit, dict):
        return edit
    known = {key: value for key, value in edit.items() if key in _FIELDS}
    lines = known.get("lines")
    if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
        known["lines"] = "\n".join(lines)
    if known.get("after") == "":
        known["after"] = None
    return known


def _words(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, detail['loc']))}: "
        + ("'op' is none of add, replace, rewrite" if "tag" in detail["type"] else detail["msg"])
        for detail in details[:3]
    )
