"""Where errors end: expected ones as a message and a hint, defects as a pasteable report."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import click

from skill_ratchet import __version__
from skill_ratchet.base import actions
from skill_ratchet.base.errors import ExitCode, RatchetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skill_ratchet.base.redact import Redactor

ISSUES = "the project's issue tracker"
# What a machine may refuse: no defect of ours, wherever it comes up.
MACHINE: Final = {
    errno.ENOSPC: "Free some disk space and run again; what finished is kept.",
    errno.EDQUOT: "Your disk quota is used up: free some space and run again.",
    errno.EFBIG: "A file may not get that large here (ulimit -f); run again with more room.",
    errno.EROFS: "The file system is read-only; run again where it can be written.",
    errno.EACCES: "Check who owns it and its permissions, and run again.",
    errno.EPERM: "Check who owns it and its permissions, and run again.",
    errno.EIO: "The disk reports errors; look at the system's log before you run again.",
    errno.EMFILE: "Too many files are open (ulimit -n); run again with a higher limit.",
    errno.ENFILE: "Too many files are open on this machine; run again later.",
    errno.ENOMEM: "The machine is out of memory; run again when it has more.",
    errno.EAGAIN: "The machine has no room for another process; run again later.",
}


def run(command: click.Command, args: Sequence[str]) -> int:
    """Run a click command and return the process exit status. Nothing escapes as a traceback."""
    try:
        command.main(list(args), prog_name="ratchet", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (BrokenPipeError, SystemExit):  # by the latter click says the same
        # The reader (head, less) has gone; leave without a complaint at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last handler
        return _end(error, args)
    return ExitCode.DONE


def _end(error: BaseException, args: Sequence[str]) -> int:
    """Say what happened, on stderr and in the JSON document if one is wanted."""
    hint: str | None = None
    if isinstance(error, click.Abort | KeyboardInterrupt):
        code, message = ExitCode.INTERRUPTED, "Interrupted."
        hint = "What finished is kept; run again to go on."
    elif isinstance(error, click.ClickException):
        code, message = ExitCode.USAGE, error.format_message()
        usage = io.StringIO()
        error.show(file=usage)
        click.echo(clean(usage.getvalue()), nl=False, err=True)
    elif isinstance(error, RatchetError):
        code, message, hint = error.exit_code, error.message, error.hint
    elif isinstance(error, OSError) and error.errno in MACHINE:
        code, message, hint = ExitCode.ERROR, _of_machine(error), MACHINE[error.errno]
    else:
        code, message = ExitCode.BUG, f"a bug in Ratchet: {type(error).__name__}"
        click.echo(clean(_bug_report(error, args)), err=True)
    if code not in (ExitCode.USAGE, ExitCode.BUG) or isinstance(error, RatchetError):
        said = f"error: {message}" + (f"\nhint: {hint}" if hint else "")
        click.echo(clean(said), err=True)
        for line in actions.annotated(redacted(message)):
            click.echo(line, err=True)
    if "--json" in args and not isinstance(error, ReportedError):
        document = {"error": {"message": message, "hint": hint, "exit_code": int(code)}}
        click.echo(redacted(json.dumps(document, ensure_ascii=False)))
    return code


def report_defect(error: RatchetError) -> None:
    """Say where a defect is that stopped one thing and not the others.

    Where, and not what it quotes: that may be of a held-out case, and others read this log.
    """
    import traceback

    cause = error.__cause__
    if error.exit_code is ExitCode.BUG and cause is not None:
        where = "".join(traceback.format_tb(cause.__traceback__))
        said = f"{error.message}. Please paste this into {ISSUES}:\n\n```\n{where}```"
        click.echo(clean(said), err=True)


def _of_machine(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


class ReportedError(RatchetError):
    """An expected error whose JSON document was printed already."""


def clean(text: str) -> str:
    """Text of any origin for a terminal or a log: no control characters, secrets or commands."""
    return cleaner()(text)


def cleaner() -> Callable[[str], str]:
    """``clean`` for many texts: the environment is read once and not for each."""
    from skill_ratchet.core import wording

    redact = _redactor(tuple(os.environ.items())).redact
    return lambda text: actions.defused(wording.safe(redact(text)))


def redacted(text: str) -> str:
    """``text`` without the secrets of this process's environment."""
    return _redactor(tuple(os.environ.items())).redact(text)


@lru_cache(maxsize=1)
def _redactor(environ: tuple[tuple[str, str], ...]) -> Redactor:
    from skill_ratchet.base.redact import Redactor

    return Redactor.from_environ(dict(environ))


def _places(error: BaseException) -> str:
    """Where an exception came from, and what kind it and its causes are, without their words."""
    import traceback

    parts: list[str] = []
    met: list[BaseException] = []  # causes may go round
    one: BaseException | None = error
    while one is not None and one not in met:
        met.append(one)
        parts.insert(0, f"{''.join(traceback.format_tb(one.__traceback__))}{type(one).__name__}\n")
        one = one.__cause__ or one.__context__
    return "\n".join(parts)


def _bug_report(error: BaseException, args: Sequence[str]) -> str:
    import platform
    import traceback

    # What an exception says may be a case's text; in a log that others read, where it was must do.
    said = not actions.in_workflow()
    details = "".join(traceback.format_exception(error)) if said else _places(error)
    report = (
        f"This is a bug in Ratchet, not in what you did. Please paste this into {ISSUES}:\n\n"
        f"```\nratchet {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: ratchet {' '.join(args)}\n\n{details}```"
    )
    return redacted(report)
