"""Strict readers for text that people write: UTF-8, YAML and JSON, each fault with its line.

YAML here is the part of it that means what it says: a plain word is text unless it is written
as JSON writes a number, ``true``, ``false`` or ``null`` (or ``~``, or nothing at all). So ``no``,
``2026-01-01``, ``007`` and ``1_000`` stay what was typed.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import yaml

from skill_ratchet.base.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_DEPTH: Final = 32
SHOWN: Final = 20
BOM: Final = "\ufeff"

_TAG: Final = "tag:yaml.org,2002:"
_NUMBER: Final = r"-?(?:0|[1-9][0-9]*)"
IMPLICIT: Final = (  # tag, what is written that way, and its possible first characters
    (_TAG + "null", re.compile(r"(?:~|null|)\Z"), ["~", "n", ""]),
    (_TAG + "bool", re.compile(r"(?:true|false)\Z"), ["t", "f"]),
    (_TAG + "int", re.compile(_NUMBER + r"\Z"), list("-0123456789")),
    (
        _TAG + "float",
        re.compile(_NUMBER + r"(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?\Z"),
        list("-0123456789"),
    ),
)
_SCALARS: Final = {_TAG + name for name in ("int", "float", "bool")}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Pairs: TypeAlias = dict[str, tuple[yaml.ScalarNode, yaml.Node]]


class ReadError(ValueError):
    """What is wrong with a text, and on which line of it (1 is the first).

    ``bare`` says the same and quotes nothing of the text, for what must not be shown.
    """

    def __init__(self, text: str, *, line: int = 1, bare: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.line = line
        self.bare = text if bare is None else bare


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault in one file; ``line`` is 0 when the whole file or folder is meant."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.text}"


def report(problems: Iterable[Problem], *, hint: str | None = None) -> RatchetError:
    """One error listing the problems in order of file and line, the first 20 of them."""
    lines = [str(problem) for problem in sorted(set(problems))]
    if len(lines) > SHOWN:
        lines[SHOWN:] = [f"and {len(lines) - SHOWN} more"]
    return RatchetError("\n".join(lines), hint=hint)


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known name most like ``name``, else the names there are."""
    names = list(known)
    close = difflib.get_close_matches(name.strip().casefold(), names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"


def decode(data: bytes) -> str:
    """UTF-8 bytes as text, nothing changed.

    Raises:
        ReadError: Not UTF-8, or it contains a NUL; with the line.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ReadError(
            f"not UTF-8 text (byte 0x{data[error.start]:02x} at offset {error.start})", line=line
        ) from error
    if "\0" in text:
        raise ReadError("contains a NUL character", line=text.count("\n", 0, text.index("\0")) + 1)
    return text


class _Loader(yaml.SafeLoader):
    """Composes nodes only: no aliases, no deep nesting, JSON's idea of a number."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML declares it so; emptied to drop YAML 1.1
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node, or a refusal of what could blow up when it is expanded."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # types-pyyaml has no type
        if self.check_event(yaml.AliasEvent):
            raise ReadError("YAML aliases (*name) are not allowed", line=mark.line + 1)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ReadError(f"nested deeper than {MAX_DEPTH} levels", line=mark.line + 1)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _first in IMPLICIT:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)


def compose(text: str) -> yaml.Node | None:
    """The one YAML document in ``text`` as nodes that know their lines; None when it is empty.

    Raises:
        ReadError: Not YAML, more than one document, an alias, or nested too deeply.
    """
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ReadError(f"contains the control character {error.character!r}", line=line) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = "; ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else 1
        raise ReadError(f"not valid YAML: {said}", line=line, bare="not valid YAML") from error
    return node


def pairs(node: yaml.Node | None) -> Pairs:
    """A mapping's entries by key, each key being the text that was typed.

    Raises:
        ReadError: Not a mapping, or a key is not text or stands there twice.
    """
    if not isinstance(node, yaml.MappingNode):
        raise ReadError("not a mapping of keys to values", line=_line(node))
    found: Pairs = {}
    for key, entry in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ReadError("a key must be text", line=line)
        check_text(key.value, line=line)
        if key.value in found:
            before = found[key.value][0].start_mark.line + 1
            bare = f"a key is there twice, first on line {before}"
            text = f"key '{key.value}' is already on line {before}"
            raise ReadError(text, line=line, bare=bare)
        found[key.value] = (key, entry)
    return found


def _line(node: yaml.Node | None) -> int:
    return node.start_mark.line + 1 if node else 1


def value(node: yaml.Node) -> Any:
    """The JSON value a node stands for.

    Raises:
        ReadError: A tag that is not JSON's, a key that is not text or repeated, or a number or
            text that JSON cannot hold.
    """
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return {key: value(entry) for key, (_, entry) in pairs(node).items()}
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [value(entry) for entry in node.value]
    line = _line(node)
    if node.tag == _TAG + "str":
        return _sound(str(node.value), line=line)
    if node.tag == _TAG + "null":
        return None
    if node.tag in _SCALARS:
        return load_json(node.value, line=line)
    text = f"the YAML tag {node.tag.removeprefix(_TAG)} is not allowed"
    raise ReadError(text, line=line, bare="a YAML tag is not allowed")


def load_json(text: str, *, line: int = 1) -> Any:
    """The JSON value in ``text``, of which ``line`` is only where to say a fault is.

    Raises:
        ReadError: Not JSON, a repeated key, NaN or an infinity, nested too deeply, or text that
            is not Unicode.
    """
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_not_a_number)
    except ReadError as error:
        raise ReadError(error.text, line=line, bare=error.bare) from error
    except json.JSONDecodeError as error:
        raise ReadError(f"not valid JSON: {error.msg} (column {error.colno})", line=line) from error
    except ValueError as error:  # an integer of thousands of digits
        raise ReadError("a number is too large", line=line) from error
    except RecursionError as error:
        raise ReadError(f"nested deeper than {MAX_DEPTH} levels", line=line) from error
    return _sound(found, line=line)


def _unique(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) == len(entries):
        return found
    keys = [key for key, _ in entries]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ReadError(f"key '{twice}' is there twice", bare="a key is there twice")


def _not_a_number(name: str) -> NoReturn:
    raise ReadError(f"{name} is not a JSON number")


def _sound(found: Any, *, line: int, depth: int = 1) -> Any:
    """``found`` itself, when every part of it can be stored, sent and compared."""
    if depth > MAX_DEPTH:
        raise ReadError(f"nested deeper than {MAX_DEPTH} levels", line=line)
    if isinstance(found, dict):
        for key, entry in found.items():
            _sound(key, line=line)
            _sound(entry, line=line, depth=depth + 1)
    elif isinstance(found, list):
        for entry in found:
            _sound(entry, line=line, depth=depth + 1)
    elif isinstance(found, float) and not math.isfinite(found):
        raise ReadError("a number is too large", line=line)
    elif isinstance(found, str):
        check_text(found, line=line)
    return found


def check_text(text: str, *, line: int = 1) -> None:
    """Refuse text that cannot be stored or sent.

    Raises:
        ReadError: It contains a NUL or half of a surrogate pair.
    """
    if "\0" in text:
        raise ReadError("contains a NUL character", line=line)
    if half := _SURROGATE.search(text):
        raise ReadError(
            f"contains a lone surrogate (\\u{ord(half.group()):04x}), which is not text", line=line
        )
