"""What the pages of the report show: frozen records, made by ``gather`` and drawn by ``html``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skill_ratchet.core.records import Experiment, Landing, Note, Result, Run, Tally
    from skill_ratchet.core.transfer import Transfer
    from skill_ratchet.report.comparison import CaseChange, Rollout
    from skill_ratchet.report.history import Looks
    from skill_ratchet.report.intervals import Interval
    from skill_ratchet.report.side_by_side import DiffRow
    from skill_ratchet.report.site.tables import Table

Outcome = Literal["kept", "reverted", "discarded", "waiting", "under way"]


@dataclass(frozen=True, slots=True)
class ExperimentEntry:
    """One experiment in the charts and lists of a skill. ``best`` is the score to beat then."""

    number: int
    url: str
    outcome: Outcome
    state: str
    hypothesis: str
    level: str
    train: tuple[float, float] | None  # incumbent, candidate
    held_out: tuple[float, float] | None
    best: float | None
    calls: int
    usd: float | None
    total_calls: int  # up to here
    total_usd: float  # the known part of it
    started: str


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out score of the skill as it is, from its newest confirm run."""

    mean: float | None  # withheld when one case would be all there is
    interval: Interval | None
    cases: int
    independent: int  # related cases count as one
    sweeps: int
    number: int
    url: str
    at: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What was paid for some experiments or runs, as far as it is known."""

    count: int  # of them
    calls: int
    usd: float
    unpriced: int  # of them had a call of unknown price


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill's page."""

    name: str
    url: str
    model: str
    cases: int  # on train
    train: float | None  # of the skill as it is
    points: tuple[ExperimentEntry, ...]  # by number
    held_out: HeldOut | None
    by_experiments: Spent
    by_runs: Spent  # every run on record: audits and baselines too
    looks: Looks
    last: Run | None
    experiments_url: str
    proposer_url: str  # the first of the proposer's calls; empty when none is shown
    fixtures_url: str
    withheld: int  # experiments whose text is not shown
    transfers: tuple[Transfer, ...]
    feedback: Table | None

    @property
    def kept(self) -> int:
        """Experiments that were merged and still are."""
        return sum(point.outcome == "kept" for point in self.points)


@dataclass(frozen=True, slots=True)
class Sweep:
    """The end of one sweep of a test: the evidence so far, and the pairs of this sweep.

    ``wins`` and ``losses`` are None where they would tell of single held-out cases.
    """

    number: int
    log_e: float
    wins: int | None
    losses: int | None


@dataclass(frozen=True, slots=True)
class Trial:
    """A screen or a confirm run: evidence by sweep, in logs of odds, against the bar.

    There are no sweeps, and no bar, where the rule was not one of repeats.
    """

    tally: Tally
    sweeps: tuple[Sweep, ...]
    log_bar: float | None


@dataclass(frozen=True, slots=True)
class ExperimentPage:
    """Everything of one experiment that may be shown. ``withheld`` says why its text is not."""

    experiment: Experiment
    result: Result | None
    point: ExperimentEntry
    earlier: str  # URL of the one before; empty at the ends
    later: str
    sentence: str
    withheld: str
    diff: tuple[DiffRow, ...] | None
    cases: tuple[CaseChange, ...]
    screen: Trial | None
    confirm: Trial | None
    runs: Callable[[Iterable[str]], Sequence[Rollout]]  # by their ids
    case_url: Callable[[str], str]  # of a train case, by its name
    confirm_note: str  # why numbers of the confirm run are not shown in full
    sealed: tuple[CaseChange, ...]  # only with the holdout
    notes: tuple[Note, ...]  # by people; without what must not be shown
    landed: Landing | None
    reverted: Landing | None


@dataclass(frozen=True, slots=True)
class TextRuns:
    """One text of the skill on one case: all runs of it with one model."""

    number: int  # of the experiment that proposed it first; 0 for a text that none did
    url: str
    used: bool  # the skill was this text at some time
    mean: float
    low: float
    high: float
    runs: tuple[Rollout, ...]

    @property
    def differs(self) -> bool:
        """The same text, case and model did not always score the same."""
        return self.low < self.high


@dataclass(frozen=True, slots=True)
class CaseHistory:
    """One train case over all experiments."""

    fixture: str
    url: str
    source: str  # 'gone' when it is not in train any more
    tags: tuple[str, ...]
    runs: int
    failed: int  # runs without a score
    incumbent: float | None  # of the skill as it is
    mean: float | None
    flaky: int  # texts whose runs differ
    repeated: int  # texts that ran more than once
    spread: float  # mean standard deviation over the repeated texts
    versions: tuple[TextRuns, ...]
