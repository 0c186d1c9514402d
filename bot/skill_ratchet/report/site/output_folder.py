"""Where a report goes: a folder that is a former report is replaced whole, any other is refused."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skill_ratchet import __version__
from skill_ratchet.base.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT: Final = ".ratchet/report"
MARK: Final = "ratchet-report.json"  # a folder with this file was written by 'ratchet report'
_MADE: Final = {"made_by": "ratchet report", "version": __version__}


@contextlib.contextmanager
def placed(out: Path, *, ignored: bool) -> Iterator[Path]:
    """A new folder that takes the place of ``out`` when the block ends without an error.

    Until then ``out`` is as it was.

    Args:
        out: Where the report goes.
        ignored: Keep git from adding it.

    Raises:
        RatchetError: It is something else than a former report, or it cannot be written.
    """
    out = out.resolve()
    refuse_foreign(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{out.name}.new-", dir=out.parent))
    except OSError as error:
        raise RatchetError(f"{out} cannot be written: {error.strerror}.") from error
    try:
        new.chmod(0o755)  # a web server reads it, too
        if ignored:  # first of all: should this be killed, git does not see what is left
            (new / ".gitignore").write_text("*\n", encoding="utf-8")
        yield new
        (new / MARK).write_text(json.dumps(_MADE, indent=2) + "\n", encoding="utf-8")
        (new / ".nojekyll").touch()  # GitHub Pages takes the files as they are
        _swap(new, out)
    except OSError as error:
        raise RatchetError(f"{out} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def refuse_foreign(out: Path) -> None:
    """Raise RatchetError unless there is nothing at ``out``, or a former report."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if (out.exists() or out.is_symlink()) and not _is_report(out):
        raise RatchetError(
            f"{out} is there already and is not a report of Ratchet's.",
            hint="Name another folder with --out, or delete it yourself.",
        )


def _is_report(folder: Path) -> bool:
    try:
        made = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(made, dict) and made.get("made_by") == _MADE["made_by"]


def _swap(new: Path, out: Path) -> None:
    """Two renames; should the second fail, what was there comes back."""
    old = new.with_name(new.name.replace(".new-", ".old-"))
    there = out.exists()
    if there:
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if there:
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
