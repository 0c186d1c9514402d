"""The loop: gather, decide, act. The only orchestration; it prints nothing.

One attempt is: read the failing train traces, propose one edit, screen it on train, confirm it
on the holdout, ask ``gate.decide``, and do what the verdict says. Every step is written to the
ledger before the next one begins, so a run that dies goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from math import fsum
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from bot import workspace
from bot.core import diagnosis, gate, leaks, plan, reign, render
from bot.core.evidence import State
from bot.core.gate import Action, Reason
from bot.core.records import Evidence, digest
from bot.errors import RatchetError
from bot.forge import plain
from bot.proposing import (
    PROTECTED,
    SECRET,
    SUPERSEDED,
    Proposing,
    Stop,
    Unusable,
    next_number,
    read_past,
)
from bot.recording import Attempt, Outcome, Recorder, own_runs
from bot.recording import attempt as attempt_of
from bot.runner import NO_DUEL, duel, sweep
from bot.settling import Settling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from bot.bench import Bench
    from bot.core.evidence import Progress
    from bot.core.gate import Verdict
    from bot.core.records import Experiment, Pair, Split, Trace
    from bot.runner import Duel, Text
    from bot.workspace import Workspace

# Not about the candidate: it stays undecided, and a later run settles it with the runs there are.
PASSING = frozenset({Reason.HELD, Reason.STALE})


class Observer(Protocol):
    """Told what goes on, as it goes on. Nothing it does can change a result."""

    def phase(self, name: str, *, runs: int) -> None:
        """A new phase begins, of at most ``runs`` task calls (0 when not known)."""
        ...

    def said(self, text: str) -> None:
        """Something a person should know."""
        ...

    def decided(self, attempt: Attempt) -> None:
        """An attempt ended."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to. ``error`` is why it stopped early, if it did."""

    skill: str
    model: str
    rule: str
    attempts: tuple[Attempt, ...]
    baseline: float | None  # mean train score of the skill the run began with
    calls: int
    usd: float | None
    seconds: float
    stopped: str | None
    error: RatchetError | None

    @property
    def merged(self) -> int:
        """How many experiments were merged."""
        return sum(attempt.action == Action.MERGE for attempt in self.attempts)


