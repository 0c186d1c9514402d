"""Two texts side by side: which lines are the same, and which words of the others changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTEXT = 3  # lines that are the same, shown around a change
LONGEST = 400  # words of a line; longer ones are not compared word by word
ALIKE = 0.3  # of two lines, for their words to be compared

_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a line; ``changed`` parts are what differs within it."""

    text: str
    changed: bool


@dataclass(frozen=True, slots=True)
class DiffRow:
    """A row; ``left`` and ``right`` are line numbers from 1. A gap is ``gap`` equal lines."""

    kind: Literal["same", "changed", "removed", "added", "gap"]
    left: int | None = None
    right: int | None = None
    old: tuple[Piece, ...] = ()
    new: tuple[Piece, ...] = ()
    gap: int = 0


def rows(old: str, new: str, *, context: int = CONTEXT) -> tuple[DiffRow, ...]:
    """The rows of a side-by-side view; none for two texts that are the same."""
    before, after = (text.removesuffix("\n").split("\n") for text in (old, new))
    groups = SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(context)
    made: list[DiffRow] = []
    seen = 0
    for group in groups:
        start = group[0][1]
        if start > seen:
            made.append(DiffRow("gap", gap=start - seen))
        for tag, i, i_end, j, j_end in group:
            made += _block(tag, before[i:i_end], after[j:j_end], left=i + 1, right=j + 1)
        seen = group[-1][2]
    if made and seen < len(before):
        made.append(DiffRow("gap", gap=len(before) - seen))
    return tuple(made)


def _block(
    tag: str, old: Sequence[str], new: Sequence[str], *, left: int, right: int
) -> Iterator[DiffRow]:
    """The rows of one run of lines; what replaces each other is paired in order."""
    for row in range(max(len(old), len(new))):
        here = old[row] if row < len(old) else None
        there = new[row] if row < len(new) else None
        if here is not None and there is not None:
            kind: Literal["same", "changed"] = "same" if tag == "equal" else "changed"
            first, second = _words(here, there) if kind == "changed" else (_whole(here),) * 2
            yield DiffRow(kind, left + row, right + row, first, second)
        elif here is not None:
            yield DiffRow("removed", left=left + row, old=_whole(here))
        elif there is not None:
            yield DiffRow("added", right=right + row, new=_whole(there))


def _whole(text: str) -> tuple[Piece, ...]:
    return (Piece(text, changed=False),)


def _words(old: str, new: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both lines with the words marked that differ; unmarked when they have little in common."""
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    if max(len(before), len(after)) > LONGEST:
        return _whole(old), _whole(new)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    if matcher.ratio() < ALIKE:
        return _whole(old), _whole(new)
    first, second = [], []
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        changed = tag != "equal"
        if i < i_end:
            first.append(Piece("".join(before[i:i_end]), changed=changed))
        if j < j_end:
            second.append(Piece("".join(after[j:j_end]), changed=changed))
    return tuple(first), tuple(second)
