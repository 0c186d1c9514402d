"""Numbers as block characters and as Mermaid text that its grammar takes."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_ratchet.core import wording
from skill_ratchet.report import sparklines
from skill_ratchet.report.sparklines import Point

# The part of Mermaid's xychart grammar that we write, and nothing more: see
# https://mermaid.js.org/syntax/xyChart.html
NUMBER = r"-?\d+(?:\.\d+)?"
STRICT = re.compile(
    rf"""{re.escape(sparklines.COLOURS)}
xychart-beta
    title "[^"\n`#;%{{}}<>\\]*"
    x-axis "[^"\n]+" (?P<first>\d+) --> (?P<last>\d+)
    y-axis "[^"\n]+" (?P<low>{NUMBER}) --> (?P<high>{NUMBER})
    bar \[(?P<one>{NUMBER}(?:, {NUMBER})*)\]
    line \[(?P<two>{NUMBER}(?:, {NUMBER})*)\]"""
)
COLOURS = re.compile(
    r'%%\{init: \{"themeVariables": \{"xyChart": \{"plotColorPalette": "#[a-f]\w{5}, #[a-f]\w{5}"'
    r"\}\}\}\}%%"
)
HOSTILE = (
    'a" b',
    "a\nline [1, 2]",
    "%%{init: {'theme': 'dark'}}%%",
    "<img src=x onerror=alert(1)>",
    "```\n# head",
    "x; click A call b()",
    "&quot;#quot;#59;",
    "\u202egnp",
)


def points(*scores: float, kept: tuple[int, ...] = (), before: float = 0.25) -> list[Point]:
    return [
        Point(number=at, before=before, score=score, kept=at in kept)
        for at, score in enumerate(scores, start=1)
    ]


def parsed(text: str) -> dict[str, list[float]]:
    """The numbers of a chart; fails on whatever is not of the grammar."""
    found = STRICT.fullmatch(text)
    assert found, text
    return {
        name: [float(value) for value in said.split(", ")]
        for name, said in found.groupdict().items()
    }


def test_the_running_best_is_of_what_was_kept() -> None:
    """A high score that was not kept does not raise it, and a lower one does not lower it."""
    made = sparklines.lines(points(0.9, 0.5, 0.2, 0.4, kept=(2, 4)))
    assert [one.score for one in made] == [0.9, 0.5, 0.2, 0.4]
    assert [one.best for one in made] == [0.25, 0.5, 0.5, 0.5]


@given(
    scores=st.lists(st.floats(min_value=0, max_value=1), max_size=300),
    most=st.integers(min_value=1, max_value=80),
)
def test_thinning_keeps_the_ends_and_the_heights(scores: list[float], most: int) -> None:
    made = sparklines.lines(points(*scores, kept=tuple(range(1, 301, 3))), most)
    assert len(made) <= most
    assert bool(made) == bool(scores)
    if made:
        assert made[-1].number == len(scores)
        assert max(one.score for one in made) == max(scores)
        best = [one.best for one in made]
        assert best == sorted(best)
        assert best[-1] == max([0.25, *scores[::3]])


@pytest.mark.parametrize("marks", [sparklines.BLOCKS, sparklines.DIGITS])
def test_a_spark_has_a_mark_for_each_value(marks: str) -> None:
    drawn = sparklines.spark([0, 0.5, 1], low=0, high=1, marks=marks)
    assert (drawn[0], len(drawn), drawn[-1]) == (marks[0], 3, marks[-1])
    assert sparklines.spark([0.4, 0.4], low=0.4, high=0.4, marks=marks) == 2 * marks[-1]
    assert sparklines.spark([], low=0, high=1, marks=marks) == ""


def test_the_colours_are_one_directive() -> None:
    """Each begins with a letter: '#' and a digit is a reference, which a page's fence breaks."""
    assert COLOURS.fullmatch(sparklines.COLOURS)


def test_train_by_experiment() -> None:
    found = parsed(sparklines.train(points(0.5, 0.3, 0.75, kept=(1,))))
    assert (found["first"], found["last"]) == ([1], [3])
    assert (found["low"], found["high"]) == ([0], [100])
    assert found["one"] == [50, 30, 75]
    assert found["two"] == [50, 50, 50]


def test_a_long_history_has_few_points() -> None:
    text = sparklines.train(points(*(0.5 for _ in range(700))))
    assert len(parsed(text)["one"]) <= sparklines.MOST
    assert "best of each 12" in text
    assert len(text) < 2000
    assert len(text.split('"')[5]) < 60  # or GitHub cuts the title off


@pytest.mark.parametrize("given", [[], points(0.5)], ids=["none", "one"])
def test_there_is_no_chart_of_less_than_a_line(given: list[Point]) -> None:
    assert sparklines.train(given) == ""
    assert sparklines.evidence([1.0][: len(given)], log_bar=1.0) == ""


@pytest.mark.parametrize("words", HOSTILE)
def test_no_text_gets_out_of_its_quotes(words: str) -> None:
    parsed(sparklines.train(points(0.5, 0.6)).replace('"experiment"', sparklines.text(words)))


@given(st.text())
def test_whatever_the_text(words: str) -> None:
    assert re.fullmatch(r'"[^"\n\r`#;%{}<>\\&]*"', sparklines.text(words))


@given(
    path=st.lists(st.floats(min_value=-800, max_value=800), min_size=2, max_size=200),
    bar=st.floats(min_value=0.1, max_value=50),
)
def test_evidence_by_sweep(path: list[float], bar: float) -> None:
    """All of it lies between the ends of its axis, and there are not too many points."""
    found = parsed(sparklines.evidence(path, log_bar=bar))
    assert len(found["one"]) == len(found["two"]) == min(len(path), sparklines.MOST)
    assert found["last"][0] - found["first"][0] + 1 == len(found["one"])
    low, high = found["low"][0], found["high"][0]
    assert all(low - 0.01 <= value <= high + 0.01 for value in found["one"] + found["two"])
    assert len(set(found["two"])) == 1


def test_the_evidence_shows_no_more_than_the_chart_as_text_does() -> None:
    """Two paths that look the same there look the same here: it is public, the numbers are not."""
    bar = math.log(20)
    one, other = [0.02, 1.0, bar + 1], [0.06, 1.04, bar + 1]
    assert wording.chart(one, log_bar=bar) == wording.chart(other, log_bar=bar)
    assert sparklines.evidence(one, log_bar=bar) == sparklines.evidence(other, log_bar=bar)
    levels = set(parsed(sparklines.evidence([n / 7 for n in range(60)], log_bar=bar))["one"])
    assert len(levels) <= sparklines.ROWS
