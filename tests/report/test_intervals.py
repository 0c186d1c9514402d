"""Student's t, against scipy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skill_ratchet.report.intervals import t_below, t_interval, t_quantile

SCORES = st.lists(st.floats(0, 1).map(lambda value: round(value, 3)), min_size=2, max_size=40)


@given(value=st.floats(0, 50), freedom=st.integers(1, 300))
def test_the_distribution_is_scipys(value: float, freedom: int) -> None:
    assert t_below(value, freedom) == pytest.approx(stats.t.cdf(value, freedom), abs=1e-12)


@given(probability=st.floats(0.51, 0.9995), freedom=st.integers(1, 300))
def test_the_quantile_is_scipys(probability: float, freedom: int) -> None:
    wanted = stats.t.ppf(probability, freedom)
    assert t_quantile(probability, freedom) == pytest.approx(wanted, rel=1e-9)


@given(scores=SCORES)
def test_the_interval_is_scipys_cut_to_scores(scores: list[float]) -> None:
    found = t_interval(scores)
    if len(set(scores)) == 1:
        assert found is None
        return
    assert found is not None
    mean, error = sum(scores) / len(scores), stats.sem(scores)
    low, high = stats.t.interval(0.95, len(scores) - 1, loc=mean, scale=error)
    assert found.low == pytest.approx(max(0.0, low), abs=1e-9)
    assert found.high == pytest.approx(min(1.0, high), abs=1e-9)
    assert found.values == len(scores)


@pytest.mark.parametrize("scores", [[], [0.5], [1.0, 1.0, 1.0]])
def test_where_nothing_shows_a_spread_there_is_none(scores: list[float]) -> None:
    """An interval of no width would claim a certainty that is not there."""
    assert t_interval(scores) is None
