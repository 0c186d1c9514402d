"""Lets calls start at the pace that ``core.limiter`` decides: the waiting, and nothing else."""

from __future__ import annotations

import asyncio
import heapq
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from bot.core import limiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bot.core.limiter import Pace, Signal


@dataclass(order=True, slots=True)
class _Waiting:
    ticket: int
    turn: asyncio.Future[None] = field(compare=False)


class Limiter:
    """Gives out turns; for one event loop. See ``core.limiter`` for the policy.

    Args:
        most: Calls in flight, at most.
        clock: Seconds that only go forward.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace: Pace = limiter.start(most)
        self._clock = clock
        self._running = 0
        self._waiting: list[_Waiting] = []
        self._tickets = count()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def width(self) -> int:
        """Calls that may be in flight now."""
        return self._pace.calls

    def ticket(self) -> int:
        """A place in the order of calls; it holds for every attempt of a call."""
        return next(self._tickets)

    @asynccontextmanager
    async def turn(self, ticket: int) -> AsyncIterator[float]:
        """Wait for a turn, and hold it; yields when it began."""
        waiting = _Waiting(ticket, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, waiting)
        self._admit()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            self._leave(waiting)
            raise
        try:
            yield self._clock()
        finally:
            self._running -= 1
            self._admit()

    def told(self, signal: Signal, *, began: float) -> None:
        """Learn from an attempt that ``began`` then."""
        self._pace = limiter.told(self._pace, signal, began=began, now=self._clock())
        self._admit()

    def _leave(self, waiting: _Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            heapq.heapify(self._waiting)
        elif waiting.turn.done() and not waiting.turn.cancelled():
            self._running -= 1  # its turn came just as it was cancelled
            self._admit()

    def _admit(self) -> None:
        now = self._clock()
        while self._waiting and limiter.room(self._pace, running=self._running, now=now):
            waiting = heapq.heappop(self._waiting)
            if not waiting.turn.done():  # else it was cancelled and has not left yet
                self._running += 1
                waiting.turn.set_result(None)
        if self._waiting and now < self._pace.until and self._alarm is None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(self._pace.until - now, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._admit()
