"""``ratchet transfer``: an old and a new text of a skill on several models, freshly and in pairs.

The runs are made by the code of the confirm run and kept in the same way, under the transfer's own
name: no look at the holdout, no kept run and no view of a proposer has any of them. What a row says
is worked out from the runs on record alone, so a call that was killed, one that went on and one
that only reads them come to the same.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice, takewhile
from statistics import fmean
from typing import TYPE_CHECKING

from skill_ratchet import __version__, providers
from skill_ratchet.agents import task
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases import check
from skill_ratchet.core import leaks, wording
from skill_ratchet.core import transfer as core
from skill_ratchet.core.records import Usage, canonical_json, total
from skill_ratchet.core.transfer import Transfer, TransferRow
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.experiment import plan, session
from skill_ratchet.experiment.runner import UNDECIDED, duel
from skill_ratchet.ledger import RunLock, access, bundles, clock
from skill_ratchet.project import config, fixtures, repository, skill_file, workspace
from skill_ratchet.providers import forecast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

    from skill_ratchet.core.records import Experiment, Text, Trace
    from skill_ratchet.experiment.budget import Account
    from skill_ratchet.experiment.observer import Observer
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.config import AnyProvider
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace


@dataclass(frozen=True, slots=True)
class NamedText:
    """A text of the skill, and what a person called it."""

    name: str
    text: Text


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be compared, on what."""

    old: NamedText
    new: NamedText
    split: Literal["train", "holdout"]
    spaces: tuple[Workspace, ...]  # one for each model
    sweeps: int | None
    again: bool


@dataclass(frozen=True, slots=True)
class MadeTransfer:
    """A transfer as it is on record now, and what this call of the command did for it.

    ``failures`` has a sentence for each model with runs that have no score; it may quote a
    provider's error, so it is for the terminal of whoever runs this.
    """

    transfer: Transfer
    kept: bool  # it was finished before: nothing was run
    calls: int
    usd: float | None
    failures: tuple[str, ...] = ()
    error: RatchetError | None = None


def transfer(
    start: Path,
    *,
    skill: str | None,
    models: str,
    old: str | None,
    new: str | None,
    split: Literal["train", "holdout"],
    sweeps: int | None,
    usd: float | None,
    again: bool,
    observer: Observer,
    out: Path | None = None,
) -> MadeTransfer:
    """Score two texts of a skill on several models; merge nothing and count no look.

    Args:
        start: In the project.
        skill: Which skill; None for the only one.
        models: As ``--models`` takes them.
        old: A branch, tag, commit or experiment; None for the text before the last merge, or, if
            ``new`` is an experiment, for the text that one edits.
        new: The same; None for the skill on the base branch.
        split: Which cases.
        sweeps: How often each case is run with each text; None for enough to show a change.
        usd: A cap in dollars besides those of the config.
        again: Ask anew what is answered on record.
        observer: Told what goes on.
        out: Where a bundle of it is written to, for ``github.transfer``.

    Raises:
        RatchetError: Something asked for is not there or not clear; nothing was spent then.
    """
    names = core.parse_models(models)
    project = repository.open_project(start)
    if out is not None:
        bundles.require_new(out)
    space = workspace.open_at_base(project, skill=skill, override={})
    check.require_sound(space)
    with RunLock(project.root, space.name):
        ledger = access.open_to_write(project, space.name, redact=space.config.redact)
        before, after = versions(space, ledger, old=old, new=new)
        asked = Question(before, after, split, spaces(space, names), sweeps, again)
        if split == "train":
            _refuse_leaks(space, asked)
        done = asyncio.run(_transfer(space, ledger, asked, usd=usd, observer=observer))
        if out is not None:
            bundles.write(out, space, kind="transfer", experiment=None, transfer=done.transfer)
        return done


# Which texts ------------------------------------------------------------------------------------


def versions(
    space: Workspace, ledger: Ledger, *, old: str | None, new: str | None
) -> tuple[NamedText, NamedText]:
    """The two texts.

    Raises:
        RatchetError: One of them is not there or not clear, or they are the same.
    """
    tried = None if new is None else _experiment(space.project, ledger, new)
    if new is None:
        after = NamedText(space.branch, space.text)
    else:
        after = _candidate(ledger, tried) if tried else _committed(space, new)
    if old is not None:
        other = _experiment(space.project, ledger, old)
        before = _candidate(ledger, other) if other else _committed(space, old)
    elif tried is not None:
        before = _parent(ledger, tried)
    else:
        before = _parent(ledger, _last_merged(space, ledger))
    if before.text == after.text:
        raise RatchetError(
            f"{before.name} and {after.name} have the same text of skill {space.name}.",
            hint="Name two that differ: --from REF --to REF.",
        )
    return before, after


