"""Evidence that a candidate beats the incumbent on these fixtures: bets, budget, guard.

Scores lie in [0, 1]; d = candidate - incumbent on the same fixture. A gambler who begins with 1
stakes a share ``b`` of the wealth on every pair, which multiplies it by ``1 + b * d``. The stake
stays what it is for a *block*: every fixture once, or of a large split 20 different ones that are
drawn at random. Under 'no better on these fixtures' the mean of the true gains delta_i is at most
0, and a block B multiplies the wealth, on average over its draw, by

    mean over B of  prod_{i in B} (1 + b * delta_i)  <=  (1 + b * mean(delta))^|B|  <=  1

(Maclaurin's inequality; where a block has every fixture, that of arithmetic and geometric means).
So wealth at the ends of blocks is a non-negative supermartingale, whatever the stakes were, as long
as each was fixed before its block; and by Ville's inequality it ever reaches 1/a with probability
at most a. See docs/gate.md for the derivation, the limits and the simulations.

Everything here is pure: sequences of pairs in, numbers and states out. Logs are natural.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import Enum
from statistics import fmean, stdev
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Paired(Protocol):
    """What the statistics need of a pair of runs (``records.Pair`` has it)."""

    @property
    def fixture(self) -> str: ...  # noqa: D102
    @property
    def cluster(self) -> str: ...  # noqa: D102
    @property
    def candidate(self) -> float: ...  # noqa: D102
    @property
    def difference(self) -> float: ...  # noqa: D102


VERSION = 2  # of the rule; a verdict is never made of runs of two

LARGEST_BLOCK = 20  # fixtures between two looks of a confirm run at the bar
EDGE = 0.10  # the gain that a stake is sized for, in units of score
LEAST_STAKE, MOST_STAKE = 0.1, 0.6
SCREEN_SPREAD, CONFIRM_SPREAD = 0.2, 1 / 3  # what d^2 is taken to be before any pair
SCREEN_PASS = math.log(8)
SCREEN_CAP = 240  # pairs
CONFIRM_CAP = 200  # pairs for every unit of ln(bar)
WIN_SHARE = 4 / 5  # the best that futility still hopes for: 4 wins in 5 decisive pairs
KEPT_RUNS = 80  # of the incumbent on train, before the first pair of a screen
MOST_FIRST, MOST_LATER = 16, 12  # kept runs of one case: before the first pair, and from sweeps
FEWEST_CLUSTERS = 2  # independent fixtures: a spread needs two values
MANY = 20  # fixtures of a split with which both may be judged together
MOST_SIGNS = 200  # decisive pairs for which P(sum = 0) is counted exactly
FAILS_MORE_LEVEL = 0.01  # chance that a candidate is rejected for failures that hit it by chance
FAILURE_STAKES = (1 / 3, 0.8)  # a cautious gambler, and a bold one
MOST_TRIES = 10  # of one run of the candidate that fails always, where the incumbent's does not
NO_SCORES: Mapping[str, float] = MappingProxyType({})
HAIR = 1e-9  # a gain must exceed its bar by more than rounding can add
PRIOR_PAIRS = 8  # what is assumed of noise before any pair counts as so many
PRIOR_MASS = 2.4  # sum |d| of those: 3 pairs in 10 are decisive


@dataclass(frozen=True, slots=True)
class Patience:
    """The log wealth at which a test is given up: it only rejects, so it may be chosen freely."""

    screen: float
    confirm: float


PATIENCE: Mapping[str, Patience] = MappingProxyType(
    {
        "default": Patience(screen=math.log(0.35), confirm=math.log(0.20)),
        "patient": Patience(screen=math.log(0.20), confirm=math.log(0.10)),
    }
)


class State(Enum):
    """Whether a sequence of pairs has settled the question."""

    OPEN = "open"
    PASS = "pass"  # noqa: S105 - a state, not a password
    DROP = "drop"


class Cause(Enum):
    """Why it settled (or did not)."""

    UNDECIDED = "undecided"
    BAR_REACHED = "bar_reached"
    LOSING = "losing"
    FUTILE = "futile"
    CAP_REACHED = "cap_reached"
    GUARD = "guard"
    NO_IMPROVEMENT = "no_improvement"
    BELOW_FLOOR = "below_floor"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a sequential test stands after ``pairs`` pairs."""

    state: State
    cause: Cause
    pairs: int
    log_e: float  # log of the evidence: of S when screening, of E when confirming
    log_bar: float
    errors: float | None = None  # standard errors that log_bar is, in the rule of one sweep
    path: tuple[float, ...] = ()  # log_e at the end of each whole block (of a screen: sweep)

    @property
    def settled(self) -> bool:
        """True when no further pair is wanted."""
        return self.state is not State.OPEN


