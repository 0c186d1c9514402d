"""What this fixture set can show: its noise floor, and the smallest effect worth hoping for.

Effects are simulated with the real gate, on pairs whose noise is that of an A/A run: the share
of pairs that differ although nothing changed. The effect is spread evenly over the fixtures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from skill_ratchet.core.evidence import State
from skill_ratchet.core.gate import confirm_progress, most_pairs, screen_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill_ratchet.core.gate import Policy

POWER = 0.8  # chance of a merge that makes an effect detectable
EFFECTS = (0.02, 0.05, 0.075, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50, 0.75, 1.0)
ROUNDING = 1e-9
TRIALS = 100  # simulated experiments an effect


@dataclass(frozen=True, slots=True)
class Noise:
    """An A/A run: the incumbent against itself."""

    pairs: int
    mean: float  # of both runs
    gap: float  # mean difference between the two runs
    differing: float  # share of pairs that differ
    error: float  # standard error of the mean difference of one sweep


@dataclass(frozen=True, slots=True)
class Detectable:
    """An effect, how often it is merged, and what an experiment with it costs in calls."""

    effect: float
    merged: float
    calls: float


def measure(first: Sequence[float], second: Sequence[float]) -> Noise:
    """The noise of two runs of the same skill on the same cases, in the same order."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    spread = stdev(differences) if len(differences) > 1 else 0.0
    return Noise(
        pairs=len(differences),
        mean=fmean([*first, *second]),
        gap=fmean(differences),
        differing=fmean(d != 0 for d in differences),
        error=spread / math.sqrt(len(differences)),
    )


def smallest(
    noise: Noise, *, train: int, holdout: int, policy: Policy, deterministic: bool
) -> Detectable | None:
    """The smallest effect of EFFECTS that is merged 8 times in 10; None when none is.

    Args:
        noise: The A/A run.
        train: Train fixtures.
        holdout: Held-out fixtures.
        policy: The gate's settings.
        deterministic: Repeats carry no information.
    """
    possible = [effect for effect in EFFECTS if effect <= 1 - noise.mean + ROUNDING]
    found: Detectable | None = None
    while possible:  # bisection: a larger effect is merged at least as often
        middle = len(possible) // 2
        tried = power(
            possible[middle],
            differing=noise.differing,
            train=train,
            holdout=holdout,
            policy=policy,
            deterministic=deterministic,
        )
        if tried.merged >= POWER:
            found, possible = tried, possible[:middle]
        else:
            possible = possible[middle + 1 :]
    return found


def power(
    effect: float,
    *,
    differing: float,
    train: int,
    holdout: int,
    policy: Policy,
    deterministic: bool,
) -> Detectable:
    """How often an effect is merged on the first attempt, and the calls it costs on average."""
    world = _World(effect, differing, train, holdout, policy, deterministic)
    results = [_experiment(Random(f"{effect}/{trial}"), world) for trial in range(TRIALS)]  # noqa: S311 - a simulation
    return Detectable(
        effect=effect,
        merged=fmean(won for won, _ in results),
        calls=fmean(calls for _, calls in results),
    )


@dataclass(frozen=True, slots=True)
class _World:
    effect: float
    differing: float
    train: int
    holdout: int
    policy: Policy
    deterministic: bool


class _Draw(NamedTuple):
    """A simulated pair; the millions a simulation needs are too many for records."""

    fixture: str
    cluster: str
    candidate: float
    difference: float


def _experiment(rng: Random, world: _World) -> tuple[bool, int]:
    policy, deterministic = world.policy, world.deterministic
    most = most_pairs(
        fixtures=world.train, attempt=None, policy=policy, deterministic=deterministic
    )
    screen = screen_progress(
        _draw(rng, world, fixtures=world.train, pairs=most),
        fixtures=world.train,
        policy=policy,
        deterministic=deterministic,
    )
    if screen.state is not State.PASS:
        return False, screen.pairs
    most = most_pairs(fixtures=world.holdout, attempt=1, policy=policy, deterministic=deterministic)
    confirm = confirm_progress(
        _draw(rng, world, fixtures=world.holdout, pairs=most),
        fixtures=world.holdout,
        attempt=1,
        policy=policy,
        deterministic=deterministic,
    )
    # On train the incumbent's runs are kept ones; on the holdout both sides are run.
    return confirm.state is State.PASS, screen.pairs + 2 * confirm.pairs


def _draw(rng: Random, world: _World, *, fixtures: int, pairs: int) -> list[_Draw]:
    """Pairs with P(win) - P(loss) = effect and at least the A/A share of decisive ones."""
    wins = max((world.differing + world.effect) / 2, world.effect)
    losses = wins - world.effect
    drawn = []
    for number in range(pairs):
        luck, fixture = rng.random(), str(number % fixtures)
        won, lost = luck < wins, wins <= luck < wins + losses
        drawn.append(_Draw(fixture, fixture, float(won), float(won - lost)))
    return drawn
