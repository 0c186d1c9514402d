"""Numbers and verdicts as words: text in, text out, at most 80 columns."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill_ratchet.core.gate import Verdict
    from skill_ratchet.core.records import Tally

WIDTH = 80
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
MOST_LOG = math.log(1e9)  # larger odds are shown as this: nobody needs the digits
HEADS = {"merge": "Merged", "hold": "Waiting", "reject": "Rejected"}
FEW_FIXTURES = 10  # below this a merge is labelled as fitting these fixtures only

# Whether a program that answered could find the held-out cases, by ``Experiment.sealed``.
SEALED: Final = {
    "hidden": "hidden from the program that answered",
    "trusted": "not hidden from the program that answered: its owner vouches for it "
    "(`sealed: trust`)",
    "open": "not hidden from the program that answered: the system could not",
}


def safe(text: str) -> str:
    """Text from a model or a file for a terminal: no escape sequence, no hidden direction."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(text: str, width: int = WIDTH) -> str:
    """The text on one line of at most ``width`` characters."""
    line = " ".join(safe(text).split())
    return line if len(line) <= width else f"{line[: width - 1]}\N{HORIZONTAL ELLIPSIS}"


def many(count: int, what: str) -> str:
    """A number of things, such as ``1 case`` or ``1,200 cases``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def first(texts: Sequence[str], most: int, rest: str = "and {:,} more") -> list[str]:
    """The first of some texts, and how many there are besides."""
    more = [rest.format(len(texts) - most)] if len(texts) > most else []
    return [*texts[:most], *more]


def percent(value: float | None) -> str:
    """A score in [0, 1] as a percentage; a dash when there is none."""
    return "-" if value is None else f"{100 * value:.0f}%"


def change(tally: Tally | None) -> str:
    """Mean scores before and after, such as ``41% -> 58%``."""
    if tally is None or tally.incumbent is None:
        return "-"
    return arrow([percent(tally.incumbent), percent(tally.candidate)])


def arrow(steps: Sequence[str]) -> str:
    """Values that follow each other."""
    return " \N{RIGHTWARDS ARROW} ".join(steps)


def dollars(usd: float | None) -> str:
    """A cost; in words when a price was not known."""
    return "unknown" if usd is None else amounts(usd)[0]


def amounts(*usd: float) -> list[str]:
    """Dollars of one sentence, with as many digits as it takes for the sentence to be true.

    Each is within a hundredth of what it is, and what differs looks different.
    """
    for digits in (2, 4, 6):
        shown = [round(one, digits) for one in usd]
        near = all(abs(one - at) <= abs(one) / 100 for one, at in zip(usd, shown, strict=True))
        if near and len(set(shown)) == len({round(one, 6) for one in usd}):
            break
    return [f"${one:.{digits}f}" for one in usd]


def cost(calls: int, usd: float | None) -> str:
    """What calls cost together: ``12 calls, $0.02``, or that this is not known."""
    if usd is None:
        return f"{many(calls, 'call')} of unknown price"
    return f"{many(calls, 'call')}, {dollars(usd)}"


def points(value: float | None) -> str:
    """A gain in points, signed; a dash when there is none."""
    return "-" if value is None else f"{value:+.1f}"


def growth(chars: tuple[int, int] | None) -> str:
    """How much longer a text became, signed; a dash when that is not known."""
    return "-" if chars is None else f"{chars[1] - chars[0]:+,}"


def moment(stamp: str | None, *, seconds: bool = False) -> str:
    """A time of the ledger, such as ``2026-07-01 12:30 UTC``; as it is if it is no time."""
    try:
        at = datetime.fromisoformat(stamp or "")
    except ValueError:
        return stamp or "-"
    return at.strftime("%Y-%m-%d %H:%M:%S UTC" if seconds else "%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """Seconds as ``42 s`` or ``3 min 20 s``."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.0f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def odds(log_e: float) -> str:
    """Evidence as odds, ``229:1``; whole numbers once they are large."""
    value = math.exp(min(log_e, MOST_LOG))
    return f"{value:,.0f}:1" if value >= 10 else f"{value:.2g}:1"  # noqa: PLR2004 - two digits


