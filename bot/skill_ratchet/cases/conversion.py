"""Turns rows of a file (a log, a labelled data set, another tool's tests) into fixtures.

Rows are streamed, and cases wait on disk; what is kept is decided by content alone, so the same
file gives the same fixtures in any order, and a case never changes sides. The formats are in
`skill_ratchet.cases.formats`, the rules for a new case in `skill_ratchet.core.golden`. Documented
in docs/fixtures.md.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, get_args

from skill_ratchet.base import documents
from skill_ratchet.base.documents import Problem
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases import formats
from skill_ratchet.cases.formats import Notes
from skill_ratchet.core.golden import UNNAMED, Rules, Shelf, agree, folded, input_digest, name_of
from skill_ratchet.core.records import Fixture, Source, Split, canonical_json, digest
from skill_ratchet.project import config
from skill_ratchet.project.fixtures import SPLITS, CaseError, build

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pydantic import JsonValue

    from skill_ratchet.cases.formats import Row
    from skill_ratchet.project.config import Kind

# What a column may be called to be taken unasked. An id column is not: a log's row number makes
# a poor name, and a name out of the content makes a second import harmless.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": formats.INPUTS,
    "expected": ("expected", "label", "output", "answer", "category", "intent"),
}
OPTIONAL: Final = ("context", "correction", "cluster", "tags")
KEYS: Final = get_args(config.Column)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found.

    ``fixtures`` are the new ones, ordered by split and id. ``duplicates`` counts rows that
    repeat an input with the same expectation, ``already`` the cases that are fixtures already.
    ``conflicts`` says (``path:line: ...``) which were left out because the same input has two
    expectations, ``skipped`` which because their row is broken, and ``left_out`` which because
    a fixture cannot say what they say. ``near`` counts the cases that are nearly the same as
    one that is there, or have it in them and its side takes no more, ``full`` those beyond what
    ``feedback.caps`` allows.

    ``seen`` is what the column of answers shows, where there is one, and ``outputs`` the answers
    that people changed, by the id of the new fixture.
    """

    fixtures: tuple[Fixture, ...]
    duplicates: int
    conflicts: tuple[str, ...]
    skipped: tuple[str, ...]
    already: int
    left_out: tuple[str, ...] = ()
    near: int = 0
    full: int = 0
    seen: Seen | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Seen:
    """The answers in a log: how many, and how many of them a person changed.

    ``likeness`` is the sum, over all of them, of the edit similarity, in [0, 1], of what was
    answered and what a person made of it.
    """

    answers: int = 0
    corrected: int = 0
    likeness: float = 0.0
    _log: Any = field(default_factory=hashlib.sha256)

    @property
    def log(self) -> str:
        """Names the answers and what became of them, in their order."""
        return str(self._log.hexdigest())

    def note(self, asked: str, output: str, expected: JsonValue) -> bool:
        """Count an answer; says whether a person changed it. Without a word it was right."""
        from skill_ratchet.core.scoring import similarity  # noqa: PLC0415 - rapidfuzz

        self._log.update(digest("answer", asked, output, expected).encode())
        wanted = output if expected is None else _words(expected)
        same = folded(output) == folded(wanted)
        self.answers += 1
        self.corrected += not same
        self.likeness += 1.0 if same else similarity(output, wanted)
        return not same


