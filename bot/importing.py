"""Turns rows of a file (a log, a labelled data set, another tool's tests) into fixtures.

Rows are streamed, and cases wait on disk; what is kept is decided by content alone, so the same
file gives the same fixtures in any order, and a case never changes sides. The formats are in
`bot.formats`. Documented in docs/fixtures.md.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bot import formats, strict
from bot.candidates import Candidates
from bot.core.records import Fixture, Source, Split, canonical_json, digest
from bot.errors import RatchetError
from bot.fixtures import SPLITS, CaseError, build, dump_jsonl, input_digest
from bot.formats import Notes
from bot.strict import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from bot.formats import Kind, Row

# What a column may be called to be taken unasked. An id column is not: a log's row number makes
# a poor name, and a name out of the content makes a second import harmless.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": formats.INPUTS,
    "expected": ("expected", "label", "output", "answer", "category", "intent"),
}
OPTIONAL: Final = ("context", "correction", "cluster", "tags")
KEYS: Final = (*COLUMNS, *OPTIONAL, "id")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found.

    ``fixtures`` are the new ones, ordered by split and id. ``duplicates`` counts rows that
    repeat an input with the same expectation, ``already`` the cases that are fixtures already.
    ``conflicts`` says (``path:line: ...``) which were left out because the same input has two
    expectations, ``skipped`` which because their row is broken, and ``left_out`` which because
    a fixture cannot say what they say.
    """

    fixtures: tuple[Fixture, ...]
    duplicates: int
    conflicts: tuple[str, ...]
    skipped: tuple[str, ...]
    already: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """A file's new cases, and the fixtures that the others are, by the digest of their input."""

    new: Candidates
    known: dict[str, Fixture]
    duplicates: int
    conflicts: tuple[str, ...]


def _unchanged(text: str) -> str:
    return text


def import_rows(
    lines: Iterable[str],
    *,
    kind: Kind,
    columns: Mapping[str, str],
    path: str = "rows",
    source: Source = "production",
    ratio: float = 0.5,
    sizes: Mapping[Split, int] | None = None,
    labels: Collection[str] = (),
    limit: int | None = None,
    existing: Collection[Fixture] = (),
    corrections: bool | None = None,
    skip_broken: bool = False,
    redact: Callable[[str], str] = _unchanged,
) -> Imported:
    """Fixtures out of the rows of a file.

    Args:
        lines: With their line ends; a surrogate-escaped byte in one makes a broken row.
        kind: How the lines are written.
        columns: Column by fixture key; '' for none. The rest is guessed from COLUMNS.
        path: What to call the file in messages.
        source: Where the cases come from.
        ratio: Share of the cases, in [0, 1], that goes to train; the rest goes to holdout.
        sizes: Instead, how many of the file's cases each split is to have in the end.
        labels: Keep only rows that expect one of these.
        limit: Keep at most this many new cases, each label as often as the others.
        existing: All fixtures there are already, of every split. They win.
        corrections: Train cases without a correction get their expected text as one; None for
            what fits the format (tables only: there it is a person's label).
        skip_broken: Leave broken rows out instead of refusing the file.
        redact: Takes secrets out of a text.

    Raises:
        RatchetError: A column or label that is not there, a broken row, or too few for ``sizes``.
    """
    _refuse_unfit(kind, columns=columns, sizes=sizes)
    notes = Notes(path)
    rows = formats.rows(lines, kind=kind, columns=columns, notes=notes)
    cases = _cases(rows, kind=kind, columns=columns, source=source, notes=notes, redact=redact)
    wanted = _labelled(cases, labels=labels, path=path)
    with Candidates() as new:
        found = _compared(wanted, new, existing=existing, notes=notes)
        if notes.broken and not skip_broken:
            raise strict.report(notes.broken, hint="Leave broken rows out with --skip-broken.")
        own = kind == "fixtures"
        chosen = list(
            _placed(found, ratio=None if own else ratio, sizes=sizes, limit=limit, path=path)
        )
    teach = kind in formats.TABLES if corrections is None else corrections
    fixtures = (_taught(one) if teach else one for one in chosen)
    return Imported(
        fixtures=tuple(sorted(fixtures, key=lambda one: (SPLITS.index(one.split), one.id))),
        duplicates=found.duplicates,
        conflicts=found.conflicts,
        skipped=tuple(str(problem) for problem in sorted(notes.broken)),
        already=len(found.known),
        left_out=_listed(map(str, notes.left_out), more=notes.unlisted),
    )


def _refuse_unfit(
    kind: Kind, *, columns: Mapping[str, str], sizes: Mapping[Split, int] | None
) -> None:
    """Refuse what makes no sense for a format, instead of ignoring it."""
    if kind == "fixtures" and sizes is not None:
        raise RatchetError("--train and --holdout are for files that do not say which side it is.")
    if kind in formats.TABLES or kind == "promptfoo":
        return
    for key, name in columns.items():
        if name:
            raise RatchetError(
                f"'{name}' cannot be the column for '{key}': the format {kind} has no columns.",
                hint="--expected '' leaves the recorded answers out.",
            )


