"""Does what people ask for in comments and reviews on GitHub.

The text of a comment is looked at by ``core.commands`` and goes nowhere else but, word for word,
to the ledger when it is a reason. Who may ask is what GitHub says of their role, just now. Each
comment is acted on once: the bot's reply says that it was, and is posted before a workflow is
started, which could not be taken back.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from skill_ratchet.base import documents
from skill_ratchet.base.errors import RatchetError, faults_of
from skill_ratchet.base.redact import Redactor
from skill_ratchet.core import leaks, markdown, transfer
from skill_ratchet.github import (
    base_branch,
    commands,
    corrections,
    dashboard,
    events,
    holds,
    pages,
    publish,
    replies,
    revert,
)
from skill_ratchet.github.commands import NEEDS, PEDALS, USES, SlashCommand, Unknown
from skill_ratchet.github.pull_request import NOTE_LENGTH
from skill_ratchet.github.replies import NOT_DONE, Asked, RefusedError
from skill_ratchet.github.reviews import UNKNOWN, WRITERS
from skill_ratchet.ledger import access, remote
from skill_ratchet.project import branches, config, repository
from skill_ratchet.project.proposal import proposal_branch
from skill_ratchet.report import history

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from skill_ratchet.core.records import Experiment
    from skill_ratchet.github.api import GitHub, Pull
    from skill_ratchet.github.commands import Name
    from skill_ratchet.github.pull_request import Job, Published
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.config import Config
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace

RUN: Final = "ratchet.yml"
GATE: Final = "ratchet-gate.yml"
TRANSFER: Final = "ratchet-transfer.yml"
STALE: Final = "stale"
LARGEST: Final = 30_000_000  # bytes of an event file; GitHub sends at most 25 MB
_SHA: Final = re.compile(r"[0-9a-f]{40}")
_EXPERIMENT: Final = re.compile(r"#?[0-9a-f]{1,64}", re.IGNORECASE)
_ELSEWHERE: Final = f"{NOT_DONE} something failed. The log of this run says why."


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of an event; ``detail`` is inert, and one line."""

    command: str | None
    outcome: Literal["done", "started", "refused", "ignored"]
    detail: str


class _Response(NamedTuple):
    """What a command comes to: Markdown for the reply, and the workflow to be started, if any."""

    parts: tuple[str, ...]
    well: bool = True
    workflow: str = ""
    inputs: Mapping[str, str] = MappingProxyType({})


def read_event(
    file: str | None, *, environ: Mapping[str, str] = os.environ
) -> tuple[str, dict[str, Any]]:
    """The event's name, and the content of its file.

    Args:
        file: Instead of the one that the environment names.
        environ: Has GITHUB_EVENT_NAME and GITHUB_EVENT_PATH.

    Raises:
        RatchetError: One of them is missing, or the file is not a JSON object.
    """
    name, where = environ.get("GITHUB_EVENT_NAME"), file or environ.get("GITHUB_EVENT_PATH")
    if not name or not where:
        raise RatchetError(
            "There is no event.",
            hint="Set GITHUB_EVENT_NAME, and GITHUB_EVENT_PATH or --event FILE.",
        )
    path = Path(where)
    try:
        if path.stat().st_size > LARGEST:
            raise RatchetError(f"{path}: larger than {LARGEST:,} bytes")
        read = documents.load_json(documents.decode(path.read_bytes()))
    except OSError as error:
        raise RatchetError(f"{path}: {error.strerror}") from error
    except documents.ReadError as error:
        raise RatchetError(f"{path}:{error.line}: {error.text}") from error
    if not isinstance(read, dict):
        raise RatchetError(f"{path}: not a JSON object")
    return name, read


