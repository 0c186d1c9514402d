"""The frozen records that every room shares, and the digests that name them.

Every record validates on construction and round-trips through JSON. Numbers are finite:
a NaN or an infinity cannot enter a record, so no comparison downstream can be fooled by one.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from math import fsum
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Split = Literal["train", "holdout", "vault"]
Source = Literal["authored", "correction", "production"]
Via = Literal["comment", "issue", "pull", "import", "terminal"]
Side = Literal["incumbent", "candidate"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
UnitInterval = Annotated[float, Field(ge=0.0, le=1.0)]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]


class Record(BaseModel):
    """A frozen value that refuses unknown keys and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def with_(self, **changes: Any) -> Self:
        """A validated copy with some fields replaced (``model_copy`` does not validate)."""
        return type(self).model_validate(
            {name: getattr(self, name) for name in type(self).model_fields} | changes
        )

    def differing(self, other: Self) -> list[str]:
        """The names of the fields in which they are not equal."""
        names = type(self).model_fields
        return [name for name in names if getattr(self, name) != getattr(other, name)]


def canonical_json(value: Any) -> str:
    """One JSON text per value: sorted keys, no spaces; refuses NaN and infinity."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(*parts: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of ``parts``."""
    return hashlib.sha256(canonical_json(parts).encode("utf-8", "surrogatepass")).hexdigest()


def total(values: Iterable[float | None]) -> float | None:
    """The sum, as of costs; None when one of them is not known."""
    every = list(values)
    known = [value for value in every if value is not None]
    return fsum(known) if len(known) == len(every) else None


class Message(Record):
    """One turn of a conversation given as a fixture's input."""

    role: Literal["user", "assistant"]
    content: str


def as_text(given: str | tuple[Message, ...]) -> str:
    """What was asked, as one text; a conversation becomes ``role: content`` paragraphs."""
    if isinstance(given, str):
        return given
    return "\n\n".join(f"{message.role}: {message.content}" for message in given)


class Fixture(Record):
    """One case: an input, and what a good answer to it is.

    ``scorer`` overrides the skill's scorer (``{"type": ..., options}``). ``correction`` is what
    a person wrote about a wrong answer, word for word. Fixtures with the same ``cluster`` are
    related and count as one in the gate's guard. ``author``, ``date`` (ISO 8601) and ``link`` say
    who brought it in, when and where; ``count`` how many came in that say the same.
    """

    id: Slug
    split: Split
    input: str | tuple[Message, ...]
    context: str | None = None
    expected: JsonValue = None
    scorer: dict[str, JsonValue] | None = None
    cluster: str | None = None
    tags: tuple[str, ...] = ()
    source: Source = "authored"
    correction: str | None = None
    author: str | None = None
    date: Day | None = None
    link: str | None = None
    count: int = Field(default=1, ge=1, le=10**9)

    @property
    def digest(self) -> str:
        """Names what decides an answer and its score, and nothing else (not id, tags, split)."""
        shown = self.model_dump(mode="json", include={"input", "context", "expected", "scorer"})
        return digest("fixture", shown)

    @property
    def input_text(self) -> str:
        """The input as one text."""
        return as_text(self.input)


class Score(Record):
    """A scorer's judgement of one answer: ``value`` in [0, 1] and the reason in words."""

    value: UnitInterval
    reason: str
    scorer: str


class Usage(Record):
    """Tokens of one model call, as the provider counted them."""

    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    cache_read_tokens: int = Field(default=0, ge=0)
    cache_write_tokens: int = Field(default=0, ge=0)

    @property
    def total(self) -> int:
        """All tokens of the call, whether they were read from a cache or not."""
        cached = self.cache_read_tokens + self.cache_write_tokens
        return self.input_tokens + cached + self.output_tokens


class Request(Record):
    """One call to a model, in terms every provider understands.

    ``system`` is the stable prefix (the skill text, for a task call) and ``messages`` what
    varies. ``case`` is what a ``command`` provider's harness may see of the fixture (id, input,
    context; never what is expected). ``tools`` are JSON Schema tool definitions.
    """

    model: str
    system: str
    messages: tuple[dict[str, JsonValue], ...]
    max_tokens: int = Field(default=1024, ge=1)
    options: dict[str, JsonValue] = {}
    tools: tuple[dict[str, JsonValue], ...] = ()
    case: dict[str, JsonValue] | None = None


