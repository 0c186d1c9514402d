"""What GitHub Actions tells a step, and what a step tells it: the environment and its files."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


MOST_ANNOTATIONS = 10  # errors of one step that GitHub shows
_PLACED = re.compile(r"(?P<path>[^\s:][^:]*):(?P<line>[1-9][0-9]*): (?P<what>.*)")


def set_outputs(outputs: Mapping[str, str], *, environ: Mapping[str, str] = os.environ) -> None:
    """Set the step's outputs, if this is a step; a value cannot end early or set another one."""
    _append(environ.get("GITHUB_OUTPUT"), "".join(_output(*item) for item in outputs.items()))


def add_summary(page: str, *, environ: Mapping[str, str] = os.environ) -> None:
    """Put Markdown on the run's page, if this is a step."""
    _append(environ.get("GITHUB_STEP_SUMMARY"), f"{page}\n" if page else "")


def in_workflow(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a CI service runs this: what is written there, others can read."""
    ci = environ.get("CI", "").lower()
    return is_step(environ) or ci in ("true", "1")


def is_step(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a step of a workflow of GitHub's."""
    return environ.get("GITHUB_ACTIONS") == "true"


def defused(text: str, *, environ: Mapping[str, str] = os.environ) -> str:
    """``text`` for a log; in a workflow nothing in it is a command to the runner.

    The runner takes a line that begins with '::', and '##[' anywhere in one, and lines may be
    wrapped anywhere, so each is broken by a zero-width space.
    """
    if not is_step(environ):
        return text
    return re.sub(r":(?=:)|##(?=\[)", "\\g<0>\u200b", text)


def annotated(message: str, *, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Workflow commands that show an error where it is: ``path:line: what`` on that line.

    None outside a workflow; no more than GitHub shows of one step.
    """
    if not is_step(environ):
        return []
    lines = [line for line in message.splitlines() if line.strip()][:MOST_ANNOTATIONS]
    return [_annotation(line) for line in lines]


def _annotation(line: str) -> str:
    where = ""
    if found := _PLACED.fullmatch(line):
        path = found["path"].replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
        where, line = f" file={path},line={found['line']}", found["what"]
    return f"::error{where}::{line.replace('%', '%25')}"


def _output(name: str, value: str) -> str:
    # A random end marker: a value that held a known one could go on as another output.
    end = f"end_{secrets.token_hex(16)}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def _append(path: str | None, text: str) -> None:
    if path and text:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
