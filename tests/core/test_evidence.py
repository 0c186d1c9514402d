"""The arithmetic of the gate: exact where it can be, simulated where it must be."""

from __future__ import annotations

import importlib.util
import math
import sys
from fractions import Fraction
from itertools import combinations, permutations, product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skill_ratchet.core import evidence
from skill_ratchet.core.evidence import Cause, State, confirm, screen
from skill_ratchet.core.records import Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import ModuleType

ALPHA, K = 0.10, 5.0


def _simulation() -> ModuleType:
    """The benchmark's vectorised engine; it is a script, not a package."""
    path = Path(__file__).parents[2] / "benchmarks" / "gate.py"
    spec = importlib.util.spec_from_file_location("gate_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


gate = _simulation()


def pair(d: float, *, fixture: str = "f0", sweep: int = 0, cluster: str | None = None) -> Pair:
    """A pair with difference ``d``."""
    return Pair(
        fixture=fixture,
        cluster=cluster or fixture,
        sweep=sweep,
        incumbent=max(0.0, -d),
        candidate=max(0.0, d),
        incumbent_run="i",
        candidate_run="c",
    )


def sweeps(differences: Iterable[float], *, fixtures: int) -> list[Pair]:
    """Pairs in order, fixture after fixture, sweep after sweep."""
    return [
        pair(d, fixture=f"f{k % fixtures}", sweep=k // fixtures) for k, d in enumerate(differences)
    ]


def wealth(differences: Sequence[float], *, block: int = 3) -> float:
    """E after these pairs."""
    return math.exp(evidence.log_wealth(sweeps(differences, fixtures=block), block=block))


# The error budget -----------------------------------------------------------------------------


def test_the_levels_telescope_exactly() -> None:
    """The first j levels add up to alpha * j / (j + K): never more than alpha."""
    alpha, k = Fraction(1, 10), Fraction(5)
    total = Fraction(0)
    for attempt in range(1, 701):
        total += evidence.level(attempt, alpha=alpha, k=k)  # type: ignore[arg-type]  # exact
        assert total == alpha * attempt / (attempt + k)
        assert float(total) == pytest.approx(evidence.spent(attempt, alpha=ALPHA, k=K))
    assert total < alpha


def test_the_first_bars() -> None:
    bars = [1 / evidence.level(attempt, alpha=ALPHA, k=K) for attempt in (1, 2, 3)]
    assert bars == pytest.approx([60, 84, 112])


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match="from 1"):
        evidence.level(attempt, alpha=ALPHA, k=K)


@pytest.mark.parametrize("attempt", [1, 10**9])
@pytest.mark.parametrize(("alpha", "k"), [(5e-324, 5.0), (0.1, 1e308), (0.1, 5e-324)])
def test_a_level_is_never_zero(attempt: int, alpha: float, k: float) -> None:
    """Its inverse is a bar, and a bar is finite."""
    assert math.isfinite(1 / evidence.level(attempt, alpha=alpha, k=k))


@given(st.floats(1e-6, 0.5), st.integers(1, 500), st.floats(0.01, 10))
def test_the_cap_is_the_least_whole_number_of_blocks(a: float, n: int, effort: float) -> None:
    cap = evidence.confirm_cap(a, fixtures=n, effort=effort)
    wanted, block = effort * 200 * math.log(1 / a), min(n, 20)
    assert cap % block == 0
    assert cap - block < wanted <= cap


@pytest.mark.parametrize(
    ("fixtures", "runs"),
    [
        (1, [16, 16, 16]),
        (5, [16, 16, 16]),
        (6, [14, 14, 14]),
        (20, [4, 4, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 12]),
        (80, [1, 2, 3]),
        (200, [1, 2]),
    ],
)
def test_kept_runs_of_a_case(fixtures: int, runs: list[int]) -> None:
    """80 over the split before the first pair, but at most 16; then one a sweep, up to 12."""
    found = [evidence.kept_runs(fixtures=fixtures, sweep=sweep) for sweep in range(len(runs))]
    assert found == runs


# The bets -------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1), max_size=30), st.sampled_from([0.2, 1 / 3]))
def test_the_stake_is_a_tenth_of_the_variance(differences: list[float], spread: float) -> None:
    """With eight pairs assumed before the first, and never below 0.1 or above 0.6."""
    squares = [*[spread] * 8, *(d * d for d in differences)]
    found = evidence.stake(sum(squares[8:]), len(differences), spread=spread)
    assert found == pytest.approx(np.clip(0.10 / np.mean(squares), 0.1, 0.6))


def test_the_first_stakes() -> None:
    assert evidence.stake(0.0, 0, spread=evidence.SCREEN_SPREAD) == pytest.approx(0.5)
    assert evidence.stake(0.0, 0, spread=evidence.CONFIRM_SPREAD) == pytest.approx(0.3)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=24), st.data())
