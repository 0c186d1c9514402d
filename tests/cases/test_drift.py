"""What `ratchet check` says of the cases: only what there is enough to say, and nothing sealed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.cases import drift
from skill_ratchet.cases.drift import DriftFacts, advice, is_below
from skill_ratchet.core.records import Fixture, digest
from tests.ledger.test_feedback_records import correction
from world import SEALED, World, case, idea, script

if TYPE_CHECKING:
    from pathlib import Path


def cases(
    source: str, number: int, *, split: str = "train", expected: Any = "yes"
) -> list[Fixture]:
    """Cases of one source."""
    return [
        Fixture.model_validate(
            {
                "id": f"{source}-{split}-{digest(expected)[:6]}-{n}",
                "split": split,
                "input": f"{SEALED if split == 'holdout' else 'open'} {n}",
                "expected": expected,
                "source": source,
            }
        )
        for n in range(number)
    ]


def facts(*some: Fixture, **changes: Any) -> DriftFacts:
    train = tuple(one for one in some if one.split == "train")
    holdout = tuple(one for one in some if one.split == "holdout")
    return replace(DriftFacts(train, holdout), **changes)


def scored(some: list[Fixture], *values: float) -> dict[tuple[str, str], float]:
    """Scores of cases, the values in turn."""
    return {(one.split, one.id): values[n % len(values)] for n, one in enumerate(some)}


WRITTEN, FIXED = cases("authored", 10), cases("correction", 10)
GOOD, BAD = scored(WRITTEN, 1.0), scored(FIXED, 0.0, 1.0)


# 1. Cases from use score far below ------------------------------------------------------------


def test_corrections_that_score_far_below_are_told() -> None:
    (said,) = advice(facts(*WRITTEN, *FIXED, scores=GOOD | BAD))
    assert said.startswith("cases from corrections score 50% (10 of them), written ones 100% (10)")


@pytest.mark.parametrize(
    ("these", "those"),
    [
        ([0.0] * 4, [1.0] * 20),  # too few
        ([0.0] * 20, [1.0] * 4),
        ([1.0] * 10, [1.0] * 10),  # no difference
        ([0.95] * 10, [1.0] * 10),  # a small one, however sure
        ([0.0, 1.0] * 5, [1.0, 1.0, 0.0] * 4),  # within two standard errors
        ([1.0] * 10, [0.0] * 10),  # the other way round
        ([], []),
    ],
)
def test_what_may_be_chance_is_not(these: list[float], those: list[float]) -> None:
    assert not is_below(these, those)


def test_both_sides_count_together() -> None:
    held = cases("correction", 5, split="holdout")
    found = facts(*WRITTEN, *held, scores=GOOD | scored(held, 0.0))
    assert any("corrections score 0% (5 of them)" in said for said in advice(found))


def test_cases_that_were_not_run_say_nothing() -> None:
    assert advice(facts(*WRITTEN, *FIXED)) == ()
    assert advice(facts(*WRITTEN, *FIXED, scores=BAD)) == ()


# 2. Labels ------------------------------------------------------------------------------------


def test_a_new_label_is_named_where_it_is_open() -> None:
    new = cases("correction", 1, expected="Refund\n")
    (said,) = advice(facts(*WRITTEN, *new, labels=True))
    assert "a label that no written case expects ('Refund')" in said


def test_a_new_label_of_held_out_cases_is_counted_and_not_named() -> None:
    new = cases("production", 1, split="holdout", expected=SEALED)
    both = (*WRITTEN, *cases("correction", 1, expected="refund"), *new)
    (said,) = advice(facts(*both, labels=True))
    assert "2 labels that no written case expects ('refund'; 1 in held-out cases alone)" in said
    assert SEALED not in said


@pytest.mark.parametrize(
    ("some", "labels"),
    [
        ([*WRITTEN, *cases("correction", 1, expected=" YES ")], True),  # the same label
        ([*WRITTEN, *cases("authored", 1, expected="no")], True),  # a written one
        ([*WRITTEN, *cases("correction", 1, expected="A whole text.")], False),  # no labels
        ([*cases("correction", 3, expected="refund")], True),  # nothing was written
        ([*WRITTEN, *cases("correction", 1, expected={"label": "refund"})], True),
    ],
)
def test_what_is_no_new_label_is_not(some: list[Fixture], labels: bool) -> None:  # noqa: FBT001
    assert advice(facts(*some, labels=labels)) == ()


# 3. Saturated ---------------------------------------------------------------------------------


HELD = cases("authored", 3, split="holdout")


def test_a_holdout_that_is_passed_whole_is_told() -> None:
    found = facts(*WRITTEN, *HELD, scores=scored(HELD, 1.0))
    assert advice(found) == ("the skill passes every held-out case: add harder ones",)


@pytest.mark.parametrize(
    "scores", [{}, scored(HELD[:2], 1.0), scored(HELD, 1.0, 0.9), scored(WRITTEN, 1.0)]
)
def test_a_holdout_that_is_not_known_to_be_passed_is_not(
    scores: dict[tuple[str, str], float],
) -> None:
    assert advice(facts(*WRITTEN, *HELD, scores=scores)) == ()


# 4. What is open ------------------------------------------------------------------------------


def test_corrections_that_wait_or_contradict_are_counted() -> None:
    there = Fixture(id="t1", split="train", input="Is it t1?", expected="yes")
    sealed = correction(fixture="h9", split="holdout", input=SEALED, expected=SEALED)
    said = advice(facts(there, corrections=(sealed, correction(expected="no"))))
    assert said == (
        "1 corrected case is not among the fixtures (yet)",
        "people expect something else in 1 case than the fixtures: settle which",
    )


def test_corrections_that_became_cases_are_settled() -> None:
    there = Fixture(id="t1", split="train", input="Is it t1?", expected="yes")
    assert advice(facts(there, corrections=(correction(), correction(link="x")))) == ()


# 5. One source --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "used", "said"),
    [(2, 30, True), (10, 30, False), (1, 10, False), (0, 40, False), (40, 0, False)],
)
def test_one_source_that_drowns_the_others(written: int, used: int, *, said: bool) -> None:
    found = advice(facts(*cases("authored", written), *cases("production", used)))
    assert bool(found) == said
    if said:
        assert found[0].startswith("30 of 32 cases are from production")


# On a project ---------------------------------------------------------------------------------


def test_check_works_without_a_commit_and_without_a_ledger(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    ran = world.ratchet("check", "--json")
    assert ran.code == 0, ran.err
    assert world.branches() == {"main"}


def test_check_tells_what_the_ledger_knows_and_nothing_sealed(tmp_path: Path) -> None:
    """The merged edit passes every held-out case; a correction waits."""
    world = World.make(tmp_path / "p", model=script([idea(1, "Rule alpha.")]))
    world.run()
    ledger = world.ledger()
    ledger.add_correction(correction(fixture="h9", split="holdout", input=SEALED))
    ledger.flush("corrections")

    ran = world.ratchet("check")

    assert "passes every held-out case" in " ".join(ran.out.split())
    assert "not among the fixtures" in " ".join(ran.out.split())
    assert SEALED not in ran.out
    assert "h1" not in ran.out

    world.write("fixtures/triage/holdout/h3.yml", case("h3", "holdout"))
    assert "passes every held-out case" not in " ".join(world.ratchet("check").out.split())


def test_check_names_train_cases_that_give_held_out_ones_away(tmp_path: Path) -> None:
    """Nearly the same text, or a later turn; and never what it gives away."""
    world = World.make(tmp_path / "p")
    said = "My card was swallowed by the machine at the airport, and I fly tomorrow."
    talk = [
        {"role": "user", "content": "Is it closed today?"},
        {"role": "assistant", "content": "It is."},
        {"role": "user", "content": "And tomorrow?"},
    ]
    assert "judged on" not in world.ratchet("check").out
    for name, split, text in (
        ("h8", "holdout", said),
        ("h9", "holdout", "Is it closed today?"),
        ("near", "train", said.replace("tomorrow", "today")),
        ("talk", "train", talk),
    ):
        case = {"input": text, "expected": "yes"}
        world.write(f"fixtures/triage/{split}/{name}.yml", json.dumps(case))

    out = " ".join(world.ratchet("check").out.split())

    assert "the proposer sees what it is judged on; move them: near, talk" in out
    assert not re.search(r"\bh[0-9]\b", out)


def test_of_several_looks_the_last_that_says_something_counts() -> None:
    assert drift.held_out_scores([], version="a" * 64) == {}


@pytest.mark.parametrize("workflow", ["GITHUB_ACTIONS", "CI", ""])
@pytest.mark.parametrize("split", ["train", "holdout"])
def test_what_is_wrong_with_a_held_out_case_is_not_quoted_in_a_workflows_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, split: str, workflow: str
) -> None:
    """Everybody who can read the repository can read its logs."""
    world = World.make(tmp_path / "p")
    config = json.loads((world.path / "ratchet.yml").read_text("utf-8"))
    config["skills"]["triage"]["scorer"] = {"type": "label", "labels": ["yes", "no"]}
    world.write("ratchet.yml", json.dumps(config))
    world.write(f"fixtures/triage/{split}/odd.yml", '{"input": "Odd?", "expected": "perhaps"}')
    world.commit("a label that is none")
    if workflow:
        monkeypatch.setenv(workflow, "true")
    ran = world.ratchet("check")
    assert ran.code == ExitCode.ERROR
    sealed = bool(workflow) and split == "holdout"
    where = "fixtures/triage/holdout/odd.yml:1: " if sealed else "fixture odd: "
    assert where in ran.err
    assert ("perhaps" in ran.err + ran.out) != sealed
