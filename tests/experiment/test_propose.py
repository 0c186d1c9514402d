"""``ratchet propose``: up to the holdout, in a place where there need not be one."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.ledger import Ref, Store, access
from skill_ratchet.ledger.gitref import GitRef
from skill_ratchet.project.repository import CommitTree
from world import BOTH, SEALED, SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRAIN, HOLDOUT = BOTH[:3], BOTH[3:]
CASES = [f"fixtures/triage/holdout/{name}.yml" for name in HOLDOUT]
LEDGER = "refs/heads/ratchet/ledger"
SEALED_REF = "refs/heads/ratchet/holdout"
EDITED = f"{SKILL_TEXT}Rule alpha.\n"
OPEN = [("hold", "confirm_open")]
ON_TRAIN, ON_HOLDOUT = 3 + 1 + 3, 2 * 2  # calls: old skill, proposer and candidate; both sides


def propose(world: World, *args: str) -> Any:
    return world.ratchet("propose", "--json", *args)


# Places without a holdout ---------------------------------------------------------------------


def deleted(full: World, path: Path) -> World:
    """A clone in which somebody has committed the deletion of the held-out cases."""
    full.git("clone", "--quiet", str(full.path), str(path))
    bare = World(path)
    bare.git("rm", "--quiet", "-r", "fixtures/triage/holdout")
    bare.commit("without the holdout")
    return bare


def unreadable(full: World, path: Path) -> World:
    """A sparse checkout whose repository has no object with a held-out case in it."""
    shutil.copytree(full.path, path)
    sparse = World(path)
    sparse.git("update-index", "-q", "--refresh")  # the files are new to the copy
    sparse.git("sparse-checkout", "set", "--no-cone", "/*", "!holdout")
    for case in CASES:
        sha = full.git("rev-parse", f"main:{case}")
        (path / ".git/objects" / sha[:2] / sha[2:]).unlink()
    assert not (path / "fixtures/triage/holdout").exists()
    assert SEALED.encode() not in sparse.objects()
    return sparse


def removed(full: World, path: Path) -> World:
    """A checkout from which the files were removed, and nothing was committed."""
    shutil.copytree(full.path, path)
    shutil.rmtree(path / "fixtures/triage/holdout")
    return World(path)


PLACES = [deleted, unreadable, removed]


@pytest.mark.parametrize("elsewhere", PLACES)
def test_it_proposes_where_there_is_no_holdout_and_run_takes_it_up_where_there_is(
    tmp_path: Path, elsewhere: Callable[[World, Path], World]
) -> None:
    """Train calls are paid for there, those on the holdout here, and each of them once."""
    full = World.make(tmp_path / "full")
    there = elsewhere(full, tmp_path / "there")
    start = there.tip("main")

    ran = propose(there)

    assert (ran.code, ran.verdicts, ran.json["calls"]) == (ExitCode.DONE, OPEN, ON_TRAIN)
    (one,) = ran.json["experiments"]
    assert (one["train"], one["holdout"]) == ({"incumbent": 0.0, "candidate": 1.0}, None)
    assert there.tip("main") == start
    assert there.branches() == {"main", "ratchet/ledger"}
    assert there.ledger().results() == {}
    assert there.only().setting.holdout_digest is None

    full.git("fetch", "--quiet", str(there.path), f"{LEDGER}:{LEDGER}")
    taken = full.run()

    assert (taken.verdicts, taken.json["calls"]) == ([("merge", "improved")], ON_HOLDOUT)
    assert taken.json["experiments"][0]["id"] == one["id"]
    assert taken.json["experiments"][0]["calls"] == ON_TRAIN - 3 + ON_HOLDOUT
    assert full.skill() == EDITED
    assert full.only().setting.holdout_digest is not None
    assert [look.attempt for look in full.ledger().confirmations()] == [1]


@pytest.mark.parametrize("elsewhere", PLACES)
def test_it_writes_nothing_held_out_and_says_what_is_next(
    tmp_path: Path, elsewhere: Callable[[World, Path], World]
) -> None:
    """In no object of the ledger; where no object had it before, in no object at all."""
    there = elsewhere(World.make(tmp_path / "full"), tmp_path / "there")

    ran = there.ratchet("propose")

    assert ran.code == ExitCode.DONE
    assert "the held-out cases decide: ratchet run, or ratchet confirm" in " ".join(ran.out.split())
    told = there.told(LEDGER)
    assert "t1" in told
    for secret in (SEALED, "h1", "h2", '"split": "holdout"'):
        assert secret not in told, secret
    if elsewhere is unreadable:
        assert SEALED.encode() not in there.objects()


@pytest.mark.parametrize("elsewhere", PLACES)
def test_run_refuses_where_there_is_no_holdout(
    tmp_path: Path, elsewhere: Callable[[World, Path], World]
) -> None:
    """Before a call is made, and also when there is something to confirm."""
    there = elsewhere(World.make(tmp_path / "full"), tmp_path / "there")
    propose(there)

    ran = there.ratchet("run")

    assert ran.code == ExitCode.ERROR
    assert "holdout" in ran.err
    assert there.skill() == SKILL_TEXT
    assert there.branches() == {"main", "ratchet/ledger"}


def test_where_there_is_a_holdout_it_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a file of it nor the branch with its records, whatever scorer or skill has one."""
    config = {
        "skills": {
            "triage": {"scorer": {"type": "command", "command": ["python3", "score.py"]}},
            "other": {"scorer": "label"},
        }
    }
    world = World.make(tmp_path / "p", config=config)
    world.write("score.py", SCORE)
    for split in ("holdout", "vault"):
        world.write(f"fixtures/other/{split}/o1.yml", json.dumps({"input": "o1", "expected": "x"}))
    world.write("fixtures/triage/vault/v1.yml", json.dumps({"input": "v1", "expected": "yes"}))
    world.commit("more")
    assert world.ratchet("eval", "triage", "--split", "holdout").code == ExitCode.DONE
    opened: list[str] = []
    for owner, name in ((CommitTree, "read"), (CommitTree, "size"), (CommitTree, "_blob")):
        monkeypatch.setattr(owner, name, _watched(getattr(owner, name), world, opened))
    reader = Store.reader

    def guarded(store: Store, ref: Ref) -> Any:
        assert ref is not Ref.HOLDOUT
        return reader(store, ref)

    monkeypatch.setattr(Store, "reader", guarded)

    ran = propose(world, "triage")

    assert (ran.verdicts, ran.err.count("error")) == (OPEN, 0)
    assert "score.py" in opened
    assert not [path for path in opened if "holdout" in path or "vault" in path]


