"""Reads the skill, the fixtures and the config: from the working tree, or from a commit.

Both kinds of tree obey the same rules. A path stays inside the project, nothing on it is a
symbolic link or a submodule, and it names a regular file. Every path in and out of here is
relative to the folder of ``ratchet.yml`` and is written with ``/``.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from skill_ratchet.base import git
from skill_ratchet.base.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from skill_ratchet.base.git import Found, Output

CONFIG_FILE: Final = "ratchet.yml"
MAX_EXTRACT: Final = 200_000_000  # bytes
_SHA1: Final = 40  # digits
REGULAR_MODES: Final = frozenset({"100644", "100755"})
EXECUTABLE: Final = "100755"

_SOON: Final = 10_000_000  # bytes; who asks for the size of a smaller file reads it next
_LINK: Final = "120000"
_SUBMODULE: Final = "160000"

# What a user's own settings may not change about a command of ours: their hooks are for their
# own commits, and the rest would alter what a command writes, prints or starts.
_SETTINGS: Final = (
    f"core.hooksPath={os.devnull}",
    "gc.auto=0",
    "i18n.commitEncoding=UTF-8",
    "log.showSignature=false",
    "maintenance.auto=false",
    "trailer.separators=:",
)
_VERSIONS: Final[dict[str | None, str]] = {}  # by PATH, which says which git it is
_OPTIONS: Final = tuple(part for setting in _SETTINGS for part in ("-c", setting))
_ENVIRONMENT: Final = {
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}


@dataclass(frozen=True, slots=True)
class Project:
    """Where a project is: the folder of its ``ratchet.yml``, and the checkout it sits in.

    ``git_dir`` belongs to this checkout, ``common_dir`` is shared with its linked worktrees,
    and ``prefix`` leads from ``toplevel`` to ``root``: empty, or like ``tools/bot/``.
    """

    root: Path
    git_dir: Path
    common_dir: Path
    toplevel: Path
    prefix: str

    def full(self, path: str) -> str:
        """``path`` from the top of the repository; refuses one that leaves the project."""
        return self.prefix + inside(path)


class Entry(NamedTuple):
    """One file of a commit: its mode, and the name of its content."""

    mode: str
    sha: str


class Tree(Protocol):
    """Files by path, relative to the project. Every method raises ``RatchetError``."""

    def read(self, path: str) -> bytes:
        """The content of a regular file, untouched by any filter."""
        ...

    def size(self, path: str) -> int:
        """How many bytes ``read`` would return."""
        ...

    def files(self, folder: str) -> list[str]:
        """Every file below ``folder``, sorted; refuses links, submodules and case twins.

        A folder that is not there has no files. ``""`` is the whole project.
        """
        ...

    def has(self, path: str) -> bool:
        """Whether a file, a link or a submodule is at just this path; elsewhere is no matter."""
        ...

    def regular(self) -> dict[str, Entry]:
        """All regular files by path; links and submodules are left out."""
        ...

    def extract(
        self, dest: Path, *, folder: str = "", only: Collection[str] | None = None
    ) -> list[str]:
        """Write the regular files below ``folder`` into ``dest``; run no filter and no hook.

        Symbolic links and submodules are left out.

        Args:
            dest: An empty or missing folder; each file keeps its path.
            folder: Relative to the project; all of it by default.
            only: The paths that are wanted; None for all. Nothing else is read.

        Returns:
            The paths that were written.

        Raises:
            RatchetError: ``dest`` is in use, or the files are over 200 MB.
        """
        ...

    def is_stopped(self) -> bool:
        """Whether a person put the stop file at the project's root, or in a folder above it."""
        ...


def open_project(start: Path, *, unborn: bool = False) -> Project:
    """Find the project that ``start`` lies in.

    Args:
        start: A folder at or below the one with ``ratchet.yml``.
        unborn: Allow a repository that has no commit yet, for what reads files on disk alone.

    Raises:
        RatchetError: No usable git, no repository, no commit in it, or no ``ratchet.yml``.
    """
    start = start.resolve()
    _check_version(start)
    git_dir, common_dir, toplevel = _locate(start)
    _check_usable(git_dir, toplevel, unborn=unborn)
    for folder in (start, *start.parents):
        if (folder / CONFIG_FILE).exists():
            inner = folder.relative_to(toplevel).as_posix()
            prefix = "" if inner == "." else f"{inner}/"
            return Project(folder, git_dir, common_dir, toplevel, prefix)
        if folder == toplevel:
            break
    raise RatchetError(
        f"no {CONFIG_FILE} in {start} or above it, up to {toplevel}",
        hint="Run 'ratchet init' to write one.",
    )


