"""What a person made of a proposal before it went in: found in git, and written down.

The text that went in is the skill in the commit that brought it in. Where that is the candidate,
the experiment landed. Where it is another text, the experiment did not: nobody has measured what is
in the skill now, so the next run does, as with every text the skill has not had before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from skill_ratchet.core import leaks
from skill_ratchet.core.gate import Action, Reason
from skill_ratchet.core.records import Shipped
from skill_ratchet.core.scoring import similarity
from skill_ratchet.experiment import proposal_tip
from skill_ratchet.experiment.proposer import SHIPPED_EDITED
from skill_ratchet.project import branches, workspace

if TYPE_CHECKING:
    from skill_ratchet.core.records import Experiment
    from skill_ratchet.experiment.recorder import Recorder
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.workspace import Workspace

BY_PERSON = "a merge on the base branch"
CHANGED = "A person changed it and merged that. What went in was not measured yet."


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a proposal came into the base branch.

    ``landed`` is the proposal's own commit and ``commit`` the one everything came in with; None
    when git does not tell what came in with it and what came later.
    """

    landed: str
    commit: str | None
    by: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Shipping:
    """Writes down what became of one skill's proposals. ``keep`` allows to say what was shipped.

    A process that must not look at held-out cases cannot tell whether a text repeats them, and one
    whose records another job takes over leaves saying it to that job.
    """

    space: Workspace
    ledger: Ledger
    recorder: Recorder
    keep: bool = True

    def find(self, experiment: Experiment, *, tip: str) -> Arrival | None:
        """How an experiment came into the history of ``tip``, as far as git alone can say."""
        project, branch = self.space.project, self.space.branch
        path = self.space.skill.path
        landed = branches.landed_in(project, tip, experiment_id=experiment.id, path=path)
        if landed is None:
            return None
        if self._digest(landed) != experiment.candidate:  # another text under its name
            return self.arrival(landed)
        commit = branches.came_with(
            project, landed=landed, tip=tip, branch=branch, skill=self.space.name
        )
        if commit is None and self._digest(tip) == experiment.candidate:
            commit = landed
        return self.arrival(landed, commit=commit)

    def arrival(self, landed: str, *, commit: str | None = "", link: str | None = None) -> Arrival:
        """By git's account of it; ``commit`` is ``landed`` unless it is given."""
        commit = landed if commit == "" else commit
        by = branches.author_of(self.space.project, commit or landed)
        return Arrival(landed, commit, by, link)

    def take_in(self, experiment: Experiment, arrival: Arrival) -> bool:
        """Write down that a person took a proposal in; says whether it is in as it was."""
        commit = arrival.commit
        changed = commit is not None and self._digest(commit) != experiment.candidate
        self.ship(experiment, arrival)
        if changed:
            self._amend(experiment, Action.REJECT, SHIPPED_EDITED, CHANGED)
            return False
        if self.ledger.landing(experiment.id) is None:
            branch = self.space.branch
            self.recorder.land(experiment.id, commit=arrival.landed, branch=branch, by=BY_PERSON)
        self._amend(experiment, Action.MERGE, Reason.IMPROVED, "Merged.")
        return True

    def text(self, commit: str) -> str | None:
        """The skill in a commit; None when there is none that can be read."""
        found = proposal_tip.text_at(self.space.project, commit, path=self.space.skill.path)
        return None if found is None else found.text

    def _amend(self, experiment: Experiment, action: Action, reason: str, detail: str) -> None:
        before = self.ledger.result(experiment.id)
        if before is None or (before.action, before.reason) != (action.value, reason):
            self.recorder.amend(experiment, action=action, reason=reason, detail=detail)

    def ship(self, experiment: Experiment, arrival: Arrival) -> None:
        """Keep what was shipped beside what was proposed, once."""
        if not self.keep or self.space.blind or arrival.commit is None:
            return
        text, proposed = self.text(arrival.commit), self.ledger.candidate_text(experiment.id)
        known = self.ledger.shipment(experiment.id) is not None
        if known or text is None or proposed is None or experiment.candidate is None:
            return
        at = branches.committed_at(self.space.project, arrival.commit).astimezone(UTC)
        shipped = Shipped(
            experiment=experiment.id,
            skill=self.space.name,
            proposed=experiment.candidate,
            shipped=workspace.text_of(text).digest,
            text=None if self._leaks(experiment, proposed, text) else text,
            similarity=similarity(proposed, text),
            commit=arrival.commit,
            branch=self.space.branch,
            by=arrival.by,
            at=at.isoformat(timespec="microseconds"),
            link=arrival.link,
        )
        self.ledger.add_shipped(shipped)

    def _leaks(self, experiment: Experiment, proposed: str, text: str) -> bool:
        """Whether a person put held-out text into it, that no proposer may read."""
        before = self.ledger.skill_text(experiment.parent) or ""
        space, known = self.space, f"{before}\n{proposed}"
        return bool(leaks.found(text, incumbent=known, train=space.train, holdout=space.holdout))

    def _digest(self, commit: str) -> str | None:
        text = self.text(commit)
        return None if text is None else workspace.text_of(text).digest