class _RowCase(NamedTuple):
    """A case of a row, and what was answered to it if a person changed that."""

    line: int
    fixture: Fixture
    output: str | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A file's new cases, and the fixtures that the others are, by the digest of their input."""

    new: _Candidates
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
    rules: Rules = Rules(),  # noqa: B008 - frozen
    sizes: Mapping[Split, int] | None = None,
    labels: Collection[str] = (),
    limit: int | None = None,
    existing: Collection[Fixture] = (),
    corrections: bool | None = None,
    skip_broken: bool = False,
    clean: Callable[[Any], Any] = lambda value: value,
) -> Imported:
    """Fixtures out of the rows of a file.

    Args:
        lines: With their line ends; a surrogate-escaped byte in one makes a broken row.
        kind: How the lines are written.
        columns: Column by fixture key; '' for none. The rest is guessed from COLUMNS.
        path: What to call the file in messages.
        source: Where the cases come from; an answer that a person changed is a correction.
        rules: How new cases join the fixtures there are.
        sizes: Instead, how many of the file's cases each split is to have in the end.
        labels: Keep only rows that expect one of these.
        limit: Keep at most this many new cases, each label as often as the others.
        existing: All fixtures there are already, of every split. They win.
        corrections: Train cases without a correction get their expected text as one; None for
            what fits the format (tables only: there it is a person's label).
        skip_broken: Leave broken rows out instead of refusing the file.
        clean: Takes secrets out of a JSON value.

    Raises:
        RatchetError: A column or label that is not there, a broken row, or too few for ``sizes``.
    """
    _refuse_unfit(kind, columns=columns, sizes=sizes)
    notes = Notes(path)
    rows = formats.rows(lines, kind=kind, columns=columns, notes=notes)
    seen = Seen()
    cases = _cases(
        rows, kind=kind, columns=columns, source=source, notes=notes, clean=clean, seen=seen
    )
    wanted = _labelled(cases, labels=labels, path=path)
    with _Candidates() as new:
        found = _compared(wanted, new, existing=existing, notes=notes)
        if notes.broken and not skip_broken:
            raise documents.report(notes.broken, hint="Leave broken rows out with --skip-broken.")
        shelf = None if kind == "fixtures" else Shelf(tuple(existing), rules=rules)
        taken = _Taken(new, shelf)
        _place(found, taken, sizes=sizes, limit=limit, path=path)
    teach = kind in formats.TABLES if corrections is None else corrections
    fixtures = (_taught(one) if teach else one for one in taken.fixtures)
    return Imported(
        fixtures=tuple(sorted(fixtures, key=lambda one: (SPLITS.index(one.split), one.id))),
        duplicates=found.duplicates,
        conflicts=found.conflicts,
        skipped=tuple(str(problem) for problem in sorted(notes.broken)),
        already=len(found.known),
        left_out=_listed(map(str, notes.left_out), more=notes.unlisted),
        near=taken.near,
        full=taken.full,
        seen=seen if seen.answers else None,
        outputs=taken.outputs,
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


def _columns(asked: Mapping[str, str], *, names: Collection[str], path: str) -> dict[str, str]:
    """The column of each fixture key, asked for or guessed."""
    for key in asked:
        if key not in KEYS:
            raise RatchetError(f"'{key}' cannot be imported{documents.suggestion(key, KEYS)}")
    free = [name for name in names if name not in asked.values()]
    guessed = {key: _guess(key, names=free, path=path) for key in COLUMNS if key not in asked}
    chosen = {key: key for key in OPTIONAL} | guessed | dict(asked)
    for key, name in chosen.items():
        if name and key in COLUMNS and _head(name, names) not in names:
            raise RatchetError(f"{path}: no column '{name}'{documents.suggestion(name, names)}")
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


def _head(name: str, names: Collection[str]) -> str:
    """The column that a name leads into: itself, or what stands before its first dot."""
    return name if name in names else name.partition(".")[0]


def _cell(cells: Mapping[str, Any], name: str) -> Any:
    """The cell of a column; a dot leads into an object."""
    value: Any = cells
    for part in (name,) if name in cells else name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _cases(
    rows: Iterable[Row],
    *,
    kind: Kind,
    columns: Mapping[str, str],
    source: Source,
    notes: Notes,
    clean: Callable[[Any], Any],
    seen: Seen,
) -> Iterator[_RowCase]:
    chosen: dict[str, str] = {}
    unseen = {name for name in columns.values() if name}
    for line, cells in rows:
        if kind in formats.TABLES:
            chosen = chosen or _columns(columns, names=cells, path=notes.path)
            unseen -= {name for name in unseen if _head(name, cells) in cells}
            picked = {key: _cell(cells, name) for key, name in chosen.items()}
        else:
            unseen = set()
            picked = {key: cell for key, cell in cells.items() if columns.get(key) != ""}
        if kind in {"otel", "messages"} and columns.get("expected") != "":
            picked.setdefault("expected", None)
        try:
            values = clean(picked)
            if kind == "fixtures":
                yield _RowCase(line, _exported(values))
            elif (case := _answered(values, line=line, source=source, seen=seen)) is not None:
                yield case
        except CaseError as error:
            for _, text in error.faults:
                notes.fault(line, text)
    if chosen and unseen:
        raise RatchetError(f"{notes.path}: no row has a column '{min(unseen)}'")


def _answered(cells: dict[str, Any], *, line: int, source: Source, seen: Seen) -> _RowCase | None:
    """The case of a row; None for an answer that nobody said anything about."""
    output = cells.pop("output", None)
    if output in (None, ""):
        return _RowCase(line, _case(cells, source=source))
    output = _words(output)
    expected = cells.get("expected")
    if expected in (None, ""):
        asked = _case(
            {key: cell for key, cell in cells.items() if key != "expected"}, source=source
        )
        seen.note(input_digest(asked), output, None)
        return None
    case = _case(cells, source=source)
    if not seen.note(input_digest(case), output, expected):
        return _RowCase(line, case)
    return _RowCase(line, case.with_(source="correction"), output)


def _words(value: JsonValue) -> str:
    return value if isinstance(value, str) else canonical_json(value)


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
    return build({"id": UNNAMED, **values, "source": source}, split="holdout")


def _group(case: Fixture) -> str:
    return digest("label", case.expected)


def _labelled(
    cases: Iterable[_RowCase], *, labels: Collection[str], path: str
) -> Iterator[_RowCase]:
    seen: set[str] = set()
    for case in cases:
        label = _words(case.fixture.expected)
        if labels and (label in labels or len(seen) < formats.LISTED):
            seen.add(label)
        if not labels or label in labels:
            yield case
    for label in labels:
        if label not in seen:
            known = documents.suggestion(label, sorted(seen))
            raise RatchetError(f"{path}: no row has the label '{label}'{known}")


def _compared(
    cases: Iterable[_RowCase],
    new: _Candidates,
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
    for line, case, output in cases:
        asked = input_digest(case)
        agrees = new.agrees(asked, case)
        if agrees is not None:
            duplicates += agrees
            if agrees:
                new.again(asked, output)
            else:
                new.clash(asked, line=line)
        elif (other := fixtures.get(asked)) is not None:
            if agree(case, other):
                known[asked] = other
            else:
                said = f"the same input as the fixture '{other.id}', but something else is expected"
                clashes.setdefault(asked, Problem(notes.path, line, said))
        elif case.id in names or not new.add(asked, case, line=line, output=output):
            notes.fault(line, f"the id '{case.id}' is already used")
    conflicts = _conflicts(new, clashes.values(), path=notes.path)
    return _Found(new=new, known=known, duplicates=duplicates, conflicts=conflicts)


def _conflicts(new: _Candidates, clashes: Iterable[Problem], *, path: str) -> tuple[str, ...]:
    within = (
        Problem(path, line, f"the same input as line {first}, but something else is expected")
        for line, first in new.clashes()
    )
    return _listed(map(str, heapq.merge(sorted(clashes), within)))


@dataclass(slots=True)
class _Taken:
    """Puts cases among the fixtures, and counts those that found no place."""

    new: _Candidates
    shelf: Shelf | None  # None for an export: its cases stay what and where they are
    _kept: list[Fixture] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    near: int = 0
    full: int = 0

    @property
    def fixtures(self) -> tuple[Fixture, ...]:
        """What was taken, with the counts as they are by now."""
        return tuple(self._kept) if self.shelf is None else self.shelf.added

    def take(
        self, asked: str, *, side: Split | None, sides: Collection[Split] = SPLITS
    ) -> Split | None:
        """Take a case if it has a place on one of ``sides``; returns which."""
        case = self.new.case(asked)
        self.new.spend(asked)
        if self.shelf is not None:
            if (home := self.shelf.home(case)) is not None and home not in sides:
                self.near += 1
                return None
            filed = self.shelf.put(case, side=side)
            self.near += filed.outcome == "counted"
            self.full += filed.outcome == "full"
            if filed.outcome != "new":
                return None
            case = filed.case
        self._kept.append(case)
        if (output := self.new.output(asked)) is not None:
            self.outputs[case.id] = output
        return case.split


def _place(
    found: _Found,
    taken: _Taken,
    *,
    sizes: Mapping[Split, int] | None,
    limit: int | None,
    path: str,
) -> None:
    """Take the new cases that are wanted, each to its side."""
    if sizes is not None:
        _exactly(found, taken, sizes=sizes, path=path)
    elif limit is not None:
        _deal(taken, goals={"train": limit}, had={}, anywhere=True)
    else:
        for asked in list(found.new.digests()):
            taken.take(asked, side=None)


def _exactly(found: _Found, taken: _Taken, *, sizes: Mapping[Split, int], path: str) -> None:
    had = Counter((one.split, _group(one)) for one in found.known.values())
    totals = _deal(taken, goals=sizes, had=had)
    for split, size in sizes.items():
        if totals[split] < size:
            raise RatchetError(
                f"{path}: {size} cases asked for {split}, and there are {totals[split]}",
                hint=_hint(found, taken),
            )


def _hint(found: _Found, taken: _Taken) -> str:
    if taken.full:
        return "No more are allowed: feedback.caps in ratchet.yml."
    usable = len(found.new) + len(found.known) - taken.near
    return f"{usable} cases can be used; ask for fewer."


def _deal(
    taken: _Taken,
    *,
    goals: Mapping[Split, int],
    had: Mapping[tuple[Split, str], int],
    anywhere: bool = False,
) -> dict[Split, int]:
    """Deals cases out, lowest digest first, until each side has its goal; returns what each has.

    Next comes the side that is furthest from its goal, and of the labels that it has least of
    the one with the lowest digest; so labels are shared evenly even where one is rare. Of labels
    that no side has, no more than there are cases to deal can have their turn: the lowest.
    With ``anywhere`` there is one goal for all sides together.
    """
    new, size = taken.new, sum(goals.values())
    known = {label for _, label in had}
    heads: dict[str, str] = {}
    counts = Counter(had)
    totals = {side: sum(n for (one, _), n in counts.items() if one == side) for side in goals}
    while short := [side for side in goals if totals[side] < goals[side]]:
        heads = heads or new.heads(size, also=known)
        if not heads:
            break
        side = min(short, key=lambda one: totals[one] / goals[one])
        label = min(heads, key=lambda one: (counts[side, one], heads[one]))
        asked = heads.pop(label)
        sides = SPLITS if anywhere else short
        went = taken.take(asked, side=None if anywhere else side, sides=sides)
        if went is not None:
            went = side if anywhere else went
            counts[went, label] += 1
            totals[went] += 1
        if (following := new.after(label, asked)) is not None:
            heads[label] = following
    return totals


def _taught(case: Fixture) -> Fixture:
    if case.split != "train" or case.correction is not None or not isinstance(case.expected, str):
        return case
    taught: Fixture = case.with_(correction=case.expected)
    return taught


# What does not fit in memory ----------------------------------------------------------------

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -16000; -- in KiB
CREATE TABLE cases (
    asked TEXT PRIMARY KEY, label TEXT, line INTEGER, expected TEXT, name TEXT UNIQUE,
    clash INTEGER, record TEXT, output TEXT, times INTEGER, spent INTEGER
);
CREATE INDEX labels ON cases (label, asked) WHERE clash IS NULL AND spent IS NULL;
"""


class _Candidates:
    """Cases by the digest of their input, in SQLite's own temporary file.

    The file has no name and is gone when this is closed. A case that ``clash`` names is there
    to be compared with, and is not chosen any more; nor is one that ``spend`` has named.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("")
        self._db.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM cases WHERE clash IS NULL")[0])

    def add(self, asked: str, case: Fixture, *, line: int, output: str | None) -> bool:
        """Keep a case, and what was answered; False when another one has its id."""
        if case.id == UNNAMED:
            case = case.with_(id=name_of(case))
        said = "INSERT INTO cases VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?, NULL)"
        values = (asked, _group(case), line, digest(case.expected), case.id, case.model_dump_json())
        added = self._db.execute(
            f"{said} ON CONFLICT (name) DO NOTHING", (*values, output, case.count)
        )
        return added.rowcount == 1

    def again(self, asked: str, output: str | None) -> None:
        """Count a case once more; an answer that somebody changed is kept with it."""
        self._db.execute(
            "UPDATE cases SET times = times + 1, output = coalesce(output, ?) WHERE asked = ?",
            (output, asked),
        )

    def spend(self, asked: str) -> None:
        """Take a case out of what can be chosen."""
        self._db.execute("UPDATE cases SET spent = 1 WHERE asked = ?", (asked,))

    def agrees(self, asked: str, case: Fixture) -> bool | None:
        """Whether the case with the same input expects the same; None when there is none."""
        row = self._db.execute("SELECT expected FROM cases WHERE asked = ?", (asked,)).fetchone()
        return None if row is None else row[0] == digest(case.expected)

    def clash(self, asked: str, *, line: int) -> None:
        """Take a case out, for what stands on another line; the first such line is kept."""
        self._db.execute(
            "UPDATE cases SET clash = ? WHERE asked = ? AND clash IS NULL", (line, asked)
        )

    def clashes(self) -> Iterator[tuple[int, int]]:
        """The line that clashed and the line it clashed with, in order."""
        said = "SELECT clash, line FROM cases WHERE clash IS NOT NULL ORDER BY clash"
        yield from self._db.execute(said)

    def digests(self) -> Iterator[str]:
        """All that can be chosen."""
        for row in self._db.execute("SELECT asked FROM cases WHERE clash IS NULL ORDER BY asked"):
            yield row[0]

    def heads(self, count: int, *, also: Collection[str]) -> dict[str, str]:
        """The lowest digest of each of some labels: the ``count`` lowest ones, and ``also``."""
        said = (
            "SELECT label, min(asked) AS head FROM cases WHERE clash IS NULL AND spent IS NULL "
            "GROUP BY label ORDER BY head LIMIT ?"
        )
        with closing(self._db.execute(said, (count,))) as rows:
            found = dict(rows)
        for label in also:
            if label not in found and (head := self.after(label, "")):
                found[label] = head
        return found

    def after(self, label: str, asked: str) -> str | None:
        """The next digest of a label."""
        said = (
            "SELECT min(asked) FROM cases WHERE clash IS NULL AND spent IS NULL AND label = ? "
            "AND asked > ?"
        )
        row = self._one(said, label, asked)
        return None if row[0] is None else str(row[0])

    def case(self, asked: str) -> Fixture:
        """The case that can be chosen under a digest."""
        record, times = self._one("SELECT record, times FROM cases WHERE asked = ?", asked)
        return Fixture.model_validate_json(record).with_(count=times)

    def output(self, asked: str) -> str | None:
        """What was answered to it."""
        output: str | None = self._one("SELECT output FROM cases WHERE asked = ?", asked)[0]
        return output

    def _one(self, said: str, *values: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._db.execute(said, values).fetchone()
        return row
