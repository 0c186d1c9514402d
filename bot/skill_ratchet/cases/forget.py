"""``ratchet forget``: takes one case out of the fixtures and out of everything that is on record.

The ledger's branches are rewritten commit by commit: traces of the case go, and whatever else
quotes it has ``[forgotten]`` in its place. What was decided, counted and looked at stays. The
fixture's file comes last, so that a call that was killed finds everything it needs again.
"""

from __future__ import annotations

import json
import re
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from skill_ratchet.base import documents, git
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import each_text
from skill_ratchet.core import leaks, wording, words
from skill_ratchet.core.golden import folded
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import (
    Answers,
    Correction,
    Experiment,
    Fixture,
    Landing,
    Note,
    Record,
    Result,
    Run,
    Settled,
    Shipped,
    Trace,
    canonical_json,
)
from skill_ratchet.core.transfer import Transfer
from skill_ratchet.ledger import Ref, RunLock, access, remote
from skill_ratchet.ledger.gitref import GitRef
from skill_ratchet.ledger.journal import JournalView
from skill_ratchet.ledger.store import journal_folder
from skill_ratchet.project import branches, config, fixtures, repository, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.fixtures import Located
    from skill_ratchet.project.repository import Project, Tree

MARK: Final = "[forgotten]"
LISTED: Final = 10  # records that quoted it
LONG: Final = 8  # characters; a shorter text is found only as a whole line or between quotes
_BATCH: Final = 1000  # records in memory at a time
_SCRATCH: Final = "refs/ratchet/forget/"
_RUN: Final = (
    "reply",
    "score.reason",
    "scorer_error",
    "fixture_input",
    "expected",
    "correction",
)
_SAID: Final = ("input", "context", "output", "expected", "why")
# What a record is, by the name of its file or else of its folder, and where it has words of a
# model's, a person's or a case's; ids, names and numbers stay.
_RECORDS: Final[Mapping[str, tuple[type[Record], tuple[str, ...]]]] = {
    "experiment.json": (Experiment, ("proposal.hypothesis", "proposal.edits")),
    "result.json": (Result, ("detail",)),
    "landed.json": (Landing, ()),
    "reverted.json": (Landing, ()),
    "confirm.json": (Confirmation, ("evidence.leaks", "verdict.detail")),
    "shipped.json": (Shipped, ("text",)),
    "transfer.json": (Transfer, ()),
    "traces": (Trace, _RUN),
    "judge": (Trace, _RUN),
    "proposer": (Trace, _RUN),
    "notes": (Note, ("words",)),
    "runs": (Run, ()),
    "corrections": (Correction, _SAID),
    "answers": (Answers, ()),
    "settled": (Settled, ()),
}
# Records of one case, which go with it; other records stay, without its words.
_OF_CASES: Final = (Trace, Correction)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done, and what a person still has to look at.

    ``commit`` is None when nothing was committed, ``refs`` are names in this clone that still
    lead to the old records, ``remote`` says whether the branches of ``origin`` were replaced
    (None: there is none).
    """

    skill: str
    fixture: str
    file: str | None
    commit: str | None
    traces: int
    replaced: tuple[str, ...]
    kept: tuple[str, ...]
    skill_file: str | None
    refs: tuple[str, ...]
    remote: bool | None
    pruned: bool
    left: int  # objects with its text that are still in this clone


def forget(
    start: Path,
    *,
    skill: str | None,
    fixture: str,
    commit: bool = True,
    push: bool = False,
    prune: bool = False,
) -> Forgotten:
    """Take a case out of the fixtures and the ledger.

    Args:
        start: In the project.
        skill: Whose case; None for the only skill.
        fixture: Its id.
        commit: Commit the change of the fixture's file (and nothing else).
        push: Replace the ledger's branches of ``origin``, too.
        prune: Delete the old records' objects from this clone, with every other one that
            nothing leads to.

    Raises:
        RatchetError: There is no such case, it is not clear which one is meant, or somebody is at
            work on the skill. Nothing was changed then.
    """
    project = repository.open_project(start)
    repository.require_branch(project)
    settings = config.load_config(repository.CommitTree(project, "HEAD"))
    name = config.choose_skill(settings, skill)
    with ExitStack() as stack:
        for one in sorted({name, *settings.skills}):  # the branches are everybody's
            stack.enter_context(RunLock(project.root, one))
        chosen = settings.skill(name)
        job = _Target(project, name, fixture, chosen.fixtures, chosen.path)
        ledger = access.open_ledger(project, name, redact=settings.redact)
        return _forget(job, ledger, commit=commit, push=push, prune=prune)


@dataclass(frozen=True, slots=True)
class _Target:
    """Which case of which skill."""

    project: Project
    skill: str
    id: str
    folder: str
    skill_path: str

    @property
    def message(self) -> str:
        """Of the commit that takes the case out of the fixtures."""
        return f"{self.skill}: forget case {self.id}"


def _forget(job: _Target, ledger: Ledger, *, commit: bool, push: bool, prune: bool) -> Forgotten:
    tree = repository.CommitTree(job.project, "HEAD")
    cases = _cases(tree, job.folder)
    found = cases.get(job.id)
    content = _refuse_uncommitted(job, tree, found)
    _refuse_under_way(ledger)
    for ref in Ref:
        GitRef(job.project.common_dir, ref.value).refuse_unwritable()
    there = remote.fetch_ledger(job.project, list(Ref)) if push else dict.fromkeys(Ref, False)
    _flush(job, ledger)
    history = _History.read(job.project, there)
    known = found or _earlier(job)
    others = [case.fixture for name, case in cases.items() if name != job.id]
    what = _collect(job, history, known.fixture if known else None)
    if not known and not what.runs:
        names = sorted({*cases, *what.seen})
        raise RatchetError(
            f"Skill {job.skill} has no case '{job.id}', and the ledger has no run of one"
            f"{documents.suggestion(job.id, names) if names else ''}.",
            hint="What was forgotten before is gone: nothing is left to do.",
        )
    _refuse_shared(job, what, others)
    quotes, kept = _quotes(what, others)
    done = _rewrite(job, history, what, quotes, there)
    made = _take_out(job, found, content, commit=commit)
    if push:
        _push(history, done.now, there)
    _drop_mirrors(job.project, done)
    if prune:
        repository.run(job.project, "gc", "--quiet", "--prune=now")
    origin = repository.run(job.project, "remote", "get-url", "origin", ok=range(256)).status == 0
    return Forgotten(
        skill=job.skill,
        fixture=job.id,
        file=found.path if found else None,
        commit=made,
        traces=len(done.dropped),
        replaced=tuple(sorted(done.replaced)),
        kept=kept,
        skill_file=_quoting_skill(job, quotes),
        refs=_leading(job.project, done.first),
        remote=push if origin else None,
        pruned=prune,
        left=len(_still_there(job.project, done.objects)),
    )


# The fixtures ---------------------------------------------------------------------------------


def _cases(tree: Tree, folder: str) -> dict[str, Located]:
    """Every case of a skill, those of the vault too, by id.

    Raises:
        RatchetError: A file is faulty, or an id or an input is there twice where it may not be.
    """
    files = [workspace.source(tree, path) for path in tree.files(folder)]
    return {one.fixture.id: one for one in fixtures.locate(files, root=folder, require=())}


def _without(case: Located, content: bytes) -> bytes | None:
    """What is left of the case's file (None: no file): of JSONL the other lines as they are."""
    if not case.path.lower().endswith(".jsonl"):
        return None
    lines = re.findall(rb"[^\n]*\n|[^\n]+", content)
    return b"".join(line for line in lines if not _is_case(line, case.fixture.id))


