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

from bot import fixtures, opening, remote, skillrepo, strict, workspace
from bot.core import leaks, render, words
from bot.core.golden import folded
from bot.core.records import (
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
from bot.core.reign import Confirmation
from bot.core.transfer import Transfer
from bot.errors import RatchetError
from bot.ledger import Ref, RunLock
from bot.ledger.gitref import AUTHOR, GitRef
from bot.ledger.journal import JournalView
from bot.ledger.store import journal_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from bot.ledger import Ledger
    from bot.skillrepo import Project, Tree

MARK: Final = "[forgotten]"
LISTED: Final = 10  # records that quoted it
LONG: Final = 8  # characters; a shorter text is found only as a whole line or between quotes
_BATCH: Final = 1000  # records in memory at a time
_SCRATCH: Final = "refs/ratchet/forget/"
_LEAVES: Final[Mapping[str, type[Record]]] = {
    "experiment.json": Experiment,
    "result.json": Result,
    "landed.json": Landing,
    "reverted.json": Landing,
    "confirm.json": Confirmation,
    "shipped.json": Shipped,
    "transfer.json": Transfer,
}
_FOLDERS: Final[Mapping[str, type[Record]]] = {
    "traces": Trace,
    "judge": Trace,
    "proposer": Trace,
    "notes": Note,
    "runs": Run,
    "corrections": Correction,
    "answers": Answers,
    "settled": Settled,
}
# Records of one case, which go with it; other records stay, without its words.
_OF_CASES: Final = (Trace, Correction)
# Where a record has words of a model's, a person's or a case's; ids, names and numbers stay.
_WORDED: Final[Mapping[type[Record], tuple[tuple[str, ...], ...]]] = {
    Trace: (
        ("reply",),
        ("score", "reason"),
        ("scorer_error",),
        ("fixture_input",),
        ("expected",),
        ("correction",),
    ),
    Experiment: (("proposal", "hypothesis"), ("proposal", "edits")),
    Result: (("detail",),),
    Confirmation: (("evidence", "leaks"), ("verdict", "detail")),
    Note: (("words",),),
    Correction: (("input",), ("context",), ("output",), ("expected",), ("why",)),
    Shipped: (("text",),),
    Landing: (),
    Run: (),
    Answers: (),
    Transfer: (),
    Settled: (),
}


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


class Found(NamedTuple):
    """A case in a tree: its file, the file's content without it (None: no file), itself."""

    path: str
    rest: bytes | None
    fixture: Fixture


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
    project = skillrepo.open_project(start)
    skillrepo.require_branch(project)
    settings = workspace.load_config(skillrepo.CommitTree(project, "HEAD"))
    name = workspace.choose_skill(settings, skill)
    with ExitStack() as stack:
        for one in sorted({name, *settings.skills}):  # the branches are everybody's
            stack.enter_context(RunLock(project.root, one))
        job = _Job(project, name, fixture, settings.skill(name).fixtures, settings.skill(name).path)
        ledger = opening.open_ledger(project, name, redact=settings.redact)
        return _forget(job, ledger, commit=commit, push=push, prune=prune)


@dataclass(frozen=True, slots=True)
class _Job:
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


def _forget(job: _Job, ledger: Ledger, *, commit: bool, push: bool, prune: bool) -> Forgotten:
    cases = _cases(skillrepo.CommitTree(job.project, "HEAD"), job.folder)
    found = cases.get(job.id)
    content = _refuse_uncommitted(job, found)
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
        names = {*cases, *what.seen}
        raise RatchetError(
            f"Skill {job.skill} has no case '{job.id}', and the ledger has no run of one"
            f"{strict.suggestion(job.id, names) if names else ''}.",
            hint="What was forgotten before is gone: nothing is left to do.",
        )
    _refuse_shared(job, what, others)
    quotes, kept = _quotes(what, others)
    done = _rewrite(job, history, what, quotes, there)
    made = _take_out(job, found, content, commit=commit)
    if push:
        _push(job, done, there)
    _drop_mirrors(job.project, done)
    if prune:
        skillrepo.run(job.project, "gc", "--quiet", "--prune=now")
    origin = skillrepo.run(job.project, "remote", "get-url", "origin", ok=range(256)).status == 0
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
        left=_still_there(job.project, done.objects),
    )


