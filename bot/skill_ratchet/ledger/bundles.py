"""What one job hands to the next: a folder with a manifest and a git bundle of the ledger.

``write`` makes it, ``read`` checks everything about it and changes nothing, ``apply`` brings the
ledger's branches up to what was checked. The format and every reason to refuse one is in
docs/design/github.md.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from skill_ratchet.base import documents
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import edits, gate, leaks
from skill_ratchet.core import transfer as transfers
from skill_ratchet.core.facts import Recorded  # noqa: TC001 - pydantic needs it at run time
from skill_ratchet.core.gate import Action, Verdict
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import (
    Digest,
    Experiment,
    Record,
    Result,
    Run,
    Setting,
    Trace,
    experiment_id,
)
from skill_ratchet.core.transfer import Transfer
from skill_ratchet.ledger import Ref, access, admission, quarantine, replay
from skill_ratchet.ledger.gitref import AUTHORS, GitRef
from skill_ratchet.project import fixtures, repository, skill_file, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from skill_ratchet.core.records import Evidence, Pair, Text
    from skill_ratchet.ledger.quarantine import Commit, Quarantine
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
REFS: Final = "refs.bundle"
VERDICT: Final = "verdict.json"

Kind = Literal["proposal", "confirmation", "transfer"]
_REFS: Final[dict[Kind, tuple[Ref, ...]]] = {
    "proposal": (Ref.LEDGER,),
    "confirmation": (Ref.LEDGER, Ref.HOLDOUT),
    "transfer": (Ref.LEDGER, Ref.HOLDOUT),
}
_MESSAGE: Final = r"[A-Za-z0-9 :._-]{1,200}\n?"


class BundleLimits(Record):
    """How large a bundle may be; more is refused before it is unpacked or read."""

    manifest: int = 64_000  # bytes
    verdict: int = 16_000_000  # bytes
    refs: int = 200_000_000  # bytes of the git bundle
    objects: int = 400_000  # in it
    commits: int = 10_000  # of one branch
    record: int = 32_000_000  # bytes of one file of the ledger
    records: int = 200_000  # files that change on one branch
    total: int = 2_000_000_000  # bytes of them


LIMITS: Final = BundleLimits()


class Manifest(Record):
    """What a bundle is, and what it was made from. ``experiment`` is None without a candidate.

    ``transfer`` is the id of the one that a transfer bundle is about. ``refs`` says where each
    branch is to be, ``files`` the SHA-256 of every other file.
    """

    format: Literal[1] = FORMAT
    kind: Kind
    skill: str
    parent: Digest  # the incumbent's text
    setting: Setting  # base, branch, and the digests of fixtures, config, rules and evaluator
    experiment: Digest | None
    candidate: Digest | None
    transfer: Digest | None = None
    refs: dict[Ref, Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]]
    files: dict[str, Digest]


class Decision(Record):
    """What the confirm run came to, as ``verdict.json`` holds it."""

    experiment: Digest
    candidate: Digest
    evidence: Recorded
    verdict: Verdict


class OvertakenError(RatchetError):
    """Another job has written records of the same skill since the bundle was begun."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What is kept of a bundle that was overtaken: what it looked at, and what it has paid for."""

    experiment: Experiment
    text: Text
    traces: tuple[Trace, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """A bundle that may be used: everything of it, read once.

    ``moves`` are the branches that are not yet where it says: from where (None: not there), to
    where. ``decision`` is that of a confirmation; None when nothing was decided. ``transfer`` is
    what a transfer bundle is about.
    """

    manifest: Manifest
    experiment: Experiment | None
    candidate: Text | None
    decision: Decision | None
    moves: Mapping[Ref, tuple[str | None, str]]
    pack: bytes | None = field(repr=False)
    transfer: Transfer | None = None


# Writing --------------------------------------------------------------------------------------


def require_new(folder: Path) -> None:
    """Raise RatchetError when ``folder`` is there and holds something."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise RatchetError(
            f"{folder} is there already, so no bundle is written to it.",
            hint="Name a folder that does not exist, or an empty one.",
        )


def write(
    folder: Path,
    space: Workspace,
    *,
    kind: Kind,
    experiment: Experiment | None,
    decision: Decision | None = None,
    by_person: bool = False,
    transfer: Transfer | None = None,
) -> Manifest:
    """Write a bundle of what the ledger has that no remote of this clone has.

    Args:
        folder: Missing or empty.
        space: What it was made from. The ledger must be flushed.
        kind: Whose work it is.
        experiment: The one to go on with; None when there is none.
        decision: What was decided about it.
        by_person: A person made the edit, not the proposer of the settings.
        transfer: What a transfer bundle is about.
    """
    access.adopt(space.project)
    tips = {ref: tip for ref in _REFS[kind] if (tip := access.ledger_tip(space.project, ref))}
    bring = [ref for ref in tips if _is_news(space.project, ref)]
    with filled(folder) as made:
        if bring:
            create = ("bundle", "create", "--quiet", "--version=2", str(made / REFS))
            known = (f"--remotes=*/{ref.branch}" for ref in bring)
            repository.run(space.project, *create, *bring, "--not", *known)
        if decision is not None:
            (made / VERDICT).write_text(_json(decision), encoding="utf-8")
        manifest = Manifest(
            kind=kind,
            skill=space.name,
            parent=space.text.digest,
            setting=space.setting(by_person=by_person),
            experiment=experiment.id if experiment else None,
            candidate=experiment.candidate if experiment else None,
            transfer=transfer.id if transfer else None,
            refs=tips,
            files=digests(made),
        )
        (made / MANIFEST).write_text(_json(manifest), encoding="utf-8")
    return manifest


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """A folder to write to, which becomes ``folder`` at the end; that is missing or empty.

    It is filled beside its place: one with that name is whole, whenever this process is killed.
    """
    require_new(folder)
    made = folder.resolve().with_name(f".{folder.resolve().name}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    yield made
    made.rename(folder)


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a folder, by its name."""
    return {file.name: _sha256(file.read_bytes()) for file in sorted(folder.iterdir())}


def _is_news(project: Project, ref: Ref) -> bool:
    """Whether the branch has a commit that no remote has."""
    asked = ("rev-list", "--max-count=1", ref, "--not", f"--remotes=*/{ref.branch}")
    return bool(repository.run(project, *asked).text)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(record: Record) -> str:
    return f"{record.model_dump_json(indent=2)}\n"


# Reading --------------------------------------------------------------------------------------


def read_manifest(folder: Path, *, kind: Kind, limits: BundleLimits = LIMITS) -> Manifest:
    """The manifest alone, to know what the rest has to be compared with.

    Raises:
        RatchetError: There is none, or it is of another kind or format.
    """
    manifest: Manifest = parse_file(
        Manifest, read_file(folder, MANIFEST, most=limits.manifest), MANIFEST
    )
    if manifest.kind != kind:
        raise RatchetError(f"{folder} is a {manifest.kind} bundle; a {kind} bundle is needed.")
    return manifest


def read(
    folder: Path,
    space: Workspace,
    *,
    kind: Kind,
    limits: BundleLimits = LIMITS,
    by_person: bool = False,
) -> Checked:
    """Check a bundle against the base commit and the ledger as they are here.

    Nothing is changed. What is returned was read once and is what was checked, whatever becomes of
    the folder.

    Args:
        folder: The bundle.
        space: The skill at the base commit, with its held-out cases.
        kind: What it has to be.
        limits: How large it may be.
        by_person: It has to be about a person's edit, which frozen parts do not bind and which
            only a person merges; without it, it must not be.

    Raises:
        RatchetError: Anything in it is not as docs/design/github.md says.
    """
    manifest = read_manifest(folder, kind=kind, limits=limits)
    files = _files(folder, manifest, limits)
    _check_origin(manifest, space, by_person=by_person)
    tips = {ref: access.ledger_tip(space.project, ref) for ref in Ref}
    moves = {ref: (tips[ref], new) for ref, new in manifest.refs.items() if tips[ref] != new}
    packed = _packed(files, manifest, space, limits)
    with _unpacked(packed, space, limits) as apart:
        moves = {
            ref: (old, new)
            for ref, (old, new) in moves.items()
            if not (old and _is_used(apart, new, here=old, skill=manifest.skill))
        }
        _check_moves(moves, tips, apart, space, limits, kind=kind)
        inside = _Inside(manifest, apart)
        experiment, candidate = _proposed(inside, space, by_person=by_person)
        decision = None
        if VERDICT in files:
            decision = parse_file(Decision, files[VERDICT], VERDICT)
            said = experiment.proposal.hypothesis if experiment else ""
            _check_known(decision.evidence, space, said=(candidate.text if candidate else "", said))
            _check_decision(decision, inside, space)
        transfer = _transferred(inside, space) if kind == "transfer" else None
    pack = packed.pack if packed and moves else None
    return Checked(manifest, experiment, candidate, decision, moves, pack, transfer)


def _packed(
    files: Mapping[str, bytes], manifest: Manifest, space: Workspace, limits: BundleLimits
) -> quarantine.Packed | None:
    """The records that a bundle has, checked as a whole; None where it has none."""
    if REFS not in files:
        return None
    packed = quarantine.take_apart(files[REFS])
    _check_packed(packed, manifest, limits)
    _require_ground(packed, space.project)
    return packed


def _unpacked(
    packed: quarantine.Packed | None, space: Workspace, limits: BundleLimits
) -> AbstractContextManager[Quarantine]:
    """The records' objects beside the repository's own, for as long as they are looked at."""
    pack = packed.pack if packed else None
    return quarantine.unpacked(space.project, pack, object_size=2 * limits.record)


def remains(
    folder: Path, space: Workspace, *, limits: BundleLimits = LIMITS, by_person: bool = False
) -> Remains | None:
    """What counts of a confirmation bundle whatever others wrote; None when it has not looked.

    Its verdict does not: which look it was is not known before it is written down. Every record is
    checked as ``read`` does, but for what was written here since.

    Raises:
        RatchetError: Anything in it is not as docs/design/github.md says.
    """
    manifest = read_manifest(folder, kind="confirmation", limits=limits)
    files = _files(folder, manifest, limits)
    _check_origin(manifest, space, by_person=by_person)
    packed = _packed(files, manifest, space, limits)
    with _unpacked(packed, space, limits) as apart:
        inside = _Inside(manifest, apart)
        experiment, text = _proposed(inside, space, by_person=by_person)
        looked = inside.record(Ref.HOLDOUT, "confirm.json", Confirmation)
        if experiment is None or text is None or looked is None:
            return None
        sealed = admission.Sealed.of((*space.holdout, *space.vault), train=space.train)
        own = partial(inside.admitted, sealed=sealed, limits=limits)
        traces = [one for ref in Ref for one in own(ref, Trace, start=f"{inside.home}/")]
        runs = own(Ref.LEDGER, Run, start=f"{inside.skill}/runs/")
        return Remains(experiment, text, tuple(traces), tuple(runs))


def apply(checked: Checked, space: Workspace) -> None:
    """Move the ledger's branches to where a checked bundle has them, both or neither.

    Where others wrote a branch since the bundle was begun, its records go on top of theirs.

    Raises:
        RatchetError: One is checked out, or has moved since it was checked.
    """
    if not checked.moves:
        return
    access.adopt(space.project)
    for ref in checked.moves:
        GitRef(space.project.common_dir, ref.value).refuse_unwritable()
    if checked.pack is not None:
        quarantine.unpack(space.project, checked.pack)
    updates = [
        f"update {ref} {_joined(ref, old, new, space)} {old or quarantine.ABSENT}"
        for ref, (old, new) in checked.moves.items()
    ]
    order = "\n".join(["start", *updates, "prepare", "commit", ""])
    repository.run(space.project, "update-ref", "--no-deref", "--stdin", stdin=order.encode())


def _joined(ref: Ref, old: str | None, new: str, space: Workspace) -> str:
    if old is None:
        return new
    return replay.put_on_top(space.project, ref, new, here=old, skill=space.name)


# The folder


def read_file(folder: Path, name: str, *, most: int) -> bytes:
    """A regular file of the folder, of at most so many bytes, and no link.

    Raises:
        RatchetError: It is none, or cannot be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(folder / name, flags)
    except OSError as error:
        raise RatchetError(f"The bundle {folder} has no file {name} that can be read.") from error
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise RatchetError(f"The bundle's {name} is not a file of its own.")
        data = file.read(most + 1)
    if len(data) > most:
        raise RatchetError(f"The bundle's {name} is larger than {most:,} bytes.")
    return data


def _files(folder: Path, manifest: Manifest, limits: BundleLimits) -> dict[str, bytes]:
    """Every file but the manifest, as it says they are."""
    allowed = {REFS: limits.refs}
    if manifest.kind == "confirmation":
        allowed[VERDICT] = limits.verdict
    return read_files(folder, manifest.files, allowed=allowed)


def read_files(
    folder: Path, listed: Mapping[str, str], *, allowed: Mapping[str, int]
) -> dict[str, bytes]:
    """The files of a folder besides its manifest: those it lists, as it lists them.

    Args:
        folder: The bundle.
        listed: The SHA-256 of each, by its name.
        allowed: Which there may be, and how many bytes each may have.

    Raises:
        RatchetError: Any other is there, or one is missing, altered or too large.
    """
    found = {entry.name for entry in os.scandir(folder)} - {MANIFEST}
    if extra := sorted((found | set(listed)) - set(allowed)):
        raise RatchetError(f"The bundle has what does not belong in it: {extra[0]!a}")
    if found != set(listed):
        raise RatchetError("The bundle's files are not those its manifest lists.")
    files = {name: read_file(folder, name, most=allowed[name]) for name in sorted(found)}
    for name, data in files.items():
        if _sha256(data) != listed[name]:
            raise RatchetError(
                f"The bundle's {name} is not the file its manifest lists (SHA-256 differs).",
                hint="Was it cut off on its way? Make it again.",
            )
    return files


def parse_file(kind: type[Any], data: bytes, name: str) -> Any:
    """The record that a file of a bundle holds.

    Raises:
        RatchetError: It holds none of that kind.
    """
    try:
        return kind.model_validate(documents.load_json(documents.decode(data)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise RatchetError(f"The bundle's {name} is wrong: {where!a}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise RatchetError(f"The bundle's {name} is not JSON as Ratchet writes it.") from error


def _check_origin(manifest: Manifest, space: Workspace, *, by_person: bool) -> None:
    """Everything it was made from is what is here."""
    here, there = space.setting(by_person=by_person), manifest.setting
    if manifest.kind == "proposal":
        if there.holdout_digest is not None:
            raise RatchetError("The proposal bundle was made where the held-out cases are.")
        here = here.with_(holdout_digest=None)
    changed = here.differing(there)
    changed += ["skill"] if manifest.skill != space.name else []
    changed += ["parent"] if manifest.parent != space.text.digest else []
    if changed:
        raise RatchetError(
            f"The bundle was made for something else than {space.name} at {space.base[:12]}; "
            f"these differ: {', '.join(sorted(changed))}.",
            hint="Every job must work on the same commit, with the same Ratchet and settings.",
        )
    if (manifest.experiment is None) != (manifest.candidate is None):
        raise RatchetError("The bundle's manifest names an experiment without its candidate.")
    about = manifest.kind == "transfer"
    if (manifest.transfer is not None) != about or (about and manifest.experiment):
        raise RatchetError("The bundle's manifest names what a bundle of its kind is not about.")
    if extra := set(manifest.refs) - set(_REFS[manifest.kind]):
        raise RatchetError(f"A {manifest.kind} bundle may not have {min(extra)}.")


def _check_packed(packed: quarantine.Packed, manifest: Manifest, limits: BundleLimits) -> None:
    if packed.objects > limits.objects:
        raise RatchetError(f"The bundle has more than {limits.objects:,} objects.")
    listed = {ref.value: sha for ref, sha in manifest.refs.items()}
    if not packed.refs.items() <= listed.items():
        raise RatchetError(
            "The bundle's refs.bundle has a ref that its manifest does not have there."
        )


def _require_ground(packed: quarantine.Packed, project: Project) -> None:
    """What the bundle builds on must be here."""
    for commit in packed.needs:
        if repository.run(project, "cat-file", "-e", f"{commit}^{{commit}}", ok=range(256)).status:
            raise RatchetError(
                f"The bundle builds on commit {commit[:12]} of the ledger, which is not here.",
                hint="Fetch the ledger's branches: check out with the whole history "
                "(actions/checkout: 'fetch-depth: 0').",
            )


# The branches


def _is_used(apart: Quarantine, new: str, *, here: str, skill: str) -> bool:
    """Whether a branch has been where the bundle has it, as far as the skill goes."""
    if apart.has(new, newer=here):
        return True
    since = apart.commits_in(skill, here, since=apart.fork(here, new))
    (brought,) = apart.trees([new], skill)
    return brought is not None and brought in apart.trees(since, skill)


def _check_moves(
    moves: Mapping[Ref, tuple[str | None, str]],
    tips: Mapping[Ref, str | None],
    apart: Quarantine,
    space: Workspace,
    limits: BundleLimits,
    *,
    kind: Kind,
) -> None:
    if not moves:
        return
    beside = kind == "transfer"  # what it brings depends on no experiment, and the other way round
    sealed = admission.Sealed.of((*space.holdout, *space.vault), train=space.train)
    forks = dict(tips) | {ref: old and apart.fork(old, new) for ref, (old, new) in moves.items()}
    for ref, (old, _) in moves.items() if not beside else ():
        _check_fork(ref, apart, fork=forks[ref], here=old, skill=space.name)
    files = {ref: apart.files(fork) for ref, fork in forks.items()}
    before = admission.Before(files, lambda sha: next(apart.contents(apart.sizes([sha])))[1])
    for ref, (_, new) in moves.items():
        commits = apart.commits(new, onto=forks[ref], most=limits.commits)
        _check_line(ref, commits, onto=forks[ref])
        check = partial(
            _check_file, ref, before=before, skill=space.name, sealed=sealed, beside=beside
        )
        _check_files(ref, apart, commits, check=check, skill=space.name, limits=limits)


def _check_fork(
    ref: Ref, apart: Quarantine, *, fork: str | None, here: str | None, skill: str
) -> None:
    """What others wrote here since the bundle was begun is about other skills alone.

    So everything that is compared below is the same here as where the bundle was begun.
    """
    if here and replay.overlapping(apart.changed(fork, here), skill=skill):
        raise _elsewhere(ref, OvertakenError)


def _elsewhere(ref: Ref, kind: type[RatchetError] = RatchetError) -> RatchetError:
    return kind(
        f"The bundle's {ref.branch} does not go on from where that branch is here.",
        hint=f"Fetch it ('git fetch origin {ref.branch}'), or push what you have of it; "
        "if another run of this skill has written it since, run again.",
    )


def _check_line(ref: Ref, commits: Sequence[Commit], *, onto: str | None) -> None:
    """One commit on top of the other, the first on what is here, all of them Ratchet's own."""
    onto = onto or ""
    for commit in commits:
        if commit.parents != onto:
            raise _elsewhere(ref)
        onto = commit.sha
        ours = commit.author == commit.committer and commit.author in AUTHORS
        if not ours or not re.fullmatch(_MESSAGE, commit.message):
            raise RatchetError(f"The bundle's commit {commit.sha[:12]} is not one Ratchet made.")


def _check_files(
    ref: Ref,
    apart: Quarantine,
    commits: Sequence[Commit],
    *,
    check: Callable[[admission.RecordPlace, bytes], None],
    skill: str,
    limits: BundleLimits,
) -> None:
    """Every file that any of the commits wrote; none may take one away."""
    changes = set(apart.changes(commits))
    if len(changes) > limits.records:
        raise RatchetError(f"The bundle changes more than {limits.records:,} files of one branch.")
    places: dict[str, list[admission.RecordPlace]] = {}
    for change in sorted(changes):
        if change.how not in ("A", "M") or change.new != quarantine.REGULAR:
            raise RatchetError(
                f"The bundle may only write plain files, and does not at {change.path!a}."
            )
        where = admission.place(ref, change.path, skill=skill)
        places.setdefault(change.blob, []).append(where)
    sizes = apart.sizes(places)
    _check_sizes(sizes, limits)
    for sha, data in apart.contents(sizes):
        for where in places[sha]:
            check(where, data)


def _check_sizes(sizes: Mapping[str, int], limits: BundleLimits) -> None:
    if max(sizes.values(), default=0) > limits.record or sum(sizes.values()) > limits.total:
        raise RatchetError(
            f"The bundle's records are too large: at most {limits.record:,} bytes each and "
            f"{limits.total:,} together."
        )


def _check_file(
    ref: Ref,
    where: admission.RecordPlace,
    data: bytes,
    *,
    before: admission.Before,
    skill: str,
    sealed: admission.Sealed,
    beside: bool,
) -> None:
    if beside and where.match is not None and not replay.is_beside(where.path, skill=skill):
        raise RatchetError(f"A transfer bundle may not write {where.path} on {ref.branch}.")
    admission.check_change(ref, where, data, before)
    admission.check_record(ref, where, data, skill=skill, sealed=sealed)


class _Inside:
    """The records of the bundle's own experiment, as they will be when it is applied."""

    def __init__(self, manifest: Manifest, apart: Quarantine) -> None:
        self.manifest, self._apart = manifest, apart
        self._trees = {ref: apart.files(sha) for ref, sha in manifest.refs.items()}
        self.skill = manifest.skill
        self.home = f"{manifest.skill}/experiments/{(manifest.experiment or '')[:12]}"

    def data(self, ref: Ref, path: str) -> bytes | None:
        """A file."""
        sha = self._trees.get(ref, {}).get(path)
        found = {} if sha is None else dict(self._apart.contents(self._apart.sizes([sha])))
        return found.get(sha or "")

    def record(self, ref: Ref, leaf: str, kind: type[Record]) -> Any:
        """A record of the experiment, or None."""
        path = f"{self.home}/{leaf}"
        data = self.data(ref, path)
        return None if data is None else admission.parse(kind, data, path)

    def all(
        self, ref: Ref, kind: type[Record], *, start: str, end: str, within: str = "/"
    ) -> Iterator[Any]:
        """The records at every path that begins and ends so, and has ``within`` in it."""
        paths = {
            sha: path
            for path, sha in self._trees.get(ref, {}).items()
            if path.startswith(start) and path.endswith(end) and within in path
        }
        for sha, data in self._apart.contents(self._apart.sizes(paths)):
            yield admission.parse(kind, data, paths[sha])

    def admitted(
        self,
        ref: Ref,
        kind: type[Record],
        *,
        start: str,
        sealed: admission.Sealed,
        limits: BundleLimits,
    ) -> list[Any]:
        """The records of a kind at every path that begins so, each what its place says."""
        found = [
            (sha, admission.place(ref, path, skill=self.skill))
            for path, sha in self._trees.get(ref, {}).items()
            if path.startswith(start)
        ]
        wanted = [(sha, where) for sha, where in found if where.kind is kind]
        sizes = self._apart.sizes([sha for sha, _ in wanted])
        _check_sizes(sizes, limits)
        data = dict(self._apart.contents(sizes))
        for sha, where in wanted:
            admission.check_record(ref, where, data[sha], skill=self.skill, sealed=sealed)
        return [admission.parse(kind, data[sha], where.path) for sha, where in wanted]


def _proposed(
    inside: _Inside, space: Workspace, *, by_person: bool
) -> tuple[Experiment | None, Text | None]:
    """The experiment and its text, which is one that the proposer (or a person) might have made."""
    manifest = inside.manifest
    if manifest.experiment is None:
        return None, None
    experiment = inside.record(Ref.LEDGER, "experiment.json", Experiment)
    data = inside.data(Ref.LEDGER, f"{inside.home}/candidate.txt")
    if not isinstance(experiment, Experiment) or data is None:
        raise RatchetError("The bundle's ledger has no such experiment as its manifest names.")
    path, parent = space.skill.path, space.text.digest
    text = workspace.text_of(skill_file.decode(data, path=path))
    named = experiment_id(space.name, parent=parent, candidate=text.digest)
    if (experiment.id, experiment.parent, experiment.candidate) != (named, parent, text.digest):
        raise RatchetError("The bundle's candidate is not the text its experiment was made for.")
    if (manifest.experiment, manifest.candidate) != (experiment.id, experiment.candidate):
        raise RatchetError("The bundle's candidate is not the one its manifest names.")
    if experiment.setting.proposer == workspace.PERSON and not by_person:
        raise RatchetError("The bundle's candidate is a person's; 'ratchet gate' tests those.")
    if refused := objections(text.text, space, by_person=by_person):
        raise RatchetError(f"The bundle's candidate may not be used: {'; '.join(refused)}")
    result = inside.record(Ref.LEDGER, "result.json", Result)
    ended = isinstance(result, Result) and result.finished_at >= experiment.started_at
    if manifest.kind == "proposal" and ended:
        raise RatchetError("The bundle's experiment was decided already: nothing to confirm.")
    return experiment, text


def objections(text: str, space: Workspace, *, by_person: bool) -> list[str]:
    """Why a text may not take the skill's place; a person may change what is frozen.

    Raises:
        RatchetError: It is too long, changes nothing, or has hidden or control characters.
    """
    limits = edits.Limits(max_lines=edits.MAX_BYTES, max_chars=space.skill.max_chars)
    edits.apply(text, (), limits=limits, incumbent=space.text.text)
    path = space.skill.path
    if by_person:
        return skill_file.check(text, path=path)
    before, freeze = space.text.text, space.skill.freeze
    return skill_file.protected_changes(before, text, path=path, freeze=freeze)


# The verdict


def _check_decision(decision: Decision, inside: _Inside, space: Workspace) -> None:
    """The verdict is what the gate says of the evidence, and the evidence is on record."""
    manifest, evidence = inside.manifest, decision.evidence
    named = (manifest.experiment, manifest.experiment, manifest.candidate)
    if (decision.experiment, evidence.experiment, decision.candidate) != named:
        raise RatchetError("The bundle's verdict is about another experiment.")
    tested = evidence.tested == space.binding(head=decision.candidate)
    ids = [tuple(fixture.id for fixture in cases) for cases in (space.train, space.holdout)]
    same = [evidence.train_fixtures, evidence.holdout_fixtures] == ids
    if not tested or not same or evidence.seed != space.config.loop.seed:
        raise RatchetError("The bundle's verdict was reached on something else than what is here.")
    if gate.decide(evidence, space.policy) != decision.verdict:
        raise RatchetError("The bundle's verdict is not what the gate says of its evidence.")
    kept = inside.record(Ref.HOLDOUT, "confirm.json", Confirmation)
    recorded = isinstance(kept, Confirmation) and kept.evidence is not None
    same = recorded and (kept.evidence, kept.verdict) == (evidence, decision.verdict)
    if not same and (recorded or decision.verdict.action is Action.MERGE):
        raise RatchetError("The bundle's verdict is not the one its holdout branch records.")
    if evidence.attempt is not None:
        _check_attempt(evidence.attempt, decision.experiment, inside)
    _check_runs(decision, inside, space)


def _check_known(evidence: Evidence, space: Workspace, *, said: Iterable[str]) -> None:
    """What can be told without a run is told here: nobody's word is taken for it.

    That it found more held-out text than there is here can only lead to a rejection.
    """
    known = leaks.watch(train=space.train, holdout=space.holdout)
    here = {run for text in said for run in known.found(text, known=[space.text.text])}
    if evidence.leaks is None or not here <= set(evidence.leaks):
        raise RatchetError(
            "The bundle's verdict does not know of the held-out text that its candidate has."
        )
    if evidence.deterministic != workspace.repeats(space):
        raise RatchetError(
            "The bundle's verdict says otherwise than ratchet.yml whether the model's answers "
            "repeat themselves."
        )


def _check_attempt(attempt: int, experiment: str, inside: _Inside) -> None:
    """No other look at the holdout against this incumbent has the number, or one after it."""
    start = f"{inside.skill}/experiments/"
    looks = inside.all(Ref.HOLDOUT, Confirmation, start=start, end="/confirm.json")
    before = [
        look.attempt
        for look in looks
        if look.parent == inside.manifest.parent and look.experiment != experiment
    ]
    if attempt <= max(before, default=0):
        raise RatchetError("The bundle's verdict miscounts the looks at the holdout.")


def _check_runs(decision: Decision, inside: _Inside, space: Workspace) -> None:
    """Every score the gate counts on the holdout is that of a run which is on record."""
    exact = decision.evidence.deterministic  # kept runs of the incumbent are as good as new ones
    start = f"{inside.skill}/" if exact else f"{inside.home}/traces/"
    found = inside.all(Ref.HOLDOUT, Trace, start=start, end=".json", within="/traces/")
    runs = {run.id: run for run in found}
    cases = {fixture.id: fixture.digest for fixture in space.holdout}
    for pair in decision.evidence.confirm:
        for run, score, text in _sides(pair, decision, space):
            trace = runs.get(run)
            key = trace.key if trace else None
            kept = exact and text == space.text.digest
            owner = key.experiment if key and kept else decision.experiment
            there = key and (key.experiment, key.skill, key.fixture, key.model, key.replicate)
            wanted = (owner, text, cases.get(pair.fixture), space.how.digest, pair.sweep)
            if there != wanted or not trace or not trace.score or trace.score.value != score:
                raise RatchetError("The bundle's verdict counts a run that is not on record.")


def _sides(pair: Pair, decision: Decision, space: Workspace) -> Iterator[tuple[str, float, str]]:
    yield pair.incumbent_run, pair.incumbent, space.text.digest
    yield pair.candidate_run, pair.candidate, decision.candidate


# A transfer


def _transferred(inside: _Inside, space: Workspace) -> Transfer:
    """The transfer, its rows being what its runs on record come to."""
    manifest = inside.manifest
    home = f"{inside.skill}/transfers/{(manifest.transfer or '')[:12]}"
    found = [
        (ref, admission.parse(Transfer, data, f"{home}/transfer.json"))
        for ref in _REFS["transfer"]
        if (data := inside.data(ref, f"{home}/transfer.json"))
    ]
    if len(found) != 1 or not isinstance(one := found[0][1], Transfer):
        raise RatchetError("The bundle's ledger has no such transfer as its manifest names.")
    cases = space.fixtures(one.split)
    measured_on = (one.cases, one.fixtures, one.scorer, one.evaluator)
    setting = space.setting()
    here = (fixtures.fixtures_digest(cases), len(cases), setting.scorer_digest, setting.evaluator)
    if one.id != manifest.transfer or one.id != one.named() or measured_on != here:
        raise RatchetError("The bundle's transfer was measured on something else than is here.")
    ref = found[0][0]
    runs, judged = (
        list(inside.all(ref, Trace, start=f"{home}/{folder}/", end=".json"))
        for folder in ("traces", "judge")
    )
    rows = tuple(
        transfers.measured(one, row, runs=runs, judged=judged, fixtures=cases) for row in one.rows
    )
    ended = all(row.outcome for row in rows)
    if rows != one.rows or ended != (one.finished_at is not None):
        raise RatchetError("The bundle's transfer is not what its runs on record come to.")
    return one


def decision_of(
    experiment: Experiment, *, evidence: Evidence | None, verdict: Verdict | None
) -> Decision | None:
    """What a confirm run came to; None when it ended before there was something to decide."""
    if evidence is None or verdict is None or experiment.candidate is None:
        return None
    return Decision(
        experiment=experiment.id,
        candidate=experiment.candidate,
        evidence=evidence,
        verdict=verdict,
    )