def _is_case(line: bytes, name: str) -> bool:
    text = line.decode("utf-8").removeprefix(documents.BOM)
    return bool(text.strip()) and json.loads(text).get("id") == name


def _refuse_uncommitted(job: _Target, tree: Tree, case: Located | None) -> bytes | None:
    """What is left of the case's file, where that is still to be written.

    A file that is just as we would make it is what a call left that was killed, or that was told
    not to commit.
    """
    if case is None:
        _refuse_new(job)
        return None
    target = job.project.root / case.path
    now = target.read_bytes() if target.is_file() else None
    if not repository.dirty(job.project, [case.path]):
        return _without(case, now or b"")
    if now != _without(case, tree.read(case.path)):
        raise _uncommitted(case.path)
    return now


def _refuse_new(job: _Target) -> None:
    """Refuse where a file has the case that no commit has; others may be as faulty as they like."""
    tree = repository.WorkTree(job.project)
    for path in repository.dirty(job.project, [job.folder]):
        if (job.project.root / path).is_file():
            found = fixtures.parse([workspace.source(tree, path)], root=job.folder, require=())
            if job.id in {case.id for case in found}:
                raise _uncommitted(path)


def _uncommitted(path: str) -> RatchetError:
    return RatchetError(
        f"{path} has changes that are not committed, so nothing was forgotten.",
        hint="Commit them first (git add, git commit), or put them away (git stash).",
    )