# The fixtures ---------------------------------------------------------------------------------


def _cases(tree: Tree, folder: str) -> dict[str, Found]:
    """Every case of a skill, those of the vault too, by id.

    Raises:
        RatchetError: A file is faulty, or an id or an input is there twice where it may not be.
    """
    files = [_source(tree, path) for path in tree.files(folder)]
    fixtures.parse(files, root=folder, require=())  # all of them: what is there twice is refused
    found: dict[str, Found] = {}
    for file in files:
        for case in fixtures.parse([file], root=folder, require=()):
            found[case.id] = Found(file.path, _without(file, case.id), case)
    return found


def _source(tree: Tree, path: str) -> fixtures.SourceFile:
    return fixtures.SourceFile(path, tree.size(path), lambda: tree.read(path))


def _without(file: fixtures.SourceFile, name: str) -> bytes | None:
    """What is left of the file: of JSONL the other lines as they are."""
    if not file.path.lower().endswith(".jsonl"):
        return None
    lines = re.findall(rb"[^\n]*\n|[^\n]+", file.read())
    return b"".join(line for line in lines if not _is_case(line, name))


def _is_case(line: bytes, name: str) -> bool:
    text = line.decode("utf-8").removeprefix(strict.BOM)
    return bool(text.strip()) and json.loads(text).get("id") == name


def _refuse_uncommitted(job: _Job, found: Found | None) -> bytes | None:
    """What is left of the case's file, where that is still to be written.

    A file that is just as we would make it is what a call left that was killed, or that was told
    not to commit.
    """
    tree = skillrepo.WorkTree(job.project)
    if found is None:
        new = _uncommitted_file(job, tree)
        if new is None:
            return None
        raise _uncommitted(new)
    target = job.project.root / found.path
    now = target.read_bytes() if target.is_file() else None
    if not skillrepo.dirty(job.project, [found.path]):
        file = fixtures.SourceFile(found.path, len(now or b""), lambda: now or b"")
        return _without(file, job.id)
    if now != found.rest:
        raise _uncommitted(found.path)
    return now


def _uncommitted_file(job: _Job, tree: skillrepo.WorkTree) -> str | None:
    """A file with the case that no commit has; other files may be as faulty as they like."""
    for path in skillrepo.dirty(job.project, [job.folder]):
        if not (job.project.root / path).is_file():
            continue
        cases = fixtures.parse([_source(tree, path)], root=job.folder, require=())
        if job.id in {case.id for case in cases}:
            return path
    return None


def _uncommitted(path: str) -> RatchetError:
    return RatchetError(
        f"{path} has changes that are not committed, so nothing was forgotten.",
        hint="Commit them first (git add, git commit), or put them away (git stash).",
    )


def _take_out(job: _Job, found: Found | None, rest: bytes | None, *, commit: bool) -> str | None:
    """Remove the case from its file, and commit just that; what is staged besides stays so."""
    if found is None:
        return None
    target = job.project.root / found.path
    if rest is None:
        target.unlink(missing_ok=True)
    elif target.read_bytes() != rest:
        swap = target.with_name(f".{target.name}.tmp")
        swap.write_bytes(rest)
        swap.chmod(target.stat().st_mode)
        swap.replace(target)
    if not commit:
        return None
    who: dict[str, str] = {}
    if skillrepo.run(job.project, "var", "GIT_COMMITTER_IDENT", ok=range(256)).status:
        name, _, mail = AUTHOR.rstrip(">").partition(" <")
        for role in ("AUTHOR", "COMMITTER"):
            who |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": mail}
    make = ("commit", "--quiet", "--no-verify", "--only", f"--message={job.message}", "--")
    skillrepo.run(job.project, *make, job.project.full(found.path), env=who)
    return skillrepo.resolve(job.project, "HEAD")


def _earlier(job: _Job) -> Found | None:
    """The case as it was before the commit that took it out, if this command made that."""
    search = ("log", "--format=%H %s", "--fixed-strings", f"--grep={job.message}", "HEAD")
    lines = skillrepo.run(job.project, *search).text.splitlines()
    commits = [line.partition(" ")[0] for line in lines if line.partition(" ")[2] == job.message]
    if not commits:
        return None
    tree = skillrepo.CommitTree(job.project, f"{commits[0]}^")
    return _cases(tree, job.folder).get(job.id)


