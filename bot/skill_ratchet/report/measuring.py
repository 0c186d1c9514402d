"""``ratchet metrics``: a skill's versions from git, joined with what the ledger has of them."""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import fmean
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.ledger import access, clock
from skill_ratchet.project import repository, skill_file, workspace
from skill_ratchet.report import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace
    from skill_ratchet.report.metrics import TextVersion, VersionRow


def measure(start: Path, *, skill: str | None) -> metrics.Measured:
    """Every version of a skill on its base branch, with what people made of it.

    Raises:
        RatchetError: There is no such skill, or no commit yet.
    """
    project = repository.open_project(start)
    space = workspace.open_anywhere(project, skill=skill, ref=None, override={}, require=())
    branch = space.config.base or repository.require_branch(project)
    tip = repository.resolve(project, f"refs/heads/{branch}")
    ledger = access.open_ledger(project, space.name, redact=space.config.redact)
    found = versions(project, tip, path=space.skill.path, now=clock.now())
    return metrics.Measured(space.name, branch, rows(ledger, space, found))


def rows(
    ledger: Ledger, space: Workspace, found: Sequence[TextVersion], *, scores: bool = True
) -> tuple[VersionRow, ...]:
    """The rows of a ledger, for the versions that there are.

    Args:
        ledger: The skill's.
        space: The skill.
        found: From ``versions``.
        scores: Read the kept runs of every version for its scores on train.
    """
    kept = {one.digest: _kept(ledger, space, one.digest) for one in found if scores}
    facts = metrics.Sources(
        versions=found,
        experiments=ledger.experiments(),
        results=ledger.results(),
        landings=ledger.landings(),
        shipped=ledger.shipped(),
        corrections=ledger.corrections(),
        answers=ledger.answers(),
        looks=ledger.confirmations(),
        kept={name: fmean(by.values()) for name, (by, _) in kept.items() if by},
        done={name: (len(by), sum(by.values())) for name, (_, by) in kept.items() if by},
        person=workspace.PERSON,
    )
    return metrics.rows(facts)


def _kept(
    ledger: Ledger, space: Workspace, version: str
) -> tuple[dict[str, float], dict[str, bool]]:
    """Of a version's kept train runs by case: their mean, and whether a program found it done."""
    runs = ledger.kept_runs(version, space.how.digest).values()
    by_case: dict[str, list[float]] = {}
    judged: dict[str, list[float]] = {}
    for run in runs:
        if run.score is None or run.key is None:
            continue
        by_case.setdefault(run.key.fixture, []).append(run.score.value)
        if run.score.scorer == "command":
            judged.setdefault(run.key.fixture, []).append(run.score.value)
    done = {case: fmean(values) == 1 for case, values in judged.items()}
    return {case: fmean(values) for case, values in by_case.items()}, done


def versions(project: Project, tip: str, *, path: str, now: datetime) -> tuple[TextVersion, ...]:
    """The texts a skill has had on the way to ``tip``, as the branch itself saw them.

    A file that was renamed is followed as far as git recognises it. What cannot be read as a
    skill's text is left out.
    """
    shown = ("--first-parent", "-m", "--follow", "--raw", "--no-abbrev", "--format=%x01%cI")
    logged = repository.run(project, "log", *shown, tip, "--", project.full(path)).text
    steps = [
        (lines[0], line.split()[3])
        for lines in (part.splitlines() for part in logged.split("\x01")[1:])
        for line in lines
        if line.startswith(":") and line.split()[4][0] != "D"
    ]
    texts = _texts(project, [blob for _, blob in steps])
    moments = [
        (texts[blob], datetime.fromisoformat(at).astimezone(UTC).isoformat())
        for at, blob in reversed(steps)
        if blob in texts
    ]
    return metrics.lasted(moments, until=now.isoformat())


def _texts(project: Project, blobs: Sequence[str]) -> dict[str, str]:
    """The digests of skill texts by the names of their contents."""
    wanted = list(dict.fromkeys(blobs))
    asked = "".join(f"{blob}\n" for blob in wanted).encode()
    out, at = repository.run(project, "cat-file", "--batch", stdin=asked).raw, 0
    found = {}
    for blob in wanted:
        end = out.index(b"\n", at)
        size = int(out[at:end].split()[2])
        data, at = out[end + 1 : end + 1 + size], end + size + 2
        try:
            text = skill_file.decode(data, path=blob)
        except RatchetError:
            continue
        found[blob] = workspace.text_of(text).digest
    return found