def test_a_stake_never_looks_at_the_block_it_bets_on(
    differences: list[float], data: st.DataObject
) -> None:
    """Whatever happens in a block, the stake of all its pairs was fixed before it."""
    block = 4
    other = list(differences)
    start = data.draw(st.integers(0, len(differences) // block - 1)) * block
    for at in range(start, len(other)):
        other[at] = data.draw(st.floats(-1, 1))
    stakes = [
        [bets.stake for bets in evidence._bets(sweeps(some, fixtures=4), spread=1 / 3, block=block)]
        for some in (differences, other)
    ]
    assert stakes[0][: start + block] == stakes[1][: start + block]
    assert len(set(stakes[0][start : start + block])) == 1


@pytest.mark.parametrize("bet", [0.1, 0.3, 0.6])
def test_growth_is_what_four_wins_and_a_loss_earn(bet: float) -> None:
    earned = math.log((1 + bet) ** 4 * (1 - bet)) / 5
    assert evidence.growth(bet) == pytest.approx(earned)


def outcomes(old: Sequence[float], new: Sequence[float]) -> Iterator[tuple[float, list[float]]]:
    """Every outcome of one sweep of pass-or-fail fixtures, with its probability."""
    for results in product([0, 1], repeat=2 * len(old)):
        before, after = results[: len(old)], results[len(old) :]
        chances = [p if x else 1 - p for x, p in zip(results, [*old, *new], strict=True)]
        yield math.prod(chances), [b - a for a, b in zip(before, after, strict=True)]


NO_BETTER = [
    pytest.param([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], id="no effect"),
    pytest.param([0.1, 0.5, 0.9], [0.4, 0.8, 0.3], id="mixed, sums to zero"),
    pytest.param([0.0, 0.5, 1.0], [1.0, 0.5, 0.0], id="mixed, certain"),
    pytest.param([0.2, 0.6, 0.9], [0.5, 0.3, 0.8], id="mixed, worse"),
]


@pytest.mark.parametrize(("old", "new"), NO_BETTER)
def test_a_block_never_gains_on_average_when_nothing_got_better(
    old: list[float], new: list[float]
) -> None:
    """Exactly, over all outcomes: the expected wealth of a block is at most 1, in every order."""
    for order in permutations(range(3)):
        expected = math.fsum(
            chance * wealth([d[i] for i in order]) for chance, d in outcomes(old, new)
        )
        assert expected <= 1 + 1e-12


@pytest.mark.parametrize("before", [[-1.0] * 9, [0.0] * 9, [1.0, -1.0, 0.0] * 3])
@pytest.mark.parametrize(("old", "new"), NO_BETTER)
def test_nor_does_a_later_one_with_a_stake_of_its_own(
    old: list[float], new: list[float], before: list[float]
) -> None:
    expected = math.fsum(chance * wealth([*before, *d]) for chance, d in outcomes(old, new))
    assert expected <= wealth(before) * (1 + 1e-12)


@pytest.mark.parametrize(("old", "new"), NO_BETTER)
@pytest.mark.parametrize("size", [1, 2])
def test_a_drawn_block_never_gains_on_average(
    old: list[float], new: list[float], size: int
) -> None:
    """Exactly, over all draws of two of three fixtures (or one) and all outcomes: Maclaurin."""
    draws = list(combinations(range(3), size))
    expected = math.fsum(
        chance * wealth(d, block=size) / len(draws)
        for drawn in draws
        for chance, d in outcomes([old[i] for i in drawn], [new[i] for i in drawn])
    )
    assert expected <= 1 + 1e-12


def test_a_block_that_is_not_drawn_may_gain_on_average() -> None:
    """Why the bar counts at the end of a block only, and why blocks are drawn at random."""
    expected = math.fsum(
        chance * wealth(d[:1]) for chance, d in outcomes([0.1, 0.5, 0.9], [0.4, 0.8, 0.3])
    )
    assert expected > 1.08


@pytest.mark.parametrize("chances", [(0.25, 0.25), (0.05, 0.05), (0.5, 0.5)])
def test_a_bar_is_reached_as_seldom_as_promised(chances: tuple[float, float]) -> None:
    """Exactly, by all paths of 4 blocks of 4 pairs: P(E ever >= 3 at an end) <= 1/3 (Ville)."""
    win, loss = chances
    of_four = scipy.stats.multinomial(4, [win, loss, 1 - win - loss])
    ends = [
        (wins, losses, float(of_four.pmf([wins, losses, 4 - wins - losses])))
        for wins, losses in product(range(5), repeat=2)
        if wins + losses <= 4
    ]
    alive: list[tuple[int, float, float]] = [(0, 0.0, 1.0)]  # decisive pairs, log wealth, chance
    reached = 0.0
    for block in range(4):
        following = []
        for decisive, log_e, chance in alive:
            b = evidence.stake(decisive, 4 * block, spread=1 / 3)
            for wins, losses, p in ends:
                now = log_e + wins * math.log1p(b) + losses * math.log1p(-b)
                if now >= math.log(3):
                    reached += chance * p
                elif p:
                    following.append((decisive + wins + losses, now, chance * p))
        alive = following
    assert 0 < reached <= 1 / 3


scores = st.floats(0, 1, allow_nan=False)


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=20), st.data())
def test_a_better_score_never_lowers_the_evidence_of_its_block(
    runs: list[tuple[float, float]], data: st.DataObject
) -> None:
    """In later blocks it may: the stake is sized to the noise, and a gain is noise too."""
    at = data.draw(st.integers(0, len(runs) - 1))
    better = data.draw(st.floats(runs[at][1], 1))
    differences = [new - old for old, new in runs]
    raised = list(differences)
    raised[at] = better - runs[at][0]
    assert wealth(raised, block=20) >= wealth(differences, block=20) * (1 - 1e-12)