class Loop:
    """One run of one skill.

    Args:
        bench: The workspace, and what it takes to run its cases.
        reopen: Reads the workspace again from the base branch.
        now: The UTC time.
        observer: Told what goes on.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        reopen: Callable[[], Workspace],
        now: Callable[[], datetime],
        observer: Observer,
    ) -> None:
        self._space = bench.space
        self._bench, self._reopen, self._now, self._observer = bench, reopen, now, observer
        self._ledger, self._runner, self._budget = bench.ledger, bench.runner, bench.budget
        self._recorder = Recorder(bench.ledger, now)
        self._attempts: list[Attempt] = []
        self._baseline: float | None = None

    async def run(self, *, attempts: int) -> Report:
        """Make up to ``attempts`` attempts. Expected errors end the run and are reported."""
        stopped: str | None = None
        error: RatchetError | None = None
        try:
            await self._run(attempts)
        except Stop as reason:
            stopped = str(reason)
        except RatchetError as problem:
            error = problem
        finally:
            self._ledger.flush(f"{self._space.name}: end of a run")
        return Report(
            skill=self._space.name,
            model=self._space.how.model,
            rule=self._space.policy.rule,
            attempts=tuple(self._attempts),
            baseline=self._baseline,
            calls=self._budget.calls,
            usd=self._budget.spent,
            seconds=self._budget.seconds,
            stopped=stopped,
            error=error,
        )

    async def _run(self, attempts: int) -> None:
        if workspace.held(self._space.project):
            raise Stop(f"On hold: delete {workspace.HOLD_FILE} to go on.")
        self._settling().landed()
        if self._settling().waiting():
            self._space = self._reopen()
        for _ in range(attempts):
            baseline = await self._measure()
            attempt = await self._attempt(baseline)
            self._attempts.append(attempt)
            self._observer.decided(attempt)
            if attempt.action == Action.HOLD:
                raise Stop(f"Experiment {attempt.experiment[:12]} waits. {attempt.detail}")

    def _settling(self) -> Settling:
        return Settling(
            space=self._space,
            ledger=self._ledger,
            recorder=self._recorder,
            reopen=self._reopen,
            now=self._now,
            say=self._observer.said,
        )

    # Measure and propose ----------------------------------------------------------------------

    async def _measure(self) -> list[Trace]:
        """The incumbent on every train case, once; kept runs are re-used."""
        space = self._space
        self._ledger.add_skill_text(space.text.digest, space.text.text)
        self._runner.remember(self._ledger.kept_runs(space.text.digest, space.how.digest).values())
        self._observer.phase("baseline on train", runs=len(space.train))
        traces = await sweep(self._runner, space.text, space.train)
        self._ledger.flush(f"{space.name}: baseline of {space.text.digest[:12]}")
        _refuse_unscored(traces)
        await self._refuse_broken(traces)
        if self._baseline is None:
            self._baseline = fmean(trace.score.value for trace in traces if trace.score)
        return traces

    async def _refuse_broken(self, traces: Sequence[Trace]) -> None:
        """Stop with a diagnosis when the scores say nothing about the skill."""
        null: Sequence[Trace] = ()
        if diagnosis.suspicious(traces):
            self._observer.phase("empty skill on train", runs=len(traces))
            empty, how = workspace.text_of(""), self._space.how
            self._runner.remember(self._ledger.kept_runs(empty.digest, how.digest).values())
            null = await sweep(self._runner, empty, self._space.train)
        if problem := diagnosis.broken(traces, null=null):
            raise RatchetError(
                f"The evaluation looks broken, so no skill is blamed. {problem}",
                hint=f"Look at one run whole: ratchet trace {traces[0].id}",
            )

    async def _attempt(self, baseline: Sequence[Trace]) -> Attempt:
        spent = _Spent(self._budget.calls, self._budget.usd)
        experiment = self._resumable()
        if experiment is not None:
            spent = self._recall(experiment, spent)
        else:
            past = read_past(self._ledger.for_proposer())
            made = await self._proposing().propose(baseline, past)
            experiment = self._recorder.begin(made, self._space, number=next_number(past))
            if isinstance(made, Unusable):
                return self._refuse(experiment, made.reason, made.detail, spent)
        return await self._try(experiment, spent)

    def _refuse(self, experiment: Experiment, reason: str, detail: str, spent: _Spent) -> Attempt:
        """Close an experiment that is not worth a run."""
        calls, usd = self._since(spent)
        return self._recorder.close(
            experiment, Outcome(Action.REJECT, reason, detail, calls=calls, usd=usd)
        )

    def _proposing(self) -> Proposing:
        return Proposing(
            space=self._space,
            ledger=self._ledger.for_proposer(),
            keep=self._ledger.add_trace,
            provider=self._bench.meta_provider,
            budget=self._budget,
            stamp=self._recorder.stamp,
            say=self._observer.said,
        )

    def _resumable(self) -> Experiment | None:
        """The experiment a run that died left behind, if it can still be decided."""
        experiment = self._ledger.unfinished()
        if experiment is None or self._same_surroundings(experiment):
            return experiment
        detail = "The skill, its fixtures or the settings changed before it was decided."
        self._recorder.close(experiment, Outcome(Action.REJECT, SUPERSEDED, detail))
        return None

    def _same_surroundings(self, experiment: Experiment) -> bool:
        """Whether everything the experiment's numbers depend on is as it was.

        The base commit may differ as long as the skill, fixtures and settings in it do not.
        """
        then, now = experiment.setting, self._space.setting()
        names = ("model_digest", "scorer_digest", "train_digest", "holdout_digest", "evaluator")
        same = all(getattr(then, name) == getattr(now, name) for name in (*names, "seed"))
        return (
            same
            and experiment.candidate is not None
            and experiment.parent == (self._space.text.digest)
        )

    def _recall(self, experiment: Experiment, spent: _Spent) -> _Spent:
        """Take up the runs a run that died has paid for; they count as this experiment's."""
        self._observer.said(f"Going on with experiment {experiment.id[:12]}.")
        runs = own_runs(self._ledger, experiment)
        self._runner.remember(runs)
        asked = self._proposing().kept_reply(experiment.number)
        replies = [trace.reply for trace in runs] + ([asked] if asked else [])
        paid = fsum(reply.usd or 0.0 for reply in replies)
        return _Spent(spent.calls - len(replies), spent.usd - paid)

    # Try --------------------------------------------------------------------------------------

    async def _try(self, experiment: Experiment, spent: _Spent) -> Attempt:
        """Screen, confirm, decide, act."""
        text = self._ledger.candidate_text(experiment.id)
        if text is None:
            raise RatchetError(f"The ledger has no text for experiment {experiment.id[:12]}.")
        trial = _Trial(experiment, workspace.text_of(text))
        space = self._space
        if trial.candidate.digest != experiment.candidate:
            return self._refuse(experiment, PROTECTED, SECRET, spent)
        trial.leaks = leaks.found(
            text, incumbent=space.text.text, train=space.train, holdout=space.holdout
        )
        if not trial.leaks:
            trial.screen = await self._duel(trial, "train")
            if trial.screen.progress.state is State.PASS:
                trial.attempt = self._consult(experiment)
                trial.confirm = await self._duel(trial, "holdout")
        evidence = self._gather(trial)
        verdict = gate.decide(evidence, space.policy)
        if verdict.reason is Reason.MISSING_SCORES:
            raise _failed_calls((*trial.screen.missing, *trial.confirm.missing), experiment)
        return self._act(trial, evidence, verdict, spent)

    def _consult(self, experiment: Experiment) -> int:
        attempt = reign.attempt_number(
            self._ledger.confirmations(),
            parent=experiment.parent,
            experiment=experiment.id,
            since=experiment.started_at,
        )
        self._recorder.consult(experiment, attempt=attempt)
        return attempt

    async def _duel(self, trial: _Trial, split: Split) -> Duel:
        space, holdout = self._space, split == "holdout"
        fixtures = {fixture.id: fixture for fixture in space.fixtures(split)}
        attempt = trial.attempt if holdout else None
        most = gate.most_pairs(
            fixtures=len(fixtures),
            attempt=attempt,
            policy=space.policy,
            deterministic=self._bench.provider.deterministic,
        )
        self._observer.phase("confirm on holdout" if holdout else "screen on train", runs=2 * most)
        seed = f"{space.config.loop.seed}/{trial.experiment.id}/{split}"
        return await duel(
            self._runner,
            islice(plan.sweeps(list(fixtures), seed=seed), most),
            fixtures=fixtures,
            incumbent=space.text,
            candidate=trial.candidate,
            experiment=trial.experiment.id,
            fresh=holdout,
            judge=lambda pairs: self._progress(pairs, len(fixtures), attempt),
        )

    def _progress(self, pairs: Sequence[Pair], fixtures: int, attempt: int | None) -> Progress:
        policy, deterministic = self._space.policy, self._bench.provider.deterministic
        if attempt is None:
            return gate.screen_progress(
                pairs, fixtures=fixtures, policy=policy, deterministic=deterministic
            )
        return gate.confirm_progress(
            pairs, fixtures=fixtures, attempt=attempt, policy=policy, deterministic=deterministic
        )

    def _gather(self, trial: _Trial) -> Evidence:
        """Every fact the decision needs; what is there now is read again, not remembered."""
        space = self._space
        head = trial.candidate.digest
        landed = plain.landed(space.project, branch=space.branch, experiment_id=trial.experiment.id)
        return Evidence(
            experiment=trial.experiment.id,
            tested=space.binding(head=head),
            current=self._reopen().binding(head=head),
            held=workspace.held(space.project),
            landed=landed is not None,
            leaks=trial.leaks,
            deterministic=self._bench.provider.deterministic,
            train_fixtures=tuple(fixture.id for fixture in space.train),
            holdout_fixtures=tuple(fixture.id for fixture in space.holdout),
            screen=trial.screen.pairs,
            confirm=trial.confirm.pairs,
            missing=len(trial.screen.missing) + len(trial.confirm.missing),
            attempt=trial.attempt,
            age=0.0,
        )

    # Act --------------------------------------------------------------------------------------

    def _act(self, trial: _Trial, evidence: Evidence, verdict: Verdict, spent: _Spent) -> Attempt:
        """Publish what won, merge what may be merged, write down what became of it."""
        experiment = trial.experiment
        if verdict.reason in PASSING:
            calls, usd = self._since(spent)
            return attempt_of(experiment, Outcome.of(verdict, evidence, calls=calls, usd=usd))
        self._recorder.confirmed(experiment, evidence, verdict)
        if trial.confirm.progress.state is State.PASS:
            commit = self._publish(trial, evidence)
            if verdict.action is Action.MERGE:
                verdict = self._settling().merge(experiment, commit, verdict)
        calls, usd = self._since(spent)
        attempt = self._recorder.close(
            experiment, Outcome.of(verdict, evidence, calls=calls, usd=usd)
        )
        if verdict.action is Action.MERGE:
            self._space = self._reopen()
        return attempt

    def _publish(self, trial: _Trial, evidence: Evidence) -> str:
        space, experiment = self._space, trial.experiment
        return plain.publish(
            space.project,
            skill=space.name,
            path=space.skill.path,
            base=space.base,
            text=trial.candidate.text,
            message=render.one_line(f"{space.name}: {experiment.proposal.hypothesis}", 72),
            trailers={
                "Ratchet-Experiment": experiment.id,
                "Ratchet-Parent": experiment.parent,
                "Ratchet-Evidence": digest("evidence", evidence.model_dump(mode="json")),
            },
            at=self._recorder.stamp(),
        )

    def _since(self, spent: _Spent) -> tuple[int, float | None]:
        usd = self._budget.usd - spent.usd
        return self._budget.calls - spent.calls, usd if self._budget.priced else None