def handle(start: Path, *, github: GitHub, name: str, event: dict[str, Any]) -> Handled:
    """Do what an event asks for, and answer.

    Args:
        start: The project, on its base branch, with the ledger's branches.
        github: Where it happened.
        name: ``GITHUB_EVENT_NAME``.
        event: From ``read_event``.

    Raises:
        RatchetError: It could not be done, and the answer does not say why; or it is no event.
    """
    heard = events.read(name, event, repository=github.repository)
    if isinstance(heard, events.Ignored):
        return Handled(None, "ignored", heard.why)
    if isinstance(heard, events.NewReview):
        return _review(start, github, heard)
    if isinstance(heard, events.Opened):
        done = corrections.hear_form(start, github, heard)
        return Handled("correct", "done" if done else "ignored", done or "it is no new correction")
    command = commands.parse(heard.body)
    if command is None:
        return Handled(None, "ignored", "it is not a command")
    asked = Asked(heard.number, heard.id)
    told = command.name if isinstance(command, SlashCommand) else "unknown"
    if replies.answered(github, asked):
        return Handled(told, "ignored", "it was answered before")
    github.react(heard.id, "eyes")
    return _Clerk(start, github, heard, asked).serve(command, told)


# Comments -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Clerk:
    """One comment on its way to an answer."""

    start: Path
    github: GitHub
    said: events.NewComment
    asked: Asked

    def serve(self, command: SlashCommand | Unknown, told: str) -> Handled:
        """Act, answer, and say what came of it."""
        try:
            answer = self._act(command)
            if answer.workflow:
                return self._begin(answer, told)
            self._say(*answer.parts)
        except RefusedError as refusal:
            self._say(refusal.message)
            return Handled(told, "refused", " ".join(refusal.message.split()))
        except RatchetError as error:
            self._say(error.said if isinstance(error, corrections.UnfinishedError) else _ELSEWHERE)
            raise
        if answer.well:
            self.github.react(self.said.id, "rocket")
        return Handled(told, "done", "answered")

    def _say(self, *parts: str) -> None:
        """The one reply to this comment says ``parts``."""
        replies.answer(self.github, self.asked, *parts, well=False, redact=self._redact)

    def _redact(self, text: str) -> str:
        try:
            extra = self._config().redact
        except RatchetError:  # that is what has to be said
            extra = ()
        return Redactor.from_environ(os.environ, extra=extra).redact(text)

    def _begin(self, answer: _Response, told: str) -> Handled:
        """Start a workflow, after the reply that keeps it from being started twice.

        The rocket is left to the job that does the work.
        """
        branch = base_branch.name(repository.open_project(self.start))
        said = f"Asked GitHub to run `{answer.workflow}`. What comes of it will be said here."
        self._say(*answer.parts, said)
        try:
            self.github.dispatch(answer.workflow, ref=branch, inputs=answer.inputs)
        except RatchetError as error:
            self._say(*answer.parts, said := f"{NOT_DONE} {_plain(error)}")
            return Handled(told, "refused", said)
        return Handled(told, "started", answer.workflow)

    def _act(self, command: SlashCommand | Unknown) -> _Response:
        role = self.github.permission(self.said.author)
        if role == UNKNOWN:
            raise RefusedError("GitHub does not say that you may read this repository.")
        if isinstance(command, Unknown):
            shown = command.with_(word=self._redact(command.word))
            raise RefusedError(pages.unknown(shown))
        if NEEDS[command.name] == "write" and role not in WRITERS:
            raise RefusedError("that takes write access to this repository.")
        _require_alone(command)
        return _ACTS[command.name](self, command.argument)

    # What a command is about

    def _config(self) -> Config:
        project = repository.open_project(self.start)
        return config.load_config(repository.CommitTree(project, "HEAD"))

    def _pull(self) -> Pull | None:
        """The pull request that the comment is on."""
        return self.github.pull(self.said.number) if self.said.on_pull else None

    def _skill(self, argument: str) -> str:
        """The skill of the bot's pull request, or that was named, or the only one."""
        skills = sorted(self._config().skills)
        pull = self._pull()
        if pull is not None and (own := _skill_of(pull, self.github, skills)) is not None:
            if argument not in ("", own):
                raise RefusedError(f"this pull request is for skill `{own}`.")
            return own
        if argument in skills:
            return argument
        if argument:
            raise RefusedError(f"there is no such skill. There is {pages.names(skills)}.")
        if len(skills) > 1:
            raise RefusedError(f"say for which skill: {pages.names(skills)}.")
        return skills[0]

    def _stopped(self, argument: str) -> tuple[list[str], str]:
        """The skills that a brake is for, and its reason: in doubt all of them, and any word is it.

        Those are the skill of the bot's pull request, and one that the first word names.
        """
        skills = sorted(self._config().skills)
        first, _, rest = argument.partition(" ")
        named = [one for one in skills if one == first.strip("`'\",.:;")]
        pull = self._pull()
        own = _skill_of(pull, self.github, skills) if pull else None
        chosen = {*named, *([own] if own else [])}
        return sorted(chosen or skills), rest.strip() if named else argument

    def _own_pull(self) -> tuple[str, Pull]:
        """The bot's pull request that the comment is on, and its skill."""
        pull = self._pull()
        own = _skill_of(pull, self.github, self._config().skills) if pull else None
        if pull is None or own is None:
            raise RefusedError("say that on a pull request of Ratchet's.")
        return own, pull

    def _finish(self, job: Job, said: str, *, done: bool) -> _Response:
        """Answer where the pull request is closed: perhaps by the job that began to do just this.

        What that one left undone is made good.
        """
        if not done:
            raise RefusedError("this pull request is closed.")
        with _speaking(job):
            job.settle()
        return _Response((said,))

    def _job(self, skill: str) -> Job:
        return publish.open_job(self.start, github=self.github, skill=skill)

    # The commands

    def run(self, argument: str) -> _Response:
        """Start a run."""
        return self._begun(RUN, skill=self._skill(argument))

    def evaluate(self, argument: str) -> _Response:
        """Start a run that proposes nothing."""
        return self._begun(RUN, skill=self._skill(argument), attempts="0")

    def gate(self, argument: str) -> _Response:
        """Start the test of a person's pull request, at a commit that they have named."""
        pull = self._pull()
        if pull is None:
            raise RefusedError("say that on a pull request.")
        own = _skill_of(pull, self.github, self._config().skills)
        if own is not None and not self._job(own).edited():
            raise RefusedError(
                "this one is Ratchet's own and was tested. `/ratchet retry` looks again."
            )
        if pull.state != "open":
            raise RefusedError("this pull request is closed.")
        if not _SHA.fullmatch(argument):
            raise RefusedError("name the commit by all 40 digits: `/ratchet gate <sha>`.")
        if argument != pull.head_sha:
            raise RefusedError(
                f"the head of this pull request is `{pull.head_sha}`, not that commit. "
                "Look at what is there now, then ask for that."
            )
        return self._begun(GATE, pull=str(pull.number), sha=argument)

    def transfer(self, argument: str) -> _Response:
        """Start a transfer: of the bot's pull request's edit, else of the last one merged."""
        if self._redact(argument) != argument:  # before it is cut at a space
            raise RefusedError("that is not the name of a model.")
        *named, models = argument.split() or [""]
        if len(named) > 1 or not models:
            raise RefusedError("name the models: `/ratchet transfer [skill] <model,model,...>`.")
        try:
            wanted = ",".join(transfer.parse_models(models))
        except RatchetError as problem:
            raise RefusedError(_plain(problem)) from problem
        skill = self._skill(*named or [""])
        return self._begun(TRANSFER, skill=skill, models=wanted, **self._edited(skill))

    def _edited(self, skill: str) -> dict[str, str]:
        """The experiment of the bot's pull request that the comment is on, if it is on one."""
        pull = self._pull()
        if pull is None or _skill_of(pull, self.github, [skill]) is None:
            return {}
        if (experiment := self._job(skill).proposed(pull)) is None:
            raise RefusedError("the ledger has no experiment for this.")
        return {"to": experiment.id}

    def explain(self, argument: str) -> _Response:
        """The verdict and the numbers of an experiment."""
        job = self._job(self._skill(argument))
        with _speaking(job):
            one = self._experiment(job)
            told = history.explain(history.row(job.ledger, one))
        sentence, numbers = job.redact(told.sentence), job.redact(told.numbers)
        if _is_sealed(f"{sentence}\n{numbers}", job.space, ours=True):
            raise RatchetError("The explanation tells of a held-out case; it was not posted.")
        head = f"Experiment {one.number} (`{one.id[:12]}`) of skill `{job.skill}`."
        return _Response((f"{head} {markdown.inert(sentence)}", markdown.fence(numbers, "text")))

    def _experiment(self, job: Job) -> Experiment:
        """That of the bot's pull request, else the newest."""
        pull = self._pull()
        if pull is not None and _skill_of(pull, self.github, [job.skill]) is not None:
            found = job.proposed(pull)
        else:
            found = next(reversed(job.ledger.experiments()), None)
        if found is None:
            raise RefusedError("the ledger has no experiment for this.")
        return found

    def status(self, _: str) -> _Response:
        """What is under way."""
        project = repository.open_project(self.start)
        boxes = dashboard.held(self.github)
        lines: list[str] = []
        for skill in sorted(self._config().skills):
            faults: list[tuple[str, RatchetError]] = []
            with faults_of(skill, faults):
                lines.append(self._line(project, skill, boxes))
            lines += [f"- {pages.fault(skill, pages.unsealed(one.message))}" for _, one in faults]
        if repository.CommitTree(project, "HEAD").is_stopped():
            lines.append(f"The file `{repository.HOLD_FILE}` stops everything.")
        return _Response(("\n".join(lines),))

    def _line(self, project: Project, skill: str, boxes: Collection[str]) -> str:
        """One skill in a few words."""
        marker, branch = pages.marker("pull", skill), base_branch.name(project)
        pull = self.github.find_pull(marker, proposal_branch(skill), base=branch)
        waits = f"[{pull.number}]({pull.url}) is open" if pull else "nothing is open"
        held = skill in boxes or (pull is not None and holds.is_on(pull.labels))
        newest = history.rows(access.open_ledger(project, skill), most=1)
        last = "nothing was tried yet"
        if newest:
            one = newest[0]
            state = markdown.inert(self._redact(one.state))
            last = (
                f"experiment {one.experiment.number} of {one.experiment.started_at[:10]}: {state}"
            )
        return f"- `{skill}`: {waits}{', held' if held else ''}; {last}"

    def hold(self, argument: str) -> _Response:
        """Stop a skill, and the pull request that this was said on; the rest is the reason.

        Nothing is read that may be broken before what can be stopped is.
        """
        here = self._stop_here()
        try:
            skills, reason = self._stopped(argument)
        except RatchetError:
            if here is None:
                raise
            return _Response((f"{here} Which skills there are cannot be read.",), well=False)
        problems = dict(filter(None, map(self._stop, skills)))
        done = [skill for skill in skills if skill not in problems]
        if not done and here is None:
            raise RefusedError(" ".join(problems.values()))
        named = (_by_name(skill, skills) for skill in done)
        told = [
            f"`{skill}` is stopped until `/ratchet resume{name}`."
            for skill, name in zip(done, named, strict=True)
        ]
        if not done:
            told = [str(here)]
        told += [self._keep_reason(skill, reason) for skill in done if reason]
        return _Response(("\n".join(told),), well=True)

    def _stop_here(self) -> str | None:
        """Stop the open pull request that this was said on; what to say of it."""
        pull = self._pull()
        if pull is None or pull.state != "open":
            return None
        try:
            self.github.add_label(pull.number, holds.LABEL)
            self.github.cancel_merge(pull.number)
        except RatchetError:
            return None  # where it is a skill's, that is tried again, and said
        return "This pull request is stopped until `/ratchet resume`."

    def _stop(self, skill: str) -> tuple[str, str] | None:
        """Stop a skill; its name and the problem, if there is one."""
        try:
            holds.stop(self.github, skill)
        except RatchetError as error:
            return skill, _plain(RatchetError(self._redact(error.message), hint=error.hint))
        return None

    def _keep_reason(self, skill: str, reason: str) -> str:
        """Put down why a skill was stopped; where that fails it is stopped all the same."""
        try:
            job = self._job(skill)
            if problem := _unfit(reason, job.space):
                return f"The reason was not kept: {problem}"
            pull = job.pull()
            about = job.at(pull.head_sha).experiment if pull else None
            job.note(
                by=self.said.author,
                words=reason,
                url=self._url(),
                experiment=about.id if about else None,
                kind="hold",
            )
        except RatchetError:
            return "The reason could not be kept: the log of this run says why."
        return "The reason is on the ledger."

    def resume(self, argument: str) -> _Response:
        """Let a skill go on, and the pull request that this was said on."""
        parts = self._resume_here()
        if parts and not argument and len(self._config().skills) > 1:
            return _Response(parts)
        job = self._job(self._skill(argument))
        try:
            with _speaking(job):
                job.hold(held=False)
                done = job.settle()
        except RefusedError:
            if parts and not argument:
                return _Response(parts)
            raise
        return _Response((*parts, f"`{job.skill}` goes on.", _outcome(job, done)))

    def _resume_here(self) -> tuple[str, ...]:
        """Let a stopped pull request go on that proposes no edit of Ratchet's."""
        pull = self._pull()
        if pull is None or pull.state != "open":
            return ()
        if _skill_of(pull, self.github, self._config().skills) is not None:
            return ()
        if not holds.by_label(self.github, pull.number):
            return ()
        holds.take_off(self.github, pull.number)
        return ("This pull request goes on.",)

    def reject(self, argument: str) -> _Response:
        """Close a proposal, and tell the proposer why.

        It is stopped first, so that no other job merges it while this is done.
        """
        skill, pull = self._own_pull()
        if pull.state == "open":
            self.github.add_label(pull.number, holds.LABEL)
            self.github.cancel_merge(pull.number)
        if not argument:
            raise RefusedError(
                f"say why: `/ratchet reject <reason>`. The proposer reads it. {_UNTIL_THEN}"
            )
        job = self._job(skill)
        if pull.state != "open" and not self._is_half_rejected(job, pull):
            noted = any(note.url == self._url() for note in job.ledger.notes())
            return self._finish(job, "Closed; the proposer is told why.", done=noted)
        if problem := _unfit(argument, job.space):
            raise RefusedError(f"{problem} {_UNTIL_THEN}")
        with _speaking(job):
            done = job.reject(by=self.said.author, words=argument, url=self._url(), pull=pull)
        return _Response((_outcome(job, done),))

    def _is_half_rejected(self, job: Job, pull: Pull) -> bool:
        """Whether the job that closed it for a person was ended before the ledger said so."""
        remote.fetch_pull(job.space.project, pull.number)
        experiment = job.at(pull.head_sha).experiment
        result = job.ledger.result(experiment.id) if experiment else None
        closed = not pull.merged and holds.is_on(pull.labels)
        return closed and result is not None and result.action == "hold"

    def retry(self, argument: str) -> _Response:
        """Look again at what is open; start a run if there is nothing, or it is stale."""
        job = self._job(self._skill(argument))
        with _speaking(job):
            done = job.settle() if job.pull() else None
            if done is not None and done.reason != STALE:
                return _Response((_outcome(job, done),))
        begun = self._begun(RUN, skill=job.skill)
        return begun._replace(parts=(_outcome(job, done),)) if done else begun

    def merge(self, _: str) -> _Response:
        """Merge what waits for a person, if they can have seen it."""
        skill, pull = self._own_pull()
        job = self._job(skill)
        if pull.state != "open":
            return self._finish(job, "This pull request is merged.", done=pull.merged)
        with _speaking(job):
            head = remote.fetch_pull(job.space.project, pull.number)
            if (
                head != pull.head_sha
                or branches.committed_at(job.space.project, head) >= self.said.at
            ):
                raise RefusedError(
                    f"the head of this pull request, `{head}`, is newer than your "
                    "comment. Look at it, then say `/ratchet merge` again."
                )
            done = job.settle(released_by=self.said.author)
        merged, said = done.action == "merge", _outcome(job, done)
        return _Response((said if merged else f"{NOT_DONE} {said}",), well=merged)

    def revert(self, argument: str) -> _Response:
        """Take a merged experiment out again."""
        if not _EXPERIMENT.fullmatch(argument):
            raise RefusedError("name the experiment: `/ratchet revert <experiment>`.")
        job = self._job(self._skill_with(argument))
        with _speaking(job):
            done = revert.revert(job, argument, by=self.said.author)
        return _Response((_outcome(job, done),), well=done.action == "revert")

    def _skill_with(self, experiment: str) -> str:
        """The skill that has an experiment which begins so."""
        project, skills = repository.open_project(self.start), sorted(self._config().skills)
        pull = self._pull()
        own = _skill_of(pull, self.github, skills) if pull else None
        found = [
            skill
            for skill in ([own] if own else skills)
            if _has(access.open_ledger(project, skill), experiment)
        ]
        if not found:
            raise RefusedError("there is no such experiment, or several begin so.")
        if len(found) > 1:
            raise RefusedError(
                f"there is one in each of {pages.names(found)}: give more of its id."
            )
        return found[0]

    def correct(self, argument: str) -> _Response:
        """Take a correction."""
        return _Response((corrections.from_comment(self.start, self.github, self.said, argument),))

    def help(self, _: str) -> _Response:
        """The commands."""
        return _Response((pages.usage(),))

    def _begun(self, workflow: str, **inputs: str) -> _Response:
        return _Response((), workflow=workflow, inputs=inputs | {"reply": str(self.asked)})

    def _url(self) -> str:
        """Where the comment is."""
        return f"{self.github.url}/issues/{self.said.number}#issuecomment-{self.said.id}"


