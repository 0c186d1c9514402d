"""Scorers: how good is one answer, in [0, 1], and why.

The specs of all scorers are here, and those scorers that need nothing but the answer and the
fixture. The ones that run a program or ask a model are in `skill_ratchet.experiment.scorers`.
docs/scorers.md is the user's side of this file.

A bad answer scores 0, and so does one that a scorer cannot cope with: were it left out, whether
there is a score would depend on the answer. A scorer that could judge no answer at all raises
`ScorerError`, which is *no* score.
"""

from __future__ import annotations

import difflib
import json
import shlex
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Fixture, Record, Reply, Score

if TYPE_CHECKING:
    import regex  # type: ignore[import-untyped,unused-ignore] # its stubs are a package apart

_LONGEST_JSON = 200_000  # characters; a longer answer is not searched
_LONGEST_EDIT = 50_000  # characters; the time it takes grows with its square
_SHOWN = 80  # characters of a value quoted in a reason


class ScorerError(Exception):
    """The scorer could not judge, so there is no score (which is not a score of zero).

    ``reply`` is the judge's call when there was one: it was paid for, so it is kept.
    """

    def __init__(self, message: str, *, reply: Reply | None = None) -> None:
        super().__init__(message)
        self.reply = reply


# --- specs -----------------------------------------------------------------------------------


def _split(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


Argv = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_split)]
Pattern = Annotated[str, Field(min_length=1)]


class Exact(Record):
    """The answer equals an expected text."""

    type: Literal["exact"] = "exact"
    strip: bool = True
    ignore_case: bool = False


class Label(Record):
    """The answer names one label of a set, and it is the expected one."""

    type: Literal["label"] = "label"
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        seen: dict[tuple[str, ...], str] = {}
        for label in labels or ():
            words = _bare(label)
            if not words:
                raise ValueError(f"{label!r} has no letter or digit; use the scorer `exact`")
            if words in seen:
                raise ValueError(f"{seen[words]!r} and {label!r} cannot be told apart")
            seen[words] = label
        return labels


class Contains(Record):
    """The answer contains the expected text or texts."""

    type: Literal["contains"] = "contains"
    all: bool = True
    ignore_case: bool = True


class Regex(Record):
    """The answer matches a pattern: the spec's, or else the fixture's expected one."""

    type: Literal["regex"] = "regex"
    pattern: Pattern | None = None
    fullmatch: bool = False
    ignore_case: bool = False
    timeout: float = Field(default=1.0, gt=0, le=60)  # seconds

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _compile(pattern)
        return pattern


class Json(Record):
    """The answer is a JSON document with the expected fields."""

    type: Literal["json"] = "json"
    fields: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    tolerance: float = Field(default=0.0, ge=0)


class EditSimilarity(Record):
    """How little a person would have to change in the answer."""

    type: Literal["edit_similarity"] = "edit_similarity"


class Program(Record):
    """What every scorer that runs a program can set."""

    timeout: float = Field(default=30.0, gt=0)  # seconds
    memory_mb: int | None = Field(default=1024, ge=16)  # of address space; None for no limit


class Command(Program):
    """A program judges the answer by its exit status."""

    type: Literal["command"] = "command"
    command: Argv


class Metric(Program):
    """A number, printed by a program or standing in the answer, on a scale from low to high."""

    type: Literal["metric"] = "metric"
    command: Argv | None = None
    pattern: Pattern | None = None
    low: float
    high: float
    direction: Literal["max", "min"] = "max"

    @model_validator(mode="after")
    def _sound(self) -> Metric:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.pattern is not None and _compile(self.pattern).groups != 1:
            raise ValueError("pattern must have exactly one group, (...), around the number")
        return self


class Rubric(Record):
    """A model judges the answer by a rubric."""

    type: Literal["rubric"] = "rubric"
    rubric: str = Field(min_length=1)
    model: str | None = None


Spec = Annotated[
    Exact | Label | Contains | Regex | Json | EditSimilarity | Command | Metric | Rubric,
    Field(discriminator="type"),
]
SPECS: dict[str, type[Record]] = {
    "exact": Exact,
    "label": Label,
    "contains": Contains,
    "regex": Regex,
    "json": Json,
    "edit_similarity": EditSimilarity,
    "command": Command,
    "metric": Metric,
    "rubric": Rubric,
}
_ADAPTER: TypeAdapter[Spec] = TypeAdapter(Spec)


