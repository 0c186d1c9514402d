"""Writes what an experiment was and what became of it; makes the line people see of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from skill_ratchet.core import evidence as stats
from skill_ratchet.core import failures
from skill_ratchet.core.gate import Action, Reason, Verdict
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import (
    NO_TALLY,
    NOT_CONFIRMED,
    Experiment,
    Landing,
    Result,
    Tally,
    digest,
    experiment_id,
    total,
)
from skill_ratchet.experiment.proposer import Candidate, Unusable, question
from skill_ratchet.ledger.sight import WITHHELD
from skill_ratchet.project import sealing
from skill_ratchet.project.workspace import BOTH, PERSON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from skill_ratchet.core.records import Evidence, FailedCalls, Pair, Reply, Split, Text, Trace
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.workspace import Workspace

NOT_MERGED = "Not merged."
# Reasons that say nothing about held-out cases; the proposer reads no other.
TELLABLE = frozenset(
    {Reason.TARGETS_MISSED, Reason.SCREEN_FAILED, Reason.IMPROVED, Reason.STALE, Reason.HELD}
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One experiment as a person sees it on their own machine."""

    number: int
    experiment: str
    action: str
    reason: str
    detail: str
    hypothesis: str
    train: Tally
    holdout: Tally | None
    calls: int
    usd: float | None
    deterministic: bool
    sealed: int = 0  # held-out cases
    verdict: Verdict | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an experiment ended, in everything a person may know."""

    action: Action
    reason: str
    detail: str
    evidence: Evidence | None = None
    verdict: Verdict | None = None
    calls: int = 0
    usd: float | None = 0.0
    leaked: bool = False  # held-out text was found in a proposal that could not be tried

    @property
    def withheld(self) -> bool:
        """Whether what was proposed is kept from proposers, logs and pages."""
        verdict = self.verdict
        return self.leaked or (verdict is not None and verdict.reason is Reason.LEAKS_HOLDOUT)


class Recorder:
    """The one writer of experiments, confirmations, results and landings.

    Args:
        ledger: Where to.
        now: The UTC time.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._ledger, self._now = ledger, now

    def stamp(self) -> str:
        """The time, ISO 8601 with microseconds."""
        return self._now().isoformat(timespec="microseconds")

    def begin(self, made: Candidate, space: Workspace, *, number: int) -> Experiment:
        """Write a proposal down before it is tried."""
        experiment = self._experiment(made, space, number)
        return self._keep(experiment, space, text=made.text.text)

    def take_over(self, experiment: Experiment, space: Workspace) -> Experiment:
        """Bind an experiment that was begun without the holdout to the one there is now."""
        setting = experiment.setting.with_(holdout_digest=space.setting().holdout_digest)
        text = self._ledger.candidate_text(experiment.id)
        # Both jobs had to hide the cases; what is known to be open stays so.
        now = sealing.state(space.config)
        sealed = now if experiment.sealed in (None, "hidden") else experiment.sealed
        return self._keep(experiment.with_(setting=setting, sealed=sealed), space, text=text)

    def begin_anew(
        self, made: Experiment, text: Text, space: Workspace, *, number: int
    ) -> Experiment:
        """Write an experiment down that another job has begun, under a number that is free."""
        return self._keep(made.with_(number=number), space, text=text.text)

    def refuse(self, made: Unusable, space: Workspace, *, number: int, outcome: Outcome) -> Attempt:
        """Write down a proposal that cannot be tried, and commit it.

        The result goes first: a run that dies in between finds nothing begun, and starts again
        from the reply that is kept.
        """
        experiment = self._experiment(made, space, number)
        self._ledger.add_result(self._result(experiment, outcome))
        experiment = self._keep(experiment, space, text=None)
        self._flush(experiment, outcome.action)
        return attempt(experiment, outcome)

    def _experiment(self, made: Candidate | Unusable, space: Workspace, number: int) -> Experiment:
        text = made.text if isinstance(made, Candidate) else None
        parent = space.text.digest
        name = (
            experiment_id(space.name, parent=parent, candidate=text.digest)
            if text
            else digest("unusable", space.name, parent, number)
        )
        return Experiment(
            id=name,
            skill=space.name,
            number=number,
            parent=parent,
            candidate=text.digest if text else None,
            setting=space.setting(by_person=made.proposal.proposer == PERSON),
            proposal=made.proposal,
            started_at=self.stamp(),
            level=made.level,
            chars=(len(space.text.text), len(text.text)) if text else None,
            sealed=sealing.state(space.config),
        )

    def _keep(self, experiment: Experiment, space: Workspace, *, text: str | None) -> Experiment:
        self._ledger.add_experiment(experiment, parent_text=space.text.text, candidate_text=text)
        # As it is kept: without the secrets a model may repeat.
        return self._ledger.find(experiment.id)

    def consult(self, experiment: Experiment, *, attempt: int) -> None:
        """Count a look at the holdout, before its first call: a run that dies has looked."""
        self._ledger.put_confirmation(
            Confirmation(
                experiment=experiment.id,
                parent=experiment.parent,
                attempt=attempt,
                started_at=self.stamp(),
            )
        )

    def confirmed(self, experiment: Experiment, evidence: Evidence, verdict: Verdict) -> None:
        """Complete the record of a look at the holdout."""
        if evidence.attempt is None and verdict.reason is not Reason.LEAKS_HOLDOUT:
            return
        self._ledger.put_confirmation(
            Confirmation(
                experiment=experiment.id,
                parent=experiment.parent,
                attempt=evidence.attempt or 0,
                started_at=experiment.started_at,
                evidence=evidence,
                verdict=verdict,
                completed_at=self.stamp(),
            )
        )

    def land(self, experiment: str, *, commit: str, branch: str, by: str) -> None:
        """An experiment is in the base branch."""
        self._ledger.add_landing(
            Landing(experiment=experiment, commit=commit, branch=branch, at=self.stamp(), by=by)
        )

    def take_out(self, experiment: str, *, commit: str, branch: str, by: str) -> Landing:
        """An experiment is out of the base branch again; returns the record."""
        record = Landing(
            experiment=experiment, commit=commit, branch=branch, at=self.stamp(), by=by
        )
        self._ledger.add_revert(record)
        return record

    def close(self, experiment: Experiment, outcome: Outcome) -> Attempt:
        """Write the result, and commit everything so far to the ledger's branches."""
        self._ledger.add_result(self._result(experiment, outcome))
        self._flush(experiment, outcome.action)
        return attempt(experiment, outcome)

    def _flush(self, experiment: Experiment, action: Action) -> None:
        self._ledger.flush(f"{experiment.skill}: experiment {experiment.number}: {action.value}")

    def _result(self, experiment: Experiment, outcome: Outcome) -> Result:
        evidence, reason, detail = outcome.evidence, outcome.reason, outcome.detail
        train = tally(evidence.screen, evidence.train_fixtures) if evidence else NO_TALLY
        # The proposer reads this record: of a look at the holdout it may know only the outcome.
        sealed = outcome.verdict is not None and not _is_tellable(outcome)
        started = datetime.fromisoformat(experiment.started_at)
        return Result(
            experiment=experiment.id,
            action=outcome.action.value,
            reason=NOT_CONFIRMED if sealed else reason,
            detail=NOT_MERGED if sealed else WITHHELD if outcome.leaked else detail,
            train=train,
            calls=outcome.calls,
            usd=outcome.usd,
            seconds=max(0.0, (self._now() - started).total_seconds()),
            finished_at=self.stamp(),
            tokens=self._tokens(experiment, evidence) if evidence and evidence.screen else None,
            baseline=fmean(evidence.train_scores) if evidence and evidence.train_scores else None,
            cases=len(evidence.train_scores) if evidence else 0,
            deterministic=evidence is not None and evidence.deterministic,
            withheld=outcome.withheld,
        )

    def _tokens(self, experiment: Experiment, evidence: Evidence) -> tuple[float, float] | None:
        model, deterministic = experiment.setting.model_digest, evidence.deterministic
        kept = self._ledger.kept_runs(experiment.parent, model, deterministic=deterministic)
        runs = self._ledger.experiment_runs(experiment.id, "train")
        return tokens_used(evidence.screen, [*kept.values(), *runs])

    def amend(self, experiment: Experiment, *, action: Action, reason: str, detail: str) -> None:
        """Change what a result says became of an experiment; its numbers stay.

        Where a run died before it wrote the result, the numbers are those of the confirm run.
        """
        before = self._ledger.result(experiment.id)
        if before is None:
            confirmation = self._ledger.confirmation(experiment.id)
            evidence = confirmation.evidence if confirmation else None
            paid = paid_for(self._ledger, experiment)
            cost = price(paid)
            self.close(
                experiment, Outcome(action, reason, detail, evidence, calls=len(paid), usd=cost)
            )
            return
        self._ledger.add_result(
            before.with_(
                action=action.value, reason=reason, detail=detail, finished_at=self.stamp()
            )
        )
        self._flush(experiment, action)


