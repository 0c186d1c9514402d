"""Past experiments by any recorded field: plain sums over records, and nothing made up."""

from __future__ import annotations

import math
from typing import Any

import pytest
from rich.cells import cell_len

from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.core.gate import Action, Reason, Verdict
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import (
    NO_FAILED_CALLS,
    Evidence,
    Experiment,
    Pair,
    Proposal,
    Reply,
    Result,
    Setting,
    Tally,
    Trace,
    Usage,
    digest,
)
from skill_ratchet.experiment import recorder
from skill_ratchet.report.comparison import ALIASES, FIELDS, Done, Group, field_named, tabulate
from world import BOTH, SEALED, World, idea, script

SETTING = Setting(
    provider="scripted",
    model="m",
    model_digest=digest("model"),
    meta_model="m",
    proposer="meta",
    scorer_digest=digest("scorer"),
    config_digest=digest("config"),
    train_digest=digest("train"),
    holdout_digest=None,
    evaluator="1",
    base="0" * 40,
    branch="main",
    seed=0,
)
FREE: dict[str, Any] = {"usd": 0.0, "calls": 1}


def look(
    *gains: float, log_e: float | None = 1.0, deterministic: bool = False, rate: float | None = None
) -> Confirmation:
    """A look at the holdout with these differences."""
    pairs = tuple(
        Pair(
            fixture=f"h{n}",
            cluster=f"h{n}",
            sweep=0,
            incumbent=max(0.0, -gain),
            candidate=max(0.0, gain),
            incumbent_run=f"i{n}",
            candidate_run=f"c{n}",
        )
        for n, gain in enumerate(gains)
    )
    evidence = Evidence(
        experiment=digest("x"),
        tested=None,
        current=None,
        held=False,
        landed=False,
        leaks=(),
        version=2,
        seed=0,
        deterministic=deterministic,
        train_fixtures=(),
        holdout_fixtures=tuple(pair.fixture for pair in pairs),
        screen=(),
        confirm=pairs,
        missing=0,
        failed=NO_FAILED_CALLS,
        attempt=1,
        train_scores=(),
        targeted=(),
        age=None,
        released=False,
    )
    verdict = Verdict(
        action=Action.MERGE,
        reason=Reason.IMPROVED,
        detail="",
        log_e=log_e,
        false_merge_rate=rate,
    )
    return Confirmation(
        experiment=digest("x"),
        parent=digest("p"),
        attempt=1,
        started_at="",
        evidence=evidence,
        verdict=verdict,
    )


def done(
    *,
    merged: bool = False,
    confirmation: Confirmation | None = None,
    train: tuple[float | None, float | None] = (None, None),
    calls: int = 1,
    usd: float | None = 1.0,
    level: str = "add lines",
    chars: tuple[int, int] | None = None,
    **setting: Any,
) -> Done:
    experiment = Experiment(
        id=digest("x"),
        skill="triage",
        number=1,
        parent=digest("p"),
        candidate=None,
        setting=SETTING.with_(**setting),
        proposal=Proposal(proposer="meta", model="m", hypothesis="h"),
        started_at="",
        level=level,
        chars=chars,
    )
    result = Result(
        experiment=experiment.id,
        action="merge" if merged else "reject",
        reason="",
        detail="",
        train=Tally(incumbent=train[0], candidate=train[1]),
        calls=calls,
        usd=usd,
        seconds=1,
        finished_at="",
    )
    return Done(experiment=experiment, result=result, confirmation=confirmation, merged=merged)


def only(*members: Done) -> Group:
    (group,) = tabulate(members, by="provider")
    return group


# Fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*Setting.model_fields, "level", "parent"])
def test_every_recorded_field_is_known(name: str) -> None:
    assert field_named(name) == name
    (group,) = tabulate([done()], by=name)
    one = done().experiment
    assert group.value == getattr(one if name in ("level", "parent") else one.setting, name)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("meta.model", "meta_model"),
        ("meta.proposer", "proposer"),
        ("provider.type", "provider"),
        ("loop.seed", "seed"),
    ],
)
def test_names_of_the_config_mean_what_is_recorded_of_them(name: str, field: str) -> None:
    assert field_named(name) == field
    assert set(ALIASES.values()) <= set(FIELDS)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "no field ''"),
        ("modle", "Did you mean 'model'?"),
        ("meta.modl", "Did you mean 'meta.model'?"),
        ("hypothesis", "no field 'hypothesis'"),
        ("__class__", "no field '__class__'"),
        ("setting.model", "no field 'setting.model'"),
        ("\x1b[2J", r"no field '\x1b[2J'"),
    ],
)
def test_an_unknown_field_is_refused_with_those_there_are(name: str, told: str) -> None:
    with pytest.raises(RatchetError) as caught:
        field_named(name)
    assert told in caught.value.message
    for known in (*FIELDS, *ALIASES):
        assert known in str(caught.value.hint)


