"""One model call as a person reads it: who said what, in the order it was said. Pure.

The terminal and the report's pages are drawn from here. It knows the bodies of the Messages API
and of chat completions, a prompt, and what a program wrote. What it does not know is shown as
JSON under a name of its own, so no words are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic_core import PydanticSerializationError, to_json

from skill_ratchet.core import wording
from skill_ratchet.core.records import FILTER

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from skill_ratchet.core.records import Reply, Trace, Usage

Part = Literal["sent", "came back", "wanted", "score"]
ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
PROVIDER: Final = "provider"  # whose the rest of a body is
SCORER: Final = "scorer"
_ASKED: Final = frozenset({"system", "tools", "messages", "prompt"})
_TURN: Final = frozenset({"role", "content", "reasoning_content", "reasoning", "tool_calls"})
_TOLD: Final = {"text": "text", "thinking": "thinking", "redacted_thinking": "data"}
_MARKS: Final = frozenset({"type", "cache_control", "signature"})  # of a block, beside its words
_OUTPUTS: Final = ("stdout", "stderr", "trace")  # of a program


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One thing that was said: by whom, what kind of thing it is, and the text of it."""

    part: Part
    role: str  # 'system', 'user', 'assistant', 'tool', 'program', 'fixture', 'provider', ...
    kind: str = "text"  # or 'thinking', 'tool call', ...
    name: str = ""  # of a tool
    call: str = ""  # id of the tool's call
    text: str

    @property
    def aside(self) -> bool:
        """Nobody's words: the rest of a body, or the score."""
        return self.role in (PROVIDER, SCORER)

    @property
    def heading(self) -> str:
        """What stands above it on a terminal."""
        if self.kind != "text":
            return self.kind
        answered = self.part == "came back" and self.role == "assistant"
        return "answer" if answered else self.role


def blocks(trace: Trace) -> tuple[Block, ...]:
    """The call from the system's words to the score."""
    sent = list(_sent(trace.reply.request))
    if trace.fixture_input and all(one.aside for one in sent):
        sent.insert(0, Block(part="sent", role="user", text=trace.fixture_input))
    return (*sent, *_came_back(trace.reply), *_wanted(trace), *_judged(trace))


def raw(trace: Trace) -> tuple[Block, ...]:
    """The bodies as they went over the wire, what they are about, and the score."""
    plain = {"input": trace.fixture_input, "output": trace.reply.text}
    return (
        *(_aside("sent", name, text) for name, text in plain.items() if text),
        *_wanted(trace),
        *(_aside("sent", name, text) for name, text in bodies(trace.reply).items()),
        *_judged(trace),
    )


def bodies(reply: Reply) -> dict[str, str]:
    """The provider's own request and response as JSON that can be read; those there are."""
    kept = {"request": reply.request, "response": reply.response}
    return {name: words(value) for name, value in kept.items() if value is not None}


def words(value: Any) -> str:
    """Text as it is, anything else as JSON that can be read."""
    if isinstance(value, str):
        return value
    try:
        return to_json(value, indent=2).decode()  # six times as quick as what is below
    except PydanticSerializationError:  # half a surrogate pair
        return json.dumps(value, indent=2, ensure_ascii=False)


# What was sent --------------------------------------------------------------------------------


def _sent(request: Any) -> Iterator[Block]:
    if not isinstance(request, dict):
        if request not in (None, ""):
            yield Block(part="sent", role="user", kind="request", text=words(request))
        return
    if system := request.get("system"):
        yield from _content(system, part="sent", role="system")
    if tools := request.get("tools"):
        yield Block(part="sent", role="system", kind="tools", name=_names(tools), text=words(tools))
    if prompt := request.get("prompt"):
        yield Block(part="sent", role="user", kind="prompt", text=words(prompt))
    messages = request.get("messages")
    for message in messages if isinstance(messages, list) else [messages] if messages else ():
        yield from _message(message, part="sent")
    yield from _rest("sent", "settings", request, known=_ASKED)


def _names(tools: Any) -> str:
    found = tools if isinstance(tools, list) else []
    return ", ".join(str(tool.get("name", "?")) for tool in found if isinstance(tool, dict))


# What came back -------------------------------------------------------------------------------


def _came_back(reply: Reply) -> Iterator[Block]:
    """What the body says, the answer where that is not in it, and what a program wrote."""
    response = reply.response
    body: dict[str, Any] = response if isinstance(response, dict) else {}
    turns = list(_turns(body))
    said = [block for turn in turns for block in _message(turn, part="came back")]
    outputs = {} if turns else _outputs(body, answered=reply.text is not None)
    yield from said
    if not isinstance(response, dict) and response not in (None, ""):
        yield _aside("came back", "response", words(response))
    known = {*outputs, *(("content", "choices") if turns else ())}
    yield from _rest("came back", "response", body, known=known)
    if reply.text is not None and not (said and reply.text == "".join(map(_answer, turns))):
        yield Block(part="came back", role="assistant", text=reply.text)
    for name, text in outputs.items():
        yield Block(part="came back", role="program", kind=name, text=words(text))


