"""The file that is improved: what a good one is, and which parts no edit may touch.

Any text file will do. One called ``SKILL.md`` must also keep to the open Agent Skills format
(https://agentskills.io/specification). Documented in docs/skills.md.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, TypeAlias

import yaml

from skill_ratchet.base import documents
from skill_ratchet.base.documents import Problem, ReadError
from skill_ratchet.base.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

MAX_SKILL: Final = 1_000_000  # bytes
MAX_NAME: Final = 64
MAX_DESCRIPTION: Final = 1024
MAX_COMPATIBILITY: Final = 500
OPEN: Final = "<!-- ratchet:frozen -->"
CLOSE: Final = "<!-- /ratchet:frozen -->"
KNOWN: Final = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
# What a skill is called, its terms and the tools it is granted are not a matter of a metric.
ALWAYS_FROZEN: Final = frozenset({"name", "license", "allowed-tools"})

_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_MARKER_LIKE: Final = re.compile(r"<!-[^>]{0,40}ratchet\W{0,9}frozen", re.IGNORECASE)
_FENCE: Final = "---"

Fault: TypeAlias = tuple[int, str]  # line, and what is wrong there


@dataclass(frozen=True, slots=True)
class _Entry:
    """One frontmatter key: its line in the file, its node and its bytes up to the next key."""

    line: int
    node: yaml.Node
    verbatim: str

    def same(self, other: _Entry | None) -> bool:
        return other is not None and self.verbatim.rstrip() == other.verbatim.rstrip()


def decode(data: bytes, *, path: str) -> str:
    """The text of a skill file, exactly as it is stored.

    Raises:
        RatchetError: Larger than 1 MB, not UTF-8, a NUL or a byte order mark; with the line.
    """
    if len(data) > MAX_SKILL:
        raise RatchetError(
            f"{path}: {len(data)} bytes; a skill has at most {MAX_SKILL}",
            hint="A model reads the whole file at every call: keep long material in other files.",
        )
    try:
        text = documents.decode(data)
    except ReadError as error:
        raise documents.report(
            [Problem(path, error.line, error.text)], hint="Save the file as UTF-8 text."
        ) from error
    if text.startswith(documents.BOM):
        raise documents.report(
            [Problem(path, 1, "starts with a byte order mark")],
            hint="Save the file as UTF-8 without one.",
        )
    return text


def check(text: str, *, path: str) -> list[str]:
    """What is wrong with a skill's text, as ``path:line: ...``; empty when it is good.

    Every file is checked for size, storable text and frozen-section markers, and a ``SKILL.md``
    for its frontmatter as well. The skill's ``name`` must be that of the folder in ``path``.
    """
    faults = [*_text_faults(text), *_marker_faults(text)]
    if _is_skill(path):
        faults += _frontmatter_faults(text, folder=PurePosixPath(path).parent.name)
    return _listed(faults, path=path)


def split_frontmatter(text: str) -> tuple[str, str]:
    """The text in two: the frontmatter with both its ``---`` lines (or ''), and the body."""
    lines = _lines(text)
    if not lines or lines[0].rstrip() != _FENCE:
        return "", text
    for number, line in enumerate(lines[1:], start=2):
        if line.rstrip() == _FENCE:
            head = "".join(lines[:number])
            return head, text[len(head) :]
    return "", text


def frozen_parts(text: str) -> tuple[str, ...]:
    """The frozen sections word for word, with their marker lines, in order."""
    return tuple(part for _, part in _frozen(text))


def protected_changes(before: str, after: str, *, path: str, freeze: Collection[str]) -> list[str]:
    """Why ``after`` may not replace ``before``; empty when it may.

    1. Frozen sections stay as they are: none changed, removed, added, repeated or reordered.
    2. In a ``SKILL.md`` the frontmatter stays, and in it the keys named in ``freeze``, the keys
       of ``ALWAYS_FROZEN`` and every key the format does not know keep their bytes. In another
       file with frontmatter, the keys named in ``freeze`` do.
    3. ``after`` is a good file if ``before`` is; its text and its markers are good in any case.
    """
    changes = [
        *_frozen_changes(before, after),
        *_frontmatter_changes(before, after, freeze=freeze, is_skill=_is_skill(path)),
    ]
    if not check(before, path=path):
        return [*_listed(changes, path=path), *check(after, path=path)]
    return _listed([*changes, *_text_faults(after), *_marker_faults(after)], path=path)


def _is_skill(path: str) -> bool:
    return PurePosixPath(path).name == "SKILL.md"


def _listed(faults: Iterable[Fault], *, path: str) -> list[str]:
    return [str(problem) for problem in sorted(Problem(path, line, said) for line, said in faults)]


def _lines(text: str) -> list[str]:
    """Lines as git and editors count them: nothing but a line feed ends one."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _text_faults(text: str) -> Iterator[Fault]:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_SKILL:
        yield 0, f"{size} bytes; a skill has at most {MAX_SKILL}"
    if not text.strip():
        yield 1, "the file is empty"
    if text.startswith(documents.BOM):
        yield 1, "starts with a byte order mark"
    for number, line in enumerate(_lines(text), start=1):
        try:
            documents.check_text(line, line=number)
        except ReadError as error:
            yield error.line, error.text


