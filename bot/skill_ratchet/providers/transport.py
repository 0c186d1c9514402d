"""How a body gets to the Messages API and its answer back: one attempt, over one of two ways.

With a plain key it is posted as it is, over the HTTP client that Anthropic's SDK uses. To import
the SDK takes longer than to ask two hundred questions (docs/design/performance.md), so it is used
where it does more than post: for every other credential it finds, and for batches. A test compares
what both ways send.
"""

from __future__ import annotations

import json
import os
import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2

from skill_ratchet import __version__
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.providers.messages import API_VERSION, Answered, LostError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import anthropic

    from skill_ratchet.providers.messages import Transport

DEFAULT_URL = "https://api.anthropic.com"
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
HINT = "Look at base_url, ANTHROPIC_BASE_URL and the credentials."


def connect(
    *, base_url: str | None, api_key: str | None, timeout: float, connections: int
) -> Transport:
    """The way to the server, with the credential there is. Nothing is sent.

    Args:
        base_url: None means ``ANTHROPIC_BASE_URL``, then Anthropic's own.
        api_key: None means ``ANTHROPIC_API_KEY``, then whatever the SDK finds.
        timeout: Seconds for one attempt.
        connections: How many are kept.

    Raises:
        RatchetError: There is no credential, or the address is none.
    """
    url = address(base_url)
    key = api_key or os.environ.get("ANTHROPIC_API_KEY")
    plain = key or os.environ.get("ANTHROPIC_AUTH_TOKEN") or ("none" if is_loopback(url) else "")
    if plain and not os.environ.get("ANTHROPIC_CUSTOM_HEADERS"):
        return _Direct(url, secret=plain, timeout=timeout)
    client = http_client(url, connections=connections, timeout=timeout)
    return _Sdk(sdk_client(url, key=key, http_client=client))


def address(base_url: str | None) -> str:
    """Where the API is."""
    return base_url or os.environ.get("ANTHROPIC_BASE_URL") or DEFAULT_URL


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def http_client(
    url: str, *, connections: int, timeout: float, tls: ssl.SSLContext | bool = True
) -> httpx2.AsyncClient:
    """A client for one server.

    Raises:
        RatchetError: The address is none.
    """
    try:
        # A proxy cannot reach this machine's own servers.
        direct = {f"all://{urlsplit(url).netloc}": None} if is_loopback(url) else {}
        return httpx2.AsyncClient(
            base_url=url,
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections
            ),
            timeout=httpx2.Timeout(timeout, pool=None),  # waiting for a turn is not a failure
            mounts=direct,
            verify=tls,
            follow_redirects=True,
        )
    except (httpx2.InvalidURL, ValueError) as error:
        raise _unusable(error) from None


def sdk_client(
    url: str, *, key: str | None, http_client: httpx2.AsyncClient | None = None
) -> anthropic.AsyncAnthropic:
    """Anthropic's SDK, which makes one attempt a call: trying again is the limiter's to decide.

    Raises:
        RatchetError: There is no credential, or the address is none.
    """
    import anthropic  # noqa: PLC0415  two seconds

    if not key and is_loopback(url) and not os.environ.get("ANTHROPIC_AUTH_TOKEN"):
        key = "none"  # the SDK sends nothing without one
    try:
        client = anthropic.AsyncAnthropic(
            base_url=url,
            api_key=key or None,
            max_retries=0,
            open_telemetry=False,
            http_client=http_client,
        )
    except (anthropic.AnthropicError, httpx2.InvalidURL, ValueError) as error:
        raise _unusable(error) from None
    if not (client.api_key or client.auth_token or client.credentials):
        raise RatchetError(
            "The anthropic provider has no API key.",
            hint="Set ANTHROPIC_API_KEY, or use 'provider: local', which needs none.",
        )
    return client


def _unusable(error: Exception) -> RatchetError:
    return RatchetError(f"The anthropic provider cannot be set up: {error}", hint=HINT)


class _Direct:
    """Posts over plain HTTP, on a client of its own for every call that is under way.

    One pool of many connections looks at all of them, with a system call each, whenever a call
    begins or ends. At sixteen calls at once that took a quarter of the client's time.
    """

    def __init__(self, url: str, *, secret: str, timeout: float) -> None:
        self.secret = secret
        self._url, self._timeout = url, timeout
        self._tls = (
            httpx2.create_ssl_context()
            if url.startswith("https:")
            # One that trusts nobody: reading all authorities takes as long as fifteen calls.
            else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        self._idle = [self._new()]  # the last one used first
        self._endpoint = url.rstrip("/")
        self._addresses: dict[str, httpx2.URL] = {}  # by path: to parse one takes a while
        self._headers = {
            "authorization": f"Bearer {secret}",
            "anthropic-version": API_VERSION,
            "content-type": "application/json",
            "accept": "application/json",
            "user-agent": f"ratchet/{__version__}",
        }

    async def post(self, path: str, body: Mapping[str, Any]) -> Answered:
        if path not in self._addresses:
            self._addresses[path] = httpx2.URL(f"{self._endpoint}{path}")
        client = self._idle.pop() if self._idle else self._new()
        try:
            got = await client.post(
                self._addresses[path], content=_encoded(body), headers=self._headers
            )
        except httpx2.TimeoutException as error:
            raise _lost("Request timed out", error) from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise _lost("Connection error", error) from None
        finally:
            self._idle.append(client)
        return Answered(got.status_code, got.headers, got.content)

    async def aclose(self) -> None:
        for client in self._idle:
            await client.aclose()

    def _new(self) -> httpx2.AsyncClient:
        return http_client(self._url, connections=1, timeout=self._timeout, tls=self._tls)


class _Sdk:
    """Posts through Anthropic's SDK, which finds and renews credentials."""

    def __init__(self, client: anthropic.AsyncAnthropic) -> None:
        self.secret = client.api_key or client.auth_token or ""
        self._client = client

    async def post(self, path: str, body: Mapping[str, Any]) -> Answered:
        import anthropic  # noqa: PLC0415

        try:
            got = await self._client.post(path, cast_to=httpx2.Response, body=dict(body))
        except anthropic.APIStatusError as error:
            got = error.response
        except anthropic.APITimeoutError as error:
            raise _lost("Request timed out", error.__cause__ or error) from None
        except anthropic.AnthropicError as error:
            raise _lost("Connection error", error.__cause__ or error) from None
        return Answered(got.status_code, got.headers, got.content)

    async def aclose(self) -> None:
        await self._client.close()


def _encoded(body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: escaped, so that the server decides about it
        return json.dumps(body, allow_nan=False).encode("ascii")


def _lost(what: str, error: BaseException) -> LostError:
    sent = not isinstance(error, UNSENT)
    return LostError(f"{what} ({type(error).__name__}: {error})", sent=sent)
