"""What waits to become fixtures, and what it comes to: corrections and fixtures in, files out.

The branch with new fixtures is derived, and nothing is remembered that the ledger does not say: a
batch is what the corrections on it come to on the fixtures of the base, each in its turn.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from skill_ratchet.core.golden import UNNAMED, Filed, Shelf, agree, name_of, side_of
from skill_ratchet.core.records import Correction, Fixture, Record, Settled

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from skill_ratchet.core.golden import Rules
    from skill_ratchet.core.records import Source, Split

OWN: Final[Mapping[Source, str]] = {
    "correction": "corrections.jsonl",
    "production": "imported.jsonl",
}


class Placed(NamedTuple):
    """A correction, and what became of it."""

    correction: Correction
    filed: Filed


class Batch(Record):
    """What one skill's waiting corrections come to.

    ``added`` are new cases, ``raised`` the bot's own with the count they are to have. ``taken``
    are the corrections behind both; ``conflicts`` contradict a case, ``full`` are over a cap.
    """

    skill: str
    added: tuple[Fixture, ...] = ()
    raised: tuple[Fixture, ...] = ()
    taken: tuple[Correction, ...] = ()
    conflicts: tuple[Correction, ...] = ()
    full: tuple[Correction, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.added and not self.raised


def waiting(
    corrections: Iterable[Correction], *, settled: Iterable[Settled]
) -> tuple[Correction, ...]:
    """The corrections that no pull request has brought to an end, oldest first."""
    done = {name for one in settled for name in one.corrections}
    return tuple(
        sorted((one for one in corrections if one.id not in done), key=lambda one: (one.at, one.id))
    )


def gather(
    skill: str,
    corrections: Sequence[Correction],
    *,
    settled: Sequence[Settled],
    existing: Sequence[Fixture],
    rules: Rules,
) -> Batch:
    """Find the place of each waiting correction among the fixtures of the base.

    A correction stays on the side it was recorded on, whatever is like it by now: what was kept
    with the train cases has been seen. The count of a case that is there already is raised to the
    number of corrections that say so, and never by more than have come in since.

    Args:
        skill: Whose.
        corrections: All that the ledger has.
        settled: What became of earlier pull requests.
        existing: The fixtures of the base, of every split.
        rules: How cases join them.
    """
    no = {name for one in settled if not one.merged for name in one.corrections}
    standing = [one for one in corrections if one.id not in no]
    placed = place(waiting(standing, settled=settled), existing=existing, rules=rules)
    before = {one.id: one for one in existing}
    added: dict[str, Fixture] = {}
    raised: dict[str, Fixture] = {}
    taken: list[Correction] = []
    for one, filed in placed:
        case = filed.case
        if filed.outcome == "new":
            case = case.with_(split=_side(one))
            added[case.id] = case
        elif filed.outcome == "counted" and case.id in added:
            case = added[case.id].with_(count=case.count)
            added[case.id] = case
        elif filed.outcome == "counted" and (more := _raised(case, before, standing)) is not None:
            raised[case.id] = more
        else:
            continue
        taken.append(one)
    return Batch(
        skill=skill,
        added=tuple(added.values()),
        raised=tuple(raised.values()),
        taken=tuple(taken),
        conflicts=_of(placed, "conflict"),
        full=_of(placed, "full"),
    )


def place(
    corrections: Iterable[Correction], *, existing: Sequence[Fixture], rules: Rules
) -> tuple[Placed, ...]:
    """What becomes of each correction, in its turn."""
    shelf = Shelf(existing, rules=rules)
    return tuple(Placed(one, shelf.put(case_of(one), side=_side(one))) for one in corrections)


def find_home(
    case: Fixture,
    *,
    after: Iterable[Correction],
    existing: Sequence[Fixture],
    rules: Rules,
) -> Filed:
    """The place of a case that nobody has brought before, when those before it have theirs.

    Also of one that is over a cap it is known where it would be.
    """
    shelf = Shelf(existing, rules=rules)
    for one in after:
        shelf.put(case_of(one), side=_side(one))
    filed = shelf.put(case)
    if filed.outcome != "full":
        return filed
    side = shelf.home(case) or side_of(case, ratio=rules.ratio)
    return filed.with_(case=case.with_(id=name_of(case), split=side))


def case_of(one: Correction) -> Fixture:
    """The case that a correction makes, not yet named. A held-out one never teaches anybody."""
    said = one.why if one.why is not None else _text(one)
    return Fixture(
        id=UNNAMED,
        split=_side(one),
        input=one.input,
        context=one.context,
        expected=one.expected,
        source="correction",
        correction=said if one.split == "train" else None,
        author=one.author,
        date=one.at[:10],
        link=one.link,
    )


def counts(batch: Batch) -> Counter[str]:
    """How many new cases there are on each side."""
    return Counter(one.split for one in batch.added)


def path_of(case: Fixture, *, folder: str) -> str:
    """The bot's file that a case is in, or is appended to; an authored one comes by an export."""
    return f"{folder}/{case.split}/{OWN.get(case.source, OWN['production'])}"


