"""What takes a merged edit out of a skill again: the text, the commit's words, the record.

Here it is put on a branch with git alone; ``github.revert`` has it merged on GitHub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.experiment.recorder import Recorder
from skill_ratchet.ledger import clock as clocks
from skill_ratchet.ledger.clock import Clock
from skill_ratchet.project import branches
from skill_ratchet.project.proposal import REVERT, Merged, Refused

if TYPE_CHECKING:
    from skill_ratchet.core.records import Experiment, Landing
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Reversal:
    """What has to be done to ``tip`` so that an experiment is out of the skill again.

    ``content`` is the skill without its edit; None when nothing has to be done, because it is out
    as of the commit ``since``.
    """

    experiment: Experiment
    tip: str
    content: bytes | None
    since: str

    @property
    def subject(self) -> str:
        """The commit's first line."""
        return f"{self.experiment.skill}: revert experiment {self.experiment.number}"

    @property
    def trailers(self) -> dict[str, str]:
        """What the commit is known by."""
        return {REVERT: self.experiment.id}

    def record(self, ledger: Ledger, recorder: Recorder, done: Merged, *, by: str) -> Landing:
        """Write down that it is out; what is on record of one that was out before stays.

        Args:
            ledger: Where to.
            recorder: Writes it.
            done: The branch, and the commit that took it out.
            by: Who asked for it.
        """
        experiment, known = self.experiment, ledger.reversion(self.experiment.id)
        if self.content is None and known is not None:
            return known
        record = recorder.take_out(experiment.id, commit=done.commit, branch=done.branch, by=by)
        ledger.flush(f"{experiment.skill}: revert of experiment {experiment.number}")
        return record


def find(experiment: Experiment, *, project: Project, path: str, branch: str, tip: str) -> Reversal:
    """What takes an experiment out of ``branch`` again, which is at ``tip``.

    Later changes of the file are kept.

    Raises:
        RatchetError: It is not merged, or they are in the same place.
    """
    landed = branches.landed_in(project, tip, experiment_id=experiment.id, path=path)
    if landed is None:
        raise RatchetError(
            f"Experiment {experiment.number} is not merged into {branch}.",
            hint="'ratchet log' lists what was.",
        )
    out = branches.reverted_in(project, tip, experiment_id=experiment.id, path=path)
    content = None if out else branches.undone(project, path=path, commit=landed, tip=tip)
    if isinstance(content, Refused):
        raise RatchetError(content.detail, hint=content.hint)
    return Reversal(experiment, tip, content, since=out or tip)


def put(reversal: Reversal, *, project: Project, path: str, branch: str, at: str) -> Merged:
    """A new commit on the branch that takes it out, wherever the branch is checked out.

    Raises:
        RatchetError: The branch has moved, or somebody is editing the file. Nothing was changed.
    """
    if reversal.content is None:
        return Merged(branch=branch, commit=reversal.since, already=True)
    commit = branches.build_commit(
        project,
        path=path,
        base=reversal.tip,
        content=reversal.content,
        message=reversal.subject,
        trailers=reversal.trailers,
        at=at,
    )
    done = branches.merge(project, branch=branch, base=reversal.tip, commit=commit, path=path)
    if isinstance(done, Refused):
        raise RatchetError(done.detail, hint=done.hint)
    return done


def take_out(experiment: Experiment, *, space: Workspace, ledger: Ledger, branch: str) -> Landing:
    """Undo a merge by a new commit on ``branch`` here, and record it.

    Raises:
        RatchetError: It was not merged there, or the file has changed too much since.
    """
    recorder, project = Recorder(ledger, Clock.of(ledger, clocks.now)), space.project
    tip, path = branches.require_tip(project, branch), space.skill.path
    found = find(experiment, project=project, path=path, branch=branch, tip=tip)
    done = put(found, project=project, path=path, branch=branch, at=recorder.stamp())
    return found.record(ledger, recorder, done, by="ratchet revert")
