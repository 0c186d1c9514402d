"""``ratchet import``: rows of a file become fixtures of a skill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot import importing, skillrepo, strict, workspace
from bot.errors import RatchetError
from bot.fixtures import SPLITS

if TYPE_CHECKING:
    from pathlib import Path

    from bot.importing import Imported, Kind
    from bot.skillrepo import Project

KINDS: dict[str, Kind] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
FILE = "imported.jsonl"


@dataclass(frozen=True, slots=True)
class Brought:
    """What was imported, and the files it was written to."""

    skill: str
    imported: Imported
    files: tuple[str, ...]
    folder: str


def bring(
    project: Project,
    *,
    file: Path,
    skill: str | None,
    input_column: str | None,
    expected_column: str | None,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    train: int | None,
    holdout: int | None,
    ratio: float,
    limit: int | None,
    skip_broken: bool,
    corrections: bool,
) -> Brought:
    """Add the cases of ``file`` to the skill's fixtures, in ``train/`` and ``holdout/``."""
    tree = skillrepo.WorkTree(project)
    settings = workspace.load_config(tree)
    name = workspace.choose_skill(settings, skill)
    folder = settings.skill(name).fixtures
    kind = KINDS.get(file.suffix.lower())
    if kind is None:
        raise RatchetError(f"{file} is neither .csv nor .jsonl.", hint="Rename or convert it.")
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        imported = importing.import_rows(
            lines,
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
        )
    files = tuple(
        written
        for split in SPLITS
        if (written := _write(tree, f"{folder}/{split}/{FILE}", imported, split))
    )
    return Brought(skill=name, imported=imported, files=files, folder=folder)


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
        "files": list(brought.files),
        "fixtures": [{"id": one.id, "split": one.split} for one in imported.fixtures],
        "duplicates": imported.duplicates,
        "already": imported.already,
        "conflicts": list(imported.conflicts),
        "skipped": list(imported.skipped),
    }


def describe(brought: Brought) -> list[str]:
    """The import in words."""
    imported = brought.imported
    count = {split: sum(one.split == split for one in imported.fixtures) for split in SPLITS}
    lines = [f"{count['train']} new train and {count['holdout']} new held-out cases."]
    lines += [f"wrote {path}" for path in brought.files]
    if imported.already or imported.duplicates:
        lines.append(f"{imported.already} were there already, {imported.duplicates} repeated.")
    for title, left_out in (("conflict", imported.conflicts), ("skipped", imported.skipped)):
        lines += [f"{title}: {line}" for line in left_out]
    if brought.files:
        lines.append(f"Next: git add {brought.folder} && git commit -m 'Add cases'")
    return lines