def own_paths(folder: str) -> frozenset[str]:
    """Every file that is the bot's, of one skill."""
    sides = ("train", "holdout")
    return frozenset(f"{folder}/{side}/{name}" for side in sides for name in OWN.values())


def by_file(cases: Iterable[Fixture], *, folder: str) -> dict[str, list[Fixture]]:
    """Cases by the path of their file."""
    files: dict[str, list[Fixture]] = defaultdict(list)
    for case in cases:
        files[path_of(case, folder=folder)].append(case)
    return files


def ids(text: str) -> frozenset[str]:
    """The ids in a text of JSONL; what cannot be read has none."""
    values = map(_object, _lines(text))
    return frozenset(str(value["id"]) for value in values if value and "id" in value)


def grown(before: str, after: str) -> bool:
    """Whether one text of JSONL became another by new lines at its end and raised counts alone."""
    old, new = _lines(before), _lines(after)
    return len(new) >= len(old) and all(
        was == now or _is_raised(was, now) for was, now in zip(old, new, strict=False)
    )


def with_counts(text: str, raised: Collection[Fixture]) -> str:
    """A text of JSONL in which these cases have the counts they bring; all else stays as it is."""
    wanted = {one.id: one.count for one in raised}
    # Not splitlines: JSON may have U+2028 as it is in a text.
    return "".join(_counted(line, wanted) for line in re.split(r"(?<=\n)", text) if line)


def _counted(line: str, wanted: Mapping[str, int]) -> str:
    value = _object(line)
    if value is None or value.get("id") not in wanted:
        return line
    value["count"] = wanted[value["id"]]
    return json.dumps(value, ensure_ascii=False) + "\n"


def _is_raised(was: str, now: str) -> bool:
    old, new = _object(was), _object(now)
    if old is None or new is None:
        return False
    less, more = old.pop("count", 1), new.pop("count", 1)
    return old == new and type(less) is type(more) is int and less < more


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _raised(
    case: Fixture, before: Mapping[str, Fixture], standing: Iterable[Correction]
) -> Fixture | None:
    """The case with its new count; None where that is no other, as for people's own cases."""
    there = before[case.id]
    known = sum(one.fixture == case.id and agree(case_of(one), case) for one in standing)
    count = max(there.count, min(case.count, known))
    return there.with_(count=count) if count > there.count else None


def _of(placed: Iterable[Placed], outcome: str) -> tuple[Correction, ...]:
    return tuple(one for one, filed in placed if filed.outcome == outcome)


def _side(one: Correction) -> Split:
    """Its side as a new case: what was kept beside the vault's is held out, too."""
    return "train" if one.split == "train" else "holdout"


def _text(one: Correction) -> str | None:
    return one.expected if isinstance(one.expected, str) else None
