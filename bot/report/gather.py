"""Reads a skill's ledger into what the pages show; decides what of it may be shown.

The traces are gone through once. Of each a ``Run`` is kept, which is a hundredth of its size; the
evidence of confirm runs is held for a few experiments at a time.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from math import fsum
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Final

from bot import bench, history, skillrepo, workspace
from bot.core import render, sidebyside
from bot.core.reign import Confirmation
from bot.recording import tally
from bot.report import trials
from bot.report.runs import Runs, mean, run_of, scores
from bot.report.seal import FEWEST_FOR_MEANS, Seal
from bot.report.views import (
    Case,
    CaseDelta,
    Commit,
    ExperimentPage,
    HeldOut,
    LastRun,
    Outcome,
    Point,
    Run,
    Said,
    Skill,
    Spend,
    Version,
)
from bot.runner import FILTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from bot.config import Config
    from bot.core.records import (
        Experiment,
        Fixture,
        Landing,
        Note,
        Pair,
        Result,
        Side,
        Split,
        Trace,
    )
    from bot.ledger import Ledger
    from bot.skillrepo import Project
    from bot.workspace import Workspace

AT_ONCE: Final = 25  # experiments whose evidence is in memory
GONE: Final = "not in train any more"


@dataclass(frozen=True, slots=True)
class Records:
    """What the ledger has of a skill, but for texts, traces and evidence."""

    experiments: tuple[Experiment, ...]
    results: Mapping[str, Result]
    landings: Mapping[str, Landing]
    reversions: Mapping[str, Landing]
    notes: Mapping[str, list[Note]]  # by experiment; what is of none under ''

    @classmethod
    def read(cls, ledger: Ledger) -> Records:
        """Read them. A result from before an experiment was begun anew is of an earlier try."""
        experiments = tuple(ledger.experiments())
        begun = {one.id: one.started_at for one in experiments}
        results = {
            name: result
            for name, result in ledger.results().items()
            if result.finished_at >= begun.get(name, "")
        }
        notes: dict[str, list[Note]] = defaultdict(list)
        for note in ledger.notes():
            notes[note.experiment or ""].append(note)
        return cls(experiments, results, ledger.landings(), ledger.reversions(), notes)


class Book:
    """One skill's part of the report: read the traces first, then its pages in their order.

    Args:
        space: The skill as it is on disk, with its cases.
        ledger: Its ledger.
        opened: Show held-out cases too.
        alone: The report has no other skill.
    """

    def __init__(self, space: Workspace, ledger: Ledger, *, opened: bool, alone: bool) -> None:
        self.name, self.alone = space.name, alone
        self.url = "index.html" if alone else f"skills/{space.name}/index.html"
        self._space, self._ledger, self._opened = space, ledger, opened
        self._seal = Seal.of(space, opened=opened)
        self._runs, self._sealed_runs = Runs(), Runs()
        self._records = Records.read(ledger)
        self._points: dict[str, Point] = {}
        self._looks: list[Confirmation] = [*map(_bare, ledger.strays())]
        self._held_out: HeldOut | None = None
        self._train = {case.id: case for case in space.train}
        self._withheld: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._withhold()

    # Traces -----------------------------------------------------------------------------------

    def read_traces(self, keep: Callable[[Trace], str]) -> None:
        """Go through the traces; ``keep`` is handed those that are shown, and gives their URL."""
        splits: tuple[Split, ...] = ("train", "holdout") if self._opened else ("train",)
        for split in splits:
            runs = self._runs if split == "train" else self._sealed_runs
            for trace in self._ledger.traces(split=split):
                if self._seal.hides(trace):
                    continue
                shown = trace.job != "meta" and not self._hidden(trace)
                url = keep(trace) if shown else ""
                if run := run_of(trace, url=url):
                    runs.add(run)

    def _hidden(self, trace: Trace) -> bool:
        """Whether it belongs to an experiment whose text must not be shown: its prompt has it."""
        owner = trace.key.experiment if trace.key else trace.experiment
        return owner in self._withheld

    # Experiments ------------------------------------------------------------------------------

    @property
    def experiments(self) -> int:
        """How many there are."""
        return len(self._records.experiments)

    def pages(self) -> Iterator[ExperimentPage]:
        """A page for each experiment, by number."""
        every = self._records.experiments
        totals = _Totals()
        for start in range(0, len(every), AT_ONCE):
            some = every[start : start + AT_ONCE]
            looks = self._ledger.some_confirmations(one.id for one in some)
            texts = self._ledger.candidate_texts(one.id for one in some)
            for at, one in enumerate(some, start):
                look = looks.get(one.id)
                point = self._point(one, look, totals)
                self._points[one.id] = point
                self._remember(one, look, point)
                around = every[at - 1] if at else None, every[at + 1 : at + 2]
                earlier = self.url_of(around[0]) if around[0] else ""
                later = self.url_of(around[1][0]) if around[1] else ""
                yield self._page(one, look, texts.get(one.id), point, earlier, later)

    def url_of(self, experiment: Experiment) -> str:
        """Where an experiment's page is."""
        name = f"{experiment.number}-{experiment.id[:8]}"
        return f"skills/{self.name}/experiments/{name}.html"

    def _point(self, one: Experiment, look: Confirmation | None, totals: _Totals) -> Point:
        row = self._row(one, look)
        result = row.result
        train = result.train if result else None
        pair = None
        if train and train.incumbent is not None and train.candidate is not None:
            pair = (train.incumbent, train.candidate)
        outcome = _outcome(row)
        totals.add(result, pair, kept=outcome == "kept")
        return Point(
            number=one.number,
            url=self.url_of(one),
            outcome=outcome,
            state=row.state,
            hypothesis="" if one.id in self._withheld else one.proposal.hypothesis,
            level=one.level,
            train=pair,
            held_out=self._held_out_means(look),
            best=totals.best,
            calls=result.calls if result else 0,
            usd=result.usd if result else None,
            total_calls=totals.calls,
            total_usd=totals.usd,
            started=one.started_at,
        )

    def _held_out_means(self, look: Confirmation | None) -> tuple[float, float] | None:
        evidence = look.evidence if look else None
        if evidence is None or not evidence.confirm:
            return None
        if len(evidence.holdout_fixtures) < FEWEST_FOR_MEANS and not self._opened:
            return None
        pairs = evidence.confirm
        return fmean(p.incumbent for p in pairs), fmean(p.candidate for p in pairs)

    def _row(self, one: Experiment, look: Confirmation | None) -> history.Row:
        kept = self._records
        landing, reversion = kept.landings.get(one.id), kept.reversions.get(one.id)
        return history.Row(one, kept.results.get(one.id), look, landing, reversion)

    def _remember(self, one: Experiment, look: Confirmation | None, point: Point) -> None:
        """Keep of a look at the holdout what the overview needs."""
        if look is None:
            return
        self._looks.append(_bare(look))
        now = self._space.text.digest
        side: Side | None = (
            "candidate" if one.candidate == now else "incumbent" if one.parent == now else None
        )
        if side is None:
            return
        found = trials.held_out(
            look, side=side, number=one.number, url=point.url, everything=self._opened
        )
        if found and (self._held_out is None or found.at >= self._held_out.at):
            self._held_out = found

    def _page(
        self,
        one: Experiment,
        look: Confirmation | None,
        text: str | None,
        point: Point,
        earlier: str,
        later: str,
    ) -> ExperimentPage:
        evidence = look.evidence if look else None
        withheld = self._withheld.get(one.id, "")
        cases, pairs = self._cases_of(one, self._seal.shown(evidence.screen) if evidence else ())
        repeats = len({pair.sweep for pair in pairs}) > 1
        confirm, note = trials.confirm(look, everything=self._opened)
        row, setting = self._row(one, look), one.setting
        result = row.result
        return ExperimentPage(
            skill=self.name,
            id=one.id,
            point=point,
            earlier=earlier,
            later=later,
            sentence=self._sentence(row),
            reason=result.detail if result and not withheld else "",
            withheld=withheld,
            level=one.level,
            chars=one.chars,
            proposer=setting.proposer,
            model=setting.model,
            meta_model=setting.meta_model,
            base=setting.base,
            branch=setting.branch,
            seconds=result.seconds if result else None,
            tokens=result.tokens if result else None,
            diff=None if withheld or text is None else sidebyside.rows(self._parent(one), text),
            cases=cases,
            screen=trials.screen(pairs, by_sweep=repeats),
            confirm=confirm,
            confirm_note=note,
            sealed=self._sealed_cases(evidence.confirm) if evidence and self._opened else (),
            notes=tuple(map(self._said, self._records.notes.get(one.id, ()))),
            landed=_commit(row.landing),
            reverted=_commit(row.reversion),
        )

    def _sentence(self, row: history.Row) -> str:
        """The verdict in words; of a single held-out case no number."""
        look = row.confirmation
        if look and look.evidence and look.verdict and not self._opened:
            evidence, verdict = look.evidence, look.verdict
            if len(evidence.holdout_fixtures) < FEWEST_FOR_MEANS:
                return f"{render.HEADS[verdict.action]}: {verdict.detail}"
        return history.verdict_sentence(row)

    def _parent(self, one: Experiment) -> str:
        if one.parent not in self._parents:
            self._parents[one.parent] = self._ledger.skill_text(one.parent) or ""
        return self._parents[one.parent]

    def _withhold(self) -> None:
        """Find the experiments whose texts must not be shown, before any trace of them is."""
        every = self._records.experiments
        for start in range(0, 0 if self._opened else len(every), AT_ONCE):
            some = every[start : start + AT_ONCE]
            looks = self._ledger.some_confirmations(one.id for one in some)
            texts = self._ledger.candidate_texts(one.id for one in some)
            for one in some:
                why = self._seal.withholds(
                    one,
                    parent=self._parent(one),
                    candidate=texts.get(one.id, ""),
                    looked=looks.get(one.id),
                )
                if why:
                    self._withheld[one.id] = why

    def _said(self, note: Note) -> Said:
        words = note.words if self._seal.speaks(note.words) else "(Not shown: held-out text.)"
        return Said(author=note.author, at=note.at, words=words, url=note.url, kind=note.kind)

    # Cases ------------------------------------------------------------------------------------

    def _cases_of(
        self, one: Experiment, recorded: Sequence[Pair]
    ) -> tuple[tuple[CaseDelta, ...], Sequence[Pair]]:
        """What the edit did to each train case, worst first, and the pairs of its screen."""
        model = one.setting.model_digest
        own = [run for run in self._runs.of(one.candidate or "", model) if run.experiment == one.id]
        screened = [run for run in own if run.replicate != FILTER]
        kept = [
            run for run in self._runs.of(one.parent, model) if run.experiment in ("", one.id)
        ] or self._runs.of(one.parent, model)
        pairs = recorded or trials.rebuilt(kept, screened)
        if pairs:
            return self._deltas(pairs, self._runs), pairs
        alone = _by_fixture(own)  # it was tried on the cases it aimed at, and no further
        before = _by_fixture(kept)
        return tuple(
            self._delta(name, tuple(before.get(name, ())), tuple(runs))
            for name, runs in alone.items()
        ), ()

    def _deltas(self, pairs: Iterable[Pair], runs: Runs) -> tuple[CaseDelta, ...]:
        by_case: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            by_case[pair.fixture].append(pair)
        made = [
            CaseDelta(
                fixture=name,
                url=self._case_url(name) if runs is self._runs else "",
                incumbent=fmean(pair.incumbent for pair in some),
                candidate=fmean(pair.candidate for pair in some),
                before=_found(runs, [pair.incumbent_run for pair in some]),
                after=_found(runs, [pair.candidate_run for pair in some]),
            )
            for name, some in sorted(by_case.items())
        ]
        return tuple(sorted(made, key=lambda case: (case.delta or 0.0, case.fixture)))

    def _delta(self, name: str, before: tuple[Run, ...], after: tuple[Run, ...]) -> CaseDelta:
        return CaseDelta(name, self._case_url(name), mean(before), mean(after), before, after)

    def _sealed_cases(self, pairs: Sequence[Pair]) -> tuple[CaseDelta, ...]:
        return self._deltas(pairs, self._sealed_runs)

    def _case_url(self, name: str) -> str:
        # Two names may differ in case alone, which not every file system tells apart.
        mark = hashlib.sha256(name.encode()).hexdigest()[:6]
        return f"skills/{self.name}/cases/{name}-{mark}.html"

    def cases(self) -> list[Case]:
        """Each train case over all experiments, the flaky ones first; ``pages`` comes before."""
        numbers = {
            one.candidate: one for one in reversed(self._records.experiments) if one.candidate
        }
        found = self._runs.by_fixture()
        names = sorted({*self._train, *found})
        cases = [self._case(name, found.get(name, []), numbers) for name in names]
        return sorted(cases, key=lambda case: (-case.spread, case.source == GONE, case.fixture))

    def _case(
        self, name: str, runs: Sequence[Run], numbers: Mapping[str | None, Experiment]
    ) -> Case:
        fixture = self._train.get(name)
        by_text: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
        for run in runs:
            if run.score is not None:
                by_text[run.text, run.model, run.case].append(run)
        versions = [
            self._version(some, numbers.get(text)) for (text, _, _), some in by_text.items()
        ]
        repeated = [version for version in versions if len(version.runs) > 1]
        spreads = [pstdev(scores(version.runs)) for version in repeated]
        now = [run for run in runs if fixture and self._is_now(run, fixture)]
        return Case(
            fixture=name,
            url=self._case_url(name),
            source=fixture.source if fixture else GONE,
            tags=fixture.tags if fixture else (),
            runs=len(runs),
            failed=sum(run.score is None for run in runs),
            incumbent=mean(now),
            mean=mean(runs),
            flaky=sum(version.differs for version in repeated),
            repeated=len(repeated),
            spread=fmean(spreads) if spreads else 0.0,
            versions=tuple(
                sorted(versions, key=lambda one: (one.number or 0, one.runs[0].model, one.runs[0].id))
            ),
        )

    def _version(self, runs: Sequence[Run], made: Experiment | None) -> Version:
        found = scores(runs)
        return Version(
            number=made.number if made else None,
            url=self.url_of(made) if made else "",
            role="incumbent" if any(not run.experiment for run in runs) else "candidate",
            mean=fmean(found),
            low=min(found),
            high=max(found),
            runs=tuple(runs),
        )

    def _is_now(self, run: Run, fixture: Fixture) -> bool:
        now = (self._space.text.digest, self._space.how.digest, fixture.digest)
        return (run.text, run.model, run.case) == now and run.score is not None

    # Overview ---------------------------------------------------------------------------------

    def skill(self) -> Skill:
        """The skill's own page; ``pages`` comes before it."""
        points = tuple(self._points[one.id] for one in self._records.experiments)
        paid = self._ledger.spent_by_runs()
        last = paid[-1] if paid else None
        return Skill(
            name=self.name,
            url=self.url,
            model=self._space.how.model,
            cases=len(self._train),
            train=self._train_score(),
            points=points,
            held_out=self._held_out,
            spend=Spend(
                calls=sum(point.calls for point in points),
                usd=fsum(point.usd or 0.0 for point in points),
                unpriced=sum(result.usd is None for result in self._records.results.values()),
                runs=len(paid),
                run_calls=sum(run.calls for run in paid),
                run_usd=fsum(run.usd or 0.0 for run in paid),
                run_unpriced=sum(run.usd is None for run in paid),
            ),
            looks=history.looks_of(self._looks, self._space),
            last=last
            and LastRun(
                last.job, last.started_at, last.ended_at, last.ended, last.calls, last.usd
            ),
            experiments_url=f"skills/{self.name}/experiments.html",
            fixtures_url=f"skills/{self.name}/cases.html",
            withheld=len(self._withheld),
        )

    def _train_score(self) -> float | None:
        """The mean of the skill as it is on train; None where not every case has a run."""
        now = self._runs.of(self._space.text.digest, self._space.how.digest)
        by_case = {name: mean(some) for name, some in _by_case(now).items()}
        means = [by_case.get(case.digest) for case in self._space.train]
        known = [value for value in means if value is not None]
        return fmean(known) if known and len(known) == len(means) else None


