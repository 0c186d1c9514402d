"""What became of single cases: in one experiment, and over all of them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Final, TypeVar

from skill_ratchet.report import comparison
from skill_ratchet.report.comparison import CaseChange
from skill_ratchet.report.site.runs import mean, scores
from skill_ratchet.report.site.views import CaseHistory, TextRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from skill_ratchet.core.records import Experiment, Fixture, Pair
    from skill_ratchet.report.comparison import Rollout
    from skill_ratchet.report.site.runs import Runs

T = TypeVar("T")
K = TypeVar("K")
GONE: Final = "not in train any more"


@dataclass(frozen=True, slots=True)
class Origin:
    """The experiment that proposed a text first, and whether the skill ever was that text."""

    number: int
    url: str
    used: bool


BY_HAND: Final = Origin(0, "", used=True)  # a text that no experiment proposed


class Cases:
    """The train cases of a skill.

    Args:
        runs: Their runs; it may still be filled.
        folder: Where their pages are.
        train: The cases as they are on disk.
    """

    def __init__(self, runs: Runs, *, folder: str, train: Sequence[Fixture]) -> None:
        self._runs, self._folder = runs, folder
        self._train = {case.id: case for case in train}

    def url_of(self, name: str) -> str:
        """Where a case's page is."""
        # Two names may differ in case alone, which not every file system tells apart.
        mark = hashlib.sha256(name.encode()).hexdigest()[:6]
        return f"{self._folder}/{name}-{mark}.html"

    @property
    def count(self) -> int:
        """How many there are: on disk, or on record."""
        return len({*self._train, *self._runs.by_fixture()})

    def changed(
        self, experiment: Experiment, recorded: Sequence[Pair]
    ) -> tuple[tuple[CaseChange, ...], Sequence[Pair]]:
        """What an edit did to each case, worst first, and the pairs of its screen.

        ``recorded`` are the pairs of the screen where they are on record; where they are not, the
        runs tell.
        """
        model = experiment.setting.model_digest
        known = self._runs.of(experiment.parent, model)
        tried = self._runs.of(experiment.candidate or "", model)
        pairs = recorded or comparison.screened(experiment, [*known, *tried])
        if pairs:
            return comparison.changes(pairs), pairs
        kept = [run for run in known if run.experiment in ("", experiment.id)] or known
        own = [run for run in tried if run.experiment == experiment.id]
        return tuple(_aimed(kept, own)), ()

    def histories(
        self, origins: Mapping[str, Origin], *, now: tuple[str, str]
    ) -> list[CaseHistory]:
        """Each case over all experiments, the flaky ones first.

        Args:
            origins: Where texts come from, by their digests.
            now: Digests of the skill as it is, and of how it is run.
        """
        found = self._runs.by_fixture()
        names = sorted({*self._train, *found})
        cases = [self._history(name, found.get(name, []), origins, now) for name in names]
        return sorted(cases, key=lambda case: (-case.spread, case.source == GONE, case.fixture))

    def _history(
        self,
        name: str,
        runs: Sequence[Rollout],
        origins: Mapping[str, Origin],
        now: tuple[str, str],
    ) -> CaseHistory:
        fixture = self._train.get(name)
        scored = [run for run in runs if run.score is not None]
        same = _grouped(scored, by=lambda run: (run.text, run.model, run.case))
        versions = [
            _version(some, origins.get(text, BY_HAND)) for (text, _, _), some in same.items()
        ]
        repeated = [version for version in versions if len(version.runs) > 1]
        current = same.get((*now, fixture.digest), []) if fixture else []
        return CaseHistory(
            fixture=name,
            url=self.url_of(name),
            source=fixture.source if fixture else GONE,
            tags=fixture.tags if fixture else (),
            runs=len(runs),
            failed=len(runs) - len(scored),
            incumbent=mean(current),
            mean=mean(scored),
            flaky=sum(version.differs for version in repeated),
            repeated=len(repeated),
            spread=fmean(pstdev(scores(one.runs)) for one in repeated) if repeated else 0.0,
            versions=tuple(sorted(versions, key=lambda one: (one.number, one.runs[0].id))),
        )


def _aimed(before: Iterable[Rollout], after: Iterable[Rollout]) -> Iterator[CaseChange]:
    """The cases of an edit that was tried on those it aimed at, and no further."""
    known = _grouped(before, by=lambda run: run.fixture)
    for name, some in sorted(_grouped(after, by=lambda run: run.fixture).items()):
        yield CaseChange(
            fixture=name,
            before=mean(known.get(name, [])),
            after=mean(some),
            pairs=0,
            old_runs=tuple(run.id for run in known.get(name, [])),
            new_runs=tuple(run.id for run in some),
        )


def _version(runs: Sequence[Rollout], origin: Origin) -> TextRuns:
    found = scores(runs)
    return TextRuns(
        number=origin.number,
        url=origin.url,
        used=origin.used,
        mean=fmean(found),
        low=min(found),
        high=max(found),
        runs=tuple(runs),
    )


def _grouped(items: Iterable[T], *, by: Callable[[T], K]) -> dict[K, list[T]]:
    made: dict[K, list[T]] = defaultdict(list)
    for item in items:
        made[by(item)].append(item)
    return made
