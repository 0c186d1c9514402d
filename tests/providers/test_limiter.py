"""The limiter: what must always hold, the headers as tables, the waiting with a clock of ours."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages_server import Planned, answer, failure, serve, text
from skill_ratchet.providers import limiter
from skill_ratchet.providers.limiter import Limiter, Signal
from tests.providers.test_anthropic import ask, closing, make_provider, make_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skill_ratchet.providers.limiter import Pace

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
waits = st.none() | st.floats(0, 1000)
signals = st.builds(
    Signal, refused=st.booleans(), answered=st.booleans(), retry_after=waits, empty_for=waits
)
# Of each attempt: its signal, how long it took, and how long after the one before it ended.
histories = st.lists(st.tuples(signals, st.floats(0, 50), st.floats(0, 50)), max_size=60)


def play(most: int, history: Sequence[tuple[Signal, float, float]]) -> list[tuple[float, Pace]]:
    """The pace after each attempt, with the time."""
    pace, now, paces = limiter.start(most), 0.0, []
    for signal, took, gap in history:
        now += gap
        pace = limiter.told(pace, signal, began=now - took, now=now)
        paces.append((now, pace))
    return paces


# Pure -----------------------------------------------------------------------------------------


@given(st.integers(1, 256), histories)
def test_never_more_than_configured_and_never_less_than_one(most: int, history: Any) -> None:
    for now, pace in play(most, history):
        assert 1 <= pace.calls <= most
        assert 0 <= limiter.room(pace, running=0, now=now) <= most
        assert limiter.room(pace, running=most, now=now) == 0


@given(st.integers(1, 256), histories)
def test_a_stop_ends(most: int, history: Any) -> None:
    """Whatever servers say, calls start again at most MOST_WAIT later."""
    for now, pace in play(most, history):
        assert pace.until <= now + limiter.MOST_WAIT
        assert limiter.room(pace, running=0, now=now + limiter.MOST_WAIT) >= 1


@given(st.integers(1, 64), st.integers(2, 64))
def test_calls_that_were_under_way_together_cut_once(most: int, refused: int) -> None:
    """Sixteen refusals of one burst are one piece of news."""
    pace = limiter.start(most)
    for _ in range(refused):
        pace = limiter.told(pace, Signal(refused=True), began=0, now=5)
    assert pace.calls == max(1, most // 2)
    assert limiter.told(pace, Signal(refused=True), began=5, now=9).calls == max(1, pace.calls // 2)


@settings(deadline=None)  # how long it takes says nothing
@given(st.integers(1, 32), histories)
def test_answers_alone_bring_the_configured_width_back(most: int, history: Any) -> None:
    """A round of calls widens by about one, so so many rounds are enough."""
    paces = play(most, history)
    now, pace = paces[-1] if paces else (0.0, limiter.start(most))
    for _ in range(most * (most + 1)):
        pace = limiter.told(pace, Signal(answered=True), began=now, now=now)
    assert pace.calls == most


def test_one_round_of_answers_widens_by_one_call() -> None:
    pace = limiter.told(limiter.start(16), Signal(refused=True), began=0, now=0)
    assert pace.calls == 8
    for _ in range(9):
        pace = limiter.told(pace, Signal(answered=True), began=1, now=1)
    assert pace.calls == 9


def in_(seconds: float) -> str:
    return (AT + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, Signal(answered=True)),
        (429, {}, Signal(refused=True)),
        (529, {"retry-after": "3"}, Signal(refused=True, retry_after=3)),
        (
            429,
            {"retry-after-ms": "250", "retry-after": "9"},
            Signal(refused=True, retry_after=0.25),
        ),
        (
            429,
            {"retry-after": "Wed, 04 Mar 2026 05:06:17 GMT"},
            Signal(refused=True, retry_after=10),
        ),
        (500, {"retry-after": "2"}, Signal(retry_after=2)),
        (
            200,
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": in_(12),
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": in_(30),
            },
            Signal(answered=True, empty_for=30),
        ),
        (
            200,
            {
                "anthropic-ratelimit-requests-remaining": "7",
                "anthropic-ratelimit-requests-reset": in_(12),
            },
            Signal(answered=True),
        ),
    ],
)
def test_what_headers_say(status: int, headers: Mapping[str, str], expected: Signal) -> None:
    assert limiter.read(status, headers, at=AT) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "soon"},
        {"retry-after": "-3"},
        {"retry-after": "inf"},
        {"retry-after": "nan"},
        {"retry-after": ""},
        {"anthropic-ratelimit-requests-remaining": "0"},
        {
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "later",
        },
        {"anthropic-ratelimit-requests-reset": in_(12)},
    ],
)
def test_a_header_that_says_nothing_stops_nothing(headers: Mapping[str, str]) -> None:
    signal = limiter.read(200, headers, at=AT)
    assert (signal.retry_after, signal.empty_for) == (None, None)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {}, True),
        (529, {}, True),
        (500, {}, True),
        (408, {}, True),
        (409, {}, True),
        (400, {}, False),
        (401, {}, False),
        (400, {"x-should-retry": "true"}, True),
        (529, {"x-should-retry": "false"}, False),
    ],
)
def test_what_is_worth_trying_again(
    status: int,
    headers: Mapping[str, str],
    expected: bool,  # noqa: FBT001  a column of the table
) -> None:
    assert limiter.worth_retrying(status, headers) is expected


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_a_backoff_grows_up_to_eight_seconds(failures: int, chance: float) -> None:
    assert 0.375 <= limiter.backoff(failures, chance=chance) <= limiter.MOST_BACKOFF


# Waiting --------------------------------------------------------------------------------------


class Stage:
    """Calls that begin when their turn comes and end when they are told to."""

    def __init__(self, most: int) -> None:
        self.limiter = Limiter(most, clock=lambda: 0.0)
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    def call(self, name: str, ticket: int | None = None) -> asyncio.Task[None]:
        self._ends[name] = asyncio.Event()
        taken = self.limiter.ticket() if ticket is None else ticket
        return asyncio.create_task(self._call(name, taken))

    async def _call(self, name: str, ticket: int) -> None:
        async with self.limiter.turn(ticket):
            self.begun.append(name)
            await self._ends[name].wait()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settle()


async def settle() -> None:
    """Let every task run until all of them wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_calls_begin_in_the_order_in_which_they_asked() -> None:
    """The sides of a pair ask one after the other: nothing gets in between, neither is left out."""

    async def play() -> list[str]:
        stage = Stage(2)
        tasks = [stage.call(name) for name in ("a+", "a-", "b+", "b-", "c+", "c-")]
        await settle()
        for name in ("a-", "b+", "a+", "b-", "c+", "c-"):
            await stage.end(name)
        await asyncio.gather(*tasks)
        return stage.begun

    assert asyncio.run(play()) == ["a+", "a-", "b+", "b-", "c+", "c-"]


