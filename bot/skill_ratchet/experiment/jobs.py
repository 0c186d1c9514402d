"""Runs a whole command's work: opens a workspace, runs the loop or one evaluation, closes it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases import check
from skill_ratchet.core import gate as gates
from skill_ratchet.core.gate import Reason
from skill_ratchet.core.records import experiment_id, total
from skill_ratchet.experiment import session
from skill_ratchet.experiment.budget import known
from skill_ratchet.experiment.loop import Loop, refuse_lost_looks, same_surroundings, which_look
from skill_ratchet.experiment.proposer import SUPERSEDED, next_number
from skill_ratchet.experiment.recorder import Recorder, own_runs
from skill_ratchet.ledger import RunLock, access, bundles, clock, shards
from skill_ratchet.ledger.clock import Clock
from skill_ratchet.project import repository, sealing, workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from skill_ratchet.core.records import Experiment, Run, RunJob, Trace
    from skill_ratchet.experiment.loop import PlannedLook, Report, Share
    from skill_ratchet.experiment.observer import Observer
    from skill_ratchet.experiment.proposer import Candidate
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.ledger.bundles import Checked, Decision, Kind, Manifest
    from skill_ratchet.ledger.shards import HandedIn
    from skill_ratchet.project.workspace import Workspace


def improve(
    start: Path,
    *,
    skill: str | None,
    attempts: int | None,
    override: Mapping[str, object],
    observer: Observer,
    blind: bool = False,
    bundle: Path | None = None,
    usd: float | None = None,
) -> Report:
    """Run the loop on one skill of the project at ``start``; ``blind`` up to the holdout only.

    Also a run that failed writes its ``bundle``: what it tried is on the ledger.
    """
    project = repository.open_project(start)
    if bundle is not None:
        bundles.require_new(bundle)
    space = workspace.open_at_base(project, skill=skill, override=override, blind=blind)

    check.require_blind(space)
    check.require_sound(space)
    with RunLock(project.root, space.name):
        report = _run_loop(
            space,
            observer,
            job="propose" if blind else "run",
            usd=usd,
            attempts=space.config.loop.attempts if attempts is None else attempts,
            override=override,
        )
        if bundle is not None:
            bundles.write(bundle, space, kind="proposal", experiment=_passed(space, report))
        return report


def _passed(space: Workspace, report: Report) -> Experiment | None:
    """The experiment that passed the screen and is open, if the run ended with one."""
    last = report.attempts[-1] if report.attempts else None
    if last is None or last.reason != Reason.CONFIRM_OPEN:
        return None
    return access.open_ledger(space.project, space.name, blind=space.blind).find(last.experiment)


def _run_loop(
    space: Workspace,
    observer: Observer,
    *,
    job: RunJob,
    usd: float | None,
    attempts: int = 1,
    override: Mapping[str, object] | None = None,
    confirm: str | None = None,
    share: Share | None = None,
    earlier: Sequence[Run] = (),
) -> Report:
    reopen = partial(
        workspace.open_at_base,
        space.project,
        skill=space.name,
        override=override or {},
        branch=space.branch,
        blind=space.blind,
    )

    if note := sealing.note(space.config):
        observer.said(note)

    async def run() -> Report:
        async with session.opened(
            space,
            on_trace=observer.ran,
            job=job,
            usd=usd,
            shard=share.shard if share else None,
            earlier=earlier,
        ) as opened:
            observer.budget = opened.budget
            loop = Loop(
                opened,
                reopen=reopen,
                now=clock.now,
                observer=observer,
                confirm=confirm,
                share=share,
            )
            return await loop.run(attempts=attempts)

    return asyncio.run(run())


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What came of a proposal bundle. ``decision`` is None when there was nothing to decide."""

    manifest: Manifest
    experiment: Experiment | None
    decision: Decision | None
    report: Report | None  # None when no run was needed
    note: str  # why there is no decision
    earlier: tuple[Run, ...] = ()  # what the shards spent
    surplus: int = 0  # held-out runs on record that the verdict did not need
    refused: RatchetError | None = None  # what is wrong with the shards

    @property
    def calls(self) -> int:
        """Calls that were made, those of the shards too."""
        made = sum(run.calls for run in self.earlier)
        return made + (self.report.calls if self.report else 0)

    @property
    def usd(self) -> float | None:
        """What they cost; None when a price is not known."""
        return total([known(self.earlier), self.report.usd if self.report else 0.0])

    @property
    def error(self) -> RatchetError | None:
        """Why it ended early, if it did."""
        return self.refused or (self.report.error if self.report else None)


