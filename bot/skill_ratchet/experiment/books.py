"""What the runs of a month have spent, what of it is not certain, and how a person puts it right.

Not certain is what was booked at the most it can cost: attempts whose answer never came, and all of
a run that was killed. Whoever has looked at the provider's bill can say what it really was. That is
written into the run's record, with the reason and what had stood there.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import find_key
from skill_ratchet.core.records import Amended
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.ledger import RunLock, access, clock
from skill_ratchet.project import config, repository

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from skill_ratchet.core.records import Run
    from skill_ratchet.project.config import Config
    from skill_ratchet.project.repository import Project


@dataclass(frozen=True, slots=True)
class Books:
    """A month of all skills together, oldest run first."""

    month: str
    limit: float | None
    runs: tuple[Run, ...]

    @property
    def counted(self) -> float:
        """USD that the budget counts."""
        return budgets.counted(self.runs)

    @property
    def unsure(self) -> tuple[Run, ...]:
        """The runs of which a part is not certain."""
        return tuple(run for run in self.runs if unsure(run))


def unsure(run: Run) -> float:
    """USD of what a run counts that may not have been billed."""
    return run.counted if run.ended is None and run.amended is None else run.unsure


def books(start: Path, *, month: str | None = None) -> Books:
    """What is on record for a month such as ``2026-07``; by default for this one.

    Raises:
        RatchetError: There is no project here.
    """
    project, settings = _opened(start)
    name = month or budgets.month_of(clock.now())
    return Books(name, settings.budget.month_usd, _runs(project, settings, name))


def correct(start: Path, *, run: str, usd: float, why: str) -> Run:
    """Write down what a run really cost; returns its record.

    Args:
        start: In the project.
        run: The run's name, or its beginning if no other run begins so.
        usd: Dollars.
        why: How somebody knows.

    Raises:
        RatchetError: There is no such run, it is under way, less is said than is certain, or
            the reason has a secret in it.
    """
    if find_key(why):
        raise RatchetError(
            "The reason looks as if a secret were in it, and it would stay on the ledger.",
            hint="Say it without, and make the secret invalid if it is one.",
        )
    project, settings = _opened(start)
    found = [one for one in _of_month_of(run, project, settings) if one.name.startswith(run)]
    found = [one for one in found if one.name == run] or found
    if len(found) != 1:
        raise RatchetError(
            f"There is {'no' if not found else 'more than one'} run {run!a}.",
            hint="'ratchet budget' lists the runs of this month that are not certain.",
        )
    with RunLock(project.root, found[0].skill):
        amended = amend(found[0], usd=usd, why=why, at=clock.now().isoformat())
        ledger = access.open_to_write(project, amended.skill, redact=settings.redact)
        ledger.add_run(amended)
        ledger.flush(f"{amended.skill}: what a run cost")
    return amended


def _of_month_of(run: str, project: Project, settings: Config) -> tuple[Run, ...]:
    """The runs of the month that a run's name begins with; none for what is no such name."""
    month = re.match(r"(\d{4})(0[1-9]|1[0-2])", run, re.ASCII)
    return _runs(project, settings, f"{month[1]}-{month[2]}") if month else ()


def amend(run: Run, *, usd: float, why: str, at: str) -> Run:
    """A run's record with what it really cost.

    Raises:
        RatchetError: That is less than its answered calls cost, by their own count.
    """
    booked, doubt = _booked(run)
    certain = max(0.0, booked - doubt)
    if usd < certain - budgets.STEP:
        least = f"{math.ceil(certain * 10_000) / 10_000:.4f}"  # never below what is certain
        raise RatchetError(
            f"Calls of ${certain:.6f} were answered in that run, so it cannot have cost less.",
            hint=f"Name at least {least}.",
        )
    before = Amended(counted=booked, unsure=doubt, why=why, at=at)
    return run.with_(counted=usd, usd=usd, unsure=0.0, amended=before)


def _booked(run: Run) -> tuple[float, float]:
    """What a run counted before anybody corrected it, and how much of it was not certain."""
    first = run.amended
    counted, doubt = (first.counted, first.unsure) if first else (run.counted, run.unsure)
    return counted, counted if run.ended is None else doubt


def _opened(start: Path) -> tuple[Project, Config]:
    project = repository.open_project(start)
    return project, config.load_config(repository.WorkTree(project))


def _runs(project: Project, settings: Config, month: str) -> tuple[Run, ...]:
    name = min(settings.skills)
    ledger = access.open_ledger(project, name, redact=settings.redact)
    return _by_time(ledger.runs_of_month(month))


def _by_time(runs: Iterable[Run]) -> tuple[Run, ...]:
    return tuple(sorted(runs, key=lambda run: run.started_at))
