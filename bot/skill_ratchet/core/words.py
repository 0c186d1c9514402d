"""Texts as words, to find some words in a row of one text in another, in any script.

Scripts that put no spaces between words are taken character by character; it takes some of those
to say as much as a word does.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

RUN: Final = 6  # words in a row that are hardly shared by chance
SHORTEST: Final = 3  # words; a whole text shorter than that says nothing

_HAN: Final = (
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_THAI: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # and Lao, Burmese, Khmer
_WORD: Final = rf"[^\W_{_HAN}{_THAI}]+|[{_HAN}]|[{_THAI}]"  # compiled when it is first used
_BY_TWOS, _BY_FOURS = f"[{_HAN}]", f"[{_THAI}]"
_PARTS: Final = 4  # of a word; what a character says is counted in these


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


class Word(NamedTuple):
    """A word, folded, and where it stands in its text."""

    text: str
    begin: int
    end: int


def spans(text: str) -> list[Word]:
    """The words of a text in their order; what is between them does not count."""
    return [Word(one[0].casefold(), *one.span()) for one in _pattern(_WORD).finditer(text)]


def words(text: str) -> tuple[str, ...]:
    """The same without their places."""
    return tuple(word.casefold() for word in _pattern(_WORD).findall(text))


def says(found: Sequence[str]) -> float:
    """How many words that is worth."""
    return sum(map(_parts, found)) / _PARTS


def runs(found: Sequence[str]) -> set[tuple[str, ...]]:
    """Each ``RUN`` words in a row, from wherever they begin; all of a shorter text.

    None of a text that is shorter than ``SHORTEST``.
    """
    made: set[tuple[str, ...]] = set()
    held, end = 0, 0
    for begin in range(len(found)):
        while end < len(found) and held < RUN * _PARTS:
            held += _parts(found[end])
            end += 1
        if held < RUN * _PARTS:
            whole = begin == 0 and held >= SHORTEST * _PARTS
            return {tuple(found)} if whole else made
        made.add(tuple(found[begin:end]))
        held -= _parts(found[begin])
    return made


def windows(texts: Iterable[Sequence[str]], lengths: Collection[int]) -> set[tuple[str, ...]]:
    """All runs of some lengths, each in words or characters as they are counted there."""
    return {
        tuple(found[begin : begin + length])
        for found in texts
        for length in lengths
        for begin in range(len(found) - length + 1)
    }


def _parts(word: str) -> int:
    if _pattern(_BY_TWOS).match(word):
        return _PARTS // 2
    return 1 if _pattern(_BY_FOURS).match(word) else _PARTS
