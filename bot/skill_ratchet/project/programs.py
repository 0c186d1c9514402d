"""What programs find of a project: an export of its files, and nothing they are judged by.

One maker for scorers, harnesses and the meta-agent over `command`, and one digest: what a program
can read of the project is in `tree_digest`, or is not there for it. Left out are every skill's
text, fixtures of every split, settings and workflows; git's own folder is in no export.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, get_args

from skill_ratchet.base import enclosure, sandbox
from skill_ratchet.base.enclosure import DiskView, Mount
from skill_ratchet.core.records import Split, digest
from skill_ratchet.project import repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from skill_ratchet.project.config import Config
    from skill_ratchet.project.repository import Entry, Project, Tree

SPLITS: Final[tuple[str, ...]] = get_args(Split)
_INSTALLED: Final = (".venv", "venv", "node_modules")  # not in a commit, and yet needed


@dataclass(frozen=True, slots=True)
class CallPlace:
    """Where one program runs; ``view`` is None where it is not enclosed."""

    cwd: Path
    view: DiskView | None


@dataclass(frozen=True, slots=True)
class Programs:
    """Where programs of a project run.

    Attributes:
        folder: The export.
        root: Where an enclosed harness finds it: in the place of the project.
        hidden: What is not there for a program that is enclosed.
        enclosed: Whether harnesses are; scorers are wherever the system can.
    """

    folder: Path
    root: Path
    hidden: tuple[Path, ...]
    enclosed: bool

    def find(self, program: str) -> Path:
        """Where a program that is named by a path is on the disk."""
        path = Path(os.path.normpath(self.root / program))
        if not path.is_relative_to(self.root) or any(
            path.is_relative_to(one.path) for one in self.installed()
        ):
            return path
        return self.folder / path.relative_to(self.root)

    def installed(self) -> tuple[Mount, ...]:
        """Environments of Python and Node in the project's folder, to read."""
        found = (self.root / name for name in _INSTALLED if not (self.folder / name).exists())
        return tuple(
            Mount(one, one, writable=False) for one in found if enclosure.is_installed(one)
        )

    def place(self, directory: Path, *, own: Path) -> CallPlace:
        """A copy of the export and a home for one call, so that nothing is left for another.

        Args:
            directory: Where they are made; it goes when the call is over.
            own: A folder with what the call is given, and may write.
        """
        tree = directory / "tree"
        shutil.copytree(self.folder, tree)
        if not self.enclosed:
            for one in self.installed():
                (tree / one.path.name).symlink_to(one.path)
            return CallPlace(tree, None)
        home = enclosure.home(directory / "home", os.environ)
        shown = (Mount(self.root, tree), *self.installed(), Mount(own, own))
        return CallPlace(self.root, DiskView(hidden=self.hidden, shown=shown, home=home))


def has_harness(settings: Config) -> bool:
    """Whether a program answers: the task's calls, or the meta-agent's."""
    asked = [settings.provider]
    if settings.meta.proposer == "meta":
        asked.append(settings.meta_provider)
    return any(one.type == "command" for one in asked)


def has_any(settings: Config) -> bool:
    """Whether a program answers, or scores."""
    scorers = (
        one for skill in settings.skills.values() for one in (skill.scorer, *skill.scorers.values())
    )
    return has_harness(settings) or any(one.get("command") for one in scorers)


@contextmanager
def exported(project: Project, tree: Tree, settings: Config) -> Iterator[Programs]:
    """An export for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="ratchet-base-") as name:
        folder = Path(name).resolve()
        tree.extract(folder, only=visible(tree, settings))
        yield Programs(
            folder=folder,
            root=project.root,
            hidden=hidden(project),
            enclosed=settings.sealed == "require" and sandbox.can_enclose(),
        )


def visible(tree: Tree, settings: Config) -> dict[str, Entry]:
    """The files that programs find, by path."""
    found = tree.regular()
    return {name: found[name] for name in among(found, settings)}


def among(names: Iterable[str], settings: Config) -> list[str]:
    """Those of some paths that programs find."""
    wanted = tuple(settings.visible)
    unseen = tuple(_unseen(settings))
    return [
        name for name in names if (not wanted or _below(name, wanted)) and not _below(name, unseen)
    ]


def tree_digest(tree: Tree, settings: Config) -> str:
    """Names the files that programs find: their paths, contents and modes."""
    return digest("tree", {name: list(entry) for name, entry in visible(tree, settings).items()})


def _unseen(settings: Config) -> Iterator[str]:
    yield from (repository.CONFIG_FILE, repository.HOLD_FILE, ".github")
    if settings.meta.instructions:
        yield settings.meta.instructions
    for skill in settings.skills.values():
        yield skill.path
        yield from (f"{skill.fixtures}/{split}" for split in SPLITS)


def _below(name: str, places: tuple[str, ...]) -> bool:
    """Whether a path is one of those or lies under one, on a disk that folds case, too."""
    parts = PurePosixPath(name.casefold()).parts
    return any(
        parts[: len(above)] == above
        for above in (PurePosixPath(one.casefold()).parts for one in places)
    )


def hidden(project: Project) -> tuple[Path, ...]:
    """Where the repository is: checkouts, git's folders, and what those borrow from or push to."""
    found = {project.toplevel, project.git_dir, project.common_dir}
    listed = repository.run(project, "worktree", "list", "--porcelain").text.splitlines()
    found |= {Path(line.removeprefix("worktree ")) for line in listed if line[:9] == "worktree "}
    for line in repository.run(project, "remote", "-v").text.splitlines():
        place = line.partition("\t")[2].rpartition(" ")[0].removeprefix("file://")
        found |= {one} if (one := project.toplevel / place).exists() else set()
    todo = list(found)
    while todo:
        new = set(_alternates(todo.pop())) - found
        found |= new
        todo += new
    return tuple(sorted({Path(os.path.realpath(one)) for one in found}))


def _alternates(place: Path) -> Iterator[Path]:
    """Repositories whose objects one borrows, with their checkouts."""
    for objects in (place, place / "objects", place / ".git/objects"):
        listed = objects / "info/alternates"
        if listed.is_file():
            for line in listed.read_text("utf-8", "replace").splitlines():
                if line and not line.startswith("#"):
                    git = (objects / line).resolve().parent
                    yield git.parent if git.name == ".git" else git