def _take_out(
    job: _Target, found: Located | None, rest: bytes | None, *, commit: bool
) -> str | None:
    """Remove the case from its file, and commit just that; what is staged besides stays so."""
    if found is None:
        return None
    target = job.project.root / found.path
    if rest is None:
        target.unlink(missing_ok=True)
    elif target.read_bytes() != rest:
        repository.write_whole(target, rest)
    if not commit:
        return None
    make = ("commit", "--quiet", "--no-verify", "--only", f"--message={job.message}", "--")
    who = branches.identity(job.project)
    repository.run(job.project, *make, job.project.full(found.path), env=who)
    return repository.resolve(job.project, "HEAD")


def _earlier(job: _Target) -> Located | None:
    """The case as it was before the commit that took it out, if this command made that."""
    search = ("log", "--format=%H %s", "--fixed-strings", f"--grep={job.message}", "HEAD")
    lines = repository.run(job.project, *search).text.splitlines()
    commits = [line.partition(" ")[0] for line in lines if line.partition(" ")[2] == job.message]
    if not commits:
        return None
    return _cases(repository.CommitTree(job.project, f"{commits[0]}^"), job.folder).get(job.id)


# What is on record ----------------------------------------------------------------------------


def _refuse_under_way(ledger: Ledger) -> None:
    for one in ledger.unfinished():
        raise RatchetError(
            f"Experiment {one.number} of skill {one.skill} is under way, so nothing was forgotten.",
            hint="Let 'ratchet run' finish it. Or take the case out of the fixtures yourself, "
            "commit that, and run 'ratchet run --attempts 1', which closes it as superseded before "
            "anything else; then forget the case by its id.",
        )


def _flush(job: _Target, ledger: Ledger) -> None:
    """Bring what dead processes left into the branches; nobody else may be writing."""
    ledger.flush(f"{job.skill}: what was not written yet")
    for ref in Ref:
        if JournalView(journal_folder(job.project.common_dir, ref)).entries():
            raise RatchetError(
                "Another process is writing to the ledger, so nothing was forgotten.",
                hint="Wait for it to end, and run this again.",
            )


