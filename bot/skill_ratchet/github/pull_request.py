"""One skill's pull request: published, looked at again, merged, rejected, given up, taken back.

Every fact about the present is gathered here, just before ``gate.decide`` is asked again. What a
model or a person wrote goes out through ``core.pages`` and the redactor.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.core import commit_words, edits, gate, wording
from skill_ratchet.core.facts import Findings, Present, gather
from skill_ratchet.core.gate import Action, Reason
from skill_ratchet.core.looks import waited
from skill_ratchet.core.records import NO_TALLY, Note, NoteKind
from skill_ratchet.experiment import badges, proposal_tip
from skill_ratchet.experiment.open_proposal import evidence_digest
from skill_ratchet.experiment.proposer import SHIPPED_EDITED, SUPERSEDED
from skill_ratchet.experiment.recorder import Recorder, tally
from skill_ratchet.experiment.shipment import CHANGED, Arrival, Shipping
from skill_ratchet.github import base_branch, dashboard, holds, pages
from skill_ratchet.github.api import FileCommit, MergeOrder, Unsupported, Waiting
from skill_ratchet.github.reviews import last_word, standing
from skill_ratchet.ledger import access, remote
from skill_ratchet.ledger.clock import Clock
from skill_ratchet.project import branches, workspace
from skill_ratchet.project.proposal import Merged, Refused, proposal_branch
from skill_ratchet.report import history

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Self

    from skill_ratchet.core.gate import Verdict
    from skill_ratchet.core.records import Binding, Evidence, Experiment, Result
    from skill_ratchet.github.api import GitHub, Pull, State
    from skill_ratchet.github.reviews import Standing
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.repository import Project, Tree
    from skill_ratchet.project.workspace import Workspace

HOLD_LABEL = holds.LABEL
LABEL = "ratchet"
REJECTED = "rejected"  # by a person
EDITED = "edited"  # a person has committed to the proposal's branch
_QUEUE_BOT = "github-merge-queue[bot]"  # in whose name GitHub's merge queue merges
NOTE_LENGTH = 10_000  # characters of what a person said


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a skill's proposal."""

    skill: str
    experiment: str | None
    action: str | None  # None when nothing was decided
    reason: str | None
    detail: str
    pull: int | None = None
    url: str | None = None
    page: str = ""  # for the step summary

    @classmethod
    def of(
        cls,
        skill: str,
        experiment: Experiment | None,
        action: str,
        reason: str | None,
        detail: str,
        *,
        pull: Pull | None = None,
    ) -> Published:
        """What became of an experiment, by the pull request that it has."""
        number, url = (pull.number, pull.url) if pull else (None, None)
        name = experiment.id if experiment else None
        return cls(skill, name, action, reason, detail, number, url)


