"""Caps in dollars, calls and minutes, checked before a call with the worst it can cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.errors import ExitCode, RatchetError

if TYPE_CHECKING:
    from collections.abc import Callable


class BudgetSpent(RatchetError):
    """A cap was reached. Everything finished so far is kept; the next run goes on from there."""

    def __init__(self, message: str, *, setting: str = "budget") -> None:
        super().__init__(
            message,
            hint=f"Run the same command again to go on where it stopped, or raise `{setting}`.",
            exit_code=ExitCode.BUDGET,
        )


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
        self.calls = 0
        self.priced = True  # False once a call's price was unknown
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
            raise BudgetSpent(
                f"The next call could exceed {self._name} of ${self._usd_cap:.2f} "
                f"(${self.usd:.4f} spent, up to ${self._reserved + worst:.4f} more).",
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

    def settle(self, booked: float, actual: float | None) -> None:
        """Replace what was booked by what the call cost.

        A call of unknown price costs what was booked for it: the cap must not be passed
        because a price is missing.
        """
        if self._whole is not None:
            self._whole.settle(booked, actual)
        self._reserved -= booked
        self.usd += booked if actual is None else actual
        if actual is None:
            self.priced = False

    @property
    def spent(self) -> float | None:
        """USD so far; None when a call's price was not known."""
        return self.usd if self.priced else None
