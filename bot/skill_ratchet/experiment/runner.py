"""Makes runs: asks the ledger first, pays at most once, keeps every call whole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from math import fsum
from statistics import fmean
from typing import TYPE_CHECKING, Any

from skill_ratchet.agents import task
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.evidence import Cause, Progress, State
from skill_ratchet.core.records import (
    FILTER,
    JUDGE,
    Failure,
    How,
    Pair,
    Reply,
    RolloutKey,
    Text,
    Trace,
    trace_id,
    unanswered,
)
from skill_ratchet.core.scoring import ScorerError
from skill_ratchet.providers import forecast
from skill_ratchet.providers.text import CALL, UnsentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from skill_ratchet.core.draw import Planned
    from skill_ratchet.core.records import Fixture, Request, Score, Side
    from skill_ratchet.experiment.budget import Budget
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.providers import Provider


@dataclass(frozen=True, slots=True)
class RunToMake:
    """One run to make. ``experiment`` is empty for the incumbent's kept runs.

    Of a ``further`` kept run of a pair nobody is told, if it is there already.
    """

    skill: Text
    fixture: Fixture
    replicate: int
    side: Side
    experiment: str = ""
    further: bool = False


@dataclass(frozen=True, slots=True)
class Duel:
    """What a sequence of paired runs came to: pairs in planned order, and runs without score."""

    pairs: tuple[Pair, ...]
    missing: tuple[Trace, ...]
    progress: Progress


UNDECIDED = Progress(State.OPEN, Cause.UNDECIDED, 0, 0.0, 0.0)
NO_DUEL = Duel((), (), UNDECIDED)


SEEN = 200  # earlier answers that a prediction looks at

_REFUSALS = {
    Failure.DENIED: "Check the key, or where it is sent: ANTHROPIC_API_KEY and base_url.",
    Failure.FORBIDDEN: "Check what the key may use, and `model` in ratchet.yml.",
    Failure.NO_MODEL: "Check `model` in ratchet.yml, and base_url.",
}

# Seconds that calls under way get to end once a run is told to stop: they are paid for already.
DRAIN = 1.0


class Runner:
    """Runs jobs against one provider, within one budget, into one ledger.

    Args:
        how: What all runs have in common.
        provider: Answers the calls.
        scorer: Judges an answer; raises ScorerError when it cannot.
        ledger: Where traces go, and kept runs come from.
        budget: Caps.
        now: The current UTC time as ISO 8601.
        on_trace: Told of every finished run; ``paid`` is False for re-used ones.
    """

    def __init__(
        self,
        *,
        how: How,
        provider: Provider,
        scorer: Callable[[str, Fixture], Awaitable[tuple[Score, Reply | None]]],
        ledger: Ledger,
        budget: Budget,
        now: Callable[[], str],
        on_trace: Callable[[Trace, bool], None],
    ) -> None:
        self._how, self._provider, self._scorer = how, provider, scorer
        self._ledger, self._budget, self._now, self._on_trace = ledger, budget, now, on_trace
        self._slots = asyncio.Semaphore(provider.concurrency)
        self._known: dict[str, Trace] = {}
        self._turns: dict[str, asyncio.Lock] = {}  # one at a time of those who want the same run
        self._stopping = False
        self._refused: RatchetError | None = None  # what every further call would meet
        self._answered = False
        self._failed: Trace | None = None  # the last that failed by what the skill led to

    @property
    def width(self) -> int:
        """Pairs worth having under way at once: both sides of a pair have room to start."""
        limiter = getattr(self._provider, "limiter", None)
        calls = self._provider.concurrency if limiter is None else limiter.width
        return max(1, calls // 2)

    @property
    def broken(self) -> Trace | None:
        """A call that failed by what the skill led to, where no call was answered since the start.

        The skill may have done it, or a harness is broken; the runs are kept either way.
        """
        return None if self._answered else self._failed

    @property
    def sweeps(self) -> bool:
        """Whether the calls of a whole sweep are made together."""
        return bool(getattr(self._provider, "sweeps", False))

    @property
    def deterministic(self) -> bool:
        """Whether a run made again would be the same run."""
        return self._provider.deterministic

    def remember(self, traces: Iterable[Trace]) -> None:
        """Take scored runs from the ledger, so that none of them is paid for again."""
        for trace in traces:
            if trace.key is not None and trace.score is not None:
                self._keep(trace, trace.key)

    def kept(self, skill: Text, fixture: Fixture, *, before: str) -> int:
        """How many kept runs of a case, in their order, there were at a time (ISO 8601)."""
        for count in range(FILTER):
            known = self._known.get(self._key(RunToMake(skill, fixture, count, "incumbent")).digest)
            if known is None or known.started_at >= before:
                return count
        return FILTER

    def predict(self, jobs: Sequence[RunToMake]) -> list[float]:
        """Say what each job will cost, and put that beside the budget.

        Runs that are there already cost nothing. Where no price is known nothing is said: the
        list is empty.
        """
        ask: Callable[..., list[float] | None] | None = getattr(
            self._provider, "forecast_usd", None
        )
        if ask is None:
            return []
        new = [self._key(job).digest not in self._known for job in jobs]
        seen = list(self._known.values())[-SEEN:]
        since = datetime.fromisoformat(self._now()) - timedelta(seconds=forecast.LIFE)
        found = ask(
            [
                task.request(self._how, job.skill, job.fixture)
                for job, is_new in zip(jobs, new, strict=True)
                if is_new
            ],
            [one.reply for one in seen],
            recent=[one.reply for one in seen if datetime.fromisoformat(one.started_at) > since],
        )
        if found is None:
            return []
        self._budget.predict(fsum(found))
        prices = iter(found)
        return [next(prices) if is_new else 0.0 for is_new in new]

    def unneeded(self, prices: Sequence[float]) -> None:
        """Take back what was predicted of jobs that are not made after all."""
        if prices:
            self._budget.predict(-fsum(prices))

    def _keep(self, trace: Trace, key: RolloutKey) -> None:
        self._known[key.digest] = trace
        if self.deterministic:
            # The same request always gets the same answer, so what a candidate scored it scores
            # as the incumbent it becomes. Of any other model these are runs it was lucky in,
            # since they made it win.
            self._known.setdefault(key.with_(experiment="").digest, trace)

    async def run(self, job: RunToMake) -> Trace:
        """Make one run, or return it if the ledger has it.

        Raises:
            BudgetSpent: The call could exceed a cap; it was not made.
        """
        key = self._key(job)
        async with self._turns.setdefault(key.digest, asyncio.Lock()):
            if known := self._known.get(key.digest):
                if not job.further:
                    self._on_trace(known, False)  # noqa: FBT003 - the callback's own signature
                return known
            async with self._slots:
                if self._refused is not None:
                    raise self._refused
                if self._stopping:
                    raise asyncio.CancelledError
                trace = await self._call(job, key)
            if trace.score is not None:
                self._keep(trace, key)
                self._failed = trace if trace.reply.error is not None else self._failed
            self._answered |= trace.reply.error is None
            self._on_trace(trace, True)  # noqa: FBT003
            return trace

    def _key(self, job: RunToMake) -> RolloutKey:
        return RolloutKey(
            skill=job.skill.digest,
            fixture=job.fixture.digest,
            model=self._how.digest,
            replicate=job.replicate,
            experiment=job.experiment,
        )

    async def drain(self, runs: Iterable[asyncio.Task[Any]]) -> None:
        """Start no more calls; let those of ``runs`` that are under way end, or cancel them."""
        self._stopping = True
        left = {run for run in runs if not run.done()}
        if left:
            _, left = await asyncio.wait(left, timeout=DRAIN)
        await self.abandon(left)

    async def abandon(self, runs: Iterable[asyncio.Task[Any]]) -> None:
        """Cancel ``runs``; what they had booked is paid."""
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    async def _call(self, job: RunToMake, key: RolloutKey) -> Trace:
        how = self._how
        request = task.request(how, job.skill, job.fixture)
        started = self._now()
        CALL.set(key.digest)  # of this task's context alone
        reply = await paid_call(self._provider, request, budget=self._budget)
        trace = Trace(
            id=trace_id(key, started),
            key=key,
            skill=how.skill_name,
            experiment=job.experiment,
            fixture=job.fixture.id,
            split=job.fixture.split,
            side=job.side,
            model=how.model,
            provider=self._provider.name,
            started_at=started,
            reply=reply,
            fixture_input=job.fixture.input_text,
            expected=job.fixture.expected,
            correction=job.fixture.correction,
            tags=job.fixture.tags,
        )
        try:
            trace = await self._scored(trace, job.fixture)
        finally:  # also when a judge is over the budget: this call was made
            self._ledger.add_trace(trace)
        self._refuse(trace.reply)
        return trace

    def _refuse(self, reply: Reply) -> None:
        """Raise RatchetError, now and before every further call, if that would be refused too."""
        if reply.failure is not None and reply.failure.is_final:
            self._refused = RatchetError(
                f"The provider {self._provider.name} refuses every call: {reply.error}",
                hint=f"{_REFUSALS[reply.failure]} What was answered so far is kept.",
            )
            raise self._refused

    async def _scored(self, trace: Trace, fixture: Fixture) -> Trace:
        if trace.reply.error is not None or trace.reply.text is None:
            return trace.with_(score=unanswered(trace.reply))
        try:
            score, judged = await self._scorer(trace.reply.text, fixture)
        except ScorerError as error:
            self._keep_judgement(trace, error.reply)
            if error.reply is not None:
                self._refuse(error.reply)
            return trace.with_(scorer_error=str(error))
        self._keep_judgement(trace, judged)
        return trace.with_(score=score)

    def _keep_judgement(self, trace: Trace, reply: Reply | None) -> None:
        if reply is not None:
            judge = trace.with_(id=f"{trace.id}{JUDGE}", job="judge", reply=reply)
            self._ledger.add_trace(judge)


async def paid_call(provider: Provider, request: Request, *, budget: Budget) -> Reply:
    """One call within the budget.

    Of what was not sent nothing is booked. An attempt that was abandoned, or that brought no
    answer, may have been billed: it is booked at its worst case, and as what it is.

    Raises:
        RatchetError: The set-up is wrong; nothing was sent.
        BudgetSpent: It could exceed a cap.
    """
    worst = provider.worst_case_usd(request)
    booked = budget.reserve(worst)
    try:
        with budget.traffic.call():
            reply = await provider.complete(request)
    except RatchetError:
        budget.release(booked)
        raise
    except UnsentError:
        budget.release(booked)
        raise asyncio.CancelledError from None
    except BaseException:
        budget.settle(booked, 0.0, unsure=booked)
        raise
    lost = booked * reply.unanswered
    if reply.failure and reply.failure.unsent and not lost:
        budget.release(booked)
    elif reply.error is not None and reply.usd is None and worst is not None:
        budget.settle(booked, 0.0, unsure=lost or booked)
    else:
        budget.settle(booked, reply.usd, unsure=lost)
    return reply


async def duel(
    runner: Runner,
    plan: Iterator[Planned],
    *,
    fixtures: dict[str, Fixture],
    incumbent: Text,
    candidate: Text,
    experiment: str,
    fresh: bool,
    judge: Callable[[Sequence[Pair]], Progress],
    most: int = 0,
    kept: Callable[[Fixture, int], int] | None = None,
) -> Duel:
    """Run pairs in planned order until ``judge`` settles on the finished prefix of the plan.

    Several pairs are under way at once; those still running when it settles are cancelled and
    count for nothing. A run without a score stops the duel, since nothing may be decided
    around it: it is reported in ``missing``.

    Args:
        fresh: Make the incumbent's runs for this experiment too, instead of re-using kept ones.
        most: Pairs in the plan, for the prediction of what they cost; 0 for none.
        kept: How many kept runs of a case a pair of a sweep is compared with: those that lack are
            made. None for the one that has the number of the sweep.
    """
    finished: dict[int, Pair | list[Trace]] = {}
    running: dict[asyncio.Task[Pair | list[Trace]], int] = {}
    pairs: list[Pair] = []
    progress = judge(pairs)
    started = 0
    both = _Sides(incumbent, candidate, experiment, experiment if fresh else "", kept)
    predicted = _predict(runner, list(fixtures.values()), both, most=most)
    try:
        while not progress.settled:
            # A batch is one sweep: the verdict may need no second one.
            width = min(runner.width, len(fixtures)) if runner.sweeps else runner.width
            while len(running) < width and not _blocked(finished):
                planned = next(plan, None)
                if planned is None:
                    break
                pair = _pair(runner, planned, fixtures[planned.fixture], both)
                running[asyncio.create_task(pair)] = started
                started += 1
            if not running:
                break
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for finished_task in done:
                finished[running.pop(finished_task)] = finished_task.result()
            while isinstance(pair_or_missing := finished.get(len(pairs)), Pair):
                pairs.append(pair_or_missing)
                progress = judge(pairs)
                if progress.settled:
                    break
    except RatchetError:  # a cap, or what every further call would meet
        # What is under way is paid for: let it finish and be kept.
        await asyncio.gather(*running, return_exceptions=True)
        raise
    except asyncio.CancelledError:
        await runner.drain(running)
        raise
    finally:
        await runner.abandon(running)
    runner.unneeded([price for prices in predicted[started:] for price in prices])
    missing = () if progress.settled else _missing(finished)
    return Duel(tuple(pairs), missing, progress)


@dataclass(frozen=True, slots=True)
class _Sides:
    incumbent: Text
    candidate: Text
    experiment: str
    incumbent_for: str  # the experiment the incumbent's run is made for; empty to re-use
    kept: Callable[[Fixture, int], int] | None

    def new(self, fixture: Fixture, sweep: int) -> RunToMake:
        """The candidate's run."""
        return RunToMake(self.candidate, fixture, sweep, "candidate", self.experiment)

    def old(self, fixture: Fixture, sweep: int) -> list[RunToMake]:
        """The incumbent's, one or more."""
        numbers = range(self.kept(fixture, sweep)) if self.kept else (sweep,)
        return [
            RunToMake(
                self.incumbent,
                fixture,
                number,
                "incumbent",
                self.incumbent_for,
                further=number > numbers[0],
            )
            for number in numbers
        ]


