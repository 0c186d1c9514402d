"""The commands that look back and run nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from skill_ratchet.cli.app import (
    experiment_argument,
    ledger_of,
    on_disk,
    options,
    print_json,
    skill_argument,
    skill_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.ledger import Ledger

OUTCOMES = ("merged", "rejected", "held", "open", "reverted")


@click.command()
@skill_argument
@click.option("-n", "--max-count", type=click.IntRange(1), default=30, help="Newest N (30).")
@click.option(
    "--outcome",
    "outcomes",
    type=click.Choice(OUTCOMES),
    multiple=True,
    help="Only those that ended so. Repeatable.",
)
@options
@click.pass_obj
def log(
    start: Path, *, skill: str | None, max_count: int, outcomes: tuple[str, ...], as_json: bool
) -> None:
    """List past experiments, newest first, as a graph of what was kept."""
    from skill_ratchet.cli import log_view
    from skill_ratchet.report import history

    ledger = _ledger(start, skill)
    rows = history.rows(ledger, most=max_count, only=outcomes)
    if as_json:
        print_json([history.document(row) for row in rows])
        return
    log_view.show_log(ledger, rows, filtered=bool(outcomes))


@click.command()
@skill_argument
@click.option("--by", required=True, metavar="FIELD", help="Such as meta.model, level, provider.")
@options
@click.pass_obj
def compare(start: Path, *, skill: str | None, by: str, as_json: bool) -> None:
    """Tabulate past experiments by any recorded field.

    How many were merged, what they gained and cost, and how strong the evidence was.
    """
    from skill_ratchet.report import comparison, history

    field = comparison.field_named(by)
    groups = history.comparison(_ledger(start, skill), by=field)
    if as_json:
        rows = [group.model_dump(mode="json") for group in groups]
        print_json({"by": field, "rows": rows})
        return
    _show_comparison(groups, by=by)


@click.command()
@experiment_argument
@skill_option
@options
@click.pass_obj
def show(start: Path, *, experiment: str, skill: str | None, as_json: bool) -> None:
    """Show one experiment: hypothesis, edit, scores, verdict, cost.

    EXPERIMENT is a number of 'ratchet log' or the beginning of an id.
    """
    from skill_ratchet.cli import log_view
    from skill_ratchet.report import history

    ledger, path = _skill_on_record(start, skill)
    row = history.row(ledger, ledger.find(experiment))
    if as_json:
        print_json(history.document(row) | history.details(ledger, row, path=path))
        return
    log_view.show_experiment(ledger, row, path=path)


@click.command()
@experiment_argument
@skill_option
@options
@click.pass_obj
def explain(start: Path, *, experiment: str, skill: str | None, as_json: bool) -> None:
    """Say why an experiment was merged or not, and show the evidence."""
    from skill_ratchet.cli import terminal
    from skill_ratchet.report import history

    ledger = _ledger(start, skill)
    explanation = history.explain(history.row(ledger, ledger.find(experiment)))
    if as_json:
        print_json(explanation.document)
        return
    terminal.say(explanation.sentence)
    terminal.raw("\n" + explanation.numbers)


@click.command()
@skill_argument
@options
@click.pass_obj
def looks(start: Path, *, skill: str | None, as_json: bool) -> None:
    """Show how often the holdout was consulted, and what that leaves."""
    from dataclasses import asdict

    from skill_ratchet.cli import terminal
    from skill_ratchet.report import history

    space = on_disk(start, skill)
    seen = history.looks(ledger_of(space), space)
    if as_json:
        print_json(asdict(seen))
        return
    for line in history.describe_looks(seen):
        terminal.say(line)


@click.command()
@click.argument("trace_id", metavar="ID")
@skill_option
@click.option("--raw", is_flag=True, help="Request and response as they were sent.")
@click.option("--no-pager", is_flag=True, help="Do not page on a terminal.")
@options
@click.pass_obj
def trace(
    start: Path, *, trace_id: str, skill: str | None, raw: bool, no_pager: bool, as_json: bool
) -> None:
    """Show one model call in full: messages, usage, score, correction.

    On a terminal it goes through the pager that PAGER names.
    """
    from skill_ratchet.cli import log_view, terminal

    found = _ledger(start, skill).find_trace(trace_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    text = log_view.trace_text(found, raw=raw)
    terminal.raw(text) if no_pager else terminal.paged(text)


@click.command()
@experiment_argument
@skill_option
@options
@click.pass_obj
def diff(start: Path, *, experiment: str, skill: str | None, as_json: bool) -> None:
    """Show an experiment's edit as a patch."""
    from skill_ratchet.cli import terminal
    from skill_ratchet.report import history

    ledger, path = _skill_on_record(start, skill)
    found = ledger.find(experiment)
    patch = history.patch(ledger, found, path=path)
    if as_json:
        print_json({"experiment": found.id, "diff": patch})
        return
    terminal.raw(patch or "This proposal could not be applied, so there is no edit to show.")


