"""Numbers as small pictures: a line of block characters, or Mermaid's ``xychart-beta`` on GitHub.

Pure: what happened in the order of the experiments goes in, text comes out. A picture of nothing
is empty text.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from skill_ratchet.core.records import Record, UnitInterval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skill_ratchet.core.records import Experiment, Result
    from skill_ratchet.ledger.scores import TrainScore

MOST: Final = 60  # points of a chart; GitHub draws it about 700 pixels wide
FEWEST: Final = 2  # points below which there is no line
BLOCKS: Final = "▁▂▃▄▅▆▇█"
DIGITS: Final = "0123456789"
ROWS: Final = 10  # of the chart as text, ``wording.chart``
# The default's first colour is all but white. These differ in lightness, too, and are seen on both
# of GitHub's backgrounds; what is which is said by bars and a line. A digit behind '#' would be a
# reference to an issue, which ``markdown.fence`` breaks.
COLOURS: Final = (
    '%%{init: {"themeVariables": {"xyChart": {"plotColorPalette": "#a3bfea, #c2410c"}}}}%%'
)
# Beside letters and digits; everything else means something to Mermaid somewhere.
_PLAIN: Final = frozenset(" .,:()+-_/=")


class Point(Record):
    """A finished experiment: mean scores on train, and whether its edit was kept.

    ``whole`` says that its own score is over whole sweeps; a few pairs are no score to beat.
    """

    number: Annotated[int, Field(ge=1)]
    before: UnitInterval  # of the text it changed
    score: UnitInterval  # of its own
    kept: bool
    whole: bool = True


class Line(Record):
    """Some experiments in a row as one point of a chart."""

    number: int  # of the last of them
    score: UnitInterval  # the highest
    best: UnitInterval  # of what was kept up to here, the highest


def point(
    experiment: Experiment,
    result: Result | None,
    *,
    kept: bool,
    known: Mapping[str, TrainScore],
) -> Point | None:
    """An experiment as a point; None while it has no score on train.

    Args:
        experiment: The experiment.
        result: What became of it.
        kept: Whether its edit was merged and is still in.
        known: What texts score over whole sweeps.
    """
    train = result.train if result else None
    if train is None or train.incumbent is None or train.candidate is None:
        return None
    before, after = known.get(experiment.parent), known.get(experiment.candidate or "")
    return Point(
        number=experiment.number,
        before=before.value if before else train.incumbent,
        score=after.value if after else train.candidate,
        kept=kept,
        whole=after is not None,
    )


def lines(points: Sequence[Point], most: int = MOST) -> tuple[Line, ...]:
    """The points in at most ``most`` groups of equally many (the last may have fewer).

    The running best begins with the score of the text that the first experiment changed.
    """
    if not points:
        return ()
    kept = (one.score if one.kept and one.whole else 0.0 for one in points)
    best = list(accumulate(kept, max, initial=points[0].before))[1:]
    size = -(-len(points) // most)
    groups = [range(at, min(at + size, len(points))) for at in range(0, len(points), size)]
    return tuple(
        Line(
            number=points[group[-1]].number,
            score=max(points[at].score for at in group),
            best=best[group[-1]],
        )
        for group in groups
    )


def spark(values: Sequence[float | None], *, low: float, high: float, marks: str = BLOCKS) -> str:
    """A character for each value, from the first mark at ``low`` to the last at ``high``.

    One that is not known is a space.
    """
    last = len(marks) - 1
    span = high - low
    return "".join(
        " " if value is None else marks[round(last * (value - low) / span) if span else last]
        for value in values
    )


def text(words: str) -> str:
    """``words`` for a place between Mermaid's double quotes, where they can do nothing."""
    plain = (one if one.isalnum() or one in _PLAIN else "?" for one in " ".join(words.split()))
    return f'"{"".join(plain)}"'


def train(points: Sequence[Point]) -> str:
    """Train score by experiment and the best that was kept, as Mermaid text."""
    drawn = lines(points)
    if len(drawn) < FEWEST:
        return ""
    size = -(-len(points) // len(drawn))
    each = f", best of each {size}" if size > 1 else ""
    return _chart(
        f"Train score{each} (bars), and the best kept (line)",
        x=("experiment", points[0].number, points[-1].number),
        y=("percent", 0, 100),
        bars=[100 * one.score for one in drawn],
        line=[100 * one.best for one in drawn],
    )


def evidence(path: Sequence[float], *, log_bar: float) -> str:
    """Evidence by sweep against the bar, as Mermaid text; of a long path the last sweeps.

    It shows no more than ``wording.chart`` does: every value is that of one of its rows.

    Args:
        path: Log E at the end of each sweep.
        log_bar: Log of the bar.
    """
    if len(path) < FEWEST:
        return ""
    shown = list(path)[-MOST:]
    top, bottom = max(log_bar, *shown), min(0.0, *shown)
    step = (top - bottom) / (ROWS - 1) or 1.0
    tens = [_tens(top - step * round((top - value) / step)) for value in shown]
    bar = _tens(top - step * round((top - log_bar) / step))
    return _chart(
        "Evidence by sweep (bars), and what it must reach (line)",
        x=("sweep", len(path) - len(shown) + 1, len(path)),
        y=("E, powers of ten", math.floor(_tens(bottom)), math.ceil(_tens(top))),
        bars=tens,
        line=[bar] * len(tens),
    )


def _number(value: float) -> str:
    """At most two digits behind the point; Mermaid reads neither ``1e-3`` nor ``.5``."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _tens(log: float) -> float:
    return log / math.log(10)


def _chart(
    title: str,
    *,
    x: tuple[str, int, int],
    y: tuple[str, int, int],
    bars: Sequence[float],
    line: Sequence[float],
) -> str:
    drawn = [f"title {text(title)}"]
    for axis, (name, low, high) in (("x", x), ("y", y)):
        drawn.append(f"{axis}-axis {text(name)} {low} --> {high}")
    for kind, values in (("bar", bars), ("line", line)):
        drawn.append(f"{kind} [{', '.join(map(_number, values))}]")
    return "\n    ".join([f"{COLOURS}\nxychart-beta", *drawn])
