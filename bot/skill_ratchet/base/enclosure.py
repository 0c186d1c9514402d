"""What a program finds on the disk, and the command line that shows it just that.

A program that is enclosed may read what its user may, and write nothing but what it is given. What
is `hidden` is not there for it, whatever user it becomes; it sees no process but its own, so no
way through ``/proc`` leads around that; and it can gain no privilege (``sudo`` fails).

Bubblewrap does it where that is installed and may (GitHub's runners and Ubuntu let no other
program, see docs/github.md); elsewhere ``base/namespaces.py``, which needs Linux 5.12. `means`
says which; None where neither works.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_SCRIPT: Final = Path(__file__).with_name("namespaces.py")
_NOTHING: Final = Path(os.devnull)
# Of every program its own: what others keep there, and the sockets of services that would read
# the disk for it (Docker's, systemd's, D-Bus's).
_APART: Final = ("/tmp", "/var/tmp", "/run", "/var/run")  # noqa: S108 - hidden, not used
_OF_RUNNER: Final = ("GITHUB_WORKSPACE", "RUNNER_TEMP", "RUNNER_WORKSPACE")
_RESOLVER: Final = Path("/etc/resolv.conf")  # often a link to a file below /run

# Of the user's home. Copied are the files just in these folders, which hold agents' logins: what an
# agent makes of its own settings must not reach its next call.
_LOGINS: Final = frozenset({".claude", ".codex", ".copilot", ".gemini"})
_OPENED: Final = frozenset({".cache", ".config", ".config/git", ".local"})  # gone through, too
# Ways to the server that has the repository, and to services that would read the disk.
_KEPT_BACK: Final = frozenset(
    {
        *(".ssh", ".netrc", ".git-credentials", ".config/gh", ".config/git/credentials"),
        *(".docker", ".colima", ".lima", ".Xauthority"),
    }
)
_COPIED: Final = 10_000_000  # bytes; a larger file can only be read


@dataclass(frozen=True, slots=True)
class Mount:
    """What stands at a path: a file or folder of the disk, or (None) a new empty folder."""

    path: Path
    source: Path | None = None
    writable: bool = True


@dataclass(frozen=True, slots=True)
class DiskView:
    """What differs from the disk: `home` stands above what is hidden, `shown` below it."""

    hidden: tuple[Path, ...] = ()
    shown: tuple[Mount, ...] = ()
    home: tuple[Mount, ...] = ()

    def outside(self, path: Path) -> Path:
        """Where that which a program finds at a path is on the disk."""
        over = [one for one in self.shown if one.source and path.is_relative_to(one.path)]
        if not over:
            return path
        nearest = max(over, key=lambda one: len(one.path.parts))
        return Path(nearest.source or "", path.relative_to(nearest.path))


def mounts(view: DiskView, *, cwd: Path, env: Mapping[str, str]) -> list[Mount]:
    """All that is laid over the disk, outer folders first.

    Raises:
        OSError: Something hidden has everything in it.
    """
    secret = [Path(os.path.realpath(one)) for one in view.hidden]
    apart = [Path(os.path.realpath(one)) for one in _apart()]
    if any(one == Path(one.anchor) for one in secret):
        raise OSError("the repository is the whole disk, which cannot be hidden")
    laid = {one.path: one for one in _homely(view.home, secret, apart)}
    covered = (*apart, *_outermost(secret, view))
    laid |= {one: Mount(one, None if one.is_dir() else _NOTHING) for one in covered}
    laid |= {one: Mount(one, one, writable=False) for one in _needed(env, secret, apart)}
    if not any(cwd.is_relative_to(one.path) for one in view.shown):
        if any(cwd.is_relative_to(one) for one in secret):
            raise OSError(f"the folder {cwd} is hidden from programs")
        laid[cwd] = Mount(cwd, cwd)
    laid |= {one.path: one for one in view.shown}
    there = (one for one in laid.values() if (one.source or view.outside(one.path)).exists())
    return sorted(there, key=lambda one: one.path.parts)


def _outermost(secret: Sequence[Path], view: DiskView) -> Iterator[Path]:
    """What is to be covered: of a folder that is gone nothing, unless it is shown in its place."""
    for one in secret:
        gone = any(one != other and one.is_relative_to(other) for other in secret)
        if not gone or _inside(one, (mount.path for mount in view.shown)):
            yield one


def _apart() -> Iterator[str]:
    """Folders for what is for a while, where there are any."""
    named = (os.environ.get(name, "") for name in _OF_RUNNER)
    for place in (*_APART, tempfile.gettempdir(), *named):
        if place and Path(place).is_dir() and os.path.realpath(place) != os.sep:
            yield place


def _needed(env: Mapping[str, str], secret: Sequence[Path], apart: Sequence[Path]) -> set[Path]:
    """What lies in a hidden folder and is still wanted: programs, and how names are resolved."""
    found = {Path(os.path.realpath(_RESOLVER))}
    for name in env.get("PATH", "").split(os.pathsep):
        entry = Path(name) if os.path.isabs(name) else None  # noqa: PTH117
        if entry is not None and entry.is_dir():
            found.add(_installed(entry) or entry)
    return {
        one
        for one in found
        if _inside(one, (*secret, *apart))
        and not any(hidden.is_relative_to(one) for hidden in secret)
        # Of the repository only what is installed in it: the rest is what its export shows.
        and (not _inside(one, secret) or is_installed(one))
    }


def _inside(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(one) for one in folders)


def _installed(entry: Path) -> Path | None:
    """The environment that a folder of programs belongs to."""
    return entry.parent if is_installed(entry.parent) else None


def is_installed(folder: Path) -> bool:
    """Whether a folder is an environment of Python's or Node's, so no part of a project."""
    if folder.name == "node_modules":
        return folder.is_dir()
    return (folder / "pyvenv.cfg").is_file()


def _homely(
    mounts: Sequence[Mount], secret: Sequence[Path], apart: Sequence[Path]
) -> Iterator[Mount]:
    """The mounts of a home, unless that is itself a place that is hidden."""
    if mounts and mounts[0].path not in apart:
        yield from (one for one in mounts if not _inside(one.path, secret))


def home(folder: Path, env: Mapping[str, str]) -> tuple[Mount, ...]:
    """A home for one call: what is in the user's, to read, and copies of agents' logins.

    Args:
        folder: An empty one that becomes the home; what is written there goes with it.
        env: Says where the user's is.
    """
    given = env.get("HOME", "")
    real = Path(os.path.realpath(given)) if os.path.isabs(given) else None  # noqa: PTH117
    if real is None or not real.is_dir() or real == Path(real.anchor):
        return ()
    return (Mount(real, folder), *_furnished(real, folder, ""))


def _furnished(real: Path, folder: Path, within: str) -> Iterator[Mount]:
    """Fill a folder as the real one is filled; what is not copied is mounted."""
    folder.mkdir(exist_ok=True)
    for entry in sorted(real.iterdir()) if os.access(real, os.R_OK) else ():
        if f"{within}{entry.name}" not in _KEPT_BACK:
            with contextlib.suppress(OSError):  # gone meanwhile, or a mount that does not answer
                yield from _taken(entry, folder / entry.name, within)


def _taken(entry: Path, copy: Path, within: str) -> Iterator[Mount]:
    name = f"{within}{entry.name}"
    if entry.is_symlink():
        copy.symlink_to(entry.readlink())
    elif entry.is_dir() and name in _OPENED:
        yield from _furnished(entry, copy, f"{name}/")
    elif entry.is_dir() and name in _LOGINS:
        copy.mkdir()
        for one in entry.iterdir():
            _copy(one, copy / one.name)
    elif entry.is_dir() or (entry.is_file() and not (name[0] == "." and _copy(entry, copy))):
        yield Mount(entry, entry, writable=False)


def _copy(source: Path, target: Path) -> bool:
    """Copy a file that is not large; whether that was done."""
    if not source.is_file() or source.stat().st_size > _COPIED or not os.access(source, os.R_OK):
        return False
    shutil.copy(source, target)
    return True


@cache
def means() -> tuple[str, ...] | None:
    """What encloses programs here (tried once): how its command line begins; None for nothing."""
    for words in _candidates():
        line = command(
            words, [], cwd=Path("/"), network=False, status=2, program=["/bin/sh", "-c", ":"]
        )
        try:
            tried = subprocess.run(
                line, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if tried.returncode == 0:
            return words
    return None


def _candidates() -> Iterator[tuple[str, ...]]:
    if sys.platform == "linux":
        if found := shutil.which("bwrap"):
            yield (found,)
        yield (sys.executable, "-I", "-S", str(_SCRIPT))


def command(
    words: Sequence[str],
    laid: Sequence[Mount],
    *,
    cwd: Path,
    network: bool,
    status: int,
    program: Sequence[str],
) -> list[str]:
    """The command line that runs a program enclosed.

    Args:
        words: What `means` says.
        laid: What `mounts` says.
        cwd: Where the program starts.
        network: Whether it has our network, or none.
        status: The file descriptor that is told how it ended.
        program: An absolute path, and its arguments.
    """
    if len(words) == 1:
        return [*words, *_bubblewrap(laid, cwd=cwd, network=network, status=status), *program]
    plan = {
        "network": network,
        "cwd": str(cwd),
        "status": status,
        "mounts": [
            (str(one.path), None if one.source is None else str(one.source), one.writable)
            for one in laid
        ],
    }
    return [*words, json.dumps(plan), *program]


def _bubblewrap(laid: Sequence[Mount], *, cwd: Path, network: bool, status: int) -> Iterator[str]:
    yield from ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent")
    yield from ("--cap-drop", "ALL", "--json-status-fd", str(status))
    yield from () if network else ("--unshare-net",)
    yield from ("--ro-bind", "/", "/")
    for one in laid:
        if one.source is None:
            yield from ("--tmpfs", str(one.path))
        else:
            how = "--bind" if one.writable else "--ro-bind"
            yield from (how, str(one.source), str(one.path))
    yield from ("--dev", "/dev", "--proc", "/proc", "--chdir", str(cwd), "--")
