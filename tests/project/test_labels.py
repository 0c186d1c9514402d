"""Which labels the scorer ``label`` knows, whether people have listed them or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.core.scoring import Label
from skill_ratchet.project import repository, workspace
from world import World

if TYPE_CHECKING:
    from pathlib import Path

TRAIN = {"one": "yes", "two": "no", "three": "yes"}


@pytest.mark.parametrize(
    ("scorer", "train", "asked", "knows"),
    [
        ({}, TRAIN, "yes", ("no", "yes")),
        ({}, TRAIN, "fee", ("no", "yes", "fee")),
        ({}, TRAIN, ["fee", "yes", "card", "fee"], ("no", "yes", "fee", "card")),
        ({}, TRAIN, None, ("no", "yes")),
        ({}, TRAIN, 3, ("no", "yes")),
        ({}, TRAIN | {"four": ["maybe", "perhaps"]}, "yes", ("no", "yes")),
        ({}, {"one": "yes", "two": "yes"}, "fee", None),
        ({}, {"one": "yes", "two": "yes"}, ["fee", "card"], None),
        ({"labels": ["yes", "fee"]}, TRAIN, "card", ("yes", "fee")),
        ({"labels": ["yes", "fee"]}, TRAIN, ["card"], ("yes", "fee")),
    ],
)
def test_the_labels_that_a_case_is_scored_by(
    tmp_path: Path,
    scorer: dict[str, Any],
    train: dict[str, Any],
    asked: Any,
    knows: tuple[str, ...] | None,
) -> None:
    """A case of the holdout brings its own label, for itself alone, where none were listed."""
    world = World.make(tmp_path / "p")
    config = json.loads((world.path / "ratchet.yml").read_text("utf-8"))
    config["skills"]["triage"]["scorer"] = {"type": "label"} | scorer
    world.write("ratchet.yml", json.dumps(config))
    for path in (world.path / "fixtures/triage").glob("*/*"):
        path.unlink()
    for name, expected in train.items():
        case = {"input": name, "expected": expected}
        world.write(f"fixtures/triage/train/{name}.yml", json.dumps(case))
    world.write("fixtures/triage/holdout/h.yml", json.dumps({"input": "h", "expected": asked}))
    space = workspace.open_anywhere(
        repository.open_project(world.path), skill=None, ref=None, override={}, require=()
    )
    before = space.scorer
    found = workspace.fixture_spec(space, space.holdout[0])
    assert isinstance(found, Label)
    assert found.labels == knows
    assert space.scorer == before


@pytest.mark.parametrize("label", ["Yes", "yes!", " YES", "!?"])
@pytest.mark.parametrize("split", ["train", "holdout"])
def test_a_label_in_another_spelling_is_a_fault_of_that_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, split: str
) -> None:
    """It is an error that says where; what a held-out case expects is not told in a workflow."""
    world = World.make(tmp_path / "p")
    case = {"input": "Is it x?", "expected": "no"}
    world.write("fixtures/triage/train/x.yml", json.dumps(case))
    odd = {"input": "Is it odd?", "expected": label}
    world.write(f"fixtures/triage/{split}/odd.yml", json.dumps(odd))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    ran = world.ratchet("check")

    assert ran.code == ExitCode.ERROR, ran.err
    assert f"fixtures/triage/{split}" in ran.err
    assert (repr(label) in ran.err) is (split == "train")
    assert ("'ratchet check' in a clone says why" in " ".join(ran.err.split())) is (
        split == "holdout"
    )
