"""How often the gate is wrong, what it finds and what it costs: measured by simulation.

    python benchmarks/gate.py              # minutes; rewrites the tables and plots of docs/gate.md
    python benchmarks/gate.py --quick      # seconds; prints rougher tables, writes nothing
    python benchmarks/gate.py --keep DIR   # goes on with the tables that are in the folder

The rules are those of ``skill_ratchet.core.evidence``, played for many experiments at once with
numpy; ``tests/core/test_evidence.py`` checks that both settle every sequence alike. Everything is
seeded, and a rerun gives the same bytes whatever ``--jobs`` is.

A world is a table of success probabilities, rows x fixtures. Train and holdout have ``n``
fixtures each, drawn alike and independently. Calls are model calls: in the screen the incumbent's
kept runs are re-used and paid for once, the confirm run pays for both sides of every pair.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import zlib
from collections.abc import Callable  # of the type aliases below, too
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from scipy.special import ndtr
from scipy.stats import beta

from skill_ratchet.core import evidence as stats
from skill_ratchet.core import leaks
from skill_ratchet.core.evidence import Cause, State
from skill_ratchet.core.records import Fixture

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt
    from numpy.random import Generator

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]
    Draw = Callable[[Generator, Floats], Floats]
    World = Callable[[Generator, int, int], Floats]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gate.md"
IMAGES = ROOT / "docs" / "img"
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
SEED = 20260101
ALPHA, K = 0.10, 5.0
EXPERIMENTS = 700
SIZES = (5, 20, 50)
EFFECTS = (-10, -5, 0, 3, 5, 10, 15, 20, 25)  # points
KIND_EFFECTS = (-10, 0, 5, 10, 15)
POWER_SIZES = (20, 5, 50, 200)
PART = 20  # pairs played at once; a sweep is cut into parts of at most this many


# The rules, for many sequences at once --------------------------------------------------------

CODES = (
    (State.OPEN, Cause.UNDECIDED),
    (State.PASS, Cause.BAR_REACHED),
    (State.DROP, Cause.LOSING),
    (State.DROP, Cause.FUTILE),
    (State.DROP, Cause.CAP_REACHED),
    (State.DROP, Cause.GUARD),
)
PASS, LOSING, FUTILE, CAP, GUARD = range(1, 6)  # indices into CODES


class Source(Protocol):
    """Where differences come from: sweeps over fixtures, for many experiments (rows)."""

    @property
    def fixtures(self) -> int:
        """Fixtures in the split."""
        ...

    def order(self, rows: Ints, sweep: int) -> Ints:
        """The order of the fixtures in this sweep, for each row; a block is the first of them."""
        ...

    def differences(self, rows: Ints, sweep: int, order: Ints) -> Floats:
        """Candidate minus incumbent on these fixtures."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where each experiment ended: a code (see CODES), after how many pairs, with which log E.

    ``log_e`` is that of S for a screen, as in ``evidence.Progress``.
    """

    code: Ints
    pairs: Ints
    log_e: Floats

    @property
    def passed(self) -> Bools:
        """Which of them passed."""
        passed: Bools = self.code == PASS
        return passed


@dataclass(frozen=True, slots=True)
class Wealth:
    """What bets have come to, rows x pairs; ``pairs`` counts from 1.

    ``least`` is the log wealth by which a test is given up. ``growth`` makes the log of E that may
    be hoped for of the decisive mass that is left. ``state`` goes on with the next pairs.
    """

    pairs: Ints
    log_e: Floats
    least: Floats
    mass: Floats
    hoped: Callable[[Floats], Floats]
    state: Floats

    def reachable(self, cap: Floats, bar: Floats | float) -> Bools:
        """Whether the bar can still be reached by the cap."""
        share = (self.mass + stats.PRIOR_MASS) / (self.pairs + stats.PRIOR_PAIRS)
        left: Floats = np.maximum(0.0, cap - self.pairs) * share
        return np.asarray(self.hoped(left) >= bar)


Bet = Callable[[Any, Any, int], Wealth]  # state, differences, pairs before: all as in _play


def _growth(stake: Floats) -> Floats:
    win = stats.WIN_SHARE
    grown: Floats = win * np.log1p(stake) + (1 - win) * np.log1p(-stake)
    return grown


def _stake(squares: Floats, pairs: Ints, *, spread: float) -> Floats:
    v = (squares + stats.PRIOR_PAIRS * spread) / (pairs + stats.PRIOR_PAIRS)
    share: Floats = np.clip(stats.EDGE / v, stats.LEAST_STAKE, stats.MOST_STAKE)
    return share


def _summed(before: Floats, steps: Floats) -> Floats:
    """Sums of the steps, one by one as they would be added to what was before."""
    steps[..., 0] += before
    sums: Floats = np.cumsum(steps, axis=-1)
    return sums


def one_gambler(state: Floats, d: Floats, pairs: int, *, spread: float, every: bool) -> Wealth:
    """The stake follows every pair (of a screen), or is that of a block, which ``d`` is."""
    squares = _summed(state[1], d * d)
    known = np.column_stack([state[1], squares[:, :-1]]) if every else state[1][:, None]
    before = pairs + (np.arange(d.shape[1]) if every else np.zeros(1, np.int64))
    stake = np.broadcast_to(_stake(known, before, spread=spread), d.shape)
    wealth, mass = _summed(state[0], np.log1p(stake * d)), _summed(state[2], np.abs(d))
    return Wealth(
        pairs + np.arange(1, d.shape[1] + 1),
        log_e=wealth,
        least=wealth,
        mass=mass,
        hoped=lambda left: np.asarray(wealth + _growth(stake) * left),
        state=np.stack([wealth[:, -1], squares[:, -1], mass[:, -1]]),
    )


CAUTIOUS, BOLD = 1 / 3, 0.8  # version 1's fixed stakes


def two_gamblers(state: Floats, d: Floats, pairs: int, *, both: bool) -> Wealth:
    """Version 1: two fixed stakes and the mean of their wealth, or the cautious one alone."""
    cautious, bold = (
        _summed(state[at], np.log1p(bet * d)) for at, bet in enumerate((CAUTIOUS, BOLD))
    )
    mass = _summed(state[2], np.abs(d))

    def mixed(first: Floats, second: Floats) -> Floats:
        return np.asarray(np.logaddexp(first, second) - math.log(2)) if both else first

    return Wealth(
        pairs + np.arange(1, d.shape[1] + 1),
        log_e=mixed(cautious, bold),
        least=cautious,
        mass=mass,
        hoped=lambda left: mixed(
            cautious + stats.growth(CAUTIOUS) * left, bold + stats.growth(BOLD) * left
        ),
        state=np.stack([cautious[:, -1], bold[:, -1], mass[:, -1]]),
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """A version of the gate's rule."""

    name: str
    screen_bet: Bet
    screen_pass: float
    screen_drop: float
    confirm_bet: Bet
    confirm_drop: float
    confirm_cap: float  # pairs for every unit of ln(bar)
    block: Callable[[int], int]  # pairs between two looks at the bar
    averaged: bool  # a pair's incumbent is the mean of the case's kept runs

    def kept(self, n: int, sweep: int) -> int:
        """Kept runs of the incumbent that a case has in a sweep of the screen (from 0)."""
        return stats.kept_runs(fixtures=n, sweep=sweep) if self.averaged else sweep + 1


