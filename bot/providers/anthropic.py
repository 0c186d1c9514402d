"""Claude, or any server that speaks the Messages API, through the ``anthropic`` SDK."""

from __future__ import annotations

import os
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, JsonValue, ValidationError
from pydantic_core import from_json

from bot import pricing
from bot.core.records import Reply, Usage, canonical_json
from bot.errors import RatchetError
from bot.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

    import anthropic

    from bot.core.records import Request

DEFAULT_URL = "https://api.anthropic.com"
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


class Anthropic:
    """Answers requests over the Messages API; use one instance in one event loop.

    Nothing is imported, looked up or sent before the first ``complete``. That call raises
    RatchetError when there is no credential (an API key, or any other that the SDK finds:
    ``ANTHROPIC_AUTH_TOKEN``, a profile, workload identity). A server on this machine needs none.

    Args:
        base_url: Where the API is; None means ``ANTHROPIC_BASE_URL``, then Anthropic's own.
        timeout: Seconds to wait for one attempt.
        max_retries: Further attempts after 408, 409, 429, 5xx (529 too) and lost connections.
        concurrency: Calls worth having in flight; as many connections are kept.
        cache: Mark the system text as a prefix to be cached.
        api_key: Overrides ``ANTHROPIC_API_KEY``; kept out of every reply.
    """

    name = "anthropic"
    tools = True
    deterministic = False

    def __init__(
        self,
        *,
        base_url: str | None,
        timeout: float,
        max_retries: int,
        concurrency: int,
        cache: bool,
        api_key: str | None = None,
    ) -> None:
        self.concurrency = concurrency
        self._base_url = base_url
        self._timeout = timeout
        self._max_retries = max_retries
        self._cache = cache
        self._api_key = api_key
        self._client: anthropic.AsyncAnthropic | None = None

    async def complete(self, request: Request) -> Reply:
        """Answer one request.

        Raises:
            RatchetError: The options or credentials are wrong. Nothing was sent.
        """
        if complaints := check_options(request.options):
            raise RatchetError(" ".join(complaints), hint="Correct the model's options.")
        client = self._connect()
        started = time.monotonic()
        reply = await _send(client, _body(request, cache=self._cache))
        return reply.model_copy(update={"latency": time.monotonic() - started})

    def worst_case_usd(self, request: Request) -> float | None:
        """Upper bound of one billed attempt in USD; None when the model has no known price."""
        return pricing.worst_case(request)

    async def aclose(self) -> None:
        """Close the connections; a later call would open new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connect(self) -> anthropic.AsyncAnthropic:
        if self._client is None:
            self._client = self._new_client()
        return self._client

    def _new_client(self) -> anthropic.AsyncAnthropic:
        import anthropic  # noqa: PLC0415  one to two seconds
        import httpx2  # noqa: PLC0415

        url = self._base_url or os.environ.get("ANTHROPIC_BASE_URL") or DEFAULT_URL
        try:
            client = anthropic.AsyncAnthropic(
                base_url=url,
                api_key=self._key(url),
                max_retries=self._max_retries,
                open_telemetry=False,
                http_client=_connections(url, count=self.concurrency, timeout=self._timeout),
            )
        except (anthropic.AnthropicError, httpx2.InvalidURL, ValueError) as error:
            raise RatchetError(
                f"The anthropic provider cannot be set up: {error}",
                hint="Look at base_url, ANTHROPIC_BASE_URL and the credentials.",
            ) from None
        if not (client.api_key or client.auth_token or client.credentials):
            raise RatchetError(
                "The anthropic provider has no API key.",
                hint="Set ANTHROPIC_API_KEY, or use 'provider: local', which needs none.",
            )
        return client

    def _key(self, url: str) -> str | None:
        key = self._api_key or os.environ.get("ANTHROPIC_API_KEY")
        if not key and is_loopback(url) and not os.environ.get("ANTHROPIC_AUTH_TOKEN"):
            return "none"  # the SDK sends nothing without one
        return key or None


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _connections(url: str, *, count: int, timeout: float) -> anthropic.DefaultAsyncHttpxClient:
    import anthropic  # noqa: PLC0415
    import httpx2  # noqa: PLC0415

    # A proxy cannot reach this machine's own servers.
    direct = {f"all://{urlsplit(url).netloc}": None} if is_loopback(url) else {}
    return anthropic.DefaultAsyncHttpxClient(
        limits=httpx2.Limits(max_connections=count, max_keepalive_connections=count),
        timeout=httpx2.Timeout(timeout, pool=None),  # waiting for a turn is not a failure
        mounts=direct,
    )


def _body(request: Request, *, cache: bool) -> dict[str, Any]:
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


async def _send(client: anthropic.AsyncAnthropic, body: dict[str, Any]) -> Reply:
    import anthropic  # noqa: PLC0415  as above

    # Some gateways tell which key they were given.
    secrets = Redactor({"ANTHROPIC_API_KEY": client.api_key or ""})
    try:
        raw = await client.messages.with_raw_response.create(**body)
    except anthropic.APIStatusError as error:
        return Reply(
            error=secrets.redact(_status_error(error)),
            request=body,
            response=_json(secrets.redact(_text(error.response.content))),
            request_id=error.request_id,
            usd=0.0,  # a call that ends in an HTTP error is not billed
        )
    except anthropic.AnthropicError as error:
        return Reply(error=secrets.redact(_lost(error)), request=body)
    response = _json(secrets.redact(_text(raw.http_response.content)))
    return _read(response, request=body, request_id=raw.request_id)


def _status_error(error: anthropic.APIStatusError) -> str:
    kind = error.type or type(error).__name__
    message = error.api_message or error.response.reason_phrase
    where = f" (request {error.request_id})" if error.request_id else ""
    return f"{error.status_code} {kind}: {message}{where}"


def _lost(error: anthropic.AnthropicError) -> str:
    cause = error.__cause__
    why = f" ({type(cause).__name__}: {cause})" if cause is not None else ""
    return f"{type(error).__name__}: {error}{why}"


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


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


class _Answer(BaseModel):
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Tokens


def _read(response: JsonValue, *, request: dict[str, Any], request_id: str | None) -> Reply:
    kept = {"request": request, "response": response, "request_id": request_id}
    try:
        answer = _Answer.model_validate(response)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        return Reply(error=f"Not an answer of the Messages API: {where}: {first['msg']}", **kept)
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
