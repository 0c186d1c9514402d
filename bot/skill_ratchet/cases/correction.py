"""Makes a correction out of what a person said, whichever way they said it.

What was said is data: secrets are taken out of it before anything is kept, and it becomes a case
only by the rules of ``core.golden``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from skill_ratchet.base.redact import Cleaner
from skill_ratchet.cases import batch, correction_text
from skill_ratchet.cases.correction_text import FaultyError
from skill_ratchet.core import leaks
from skill_ratchet.core.golden import UNNAMED, input_digest
from skill_ratchet.core.records import Correction
from skill_ratchet.project import fixtures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from skill_ratchet.cases.correction_text import Given
    from skill_ratchet.core.records import Digest, Fixture, Trace, Via
    from skill_ratchet.project.config import SkillConfig


class GivenBy(NamedTuple):
    """Who gave a correction, who let it in, where and when.

    ``anew`` is where it was said again; that counts if somebody has said no to it before.
    """

    author: str
    let_in_by: str | None
    at: datetime
    link: str | None
    via: Via
    anew: str = ""


class Claim(NamedTuple):
    """What a correction is about, as far as it was said or is known of a trace."""

    case: Fixture  # unnamed, and taken for a held-out one until its side is found
    output: str | None
    why: str | None
    version: Digest | None
    redacted: int  # secrets

    @property
    def asked(self) -> Digest:
        """Names the input."""
        return input_digest(self.case)


def of_text(given: Given, *, skill: SkillConfig, redact: tuple[str, ...]) -> Claim:
    """What a person said, whole.

    Args:
        given: From ``core.corrections``.
        skill: Whose scorer says what an expectation is.
        redact: Variables whose values are secrets, besides those that look so.

    Raises:
        FaultyError: Something is missing, or is no case.
    """
    correction_text.require(given)
    said = given.parts["input"]
    turns = correction_text.conversation(said)
    context = given.text("context")
    values = {"input": said.text if turns is None else turns}
    values |= {} if context is None else {"context": context}
    output = given.text("answered")
    return _said(given, values, skill, redact, output=output, version=None)


def of_trace(
    given: Given, trace: Trace, case: Fixture, *, skill: SkillConfig, redact: tuple[str, ...]
) -> Claim:
    """What a person said of a run: its case and its answer, and what they expect.

    Raises:
        FaultyError: As ``of_text``; or they said anew what the run has.
    """
    if {"input", "context", "answered"} & given.parts.keys():
        raise FaultyError(["the trace has the input and the answer: say 'Expected:' and 'Why:'"])
    if given.text("expected") is None:
        raise FaultyError(["'Expected:' is missing or empty"])
    shown = case.model_dump(mode="json", include={"input", "context", "scorer"})
    values = {key: value for key, value in shown.items() if value is not None}
    version = trace.key.skill if trace.key else None
    return _said(given, values, skill, redact, output=trace.reply.text, version=version)


def case_of(trace: Trace | None, cases: Sequence[Fixture]) -> Fixture | None:
    """The train case that a run was of, if it is still as it was."""
    if trace is None or trace.key is None or trace.split != "train":
        return None
    named = (trace.fixture, trace.key.fixture)
    train = (one for one in cases if one.split == "train")
    return next((one for one in train if (one.id, one.digest) == named), None)


def _said(
    given: Given,
    values: Mapping[str, Any],
    skill: SkillConfig,
    redact: tuple[str, ...],
    *,
    output: str | None,
    version: Digest | None,
) -> Claim:
    scorer = values.get("scorer") or skill.scorer
    as_json = isinstance(scorer, dict) and scorer.get("type") == "json"
    cleaner = Cleaner.of_environ(redact)
    expected = cleaner.walk(correction_text.value(given.parts["expected"], as_json=as_json))
    output = cleaner.walk(output)
    why = cleaner.walk(given.text("why"))
    if output is not None and correction_text.same(output, expected):
        raise FaultyError(["'Expected:' says what was answered, so there is nothing to correct"])
    named = {"id": UNNAMED, "expected": expected, "source": "correction"}
    try:
        case = fixtures.build({**cleaner.walk(dict(values)), **named}, split="holdout")
    except fixtures.CaseError as error:
        raise FaultyError([text for _, text in error.faults]) from error
    return Claim(case, output, why, version, cleaner.count)


def name(said: Claim, source: GivenBy, *, skill: str) -> Digest:
    """The id that the correction has."""
    expected = said.case.expected
    return Correction.name(skill=skill, asked=said.asked, expected=expected, link=source.link)


def record(said: Claim, home: Fixture, source: GivenBy, *, skill: str) -> Correction:
    """The correction, for the ledger; ``home`` is the case that it makes, or is like."""
    return Correction(
        id=name(said, source, skill=skill),
        skill=skill,
        version=said.version,
        fixture=home.id,
        split=home.split,
        input=said.case.input,
        context=said.case.context,
        output=said.output,
        expected=said.case.expected,
        why=said.why,
        author=source.author,
        at=source.at.isoformat(timespec="microseconds"),
        link=source.link,
        via=source.via,
        let_in_by=source.let_in_by,
    )


def repeats_sealed(kept: Correction, cases: Sequence[Fixture], *, skill_text: str) -> bool:
    """Whether a train correction's reason repeats held-out cases: a proposer would read it."""
    if kept.split != "train" or not kept.why:
        return False
    train = [*(one for one in cases if one.split == "train"), batch.case_of(kept)]
    known = [one.with_(correction=None) for one in train]
    sealed = [one for one in cases if one.split != "train"]
    return bool(leaks.found(kept.why, incumbent=skill_text, train=known, holdout=sealed))
