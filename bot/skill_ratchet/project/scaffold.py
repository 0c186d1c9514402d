"""``ratchet init``: files of a project that closes a loop, and the workflows that run one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.project import workflows
from skill_ratchet.project.config import CONFIG_PATH, load
from skill_ratchet.project.proposal import NOBODY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

    import git

    from skill_ratchet.project.repository import Project

MESSAGE = "Set up ratchet"
GITHUB_MESSAGE = "Run ratchet on GitHub"
# What GitHub lets only a person do.
SETTINGS = (
    (
        "The provider's key as a secret, such as ANTHROPIC_API_KEY "
        "(Settings > Secrets and variables > Actions)."
    ),
    (
        "'Allow GitHub Actions to create and approve pull requests' "
        "(Settings > Actions > General > Workflow permissions)."
    ),
    (
        "If pull requests are to start your other checks: a GitHub App, its client ID as the "
        "variable RATCHET_APP_CLIENT_ID, its key as the secret RATCHET_APP_PRIVATE_KEY."
    ),
    (
        "If nobody is to merge an untested edit: the status 'ratchet/holdout' as a required one "
        "(Settings > Rules)."
    ),
    (
        "If everybody may read the report of the experiments: Pages (Settings > Pages > Source: "
        "GitHub Actions), and the variable RATCHET_PAGES with the value 'true'."
    ),
)


@dataclass(frozen=True, slots=True)
class Written:
    """What init did. ``commit`` is None when the files were left uncommitted."""

    files: tuple[str, ...]
    kept: tuple[str, ...]  # were there already, and are as they were
    made_repository: bool
    commit: str | None


@dataclass(frozen=True, slots=True)
class Workflows:
    """What became of the workflow files. ``commit`` is None when there was nothing to commit."""

    written: tuple[str, ...]
    same: tuple[str, ...]  # were there already, just so
    different: tuple[str, ...]  # were there already, otherwise, and are as they were
    replaced: tuple[str, ...]  # the same, by force
    commit: str | None


def init(directory: Path, *, commit: bool) -> Written:
    """Write the starting files that are missing; never overwrite one.

    Where an earlier call ended early, this one goes on from there.

    Args:
        directory: The project's root; made a git repository if it lies in none.
        commit: Commit the new files (and nothing else), so that ``ratchet run`` works at once.
    """
    files = _template()
    if not _may_begin(directory):
        raise RatchetError(
            f"{directory / CONFIG_PATH} is there already; nothing was written.",
            hint="'ratchet check' says whether it is complete. For GitHub: ratchet init --github",
        )
    repository, made = _repository(directory)
    kept = _there(directory, files)
    new = tuple(sorted(set(files) - set(kept)))
    # The config last: as long as it is not there, nothing has begun.
    for path in sorted(new, key=lambda path: (path == CONFIG_PATH, path)):
        _write(directory / path, files[path])
    done = _commit(repository, directory, files, MESSAGE) if commit else None
    return Written(files=new, kept=kept, made_repository=made, commit=done)


def init_github(
    directory: Path,
    *,
    action: str | None,
    commit: bool,
    force: bool = False,
    shards: int | None = None,
) -> tuple[Written | None, Workflows]:
    """Write the workflows of a project, and before that the project where there is none.

    Args:
        directory: In the project, or where it is to be.
        action: What the workflows use, pinned to a commit; None for the repository's own.
        commit: Commit what was written (and nothing else).
        force: Replace workflow files that are there and differ.
        shards: Machines that share a confirm run; None for as many as the workflow there has.

    Raises:
        RatchetError: No action, or a config that is wrong; nothing was written then.
    """
    from skill_ratchet.project import repository  # noqa: PLC0415 - heavy

    there = _project(directory)
    chosen = workflows.choose_action(action, there.toplevel if there else directory)
    begin = there is None or (there.root == directory and _may_begin(directory))
    begun = init(directory, commit=commit) if begin else None
    project = repository.open_project(directory, unborn=True)
    config = load((project.root / CONFIG_PATH).read_text(encoding="utf-8"))
    files = workflows.render(
        config,
        action=chosen,
        prefix=project.prefix,
        shards=shards or _shards(project.toplevel / workflows.PATHS[0]),
    )
    return begun, _write_workflows(project.toplevel, files, commit=commit, force=force)


def _write_workflows(
    top: Path, files: Mapping[str, bytes], *, commit: bool, force: bool
) -> Workflows:
    there = _there(top, files)
    same = tuple(path for path in there if _is(top / path, files[path]))
    others = tuple(path for path in there if path not in same)
    written = tuple(sorted(set(files) - set(there)))
    for path in (*written, *(others if force else ())):
        _write(top / path, files[path])
    repository, _ = _repository(top)
    return Workflows(
        written=written,
        same=same,
        different=() if force else others,
        replaced=others if force else (),
        commit=_commit(repository, top, files, GITHUB_MESSAGE) if commit else None,
    )


def _shards(workflow: Path) -> int:
    """As many as the workflow that is there has."""
    try:
        return workflows.shards_of(workflow.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):  # none, or whatever: it is said to be different
        return 1


def _project(directory: Path) -> Project | None:
    """The project that the directory lies in, if it does."""
    from skill_ratchet.project import repository  # noqa: PLC0415

    try:
        return repository.open_project(directory, unborn=True)
    except RatchetError:
        return None


def _may_begin(directory: Path) -> bool:
    """Whether there is no config, or just one that a call which ended early has left."""
    import git  # noqa: PLC0415 - not on the start-up path

    config = directory / CONFIG_PATH
    if not os.path.lexists(config):
        return True
    if not _is(config, _template()[CONFIG_PATH]):
        return False
    try:
        repository = git.Repo(directory, search_parent_directories=True)
    except git.InvalidGitRepositoryError:
        return True
    return _committed(repository, config) is None


def _repository(directory: Path) -> tuple[git.Repo, bool]:
    """The repository the directory lies in, and whether it had to be made."""
    import git  # noqa: PLC0415

    try:
        return git.Repo(directory, search_parent_directories=True), False
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        return git.Repo.init(directory), True


def _there(root: Path, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Which of the files are there, as whatever."""
    return tuple(sorted(path for path in files if os.path.lexists(root / path)))


