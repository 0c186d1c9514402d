"""Turns rows of a CSV or JSONL file (a log, a labelled data set) into fixtures.

Rows are streamed; what is kept is decided by content alone, so the same file gives the same
fixtures in any order, and a case never changes sides. Documented in docs/fixtures.md.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from bot import strict
from bot.core.records import Fixture, Source, Split, canonical_json, digest
from bot.errors import RatchetError
from bot.fixtures import SPLITS, CaseError, build, dump_jsonl, input_digest
from bot.strict import Problem, ReadError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

Kind = Literal["csv", "jsonl"]
Row: TypeAlias = tuple[int, dict[str, Any]]  # line number (1 is the first), and the cells

# What a column may be called to be taken unasked. An id column is not: a log's row number makes
# a poor name, and a name out of the content makes a second import harmless.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("input", "text", "message", "question", "prompt"),
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
    expectations, ``skipped`` which because their row is broken.
    """

    fixtures: tuple[Fixture, ...]
    duplicates: int
    conflicts: tuple[str, ...]
    skipped: tuple[str, ...]
    already: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A file's new cases by the digest of their input, and the fixtures that the others are."""

    new: dict[str, Fixture]
    known: dict[str, Fixture]
    duplicates: int
    conflicts: tuple[str, ...]


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
    corrections: bool = True,
    skip_broken: bool = False,
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
        corrections: Train cases without a correction get their expected text as one.
        skip_broken: Leave broken rows out instead of refusing the file.

    Raises:
        RatchetError: A column or label that is not there, a broken row, or too few for ``sizes``.
    """
    problems: list[Problem] = []
    rows = _rows(lines, kind=kind, path=path, problems=problems)
    cases = _cases(rows, columns=columns, path=path, source=source, problems=problems)
    wanted = _labelled(cases, labels=labels, path=path)
    found = _compared(wanted, existing=existing, path=path, problems=problems)
    if problems and not skip_broken:
        raise strict.report(problems, hint="Leave broken rows out with --skip-broken.")
    chosen = _placed(found, ratio=ratio, sizes=sizes, limit=limit, path=path)
    fixtures = (_taught(one) if corrections else one for one in chosen)
    return Imported(
        fixtures=tuple(sorted(fixtures, key=lambda one: (SPLITS.index(one.split), one.id))),
        duplicates=found.duplicates,
        conflicts=found.conflicts,
        skipped=tuple(str(problem) for problem in sorted(problems)),
        already=len(found.known),
    )


def merge_jsonl(existing_text: str, new: Iterable[Fixture]) -> str:
    """A JSONL file's text with fixtures appended; what stands there is not touched."""
    gap = "\n" if existing_text and not existing_text.endswith("\n") else ""
    added = dump_jsonl(new)
    return existing_text + gap + added if added else existing_text


def _rows(lines: Iterable[str], *, kind: Kind, path: str, problems: list[Problem]) -> Iterator[Row]:
    read = _csv_rows if kind == "csv" else _jsonl_rows
    return read(_without_bom(lines), path=path, problems=problems)


