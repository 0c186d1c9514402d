"""Which bundle is taken for a skill, of all that a folder of artifacts has.

A job may hand in an artifact of any name with anything in it, so a bundle is taken only where the
artifact, the folder in it and the manifest name the same skill, a job of this run was to make one
for it, and no other claims to be for it. What is in the one that is taken, ``bundles.read`` checks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from skill_ratchet.base.errors import RatchetError, faults_of
from skill_ratchet.ledger import bundles

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

ARTIFACT: Final = "ratchet-confirmation-"  # and the skill: as the job that confirms hands it in


@dataclass(frozen=True, slots=True)
class Offers:
    """The bundles to take, by skill, and why others are not; those by skill or by folder."""

    taken: dict[str, Path]
    refused: tuple[tuple[str, RatchetError], ...]


def below(folder: Path, *, planned: Collection[str] | None) -> Offers:
    """The confirmation bundles below a folder, which may be missing.

    Args:
        folder: Has a folder for each bundle, or one for each artifact with that folder in it.
        planned: The skills that jobs of this run were for; None when that is not known.
    """
    refused: list[tuple[str, RatchetError]] = []
    found: list[tuple[str, str, Path]] = []  # the skill it claims to be for, its folder
    for place in _folders(folder):
        with faults_of(place.name, refused):
            at = _bundle(place)
            claimed = bundles.read_manifest(at, kind="confirmation").skill
            found.append((claimed, at.name, at))
    claims = Counter(claimed for claimed, _, _ in found)
    taken: dict[str, Path] = {}
    for claimed, name, at in found:
        if problem := _problem(claimed, name, claims[claimed], planned):
            refused.append((claimed, problem))
        else:
            taken[claimed] = at
    return Offers(taken, tuple(_once(refused)))


def _problem(
    claimed: str, name: str, claims: int, planned: Collection[str] | None
) -> RatchetError | None:
    if claims > 1:
        return RatchetError(
            f"{claims} bundles say that they are for skill {claimed!a}, so none of them is taken.",
            hint="Look at the artifacts of this run: a job has handed in what another one was to.",
        )
    if claimed != name:
        return RatchetError(
            f"The folder {name!a} has a bundle for skill {claimed!a}, so it is not taken.",
            hint="Give each bundle a folder of its skill's name.",
        )
    if planned is not None and claimed not in planned:
        return RatchetError(
            f"No job of this run was to make a bundle for skill {claimed!a}: it is not taken.",
            hint="Look at the artifacts of this run.",
        )
    return None


def _bundle(place: Path) -> Path:
    """The folder with the manifest: this one, or the one in it where it is an artifact's."""
    if not place.name.startswith(ARTIFACT) or (place / bundles.MANIFEST).exists():
        return place
    skill = place.name.removeprefix(ARTIFACT)
    inside = sorted(entry.name for entry in place.iterdir())
    if inside != [skill] or place.joinpath(skill) not in _folders(place):
        raise RatchetError(
            f"The artifact {place.name!a} has not just a folder {skill!a} in it: it is not taken.",
            hint="Look at the artifacts of this run.",
        )
    return place / skill


def _folders(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())


def _once(refused: list[tuple[str, RatchetError]]) -> Iterator[tuple[str, RatchetError]]:
    """Each said once: of two for one skill the same is true."""
    said: set[tuple[str, str]] = set()
    for where, error in refused:
        if (where, error.message) not in said:
            said.add((where, error.message))
            yield where, error
