"""Commands die at moments that are found by watching them; the same command again puts it right.

``benchmarks/faults.py`` does this at every moment of every scene. ``make test-full`` does it at a
few moments of every scene, ``make test`` at one of three scenes.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from boundaries import EXIT
from kills import SCENES, Played, Scene, play, the_mortuary
from world import Mortuary, World

if TYPE_CHECKING:
    from pathlib import Path

SEED, EACH = 1, 2
FEW = ("propose", "confirm", "publish: merged")


@pytest.fixture(scope="module")
def mortuary(tmp_path_factory: pytest.TempPathFactory) -> Mortuary:
    """Where commands die."""
    return the_mortuary(tmp_path_factory.getbasetemp())


def scenes(*few: str) -> list[Any]:
    """The name of every scene and how often it is killed; ``few`` are killed once elsewhere."""
    every = [pytest.param(one.name, EACH, marks=pytest.mark.full) for one in SCENES]
    return [pytest.param(name, 1, id=f"{name}, once") for name in few] + every


@pytest.mark.parametrize(("name", "times"), scenes(*FEW))
def test_a_killed_command_given_again_ends_as_if_nothing_had_happened(
    tmp_path: Path, mortuary: Mortuary, name: str, times: int
) -> None:
    """Same outcome, nothing paid twice, nothing there twice, every object sound."""
    (scene,) = (one for one in SCENES if one.name == name)
    played = play(scene, mortuary, tmp_path / "scene")
    assert played.moments[-1] == f"{EXIT} #1"
    sample = random.Random(f"{SEED}/{name}").sample(played.moments, times)  # noqa: S311
    found = {moment: _killed(played, mortuary, tmp_path, moment) for moment in sample}
    assert found == {moment: [] for moment in sample}


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("eval", 1),
        pytest.param("propose", EACH, marks=pytest.mark.full),
        pytest.param("publish: merged", EACH, marks=pytest.mark.full),
    ],
)
def test_a_disk_that_gets_full_is_said_and_costs_nothing_but_time(
    tmp_path: Path, mortuary: Mortuary, name: str, times: int
) -> None:
    """An error and what to do; with space again the same command ends as it would have."""
    (scene,) = (one for one in SCENES if one.name == name)
    played = play(scene, mortuary, tmp_path / "scene")
    sample = random.Random(f"{SEED}/{name}/full").sample(played.moments, times)  # noqa: S311
    found = {
        moment: played.killed(mortuary, tmp_path / f"{nth}", moment, by=0)
        for nth, moment in enumerate(sample)
    }
    assert found == {moment: [] for moment in sample}


@pytest.mark.parametrize("moment", ["mkdir .proposal.tmp #1", "git bundle #1"])
def test_a_bundle_that_does_not_fit_on_the_disk(
    tmp_path: Path, mortuary: Mortuary, moment: str
) -> None:
    """Also outside of the ledger, and also where git is told so."""
    (scene,) = (one for one in SCENES if one.name == "propose")
    played = play(scene, mortuary, tmp_path / "scene")
    assert played.killed(mortuary, tmp_path / "full", moment, by=0) == []


def _killed(played: Played, mortuary: Mortuary, folder: Path, moment: str) -> list[str]:
    place = folder / f"{played.moments.index(moment)}"
    return played.killed(mortuary, place, moment)


def test_the_moments_of_a_command_are_found(tmp_path: Path, mortuary: Mortuary) -> None:
    """Calls, lines of the journal, half of them, files, git; and nothing that only reads."""
    played = play(Scene(name="eval", args=("eval", "--json")), mortuary, tmp_path)
    journal = "p/.git/ratchet/journal/ledger/*.jsonl"
    kinds = {moment.partition(" #")[0] for moment in played.moments}
    assert {
        "call",
        "answer",
        f"write {journal}",
        f"half of write {journal}",
        f"remove {journal}",
        "git fast-import",
        EXIT,
    } <= kinds
    assert not {kind for kind in kinds if kind.startswith(("git for-each", "git cat-file"))}
    assert played.calls == 3


def test_what_a_log_shows_is_kept_though_the_import_is_killed(
    tmp_path: Path, mortuary: Mortuary
) -> None:
    """Given again, its cases are no news; the corrections in it have to be on record by then."""
    world = World.make(tmp_path / "p")
    log = world.path.parent / "log.csv"
    log.write_text("input,output,expected\nAbout my lost card.,fees,cards\n")
    args = ("import", str(log), "--output", "output", "--expected", "expected", "--json")
    mortuary.run(world, *args, stop="exit #1")
    whole = len(world.ledger().corrections())
    other = World.make(tmp_path / "other" / "p")
    moment = "rename p/fixtures/triage/train/.corrections.jsonl.tmp to"
    played = [f"{moment} p/fixtures/triage/train/corrections.jsonl #1", "exit #1"]
    codes = [mortuary.run(other, *args, stop=one).code for one in played]

    assert whole == len(other.ledger().corrections()) == 1
    assert codes[-1] < 0


def test_a_bundle_has_what_a_killed_job_decided(tmp_path: Path, mortuary: Mortuary) -> None:
    """Its journal is read as the ledger, and a bundle is made of the branches alone."""
    (scene,) = (one for one in SCENES if one.name == "confirm")
    played = play(scene, mortuary, tmp_path / "scene")
    decided = played.moments.index("git fast-import #2")  # everything is in the journal, no more
    assert _killed(played, mortuary, tmp_path, played.moments[decided]) == []


def test_a_bundle_has_its_name_when_it_is_whole(tmp_path: Path, mortuary: Mortuary) -> None:
    """A killed job leaves no folder that the next one would take for a bundle, or stumble over."""
    world = World.make(tmp_path / "p")
    bundle = tmp_path / "proposal"
    args = ("propose", "--json", "--bundle", str(bundle))
    assert mortuary.run(world, *args, stop="git bundle #1").code < 0
    assert not bundle.exists()
    again = world.ratchet(*args)
    assert again.code == 0, again.err
    assert sorted(path.name for path in bundle.iterdir()) == ["manifest.json", "refs.bundle"]
    assert not list(tmp_path.glob(".proposal*"))
    assert json.loads((bundle / "manifest.json").read_text())["experiment"]
