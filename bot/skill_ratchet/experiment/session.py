"""Puts a workspace to work: its providers, scorer, ledger and budget, opened and closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from skill_ratchet import providers
from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.core.records import Usage
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.experiment import scorers
from skill_ratchet.experiment.runner import Runner, paid_call
from skill_ratchet.ledger import access
from skill_ratchet.ledger import clock as clocks
from skill_ratchet.ledger.clock import Clock
from skill_ratchet.project import programs, sealing, workspace
from skill_ratchet.providers import pricing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from skill_ratchet.core.records import Fixture, Reply, Run, RunJob, Score, Text, Trace
    from skill_ratchet.experiment.budget import Account, Budget
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.ledger.shards import Shard
    from skill_ratchet.project.config import AnyProvider
    from skill_ratchet.project.programs import Programs
    from skill_ratchet.project.workspace import Workspace
    from skill_ratchet.providers import Provider

DECIDE = ("run", "propose", "confirm", "gate")  # jobs that something may be merged after
FREE = ("local", "scripted")  # providers whose calls cost nothing


@dataclass(frozen=True, slots=True)
class Bench:
    """What it takes to run a workspace's cases."""

    space: Workspace
    ledger: Ledger
    runner: Runner
    provider: Provider
    meta_provider: Provider
    budget: Budget
    meta_budget: Budget  # the meta-agent's part of it
    account: Account
    clock: Clock  # of everything that is written down

    def recall(self, text: Text) -> None:
        """Have the runner use again what the ledger has of the incumbent ``text``.

        That is its runs on train, and on the holdout those of a model that always answers the same.
        Where no call at all was answered a program is broken, and nothing is known of the text.
        """
        model, deterministic = self.space.how.digest, self.provider.deterministic
        kept = [
            *self.ledger.kept_runs(text.digest, model, deterministic=deterministic).values(),
            *(self.ledger.kept_held_out(text.digest, model) if deterministic else ()),
        ]
        if any(trace.reply.error is None for trace in kept):
            self.runner.remember(kept)


@contextlib.asynccontextmanager
async def opened(
    space: Workspace,
    *,
    on_trace: Callable[[Trace, bool], None],
    job: RunJob = "run",
    usd: float | None = None,
    account: Account | None = None,
    judge: Workspace | None = None,
    shard: Shard | None = None,
    earlier: Sequence[Run] = (),
) -> AsyncIterator[Bench]:
    """Open everything a run needs; write down what it spent and release it, whatever happens.

    Args:
        space: What is run.
        on_trace: Told of every run of a case.
        job: What to call it in the record of its cost.
        usd: A cap in dollars besides those of the config.
        account: The one it is a part of, which whoever opened that will end, in place of its own.
        judge: Whose model judges for the scorer ``rubric``; None for the one that is run.
        shard: Which part of the work this is: it has its part of the caps.
        earlier: Other parts of it, which have spent of the caps already.
    """
    settings = space.config
    check_price(space)
    if job in DECIDE:
        sealing.refuse_open(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_telling_what_goes_on(left := list[str]()))
        place = await _programs(space, stack, judge=judge)
        provider = _built(space.provider, space, stack, place)
        stack.callback(lambda: left.extend(getattr(provider, "left", ())))
        meta_provider = provider
        if settings.meta.provider is not None:
            meta_provider = _built(settings.meta.provider, space, stack, place)
        ledger = access.open_to_write(
            space.project, space.name, redact=settings.redact, blind=space.blind
        )
        clock = Clock.of(ledger, clocks.now)
        if account is None:
            account = stack.enter_context(
                budgets.Account(
                    ledger,
                    job=job,
                    settings=settings.budget,
                    clock=time.monotonic,
                    usd=usd,
                    shard=shard,
                    earlier=earlier,
                )
            )
        budget = account.budget
        judging = provider if judge is None else _built(judge.provider, judge, stack, place)
        meta_budget = budget.part("the meta-agent", usd=settings.meta.usd, setting="meta.usd")
        tools = scorers.Tools(
            program_root=place.folder if place else space.project.root,
            hidden=place.hidden if place else (),
            judge=partial(paid_call, judging, budget=budget),
            judge_model=(judge or space).how.model,
            seed=settings.loop.seed,
        )
        runner = Runner(
            how=space.how,
            provider=provider,
            scorer=_scorer(space, tools),
            ledger=ledger,
            budget=budget,
            now=lambda: clock().isoformat(timespec="microseconds"),
            on_trace=on_trace,
        )
        yield Bench(
            space, ledger, runner, provider, meta_provider, budget, meta_budget, account, clock
        )