def _last_merged(space: Workspace, ledger: Ledger) -> Experiment:
    """The experiment that was merged last and is still in."""
    taken_out = ledger.reversions().keys()
    landed = [one for one in ledger.landings().values() if one.experiment not in taken_out]
    if not landed:
        raise RatchetError(
            f"No experiment of skill {space.name} was merged, so there is no older text of it.",
            hint="Name one: --from REF, a branch, tag, commit or experiment.",
        )
    return ledger.find(max(landed, key=lambda one: one.at).experiment)


def _experiment(project: Project, ledger: Ledger, ref: str) -> Experiment | None:
    """The experiment that a person means, if it is one; a number comes first, as elsewhere.

    Raises:
        RatchetError: It is as well the beginning of an experiment's id as the name of a commit.
    """
    plain = ref.strip()
    wanted = plain.removeprefix("#").lower()
    every = ledger.experiments()
    if plain.startswith("#") or any(str(one.number) == wanted for one in every):
        return ledger.find(ref)
    if not wanted or not any(one.id.startswith(wanted) for one in every):
        return None
    if _is_commit(project, ref):
        raise RatchetError(
            f"{ref!a} names an experiment and a commit.",
            hint="Give more of the id, or a full name such as refs/heads/main.",
        )
    return ledger.find(ref)


def _is_commit(project: Project, ref: str) -> bool:
    try:
        repository.resolve(project, ref)
    except RatchetError:
        return False
    return True


def _candidate(ledger: Ledger, experiment: Experiment) -> NamedText:
    """What an experiment made of the skill."""
    name, text = f"experiment {experiment.number}", ledger.candidate_text(experiment.id)
    return _kept(name, text, experiment.candidate)


def _parent(ledger: Ledger, experiment: Experiment) -> NamedText:
    """What an experiment was an edit of."""
    name = f"before experiment {experiment.number}"
    return _kept(name, ledger.skill_text(experiment.parent), experiment.parent)


def _kept(name: str, text: str | None, digest: str | None) -> NamedText:
    """A text from the ledger, if that has it as it was: secrets are redacted there."""
    if text is None or (version := workspace.text_of(text)).digest != digest:
        raise RatchetError(
            f"The ledger does not have the text of {name} as it was.",
            hint="Name a branch, a tag or a commit that has it.",
        )
    return NamedText(name, version)


def _committed(space: Workspace, ref: str) -> NamedText:
    path = space.skill.path
    tree = repository.CommitTree(space.project, ref)
    return NamedText(
        wording.one_line(ref, 100),
        workspace.text_of(skill_file.decode(tree.read(path), path=path)),
    )


def _refuse_leaks(space: Workspace, asked: Question) -> None:
    """Keep held-out text off the ledger's own branch: what is run is recorded with its runs."""
    for version in (asked.old, asked.new):
        if leaks.found(
            version.text.text, incumbent=space.text.text, train=space.train, holdout=space.holdout
        ):
            raise RatchetError(
                f"{version.name} repeats text of held-out cases, so its train runs would, too.",
                hint="Transfer it over the holdout: --split holdout.",
            )


# Which models -----------------------------------------------------------------------------------


def spaces(space: Workspace, names: Sequence[str]) -> tuple[Workspace, ...]:
    """The skill with each of the models.

    Raises:
        RatchetError: One is not known, two are the same, or a cap in dollars could not hold.
    """
    made = []
    for name in names:
        provider, model = _named(space, name)
        if provider.type == "local" and model != config.DEFAULT_MODELS["local"]:
            raise RatchetError(
                f"The provider local has no model '{model}'.",
                hint=f"It has {config.DEFAULT_MODELS['local']}. Another provider's is named like "
                "this: anthropic:claude-haiku-5-5",
            )
        one = workspace.with_model(space, provider=provider, model=model)
        session.check_price(one)
        made.append(one)
    digests = [one.how.digest for one in made]
    for at, (name, digest) in enumerate(zip(names, digests, strict=True)):
        if digest in digests[:at]:
            first = names[digests.index(digest)]
            raise RatchetError(f"{first} and {name} are the same model.", hint="Name it once.")
    return tuple(made)


