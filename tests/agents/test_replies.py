"""A tool call that a model writes as text is understood in the forms that models print."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.agents.replies import parse_reply, read_call, written_calls
from skill_ratchet.agents.toolbox import NAMES, in_words
from skill_ratchet.core.edits import Limits
from skill_ratchet.core.records import AddLines, Proposal

READ = ("read_trace", {"id": "run-1"})
SEARCH = ("search_traces", {"pattern": r"\bfee\b"})
LIST = ("list_traces", {"max_score": 0.5, "tag": "money"})
BARE: tuple[str, dict[str, Any]] = ("list_experiments", {})

# As the models' own templates and servers' parsers document them.
FORMS: dict[str, tuple[str, list[tuple[str, Any]]]] = {
    "as asked for": ('{"tool": "read_trace", "input": {"id": "run-1"}}', [READ]),
    "as asked for, in a fence, behind prose": (
        (
            "Let me look at the first {failing} run [run-1].\n"
            "\n"
            "```json\n"
            '{"tool": "read_trace", "input": {"id": "run-1"}}\n'
            "```\n"
        ),
        [READ],
    ),
    "input beside the name": ('{"tool": "read_trace", "id": "run-1"}', [READ]),
    "no input": ('{"tool": "list_experiments"}', [BARE]),
    "empty input": ('{"tool": "list_experiments", "input": {}}', [BARE]),
    "two objects": (
        ('{"tool": "read_trace", "input": {"id": "run-1"}}\n{"tool": "list_experiments"}'),
        [READ, BARE],
    ),
    "a list": (
        '[{"tool": "read_trace", "input": {"id": "run-1"}}, {"tool": "list_experiments"}]',
        [READ, BARE],
    ),
    "a trailing comma": ('{"tool": "read_trace", "input": {"id": "run-1",},}', [READ]),
    "Hermes and Qwen": (
        (
            "<tool_call>\n"
            '{"name": "read_trace", "arguments": {"id": "run-1"}}\n'
            "</tool_call>\n"
            "<tool_call>\n"
            '{"name": "list_experiments", "arguments": {}}\n'
            "</tool_call>"
        ),
        [READ, BARE],
    ),
    "Hermes, thinking first": (
        (
            "<think>\n"
            'I could {"tool": "list_experiments"} or not.\n'
            "</think>\n"
            "\n"
            "<tool_call>\n"
            '{"name": "read_trace", "arguments": {"id": "run-1"}}\n'
            "</tool_call>"
        ),
        [READ],
    ),
    "Hermes without the end": (
        '<tool_call>\n{"name": "read_trace", "arguments": {"id": "run-1"}}',
        [READ],
    ),
    "Llama 3.1, JSON": (
        '<|python_tag|>{"name": "read_trace", "parameters": {"id": "run-1"}}<|eom_id|>',
        [READ],
    ),
    "Llama 3.1, two with a semicolon": (
        (
            '{"name": "read_trace", "parameters": {"id": "run-1"}}; '
            '{"name": "list_experiments", "parameters": {}}'
        ),
        [READ, BARE],
    ),
    "Llama 3.1, function tag": ('<function=read_trace>{"id": "run-1"}</function>', [READ]),
    "Llama 3.1, two function tags": (
        ('<function=read_trace>{"id": "run-1"}</function><function=list_experiments>{}</function>'),
        [READ, BARE],
    ),
    "Llama 3.1, function tag without the end": (
        '<function=read_trace>{"id": "run-1"}<|eom_id|>',
        [READ],
    ),
    "Llama 3.1, function with the name as its key": (
        '{"type": "function", "name": "read_trace", "parameters": {"id": "run-1"}}',
        [READ],
    ),
    "Llama 3.2, a Python list": ('[read_trace(id="run-1")]', [READ]),
    "Llama 3.2, two in a Python list": (
        "[read_trace(id='run-1'), list_traces(max_score=0.5, tag='money')]",
        [READ, LIST],
    ),
    "Llama 4, without the list": ('read_trace(id="run-1")', [READ]),
    "Llama 4, tags around": ("<|python_start|>[list_experiments()]<|python_end|>", [BARE]),
    "Gemma, a code block": ("```tool_code\nread_trace(id='run-1')\n```", [READ]),
    "a Python pattern with a digit class": (
        'search_traces(pattern="\\d+")',
        [("search_traces", {"pattern": "\\d+"})],
    ),
    "Mistral": ('[TOOL_CALLS] [{"name": "read_trace", "arguments": {"id": "run-1"}}]', [READ]),
    "Mistral, two and an id": (
        (
            '[TOOL_CALLS] [{"name": "read_trace", "arguments": {"id": "run-1"}, "id": "9Ae3bDc2F"}'
            ', {"name": "list_experiments", "arguments": {}, "id": "aB1cD2eF3"}]'
        ),
        [READ, BARE],
    ),
    "Mistral from version 11": ('[TOOL_CALLS]read_trace[ARGS]{"id": "run-1"}', [READ]),
    "Mistral with a call id": (
        (
            '[TOOL_CALLS]read_trace[CALL_ID]9Ae3bDc2F[ARGS]{"id": '
            '"run-1"}[TOOL_CALLS]list_experiments[ARGS]{}'
        ),
        [READ, BARE],
    ),
    "DeepSeek": (
        (
            "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>"
            "function<\uff5ctool\u2581sep\uff5c>read_trace\n"
            "```json\n"
            '{"id": "run-1"}\n'
            "```<\uff5ctool\u2581call\u2581end\uff5c><\uff5ctool\u2581calls\u2581end\uff5c>"
        ),
        [READ],
    ),
    "gpt-oss": (
        (
            '<|channel|>commentary to=functions.read_trace <|constrain|>json<|message|>{"id": '
            '"run-1"}<|call|>'
        ),
        [READ],
    ),
    "OpenAI": (
        json.dumps(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_abc",
                        "type": "function",
                        "function": {"name": name, "arguments": json.dumps(given)},
                    }
                    for name, given in (READ, SEARCH)
                ],
            }
        ),
        [READ, SEARCH],
    ),
    "OpenAI, one call": (
        (
            '{"id": "call_abc", "type": "function", "function": {"name": '
            '"read_trace", "arguments": "{\\"id\\": \\"run-1\\"}"}}'
        ),
        [READ],
    ),
    "Anthropic's block": (
        '{"type": "tool_use", "id": "toolu_1", "name": "read_trace", "input": {"id": "run-1"}}',
        [READ],
    ),
    "function as a name": ('{"function": "read_trace", "args": {"id": "run-1"}}', [READ]),
    "a wrapped call": (
        '{"tool_call": {"name": "read_trace", "arguments": {"id": "run-1"}}}',
        [READ],
    ),
    "in prose": ('I will call `read_trace` with {"id": "run-1"}.', [READ]),
    "input that is not an object": (
        '{"tool": "read_trace", "input": ["run-1"]}',
        [("read_trace", ["run-1"])],
    ),
    "input in words": ('{"tool": "read_trace", "input": "run-1"}', [("read_trace", {})]),
    "Hermes without the last brace": (
        ('<tool_call>\n{"name": "read_trace", "arguments": {"id": "run-1"}\n</tool_call>'),
        [READ],
    ),
}


@pytest.mark.parametrize(("text", "calls"), FORMS.values(), ids=FORMS)
def test_a_call_in_words_is_understood(text: str, calls: list[tuple[str, Any]]) -> None:
    assert [(call.name, call.input) for call in written_calls(text, tools=NAMES)] == calls


NONE = {
    "nothing": "",
    "prose": "I would use read_trace on run-1, and then search_traces.",
    "a name alone": "read_trace",
    "another tool": '{"tool": "write_file", "input": {"path": "ratchet.yml"}}',
    "a shell": '<function=bash>{"command": "id"}</function>',
    "another Python function": 'open("ratchet.yml", mode="w")',
    "a name within a name": 'my_read_trace(id="x") {"tool": "read_traces"} xread_trace {"id": "x"}',
    "a Python call of what is no constant": "read_trace(id=open('x').read())",
    "a Python call within a call": 'print(read_trace(id="x"))',
    "a Python call of a method": 'os.read_trace(id="x")',
    "a Python call in order": 'read_trace("x")',
    "a Python call with more after it": 'read_trace(id="x"); import os',
    "thinking": '<think>{"tool": "read_trace", "input": {"id": "x"}}</think> Hm.',
    "half of it": '{"tool": "read_trace", "input": {"id": "x"',
    "half of a tag": "<function=read_trace>{",
    "a name that is no text": '{"tool": ["read_trace"], "input": {}}',
    "a proposal": '{"hypothesis": "read_trace", "edits": [{"op": "add", "lines": "x"}]}',
    "nested too deep": '{"tool_calls": ' * 20 + '{"tool": "read_trace"}' + "}" * 20,
}


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_what_is_no_call_of_a_tool_is_none(text: str) -> None:
    """Nothing is run to find out."""
    assert written_calls(text, tools=NAMES) == []


def test_the_form_that_is_asked_for_is_understood() -> None:
    """The example in the prompt, as it stands there."""
    (call,) = written_calls(in_words(Limits()), tools=NAMES)
    assert (call.name, call.input) == ("read_trace", {"id": "..."})


HOSTILE = {
    "names without end": "read_trace{" * 20_000,
    "names, and a comma to forgive": "read_trace{" * 20_000 + "[1,]",
    "tags without end": "<function=read_trace>{" * 10_000,
    "brackets": "[" * 100_000,
    "a Python call as long as a book": "read_trace(" * 50_000 + ")",
    "brackets in a Python call": "read_trace(id=" + "[" * 50_000 + "]" * 50_000 + ")",
    "blanks behind brackets": "read_trace(" + ")   " * 30_000 + "x",
    "digits": f"read_trace(page={'9' * 10_000})",
    "a number too long in JSON": f'read_trace {{"page": {"9" * 10_000}}}',
    "minus signs": f"read_trace(page={'-' * 50_000}1)",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_reply_is_read_in_no_time(text: str) -> None:
    """Processor time, so that a busy machine is no failure."""
    started = time.process_time()
    assert written_calls(text, tools=NAMES) == []
    assert time.process_time() - started < 5


PUNCTUATION = '{}[]()",:=\\ \n<>'
SETTINGS = settings(deadline=None, max_examples=200)


@SETTINGS
@given(
    st.lists(
        st.sampled_from([*PUNCTUATION, "read_trace", '"tool"', '"name"', "id", "9", "\ud800"]),
        max_size=25,
    )
)
def test_any_text_is_calls_of_known_tools_or_none(parts: list[str]) -> None:
    for call in written_calls("".join(parts), tools=NAMES):
        assert call.name in NAMES
        assert call.id == ""


# A proposal, called --------------------------------------------------------------------------

MADE = {"hypothesis": "h", "targets": ["t1"], "edits": [{"op": "add", "lines": "- three"}]}
INSIDE = json.dumps(MADE)
PROPOSED = {
    "as asked for": INSIDE,
    "by the text protocol": f'{{"tool": "propose", "input": {INSIDE}}}',
    "Hermes": f'<tool_call>\n{{"name": "propose", "arguments": {INSIDE}}}\n</tool_call>',
    "Llama 3.1": f"<function=propose>{INSIDE}</function>",
    "Mistral": f'[TOOL_CALLS] [{{"name": "propose", "arguments": {INSIDE}}}]',
    "Mistral from version 11": f"[TOOL_CALLS]propose[ARGS]{INSIDE}",
    "OpenAI": json.dumps(
        {"tool_calls": [{"id": "c", "function": {"name": "propose", "arguments": INSIDE}}]}
    ),
}


@pytest.mark.parametrize("text", PROPOSED.values(), ids=PROPOSED)
def test_a_proposal_called_in_words_is_one(text: str) -> None:
    found = parse_reply(text, known_traces={"t1"}, model="m")
    assert isinstance(found, Proposal)
    assert (found.hypothesis, found.targets, found.edits) == (
        "h",
        ("t1",),
        (AddLines(lines="- three"),),
    )


def test_a_proposal_called_in_python_is_one() -> None:
    text = "[propose(hypothesis='h', targets=['t1'], edits=[{'op': 'add', 'lines': '- three'}])]"
    (call,) = written_calls(text, tools=NAMES)
    assert read_call(call.input, known_traces={"t1"}) == read_call(MADE, known_traces={"t1"})


BROKEN: dict[str, tuple[Any, str]] = {
    "nothing": (None, "has no fields"),
    "a list": ([MADE], "has no fields"),
    "a text": (INSIDE, "has no fields"),
    "no fields": ({}, "proposes no edit"),
    "no edits": ({"hypothesis": "h", "edits": []}, "proposes no edit"),
    "edits in words": ({"edits": "add a line"}, "proposes no edit"),
    "an edit in words": ({"edits": ["x"]}, "edits.0"),
    "another operation": ({"edits": [{"op": "delete", "path": "x"}]}, "'op' is none of add"),
    "a number for lines": ({"edits": [{"op": "add", "lines": 3}]}, "edits.0.add.lines"),
    "half a character": ({"edits": [{"op": "add", "lines": "\ud800"}]}, "surrogate"),
}


@pytest.mark.parametrize(("given_", "words"), BROKEN.values(), ids=BROKEN)
def test_a_call_of_propose_that_is_none_says_why(given_: Any, words: str) -> None:
    found = read_call(given_, known_traces=())
    assert isinstance(found, str)
    assert words in found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["edits", "op", "lines", "after", "old", "new", "start", "targets"]),
            inner | st.sampled_from(["add", "replace", "rewrite"]),
            max_size=4,
        )
    ),
    max_leaves=10,
)


@SETTINGS
@given(VALUES)
def test_any_call_of_propose_is_a_proposal_or_a_sentence(value: Any) -> None:
    found = read_call(value, known_traces={"t1"})
    assert found
    if isinstance(found, Proposal):
        assert found.edits or found.start
        assert Proposal.model_validate_json(found.model_dump_json()) == found
