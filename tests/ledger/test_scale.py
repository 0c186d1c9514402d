"""A ledger of hundreds of experiments costs what a small one does; clones of a part of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import filling
import ledger as figures
import shared
from gitrepo import GitRepo
from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.ledger import Ref, Store, gitref
from skill_ratchet.project import branches, repository
from world import SKILL, World, script

if TYPE_CHECKING:
    from pathlib import Path

SHALLOW = "git fetch --unshallow"
FETCH = "hint: Run 'ratchet fetch' first."
NO_RULE = script(right={})  # an edit changes nothing, so it is rejected


# What an experiment adds ----------------------------------------------------------------------


def test_the_22nd_experiment_costs_git_what_the_7th_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes and objects of an experiment, and processes of all that is asked of the ledger.

    Both are against a text that was merged, two experiments ago.
    """
    monkeypatch.setattr(gitref, "MANY", 10_000)
    with shared.workplace():
        grown = figures.Grown(tmp_path / "project", traces=40)
        seen = []
        for at in (7, 22):
            grown.fill(at - 2)
            (step,) = grown.experiments(1)
            asked = {"start": grown.start(), **grown.ask()}
            counts = {name: used.processes for name, used in asked.items()}
            seen.append((step.objects, step.processes, counts))
    (objects, *others), (later, *other) = seen
    assert others == other
    assert abs(objects - later) <= 2  # records of the same bytes are one object
    assert 40 + filling.CASES < seen[0][0] < 40 + filling.CASES + 30  # the incumbent's are kept
    assert 0 < seen[0][1] < 120


# Packs ----------------------------------------------------------------------------------------


def packs(repo: GitRepo) -> set[str]:
    return {pack.name for pack in (repo.path / ".git/objects/pack").glob("*.pack")}


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "repo")
    made.path.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    made.write("x", "x\n")
    made.commit("start")
    return made


def flush(repo: GitRepo, *numbers: int) -> Store:
    store = Store(repo.path, redactor=Redactor({}))
    for number in numbers:
        for ref in Ref:
            store.put(ref, f"s/f{number}/x.txt", f"{number}\n" * 50)
        store.flush(f"{number}")
    return store


