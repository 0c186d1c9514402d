"""Requests to GitHub, carried by PyGithub: paths, pages, repeats, rate limits, errors.

PyGithub's own retries and waits are switched off. A request that may be repeated is repeated here,
for seconds; one that could make a second thing is looked for before it is sent again; a rate limit
is an error that says when it ends; a redirect is never followed.
"""

from __future__ import annotations

import json
import re
import time
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.project.proposal import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from github.Requester import Requester

API_URL: Final = "https://api.github.com"
WAITS: Final = (1.0, 3.0, 6.0)  # seconds before a request is repeated
T = TypeVar("T")

_TIMEOUT: Final = 30  # seconds, for one request
_PACE: Final = 1.0  # seconds between writes, as GitHub asks
_PER_PAGE: Final = 100
_PAGES: Final = 100
_WORDS: Final = 500  # characters of what GitHub said
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_HINTS: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "Check the token; it may have expired.",
    HTTPStatus.FORBIDDEN: "Give the token the permission; see docs/github.md.",
    HTTPStatus.NOT_FOUND: "Check the repository's name, and that the token may see it.",
}


class SwitchedOff(RatchetError):
    """The repository's settings have switched off what was asked for, such as issues (410)."""


class Answer(NamedTuple):
    """What came back; status 0 when nothing did, and ``data`` then says why."""

    asked: str
    status: int
    headers: Mapping[str, Any]
    data: Any

    @property
    def unsure(self) -> bool:
        """Whether the request may or may not have had its effect."""
        return self.status == 0 or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class GraphqlAnswer(NamedTuple):
    """What GraphQL said: ``data``, or in ``problem`` why not, with the types of the errors."""

    data: dict[str, Any]
    problem: str = ""
    kinds: frozenset[str] = frozenset()


