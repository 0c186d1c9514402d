"""Dollars of a calendar month, all skills together, from what every run wrote down."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from bot.core.records import Run

STEP = 1e-6  # dollars; a share is rounded down to it


class Cap(NamedTuple):
    """A limit in dollars: what it is a limit of, and the key or option that raises it."""

    usd: float | None
    name: str
    setting: str


def tightest(caps: Sequence[Cap]) -> Cap:
    """The lowest limit; of equal ones the first."""
    return min(caps, key=lambda cap: math.inf if cap.usd is None else cap.usd)


def month_of(moment: datetime) -> str:
    """The month of a UTC time, as in ``2026-07``."""
    return f"{moment:%Y-%m}"


def counted(runs: Iterable[Run]) -> float:
    """What runs count for together."""
    return math.fsum(run.counted for run in runs)


def known(runs: Sequence[Run]) -> float | None:
    """What runs cost together; None when of one of them it is not known."""
    costs = [run.usd for run in runs if run.usd is not None]
    return math.fsum(costs) if len(costs) == len(runs) else None


def left(limit: float, runs: Iterable[Run]) -> float:
    """What is left of a month's dollars."""
    return max(0.0, limit - counted(runs))


def share(usd: float, jobs: int) -> float:
    """An equal part for each of so many jobs; together they are never more than the whole."""
    return math.floor(usd / jobs / STEP) * STEP
