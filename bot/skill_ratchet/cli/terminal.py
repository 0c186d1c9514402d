"""What people see at the end of a command: words and tables. Decides nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from skill_ratchet.cli import error_handler
from skill_ratchet.core import wording
from skill_ratchet.report import graph, sparklines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def console(*, stderr: bool = False) -> Console:
    """A console of at most 80 columns; colour only on a terminal and without NO_COLOR."""
    made = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=False)
    made.width = min(made.width, wording.WIDTH)
    return made


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
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, name in enumerate(header):
        made.add_column(
            name,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=rest not in (None, column),
        )
    shown = _shower()
    for row in rows:
        cells = [RichText(shown(cell)) for cell in row]
        if rest is not None:
            cells[rest].no_wrap, cells[rest].overflow = True, "ellipsis"
        made.add_row(*cells)
    _print(made)


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values on stdout, a value's further lines below its first."""
    made = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(RichText(_shown(name), style="bold"), RichText(_shown(value)))
    _print(made)


def _print(made: Table) -> None:
    """A table without the spaces at the ends of its lines."""
    target = console()
    with target.capture() as capture:
        target.print(made)
    drawn = capture.get().translate(_ASCII) if plain() else capture.get()
    for line in drawn.splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")


def say(text: str) -> None:
    """Print text on stdout, wrapped at the width, data never markup."""
    console().print(RichText(_shown(text)))


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
