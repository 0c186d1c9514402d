"""Two texts on several models: what the rows say, what is paid, and what nobody else sees of it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from kills import the_mortuary, with_few
from scenes import Scenes, Stages, stages
from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.core import transfer as core
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import NO_TALLY, Fixture, Reply, RolloutKey, Score, Trace, digest
from skill_ratchet.core.transfer import Transfer, TransferRow
from skill_ratchet.experiment import transfer as transfer_runs
from skill_ratchet.github import pages
from skill_ratchet.ledger import Ref, access, bundles
from skill_ratchet.ledger.gitref import GitRef
from skill_ratchet.project import repository, workspace
from tests.ledger.test_bundles import Jobs, read, space_of
from views import proposers
from world import SEALED, SKILL, SKILL_TEXT, Mortuary, World, calls_file, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stage import Stage
    from world import Ran

# The pure part ----------------------------------------------------------------------------------

CASES = tuple(
    Fixture(id=f"c{n}", split="holdout", input=f"input {n}", expected="yes") for n in range(4)
)
OLD, NEW = digest("old"), digest("new")
TIMES = 5  # sweeps


def row(name: str = "m", **changes: Any) -> TransferRow:
    given = {
        "provider": "scripted",
        "model": name,
        "model_digest": digest(name),
        "deterministic": False,
    }
    return TransferRow(**(given | changes))


def asked(*rows: TransferRow, **changes: Any) -> Transfer:
    given: dict[str, Any] = {
        "id": "0" * 64,
        "skill": "triage",
        "split": "holdout",
        "old": OLD,
        "new": NEW,
        "old_name": "before",
        "new_name": "main",
        "base": "b" * 40,
        "cases": digest("cases"),
        "scorer": digest("scorer"),
        "judge": "",
        "evaluator": "1",
        "fixtures": len(CASES),
        "sweeps": TIMES,
        "alpha": 0.1,
        "round": 1,
        "rows": rows or (row(),),
        "started_at": "2026-07-14T09:30:00.000000+00:00",
    }
    made = Transfer(**(given | changes))
    return made.with_(id=made.named())


def trace(
    one: Transfer,
    case: Fixture,
    value: float | None,
    *,
    text: str,
    sweep: int = 0,
    model: str = "m",
    owner: str | None = None,
    usd: float | None = 0.25,
) -> Trace:
    key = RolloutKey(
        skill=text,
        fixture=case.digest,
        model=digest(model),
        replicate=sweep,
        experiment=one.owner if owner is None else owner,
    )
    error = None if value is not None else "overloaded"
    return Trace(
        id=f"{key.digest[:16]}-{value}",
        key=key,
        skill="triage",
        experiment=key.experiment,
        fixture=case.id,
        split=case.split,
        side="incumbent" if text == OLD else "candidate",
        model=model,
        provider="scripted",
        started_at="2026-07-14T09:30:00.000000+00:00",
        reply=Reply(text=None if error else "yes", error=error, usd=usd),
        score=None if value is None else Score(value=value, reason="", scorer="exact"),
    )


def runs(
    one: Transfer, old: Sequence[float | None], new: Sequence[float | None], **how: Any
) -> list[Trace]:
    """Every run of a model; the cases score so in each sweep."""
    sweeps = how.pop("sweeps", one.sweeps)
    return [
        trace(one, case, value, text=text, sweep=sweep, **how)
        for sweep in range(sweeps)
        for text, values in ((OLD, old), (NEW, new))
        for case, value in zip(CASES, values, strict=True)
    ]


def measure(one: Transfer, made: Sequence[Trace], judged: Sequence[Trace] = ()) -> TransferRow:
    return core.measured(one, one.rows[0], runs=made, judged=judged, fixtures=CASES)


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        ([0, 0, 0, 0], [1, 1, 1, 1], "better"),
        ([1, 1, 1, 1], [0, 0, 0, 0], "worse"),
        ([0, 0.5, 0, 0.5], [0.5, 1, 0.5, 1], "better"),
        ([0, 0, 0, 0], [1, 1, 1, 0], "unclear"),  # 15 won, 5 ties: about 17:1
        ([0, 0, 1, 0], [1, 1, 0, 1], "unclear"),  # 15 won, 5 lost
        ([1, 0, 1, 0], [1, 0, 1, 0], "unclear"),
        ([1, 0, 1, 0], [0, 1, 0, 1], "unclear"),
        ([0, 0, 0, 1], [1, 0, 0, 0], "unclear"),
    ],
)
def test_a_change_counts_when_its_odds_reach_the_bar(
    old: list[float], new: list[float], outcome: str
) -> None:
    one = asked()
    done = measure(one, runs(one, old, new))
    assert done.outcome == outcome
    assert done.tally.pairs == TIMES * len(CASES)
    assert done.points == pytest.approx(100 * (sum(new) - sum(old)) / len(CASES))
    assert (done.calls, done.usd) == (2 * TIMES * len(CASES), 2 * TIMES * len(CASES) * 0.25)


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        ([0, 0, 0, 0], [1, 1, 1, 1], "better"),
        ([1, 1, 1, 1], [0, 0, 0, 0], "worse"),
        ([0, 0, 0, 0], [1, 1, 1, 0], "better"),  # 3 standard errors
        ([0, 0, 0, 0], [1, 0, 0, 0], "unclear"),  # 1 standard error
        ([0, 0, 0, 0], [0, 0, 0, 0], "unclear"),
    ],
)
def test_a_model_that_always_answers_the_same_runs_once_and_is_judged_by_its_spread(
    old: list[float], new: list[float], outcome: str
) -> None:
    one = asked(row(deterministic=True))
    done = measure(one, runs(one, old, new, sweeps=1))
    assert (done.outcome, done.tally.pairs, done.tally.sweeps) == (outcome, len(CASES), 1)
    assert (done.log_better, done.log_worse) == (None, None)


def test_related_cases_are_no_evidence_of_their_own() -> None:
    """Four cases of one cluster are one: without a spread nothing can be shown."""
    cases = tuple(case.with_(cluster="same") for case in CASES)
    one = asked(row(deterministic=True))
    made = runs(one, [0, 0, 0, 0], [1, 1, 1, 1], sweeps=1)
    done = core.measured(one, one.rows[0], runs=made, judged=(), fixtures=cases)
    assert (done.outcome, done.error, core.evidence(done)) == ("unclear", None, "-")


def _without_last(one: Transfer) -> list[Trace]:
    return runs(one, [0] * 4, [1] * 4)[:-1]


def _one_failed(one: Transfer) -> list[Trace]:
    made = _without_last(one)
    return [*made, trace(one, CASES[3], None, text=NEW, sweep=TIMES - 1)]


def _of_another_transfer(one: Transfer) -> list[Trace]:
    return runs(one, [0] * 4, [1] * 4, owner=asked(round=2).owner)


def _of_another_model(one: Transfer) -> list[Trace]:
    return runs(one, [0] * 4, [1] * 4, model="other")


def _kept_ones(one: Transfer) -> list[Trace]:
    return runs(one, [0] * 4, [1] * 4, owner="")


def _of_an_experiment(one: Transfer) -> list[Trace]:
    return runs(one, [0] * 4, [1] * 4, owner=one.id)


@pytest.mark.parametrize(
    "made",
    [
        _without_last,
        _one_failed,
        _of_another_transfer,
        _of_another_model,
        _kept_ones,
        _of_an_experiment,
    ],
)
def test_must_not_happen_an_outcome_without_every_run_of_its_own(made: Any) -> None:
    one = asked()
    done = measure(one, made(one))
    assert (done.outcome, done.tally, done.log_better, done.error) == (
        None,
        NO_TALLY,
        None,
        None,
    )
    assert core.evidence(done) == "-"
    assert core.sentence(one.with_row(done)) == "There is no result yet."


def test_a_failed_run_that_was_made_again_is_paid_for_and_not_missing() -> None:
    one = asked()
    failed = trace(one, CASES[0], None, text=OLD)
    done = measure(one, [failed, *runs(one, [0] * 4, [1] * 4)])
    assert (done.missing, done.outcome) == (0, "better")
    assert done.calls == 2 * TIMES * len(CASES) + 1


def test_a_cost_that_is_not_known_is_not_nothing() -> None:
    one = asked()
    made = runs(one, [0] * 4, [1] * 4)
    judged = [trace(one, CASES[0], 1, text=OLD, usd=None).with_(job="judge")]
    done = measure(one, made, judged)
    assert (done.usd, done.calls, done.outcome) == (None, len(made) + 1, "better")
    assert core.matrix(one.with_row(done))[0][-1] == "unknown"


def test_the_bar_rises_with_the_number_of_models() -> None:
    """The chance of any wrong claim in the table is alpha, whatever its length."""
    assert math.exp(core.log_bar(1, alpha=0.1)) == pytest.approx(20)
    assert math.exp(core.log_bar(5, alpha=0.1)) == pytest.approx(100)
    alone, among = asked(), asked(row(), *(row(f"m{n}") for n in range(19)))
    made = [measure(one, runs(one, [0] * 4, [1] * 4)) for one in (alone, among)]
    assert [one.outcome for one in made] == ["better", "unclear"]


def test_the_order_of_the_models_does_not_make_another_transfer() -> None:
    assert asked(row("a"), row("b")).id == asked(row("b"), row("a")).id


@pytest.mark.parametrize(
    "other",
    [
        {"split": "train"},
        {"old": NEW},
        {"new": OLD},
        {"cases": digest("others")},
        {"scorer": digest("another")},
        {"judge": digest("judge")},
        {"evaluator": "2"},
        {"sweeps": 6},
        {"round": 2},
        {"skill": "other"},
        {"rows": (row("m"), row("n"))},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_the_numbers_depend_on_makes_another_transfer(other: dict[str, Any]) -> None:
    assert asked(**other).id != asked().id


@pytest.mark.parametrize(
    ("fixtures", "models", "sweeps"), [(1, 1, 20), (5, 1, 15), (20, 3, 5), (100, 3, 1), (500, 9, 1)]
)
def test_there_are_as_many_sweeps_as_it_takes_to_show_something(
    fixtures: int, models: int, sweeps: int
) -> None:
    assert core.enough_sweeps(fixtures=fixtures, models=models, alpha=0.1) == sweeps


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ("a",)),
        ("a, b", ("a", "b")),
        ("anthropic:claude-haiku-5-5,local", ("anthropic:claude-haiku-5-5", "local")),
        ("org/model@v1:free", ("org/model@v1:free",)),
    ],
)
def test_a_list_of_models_is_read(text: str, names: tuple[str, ...]) -> None:
    assert core.parse_models(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,",
        ",a",
        "a b",
        "a,a",
        "a\nb",
        "--usd",
        "$(id)",
        "a;b",
        "a`b`",
        "\u202ea",
        "x" * 101,
        ",".join(f"m{n}" for n in range(21)),
    ],
)
def test_must_not_happen_a_name_that_no_model_has(text: str) -> None:
    with pytest.raises(RatchetError):
        core.parse_models(text)


def _shown(*outcomes: str | None) -> Transfer:
    return asked(*(row(f"m{n}", outcome=one) for n, one in enumerate(outcomes)))


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (("better",), "The new text is better on the one model."),
        (("better", "better"), "The new text is better on all 2 models."),
        (("worse", "worse"), "The new text is worse on all 2 models."),
        (("unclear",), "No difference can be shown on the one model."),
        (
            ("better", "better", "unclear"),
            "The new text is better on 2 of 3 models; on m2 no difference can be shown.",
        ),
        (
            ("better", "worse", "worse", "unclear", None),
            (
                "The new text is better on 1 of 5 models; worse on m1 and m2; "
                "on m3 no difference can be shown; m4 has no result yet."
            ),
        ),
        (
            ("worse", None, None),
            (
                "The new text is better on none of 3 models; worse on m0; "
                "m1 and m2 have no result yet."
            ),
        ),
        ((None, None), "There is no result yet."),
    ],
)
def test_what_the_rows_mean_is_said_in_a_sentence(outcomes: Any, said: str) -> None:
    assert core.sentence(_shown(*outcomes)) == said


def test_two_models_of_one_name_are_told_apart_by_their_providers() -> None:
    same = row("m", provider="anthropic", model_digest=digest("other"))
    assert core.labels(asked(row("m"), same, row("n"))) == ("scripted:m", "anthropic:m", "n")


def test_a_page_shows_what_a_comment_named_and_does_nothing_else() -> None:
    """Names are data, also those in the record of another job."""
    hostile = "<img|src=x>@octo"
    one = asked(row(hostile, missing=1), old_name="#1", new_name="[x](https://evil)")
    page = pages.transfer(one)
    for harmful in (r"(?<!\\)<img", "@octo", "#1", r"(?<!\\)\]\(", r"(?<!\\)\|src", "https://"):
        assert not re.search(harmful, page), harmful
    assert "the log of the job says why" in page


# Real runs --------------------------------------------------------------------------------------

RULE = {"system_contains": "Rule alpha."}
EDITED = f"{SKILL_TEXT}Rule alpha.\n"
MODELS: list[dict[str, Any]] = [
    {"when": {"model": "gains"} | RULE, "text": "yes"},
    {"when": {"model": "gains"}, "text": "no"},
    {"when": {"model": "loses"} | RULE, "text": "no"},
    {"when": {"model": "loses"}, "text": "yes"},
    {"when": {"model": "alike"}, "text": "no"},
]
ONCE = 2 * 2  # calls of a model: the holdout with both texts


def playing(*first: dict[str, Any], deterministic: bool = True) -> str:
    return script(first=[*first, *MODELS], deterministic=deterministic)


def make(path: Path, *first: dict[str, Any], deterministic: bool = True, **config: Any) -> World:
    """A project whose skill was edited by a person, on a branch of its own and on main."""
    model = playing(*first, deterministic=deterministic)
    world = World.make(path, model=model, config=config)
    world.git("tag", "before")
    world.write(SKILL, EDITED)
    world.commit("rule alpha")
    return world


@pytest.fixture
def made(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., World]:
    """The same as ``make``, once for all that ask for the same."""

    def copy(*first: dict[str, Any], **given: Any) -> World:
        scenes, folder = Scenes(tmp_path_factory), tmp_path / "made"
        scenes.copied(
            folder, lambda scene: make(scene / "p", *first, **given), [__name__, first, given]
        )
        return World(folder / "p")

    return copy


@pytest.fixture
def world(made: Callable[..., World]) -> World:
    return made()


def transfer(world: World, models: str = "gains,loses,alike", *args: str) -> Ran:
    given = () if "--from" in args else ("--from", "before")
    return world.ratchet("transfer", "--json", "--models", models, *given, *args)


def outcomes(ran: Ran) -> list[tuple[str, str | None]]:
    return [(one["model"], one["outcome"]) for one in ran.json["models"]]


THREE = [("gains", "better"), ("loses", "worse"), ("alike", "unclear")]


@pytest.mark.parametrize("deterministic", [True, False])
def test_one_model_gains_and_one_loses(tmp_path: Path, *, deterministic: bool) -> None:
    world = make(tmp_path / "p", deterministic=deterministic)
    calls = ONCE * (1 if deterministic else 16)

    ran = transfer(world, "gains,loses,alike", "--sweeps", "16")

    assert ran.code == ExitCode.DONE, ran.err
    assert outcomes(ran) == THREE
    assert [one["points"] for one in ran.json["models"]] == [100, -100, 0]
    assert [one["calls"] for one in ran.json["models"]] == [calls] * 3
    assert (ran.json["calls"], ran.json["finished"], ran.json["kept"]) == (3 * calls, True, False)
    assert ran.json["sentence"] == (
        "The new text is better on 1 of 3 models; worse on loses; "
        "on alike no difference can be shown."
    )
    (kept,) = world.ledger().transfers()
    assert kept.finished_at
    assert world.ledger().transfer_texts(kept) == (SKILL_TEXT, EDITED)
    assert world.status() == ""
    world.assert_sound()


def test_the_matrix_fits_a_terminal(world: World) -> None:
    ran = world.ratchet("transfer", "--models", "gains,loses,alike", "--from", "before")
    lines = ran.out.splitlines()
    assert lines[0].split() == list(core.HEADER)
    assert lines[1].split() == [
        "gains",
        "0%",
        "100%",
        "+100.0",
        "2/0/0",
        "no",
        "spread",
        "4",
        "$0.00",
    ]
    assert max(map(len, lines)) <= 80
    assert SEALED not in ran.out + ran.err
    assert "h1" not in ran.out + ran.err


def test_a_finished_transfer_is_shown_again_and_asked_anew_only_when_that_is_said(
    world: World,
) -> None:
    first = transfer(world)
    again = transfer(world, "alike,gains,loses")  # in another order
    anew = transfer(world, "gains,loses,alike", "--again")
    last = transfer(world)

    assert again.json["calls"] == 0
    assert again.json["kept"]
    assert again.json["id"] == first.json["id"]
    assert (anew.json["calls"], anew.json["round"]) == (3 * ONCE, 2)
    assert (last.json["id"], last.json["calls"]) == (anew.json["id"], 0)
    assert len(world.ledger().transfers()) == 2


def test_the_runs_are_fresh_whatever_the_ledger_has(world: World) -> None:
    """Not even a deterministic model's kept train runs are used, and none is kept for others."""
    before = world.ratchet("eval", "--json").json["calls"]
    ran = transfer(world, "scripted", "--split", "train")
    after = world.ratchet("eval", "--json").json["calls"]
    assert (before, ran.json["calls"], after) == (3, 2 * 3, 0)


