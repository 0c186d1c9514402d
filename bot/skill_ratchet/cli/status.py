"""``ratchet status``. Imports stay inside it, as in ``cli``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skill_ratchet.cli.app import cli, options, print_json, skill_argument

if TYPE_CHECKING:
    from pathlib import Path


@cli.command()
@skill_argument
@options
@click.pass_obj
def status(start: Path, *, skill: str | None, as_json: bool) -> None:
    """Show where each skill stands: score, proposal, last run, budget.

    What this clone knows, without asking anybody.
    """
    from skill_ratchet.cli.error_handler import clean  # noqa: PLC0415
    from skill_ratchet.report import status  # noqa: PLC0415

    seen = status.overview(start, skill=skill)
    if as_json:
        print_json(seen.document)
        return
    for line in status.describe(seen):
        click.echo(clean(line))
