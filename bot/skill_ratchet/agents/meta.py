"""The meta-agent: reads raw traces and past experiments with tools, proposes one edit.

It works in turns. A turn either calls tools that read, or proposes; a proposal that cannot be
tried is sent back once. A model that has no tool channel writes its calls as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skill_ratchet.agents import replies
from skill_ratchet.agents.briefing import ROOM, first_message
from skill_ratchet.agents.replies import Call
from skill_ratchet.agents.toolbox import NAMES, PROPOSE, ToolError, definitions, in_words
from skill_ratchet.core.records import Proposal, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pydantic import JsonValue

    from skill_ratchet.agents.briefing import Protocol, View
    from skill_ratchet.agents.toolbox import Toolbox
    from skill_ratchet.core.records import Reply

TURNS = 8
MOST_CALLS = 10  # tool calls of one turn that are answered

_CUT = ("max_tokens", "length", "model_context_window_exceeded")
_LAST = "This is your last turn: propose now."
_REFUSED = "the model refused to answer"
_EMPTY = "(nothing)"  # an API takes no empty message
_TOO_MANY = f"Not run: at most {MOST_CALLS} calls of a turn are answered."
_NO_TOOLS = "there are no tools to call"


@dataclass(frozen=True, slots=True)
class Terms:
    """How the meta-agent's model is asked.

    ``room`` is the length of the first message in characters, and that of all results together;
    ``turns`` the most calls for one proposal, ``max_tokens`` the cap of one answer.
    """

    model: str
    instructions: str  # skills/improve-skill/SKILL.md
    max_tokens: int
    options: Mapping[str, JsonValue]
    protocol: Protocol = "native"
    turns: int = TURNS
    room: int = ROOM


@dataclass(frozen=True, slots=True)
class Proposed:
    """What the turns came to: a proposal, or the ``problem`` in words."""

    proposal: Proposal | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Heard:
    """A reply, read: a proposal, tool calls, or what is wrong with it."""

    proposal: Proposal | None = None
    calls: tuple[Call, ...] = ()
    problem: str = ""
    final: bool = False  # asking again would not help


async def propose(
    view: View,
    *,
    toolbox: Toolbox,
    terms: Terms,
    ask: Callable[[int, Request], Awaitable[Reply]],
    objection: Callable[[Proposal], str | None],
) -> Proposed:
    """Work until there is a proposal, or none is to be had. Nothing a model writes raises.

    Args:
        view: What the model is shown first.
        toolbox: Answers its calls.
        terms: How it is asked.
        ask: Makes one call; is told the turn, counted from 0.
        objection: Why a proposal should be thought over, in words for the model; asked once.

    Raises:
        RatchetError: Data to show contains the conversation's marker, or ``ask`` raises it.
    """
    request = opening(view, terms=terms, nonce=toolbox.nonce)
    desk = _Desk(toolbox, terms.room)
    sent_back = False
    for turn in range(terms.turns):
        reply = await ask(turn, request)
        heard = hear(reply, view=view, model=terms.model, tools=terms.protocol != "none")
        if heard.calls:
            answers = desk.answers(heard.calls)
        else:
            # One second chance: a model that errs twice is answered by the next experiment.
            again = not (sent_back or heard.final or turn + 1 == terms.turns)
            why = objection(heard.proposal) if heard.proposal and again else heard.problem
            if not (why and again):
                return Proposed(heard.proposal, heard.problem or None)
            sent_back = True
            answers = [_Answer(f"{why}\n\nPropose again.", failed=True)]
        request = _continued(request, reply, heard.calls, answers, last=turn + 2 == terms.turns)
    return Proposed(None, f"no proposal within {terms.turns} turn{'s' * (terms.turns > 1)}")


def opening(view: View, *, terms: Terms, nonce: str) -> Request:
    """The conversation's first request."""
    alone = terms.turns == 1  # nothing that is read could be of use
    words = in_words(view.limits) if terms.protocol == "text" and not alone else ""
    tools = definitions(view.limits) if terms.protocol == "native" else ()
    content = first_message(view, nonce=nonce, room=terms.room, tools=words)
    return Request(
        model=terms.model,
        system=terms.instructions,
        messages=({"role": "user", "content": content},),
        max_tokens=terms.max_tokens,
        options=dict(terms.options),
        tools=tools[-1:] if alone else tools,
    )


