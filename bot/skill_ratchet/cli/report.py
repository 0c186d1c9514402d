"""The command of the static report. Imports stay inside it, as in ``cli``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skill_ratchet.cli.app import FOLDER, cli, options, print_json, skill_argument

if TYPE_CHECKING:
    from pathlib import Path


@cli.command()
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
    """Write a static site of the experiments: scores, edits, verdicts, traces.

    Made from the ledger alone; it is read from the disk or from any web server. Held-out cases
    are not in it, unless --with-holdout is given.
    """
    import webbrowser  # noqa: PLC0415

    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.cli.progress import Steps  # noqa: PLC0415
    from skill_ratchet.report.site import build as reporting  # noqa: PLC0415

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
