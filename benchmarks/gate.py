"""How often the gate is wrong, what it finds and what it costs: measured by simulation.

    python benchmarks/gate.py              # minutes; rewrites the tables and plots of docs/gate.md
    python benchmarks/gate.py --quick      # seconds; prints rougher tables, writes nothing

The rules are those of ``skill_ratchet.core.evidence``, played for many experiments at once with
numpy; ``tests/core/test_evidence.py`` checks that both settle every sequence alike. Everything is
seeded, and a rerun gives the same bytes whatever ``--jobs`` is.

A world is a table of success probabilities, rows x fixtures. Train and holdout have ``n``
fixtures each, drawn alike and independently. Calls are model calls: in the screen the incumbent's
kept runs are re-used and paid for once, the confirm run pays for both sides of every pair.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.special import ndtr
from scipy.stats import beta

from skill_ratchet.core import evidence as stats
from skill_ratchet.core import leaks
from skill_ratchet.core.evidence import Cause, State
from skill_ratchet.core.records import Fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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
SIZES = (5, 10, 20, 50, 200)
EFFECTS = (-10, -5, 0, 5, 10, 15, 20, 25)  # points
BLOCK = 20  # pairs played at once; a sweep is cut into blocks of at most this many
CHUNK = 70_000  # experiments played side by side


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
        """The order of the fixtures in this sweep, for each row."""
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
    """The bettors' log wealth and the mass sum |d|, rows x pairs; ``pairs`` counts from 1."""

    pairs: Ints
    cautious: Floats
    bold: Floats
    mass: Floats

    @property
    def log_e(self) -> Floats:
        """Log of the mean of the two wealths."""
        return _log_mixture(self.cautious, self.bold)

    def left(self, cap: Floats) -> Floats:
        """Decisive mass still to be expected before the cap."""
        share = (self.mass + stats.PRIOR_MASS) / (self.pairs + stats.PRIOR_PAIRS)
        expected: Floats = np.maximum(0.0, cap - self.pairs) * share
        return expected


def _log_mixture(cautious: Floats, bold: Floats) -> Floats:
    mixed: Floats = np.logaddexp(cautious, bold) - math.log(2)
    return mixed


def screen_many(source: Source, rows: Ints) -> Outcome:
    """``evidence.screen`` of every row."""
    cap = np.array([float(stats.SCREEN_CAP)])

    def judge(wealth: Wealth, _at: Ints, _guarded: Bools) -> Ints:
        hoped = wealth.cautious + stats.growth(stats.CAUTIOUS) * wealth.left(cap)
        return _first_of(
            (PASS, wealth.cautious >= stats.SCREEN_PASS),
            (LOSING, wealth.cautious <= stats.SCREEN_DROP),
            (CAP, np.broadcast_to(wealth.pairs >= stats.SCREEN_CAP, hoped.shape)),
            (FUTILE, hoped < stats.SCREEN_PASS),
        )

    return _play(source, rows, judge=judge, log_e=lambda wealth: wealth.cautious, guard=False)


def confirm_many(source: Source, rows: Ints, levels: Floats, *, guard: bool = True) -> Outcome:
    """``evidence.confirm`` of every row, each at its own error level."""
    log_bar = -np.log(levels)
    n = source.fixtures
    cap = np.ceil(stats.CONFIRM_CAP * log_bar / n) * n

    def judge(wealth: Wealth, at: Ints, guarded: Bools) -> Ints:
        bar, most = log_bar[at, None], cap[at, None]
        left = wealth.left(most)
        hoped = _log_mixture(
            wealth.cautious + stats.growth(stats.CAUTIOUS) * left,
            wealth.bold + stats.growth(stats.BOLD) * left,
        )
        reached = (wealth.pairs % n == 0) & (wealth.log_e >= bar)
        return _first_of(
            (LOSING, wealth.cautious <= stats.CONFIRM_DROP),
            (PASS, reached & guarded[:, None]),
            (GUARD, reached),
            (CAP, wealth.pairs >= most),
            (FUTILE, hoped < bar),
        )

    return _play(source, rows, judge=judge, log_e=lambda wealth: wealth.log_e, guard=guard)


def _first_of(*rules: tuple[int, Bools]) -> Ints:
    chosen: Ints = np.select([holds for _, holds in rules], [code for code, _ in rules], 0)
    return chosen


