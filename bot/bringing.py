"""``ratchet import``: rows of a file become fixtures of a skill."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from bot import formats, importing, skillrepo, strict, workspace
from bot.errors import RatchetError
from bot.fixtures import SPLITS
from bot.redact import Redactor, redact_keys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from bot.formats import Kind
    from bot.importing import Imported
    from bot.skillrepo import Project

FILE = "imported.jsonl"


@dataclass(frozen=True, slots=True)
class Brought:
    """What was imported, and the files it was written to."""

    skill: str
    format: Kind
    imported: Imported
    redacted: int  # secrets, in all rows that were read
    files: tuple[str, ...]
    folder: str


class _Cleaner:
    """Takes secrets out of texts: the environment's, and what has the shape of a key."""

    def __init__(self, extra: Collection[str]) -> None:
        self._redactor = Redactor.from_environ(os.environ, extra=extra)
        self._keys = 0

    @property
    def count(self) -> int:
        """How many were taken out."""
        return self._keys + self._redactor.count

    def __call__(self, text: str) -> str:
        clean, count = redact_keys(self._redactor.redact(text))
        self._keys += count
        return clean


def bring(
    project: Project,
    *,
    file: Path,
    skill: str | None,
    kind: Kind | None,
    input_column: str | None,
    expected_column: str | None,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    train: int | None,
    holdout: int | None,
    ratio: float,
    limit: int | None,
    skip_broken: bool,
    corrections: bool | None,
) -> Brought:
    """Add the cases of ``file`` to the skill's fixtures, in ``train/`` and ``holdout/``."""
    tree = skillrepo.WorkTree(project)
    settings = workspace.load_config(tree)
    name = workspace.choose_skill(settings, skill)
    folder = settings.skill(name).fixtures
    cleaner = _Cleaner(settings.redact)
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        kind = kind or formats.recognise(read_lines(opened), path=file.name)
        if kind is None:
            raise RatchetError(
                f"{file}: not a .csv, and no other format that is known.",
                hint=f"Name the format: --format, one of {', '.join(formats.KINDS)}.",
            )
        opened.seek(0)
        imported = importing.import_rows(
            read_lines(opened),
            kind=kind,
            columns=_columns(input_column, expected_column, columns),
            path=file.name,
            ratio=ratio,
            sizes=_sizes(train, holdout),
            limit=limit,
            labels=labels,
            existing=workspace.read_fixtures(tree, folder, require=()),
            corrections=corrections,
            skip_broken=skip_broken,
            redact=cleaner,
        )
    files = tuple(
        written
        for split in SPLITS
        if (written := _write(tree, f"{folder}/{split}/{FILE}", imported, split))
    )
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
    input_column: str | None, expected_column: str | None, others: tuple[str, ...]
) -> dict[str, str]:
    columns = {"input": input_column, "expected": expected_column}
    for pair in others:
        key, equals, column = pair.partition("=")
        if not equals or not column or key not in importing.KEYS:
            raise RatchetError(
                f"--column {pair}: expected KEY=COLUMN.",
                hint=f"KEY is one of {', '.join(importing.KEYS)}.",
            )
        columns[key] = column
    return {key: column for key, column in columns.items() if column is not None}


def _sizes(train: int | None, holdout: int | None) -> dict[Any, int] | None:
    if train is None and holdout is None:
        return None
    if train is None or holdout is None:
        raise RatchetError("--train and --holdout go together.", hint="Give both, or --ratio.")
    return {"train": train, "holdout": holdout}


def _write(tree: skillrepo.WorkTree, path: str, imported: Imported, split: str) -> str | None:
    new = [fixture for fixture in imported.fixtures if fixture.split == split]
    if not new:
        return None
    target = tree.project.root / path
    before = strict.decode(tree.read(path)) if target.exists() else ""
    target.parent.mkdir(parents=True, exist_ok=True)
    swap = target.with_name(f".{target.name}.tmp")
    swap.write_text(importing.merge_jsonl(before, new), encoding="utf-8", newline="")
    swap.replace(target)
    return path


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
    if brought.redacted:
        lines.append(f"{brought.redacted} secrets were redacted in what was read.")
    for title, said in (
        ("conflict", imported.conflicts),
        ("skipped", imported.skipped),
        ("left out", imported.left_out),
    ):
        lines += [f"{title}: {line}" for line in said]
    if brought.files:
        lines.append(f"Next: git add {brought.folder} && git commit -m 'Add cases'")
    return lines
