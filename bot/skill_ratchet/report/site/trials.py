"""Screens and confirm runs as the pages show them: counts, and evidence by sweep. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

from skill_ratchet.core import evidence as stats
from skill_ratchet.experiment.recorder import tally
from skill_ratchet.report.intervals import t_interval
from skill_ratchet.report.site.seal import FEWEST_FOR_MEANS, FEWEST_FOR_SWEEPS
from skill_ratchet.report.site.views import HeldOut, Sweep, Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill_ratchet.core.looks import Confirmation
    from skill_ratchet.core.records import Pair, Side

ONE_CASE = "There is one held-out case: its numbers would be that case's score, and are not shown."
FEW_CASES = (
    f"There are fewer than {FEWEST_FOR_SWEEPS} held-out cases: what each sweep won and lost would "
    "tell of single cases, and is not shown."
)


def screen(pairs: Sequence[Pair], *, by_sweep: bool) -> Trial | None:
    """A screen on train: log S at the end of each sweep, where the rule was that of repeats."""
    path = _log_s(pairs) if by_sweep else ()
    return _test(pairs, path, log_bar=stats.SCREEN_PASS, sweeps_too=True) if pairs else None


def confirm(look: Confirmation | None, *, everything: bool) -> tuple[Trial | None, str]:
    """A confirm run in numbers that tell of no single case, and what is left out of them."""
    evidence, verdict = (look.evidence, look.verdict) if look else (None, None)
    if evidence is None or verdict is None or not evidence.confirm:
        return None, ""
    cases = len(evidence.holdout_fixtures)
    if cases < FEWEST_FOR_MEANS and not everything:
        return None, ONE_CASE
    repeats = verdict.false_merge_rate is None and not evidence.deterministic
    path = verdict.path if repeats else ()
    few = cases < FEWEST_FOR_SWEEPS and not everything
    made = _test(
        evidence.confirm, path, log_bar=verdict.log_bar if repeats else None, sweeps_too=not few
    )
    return made, FEW_CASES if few and made.sweeps else ""


def held_out(
    look: Confirmation, *, side: Side, number: int, url: str, everything: bool
) -> HeldOut | None:
    """The held-out score of one side of a confirm run, over independent cases."""
    evidence = look.evidence
    if evidence is None or not evidence.confirm:
        return None
    by_case: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in evidence.confirm:
        score = pair.incumbent if side == "incumbent" else pair.candidate
        by_case[pair.cluster, pair.fixture].append(score)
    by_cluster: dict[str, list[float]] = defaultdict(list)
    for (cluster, _), found in sorted(by_case.items()):
        by_cluster[cluster].append(fmean(found))
    means = [fmean(found) for found in by_cluster.values()]
    hidden = len(means) < FEWEST_FOR_MEANS and not everything
    return HeldOut(
        mean=None if hidden else fmean(means),
        interval=None if hidden else t_interval(means),
        cases=len(evidence.holdout_fixtures),
        independent=len(means),
        sweeps=tally(evidence.confirm, evidence.holdout_fixtures).sweeps,
        number=number,
        url=url,
        at=look.completed_at or look.started_at,
    )


def _test(
    pairs: Sequence[Pair], path: Sequence[float], *, log_bar: float | None, sweeps_too: bool
) -> Trial:
    gains: dict[int, list[float]] = defaultdict(list)
    for pair in pairs:
        gains[pair.sweep].append(pair.difference)
    sweeps = tuple(
        Sweep(
            number=sweep + 1,
            log_e=log_e,
            wins=sum(gain > 0 for gain in gains[sweep]) if sweeps_too else None,
            losses=sum(gain < 0 for gain in gains[sweep]) if sweeps_too else None,
        )
        for sweep, log_e in enumerate(path)
    )
    return Trial(tally(pairs, [*{pair.fixture for pair in pairs}]), sweeps, log_bar)


def _log_s(pairs: Sequence[Pair]) -> tuple[float, ...]:
    """Log S at the end of each whole sweep, up to where the screen had settled."""
    whole = max(Counter(pair.sweep for pair in pairs).values(), default=1)
    return stats.screen(pairs, fixtures=whole, patience=stats.PATIENCE["patient"]).path
