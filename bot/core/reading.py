"""One model call as a person reads it: who said what, in the order it was said.

Knows the bodies of the Messages API and of chat completions. What it does not know is shown as
JSON under a name of its own, so no words are left out. The bodies, field by field, are elsewhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bot.core.records import Trace

ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool result",
}
# Of a request, what is shown as somebody's words or says nothing of what was asked.
_SAID: Final = frozenset({"system", "messages", "prompt"})


class Block(NamedTuple):
    """Something that was said, and by whom or as what."""

    name: str
    text: str


def blocks(trace: Trace) -> list[Block]:
    """The call from the system's words to the score."""
    reply = trace.reply
    asked = list(_asked(reply.request))
    if not asked and trace.fixture_input:
        asked = [Block("user", trace.fixture_input)]
    answered = list(_answered(reply.response))
    said = "".join(block.text for block in answered if block.name == "answer")
    if reply.text is not None and said != reply.text:
        answered.append(Block("answer", reply.text))
    elif reply.text == "" and not said:
        answered.append(Block("answer", ""))
    return [*asked, *answered, *_wanted(trace), *judged(trace)]


def judged(trace: Trace) -> list[Block]:
    """The score with its reason, if there is one."""
    if trace.score is None:
        return []
    return [Block("score", f"{trace.score.value:g} by {trace.score.scorer}: {trace.score.reason}")]


def spelt(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _wanted(trace: Trace) -> list[Block]:
    parts = [("expected", trace.expected), ("correction", trace.correction)]
    return [Block(name, spelt(value)) for name, value in parts if value not in (None, "")]


def _asked(request: Any) -> Iterator[Block]:
    if not isinstance(request, dict):
        if request not in (None, ""):
            yield Block("request", spelt(request))
        return
    if request.get("system"):
        yield from _content(request["system"], "system")
    if request.get("prompt"):
        yield Block("prompt", spelt(request["prompt"]))
    messages = request.get("messages")
    for message in messages if isinstance(messages, list) else [messages] if messages else ():
        yield from _message(message)
    rest = {key: value for key, value in request.items() if key not in _SAID}
    if rest:
        yield Block("settings", spelt(rest))


def _answered(response: Any) -> Iterator[Block]:
    if not isinstance(response, dict):
        if response not in (None, ""):
            yield Block("response", spelt(response))
        return
    choices = response.get("choices")
    if "content" in response:
        yield from _content(response["content"], "answer")
        rest = {key: value for key, value in response.items() if key != "content"}
    elif isinstance(choices, list) and choices:
        for choice in choices:
            message = choice.get("message") if isinstance(choice, dict) else None
            yield from _message(message, "answer") if message else iter([_unknown(choice)])
        rest = {key: value for key, value in response.items() if key != "choices"}
    else:
        rest = response
    if rest:
        yield Block("response", spelt(rest))


def _message(message: Any, name: str | None = None) -> Iterator[Block]:
    """One turn; ``name`` is whose words plain text is, instead of its role's."""
    if not isinstance(message, dict):
        yield _unknown(message)
        return
    role = str(message.get("role", ""))
    for key in ("reasoning_content", "reasoning"):
        if message.get(key):
            yield Block("thinking", spelt(message[key]))
    if message.get("content") not in (None, ""):
        yield from _content(message["content"], name or ROLES.get(role, role or "message"))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        yield Block("tool call", spelt(call))
    known = {"role", "content", "reasoning_content", "reasoning", "tool_calls"}
    rest = {key: value for key, value in message.items() if key not in known and value is not None}
    if rest:
        yield Block(role or "message", spelt(rest))


def _content(content: Any, name: str) -> Iterator[Block]:
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        yield from _part(part, name)


def _part(part: Any, name: str) -> Iterator[Block]:
    if isinstance(part, str):
        yield Block(name, part)
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        yield Block(name, part["text"])
    elif kind == "thinking" and isinstance(part.get("thinking"), str):
        yield Block("thinking", part["thinking"])
    elif kind == "tool_use":
        called = f"{part.get('name', '?')} {part.get('id', '')}".strip()
        yield Block("tool call", f"{called}\n{spelt(part.get('input'))}")
    elif kind == "tool_result":
        result = part.get("content")
        inner = result if isinstance(result, list) else [result]
        for one in inner:
            text = one.get("text") if isinstance(one, dict) and one.get("type") == "text" else one
            yield Block("tool result", spelt(text))
    else:
        yield _unknown(part)


def _unknown(value: Any) -> Block:
    kind = value.get("type") if isinstance(value, dict) else None
    return Block(kind if isinstance(kind, str) and kind else "other", spelt(value))
