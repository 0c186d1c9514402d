"""The process edge: one handler turns every outcome into a message and an exit code."""

from __future__ import annotations

import gc
import sys

from skill_ratchet.base import plugins


def main() -> None:
    """Run the command line and exit; see ``skill_ratchet.base.errors.ExitCode`` for the codes."""
    plugins.switch_off()
    # What is imported stays: looking through it for garbage, over and over, is a tenth of it all.
    gc.set_threshold(100_000, 20, 100)
    from skill_ratchet.cli.error_handler import run  # noqa: PLC0415
    from skill_ratchet.cli.main import cli  # noqa: PLC0415 - the start-up path stays one import deep

    sys.exit(run(cli, sys.argv[1:]))


if __name__ == "__main__":
    main()