class Failure(StrEnum):
    """Why a call brought no answer. Its provider says so, and nobody guesses it from a message.

    What the skill can lead to is an answer that scores 0, at the first try and on both sides
    alike: were it made again, a skill would be judged by the calls that go well. Everything else
    is the infrastructure's doing: it has no score, and the call is made again by the next run.
    docs/providers.md has this list.
    """

    # What the skill can lead to.
    TIME_OUT = "time_out"  # a program was not done in time
    EXIT = "exit"  # a program ended with another status than 0
    OUTPUT = "output"  # a program wrote too much, or a trace that is none
    TOO_LONG = "too_long"  # skill and case are more than the model reads
    BLOCKED = "blocked"  # the server withheld what was asked for or answered
    # What the infrastructure did. Nothing was sent:
    NOT_STARTED = "not_started"  # a program or its sandbox
    UNREACHED = "unreached"  # no connection
    # The account or the model is refused, so that further calls would be, too:
    DENIED = "denied"  # the credential
    FORBIDDEN = "forbidden"  # to this credential
    NO_MODEL = "no_model"
    # And all else:
    LIMITED = "limited"  # too many calls
    SERVER = "server"  # an error of the server's, overloaded among them
    REFUSED = "refused"  # any other refusal, such as a request that is not understood
    LOST = "lost"  # sent, but no whole answer came: it may have been billed
    UNREADABLE = "unreadable"  # an answer in no form that is known: it may have been billed

    @property
    def by_skill(self) -> bool:
        """Whether it counts as an answer that scores 0."""
        return self in _BY_SKILL

    @property
    def unsent(self) -> bool:
        """Whether nothing was sent, so that there is nothing to pay."""
        return self in {Failure.NOT_STARTED, Failure.UNREACHED}

    @property
    def is_final(self) -> bool:
        """Whether the next call would be refused for the same reason."""
        return self in {Failure.DENIED, Failure.FORBIDDEN, Failure.NO_MODEL}

    @property
    def is_blind(self) -> bool:
        """Whether it cannot have depended on what was asked, or on what would be answered."""
        return self.unsent or self in {Failure.DENIED, Failure.NO_MODEL}


_BY_SKILL = frozenset(
    {Failure.TIME_OUT, Failure.EXIT, Failure.OUTPUT, Failure.TOO_LONG, Failure.BLOCKED}
)


class Reply(Record):
    """What came back. Either ``error`` says why the call failed, or ``text`` is the answer.

    A refusal or an answer cut at the token limit is an answer: ``stop_reason`` says so.
    ``failure`` is of what kind an error is; None, as in old records, is the infrastructure's.
    ``unanswered`` counts the attempts that were sent without an answer: each may have been billed.
    ``request`` and ``response`` are the provider's own bodies, verbatim. ``usd`` is None when
    the price is unknown, and 0.0 when the call is known to be free.
    """

    text: str | None = None
    error: str | None = None
    failure: Failure | None = None
    unanswered: int = Field(default=0, ge=0)
    stop_reason: str | None = None
    request: JsonValue = None
    response: JsonValue = None
    usage: Usage = Usage.model_construct()  # its validator is built when one is needed
    usd: float | None = Field(default=None, ge=0)
    latency: float = Field(default=0.0, ge=0)  # seconds
    request_id: str | None = None


# Replicate of a run that is a filter and no evidence: no sweep has this number, so that neither
# its key nor its place in the ledger is ever that of a run which counts.
FILTER = 1000


class RolloutKey(Record):
    """Names one run: a skill on a fixture by a model, and which repeat of it this is.

    ``experiment`` is empty for the incumbent's kept runs and the experiment id for runs that
    belong to one experiment alone, so that a candidate's winning runs are never taken for the
    measurements of the incumbent it becomes.
    """

    skill: Digest
    fixture: Digest
    model: Digest
    replicate: int = Field(ge=0)
    experiment: str = ""

    @property
    def digest(self) -> str:
        """The key as one name."""
        return digest("rollout", self.model_dump(mode="json"))


