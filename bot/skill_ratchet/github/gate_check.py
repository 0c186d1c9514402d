"""A person's pull request that edits a skill: tested as the bot's own are, and never merged.

``try_out`` runs where the LLM key is, ``say`` where the write token is. In both the pull request is
data: git fetches its commits, the one file is read, and nothing of it is checked out or run. What
it is measured with is the base branch's.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.core import edits, gate, leaks, markdown
from skill_ratchet.core.gate import Action, Reason, Verdict
from skill_ratchet.core.records import Proposal, experiment_id
from skill_ratchet.experiment import jobs
from skill_ratchet.experiment.loop import same_surroundings
from skill_ratchet.experiment.proposer import SUPERSEDED, Candidate
from skill_ratchet.github import base_branch, pages, rejected, replies, touched_paths
from skill_ratchet.github.pull_request import Job
from skill_ratchet.ledger import bundles, clock, remote
from skill_ratchet.project import branches, config, programs, repository, skill_file, workspace
from skill_ratchet.project.repository import CommitTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from skill_ratchet.core.records import Evidence, Experiment, Text
    from skill_ratchet.experiment.jobs import Confirmed
    from skill_ratchet.experiment.observer import Observer
    from skill_ratchet.github.api import GitHub, Pull, State
    from skill_ratchet.github.base_branch import Base
    from skill_ratchet.github.pages import PullFacts
    from skill_ratchet.github.replies import Asked
    from skill_ratchet.ledger.bundles import Checked, Kind
    from skill_ratchet.project.config import Config
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace

STATUS = "ratchet/holdout"  # the context of the commit status
WORKFLOWS = ".github"  # what Ratchet is run by
MARK = pages.marker("gate")
NOTHING = "No skill is changed, so there is nothing to test."
NO_VERDICT = "The test came to no verdict; the log of its job says why."
ANEW = "What it was measured on has changed since it was tested. Ask for the test again."


class Untestable(RatchetError):
    """What a pull request changes cannot be tested; the message may be shown to anybody."""


class Leak(Untestable):
    """The edit repeats held-out text: it is rejected, and kept nowhere."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What a pull request makes of a skill."""

    skill: str
    text: Text


@dataclass(frozen=True, slots=True)
class Told:
    """What was said about a pull request. ``state`` is the status that was set, if one was."""

    pull: int
    sha: str
    skill: str | None
    experiment: str | None
    action: str | None  # None when nothing was decided
    reason: str | None
    detail: str
    state: State | None
    url: str
    page: str = ""  # for the step summary


# What it changes ------------------------------------------------------------------------------


@contextmanager
def _judging() -> Iterator[None]:
    """What is wrong here is wrong with the pull request, and not with the project."""
    try:
        yield
    except Untestable:
        raise
    except RatchetError as problem:
        raise Untestable(problem.message, hint=problem.hint) from problem


@_judging()
def read_edit(project: Project, *, tree: CommitTree, settings: Config, sha: str) -> Edit | None:
    """What a commit makes of a skill of the base; None when it leaves them all alone.

    Args:
        project: With the commit's objects.
        tree: The base.
        settings: The base's.
        sha: The commit.

    Raises:
        Untestable: It does more than edit one skill as far as the numbers are concerned, or the
            base has gone on with the skill.
    """
    fork = _fork(project, tree.commit, sha)
    changes = _changes(project, fork, sha)
    paths = {name: project.full(one.path) for name, one in settings.skills.items()}
    skill = touched_paths.edited_skill(changes, skills=paths)
    if skill is None:
        return None
    path = settings.skill(skill).path
    named = workspace.named_files(settings.model_dump(mode="json"))
    found = _found_by_programs(project, changes, settings)
    inputs = {
        WORKFLOWS,
        *(f"{project.prefix}{one}" for one in (repository.CONFIG_FILE, *named, *found)),
    }
    touched_paths.refuse_inputs(changes, inputs=inputs, skill=paths[skill])
    if CommitTree(project, fork).entry(path) != tree.entry(path):
        raise RatchetError(
            f"The base branch has changed {path} since this branch left it.",
            hint="Update the branch: merge the base into it.",
        )
    return Edit(skill, _text(project, sha, path))


def _found_by_programs(
    project: Project, changes: Sequence[edits.Change], settings: Config
) -> list[str]:
    """Paths that are changed, and that the owner says programs need.

    Where nobody says, they find all there is; that a README goes with a skill is no matter.
    """
    if not settings.visible or not programs.has_any(settings):
        return []
    start = project.prefix
    paths = [one.path.removeprefix(start) for one in changes if one.path.startswith(start)]
    return programs.among(paths, settings)


