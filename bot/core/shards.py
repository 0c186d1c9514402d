"""A split's cases dealt out to several machines, and what their runs must be to count as one's.

Every machine gets a share of the cases and makes all runs of those. Whoever puts the shares
together refuses what one machine could not have made; nothing here decides about a candidate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

from pydantic import Field

from bot.core.records import (
    JUDGE,
    Digest,
    Fixture,
    Record,
    RolloutKey,
    Setting,
    Side,
    Slug,
    Split,
    trace_id,
)
from bot.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bot.core.records import Trace

MOST: Final = 256  # shards; what GitHub runs of one matrix
_WRITTEN: Final = re.compile(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One machine's part of the work: the ``number``-th, from 1, of so many."""

    number: int
    of: int

    def __post_init__(self) -> None:
        """Refuse what is no part of anything."""
        if not 1 <= self.number <= self.of <= MOST:
            raise ValueError(f"expected I/N with 1 <= I <= N <= {MOST}, such as 2/4")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What ``2/4`` says.

        Raises:
            ValueError: It is nothing of the kind.
        """
        found = _WRITTEN.fullmatch(text)
        return cls(*map(int, found.groups())) if found else cls(0, 0)

    def __str__(self) -> str:
        """As it is written on a command line."""
        return f"{self.number}/{self.of}"

    def cases(self, fixtures: Sequence[Fixture]) -> tuple[Fixture, ...]:
        """Its cases. The shares have each case once, and differ by one case at most.

        They are dealt out by what the cases are, so a new id or another order changes nothing.
        """
        dealt = sorted(fixtures, key=lambda one: (one.digest, one.id))
        return tuple(dealt[self.number - 1 :: self.of])

    def part(self, total: int) -> int:
        """Its part of so many calls; the parts add up to them."""
        return (total + self.of - self.number) // self.of


class Plan(Record):
    """What the shards of one evaluation, or of one confirm run, have in common.

    A confirm run has an ``experiment``, the time it was ``begun`` (another try is another plan),
    and which ``attempt`` at the holdout it is. ``sweeps`` is 0, and ``attempt`` None, where there
    was nothing to run.
    """

    job: Literal["eval", "confirm"]
    skill: Slug
    parent: Digest  # the text that is scored: the incumbent
    setting: Setting
    split: Split
    experiment: Digest | None = None
    candidate: Digest | None = None
    begun: str = ""
    attempt: int | None = Field(default=None, ge=1)
    sweeps: int = Field(default=1, ge=0, le=100_000)

    def differences(self, other: Plan) -> list[str]:
        """The names of what differs, those of the setting by their own."""
        names = [
            name
            for name in Plan.model_fields
            if name != "setting" and getattr(self, name) != getattr(other, name)
        ]
        names += [
            name
            for name in Setting.model_fields
            if getattr(self.setting, name) != getattr(other.setting, name)
        ]
        return sorted(names)

    def wanted(self, cases: Sequence[Fixture]) -> dict[str, Wanted]:
        """Every run that belongs to these cases, by the digest of its key."""
        sides: list[tuple[Side, str]] = [("incumbent", self.parent)]
        if self.candidate is not None:
            sides.append(("candidate", self.candidate))
        return {
            RolloutKey(
                skill=text,
                fixture=case.digest,
                model=self.setting.model_digest,
                replicate=sweep,
                experiment=self.experiment or "",
            ).digest: Wanted(case, side)
            for case in cases
            for sweep in range(self.sweeps)
            for side, text in sides
        }


class Wanted(NamedTuple):
    """Whose run it is."""

    case: Fixture
    side: Side


@dataclass(frozen=True, slots=True)
class Sorted:
    """The runs of one shard: one for each key, what else was called for it, and what lacks."""

    runs: Mapping[str, Trace]  # by the digest of the key
    others: tuple[Trace, ...]  # calls that failed, and those of judges
    lacking: int  # runs that are not there (in a confirm run: that have no score)


def sort_out(
    traces: Sequence[Trace],
    *,
    plan: Plan,
    share: Mapping[str, Wanted],
    everything: Mapping[str, Wanted],
    score_again: Callable[[Trace, Fixture], bool],
) -> Sorted:
    """The traces of one shard, each found to be what it says.

    Args:
        traces: As the shard has them.
        plan: What they were made for.
        share: The runs that are the shard's, by the digest of their key.
        everything: The runs of all shards.
        score_again: Whether an answer has the score that its trace says, as far as can be told.

    Raises:
        RatchetError: One of them is something else. No text of a case is in the message.
    """
    runs: dict[str, Trace] = {}
    others: list[Trace] = []
    for trace in traces:
        key = trace.key.digest if trace.key else ""
        if key not in share:
            elsewhere = key in everything
            raise RatchetError(
                "It has a run of a case that is not in its share."
                if elsewhere
                else "It has a run that was not made for this: another text, case, model or try."
            )
        _check(trace, plan=plan, wanted=share[key])
        if trace.job == "judge" or (trace.score is None and plan.job == "confirm"):
            others.append(trace)
        elif key in runs:
            raise RatchetError("It has a run twice.")
        elif trace.score is not None and not score_again(trace, share[key].case):
            raise RatchetError("It has a run with another score than its answer gives.")
        else:
            runs[key] = trace
    _check_judges(others, [*runs.values(), *others])
    return Sorted(runs, tuple(others), len(share) - len(runs))


def _check(trace: Trace, *, plan: Plan, wanted: Wanted) -> None:
    """A trace says of itself what its key says, and was made since the experiment was begun."""
    case, side = wanted
    says = (trace.skill, trace.fixture, trace.split, trace.side, trace.experiment, trace.model)
    here = (plan.skill, case.id, plan.split, side, plan.experiment or "", plan.setting.model)
    assert trace.key is not None  # noqa: S101 - it was found by it
    name = trace_id(trace.key, trace.started_at) + (JUDGE if trace.job == "judge" else "")
    if says != here or trace.id != name or trace.job == "meta":
        raise RatchetError("It has a run that is not what its key says.")
    if not _is_time(trace.started_at) or trace.started_at < plan.begun:
        raise RatchetError("It has a run from before its experiment was begun: a kept one is none.")
    if trace.score is not None and (trace.reply.error is not None or trace.reply.text is None):
        raise RatchetError("It has a score without an answer.")


def _check_judges(others: Sequence[Trace], traces: Sequence[Trace]) -> None:
    made = {trace.id for trace in traces if trace.job == "task"}
    judged = [trace.id for trace in others if trace.job == "judge"]
    if len(set(judged)) != len(judged) or not {one.removesuffix(JUDGE) for one in judged} <= made:
        raise RatchetError("It has a judgement of a run that is not there, or one twice.")


def _is_time(stamp: str) -> bool:
    try:
        return datetime.fromisoformat(stamp).tzinfo is not None
    except ValueError:
        return False