class Trace(Record):
    """One model call kept whole, with its score. Nothing in it is summarised or shortened.

    ``id`` is unique in a ledger. ``score`` is None when the infrastructure failed the call or the
    scorer (then ``reply.error`` or ``scorer_error`` says why): no score is not a score of zero.
    A call that failed by what the skill led to has both, an error and a score of 0.
    """

    id: str
    key: RolloutKey | None = None
    skill: str
    job: Literal["task", "meta", "judge"] = "task"
    experiment: str = ""
    fixture: str = ""
    split: Split = "train"
    side: Side | None = None
    model: str
    provider: str
    started_at: str  # UTC, ISO 8601
    reply: Reply
    score: Score | None = None
    scorer_error: str | None = None
    fixture_input: str = ""
    expected: JsonValue = None
    correction: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def failure(self) -> str:
        """Why it has no score, for a log or a page.

        A program may echo the case that it was given, and an API may quote it. So of a case that
        is held out only our own words about the failure are told.
        """
        said = self.reply.error or self.scorer_error or "no answer"
        if self.split == "train":
            return said
        known = _OWN_WORDS.match(said)
        kind = "the call failed" if self.reply.error else "the scorer failed"
        told = known[0] if known else kind
        return f"{told} (the case is held out: 'ratchet trace {self.id}' in a clone shows the rest)"


# What begins a failure and quotes nothing: how a program ended, the status of an HTTP answer and
# the kind that the API gives it, or that there was none.
_OWN_WORDS = re.compile(
    r"The command (?:ended with exit status -?\d+|was stopped after [\d.e+-]+ seconds"
    r"|wrote more than \d+ bytes|could not be run)|[1-5]\d\d(?: [a-z]+_error)?(?=[ :]|$)"
    r"|Request timed out|Connection error|overloaded(?: \d{3})?$|no answer$"
)


def unanswered(reply: Reply) -> Score | None:
    """The score of a call that brought no answer: 0 for what the skill led to, else none."""
    if reply.failure is None or not reply.failure.by_skill:
        return None
    reason = f"There is no answer ({reply.failure.value}), which counts as a wrong one."
    return Score(value=0, reason=reason, scorer="call")


JUDGE = "-judge"  # what the id of a judge's call has behind that of the run it judges


def trace_id(key: RolloutKey, started: str) -> str:
    """Unique in a ledger: the run's key, and when it was made (a failed run is made again)."""
    return f"{key.digest[:16]}-{''.join(filter(str.isdigit, started))[8:]}"


class AddLines(Record):
    """Insert ``lines`` after the one line equal to ``after``; at the end when it is None."""

    op: Literal["add"] = "add"
    lines: str
    after: str | None = None


class Replace(Record):
    """Replace ``old``, which must occur exactly once, by ``new``."""

    op: Literal["replace"] = "replace"
    old: str = Field(min_length=1)
    new: str


class Rewrite(Record):
    """Replace the whole text."""

    op: Literal["rewrite"] = "rewrite"
    text: str


Edit = Annotated[AddLines | Replace | Rewrite, Field(discriminator="op")]


class Proposal(Record):
    """One edit to one file, with the reason for it."""

    proposer: str
    model: str | None
    hypothesis: str
    targets: tuple[str, ...] = ()  # ids of the traces it says it fixes
    edits: tuple[Edit, ...] = ()
    start: str | None = None  # accepted version the edits refer to: id of an experiment, 'first'

    @property
    def said(self) -> str:
        """Everything in it that its maker wrote, as one text."""
        written = (
            value for edit in self.edits for value in edit.model_dump(exclude={"op"}).values()
        )
        return "\n\n".join(filter(None, (self.hypothesis, self.start, *written)))


class Setting(Record):
    """Everything besides the skill's text that an experiment's numbers depend on.

    Two experiments are comparable, and a verdict still valid, only while these agree.
    """

    provider: str
    model: str
    model_digest: Digest  # provider, model and every parameter of a call
    meta_model: str | None
    proposer: str
    scorer_digest: Digest
    config_digest: Digest
    train_digest: Digest
    holdout_digest: Digest | None  # None in a process that cannot see the holdout
    rules: Digest | None = (
        None  # digest of what the owner asks of a candidate: gate, length, frozen parts
    )
    evaluator: str  # version of Ratchet
    gate: int = 1  # version of the gate's rule
    base: str  # commit the skill, fixtures and config were read from
    branch: str  # branch it was read from and would be merged into
    seed: int


# Whether a program that answers could find the held-out cases: it could not; its owner vouches for
# it; it could.
Sealed = Literal["hidden", "trusted", "open"]