def checkout_at(project: Project, toplevel: Path) -> Project:
    """The same project as it is checked out in another worktree of the same repository."""
    git_dir, common_dir, found = _locate(toplevel.resolve())
    return Project(found / project.prefix, git_dir, common_dir, found, project.prefix)


def run(
    project: Project,
    *args: str,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    ok: Collection[int] = (0,),
) -> Output:
    """Run one git command at the top of the checkout, with no hook, signature or prompt.

    Args:
        project: Says which repository and checkout.
        args: The command and its arguments.
        stdin: What the command reads.
        env: Variables on top of ours.
        ok: Exit statuses that are an answer; any other is an error.

    Raises:
        RatchetError: With git's own words.
    """
    here = {
        "GIT_DIR": str(project.git_dir),
        "GIT_WORK_TREE": str(project.toplevel),
        # In a hook git sets this, at times to an index that is not the checkout's.
        "GIT_INDEX_FILE": str(project.git_dir / "index"),
    }
    output = _execute(project.toplevel, args, stdin=stdin, env=here | dict(env or {}))
    if output.status not in ok:
        raise git.failure(args[0], output.error, project.toplevel)
    return output


def resolve(project: Project, ref: str) -> str:
    """The full name of the commit that ``ref`` points to."""
    if not ref or ref.startswith("-") or not ref.isprintable():
        raise RatchetError(f"{ref!r} is not the name of a commit")
    found = git.read_object(project.git_dir, f"{ref}^{{commit}}")
    if found is not None:
        return found.oid
    raise RatchetError(
        f"there is no commit {ref!r} in {project.toplevel}",
        hint="The clone is shallow: fetch the whole history (actions/checkout: 'fetch-depth: 0')."
        if is_shallow(project)
        else "'git branch --all' lists the branches; 'git fetch' gets those of the server.",
    )


class Difference(NamedTuple):
    """What became of one path, from the top of the repository.

    ``old`` and ``new`` are its modes, ``blob`` the new object, ``how`` a letter (A, M, D, T).
    """

    path: str
    old: str
    new: str
    blob: str
    how: str

    @property
    def is_edit(self) -> bool:
        """Whether a regular file got another content, and nothing else."""
        return self.how == "M" and self.old == self.new and self.old in REGULAR_MODES

    @property
    def is_plain(self) -> bool:
        """Whether a regular file was added, or its content changed and nothing else."""
        return self.is_edit or (self.how == "A" and self.new == "100644")


def differences(project: Project, old: str, new: str) -> tuple[Difference, ...]:
    """What differs between two commits."""
    options = ("-r", "-z", "--no-renames", "--ignore-submodules=none")
    return raw_differences(run(project, "diff-tree", *options, old, new).fields)


def raw_differences(fields: Sequence[str]) -> tuple[Difference, ...]:
    """What ``diff-tree`` says with ``--raw -z``."""
    told = ((info[1:].split(), path) for info, path in zip(fields[::2], fields[1::2], strict=True))
    return tuple(
        Difference(path, before, after, blob, how) for (before, after, _, blob, how), path in told
    )


def is_shallow(project: Project) -> bool:
    """Whether the history of this clone is cut off."""
    return (project.common_dir / "shallow").exists()


def require_history(project: Project) -> None:
    """Raise RatchetError in a shallow clone: what is not in its history may have been in it."""
    if is_shallow(project):
        raise RatchetError(
            f"the clone {project.toplevel} is shallow, so it is not known what was merged before",
            hint="Fetch the whole history: 'git fetch --unshallow' (actions/checkout: "
            "'fetch-depth: 0').",
        )


def current_branch(project: Project) -> str | None:
    """The branch that is checked out; None when HEAD is detached."""
    head = git.pointed_to(project.git_dir, "HEAD")
    if head and git.pointed_to(project.common_dir, head):  # another name for another branch
        head = run(project, "symbolic-ref", "--quiet", "HEAD", ok=(0, 1)).text or None
    return head and head.removeprefix("refs/heads/")


def require_branch(project: Project) -> str:
    """The branch that is checked out.

    Raises:
        RatchetError: HEAD is detached.
    """
    branch = current_branch(project)
    if branch is None:
        raise RatchetError(
            f"no branch is checked out in {project.toplevel} (HEAD is detached)",
            hint="Check out the branch to improve, as in 'git switch main'.",
        )
    return branch