# Groups ---------------------------------------------------------------------------------------


def test_nothing_makes_no_group() -> None:
    assert tabulate([], by="model") == ()


def test_values_come_in_the_order_in_which_they_first_appeared() -> None:
    """What was not recorded is a group of its own, not part of another."""
    members = [done(meta_model=name) for name in ("b", "a", None, "b", "a", "b")]
    groups = tabulate(members, by="meta_model")
    assert [(group.value, group.experiments) for group in groups] == [("b", 3), ("a", 2), (None, 1)]


def test_an_empty_level_is_none() -> None:
    """As the examples proposer and older records have it."""
    assert [one.value for one in tabulate([done(level="")], by="level")] == [None]


def test_numbers_are_values_too() -> None:
    groups = tabulate([done(seed=0), done(seed=7)], by="seed")
    assert [group.value for group in groups] == [0, 7]


def test_a_group_adds_up() -> None:
    """Gains of the merged ones alone, costs of all."""
    group = only(
        done(
            merged=True,
            confirmation=look(1, 1, 0, 0, log_e=4),
            train=(0.25, 0.5),
            calls=10,
            usd=2.0,
            chars=(100, 160),
        ),
        done(
            merged=True,
            confirmation=look(1, 0, 0, 0, log_e=5),
            train=(0.5, 0.6),
            calls=20,
            usd=1.0,
            chars=(160, 150),
        ),
        done(confirmation=look(0, -1, log_e=-3), train=(0.6, 0.9), calls=30, usd=0.75, chars=None),
        done(train=(0.6, 0.1), calls=4, usd=0.0, chars=(150, 160)),
    )
    assert (group.experiments, group.merged, group.rate) == (4, 2, 0.5)
    assert group.gain == pytest.approx(75)
    assert group.train_gain == pytest.approx(35)
    assert (group.calls, group.usd) == (64, 3.75)
    assert group.gain_per_usd == pytest.approx(20)
    assert group.log_e == pytest.approx(2)
    assert group.mean_gain is None
    assert group.size == pytest.approx(20)


MERGED: dict[str, Any] = {"merged": True, "confirmation": look(1, 0), "train": (0.0, 0.5)}
UNKNOWN: dict[str, tuple[list[Done], dict[str, Any]]] = {
    "nothing merged gains nothing": ([done()], {"gain": 0.0, "train_gain": 0.0, "rate": 0.0}),
    "nothing tried on the holdout": ([done()], {"log_e": None, "mean_gain": None}),
    "free has no gain a dollar": ([done(**MERGED | FREE)], {"usd": 0.0, "gain_per_usd": None}),
    "an unknown price makes the sum unknown": (
        [done(**MERGED), done(usd=None)],
        {"usd": None, "gain_per_usd": None, "gain": 50.0},
    ),
    "held-out numbers of a merge are not here": (
        [done(**MERGED), done(**MERGED | {"confirmation": None})],
        {"gain": None, "gain_per_usd": None, "train_gain": 100.0},
    ),
    "a look that is under way": (
        [done(confirmation=look(1).with_(evidence=None, verdict=None))],
        {"gain": 0.0, "log_e": None, "mean_gain": None},
    ),
    "a look that made no run": (
        [done(confirmation=look(log_e=None))],
        {"log_e": None, "mean_gain": None},
    ),
    "no run on train": ([done(**MERGED | {"train": (None, None)})], {"train_gain": None}),
    "no length on record": ([done(), done()], {"size": None}),
}