# The error budget ---------------------------------------------------------------------------


def level(attempt: int, *, alpha: float, k: float) -> float:
    """Error level a_j of confirm attempt ``attempt`` (from 1) against one incumbent.

    a_j = alpha * k / ((j + k - 1)(j + k)); the series telescopes and sums to alpha. Never so
    small that the bar 1/a_j is infinite.
    """
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    share = k / (attempt - 1 + k)  # 1 at the first attempt, however small k is
    return max(alpha * share / (attempt + k), sys.float_info.min)


def spent(attempts: int, *, alpha: float, k: float) -> float:
    """Sum of the levels of the first ``attempts`` attempts: alpha * j / (j + k)."""
    return alpha * attempts / (attempts + k)


# The plan: blocks, caps, kept runs -----------------------------------------------------------


def block_size(fixtures: int) -> int:
    """Pairs between two looks at the bar: every fixture, or 20 different ones of a large split."""
    return min(fixtures, LARGEST_BLOCK)


def confirm_cap(error_level: float, *, fixtures: int, effort: float = 1.0) -> int:
    """Most pairs a confirm run may use: effort * 200 * ln(1/a), rounded up to whole blocks."""
    block = block_size(fixtures)
    return math.ceil(effort * CONFIRM_CAP * math.log(1 / error_level) / block) * block


def kept_runs(*, fixtures: int, sweep: int) -> int:
    """Kept runs of the incumbent that a train case needs before a pair of this sweep (from 0).

    They depend on nothing that the candidate has scored in the pair: the mean of them is what it
    is compared with.
    """
    first = min(max(math.ceil(KEPT_RUNS / fixtures), 1), MOST_FIRST)
    return max(first, min(sweep + 1, MOST_LATER))


# The bets -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bets:
    """The gambler after ``pairs`` pairs: the log of the wealth, and the stake of the last bet.

    ``mass`` is the sum of |d|, what there was to win or lose.
    """

    pairs: int
    log_wealth: float
    stake: float
    mass: float


def stake(squares: float, pairs: int, *, spread: float) -> float:
    """The share of the wealth to bet on the next pair: the noisier pairs are, the less.

    0.10 / v, from 0.1 to 0.6, where v is the mean of d^2 so far: the stake under which wealth
    would grow fastest if the gain were 10 points.

    Args:
        squares: Sum of d^2 over the pairs so far.
        pairs: How many those are.
        spread: What v is taken to be before the first.
    """
    v = (squares + PRIOR_PAIRS * spread) / (pairs + PRIOR_PAIRS)
    return min(max(EDGE / v, LEAST_STAKE), MOST_STAKE)


def no_bets(spread: float = CONFIRM_SPREAD) -> Bets:
    """The gambler before the first pair."""
    return Bets(0, 0.0, stake(0.0, 0, spread=spread), 0.0)


def _bets(pairs: Sequence[Paired], *, spread: float, block: int) -> Iterator[Bets]:
    """The gambler after each pair. The stake looks at no pair of the block that it bets on."""
    log_wealth = squares = mass = share = 0.0
    for count, pair in enumerate(pairs):
        if count % block == 0:
            share = stake(squares, count, spread=spread)
        d = pair.difference
        log_wealth += math.log1p(share * d)
        squares += d * d
        mass += abs(d)
        yield Bets(count + 1, log_wealth, share, mass)


def log_wealth(pairs: Sequence[Paired], *, block: int) -> float:
    """Log of E after all of ``pairs``, however many: evidence only where they are whole blocks."""
    *_, last = (no_bets(), *_bets(pairs, spread=CONFIRM_SPREAD, block=block))
    return last.log_wealth


def growth(bet: float) -> float:
    """Log wealth gained per decisive pair when 4 in 5 of them are wins."""
    return WIN_SHARE * math.log1p(bet) + (1 - WIN_SHARE) * math.log1p(-bet)