def _fork(project: Project, base: str, sha: str) -> str:
    """Where the commit left the base: the one commit from which to compare."""
    found = repository.run(project, "merge-base", "--all", base, sha, ok=(0, 1)).text.split()
    if len(found) == 1:
        return found[0]
    problem = "left the base several times" if found else "has nothing in common with the base"
    raise RatchetError(
        f"The branch {problem}, so what it changes cannot be told.",
        hint="Update the branch: merge the base into it (and fetch the whole history here).",
    )


def _changes(project: Project, old: str, new: str) -> tuple[edits.Change, ...]:
    return tuple(
        edits.Change(
            # A name that is no text is nobody's: it only must not be taken for another.
            path=os.fsencode(one.path).decode("utf-8", "replace"),
            old_mode=one.old,
            new_mode=one.new,
            status=one.how,
        )
        for one in repository.differences(project, old, new)
    )


def _text(project: Project, sha: str, path: str) -> Text:
    """The skill in a commit."""
    tree = CommitTree(project, sha)
    tree.refuse_twins(path)
    if (size := tree.size(path)) > skill_file.MAX_SKILL:
        raise RatchetError(f"The skill would have {size:,} bytes; {skill_file.MAX_SKILL:,} fit.")
    return workspace.text_of(skill_file.decode(tree.read(path), path=path))


def require_testable(edit: Edit, space: Workspace) -> None:
    """Raise Untestable unless the edit could take the skill's place; a ``Leak`` for a leak."""
    text, incumbent = edit.text.text, space.text.text
    with _judging():
        if problems := bundles.objections(text, space, by_person=True):
            raise Untestable("\n".join(problems), hint="See docs/skills.md for the format.")
    if leaks.found(text, incumbent=incumbent, train=space.train, holdout=space.holdout):
        raise Leak("The edit repeats text of held-out cases.")


def _require_sha(sha: str) -> None:
    if not re.fullmatch("[0-9a-f]{40}", sha):
        raise RatchetError(
            f"{sha[:64]!a} is not the full name of a commit.",
            hint="Give all 40 digits: a test is of one commit, and of no other.",
        )


# The job with the LLM key ---------------------------------------------------------------------


def try_out(
    start: Path,
    *,
    number: int,
    sha: str,
    out: Path,
    observer: Observer,
    usd: float | None,
) -> Confirmed | None:
    """Screen and confirm what a pull request makes of a skill, and write the bundle for ``say``.

    Returns:
        None, and no bundle, when it leaves every skill alone.

    Raises:
        RatchetError: ``sha`` is not its head, or its edit cannot be tested (``Untestable``).
    """
    _require_sha(sha)
    project = repository.open_project(start)
    bundles.require_new(out)
    if (head := remote.fetch_pull(project, number)) != sha:
        raise RatchetError(
            f"Pull request #{number} has head {head[:12]}, not {sha[:12]}.",
            hint="Test the head that it has now.",
        )
    tree = CommitTree(project, f"refs/heads/{base_branch.name(project)}")
    settings = config.load_config(tree)
    edit = read_edit(project, tree=tree, settings=settings, sha=sha)
    if edit is None:
        return None
    space = workspace.open_at_base(project, skill=edit.skill, override={})
    require_testable(edit, space)
    redactor = Redactor.from_environ(os.environ, extra=space.config.redact)
    if redactor.redact(edit.text.text) != edit.text.text:
        raise RatchetError("The edited text holds the value of a secret of this environment.")
    # The title is not used: it is text that nobody has looked at, and the proposer reads this.
    why = f"pull request #{number} by a person"
    proposal = Proposal(proposer=workspace.PERSON, model=None, hypothesis=why)
    candidate = Candidate(proposal, edit.text)
    return jobs.gate(space, candidate, out=out, observer=observer, usd=usd)


# The job with the write token -----------------------------------------------------------------


