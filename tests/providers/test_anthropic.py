"""The anthropic provider against a loopback server, and the prices it reports."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from messages_server import MessagesServer, Planned, answer, failure, serve, text
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Reply, Request, Usage
from skill_ratchet.providers import pricing
from skill_ratchet.providers.anthropic import Anthropic
from skill_ratchet.providers.messages import OPTIONS, PRICED, SAMPLING, check_options
from skill_ratchet.providers.transport import is_loopback

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from skill_ratchet.providers import Provider

KEY = "sk-ant-never-to-be-seen-0123456789"
MODEL = "claude-haiku-5-5"
THINKING = {"type": "thinking", "thinking": "Is it a refund?", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "b3BhcXVl"}
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "edit", "input": {"lines": ["é"]}}


def make_request(**overrides: Any) -> Request:
    base: dict[str, Any] = {
        "model": MODEL,
        "system": "Name the intent.",
        "messages": ({"role": "user", "content": "Where is my card?"},),
        "max_tokens": 64,
    }
    return Request.model_validate(base | overrides)


def make_provider(url: str | None, **overrides: Any) -> Anthropic:
    base: dict[str, Any] = {
        "base_url": url,
        "timeout": 20.0,
        "max_retries": 0,
        "concurrency": 4,
        "cache": True,
        "api_key": KEY,
    }
    return Anthropic(**(base | overrides))


async def closing(provider: Provider, call: Coroutine[Any, Any, Reply]) -> Reply:
    try:
        return await call
    finally:
        await provider.aclose()


def ask(server: MessagesServer, request: Request | None = None, **overrides: Any) -> Reply:
    provider = make_provider(server.url, **overrides)
    return asyncio.run(closing(provider, provider.complete(request or make_request())))


@pytest.mark.parametrize(
    ("planned", "expected_text", "stop_reason"),
    [
        (answer(text("card_arrival")), "card_arrival", "end_turn"),
        (answer(text("card_"), text("arrival")), "card_arrival", "end_turn"),
        (answer(THINKING, REDACTED, text("card_arrival")), "card_arrival", "end_turn"),
        (answer(text("Look:"), TOOL_USE, stop_reason="tool_use"), "Look:", "tool_use"),
        (answer(TOOL_USE, stop_reason="tool_use"), "", "tool_use"),
        (answer(stop_reason="refusal"), "", "refusal"),
        (answer(text("card_a"), stop_reason="max_tokens"), "card_a", "max_tokens"),
    ],
)
def test_an_answer_is_kept_whole(planned: Planned, expected_text: str, stop_reason: str) -> None:
    """Text is what the text blocks say; the response keeps every block as it came."""
    with serve(planned) as server:
        reply = ask(server)
    assert (reply.text, reply.stop_reason, reply.error) == (expected_text, stop_reason, None)
    assert reply.response == json.loads(planned.body)
    assert reply.request_id == "req_ok"


def test_the_request_is_recorded_as_it_was_sent() -> None:
    """Messages, tools and options go out verbatim; nothing is added but what the body needs."""
    messages = (
        {"role": "user", "content": "é\u2028 {input}"},
        {"role": "assistant", "content": [{"type": "text", "text": "hm"}]},
        {"role": "user", "content": "again"},
    )
    tools = ({"name": "edit", "description": "d", "input_schema": {"type": "object"}},)
    options = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}
    with serve(answer(text("ok"))) as server:
        reply = ask(server, make_request(messages=messages, tools=tools, options=options))
    assert server.bodies == [{"path": "/v1/messages", **reply.request}]  # type: ignore[dict-item]  # a JSON object
    assert reply.request == {
        "model": MODEL,
        "max_tokens": 64,
        "system": [
            {
                "type": "text",
                "text": "Name the intent.",
                "cache_control": {"type": "ephemeral"},
            }
        ],
        "messages": list(messages),
        "tools": list(tools),
        **options,
    }


@pytest.mark.parametrize(
    ("cache", "system", "expected"),
    [
        (True, "S", [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}]),
        (False, "S", [{"type": "text", "text": "S"}]),
        (True, "", None),
    ],
)
def test_only_the_system_text_is_marked_for_the_cache(
    cache: bool,  # noqa: FBT001  a column of the table
    system: str,
    expected: Any,
) -> None:
    """The skill is the prefix that a sweep shares; an empty block would be refused, so none."""
    with serve(answer(text("ok"))) as server:
        ask(server, make_request(system=system), cache=cache)
    body = server.bodies[0]
    assert body.get("system") == expected
    assert "cache_control" not in json.dumps({**body, "system": None})


def test_a_rate_limit_is_tried_again() -> None:
    with serve(failure(429, "rate_limit_error", "slow down"), answer(text("ok"))) as server:
        reply = ask(server, max_retries=1)
    assert (reply.text, len(server.bodies)) == ("ok", 2)


@pytest.mark.parametrize(
    ("planned", "retries", "calls", "error"),
    [
        (
            failure(529, "overloaded_error", "Overloaded"),
            2,
            3,
            "529 overloaded_error: Overloaded (request req_529)",
        ),
        (
            failure(500, "api_error", "Internal server error"),
            1,
            2,
            "500 api_error: Internal server error (request req_500)",
        ),
        (
            failure(401, "authentication_error", "invalid x-api-key"),
            2,
            1,
            "401 authentication_error: invalid x-api-key (request req_401)",
        ),
        (
            failure(400, "invalid_request_error", "max_tokens: too large"),
            2,
            1,
            "400 invalid_request_error: max_tokens: too large (request req_400)",
        ),
        (
            Planned(status=502, body=b"<html>bad gateway</html>"),
            0,
            1,
            "502 Bad Gateway",
        ),
    ],
)
def test_an_http_error_is_a_reply_that_keeps_it_whole(
    planned: Planned, retries: int, calls: int, error: str
) -> None:
    """Status, type, message and request id are told; the body stays; no answer, no charge."""
    with serve(planned) as server:
        reply = ask(server, max_retries=retries)
    assert (reply.error, len(server.bodies)) == (error, calls)
    assert reply.text is None
    assert reply.usd == 0.0
    whole = planned.body.decode()
    assert reply.response == (json.loads(whole) if whole.startswith("{") else whole)


@pytest.mark.parametrize(
    ("planned", "said"),
    [
        (Planned(fault="reset"), "Connection error (ReadError"),
        (
            Planned(fault="cut", body=answer(text("ok")).body),
            "Connection error (",
        ),
    ],
)
def test_a_lost_connection_is_a_reply_of_unknown_cost(planned: Planned, said: str) -> None:
    """The server may have done (and billed) the work, so the price is not zero."""
    with serve(planned) as server:
        reply = ask(server)
    assert reply.error is not None
    assert reply.error.startswith(said)
    assert (reply.text, reply.usd) == (None, None)
    assert reply.request is not None


def test_no_server_at_all_is_an_error_reply() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        provider = make_provider(f"http://127.0.0.1:{unused.getsockname()[1]}")
        reply = asyncio.run(closing(provider, provider.complete(make_request())))
    assert reply.error is not None
    assert "ConnectError" in reply.error


def test_a_call_that_takes_too_long_is_an_error_reply() -> None:
    with serve(Planned(fault="hang")) as server:
        reply = ask(server, timeout=0.05)
    assert reply.error is not None
    assert reply.error.startswith("Request timed out (")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"content": [{"type": "te', "body: "),
        (b"", "body: "),
        (b"[]", "body: "),
        (b'{"content": null, "usage": {"input_tokens": 1, "output_tokens": 1}}', "content: "),
        (b'{"content": []}', "usage: Field required"),
        (b'{"content": [], "usage": {"input_tokens": -1, "output_tokens": 1}}', "usage.input"),
        (b'{"content": [], "usage": {"input_tokens": 1e999, "output_tokens": 1}}', "body: "),
        (
            b'{"content": [{"type": 1}], "usage": {"input_tokens": 1, "output_tokens": 1}}',
            "content.0.type: ",
        ),
    ],
)
def test_a_body_that_is_no_answer_scores_nothing_and_is_kept(body: bytes, said: str) -> None:
    """A broken 200 must not become an empty answer, which would count as a wrong one."""
    with serve(Planned(body=body)) as server:
        reply = ask(server)
    assert reply.error is not None
    assert reply.error.startswith(f"Not an answer of the Messages API: {said}")
    assert (reply.text, reply.usd) == (None, None)
    assert reply.response in (body.decode(), *([json.loads(body)] if said[0] != "b" else [[]]))


def test_cancelling_passes_through() -> None:
    """A cancelled call ends at once, is no reply, and leaves the provider usable."""

    async def cancel_then_ask(server: MessagesServer) -> Reply:
        provider = make_provider(server.url)
        task = asyncio.create_task(provider.complete(make_request()))
        await asyncio.to_thread(server.asked.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await closing(provider, provider.complete(make_request()))

    with serve(Planned(fault="hang"), answer(text("ok"))) as server:
        assert asyncio.run(cancel_then_ask(server)).text == "ok"


def test_waiting_for_a_connection_is_not_a_time_out() -> None:
    """One connection: the calls behind one that hangs get their turn after it, and succeed."""

    async def many(server: MessagesServer) -> list[Reply]:
        provider = make_provider(server.url, concurrency=1, timeout=0.5)
        try:
            return await asyncio.gather(*(provider.complete(make_request()) for _ in range(4)))
        finally:
            await provider.aclose()

    with serve(Planned(fault="hang"), answer(text("ok"))) as server:
        replies = asyncio.run(many(server))
    assert [reply.text for reply in replies] == [None, "ok", "ok", "ok"]


def test_usage_and_price_count_cached_tokens() -> None:
    """Cached tokens come beside input_tokens in the API; each kind has its own price."""
    planned = answer(
        text("ok"),
        input_tokens=100,
        cache_creation_input_tokens=2_000,
        cache_read_input_tokens=30_000,
        output_tokens=50,
    )
    with serve(planned) as server:
        reply = ask(server)
    assert reply.usage == Usage(
        input_tokens=100, output_tokens=50, cache_read_tokens=30_000, cache_write_tokens=2_000
    )
    # USD a million tokens: in 0.10, written 0.125, read 0.01, out 0.50
    assert reply.usd == pytest.approx((100 * 0.1 + 2_000 * 0.125 + 30_000 * 0.01 + 50 * 0.5) / 1e6)


def test_a_model_without_a_known_price_is_not_free() -> None:
    with serve(answer(text("ok"))) as server:
        reply = ask(server, make_request(model="qwen-1.5b"))
    assert (reply.text, reply.usd) == ("ok", None)


# --- credentials -----------------------------------------------------------------------------


def test_the_key_goes_to_the_server_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-environment")
    with serve(failure(401, "authentication_error", f"wrong key {KEY}")) as server:
        provider = make_provider(server.url)
        reply = asyncio.run(closing(provider, provider.complete(make_request())))
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(provider)
    assert KEY not in reply.model_dump_json() + str(vars(reply))


def test_a_key_that_a_proxy_echoes_is_taken_out() -> None:
    with serve(answer(text(f"your key is {KEY}"))) as server:
        assert ask(server).text == "your key is [redacted:ANTHROPIC_API_KEY]"


def test_a_server_on_this_machine_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(answer(text("ok"))) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        provider = make_provider(None, api_key=None)
        assert asyncio.run(closing(provider, provider.complete(make_request()))).text == "ok"


def test_a_proxy_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serve(answer(text("ok"))) as server:
        assert ask(server).text == "ok"


@pytest.mark.parametrize("base_url", [None, "https://gateway.example"])
def test_no_key_is_told_before_anything_is_sent(
    base_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")  # what an unset secret is in a workflow
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "")
    provider = make_provider(base_url, api_key=None)
    with pytest.raises(RatchetError, match="no API key") as caught:
        asyncio.run(provider.complete(make_request()))
    assert caught.value.hint is not None
    assert "ANTHROPIC_API_KEY" in caught.value.hint
    assert "provider: local" in caught.value.hint


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port", "http://\0"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(RatchetError, match="cannot be set up"):
        asyncio.run(make_provider(url).complete(make_request()))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost:8080/v1", True),
        ("http://[::1]:8080", True),
        ("https://api.anthropic.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example.com", False),
        ("http://user@example.com:80/127.0.0.1", False),
        ("http://10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_means_this_machine_only(url: str, expected: bool) -> None:  # noqa: FBT001  a column of the table
    assert is_loopback(url) is expected


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"thinking": {"type": "disabled"}},
        {"output_config": {"effort": "high"}, "stop_sequences": ["\n"]},
        {"tool_choice": {"type": "any"}, "metadata": {"user_id": "u"}},
    ],
)
def test_options_that_may_be_sent(options: dict[str, Any]) -> None:
    assert check_options(options) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("temperature", "answers vary"),
        ("top_p", "answers vary"),
        ("top_k", "answers vary"),
        ("stream", "set by Ratchet"),
        ("model", "set by Ratchet"),
        ("system", "set by Ratchet"),
        ("max_tokens", "set by Ratchet"),
        ("service_tier", "changes the price"),
        ("speed", "changes the price"),
        ("extra_headers", "is not an option"),
        ("extra_body", "is not an option"),
        ("cache_control", "is not an option"),
        ("timeout", "is not an option"),
    ],
)
def test_options_that_must_not_be_sent(name: str, said: str) -> None:
    """They are complained about, and a call with one raises with nothing sent."""
    [complaint] = check_options({name: 1})
    assert f"'{name}'" in complaint
    assert said in complaint
    with serve(answer(text("ok"))) as server, pytest.raises(RatchetError, match=name):
        ask(server, make_request(options={name: 1}))
    assert server.bodies == []


def test_the_documentation_lists_every_option() -> None:
    text = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in OPTIONS)
    assert all(f"`{name}`" in text for name in (*SAMPLING, *PRICED))


# --- pricing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (Usage(), 0.0),
        (Usage(input_tokens=1_000_000), 2.0),
        (Usage(output_tokens=1_000_000), 10.0),
        (Usage(cache_read_tokens=1_000_000), 0.1),
        (Usage(cache_write_tokens=1_000_000), 2.5),
        (Usage(input_tokens=500_000, cache_write_tokens=500_000), 2.25),
    ],
)
def test_a_price_is_the_sum_of_its_kinds_of_tokens(usage: Usage, usd: float) -> None:
    assert pricing.price("claude-sonnet-5-5", usage) == pytest.approx(usd)


@pytest.mark.parametrize("model", ["", "claude-99", "gpt-5", "qwen-1.5b"])
def test_an_unknown_model_has_no_price(model: str) -> None:
    """No guess from another maker's list or from a similar name."""
    assert pricing.price(model, Usage(input_tokens=1)) is None
    assert pricing.worst_case(make_request(model=model)) is None


