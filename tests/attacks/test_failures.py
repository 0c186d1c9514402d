"""An edit is to be merged because calls that go badly are left out, or made until they go well.

The attacker is an edit (a model's, or a person's in a pull request) that makes calls fail where its
answer would have been wrong: it has the harness run out of time or end with an error, draws
rate limits and dropped connections, or writes what the scorer or the judge chokes on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.core import evidence
from skill_ratchet.core.records import Failure, Reply, Trace
from skill_ratchet.providers.messages import Answered, LostError, reply_of
from skill_ratchet.providers.scripted import Scripted
from world import CASES, META, SEALED, World, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from skill_ratchet.core.records import Request


def _benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "failures.py"
    spec = importlib.util.spec_from_file_location("failures_benchmark", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


simulated = _benchmark()
BY_SKILL = [one for one in Failure if one.by_skill]


# Must not happen: decided over hundreds of calls ------------------------------------------------


@pytest.mark.parametrize("failure", [Failure.EXIT, Failure.SERVER])
def test_a_worse_edit_that_fails_where_it_is_wrong_is_not_merged(failure: Failure) -> None:
    """Right in 50% to 55%; counted only where its calls succeed it would be right in 77%."""
    scene = simulated.worse(failure)
    ended = [simulated.Loop(scene, seed).run() for seed in range(4)]
    assert "merged" not in {how for how, _ in ended}
    assert "for ever" not in {how for how, _ in ended}
    if failure is Failure.EXIT:
        assert {starts for _, starts in ended} == {1}, "such a call is not made again"


def test_without_both_rules_it_would_be_merged() -> None:
    """Or the tests above could not fail."""
    scene = simulated.worse(Failure.EXIT, made_again=True)
    assert simulated.Loop(scene, 0).run()[0] == "merged"


# Must not happen: from end to end ---------------------------------------------------------------

HARNESS = """\
if test -n "$BROKEN"; then echo 'no model' >&2; exit 3; fi
if grep -q 'Rule alpha' "$RATCHET_SKILL"; then
  grep -q {case} && {how}
elif grep -q t1; then
  echo no
  exit
fi
echo yes
"""


def harness(tmp_path: Path, *, case: str, how: str, **config: Any) -> World:
    """A project with a harness that ends badly on a case, if the edit is in the skill."""
    settings = {
        "provider": {"type": "command", "command": ["sh", "harness.sh"], "timeout": 0.5},
        "meta": {"turns": 1, "provider": {"type": "scripted"}, "model": "scripted"},
        "gate": {"rule": "improves"},
    }
    world = World.make(tmp_path / "project", config=settings | config)
    world.write("harness.sh", HARNESS.format(case=case, how=how))
    world.commit("a harness")
    return world


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        pytest.param("exit 1", Failure.EXIT, id="exit"),
        pytest.param("sleep 60", Failure.TIME_OUT, id="time-out"),
        pytest.param('mkdir "$RATCHET_TRACE"', Failure.OUTPUT, id="a trace that is none"),
        pytest.param("kill -9 $$", Failure.EXIT, id="killed"),
    ],
)
def test_what_the_edit_does_to_the_harness_scores_0(
    tmp_path: Path, how: str, failure: Failure
) -> None:
    world = harness(tmp_path, case="t2", how=how)
    ran = world.run()
    assert ran.verdicts == [("reject", "screen_failed")], ran.err
    (failed,) = [run for run in world.ledger().traces() if run.reply.error]
    assert (failed.reply.failure, failed.fixture) == (failure, "t2")
    assert failed.score
    assert failed.score.value == 0
    told = world.ratchet("trace", failed.id).out
    assert f"There is no answer ({failure.value}), which counts as a wrong one." in told


def failing(
    real: Callable[..., Any], *, when: Callable[[Request], bool], reply: Reply
) -> Callable[..., Any]:
    """The scripted model, but for calls that fail."""

    async def complete(model: Scripted, request: Request) -> Reply:
        if META not in request.system and when(request):
            return reply
        made: Reply = await real(model, request)
        return made

    return complete


def new(request: Request) -> bool:
    return "Rule alpha." in request.system


@pytest.mark.parametrize("where", ["h1", "t2"])
def test_an_edit_that_always_fails_on_one_case_does_not_hold_its_skill_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    world = World.make(tmp_path / "project", model=script(deterministic=False))
    complete = failing(
        Scripted.complete,
        when=lambda request: new(request) and where in str(request.messages),
        reply=Reply(error="503 not today", failure=Failure.SERVER, usd=0.0),
    )
    monkeypatch.setattr(Scripted, "complete", complete)
    for _ in range(evidence.MOST_TRIES - 1):
        assert not world.run().verdicts
    last = world.run()
    assert last.verdicts == [("reject", "fails_more")], last.err
    assert "Rule alpha" not in world.skill()
    result = world.ledger().result(world.only().id)
    assert result
    sealed = where in CASES["holdout"]
    assert result.reason == ("not_confirmed" if sealed else "fails_more")
    assert SEALED not in world.told("ratchet/ledger")
    assert world.run().code == 0, "the skill goes on with the next edit"


# Must not happen: whether there is a score depends on the answer --------------------------------


@pytest.mark.parametrize(
    ("scorer", "answer"),
    [
        pytest.param(
            {"type": "regex", "pattern": "(a+a+)+b", "timeout": 0.01, "fullmatch": True},
            "a" * 4000,
            id="a pattern that takes too long",
        ),
        pytest.param(
            {"type": "command", "command": ["sh", "-c", "echo score: $(cat)"]},
            "7",
            id="a program that prints no score",
        ),
        pytest.param(
            {"type": "command", "command": ["sh", "-c", "kill -9 $$"]}, "x", id="one that crashes"
        ),
    ],
)
def test_an_answer_that_a_scorer_cannot_cope_with_scores_0(
    tmp_path: Path, scorer: dict[str, Any], answer: str
) -> None:
    model = json.dumps({"responses": [{"when": {}, "text": answer}]})
    skills = {"triage": {"scorer": scorer}}
    world = World.make(tmp_path / "project", model=model, config={"skills": skills})
    ran = world.ratchet("eval", "--split", "train", "--json")
    assert ran.code == 0, ran.err
    assert [run.score.value for run in world.ledger().traces() if run.score] == [0, 0, 0]


# Must still work --------------------------------------------------------------------------------


@pytest.mark.full
def test_a_storm_on_both_sides_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A better edit is merged, however often the server was overloaded on the way."""
    world = World.make(tmp_path / "project", model=script(deterministic=False))
    calls = iter(range(10**6))
    complete = failing(
        Scripted.complete,
        when=lambda _: next(calls) % 5 == 3,
        reply=Reply(error="529 overloaded", failure=Failure.SERVER, usd=0.0),
    )
    monkeypatch.setattr(Scripted, "complete", complete)
    for _ in range(40):
        ran = world.run()
        if ran.verdicts:
            break
    assert ran.verdicts == [("merge", "improved")], ran.err
    assert "Rule alpha" in world.skill()