def dirty(project: Project, paths: Sequence[str]) -> list[str]:
    """The files at or below ``paths`` that differ from HEAD: staged, unstaged or untracked."""
    if not paths:
        return []
    wanted = [_folder(project, path) for path in paths]
    options = ("--porcelain=v1", "-z", "--untracked-files=all", "--no-renames")
    lines = run(project, "status", *options, "--", *wanted).fields
    return sorted(line[3:].removeprefix(project.prefix) for line in lines)


class WorkTree:
    """The files as they are on the disk, saved but perhaps not committed."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def read(self, path: str) -> bytes:
        """See ``Tree``."""
        self._regular(path)
        return (self.project.root / inside(path)).read_bytes()

    def size(self, path: str) -> int:
        """See ``Tree``."""
        return self._regular(path).st_size

    def files(self, folder: str) -> list[str]:
        """See ``Tree``; files that git ignores are left out, as a commit would."""
        chosen = _select(self._names(), folder)
        present = [name for name in chosen if os.path.lexists(self.project.root / name)]
        for name in present:
            self._regular(name)
        return present

    def has(self, path: str) -> bool:
        """See ``Tree``."""
        return path in self._names()

    def regular(self) -> dict[str, Entry]:
        """See ``Tree``; a file has the name that it would have in a commit."""
        found = {}
        for name in sorted(self._names()):
            try:
                info = self._regular(name)
            except RatchetError:  # a link, a submodule, or deleted
                continue
            data = (self.project.root / name).read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
            mode = EXECUTABLE if info.st_mode & stat.S_IXUSR else "100644"
            found[name] = Entry(mode, blob.hexdigest())
        return found

    def extract(
        self, dest: Path, *, folder: str = "", only: Collection[str] | None = None
    ) -> list[str]:
        """See ``Tree``."""
        chosen = _chosen(self.regular(), folder, only)
        sizes = (self.size(name) for name in chosen)
        _write_all(chosen, dest, sizes=sizes, read=self.read, where="of the work tree")
        return sorted(chosen)

    def is_stopped(self) -> bool:
        """See ``Tree``; a file that git ignores counts, too."""
        return any(os.path.lexists(self.project.toplevel / one) for one in hold_files(self.project))

    def _names(self) -> set[str]:
        options = ("-z", "--cached", "--others", "--exclude-standard")
        listed = run(self.project, "ls-files", *options, "--", _folder(self.project, "")).fields
        return {name.removeprefix(self.project.prefix) for name in listed}

    def _regular(self, path: str) -> os.stat_result:
        here = self.project.root
        parts = inside(path).split("/")
        for depth, part in enumerate(parts, start=1):
            here = here / part
            try:
                info = here.lstat()
            except (FileNotFoundError, NotADirectoryError):
                raise _missing(path, f"in {self.project.root}") from None
            if stat.S_ISLNK(info.st_mode):
                raise _refused("/".join(parts[:depth]), _LINK)
            if stat.S_ISDIR(info.st_mode) and (here / ".git").exists():
                raise _refused("/".join(parts[:depth]), _SUBMODULE)
        if not stat.S_ISREG(info.st_mode):
            raise RatchetError(f"{path} is not a regular file")
        return info


class CommitTree:
    """The files of one commit.

    Args:
        project: The repository.
        ref: A branch, tag or commit; ``commit`` is what it pointed to at the time.
    """

    def __init__(self, project: Project, ref: str) -> None:
        self.project = project
        self.commit = resolve(project, ref)
        self._listed: dict[str, Mapping[str, Entry]] = {}  # folders that were looked into

    def read(self, path: str) -> bytes:
        """See ``Tree``."""
        return self._blob(self.entry(path).sha, path).data

    def size(self, path: str) -> int:
        """See ``Tree``."""
        return self._blob(self.entry(path).sha, path, most=_SOON).size

    def files(self, folder: str) -> list[str]:
        """See ``Tree``."""
        chosen = _select(self._entries, folder)
        for name in chosen:
            self.entry(name)
        return chosen

    def has(self, path: str) -> bool:
        """See ``Tree``."""
        return self._at(path) is not None

    def is_stopped(self) -> bool:
        """See ``Tree``."""
        names = [f"{self.commit}:{path}" for path in hold_files(self.project)]
        return any(one is not None for one in git.read_objects(self.project.git_dir, names))

    def entry(self, path: str) -> Entry:
        """The mode and content name of a regular file.

        Raises:
            RatchetError: It is missing, or a symbolic link or a submodule is on the way.
        """
        clean = inside(path)
        for name in (*reversed(_parents(clean)), clean):
            found = self._at(name)
            if found and (name != clean or found.mode not in REGULAR_MODES):
                raise _refused(name, found.mode)
        if not found:
            raise _missing(path, f"in commit {self.commit[:12]}")
        return found

    def refuse_twins(self, path: str) -> None:
        """Refuse a path that another one in the commit equals but for case."""
        _select(self._entries, _parents(inside(path))[0])

    def regular(self) -> dict[str, Entry]:
        """See ``Tree``."""
        return {name: one for name, one in self._entries.items() if one.mode in REGULAR_MODES}

    def extract(
        self, dest: Path, *, folder: str = "", only: Collection[str] | None = None
    ) -> list[str]:
        """See ``Tree``."""
        chosen = _chosen(self.regular(), folder, only)
        if folder and not chosen:
            raise _missing(folder, f"in commit {self.commit[:12]}")
        _write_all(
            chosen,
            dest,
            sizes=(self._blob(one.sha, name, most=_SOON).size for name, one in chosen.items()),
            read=lambda name: self._blob(chosen[name].sha, name).data,
            where=f"of commit {self.commit[:12]}",
        )
        return sorted(chosen)

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        """All there is but folders, by path."""
        found = git.files_below(self.project.git_dir, self._name(""))
        if found is None:
            raise _missing(self.project.prefix or ".", f"in commit {self.commit[:12]}")
        return {name: Entry(member.mode, member.oid) for name, member in found.items()}

    def _at(self, path: str) -> Entry | None:
        """What is at a path, unless it is a folder; only the folders on the way are looked into."""
        folder, _, name = path.rpartition("/")
        found = self._in(folder).get(name)
        return found if found and found.mode != git.TREE else None

    def _in(self, folder: str) -> Mapping[str, Entry]:
        if folder not in self._listed:
            found = git.read_object(self.project.git_dir, self._name(folder))
            if found is None and not folder:
                raise _missing(self.project.prefix or ".", f"in commit {self.commit[:12]}")
            there = git.members_of(found) if found else {}
            self._listed[folder] = {name: Entry(one.mode, one.oid) for name, one in there.items()}
        return self._listed[folder]

    def _name(self, folder: str) -> str:
        """What git calls a folder of the project."""
        return f"{self.commit}:{f'{self.project.prefix}{folder}'.rstrip('/')}"

    def _blob(self, sha: str, path: str, *, most: int | None = None) -> Found:
        try:
            found = git.read_object(self.project.git_dir, sha, most=most)
        except RatchetError as error:
            raise _damaged(self.project, sha, path) from error
        if found is None:
            raise _damaged(self.project, sha, path)
        return found


def inside(path: str) -> str:
    """``path`` in its plain form.

    Raises:
        RatchetError: It is empty, absolute, leads out of the project or into ``.git``.
    """
    parts = PurePosixPath(path).parts
    bad = not parts or path.startswith("/") or "\\" in path or "\0" in path
    if bad or any(part == ".." or part.casefold() == ".git" for part in parts):
        raise RatchetError(
            f"{path!r} is not a path inside the project",
            hint=f"Write it relative to the folder of {CONFIG_FILE}, as in 'skills/x/SKILL.md'.",
        )
    return "/".join(parts)


def _folder(project: Project, path: str) -> str:
    """A path for git's command line, where the whole project may be meant."""
    return project.full(path) if path else project.prefix or "."