# Which texts and which models


def test_the_texts_are_those_around_the_last_merge_unless_said_otherwise(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p", model=playing())
    nothing = world.ratchet("transfer", "--json", "--models", "gains")
    assert world.run().verdicts == [("merge", "improved")]
    one = world.only()

    usual = world.ratchet("transfer", "--json", "--models", "gains")
    number = transfer(world, "gains", "--to", "1", "--from", "HEAD~1")
    by_id = world.ratchet("transfer", "--json", "--models", "gains", "--to", one.id[:8])

    assert nothing.code == ExitCode.ERROR
    assert "merged" in nothing.json["error"]["message"]
    assert "--from" in nothing.json["error"]["hint"]
    assert usual.json["old"] == {"name": "before experiment 1", "digest": one.parent}
    assert usual.json["new"] == {"name": "main", "digest": one.candidate}
    ids = {usual.json["id"], number.json["id"], by_id.json["id"]}
    assert len(ids) == 1  # the same texts, however they are named
    assert (number.json["calls"], by_id.json["calls"]) == (0, 0)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--models", "gains,gains"), "named twice"),
        (("--models", "gains,scripted:gains"), "are the same model"),
        (("--models", "local:gpt"), "has no model 'gpt'"),
        (("--models", "command"), "needs a command line"),
        (("--models", "scripted:"), "without a model"),
        (("--models", "anthropic:no-such-model"), "price of model 'no-such-model' is not known"),
        (("--models", "a b"), "is not the name of a model"),
        (("--models", "gains", "--from", "no-such-ref"), "no commit 'no-such-ref'"),
        (("--models", "gains", "--from", "#7"), "no experiment matches '#7'"),
        (("--models", "gains", "--from", "main"), "have the same text"),
        (("--models", "gains", "--from", "--help"), "is not the name of a commit"),
    ],
)
def test_must_not_happen_a_call_for_what_is_not_there(
    world: World, args: tuple[str, ...], said: str
) -> None:
    """One clear error, and nothing is spent or recorded."""
    if "--from" not in args:
        args = (*args, "--from", "before")
    ran = world.ratchet("transfer", "--json", *args)
    assert ran.code == ExitCode.ERROR
    assert said in ran.json["error"]["message"]
    assert world.ledger().transfers() == []
    assert world.branches() == {"main"}


