"""A trace as what was said in it, block by block, whichever provider made it. Pure.

Providers keep their own bodies: content blocks (``anthropic``, ``scripted``), a prompt
(``local``), a program's output (``command``). What is of none of these shapes is shown as JSON;
nothing is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic_core import PydanticSerializationError, to_json

from bot.core import render
from bot.runner import FILTER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import JsonValue

    from bot.core.records import Reply, Trace, Usage

Part = Literal["sent", "came back", "wanted"]
Role = Literal["system", "user", "assistant", "tool", "program", "fixture"]
_TOLD: Final = {"text": "text", "thinking": "thinking", "redacted_thinking": "data"}
_MARKS: Final = frozenset({"type", "cache_control", "signature"})  # of a block, beside its words
_OUTPUTS: Final = ("stdout", "stderr", "trace")


@dataclass(frozen=True, slots=True)
class Block:
    """One thing that was said: by whom, what kind of thing it is, and the text of it."""

    part: Part
    role: Role
    kind: str  # 'text', 'thinking', 'tool call', ...
    name: str  # of a tool; mostly empty
    text: str


def blocks(trace: Trace) -> tuple[Block, ...]:
    """What was sent, what came back, and what a good answer is, in this order."""
    found = [*_sent(trace), *_came_back(trace)]
    if trace.expected is not None:
        found.append(Block("wanted", "fixture", "expected", "", words(trace.expected)))
    if trace.correction is not None:
        found.append(Block("wanted", "fixture", "correction", "", trace.correction))
    return tuple(found)


def words(value: JsonValue) -> str:
    """Text as it is, anything else as JSON that can be read."""
    if isinstance(value, str):
        return value
    try:
        return to_json(value, indent=2).decode()  # six times as quick as what is below
    except PydanticSerializationError:  # half a surrogate pair
        return json.dumps(value, indent=2, ensure_ascii=False)


def _sent(trace: Trace) -> Iterator[Block]:
    request = trace.reply.request
    body: Mapping[str, Any] = request if isinstance(request, dict) else {}
    if system := body.get("system"):
        yield from _content(system, part="sent", role="system")
    if tools := body.get("tools"):
        yield Block("sent", "system", "tools", _names(tools), words(tools))
    messages, prompt = body.get("messages"), body.get("prompt")
    if isinstance(messages, list) and messages:
        for message in messages:
            yield from _message(message)
    elif isinstance(prompt, str):
        yield Block("sent", "user", "prompt", "", prompt)
    elif trace.fixture_input:
        yield Block("sent", "user", "text", "", trace.fixture_input)


def _names(tools: JsonValue) -> str:
    found = tools if isinstance(tools, list) else []
    return ", ".join(str(tool.get("name", "?")) for tool in found if isinstance(tool, dict))


def _message(message: JsonValue) -> Iterator[Block]:
    if not isinstance(message, dict):
        yield Block("sent", "user", "other", "", words(message))
        return
    role: Role = "assistant" if message.get("role") == "assistant" else "user"
    yield from _content(message.get("content"), part="sent", role=role)


def _content(content: JsonValue, *, part: Part, role: Role) -> Iterator[Block]:
    """The blocks of a message's content, which is text or a list of blocks."""
    if isinstance(content, list):
        yield from (_block(one, part=part, role=role) for one in content)
    elif content is not None:
        yield Block(part, role, "text", "", words(content))


def _block(one: JsonValue, *, part: Part, role: Role) -> Block:
    if not isinstance(one, dict):
        return Block(part, role, "text", "", words(one))
    kind = str(one.get("type", "other"))
    if kind.endswith("tool_use"):  # also what a server's tools were called with
        return Block(part, role, "tool call", str(one.get("name", "")), words(one.get("input")))
    if kind.endswith("tool_result"):
        kind = "failed tool result" if one.get("is_error") else "tool result"
        return Block(part, "tool", kind, "", _result(one.get("content")))
    told = one.get(_TOLD.get(kind, ""))
    # A known kind with more in it than its text is shown whole.
    whole = not isinstance(told, str) or one.keys() - _MARKS - {_TOLD[kind]}
    return Block(part, role, kind.replace("_", " "), "", words(one if whole else told))


def _result(content: JsonValue) -> str:
    """A tool's answer: its texts, and JSON for whatever else is in it."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    return "\n\n".join(
        text if isinstance(text, str) else words(part)
        for text, part in zip(texts, parts, strict=True)
        if part is not None
    )


def _came_back(trace: Trace) -> Iterator[Block]:
    reply = trace.reply
    body: Mapping[str, Any] = reply.response if isinstance(reply.response, dict) else {}
    if isinstance(content := body.get("content"), list):
        yield from _content(content, part="came back", role="assistant")
        return
    if reply.text is not None:
        yield Block("came back", "assistant", "text", "", reply.text)
    for name in _OUTPUTS:  # of a command; its standard output is its answer
        if name in body and body[name] and (name != "stdout" or reply.text is None):
            yield Block("came back", "program", name, "", words(body[name]))


def facts(trace: Trace) -> list[tuple[str, str]]:
    """What is said above the conversation: whose run it is, what it cost and came to."""
    reply, key, score = trace.reply, trace.key, trace.score
    number = "on the cases it aimed at" if key and key.replicate == FILTER else ""
    run = trace.job != "meta"
    found = {
        "Score": f"{render.percent(score.value)} by {score.scorer}" if score else "none" * run,
        "Why": score.reason if score else "",
        "Error": reply.error or trace.scorer_error or "",
        "Case": trace.fixture,
        "Run": number or (str(key.replicate + 1) if key and run else ""),
        "Side": trace.side or "",
        "Split": trace.split if run else "",
        "Tags": ", ".join(trace.tags),
        "Job": trace.job,
        "Model": f"{trace.model} ({trace.provider})",
        "Usage": _usage(reply.usage),
        "Cost": render.dollars(reply.usd),
        "Latency": f"{reply.latency:.2f} s",
        "Stopped": reply.stop_reason or "",
        "Begun": _moment(trace.started_at),
        "Request": reply.request_id or "",
        "Id": trace.id,
    }
    return [(name, said) for name, said in found.items() if said]


def _moment(stamp: str) -> str:
    """To the second, ``2026-07-01 12:30:05 UTC``; as it is if it is no time."""
    try:
        return datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return stamp


def _usage(usage: Usage) -> str:
    said = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    if usage.cache_read_tokens or usage.cache_write_tokens:
        said += f"; cache: {usage.cache_read_tokens:,} read, {usage.cache_write_tokens:,} written"
    return said


def bodies(reply: Reply) -> dict[str, str]:
    """The provider's own request and response as JSON that can be read; those there are."""
    kept = {"request": reply.request, "response": reply.response}
    return {name: words(value) for name, value in kept.items() if value is not None}
