"""Before a run proposes anything: what is in the base branch already, and what still waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from skill_ratchet.core import gate
from skill_ratchet.core.facts import Findings, Present, gather
from skill_ratchet.core.gate import Action, Reason
from skill_ratchet.core.looks import waited
from skill_ratchet.core.records import NOT_CONFIRMED, digest
from skill_ratchet.experiment import proposal_tip
from skill_ratchet.experiment.proposer import SHIPPED_EDITED, SUPERSEDED, Stop
from skill_ratchet.experiment.recorder import NOT_MERGED
from skill_ratchet.experiment.shipment import BY_PERSON, Arrival, Shipping
from skill_ratchet.project import branches, config, repository, workspace
from skill_ratchet.project.proposal import Refused, proposal_branch
from skill_ratchet.project.workspace import PERSON

if TYPE_CHECKING:
    from collections.abc import Callable

    from skill_ratchet.core.gate import Verdict
    from skill_ratchet.core.records import Evidence, Experiment, Text
    from skill_ratchet.experiment.recorder import Recorder
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.proposal import OpenProposal
    from skill_ratchet.project.workspace import Workspace


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
    keep: bool = True  # say what was shipped; not where another job takes the records over

    def landed(self) -> None:
        """Write down merges the ledger does not know: a person's, or one before a crash."""
        results, landings = self.ledger.results(), self.ledger.landings()
        for experiment in self.ledger.experiments():
            result = results.get(experiment.id)
            if result and result.action != "hold":
                continue
            if experiment.id in landings:
                self._amend_merged(experiment)
                continue
            arrival = self._shipping.find(experiment, tip=self.space.base)
            if arrival is None and result and (commit := self._taken_in(experiment)):
                arrival = self._shipping.arrival(commit)
            if arrival:
                self._shipping.take_in(experiment, arrival)
        self._ship_late()

    def _ship_late(self) -> None:
        """Say what was shipped where the process that found the merge could not."""
        if not self.keep or self.space.blind:
            return
        results, landings = self.ledger.results(), self.ledger.landings()
        shipped = self.ledger.shipped()
        for one in self.ledger.experiments():
            result, landing = results.get(one.id), landings.get(one.id)
            if one.id in shipped or one.setting.proposer == PERSON or result is None:
                continue
            by_person = landing is not None and landing.by == BY_PERSON
            taken = result.reason == SHIPPED_EDITED or (result.action == "merge" and by_person)
            arrival = self._shipping.find(one, tip=self.space.base) if taken else None
            if arrival and arrival.commit:
                self._shipping.take_in(one, arrival)

    @property
    def _shipping(self) -> Shipping:
        return Shipping(self.space, self.ledger, self.recorder, self.keep)

    def _taken_in(self, experiment: Experiment) -> str | None:
        """The commit on the base branch that did to the skill what an experiment would have done.

        It has no trailer where a person merged a pull request of their own, or wrote the message.
        Where a person has changed the proposal on its branch, what they made of it counts, too.
        """
        proposed = self._did(experiment, self.ledger.candidate_text(experiment.id))
        return proposed or self._did(experiment, self._edited(experiment))

    def _edited(self, experiment: Experiment) -> str | None:
        """What a person made of an open proposal, on its branch."""
        space = self.space
        waiting = branches.open_proposal(space.project, skill=space.name, branch=space.branch)
        if waiting is None or waiting.experiment != experiment.id or not waiting.edited:
            return None
        return self._shipping.text(waiting.commit)

    def _did(self, experiment: Experiment, made: str | None) -> str | None:
        """The commit on the base branch that made ``made`` of the experiment's parent."""
        texts = [self.ledger.skill_text(experiment.parent), made]
        edit = [self._blob(text) for text in texts if text is not None]
        project, path = self.space.project, self.space.project.full(self.space.skill.path)
        options = ("-m", "--first-parent", "--raw", "--no-abbrev", "--no-renames", "--format=%H")
        since = f"{experiment.setting.base}..{self.space.base}"
        logged = repository.run(project, "log", *options, since, "--", path, ok=(0, 128))
        commit = None
        for line in logged.text.splitlines():
            if line.startswith(":") and line.split()[2:4] == edit:
                return commit
            commit = line if line and not line.startswith(":") else commit
        return None

    def _blob(self, text: str) -> str:
        asked = ("hash-object", "-t", "blob", "--stdin")
        return repository.run(self.space.project, *asked, stdin=text.encode()).text

    def waiting(self) -> bool:
        """Decide again about an open proposal; True when it was merged now.

        Raises:
            Stop: It still waits, or it is not the bot's to touch.
        """
        space, branch = self.space, proposal_branch(self.space.name)
        branches.require_free(space.project, skill=space.name)
        waiting = branches.open_proposal(space.project, skill=space.name, branch=space.branch)
        if waiting is None:
            self._refuse_elsewhere()
            return False
        if self._is_in(waiting, branch):
            return False
        text, found = self._tested(waiting, branch)
        experiment, present = self.ledger.find(waiting.experiment), self._now(waiting, text)
        findings, commit = found.followed(present.current), waiting.commit
        if findings != found:  # on top of the base as it is now: nothing it depends on has changed
            named, at = waiting.evidence, waiting.committed_at
            commit = publish(space, experiment, text.text, evidence=named, at=at)
        verdict = gate.decide(gather(findings, present), space.policy)
        if verdict.action is Action.MERGE:
            verdict = self.merge(experiment, commit, verdict)
        if verdict.action is Action.MERGE:
            self._amend_merged(experiment)
            return True
        if verdict.reason is Reason.STALE:
            self._drop(experiment, commit, verdict.detail)
            return False
        if self.ledger.result(experiment.id) is None:  # the run that published it died
            self.recorder.amend(
                experiment, action=Action.HOLD, reason=NOT_CONFIRMED, detail=NOT_MERGED
            )
        raise Stop(
            f"Experiment {experiment.id[:12]} waits on branch {branch}. {verdict.detail} "
            f"Take it with 'git merge {branch}', or drop it with 'git branch -D {branch}'."
        )

    def _is_in(self, waiting: OpenProposal, branch: str) -> bool:
        """Whether its text is in the base branch by another commit; its branch is done with."""
        result = self.ledger.result(waiting.experiment)
        if result is None or not (result.action == "merge" or result.reason == SHIPPED_EDITED):
            return False
        if waiting.edited:
            raise Stop(f"What is on branch {branch} went in: delete it, 'git branch -D {branch}'.")
        branches.drop(self.space.project, skill=self.space.name, expect=waiting.commit)
        return True

    def _refuse_elsewhere(self) -> None:
        """One proposal at a time: one that is open on the remote is settled there."""
        space = self.space
        there = branches.remote_proposal(space.project, skill=space.name, branch=space.branch)
        if there is not None:
            raise Stop(
                f"{there} holds an open proposal: merge or close that first. If it is closed, "
                "delete the branch there, and 'git fetch --prune' here."
            )

    def _tested(self, waiting: OpenProposal, branch: str) -> tuple[Text, Findings]:
        """The text of an open proposal, which is the one that was tested, and what was found."""
        if self.space.blind:
            raise Stop(f"Branch {branch} holds a proposal that 'ratchet run' must settle first.")
        look = self.ledger.confirmation(waiting.experiment)
        if look is None or look.evidence is None:
            raise Stop(f"Branch {branch} holds a proposal that the ledger does not know.")
        space = self.space
        tip = proposal_tip.read(
            space.project,
            waiting.commit,
            base=space.base,
            path=space.skill.path,
            own=proposal_tip.own(self.ledger),
        )
        edited = waiting.edited or tip.experiment is None
        if edited or tip.text is None or tip.evidence != evidence_digest(look.evidence):
            raise Stop(f"Branch {branch} was edited by a person: merge it or delete it.")
        return tip.text, Findings.of(look.evidence)

    def _now(self, waiting: OpenProposal, text: Text) -> Present:
        look, committed = self.ledger.confirmation(waiting.experiment), waiting.committed_at
        age = waited(look, shown=datetime.fromisoformat(committed), now=self.now())
        return self.present(waiting.experiment, head=text.digest, age=age)

    def _drop(self, experiment: Experiment, commit: str, why: str) -> None:
        """Give up a proposal whose surroundings have changed."""
        space, branch = self.space, proposal_branch(self.space.name)
        if space.config != config.load_config(space.tree):
            raise Stop(
                f"Branch {branch} holds a proposal that was tested with other settings than "
                "those on the command line: run without them first."
            )
        self.say(f"The proposal on {branch} is out of date; it is dropped. {why}")
        detail = f"Dropped while it waited. {why}"
        self.recorder.amend(experiment, action=Action.REJECT, reason=SUPERSEDED, detail=detail)
        branches.drop(space.project, skill=space.name, expect=commit)

    def merge(self, experiment: Experiment, commit: str, verdict: Verdict) -> Verdict:
        """Move the base branch, if it is still where the evidence left it."""
        space = self.space
        done = branches.merge(
            space.project,
            branch=space.branch,
            base=space.base,
            commit=commit,
            path=space.skill.path,
        )
        if isinstance(done, Refused):
            detail = " ".join(part for part in (f"{done.detail}.", done.hint) if part)
            return verdict.with_(action=Action.HOLD, reason=Reason.MERGE_REFUSED, detail=detail)
        self.recorder.land(experiment.id, commit=done.commit, branch=space.branch, by="ratchet")
        self._shipping.ship(experiment, Arrival(done.commit, done.commit, "ratchet"))
        return verdict

    def present(self, experiment: str, *, head: str, age: float | None) -> Present:
        """What is there now, read again and not remembered.

        Args:
            experiment: The one to be decided.
            head: Digest of its candidate, as it is there now.
            age: Seconds since people could object.
        """
        project, branch = self.space.project, self.space.branch
        path = self.space.skill.path
        landed = branches.landed(project, branch=branch, experiment_id=experiment, path=path)
        return Present(
            current=self.reopen().binding(head=head),
            held=workspace.held(project),
            landed=landed is not None,
            age=age,
            released=False,  # here a person who wants it merges it
        )

    def _amend_merged(self, experiment: Experiment) -> None:
        self.recorder.amend(
            experiment, action=Action.MERGE, reason=Reason.IMPROVED, detail="Merged."
        )


def publish(space: Workspace, experiment: Experiment, text: str, *, evidence: str, at: str) -> str:
    """Put an experiment's candidate on the skill's proposal branch; returns the commit.

    Args:
        space: What it would be merged into.
        experiment: Named in the trailers, its hypothesis in the subject.
        text: The candidate.
        evidence: Digest of the evidence for it.
        at: The commit's time, ISO 8601.
    """
    return branches.publish(
        space.project,
        skill=space.name,
        path=space.skill.path,
        base=space.base,
        text=text,
        message=proposal_tip.subject(experiment),
        trailers=proposal_tip.trailers(experiment, evidence=evidence),
        at=at,
    )


def evidence_digest(evidence: Evidence) -> str:
    """Names the evidence of a finished confirm run: as ever, where a later fact is not known."""
    unsaid: dict[str, Any] = {} if evidence.failed else {"failed": True}
    if evidence.version == 1:
        unsaid |= {"version": True, "seed": True}
        unsaid |= {name: {"__all__": {"more_runs"}} for name in ("screen", "confirm", "targeted")}
    return digest("evidence", evidence.model_dump(mode="json", exclude=unsaid))