def _listed(texts: Iterable[str], *, more: int = 0) -> tuple[str, ...]:
    """The first of them, and how many there are besides."""
    rest = iter(texts)
    first = tuple(itertools.islice(rest, formats.LISTED))
    more += sum(1 for _ in rest)
    return (*first, f"and {more:,} more") if more else first


def merge_jsonl(existing_text: str, new: Iterable[Fixture]) -> str:
    """A JSONL file's text with fixtures appended; what stands there is not touched."""
    gap = "\n" if existing_text and not existing_text.endswith("\n") else ""
    added = dump_jsonl(new)
    return existing_text + gap + added if added else existing_text


def _columns(asked: Mapping[str, str], *, names: Collection[str], path: str) -> dict[str, str]:
    """The column of each fixture key, asked for or guessed."""
    for key in asked:
        if key not in KEYS:
            raise RatchetError(f"'{key}' cannot be imported{strict.suggestion(key, KEYS)}")
    guessed = {key: _guess(key, names=names, path=path) for key in COLUMNS if key not in asked}
    chosen = {key: key for key in OPTIONAL} | guessed | dict(asked)
    for key, name in chosen.items():
        if name and name not in names and key in COLUMNS:
            raise RatchetError(f"{path}: no column '{name}'{strict.suggestion(name, names)}")
    return {key: name for key, name in chosen.items() if name}


def _guess(key: str, *, names: Collection[str], path: str) -> str:
    fitting = [name for name in names if name.casefold() in COLUMNS[key]]
    if len(fitting) == 1:
        return fitting[0]
    trouble = f"may be any of {', '.join(fitting)}" if fitting else "is not to be guessed"
    raise RatchetError(
        f"{path}: the column for '{key}' {trouble}; columns found: {', '.join(names)}",
        hint=f"Name it: --{key} COLUMN (or --expected '' when nothing is expected).",
    )


