"""``ratchet badge``. Imports stay inside it, as in ``cli``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skill_ratchet.cli.app import OUT_FILE, cli, options, print_json, skill_argument

if TYPE_CHECKING:
    from pathlib import Path


@cli.command("badge")
@skill_argument
@click.option("--out", type=OUT_FILE, metavar="FILE", help="Also write the SVG to this file.")
@options
@click.pass_obj
def show_badge(start: Path, *, skill: str | None, out: Path | None, as_json: bool) -> None:
    """Print the line of Markdown that shows a skill's badge in a README.

    The badge says the score on train and the day of the last merge. Runs and publications keep it
    on the branch ratchet/ledger.
    """
    from skill_ratchet.experiment import badges, session  # noqa: PLC0415
    from skill_ratchet.ledger import badge  # noqa: PLC0415
    from skill_ratchet.project import repository, workspace  # noqa: PLC0415

    project = repository.open_project(start)
    space = workspace.open_anywhere(project, skill=skill, ref=None, override={}, require=())
    ledger = session.open_ledger(project, space.name, redact=space.config.redact)
    made = badges.facts(ledger, space)
    line = badges.markdown(project, made, file=out)
    if out is not None:
        badges.write(badge.draw(made), out)
    if as_json:
        print_json(made.model_dump() | {"markdown": line, "out": str(out) if out else None})
        return
    click.echo(line)
    if out is None and badges.repository(project) is None:
        click.echo("'origin' is not on GitHub: write the picture with --out FILE.", err=True)
