"""Runs one git command, and finds the repository a folder lies in.

As processes of our own and not through GitPython, whose import takes as long as a dozen of them:
every command of Ratchet's begins here. GitPython's objects are for what begins rarely (``init``).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bot.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OLDEST_GIT: Final = (2, 30)

# Messages are looked at, so they are to be English.
_LANGUAGE: Final = {"LANGUAGE": "C", "LC_ALL": "C"}
# What a hook or a script has set says where another repository is.
_ELSEWHERE: Final = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
)


@dataclass(frozen=True, slots=True)
class Output:
    """What a git command said, and its exit status."""

    status: int
    raw: bytes
    error: str

    @property
    def text(self) -> str:
        """Standard output without its last line end."""
        return os.fsdecode(self.raw).removesuffix("\n")

    @property
    def fields(self) -> list[str]:
        """Standard output of a ``-z`` command, cut at the NULs."""
        return os.fsdecode(self.raw).split("\0")[:-1]


@dataclass(frozen=True, slots=True)
class Place:
    """A repository: ``git_dir`` is of this checkout, ``common_dir`` of all linked worktrees.

    ``toplevel`` is None where there is no checkout: in a bare one, or inside its git folder.
    """

    git_dir: Path
    common_dir: Path
    toplevel: Path | None


def execute(
    where: Path,
    args: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str | None] | None = None,
) -> Output:
    """Run ``git`` with ``args`` in the folder ``where``; any exit status is an answer.

    Args:
        where: The folder to run it in.
        args: Options of git's own, the command, and its arguments.
        stdin: What the command reads.
        env: Variables on top of the process's; None takes one away.

    Raises:
        RatchetError: There is no git, or no such folder.
    """
    changed = {**os.environ, **_LANGUAGE, **(env or {})}
    # A file and not a pipe: if we die, git still reads a whole stream or none.
    with tempfile.TemporaryFile() as source:
        source.write(stdin)
        source.seek(0)
        try:
            done = subprocess.run(
                ["git", *args],
                cwd=where,
                stdin=source,
                capture_output=True,
                check=False,
                env={name: value for name, value in changed.items() if value is not None},
            )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            if not where.is_dir():
                raise RatchetError(f"there is no folder {where}") from error
            raise no_git() from error
    return Output(done.returncode, done.stdout, os.fsdecode(done.stderr).removesuffix("\n"))


def locate(start: Path) -> Place:
    """The repository that the folder ``start`` lies in.

    Raises:
        RatchetError: There is no git, no such folder or no repository, or git will not use it.
    """
    asked = ("rev-parse", "--absolute-git-dir", "--git-common-dir", "--show-toplevel")
    done = execute(start, asked, env=dict.fromkeys(_ELSEWHERE))
    git_dir, _, others = done.text.partition("\n")
    if not others:
        if "not a git repository" in done.error:
            raise RatchetError(
                f"{start} is not in a git repository",
                hint="Run 'git init' in the project's folder and commit its files.",
            )
        raise failure("rev-parse", done.error, start)
    common_dir, _, toplevel = others.partition("\n")
    return Place(
        Path(git_dir).resolve(),
        (start / common_dir).resolve(),
        Path(toplevel).resolve() if toplevel else None,
    )


def failure(command: str, error: str, where: Path) -> RatchetError:
    """The error for a git command that failed, with git's own words."""
    hint = "Put right what git says, and run again: what finished is kept."
    if "dubious ownership" in error:
        hint = f"If you trust its owner: git config --global --add safe.directory {where}"
    elif ".lock" in error:
        hint = "Another git command is at work, or one was killed: if none runs, delete the lock."
    return RatchetError(f"git {command} failed in {where}: {error.strip()}", hint=hint)


def no_git() -> RatchetError:
    """The error for a machine without git."""
    oldest = ".".join(map(str, OLDEST_GIT))
    return RatchetError("the git command was not found", hint=f"Install git {oldest} or newer.")
