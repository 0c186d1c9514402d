"""Message batches: what is sent and paid, and what becomes of a run or a batch that dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from messages_server import MessagesServer, Planned, answer, serve, text
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Usage
from skill_ratchet.providers import batches, pricing
from skill_ratchet.providers.batches import Batched
from skill_ratchet.providers.text import CALL
from tests.providers.test_anthropic import make_provider, make_request
from world import META, World, idea

if TYPE_CHECKING:
    from skill_ratchet.core.records import Reply

MODEL = "claude-haiku-5-5"
BATCHES = "/v1/messages/batches"
FULL = pricing.price(MODEL, Usage(input_tokens=10, output_tokens=5))
STAMPS = {"created_at": datetime.now(UTC).isoformat(), "expires_at": "2099-01-02T00:00:00Z"}


class Api:
    """The Messages API with batches.

    Args:
        polls: How often a batch is looked at until it has ended; None for never by itself.
        results: What becomes of a call of a batch, by its text; an answer if it is not named.
    """

    def __init__(self, *, polls: int | None = 1, results: dict[str, str] | None = None) -> None:
        self.polls, self.results = polls, results or {}
        self.lose: list[bool] = []  # answers to the next batches that are sent; whether it is made
        self.batches: dict[str, list[dict[str, Any]]] = {}
        self.looks: dict[str, int] = {}
        self.cancelled: list[str] = []
        self.singles: list[Any] = []
        self.looked = threading.Event()
        self._lock = threading.Lock()

    @property
    def sizes(self) -> list[int]:
        """Calls of each batch, in the order in which they came."""
        return [len(calls) for calls in self.batches.values()]

    def reply(self, body: Any, number: int) -> Planned:
        with self._lock:
            return self._reply(body, number)

    def _reply(self, body: Any, number: int) -> Planned:
        path, _, what = body["path"].removeprefix(BATCHES).strip("/").partition("/")
        if not body["path"].startswith(BATCHES):
            self.singles.append(body)
            return answer(text(said(body)), input_tokens=10, output_tokens=5)
        if not path:
            return self._make(f"msgbatch_{number}", body["requests"])
        if path.startswith("?"):
            newest = [json.loads(self._batch(name).body) for name in reversed(self.batches)]
            return Planned(body=json.dumps({"data": newest, "has_more": False}).encode())
        if path not in self.batches:
            error = {"type": "error", "error": {"type": "not_found_error", "message": "no"}}
            return Planned(status=404, body=json.dumps(error).encode())
        if what == "cancel":
            self.cancelled.append(path)
        elif what == "results":
            lines = [self._line(call) for call in self.batches[path]]
            return Planned(body="\n".join(map(json.dumps, reversed(lines))).encode())
        else:
            self.looks[path] = self.looks.get(path, 0) + 1
            self.looked.set()
        return self._batch(path)

    def _make(self, name: str, requests: list[dict[str, Any]]) -> Planned:
        lost = self.lose.pop(0) if self.lose else None
        if lost is not False:
            self.batches[name] = requests
        if lost is None:
            return self._batch(name)
        self.looked.set()
        return Planned(fault="reset")

    def _ended(self, name: str) -> bool:
        enough = self.polls is not None and self.looks.get(name, 0) >= self.polls
        return enough or name in self.cancelled

    def _batch(self, name: str) -> Planned:
        status = "ended" if self._ended(name) else "in_progress"
        counts = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
        counts["succeeded" if status == "ended" else "processing"] = len(self.batches[name])
        made = {"id": name, "type": "message_batch", "processing_status": status}
        if status == "ended":
            made["results_url"] = f"{BATCHES}/{name}/results"
        return Planned(body=json.dumps(made | STAMPS | {"request_counts": counts}).encode())

    def _line(self, call: dict[str, Any]) -> dict[str, Any]:
        asked = call["params"]["messages"][0]["content"]
        kind = self.results.get(asked, "succeeded")
        result: dict[str, Any] = {"type": kind}
        if kind == "succeeded":
            result["message"] = json.loads(
                answer(text(said(call["params"])), input_tokens=10, output_tokens=5).body
            )
        if kind == "errored":
            error = {"type": "invalid_request_error", "message": "no"}
            result["error"] = {"type": "error", "error": error, "request_id": None}
        return {"custom_id": call["custom_id"], "result": result}


def said(body: Any) -> str:
    """A task's model that follows the rule alpha, and a meta-agent that proposes it."""
    system = json.dumps(body.get("system"))
    if META in system:
        return idea(1, "Rule alpha.")
    return "yes" if "Rule alpha." in system else "no"


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Still(Clock):
    """No time passes."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.Event().wait()


def batched(server: MessagesServer, folder: Path, clock: Clock, *, wait: float = 3600) -> Batched:
    return Batched(
        make_provider(server.url),
        folder=folder,
        wait=wait,
        cache=True,
        base_url=server.url,
        linger=0.1,
        sleep=clock.sleep,
        clock=lambda: clock.now,
    )


def ask(
    server: MessagesServer,
    folder: Path,
    *inputs: str,
    clock: Clock | None = None,
    wait: float = 3600,
) -> list[Reply]:
    """Ask one call a run, all together, and close."""

    async def one(provider: Batched, said: str) -> Reply:
        CALL.set(said * 40)
        return await provider.complete(make_request(messages=({"role": "user", "content": said},)))

    async def play() -> list[Reply]:
        provider = batched(server, folder, clock or Clock(), wait=wait)
        try:
            tasks = [asyncio.create_task(one(provider, said)) for said in inputs]
            return await asyncio.gather(*tasks)
        finally:
            await provider.aclose()

    return asyncio.run(play())


def test_calls_that_come_together_are_one_batch_at_half_the_price(tmp_path: Path) -> None:
    """Results come in any order: each call gets the one with its name."""
    api = Api()
    with serve(by=api.reply) as server:
        replies = ask(server, tmp_path, "a", "b", "c")
    assert (api.sizes, api.singles) == ([3], [])
    assert [reply.request["messages"][0]["content"] for reply in replies] == ["a", "b", "c"]  # type: ignore[index, call-overload]
    assert FULL is not None
    assert [reply.usd for reply in replies] == [pytest.approx(FULL / 2)] * 3
    assert replies[0].response == json.loads(
        answer(text("no"), input_tokens=10, output_tokens=5).body
    )
    assert list(tmp_path.iterdir()) == []  # nothing is waited for any more


def test_names_are_unique_and_as_the_api_wants_them(tmp_path: Path) -> None:
    api = Api()
    with serve(by=api.reply) as server:
        ask(server, tmp_path, "a", "b")
    [calls] = api.batches.values()
    names = [call["custom_id"] for call in calls]
    assert len(set(names)) == 2
    assert all(len(name) <= 64 and name.replace("-", "").isalnum() for name in names)
    assert all(call["params"]["system"][0]["cache_control"] for call in calls)


def test_a_call_of_no_run_is_never_in_a_batch(tmp_path: Path) -> None:
    """The meta-agent's turns follow each other: an hour for each would be a week."""

    async def play(server: MessagesServer) -> Reply:
        provider = batched(server, tmp_path, Clock())
        try:
            return await provider.complete(make_request())
        finally:
            await provider.aclose()

    api = Api()
    with serve(by=api.reply) as server:
        reply = asyncio.run(play(server))
    assert (api.sizes, len(api.singles), reply.usd) == ([], 1, FULL)