def test_a_broken_harness_is_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and once it is mended the skill is measured afresh."""
    world = harness(tmp_path, case="none", how="true")
    monkeypatch.setitem(os.environ, "BROKEN", "yes")  # a harness sees no file of ours
    ran = world.run()
    assert not ran.verdicts
    assert "Every call failed on the incumbent" in ran.err
    assert "no model" in ran.err
    assert "0%" not in world.ratchet("status").out, "what answered nothing was not measured"
    monkeypatch.delitem(os.environ, "BROKEN")
    ran = world.run()
    assert "Every call failed" not in ran.err
    kept = world.ledger().kept_runs(
        world.only().parent, world.only().setting.model_digest, deterministic=False
    )
    assert sorted(run.reply.text or "" for run in kept.values()) == ["no", "yes", "yes"]


def test_a_harness_that_breaks_later_uses_up_one_edit_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run says so instead of rejecting all that is proposed; the next one decides."""
    world = harness(tmp_path, case="none", how="true")
    assert world.ratchet("eval").code == 0
    monkeypatch.setitem(os.environ, "BROKEN", "yes")
    ran = world.run("--attempts", "5")
    assert not ran.verdicts
    assert "No call of this run was answered" in ran.err
    assert len(world.ledger().experiments()) == 1
    monkeypatch.delitem(os.environ, "BROKEN")
    assert world.run().verdicts == [("reject", "screen_failed")]


def test_an_old_record_of_a_failed_call_is_read_and_has_no_score() -> None:
    old = {
        "id": "x",
        "skill": "triage",
        "model": "m",
        "provider": "command",
        "started_at": "2026-01-01T00:00:00+00:00",
        "reply": {"error": "The command ended with exit status 1"},
    }
    trace = Trace.model_validate(old)
    assert (trace.score, trace.reply.failure, trace.reply.unanswered) == (None, None, 0)


# Which failure is which -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "failure"),
    [
        (400, "prompt is too long: 210000 tokens > 200000 maximum", Failure.TOO_LONG),
        (400, "the request exceeds the available context size", Failure.TOO_LONG),
        (400, "This model's maximum context length is 8192 tokens", Failure.TOO_LONG),
        (400, "Output blocked by content filtering policy", Failure.BLOCKED),
        (400, "Your credit balance is too low", Failure.REFUSED),
        (400, "max_tokens: 300000 is too large", Failure.REFUSED),
        (401, "invalid x-api-key", Failure.DENIED),
        (403, "not allowed", Failure.FORBIDDEN),
        (404, "model: nope", Failure.NO_MODEL),
        (413, "request too large", Failure.TOO_LONG),
        (422, "unprocessable", Failure.REFUSED),
        (429, "slow down", Failure.LIMITED),
        (500, "oops", Failure.SERVER),
        (529, "Overloaded", Failure.SERVER),
    ],
)
def test_a_server_says_which_failure_it_was(status: int, said: str, failure: Failure) -> None:
    body = json.dumps({"error": {"type": "x", "message": said}}).encode()
    reply = reply_of(Answered(status, {}, body), body={"model": "m"}, redact=str)
    assert (reply.failure, reply.usd, reply.unanswered) == (failure, 0.0, 0)


@pytest.mark.parametrize(
    ("got", "failure", "unanswered"),
    [
        (LostError("gone"), Failure.LOST, 1),
        (LostError("no connection", sent=False), Failure.UNREACHED, 0),
        (Answered(200, {}, b"<html>"), Failure.UNREADABLE, 1),
    ],
)
def test_without_an_answer_it_is_said_whether_one_was_paid_for(
    got: Answered | LostError, failure: Failure, unanswered: int
) -> None:
    reply = reply_of(got, body={"model": "m"}, redact=str)
    assert (reply.failure, reply.unanswered) == (failure, unanswered)
    assert reply.usd == (None if unanswered else 0.0)