def _named(space: Workspace, name: str) -> tuple[AnyProvider, str]:
    """The provider and model of ``model``, ``provider:model`` or ``provider``.

    A provider is one of the types; before another word a colon is part of the model's name.
    """
    kind, colon, model = name.partition(":")
    if kind not in config.PROVIDERS:
        return space.provider, name
    if colon and not model:
        raise RatchetError(f"'{name}' names a provider without a model.")
    known = (space.provider, space.config.meta.provider)
    provider = next((one for one in known if one is not None and one.type == kind), None)
    if provider is None and kind == "command":
        raise RatchetError(
            "The provider 'command' needs a command line, and ratchet.yml has none.",
            hint="Set provider: {type: command, command: ...} in ratchet.yml.",
        )
    default = space.how.model if provider is space.provider else config.DEFAULT_MODELS[kind]
    return provider or config.PROVIDERS[kind](), model or default  # type: ignore[return-value]


def _deterministic(one: Workspace) -> bool:
    """What a model's provider says of itself; one that cannot be had is an error now."""
    return providers.build(one.provider, project=one.project, tree=one.tree).deterministic


# The record -------------------------------------------------------------------------------------


def drawn_up(space: Workspace, asked: Question, deterministic: Sequence[bool]) -> Transfer:
    """What is asked for, as a record; not written yet."""
    cases = space.fixtures(asked.split)
    rows = tuple(
        TransferRow(
            provider=one.provider.type,
            model=one.how.model,
            model_digest=one.how.digest,
            deterministic=repeats,
        )
        for one, repeats in zip(asked.spaces, deterministic, strict=True)
    )
    alpha = space.policy.alpha
    few = core.enough_sweeps(fixtures=len(cases), models=len(rows), alpha=alpha)
    return Transfer(
        id="0" * 64,
        skill=space.name,
        split=asked.split,
        old=asked.old.text.digest,
        new=asked.new.text.digest,
        old_name=asked.old.name,
        new_name=asked.new.name,
        base=space.base,
        cases=fixtures.fixtures_digest(cases),
        scorer=space.setting().scorer_digest,
        judge=space.how.digest if _is_judged(space, asked.split) else "",
        evaluator=__version__,
        fixtures=len(cases),
        sweeps=1 if all(deterministic) else asked.sweeps or few,
        alpha=alpha,
        round=1,
        rows=rows,
        started_at=_stamp(),
    ).in_round(1)


def _is_judged(space: Workspace, split: Literal["train", "holdout"]) -> bool:
    """Whether a model judges; then it is the one of ratchet.yml, whichever model answers."""
    return any(workspace.fixture_spec(space, one).type == "rubric" for one in space.fixtures(split))


def _on_record(ledger: Ledger, made: Transfer) -> list[Transfer]:
    """The same question as often as it was asked, the last time last."""
    kept = {one.id: one for one in ledger.transfers()}
    rounds = (made.in_round(number).id for number in count(1))
    return [kept[name] for name in takewhile(lambda name: name in kept, rounds)]


def _stamp() -> str:
    return clock.now().isoformat(timespec="microseconds")


# The runs ---------------------------------------------------------------------------------------


async def _transfer(
    space: Workspace, ledger: Ledger, asked: Question, *, usd: float | None, observer: Observer
) -> MadeTransfer:
    made = drawn_up(space, asked, [_deterministic(one) for one in asked.spaces])
    rounds = _on_record(ledger, made)
    if rounds and rounds[-1].finished_at and not asked.again:
        return MadeTransfer(rounds[-1], kept=True, calls=0, usd=0.0)
    if rounds and not rounds[-1].finished_at:
        begun = rounds[-1]
        observer.said(f"Going on with transfer {begun.id[:12]}.")
    else:
        begun = made.in_round(len(rounds) + 1)
        ledger.add_transfer(begun, old_text=asked.old.text.text, new_text=asked.new.text.text)
        ledger.flush(f"{space.name}: transfer {begun.id[:12]}: begun")
    going = Going(space, ledger, asked, begun, observer)
    error: RatchetError | None = None
    with budgets.Account(
        ledger, job="transfer", settings=space.config.budget, clock=time.monotonic, usd=usd
    ) as account:
        observer.budget = account.budget
        try:
            going.foretell()
            await going.run(account)
        except RatchetError as problem:
            error = problem
            account.end(budgets.ending(problem))
    return MadeTransfer(
        going.transfer,
        kept=False,
        calls=account.budget.calls,
        usd=account.budget.spent,
        failures=tuple(going.failures),
        error=error,
    )


