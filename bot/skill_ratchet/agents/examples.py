"""Corrections become worked examples in the skill, with no model."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from skill_ratchet.core import edits
from skill_ratchet.core.records import AddLines, Proposal, canonical_json, digest
from skill_ratchet.project import worked
from skill_ratchet.project.worked import Worked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pydantic import JsonValue

    from skill_ratchet.core.records import Trace

HEADING = "## Examples"
MOST = 8  # examples one proposal adds; more labels than that take turns
LONGEST = 2_000  # characters of an input or output worth showing in a skill
TRIES = 200  # selections looked at before there is taken to be no new one

_LIMITS = edits.Limits(operations=("add",), max_lines=edits.MAX_BYTES)


class _Case(NamedTuple):
    """A failing trace as an example."""

    trace: Trace
    example: Worked


def propose(
    *,
    skill_text: str,
    failing: Sequence[Trace],
    past: Collection[str],
    per_label: int,
    seed: int,
    max_chars: int = edits.MAX_BYTES,
) -> Proposal | None:
    """Add one worked example for each label that has failures, chosen at random.

    What is expected is the answer shown; a case without it shows its correction. The same
    arguments always give the same proposal.

    Args:
        skill_text: The incumbent.
        failing: Train traces that scored below 1.
        past: Digests of candidate texts already tried; none of them is proposed again.
        per_label: Most examples of a label that the skill may come to have.
        seed: Varies which are chosen.
        max_chars: Longest the skill may become.

    Returns:
        The proposal, or None when there is nothing new to add or no room for it.
    """
    limits = _LIMITS.with_(max_chars=max_chars)
    open_cases = _open_cases(skill_text, failing, per_label=per_label)
    for attempt in range(TRIES if open_cases else 0):
        chosen = _choose(open_cases, seed=seed, attempt=attempt)
        edit = _edit(skill_text, [case.example for case in chosen])
        candidate = _applied(skill_text, edit, limits)
        if candidate is not None and digest("skill", candidate) not in past:
            return _proposal(chosen, edit)
    return None


def _open_cases(
    skill_text: str, failing: Sequence[Trace], *, per_label: int
) -> dict[str, list[_Case]]:
    """The cases that could be added, by answer, those of answers with room left."""
    shown = worked.split(skill_text)[1]
    used = Counter(example.output for example in shown)
    inputs = {example.input for example in shown}
    cases: dict[str, list[_Case]] = defaultdict(list)
    for trace in sorted(failing, key=lambda one: (one.fixture, one.id)):
        case = _case(trace)
        if case and case.example.input not in inputs and used[case.example.output] < per_label:
            inputs.add(case.example.input)
            cases[case.example.output].append(case)
    return dict(cases)


def _case(trace: Trace) -> _Case | None:
    """The trace as an example; None when it has no answer or cannot stand in a skill."""
    example = Worked(worked.one_line(trace.fixture_input), worked.one_line(_answer(trace)))
    if not all(0 < len(text) <= LONGEST for text in example):
        return None
    fits = _applied("", AddLines(lines=str(example)), _LIMITS) is not None
    return _Case(trace, example) if fits else None


def _applied(text: str, edit: AddLines, limits: edits.Limits) -> str | None:
    """The edited text; None when the edit does not apply."""
    try:
        return edits.apply(text, (edit,), limits=limits)
    except edits.EditError:
        return None


def _answer(trace: Trace) -> str:
    """An answer that would be right, or ''."""
    expected, scorer = trace.expected, trace.score.scorer if trace.score else ""
    if expected is None or scorer == "regex":  # a pattern is no answer
        return trace.correction or ""
    if isinstance(expected, list) and scorer != "json":  # whose lists are documents
        texts = [_text(one) for one in expected]
        return " ".join(texts) if scorer == "contains" else next(iter(texts), "")
    return _text(expected)


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _choose(cases: dict[str, list[_Case]], *, seed: int, attempt: int) -> list[_Case]:
    """One case a label. A set has one order, so that shuffling it is no new proposal."""
    chance = random.Random(f"{seed} {attempt}")  # noqa: S311  no secret depends on it
    labels = chance.sample(sorted(cases), min(MOST, len(cases)))
    chosen = [chance.choice(cases[label]) for label in labels]
    return sorted(chosen, key=lambda case: digest("order", seed, case.example))


def _edit(skill_text: str, examples: Iterable[Worked]) -> AddLines:
    heading = [] if HEADING in skill_text.splitlines() else [f"{HEADING}\n"]
    blocks = [*heading, *map(str, examples)]
    return AddLines(lines="".join(f"\n{block}" for block in blocks))


def _proposal(chosen: Sequence[_Case], edit: AddLines) -> Proposal:
    named = ", ".join(f"{case.trace.fixture} ({case.example.output[:40]})" for case in chosen)
    return Proposal(
        proposer="examples",
        model=None,
        hypothesis=f"Examples: {named}. Shown their right answers, the model will answer others"
        " like them better.",
        targets=tuple(case.trace.id for case in chosen),
        edits=(edit,),
    )
