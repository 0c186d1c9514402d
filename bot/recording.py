"""Writes what an experiment was and what became of it; makes the line people see of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import fsum
from statistics import fmean
from typing import TYPE_CHECKING

from bot.core.gate import Action, Reason, Verdict
from bot.core.records import Experiment, Landing, Result, Tally, digest
from bot.core.reign import Confirmation
from bot.proposing import Candidate, Unusable, experiment_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bot.core.records import Evidence, Pair, Trace
    from bot.ledger import Ledger
    from bot.workspace import Workspace

NO_TALLY = Tally(incumbent=None, candidate=None)
NOT_CONFIRMED = "not_confirmed"
NOT_MERGED = "Not merged."
# Reasons that say nothing about held-out cases; the proposer reads no other.
TELLABLE = frozenset({Reason.SCREEN_FAILED, Reason.IMPROVED, Reason.STALE, Reason.HELD})


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
    verdict: Verdict | None = None


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

    @classmethod
    def of(
        cls, verdict: Verdict, evidence: Evidence | None, *, calls: int, usd: float | None
    ) -> Outcome:
        """What the gate said."""
        return cls(
            action=verdict.action,
            reason=verdict.reason.value,
            detail=verdict.detail,
            evidence=evidence,
            verdict=verdict,
            calls=calls,
            usd=usd,
        )


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

    def begin(self, made: Candidate | Unusable, space: Workspace, *, number: int) -> Experiment:
        """Write a proposal down before it is tried."""
        text = made.text if isinstance(made, Candidate) else None
        parent = space.text.digest
        name = (
            experiment_id(space.name, parent=parent, candidate=text.digest)
            if text
            else digest("unusable", space.name, parent, number)
        )
        experiment = Experiment(
            id=name,
            skill=space.name,
            number=number,
            parent=parent,
            candidate=text.digest if text else None,
            setting=space.setting(),
            proposal=made.proposal,
            started_at=self.stamp(),
        )
        self._ledger.add_experiment(
            experiment, parent_text=space.text.text, candidate_text=text.text if text else None
        )
        return self._ledger.find(name)  # as it is kept: without the secrets a model may repeat

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
        if evidence.attempt is None:
            return
        self._ledger.put_confirmation(
            Confirmation(
                experiment=experiment.id,
                parent=experiment.parent,
                attempt=evidence.attempt,
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

    def close(self, experiment: Experiment, outcome: Outcome) -> Attempt:
        """Write the result, and commit everything so far to the ledger's branches."""
        evidence, reason, detail = outcome.evidence, outcome.reason, outcome.detail
        train = tally(evidence.screen, evidence.train_fixtures) if evidence else NO_TALLY
        # The proposer reads this record: of a look at the holdout it may know only the outcome.
        sealed = outcome.verdict is not None and reason not in TELLABLE
        started = datetime.fromisoformat(experiment.started_at)
        result = Result(
            experiment=experiment.id,
            action=outcome.action.value,
            reason=NOT_CONFIRMED if sealed else reason,
            detail=NOT_MERGED if sealed else detail,
            train=train,
            calls=outcome.calls,
            usd=outcome.usd,
            seconds=max(0.0, (self._now() - started).total_seconds()),
            finished_at=self.stamp(),
        )
        self._ledger.add_result(result)
        self._ledger.flush(f"{experiment.skill}: experiment {experiment.number}: {result.action}")
        return attempt(experiment, outcome)

    def amend(self, experiment: Experiment, *, action: Action, reason: str, detail: str) -> None:
        """Change what a result says became of an experiment; its numbers stay.

        Where a run died before it wrote the result, the numbers are those of the confirm run.
        """
        before = self._ledger.result(experiment.id)
        if before is None:
            confirmation = self._ledger.confirmation(experiment.id)
            evidence = confirmation.evidence if confirmation else None
            runs = own_runs(self._ledger, experiment)
            cost = fsum(trace.reply.usd or 0.0 for trace in runs)
            self.close(
                experiment, Outcome(action, reason, detail, evidence, calls=len(runs), usd=cost)
            )
            return
        self._ledger.add_result(
            before.with_(
                action=action.value, reason=reason, detail=detail, finished_at=self.stamp()
            )
        )
        self._ledger.flush(f"{experiment.skill}: experiment {experiment.number}: {action}")


def own_runs(ledger: Ledger, experiment: Experiment) -> list[Trace]:
    """The task runs made for an experiment since it was begun (it may have been tried before)."""
    runs = [
        *ledger.experiment_runs(experiment.id, "train"),
        *ledger.experiment_runs(experiment.id, "holdout"),
    ]
    return [trace for trace in runs if trace.started_at >= experiment.started_at]


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
        detail=outcome.detail,
        hypothesis=experiment.proposal.hypothesis,
        train=train,
        holdout=holdout if holdout.pairs else None,
        calls=outcome.calls,
        usd=outcome.usd,
        deterministic=evidence is not None and evidence.deterministic,
        verdict=outcome.verdict,
    )


def tally(pairs: Sequence[Pair], fixtures: Sequence[str]) -> Tally:
    """Pairs of one split, counted."""
    if not pairs:
        return NO_TALLY
    return Tally(
        incumbent=fmean(pair.incumbent for pair in pairs),
        candidate=fmean(pair.candidate for pair in pairs),
        pairs=len(pairs),
        wins=sum(pair.difference > 0 for pair in pairs),
        losses=sum(pair.difference < 0 for pair in pairs),
        sweeps=len(pairs) // len(fixtures),
    )