class Going:
    """A transfer under way; ``transfer`` is how far it is."""

    def __init__(
        self,
        space: Workspace,
        ledger: Ledger,
        asked: Question,
        begun: Transfer,
        observer: Observer,
    ) -> None:
        self._space, self._ledger, self._asked, self._reporter = space, ledger, asked, observer
        self._cases = space.fixtures(asked.split)
        self._runs = ledger.transfer_runs(begun)
        self.transfer = begun
        self.failures: list[str] = []

    def foretell(self) -> None:
        """Say what the runs that are still to be made will cost, if prices are known."""
        if cost := total(self._cost(one) for one in self._asked.spaces):
            about = "about" if self._answers else "at most about"
            besides = ", besides the judge's calls" if self.transfer.judge else ""
            self._reporter.said(f"This will cost {about} {wording.dollars(cost)}{besides}.")

    def _cost(self, one: Workspace) -> float | None:
        """What a model's runs will cost that are left; None when that is not known."""
        row = self._row(one)
        done = core.own_runs(self.transfer, row, self._runs)
        left = core.runs_wanted(self.transfer, row) - sum(run.score is not None for run in done)
        if not left or one.provider.type in session.FREE:
            return 0.0
        if one.provider.type == "anthropic" and one.provider.base_url:
            return None
        output = math.ceil(fmean(self._answers)) if self._answers else one.how.max_tokens
        usage = Usage(input_tokens=math.ceil(self._sent(one)), output_tokens=output)
        each = session.price_of(one.provider, one.how.model, usage)
        return None if each is None else each * left

    @cached_property
    def _answers(self) -> list[int]:
        """Tokens of the answers to the skill on the base branch that are on record."""
        kept = self._ledger.kept_runs(self._space.text.digest, self._space.how.digest)
        return [run.reply.usage.output_tokens for run in kept.values()]

    def _sent(self, one: Workspace) -> float:
        """Mean input tokens of a call, by its length."""
        texts = (self._asked.old.text, self._asked.new.text)
        requests = [task.request(one.how, text, case) for text in texts for case in self._cases]
        sent = (canonical_json([request.system, request.messages]) for request in requests)
        return fmean(len(text.encode()) for text in sent) * forecast.TOKENS_PER_BYTE

    def _row(self, one: Workspace) -> TransferRow:
        rows = self.transfer.rows
        return next(row for row in rows if row.model_digest == one.how.digest)

    async def run(self, account: Account) -> None:
        """Run each model in turn; the outcome of each is on record before the next one begins."""
        for one in self._asked.spaces:
            if self._row(one).outcome is None:
                await self._model(one, account)

    async def _model(self, one: Workspace, account: Account) -> None:
        judge = self._space if self.transfer.judge else None
        async with session.opened(
            one, on_trace=self._reporter.ran, account=account, judge=judge
        ) as opened:
            opened.runner.remember(core.own_runs(self.transfer, self._row(one), self._runs))
            try:
                failed = await self._paired(opened)
            finally:
                self._keep(one, opened.ledger)
        if failed:
            why = failed[0].failure
            count = self._row(one).missing
            runs = "1 run has" if count == 1 else f"{count} runs have"
            self.failures.append(f"{one.how.model}: {runs} no score. First: {why}")

    async def _paired(self, opened: session.Bench) -> tuple[Trace, ...]:
        """Make the runs of one model that are not on record; those without a score come back."""
        row, split = self._row(opened.space), self._asked.split
        cases = {case.id: case for case in self._cases}
        wanted = core.runs_wanted(self.transfer, row)
        self._reporter.phase(
            f"{row.model} on {split}", runs=wanted, incumbent=self._asked.old.text.digest
        )
        seed = f"{self._space.config.loop.seed}/{self.transfer.id}/{row.model_digest}"
        ran = await duel(
            opened.runner,
            islice(plan.sweeps(list(cases), seed=seed), wanted // 2),
            fixtures=cases,
            incumbent=self._asked.old.text,
            candidate=self._asked.new.text,
            experiment=self.transfer.owner,
            fresh=True,
            judge=lambda _: UNDECIDED,  # nothing is stopped early
        )
        return ran.missing

    def _keep(self, one: Workspace, ledger: Ledger) -> None:
        """Write down how far a model is, from what is on record."""
        row = core.measured(
            self.transfer,
            self._row(one),
            runs=ledger.transfer_runs(self.transfer),
            judged=ledger.transfer_runs(self.transfer, job="judge"),
            fixtures=self._cases,
        )
        self.transfer = self.transfer.with_row(row)
        if all(row.outcome for row in self.transfer.rows):
            self.transfer = self.transfer.with_(finished_at=_stamp())
        ledger.add_transfer(self.transfer)
        done = sum(row.outcome is not None for row in self.transfer.rows)
        ledger.flush(f"{self.transfer.skill}: transfer {self.transfer.id[:12]}: models {done}")