def sentence(
    verdict: Verdict,
    *,
    holdout: Tally | None,
    fixtures: int,
    rule: str,
    deterministic: bool,
    done: bool = True,
) -> str:
    """The verdict as a person would say it, with what it does not show.

    Args:
        verdict: From ``gate.decide``.
        holdout: The confirm run, or None when there was none.
        fixtures: Held-out fixtures.
        rule: ``gate.rule``.
        deterministic: Runs were deterministic, so there was one sweep.
        done: What the verdict says has been done; not so before a merge was tried.
    """
    head = HEADS[verdict.action.value] if done or verdict.action != "merge" else "Improved"
    if holdout is None or holdout.incumbent is None or holdout.candidate is None:
        return f"{head}: {verdict.detail}"
    points = 100 * (holdout.candidate - holdout.incumbent)
    sweeps = f"{many(holdout.sweeps, 'fresh sweep')} of {fixtures} sealed fixtures"
    if 0 < holdout.size < fixtures:
        blocks = many(holdout.sweeps, "fresh block")
        sweeps = f"{blocks} of {holdout.size}, drawn from {fixtures} sealed fixtures,"
    ran = (
        f"over {sweeps} the new skill won {holdout.wins} decisive "
        f"runs and lost {holdout.losses} ({points:+.0f} points)."
    )
    body = _grounds(verdict, rule=rule, deterministic=deterministic)
    return " ".join([f"{head}: {ran}", body, _caveat(verdict, fixtures)]).strip()


def _grounds(verdict: Verdict, *, rule: str, deterministic: bool) -> str:
    if rule == "improves":
        rate = verdict.false_merge_rate
        if rate is None:
            return verdict.detail
        return f"The rule is 'improves': with this noise it merges {rate:.0%} of useless edits."
    if verdict.log_e is None or verdict.log_bar is None:
        return verdict.detail
    if deterministic:
        return (
            f"Runs were deterministic, so one sweep is all there is: mean gain "
            f"{100 * verdict.log_e:.1f} points, needed more than {100 * verdict.log_bar:.1f} "
            f"({errors(verdict.errors)}; attempt {verdict.attempt})."
        )
    bar = f"bar {odds(verdict.log_bar)}, attempt {verdict.attempt}"
    if verdict.action.value == "reject":
        return f"The evidence came to {odds(verdict.log_e)} ({bar}). {verdict.detail}"
    return (
        f"If it were no better on these fixtures, evidence this strong ({odds(verdict.log_e)}; "
        f"{bar}) would appear less than 1 time in {_rarity(verdict.log_e):,}."
    )


def errors(count: float | None) -> str:
    """The standard errors that the gain of a deterministic model must exceed."""
    if count in (None, 1.0):
        return "one standard error"
    return f"{count:g} standard errors, train and held-out cases together"


def _rarity(log_e: float) -> int:
    """The largest number with one significant digit that the odds exceed."""
    value = math.exp(min(log_e, MOST_LOG))
    step = 10 ** math.floor(math.log10(max(value, 1.0)))
    return int(value // step * step)


def _caveat(verdict: Verdict, fixtures: int) -> str:
    if verdict.action.value != "merge":
        return ""
    if fixtures < FEW_FIXTURES:
        return "It fits your fixtures; with so few, that is not evidence beyond them."
    return "This does not show it helps beyond them."


def chart(path: Sequence[float], *, log_bar: float, height: int = 10, width: int = 60) -> str:
    """Log evidence at the end of each sweep against the bar, as text.

    Args:
        path: Log E at the end of each sweep.
        log_bar: Log of the bar.
        height: Lines.
        width: Columns for sweeps; a longer path is shown by its last ``width`` sweeps.
    """
    if not path:
        return "(no complete sweep)"
    shown = list(path)[-width:]
    top = max(log_bar, *shown)
    bottom = min(0.0, *shown)
    step = (top - bottom) / (height - 1) or 1.0
    rows = [[" "] * len(shown) for _ in range(height)]
    bar_row = round((top - log_bar) / step)
    rows[bar_row] = ["-"] * len(shown)
    for column, value in enumerate(shown):
        rows[round((top - value) / step)][column] = "*"
    labels = [odds(top - row * step) for row in range(height)]
    margin = max(map(len, labels))
    lines = [f"{labels[row]:>{margin}} |{''.join(cells)}" for row, cells in enumerate(rows)]
    first = len(path) - len(shown) + 1
    axis = f"{'':>{margin}} +{'-' * len(shown)}\n{'':>{margin}}  sweeps {first} to {len(path)}"
    return "\n".join([*(line.rstrip() for line in lines), f"{axis}; --- is the bar"])
