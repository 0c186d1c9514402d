"""The benchmarks of the whole loop, small: what they count and what they hide."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

import context
import filling
import report
import sample_efficiency
import shards as sharing
import shared
from context import HabitWorld, Outcome, Real
from sample_efficiency import RULE, Ours, RuleWorld, Run
from shared import Model, Watch
from skill_ratchet.core.records import Reply, Request, Score, Trace
from skill_ratchet.ledger import access
from skill_ratchet.project import repository, workspace
from world import World, idea, script, typed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Shared confirm runs --------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [-0.1, 0.25])
def test_shards_cost_what_one_machine_does_and_what_it_would_not_have_run(effect: float) -> None:
    """And the more machines there are, the less time they take."""
    line = sharing.row(np.random.default_rng(1), n=20, effect=effect, trials=2000)
    _, _, runs, alone, shared, over, few, many = (
        float(cell.replace(",", "")) for cell in line.strip("| ").split("|")
    )
    assert runs > 1
    assert shared == pytest.approx(alone + over, abs=2)
    assert over > 0
    assert many < few < 1


# The rule world -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_rule_decides_two_cases_of_each_split(seed: int) -> None:
    world = RuleWorld.draw(seed)
    assert len({(case.input, case.expected) for case in world.cases}) == 48
    for code in world.codes.values():
        rule = sample_efficiency.line(code)
        for split in ("train", "holdout"):
            right = [world.answer(rule, case.input).text for case in world.split(split)]
            assert sorted(right) == ["K" + code[1:]] * 2 + ["unknown"] * 22


def test_without_a_rule_nothing_is_right_and_with_all_everything() -> None:
    world = RuleWorld.draw(0)
    rules = "\n".join(map(sample_efficiency.line, world.codes.values()))
    assert shared.held_out_score(world, world.skill) == 0
    assert shared.held_out_score(world, f"{world.skill}{rules}\n") == 1


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("expected K-amber-1234, then K-basil-5678", "K-amber-1234"),
        ("- amber: K-amber-1234\nexpected K-amber-1234, then K-basil-5678", "K-basil-5678"),
        ("+- amber: K-amber-1234\nexpected K-amber-1234", None),  # in the diff of a past edit
        ("a parcel of kind amber", None),
        ("", None),
    ],
    ids=["first seen", "not one the skill has", "not one that was tried", "no code", "nothing"],
)
def test_the_fake_proposes_what_it_was_shown_and_nothing_else(
    prompt: str, code: str | None
) -> None:
    assert sample_efficiency.rule_to_add(prompt) == code


def test_a_proposal_names_the_runs_that_show_its_rule() -> None:
    prompt = (
        "0123456789abcdef-20260101000001 K-amber-1234\n"
        "0123456789abcdef-20260101000002 K-basil-5678\n"
        "fedcba9876543210-20260101000003 x K-amber-1234 K-amber-1234\n"
    )
    reply = yaml.safe_load(RuleWorld.draw(0).propose(prompt))
    assert reply["targets"] == [
        "0123456789abcdef-20260101000001",
        "fedcba9876543210-20260101000003",
    ]
    assert RULE.findall(reply["edits"][0]["lines"]) == ["K-amber-1234"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rules in place of twelve; each decides half of the cases."""
    monkeypatch.setattr(sample_efficiency, "RULES", 2)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("rule", ["improves", "evidence"])
def test_the_loop_learns_every_rule_and_every_call_is_counted(rule: str) -> None:
    run = Ours(rule, deterministic=rule == "improves").run(0)
    assert (run.score, run.adopted, run.proposals) == (1, 2, 2)
    assert 0 < run.on_train < run.total <= run.all_calls
    # A merge takes a look at held-out cases; from a model that samples, more than a sweep of both.
    least = 4 if rule == "improves" else 2 * 4 + 1
    assert run.total - run.on_train >= run.adopted * least


def test_what_ends_below_100_percent_is_not_reported_as_a_count() -> None:
    runs = [
        Run({"screen": n}, on_train=n, adopted=0, proposals=1, score=score)
        for n, score in ((10, 0.5), (30, 1.0), (20, 1.0))
    ]
    line = sample_efficiency.row("x", runs)
    assert line[:3] == ["x", "2 of 3", "25 (20 to 30)"]
    assert sample_efficiency.row("x", runs[:1])[1:3] == ["0 of 1", "-"]


