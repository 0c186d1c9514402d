"""One skill's records on top of what others wrote meanwhile.

Each skill has a folder of its own on the ledger's branches. So two lines of commits that fork can
both be kept, as long as they are about two skills: what one of them brings for its skill is put on
top of the other, in one commit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.ledger.store import BADGE, README, Ref
from skill_ratchet.project.proposal import NOBODY
from skill_ratchet.project.repository import differences, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skill_ratchet.project.proposal import Identity
    from skill_ratchet.project.repository import Project

EMPTY: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # the tree without a file
# Written by people's commands, and by every run and publication, in files of their own; no number
# of an experiment depends on them.
BESIDE: Final = ("notes/", "runs/", "transfers/", "corrections/", "answers/", "settled/", BADGE)


def put_on_top(project: Project, ref: Ref, new: str, *, here: str, skill: str) -> str:
    """A commit that has everything ``here`` has, and what ``new`` brings for one skill.

    ``new`` itself, where it goes on from ``here``, and ``here``, where that goes on from ``new``.
    No branch moves.

    Args:
        project: The repository.
        ref: Which branch of the ledger both are of.
        new: A commit that brings records of the skill alone.
        here: Where the branch is.
        skill: Whose records.

    Raises:
        RatchetError: It brings others' records too, or both changed the same one. Of looks at the
            holdout, which are counted, both may not even have different ones.
    """
    # Nothing in common is two first publications at once.
    fork = run(project, "merge-base", here, new, ok=(0, 1)).text or EMPTY
    for one, other in ((here, new), (new, here)):
        if run(project, "rev-parse", f"{one}^{{commit}}").text == fork:
            return run(project, "rev-parse", f"{other}^{{commit}}").text
    ours, theirs = _changes(project, fork, new), _changes(project, fork, here)
    own = f"{skill}/"
    if outside := sorted(path for path in ours if not path.startswith(own) and path != README):
        raise RatchetError(f"What is to be published of {skill} changes {outside[0]!a} as well.")
    # A badge is made of the other records, and made again when they change.
    clash = ours.keys() & theirs.keys() - {README, f"{skill}/{BADGE}"}
    if ref is Ref.HOLDOUT and overlapping(ours, skill=skill):
        clash |= set(overlapping(theirs, skill=skill))
    if clash:
        raise clashing(min(clash))
    added = {path: entry for path, entry in ours.items() if path not in theirs}
    return commit(project, added, onto=here, message=f"{skill}: published\n")


def clashing(path: str) -> RatchetError:
    """The error for two jobs that were at work on one skill."""
    return RatchetError(
        f"Two jobs changed {path!a} of the ledger since the one was begun.",
        hint="Both worked on one skill. Run the job again from the start.",
    )


def overlapping(theirs: Iterable[str], *, skill: str) -> list[str]:
    """Those of the paths changed by others that what is brought for ``skill`` may depend on."""
    home = f"{skill}/"
    return sorted(one for one in theirs if one.startswith(home) and not is_beside(one, skill=skill))


def is_beside(path: str, *, skill: str) -> bool:
    """Whether a skill's record is one that no number of an experiment depends on."""
    return path.startswith(tuple(f"{skill}/{folder}" for folder in BESIDE))


def _changes(project: Project, old: str, new: str) -> dict[str, str]:
    """What differs: by path, the mode and object as ``commit`` takes them."""
    return {one.path: f"{one.new} {one.blob}" for one in differences(project, old, new)}


def commit(
    project: Project,
    files: Mapping[str, str],
    *,
    onto: str,
    message: str,
    at: str | None = None,
    who: Identity = NOBODY,
) -> str:
    """A commit of Ratchet's own on top of another, and no ref; no index of the user's.

    Args:
        project: The repository.
        files: Mode and object by path, from the top of the repository.
        onto: Its parent.
        message: What it says.
        at: When, in ISO 8601; None for now.
        who: Who commits.
    """
    lines = "".join(f"{entry} 0\t{path}\0" for path, entry in files.items())
    with tempfile.TemporaryDirectory(prefix="ratchet-index-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        run(project, "read-tree", onto, env=index)
        run(project, "update-index", "-z", "--index-info", stdin=lines.encode(), env=index)
        tree = run(project, "write-tree", env=index).text
    dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at} if at else {}
    make = ("commit-tree", "--no-gpg-sign", "-p", onto, "-F", "-", tree)
    return run(project, *make, stdin=message.encode(), env=who.environ | dates).text
