"""Reads a skill's ledger into what the pages show; decides what of it may be shown.

The traces are gone through once. Of each a ``Rollout`` is kept, which is a hundredth of its size;
the evidence of confirm runs is held for a few experiments at a time.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import replace
from math import fsum
from statistics import fmean
from typing import TYPE_CHECKING, Final

from skill_ratchet.core import leaks, wording
from skill_ratchet.core.evidence import VERSION
from skill_ratchet.ledger import access, scores
from skill_ratchet.project import config, repository, workspace
from skill_ratchet.report import comparison, history, side_by_side
from skill_ratchet.report.site import tables, trials
from skill_ratchet.report.site.cases import Cases, Origin
from skill_ratchet.report.site.runs import Runs
from skill_ratchet.report.site.seal import FEWEST_FOR_MEANS, Seal
from skill_ratchet.report.site.views import (
    CaseHistory,
    ExperimentEntry,
    ExperimentPage,
    HeldOut,
    Outcome,
    Skill,
    Spent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from skill_ratchet.core.looks import Confirmation
    from skill_ratchet.core.records import Experiment, Note, Pair, Result, Run, Side, Split, Trace
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.ledger.scores import TrainScore
    from skill_ratchet.project.config import Config
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace
    from skill_ratchet.report.graph import Kind

_ESCAPED: Final = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|.)")
LONG: Final = 200  # characters
OUTCOMES: Final[dict[Kind, Outcome]] = {
    "merged": "kept",
    "reverted": "reverted",
    "held": "waiting",
    "rejected": "discarded",
    "open": "under way",
}
AT_ONCE: Final = 25  # experiments whose evidence is in memory


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
        self._cases = Cases(self._runs, folder=f"skills/{space.name}/cases", train=space.train)
        self._rows = [*map(_fresh, history.every(ledger, {}))]
        self._points: list[ExperimentEntry] = []
        self._held_out: HeldOut | None = None
        self._moved = False  # a case of a train run is held-out now
        self._harmless: set[bytes] = set()  # digests of long texts in proposers' calls
        self._proposer_url = ""
        self._withheld: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._every = [row.experiment for row in self._rows]
        self._notes: dict[str | None, list[Note]] = defaultdict(list)  # by experiment
        for note in ledger.notes():
            self._notes[note.experiment].append(note)
        self._withhold()
        self._known = {one.id for one in self._every}
        self._withheld_texts = {one.candidate for one in self._every if one.id in self._withheld}

    # Traces -----------------------------------------------------------------------------------

    @property
    def traces(self) -> int:
        """About how many there are: how far one is, is only shown."""
        return self._ledger.count_traces()

    def named(self) -> Iterator[tuple[str, str, str]]:
        """What owns traces: an experiment's id or a text's digest, what to call it, its page."""
        yield self._space.text.digest, "the skill as it is", self.url
        for one in reversed(self._every):
            yield one.parent, f"what experiment {one.number} began with", self.url_of(one)
        for one in reversed(self._every):
            yield one.id, f"Experiment {one.number}", self.url_of(one)
            if one.candidate:
                yield one.candidate, f"the text of experiment {one.number}", self.url_of(one)

    def read_traces(self, keep: Callable[[Trace], str]) -> None:
        """Go through the traces; ``keep`` is handed those that are shown, and gives their URL."""
        splits: tuple[Split, ...] = ("train", "holdout") if self._opened else ("train",)
        for split in splits:
            runs = self._runs if split == "train" else self._sealed_runs
            for trace in self._ledger.traces(split=split):
                if self._seal.hides(trace):
                    self._moved |= split == "train"
                    continue
                if self._foreign(trace):
                    continue
                shown = self._quotes_none(trace) if trace.job == "meta" else not self._hidden(trace)
                url = keep(trace) if shown else ""
                if trace.job == "meta":
                    self._proposer_url = self._proposer_url or url
                if run := comparison.rollout(trace, url=url):
                    runs.add(run)

    def _quotes_none(self, trace: Trace) -> bool:
        """Whether a proposer's call may be shown: it may quote any train case there ever was.

        They come after all runs, so whether one of those is sealed now is known.
        """
        if self._opened:
            return True
        if self._moved or self._seal.watch is None:
            return False
        reply = trace.reply
        said = {
            *leaks.strings([reply.request, reply.response]),
            reply.text or "",
            reply.error or "",
        }
        # Each turn has all that was said before it, which is looked at once.
        new = {_name(text): f"{text}\n{_unescaped(text)}" for text in said}
        for name in new.keys() & self._harmless:
            del new[name]
        if not all(map(self._seal.speaks, new.values())):
            return False
        self._harmless |= {name for name, text in new.items() if len(text) >= LONG}
        return True

    def _foreign(self, trace: Trace) -> bool:
        """Whether it was made for something else than an experiment: a transfer tries any text."""
        owner = trace.key.experiment if trace.key else trace.experiment
        return trace.job != "meta" and bool(owner) and owner not in self._known

    def _hidden(self, trace: Trace) -> bool:
        """Whether its prompt has the text of an experiment that must not be shown."""
        owner = trace.key.experiment if trace.key else trace.experiment
        text = trace.key.skill if trace.key else ""
        return owner in self._withheld or text in self._withheld_texts

    # Experiments ------------------------------------------------------------------------------

    @property
    def experiments(self) -> int:
        """How many there are."""
        return len(self._every)

    @property
    def seen(self) -> int:
        """How many cases have runs, or are in train."""
        return self._cases.count

    def pages(self) -> Iterator[ExperimentPage]:
        """A page for each experiment, by number."""
        totals = _Totals(history.train_scores(self._ledger, self._rows))
        urls = ["", *map(self.url_of, self._every), ""]
        for at, (row, text) in enumerate(self._whole()):
            point = self._point(row, totals)
            self._points.append(point)
            self._remember(row, point)
            yield self._page(row, point, text=text, around=(urls[at], urls[at + 2]))

    def _whole(self) -> Iterator[tuple[history.Row, str | None]]:
        """Each experiment with its look at the holdout, and its text; a few in memory at a time."""
        for start in range(0, len(self._rows), AT_ONCE):
            some = self._rows[start : start + AT_ONCE]
            names = [row.experiment.id for row in some]
            looks = self._ledger.some_confirmations(names)
            texts = self._ledger.candidate_texts(names)
            for name, row in zip(names, some, strict=True):
                yield replace(row, look=looks.get(name)), texts.get(name)

    def url_of(self, experiment: Experiment) -> str:
        """Where an experiment's page is."""
        name = f"{experiment.number}-{experiment.id[:8]}"
        return f"skills/{self.name}/experiments/{name}.html"

    def _point(self, row: history.Row, totals: _Totals) -> ExperimentEntry:
        one, result = row.experiment, row.result
        train = result.train if result else None
        pair = None
        if train and train.incumbent is not None and train.candidate is not None:
            pair = (train.incumbent, train.candidate)
        outcome = OUTCOMES[row.kind]
        totals.add(one, result, pair, kept=outcome == "kept")
        return ExperimentEntry(
            number=one.number,
            url=self.url_of(one),
            outcome=outcome,
            state=row.state,
            hypothesis=self._shown(one).proposal.hypothesis,
            level=one.level,
            train=pair,
            held_out=self._held_out_means(row.confirmation),
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

    def _remember(self, row: history.Row, point: ExperimentEntry) -> None:
        """Keep of a look at the holdout what the overview needs."""
        one, look = row.experiment, row.confirmation
        if look is None:
            return
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
        row: history.Row,
        point: ExperimentEntry,
        *,
        text: str | None,
        around: tuple[str, str],
    ) -> ExperimentPage:
        one, look = row.experiment, row.confirmation
        evidence = look.evidence if look else None
        withheld = self._withheld.get(one.id, "")
        recorded = [pair for pair in (evidence.screen if evidence else ()) if self._shows(pair)]
        cases, pairs = self._cases.changed(one, recorded)
        repeats = len({pair.sweep for pair in pairs}) > 1 and one.setting.gate == VERSION
        confirm, note = trials.confirm(look, everything=self._opened)
        return ExperimentPage(
            experiment=self._shown(one),
            result=row.result,
            point=point,
            earlier=around[0],
            later=around[1],
            sentence=self._sentence(row),
            withheld=withheld,
            diff=None if withheld or text is None else side_by_side.rows(self._parent(one), text),
            cases=cases,
            screen=trials.screen(pairs, by_sweep=repeats),
            confirm=confirm,
            confirm_note=note,
            sealed=comparison.changes(evidence.confirm) if evidence and self._opened else (),
            runs=lambda ids: (*self._runs.all(ids), *self._sealed_runs.all(ids)),
            case_url=self._cases.url_of,
            notes=tuple(map(self._said, self._notes.get(one.id, ()))),
            landed=row.landing,
            reverted=row.reversion,
        )

    def _shows(self, pair: Pair) -> bool:
        """Whether the runs of a pair on train may be shown, and are on record still."""
        return all(map(self._runs.named, (*pair.incumbent_runs, pair.candidate_run)))

    def _sentence(self, row: history.Row) -> str:
        """The verdict in words; of a single held-out case no number."""
        look = row.confirmation
        if look and look.evidence and look.verdict and not self._opened:
            evidence, verdict = look.evidence, look.verdict
            if len(evidence.holdout_fixtures) < FEWEST_FOR_MEANS:
                return f"{wording.HEADS[verdict.action]}: {verdict.detail}"
        return history.verdict_sentence(row)

    def _parent(self, one: Experiment) -> str:
        if one.parent not in self._parents:
            self._parents[one.parent] = self._ledger.skill_text(one.parent) or ""
        return self._parents[one.parent]

    def _withhold(self) -> None:
        """Find the experiments whose texts must not be shown, before any trace of them is."""
        for row, text in () if self._opened else self._whole():
            one = row.experiment
            why = self._seal.withholds(
                one, parent=self._parent(one), candidate=text or "", looked=row.confirmation
            )
            if why:
                self._withheld[one.id] = why

    def _shown(self, one: Experiment) -> Experiment:
        """The experiment, without its words where they must not be shown."""
        if one.id not in self._withheld:
            return one
        return one.with_(proposal=one.proposal.with_(hypothesis="", edits=()))

    def _said(self, note: Note) -> Note:
        shown = self._seal.speaks(note.words)
        return note if shown else note.with_(words="(Not shown: held-out text.)")

    # Cases ------------------------------------------------------------------------------------

    def cases(self) -> list[CaseHistory]:
        """Each train case over all experiments, the flaky ones first."""
        space, every = self._space, self._every
        used = {space.text.digest, *(one.parent for one in every)}
        used |= {row.experiment.candidate or "" for row in self._rows if row.landing}
        origins: dict[str, Origin] = {}
        for one in every:
            if one.candidate:
                made = Origin(one.number, self.url_of(one), used=one.candidate in used)
                origins.setdefault(one.candidate, made)
        return self._cases.histories(origins, now=(space.text.digest, space.how.digest))

    # Overview ---------------------------------------------------------------------------------

    def skill(self) -> Skill:
        """The skill's own page; ``pages`` comes before it."""
        space = self._space
        paid = self._ledger.spent_by_runs()
        score = scores.of_text(self._ledger, space.text.digest)  # as log, status and badge say it
        return Skill(
            name=self.name,
            url=self.url,
            model=space.how.model,
            cases=len(space.train),
            train=score.value if score else None,
            points=tuple(self._points),
            held_out=self._held_out,
            by_experiments=_spent([row.result for row in self._rows if row.result]),
            by_runs=_spent(paid),
            looks=history.looks(self._ledger, self._space),
            last=paid[-1] if paid else None,
            experiments_url=f"skills/{self.name}/experiments.html",
            proposer_url=self._proposer_url,
            fixtures_url=f"skills/{self.name}/cases.html",
            withheld=len(self._withheld),
            transfers=tables.transferred(self._ledger, opened=self._opened),
            feedback=tables.feedback(self._ledger, self._space),
        )