def say(
    start: Path,
    *,
    github: GitHub,
    number: int,
    sha: str,
    bundle: Path,
    now: Callable[[], datetime] = clock.now,
) -> Told:
    """Publish the ledger, then say on GitHub what the test of one commit came to.

    Every fact is read again, and the gate is asked again; nothing is merged, closed or labelled.

    Args:
        start: The project, on the base branch.
        github: Where.
        number: The pull request.
        sha: The head that was tested.
        bundle: From ``try_out``; may be missing or empty when that came to nothing.
        now: The UTC time.

    Raises:
        RatchetError: The bundle is not sound or about something else, or GitHub refuses.
    """
    _require_sha(sha)
    project = repository.open_project(start)
    checked, overtaken = _taken_in(project, bundle)
    pull, branch = github.pull(number), base_branch.name(project)
    gone = _gone(pull, sha)
    if gone is None and pull.base_ref != branch:
        gone = f"It aims at {pull.base_ref}; Ratchet measures what would go into {branch}."
    if gone is None and remote.fetch_pull(project, number) != sha:
        gone = "Its head has moved; that one has to be tested."
    if gone is not None:
        return _told(pull, sha, gone)
    base = base_branch.at(project, github.base_sha(branch), branch=branch)
    redact = Redactor.from_environ(os.environ, extra=base.config.redact).redact
    try:
        edit = read_edit(project, tree=base.tree, settings=base.config, sha=sha)
        if edit is None:
            return _say_nothing(github, pull, sha)
        space = base.space(edit.skill)
        require_testable(edit, space)
    except Untestable as problem:
        return _object(github, pull, sha, problem, redact)
    if overtaken is not None:
        return _object(github, pull, sha, overtaken, redact)
    if checked is not None and checked.candidate != edit.text:
        raise RatchetError(
            f"The bundle is about another text than pull request #{number} has at {sha[:12]}.",
            hint="Run the test of this commit again.",
        )
    return _Job.of(space, github=github, now=now).report(pull, edit, checked)


def _taken_in(
    project: Project, bundle: Path
) -> tuple[Checked | None, bundles.OvertakenError | None]:
    """What the test has handed over, or that another look came before it: people are told."""
    try:
        return take_in(project, bundle, kind="confirmation", by_person=True), None
    except bundles.OvertakenError as error:
        return None, error


def answer(github: GitHub, asked: Asked, told: Told) -> None:
    """Say the same in answer to the comment that asked for the test."""
    name = told.skill or f"#{told.pull}"
    line = pages.outcome(name, action=told.action, reason=told.reason, detail=told.detail)
    replies.answer(github, asked, line, well=told.state == "success")


def recheck(project: Project, github: GitHub, pull: Pull, *, base: Base) -> bool:
    """Take a good status back that is about a base which has gone on; says whether it was.

    A person's pull request is not tested again by itself: that would cost a look, and money.

    Args:
        project: The project, with the ledger's branches.
        github: Where.
        pull: An open one, into the base branch.
        base: The base branch as it is now.
    """
    mine = (one for one in github.statuses(pull.head_sha) if one.creator == github.me())
    if not any(one.context == STATUS and one.state == "success" for one in mine):
        return False
    if remote.fetch_pull(project, pull.number) != pull.head_sha:
        return False  # the newer head has no status yet
    redact = Redactor.from_environ(os.environ, extra=base.config.redact).redact
    try:
        edit = read_edit(project, tree=base.tree, settings=base.config, sha=pull.head_sha)
    except Untestable as problem:
        why: str | None = redact(problem.message)
    else:
        job = _Job.of(base.space(edit.skill), github=github, now=clock.now) if edit else None
        why = job.outdated(pull, edit) if job and edit else None
    if why is not None:
        said = markdown.line(why, pages.STATUS)
        github.set_status(pull.head_sha, state="pending", description=said)
    return why is not None


def judge(
    project: Project, github: GitHub, pull: Pull, *, base: Base, sha: str
) -> tuple[bool, str]:
    """Whether a commit may go on top of a base, as far as the gate has a say in it, and why (not).

    Args:
        project: With the commit, and the ledger's branches.
        github: Where.
        pull: The pull request that it would bring in.
        base: What it is made on.
        sha: The commit.
    """
    try:
        edit = read_edit(project, tree=base.tree, settings=base.config, sha=sha)
    except Untestable as problem:
        return False, problem.message
    if edit is None:
        return True, NOTHING
    job = _Job.of(base.space(edit.skill), github=github, now=clock.now)
    verdict = job.judged(pull, edit, sha=sha)
    if verdict is None:
        return False, "This edit was not tested on what it would be merged into."
    good = verdict.action is Action.MERGE or verdict.reason in gate.WAITS
    return good, verdict.detail


