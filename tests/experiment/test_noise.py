"""What a fixture set can show is worked out with the gate itself."""

from __future__ import annotations

import pytest

from skill_ratchet.core.gate import Policy
from skill_ratchet.experiment.noise import Noise, measure, power, smallest

POLICY = Policy()


def noise(*, mean: float = 0.5, differing: float = 0.2) -> Noise:
    return Noise(pairs=20, mean=mean, gap=0.0, differing=differing, error=0.05)


def test_measure_counts_what_differs() -> None:
    found = measure([0, 1, 1, 0], [0, 1, 0, 1])
    assert (found.pairs, found.mean, found.gap, found.differing) == (4, 0.5, 0.0, 0.5)
    assert found.error == pytest.approx((2 / 3) ** 0.5 / 2)


def test_identical_runs_have_no_noise() -> None:
    found = measure([0.2, 0.9], [0.2, 0.9])
    assert (found.gap, found.differing, found.error) == (0.0, 0.0, 0.0)


def test_more_fixtures_of_a_deterministic_model_show_smaller_effects() -> None:
    few = smallest(noise(), train=8, holdout=8, policy=POLICY, deterministic=True)
    many = smallest(noise(), train=200, holdout=200, policy=POLICY, deterministic=True)
    assert few is not None
    assert many is not None
    assert many.effect < few.effect


def test_no_effect_is_promised_beyond_the_headroom() -> None:
    """A skill that is right 99 times in 100 cannot gain ten points."""
    assert (
        smallest(noise(mean=0.99), train=20, holdout=20, policy=POLICY, deterministic=True) is None
    )


def test_an_edit_without_effect_is_cheap_and_hardly_ever_merged() -> None:
    found = power(0.0, differing=0.3, train=20, holdout=20, policy=POLICY, deterministic=False)
    assert found.merged <= 0.02
    assert found.calls <= 75


def test_a_large_effect_is_found() -> None:
    found = power(0.25, differing=0.3, train=20, holdout=20, policy=POLICY, deterministic=False)
    assert found.merged >= 0.85
