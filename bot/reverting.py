"""Takes a merged edit out again, on GitHub: a person's decision, by a pull request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bot.core import pages
from bot.errors import RatchetError
from bot.forge import REVERT, Merged, Refused, plain
from bot.pullrequest import Published, in_words

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
        return job.nothing(f"Experiment {found.number} is not in the skill any more.")
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


def _opened(job: Job, experiment: Experiment, content: bytes, *, now: Workspace, by: str) -> Pull:
    name = experiment.id[:12]
    branch = f"ratchet/revert-{name}"
    subject = f"{job.skill}: revert experiment {experiment.number}"
    tip = job.github.head_of(branch)
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
