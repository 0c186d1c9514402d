"""``ratchet import``: rows of a file become fixtures of a skill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from skill_ratchet.base import documents
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Cleaner
from skill_ratchet.cases import batch, conversion, correction, formats
from skill_ratchet.cases.correction import Claim, GivenBy
from skill_ratchet.core import wording
from skill_ratchet.core.records import Answers
from skill_ratchet.ledger import access, clock
from skill_ratchet.project import config, repository, workspace
from skill_ratchet.project.config import LogConfig
from skill_ratchet.project.fixtures import SPLITS, append_jsonl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from skill_ratchet.cases.conversion import Imported
    from skill_ratchet.core.records import Fixture
    from skill_ratchet.project.config import Config, Kind
    from skill_ratchet.project.repository import Project


@dataclass(frozen=True, slots=True)
class Brought:
    """What was imported, and the files it was written to."""

    skill: str
    format: Kind
    imported: Imported
    redacted: int  # secrets, in all rows that were read
    files: tuple[str, ...]
    folder: str


def bring(
    project: Project,
    *,
    file: Path,
    skill: str | None,
    kind: Kind | None,
    input_column: str | None,
    expected_column: str | None,
    output_column: str | None = None,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    train: int | None,
    holdout: int | None,
    ratio: float | None,
    limit: int | None,
    skip_broken: bool,
    corrections: bool | None,
    answered_by: str | None = None,
) -> Brought:
    """Add the cases of ``file`` to the skill's fixtures, in ``train/`` and ``holdout/``.

    What is not given is what ``skills.<name>.log`` and ``feedback`` in ratchet.yml say. What the
    file shows of the skill at work goes to the ledger; ``answered_by`` is the branch, tag or
    commit whose skill gave the answers.
    """
    tree = repository.WorkTree(project)
    settings = config.load_config(tree)
    name = config.choose_skill(settings, skill)
    folder = settings.skill(name).fixtures
    log = settings.skill(name).log or LogConfig()
    rules = settings.feedback.rules
    version = _version(project, name, answered_by)
    cleaner = Cleaner.of_environ(settings.redact)
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        kind = kind or log.format or formats.recognise(read_lines(opened), path=file.name)
        if kind is None:
            raise RatchetError(
                f"{file}: not a .csv, and no other format that is known.",
                hint=f"Name the format: --format, one of {', '.join(formats.KINDS)}.",
            )
        opened.seek(0)
        imported = conversion.import_rows(
            read_lines(opened),
            kind=kind,
            columns={str(key): name for key, name in log.columns.items()}
            | _columns(input_column, expected_column, output_column, columns),
            path=file.name,
            rules=rules if ratio is None else rules.with_(ratio=ratio),
            sizes=_sizes(train, holdout),
            limit=limit,
            labels=labels or log.labels,
            existing=workspace.read_fixtures(tree, folder, require=()),
            corrections=corrections,
            skip_broken=skip_broken,
            clean=cleaner.walk,
        )
    # First what the log shows: given again after a crash, the cases that are there are not new.
    if imported.seen is not None:
        _record(project, settings, name, imported, version=version)
    files = add(tree, imported.fixtures, folder=folder)
    return Brought(
        skill=name,
        format=kind,
        imported=imported,
        redacted=cleaner.count,
        files=files,
        folder=folder,
    )


def read_lines(opened: TextIO) -> Iterator[str]:
    """Lines with their ends. One that is too long is cut, which breaks it, and not read."""
    while line := opened.readline(formats.MAX_LINE):
        yield line
        while len(line) == formats.MAX_LINE and not line.endswith("\n"):
            line = opened.readline(formats.MAX_LINE)


def _columns(
    input_column: str | None,
    expected_column: str | None,
    output_column: str | None,
    others: tuple[str, ...],
) -> dict[str, str]:
    columns = {"input": input_column, "expected": expected_column, "output": output_column}
    for pair in others:
        key, equals, column = pair.partition("=")
        if not equals or not column or key not in conversion.KEYS:
            raise RatchetError(
                f"--column {pair}: expected KEY=COLUMN.",
                hint=f"KEY is one of {', '.join(conversion.KEYS)}.",
            )
        columns[key] = column
    return {key: column for key, column in columns.items() if column is not None}


def _sizes(train: int | None, holdout: int | None) -> dict[Any, int] | None:
    if train is None and holdout is None:
        return None
    if train is None or holdout is None:
        raise RatchetError("--train and --holdout go together.", hint="Give both, or --ratio.")
    return {"train": train, "holdout": holdout}


def add(tree: repository.WorkTree, fixtures: Iterable[Fixture], *, folder: str) -> tuple[str, ...]:
    """Append cases to the bot's files of fixtures; returns the files, each whole or as it was."""
    files = batch.by_file(fixtures, folder=folder)
    for path, new in files.items():
        there = (tree.project.root / path).exists()
        before = documents.decode(tree.read(path)) if there else ""
        write(tree, path, append_jsonl(before, new))
    return tuple(files)


