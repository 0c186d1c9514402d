"""Worked examples in a skill's text: two lines, ``Input: ...`` and ``Output: ...``."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_PAIR = re.compile(r"^Input: ([^\r\n]*)\r?\nOutput: ([^\r\n]*)(?:\r?\n|\Z)", re.MULTILINE)
_JOINERS = "\u200c\u200d"
# All but a single joiner between two characters beyond ASCII, which Persian and emoji need.
_STRAY = re.compile(
    f"(?<![^\x00-\x7f])[{_JOINERS}]+|[{_JOINERS}]+(?![^\x00-\x7f])|(?<=[{_JOINERS}])[{_JOINERS}]+"
)


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
    do, is spelt so that it opens none. Joiners that a script or an emoji needs stay.
    """
    spaced = " ".join(text.split())
    seen = "".join(c for c in spaced if c in _JOINERS or unicodedata.category(c)[0] != "C")
    return " ".join(_STRAY.sub("", seen).replace("<!-", "< !-").split())
