"""The cases an edit is meant to fix come first; no run is paid for twice where that is honest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_ratchet import providers
from skill_ratchet.agents import examples
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.core.evidence import State, improves
from skill_ratchet.core.gate import Action, Policy, Reason, decide
from skill_ratchet.core.records import FILTER, Pair, Reply, Score, Trace
from skill_ratchet.experiment import plan
from skill_ratchet.providers.scripted import Scripted
from tests.core.test_gate import AUTO, TRAIN, make_evidence, make_pairs, one_sweep
from views import proposers
from world import BOTH, SKILL_TEXT, Mortuary, World, calls_file, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from skill_ratchet.core.records import Evidence, Proposal

MISSED = ("reject", "targets_missed")
FAILED = ("reject", "screen_failed")
CASES = {"train": [f"t{n}" for n in range(1, 9)], "holdout": BOTH[3:]}
SHOWN = "Output: yes"  # every edit of the examples proposer has it
LEDGER = "refs/heads/ratchet/ledger"


# Which runs -----------------------------------------------------------------------------------


def run_of(fixture: str, score: float | None = 0.0, *, name: str = "") -> Trace:
    return Trace(
        id=name or f"run-{fixture}",
        skill="triage",
        fixture=fixture,
        model="m",
        provider="p",
        started_at="2026-01-01T00:00:00+00:00",
        reply=Reply(text="no"),
        score=None if score is None else Score(value=score, reason="", scorer="label"),
    )


RUNS = [run_of(f"t{n}") for n in range(1, 8)]
RUNS += [run_of("good", 1.0), run_of("part", 0.5), run_of("none", None)]
RUNS += [run_of("t1", 0.5, name="again-t1")]


@pytest.mark.parametrize(
    ("targets", "chosen"),
    [
        pytest.param([], [], id="none named"),
        pytest.param(["run-t3", "run-t1"], ["run-t3", "run-t1"], id="in the proposal's order"),
        pytest.param(
            [f"run-t{n}" for n in range(1, 8)], [f"run-t{n}" for n in range(1, 6)], id="5"
        ),
        pytest.param(["run-t1", "again-t1"], ["run-t1"], id="a fixture once"),
        pytest.param(["run-t2", "run-t2"], ["run-t2"], id="a run once"),
        pytest.param(["run-part"], ["run-part"], id="one that scored something"),
        pytest.param(["run-good", "run-t2"], ["run-t2"], id="not one that could not be better"),
        pytest.param(["run-good"], [], id="nothing to fix"),
        pytest.param(["run-none"], [], id="not one without a score"),
        pytest.param(["t1", "elsewhere", ""], [], id="not what is no run of the incumbent"),
    ],
)
def test_targets(targets: list[str], chosen: list[str]) -> None:
    """One run a fixture, five at most."""
    assert [run.id for run in plan.targeted(targets, RUNS)] == chosen


# What the gate makes of them ------------------------------------------------------------------


def tried(*differences: float) -> tuple[Pair, ...]:
    """Filter runs, with ids of their own."""
    return make_pairs(differences, ("t5", "t4", "t3", "t2", "t1"))


@pytest.mark.parametrize("differences", [(0,), (0, 0), (-1,), (-0.5, 0, -1), (0,) * 5], ids=str)
@pytest.mark.parametrize("evidence", [make_evidence(), make_evidence(screen=(), confirm=())])
def test_an_edit_that_fixes_none_of_them_is_rejected(
    evidence: Evidence, differences: tuple[float, ...]
) -> None:
    """Whatever else there is."""
    verdict = decide(evidence.with_(targeted=tried(*differences)), AUTO)
    assert (verdict.action, verdict.reason) == (Action.REJECT, Reason.TARGETS_MISSED)
    assert (str(len(differences)) in verdict.detail) is (len(differences) > 1)


@pytest.mark.parametrize("differences", [(1,), (0, 0.25), (-1, -1, 0.1)], ids=str)
@pytest.mark.parametrize(
    "evidence",
    [
        make_evidence(),
        make_evidence(screen=()),
        make_evidence(screen=make_pairs([-1, -1], TRAIN)),
        make_evidence(confirm=()),
        make_evidence(attempt=None),
    ],
)
def test_targets_that_were_hit_change_no_verdict(
    evidence: Evidence, differences: tuple[float, ...]
) -> None:
    """They are no evidence: what merges and what does not is as without them."""
    assert decide(evidence.with_(targeted=tried(*differences)), AUTO) == decide(evidence, AUTO)


def test_a_filter_run_is_not_counted_in_the_screen_as_well() -> None:
    """It was looked at before: a screen of such runs begins with those that won."""
    evidence = make_evidence()
    again = evidence.with_(targeted=evidence.screen[:1])
    assert decide(again, AUTO).reason is Reason.BAD_EVIDENCE
    same = one_sweep(deterministic=True)
    assert decide(same.with_(targeted=same.screen[:1]), AUTO).action is Action.MERGE


def test_a_filter_run_is_no_confirm_run() -> None:
    """Not even where runs repeat."""
    evidence = one_sweep(deterministic=True)
    verdict = decide(evidence.with_(targeted=evidence.confirm[:1]), AUTO)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.BAD_EVIDENCE)


def test_hold_and_missing_scores_go_first() -> None:
    """An edit is not blamed for calls that failed, and a person's word counts before it."""
    evidence = make_evidence(targeted=tried(0), screen=(), confirm=())
    assert decide(evidence.with_(missing=1), AUTO).reason is Reason.MISSING_SCORES
    assert decide(evidence.with_(held=True), AUTO).reason is Reason.HELD
    assert decide(evidence, Policy(rule="improves")).reason is Reason.TARGETS_MISSED


