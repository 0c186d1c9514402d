"""What a run may spend, what a month has left, and the record of what was spent, however it ends.

Caps in dollars, calls and minutes are checked before a call with the worst it can cost. The record
is written when a run begins and again when it ends. So a run that is killed leaves one that says
so: it counts as all it could have spent.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.base.traffic import Traffic
from skill_ratchet.core.records import Ended, Run, RunJob, total
from skill_ratchet.core.wording import amounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skill_ratchet.ledger import Ledger
    from skill_ratchet.ledger.shards import Shard
    from skill_ratchet.project.config import BudgetConfig

MONTH: Final = "budget.month_usd"  # the key of the month's cap
STEP = 1e-6  # dollars; a share is rounded down to it


class BudgetSpent(RatchetError):
    """A cap was reached. Everything finished so far is kept; the next run goes on from there."""

    def __init__(self, message: str, *, setting: str = "budget") -> None:
        again = "Run the same command again to go on where it stopped"
        if setting == MONTH:  # to run again would end the same way
            again = f"The month's budget begins anew on {_next_month(datetime.now(UTC))} (UTC)"
        super().__init__(message, hint=f"{again}, or raise `{setting}`.", exit_code=ExitCode.BUDGET)


class Budget:
    """What one run may still spend.

    Args:
        usd: Dollars, or None for no cap.
        calls: Model calls, or None.
        minutes: Time since construction, or None.
        clock: Monotonic seconds.
        whole: The budget this is a part of; what is spent here is spent there.
        name: What its cap in dollars is.
        setting: The key that raises that cap.
    """

    def __init__(
        self,
        *,
        usd: float | None,
        calls: int | None,
        minutes: float | None,
        clock: Callable[[], float],
        whole: Budget | None = None,
        name: str = "the budget",
        setting: str = "budget",
    ) -> None:
        self._usd_cap, self._calls_cap, self._minutes = usd, calls, minutes
        self._clock, self._whole = clock, whole
        self._name, self._setting = name, setting
        self._started = clock()
        self._reserved = 0.0
        self.usd = 0.0
        self.unsure = 0.0  # of it, for attempts that may or may not have been billed
        self.calls = 0
        self.priced = True  # False once a call's price was unknown
        self.traffic: Traffic = whole.traffic if whole else Traffic()
        self.predicted: float | None = None  # USD of the calls so far and those of this phase

    def part(self, name: str, *, usd: float | None, setting: str) -> Budget:
        """A part of this budget with a cap in dollars of its own."""
        return Budget(
            usd=usd,
            calls=None,
            minutes=None,
            clock=self._clock,
            whole=self,
            name=f"the budget of {name}",
            setting=setting,
        )

    def charge(self, *, calls: int, usd: float) -> None:
        """Count what others have spent of it already."""
        self.calls += calls
        self.usd += usd

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return self._clock() - self._started

    def reserve(self, worst_case: float | None) -> float:
        """Book one call that costs at most ``worst_case`` USD; returns what was booked.

        Raises:
            BudgetSpent: The call could exceed a cap. Nothing was booked.
        """
        worst = worst_case or 0.0
        if self._calls_cap is not None and self.calls >= self._calls_cap:
            raise BudgetSpent(f"The budget of {self._calls_cap} calls is spent.")
        if self._minutes is not None and self.seconds >= 60 * self._minutes:
            raise BudgetSpent(f"The budget of {self._minutes:g} minutes is spent.")
        if self._usd_cap is not None and self.usd + self._reserved + worst > self._usd_cap:
            more = self._reserved + worst
            cap, spent, most, _ = amounts(self._usd_cap, self.usd, more, self.usd + more)
            raise BudgetSpent(
                f"The next call could exceed {self._name} of {cap} "
                f"({spent} spent, up to {most} more).",
                setting=self._setting,
            )
        if self._whole is not None:
            self._whole.reserve(worst_case)
        self.calls += 1
        self._reserved += worst
        return worst

    def predict(self, usd: float | None) -> None:
        """Add what calls are predicted to cost; less than nothing for those that were not needed.

        It is shown and written down beside what they did cost, and decides nothing.
        """
        if usd is not None:
            self.predicted = max(0.0, (self.predicted or 0.0) + usd)

    def release(self, booked: float) -> None:
        """Take back a call that was not sent."""
        if self._whole is not None:
            self._whole.release(booked)
        self._reserved -= booked
        self.calls -= 1

    def settle(self, booked: float, actual: float | None, *, unsure: float = 0.0) -> None:
        """Replace what was booked by what the call cost.

        A call of unknown price costs what was booked for it: the cap must not be passed
        because a price is missing.

        Args:
            booked: What ``reserve`` said.
            actual: What it cost in USD; None when that is not known.
            unsure: What attempts of it cost besides, if they were billed: it counts.
        """
        if self._whole is not None:
            self._whole.settle(booked, actual, unsure=unsure)
        self._reserved -= booked
        self.usd += (booked if actual is None else actual) + unsure
        self.unsure += unsure
        if actual is None:
            self.priced = False

    @property
    def spent(self) -> float | None:
        """USD so far; None when a call's price was not known."""
        return self.usd if self.priced else None


