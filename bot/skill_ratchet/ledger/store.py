"""A key-value store on two orphan branches, with a journal in front of each."""

from __future__ import annotations

import re
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.git import locate
from skill_ratchet.ledger.gitref import GitRef, LostRaceError
from skill_ratchet.ledger.journal import Journal, JournalView, read_journal
from skill_ratchet.ledger.locks import FileLock, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from skill_ratchet.base.redact import Redactor

T = TypeVar("T")
_ATTEMPTS = 5  # our own writers queue for a lock; only a fetch or a person can get in between
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,189}[A-Za-z0-9_-])?")
# Files end so and folders do not, so no file can ever take a folder's place.
_SUFFIXES = (".json", ".txt", ".diff", ".md", ".svg")
BADGE = "badge.svg"  # in a skill's folder on the ledger


class Ref(StrEnum):
    """The two branches; nothing a proposer is given can reach the second."""

    LEDGER = "refs/heads/ratchet/ledger"
    HOLDOUT = "refs/heads/ratchet/holdout"

    @property
    def branch(self) -> str:
        """Its short name."""
        return self.removeprefix("refs/heads/")


README = "README.md"
READMES = {
    Ref.LEDGER: """\
# Ratchet's ledger

Written by Ratchet, one commit at a time; please do not edit or merge this branch.
It shares no history with your code, and nothing here is ever checked out.

For each skill:

- `incumbents/<digest>/`: a text the skill has had (`skill.txt`) and its kept runs on
  the train fixtures (`traces/`).
- `experiments/<id>/`: one proposed edit (`experiment.json`, `candidate.txt`, `candidate.diff`),
  what became of it (`result.json`, `landed.json`, `reverted.json`), every model call made for it
  on the train fixtures (`traces/`) and by the proposer (`proposer/`).
- `transfers/<id>/`: two texts on several models over the train fixtures (`transfer.json`).
- `runs/`: what every run spent, and how it ended. `notes/`: what people said of proposals.
- `badge.svg`: the score on train and the last merge, for a README.
- `corrections/`: what people said should have been answered. `settled/`: which of that became
  fixtures, or was declined.

A trace is one model call kept whole: request, response, score, cost. Nothing is shortened, except
that secrets found in Ratchet's environment are replaced by `[redacted:NAME]`.
""",
    Ref.HOLDOUT: """\
# Ratchet's sealed records

Written by Ratchet, one commit at a time; please do not edit or merge this branch.
It shares no history with your code, and nothing here is ever checked out.

Here is everything that touches a held-out fixture: the traces of confirm runs and the evidence
that decided each experiment (`confirm.json`), and what an old and a new text came to on several
models (`transfer.json`). Whatever writes new proposals never reads this
branch. Do not paste from it into a skill, a train fixture, an issue or a pull request: a skill that
has seen the exam proves nothing by passing it.
""",
}


