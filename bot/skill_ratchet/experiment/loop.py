"""The loop: gather, decide, act. The only orchestration; it prints nothing.

One attempt is: read the failing train traces, propose one edit, try it on the cases it is meant to
fix, screen it on train, confirm it on the holdout, ask ``gate.decide``, and do what the verdict
says. Every step is written to the ledger before the next one begins, so a run that dies goes on
where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import draw, gate, leaks, looks, wording
from skill_ratchet.core.evidence import VERSION, State
from skill_ratchet.core.facts import Findings, gather
from skill_ratchet.core.gate import Action, Reason
from skill_ratchet.core.records import NOT_CONFIRMED
from skill_ratchet.experiment import badges, diagnosis, plan
from skill_ratchet.experiment.budget import ending
from skill_ratchet.experiment.open_proposal import Settling, evidence_digest, publish
from skill_ratchet.experiment.proposer import (
    PROTECTED,
    SECRET,
    SUPERSEDED,
    Proposing,
    Stop,
    Unusable,
    next_number,
    read_past,
)
from skill_ratchet.experiment.recorder import (
    NOT_MERGED,
    Attempt,
    Outcome,
    Recorder,
    failed_calls,
    own_runs,
    paid_for,
    price,
    proposals_paid,
)
from skill_ratchet.experiment.recorder import attempt as attempt_of
from skill_ratchet.experiment.runner import NO_DUEL, aimed, duel, mean_score, sweep
from skill_ratchet.ledger import access
from skill_ratchet.project import repository, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from skill_ratchet.core.draw import Planned
    from skill_ratchet.core.evidence import Progress
    from skill_ratchet.core.gate import Verdict
    from skill_ratchet.core.records import (
        Ended,
        Evidence,
        Experiment,
        Fixture,
        Pair,
        Proposal,
        Reply,
        Run,
        Split,
        Text,
        Trace,
    )
    from skill_ratchet.experiment.observer import Observer
    from skill_ratchet.experiment.proposer import Candidate
    from skill_ratchet.experiment.runner import Duel
    from skill_ratchet.experiment.session import Bench
    from skill_ratchet.ledger import Ledger, TrainLedger
    from skill_ratchet.ledger.shards import Shard
    from skill_ratchet.project.workspace import Workspace

ELSEWHERE = "It passed the screen; the held-out cases decide: ratchet run, or ratchet confirm."


@dataclass(frozen=True, slots=True)
class Share:
    """One machine's part of a confirm run; ``sweeps`` None for the fewest that may be enough."""

    shard: Shard
    sweeps: int | None = None


