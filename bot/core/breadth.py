"""How wide a proposal may be: narrow first, wider only after failures, narrow again on success."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.core.edits import Limits
from bot.core.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence


class Level(Record):
    """One step of breadth. ``number`` counts from 0."""

    number: int
    name: str
    limits: Limits


def levels(*, max_lines: int, max_chars: int) -> tuple[Level, ...]:
    """The steps, narrowest first.

    Args:
        max_lines: Lines a narrow edit may change; each step doubles it.
        max_chars: Ceiling of the text's length at every step.
    """
    steps: tuple[tuple[str, dict[str, object]], ...] = (
        ("add lines", {"operations": ("add",), "max_lines": max_lines, "traces_shown": 5}),
        (
            "replace",
            {"operations": ("add", "replace"), "max_lines": 2 * max_lines, "traces_shown": 10},
        ),
        (
            "rewrite",
            {
                "operations": ("add", "replace", "rewrite"),
                "max_lines": REWRITE_LINES,
                "traces_shown": 20,
            },
        ),
    )
    return tuple(
        Level(number=n, name=name, limits=Limits.model_validate({"max_chars": max_chars} | limits))
        for n, (name, limits) in enumerate(steps)
    )


REWRITE_LINES = 100_000  # a rewrite may change every line; the length has its own ceiling


def level(outcomes: Sequence[bool], *, widen_after: int, steps: Sequence[Level]) -> Level:
    """The level for the next attempt.

    Args:
        outcomes: For every past experiment, oldest first, whether it was merged.
        widen_after: Rejections in a row that advance by one level.
        steps: From ``levels``.
    """
    rejections = 0
    for merged in reversed(outcomes):
        if merged:
            break
        rejections += 1
    return steps[min(rejections // widen_after, len(steps) - 1)]