@dataclass(frozen=True, slots=True)
class _Spent:
    """Where the budget stood when an attempt began."""

    calls: int
    usd: float


@dataclass(slots=True)
class _Trial:
    """An experiment under way, filled in step by step."""

    experiment: Experiment
    candidate: Text
    leaks: tuple[str, ...] = ()
    screen: Duel = NO_DUEL
    confirm: Duel = NO_DUEL
    attempt: int | None = None


def _refuse_unscored(traces: Sequence[Trace]) -> None:
    failed = [trace for trace in traces if trace.score is None]
    if failed:
        many = "Every call failed" if len(failed) == len(traces) else f"{len(failed)} calls failed"
        raise RatchetError(
            f"{many} on the incumbent, so nothing can be compared. {_why(failed[0])}",
            hint="Put that right and run again; what succeeded is kept.",
        )


def _failed_calls(failed: Sequence[Trace], experiment: Experiment) -> RatchetError:
    return RatchetError(
        f"{len(failed)} runs of experiment {experiment.id[:12]} have no score, so it waits. "
        f"{_why(failed[0])}",
        hint="Run again: what succeeded is kept, only the missing runs are made.",
    )


def _why(trace: Trace) -> str:
    where = f"case {trace.fixture}" if trace.split == "train" else "a held-out case"
    return f"First, on {where}: {trace.reply.error or trace.scorer_error or 'no answer'}"