def _without_bom(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix(strict.BOM)


def _csv_rows(lines: Iterator[str], *, path: str, problems: list[Problem]) -> Iterator[Row]:
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
            if cells is None:
                return
            if header is not None and cells:
                yield line, _named(cells, header=header, line=line)
            elif cells:
                header = _header(cells, path=path)
        except csv.Error as error:
            problems.append(Problem(path, line, f"not valid CSV: {error}"))
        except ReadError as error:
            problems.append(Problem(path, error.line, error.text))


def _header(cells: list[str], *, path: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    for name, count in Counter(names).items():
        if count > 1:
            raise RatchetError(f"{path}:1: the column '{name}' is there {count} times")
    return names


def _named(cells: list[str], *, header: list[str], line: int) -> dict[str, Any]:
    if len(cells) != len(header):
        raise ReadError(f"{len(cells)} cells under {len(header)} columns", line=line)
    for cell in cells:
        strict.check_text(cell, line=line)
    return dict(zip(header, cells, strict=True))


def _jsonl_rows(lines: Iterator[str], *, path: str, problems: list[Problem]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cells = strict.load_json(line, line=number)
        except ReadError as error:
            problems.append(Problem(path, error.line, error.text))
            continue
        if isinstance(cells, dict):
            yield number, cells
        else:
            problems.append(Problem(path, number, "not an object"))


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
    columns: Mapping[str, str],
    path: str,
    source: Source,
    problems: list[Problem],
) -> Iterator[tuple[int, Fixture]]:
    chosen: dict[str, str] = {}
    unseen = {name for name in columns.values() if name}
    for line, cells in rows:
        chosen = chosen or _columns(columns, names=cells, path=path)
        unseen -= cells.keys()
        try:
            yield line, _case({key: cells.get(name) for key, name in chosen.items()}, source=source)
        except CaseError as error:
            problems += [Problem(path, line, text) for _, text in error.faults]
    if chosen and unseen:
        raise RatchetError(f"{path}: no row has a column '{min(unseen)}'")


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


def _labelled(
    cases: Iterable[tuple[int, Fixture]], *, labels: Collection[str], path: str
) -> Iterator[tuple[int, Fixture]]:
    seen: set[str] = set()
    for line, case in cases:
        seen.add(_label(case))
        if not labels or _label(case) in labels:
            yield line, case
    for label in labels:
        if label not in seen:
            known = strict.suggestion(label, sorted(seen))
            raise RatchetError(f"{path}: no row has the label '{label}'{known}")


def _compared(
    cases: Iterable[tuple[int, Fixture]],
    *,
    existing: Collection[Fixture],
    path: str,
    problems: list[Problem],
) -> _Found:
    """Each case against the fixtures there are and against the rows before it."""
    fixtures = {input_digest(one): one for one in existing}
    names = {one.id: asked for asked, one in fixtures.items()}
    first: dict[str, tuple[int, Fixture]] = {}
    known: dict[str, Fixture] = {}
    clashes: dict[str, Problem] = {}
    duplicates = 0
    for line, case in cases:
        asked = input_digest(case)
        at, other = first.get(asked, (0, fixtures.get(asked)))
        if other is not None and not _agree(case, other):
            place = f"line {at}" if at else f"the fixture '{other.id}'"
            said = f"the same input as {place}, but something else is expected"
            clashes.setdefault(asked, Problem(path, line, said))
        elif at:
            duplicates += 1
        elif other is not None:
            known[asked] = other
        elif names.setdefault(case.id, asked) != asked:
            problems.append(Problem(path, line, f"the id '{case.id}' is already used"))
        else:
            first[asked] = (line, case)
    new = {asked: case for asked, (_, case) in first.items() if asked not in clashes}
    conflicts = tuple(str(problem) for problem in sorted(clashes.values()))
    return _Found(new=new, known=known, duplicates=duplicates, conflicts=conflicts)


def _agree(one: Fixture, other: Fixture) -> bool:
    return canonical_json(one.expected) == canonical_json(other.expected)


def _placed(
    found: _Found,
    *,
    ratio: float,
    sizes: Mapping[Split, int] | None,
    limit: int | None,
    path: str,
) -> list[Fixture]:
    """The new cases to take, each on its side."""
    if not 0 <= ratio <= 1:
        raise RatchetError(f"the share of train is {ratio}; it must be from 0 to 1")
    if sizes is not None:
        return _exactly(found, sizes=sizes, path=path)
    kept: Iterable[str] = found.new
    if limit is not None:
        kept = [asked for _, asked in _dealt(found.new, goals={"train": limit}, had={})]
    return [found.new[asked].with_(split=_side(asked, ratio=ratio)) for asked in kept]


def _side(asked: str, *, ratio: float) -> Split:
    # A digest of its own: _dealt takes the lowest of the plain ones, which would be one side.
    share = int(digest("side", asked)[:8], 16) / 2**32
    return "train" if share < ratio else "holdout"


def _exactly(found: _Found, *, sizes: Mapping[Split, int], path: str) -> list[Fixture]:
    had = Counter((one.split, _label(one)) for one in found.known.values())
    dealt = list(_dealt(found.new, goals=sizes, had=had))
    for split, size in sizes.items():
        there = sum(side == split for side, _ in [*had.elements(), *dealt])
        if there < size:
            raise RatchetError(
                f"{path}: {size} cases asked for {split}, and there are {there}",
                hint=f"{len(found.new) + len(found.known)} cases can be used; ask for fewer.",
            )
    return [found.new[asked].with_(split=side) for side, asked in dealt]


def _dealt(
    new: Mapping[str, Fixture], *, goals: Mapping[Split, int], had: Mapping[tuple[Split, str], int]
) -> Iterator[tuple[Split, str]]:
    """Deals cases out, lowest digest first, until each side has its goal.

    Next comes the side that is furthest from its goal, and of the labels that it has least of
    the one with the lowest digest; so labels are shared evenly even where one is rare.
    """
    queues = _queues(new)
    counts = Counter(had)
    totals = {side: sum(n for (one, _), n in counts.items() if one == side) for side in goals}
    while queues and (short := [side for side in goals if totals[side] < goals[side]]):
        side = min(short, key=lambda one: totals[one] / goals[one])
        label = min(queues, key=lambda one: (counts[side, one], queues[one][-1]))
        yield side, queues[label].pop()
        counts[side, label] += 1
        totals[side] += 1
        if not queues[label]:
            del queues[label]


def _queues(new: Mapping[str, Fixture]) -> dict[str, list[str]]:
    """Digests by label, the lowest last."""
    queues: dict[str, list[str]] = defaultdict(list)
    for asked in sorted(new, reverse=True):
        queues[_label(new[asked])].append(asked)
    return queues


def _taught(case: Fixture) -> Fixture:
    if case.split != "train" or case.correction is not None or not isinstance(case.expected, str):
        return case
    taught: Fixture = case.with_(correction=case.expected)
    return taught