# In a run -------------------------------------------------------------------------------------


@pytest.fixture
def aim(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the examples proposer say that its edit is for other cases than it shows."""

    def at(*fixtures: str) -> None:
        real = examples.propose

        def propose(*, failing: Sequence[Trace], **more: Any) -> Proposal | None:
            made = real(failing=failing, **more)
            ids = {trace.fixture: trace.id for trace in failing}
            return made and made.with_(targets=tuple(ids.get(name, name) for name in fixtures))

        monkeypatch.setattr(examples, "propose", propose)

    return at


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The case of every run of the candidate, in order."""
    made: list[str] = []
    real = Scripted.complete

    async def complete(self: Scripted, request: Any) -> Reply:
        if SHOWN in request.system and request.case:
            made.append(str(request.case["id"]))
        return await real(self, request)

    monkeypatch.setattr(Scripted, "complete", complete)
    return made


def model(*cases: str, deterministic: bool = True, first: Sequence[dict[str, Any]] = ()) -> str:
    """A model that answers these cases well once it is shown any example."""
    better = [
        {
            "when": {"system_contains": SHOWN, "input_matches": rf"\b{case}\b"},
            "text": "yes",
        }
        for case in cases
    ]
    return script([], right={}, first=[*first, *better], deterministic=deterministic)


def make(tmp_path: Path, script_text: str, **options: Any) -> World:
    config = {"meta": {"proposer": "examples", "per_label": 1}, "loop": {"attempts": 1}}
    config |= {"provider": {"type": "scripted", "concurrency": 1}}
    return World.make(
        tmp_path / "p", model=script_text, config=config | options.pop("config", {}), cases=CASES
    )


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_edit_that_misses_its_targets_costs_a_handful_of_calls(
    tmp_path: Path, aim: Callable[..., None], asked: list[str], *, deterministic: bool
) -> None:
    """It would have won everywhere else; the proposer is told why it was rejected."""
    world = make(tmp_path, model("t4", "t5", "t6", "t7", "t8", deterministic=deterministic))
    aim("t3", "t1", "t2", "t1", "nothing")

    ran = world.run()

    assert (ran.code, ran.verdicts) == (ExitCode.DONE, [MISSED])
    assert asked == ["t3", "t1", "t2"]
    (one,) = ran.json["experiments"]
    assert (one["calls"], one["holdout"]) == (3, None)
    result = proposers(world).results()[world.only().id]
    assert (result.action, result.reason, result.calls) == (*MISSED, 3)
    assert result.detail == "None of the 3 cases it was meant to fix got better."
    assert result.detail in world.ratchet("show", "1").out.replace("\n", " ")
    assert "targets_missed" in world.ratchet("log").out
    assert "targets_missed" in world.told(LEDGER)
    assert world.skill() == SKILL_TEXT
    assert world.branches() == {"main", "ratchet/ledger"}


def test_five_targets_at_most_are_tried(
    tmp_path: Path, aim: Callable[..., None], asked: list[str]
) -> None:
    """The first five, though the sixth would have got better."""
    world = make(tmp_path, model("t2", "t1"))
    aim("t8", "t7", "t6", "t5", "t4", "t2", "t1")

    assert world.run().verdicts == [MISSED]
    assert asked == ["t8", "t7", "t6", "t5", "t4"]


def test_one_that_gets_better_is_enough_and_runs_are_not_made_twice(
    tmp_path: Path, aim: Callable[..., None], asked: list[str]
) -> None:
    """A model that always answers the same is asked once for each case."""
    world = make(tmp_path, model(*CASES["train"][:6], *CASES["holdout"]))
    aim("t8", "t1")

    ran = world.run()

    assert ran.verdicts == [("merge", "improved")]
    on_train = [case for case in asked if case[0] == "t"]
    assert on_train[:2] == ["t8", "t1"]
    assert sorted(on_train) == CASES["train"]


def test_runs_that_vary_are_made_again_for_the_screen(
    tmp_path: Path, aim: Callable[..., None], asked: list[str]
) -> None:
    """What the filter saw is no evidence: the screen has runs of its own, under other keys."""
    world = make(tmp_path, model(*CASES["train"], *CASES["holdout"], deterministic=False))
    targets = ["t2", "t1", "t3", "t4", "t5"]
    aim(*targets)

    ran = world.run()

    assert ran.json["experiments"][0]["reason"] != "targets_missed"
    assert asked[:5] == targets
    runs = world.ledger().experiment_runs(world.only().id, "train")
    screen = [trace for trace in runs if trace.key and trace.key.replicate != FILTER]
    assert len(runs) - len(screen) == 5
    assert {*targets} & {trace.fixture for trace in screen}
    assert len({trace.id for trace in runs}) == len(runs)
    (look,) = world.ledger().confirmations()
    assert look.evidence
    assert [pair.fixture for pair in look.evidence.targeted] == targets
    counted = {pair.candidate_run for pair in look.evidence.screen}
    assert counted == {trace.id for trace in screen}


def test_without_targets_the_screen_comes_at_once(
    tmp_path: Path, aim: Callable[..., None], asked: list[str]
) -> None:
    """A proposer that names none loses nothing by it."""
    world = make(tmp_path, model())
    aim()

    assert world.run().verdicts == [FAILED]
    assert sorted(asked) == CASES["train"]


def test_a_proposal_of_a_model_is_held_to_its_targets_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names runs by the ids it was shown."""
    real = Scripted.complete

    async def complete(self: Scripted, request: Any) -> Reply:
        reply = await real(self, request)
        ids = [
            trace.id for trace in world.ledger().traces(job="task") if trace.fixture in ("t2", "t3")
        ]
        text = (reply.text or "").replace(
            '"hypothesis"', f'"targets": {json.dumps(ids)}, "hypothesis"'
        )
        return reply.with_(text=text)

    monkeypatch.setattr(Scripted, "complete", complete)
    world = World.make(tmp_path / "p", model=script(right={"alpha": ("t1", *BOTH[3:])}))

    ran = world.run()

    assert (ran.verdicts, ran.json["experiments"][0]["calls"]) == ([MISSED], 3)
    assert len(world.only().proposal.targets) == 2


@pytest.mark.parametrize("improved", [True, False], ids=["others better", "others not"])
def test_a_failed_call_on_a_target_decides_nothing(
    tmp_path: Path, aim: Callable[..., None], asked: list[str], *, improved: bool
) -> None:
    """The experiment waits, and only the call that failed is made again."""
    broken = {
        "when": {"system_contains": SHOWN, "input_contains": "t2"},
        "error": "overloaded 529",
        "times": 1,
    }
    built: dict[str, Any] = {}
    build = providers.PROVIDERS["scripted"]
    providers_once = lambda *args: built.setdefault("one", build(*args))  # noqa: E731
    world = make(tmp_path, model(*(["t1"] if improved else []), first=[broken]))
    aim("t1", "t2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(providers.PROVIDERS, "scripted", providers_once)
        ran = world.run()
        assert ran.code == ExitCode.ERROR
        assert "overloaded 529" in ran.err
        assert ran.json["experiments"] == []
        assert world.ledger().results() == {}
        assert asked == ["t1", "t2"]
        again = world.run()

    assert again.verdicts == [FAILED if improved else MISSED]
    assert asked[:3] == ["t1", "t2", "t2"]
    assert asked.count("t1") == 1


@pytest.fixture(scope="module")
def mortuary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortuary]:
    """Where commands die."""
    made = Mortuary(tmp_path_factory.mktemp("mortuary"))
    yield made
    made.close()


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("death", ["after put trace #9", "before put result.json"])
def test_a_killed_run_does_not_pay_for_its_targets_twice(
    tmp_path: Path, mortuary: Mortuary, death: str, *, deterministic: bool
) -> None:
    """Eight calls for the old skill, then one: the example shown is the only target."""
    world = make(tmp_path, model(deterministic=deterministic))

    assert mortuary.run(world, "run", at=death).code < 0
    again = world.run()

    assert (again.verdicts, again.json["calls"]) == ([MISSED], 0)
    assert again.json["experiments"][0]["calls"] == 1
    assert len(calls_file(world).read_text().splitlines()) == 9


# After a merge --------------------------------------------------------------------------------

SIX = {"train": [f"t{n}" for n in range(1, 7)], "holdout": ["h1", "h2", "h3", "h4"]}
HALF = ("t1", "t2", "t3", *SIX["holdout"])


def merged_world(tmp_path: Path, *, deterministic: bool) -> World:
    """A project whose first idea is merged, and whose second does nothing."""
    ideas = [idea(1, "Rule alpha."), idea(2, "Rule beta.")]
    text = script(ideas, right={"alpha": HALF}, deterministic=deterministic)
    config = {} if deterministic else {"gate": {"rule": "improves"}}
    return World.make(tmp_path / "p", model=text, config=config, cases=SIX)


def test_a_winners_runs_are_those_of_the_incumbent_it_becomes_if_they_cannot_vary(
    tmp_path: Path,
) -> None:
    """Train is run once for each text, and the holdout afresh for each look."""
    world = merged_world(tmp_path, deterministic=True)

    ran = world.run("--attempts", "2")

    assert ran.verdicts == [("merge", "improved"), FAILED]
    # on train the old skill and both candidates; one look; two proposals
    assert ran.json["calls"] == 3 * 6 + 2 * 4 + 2


@pytest.mark.parametrize(
    ("command", "runs"), [(("run",), 6), (("eval",), 0), (("check", "--noise"), 6 + 6)], ids=str
)
def test_a_later_process_knows_the_winners_runs_too(
    tmp_path: Path, command: tuple[str, ...], runs: int
) -> None:
    """The next candidate's, the second of an A/A run and those without a skill are new."""
    world = merged_world(tmp_path, deterministic=True)
    assert world.run().verdicts == [("merge", "improved")]
    before = {trace.id for trace in world.ledger().traces(job="task")}

    done = world.ratchet(*command)

    assert done.code == ExitCode.DONE, done.err
    made = [one for one in world.ledger().traces(job="task") if one.id not in before]
    assert len(made) == runs
    merged = world.ledger().experiments()[0].candidate
    again = [one for one in made if one.key and (one.key.skill, one.key.replicate) == (merged, 0)]
    assert again == []


def test_a_winners_runs_are_not_those_of_the_incumbent_if_it_was_lucky_in_them(
    tmp_path: Path,
) -> None:
    """A model that varies is asked again for every case."""
    world = merged_world(tmp_path, deterministic=False)

    ran = world.run("--attempts", "2")

    assert ran.verdicts == [("merge", "improved"), FAILED]
    merged = world.ledger().experiments()[0].candidate
    kept = [one for one in world.ledger().traces(job="task") if one.key and not one.key.experiment]
    assert len([one for one in kept if one.key and one.key.skill == merged]) == 6


def test_confirm_runs_of_a_candidate_are_made_afresh_though_they_cannot_vary(
    tmp_path: Path,
) -> None:
    """An edit that is tried a second time has new runs; the incumbent's would be the same."""
    ideas = [idea(1, "Rule alpha."), idea(2, "Rule alpha.")]
    world = World.make(tmp_path / "p", model=script(ideas), config={"gate": {"merge": "after 1h"}})
    assert world.run().verdicts == [("hold", "veto_window")]
    world.configure(budget={"calls": 1999})

    again = world.run()

    assert again.verdicts == [("hold", "veto_window")]
    assert again.json["calls"] == 1 + 3 + 2


# A sweep that is settled before its end --------------------------------------------------------

CASE = st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from([0.0, 0.25, 0.5, 1.0]))


