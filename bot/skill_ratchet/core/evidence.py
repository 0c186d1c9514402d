"""Evidence that a candidate beats the incumbent on these fixtures: bets, budget, guard.

Scores lie in [0, 1]; d = candidate - incumbent on the same fixture. Under 'no better on these
fixtures' the mean of d over fixtures is at most 0, so a gambler who stakes a fixed fraction
``b`` of the wealth on every pair of a sweep has expected wealth at most

    prod_i (1 + b * delta_i)  <=  (1 + b * mean(delta))^n  <=  1

per sweep (AM-GM; delta_i is fixture i's true effect). Wealth at the ends of sweeps is therefore
a non-negative supermartingale, and by Ville's inequality it ever reaches 1/a with probability
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


CAUTIOUS = 1 / 3  # stake of the first bettor: survives long runs of small effects
BOLD = 0.8  # stake of the second: settles large effects quickly
SCREEN_PASS = math.log(6)
SCREEN_DROP = math.log(1 / 2)
SCREEN_CAP = 240  # pairs
CONFIRM_DROP = math.log(1 / 4)
CONFIRM_CAP = 120  # pairs for every unit of ln(bar)
WIN_SHARE = 4 / 5  # the best that futility still hopes for: 4 wins in 5 decisive pairs
FEWEST_CLUSTERS = 2  # independent fixtures: a spread needs two values
MOST_SIGNS = 200  # decisive pairs for which P(sum = 0) is counted exactly
FAILS_MORE_LEVEL = 0.01  # chance that a candidate is rejected for failures that hit it by chance
MOST_TRIES = 10  # of one run of the candidate that fails always, where the incumbent's does not
NO_SCORES: Mapping[str, float] = MappingProxyType({})
HAIR = 1e-9  # a gain must exceed its bar by more than rounding can add
PRIOR_MASS, PRIOR_PAIRS = 2.4, 8  # prior for the share of decisive pairs: 0.3, worth 8 pairs


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
    path: tuple[float, ...] = ()  # log_e at the end of each complete sweep

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


def confirm_cap(error_level: float, *, fixtures: int, effort: float = 1.0) -> int:
    """Most pairs a confirm run may use: effort * 120 * ln(1/a), rounded up to whole sweeps."""
    wanted = effort * CONFIRM_CAP * math.log(1 / error_level)
    return math.ceil(wanted / fixtures) * fixtures


# The bets -----------------------------------------------------------------------------------


def log_mixture(cautious: float, bold: float) -> float:
    """Log of the mean of two wealths given as logs: ln(exp(cautious)/2 + exp(bold)/2)."""
    high, low = max(cautious, bold), min(cautious, bold)
    return high + math.log1p(math.exp(low - high)) - math.log(2)


def growth(bet: float) -> float:
    """Log wealth gained per decisive pair when 4 in 5 of them are wins."""
    return WIN_SHARE * math.log1p(bet) + (1 - WIN_SHARE) * math.log1p(-bet)


def mass_left(*, cap: int, pairs: int, mass: float) -> float:
    """Decisive mass (sum of |d|) still to be expected before ``cap``.

    left(cap) = max(0, cap - pairs) * (mass + 2.4) / (pairs + 8)
    """
    return max(0, cap - pairs) * (mass + PRIOR_MASS) / (pairs + PRIOR_PAIRS)


def screen(pairs: Sequence[Paired], *, fixtures: int, deterministic: bool = False) -> Progress:
    """The screen on train: a single cautious bet, no error budget.

    Args:
        pairs: In the order they were planned; every sweep has each fixture once.
        fixtures: Fixtures in the train split.
        deterministic: Use the one-sweep rule, mean(d) > 2 standard errors.
    """
    if deterministic:
        return one_sweep(pairs, fixtures=fixtures, errors=2.0)
    return _first_settled(
        pairs,
        fixtures=fixtures,
        log_bar=SCREEN_PASS,
        log_e=lambda bets: bets.cautious,
        judge=_judge_screen,
    )


def _judge_screen(bets: _Bets) -> tuple[State, Cause]:
    if bets.cautious >= SCREEN_PASS:
        return State.PASS, Cause.BAR_REACHED
    if bets.cautious <= SCREEN_DROP:
        return State.DROP, Cause.LOSING
    if bets.pairs >= SCREEN_CAP:
        return State.DROP, Cause.CAP_REACHED
    left = mass_left(cap=SCREEN_CAP, pairs=bets.pairs, mass=bets.mass)
    if bets.cautious + growth(CAUTIOUS) * left < SCREEN_PASS:
        return State.DROP, Cause.FUTILE
    return State.OPEN, Cause.UNDECIDED


def confirm(
    pairs: Sequence[Paired],
    *,
    fixtures: int,
    error_level: float,
    effort: float = 1.0,
    deterministic: bool = False,
) -> Progress:
    """The confirm run on the holdout: E = (cautious wealth + bold wealth) / 2 against 1/a_j.

    Dropping may happen after any pair; passing only at the end of a sweep, where E is a bound
    on evidence against 'no better', and only through the Ladder guard.

    Args:
        pairs: In the order they were planned; every sweep has each fixture once.
        fixtures: Fixtures in the holdout.
        error_level: a_j of this attempt.
        effort: Scales the cap.
        deterministic: Use the one-sweep rule, mean(d) > 1 standard error.
    """
    if deterministic:
        return one_sweep(pairs, fixtures=fixtures, errors=1.0)
    log_bar = -math.log(error_level)
    cap = confirm_cap(error_level, fixtures=fixtures, effort=effort)

    def judge(bets: _Bets) -> tuple[State, Cause]:
        if bets.cautious <= CONFIRM_DROP:
            return State.DROP, Cause.LOSING
        if bets.pairs % fixtures == 0 and bets.log_e >= log_bar:
            guarded = ladder(pairs[: bets.pairs])
            return (State.PASS, Cause.BAR_REACHED) if guarded else (State.DROP, Cause.GUARD)
        if bets.pairs >= cap:
            return State.DROP, Cause.CAP_REACHED
        if not reachable(bets, cap=cap, log_bar=log_bar):
            return State.DROP, Cause.FUTILE
        return State.OPEN, Cause.UNDECIDED

    return _first_settled(
        pairs, fixtures=fixtures, log_bar=log_bar, log_e=lambda bets: bets.log_e, judge=judge
    )


@dataclass(frozen=True, slots=True)
class _Bets:
    """The two bettors' log wealth after ``pairs`` pairs, and the mass sum |d| they bet on."""

    pairs: int
    cautious: float
    bold: float
    mass: float

    @property
    def log_e(self) -> float:
        return log_mixture(self.cautious, self.bold)


