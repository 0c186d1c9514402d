"""How wide a proposal may be: narrow first, wider only after failures, narrow again on success."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skill_ratchet.core.edits import Limits, Operation
from skill_ratchet.core.records import Record, UnitInterval

if TYPE_CHECKING:
    from collections.abc import Sequence


class Level(Record):
    """One step of breadth. ``number`` counts from 0."""

    number: int
    name: str
    limits: Limits


class Accepted(Record):
    """A text the skill has had by a merge, and that a proposal may start again from."""

    id: str  # of the experiment, 12 digits; ``FIRST`` for the text before the first merge
    number: int  # of the experiment; 0 for ``FIRST``
    chars: int
    score: UnitInterval | None  # mean on train; None when it is not known


def levels(*, max_lines: int, max_chars: int) -> tuple[Level, ...]:
    """The steps, narrowest first.

    Args:
        max_lines: Lines a narrow edit may change; each step doubles it.
        max_chars: Ceiling of the text's length at every step.
    """
    every: tuple[Operation, ...] = ("add", "replace", "rewrite")
    steps = (  # name, operations, lines, traces shown
        ("add lines", every[:1], max_lines, 5),
        ("replace", every[:2], 2 * max_lines, 10),
        ("rewrite", every, REWRITE_LINES, 20),
        ("start again", every, REWRITE_LINES, 40),
    )
    return tuple(
        Level(
            number=number,
            name=name,
            limits=Limits(
                operations=operations,
                max_lines=lines,
                max_chars=max_chars,
                traces_shown=shown,
                restart=name == "start again",
            ),
        )
        for number, (name, operations, lines, shown) in enumerate(steps)
    )


FIRST = "first"
REWRITE_LINES = 100_000  # a rewrite may change every line; the length has its own ceiling


def by_preference(versions: Sequence[Accepted]) -> tuple[Accepted, ...]:
    """Newest first; versions with the same score stand together, the shortest of them first.

    Equal evidence and shorter text wins. Versions without a score have nothing in common.
    """
    newest: dict[float, int] = {}
    for one in versions:
        if one.score is not None:
            newest[one.score] = max(one.number, newest.get(one.score, 0))

    def place(one: Accepted) -> tuple[int, int, int]:
        number = one.number if one.score is None else newest[one.score]
        return (-number, one.chars, -one.number)

    return tuple(sorted(versions, key=place))


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
