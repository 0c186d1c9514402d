"""Reads fixtures: files in, records out, and every fault of every file in one error.

The format is documented in docs/fixtures.md. Nothing is half-read: either all fixtures are good
or there are none. This module touches no file; whoever calls it says how to read one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

import yaml
from pydantic import ValidationError

from skill_ratchet.base import documents
from skill_ratchet.base.documents import Problem, ReadError
from skill_ratchet.core.golden import input_digest
from skill_ratchet.core.records import Digest, Fixture, Split, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

SPLITS: Final[tuple[Split, ...]] = get_args(Split)
TRAIN: Final[tuple[Split, ...]] = ("train",)
MAX_FILE: Final = 10_000_000  # bytes
MAX_TOTAL: Final = 50_000_000  # bytes
OUTSIDE: Final = frozenset({"command", "metric", "rubric"})  # scorers that run code or a judge

_YAML: Final = frozenset({".yml", ".yaml"})
_READ: Final = _YAML | {".jsonl"}
_IMPORTABLE: Final = frozenset({".json", ".csv", ".tsv", ".ndjson"})

SHAPES: Final[Mapping[str, str]] = {
    "id": "text of letters, digits, '.', '_' and '-', at most 100, the first a letter or digit",
    "input": "text, or a list of {role: user or assistant, content: text}",
    "context": "text",
    "expected": "a JSON value",
    "scorer": "a scorer's name, or a mapping with 'type'",
    "cluster": "text",
    "tags": "a list of texts",
    "source": "authored, correction or production",
    "correction": "text",
    "author": "text",
    "date": "a day, such as 2026-01-31",
    "link": "text",
    "count": "a whole number from 1",
}


_NO_KEY: Final = f"a key that no case has (known: {', '.join(SHAPES)})"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may hold fixtures: its path, its size in bytes and how to read it."""

    path: str
    size: int
    read: Callable[[], bytes]


class CaseError(ValueError):
    """What is wrong with one case: (key, or '' for the case itself; what is wrong).

    A key that is like none of a case's is one of ``unknown``: all that is quoted of the case.
    """

    def __init__(self, faults: list[tuple[str, str]], *, unknown: Collection[str] = ()) -> None:
        super().__init__("; ".join(text for _, text in faults))
        self.faults = faults
        self.unknown = frozenset(unknown)


@dataclass(frozen=True, slots=True)
class _RawCase:
    """A case as read, before it is known to be good, and where its parts stand."""

    path: str
    split: Split
    line: int
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)

    def problem(self, text: str, *, key: str = "") -> Problem:
        return Problem(self.path, self.lines.get(key, self.line), text)


class Located(NamedTuple):
    """A fixture, the file that it is in, and the line on which what it expects stands."""

    fixture: Fixture
    path: str
    line: int


def parse(
    files: Iterable[SourceFile], *, root: str, require: Collection[Split] = TRAIN
) -> tuple[Fixture, ...]:
    """The fixtures that ``locate`` finds."""
    return tuple(one.fixture for one in locate(files, root=root, require=require))


def locate(
    files: Iterable[SourceFile], *, root: str, require: Collection[Split] = TRAIN
) -> tuple[Located, ...]:
    """All fixtures in ``files`` that lie under ``root``, ordered by split and id.

    Args:
        files: Candidates; those outside ``root``, hidden ones and other types are left alone.
        root: The folder that holds ``train/``, ``holdout/`` and perhaps ``vault/``.
        require: Splits that must have at least one fixture.

    Raises:
        RatchetError: Any fault at all, listing those of every file as ``path:line: ...``.
            What ``SourceFile.read`` itself raises passes through.
    """
    problems: list[Problem] = []
    placed = _placed(files, root=root, problems=problems)
    built = [
        (case, fixture)
        for split, file in placed
        for case in _cases(file, split=split, problems=problems)
        if (fixture := _built(case, problems)) is not None
    ]
    problems += _repeated_ids(built)
    problems += _repeated_cases(built)
    problems += _shared_inputs(built)
    problems = problems or _missing({case.split for case, _ in built}, require=require, root=root)
    if problems:
        raise documents.report(problems, hint="docs/fixtures.md describes the format.")
    ordered = sorted(built, key=lambda one: (SPLITS.index(one[1].split), one[1].id))
    return tuple(
        Located(fixture, case.path, case.lines.get("expected", case.line))
        for case, fixture in ordered
    )


