"""The charts: their colours, their size, what they leave out, and that they are always the same."""

from __future__ import annotations

import re

import pytest

from skill_ratchet.core.records import Tally
from skill_ratchet.report.site import charts
from skill_ratchet.report.site.views import ExperimentEntry, Outcome, Sweep, Trial

TALLY = Tally(incumbent=0.1, candidate=0.9)


def point(
    number: int, outcome: Outcome = "discarded", train: float | None = 0.5
) -> ExperimentEntry:
    return ExperimentEntry(
        number=number,
        url=f"{number}.html",
        outcome=outcome,
        state=outcome,
        hypothesis="",
        level="",
        train=None if train is None else (0.4, train),
        held_out=None,
        best=0.4 + number / 10_000,
        calls=1,
        usd=0.01,
        total_calls=number,
        total_usd=number / 100,
        started="",
    )


def trial(count: int) -> Trial:
    sweeps = tuple(Sweep(number, number / 2, None, None) for number in range(1, count + 1))
    return Trial(TALLY, sweeps, 3.0)


def numbers(svg: str) -> list[str]:
    """The labels of the axes that are whole numbers."""
    return re.findall(r">(\d+)</text>", svg)


@pytest.mark.parametrize("count", [1, 2, 700])
def test_a_chart_follows_the_page_and_has_no_style_of_its_own(count: int) -> None:
    """A strict policy forbids styles; the colours are variables of the page's style sheet."""
    points = [point(number, "kept" if number % 20 == 0 else "discarded") for number in range(count)]
    for svg in (
        charts.scores(points),
        charts.spend(points, dollars=True),
        charts.spend(points, dollars=False),
        charts.evidence(trial(min(count, 99))),
    ):
        assert svg.startswith("<svg ")
        assert not re.search(r"<svg [^>]*(width|height)=", svg)
        assert not re.search(r"\sstyle=|<style|<script|<image|\son\w+=", svg)
        colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg))
        assert {one for one in colours if not one.startswith("var(--")} <= {"none", "transparent"}
        assert len(svg) < 120_000


def test_the_same_numbers_are_the_same_bytes() -> None:
    points = [point(number) for number in range(30)]
    assert charts.scores(points) == charts.scores(points)


def test_the_best_score_begins_at_the_skill_as_it_was() -> None:
    """Else one experiment that lifts a skill from 40% to 90% would be a flat line at 90%."""
    svg = charts.scores([point(1, "kept", train=0.9), point(2)])
    assert "experiment (0: before the first)" in svg
    assert {"0", "1", "2"} <= set(numbers(svg))
    never = charts.scores([point(1, train=None)])
    assert "0" not in numbers(never)


def test_of_too_many_experiments_all_that_were_kept_are_drawn() -> None:
    points = [point(number, "kept" if number % 10 == 0 else "discarded") for number in range(2000)]
    drawn = charts.thinned(points)
    assert sum(one.outcome == "kept" for one in drawn) == 200
    assert sum(one.outcome == "discarded" for one in drawn) == charts.MOST
    assert [one.number for one in drawn] == sorted(one.number for one in drawn)
    assert {drawn[1].number, drawn[-1].number} == {1, 1999}


def test_one_that_was_never_tried_on_train_has_no_point() -> None:
    with_, without = ([point(1), point(2, train=train)] for train in (0.5, None))
    assert charts.scores(without).count("mark-symbol") <= charts.scores(with_).count("mark-symbol")
    assert len(charts.scores(without)) < len(charts.scores(with_))


def test_the_legend_names_what_is_there_and_nothing_else() -> None:
    svg = charts.scores([point(1, "kept"), point(2, "reverted")])
    assert ">kept<" in svg
    assert ">reverted<" in svg
    assert ">discarded<" not in svg


@pytest.mark.parametrize("count", [2, 3, 7])
def test_there_is_no_half_sweep_on_an_axis(count: int) -> None:
    found = numbers(charts.evidence(trial(count)))[: count + 1]
    assert found == [str(number) for number in range(count + 1)]


def test_evidence_beyond_all_need_can_be_drawn() -> None:
    """Log E has no bound, and odds are shown up to a billion."""
    sweeps = (Sweep(1, 900.0, None, None), Sweep(2, -900.0, None, None))
    assert "NaN" not in charts.evidence(Trial(TALLY, sweeps, 3.0))
