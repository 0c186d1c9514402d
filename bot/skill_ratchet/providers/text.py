"""What a request says, as plain text; and what it is asked for."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue

    from skill_ratchet.core.records import Request

# The digest of the key of the run that a call is made for, so that a provider knows it again after
# a crash; empty for calls that belong to no run, such as the meta-agent's.
CALL: ContextVar[str] = ContextVar("call", default="")


class UnsentError(asyncio.CancelledError):
    """A call was cancelled before anything of it was sent, so that it cost nothing."""


def input_text(request: Request) -> str:
    """The messages as one text: a single one as it is, several as ``role: content`` paragraphs."""
    texts = [_content(message.get("content")) for message in request.messages]
    if len(texts) == 1:
        return texts[0]
    roles = [message.get("role") for message in request.messages]
    return "\n\n".join(f"{role}: {text}" for role, text in zip(roles, texts, strict=True))


def _content(content: JsonValue) -> str:
    if isinstance(content, str):
        return content
    return block_text(content) if isinstance(content, list) else ""


def block_text(blocks: list[JsonValue]) -> str:
    """The text of the text blocks, joined."""
    found = [block.get("text") for block in blocks if isinstance(block, dict)]
    return "".join(text for text in found if isinstance(text, str))