class Wire:
    """Requests about one repository with one token, which is in no message, repr or log.

    Every method raises RatchetError, with a hint, when GitHub refuses or does not answer, and for
    a rate limit: then nothing was done.
    """

    def __init__(
        self,
        *,
        token: str,
        repository: str,
        api_url: str = API_URL,
        graphql_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Get ready to talk; nothing is sent yet.

        Args:
            token: Of an App's installation, of a workflow, or a person's.
            repository: ``owner/name``.
            api_url: ``GITHUB_API_URL``; of an Enterprise server ``https://HOST/api/v3``.
            graphql_url: ``GITHUB_GRAPHQL_URL``; follows from ``api_url``. Must be on its host.
            clock: Seconds, ever growing.
            sleep: Waits that many seconds.

        Raises:
            RatchetError: One of them is not usable. The token is not sent over plain HTTP except
                to this machine.
        """
        token, api_url = token.strip(), api_url.rstrip("/")
        _require_usable(token, repository, api_url, graphql_url or api_url)
        self.repository = repository
        self.url = f"{_web_url(api_url)}/{repository}"
        self._redactor = Redactor({"token": token})
        self._requester = _requester(token, api_url)
        self._graphql_url = graphql_url or self._requester.graphql_url
        self._clock = clock
        self._sleep = sleep
        self._next_write = clock()

    def pause(self, seconds: float) -> None:
        """Wait."""
        if seconds > 0:
            self._sleep(seconds)

    def path(self, *parts: str | int, slashes: bool = False) -> str:
        """A path in the repository; parts after the first are data and cannot add a segment.

        With ``slashes`` they can, as a branch's name may.
        """
        head, *rest = map(str, parts)
        segments = "/".join(rest).split("/") if slashes else rest
        if {"", ".", ".."}.intersection(segments):
            raise RatchetError(f"{one_line('/'.join(rest))!r} cannot be part of an address")
        return "/".join(["/repos", self.repository, head, *(quote(each, "") for each in segments)])

    def send(
        self,
        verb: str,
        url: str,
        body: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
    ) -> Answer:
        """One request, once.

        Raises:
            RatchetError: A rate limit was met. Nothing was done.
        """
        from requests.exceptions import RequestException, RetryError  # noqa: PLC0415

        asked = f"{verb} {urlsplit(url).path}"
        if verb != "GET":
            self.pause(max(0.0, self._next_write - self._clock()))
            self._next_write = self._clock() + _PACE
        try:
            status, headers, text = self._requester.requestJson(verb, url, query, None, body)
        except RetryError:
            return Answer(asked, _REDIRECTS[0], {}, None)
        except (RequestException, ValueError, RuntimeError) as error:  # PyGithub's own are the last
            return Answer(asked, 0, {}, type(error).__name__)
        try:
            data = json.loads(text) if text else None
        except (ValueError, RecursionError):
            status = status if status >= HTTPStatus.BAD_REQUEST else 0
            data = "an answer that is not JSON"
        answer = Answer(asked, status, headers, data)
        if self._limited(answer):
            raise self._limit(answer)
        return answer

    def ask(
        self,
        verb: str,
        url: str,
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        ok: Collection[int] = (200, 201),
    ) -> Answer:
        """A request that may be done twice, done until an answer comes, for some seconds."""
        answer = self.send(verb, url, body, query)
        for wait in WAITS:
            if not answer.unsure:
                break
            self.pause(wait)
            answer = self.send(verb, url, body, query)
        if answer.status not in ok:
            raise self.error(answer)
        return answer

    def create(
        self,
        url: str,
        body: dict[str, Any],
        *,
        find: Callable[[], T | None],
        make: Callable[[Any], T],
    ) -> T:
        """What ``find`` sees, or else what a POST makes; never a POST without a look before it."""
        answer = None
        for wait in (0.0, *WAITS):
            self.pause(wait)
            if (found := find()) is not None:
                return found
            if answer and not answer.unsure:
                raise self.error(answer)  # refused, and it is really not there
            answer = self.send("POST", url, body)
            if answer.status in {HTTPStatus.OK, HTTPStatus.CREATED}:
                return self.made(answer, make)
        self.pause(WAITS[-1])
        found = find()
        if found is None:
            raise self.error(answer)
        return found

    def pages(self, url: str, **query: str) -> Iterator[dict[str, Any]]:
        """The elements of a list, over all its pages."""
        from requests.utils import parse_header_links  # noqa: PLC0415

        params: dict[str, Any] | None = query | {"per_page": str(_PER_PAGE)}
        for _ in range(_PAGES):
            answer = self.ask("GET", url, query=params, ok=(200,))
            yield from self.made(answer, lambda data: [dict(each) for each in data])
            links = parse_header_links(str(answer.headers.get("link", "")))
            following = [each["url"] for each in links if each.get("rel") == "next"]
            if not following:
                return
            url, params = following[0], None  # of which PyGithub takes path and query alone
        raise RatchetError(
            f"{answer.asked} has more than {_PAGES * _PER_PAGE} entries",
            hint="Close or delete some.",
        )

    def listed(self, url: str, make: Callable[[Any], T], **query: str) -> Iterator[T]:
        """What ``make`` reads in each element of a list."""
        return (self.made(data, make) for data in self.pages(url, **query))

    def graphql(self, query: str, order: Any = None, *, once: bool = False) -> GraphqlAnswer:
        """Ask in GraphQL; ``once`` for what must not be repeated without a look."""
        body = {"query": query, "variables": {} if order is None else {"input": order}}
        answer = self.send("POST", self._graphql_url, body)
        for wait in () if once else WAITS:
            if not answer.unsure:
                break
            self.pause(wait)
            answer = self.send("POST", self._graphql_url, body)
        if answer.status in {401, *_REDIRECTS}:
            raise self.error(answer)
        if answer.status != HTTPStatus.OK or not isinstance(answer.data, dict):
            return GraphqlAnswer({}, self.words(answer), frozenset({f"HTTP {answer.status}"}))
        problem = self.words(answer) if answer.data.get("errors") else ""
        return GraphqlAnswer(answer.data.get("data") or {}, problem, _kinds(answer.data))

    # What an answer says

    def made(self, source: Answer | dict[str, Any], make: Callable[[Any], T]) -> T:
        """What ``make`` reads in an answer or in an element of one."""
        data = source.data if isinstance(source, Answer) else source
        try:
            return make(data)
        except (LookupError, TypeError, AttributeError, ValueError) as error:  # pydantic's too
            what = type(error).__name__
        raise RatchetError(
            f"GitHub answered in a form that Ratchet does not know ({what})",
            hint="Check api_url; if it is right, this version of GitHub is not supported.",
        )

    def words(self, answer: Answer) -> str:
        """What GitHub said, on one line, without the token."""
        data = answer.data if isinstance(answer.data, dict) else {"message": answer.data}
        listed = data.get("errors")
        errors = listed if isinstance(listed, list) else []
        said = [data.get("message")]
        said += [each.get("message") if isinstance(each, dict) else each for each in errors]
        text = "; ".join(one_line(str(each)) for each in said if each)
        return self._redactor.redact(text)[:_WORDS] or f"HTTP {answer.status}"

    def error(self, answer: Answer | None) -> RatchetError:
        """The error that an answer, or none, amounts to."""
        if answer is None or answer.unsure:
            said = f"{answer.asked}: {self.words(answer)}" if answer else "in time"
            return RatchetError(f"GitHub did not answer {said}", hint="Run again in a few minutes.")
        words, hint = self.words(answer), _HINTS.get(answer.status, "")
        if answer.status in _REDIRECTS:
            words = "it redirects"
            hint = f"Was {self.repository} renamed or moved? Use its present name."
        if needs := answer.headers.get("x-accepted-github-permissions"):
            hint += f" GitHub asks for: {self._redactor.redact(one_line(str(needs)))}."
        kind = SwitchedOff if answer.status == HTTPStatus.GONE else RatchetError
        return kind(
            f"GitHub refused {answer.asked} ({answer.status}): {words}",
            hint=hint.strip() or "Read what GitHub said, and run again.",
        )

    def _limited(self, answer: Answer) -> bool:
        """Whether this is a rate limit, the hourly one or a secondary one."""
        data = answer.data if isinstance(answer.data, dict) else {}
        if answer.status == HTTPStatus.OK:  # so GraphQL says it
            return "RATE_LIMITED" in _kinds(data)
        spent = str(answer.headers.get("x-ratelimit-remaining")) == "0"
        told = "retry-after" in answer.headers
        said = self._requester.isRateLimitError(str(data.get("message") or ""))
        return answer.status == HTTPStatus.TOO_MANY_REQUESTS or (
            answer.status == HTTPStatus.FORBIDDEN and (spent or told or said)
        )

    def _limit(self, answer: Answer) -> RatchetError:
        wait = str(answer.headers.get("retry-after", ""))
        reset = str(answer.headers.get("x-ratelimit-reset", ""))
        when = "in a few minutes"
        if re.fullmatch(r"[0-9]{1,9}", wait):
            when = f"in {wait} seconds"
        elif re.fullmatch(r"[0-9]{1,11}", reset):
            when = time.strftime("after %Y-%m-%d %H:%M:%S UTC", time.gmtime(int(reset)))
        return RatchetError(
            f"GitHub's rate limit is used up, at {answer.asked}: {self.words(answer)}",
            hint=f"Run again {when}; what was done is kept.",
        )


def _requester(token: str, api_url: str) -> Requester:
    """PyGithub's part: credentials, connections, addresses of Enterprise servers."""
    import github  # noqa: PLC0415  slow to import, and only GitHub needs it
    from urllib3 import Retry  # noqa: PLC0415

    # PyGithub follows a redirect without its query, or takes it for success: it shall not come
    # that far. urllib3 makes an error of a status that it may retry no more.
    never = Retry(total=0, status_forcelist=_REDIRECTS, allowed_methods=None)
    return github.Github(
        auth=github.Auth.Token(token),
        base_url=api_url,
        timeout=_TIMEOUT,
        user_agent="skill-ratchet",
        retry=never,
        seconds_between_requests=None,
        seconds_between_writes=None,
    ).requester


def _kinds(data: dict[str, Any]) -> frozenset[str]:
    """The types of GraphQL's errors; those that GitHub's own code finds have a ``type``."""
    errors = data.get("errors")
    listed = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    return frozenset(
        str(each.get("type") or (each.get("extensions") or {}).get("code")) for each in listed
    )


def _web_url(api_url: str) -> str:
    """Where people see what ``api_url`` serves; an Enterprise API is under ``/api/v3``."""
    parts = urlsplit(api_url)
    host = parts.netloc if parts.path else parts.netloc.removeprefix("api.")
    return f"{parts.scheme}://{host}"


def _require_usable(token: str, repository: str, api_url: str, graphql_url: str) -> None:
    """Refuse what would send the token nowhere, in the clear, or to another host."""
    if not token or not token.isascii() or not token.isprintable():
        raise RatchetError(
            "there is no usable GitHub token", hint="Set GITHUB_TOKEN; see docs/github.md."
        )
    if not re.fullmatch(r"[\w-][\w.-]*/(?!\.{1,2}$)[\w.-]+", repository, re.ASCII):
        raise RatchetError(
            f"{one_line(repository)!r} is not a repository", hint="Write it as owner/name."
        )
    if _server(api_url) != _server(graphql_url):
        raise RatchetError(
            "the GraphQL address is on another host than the API",
            hint="Leave graphql_url out; it follows from api_url.",
        )


def _server(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address that the token may be sent to."""
    try:
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        parts, port = urlsplit(""), 0
    safe = parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname))
    if not safe or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise RatchetError(
            f"GitHub cannot be reached at {parts.scheme}://{parts.hostname or ''}",
            hint="Use a https:// address without a user, such as https://HOST/api/v3.",
        )
    return parts.scheme, parts.hostname, port


def _is_here(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False
