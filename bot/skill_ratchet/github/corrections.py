"""Takes corrections that people give on GitHub: in a comment, or by the issue form.

What was said goes to the ledger first, and is a fixture only when the pull request with new
fixtures (``intake``) is merged. Nothing is said of a held-out case but that there is one.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases import batch, correction, correction_text
from skill_ratchet.cases.correction import GivenBy
from skill_ratchet.cases.correction_text import FaultyError
from skill_ratchet.core import markdown, wording
from skill_ratchet.core.records import digest
from skill_ratchet.github import intake as intakes
from skill_ratchet.github import pages, replies
from skill_ratchet.github.replies import Asked, RefusedError
from skill_ratchet.github.reviews import WRITERS
from skill_ratchet.project import repository

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.cases.correction import Claim
    from skill_ratchet.cases.correction_text import Given
    from skill_ratchet.core.golden import Filed
    from skill_ratchet.core.records import Correction, Digest
    from skill_ratchet.github.api import GitHub
    from skill_ratchet.github.events import NewComment, Opened
    from skill_ratchet.github.intake import Intake
    from skill_ratchet.github.pull_request import Published
    from skill_ratchet.ledger import Ledger

HOW: Final = """\
Say it so, and put a text of several lines into a fence:

```text
/ratchet correct triage
Input: My card is gone
Answered: fee
Expected: lost_card
Why: It is about the card, not about money.
```"""
_DIGITS: Final = 12
_SEEN: Final = re.compile(rf"(?:[0-9a-f]{{{_DIGITS}}})?")  # what an issue's text is called
_NO_SUCH: Final = "there is no such skill, and no train trace with that id. There is"


class UnfinishedError(RatchetError):
    """The correction is kept, and the rest failed; ``said`` is the answer, made here."""

    def __init__(self, said: str, cause: RatchetError) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.said = said


def from_comment(start: Path, github: GitHub, said: NewComment, argument: str) -> str:
    """Take the correction of a comment, or the form of the issue that it is on.

    Returns:
        The answer, as Markdown.

    Raises:
        RefusedError: It cannot be taken.
        UnfinishedError: It is kept, and the pull request could not be brought up to date.
    """
    intake = intakes.open_intake(repository.open_project(start), github)
    link = f"{github.url}/issues/{said.number}#issuecomment-{said.id}"
    source = GivenBy(said.author, None, said.at, link, "comment")
    clerk = _Registrar(intake)
    if _SEEN.fullmatch(argument) and not said.on_pull:
        given, author = _issue(github, said, seen=argument)
        let_in_by = None if author == said.author else said.author
        issue = f"{github.url}/issues/{said.number}"
        return clerk.take(given, GivenBy(author, let_in_by, said.at, issue, "issue", link))
    return clerk.take(_parsed(argument), source)


def hear_form(start: Path, github: GitHub, opened: Opened) -> str | None:
    """Take the correction of an issue that was just opened with the form, and answer.

    Returns:
        What came of it, in a few words; None when it is none of Ratchet's business.
    """
    asked = Asked(opened.number)
    faults: tuple[str, ...] = ()
    try:
        given = correction_text.form(opened.body)
    except FaultyError as error:
        given, faults = None, error.faults
    if (given is None and not faults) or replies.answered(github, asked):
        return None
    say = partial(replies.answer, github, asked, well=False)
    if github.permission(opened.author) not in WRITERS:
        say(
            "Thank you. This waits for somebody with write access, who takes it by the comment "
            "`/ratchet correct`."
        )
        return "it waits for a maintainer"
    link = f"{github.url}/issues/{opened.number}"
    source = GivenBy(opened.author, None, opened.at, link, "issue")
    try:
        if given is None:
            raise _refusal(faults)
        clerk = _Registrar(intakes.open_intake(repository.open_project(start), github))
        answer = clerk.take(given, source)
    except RefusedError as refusal:
        answer = refusal.message
    except UnfinishedError as error:
        say(error.said)
        raise
    say(answer)
    return "answered"


def _issue(github: GitHub, said: NewComment, *, seen: str) -> tuple[Given, str]:
    """The form of the issue that a comment is on, as its author has seen it.

    Args:
        github: Where.
        said: The comment.
        seen: What it calls the text; empty is enough where that was never changed.
    """
    issue = github.opening(said.number)
    try:
        given = correction_text.form(issue.body)
    except FaultyError as error:
        raise _refusal(error.faults) from error
    if given is None:
        raise RefusedError(f"nothing stands behind the command. {HOW}")
    name = digest("issue", issue.body)[:_DIGITS]
    theirs = issue.edited_at is not None and issue.author != said.author
    late = issue.edited_at is not None and issue.edited_at >= said.at
    if seen != name and (theirs or late or seen):
        when = " after your comment" if late else ""
        raise RefusedError(
            f"this issue was edited{when}. Read it as it is now, then say "
            f"`/ratchet correct {name}`, which stands for just this text."
        )
    if not issue.is_person:
        raise RefusedError("no person has written this issue.")
    return given, issue.author


def _parsed(argument: str) -> Given:
    if not argument.strip():
        raise RefusedError(f"nothing stands behind the command. {HOW}")
    try:
        return correction_text.parse(argument)
    except FaultyError as error:
        raise _refusal(error.faults) from error


@dataclass(frozen=True, slots=True)
class _Registrar:
    """One correction on its way to the ledger and the branch."""

    intake: Intake

    def take(self, given: Given, source: GivenBy) -> str:
        """Keep a correction, bring it to the pull request, and say what became of it."""
        self.intake.hear()
        skill, about = self._about(given)
        ledger = self.intake.ledger(skill)
        name = correction.name(about, source, skill=skill)
        no = {one for past in ledger.settled() if not past.merged for one in past.corrections}
        if name in no and source.anew:
            source = source._replace(link=source.anew)
            name = correction.name(about, source, skill=skill)
        filed = self._filed(skill, about, ledger, name)
        kept = correction.record(about, filed.case, source, skill=skill)
        if name not in {one.id for one in ledger.corrections()}:
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

    def _about(self, given: Given) -> tuple[str, Claim]:
        """Whose correction it is, and of what."""
        skills = self.intake.skills()
        named = [word for word in given.words if word in skills]
        traces = [word for word in given.words if word not in skills]
        unsaid = not traces and not named and len(skills) > 1
        if unsaid or len(named) > 1 or len(traces) > 1:
            raise RefusedError(f"say for which skill: {pages.names(skills)}.")
        try:
            if traces:
                return self._of_trace(traces[0], named or skills, given)
            skill = (named or skills)[0]
            config = self.intake.config
            said = correction.of_text(given, skill=config.skill(skill), redact=config.redact)
        except FaultyError as error:
            raise _refusal(error.faults) from error
        return skill, said

    def _of_trace(self, name: str, skills: list[str], given: Given) -> tuple[str, Claim]:
        """What is said of a run on train, whose case the base still has."""
        config = self.intake.config
        for skill in skills:
            trace = self.intake.ledger(skill).task_run(name)
            case = correction.case_of(trace, self.intake.existing(skill))
            if trace is not None and case is not None:
                one = config.skill(skill)
                return skill, correction.of_trace(
                    given, trace, case, skill=one, redact=config.redact
                )
        close = difflib.get_close_matches(name, self.intake.skills(), n=1)
        meant = f" Did you mean `{close[0]}`?" if close else ""
        raise RefusedError(f"{_NO_SUCH} {pages.names(self.intake.skills())}.{meant}")

    def _filed(self, skill: str, about: Claim, ledger: Ledger, name: Digest) -> Filed:
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
            f"the skill's scorer could not score a case with that 'Expected:'.{shown}"
        )

    def _require_unsealed(self, skill: str, kept: Correction) -> None:
        """Refuse a reason that repeats held-out cases, where a proposer would read it."""
        text = self.intake.text(self.intake.tree, self.intake.config.skill(skill).path)
        if correction.repeats_sealed(kept, self.intake.existing(skill), skill_text=text):
            raise RefusedError("'Why:' repeats text of held-out cases. Say it in other words.")


# What is said ---------------------------------------------------------------------------------


def _told(kept: Correction, filed: Filed, pull: Published | None, redacted: int) -> str:
    """The answer: what became of it, in which pull request, and what was taken out."""
    parts = [_became(kept, filed)]
    if pull is not None and pull.pull is not None:
        parts.append(_where(pull))
    if kept.let_in_by:
        parts.append(f"It is {_plain(kept.author)}'s, let in by {_plain(kept.let_in_by)}.")
    if redacted:
        parts.append(
            f"{wording.many(redacted, 'secret')} taken out before anything was kept. What you "
            "wrote still shows them: edit it, and make them invalid."
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
    if pull.reason == intakes.EDITED:
        return f"{number} holds a person's work, so it waits until that is merged or closed."
    return f"New fixtures wait in {number}."


def _refusal(faults: tuple[str, ...]) -> RefusedError:
    listed = "\n".join(f"- {markdown.inert(fault)}" for fault in faults)
    return RefusedError(f"nothing was kept:\n\n{listed}\n\n{HOW}")


def _plain(text: str) -> str:
    return markdown.inert(wording.one_line(markdown.clean(text), 300))