def _ledger(start: Path, skill: str | None) -> Ledger:
    return _skill_on_record(start, skill)[0]


def _skill_on_record(start: Path, skill: str | None) -> tuple[Ledger, str]:
    """A skill's ledger, and the path of its file."""
    from skill_ratchet.ledger import access
    from skill_ratchet.project import config, repository

    project = repository.open_project(start)
    settings = config.load_config(repository.WorkTree(project))
    name = config.choose_skill(settings, skill)
    ledger = access.open_ledger(project, name, redact=settings.redact)
    return ledger, settings.skill(name).path


def _show_comparison(groups: Any, *, by: str) -> None:
    from skill_ratchet.cli import terminal
    from skill_ratchet.core import wording

    if not groups:
        terminal.say("No experiment yet: ratchet run")
        return
    tried = sum(group.experiments for group in groups)
    many = "1 experiment" if tried == 1 else f"{tried} experiments"
    terminal.say(f"{many} by {by}; gains are points, summed over what was merged and is in.\n")
    names = ["-" if group.value is None else _shortened(str(group.value)) for group in groups]
    terminal.table(
        [
            (
                name,
                str(group.experiments),
                str(group.merged),
                wording.percent(group.rate),
                wording.points(group.gain),
                wording.points(group.train_gain),
                _evidence(group),
                wording.points(group.size),
            )
            for name, group in zip(names, groups, strict=True)
        ],
        header=(by, "tried", "merged", "rate", "held-out", "train", "evidence", "size"),
        right=(1, 2, 3, 4, 5, 6, 7),
        rest=0,
    )
    terminal.say("")
    terminal.table(
        [
            (
                name,
                f"{group.calls:,}",
                wording.dollars(group.usd),
                wording.points(group.gain_per_usd),
            )
            for name, group in zip(names, groups, strict=True)
        ],
        header=(by, "calls", "cost", "held-out points a dollar"),
        right=(1, 2, 3),
        rest=0,
    )


def _evidence(group: Any) -> str:
    from skill_ratchet.core import wording

    parts = [] if group.log_e is None else [wording.odds(group.log_e)]
    if group.mean_gain is not None:
        parts.append(f"{wording.points(group.mean_gain)} pt")
    return ", ".join(parts) or "-"


def _shortened(value: str) -> str:
    """A digest or a commit by its first digits; anything else on one line."""
    from skill_ratchet.core import wording

    is_digest = len(value) >= 40 and not value.strip("0123456789abcdef")  # noqa: PLR2004 - SHA-1
    return value[:12] if is_digest else wording.one_line(value)


@click.command()
@skill_argument
@options
@click.pass_obj
def status(start: Path, *, skill: str | None, as_json: bool) -> None:
    """Show where each skill stands: score, proposal, last run, budget.

    What this clone knows, without asking anybody.
    """
    from skill_ratchet.cli.error_handler import clean
    from skill_ratchet.report import status

    seen = status.overview(start, skill=skill)
    if as_json:
        print_json(seen.document)
        return
    for line in status.describe(seen):
        click.echo(clean(line))