@given(st.lists(st.permutations([-1.0, -0.25, 0.0, 0.5, 1.0]), min_size=1, max_size=6))
def test_order_inside_a_block_does_not_matter_at_its_end(shuffled: list[list[float]]) -> None:
    ordered = sorted(shuffled[0]) * len(shuffled)
    found = wealth([d for sweep in shuffled for d in sweep], block=5)
    assert found == pytest.approx(wealth(ordered, block=5))


@pytest.mark.parametrize("side", ["incumbent", "candidate"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.01, 1.01, None, "high"])
def test_nothing_but_a_score_enters_a_pair(side: str, value: object) -> None:
    with pytest.raises(ValidationError):
        pair(0.0).with_(**{side: value})


# The screen -----------------------------------------------------------------------------------


def short_of_eight(last: float) -> float:
    """How much the log wealth of a screen lacks after nine wins and this gain."""
    pairs = sweeps([*[1.0] * 9, last], fixtures=5)
    *_, bets = evidence._bets(pairs, spread=evidence.SCREEN_SPREAD, block=1)
    return evidence.SCREEN_PASS - bets.log_wealth


# Just short of 8 after ten pairs, so that ties alone decide.
NEARLY_EIGHT = [*[1.0] * 9, scipy.optimize.brentq(lambda d: short_of_eight(d) - 0.001, -1, 1)]


@pytest.mark.parametrize(
    ("differences", "state", "cause", "pairs"),
    [
        ([], State.OPEN, Cause.UNDECIDED, 0),
        ([1.0] * 9, State.OPEN, Cause.UNDECIDED, 9),
        ([1.0] * 10, State.PASS, Cause.BAR_REACHED, 10),
        ([1.0] * 300, State.PASS, Cause.BAR_REACHED, 10),
        ([0.5] * 12, State.PASS, Cause.BAR_REACHED, 10),
        ([-1.0], State.OPEN, Cause.UNDECIDED, 1),
        ([-1.0] * 9, State.DROP, Cause.LOSING, 2),
        ([0.0] * 240, State.DROP, Cause.FUTILE, 38),
        ([*NEARLY_EIGHT, *[0.0] * 229], State.OPEN, Cause.UNDECIDED, 239),
        ([*NEARLY_EIGHT, *[0.0] * 293], State.DROP, Cause.CAP_REACHED, 240),
    ],
)
def test_screen(differences: list[float], state: State, cause: Cause, pairs: int) -> None:
    progress = screen(sweeps(differences, fixtures=5), fixtures=5)
    assert (progress.state, progress.cause, progress.pairs) == (state, cause, pairs)
    assert progress.settled is (state is not State.OPEN)