class _Totals:
    """What the experiments up to one have spent, and the score they have reached."""

    def __init__(self) -> None:
        self.calls = 0
        self.usd = 0.0
        self.best: float | None = None

    def add(
        self, result: Result | None, train: tuple[float, float] | None, *, kept: bool
    ) -> None:
        """One more."""
        self.calls += result.calls if result else 0
        self.usd += (result.usd or 0.0) if result else 0.0
        if train is None:
            return
        if self.best is None:
            self.best = train[0]
        if kept:
            self.best = max(self.best, train[1])


def books(
    project: Project, settings: Config, *, skill: str | None, opened: bool
) -> Iterator[Book]:
    """The skills of the config, or one of them, each when it is asked for.

    Args:
        project: The repository; skills and cases are those on disk.
        settings: Its config.
        skill: The only one to be shown.
        opened: Show held-out cases too.

    Raises:
        RatchetError: There is no such skill, or something cannot be read.
    """
    names = [workspace.choose_skill(settings, skill)] if skill else sorted(settings.skills)
    for name in names:
        space = _space(project, name, fixtures=settings.skill(name).fixtures)
        ledger = bench.open_ledger(project, name, redact=settings.redact)
        yield Book(space, ledger, opened=opened, alone=len(names) == 1)


def _space(project: Project, name: str, *, fixtures: str) -> Workspace:
    """The skill on disk; the vault is opened too where there is one, to keep it out."""
    vault = any(skillrepo.WorkTree(project).files(f"{fixtures}/vault"))
    require: tuple[Split, ...] = ("vault",) if vault else ()
    return workspace.open_anywhere(project, skill=name, ref=None, override={}, require=require)


def _outcome(row: history.Row) -> Outcome:
    if row.reversion:
        return "reverted"
    if row.result is None:
        return "under way"
    named: dict[str, Outcome] = {"merge": "kept", "hold": "waiting", "reject": "discarded"}
    return named[row.result.action]


def _bare(look: Confirmation) -> Confirmation:
    """A look without what it found: to be counted."""
    return look.with_(evidence=None, verdict=None)


def _commit(landing: Landing | None) -> Commit | None:
    return landing and Commit(landing.commit, landing.branch, landing.at, landing.by)


def _found(runs: Runs, ids: Iterable[str]) -> tuple[Run, ...]:
    named = (runs.named(name) for name in dict.fromkeys(ids))
    return tuple(run for run in named if run is not None)


def _by_fixture(runs: Iterable[Run]) -> dict[str, list[Run]]:
    made: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        made[run.fixture].append(run)
    return made


def _by_case(runs: Iterable[Run]) -> dict[str, list[Run]]:
    made: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        made[run.case].append(run)
    return made