class PlannedLook(NamedTuple):
    """The look at the holdout that a share's runs are made for: which it is, and its sweeps.

    A sweep is a block, where the holdout is large.
    """

    attempt: int
    sweeps: int
    block: int  # cases of each


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to. ``error`` is why it stopped early, if it did.

    ``spent`` is the record of its cost, and ``look`` that of a share, once its first call was due.
    """

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
    spent: Run | None = None
    look: PlannedLook | None = None

    @property
    def merged(self) -> int:
        """How many experiments were merged."""
        return sum(attempt.action == Action.MERGE for attempt in self.attempts)


class Loop:
    """One run of one skill.

    Args:
        bench: The workspace, and what it takes to run its cases.
        reopen: Reads the workspace again from the base branch.
        now: The UTC time, for how long something has waited.
        observer: Told what goes on.
        confirm: Decide about this open experiment and no other; propose nothing, and leave acting
            on the verdict to somebody else (docs/design/github.md).
        share: Of that experiment, make a share of the confirm runs; decide nothing.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        reopen: Callable[[], Workspace],
        now: Callable[[], datetime],
        observer: Observer,
        confirm: str | None = None,
        share: Share | None = None,
    ) -> None:
        self._space, self._confirm, self._share = bench.space, confirm, share
        self._bench, self._reopen, self._now, self._observer = bench, reopen, now, observer
        self._ledger, self._runner, self._budget = bench.ledger, bench.runner, bench.budget
        self._recorder = Recorder(bench.ledger, bench.clock)
        self._attempts: list[Attempt] = []
        self._baseline: float | None = None
        self._look: PlannedLook | None = None

    async def run(self, *, attempts: int) -> Report:
        """Make up to ``attempts`` attempts. Expected errors end the run and are reported.

        With none the incumbent is measured on train, and nothing else is done.
        """
        stopped: str | None = None
        error: RatchetError | None = None
        how: Ended = "done"
        try:
            await self._run(attempts)
        except Stop as reason:
            stopped, how = str(reason), "stopped"
        except BaseException as problem:
            how = ending(problem)
            if not isinstance(problem, RatchetError):
                raise
            error = problem
        finally:
            self._bench.account.end(how)
            if not self._space.blind and self._confirm is None:  # those hand on what they found
                badges.refresh(self._ledger, self._space)
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
            spent=self._bench.account.run,
            look=self._look,
        )

    async def _run(self, attempts: int) -> None:
        if workspace.held(self._space.project):
            raise Stop(f"On hold: delete {repository.HOLD_FILE} to go on.")
        repository.require_history(self._space.project)
        self._settling().landed()
        refuse_lost_looks(self._space, self._ledger)
        if not attempts:
            await self._measure()
            return
        if self._confirm is None and self._settling().waiting():
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
            keep=self._confirm is None,
        )

    # Measure and propose ----------------------------------------------------------------------

    async def _measure(self) -> list[Trace]:
        """The incumbent on every train case, once; kept runs are re-used."""
        space = self._space
        self._ledger.add_skill_text(space.text.digest, space.text.text)
        self._bench.recall(space.text)
        self._observer.phase("baseline on train", runs=len(space.train))
        traces = await sweep(self._runner, space.text, space.train)
        self._ledger.flush(f"{space.name}: baseline of {space.text.digest[:12]}")
        _refuse_unscored(traces)
        await self._refuse_broken(traces)
        if self._baseline is None:
            self._baseline = mean_score(traces)
        return traces

    async def _refuse_broken(self, traces: Sequence[Trace]) -> None:
        """Stop with a diagnosis when the scores say nothing about the skill."""
        null: Sequence[Trace] = ()
        if diagnosis.suspicious(traces):
            self._observer.phase("empty skill on train", runs=len(traces))
            empty = workspace.text_of("")
            self._bench.recall(empty)
            null = await sweep(self._runner, empty, self._space.train)
        if problem := diagnosis.broken(traces, null=null):
            raise RatchetError(
                f"The evaluation looks broken, so no skill is blamed. {problem}",
                hint=f"Look at one run whole: ratchet trace {traces[0].id}",
            )

    async def _attempt(self, baseline: Sequence[Trace]) -> Attempt:
        spent = _Spent(self._budget.calls, self._budget.usd)
        experiment = self._resumable()
        if self._confirm not in (None, experiment and experiment.id):
            raise Stop("The experiment cannot be confirmed: what it was measured on has changed.")
        if experiment is not None:
            spent = self._recall(experiment, spent)
        else:
            number = next_number(self._ledger.experiments())
            spent = spent.with_paid(proposals_paid(self._ledger, number, self._space.text.digest))
            made = await self._propose(baseline)
            if isinstance(made, Unusable):
                outcome = self._refusal(made.reason, made.detail, spent)
                outcome = replace(outcome, leaked=bool(self._leaked(made.proposal, None)))
                return self._recorder.refuse(made, self._space, number=number, outcome=outcome)
            experiment = self._recorder.begin(made, self._space, number=number)
        return await self._try(experiment, spent, baseline)

    def _refusal(self, reason: str, detail: str, spent: _Spent) -> Outcome:
        """The end of an experiment that is not worth a run."""
        calls, usd = self._since(spent)
        return Outcome(Action.REJECT, reason, detail, calls=calls, usd=usd)

    async def _propose(self, baseline: Sequence[Trace]) -> Candidate | Unusable:
        """One proposal, from what may be known of the record while these cases are train."""
        known = access.for_proposer(self._ledger, self._space)
        return await self._proposing(known).propose(baseline, read_past(known))

    def _proposing(self, known: TrainLedger) -> Proposing:
        return Proposing(
            space=self._space,
            ledger=known,
            keep=self._ledger.add_trace,
            provider=self._bench.meta_provider,
            budget=self._bench.meta_budget,
            stamp=self._recorder.stamp,
            say=self._observer.said,
        )

    def _resumable(self) -> Experiment | None:
        """The experiment a run that died left behind, if it can still be decided."""
        experiment = self._left_behind()
        if experiment is None:
            return None
        if same_surroundings(experiment, self._space):
            unbound = experiment.setting.holdout_digest is None and not self._space.blind
            return self._recorder.take_over(experiment, self._space) if unbound else experiment
        self._give_up(experiment)
        return None

    def _give_up(self, experiment: Experiment) -> None:
        """Write down and say that an experiment cannot go on, and what it cost."""
        detail = "The skill, its fixtures or the settings changed before it was decided."
        if experiment.setting.gate != VERSION:
            detail = (
                f"It was begun by version {experiment.setting.gate} of the gate's rule, and this "
                f"is version {VERSION}: no verdict is made of both. Its runs are kept."
            )
        this = self._bench.account.run
        paid = paid_for(self._ledger, experiment, until=this.started_at if this else "")
        cost = price(paid)
        self._recorder.close(
            experiment,
            Outcome(Action.REJECT, SUPERSEDED, detail, calls=len(paid), usd=cost),
        )
        calls = wording.many(len(paid), "call")
        self._observer.said(f"Experiment {experiment.number} is given up after {calls}. {detail}")

    def _left_behind(self) -> Experiment | None:
        """The one that is asked for; else the first, but no person's: that merges nothing."""
        for one in self._ledger.unfinished():
            persons = one.setting.proposer == workspace.PERSON
            if one.id == self._confirm or (self._confirm is None and not persons):
                return one
        return None

    def _recall(self, experiment: Experiment, spent: _Spent) -> _Spent:
        """Take up the runs a run that died has paid for; they count as this experiment's."""
        self._observer.said(f"Going on with experiment {experiment.id[:12]}.")
        self._runner.remember(own_runs(self._ledger, experiment))
        return spent.with_paid(paid_for(self._ledger, experiment))

    # Try --------------------------------------------------------------------------------------

    async def _try(
        self, experiment: Experiment, spent: _Spent, baseline: Sequence[Trace]
    ) -> Attempt:
        """Try its targets, screen, confirm, decide, act."""
        text = self._ledger.candidate_text(experiment.id)
        if text is None:
            raise RatchetError(f"The ledger has no text for experiment {experiment.id[:12]}.")
        scores = tuple(trace.score.value for trace in baseline if trace.score)
        trial = _Trial(experiment, workspace.text_of(text), scores)
        space = self._space
        if trial.candidate.digest != experiment.candidate:
            return self._recorder.close(experiment, self._refusal(PROTECTED, SECRET, spent))
        if not space.blind:
            trial.leaks = self._leaked(experiment.proposal, text)
        await self._compare(trial, baseline)
        if (failed := self._runner.broken) is not None:
            raise _no_answers(failed, experiment)
        if self._share is not None:
            raise Stop("It will not be confirmed, so there is nothing to run.")
        evidence = self._gather(trial)
        verdict = gate.decide(evidence, space.policy)
        if verdict.reason is Reason.MISSING_SCORES:
            raise _failed_calls(trial.missing, experiment)
        if space.blind and verdict.reason is Reason.EMPTY_SPLIT:  # as it has to be here
            verdict = verdict.with_(reason=Reason.CONFIRM_OPEN, detail=ELSEWHERE)
        return self._act(trial, evidence, verdict, spent)

    def _leaked(self, proposal: Proposal, text: str | None) -> tuple[str, ...]:
        """Held-out text in anything that was proposed, as far as this process knows any."""
        space = self._space
        return leaks.written(
            proposal,
            text,
            incumbent=space.text.text,
            train=space.train,
            holdout=space.holdout,
        )

    async def _compare(self, trial: _Trial, baseline: Sequence[Trace]) -> None:
        """Its targets, the screen, the holdout: each only if what came before speaks for it."""
        if not trial.leaks:
            trial.targeted = await self._aim(trial, baseline)
        if not (trial.leaks or trial.targeted.missing or gate.missed(trial.targeted.pairs)):
            trial.screen = await self._duel(trial, "train")
        if trial.screen.progress.state is State.PASS and not self._space.blind:
            trial.attempt = which_look(self._ledger, trial.experiment)
            if self._share is not None:
                await self._make(self._share, trial, attempt=trial.attempt)
            self._recorder.consult(trial.experiment, attempt=trial.attempt)
            trial.confirm = await self._duel(trial, "holdout")

    async def _aim(self, trial: _Trial, baseline: Sequence[Trace]) -> Duel:
        """The candidate on the cases it is meant to fix: an edit that fixes none ends here."""
        targets = plan.targeted(trial.experiment.proposal.targets, baseline)
        if not targets:
            return NO_DUEL
        self._observer.phase("targeted cases", runs=len(targets))
        return await aimed(
            self._runner,
            targets,
            fixtures={fixture.id: fixture for fixture in self._space.train},
            candidate=trial.candidate,
            experiment=trial.experiment.id,
        )

    async def _make(self, share: Share, trial: _Trial, *, attempt: int) -> NoReturn:
        """Make a share of the confirm runs, in the order in which one machine would make them.

        The look counts from here on, as if there were one machine.
        """
        sweeps = self._sweeps(share, attempt)
        self._recorder.consult(trial.experiment, attempt=attempt)
        self._look = PlannedLook(attempt, sweeps, self._block)
        space, shard = self._space, share.shard
        fixtures = {case.id: case for case in shard.cases(space.holdout)}
        order = list(islice(self._plan(trial, "holdout"), sweeps * self._block))
        mine = [planned for planned in order if planned.fixture in fixtures]
        most = len(mine)
        name = f"confirm on holdout, shard {shard}"
        self._observer.phase(name, runs=2 * most, incumbent=space.text.digest)
        done = await duel(
            self._runner,
            iter(mine),
            fixtures=fixtures,
            incumbent=space.text,
            candidate=trial.candidate,
            experiment=trial.experiment.id,
            fresh=True,
            judge=lambda _: NO_DUEL.progress,
            most=most,
        )
        if done.missing:
            raise _failed_calls(done.missing, trial.experiment)
        raise Stop(f"Shard {shard} is done.")

    def _sweeps(self, share: Share, attempt: int) -> int:
        """How many sweeps a share makes."""
        most, fewest = (
            pairs(
                fixtures=len(self._space.holdout),
                attempt=attempt,
                policy=self._space.policy,
                deterministic=self._bench.provider.deterministic,
            )
            // self._block
            for pairs in (gate.most_pairs, gate.fewest_pairs)
        )
        wanted = share.sweeps or fewest
        if wanted > most:
            raise RatchetError(
                f"--sweeps {wanted}: this confirm run may take {most} at most.",
                hint="Leave --sweeps out for as few as may be enough.",
            )
        return wanted

    def _plan(self, trial: _Trial, split: Split) -> Iterator[Planned]:
        seed = draw.seed_of(self._space.config.loop.seed, trial.experiment.id, split)
        names = [case.id for case in self._space.fixtures(split)]
        size = self._block if split == "holdout" else None
        return plan.sweeps(names, seed=seed, size=size)

    @property
    def _block(self) -> int:
        """Held-out cases between two looks at the bar."""
        return gate.block_size(
            len(self._space.holdout),
            policy=self._space.policy,
            deterministic=self._bench.provider.deterministic,
        )

    def _kept(self, trial: _Trial) -> Callable[[Fixture, int], int]:
        """How many kept runs of a case there are in a sweep of the screen.

        Those that were there when the experiment was begun, or as many as the sweep asks for: a
        run that was interrupted goes on with the same.
        """
        space, deterministic = self._space, self._bench.provider.deterministic
        repeated = space.policy.rule == "evidence" and not deterministic
        begun = trial.experiment.started_at if repeated else ""
        had = {case.id: self._runner.kept(space.text, case, before=begun) for case in space.train}

        def kept(case: Fixture, sweep: int) -> int:
            least = gate.kept_runs(
                fixtures=len(space.train),
                sweep=sweep,
                policy=space.policy,
                deterministic=deterministic,
            )
            return max(least, had[case.id])

        return kept

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
        name = "confirm on holdout" if holdout else "screen on train"
        self._observer.phase(name, runs=2 * most, incumbent=space.text.digest)
        return await duel(
            self._runner,
            islice(self._plan(trial, split), most),
            fixtures=fixtures,
            incumbent=space.text,
            candidate=trial.candidate,
            experiment=trial.experiment.id,
            fresh=holdout and not self._bench.provider.deterministic,
            judge=lambda pairs: self._progress(pairs, trial, attempt),
            most=most,
            kept=None if holdout else self._kept(trial),
        )

    def _progress(self, pairs: Sequence[Pair], trial: _Trial, attempt: int | None) -> Progress:
        space, deterministic = self._space, self._bench.provider.deterministic
        if attempt is None:
            names = (fixture.id for fixture in space.train)
            return gate.screen_progress(
                pairs,
                fixtures=len(space.train),
                policy=space.policy,
                deterministic=deterministic,
                holdout=len(space.holdout),
                scores=dict(zip(names, trial.scores, strict=True)),
            )
        return gate.confirm_progress(
            pairs,
            fixtures=len(space.holdout),
            attempt=attempt,
            policy=space.policy,
            deterministic=deterministic,
            train=trial.screen.pairs,
        )

    def _gather(self, trial: _Trial) -> Evidence:
        """Every fact the decision needs; what is there now is read again, not remembered."""
        space = self._space
        head = trial.candidate.digest
        findings = Findings(
            experiment=trial.experiment.id,
            tested=space.binding(head=head),
            leaks=trial.leaks,
            version=VERSION,
            seed=space.config.loop.seed,
            deterministic=self._bench.provider.deterministic,
            train_fixtures=tuple(fixture.id for fixture in space.train),
            holdout_fixtures=tuple(fixture.id for fixture in space.holdout),
            train_scores=trial.scores,
            screen=trial.screen.pairs,
            confirm=trial.confirm.pairs,
            targeted=trial.targeted.pairs,
            missing=len(trial.missing),
            failed=failed_calls(self._ledger, trial.experiment),
            attempt=trial.attempt,
        )
        return gather(findings, self._settling().present(findings.experiment, head=head, age=0.0))

    # Act --------------------------------------------------------------------------------------

    def _act(self, trial: _Trial, evidence: Evidence, verdict: Verdict, spent: _Spent) -> Attempt:
        """Publish what won, merge what may be merged, write down what became of it."""
        experiment = trial.experiment
        # Any other hold is not about the candidate: it stays undecided, and a later run settles it
        # with the runs there are.
        if verdict.action is Action.HOLD and verdict.reason not in gate.WAITS:
            return attempt_of(experiment, self._outcome(verdict, evidence, spent))
        self._recorder.confirmed(experiment, evidence, verdict)
        if trial.confirm.progress.state is State.PASS:
            if self._confirm is not None:
                return self._leave(experiment, evidence, verdict, spent)
            commit = self._publish(trial, evidence)
            if verdict.action is Action.MERGE:
                verdict = self._settling().merge(experiment, commit, verdict)
        attempt = self._recorder.close(experiment, self._outcome(verdict, evidence, spent))
        if verdict.action is Action.MERGE:
            self._space = self._reopen()
        return attempt

    def _leave(
        self, experiment: Experiment, evidence: Evidence, verdict: Verdict, spent: _Spent
    ) -> Attempt:
        """Write a candidate that won down as one that waits, until somebody has acted on it."""
        cost = self._since(spent)
        waits = Outcome(Action.HOLD, NOT_CONFIRMED, NOT_MERGED, evidence, verdict, *cost)
        return self._recorder.close(experiment, waits)

    def _outcome(self, verdict: Verdict, evidence: Evidence, spent: _Spent) -> Outcome:
        """What the gate said."""
        action, reason, detail = verdict.action, verdict.reason.value, verdict.detail
        return Outcome(action, reason, detail, evidence, verdict, *self._since(spent))

    def _publish(self, trial: _Trial, evidence: Evidence) -> str:
        name, at = evidence_digest(evidence), self._recorder.stamp()
        return publish(self._space, trial.experiment, trial.candidate.text, evidence=name, at=at)

    def _since(self, spent: _Spent) -> tuple[int, float | None]:
        usd = self._budget.usd - spent.usd
        known = self._budget.priced and spent.priced
        return self._budget.calls - spent.calls, usd if known else None