class _Step(NamedTuple):
    """A line of an export, and the bytes that belong to it."""

    line: bytes
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class _History:
    """All commits of the ledger's branches as ``git fast-export`` tells them.

    ``tips`` are the branches by full name, those of the remote included that are to be replaced;
    ``commits`` are the names of all commits by their marks.
    """

    project: Project
    tips: Mapping[str, str]
    commits: Mapping[str, str]
    steps: tuple[_Step, ...]

    @classmethod
    def read(cls, project: Project, there: Mapping[Ref, bool]) -> _History:
        """Read this clone's branches, and the remote's where it has them."""
        names = [ref.value for ref in Ref]
        names += [_theirs(ref) for ref, has in there.items() if has]
        form = "--format=%(refname) %(objectname)"
        listed = repository.run(project, "for-each-ref", form, *names).text.splitlines()
        tips = dict(line.split(" ") for line in listed)
        if not tips:
            return cls(project, {}, {}, ())
        maps = [f"--refspec={name}:{_SCRATCH}{name.removeprefix('refs/')}" for name in sorted(tips)]
        told = ("fast-export", "--no-data", "--reencode=no", *maps)
        stream, commits = _marked(project, *told, after=sorted(tips))
        return cls(project, tips, commits, tuple(_steps(stream)))

    def files(self, skill: str) -> list[tuple[str, str]]:
        """Path and object of every file that a skill ever had."""
        seen = {_file(step.line, skill): None for step in self.steps}
        return [one for one in seen if one]

    def texts(self, skill: str) -> Iterator[tuple[tuple[str, str], bytes]]:
        """The same with the contents."""
        files = self.files(skill)
        for start in range(0, len(files), _BATCH):
            some = files[start : start + _BATCH]
            found = git.read_objects(self.project.common_dir, [oid for _, oid in some])
            for (path, oid), blob in zip(some, found, strict=True):
                if blob is None or blob.kind != "blob":
                    raise RatchetError(
                        f"The ledger is not whole: object {oid} is missing.",
                        hint="Run 'git fsck'; in a partial clone, 'git fetch --refetch'.",
                    )
                yield (path, oid), blob.data


def _marked(
    project: Project, *command: str, after: Sequence[str] = (), stdin: bytes | None = None
) -> tuple[bytes, dict[str, str]]:
    """What a command says, and the commits that it names, by their marks."""
    with tempfile.TemporaryDirectory(prefix="ratchet-forget-") as folder:
        marks = Path(folder) / "marks"
        done = repository.run(project, *command, f"--export-marks={marks}", *after, stdin=stdin)
        lines = marks.read_text("ascii").splitlines() if marks.exists() else ()
        return done.raw, dict(line.split(" ") for line in lines)


def _theirs(ref: Ref) -> str:
    return f"refs/remotes/origin/{ref.removeprefix('refs/heads/')}"


def _steps(stream: bytes) -> Iterator[_Step]:
    at = 0
    while at < len(stream):
        end = stream.index(b"\n", at)
        line, at = stream[at:end], end + 1
        if not line.startswith(b"data "):
            yield _Step(line)
            continue
        size = int(line[5:])
        yield _Step(line, stream[at : at + size])
        at += size


def _file(line: bytes, skill: str) -> tuple[str, str] | None:
    """Path and object of a line that writes a file of a skill."""
    if not line.startswith(b"M 100644 "):
        return None
    oid, _, path = line[9:].decode("utf-8").partition(" ")
    return (path, oid) if path.startswith(f"{skill}/") else None


def _record(path: str) -> tuple[type[Record], tuple[str, ...]] | None:
    """What kind of record a path is of, and where that has words; None for a plain text."""
    *_, folder, leaf = path.split("/")
    if not leaf.endswith(".json"):
        return None
    found = _RECORDS.get(leaf) or _RECORDS.get(folder)
    if found is None:
        raise RatchetError(
            f"{path} in the ledger is no record that this version knows; nothing was forgotten.",
            hint="Written by a newer Ratchet? Update.",
        )
    return found


def _value(kind: type[Record], data: bytes, path: str) -> Any:
    """The record as JSON values; what cannot be understood cannot be searched either."""
    try:
        value = json.loads(data.decode("utf-8"))
        kind.model_validate(value)
    except (ValueError, ValidationError) as error:
        raise RatchetError(
            f"{path} in the ledger is not a {kind.__name__}; nothing was forgotten.",
            hint="Written by a newer Ratchet, or edited by hand? Update, or restore that file.",
        ) from error
    return value


@dataclass(frozen=True, slots=True)
class _Known:
    """Everything that is known of the case: as it is, and as it was when it was run.

    ``texts`` are its own, ``answers`` what a model or a judge made of it, ``runs`` the objects
    that hold a trace of it. ``seen`` are the names of all cases with a run.
    """

    fixtures: frozenset[str]
    inputs: frozenset[str]
    texts: frozenset[str]
    answers: frozenset[str]
    runs: frozenset[str]
    seen: frozenset[str]