def confirm(
    start: Path,
    *,
    skill: str | None,
    bundle: Path,
    out: Path,
    observer: Observer,
    usd: float | None = None,
    handed_in: Path | None = None,
) -> Confirmed:
    """Decide about the candidate of a proposal bundle, and write what was found to ``out``.

    The ledger's branches are brought up to date; no other branch moves, and nothing is published.
    A bundle that was confirmed here before is not run again. With what shards have ``handed_in``
    their runs are gone on with as if they had been made here.
    """
    bundles.require_new(out)
    with _taken_over(start, skill=skill, bundle=bundle) as (space, ledger, experiment):
        handed: HandedIn | None = None
        refused: RatchetError | None = None
        if handed_in is not None and (experiment is None or _is_open(ledger, experiment)):
            try:
                handed = _take_up(handed_in, space, ledger, experiment)
            except RatchetError as problem:
                refused = problem
        return _decide(
            space,
            ledger,
            experiment,
            out=out,
            observer=observer,
            job="confirm",
            usd=usd,
            handed=handed,
            refused=refused,
        )


@contextmanager
def _taken_over(
    start: Path, *, skill: str | None, bundle: Path
) -> Iterator[tuple[Workspace, Ledger, Experiment | None]]:
    """A project, alone at work on the skill, whose ledger has what a proposal bundle brings."""
    project = repository.open_project(start)
    name = skill or bundles.read_manifest(bundle, kind="proposal").skill
    space = workspace.open_at_base(project, skill=name, override={})
    check.require_sound(space)
    with RunLock(project.root, space.name):
        ledger = access.open_to_write(project, space.name, redact=space.config.redact)
        checked = bundles.read(bundle, space, kind="proposal")
        bundles.apply(checked, space)
        yield space, ledger, checked.experiment


