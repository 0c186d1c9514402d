"""Which skills get a run now, and what each of its jobs may spend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError, faults_of
from skill_ratchet.cases import check
from skill_ratchet.core import wording
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.github import dashboard, holds, pages
from skill_ratchet.ledger import access, clock
from skill_ratchet.project import config, repository, workspace
from skill_ratchet.project.proposal import proposal_branch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from skill_ratchet.github.api import GitHub, Pull
    from skill_ratchet.project.config import Config
    from skill_ratchet.project.repository import Project

SEE = "See it: ratchet check"
JOBS = 2  # of a skill that spend: propose and confirm
WORDS = 300  # characters of a reason


@dataclass(frozen=True, slots=True)
class Due:
    """One skill, whether it gets a run, and why or why not.

    ``fault`` is what is wrong with the skill itself, where that is why.
    """

    skill: str
    due: bool
    reason: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every skill that was asked about. ``usd`` is a job's cap; None without a month's budget."""

    skills: tuple[Due, ...]
    usd: float | None

    @property
    def due(self) -> list[str]:
        """The skills that get a run."""
        return [one.skill for one in self.skills if one.due]


def plan(
    start: Path,
    *,
    github: GitHub,
    skill: str | None,
    attempts: int | None,
    now: Callable[[], datetime] = clock.now,
) -> Plan:
    """Which skills get a run now.

    Args:
        start: The project; its ledger has to be up to date.
        github: Where its pull requests and its dashboard are.
        skill: The only one to look at.
        attempts: As for the run. With none an open pull request is not in the way.
        now: The UTC time.

    Raises:
        RatchetError: GitHub does not say what it was asked, or nothing can be read here.
    """
    project = repository.open_project(start)
    settings = config.load_config(repository.CommitTree(project, "HEAD"))
    names = [config.choose_skill(settings, skill)] if skill else list(settings.skills)
    base = settings.base or repository.require_branch(project)
    stopped = _stopped(project, github, names, base=base, measuring=attempts == 0)
    limit, left = settings.budget.month_usd, None
    if limit is not None:
        left, why = _left(project, settings, limit, month=budgets.month_of(now()))
        stopped = (dict.fromkeys(names, why) if why else {}) | stopped
    found = [_look(project, name, stopped.get(name)) for name in names]
    return Plan(tuple(found), _usd(left, found))


def _left(project: Project, settings: Config, limit: float, *, month: str) -> tuple[float, str]:
    """What is left of the month's budget; and why nothing is to be spent, if so.

    Where a record of a run cannot be read, that is not known, so there is nothing: for the money
    is everybody's.
    """
    ledger = access.open_ledger(project, min(settings.skills), redact=settings.redact)
    try:
        left = budgets.left(limit, ledger.runs_of_month(month))
    except RatchetError as error:
        told = wording.one_line(error.message, WORDS)
        return 0.0, f"what is left of the month's budget is not known: {told}"
    return left, "" if left else f"the month's budget of {wording.dollars(limit)} is spent"


def faults_page(found: Plan) -> str:
    """The skills that get no run because of a fault of their own, for the run's page."""
    lines = [
        f"- {pages.fault(one.skill, f'{pages.unsealed(one.fault)} {SEE} {one.skill}')}"
        for one in found.skills
        if one.fault
    ]
    return "\n".join(["No run:", "", *lines, ""]) if lines else ""


def _usd(left: float | None, found: Sequence[Due]) -> float | None:
    many = sum(one.due for one in found)
    return None if left is None else budgets.share(left, JOBS * max(1, many))


def _stopped(
    project: Project, github: GitHub, names: Sequence[str], *, base: str, measuring: bool
) -> dict[str, str]:
    """What GitHub and the stop file say against a run of a skill."""
    boxes = dashboard.held(github, project=project)
    branches = {name: proposal_branch(name) for name in names}
    markers = {branches[name]: pages.marker("pull", name) for name in names}
    pulls = github.my_pulls(markers, base=base)
    stopped: dict[str, str] = {}
    for name in names:
        pull = pulls.get(branches[name])
        if workspace.held(project):
            stopped[name] = f"on hold by the file {repository.HOLD_FILE}"
        elif name in boxes:
            stopped[name] = "on hold by its box on the dashboard"
        elif pull and (why := _by_pull(pull, measuring=measuring)):
            stopped[name] = why
    return stopped


def _by_pull(pull: Pull, *, measuring: bool) -> str:
    if holds.is_on(pull.labels):
        return f"on hold by the label {holds.LABEL} on #{pull.number}"
    return "" if measuring else f"#{pull.number} waits"


def _look(project: Project, name: str, stopped: str | None) -> Due:
    if stopped:
        return Due(name, due=False, reason=stopped)
    faults: list[tuple[str, RatchetError]] = []
    with faults_of(name, faults):
        check.require_sound(workspace.open_at_base(project, skill=name, override={}))
    for _, error in faults:
        reason = wording.one_line(error.message, WORDS)
        return Due(name, due=False, reason=reason, fault=error.message)
    return Due(name, due=True, reason="gets a run")
