"""Runs that several machines share: what each hands in, and what is made of all of it.

What is put together must be what one machine would have come to, or be refused before a call.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenes import Scenes
from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.core import evidence as stats
from skill_ratchet.core.gate import Policy, fewest_pairs, most_pairs
from skill_ratchet.core.records import Fixture, Reply, RolloutKey, trace_id
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.experiment.budget import BudgetSpent
from skill_ratchet.ledger import bundles, shards
from skill_ratchet.ledger.shards import MOST, Shard
from skill_ratchet.project import repository, workspace
from skill_ratchet.project.config import BudgetConfig
from skill_ratchet.providers.scripted import Scripted
from skill_ratchet.providers.text import CALL
from world import SEALED, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from skill_ratchet.core.records import Request
    from skill_ratchet.project.workspace import Workspace


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


@pytest.mark.parametrize("cases", [1, 5, 20, 500])
def test_shards_make_as_many_pairs_as_may_be_enough(cases: int) -> None:
    """Fewer could not be hoped to end in a merge; of what repeats itself one sweep says all."""
    policy = Policy()
    asked = {"fixtures": cases, "attempt": 3}
    fewest = fewest_pairs(**asked, policy=policy, deterministic=False)
    log_bar = -math.log(stats.level(3, alpha=policy.alpha, k=policy.k))
    assert fewest % stats.block_size(cases) == 0
    assert fewest <= most_pairs(**asked, policy=policy, deterministic=False)
    assert stats.reachable(stats.no_bets(), cap=fewest, log_bar=log_bar)
    assert not stats.reachable(
        stats.no_bets(), cap=fewest - stats.block_size(cases), log_bar=log_bar
    )
    assert fewest_pairs(**asked, policy=policy, deterministic=True) == cases
    weak = policy.with_(confirm_effort=0.01)
    assert fewest_pairs(**asked, policy=weak, deterministic=False) == most_pairs(
        **asked, policy=weak, deterministic=False
    )


# Evaluations ------------------------------------------------------------------------------------


class Machines:
    """A repository, a clone for each shard, and what they hand in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.handed, self.hub = folder, folder / "handed", World(folder / "hub")

    @classmethod
    def make(cls, folder: Path, **project: Any) -> Self:
        World.make(folder / "hub", **({"cases": CASES} | project))
        return cls(folder)

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


def space_of(world: World) -> Workspace:
    return workspace.open_at_base(repository.open_project(world.path), skill=None, override={})


def unnamed(document: Any) -> Any:
    """Without the names of the runs, which have the time in them."""
    return document | {"cases": [case | {"trace": None} for case in document["cases"]]}


@pytest.mark.parametrize("split", ["train", "holdout"])
@pytest.mark.parametrize("of", [1, 3, 9])
def test_shards_of_an_evaluation_come_to_what_one_machine_says(
    tmp_path: Path, split: str, of: int
) -> None:
    """The same text and the same document; also with more machines than cases."""
    machines = Machines.make(tmp_path, model=script(right={"": HALF["alpha"]}))
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
    machines = Machines.make(tmp_path)
    machines.evaluate(2, clones=False)
    shutil.rmtree(machines.handed)

    again = machines.evaluate(2, clones=False)

    assert [one.json["calls"] for one in again] == [0, 0]
    said = machines.together("--json", name="one").json
    assert (said["reused"], said["calls"]) == (len(CASES["train"]), 0)


def test_a_run_without_a_score_is_said_as_one_machine_says_it(tmp_path: Path) -> None:
    broken = {"when": {"input_contains": "t3"}, "error": "overloaded"}
    machines = Machines.make(tmp_path, model=script(first=[broken]))
    alone = machines.clone("alone").ratchet("eval", "--json")
    shards = machines.evaluate(3)
    said = machines.together("--json")
    assert sorted(one.code for one in shards) == [ExitCode.DONE, ExitCode.DONE, ExitCode.ERROR]
    assert (said.code, said.err) == (alone.code, alone.err.partition("\n")[2].partition("\n")[2])
    assert unnamed(said.json) == unnamed(alone.json)