# The confirm run ------------------------------------------------------------------------------


def confirmed(
    differences: Sequence[float], *, fixtures: int = 5, attempt: int = 1, effort: float = 1.0
) -> evidence.Progress:
    a = evidence.level(attempt, alpha=ALPHA, k=K)
    pairs = sweeps(differences, fixtures=fixtures)
    return confirm(pairs, fixtures=fixtures, error_level=a, effort=effort)


@pytest.mark.parametrize(
    ("differences", "fixtures", "state", "cause", "pairs"),
    [
        ([], 5, State.OPEN, Cause.UNDECIDED, 0),
        ([1.0] * 29, 5, State.OPEN, Cause.UNDECIDED, 29),
        ([1.0] * 30, 5, State.PASS, Cause.BAR_REACHED, 30),
        ([1.0] * 45, 5, State.PASS, Cause.BAR_REACHED, 30),
        ([1.0] * 19, 20, State.OPEN, Cause.UNDECIDED, 19),
        ([1.0] * 20, 20, State.PASS, Cause.BAR_REACHED, 20),
        ([1.0] * 60, 50, State.PASS, Cause.BAR_REACHED, 20),
        ([-1.0] * 9, 5, State.DROP, Cause.LOSING, 5),
        ([0.0] * 500, 5, State.DROP, Cause.FUTILE, 77),
        ([1.0, 0.0, 0.0, 0.0, 0.0] * 20, 5, State.DROP, Cause.GUARD, 60),
        ([1.0, 0.0, 0.0] * 20, 3, State.DROP, Cause.GUARD, 48),
        ([1.0, 1.0, 0.0, 0.0, 0.0] * 20, 5, State.PASS, Cause.BAR_REACHED, 45),
        ([1.0] * 40, 1, State.DROP, Cause.GUARD, 30),
        ([1.0] * 40, 2, State.PASS, Cause.BAR_REACHED, 30),
    ],
)
def test_confirm(
    differences: list[float], fixtures: int, state: State, cause: Cause, pairs: int
) -> None:
    progress = confirmed(differences, fixtures=fixtures)
    assert (progress.state, progress.cause, progress.pairs) == (state, cause, pairs)


def test_the_cap_ends_a_confirm_run() -> None:
    """Above the bar inside the block, below it at the end, and nothing left to run."""
    differences = [1.0] * 15 + [0.0] * 65 + [1.0] + [0.0] * 18 + [-1.0]
    progress = confirmed(differences, fixtures=200, effort=0.12)
    assert (progress.state, progress.cause) == (State.DROP, Cause.CAP_REACHED)
    assert progress.pairs == 100


def test_a_later_attempt_has_a_higher_bar() -> None:
    assert confirmed([1.0] * 30, attempt=1).state is State.PASS
    assert confirmed([1.0] * 30, attempt=10).state is State.OPEN


def test_the_path_has_the_evidence_at_each_end_of_a_block() -> None:
    progress = confirmed([1.0, 0.0, 0.0, 0.0, 0.0] * 3)
    stakes = [evidence.stake(wins, 5 * wins, spread=1 / 3) for wins in range(3)]
    wealths = [math.log(1 + b) for b in stakes]
    assert progress.path == pytest.approx([sum(wealths[:n]) for n in (1, 2, 3)])
    assert progress.log_e == progress.path[-1]


def test_the_patient_give_up_later_and_pass_at_the_same_bar() -> None:
    """Being patient costs calls and no error budget."""
    patient = evidence.PATIENCE["patient"]
    lost = [*[-1.0] * 6, *[1.0] * 44]
    kinds = {"fixtures": 5, "error_level": 1 / 60}
    assert confirmed(lost).cause is Cause.LOSING
    assert confirm(sweeps(lost, fixtures=5), patience=patient, **kinds).pairs > 6  # type: ignore[arg-type]  # both
    won = sweeps([1.0] * 40, fixtures=5)
    assert confirm(won, patience=patient, **kinds) == confirmed([1.0] * 40)  # type: ignore[arg-type]
    assert screen(sweeps([-1.0, -0.9], fixtures=5), fixtures=5).cause is Cause.LOSING
    assert not screen(sweeps([-1.0, -0.9], fixtures=5), fixtures=5, patience=patient).settled


