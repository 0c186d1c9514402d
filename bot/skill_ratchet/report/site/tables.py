"""Tables that other rooms make, for a skill's page: transfers, and what people made of versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from skill_ratchet.project import repository
from skill_ratchet.report import measuring, metrics
from skill_ratchet.report.site.seal import FEWEST_FOR_MEANS

if TYPE_CHECKING:
    from skill_ratchet.core.transfer import Transfer
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text, below their headings."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def transferred(ledger: Ledger, *, opened: bool) -> tuple[Transfer, ...]:
    """The finished transfers, newest first; on the holdout only means of two cases or more."""
    return tuple(
        one
        for one in reversed(ledger.transfers())
        if one.finished_at is not None
        and (opened or one.split == "train" or one.fixtures >= FEWEST_FOR_MEANS)
    )


def feedback(ledger: Ledger, space: Workspace) -> Table | None:
    """What people made of each version, newest first; None where nobody said anything.

    Days are counted to the last commit, so that the same ledger always gives the same table.
    """
    project = space.project
    tip = repository.run(project, "rev-parse", "--verify", "HEAD", ok=range(256))
    if tip.status:
        return None
    stamp = repository.run(project, "show", "-s", "--format=%cI", tip.text).text
    found = measuring.versions(
        project, tip.text, path=space.skill.path, now=datetime.fromisoformat(stamp)
    )
    rows = measuring.rows(ledger, space, found, scores=False)
    if not any(row.corrections or row.answers or row.fate.shipped for row in rows):
        return None
    cells = (metrics.of_use(row) + metrics.of_tests(row)[4:] for row in reversed(rows))
    return Table((*metrics.USE, *metrics.TESTS[4:]), tuple(cells))