def parse_spec(value: str | Mapping[str, Any], *, where: str) -> Spec:
    """Read ``scorer:`` of a config or fixture; a bare name means all defaults.

    Args:
        value: The name, or a mapping with ``type`` and options.
        where: What to put before each message, as a rule ``file:line``.

    Raises:
        RatchetError: Names every wrong and every unknown option, not only the first.
    """
    options = {"type": value} if isinstance(value, str) else value
    kind = options.get("type") if isinstance(options, Mapping) else None
    if not isinstance(kind, str) or kind not in SPECS:
        told = f"unknown scorer {kind!r}{_nearest(kind, SPECS)}" if kind else "a scorer has no type"
        raise RatchetError(f"{where}: {told}", hint=f"scorers are: {', '.join(SPECS)}")
    try:
        return _ADAPTER.validate_python(dict(options))
    except ValidationError as error:
        _refuse(error, kind=kind, where=where)


def _refuse(error: ValidationError, *, kind: str, where: str) -> NoReturn:
    known = [name for name in SPECS[kind].model_fields if name != "type"]
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        name = ".".join(map(str, problem["loc"][1:]))
        if problem["type"] == "extra_forbidden":
            told = f"unknown option {name!r}{_nearest(name, known)}"
        else:
            told = f"{name}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": ")
        lines.append(f"{where}: scorer {kind}: {told}")
    raise RatchetError(
        "\n".join(lines),
        hint=f"options of {kind}: {', '.join(known) or 'none'}; see docs/scorers.md#{kind}",
    ) from None