@pytest.mark.parametrize("deterministic", [False, True])
@given(differences=st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), max_size=60))
def test_nothing_after_the_end_is_looked_at(
    *, differences: list[float], deterministic: bool
) -> None:
    """What has settled stays as it is, whatever else is run."""
    pairs = sweeps(differences, fixtures=4)
    tests: tuple[Callable[[Sequence[Pair]], evidence.Progress], ...] = (
        lambda p: screen(p, fixtures=4, deterministic=deterministic),
        lambda p: confirm(p, fixtures=4, error_level=1 / 60, deterministic=deterministic),
        lambda p: evidence.improves(p, fixtures=4),
    )
    for test in tests:
        whole = test(pairs)
        assert test(pairs[: whole.pairs]) == whole
        if whole.settled:
            assert not test(pairs[: whole.pairs - 1]).settled


# The guard and the one-sweep rule -------------------------------------------------------------


def test_related_fixtures_count_as_one() -> None:
    """Ten near-copies of one case are one case, and repeats are averaged first."""
    related = [pair(1.0, fixture=f"f{k}", cluster="same") for k in range(10)]
    alone = [pair(0.0, fixture="g"), pair(0.5, fixture="g", sweep=1)]
    assert evidence.cluster_means([*related, *alone]) == (1.0, 0.25)
    assert evidence.ladder([pair(1.0, fixture=f"f{k}") for k in range(10)])
    assert not evidence.ladder(related)
    assert not evidence.ladder([*related, pair(0.0, fixture="g")])


@given(
    st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, max_size=30),
    st.sampled_from([1.0, 2.0]),
)
def test_the_guard_is_a_t_statistic(means: list[float], errors: float) -> None:
    """Mean > errors * standard error, with scipy's standard error; ties left to the next test."""
    lead = fmean(means) - errors * float(scipy.stats.sem(means))
    if abs(lead) > 1e-8:
        assert evidence.clears(means, errors=errors) is (lead > 0)


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_one_better_case_alone_never_clears_the_guard(gain: float) -> None:
    """It is exactly one standard error: a tie, which rounding must not decide."""
    sizes = range(2, 201)
    assert not [n for n in sizes if evidence.clears([gain, *[0.0] * (n - 1)], errors=1.0)]


def test_rounding_is_no_gain() -> None:
    means = [0.1 + 0.2 - 0.3] * 5
    assert means[0] > 0
    assert not evidence.clears(means, errors=1.0)
    noisy = [pair(0.0, fixture=f"f{k}").with_(incumbent=0.3, candidate=0.1 + 0.2) for k in range(5)]
    assert evidence.improves(noisy, fixtures=5).state is State.DROP


@pytest.mark.parametrize("means", [[], [1.0]])
def test_a_spread_needs_two_cases(means: list[float]) -> None:
    assert not evidence.clears(means, errors=0.0)


@pytest.mark.parametrize(
    ("differences", "one", "two"),
    [
        ([1.0] * 5, State.PASS, State.PASS),
        ([1.0, 1.0, 0.0, 0.0, 0.0], State.PASS, State.DROP),
        ([1.0, 1.0, 1.0, 0.0, 0.0], State.PASS, State.PASS),
        ([1.0, 0.0, 0.0, 0.0, 0.0], State.DROP, State.DROP),
        ([0.0] * 5, State.DROP, State.DROP),
        ([-1.0] * 5, State.DROP, State.DROP),
        ([1.0] * 4, State.OPEN, State.OPEN),
        ([0.0] * 5 + [1.0] * 10, State.DROP, State.DROP),
    ],
)
def test_one_sweep(differences: list[float], one: State, two: State) -> None:
    """Few cases: confirm asks for one standard error, the screen for two; one sweep of each."""
    pairs = sweeps(differences, fixtures=5)
    held_out = confirm(pairs, fixtures=5, error_level=1 / 60, deterministic=True)
    train = screen(pairs, fixtures=5, deterministic=True)
    assert (held_out.state, train.state) == (one, two)
    assert held_out.pairs == min(5, len(differences))


@pytest.mark.parametrize(
    ("train", "holdout", "errors"),
    [(20, 20, 1.5), (24, None, 1.5), (19, 40, 2.0), (40, 19, 2.0), (19, None, 2.0)],
)
def test_train_is_asked_for_less_where_both_are_judged_together(
    train: int, holdout: int | None, errors: float
) -> None:
    assert evidence.train_errors(train, holdout) == errors


