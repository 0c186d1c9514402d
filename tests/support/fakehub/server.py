"""HTTP on a free port of the loopback interface."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from fakehub.wire import Request

if TYPE_CHECKING:
    from fakehub.routes import Reply
    from fakehub.service import Service


class Server(ThreadingHTTPServer):
    """Listens on a free port until it is stopped; waits for its threads."""

    daemon_threads = False
    block_on_close = True

    service: Service

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._open: set[Any] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def start(self, service: Service) -> None:
        """Answer with ``service`` from now on."""
        self.service = service
        self._thread.start()

    def stop(self) -> None:
        """No more requests; the running ones end first."""
        self.shutdown()
        self._thread.join()
        for connection in list(self._open):  # a client that says nothing must not be waited for
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection while it is open."""
        self._open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of an error, but not that the client has gone: it may have been killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The connection is done with."""
        self._open.discard(request)
        super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    """Turns HTTP into a request, and a reply into HTTP: one of each a connection."""

    server: Server
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        self.close_connection = True
        path, _, query = self.path.partition("?")
        request = Request(
            method=self.command,
            path=path,
            query=query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self._body(),
        )
        reply = self.server.service.handle(request)
        if reply is not None:
            self._send(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        """The whole body; git sends large packs in chunks."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, reply: Reply) -> None:
        empty = reply.body is None
        body = b"" if empty else reply.body
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if not empty:
            self.send_header(
                "content-type", f"{reply.media}{'; charset=utf-8' * ('json' in reply.media)}"
            )
        if reply.status != 204:
            self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet: the exchanges are recorded."""
