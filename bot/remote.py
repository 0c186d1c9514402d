"""What is fetched from and pushed to the remote ``origin``, with git itself."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bot.errors import RatchetError
from bot.ledger import Ref
from bot.ledger.gitref import AUTHOR
from bot.skillrepo import run

if TYPE_CHECKING:
    from bot.skillrepo import Project

EMPTY = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # the tree without a file
TRIES = 5  # pushes, while others push to the same branch
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin")


def fetch(project: Project, branch: str) -> None:
    """Bring in the commits of a branch of the remote; no branch of this clone moves."""
    run(project, *_FETCH, f"+refs/heads/{branch}:refs/ratchet/origin/{branch}")


def push(project: Project, commit: str, *, branch: str, expect: str | None) -> None:
    """Put a branch of the remote at ``commit`` if it still is at ``expect`` (None: not there)."""
    lease = f"--force-with-lease=refs/heads/{branch}:{expect or ''}"
    run(project, "push", "--quiet", lease, "origin", f"{commit}:refs/heads/{branch}")


def ledger_tip(project: Project) -> str:
    """The commit of the branch ratchet/ledger."""
    return run(project, "rev-parse", "--verify", Ref.LEDGER.value).text


def push_ledger(project: Project, *, skill: str) -> None:
    """Publish the ledger's branches; what others published meanwhile stays.

    Each skill has a folder of its own, and one job at a time works on a skill. So where the remote
    has moved, this skill's files go on top of what is there.

    Raises:
        RatchetError: The remote has other versions of this skill's files, or refuses.
    """
    for ref in Ref:
        if run(project, "for-each-ref", ref.value).text:
            _push_ref(project, ref, skill=skill)


def _push_ref(project: Project, ref: Ref, *, skill: str) -> None:
    name = ref.removeprefix("refs/heads/")
    theirs = f"refs/ratchet/origin/{name}"
    for _ in range(TRIES):
        pushed = run(project, "push", "--quiet", "origin", f"{ref}:{ref}", ok=range(256))
        if pushed.status == 0:
            return
        if not run(project, "ls-remote", "origin", ref.value).text:
            break
        fetch(project, name)
        if run(project, "merge-base", "--is-ancestor", theirs, ref.value, ok=(0, 1)).status == 0:
            break  # it was not refused for being behind
        _put_on_top(project, ref, theirs=theirs, skill=skill)
    raise RatchetError(
        f"Branch {name} could not be published: {pushed.error.strip()}",
        hint="Run this job again; what was measured is in its bundle.",
    )


def _put_on_top(project: Project, ref: Ref, *, theirs: str, skill: str) -> None:
    """Move a branch of the ledger to the remote's tip with this skill's new files in it."""
    # Nothing in common is two first publications at once.
    base = run(project, "merge-base", ref.value, theirs, ok=(0, 1)).text or EMPTY
    ours = _changes(project, base, ref.value)
    clash = sorted(ours.keys() & _changes(project, base, theirs).keys())
    outside = sorted(path for path in ours if not path.startswith((f"{skill}/", "README.md")))
    if outside or any(path != "README.md" for path in clash):
        raise RatchetError(
            f"Both this clone and the remote changed {(clash or outside)[0]} of the ledger.",
            hint="Two jobs worked on one skill. Run the job again from the start.",
        )
    lines = "".join(f"{entry}\t{path}\0" for path, entry in ours.items() if path not in clash)
    with tempfile.TemporaryDirectory(prefix="ratchet-index-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        run(project, "read-tree", theirs, env=index)
        run(project, "update-index", "-z", "--index-info", stdin=lines.encode(), env=index)
        tree = run(project, "write-tree", env=index).text
    name, _, mail = AUTHOR.rstrip(">").partition(" <")
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", name), ("EMAIL", mail))
    }
    message = f"{skill}: published\n"
    make = ("commit-tree", "--no-gpg-sign", "-p", theirs, tree)
    commit = run(project, *make, stdin=message.encode(), env=who).text
    run(project, "update-ref", ref.value, commit, run(project, "rev-parse", ref.value).text)


def _changes(project: Project, old: str, new: str) -> dict[str, str]:
    """What differs: by path, the mode and object as ``update-index --index-info`` takes them."""
    fields = run(project, "diff-tree", "-r", "-z", "--no-renames", old, new).fields
    entries = zip(fields[::2], fields[1::2], strict=True)
    return {path: f"{info.split()[1]} {info.split()[3]} 0" for info, path in entries}