def test_small_packs_are_joined_once_there_are_many(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two a flush would be 40; everything is there afterwards, the user's loose objects too."""
    monkeypatch.setattr(gitref, "MANY", 6)
    repo.write("y", "nothing leads here")
    lost = repo.git("hash-object", "-w", "y")
    most = 0
    for number in range(20):
        store = flush(repo, number)
        most = max(most, len(packs(repo)))
    assert 3 <= most <= 8
    for ref in Ref:
        assert len(store.list(ref, "s/")) == 20
        assert store.get(ref, "s/f0/x.txt") == "0\n" * 50
    assert repo.git("cat-file", "blob", lost) == "nothing leads here"
    repo.git("fsck", "--strict")


def test_a_pack_that_became_large_is_left_as_it_is(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no flush packs everything anew."""
    flush(repo, *range(3))
    repo.git("repack", "-qad")
    (large,) = packs(repo)
    monkeypatch.setattr(gitref, "MANY", 3)
    monkeypatch.setattr(gitref, "SMALL", (repo.path / ".git/objects/pack" / large).stat().st_size)
    flush(repo, *range(3, 9))
    assert large in packs(repo)
    assert len(packs(repo)) <= 6


def test_nothing_is_joined_in_a_clone_that_lacks_objects(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gitref, "MANY", 3)
    repo.git("config", "remote.origin.promisor", "true")
    flush(repo, *range(5))
    assert len(packs(repo)) == 10


def test_a_flush_does_not_fail_because_packs_cannot_be_joined(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else took one away: what was to be written is written."""
    monkeypatch.setattr(gitref, "MANY", 3)
    repo.write(".git/objects/pack/pack-" + "0" * 40 + ".pack", "no pack")
    repo.write(".git/objects/pack/pack-" + "0" * 40 + ".idx", "no index")
    store = flush(repo, 3, 4)
    assert store.get(Ref.LEDGER, "s/f4/x.txt") == "4\n" * 50


# Clones of a part -----------------------------------------------------------------------------


@pytest.fixture
def origin(tmp_path: Path) -> World:
    """Two commits, and an experiment that looked at the holdout and was merged."""
    world = World.make(tmp_path / "origin")
    world.write("README.md", "more\n")
    world.commit("more")
    assert world.run().verdicts == [("merge", "improved")]
    world.git("config", "uploadpack.allowFilter", "true")
    world.git("config", "uploadpack.allowAnySHA1InWant", "true")
    return world


def clone(origin: World, path: Path, *options: str) -> World:
    origin.git("clone", "--quiet", *options, f"file://{origin.path}", str(path))
    return World(path)


def test_a_shallow_clone_says_what_to_fetch_before_anything_is_paid(
    origin: World, tmp_path: Path
) -> None:
    """Step by step to a run that goes on with the ledger there is."""
    shallow = clone(origin, tmp_path / "shallow", "--depth=1")
    for command in ("run", "propose", "eval"):
        ran = shallow.ratchet(command)
        assert (ran.code, ran.out) == (ExitCode.ERROR, "")
        assert FETCH in ran.err
    assert shallow.branches() == {"main"}
    assert "ratchet fetch" in shallow.ratchet("log").out

    assert shallow.ratchet("fetch").code == ExitCode.DONE
    assert "merged" in shallow.ratchet("log").out
    ran = shallow.ratchet("run")
    assert ran.code == ExitCode.ERROR
    assert SHALLOW in ran.err

    shallow.git("fetch", "--quiet", "--unshallow")
    ran = shallow.run()
    assert ran.code == ExitCode.DONE, ran.err
    assert len(shallow.ledger().looks()) >= 1
    assert shallow.git("merge-base", "ratchet/ledger", "origin/ratchet/ledger")


def test_a_correction_begins_no_ledger_beside_the_one_of_the_remote(
    origin: World, tmp_path: Path
) -> None:
    """Nor would what was said be found again by anybody."""
    single = clone(origin, tmp_path / "single", "--single-branch")
    said = ("correct", "--input", "Who pays?", "--expected", "yes")
    ran = single.ratchet(*said)
    assert (ran.code, FETCH in ran.err) == (ExitCode.ERROR, True)
    assert single.branches() == {"main"}
    assert single.git("status", "--porcelain") == ""
    assert single.ratchet("fetch").code == ExitCode.DONE
    assert single.ratchet(*said).code == ExitCode.DONE


def test_a_shallow_clone_of_all_branches_can_look_back(origin: World, tmp_path: Path) -> None:
    shallow = clone(origin, tmp_path / "shallow", "--depth=1", "--no-single-branch")
    for command in (("log",), ("show", "1"), ("status",), ("explain", "1")):
        ran = shallow.ratchet(*command)
        assert (ran.code, ran.err) == (ExitCode.DONE, ""), command
        assert "fetch" not in ran.out
    assert SHALLOW in shallow.ratchet("run").err


def test_a_clone_of_one_branch_begins_a_ledger_where_the_remote_has_none(tmp_path: Path) -> None:
    origin = World.make(tmp_path / "origin", model=NO_RULE)
    single = clone(origin, tmp_path / "single", "--single-branch")
    assert single.run().code == ExitCode.DONE
    assert len(single.ledger().experiments()) == 1


def test_a_clone_of_one_branch_begins_none_where_the_remote_cannot_be_asked(
    tmp_path: Path,
) -> None:
    origin = World.make(tmp_path / "origin", model=NO_RULE)
    single = clone(origin, tmp_path / "single", "--single-branch")
    origin.path.rename(tmp_path / "gone")
    ran = single.run()
    assert ran.code == ExitCode.ERROR
    assert "ls-remote" in ran.err
    assert single.branches() == {"main"}


def test_a_confirm_run_in_a_shallow_clone_is_refused(origin: World, tmp_path: Path) -> None:
    """It is not known there whether the candidate was merged before."""
    maker = clone(origin, tmp_path / "maker")
    maker.write(SKILL, maker.skill().replace("Rule alpha.\n", ""))
    maker.commit("back")
    bundle = tmp_path / "bundle"
    assert maker.ratchet("propose", "--bundle", str(bundle)).code == ExitCode.DONE
    shallow = clone(maker, tmp_path / "shallow", "--depth=1", "--no-single-branch")
    ran = shallow.ratchet("confirm", "--bundle", str(bundle), "--out", str(tmp_path / "out"))
    assert ran.code == ExitCode.ERROR
    assert "fetch" in ran.err


def test_what_a_shallow_history_does_not_have_is_not_known(origin: World, tmp_path: Path) -> None:
    experiment = origin.only().id
    shallow = clone(origin, tmp_path / "shallow", "--depth=1")
    project = repository.open_project(shallow.path)
    tip = shallow.tip("main")
    assert branches.landed_in(project, tip, experiment_id=experiment, path=SKILL) == tip
    with pytest.raises(RatchetError, match="shallow") as caught:
        branches.landed_in(project, tip, experiment_id="0" * 64, path=SKILL)
    assert SHALLOW in str(caught.value.hint)


def blobs_missing(world: World) -> int:
    """Contents of the ledger's branch that are not in the clone."""
    listed = world.git(
        "rev-list", "--objects", "--missing=print", "refs/remotes/origin/ratchet/ledger"
    )
    return sum(line.startswith("?") for line in listed.split("\n"))


def test_what_runs_have_cost_is_fetched_alone_into_a_shallow_clone(
    origin: World, tmp_path: Path
) -> None:
    """It says the same of the month as the whole ledger, and no trace comes with it."""
    shallow = clone(origin, tmp_path / "shallow", "--depth=1")
    ran = shallow.ratchet("fetch", "--runs", "--json")
    assert (ran.code, ran.json) == (ExitCode.DONE, {"ratchet/ledger": True})
    month = budgets.month_of(datetime.now(UTC))
    whole = origin.ledger().runs_of_month(month)
    assert whole
    assert shallow.ledger().runs_of_month(month) == whole
    assert blobs_missing(shallow) > len(BLOBS_OF_AN_EXPERIMENT)
    assert not shallow.git("for-each-ref", "refs/remotes/origin/ratchet/holdout")


BLOBS_OF_AN_EXPERIMENT = ("experiment.json", "candidate.txt", "candidate.diff", "result.json")


def test_a_clone_with_the_whole_history_gets_the_whole_ledger(
    origin: World, tmp_path: Path
) -> None:
    single = clone(origin, tmp_path / "single", "--single-branch")
    assert single.ratchet("fetch", "--runs").code == ExitCode.DONE
    assert blobs_missing(single) == 0
    assert single.ledger().experiments() == origin.ledger().experiments()


def test_there_may_be_nothing_to_fetch(tmp_path: Path) -> None:
    origin = World.make(tmp_path / "origin")
    shallow = clone(origin, tmp_path / "shallow", "--depth=1")
    assert shallow.ratchet("fetch", "--runs", "--json").json == {"ratchet/ledger": False}