def _marker_faults(text: str) -> Iterator[Fault]:
    """Markers count wherever they stand, code fences too, or a fence could switch one off."""
    opened = 0
    for number, line in enumerate(_lines(text), start=1):
        marker = line.strip()
        if marker == OPEN and opened:
            yield number, f"a frozen section inside the one opened on line {opened}"
        elif marker == OPEN:
            opened = number
        elif marker == CLOSE and not opened:
            yield number, "a frozen section is closed that was not opened"
        elif marker == CLOSE:
            opened = 0
        elif _MARKER_LIKE.search(line):
            yield number, f"a misspelt marker: write {OPEN} or {CLOSE}, alone on its line"
    if opened:
        yield opened, f"a frozen section is not closed: add {CLOSE}"


def _frozen(text: str) -> Iterator[tuple[int, str]]:
    """Each frozen section with its first line; one that is not closed runs to the end."""
    part: list[str] = []
    start = 0
    for number, line in enumerate(_lines(text), start=1):
        if part or line.strip() == OPEN:
            start = start if part else number
            part.append(line)
        if part and line.strip() == CLOSE:
            yield start, "".join(part).removesuffix("\n")
            part = []
    if part:
        yield start, "".join(part).removesuffix("\n")


def _frozen_changes(before: str, after: str) -> list[Fault]:
    old, new = list(_frozen(before)), list(_frozen(after))
    lost = Counter(part for _, part in old) - Counter(part for _, part in new)
    gained = Counter(part for _, part in new) - Counter(part for _, part in old)
    gained = gained if len(new) > len(old) else Counter()  # a changed section is not a new one
    said = [
        *((line, "this frozen section was changed or removed") for line, part in old if lost[part]),
        *((line, "a frozen section was added or repeated") for line, part in new if gained[part]),
    ]
    if not said and [part for _, part in old] != [part for _, part in new]:
        said = [(old[0][0], "the frozen sections were reordered")]
    return said


def _entries(head: str) -> dict[str, _Entry]:
    """The frontmatter's keys in order.

    Raises:
        ReadError: Not a YAML mapping; with the line in the file.
    """
    inner = "".join(_lines(head)[1:-1])
    try:
        found = documents.pairs(documents.compose(inner))
    except ReadError as error:
        raise ReadError(f"frontmatter: {error.text}", line=error.line + 1) from error
    starts = [key.start_mark.index for key, _ in found.values()] + [len(inner)]
    return {
        name: _Entry(key.start_mark.line + 2, entry, inner[start:end])
        for (name, (key, entry)), (start, end) in zip(found.items(), pairwise(starts), strict=True)
    }


