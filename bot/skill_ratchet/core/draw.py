"""Which pairs of runs a test is made of, and in which order: random, and the same from one seed.

A confirm run on a large holdout looks at blocks of different fixtures. What they are depends on
the seed, the experiment and the fixtures alone, so that nobody can choose them: the gate draws
them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skill_ratchet.core.records import Pair, Split


@dataclass(frozen=True, slots=True)
class Planned:
    """One pair of runs to make; ``sweep`` is that of the block where a split has blocks."""

    fixture: str
    sweep: int
    candidate_first: bool


def seed_of(seed: int, experiment: str, split: Split) -> str:
    """What the order of an experiment's runs is drawn with."""
    return f"{seed}/{experiment}/{split}"


def in_order(pairs: Iterable[Pair], *, seed: str) -> list[Pair]:
    """Pairs of whole sweeps in the order in which they were planned."""
    return sorted(pairs, key=lambda pair: (pair.sweep, _lot(seed, pair.sweep, pair.fixture)))


def _lot(seed: str, number: int, fixture: str) -> bytes:
    return sha256(f"{seed}/{number}/{fixture}".encode()).digest()


def block(fixtures: Iterable[str], *, seed: str, number: int, size: int) -> tuple[Planned, ...]:
    """The ``number``-th sweep (from 0): ``size`` different fixtures, and which side runs first.

    It depends on the set of fixtures and the seed only, so a run that was interrupted continues on
    the same path, on every machine.
    """
    lots = {name: _lot(seed, number, name) for name in fixtures}
    order = sorted(lots, key=lambda name: lots[name])
    return tuple(Planned(name, number, lots[name][-1] % 2 == 0) for name in order[:size])
