"""What the branch ``ratchet/<skill>`` holds, and what Ratchet writes on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import commit_words
from skill_ratchet.project import branches, skill_file, workspace
from skill_ratchet.project.proposal import EVIDENCE, EXPERIMENT, PARENT
from skill_ratchet.project.repository import CommitTree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skill_ratchet.core.records import Experiment, Text
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.repository import Project

SUBJECT = 72  # characters of a commit's first line


@dataclass(frozen=True, slots=True)
class Tip:
    """The end of a proposal's branch. With no ``experiment`` it is a person's work, or in the base.

    ``experiment`` is the one whose candidate it is word for word, as one edit of the skill and of
    nothing else on a commit that the base branch has. That the base was merged into the branch
    since, as GitHub's button 'Update branch' does, changes nothing about it. ``text`` is the skill
    in it, None where none can be read, and ``evidence`` what the proposal's trailer names.
    """

    commit: str
    experiment: Experiment | None
    text: Text | None
    evidence: str | None
    in_base: bool

    @property
    def edited(self) -> bool:
        """Whether it holds something that Ratchet did not propose."""
        return self.experiment is None and not self.in_base


def read(project: Project, commit: str, *, base: str, path: str, own: Iterable[Experiment]) -> Tip:
    """What a commit of the branch holds.

    Args:
        project: With the commit's objects.
        commit: The tip, or what was the tip.
        base: The base branch, or its tip.
        path: The skill.
        own: The experiments that Ratchet may have put there.
    """
    made = _below_updates(project, commit, base=base, path=path)
    text, name = text_at(project, commit, path=path), branches.experiment_of(project, made)
    found = (one for one in own if one.id == name and text and one.candidate == text.digest)
    experiment = next(found, None)
    if experiment and not _is_lone_edit(project, made, base=base, path=path):
        experiment = None
    return Tip(
        commit=commit,
        experiment=experiment,
        text=text,
        evidence=branches.evidence_of(project, made),
        in_base=branches.is_ancestor(project, commit, base),
    )


def own(ledger: Ledger) -> list[Experiment]:
    """The bot's experiments by number; what a person proposed only a person merges."""
    return [one for one in ledger.experiments() if one.setting.proposer != workspace.PERSON]


def subject(experiment: Experiment) -> str:
    """The first line of a proposal's commit."""
    return commit_words.plain(f"{experiment.skill}: {experiment.proposal.hypothesis}", SUBJECT)


def trailers(experiment: Experiment, *, evidence: str) -> dict[str, str]:
    """What a proposal's commit is known by; ``evidence`` is the digest of what speaks for it."""
    return {EXPERIMENT: experiment.id, PARENT: experiment.parent, EVIDENCE: evidence}


def text_at(project: Project, commit: str, *, path: str) -> Text | None:
    """The skill in a commit; None when there is none that can be read."""
    try:
        data = CommitTree(project, commit).read(path)
        return workspace.text_of(skill_file.decode(data, path=path))
    except RatchetError:  # gone, a link, or no text
        return None


def _below_updates(project: Project, commit: str, *, base: str, path: str) -> str:
    """The commit below merges of the base branch into it; who made them makes no difference.

    A merge that brings anything else than the base and the one edit is not gone below.
    """
    while len(found := branches.parents(project, commit)) == 2:  # noqa: PLR2004  a merge of two
        below, merged = found
        in_base = branches.is_ancestor(project, merged, base)
        if not in_base or not branches.is_one_edit(project, merged, commit, path=path):
            break
        commit = below
    return commit


def _is_lone_edit(project: Project, commit: str, *, base: str, path: str) -> bool:
    """Whether it is one edit of the skill on a commit that the base branch has."""
    parent = branches.parent(project, commit)
    if parent is None or not branches.is_ancestor(project, parent, base):
        return False
    return branches.is_only(project, base=parent, commit=commit, path=path)