def _predict(
    runner: Runner, fixtures: Sequence[Fixture], sides: _Sides, *, most: int
) -> list[list[float]]:
    """What so many pairs would cost, each with the runs that no pair before it has made."""
    pairs: list[list[RunToMake]] = []
    made: set[tuple[str, int]] = set()  # of the incumbent
    for number in range(most if fixtures else 0):
        sweep, at = divmod(number, len(fixtures))
        case = fixtures[at]
        old = [run for run in sides.old(case, sweep) if (case.id, run.replicate) not in made]
        made.update((case.id, run.replicate) for run in old)
        pairs.append([sides.new(case, sweep), *old])
    prices = iter(runner.predict([run for runs in pairs for run in runs]) if pairs else [])
    return [list(islice(prices, len(runs))) for runs in pairs]


async def _pair(
    runner: Runner, planned: Planned, fixture: Fixture, sides: _Sides
) -> Pair | list[Trace]:
    """Both sides; what the incumbent lacks is made beside the candidate's run, whatever that is."""
    new, old = sides.new(fixture, planned.sweep), sides.old(fixture, planned.sweep)
    order = [new, *old] if planned.candidate_first else [*old, new]
    made = await _all(runner, order, stop=runner.abandon)
    at = 0 if planned.candidate_first else len(old)
    candidate = made.pop(at)
    made_for = sides.incumbent_for and sides.experiment
    return _paired(fixture, made, candidate, sweep=planned.sweep, made_for=made_for)


