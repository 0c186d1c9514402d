"""The process edge: one handler turns every outcome into a message and an exit code."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and exit; see ``skill_ratchet.base.errors.ExitCode`` for the codes."""
    # A plugin of pydantic's would see every record; looking for one reads every package's data.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    # What is imported stays: looking through it for garbage, over and over, is a tenth of it all.
    gc.set_threshold(100_000, 20, 100)
    from skill_ratchet.cli.error_handler import run  # noqa: PLC0415
    from skill_ratchet.cli.main import cli  # noqa: PLC0415 - the start-up path stays one import deep

    sys.exit(run(cli, sys.argv[1:]))


if __name__ == "__main__":
    main()