def build(values: Mapping[str, Any], *, split: Split) -> Fixture:
    """One fixture out of the keys of a case.

    Raises:
        CaseError: Unknown keys, wrong types, no input, or a scorer a fixture may not choose.
    """
    known = {key: given for key, given in values.items() if key in SHAPES and given is not None}
    faults = [(key, _unknown(key)) for key in values if key not in SHAPES]
    faults += [(key, f"'{key}' is missing") for key in ("id", "input") if key not in known]
    if "scorer" in known:
        known["scorer"], refused = _scorer(known["scorer"])
        faults += [("scorer", refused)] if refused else []
    wrong, fixture = _validated({**known, "split": split})
    faults += [(key, f"'{key}' must be {SHAPES[key]}") for key in wrong if key in known]
    faults += [("input", text) for text in _input_faults(fixture)]
    if faults or fixture is None:
        raise CaseError(
            faults, unknown=[key for key in values if key not in SHAPES and not _meant(key)]
        )
    return fixture


def fixtures_digest(fixtures: Iterable[Fixture]) -> Digest:
    """Names a set of fixtures by what decides scores and how they are counted."""
    ordered = sorted(fixtures, key=lambda one: one.id)
    return digest("fixtures", [[one.id, one.digest, one.cluster] for one in ordered])


def dump_jsonl(fixtures: Iterable[Fixture]) -> str:
    """JSONL lines that read back as ``fixtures`` in a folder of their split."""
    shown = (
        one.model_dump(mode="json", exclude_defaults=True, exclude={"split"}) for one in fixtures
    )
    ordered = ({key: one[key] for key in SHAPES if key in one} for one in shown)
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in ordered)


def append_jsonl(text: str, new: Iterable[Fixture]) -> str:
    """A JSONL file's text with fixtures appended; what stands there is not touched."""
    gap = "\n" if text and not text.endswith("\n") else ""
    added = dump_jsonl(new)
    return text + gap + added if added else text


def _inside(root: str) -> str:
    return "" if root in {"", "."} else root.rstrip("/") + "/"


def _placed(
    files: Iterable[SourceFile], *, root: str, problems: list[Problem]
) -> list[tuple[Split, SourceFile]]:
    """The files to read with the split each belongs to; none when they are too large together."""
    placed: list[tuple[Split, SourceFile]] = []
    for file in files:
        where = file.path.removeprefix(_inside(root)).split("/")
        if not file.path.startswith(_inside(root)) or any(part.startswith(".") for part in where):
            continue
        kind = PurePosixPath(file.path).suffix.lower()
        split = next((name for name in SPLITS if name == where[0] and len(where) > 1), None)
        fault = _misplaced(split, kind) or _oversized(file)
        if kind not in _READ | _IMPORTABLE:
            continue
        if fault or split is None:
            problems.append(Problem(file.path, 0, fault))
        else:
            placed.append((split, file))
    total = sum(file.size for _, file in placed)
    if total > MAX_TOTAL:
        problems.append(Problem(root, 0, f"{_mb(total)} of fixtures; at most {_mb(MAX_TOTAL)}"))
        return []
    return placed


def _misplaced(split: Split | None, kind: str) -> str:
    if kind in _IMPORTABLE:
        return f"{kind} is not a fixture file; turn it into .jsonl with 'ratchet import'"
    if split is None:
        return f"not inside one of the folders {', '.join(SPLITS)}"
    return ""


def _oversized(file: SourceFile) -> str:
    if file.size <= MAX_FILE:
        return ""
    return f"{_mb(file.size)}; a fixture file has at most {_mb(MAX_FILE)}"