def _second(name: str) -> Rule:
    patience = stats.PATIENCE[name]
    return Rule(
        name=name,
        screen_bet=partial(one_gambler, spread=stats.SCREEN_SPREAD, every=True),
        screen_pass=stats.SCREEN_PASS,
        screen_drop=patience.screen,
        confirm_bet=partial(one_gambler, spread=stats.CONFIRM_SPREAD, every=False),
        confirm_drop=patience.confirm,
        confirm_cap=stats.CONFIRM_CAP,
        block=stats.block_size,
        averaged=True,
    )


DEFAULT, PATIENT = _second("default"), _second("patient")
FIRST = Rule(
    name="version 1",
    screen_bet=partial(two_gamblers, both=False),
    screen_pass=math.log(6),
    screen_drop=math.log(1 / 2),
    confirm_bet=partial(two_gamblers, both=True),
    confirm_drop=math.log(1 / 4),
    confirm_cap=120,
    block=lambda n: n,
    averaged=False,
)
RULES = (FIRST, DEFAULT, PATIENT)


def screen_many(source: Source, rows: Ints, rule: Rule = DEFAULT) -> Outcome:
    """``evidence.screen`` of every row."""
    cap = np.array([float(stats.SCREEN_CAP)])

    def judge(wealth: Wealth, _at: Ints, _guarded: Bools) -> Ints:
        spent = np.broadcast_to(wealth.pairs >= stats.SCREEN_CAP, wealth.log_e.shape)
        return _first_of(
            (PASS, wealth.log_e >= rule.screen_pass),
            (LOSING, wealth.least <= rule.screen_drop),
            (CAP, spent),
            (FUTILE, ~wealth.reachable(cap, rule.screen_pass)),
        )

    length = source.fixtures
    return _play(source, rows, length=length, bet=rule.screen_bet, judge=judge, guard=False)


def confirm_many(
    source: Source, rows: Ints, levels: Floats, rule: Rule = DEFAULT, *, guard: bool = True
) -> Outcome:
    """``evidence.confirm`` of every row, each at its own error level."""
    log_bar, length = -np.log(levels), rule.block(source.fixtures)
    cap = np.ceil(rule.confirm_cap * log_bar / length) * length

    def judge(wealth: Wealth, at: Ints, guarded: Bools) -> Ints:
        bar, most = log_bar[at, None], cap[at, None]
        reached = (wealth.pairs % length == 0) & (wealth.log_e >= bar)
        return _first_of(
            (LOSING, wealth.least <= rule.confirm_drop),
            (PASS, reached & guarded[:, None]),
            (GUARD, reached),
            (CAP, wealth.pairs >= most),
            (FUTILE, ~wealth.reachable(most, bar)),
        )

    return _play(source, rows, length=length, bet=rule.confirm_bet, judge=judge, guard=guard)


def _first_of(*rules: tuple[int, Bools]) -> Ints:
    chosen: Ints = np.select([holds for _, holds in rules], [code for code, _ in rules], 0)
    return chosen


def _play(
    source: Source,
    rows: Ints,
    *,
    length: int,
    bet: Bet,
    judge: Callable[[Wealth, Ints, Bools], Ints],
    guard: bool,
) -> Outcome:
    """Sweep after sweep (or block) of ``length`` pairs until ``judge`` has settled every row."""
    m = len(rows)
    done = Outcome(np.zeros(m, np.int64), np.zeros(m, np.int64), np.zeros(m))
    live = np.arange(m)
    totals, seen = np.zeros((2, m, source.fixtures))
    state = np.zeros((3, m))
    for sweep in count():
        order = source.order(rows[live], sweep)[:, :length]
        for start in range(0, length, PART):
            if not live.size:
                return done
            part = order[:, start : start + PART]
            d = source.differences(rows[live], sweep, part)
            wealth = bet(state, d, sweep * length + start)
            guarded = np.ones(live.size, bool)
            if guard:
                totals[live[:, None], part] += d
                seen[live[:, None], part] += 1
                if start + PART >= length:  # at the sweep's end
                    guarded = _guarded(totals[live], seen[live])
            codes = judge(wealth, live, guarded)
            stays = _record(done, live, codes, wealth)
            live, order, state = live[stays], order[stays], wealth.state[:, stays]
    raise AssertionError("sweeps never end")


def _record(done: Outcome, live: Ints, codes: Ints, wealth: Wealth) -> Bools:
    """Write down the rows that settled; returns which go on."""
    settled: Bools = np.asarray(codes.any(axis=1))
    first = (codes > 0).argmax(axis=1)[settled]
    at = (np.flatnonzero(settled), first)
    done.code[live[settled]] = codes[at]
    done.pairs[live[settled]] = wealth.pairs[first]
    done.log_e[live[settled]] = wealth.log_e[at]
    return np.logical_not(settled)


def _guarded(totals: Floats, seen: Floats) -> Bools:
    """``evidence.ladder`` of every row, over the fixtures that it has seen."""
    n = (seen > 0).sum(axis=1)
    means = np.divide(totals, seen, out=np.zeros_like(totals), where=seen > 0)
    mean = means.sum(axis=1) / n
    spread = np.where(seen > 0, (means - mean[:, None]) ** 2, 0.0).sum(axis=1)
    bar = np.sqrt(spread / np.maximum(n - 1, 1) / n)
    return np.asarray((n > 1) & (mean > bar + stats.HAIR))


def _clears(means: Floats, *, errors: float = 1.0) -> Bools:
    """``evidence.clears`` of every row."""
    if means.shape[-1] < 2:
        return np.zeros(means.shape[:-1], bool)
    bar = errors * means.std(axis=-1, ddof=1) / math.sqrt(means.shape[-1])
    return np.asarray(means.mean(axis=-1) > bar + stats.HAIR)


# Worlds ---------------------------------------------------------------------------------------


def pass_or_fail(rng: Generator, p: Floats) -> Floats:
    """Scores of 0 or 1."""
    return (rng.random(p.shape) < p).astype(np.float64)


def graded(rng: Generator, p: Floats) -> Floats:
    """Scores anywhere in [0, 1], with mean p."""
    p = np.clip(p, 0.02, 0.98)
    return rng.beta(3 * p, 3 * (1 - p))


