"""One branch, read and written with git plumbing: no checkout, no index, no hooks, no signing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from skill_ratchet.base import git
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.project.proposal import FORMER, NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from skill_ratchet.base.git import Member, Output

AUTHOR = str(NOBODY)
# Who a commit of the ledger's may be by: versions before wrote an address that is a stranger's.
AUTHORS = frozenset({AUTHOR, str(FORMER)})
_RACE = re.compile(r"Not updating|\.lock': File exists")
_GIT_SETTINGS = (
    "core.hooksPath=/dev/null",  # reference-transaction and the like are the user's, not ours
    "core.quotePath=false",
    # Each flush a pack: 100 loose files cost twice the time and five times the space.
    "fastimport.unpackLimit=1",
)
MANY = 30  # small packs; git itself would begin to pack everything anew at 50
SMALL = 4_000_000  # bytes of a pack that is joined with others; a larger one is left as it is


class LostRaceError(Exception):
    """Another writer moved the branch first; nothing was written."""


class GitRef:
    """The branch ``ref`` (a full name) of the repository at ``common_dir``, and no other."""

    def __init__(self, common_dir: Path, ref: str) -> None:
        self.common_dir = common_dir
        self.ref = ref
        self._children: dict[str, tuple[str, Mapping[str, str]]] = {}  # and at which tip

    def tip(self) -> str | None:
        """The commit the branch points at, or None when it does not exist."""
        return git.tip(self.common_dir, self.ref)

    def children(self, folder: str) -> Mapping[str, str]:
        """Object ids of what is directly inside ``folder`` ('' for the top), by name.

        The same mapping as long as the branch has not moved.
        """
        tip = self.tip()
        known, found = self._children.get(folder, ("", {}))
        if tip is None:
            return {}
        if tip != known:
            entries = self._folders(tip, [folder])[folder]
            found = {name: member.oid for name, member in entries.items()}
            self._children[folder] = tip, found
        return found

    def paths(self, folder: str) -> list[str]:
        """Every file at any depth below ``folder`` ('' for the whole branch)."""
        tip = self.tip()
        if tip is None:
            return []
        if folder and self._folders(tip, [folder]) == {folder: {}}:
            return []
        below = git.files_below(self.common_dir, f"{tip}:{folder}")
        if below is None:
            raise self._lost(f"{tip}:{folder}")
        return [f"{folder}/{path}" if folder else path for path in below]

    def grep(self, needle: str, folder: str) -> list[str]:
        """The files below ``folder`` that contain ``needle``, which is taken literally."""
        tip = self.tip()
        if tip is None:
            return []
        search = (
            "--no-recurse-submodules",
            "--full-name",
            "-zlaFe",
            needle,
            tip,
            "--",
            f":(top,literal){folder}/",
        )
        done = self._try("-c", "color.ui=false", "grep", *search)
        if done.status > 1:  # 1: nothing found
            raise self._failed("grep", done)
        found = done.raw.decode(errors="replace").split("\0")[:-1]
        return [path.removeprefix(f"{tip}:") for path in found]

    def read(self, paths: Iterable[str]) -> dict[str, str]:
        """The texts of those of ``paths`` that exist."""
        wanted = [(path, *path.rpartition("/")[::2]) for path in paths]
        tip = self.tip()
        if tip is None or not wanted:
            return {}
        # Looking each folder up once is what keeps this quick: a path is resolved from the root,
        # through the tree of all experiments, every time.
        folders = self._folders(tip, list(dict.fromkeys(folder for _, folder, _ in wanted)))
        listed = {
            path: folders[folder][leaf].oid
            for path, folder, leaf in wanted
            if leaf in folders[folder]
        }
        texts = self._blobs(listed.items())
        self._require(oid for path, oid in listed.items() if path not in texts)
        return texts

    def leaves(self, trees: Mapping[str, str], leaf: str) -> dict[str, str]:
        """The text of the file ``leaf`` in each of these trees, by their names."""
        texts = self._blobs((name, f"{oid}:{leaf}") for name, oid in trees.items())
        without = [oid for name, oid in trees.items() if name not in texts]
        for oid, tree in zip(without, git.read_objects(self.common_dir, without), strict=True):
            if tree is None:
                raise self._lost(oid)
            if (member := git.members_of(tree).get(leaf)) is not None:
                self._require([member.oid])
        return texts

    def commit(self, files: Mapping[str, str], *, message: str, at: int, onto: str | None) -> None:
        """Add one commit with ``files`` to the branch if it still points at ``onto``.

        Raises:
            LostRaceError: It points elsewhere, or another process is just writing it.
        """
        who = f"{AUTHOR} {at} +0000\n"
        parts = [f"commit {self.ref}\nauthor {who}committer {who}".encode(), _data(message)]
        parts += [f"from {onto}\n".encode()] if onto else []
        for path, text in sorted(files.items()):
            parts += [f"M 100644 inline {path}\n".encode(), _data(text)]
        # Without --force, fast-import moves a branch only to a descendant of where it is.
        command = ("fast-import", "--quiet", "--done", "--date-format=raw")
        done = self._try(*command, stdin=b"".join([*parts, b"done\n"]))
        if done.status and (_RACE.search(done.error) or self.tip() != onto):
            raise LostRaceError(done.error.strip())
        if done.status:
            raise self._failed("fast-import", done)

    def join_packs(self) -> bool:
        """Make one pack of the small ones, once there are many: a command looks into each of them.

        A pack that became large is never touched again, so this takes about as long after the
        10,000th experiment as after the first. Nothing is lost, reachable or not. Where it fails,
        as beside a ``git gc``, everything is as it was, and the next flush tries again.

        Returns:
            Whether there was something to do.
        """
        packs = [*(self.common_dir / "objects" / "pack").glob("*.pack")]
        sizes = {pack.name: _size(pack) for pack in packs}
        if sum(size < SMALL for size in sizes.values()) <= MANY or self._is_partial():
            return False
        left = [f"--keep-pack={name}" for name, size in sizes.items() if size >= SMALL]
        self._try("-c", "repack.writeBitmaps=false", "repack", "-qdn", "--geometric=2", *left)
        return True

    def _is_partial(self) -> bool:
        """Whether objects were left out of this clone: git joins none of its packs with others."""
        asked = ("config", "--get-regexp", r"^remote\..*\.promisor$")
        return self._try(*asked).status == 0

    def refuse_unwritable(self) -> None:
        """Check that nothing of the user's is in the way of writing the branch.

        Raises:
            RatchetError: A worktree has it checked out, or a branch is named like its folder.
        """
        name = self.ref.removeprefix("refs/heads/")
        if worktree := self._checked_out_in():
            raise RatchetError(
                f"branch {name} is checked out in {worktree}, so Ratchet cannot write it",
                hint=f"Run `git switch -` there; to read it, use `git log {name}`.",
            )
        folder = self.ref.rpartition("/")[0]
        if git.tip(self.common_dir, folder):
            raise RatchetError(
                f"branch {folder.removeprefix('refs/heads/')} is in the way of branch {name}",
                hint="Rename it with `git branch -m`: git cannot have both.",
            )

    def _checked_out_in(self) -> str | None:
        listing = self._run("worktree", "list", "--porcelain").decode(errors="replace")
        for worktree in listing.split("\n\n"):
            lines = worktree.split("\n")
            if f"branch {self.ref}" in lines:
                return lines[0].removeprefix("worktree ")
        return None

    def _folders(self, tip: str, folders: list[str]) -> dict[str, dict[str, Member]]:
        """What is directly in each of these folders of a commit; nothing where there is none."""
        names = [f"{tip}:{folder}" for folder in folders]
        found = git.read_objects(self.common_dir, names)
        for folder, one in zip(folders, found, strict=True):
            if one is None:
                self._require_absent(tip, folder)
        return {
            folder: git.members_of(one) if one else {}
            for folder, one in zip(folders, found, strict=True)
        }

    def _require_absent(self, tip: str, folder: str) -> None:
        """Check that a folder that was not found is in no other: git says the same of a lost one.

        Raises:
            RatchetError: It is lost, or one that it lies in.
        """
        name, parts = f"{tip}^{{tree}}", [part for part in folder.split("/") if part]
        while at := git.read_object(self.common_dir, name):
            member = git.members_of(at).get(parts.pop(0)) if parts else None
            if member is None:
                return
            name = member.oid
        raise self._lost(name)

    def _require(self, oids: Iterable[str]) -> None:
        """Check that what a folder lists is there: a record that is lost is not one that is not."""
        names = list(oids)
        for name, found in zip(names, git.read_objects(self.common_dir, names), strict=True):
            if found is None:
                raise self._lost(name)

    def _blobs(self, wanted: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Texts by name, of those that are there; ``wanted`` is (name, what git calls it)."""
        names = dict(wanted)
        found = git.read_objects(self.common_dir, list(names.values()))
        return {
            name: one.data.decode("utf-8")
            for name, one in zip(names, found, strict=True)
            if one is not None and one.kind == "blob"
        }

    def _run(self, *args: str, stdin: bytes = b"") -> bytes:
        done = self._try(*args, stdin=stdin)
        if done.status:
            raise self._failed(args[0], done)
        return done.raw

    def _try(self, *args: str, stdin: bytes = b"") -> Output:
        settings = [word for setting in _GIT_SETTINGS for word in ("-c", setting)]
        command = (f"--git-dir={self.common_dir}", *settings, *args)
        return git.execute(self.common_dir, command, stdin=stdin)

    def _lost(self, name: str) -> RatchetError:
        return RatchetError(
            f"{self.ref} cannot be read: {self.common_dir} has no sound object {name}",
            hint="Run 'git fsck'; in a partial clone, 'git fetch --refetch'.",
        )

    def _failed(self, command: str, done: Output) -> RatchetError:
        return RatchetError(
            f"git {command} failed on {self.ref}: {done.error.strip() or f'status {done.status}'}",
            hint=f"Nothing is lost: unwritten records wait in {self.common_dir}/ratchet/journal.",
        )


def _size(file: Path) -> int:
    """Its bytes; 0 where it went away."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _data(text: str) -> bytes:
    content = text.encode("utf-8")
    return b"data %d\n%s\n" % (len(content), content)