@pytest.mark.parametrize(("members", "wanted"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_is_not_a_number(members: list[Done], wanted: dict[str, Any]) -> None:
    found = only(*members).model_dump()
    assert {name: found[name] for name in wanted} == wanted


def test_a_reverted_experiment_counts_as_tried_and_gains_nothing() -> None:
    """Its result still says merge; what counts is whether it is in."""
    reverted = done(**MERGED).with_(merged=False)
    group = only(reverted, done(**MERGED))
    assert (group.experiments, group.merged, group.gain) == (2, 1, 50.0)


@pytest.mark.parametrize(
    "given", [{"deterministic": True}, {"rate": 0.44}], ids=["deterministic", "rule improves"]
)
def test_without_odds_the_evidence_is_a_mean_gain(given: dict[str, Any]) -> None:
    """The number in a verdict's place for log E is no evidence there, and is not mixed with it."""
    group = only(
        done(confirmation=look(1, 0, log_e=9, **given)),
        done(confirmation=look(0, -1, log_e=9, **given)),
        done(confirmation=look(1, 1, log_e=3)),
    )
    assert group.log_e == pytest.approx(3)
    assert group.mean_gain == pytest.approx(0)


# The command ----------------------------------------------------------------------------------


def world_of(tmp_path: Any) -> World:
    """A merge, a rejection by the screen and an edit that could not be applied."""
    bad = idea(3, [{"op": "add", "after": "No such line", "lines": "x"}])
    replies = [idea(1, "Rule alpha."), idea(2, "Rule beta."), bad]
    model = script(replies, right={"alpha": ("t1", "t2", *BOTH[3:])})
    config = {"gate": {"rule": "improves"}, "loop": {"attempts": 3, "widen_after": 1}}
    world = World.make(tmp_path / "p", model=model, config=config)
    ran = world.run()
    assert [action for action, _ in ran.verdicts] == ["merge", "reject", "reject"], ran.err
    return world


def test_the_command_shows_what_the_ledger_has(tmp_path: Any) -> None:
    world = world_of(tmp_path)

    rows = world.ratchet("compare", "--by", "level", "--json").json
    shown = world.ratchet("compare", "--by", "level").out

    assert rows["by"] == "level"
    narrow, wide = rows["rows"]
    assert narrow | {"size": 0, "calls": 0} == {
        "value": "add lines",
        "experiments": 2,
        "merged": 1,
        "rate": 0.5,
        "gain": 100.0,
        "train_gain": 50.0,  # of the two cases it took to settle
        "calls": 0,
        "usd": 0.0,
        "gain_per_usd": None,
        "log_e": None,
        "mean_gain": 100.0,
        "size": 0,
    }
    assert narrow["calls"] == sum(one["result"]["calls"] for one in log_of(world)[1:])
    assert narrow["size"] == (len("Rule alpha.\n") + len("Rule beta.\n")) / 2
    assert (wide["value"], wide["experiments"], wide["merged"]) == ("replace", 1, 0)
    assert shown.startswith("3 experiments by level;")
    assert max(cell_len(line) for line in shown.splitlines()) <= 80
    assert "add lines      2       1   50%    +100.0  +50.0  +100.0 pt  +11.5" in shown


def log_of(world: World) -> Any:
    return world.ratchet("log", "--json").json


def test_a_reverted_merge_no_longer_counts(tmp_path: Any) -> None:
    world = world_of(tmp_path)
    assert world.ratchet("revert", "1").code == ExitCode.DONE

    (group,) = world.ratchet("compare", "--by", "meta.model", "--json").json["rows"]

    assert (group["experiments"], group["merged"], group["gain"]) == (3, 0, 0.0)


def test_comparing_writes_nothing_and_tells_the_ledger_branch_nothing(tmp_path: Any) -> None:
    """Held-out gains are for the person who asks."""
    world = world_of(tmp_path)
    tips = {branch: world.tip(branch) for branch in world.branches()}
    for field in FIELDS:
        assert world.ratchet("compare", "--by", field).code == ExitCode.DONE
    assert {branch: world.tip(branch) for branch in world.branches()} == tips
    assert SEALED not in world.told("refs/heads/ratchet/ledger")
    assert world.status() == ""


def test_an_unknown_field_is_one_error(tmp_path: Any) -> None:
    world = World.make(tmp_path / "p")
    refused = world.ratchet("compare", "--by", "colour")
    assert (refused.code, refused.out) == (ExitCode.ERROR, "")
    assert "no field 'colour'" in refused.err
    assert "meta.model" in refused.err


def test_without_experiments_it_says_so(tmp_path: Any) -> None:
    world = World.make(tmp_path / "p")
    assert "No experiment yet" in world.ratchet("compare", "--by", "model").out
    empty = world.ratchet("compare", "--by", "model", "--json")
    assert empty.json == {"by": "model", "rows": []}


# Log and show ---------------------------------------------------------------------------------


def test_the_log_has_level_and_size_and_a_line_for_each(tmp_path: Any) -> None:
    """The longest outcome is not wrapped; the hypothesis has the rest of the line."""
    long = "Because the model confuses the two, say which is which, and in which order. " * 2
    replies = [idea(1, "Rule beta.").replace("idea 1", long.strip())]
    world = World.make(tmp_path / "p", model=script(replies, right={"": BOTH[:1]}))
    world.run()

    _, _, head, row, _, _ = world.ratchet("log").out.splitlines()

    assert head.split() == ["#", "outcome", "level", "size", "train", "hypothesis"]
    assert row.startswith("──○  1  screen_failed  add lines   +11  33% → 33%  Because the model")
    assert cell_len(row) == 80
    assert row.endswith("…")
    (told,) = log_of(world)
    assert (told["level"], told["hypothesis"]) == ("add lines", long.strip())
    assert told["chars"][1] - told["chars"][0] == len("Rule beta.\n")


def test_show_has_level_size_and_tokens(tmp_path: Any) -> None:
    world = world_of(tmp_path)
    first, third = (world.ratchet("show", number).out for number in ("1", "3"))
    before, after = log_of(world)[-1]["chars"]
    old, new = log_of(world)[-1]["result"]["tokens"]
    assert "level      add lines\n" in first
    assert f"size       {before} → {after} characters (+12)\n" in first
    assert f"tokens     {old:.0f} → {new:.0f} a run on train\n" in first
    assert "level      replace\n" in third
    assert "size " not in third
    assert "tokens " not in third
    assert world.ratchet("show", "1", "--json").json["level"] == "add lines"


def test_tokens_are_those_of_the_screen_with_either_text(tmp_path: Any) -> None:
    """Counted by the provider, on train, whoever paid for the runs; never of the holdout."""
    world = world_of(tmp_path)
    first, second, third = world.ledger().experiments()
    totals: dict[str, list[int]] = {}
    for trace in world.ledger().traces(job="task"):
        assert trace.key is not None
        totals.setdefault(trace.key.skill, []).append(trace.reply.usage.total)
    results = world.ledger().results()
    for one in (first, second):
        assert one.candidate is not None
        wanted = [
            math.fsum(totals[text]) / len(totals[text]) for text in (one.parent, one.candidate)
        ]
        assert results[one.id].tokens == pytest.approx(wanted)
    assert results[third.id].tokens is None
    told = results[first.id].tokens
    assert told is not None
    assert told[1] > told[0] > 0


def run_of(name: str, **used: int) -> Trace:
    return Trace(
        id=name,
        skill="triage",
        model="m",
        provider="p",
        started_at="",
        reply=Reply(text="yes", usage=Usage(**used)),
    )


PAIR = look(0.5).evidence.confirm[0]  # type: ignore[union-attr]  # a look that has ended
OLD, NEW = run_of("i0", input_tokens=10, output_tokens=1), run_of("c0", input_tokens=12)


@pytest.mark.parametrize(
    ("pairs", "runs", "tokens"),
    [
        ([PAIR], [OLD, NEW], (11.0, 12.0)),
        ([PAIR], [OLD, run_of("c0", cache_read_tokens=7, cache_write_tokens=2)], (11.0, 9.0)),
        ([PAIR, PAIR.with_(candidate_run="i0")], [OLD, NEW], (11.0, 11.5)),
        ([], [OLD, NEW], None),
        ([PAIR], [OLD], None),
        ([PAIR], [], None),
        ([PAIR], [run_of("i0"), run_of("c0")], None),
    ],
    ids=["both", "cached", "mean", "no pairs", "a run is gone", "no runs", "nothing is counted"],
)
def test_tokens_are_known_or_none(
    pairs: list[Pair], runs: list[Trace], tokens: tuple[float, float] | None
) -> None:
    assert recorder.tokens_used(pairs, runs) == tokens


def test_records_of_an_earlier_version_still_parse() -> None:
    """They have no level, lengths or tokens."""
    one = done(level="")
    experiment = one.experiment.model_dump(mode="json", exclude={"level", "chars"})
    del experiment["proposal"]["start"]
    result = one.result.model_dump(mode="json", exclude={"tokens"})
    assert Experiment.model_validate(experiment) == one.experiment
    assert Result.model_validate(result) == one.result
