"""Keep secrets out of everything that is written down: exact values, in every usual spelling."""

from __future__ import annotations

import base64
import json
import os
import re
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

SHORTEST = 8  # characters; a shorter value would be found in ordinary words

_SECRET_WORD = re.compile(
    r"""AUTH|AUTHORIZATION|BEARER|COOKIES?|CREDENTIALS?|CREDS|DSN|JWT|KEYS?|PASS|PAT|PRIVATE|PWD
    |SESSION|SIGNATURE|WEBHOOK
    |\w*(APIKEY|PASSPHRASE|PASSWD|PASSWORD|SECRETS?|TOKENS?)""",  # also PGPASSWORD, NPMTOKEN
    re.VERBOSE,
)
# A name that ends so says where a secret is, or of what kind, and not what it is.
_POINTER_WORD = re.compile(
    r"""ADDRESS|ALGORITHM|CLASS|DESKTOP|DIR|ENDPOINT|FILE|HOME|HOST|MANAGER|METHOD|MODE|NAME|PATH
    |PID|PORT|PROVIDER|ROLE|SOCK|SOCKET|TTY|TYPE|USER|USERNAME""",
    re.VERBOSE,
)
_HARMLESS_NAMES = frozenset({"PWD", "OLDPWD", "DESKTOP_SESSION"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^@/\s]+)@")
_JSON_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*')
_FIELD_NAME = re.compile(r"[a-z_]+")

# Keys that their issuers made to be recognised, by what they are called in their place.
_KEYS = {
    "anthropic_key": r"sk-ant-[A-Za-z0-9_-]{20,}",
    "openai_key": r"sk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{32,}|[A-Za-z0-9]{32,})",
    "github_token": r"gh[pousr]_[A-Za-z0-9_.-]{36,}|github_pat_[A-Za-z0-9_]{22,}",
    "gitlab_token": r"glpat-[A-Za-z0-9_-]{20,}",
    "aws_key": r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    "google_key": r"AIza[A-Za-z0-9_-]{35}",
    "slack_token": r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "stripe_key": r"[rs]k_live_[A-Za-z0-9]{20,}",
    "npm_token": r"npm_[A-Za-z0-9]{36}",
    "pypi_token": r"pypi-[A-Za-z0-9_-]{50,}",
    "jwt": r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "private_key": (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----)?"
    ),
}
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:" + "|".join(f"(?P<{name}>{shape})" for name, shape in _KEYS.items()) + ")"
)


def find_key(text: str) -> str | None:
    """What kind of key stands in a text, by its shape alone; None when there is none."""
    match = _KEY.search(text)
    return None if match is None else match.lastgroup


def redact_keys(text: str) -> tuple[str, int]:
    """``text`` with whatever has the shape of a key replaced, and how many there were."""
    return _KEY.subn(lambda match: f"[redacted:{match.lastgroup}]", text)


