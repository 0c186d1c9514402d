"""What a proposal's branch holds is read in one way, here and on GitHub."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gitrepo import SKILL, SKILL_TEXT, GitRepo
from skill_ratchet.experiment import proposal_tip
from skill_ratchet.project import workspace
from tests.experiment.test_tampering import bots
from tests.project.test_branches import BETTER, EVIDENCE, EXPERIMENT, TRAILERS, World
from world import SKILL_TEXT as FIRST
from world import World as Project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OURS: Any = SimpleNamespace(id=EXPERIMENT, candidate=workspace.text_of(BETTER).digest)


@pytest.fixture
def world(tmp_path: Path) -> World:
    GitRepo.with_skill(tmp_path / "repo")
    return World(tmp_path / "repo")


def read(world: World, commit: str, *own: Any) -> proposal_tip.Tip:
    return proposal_tip.read(world.project, commit, base="main", path=SKILL, own=own or (OURS,))


def committed(world: World, *options: str, message: str = "more", **files: str) -> str:
    """A commit on the proposal's branch; afterwards ``main`` is checked out again."""
    world.git("switch", "--quiet", "ratchet/triage")
    for path, text in files.items():
        world.write(path.replace("__", "/").replace("_dot_", "."), text)
    world.git("add", "--all")
    world.git("commit", "--quiet", f"--message={message}", *options)
    tip = world.tip("ratchet/triage")
    world.git("switch", "--quiet", "main")
    return tip


def trailing(**changes: str) -> str:
    told = TRAILERS | {key.replace("_", "-"): value for key, value in changes.items()}
    return "be kind\n\n" + "\n".join(f"{key}: {value}" for key, value in told.items())


def test_what_was_proposed(world: World) -> None:
    tip = read(world, world.publish())
    assert (tip.experiment, tip.evidence, tip.in_base, tip.edited) == (OURS, EVIDENCE, False, False)
    assert tip.text == workspace.text_of(BETTER)


def test_what_was_proposed_stays_so_when_the_base_goes_on(world: World) -> None:
    commit = world.publish()
    world.write("README.md", "news\n")
    world.commit("news")
    assert read(world, commit).experiment is OURS


def test_what_is_in_the_base_is_nobodys_work(world: World) -> None:
    """Also before anything was committed to the branch."""
    commit = world.land()
    tip = read(world, commit)
    assert (tip.experiment, tip.in_base, tip.edited) == (OURS, True, False)
    tip = read(world, world.tip("main~1"))
    assert (tip.experiment, tip.in_base, tip.edited) == (None, True, False)


def more(world: World) -> str:
    return committed(world, "--allow-empty")


def other_text(world: World) -> str:
    text = BETTER + "Mine.\n"
    world.git("switch", "--quiet", "ratchet/triage")
    world.write(world.skill, text)
    world.git("commit", "--quiet", "--all", "--amend", f"--message={trailing()}")
    tip = world.tip("ratchet/triage")
    world.git("switch", "--quiet", "main")
    return tip


def other_file(world: World) -> str:
    return committed(world, "--amend", message=trailing(), other_dot_txt="x\n")


def other_name(world: World) -> str:
    return committed(world, "--amend", message=trailing(Ratchet_Experiment="f" * 64))


def no_name(world: World) -> str:
    return committed(world, "--amend", message="be kind")


def gone(world: World) -> str:
    world.git("switch", "--quiet", "ratchet/triage")
    world.git("rm", "--quiet", world.skill)
    world.git("commit", "--quiet", "--amend", f"--message={trailing()}")
    tip = world.tip("ratchet/triage")
    world.git("switch", "--quiet", "main")
    return tip


def back_and_forth(world: World) -> str:
    """The text is the candidate's, but by way of a commit that the base has not."""
    committed(
        world, "--amend", message="mine", **{world.skill.replace("/", "__"): SKILL_TEXT + "x\n"}
    )
    return committed(world, message=trailing(), **{world.skill.replace("/", "__"): BETTER})