def swept(cases: Sequence[tuple[float, float]]) -> list[Pair]:
    """One pair a case, of the incumbent's and the candidate's score."""
    made = make_pairs([0.0] * len(cases), [f"f{n}" for n in range(len(cases))])
    return [
        pair.with_(incumbent=old, candidate=new)
        for pair, (old, new) in zip(made, cases, strict=True)
    ]


def outcome(cases: Sequence[tuple[float, float]], floor: float) -> State:
    """What the whole sweep comes to, by the rule's definition."""
    better = sum(new - old for old, new in cases) > 0
    return State.PASS if better and all(new >= floor for _, new in cases) else State.DROP


@pytest.mark.parametrize("whole", [True, False], ids=["holdout", "train"])
@pytest.mark.parametrize("known", [True, False], ids=["scores known", "not known"])
@given(cases=st.lists(CASE, min_size=1, max_size=6), floor=st.sampled_from([0.0, 0.0, 0.25]))
def test_it_settles_when_no_rest_of_the_sweep_could_change_the_outcome(
    *, cases: list[tuple[float, float]], floor: float, known: bool, whole: bool
) -> None:
    """At the first such pair and not before: the worst and the best rest of the sweep are tried."""
    pairs, count = swept(cases), len(cases)
    scores = {pair.fixture: pair.incumbent for pair in pairs} if known else {}
    for done in range(1, count + 1):
        rest = cases[done:]
        worst = [(old if known else 1.0, 0.0) for old, _ in rest]
        best = [(old if known else 0.0, 1.0) for old, _ in rest]
        ends = {outcome([*cases[:done], *end], floor) for end in (worst, best)}
        settled = len(ends) == 1 and not (whole and done < count and ends == {State.PASS})
        progress = improves(pairs, fixtures=count, floor=floor, whole=whole, scores=scores)
        if settled:
            assert (progress.pairs, progress.state) == (done, outcome(cases, floor))
            assert (
                improves(pairs[:done], fixtures=count, floor=floor, whole=whole, scores=scores)
                == progress
            )
            return
        assert progress.pairs > done


