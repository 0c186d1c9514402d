"""One model call as it is read: who said what, with nothing left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.core.records import Reply, Score, Trace
from skill_ratchet.report import conversation

if TYPE_CHECKING:
    from skill_ratchet.report.conversation import Block


def trace(request: Any = None, response: Any = None, **more: Any) -> Trace:
    reply = {"text": None, "request": request, "response": response}
    for name in ("text", "error"):
        if name in more:
            reply[name] = more.pop(name)
    return Trace(
        id="t",
        skill="triage",
        model="m",
        provider="p",
        started_at="2026-01-01T00:00:00Z",
        reply=Reply(**reply),
        **more,
    )


MESSAGES = {
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": "Is it?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "tool_use", "id": "c1", "name": "look", "input": {"q": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "content": [{"type": "text", "text": "found"}]},
                {"type": "image", "source": "pixels"},
            ],
        },
    ],
}
CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it?"},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "look"}]},
        {"role": "tool", "content": "found", "tool_call_id": "c1"},
    ]
}


def names(found: tuple[Block, ...]) -> list[str]:
    return [block.heading for block in found]


def test_the_messages_api() -> None:
    answer = {"content": [{"type": "thinking", "thinking": "So."}, {"type": "text", "text": "yes"}]}
    made = trace(
        MESSAGES,
        answer,
        text="yes",
        expected="yes",
        correction="It is.",
        score=Score(value=1, reason="as expected", scorer="label"),
    )
    found = conversation.blocks(made)
    assert names(found) == [
        *("system", "user", "thinking", "tool call", "tool result", "image"),
        *("thinking", "answer", "expected", "correction", "score"),
    ]
    assert found[0].text == "Be brief."
    assert (found[3].name, found[3].call, found[3].text) == ("look", "c1", '{\n  "q": 1\n}')
    assert found[4].text == "found"
    assert found[-1].text == "1 by label: as expected"


def test_chat_completions() -> None:
    message = {"role": "assistant", "content": "yes", "reasoning_content": "So."}
    found = conversation.blocks(
        trace(CHAT, {"choices": [{"message": message}], "id": "r1"}, text="yes")
    )
    assert names(found) == [
        *("system", "user", "tool call", "tool result", "tool"),
        *("thinking", "answer", "response"),
    ]


@pytest.mark.parametrize(
    ("request_", "response", "text", "shown"),
    [
        (None, None, "yes", ["user", "answer"]),  # a harness of the user's own
        (None, "raw", "yes", ["user", "response", "answer"]),
        ({"prompt": "Is it?", "max": 3}, {"text": "yes"}, "yes",
         ["prompt", "settings", "response", "answer"]),
        ("Is it?", ["yes"], "yes", ["request", "response", "answer"]),
        ({"messages": "Is it?"}, {"content": "yes"}, "yes", ["other", "answer"]),
        ({"messages": [1]}, {"choices": []}, "yes", ["other", "response", "answer"]),
        (MESSAGES["system"], {"content": []}, "", ["request", "answer"]),
        ({"messages": [{"role": "x", "content": [7]}]}, {"choices": [3]}, None, ["other", "other"]),
    ],
)  # fmt: skip
def test_what_is_not_known_is_shown_all_the_same(
    request_: Any, response: Any, text: str | None, shown: list[str]
) -> None:
    more = {"text": text} if text is not None else {"error": "lost"}
    found = conversation.blocks(trace(request_, response, fixture_input="Is it?", **more))
    assert names(found) == shown


@pytest.mark.parametrize("body", [MESSAGES, CHAT], ids=["messages", "chat"])
def test_nothing_is_left_out(body: dict[str, Any]) -> None:
    """Every text of the request is in some block."""
    found = conversation.blocks(trace({**body, "top": "k9"}, text=""))
    told = "\n".join(f"{block.name} {block.call} {block.text}" for block in found)
    for said in ("Be brief.", "Is it?", "look", "found", "k9"):
        assert said in told
    if body is MESSAGES:
        assert "pixels" in told


def test_a_text_that_differs_from_the_response_is_shown_as_well() -> None:
    """Such as what is left after a harness has cut it."""
    found = conversation.blocks(trace(None, {"content": "yes, sir"}, text="yes"))
    assert [block.text for block in found if block.heading == "answer"] == ["yes, sir", "yes"]


def test_a_value_is_a_text_or_json() -> None:
    assert conversation.words("é") == "é"
    assert json.loads(conversation.words({"a": "é"})) == {"a": "é"}