class _Mention(NamedTuple):
    """What a record of a case has to find it by, and what quotes it.

    It is of a run, or of what a person said of an answer; a whole ledger does not fit in memory.
    """

    oid: str
    fixture: str
    digest: str | None
    input: str
    texts: frozenset[str]
    answers: frozenset[str]


def _collect(job: _Target, history: _History, known: Fixture | None) -> _Known:
    mentions = [
        _mention(oid, one)
        for (path, oid), data in history.texts(job.skill)
        if (kind := _record(path)) is not None and kind[0] in _OF_CASES
        for one in [kind[0].model_validate(_value(kind[0], data, path))]
        if isinstance(one, Correction) or (isinstance(one, Trace) and one.job != "meta")
    ]
    # First the runs under its name: a run under another may be of the same case before a renaming.
    named = [one for one in mentions if one.fixture == job.id]
    digests = {one.digest for one in named if one.digest} | ({known.digest} if known else set())
    inputs = {one.input for one in named} | ({known.input_text} if known else set())
    texts = set(_parts(known) if known else ()).union(*(one.texts for one in named), inputs) - {""}
    about = [
        one
        for one in mentions
        if one.fixture == job.id or one.input in inputs or one.digest in digests
    ]
    return _Known(
        fixtures=frozenset(digests),
        inputs=frozenset(inputs - {""}),
        texts=frozenset(texts),
        answers=frozenset().union(*(one.answers for one in about)),
        runs=frozenset(one.oid for one in about),
        seen=frozenset(one.fixture for one in mentions),
    )


def _mention(oid: str, one: Trace | Correction) -> _Mention:
    digest: str | None = None
    own: tuple[str | None, ...]
    answers: tuple[str | None, ...]
    if isinstance(one, Trace):
        digest = one.key.fixture if one.key else None
        asked, own = one.fixture_input, (one.fixture_input, one.correction)
        answers = (one.reply.text, one.score.reason if one.score else None, one.scorer_error)
    else:
        case = Fixture(id=one.fixture, split=one.split, input=one.input, context=one.context)
        asked, own = case.input_text, (*_parts(case), one.why)
        answers = (one.output,)
    texts = frozenset(filter(None, (*own, *_long(one.expected))))
    return _Mention(oid, one.fixture, digest, asked, texts, frozenset(filter(None, answers)))


def _parts(case: Fixture) -> list[str]:
    """The texts of a case, each as it may be quoted alone."""
    turns = () if isinstance(case.input, str) else tuple(turn.content for turn in case.input)
    texts = (case.input_text, *turns, case.context, case.correction, *_long(case.expected))
    return [text for text in texts if text]


def _long(value: JsonValue) -> list[str]:
    """The texts in an expectation that are more than a label."""
    return [text for text in leaks.strings(value) if _says(text) >= words.SHORTEST]


def _refuse_shared(job: _Target, what: _Known, others: Sequence[Fixture]) -> None:
    asked = {folded(text) for text in what.inputs}
    for other in others:
        if folded(other.input_text) in asked or other.digest in what.fixtures:
            raise RatchetError(
                f"Case '{other.id}' has the same input as '{job.id}', so nothing was forgotten.",
                hint="Take one of the two out of the fixtures and commit that; then forget "
                "both, one after the other.",
            )


# Quotations -----------------------------------------------------------------------------------


