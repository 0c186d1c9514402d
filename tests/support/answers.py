"""A run whose model's server fails from some call on, and which is then given again.

An undisturbed run shows how many calls there are. Each of them, with all that come after it, is met
by each fault; then the server is well again.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from kills import badly_said, unlike
from messages_server import Planned, answer, failure, serve, text
from skill_ratchet.base.errors import ExitCode
from world import META, World, idea, outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "run: its model's server"
NO_HOST: Final = "no such host"
FAILING: Final[dict[str, Planned]] = {
    "529": failure(529, "overloaded_error", "Overloaded"),
    "500": failure(500, "api_error", "Internal server error"),
    "429, no Retry-After": Planned(
        status=429,
        body=b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}',
        headers={"retry-after-ms": "1"},
    ),
    "401": failure(401, "authentication_error", "invalid x-api-key"),
    "connection reset": Planned(fault="reset"),
    "connection cut in an answer": Planned(body=b'{"id": "msg_1", "type": "mess', fault="cut"),
    "half of the JSON": Planned(body=b'{"id": "msg_1", "type": "mess'),
    "a proxy's page": Planned(body=b"<html>", headers={"content-type": "text/html"}),
    NO_HOST: Planned(fault="reset"),  # and from then on it has no address
}
ARGS: Final = ("run", "--json", "--attempts", "1")
HOST: Final = "localhost"


class Model:
    """What the server answers; from the call ``at`` on, with a fault instead."""

    def __init__(self, *, at: int = 0, fault: str = "") -> None:
        self._at, self._fault = at, fault
        self.well = True
        self.answered = 0  # whole
        self.lost = False  # the host has no address

    def __call__(self, body: Any, _: int) -> Planned:
        """A reply to one request."""
        if self._at and self.answered + 1 >= self._at:
            self.well = False
        if not self.well:
            self.lost = self._fault == NO_HOST
            return FAILING[self._fault]
        self.answered += 1
        return answer(text(_right(body)))

    def mend(self) -> None:
        """Nothing more goes wrong."""
        self._at, self.well, self.lost = 0, True, False


def _right(body: Any) -> str:
    system = str(body.get("system"))
    if META in system:
        return idea(1, "Rule alpha.")
    return "yes" if "Rule alpha." in system else "no"


@contextmanager
def _playing(folder: Path, model: Model) -> Iterator[World]:
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if model.lost and host in (HOST, HOST.encode()):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    with serve(by=model) as server, patch.object(socket, "getaddrinfo", resolve):
        url = f"http://{HOST}:{server.server_port}"
        provider = {"type": "anthropic", "base_url": url, "max_retries": 0, "concurrency": 1}
        with patch.dict(os.environ, {"ANTHROPIC_API_KEY": "made-up-for-this-test"}):
            yield World.make(folder / "p", config={"provider": provider})


def _came_to(world: World) -> dict[str, Any]:
    """The outcome; of the calls those that were answered, for the others are on record as well."""
    found, ledger = outcome(world), world.ledger()
    traces = [*ledger.traces(), *ledger.traces(split="holdout")]
    answered = [one for one in traces if one.reply.error is None]
    for row in found["experiments"]:
        row["result"] |= {"usd": round(row["result"]["usd"], 9)}
    return found | {"calls": sorted((one.job, one.side or "", one.fixture) for one in answered)}


@dataclass(frozen=True)
class Answered:
    """A run that nothing happened to: how many calls were answered, and what came of them."""

    calls: int
    outcome: Any

    @property
    def every(self) -> list[tuple[int, str]]:
        """Each call, from 1, with each fault."""
        return [(number, fault) for number in range(1, self.calls + 1) for fault in FAILING]

    def spoiled(self, folder: Path, number: int, fault: str) -> list[str]:
        """Play it with a fault from one call on; returns everything that is wrong."""
        model = Model(at=number, fault=fault)
        with _playing(folder, model) as world:
            first = world.ratchet(*ARGS)
            wrong = badly_said(first)
            if first.code == ExitCode.DONE:
                wrong.append("ended well, though calls failed")
            model.mend()
            second = world.ratchet(*ARGS)
            if second.code != ExitCode.DONE:
                return [*wrong, f"the second ended with {second.code}: {second.err[-700:]}"]
            if model.answered != self.calls:
                wrong.append(f"{model.answered} answers were paid for; undisturbed {self.calls}")
            world.assert_sound()
            return wrong + unlike(_came_to(world), self.outcome)


def ask(folder: Path) -> Answered:
    """Play it to its end."""
    model = Model()
    with _playing(folder, model) as world:
        ran = world.ratchet(*ARGS)
        assert ran.code == ExitCode.DONE, ran.err
        return Answered(model.answered, _came_to(world))
