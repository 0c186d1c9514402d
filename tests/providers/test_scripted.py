"""The scripted provider: which response answers which request, and what it reports."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Reply, Request, Usage
from skill_ratchet.providers.scripted import Response, Scripted, When


def make_request(text: str = "Where is my card?", **overrides: Any) -> Request:
    base: dict[str, Any] = {
        "model": "scripted",
        "system": "Name the intent.",
        "messages": ({"role": "user", "content": text},),
    }
    return Request.model_validate(base | overrides)


def play(script: str, *requests: Request) -> list[Reply]:
    """One call after the other."""

    async def ask() -> list[Reply]:
        provider = Scripted(script=script)
        return [await provider.complete(request) for request in requests]

    return asyncio.run(ask())


def test_responses_without_a_condition_are_given_in_order() -> None:
    script = "responses: [{text: one, times: 2}, {text: two}]"
    assert [r.text for r in play(script, *[make_request()] * 3)] == ["one", "one", "two"]


def test_calls_made_together_are_answered_in_the_order_they_were_made() -> None:
    """The first call takes the first response, although it comes back last."""

    async def ask() -> list[str | None]:
        provider = Scripted(
            script="responses: [{text: one, delay: 0.02}, {text: two, delay: 0.01}, {text: three}]"
        )
        calls = [provider.complete(make_request(str(n))) for n in range(3)]
        replies = await asyncio.gather(*calls)
        assert [r.messages[0]["content"] for r in provider.requests] == ["0", "1", "2"]
        return [reply.text for reply in replies]

    assert asyncio.run(ask()) == ["one", "two", "three"]


TALK = (
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "yes?"},
    {"role": "user", "content": [{"type": "text", "text": "a refund"}]},
)


@pytest.mark.parametrize(
    ("when", "request_", "holds"),
    [
        ("{}", make_request(), True),
        ("{model: scripted}", make_request(), True),
        ("{model: other}", make_request(), False),
        ("{model: script}", make_request(), False),
        ("{system_contains: the intent}", make_request(), True),
        ("{system_contains: The intent}", make_request(), False),
        ("{input_contains: card}", make_request(), True),
        ("{input_contains: intent}", make_request(), False),
        ("{input_contains: a refund}", make_request(messages=TALK), True),
        ("{input_contains: 'assistant: yes?'}", make_request(messages=TALK), True),
        ("{system_matches: '^Name .* intent[.]$'}", make_request(), True),
        ("{system_matches: '^intent'}", make_request(), False),
        ("{input_matches: '[Cc]ard'}", make_request(), True),
        ("{input_matches: '^card'}", make_request(), False),
        ("{system_contains: intent, input_contains: card}", make_request(), True),
        ("{system_contains: intent, input_contains: refund}", make_request(), False),
    ],
)
def test_a_condition_holds_when_all_of_it_does(
    when: str,
    request_: Request,
    holds: bool,  # noqa: FBT001  a column of the table
) -> None:
    [reply] = play(f"responses: [{{when: {when}, text: yes}}, {{text: other}}]", request_)
    assert reply.text == ("yes" if holds else "other")


def test_conditions_go_before_the_order_and_the_first_that_holds_wins() -> None:
    script = """
    responses:
      - text: in order
      - {when: {input_contains: card}, text: first, times: 1}
      - {when: {input_contains: card}, text: second}
    """
    requests = [make_request(), make_request(), make_request(), make_request("refund")]
    assert [r.text for r in play(script, *requests)] == ["first", "second", "second", "in order"]


def test_a_better_skill_can_get_a_better_answer() -> None:
    """What a trial without a model stands on: one line in the skill changes the answer."""
    script = """
    responses:
      - {when: {system_contains: refunds are 'refund', input_contains: money}, text: refund}
      - {when: {}, text: unsure}
    """
    before, after = play(
        script,
        make_request("my money"),
        make_request("my money", system="Note: refunds are 'refund'."),
    )
    assert (before.text, after.text) == ("unsure", "refund")


def test_a_text_may_repeat_the_input() -> None:
    """Only {input} is a placeholder, and what it brings in is not looked at again."""
    script = """responses: [{text: '{"said": "{input}", "x": {y}}'}]"""
    [reply] = play(script, make_request("{input}!"))
    assert reply.text == '{"said": "{input}!", "x": {y}}'


def test_blocks_are_kept_whole() -> None:
    script = """
    responses:
      - stop_reason: tool_use
        blocks:
          - {type: thinking, thinking: hm, signature: c2ln}
          - {type: text, text: 'Look: '}
          - {type: text, text: here}
          - {type: tool_use, id: t1, name: edit, input: {text: x}}
    """
    [reply] = play(script, make_request())
    assert (reply.text, reply.stop_reason) == ("Look: here", "tool_use")
    assert reply.response == {
        "stop_reason": "tool_use",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "text", "text": "Look: "},
            {"type": "text", "text": "here"},
            {"type": "tool_use", "id": "t1", "name": "edit", "input": {"text": "x"}},
        ],
    }


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "{error: '529 overloaded_error: Overloaded', latency: 2.5}",
            {"error": "529 overloaded_error: Overloaded", "text": None, "latency": 2.5},
        ),
        ("{text: '', stop_reason: refusal}", {"text": "", "stop_reason": "refusal", "error": None}),
        ("{text: card_a, stop_reason: max_tokens}", {"stop_reason": "max_tokens"}),
        (
            "{text: ok, usage: {input_tokens: 7, cache_read_tokens: 3}}",
            {"usage": Usage(input_tokens=7, cache_read_tokens=3)},
        ),
        ("{text: 12345678}", None),
        ("{text: abcdefgh}", {"usage": Usage(input_tokens=8, output_tokens=2), "usd": 0.0}),
        ("{text: ok, latency: 1.5}", {"latency": 1.5}),
    ],
)
def test_what_a_reply_reports(entry: str, expected: dict[str, Any] | None) -> None:
    if expected is None:  # a number is not a text
        with pytest.raises(RatchetError):
            Scripted(script=f"responses: [{entry}]")
        return
    [reply] = play(f"responses: [{entry}]", make_request())
    assert {name: getattr(reply, name) for name in expected} == expected


def test_the_request_is_kept_whole_and_nothing_costs() -> None:
    request = make_request(options={"effort": "low"}, case={"id": "a"})
    [reply] = play("responses: [{text: ok}]", request)
    assert reply.request == request.model_dump(mode="json")
    provider = Scripted(script="responses: [{text: ok}]", concurrency=3)
    assert provider.worst_case_usd(request) == 0.0
    assert (provider.deterministic, provider.concurrency) == (True, 3)
    assert not Scripted(script="{deterministic: false, responses: [{text: a}]}").deterministic


@pytest.mark.parametrize(
    "script",
    [
        "responses: [{text: only}]",
        "responses: [{when: {model: scripted}, text: only, times: 1}]",
        "responses: [{text: only}, {when: {input_contains: refund}, text: no}]",
    ],
)
def test_running_out_names_the_request(script: str) -> None:
    """A script never makes an answer up, nor repeats its last one."""
    with pytest.raises(RatchetError) as caught:
        play(script, make_request(), make_request("What now?"))
    assert caught.value.message == (
        "ratchet.script.yml: no response is left for request 2"
        " (model scripted, system 'Name the intent.', input 'What now?')"
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "s.yml:1: "),
        ("- text: a", "s.yml:1: "),
        ("deterministic: true", "s.yml:1: responses: Field required"),
        ("responses:\n- text: a\n  error: b\n", "s.yml:2: responses.0: Value error, expected ex"),
        ("responses:\n- text: a\n- times: 1\n", "s.yml:3: responses.1: Value error, expected ex"),
        ("responses:\n- text: a\n  tetx: b\n", "s.yml:3: responses.0.tetx: Extra inputs"),
        ("responses:\n- text: a\n  times: 0\n", "s.yml:3: responses.0.times: "),
        ("responses:\n- text: a\n  when:\n    modle: b\n", "s.yml:4: responses.0.when.modle: "),
        (
            "responses:\n- text: a\n  when:\n    input_matches: '('\n",
            "s.yml:4: responses.0.when.input_matches: Value error, not a regular expression",
        ),
        ("responses:\n- text: a\n  text: b\n", "s.yml:3: key 'text' is already on line 2"),
        ("responses:\n- text: a\n b\n", "s.yml:"),
        ("responses: [{text: a, latency: -1}]", "s.yml:1: responses.0.latency: "),
    ],
)
def test_a_wrong_script_is_refused_with_its_line(script: str, said: str) -> None:
    with pytest.raises(RatchetError) as caught:
        Scripted(script=script, path="s.yml")
    assert caught.value.message.startswith(said)
    assert caught.value.hint is not None


def test_several_faults_are_told_at_once() -> None:
    with pytest.raises(RatchetError) as caught:
        Scripted(script="responses:\n- text: a\n  x: 1\n- text: b\n  y: 1\n", path="s.yml")
    assert [line.split(":")[1] for line in caught.value.message.splitlines()] == ["3", "5"]


DOCS = Path(__file__).parents[2] / "docs" / "providers.md"


def test_the_documentation_shows_scripts_that_work_and_every_key() -> None:
    text = DOCS.read_text(encoding="utf-8")
    examples = re.findall(r"^```yaml\n(deterministic:.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        Scripted(script=example)
    for key in {*When.model_fields, *Response.model_fields, *Usage.model_fields} - {"when"}:
        assert f"`{key}`" in text