def _paired(
    fixture: Fixture, old: Sequence[Trace], new: Trace, *, sweep: int = 0, made_for: str = ""
) -> Pair | list[Trace]:
    """The incumbent's runs and the candidate's as a pair, or those of them that have no score."""
    pair = Pair.of(fixture, old[0], new, sweep=sweep, made_for=made_for, more=old[1:])
    return pair or [trace for trace in (new, *old) if trace.score is None]


async def aimed(
    runner: Runner,
    targets: Sequence[Trace],
    *,
    fixtures: dict[str, Fixture],
    candidate: Text,
    experiment: str,
) -> Duel:
    """Run the candidate once on the fixture of each targeted run of the incumbent.

    The screen makes its own runs, except where a run made again would be the same run.
    """
    replicate = 0 if runner.deterministic else FILTER
    cases = [fixtures[target.fixture] for target in targets]
    made = await _all(
        runner, [RunToMake(candidate, case, replicate, "candidate", experiment) for case in cases]
    )
    both = list(map(_paired, cases, [[target] for target in targets], made))
    pairs = tuple(one for one in both if isinstance(one, Pair))
    return replace(NO_DUEL, pairs=pairs, missing=_missing(dict(enumerate(both))))


def mean_score(traces: Iterable[Trace]) -> float | None:
    """Of the runs that have a score; None when none has."""
    values = [trace.score.value for trace in traces if trace.score]
    return fmean(values) if values else None


