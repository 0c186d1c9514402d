"""A run's budget, capped by what is left of the month, and its record, however it ends.

The record is written when a run begins and again when it ends. So a run that is killed leaves one
that says so: it counts as all it could have spent.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bot.budget import Budget, BudgetSpent
from bot.core import spending
from bot.core.records import Ended, Run, RunJob
from bot.core.spending import Cap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bot.config import BudgetConfig
    from bot.core.shards import Shard
    from bot.ledger import Ledger


class Account:
    """One run's budget and its record in the ledger.

    Args:
        ledger: Where to.
        job: What the run is.
        settings: Its caps.
        clock: Monotonic seconds.
        usd: A further cap in dollars, of this run alone.
        shard: It may spend its part of every cap but that of time.
        earlier: Runs that are a part of the same work, and what they spent a part of its caps.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        job: RunJob,
        settings: BudgetConfig,
        clock: Callable[[], float],
        usd: float | None,
        shard: Shard | None = None,
        earlier: Sequence[Run] = (),
    ) -> None:
        began = datetime.now(UTC)
        self._ledger = ledger
        caps = [Cap(settings.usd, "the budget", "budget.usd"), Cap(usd, "this run's cap", "--usd")]
        if settings.month_usd is not None:
            names = {run.name for run in earlier}
            month = ledger.runs_of_month(spending.month_of(began))
            month = [run for run in month if run.name not in names]  # they are charged below
            left = spending.left(settings.month_usd, month)
            caps.append(Cap(left, "what is left of the month's budget", "budget.month_usd"))
        cap = _part_of(spending.tightest(caps), shard)
        calls = settings.calls
        budget = Budget(
            usd=cap.usd,
            calls=shard.part(calls) if shard and calls is not None else calls,
            minutes=settings.minutes,
            clock=clock,
            name=cap.name,
            setting=cap.setting,
        )
        budget.charge(calls=sum(run.calls for run in earlier), usd=spending.counted(earlier))
        # What is written down is what this run spends itself.
        self.budget = budget.part(cap.name, usd=None, setting=cap.setting) if earlier else budget
        self._run = Run(
            skill=ledger.skill,
            job=job,
            started_at=_stamp(began),
            ended_at=None,
            ended=None,
            calls=0,
            usd=None,
            counted=max(0.0, (cap.usd or 0.0) - budget.usd),
        )
        ledger.add_run(self._run)

    @property
    def run(self) -> Run:
        """The record."""
        return self._run

    def end(self, how: Ended) -> None:
        """Write down how the run ended; the ledger is to be flushed then. The first word counts."""
        if self._run.ended is None:
            self._run = self._run.with_(
                ended_at=_stamp(datetime.now(UTC)),
                ended=how,
                calls=self.budget.calls,
                usd=self.budget.spent,
                counted=self.budget.usd,
                predicted=self.budget.predicted,
            )
            self._ledger.add_run(self._run)


@contextmanager
def account(
    ledger: Ledger,
    *,
    job: RunJob,
    settings: BudgetConfig,
    clock: Callable[[], float],
    usd: float | None = None,
    shard: Shard | None = None,
    earlier: Sequence[Run] = (),
) -> Iterator[Account]:
    """A run's account, ended and flushed whatever happens."""
    opened = Account(
        ledger, job=job, settings=settings, clock=clock, usd=usd, shard=shard, earlier=earlier
    )
    how: Ended = "done"
    try:
        yield opened
    except BaseException as error:
        how = ending(error)
        raise
    finally:
        opened.end(how)
        ledger.flush(f"{ledger.skill}: end of a run")


def _part_of(cap: Cap, shard: Shard | None) -> Cap:
    """What one of several machines may spend of a limit."""
    if shard is None or cap.usd is None:
        return cap
    return cap._replace(usd=spending.share(cap.usd, shard.of))


def ending(error: BaseException) -> Ended:
    """What an error that ends a run is called."""
    if isinstance(error, BudgetSpent):
        return "budget"
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
        return "interrupted"
    return "error"


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