_ACTS: Final[dict[Name, Callable[[_Clerk, str], _Response]]] = {
    "run": _Clerk.run,
    "eval": _Clerk.evaluate,
    "gate": _Clerk.gate,
    "transfer": _Clerk.transfer,
    "explain": _Clerk.explain,
    "status": _Clerk.status,
    "hold": _Clerk.hold,
    "resume": _Clerk.resume,
    "reject": _Clerk.reject,
    "retry": _Clerk.retry,
    "merge": _Clerk.merge,
    "revert": _Clerk.revert,
    "correct": _Clerk.correct,
    "help": _Clerk.help,
}


# Reviews --------------------------------------------------------------------------------------


def _review(start: Path, github: GitHub, given: events.NewReview) -> Handled:
    """Keep what a request for changes says, and look at the pull request again."""
    if github.permission(given.author) not in WRITERS:
        return Handled("review", "ignored", "its author has no write access")
    project = repository.open_project(start)
    skills = config.load_config(repository.CommitTree(project, "HEAD")).skills
    pull = github.pull(given.number)
    skill = _skill_of(pull, github, skills)
    if skill is None or pull.state != "open":
        return Handled("review", "ignored", "it is not on an open pull request of Ratchet's")
    job = publish.open_job(start, github=github, skill=skill)
    words = given.body.replace("\r\n", "\n").strip()
    if given.state == "CHANGES_REQUESTED" and words:
        _keep(job, pull, given, words)
    done = job.settle()
    return Handled("review", "done", " ".join(filter(None, (done.action, done.reason))))


