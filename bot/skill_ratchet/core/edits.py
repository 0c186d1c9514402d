"""Edit operations on one text, and the guard that keeps a change inside one file."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import AddLines, Edit, Record, Replace, Rewrite

if TYPE_CHECKING:
    from collections.abc import Sequence

Operation = Literal["add", "replace", "rewrite"]
MAX_BYTES = 1_000_000  # of the edited file, in UTF-8; more is not a skill

# What a reader of a diff cannot see: bidirectional controls (CVE-2021-42574), zero-width and
# other default-ignorable characters, tag characters and variation selectors (hidden text).
# Joiners between two non-ASCII characters and a selector behind a character are how Persian,
# Indic scripts and emoji are written, so those stay.
_INVISIBLE = (  # compiled when it is first used: that takes as long as a git process
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
    "|(?<![0-9#*\u00a9-\U0010ffff])[\ufe0e\ufe0f]"
    "|(?<=[\ufe0e\ufe0f])[\ufe0e\ufe0f]|(?<=[\u200c\u200d])[\u200c\u200d\ufe0e\ufe0f]"
)
_CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]|\r(?!\n)"
_UNSEEN = f"{_CONTROL}|{_INVISIBLE}"
_LINES_NAMED = 10  # of an ambiguous anchor, in its message
_REGULAR_FILE = ("100644", "100755")


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


class EditProblem(StrEnum):
    """Why a proposal's edits cannot be applied."""

    NO_EDITS = "no_edits"
    NOT_ALLOWED = "not_allowed"
    NOT_FOUND = "not_found"
    AMBIGUOUS = "ambiguous"
    OVERLAP = "overlap"
    NO_CHANGE = "no_change"
    TOO_LONG = "too_long"
    TOO_MANY_LINES = "too_many_lines"
    CONTROL_CHARACTER = "control_character"
    INVISIBLE_CHARACTER = "invisible_character"


class EditError(RatchetError):
    """Edits that cannot be applied; ``code`` says why and ``message`` says where."""

    def __init__(self, code: EditProblem, message: str) -> None:
        super().__init__(message)
        self.code = code


class Limits(Record):
    """How wide one proposal may be, and how much of the evidence its proposer sees.

    ``max_lines`` bounds added plus removed lines, ``max_chars`` the length of the edited text
    (one that was longer may still be shortened), ``traces_shown`` the failing traces shown whole.
    ``restart`` allows edits of an earlier accepted text instead of the incumbent's.
    """

    operations: tuple[Operation, ...] = ("add", "replace")
    max_lines: int = Field(default=12, ge=1)
    max_chars: int = Field(default=MAX_BYTES, ge=1)
    traces_shown: int = Field(default=5, ge=0)
    restart: bool = False


class Change(Record):
    """One entry of a tree diff: git's octal modes (``000000`` for absent) and status letter."""

    path: str
    old_mode: str
    new_mode: str
    status: str


class _Span(NamedTuple):
    """Characters ``start`` to ``end`` of the original text become ``new``."""

    start: int
    end: int
    new: str


def apply(text: str, edits: Sequence[Edit], *, limits: Limits, incumbent: str | None = None) -> str:
    """The text with all edits made at once, each of them referring to the original text.

    Lines outside the edits, the newline style and the final newline stay as they were.

    Args:
        text: The original.
        edits: What to do to it.
        limits: How much that may be.
        incumbent: What the result would replace, if that is not ``text``. Then the change is
            measured from it, and there need be no edits.

    Raises:
        EditError: An edit does not fit the text or the limits, or the result has control or
            invisible characters that what it replaces does not have.
    """
    if edits or incumbent is None:
        _check_operations(edits, limits)
    newline = "\r\n" if 2 * text.count("\r\n") > text.count("\n") else "\n"
    body = text if not text or text.endswith("\n") else text + newline
    spans = sorted((_span(body, edit, newline) for edit in edits), key=lambda span: span[:2])
    _check_overlap(body, spans)
    result = _final_newline(text, _splice(body, spans), newline)
    _check_result(text if incumbent is None else incumbent, result, limits)
    return result


def changed_lines(before: str, after: str) -> int:
    """Lines added plus lines removed, the fewest that turn one text into the other."""
    old, new = _lines(before), _lines(after)
    return len(old) + len(new) - 2 * _common_lines(old, new)


