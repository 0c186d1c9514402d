"""Is the evaluation itself broken? Then no experiment can say anything about the skill."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill_ratchet.core.records import Trace

ENOUGH = 3  # cases below which equal results are no surprise


def broken(traces: Sequence[Trace], *, null: Sequence[Trace] = ()) -> str | None:
    """What is wrong with the evaluation, in words; None when nothing points to it.

    Args:
        traces: The incumbent's scored run on every train case.
        null: The same cases run with an empty skill, if that was done.
    """
    if len(traces) < ENOUGH:
        return None
    answers = {(trace.reply.text or "").strip() for trace in traces}
    if answers == {""}:
        return "The model answered every case with nothing: check the model and max_tokens."
    values = {trace.score.value for trace in traces if trace.score}
    if len(values) != 1 or len(answers) == 1:
        return None
    value = next(iter(values))
    reasons = {trace.score.reason for trace in traces if trace.score}
    if value == 0 and len(reasons) == 1:
        return f"Every case scores 0 for the same reason, so the scorer may be broken: {reasons}"
    if 0 < value < 1 and _same(value, null):
        return (
            f"Every case scores {value:g}, with this skill and with an empty one: the score does "
            "not depend on the answer."
        )
    return None


def suspicious(traces: Sequence[Trace]) -> bool:
    """Whether it is worth running an empty skill to find out: all scores equal and partial."""
    values = {trace.score.value for trace in traces if trace.score}
    return len(traces) >= ENOUGH and len(values) == 1 and 0 < next(iter(values)) < 1


def _same(value: float, null: Sequence[Trace]) -> bool:
    return bool(null) and all(trace.score and trace.score.value == value for trace in null)