class Redactor:
    """Replaces secret values by ``[redacted:NAME]`` and counts how often it did.

    Args:
        secrets: The value of each secret by its name. Values are stripped of white space at
            both ends; one shorter than ``SHORTEST`` is left out.
    """

    __slots__ = ("_forms", "_secrets", "count")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.count = 0
        self._forms: dict[str, str] = {}
        stripped = {name: value.strip() for name, value in secrets.items()}
        self._secrets = sum(len(value) >= SHORTEST for value in stripped.values())
        for name, value in stripped.items():
            label = f"[redacted:{re.sub(r'[^A-Za-z0-9_]', '_', name)}]"
            if len(value) >= SHORTEST:
                self._forms |= {form: label for form in _forms(value) if len(form) >= SHORTEST}

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], extra: Collection[str] = ()) -> Redactor:
        """Take the values whose names look secret, the names in ``extra``, and URL passwords."""
        secrets: dict[str, str] = {}
        for name, value in environ.items():
            if name in extra or _looks_secret(name):
                secrets[name] = value
            elif match := _URL_PASSWORD.search(value):
                secrets[name] = match[1]
        return cls(secrets)

    def __repr__(self) -> str:
        return f"Redactor({self._secrets} secrets)"

    def redact(self, text: str) -> str:
        """``text`` without any secret. A JSON text stays valid JSON with the same layout."""
        if not self._found(text):
            return text
        return _JSON_TOKEN.sub(self._token, text) if _is_json(text) else self._plain(text)

    def _found(self, text: str) -> list[str]:
        # Looking for each form in turn is far quicker than one regex of a few hundred branches.
        return [form for form in self._forms if form in text]

    def _plain(self, text: str) -> str:
        found = sorted(self._found(text), key=len, reverse=True)  # one secret may contain another
        if not found:
            return text
        pattern = "|".join(map(re.escape, found))
        redacted, count = re.subn(pattern, lambda match: self._forms[match[0]], text)
        self.count += count
        return redacted

    def _token(self, token: re.Match[str]) -> str:
        """Redact one string or number of a JSON text."""
        if token[1] is None:
            known = token[0] in self._forms  # part of a number is another number
            return json.dumps(self._plain(token[0])) if known else token[0]
        content = json.loads(token[1], strict=False)
        # Names of record fields stay, or a password that is a plain word would break every record.
        if token[2] is not None and _FIELD_NAME.fullmatch(content):
            return token[0]
        redacted = self._plain(content)
        return token[0] if redacted == content else json.dumps(redacted) + (token[2] or "")


def _looks_secret(name: str) -> bool:
    words = [word.upper() for word in _WORD.findall(name)]
    if not words or name.upper() in _HARMLESS_NAMES or _POINTER_WORD.fullmatch(words[-1]):
        return False
    return any(map(_SECRET_WORD.fullmatch, words))


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[", '"')):
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _forms(value: str) -> Iterator[str]:
    """Every usual spelling of a secret."""
    # A key file is pasted line by line as often as whole.
    lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
    for part in (value, unquote(value), *(line for line in lines if len(line) >= 2 * SHORTEST)):
        yield part
        yield from _escaped(part)
        yield from _quoted(part)
        yield from _base64(part)


def _escaped(value: str) -> Iterator[str]:
    """As in a JSON string, in a JSON text that is itself a JSON string, and in a traceback."""
    yield repr(value)[1:-1]
    yield ascii(value)[1:-1]
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]


def _quoted(value: str) -> Iterator[str]:
    data = _bytes(value)
    for quoted in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield quoted
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)


def _base64(value: str) -> Iterator[str]:
    """What base64 makes of it at each of the three places it can start in a longer text."""
    data = _bytes(value)
    for before, skip in ((0, 0), (1, 2), (2, 3)):
        length = (before + len(data)) * 8 // 6  # digits that depend on the secret alone
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * before + data).decode("ascii")[skip:length]


def _bytes(value: str) -> bytes:
    # os.environ spells bytes that are not UTF-8 as lone surrogates.
    return value.encode("utf-8", "surrogateescape")


class Cleaner:
    """Takes secrets out of JSON values, by their value and by their shape, and counts them."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._shapes = 0

    @classmethod
    def of_environ(cls, extra: Collection[str]) -> Self:
        """For the secrets of the environment, and those of the variables in ``extra``."""
        return cls(Redactor.from_environ(os.environ, extra=extra))

    @property
    def count(self) -> int:
        """How many were taken out."""
        return self._redactor.count + self._shapes

    def text(self, text: str) -> str:
        """A text without secrets."""
        clean, count = redact_keys(self._redactor.redact(text))
        self._shapes += count
        return clean

    def walk(self, value: Any) -> Any:
        """A JSON value without secrets in its texts; the names of keys stay."""
        return each_text(value, self.text)


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed; the names of keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: each_text(one, change) for key, one in value.items()}
    return [each_text(one, change) for one in value] if isinstance(value, list) else value
