"""Scores a skill on one split. Apart from ``running``, which takes longer to import than to ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from bot import bench, skillrepo, workspace
from bot.runner import sweep

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bot.core.records import Split, Trace
    from bot.progress import Reporter
    from bot.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One sweep of a split."""

    skill: str
    model: str
    split: Split
    ref: str
    traces: tuple[Trace, ...] = field(repr=False)  # long, and asyncio shows a result to nobody
    reused: int
    calls: int
    usd: float | None

    @property
    def score(self) -> float | None:
        """Mean over the cases with a score; None when there is none."""
        values = [trace.score.value for trace in self.traces if trace.score]
        return fmean(values) if values else None

    @property
    def failed(self) -> tuple[Trace, ...]:
        """Runs without a score."""
        return tuple(trace for trace in self.traces if trace.score is None)


def evaluate(
    start: Path,
    *,
    skill: str | None,
    split: Split,
    ref: str | None,
    override: Mapping[str, object],
    reporter: Reporter,
) -> Evaluation:
    """Run one split once: the skill as it is on disk, or as it was at ``ref``."""
    project = skillrepo.open_project(start)
    space = workspace.open_anywhere(
        project, skill=skill, ref=ref, override=override, require=(split,)
    )
    return asyncio.run(_evaluate(space, split, reporter))


async def _evaluate(space: Workspace, split: Split, reporter: Reporter) -> Evaluation:
    reused = 0

    def on_trace(trace: Trace, paid: bool) -> None:  # noqa: FBT001 - the runner's callback
        nonlocal reused
        reused += not paid
        reporter.ran(trace, paid)

    async with bench.opened(space, on_trace=on_trace, job="eval") as opened:
        reporter.budget = opened.budget
        if split == "train":
            opened.recall(space.text)
        opened.ledger.add_skill_text(space.text.digest, space.text.text)
        cases = space.fixtures(split)
        reporter.phase(f"evaluating on {split}", runs=len(cases))
        traces = await sweep(opened.runner, space.text, cases)
        return Evaluation(
            skill=space.name,
            model=space.how.model,
            split=split,
            ref=space.base,
            traces=tuple(traces),
            reused=reused,
            calls=opened.budget.calls,
            usd=opened.budget.spent,
        )