@pytest.mark.parametrize("kind", ["errored", "expired", "canceled"])
def test_what_a_batch_does_not_answer_is_asked_by_itself(kind: str, tmp_path: Path) -> None:
    api = Api(results={"b": kind})
    with serve(by=api.reply) as server:
        replies = ask(server, tmp_path, "a", "b", "c")
    assert [call["messages"][0]["content"] for call in api.singles] == ["b"]
    assert [reply.text for reply in replies] == ["no"] * 3
    assert FULL is not None
    assert [reply.usd for reply in replies] == pytest.approx([FULL / 2, FULL, FULL / 2])


def test_polling_backs_off(tmp_path: Path) -> None:
    api, clock = Api(polls=15), Clock()
    with serve(by=api.reply) as server:
        ask(server, tmp_path, "a", clock=clock)
    assert clock.slept[:3] == [2.0, 3.0, 4.5]
    assert clock.slept[-1] == batches.MOST_POLL


def test_a_late_batch_is_cancelled_and_asked_call_by_call(tmp_path: Path) -> None:
    api = Api(polls=None, results={"a": "canceled"})
    with serve(by=api.reply) as server:
        replies = ask(server, tmp_path, "a", "b", wait=10)
    assert api.cancelled == list(api.batches)
    assert [call["messages"][0]["content"] for call in api.singles] == ["a"]  # b was done in time
    assert [reply.text for reply in replies] == ["no", "no"]


