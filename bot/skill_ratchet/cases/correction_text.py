"""What a person says was answered wrongly: the text of a comment or an issue in, its parts out.

A comment's sections begin with a word and a colon, an issue form's with the heading that GitHub
makes of a field's label. What stands in a fence is taken word for word, and no section begins in
it. What GitHub would not show in its place is a fault: a person has to see what becomes a fixture.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from pydantic import Field

from skill_ratchet.base import documents
from skill_ratchet.base.documents import ReadError
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import wording
from skill_ratchet.core.edits import unseen
from skill_ratchet.core.golden import folded
from skill_ratchet.core.records import Record, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

Section = Literal["input", "context", "answered", "expected", "why"]
SECTIONS: Final[tuple[Section, ...]] = get_args(Section)
NEEDED: Final[tuple[Section, ...]] = ("input", "expected")
# Characters at most. A comment has 65,536, so the reply can always say what was too long.
LONGEST: Final[Mapping[Section, int]] = {
    "input": 30_000,
    "context": 30_000,
    "answered": 30_000,
    "expected": 10_000,
    "why": 10_000,
}
# The labels of the issue form (templates/github/ratchet-correction.yml), in its order.
LABELS: Final[Mapping[str, Section | Literal["skill"]]] = {
    "Skill": "skill",
    "Input": "input",
    "What it answered": "answered",
    "What it should have answered": "expected",
    "Why": "why",
}
EMPTY: Final = "_No response_"  # what GitHub writes for a field that was left empty
MOST_WORDS = 2  # in front of the sections: a skill, a trace
MOST_FAULTS = 10

_HEAD: Final = re.compile(rf"(?P<name>{'|'.join(SECTIONS)})[ \t]*:(?P<rest>.*)", re.IGNORECASE)
_FENCE: Final = re.compile(r"(?P<indent> {0,3})(?P<mark>`{3,}|~{3,})(?P<info>.*)")
_HEADING: Final = re.compile(rf"### (?P<label>{'|'.join(map(re.escape, LABELS))})[ \t]*")
# Comments, declarations, tags and definitions of links: GitHub shows none of them as it stands.
_HTML: Final = re.compile(
    r"<!--|<[!?][A-Za-z\[]|</?[A-Za-z][A-Za-z0-9-]*(?:\s[^<>]*)?/?>"
    r"|^ {0,3}\[[^\]\n]+\]:[ \t]*\S",
    re.MULTILINE,
)
_COMMENT: Final = "<!--"


class SectionText(Record):
    """A section's text. ``literal``: it was in a fence; ``info`` is what stood behind its mark."""

    text: str
    literal: bool = False
    info: str = ""


class Given(Record):
    """What was said: the words in front of the sections, and each section once."""

    words: tuple[str, ...] = ()
    parts: dict[Section, SectionText] = Field(default={})

    def text(self, section: Section) -> str | None:
        """A section's text; None when it is missing or blank."""
        part = self.parts.get(section)
        return part.text if part is not None and part.text.strip() else None