@dataclass(frozen=True)
class Duels:
    """Candidates against incumbents with known success probabilities.

    Row r is candidate ``candidate_of[r]`` against incumbent ``incumbent_of[r]``. With ``kept``
    (incumbents x sweeps x fixtures) the incumbent's scores are looked up instead of drawn.
    """

    rng: Generator
    incumbent: Floats
    candidate: Floats
    incumbent_of: Ints
    candidate_of: Ints
    draw: Draw = pass_or_fail
    kept: Floats | None = None

    @property
    def fixtures(self) -> int:
        """Fixtures in the split."""
        return int(self.incumbent.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and fixtures."""
        return len(self.candidate_of), self.fixtures

    def order(self, rows: Ints, sweep: int) -> Ints:  # noqa: ARG002 - every sweep is alike
        """A random order for each row."""
        ordered = np.broadcast_to(np.arange(self.fixtures), (len(rows), self.fixtures))
        return self.rng.permuted(ordered, axis=1)

    def differences(self, rows: Ints, sweep: int, order: Ints) -> Floats:
        """One run of each side."""
        mine, theirs = self.candidate_of[rows, None], self.incumbent_of[rows, None]
        new = self.draw(self.rng, self.candidate[mine, order])
        if self.kept is not None:
            return np.asarray(new - self.kept[theirs, sweep, order])
        return new - self.draw(self.rng, self.incumbent[theirs, order])


def one_to_one(rng: Generator, incumbent: Floats, candidate: Floats, **more: object) -> Duels:
    """Every row of one table against the same row of the other."""
    rows = np.arange(len(incumbent))
    return Duels(rng, incumbent, candidate, rows, rows, **more)  # type: ignore[arg-type]  # as named


@dataclass(frozen=True, slots=True)
class Kept:
    """The kept runs of incumbents: incumbents x runs of a case x fixtures."""

    made: Floats
    rule: Rule

    @classmethod
    def draw(cls, rng: Generator, p: Floats, rule: Rule, draw: Draw = pass_or_fail) -> Self:
        """As many as any screen may need."""
        n = p.shape[1]
        most = max(rule.kept(n, sweep) for sweep in range(math.ceil(stats.SCREEN_CAP / n)))
        return cls(draw(rng, np.repeat(p[:, None], most, axis=1)), rule)

    def compared(self, had: Ints | int = 0) -> Floats:
        """What candidates are compared with in each sweep: incumbents x sweeps x fixtures.

        In a rule that compares with the mean of the kept runs those are all of them, also those
        that an incumbent ``had`` from earlier screens.
        """
        rows, most, n = self.made.shape
        if not self.rule.averaged:
            return self.made
        sweeps = math.ceil(stats.SCREEN_CAP / n)
        wanted = np.array([self.rule.kept(n, sweep) for sweep in range(sweeps)])
        runs = np.maximum(wanted, np.broadcast_to(had, rows)[:, None])
        means = self.made.cumsum(axis=1) / np.arange(1, most + 1)[:, None]
        return np.asarray(means[np.arange(rows)[:, None], runs - 1])


def difficulties(rng: Generator, rows: int, n: int, *, easy: float = 0.0) -> Floats:
    """Probit difficulties z ~ N(easy, 1), redrawn until the mean of Phi(z) is not far off."""
    middle, width = (0.45, 0.2) if not easy else (ndtr(easy / math.sqrt(2)), 0.1)
    z = rng.normal(easy, 1, (rows, n))
    while (bad := np.abs(ndtr(z).mean(axis=1) - middle) > width).any():
        z[bad] = rng.normal(easy, 1, (int(bad.sum()), n))
    return z


def shifted(z: Floats, effect: float | Floats) -> Floats:
    """Phi(z + s), with s solved for each row so that its mean is ``effect`` above Phi(z)'s."""
    target = np.minimum(ndtr(z).mean(axis=1) + effect, 0.995)
    low, high = np.full(len(z), -8.0), np.full(len(z), 8.0)
    for _ in range(50):
        middle = (low + high) / 2
        less = ndtr(z + middle[:, None]).mean(axis=1) < target
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    moved: Floats = ndtr(z + ((low + high) / 2)[:, None])
    return moved


def extremes(rng: Generator, rows: int, n: int) -> Floats:
    """Fixtures that nearly always fail or nearly always pass: 1 run in 50 is the other way."""
    return np.where(rng.random((rows, n)) < 0.5, 0.02, 0.98)


def probit(rng: Generator, rows: int, n: int) -> Floats:
    """Success probabilities of probit difficulties."""
    p: Floats = ndtr(difficulties(rng, rows, n))
    return p


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of skill: how hard its cases are, how an edit changes them, how they are scored."""

    easy: float = 0.0  # mean of the normal difficulties
    draw: Draw = pass_or_fail
    concentrated: bool = False  # an edit changes a quarter of the cases, by four times as much

    def cases(self, rng: Generator, rows: int, n: int) -> Floats:
        """Normal difficulties: a case passes with probability Phi of its own."""
        if self.concentrated:  # half of the cases are hard, half easy
            sides = np.where(np.arange(n) % 2, EASY, -EASY)
            return rng.permuted(np.broadcast_to(sides, (rows, n)), axis=1)
        return difficulties(rng, rows, n, easy=self.easy)

    def edited(self, rng: Generator, z: Floats, effects: Floats) -> Floats:
        """Success probabilities after edits with these mean effects."""
        if not self.concentrated:
            return shifted(z, effects)
        n = z.shape[1]
        few = np.ceil(n * np.maximum(0.25, np.abs(effects) / 0.65))[:, None]
        # Gains are made of hard cases, losses of easy ones; which of them is drawn.
        lots = rng.random(z.shape) + np.where(effects[:, None] * z > 0, 1.0, 0.0)
        touched = lots.argsort(axis=1).argsort(axis=1) < few
        moved: Floats = ndtr(z) + np.where(touched, effects[:, None] * n / few, 0.0)
        return moved


EASY = 1.0364  # Phi of it is 0.85
PROBIT = Kind()
KINDS = {
    "probit: passes half of the time": PROBIT,
    "mature: passes 8 times in 10": Kind(easy=1.2),
    "graded: scores anywhere in [0, 1]": Kind(draw=graded),
    "concentrated: a quarter of the cases changes": Kind(concentrated=True),
}


# Loops ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loops:
    """Many loops of experiments against one incumbent, each up to its first merge.

    ``first`` is the experiment (from 1) that merged first, 0 where none did.
    """

    first: Ints
    calls: float  # per experiment
    attempts: float  # confirm attempts per loop

    @property
    def any(self) -> int:
        """Loops with a merge."""
        return int((self.first > 0).sum())

    @property
    def bound(self) -> float:
        """Upper 95% bound of the probability of a merge."""
        return upper(self.any, len(self.first))

    @property
    def rate(self) -> float:
        """Merges per experiment, up to each loop's first merge."""
        made = np.where(self.first > 0, self.first, EXPERIMENTS).sum()
        return float(self.any / made)


def upper(hits: int, trials: int, *, confidence: float = 0.95) -> float:
    """One-sided Clopper-Pearson upper bound of a probability."""
    if hits == trials:
        return 1.0
    return float(beta.ppf(confidence, hits + 1, trials - hits))


@dataclass(frozen=True, slots=True)
class Setup:
    """A loop of edits that change nothing, or (a share of them) only the holdout.

    ``memorise`` is the share of edits that answer held-out cases 25 points better.
    """

    n: int
    experiments: int = EXPERIMENTS
    world: World = probit
    draw: Draw = pass_or_fail
    memorise: float = 0.0
    rule: Rule = DEFAULT


def our_loops(rng: Generator, setup: Setup, *, loops: int) -> Loops:
    """The whole gate, many times: experiment after experiment, each loop up to its first merge."""
    n, draw, rule = setup.n, setup.draw, setup.rule
    train, holdout = setup.world(rng, loops, n), setup.world(rng, loops, n)
    lifted = np.concatenate([holdout, np.minimum(1.0, holdout + 0.25)])
    kept, every = Kept.draw(rng, train, rule, draw), np.arange(loops)
    had, attempts, first, calls = np.zeros((4, loops), np.int64)
    made = np.zeros(loops, np.int64)
    for experiment in range(setup.experiments):
        rows = np.flatnonzero(first == 0)
        duels = Duels(rng, train, train, every, every, draw, kept.compared(had))
        screened = screen_many(duels, rows, rule)
        had[rows] = np.maximum(had[rows], kept_calls(rule, n, screened.pairs) // n)
        tried = rows[screened.passed]
        attempts[tried] += 1
        memorises = rng.random(loops) < setup.memorise
        duels = Duels(rng, holdout, lifted, every, every + loops * memorises, draw)
        confirmed = confirm_many(duels, tried, levels(attempts[tried]), rule)
        calls[rows] += screened.pairs
        calls[tried] += 2 * confirmed.pairs
        made[rows] += 1
        first[tried[confirmed.passed]] = experiment + 1
    return Loops(first, float((calls + n * had).sum() / made.sum()), float(attempts.mean()))


def kept_calls(rule: Rule, n: int, pairs: Ints) -> Ints:
    """Incumbent runs that a screen of so many pairs needs, in whole sweeps to be safe."""
    sweeps = np.maximum(np.ceil(pairs / n).astype(np.int64), 1)
    runs = np.array([rule.kept(n, sweep) for sweep in range(int(sweeps.max(initial=1)))])
    needed: Ints = n * runs[sweeps - 1]
    return needed


def levels(attempt: Ints) -> Floats:
    """``evidence.level`` of every attempt number."""
    a: Floats = ALPHA * K / ((attempt + K - 1) * (attempt + K))
    return a


def _first(merged: Bools) -> Ints:
    """The first experiment of each loop that merged, from 1; 0 where none did."""
    found: Ints = np.where(merged.any(axis=1), merged.argmax(axis=1) + 1, 0)
    return found


SIMPLE = {
    "mean > 0, incumbent's score kept": (True, 0.0),
    "mean > 0, incumbent run again": (False, 0.0),
    "mean > 1 SE, incumbent's scores kept (Ladder)": (True, 1.0),
    "mean > 1 SE, incumbent run again": (False, 1.0),
}
PER_TEST = "the default's bets, 1/0.05 for each test"
OURS, FIRST_OURS = "**evidence (the default)**", "evidence, version 1"
NAMES = {"version 1": FIRST_OURS, "default": OURS, "patient": "evidence, patient"}


@dataclass(frozen=True, slots=True)
class Simple:
    """A/A loops under a rule that looks at one sweep of the holdout."""

    first_edit: float  # how often the first experiment merges
    merges: float  # per loop
    first: Ints
    calls: float
    excess: float  # of the score shown over the truth, at the end


def simple_loops(rng: Generator, *, rule: str, n: int, loops: int) -> Simple:
    """Edits that change nothing, one sweep each, under a rule of ``SIMPLE``."""
    cached, errors = SIMPLE[rule]
    p = probit(rng, loops, n)
    shown = pass_or_fail(rng, p)
    merged = np.zeros((loops, EXPERIMENTS), bool)
    for experiment in range(EXPERIMENTS):
        new = pass_or_fail(rng, p)
        old = shown if cached else pass_or_fail(rng, p)
        won = _clears(new - old, errors=errors)
        merged[:, experiment] = won
        shown = np.where(won[:, None], new, shown)
    return Simple(
        first_edit=float(merged[:, 0].mean()),
        merges=float(merged.sum(axis=1).mean()),
        first=_first(merged),
        calls=n * (1 if cached else 2),
        excess=float((shown - p).mean()),
    )


def per_test_loops(rng: Generator, *, n: int, loops: int) -> Loops:
    """The same bets and stops as ours against a bar of 20, with no screen, budget or guard."""
    firsts, pairs = [], 0.0
    for _ in range(loops):
        p = np.repeat(probit(rng, 1, n), EXPERIMENTS, axis=0)
        rows = np.arange(EXPERIMENTS)
        bar = np.full(EXPERIMENTS, 0.05)
        done = confirm_many(one_to_one(rng, p, p), rows, bar, guard=False)
        firsts.append(_first(done.passed[None, :]))
        pairs += done.pairs.mean() / loops
    return Loops(np.concatenate(firsts), 2 * pairs, EXPERIMENTS)


# Effects --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Power:
    """What becomes of the first experiment against an incumbent: share merged, and mean calls."""

    merged: float
    calls: float


def power(
    rng: Generator,
    *,
    n: int,
    effect: float,
    trials: int,
    rule: Rule = DEFAULT,
    kind: Kind = PROBIT,
) -> Power:
    """Experiments whose true mean effect, on both splits, is exactly ``effect``."""
    tried = our_gate(rng, np.full(trials, effect), n=n, rule=rule, kind=kind)
    return Power(float(tried.merged.mean()), float(tried.calls.mean()))


@dataclass(frozen=True, slots=True)
class Tried:
    """Experiments: which was merged, which looked at the holdout, and the calls of each."""

    merged: Bools
    looked: Bools
    calls: Floats
    runs: Ints | int = 0  # kept runs of each case of train that were needed


@dataclass(frozen=True, slots=True)
class Incumbents:
    """Skills, each with cases of its own and with kept runs; ``had`` of each case so far."""

    kind: Kind
    train: Floats  # difficulties
    holdout: Floats
    kept: Kept
    had: Ints

    @classmethod
    def draw(cls, rng: Generator, rows: int, *, n: int, rule: Rule, kind: Kind) -> Self:
        """So many of them, without kept runs."""
        train, holdout = (kind.cases(rng, rows, n) for _ in range(2))
        kept = Kept.draw(rng, ndtr(train), rule, kind.draw)
        return cls(kind, train, holdout, kept, np.zeros(rows, np.int64))

    def renewed(self, rng: Generator, where: Bools) -> Incumbents:
        """New ones in the place of some."""
        n = self.train.shape[1]
        new = Incumbents.draw(rng, len(where), n=n, rule=self.kept.rule, kind=self.kind)
        table, cube = where[:, None], where[:, None, None]
        return Incumbents(
            self.kind,
            np.where(table, new.train, self.train),
            np.where(table, new.holdout, self.holdout),
            Kept(np.where(cube, new.kept.made, self.kept.made), self.kept.rule),
            np.where(where, 0, self.had),
        )

    def held_out(self, rng: Generator, effects: Floats) -> Duels:
        """Edits with these effects against them, on the held-out cases."""
        new = self.kind.edited(rng, self.holdout, effects)
        return one_to_one(rng, ndtr(self.holdout), new, draw=self.kind.draw)


def our_gate(rng: Generator, effects: Floats, *, n: int, rule: Rule, kind: Kind = PROBIT) -> Tried:
    """First experiments against incumbents; see ``gated``."""
    incumbents = Incumbents.draw(rng, len(effects), n=n, rule=rule, kind=kind)
    return gated(rng, incumbents, effects, np.ones(len(effects), np.int64))


def gated(rng: Generator, incumbents: Incumbents, effects: Floats, attempt: Ints) -> Tried:
    """Screen and confirm. The incumbents' kept runs are not among the calls: see ``runs``."""
    rows, train = np.arange(len(effects)), incumbents.train
    kind, kept = incumbents.kind, incumbents.kept
    new = kind.edited(rng, train, effects)
    compared = kept.compared(incumbents.had)
    on_train = one_to_one(rng, ndtr(train), new, draw=kind.draw, kept=compared)
    screened = screen_many(on_train, rows, kept.rule)
    tried = rows[screened.passed]
    duels = incumbents.held_out(rng, effects)
    confirmed = confirm_many(duels, tried, levels(attempt[tried]), kept.rule)
    merged, calls = np.zeros(len(rows), bool), screened.pairs.astype(np.float64)
    merged[tried] = confirmed.passed
    calls[tried] += 2 * confirmed.pairs
    n = train.shape[1]
    return Tried(merged, screened.passed, calls, kept_calls(kept.rule, n, screened.pairs) // n)


def one_look(rng: Generator, *, n: int, effect: float, trials: int, errors: float) -> float:
    """How often one sweep of both with a mean gain of so many standard errors merges an edit."""
    z = PROBIT.cases(rng, trials, n)
    d = pass_or_fail(rng, shifted(z, effect)) - pass_or_fail(rng, ndtr(z))
    return float(_clears(d, errors=errors).mean())


def mixed(
    rng: Generator, *, n: int, trials: int, pairs: int = 1_200, size: float = 0.3
) -> tuple[int, int]:
    """Half of the fixtures ``size`` better and half as much worse, so that nothing is gained.

    Returns:
        How many of ``trials`` long runs (no early stop) ever have E >= 20 at a block's end, and
        how many the confirm run at level 0.05 merges.
    """
    sign = np.where(np.arange(n) % 2, 1.0, -1.0)
    sign[n - n % 2 :] = 0.0  # an odd one out stays as it is
    old = rng.uniform(size, 1 - size, (trials, n))
    duels = one_to_one(rng, old, old + size * sign)
    rows, block = np.arange(trials), DEFAULT.block(n)
    state, ever = np.zeros((3, trials)), np.zeros(trials, bool)
    for number in range(pairs // block):
        d = duels.differences(rows, number, duels.order(rows, number)[:, :block])
        state = DEFAULT.confirm_bet(state, d, number * block).state
        ever |= state[0] >= math.log(20)
    merged = confirm_many(duels, rows, np.full(trials, 0.05)).passed
    return int(ever.sum()), int(merged.sum())


# A season -------------------------------------------------------------------------------------

EDITS = 200
SIZES_OF_EDITS = (  # share of edits, and their effects in points, evenly spread
    (0.55, 0, 0),
    (0.25, -12, -3),
    (0.12, 3, 6),
    (0.06, 8, 12),
    (0.02, 20, 20),
)


@dataclass(frozen=True, slots=True)
class Season:
    """Means over seasons of 200 edits: points won by merges, merges by kind, calls."""

    points: float
    useless: float  # merges of edits that change nothing
    harmful: float
    calls: float

    @property
    def points_per_thousand(self) -> float:
        """Points for 1,000 calls."""
        return 1_000 * self.points / self.calls

    @property
    def harm_per_thousand(self) -> float:
        """Harmful merges for 1,000 calls."""
        return 1_000 * self.harmful / self.calls


def effects_of(rng: Generator, rows: int) -> Floats:
    """True effects of so many edits."""
    shares, low, high = (np.array(column) for column in zip(*SIZES_OF_EDITS, strict=True))
    sort = rng.choice(len(shares), size=rows, p=shares)
    return np.round(rng.uniform(low[sort], high[sort])) / 100


Decider = Callable[[Any, Incumbents, Any, Any], Tried]  # rng, incumbents, effects, attempts


def season(
    rng: Generator, decide: Decider, incumbents: Incumbents, *, edits: int = EDITS
) -> Season:
    """Edits one after the other, many seasons at once.

    After a merge attempts count from 1, and there is a new skill of the same kind in the place of
    the one that got better, so that what is left to be gained stays the same.
    """
    attempt = np.ones(len(incumbents.had), np.int64)
    points, useless, harmful, calls = np.zeros((4, len(attempt)))
    for _ in range(edits):
        effects = effects_of(rng, len(attempt))
        tried = decide(rng, incumbents, effects, attempt)
        had = np.maximum(incumbents.had, tried.runs)
        calls += tried.calls + incumbents.train.shape[1] * (had - incumbents.had)
        points += 100 * effects * tried.merged
        useless += tried.merged & (effects == 0)
        harmful += tried.merged & (effects < 0)
        attempt = np.where(tried.merged, 1, attempt + tried.looked)
        incumbents = replace(incumbents, had=had).renewed(rng, tried.merged)
    return Season(*(float(one.mean()) for one in (points, useless, harmful, calls)))


def looked_once(errors: float) -> Decider:
    """One sweep of both on the holdout, and a mean gain of so many standard errors."""

    def decide(rng: Generator, incumbents: Incumbents, effects: Floats, _attempt: Ints) -> Tried:
        duels, rows = incumbents.held_out(rng, effects), np.arange(len(effects))
        d = duels.differences(rows, 0, np.broadcast_to(np.arange(duels.fixtures), duels.shape))
        merged = _clears(d, errors=errors)
        return Tried(merged, merged, np.full(len(rows), 2.0 * duels.fixtures))

    return decide


def tested_alone(rng: Generator, incumbents: Incumbents, effects: Floats, _attempt: Ints) -> Tried:
    """The default's bets on the holdout against 1/0.05 for each edit (PACE): no screen, budget."""
    rows, bars = np.arange(len(effects)), np.full(len(effects), 0.05)
    done = confirm_many(incumbents.held_out(rng, effects), rows, bars, guard=False)
    return Tried(done.passed, done.passed, np.asarray(2.0 * done.pairs))


DECIDERS: Mapping[str, tuple[Decider, Rule]] = {
    "mean > 0": (looked_once(0.0), DEFAULT),
    "mean > 1 SE": (looked_once(1.0), DEFAULT),
    PER_TEST: (tested_alone, DEFAULT),
    **{NAMES[rule.name]: (gated, rule) for rule in RULES},
}


# One sweep for deterministic models -----------------------------------------------------------

ONE_SWEEP = {
    "Ladder on the holdout alone": (0.0, 1.0, 0.0),  # errors of train, of the holdout, of both
    "and train at 2 SE (version 1)": (2.0, 1.0, 0.0),
    "ours": None,
}


@dataclass(frozen=True, slots=True)
class Greedy:
    """A loop with a deterministic model, after all its experiments; means over loops."""

    better: float  # merges
    neutral: float
    worse: float
    quality: float
    excess: float  # of the score on the holdout over the true quality


def greedy_loops(
    rng: Generator,
    *,
    n: int,
    loops: int,
    errors: tuple[float, float, float] | None,
    touched: float = 0.15,
) -> Greedy:
    """Edits that answer 15% of all cases anew: 10% are better, 70% worse, by 2 points on average.

    True quality is the share of all conceivable cases answered well; train and holdout are ``n``
    of them each. Quality starts at 0.5.
    """
    quality = np.full(loops, 0.5)
    train, holdout = (pass_or_fail(rng, np.full((loops, n), 0.5)) for _ in range(2))
    merges = np.zeros(3)
    for _ in range(EXPERIMENTS):
        kind = rng.choice([1, 0, -1], size=loops, p=[0.1, 0.2, 0.7])
        size = rng.exponential(0.02, loops)
        anew = np.clip(quality + kind * size / touched, 0.0, 1.0)
        new_train, new_holdout = (_redraw(rng, x, anew, touched) for x in (train, holdout))
        gains = (new_train - train, new_holdout - holdout)
        parts = (*gains, np.concatenate(gains, axis=1))
        won = np.ones(loops, bool)
        for part, least in zip(parts, errors or _ours(n), strict=True):
            won &= _clears(part, errors=least) | (least == 0)
        merges += [(won & (kind == sign)).sum() / loops for sign in (1, 0, -1)]
        train = np.where(won[:, None], new_train, train)
        holdout = np.where(won[:, None], new_holdout, holdout)
        quality = np.where(won, (1 - touched) * quality + touched * anew, quality)
    excess = float((holdout.mean(axis=1) - quality).mean())
    better, neutral, worse = (float(m) for m in merges)
    return Greedy(better, neutral, worse, float(quality.mean()), excess)


def _ours(n: int) -> tuple[float, float, float]:
    """Standard errors that train, the holdout and both must exceed."""
    together = stats.POOLED_ERRORS if n >= stats.MANY else 0.0
    return stats.train_errors(n, n), 1.0, together


def _redraw(rng: Generator, outcomes: Floats, p: Floats, touched: float) -> Floats:
    new = (rng.random(outcomes.shape) < p[:, None]).astype(np.float64)
    return np.where(rng.random(outcomes.shape) < touched, new, outcomes)


# Memorising -----------------------------------------------------------------------------------


def caught(rng: Generator, form: str, *, trials: int) -> float:
    """Share of memorising edits that the leak check finds, by how they memorise."""
    vocabulary = ["".join(rng.choice(list("abdeiklmnorstu"), 5)) for _ in range(400)]
    found = 0
    for _ in range(trials):
        train, holdout = (_case(rng, vocabulary, split) for split in ("train", "holdout"))
        copied = FORMS[form](holdout, rng, vocabulary)
        incumbent = "Answer with one of the labels below."
        candidate = f"{incumbent}\n- {copied}\n"
        found += bool(leaks.found(candidate, incumbent=incumbent, train=[train], holdout=[holdout]))
    return found / trials


def _case(rng: Generator, vocabulary: Sequence[str], split: str) -> Fixture:
    words = rng.choice(vocabulary, 20)
    return Fixture.model_validate(
        {"id": split, "split": split, "input": " ".join(words), "expected": str(words[0])}
    )


def _paraphrase(case: Fixture, rng: Generator, vocabulary: Sequence[str]) -> str:
    words = case.input_text.split()
    words[::5] = rng.choice(vocabulary, len(words[::5]))
    return " ".join(words)


FORMS: Mapping[str, Callable[[Fixture, Generator, Sequence[str]], str]] = {
    "the case, word for word": lambda case, _rng, _words: case.input_text,
    "six words of it": lambda case, _rng, _words: " ".join(case.input_text.split()[5:11]),
    "every fifth word replaced": _paraphrase,
    "the one-word answer only": lambda case, _rng, _words: str(case.expected),
}


# The tables -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as they are printed, and numbers for the plots."""

    rows: list[list[str]]
    series: dict[str, list[float]] = field(default_factory=dict)


Tables = dict[str, Table]


@dataclass(frozen=True, slots=True)
class Effort:
    """How many repeats each table gets."""

    loops: int
    first: int  # loops of the other versions
    simple: int
    trials: int
    greedy: int
    seasons: int


FULL = Effort(loops=1_000, first=100, simple=100, trials=4_000, greedy=400, seasons=300)
QUICK = Effort(loops=20, first=5, simple=10, trials=200, greedy=5, seasons=10)


def percent(p: float, digits: int = 0) -> str:
    """A probability as a percentage; what rounds to nothing or to all says so."""
    text = f"{100 * p:.{digits}f}%"
    if p > 0 and float(text[:-1]) == 0:
        return f"< {10.0**-digits:.{digits}f}%"
    return text


def of_loops(hits: int, trials: int) -> str:
    """A share of loops with its upper 95% bound."""
    return f"{hits / trials:.3f} (< {upper(hits, trials):.3f})"


def table_aa(rng: Generator, effort: Effort, n: int) -> Tables:
    """Edits that change nothing, at one size."""
    table = Table([])
    for rule in SIMPLE:
        one = simple_loops(rng, rule=rule, n=n, loops=effort.simple)
        often = of_loops(int((one.first > 0).sum()), effort.simple)
        often_such = one.first_edit if SIMPLE[rule][0] else one.merges / EXPERIMENTS
        numbers = [percent(often_such), f"{one.merges:.1f}", often, f"{100 * one.excess:+.0f}"]
        table.rows.append([rule, *numbers, f"{one.calls:.0f}"])
        table.series[rule] = _curve(one.first)
    for rule, loops, digits in (
        (PER_TEST, per_test_loops(rng, n=n, loops=effort.simple), 2),
        (FIRST_OURS, our_loops(rng, Setup(n, rule=FIRST), loops=effort.first), 3),
        (NAMES["patient"], our_loops(rng, Setup(n, rule=PATIENT), loops=effort.first), 3),
        (OURS, our_loops(rng, Setup(n), loops=effort.loops), 3),
    ):
        often = of_loops(loops.any, len(loops.first))
        numbers = [percent(loops.rate, digits), f"{EXPERIMENTS * loops.rate:.2g}", often, "+0"]
        table.rows.append([rule, *numbers, f"{loops.calls:.0f}"])
        table.series[rule] = _curve(loops.first)
    return {f"aa/{n}": table}


def _curve(first: Ints) -> list[float]:
    """The share of loops with a merge by experiment 1, 2, ... 700."""
    reached = np.searchsorted(np.sort(first[first > 0]), np.arange(EXPERIMENTS) + 1, side="right")
    return [float(share) for share in reached / len(first)]


def table_power(rng: Generator, effort: Effort, n: int) -> Tables:
    """Edits with a true effect, at one size."""
    rows: list[list[str]] = []
    series: dict[str, list[float]] = {}
    for rule in RULES:
        found = [power(rng, n=n, effect=e / 100, trials=effort.trials, rule=rule) for e in EFFECTS]
        name = NAMES[rule.name]
        rows.append([name, *(f"{percent(one.merged, 1)} @ {one.calls:.0f}" for one in found)])
        series[name] = [one.merged for one in found]
        series[f"{name}, calls"] = [one.calls for one in found]
    for name, errors in {"mean > 1 SE": 1.0, "mean > 0": 0.0}.items():
        looked = [
            one_look(rng, n=n, effect=e / 100, trials=effort.trials, errors=errors) for e in EFFECTS
        ]
        rows.append([name, *(f"{percent(share)} @ {2 * n}" for share in looked)])
        series[name] = looked
    return {f"power/{n}": Table(rows, series)}


def table_kinds(rng: Generator, effort: Effort) -> Tables:
    """Four kinds of skills, n = 20."""
    rows = []
    for name, kind in KINDS.items():
        for rule in RULES:
            found = [
                power(rng, n=20, effect=e / 100, trials=effort.trials // 2, rule=rule, kind=kind)
                for e in KIND_EFFECTS
            ]
            told = (f"{percent(one.merged, 1)} @ {one.calls:.0f}" for one in found)
            rows.append([name, NAMES[rule.name], *told])
    return {"kinds": Table(rows)}


def table_season(rng: Generator, effort: Effort) -> Tables:
    """Points and harm for 1,000 calls, by kind of skill."""
    rows = []
    worlds = [("probit", 20, "probit"), ("probit", 200, "probit")]
    worlds += [(name, 20, name) for name in ("mature", "graded", "concentrated")]
    for name, n, kind in worlds:
        chosen = next(one for title, one in KINDS.items() if title.startswith(kind))
        for name_of_rule, (decide, rule) in DECIDERS.items():
            skills = Incumbents.draw(rng, effort.seasons, n=n, rule=rule, kind=chosen)
            done = season(rng, decide, skills)
            numbers = [f"{done.points / EDITS:.2f}", f"{done.calls / EDITS:.0f}"]
            numbers += [f"{done.useless:.2f}", f"{done.harmful:.2f}"]
            numbers += [f"{done.points_per_thousand:.1f}", f"{done.harm_per_thousand:.3f}"]
            rows.append([f"{name}, n = {n}", name_of_rule, *numbers])
    return {"season": Table(rows)}


def table_mixed(rng: Generator, effort: Effort) -> Tables:
    """Effects of both signs that cancel out."""
    rows = []
    for n in (5, 20, 50):
        ever, merged = mixed(rng, n=n, trials=effort.trials)
        rows.append([str(n), of_loops(ever, effort.trials), of_loops(merged, effort.trials)])
    return {"mixed": Table(rows)}


def table_worlds(rng: Generator, effort: Effort) -> Tables:
    """A/A loops where fixtures are nearly deterministic, and where scores are graded."""
    rows = []
    kinds: list[tuple[str, World, Draw]] = [
        ("1 run in 50 differs", extremes, pass_or_fail),
        ("graded scores", probit, graded),
    ]
    for name, world, draw in kinds:
        for n in (5, 20, 50):
            setup = Setup(n, world=world, draw=draw)
            done = our_loops(rng, setup, loops=effort.loops // 4)
            hits = of_loops(done.any, len(done.first))
            rows.append([name, str(n), hits, f"{done.attempts:.0f}", f"{done.calls:.0f}"])
    return {"worlds": Table(rows)}


def table_greedy(rng: Generator, effort: Effort) -> Tables:
    """The one-sweep rule."""
    rows = []
    for n in (10, 20, 50, 200):
        row = [str(n)]
        for errors in ONE_SWEEP.values():
            one = greedy_loops(rng, n=n, loops=effort.greedy, errors=errors)
            merges = f"{one.better:.1f} / {one.neutral:.1f} / {one.worse:.1f}"
            row.append(f"{merges} / {one.quality:.2f} / {100 * one.excess:+.0f}")
        rows.append(row)
    return {"greedy": Table(rows)}


def table_memory(rng: Generator, effort: Effort) -> Tables:
    """Edits that memorise held-out cases."""
    loops = max(10, effort.loops // 4)
    seed = int(rng.integers(2**32))  # the same luck for every share that is left

    def merged(share: float) -> Loops:
        luck = np.random.default_rng(seed)
        return our_loops(luck, Setup(20, memorise=0.1 * share), loops=loops)

    unchecked, rows = merged(1.0), []
    for form in FORMS:
        share = caught(rng, form, trials=effort.trials // 20)
        left = merged(1 - share)
        when = f"{np.median(left.first[left.first > 0]):.0f}" if left.any > loops / 2 else "-"
        before, after = (of_loops(one.any, loops) for one in (unchecked, left))
        rows.append([form, percent(share), before, after, when])
    return {"memory": Table(rows)}


TASKS: tuple[tuple[str, Callable[[Generator, Effort], Tables]], ...] = (
    *((f"aa {n}", partial(table_aa, n=n)) for n in reversed(SIZES)),
    *((f"effects {n}", partial(table_power, n=n)) for n in POWER_SIZES),
    ("kinds", table_kinds),
    ("season", table_season),
    ("mixed effects", table_mixed),
    ("near-deterministic and graded", table_worlds),
    ("one sweep", table_greedy),
    ("memorising", table_memory),
)


def measure(name: str, effort: Effort) -> Tables:
    """One task, from its own seed."""
    task = dict(TASKS)[name]
    return task(np.random.default_rng([SEED, zlib.crc32(name.encode())]), effort)


def kept_or_measured(name: str, effort: Effort, keep: Path | None) -> Tables:
    """One task, or what a run that was interrupted has kept of it in a folder."""
    file = keep / f"{name}.json" if keep else None
    if file and file.exists():
        return {key: Table(*made) for key, made in json.loads(file.read_text("utf-8")).items()}
    made = measure(name, effort)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        shown = {key: [table.rows, table.series] for key, table in made.items()}
        file.write_text(json.dumps(shown), "utf-8")
    return made


def measure_all(effort: Effort, *, jobs: int, keep: Path | None = None) -> Tables:
    """All tasks, with progress on stderr."""
    names = [name for name, _ in TASKS]
    start, tables = time.monotonic(), {}
    with ProcessPoolExecutor(jobs) as pool:
        for name, result in zip(
            names,
            pool.map(kept_or_measured, names, [effort] * len(names), [keep] * len(names)),
            strict=True,
        ):
            print(f"{time.monotonic() - start:5.0f} s  {name}", file=sys.stderr, flush=True)
            tables.update(result)
    return tables


# The page -------------------------------------------------------------------------------------


def markdown(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(tables: Tables, effort: Effort) -> str:
    """Everything between the page's markers."""
    points = [f"{e:+d}" if e else "0" for e in EFFECTS]
    parts = [
        INTRODUCTION,
        AA.format(loops=effort.loops, first=effort.first, simple=effort.simple),
        *(markdown((f"n = {n}", *AA_HEAD), tables[f"aa/{n}"].rows) for n in SIZES),
        EFFECT.format(trials=effort.trials),
        *(markdown((f"n = {n}", *points), tables[f"power/{n}"].rows) for n in POWER_SIZES),
        KIND.format(trials=effort.trials // 2),
        markdown(
            ("skill", "rule", *(f"{e:+d}" if e else "0" for e in KIND_EFFECTS)),
            tables["kinds"].rows,
        ),
        SEASON.format(seasons=effort.seasons),
        markdown(SEASON_HEAD, tables["season"].rows),
        *(
            f"### {title}\n\n{text}\n\n{markdown(head, tables[key].rows)}"
            for title, text, head, key in SECTIONS
        ),
    ]
    return "\n\n".join(parts)


INTRODUCTION = f"""\
Written by `python benchmarks/gate.py` (seed {SEED}). Train and holdout have n fixtures each, of
probit difficulty: a fixture passes with probability Phi(z), z normal. A share of loops is followed
by the upper end of its one-sided 95% Clopper-Pearson interval."""

AA = f"""\
### Edits that change nothing

{EXPERIMENTS} experiments a loop, up to its first merge; {{loops:,}} loops for the default rule,
{{first}} for its first version and for `gate.patience: patient`, {{simple}} for the others.

![Share of loops that merged an edit that changes nothing](img/gate-aa.svg)"""

AA_HEAD = (
    "merges such an edit",
    "merges a loop",
    "loops with any",
    "score shown minus truth, points",
    "calls an experiment",
)

EFFECT = """\
'Merges such an edit' is the first experiment of a loop for rules that keep the incumbent's scores
(later ones meet a score that was lucky), and any experiment for the others. The score shown is the
one that the rule keeps; the default rule measures an incumbent afresh.

### Edits with a true effect

First attempt against an incumbent, {trials:,} experiments a cell: share merged @ model calls. The
effect, in points, is the exact mean over the fixtures of each split. The kept runs that an
incumbent's first screen needs (up to 80 on train) come on top.

![Share merged and model calls, by true effect](img/gate-power.svg)"""

KIND = """\
### Kinds of skills

n = 20, {trials:,} experiments a cell, as above. A mature skill passes 8 runs in 10. Of a
concentrated one a case passes 15 or 85 times in 100, and an edit changes a quarter of the cases by
four times its effect."""

SEASON = f"""\
### A season of {EDITS} edits

Of the edits 55% change nothing, 25% are worse by 3 to 12 points, 12% better by 3 to 6, 6% by 8 to
12 and 2% by 20. Attempts count from 1 after a merge. Kept runs are among the calls; {{seasons}}
seasons a row. The rules of one look merge useless edits by the dozen, and nobody can tell them from
gains."""

SEASON_HEAD = (
    "skill",
    "rule",
    "points an edit",
    "calls an edit",
    "useless merges",
    "harmful merges",
    "points for 1,000 calls",
    "harmful merges for 1,000 calls",
)

SECTIONS = (
    (
        "Effects of both signs that cancel out",
        (
            "Half of the fixtures become 30 points better and half 30 points worse. 'Ever' is a "
            "run of 1,200 pairs without early stops; the last column is the confirm run at level "
            "0.05. Of 50 fixtures blocks of 20 are drawn."
        ),
        ("n", "E >= 20 at a block's end, ever", "merged"),
        "mixed",
    ),
    (
        "Other kinds of fixtures, edits that change nothing",
        "Fixtures that nearly always pass or nearly always fail, and scores anywhere in [0, 1].",
        ("fixtures", "n", "loops with any merge", "confirm attempts a loop", "calls an experiment"),
        "worlds",
    ),
    (
        "Deterministic models: the one-sweep rule",
        (
            "Each edit answers 15% of all cases anew; 10% of edits are better for it, 20% no "
            "different, 70% worse, by 2 points on average (exponential). After "
            f"{EXPERIMENTS} experiments from a true quality of 0.50: better / neutral / worse "
            "edits merged / true quality / by how many points the score on the holdout exceeds it."
        ),
        ("n", *ONE_SWEEP),
        "greedy",
    ),
    (
        "Edits that memorise held-out cases",
        (
            "10% of edits answer held-out cases 25 points better and nothing else; the rest change "
            "nothing; n = 20. The check is `skill_ratchet.core.leaks`, run on made-up cases."
        ),
        (
            "what the edit copies",
            "found by the check",
            "loops with any merge, no check",
            "with the check",
            "median experiment of the first, with the check",
        ),
        "memory",
    ),
)


def write_page(text: str) -> None:
    """Put ``text`` between the markers of docs/gate.md."""
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", "utf-8")


# The plots ------------------------------------------------------------------------------------

GREY = "#76808b"  # legible on white and on a dark page, like the others
COLOURS = {
    OURS: "#2f8f5b",
    PER_TEST: "#c77d1a",
    "mean > 1 SE, incumbent run again": "#9a6fd0",
    "mean > 0, incumbent run again": "#d8575a",
}
STYLE: Any = {  # matplotlib types its keys as literals
    "svg.hashsalt": "ratchet",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
}


def draw_plots(tables: Tables, folder: Path, *, suffix: str = "svg") -> None:
    """Write gate-aa and gate-power; the same numbers give the same bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - not needed by --quick or the tests

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, draw in (("gate-aa", _draw_aa), ("gate-power", _draw_power)):
            figure = draw(tables)
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(folder / f"{name}.{suffix}", metadata=metadata)
            plt.close(figure)


def _draw_aa(tables: Tables) -> Any:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    times = np.arange(EXPERIMENTS) + 1
    for rule, colour in COLOURS.items():
        axes.plot(times, tables["aa/20"].series[rule], color=colour, label=rule.strip("*"))
    axes.axhline(ALPHA, color=COLOURS[OURS], linewidth=1, linestyle="--")
    promise = axes.text(EXPERIMENTS, ALPHA + 0.01, "what the default promises: at most 0.10")
    promise.set(ha="right", va="bottom", color=COLOURS[OURS])
    axes.set(xscale="log", xlim=(1, EXPERIMENTS), ylim=(0, 1.02), xlabel="experiments")
    axes.set_xticks([1, 10, 100, 700], ["1", "10", "100", "700"])
    axes.set_title("Edits that change nothing: share of loops that merged one (n = 20)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _draw_power(tables: Tables) -> Any:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (merged, calls) = plt.subplots(1, 2, figsize=(7.2, 3.6))
    for n, line in ((20, "-"), (5, ":")):
        series = tables[f"power/{n}"].series
        ours, theirs = COLOURS[OURS], COLOURS["mean > 0, incumbent run again"]
        before = COLOURS[PER_TEST]
        merged.plot(EFFECTS, series[OURS], line, color=ours, label=f"evidence, n = {n}")
        merged.plot(EFFECTS, series[FIRST_OURS], line, color=before, label=f"version 1, n = {n}")
        merged.plot(EFFECTS, series["mean > 0"], line, color=theirs, label=f"mean > 0, n = {n}")
        calls.plot(EFFECTS, series[f"{OURS}, calls"], line, color=ours)
        calls.plot(EFFECTS, series[f"{FIRST_OURS}, calls"], line, color=before)
    merged.set(ylim=(0, 1.02), xlabel="true effect, points", title="Share merged")
    calls.set(ylim=(0, None), xlabel="true effect, points", title="Model calls an experiment")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page (or print the tables, with ``--quick``)."""
    parser = argparse.ArgumentParser(description="Simulate the gate.")
    parser.add_argument("--quick", action="store_true", help="seconds; prints, writes nothing")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", type=Path, help="folder in which tables of a full run are kept")
    parser.add_argument(
        "--only", choices=[name for name, _ in TASKS], help="make this one, keep it"
    )
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    if options.only:
        kept_or_measured(options.only, effort, options.keep)
        return
    tables = measure_all(effort, jobs=options.jobs, keep=options.keep)
    text = report(tables, effort)
    if options.quick:
        print(text)
    else:
        write_page(text)
        draw_plots(tables, IMAGES)


if __name__ == "__main__":
    main()
