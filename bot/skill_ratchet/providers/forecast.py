"""What calls will use, before they are made: from their length, and from calls like them before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING

from skill_ratchet.core.records import Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

TOKENS_PER_BYTE = 1 / 4  # of English, where nothing better is known
LIFE = 300.0  # seconds that a prefix stays in the cache unread
FEWEST_CACHED = 1024  # tokens; no model caches a shorter prefix
OUTPUT = 100  # tokens of an answer, where nothing is known


@dataclass(frozen=True, slots=True)
class Size:
    """A call in bytes: what it shares with others, which has a name, and the rest."""

    prefix: int
    rest: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Rates:
    """How bytes become tokens."""

    tokens_per_byte: float = TOKENS_PER_BYTE
    output: float = OUTPUT  # tokens of an answer


def rates(seen: Sequence[tuple[Size, Usage]]) -> Rates:
    """What calls that were answered say of the next ones; the usual where there are none."""
    size = sum(one.prefix + one.rest for one, _ in seen)
    taken = sum(used.total - used.output_tokens for _, used in seen)
    if not size or not taken:
        return Rates()
    return Rates(taken / size, fsum(used.output_tokens for _, used in seen) / len(seen))


def usage(
    sizes: Sequence[Size],
    *,
    by: Rates,
    at_once: int,
    cache: bool,
    warm: Collection[str] = (),
) -> list[Usage]:
    """What each call will use, in the order in which they begin.

    A prefix that is long enough is written to the cache by the calls that begin before the first
    of them is answered, and read from it by the others. Calls with different prefixes take turns.
    ``warm`` are the names of those that are in the cache already.
    """
    writers = max(1, at_once // max(1, len({size.name for size in sizes})))
    begun: Counter[str] = Counter()
    used = []
    for size in sizes:
        first = size.name not in warm and begun[size.name] < writers
        used.append(_usage(size, by=by, cache=cache, first=first))
        begun[size.name] += 1
    return used


def _usage(size: Size, *, by: Rates, cache: bool, first: bool) -> Usage:
    prefix = round(size.prefix * by.tokens_per_byte)
    rest = round(size.rest * by.tokens_per_byte)
    cached = cache and prefix >= FEWEST_CACHED
    return Usage(
        input_tokens=rest if cached else prefix + rest,
        cache_write_tokens=prefix if cached and first else 0,
        cache_read_tokens=prefix if cached and not first else 0,
        output_tokens=round(by.output),
    )