def _nearest(name: Any, known: Mapping[str, Any] | list[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


# --- what a fixture must bring ---------------------------------------------------------------


def needs_expected(spec: Spec) -> bool:
    """Whether a fixture without ``expected`` cannot be scored by this spec."""
    if isinstance(spec, Regex):
        return spec.pattern is None
    return isinstance(spec, Exact | Label | Contains | Json | EditSimilarity)


def objection(spec: Spec, fixture: Fixture) -> str | None:
    """Why no answer to this fixture could ever be scored by this spec; None when it can be."""
    if not needs_expected(spec):
        return None
    if fixture.expected is None:
        return f"the scorer {spec.type} needs `expected`, and the fixture has none"
    if isinstance(spec, Json):
        return _json_objection(spec, fixture.expected)
    texts = _texts(fixture.expected)
    if not texts:
        return "`expected` must be a text or a list of texts (put numbers, yes and no in quotes)"
    return next(filter(None, (_text_objection(spec, text) for text in texts)), None)


def _text_objection(spec: Spec, text: str) -> str | None:
    if isinstance(spec, Contains) and not text:
        return "`expected` is empty, and every answer contains the empty text"
    if isinstance(spec, EditSimilarity) and len(text) > _LONGEST_EDIT:
        return f"`expected` is longer than {_LONGEST_EDIT:,} characters"
    if isinstance(spec, Label) and not _bare(text):
        return f"`expected` {text!r} has no letter or digit; use the scorer `exact`"
    if isinstance(spec, Label) and spec.labels and _canonical(text, spec.labels) is None:
        return f"`expected` {text!r} is not one of labels{_nearest(text, list(spec.labels))}"
    if isinstance(spec, Regex):
        try:
            _compile(text)
        except ValueError as error:
            return f"`expected`: {error}"
    return None


def _json_objection(spec: Json, expected: JsonValue) -> str | None:
    paths = [".".join(path) for path, _ in _leaves(_document(expected))]
    for field in spec.fields or ():
        if not any(_within(path, field) for path in paths):
            return f"field {field!r} is not in `expected`{_nearest(field, paths)}"
    return None


def _texts(expected: JsonValue) -> tuple[str, ...]:
    """The acceptable texts; whole numbers count as written, anything else is refused as ()."""
    items = expected if isinstance(expected, list) else [expected]
    texts = [str(item) if type(item) is int else item for item in items]
    written = tuple(text for text in texts if isinstance(text, str))
    return written if len(written) == len(texts) else ()


# --- pure scorers ----------------------------------------------------------------------------


def score_pure(spec: Spec, output: str, fixture: Fixture) -> Score:
    """Score one answer with a scorer that needs no program and no model.

    Raises:
        ScorerError: There is no score: see `objection`.
        KeyError: The spec is not one of `PURE`.
    """
    scorer = PURE[spec.type]
    if problem := objection(spec, fixture):
        raise ScorerError(problem)
    return scorer(spec, output, fixture)


def _exact(spec: Exact, output: str, fixture: Fixture) -> Score:
    def plain(text: str) -> str:
        text = text.replace("\r\n", "\n")
        return text.strip() if spec.strip else text

    texts = [plain(text) for text in _texts(fixture.expected)]
    answer = plain(output)
    if answer in texts:
        return _score(spec, 1, "is the expected text")
    if answer.casefold() in [text.casefold() for text in texts]:
        value, reason = int(spec.ignore_case), "differs from the expected text only in case"
        return _score(spec, value, reason)
    return _score(spec, 0, f"expected {_any_of(texts)}, got {_quote(answer)}")


def _label(spec: Label, output: str, fixture: Fixture) -> Score:
    wanted = _texts(fixture.expected)
    if spec.labels is None:
        return _label_alone(spec, output, wanted)
    clauses = _clauses(output, spec.labels)
    found = sorted({label for labels, _ in clauses for label in labels})
    if not found:
        return _score(spec, 0, f"names none of the labels: {_quote(output.strip())}")
    if len(found) > 1:
        return _score(spec, 0, f"ambiguous: names {' and '.join(map(_quote, found))}")
    if any(labels and words & _NEGATIONS for labels, words in clauses):
        return _score(spec, 0, f"ambiguous: {_quote(found[0])} stands beside a negation")
    if found[0] in [_canonical(text, spec.labels) for text in wanted]:
        return _score(spec, 1, f"names {_quote(found[0])}, as expected")
    return _score(spec, 0, f"expected {_any_of(wanted)}, got {_quote(found[0])}")


def _label_alone(spec: Label, output: str, wanted: tuple[str, ...]) -> Score:
    """Without the set of labels nobody knows what else the answer may name: no other words."""
    if _bare(output) in [_bare(text) for text in wanted]:
        return _score(spec, 1, "is the expected label")
    return _score(spec, 0, f"expected {_any_of(wanted)} alone, got {_quote(output.strip())}")


def _contains(spec: Contains, output: str, fixture: Fixture) -> Score:
    def plain(text: str) -> str:
        return text.casefold() if spec.ignore_case else text

    texts = _texts(fixture.expected)
    answer = plain(output)
    missing = [text for text in texts if plain(text) not in answer]
    found = len(texts) - len(missing)
    if not missing:
        return _score(spec, 1, "contains all that is expected")
    if found and not spec.all:
        return _score(spec, 1, f"contains {found} of {len(texts)} expected texts; one is enough")
    reason = f"contains {found} of {len(texts)} expected texts; missing {_list(missing)}"
    return _score(spec, found / len(texts), reason)


def _regex(spec: Regex, output: str, fixture: Fixture) -> Score:
    patterns = _texts(fixture.expected) if spec.pattern is None else (spec.pattern,)
    for pattern in patterns:
        compiled = _compile(pattern, ignore_case=spec.ignore_case)
        match = compiled.fullmatch if spec.fullmatch else compiled.search
        try:
            if match(output, timeout=spec.timeout):
                return _score(spec, 1, f"matches {_quote(pattern)}")
        except TimeoutError:
            reason = f"{_quote(pattern)} took more than {spec.timeout:g} s on {_quote(output)}"
            return _score(spec, 0, reason)  # the answer's doing: another would have been quick
    return _score(spec, 0, f"does not match {_any_of(patterns)}: {_quote(output)}")


def _json(spec: Json, output: str, fixture: Fixture) -> Score:
    expected = _document(fixture.expected)
    try:
        got = find_json(output, like=expected)
    except ValueError as error:
        return _score(spec, 0, str(error))
    matched, total, differences = 0, 0, []
    for path, want in _leaves(expected):
        name = ".".join(path)
        if spec.fields is not None and not any(_within(name, field) for field in spec.fields):
            continue
        have = _at(got, path)
        hits, size = _compare(want, have, spec.tolerance)
        matched, total = matched + hits, total + size
        if hits < size:
            label = f"{name}: " if name else ""
            differences.append(f"{label}expected {_show(want)}, got {_show(have)}")
    reason = f"{matched} of {total} values match"
    return _score(spec, matched / total, "; ".join([reason, *_at_most(differences)]))


def _edit_similarity(spec: EditSimilarity, output: str, fixture: Fixture) -> Score:
    if len(output) > _LONGEST_EDIT:
        return _score(spec, 0, f"the answer is longer than {_LONGEST_EDIT:,} characters")
    value = max(similarity(output, text) for text in _texts(fixture.expected))
    return _score(spec, value, f"{value:.1%} like the expected text")


def similarity(one: str, other: str) -> float:
    """The edit similarity of two texts, in [0, 1]: rapidfuzz's normalised Levenshtein.

    White space at the ends does not count. A text too long to compare is not like another one.
    """
    from rapidfuzz.distance import Levenshtein  # noqa: PLC0415 - heavy

    if max(len(one), len(other)) > _LONGEST_EDIT:
        return float(one == other)
    return Levenshtein.normalized_similarity(one.strip(), other.strip())


def metric_score(spec: Metric, text: str) -> Score:
    """Place the last number of ``text`` on the spec's scale; 0 when there is none in time."""
    compiled = _compile(_NUMBER if spec.pattern is None else spec.pattern)
    try:
        matches = [match.group(1) for match in compiled.finditer(text, timeout=1.0)]
    except TimeoutError:
        return _score(spec, 0, f"{_quote(spec.pattern or '')} took more than 1 s")
    if not matches:
        return _score(spec, 0, f"no number found in {_quote(text[-_SHOWN:].strip())}")
    try:
        number = float((matches[-1] or "").replace(",", ""))
    except ValueError:
        return _score(spec, 0, f"{_quote(matches[-1] or '')} is not a number")
    if number - number != 0:  # NaN or an infinity
        return _score(spec, 0, f"{number} is not a finite number")
    part = (min(max(number, spec.low), spec.high) - spec.low) / (spec.high - spec.low)
    better = "higher" if spec.direction == "max" else "lower"
    reason = f"{number:g} on the scale from {spec.low:g} to {spec.high:g}; {better} is better"
    return _score(spec, part if spec.direction == "max" else 1 - part, reason)


PURE: dict[str, Callable[[Any, str, Fixture], Score]] = {
    "exact": _exact,
    "label": _label,
    "contains": _contains,
    "regex": _regex,
    "json": _json,
    "edit_similarity": _edit_similarity,
}


# --- words -----------------------------------------------------------------------------------

_BREAK = "|"  # the end of a clause among words
_NEGATIONS = frozenset({"not", "no", "never", "neither", "nor", "cannot", "none"})
# Punctuation ends a clause unless a word goes on after it (node.js, 3.5, 10:30).
_TOKEN = r"[^\W_]+|(?P<end>[.,;:!?](?=[\W_]|$)|[()\n\u2013\u2014]|\s-\s)"  # noqa: S105 - no secret


def _words(text: str) -> list[str]:
    """Lower-case words without punctuation or emphasis, and a `_BREAK` where a clause ends."""
    import regex  # noqa: PLC0415 - heavy; its \w knows combining marks, which re's does not

    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    text = regex.sub(r"n't\b", " not", text)
    return [_BREAK if m["end"] else m[0] for m in regex.finditer(_TOKEN, text)]


def _bare(text: str) -> tuple[str, ...]:
    """The words alone: two labels with the same words are the same label."""
    return tuple(word for word in _words(text) if word != _BREAK)


def _canonical(text: str, labels: tuple[str, ...]) -> str | None:
    return next((label for label in labels if _bare(label) == _bare(text)), None)


def _clauses(text: str, labels: tuple[str, ...]) -> list[tuple[set[str], set[str]]]:
    """The labels and the other words of each clause; the longest label wins where several fit."""
    forms = {form: label for label in labels for form in (tuple(_words(label)), _bare(label))}
    lengths = sorted({len(form) for form in forms}, reverse=True)
    words = _words(text)
    clauses: list[tuple[set[str], set[str]]] = [(set(), set())]
    at = 0
    while at < len(words):
        length = next((n for n in lengths if tuple(words[at : at + n]) in forms), 0)
        if length:
            clauses[-1][0].add(forms[tuple(words[at : at + length])])
        elif words[at] == _BREAK:
            clauses.append((set(), set()))
        else:
            clauses[-1][1].add(words[at])
        at += length or 1
    return clauses


# A NaN or an infinity counts as the last number, or a run that diverged would be judged by
# whatever number stands before it. The 5 of '5s' and of '1.2.5' is no number.
_NUMBER = r"""(?xi) (?<![\w.])
    ([-+]? (?: (?: \d{1,3}(?:,\d{3})+ | \d+ ) (?:\.\d+)? (?:e[-+]?\d+)?
             | \.\d+ (?:e[-+]?\d+)? | nan | inf(?:inity)? ))
    (?! \w | [.,]\d )"""


def _compile(pattern: str, *, ignore_case: bool = False) -> regex.Pattern[str]:
    import regex  # noqa: PLC0415 - heavy

    try:
        return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)
    except regex.error as error:
        raise ValueError(f"{_quote(pattern)} is not a regular expression: {error}") from None


# --- JSON ------------------------------------------------------------------------------------

_MISSING = object()


def find_json(text: str, *, like: JsonValue) -> Any:
    """The one JSON document in an answer: all of it, its fenced block, or what prose surrounds.

    Args:
        text: The answer.
        like: A value of the kind that is looked for amid prose (an object or a list).

    Raises:
        ValueError: There is none, or more than one; the message says which, for people.
    """
    if len(text) > _LONGEST_JSON:
        raise ValueError(f"the answer is longer than {_LONGEST_JSON:,} characters")
    whole = _loads(text)
    if whole is not _MISSING:
        return whole
    blocks = [document for block in _fenced(text) if (document := _loads(block)) is not _MISSING]
    if len(blocks) > 1:
        raise ValueError("more than one JSON document in the answer")
    found = blocks[0] if blocks else _amid_prose(text, "{}" if isinstance(like, dict) else "[]")
    if found is _MISSING:
        raise ValueError(f"no single valid JSON document in the answer: {_quote(text.strip())}")
    return found


def _amid_prose(text: str, brackets: str) -> Any:
    """What stands between the first opening and the last closing bracket.

    Never an inner part of a broken document, nor one of two: those do not parse as a whole.
    """
    return _loads(text[text.find(brackets[0]) : text.rfind(brackets[1]) + 1])


def _fenced(text: str) -> Iterator[str]:
    inside: list[str] | None = None
    for line in text.splitlines():
        if not line.lstrip().startswith("```"):
            if inside is not None:
                inside.append(line)
        elif inside is None:
            inside = []
        else:
            yield "\n".join(inside)
            inside = None


def _loads(text: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)  # NaN and Infinity are not JSON

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return _MISSING


def _document(expected: JsonValue) -> JsonValue:
    """An expectation kept as JSON text (from a correction, say) is read as what it says."""
    if isinstance(expected, str):
        document = _loads(expected)
        if isinstance(document, dict | list):
            return document
    return expected


def _leaves(value: JsonValue, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value that is not itself an object with fields, and the way to it."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path, value


def _within(path: str, field: str) -> bool:
    return path == field or path.startswith(f"{field}.")


def _at(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return _MISSING
        document = document[name]
    return document


def _compare(want: Any, have: Any, tolerance: float) -> tuple[int, int]:
    """How many values match, of how many; surplus elements of a list count as mismatches."""
    if isinstance(want, list) and isinstance(have, list) and (want or have):
        return _overlap(want, have, tolerance), max(len(want), len(have))
    size = max(len(want), 1) if isinstance(want, list) else 1
    return (size if _same(want, have, tolerance) else 0), size


def _overlap(want: list[Any], have: list[Any], tolerance: float) -> int:
    """The size of the common part of two lists, whatever their order."""
    # A list ten times too long scores under a tenth, whatever is in the rest of it.
    seen = have[: 10 * len(want) + 10]
    left = list(seen)
    for value in want:
        at = next((i for i, other in enumerate(left) if _same(value, other, tolerance)), None)
        if at is not None:
            del left[at]
    return len(seen) - len(left)


def _same(want: Any, have: Any, tolerance: float) -> bool:
    if isinstance(want, bool) or isinstance(have, bool):
        return want is have
    if isinstance(want, int | float) and isinstance(have, int | float):
        return _close(want, have, tolerance)
    if isinstance(want, dict) and isinstance(have, dict):
        return bool(want) == bool(have) and all(
            name in have and _same(value, have[name], tolerance) for name, value in want.items()
        )
    if isinstance(want, list) and isinstance(have, list):
        return len(want) == len(have) == _overlap(want, have, tolerance)
    return type(want) is type(have) and want == have


def _close(want: float, have: float, tolerance: float) -> bool:
    try:
        return want == have or abs(want - have) <= tolerance
    except OverflowError:  # an integer of hundreds of digits against a float
        return False


# --- words for people ------------------------------------------------------------------------


def _score(spec: Spec, value: float, reason: str) -> Score:
    return Score(value=value, reason=reason, scorer=spec.type)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}\u2026"


def _quote(text: str) -> str:
    return repr(_short(text))


def _show(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    text = _short(json.dumps(value, ensure_ascii=False))
    return text.encode(errors="backslashreplace").decode()  # half a surrogate pair is no text


def _any_of(texts: tuple[str, ...] | list[str]) -> str:
    return " or ".join(_at_most([_quote(text) for text in texts]))


def _list(texts: list[str]) -> str:
    return ", ".join(_at_most([_quote(text) for text in texts]))


def _at_most(items: list[str], most: int = 20) -> list[str]:
    return items if len(items) <= most else [*items[:most], f"{len(items) - most} more"]
