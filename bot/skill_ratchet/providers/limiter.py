"""How many calls may be in flight: adapts to what a server says of its limits.

The policy, in the order in which it is applied:

1. Never more than the configured number; never less than one.
2. A refusal (429, 529) halves the width, once for all the calls that were under way together: those
   that began before the last cut say nothing new about the width after it.
3. A refusal that says when to come back stops every start until then.
4. A limit that is used up (``anthropic-ratelimit-*-remaining: 0``) stops every start until it is
   filled again, before a call is refused.
5. An answer widens by one call a round of calls, up to the configured number.
6. Calls start in the order in which they first asked; one that is made again keeps its place. The
   two sides of a pair ask one after the other, so no later pair gets in between.

Times are seconds of one clock that only goes forward. ``Limiter`` has the clock and does the
waiting; everything else here is the policy, which is pure.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TYPE_CHECKING

from skill_ratchet.providers.text import UnsentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

REFUSED = frozenset({429, 529})
CUT = 0.5
LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")
MOST_WAIT = 300.0  # seconds; a server that asks for more has not answered
FIRST_BACKOFF, MOST_BACKOFF = 0.5, 8.0  # seconds, as Anthropic's SDK waits


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast calls may go. ``width`` is fractional while it grows; ``until`` stops starts."""

    most: int
    width: float
    until: float = 0.0
    cut_at: float = float("-inf")

    @property
    def calls(self) -> int:
        """Calls that may be in flight."""
        return max(1, min(self.most, int(self.width)))


@dataclass(frozen=True, slots=True)
class Signal:
    """What one attempt said of the server's limits; waits in seconds from its end."""

    refused: bool = False
    answered: bool = False
    retry_after: float | None = None
    empty_for: float | None = None  # until a limit that is used up is filled again


def start(most: int) -> Pace:
    """The pace to begin with: as configured."""
    return Pace(most=most, width=float(most))


def told(pace: Pace, signal: Signal, *, began: float, now: float) -> Pace:
    """The pace after an attempt that ``began`` then and has ended now."""
    after = pace
    if signal.refused and began >= pace.cut_at:
        after = replace(after, width=max(1.0, pace.calls * CUT), cut_at=now)
    elif signal.answered:
        after = replace(after, width=min(float(pace.most), pace.width + 1 / pace.width))
    waits = [signal.retry_after if signal.refused else None, signal.empty_for]
    until = [now + min(wait, MOST_WAIT) for wait in waits if wait is not None]
    return replace(after, until=max([after.until, *until]))


def room(pace: Pace, *, running: int, now: float) -> int:
    """How many calls may start."""
    return 0 if now < pace.until else max(0, pace.calls - running)


def read(status: int, headers: Mapping[str, str], *, at: datetime) -> Signal:
    """What an answer's status and headers (names in lower case) say; ``at`` is the time, UTC."""
    return Signal(
        refused=status in REFUSED,
        answered=200 <= status < 300,  # noqa: PLR2004  HTTP's own numbers
        retry_after=retry_after(headers, at=at),
        empty_for=_empty_for(headers, at=at),
    )


def retry_after(headers: Mapping[str, str], *, at: datetime) -> float | None:
    """Seconds to wait, as the server asks; None where it does not, or not in earnest."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    seconds = _number(said)
    if seconds is not None or said is None:
        return seconds
    try:
        date = parsedate_to_datetime(said)
    except ValueError:
        return None
    return _seconds_to(date, at)


def worth_retrying(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same call may succeed: the server's word, else as Anthropic's SDK decides."""
    said = headers.get("x-should-retry")
    if said in ("true", "false"):
        return said == "true"
    return status in (408, 409, 429) or status >= 500  # noqa: PLR2004


def backoff(failures: int, *, chance: float) -> float:
    """Seconds to wait after so many failures in a row, where the server says nothing.

    Args:
        failures: From 1.
        chance: Drawn from [0, 1): takes off up to a quarter, so that calls come back one by one.
    """
    longest: float = min(FIRST_BACKOFF * 2 ** (min(failures, 10) - 1), MOST_BACKOFF)
    return longest * (1 - chance / 4)


def _empty_for(headers: Mapping[str, str], *, at: datetime) -> float | None:
    """Until every limit that is used up is filled again; None when none is known to be."""
    waits = []
    for limit in LIMITS:
        remaining = _number(headers.get(f"anthropic-ratelimit-{limit}-remaining"))
        said = headers.get(f"anthropic-ratelimit-{limit}-reset")
        if remaining != 0 or said is None:
            continue
        try:
            waits.append(_seconds_to(datetime.fromisoformat(said), at))
        except ValueError:
            continue
    return max(waits, default=None)


def _seconds_to(date: datetime, at: datetime) -> float:
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - at).total_seconds())


def _number(said: str | None) -> float | None:
    """A finite number that is not negative; None for anything else."""
    try:
        value = float(said or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


# The waiting ---------------------------------------------------------------------------------


@dataclass(order=True, slots=True)
class _Waiting:
    ticket: int
    turn: asyncio.Future[None] = field(compare=False)


class Limiter:
    """Gives out turns; for one event loop. see the policy above.

    Args:
        most: Calls in flight, at most.
        clock: Seconds that only go forward.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace: Pace = start(most)
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
        """Wait for a turn, and hold it; yields when it began.

        Raises:
            UnsentError: It was cancelled while it waited.
        """
        waiting = _Waiting(ticket, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, waiting)
        self._admit()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            self._leave(waiting)
            raise UnsentError from None
        try:
            yield self._clock()
        finally:
            self._running -= 1
            self._admit()

    def told(self, signal: Signal, *, began: float) -> None:
        """Learn from an attempt that ``began`` then."""
        self._pace = told(self._pace, signal, began=began, now=self._clock())
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
        while self._waiting and room(self._pace, running=self._running, now=now):
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
