"""In which order a split is swept: random, interleaved, and reproducible from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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
