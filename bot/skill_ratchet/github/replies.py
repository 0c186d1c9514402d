"""Answers a comment on GitHub: once for each comment, however often the job runs."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.github import pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from skill_ratchet.github.api import GitHub


class Asked(NamedTuple):
    """A comment that asked for something: its issue or pull request, and its own id.

    Without a comment it is the issue itself, as it was opened.
    """

    issue: int
    comment: int | None = None

    @property
    def name(self) -> str:
        """What its answer is known by."""
        return f"issue-{self.issue}" if self.comment is None else str(self.comment)

    def __str__(self) -> str:
        """As ``--reply`` takes it."""
        return f"{self.issue}/{self.comment}"


class RefusedError(RatchetError):
    """It was not done, which the message begins with: Markdown made here, and the answer."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{NOT_DONE} {why}")


NOT_DONE: Final = "Not done:"  # how every refusal begins, so that none is read as consent


def parse(text: str) -> Asked:
    """``ISSUE/COMMENT``; raises RatchetError for anything else."""
    found = re.fullmatch(r"([1-9][0-9]{0,17})/([1-9][0-9]{0,17})", text, re.ASCII)
    if found is None:
        raise RatchetError(f"{text!a} is not ISSUE/COMMENT.", hint="Such as --reply 12/3456.")
    return Asked(int(found[1]), int(found[2]))


def answered(github: GitHub, asked: Asked) -> bool:
    """Whether the bot has answered that comment."""
    return bool(github.my_comments(asked.issue, pages.marker("reply", asked.name)))


def answer(
    github: GitHub,
    asked: Asked,
    *parts: str,
    well: bool,
    redact: Callable[[str], str] | None = None,
) -> None:
    """Say what came of it (nothing, if ``parts`` are empty), and a rocket if it went well.

    There is one answer to a comment: it takes the place of what was said before.

    Args:
        github: Where.
        asked: What is answered.
        parts: Markdown from ``core.pages``.
        well: Whether it was done.
        redact: Takes secrets out; by itself those of this job's environment.
    """
    if parts:
        redact = redact or Redactor.from_environ(os.environ).redact
        body = redact(pages.reply(asked.name, *parts))
        github.sticky_comment(asked.issue, pages.marker("reply", asked.name), body)
    if well and asked.comment is not None:
        github.react(asked.comment, "rocket")
