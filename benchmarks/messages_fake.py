"""A stand-in for Anthropic's API on this machine: fixed latency, honest usage, limits on request.

The HTTP side is that of the tests (``tests/support/messages_server.py``); here is what it answers.
Usage is counted as the API counts it: a system prompt that is marked is written to the cache by the
calls that come before the first of them is answered, and read from it by the others.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1] / "tests/support"))

from messages_server import MessagesServer, Planned, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BYTES_PER_TOKEN = 4
FEWEST_CACHED = 1024  # tokens of a prefix; a shorter one is not cached
OUTPUT_TOKENS = 8


@dataclass
class Model:
    """Answers requests; counts what it was asked and what it used.

    Args:
        answer: From what the user says to what the model says.
        latency: Seconds until an answer comes.
        most: Calls at once; one more is refused with a 429. None for no limit.
        retry_after: What a refusal says, in seconds.
    """

    answer: Callable[[str], str]
    latency: float = 0.0
    most: int | None = None
    retry_after: float = 1.0
    answered: int = 0
    refused: int = 0
    widest: int = 0  # calls at once, at most
    usage: dict[str, int] = field(default_factory=dict)
    _under_way: int = 0
    _cached: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, body: Any, number: int) -> Planned:
        """Answer one request, or refuse it."""
        with self._lock:
            if self.most is not None and self._under_way >= self.most:
                self.refused += 1
                return self._refusal(number)
            self._under_way += 1
            self.widest = max(self.widest, self._under_way)
            used = self._used(body)
        return Planned(
            body=json.dumps(self._message(body, used)).encode(),
            headers={"request-id": f"req_{number}"},
            delay=self.latency,
            done=lambda: self._done(body),
        )

    def _done(self, body: Any) -> None:
        with self._lock:
            self._under_way -= 1
            self.answered += 1
            self._cached.add(json.dumps(body.get("system")))

    def _used(self, body: Any) -> dict[str, int]:
        """Tokens of one call; call with the lock held."""
        system = body.get("system") or []
        marked = isinstance(system, list) and any("cache_control" in block for block in system)
        prefix, rest = _tokens(system), _tokens(body["messages"])
        cached = marked and prefix >= FEWEST_CACHED
        known = json.dumps(system) in self._cached
        used = {
            "input_tokens": rest + (0 if cached else prefix),
            "cache_creation_input_tokens": prefix if cached and not known else 0,
            "cache_read_input_tokens": prefix if cached and known else 0,
            "output_tokens": OUTPUT_TOKENS,
        }
        for name, count in used.items():
            self.usage[name] = self.usage.get(name, 0) + count
        return used

    def _message(self, body: Any, used: dict[str, int]) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": self.answer(_said(body))}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": used,
        }

    def _refusal(self, number: int) -> Planned:
        error = {"type": "rate_limit_error", "message": "Too many requests at once."}
        return Planned(
            status=429,
            body=json.dumps({"type": "error", "error": error}).encode(),
            headers={"request-id": f"req_{number}", "retry-after": f"{self.retry_after:g}"},
        )


def _said(body: Any) -> str:
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(str(block.get("text", "")) for block in content)


def _tokens(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode()) // BYTES_PER_TOKEN


@contextlib.contextmanager
def serving(model: Model) -> Iterator[MessagesServer]:
    """The model behind a loopback server."""
    with serve(by=model.reply) as server:
        yield server