@pytest.mark.parametrize(
    ("train", "holdout", "fixtures", "state"),
    [
        (3, 3, 24, State.PASS),
        (3, 2, 24, State.DROP),  # 2.3 standard errors together
        (2, 4, 24, State.PASS),
        (6, 1, 24, State.DROP),  # one case alone, whatever train says
        (2, 2, 19, State.PASS),  # of few cases the holdout decides alone
        (0, 3, 24, State.DROP),
    ],
)
def test_one_sweep_of_many_cases_is_judged_with_train(
    train: int, holdout: int, fixtures: int, state: State
) -> None:
    better = [[1.0] * wins + [0.0] * (fixtures - wins) for wins in (train, holdout)]
    on_train, held_out = (sweeps(one, fixtures=fixtures) for one in better)
    for pair_of_train in on_train:
        assert pair_of_train.fixture  # the splits' own: the same names do not make one case
    renamed = [one.with_(fixture=f"t{one.fixture}", cluster=f"t{one.cluster}") for one in on_train]
    progress = confirm(
        held_out, fixtures=fixtures, error_level=1 / 60, deterministic=True, train=renamed
    )
    assert progress.state is state
    assert progress.pairs == fixtures


def test_half_of_the_holdout_is_no_sweep_of_it() -> None:
    pairs = sweeps([1.0] * 23, fixtures=24)
    progress = confirm(pairs, fixtures=24, error_level=1 / 60, deterministic=True, train=pairs)
    assert progress.state is State.OPEN


# The rule 'improves' --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "floor", "state", "cause"),
    [
        ([0.25, 0.0], 0.0, State.PASS, Cause.BAR_REACHED),
        ([0.0, 0.0], 0.0, State.DROP, Cause.NO_IMPROVEMENT),
        ([1.0, -1.0], 0.0, State.DROP, Cause.NO_IMPROVEMENT),
        ([-0.5, 0.25], 0.0, State.DROP, Cause.NO_IMPROVEMENT),
        ([1.0, 0.1], 0.2, State.DROP, Cause.BELOW_FLOOR),
        ([1.0, 0.2], 0.2, State.PASS, Cause.BAR_REACHED),
        ([1.0], 0.0, State.OPEN, Cause.UNDECIDED),
        ([], 0.0, State.OPEN, Cause.UNDECIDED),
        ([0.0, -1.0, 1.0, 1.0], 0.0, State.DROP, Cause.NO_IMPROVEMENT),
    ],
)
def test_improves(differences: list[float], floor: float, state: State, cause: Cause) -> None:
    """One sweep and no more: going on until the mean is up would always succeed."""
    progress = evidence.improves(sweeps(differences, fixtures=2), fixtures=2, floor=floor)
    assert (progress.state, progress.cause) == (state, cause)


hundredths = st.integers(-100, 100).map(lambda x: x / 100)


@given(st.lists(hundredths, max_size=9))
def test_false_merge_rate_by_brute_force(differences: list[float]) -> None:
    """The share of all choices of signs that give a positive sum."""
    steps = [round(abs(d) * 100) for d in differences]
    sums = [
        sum(s * x for s, x in zip(signs, steps, strict=True))
        for signs in product([-1, 1], repeat=len(steps))
    ]
    positive = sum(total > 0 for total in sums) / len(sums)
    assert evidence.false_merge_rate(differences) == pytest.approx(positive)