def _keep(job: Job, pull: Pull, given: events.NewReview, words: str) -> None:
    """What a review says goes to the ledger once, unless it is not fit for the proposer."""
    url = f"{job.github.url}/pull/{pull.number}#pullrequestreview-{given.id}"
    if problem := _unfit(words, job.space):
        name = f"review-{given.id}"
        said = f"The pull request is held, but the proposer is not told why: {problem}"
        job.github.reply(pull.number, pages.reply(name, said), pages.marker("reply", name))
    elif all(note.url != url for note in job.ledger.notes()):
        about = job.proposed(pull)
        known = about.id if about else None
        job.note(by=given.author, words=words, url=url, experiment=known, kind="review")


# Small things ---------------------------------------------------------------------------------

_UNTIL_THEN: Final = f"Until then the label `{holds.LABEL}` stops this pull request."


def _require_alone(command: SlashCommand) -> None:
    """Refuse a pedal with words behind it that are not its own: they may well take it back."""
    name, argument = command.name, USES[command.name].argument
    if name in PEDALS and (command.more or (command.argument and not argument)):
        takes = f"`{argument}`" if argument else "nothing"
        raise RefusedError(
            f"`/ratchet {name}` takes {takes} after it and stands alone, and your comment goes on. "
            "Say just that; `/ratchet hold` stops instead."
        )


