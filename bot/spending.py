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
    from collections.abc import Callable, Iterator

    from bot.config import BudgetConfig
    from bot.ledger import Ledger


class Account:
    """One run's budget and its record in the ledger.

    Args:
        ledger: Where to.
        job: What the run is.
        settings: Its caps.
        clock: Monotonic seconds.
        usd: A further cap in dollars, of this run alone.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        job: RunJob,
        settings: BudgetConfig,
        clock: Callable[[], float],
        usd: float | None,
    ) -> None:
        began = datetime.now(UTC)
        self._ledger = ledger
        caps = [Cap(settings.usd, "the budget", "budget.usd"), Cap(usd, "this run's cap", "--usd")]
        if settings.month_usd is not None:
            month = ledger.runs_of_month(spending.month_of(began))
            left = spending.left(settings.month_usd, month)
            caps.append(Cap(left, "what is left of the month's budget", "budget.month_usd"))
        cap = spending.tightest(caps)
        self.budget = Budget(
            usd=cap.usd,
            calls=settings.calls,
            minutes=settings.minutes,
            clock=clock,
            name=cap.name,
            setting=cap.setting,
        )
        self._run = Run(
            skill=ledger.skill,
            job=job,
            started_at=_stamp(began),
            ended_at=None,
            ended=None,
            calls=0,
            usd=None,
            counted=cap.usd or 0.0,
        )
        ledger.add_run(self._run)

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
) -> Iterator[Account]:
    """A run's account, ended and flushed whatever happens."""
    opened = Account(ledger, job=job, settings=settings, clock=clock, usd=usd)
    how: Ended = "done"
    try:
        yield opened
    except BaseException as error:
        how = ending(error)
        raise
    finally:
        opened.end(how)
        ledger.flush(f"{ledger.skill}: end of a run")


def ending(error: BaseException) -> Ended:
    """What an error that ends a run is called."""
    if isinstance(error, BudgetSpent):
        return "budget"
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
        return "interrupted"
    return "error"


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