def merged_into(world: World, *, brings: str = "") -> str:
    """The base is merged into the branch, as GitHub's 'Update branch' does it."""
    if not brings:
        world.write("README.md", "news\n")
        world.commit("news")
    world.git("switch", "--quiet", "ratchet/triage")
    world.git("merge", "--quiet", "--no-ff", "--message=Merge branch", brings or "main")
    tip = world.tip("ratchet/triage")
    world.git("switch", "--quiet", "main")
    return tip


def merged_twice(world: World) -> str:
    merged_into(world)
    world.write("README.md", "later news\n")
    world.commit("later news")
    return merged_into(world, brings="main")


def merged_with_more(world: World) -> str:
    """A file that neither side has slips into the merge."""
    merged_into(world)
    return committed(world, "--amend", message="Merge branch", extra__py="x\n")


def merged_with_another_text(world: World) -> str:
    merged_into(world)
    path = world.skill.replace("/", "__")
    return committed(world, "--amend", message="Merge branch", **{path: f"{BETTER}More.\n"})


def merged_elsewhere(world: World) -> str:
    """What is merged is not the base's."""
    world.git("switch", "--quiet", "-c", "other")
    world.write("other.py", "x\n")
    world.commit("other")
    return merged_into(world, brings="other")


@pytest.mark.parametrize(
    "work",
    [
        more,
        other_text,
        other_file,
        other_name,
        no_name,
        gone,
        back_and_forth,
        merged_with_more,
        merged_with_another_text,
        merged_elsewhere,
    ],
    ids=lambda one: one.__name__,
)
def test_anything_else_is_a_persons_work(world: World, work: Callable[[World], str]) -> None:
    world.publish()
    tip = read(world, work(world))
    assert (tip.experiment, tip.in_base, tip.edited) == (None, False, True)


@pytest.mark.parametrize("update", [merged_into, merged_twice], ids=lambda one: one.__name__)
def test_a_branch_that_was_brought_up_to_date_is_still_the_bots(
    world: World, update: Callable[[World], str]
) -> None:
    world.publish()
    proposed = read(world, world.tip("ratchet/triage"))

    tip = read(world, update(world))

    assert (tip.experiment, tip.evidence) == (proposed.experiment, proposed.evidence)
    assert not tip.edited


def test_a_persons_experiment_is_not_the_bots(world: World) -> None:
    tip = proposal_tip.read(world.project, world.publish(), base="main", path=SKILL, own=())
    assert (tip.experiment, tip.edited) == (None, True)


def test_both_kinds_of_forge_write_the_same_words() -> None:
    one: Any = SimpleNamespace(
        id=EXPERIMENT,
        parent="c" * 64,
        skill="triage",
        proposal=SimpleNamespace(hypothesis=f"be\nkind {'x' * 99}"),
    )
    assert proposal_tip.subject(one).startswith("triage: be kind xxx")
    assert len(proposal_tip.subject(one)) == 72
    assert proposal_tip.trailers(one, evidence=EVIDENCE) == TRAILERS


def test_a_file_beside_the_edit_is_a_persons_work_whoever_signs_it(tmp_path: Path) -> None:
    """The skill, the evidence and the name are right: it is left alone before git has to say no."""
    world = Project.make(tmp_path / "p", config={"gate": {"merge": "after 1s"}})
    world.run()
    who = bots(world)
    world.git("switch", "--quiet", "ratchet/triage")
    world.write("beside.txt", "x\n")
    world.git("add", "beside.txt")
    world.git("commit", "--quiet", "--amend", "--no-edit", "--reset-author", **who)
    world.git("switch", "--quiet", "main")
    tip = world.tip("ratchet/triage")

    ran = world.ratchet("run")

    assert "edited by a person" in ran.out
    assert (world.skill(), world.tip("ratchet/triage")) == (FIRST, tip)
