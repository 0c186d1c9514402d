"""The job that may write, for a transfer: publishes what another job found, and answers with it.

It runs no model. The matrix that is posted is the one that the runs on record come to; ``bundles``
refuses any other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_ratchet.base.redact import Redactor
from skill_ratchet.core import transfer as core
from skill_ratchet.github import gate_check, pages, replies
from skill_ratchet.project import config, repository

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.core.transfer import Transfer
    from skill_ratchet.github.api import GitHub
    from skill_ratchet.github.replies import Asked

NOTHING = "The transfer came to nothing; the log of its job says why."


@dataclass(frozen=True, slots=True)
class Relayed:
    """What was made known. ``transfer`` is None when there was no bundle."""

    transfer: Transfer | None
    detail: str
    page: str


def relay(start: Path, *, bundle: Path) -> Relayed:
    """Publish the records of a transfer bundle.

    Args:
        start: The project, on the base branch, with the ledger's branches.
        bundle: From ``transferring.transfer``; may be missing or empty if that came to nothing.

    Raises:
        RatchetError: The bundle is not sound, or the ledger cannot be published.
    """
    project = repository.open_project(start)
    settings = config.load_config(repository.CommitTree(project, "HEAD"))
    redact = Redactor.from_environ(os.environ, extra=settings.redact).redact
    checked = gate_check.take_in(project, bundle, kind="transfer")
    if checked is None or checked.transfer is None:
        return Relayed(None, NOTHING, NOTHING)
    one = checked.transfer
    return Relayed(one, core.sentence(one), redact(pages.transfer(one)))


def answer(github: GitHub, asked: Asked, relayed: Relayed) -> None:
    """Post the matrix in answer to the comment that asked for it."""
    one = relayed.transfer
    well = one is not None and one.finished_at is not None
    replies.answer(github, asked, relayed.page, well=well)
