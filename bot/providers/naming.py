"""What a call is for, for a provider that has to know it again after a crash."""

from __future__ import annotations

from contextvars import ContextVar

# The digest of the run's key; empty for calls that belong to no run, such as the meta-agent's.
CALL: ContextVar[str] = ContextVar("call", default="")