class _Totals:
    """What the experiments up to one have spent, and the score they have reached."""

    def __init__(self, known: Mapping[str, TrainScore]) -> None:
        self.calls = 0
        self.usd = 0.0
        self.best: float | None = None
        self._known = known  # what texts score over whole sweeps

    def add(
        self,
        one: Experiment,
        result: Result | None,
        train: tuple[float, float] | None,
        *,
        kept: bool,
    ) -> None:
        """One more."""
        self.calls += result.calls if result else 0
        self.usd += (result.usd or 0.0) if result else 0.0
        if train is None:
            return
        before, after = self._known.get(one.parent), self._known.get(one.candidate or "")
        if self.best is None:
            self.best = before.value if before else train[0]
        if kept and after:
            self.best = max(self.best, after.value)


def books(project: Project, settings: Config, *, skill: str | None, opened: bool) -> Iterator[Book]:
    """The skills of the config, or one of them, each when it is asked for.

    Args:
        project: The repository; skills and cases are those on disk.
        settings: Its config.
        skill: The only one to be shown.
        opened: Show held-out cases too.

    Raises:
        RatchetError: There is no such skill, or something cannot be read.
    """
    names = [config.choose_skill(settings, skill)] if skill else sorted(settings.skills)
    for name in names:
        space = _space(project, name, fixtures=settings.skill(name).fixtures)
        ledger = access.open_ledger(project, name, redact=settings.redact)
        yield Book(space, ledger, opened=opened, alone=len(names) == 1)


def _space(project: Project, name: str, *, fixtures: str) -> Workspace:
    """The skill on disk; the vault is opened too where there is one, to keep it out."""
    vault = any(repository.WorkTree(project).files(f"{fixtures}/vault"))
    require: tuple[Split, ...] = ("vault",) if vault else ()
    return workspace.open_anywhere(project, skill=name, ref=None, override={}, require=require)


def _unescaped(text: str) -> str:
    """A text with JSON's escapes taken back, however often JSON was quoted in JSON."""
    return _ESCAPED.sub(lambda at: chr(int(at[1], 16)) if at[1] else " ", text)


def _name(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _fresh(row: history.Row) -> history.Row:
    """Without a result from before the experiment was begun anew, which is of an earlier try."""
    old = row.result and row.result.finished_at < row.experiment.started_at
    return replace(row, result=None) if old else row


def _spent(done: Sequence[Result | Run]) -> Spent:
    return Spent(
        count=len(done),
        calls=sum(one.calls for one in done),
        usd=fsum(one.usd or 0.0 for one in done),
        unpriced=sum(one.usd is None for one in done),
    )