def test_a_name_that_is_an_experiment_and_a_commit_is_not_guessed_at(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p", model=playing())
    world.run()
    name = world.only().id[:10]
    world.git("branch", name)
    ran = world.ratchet("transfer", "--json", "--models", "gains", "--from", name)
    assert ran.code == ExitCode.ERROR
    assert "an experiment and a commit" in ran.json["error"]["message"]


def test_another_provider_is_named_by_its_type(tmp_path: Path) -> None:
    """The configured one as it is configured, by type; the meta-agent's too."""
    answer = "import json, sys; json.load(sys.stdin); print(json.dumps({'text': 'yes'}))"
    meta = {"provider": {"type": "command", "command": ["python3", "-c", answer]}, "turns": 1}
    world = make(tmp_path / "p", meta=meta)
    ran = transfer(world, "gains,command", "--sweeps", "1")
    assert [(one["provider"], one["model"]) for one in ran.json["models"]] == [
        ("scripted", "gains"),
        ("command", "command"),
    ]


def test_one_judge_for_all_models(tmp_path: Path) -> None:
    """A model that judged itself would be scored by another measure than the next one."""
    judge = {
        "when": {"model": "judge", "system_contains": "You judge one answer"},
        "text": json.dumps({"reason": "so be it", "score": 10}),
    }
    world = make(
        tmp_path / "p",
        judge,
        model="judge",
        skills={"triage": {"scorer": {"type": "rubric", "rubric": "Says yes."}}},
    )
    ran = transfer(world, "gains,loses")
    assert [one["new"] for one in ran.json["models"]] == [1, 1], ran.err
    assert [one["calls"] for one in ran.json["models"]] == [2 * ONCE] * 2
    (kept,) = world.ledger().transfers()
    assert kept.judge


# Ended early


@pytest.fixture(scope="module")
def mortuary(tmp_path_factory: pytest.TempPathFactory) -> Mortuary:
    """Where commands die."""
    return the_mortuary(tmp_path_factory.getbasetemp())


DEATHS = {
    "before call": 0,
    "after call #2": 1,
    "half of put trace #2": 1,
    "after put trace #3": 0,
    "after put transfer.json": 0,
    "half of put transfer.json #2": 0,
    "after put transfer.json #2": 0,
    "before commit holdout #2": 0,
    "after commit holdout #2": 0,
    "after put trace #5": 0,
}


FEW = ("after call #2", "half of put trace #2", "after put transfer.json #2")


@pytest.mark.parametrize(
    ("death", "lost"),
    with_few([(row[0], row) for row in DEATHS.items()], *FEW),
)
def test_a_killed_transfer_is_gone_on_with_and_nothing_is_paid_twice(
    made: Callable[..., World], mortuary: Mortuary, death: str, lost: int
) -> None:
    world = made(provider={"type": "scripted", "concurrency": 1})
    args = ("transfer", "--json", "--models", "gains,loses", "--from", "before")

    assert mortuary.run(world, *args, at=death).code == -signal.SIGKILL
    again = world.ratchet(*args)

    assert again.code == ExitCode.DONE, again.err
    assert outcomes(again) == THREE[:2]
    died = calls_file(world)
    lived = len(died.read_text().splitlines()) if died.exists() else 0
    assert lived + again.json["calls"] == 2 * ONCE + lost
    assert sum(one["calls"] for one in again.json["models"]) == 2 * ONCE
    (kept,) = world.ledger().transfers()
    runs = world.ledger().transfer_runs(kept)
    assert len({run.key.digest for run in runs if run.key}) == len(runs) == 2 * ONCE
    assert world.ratchet(*args).json["calls"] == 0


@pytest.mark.parametrize("calls", [1, 3, 5, 11])
def test_a_cap_ends_it_and_the_next_call_goes_on(tmp_path: Path, calls: int) -> None:
    """As of a run: what is finished is shown, and nothing is claimed of the rest."""
    world = make(tmp_path / "p", budget={"calls": calls})
    made = 0
    for _ in range(20):
        ran = transfer(world)
        made += ran.json["calls"]
        if ran.code == ExitCode.DONE:
            break
        assert ran.code == ExitCode.BUDGET
        assert not ran.json["finished"]
        for one in ran.json["models"]:
            assert (one["outcome"] is None) == (one["calls"] < ONCE)
        assert world.ledger().last_run().ended == "budget"  # type: ignore[union-attr]
    assert outcomes(ran) == THREE
    assert made == 3 * ONCE


def test_the_month_counts_it_as_it_counts_runs(world: World) -> None:
    transfer(world)
    last = world.ledger().last_run()
    assert last
    assert (last.job, last.ended, last.calls) == ("transfer", "done", 3 * ONCE)
    world.configure(budget={"month_usd": 1.0})
    assert transfer(world, "gains").code == ExitCode.DONE


def test_runs_without_a_score_are_the_models_own_and_are_made_again(tmp_path: Path) -> None:
    """The others go on; the row says so and claims nothing; the same command fills the gap."""
    broken = {
        "when": {"model": "gains", "input_contains": "h2"} | RULE,
        "error": "overloaded",
        "times": 1,
    }
    world = make(tmp_path / "p", broken)

    first = transfer(world)
    again = transfer(world)

    assert first.code == ExitCode.ERROR
    assert "gains: 1 run has no score. First: overloaded" in first.err
    assert outcomes(first) == [("gains", None), *THREE[1:]]
    assert first.json["models"][0]["missing"] == 1
    assert first.json["models"][0]["points"] is None
    assert not first.json["finished"]
    assert again.code == ExitCode.ERROR  # a new process has a new script: it fails again
    world.write("ratchet.script.yml", playing())
    world.commit("healthy")
    healthy = transfer(world)
    assert outcomes(healthy) == THREE


class Heard:
    """What a run has said."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def said(self, text: str) -> None:
        self.sentences.append(text)


def foretold(world: World, *models: str) -> list[str]:
    project = repository.open_project(world.path)
    space = workspace.open_at_base(project, skill=None, override={})
    ledger = access.open_ledger(project, "triage")
    before, after = transfer_runs.versions(space, ledger, old="before", new=None)
    spaces = transfer_runs.spaces(space, models)
    asked = transfer_runs.Question(before, after, "holdout", spaces, None, again=False)
    drawn = transfer_runs.drawn_up(space, asked, [False] * len(models))
    heard = Heard()
    transfer_runs.Going(space, ledger, asked, drawn, heard).foretell()  # type: ignore[arg-type]
    return heard.sentences


def test_what_it_will_cost_is_said_where_prices_are_known(world: World) -> None:
    """By the answers there are on record, else by the longest that is allowed."""
    (bound,) = foretold(world, "gains", "anthropic:claude-haiku-5-5")
    assert re.fullmatch(r"This will cost at most about \$\d+\.\d+\.", bound)
    assert world.ratchet("eval").code == ExitCode.DONE
    (known,) = foretold(world, "gains", "anthropic:claude-haiku-5-5")
    assert re.fullmatch(r"This will cost about \$\d+\.\d+\.", known)
    assert float(known.split("$")[1][:-1]) < float(bound.split("$")[1][:-1])
    assert foretold(world, "gains", "loses") == []


# What nobody else sees of it


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_nothing_held_out_is_on_the_ledgers_own_branch(world: World, split: str) -> None:
    ran = transfer(world, "gains,loses", "--split", split)
    assert ran.code == ExitCode.DONE, ran.err
    told = world.told("ratchet/ledger")
    assert SEALED not in told
    paths = world.git("ls-tree", "-r", "--name-only", "ratchet/ledger")
    assert ("/transfers/" in paths) == (split == "train")
    if split == "holdout":
        assert ran.json["id"] not in told
        assert '"candidate": 1' not in told
        assert SEALED in world.told("ratchet/holdout")


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_a_proposer_has_no_view_of_it(world: World, split: str) -> None:
    """Neither its tools nor its reading of past experiments lead to a transfer."""
    transfer(world, "gains", "--split", split)
    view = proposers(world)
    (kept,) = world.ledger().transfers()
    (run, *_) = world.ledger().transfer_runs(kept)
    assert list(view.task_runs(skip=0, most=1000)[0]) == []
    assert view.trace(run.id) is None
    assert view.attempts() == []
    assert view.failures(kept.new, kept.rows[0].model_digest) == []


def test_it_is_no_attempt_of_the_gate(tmp_path: Path) -> None:
    """The count of looks, the bar and the next attempt's number are as if it had not been."""
    world = make(tmp_path / "p")
    keys = ("attempts", "looks", "spent", "next_bar")
    before = world.ratchet("looks", "--json").json
    transfer(world)
    transfer(world, "gains", "--split", "train")
    after = world.ratchet("looks", "--json").json
    assert {key: before[key] for key in keys} == {key: after[key] for key in keys}
    assert (before["transfers"], after["transfers"]) == (0, 1)
    assert "1 transfer" in world.ratchet("looks").out
    assert world.ledger().confirmations() == []
    assert world.ratchet("log", "--json").json == []


def test_a_text_with_held_out_words_is_not_run_on_train(world: World) -> None:
    """Its runs would carry them to the ledger's own branch."""
    world.git("checkout", "--quiet", "-b", "leak")
    world.write(SKILL, f"{EDITED}Would the {SEALED} agree to h1? Say yes.\n")
    world.commit("leak")
    world.git("checkout", "--quiet", "main")
    ran = transfer(world, "gains", "--split", "train", "--to", "leak")
    assert ran.code == ExitCode.ERROR
    assert "held-out" in ran.json["error"]["message"]
    assert SEALED not in ran.out + ran.err
    assert transfer(world, "gains", "--to", "leak").code == ExitCode.DONE
    assert SEALED not in world.told("ratchet/ledger")


def test_a_case_can_be_forgotten_after_a_transfer(world: World) -> None:
    """Its runs go, and a text that quotes it is reworded; the numbers stay."""
    world.git("checkout", "--quiet", "-b", "quoting")
    world.write(SKILL, f"{EDITED}To 'Is it t1?' say yes.\n")
    world.commit("quoting")
    world.git("checkout", "--quiet", "main")
    for args in (("--split", "train", "--to", "quoting"), ()):
        assert transfer(world, "gains", *args).code == ExitCode.DONE
    before = [one.rows for one in world.ledger().transfers()]

    done = world.ratchet("forget", "--json", "t1")
    held = world.ratchet("forget", "--json", "h1")

    assert (done.code, done.json["traces"]) == (ExitCode.DONE, 2), done.err
    assert (held.code, held.json["traces"]) == (ExitCode.DONE, 2), held.err
    assert "Is it t1?" not in world.told("ratchet/ledger")
    assert "agree to h1" not in world.told("ratchet/holdout")
    assert [one.rows for one in world.ledger().transfers()] == before


# From one job to the next -----------------------------------------------------------------------


@pytest.fixture
def build(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stages]:
    with stages(tmp_path, tmp_path_factory, monkeypatch) as made:
        yield made


def edit(stage: Stage) -> None:
    """A repository on GitHub with an edit of the skill on a branch."""
    stage.hub.add_user("dora", "write")
    stage.hub.person_pushes("dora", "edit", {SKILL: EDITED})


def hand_over(stage: Stage) -> None:
    """The job with the model's key has run as well; its clone is kept."""
    edit(stage)
    handed_over(stage)
    (stage.folder / "kept").mkdir()
    (stage.folder / "transferer1").rename(stage.folder / "kept/transferer1")


@pytest.fixture
def stage(build: Stages) -> Stage:
    return build.after(edit, model=playing())


@pytest.fixture
def handed(build: Stages) -> Stage:
    return build.after(hand_over, model=playing())


def handed_over(one: Stage, name: str = "1", *args: str) -> Path:
    """What the job with the model's key leaves."""
    folder = one.folder / f"transfer{name}"
    texts = ("--from", "main", "--to", "origin/edit")
    ran = one.job(f"transferer{name}").ratchet(
        "transfer", "--json", "--models", "gains,loses", "--out", str(folder), *texts, *args
    )
    assert ran.code in (ExitCode.DONE, ExitCode.ERROR, ExitCode.BUDGET), ran.err
    return folder


def told(one: Stage, folder: Path, comment: tuple[int, int], name: str = "1") -> Ran:
    """The job with the write token."""
    reply = "/".join(map(str, comment))
    job = one.job(f"teller{name}")
    return job.ratchet("transfer", "--json", "--bundle", str(folder), "--reply", reply)


def commented(one: Stage) -> tuple[int, int]:
    issue = one.hub.person_opens_issue("dora", "Which models?")
    return issue, one.hub.person_comments("dora", issue, "/ratchet transfer gains,loses")


def answer_to(one: Stage, comment: tuple[int, int]) -> str:
    mark = pages.marker("reply", str(comment[1]))
    (body,) = (c.body for c in one.hub.comments(comment[0]) if pages.is_marked(c.body, mark))
    return body


@pytest.mark.parametrize("split", ["holdout", "train"])
def test_what_one_job_found_the_next_one_publishes_and_posts(stage: Stage, split: str) -> None:
    comment = commented(stage)

    ran = told(stage, handed_over(stage, "1", "--split", split), comment)

    assert ran.code == ExitCode.DONE, ran.err
    said = answer_to(stage, comment)
    assert "| gains | 0% | 100% | +100.0 |" in said
    assert "better on 1 of 2 models; worse on loses." in said
    assert SEALED not in stage.hub.world()
    look = stage.job("look")
    (kept,) = look.ledger().transfers()
    assert (kept.finished_at is not None, kept.split) == (True, split)
    assert SEALED not in look.told("origin/ratchet/ledger")
    assert [run.job for run in [look.ledger().last_run()] if run] == ["transfer"]
    reactions = stage.hub.state.comments[comment[1]].reactions
    assert [each.content for each in reactions] == ["rocket"]
    again = told(stage, stage.folder / "transfer1", comment, "again")
    assert again.code == ExitCode.DONE, again.err
    assert answer_to(stage, comment) == said


def test_a_job_that_a_cap_ended_hands_over_what_it_paid_for(stage: Stage) -> None:
    """The answer says what there is; the next one goes on from there."""
    settings = {"provider": "scripted", "skills": {"triage": {"scorer": "label"}}}
    capped = json.dumps(settings | {"budget": {"calls": 6}})
    stage.hub.person_pushes("dora", "main", {"ratchet.yml": capped})
    comment = commented(stage)
    ran = told(stage, handed_over(stage), comment)
    assert ran.code == ExitCode.DONE, ran.err
    assert "better on 1 of 2 models; loses has no result yet." in answer_to(stage, comment)

    more = told(stage, handed_over(stage, "2"), comment, "2")

    assert more.code == ExitCode.DONE, more.err
    assert "worse on loses." in answer_to(stage, comment)
    (kept,) = stage.job("look").ledger().transfers()
    assert [row.calls for row in kept.rows] == [ONCE, ONCE]


def test_a_job_that_found_nothing_says_so(stage: Stage) -> None:
    comment = commented(stage)
    folder = stage.folder / "nothing"
    failed = stage.job("a").ratchet("transfer", "--models", "local:x", "--out", str(folder))
    assert failed.code == ExitCode.ERROR
    assert told(stage, folder, comment).code == ExitCode.DONE
    assert "came to nothing" in answer_to(stage, comment)


def test_experiments_that_went_on_meanwhile_are_in_nobodys_way(
    stage: Stage,
) -> None:
    """No number of either depends on the other: both are published, whichever comes first."""
    first, second = (
        handed_over(stage, "1"),
        handed_over(stage, "2", "--sweeps", "1", "--split", "train"),
    )
    stage.decide()
    comment = commented(stage)
    assert told(stage, first, comment).code == ExitCode.DONE
    published = stage.publish()
    assert published.code == ExitCode.DONE, published.err
    assert published.json["action"] == "merge"

    ran = told(stage, second, comment, "2")

    assert ran.code == ExitCode.DONE, ran.err
    stage.sha = None
    look = stage.job("look").ledger()
    assert len(look.transfers()) == 2
    assert [one.attempt for one in look.confirmations()] == [1]


def test_a_finished_transfer_is_final(stage: Stage) -> None:
    """A later job cannot change what an earlier one has published."""
    comment = commented(stage)
    assert told(stage, handed_over(stage), comment).code == ExitCode.DONE
    folder = handed_over(stage, "2", "--again")

    def change(world: World) -> None:
        first = world.ledger().transfers()[0]
        path = f"triage/transfers/{first.id[:12]}/transfer.json"
        committed(world, Ref.HOLDOUT.value, path, first.with_(base="c" * 40).model_dump_json())

    rewritten(folder, World(stage.folder / "transferer2"), change)
    ran = told(stage, folder, comment, "2")
    assert ran.code == ExitCode.ERROR
    assert "a record from before" in ran.json["error"]["message"]


def rewritten(folder: Path, world: World, change: Callable[[World], None]) -> None:
    """A bundle as a job would make it that does as it likes: with its own digests in order."""
    change(world)
    refs = [ref.value for ref in Ref if world.git("for-each-ref", ref.value)]
    (folder / "refs.bundle").unlink()
    known = [f"--remotes=*/{ref.removeprefix('refs/heads/')}" for ref in refs]
    world.git(
        "bundle", "create", "--quiet", "--version=2", str(folder / "refs.bundle"),
        *refs, "--not", *known,
    )  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / "refs.bundle").read_bytes()
    manifest["files"]["refs.bundle"] = hashlib.sha256(data).hexdigest()
    manifest["refs"] = {ref: world.tip(ref) for ref in refs}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def committed(world: World, ref: str, path: str, text: str) -> None:
    branch = GitRef(world.path / ".git", ref)
    branch.commit({path: text}, message="triage: x", at=0, onto=branch.tip())