def _play(
    source: Source,
    rows: Ints,
    *,
    judge: Callable[[Wealth, Ints, Bools], Ints],
    log_e: Callable[[Wealth], Floats],
    guard: bool,
) -> Outcome:
    """Block after block of pairs until ``judge`` has settled every row."""
    n = source.fixtures
    m = len(rows)
    done = Outcome(np.zeros(m, np.int64), np.zeros(m, np.int64), np.zeros(m))
    live = np.arange(m)
    totals = np.zeros((m, n))
    before = np.zeros((3, m))
    for sweep in count():
        order = source.order(rows[live], sweep)
        for start in range(0, n, BLOCK):
            if not live.size:
                return done
            part = order[:, start : start + BLOCK]
            d = source.differences(rows[live], sweep, part)
            totals[live[:, None], part] += d
            wealth = _wealth(before, d, pairs=sweep * n + start)
            asked = guard and start + BLOCK >= n  # at a sweep's end
            guarded = _clears(totals[live] / (sweep + 1)) if asked else np.ones(live.size, bool)
            codes = judge(wealth, live, guarded)
            stays = _record(done, live, codes, pairs=wealth.pairs, log_e=log_e(wealth))
            live, order = live[stays], order[stays]
            before = np.stack([wealth.cautious, wealth.bold, wealth.mass])[:, stays, -1]
    raise AssertionError("sweeps never end")


def _wealth(before: Floats, d: Floats, *, pairs: int) -> Wealth:
    steps = np.stack([np.log1p(stats.CAUTIOUS * d), np.log1p(stats.BOLD * d), np.abs(d)])
    steps[:, :, 0] += before  # inside the sum, so that the order of additions is one by one
    cautious, bold, mass = np.cumsum(steps, axis=2)
    return Wealth(pairs + np.arange(1, d.shape[1] + 1), cautious, bold, mass)


def _record(done: Outcome, live: Ints, codes: Ints, *, pairs: Ints, log_e: Floats) -> Bools:
    """Write down the rows that settled; returns which go on."""
    settled: Bools = np.asarray(codes.any(axis=1))
    first = (codes > 0).argmax(axis=1)[settled]
    at = (np.flatnonzero(settled), first)
    done.code[live[settled]] = codes[at]
    done.pairs[live[settled]] = pairs[first]
    done.log_e[live[settled]] = log_e[at]
    return np.logical_not(settled)


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
    (incumbents x sweeps x fixtures) the incumbent's scores are looked up instead of drawn, and
    ``used`` marks those that were.
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


def difficulties(rng: Generator, rows: int, n: int) -> Floats:
    """Probit difficulties z ~ N(0, 1), redrawn until the mean of Phi(z) allows every effect."""
    z = rng.standard_normal((rows, n))
    while (bad := np.abs(ndtr(z).mean(axis=1) - 0.45) > 0.2).any():
        z[bad] = rng.standard_normal((int(bad.sum()), n))
    return z


def shifted(z: Floats, effect: float) -> Floats:
    """Phi(z + s), with s solved for each row so that its mean is ``effect`` above Phi(z)'s."""
    target = ndtr(z).mean(axis=1) + effect
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


