"""Which skill a person's pull request edits, and whether it may be tested: paths in, a name out.

Nothing of the pull request is read here but the paths that it changes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.edits import check_paths, folded

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from skill_ratchet.core.edits import Change

_ODD: Final = re.compile(r"[^A-Za-z0-9._/@+-]")
_SHOWN: Final = 100  # characters of a path


def edited_skill(changes: Sequence[Change], *, skills: Mapping[str, str]) -> str | None:
    """The one skill whose file the changes edit; None when they leave every skill alone.

    Args:
        changes: All that differs, without any detection of renames.
        skills: The skills' files by name, from the top of the repository.

    Raises:
        RatchetError: There are several, or it is no plain edit of a regular file.
    """
    hit = {
        name: [change for change in changes if _touches(change.path, path)]
        for name, path in skills.items()
    }
    names = sorted(name for name, found in hit.items() if found)
    if not names:
        return None
    if len(names) > 1:
        raise RatchetError(
            f"It changes several skills: {', '.join(names)}.",
            hint="Split it: one pull request for each skill.",
        )
    (name,) = names
    allowed = skills[name]
    for change in hit[name]:
        if change.path != allowed:
            raise RatchetError(
                f"It changes {shown(change.path)}, which some disks take for the skill's file or "
                "a folder on the way to it."
            )
    if objections := check_paths(hit[name], allowed=allowed):
        raise RatchetError(
            f"It is no plain edit of the skill: {objections[0]}.",
            hint="Only the content of the skill's one regular file can be tested.",
        )
    return name


def refuse_inputs(changes: Sequence[Change], *, inputs: Collection[str], skill: str) -> None:
    """Raise RatchetError when the changes are to more than the skill that its numbers depend on.

    Args:
        changes: All that differs.
        inputs: Files and folders, from the top of the repository.
        skill: The skill's file.
    """
    others = [change.path for change in changes if change.path != skill]
    if found := sorted(path for path in others if any(_touches(path, one) for one in inputs)):
        raise RatchetError(
            f"It changes {shown(found[0])} together with the skill, and the numbers depend on that "
            "too.",
            hint="Split it in two: what the skill is measured with first, then the skill.",
        )


def shown(path: str) -> str:
    """A path that nobody vouches for, for a message."""
    return _ODD.sub("?", path)[:_SHOWN]


def _touches(path: str, name: str) -> bool:
    """Whether changing ``path`` changes ``name``, something in it, or a folder on the way to it.

    Names that some disk takes for the same are the same.
    """
    one, other = f"{folded(path)}/", f"{folded(name)}/"
    return one.startswith(other) or other.startswith(one)
