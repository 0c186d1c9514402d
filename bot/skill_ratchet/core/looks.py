"""How often the holdout was consulted: an incumbent's reign, derived from the ledger alone.

Nothing is counted in a file of its own, so the count survives crashes, reverts and machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import ConfigDict

from skill_ratchet.core import evidence as stats
from skill_ratchet.core.facts import Recorded  # noqa: TC001 - pydantic needs it at run time
from skill_ratchet.core.gate import Verdict  # noqa: TC001 - the same
from skill_ratchet.core.records import Digest, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill_ratchet.core.gate import Policy


class Look(Record):
    """One consultation of the holdout, without the evidence, which is many times as large.

    ``attempt`` is 0 for a candidate that held held-out text and was rejected without a run.
    ``verdict`` is None while it is under way. It counts from the start: a run that died has looked.
    """

    model_config = ConfigDict(extra="ignore")

    experiment: Digest
    parent: Digest  # the incumbent's text
    attempt: int
    started_at: str
    verdict: Verdict | None = None
    completed_at: str | None = None


class Confirmation(Look):
    """A look as it is on record: written before its first call, completed at its end.

    ``evidence`` is None while it is under way, as the verdict is.
    """

    model_config = ConfigDict(extra="forbid")

    evidence: Recorded | None = None


@dataclass(frozen=True, slots=True)
class Reign:
    """What has been spent against one incumbent, and on the holdout altogether."""

    attempts: int
    alpha_spent: float
    alpha: float
    looks: int  # all confirm attempts ever, any incumbent

    @property
    def share(self) -> float:
        """Part of the error budget that is spent, in [0, 1)."""
        return self.alpha_spent / self.alpha


def waited(look: Look | None, *, shown: datetime, now: datetime) -> float | None:
    """Seconds since people could object: since it was confirmed, and since they could see it.

    None when it is not known when it was confirmed: a commit's date is whatever its maker says.
    """
    if look is None or look.completed_at is None:
        return None
    since = max(datetime.fromisoformat(look.completed_at), shown)
    return max(0.0, (now - since).total_seconds())


def attempt_number(looks: Sequence[Look], *, parent: str, experiment: str, since: str = "") -> int:
    """Which confirm attempt against ``parent`` this experiment's is, from 1.

    An incumbent that comes back (a revert) goes on where its count stopped. A look that the
    experiment had before ``since``, when it was begun anew, was another attempt.
    """
    for look in looks:
        same = look.experiment == experiment and look.started_at >= since
        if same and look.attempt:
            return look.attempt
    taken = [look.attempt for look in looks if look.parent == parent]
    return 1 + max(taken, default=0)


def reign(looks: Sequence[Look], *, parent: str, policy: Policy) -> Reign:
    """The incumbent's reign so far."""
    most: dict[str, int] = {}  # one that was tried again counts as often as it was
    for look in looks:
        most[look.parent] = max(look.attempt, most.get(look.parent, 0))
    taken = most.get(parent, 0)
    return Reign(
        attempts=taken,
        alpha_spent=stats.spent(taken, alpha=policy.alpha, k=policy.k),
        alpha=policy.alpha,
        looks=sum(most.values()),
    )
