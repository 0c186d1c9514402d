"""Runs that several machines share: what each hands in, and what is made of all of it.

What is put together must be what one machine would have come to, or be refused before a call.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import SEALED, World, script

from bot.core.records import Fixture
from bot.core.shards import MOST, Shard
from bot.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


CASES = {"train": tuple(f"t{n}" for n in range(1, 8)), "holdout": ("h1", "h2", "h3")}
HALF = {"alpha": ("t1", "t2", "t3", "h1")}


# Shares of the cases ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1/1", "2/4", f"{MOST}/{MOST}"])
def test_a_shard_is_read_as_it_is_written(text: str) -> None:
    assert str(Shard.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "1", "0/4", "5/4", "-1/4", "1/0", "01/4", "1/4/2", "a/b", "²/4", f"1/{MOST + 1}"]
)
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match="expected I/N"):
        Shard.parse(text)


def fixtures(count: int) -> list[Fixture]:
    return [Fixture(id=f"c{n}", split="train", input=f"case {n}") for n in range(count)]


@given(count=st.integers(0, 60), of=st.integers(1, 12), seed=st.randoms())
def test_every_case_is_in_one_share_whatever_their_order(count: int, of: int, seed: Any) -> None:
    """And no machine has much more to do than another."""
    cases = fixtures(count)
    shares = [Shard(number, of).cases(cases) for number in range(1, of + 1)]
    assert sorted(one.id for share in shares for one in share) == sorted(one.id for one in cases)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    seed.shuffle(cases)
    assert [Shard(number, of).cases(cases) for number in range(1, of + 1)] == shares


@given(total=st.integers(0, 5000), of=st.integers(1, MOST))
def test_the_parts_of_a_cap_add_up_to_it(total: int, of: int) -> None:
    assert sum(Shard(number, of).part(total) for number in range(1, of + 1)) == total


# Evaluations ------------------------------------------------------------------------------------


class Machines:
    """A repository, a clone for each shard, and what they hand in."""

    def __init__(self, folder: Path, **project: Any) -> None:
        self.folder, self.handed = folder, folder / "handed"
        self.hub = World.make(folder / "hub", **({"cases": CASES} | project))

    def clone(self, name: str) -> World:
        if not (self.folder / name).exists():
            self.hub.git("clone", "--quiet", str(self.hub.path), str(self.folder / name))
        return World(self.folder / name)

    def document(self, name: str) -> Any:
        return json.loads((self.handed / name / "manifest.json").read_text())

    def change(self, name: str, **changes: Any) -> None:
        """Write something else into a manifest."""
        file = self.handed / name / "manifest.json"
        file.write_text(json.dumps(self.document(name) | changes))

    def traces(self, name: str) -> list[Any]:
        text = (self.handed / name / "runs.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def forge(self, name: str, traces: list[Any]) -> None:
        """Replace the runs of a shard, the digest in its manifest too."""
        data = "".join(f"{json.dumps(one)}\n" for one in traces).encode()
        (self.handed / name / "runs.jsonl").write_bytes(data)
        self.change(name, files={"runs.jsonl": hashlib.sha256(data).hexdigest()})

    def evaluate(self, of: int, *args: str, clones: bool = True) -> list[Any]:
        """Every shard of an evaluation."""
        done = []
        for number in range(1, of + 1):
            world = self.clone(f"clone{number}" if clones else "one")
            out = ("--out", str(self.handed / str(number)))
            done.append(world.ratchet("eval", "--json", "--shard", f"{number}/{of}", *out, *args))
        return done

    def together(self, *args: str, name: str = "last") -> Any:
        return self.clone(name).ratchet("eval", "--from-shards", str(self.handed), *args)


def unnamed(document: Any) -> Any:
    """Without the names of the runs, which have the time in them."""
    return document | {"cases": [case | {"trace": None} for case in document["cases"]]}


@pytest.mark.parametrize("split", ["train", "holdout"])
@pytest.mark.parametrize("of", [1, 3, 9])
def test_shards_of_an_evaluation_come_to_what_one_machine_says(
    tmp_path: Path, split: str, of: int
) -> None:
    """The same text and the same document; also with more machines than cases."""
    machines = Machines(tmp_path, model=script(right={"": HALF["alpha"]}))
    args = ("--split", split)
    alone = [machines.clone(name).ratchet("eval", *args, *more) for name, more in
             (("a", ("--json",)), ("b", ()))]  # fmt: skip

    shards = machines.evaluate(of, *args)
    said = [machines.together("--json", *args), machines.together(*args)]

    assert [one.code for one in (*shards, *alone, *said)] == [ExitCode.DONE] * (of + 4)
    assert unnamed(said[0].json) == unnamed(alone[0].json)
    assert said[1].out == alone[1].out
    assert sum(one.json["runs"] for one in shards) == len(CASES[split])
    last = machines.clone("last")
    kept = list(last.ledger().traces(split=split))  # type: ignore[arg-type]
    assert sorted(one.fixture for one in kept) == sorted(CASES[split])
    assert sum(run.calls for run in last.ledger().spent_by_runs()) == len(CASES[split])
    if split == "holdout":
        assert SEALED not in said[1].out + last.told("refs/heads/ratchet/ledger")


def test_kept_runs_are_re_used_by_shards_as_by_one_machine(tmp_path: Path) -> None:
    """And a shard that is run again pays for nothing again."""
    machines = Machines(tmp_path)
    machines.evaluate(2, clones=False)
    shutil.rmtree(machines.handed)

    again = machines.evaluate(2, clones=False)

    assert [one.json["calls"] for one in again] == [0, 0]
    said = machines.together("--json", name="one").json
    assert (said["reused"], said["calls"]) == (len(CASES["train"]), 0)


def test_a_run_without_a_score_is_said_as_one_machine_says_it(tmp_path: Path) -> None:
    broken = {"when": {"input_contains": "t3"}, "error": "overloaded"}
    machines = Machines(tmp_path, model=script(first=[broken]))
    alone = machines.clone("alone").ratchet("eval", "--json")
    shards = machines.evaluate(3)
    said = machines.together("--json")
    assert sorted(one.code for one in shards) == [ExitCode.DONE, ExitCode.DONE, ExitCode.ERROR]
    assert (said.code, said.err) == (alone.code, alone.err.partition("\n")[2].partition("\n")[2])
    assert unnamed(said.json) == unnamed(alone.json)


def test_a_kept_run_is_not_replaced_by_a_shard_s(tmp_path: Path) -> None:
    """What experiments were measured with stays what it was."""
    machines = Machines(tmp_path)
    last = machines.clone("last")
    last.ratchet("eval")
    before = {trace.id for trace in last.ledger().traces()}
    machines.evaluate(2)
    assert machines.together().code == ExitCode.DONE
    assert {trace.id for trace in last.ledger().traces()} == before


@pytest.mark.parametrize(
    "args",
    [
        ("--shard", "1/2"),
        ("--out", "x"),
        ("--shard", "3/2", "--out", "x"),
        ("--shard", "1/2", "--out", "x", "--from-shards", "y"),
    ],
    ids=" ".join,
)
def test_options_of_an_evaluation_that_do_not_go_together(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    world = World.make(tmp_path / "p")
    assert world.ratchet("eval", *args).code == ExitCode.USAGE
    assert world.branches() == {"main"}


def edit(machines: Machines, **changes: str) -> None:
    for name, text in changes.items():
        machines.clone("last").write(name, text)


EVALUATIONS: dict[str, tuple[Callable[[Machines], Any], str]] = {
    "none": (lambda m: shutil.rmtree(m.handed), "There is no shard in"),
    "missing": (lambda m: shutil.rmtree(m.handed / "2"), "Missing: shard 2/3."),
    "case left out": (lambda m: m.forge("1", m.traces("1")[1:]), "lacks 1 of its runs"),
    "another skill text": (
        lambda m: m.clone("last").write("skills/triage/SKILL.md", "---\nname: triage\n"
                                        "description: Other.\n---\n\nNo.\n"),
        "parent",
    ),
    "another case": (
        lambda m: m.clone("last").write("fixtures/triage/train/t1.yml", '{"input": "New?", '
                                        '"expected": "yes"}'),
        "train_digest",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EVALUATIONS)
def test_what_is_not_put_together_to_an_evaluation(tmp_path: Path, name: str) -> None:
    machines = Machines(tmp_path)
    machines.evaluate(3)
    spoil, message = EVALUATIONS[name]
    spoil(machines)
    said = machines.together()
    assert said.code == ExitCode.ERROR
    assert message in said.err
    assert "hint: " in said.err
    assert list(machines.clone("last").ledger().traces()) == []