def reachable(bets: Bets, *, cap: int, log_bar: float) -> bool:
    """Whether the bar can still be reached by ``cap`` if 4 in 5 of the decisive pairs are wins.

    left(cap) = max(0, cap - pairs) * (mass + 2.4) / (pairs + 8) is the decisive mass to come.
    """
    left = max(0, cap - bets.pairs) * (bets.mass + PRIOR_MASS) / (bets.pairs + PRIOR_PAIRS)
    return bets.log_wealth + growth(bets.stake) * left >= log_bar


# The two tests ------------------------------------------------------------------------------


def screen(
    pairs: Sequence[Paired],
    *,
    fixtures: int,
    patience: Patience = PATIENCE["default"],
    deterministic: bool = False,
    holdout: int | None = None,
) -> Progress:
    """The screen on train: no error budget, so that the stake may follow every pair.

    Args:
        pairs: In the order they were planned; every sweep has each fixture once. The incumbent's
            score of a pair is the mean of the case's kept runs.
        fixtures: Fixtures in the train split.
        patience: When to give up.
        deterministic: Use the one-sweep rule.
        holdout: Fixtures in the holdout, which that rule asks for; None where it is not known.
    """
    if deterministic:
        return one_sweep(pairs, fixtures=fixtures, errors=train_errors(fixtures, holdout))

    def judge(bets: Bets) -> tuple[State, Cause]:
        if bets.log_wealth >= SCREEN_PASS:
            return State.PASS, Cause.BAR_REACHED
        if bets.log_wealth <= patience.screen:
            return State.DROP, Cause.LOSING
        if bets.pairs >= SCREEN_CAP:
            return State.DROP, Cause.CAP_REACHED
        if not reachable(bets, cap=SCREEN_CAP, log_bar=SCREEN_PASS):
            return State.DROP, Cause.FUTILE
        return State.OPEN, Cause.UNDECIDED

    bets = _bets(pairs, spread=SCREEN_SPREAD, block=1)
    return _first_settled(bets, judge, every=fixtures, log_bar=SCREEN_PASS)


def confirm(
    pairs: Sequence[Paired],
    *,
    fixtures: int,
    error_level: float,
    effort: float = 1.0,
    patience: Patience = PATIENCE["default"],
    deterministic: bool = False,
    train: Sequence[Paired] = (),
) -> Progress:
    """The confirm run on the holdout: the gambler's wealth E against 1/a_j.

    Dropping may happen after any pair; passing only at the end of a block, where E is a bound
    on evidence against 'no better', and only through the Ladder guard.

    Args:
        pairs: In the order they were planned, block by block.
        fixtures: Fixtures in the holdout.
        error_level: a_j of this attempt.
        effort: Scales the cap.
        patience: When to give up.
        deterministic: Use the one-sweep rule.
        train: The screen's pairs, which that rule asks for.
    """
    if deterministic:
        return one_sweep_each(pairs, train, fixtures=fixtures)
    log_bar = -math.log(error_level)
    block = block_size(fixtures)
    cap = confirm_cap(error_level, fixtures=fixtures, effort=effort)

    def judge(bets: Bets) -> tuple[State, Cause]:
        if bets.log_wealth <= patience.confirm:
            return State.DROP, Cause.LOSING
        if bets.pairs % block == 0 and bets.log_wealth >= log_bar:
            guarded = ladder(pairs[: bets.pairs])
            return (State.PASS, Cause.BAR_REACHED) if guarded else (State.DROP, Cause.GUARD)
        if bets.pairs >= cap:
            return State.DROP, Cause.CAP_REACHED
        if not reachable(bets, cap=cap, log_bar=log_bar):
            return State.DROP, Cause.FUTILE
        return State.OPEN, Cause.UNDECIDED

    bets = _bets(pairs, spread=CONFIRM_SPREAD, block=block)
    return _first_settled(bets, judge, every=block, log_bar=log_bar)


