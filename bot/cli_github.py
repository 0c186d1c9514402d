"""The commands of the jobs on GitHub. Imports stay inside them, as in ``cli``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bot.cli import DIRECTORY, cli, options, print_json, skill_argument

if TYPE_CHECKING:
    from pathlib import Path

repository_option = click.option(
    "--repository", metavar="OWNER/NAME", help="Instead of GITHUB_REPOSITORY."
)


@cli.command()
@skill_argument
@click.option("--bundle", type=DIRECTORY, metavar="DIR", help="What 'ratchet confirm' wrote.")
@repository_option
@options
@click.pass_obj
def publish(
    start: Path, *, skill: str | None, bundle: Path | None, repository: str | None, as_json: bool
) -> None:
    """Bring a decided experiment to GitHub, and merge it if the gate still says so.

    Without a bundle the skill's open pull request is looked at again. The token is read from
    GITHUB_TOKEN; no model is called.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from bot import actions, publishing, terminal  # noqa: PLC0415

    github = actions.connect(repository)
    done = publishing.publish(start, github=github, bundle=bundle, skill=skill)
    document = {key: value for key, value in asdict(done).items() if key != "page"}
    actions.set_outputs({key: str(value or "") for key, value in document.items()})
    actions.add_summary(done.page)
    if as_json:
        print_json(document)
        return
    head = f"{done.skill}: {done.action}, {done.reason}. " if done.action else f"{done.skill}: "
    terminal.say(f"{head}{done.detail}")
    if done.url:
        terminal.say(done.url)
