"""What a comment asks the bot to do: text in, a command out. Who may ask is another question.

Edited comments, comments of bots and a person's role are facts the text does not show; the
caller looks at them.

``USES`` says of each command whether it is a brake or a pedal. A brake stops something: it is heard
however it is written, wherever it stands in the comment, and whatever follows it is the reason. A
pedal merges, releases, changes or spends something: it stands alone, with its own arguments and not
a word besides, as what follows may well take it back. A question changes nothing.
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
Kind = Literal["brake", "pedal", "question"]


class SlashCommand(Record):
    """A command as a person wrote it; ``argument`` is word for word, stripped at both ends.

    ``more`` is what stands behind a pedal on further lines, which nobody may act past.
    """

    name: Name
    argument: str = ""
    more: str = ""


class Unknown(Record):
    """Addressed to the bot, and not a command. ``nearest`` is the one that may be meant."""

    word: str
    nearest: Name | None


class Use(NamedTuple):
    """How a command is written, what it does in a few words, and what kind it is."""

    argument: str
    does: str
    kind: Kind


NAMES: Final[tuple[Name, ...]] = get_args(Name)
USES: Final[Mapping[Name, Use]] = {
    "run": Use("[skill]", "propose an edit now", "pedal"),
    "eval": Use("[skill]", "score the skill as it is", "pedal"),
    "gate": Use("<sha>", "test this pull request as it is at that commit", "pedal"),
    "transfer": Use(
        "[skill] <model,...>", "score the old and the new text on other models", "pedal"
    ),
    "explain": Use("[skill]", "show the verdict with the numbers behind it", "question"),
    "status": Use("", "say what is under way", "question"),
    "hold": Use("[skill] [reason]", "stop everything for this skill", "brake"),
    "resume": Use("[skill]", "take a hold back", "pedal"),
    "reject": Use(
        "<reason>", "close the proposal; the reason goes to the proposer word for word", "brake"
    ),
    "retry": Use("[skill]", "run again what failed or went stale", "pedal"),
    "merge": Use("", "merge a proposal that waits for a person", "pedal"),
    "revert": Use("<experiment>", "take a merged edit out again", "pedal"),
    "correct": Use(
        "[skill]", "take a correction: `Input:`, `Answered:`, `Expected:`, `Why:`", "pedal"
    ),
    "help": Use("", "list the commands", "question"),
}
BRAKES: Final = frozenset(name for name in NAMES if USES[name].kind == "brake")
PEDALS: Final = frozenset(name for name in NAMES if USES[name].kind == "pedal")
NEEDS: Final[Mapping[Name, Role]] = {
    name: "read" if USES[name].kind == "question" else "write" for name in NAMES
}
# What a person says in their own words may take more than one line.
LONG: Final = BRAKES | {"correct"}
LONGEST_WORD = 50  # characters of an unknown word that are kept
# Other words for a brake do what it does.
SYNONYMS: Final[Mapping[str, Name]] = {
    **dict.fromkeys(("pause", "stop", "halt", "wait", "freeze", "block", "veto"), "hold"),
    **dict.fromkeys(("close", "decline"), "reject"),
}
# Other words for a pedal do nothing; the answer names the command.
_MEANT: Final[Mapping[str, Name]] = {
    **dict.fromkeys(("unhold", "unpause", "unstop", "unfreeze", "unblock", "release"), "resume"),
    **dict.fromkeys(("continue", "unreject", "reopen"), "resume"),
    **dict.fromkeys(("unmerge", "undo", "rollback"), "revert"),
}

# Up to three spaces, as in Markdown: what is indented further is code. Nothing else may come
# before it, so a quotation, a fence, a code span and an HTML comment are no command.
_COMMAND = re.compile(
    r"(?:[^\S\n]*\n)*[ ]{0,3}/ratchet(?=\s|\Z)(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)
_BRAKE = re.compile(
    rf"""
    ^[\u200b-\u200f\ufeff]* [ ]{{0,3}} /ratchet (?=[^\S\n]|[:,]) [^\w\n]*
    (?: (?:please|pls|kindly) [^\w\n]+ )*
    (?: (?P<word> {"|".join((*sorted(BRAKES), *SYNONYMS))} ) \b [^\w\s]*
      | (?= (?:do\s+not|don['\u2019]?t|never|not|no) [ \t]+ (?:{"|".join(sorted(PEDALS))}) \b )
    )
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_FENCE = r"^[ ]{0,3}(?P<ticks>`{3,}|~{3,}).*?(?:^[ ]{0,3}(?P=ticks)|\Z)"
_UNSEEN = re.compile(rf"<!--.*?(?:-->|\Z)|{_FENCE}", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"^[ ]{0,3}>.*$", re.MULTILINE)  # somebody else's words


def parse(body: str) -> SlashCommand | Unknown | None:
    """What a comment asks for; None when it asks the bot for nothing.

    The first line that is not blank is ``/ratchet <word> [argument]``, its first two words in any
    case; without a word it asks for help. The argument is the rest of the line; that of the
    commands in ``LONG`` goes on to the end of the comment. A brake further down comes before
    what the first line says.
    """
    text = body.replace("\r\n", "\n").replace("\r", "\n")
    first = _first(text)
    if isinstance(first, SlashCommand) and first.name in LONG:
        return first
    return _brake(text) or first


def _first(text: str) -> SlashCommand | Unknown | None:
    """What the first line asks for."""
    found = _COMMAND.match(text)
    if found is None:
        return None
    line, _, more = found["rest"].partition("\n")
    word, *argument = line.split(maxsplit=1) or ["help"]
    name = next((name for name in NAMES if name == word.lower()), None)
    if name is None:
        return Unknown(word=word[:LONGEST_WORD], nearest=_nearest(word[:LONGEST_WORD]))
    if name in LONG:
        return SlashCommand(name=name, argument="\n".join([*argument, more]).strip())
    more = _QUOTED.sub("", more).strip() if name in PEDALS else ""
    return SlashCommand(name=name, argument="".join(argument).strip(), more=more)


def _brake(text: str) -> SlashCommand | None:
    """The first brake in a comment, outside of what is not shown or is shown as code."""
    found = _BRAKE.search(_UNSEEN.sub(lambda at: "x" * len(at[0]), text))
    if found is None:
        return None
    word = (found["word"] or "hold").lower()
    name = next((name for name in BRAKES if name == word), SYNONYMS.get(word, "hold"))
    return SlashCommand(name=name, argument=text[found.end() :].strip())


def _nearest(word: str) -> Name | None:
    """The command that may be meant: never its opposite, so it begins with the same letter."""
    plain = re.sub(r"^\W+", "", word.casefold())
    if (meant := _MEANT.get(plain)) is not None:
        return meant
    known: dict[str, Name] = {name: name for name in NAMES} | dict(SYNONYMS)
    close = difflib.get_close_matches(plain, known, n=1)
    return next((known[one] for one in close if one[0] == plain[0]), None)
