"""The one open pull request with new fixtures, of all skills together: kept up, and merged.

What is on its branch is derived from the ledger and the base (``core.batch``), so every step can be
run again, and nothing is lost when one is not: what a person said is on the ledger before the
branch moves. The ledger is read after the branch's head, so a head never has more than is known.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from skill_ratchet.base import documents
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.cases import batch, check
from skill_ratchet.core.records import Settled
from skill_ratchet.github import additions, base_branch, intake_page, intake_policy, pages
from skill_ratchet.github.api import MergeOrder
from skill_ratchet.github.base_branch import Base
from skill_ratchet.github.pull_request import (
    HOLD_LABEL,
    LABEL,
    Published,
    in_words,
    is_held,
    reviewed,
    shown_since,
)
from skill_ratchet.ledger import Ref, access, clock, remote
from skill_ratchet.project import config, repository, workspace
from skill_ratchet.project.fixtures import SPLITS, append_jsonl
from skill_ratchet.project.proposal import CASES, FIXTURES, Merged
from skill_ratchet.project.repository import CommitTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from skill_ratchet.cases.batch import Batch
    from skill_ratchet.core.records import Correction, Fixture
    from skill_ratchet.github.api import GitHub, Pull
    from skill_ratchet.github.intake_policy import IntakeDecision
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.repository import Project

NAME: Final = "fixtures"
MARKER: Final = pages.marker("pull", NAME)
CLOSING: Final = pages.marker("closing", NAME)
EDITED: Final = "edited"
# Reasons to wait that are no objection: a person may have told GitHub to merge it.
WAITS: Final = frozenset({"awaits_person", "too_young"})
TRIES: Final = 5  # commits, while somebody else commits to the same branch
_NO_STATUS: Final = "Fixtures alone: nothing is measured for them."
_EMPTY: Final = "Everything in it has become a fixture by another way, or was taken back."


@dataclass(frozen=True, slots=True)
class Intake(Base):
    """The base branch as it is on GitHub at this moment, and who writes what about it."""

    github: GitHub
    now: Callable[[], datetime] = clock.now
    redact: Callable[[str], str] = field(default=str)
    _existing: dict[str, tuple[Fixture, ...]] = field(default_factory=dict)  # of the tree

    # What there is

    def folder(self, skill: str) -> str:
        """Where a skill's fixtures are."""
        return self.config.skill(skill).fixtures

    def existing(self, skill: str) -> tuple[Fixture, ...]:
        """A skill's fixtures on the base, of every split that there is."""
        if skill not in self._existing:
            folder = self.folder(skill)
            there = {path.removeprefix(f"{folder}/") for path in self.tree.files(folder)}
            splits = [one for one in SPLITS if any(path.startswith(f"{one}/") for path in there)]
            self._existing[skill] = workspace.read_fixtures(self.tree, folder, require=splits)
        return self._existing[skill]

    def batches(self, more: Mapping[str, Iterable[Correction]] | None = None) -> list[Batch]:
        """What waits, by skill; ``more`` is taken as if it were on the ledger."""
        return [self._batch(skill, (more or {}).get(skill, ())) for skill in self.skills()]

    def skills(self) -> list[str]:
        """All of them, by name."""
        return sorted(self.config.skills)

    def _batch(self, skill: str, more: Iterable[Correction]) -> Batch:
        ledger = self.ledger(skill)
        known = [*ledger.corrections(), *more]
        if not known:
            return batch.Batch(skill=skill)
        return batch.gather(
            skill,
            known,
            settled=ledger.settled(),
            existing=self.existing(skill),
            rules=self.config.feedback.rules,
        )

    def files(self, batches: Iterable[Batch]) -> dict[str, bytes]:
        """The files that differ from the base, by path: with every new case and count."""
        made: dict[str, bytes] = {}
        for one in batches:
            folder = self.folder(one.skill)
            added = batch.by_file(one.added, folder=folder)
            raised = batch.by_file(one.raised, folder=folder)
            for path in sorted({*added, *raised}):
                before = self.text(self.tree, path)
                counted = batch.with_counts(before, raised.get(path, ()))
                made[path] = append_jsonl(counted, added.get(path, ())).encode()
        return made

    def text(self, tree: CommitTree, path: str) -> str:
        """What a file has in a commit; empty where it is not there."""
        return documents.decode(tree.read(path)) if tree.has(path) else ""

    def problem(self, batches: Iterable[Batch], *, also: str | None = None) -> str:
        """What ``ratchet check`` would say of the base with these cases; empty when it is sound.

        Skills without a new case are left out, but for ``also``.
        """
        batches = [one for one in batches if not one.is_empty or one.skill == also]
        built = additions.build(
            self.project,
            self.files(batches),
            onto=self.tree.commit,
            subject=NAME,
            at=self.now().isoformat(),
        )
        try:
            with_cases = Base(
                self.project, CommitTree(self.project, built), self.branch, self.config
            )
            for one in batches:
                check.require_sound(with_cases.space(one.skill))
        except RatchetError as error:
            return error.message
        return ""

    def own_paths(self) -> frozenset[str]:
        """Every file that is the bot's, from the top of the repository."""
        return frozenset(
            self.project.full(path)
            for skill in self.config.skills
            for path in batch.own_paths(self.folder(skill))
        )

    def pull(self) -> Pull | None:
        """The open pull request."""
        return self.github.find_pull(MARKER, FIXTURES, base=self.branch)

    # What became of the last one

    def hear(self) -> None:
        """Record what a person, or GitHub, has made of the last pull request."""
        pull = self.github.find_pull(MARKER, FIXTURES, base=self.branch, state="closed")
        if pull is None:
            return
        if not pull.merged and self.github.my_comments(pull.number, CLOSING):
            return
        for skill in self.skills():
            ledger = self.ledger(skill)
            if all(one.pull != pull.number for one in ledger.settled()):
                self._settle(skill, ledger, pull)
        tip = self.github.head_of(FIXTURES)
        if tip == pull.head_sha and self.pull() is None:
            self.github.delete_branch(FIXTURES, expected=tip)

    def _settle(self, skill: str, ledger: Ledger, pull: Pull) -> None:
        """Those corrections are at an end that the pull request named, or had as new cases."""
        named = intake_page.named(pull.body)
        cases = frozenset() if pull.merged else self._only_there(skill, pull)
        done = [
            one
            for one in batch.waiting(ledger.corrections(), settled=ledger.settled())
            if one.id[:12] in named or one.fixture in cases
        ]
        for split in SPLITS[:2]:
            ids = tuple(one.id for one in done if (one.split == "train") == (split == "train"))
            if ids:
                at = self.now().isoformat(timespec="microseconds")
                record = Settled(
                    skill=skill, pull=pull.number, merged=pull.merged, corrections=ids, at=at
                )
                ledger.add_settled(record, split=split)
        if done:
            self.publish_ledger(ledger, f"{skill}: #{pull.number} with new fixtures was closed")

    def _only_there(self, skill: str, pull: Pull) -> frozenset[str]:
        """Ids of cases that the head of a pull request has in the bot's files, and the base not."""
        head = CommitTree(self.project, remote.fetch_pull(self.project, pull.number))
        own = batch.own_paths(self.folder(skill))
        there, here = (
            frozenset(name for path in own for name in batch.ids(self.text(tree, path)))
            for tree in (head, self.tree)
        )
        return there - here

    def publish_ledger(self, ledger: Ledger, message: str) -> None:
        """What was recorded of a skill, for everybody."""
        ledger.flush(message)
        remote.push_ledger(self.project, skill=ledger.skill)

    # The branch and its pull request

    def bring(self) -> Published | None:
        """Have everything that waits on the branch, and decide on the pull request.

        None when there is neither anything that waits nor a pull request.
        """
        for _ in range(TRIES):
            head = self.github.head_of(FIXTURES)
            try:
                return self._bring(head)
            except RatchetError:
                if self.github.head_of(FIXTURES) == head:
                    raise
        raise RatchetError(
            f"Branch {FIXTURES} was moved by somebody else {TRIES} times in a row.",
            hint="Nothing is lost: the next run goes on.",
        )

    def recheck(self) -> str:
        """Stop GitHub from merging it by itself, unless nothing speaks against it now.

        Nothing is written to its branch: the next look does that.

        Returns:
            What speaks against it, if anything but waiting does.
        """
        pull = self.pull()
        if pull is None:
            return "It is not what Ratchet has opened."
        try:
            head = remote.fetch_pull(self.project, pull.number)
            batches = self.batches()
            decision = self._decide(pull, head, batches, self.files(batches))
        except RatchetError:
            self.github.cancel_merge(pull.number)
            raise
        if decision.merge or decision.reason in WAITS:
            return ""
        self.github.cancel_merge(pull.number)
        return decision.detail

    def _bring(self, head: str | None) -> Published | None:
        remote.fetch_ledger(self.project, list(Ref))  # after the head was read
        batches = self.batches()
        files = self.files(batches)
        pull = self.pull()
        if head is not None and not self._is_own(head):
            return self._theirs(pull)
        if not files:
            return self._end(pull, head)
        commit = self._commit(head, files, batches)
        pull = self._open(batches, commit)
        return self._act(pull, commit, batches, files)

    def _is_own(self, head: str) -> bool:
        remote.fetch(self.project, FIXTURES)
        since = additions.fork(self.project, self.tree.commit, head)
        return since is not None and additions.are_own(self.project, since=since, head=head)

    def _theirs(self, pull: Pull | None) -> Published:
        detail = f"Branch {FIXTURES} holds a person's work: merge it or close it by hand."
        return self._told(pull, "hold", EDITED, f"{detail} What comes in waits on the ledger.")

    def _end(self, pull: Pull | None, head: str | None) -> Published | None:
        """Nothing waits any more."""
        if pull is not None:
            self.github.close_pull(pull.number, f"{CLOSING}\nClosed. {_EMPTY}")
        if head is not None:
            self.github.delete_branch(FIXTURES, expected=head)
        return None if pull is None else self._told(pull, "reject", "nothing_left", _EMPTY)

    def _commit(self, head: str | None, files: Mapping[str, bytes], batches: list[Batch]) -> str:
        """The head that has just these files beside the base's; commits are added if they can be.

        Where the base has got into the way, or something has to go, they are made anew on the base,
        so that nothing of it stays in the history of the branch either.
        """
        subject = intake_page.subject(batches)
        at = self.now().isoformat()
        if head is not None and not self._goes_on(head, files):
            who = self.github.identity()
            made = additions.build(
                self.project, files, onto=self.tree.commit, subject=subject, at=at, who=who
            )
            remote.push(self.project, made, branch=FIXTURES, expect=head)
            return made
        tip = head or self.tree.commit
        for path, content in files.items():
            there = CommitTree(self.project, tip)
            if there.has(path) and there.read(path) == content:
                continue
            tip = additions.put(
                self.project,
                self.github,
                branch=FIXTURES,
                head=tip,
                path=path,
                content=content,
                subject=subject,
                at=at,
            )
        return tip

    def _goes_on(self, head: str, files: Mapping[str, bytes]) -> bool:
        """Whether the head can become that by additions, on a base that has not got in the way."""
        since = additions.fork(self.project, self.tree.commit, head)
        assert since is not None  # noqa: S101 - or it would not be the bot's own
        moved = additions.paths(repository.differences(self.project, since, self.tree.commit))
        brought = additions.paths(repository.differences(self.project, since, head))
        wanted = {self.project.full(path) for path in files}
        if moved & (brought | wanted) or brought - wanted:
            return False
        there = CommitTree(self.project, head)
        return all(
            batch.grown(self.text(there, path), documents.decode(content))
            for path, content in files.items()
        )

    def _open(self, batches: list[Batch], commit: str) -> Pull:
        title = intake_page.subject(batches)
        body = self.redact(intake_page.body(batches, repository=self.github.url))
        pull = self.github.open_pull(
            branch=FIXTURES, base=self.branch, title=title, body=body, marker=MARKER
        )
        self.github.update_pull(pull.number, title=title, body=body)
        self.github.add_label(pull.number, LABEL)
        # The branch may ask for it, as of proposals.
        self.github.set_status(commit, state="success", description=_NO_STATUS)
        return self.github.pull(pull.number)

    # The decision

    def _decide(
        self, pull: Pull, commit: str, batches: list[Batch], files: Mapping[str, bytes]
    ) -> IntakeDecision:
        merge = self.config.feedback.merge
        since = additions.fork(self.project, self.tree.commit, commit)
        brought = repository.differences(self.project, since, commit) if since else ()
        paths = additions.paths(brought)
        whole = pull.head_sha == commit and pull.base_ref == self.branch
        return intake_policy.decide(
            intake_policy.IntakeFacts(
                mode=merge.mode,
                after=merge.seconds,
                age=self._age(pull, commit),
                held=self._is_held(pull, batches),
                objections=self._objections(pull, commit),
                own_commits=whole and self._is_own(commit),
                own_paths=all(one.is_plain for one in brought) and paths <= self.own_paths(),
                additions=self._adds(commit, since, files),
                current=self._is_current(commit, paths, files),
                conflicts=sum(len(one.conflicts) for one in batches),
                sound=not self.problem(batches),
            )
        )

    def _age(self, pull: Pull, commit: str) -> float | None:
        """Seconds since people could see the newest commit; a clock that is behind makes it young.

        Asked of GitHub only where it is counted.
        """
        if self.config.feedback.merge.mode != "after":
            return None
        shown = shown_since(self.github, pull, project=self.project, head=commit)
        return max(0.0, (self.now() - shown).total_seconds())

    def _is_held(self, pull: Pull, batches: list[Batch]) -> bool:
        concerned = {one.skill for one in batches if not one.is_empty}
        return is_held(self.github, pull, self.tree, skills=concerned)

    def _objections(self, pull: Pull, commit: str) -> int:
        holders = reviewed(self.github, pull, head=commit).holders
        return len(holders) + len(self.github.siblings(pull.number, head=commit))

    def _adds(self, commit: str, since: str | None, files: Mapping[str, bytes]) -> bool | None:
        if since is None:
            return None
        before, after = CommitTree(self.project, since), CommitTree(self.project, commit)
        return all(batch.grown(self.text(before, one), self.text(after, one)) for one in files)

    def _is_current(self, commit: str, paths: frozenset[str], files: Mapping[str, bytes]) -> bool:
        """Whether the head has just what the base as it is at this moment is to get."""
        if self.github.base_sha(self.branch) != self.tree.commit:
            return False
        there = CommitTree(self.project, commit)
        return paths == {self.project.full(path) for path in files} and all(
            there.read(path) == content for path, content in files.items()
        )

    def _act(
        self, pull: Pull, commit: str, batches: list[Batch], files: Mapping[str, bytes]
    ) -> Published:
        decision = self._decide(pull, commit, batches, files)
        if not decision.merge:
            self.github.cancel_merge(pull.number)  # one that was left to a queue before
            return self._told(pull, "hold", decision.reason, decision.detail)
        settings = self.config.github
        order = MergeOrder(
            number=pull.number,
            head_sha=commit,
            base_ref=self.branch,
            base_sha=self.tree.commit,
            method=settings.method,
            hold_labels=frozenset({HOLD_LABEL}),
            # A squash makes a message of its own, which is not to repeat the page.
            message=f"{CASES}: {commit}" if settings.method == "squash" else None,
        )

        def veto() -> str:
            again = self._decide(pull, commit, batches, files)
            return "" if again.merge else again.detail.removesuffix(".")

        done = self.github.merge_pull(order, auto=False, queue=settings.auto_merge, veto=veto)
        if not isinstance(done, Merged):
            return self._told(pull, "hold", "merge_refused", in_words(done))
        self.hear()
        return self._told(pull, "merge", decision.reason, intake_page.summary(batches))

    def _told(self, pull: Pull | None, action: str, reason: str, detail: str) -> Published:
        return Published.of(NAME, None, action, reason, detail, pull=pull)


def open_intake(
    project: Project, github: GitHub, *, now: Callable[[], datetime] = clock.now
) -> Intake:
    """The intake of a project, on its base branch as it is on GitHub at this moment."""
    base = base_branch.now(project, github)
    redactor = Redactor.from_environ(os.environ, extra=base.config.redact)
    return Intake(
        project, base.tree, base.branch, base.config, github, now=now, redact=redactor.redact
    )


def look(
    project: Project, github: GitHub, *, now: Callable[[], datetime] = clock.now
) -> Published | None:
    """Look at the pull request with new fixtures again; None when there is nothing to say.

    Where nobody has ever corrected anything, that costs one question to GitHub.

    Raises:
        RatchetError: A skill's fixtures cannot be read, or GitHub refuses.
    """
    settings = config.load_config(CommitTree(project, "HEAD"))
    ledgers = (
        access.open_ledger(project, skill, redact=settings.redact) for skill in settings.skills
    )
    if github.head_of(FIXTURES) is None and not any(one.corrections() for one in ledgers):
        return None
    intake = open_intake(project, github, now=now)
    intake.hear()
    return intake.bring()
