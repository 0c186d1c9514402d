"""Before a run proposes anything: what is in the base branch already, and what still waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from bot import workspace
from bot.core import gate
from bot.core.gate import Action, Reason
from bot.forge import Refused, plain, proposal_branch
from bot.proposing import SUPERSEDED, Stop
from bot.recording import NOT_CONFIRMED, NOT_MERGED

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.core.gate import Verdict
    from bot.core.records import Evidence, Experiment
    from bot.core.reign import Confirmation
    from bot.ledger import Ledger
    from bot.recording import Recorder
    from bot.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Settling:
    """Brings the ledger up to what git says, and looks again at a proposal that waits.

    ``reopen`` reads the base branch again; ``now`` is the UTC time.
    """

    space: Workspace
    ledger: Ledger
    recorder: Recorder
    reopen: Callable[[], Workspace]
    now: Callable[[], datetime]
    say: Callable[[str], None]

    def landed(self) -> None:
        """Write down merges the ledger does not know: a person's, or one before a crash."""
        results, landings = self.ledger.results(), self.ledger.landings()
        for experiment in self.ledger.experiments():
            result = results.get(experiment.id)
            if result and result.action != "hold":
                continue
            commit = None if experiment.id in landings else self._landed(experiment.id)
            if commit:
                self._land(experiment, commit, by="a merge on the base branch")
            if commit or experiment.id in landings:
                self._amend_merged(experiment)

    def waiting(self) -> bool:
        """Decide again about an open proposal; True when it was merged now.

        Raises:
            Stop: It still waits, or it is not the bot's to touch.
        """
        space = self.space
        branch = proposal_branch(space.name)
        waiting = plain.open_proposal(space.project, skill=space.name, branch=space.branch)
        if waiting is None:
            return False
        confirmation = self.ledger.confirmation(waiting.experiment)
        if confirmation is None or confirmation.evidence is None:
            raise Stop(f"Branch {branch} holds a proposal that the ledger does not know.")
        if waiting.edited:
            raise Stop(f"Branch {branch} was edited by a person: merge it or delete it.")
        experiment = self.ledger.find(waiting.experiment)
        verdict = gate.decide(self.refreshed(confirmation), space.policy)
        if verdict.action is Action.MERGE:
            verdict = self.merge(experiment, waiting.commit, verdict)
        if verdict.action is Action.MERGE:
            self._amend_merged(experiment)
            return True
        if verdict.reason is Reason.STALE:
            self.say(f"The proposal on {branch} is out of date; it is dropped.")
            detail = "The base branch changed while it waited."
            self.recorder.amend(experiment, action=Action.REJECT, reason=SUPERSEDED, detail=detail)
            plain.drop(space.project, skill=space.name, expect=waiting.commit)
            return False
        if self.ledger.result(experiment.id) is None:  # the run that published it died
            self.recorder.amend(
                experiment, action=Action.HOLD, reason=NOT_CONFIRMED, detail=NOT_MERGED
            )
        raise Stop(
            f"Experiment {experiment.id[:12]} waits on branch {branch}. {verdict.detail} "
            f"Take it with 'git merge {branch}', or drop it with 'git branch -D {branch}'."
        )

    def merge(self, experiment: Experiment, commit: str, verdict: Verdict) -> Verdict:
        """Move the base branch, if it is still where the evidence left it."""
        space = self.space
        done = plain.merge(
            space.project,
            branch=space.branch,
            base=space.base,
            commit=commit,
            path=space.skill.path,
        )
        if isinstance(done, Refused):
            return verdict.with_(
                action=Action.HOLD, reason=Reason.MERGE_REFUSED, detail=done.detail
            )
        self._land(experiment, done.commit, by="ratchet")
        return verdict

    def refreshed(self, confirmation: Confirmation) -> Evidence:
        """The evidence of a finished confirm run, with every fact about the present read again."""
        then = confirmation.evidence
        assert then is not None  # noqa: S101 - the caller asked
        assert then.tested is not None  # noqa: S101 - always written with it
        ended = confirmation.completed_at
        age = (self.now() - datetime.fromisoformat(ended)).total_seconds() if ended else None
        return then.with_(
            current=self.reopen().binding(head=then.tested.head),
            held=workspace.held(self.space.project),
            landed=self._landed(then.experiment) is not None,
            age=None if age is None else max(0.0, age),
        )

    def _landed(self, experiment: str) -> str | None:
        return plain.landed(self.space.project, branch=self.space.branch, experiment_id=experiment)

    def _land(self, experiment: Experiment, commit: str, *, by: str) -> None:
        self.recorder.land(experiment.id, commit=commit, branch=self.space.branch, by=by)

    def _amend_merged(self, experiment: Experiment) -> None:
        self.recorder.amend(
            experiment, action=Action.MERGE, reason=Reason.IMPROVED, detail="Merged."
        )