@dataclass(frozen=True, slots=True)
class Job:
    """One skill, and who writes what about it. ``space`` is what was checked out."""

    space: Workspace
    ledger: Ledger
    github: GitHub
    recorder: Recorder
    now: Callable[[], datetime]
    redact: Callable[[str], str]

    @classmethod
    def of(cls, space: Workspace, *, github: GitHub, now: Callable[[], datetime]) -> Self:
        """What is done about a skill, with its ledger as it is in this clone."""
        ledger = access.open_ledger(space.project, space.name, redact=space.config.redact)
        recorder = Recorder(ledger, Clock.of(ledger, now))
        # What comes from the ledger was redacted where it was written, by another job's
        # environment.
        redactor = Redactor.from_environ(os.environ, extra=space.config.redact)
        return cls(space, ledger, github, recorder, now, redactor.redact)

    @property
    def skill(self) -> str:
        """The skill's name."""
        return self.space.name

    @property
    def branch(self) -> str:
        """The branch of the skill's proposals."""
        return proposal_branch(self.skill)

    @property
    def marker(self) -> str:
        """What the skill's pull requests are known by."""
        return pages.marker("pull", self.skill)

    def pull(self) -> Pull | None:
        """The skill's open pull request, if it is the bot's."""
        return self.github.find_pull(self.marker, self.branch, base=self.space.branch)

    def badge(self, done: Published) -> Published:
        """Bring the skill's badge up to date with what was done; returns that.

        It is of the base as it is by now, whichever commit the job was started on: jobs that run
        again do not make it say this and that.
        """
        if badges.refresh(self.ledger, self.base_now()):
            self.publish_ledger(f"{self.skill}: badge")
        return done

    # What may be done

    def nothing(self, detail: str) -> Published:
        """Nothing was decided; says how the skill scores as it is, where that is known."""
        score = badges.kept_score(self.ledger, self.space)
        known = f" It scores {wording.percent(score)} on train." if score is not None else ""
        return Published(self.skill, None, None, None, f"{detail}{known}")

    def resume(self) -> Published:
        """Go on with a proposal that has no pull request: where none could be opened, say.

        One that is open is looked at by runs that were not made for something else.
        """
        done = self._without_pull() if self.pull() is None else None
        if done is not None and done.action is not None:
            return done
        return self.nothing("No experiment of this run was decided; the ledger is published.")

    def settle(self, *, released_by: str = "") -> Published:
        """Decide again about the skill's open pull request, or see what became of it.

        Args:
            released_by: Who asked for the merge, if a person with write access did.
        """
        pull = self.pull()
        if pull is None:
            return self._without_pull()
        head = self.at(pull.head_sha)
        if (experiment := head.experiment) is None:
            return self._theirs(None, pull)
        if (ended := self._ended(experiment, pull)) is not None:
            return ended
        if (tested := self._tested(experiment, head)) is None:
            return self._unknown(experiment, pull)
        return self.act(experiment, tested, released_by=released_by)

    def recheck(self) -> Published:
        """Judge the open pull request again, and stop GitHub unless it may still be merged.

        Nothing is merged, closed or recorded: that is for the next run. What cannot be judged is
        stopped, too.
        """
        pull = self.pull()
        if pull is None:
            return self.nothing("There is no open proposal.")
        try:
            return self._recheck(pull)
        except RatchetError:
            self.github.cancel_merge(pull.number)
            raise

    def _recheck(self, pull: Pull) -> Published:
        head = self.at(pull.head_sha)
        if (experiment := head.experiment) is None:
            return self._theirs(None, pull)
        result, tested = self.ledger.result(experiment.id), self._tested(experiment, head)
        if tested is None or (result is not None and result.action == "reject"):
            return self._unknown(experiment, pull)
        handed, now = self._handed(pull), self.base_now()
        evidence = self.gathered(
            experiment,
            tested,
            now,
            pull,
            commit=pull.head_sha,
            released_by=handed.by if handed else "",
        )
        verdict = gate.decide(evidence, now.policy)
        self._mark(experiment, evidence, verdict, pull.head_sha)
        if verdict.action is not Action.MERGE:
            self._take_back(pull, verdict, handed)
            self._comment(experiment, evidence, verdict, pull, pull.head_sha)
        return self._told(experiment, evidence, verdict, pull=pull)

    def _tested(self, experiment: Experiment, head: proposal_tip.Tip) -> Evidence | None:
        """The evidence on record, if it is what the proposal's commit was made for."""
        found = self.ledger.confirmation(experiment.id)
        tested = found.evidence if found else None
        return tested if tested and head.evidence == evidence_digest(tested) else None

    def _unknown(self, experiment: Experiment, pull: Pull) -> Published:
        self.github.cancel_merge(pull.number)
        detail = "The ledger does not have the evidence that it was proposed with."
        return Published.of(self.skill, experiment, "hold", "unknown", detail, pull=pull)

    def _handed(self, pull: Pull) -> pages.Handed | None:
        """What was left to GitHub of this very head, if it was."""
        mine = self.github.my_comments(pull.number, pages.marker("sticky", self.skill))
        found = pages.handed_over(mine[0].body) if mine else None
        return found if found and pull.head_sha.startswith(found.commit) else None

    def _take_back(self, pull: Pull, verdict: Verdict, handed: pages.Handed | None) -> None:
        """Stop what GitHub would merge; not a person's own order where only people are awaited."""
        ours = handed is not None or pull.armed_by == self.github.me()
        if ours or verdict.reason not in gate.WAITS:
            self.github.cancel_merge(pull.number)

    def act(self, experiment: Experiment, tested: Evidence, *, released_by: str = "") -> Published:
        """Publish a candidate that won, and merge it if it may be merged now."""
        there = self.pull()
        if (early := gate.decide(tested, self.space.policy)).action is Action.REJECT:
            if there is not None and self.at(there.head_sha).experiment == experiment:
                self._close(experiment, early.detail, there)  # it was left open half-way
            return self._told(experiment, tested, early, pull=None)
        self._hear()
        if (ended := self._ended(experiment, there)) is not None:
            return ended
        if self.edited():
            return self._theirs(experiment, there)
        now = self.base_now()
        if stale := self._out_of_date(experiment, tested, now):
            self._end(experiment, SUPERSEDED, f"Dropped while it waited. {stale.detail}", there)
            return self._told(experiment, tested, stale, pull=there)
        pull, commit = self._proposal(experiment, tested, now)
        handed, was = None, self._handed(pull)
        released_by = released_by or (was.by if was else "")
        evidence = self.gathered(
            experiment, tested, now, pull, commit=commit, released_by=released_by
        )
        verdict = gate.decide(evidence, now.policy)
        self._mark(experiment, evidence, verdict, commit)  # which the branch may ask for
        if verdict.action is Action.MERGE:
            verdict, commit, handed = self._merge(
                experiment, tested, evidence, verdict, pull, now=now, commit=commit, by=released_by
            )
        else:
            self._take_back(pull, verdict, was)
        self._comment(experiment, evidence, verdict, pull, commit, handed=handed)
        return self._told(experiment, evidence, verdict, pull=pull)

    def reject(self, *, by: str, words: str, url: str, pull: Pull | None = None) -> Published:
        """Close a pull request (the open one) for a person; what they said goes to the proposer.

        Nothing is written down before it is closed, as it may be merged at just that moment. A job
        that is ended in between has closed it like a person, which the next one takes for a no.

        Raises:
            RatchetError: It is not what Ratchet proposed, or was merged.
        """
        pull = pull or self.pull()
        experiment = self.at(pull.head_sha).experiment if pull else None
        if pull is None or experiment is None:
            raise RatchetError(f"Skill {self.skill} has no open proposal of Ratchet's.")
        pushed = self.github.head_of(self.branch) not in (None, pull.head_sha)
        if not pushed and self.github.shut_pull(pull.number).merged:
            raise RatchetError(
                "the pull request was merged just before.",
                hint=f"'/ratchet revert {experiment.number}' takes the edit out again.",
            )
        self.note(by=by, words=words, url=url, experiment=experiment.id, kind="reject")
        self._end(experiment, REJECTED, f"Rejected by {by}.", None)
        detail = "Closed; the proposer is told why."
        if pushed:
            detail = "The proposer is told why. Somebody has just pushed to it, so it stays open."
        else:
            said = pages.closing(experiment, why=f"Rejected by {by}.", words=words)
            self.github.say_closed(pull, self.redact(said))
            self._clear(experiment)
        return Published.of(self.skill, experiment, "reject", REJECTED, detail, pull=pull)

    def hold(self, held: bool) -> None:  # noqa: FBT001 - a state, said by its name
        """Stop the skill, or let it go on: the open pull request's label and the dashboard's box.

        Raises:
            RatchetError: There is neither.
        """
        (holds.stop if held else holds.release)(self.github, self.skill)

    def note(
        self,
        *,
        by: str,
        words: str,
        url: str,
        experiment: str | None,
        kind: NoteKind,
    ) -> None:
        """Keep what a person said, word for word but for secrets, for the proposer to read."""
        if len(words) > NOTE_LENGTH:
            raise RatchetError(f"That is longer than {NOTE_LENGTH:,} characters; say it shorter.")
        self.ledger.add_note(
            Note(
                skill=self.skill,
                author=by,
                at=self.recorder.stamp(),
                words=words,
                url=url,
                experiment=experiment,
                kind=kind,
            )
        )
        self.publish_ledger(f"{self.skill}: a person's word")

    # Facts

    def base_now(self) -> Workspace:
        """The skill as it is on the base branch on GitHub at this moment."""
        space = self.space
        sha = self.github.base_sha(space.branch)
        if sha == space.base:
            return space
        return base_branch.at(space.project, sha, branch=space.branch).space(space.name)

    def _out_of_date(
        self, experiment: Experiment, tested: Evidence, now: Workspace
    ) -> Verdict | None:
        """That it is stale, before anybody is asked; commits that change no number do not count."""
        current = _binding(experiment, now)
        landed = self.landed(now, experiment) is not None
        present = Present(current=current, held=None, landed=landed, age=None, released=False)
        return gate.out_of_date(gather(Findings.of(tested).followed(current), present))

    def gathered(
        self,
        experiment: Experiment,
        tested: Evidence,
        now: Workspace,
        pull: Pull,
        *,
        commit: str,
        released_by: str | None,
    ) -> Evidence:
        """The evidence with every fact about the present read just now.

        Args:
            experiment: The one to be decided.
            tested: What is on record of it.
            now: The base.
            pull: With the head ``commit``.
            commit: What would be merged.
            released_by: Who with write access asked for the merge; None where it is not for
                Ratchet to merge, whoever says so.
        """
        siblings = self.github.siblings(pull.number, head=commit)
        stand = reviewed(self.github, pull, head=commit)
        current = _binding(experiment, now)
        text = proposal_tip.text_at(now.project, commit, path=now.skill.path)
        as_tested = text is not None and text.digest == experiment.candidate  # or it just moved
        released = released_by is not None and bool(released_by or stand.releasers)
        present = Present(
            current=current if as_tested else None,
            held=bool(siblings or stand.holders)
            or is_held(self.github, pull, now.tree, skills={self.skill}),
            landed=pull.merged or self.landed(now, experiment) is not None,
            age=self._age(experiment, now, pull, commit),
            released=released,
        )
        return gather(Findings.of(tested).followed(current), present)

    def _age(self, experiment: Experiment, now: Workspace, pull: Pull, commit: str) -> float | None:
        """Seconds that people have had to object; asked of GitHub only where it is counted."""
        if now.policy.merge != "after":
            return None
        shown = shown_since(self.github, pull, project=now.project, head=commit)
        return waited(self.ledger.confirmation(experiment.id), shown=shown, now=self.now())

    def landed(self, now: Workspace, experiment: Experiment) -> str | None:
        """The commit that took an experiment in."""
        path = now.skill.path
        return branches.landed_in(now.project, now.base, experiment_id=experiment.id, path=path)

    def at(self, commit: str) -> proposal_tip.Tip:
        """What a commit of the proposal's branch holds."""
        remote.fetch(self.space.project, self.branch)
        remote.fetch(self.space.project, self.space.branch)
        return self._read(commit)

    def _read(self, commit: str) -> proposal_tip.Tip:
        """What a commit holds, which this clone has, with the base branch as it was fetched."""
        space = self.space
        return proposal_tip.read(
            space.project,
            commit,
            base=f"refs/ratchet/origin/{space.branch}",
            path=space.skill.path,
            own=proposal_tip.own(self.ledger),
        )

    def tip(self) -> proposal_tip.Tip | None:
        """What the proposal's branch holds now; None when there is none."""
        tip = self.github.head_of(self.branch)
        return None if tip is None else self.at(tip)

    def edited(self) -> bool:
        """Whether the proposal's branch holds something that Ratchet did not propose."""
        tip = self.tip()
        return tip is not None and tip.edited

    # Without a pull request

    def _without_pull(self) -> Published:
        """See what became of a proposal whose pull request is not open (any more)."""
        heard = self._hear()
        if heard is not None:
            return heard
        waiting = self._waiting()
        if waiting is None:
            self._tidy()
            return self.nothing("There is no open proposal.")
        there, now = self.tip(), self.base_now()
        if there is not None and there.edited:
            return self._theirs(waiting, None)
        tip = there.commit if there else None
        arrival = self._shipping(now).find(waiting, tip=now.base)
        if arrival is not None:
            return self._took(waiting, arrival, now=now, gone=tip)
        found = self.ledger.confirmation(waiting.id)
        if tip is None or found is None or found.evidence is None:
            return self.nothing("There is no open proposal.")
        return self.act(waiting, found.evidence)

    def _tidy(self) -> None:
        """Delete a branch that was left behind: its proposal was decided, and the job killed."""
        tip = self.tip()
        result = self.ledger.result(tip.experiment.id) if tip and tip.experiment else None
        if tip is not None and result is not None and result.action != "hold":
            self.github.delete_branch(self.branch, expected=tip.commit)

    def _clear(self, experiment: Experiment) -> None:
        """Delete the proposal's branch, where it is still just what was merged."""
        tip = self.tip()
        if tip is not None and tip.experiment == experiment:
            self.github.delete_branch(self.branch, expected=tip.commit)

    def _hear(self) -> Published | None:
        """See what a person did with the newest pull request that is closed: took it, or said no.

        None when there is nothing new about it.
        """
        pull = self.github.find_pull(
            self.marker, self.branch, base=self.space.branch, state="closed"
        )
        experiment = self.proposed(pull) if pull else None
        result = self.ledger.result(experiment.id) if experiment else None
        if pull is None or experiment is None or result is None:
            return None
        if pull.merged and pull.base_ref == self.space.branch:
            return self._hear_yes(pull, experiment, result)
        if result.action != "hold" or self._closed_by_me(pull, experiment):
            return None
        return self._hear_no(pull, experiment)

    def proposed(self, pull: Pull) -> Experiment | None:
        """What a pull request proposed, whatever people have added to its branch since.

        That is read in the bot's own commit. Of the body only the end counts, where the bot puts
        the trailers, and only when a person has taken its commit off the branch: what stands
        before is a model's text, which may name any experiment.
        """
        project = self.space.project
        remote.fetch_pull(project, pull.number)
        remote.fetch(project, self.space.branch)
        for commit in branches.named_in(project, pull.head_sha, since=pull.base_sha):
            if (found := self._read(commit).experiment) is not None:
                return found
        named = pages.proposed(pull.body)
        own = proposal_tip.own(self.ledger)
        return next((one for one in own if one.id == named), None)

    def _hear_yes(self, pull: Pull, experiment: Experiment, result: Result) -> Published | None:
        """Take a pull request in that was merged, by whomever, as it was or changed by a person.

        A job that cannot see pull requests may have found the merge, but not what came in by it.
        """
        taken = result.action != "reject" or result.reason == SHIPPED_EDITED
        if not taken or self.ledger.shipment(experiment.id) is not None:
            return None
        now, commit = self.base_now(), pull.merge_commit
        if commit is None or not branches.in_history(now.project, commit, tip=now.base):
            return None  # the base branch was rewritten
        landed = self.landed(now, experiment) or commit
        handed = self._handed(pull)
        whole = proposal_tip.text_at(now.project, commit, path=now.skill.path)
        if self._is_ours(pull, handed) and whole and whole.digest == experiment.candidate:
            told = self._took_ours(experiment, pull, commit, by=handed.by if handed else "")
            return told if result.action == "hold" else None
        by = pull.merged_by or branches.author_of(now.project, commit)
        arrival = Arrival(landed, commit, by, pull.url)
        told = self._took(experiment, arrival, now=now, gone=pull.head_sha)
        return told if result.action == "hold" else None

    def _is_ours(self, pull: Pull, handed: pages.Handed | None) -> bool:
        """Whether GitHub has merged it for Ratchet, and not for a person.

        The merge queue merges in its own name, whoever has put it there.
        """
        by = pull.merged_by or ""
        return by == self.github.me() or (handed is not None and by == _QUEUE_BOT)

    def _took_ours(self, experiment: Experiment, pull: Pull, commit: str, *, by: str) -> Published:
        """GitHub has merged what was left to it: judged again, and recorded as Ratchet's."""
        now = self.base_now()
        evidence, verdict = self._judged_at(experiment, pull, commit)
        detail = "Merged."
        if verdict.action is not Action.MERGE:
            detail = f"GitHub merged it when it was not to be merged any more. {verdict.detail}"
        landed = self.landed(now, experiment) or commit
        arrival = Arrival(landed, commit, by or "ratchet", pull.url)
        self._shipping(now).ship(experiment, arrival)
        self._land(experiment, commit=landed, by=by, reason=verdict.reason, detail=detail)
        if self.github.head_of(self.branch) == pull.head_sha:
            self.github.delete_branch(self.branch, expected=pull.head_sha)
        if evidence is not None:
            said = verdict.with_(action=Action.MERGE, detail=detail)
            self._comment(experiment, evidence, said, pull, pull.head_sha)
        return Published.of(
            self.skill, experiment, "merge", verdict.reason.value, detail, pull=pull
        )

    def _judged_at(
        self, experiment: Experiment, pull: Pull, commit: str
    ) -> tuple[Evidence | None, Verdict]:
        """What the gate says to a merge on the base just before it; patience is not asked for."""
        found = self.ledger.confirmation(experiment.id)
        project = self.space.project
        before = branches.parents(project, commit)[0]
        base = base_branch.at(project, before, branch=self.space.branch)
        tested = found.evidence if found else None
        if tested is None:
            return None, gate.decide(
                gather(Findings.none(experiment.id), Present.unknown()), self.space.policy
            )
        space = base.space(self.skill)
        current = _binding(experiment, space)
        present = Present(
            current=current,
            held=is_held(self.github, pull, base.tree, skills={self.skill}),
            landed=False,
            age=None,
            released=True,
        )
        evidence = gather(Findings.of(tested).followed(current), present)
        return evidence, gate.decide(evidence, space.policy)

    def _took(
        self, experiment: Experiment, arrival: Arrival, *, now: Workspace, gone: str | None
    ) -> Published:
        """A person has merged it: the ledger says so, and its branch is deleted at ``gone``."""
        whole = self._shipping(now).take_in(experiment, arrival)
        self.publish_ledger(f"{self.skill}: experiment {experiment.number} was taken in")
        if gone is not None and self.github.head_of(self.branch) == gone:
            self.github.delete_branch(self.branch, expected=gone)
        action, reason = ("merge", "improved") if whole else ("reject", SHIPPED_EDITED)
        detail = "A person merged it." if whole else CHANGED
        return Published.of(self.skill, experiment, action, reason, detail)

    def _shipping(self, now: Workspace) -> Shipping:
        return Shipping(now, self.ledger, self.recorder)

    def _hear_no(self, pull: Pull, experiment: Experiment) -> Published:
        """Take a pull request that a person closed for a no."""
        said = (
            "A person merged it elsewhere." if pull.merged else "A person closed the pull request."
        )
        self._end(experiment, REJECTED, said, None)
        tip = self.github.head_of(self.branch)
        if tip == pull.head_sha and self.at(tip).experiment == experiment:
            self.github.delete_branch(self.branch, expected=tip)
        detail = f"{said.removesuffix('.')}; that is taken as a no."
        return Published.of(self.skill, experiment, "reject", REJECTED, detail)

    def _closed_by_me(self, pull: Pull, experiment: Experiment) -> bool:
        """Whether the bot had closed it, before the same edit was tried once more."""
        closing = pages.marker("closing", experiment.id[:12])
        return bool(self.github.my_comments(pull.number, closing))

    def _ended(self, experiment: Experiment, pull: Pull | None) -> Published | None:
        """What became of an experiment before; a pull request that was left open is closed."""
        result = self.ledger.result(experiment.id)
        if result is None or result.action == "hold":
            return None
        detail = f"It was decided before: {result.detail}"
        if result.action == "merge":
            self._clear(experiment)  # the job that merged it may have been killed
            return Published.of(self.skill, experiment, "hold", Reason.ALREADY_MERGED.value, detail)
        if pull is not None and self.at(pull.head_sha).experiment == experiment:
            self._close(experiment, result.detail, pull)
        return Published.of(self.skill, experiment, "reject", result.reason, detail)

    def _theirs(self, experiment: Experiment | None, pull: Pull | None) -> Published:
        """A person has edited it: nothing is done, and nothing is left to be done by GitHub."""
        if pull is not None:
            self.github.cancel_merge(pull.number)
        detail = f"Branch {self.branch} holds a person's work: merge it or close it by hand."
        return Published.of(self.skill, experiment, "hold", EDITED, detail, pull=pull)

    def _waiting(self) -> Experiment | None:
        """The bot's newest experiment, if it won and nothing has become of it yet."""
        own = proposal_tip.own(self.ledger)
        result = self.ledger.result(own[-1].id) if own else None
        return own[-1] if result is not None and result.action == "hold" else None

    def _end(
        self, experiment: Experiment, reason: str, detail: str, pull: Pull | None, words: str = ""
    ) -> bool:
        """A proposal comes to nothing: in the ledger first; says whether it was closed then."""
        self.recorder.amend(experiment, action=Action.REJECT, reason=reason, detail=detail)
        self.publish_ledger(f"{self.skill}: experiment {experiment.number}: {reason}")
        return pull is not None and self._close(experiment, detail, pull, words=words)

    def _close(self, experiment: Experiment, why: str, pull: Pull, *, words: str = "") -> bool:
        """Close a pull request with the reason; not when somebody has just pushed to it."""
        if self.github.head_of(self.branch) != pull.head_sha:
            return False
        said = pages.closing(experiment, why=why, words=words)
        self.github.close_pull(pull.number, self.redact(said))
        self.github.delete_branch(self.branch, expected=pull.head_sha)
        return True

    def publish_ledger(self, message: str) -> None:
        """What was recorded, for everybody."""
        self.ledger.flush(message)
        remote.push_ledger(self.space.project, skill=self.skill)

    # The proposal

    def _proposal(
        self, experiment: Experiment, tested: Evidence, now: Workspace
    ) -> tuple[Pull, str]:
        """The open pull request with the candidate, and its head."""
        commit = self._commit(experiment, tested, now=now)
        title, body = pages.pull_request(self.facts(experiment, tested, None, commit))
        title, body = self.redact(title), self.redact(body)
        pull = self.github.open_pull(
            branch=self.branch, base=now.branch, title=title, body=body, marker=self.marker
        )
        if pull.author == self.github.me() or pages.is_blank(pull.body):
            self.github.update_pull(pull.number, title=title, body=body)
        self.github.add_label(pull.number, LABEL)
        return self.github.pull(pull.number), commit

    def _commit(
        self, experiment: Experiment, tested: Evidence, *, now: Workspace, anew: bool = False
    ) -> str:
        """The commit on the proposal branch; signed by GitHub where it can be.

        One that is there stays, also when the base has moved: what it changes has not. ``anew``
        makes another one on top of the base.
        """
        tip = self.github.head_of(self.branch)
        if tip is not None and not anew and self.at(tip).experiment == experiment:
            return tip
        candidate = self.ledger.candidate_text(experiment.id)
        if candidate is None or workspace.text_of(candidate).digest != experiment.candidate:
            raise RatchetError(f"The ledger has no text for experiment {experiment.id[:12]}.")
        subject, trailers = proposal_tip.subject(experiment), _trailers(experiment, tested)
        commit = self.put(self.branch, candidate.encode(), subject, trailers, now=now, tip=tip)
        branches.require_only(now.project, base=now.base, commit=commit, path=now.skill.path)
        return commit

    def put(
        self,
        branch: str,
        content: bytes,
        subject: str,
        trailers: dict[str, str],
        *,
        now: Workspace,
        tip: str | None,
    ) -> str:
        """A commit of the skill's file on top of the base, at the end of ``branch``."""
        lines = "\n".join(f"{key}: {value}" for key, value in trailers.items())
        try:
            if tip in (None, now.base):  # the latter where a job ended before the commit
                made = self.github.put_file_commit(
                    FileCommit(
                        branch=branch,
                        parent=now.base,
                        path=now.project.full(now.skill.path),
                        content=content,
                        message=f"{commit_words.plain(subject)}\n\n{lines}\n",
                    )
                )
                remote.fetch(now.project, branch)
                return made
        except Unsupported:
            tip = self.github.head_of(branch)
        commit = branches.build_commit(
            now.project,
            path=now.skill.path,
            base=now.base,
            content=content,
            message=subject,
            trailers=trailers,
            at=self.now().isoformat(),
            who=self.github.identity(),
        )
        remote.push(now.project, commit, branch=branch, expect=tip)
        return commit

    # Saying and merging

    def facts(
        self, experiment: Experiment, evidence: Evidence, verdict: Verdict | None, commit: str
    ) -> pages.PullFacts:
        """What the pages say about an experiment, without secrets.

        Without a verdict it is what the evidence came to, whatever people may still say to it.
        """
        space, done = self.space, verdict is not None
        verdict = verdict or gate.decide(evidence, space.policy.with_(merge="auto"))
        held = tally(evidence.confirm, evidence.holdout_fixtures)
        result = self.ledger.result(experiment.id)
        before = self.ledger.skill_text(experiment.parent) or ""
        after = self.ledger.candidate_text(experiment.id) or ""
        facts = pages.PullFacts(
            experiment=experiment,
            verdict=verdict,
            sentence=wording.sentence(
                verdict,
                holdout=held if held.pairs else None,
                fixtures=len(evidence.holdout_fixtures),
                rule=space.policy.rule,
                deterministic=evidence.deterministic,
                done=done,
            ),
            train=tally(evidence.screen, evidence.train_fixtures) if evidence.screen else NO_TALLY,
            holdout=held if held.pairs else None,
            cases=pages.train_cases(evidence, traces=self.ledger.train_paths(experiment.id)),
            past=history.points(self.ledger, last=experiment.number),
            diff=edits.unified_diff(before, after, path=space.skill.path),
            calls=result.calls if result else 0,
            usd=result.usd if result else None,
            repository=self.github.url,
            ledger=remote.ledger_commit(
                space.project, folder=f"{space.name}/experiments/{experiment.id[:12]}"
            ),
            head=commit,
            trailers=tuple(": ".join(one) for one in _trailers(experiment, evidence).items()),
        )
        # Before it is rendered too: escaped, a secret would no longer look like itself.
        return pages.PullFacts.model_validate_json(self.redact(facts.model_dump_json()))

    def _mark(
        self, experiment: Experiment, evidence: Evidence, verdict: Verdict, commit: str
    ) -> None:
        """The commit status says what the verdict is now."""
        good = verdict.action is Action.MERGE or verdict.reason in gate.WAITS
        said = pages.status(self.facts(experiment, evidence, verdict, commit))
        state: State = "success" if good else "pending"
        self.github.set_status(commit, state=state, description=self.redact(said))

    def _comment(
        self,
        experiment: Experiment,
        evidence: Evidence,
        verdict: Verdict,
        pull: Pull,
        commit: str,
        *,
        handed: pages.Handed | None = None,
    ) -> None:
        """The one comment says what the verdict is now, and whether GitHub is to merge it."""
        page = pages.sticky(self.facts(experiment, evidence, verdict, commit), handed=handed)
        marker = pages.marker("sticky", self.skill)
        self.github.sticky_comment(pull.number, marker, self.redact(page))

    def _merge(
        self,
        experiment: Experiment,
        tested: Evidence,
        evidence: Evidence,
        verdict: Verdict,
        pull: Pull,
        *,
        now: Workspace,
        commit: str,
        by: str,
    ) -> tuple[Verdict, str, pages.Handed | None]:
        """Ask GitHub to merge just this head into just this base.

        Returns what came of it, for which head, and whether GitHub is to merge that later.

        What only the rules of the branch stop keeps its status: the rules may be waiting for it.
        """
        done = self._ask_merge(experiment, tested, pull, now=now, commit=commit, by=by)
        if isinstance(done, Merged):
            arrival = Arrival(done.commit, done.commit, by or "ratchet", pull.url)
            remote.fetch(now.project, now.branch)
            self._shipping(now).ship(experiment, arrival)
            self._land(experiment, commit=done.commit, by=by)
            self.github.delete_branch(self.branch, expected=commit)
            return verdict, commit, None
        refused = verdict.with_(
            action=Action.HOLD, reason=Reason.MERGE_REFUSED, detail=in_words(done)
        )
        after = self.github.pull(pull.number)
        if after.mergeable_state == "behind" and after.head_sha == commit:
            commit = self._commit(experiment, tested, now=now, anew=True)
            detail = "The branch was behind its base and has been brought up to date."
            refused = refused.with_(detail=detail)
        elif isinstance(done, Waiting):
            return refused, commit, pages.Handed(commit, by)
        elif done.reason == "blocked":
            return refused, commit, None
        self._mark(experiment, evidence, refused, commit)
        return refused, commit, None

    def _ask_merge(
        self,
        experiment: Experiment,
        tested: Evidence,
        pull: Pull,
        *,
        now: Workspace,
        commit: str,
        by: str,
    ) -> Merged | Waiting | Refused:
        settings = self.space.config.github
        order = _trailers(experiment, tested).items()
        # A squash makes a message of its own, which has to name the experiment.
        message = "\n".join(f"{key}: {value}" for key, value in order)
        wanted = MergeOrder(
            number=pull.number,
            head_sha=commit,  # what was tested, whatever the head is by now
            base_ref=now.branch,
            base_sha=now.base,
            method=settings.method,
            hold_labels=frozenset({HOLD_LABEL}),
            message=message if settings.method == "squash" else None,
        )

        def veto() -> str:
            """The gate asked once more, when all waiting for GitHub is over."""
            evidence = self.gathered(experiment, tested, now, pull, commit=commit, released_by=by)
            verdict = gate.decide(evidence, now.policy)
            return "" if verdict.action is Action.MERGE else verdict.detail.removesuffix(".")

        handing = settings.auto_merge
        return self.github.merge_pull(wanted, auto=handing, queue=handing, veto=veto)

    def _land(
        self,
        experiment: Experiment,
        *,
        commit: str,
        by: str,
        reason: Reason = Reason.IMPROVED,
        detail: str = "Merged.",
    ) -> None:
        """It is in by Ratchet's doing: the ledger first says so, then its result.

        Args:
            experiment: Which.
            commit: With what.
            by: Who has released it, if a person had to.
            reason: What the gate says to what is in.
            detail: The same in words.
        """
        name = f"ratchet, for {by}" if by else "ratchet"
        self.recorder.land(experiment.id, commit=commit, branch=self.space.branch, by=name)
        self.recorder.amend(experiment, action=Action.MERGE, reason=reason, detail=detail)
        remote.push_ledger(self.space.project, skill=self.skill)

    def _told(
        self, experiment: Experiment, evidence: Evidence, verdict: Verdict, *, pull: Pull | None
    ) -> Published:
        commit = pull.head_sha if pull else None
        facts = self.facts(experiment, evidence, verdict, commit or "0" * 40)
        action, reason = verdict.action.value, verdict.reason.value
        told = Published.of(self.skill, experiment, action, reason, verdict.detail, pull=pull)
        return replace(told, page=self.redact(pages.summary(facts.with_(head=commit))))