def test_a_deterministic_model_needs_three_of_24_cases() -> None:
    """The page says why an edit that fixes two is always rejected; the gate must agree."""
    assert sample_efficiency.fewest_fixed(24) == 3


# The ablation ---------------------------------------------------------------------------------

INPUT, GOT, EXPECTED, THOUGHT, REASON = "the input", "the answer", "the right one", "hm", "because"
TRACE = Trace(
    id="t",
    skill="s",
    fixture="f",
    model="m",
    provider="p",
    started_at="2026-01-01T00:00:00",
    reply=Reply(text=GOT, request={"asked": INPUT}, response={"thought": THOUGHT}),
    score=Score(value=0.25, reason=REASON, scorer="exact"),
    fixture_input=INPUT,
    expected=EXPECTED,
    correction="a correction",
    tags=("a tag",),
)


@pytest.mark.parametrize(
    ("mode", "left"),
    [
        ("raw", {INPUT, GOT, EXPECTED, THOUGHT, REASON, "a correction", "a tag"}),
        ("summary", {GOT, EXPECTED}),
        ("scores", set()),
    ],
)
def test_a_mode_leaves_this_of_a_trace_and_no_more(mode: str, left: set[str]) -> None:
    text = context.reduced(TRACE, mode).model_dump_json()
    parts = (INPUT, GOT, EXPECTED, THOUGHT, REASON, "a correction", "a tag")
    assert {part for part in parts if part in text} == left
    assert "0.25" in text


def test_a_summary_is_one_line() -> None:
    long = TRACE.with_(reply=Reply(text="two\nlines"))
    assert context.reduced(long, "summary").fixture_input == (
        "f: score 0.25, expected 'the right one', got 'two\\nlines'"
    )


class Listening(Model):
    """Keeps what the meta-agent is asked."""

    def __init__(self, world: Any) -> None:
        super().__init__(world, deterministic=True)
        self.prompts: list[str] = []

    async def complete(self, request: Request) -> Reply:
        if request.case is None:
            self.prompts.append(request.model_dump_json())
        return await super().complete(request)


@pytest.mark.parametrize(
    ("mode", "seen"),
    [("raw", {"where to", "As ever"}), ("summary", set()), ("scores", set())],
)
def test_the_loop_shows_the_meta_agent_what_the_mode_leaves(
    mode: str, seen: set[str], tmp_path: Path
) -> None:
    world = HabitWorld.draw(0)
    model = Listening(world)
    shared.write_project(tmp_path, world, deterministic=True)
    with context.proposer_sees(mode):
        shared.improve(tmp_path, model, attempts=1, watch=Watch())
        project = repository.open_project(tmp_path)
        ledger = access.open_ledger(project, shared.NAME)
        space = workspace.open_at_base(project, skill=shared.NAME, override={})
        for_proposer = access.for_proposer(ledger, space)
        found = [*for_proposer.task_runs(skip=0, most=1000)[0]]
        found += [run for one in for_proposer.experiments() for run in for_proposer.runs(one.id)]
        found += [run for run in [for_proposer.trace(found[0].id)] if run]
    assert model.prompts
    reached = "".join([*model.prompts, *(run.model_dump_json() for run in found)])
    assert {part for part in ("where to", "As ever") if part in reached} == seen
    assert ("got '" in reached) == (mode != "scores")
    # The ledger itself keeps everything whole, in every mode.
    assert "As ever" in "".join(run.model_dump_json() for run in ledger.traces())


def test_seeing_more_ends_better_in_the_simulated_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CAUSES": 2, "LEGIBLE": 0, "ATTEMPTS": 2}.items():
        monkeypatch.setattr(context, name, value)
    raw, scores = (context.simulate(mode, 0) for mode in ("raw", "scores"))
    assert raw == Outcome(before=0, after=1, proposals=2, merged=2)
    assert scores == Outcome(before=0, after=0, proposals=2, merged=0)


def test_a_table_says_how_far_seeds_differ() -> None:
    runs = [Outcome(0.0, after, proposals=12, merged=1) for after in (0.25, 0.75)]
    last = context.table({"raw": runs}).splitlines()[-1]
    assert last == "| raw: every trace whole | 0% | 50% \N{PLUS-MINUS SIGN} 35 | 1 | 12 |"


# The ablation on a project ----------------------------------------------------------------------