def test_a_kept_run_is_not_replaced_by_a_shard_s(tmp_path: Path) -> None:
    """What experiments were measured with stays what it was."""
    machines = Machines.make(tmp_path)
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
def test_what_is_not_put_together_to_an_evaluation(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path / "machines"
    Scenes(tmp_path_factory).copied(
        folder, lambda scene: Machines.make(scene).evaluate(3), [__name__, "evaluated"]
    )
    machines = Machines(folder)
    spoil, message = EVALUATIONS[name]
    spoil(machines)
    said = machines.together()
    assert said.code == ExitCode.ERROR
    assert message in said.err
    assert "hint: " in said.err
    assert list(machines.clone("last").ledger().traces()) == []


# Confirm runs -----------------------------------------------------------------------------------


class Jobs(Machines):
    """A proposal that passed the screen, and the machines that confirm it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.bundle = str(folder / "proposal")

    def shard(self, number: int, of: int, *args: str, clone: str = "") -> Any:
        """Make the runs of one shard, in a clone of its own."""
        world = self.clone(clone or f"clone{number}")
        out = ("--out", str(self.handed / str(number)))
        share = ("--shard", f"{number}/{of}")
        return world.ratchet("confirm", "--json", "--bundle", self.bundle, *share, *out, *args)

    def shards(self, of: int, *args: str) -> list[Any]:
        done = [self.shard(number, of, *args) for number in range(1, of + 1)]
        assert [one.code for one in done] == [ExitCode.DONE] * of, [one.err for one in done]
        return done

    def decide(self, *args: str, name: str = "last", out: str = "made") -> Any:
        """Put together what was handed in."""
        shards = ("--from-shards", str(self.handed))
        return self.alone(*shards, *args, name=name, out=out)

    def alone(self, *args: str, name: str = "alone", out: str = "alone-made") -> Any:
        """Confirm on one machine."""
        folders = ("--bundle", self.bundle, "--out", str(self.folder / out))
        return self.clone(name).ratchet("confirm", "--json", *folders, *args)

    def verdict(self, out: str = "made") -> Any:
        """What was decided and on which pairs, but for the names of the runs."""
        found = json.loads((self.folder / out / "verdict.json").read_text())
        for pair in found["evidence"]["confirm"] + found["evidence"]["screen"]:
            pair["incumbent_run"] = pair["candidate_run"] = None
            pair["more_runs"] = len(pair["more_runs"])
        return found


def propose(jobs: Jobs) -> None:
    """Make the proposal; some machines have their clones already."""
    ran = jobs.clone("proposer").ratchet("propose", "--json", "--bundle", jobs.bundle)
    assert ran.code == ExitCode.DONE, ran.err
    for name in ("clone1", "clone2", "last", "alone"):
        jobs.clone(name)


def make_two_shards(jobs: Jobs) -> None:
    """Both of two shards are handed in, too."""
    propose(jobs)
    jobs.shards(2)


@pytest.fixture
def after(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Jobs]:
    """What one of these two makes of a project."""

    def copy(step: Callable[[Jobs], object], **project: Any) -> Jobs:
        Scenes(tmp_path_factory).copied(
            tmp_path / "jobs",
            lambda scene: step(Jobs.make(scene, **project)),
            [__name__, step.__qualname__, project],
        )
        return Jobs(tmp_path / "jobs")

    return copy


def chance(key: str) -> float:
    """What a run drew: the same for the same run, wherever it is made."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A model that is right on a held-out case by chance, which each run of a case draws anew."""
    real = Scripted.complete

    def play(*, old: float, new: float, seed: int = 0) -> None:
        async def complete(model: Scripted, request: Request) -> Reply:
            made = await real(model, request)
            if SEALED not in str(request.messages) or made.text is None:
                return made
            right = chance(f"{seed}/{CALL.get()}") < (new if "alpha" in request.system else old)
            return made.model_copy(update={"text": "yes" if right else "no"})

        monkeypatch.setattr(Scripted, "complete", complete)

    return play


NOISY: dict[str, Any] = {
    "model": script(right={"alpha": CASES["train"]}, deterministic=False),
    "cases": CASES | {"holdout": tuple(f"h{n}" for n in range(1, 6))},
}
WORLDS = {
    "merge": (2, {"old": 0.1, "new": 0.95}, (), "improved"),
    "merge, later than the shards": (4, {"old": 0.2, "new": 0.8}, ("--sweeps", "2"), "improved"),
    "losing, sooner": (4, {"old": 0.9, "new": 0.1}, ("--sweeps", "5"), "losing"),
    "no better": (3, {"old": 0.5, "new": 0.5, "seed": 1}, ("--sweeps", "4"), "losing"),
    "always the same": (7, {"old": 0.0, "new": 0.0}, ("--sweeps", "1"), "futile"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_shards_come_to_the_verdict_of_one_machine(
    after: Callable[..., Jobs], noisy: Callable[..., None], name: str
) -> None:
    """On the same pairs in the same order, with the same end; what was too much is said."""
    of, world, sweeps, reason = WORLDS[name]
    noisy(**world)
    jobs = after(propose, **NOISY)
    alone = jobs.alone()
    shards = jobs.shards(of, *sweeps)

    done = jobs.decide()

    assert (alone.code, done.code) == (ExitCode.DONE, ExitCode.DONE), done.err
    assert jobs.verdict() == jobs.verdict("alone-made")
    assert done.json["reason"] == reason
    told = ("calls", "usd", "surplus")
    assert [done.json[key] for key in done.json if key not in told] == [
        alone.json[key] for key in alone.json if key not in told
    ]
    needed = 2 * len(jobs.verdict()["evidence"]["confirm"])
    made = sum(one.json["calls"] for one in shards)
    here = done.json["calls"] - made  # the verdict needed more than the shards had
    assert done.json["surplus"] == made + here - needed >= 0
    assert (here == 0) or made <= needed
    last = jobs.clone("last")
    assert [look.attempt for look in last.ledger().confirmations()] == [1]
    (result,) = last.ledger().results().values()
    assert result.calls >= done.json["calls"]
    assert sum(run.calls for run in last.ledger().spent_by_runs()[-of - 1 :]) == done.json["calls"]
    assert SEALED not in done.out + last.told("refs/heads/ratchet/ledger")
    last.assert_sound()


def test_shards_make_the_blocks_of_a_large_holdout(
    after: Callable[..., Jobs], noisy: Callable[..., None]
) -> None:
    """Each machine its cases of the blocks that were drawn, and no case that was not."""
    noisy(old=0.3, new=0.7)
    large = CASES | {"holdout": tuple(f"h{n}" for n in range(1, 26))}
    jobs = after(propose, model=NOISY["model"], cases=large)
    jobs.alone()
    shards = jobs.shards(3, "--sweeps", "2")
    assert sum(one.json["runs"] for one in shards) == 2 * 2 * 20
    done = jobs.decide()
    assert done.code == ExitCode.DONE, done.err
    assert jobs.verdict() == jobs.verdict("alone-made")
    pairs = jobs.verdict()["evidence"]["confirm"]
    assert len(pairs) > 20
    for start in range(0, len(pairs), 20):
        names = [pair["fixture"] for pair in pairs[start : start + 20]]
        assert len(set(names)) == len(names)


def test_a_verdict_that_waits_for_a_person_is_the_same(after: Callable[..., Jobs]) -> None:
    """And of a deterministic model one sweep is all."""
    jobs = after(propose, config={"gate": {"merge": "manual"}})
    jobs.alone()
    assert [one.json["sweeps"] for one in jobs.shards(3)] == [1, 1, 1]
    done = jobs.decide()
    assert (done.json["action"], done.json["reason"]) == ("hold", "awaits_person")
    assert (done.json["calls"], done.json["surplus"]) == (2 * len(CASES["holdout"]), 0)
    assert jobs.verdict() == jobs.verdict("alone-made")


def test_a_shard_decides_nothing(after: Callable[..., Jobs]) -> None:
    """It opens the look, makes its runs, and says nothing of how the candidate does."""
    jobs = after(propose)
    made = jobs.shard(1, 2)
    world = jobs.clone("clone1")
    assert world.branches() == {"main", "ratchet/ledger", "ratchet/holdout"}
    assert world.ledger().results() == {}
    (look,) = world.ledger().confirmations()
    assert (look.attempt, look.evidence, look.verdict) == (1, None, None)
    assert not {"action", "reason", "holdout", "score"} & set(made.json)
    assert (made.json["cases"], made.json["runs"], made.json["calls"]) == (2, 4, 4)
    assert sorted(path.name for path in (jobs.handed / "1").iterdir()) == [
        "manifest.json",
        "runs.jsonl",
    ]


# What is refused --------------------------------------------------------------------------------


def plan(**changes: Any) -> Callable[[Jobs], None]:
    """Another plan in a manifest; a name with a dot is one of the setting."""

    def spoil(jobs: Jobs) -> None:
        made = jobs.document("1")["plan"]
        for name, value in changes.items():
            where = made["setting"] if name in made["setting"] else made
            where[name] = value
        jobs.change("1", plan=made)

    return spoil


def run(change: Callable[[Any], object], *, renamed: bool = False) -> Callable[[Jobs], None]:
    """Another first run in a shard, the digest being that of the file.

    ``renamed`` gives it the name that fits what else is changed.
    """

    def spoil(jobs: Jobs) -> None:
        traces = jobs.traces("1")
        first = traces[0]
        change(first)
        if renamed:
            first["id"] = trace_id(RolloutKey(**first["key"]), first["started_at"])
        jobs.forge("1", traces)

    return spoil


def of_the_other_shard(jobs: Jobs) -> None:
    jobs.forge("1", [*jobs.traces("1"), jobs.traces("2")[0]])


def linked(jobs: Jobs) -> None:
    moved = jobs.handed / "1"
    moved.rename(jobs.folder / "elsewhere")
    moved.symlink_to(jobs.folder / "elsewhere")


def linked_file(jobs: Jobs) -> None:
    moved = jobs.handed / "1" / "runs.jsonl"
    moved.rename(jobs.folder / "elsewhere.jsonl")
    moved.symlink_to(jobs.folder / "elsewhere.jsonl")


def many_sweeps(jobs: Jobs) -> None:
    for name in ("1", "2"):
        jobs.change(name, plan=jobs.document(name)["plan"] | {"sweeps": 99_999})


def cut(jobs: Jobs) -> None:
    file = jobs.handed / "1" / "runs.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    jobs.change("1", files={"runs.jsonl": hashlib.sha256(file.read_bytes()).hexdigest()})


def judged(jobs: Jobs) -> None:
    first = jobs.traces("1")[0]
    stray = first | {"job": "judge", "id": f"{first['id']}-judge"}
    jobs.forge("1", [*jobs.traces("1")[1:], stray])


ZERO = "0" * 64
REFUSED: dict[str, tuple[Callable[[Jobs], Any], str]] = {
    "no shard": (lambda j: shutil.rmtree(j.handed), "There is no shard in"),
    "one missing": (lambda j: shutil.rmtree(j.handed / "2"), "Missing: shard 2/2."),
    "one twice": (
        lambda j: shutil.copytree(j.handed / "2", j.handed / "again"), "Shard 2/2 is there twice"
    ),
    "of another number": (lambda j: j.change("2", of=3), "Shard '2' is one of 3, and '1' one of 2"),
    "no such shard": (lambda j: j.change("2", number=3), "there is no shard 3 of 2"),
    "a file beside them": (lambda j: (j.handed / "note").write_text("x"), "is no folder"),
    "a link": (linked, "is no folder of a shard"),
    "a file that is a link": (linked_file, "no file runs.jsonl that can be read"),
    "another file": (lambda j: (j.handed / "1" / "x").write_text(""), "does not belong in it: 'x'"),
    "a path that climbs": (
        lambda j: j.change("1", files={"../2/runs.jsonl": ZERO}), "does not belong in it"
    ),
    "no runs": (lambda j: (j.handed / "1" / "runs.jsonl").unlink(), "not those its manifest lists"),
    "no manifest": (lambda j: (j.handed / "1" / "manifest.json").unlink(), "no file manifest.json"),
    "another format": (lambda j: j.change("1", format=2), "'format'"),
    "a bundle of another kind": (lambda j: j.change("1", kind="proposal"), "'kind'"),
    "an unknown key": (lambda j: j.change("1", more=1), "'more'"),
    "altered bytes": (
        lambda j: (j.handed / "1" / "runs.jsonl").write_bytes(b"{}\n"), "SHA-256 differs"
    ),
    "cut off": (cut, "is cut off"),
    "another skill": (plan(skill="other"), "these differ: skill"),
    "another incumbent": (plan(parent=ZERO), "these differ: parent"),
    "another candidate": (plan(candidate=ZERO), "these differ: candidate"),
    "another experiment": (plan(experiment=ZERO), "these differ: experiment"),
    "another try of it": (plan(begun="2020-01-01T00:00:00+00:00"), "these differ: begun"),
    "another look": (plan(attempt=2), "these differ: attempt"),
    "an evaluation": (plan(job="eval"), "these differ: job"),
    "on train": (plan(split="train"), "these differ: split"),
    "another base": (plan(base="0" * 40), "these differ: base"),
    "another config": (plan(config_digest=ZERO), "these differ: config_digest"),
    "other cases": (plan(holdout_digest=ZERO), "these differ: holdout_digest"),
    "another model": (plan(model_digest=ZERO), "these differ: model_digest"),
    "another Ratchet": (plan(evaluator="0.0.0"), "these differ: evaluator"),
    "other sweeps than the rest": (plan(sweeps=2), "two plans; these differ: sweeps"),
    "too many sweeps": (many_sweeps, "It has 99999 sweeps; there may be"),
    "a case of another share": (of_the_other_shard, "a case that is not in its share"),
    "a case without its runs": (lambda j: j.forge("1", j.traces("1")[2:]), "lacks 2 of its runs"),
    "a run without a score": (run(lambda t: t.update(score=None)), "lacks 1 of its runs"),
    "a run twice": (
        lambda j: j.forge("1", [*j.traces("1"), j.traces("1")[0]]), "has a run twice"
    ),
    "a better score": (
        run(lambda t: t["score"].update(value=0.5)), "another score than its answer gives"
    ),
    "a better answer": (
        run(lambda t: t["reply"].update(text="yes" if t["reply"]["text"] == "no" else "no")),
        "another score than its answer gives",
    ),
    "a score without an answer": (run(lambda t: t["reply"].update(text=None)), "without an answer"),
    "a kept run": (
        run(lambda t: (t["key"].update(experiment=""), t.update(experiment="")), renamed=True),
        "was not made for this",
    ),
    "a run of another experiment": (
        run(lambda t: (t["key"].update(experiment=ZERO), t.update(experiment=ZERO)), renamed=True),
        "was not made for this",
    ),
    "a run of a later sweep": (
        run(lambda t: t["key"].update(replicate=1), renamed=True), "was not made for this"
    ),
    "a run of another text": (
        run(lambda t: t["key"].update(skill=ZERO), renamed=True), "was not made for this"
    ),
    "a run from before": (
        run(lambda t: t.update(started_at="2020-01-01T00:00:00+00:00"), renamed=True),
        "from before its experiment was begun",
    ),
    "a run at no time": (
        run(lambda t: t.update(started_at="soon"), renamed=True), "from before its experiment"
    ),
    "a run under another name": (run(lambda t: t.update(id="x")), "not what its key says"),
    "a run that says train": (run(lambda t: t.update(split="train")), "not what its key says"),
    "a run that climbs": (
        run(lambda t: t.update(fixture="../../../x")), "not what its key says"
    ),
    "the other side's run": (
        run(lambda t: t.update(side="candidate" if t["side"] == "incumbent" else "incumbent")),
        "not what its key says",
    ),
    "a judgement of no run": (judged, "a judgement of a run that is not there"),
    "what another job spent": (
        lambda j: j.change("1", spent=j.document("1")["spent"] | {"job": "propose"}),
        "that it spent is of another run",
    ),
    "runs that cost nothing": (
        lambda j: j.change("1", spent=None), "does not say what they have cost"
    ),
}  # fmt: skip


def spoiled(jobs: Jobs, *names: str) -> Iterator[tuple[str, str]]:
    """What is refused, one after the other in place of what was handed in, and the words for it."""
    jobs.handed.rename(jobs.folder / "good")
    for name in names:
        spoil, message = REFUSED[name]
        shutil.rmtree(jobs.handed, ignore_errors=True)
        shutil.copytree(jobs.folder / "good", jobs.handed)
        spoil(jobs)
        yield name, message


def test_what_no_verdict_is_made_of(after: Callable[..., Jobs]) -> None:
    """Each with a word about which and why."""
    jobs = after(make_two_shards)
    world = jobs.clone("clone1")
    space, (experiment,) = space_of(world), world.ledger().experiments()
    made_for = shards.plan_of(
        space, job="confirm", split="holdout", experiment=experiment, attempt=1
    )
    cases = len(CASES["holdout"])
    most = most_pairs(fixtures=cases, attempt=1, policy=space.policy, deterministic=False)
    assert shards.read(jobs.handed, made_for, space, most=most // cases).lacking == ""
    found: dict[str, str] = {}
    for name, message in spoiled(jobs, *REFUSED):
        try:
            shards.read(jobs.handed, made_for, space, most=most // cases).require_all()
        except RatchetError as refused:
            said = f"{refused.message} {refused.hint}"
            if message not in refused.message or not refused.hint or SEALED in said:
                found[name] = said
        else:
            found[name] = "not refused"
    assert found == {}


FAMILIES = (
    *("no shard", "of another number", "another format", "altered bytes", "another candidate"),
    *("too many sweeps", "a case without its runs", "a better score", "runs that cost nothing"),
)


def test_what_is_refused_is_no_verdict(
    after: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of each family; before any call, and the look is counted all the same."""
    jobs = after(make_two_shards)

    async def none(*_: object) -> Any:
        raise AssertionError

    monkeypatch.setattr(Scripted, "complete", none)
    found: dict[str, str] = {}
    for number, (name, message) in enumerate(spoiled(jobs, *FAMILIES)):
        out = f"made{number}"
        done = jobs.decide(out=out)
        wrong = [done.code != ExitCode.ERROR, message not in done.err, "hint: " not in done.err,
                 SEALED in done.err, (jobs.folder / out / "verdict.json").exists(),
                 not (jobs.folder / out / "manifest.json").exists(), done.json["calls"] != 0,
                 done.json["action"] is not None]  # fmt: skip
        if any(wrong):
            found[name] = f"{wrong} {done.err}"
    assert found == {}
    last = jobs.clone("last")
    assert [look.attempt for look in last.ledger().confirmations()] == [1]
    assert last.ledger().results() == {}


def test_what_is_too_large_is_not_read(after: Callable[..., Jobs]) -> None:
    jobs = after(make_two_shards)
    space = space_of(jobs.clone("clone1"))
    ledger = jobs.clone("clone1").ledger()
    made_for = shards.plan_of(space, job="confirm", split="holdout",
                              experiment=ledger.experiments()[0], attempt=1)  # fmt: skip
    assert shards.read(jobs.handed, made_for, space).lacking == ""
    for limit in ("manifest", "runs", "run"):
        with pytest.raises(RatchetError, match="larger than 100 bytes"):
            shards.read(jobs.handed, made_for, space, limits=shards.ShardLimits(**{limit: 100}))


def test_nobody_chooses_between_two_answers(after: Callable[..., Jobs]) -> None:
    """A run that is on record is not replaced by one of the same case and sweep."""
    jobs = after(propose)
    jobs.shard(1, 2, clone="last")
    shutil.rmtree(jobs.handed)
    jobs.shards(2)
    done = jobs.decide()
    assert done.code == ExitCode.ERROR
    assert "another answer for a run" in done.err
    assert len(list(jobs.clone("last").ledger().traces(split="holdout"))) == 4


# Ended early ------------------------------------------------------------------------------------


def failing_on(case: str, real: Callable[..., Any]) -> Callable[..., Any]:
    async def complete(model: Scripted, request: Request) -> Reply:
        if case in str(request.messages):
            return Reply(error="overloaded")
        made: Reply = await real(model, request)
        return made

    return complete


def push(world: World) -> None:
    """What the publish job does with the ledger."""
    world.git("push", "--quiet", "origin", "ratchet/ledger", "ratchet/holdout")


def test_a_shard_that_failed_is_made_again_and_nothing_is_paid_twice(
    after: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the runs of the others either, though nothing can be decided on them."""
    jobs = after(propose)
    with monkeypatch.context() as overload:
        overload.setattr(Scripted, "complete", failing_on("h1", Scripted.complete))
        codes = {jobs.shard(number, 3).code: number for number in (1, 2, 3)}
    failed = str(codes[ExitCode.ERROR])

    waits = jobs.decide(name="first", out="made1")

    assert (waits.code, waits.json.get("action", 0)) == (ExitCode.ERROR, None), waits.err
    assert f"Shard {failed}/3 lacks 2 of its runs" in waits.json["note"]
    assert (jobs.folder / "made1" / "manifest.json").exists()
    push(jobs.clone("first"))
    shutil.rmtree(jobs.handed / failed)
    again = jobs.shard(int(failed), 3, clone="again")  # as GitHub runs a failed job again
    assert (again.code, again.json["reused"], again.json["calls"]) == (ExitCode.DONE, 0, 2)
    done = jobs.decide(name="second", out="made2")
    assert (done.code, done.json["action"], done.json["calls"]) == (ExitCode.DONE, "merge", 6)
    other = next(name for name in "123" if name != failed)
    shutil.rmtree(jobs.handed / other)
    idle = jobs.shard(int(other), 3, clone="idle")  # as another day would
    assert (idle.json["reused"], idle.json["calls"]) == (2, 0)
    second = jobs.clone("second")
    assert [look.attempt for look in second.ledger().confirmations()] == [1]
    assert sum(one.score is not None for one in second.ledger().traces(split="holdout")) == 6
    checked = bundles.read(
        jobs.folder / "made2", space_of(jobs.clone("reader")), kind="confirmation"
    )
    assert checked.decision


def test_in_one_repository_shards_and_their_end_are_one_confirm_run(
    after: Callable[..., Jobs],
) -> None:
    """Each of them given twice, as after a crash; the next job reads it as any other."""
    jobs = after(propose)
    for number in (1, 2):
        jobs.shard(number, 2, clone="one")
        shutil.rmtree(jobs.handed / str(number))
        assert jobs.shard(number, 2, clone="one").json["calls"] == 0
    done = jobs.decide(name="one")
    again = jobs.decide(name="one", out="again")
    assert [one.json["action"] for one in (done, again)] == ["merge", "merge"]
    assert [one.json["calls"] for one in (done, again)] == [0, 0]
    world = jobs.clone("one")
    assert len(list(world.ledger().traces(split="holdout"))) == 6
    assert [look.attempt for look in world.ledger().confirmations()] == [1]
    world.assert_sound()
    for out in ("made", "again"):
        found = bundles.read(jobs.folder / out, space_of(jobs.clone("reader")), kind="confirmation")
        assert found.decision


def test_each_shard_has_its_part_of_a_cap_and_all_of_them_the_whole(
    after: Callable[..., Jobs],
) -> None:
    """What lacks for it waits for another day, with the exit status that says so."""
    project = {
        "cases": {"train": ("t1", "t2"), "holdout": tuple(f"h{n}" for n in range(1, 7))},
        "config": {"budget": {"calls": 10}},
    }
    jobs = after(propose, **project)
    made = [jobs.shard(number, 2) for number in (1, 2)]
    done = jobs.decide()
    assert [one.code for one in made] == [ExitCode.BUDGET] * 2
    assert [one.json["calls"] for one in made] == [5, 5]
    assert (done.code, done.json["action"]) == (ExitCode.BUDGET, None)
    assert "lacks 1 of its runs: a cap was reached" in done.err


def test_who_goes_on_after_the_shards_has_what_they_left(
    after: Callable[..., Jobs], noisy: Callable[..., None]
) -> None:
    noisy(old=0.5, new=0.6)
    few = NOISY["cases"] | {"train": ("t1", "t2")}  # whose kept runs the proposal's job can pay
    jobs = after(propose, **NOISY | {"cases": few}, config={"budget": {"calls": 60}})
    made = jobs.shards(2, "--sweeps", "1")
    done = jobs.decide()
    assert sum(one.json["calls"] for one in made) == 10
    assert (done.code, done.json["calls"]) == (ExitCode.BUDGET, 60)
    assert "budget of 60 calls is spent" in done.err
    runs = jobs.clone("last").ledger().spent_by_runs()
    assert sorted(run.calls for run in runs if run.job == "confirm") == [4, 6, 50]


def test_what_the_shards_spent_is_counted_once_in_the_month(tmp_path: Path) -> None:
    """Their records are on the ledger, and a part of what the whole may spend."""
    ledger = World.make(tmp_path / "p").ledger()
    settings = BudgetConfig(usd=None, calls=10, month_usd=1.0)
    begin = partial(budgets.Account, ledger, job="confirm", settings=settings,
                    clock=lambda: 0.0, usd=None)  # fmt: skip
    parts = [begin(shard=Shard(number, 2)) for number in (1, 2)]
    for part in parts:
        part.budget.settle(part.budget.reserve(0.5 if part is parts[0] else 0.25), 0.25)
        part.end("done")
    with pytest.raises(BudgetSpent):
        parts[0].budget.reserve(0.3)

    whole = begin(earlier=[part.run for part in parts])

    with pytest.raises(BudgetSpent):
        whole.budget.reserve(0.51)
    for _ in range(8):
        whole.budget.settle(whole.budget.reserve(0.0), 0.0)
    with pytest.raises(BudgetSpent, match="10 calls"):
        whole.budget.reserve(0.0)
    assert (whole.budget.calls, whole.budget.spent) == (8, 0.0)


@pytest.mark.parametrize(
    ("project", "verdict"),
    [
        ({"model": script([idea(1, "Rule beta.")])}, (None, None)),
        (
            {"model": script([idea(1, f"Rule alpha. Would the {SEALED} agree to h1?")])},
            ("reject", "leaks_holdout"),
        ),
    ],
    ids=["no candidate", "leak"],
)
def test_where_nothing_is_confirmed_nothing_is_run(
    after: Callable[..., Jobs], project: dict[str, Any], verdict: tuple[str | None, str | None]
) -> None:
    """No look either; what is handed in says so, and the end is as ever."""
    jobs = after(propose, **project)
    made = jobs.shards(2)
    done = jobs.decide()
    assert [(one.json["calls"], one.json["sweeps"]) for one in made] == [(0, 0)] * 2
    assert (done.code, done.json["action"], done.json["reason"]) == (ExitCode.DONE, *verdict)
    assert jobs.clone("clone1").ledger().confirmations() == []
    attempts = [look.attempt for look in jobs.clone("last").ledger().confirmations()]
    assert attempts == ([0] if verdict[0] else [])


def test_more_sweeps_than_may_be_made_are_no_look(after: Callable[..., Jobs]) -> None:
    jobs = after(propose)
    made = jobs.shard(1, 2, "--sweeps", "2")
    assert made.code == ExitCode.ERROR
    assert "may take 1 at most" in made.err
    assert not jobs.handed.exists()
    assert jobs.clone("clone1").ledger().confirmations() == []


@pytest.mark.parametrize(
    "args", [("--sweeps", "2"), ("--shard", "1/2", "--from-shards", "x")], ids=" ".join
)
def test_options_of_a_confirm_run_that_do_not_go_together(
    after: Callable[..., Jobs], args: tuple[str, ...]
) -> None:
    jobs = after(propose)
    assert jobs.alone(*args).code == ExitCode.USAGE
    assert not (jobs.folder / "alone-made").exists()
