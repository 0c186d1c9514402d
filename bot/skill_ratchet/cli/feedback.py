"""The commands about what people make of a skill's answers and of its proposals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skill_ratchet.cli.app import options, print_json, skill_argument

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@skill_argument
@click.option("-n", "--max-count", type=click.IntRange(1), default=20, help="Newest N (20).")
@options
@click.pass_obj
def metrics(start: Path, *, skill: str | None, max_count: int, as_json: bool) -> None:
    """Show what people made of each version of a skill.

    Corrections, how alike answers and what became of them are, how many proposals went in as they
    were, and the scores.
    """
    from skill_ratchet.cli import terminal
    from skill_ratchet.report import measuring
    from skill_ratchet.report import metrics as told

    done = measuring.measure(start, skill=skill)
    if as_json:
        print_json(told.document(done))
        return
    shown = done.rows[-max_count:]
    terminal.say(f"{done.skill} on {done.branch}: what people made of each version\n")
    cells = [told.of_use(row) for row in shown]
    terminal.table(cells, header=told.USE, right=(2, 3, 4, 5, 6))
    terminal.say("")
    cells = [told.of_tests(row) for row in shown]
    terminal.table(cells, header=told.TESTS, right=(1, 2, 3, 4, 5, 6, 7, 8))
    if lines := told.trends(shown):
        terminal.raw("\n" + "\n".join(lines))
    terminal.say("")
    terminal.say(told.NOTES)
    if len(done.rows) > len(shown):
        terminal.say(f"{len(done.rows) - len(shown)} older versions: -n {len(done.rows)}")