def unified_diff(before: str, after: str, *, path: str) -> str:
    """The change as a patch ``git apply`` takes; empty when nothing changed."""
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{path}", f"b/{path}")
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def check_paths(changes: Sequence[Change], *, allowed: str) -> list[str]:
    """What is wrong with a tree diff that may do one thing: modify the regular file ``allowed``.

    Returns:
        One sentence for each objection; empty when the diff does that and nothing else.
    """
    if not changes:
        return ["the diff changes no file"]
    if _is_unsafe(allowed):
        return [f"{allowed!a} is not a path that may be edited"]
    counts = Counter(change.path for change in changes)
    repeated = [f"{path!a} is listed {n} times" for path, n in counts.items() if n > 1]
    found = [_objection(change, allowed) for change in changes]
    return repeated + [objection for objection in found if objection]


def _check_operations(edits: Sequence[Edit], limits: Limits) -> None:
    if not edits:
        raise EditError(EditProblem.NO_EDITS, "the proposal has no edits")
    for number, edit in enumerate(edits, 1):
        if edit.op not in limits.operations:
            allowed = ", ".join(limits.operations)
            raise EditError(
                EditProblem.NOT_ALLOWED,
                f"edit {number}: the operation '{edit.op}' is not allowed now (allowed: {allowed})",
            )
    if len(edits) > 1 and any(isinstance(edit, Rewrite) for edit in edits):
        raise EditError(EditProblem.OVERLAP, "a rewrite must be the only edit of its proposal")


def _span(body: str, edit: Edit, newline: str) -> _Span:
    if isinstance(edit, AddLines):
        new = _with_newline(edit.lines, newline)
        if not new.endswith("\n"):
            new += newline
        at = len(body) if edit.after is None else _line_end(body, edit.after)
        return _Span(at, at, new)
    if isinstance(edit, Replace):
        start, end = _only_match(body, edit.old)
        return _Span(start, end, _with_newline(edit.new, newline))
    return _Span(0, len(body), _with_newline(edit.text, newline))


def _line_end(body: str, anchor: str) -> int:
    """Where the one line equal to ``anchor`` ends, its newline included."""
    wanted, at, found = _bare(anchor), 0, []
    for line in _lines(body):
        if _bare(line) == wanted:
            found.append((at, at + len(line)))
        at += len(line)
    _expect_one(body, [start for start, _ in found], f"the line {_quote(wanted)}")
    return found[0][1]


def _only_match(body: str, old: str) -> tuple[int, int]:
    """Where ``old`` occurs, whichever way its lines end; overlapping occurrences count too."""
    lines = old.replace("\r\n", "\n").split("\n")
    pattern = r"(?:\r\n|(?<!\r)\n)".join(map(re.escape, lines))
    found = [match.span(1) for match in re.finditer(f"(?=({pattern}))", body)]
    _expect_one(body, [start for start, _ in found], _quote(old))
    return found[0]


def _expect_one(body: str, found: list[int], what: str) -> None:
    """Refuse none and more than one; ``found`` are offsets in ``body``."""
    if not found:
        raise EditError(EditProblem.NOT_FOUND, f"{what} is not in the text")
    if len(found) > 1:
        lines = [str(body.count("\n", 0, at) + 1) for at in found[:_LINES_NAMED]]
        more = ", ..." if len(found) > _LINES_NAMED else ""
        raise EditError(
            EditProblem.AMBIGUOUS,
            f"{what} is in the text {len(found)} times (lines {', '.join(lines)}{more});"
            " it must be there once",
        )


def _check_overlap(body: str, spans: Sequence[_Span]) -> None:
    for left, right in pairwise(spans):
        # Lines put exactly where a replacement ends must not be glued to its last line.
        touches = left.start < right.start == right.end == left.end
        if right.start < left.end or (touches and not left.new.endswith("\n")):
            line = body.count("\n", 0, right.start) + 1
            raise EditError(EditProblem.OVERLAP, f"two edits overlap at line {line}")


def _splice(body: str, spans: Sequence[_Span]) -> str:
    parts, at = [], 0
    for span in spans:
        parts += [body[at : span.start], span.new]
        at = span.end
    return "".join([*parts, body[at:]])


