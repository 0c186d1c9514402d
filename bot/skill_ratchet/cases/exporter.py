"""``ratchet export``: fixtures as JSONL, which ``ratchet import`` reads back as they were."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.project import config, repository, workspace
from skill_ratchet.project.fixtures import dump_jsonl

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.core.records import Fixture
    from skill_ratchet.project.repository import Project

SIDES = {"train": ("train",), "holdout": ("holdout",), "all": ("train", "holdout")}


@dataclass(frozen=True, slots=True)
class Exported:
    """The cases of a skill, and the lines that say them."""

    skill: str
    fixtures: tuple[Fixture, ...]
    text: str


def export(project: Project, *, skill: str | None, split: str) -> Exported:
    """The fixtures of a skill as they are on disk; never those of the vault.

    Raises:
        RatchetError: A fault in any fixture, or there are none.
    """
    tree = repository.WorkTree(project)
    settings = config.load_config(tree)
    name = config.choose_skill(settings, skill)
    folder = settings.skill(name).fixtures
    found = workspace.read_fixtures(tree, folder, require=())
    chosen = tuple(one for one in found if one.split in SIDES[split])
    if not chosen:
        raise RatchetError(f"{name} has no fixtures in {' or '.join(SIDES[split])}.")
    return Exported(skill=name, fixtures=chosen, text=dump(chosen))


def dump(fixtures: tuple[Fixture, ...]) -> str:
    """A line for each fixture: what stands in a file of its split, and which split that is."""
    return "".join(
        json.dumps(json.loads(dump_jsonl([one])) | {"split": one.split}, ensure_ascii=False) + "\n"
        for one in fixtures
    )


def write(exported: Exported, path: Path, *, force: bool) -> None:
    """Write the lines to a file, which is whole or not there.

    Raises:
        RatchetError: The file is there and ``force`` is not given, or its folder is not there.
    """
    if path.exists() and not force:
        raise RatchetError(f"{path} is already there.", hint="Replace it with --force.")
    try:
        repository.write_whole(path, exported.text.encode())
    except OSError as error:
        raise RatchetError(f"{path} cannot be written: {error.strerror}.") from error


def document(exported: Exported, path: Path | None) -> dict[str, Any]:
    """The export as plain JSON values; with the lines where no file was asked for."""
    cases = [json.loads(line) for line in exported.text.split("\n") if line]
    return {
        "skill": exported.skill,
        "file": None if path is None else str(path),
        "fixtures": [{"id": one["id"], "split": one["split"]} for one in cases] if path else cases,
    }