@pytest.mark.parametrize("content", ["a", "0 1 2 3 4 " * 50, "猫" * 200, "👩‍👩‍👧‍👦" * 50])
def test_the_worst_case_bounds_a_call_with_a_token_a_byte(content: str) -> None:
    request = make_request(messages=({"role": "user", "content": content},))
    most = Usage(
        cache_write_tokens=len((request.system + content).encode()),
        output_tokens=request.max_tokens,
    )
    bound = make_provider(None).worst_case_usd(request)
    actual = pricing.price(MODEL, most)
    assert bound is not None
    assert actual is not None
    assert bound > actual


def test_the_worst_case_counts_tools_and_options() -> None:
    bare = pricing.worst_case(make_request())
    tools = pricing.worst_case(make_request(tools=({"name": "edit", "description": "d" * 500},)))
    schema = pricing.worst_case(make_request(options={"output_config": {"format": "x" * 500}}))
    assert bare is not None
    assert tools is not None
    assert schema is not None
    assert min(tools, schema) > bare


def test_starting_up_and_pricing_import_and_fetch_nothing() -> None:
    """The SDK waits for the first call, and a price is found with every socket refused."""
    code = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("opened a socket")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from skill_ratchet.providers import pricing
from skill_ratchet.core.records import Usage
from skill_ratchet.providers.anthropic import Anthropic
Anthropic(base_url=None, timeout=1, max_retries=0, concurrency=1, cache=True)
heavy = {"anthropic", "genai_prices", "httpx2"} & set(sys.modules)
assert not heavy, heavy
assert pricing.price("claude-haiku-5-5", Usage(input_tokens=1_000_000)) > 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


def test_both_ways_to_the_server_send_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Path, body, credential and version are the SDK's, and so is what becomes of an error."""
    refused = failure(400, "invalid_request_error", "no")
    with serve(answer(text("ok")), refused, answer(text("ok")), refused) as server:
        direct = [ask(server), ask(server)]
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Team: ours")  # only the SDK reads it
        sdk = [ask(server), ask(server)]
    assert server.headers[2]["x-team"] == "ours"
    assert "x-stainless-lang" in server.headers[2]
    assert "x-stainless-lang" not in server.headers[0]
    assert server.bodies[0] == server.bodies[2]
    for name in ("authorization", "anthropic-version", "content-type"):
        assert server.headers[0][name] == server.headers[2][name]
    same = {"latency"}
    for one, other in zip(direct, sdk, strict=True):
        assert one.model_dump(exclude=same) == other.model_dump(exclude=same)
