"""The one error a user is meant to see, and the exit codes of the command."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process exit status means; documented in docs/commands.md."""

    DONE = 0  # the work was done, whether or not anything was merged
    ERROR = 1  # an expected error: the message says what to do
    USAGE = 2  # the command line was wrong
    BUG = 3  # a defect in Ratchet; a pasteable report is printed
    BUDGET = 4  # a cap in dollars, calls or minutes was reached; run again to go on
    INTERRUPTED = 130  # Ctrl-C


class RatchetError(Exception):
    """Something the user can put right.

    Args:
        message: What is wrong and where (file:line when there is one).
        hint: What to do next, as one sentence or command.
        exit_code: The process exit status this error ends with.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, exit_code: ExitCode = ExitCode.ERROR
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
