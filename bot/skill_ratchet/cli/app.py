"""What the commands share: their options, how they open a project, and how they print JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from skill_ratchet.base.errors import RatchetError
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.workspace import Workspace

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


FOLDER = click.Path(file_okay=False, path_type=Path)  # to be made


OUT_FILE = click.Path(dir_okay=False, path_type=Path)  # may be made


PROVIDERS = ("anthropic", "local", "scripted", "command")


PROPOSERS = ("meta", "examples")


def _keep_start(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.obj = value


def options(command: Callable[..., None]) -> Callable[..., None]:
    """``--json`` and ``-C``, which every command has."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(
        command
    )
    return click.option(
        "-C",
        type=DIRECTORY,
        expose_value=False,
        is_eager=True,
        callback=_keep_start,
        help="Work in this directory.",
    )(command)


skill_argument = click.argument("skill", required=False)


skill_option = click.option("--skill", help="Which skill; not needed when there is one.")


provider_option = click.option(
    "--provider", type=click.Choice(PROVIDERS), help="Instead of ratchet.yml's provider."
)


experiment_argument = click.argument("experiment")


def finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """A number, as the value of an option."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("expected a number of dollars")  # 'nan' is in every range
    return value


usd_option = click.option(
    "--usd", type=click.FloatRange(min=0), callback=finite, help="Spend at most that in this run."
)


def print_json(document: Any) -> None:
    """The one JSON document of a command with ``--json``."""
    from skill_ratchet.cli.error_handler import redacted

    text = redacted(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
    click.echo(text.replace("##[", "##\\u005b"))  # in a workflow's log that is a command


def on_disk(start: Path, skill: str | None) -> Workspace:
    """A skill as it is on disk."""
    from skill_ratchet.project import repository, workspace

    project = repository.open_project(start)
    return workspace.open_anywhere(project, skill=skill, ref=None, override={}, require=())


def ledger_of(space: Workspace) -> Ledger:
    """The ledger of a skill; its secrets stay out of it."""
    from skill_ratchet.ledger import access

    return access.open_ledger(space.project, space.name, redact=space.config.redact)


def fail(error: RatchetError) -> None:
    """End with an error whose JSON document was printed already."""
    from skill_ratchet.cli.error_handler import ReportedError

    raise ReportedError(error.message, hint=error.hint, exit_code=error.exit_code) from error
