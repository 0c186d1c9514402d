"""Where each skill stands, from this clone alone: no call is made and nobody is asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from skill_ratchet.base import git
from skill_ratchet.base.errors import RatchetError, faults_of
from skill_ratchet.core import records, wording
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.ledger import access, clock, scores
from skill_ratchet.project import config, repository, skill_file
from skill_ratchet.project.proposal import proposal_branch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from skill_ratchet.core.records import Experiment, Run, Trace
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.config import Config
    from skill_ratchet.project.repository import Project, WorkTree


@dataclass(frozen=True, slots=True)
class SkillStatus:
    """One skill. ``score`` is that of its text on disk on train, over the runs on record.

    Where there are none it is what the text scored as the candidate of experiment ``tried``.
    """

    skill: str
    score: float | None  # None when this text was not scored yet
    tried: int | None
    runs: int  # it is the mean of
    model: str | None  # they were made with
    proposal: str | None  # the branch that holds an open one
    under_way: int | None  # number of an experiment that is not finished
    experiments: int
    last: Run | None
    problem: str | None  # why its file cannot be read


@dataclass(frozen=True, slots=True)
class Overview:
    """All skills that were asked about."""

    skills: tuple[SkillStatus, ...]
    held: bool  # by the stop file
    month_usd: float | None  # the month's budget; None without one
    left_usd: float | None

    @property
    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        shown = [
            asdict(one) | {"last": one.last and one.last.model_dump(mode="json")}
            for one in self.skills
        ]
        return asdict(self) | {"skills": shown}


def overview(
    start: Path, *, skill: str | None, now: Callable[[], datetime] = clock.now
) -> Overview:
    """Look at one skill, or at all of them.

    Raises:
        RatchetError: There is no project here, or no such skill.
    """
    project = repository.open_project(start)
    tree = repository.WorkTree(project)
    settings = config.load_config(tree)
    names = [config.choose_skill(settings, skill)] if skill else sorted(settings.skills)
    ledgers = {name: access.open_ledger(project, name, redact=settings.redact) for name in names}
    limit, left = settings.budget.month_usd, None
    if limit is not None and names:
        left = _left(limit, ledgers[names[0]], month=budgets.month_of(now()))
    unmerged = _unmerged(project, settings.base or "HEAD")
    return Overview(
        skills=tuple(_seen(tree, settings, ledgers[name], unmerged) for name in names),
        held=repository.WorkTree(project).is_stopped(),
        month_usd=limit,
        left_usd=left,
    )


def _left(limit: float, ledger: Ledger, *, month: str) -> float | None:
    """What is left of the month; None where a record of a run, of any skill, cannot be read."""
    try:
        return budgets.left(limit, ledger.runs_of_month(month))
    except RatchetError:
        return None


def _seen(tree: WorkTree, settings: Config, ledger: Ledger, unmerged: Sequence[str]) -> SkillStatus:
    """A skill, or what is wrong with its records: the others are shown all the same."""
    faults: list[tuple[str, RatchetError]] = []
    with faults_of(ledger.skill, faults):
        return _look(tree, settings, ledger, unmerged)
    branch = proposal_branch(ledger.skill)
    return SkillStatus(
        skill=ledger.skill,
        score=None,
        tried=None,
        runs=0,
        model=None,
        proposal=branch if branch in unmerged else None,
        under_way=None,
        experiments=0,
        last=None,
        problem=faults[0][1].message,
    )


def _look(tree: WorkTree, settings: Config, ledger: Ledger, unmerged: Sequence[str]) -> SkillStatus:
    path = settings.skill(ledger.skill).path
    experiments, results = ledger.experiments(), ledger.results()
    runs: list[Trace] = []
    tried: Experiment | None = None
    found: scores.TrainScore | None = None
    problem = None
    try:
        text = records.skill_digest(skill_file.decode(tree.read(path), path=path))
        runs = scores.sweep(ledger, text)
        won = [one for one in experiments if one.candidate == text and one.id in results]
        found = scores.of_experiments(experiments, results).get(text) if not runs else None
        tried = won[-1] if won and found else None
    except RatchetError as error:
        problem = error.message
    ended = {name: result.finished_at for name, result in results.items()}
    open_ones = (one.number for one in experiments if ended.get(one.id, "") < one.started_at)
    branch = proposal_branch(ledger.skill)
    scored = [run.score.value for run in runs if run.score]
    return SkillStatus(
        skill=ledger.skill,
        score=fmean(scored) if scored else found and found.value,
        tried=tried.number if tried else None,
        runs=len(scored),
        model=runs[0].model if runs else None,
        proposal=branch if branch in unmerged else None,
        under_way=next(open_ones, None),
        experiments=len(experiments),
        last=ledger.last_run(),
        problem=problem,
    )


def _unmerged(project: Project, base: str) -> list[str]:
    """Branches of proposals with commits that the base has not."""
    listed = ("for-each-ref", "--format=%(refname)", "refs/heads/ratchet/")
    there = git.read_object(project.git_dir, f"{base}^{{commit}}")
    if there is None and not repository.run(project, *listed).text:
        return []  # without a commit there is no base to compare with
    found = repository.run(project, *listed, f"--no-merged={base}").text.split()
    return [ref.removeprefix("refs/heads/") for ref in found]


def describe(seen: Overview) -> list[str]:
    """The overview in words, a line each."""
    lines = [line for one in seen.skills for line in _lines(one)]
    if seen.month_usd is not None:
        left = " of ".join(wording.amounts(seen.left_usd or 0.0, seen.month_usd))
        lines.append(f"Budget: {left} are left this month.")
    if seen.held:
        lines.append(f"On hold: the file {repository.HOLD_FILE} stops every run.")
    return lines


def _lines(one: SkillStatus) -> list[str]:
    if one.problem:
        return [f"{one.skill}: {one.problem}"]
    score = "not scored yet as it is: ratchet eval"
    if one.runs:
        cases = "case" if one.runs == 1 else "cases"
        score = f"{wording.percent(one.score)} on {one.runs} train {cases}, with {one.model}"
    elif one.tried is not None:
        score = f"{wording.percent(one.score)} on train when it was tried, experiment {one.tried}"
    lines = [f"{one.skill}: {score}"]
    if one.proposal:
        lines.append(f"  open proposal: branch {one.proposal}")
    if one.under_way is not None:
        number = one.under_way
        lines.append(
            f"  experiment {number} is not finished: 'ratchet run' continues it, unless the skill, "
            "its cases or the settings have changed"
        )
    return [*lines, f"  experiments so far: {one.experiments}", f"  last run: {_last(one.last)}"]


def _last(run: Run | None) -> str:
    if run is None:
        return "none yet"
    how = run.ended or "killed, or still under way"
    spent = wording.cost(run.calls, run.usd)
    return f"{run.job} of {wording.moment(run.started_at)}, {how}, {spent}"