class Quotes:
    """Finds texts wherever they are quoted: as they are, as JSON spells them, or in part.

    A part is six words in a row, whatever is between them; of a shorter text all its words.

    Args:
        texts: What is to be found.
        keep: What may stay: words in a row that are also in here are nobody's in particular.
    """

    def __init__(self, texts: Iterable[str], keep: Iterable[str] = ()) -> None:
        forms = {form for text in texts for form in _forms(text.strip())}
        found = [_exact(form) for form in sorted(forms, key=lambda form: (-len(form), form))]
        self._exact = re.compile("|".join(found)) if found else None
        parts = {run for text in texts for run in words.runs(words.words(text))}
        lengths = {len(run) for run in parts}
        self._runs = frozenset(parts - words.windows(map(words.words, keep), lengths))
        self._lengths = sorted({len(run) for run in self._runs})

    def replace(self, text: str) -> str:
        """``text`` with ``[forgotten]`` in the place of every quotation."""
        if self._exact:
            text = self._exact.sub(MARK, text)
        if not self._runs:
            return text
        said = words.spans(text)
        named = tuple(word.text for word in said)
        hit = bytearray(len(said))
        for length in self._lengths:
            for start in range(len(said) - length + 1):
                if named[start : start + length] in self._runs:
                    hit[start : start + length] = b"\1" * length
        for found in reversed(list(re.finditer(b"\1+", hit))):
            begin, end = said[found.start()].begin, said[found.end() - 1].end
            text = text[:begin] + MARK + text[end:]
        return text


def _forms(text: str) -> set[str]:
    """As it is, as it stands in a JSON string, and in a JSON string within one."""
    forms = {text}
    for ascii_only in (True, False):
        once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        forms |= {once, json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
    return forms - {""}


def _exact(form: str) -> str:
    """A pattern that does not find it in the middle of a word."""
    if len(form) < LONG:
        return rf'(?:(?<=[\n"])|\A){re.escape(form)}(?=[\n"]|\Z)'
    before = r"(?<!\w)" if form[0].isalnum() else ""
    after = r"(?!\w)" if form[-1].isalnum() else ""
    return before + re.escape(form) + after


def _says(text: str) -> float:
    return words.says(words.words(text))


class _Sought(NamedTuple):
    """What to find in every record, and what besides in what the proposer was told."""

    own: Quotes
    told: Quotes


def _quotes(what: _Known, others: Sequence[Fixture]) -> tuple[_Sought, tuple[str, ...]]:
    """What to look for, and the texts of the case that other cases have as well."""
    theirs = [text for other in others for text in _parts(other)]
    shared = {folded(text) for text in theirs}
    own = [text for text in what.texts if folded(text) not in shared]
    keep = [*theirs, *(canonical_json(other.expected) for other in others)]
    # A label, or a scorer's 'expected yes', is an answer to many cases.
    said = [text for text in what.answers if _says(text) >= words.RUN]
    kept = sorted(text for text in what.texts if folded(text) in shared)
    return _Sought(Quotes(own, keep), Quotes([*own, *said], keep)), tuple(kept)


# Rewriting ------------------------------------------------------------------------------------


class _Rewriting(NamedTuple):
    """What the rewriting came to.

    ``now`` has the new commit of each old one that has changed, ``first`` are the oldest of those,
    ``objects`` the contents that held the case.
    """

    now: Mapping[str, str]
    first: tuple[str, ...]
    dropped: frozenset[str]
    replaced: frozenset[str]
    objects: tuple[str, ...]


def _rewrite(
    job: _Target, history: _History, what: _Known, wanted: _Sought, there: Mapping[Ref, bool]
) -> _Rewriting:
    """Move this clone's branches to rewritten commits, both at once, if there is a difference."""
    changed = _changes(job, history, what, wanted)
    now = _import(job, history, changed) if changed else {}
    for ref, has in there.items():
        _refuse_diverged(history, now, ref) if has else None
    moves = [
        f"update {ref} {now[tip]} {tip}"
        for ref, tip in history.tips.items()
        if ref in set(Ref) and tip in now
    ]
    scratch = repository.run(job.project, "for-each-ref", "--format=%(refname)", _SCRATCH).text
    moves += [f"delete {name}" for name in scratch.split()]
    if moves:
        lines = "".join(f"{move}\n" for move in moves).encode()
        repository.run(job.project, "update-ref", "--stdin", stdin=lines)
    _expire(job.project, [ref.value for ref in Ref])
    dropped = frozenset(path for (path, _), data in changed.items() if data is None)
    return _Rewriting(
        now=now,
        first=_oldest(history, now),
        dropped=dropped,
        replaced=frozenset(path for path, _ in changed) - dropped,
        objects=tuple(sorted({oid for _, oid in changed})),
    )


def _changes(
    job: _Target, history: _History, what: _Known, wanted: _Sought
) -> dict[tuple[str, str], bytes | None]:
    """By path and object: the new content, or None where the file goes."""
    changed: dict[tuple[str, str], bytes | None] = {}
    for (path, oid), data in history.texts(job.skill):
        kind = _record(path)
        if oid in what.runs and kind is not None and kind[0] in _OF_CASES:
            changed[path, oid] = None
            continue
        quotes = wanted.told if path.split("/")[-2] == "proposer" else wanted.own
        new = _reworded(kind, data, path, quotes)
        if new != data:
            changed[path, oid] = new
    return changed


def _reworded(
    found: tuple[type[Record], tuple[str, ...]] | None, data: bytes, path: str, quotes: Quotes
) -> bytes:
    if found is None:
        return quotes.replace(data.decode("utf-8")).encode("utf-8")
    kind, worded = found
    value = new = _value(kind, data, path)
    for at in worded:
        new = _put(new, at.split("."), quotes.replace)
    if new == value:
        return data
    kind.model_validate(new)
    text = json.dumps(new, indent=2, ensure_ascii=False)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(new, indent=2)}\n".encode()


