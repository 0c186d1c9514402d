"""Money and calls are booked that nobody has spent, or spent ones are not; nothing seems to go on.

Nobody attacks here on purpose: a new user has no key, a wrong one, or a server that is away. The
month's budget must not be gone for that, and an hour of a run neither.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from messages_server import MessagesServer, Planned, answer, failure, serve, text
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Failure, Reply, Request, Run
from skill_ratchet.experiment import books
from skill_ratchet.experiment.budget import Budget
from skill_ratchet.experiment.runner import paid_call
from skill_ratchet.ledger import access
from skill_ratchet.project import repository
from skill_ratchet.providers.anthropic import Anthropic
from skill_ratchet.providers.text import UnsentError
from world import World

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "claude-haiku-5-5"
CASES = {"train": tuple(f"t{n}" for n in range(24)), "holdout": ("h1", "h2")}


def world(path: Path, **provider: Any) -> World:
    """A project that asks a server of the Messages API, or what stands in its place."""
    settings = {"type": "anthropic", "max_retries": 0, "concurrency": 4}
    return World.make(
        path / "project",
        cases=CASES,
        config={
            "provider": settings | provider,
            "model": MODEL,
            "budget": {"month_usd": 1.0, "usd": 1.0},
        },
    )


def spent(made: World) -> Run:
    """What the last run has on record."""
    run = made.ledger().last_run()
    assert run
    assert run.ended
    return run


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


# Must not happen: booked, and never sent --------------------------------------------------------


def test_without_a_key_nothing_is_booked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    made = world(tmp_path, base_url="https://api.example.com")
    for _ in range(2):
        ran = made.run()
        assert ran.code != 0
        assert "no API key" in ran.err
        assert (spent(made).calls, spent(made).counted, spent(made).usd) == (0, 0, 0)


def test_a_refused_connection_is_not_booked(tmp_path: Path) -> None:
    made = world(tmp_path, base_url=closed_port())
    assert made.run().code != 0
    assert (spent(made).calls, spent(made).counted, spent(made).unsure) == (0, 0, 0)


def test_a_program_that_is_not_there_is_not_booked(tmp_path: Path) -> None:
    made = World.make(
        tmp_path / "project",
        config={"provider": {"type": "command", "command": ["no-such-program"]}},
    )
    ran = made.ratchet("eval", "--json")
    assert "cannot run 'no-such-program'" in ran.err
    assert (spent(made).calls, spent(made).counted) == (0, 0)


# Must not happen: asked again what was refused for good -----------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (401, "authentication_error", "Check the key"),
        (403, "permission_error", "Check what the key may use"),
        (404, "not_found_error", "Check `model` in ratchet.yml"),
    ],
)
def test_what_every_call_would_meet_stops_the_run_at_once(
    tmp_path: Path, status: int, said: str, told: str
) -> None:
    """At most as many are asked as were under way when the first answer came."""
    with serve(failure(status, said, "no")) as server:
        made = world(tmp_path, base_url=server.url)
        ran = made.run()
        assert len(server.bodies) <= 4
    assert ran.code != 0
    assert ran.err.count(f"{status} {said}") == 1, ran.err
    assert told in ran.err
    assert (spent(made).usd, spent(made).counted) == (0, 0)


def test_a_judge_that_is_no_model_stops_the_run_at_once(tmp_path: Path) -> None:
    def plan(body: Any, _: int) -> Planned:
        if "You judge one answer" in str(body["system"]):
            return failure(404, "not_found_error", "model: nope")
        return answer(text("yes"))

    with serve(by=plan) as server:
        made = world(tmp_path, base_url=server.url)
        made.configure(skills={"triage": {"scorer": {"type": "rubric", "rubric": "Polite?"}}})
        ran = made.ratchet("eval")
        assert len(server.bodies) <= 8
    assert ran.code != 0
    assert ran.err.count("not_found_error") == 1, ran.err


def test_what_was_answered_before_is_kept(tmp_path: Path) -> None:
    def plan(_: Any, number: int) -> Planned:
        return answer(text("yes")) if number <= 10 else failure(403, "permission_error", "no")

    with serve(by=plan) as server:
        made = world(tmp_path, base_url=server.url)
        assert made.run().code != 0
        assert 10 < len(server.bodies) <= 14
    kept = [run for run in made.ledger().traces() if run.score]
    assert len(kept) == 10
    assert spent(made).usd == pytest.approx(sum(run.reply.usd or 0 for run in kept))


# Must not happen: spent perhaps, and not booked -------------------------------------------------


@pytest.mark.parametrize("fault", ["reset", "cut"])
def test_what_may_have_been_billed_is_booked_as_such(tmp_path: Path, fault: Any) -> None:
    with serve(Planned(fault=fault, body=b"{}" * 50)) as server:
        made = world(tmp_path, base_url=server.url)
        assert made.run().code != 0
    run = spent(made)
    assert run.calls == len(server.bodies) > 0
    assert run.unsure > 0
    assert run.counted == pytest.approx(run.unsure)


def test_what_was_booked_in_doubt_is_shown_and_can_be_corrected(tmp_path: Path) -> None:
    with serve(by=lambda _, n: answer(text("yes")) if n < 9 else Planned(fault="reset")) as server:
        made = world(tmp_path, base_url=server.url)
        assert made.run().code != 0
    run = spent(made)
    short = run.name.partition("-")[0]
    assert short in made.ratchet("budget").out
    assert [one["run"] for one in made.ratchet("budget", "--json").json["runs"]] == [run.name]
    known = run.counted - run.unsure
    assert known > 0

    less = made.ratchet("budget", "--correct", run.name, "--usd", str(known / 2), "--why", "guess")
    assert "cannot have cost less" in less.err
    (least,) = re.findall(r"Name at least ([\d.]+)\.", less.err)
    assert known <= float(least) < known + 0.0001, "and that is taken"
    key = f"sk-ant-api03-{'aB3dE5' * 15}"
    for half in (("--usd", "1"), ("--why", "x"), ("--usd", "1", "--why", f"it says {key}")):
        assert made.ratchet("budget", "--correct", run.name, *half).code != 0
    assert spent(made) == run, "nothing was changed"

    done = made.ratchet("budget", "--correct", short, "--usd", f"{known}", "--why", "the bill")
    assert done.code == 0, done.err
    after = spent(made)
    assert after.counted == pytest.approx(known)
    assert after.unsure == 0
    assert after.amended
    assert (after.amended.counted, after.amended.why) == (run.counted, "the bill")
    assert made.ratchet("budget", "--json").json["counted_usd"] == pytest.approx(known)
    assert short not in made.ratchet("budget").out


def test_a_run_that_was_killed_counts_all_it_could_spend_until_somebody_knows() -> None:
    killed = killed_run()
    assert books.unsure(killed) == 5
    known = books.amend(killed, usd=0.25, why="the bill", at="2026-01-02T00:00:00+00:00")
    assert (known.counted, known.usd, books.unsure(known)) == (0.25, 0.25, 0)


def killed_run() -> Run:
    return Run(
        skill="triage",
        job="run",
        started_at="2026-01-01T00:00:00.000000+00:00",
        ended_at=None,
        ended=None,
        calls=0,
        usd=None,
        counted=5.0,
    )


def test_a_slip_of_a_correction_can_be_corrected() -> None:
    """What a person said is no answered call: the least is what was certain before."""
    slip = books.amend(killed_run(), usd=70.0, why="the bill", at="2026-01-02T00:00:00+00:00")
    right = books.amend(slip, usd=0.7, why="a slip", at="2026-01-03T00:00:00+00:00")
    assert right.counted == 0.7
    assert right.amended
    assert (right.amended.counted, right.amended.why) == (5.0, "a slip")

    partly = killed_run().with_(ended="done", ended_at="2026-01-01T01:00:00+00:00", unsure=2.0)
    again = books.amend(partly, usd=4.0, why="the bill", at="2026-01-02T00:00:00+00:00")
    assert books.amend(again, usd=3.0, why="a slip", at="2026-01-03T00:00:00+00:00").counted == 3
    with pytest.raises(RatchetError, match="cannot have cost less"):
        books.amend(again, usd=2.9, why="a slip", at="2026-01-03T00:00:00+00:00")


@pytest.mark.parametrize(
    ("usd", "why"), [("nan", "the bill"), ("inf", "the bill"), ("1", "x" * 1001)]
)
def test_a_correction_that_cannot_be_written_down_is_refused(
    tmp_path: Path, usd: str, why: str
) -> None:
    made = World.make(tmp_path / "p")
    ledger = access.open_to_write(repository.open_project(made.path), "triage")
    ledger.add_run(killed_run())
    ledger.flush("a run")
    name = killed_run().name
    done = made.ratchet("budget", "--correct", name, "--usd", usd, "--why", why)
    assert done.code == 2, done.err


def ask(server: MessagesServer, budget: Budget, **options: Any) -> Reply:
    async def once() -> Reply:
        provider = Anthropic(
            base_url=server.url,
            concurrency=2,
            cache=False,
            **{"timeout": 30.0, "max_retries": 2} | options,
        )
        try:
            return await paid_call(provider, request(), budget=budget)
        finally:
            await provider.aclose()

    return asyncio.run(once())


def request() -> Request:
    return Request(model=MODEL, system="s", messages=({"role": "user", "content": "q"},))


def budget() -> Budget:
    return Budget(usd=5.0, calls=9, minutes=None, clock=lambda: 0.0)


def test_an_attempt_that_was_lost_is_booked_beside_the_one_that_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("skill_ratchet.providers.limiter.backoff", lambda *_, **__: 0.0)
    spending = budget()
    with serve(Planned(fault="reset"), answer(text("yes"))) as server:
        reply = ask(server, spending)
    assert (reply.text, reply.unanswered) == ("yes", 1)
    assert spending.unsure > (reply.usd or 0) > 0
    assert spending.usd == pytest.approx(spending.unsure + (reply.usd or 0))
    assert spending.priced


@pytest.mark.parametrize(
    ("reply", "calls", "usd", "unsure"),
    [
        (Reply(text="yes", usd=0.5), 1, 0.5, 0.0),
        (Reply(error="429", failure=Failure.LIMITED, usd=0.0), 1, 0.0, 0.0),
        (Reply(error="gone", failure=Failure.LOST, unanswered=1), 1, 2.0, 2.0),
        (Reply(error="gone", failure=Failure.LOST, unanswered=2), 1, 4.0, 4.0),
        (Reply(error="none", failure=Failure.UNREACHED, usd=0.0), 0, 0.0, 0.0),
        (Reply(error="none", failure=Failure.UNREACHED, usd=0.0, unanswered=1), 1, 2.0, 2.0),
        (Reply(error="of an old provider"), 1, 2.0, 2.0),
    ],
)
def test_books(reply: Reply, calls: int, usd: float, unsure: float) -> None:
    class Once:
        def worst_case_usd(self, request: Request) -> float:  # noqa: ARG002
            return 2.0

        async def complete(self, request: Request) -> Reply:  # noqa: ARG002
            return reply

    spending = budget()
    asyncio.run(paid_call(Once(), request(), budget=spending.part("a part", usd=None, setting="x")))  # type: ignore[arg-type]
    assert (spending.calls, spending.usd, spending.unsure) == (calls, usd, unsure)
    assert spending.traffic.calls == 0


def test_a_call_that_is_cancelled_in_the_queue_was_not_sent() -> None:
    """A storm is waited out, and Ctrl-C is pressed: nothing was billed for what was still to go."""

    async def scene(server: MessagesServer) -> Budget:
        provider = Anthropic(
            base_url=server.url, timeout=30.0, max_retries=5, concurrency=1, cache=False
        )
        spending = budget()
        waited = asyncio.Event()
        spending.traffic.watch = lambda *_: waited.set()
        calls = [
            asyncio.ensure_future(paid_call(provider, request(), budget=spending)) for _ in range(3)
        ]
        await waited.wait()
        for call in calls:
            call.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended)
        assert not any(isinstance(one, UnsentError) for one in ended)
        await provider.aclose()
        return spending

    with serve(failure(429, "rate_limit_error", "slow", **{"retry-after-ms": "60000"})) as server:
        spending = asyncio.run(scene(server))
    assert (spending.calls, spending.usd, spending.unsure) == (0, 0, 0)


# Must not happen: it looks like a hang ----------------------------------------------------------


def test_it_says_what_it_waits_for(tmp_path: Path) -> None:
    def plan(_: Any, number: int) -> Planned:
        return answer(text("yes")) if number > 6 else failure(529, "overloaded_error", "busy")

    with serve(by=plan) as server:
        made = world(tmp_path, base_url=server.url, max_retries=4)
        ran = made.ratchet("eval")
    assert ran.code == 0, ran.err
    told = " ".join(ran.err.split())
    assert told.count("529") == 1, ran.err
    assert "the server said 529: trying again within 1 s, 4 calls under way" in told
