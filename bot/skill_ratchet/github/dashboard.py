"""The dashboard: one issue that shows every skill, and lets people stop one by ticking its box."""

from __future__ import annotations

import os
import re
from math import fsum
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError, faults_of
from skill_ratchet.base.redact import Redactor
from skill_ratchet.cases import check
from skill_ratchet.core import looks
from skill_ratchet.core.records import digest
from skill_ratchet.experiment import badges
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.github import base_branch, pages
from skill_ratchet.github.api import Unopened
from skill_ratchet.github.http import SwitchedOff
from skill_ratchet.project.proposal import proposal_branch
from skill_ratchet.project.repository import CONFIG_FILE
from skill_ratchet.report import history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from skill_ratchet.github.api import GitHub, Issue, Pull
    from skill_ratchet.github.base_branch import Base
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace

MARKER = pages.marker("dashboard")
TITLE = "Ratchet"
NO_ISSUES = (
    "This repository has issues switched off, so there is no dashboard; skills are stopped by "
    "label and by file."
)


def held(github: GitHub, *, project: Project | None = None) -> frozenset[str]:
    """The skills whose box is ticked; none when there is no dashboard.

    Args:
        github: Where.
        project: Whose dashboard it has to be, if it is any project's.

    Raises:
        RatchetError: GitHub does not say, or the dashboard is another project's.
    """
    issue = _issue(github)
    if project is not None:
        _refuse_other(project, issue)
    boxes = pages.boxes(issue.body) if issue else {}
    return frozenset(skill for skill, ticked in boxes.items() if ticked)


def set_held(github: GitHub, skill: str, held: bool) -> bool:  # noqa: FBT001 - a state
    """Tick or clear a skill's box; False when there is no dashboard with one."""
    issue = _issue(github)
    if issue is None or skill not in pages.boxes(issue.body):
        return False
    body = pages.with_box(issue.body, skill, held=held)
    try:
        github.upsert_issue(marker=MARKER, title=issue.title, body=body)
    except SwitchedOff:
        return False
    return True


def update(
    project: Project,
    github: GitHub,
    *,
    now: Callable[[], datetime],
    faults: Iterable[tuple[str, RatchetError]] = (),
) -> str:
    """Bring the dashboard up to date; returns its address, or why there is none.

    It is written only when it changed, with the boxes as people set them. One that a person closed
    stays closed.

    Args:
        project: The clone, with the ledger's branches.
        github: Where.
        now: The UTC time.
        faults: What was found to be wrong, by skill; what else is wrong is found out here.

    Raises:
        RatchetError: GitHub refuses, or does not answer.
    """
    base = base_branch.now(project, github)
    wanted = {proposal_branch(name): pages.marker("pull", name) for name in base.config.skills}
    pulls = github.my_pulls(wanted, base=base.branch)
    found = dict(reversed([*faults]))  # the first of each
    rows = [
        _row(base, name, pulls.get(proposal_branch(name)), found.get(name))
        for name in base.config.skills
    ]
    budget = _budget(base, month=budgets.month_of(now()))
    redactor = Redactor.from_environ(os.environ, extra=base.config.redact)
    issue = _issue(github)  # now, and not before: people tick boxes at any time
    _refuse_other(project, issue)
    boxes = pages.boxes(issue.body) if issue else {}
    rows = [row.with_(held=boxes.get(row.skill, False)) for row in rows]
    page = pages.dashboard(rows, budget=budget, repository=github.url, project=_name(project))
    body = redactor.redact(page)
    title = issue.title if issue else TITLE
    try:
        return github.upsert_issue(marker=MARKER, title=title, body=body).url
    except SwitchedOff:
        return NO_ISSUES


def _issue(github: GitHub) -> Issue | None:
    try:
        return github.issue_by_marker(MARKER)
    except SwitchedOff:
        return None


def _name(project: Project) -> str:
    """What a project of the repository is told by: where its ratchet.yml is."""
    folder = project.prefix
    if not re.fullmatch(r"[\w./-]*", folder, re.ASCII):
        folder = f"{digest('project', folder)[:12]}/"  # it could not stand in a page as it is
    return f"{folder}{CONFIG_FILE}"


def _refuse_other(project: Project, issue: Issue | None) -> None:
    """Raise RatchetError where another project of the repository has the dashboard.

    The ledger, the branches of proposals and the holds are one for a repository, so two projects
    would take each other's for their own. One that says nothing is of a Ratchet from before.
    """
    owner = pages.project_of(issue.body) if issue else None
    if issue and owner not in (None, _name(project)):
        raise RatchetError(
            f"The issue 'Ratchet' (#{issue.number}) and the ledger are of another project of this "
            f"repository, {owner}; this is {_name(project)}. There can be one.",
            hint="Put all skills into one ratchet.yml: it takes paths anywhere in the repository. "
            f"If the file has moved, take the line 'Of `{owner}`.' out of that issue.",
        )


def _row(base: Base, name: str, pull: Pull | None, fault: RatchetError | None) -> pages.SkillRow:
    """What is known of a skill; the others are to be seen whatever is wrong with this one."""
    row = pages.SkillRow(skill=name, pull=pull.number if pull else None)
    unsound: list[tuple[str, RatchetError]] = []
    broken: list[tuple[str, RatchetError]] = []
    space: Workspace | None = None
    with faults_of(name, unsound):
        space = base.space(name)
        check.require_sound(space)
    with faults_of(name, broken):
        row = _with_numbers(row, base, space) if space else row
    told = [_told(one, see=f"See it: ratchet check {name}") for _, one in unsound]
    told += [_told(one, see=f"{one.hint or ''} See it: ratchet log {name}") for _, one in broken]
    told += [_told(fault, see=fault.hint or "")] if fault else []
    link = fault.link if isinstance(fault, Unopened) else ""
    return row.with_(fault=told[0], link=link) if told else row


def _with_numbers(row: pages.SkillRow, base: Base, space: Workspace) -> pages.SkillRow:
    """A row with what is on record of its skill."""
    ledger = base.ledger(space.name)
    run = ledger.last_run()
    seen = looks.reign(ledger.looks(), parent=space.text.digest, policy=space.policy)
    return row.with_(
        score=badges.kept_score(ledger, space),
        last_run=(run.ended_at or run.started_at) if run else None,
        outcome=_outcome(history.rows(ledger, most=1)),
        looks=seen.looks,
        spent=seen.share,
    )


def _told(error: RatchetError, *, see: str) -> str:
    """A fault in words for a page, and what to do about it."""
    return " ".join(filter(None, (pages.unsealed(error.message), pages.unsealed(see))))


def _outcome(newest: Iterable[history.Row]) -> str:
    return "".join(f"experiment {row.experiment.number}: {row.state}" for row in newest)


def _budget(base: Base, *, month: str) -> pages.MonthBudget:
    limit = base.config.budget.month_usd
    try:
        runs = base.ledger(min(base.config.skills)).runs_of_month(month)
    except RatchetError:  # of one skill, whose row says so
        return pages.MonthBudget(month=month, spent=None, limit=limit)
    counted = [run.usd if limit is None else run.counted for run in runs]
    return pages.MonthBudget(
        month=month,
        spent=fsum(usd for usd in counted if usd is not None),
        limit=limit,
        unpriced=sum(run.calls for run in runs if run.usd is None),
    )
