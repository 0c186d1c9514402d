"""Student's t interval for the mean of a few cases, without a library of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95
FEWEST = 2  # values: a spread needs two


@dataclass(frozen=True, slots=True)
class Interval:
    """A range for a mean of scores, cut to [0, 1], with the number of values behind it."""

    low: float
    high: float
    confidence: float
    values: int


def t_interval(means: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval | None:
    """The two-sided Student t interval for the mean of scores in [0, 1].

    Args:
        means: One value for each independent case.
        confidence: How often such an interval would hold the mean, were the values normal.

    Returns:
        None for fewer than two values, and for values that do not differ: they show no spread.
    """
    if len(means) < FEWEST or (spread := stdev(means)) == 0:
        return None
    reach = t_quantile((1 + confidence) / 2, len(means) - 1) * spread / math.sqrt(len(means))
    middle = fmean(means)
    low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    return Interval(low=low, high=high, confidence=confidence, values=len(means))


def t_quantile(probability: float, freedom: int) -> float:
    """Where Student's t with ``freedom`` degrees of freedom reaches a probability above 1/2."""
    low, high = 0.0, 1.0
    while t_below(high, freedom) < probability:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if t_below(middle, freedom) < probability else (low, middle)
    return high


def t_below(value: float, freedom: int) -> float:
    """P(T <= value) for value >= 0: the finite series of Abramowitz and Stegun 26.7.3, 26.7.4."""
    angle = math.atan2(value, math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (step - 1) / step
    inside = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return (1 + inside) / 2
