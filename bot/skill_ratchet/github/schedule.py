"""Which skills get a run now, and what each of its jobs may spend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases import check
from skill_ratchet.core import wording
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.github import dashboard, pages
from skill_ratchet.github.pull_request import HOLD_LABEL
from skill_ratchet.ledger import access, clock
from skill_ratchet.project import config, repository, workspace
from skill_ratchet.project.proposal import proposal_branch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from skill_ratchet.github.api import GitHub, Pull
    from skill_ratchet.project.repository import Project

JOBS = 2  # of a skill that spend: propose and confirm
WORDS = 300  # characters of a reason


@dataclass(frozen=True, slots=True)
class Due:
    """One skill, whether it gets a run, and why or why not."""

    skill: str
    due: bool
    reason: str


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
    stopped = _stopped(project, github, names, measuring=attempts == 0)
    limit, left = settings.budget.month_usd, None
    if limit is not None:
        ledger = access.open_ledger(project, names[0], redact=settings.redact)
        left = budgets.left(limit, ledger.runs_of_month(budgets.month_of(now())))
    if left == 0:
        spent = f"the month's budget of {wording.dollars(limit)} is spent"
        stopped = dict.fromkeys(names, spent) | stopped
    found = [_look(project, name, stopped.get(name)) for name in names]
    return Plan(tuple(found), _usd(left, found))


def _usd(left: float | None, found: Sequence[Due]) -> float | None:
    many = sum(one.due for one in found)
    return None if left is None else budgets.share(left, JOBS * max(1, many))


def _stopped(
    project: Project, github: GitHub, names: Sequence[str], *, measuring: bool
) -> dict[str, str]:
    """What GitHub and the stop file say against a run of a skill."""
    boxes = dashboard.held(github)
    branches = {name: proposal_branch(name) for name in names}
    pulls = github.my_pulls({branches[name]: pages.marker("pull", name) for name in names})
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
    if HOLD_LABEL in pull.labels:
        return f"on hold by the label {HOLD_LABEL} on #{pull.number}"
    return "" if measuring else f"#{pull.number} waits"


def _look(project: Project, name: str, stopped: str | None) -> Due:
    if stopped:
        return Due(name, due=False, reason=stopped)
    try:
        check.require_sound(workspace.open_at_base(project, skill=name, override={}))
    except RatchetError as error:
        return Due(name, due=False, reason=wording.one_line(error.message, WORDS))
    return Due(name, due=True, reason="gets a run")
