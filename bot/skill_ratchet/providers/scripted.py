"""Answers from a YAML script: for trials without a model, and for tests.

docs/providers.md describes the script.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from skill_ratchet.base import documents
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Failure, Record, Reply, Request, Usage
from skill_ratchet.providers.text import block_text, input_text

if TYPE_CHECKING:
    from typing import Self

    from pydantic_core import ErrorDetails

SHOWN = 80  # characters of a request in a message
HINT = "docs/providers.md describes the script."


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]


class When(Record):
    """Which requests a response answers: all that is given must hold."""

    model: str | None = None
    system_contains: str | None = None
    system_matches: Pattern | None = None
    input_contains: str | None = None
    input_matches: Pattern | None = None

    def holds(self, request: Request) -> bool:
        """Whether the request is one of them."""
        return (
            self.model in {None, request.model}
            and _says(request.system, contains=self.system_contains, matches=self.system_matches)
            and _says(input_text(request), contains=self.input_contains, matches=self.input_matches)
        )


def _says(text: str, *, contains: str | None, matches: str | None) -> bool:
    if contains is not None and contains not in text:
        return False
    return matches is None or re.search(matches, text) is not None


class Response(Record):
    """One entry of the script: exactly one of ``text``, ``blocks`` and ``error``.

    ``latency`` is only reported, ``delay`` is really waited for, both in seconds.
    """

    when: When | None = None
    text: str | None = None
    blocks: tuple[dict[str, JsonValue], ...] | None = None
    error: str | None = None
    failure: Failure | None = None
    stop_reason: str = "end_turn"
    usage: Usage | None = None
    latency: float = Field(default=0.0, ge=0)
    delay: float = Field(default=0.0, ge=0, le=3600)
    times: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_outcome(self) -> Self:
        given = [self.text, self.blocks, self.error]
        if sum(value is not None for value in given) != 1:
            raise ValueError("expected exactly one of 'text', 'blocks' and 'error'")
        return self

    @property
    def uses(self) -> float:
        """How often it may be given: once, or without end for one with a ``when``."""
        if self.times is not None:
            return self.times
        return 1 if self.when is None else float("inf")


class Script(Record):
    """The whole script."""

    deterministic: bool = True
    responses: tuple[Response, ...]


class Scripted:
    """Plays a script. A response with a ``when`` that holds goes first, then the next in order.

    ``requests`` keeps every request in the order the calls were made. Nothing costs anything.

    Args:
        script: The YAML text.
        path: Where it was read from, for messages.
        concurrency: Calls worth having in flight.

    Raises:
        RatchetError: The text is not a script; the message has file and line of each fault.
    """

    name = "scripted"
    tools = True

    def __init__(
        self, *, script: str, path: str = "ratchet.script.yml", concurrency: int = 8
    ) -> None:
        parsed = parse(script, path=path)
        self.deterministic = parsed.deterministic
        self.concurrency = concurrency
        self.requests: list[Request] = []
        self._path = path
        self._responses = parsed.responses
        self._left = [response.uses for response in parsed.responses]

    async def complete(self, request: Request) -> Reply:
        """The script's answer.

        Raises:
            RatchetError: The script has none left for this request.
        """
        self.requests.append(request)
        response = self._take(request)  # before any wait, so that the order of calls decides
        if response.delay:
            await asyncio.sleep(response.delay)
        return _reply(response, request)

    def worst_case_usd(self, request: Request) -> float | None:  # noqa: ARG002  the Protocol's
        """Nothing."""
        return 0.0

    async def aclose(self) -> None:
        """Nothing to release."""

    def _take(self, request: Request) -> Response:
        waiting = [n for n, left in enumerate(self._left) if left > 0]
        fitting = (n for n in waiting if (when := self._responses[n].when) and when.holds(request))
        in_order = (n for n in waiting if self._responses[n].when is None)
        chosen = next(fitting, next(in_order, None))
        if chosen is None:
            raise self._exhausted(request)
        self._left[chosen] -= 1
        return self._responses[chosen]

    def _exhausted(self, request: Request) -> RatchetError:
        return RatchetError(
            f"{self._path}: no response is left for request {len(self.requests)}"
            f" (model {request.model}, system {request.system[:SHOWN]!r},"
            f" input {input_text(request)[:SHOWN]!r})",
            hint="Add a response for it; one with `when: {}` answers whatever is left.",
        )


def _reply(response: Response, request: Request) -> Reply:
    sent: JsonValue = request.model_dump(mode="json")
    if response.error is not None:
        return Reply(
            error=response.error,
            failure=response.failure or Failure.SERVER,
            request=sent,
            usd=0.0,
            latency=response.latency,
        )
    blocks = _blocks(response, request)
    text = block_text(blocks)
    usage = response.usage or Usage(
        input_tokens=len(request.system + input_text(request)) // 4, output_tokens=len(text) // 4
    )
    return Reply(
        text=text,
        stop_reason=response.stop_reason,
        request=sent,
        response={"content": blocks, "stop_reason": response.stop_reason},
        usage=usage,
        usd=0.0,
        latency=response.latency,
    )


def _blocks(response: Response, request: Request) -> list[JsonValue]:
    if response.blocks is not None:
        return list(response.blocks)
    text = (response.text or "").replace("{input}", input_text(request))
    return [{"type": "text", "text": text}]


def parse(text: str, *, path: str) -> Script:
    """The script in ``text``.

    Raises:
        RatchetError: It is not one; one line ``path:line: what is wrong`` for each fault.
    """
    try:
        node = documents.compose(text)
        value = None if node is None else documents.value(node)
    except documents.ReadError as error:
        raise documents.report(
            [documents.Problem(path, error.line, error.text)], hint=HINT
        ) from None
    try:
        return Script.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    problems = [
        documents.Problem(path, _line(node, fault["loc"]), _words(fault)) for fault in faults
    ]
    raise documents.report(problems, hint=HINT)


def _words(fault: ErrorDetails) -> str:
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])


def _line(node: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    """The line of the deepest part of ``loc`` that the script really has."""
    line = 1
    for part in loc:
        if isinstance(node, yaml.MappingNode) and part in (entries := documents.pairs(node)):
            key, node = entries[str(part)]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