def hear(reply: Reply, *, view: View, model: str, tools: bool = True) -> _Heard:
    """What a reply says. Calls by an API's tool channel go before what stands in the text.

    Without ``tools`` a call that would read is none; a proposal is one however it is written.
    """
    if reply.stop_reason == "refusal":
        return _Heard(problem=_REFUSED, final=True)
    known = {trace.id for trace in view.failing}
    cut = reply.stop_reason in _CUT
    calls = () if cut else tuple(_tool_uses(reply))
    found: Proposal | str = ""
    if not calls:
        text = reply.text or ""
        found = replies.parse_reply(text, known_traces=known, model=model, cut=cut)
        if isinstance(found, str) and not cut:
            calls = tuple(replies.written_calls(text, tools=NAMES))
    made = next((call for call in calls if call.name == PROPOSE), None)
    if made is not None:
        found = replies.read_call(made.input, known_traces=known, model=model)
    elif calls:
        return _Heard(calls=calls) if tools else _Heard(problem=_NO_TOOLS)
    if isinstance(found, str):
        return _Heard(problem=found, final=cut)
    return _Heard(proposal=found)


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    failed: bool = False


_BESIDE = _Answer("Not run: you proposed in the same turn.", failed=True)


@dataclass(slots=True)
class _Desk:
    """Answers calls as long as there is room: what is read stays in the conversation."""

    toolbox: Toolbox
    room: int  # characters left

    def answers(self, calls: Sequence[Call]) -> list[_Answer]:
        """One for each call, in order."""
        answered = [self._answer(call) for call in calls[:MOST_CALLS]]
        return answered + [_Answer(_TOO_MANY, failed=True) for _ in calls[MOST_CALLS:]]

    def _answer(self, call: Call) -> _Answer:
        try:
            text = self.toolbox.answer(call.name, call.input)
        except ToolError as error:
            return _Answer(str(error), failed=True)
        if len(text) > self.room:
            return _Answer(
                f"No room: that is {len(text):,} characters, and {self.room:,} are left for all"
                " results to come. Ask for less, or propose with what you know.",
                failed=True,
            )
        self.room -= len(text)
        return _Answer(text)


def _tool_uses(reply: Reply) -> list[Call]:
    return [
        Call(name=str(part.get("name")), input=part.get("input"), id=part["id"])
        for part in _content(reply)
        if part.get("type") == "tool_use" and isinstance(part.get("id"), str)
    ]


def _content(reply: Reply) -> list[dict[str, Any]]:
    """The content blocks of a reply, as an API gave them."""
    response = reply.response
    content = response.get("content") if isinstance(response, dict) else None
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _continued(
    request: Request,
    reply: Reply,
    calls: Sequence[Call],
    answers: Sequence[_Answer],
    *,
    last: bool,
) -> Request:
    """The conversation with a reply and the answer to it."""
    uses = _tool_uses(reply)
    said: JsonValue
    told: JsonValue
    if uses:
        said = [part for part in _content(reply) if not _is_blank(part)]
        proposed = not calls and any(use.name == PROPOSE for use in uses)
        told = [
            _result(
                use, _BESIDE if proposed and use.name != PROPOSE else answers[n if calls else 0]
            )
            for n, use in enumerate(uses)
        ]
        told += [{"type": "text", "text": _LAST}] * last
    else:
        text = reply.text or ""
        said = text if text.strip() else _EMPTY
        told = "\n\n".join([*(answer.text for answer in answers), *[_LAST] * last])
    messages: tuple[dict[str, JsonValue], ...] = (
        *request.messages,
        {"role": "assistant", "content": said},
        {"role": "user", "content": told},
    )
    return request.with_(messages=messages)


def _is_blank(part: dict[str, Any]) -> bool:
    """Whether it is a text block without text, which an API gives but does not take."""
    return part.get("type") == "text" and not str(part.get("text") or "").strip()


def _result(use: Call, answer: _Answer) -> JsonValue:
    """What an API is told of one call; each must be answered."""
    result: dict[str, JsonValue] = {
        "type": "tool_result",
        "tool_use_id": use.id,
        "content": answer.text,
    }
    return result | ({"is_error": True} if answer.failed else {})