def _parents(path: str) -> list[str]:
    """The folders a path goes through, the nearest first; the project itself is ``""``."""
    return ["" if str(parent) == "." else str(parent) for parent in PurePosixPath(path).parents]


def _fold(path: str) -> str:
    """Equal for two paths that a disk which ignores case would take for one."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _select(names: Collection[str], folder: str) -> list[str]:
    folder = inside(folder) if folder else ""
    start = f"{folder}/" if folder else ""
    near = [name for name in names if _fold(name).startswith(_fold(start))]
    for name in (folder, *_parents(folder)) if folder else ():
        if name in names:
            raise RatchetError(f"{name} is not a folder of the project")
    _refuse_twins(near)
    return sorted(name for name in near if name.startswith(start))


def _refuse_twins(names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in sorted(names):
        for path in (name, *_parents(name)):
            other = seen.setdefault(_fold(path), path)
            if other != path:
                raise RatchetError(
                    f"{other} and {path} differ only in case",
                    hint="Rename one: on many disks they are the same file.",
                )


def write_whole(target: Path, content: bytes) -> None:
    """Put a content into a file, which is whole or as it was; its mode stays."""
    swap = target.with_name(f".{target.name}.tmp")
    swap.write_bytes(content)
    if target.exists():
        swap.chmod(target.stat().st_mode)
    swap.replace(target)


def _chosen(
    found: Mapping[str, Entry], folder: str, only: Collection[str] | None
) -> dict[str, Entry]:
    start = f"{inside(folder)}/" if folder else ""
    return {
        name: one
        for name, one in found.items()
        if name.startswith(start) and (only is None or name in only)
    }


def _write_all(
    chosen: Mapping[str, Entry],
    dest: Path,
    *,
    sizes: Iterable[int],
    read: Callable[[str], bytes],
    where: str,
) -> None:
    if dest.exists() and any(dest.iterdir()):
        raise RatchetError(f"{dest} is not empty", hint="Name a folder that does not exist.")
    if (total := sum(sizes)) > MAX_EXTRACT:
        raise RatchetError(
            f"the files {where} take {total:,} bytes; at most {MAX_EXTRACT:,} are copied for a "
            "scorer or a harness",
            hint="Name the files and folders that programs need: 'visible: [tools]' in "
            f"{CONFIG_FILE}.",
        )
    dest.mkdir(parents=True, exist_ok=True)
    for name, one in chosen.items():
        target = dest / inside(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_new(target, read(name), executable=one.mode == EXECUTABLE)


def _write_new(target: Path, data: bytes, *, executable: bool) -> None:
    try:
        with target.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise RatchetError(f"{target} names two files on this disk") from None
    target.chmod(0o755 if executable else 0o644)


def _missing(path: str, where: str) -> RatchetError:
    return RatchetError(f"there is no file {path} {where}", hint="Paths are case-sensitive.")


def _refused(path: str, mode: str) -> RatchetError:
    kind = {_LINK: "a symbolic link", _SUBMODULE: "a submodule"}.get(mode, "not a folder")
    return RatchetError(f"{path} is {kind}", hint="Ratchet reads regular files only.")


def _damaged(project: Project, sha: str, path: str) -> RatchetError:
    return RatchetError(
        f"{path} cannot be read: {project.common_dir} has no sound object {sha}",
        hint="Run 'git fsck'; in a partial clone, 'git fetch --refetch'.",
    )


def _execute(
    where: Path,
    args: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
) -> Output:
    return git.execute(
        where, (*_OPTIONS, *args), stdin=stdin or b"", env=_ENVIRONMENT | dict(env or {})
    )


def _locate(start: Path) -> tuple[Path, Path, Path]:
    """The git folder, the common folder and the top of the checkout that ``start`` is in."""
    found = git.locate(start)
    if found.toplevel is None:
        raise RatchetError(
            f"{start} is a bare repository: it has no files to work on",
            hint="Run Ratchet in a clone of it, or in a linked worktree.",
        )
    return found.git_dir, found.common_dir, found.toplevel


def _check_version(start: Path) -> None:
    path = os.environ.get("PATH")
    if path not in _VERSIONS:
        _VERSIONS[path] = git.execute(start, ["version"]).text
    version = _VERSIONS[path]
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < git.OLDEST_GIT:
        raise RatchetError(f"this is {version or 'an unknown git'}", hint=git.no_git().hint)


def _check_usable(git_dir: Path, toplevel: Path, *, unborn: bool) -> None:
    found = git.read_object(git_dir, "HEAD^{commit}")
    if found and len(found.oid) == _SHA1:
        return
    head = _execute(toplevel, ["rev-parse", "--show-object-format", "--verify", "HEAD^{commit}"])
    if head.status and "Needed a single revision" not in head.error:
        raise git.failure("rev-parse", head.error, toplevel)
    if head.status and not unborn:
        raise RatchetError(
            f"the repository {toplevel} has no commit yet",
            hint="Commit the project's files: 'git add --all && git commit'.",
        )
    if not head.text.startswith("sha1"):
        raise RatchetError(f"the repository {toplevel} does not use SHA-1 object names")


HOLD_FILE = ".ratchet-hold"  # a person puts it at the project's root, or above, to stop everything


def hold_files(project: Project) -> list[str]:
    """Where the stop file may be, from the top of the repository down to the project's root."""
    folders = project.prefix.split("/")[:-1]
    return ["/".join((*folders[:depth], HOLD_FILE)) for depth in range(len(folders) + 1)]
