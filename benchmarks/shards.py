"""What it costs, and what it saves, to share a confirm run among machines: docs/github.md.

Shards make the fewest sweeps that a merge may be hoped to take, whatever comes of them; one machine
stops at the pair at which it is settled. Simulated with the gate's own rules (see gate.py), of
experiments that pass the screen, first attempt against an incumbent.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import ndtr

from gate import (
    DEFAULT,
    Kept,
    confirm_many,
    difficulties,
    levels,
    one_to_one,
    screen_many,
    shifted,
)
from skill_ratchet.core.gate import Policy, fewest_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

    from gate import Ints

PAGE: Final = Path(__file__).parents[1] / "docs" / "github.md"
BEGIN, END = "<!-- measured: benchmarks/shards.py -->", "<!-- end of what was measured -->"
SEED: Final = 20261125
SIZES: Final = (20, 100, 500)
EFFECTS: Final = (-0.10, 0.0, 0.10, 0.25)
MACHINES: Final = (4, 16)


def confirmed(rng: Generator, *, n: int, effect: float, trials: int) -> Ints:
    """The pairs that one machine takes for each experiment which passes the screen."""
    train, holdout = (difficulties(rng, trials, n) for _ in range(2))
    rows, old = np.arange(trials), ndtr(train)
    kept = Kept.draw(rng, old, DEFAULT).compared()
    screened = screen_many(one_to_one(rng, old, shifted(train, effect), kept=kept), rows)
    tried = rows[screened.passed]
    duels = one_to_one(rng, ndtr(holdout), shifted(holdout, effect))
    done = confirm_many(duels, tried, np.full(len(tried), levels(np.array([1]))[0]))
    return done.pairs


def row(rng: Generator, *, n: int, effect: float, trials: int) -> str:
    """A line of the table."""
    pairs = confirmed(rng, n=n, effect=effect, trials=trials)
    made = fewest_pairs(fixtures=n, attempt=1, policy=Policy(), deterministic=False)
    more = np.maximum(pairs - made, 0)  # by the one that puts together
    times = [(made / machines + more).mean() / pairs.mean() for machines in MACHINES]
    shown = [
        str(n),
        f"{100 * effect:+.0f}",
        f"{len(pairs):,}",
        f"{2 * pairs.mean():,.0f}",
        f"{2 * (made + more).mean():,.0f}",
        f"{2 * np.maximum(made - pairs, 0).mean():,.0f}",
        *(f"{time:.2f}" for time in times),
    ]
    return f"| {' | '.join(shown)} |"


def table(*, trials: int) -> str:
    """The table, with what it is of."""
    rng = np.random.default_rng(SEED)
    names = ["held-out cases", "effect, points", "confirm runs", "calls, one machine"]
    names += ["calls, shards", "not needed", *(f"time, {one} shards" for one in MACHINES)]
    lines = [row(rng, n=n, effect=effect, trials=trials) for n in SIZES for effect in EFFECTS]
    head = f"| {' | '.join(names)} |\n|{' --- |' * len(names)}"
    told = (
        f"Written by `python benchmarks/shards.py --write` (seed {SEED}; of {trials:,} experiments "
        "a line those that pass the screen, first attempt, default gate). Means; time is that of "
        "the calls alone, one machine's being 1, where each machine makes as many at once."
    )
    return f"{told}\n\n{head}\n" + "\n".join(lines)


def main(args: Sequence[str]) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description="What sharing a confirm run costs and saves.")
    parser.add_argument("--trials", type=int, default=4000, help="experiments for each line")
    parser.add_argument("--write", action="store_true", help="rewrite the page's table, too")
    asked = parser.parse_args(args)
    told = table(trials=asked.trials)
    print(told)
    if asked.write:
        head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n\n{told}\n\n{END}{rest.partition(END)[2]}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