def test_a_server_without_batches_is_asked_call_by_call(tmp_path: Path) -> None:
    """llama-server and the like speak the Messages API alone."""

    def reply(body: Any, number: int) -> Planned:
        if body["path"] == BATCHES:
            return Planned(status=404, body=b"{}")
        return api.reply(body, number)

    api = Api()
    with serve(by=reply) as server:
        assert [reply.usd for reply in ask(server, tmp_path, "a", "b")] == [FULL, FULL]


def leave_behind(api: Api, folder: Path, *inputs: str, lost: bool = False) -> None:
    """Send a batch and go away while it is waited for; ``lost`` if its name was never heard."""

    async def play() -> None:
        provider = batched(server, folder, Still())

        async def one(said: str) -> Reply:
            CALL.set(said * 40)
            request = make_request(messages=({"role": "user", "content": said},))
            return await provider.complete(request)

        tasks = [asyncio.create_task(one(said)) for said in inputs]
        await asyncio.to_thread(api.looked.wait)
        assert provider.left == ([] if lost else list(api.batches))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await provider.aclose()

    polls, api.polls = api.polls, None
    with serve(by=api.reply) as server:
        asyncio.run(play())
    api.polls = polls


def test_a_run_that_was_stopped_takes_its_batch_up_again(tmp_path: Path) -> None:
    """No call is sent twice; what is new goes into a batch of its own."""
    api = Api()
    leave_behind(api, tmp_path, "a", "b")
    assert len(list(tmp_path.iterdir())) == 1
    with serve(by=api.reply) as server:
        replies = ask(server, tmp_path, "a", "b", "c")
    assert (api.sizes, api.singles) == ([2, 1], [])
    assert [reply.text for reply in replies] == ["no"] * 3
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_is_gone_is_asked_again(tmp_path: Path) -> None:
    api = Api()
    leave_behind(api, tmp_path, "a")
    api.batches.clear()
    with serve(by=api.reply) as server:
        [reply] = ask(server, tmp_path, "a")
    assert (reply.text, len(api.singles)) == ("no", 1)
    assert list(tmp_path.iterdir()) == []


OTHERS = [{"custom_id": "theirs", "params": {"messages": [{"content": "x"}]}}] * 2


@pytest.mark.parametrize("made", [True, False])
def test_a_batch_whose_name_was_not_heard_is_not_sent_again(tmp_path: Path, made: bool) -> None:  # noqa: FBT001 - a table's cell
    """The connection is reset before or after the API has made it: there is one in the end."""
    api = Api()
    api.lose = [made]
    with serve(by=api.reply) as server:
        replies = ask(server, tmp_path, "a", "b")
    assert (api.sizes, api.singles) == ([2], [])
    assert [reply.text for reply in replies] == ["no"] * 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made", [True, False])
def test_a_run_killed_before_it_heard_the_name_finds_its_batch(tmp_path: Path, made: bool) -> None:  # noqa: FBT001 - a table's cell
    """By the names of the calls: what others have sent is neither taken nor cancelled."""
    api = Api()
    api.lose = [made]
    leave_behind(api, tmp_path, "a", "b", lost=True)
    assert api.sizes == [2] * made
    api.batches["msgbatch_theirs"] = OTHERS
    with serve(by=api.reply) as server:
        replies = ask(server, tmp_path, "a", "b", "c")
    assert sorted(api.sizes) == [1, 2, 2]
    assert (api.singles, api.cancelled) == ([], [])
    assert [reply.request["messages"][0]["content"] for reply in replies] == ["a", "b", "c"]  # type: ignore[index, call-overload]
    assert [reply.text for reply in replies] == ["no"] * 3
    assert list(tmp_path.iterdir()) == []


