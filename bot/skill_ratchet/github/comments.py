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
    pages,
    publish,
    replies,
    revert,
)
from skill_ratchet.github.commands import NEEDS, SlashCommand, Unknown
from skill_ratchet.github.pull_request import HOLD_LABEL, NOTE_LENGTH
from skill_ratchet.github.replies import Asked, RefusedError
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
_ELSEWHERE: Final = "It could not be done. The log of this run says why."


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
            self._say(*answer.parts, said := _plain(error))
            return Handled(told, "refused", said)
        return Handled(told, "started", answer.workflow)

    def _act(self, command: SlashCommand | Unknown) -> _Response:
        role = self.github.permission(self.said.author)
        if role == UNKNOWN:
            raise RefusedError("Not done: GitHub does not say that you may read this repository.")
        if isinstance(command, Unknown):
            shown = command.with_(word=self._redact(command.word))
            return _Response((pages.unknown(shown),), well=False)
        if NEEDS[command.name] == "write" and role not in WRITERS:
            raise RefusedError("Not done: that takes write access to this repository.")
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
                raise RefusedError(f"This pull request is for skill `{own}`.")
            return own
        if argument in skills:
            return argument
        if argument:
            raise RefusedError(f"There is no such skill. There is {pages.names(skills)}.")
        if len(skills) > 1:
            raise RefusedError(f"Say for which skill: {pages.names(skills)}.")
        return skills[0]

    def _own_pull(self) -> tuple[str, Pull]:
        """The bot's pull request that the comment is on, and its skill."""
        pull = self._pull()
        own = _skill_of(pull, self.github, self._config().skills) if pull else None
        if pull is None or own is None:
            raise RefusedError("Say that on a pull request of Ratchet's.")
        return own, pull

    def _finish(self, job: Job, said: str, *, done: bool) -> _Response:
        """Answer where the pull request is closed: perhaps by the job that began to do just this.

        What that one left undone is made good.
        """
        if not done:
            raise RefusedError("This pull request is closed.")
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
            raise RefusedError("Say that on a pull request.")
        own = _skill_of(pull, self.github, self._config().skills)
        if own is not None and not self._job(own).edited():
            raise RefusedError(
                "This one is Ratchet's own and was tested: `/ratchet retry` looks again."
            )
        if pull.state != "open":
            raise RefusedError("This pull request is closed.")
        if not _SHA.fullmatch(argument):
            raise RefusedError("Name the commit by all 40 digits: `/ratchet gate <sha>`.")
        if argument != pull.head_sha:
            raise RefusedError(
                f"Not tested: the head of this pull request is `{pull.head_sha}`, not that commit. "
                "Look at what is there now, then ask for that."
            )
        return self._begun(GATE, pull=str(pull.number), sha=argument)

    def transfer(self, argument: str) -> _Response:
        """Start a transfer: of the bot's pull request's edit, else of the last one merged."""
        if self._redact(argument) != argument:  # before it is cut at a space
            raise RefusedError("Not done: that is not the name of a model.")
        *named, models = argument.split() or [""]
        if len(named) > 1 or not models:
            raise RefusedError("Name the models: `/ratchet transfer [skill] <model,model,...>`.")
        try:
            wanted = ",".join(transfer.parse_models(models))
        except RatchetError as problem:
            raise RefusedError(f"Not done. {_plain(problem)}") from problem
        skill = self._skill(*named or [""])
        return self._begun(TRANSFER, skill=skill, models=wanted, **self._edited(skill))

    def _edited(self, skill: str) -> dict[str, str]:
        """The experiment of the bot's pull request that the comment is on, if it is on one."""
        pull = self._pull()
        if pull is None or _skill_of(pull, self.github, [skill]) is None:
            return {}
        project = repository.open_project(self.start)
        name = _proposed(project, pull)
        known = {one.id for one in access.open_ledger(project, skill).experiments()}
        if name not in known:
            raise RefusedError("The ledger has no experiment for this.")
        return {"to": str(name)}

    def explain(self, argument: str) -> _Response:
        """The verdict and the numbers of an experiment."""
        job = self._job(self._skill(argument))
        with _speaking(job):
            one = self._experiment(job)
            told = history.explain(history.row(job.ledger, one))
        sentence, numbers = job.redact(told.sentence), job.redact(told.numbers)
        if _is_sealed(f"{sentence}\n{numbers}", job.space):
            raise RatchetError("The explanation tells of a held-out case; it was not posted.")
        head = f"Experiment {one.number} (`{one.id[:12]}`) of skill `{job.skill}`."
        return _Response((f"{head} {markdown.inert(sentence)}", markdown.fence(numbers, "text")))

    def _experiment(self, job: Job) -> Experiment:
        """That of the bot's pull request, else the newest."""
        known = job.ledger.experiments()
        pull = self._pull()
        if pull is not None and _skill_of(pull, self.github, [job.skill]) is not None:
            name = _proposed(job.space.project, pull)
            known = [one for one in known if one.id == name]
        if not known:
            raise RefusedError("The ledger has no experiment for this.")
        return known[-1]

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
        if repository.CommitTree(project, "HEAD").has(repository.HOLD_FILE):
            lines.append(f"The file `{repository.HOLD_FILE}` stops everything.")
        return _Response(("\n".join(lines),))

    def _line(self, project: Project, skill: str, boxes: Collection[str]) -> str:
        """One skill in a few words."""
        pull = self.github.find_pull(pages.marker("pull", skill), proposal_branch(skill))
        waits = f"[{pull.number}]({pull.url}) is open" if pull else "nothing is open"
        held = skill in boxes or (pull is not None and HOLD_LABEL in pull.labels)
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
        """Stop a skill."""
        job = self._job(self._skill(argument))
        with _speaking(job):
            job.hold(held=True)
        return _Response((f"`{job.skill}` is stopped until `/ratchet resume`.",))

    def resume(self, argument: str) -> _Response:
        """Let a skill go on."""
        job = self._job(self._skill(argument))
        with _speaking(job):
            job.hold(held=False)
            done = job.settle()
        return _Response((f"`{job.skill}` goes on.", _outcome(job, done)))

    def reject(self, argument: str) -> _Response:
        """Close a proposal, and tell the proposer why."""
        skill, pull = self._own_pull()
        if not argument:
            raise RefusedError("Say why: `/ratchet reject <reason>`. The proposer reads it.")
        job = self._job(skill)
        if pull.state != "open":
            noted = any(note.url == self._url() for note in job.ledger.notes())
            return self._finish(job, "Closed; the proposer is told why.", done=noted)
        if problem := _unfit(argument, job.space):
            raise RefusedError(f"Not done: {problem}")
        with _speaking(job):
            done = job.reject(by=self.said.author, words=argument, url=self._url())
        return _Response((_outcome(job, done),))

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
                    f"Not merged: the head of this pull request, `{head}`, is newer than your "
                    "comment. Look at it, then say `/ratchet merge` again."
                )
            done = job.settle(released_by=self.said.author)
        return _Response((_outcome(job, done),), well=done.action == "merge")

    def revert(self, argument: str) -> _Response:
        """Take a merged experiment out again."""
        if not _EXPERIMENT.fullmatch(argument):
            raise RefusedError("Name the experiment: `/ratchet revert <experiment>`.")
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
            raise RefusedError("There is no such experiment, or several begin so.")
        if len(found) > 1:
            raise RefusedError(
                f"There is one in each of {pages.names(found)}: give more of its id."
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
        proposed = _proposed(job.space.project, pull)
        known = {one.id for one in job.ledger.experiments()}
        about = proposed if proposed in known else None
        job.note(by=given.author, words=words, url=url, experiment=about, kind="review")


# Small things ---------------------------------------------------------------------------------


def _skill_of(pull: Pull, github: GitHub, skills: Iterable[str]) -> str | None:
    """The skill that a pull request proposes an edit of, if the bot opened it."""
    if pull.head_repository.casefold() != github.repository.casefold():
        return None
    named = (
        skill
        for skill in skills
        if pull.head_ref == proposal_branch(skill)
        and pages.is_marked(pull.body, pages.marker("pull", skill))
    )
    return next(named, None) if pull.author == github.me() else None


def _proposed(project: Project, pull: Pull) -> str | None:
    """The experiment that a pull request's head names."""
    return branches.experiment_of(project, remote.fetch_pull(project, pull.number))


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
        raise RefusedError(f"Not done. {_plain(RatchetError(said))}") from error


def _is_sealed(said: str, space: Workspace) -> bool:
    """Whether a text names a held-out case, or a folder of such, or repeats one."""
    names = "|".join(re.escape(name) for name in (*space.sealed, *(c.id for c in space.holdout)))
    return bool(
        re.search(rf"(?<![\w-])(?:{names})(?![\w-])", said)
        or leaks.found(said, incumbent="", train=(), holdout=space.holdout)
    )
