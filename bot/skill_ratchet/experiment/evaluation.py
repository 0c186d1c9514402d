"""Scores a skill on one split. Apart from ``jobs``, which takes longer to import than to ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skill_ratchet.core.records import JUDGE
from skill_ratchet.experiment import session
from skill_ratchet.experiment.budget import known
from skill_ratchet.experiment.runner import mean_score, sweep
from skill_ratchet.ledger import access
from skill_ratchet.project import repository, workspace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skill_ratchet.core.records import Run, Split, Trace
    from skill_ratchet.experiment.observer import Observer
    from skill_ratchet.ledger.shards import Shard
    from skill_ratchet.project.workspace import Workspace


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
        return mean_score(self.traces)

    @property
    def failed(self) -> tuple[Trace, ...]:
        """Runs without a score."""
        return tuple(trace for trace in self.traces if trace.score is None)


def space_of(
    start: Path, *, skill: str | None, split: Split, ref: str | None, override: Mapping[str, object]
) -> Workspace:
    """What is evaluated: the skill as it is on disk, or as it was at ``ref``."""
    project = repository.open_project(start)
    return workspace.open_anywhere(
        project, skill=skill, ref=ref, override=override, require=(split,)
    )


def evaluate(space: Workspace, split: Split, observer: Observer) -> Evaluation:
    """Run one split once."""
    return asyncio.run(_evaluate(space, split, observer))[0]


def evaluate_shard(
    space: Workspace, split: Split, observer: Observer, *, shard: Shard, out: Path
) -> Evaluation:
    """Run one share of a split once, and write its runs to the folder ``out``."""
    from skill_ratchet.ledger import bundles, shards  # noqa: PLC0415 - heavier than the rest

    bundles.require_new(out)
    done, spent = asyncio.run(_evaluate(space, split, observer, shard=shard))
    ledger = access.open_ledger(space.project, space.name, redact=space.config.redact)
    names = {f"{trace.id}{end}" for trace in done.traces for end in ("", JUDGE)}
    kept = [
        trace
        for job in ("task", "judge")
        for trace in ledger.text_runs(space.text.digest, split, job=job)
        if trace.id in names
    ]
    plan = shards.plan_of(space, job="eval", split=split)
    shards.write(out, shard, plan, traces=kept, reused=done.reused, spent=spent)
    return done


def put_together(space: Workspace, split: Split, *, folder: Path) -> Evaluation:
    """What one machine would have said that had made the runs of all the shards in ``folder``.

    Raises:
        RatchetError: One is missing, or is not what it should be.
    """
    from skill_ratchet.ledger import shards  # noqa: PLC0415 - heavier than the rest

    plan = shards.plan_of(space, job="eval", split=split)
    handed = shards.read(folder, plan, space)
    handed.require_all()
    ledger = access.open_ledger(space.project, space.name, redact=space.config.redact)
    ledger.add_skill_text(space.text.digest, space.text.text)
    shards.take_up(handed, plan, ledger)
    ledger.flush(f"{space.name}: shards of an evaluation")
    made = {trace.fixture: trace for trace in handed.traces if trace.job == "task"}
    return Evaluation(
        skill=space.name,
        model=space.how.model,
        split=split,
        ref=space.base,
        traces=tuple(made[case.id] for case in space.fixtures(split)),
        reused=handed.reused,
        calls=sum(run.calls for run in handed.spent),
        usd=known(handed.spent),
    )


async def _evaluate(
    space: Workspace, split: Split, observer: Observer, *, shard: Shard | None = None
) -> tuple[Evaluation, Run]:
    reused = 0

    def on_trace(trace: Trace, paid: bool) -> None:  # noqa: FBT001 - the runner's callback
        nonlocal reused
        reused += not paid
        observer.ran(trace, paid)

    async with session.opened(space, on_trace=on_trace, job="eval", shard=shard) as opened:
        observer.budget = opened.budget
        if split == "train":
            opened.recall(space.text)
        opened.ledger.add_skill_text(space.text.digest, space.text.text)
        cases, name = space.fixtures(split), f"evaluating on {split}"
        if shard is not None:
            cases, name = shard.cases(cases), f"{name}, shard {shard}"
        observer.phase(name, runs=len(cases))
        traces = await sweep(opened.runner, space.text, cases)
        done = Evaluation(
            skill=space.name,
            model=space.how.model,
            split=split,
            ref=space.base,
            traces=tuple(traces),
            reused=reused,
            calls=opened.budget.calls,
            usd=opened.budget.spent,
        )
    return done, opened.account.run