class FaultyError(RatchetError):
    """What was said cannot be taken; ``faults`` say why, in words that quote nobody."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class _TextLine(NamedTuple):
    text: str
    fenced: bool  # inside a fence, or one of its two marks


def parse(text: str) -> Given:
    """The sections of a comment, from what stands behind the command.

    Raises:
        FaultyError: A section twice, text that belongs to none, a fence that never ends, or what
            nobody would see.
    """
    words: list[str] = []
    found: dict[Section, list[str]] = {}
    faults: list[str] = []
    into = words
    for line in _lines(text, faults):
        head = None if line.fenced else _HEAD.fullmatch(line.text)
        if head is None:
            into.append(line.text)
            continue
        name = _section(head["name"])
        if name in found:
            faults.append(f"'{name.capitalize()}:' is there twice")
        into = found[name] = [head["rest"]]
    before = " ".join(words).split()
    if len(before) > MOST_WORDS:
        faults.append("there is text in front of the first section that belongs to none")
    parts = {name: _part(lines) for name, lines in found.items()}
    return _given(before, parts, faults)


def given(texts: Mapping[Section, str]) -> Given:
    """Sections that were said one by one; each word for word.

    Raises:
        FaultyError: One is too long, or has what nobody would see.
    """
    return _given(
        (), {name: SectionText(text=text, literal=True) for name, text in texts.items()}, []
    )


def written(texts: Mapping[Section, str], *, also: Iterable[Section] = ()) -> str:
    """Sections as ``parse`` reads them; those in ``also`` are there to be filled in."""
    wanted = [name for name in SECTIONS if name in texts or name in set(also)]
    return "\n".join(
        f"{name.capitalize()}: {_shown(texts.get(name, ''))}".rstrip() for name in wanted
    )


def _shown(text: str) -> str:
    """A value that reads back as it is: in a fence, if it has many lines."""
    if "\n" not in text:
        return text
    marks = max((len(run) for run in re.findall("`{3,}", text)), default=2) + 1
    return f"\n{'`' * marks}\n{text}\n{'`' * marks}"


def form(body: str) -> Given | None:
    """The fields of an issue that was made by the form; None when it was not.

    GitHub writes ``### Label``, a blank line and the value, in a fence where the form says so. The
    fence has three marks whatever is in it, so a value can end it: then the labels, each of which
    has to be there once and in order, say where a value ends.

    Raises:
        FaultyError: It cannot be told where a field ends, or a field has what nobody would see.
    """
    lines = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    places = _headings(lines)
    if places is None:
        return None
    faults: list[str] = []
    labels = list(LABELS)
    if not _is_once(places):
        open_ones = [line.fenced for line in _lines("\n".join(lines), [])]
        places = [(at, label) for at, label in places if not open_ones[at]]
        if not _is_once(places):
            raise FaultyError(
                ["a heading of the form is in it more than once, so it cannot be told what is what"]
            )
    parts: dict[Section, SectionText] = {}
    words: list[str] = []
    ends = [at for at, _ in places[1:]] + [len(lines)]
    for (at, label), end in zip(places, ends, strict=True):
        part = _field(lines[at + 1 : end])
        name = LABELS[label]
        if name == "skill":
            words = part.text.split()
        elif part.text:
            parts[name] = part
    assert [label for _, label in places] == labels  # noqa: S101 - _is_once says so
    return _given(words, parts, faults)


def value(part: SectionText, *, as_json: bool) -> JsonValue:
    """What is expected: JSON where the scorer compares such and it is some, else the text."""
    if as_json:
        found = _json(part.text)
        return part.text if found is None else found
    return part.text


def conversation(part: SectionText) -> list[JsonValue] | None:
    """The turns of an input in a fence marked ``json``; None when it is a plain text."""
    found = _json(part.text) if part.literal and part.info.casefold() == "json" else None
    return found if isinstance(found, list) else None


def same(answered: str, expected: JsonValue) -> bool:
    """Whether a correction says what was answered, but for case and white space."""
    if isinstance(expected, str):
        return folded(answered) == folded(expected)
    found = _json(answered)
    return found is not None and canonical_json(found) == canonical_json(expected)


def require(given: Given) -> None:
    """Raise FaultyError unless there is an input, an expectation, and something to correct."""
    faults = [
        f"'{name.capitalize()}:' is {'empty' if name in given.parts else 'missing'}"
        for name in NEEDED
        if given.text(name) is None
    ]
    if faults:
        raise FaultyError(faults)


def _given(words: Sequence[str], parts: Mapping[Section, SectionText], faults: list[str]) -> Given:
    for word in words:
        faults += [f"in front of the sections: {what}" for what in _hidden(word, literal=False)]
    for name, part in parts.items():
        told = f"'{name.capitalize()}:'"
        if len(part.text) > LONGEST[name]:
            faults.append(f"{told} has {len(part.text):,} characters; at most {LONGEST[name]:,}")
        faults += [f"{told}, {what}" for what in _hidden(part.text, literal=part.literal)]
    if faults:
        raise FaultyError(wording.first(faults, MOST_FAULTS, "and {} more"))
    return Given(words=tuple(words), parts=dict(parts))


def _lines(text: str, faults: list[str]) -> Iterator[_TextLine]:
    """Each line, and whether it belongs to a fence (https://spec.commonmark.org/0.31.2/)."""
    mark = ""
    for line in text.split("\n"):
        opened = None if mark else _opening(line)
        yield _TextLine(line, fenced=bool(mark or opened))
        if opened:
            mark = opened["mark"]
        elif mark and _closes(line, mark):
            mark = ""
    if mark:
        faults.append("a fence is opened and never closed")


def _part(lines: Sequence[str]) -> SectionText:
    """A section's value: word for word if all of it is one fence, else without blank ends."""
    kept = list(lines)
    while kept and not kept[0].strip():
        kept.pop(0)
    while kept and not kept[-1].strip():
        kept.pop()
    opened = _opening(kept[0]) if kept else None
    mark = opened["mark"] if opened else ""
    closing = [at for at, line in enumerate(kept) if at and mark and _closes(line, mark)]
    if opened is None or closing[:1] != [len(kept) - 1]:
        return SectionText(text="\n".join(kept).strip())
    indent = re.compile(f" {{0,{len(opened['indent'])}}}")
    inner = (indent.sub("", line, count=1) for line in kept[1:-1])
    return SectionText(text="\n".join(inner), literal=True, info=opened["info"].strip())


def _opening(line: str) -> re.Match[str] | None:
    found = _FENCE.fullmatch(line)
    return None if found and "`" in found["mark"] and "`" in found["info"] else found


def _closes(line: str, mark: str) -> bool:
    found = _FENCE.fullmatch(line)
    return found is not None and found["mark"].startswith(mark) and not found["info"].strip()


def _field(lines: Sequence[str]) -> SectionText:
    """The value of a form's field, out of the fence that GitHub puts around it."""
    part = _part(lines)
    if part.literal or part.text == EMPTY:
        return part if part.literal else SectionText(text="")
    rows = part.text.split("\n")
    if len(rows) > 1 and rows[0] == "```text" and rows[-1] == "```":
        # It ends its own fence, so GitHub shows a part of it as Markdown: not literal.
        return SectionText(text="\n".join(rows[1:-1]))
    return part


def _headings(lines: Sequence[str]) -> list[tuple[int, str]] | None:
    """Where the form's labels stand as headings; None where one is missing."""
    found = [
        (at, match["label"]) for at, line in enumerate(lines) if (match := _HEADING.fullmatch(line))
    ]
    return found if {label for _, label in found} == set(LABELS) else None


def _is_once(places: Iterable[tuple[int, str]]) -> bool:
    return [label for _, label in places] == list(LABELS)


def _section(name: str) -> Section:
    return next(one for one in SECTIONS if one == name.casefold())


def _hidden(text: str, *, literal: bool) -> Iterator[str]:
    """What a reader of the page would not see, with its line."""
    for number, line in enumerate(text.split("\n"), start=1):
        for char in dict.fromkeys(unseen(line)):
            name = unicodedata.name(char, "")
            yield f"line {number}: U+{ord(char):04X} {name}".rstrip() + ", which nobody sees"
    for found in () if literal else _HTML.finditer(text):
        number = text.count("\n", 0, found.start()) + 1
        what = "an HTML comment" if found[0] == _COMMENT else "HTML or the target of a link"
        yield f"line {number}: {what}, which GitHub does not show; put it in a fence"


def _json(text: str) -> JsonValue:
    """A JSON value that is finite and has no key twice; None for anything else."""
    try:
        found: JsonValue = documents.load_json(text)
    except ReadError:
        return None
    return found
