"""The cases of a file that is being imported: on disk, because the file may not fit in memory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Self

from bot.core.records import Fixture, digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

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


class Candidates:
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

    def add(
        self, asked: str, case: Fixture, *, label: str, line: int, output: str | None = None
    ) -> bool:
        """Keep a case, and what was answered; False when another one has its id."""
        said = "INSERT INTO cases VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?, NULL)"
        values = (asked, label, line, digest(case.expected), case.id, case.model_dump_json())
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
