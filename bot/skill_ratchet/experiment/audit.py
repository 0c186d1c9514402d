"""Whether the gate's past decisions hold on cases that it never reads."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import wording
from skill_ratchet.core.evidence import FEWEST_CLUSTERS as FEWEST
from skill_ratchet.experiment import session
from skill_ratchet.experiment.runner import sweep
from skill_ratchet.project import repository, workspace

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.core.records import Trace
    from skill_ratchet.experiment.observer import Observer
    from skill_ratchet.project.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Audit:
    """The holdout beside a vault that the gate never reads."""

    skill: str
    model: str
    holdout: float
    vault: float
    cases: tuple[int, int]  # held-out, vault
    error: float  # standard error of holdout minus vault
    calls: int
    usd: float | None

    @property
    def excess(self) -> float:
        """How much better the skill looks on the holdout."""
        return self.holdout - self.vault

    @property
    def worn(self) -> bool:
        """Whether the holdout has been fitted to: more than two standard errors of excess."""
        return self.excess > 2 * self.error


def audit(start: Path, *, skill: str | None, observer: Observer) -> Audit:
    """Score the skill afresh on the holdout and on the vault."""
    project = repository.open_project(start)
    space = workspace.open_anywhere(
        project, skill=skill, ref=None, override={}, require=("train", "holdout", "vault")
    )
    return asyncio.run(_audit(space, observer))


async def _audit(space: Workspace, observer: Observer) -> Audit:
    async with session.opened(space, on_trace=observer.ran, job="audit") as opened:
        observer.budget = opened.budget
        opened.ledger.add_skill_text(space.text.digest, space.text.text)
        observer.phase("holdout and vault", runs=len(space.holdout) + len(space.vault))
        held = _values(await sweep(opened.runner, space.text, space.holdout))
        vault = _values(await sweep(opened.runner, space.text, space.vault))
        return Audit(
            skill=space.name,
            model=space.how.model,
            holdout=fmean(held),
            vault=fmean(vault),
            cases=(len(held), len(vault)),
            error=math.sqrt(_squared_error(held) + _squared_error(vault)),
            calls=opened.budget.calls,
            usd=opened.budget.spent,
        )


def _squared_error(values: list[float]) -> float:
    return variance(values) / len(values)


def _values(traces: list[Trace]) -> list[float]:
    values = [trace.score.value for trace in traces if trace.score]
    if len(values) < len(traces):
        failed = next(trace for trace in traces if trace.score is None)
        raise RatchetError(
            f"{len(traces) - len(values)} of {len(traces)} runs have no score: {failed.failure}"
        )
    if len(values) < FEWEST:
        raise RatchetError(
            f"The {traces[0].split} split has {len(values)} case; its spread needs {FEWEST}."
        )
    return values


def describe_audit(done: Audit) -> list[str]:
    """An audit in words."""
    held, vault = done.cases
    on_holdout = f"{wording.percent(done.holdout)} on {held} held-out cases"
    on_vault = f"{wording.percent(done.vault)} on {vault} cases of the vault"
    excess = f"{100 * done.excess:+.1f} points, standard error {100 * done.error:.1f}"
    advice = "The holdout still speaks for the cases it stands for."
    if done.worn:
        advice = (
            "The skill looks better on the holdout than it is: swap held-out cases for new ones, "
            "and keep the vault closed."
        )
    return [
        f"{done.skill} with {done.model}: {on_holdout}, {on_vault}.",
        f"Holdout minus vault: {excess}.",
        advice,
    ]