SCORE = "import sys\nsys.exit(sys.stdin.read() != 'yes')\n"


def _watched(real: Any, world: World, opened: list[str]) -> Any:
    names = {
        line.split()[2]: line.partition("\t")[2]
        for line in world.git("ls-tree", "-r", "HEAD").splitlines()
    }

    def read(tree: CommitTree, name: str, *more: str, **options: Any) -> Any:
        opened.append(names.get(name, name))
        return real(tree, name, *more, **options)

    return read


# Up to what, and then -------------------------------------------------------------------------


def test_it_stops_at_the_first_that_passes_and_reports_it_again_for_nothing(
    tmp_path: Path,
) -> None:
    """Rejected ones before it are as of any run; nothing is tried while one is open."""
    model = script([idea(1, "Rule beta."), idea(2, "Rule alpha."), idea(3, "Rule gamma.")])
    world = World.make(tmp_path / "p", model=model)

    ran = propose(world, "--attempts", "5")
    again = propose(world)

    assert ran.verdicts == [("reject", "screen_failed"), *OPEN]
    assert (again.verdicts, again.json["calls"]) == (OPEN, 0)
    assert again.json["experiments"][0]["id"] == ran.json["experiments"][1]["id"]
    assert [row["state"] for row in world.ratchet("log", "--json").json] == [
        "under way",
        "reject: screen_failed",
    ]
    assert world.run().verdicts == [("merge", "improved")]


def test_a_candidate_that_copies_held_out_text_is_rejected_where_that_can_be_seen(
    tmp_path: Path,
) -> None:
    """Without a call; the proposer is told no more than that it was not merged."""
    copied = f"Rule alpha. Would the {SEALED} agree to h1?"
    full = World.make(tmp_path / "full", model=script([idea(1, copied)]))
    there = deleted(full, tmp_path / "there")
    assert propose(there).verdicts == OPEN
    full.git("fetch", "--quiet", str(there.path), f"{LEDGER}:{LEDGER}")

    ran = full.run()

    assert (ran.verdicts, ran.json["calls"]) == ([("reject", "leaks_holdout")], 0)
    assert full.skill() == SKILL_TEXT
    assert full.ledger().results()[full.only().id].reason == "not_confirmed"
    assert list(full.ledger().traces(split="holdout")) == []


