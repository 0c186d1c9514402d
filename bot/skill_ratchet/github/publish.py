"""The job that may write: brings what was decided to GitHub, and looks again at what waits there.

It runs no model. What another job decided comes as a checked bundle; a proposal that waits is
looked at again from the ledger alone. What is done about one skill is in ``pull_request``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError, faults_of
from skill_ratchet.cases import check
from skill_ratchet.experiment import jobs
from skill_ratchet.github import dashboard, intake, pages, rejected, replies
from skill_ratchet.github.pull_request import Job, Published
from skill_ratchet.ledger import bundles, offers, remote
from skill_ratchet.project import config, repository, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from skill_ratchet.github.api import GitHub
    from skill_ratchet.github.replies import Asked
    from skill_ratchet.project.repository import Project


@dataclass(frozen=True, slots=True)
class Round:
    """What one look at every skill came to. ``failed`` has an error for each skill or bundle."""

    done: tuple[Published, ...]
    failed: tuple[tuple[str, RatchetError], ...]
    dashboard: str  # its address, or why there is none


def _now() -> datetime:
    return datetime.now(UTC)


def open_job(
    start: Path, *, github: GitHub, skill: str | None, now: Callable[[], datetime] = _now
) -> Job:
    """What is done on GitHub about one skill, as it is on the base branch of this clone."""
    space = workspace.open_at_base(repository.open_project(start), skill=skill, override={})
    return Job.of(space, github=github, now=now)


def publish(
    start: Path,
    *,
    github: GitHub,
    bundle: Path | None,
    skill: str | None,
    now: Callable[[], datetime] = _now,
) -> Published:
    """Act on a confirmation bundle, or, without one, look again at the skill's open proposal.

    Raises:
        RatchetError: The bundle is not sound, or GitHub refuses.
    """
    if bundle is None:
        job = open_job(start, github=github, skill=skill, now=now)
        return job.badge(job.settle())
    named = bundles.read_manifest(bundle, kind="confirmation").skill
    if skill not in (None, named):
        raise RatchetError(f"The bundle is for skill {named}, not for {skill}.")
    job = open_job(start, github=github, skill=named, now=now)
    known = job.ledger.results().keys()
    try:
        checked = jobs.take_in(bundle, job.space, kind="confirmation")
    except bundles.OvertakenError:  # but its look is on record now, for everybody
        remote.push_ledger(job.space.project, skill=named)
        raise
    job = open_job(start, github=github, skill=named, now=now)  # the ledger has moved
    remote.push_ledger(job.space.project, skill=named)
    if job.space.config.github.publish == "all":
        rejected.show_rejected(job, known)
    if checked.experiment is None or checked.decision is None:
        done = job.resume()
    else:
        done = job.act(checked.experiment, checked.decision.evidence)
    return job.badge(done)


def publish_all(
    start: Path,
    *,
    github: GitHub,
    folder: Path,
    planned: Collection[str] | None = None,
    now: Callable[[], datetime] = _now,
) -> Round:
    """Publish every bundle below a folder, look again at every other skill, show it all.

    What is wrong with one skill does not stop another; it is named on the dashboard.

    Args:
        start: The project.
        github: Where to.
        folder: One folder in it for each bundle, of its skill's name, or for each artifact; may be
            missing when there is none.
        planned: The skills that jobs of this run were for; None when that is not known.
        now: The UTC time.
    """
    project = repository.open_project(start)
    done: list[Published] = []
    offered = offers.below(folder, planned=planned)
    failed = [*offered.refused]
    for skill, bundle in sorted(offered.taken.items()):
        with faults_of(skill, failed):
            done.append(publish(start, github=github, bundle=bundle, skill=skill, now=now))
    told = {one.skill for one in done}
    for skill in sorted(_skills(project) - told):
        found: list[tuple[str, RatchetError]] = []
        with faults_of(skill, found):
            _require_sound(project, skill)
        with faults_of(skill, found):
            done.append(publish(start, github=github, bundle=None, skill=skill, now=now))
        failed += found[:1]
    with faults_of("the new fixtures", failed):
        done += filter(None, [intake.look(project, github, now=now)])
    shown = ""
    with faults_of("the dashboard", failed):
        shown = dashboard.update(project, github, now=now, faults=failed)
    return Round(tuple(done), tuple(failed), shown)


def _require_sound(project: Project, skill: str) -> None:
    """A skill that gets no run because of a fault of its own is said to have it, every time."""
    try:
        check.require_sound(workspace.open_at_base(project, skill=skill, override={}))
    except RatchetError as error:
        raise RatchetError(error.message, hint=f"See it: ratchet check {skill}") from error


def faults_page(failed: Iterable[tuple[str, RatchetError]]) -> str:
    """What went wrong, for the run's page; empty when nothing did."""
    lines = [
        f"- {pages.fault(where, f'{pages.unsealed(error.message)} {error.hint or str()}')}"
        for where, error in failed
    ]
    return "\n".join(["Not done:", "", *lines, ""]) if lines else ""


def with_fixtures(
    start: Path, *, github: GitHub, done: Published, now: Callable[[], datetime] = _now
) -> Round:
    """A round of one skill, after a look at the pull request with new fixtures, too."""
    try:
        intake.look(repository.open_project(start), github, now=now)
    except RatchetError as error:
        return Round((done,), (("the new fixtures", error),), "")
    return Round((done,), (), "")


def answer(github: GitHub, asked: Asked, done: Round) -> None:
    """Say in answer to a comment what a round came to."""
    lines = [
        pages.outcome(one.skill, action=one.action, reason=one.reason, detail=one.detail)
        + (f" #{one.pull}" if one.pull else "")
        for one in done.done
    ]
    lines += [
        pages.outcome(
            "error", action=None, reason=None, detail=f"{where}: {pages.unsealed(error.message)}"
        )
        for where, error in done.failed
    ]
    replies.answer(github, asked, *lines, well=not done.failed)


def _skills(project: Project) -> set[str]:
    return set(config.load_config(repository.CommitTree(project, "HEAD")).skills)