def _is(file: Path, content: bytes) -> bool:
    return file.is_file() and file.read_bytes() == content


def _write(target: Path, content: bytes) -> None:
    """Whole or not at all, so that a half-written file is never taken for a person's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    swap = target.with_name(f".{target.name}.tmp")
    swap.write_bytes(content)
    swap.replace(target)


def _commit(
    repository: git.Repo, root: Path, files: Mapping[str, bytes], message: str
) -> str | None:
    """Commit what is there as it was to be written and is not committed yet.

    Just that; what the user has staged stays staged.
    """
    import git  # noqa: PLC0415

    paths = [
        path
        for path, content in files.items()
        if _is(root / path, content) and _committed(repository, root / path) != content
    ]
    if not paths:
        return None
    command = git.Git(str(root))
    identity = {} if _has_identity(command) else NOBODY.environ
    try:
        command.add("--force", "--", *paths)
        command.commit("--quiet", "--only", "-m", message, "--", *paths, env=identity)
    except git.GitCommandError as error:
        raise RatchetError(
            f"The files were written, but git would not commit them: {error.stderr.strip()}",
            hint="Commit them yourself, then: ratchet run",
        ) from error
    return str(repository.head.commit.hexsha)


def _committed(repository: git.Repo, file: Path) -> bytes | None:
    """The file as it is in the latest commit; None when it is not."""
    if not repository.head.is_valid():
        return None
    inside = file.resolve().relative_to(Path(str(repository.working_dir)).resolve())
    try:
        blob = repository.head.commit.tree / inside.as_posix()
    except KeyError:
        return None
    return bytes(blob.data_stream.read())


def _has_identity(command: git.Git) -> bool:
    import git  # noqa: PLC0415

    try:
        command.var("GIT_COMMITTER_IDENT")
    except git.GitCommandError:
        return False
    return True


def _template() -> dict[str, bytes]:
    """The packaged starting files by path."""
    root = resources.files("skill_ratchet").joinpath("templates/init")
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
