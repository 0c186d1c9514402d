"""The gate's rule as the loop plays it: kept runs, blocks, and never two versions of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.core import draw
from skill_ratchet.core import evidence as stats
from skill_ratchet.core.evidence import VERSION
from skill_ratchet.core.records import Reply
from skill_ratchet.experiment import plan
from skill_ratchet.experiment.runner import duel
from skill_ratchet.ledger import access
from skill_ratchet.project import repository
from tests.experiment.test_runner import CASES as LETTERS
from tests.experiment.test_runner import NEW, OLD, Answers, after, make
from world import CASES, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skill_ratchet.core.records import Evidence, Fixture, Request
    from skill_ratchet.experiment.runner import Duel, Runner

LARGE = tuple(f"h{n}" for n in range(1, 26))


def sampling(tmp_path: Path, **changes: Any) -> World:
    """A model that samples, and an edit that is always right where the skill never is."""
    holdout = changes.pop("holdout", CASES["holdout"])
    cases = CASES | {"holdout": holdout}
    model = script(right={"alpha": [*cases["train"], *holdout]}, deterministic=False)
    return World.make(tmp_path / "p", model=model, cases=cases, **changes)


def evidence_of(world: World) -> Evidence:
    look = world.ledger().confirmation(world.only().id)
    assert look
    assert look.evidence
    return look.evidence


def kept_in_screen(world: World) -> Counter[str]:
    """Kept runs of the incumbent on train, by case."""
    runs = world.ledger().incumbent_runs(world.only().parent)
    return Counter(run.fixture for run in runs)


# The screen -----------------------------------------------------------------------------------


def test_a_screen_compares_with_all_kept_runs_and_names_them(tmp_path: Path) -> None:
    world = sampling(tmp_path)
    ran = world.run()
    assert ran.verdicts == [("merge", "improved")]
    evidence = evidence_of(world)
    assert (evidence.version, evidence.seed, len(evidence.screen)) == (VERSION, 0, 10)
    by_case = {pair.fixture: pair.incumbent_runs for pair in evidence.screen}
    assert all(pair.incumbent_runs == by_case[pair.fixture] for pair in evidence.screen)
    named = {run for runs in by_case.values() for run in runs}
    on_record = world.ledger().incumbent_runs(evidence.tested.skill if evidence.tested else "")
    assert named == {run.id for run in on_record}
    assert kept_in_screen(world) == dict.fromkeys(CASES["train"], 16)
    # The proposer, kept runs, the candidate on train, and both on the holdout: 30 pairs of wins;
    # and what was under way when the screen and the confirm run had settled.
    assert 0 <= ran.json["calls"] - (1 + 3 * 16 + 10 + 2 * 30) <= 8


def test_a_later_experiment_pays_for_no_kept_run_again(tmp_path: Path) -> None:
    model = script([idea(1, "Rule beta."), idea(2, "Rule gamma.")], right={}, deterministic=False)
    world = World.make(tmp_path / "p", model=model)
    first, second = (world.run().json["calls"] for _ in range(2))
    candidate = first - 1 - 3 * 16
    assert second == 1 + candidate


def play(runner: Runner, kept: Callable[[Fixture, int], int]) -> Duel:
    """Two sweeps of a screen, each pair against so many kept runs of the incumbent."""
    return asyncio.run(
        duel(
            runner,
            islice(plan.sweeps(list(LETTERS), seed="s"), 24),
            fixtures=LETTERS,
            incumbent=OLD,
            candidate=NEW,
            experiment="e" * 64,
            fresh=False,
            judge=after(24),
            kept=kept,
        )
    )


@pytest.mark.parametrize("score", ["new", "worse"])
def test_top_ups_do_not_depend_on_what_the_candidate_scores(score: str) -> None:
    """Of every pair that is made the kept runs are the same, whatever its candidate's run says."""

    def answer(request: Request) -> Reply:
        return Reply(text=score if request.system == "new" else "old")

    provider = Answers(answer, concurrency=1)
    runner, kept = make(provider)

    def wanted(case: Fixture, sweep: int) -> int:
        return max(stats.kept_runs(fixtures=40, sweep=sweep), runner.kept(OLD, case, before=""))

    done = play(runner, wanted)
    assert [len(pair.incumbent_runs) for pair in done.pairs] == [2] * 12 + [3] * 6 + [4] * 6
    made = Counter(run.fixture for run in kept.traces if run.side == "incumbent")
    assert made == dict.fromkeys(LETTERS, 4)  # none of them twice, though pairs want the same
    keys = [run.key.digest for run in kept.traces if run.key]
    assert len(set(keys)) == len(keys)


def test_pairs_under_way_at_once_pay_for_a_kept_run_once() -> None:
    runner, kept = make(Answers(concurrency=12))
    play(runner, lambda _case, _sweep: 4)
    assert Counter(run.side for run in kept.traces) == {"candidate": 24, "incumbent": 24}