# What is on record ----------------------------------------------------------------------------


def _refuse_under_way(ledger: Ledger) -> None:
    for one in ledger.unfinished():
        raise RatchetError(
            f"Experiment {one.number} of skill {one.skill} is under way, so nothing was forgotten.",
            hint="Let 'ratchet run' finish it. Or take the case out of the fixtures yourself, "
            "commit that, and run 'ratchet run --attempts 1', which closes it as superseded before "
            "anything else; then forget the case by its id.",
        )


def _flush(job: _Job, ledger: Ledger) -> None:
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

    ``tips`` are the branches by full name, those of the remote included that are to be replaced.
    """

    project: Project
    tips: Mapping[str, str]
    steps: tuple[_Step, ...]

    @classmethod
    def read(cls, project: Project, there: Mapping[Ref, bool]) -> _History:
        """Read this clone's branches, and the remote's where it has them."""
        names = [ref.value for ref in Ref]
        names += [_theirs(ref) for ref, has in there.items() if has]
        form = "--format=%(refname) %(objectname)"
        listed = skillrepo.run(project, "for-each-ref", form, *names).text.splitlines()
        tips = dict(line.split(" ") for line in listed)
        if not tips:
            return cls(project, {}, ())
        maps = [f"--refspec={name}:{_SCRATCH}{name.removeprefix('refs/')}" for name in sorted(tips)]
        told = ("--no-data", "--show-original-ids", "--reencode=no", *maps, *sorted(tips))
        stream = skillrepo.run(project, "fast-export", *told).raw
        return cls(project, tips, tuple(_steps(stream)))

    def files(self, skill: str) -> list[tuple[str, str]]:
        """Path and object of every file that a skill ever had."""
        seen = {_file(step.line, skill): None for step in self.steps}
        return [one for one in seen if one]

    def texts(self, skill: str) -> Iterator[tuple[tuple[str, str], bytes]]:
        """The same with the contents."""
        files = self.files(skill)
        for start in range(0, len(files), _BATCH):
            some = files[start : start + _BATCH]
            yield from zip(some, _read(self.project, [oid for _, oid in some]), strict=True)


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


def _read(project: Project, oids: Sequence[str]) -> Iterator[bytes]:
    asked = "".join(f"{oid}\n" for oid in oids).encode()
    out, at = skillrepo.run(project, "cat-file", "--batch", stdin=asked).raw, 0
    for oid in oids:
        end = out.index(b"\n", at)
        kind = out[at:end].split(b" ")
        if kind[1:2] != [b"blob"]:
            raise RatchetError(
                f"The ledger is not whole: object {oid} is missing.",
                hint="Run 'git fsck'; in a partial clone, 'git fetch --refetch'.",
            )
        size = int(kind[2])
        yield out[end + 1 : end + 1 + size]
        at = end + 2 + size


def _kind(path: str) -> type[Record] | None:
    """What kind of record a path is of; None for a plain text."""
    *_, folder, leaf = path.split("/")
    if not leaf.endswith(".json"):
        return None
    kind = _LEAVES.get(leaf) or _FOLDERS.get(folder)
    if kind is None:
        raise RatchetError(
            f"{path} in the ledger is no record that this version knows; nothing was forgotten.",
            hint="Written by a newer Ratchet? Update.",
        )
    return kind


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
class _Case:
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


def _collect(job: _Job, history: _History, known: Fixture | None) -> _Case:
    traces = [
        (path, oid, trace)
        for (path, oid), data in history.texts(job.skill)
        if (kind := _kind(path)) in _OF_CASES
        for trace in [_about(path, data) if kind is Trace else _about_correction(path, data)]
        if trace["job"] != "meta"
    ]
    digests = {known.digest} if known else set()
    inputs = {known.input_text} if known else set()
    texts = set(_parts(known)) if known else set()
    answers: set[str] = set()
    runs: set[str] = set()
    # First the runs under its name: a run under another may be of the same case before a renaming.
    for _, _, one in traces:
        if one["fixture"] == job.id:
            inputs.add(one["input"])
            texts |= one["texts"]
            digests |= one["digests"]
    for _, oid, one in traces:
        same = one["fixture"] == job.id or one["input"] in inputs or one["digests"] & digests
        if same:
            runs.add(oid)
            answers |= one["answers"]
    return _Case(
        fixtures=frozenset(digests),
        inputs=frozenset(inputs - {""}),
        texts=frozenset(texts | (inputs - {""})),
        answers=frozenset(answers),
        runs=frozenset(runs),
        seen=frozenset(one["fixture"] for _, _, one in traces),
    )


def _about(path: str, data: bytes) -> dict[str, Any]:
    """What of a trace is needed to find it and what quotes it; a ledger does not fit in memory."""
    trace = Trace.model_validate(_value(Trace, data, path))
    said = (trace.reply.text, trace.score.reason if trace.score else None, trace.scorer_error)
    own = (trace.fixture_input, trace.correction, *_long(trace.expected))
    return {
        "job": trace.job,
        "fixture": trace.fixture,
        "input": trace.fixture_input,
        "digests": {trace.key.fixture} if trace.key else set(),
        "texts": {text for text in own if text},
        "answers": {text for text in said if text},
    }


def _about_correction(path: str, data: bytes) -> dict[str, Any]:
    """The same of what a person said of an answer to the case."""
    said = Correction.model_validate(_value(Correction, data, path))
    case = Fixture(id=said.fixture, split=said.split, input=said.input, context=said.context)
    own = {*_parts(case), *_long(said.expected)} | ({said.why} if said.why else set())
    return {
        "job": "correction",
        "fixture": said.fixture,
        "input": case.input_text,
        "digests": set(),
        "texts": own,
        "answers": {said.output} if said.output else set(),
    }


def _parts(case: Fixture) -> list[str]:
    """The texts of a case, each as it may be quoted alone."""
    turns = () if isinstance(case.input, str) else tuple(turn.content for turn in case.input)
    texts = (case.input_text, *turns, case.context, case.correction, *_long(case.expected))
    return [text for text in texts if text]


def _long(value: JsonValue) -> list[str]:
    """The texts in an expectation that are more than a label."""
    return [text for text in leaks.strings(value) if _says(text) >= words.SHORTEST]


def _refuse_shared(job: _Job, what: _Case, others: Sequence[Fixture]) -> None:
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

    def walk(self, value: Any) -> Any:
        """JSON values with every text replaced; the names of fields stay."""
        if isinstance(value, str):
            return self.replace(value)
        if isinstance(value, dict):
            return {key: self.walk(item) for key, item in value.items()}
        return [self.walk(item) for item in value] if isinstance(value, list) else value


def _forms(text: str) -> set[str]:
    """As it is, as it stands in a JSON string, and in a JSON string within one."""
    forms = {text}
    for plain in (True, False):
        once = json.dumps(text, ensure_ascii=plain)[1:-1]
        forms |= {once, json.dumps(once, ensure_ascii=plain)[1:-1]}
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


class _Wanted(NamedTuple):
    """What to find in every record, and what besides in what the proposer was told."""

    own: Quotes
    told: Quotes


def _quotes(what: _Case, others: Sequence[Fixture]) -> tuple[_Wanted, tuple[str, ...]]:
    """What to look for, and the texts of the case that other cases have as well."""
    theirs = [text for other in others for text in _parts(other)]
    shared = {folded(text) for text in theirs}
    own = [text for text in what.texts if folded(text) not in shared]
    keep = [*theirs, *(canonical_json(other.expected) for other in others)]
    # A label, or a scorer's 'expected yes', is an answer to many cases.
    said = [text for text in what.answers if _says(text) >= words.RUN]
    kept = sorted(text for text in what.texts if folded(text) in shared)
    return _Wanted(Quotes(own, keep), Quotes([*own, *said], keep)), tuple(kept)


# Rewriting ------------------------------------------------------------------------------------


class _Done(NamedTuple):
    """What the rewriting came to.

    ``now`` has the new commit of every old one, ``first`` are the oldest ones that held the case,
    ``objects`` the contents that did.
    """

    tips: Mapping[str, str]
    now: Mapping[str, str]
    first: tuple[str, ...]
    dropped: frozenset[str]
    replaced: frozenset[str]
    objects: tuple[str, ...]


def _rewrite(
    job: _Job, history: _History, what: _Case, wanted: _Wanted, there: Mapping[Ref, bool]
) -> _Done:
    """Move this clone's branches to rewritten commits, both at once, if there is a difference."""
    changed = _changes(job, history, what, wanted)
    dropped = frozenset(path for (path, _), data in changed.items() if data is None)
    replaced = frozenset(path for path, _ in changed) - dropped
    objects = tuple(sorted({oid for _, oid in changed}))
    if not changed:
        same = {tip: tip for tip in history.tips.values()}
        done = _Done(history.tips, same, (), dropped, replaced, objects)
    else:
        now, first = _import(job, history, changed)
        done = _Done(history.tips, now, first, dropped, replaced, objects)
    for ref, has in there.items():
        _refuse_diverged(job.project, done, ref) if has else None
    moves = [
        f"update {ref} {done.now[tip]} {tip}"
        for ref, tip in history.tips.items()
        if ref in set(Ref) and done.now[tip] != tip
    ]
    scratch = skillrepo.run(job.project, "for-each-ref", "--format=%(refname)", _SCRATCH).text
    moves += [f"delete {name}" for name in scratch.split()]
    if moves:
        lines = "".join(f"{move}\n" for move in moves).encode()
        skillrepo.run(job.project, "update-ref", "--stdin", stdin=lines)
    _expire(job.project, [ref.value for ref in Ref])
    return done


