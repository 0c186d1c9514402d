"""What an experiment costs: the cached prefix, the count of tokens, and the prediction."""

from __future__ import annotations

import json
import os
from math import fsum
from typing import TYPE_CHECKING, Any

import pytest

from messages_fake import Model, serving
from skill_ratchet.core.records import Usage
from skill_ratchet.experiment.budget import Budget
from skill_ratchet.providers import forecast, pricing
from skill_ratchet.providers.forecast import Rates, Size
from world import META, SKILL, SKILL_TEXT, World, idea

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.core.records import Run, Trace

MODEL = "claude-haiku-5-5"
LONG = SKILL_TEXT + "Remember that a careful answer is short.\n" * 150  # worth caching
CASES = {"train": tuple(f"t{n}" for n in range(24)), "holdout": tuple(f"h{n}" for n in range(24))}


class Both(Model):
    """The task's model, which follows the rule alpha, and the meta-agent, which proposes it."""

    def _message(self, body: Any, used: dict[str, int]) -> dict[str, Any]:
        system = json.dumps(body["system"])
        if META in system:
            said = idea(1, "Rule alpha.")
        else:
            said = "yes" if "Rule alpha." in system else "no"
        content = [{"type": "text", "text": said}]
        return super()._message(body, used) | {"content": content}


def experiment(path: Path) -> tuple[Run, list[Trace], list[Any]]:
    """An experiment on a skill whose baseline is there: its run, its traces, all bodies sent."""
    with serving(Both(answer=str)) as server:
        provider = {
            "type": "anthropic",
            "base_url": server.url,
            "concurrency": 2,
        }  # a pair at a time
        config = {"provider": provider, "model": MODEL, "gate": {"rule": "improves"}}
        world = World.make(path, config=config, cases=CASES)
        world.write(SKILL, LONG)
        world.commit("long")
        assert world.run("--attempts", "0").code == 0
        first = {trace.id for trace in world.ledger().traces()}
        ran = world.run("--attempts", "1")
        assert ran.verdicts == [("merge", "improved")], ran.err
        ledger = world.ledger()
        run = ledger.last_run()
        assert run is not None
        traces = [*ledger.traces(job="task"), *ledger.traces(split="holdout", job="task")]
        return run, [one for one in traces if one.id not in first], list(server.bodies)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Trace], list[Any]]:
    with pytest.MonkeyPatch.context() as patch:  # the seal of a test does not reach this far
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for name in ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL"):
            patch.setenv(f"GIT_{name}", "dev@example.com")
        return experiment(tmp_path_factory.mktemp("cost") / "p")


def test_what_an_experiment_costs_is_predicted_within_a_tenth(
    done: tuple[Run, list[Trace], list[Any]],
) -> None:
    """From the calls of the baseline; what the gate did not need is taken out again."""
    run, traces, _ = done
    cost = fsum(trace.reply.usd or 0.0 for trace in traces)
    assert cost > 0
    assert run.predicted == pytest.approx(cost, rel=0.1)


def test_the_skill_is_the_one_cached_prefix(done: tuple[Run, list[Trace], list[Any]]) -> None:
    """One mark, on the system text: what varies comes after it and is never marked."""
    _, _, bodies = done
    tasks = [body for body in bodies if META not in json.dumps(body["system"])]
    for body in tasks:
        assert [block["cache_control"] for block in body["system"]] == [{"type": "ephemeral"}]
        assert "cache_control" not in json.dumps(body["messages"])
    assert len({json.dumps(body["system"]) for body in tasks}) == 2  # incumbent, candidate


def test_every_token_is_counted_once_and_priced_by_its_kind(
    done: tuple[Run, list[Trace], list[Any]],
) -> None:
    _, traces, _ = done
    for trace in traces:
        said = trace.reply.response["usage"]  # type: ignore[index, call-overload]
        usage = trace.reply.usage
        assert usage.input_tokens == said["input_tokens"]  # type: ignore[index, call-overload]
        assert usage.cache_read_tokens == said["cache_read_input_tokens"]  # type: ignore[index, call-overload]
        assert usage.cache_write_tokens == said["cache_creation_input_tokens"]  # type: ignore[index, call-overload]
        assert trace.reply.usd == pytest.approx(pricing.price(MODEL, usage))
    read = [trace for trace in traces if trace.reply.usage.cache_read_tokens]
    assert len(read) >= len(traces) - 2 * 2  # each version is written by what began at once


# The forecast ---------------------------------------------------------------------------------


def test_a_prefix_is_written_by_the_calls_that_begin_at_once() -> None:
    sizes = [Size(8000, 40, "a")] * 6
    used = forecast.usage(sizes, by=Rates(), at_once=2, cache=True)
    assert [one.cache_write_tokens for one in used] == [2000, 2000, 0, 0, 0, 0]
    assert [one.cache_read_tokens for one in used] == [0, 0, 2000, 2000, 2000, 2000]
    assert {one.input_tokens for one in used} == {10}


@pytest.mark.parametrize(
    ("prefix", "cache"), [(4000, True), (8000, False)], ids=["too short", "switched off"]
)
def test_what_is_not_cached_is_plain_input(prefix: int, cache: bool) -> None:  # noqa: FBT001  a column of the table
    [used] = forecast.usage([Size(prefix, 40)], by=Rates(), at_once=1, cache=cache)
    assert used == Usage(input_tokens=prefix // 4 + 10, output_tokens=forecast.OUTPUT)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], Rates()),
        ([(Size(0, 0), Usage())], Rates()),
        ([(Size(300, 100), Usage(input_tokens=200, output_tokens=6))], Rates(0.5, 6)),
        (
            [
                (Size(300, 100), Usage(input_tokens=50, cache_read_tokens=50, output_tokens=4)),
                (Size(300, 100), Usage(input_tokens=50, cache_write_tokens=250)),
            ],
            Rates(0.5, 2),
        ),
    ],
)
def test_rates_come_from_calls_that_were_answered(
    seen: list[tuple[Size, Usage]], expected: Rates
) -> None:
    assert forecast.rates(seen) == expected


def test_a_prediction_decides_nothing_and_can_be_taken_back() -> None:
    budget = Budget(usd=1, calls=None, minutes=None, clock=lambda: 0.0)
    assert budget.predicted is None
    budget.predict(None)
    assert budget.predicted is None
    budget.predict(5.0)  # over the cap: it is the worst case of a call that the cap looks at
    budget.reserve(0.5)
    budget.predict(-4.0)
    assert budget.predicted == 1.0
    budget.predict(-4.0)
    assert budget.predicted == 0.0
