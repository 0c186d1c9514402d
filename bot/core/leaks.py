"""Does a candidate carry text of held-out cases that it cannot have learned from train?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.core.records import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import JsonValue

    from bot.core.records import Fixture

WORDS = 6  # words in a row that are hardly shared by chance
SHORTEST = 3  # words; a whole case shorter than that says nothing
_LENGTHS = range(SHORTEST, WORDS + 1)

_WORD = re.compile(r"[^\W_]+", re.UNICODE)


def found(
    candidate: str, *, incumbent: str, train: Sequence[Fixture], holdout: Sequence[Fixture]
) -> tuple[str, ...]:
    """Held-out runs of words that the candidate has and neither the incumbent nor train has.

    A run is ``WORDS`` words of a held-out input, context or expectation, or all of a shorter one.

    Returns:
        The runs, sorted. They are held-out text: for the holdout ref and the owner's terminal
        only.
    """
    return watch(train=train, holdout=holdout).found(candidate, known=[incumbent])


@dataclass(frozen=True, slots=True)
class Watch:
    """Held-out runs of words that train does not have, to look for in many texts."""

    _sealed: frozenset[tuple[str, ...]]
    _first: frozenset[str]  # words that one of them begins with: most text has few of these

    def found(self, text: str, *, known: Iterable[str] = ()) -> tuple[str, ...]:
        """Those that ``text`` has and none of ``known`` has, sorted."""
        words = _words(text)
        starts = [start for start, word in enumerate(words) if word in self._first]
        every = {words[start : start + length] for start in starts for length in _LENGTHS}
        here = every & self._sealed
        leaked = here - _grams(known, _LENGTHS) if here else here
        return tuple(sorted(" ".join(gram) for gram in leaked))


def watch(*, train: Sequence[Fixture], holdout: Sequence[Fixture]) -> Watch:
    """What to look for."""
    sealed = {gram for text in _texts(holdout) for gram in _runs(text)}
    left = frozenset(sealed - _grams(_texts(train), _LENGTHS))
    return Watch(left, frozenset(gram[0] for gram in left))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _words(text)
    length = min(WORDS, len(words))
    return _windows(words, length) if length >= SHORTEST else set()


def _grams(texts: Iterable[str], lengths: range) -> set[tuple[str, ...]]:
    return {
        gram
        for words in map(_words, texts)
        for length in lengths
        for gram in _windows(words, length)
    }


def _windows(words: tuple[str, ...], length: int) -> set[tuple[str, ...]]:
    return {words[start : start + length] for start in range(len(words) - length + 1)}


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))


def _texts(fixtures: Sequence[Fixture]) -> list[str]:
    texts: list[str] = []
    for fixture in fixtures:
        texts += [fixture.input_text, fixture.context or "", fixture.correction or ""]
        if not isinstance(fixture.input, str):
            texts += [message.content for message in fixture.input]
        texts += [canonical_json(fixture.expected), *strings(fixture.expected)]
    return texts


def strings(value: JsonValue) -> list[str]:
    """Every text in a JSON value, but for the keys of objects."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in strings(part)]