def edited(world: World, **changes: Any) -> None:
    """Another transfer record in the place of the one there is."""
    (one,) = world.ledger().transfers()
    data = json.loads(one.model_dump_json()) | changes
    path = f"triage/transfers/{one.id[:12]}/transfer.json"
    committed(world, Ref.HOLDOUT.value, path, json.dumps(data))


def better_than_its_runs(world: World) -> None:
    (one,) = world.ledger().transfers()
    rows = [json.loads(row.model_dump_json()) for row in one.rows]
    rows[1] |= {"outcome": "better"}
    edited(world, rows=rows)


def finished_too_early(world: World) -> None:
    edited(world, finished_at=None)


def of_other_cases(world: World) -> None:
    edited(world, cases=digest("others"))


def on_the_wrong_branch(world: World) -> None:
    (one,) = world.ledger().transfers()
    path = f"triage/transfers/{one.id[:12]}/transfer.json"
    committed(world, Ref.LEDGER.value, path, one.model_dump_json())


def held_out_run_on_the_ledger(world: World) -> None:
    (one,) = world.ledger().transfers()
    run = world.ledger().transfer_runs(one)[0]
    path = f"triage/transfers/{one.id[:12]}/traces/x.json"
    committed(world, Ref.LEDGER.value, path, run.model_dump_json())


