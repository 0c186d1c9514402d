"""How often is a worse edit merged that fails where it would have been wrong?

Runs the real code of an experiment (screen, confirm run, failures counted, the gate's progress)
against a model that is a coin, as often as it takes to decide: a start of ``ratchet run`` ends at
the first call without a score, and the next one goes on from there.

    python benchmarks/failures.py --loops 200

'Made again' is the rule that was there before: whatever failed is made again until it succeeds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import TYPE_CHECKING

from skill_ratchet.core import evidence, failures, gate
from skill_ratchet.core.evidence import State
from skill_ratchet.core.gate import Policy
from skill_ratchet.core.records import (
    NO_FAILED_CALLS,
    Failure,
    Fixture,
    How,
    Reply,
    Request,
    Score,
    Text,
    Trace,
    digest,
)
from skill_ratchet.experiment import plan
from skill_ratchet.experiment.budget import Budget
from skill_ratchet.experiment.runner import Duel, Runner, duel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill_ratchet.core.records import FailedCalls, Pair

OLD, NEW = (Text(text, digest("skill", text)) for text in ("old", "new"))
EXPERIMENT = "e" * 64
POLICY = Policy()
MOST_STARTS = 2_000


@dataclass(frozen=True)
class Odds:
    """What one skill does: it is right, or wrong, or its call fails in the given way."""

    right: float
    fails: float = 0.0
    failure: Failure | None = None


@dataclass(frozen=True)
class Scene:
    """Two skills, and whether failures of the candidate are made again and never counted."""

    incumbent: Odds
    candidate: Odds
    made_again: bool = False
    cases: int = 20  # of each split


def worse(failure: Failure, *, made_again: bool = False) -> Scene:
    """The candidate fails in 35 of 100 calls, in which it would have been wrong."""
    return Scene(Odds(0.55), Odds(0.50, fails=0.35, failure=failure), made_again=made_again)


@dataclass
class Coins:
    """The model. The same try of the same run always comes to the same."""

    scene: Scene
    seed: int
    tries: Counter[tuple[str, ...]] = field(default_factory=Counter)
    name: str = "coins"
    deterministic: bool = False
    tools: bool = False
    concurrency: int = 8

    async def complete(self, request: Request) -> Reply:
        """Throw it."""
        assert request.case is not None
        run = (request.system, str(request.case["id"]))
        self.tries[run] += 1
        odds = self.scene.candidate if request.system == NEW.text else self.scene.incumbent
        drawn = random.Random(f"{self.seed}/{run}/{self.tries[run]}").random()  # noqa: S311  a coin
        await asyncio.sleep(0)
        if drawn < odds.fails:
            return Reply(error="failed", failure=None if self.scene.made_again else odds.failure)
        return Reply(text="yes" if drawn < odds.fails + odds.right else "no")

    def worst_case_usd(self, request: Request) -> float | None:  # noqa: ARG002  the Protocol's
        """Nothing."""
        return 0.0

    async def aclose(self) -> None:
        """Nothing to release."""


async def _score(output: str, fixture: Fixture) -> tuple[Score, None]:  # noqa: ARG001
    return Score(value=float(output == "yes"), reason="", scorer="exact"), None


class Loop:
    """One experiment, from its first start to its end. ``traces`` is its ledger."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene, self.seed = scene, seed
        self.traces: list[Trace] = []
        self._coins, self._ticks = Coins(scene, seed), count()

    def add_trace(self, trace: Trace) -> None:
        """As the ledger has it."""
        self.traces.append(trace)

    def run(self) -> tuple[str, int]:
        """How it ended, and how many starts that took."""
        for start in range(1, MOST_STARTS):
            if ended := self._start():
                return ended, start
        return "for ever", MOST_STARTS

    def _start(self) -> str | None:
        for split in ("train", "holdout"):
            done = self._duel(split)
            failed = self._failed()
            if evidence.fails_more(candidate=failed.candidate, incumbent=failed.incumbent):
                return "fails_more"
            if failed.stuck >= evidence.MOST_TRIES:
                return "fails_more"
            if done.missing:
                return None
            if done.progress.state is not State.PASS:
                return done.progress.cause.value
        return "merged"

    def _failed(self) -> FailedCalls:
        if self.scene.made_again:
            return NO_FAILED_CALLS
        sides = (
            [one for one in self.traces if one.side == side] for side in ("candidate", "incumbent")
        )
        return failures.counted(*sides)

    def _duel(self, split: str) -> Duel:
        names = [f"{split}-{number}" for number in range(self.scene.cases)]
        cases = {name: Fixture(id=name, split=split, input=name) for name in names}
        attempt = 1 if split == "holdout" else None
        most = gate.most_pairs(
            fixtures=len(cases), attempt=attempt, policy=POLICY, deterministic=False
        )
        runner = self._runner()

        def judge(pairs: Sequence[Pair]) -> evidence.Progress:
            if attempt is None:
                return gate.screen_progress(
                    pairs, fixtures=len(cases), policy=POLICY, deterministic=False
                )
            return gate.confirm_progress(
                pairs, fixtures=len(cases), attempt=attempt, policy=POLICY, deterministic=False
            )

        return asyncio.run(
            duel(
                runner,
                islice(plan.sweeps(names, seed=f"{self.seed}/{split}"), most),
                fixtures=cases,
                incumbent=OLD,
                candidate=NEW,
                experiment=EXPERIMENT,
                fresh=split == "holdout",
                judge=judge,
            )
        )

    def _runner(self) -> Runner:
        runner = Runner(
            how=How("triage", "SKILL.md", "m", 16, {}, digest("how")),
            provider=self._coins,
            scorer=_score,
            ledger=self,  # type: ignore[arg-type]  # the one method that is used
            budget=Budget(usd=None, calls=None, minutes=None, clock=lambda: 0.0),
            now=lambda: f"2026-01-01T00:00:00.{next(self._ticks):06d}+00:00",
            on_trace=lambda trace, paid: None,  # noqa: ARG005
        )
        runner.remember(self.traces)
        return runner


SCENES = {
    "worse, and exits with 1 in 35%": worse(Failure.EXIT),
    "worse, and the server fails it in 35%": worse(Failure.SERVER),
    "no better, a server that fails both in 20%": Scene(
        Odds(0.44, 0.20, Failure.SERVER), Odds(0.44, 0.20, Failure.SERVER)
    ),
    "20 points better, a server that fails both in 20%": Scene(
        Odds(0.44, 0.20, Failure.SERVER), Odds(0.60, 0.20, Failure.SERVER)
    ),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", type=int, default=100)
    loops = parser.parse_args().loops
    print("| scene | rule | merged | fails_more | starts, mean |\n| --- | --- | --- | --- | --- |")
    for name, scene in SCENES.items():
        before = replace(scene, made_again=True)
        for rule, one in (("made again", before), ("as it is now", scene)):
            ended = [Loop(one, seed).run() for seed in range(loops)]
            kinds = Counter(how for how, _ in ended)
            starts = sum(number for _, number in ended) / loops
            counts = f"{kinds['merged']} of {loops} | {kinds['fails_more']} of {loops}"
            print(f"| {name} | {rule} | {counts} | {starts:.0f} |", flush=True)


if __name__ == "__main__":
    main()
