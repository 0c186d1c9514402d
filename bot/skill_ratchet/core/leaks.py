"""Does a candidate carry text of held-out cases that it cannot have learned from train?"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_ratchet.core import words
from skill_ratchet.core.records import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import JsonValue

    from skill_ratchet.core.records import Fixture, Proposal


def found(
    candidate: str, *, incumbent: str, train: Sequence[Fixture], holdout: Sequence[Fixture]
) -> tuple[str, ...]:
    """Held-out runs of words that the candidate has and neither the incumbent nor train has.

    A run is six words of a held-out input, context or expectation, or all of a shorter one (see
    ``core.words``). Full and half width, and ways of composing letters, make no difference.

    Returns:
        The runs, sorted. They are held-out text: for the holdout ref and the owner's terminal
        only.
    """
    return watch(train=train, holdout=holdout).found(candidate, known=[incumbent])


def written(
    proposal: Proposal,
    candidate: str | None,
    *,
    incumbent: str,
    train: Sequence[Fixture],
    holdout: Sequence[Fixture],
) -> tuple[str, ...]:
    """The same for all that a proposer wrote: the text it made, its reason and its edits.

    The reason is shown to people and to later proposers, also of an edit that does not apply.
    """
    known = watch(train=train, holdout=holdout)
    texts = (candidate or "", proposal.said)
    return tuple(sorted({run for text in texts for run in known.found(text, known=[incumbent])}))


@dataclass(frozen=True, slots=True)
class Watch:
    """Held-out runs of words that train does not have, to look for in many texts."""

    _sealed: frozenset[tuple[str, ...]]
    _first: frozenset[str]  # words that one of them begins with: most text has few of these
    _lengths: tuple[int, ...]

    def found(self, text: str, *, known: Iterable[str] = ()) -> tuple[str, ...]:
        """Those that ``text`` has and none of ``known`` has, sorted."""
        said = _words(text)
        starts = [start for start, word in enumerate(said) if word in self._first]
        every = {said[start : start + length] for start in starts for length in self._lengths}
        here = every & self._sealed
        leaked = here - words.windows(map(_words, known), self._lengths) if here else here
        return tuple(sorted(" ".join(run) for run in leaked))


def watch(
    *, train: Sequence[Fixture], holdout: Sequence[Fixture], also: Iterable[str] = ()
) -> Watch:
    """What to look for: held-out cases, and texts that are as sealed as they are."""
    texts = (*_texts(holdout), *also)
    sealed = {run for text in texts for run in words.runs(_words(text))}
    lengths = tuple(sorted({len(run) for run in sealed}))
    left = frozenset(sealed - words.windows(map(_words, _texts(train)), lengths))
    return Watch(left, frozenset(run[0] for run in left), lengths)


def _words(text: str) -> tuple[str, ...]:
    return words.words(unicodedata.normalize("NFKC", text))


def _texts(fixtures: Sequence[Fixture]) -> list[str]:
    texts: list[str] = []
    for fixture in fixtures:
        texts += [fixture.input_text, fixture.context or "", fixture.correction or ""]
        if not isinstance(fixture.input, str):
            texts += [message.content for message in fixture.input]
        texts += texts_of(fixture.expected)
    return texts


def texts_of(expected: JsonValue) -> list[str]:
    """What is expected, as JSON writes it, and every text in it."""
    return [canonical_json(expected), *strings(expected)]


def strings(value: JsonValue) -> list[str]:
    """Every text in a JSON value, but for the keys of objects."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in strings(part)]