def _first_settled(
    after_each: Iterator[Bets],
    judge: Callable[[Bets], tuple[State, Cause]],
    *,
    every: int,
    log_bar: float,
) -> Progress:
    """The first pair at which ``judge`` settles; later pairs are never looked at."""
    path: list[float] = []
    bets = no_bets()
    for bets in after_each:
        if bets.pairs % every == 0:
            path.append(bets.log_wealth)
        state, cause = judge(bets)
        if state is not State.OPEN:
            return Progress(state, cause, bets.pairs, bets.log_wealth, log_bar, path=tuple(path))
    state, cause = State.OPEN, Cause.UNDECIDED
    return Progress(state, cause, bets.pairs, bets.log_wealth, log_bar, path=tuple(path))


# Calls that the infrastructure failed -----------------------------------------------------------


def fails_more(*, candidate: int, incumbent: int) -> bool:
    """Whether the infrastructure fails the candidate significantly more often.

    Of pairs in which one side alone failed, each is the candidate's with probability 1/2 if the
    failures have nothing to do with the skill. So the wealth of a gambler who stakes ``b`` on the
    candidate each time, (1 + b)^candidate * (1 - b)^incumbent, is a non-negative martingale, and
    so is the mean of two. By Ville's inequality it ever reaches 1 / FAILS_MORE_LEVEL with
    probability at most that level, however often one looks: no look is to be paid for.
    """
    wealths = (candidate * math.log1p(bet) + incumbent * math.log1p(-bet) for bet in FAILURE_STAKES)
    high, low = sorted(wealths, reverse=True)
    mixed = high + math.log1p(math.exp(low - high)) - math.log(2)
    return mixed >= -math.log(FAILS_MORE_LEVEL)


# The Ladder guard ---------------------------------------------------------------------------


def cluster_means(pairs: Sequence[Paired]) -> tuple[float, ...]:
    """Mean difference of each cluster of related fixtures; repeats are averaged first."""
    by_fixture: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in pairs:
        by_fixture[pair.cluster, pair.fixture].append(pair.difference)
    by_cluster: dict[str, list[float]] = defaultdict(list)
    for (cluster, _), differences in by_fixture.items():
        by_cluster[cluster].append(fmean(differences))
    return tuple(fmean(means) for means in by_cluster.values())


def standard_error(means: Sequence[float]) -> float:
    """Of the mean of ``means``; 0 for fewer than two."""
    return stdev(means) / math.sqrt(len(means)) if len(means) >= FEWEST_CLUSTERS else 0.0


def clears(means: Sequence[float], *, errors: float) -> bool:
    """Whether mean(means) > errors * sd / sqrt(n). Fewer than two values: no."""
    if len(means) < FEWEST_CLUSTERS:
        return False
    return fmean(means) > errors * standard_error(means) + HAIR


def ladder(pairs: Sequence[Paired]) -> bool:
    """The parameter-free Ladder (Blum and Hardt 2015): better by more than 1 standard error."""
    return clears(cluster_means(pairs), errors=1.0)


# Models that always answer the same: there is one sweep, and its cases bound what chance can do


def train_errors(train: int, holdout: int | None) -> float:
    """Standard errors that one sweep of train must exceed; ``holdout`` None is not known.

    Fewer where there are cases enough to judge both splits together.
    """
    return 1.5 if min(train, train if holdout is None else holdout) >= MANY else 2.0


POOLED_ERRORS = 2.5


def one_sweep(pairs: Sequence[Paired], *, fixtures: int, errors: float) -> Progress:
    """Settle after exactly one sweep: repeats of a deterministic model carry no information.

    ``log_e`` and ``log_bar`` hold mean(d) and the ``errors`` standard errors it must exceed.
    """
    return _judged(cluster_means(pairs[:fixtures]), len(pairs), fixtures=fixtures, errors=errors)


def one_sweep_each(pairs: Sequence[Paired], train: Sequence[Paired], *, fixtures: int) -> Progress:
    """One sweep of the holdout at 1 standard error, and with many cases both splits at 2.5.

    The numbers are those of both splits where those decide: where the holdout alone has passed.
    """
    alone = one_sweep(pairs, fixtures=fixtures, errors=1.0)
    if alone.state is not State.PASS or min(len(train), fixtures) < MANY:
        return alone
    means = (*cluster_means(train), *cluster_means(pairs[:fixtures]))
    return _judged(means, fixtures, fixtures=fixtures, errors=POOLED_ERRORS)


