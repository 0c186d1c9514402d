"""Opens the config and the ledger: all that a command needs which looks back and runs nothing.

Such a command answers at once, so nothing here imports what runs, proposes or scores.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from skill_ratchet.base import git
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.ledger import Ledger, Ref, Store, remote
from skill_ratchet.project import repository

if TYPE_CHECKING:
    from skill_ratchet.ledger import TrainLedger
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace


def for_proposer(ledger: Ledger, space: Workspace) -> TrainLedger:
    """All that a proposer is given of the record, while the cases are as they are now."""
    return ledger.for_proposer(
        train=space.train, sealed=(*space.holdout, *space.vault), shown=space.text.text
    )


def open_ledger(
    project: Project, skill: str, *, redact: tuple[str, ...] = (), blind: bool = False
) -> Ledger:
    """The ledger of one skill; secrets of this process's environment never enter it."""
    adopt(project)
    redactor = Redactor.from_environ(os.environ, extra=redact)
    store = Store(project.root, redactor=redactor, clock=time.time)
    return Ledger(store, skill, blind=blind)


def open_to_write(
    project: Project, skill: str, *, redact: tuple[str, ...] = (), blind: bool = False
) -> Ledger:
    """The ledger of one skill, where what is written goes on with the one there is.

    Raises:
        RatchetError: The remote has one that this clone of a part of it lacks: the count of looks
            at the holdout would begin again. Or the remote cannot be asked.
    """
    if ledger_tip(project, Ref.LEDGER) is None and remote.hides_ledger(project):
        raise RatchetError(
            "The remote 'origin' has a ledger, and this clone of a part of it has none.",
            hint="Run 'ratchet fetch' first.",
        )
    return open_ledger(project, skill, redact=redact, blind=blind)


def adopt(project: Project) -> None:
    """Take the ledger's branches over from the remote, where this clone has none of its own.

    A clone has them under ``refs/remotes/`` only. Without them the count of looks at the holdout
    would begin again.
    """
    missing = [ref for ref in Ref if git.tip(project.common_dir, ref) is None]
    taken = {ref: tip for ref in missing if (tip := _of_remotes(project, ref))}
    if taken:
        made = "".join(f"create {ref} {tip}\n" for ref, tip in taken.items())
        repository.run(project, "update-ref", "--stdin", stdin=made.encode())


def ledger_tip(project: Project, ref: Ref) -> str | None:
    """Where a branch of the ledger is: this clone's, or the remote's if it has none of its own.

    Raises:
        RatchetError: Several remotes have it, and they differ.
    """
    return git.tip(project.common_dir, ref) or _of_remotes(project, ref)


def _of_remotes(project: Project, ref: Ref) -> str | None:
    tips = git.tips_of_remotes(project.common_dir, ref.branch)
    if len(tips) > 1:
        raise RatchetError(
            f"Several remotes have a branch {ref.branch}, and they differ.",
            hint=f"Say which one to use: 'git branch {ref.branch} <remote>/{ref.branch}'.",
        )
    return next(iter(tips), None)