def _changes(
    job: _Job, history: _History, what: _Case, wanted: _Wanted
) -> dict[tuple[str, str], bytes | None]:
    """By path and object: the new content, or None where the file goes."""
    changed: dict[tuple[str, str], bytes | None] = {}
    for (path, oid), data in history.texts(job.skill):
        kind = _kind(path)
        quotes = wanted.told if path.split("/")[-2] == "proposer" else wanted.own
        if oid in what.runs and kind in _OF_CASES:
            changed[path, oid] = None
            continue
        new = _reworded(kind, data, path, quotes)
        if new != data:
            changed[path, oid] = new
    return changed


def _reworded(kind: type[Record] | None, data: bytes, path: str, quotes: Quotes) -> bytes:
    if kind is None:
        return quotes.replace(data.decode("utf-8")).encode("utf-8")
    value = _value(kind, data, path)
    new = value
    for at in _WORDED[kind]:
        new = _put(new, at, quotes.walk)
    if new == value:
        return data
    kind.model_validate(new)
    text = json.dumps(new, indent=2, ensure_ascii=False)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(new, indent=2)}\n".encode()


def _put(value: Any, at: tuple[str, ...], change: Callable[[Any], Any]) -> Any:
    """``value`` with the part at a path of field names changed, if it is there."""
    if not at:
        return change(value)
    if not isinstance(value, dict) or at[0] not in value:
        return value
    return value | {at[0]: _put(value[at[0]], at[1:], change)}