def test_must_not_happen_that_somebody_elses_batch_is_cancelled_while_ours_is_looked_for(
    tmp_path: Path,
) -> None:
    api = Api()
    api.lose = [True]
    leave_behind(api, tmp_path, "a", "b", lost=True)
    api.batches = {"msgbatch_theirs": OTHERS}  # ours is gone, and theirs does not end
    api.polls = 10**9
    with serve(by=api.reply) as server:
        ask(server, tmp_path, "a", "b", wait=10)
    assert api.cancelled == [name for name in api.batches if name != "msgbatch_theirs"]


@pytest.mark.parametrize("written", ["", "{", "[]", '{"batch": 1}', '{"batch": "x", "at": 1}'])
def test_a_record_that_is_none_stops_nothing(written: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(written)
    api = Api()
    with serve(by=api.reply) as server:
        assert [reply.text for reply in ask(server, tmp_path, "a")] == ["no"]


def test_wrong_options_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    async def play(server: MessagesServer) -> None:
        provider = batched(server, tmp_path, Clock())
        CALL.set("a" * 64)
        await provider.complete(make_request(options={"temperature": 1}))

    with serve(by=Api().reply) as server, pytest.raises(RatchetError, match="temperature"):
        asyncio.run(play(server))
    assert server.bodies == []


# The whole loop -------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits."""
    monkeypatch.setattr(batches, "FIRST_POLL", 0.001)
    monkeypatch.setattr(batches, "MOST_POLL", 0.001)
    monkeypatch.setattr(batches.Batched.__init__, "__kwdefaults__", DEFAULTS)


DEFAULTS = {**(batches.Batched.__init__.__kwdefaults__ or {}), "linger": 0.05}


def project(path: Path, server: MessagesServer) -> World:
    provider = {"type": "anthropic", "base_url": server.url, "batch": True, "concurrency": 2}
    settings = {"provider": provider, "model": MODEL, "gate": {"rule": "improves"}}
    return World.make(path, config=settings)


@pytest.mark.usefixtures("quick")
def test_a_sweep_is_a_batch_and_so_is_a_sweep_of_pairs(tmp_path: Path) -> None:
    """Three train cases, two held-out ones: the proposal alone is asked by itself."""
    api = Api()
    with serve(by=api.reply) as server:
        world = project(tmp_path / "p", server)
        ran = world.run()
    assert ran.verdicts == [("merge", "improved")], ran.err
    assert len(api.singles) == 1
    assert META in json.dumps(api.singles[0]["system"])
    assert api.sizes[0] == 3  # the baseline
    assert api.sizes[-1] == 4  # two pairs
    assert not list((world.path / ".git" / "ratchet" / "batches").glob("*"))


# A shell that starts its tests in the background has them ignore the signal.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from skill_ratchet.experiment import runner
from skill_ratchet.providers import batches
runner.DRAIN = 0
batches.FIRST_POLL = batches.MOST_POLL = 0.001
from skill_ratchet.__main__ import main
main()
"""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_process_that_ends_leaves_its_batch_to_the_next(
    by: signal.Signals, code: int, tmp_path: Path
) -> None:
    """Ctrl-C says so; after a kill it is the same. Each call is paid once."""
    api = Api(polls=None)
    with serve(by=api.reply) as server:
        world = project(tmp_path / "p", server)
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "bot")}
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "eval"],
            cwd=world.path,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        api.looked.wait()
        process.send_signal(by)
        _, err = process.communicate()
        assert process.returncode == code, err
        if by is signal.SIGINT:
            assert f"The batch goes on at Anthropic: {next(iter(api.batches))}." in err
        api.polls = 1
        assert world.ratchet("eval").code == 0
    assert (api.sizes, api.singles) == ([3], [])
    assert sum(trace.score is not None for trace in world.ledger().traces()) == 3