class Reader:
    """Reads one branch as it will be when everything put so far is written."""

    def __init__(self, common_dir: Path, ref: Ref) -> None:
        # A plain string: from an enum's member one gets to the other member.
        self.ref = ref.value
        self._git = GitRef(common_dir, self.ref)
        self._journals = JournalView(journal_folder(common_dir, ref))
        # What was read of the folders in a folder, and which trees they were then.
        self._parsed: dict[tuple[str, str], tuple[Mapping[str, str], dict[str, Any]]] = {}

    def get(self, path: str) -> str | None:
        """The text at ``path``, or None."""
        return self.read_many([path]).get(path)

    def read_many(self, paths: Iterable[str]) -> dict[str, str]:
        """The texts of those of ``paths`` that exist, in one go."""
        wanted = [check_path(path) for path in dict.fromkeys(paths)]
        # Journals first: what is folded into git in between is then found there.
        journaled = self._journals.entries()
        texts = self._git.read(path for path in wanted if path not in journaled)
        return texts | {path: journaled[path] for path in wanted if path in journaled}

    def skills(self) -> list[str]:
        """Names of the folders at the top, sorted."""
        found = {path.split("/")[0] for path in self._journals.entries()} | {
            *self._git.children("")
        }
        return sorted(name for name in found if _is_folder(name))

    def children(self, folder: str) -> list[str]:
        """Names of what is directly inside ``folder``, sorted."""
        journaled = self._below(_check_folder(folder))
        return sorted({rest.split("/")[0] for rest in journaled} | {*self._git.children(folder)})

    def leaves(self, folder: str, leaf: str, parse: Callable[[str, str], T]) -> dict[str, T]:
        """``parse(text, path)`` of the file ``leaf`` in each folder directly below ``folder``.

        By the folder's name. What a folder gave is kept for as long as the folder is as it was, so
        looking again does not take longer the more folders there are. One leaf has one ``parse``.
        """
        journaled = self._below(_check_folder(folder))
        values = self._in_git(folder, leaf, parse)
        for rest, text in journaled.items():
            name, _, file = rest.partition("/")
            if file == leaf:
                values[name] = parse(text, f"{folder}/{rest}")
        return values

    def _in_git(self, folder: str, leaf: str, parse: Callable[[str, str], T]) -> dict[str, T]:
        before, kept = self._parsed.get((folder, leaf), ({}, {}))
        trees = self._git.children(folder)
        if trees is not before:
            same = {name for name, oid in trees.items() if before.get(name) == oid}
            new = {name: oid for name, oid in trees.items() if name not in same}
            texts = self._git.leaves(new, leaf)
            kept = {name: value for name, value in kept.items() if name in same}
            kept |= {name: parse(text, f"{folder}/{name}/{leaf}") for name, text in texts.items()}
            self._parsed[folder, leaf] = trees, kept
        return {**kept}

    def grep(self, needle: str, folder: str) -> list[str]:
        """The files below ``folder`` that contain ``needle``, sorted; no text is loaded for it."""
        journaled = self._below(_check_folder(folder))
        found = {*self._git.grep(needle, folder)}
        found |= {f"{folder}/{rest}" for rest, text in journaled.items() if needle in text}
        return sorted(found)

    def _below(self, folder: str) -> dict[str, str]:
        start = f"{folder}/"
        entries = self._journals.entries().items()
        return {path.removeprefix(start): data for path, data in entries if path.startswith(start)}

    def list(self, prefix: str = "") -> list[str]:
        """Every path that begins with ``prefix``, sorted."""
        folder = prefix.rpartition("/")[0]
        if folder:
            _check_folder(folder)
        journaled = [path for path in self._journals.entries() if path.startswith(prefix)]
        paths = [path for path in self._git.paths(folder) if path.startswith(prefix)]
        return sorted({*journaled, *paths}) if journaled else sorted(paths)