def _cases(
    rows: Iterable[Row],
    *,
    kind: Kind,
    columns: Mapping[str, str],
    source: Source,
    notes: Notes,
    redact: Callable[[str], str],
) -> Iterator[tuple[int, Fixture]]:
    chosen: dict[str, str] = {}
    unseen = {name for name in columns.values() if name}
    for line, cells in rows:
        if kind in formats.TABLES:
            chosen = chosen or _columns(columns, names=cells, path=notes.path)
            unseen -= cells.keys()
            picked = {key: cells.get(name) for key, name in chosen.items()}
        else:
            unseen = set()
            picked = {key: cell for key, cell in cells.items() if columns.get(key) != ""}
        if kind in {"otel", "messages"} and columns.get("expected") != "":
            picked.setdefault("expected", None)
        try:
            clean = _redacted(picked, redact)
            yield line, _exported(clean) if kind == "fixtures" else _case(clean, source=source)
        except CaseError as error:
            for _, text in error.faults:
                notes.fault(line, text)
    if chosen and unseen:
        raise RatchetError(f"{notes.path}: no row has a column '{min(unseen)}'")


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """A JSON value with every text in it redacted; the names of keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_redacted(one, redact) for one in value]
    if isinstance(value, dict):
        return {key: _redacted(one, redact) for key, one in value.items()}
    return value


def _exported(cells: dict[str, Any]) -> Fixture:
    """A fixture that 'ratchet export' wrote, on the side it says."""
    side = cells.get("split")
    if side not in SPLITS:
        raise CaseError([("split", f"'split' must be one of {', '.join(SPLITS)}")])
    return build({key: cell for key, cell in cells.items() if key != "split"}, split=side)


def _case(cells: dict[str, Any], *, source: Source) -> Fixture:
    """The case of a row, not yet on a side: holdout, until it is known to be train."""
    values = {key: given for key, given in cells.items() if given not in (None, "")}
    if "expected" in cells and "expected" not in values:
        raise CaseError([("expected", "'expected' is missing")])
    if isinstance(tags := values.get("tags"), str):
        values["tags"] = [tag.strip() for tag in re.split("[,;]", tags) if tag.strip()]
    case = build({"id": "case", **values, "source": source}, split="holdout")
    named: Fixture = case if "id" in values else case.with_(id=_name(case))
    return named


def _name(case: Fixture) -> str:
    expected = case.expected if isinstance(case.expected, str) else ""
    slug = re.sub(r"[^a-z0-9_]+", "-", expected.casefold()).strip("-_")[:40].strip("-_")
    return f"{slug or 'case'}-{input_digest(case)[:10]}"


def _label(case: Fixture) -> str:
    return case.expected if isinstance(case.expected, str) else canonical_json(case.expected)


def _group(case: Fixture) -> str:
    return digest("label", case.expected)


def _labelled(
    cases: Iterable[tuple[int, Fixture]], *, labels: Collection[str], path: str
) -> Iterator[tuple[int, Fixture]]:
    seen: set[str] = set()
    for line, case in cases:
        label = _label(case)
        if labels and (label in labels or len(seen) < formats.LISTED):
            seen.add(label)
        if not labels or label in labels:
            yield line, case
    for label in labels:
        if label not in seen:
            known = strict.suggestion(label, sorted(seen))
            raise RatchetError(f"{path}: no row has the label '{label}'{known}")


def _compared(
    cases: Iterable[tuple[int, Fixture]],
    new: Candidates,
    *,
    existing: Collection[Fixture],
    notes: Notes,
) -> _Found:
    """Each case against the fixtures there are and against the rows before it."""
    fixtures = {input_digest(one): one for one in existing}
    names = {one.id for one in existing}
    known: dict[str, Fixture] = {}
    clashes: dict[str, Problem] = {}
    duplicates = 0
    for line, case in cases:
        asked = input_digest(case)
        agrees = new.agrees(asked, case)
        if agrees is not None:
            duplicates += agrees
            if not agrees:
                new.clash(asked, line=line)
        elif (other := fixtures.get(asked)) is not None:
            if _agree(case, other):
                known[asked] = other
            else:
                said = f"the same input as {_place(other)}, but something else is expected"
                clashes.setdefault(asked, Problem(notes.path, line, said))
        elif case.id in names or not new.add(asked, case, label=_group(case), line=line):
            notes.fault(line, f"the id '{case.id}' is already used")
    conflicts = _conflicts(new, clashes.values(), path=notes.path)
    return _Found(new=new, known=known, duplicates=duplicates, conflicts=conflicts)


def _place(fixture: Fixture) -> str:
    return f"the fixture '{fixture.id}'"


def _conflicts(new: Candidates, clashes: Iterable[Problem], *, path: str) -> tuple[str, ...]:
    within = (
        Problem(path, line, f"the same input as line {first}, but something else is expected")
        for line, first in new.clashes()
    )
    return _listed(map(str, heapq.merge(sorted(clashes), within)))


def _agree(one: Fixture, other: Fixture) -> bool:
    return canonical_json(one.expected) == canonical_json(other.expected)


def _placed(
    found: _Found,
    *,
    ratio: float | None,
    sizes: Mapping[Split, int] | None,
    limit: int | None,
    path: str,
) -> Iterator[Fixture]:
    """The new cases to take, each on its side; without a ratio on the one it has."""
    if ratio is not None and not 0 <= ratio <= 1:
        raise RatchetError(f"the share of train is {ratio}; it must be from 0 to 1")
    if sizes is not None:
        yield from _exactly(found, sizes=sizes, path=path)
        return
    kept: Iterable[str] = found.new.digests()
    if limit is not None:
        kept = [asked for _, asked in _dealt(found.new, goals={"train": limit}, had={})]
    for asked in kept:
        case = found.new.case(asked)
        yield case if ratio is None else case.with_(split=_side(asked, ratio=ratio))


def _side(asked: str, *, ratio: float) -> Split:
    # A digest of its own: _dealt takes the lowest of the plain ones, which would be one side.
    share = int(digest("side", asked)[:8], 16) / 2**32
    return "train" if share < ratio else "holdout"


def _exactly(found: _Found, *, sizes: Mapping[Split, int], path: str) -> Iterator[Fixture]:
    had = Counter((one.split, _group(one)) for one in found.known.values())
    dealt = list(_dealt(found.new, goals=sizes, had=had))
    for split, size in sizes.items():
        there = sum(side == split for side, _ in [*had.elements(), *dealt])
        if there < size:
            raise RatchetError(
                f"{path}: {size} cases asked for {split}, and there are {there}",
                hint=f"{len(found.new) + len(found.known)} cases can be used; ask for fewer.",
            )
    for side, asked in dealt:
        yield found.new.case(asked).with_(split=side)


def _dealt(
    new: Candidates, *, goals: Mapping[Split, int], had: Mapping[tuple[Split, str], int]
) -> Iterator[tuple[Split, str]]:
    """Deals cases out, lowest digest first, until each side has its goal.

    Next comes the side that is furthest from its goal, and of the labels that it has least of
    the one with the lowest digest; so labels are shared evenly even where one is rare. Of labels
    that no side has, no more than there are cases to deal can have their turn: the lowest.
    """
    heads = new.heads(sum(goals.values()), also={label for _, label in had})
    counts = Counter(had)
    totals = {side: sum(n for (one, _), n in counts.items() if one == side) for side in goals}
    while heads and (short := [side for side in goals if totals[side] < goals[side]]):
        side = min(short, key=lambda one: totals[one] / goals[one])
        label = min(heads, key=lambda one: (counts[side, one], heads[one]))
        asked = heads[label]
        yield side, asked
        counts[side, label] += 1
        totals[side] += 1
        following = new.after(label, asked)
        if following is None:
            del heads[label]
        else:
            heads[label] = following


def _taught(case: Fixture) -> Fixture:
    if case.split != "train" or case.correction is not None or not isinstance(case.expected, str):
        return case
    taught: Fixture = case.with_(correction=case.expected)
    return taught