class Experiment(Record):
    """One proposal and what it was tried against; written before its first model call.

    ``id`` is a digest of (skill, parent text, candidate text): the same proposal twice is the
    same experiment. ``candidate`` is None when the proposal could not be applied.
    """

    id: Digest
    skill: str
    number: int = Field(ge=1)  # counts the skill's experiments, for people
    parent: Digest
    candidate: Digest | None
    setting: Setting
    proposal: Proposal
    started_at: str
    level: str = ""  # of breadth, by name; empty for a proposer that has none
    chars: tuple[int, int] | None = None  # of the parent's and the candidate's text
    sealed: Sealed | None = None  # None where no program answers, and of before it was asked


class Tally(Record):
    """Paired runs on one split, counted."""

    incumbent: UnitInterval | None  # mean score; None when nothing was run
    candidate: UnitInterval | None
    pairs: int = Field(default=0, ge=0)
    wins: int = Field(default=0, ge=0)
    losses: int = Field(default=0, ge=0)
    sweeps: int = Field(default=0, ge=0)  # complete ones, or blocks
    size: int = Field(default=0, ge=0)  # pairs of one of them; 0 in records that do not say

    @classmethod
    def of(cls, pairs: Sequence[Pair], *, sweeps: int, size: int = 0) -> Self:
        """What so many complete sweeps came to; there is at least one pair."""
        return cls(
            incumbent=fsum(pair.incumbent for pair in pairs) / len(pairs),
            candidate=fsum(pair.candidate for pair in pairs) / len(pairs),
            pairs=len(pairs),
            wins=sum(pair.difference > 0 for pair in pairs),
            losses=sum(pair.difference < 0 for pair in pairs),
            sweeps=sweeps,
            size=size,
        )

    @property
    def ties(self) -> int:
        """Pairs with equal scores."""
        return self.pairs - self.wins - self.losses


NO_TALLY = Tally(incumbent=None, candidate=None)
NOT_CONFIRMED = "not_confirmed"  # what a result says for everything the holdout decided


class Result(Record):
    """What became of an experiment, as far as the proposer may know it.

    Of a confirm run on the holdout it says merged or not merged, nothing more: the numbers are
    kept on the holdout ref.
    """

    experiment: Digest
    action: Literal["merge", "hold", "reject"]
    reason: str  # a gate.Reason; 'not_confirmed' for everything the holdout decided
    detail: str  # the same in words
    train: Tally
    calls: int = Field(ge=0)
    usd: float | None = Field(ge=0)
    seconds: float = Field(ge=0)
    finished_at: str
    # Mean input and output tokens of a train run with the incumbent, and with the candidate;
    # None when nothing was run or the provider counts none.
    tokens: tuple[float, float] | None = None
    # The incumbent's mean over all train cases, each run once, and how many they are; None where it
    # was not noted. ``train`` may be of a few of them: a screen stops as early as it can.
    baseline: UnitInterval | None = None
    cases: int = Field(default=0, ge=0)
    deterministic: bool = False  # a run made again would be the same run
    # Whether what was proposed is kept from proposers. Why, it does not say.
    withheld: bool = False


class Landing(Record):
    """A commit on the base branch that took an experiment in (or out again, for a revert)."""

    experiment: Digest
    commit: str
    branch: str
    at: str
    by: str


# Of these a 'hold' is no judgement of an edit, and the only one that the proposer does not read.
NoteKind = Literal["reject", "review", "hold"]


class Note(Record):
    """What a person said about a skill's proposals, word for word."""

    skill: Slug
    author: str  # a login
    at: str  # UTC, ISO 8601
    words: str = Field(min_length=1, max_length=10_000)
    url: str
    experiment: Digest | None
    kind: NoteKind


class Correction(Record):
    """What a person said should have been answered, word for word; kept whatever comes of it.

    ``id`` names its content and where it was said, so the same one brought in twice is one.
    ``fixture`` is the case that it became or was added to, and ``split`` that one's side: a
    correction of a held-out case is as sealed as the case.
    """

    id: Digest
    skill: Slug
    version: Digest | None  # of the skill's text that gave the answer; None when not known
    fixture: Slug
    split: Split
    input: str | tuple[Message, ...]
    context: str | None = None
    output: str | None  # what was answered; None when nobody said
    expected: JsonValue
    why: str | None
    author: str  # a login, or the name git knows
    at: str  # UTC, ISO 8601
    link: str | None  # where it was said
    via: Via
    let_in_by: str | None = None  # a login, where the author may not write to the repository

    @classmethod
    def name(cls, *, skill: str, asked: Digest, expected: JsonValue, link: str | None) -> Digest:
        """The id of a correction: of what is asked (``golden.input_digest``) and expected."""
        return digest("correction", skill, asked, expected, link)


