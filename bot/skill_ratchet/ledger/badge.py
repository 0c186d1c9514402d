"""A README badge: a skill's score on train and the day of its last merge, as an SVG.

Pure, and the same bytes for the same facts. Never a held-out number: the badge lies on the branch
``ratchet/ledger``, which whoever proposes edits can read.
"""

from __future__ import annotations

import re
from html import escape, unescape
from typing import Annotated, Final

from pydantic import Field

from skill_ratchet.core import wording
from skill_ratchet.core.records import Record, Slug

WIDTH: Final = 24  # characters of a skill's name
PADDING: Final = 6  # pixels on either side of a text
NOTHING: Final = "no data yet"
# Tenths of a pixel of Verdana at 11 pixels. Every text is stretched to what these come to, so
# another font has the same width.
_WIDTHS: Final = {
    tenths: set(letters)
    for tenths, letters in (
        (30, "ijl'|"),
        (39, " fI.,:;!"),
        (45, "tr()[]-/J"),
        (58, "csz"),
        (66, "aekvxyFLTP"),
        (70, "bdghnopquEXYZS0123456789_"),
        (78, "ABCKRUV"),
        (86, "DGHNOQ"),
        (94, "wM"),
        (108, "m%W@"),
    )
}
_OTHER: Final = 110
_SVG: Final = "xmlns='http://www.w3.org/2000/svg'"
_SLUG: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_SCORED, _EMPTY = "#1f6feb", "#6e7781"  # behind white letters; readable on light and on dark


class Badge(Record):
    """What a badge says."""

    skill: Slug
    score: Annotated[int, Field(ge=0, le=100)] | None  # percent on train; None before there is one
    merged: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")] | None  # the last one

    @property
    def label(self) -> str:
        """What it is about."""
        return f"ratchet {wording.one_line(self.skill, WIDTH)}"

    @property
    def message(self) -> str:
        """The score and what it was measured on, and when something was merged last."""
        if self.score is None:
            return NOTHING
        return f"train {self.score}%, {f'merged {self.merged}' if self.merged else 'no merge yet'}"

    @property
    def title(self) -> str:
        """The whole in words, for those who do not see it."""
        return f"ratchet {self.skill}: {self.message}"


def draw(badge: Badge) -> str:
    """The badge as SVG."""
    left, right = (_pixels(text) for text in (badge.label, badge.message))
    widths = [text + 2 * PADDING for text in (left, right)]
    total = sum(widths)
    title = escape(badge.title)
    colour = _EMPTY if badge.score is None else _SCORED
    font = "font-family='Verdana,Geneva,DejaVu Sans,sans-serif' font-size='11'"
    lines = [
        f"<svg {_SVG} width='{total}' height='20' role='img' aria-label='{title}'>",
        f"<title>{title}</title>",
        f"<clipPath id='r'><rect width='{total}' height='20' rx='3'/></clipPath>",
        "<g clip-path='url(#r)'>",
        f"<rect width='{widths[0]}' height='20' fill='#444c56'/>",
        f"<rect x='{widths[0]}' width='{widths[1]}' height='20' fill='{colour}'/>",
        "</g>",
        f"<g fill='#fff' {font} aria-hidden='true'>",
        _text(badge.label, x=PADDING, width=left),
        _text(badge.message, x=widths[0] + PADDING, width=right),
        "</g>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def parse(svg: str) -> Badge | None:
    """What a badge says, if ``svg`` is one just as ``draw`` makes it."""
    found = re.search(
        rf"^<title>ratchet (?P<skill>{_SLUG}): (?P<message>[^<>\n]*)</title>$",
        svg,
        re.MULTILINE,
    )
    if found is None:
        return None
    told = re.fullmatch(
        r"train (?P<score>\d{1,3})%, (?:merged (?P<merged>\d{4}-\d\d-\d\d)|no merge yet)",
        unescape(found["message"]),
        re.ASCII,
    )
    score = int(told["score"]) if told else None
    if score is not None and score > 100:  # noqa: PLR2004 - percent
        return None
    made = Badge(skill=found["skill"], score=score, merged=told["merged"] if told else None)
    return made if draw(made) == svg else None


def _text(text: str, *, x: int, width: int) -> str:
    return f"<text x='{x}' y='14' textLength='{width}'>{escape(text)}</text>"


def _pixels(text: str) -> int:
    tenths = (
        next((width for width, letters in _WIDTHS.items() if letter in letters), _OTHER)
        for letter in text
    )
    return -(-sum(tenths) // 10)