def take_in(
    project: Project, bundle: Path, *, kind: Kind, by_person: bool = False
) -> Checked | None:
    """Bring a bundle's records to the ledger, whatever becomes of the rest: a look is a look.

    None when there is no bundle: the job that was to write it came to nothing.
    """
    if not bundle.is_dir() or not any(bundle.iterdir()):
        return None
    manifest = bundles.read_manifest(bundle, kind=kind)
    space = _as_tested(project, manifest.skill, manifest.setting.base)
    try:
        checked = jobs.take_in(bundle, space, kind=kind, by_person=by_person)
    except bundles.OvertakenError:  # but its look is on record now, for everybody
        remote.push_ledger(project, skill=manifest.skill)
        raise
    remote.push_ledger(project, skill=manifest.skill)
    return checked


def _as_tested(project: Project, skill: str, base: str) -> Workspace:
    """The skill as it was when the test began, if the base branch has gone on from there.

    Whether what has come since makes a difference to the numbers is for the gate to say.
    """
    space = workspace.open_at_base(project, skill=skill, override={})
    if not re.fullmatch(r"[0-9a-f]{40}", base) or not branches.is_ancestor(
        project, base, space.base
    ):
        return space  # which the bundle is not for
    return base_branch.at(project, base, branch=space.branch).space(skill)


def _gone(pull: Pull, sha: str) -> str | None:
    """Why there is nothing to be said about a commit any more."""
    if pull.state != "open":
        return "It is closed."
    if pull.head_sha != sha:
        return f"It is stale: its head is {pull.head_sha[:12]} now; that one has to be tested."
    return None


def _told(pull: Pull, sha: str, detail: str, *, state: State | None = None) -> Told:
    return Told(pull.number, sha, None, None, None, None, detail, state, pull.url)


def _siblings(github: GitHub, pull: Pull, sha: str) -> str | None:
    """Why a good status would say too much: other pull requests would have it as well."""
    others = github.siblings(pull.number, head=sha)
    if not others:
        return None
    listed = ", ".join(map(str, sorted(others)))
    return f"A status belongs to a commit, and pull request {listed} has the same head."


def _say_nothing(github: GitHub, pull: Pull, sha: str) -> Told:
    """No skill is changed: the status says so, and so does an older comment, if there is one."""
    why = _siblings(github, pull, sha)
    state: State = "pending" if why else "success"
    if gone := _gone(github.pull(pull.number), sha):
        return _told(pull, sha, gone)
    github.set_status(sha, state=state, description=why or NOTHING)
    if github.my_comments(pull.number, MARK):
        github.sticky_comment(pull.number, MARK, pages.not_tested(why or NOTHING))
    return _told(pull, sha, why or NOTHING, state=state)


def _object(
    github: GitHub,
    pull: Pull,
    sha: str,
    problem: RatchetError,
    redact: Callable[[str], str],
) -> Told:
    """The edit cannot be tested as it is: say why."""
    if gone := _gone(github.pull(pull.number), sha):
        return _told(pull, sha, gone)
    state: State = "failure" if isinstance(problem, Leak) else "pending"
    why = redact(problem.message)
    github.set_status(sha, state=state, description=markdown.line(why, pages.STATUS))
    page = redact(pages.not_tested(why, hint=redact(problem.hint or "")))
    github.sticky_comment(pull.number, MARK, page)
    return _told(pull, sha, " ".join(filter(None, (why, problem.hint))), state=state)