@pytest.mark.parametrize(
    "calls", [40, *(pytest.param(calls, marks=pytest.mark.full) for calls in (12, 55, 75, 100))]
)
def test_a_run_that_stopped_anywhere_comes_to_the_same_evidence(tmp_path: Path, calls: int) -> None:
    """Kept runs that the stopped run made are no more than the screen would have had."""
    whole, stopped = (sampling(tmp_path / name) for name in ("whole", "stopped"))
    whole.run()
    stopped.configure(budget={"calls": calls})
    assert stopped.run().code != 0
    stopped.configure(budget={"calls": 1000})
    assert stopped.run().verdicts == [("merge", "improved")]
    told = [
        [
            (pair.fixture, pair.sweep, pair.incumbent, pair.candidate, len(pair.incumbent_runs))
            for pair in (*evidence.screen, *evidence.confirm)
        ]
        for evidence in map(evidence_of, (whole, stopped))
    ]
    assert told[0] == told[1]


# Blocks ---------------------------------------------------------------------------------------


def test_a_large_holdout_is_run_in_the_blocks_that_were_drawn(tmp_path: Path) -> None:
    world = sampling(tmp_path, holdout=LARGE)
    ran = world.run()
    assert ran.verdicts == [("merge", "improved")]
    evidence = evidence_of(world)
    seed = draw.seed_of(0, world.only().id, "holdout")
    drawn = draw.block(LARGE, seed=seed, number=0, size=20)
    assert [pair.fixture for pair in evidence.confirm] == [one.fixture for one in drawn]
    assert {pair.sweep for pair in evidence.confirm} == {0}
    explained = world.ratchet("explain", "1").out
    assert "1 fresh block of 20, drawn from 25 sealed fixtures" in " ".join(explained.split())


def test_a_block_is_gone_on_with_where_it_stopped(tmp_path: Path) -> None:
    world = sampling(tmp_path, holdout=LARGE, config={"budget": {"calls": 80}})
    assert world.run().code != 0
    begun = [run.fixture for run in world.ledger().traces(split="holdout")]
    assert 0 < len(begun) < 40
    world.configure(budget={"calls": 1000})
    assert world.run().verdicts == [("merge", "improved")]
    runs = Counter((run.fixture, run.side) for run in world.ledger().traces(split="holdout"))
    assert len(runs) == 40
    assert set(runs.values()) == {1}


# Versions -------------------------------------------------------------------------------------


def test_an_experiment_of_another_version_is_ended_and_said_so(tmp_path: Path) -> None:
    world = sampling(tmp_path, config={"budget": {"calls": 70}})
    world.run()
    begun, before = world.only(), len([*world.ledger().traces()])
    project = repository.open_project(world.path)
    ledger = access.open_to_write(project, "triage")
    text = ledger.candidate_text(begun.id)
    old = begun.with_(setting=begun.setting.with_(gate=1))
    parent = world.skill()
    ledger.add_experiment(old, parent_text=parent, candidate_text=text)
    ledger.flush("as a version before would have it")
    world.configure(budget={"calls": 1000})

    again = world.run()

    assert "version 1 of the gate's rule" in " ".join(again.err.split())
    assert "version 2" in " ".join(again.err.split())
    result = world.ledger().results()[begun.id]
    if (result.action, result.reason) != ("reject", "superseded"):  # it was proposed anew
        assert (result.action, result.reason) == ("merge", "improved")
        evidence = evidence_of(world)
        assert evidence.version == VERSION
        since = world.only().started_at
        runs = {run.id: run for run in world.ledger().traces(split="holdout")}
        used = [
            run for pair in evidence.confirm for run in (pair.incumbent_run, pair.candidate_run)
        ]
        assert all(runs[run].started_at >= since for run in used)
    assert len([*world.ledger().traces()]) >= before


# Models that always answer the same -------------------------------------------------------------


def test_held_out_runs_of_a_deterministic_incumbent_are_paid_for_once(tmp_path: Path) -> None:
    """Two edits that help on train alone: the second look costs the candidate's runs only."""
    model = script(
        [idea(1, "Rule beta."), idea(2, "Rule gamma.")],
        right={"beta": CASES["train"], "gamma": CASES["train"]},
    )
    world = World.make(tmp_path / "p", model=model)
    first, second = world.run(), world.run()
    assert first.verdicts == second.verdicts == [("reject", "no_improvement")]
    held_out = [*world.ledger().traces(split="holdout")]
    sides = Counter(run.side for run in held_out)
    assert sides == {"incumbent": 2, "candidate": 4}
    assert second.json["calls"] == 1 + 3 + 2


def test_nor_are_those_of_what_was_merged(tmp_path: Path) -> None:
    """What a candidate scored it scores as the incumbent it becomes, on the holdout too."""
    cases = {"train": [f"t{n}" for n in range(6)], "holdout": [f"h{n}" for n in range(4)]}
    halves = {
        rule: [*cases["train"][at::2], *cases["holdout"][at::2]]
        for at, rule in enumerate(("alpha", "beta"))
    }
    model = script([idea(1, "Rule alpha."), idea(2, "Rule beta.")], right=halves)
    world = World.make(tmp_path / "p", model=model, cases=cases)
    first, second = world.run(), world.run()
    assert first.verdicts == second.verdicts == [("merge", "improved")]
    sides = Counter(run.side for run in world.ledger().traces(split="holdout"))
    assert sides == {"incumbent": 4, "candidate": 8}
    assert second.json["calls"] == 1 + 6 + 4