# Dollars of a calendar month, all skills together --------------------------------------------


class Cap(NamedTuple):
    """A limit in dollars: what it is a limit of, and the key or option that raises it."""

    usd: float | None
    name: str
    setting: str


def tightest(caps: Sequence[Cap]) -> Cap:
    """The lowest limit; of equal ones the first."""
    return min(caps, key=lambda cap: math.inf if cap.usd is None else cap.usd)


def _next_month(moment: datetime) -> str:
    """The first day of the month after a time."""
    later = moment.replace(day=28) + timedelta(days=4)
    return f"{later:%Y-%m}-01"


def month_of(moment: datetime) -> str:
    """The month of a UTC time, as in ``2026-07``."""
    return f"{moment:%Y-%m}"


def counted(runs: Iterable[Run]) -> float:
    """What runs count for together."""
    return math.fsum(run.counted for run in runs)


def known(runs: Sequence[Run]) -> float | None:
    """What runs cost together; None when of one of them it is not known."""
    return total(run.usd for run in runs)


def left(limit: float, runs: Iterable[Run]) -> float:
    """What is left of a month's dollars."""
    return max(0.0, limit - counted(runs))


def share(usd: float, jobs: int) -> float:
    """An equal part for each of so many jobs; together they are never more than the whole."""
    return math.floor(usd / jobs / STEP) * STEP


# A run's record ------------------------------------------------------------------------------


class Account:
    """One run's budget and its record in the ledger.

    As a context manager it is ended and flushed whatever happens.

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
        usd: float | None = None,
        shard: Shard | None = None,
        earlier: Sequence[Run] = (),
    ) -> None:
        began = datetime.now(UTC)
        self._ledger = ledger
        caps = [Cap(settings.usd, "the budget", "budget.usd"), Cap(usd, "this run's cap", "--usd")]
        if settings.month_usd is not None:
            names = {run.name for run in earlier}
            month = ledger.runs_of_month(month_of(began))
            month = [run for run in month if run.name not in names]  # they are charged below
            rest = left(settings.month_usd, month)
            caps.append(Cap(rest, "what is left of the month's budget", MONTH))
        cap = _part_of(tightest(caps), shard)
        calls = settings.calls
        budget = Budget(
            usd=cap.usd,
            calls=shard.part(calls) if shard and calls is not None else calls,
            minutes=settings.minutes,
            clock=clock,
            name=cap.name,
            setting=cap.setting,
        )
        budget.charge(calls=sum(run.calls for run in earlier), usd=counted(earlier))
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            self.end("done" if error is None else ending(error))
        finally:
            self._ledger.flush(f"{self._ledger.skill}: end of a run")

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
                unsure=self.budget.unsure,
                predicted=self.budget.predicted,
            )
            self._ledger.add_run(self._run)


def _part_of(cap: Cap, shard: Shard | None) -> Cap:
    """What one of several machines may spend of a limit."""
    if shard is None or cap.usd is None:
        return cap
    return cap._replace(usd=share(cap.usd, shard.of))


def ending(error: BaseException) -> Ended:
    """What an error that ends a run is called."""
    import asyncio  # noqa: PLC0415 - who asks what a month has left runs nothing

    if isinstance(error, BudgetSpent):
        return "budget"
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
        return "interrupted"
    return "error"


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