@dataclass(frozen=True, slots=True)
class _Spent:
    """Where the budget stood when an attempt began."""

    calls: int
    usd: float
    priced: bool = True  # False when it is for calls of an earlier run whose price is not known

    def with_paid(self, replies: Sequence[Reply]) -> _Spent:
        """Where it would have stood, had this run made these calls of an earlier one."""
        cost = price(replies)
        return _Spent(self.calls - len(replies), self.usd - (cost or 0.0), cost is not None)


@dataclass(slots=True)
class _Trial:
    """An experiment under way, filled in step by step."""

    experiment: Experiment
    candidate: Text
    scores: tuple[float, ...]  # the incumbent's on train, in its order: what the screen uses too
    leaks: tuple[str, ...] | None = None  # None when it cannot be known here
    targeted: Duel = NO_DUEL
    screen: Duel = NO_DUEL
    confirm: Duel = NO_DUEL
    attempt: int | None = None

    @property
    def missing(self) -> tuple[Trace, ...]:
        """Runs that should have a score and have none."""
        return (*self.targeted.missing, *self.screen.missing, *self.confirm.missing)


def refuse_lost_looks(space: Workspace, ledger: Ledger) -> None:
    """Raise RatchetError when looks at the holdout are not on record: their number is not known."""
    if space.blind:
        return
    known = {look.experiment for look in ledger.looks()}
    results = ledger.results()
    numbers = [
        str(one.number)
        for one in ledger.experiments()
        if (result := results.get(one.id))
        and (result.action == "merge" or result.reason == NOT_CONFIRMED)
        and one.id not in known
    ]
    if numbers:
        raise RatchetError(
            "Branch ratchet/holdout does not have the looks at the holdout that were made for "
            f"experiment {', '.join(numbers[:10])}.",
            hint="Fetch it: 'git fetch origin ratchet/holdout:ratchet/holdout'. If it is lost, "
            "swap the held-out cases and begin anew: 'git branch -D ratchet/ledger'.",
        )


