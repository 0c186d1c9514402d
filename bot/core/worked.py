"""Worked examples in a skill's text: two lines, ``Input: ...`` and ``Output: ...``."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_PAIR = re.compile(r"^Input: ([^\r\n]*)\r?\nOutput: ([^\r\n]*)(?:\r?\n|\Z)", re.MULTILINE)


class Worked(NamedTuple):
    """One input and the answer to it, each on one line."""

    input: str
    output: str

    def __str__(self) -> str:
        return f"Input: {self.input}\nOutput: {self.output}\n"


def split(text: str) -> tuple[str, tuple[Worked, ...]]:
    """The text without its worked examples, and those in order."""
    return _PAIR.sub("", text), tuple(Worked(*found) for found in _PAIR.findall(text))


def one_line(text: str) -> str:
    """The text as it may stand in an example: one line that says nothing but itself.

    White space becomes single spaces, control and format characters (invisible ones, which an
    edit may not bring in) go, and what opens an HTML comment, as the markers of a frozen section
    do, is spelt so that it opens none.
    """
    spaced = " ".join(text.split())
    seen = "".join(c for c in spaced if not unicodedata.category(c).startswith("C"))
    return " ".join(seen.replace("<!-", "< !-").split())
