"""The graph of experiments: which mark each has, and what joins them."""

from __future__ import annotations

from itertools import product

import pytest
from rich.cells import cell_len

from skill_ratchet.report import graph
from skill_ratchet.report.graph import ASCII, KINDS, UNICODE, Kind

STYLES = {"unicode": UNICODE, "ascii": ASCII}


@pytest.mark.parametrize(
    ("action", "reverted", "kind"),
    [
        ("merge", False, "merged"),
        ("merge", True, "reverted"),
        ("hold", False, "held"),
        ("reject", False, "rejected"),
        (None, False, "open"),
        ("something newer", False, "open"),  # what is not known is not taken for a merge
    ],
)
def test_kind(action: str | None, kind: Kind, *, reverted: bool) -> None:
    assert graph.kind(action, reverted=reverted) == kind


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_marks_differ_in_shape(style: graph.Style) -> None:
    """Nothing is told by colour alone."""
    assert set(style.marks) == set(KINDS)
    assert len(set(style.marks.values())) == len(KINDS)
    lines = {style.first, style.beside, style.last, style.dash}
    assert lines.isdisjoint(style.marks.values())


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_every_row_is_as_wide(style: graph.Style) -> None:
    for kinds in product(KINDS, repeat=3):
        for whole in (True, False):
            rows = graph.draw(kinds, style=style, whole=whole)
            assert {cell_len(row) for row in rows} == {graph.WIDTH}


def test_ascii_is_ascii() -> None:
    assert "".join(graph.draw(KINDS, style=ASCII, whole=True)).isascii()
    assert graph.legend(KINDS, style=ASCII).isascii()


@pytest.mark.parametrize(
    ("kinds", "whole", "drawn"),
    [
        ([], True, []),
        (["merged"], True, ["●  "]),
        (["rejected"], True, ["──○"]),  # nothing above, nothing below
        (["rejected"], False, ["┌─○"]),
        (["open", "merged"], True, ["┌─…", "●  "]),
        (["merged", "rejected"], True, ["●  ", "└─○"]),
        (["merged", "rejected"], False, ["●  ", "├─○"]),
        (["held", "rejected", "reverted", "rejected"], True, ["┌─◐", "├─○", "⊘  ", "└─○"]),
    ],
)
def test_draw(kinds: list[Kind], drawn: list[str], *, whole: bool) -> None:
    assert graph.draw(kinds, style=UNICODE, whole=whole) == drawn


def test_the_legend_names_what_is_there_and_nothing_else() -> None:
    assert graph.legend(["rejected", "merged", "rejected"], style=UNICODE) == (
        "● merged  ○ rejected"
    )
