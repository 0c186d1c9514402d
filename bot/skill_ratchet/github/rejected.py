"""``github.publish: all``: rejected edits as pull requests that are opened and closed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skill_ratchet.core import gate, leaks
from skill_ratchet.core.facts import Findings, Present, gather
from skill_ratchet.core.gate import Action, Reason
from skill_ratchet.experiment import proposal_tip
from skill_ratchet.experiment.proposer import SHIPPED_EDITED, SUPERSEDED
from skill_ratchet.github import pages
from skill_ratchet.github.pull_request import LABEL, REJECTED
from skill_ratchet.project import workspace
from skill_ratchet.project.proposal import EXPERIMENT, PARENT

if TYPE_CHECKING:
    from collections.abc import Collection

    from skill_ratchet.core.records import Experiment
    from skill_ratchet.github.pull_request import Job

_UNSHOWN = frozenset({Reason.LEAKS_HOLDOUT.value, SUPERSEDED, REJECTED, SHIPPED_EDITED})
_NO_COMMIT = "0" * 40


def show_rejected(job: Job, known: Collection[str]) -> None:
    """Open and close a pull request for each rejected candidate that is not in ``known``.

    While the branch of the skill is in use, nothing is shown.
    """
    for experiment in job.ledger.experiments():
        result = job.ledger.result(experiment.id)
        persons = experiment.setting.proposer == workspace.PERSON  # who has a pull request for it
        if result is None or result.action != "reject" or experiment.id in known or persons:
            continue
        facts = rejected(job, experiment)
        if facts is not None and job.github.head_of(job.branch) is None:
            _show(job, experiment, facts)


def rejected(job: Job, experiment: Experiment) -> pages.PullFacts | None:
    """What is on record of a rejected candidate; None when it must not be shown."""
    result = job.ledger.result(experiment.id)
    if result is None or experiment.candidate is None or result.reason in _UNSHOWN:
        return None
    found = job.ledger.confirmation(experiment.id)
    if found is not None and found.evidence is not None and found.verdict is not None:
        if found.verdict.reason is Reason.LEAKS_HOLDOUT:
            return None
        return job.facts(experiment, found.evidence, found.verdict, _NO_COMMIT)
    if result.reason not in set(Reason):
        return None
    verdict = gate.Verdict(action=Action.REJECT, reason=Reason(result.reason), detail=result.detail)
    unseen = gather(Findings.none(experiment.id), Present.unknown())  # the holdout was not asked
    return job.facts(experiment, unseen, verdict, _NO_COMMIT).with_(train=result.train)


def _show(job: Job, experiment: Experiment, facts: pages.PullFacts) -> None:
    candidate = job.ledger.candidate_text(experiment.id)
    now = job.base_now()
    if candidate is None or experiment.parent != now.text.digest:
        return  # it edits a text that is not there any more
    # Where it was rejected nobody could look for held-out text.
    if leaks.written(
        experiment.proposal,
        candidate,
        incumbent=now.text.text,
        train=now.train,
        holdout=now.holdout,
    ):
        return
    subject = proposal_tip.subject(experiment)
    trailers = {EXPERIMENT: experiment.id, PARENT: experiment.parent}
    commit = job.put(job.branch, candidate.encode(), subject, trailers, now=now, tip=None)
    title, body = pages.pull_request(facts.with_(head=commit))
    pull = job.github.open_pull(
        branch=job.branch,
        base=now.branch,
        title=job.redact(title),
        body=job.redact(body),
        marker=job.marker,
    )
    job.github.add_label(pull.number, LABEL)
    job.github.set_status(commit, state="failure", description=job.redact(pages.status(facts)))
    closing = pages.closing(experiment, why=facts.verdict.detail)
    job.github.close_pull(pull.number, job.redact(closing))
    job.github.delete_branch(job.branch, expected=commit)
