"""What is run when: the cases an edit was meant to fix, then sweeps (or blocks) in their order."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from skill_ratchet.core import draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skill_ratchet.core.draw import Planned
    from skill_ratchet.core.records import Trace

MOST_TARGETS = 5  # fixtures tried before the screen


def sweeps(fixtures: Sequence[str], *, seed: str, size: int | None = None) -> Iterator[Planned]:
    """Endless sweeps over ``fixtures``: each in random order, each pair's first side drawn too.

    Without fixtures there is no sweep.

    Args:
        fixtures: Of the split.
        seed: What it is drawn with.
        size: Draw so many of the fixtures anew for each block; None for whole sweeps.
    """
    for number in count() if fixtures else ():
        yield from draw.block(fixtures, seed=seed, number=number, size=size or len(fixtures))


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