def which_look(ledger: Ledger, experiment: Experiment) -> int:
    """Which attempt at the holdout against its incumbent an experiment's is, from 1."""
    return looks.attempt_number(
        ledger.looks(),
        parent=experiment.parent,
        experiment=experiment.id,
        since=experiment.started_at,
    )


def same_surroundings(experiment: Experiment, space: Workspace) -> bool:
    """Whether everything the experiment's numbers depend on is as it was.

    The base commit may differ as long as the skill, fixtures and settings in it do not. A process
    without the holdout knows of none, and no number of its own depends on one.
    """
    then, now = experiment.setting, space.setting()
    names = ("gate", "model_digest", "scorer_digest", "train_digest", "rules", "evaluator", "seed")
    same = all(getattr(then, name) == getattr(now, name) for name in names)
    unseen = None in (then.holdout_digest, now.holdout_digest)
    return (
        same
        and (unseen or then.holdout_digest == now.holdout_digest)
        and experiment.candidate is not None
        and experiment.parent == space.text.digest
    )


def _refuse_unscored(traces: Sequence[Trace]) -> None:
    """Raise RatchetError where a run has no score, or no run has an answer."""
    failed = [trace for trace in traces if trace.score is None]
    if all(trace.reply.error is not None for trace in traces):
        failed = list(traces)  # that is no measurement of the skill
    if failed:
        count = f"{len(failed)} of {len(traces)} calls failed"
        many = "Every call failed" if len(failed) == len(traces) else count
        raise RatchetError(
            f"{many} on the incumbent, so nothing can be compared. {_why(failed[0])}",
            hint="Put that right and run again; what succeeded is kept.",
        )


def _failed_calls(failed: Sequence[Trace], experiment: Experiment) -> RatchetError:
    return RatchetError(
        f"Experiment {experiment.id[:12]} waits: runs without a score: {len(failed)}. "
        f"{_why(failed[0])}",
        hint="Run again: what succeeded is kept, only the missing runs are made.",
    )


def _no_answers(failed: Trace, experiment: Experiment) -> RatchetError:
    """A harness that is broken must not use up proposals; the next run decides by what is kept."""
    return RatchetError(
        f"No call of this run was answered, so experiment {experiment.id[:12]} is not decided yet. "
        f"{_why(failed)}",
        hint="Put that right and run again. If it is the edit that does it, run again as well: "
        "what failed is kept, and counts as wrong answers.",
    )


def _why(trace: Trace) -> str:
    where = f"case {trace.fixture}" if trace.split == "train" else "a held-out case"
    return f"First, on {where}: {trace.failure}"
