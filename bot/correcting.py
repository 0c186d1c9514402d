"""Takes corrections that people give on GitHub: in a comment, or by the issue form.

What was said goes to the ledger first, and is a fixture only when the pull request with new
fixtures (``admitting``) is merged. Nothing is said of a held-out case but that there is one.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bot import admitting, answering, fixtures, skillrepo
from bot.answering import Asked
from bot.core import batch, corrections, leaks, pages, render
from bot.core.corrections import FaultyError
from bot.core.golden import UNNAMED, input_digest
from bot.core.records import Correction
from bot.core.reviews import WRITERS
from bot.errors import RatchetError
from bot.redact import Redactor, redact_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from bot.admitting import Intake
    from bot.core.corrections import Given
    from bot.core.events import Comment, Opened
    from bot.core.golden import Filed
    from bot.core.records import Digest, Fixture, Via
    from bot.forge.github import GitHub
    from bot.ledger import Ledger
    from bot.pullrequest import Published

HOW: Final = """\
Say it so, and put a text of several lines into a fence:

```text
/ratchet correct triage
Input: My card is gone
Answered: fee
Expected: lost_card
Why: It is about the card, not about money.
```"""
_NO_SUCH: Final = "There is no such skill, and no train trace with that id. There is"


class RefusedError(RatchetError):
    """Nothing was kept; the message is the answer, Markdown that was made here."""


class UnfinishedError(RatchetError):
    """The correction is kept, and the rest failed; ``said`` is the answer, made here."""

    def __init__(self, said: str, cause: RatchetError) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.said = said


class Source(NamedTuple):
    """Who gave a correction, who let it in, where and when.

    ``anew`` is where it was said again; that counts if somebody has said no to it before.
    """

    author: str
    let_in_by: str | None
    at: datetime
    link: str
    via: Via
    anew: str = ""


class _Case(NamedTuple):
    """What a correction is about, as far as it was said or is known of a trace."""

    case: Fixture
    output: str | None
    why: str | None
    version: Digest | None
    redacted: int


def from_comment(start: Path, github: GitHub, said: Comment, argument: str) -> str:
    """Take the correction of a comment, or the form of the issue that it is on.

    Returns:
        The answer, as Markdown.

    Raises:
        RefusedError: It cannot be taken.
        UnfinishedError: It is kept, and the pull request could not be brought up to date.
    """
    intake = admitting.open_intake(skillrepo.open_project(start), github)
    link = f"{github.url}/issues/{said.number}#issuecomment-{said.id}"
    source = Source(said.author, None, said.at, link, "comment")
    clerk = _Clerk(intake)
    if not argument.strip() and not said.on_pull:
        given, author = _issue(github, said)
        let_in_by = None if author == said.author else said.author
        issue = f"{github.url}/issues/{said.number}"
        return clerk.take(given, Source(author, let_in_by, said.at, issue, "issue", link))
    return clerk.take(_parsed(argument), source)


def hear_form(start: Path, github: GitHub, opened: Opened) -> str | None:
    """Take the correction of an issue that was just opened with the form, and answer.

    Returns:
        What came of it, in a few words; None when it is none of Ratchet's business.
    """
    asked = Asked(opened.number)
    try:
        given = corrections.form(opened.body)
    except FaultyError as error:
        given, faults = None, error.faults
    else:
        faults = ()
    if (given is None and not faults) or answering.answered(github, asked):
        return None
    if github.permission(opened.author) not in WRITERS:
        said = (
            "Thank you. This waits for somebody with write access, who takes it by the comment "
            "`/ratchet correct`."
        )
        answering.answer(github, asked, said, well=False, redact=_redactor())
        return "it waits for a maintainer"
    link = f"{github.url}/issues/{opened.number}"
    source = Source(opened.author, None, opened.at, link, "issue")
    try:
        if given is None:
            raise _refusal(faults)
        clerk = _Clerk(admitting.open_intake(skillrepo.open_project(start), github))
        answer = clerk.take(given, source)
    except RefusedError as refusal:
        answer = refusal.message
    except UnfinishedError as error:
        answering.answer(github, asked, error.said, well=False, redact=_redactor())
        raise
    answering.answer(github, asked, answer, well=False, redact=_redactor())
    return "answered"


def _issue(github: GitHub, said: Comment) -> tuple[Given, str]:
    """The form of the issue that a comment is on, as it was when the comment was written."""
    issue = github.opening(said.number)
    try:
        given = corrections.form(issue.body)
    except FaultyError as error:
        raise _refusal(error.faults) from error
    if given is None:
        raise RefusedError(f"Nothing stands behind the command. {HOW}")
    if issue.edited_at is not None and issue.edited_at >= said.at:
        raise RefusedError(
            "Not taken: this issue was edited after your comment. Read it, then say "
            "`/ratchet correct` again."
        )
    if not issue.is_person:
        raise RefusedError("Not taken: no person has written this issue.")
    return given, issue.author


def _parsed(argument: str) -> Given:
    if not argument.strip():
        raise RefusedError(f"Nothing stands behind the command. {HOW}")
    try:
        return corrections.parse(argument)
    except FaultyError as error:
        raise _refusal(error.faults) from error


@dataclass(frozen=True, slots=True)
class _Clerk:
    """One correction on its way to the ledger and the branch."""

    intake: Intake

    def take(self, given: Given, source: Source) -> str:
        """Keep a correction, bring it to the pull request, and say what became of it."""
        self.intake.hear()
        skill, about = self._about(given)
        ledger = self.intake.ledger(skill)
        name = _name(skill, about, source)
        no = {one for past in ledger.settled() if not past.merged for one in past.corrections}
        if name in no and source.anew:
            source = source._replace(link=source.anew)
            name = _name(skill, about, source)
        known = {one.id for one in ledger.corrections()}
        filed = self._filed(skill, about, ledger, name)
        kept = _correction(name, skill, about, filed, source)
        if name not in known:
            self._require_sound(skill, kept, filed)
            self._require_unsealed(skill, kept)
            ledger.add_correction(kept)
            self.intake.publish_ledger(ledger, f"{skill}: a correction")
        try:
            pull = self.intake.bring()
        except RatchetError as error:
            said = _told(kept, filed, None, about.redacted)
            late = "The pull request with new fixtures could not be brought up to date: the next "
            raise UnfinishedError(f"{said} {late}run tries again.", error) from error
        return _told(kept, filed, pull, about.redacted)

    def _about(self, given: Given) -> tuple[str, _Case]:
        """Whose correction it is, and of what."""
        skills = self.intake.skills()
        named = [word for word in given.words if word in skills]
        traces = [word for word in given.words if word not in skills]
        if len(named) > 1 or len(traces) > 1:
            raise RefusedError(f"Say for which skill: {_listed(skills)}.")
        if traces:
            return self._of_trace(traces[0], named or skills, given)
        if not named and len(skills) > 1:
            raise RefusedError(f"Say for which skill: {_listed(skills)}.")
        skill = (named or skills)[0]
        try:
            corrections.require(given)
            return skill, self._case(skill, given)
        except FaultyError as error:
            raise _refusal(error.faults) from error

    def _of_trace(self, name: str, skills: list[str], given: Given) -> tuple[str, _Case]:
        """The case that a run on train was of, as it is now on the base."""
        for skill in skills:
            trace = self.intake.ledger(skill).for_proposer().trace(name)
            cases = (one for one in self.intake.existing(skill) if one.split == "train")
            same = (
                one
                for one in cases
                if trace
                and trace.key
                and (one.id, one.digest) == (trace.fixture, trace.key.fixture)
            )
            if trace is not None and (case := next(same, None)) is not None:
                if {"input", "context", "answered"} & given.parts.keys():
                    raise RefusedError(
                        "Not taken: the trace has the input and the answer. Say 'Expected:' alone, "
                        "and 'Why:'."
                    )
                key = trace.key
                return skill, self._again(
                    skill, case, trace.reply.text, key.skill if key else None, given
                )
        close = difflib.get_close_matches(name, self.intake.skills(), n=1)
        meant = f" Did you mean `{close[0]}`?" if close else ""
        raise RefusedError(f"{_NO_SUCH} {_listed(self.intake.skills())}.{meant}")

    def _case(self, skill: str, given: Given) -> _Case:
        parts = given.parts
        turns = corrections.conversation(parts["input"])
        said = parts["input"].text if turns is None else turns
        context = given.text("context")
        values = {"input": said} | ({} if context is None else {"context": context})
        return self._made(skill, values, given, output=given.text("answered"), version=None)

    def _again(
        self, skill: str, case: Fixture, output: str | None, version: Digest | None, given: Given
    ) -> _Case:
        shown = case.model_dump(mode="json", include={"input", "context", "scorer"})
        values = {key: value for key, value in shown.items() if value is not None}
        if given.text("expected") is None:
            raise _refusal(("'Expected:' is missing or empty",))
        try:
            return self._made(skill, values, given, output=output, version=version)
        except FaultyError as error:
            raise _refusal(error.faults) from error

    def _made(
        self,
        skill: str,
        values: dict[str, Any],
        given: Given,
        *,
        output: str | None,
        version: Digest | None,
    ) -> _Case:
        """The case with what is expected of it; no secret gets into it."""
        scorer = values.get("scorer") or self.intake.config.skill(skill).scorer
        as_json = isinstance(scorer, dict) and scorer.get("type") == "json"
        cleaner = _Cleaner(self.intake.config.redact)
        expected = cleaner.walk(corrections.value(given.parts["expected"], as_json=as_json))
        why = cleaner.walk(given.text("why"))
        output = cleaner.walk(output)
        if output is not None and corrections.same(output, expected):
            raise FaultyError(
                ["'Expected:' says what was answered, so there is nothing to correct"]
            )
        try:
            # The side is found later; until then it is taken for a held-out one.
            case = fixtures.build(
                {
                    **cleaner.walk(values),
                    "id": UNNAMED,
                    "expected": expected,
                    "source": "correction",
                },
                split="holdout",
            )
        except fixtures.CaseError as error:
            raise FaultyError([text for _, text in error.faults]) from error
        return _Case(case, output, why, version, cleaner.count)

    def _filed(self, skill: str, about: _Case, ledger: Ledger, name: Digest) -> Filed:
        known = [one for one in ledger.corrections() if one.id != name]
        before = batch.waiting(known, settled=ledger.settled())
        return batch.find_home(
            about.case,
            after=before,
            existing=self.intake.existing(skill),
            rules=self.intake.config.feedback.rules,
        )

    def _require_sound(self, skill: str, kept: Correction, filed: Filed) -> None:
        """Refuse a case that no answer could ever score well on, where all was well before."""
        if filed.outcome != "new" or self.intake.problem(self.intake.batches(), also=skill):
            return
        problem = self.intake.problem(self.intake.batches({skill: [kept]}))
        own = f"fixture {kept.fixture}: "
        if not problem:
            return
        lines = [line for line in problem.split("\n") if line.startswith(own)]
        shown = f" {_plain(lines[0].removeprefix(own))}." if lines and kept.split == "train" else ""
        raise RefusedError(
            f"Not taken: the skill's scorer could not score a case with that 'Expected:'.{shown}"
        )

    def _require_unsealed(self, skill: str, kept: Correction) -> None:
        """Refuse a reason that repeats held-out cases, where a proposer would read it."""
        if kept.split != "train" or not kept.why:
            return
        cases = self.intake.existing(skill)
        train = [*(one for one in cases if one.split == "train"), batch.case_of(kept)]
        path = self.intake.config.skill(skill).path
        sealed = [one for one in cases if one.split != "train"]
        text = self.intake.text(self.intake.tree, path)
        known = [one.with_(correction=None) for one in train]
        if leaks.found(kept.why, incumbent=text, train=known, holdout=sealed):
            raise RefusedError(
                "Not taken: 'Why:' repeats text of held-out cases. Say it in other words."
            )


class _Cleaner:
    """Takes secrets out of texts, by their value and by their shape, and counts them."""

    def __init__(self, extra: tuple[str, ...]) -> None:
        self._redactor = Redactor.from_environ(os.environ, extra=extra)
        self._shapes = 0

    @property
    def count(self) -> int:
        """How many were taken out."""
        return self._redactor.count + self._shapes

    def walk(self, value: Any) -> Any:
        """A JSON value without secrets in its texts."""
        if isinstance(value, str):
            text, count = redact_keys(self._redactor.redact(value))
            self._shapes += count
            return text
        if isinstance(value, list):
            return [self.walk(one) for one in value]
        if isinstance(value, dict):
            return {key: self.walk(one) for key, one in value.items()}
        return value


def _name(skill: str, about: _Case, source: Source) -> Digest:
    asked, expected = input_digest(about.case), about.case.expected
    return Correction.name(skill=skill, asked=asked, expected=expected, link=source.link)


def _correction(name: Digest, skill: str, about: _Case, filed: Filed, source: Source) -> Correction:
    return Correction(
        id=name,
        skill=skill,
        version=about.version,
        fixture=filed.case.id,
        split=filed.case.split,
        input=about.case.input,
        context=about.case.context,
        output=about.output,
        expected=about.case.expected,
        why=about.why,
        author=source.author,
        at=source.at.isoformat(timespec="microseconds"),
        link=source.link,
        via=source.via,
        let_in_by=source.let_in_by,
    )


# What is said ---------------------------------------------------------------------------------


def _told(kept: Correction, filed: Filed, pull: Published | None, redacted: int) -> str:
    """The answer: what became of it, in which pull request, and what was taken out."""
    parts = [_became(kept, filed)]
    if pull is not None and pull.pull is not None:
        parts.append(_where(pull))
    if kept.let_in_by:
        parts.append(f"It is {_plain(kept.author)}'s, let in by {_plain(kept.let_in_by)}.")
    if redacted:
        what = "1 secret was" if redacted == 1 else f"{redacted} secrets were"
        parts.append(
            f"{what} taken out before anything was kept. What you wrote still shows them: edit it, "
            "and make them invalid."
        )
    return " ".join(parts)


def _became(kept: Correction, filed: Filed) -> str:
    """What became of it; of the held-out side the same whatever it is."""
    name = f"correction `{kept.id[:12]}` of skill `{kept.skill}`"
    if filed.outcome == "full":
        cap = "the skill has all the cases that `feedback.caps.correction` in ratchet.yml allows"
        return f"Kept on the ledger as {name}, and not made a fixture: {cap}."
    if kept.split != "train":
        return f"Kept for the held-out side as {name}."
    if filed.outcome == "new":
        return f"Kept as the train case `{kept.fixture}` of skill `{kept.skill}`."
    if filed.outcome == "counted":
        return f"Kept as {name}: the train case `{kept.fixture}` says the same, and counts it."
    return (
        f"Kept as {name}, and nothing was changed: the train case `{kept.fixture}` has the same "
        "input and expects something else. That is for people to decide: edit the case if it is "
        "wrong."
    )


def _where(pull: Published) -> str:
    number = f"#{pull.pull}"
    if pull.action == "merge":
        return f"{number} with new fixtures was merged."
    if pull.reason == admitting.EDITED:
        return f"{number} holds a person's work, so it waits until that is merged or closed."
    return f"New fixtures wait in {number}."


def _refusal(faults: tuple[str, ...]) -> RefusedError:
    listed = "\n".join(f"- {pages.inert(fault)}" for fault in faults)
    return RefusedError(f"Not taken, and nothing was kept:\n\n{listed}\n\n{HOW}")


def _plain(text: str) -> str:
    return pages.inert(render.one_line(pages.clean(text), 300))


def _listed(skills: list[str]) -> str:
    return ", ".join(f"`{skill}`" for skill in skills)


def _redactor() -> Callable[[str], str]:
    return Redactor.from_environ(os.environ, extra=()).redact
