"""Folders that many tests begin with: made once, never touched again, and copied."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_WHO: Final = ("GIT_AUTHOR_", "GIT_COMMITTER_")
_PLACE: Final[list[Path]] = []
_NUMBERS: Final = itertools.count()
_MADE: Final[dict[tuple[object, ...], Path]] = {}


def keep_in(folder: Path) -> None:
    """Make them in ``folder``, unless there are some elsewhere."""
    if not _PLACE:
        folder.mkdir()
        _PLACE.append(folder)


def _home() -> Path:
    if not _PLACE:  # outside of pytest
        folder = tempfile.mkdtemp(prefix="templates-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _PLACE.append(Path(folder))
    return _PLACE[0]


def copy(path: Path, make: Callable[[Path], object], kind: str, *key: object) -> Path:
    """Fill ``path``, which is not there yet, with what ``make`` would put there.

    Returns the folder that it was copied from, which ``make`` was given.

    Args:
        path: Where the copy goes.
        make: Fills the folder that it is given; called once for each key.
        kind: Keeps the keys of unlike things apart.
        key: All that decides what is in it, but for names and dates in the environment.
    """
    said = tuple(sorted(one for one in os.environ.items() if one[0].startswith(_WHO)))
    whole = (kind, *key, said)
    if whole not in _MADE:
        template = _home() / str(next(_NUMBERS))
        make(template)
        _MADE[whole] = template
    shutil.copytree(_MADE[whole], path, symlinks=True)
    return _MADE[whole]