NO_BETS = _Bets(0, 0.0, 0.0, 0.0)


def reachable(bets: _Bets, *, cap: int, log_bar: float) -> bool:
    """Whether E can still reach the bar by ``cap`` if 4 in 5 of the decisive pairs are wins."""
    left = mass_left(cap=cap, pairs=bets.pairs, mass=bets.mass)
    hoped = log_mixture(bets.cautious + growth(CAUTIOUS) * left, bets.bold + growth(BOLD) * left)
    return hoped >= log_bar


def _bets(pairs: Sequence[Paired]) -> Iterator[_Bets]:
    cautious = bold = mass = 0.0
    for count, pair in enumerate(pairs, start=1):
        d = pair.difference
        cautious += math.log1p(CAUTIOUS * d)
        bold += math.log1p(BOLD * d)
        mass += abs(d)
        yield _Bets(count, cautious, bold, mass)


def log_wealth(pairs: Sequence[Paired]) -> float:
    """Log of E after all of ``pairs``, however many: evidence only where they are whole sweeps."""
    *_, last = (NO_BETS, *_bets(pairs))
    return last.log_e


def _first_settled(
    pairs: Sequence[Paired],
    *,
    fixtures: int,
    log_bar: float,
    log_e: Callable[[_Bets], float],
    judge: Callable[[_Bets], tuple[State, Cause]],
) -> Progress:
    """The first pair at which ``judge`` settles; later pairs are never looked at."""
    path: list[float] = []
    bets = NO_BETS
    for bets in _bets(pairs):
        if bets.pairs % fixtures == 0:
            path.append(log_e(bets))
        state, cause = judge(bets)
        if state is not State.OPEN:
            return Progress(state, cause, bets.pairs, log_e(bets), log_bar, tuple(path))
    return Progress(State.OPEN, Cause.UNDECIDED, bets.pairs, log_e(bets), log_bar, tuple(path))


