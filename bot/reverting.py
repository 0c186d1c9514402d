"""Takes a merged edit out again, on GitHub: a person's decision, by a pull request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bot import remote
from bot.core import pages
from bot.errors import RatchetError
from bot.forge import REVERT, Merged, Refused, plain
from bot.pullrequest import Published, in_words
from bot.skillrepo import CommitTree

if TYPE_CHECKING:
    from bot.core.records import Experiment
    from bot.forge.github import Pull
    from bot.pullrequest import Job
    from bot.workspace import Workspace


def revert(job: Job, experiment: str, *, by: str) -> Published:
    """Undo a merge by a pull request that is merged at once, if the branch lets it.

    Args:
        job: The skill.
        experiment: Its number, or the beginning of its id.
        by: Who asked for it.

    Raises:
        RatchetError: It is not in the base branch, or the file has changed too much since.
    """
    found = job.ledger.find(experiment)
    now = job.base_now()
    commit = job.landed(now, found)
    if commit is None:
        raise RatchetError(f"Experiment {found.number} is not merged into {now.branch}.")
    content = plain.undone(now.project, path=now.skill.path, commit=commit, tip=now.base)
    if isinstance(content, Refused):
        raise RatchetError(content.detail, hint=content.hint)
    if content is None:
        return _is_out(job, found, now=now, by=by)
    pull = _opened(job, found, content, now=now, by=by)
    # Nothing is measured for it; where the branch asks for the status, a person has decided.
    said = pages.line(f"Revert of experiment {found.number}, asked for by {by}", pages.STATUS)
    job.github.set_status(pull.head_sha, state="success", description=said)
    done = job.github.merge_pull(
        pull.number,
        head_sha=pull.head_sha,
        base_ref=now.branch,
        base_sha=now.base,
        method=job.space.config.github.method,
        auto=False,
    )
    told = Published(job.skill, found.id, "hold", None, "", pull.number, pull.url)
    if not isinstance(done, Merged):
        return replace(told, detail=f"It waits in #{pull.number}. {in_words(done)}")
    job.recorder.take_out(found.id, commit=done.commit, branch=now.branch, by=by)
    job.publish_ledger(f"{job.skill}: revert of experiment {found.number}")
    job.github.delete_branch(pull.head_ref, expected=pull.head_sha)
    return replace(told, action="revert", detail=f"Taken out again by #{pull.number}.")


def _is_out(job: Job, experiment: Experiment, *, now: Workspace, by: str) -> Published:
    """It is not in the skill any more: perhaps by a job that was killed when it had merged that."""
    commit = plain.reverted_in(now.project, now.base, experiment_id=experiment.id)
    tip = job.github.head_of(branch := _branch(experiment))
    if tip is not None and plain.in_history(now.project, tip, tip=now.base):
        job.github.delete_branch(branch, expected=tip)
    if commit is None or job.ledger.reversion(experiment.id) is not None:
        return job.nothing(f"Experiment {experiment.number} is not in the skill any more.")
    job.recorder.take_out(experiment.id, commit=commit, branch=now.branch, by=by)
    job.publish_ledger(f"{job.skill}: revert of experiment {experiment.number}")
    detail = f"It was taken out again in {commit[:12]}."
    return Published(job.skill, experiment.id, "revert", None, detail)


def _branch(experiment: Experiment) -> str:
    return f"ratchet/revert-{experiment.id[:12]}"


def _opened(job: Job, experiment: Experiment, content: bytes, *, now: Workspace, by: str) -> Pull:
    name = experiment.id[:12]
    branch = _branch(experiment)
    subject = f"{job.skill}: revert experiment {experiment.number}"
    tip = job.github.head_of(branch)
    if tip is not None and _is_made(experiment, content, now=now, tip=tip):
        commit = tip
    else:
        commit = job.put(branch, content, subject, {REVERT: experiment.id}, now=now, tip=tip)
    plain.require_only(now.project, base=now.base, commit=commit, path=now.skill.path)
    pull = job.github.open_pull(
        branch=branch,
        base=now.branch,
        title=subject,
        body=job.redact(pages.revert_request(experiment, by=by)),
        marker=pages.marker("revert", name),
    )
    return job.github.pull(pull.number)


def _is_made(experiment: Experiment, content: bytes, *, now: Workspace, tip: str) -> bool:
    """Whether the branch ends in just this commit, by a job that was killed then."""
    remote.fetch(now.project, _branch(experiment))
    path = now.skill.path
    return (
        plain.trailer(now.project, tip, REVERT) == experiment.id
        and plain.parent(now.project, tip) == now.base
        and plain.is_only(now.project, base=now.base, commit=tip, path=path)
        and CommitTree(now.project, tip).read(path) == content
    )