def _final_newline(text: str, result: str, newline: str) -> str:
    if text and not text.endswith("\n"):
        return result.rstrip("\r\n")
    return result if not result or result.endswith("\n") else result + newline


def _check_result(text: str, result: str, limits: Limits) -> None:
    if _with_newline(result, "\n") == _with_newline(text, "\n"):
        raise EditError(EditProblem.NO_CHANGE, "the edit changes nothing")
    if len(text) <= len(result) > limits.max_chars or len(_utf8(result)) > MAX_BYTES:
        most = f"{limits.max_chars:,} characters and {MAX_BYTES:,} bytes"
        if len(text) > limits.max_chars:
            most += f"; it has {len(text):,} characters now and may only get shorter"
        raise EditError(
            EditProblem.TOO_LONG, f"the text would have {len(result):,} characters (most: {most})"
        )
    _check_characters(text, result, _pattern(_CONTROL), EditProblem.CONTROL_CHARACTER)
    _check_characters(text, result, _pattern(_INVISIBLE), EditProblem.INVISIBLE_CHARACTER)
    lines = changed_lines(text, result)
    if lines > limits.max_lines:
        raise EditError(
            EditProblem.TOO_MANY_LINES,
            f"the edit changes {lines} lines, added plus removed (most: {limits.max_lines})",
        )


def _check_characters(text: str, result: str, bad: re.Pattern[str], code: EditProblem) -> None:
    """Refuse a result with more of a bad character than the original text had."""
    new = Counter(bad.findall(result)) - Counter(bad.findall(text))
    if new:
        name = ", ".join(f"U+{ord(c):04X} {unicodedata.name(c, '')}".strip() for c in sorted(new))
        kind = code.value.replace("_", " ")
        raise EditError(code, f"the edit brings in {kind}s: {name}")


def _objection(change: Change, allowed: str) -> str | None:
    path, modes = change.path, (change.old_mode, change.new_mode)
    if path != allowed:
        return f"{path!a} {_foreign(path, allowed)}; only {allowed!a} may be edited"
    if change.status != "M":
        return f"{path!a} has status {change.status!a}; it may only be modified (M)"
    if not set(modes) <= set(_REGULAR_FILE):
        return f"{path!a} is not a regular file (modes {modes[0]} and {modes[1]})"
    if modes[0] != modes[1]:
        return f"{path!a} changes its mode from {modes[0]} to {modes[1]}"
    return None


def _foreign(path: str, allowed: str) -> str:
    if _is_unsafe(path):
        return "is not a plain relative path"
    if folded(path) == folded(allowed):
        return "differs from the skill's path in case or Unicode form alone"
    return "is outside the search space"


def _is_unsafe(path: str) -> bool:
    parts = path.split("/")
    hidden = not path.isprintable() or "\\" in path or _pattern(_INVISIBLE).search(path)
    return bool(hidden) or any(p in ("", ".", "..") or folded(p) == ".git" for p in parts)


def unseen(text: str) -> list[str]:
    """The control and invisible characters of a text, in their order."""
    return [char for found in _pattern(_UNSEEN).finditer(text) for char in found[0]]


def folded(path: str) -> str:
    """One spelling for all paths that a file system may take for the same file."""
    seen = _pattern(_INVISIBLE).sub("", path)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return "/".join(part.rstrip(". ") or part for part in folded.split("/"))


def _lines(text: str) -> list[str]:
    """Lines with their endings, as git counts them: only a line feed ends one."""
    *whole, rest = text.split("\n")
    return [f"{line}\n" for line in whole] + ([rest] if rest else [])


def _common_lines(old: Sequence[str], new: Sequence[str]) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyro 2004): never quadratic."""
    where: dict[str, int] = defaultdict(int)
    for at, line in enumerate(old):
        where[line] |= 1 << at
    every = row = (1 << len(old)) - 1
    for line in new:
        match = row & where.get(line, 0)
        row = ((row + match) | (row - match)) & every
    return len(old) - row.bit_count()


def _with_newline(text: str, newline: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", newline)


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _quote(text: str, most: int = 80) -> str:
    return ascii(text) if len(text) <= most else f"{text[:most]!a}..."