def test_a_call_made_again_keeps_its_place() -> None:
    async def play() -> list[str]:
        stage = Stage(1)
        old, first = stage.limiter.ticket(), stage.call("first")
        later = stage.call("later")
        await settle()
        again = stage.call("again", old)
        for name in ("first", "again", "later"):
            await stage.end(name)
        await asyncio.gather(first, again, later)
        return stage.begun

    assert asyncio.run(play()) == ["first", "again", "later"]


def test_a_cut_lets_fewer_begin_and_cancels_none() -> None:
    async def play() -> tuple[list[str], list[str]]:
        stage = Stage(4)
        tasks = [stage.call(str(number)) for number in range(6)]
        await settle()
        stage.limiter.told(Signal(refused=True), began=0.0)
        await stage.end("0")
        await stage.end("1")
        during = list(stage.begun)
        for number in range(2, 6):
            await stage.end(str(number))
        await asyncio.gather(*tasks)
        return during, stage.begun

    during, done = asyncio.run(play())
    assert during == ["0", "1", "2", "3"]
    assert done == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("moment", ["waiting", "admitted"])
def test_a_cancelled_call_gives_its_turn_on(moment: str) -> None:
    async def play() -> list[str]:
        stage = Stage(1)
        first, second, third = (stage.call(name) for name in ("first", "second", "third"))
        await settle()
        if moment == "waiting":
            second.cancel()
            await stage.end("first")
        else:
            stage._ends["first"].set()
            await first  # its turn has gone to the second, which did not see it yet
            second.cancel()
        await settle()
        await stage.end("third")
        await asyncio.wait([first, second, third])
        return stage.begun

    assert asyncio.run(play())[-1] == "third"


def test_a_stop_ends_by_itself() -> None:
    """The server said when to come back: nothing else has to happen for calls to begin again."""

    async def play() -> list[str]:
        ticks = count()
        waiting = Limiter(2, clock=lambda: next(ticks) / 1000)
        waiting.told(Signal(refused=True, retry_after=0.002), began=0.0)
        begun = []
        async with waiting.turn(waiting.ticket()):
            begun.append("call")
        return begun

    assert asyncio.run(play()) == ["call"]


# In the provider ------------------------------------------------------------------------------


def test_a_refusal_narrows_and_the_call_is_made_again() -> None:
    """No retry is hidden from the limiter; the trace has the id of the answer that counts."""

    async def play() -> tuple[int, str | None, str | None]:
        provider = make_provider(server.url, concurrency=8, max_retries=1)
        reply = await closing(provider, provider.complete(make_request()))
        return provider.limiter.width, reply.text, reply.request_id

    with serve(failure(429, "rate_limit_error", "slow"), answer(text("ok"))) as server:
        width, said, name = asyncio.run(play())
    assert (width, said, name) == (4, "ok", "req_ok")


def test_a_wait_longer_than_the_longest_is_a_failed_call() -> None:
    """Nobody waits an hour for one case: it has no score, and the run can be made again."""
    slow = failure(429, "rate_limit_error", "come back tomorrow")
    with serve(Planned(status=429, body=slow.body, headers={"retry-after": "86400"})) as server:
        reply = ask(server, max_retries=5)
    assert len(server.bodies) == 1
    assert reply.error == "429 rate_limit_error: come back tomorrow"
    assert reply.usd == 0.0


def test_a_server_that_takes_four_at_once_gets_all_calls_answered() -> None:
    """Sixteen at once are configured, four are allowed: it comes down and nothing is lost."""

    async def play() -> list[str | None]:
        provider = make_provider(server.url, concurrency=16, max_retries=8)
        try:
            calls = [provider.complete(make_request()) for _ in range(48)]
            return [reply.text for reply in await asyncio.gather(*calls)]
        finally:
            await provider.aclose()

    from messages_fake import Model  # noqa: PLC0415 - puts the tests' folder on the path

    model = Model(answer=lambda _: "ok", latency=0.005, most=4, retry_after=0.01)
    with serve(by=model.reply) as server:
        assert asyncio.run(play()) == ["ok"] * 48
    assert (model.answered, model.widest) == (48, 4)
