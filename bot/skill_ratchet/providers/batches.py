"""Calls of a sweep as one batch at half the price, for runs that nobody waits for.

Calls that belong to a run are collected until no more come, sent as one message batch, and waited
for. A batch is written down before it is sent, and again when the API has named it. So a run that
was killed takes it up again and pays nothing twice: one whose name was not heard is found among the
newest of the workspace by the names of its calls. What a batch does not answer (errored, expired,
canceled, too late) is asked by itself, at the full price. Every other call, the meta-agent's for
one, is never put into a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import anthropic  # two seconds, of a run that waits for minutes

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import canonical_json, digest
from skill_ratchet.ledger.locks import writing
from skill_ratchet.providers.messages import body_of, check_options, read_answer
from skill_ratchet.providers.text import CALL
from skill_ratchet.providers.transport import address, sdk_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from pathlib import Path

    from skill_ratchet.core.records import Reply, Request
    from skill_ratchet.providers.anthropic import Anthropic

PRICE = 0.5  # of a single call
LINGER = 1.0  # seconds without a further call until a batch is sent
FIRST_POLL, MOST_POLL, GROWTH = 2.0, 60.0, 1.5  # seconds between looks, and by how much they grow
MOST_CALLS, MOST_BYTES = 10_000, 200_000_000  # of one batch; the API takes 100,000 and 256 MB
AFTER_CANCEL = 120.0  # seconds that a batch which was cancelled gets to end
RETRIES = 4
LIFE = 29 * 86_400.0  # seconds that the API keeps results
SKEW = 3600.0  # seconds by which this clock may be ahead of the API's
PASSING = (  # what may be different in a moment
    anthropic.APIConnectionError,
    anthropic.InternalServerError,
    anthropic.OverloadedError,
    anthropic.RateLimitError,
)


@dataclass(slots=True)
class _InBatch:
    """A call that waits; ``reply`` is None in the end when the batch did not answer it."""

    name: str
    body: dict[str, Any]
    reply: asyncio.Future[Reply | None] = field(repr=False)


@dataclass(slots=True, eq=False)
class _Sent:
    """A batch that was sent, or was about to be. ``batch`` is None until the API has named it."""

    names: frozenset[str]  # of its calls
    at: float  # seconds since 1970
    batch: str | None = None
    answered: set[str] | None = None  # names, once it has ended


class Batched:
    """The anthropic provider, with the calls of runs in batches.

    Args:
        single: Makes the calls that are not, or cannot be, in a batch.
        folder: Where batches that are waited for are written down.
        wait: Seconds after which a batch is cancelled.
        cache: Mark the system text as a prefix to be cached.
        linger: Seconds without a further call until a batch is sent.
        sleep: Waits so many seconds.
        clock: Seconds that only go forward.
    """

    name = "anthropic"
    tools = True
    deterministic = False
    sweeps = True  # calls of a whole sweep are worth having under way at once

    def __init__(
        self,
        single: Anthropic,
        *,
        folder: Path,
        wait: float,
        cache: bool,
        base_url: str | None,
        api_key: str | None = None,
        linger: float = LINGER,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.concurrency = MOST_CALLS
        self.worst_case_usd = single.worst_case_usd
        self._single, self._folder, self._limit, self._cache = single, folder, wait, cache
        self._base_url, self._api_key = base_url, api_key
        self._linger, self._sleep, self._clock = linger, sleep, clock
        self._calls: list[_InBatch] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: list[_Sent] | None = None  # by earlier runs
        self._sent: list[_Sent] = []  # waited for by this one
        self._taken: set[str] = set()
        self._sdk: anthropic.AsyncAnthropic | None = None

    @property
    def left(self) -> list[str]:
        """Batches that were sent and not waited for to the end."""
        waited = (one.batch for one in self._sent if one.answered is None)
        return sorted({batch for batch in waited if batch is not None})

    async def complete(self, request: Request) -> Reply:
        """Answer one request, in a batch if it belongs to a run.

        Raises:
            RatchetError: The options or credentials are wrong, or the batch cannot be written down.
        """
        run = CALL.get()
        if not run:
            return await self._single.complete(request)
        if complaints := check_options(request.options):
            raise RatchetError(" ".join(complaints), hint="Correct the model's options.")
        body = body_of(request, cache=self._cache)
        began = self._clock()
        call = _InBatch(_name(run, body), body, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        self._wait_for_more()
        reply = await call.reply
        self._taken.add(call.name)
        if reply is None:
            return await self._single.complete(request)
        return reply.model_copy(update={"latency": max(0.0, self._clock() - began)})

    def forecast_usd(
        self, requests: Sequence[Request], seen: Sequence[Reply], *, recent: Sequence[Reply]
    ) -> list[float] | None:
        """What each of these calls will cost in a batch in USD; see ``Anthropic``."""
        prices = self._single.forecast_usd(requests, seen, recent=recent)
        return None if prices is None else [PRICE * price for price in prices]

    async def aclose(self) -> None:
        """Stop waiting; a batch that is under way goes on, and the next run takes it up."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sent in self._sent:
            if sent.answered is not None and sent.answered <= self._taken:  # all are in the journal
                self._forget(sent)
        if self._sdk is not None:
            await self._sdk.close()
        await self._single.aclose()

    # Collect ----------------------------------------------------------------------------------

    def _wait_for_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._linger, self._send)

    def _send(self) -> None:
        calls = [call for call in self._calls if not call.reply.done()]  # not those cancelled
        self._calls, self._timer = [], None
        try:
            self._share_out(calls)
        except Exception as error:  # noqa: BLE001 - or the calls would wait for ever
            for call in calls:
                if not call.reply.done():
                    call.reply.set_exception(error)

    def _share_out(self, calls: list[_InBatch]) -> None:
        """Calls that an earlier run sent wait for that batch, the others go into new ones."""
        for sent in self._recorded():
            again = [call for call in calls if call.name in sent.names]
            if again:
                calls = [call for call in calls if call.name not in sent.names]
                self._start(self._take_up(sent, again), again)
        SystemRandom().shuffle(calls)  # the sides of a pair have no fixed order
        for some in _portions(calls):
            self._start(self._create(some), some)

    def _start(self, work: Any, calls: Sequence[_InBatch]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            error = None if done.cancelled() else done.exception()
            for call in calls:
                if call.reply.done():
                    continue
                if done.cancelled():
                    call.reply.cancel()
                elif isinstance(error, RatchetError):
                    call.reply.set_exception(error)
                else:
                    call.reply.set_result(None)

        task.add_done_callback(ended)

    # Send and wait ----------------------------------------------------------------------------

    async def _create(self, calls: Sequence[_InBatch]) -> None:
        sent = _Sent(frozenset(call.name for call in calls), time.time())
        self._write_down(sent)
        try:
            sent.batch = await self._send_off(sent, calls)
        except anthropic.AnthropicError as error:
            if not isinstance(error, PASSING):
                self._forget(sent)
            return  # each call is made by itself, and says what is wrong
        self._write_down(sent)
        await self._answer(sent, calls)

    async def _send_off(self, sent: _Sent, calls: Sequence[_InBatch]) -> str:
        """Have a batch made, once: where the API did not say so, it is looked for before another.

        It has no idempotency keys, so the SDK's own repetitions could make a second one.
        """
        requests: Any = [{"custom_id": call.name, "params": call.body} for call in calls]
        once, unsure = self._client().with_options(max_retries=0), False
        for pause in (FIRST_POLL * GROWTH**nth for nth in range(RETRIES)):
            with contextlib.suppress(*PASSING):
                if unsure and (found := await self._find(sent)):
                    return found
                unsure = True
                return (await once.messages.batches.create(requests=requests)).id
            await self._sleep(pause)
        return await self._find(sent) or (await once.messages.batches.create(requests=requests)).id

    async def _take_up(self, sent: _Sent, calls: Sequence[_InBatch]) -> None:
        """Wait for what an earlier run has sent; send it if that one did not come to it."""
        if sent.batch is None:
            try:
                sent.batch = await self._find(sent)
            except anthropic.AnthropicError:
                return  # the record stays: another run may find it
            if sent.batch is None:
                self._forget(sent)
                await self._create(calls)
                return
            self._write_down(sent)
        await self._answer(sent, calls)

    async def _find(self, sent: _Sent) -> str | None:
        """A batch of just these calls; whose calls it has, the API tells when it has ended."""
        batches = self._client().messages.batches
        async for batch in batches.list(limit=100):  # the newest first
            if batch.created_at.timestamp() < sent.at - SKEW:
                break
            if sum(batch.request_counts.model_dump().values()) != len(sent.names):
                continue
            await self._ended(batch.id, cancel=False)
            with contextlib.suppress(anthropic.NotFoundError):
                names = {line.custom_id async for line in await batches.results(batch.id)}
                if names == sent.names:
                    return batch.id
        return None

    async def _answer(self, sent: _Sent, calls: Sequence[_InBatch]) -> None:
        """Wait for a batch, and hand its answers on."""
        assert sent.batch is not None  # noqa: S101 - it was made, or found
        if sent not in self._sent:
            self._sent.append(sent)
        answered = set()
        try:
            await self._ended(sent.batch)
            by_name = {call.name: call for call in calls}
            async for line in await self._client().messages.batches.results(sent.batch):
                call = by_name.get(line.custom_id)
                if call is not None and line.result.type == "succeeded" and not call.reply.done():
                    message = line.result.message.to_dict(mode="json")
                    answered.add(call.name)
                    call.reply.set_result(_half(message, call))
        except anthropic.NotFoundError:
            pass  # it is too old: what it would have answered is asked again
        except anthropic.AnthropicError:
            return  # the record stays: another run may reach it
        sent.answered = answered | (sent.answered or set())

    async def _ended(self, batch: str, *, cancel: bool = True) -> None:
        """Poll until a batch has ended; when it is too late cancel it, or leave it alone."""
        batches = self._client().messages.batches
        pause, began, deadline = FIRST_POLL, self._clock(), self._limit
        cancelled = False
        while True:
            with contextlib.suppress(*PASSING):  # it goes on, whether we can see it or not
                if (await batches.retrieve(batch)).processing_status == "ended":
                    return
            if self._clock() - began >= deadline:
                if cancelled or not cancel:
                    return
                with contextlib.suppress(*PASSING):
                    await batches.cancel(batch)
                cancelled, pause, deadline = True, FIRST_POLL, self._limit + AFTER_CANCEL
            await self._sleep(pause)
            pause = min(MOST_POLL, pause * GROWTH)

    def _client(self) -> anthropic.AsyncAnthropic:
        if self._sdk is None:
            client = sdk_client(address(self._base_url), key=self._api_key)
            self._sdk = client.with_options(max_retries=RETRIES)
        return self._sdk

    # Write down -------------------------------------------------------------------------------

    def _record(self, sent: _Sent) -> Path:
        return self._folder / f"{digest('batch', *sorted(sent.names))[:16]}.json"

    def _write_down(self, sent: _Sent) -> None:
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            half = self._record(sent).with_suffix(".new")
            said = {"batch": sent.batch, "at": sent.at, "calls": sorted(sent.names)}
            half.write_text(json.dumps(said), "utf-8")
            half.rename(self._record(sent))

    def _forget(self, sent: _Sent) -> None:
        self._record(sent).unlink(missing_ok=True)

    def _recorded(self) -> list[_Sent]:
        """The batches of runs that died."""
        if self._open is None:
            self._open = []
            for path in sorted(self._folder.glob("*.json")):
                with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
                    said = json.loads(path.read_text("utf-8"))
                    if time.time() - said["at"] > LIFE:
                        path.unlink()
                        continue
                    batch = said["batch"] and str(said["batch"])
                    names = frozenset(str(name) for name in said["calls"])
                    self._open.append(_Sent(names, float(said["at"]), batch))
        return self._open


def _name(run: str, body: dict[str, Any]) -> str:
    """At most 64 characters, as the API asks: the run, and what is asked for it."""
    return f"{run[:32]}-{digest(body)[:24]}"


def _half(message: Any, call: _InBatch) -> Reply:
    reply = read_answer(message, request=call.body, request_id=None)
    return reply.model_copy(update={"usd": None if reply.usd is None else PRICE * reply.usd})


def _portions(calls: Iterable[_InBatch]) -> list[list[_InBatch]]:
    """Calls that fit into one batch each."""
    portions: list[list[_InBatch]] = []
    room = 0
    for call in calls:
        size = len(canonical_json(call.body).encode("utf-8", "replace"))
        if not portions or len(portions[-1]) >= MOST_CALLS or size > room:
            portions.append([])
            room = MOST_BYTES
        portions[-1].append(call)
        room -= size
    return portions
