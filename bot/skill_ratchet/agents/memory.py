"""Whether a change is nearly one that was tried before."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")
NEAR = 90.0  # percent of rapidfuzz's normalised Indel similarity
_MARKER = re.compile(r"\s*(?:(?:[-*+]|\d+[.)])\s+)*")


class _Change(NamedTuple):
    """The words a change adds and those it takes out."""

    added: str
    removed: str


def nearest(change: str, tried: Iterable[tuple[T, str]], *, near: float = NEAR) -> T | None:
    """The earlier change most like ``change``, if one is near enough; the latest of equals.

    Compared are the words that come in, and the words that go, without case, white space and
    list markers: the same rule in another place counts as the same, and of a long line that is
    replaced only what is new in it counts.

    Args:
        change: A unified diff.
        tried: Earlier ones, each with what it belongs to, oldest first.
        near: Least similarity of both, in percent.
    """
    from rapidfuzz import fuzz  # noqa: PLC0415 - heavy

    wanted = _words(change)
    best, found = near, None
    for name, diff in tried:
        other = _words(diff)
        alike = min(map(fuzz.ratio, wanted, other)) if any(other) else -1.0
        if alike >= best:
            best, found = alike, name
    return found if any(wanted) else None


@lru_cache(maxsize=1000)  # of each experiment again for every proposal
def _words(diff: str) -> _Change:
    plus, minus = (
        sorted(
            _MARKER.sub("", line[1:], count=1).casefold()
            for line in diff.splitlines()[2:]  # the first two name the files
            if line.startswith(sign)
        )
        for sign in "+-"
    )
    new, old = (" ".join(lines).split() for lines in (_without(plus, minus), _without(minus, plus)))
    return _Change(" ".join(_without(new, old)), " ".join(_without(old, new)))


def _without(texts: list[str], others: list[str]) -> list[str]:
    """The texts in order, less those that are among the others, each as often as it is there."""
    left = Counter(others)
    kept = []
    for text in texts:
        if left[text]:
            left[text] -= 1
        else:
            kept.append(text)
    return kept