def real(project: Path, **changes: Any) -> Real:
    made = {"skill": None, "provider": "scripted", "model": None, "attempts": 2}
    return Real(project, **(made | changes))


def test_a_project_is_run_on_a_copy(tmp_path: Path) -> None:
    world = World.make(tmp_path / "project", model=script([idea(1, "Rule alpha.")]))
    before = world.world()
    done = real(world.path).run("raw", seed=0)
    assert done == Outcome(before=0, after=1, proposals=1, merged=1)
    assert world.world() == before
    assert not world.status()


def test_a_project_in_a_folder_of_its_repository(tmp_path: Path) -> None:
    world = World.make(tmp_path / "project", model=script([idea(1, "Rule x.")]), prefix="bot/")
    done = real(world.path / "bot", attempts=1).run("scores", seed=0)
    assert (done.before, done.after, done.merged) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "changes", "now"),
    [
        ("provider: local\nmodel: a\n", {"provider": "local"}, {"model": "a"}),
        ("provider: local\nmodel: a\n", {"provider": "scripted"}, {"provider": "scripted"}),
        ("model: a\n", {"provider": "anthropic", "model": "b"}, {"model": "b"}),
        (
            "provider: {type: command, command: x}\n",
            {"provider": "command"},
            {"provider": {"type": "command", "command": "x"}},
        ),
        ("meta: {proposer: examples, per_label: 2}\n", {}, {"meta": {"per_label": 2}}),
        ("gate: {merge: manual, rule: improves}\n", {}, {"gate": {"rule": "improves"}}),
    ],
    ids=["same provider", "another", "a model", "a command stays", "a model proposes", "merges"],
)
def test_the_copy_is_configured_for_the_run(
    text: str, changes: dict[str, Any], now: dict[str, Any], tmp_path: Path
) -> None:
    made = yaml.safe_load(context.configured(text, real(tmp_path, **changes), seed=7))
    assert made["meta"]["proposer"] == "meta"
    assert made["gate"]["merge"] == "auto"
    assert made["loop"]["seed"] == 7
    for key, value in now.items():
        assert made[key] == (made[key] | value if isinstance(value, dict) else value)
    if changes.get("provider") == "scripted":
        assert "model" not in made


# The command lines and the page -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["sample-efficiency", "context"])
def test_the_page_has_a_place_for_every_section(name: str, tmp_path: Path) -> None:
    text = shared.PAGE.read_text("utf-8")
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    shared.write_section(name, "new words", page=page)
    written = page.read_text("utf-8")
    assert f"<!-- {name}:begin -->\n\nnew words\n\n<!-- {name}:end -->" in written
    shared.write_section(name, "new words", page=page)
    assert page.read_text("utf-8") == written


def test_a_model_without_a_provider_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        context.main(["--model", "x"])
    assert "--model needs --provider" in capsys.readouterr().err


def test_the_model_counts_calls_for_cases_apart_from_the_others() -> None:
    world = RuleWorld.draw(0)
    model = Model(world, deterministic=True)
    asked: Sequence[dict[str, Any]] = ({"role": "user", "content": world.cases[0].input},)
    request = Request(model="m", system=world.skill, messages=tuple(asked), case={"id": "x"})
    assert asyncio.run(model.complete(request)).text == "unknown"
    asyncio.run(model.complete(request.with_(case=None)))
    assert (model.calls, model.asked) == (1, 1)


# The report of hundreds of experiments --------------------------------------------------------


def test_a_made_up_ledger_is_one_that_can_be_reported(tmp_path: Path) -> None:
    """Its runs are found again: as the score of the skill, and behind the cases' numbers."""
    project, out = tmp_path / "project", tmp_path / "out"
    project.mkdir()
    filling.write_project(project)
    filler = filling.Filler(project, filling.Size(experiments=5, traces=20))
    filler.fill(5)
    assert filler.traces == 20 + 5 * 20
    ran = typed("report", "-C", str(project), "--json", "--out", str(out))
    assert ran.code == 0, ran.err
    assert (ran.json["experiments"], ran.json["traces"]) == (5, filler.traces)
    weighed = report.weigh(out)
    assert weighed["largest page"].endswith(".html)")
    page = next((out / "skills" / filling.NAME / "experiments").glob("5-*.html")).read_text()
    assert page.count("trace.html?x=") == 40
