"""Text in columns of a terminal: cells measured, wrapped or cut to a width. Prints nothing.

Rich draws the same, but commands that look back would wait longer for its import than for all
that they read; of it only the measuring of characters is used.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells, set_cell_size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

TAB = 8


def lines(
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    gap: int = 2,
    right: Collection[int] = (),
    wraps: Collection[int] | None = None,
    cut: int | None = None,
    ellipsis: str = "…",
) -> Iterator[list[str]]:
    """Each line of each row as its cells, as wide as their columns and with the gaps between.

    Args:
        rows: The cells; each row has as many.
        width: What a line has at most.
        gap: Columns of the terminal between two cells.
        right: Columns that end at the right.
        wraps: Columns that give up their room when a line is too long, and are wrapped; None for
            all. The others do so last, and what does not fit in them is lost.
        cut: A column that gives up its room, but is cut to one line that ends with ``ellipsis``.
        ellipsis: One character that says that something was cut.
    """
    columns = range(len(rows[0]))
    wrapped = set(columns if wraps is None else wraps) - {cut}
    widths = _widths(rows, width=width, gap=gap, giving=wrapped | {cut})
    for row in rows:
        cells = []
        for column in columns:
            if column in wrapped:
                cells.append(wrap(row[column], widths[column]))
            else:
                mark = ellipsis if column == cut else ""
                cells.append([_cut(one, widths[column], mark) for one in row[column].split("\n")])
        for number in range(max(map(len, cells))):
            line = [cells[column][number : number + 1] or [""] for column in columns]
            yield [
                _padded(cell, widths[column], right=column in right) + " " * gap
                for column, [cell] in enumerate(line)
            ]


def wrap(text: str, width: int) -> list[str]:
    """The lines of a text, broken between words; a word that is too long is broken, too."""
    found: list[str] = []
    for whole in text.expandtabs(TAB).split("\n"):
        line = ""
        for word in re.findall(r"\s*\S+\s*", whole):
            if cell_len(line + word.rstrip()) <= width:
                line += word
                continue
            if line:
                found.append(line.rstrip())
            *full, line = chop_cells(word, width) if cell_len(word.rstrip()) > width else [word]
            found += full
        found.append(line.rstrip())
    return found


def _widths(
    rows: Sequence[Sequence[str]], *, width: int, gap: int, giving: Collection[int | None]
) -> list[int]:
    """What each column gets: what it needs, and less of the widest ones when that is too much."""
    last = len(rows[0]) - 1
    room = width - gap * last
    widths = [
        max(min(cell_len(line), room) for cell in cells for line in cell.split("\n"))
        for cells in zip(*rows, strict=True)
    ]
    while sum(widths) > room and max(widths) > 1:
        able = [column for column, has in enumerate(widths) if column in giving and has > 1]
        widest = max(able or range(len(widths)), key=lambda one: widths[one] + gap * (one < last))
        widths[widest] -= 1
    return widths


def _cut(text: str, width: int, mark: str) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - cell_len(mark)) + mark


def _padded(text: str, width: int, *, right: bool) -> str:
    missing = " " * (width - cell_len(text))
    return missing + text if right else text + missing
