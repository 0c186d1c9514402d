"""``ratchet init``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skill_ratchet.cli.app import (
    options,
    print_json,
)

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.project.scaffold import Workflows, Written


@click.command()
@click.option("--no-commit", is_flag=True, help="Write the files, commit nothing.")
@click.option("--github", is_flag=True, help="Also write the workflows that run it on GitHub.")
@click.option("--action", metavar="OWNER/REPO@SHA", help="Ratchet's action, for --github.")
@click.option("--force", is_flag=True, help="With --github: replace workflows that differ.")
@click.option(
    "--shards",
    type=click.IntRange(1, 256),
    help="With --github: machines that share a confirm run (as before, or 1).",
)
@options
@click.pass_obj
def init(
    start: Path,
    *,
    no_commit: bool,
    github: bool,
    action: str | None,
    force: bool,
    shards: int | None,
    as_json: bool,
) -> None:
    """Write a skill, five fixtures, a config and a scripted model.

    'ratchet run' then closes a loop at once. Nothing is ever overwritten. With --github the
    workflow files are written, too; in a project that has its config, only those.
    """
    from dataclasses import asdict

    from skill_ratchet.project import scaffold

    begun: scaffold.Written | None
    if github:
        begun, made = scaffold.init_github(
            start.resolve(), action=action, commit=not no_commit, force=force, shards=shards
        )
    elif action or force or shards:
        raise click.UsageError("--action, --force and --shards go with --github.")
    else:
        begun, made = scaffold.init(start.resolve(), commit=not no_commit), None
    if as_json:
        settings = {"settings": scaffold.SETTINGS}
        workflows = {"workflows": asdict(made) | settings} if made else {}
        print_json((asdict(begun) if begun else {}) | workflows)
        return
    if begun:
        _show_begun(begun)
    if made:
        _show_workflows(made, no_commit=no_commit)


def _show_begun(written: Written) -> None:
    if written.made_repository:
        click.echo("Made a git repository here.")
    for path in written.files:
        click.echo(f"wrote {path}")
    for path in written.kept:
        click.echo(f"kept  {path} (it was there already)")
    if written.commit:
        click.echo(f"Committed as {written.commit[:12]}. Next: ratchet run")
    else:
        click.echo("Next: git add -A && git commit -m 'Set up ratchet' && ratchet run")


def _show_workflows(made: Workflows, *, no_commit: bool) -> None:
    from skill_ratchet.cli import terminal
    from skill_ratchet.project import scaffold

    for path in made.written:
        click.echo(f"wrote {path}")
    for path in made.replaced:
        click.echo(f"replaced {path}, which was different")
    for path in made.same:
        click.echo(f"kept  {path} (it is as it would be written)")
    for path in made.different:
        click.echo(f"kept  {path}, which is DIFFERENT; to replace it: --force")
    if made.commit:
        click.echo(f"Committed as {made.commit[:12]}. Next: git push")
    elif no_commit and (made.written or made.replaced):
        click.echo("Next: git add .github && git commit -m 'Run ratchet on GitHub' && git push")
    terminal.say("\nOn GitHub, a person still has to set:")
    for number, setting in enumerate(scaffold.SETTINGS, start=1):
        terminal.say(f"{number}. {setting}")
