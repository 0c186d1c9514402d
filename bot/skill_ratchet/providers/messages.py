"""The Messages API: what is sent, what an answer means, and a Protocol for who carries both.

It does no I/O. ``transport`` has the two ways to the server, ``anthropic`` makes single calls of it
and ``batches`` many at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import BaseModel, Field, JsonValue, ValidationError
from pydantic_core import from_json

from skill_ratchet.core.records import Failure, Reply, Usage, canonical_json
from skill_ratchet.providers import pricing
from skill_ratchet.providers.forecast import Size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skill_ratchet.core.records import Request

PATH = "/v1/messages"
API_VERSION = "2026-10-21"  # that of the SDK, as a test says

OPTIONS = ("metadata", "output_config", "stop_sequences", "thinking", "tool_choice")
OWNED = ("max_tokens", "messages", "model", "system", "tools", "stream")
SAMPLING = ("temperature", "top_k", "top_p")
PRICED = ("inference_geo", "service_tier", "speed")


def check_options(options: Mapping[str, JsonValue]) -> list[str]:
    """What is wrong with a request's ``options``, one sentence each; empty when all may be sent."""
    return [_complaint(name) for name in options if name not in OPTIONS]


def _complaint(name: str) -> str:
    if name in SAMPLING:
        return f"'{name}' is not a parameter of the Messages API: answers vary, repeats are needed."
    if name in PRICED:
        return f"'{name}' changes the price of a call, which budgets could then not bound."
    if name in OWNED:
        return f"'{name}' is set by Ratchet and cannot be an option."
    return f"'{name}' is not an option of the anthropic provider (it has {', '.join(OPTIONS)})."


# What is sent ---------------------------------------------------------------------------------


def body_of(request: Request, *, cache: bool) -> dict[str, Any]:
    """The body of a call, as it is sent.

    What calls of a sweep have in common comes first and is marked: tools, then the system text.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": list(request.messages),
        **request.options,
    }
    if request.system:
        mark = {"cache_control": {"type": "ephemeral"}} if cache else {}
        body["system"] = [{"type": "text", "text": request.system, **mark}]
    if request.tools:
        body["tools"] = list(request.tools)
    return body


def size_of(body: JsonValue) -> Size:
    """A body's length: what the server counts, which is what it reads."""
    sent = body if isinstance(body, dict) else {}
    prefix = canonical_json([sent[name] for name in ("tools", "system") if sent.get(name)])
    rest = canonical_json(sent.get("messages"))
    return Size(
        prefix=len(prefix.encode("utf-8", "replace")),
        rest=len(rest.encode("utf-8", "replace")),
        name=prefix,
    )


# The way there and back -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """What a server answered, whatever it was. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str | None:
        """The server's name for the call."""
        return self.headers.get("request-id")

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    @property
    def reason(self) -> str:
        """The status in words."""
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return "unknown status"


class LostError(Exception):
    """No answer came, for the reason in the text.

    Unless nothing was ``sent``, the server may have done the work, and billed it.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class Transport(Protocol):
    """A way to the server. ``secret`` must be kept out of everything that is written down."""

    secret: str

    async def post(self, path: str, body: Mapping[str, Any]) -> Answered:
        """Send one body, once.

        Raises:
            LostError: No whole answer came.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


# What an answer means -------------------------------------------------------------------------


def reply_of(
    got: Answered | LostError, *, body: dict[str, Any], redact: Callable[[str], str]
) -> Reply:
    """What came of a call, as a reply; ``redact`` takes secrets out, as a gateway may tell them."""
    if isinstance(got, LostError):
        return _not_answered(got, body=body, redact=redact)
    response = _json(redact(got.text))
    if got.status // 100 == 2:  # noqa: PLR2004  HTTP's own
        return read_answer(response, request=body, request_id=got.request_id)
    said = _status_error(got, response)
    return Reply(
        error=said,
        failure=failure_of(got.status, said),
        request=body,
        response=response,
        request_id=got.request_id,
        usd=0.0,  # a call that ends in an HTTP error is not billed
    )


def _not_answered(lost: LostError, *, body: dict[str, Any], redact: Callable[[str], str]) -> Reply:
    said = redact(str(lost))
    if lost.sent:
        return Reply(error=said, failure=Failure.LOST, unanswered=1, request=body)
    return Reply(error=said, failure=Failure.UNREACHED, usd=0.0, request=body)


_FAILURES: Final = {
    401: Failure.DENIED,
    403: Failure.FORBIDDEN,
    404: Failure.NO_MODEL,
    413: Failure.TOO_LONG,
    429: Failure.LIMITED,
}
# What servers of this API say in a 400 of a request that was fine but for its length or content:
# Anthropic, llama.cpp, vLLM, Ollama.
_TOO_LONG: Final = re.compile(r"prompt is too long|(maximum|exceed).{0,40}context", re.IGNORECASE)
_BLOCKED: Final = re.compile(r"blocked by content filter", re.IGNORECASE)


def failure_of(status: int, said: str) -> Failure:
    """What an answer with an HTTP error means; ``said`` is its message."""
    if status == 400:  # noqa: PLR2004  HTTP's own
        if _TOO_LONG.search(said):
            return Failure.TOO_LONG
        if _BLOCKED.search(said):
            return Failure.BLOCKED
    fallback = Failure.SERVER if status >= 500 else Failure.REFUSED  # noqa: PLR2004
    return _FAILURES.get(status, fallback)


def _status_error(got: Answered, response: JsonValue) -> str:
    kind, message = "", got.reason
    error = response.get("error") if isinstance(response, dict) else None
    if isinstance(error, dict):
        kind, message = str(error.get("type") or ""), str(error.get("message") or message)
    where = f" (request {got.request_id})" if got.request_id else ""
    return f"{got.status} {kind}{': ' if kind else ''}{message}{where}"


def _json(text: str) -> JsonValue:
    """The text as JSON, or as it is when it is none."""
    try:
        value: JsonValue = from_json(text, allow_inf_nan=False)
        canonical_json(value)  # refuses what from_json lets through: 1e999 is an infinity
    except ValueError:
        return text
    return value


class _Block(BaseModel):
    type: str
    text: str = ""


class _Tokens(BaseModel):
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    cache_read_input_tokens: int | None = Field(default=None, ge=0)
    cache_creation_input_tokens: int | None = Field(default=None, ge=0)


class _Message(BaseModel):
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Tokens


def read_answer(response: JsonValue, *, request: dict[str, Any], request_id: str | None) -> Reply:
    """A message of the API as a reply; one that is none is an error of unknown cost."""
    kept = {"request": request, "response": response, "request_id": request_id}
    try:
        answer = _Message.model_validate(response)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        said = f"Not an answer of the Messages API: {where}: {first['msg']}"
        return Reply(error=said, failure=Failure.UNREADABLE, unanswered=1, **kept)
    usage = Usage(
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
        cache_read_tokens=answer.usage.cache_read_input_tokens or 0,
        cache_write_tokens=answer.usage.cache_creation_input_tokens or 0,
    )
    return Reply(
        text="".join(block.text for block in answer.content if block.type == "text"),
        stop_reason=answer.stop_reason,
        usage=usage,
        usd=pricing.price(request["model"], usage),
        **kept,
    )