def _import(
    job: _Job, history: _History, changed: Mapping[tuple[str, str], bytes | None]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Make the rewritten commits; returns the new ones by the old, and the oldest that changed."""
    stream = [_rewritten(step, job.skill, changed) for step in history.steps]
    with tempfile.TemporaryDirectory(prefix="ratchet-forget-") as folder:
        marks = Path(folder) / "marks"
        skillrepo.run(
            job.project,
            *("-c", "fastimport.unpackLimit=20", "fast-import", "--quiet", "--done", "--force"),
            f"--export-marks={marks}",
            stdin=b"".join([*stream, b"done\n"]),
        )
        new = dict(line.split(" ") for line in marks.read_text("ascii").splitlines())
    mark, old = "", {}
    parents: dict[str, list[str]] = {}
    for line in (step.line.decode("utf-8", "replace") for step in history.steps):
        word, _, rest = line.partition(" ")
        if word == "mark":
            mark = rest
        elif word == "original-oid":
            old[mark] = rest
            parents[mark] = []
        elif word in ("from", "merge") and mark in parents:
            parents[mark].append(rest)
        elif word == "reset":
            mark = ""
    now = {oid: new[mark] for mark, oid in old.items()}
    moved = {mark for mark, oid in old.items() if new[mark] != oid}
    first = tuple(old[mark] for mark in moved if not moved & set(parents[mark]))
    return now, first


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


def _refuse_diverged(project: Project, done: _Done, ref: Ref) -> None:
    """Refuse to replace a branch of the remote that has records which this clone has not."""
    theirs, own = (done.now.get(done.tips.get(name, "")) for name in (_theirs(ref), ref.value))
    if theirs and own:
        ahead = skillrepo.run(project, "merge-base", "--is-ancestor", theirs, own, ok=(0, 1)).status
        if not ahead:
            return
    name = ref.removeprefix("refs/heads/")
    raise RatchetError(
        f"Branch {name} of origin has records that this clone has not; nothing was forgotten.",
        hint=f"Look at both: 'git log {name}...origin/{name}'. In a fresh clone this works.",
    )


def _expire(project: Project, refs: Iterable[str]) -> None:
    """Empty the logs of where branches were; other logs are the user's."""
    for ref in refs:
        if not skillrepo.run(project, "reflog", "exists", ref, ok=(0, 1)).status:
            now = ("--expire=now", "--expire-unreachable=now")
            skillrepo.run(project, "reflog", "expire", *now, ref)


def _push(job: _Job, done: _Done, there: Mapping[Ref, bool]) -> None:
    """Replace the remote's branches where they still are what was rewritten."""
    for ref, has in there.items():
        tip, theirs = done.tips.get(ref.value), done.tips.get(_theirs(ref))
        if not has or tip is None or theirs is None:
            continue
        new, name = done.now[tip], ref.removeprefix("refs/heads/")
        if theirs != new:
            remote.push(job.project, new, branch=name, expect=theirs)
            skillrepo.run(job.project, "update-ref", _theirs(ref), new)
        _expire(job.project, [_theirs(ref)])


def _drop_mirrors(project: Project, done: _Done) -> None:
    """Delete what Ratchet fetched for itself of the old records; it is fetched again at need."""
    for name in _leading(project, done.first):
        if name.startswith("refs/ratchet/"):
            skillrepo.run(project, "update-ref", "-d", name)


# What is left ---------------------------------------------------------------------------------


def _leading(project: Project, commits: Collection[str]) -> tuple[str, ...]:
    """The names in this clone that lead to one of the commits."""
    found: set[str] = set()
    for commit in commits:
        if not skillrepo.run(project, "cat-file", "-e", commit, ok=range(256)).status:
            form = ("for-each-ref", "--format=%(refname)", f"--contains={commit}")
            found |= set(skillrepo.run(project, *form).text.split())
    return tuple(sorted(found))


def _still_there(project: Project, objects: Sequence[str]) -> int:
    asked = "".join(f"{oid}\n" for oid in objects).encode()
    if not asked:
        return 0
    out = skillrepo.run(project, "cat-file", "--batch-check", stdin=asked).text
    return sum(not line.endswith(" missing") for line in out.splitlines())


def _quoting_skill(job: _Job, wanted: _Wanted) -> str | None:
    """The skill's file, if it quotes the case as it is on disk."""
    tree = skillrepo.WorkTree(job.project)
    text = tree.read(job.skill_path).decode("utf-8", "replace")
    return job.skill_path if wanted.own.replace(text) != text else None


def describe(done: Forgotten) -> list[str]:
    """What was done in words, and what may still hold the case."""
    lines = [f"Case {done.fixture} of skill {done.skill} is forgotten."]
    if done.file:
        made = f"commit {done.commit[:12]}" if done.commit else "not committed yet"
        lines.append(f"{done.file}: taken out ({made}).")
    lines.append(f"{render.many(done.traces, 'trace')} deleted from the ledger's history.")
    lines += [f"{path}: quoted it, now says {MARK}" for path in done.replaced[:LISTED]]
    if len(done.replaced) > LISTED:
        lines.append(f"and {len(done.replaced) - LISTED:,} more such records (--json names all)")
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
