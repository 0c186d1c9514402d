"""How often the infrastructure failed each side of an experiment, from the tries on record.

A run that the infrastructure failed has no score and is made again. That is fair as long as such
failures have nothing to do with the skill, and this is what tells: both runs of a pair are first
tried together, so that a storm or an outage hits either of them alike, and of the pairs in which
one alone failed it is the candidate's half of the time. A later try of one run alone is compared
with nothing; how many there were of the same run is counted by itself.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from skill_ratchet.core.records import FailedCalls

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skill_ratchet.core.records import Trace

    _Run = tuple[str, int]  # a case's digest, and which repeat


def counted(candidate: Iterable[Trace], incumbent: Iterable[Trace]) -> FailedCalls:
    """Both sides of an experiment compared.

    Args:
        candidate: Every try of the candidate's runs since the experiment was begun.
        incumbent: The same of the incumbent's; runs that were kept from before are not among them.
    """
    new, old = _by_run(candidate), _by_run(incumbent)
    alone = [_alone(tries, old.get(run, ())) for run, tries in new.items()]
    stuck = [_failed(tries) - _failed(old.get(run, ())) for run, tries in new.items()]
    return FailedCalls(
        candidate=alone.count("candidate"),
        incumbent=alone.count("incumbent"),
        stuck=max(0, *stuck, 0),
    )


def _by_run(traces: Iterable[Trace]) -> dict[_Run, list[Trace]]:
    """Tries in the order in which they were made, by the run that they are tries of.

    What cannot depend on the run (a refused key, no connection, a cap that was reached before the
    judge was asked) says nothing about it.
    """
    found: dict[_Run, list[Trace]] = defaultdict(list)
    for trace in sorted(traces, key=lambda one: one.started_at):
        failure = trace.reply.failure
        undone = trace.score is None and not (trace.reply.error or trace.scorer_error)
        if trace.job == "task" and trace.key and not undone and not (failure and failure.is_blind):
            found[trace.key.fixture, trace.key.replicate].append(trace)
    return found


def _alone(new: Sequence[Trace], old: Sequence[Trace]) -> str | None:
    """Whose try failed when the other's did not; None where they never differed."""
    for one, other in zip(new, old, strict=False):
        if (one.score is None) != (other.score is None):
            return "candidate" if one.score is None else "incumbent"
        if one.score is not None:
            return None
    return None  # both failed, as often as they were tried together


def _failed(tries: Sequence[Trace]) -> int:
    """How often a run was tried without success, if it has no score yet."""
    return 0 if any(trace.score for trace in tries) else len(tries)