class Settled(Record):
    """What became of corrections with the pull request that was to make fixtures of them.

    ``merged`` is False when a person closed it: they are not proposed again. One record has the
    train side's or the others', and is as sealed as they are.
    """

    skill: Slug
    pull: int = Field(ge=1)
    merged: bool
    corrections: tuple[Digest, ...]
    at: str  # UTC, ISO 8601


class Answers(Record):
    """What a log showed of a skill at work: how many answers, and how many a person changed.

    It names no case and quotes nobody. ``log`` is a digest of the log's content, so that the same
    one brought in twice counts once. ``similarity`` is the mean edit similarity, in [0, 1], of
    what was answered and what a person made of it, over all ``answers``.
    """

    skill: Slug
    version: Digest | None  # of the skill's text that gave the answers; None when not known
    log: Digest
    at: str  # UTC, ISO 8601
    answers: int = Field(ge=1)
    corrected: int = Field(ge=0)
    similarity: UnitInterval | None

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.corrected > self.answers:
            raise ValueError("more corrected answers than answers")
        return self


class Shipped(Record):
    """What a person made of a proposal that was published, before it went in.

    ``text`` is the skill as it was shipped; None where that repeats text of held-out cases, which
    is kept in no place a proposer reads. ``similarity`` is how much of the proposal was left, in
    [0, 1]: 1 when it was shipped as it was proposed.
    """

    experiment: Digest
    skill: Slug
    proposed: Digest
    shipped: Digest
    text: str | None
    similarity: UnitInterval
    commit: str
    branch: str
    by: str
    at: str  # UTC, ISO 8601
    link: str | None

    @property
    def unchanged(self) -> bool:
        """Whether it was accepted as it was."""
        return self.proposed == self.shipped


RunJob = Literal["run", "propose", "confirm", "gate", "eval", "noise", "audit", "transfer"]
Ended = Literal["done", "stopped", "budget", "error", "interrupted"]


class Amended(Record):
    """What stood in a run's record before a person said what it really cost, and why."""

    counted: float = Field(ge=0, le=1e9)
    unsure: float = Field(ge=0, le=1e9)
    why: str = Field(min_length=1, max_length=1000)
    at: str  # UTC, ISO 8601


class Run(Record):
    """What a run of one skill spent, and how it ended.

    It names no case and quotes nobody, so that it gives nothing of the holdout away. ``ended`` is
    None while it is under way, and for ever when it was killed.
    """

    skill: Slug
    job: RunJob
    started_at: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$")
    ended_at: str | None
    ended: Ended | None
    calls: int = Field(ge=0)
    usd: float | None = Field(ge=0)  # None when a call's price was not known
    # What a budget counts: for a call of unknown price what was reserved for it, and before the
    # end all that the run may spend.
    counted: float = Field(ge=0, le=1e9)
    # Of that, the most that calls cost whose answer never came: they may have been billed.
    unsure: float = Field(default=0.0, ge=0, le=1e9)
    amended: Amended | None = None
    # What the calls of cases were predicted to cost before they were made; None when not known.
    predicted: float | None = Field(default=None, ge=0)

    @property
    def name(self) -> str:
        """Its name among the skill's runs; they sort by time."""
        moment = self.started_at.partition("+")[0].translate({ord(mark): None for mark in "-:."})
        return f"{moment}-{self.job}"


