"""Where errors end: expected ones as a message and a hint, defects as a pasteable report."""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import traceback
from functools import lru_cache
from typing import TYPE_CHECKING

import click

from bot import __version__, actions
from bot.errors import ExitCode, RatchetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.redact import Redactor

ISSUES = "the project's issue tracker"


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
        click.echo(redacted(usage.getvalue()), nl=False, err=True)
    elif isinstance(error, RatchetError):
        code, message, hint = error.exit_code, error.message, error.hint
    else:
        code, message = ExitCode.BUG, f"a bug in Ratchet: {type(error).__name__}"
        click.echo(actions.defused(_bug_report(error, args)), err=True)
    if isinstance(error, RatchetError) or code is ExitCode.INTERRUPTED:
        said = f"error: {message}" + (f"\nhint: {hint}" if hint else "")
        click.echo(actions.defused(redacted(said)), err=True)
        for line in actions.annotated(redacted(message)):
            click.echo(line, err=True)
    if "--json" in args and not isinstance(error, ReportedError):
        document = {"error": {"message": message, "hint": hint, "exit_code": int(code)}}
        click.echo(redacted(json.dumps(document, ensure_ascii=False)))
    return code


class ReportedError(RatchetError):
    """An expected error whose JSON document was printed already."""


def clean(text: str) -> str:
    """Text of any origin for a terminal or a log: no control characters, secrets or commands."""
    from bot.core import render  # noqa: PLC0415

    return actions.defused(render.safe(redacted(text)))


def redacted(text: str) -> str:
    """``text`` without the secrets of this process's environment."""
    return _redactor(tuple(os.environ.items())).redact(text)


@lru_cache(maxsize=1)  # a table asks once a cell
def _redactor(environ: tuple[tuple[str, str], ...]) -> Redactor:
    from bot.redact import Redactor  # noqa: PLC0415 - not on the start-up path

    return Redactor.from_environ(dict(environ))


def _bug_report(error: BaseException, args: Sequence[str]) -> str:
    details = "".join(traceback.format_exception(error))
    report = (
        f"This is a bug in Ratchet, not in what you did. Please paste this into {ISSUES}:\n\n"
        f"```\nratchet {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: ratchet {' '.join(args)}\n\n{details}```"
    )
    return redacted(report)
