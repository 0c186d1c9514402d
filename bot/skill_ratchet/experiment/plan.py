"""What is run when: the cases an edit was meant to fix, then sweeps in a reproducible order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skill_ratchet.core.records import Trace

MOST_TARGETS = 5  # fixtures tried before the screen


@dataclass(frozen=True, slots=True)
class Planned:
    """One pair of runs to make."""

    fixture: str
    sweep: int
    candidate_first: bool


def sweeps(fixtures: Sequence[str], *, seed: str) -> Iterator[Planned]:
    """Endless sweeps over ``fixtures``: each in random order, each pair's first side drawn too.

    The order depends on the set of fixtures and on the seed only, so a run that was interrupted
    continues on the same path. Without fixtures there is no sweep.
    """
    if not fixtures:
        return
    for sweep in count():
        # A text seed goes through SHA-512 and is the same on every version and platform.
        rng = Random(f"{seed}/{sweep}")  # noqa: S311 - an order, not a secret
        order = sorted(fixtures)
        rng.shuffle(order)
        for fixture in order:
            yield Planned(fixture, sweep, candidate_first=rng.random() < 1 / 2)


def targeted(targets: Sequence[str], runs: Sequence[Trace]) -> tuple[Trace, ...]:
    """The runs that a proposal says it fixes: one a fixture, in its order, at most five.

    Args:
        targets: Trace ids, as the proposal has them. One that is not among ``runs`` is nothing.
        runs: The incumbent's scored train runs. A run that could not be better is no target.
    """
    known = {run.id: run for run in runs if run.score and run.score.value < 1}
    chosen: dict[str, Trace] = {}
    for run in (known[target] for target in targets if target in known):
        chosen.setdefault(run.fixture, run)
    return tuple(chosen.values())[:MOST_TARGETS]
