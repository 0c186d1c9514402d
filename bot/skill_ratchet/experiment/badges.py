"""The README badge of a skill: what it says now, where it is kept, and how it is pasted."""

from __future__ import annotations

import os
import re
from statistics import fmean
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.ledger import Ref, badge, scores
from skill_ratchet.ledger.store import BADGE
from skill_ratchet.project import repository as repositories

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.ledger import Ledger
    from skill_ratchet.ledger.badge import Badge
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace

GITHUB: Final = "https://github.com"


def facts(ledger: Ledger, space: Workspace, *, text: str | None = None) -> Badge:
    """What the badge says of a version of the skill.

    Args:
        ledger: The skill's.
        space: The skill, and how it is run.
        text: Digest of the version; None for the one in ``space``.
    """
    score = train_score(ledger, space, text=text or space.text.digest)
    reverted = ledger.reversions()
    landed = [one.at for name, one in ledger.landings().items() if name not in reverted]
    return badge.Badge(
        skill=ledger.skill,
        score=None if score is None else round(100 * score),
        merged=max(landed)[:10] if landed else None,
    )


def refresh(ledger: Ledger, space: Workspace) -> bool:
    """Put the badge as it is now on the ledger; False when it is there, or has nothing to say."""
    made, there = facts(ledger, space), ledger.badge()
    svg = badge.draw(made)
    if there == svg or (there is None and made.score is None):
        return False
    ledger.put_badge(svg)
    return True


def write(svg: str, file: Path) -> None:
    """Write a badge to a file.

    Raises:
        RatchetError: It cannot be written.
    """
    try:
        file.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise RatchetError(f"{file} cannot be written: {error.strerror}") from error


def markdown(project: Project, made: Badge, *, file: Path | None = None) -> str:
    """The line for a README: the picture on the remote ``origin``, linked to the experiments.

    Where ``origin`` is not on GitHub the picture is ``file``.
    """
    home = repository(project)
    words = made.title.partition(":")[0]
    if home is None:
        return f"![{words}]({quote(str(file or BADGE))})"
    picture = f"{home}/raw/{Ref.LEDGER}/{quote(made.skill)}/{BADGE}"
    return f"[![{words}]({picture})]({home}/tree/{Ref.LEDGER.branch}/{quote(made.skill)})"


def repository(project: Project) -> str | None:
    """The address of the repository that ``origin`` is on GitHub, without credentials."""
    server = (os.environ.get("GITHUB_SERVER_URL") or GITHUB).rstrip("/")
    url = repositories.run(project, "remote", "get-url", "origin", ok=range(256)).text
    host = urlsplit(server).netloc
    for known, address in {host: server, urlsplit(GITHUB).netloc: GITHUB}.items():
        found = re.fullmatch(
            rf"(?:https?://(?:[^@/\s]*@)?|ssh://(?:[^@/\s]*@)?|[^@/\s]+@){re.escape(known)}(?::\d+)?[:/]"
            r"(?P<name>[A-Za-z0-9._-]+/[A-Za-z0-9._-]+?)(?:\.git)?/?",
            url,
        )
        if found:
            return f"{address}/{found['name']}"
    return None


def kept_score(ledger: Ledger, space: Workspace) -> float | None:
    """The mean of the skill as it is on train; None where not every case has a kept run."""
    kept = ledger.kept_runs(space.text.digest, space.how.digest)
    runs = [kept.get((case.digest, 0)) for case in space.train]
    scores = [run.score.value for run in runs if run and run.score]
    return fmean(scores) if scores and len(scores) == len(runs) else None


def train_score(ledger: Ledger, space: Workspace, *, text: str) -> float | None:
    """The mean of a version of the skill on train; None where it was never measured whole."""
    kept = kept_score(ledger, space) if text == space.text.digest else None
    if kept is not None:
        return kept
    known = scores.of_text(ledger, text)
    return None if known is None else known.value