def _mb(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


def _cases(file: SourceFile, *, split: Split, problems: list[Problem]) -> Iterator[_RawCase]:
    """The cases of one file; what cannot be read becomes a problem."""
    try:
        text = documents.decode(file.read()).removeprefix(documents.BOM)
        if PurePosixPath(file.path).suffix.lower() in _YAML:
            yield _yaml_case(text, path=file.path, split=split)
            return
    except ReadError as error:
        problems.append(_unread(file, split, error))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _json_case(line, path=file.path, split=split, number=number)
        except ReadError as error:
            problems.append(_unread(file, split, error))


def _unread(file: SourceFile, split: Split, error: ReadError) -> Problem:
    """A fault of a file; what is held out is not quoted."""
    return Problem(file.path, error.line, error.text if split == "train" else error.bare)


def _yaml_case(text: str, *, path: str, split: Split) -> _RawCase:
    node = documents.compose(text)
    if isinstance(node, yaml.SequenceNode):
        raise ReadError("a list: write one case a file, or one case a line in a .jsonl file")
    if not isinstance(node, yaml.MappingNode):
        raise ReadError("not a case: a mapping with 'input' is wanted")
    entries = documents.pairs(node)
    lines = {key: at.start_mark.line + 1 for key, (at, _) in entries.items()}
    values = documents.value(node)
    values.setdefault("id", PurePosixPath(path).stem)
    return _RawCase(path, split, node.start_mark.line + 1, values, lines)


def _json_case(line: str, *, path: str, split: Split, number: int) -> _RawCase:
    values = documents.load_json(line, line=number)
    if not isinstance(values, dict):
        raise ReadError("not a case: an object with 'id' and 'input' is wanted", line=number)
    return _RawCase(path, split, number, values)


def _built(case: _RawCase, problems: list[Problem]) -> Fixture | None:
    try:
        return build(case.values, split=case.split)
    except CaseError as error:
        sealed = error.unknown if case.split != "train" else ()
        problems += [
            case.problem(_NO_KEY if key in sealed else text, key=key) for key, text in error.faults
        ]
        return None


def _missing(present: Collection[Split], *, require: Collection[Split], root: str) -> list[Problem]:
    text = {"holdout": "no fixtures; write the first one there (only 'ratchet propose' needs none)"}
    return [
        Problem(_inside(root) + split, 0, text.get(split, "no fixtures; write the first one there"))
        for split in require
        if split not in present
    ]


def _meant(key: str) -> bool:
    """Whether a key is one of a case's with a slip of the pen in it."""
    return documents.suggestion(key, SHAPES).startswith("; did you mean")


def _unknown(key: str) -> str:
    if key == "split":
        return "'split' is not a key: the folder decides"
    return f"unknown key '{key}'{documents.suggestion(key, SHAPES)}"


def _validated(values: Mapping[str, Any]) -> tuple[list[str], Fixture | None]:
    """The keys with wrong values, in the order of the format, or the fixture."""
    try:
        return [], Fixture.model_validate(values)
    except ValidationError as error:
        wrong = {str(fault["loc"][0]) for fault in error.errors(include_url=False)}
        return [key for key in SHAPES if key in wrong], None


def _scorer(given: Any) -> tuple[Any, str]:
    """A scorer as a mapping, and why a fixture may not have it (empty when it may)."""
    chosen = {"type": given} if isinstance(given, str) else given
    if not isinstance(chosen, dict) or not isinstance(chosen.get("type"), str):
        return None, f"'scorer' must be {SHAPES['scorer']}"
    if not chosen["type"].strip():
        return None, "'scorer' has an empty name"
    refused = sorted(_types(chosen) & OUTSIDE)
    if not refused:
        return chosen, ""
    return None, (
        f"a fixture cannot bring a '{refused[0]}' scorer: "
        "define it in ratchet.yml and write its name here"
    )


def _types(given: Any) -> set[str]:
    """Every scorer type named anywhere inside, so that none hides in a combination."""
    if isinstance(given, list):
        return set().union(*(_types(entry) for entry in given))
    if not isinstance(given, dict):
        return set()
    here = {kind.strip().casefold()} if isinstance(kind := given.get("type"), str) else set()
    return here.union(*(_types(entry) for entry in given.values()))


def _input_faults(fixture: Fixture | None) -> Iterator[str]:
    if fixture is None:
        return
    if isinstance(fixture.input, str):
        if not fixture.input.strip():
            yield "'input' is empty"
    elif not fixture.input or any(not turn.content.strip() for turn in fixture.input):
        yield "'input' has an empty message or none"
    elif fixture.input[-1].role != "user":
        yield "the last message of 'input' must be the user's: it is the one to answer"


def _repeated_ids(built: Iterable[tuple[_RawCase, Fixture]]) -> Iterator[Problem]:
    seen: dict[str, _RawCase] = {}
    for case, fixture in built:
        first = seen.setdefault(fixture.id, case)
        if first is not case:
            name = f" '{fixture.id}'" if "train" in (case.split, first.split) else ""
            text = f"id{name} is already used at {first.path}:{first.line}"
            yield case.problem(text, key="id")


def _repeated_cases(built: Iterable[tuple[_RawCase, Fixture]]) -> Iterator[Problem]:
    """The same case twice would be two independent pieces of evidence, which it is not."""
    seen: dict[tuple[str, Split], tuple[_RawCase, str]] = {}
    for case, fixture in built:
        first, name = seen.setdefault((fixture.digest, fixture.split), (case, fixture.id))
        if name != fixture.id:
            yield case.problem(
                f"the same case as at {first.path}:{first.line}, under another id", key="input"
            )


def _shared_inputs(built: Iterable[tuple[_RawCase, Fixture]]) -> Iterator[Problem]:
    """A case on both sides would let the proposer see what it is judged on."""
    seen: dict[tuple[str, Split], _RawCase] = {}
    for case, fixture in built:
        asked = input_digest(fixture)
        seen.setdefault((asked, fixture.split), case)
        for split in SPLITS:
            first = seen.get((asked, split))
            if first and split != fixture.split:
                text = f"the same input is in {split} at {first.path}:{first.line}"
                yield case.problem(text, key="input")