def _put(value: Any, at: Sequence[str], change: Callable[[str], str]) -> Any:
    """``value`` with the texts at a path of field names changed, if it is there."""
    if not at:
        return each_text(value, change)
    if not isinstance(value, dict) or at[0] not in value:
        return value
    return value | {at[0]: _put(value[at[0]], at[1:], change)}


def _import(
    job: _Target, history: _History, changed: Mapping[tuple[str, str], bytes | None]
) -> dict[str, str]:
    """Make the rewritten commits; returns them by the old ones, where they differ."""
    stream = [_rewritten(step, job.skill, changed) for step in history.steps]
    told = ("-c", "fastimport.unpackLimit=20", "fast-import", "--quiet", "--done", "--force")
    _, new = _marked(job.project, *told, stdin=b"".join([*stream, b"done\n"]))
    return {oid: new[mark] for mark, oid in history.commits.items() if new[mark] != oid}


def _oldest(history: _History, now: Mapping[str, str]) -> tuple[str, ...]:
    """The old commits that have changed, and of which no parent has."""
    tips = history.tips.values()
    listed = repository.run(history.project, "rev-list", "--parents", *tips).text if now else ""
    families = (line.split(" ") for line in listed.splitlines())
    return tuple(one for one, *parents in families if one in now and not now.keys() & set(parents))


def _rewritten(step: _Step, skill: str, changed: Mapping[tuple[str, str], bytes | None]) -> bytes:
    if step.data is not None:
        return step.line + b"\n" + step.data
    file = _file(step.line, skill)
    if file is None or file not in changed:
        return step.line + b"\n"
    data, path = changed[file], file[0].encode()
    if data is None:
        return b"D " + path + b"\n"
    return b"M 100644 inline %s\ndata %d\n%s\n" % (path, len(data), data)


def _refuse_diverged(history: _History, now: Mapping[str, str], ref: Ref) -> None:
    """Refuse to replace a branch of the remote that has records which this clone has not."""
    theirs, own = (history.tips.get(name) for name in (_theirs(ref), ref.value))
    if (
        theirs
        and own
        and branches.is_ancestor(history.project, now.get(theirs, theirs), now.get(own, own))
    ):
        return
    name = ref.branch
    raise RatchetError(
        f"Branch {name} of origin has records that this clone has not; nothing was forgotten.",
        hint=f"Look at both: 'git log {name}...origin/{name}'. In a fresh clone this works.",
    )


def _expire(project: Project, refs: Iterable[str]) -> None:
    """Empty the logs of where branches were; other logs are the user's."""
    for ref in refs:
        if not repository.run(project, "reflog", "exists", ref, ok=(0, 1)).status:
            now = ("--expire=now", "--expire-unreachable=now")
            repository.run(project, "reflog", "expire", *now, ref)


