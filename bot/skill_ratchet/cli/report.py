"""The command of the static report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skill_ratchet.cli.app import FOLDER, OUT_FILE, options, print_json, skill_argument

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@skill_argument
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Where to, instead of .ratchet/report.")
@click.option("--with-holdout", is_flag=True, help="Show held-out cases too; never publish that.")
@options
@click.pass_obj
def report(
    start: Path,
    *,
    skill: str | None,
    show: bool,
    out: Path | None,
    with_holdout: bool,
    as_json: bool,
) -> None:
    """Write a static site of the experiments: scores, edits, traces.

    Made from the ledger alone; it is read from the disk or from any web server. Held-out cases
    are not in it, unless --with-holdout is given.
    """
    import webbrowser

    from skill_ratchet.cli import terminal
    from skill_ratchet.cli.progress import Steps
    from skill_ratchet.report.site import build as reporting

    with Steps() as steps:
        built = reporting.build(
            start, skill=skill, out=out, with_holdout=with_holdout, progress=steps
        )
    if as_json:
        print_json(reporting.document(built))
    else:
        for line in reporting.describe(built):
            terminal.say(line)
        terminal.raw(str(built.index))  # whole, however long: it is there to be copied
    if show and not webbrowser.open(built.index.as_uri()):
        terminal.say("No browser could be opened.")


@click.command("badge")
@skill_argument
@click.option("--out", type=OUT_FILE, metavar="FILE", help="Also write the SVG to this file.")
@options
@click.pass_obj
def show_badge(start: Path, *, skill: str | None, out: Path | None, as_json: bool) -> None:
    """Print the Markdown that shows a skill's badge in a README.

    The badge says the score on train and the day of the last merge. Runs and publications keep it
    on the branch ratchet/ledger.
    """
    from skill_ratchet.experiment import badges
    from skill_ratchet.ledger import access, badge
    from skill_ratchet.project import repository, workspace

    project = repository.open_project(start)
    space = workspace.open_anywhere(project, skill=skill, ref=None, override={}, require=())
    ledger = access.open_ledger(project, space.name, redact=space.config.redact)
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