# Calls that the infrastructure failed -----------------------------------------------------------


def fails_more(*, candidate: int, incumbent: int) -> bool:
    """Whether the infrastructure fails the candidate significantly more often.

    Of pairs in which one side alone failed, each is the candidate's with probability 1/2 if the
    failures have nothing to do with the skill. So the wealth of a gambler who stakes ``b`` on the
    candidate each time, (1 + b)^candidate * (1 - b)^incumbent, is a non-negative martingale, and
    so is the mean of two. By Ville's inequality it ever reaches 1 / FAILS_MORE_LEVEL with
    probability at most that level, however often one looks: no look is to be paid for.
    """
    cautious, bold = (
        candidate * math.log1p(bet) + incumbent * math.log1p(-bet) for bet in (CAUTIOUS, BOLD)
    )
    return log_mixture(cautious, bold) >= -math.log(FAILS_MORE_LEVEL)


# The Ladder guard and the one-sweep rule -----------------------------------------------------


def cluster_means(pairs: Sequence[Paired]) -> tuple[float, ...]:
    """Mean difference of each cluster of related fixtures; repeats are averaged first."""
    by_fixture: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in pairs:
        by_fixture[pair.cluster, pair.fixture].append(pair.difference)
    by_cluster: dict[str, list[float]] = defaultdict(list)
    for (cluster, _), differences in by_fixture.items():
        by_cluster[cluster].append(fmean(differences))
    return tuple(fmean(means) for means in by_cluster.values())


def clears(means: Sequence[float], *, errors: float) -> bool:
    """Whether mean(means) > errors * sd / sqrt(n). Fewer than two values: no."""
    if len(means) < FEWEST_CLUSTERS:
        return False
    return fmean(means) > errors * stdev(means) / math.sqrt(len(means)) + HAIR


def ladder(pairs: Sequence[Paired]) -> bool:
    """The parameter-free Ladder (Blum and Hardt 2015): better by more than 1 standard error."""
    return clears(cluster_means(pairs), errors=1.0)


def one_sweep(pairs: Sequence[Paired], *, fixtures: int, errors: float) -> Progress:
    """Settle after exactly one sweep: repeats of a deterministic model carry no information.

    ``log_e`` and ``log_bar`` hold mean(d) and the ``errors`` standard errors it must exceed.
    """
    pairs = pairs[:fixtures]
    means = cluster_means(pairs)
    gain = fmean(means) if means else 0.0
    bar = errors * stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    if len(pairs) < fixtures:
        return Progress(State.OPEN, Cause.UNDECIDED, len(pairs), gain, bar)
    if clears(means, errors=errors):
        return Progress(State.PASS, Cause.BAR_REACHED, len(pairs), gain, bar, (gain,))
    return Progress(State.DROP, Cause.NO_IMPROVEMENT, len(pairs), gain, bar, (gain,))


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
            return Progress(State.DROP, Cause.BELOW_FLOOR, count, gain, 0.0, path)
        if total + win <= HAIR * fixtures:
            return Progress(State.DROP, Cause.NO_IMPROVEMENT, count, gain, 0.0, path)
        if total - loss > HAIR * fixtures and (not left or not (whole or floor)):
            return Progress(State.PASS, Cause.BAR_REACHED, count, gain, 0.0, path)
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
    """The fewest pairs, in whole sweeps, by which E may be hoped to reach the bar."""
    cap = fixtures
    while not reachable(NO_BETS, cap=cap, log_bar=log_bar):
        cap += fixtures
    return cap


def smallest_effort(*, fixtures: int, attempt: int, alpha: float, k: float) -> float:
    """The least ``confirm_effort`` (two decimals) with which an attempt can reach its bar."""
    log_bar = -math.log(level(attempt, alpha=alpha, k=k))
    cap = fewest_pairs(log_bar, fixtures=fixtures)
    # The cap is rounded up to whole sweeps, so anything above the sweep before gives this one.
    least = (cap - fixtures) / (CONFIRM_CAP * log_bar)
    return math.floor(least * 100 + 1) / 100
