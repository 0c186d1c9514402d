"""The task agent: one skill, one case, one answer."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from skill_ratchet.core.records import Request

if TYPE_CHECKING:
    from pydantic import JsonValue

    from skill_ratchet.core.records import Fixture, How, Text


def request(how: How, text: Text, fixture: Fixture) -> Request:
    """The call that answers ``fixture`` with the skill as its system prompt.

    Nothing of what is expected, of a correction or of the fixture's tags is in it.
    """
    return Request(
        model=how.model,
        system=text.text,
        messages=tuple(_messages(fixture)),
        max_tokens=how.max_tokens,
        options=dict(how.options),
        case={
            "id": fixture.id,
            "input": fixture.model_dump(mode="json")["input"],
            "context": fixture.context,
            "skill_file": PurePosixPath(how.path).name,
        },
    )


def _messages(fixture: Fixture) -> list[dict[str, JsonValue]]:
    if isinstance(fixture.input, str):
        text = f"{fixture.context}\n\n{fixture.input}" if fixture.context else fixture.input
        return [{"role": "user", "content": text}]
    turns: list[dict[str, JsonValue]] = [turn.model_dump(mode="json") for turn in fixture.input]
    if fixture.context:
        turns[0] = turns[0] | {"content": f"{fixture.context}\n\n{turns[0]['content']}"}
    return turns
