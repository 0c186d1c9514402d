"""Markdown in which nothing acts by itself: what comes from a model or a person is only shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from skill_ratchet.core import wording

if TYPE_CHECKING:
    from collections.abc import Callable

ZWSP = "\u200b"


# What ``wording.safe`` lets pass because a terminal is not harmed by it: characters without a
# shape, the hidden 'tag' letters, further line breaks, and halves of a surrogate pair.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u2028\u2029\u2060-\u206f\u3164\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)


# What GitHub acts on in plain text too: in a title, a squashed commit's message, a log, or an
# answer by e-mail, where a fence is no protection. A zero-width space goes behind each match.
_ACTIVE = re.compile(
    r"""
      @(?=[^\s@])                                      # mention, address
    | [#](?=[0-9]|[#]?\[) | gh-(?=[0-9])               # reference; '##[' is a workflow command
    | /(?:issues|pulls?|discussions)/(?=[0-9])         # reference by URL
    | <(?=!)                                           # HTML comment: one of our markers
    | :(?=:)                                           # workflow command
    | \[(?=\s*(?:skip|no|ci|actions)\b)               # a commit with it runs no workflow
    | skip-checks(?=\s*[:=])                           # nor with this
    """,
    re.VERBOSE | re.IGNORECASE,
)


# What becomes a link, an emoji or an alert in rendered text.
_LINKED = re.compile(
    r"""
      :(?=//) | www(?=\.)                              # URL
    | \b[0-9a-f]{6}(?=[0-9a-f]{1,34}\b)                # commit
    | :(?=[\w+-]{1,50}:)                               # emoji
    | \[(?=!)                                          # alert
    """,
    re.VERBOSE | re.IGNORECASE,
)


_MARKUP = re.compile(r"[\\`*_\[\]<>|~$&]")


_BLOCK = re.compile(r"^(?:(?=[-+=#])|(?P<number>[0-9]{1,9})(?=[.)]))", re.MULTILINE)


_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)


def clean(text: str) -> str:
    """``text`` with every character visible, and line feeds for line ends."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", wording.safe(text))


def inert(text: str) -> str:
    """Markdown that shows ``text`` as it is and does nothing else.

    No mention, reference, closing keyword, commit, link, image, HTML, comment, emoji, alert,
    formula, heading, list, quotation, table or code comes of it. It stays paragraphs.
    """
    broken = _LINKED.sub(_break, _defused(text))
    indented = _INDENT.sub(lambda at: "\N{NO-BREAK SPACE}" * len(at[0].expandtabs(4)), broken)
    return _BLOCK.sub(lambda at: f"{at['number'] or ''}\\", _MARKUP.sub(r"\\\g<0>", indented))


def fence(text: str, lang: str = "") -> str:
    """``text`` in a code fence that it cannot close.

    It is shown as it is; zero-width spaces break what GitHub would act on in an e-mail or a
    commit message made of the page.
    """
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{lang}\n{_defused(text).removesuffix(chr(10))}\n{ticks}"


def line(text: str, limit: int) -> str:
    """``text`` on one line of at most ``limit`` UTF-16 units, for a place without Markdown."""
    flat = " ".join(clean(text).split())
    return _longest(lambda width: _defused(wording.one_line(flat, width)), limit)


def quoted(text: str) -> str:
    """``inert`` text as a quotation; empty for blank text."""
    shown = inert(clean(text).strip())
    return "\n".join(f"> {row}".rstrip() for row in shown.split("\n")) if shown else ""


def units(text: str) -> int:
    """Length in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def octets(text: str) -> int:
    """Length in bytes of UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def _defused(text: str) -> str:
    return _ACTIVE.sub(_break, clean(text))


def _break(found: re.Match[str]) -> str:
    return f"{found[0]}{ZWSP}"


def _longest(shown: Callable[[int], str], limit: int) -> str:
    """The widest of what ``shown`` makes for a width that is no longer than ``limit``."""
    width = limit
    while units(text := shown(width)) > limit and width > 1:
        width -= max(1, (units(text) - limit) // 2)
    return text if units(text) <= limit else ""


def _short(text: str, width: int = 100) -> str:
    """One line of at most ``width`` characters of the text, inert."""
    return inert(wording.one_line(clean(text), width)) or "-"
