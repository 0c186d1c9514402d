"""The job that may write: brings a decided experiment to GitHub, and merges it if the gate says so.

It runs no model. What another job decided comes as a checked bundle; every fact about the present
is gathered here, and ``gate.decide`` is asked again. A proposal that waits is looked at again from
the ledger alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bot import bench, bundles, remote, skillformat, skillrepo, workspace
from bot.core import edits, gate, pages, render
from bot.core.gate import Action, Reason
from bot.errors import RatchetError
from bot.forge import EVIDENCE, EXPERIMENT, PARENT, Merged, Refused, plain, proposal_branch
from bot.forge.github import Unsupported, Waiting
from bot.recording import Recorder, tally
from bot.redact import Redactor
from bot.settling import SUBJECT, base_alone_moved, evidence_digest
from bot.skillrepo import CommitTree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bot.core.gate import Verdict
    from bot.core.records import Evidence, Experiment
    from bot.forge.github import GitHub, Pull
    from bot.ledger import Ledger
    from bot.workspace import Workspace

HOLD_LABEL = "ratchet:hold"
WAITS = frozenset({Reason.AWAITS_PERSON, Reason.VETO_WINDOW})


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


def publish(
    start: Path,
    *,
    github: GitHub,
    bundle: Path | None,
    skill: str | None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Published:
    """Act on a confirmation bundle, or, without one, look again at the skill's open proposal.

    Raises:
        RatchetError: The bundle is not sound, GitHub refuses, or the branch is a person's.
    """
    project = skillrepo.open_project(start)
    if bundle is not None:
        skill = bundles.read_manifest(bundle, kind="confirmation").skill
    space = workspace.open_at_base(project, skill=skill, override={})
    checked = bundles.read(bundle, space, kind="confirmation") if bundle is not None else None
    if checked is not None:
        bundles.apply(checked, space)
        remote.push_ledger(project, skill=space.name)
    ledger = bench.open_ledger(project, space.name, redact=space.config.redact)
    # What comes from the ledger was redacted where it was written, by another job's environment.
    redactor = Redactor.from_environ(os.environ, extra=space.config.redact)
    job = _Job(space, ledger, github, Recorder(ledger, now), now, redactor.redact)
    if checked is None:
        return job.settle()
    if checked.experiment is None or checked.decision is None:
        return job.nothing("No experiment of this run was decided; the ledger is published.")
    return job.act(checked.experiment, checked.decision.evidence)


@dataclass(frozen=True, slots=True)
class _Job:
    """One skill, and who writes what about it. ``space`` is what was checked out."""

    space: Workspace
    ledger: Ledger
    github: GitHub
    recorder: Recorder
    now: Callable[[], datetime]
    redact: Callable[[str], str]

    @property
    def _branch(self) -> str:
        return proposal_branch(self.space.name)

    @property
    def _marker(self) -> str:
        return pages.marker("pull", self.space.name)

    def nothing(self, detail: str) -> Published:
        """Nothing was decided."""
        return Published(self.space.name, None, None, None, detail)

    def settle(self) -> Published:
        """Decide again about the skill's open pull request, if there is one."""
        pull = self.github.find_pull(self._marker, self._branch)
        if pull is None:
            return self.nothing("There is no open proposal.")
        experiment = self._proposed_by(pull.head_sha)
        found = self.ledger.confirmation(experiment.id) if experiment else None
        if experiment is None or found is None or found.evidence is None:
            raise RatchetError(
                f"Pull request #{pull.number} is not what Ratchet proposed.",
                hint="A person edited it: merge it or close it by hand.",
            )
        return self.act(experiment, found.evidence)

    def act(self, experiment: Experiment, tested: Evidence) -> Published:
        """Publish a candidate that won, and merge it if it may be merged now."""
        if (early := gate.decide(tested, self.space.policy)).action is Action.REJECT:
            return self._told(experiment, tested, early, pull=None)
        now = self._base_now()
        pull, commit = self._proposal(experiment, tested, now)
        evidence = self._gather(experiment, tested, now, pull, commit)
        verdict = gate.decide(evidence, now.policy)
        self._say(experiment, evidence, verdict, pull, commit)
        if verdict.action is Action.MERGE:
            verdict = self._merge(experiment, verdict, pull, now)
        if verdict.reason is Reason.HELD:
            self.github.cancel_merge(pull.number)  # one that was left to a merge queue
        if verdict.action is not Action.MERGE:
            self._say(experiment, evidence, verdict, pull, commit)
        return self._told(experiment, evidence, verdict, pull=pull)

    # Facts

    def _base_now(self) -> Workspace:
        """The skill as it is on the base branch on GitHub at this moment."""
        space = self.space
        sha = self.github.base_sha(space.branch)
        if sha == space.base:
            return space
        remote.fetch(space.project, space.branch)
        tree = CommitTree(space.project, sha)
        settings = workspace.load_config(tree)
        return workspace.read(
            space.project, tree, settings, space.name, base=sha, branch=space.branch
        )

    def _gather(
        self, experiment: Experiment, tested: Evidence, now: Workspace, pull: Pull, commit: str
    ) -> Evidence:
        """The evidence with every fact about the present read just now."""
        head = self._text_at(commit)
        binding = now.binding(head=head)
        siblings = [one for one in self.github.pulls_with_head(commit) if one.number != pull.number]
        evidence = tested.with_(
            current=binding,
            held=bool(siblings) or self._held(now, pull),
            landed=pull.merged or self._landed(now, experiment) is not None,
            age=self._age(experiment, commit),
            released=False,
        )
        if base_alone_moved(evidence) and evidence.tested is not None:
            return evidence.with_(tested=evidence.tested.with_(base=now.base))
        return evidence

    def _age(self, experiment: Experiment, commit: str) -> float | None:
        """Seconds since people could object: since it was confirmed and since it was committed."""
        found = self.ledger.confirmation(experiment.id)
        if found is None or found.completed_at is None:
            return None
        confirmed = datetime.fromisoformat(found.completed_at)
        since = max(confirmed, plain.committed_at(self.space.project, commit))
        return max(0.0, (self.now() - since).total_seconds())

    def _held(self, now: Workspace, pull: Pull) -> bool:
        labels = self.github.labels(pull.number)
        return HOLD_LABEL in labels or workspace.HOLD_FILE in now.tree.files("")

    def _landed(self, now: Workspace, experiment: Experiment) -> str | None:
        return plain.landed_in(now.project, now.base, experiment_id=experiment.id)

    def _text_at(self, commit: str) -> str:
        """Digest of the skill's text in a commit."""
        path = self.space.skill.path
        data = CommitTree(self.space.project, commit).read(path)
        return workspace.text_of(skillformat.decode(data, path=path)).digest

    def _proposed_by(self, commit: str) -> Experiment | None:
        """The experiment whose candidate a commit of the proposal branch holds, word for word."""
        remote.fetch(self.space.project, self._branch)
        name = plain.experiment_of(self.space.project, commit)
        found = [one for one in self.ledger.experiments() if one.id == name]
        if not found or found[0].candidate != self._text_at(commit):
            return None
        return found[0]

    # The proposal

    def _proposal(
        self, experiment: Experiment, tested: Evidence, now: Workspace
    ) -> tuple[Pull, str]:
        """The open pull request with the candidate on top of the base, and its head."""
        candidate = self.ledger.candidate_text(experiment.id)
        if candidate is None or workspace.text_of(candidate).digest != experiment.candidate:
            raise RatchetError(f"The ledger has no text for experiment {experiment.id[:12]}.")
        tip = self.github.head_of(self._branch)
        if tip is not None and self._proposed_by(tip) is None:
            raise RatchetError(
                f"Branch {self._branch} holds something that Ratchet did not propose.",
                hint="A person works on it: merge it, or delete the branch, then run again.",
            )
        trailers = _trailers(experiment, tested)
        commit = self._commit(candidate, experiment, trailers, now=now, tip=tip)
        plain.require_only(now.project, base=now.base, commit=commit, path=now.skill.path)
        title, body = pages.pull_request(self._facts(experiment, tested, None, commit))
        title, body = self.redact(title), self.redact(body)
        pull = self.github.open_pull(
            branch=self._branch, base=now.branch, title=title, body=body, marker=self._marker
        )
        self.github.update_pull(pull.number, title=title, body=body)
        return self.github.pull(pull.number), commit

    def _commit(
        self,
        candidate: str,
        experiment: Experiment,
        trailers: dict[str, str],
        *,
        now: Workspace,
        tip: str | None,
    ) -> str:
        """The commit on the proposal branch; signed by GitHub where it can be."""
        subject = render.one_line(f"{now.name}: {experiment.proposal.hypothesis}", SUBJECT)
        there = tip is not None and plain.is_child(now.project, tip, of=now.base)
        if tip is not None and there and self._text_at(tip) == experiment.candidate:
            return tip
        try:
            if tip is None:
                lines = "\n".join(f"{key}: {value}" for key, value in trailers.items())
                made = self.github.put_file_commit(
                    self._branch,
                    expected_head=now.base,
                    path=now.project.full(now.skill.path),
                    content=candidate.encode(),
                    message=f"{subject}\n\n{lines}\n",
                )
                remote.fetch(now.project, self._branch)
                return made
        except Unsupported:
            tip = self.github.head_of(self._branch)
        commit = plain.build_commit(
            now.project,
            path=now.skill.path,
            base=now.base,
            content=candidate.encode(),
            message=subject,
            trailers=trailers,
            at=self.now().isoformat(),
        )
        remote.push(now.project, commit, branch=self._branch, expect=tip)
        return commit

    # Saying and merging

    def _facts(
        self, experiment: Experiment, evidence: Evidence, verdict: Verdict | None, commit: str
    ) -> pages.PullFacts:
        space = self.space
        verdict = verdict or gate.decide(evidence, space.policy)
        held = tally(evidence.confirm, evidence.holdout_fixtures)
        result = self.ledger.result(experiment.id)
        before = self.ledger.skill_text(experiment.parent) or ""
        after = self.ledger.candidate_text(experiment.id) or ""
        facts = pages.PullFacts(
            experiment=experiment,
            verdict=verdict,
            sentence=render.sentence(
                verdict,
                holdout=held if held.pairs else None,
                fixtures=len(evidence.holdout_fixtures),
                rule=space.policy.rule,
                deterministic=evidence.deterministic,
            ),
            train=tally(evidence.screen, evidence.train_fixtures),
            holdout=held if held.pairs else None,
            cases=pages.train_cases(evidence, traces={}),
            diff=edits.unified_diff(before, after, path=space.skill.path),
            calls=result.calls if result else 0,
            usd=result.usd if result else None,
            repository=self.github.url,
            ledger=remote.ledger_tip(space.project),
            head=commit,
            trailers=tuple(": ".join(one) for one in _trailers(experiment, evidence).items()),
        )
        # Before it is rendered too: escaped, a secret would no longer look like itself.
        return pages.PullFacts.model_validate_json(self.redact(facts.model_dump_json()))

    def _say(
        self,
        experiment: Experiment,
        evidence: Evidence,
        verdict: Verdict,
        pull: Pull,
        commit: str,
    ) -> None:
        """The commit status and the one comment say what the verdict is now."""
        facts = self._facts(experiment, evidence, verdict, commit)
        good = verdict.action is Action.MERGE or verdict.reason in WAITS
        self.github.set_status(
            commit,
            state="success" if good else "pending",
            description=self.redact(pages.status(facts)),
        )
        marker = pages.marker("sticky", self.space.name)
        self.github.sticky_comment(pull.number, marker, self.redact(pages.sticky(facts)))

    def _merge(
        self, experiment: Experiment, verdict: Verdict, pull: Pull, now: Workspace
    ) -> Verdict:
        """Ask GitHub to merge just this head into just this base."""
        done = self.github.merge_pull(
            pull.number,
            head_sha=pull.head_sha,
            base_ref=now.branch,
            base_sha=now.base,
            method="merge",
            auto=False,
            hold_labels=(HOLD_LABEL,),
        )
        if isinstance(done, Merged):
            self.recorder.land(experiment.id, commit=done.commit, branch=now.branch, by="ratchet")
            self.recorder.amend(
                experiment, action=Action.MERGE, reason=Reason.IMPROVED, detail="Merged."
            )
            remote.push_ledger(self.space.project, skill=self.space.name)
            return verdict
        detail = "GitHub merges it when the rules of the branch are met."
        if isinstance(done, Refused):
            detail = " ".join(part for part in (f"{done.detail}.", done.hint) if part)
        assert isinstance(done, Refused | Waiting)  # noqa: S101 - for the reader
        return verdict.with_(action=Action.HOLD, reason=Reason.MERGE_REFUSED, detail=detail)

    def _told(
        self, experiment: Experiment, evidence: Evidence, verdict: Verdict, *, pull: Pull | None
    ) -> Published:
        commit = pull.head_sha if pull else None
        facts = self._facts(experiment, evidence, verdict, commit or "0" * 40)
        return Published(
            skill=self.space.name,
            experiment=experiment.id,
            action=verdict.action.value,
            reason=verdict.reason.value,
            detail=verdict.detail,
            pull=pull.number if pull else None,
            url=pull.url if pull else None,
            page=self.redact(pages.summary(facts.with_(head=commit))),
        )


def _trailers(experiment: Experiment, tested: Evidence) -> dict[str, str]:
    return {
        EXPERIMENT: experiment.id,
        PARENT: experiment.parent,
        EVIDENCE: evidence_digest(tested),
    }