def _is_tellable(outcome: Outcome) -> bool:
    """Whether its reason says nothing about held-out cases."""
    before = outcome.evidence is not None and outcome.evidence.attempt is None
    return outcome.reason in TELLABLE or (outcome.reason == Reason.FAILS_MORE and before)


def own_runs(
    ledger: Ledger,
    experiment: Experiment,
    *,
    splits: Sequence[Split] = BOTH,
    job: Literal["task", "judge"] = "task",
) -> list[Trace]:
    """The runs made for an experiment since it was begun, or the judgements of them.

    It may have been tried before: what was made then is not among them.
    """
    return [
        trace
        for split in splits
        for trace in ledger.experiment_runs(experiment.id, split, job=job)
        if trace.started_at >= experiment.started_at
    ]


def failed_calls(ledger: Ledger, experiment: Experiment) -> FailedCalls:
    """How often the infrastructure failed each side since an experiment was begun."""
    model = experiment.setting.model_digest
    own = own_runs(ledger, experiment)
    kept = ledger.incumbent_tries(experiment.parent, since=experiment.started_at)
    if not any(run.side == "incumbent" and run.split == "holdout" for run in own):
        held_out = ledger.text_runs(experiment.parent, "holdout")  # which made again are the same
        kept += [run for run in held_out if run.started_at >= experiment.started_at]
    return failures.counted(
        [run for run in own if run.side == "candidate"],
        [*(run for run in own if run.side == "incumbent"), *_with_model(kept, model)],
    )