def test_a_screen_stops_when_it_is_settled_and_a_merge_waits_for_the_end_of_the_sweep(
    tmp_path: Path,
) -> None:
    """The skill fails everywhere, so the first case that gets better settles the screen."""
    cases = {"train": CASES["train"], "holdout": SIX["holdout"]}
    world = World.make(
        tmp_path / "p",
        model=script(right={"alpha": (*cases["train"], *cases["holdout"])}),
        config={"gate": {"rule": "improves"}, "provider": {"type": "scripted", "concurrency": 1}},
        cases=cases,
    )

    ran = world.run()

    assert ran.verdicts == [("merge", "improved")]
    (look,) = world.ledger().confirmations()
    assert look.evidence
    assert (len(look.evidence.screen), len(look.evidence.confirm)) == (1, 4)
    assert ran.json["calls"] == 8 + 1 + 1 + 2 * 4


def test_a_confirm_run_that_cannot_win_any_more_stops(tmp_path: Path) -> None:
    """Four of eight held-out cases got worse: the other four could no more than make up for it."""
    cases = {"train": SIX["train"], "holdout": [f"h{n}" for n in range(1, 9)]}
    model = script(
        right={"alpha": SIX["train"], "": cases["holdout"]}, wrong={"alpha": cases["holdout"]}
    )
    config = {"gate": {"rule": "improves"}, "provider": {"type": "scripted", "concurrency": 1}}
    world = World.make(tmp_path / "p", model=model, config=config, cases=cases)

    ran = world.run()

    assert ran.verdicts == [("reject", "no_improvement")]
    (look,) = world.ledger().confirmations()
    assert look.evidence
    assert len(look.evidence.confirm) == 4
    assert len(list(world.ledger().traces(split="holdout"))) == 8
