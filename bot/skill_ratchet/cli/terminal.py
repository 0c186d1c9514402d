"""What people see at the end of a command: words and tables. Decides nothing."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

from skill_ratchet.cli import columns, error_handler
from skill_ratchet.core import wording
from skill_ratchet.report import graph, sparklines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


clean = error_handler.clean
MOST_ROWS: Final = 40  # of a table of cases; the others are counted or named


def plain() -> bool:
    """Whether only ASCII is safe: a terminal that is none, or an encoding without our marks."""
    return os.environ.get("TERM") == "dumb" or not _encodable(sparklines.BLOCKS + "●○◐⊘├→…")


def _encodable(text: str) -> bool:
    try:
        text.encode(_encoding())
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"  # a text buffer takes everything


def style() -> graph.Style:
    """The marks of experiments that can be shown here."""
    return graph.ASCII if plain() else graph.UNICODE


def sparks() -> str:
    """The marks of a line of values that can be shown here."""
    return sparklines.DIGITS if plain() else sparklines.BLOCKS


_ASCII: Final = {
    ord("\N{RIGHTWARDS ARROW}"): "->",
    ord("\N{MIDDLE DOT}"): "-",
    ord("\N{HORIZONTAL ELLIPSIS}"): "~",  # as wide: it also ends a cell that was cut
}


def _shown(text: str) -> str:
    """Words of ours and of others as this terminal can show them; a ``?`` is what it cannot."""
    return _shower()(text)


def _shower() -> Callable[[str], str]:
    """``_shown`` for many texts."""
    cleaned, encoding = error_handler.cleaner(), _encoding()
    if not plain():
        return cleaned
    return lambda text: cleaned(text).translate(_ASCII).encode(encoding, "replace").decode(encoding)


def _fitting(text: str) -> str:
    """What stdout cannot encode is spelt out, so that nothing is lost and nothing fails."""
    if _encodable(text):
        return text
    return text.encode(_encoding(), "backslashreplace").decode(_encoding())


def table(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str],
    right: Sequence[int] = (),
    rest: int | None = None,
) -> None:
    """Print a table on stdout; the cells are data, never markup.

    Args:
        rows: The cells.
        header: The columns' names.
        right: Columns of numbers.
        rest: The column that has the room the others leave, its cells cut to one line; without it
            cells that are too long are wrapped.
    """
    shown = _shower()
    cells = [[shown(cell) for cell in row] for row in (header, *rows)]
    drawn = columns.lines(
        cells,
        width=width(),
        right=right,
        wraps=() if rest is not None else None,
        cut=rest,
        ellipsis="~" if plain() else "…",
    )
    first, *others = ("".join(line).rstrip() for line in drawn)
    _print([_heading(first), *others])


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values on stdout, a value's further lines below its first."""
    shown = _shower()
    cells = [(shown(name), shown(value)) for name, value in pairs]
    drawn = columns.lines(cells, width=width(), gap=1, wraps=(1,))
    _print([f"{_heading(name)}{value}".rstrip() for name, value in drawn])


def width() -> int:
    """Columns of a line: what the terminal has, 80 at most."""
    said = os.environ.get("COLUMNS", "")
    if said.isdigit() and int(said):
        return min(int(said), wording.WIDTH)
    for stream in (0, 2, 1):  # wherever there is a terminal
        with contextlib.suppress(OSError):
            return min(os.get_terminal_size(stream).columns or wording.WIDTH, wording.WIDTH)
    return wording.WIDTH


def _heading(text: str) -> str:
    """Bold, where that can be shown."""
    able = sys.stdout.isatty() and os.environ.get("TERM") not in (None, "dumb", "unknown")
    return f"\x1b[1m{text}\x1b[0m" if able and text.strip() else text


def _print(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def say(text: str) -> None:
    """Print text on stdout, wrapped at the width, data never markup."""
    _print(columns.wrap(_shown(text), width()))


def raw(text: str) -> None:
    """Print text on stdout as it is but for control characters: diffs, JSON, traces."""
    sys.stdout.write(_whole(text))


def paged(text: str) -> None:
    """The same through the user's pager (``PAGER``), where stdout is a terminal."""
    import click

    click.echo_via_pager(_whole(text)) if sys.stdout.isatty() else raw(text)


def _whole(text: str) -> str:
    shown = _fitting(clean(text))
    return shown if shown.endswith("\n") else f"{shown}\n"
