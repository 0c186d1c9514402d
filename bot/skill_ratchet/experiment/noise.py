"""What this fixture set can show: its noise floor, and the smallest effect worth hoping for.

Effects are simulated with the real gate, on pairs whose noise is that of an A/A run: the share
of pairs that differ although nothing changed. The effect is spread evenly over the fixtures.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from random import Random
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases import check
from skill_ratchet.core import wording
from skill_ratchet.core.evidence import State
from skill_ratchet.core.gate import confirm_progress, kept_runs, most_pairs, screen_progress
from skill_ratchet.core.records import total
from skill_ratchet.experiment import session
from skill_ratchet.experiment.runner import mean_score, sweep
from skill_ratchet.project import repository, workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skill_ratchet.core.gate import Policy
    from skill_ratchet.core.records import Trace
    from skill_ratchet.experiment.observer import Observer
    from skill_ratchet.project.workspace import Workspace

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


@dataclass(frozen=True, slots=True)
class NoiseReport:
    """An A/A run of a skill, and what its fixtures can show."""

    skill: str
    model: str
    noise: Noise
    deterministic: bool
    detectable: Detectable | None
    null_score: float | None  # mean of an empty skill on train
    usd_per_call: float | None
    calls: int
    usd: float | None


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
    repeated = policy.rule == "evidence" and not deterministic
    on_train = (
        _draw_kept(rng, world, pairs=most)
        if repeated
        else _draw(rng, world, fixtures=world.train, pairs=most)
    )
    screen = screen_progress(
        on_train,
        fixtures=world.train,
        policy=policy,
        deterministic=deterministic,
        holdout=world.holdout,
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
        train=on_train[: screen.pairs],
    )
    # On train the incumbent's runs are kept ones; on the holdout both sides are run.
    return confirm.state is State.PASS, screen.pairs + 2 * confirm.pairs


def _draw_kept(rng: Random, world: _World, *, pairs: int) -> list[_Draw]:
    """Pairs of a screen: one run of the candidate against the mean of a case's kept runs."""
    before, after = _chances(world)
    kept: dict[int, list[bool]] = {}
    drawn = []
    for number in range(pairs):
        sweep, case = divmod(number, world.train)
        runs = kept.setdefault(case, [])
        least = kept_runs(
            fixtures=world.train, sweep=sweep, policy=world.policy, deterministic=False
        )
        runs += [rng.random() < before for _ in range(least - len(runs))]
        score = float(rng.random() < after)
        drawn.append(_Draw(str(case), str(case), score, score - sum(runs) / len(runs)))
    return drawn


def _chances(world: _World) -> tuple[float, float]:
    """How often a run of each side passes, so that pairs of one run each are as in ``_draw``."""
    effect = world.effect
    ties = 1 - max(world.differing, effect)
    # before + after - 2 * before * after are decisive, and after = before + effect
    root = math.sqrt(max(0.0, (1 - effect) ** 2 - 2 * (1 - ties - effect)))
    before = max(0.0, (1 - effect - root) / 2)
    return before, before + effect


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


SAME = 5  # cases of which all score the same twice before it is remarked upon


def describe_noise(report: NoiseReport) -> list[str]:
    """An A/A run in words."""
    noise = report.noise
    moved = f"the mean moved by {100 * noise.gap:+.1f} points"
    lines = [
        f"{report.skill} with {report.model}: {wording.percent(noise.mean)} on train.",
        f"Run again, {noise.differing:.0%} of {noise.pairs} cases score differently, and {moved}.",
        f"A difference below {200 * noise.error:.1f} points in one sweep is noise.",
        f"An empty skill scores {wording.percent(report.null_score)}.",
    ]
    if report.null_score is not None and report.null_score >= noise.mean:
        lines.append("advice: the skill does no better than an empty one on these cases")
    if report.deterministic and noise.differing:
        lines.append(
            "advice: this model is declared deterministic and is not: the gate would take chance"
            " for a gain. Take that declaration away"
        )
    elif report.deterministic:
        lines.append("Runs are deterministic: only more fixtures can show smaller effects.")
    elif not noise.differing and noise.pairs >= SAME:
        lines.append(
            "advice: every case scored the same twice. If this model or a cache before it repeats"
            " its answers, the gate would count the repeats as evidence: turn the cache off, or"
            " declare the model deterministic (docs/providers.md)"
        )
    return [*lines, _detectable(report)]


def _detectable(report: NoiseReport) -> str:
    found, price = report.detectable, report.usd_per_call
    if found is None:
        return "No effect that is still possible here would be merged 8 times in 10."
    cost = f", about {wording.dollars(found.calls * price)}" if price else ""
    return (
        f"The smallest effect merged 8 times in 10 is about {100 * found.effect:+.0f} points; an "
        f"experiment with it takes about {found.calls:.0f} calls{cost}."
    )


def measure_noise(start: Path, *, skill: str | None, observer: Observer) -> NoiseReport:
    """Run the skill against itself on train, and an empty skill beside it."""
    project = repository.open_project(start)
    space = workspace.open_anywhere(
        project, skill=skill, ref=None, override={}, require=workspace.BOTH
    )
    check.require_sound(space)
    return asyncio.run(_measure_noise(space, observer))


async def _measure_noise(space: Workspace, observer: Observer) -> NoiseReport:
    async with session.opened(space, on_trace=observer.ran, job="noise") as opened:
        observer.budget = opened.budget
        empty = workspace.text_of("")
        opened.ledger.add_skill_text(space.text.digest, space.text.text)
        opened.ledger.add_skill_text(empty.digest, empty.text)
        for text in (space.text, empty):
            opened.recall(text)
        observer.phase("A/A run on train", runs=2 * len(space.train))
        first = await sweep(opened.runner, space.text, space.train)
        second = await sweep(opened.runner, space.text, space.train, replicate=1)
        observer.phase("empty skill on train", runs=len(space.train))
        null = await sweep(opened.runner, empty, space.train)
        return _noise_report(space, opened, first, second, null)


def _noise_report(
    space: Workspace,
    opened: session.Bench,
    first: list[Trace],
    second: list[Trace],
    null: list[Trace],
) -> NoiseReport:
    pairs = [(a.score, b.score) for a, b in zip(first, second, strict=True)]
    scored = [(a.value, b.value) for a, b in pairs if a and b]
    if len(scored) < len(pairs):
        failed = next(t for t in (*first, *second) if t.score is None)
        raise RatchetError(
            f"{len(pairs) - len(scored)} of {len(pairs)} cases have no score: {failed.failure}"
        )
    noise = measure([a for a, _ in scored], [b for _, b in scored])
    spent = total(trace.reply.usd for trace in (*first, *second))
    return NoiseReport(
        skill=space.name,
        model=space.how.model,
        noise=noise,
        deterministic=opened.provider.deterministic,
        detectable=smallest(
            noise,
            train=len(space.train),
            holdout=len(space.holdout),
            policy=space.policy,
            deterministic=opened.provider.deterministic,
        ),
        null_score=mean_score(null),
        usd_per_call=None if spent is None else spent / (2 * len(pairs)),
        calls=opened.budget.calls,
        usd=opened.budget.spent,
    )
