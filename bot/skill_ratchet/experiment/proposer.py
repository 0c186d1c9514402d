"""From failing train traces to one candidate, or the reason there is none.

What a proposer is given is built here from the train side alone: the train view of the ledger,
train traces and the skill. Nothing held out can be reached from it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from skill_ratchet.agents import breadth, examples, memory, meta
from skill_ratchet.agents.briefing import PastExperiment, View
from skill_ratchet.agents.toolbox import Toolbox
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import edits
from skill_ratchet.core.records import (
    Proposal,
    RolloutKey,
    Text,
    Trace,
    digest,
    experiment_id,
    trace_id,
)
from skill_ratchet.experiment.runner import paid_call
from skill_ratchet.ledger import scores
from skill_ratchet.ledger.ledger import ID_DIGITS
from skill_ratchet.project import fixtures, skill_file, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skill_ratchet.agents.breadth import Accepted, Level
    from skill_ratchet.core.records import (
        Correction,
        Experiment,
        Note,
        Reply,
        Request,
        Result,
        Shipped,
    )
    from skill_ratchet.experiment.budget import Budget
    from skill_ratchet.ledger import TrainLedger
    from skill_ratchet.project.workspace import Workspace
    from skill_ratchet.providers import Provider

NO_EDIT = "no_edit"
NOT_APPLIED = "not_applied"
PROTECTED = "protected"
DUPLICATE = "duplicate"
SUPERSEDED = "superseded"
SHIPPED_EDITED = "shipped_edited"  # a person changed it and merged that
NOTES = 40_000  # characters of what people said that are shown
_SAID = {"reject": "A person rejected the edit", "review": "A person asked for changes"}
SECRET = "The edited text would hold the value of a secret of this environment."  # noqa: S105


class Stop(Exception):
    """Ends a run before its attempts are used up; not an error. The text says why."""


@dataclass(frozen=True, slots=True)
class Past:
    """An experiment and what became of it; ``result`` is None while it is under way."""

    experiment: Experiment
    result: Result | None
    parent_text: str | None
    candidate_text: str | None
    reverted: bool = False  # after it was merged
    shipped: Shipped | None = None  # what a person made of it

    @property
    def merged(self) -> bool:
        """Whether it was merged."""
        return self.result is not None and self.result.action == "merge"

    @property
    def edited(self) -> bool:
        """Whether a person changed it and merged that."""
        return self.result is not None and self.result.reason == SHIPPED_EDITED


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposal that applies; ``level`` names the breadth it was made at."""

    proposal: Proposal
    text: Text
    level: str = ""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A proposal that does not, with the reason code and the reason in words."""

    proposal: Proposal
    reason: str
    detail: str
    level: str = ""


def question(skill: str, number: int) -> str:
    """Names what the meta-agent is asked for experiment ``number``."""
    return digest("proposal", skill, number)


def read_past(ledger: TrainLedger) -> list[Past]:
    """Every experiment of the skill, oldest first."""
    results, reverted, shipped = ledger.results(), ledger.reversions(), ledger.shipped()
    experiments = ledger.experiments()
    had, proposed = ledger.texts()
    return [
        Past(
            experiment,
            results.get(experiment.id),
            had.get(experiment.parent[:ID_DIGITS]),
            proposed.get(experiment.id[:ID_DIGITS]),
            experiment.id in reverted,
            shipped.get(experiment.id),
        )
        for experiment in experiments
    ]


def next_number(experiments: Iterable[Experiment]) -> int:
    """The number of the next experiment (one that is tried again has taken a later number)."""
    return 1 + max((one.number for one in experiments), default=0)


@dataclass(frozen=True, slots=True)
class Proposing:
    """Makes the next candidate for one skill.

    ``keep`` records a call; ``stamp`` is the time as text; ``say`` tells people what goes on.
    """

    space: Workspace
    ledger: TrainLedger
    keep: Callable[[Trace], None]
    provider: Provider  # the meta-agent's
    budget: Budget
    stamp: Callable[[], str]
    say: Callable[[str], None]

    async def propose(
        self, baseline: Sequence[Trace], past: Sequence[Past]
    ) -> Candidate | Unusable:
        """One proposal, applied to the skill.

        Args:
            baseline: The incumbent's scored run on every train case.
            past: Every experiment so far.

        Raises:
            Stop: Nothing fails, or the proposer has nothing left.
            RatchetError: The meta-agent's call failed.
            BudgetSpent: The call could exceed a cap.
        """
        failing = worst_first(baseline)
        if not failing:
            raise Stop("Every train case passes: add harder fixtures, or corrections from use.")
        if self.space.config.meta.proposer == "examples":
            return self._by_examples(failing, past)
        made = await self._by_model(baseline, failing, past)
        return replace(made, level=level(past, self.space).name)

    def _by_examples(self, failing: Sequence[Trace], past: Sequence[Past]) -> Candidate | Unusable:
        space = self.space
        proposal = examples.propose(
            skill_text=space.text.text,
            failing=failing,
            past={one.experiment.candidate for one in past if one.experiment.candidate},
            per_label=space.config.meta.per_label,
            seed=space.config.loop.seed,
            max_chars=space.skill.max_chars,
        )
        if proposal is None:
            raise Stop("The examples proposer has nothing left to add.")
        # It bounds itself by examples a label, so no bound in lines is needed.
        limits = edits.Limits(
            operations=("add",),
            max_lines=breadth.REWRITE_LINES,
            max_chars=space.skill.max_chars,
        )
        return applied(proposal, space, past=past, limits=limits)

    async def _by_model(
        self, baseline: Sequence[Trace], failing: Sequence[Trace], past: Sequence[Past]
    ) -> Candidate | Unusable:
        wide = level(past, self.space)
        notes = told(self.ledger.notes())
        said = tuple(one for one in self.ledger.train_corrections() if one.split == "train")
        view = seen(
            self.space,
            baseline=baseline,
            failing=failing,
            past=past,
            level=wide,
            notes=notes,
            corrections=said,
        )
        number = next_number(one.experiment for one in past)
        terms = self._terms()
        self.say(f"asking {terms.model} for an edit ...")
        proposed = await meta.propose(
            view,
            toolbox=Toolbox(view, self.ledger, secrets.token_hex(8)),
            terms=terms,
            ask=lambda turn, request: self._ask(request, number=number, turn=turn),
            objection=lambda proposal: self._objection(proposal, view, past),
        )
        if proposed.proposal is None:
            nothing = Proposal(proposer="meta", model=terms.model, hypothesis="")
            return Unusable(nothing, NO_EDIT, proposed.problem or "no edit")
        return applied(proposed.proposal, self.space, past=past, limits=wide.limits)

    def _terms(self) -> meta.Terms:
        settings = self.space.config
        protocol = settings.meta.tools or ("native" if self.provider.tools else "text")
        if protocol == "native" and not self.provider.tools:
            raise RatchetError(
                f"The {self.provider.name} provider has no tool channel, so `meta.tools` cannot be"
                " native.",
                hint="Set `meta.tools: text`, or leave it out.",
            )
        return meta.Terms(
            model=settings.meta_model,
            instructions=workspace.instructions(self.space),
            max_tokens=settings.meta.max_tokens,
            options=settings.options if settings.meta.provider is None else {},
            protocol=protocol,
            turns=settings.meta.turns,
            room=settings.meta.context,
        )

    def _objection(self, proposal: Proposal, view: View, past: Sequence[Past]) -> str | None:
        """What the proposer should know before its proposal counts."""
        made = applied(proposal, self.space, past=past, limits=view.limits)
        if isinstance(made, Unusable):
            return f"That cannot be tried: {made.detail}"
        change = edits.unified_diff(self.space.text.text, made.text.text, path="")
        decided = {one.experiment.id[:ID_DIGITS] for one in past if not _may_repeat(one)}
        failed = [
            (one, one.diff)
            for one in view.past
            if one.outcome == "not merged" and one.id in decided
        ]
        near = memory.nearest(change, failed)
        if near is None:
            return None
        return (
            f"That is nearly the same change as experiment {near.id}, which was {near.outcome}."
            " Propose something else, or this again if you have a reason."
        )

    def _key(self, number: int, turn: int) -> RolloutKey:
        settings = self.space.config
        return RolloutKey(
            skill=self.space.text.digest,
            fixture=question(self.space.name, number),
            model=digest(
                "meta",
                settings.meta_model,
                settings.meta_provider.model_dump(),
                settings.meta.tools,  # a reply that calls tools one way fits no other
                # It was told of the cases of then, and its answer may quote them.
                fixtures.fixtures_digest(self.space.train),
            ),
            replicate=turn,
            experiment="meta",
        )

    async def _ask(self, request: Request, *, number: int, turn: int) -> Reply:
        """One turn of the meta-agent for experiment ``number``; never paid for twice.

        Raises:
            RatchetError: The call failed.
            BudgetSpent: It could exceed a cap.
        """
        key = self._key(number, turn)
        kept = self.ledger.proposer_reply(key)
        if kept is not None:
            return kept
        started = self.stamp()
        reply = await paid_call(self.provider, request, budget=self.budget)
        self.keep(
            Trace(
                id=trace_id(key, started),
                key=key,
                skill=self.space.name,
                job="meta",
                model=request.model,
                provider=self.provider.name,
                started_at=started,
                reply=reply,
            )
        )
        if reply.error is not None:
            raise RatchetError(
                f"The meta-agent's call failed: {reply.error}", hint="Run again to try once more."
            )
        return reply


def worst_first(baseline: Sequence[Trace]) -> list[Trace]:
    """The runs that scored below 1, lowest score first."""
    scored = [(trace.score.value, trace.fixture, trace) for trace in baseline if trace.score]
    return [trace for value, _, trace in sorted(scored, key=lambda one: one[:2]) if value < 1]


def level(past: Sequence[Past], space: Workspace) -> Level:
    """How wide the next proposal may be."""
    loop = space.config.loop
    steps = breadth.levels(max_lines=loop.max_lines, max_chars=space.skill.max_chars)
    own = (one for one in past if one.experiment.setting.proposer != workspace.PERSON)
    # A person who takes a proposal with changes has taken it: the next one is narrow again.
    ended = (one for one in own if one.result and one.result.action != "hold")
    finished = [one.merged or one.edited for one in ended]
    return breadth.level(finished, widen_after=loop.widen_after, steps=steps)


def seen(
    space: Workspace,
    *,
    baseline: Sequence[Trace],
    failing: Sequence[Trace],
    past: Sequence[Past],
    level: Level,
    notes: tuple[str, ...] = (),
    corrections: tuple[Correction, ...] = (),
) -> View:
    """Everything the LLM proposer is shown first."""
    return View(
        skill_name=space.name,
        skill_path=space.skill.path,
        skill_text=space.text.text,
        failing=tuple(failing),
        passing=tuple(trace for trace in baseline if trace.score and trace.score.value >= 1),
        scores=tuple((t.fixture, t.score.value if t.score else None) for t in baseline),
        past=tuple(_told(one, path=space.skill.path) for one in past if one.result),
        versions=accepted(past, besides=space.text.text),
        limits=level.limits,
        level=level.name,
        notes=notes,
        corrections=corrections,
    )


def told(notes: Sequence[Note]) -> tuple[str, ...]:
    """What people said, oldest first: the newest whole notes that fit into ``NOTES``."""
    shown: list[str] = []
    room = NOTES
    for note in reversed([one for one in notes if one.kind in _SAID]):
        about = f" about experiment {note.experiment[:ID_DIGITS]}" if note.experiment else ""
        text = f"{_SAID[note.kind]}{about}:\n{note.words}"
        if len(text) > room:
            break
        shown.insert(0, text)
        room -= len(text)
    return tuple(shown)


def _told(one: Past, *, path: str) -> PastExperiment:
    diff = ""
    if one.parent_text is not None and one.candidate_text is not None:
        diff = _difference(one.parent_text, one.candidate_text, path)
    outcome = "merged" if one.merged else "not merged"
    if one.edited:
        outcome = "shipped with changes by a person"
    if one.result and one.experiment.candidate is None:
        outcome = f"not applied: {one.result.detail}"
    return PastExperiment(
        id=one.experiment.id[:ID_DIGITS],
        hypothesis=one.experiment.proposal.hypothesis,
        diff=diff,
        outcome=outcome,
        shipped=_changes(one, path=path) if one.edited else "",
    )


@lru_cache(maxsize=1000)  # each attempt of a run tells of all experiments again
def _difference(old: str, new: str, path: str) -> str:
    return edits.unified_diff(old, new, path=path)


def _changes(one: Past, *, path: str) -> str:
    """What a person changed in a proposal before it went in; empty where that may not be told."""
    text = one.shipped.text if one.shipped else None
    if text is None or one.candidate_text is None:
        return ""
    return edits.unified_diff(one.candidate_text, text, path=path)


def applied(
    proposal: Proposal, space: Workspace, *, past: Sequence[Past], limits: edits.Limits
) -> Candidate | Unusable:
    """Apply a proposal inside the search space: one file, its open parts, its size."""
    before, skill = space.text.text, space.skill
    try:
        after = _edited(proposal, before, past=past, limits=limits)
    except edits.EditError as error:
        return Unusable(proposal, NOT_APPLIED, error.message)
    refused = skill_file.protected_changes(before, after, path=skill.path, freeze=skill.freeze)
    if refused:
        return Unusable(proposal, PROTECTED, "; ".join(refused))
    text = workspace.text_of(after)
    name = experiment_id(space.name, parent=space.text.digest, candidate=text.digest)
    if any(one.experiment.id == name and not _may_repeat(one) for one in past):
        detail = f"The same edit was tried before, as experiment {name[:12]}."
        return Unusable(proposal, DUPLICATE, detail)
    return Candidate(proposal, text)


def _edited(
    proposal: Proposal, incumbent: str, *, past: Sequence[Past], limits: edits.Limits
) -> str:
    """The incumbent, or the accepted version the proposal starts again from, with its edits."""
    start = proposal.start
    if start is None:
        return edits.apply(incumbent, proposal.edits, limits=limits)
    if not limits.restart:
        said = "starting again from an earlier version is not allowed now"
        raise edits.EditError(edits.EditProblem.NOT_ALLOWED, said)
    found = [one.text for one in _versions(past) if one.is_named(start)]
    if not found:
        said = f"{start[:64]!a} is no accepted version: nothing of that id is merged and still in"
        raise edits.EditError(edits.EditProblem.NOT_FOUND, said)
    return edits.apply(found[0], proposal.edits, limits=limits, incumbent=incumbent)


class _Version(NamedTuple):
    """A text the skill has had, and the experiment it is named after."""

    id: str
    number: int
    digest: str | None
    text: str

    def is_named(self, start: str) -> bool:
        return self.id == start or (len(start) >= ID_DIGITS and self.id.startswith(start))


def _versions(past: Sequence[Past]) -> list[_Version]:
    """What was merged and not reverted, oldest first, and before it the text it began with."""
    merged = [one for one in past if one.merged]
    first = [(breadth.FIRST, 0, one.experiment.parent, one.parent_text) for one in merged[:1]]
    later = [
        (one.experiment.id, one.experiment.number, one.experiment.candidate, one.candidate_text)
        for one in merged
        if not one.reverted
    ]
    # A text that does not have its digest is not the one that was merged: it held a secret.
    return [
        _Version(name, number, named, text)
        for name, number, named, text in (*first, *later)
        if text is not None and workspace.text_of(text).digest == named
    ]


def accepted(past: Sequence[Past], *, besides: str | None = None) -> tuple[Accepted, ...]:
    """The versions a proposal may start again from, each text once, the preferred one first.

    The text ``besides`` is left out: to the incumbent there is no going back.
    """
    listed = {
        one.text: breadth.Accepted(
            id=one.id[:ID_DIGITS],
            number=one.number,
            chars=len(one.text),
            score=_train_score(one, past),
        )
        for one in _versions(past)
        if one.text != besides
    }
    return breadth.by_preference(tuple(listed.values()))


def _train_score(version: _Version, past: Sequence[Past]) -> float | None:
    """Its mean as the last experiment against it found it, or else the run it was merged by."""
    results = {one.experiment.id: one.result for one in past if one.result}
    known = scores.of_experiments([one.experiment for one in past], results)
    found = known.get(version.digest or "")
    return None if found is None else found.value


def _may_repeat(one: Past) -> bool:
    """An experiment that was given up because its surroundings changed was never decided."""
    return one.result is None or one.result.reason == SUPERSEDED