class Store:
    """Both branches of a repository, written through a journal that survives a killed process.

    For one thread. ``put`` returns when the operating system has the data; ``flush`` makes
    commits. Any number of processes and worktrees may use one repository at the same time.

    Args:
        repo_path: The repository, a folder in it, or one of its worktrees; bare or not.
        redactor: Goes over every text before it is written anywhere.
        clock: Seconds since the epoch, for the commits' dates.
    """

    def __init__(
        self, repo_path: Path, *, redactor: Redactor, clock: Callable[[], float] = time.time
    ) -> None:
        self.common_dir = locate(repo_path).common_dir
        self._redactor = redactor
        self._clock = clock
        self._readers = {ref: Reader(self.common_dir, ref) for ref in Ref}
        self._journals = {ref: Journal(journal_folder(self.common_dir, ref)) for ref in Ref}
        self._checked: set[Ref] = set()

    def reader(self, ref: Ref) -> Reader:
        """A view of one branch that cannot reach the other."""
        return self._readers[ref]

    def get(self, ref: Ref, path: str) -> str | None:
        """The text at ``path``, or None."""
        return self._readers[ref].get(path)

    def read_many(self, ref: Ref, paths: Iterable[str]) -> dict[str, str]:
        """The texts of those of ``paths`` that exist, in one go."""
        return self._readers[ref].read_many(paths)

    def list(self, ref: Ref, prefix: str = "") -> list[str]:
        """Every path that begins with ``prefix``, sorted."""
        return self._readers[ref].list(prefix)

    def put(self, ref: Ref, path: str, data: str) -> None:
        """Keep ``data``, redacted, at ``path``; from here on nothing but the disk can lose it.

        Raises:
            RatchetError: The path is not allowed, the text is not Unicode, the branch is checked
                out somewhere, or the repository cannot be written.
        """
        if self._redactor.redact(check_path(path)) != path:
            raise RatchetError("a ledger path would contain a secret; rename the fixture or skill")
        if ref not in self._checked:  # early, before a run has spent money
            GitRef(self.common_dir, ref.value).refuse_unwritable()
            self._checked.add(ref)
        self._journals[ref].append(path, _encodable(self._redactor.redact(data), path))

    def flush(self, message: str) -> None:
        """Fold everything put so far, and what dead processes left, into the branches.

        One commit per branch that changes, the holdout's first, so that a verdict on the ledger
        always has its evidence. A journal goes away only once its commit is there; folding it
        again changes nothing.

        Raises:
            RatchetError: git cannot write; the journals are kept for the next flush.
        """
        queue = self._queue()
        try:
            for ref in (Ref.HOLDOUT, Ref.LEDGER):
                self._fold(ref, self._redactor.redact(message))
            GitRef(self.common_dir, Ref.LEDGER.value).join_packs()
        finally:
            queue.release()

    def _queue(self) -> FileLock:
        """Wait for our turn: without it, two busy writers could lose races for ever."""
        folder = self.common_dir / "ratchet" / "journal"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            queue = FileLock.take(folder / "flush.lock", wait=True)
        assert queue is not None  # noqa: S101  it waits, and nobody removes the file
        return queue

    def _fold(self, ref: Ref, message: str) -> None:
        journals = self._journals[ref].claim()
        try:
            entries: dict[str, str] = {}
            for journal in journals:
                entries |= read_journal(journal.path)[0]
            if entries:
                self._commit(ref, entries, message)
            with writing(self.common_dir):
                for journal in journals:
                    journal.path.unlink()
        finally:
            for journal in journals:
                journal.release()

    def _commit(self, ref: Ref, entries: Mapping[str, str], message: str) -> None:
        git = GitRef(self.common_dir, ref.value)
        problem = ""
        for _ in range(_ATTEMPTS):
            git.refuse_unwritable()
            onto = git.tip()
            there = git.read([*entries, README])
            new = {path: data for path, data in entries.items() if there.get(path) != data}
            if not new:
                return None
            if README not in there:
                new[README] = READMES[ref]
            try:
                return git.commit(new, message=message, at=int(self._clock()), onto=onto)
            except LostRaceError as race:
                problem = str(race)
        raise RatchetError(
            f"{ref} was moved by something else {_ATTEMPTS} times in a row: {problem}",
            hint="Run again when no other git command is busy with it; nothing is lost.",
        )


def journal_folder(common_dir: Path, ref: Ref) -> Path:
    """Where the journals of one branch are; the other's are never opened with them."""
    return common_dir / "ratchet" / "journal" / ref.rpartition("/")[2]


def check_path(path: str) -> str:
    """``path`` if it is a relative POSIX path of plain ASCII names to a file in a folder.

    Raises:
        RatchetError: It is not.
    """
    folder, _, name = path.rpartition("/")
    if not name.endswith(_SUFFIXES) or not _NAME.fullmatch(name):
        raise RatchetError(f"{path!r} cannot be a path in the ledger")
    _check_folder(folder)
    return path


def _check_folder(folder: str) -> str:
    if not all(map(_is_folder, folder.split("/"))):
        raise RatchetError(f"{folder!r} cannot be a folder in the ledger")
    return folder


def _is_folder(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not name.endswith(_SUFFIXES)


def _encodable(data: str, path: str) -> str:
    try:
        data.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RatchetError(f"the text for {path} is not valid Unicode: {error}") from error
    return data