def write(tree: repository.WorkTree, path: str, text: str) -> None:
    """Put a text into a file of the project, which is whole or as it was."""
    target = tree.project.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    repository.write_whole(target, text.encode())


def _version(project: Project, skill: str, ref: str | None) -> str | None:
    """The digest of the skill's text at a ref."""
    if ref is None:
        return None
    return workspace.open_anywhere(
        project, skill=skill, ref=ref, override={}, require=()
    ).text.digest


def _record(
    project: Project, settings: Config, skill: str, imported: Imported, *, version: str | None
) -> None:
    """What a log shows of the skill at work goes to the ledger, the same log once."""
    seen = imported.seen
    assert seen is not None  # noqa: S101 - the caller asked
    ledger = access.open_to_write(project, skill, redact=settings.redact)
    at = clock.now()
    if all(one.log != seen.log for one in ledger.answers()):
        ledger.add_answers(
            Answers(
                skill=skill,
                version=version,
                log=seen.log,
                at=at.isoformat(timespec="microseconds"),
                answers=seen.answers,
                corrected=seen.corrected,
                similarity=min(1.0, seen.likeness / seen.answers),
            )
        )
    known = {one.id for one in ledger.corrections()}
    for case in imported.fixtures:
        if (output := imported.outputs.get(case.id)) is not None:
            # Named without the link: the same line of another log says the same.
            source = GivenBy(case.author or "a log", None, at, None, "import")
            claim = Claim(case, output, None, version, 0)
            said = correction.record(claim, case, source, skill=skill).with_(link=case.link)
            if said.id not in known:
                ledger.add_correction(said)
    ledger.flush(f"{skill}: what a log shows")


def document(brought: Brought) -> dict[str, Any]:
    """The import as plain JSON values."""
    imported = brought.imported
    return {
        "skill": brought.skill,
        "format": brought.format,
        "files": list(brought.files),
        "fixtures": [{"id": one.id, "split": one.split} for one in imported.fixtures],
        "duplicates": imported.duplicates,
        "already": imported.already,
        "near": imported.near,
        "full": imported.full,
        "answers": imported.seen
        and {"seen": imported.seen.answers, "corrected": imported.seen.corrected},
        "conflicts": list(imported.conflicts),
        "skipped": list(imported.skipped),
        "left_out": list(imported.left_out),
        "redacted": brought.redacted,
    }


def describe(brought: Brought) -> list[str]:
    """The import in words."""
    imported = brought.imported
    count = {split: sum(one.split == split for one in imported.fixtures) for split in SPLITS}
    told = f"{count['train']} new train and {count['holdout']} new held-out cases"
    lines = [f"{told}, read as {brought.format}."]
    lines += [f"wrote {path}" for path in brought.files]
    if imported.already or imported.duplicates:
        lines.append(f"{imported.already} were there already, {imported.duplicates} repeated.")
    if imported.near:
        like = "nearly the same as a case that is there, or one has the other in it"
        lines.append(f"{imported.near} are {like}.")
    if imported.full:
        lines.append(f"{imported.full} are more than feedback.caps in ratchet.yml allows.")
    if imported.seen:
        seen = imported.seen
        lines.append(f"{seen.corrected:,} of {seen.answers:,} answers were corrected; recorded.")
    if brought.redacted:
        lines.append(f"{wording.many(brought.redacted, 'secret')} redacted in what was read.")
    for title, said in (
        ("conflict", imported.conflicts),
        ("skipped", imported.skipped),
        ("left out", imported.left_out),
    ):
        lines += [f"{title}: {line}" for line in said]
    if brought.files:
        commit = f"git add {brought.folder} && git commit -m 'Add cases'"
        lines.append(f"Next: ratchet check && {commit}")
    return lines
