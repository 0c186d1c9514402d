"""Whether the held-out cases are hidden from the programs of a provider, and the proof of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skill_ratchet.base import actions, sandbox
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.project.programs import has_harness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skill_ratchet.core.records import Sealed
    from skill_ratchet.project.config import Config
    from skill_ratchet.project.programs import Programs
    from skill_ratchet.project.repository import Project

OPEN: Final = "this system cannot hide the held-out cases from the program of a provider 'command'"
TRUSTED: Final = "'sealed: trust': the provider's program can read the held-out cases"
HOW: Final = (
    "Install bubblewrap (Debian, Ubuntu: 'sudo apt-get install bubblewrap'), and let it make user "
    "namespaces (docs/github.md says how). Or set 'gate.merge: manual'; or, if you vouch for the "
    "program, 'sealed: trust'."
)
_MOST: Final = 50  # files that the probe looks for, of each folder
_SECONDS: Final = 60.0

# Looks for files by every way it knows: as they are called, through other processes, by sudo. The
# first one it must find, or it has not looked at all.
_PROBE: Final = """\
control=$1; shift
for root in "" /proc/[0-9]*/root; do
  for path in "$@"; do test -e "$root$path" && echo "$root$path"; done
done
if sudo -n true; then
  for path in "$@"; do sudo -n test -e "$path" && echo "$path (by sudo)"; done
fi 2>&-
test -e "$control" && echo looked
"""


def state(settings: Config) -> Sealed | None:
    """What stands between the held-out cases and the provider's program; None without one."""
    if not has_harness(settings):
        return None
    if settings.sealed == "trust":
        return "trusted"
    return "hidden" if sandbox.can_enclose() else "open"


def note(settings: Config) -> str:
    """What a person should know before a run; empty when there is nothing."""
    said = {"open": f"{OPEN}; a person merges", "trusted": TRUSTED}
    return said.get(state(settings) or "", "")


def refuse_open(settings: Config) -> None:
    """Raise RatchetError where something could be merged by itself that has seen the answers."""
    if state(settings) == "open" and settings.gate.merge.mode != "manual":
        raise RatchetError(
            f"{OPEN[0].upper()}{OPEN[1:]}, so nothing may merge by itself.", hint=HOW
        )


async def prove(project: Project, settings: Config, place: Programs) -> None:
    """Have a program look for the held-out cases, enclosed as harnesses are.

    Raises:
        RatchetError: It has found something, or could not look.
    """
    if not place.enclosed:
        return
    try:
        found = await _reached(place, list(_forbidden(project, settings, place)))
    except OSError as error:
        raise RatchetError(
            f"It cannot be proved that programs find no held-out case: {error}.", hint=HOW
        ) from error
    if found:
        # Their names may say something of held-out cases, and others read a workflow's log.
        named = [f"{len(found)} files"] if actions.in_workflow() else found[:10]
        raise RatchetError(
            "A program that looked for what it must not find has found it:\n  "
            + "\n  ".join(named),
            hint="Nothing was asked of the provider. " + HOW,
        )


async def _reached(programs: Programs, forbidden: list[str]) -> list[str]:
    """Which of those paths a program finds."""
    shell = "/bin/sh"
    with tempfile.TemporaryDirectory(prefix="ratchet-", ignore_cleanup_errors=True) as name:
        own = Path(name) / "call"
        own.mkdir()
        place = programs.place(Path(name), own=own)
        done = await sandbox.run(
            [shell, "-c", _PROBE, shell, shell, *forbidden],
            cwd=place.cwd,
            env=dict(os.environ),
            timeout=_SECONDS,
            network=True,
            view=place.view,
        )
    *found, last = done.stdout.decode(errors="replace").splitlines() or [""]
    if last != "looked":
        raise OSError(f"the probe ended with status {done.returncode}")
    return found


def _forbidden(project: Project, settings: Config, place: Programs) -> Iterator[str]:
    """Files that are there for us: held-out cases, and what git keeps."""
    for skill in settings.skills.values():
        for split in ("holdout", "vault"):
            yield from _files(project.root / skill.fixtures / split)
    for one in place.hidden:
        yield from (
            str(one / name) for name in ("objects", ".git", "HEAD") if (one / name).exists()
        )
    yield str(place.folder)


def _files(folder: Path) -> list[str]:
    found = sorted(str(one) for one in folder.rglob("*") if one.is_file())
    return found[:_MOST]
