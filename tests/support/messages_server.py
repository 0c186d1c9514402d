"""A loopback server that speaks as much of the Messages API as tests and benchmarks need.

Each POST takes the next planned reply (the last one repeats), or the one that a function makes of
its body, and is recorded whole.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RETRY_AT_ONCE = {"retry-after-ms": "1"}


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One answer of the server; ``fault`` breaks the connection instead of ending it well.

    ``delay`` is how many seconds it takes to come: for benchmarks, since no test waits. ``done``
    is called just before it is sent.
    """

    status: int = 200
    delay: float = 0.0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fault: Literal["reset", "cut", "hang"] | None = None
    done: Callable[[], None] | None = None


def answer(*blocks: dict[str, Any], stop_reason: str = "end_turn", **usage: int) -> Planned:
    """A 200 with these content blocks."""
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": list(blocks),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5} | usage,
    }
    return Planned(body=json.dumps(body).encode(), headers={"request-id": "req_ok"})


def text(value: str) -> dict[str, Any]:
    """A text block."""
    return {"type": "text", "text": value}


def failure(status: int, kind: str, message: str, **headers: str) -> Planned:
    """An error as the Messages API words it."""
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return Planned(
        status=status,
        body=json.dumps(body).encode(),
        headers={"request-id": f"req_{status}"} | RETRY_AT_ONCE | headers,
    )


class MessagesServer(ThreadingHTTPServer):
    """Answers by plan and remembers what it was asked.

    Args:
        plan: The replies in order, or a function from a body and its number, from 1, to a reply.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, plan: Sequence[Planned] | Callable[[Any, int], Planned]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan = plan
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.asked = threading.Event()  # set by the first request
        self.closing = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, body: Any, headers: dict[str, str]) -> Planned:
        """Record one request and say how to answer it."""
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            number = len(self.bodies)
        if callable(self.plan):
            planned = self.plan(body, number)
        else:
            planned = self.plan[min(number, len(self.plan)) - 1]
        self.asked.set()
        return planned

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a client that goes away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: else the second waits 40 ms for an ACK
    disable_nagle_algorithm = True
    server: MessagesServer

    def do_GET(self) -> None:
        self._take({"method": "GET"})

    def do_POST(self) -> None:
        self._take(json.loads(self.rfile.read(int(self.headers["content-length"] or 0)) or "{}"))

    def _take(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        planned = self.server.take({"path": self.path, **body}, headers)
        if planned.delay:
            self.server.closing.wait(planned.delay)
        if planned.done:
            planned.done()
        if planned.fault == "reset":
            self._reset()
        elif planned.fault == "hang":
            self.server.closing.wait()
        else:
            self._answer(planned)

    def _answer(self, planned: Planned) -> None:
        self.send_response(planned.status)
        for name, value in ({"content-type": "application/json"} | planned.headers).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(planned.body)))
        self.end_headers()
        if planned.fault == "cut":
            self.wfile.write(planned.body[: len(planned.body) // 2])
            self._reset()
        else:
            self.wfile.write(planned.body)

    def _reset(self) -> None:
        self.wfile.flush()
        # Lingering for no time turns the close into a reset.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        pass


@contextmanager
def serve(
    *plan: Planned, by: Callable[[Any, int], Planned] | None = None
) -> Iterator[MessagesServer]:
    """Run a server for the length of a ``with`` block; ``by`` makes the replies, if given."""
    with MessagesServer(by or plan) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
