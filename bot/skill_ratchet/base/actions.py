"""What GitHub Actions tells a step, and what a step tells it: the environment and its files."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skill_ratchet.github.api import GitHub

MOST_ANNOTATIONS = 10  # errors of one step that GitHub shows
_PLACED = re.compile(r"(?P<path>[^\s:][^:]*):(?P<line>[1-9][0-9]*): (?P<what>.*)")

TOKEN = "GITHUB_TOKEN"  # noqa: S105 - the variable's name


def connect(repository: str | None, *, environ: Mapping[str, str] = os.environ) -> GitHub:
    """GitHub as the environment says: token, repository and, on Enterprise, the API's address.

    Raises:
        RatchetError: No token or no repository.
    """
    from skill_ratchet.github.api import GitHub  # noqa: PLC0415 - heavy
    from skill_ratchet.github.http import API_URL  # noqa: PLC0415

    token = environ.get(TOKEN) or environ.get("GH_TOKEN")
    if not token:
        raise RatchetError(
            f"There is no token for GitHub in {TOKEN}.",
            hint="In a workflow: env: {GITHUB_TOKEN: ${{ github.token }}}, or an App's token.",
        )
    name = repository or environ.get("GITHUB_REPOSITORY")
    if not name:
        raise RatchetError(
            "Which repository on GitHub is not known.",
            hint="Give --repository OWNER/NAME, or set GITHUB_REPOSITORY.",
        )
    return GitHub.connect(
        token=token,
        repository=name,
        api_url=environ.get("GITHUB_API_URL") or API_URL,
        graphql_url=environ.get("GITHUB_GRAPHQL_URL") or None,
    )


def set_outputs(outputs: Mapping[str, str], *, environ: Mapping[str, str] = os.environ) -> None:
    """Set the step's outputs, if this is a step; a value cannot end early or set another one."""
    _append(environ.get("GITHUB_OUTPUT"), "".join(_output(*item) for item in outputs.items()))


def add_summary(page: str, *, environ: Mapping[str, str] = os.environ) -> None:
    """Put Markdown on the run's page, if this is a step."""
    _append(environ.get("GITHUB_STEP_SUMMARY"), f"{page}\n" if page else "")


def in_workflow(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a CI service runs this: what is written there, others can read."""
    ci = environ.get("CI", "").lower()
    return environ.get("GITHUB_ACTIONS") == "true" or ci in ("true", "1")


def defused(text: str, *, environ: Mapping[str, str] = os.environ) -> str:
    """``text`` for a log; in a workflow nothing in it is a command to the runner.

    The runner takes a line that begins with '::', and '##[' anywhere in one, and lines may be
    wrapped anywhere, so each is broken by a zero-width space.
    """
    if environ.get("GITHUB_ACTIONS") != "true":
        return text
    return re.sub(r":(?=:)|##(?=\[)", "\\g<0>\u200b", text)


def annotated(message: str, *, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Workflow commands that show an error where it is: ``path:line: what`` on that line.

    None outside a workflow; no more than GitHub shows of one step.
    """
    if environ.get("GITHUB_ACTIONS") != "true":
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
