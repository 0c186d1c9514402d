"""The one error a user is meant to see, and the exit codes of the command."""

from __future__ import annotations

from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@contextmanager
def faults_of(name: str, faults: list[tuple[str, RatchetError]]) -> Iterator[None]:
    """What goes wrong in here is one thing's own fault, put down under its name.

    Whoever has the list goes on with the others, and says at the end what is in it. A defect of
    ours is one as well, with the exception as its cause; what the machine refuses is nobody's.
    """
    try:
        yield
    except OSError:
        raise
    except RatchetError as error:
        faults.append((name, error))
    except Exception as error:  # noqa: BLE001 - it must not stop the others
        faults.append((name, _defect(error)))


def _defect(error: Exception) -> RatchetError:
    """A defect as an error; its own words stay out, as they may quote anything."""
    kind = type(error).__name__
    fault = RatchetError(f"a bug in Ratchet: {kind}", exit_code=ExitCode.BUG)
    fault.__cause__ = error
    return fault
