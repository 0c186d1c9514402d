"""From failing train traces to one candidate, or the reason there is none.

What a proposer is given is built here from the train side alone: the train view of the ledger,
train traces and the skill. Nothing held out can be reached from it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot import skillformat, workspace
from bot.agents import examples, meta
from bot.core import breadth, edits
from bot.core.records import Proposal, RolloutKey, Trace, digest
from bot.errors import RatchetError
from bot.runner import Text, paid_call, trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bot.budget import Budget
    from bot.core.breadth import Level
    from bot.core.records import Experiment, Reply, Result
    from bot.ledger import TrainLedger
    from bot.providers import Provider
    from bot.workspace import Workspace

NO_EDIT = "no_edit"
NOT_APPLIED = "not_applied"
PROTECTED = "protected"
DUPLICATE = "duplicate"
SUPERSEDED = "superseded"
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

    @property
    def merged(self) -> bool:
        """Whether it was merged."""
        return self.result is not None and self.result.action == "merge"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposal that applies."""

    proposal: Proposal
    text: Text


@dataclass(frozen=True, slots=True)
class Unusable:
    """A proposal that does not, with the reason code and the reason in words."""

    proposal: Proposal
    reason: str
    detail: str


def experiment_id(skill: str, *, parent: str, candidate: str) -> str:
    """The digest that names an experiment: the same proposal twice is the same experiment."""
    return digest("experiment", skill, parent, candidate)


def read_past(ledger: TrainLedger) -> list[Past]:
    """Every experiment of the skill, oldest first."""
    results = ledger.results()
    return [
        Past(
            experiment,
            results.get(experiment.id),
            ledger.skill_text(experiment.parent),
            ledger.candidate_text(experiment.id),
        )
        for experiment in ledger.experiments()
    ]


def next_number(past: Sequence[Past]) -> int:
    """The number of the next experiment (one that is tried again has taken a later number)."""
    return 1 + max((one.experiment.number for one in past), default=0)


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
        return await self._by_model(baseline, failing, past)

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
        settings = self.space.config
        limits = level(past, self.space).limits
        view = seen(self.space, baseline=baseline, failing=failing, past=past, limits=limits)
        reply = await self._reply(view, number=next_number(past))
        if reply.error is not None:
            raise RatchetError(
                f"The meta-agent's call failed: {reply.error}", hint="Run again to try once more."
            )
        proposed = meta.read_reply(reply, view=view, model=settings.meta_model)
        if proposed.proposal is None:
            nothing = Proposal(proposer="meta", model=settings.meta_model, hypothesis="")
            return Unusable(nothing, NO_EDIT, proposed.problem or "no edit")
        return applied(proposed.proposal, self.space, past=past, limits=limits)

    def kept_reply(self, number: int) -> Reply | None:
        """What the meta-agent answered for experiment ``number``, if it was asked."""
        return self.ledger.proposer_reply(self._key(number))

    def _key(self, number: int) -> RolloutKey:
        settings = self.space.config
        return RolloutKey(
            skill=self.space.text.digest,
            fixture=digest("proposal", self.space.name, number),
            model=digest("meta", settings.meta_model, settings.meta_provider.model_dump()),
            replicate=0,
            experiment="meta",
        )

    async def _reply(self, view: meta.View, *, number: int) -> Reply:
        """The meta-agent's answer for experiment ``number``; never paid for twice."""
        settings = self.space.config
        kept = self.kept_reply(number)
        if kept is not None:
            return kept
        key = self._key(number)
        self.say(f"asking {settings.meta_model} for an edit ...")
        request = meta.build_request(
            view,
            model=settings.meta_model,
            instructions=workspace.instructions(self.space),
            max_tokens=settings.meta.max_tokens,
            options=settings.options if settings.meta.provider is None else {},
            nonce=secrets.token_hex(8),
        )
        started = self.stamp()
        reply = await paid_call(self.provider, request, budget=self.budget)
        self.keep(
            Trace(
                id=trace_id(key, started),
                key=key,
                skill=self.space.name,
                job="meta",
                model=settings.meta_model,
                provider=self.provider.name,
                started_at=started,
                reply=reply,
            )
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
    finished = [one.merged for one in past if one.result and one.result.action != "hold"]
    return breadth.level(finished, widen_after=loop.widen_after, steps=steps)


def seen(
    space: Workspace,
    *,
    baseline: Sequence[Trace],
    failing: Sequence[Trace],
    past: Sequence[Past],
    limits: edits.Limits,
) -> meta.View:
    """Everything the LLM proposer may see."""
    return meta.View(
        skill_name=space.name,
        skill_path=space.skill.path,
        skill_text=space.text.text,
        failing=tuple(failing),
        scores=tuple((t.fixture, t.score.value if t.score else None) for t in baseline),
        past=tuple(_told(one, path=space.skill.path) for one in past if one.result),
        limits=limits,
    )


def _told(one: Past, *, path: str) -> meta.PastExperiment:
    diff = ""
    if one.parent_text is not None and one.candidate_text is not None:
        diff = edits.unified_diff(one.parent_text, one.candidate_text, path=path)
    outcome = "merged" if one.merged else "not merged"
    if one.result and one.experiment.candidate is None:
        outcome = f"not applied: {one.result.detail}"
    return meta.PastExperiment(
        id=one.experiment.id[:12],
        hypothesis=one.experiment.proposal.hypothesis,
        diff=diff,
        outcome=outcome,
    )


def applied(
    proposal: Proposal, space: Workspace, *, past: Sequence[Past], limits: edits.Limits
) -> Candidate | Unusable:
    """Apply a proposal inside the search space: one file, its open parts, its size."""
    before, skill = space.text.text, space.skill
    try:
        after = edits.apply(before, proposal.edits, limits=limits)
    except edits.EditError as error:
        return Unusable(proposal, NOT_APPLIED, error.message)
    refused = skillformat.protected_changes(before, after, path=skill.path, freeze=skill.freeze)
    if refused:
        return Unusable(proposal, PROTECTED, "; ".join(refused))
    text = workspace.text_of(after)
    name = experiment_id(space.name, parent=space.text.digest, candidate=text.digest)
    if any(one.experiment.id == name and not _may_repeat(one) for one in past):
        detail = f"The same edit was tried before, as experiment {name[:12]}."
        return Unusable(proposal, DUPLICATE, detail)
    return Candidate(proposal, text)


def _may_repeat(one: Past) -> bool:
    """An experiment that was given up because its surroundings changed was never decided."""
    return one.result is None or one.result.reason == SUPERSEDED