def _built(
    settings: AnyProvider,
    space: Workspace,
    stack: contextlib.AsyncExitStack,
    programs: Programs | None,
) -> Provider:
    """A provider, which ``stack`` closes."""
    made = providers.build(settings, project=space.project, tree=space.tree, programs=programs)
    stack.push_async_callback(made.aclose)
    return made


@contextlib.contextmanager
def _telling_what_goes_on(left: list[str]) -> Iterator[None]:
    """Say on Ctrl-C which batches go on by themselves."""
    try:
        yield
    except asyncio.CancelledError:
        if not left:
            raise
        raise RatchetError(
            f"Interrupted. The batch goes on at Anthropic: {', '.join(left)}.",
            hint="Run the same command again within a day: its answers are taken up, and nothing "
            "is paid twice.",
            exit_code=ExitCode.INTERRUPTED,
        ) from None


def price_of(provider: AnyProvider, model: str, usage: Usage) -> float | None:
    """What a call costs in USD; None when that is not known."""
    if provider.type in FREE:
        return 0.0
    return pricing.price(model, usage) if provider.type == "anthropic" else None


def check_price(space: Workspace) -> None:
    """A cap in dollars on a model nobody knows the price of would be no cap at all.

    Of a month's budget everything counts, so everything must have a price.
    """
    settings = space.config
    asked = [(space.provider, space.how.model)]
    if settings.meta.proposer == "meta":
        asked.append((settings.meta_provider, settings.meta_model))
    caps = settings.budget
    for provider, model in asked if (caps.usd, caps.month_usd) != (None, None) else ():
        if price_of(provider, model, Usage(input_tokens=1)) is not None:
            continue
        if caps.month_usd is not None:
            raise RatchetError(
                f"What a call of '{model}' ({provider.type}) costs is not known, so "
                "budget.month_usd cannot hold.",
                hint="Set budget.month_usd: null and rely on calls and minutes.",
            )
        if provider.type == "anthropic" and not provider.base_url:
            raise RatchetError(
                f"The price of model '{model}' is not known, so budget.usd cannot hold.",
                hint="Check the model's name, or set budget.usd: null and rely on calls and "
                "minutes.",
            )


async def _programs(
    space: Workspace, stack: contextlib.AsyncExitStack, *, judge: Workspace | None
) -> Programs | None:
    """Where programs run, scorers' and harnesses'; None where there are none."""
    specs = (space.scorer, *space.scorers.values())
    judged = judge is not None and judge.provider.type == "command"
    harness = judged or programs.has_harness(space.config)
    if not harness and not any(one.type in workspace.PROGRAMS for one in specs):
        return None
    place = stack.enter_context(programs.exported(space.project, space.tree, space.config))
    if harness:
        await sealing.prove(space.project, space.config, place)
    return place


def _scorer(
    space: Workspace, tools: scorers.Tools
) -> Callable[[str, Fixture], Awaitable[tuple[Score, Reply | None]]]:
    specs = {
        fixture.digest: workspace.fixture_spec(space, fixture)
        for fixture in (*space.train, *space.holdout, *space.vault)
    }

    async def score(output: str, fixture: Fixture) -> tuple[Score, Reply | None]:
        scored = await scorers.score(specs[fixture.digest], output, fixture, tools)
        return scored.score, scored.reply

    return score
