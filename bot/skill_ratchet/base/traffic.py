"""How many calls are under way and what they wait for, for whoever watches a run."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Traffic:
    """One run's calls. ``watch`` is told of every wait: why, and for how many seconds at most."""

    def __init__(self) -> None:
        self.calls = 0
        self.watch: Callable[[str, float], None] | None = None

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call is under way; a provider that waits within it says so here."""
        token = TRAFFIC.set(self)
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1
            TRAFFIC.reset(token)

    def waits(self, why: str, seconds: float) -> None:
        """Say that a call is made again, or first made, after a while."""
        if self.watch is not None:
            self.watch(why, seconds)


TRAFFIC: ContextVar[Traffic] = ContextVar("traffic", default=Traffic())  # noqa: B039 - nobody's
