"""How data is shown to a model: whole, and between markers that it cannot forge."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def block(label: str, data: str, *, nonce: str) -> str:
    """``data`` word for word between two marker lines that carry ``nonce``.

    Args:
        label: What the data is; characters that could end the marker become ``_``.
        data: Anything, the marker excepted.
        nonce: 8 to 64 random letters and digits, drawn anew for every prompt.

    Raises:
        ValueError: The nonce is too short or has other characters.
        RatchetError: The data contains the nonce, so it could close the block and go on as if it
            were part of the prompt.
    """
    if not re.fullmatch(r"[A-Za-z0-9]{8,64}", nonce):
        raise ValueError("a nonce is 8 to 64 letters and digits")
    if nonce.casefold() in data.casefold():
        raise RatchetError(
            f"the data to show as '{_plain(label)}' contains the prompt's own random marker",
            hint="Run again: every prompt draws a new marker.",
        )
    return f"<<<{nonce} {_plain(label)}>>>\n{data}\n<<<end {nonce}>>>"


def fit(texts: Sequence[str], order: Iterable[int], *, budget: int) -> set[int]:
    """Which of the texts to show, in that order of preference, so that all fit whole.

    Args:
        texts: What could be shown.
        order: Indices into ``texts``, the most wanted first.
        budget: Characters there is room for; may be negative.
    """
    chosen: set[int] = set()
    for index in order:
        if len(texts[index]) <= budget:
            chosen.add(index)
            budget -= len(texts[index])
    return chosen


def _plain(label: str) -> str:
    return re.sub(r"[^\w ,.:/-]", "_", label)
