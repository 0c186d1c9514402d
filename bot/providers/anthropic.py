"""Claude, or any server that speaks the Messages API."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, JsonValue, ValidationError
from pydantic_core import from_json

from bot import pricing
from bot.core import forecast, limiter
from bot.core.forecast import Size
from bot.core.limiter import Limiter
from bot.core.records import Reply, Usage, canonical_json
from bot.errors import RatchetError
from bot.providers.transport import LostError, Transport, connect, is_loopback
from bot.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bot.core.records import Request
    from bot.providers.transport import Answered

__all__ = ["Anthropic", "check_options", "is_loopback"]

PATH = "/v1/messages"

OPTIONS = ("metadata", "output_config", "stop_sequences", "thinking", "tool_choice")
OWNED = ("max_tokens", "messages", "model", "system", "tools", "stream")
SAMPLING = ("temperature", "top_k", "top_p")
PRICED = ("inference_geo", "service_tier", "speed")


def check_options(options: Mapping[str, JsonValue]) -> list[str]:
    """What is wrong with a request's ``options``, one sentence each; empty when all may be sent."""
    return [_complaint(name) for name in options if name not in OPTIONS]


def _complaint(name: str) -> str:
    if name in SAMPLING:
        return f"'{name}' is not a parameter of the Messages API: answers vary, repeats are needed."
    if name in PRICED:
        return f"'{name}' changes the price of a call, which budgets could then not bound."
    if name in OWNED:
        return f"'{name}' is set by Ratchet and cannot be an option."
    return f"'{name}' is not an option of the anthropic provider (it has {', '.join(OPTIONS)})."


class Anthropic:
    """Answers requests over the Messages API; use one instance in one event loop.

    Nothing is imported, looked up or sent before the first ``complete``. That call raises
    RatchetError when there is no credential (an API key, or any other that the SDK finds:
    ``ANTHROPIC_AUTH_TOKEN``, a profile, workload identity). A server on this machine needs none.

    Args:
        base_url: Where the API is; None means ``ANTHROPIC_BASE_URL``, then Anthropic's own.
        timeout: Seconds to wait for one attempt.
        max_retries: Further attempts after 408, 409, 429, 5xx (529 too) and lost connections.
        concurrency: Calls in flight, at most; as many connections are kept. The server's limits
            can make it fewer for a while (``core.limiter``).
        cache: Mark the system text as a prefix to be cached.
        api_key: Overrides ``ANTHROPIC_API_KEY``; kept out of every reply.
    """

    name = "anthropic"
    tools = True
    deterministic = False

    def __init__(
        self,
        *,
        base_url: str | None,
        timeout: float,
        max_retries: int,
        concurrency: int,
        cache: bool,
        api_key: str | None = None,
    ) -> None:
        self.concurrency = concurrency
        self.limiter = Limiter(concurrency)
        self._base_url = base_url
        self._timeout = timeout
        self._max_retries = max_retries
        self._cache = cache
        self._api_key = api_key
        self._transport: Transport | None = None
        self._secrets = Redactor({})

    async def complete(self, request: Request) -> Reply:
        """Answer one request.

        Raises:
            RatchetError: The options or credentials are wrong. Nothing was sent.
        """
        if complaints := check_options(request.options):
            raise RatchetError(" ".join(complaints), hint="Correct the model's options.")
        transport = self._connect()
        reply, latency = await self._send(transport, body_of(request, cache=self._cache))
        return reply.model_copy(update={"latency": latency})

    def worst_case_usd(self, request: Request) -> float | None:
        """Upper bound of one billed attempt in USD; None when the model has no known price."""
        return pricing.worst_case(request)

    def forecast_usd(
        self, requests: Sequence[Request], seen: Sequence[Reply], *, recent: Sequence[Reply]
    ) -> list[float] | None:
        """What each of these calls will cost in USD; None when the model has no known price.

        Args:
            requests: In the order in which they are made.
            seen: Answers of calls like them.
            recent: Those of them that were answered within ``forecast.LIFE`` seconds.
        """
        known = [(_size(one.request), one.usage) for one in seen if one.error is None]
        used = forecast.usage(
            [_size(body_of(request, cache=self._cache)) for request in requests],
            by=forecast.rates(known),
            at_once=self.concurrency,
            cache=self._cache,
            warm={_size(one.request).name for one in recent},
        )
        prices = [
            pricing.price(request.model, one) for request, one in zip(requests, used, strict=True)
        ]
        known_prices = [price for price in prices if price is not None]
        return known_prices if len(known_prices) == len(prices) else None

    async def aclose(self) -> None:
        """Close the connections; a later call would open new ones."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    def _connect(self) -> Transport:
        if self._transport is None:
            self._transport = connect(
                base_url=self._base_url,
                api_key=self._api_key,
                timeout=self._timeout,
                connections=self.concurrency,
            )
            # Some gateways tell which key they were given.
            self._secrets = Redactor({"ANTHROPIC_API_KEY": self._transport.secret})
        return self._transport

    async def _send(self, transport: Transport, body: dict[str, Any]) -> tuple[Reply, float]:
        """The answer of the last attempt, and how many seconds that one took.

        Each attempt waits for a turn of its own, in the place that the first one had, so that
        calls which were refused do not come back all at once.
        """
        ticket = self.limiter.ticket()
        attempt = 0
        while True:
            attempt += 1
            async with self.limiter.turn(ticket) as began:
                started = time.monotonic()
                got = await _attempt(transport, body)
                latency = time.monotonic() - started
                wait = self._wait(got, attempt=attempt, began=began)
            if wait is None:
                return self._reply(got, body), latency
            await asyncio.sleep(wait)

    def _wait(self, got: Answered | LostError, *, attempt: int, began: float) -> float | None:
        """Seconds until the next attempt; None when this one was the last."""
        asked: float | None = None
        retry = True
        if not isinstance(got, LostError):
            signal = limiter.read(got.status, got.headers, at=datetime.now(UTC))
            self.limiter.told(signal, began=began)
            asked = signal.retry_after
            retry = not signal.answered and limiter.worth_retrying(got.status, got.headers)
        if not retry or attempt > self._max_retries:
            return None
        if asked is None:
            return limiter.backoff(attempt, chance=random.random())  # noqa: S311  spreads calls out
        return asked if asked <= limiter.MOST_WAIT else None

    def _reply(self, got: Answered | LostError, body: dict[str, Any]) -> Reply:
        if isinstance(got, LostError):
            return Reply(error=self._secrets.redact(str(got)), request=body)
        response = _json(self._secrets.redact(got.text))
        if got.status // 100 == 2:  # noqa: PLR2004  HTTP's own
            return read_answer(response, request=body, request_id=got.request_id)
        return Reply(
            error=_status_error(got, response),
            request=body,
            response=response,
            request_id=got.request_id,
            usd=0.0,  # a call that ends in an HTTP error is not billed
        )


async def _attempt(transport: Transport, body: dict[str, Any]) -> Answered | LostError:
    try:
        return await transport.post(PATH, body)
    except LostError as lost:
        return lost


def body_of(request: Request, *, cache: bool) -> dict[str, Any]:
    """The body of a call, as it is sent.

    What calls of a sweep have in common comes first and is marked: tools, then the system text.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": list(request.messages),
        **request.options,
    }
    if request.system:
        mark = {"cache_control": {"type": "ephemeral"}} if cache else {}
        body["system"] = [{"type": "text", "text": request.system, **mark}]
    if request.tools:
        body["tools"] = list(request.tools)
    return body