def _blocked(finished: dict[int, Pair | list[Trace]]) -> bool:
    return any(isinstance(value, list) for value in finished.values())


def _missing(finished: dict[int, Pair | list[Trace]]) -> tuple[Trace, ...]:
    return tuple(trace for value in finished.values() if isinstance(value, list) for trace in value)


async def sweep(
    runner: Runner, skill: Text, fixtures: Sequence[Fixture], *, replicate: int = 0
) -> list[Trace]:
    """Run every fixture once as the incumbent, in the given order, re-using kept runs."""
    jobs = [RunToMake(skill, fixture, replicate, "incumbent") for fixture in fixtures]
    runner.predict(jobs)
    return await _all(runner, jobs)


async def _all(
    runner: Runner, jobs: Sequence[RunToMake], *, stop: Callable[..., Awaitable[None]] | None = None
) -> list[Trace]:
    """Wait for every run, also when one fails: what was started is paid for.

    Args:
        runner: Makes them.
        jobs: The runs.
        stop: What is done with them when this is cancelled: by default that is the end of the
            whole run. A pair is also cancelled because nobody needs it any more.
    """
    runs = [asyncio.ensure_future(runner.run(job)) for job in jobs]
    try:
        if runs:
            await asyncio.wait(runs)
    except asyncio.CancelledError:
        await (stop or runner.drain)(runs)
        raise
    made = await asyncio.gather(*runs, return_exceptions=True)
    for result in made:
        if isinstance(result, BaseException):
            raise result
    return [result for result in made if isinstance(result, Trace)]