def _frontmatter_changes(
    before: str, after: str, *, freeze: Collection[str], is_skill: bool
) -> list[Fault]:
    old_head, new_head = split_frontmatter(before)[0], split_frontmatter(after)[0]
    if old_head == new_head or not (is_skill or freeze):
        return []
    if is_skill and not new_head:
        return [(1, "the frontmatter was removed")]
    try:
        old = _entries(old_head) if old_head else {}
        new = _entries(new_head) if new_head else {}
    except ReadError as error:
        return [(1, f"the frontmatter was changed and cannot be compared ({error.text})")]
    return [
        (_line(name, new, old), f"the frontmatter key '{name}' may not change")
        for name in {**old, **new}
        if _is_frozen(name, freeze=freeze, is_skill=is_skill) and _differs(name, old, new)
    ]


def _is_frozen(name: str, *, freeze: Collection[str], is_skill: bool) -> bool:
    return name in freeze or (is_skill and (name in ALWAYS_FROZEN or name not in KNOWN))


def _differs(name: str, old: Mapping[str, _Entry], new: Mapping[str, _Entry]) -> bool:
    return name not in old or not old[name].same(new.get(name))


def _line(name: str, *places: Mapping[str, _Entry]) -> int:
    return next(place[name].line for place in places if name in place)


def _frontmatter_faults(text: str, *, folder: str) -> list[Fault]:
    head, body = split_frontmatter(text)
    if not head:
        opened = bool(text) and _lines(text)[0].rstrip() == _FENCE
        return [(1, f"the frontmatter is not {'closed' if opened else 'there'}: add a '---' line")]
    try:
        entries = _entries(head)
    except ReadError as error:
        return [(error.line, error.text)]
    faults = [(1, f"'{key}' is missing") for key in ("name", "description") if key not in entries]
    for key, entry in entries.items():
        faults += [(entry.line, said) for said in _key_faults(key, entry.node, folder=folder)]
    return faults + _second_frontmatter(body, after=head)


def _second_frontmatter(body: str, *, after: str) -> list[Fault]:
    """Another one right below, which some readers would take; a thematic break is not one."""
    start = len(body) - len(body.lstrip())
    try:
        found = _entries(split_frontmatter(body[start:])[0])
    except ReadError:
        return []
    return [((after + body[:start]).count("\n") + 1, "a second frontmatter")] if found else []


def _key_faults(key: str, node: yaml.Node, *, folder: str) -> list[str]:
    if key == "name":
        return _name_faults(_scalar(node), folder=folder)
    if key == "description":
        return _length_faults(key, _scalar(node), at_most=MAX_DESCRIPTION)
    if key == "compatibility":
        return _length_faults(key, _scalar(node), at_most=MAX_COMPATIBILITY)
    is_right, wanted = _SHAPES.get(key, (_is_anything, ""))
    return [] if is_right(node) else [f"'{key}' must be {wanted}"]


def _scalar(node: yaml.Node) -> str | None:
    """What was typed: the format has no numbers or booleans."""
    return str(node.value).strip() if isinstance(node, yaml.ScalarNode) else None


def _is_text_mapping(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and all(
        isinstance(part, yaml.ScalarNode) for entry in node.value for part in entry
    )


def _is_text_or_list(node: yaml.Node) -> bool:
    parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return all(isinstance(part, yaml.ScalarNode) for part in parts)


def _is_text(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode)


def _is_anything(_: yaml.Node) -> bool:
    return True


_SHAPES: Final[Mapping[str, tuple[Callable[[yaml.Node], bool], str]]] = {
    "license": (_is_text, "text"),
    "metadata": (_is_text_mapping, "a mapping of text to text"),
    "allowed-tools": (_is_text_or_list, "text or a list of texts"),
}


def _name_faults(name: str | None, *, folder: str) -> list[str]:
    if name is None or not _NAME.match(name) or len(name) > MAX_NAME:
        return [
            f"'name' must be 1 to {MAX_NAME} of a-z, 0-9 and single hyphens, none first or last"
        ]
    if folder and name != folder:
        return [f"'name' is '{name}' but the folder is '{folder}': they must be the same"]
    return []


def _length_faults(key: str, text: str | None, *, at_most: int) -> list[str]:
    if text and len(text) <= at_most:
        return []
    given = "something else" if text is None else str(len(text))
    return [f"'{key}' must be text of 1 to {at_most} characters, not {given}"]
