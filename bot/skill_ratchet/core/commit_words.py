"""What a model or a person wrote as one line of a commit's message, on which nobody acts.

Neither git nor GitHub: no mention, reference, closing keyword, order to skip a workflow, trailer,
further line or hidden character comes of it. Everything that is put there was made here.

What is active is broken where it can be seen, and not by a character without a width, which the
next program may take away again.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from skill_ratchet.core import markdown

WIDTH: Final = 200  # characters of a line that nobody asked to be shorter
_BRACKETS: Final = str.maketrans("[]", "()")  # '[skip ci]', and every other order that is so spelt
_ACTIVE: Final = re.compile(
    r"""
      @(?=\S)                                                  # mention, address
    | [#](?=[0-9]) | \bGH-(?=[0-9])                            # reference
    | /(?:issues|pulls?|discussions|commit)/(?=[0-9a-f])       # reference by URL
    | :(?=:) | [*]{2,}(?=NO_CI)                                # order to a runner
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Names that a trailer has by which somebody is credited, a workflow is skipped, or we know our own.
_TRAILER: Final = re.compile(
    r"\b(?P<name>[a-z-]+-by|skip-checks|change-id|ratchet-[a-z-]+)\s*[:=]", re.IGNORECASE
)


def plain(text: str, width: int = WIDTH) -> str:
    """``text`` on one line of at most ``width`` characters; done twice it is the same."""
    shown = markdown.clean(text).replace("\N{REPLACEMENT CHARACTER}", " ")
    visible = (" " if unicodedata.category(char)[0] in "CZ" else char for char in shown)
    flat = " ".join("".join(visible).split()).translate(_BRACKETS)
    told = _TRAILER.sub(lambda at: f"{at['name'].replace('-', ' ')},", flat)
    told = _ACTIVE.sub(lambda at: f"{at[0]} ", told)
    return told if len(told) <= width else f"{told[: width - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
