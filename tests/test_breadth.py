"""Narrow first; wider after failures in a row; narrow again after a merge."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bot.core import breadth

STEPS = breadth.levels(max_lines=12, max_chars=1000)
MERGED, REJECTED = True, False


@pytest.mark.parametrize(
    ("outcomes", "number"),
    [
        ([], 0),
        ([REJECTED] * 2, 0),
        ([REJECTED] * 3, 1),
        ([REJECTED] * 6, 2),
        ([REJECTED] * 60, 2),
        ([REJECTED] * 60 + [MERGED], 0),
        ([MERGED, REJECTED, REJECTED, REJECTED], 1),
        ([REJECTED, REJECTED, MERGED, REJECTED], 0),
    ],
)
def test_level_follows_rejections_in_a_row(outcomes: list[bool], number: int) -> None:
    assert breadth.level(outcomes, widen_after=3, steps=STEPS).number == number


def test_each_step_allows_all_the_narrower_one_does() -> None:
    for narrow, wide in pairwise(STEPS):
        assert set(narrow.limits.operations) < set(wide.limits.operations)
        assert narrow.limits.max_lines < wide.limits.max_lines
        assert narrow.limits.traces_shown < wide.limits.traces_shown


def test_the_ceiling_of_length_never_widens() -> None:
    assert {step.limits.max_chars for step in STEPS} == {1000}