def our_loops(rng: Generator, setup: Setup, *, loops: int) -> Loops:
    """The whole gate, many times."""
    at_once = max(1, CHUNK // setup.experiments)
    sizes = [min(at_once, loops - done) for done in range(0, loops, at_once)]
    parts = [_some_loops(rng, setup, loops=size) for size in sizes]
    return Loops(
        np.concatenate([part.first for part in parts]),
        float(np.average([part.calls for part in parts], weights=sizes)),
        float(np.average([part.attempts for part in parts], weights=sizes)),
    )


def _some_loops(rng: Generator, setup: Setup, *, loops: int) -> Loops:
    n, draw = setup.n, setup.draw
    train, holdout = setup.world(rng, loops, n), setup.world(rng, loops, n)
    loop_of = np.repeat(np.arange(loops), setup.experiments)
    rows = np.arange(len(loop_of))
    kept = draw(rng, np.repeat(train[:, None], math.ceil(stats.SCREEN_CAP / n), axis=1))
    screened = screen_many(Duels(rng, train, train, loop_of, loop_of, draw, kept), rows)

    attempt = screened.passed.reshape(loops, -1).cumsum(axis=1).ravel()
    tried = rows[screened.passed]
    candidate_of = loop_of + loops * (rng.random(len(rows)) < setup.memorise)
    lifted = np.concatenate([holdout, np.minimum(1.0, holdout + 0.25)])
    duels = Duels(rng, holdout, lifted, loop_of, candidate_of, draw)
    confirmed = confirm_many(duels, tried, levels(attempt[tried]))
    merged = np.zeros(len(rows), bool)
    merged[tried] = confirmed.passed
    paid = screened.pairs.sum() + 2 * confirmed.pairs.sum() + _kept_runs(screened, loops, n)
    return Loops(_first(merged.reshape(loops, -1)), paid / len(rows), len(tried) / loops)


def _kept_runs(screened: Outcome, loops: int, n: int) -> int:
    """Incumbent runs that some screen needed: whole sweeps of the longest one, to be safe."""
    longest = screened.pairs.reshape(loops, -1).max(axis=1)
    return int((np.ceil(longest / n) * n).sum())


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
OURS = "**evidence (the default)**"


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
    """What becomes of the first experiment against an incumbent."""

    merged: float
    calls: float
    improves: float  # how often 'mean > 0' merges it
    one_error: float  # how often 'mean > 1 SE' merges it


def power(rng: Generator, *, n: int, effect: float, trials: int) -> Power:
    """Experiments whose true mean effect, on both splits, is exactly ``effect``."""
    merged, calls = our_gate(rng, *(difficulties(rng, trials, n) for _ in range(2)), effect=effect)
    z = difficulties(rng, trials, n)
    d = pass_or_fail(rng, shifted(z, effect)) - pass_or_fail(rng, ndtr(z))
    return Power(
        float(merged.mean()),
        float(calls.mean()),
        float(_clears(d, errors=0.0).mean()),
        float(_clears(d).mean()),
    )


def our_gate(
    rng: Generator, train: Floats, holdout: Floats, *, effect: float
) -> tuple[Bools, Floats]:
    """Screen and confirm, first attempt: who is merged, and the calls of each."""
    rows = np.arange(len(train))
    old = ndtr(train)
    sweeps = math.ceil(stats.SCREEN_CAP / train.shape[1])
    kept = pass_or_fail(rng, np.repeat(old[:, None], sweeps, axis=1))
    screened = screen_many(one_to_one(rng, old, shifted(train, effect), kept=kept), rows)
    tried = rows[screened.passed]
    duels = one_to_one(rng, ndtr(holdout), shifted(holdout, effect))
    confirmed = confirm_many(duels, tried, np.full(len(tried), levels(np.array([1]))[0]))
    merged, calls = np.zeros(len(rows), bool), screened.pairs.astype(np.float64)
    merged[tried] = confirmed.passed
    calls[tried] += 2 * confirmed.pairs
    return merged, calls


def mixed(
    rng: Generator, *, n: int, trials: int, pairs: int = 1_200, size: float = 0.3
) -> tuple[int, int]:
    """Half of the fixtures ``size`` better and half as much worse, so that nothing is gained.

    Returns:
        How many of ``trials`` long runs (no early stop) ever have E >= 20 at a sweep's end, and
        how many the confirm run at level 0.05 merges.
    """
    sign = np.where(np.arange(n) % 2, 1.0, -1.0)
    sign[n - n % 2 :] = 0.0  # an odd one out stays as it is
    old = rng.uniform(size, 1 - size, (trials, n))
    duels = one_to_one(rng, old, old + size * sign)
    rows = np.arange(trials)
    cautious, bold = np.zeros(trials), np.zeros(trials)
    ever = np.zeros(trials, bool)
    for sweep in range(pairs // n):
        d = duels.differences(rows, sweep, duels.order(rows, sweep))
        cautious += np.log1p(stats.CAUTIOUS * d).sum(axis=1)
        bold += np.log1p(stats.BOLD * d).sum(axis=1)
        ever |= _log_mixture(cautious, bold) >= math.log(20)
    merged = confirm_many(duels, rows, np.full(trials, 0.05)).passed
    return int(ever.sum()), int(merged.sum())


# One sweep for deterministic models -----------------------------------------------------------

ONE_SWEEP = {
    "Ladder on the holdout alone": None,
    "and train at 1 SE": 1.0,
    "and train at 2 SE (ours)": 2.0,
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
    rng: Generator, *, n: int, loops: int, train_errors: float | None, touched: float = 0.15
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
        won = _clears(new_holdout - holdout)
        if train_errors is not None:
            won &= _clears(new_train - train, errors=train_errors)
        merges += [(won & (kind == sign)).sum() / loops for sign in (1, 0, -1)]
        train = np.where(won[:, None], new_train, train)
        holdout = np.where(won[:, None], new_holdout, holdout)
        quality = np.where(won, (1 - touched) * quality + touched * anew, quality)
    excess = float((holdout.mean(axis=1) - quality).mean())
    better, neutral, worse = (float(m) for m in merges)
    return Greedy(better, neutral, worse, float(quality.mean()), excess)


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
    simple: int
    trials: int
    greedy: int


FULL = Effort(loops=1_000, simple=400, trials=4_000, greedy=400)
QUICK = Effort(loops=20, simple=10, trials=200, greedy=5)


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
    found = [power(rng, n=n, effect=e / 100, trials=effort.trials) for e in EFFECTS]
    rows = [
        ["merged, evidence", *(percent(one.merged, 1) for one in found)],
        ["model calls", *(f"{one.calls:.0f}" for one in found)],
        ["merged, mean > 1 SE", *(percent(one.one_error) for one in found)],
        ["merged, mean > 0", *(percent(one.improves) for one in found)],
    ]
    series = {name: [float(getattr(one, name)) for one in found] for name in Power.__slots__}
    return {f"power/{n}": Table(rows, series)}


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
            one = greedy_loops(rng, n=n, loops=effort.greedy, train_errors=errors)
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
    *((f"effects {n}", partial(table_power, n=n)) for n in (20, 5)),
    ("mixed effects", table_mixed),
    ("near-deterministic and graded", table_worlds),
    ("one sweep", table_greedy),
    ("memorising", table_memory),
)


def measure(name: str, effort: Effort) -> Tables:
    """One task, from its own seed."""
    task = dict(TASKS)[name]
    return task(np.random.default_rng([SEED, zlib.crc32(name.encode())]), effort)


def measure_all(effort: Effort, *, jobs: int) -> Tables:
    """All tasks, with progress on stderr."""
    names = [name for name, _ in TASKS]
    start, tables = time.monotonic(), {}
    with ProcessPoolExecutor(jobs) as pool:
        for name, result in zip(
            names, pool.map(measure, names, [effort] * len(names)), strict=True
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
        AA.format(loops=effort.loops, simple=effort.simple),
        *(markdown((f"n = {n}", *AA_HEAD), tables[f"aa/{n}"].rows) for n in SIZES),
        EFFECT.format(trials=effort.trials),
        *(markdown((f"n = {n}", *points), tables[f"power/{n}"].rows) for n in (20, 5)),
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

{EXPERIMENTS} experiments a loop; {{loops:,}} loops for the default rule, {{simple}} for the others.

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

First attempt against an incumbent, {trials:,} experiments a column. The effect, in points, is the
exact mean over the fixtures of each split.

![Share merged and model calls, by true effect](img/gate-power.svg)"""

SECTIONS = (
    (
        "Effects of both signs that cancel out",
        (
            "Half of the fixtures become 30 points better and half 30 points worse. 'Ever' is a "
            "run of 1,200 pairs without early stops; the last column is the confirm run at level "
            "0.05."
        ),
        ("n", "E >= 20 at a sweep's end, ever", "merged"),
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
        merged.plot(EFFECTS, series["merged"], line, color=ours, label=f"evidence, n = {n}")
        merged.plot(EFFECTS, series["improves"], line, color=theirs, label=f"mean > 0, n = {n}")
        calls.plot(EFFECTS, series["calls"], line, color=ours)
    merged.set(ylim=(0, 1.02), xlabel="true effect, points", title="Share merged")
    calls.set(ylim=(0, None), xlabel="true effect, points", title="Model calls an experiment")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page (or print the tables, with ``--quick``)."""
    parser = argparse.ArgumentParser(description="Simulate the gate.")
    parser.add_argument("--quick", action="store_true", help="seconds; prints, writes nothing")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    tables = measure_all(effort, jobs=options.jobs)
    text = report(tables, effort)
    if options.quick:
        print(text)
    else:
        write_page(text)
        draw_plots(tables, IMAGES)


if __name__ == "__main__":
    main()