def changed_skill(full: World) -> None:
    full.write(SKILL, f"{SKILL_TEXT}By a person.\n")


def changed_train(full: World) -> None:
    full.write("fixtures/triage/train/t9.yml", json.dumps({"input": "t9", "expected": "yes"}))


@pytest.mark.parametrize("change", [changed_skill, changed_train])
def test_what_was_measured_on_something_else_is_not_taken_up(
    tmp_path: Path, change: Callable[[World], None]
) -> None:
    """Neither a skill nor train cases may have changed in between."""
    world = World.make(tmp_path / "p", model=script([idea(1, "Rule alpha."), idea(2, "Rule b.")]))
    assert propose(world).verdicts == OPEN
    change(world)
    world.commit("change")

    world.run()

    reasons = {one.number: one for one in world.ledger().experiments()}
    assert world.ledger().results()[reasons[1].id].reason == "superseded"
    assert "Rule alpha." not in world.skill()


def test_a_holdout_that_changes_while_it_is_consulted_ends_the_experiment(tmp_path: Path) -> None:
    """From the first run on that sees one, the experiment is bound to that holdout."""
    broken = {
        "when": {"system_contains": "Rule alpha.", "input_contains": "h2"},
        "error": "overloaded",
        "times": 1,
    }
    model = script([idea(1, "Rule alpha."), idea(2, "Rule b.")], first=[broken])
    world = World.make(tmp_path / "p", model=model)
    assert propose(world).verdicts == OPEN
    assert world.run().code == ExitCode.ERROR
    world.write(CASES[1], json.dumps({"input": "another h2?", "expected": "yes"}))
    world.commit("swap")

    assert propose(world).verdicts == OPEN  # here it is not known
    world.run()

    first = world.ledger().experiments()[0]
    assert world.ledger().results()[first.id].reason == "superseded"
    assert world.skill() == SKILL_TEXT


def test_an_open_proposal_is_left_alone(tmp_path: Path) -> None:
    """It can be settled only where its evidence is."""
    world = World.make(tmp_path / "p", config={"gate": {"merge": "manual"}})
    assert world.run().verdicts == [("hold", "awaits_person")]
    tip = world.tip("ratchet/triage")

    ran = world.ratchet("propose")

    assert ran.code == ExitCode.DONE
    assert "ratchet/triage" in ran.out
    assert "ratchet run" in " ".join(ran.out.split())
    assert world.tip("ratchet/triage") == tip
    assert propose(world).json["calls"] == 0


def test_the_stop_file_stops_it_too(tmp_path: Path) -> None:
    """Nothing is read, asked or written."""
    world = World.make(tmp_path / "p")
    (world.path / ".ratchet-hold").touch()

    ran = propose(world)

    assert (ran.code, ran.json["experiments"], ran.json["calls"]) == (ExitCode.DONE, [], 0)


def test_a_merge_that_the_ledger_does_not_know_is_written_down(tmp_path: Path) -> None:
    """A run that merged and died is completed, without a look at what it saw."""
    world = World.make(tmp_path / "p")
    world.run()
    experiment = world.only()
    store = GitRef(world.path / ".git", LEDGER)
    paths = [path for path in store.paths("") if not path.endswith(("result.json", "landed.json"))]
    texts = store.read(paths)
    world.git("update-ref", "-d", LEDGER)
    store.commit(texts, message="before", at=0, onto=None)
    assert world.ledger().results() == {}

    ran = propose(world)

    assert (ran.code, ran.json["experiments"], ran.json["calls"]) == (ExitCode.DONE, [], 0)
    result = world.ledger().results()[experiment.id]
    assert (result.action, result.reason) == ("merge", "improved")
    assert world.ledger().landings()[experiment.id].commit == world.tip("main")


def test_a_blind_ledger_has_nothing_held_out(tmp_path: Path) -> None:
    """It reads as if there were no branch of sealed records."""
    from skill_ratchet.project import repository  # noqa: PLC0415

    world = World.make(tmp_path / "p")
    world.run()
    experiment = world.only().id
    project = repository.open_project(world.path)
    blind = access.open_ledger(project, "triage", blind=True)

    assert world.ledger().confirmation(experiment) is not None
    assert blind.confirmation(experiment) is None
    assert blind.confirmations() == []
    assert blind.experiment_runs(experiment, "holdout") == []
    assert list(blind.traces(split="holdout")) == []
    assert len(blind.experiment_runs(experiment, "train")) == len(TRAIN)
    with pytest.raises(RatchetError):
        blind.find_trace("x", split="holdout")