def _size(body: JsonValue) -> Size:
    """A body's length: what the server counts, which is what it reads."""
    sent = body if isinstance(body, dict) else {}
    prefix = canonical_json([sent[name] for name in ("tools", "system") if sent.get(name)])
    rest = canonical_json(sent.get("messages"))
    return Size(
        prefix=len(prefix.encode("utf-8", "replace")),
        rest=len(rest.encode("utf-8", "replace")),
        name=prefix,
    )


def _status_error(got: Answered, response: JsonValue) -> str:
    kind, message = "", got.reason
    error = response.get("error") if isinstance(response, dict) else None
    if isinstance(error, dict):
        kind, message = str(error.get("type") or ""), str(error.get("message") or message)
    where = f" (request {got.request_id})" if got.request_id else ""
    return f"{got.status} {kind}{': ' if kind else ''}{message}{where}"


def _json(text: str) -> JsonValue:
    """The text as JSON, or as it is when it is none."""
    try:
        value: JsonValue = from_json(text, allow_inf_nan=False)
        canonical_json(value)  # refuses what from_json lets through: 1e999 is an infinity
    except ValueError:
        return text
    return value


class _Block(BaseModel):
    type: str
    text: str = ""


class _Tokens(BaseModel):
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    cache_read_input_tokens: int | None = Field(default=None, ge=0)
    cache_creation_input_tokens: int | None = Field(default=None, ge=0)


class _Answer(BaseModel):
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Tokens


def read_answer(response: JsonValue, *, request: dict[str, Any], request_id: str | None) -> Reply:
    """A message of the API as a reply; one that is none is an error of unknown cost."""
    kept = {"request": request, "response": response, "request_id": request_id}
    try:
        answer = _Answer.model_validate(response)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        return Reply(error=f"Not an answer of the Messages API: {where}: {first['msg']}", **kept)
    usage = Usage(
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
        cache_read_tokens=answer.usage.cache_read_input_tokens or 0,
        cache_write_tokens=answer.usage.cache_creation_input_tokens or 0,
    )
    return Reply(
        text="".join(block.text for block in answer.content if block.type == "text"),
        stop_reason=answer.stop_reason,
        usage=usage,
        usd=pricing.price(request["model"], usage),
        **kept,
    )