def _take_up(
    folder: Path, space: Workspace, ledger: Ledger, experiment: Experiment | None
) -> HandedIn | None:
    """Write the runs that shards have made to the ledger, where a killed run would have left them.

    Shards that are refused, or not all there, have looked at the holdout all the same.

    Raises:
        RatchetError: One is not what it should be, or is missing.
    """
    if experiment is None:
        shards.read(folder, shards.plan_of(space, job="confirm", split="holdout"), space)
        return None
    refuse_lost_looks(space, ledger)
    attempt = which_look(ledger, experiment)
    cases, policy = len(space.holdout), space.policy
    block = gates.block_size(cases, policy=policy, deterministic=False)
    plan = shards.plan_of(
        space,
        job="confirm",
        split="holdout",
        experiment=experiment,
        attempt=attempt,
        block=block,
    )
    most = gates.most_pairs(fixtures=cases, attempt=attempt, policy=policy, deterministic=False)
    try:
        handed = shards.read(folder, plan, space, most=most // block)
        own = own_runs(ledger, experiment, splits=("holdout",))
        shards.take_up(handed, plan, ledger, own=own)
        handed.require_all()
    except RatchetError:
        Recorder(ledger, Clock.of(ledger, clock.now)).consult(experiment, attempt=attempt)
        raise
    finally:
        ledger.flush(f"{space.name}: runs of shards")
    return handed


@dataclass(frozen=True, slots=True)
class MadeShard:
    """What one of several machines did for a confirm run. ``report`` is None without a candidate.

    ``look`` is None where there was nothing to run; ``runs`` have a score.
    """

    manifest: shards.ShardManifest
    cases: int
    runs: int
    look: PlannedLook | None
    report: Report | None


def confirm_shard(
    start: Path,
    *,
    skill: str | None,
    bundle: Path,
    out: Path,
    share: Share,
    observer: Observer,
    usd: float | None = None,
) -> MadeShard:
    """Make the confirm runs of one share of the held-out cases, and write them to ``out``.

    Nothing is decided. What was made before a cap or a failed call ended it is written, too.

    Raises:
        RatchetError: It ended before it had anything to write.
    """
    bundles.require_new(out)
    with _taken_over(start, skill=skill, bundle=bundle) as (space, ledger, experiment):
        report: Report | None = None
        before = {run.id for run in _held_out_calls(ledger, experiment)}
        if experiment and _is_open(ledger, experiment):
            report = _run_loop(
                space, observer, job="confirm", usd=usd, confirm=experiment.id, share=share
            )
        if report and report.error and report.look is None:
            raise report.error
        look = report.look if report else None
        plan = shards.plan_of(
            space,
            job="confirm",
            split="holdout",
            experiment=experiment,
            attempt=look.attempt if look else None,
            sweeps=look.sweeps if look else 0,
            block=look.block if look else 0,
        )
        cases = share.shard.cases(space.holdout)
        mine = plan.wanted(cases, of=space.holdout)
        calls = _held_out_calls(ledger, experiment)
        traces = [call for call in calls if call.key and call.key.digest in mine]
        scored = [trace for trace in traces if trace.job == "task" and trace.score]
        manifest = shards.write(
            out,
            share.shard,
            plan,
            traces=traces,
            reused=sum(trace.id in before for trace in scored),
            spent=report.spent if report else None,
        )
        return MadeShard(manifest, len(cases), len(scored), look, report)


def _held_out_calls(ledger: Ledger, experiment: Experiment | None) -> list[Trace]:
    """Every call on record that was made on held-out cases for an experiment, of judges too."""
    if experiment is None:
        return []
    held_out = partial(own_runs, ledger, experiment, splits=("holdout",))
    return [*held_out(job="task"), *held_out(job="judge")]


def gate(
    space: Workspace,
    candidate: Candidate,
    *,
    out: Path,
    observer: Observer,
    usd: float | None = None,
) -> Confirmed:
    """Test a person's edit of a skill as the bot's own are, and write what was found to ``out``.

    The same text on the same skill is the same experiment, whoever had it first: what is on record
    about it is not paid for again.
    """
    bundles.require_new(out)
    check.require_sound(space)
    with RunLock(space.project.root, space.name):
        ledger = access.open_to_write(space.project, space.name, redact=space.config.redact)
        experiment = _taken_up(space, ledger, candidate)
        return _decide(space, ledger, experiment, out=out, observer=observer, job="gate", usd=usd)


def _taken_up(space: Workspace, ledger: Ledger, candidate: Candidate) -> Experiment:
    """The candidate's experiment: the one on record, or one that is begun (anew)."""
    parent, text = space.text.digest, candidate.text
    name = experiment_id(space.name, parent=parent, candidate=text.digest)
    known = next((one for one in ledger.experiments() if one.id == name), None)
    if known is not None:
        result = ledger.result(name)
        given_up = result is not None and result.reason == SUPERSEDED
        usable = same_surroundings(known, space) if _is_open(ledger, known) else not given_up
        if usable:
            return known
    number = next_number(ledger.experiments())
    begun = Recorder(ledger, Clock.of(ledger, clock.now)).begin(candidate, space, number=number)
    ledger.flush(f"{space.name}: experiment {number}: begun")  # the run has a ledger of its own
    return begun


def _decide(
    space: Workspace,
    ledger: Ledger,
    experiment: Experiment | None,
    *,
    out: Path,
    observer: Observer,
    job: Literal["confirm", "gate"],
    usd: float | None,
    handed: HandedIn | None = None,
    refused: RatchetError | None = None,
) -> Confirmed:
    """Screen and confirm an experiment that is open, and write the bundle in any case.

    Of shards it has what they ``handed`` in; when they were ``refused`` nothing is run.
    """
    report = None
    earlier = tuple(handed.spent) if handed else ()
    if experiment and refused is None and _is_open(ledger, experiment):
        report = _run_loop(
            space, observer, job=job, usd=usd, confirm=experiment.id, earlier=earlier
        )
    decision = None
    if experiment and refused is None:
        decision = _decided(ledger, experiment, report, space)
    surplus = _surplus(ledger, experiment, decision) if experiment and handed else 0
    ledger.flush(f"{space.name}: what was not written yet")  # by a job that was killed
    manifest = bundles.write(
        out,
        space,
        kind="confirmation",
        experiment=experiment,
        decision=decision,
        by_person=job == "gate",
    )
    note = refused.message if refused else _note(experiment, report)
    return Confirmed(manifest, experiment, decision, report, note, earlier, surplus, refused)


def _surplus(ledger: Ledger, experiment: Experiment, decision: Decision | None) -> int:
    """Held-out runs that were made for an experiment and that its verdict did not need."""
    if decision is None:
        return 0
    made = {run.id for run in own_runs(ledger, experiment, splits=("holdout",)) if run.score}
    pairs = decision.evidence.confirm
    return len(made - {run for pair in pairs for run in (pair.incumbent_run, pair.candidate_run)})


def _is_open(ledger: Ledger, experiment: Experiment) -> bool:
    result = ledger.result(experiment.id)
    return result is None or result.finished_at < experiment.started_at


def _decided(
    ledger: Ledger, experiment: Experiment, report: Report | None, space: Workspace
) -> Decision | None:
    """What the run came to, or an earlier one that wrote it down on this very commit."""
    if report is not None:
        found = [one for one in report.attempts if one.experiment == experiment.id]
        evidence, verdict = (found[-1].evidence, found[-1].verdict) if found else (None, None)
    else:
        kept = ledger.confirmation(experiment.id)
        evidence, verdict = (kept.evidence, kept.verdict) if kept else (None, None)
        if evidence and evidence.tested != space.binding(head=experiment.candidate or ""):
            return None  # whoever acts on it has it from the ledger, and compares
    return bundles.decision_of(experiment, evidence=evidence, verdict=verdict)


# A bundle that was overtaken ----------------------------------------------------------------


def take_in(bundle: Path, space: Workspace, *, kind: Kind, by_person: bool = False) -> Checked:
    """Check a bundle and bring its records to the ledger.

    Where another job has looked at the holdout for the same skill meanwhile, its look is put down
    as one more, with what it has paid for, and its experiment is left open: the next run goes on
    with the runs there are, and has to reach the bar of that look.

    Raises:
        RatchetError: It is not sound, or was overtaken.
    """
    try:
        checked = bundles.read(bundle, space, kind=kind, by_person=by_person)
    except bundles.OvertakenError as error:
        looked = kind == "confirmation"
        attempt = _count_look(bundle, space, by_person=by_person) if looked else None
        if attempt is None:
            raise
        raise bundles.OvertakenError(
            f"Another job has looked at the held-out cases of {space.name} since this bundle was "
            f"begun. Its look is counted, as attempt {attempt}; its verdict is not taken.",
            hint="Run again: it goes on with the runs there are.",
        ) from error
    bundles.apply(checked, space)
    return checked


def _count_look(bundle: Path, space: Workspace, *, by_person: bool) -> int | None:
    """Which attempt the look is put down as; None when there is none that is not on record."""
    left = bundles.remains(bundle, space, by_person=by_person)
    if left is None:
        return None
    ledger = access.open_to_write(space.project, space.name, redact=space.config.redact)
    known = next((one for one in ledger.experiments() if one.id == left.experiment.id), None)
    if known is not None and ledger.confirmation(known.id) is not None:
        return None  # the same edit, looked at by the other job: one look at one edit
    for run in left.runs:
        ledger.add_run(run)
    for trace in left.traces:
        ledger.add_trace(trace)
    number = next_number(ledger.experiments())
    begun = Recorder(ledger, Clock.of(ledger, clock.now))
    experiment = known or begun.begin_anew(left.experiment, left.text, space, number=number)
    attempt = which_look(ledger, experiment)
    Recorder(ledger, Clock.of(ledger, clock.now)).consult(experiment, attempt=attempt)
    ledger.flush(f"{space.name}: a look beside another")
    return attempt


def _note(experiment: Experiment | None, report: Report | None) -> str:
    if experiment is None:
        return "The bundle has no candidate: nothing to confirm."
    if report and report.error:
        return report.error.message
    return (report.stopped if report else None) or "It was not decided."