@pytest.mark.parametrize("n", [1, 2, 7, 20, 200])
def test_false_merge_rate_of_wins_and_losses_is_binomial(n: int) -> None:
    expected = scipy.stats.binom.sf(n // 2, n, 0.5)
    assert evidence.false_merge_rate([1.0, -1.0] * (n // 2) + [1.0] * (n % 2)) == pytest.approx(
        float(expected)
    )


def test_false_merge_rate_beyond_what_is_counted_is_an_upper_bound() -> None:
    assert evidence.false_merge_rate([1.0] * 201) == 0.5
    assert evidence.false_merge_rate([0.0] * 201) == 0.0


# Before any money is spent --------------------------------------------------------------------


@pytest.mark.parametrize("fixtures", [1, 2, 5, 20, 92, 200])
@pytest.mark.parametrize("attempt", [1, 2, 10, 100])
def test_the_smallest_effort_is_the_smallest(fixtures: int, attempt: int) -> None:
    """With it the bar is in reach; with a hundredth less it is not."""
    a = evidence.level(attempt, alpha=ALPHA, k=K)

    def in_reach(effort: float) -> bool:
        cap = evidence.confirm_cap(a, fixtures=fixtures, effort=effort)
        return evidence.reachable(evidence.no_bets(), cap=cap, log_bar=-math.log(a))

    least = evidence.smallest_effort(fixtures=fixtures, attempt=attempt, alpha=ALPHA, k=K)
    assert least == round(least, 2)
    assert in_reach(least)
    assert least == 0.01 or not in_reach(round(least - 0.01, 2))
    assert in_reach(1.0)


# Simulation -----------------------------------------------------------------------------------


class Fixed:
    """Differences made beforehand, in an order of each sweep: rows x sweeps x fixtures."""

    def __init__(self, differences: Any) -> None:
        self.differences_of = differences
        self.fixtures = differences.shape[2]

    def order(self, rows: Any, sweep: int) -> Any:
        return np.tile((np.arange(self.fixtures) + 7 * sweep) % self.fixtures, (len(rows), 1))

    def differences(self, rows: Any, sweep: int, order: Any) -> Any:
        return self.differences_of[rows[:, None], sweep, order]

    def pairs(self, row: Any, *, block: int, most: int) -> list[Pair]:
        """The first pairs of a row, block by block."""
        made = []
        for sweep in range(-(-most // block)):
            for at in self.order([row], sweep)[0, :block]:
                d = float(self.differences_of[row, sweep, at])
                made.append(pair(d, fixture=f"f{at}", sweep=sweep))
        return made[:most]


def random_differences(rng: np.random.Generator, *, rows: int, n: int, kind: str) -> Any:
    """Sequences that win, lose, tie or drag on, with scores of the given kind."""
    shape = (rows, 1 + 2_000 // min(n, 20), n)
    drift = rng.uniform(-0.15, 0.35, (rows, 1, 1))
    active = rng.uniform(0.02, 1, (rows, 1, 1))
    sign = np.where(rng.random(shape) < (1 + drift) / 2, 1.0, -1.0)
    size = np.ones(shape) if kind == "pass or fail" else rng.random(shape)
    if kind == "tenths":
        size = np.round(size, 1)
    return sign * size * (rng.random(shape) < active)


@pytest.mark.parametrize("rule", [gate.DEFAULT, gate.PATIENT], ids=lambda rule: rule.name)
@pytest.mark.parametrize("kind", ["pass or fail", "tenths", "any"])
@pytest.mark.parametrize("n", [2, 5, 20, 50])
def test_the_simulation_plays_by_the_rules(n: int, kind: str, rule: Any) -> None:
    """State, cause, stopping index and evidence are those of skill_ratchet.core.evidence."""
    rng = np.random.default_rng([n, len(kind)])
    rows = np.arange(40)
    source = Fixed(random_differences(rng, rows=len(rows), n=n, kind=kind))
    attempts = rng.integers(1, 30, len(rows))
    levels = gate.levels(attempts)
    screened = gate.screen_many(source, rows, rule)
    confirmed_many = gate.confirm_many(source, rows, levels, rule)
    patience = evidence.PATIENCE[rule.name]
    for row in rows:
        a = evidence.level(int(attempts[row]), alpha=ALPHA, k=K)
        assert levels[row] == pytest.approx(a)
        on_train, held_out = (
            source.pairs(row, block=block, most=int(many.pairs[row]) + 1)
            for block, many in ((n, screened), (min(n, 20), confirmed_many))
        )
        for progress, many in (
            (screen(on_train, fixtures=n, patience=patience), screened),
            (confirm(held_out, fixtures=n, error_level=a, patience=patience), confirmed_many),
        ):
            assert (progress.state, progress.cause) == gate.CODES[many.code[row]]
            assert progress.pairs == many.pairs[row]
            assert progress.log_e == pytest.approx(many.log_e[row])


def test_the_simulated_sequences_settle_in_every_way() -> None:
    """The comparison above is not about one kind of ending."""
    rng = np.random.default_rng(0)
    differences = random_differences(rng, rows=300, n=5, kind="pass or fail")
    differences[0] = 0.0
    differences[0, :, 0] = 1.0
    differences[1, :, :] = [-0.5, 0.5, -0.1, 0.5, 0.0]
    done = gate.confirm_many(Fixed(differences), np.arange(300), np.full(300, 1 / 60))
    causes = {gate.CODES[code][1] for code in done.code}
    assert causes >= {Cause.BAR_REACHED, Cause.LOSING, Cause.FUTILE, Cause.GUARD}


def test_the_upper_bound_is_clopper_and_pearson() -> None:
    for hits, trials in ((0, 20), (3, 200), (19, 20)):
        exact = scipy.stats.binomtest(hits, trials, alternative="less").proportion_ci(0.95)
        assert gate.upper(hits, trials) == pytest.approx(exact.high)
    assert gate.upper(20, 20) == 1.0


@pytest.mark.parametrize("n", [5, 20, 50])
def test_loops_that_change_nothing(n: int) -> None:
    """50 experiments that change nothing: any merge in at most 10% of loops, and cheap."""
    setup = gate.Setup(n, experiments=50)
    loops = gate.our_loops(np.random.default_rng(n), setup, loops=400)
    assert loops.bound <= 0.10
    assert loops.calls <= 75


def test_the_same_loops_are_wrong_without_the_error_budget() -> None:
    """The simulation can tell a bad rule from a good one."""
    assert gate.per_test_loops(np.random.default_rng(1), n=20, loops=10).any == 10
    simple = gate.simple_loops(
        np.random.default_rng(1), rule="mean > 0, incumbent's score kept", n=20, loops=50
    )
    assert (simple.first > 0).mean() > 0.9
    assert simple.excess > 0.15


@pytest.mark.parametrize("n", [5, 20])
def test_effects_that_cancel_out(n: int) -> None:
    """P(E ever >= 20 at a sweep's end) <= 0.05, and no more is merged at that level."""
    ever, merged = gate.mixed(np.random.default_rng(n), n=n, trials=2_000)
    assert gate.upper(ever, 2_000) <= 0.05
    assert gate.upper(merged, 2_000) <= 0.05


@pytest.mark.parametrize(
    ("rule", "n", "effect", "least", "calls"),
    [
        (gate.DEFAULT, 20, 0.05, 0.07, 245),
        (gate.DEFAULT, 20, 0.10, 0.48, 370),
        (gate.DEFAULT, 20, 0.25, 0.97, 210),
        (gate.PATIENT, 20, 0.10, 0.62, 490),
        (gate.DEFAULT, 5, 0.10, 0.49, 370),
        (gate.DEFAULT, 200, 0.25, 0.92, 210),
    ],
)
def test_gains_are_found_for_what_they_cost(
    rule: Any, n: int, effect: float, least: float, calls: float
) -> None:
    """The figures that docs/gate.md promises, in small."""
    rng = np.random.default_rng(20)
    found = gate.power(rng, n=n, effect=effect, trials=3_000 if n < 200 else 600, rule=rule)
    assert found.merged >= least
    assert found.calls <= calls


@pytest.mark.parametrize(("effect", "calls"), [(0.0, 75), (-0.10, 20)])
def test_what_is_no_better_is_cheap(effect: float, calls: float) -> None:
    found = gate.power(np.random.default_rng(20), n=20, effect=effect, trials=3_000)
    assert found.calls <= calls
    assert found.merged <= 0.005


def test_the_second_version_finds_more_than_the_first() -> None:
    """At 20 cases, half of the edits that gain 10 points in place of a third."""
    found = [
        gate.power(np.random.default_rng(3), n=20, effect=0.10, trials=1_000, rule=rule).merged
        for rule in gate.RULES
    ]
    assert found == sorted(found)
    assert found[0] < 0.40


def test_a_season_of_edits() -> None:
    rng = np.random.default_rng(1)
    skills = gate.Incumbents.draw(rng, 60, n=20, rule=gate.DEFAULT, kind=gate.PROBIT)
    done = gate.season(rng, gate.gated, skills, edits=40)
    assert done.points / 40 >= 0.5
    assert done.calls / 40 <= 100
    assert done.harmful == 0


@pytest.mark.parametrize("kind", gate.KINDS.values(), ids=gate.KINDS)
def test_an_edit_has_the_effect_it_is_said_to_have(kind: Any) -> None:
    rng = np.random.default_rng(5)
    z, effects = kind.cases(rng, 50, 20), rng.choice([-0.1, 0.0, 0.03, 0.05], 50)
    after, before = kind.edited(rng, z, effects), scipy.special.ndtr(z)
    assert after.mean(axis=1) - before.mean(axis=1) == pytest.approx(effects, abs=1e-6)
    assert after.min() >= 0
    assert after.max() <= 1


def test_effects_are_what_they_are_said_to_be() -> None:
    z = gate.difficulties(np.random.default_rng(5), 50, 5)
    gain = gate.shifted(z, 0.25).mean(axis=1) - scipy.special.ndtr(z).mean(axis=1)
    assert gain == pytest.approx(np.full(50, 0.25))
