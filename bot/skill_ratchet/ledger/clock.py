"""Times for the ledger: they never go back, whatever the machine's clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from skill_ratchet.ledger import Ledger

_TICK: Final = timedelta(microseconds=1)


class Clock:
    """UTC times, each later than the one before and than everything that is on record.

    What belongs to which try of an experiment, and whether it is finished, is told by what came
    first. A machine's clock is set back now and then, and two jobs run on two machines.

    Args:
        read: The machine's time, UTC.
        after: A time that every one has to be later than.
    """

    def __init__(self, read: Callable[[], datetime], *, after: datetime | None = None) -> None:
        self._read = read
        self._last = after or datetime.min.replace(tzinfo=UTC)

    @classmethod
    def of(cls, ledger: Ledger, read: Callable[[], datetime]) -> Self:
        """A clock that is later than the experiments and results of a ledger."""
        stamps = [experiment.started_at for experiment in ledger.experiments()]
        stamps += [result.finished_at for result in ledger.results().values()]
        return cls(read, after=max(filter(None, map(moment, stamps)), default=None))

    def __call__(self) -> datetime:
        """The time."""
        try:
            after = self._last + _TICK
        except OverflowError:  # a record of the year 9999: it cannot be later
            after = self._last
        self._last = max(self._read(), after)
        return self._last


def moment(stamp: str) -> datetime | None:
    """The time that a record has; None where it is none."""
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def now() -> datetime:
    """The current time, UTC."""
    return datetime.now(UTC)
