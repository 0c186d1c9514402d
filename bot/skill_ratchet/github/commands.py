"""What a comment asks the bot to do: text in, a command out. Who may ask is another question.

Edited comments, comments of bots and a person's role are facts the text does not show; the
caller looks at them. ``NEEDS`` says which role a command takes.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from skill_ratchet.core.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

Name = Literal[
    "run",
    "eval",
    "gate",
    "transfer",
    "explain",
    "status",
    "hold",
    "resume",
    "reject",
    "retry",
    "merge",
    "revert",
    "correct",
    "help",
]
Role = Literal["read", "write"]


class SlashCommand(Record):
    """A command as a person wrote it; ``argument`` is word for word, stripped at both ends."""

    name: Name
    argument: str = ""


class Unknown(Record):
    """Addressed to the bot, and not a command. ``nearest`` is the one that may be meant."""

    word: str
    nearest: Name | None


class Use(NamedTuple):
    """How a command is written, and what it does in a few words."""

    argument: str
    does: str


NAMES: Final[tuple[Name, ...]] = get_args(Name)
NEEDS: Final[Mapping[Name, Role]] = {
    name: "read" if name in ("explain", "status", "help") else "write" for name in NAMES
}
USES: Final[Mapping[Name, Use]] = {
    "run": Use("[skill]", "propose an edit now"),
    "eval": Use("[skill]", "score the skill as it is"),
    "gate": Use("<sha>", "test this pull request as it is at that commit"),
    "transfer": Use("[skill] <model,...>", "score the old and the new text on other models"),
    "explain": Use("[skill]", "show the verdict with the numbers behind it"),
    "status": Use("", "say what is under way"),
    "hold": Use("[skill]", "stop everything for this skill"),
    "resume": Use("[skill]", "take a hold back"),
    "reject": Use("<reason>", "close the proposal; the reason goes to the proposer word for word"),
    "retry": Use("[skill]", "run again what failed or went stale"),
    "merge": Use("", "merge a proposal that waits for a person"),
    "revert": Use("<experiment>", "take a merged edit out again"),
    "correct": Use("[skill]", "take a correction: `Input:`, `Answered:`, `Expected:`, `Why:`"),
    "help": Use("", "list the commands"),
}
# What a person says in their own words may take more than one line.
LONG: Final = frozenset({"reject", "correct"})
LONGEST_WORD = 50  # characters of an unknown word that are kept

# Up to three spaces, as in Markdown: what is indented further is code. Nothing else may come
# before it, so a quotation, a fence, a code span and an HTML comment are no command.
_COMMAND = re.compile(
    r"(?:[^\S\n]*\n)*[ ]{0,3}/ratchet(?=\s|\Z)(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)


def parse(body: str) -> SlashCommand | Unknown | None:
    """The command in the first line that is not blank; None when it is not one for the bot.

    The line is ``/ratchet <word> [argument]``, its first two words in any case; without a word
    it asks for help. The argument is the rest of the line; that of the commands in ``LONG`` goes on
    to the end of the comment.
    """
    found = _COMMAND.match(body.replace("\r\n", "\n").replace("\r", "\n"))
    if found is None:
        return None
    line, _, more = found["rest"].partition("\n")
    word, *argument = line.split(maxsplit=1) or ["help"]
    name = next((name for name in NAMES if name == word.lower()), None)
    if name is None:
        return Unknown(word=word[:LONGEST_WORD], nearest=_nearest(word[:LONGEST_WORD].lower()))
    text = "\n".join([*argument, more]) if name in LONG else "".join(argument)
    return SlashCommand(name=name, argument=text.strip())


def _nearest(word: str) -> Name | None:
    close = difflib.get_close_matches(word, NAMES, n=1)
    return next((name for name in NAMES if name in close), None)
