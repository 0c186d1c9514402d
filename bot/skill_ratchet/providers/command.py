"""The user's own harness: a program that is run once for each call."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from skill_ratchet.base import sandbox
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Failure, Reply
from skill_ratchet.providers.text import input_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from skill_ratchet.core.records import Request
    from skill_ratchet.project.programs import CallPlace, Programs

MAX_OUTPUT = 16_000_000  # bytes of stdout, of stderr and of the trace, each
TAIL = 2_000  # characters of stderr in an error
WRITE_TOKENS = ("ACTIONS_RUNTIME_TOKEN", "GH_TOKEN", "GITHUB_TOKEN")
PLACEHOLDER = re.compile(r"\{(skill|fixture|input|model)\}")


class CommandProvider:
    """Runs ``command`` in an export of the repository; what it prints is the answer.

    The program gets the skill and the case as files and the case on its standard input (see
    docs/providers.md), the network, and this process's environment without GitHub's tokens. Each
    call has a copy of the export, and a home, of its own: nothing is left for the next one.

    Args:
        command: Program and arguments; no shell is involved.
        timeout: Seconds one call may take.
        concurrency: Processes at once.
        deterministic: The same call always gets the same answer.
        programs: Where it runs; None for a provider that is asked nothing.
    """

    name = "command"
    tools = False

    def __init__(
        self,
        *,
        command: Sequence[str],
        timeout: float,
        concurrency: int,
        deterministic: bool,
        programs: Programs | None,
    ) -> None:
        self.deterministic = deterministic
        self.concurrency = concurrency
        self._command = tuple(command)
        self._timeout = timeout
        self._programs = programs

    async def complete(self, request: Request) -> Reply:
        """Run the program once.

        Raises:
            RatchetError: There is no such program.
        """
        programs = self._found()
        with tempfile.TemporaryDirectory(
            prefix="ratchet-", ignore_cleanup_errors=True
        ) as directory:
            own = Path(directory) / "call"
            desk = _CallFiles.lay(own, request)
            place = programs.place(Path(directory), own=own)
            started = time.monotonic()
            reply = await self._run(desk, place, request)
        sent: JsonValue = {"command": list(self._command), **request.model_dump(mode="json")}
        return reply.model_copy(update={"request": sent, "latency": time.monotonic() - started})

    def worst_case_usd(self, request: Request) -> float | None:  # noqa: ARG002  the Protocol's
        """None: what the program spends is not known here."""
        return None

    async def aclose(self) -> None:
        """Nothing is left running between calls."""

    def _found(self) -> Programs:
        """Where the program runs, if it is there."""
        if self._programs is None:
            raise RatchetError("The command provider was opened with no place to run in.")
        program = self._command[0] if self._command else ""
        path = str(self._programs.find(program)) if os.sep in program else program
        if not program or shutil.which(path) is None:
            raise RatchetError(
                f"The command provider cannot run '{program}'.",
                hint="Name a program on the PATH, or an executable file of the repository, "
                f"relative to {self._programs.root}; what is not committed is not there.",
            )
        return self._programs

    async def _run(self, desk: _CallFiles, place: CallPlace, request: Request) -> Reply:
        try:
            argv = desk.arguments(self._command, request)
            done = await sandbox.run(
                argv,
                cwd=place.cwd,
                stdin=desk.case,
                env=_environment(desk, request),
                timeout=self._timeout,
                network=True,
                view=place.view,
                max_output=MAX_OUTPUT,
            )
        except (OSError, ValueError) as error:  # an argument too long, or with a NUL
            why = f"The command could not be run: {error}"
            return Reply(error=why, failure=Failure.NOT_STARTED, usd=0.0)
        try:
            trace = desk.read_trace()
        except (OSError, ValueError) as error:  # whatever is there, the program has left it
            return _failed(Failure.OUTPUT, f"The command's trace cannot be used: {error}", done)
        return _reply(done, trace, timeout=self._timeout)


@dataclass(frozen=True, slots=True)
class _CallFiles:
    """The files of one call."""

    skill: Path
    fixture: Path
    trace: Path
    case: bytes

    @staticmethod
    def lay(directory: Path, request: Request) -> _CallFiles:
        desk = _CallFiles(
            skill=directory / "skill" / _skill_name(request),
            fixture=directory / "fixture.json",
            trace=directory / "trace",
            case=_case(request),
        )
        desk.skill.parent.mkdir(parents=True)
        desk.skill.write_bytes(request.system.encode())
        desk.fixture.write_bytes(desk.case)
        return desk

    def arguments(self, command: Sequence[str], request: Request) -> list[str]:
        """The command with its placeholders filled in, once: what is filled in is data."""
        values = {
            "skill": str(self.skill),
            "fixture": str(self.fixture),
            "input": input_text(request),
            "model": request.model,
        }
        for place, word in enumerate(command):
            if (
                word == "{input}"
                and values["input"].startswith("-")
                and "--" not in command[:place]
            ):
                raise ValueError(
                    "the input begins with '-' and would be read as an option; "
                    "put '--' before {input}, or read the case from standard input"
                )
        return [PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in command]

    def read_trace(self) -> bytes | None:
        """What the program wrote to its trace file; None when it wrote none."""
        try:
            if not stat.S_ISREG(self.trace.lstat().st_mode):
                raise ValueError("RATCHET_TRACE is not a regular file")
        except FileNotFoundError:
            return None
        with self.trace.open("rb") as file:
            data = file.read(MAX_OUTPUT + 1)
        if len(data) > MAX_OUTPUT:
            raise ValueError(f"RATCHET_TRACE is larger than {MAX_OUTPUT} bytes")
        return data


def _skill_name(request: Request) -> str:
    name = (request.case or {}).get("skill_file")
    if isinstance(name, str) and name == PurePosixPath(name).name and name not in {"", ".."}:
        return name
    return "SKILL.md"


def _case(request: Request) -> bytes:
    shown: dict[str, JsonValue] = {"input": input_text(request)}
    if request.case is not None:
        shown = {key: value for key, value in request.case.items() if key != "skill_file"}
    return json.dumps(shown, ensure_ascii=False).encode() + b"\n"


def _environment(desk: _CallFiles, request: Request) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in WRITE_TOKENS}
    return inherited | {
        "RATCHET_SKILL": str(desk.skill),
        "RATCHET_FIXTURE": str(desk.fixture),
        "RATCHET_TRACE": str(desk.trace),
        "RATCHET_MODEL": request.model,
    }


def _reply(done: sandbox.Finished, trace: bytes | None, *, timeout: float) -> Reply:
    """How a program ended, as a reply. What it did the skill may have led to."""
    if done.timed_out:
        why = f"The command was stopped after {timeout:g} seconds"
        return _failed(Failure.TIME_OUT, why, done, trace)
    if done.truncated:
        why = f"The command wrote more than {MAX_OUTPUT} bytes"
        return _failed(Failure.OUTPUT, why, done, trace)
    if done.returncode != 0:
        why = f"The command ended with exit status {done.returncode}"
        return _failed(Failure.EXIT, why, done, trace)
    answer = done.stdout.decode(errors="replace").rstrip("\r\n")
    return Reply(text=answer, stop_reason="end_turn", response=_response(done, trace))


def _failed(
    failure: Failure, why: str, done: sandbox.Finished, trace: bytes | None = None
) -> Reply:
    tail = done.stderr.decode(errors="replace").strip()[-TAIL:]
    error = f"{why}: {tail}" if tail else why
    return Reply(error=error, failure=failure, response=_response(done, trace))


def _response(done: sandbox.Finished, trace: bytes | None) -> JsonValue:
    return {
        "exit_status": done.returncode,
        "stdout": _kept(done.stdout),
        "stderr": _kept(done.stderr),
        "trace": None if trace is None else _kept(trace),
    }


def _kept(data: bytes) -> JsonValue:
    """The bytes as JSON can hold them: text, or base64 for what is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
