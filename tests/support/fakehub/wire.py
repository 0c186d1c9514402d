"""What goes over the wire, what is kept of it, and what can be made to go wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from fakehub.routes import Reply

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

_REASONS: Final = {
    429: "You have exceeded a secondary rate limit.",
    403: "You have exceeded a secondary rate limit. Please wait a few minutes.",
    500: "Server Error",
    502: "Server Error",
    503: "Service unavailable",
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An answer put in place of the real one; status 0 closes the connection without any."""

    status: int
    message: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None  # instead of a message

    @classmethod
    def disconnect(cls) -> Fault:
        """The connection ends before an answer."""
        return cls(status=0)

    @classmethod
    def secondary_limit(cls, *, status: int = 403, retry_after: str | None = "1") -> Fault:
        """Too much at once; GitHub does not always say for how long."""
        headers = {"retry-after": retry_after} if retry_after is not None else {}
        return cls(status=status, headers={**headers, "x-ratelimit-remaining": "4000"})

    @classmethod
    def primary_limit(cls, *, reset: int) -> Fault:
        """The hour's requests are spent; ``reset`` is a Unix time."""
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)}
        return cls(status=403, message="API rate limit exceeded for installation.", headers=headers)

    @classmethod
    def redirect(cls, location: str, *, status: int = 307) -> Fault:
        """It is elsewhere."""
        body = {"message": "Moved", "url": location}
        return cls(status=status, headers={"location": location}, body=body)

    def reply(self) -> Reply:
        """The answer itself."""
        message = self.message or _REASONS.get(self.status, "Injected")
        return Reply(
            status=self.status,
            headers=self.headers,
            body={"message": message} if self.body is None else self.body,
        )


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request and its answer, as they went over the wire."""

    method: str
    path: str
    query: dict[str, str]
    user: str | None
    request: Any
    status: int
    response: Any
    violations: tuple[str, ...]
    injected: bool  # the answer, or the lack of one, was a fault's

    def __str__(self) -> str:
        what = f"{self.method} {self.path}"
        return f"{what} -> {self.status}{' (injected)' if self.injected else ''}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request; header names are in lower case, the path is as it was sent."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def parameters(self) -> dict[str, str]:
        """The query, decoded."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(kw_only=True)
class Planned:
    """Something that happens at the next matching request."""

    method: str
    path: re.Pattern[str]
    containing: str
    fault: Fault | None = None
    after_effect: bool = False
    action: Callable[[], object] | None = None

    def fits(self, request: Request) -> bool:
        return (
            self.method == request.method
            and bool(self.path.search(request.path))
            and self.containing in request.body.decode(errors="replace")
        )


def as_json(body: bytes) -> Any:
    """The body as JSON, or None where it is none (git's packs)."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None
