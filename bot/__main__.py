"""The process edge: one handler turns every outcome into a message and an exit code."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit; see ``bot.errors.ExitCode`` for the codes."""
    from bot.cli import cli  # noqa: PLC0415 - the start-up path stays one import deep
    from bot.edge import run  # noqa: PLC0415

    sys.exit(run(cli, sys.argv[1:]))


if __name__ == "__main__":
    main()