def reviewed(github: GitHub, pull: Pull, *, head: str) -> Standing:
    """Who holds a pull request by review, and who has let this head of it go, just now."""
    reviews = github.reviews(pull.number)
    roles = {author: github.permission(author) for author in last_word(reviews)}
    return standing(reviews, head=head, roles=roles)


def shown_since(github: GitHub, pull: Pull, *, project: Project, head: str) -> datetime:
    """Since when people have been able to see what a pull request has at its head.

    A commit's own date says little: its branch may have waited for days until somebody allowed
    the pull request.
    """
    return max(github.shown_since(pull), branches.committed_at(project, head))


def is_held(github: GitHub, pull: Pull, tree: Tree, *, skills: set[str]) -> bool:
    """Whether the label, the stop file of the base or the box of one of the skills stops it."""
    labelled = holds.by_label(github, pull.number)
    return labelled or tree.is_stopped() or bool(skills & dashboard.held(github))


def in_words(done: Merged | Waiting | Refused) -> str:
    """Why a merge was not done now."""
    if isinstance(done, Refused):
        return " ".join(part for part in (f"{done.detail}.", done.hint) if part)
    return "GitHub merges it when the rules of the branch are met."


def _binding(experiment: Experiment, now: Workspace) -> Binding:
    """What its candidate would be merged into."""
    assert experiment.candidate is not None  # noqa: S101 - only such have evidence
    return now.binding(head=experiment.candidate)


def _trailers(experiment: Experiment, tested: Evidence) -> dict[str, str]:
    return proposal_tip.trailers(experiment, evidence=evidence_digest(tested))
