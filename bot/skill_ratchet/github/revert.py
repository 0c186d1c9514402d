"""Takes a merged edit out again, on GitHub: a person's decision, by a pull request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skill_ratchet.core import markdown
from skill_ratchet.experiment import reversal
from skill_ratchet.github import pages
from skill_ratchet.github.api import MergeOrder
from skill_ratchet.github.pull_request import Published, in_words
from skill_ratchet.ledger import remote
from skill_ratchet.project import branches
from skill_ratchet.project.proposal import REVERT, Merged
from skill_ratchet.project.repository import CommitTree

if TYPE_CHECKING:
    from skill_ratchet.core.records import Experiment
    from skill_ratchet.experiment.reversal import Reversal
    from skill_ratchet.github.api import Pull
    from skill_ratchet.github.pull_request import Job
    from skill_ratchet.project.workspace import Workspace


def revert(job: Job, experiment: str, *, by: str) -> Published:
    """Undo a merge by a pull request that is merged at once, if the branch lets it.

    Args:
        job: The skill.
        experiment: Its number, or the beginning of its id.
        by: Who asked for it.

    Raises:
        RatchetError: It is not in the base branch, or the file has changed too much since.
    """
    found, now = job.ledger.find(experiment), job.base_now()
    todo = reversal.find(
        found, project=now.project, path=now.skill.path, branch=now.branch, tip=now.base
    )
    if todo.content is None:
        return _is_out(job, todo, now=now, by=by)
    pull = _opened(job, todo, todo.content, now=now, by=by)
    # Nothing is measured for it; where the branch asks for the status, a person has decided.
    said = markdown.line(f"Revert of experiment {found.number}, asked for by {by}", pages.STATUS)
    job.github.set_status(pull.head_sha, state="success", description=said)
    order = MergeOrder(
        number=pull.number,
        head_sha=pull.head_sha,
        base_ref=now.branch,
        base_sha=now.base,
        method=job.space.config.github.method,
    )
    handing = job.space.config.github.auto_merge
    done = job.github.merge_pull(order, auto=False, queue=handing)
    told = Published.of(job.skill, found, "hold", None, "", pull=pull)
    if not isinstance(done, Merged):
        return replace(told, detail=f"It waits in #{pull.number}. {in_words(done)}")
    _record(job, todo, done, by=by)
    job.github.delete_branch(pull.head_ref, expected=pull.head_sha)
    return replace(told, action="revert", detail=f"Taken out again by #{pull.number}.")


def _record(job: Job, todo: Reversal, done: Merged, *, by: str) -> None:
    todo.record(job.ledger, job.recorder, done, by=by)
    remote.push_ledger(job.space.project, skill=job.skill)


def _is_out(job: Job, todo: Reversal, *, now: Workspace, by: str) -> Published:
    """It is not in the skill any more: perhaps by a job that was killed when it had merged that."""
    experiment = todo.experiment
    tip = job.github.head_of(branch := _branch(experiment))
    if tip is not None and branches.in_history(now.project, tip, tip=now.base):
        job.github.delete_branch(branch, expected=tip)
    if job.ledger.reversion(experiment.id) is not None:
        return job.nothing(f"Experiment {experiment.number} is not in the skill any more.")
    _record(job, todo, Merged(branch=now.branch, commit=todo.since, already=True), by=by)
    detail = f"It was taken out again in {todo.since[:12]}."
    return Published.of(job.skill, experiment, "revert", None, detail)


def _branch(experiment: Experiment) -> str:
    return f"ratchet/revert-{experiment.id[:12]}"


def _opened(job: Job, todo: Reversal, content: bytes, *, now: Workspace, by: str) -> Pull:
    experiment, branch = todo.experiment, _branch(todo.experiment)
    tip = job.github.head_of(branch)
    if tip is not None and _is_made(todo, now=now, tip=tip):
        commit = tip
    else:
        commit = job.put(branch, content, todo.subject, todo.trailers, now=now, tip=tip)
    branches.require_only(now.project, base=now.base, commit=commit, path=now.skill.path)
    pull = job.github.open_pull(
        branch=branch,
        base=now.branch,
        title=todo.subject,
        body=job.redact(pages.revert_request(experiment, by=by)),
        marker=pages.marker("revert", experiment.id[:12]),
    )
    return job.github.pull(pull.number)


def _is_made(todo: Reversal, *, now: Workspace, tip: str) -> bool:
    """Whether the branch ends in just this commit, by a job that was killed then."""
    remote.fetch(now.project, _branch(todo.experiment))
    path = now.skill.path
    return (
        branches.trailer(now.project, tip, REVERT) == todo.experiment.id
        and branches.parent(now.project, tip) == now.base
        and branches.is_only(now.project, base=now.base, commit=tip, path=path)
        and CommitTree(now.project, tip).read(path) == todo.content
    )