class Pair(Record):
    """The incumbent and the candidate on the same fixture: one bet of the gate.

    ``sweep`` counts from 0; a sweep has every fixture of the split once, or is a block of a large
    holdout. ``made_for`` is the experiment both runs were made for; where the incumbent's is a
    kept one it is empty. ``incumbent`` is the mean of the runs ``incumbent_run`` and ``more_runs``.
    """

    fixture: str
    cluster: str  # the fixture's own id where it has no cluster
    sweep: int = Field(ge=0)
    incumbent: UnitInterval
    candidate: UnitInterval
    incumbent_run: str  # trace ids
    candidate_run: str
    made_for: str = ""
    more_runs: tuple[str, ...] = ()  # of the incumbent, besides incumbent_run

    @classmethod
    def of(
        cls,
        case: Fixture,
        old: Trace,
        new: Trace,
        *,
        sweep: int = 0,
        made_for: str = "",
        more: Sequence[Trace] = (),
    ) -> Self | None:
        """A run, or several of the incumbent's, and one; None while one of them has no score."""
        kept = [trace.score.value for trace in (old, *more) if trace.score]
        if len(kept) <= len(more) or new.score is None:
            return None
        return cls(
            fixture=case.id,
            cluster=case.cluster or case.id,
            sweep=sweep,
            incumbent=fmean(kept),
            candidate=new.score.value,
            incumbent_run=old.id,
            candidate_run=new.id,
            made_for=made_for,
            more_runs=tuple(trace.id for trace in more),
        )

    @property
    def incumbent_runs(self) -> tuple[str, ...]:
        """Every run of the incumbent that it was compared with."""
        return (self.incumbent_run, *self.more_runs)

    @property
    def difference(self) -> float:
        """Candidate minus incumbent, in [-1, 1]."""
        return self.candidate - self.incumbent


class FailedCalls(Record):
    """Runs that the infrastructure failed, of both sides (see ``failures.counted``)."""

    candidate: int = Field(ge=0)  # pairs tried together of which the candidate's alone failed
    incumbent: int = Field(ge=0)  # the same for the incumbent's
    stuck: int = Field(ge=0)  # how often one run of the candidate failed, and not its pair's other


NO_FAILED_CALLS = FailedCalls(candidate=0, incumbent=0, stuck=0)


class Binding(Record):
    """What the numbers were computed on, or what is there now; a verdict needs them equal."""

    base: str  # commit the base branch points at
    head: str  # digest of the candidate text (locally) or its commit (on a forge)
    skill: Digest  # incumbent's text
    fixtures: Digest
    config: Digest
    model: Digest
    evaluator: str


class Evidence(Record):
    """All facts ``gate.decide`` looks at, gathered before it is called.

    ``None`` means that a fact could not be established; it is never taken as favourable. No fact
    has a default: ``facts.gather`` makes evidence, and what is on record is read by way of
    ``facts.Recorded``.
    """

    experiment: Digest
    tested: Binding | None
    current: Binding | None
    held: bool | None  # a person said hold
    landed: bool | None  # this experiment is in the base branch already
    leaks: tuple[str, ...] | None  # held-out text found in the candidate
    version: int = Field(ge=1)  # of the gate's rule that the runs were planned by
    seed: int | None  # loop.seed, which the blocks of a large holdout are drawn with
    deterministic: bool  # repeats carry no information (see evidence.one_sweep)
    train_fixtures: tuple[str, ...]
    holdout_fixtures: tuple[str, ...]
    # The incumbent's scores in the order of train_fixtures, which the screen uses; or not known.
    train_scores: tuple[UnitInterval, ...]
    screen: tuple[Pair, ...]
    confirm: tuple[Pair, ...]
    targeted: tuple[Pair, ...]  # on the cases the edit was meant to fix; only a filter
    missing: int = Field(ge=0)  # runs that should have a score and have none
    failed: FailedCalls | None  # every try of the experiment, those that were made again too
    attempt: int | None = Field(ge=1, le=10**9)  # against this incumbent, this one included
    age: float | None = Field(ge=0)  # seconds since the evidence was complete
    released: bool  # a person with the right to do so released a held verdict


@dataclass(frozen=True, slots=True)
class Text:
    """A version of the skill, with its digest."""

    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class How:
    """How a skill's cases are run and scored; the same for every run of an experiment."""

    skill_name: str
    path: str
    model: str
    max_tokens: int
    options: dict[str, object]
    digest: str  # of provider, model, parameters and scorer: names them in rollout keys


def split_of(fixtures: Sequence[Fixture], split: Split) -> tuple[Fixture, ...]:
    """The fixtures of one split, by id."""
    return tuple(sorted((f for f in fixtures if f.split == split), key=lambda f: f.id))


def experiment_id(skill: str, *, parent: str, candidate: str) -> str:
    """The digest that names an experiment: the same proposal twice is the same experiment."""
    return digest("experiment", skill, parent, candidate)


def skill_digest(content: str) -> str:
    """Names a version of a skill by its text."""
    return digest("skill", content)