def _by_name(skill: str, stopped: Collection[str]) -> str:
    """What ``/ratchet resume`` needs after it, where several skills were stopped."""
    return f" {skill}" if len(stopped) > 1 else ""


def _skill_of(pull: Pull, github: GitHub, skills: Iterable[str]) -> str | None:
    """The skill that a pull request proposes an edit of, if it is the bot's."""
    named = (skill for skill in skills if pull.head_ref == proposal_branch(skill))
    own = next(named, None)
    marker = pages.marker("pull", own) if own else ""
    return own if own and github.is_own(pull, marker, base=None) else None


def _unfit(words: str, space: Workspace) -> str:
    """Why the proposer must not read what a person wrote; empty if it may."""
    if len(words) > NOTE_LENGTH:
        return f"that is longer than {NOTE_LENGTH:,} characters. Say it shorter."
    if leaks.found(words, incumbent=space.text.text, train=space.train, holdout=space.holdout):
        return "that repeats text of held-out cases. Say it in other words."
    return ""


def _has(ledger: Ledger, experiment: str) -> bool:
    try:
        ledger.find(experiment)
    except RatchetError:
        return False
    return True


def _outcome(job: Job, done: Published) -> str:
    detail = job.redact(done.detail)
    return pages.outcome(job.skill, action=done.action, reason=done.reason, detail=detail)


