"""``ratchet init``: a skill, five fixtures, a config and a scripted model that close a loop."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from bot.errors import RatchetError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

MESSAGE = "Set up ratchet"


@dataclass(frozen=True, slots=True)
class Written:
    """What init did. ``commit`` is None when the files were left uncommitted."""

    files: tuple[str, ...]
    kept: tuple[str, ...]  # were there already, and are as they were
    made_repository: bool
    commit: str | None


def init(directory: Path, *, commit: bool) -> Written:
    """Write the starting files that are missing; never overwrite one.

    Args:
        directory: The project's root; made a git repository if it lies in none.
        commit: Commit the new files (and nothing else), so that ``ratchet run`` works at once.
    """
    import git  # noqa: PLC0415 - not on the start-up path

    files = _template()
    kept = tuple(sorted(path for path in files if (directory / path).exists()))
    if "ratchet.yml" in kept:
        raise RatchetError(
            f"{directory / 'ratchet.yml'} is there already; nothing was written.",
            hint="'ratchet check' says whether it is complete.",
        )
    try:
        repository = git.Repo(directory, search_parent_directories=True)
        made = False
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        repository, made = git.Repo.init(directory), True
    new = tuple(sorted(set(files) - set(kept)))
    for path in new:
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            out.write(files[path])
    done = _commit(repository, directory, new) if commit else None
    return Written(files=new, kept=kept, made_repository=made, commit=done)


def _commit(repository: object, directory: Path, paths: tuple[str, ...]) -> str:
    """Commit just these files; what the user has staged stays staged."""
    import git  # noqa: PLC0415

    assert isinstance(repository, git.Repo)  # noqa: S101 - narrows a lazily imported type
    command = git.Git(str(directory))
    identity = {} if _has_identity(command) else _BOT_IDENTITY
    try:
        command.add("--force", "--", *paths)
        command.commit("--quiet", "--only", "-m", MESSAGE, "--", *paths, env=identity)
    except git.GitCommandError as error:
        raise RatchetError(
            f"The files were written, but git would not commit them: {error.stderr.strip()}",
            hint="Commit them yourself, then: ratchet run",
        ) from error
    return str(repository.head.commit.hexsha)


_BOT_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ratchet",
    "GIT_AUTHOR_EMAIL": "ratchet@users.noreply.github.com",
    "GIT_COMMITTER_NAME": "Ratchet",
    "GIT_COMMITTER_EMAIL": "ratchet@users.noreply.github.com",
}


def _has_identity(command: object) -> bool:
    import git  # noqa: PLC0415

    assert isinstance(command, git.Git)  # noqa: S101
    try:
        command.var("GIT_COMMITTER_IDENT")
    except git.GitCommandError:
        return False
    return True


def _template() -> dict[str, bytes]:
    """The packaged starting files by path."""
    root = resources.files("bot").joinpath("templates/init")
    return dict(_walk(root, ""))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _walk(entry, f"{path}/")
        else:
            found.append((path, entry.read_bytes()))
    return found