def _turns(body: dict[str, Any]) -> Iterator[Any]:
    """The messages of a response, which is one itself or has a choice of them."""
    choices = body.get("choices")
    if "content" in body:
        yield {"content": body["content"]}
    elif isinstance(choices, list):
        yield from (one.get("message", one) if isinstance(one, dict) else one for one in choices)


def _answer(turn: Any) -> str:
    """The words of a message that are no thoughts and no tool's."""
    content = turn.get("content") if isinstance(turn, dict) else None
    parts = content if isinstance(content, list) else [content]
    texts = (one.get("text") if isinstance(one, dict) else one for one in parts)
    return "".join(text for text in texts if isinstance(text, str))


def _outputs(body: dict[str, Any], *, answered: bool) -> dict[str, Any]:
    """What a program wrote; its standard output is its answer, if there is one."""
    names = _OUTPUTS[1:] if answered else _OUTPUTS
    return {name: body[name] for name in names if body.get(name)}


# Parts of both --------------------------------------------------------------------------------


def _message(message: Any, *, part: Part) -> Iterator[Block]:
    """One turn; what comes back is the assistant's."""
    if not isinstance(message, dict):
        yield Block(part=part, role="user", kind="other", text=words(message))
        return
    said = str(message.get("role") or "message")
    role = "assistant" if part == "came back" else ROLES.get(said, said)
    for key in ("reasoning_content", "reasoning"):
        if message.get(key):
            yield Block(part=part, role=role, kind="thinking", text=words(message[key]))
    if message.get("content") not in (None, ""):
        yield from _content(message["content"], part=part, role=role)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        yield Block(part=part, role=role, kind="tool call", text=words(call))
    rest = {key: value for key, value in message.items() if key not in _TURN and value is not None}
    if rest:
        yield Block(part=part, role=role, text=words(rest))


def _content(content: Any, *, part: Part, role: str) -> Iterator[Block]:
    """The blocks of a message's content, which is text or a list of blocks."""
    for one in content if isinstance(content, list) else [content]:
        if isinstance(one, dict):
            yield _block(one, part=part, role=role)
        else:
            kind = "tool result" if role == "tool" else "text"
            known = kind if isinstance(one, str) else "other"
            yield Block(part=part, role=role, kind=known, text=words(one))


def _block(one: dict[str, Any], *, part: Part, role: str) -> Block:
    given = one.get("type")
    kind = given if given and isinstance(given, str) else "other"
    if kind.endswith("tool_use"):  # also what a server's tools were called with
        name, call = str(one.get("name", "")), str(one.get("id", ""))
        text = words(one.get("input"))
        return Block(part=part, role=role, kind="tool call", name=name, call=call, text=text)
    if kind.endswith("tool_result"):
        kind = "failed tool result" if one.get("is_error") else "tool result"
        return Block(part=part, role="tool", kind=kind, text=_result(one.get("content")))
    told = one.get(_TOLD.get(kind, ""))
    # A known kind with more in it than its text is shown whole.
    whole = not isinstance(told, str) or one.keys() - _MARKS - {_TOLD[kind]}
    text = words(one if whole else told)
    return Block(part=part, role=role, kind=kind.replace("_", " "), text=text)


def _result(content: Any) -> str:
    """A tool's answer: its texts, and JSON for whatever else is in it."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    return "\n\n".join(
        text if isinstance(text, str) else words(part)
        for text, part in zip(texts, parts, strict=True)
        if part is not None
    )


def _rest(part: Part, kind: str, body: dict[str, Any], *, known: Container[str]) -> Iterator[Block]:
    if rest := {key: value for key, value in body.items() if key not in known}:
        yield _aside(part, kind, words(rest))


def _aside(part: Part, kind: str, text: str) -> Block:
    return Block(part=part, role=PROVIDER, kind=kind, text=text)


def _wanted(trace: Trace) -> Iterator[Block]:
    for kind, value in (("expected", trace.expected), ("correction", trace.correction)):
        if value is not None:
            yield Block(part="wanted", role="fixture", kind=kind, text=words(value))


def _judged(trace: Trace) -> Iterator[Block]:
    """The score with its reason, if there is one."""
    if trace.score is not None:
        text = f"{trace.score.value:g} by {trace.score.scorer}: {trace.score.reason}"
        yield Block(part="score", role=SCORER, kind="score", text=text)


# Beside the words -----------------------------------------------------------------------------


def facts(trace: Trace) -> dict[str, str]:
    """What is known of a call beside its words, by name: whose run it is, what it came to."""
    reply, key, score = trace.reply, trace.key, trace.score
    number = "on the cases it aimed at" if key and key.replicate == FILTER else ""
    run = trace.job != "meta"
    found = {
        "Score": f"{wording.percent(score.value)} by {score.scorer}" if score else "none" * run,
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
        "Cost": wording.dollars(reply.usd),
        "Latency": f"{reply.latency:.2f} s",
        "Stopped": reply.stop_reason or "",
        "Begun": wording.moment(trace.started_at, seconds=True),
        "Request": reply.request_id or "",
        "Id": trace.id,
    }
    return {name: said for name, said in found.items() if said}


def _usage(usage: Usage) -> str:
    said = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    if usage.cache_read_tokens or usage.cache_write_tokens:
        said += f"; cache: {usage.cache_read_tokens:,} read, {usage.cache_write_tokens:,} written"
    return said