def _plain(error: RatchetError) -> str:
    """An error's words as Markdown."""
    said = " ".join(filter(None, (error.message, error.hint)))
    return markdown.inert(markdown.line(said, pages.LONG_SENTENCE))


@contextmanager
def _speaking(job: Job) -> Iterator[None]:
    """Errors in here are said in the answer, unless they tell of a held-out case."""
    try:
        yield
    except RefusedError:
        raise
    except RatchetError as error:
        said = job.redact(f"{error.message} {error.hint or ''}")
        if _is_sealed(said, job.space):
            raise
        raise RefusedError(_plain(RatchetError(said))) from error


def _is_sealed(said: str, space: Workspace, *, ours: bool = False) -> bool:
    """Whether a text names a held-out case, or a folder of such, or repeats one.

    ``ours`` is made of numbers and words of Ratchet's own. A case that is called like one of those
    is named there only where it is called a case.
    """
    ids = [case.id for case in space.holdout]
    plain = [name for name in ids if ours and (name.isdigit() or name.isalpha())]
    names = [*space.sealed, *(name for name in ids if name not in plain)]
    called = rf"\b(?:case|fixture|id)s?\W{{1,3}}(?:{_any(plain)})(?![\w-])" if plain else r"(?!)"
    return bool(
        re.search(rf"(?<![\w-])(?:{_any(names)})(?![\w-])", said)
        or re.search(called, said, re.IGNORECASE)
        or leaks.found(said, incumbent="", train=(), holdout=space.holdout)
    )


def _any(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in names)