def _push(history: _History, now: Mapping[str, str], there: Mapping[Ref, bool]) -> None:
    """Replace the remote's branches where they still are what was rewritten."""
    for ref, has in there.items():
        tip, theirs = history.tips.get(ref.value), history.tips.get(_theirs(ref))
        if not has or tip is None or theirs is None:
            continue
        new = now.get(tip, tip)
        if theirs != new:
            remote.push(history.project, new, branch=ref.branch, expect=theirs)
            repository.run(history.project, "update-ref", _theirs(ref), new)
        _expire(history.project, [_theirs(ref)])


def _drop_mirrors(project: Project, done: _Rewriting) -> None:
    """Delete what Ratchet fetched for itself of the old records; it is fetched again at need."""
    for name in _leading(project, done.first):
        if name.startswith("refs/ratchet/"):
            repository.run(project, "update-ref", "-d", name)


# What is left ---------------------------------------------------------------------------------


def _leading(project: Project, commits: Sequence[str]) -> tuple[str, ...]:
    """The names in this clone that lead to one of the commits."""
    found: set[str] = set()
    for commit in _still_there(project, commits):
        form = ("for-each-ref", "--format=%(refname)", f"--contains={commit}")
        found |= set(repository.run(project, *form).text.split())
    return tuple(sorted(found))


def _still_there(project: Project, objects: Sequence[str]) -> list[str]:
    """Those that this clone still has."""
    asked = "".join(f"{oid}\n" for oid in objects).encode()
    out = repository.run(project, "cat-file", "--batch-check", stdin=asked).text if asked else ""
    return [line.split(" ")[0] for line in out.splitlines() if not line.endswith(" missing")]


def _quoting_skill(job: _Target, wanted: _Sought) -> str | None:
    """The skill's file, if it quotes the case as it is on disk."""
    tree = repository.WorkTree(job.project)
    text = tree.read(job.skill_path).decode("utf-8", "replace")
    return job.skill_path if wanted.own.replace(text) != text else None


def describe(done: Forgotten) -> list[str]:
    """What was done in words, and what may still hold the case."""
    lines = [f"Case {done.fixture} of skill {done.skill} is forgotten."]
    if done.file:
        made = f"commit {done.commit[:12]}" if done.commit else "not committed yet"
        lines.append(f"{done.file}: taken out ({made}).")
    lines.append(f"{wording.many(done.traces, 'trace')} deleted from the ledger's history.")
    told = [f"{path}: quoted it, now says {MARK}" for path in done.replaced]
    lines += wording.first(told, LISTED, "and {:,} more such records (--json names all)")
    if done.kept:
        lines.append(f"{len(done.kept)} of its texts stay: other cases have them too.")
    if done.skill_file:
        lines.append(f"{done.skill_file} QUOTES IT: edit it, or the next run records it again.")
    lines.append("")
    lines.append("What may still hold it:")
    lines += [f"- {one}" for one in _elsewhere(done)]
    return lines


def _elsewhere(done: Forgotten) -> Iterator[str]:
    again = f"ratchet forget {done.fixture} --skill {done.skill}"
    if not done.pruned:
        yield (
            f"this clone's object store. '{again} --prune' deletes there every object that nothing "
            "leads to, dropped stashes and the like included."
        )
    elif done.left:
        yield f"this clone's object store: {done.left} objects, which something still leads to."
    if done.refs:
        yield f"in this clone: {', '.join(done.refs)}"
    if done.remote is False:
        yield f"the remote origin. '{again} --push' replaces both branches there, as would:"
        for ref in Ref:
            yield f"  git push --force-with-lease origin {ref.removeprefix('refs/heads/')}"
    yield "the history of your own branches, where the fixture's file was ('git filter-repo')."
    yield "other clones and forks: each has to be rewritten or cloned anew."
    yield (
        "on GitHub: old commits by their SHA and in caches (its support removes them), pull "
        "requests, comments, workflow logs and artifacts."
    )