class _Job(Job):
    """The test of one commit; ``space`` is the base as it is on GitHub now."""

    def report(self, pull: Pull, edit: Edit, checked: Checked | None) -> Told:
        """Decide again, and set status and comment."""
        sha = pull.head_sha
        parent, candidate = self.space.text.digest, edit.text.digest
        name = experiment_id(self.skill, parent=parent, candidate=candidate)
        experiment = next((one for one in self.ledger.experiments() if one.id == name), None)
        if experiment is None:
            return self._undecided(pull, NO_VERDICT)
        tested = self._tested_before(experiment, checked)
        facts = self._recorded(experiment, sha)
        if tested is not None:
            verdict = self._decided(experiment, tested, pull)
            facts = self.facts(experiment, tested, verdict, sha)
        stale = facts is not None and facts.verdict.reason is Reason.STALE
        if facts is None:
            stale = not same_surroundings(experiment, self.space)
        if stale:
            self._give_up(experiment)
        if facts is None:
            return self._undecided(pull, ANEW if stale else NO_VERDICT)
        return self._tell(pull, facts)

    def judged(self, pull: Pull, edit: Edit, *, sha: str) -> Verdict | None:
        """What the gate says now to an edit, as ``sha`` would bring it in; None if untested."""
        parent, candidate = self.space.text.digest, edit.text.digest
        name = experiment_id(self.skill, parent=parent, candidate=candidate)
        experiment = next((one for one in self.ledger.experiments() if one.id == name), None)
        tested = self._tested_before(experiment, None) if experiment else None
        if experiment is None or tested is None:
            return None
        evidence = self.gathered(experiment, tested, self.space, pull, commit=sha, released_by=None)
        return gate.decide(evidence, self.space.policy.with_(merge="manual"))

    def outdated(self, pull: Pull, edit: Edit) -> str | None:
        """Why a good status is not good any more; None while it is."""
        verdict = self.judged(pull, edit, sha=pull.head_sha)
        if verdict is None:
            return ANEW
        return None if verdict.reason in gate.WAITS else verdict.detail

    def _tested_before(self, experiment: Experiment, checked: Checked | None) -> Evidence | None:
        """The evidence there is: what was just handed over, or an earlier look on record."""
        if checked and checked.decision and checked.decision.experiment == experiment.id:
            return checked.decision.evidence
        found = self.ledger.confirmation(experiment.id)
        return found.evidence if found else None

    def _recorded(self, experiment: Experiment, sha: str) -> PullFacts | None:
        """What is on record of one that was rejected before it came to the holdout."""
        facts = rejected.rejected(self, experiment)
        if facts is None or not same_surroundings(experiment, self.space):
            return None
        return facts.with_(head=sha)

    def _decided(self, experiment: Experiment, tested: Evidence, pull: Pull) -> Verdict:
        """What the gate says now. Whatever the settings, it is a person who merges this."""
        sha = pull.head_sha
        evidence = self.gathered(experiment, tested, self.space, pull, commit=sha, released_by=None)
        verdict = gate.decide(evidence, self.space.policy.with_(merge="manual"))
        why = _siblings(self.github, pull, sha) if verdict.reason is Reason.HELD else None
        return verdict.with_(detail=why) if why else verdict

    def _give_up(self, experiment: Experiment) -> None:
        """Have a test that is out of date made again when it is asked for the next time.

        Not where it is the bot's own open proposal: that has a pull request to be closed.
        """
        result = self.ledger.result(experiment.id)
        persons = experiment.setting.proposer == workspace.PERSON
        if result is None or not (persons or result.action == "reject"):
            return
        if result.reason != SUPERSEDED:
            self.recorder.amend(experiment, action=Action.REJECT, reason=SUPERSEDED, detail=ANEW)
            remote.push_ledger(self.space.project, skill=self.skill)

    def _undecided(self, pull: Pull, why: str) -> Told:
        return _object(self.github, pull, pull.head_sha, RatchetError(why), self.redact)

    def _is_new(self, facts: PullFacts, pull: Pull) -> bool:
        """Whether there is more to say of this head: of an older rejection the record has less."""
        if facts.cases:
            return True
        mine = self.github.my_comments(pull.number, MARK)
        return not any(f"`{pull.head_sha[:12]}`" in one.body for one in mine)

    def _is_bots(self, pull: Pull) -> bool:
        """Whether it is the bot's own, which has a comment on the same numbers."""
        marker, base = self.marker, self.space.branch
        return pull.head_ref == self.branch and self.github.is_own(pull, marker, base=base)

    def _tell(self, pull: Pull, facts: PullFacts) -> Told:
        """The status, and the comment where the bot's own pull request has not one already."""
        sha, verdict, experiment = pull.head_sha, facts.verdict, facts.experiment
        if gone := _gone(self.github.pull(pull.number), sha):
            return _told(pull, sha, gone)
        state: State = "failure" if verdict.action is Action.REJECT else "pending"
        if verdict.reason in gate.WAITS:
            state = "success"
        self.github.set_status(sha, state=state, description=self.redact(pages.status(facts)))
        persons = experiment.setting.proposer == workspace.PERSON
        if self._is_new(facts, pull) and (persons or not self._is_bots(pull)):
            page = self.redact(pages.gate(facts))
            self.github.sticky_comment(pull.number, MARK, page)
        return Told(
            pull=pull.number,
            sha=sha,
            skill=self.skill,
            experiment=experiment.id,
            action=verdict.action.value,
            reason=verdict.reason.value,
            detail=verdict.detail,
            state=state,
            url=pull.url,
            page=self.redact(pages.summary(facts)),
        )
