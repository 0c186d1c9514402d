"""What a run tells whoever watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from skill_ratchet.core.records import Trace
    from skill_ratchet.experiment.budget import Budget
    from skill_ratchet.experiment.recorder import Attempt


class Observer(Protocol):
    """Told what goes on, as it goes on. Nothing it does can change a result.

    ``budget`` is set once the run has one: calls and dollars so far.
    """

    budget: Budget | None

    def phase(self, name: str, *, runs: int, incumbent: str = "") -> None:
        """A new phase begins, of at most ``runs`` task calls (0 when not known).

        ``incumbent`` is the digest of its text where two are compared.
        """
        ...

    def ran(self, trace: Trace, paid: bool) -> None:  # noqa: FBT001 - the runner's callback
        """One run of a case ended; ``paid`` is False where a kept one was used again."""
        ...

    def said(self, text: str) -> None:
        """Something a person should know."""
        ...

    def decided(self, attempt: Attempt) -> None:
        """An attempt ended."""
        ...