def _with_model(runs: Iterable[Trace], model: str) -> Iterator[Trace]:
    return (run for run in runs if run.key and run.key.model == model)


def paid_for(ledger: Ledger, experiment: Experiment, *, until: str = "") -> list[Reply]:
    """Every answer on record that an experiment cost: its proposal, its runs and their judges.

    Those from ``until`` on are another's, if that is given.
    """
    proposals = proposals_paid(ledger, experiment.number, experiment.parent)
    # Kept for the next ones, and made for this.
    shared = [*ledger.incumbent_runs(experiment.parent)]
    shared += ledger.text_runs(experiment.parent, "holdout")
    for split in BOTH:
        shared += ledger.text_runs(experiment.parent, split, job="judge")
    runs = [
        *own_runs(ledger, experiment),
        *own_runs(ledger, experiment, job="judge"),
        *(trace for trace in shared if trace.started_at >= experiment.started_at),
    ]
    early = (trace for trace in runs if not until or trace.started_at < until)
    answered = (trace for trace in early if trace.reply.error is None or trace.score)
    return [*proposals, *(trace.reply for trace in answered)]


def proposals_paid(ledger: Ledger, number: int, parent: str) -> list[Reply]:
    """Every answer on record of a proposer that was asked for an experiment against a text."""
    asked = ledger.proposer_calls(question(ledger.skill, number))
    return [
        trace.reply
        for trace in asked
        if trace.key and trace.key.skill == parent and trace.reply.error is None
    ]


def price(replies: Sequence[Reply]) -> float | None:
    """What calls cost together, in USD; None when a price was not known."""
    return total(reply.usd for reply in replies)


def attempt(experiment: Experiment, outcome: Outcome) -> Attempt:
    """An experiment and how it ended, for people."""
    evidence = outcome.evidence
    train = tally(evidence.screen, evidence.train_fixtures) if evidence else NO_TALLY
    holdout = tally(evidence.confirm, evidence.holdout_fixtures) if evidence else NO_TALLY
    return Attempt(
        number=experiment.number,
        experiment=experiment.id,
        action=outcome.action.value,
        reason=outcome.reason,
        detail=WITHHELD if outcome.leaked else outcome.detail,
        hypothesis=WITHHELD if outcome.withheld else experiment.proposal.hypothesis,
        train=train,
        holdout=holdout if holdout.pairs else None,
        calls=outcome.calls,
        usd=outcome.usd,
        deterministic=evidence is not None and evidence.deterministic,
        sealed=len(evidence.holdout_fixtures) if evidence else 0,
        verdict=outcome.verdict,
        evidence=evidence,
    )


def tokens_used(pairs: Sequence[Pair], runs: Iterable[Trace]) -> tuple[float, float] | None:
    """Mean tokens of a run with the incumbent and with the candidate, as the provider counts them.

    None when there are no pairs, a run of them is not among ``runs``, or no tokens were counted.
    """
    used = {run.id: run.reply.usage.total for run in runs}
    old = [used.get(pair.incumbent_run) for pair in pairs]
    new = [used.get(pair.candidate_run) for pair in pairs]
    known = [count for count in (*old, *new) if count is not None]
    if len(known) < len(old) + len(new) or not any(known):
        return None
    return fmean(known[: len(old)]), fmean(known[len(old) :])


def tally(pairs: Sequence[Pair], fixtures: Sequence[str]) -> Tally:
    """Pairs of one split, counted; a block of a large one counts as a sweep."""
    if not pairs:
        return NO_TALLY
    first, several = sum(pair.sweep == 0 for pair in pairs), any(pair.sweep for pair in pairs)
    block = several or first == stats.LARGEST_BLOCK
    size = first if block else len(fixtures)
    return Tally.of(pairs, sweeps=len(pairs) // size, size=size)