def _judged(means: Sequence[float], pairs: int, *, fixtures: int, errors: float) -> Progress:
    gain = fmean(means) if means else 0.0
    bar = errors * standard_error(means)
    if pairs < fixtures:
        return Progress(State.OPEN, Cause.UNDECIDED, pairs, gain, bar, errors)
    passed = clears(means, errors=errors)
    state, cause = (State.PASS, Cause.BAR_REACHED) if passed else (State.DROP, Cause.NO_IMPROVEMENT)
    return Progress(state, cause, fixtures, gain, bar, errors, (gain,))


# The simple alternative: 'improves' ----------------------------------------------------------


def improves(
    pairs: Sequence[Paired],
    *,
    fixtures: int,
    floor: float = 0.0,
    whole: bool = True,
    scores: Mapping[str, float] = NO_SCORES,
) -> Progress:
    """Mean difference above 0 over one paired sweep, and no fixture's candidate below a floor.

    It settles at the first pair after which the rest of the sweep cannot change the outcome.

    Args:
        pairs: In the order they were planned.
        fixtures: Fixtures in the split.
        floor: Lowest score a candidate may have; above 0 only a whole sweep can pass.
        whole: Pass at the end of the sweep only.
        scores: The incumbent's, by fixture. A pair to come lies in [-score, 1 - score], or in
            [-1, 1] where its score is not known.
    """
    known = scores if len(scores) == fixtures else NO_SCORES
    total, loss, gain = 0.0, sum(known.values()) if known else float(fixtures), 0.0
    for count, pair in enumerate(pairs[:fixtures], start=1):
        total += pair.difference
        loss -= known.get(pair.fixture, 0.0) if known else 1.0  # most that the rest can lose
        left = fixtures - count
        win = left - loss if known else float(left)  # most that the rest can gain
        gain, path = total / count, (total / count,) if not left else ()
        if pair.candidate < floor:
            return Progress(State.DROP, Cause.BELOW_FLOOR, count, gain, 0.0, path=path)
        if total + win <= HAIR * fixtures:
            return Progress(State.DROP, Cause.NO_IMPROVEMENT, count, gain, 0.0, path=path)
        if total - loss > HAIR * fixtures and (not left or not (whole or floor)):
            return Progress(State.PASS, Cause.BAR_REACHED, count, gain, 0.0, path=path)
    return Progress(State.OPEN, Cause.UNDECIDED, min(len(pairs), fixtures), gain, 0.0)


def false_merge_rate(differences: Sequence[float]) -> float:
    """How often 'improves' would merge an edit that changes nothing, given this much noise.

    Under no effect every observed difference is as likely with the opposite sign, so the rate
    is P(sum of +-d > 0) = (1 - P(sum = 0)) / 2. P(sum = 0) is exact for differences of at most
    two decimals and is left out (an upper bound of the rate) beyond 200 decisive pairs.
    """
    steps = [round(abs(d) * 100) for d in differences if round(abs(d) * 100)]
    if not steps:
        return 0.0
    if len(steps) > MOST_SIGNS:
        return 0.5
    sums: Counter[int] = Counter({0: 1})
    for step in steps:
        flipped: Counter[int] = Counter()
        for total, ways in sums.items():
            flipped[total + step] += ways
            flipped[total - step] += ways
        sums = flipped
    return 0.5 - sums[0] / 2.0 ** (len(steps) + 1)


# Before any money is spent --------------------------------------------------------------------


def fewest_pairs(log_bar: float, *, fixtures: int) -> int:
    """The fewest pairs, in whole blocks, by which E may be hoped to reach the bar."""
    cap = block = block_size(fixtures)
    while not reachable(no_bets(), cap=cap, log_bar=log_bar):
        cap += block
    return cap


def smallest_effort(*, fixtures: int, attempt: int, alpha: float, k: float) -> float:
    """The least ``confirm_effort`` (two decimals) with which an attempt can reach its bar."""
    log_bar = -math.log(level(attempt, alpha=alpha, k=k))
    cap = fewest_pairs(log_bar, fixtures=fixtures)
    # The cap is rounded up to whole blocks, so anything above the block before gives this one.
    least = (cap - block_size(fixtures)) / (CONFIRM_CAP * log_bar)
    return math.floor(least * 100 + 1) / 100
