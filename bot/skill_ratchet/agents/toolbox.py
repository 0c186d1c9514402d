"""The meta-agent's tools: they read the train side of the ledger, and change nothing.

Every result is data between markers. What is long comes in pages; a block is never shortened.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field, ValidationError

from skill_ratchet.agents.briefing import (
    corrected,
    correction_block,
    past_block,
    trace_blocks,
    trace_parts,
)
from skill_ratchet.agents.prompts import block
from skill_ratchet.core.records import Record, Trace, UnitInterval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic import JsonValue

    from skill_ratchet.agents.briefing import View
    from skill_ratchet.core.edits import Limits

PAGE = 30_000  # characters of a result; a longer block stands alone on its page
AROUND = 80  # characters shown on each side of what a search found
LONGEST = 400  # characters of a match that are shown; read_trace has the whole
SEARCHED = 500  # runs that one search goes through
SECONDS = 20.0  # a pattern may take for all blocks together
PROPOSE = "propose"


class ToolError(Exception):
    """A call that cannot be answered; the text tells the model what to do instead."""


class Library(Protocol):
    """What the tools read: the train view of the ledger has all of it."""

    def runs(self, experiment: str) -> list[Trace]:
        """An experiment's own train runs."""
        ...

    def task_runs(self, *, skip: int, most: int) -> tuple[list[Trace], int]:
        """Task runs on train, the newest first, and how many there are."""
        ...

    def trace(self, trace_id: str) -> Trace | None:
        """One task run on train, by its whole id."""
        ...

    def candidate_text(self, experiment: str) -> str | None:
        """The skill as an experiment proposed it."""
        ...


class _Paged(Record):
    page: int = Field(default=1, ge=1, description="Which page of a long result.")


class ListExperiments(_Paged):
    """Past experiments, newest first: outcome, hypothesis, diff."""


class ListCorrections(_Paged):
    """What people said should have been answered, newest first, also in cases not run yet."""

    fixture: str | None = Field(default=None, description="Only corrections of this case.")


class ListTraces(_Paged):
    """Runs with their scores: of the file as it is, or of an experiment's candidate."""

    experiment: str | None = Field(
        default=None, description="Id of a past experiment; null for the file as it is."
    )
    fixture: str | None = Field(default=None, description="Only runs of this case.")
    tag: str | None = Field(default=None, description="Only cases with this tag.")
    max_score: UnitInterval | None = Field(default=None, description="Only runs up to this score.")


class ReadTrace(_Paged):
    """One run whole: input, answer, expectation, score with reason, raw request and response."""

    # No longer than a program can be told, and Unicode, which a length without bound is not.
    id: str = Field(max_length=100, description="The trace's id.")


class SearchTraces(_Paged):
    """Where a regular expression is found in runs on record, the newest first, and around it."""

    pattern: str = Field(min_length=1, max_length=1000, description="A regular expression.")
    skip: int = Field(default=0, ge=0, description="Begin after so many of the newest runs.")


