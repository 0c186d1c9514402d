"""The experiments as a line of accepted versions with what was tried beside it.

Pure: states in, a few characters for each out. What is said by a mark is said by its shape, so it
is the same without colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["merged", "reverted", "held", "rejected", "open"]
KINDS: Final[tuple[Kind, ...]] = ("merged", "rejected", "held", "open", "reverted")
WORDS: Final[dict[Kind, str]] = {
    "merged": "merged",
    "rejected": "rejected",
    "held": "on hold",
    "open": "under way",
    "reverted": "reverted",
}


@dataclass(frozen=True, slots=True)
class Style:
    """The characters of a graph, each one column wide."""

    marks: dict[Kind, str]
    first: str  # of a branch above everything, beside something, below everything
    beside: str
    last: str
    dash: str


UNICODE: Final = Style(
    {"merged": "●", "rejected": "○", "held": "◐", "open": "…", "reverted": "⊘"},
    first="┌",
    beside="├",
    last="└",
    dash="─",
)
ASCII: Final = Style(
    {"merged": "*", "rejected": "o", "held": "?", "open": ".", "reverted": "/"},
    first=",",
    beside="|",
    last="`",
    dash="-",
)
WIDTH: Final = 3  # columns


def kind(action: str | None, *, reverted: bool) -> Kind:
    """What an experiment is in the graph; ``action`` is its result's, None without one."""
    if reverted:
        return "reverted"
    known: dict[str | None, Kind] = {"merge": "merged", "hold": "held", "reject": "rejected"}
    return known.get(action, "open")


def draw(kinds: Sequence[Kind], *, style: Style, whole: bool) -> list[str]:
    """The graph's part of each row, newest first, ``WIDTH`` columns each.

    An accepted version is a node of the trunk, also when it was taken out later; everything else
    hangs off it.

    Args:
        kinds: Of the rows, newest first.
        style: The characters.
        whole: The last row is the first experiment; otherwise the trunk goes on below it.
    """
    rows = []
    for at, one in enumerate(kinds):
        mark = style.marks[one]
        if one in ("merged", "reverted"):
            rows.append(f"{mark:<{WIDTH}}")
            continue
        above, below = at > 0, at < len(kinds) - 1 or not whole
        turns = {
            (False, False): style.dash,
            (False, True): style.first,
            (True, False): style.last,
            (True, True): style.beside,
        }
        turn = turns[above, below]
        rows.append(f"{turn}{style.dash}{mark}")
    return rows


def legend(kinds: Sequence[Kind], *, style: Style) -> str:
    """What the marks mean that occur, in one line."""
    return "  ".join(f"{style.marks[one]} {WORDS[one]}" for one in KINDS if one in kinds)
