"""Every command, and where it is: nothing of a command is loaded before it is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

import click

from skill_ratchet import __version__
from skill_ratchet.cli.app import CONTEXT, DIRECTORY

# Heading -> command -> module and function, in the order in which 'ratchet --help' lists them.
GROUPS: Final[dict[str, dict[str, str]]] = {
    "Every day": {
        "init": "setup:init",
        "check": "cases:check",
        "run": "experiments:run",
        "eval": "experiments:evaluate",
        "status": "history:status",
        "budget": "budget:budget",
        "log": "history:log",
        "fetch": "github:fetch",
        "revert": "experiments:revert",
    },
    "Looking back": {
        "show": "history:show",
        "explain": "history:explain",
        "diff": "history:diff",
        "trace": "history:trace",
        "compare": "history:compare",
        "looks": "history:looks",
        "audit": "experiments:audit",
        "transfer": "transfer:transfer",
        "metrics": "feedback:metrics",
        "report": "report:report",
        "badge": "report:show_badge",
    },
    "Cases and corrections": {
        "import": "cases:import_",
        "correct": "cases:correct",
        "export": "cases:export",
        "forget": "cases:forget",
    },
    "On GitHub": {
        "publish": "github:publish",
        "command": "github:obey",
        "gate": "github:gate",
        "due": "github:due",
    },
    "Plumbing": {
        "propose": "experiments:propose",
        "confirm": "experiments:confirm",
    },
}
WHERE: Final = {name: at for commands in GROUPS.values() for name, at in commands.items()}


def command(name: str) -> click.Command:
    """Load a command.

    Raises:
        KeyError: There is none of that name.
    """
    module, _, function = WHERE[name].partition(":")
    loaded: click.Command = getattr(import_module(f"skill_ratchet.cli.{module}"), function)
    return loaded


class Commands(click.Group):
    """The commands of ``GROUPS``, listed under its headings."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, in the order of the headings."""
        return list(WHERE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command; None when there is none of that name."""
        return command(cmd_name) if cmd_name in WHERE else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is typed; for one that is not there the nearest is named."""
        from difflib import get_close_matches

        name = args[0]
        if name not in WHERE and not name.startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(name, WHERE, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the names and their first lines under the headings."""
        widest = max(map(len, WHERE))
        room = formatter.width - widest - 4  # columns
        for heading, names in GROUPS.items():
            lines = [(name.ljust(widest), command(name).get_short_help_str(room)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(lines)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="ratchet")
@click.option("-C", "start", type=DIRECTORY, help="Work in this directory.")
@click.pass_context
def cli(context: click.Context, start: Path | None) -> None:
    """Improve an agent's skill file by experiment.

    An edit is kept only when the held-out metric improves.
    """
    context.obj = start or Path()
