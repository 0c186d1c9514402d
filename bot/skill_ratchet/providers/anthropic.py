"""Claude, or any server that speaks the Messages API."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.base.traffic import TRAFFIC
from skill_ratchet.providers import forecast, limiter, pricing
from skill_ratchet.providers.limiter import Limiter
from skill_ratchet.providers.messages import (
    PATH,
    LostError,
    body_of,
    check_options,
    reply_of,
    size_of,
)
from skill_ratchet.providers.text import UnsentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill_ratchet.core.records import Reply, Request
    from skill_ratchet.providers.messages import Answered, Transport


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
        known = [(size_of(one.request), one.usage) for one in seen if one.error is None]
        used = forecast.usage(
            [size_of(body_of(request, cache=self._cache)) for request in requests],
            by=forecast.rates(known),
            at_once=self.concurrency,
            cache=self._cache,
            warm={size_of(one.request).name for one in recent},
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
            from skill_ratchet.providers.transport import connect  # noqa: PLC0415  a fifth of a second

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
        lost = 0
        try:
            for attempt in count(1):
                async with self.limiter.turn(ticket) as began:
                    started = time.monotonic()
                    got = await _attempt(transport, body)
                    latency = time.monotonic() - started
                    wait = self._wait(got, attempt=attempt, began=began)
                if wait is None:
                    break
                lost += isinstance(got, LostError) and got.sent
                await _pause(wait, why=_why(got))
        except UnsentError:
            if lost:  # an attempt before this one may have been billed
                raise asyncio.CancelledError from None
            raise
        reply = reply_of(got, body=body, redact=self._secrets.redact)
        return reply.model_copy(update={"unanswered": lost + reply.unanswered}), latency

    def _wait(self, got: Answered | LostError, *, attempt: int, began: float) -> float | None:
        """Seconds until the next attempt; None when this one was the last."""
        asked: float | None = None
        retry = True
        if not isinstance(got, LostError):
            signal = limiter.read(got.status, got.headers, at=datetime.now(UTC))
            self.limiter.told(signal, began=began)
            if signal.empty_for and signal.answered:
                TRAFFIC.get().waits("the rate limit is used up", signal.empty_for)
            asked = signal.retry_after
            retry = not signal.answered and limiter.worth_retrying(got.status, got.headers)
        if not retry or attempt > self._max_retries:
            return None
        if asked is None:
            return limiter.backoff(attempt, chance=random.random())  # noqa: S311  spreads calls out
        return asked if asked <= limiter.MOST_WAIT else None


async def _attempt(transport: Transport, body: dict[str, Any]) -> Answered | LostError:
    try:
        return await transport.post(PATH, body)
    except LostError as lost:
        return lost


async def _pause(seconds: float, *, why: str) -> None:
    """Wait before the next attempt.

    Raises:
        UnsentError: It was cancelled meanwhile.
    """
    TRAFFIC.get().waits(why, seconds)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        raise UnsentError from None


def _why(got: Answered | LostError) -> str:
    """What a wait is for, in a few words."""
    if isinstance(got, LostError):
        return "the connection was lost" if got.sent else "no connection"
    return f"the server said {got.status}"