def run_of_an_experiment(world: World) -> None:
    (one,) = world.ledger().transfers()
    run = world.ledger().transfer_runs(one)[0]
    forged = run.with_(key=run.key.with_(experiment=one.id)) if run.key else run
    path = f"triage/transfers/{one.id[:12]}/traces/x.json"
    committed(world, Ref.HOLDOUT.value, path, forged.model_dump_json())


def look_at_the_holdout(world: World) -> None:
    path = "triage/experiments/bbbbbbbbbbbb/confirm.json"
    look = Confirmation(experiment="b" * 64, parent=OLD, attempt=1, started_at="2026")
    committed(world, Ref.HOLDOUT.value, path, look.model_dump_json())


def unknown_place(world: World) -> None:
    committed(world, Ref.HOLDOUT.value, "triage/transfers/bbbbbbbbbbbb/more.txt", "x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (better_than_its_runs, "is not what its runs on record come to"),
        (finished_too_early, "is not what its runs on record come to"),
        (of_other_cases, "is not what belongs there"),
        (on_the_wrong_branch, "a transfer on the wrong branch"),
        (held_out_run_on_the_ledger, "a held-out run beside the train runs"),
        (run_of_an_experiment, "is not what belongs there"),
        (look_at_the_holdout, "may not write"),
        (unknown_place, "no place of a record"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_must_not_happen_a_bundle_that_says_more_than_was_measured(
    handed: Stage, change: Callable[[World], None], said: str
) -> None:
    """Nothing is published or posted then."""
    comment = commented(handed)
    folder = handed.folder / "transfer1"
    rewritten(folder, World(handed.folder / "kept/transferer1"), change)
    before = handed.hub.world()

    ran = told(handed, folder, comment)

    assert ran.code == ExitCode.ERROR
    assert said in ran.json["error"]["message"]
    assert handed.hub.world() == before


def test_a_decided_experiments_bundle_may_have_transfers_beside_it(tmp_path: Path) -> None:
    """Who has run one before 'ratchet propose' on the same machine brings both."""
    jobs = Jobs.make(tmp_path, model=playing())
    proposer, confirmer, reader = map(jobs.clone, ("one", "two", "three"))
    proposer.git("branch", "edit")
    for world, split in ((proposer, "train"), (confirmer, "holdout")):
        given = ("--from", "main", "--to", "edit")
        world.git("checkout", "--quiet", "-B", "edit")
        world.write(SKILL, EDITED)
        world.commit("edit")
        world.git("checkout", "--quiet", "main")
        ran = world.ratchet("transfer", "--models", "gains", "--split", split, *given)
        assert ran.code == ExitCode.DONE, ran.err
    jobs.propose(proposer)
    # The confirm job's own ledger forked from the proposer's: only one of them had a transfer.
    confirmer.git("branch", "-D", "ratchet/ledger", "ratchet/holdout")
    confirmed = jobs.confirm(confirmer)
    assert confirmed.json["action"] == "merge", confirmed.err
    checked = read(reader, jobs.at("confirmation"))
    bundles.apply(checked, space_of(reader))
    assert [one.split for one in reader.ledger().transfers()] == ["train"]


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--models", "a", "--reply", "1/2"),
        ("--models", "a", "--bundle", "x"),
        ("--bundle", "x", "--again"),
        ("--models", "a", "--sweeps", "0"),
        ("--models", "a", "--usd", "nan"),
        ("--models", "a", "--split", "vault"),
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_is_refused(world: World, args: tuple[str, ...]) -> None:
    assert world.ratchet("transfer", *args).code == ExitCode.USAGE