class ReadSkill(_Paged):
    """The file as it is, or as an experiment proposed it."""

    experiment: str | None = Field(default=None, description="Id of a past experiment.")


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Answers tool calls from what the proposer may know.

    Args:
        view: What the conversation began with.
        library: The train side of the ledger.
        nonce: The conversation's marker.
    """

    view: View
    library: Library
    nonce: str

    def answer(self, name: str, given: JsonValue) -> str:
        """The result of one call.

        Raises:
            ToolError: There is no such tool, the input is not what it takes, or nothing matches.
            RatchetError: The data contains the marker.
        """
        if name not in _TOOLS:
            raise ToolError(f"There is no tool {name!r}. Tools: {', '.join((*_TOOLS, PROPOSE))}.")
        kind, run = _TOOLS[name]
        try:
            wanted = kind.model_validate(given if given is not None else {})
        except ValidationError as error:
            raise ToolError(f"{name} cannot take that: {_words(error)}") from None
        return _page(run(self, wanted), wanted.page)

    def _list_experiments(self, _: Any) -> list[str]:
        if not self.view.past:
            return ["There are no past experiments."]
        return [past_block(past, nonce=self.nonce) for past in reversed(self.view.past)]

    def _list_corrections(self, wanted: ListCorrections) -> list[str]:
        groups = reversed(corrected(self.view.corrections))
        found = [one for one in groups if wanted.fixture in (None, one[0].fixture)]
        if not found:
            return ["There is no correction."]
        return [correction_block(group, nonce=self.nonce) for group in found]

    def _list_traces(self, wanted: ListTraces) -> list[str]:
        runs: Iterable[Trace] = (*self.view.failing, *self.view.passing)
        if wanted.experiment is not None:
            runs = self.library.runs(self._known(wanted.experiment))
        rows = [_row(run) for run in runs if _matches(run, wanted)]
        if not rows:
            return ["No run matches."]
        heading = "id\tcase\tside\tscore\ttags"
        pieces = _chunks(rows, PAGE // 2)
        return [block("runs", "\n".join((heading, *piece)), nonce=self.nonce) for piece in pieces]

    def _read_trace(self, wanted: ReadTrace) -> list[str]:
        known = (*self.view.failing, *self.view.passing)
        found = next((run for run in known if run.id == wanted.id), None)
        found = found or self.library.trace(wanted.id)
        if found is None:
            raise ToolError("There is no run with that id. list_traces shows the ids.")
        return trace_blocks(found, "trace", self.view, nonce=self.nonce)

    def _search_traces(self, wanted: SearchTraces) -> list[str]:
        found = _finder(wanted.pattern)
        runs, on_record = self.library.task_runs(skip=wanted.skip, most=SEARCHED)
        hits = [
            f"{run.id}\t{run.fixture}\t{name}\t{hit}"
            for run in runs
            for name, text in trace_parts(run, self.view.skill_text).items()
            if (hit := found(text)) is not None
        ]
        after = wanted.skip + SEARCHED
        older = f"{on_record - after:,} older runs were not searched: skip {after}."
        rest = [older] if after < on_record else []
        if not hits:
            nothing = "Nothing on record matches." if not wanted.skip else "No older run matches."
            return [" ".join(("None of these runs matches.", *rest)) if rest else nothing]
        heading = "id\tcase\tpart\tfound"
        pieces = _chunks(hits, PAGE // 2)
        shown = [block("found", "\n".join((heading, *piece)), nonce=self.nonce) for piece in pieces]
        return [*shown, *rest]

    def _read_skill(self, wanted: ReadSkill) -> list[str]:
        if wanted.experiment is None:
            return [block("file", self.view.skill_text, nonce=self.nonce)]
        name = self._known(wanted.experiment)
        text = self.library.candidate_text(name)
        if text is None:
            raise ToolError(f"Experiment {name} could not be applied, so it has no text.")
        return [block(f"file in experiment {name}", text, nonce=self.nonce)]

    def _known(self, experiment: str) -> str:
        """The id of a past experiment; nothing else is looked up."""
        ids = {past.id for past in self.view.past}
        if experiment not in ids:
            raise ToolError("There is no experiment with that id. list_experiments shows the ids.")
        return experiment


_TOOLS: dict[str, tuple[type[_Paged], Callable[[Toolbox, Any], list[str]]]] = {
    "list_experiments": (ListExperiments, Toolbox._list_experiments),  # noqa: SLF001 - own methods
    "list_corrections": (ListCorrections, Toolbox._list_corrections),  # noqa: SLF001
    "list_traces": (ListTraces, Toolbox._list_traces),  # noqa: SLF001
    "read_trace": (ReadTrace, Toolbox._read_trace),  # noqa: SLF001
    "search_traces": (SearchTraces, Toolbox._search_traces),  # noqa: SLF001
    "read_skill": (ReadSkill, Toolbox._read_skill),  # noqa: SLF001
}
NAMES = (*_TOOLS, PROPOSE)


def definitions(limits: Limits) -> tuple[dict[str, JsonValue], ...]:
    """The tools as JSON Schema definitions, ``propose`` last and within the limits."""
    reading = (
        {"name": name, "description": (kind.__doc__ or "").strip(), "input_schema": _schema(kind)}
        for name, (kind, _) in _TOOLS.items()
    )
    return (*reading, _propose(limits))


def in_words(limits: Limits) -> str:
    """The tools for a model that is not given them by its API."""
    lines = []
    for tool in definitions(limits)[:-1]:
        schema: Any = tool["input_schema"]
        takes = ", ".join(f"{name}: {_kind(about)}" for name, about in schema["properties"].items())
        lines.append(f"- {tool['name']}({takes}): {tool['description']}")
    return (
        "# Tools\n\nTo read more before you propose, end a reply with one JSON object like\n\n"
        '{"tool": "read_trace", "input": {"id": "..."}}\n\n'
        "and the result comes with the next message.\n\n" + "\n".join(lines)
    )


def _schema(kind: type[Record]) -> JsonValue:
    schema = kind.model_json_schema()
    return {
        "type": "object",
        "properties": {
            name: {key: value for key, value in about.items() if key != "title"}
            for name, about in schema["properties"].items()
        },
        "required": schema.get("required", []),
        "additionalProperties": False,
    }


def _kind(about: dict[str, Any]) -> str:
    return str(about.get("type") or next(one["type"] for one in about["anyOf"] if "type" in one))


def _propose(limits: Limits) -> dict[str, JsonValue]:
    text: dict[str, JsonValue] = {"type": "string"}
    fields: dict[str, JsonValue] = {"op": {"type": "string", "enum": list(limits.operations)}}
    takes = {"add": ("lines", "after"), "replace": ("old", "new"), "rewrite": ("text",)}
    for operation in limits.operations:
        fields |= dict.fromkeys(takes[operation], text)
    if "after" in fields:
        fields["after"] = {"type": ["string", "null"]}
    edit: JsonValue = {"type": "object", "properties": fields, "required": ["op"]}
    properties: dict[str, JsonValue] = {
        "hypothesis": {"type": "string", "description": "The cause, and why this removes it."},
        "targets": {
            "type": "array",
            "items": text,
            "description": "Ids of the failing traces it should fix.",
        },
        "edits": {"type": "array", "items": edit},
    }
    if limits.restart:
        properties["start"] = {"type": "string", "description": "Id of an accepted version."}
    return {
        "name": PROPOSE,
        "description": "Propose one edit of the file. This ends your work.",
        "input_schema": {
            "type": "object",
            "properties": properties,
            "required": ["hypothesis", "edits"],
        },
    }


def _page(blocks: list[str], wanted: int) -> str:
    """One page of a result; every block is whole on one page."""
    pages = ["\n\n".join(piece) for piece in _chunks(blocks, PAGE)]
    if wanted > len(pages):
        raise ToolError(f"There is no such page; the last one is {len(pages)}.")
    more = f"\n\n(page {wanted} of {len(pages)})" if len(pages) > 1 else ""
    return pages[wanted - 1] + more


def _chunks(texts: list[str], size: int) -> list[list[str]]:
    """The texts in order, in pieces of about ``size`` characters, at least one text in each."""
    pieces: list[list[str]] = []
    room = 0
    for text in texts:
        if not pieces or len(text) > room:
            pieces.append([])
            room = size
        pieces[-1].append(text)
        room -= len(text)
    return pieces


def _row(run: Trace) -> str:
    score = "none" if run.score is None else f"{run.score.value:g}"
    return f"{run.id}\t{run.fixture}\t{run.side or ''}\t{score}\t{' '.join(run.tags)}"


def _matches(run: Trace, wanted: ListTraces) -> bool:
    if wanted.max_score is not None and (run.score is None or run.score.value > wanted.max_score):
        return False
    return wanted.fixture in (None, run.fixture) and (wanted.tag is None or wanted.tag in run.tags)


def _finder(pattern: str) -> Callable[[str], str | None]:
    """A search for the first match in a text, with what stands around it.

    All searches together have ``SECONDS``.
    """
    # Heavy; re cannot be given a time limit. Its stubs are a package apart.
    import regex  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415

    try:
        compiled = regex.compile(pattern)
    except (regex.error, ValueError, RecursionError) as error:  # flags at odds, nested too deep
        raise ToolError(f"That is no regular expression: {error}") from None
    left = SECONDS

    def find(text: str) -> str | None:
        nonlocal left
        started = time.monotonic()
        try:
            found = compiled.search(text, timeout=max(left, 0.0))
        except (TimeoutError, MemoryError):
            raise ToolError(f"That pattern takes more than {SECONDS:g} s. Try another.") from None
        left -= time.monotonic() - started
        if found is None:
            return None
        start, end = max(0, found.start() - AROUND), min(found.end(), found.start() + LONGEST)
        return " ".join(text[start : end + AROUND].split())

    return find


def _words(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, detail['loc'])) or 'input'}: {detail['msg']}" for detail in details[:3]
    )
