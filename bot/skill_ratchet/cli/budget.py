"""The command about what runs have spent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from skill_ratchet.cli.app import finite, options, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.core.records import Run
    from skill_ratchet.experiment.books import Books

_MOST = 1000  # characters of a reason


def _reason(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and len(value) > _MOST:
        raise click.BadParameter(f"expected at most {_MOST} characters")
    return value


def _month(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"\d{4}-(?:0[1-9]|1[0-2])", value, re.ASCII):
        raise click.BadParameter("expected a month, such as 2026-07")
    return value


@click.command()
@click.option(
    "--month", metavar="YYYY-MM", callback=_month, help="Another month than this one (UTC)."
)
@click.option("--correct", "run", metavar="RUN", help="Say what a run really cost.")
@click.option(
    "--usd",
    type=click.FloatRange(min=0, max=1e9),
    callback=finite,
    help="With --correct: dollars.",
)
@click.option("--why", callback=_reason, help="With --correct: how you know.")
@options
@click.pass_obj
def budget(
    start: Path,
    *,
    month: str | None,
    run: str | None,
    usd: float | None,
    why: str | None,
    as_json: bool,
) -> None:
    """Show what a month's runs have spent, and correct it.

    An attempt whose answer never came is booked at the most it can cost, and so is all of a run
    that was killed. --correct replaces that by what the provider billed.
    """
    from skill_ratchet.experiment import books

    if run is None:
        if usd is not None or why is not None:
            raise click.UsageError("--usd and --why go with --correct RUN.")
        _show(books.books(start, month=month), as_json=as_json)
        return
    if usd is None or not (why or "").strip():
        raise click.UsageError("--correct takes --usd DOLLARS and --why TEXT.")
    amended = books.correct(start, run=run, usd=usd, why=str(why).strip())
    if as_json:
        print_json(amended.model_dump(mode="json"))
        return
    _said(amended)


def _show(seen: Books, *, as_json: bool) -> None:
    from skill_ratchet.cli import terminal
    from skill_ratchet.core import wording
    from skill_ratchet.experiment import books

    if as_json:
        rows = [
            {"run": one.name, **one.model_dump(mode="json"), "unsure": books.unsure(one)}
            for one in seen.runs
        ]
        spent = {"counted_usd": seen.counted, "month_usd": seen.limit}
        print_json({"month": seen.month} | spent | {"runs": rows})
        return
    of = "" if seen.limit is None else f" of {wording.dollars(seen.limit)}"
    runs = "1 run" if len(seen.runs) == 1 else f"{len(seen.runs)} runs"
    terminal.say(f"{seen.month}: {wording.dollars(seen.counted)}{of} counted, in {runs}.")
    if not seen.unsure:
        return
    unsure = sum(map(books.unsure, seen.unsure))
    terminal.say(f"Of that {wording.dollars(unsure)} may not have been billed:\n")
    cells = [_row(one, books.unsure(one)) for one in seen.unsure]
    terminal.table(cells, header=("run", "skill", "ended", "calls", "counted", "not certain"))
    terminal.say(
        "\nLook at your provider's bill, then say what a run cost: "
        "ratchet budget --correct RUN --usd DOLLARS --why TEXT"
    )


def _row(run: Run, unsure: float) -> tuple[str, ...]:
    from skill_ratchet.core import wording

    counted, not_certain = wording.dollars(run.counted), wording.dollars(unsure)
    ended = run.ended or "killed, or under way"
    name = run.name.partition("-")[0]  # its beginning, which --correct takes, too
    return (name, run.skill, ended, str(run.calls), counted, not_certain)


def _said(run: Run) -> None:
    from skill_ratchet.cli import terminal
    from skill_ratchet.core import wording

    before = run.amended.counted if run.amended else 0.0
    terminal.say(
        f"{run.name} of {run.skill} counts {wording.dollars(run.counted)} now; it was "
        f"{wording.dollars(before)}. It is on ratchet/ledger: push that branch where others use it."
    )
