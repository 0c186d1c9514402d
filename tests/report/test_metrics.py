"""What people make of each version: every figure belongs to the version it is of, or to none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len

from skill_ratchet.core.records import (
    Answers,
    Experiment,
    Landing,
    Proposal,
    Result,
    Shipped,
    Tally,
    digest,
)
from skill_ratchet.core.scoring import similarity
from skill_ratchet.ledger import clock
from skill_ratchet.project import repository, workspace
from skill_ratchet.report import metrics, sparklines
from skill_ratchet.report.metrics import Sources, TextVersion, VersionRow, lasted, wilson
from tests.ledger.test_feedback_records import AT, correction
from tests.report.test_comparison import SETTING
from world import SEALED, SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = digest("old"), digest("new")
DAY = 86_400.0


def version(name: str = OLD, **changes: Any) -> TextVersion:
    return TextVersion.model_validate({"digest": name, "since": AT, "seconds": 10 * DAY} | changes)


def answers(number: int = 100, corrected: int = 10, **changes: Any) -> Answers:
    given = {
        "skill": "triage",
        "version": OLD,
        "log": digest("log", number, corrected, str(changes)),
        "at": AT,
        "answers": number,
        "corrected": corrected,
        "similarity": 0.9,
    }
    return Answers.model_validate(given | changes)


def experiment(number: int = 1, **changes: Any) -> Experiment:
    given = {
        "id": digest("experiment", number),
        "skill": "triage",
        "number": number,
        "parent": OLD,
        "candidate": digest("candidate", number),
        "setting": SETTING,
        "proposal": Proposal(proposer="meta", model="m", hypothesis="h"),
        "started_at": AT,
    }
    return Experiment.model_validate(given | changes)


def result(one: Experiment, action: str, reason: str, **train: Any) -> Result:
    tally = {"incumbent": None, "candidate": None} | train
    return Result.model_validate(
        {
            "experiment": one.id,
            "action": action,
            "reason": reason,
            "detail": "",
            "train": Tally.model_validate(tally),
            "calls": 0,
            "usd": 0.0,
            "seconds": 0.0,
            "finished_at": AT,
        }
    )


def shipped(one: Experiment, similarity: float = 1.0, text: str = "") -> Shipped:
    assert one.candidate
    return Shipped(
        experiment=one.id,
        skill="triage",
        proposed=one.candidate,
        shipped=digest("skill", text) if text else one.candidate,
        text=text,
        similarity=similarity,
        commit="a" * 40,
        branch="main",
        by="octo",
        at=AT,
        link=None,
    )


def made(*tried: tuple[Experiment, str, str], **changes: Any) -> tuple[VersionRow, ...]:
    """The rows for experiments that ended so, and for one version unless others are given."""
    given: dict[str, Any] = {
        "versions": (version(),),
        "experiments": [one for one, _, _ in tried],
        "results": {one.id: result(one, action, reason) for one, action, reason in tried},
        "landings": {},
        "shipped": {},
        "kept": {},
        "done": {},
    }
    return metrics.rows(Sources(**given | changes))


# Corrections and answers ----------------------------------------------------------------------


def test_a_rate_is_of_answers_in_logs_with_its_interval() -> None:
    (row,) = made(answers=[answers(), answers(300, 30, similarity=0.5)])
    assert (row.answers, row.corrected, row.rate) == (400, 40, 0.1)
    assert row.interval == wilson(40, 400)
    assert row.answer_similarity == pytest.approx((100 * 0.9 + 300 * 0.5) / 400)
    assert row.per_day is None


def test_without_a_log_corrections_are_counted_by_the_day() -> None:
    (row,) = made(corrections=[correction(version=OLD), correction(version=OLD, link="x")])
    assert (row.corrections, row.rate, row.per_day) == (2, None, 0.2)
    assert row.correction_similarity == similarity("I would rather not say.", "yes")


@pytest.mark.parametrize("name", [None, NEW])
def test_what_is_of_no_known_version_is_in_no_versions_row(name: str | None) -> None:
    row, lost = made(
        corrections=[correction(version=name)], answers=[answers(version=name)], kept={OLD: 0.5}
    )
    assert (row.corrections, row.answers, row.rate, row.answer_similarity) == (0, 0, None, None)
    assert (lost.digest, lost.origin, lost.corrections, lost.answers) == (None, "not known", 1, 100)
    assert (lost.since, lost.train, lost.per_day) == (None, None, None)


@pytest.mark.parametrize(("seconds", "rate"), [(60, None), (DAY, 2.0)])
def test_a_version_of_a_moment_has_no_rate_by_the_day(seconds: float, rate: float | None) -> None:
    """Two corrections within a minute are not thousands a day."""
    found = [correction(version=OLD), correction(version=OLD, link="x")]
    row, *_ = made(versions=(version(seconds=seconds),), corrections=found)
    assert (row.corrections, row.per_day) == (2, rate)


def test_with_nothing_on_record_nothing_is_made_up() -> None:
    (row,) = made()
    assert (row.origin, row.corrections, row.per_day) == ("first", 0, 0.0)
    for name in ("rate", "interval", "answer_similarity", "correction_similarity", "train"):
        assert getattr(row, name) is None
    assert (row.holdout, row.completion, row.fate.first_pass, row.fate.similarity) == (None,) * 4
    assert made(versions=()) == ()


def test_a_long_text_is_not_compared() -> None:
    (row,) = made(corrections=[correction(version=OLD, output="x" * 60_000)])
    assert (row.corrections, row.correction_similarity) == (1, None)


def test_thousands_of_corrections_take_no_time() -> None:
    said = [
        correction(version=OLD, link=str(n), output="word " * 100, expected="other " * 100)
        for n in range(5_000)
    ]
    started = time.process_time()
    made(corrections=said)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [  # Newcombe, 'Two-sided confidence intervals for the single proportion', 1998, table I
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(hits: int, of: int, low: float, high: float) -> None:
    found = wilson(hits, of)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    turned = wilson(of - hits, of)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low))


# Proposals ------------------------------------------------------------------------------------


def test_first_pass_is_the_share_that_went_in_as_it_was() -> None:
    one, two, three, four = (experiment(n) for n in range(1, 5))
    (row,) = made(
        (one, "merge", "improved"),
        (two, "reject", "shipped_edited"),
        (three, "reject", "rejected"),
        (four, "merge", "improved"),
        shipped={one.id: shipped(one), two.id: shipped(two, 0.5, "other")},
        landings={
            four.id: Landing(
                experiment=four.id, commit="a" * 40, branch="main", at=AT, by="ratchet"
            )
        },
    )
    fate = row.fate
    assert (fate.unchanged, fate.edited, fate.rejected, fate.unknown) == (2, 1, 1, 0)
    assert (fate.shipped, fate.first_pass, fate.similarity) == (3, 2 / 3, 0.75)


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("hold", "awaits_person"),  # it waits
        ("reject", "screen_failed"),  # it was never published
        ("reject", "not_confirmed"),
        ("reject", "superseded"),
    ],
)
def test_what_did_not_end_with_people_is_not_counted(action: str, reason: str) -> None:
    (row,) = made((experiment(), action, reason))
    assert row.fate == metrics.Fate()


def test_a_merge_by_a_person_that_nobody_looked_at_is_not_taken_for_unchanged() -> None:
    (row,) = made((experiment(), "merge", "improved"))
    assert (row.fate.unknown, row.fate.shipped, row.fate.first_pass) == (1, 1, None)


def test_a_persons_own_edit_is_no_proposal_of_the_bots() -> None:
    own = experiment(setting=SETTING.with_(proposer="person"))
    (row,) = made((own, "merge", "improved"))
    assert row.fate == metrics.Fate()


# Versions -------------------------------------------------------------------------------------


def test_where_a_version_came_from() -> None:
    merged, edited = experiment(1, candidate=NEW), experiment(2)
    theirs, hand = digest("skill", "theirs"), digest("hand")
    found = made(
        (merged, "merge", "improved"),
        (edited, "reject", "shipped_edited"),
        versions=[version(OLD), version(NEW), version(theirs), version(hand, current=True)],
        shipped={edited.id: shipped(edited, 0.9, "theirs")},
    )
    assert [(row.origin, row.number) for row in found] == [
        ("first", None),
        ("experiment", 1),
        ("edited", 2),
        ("by hand", None),
    ]
    assert [row.current for row in found] == [False, False, False, True]


def test_the_score_is_as_the_last_experiment_measured_it() -> None:
    one, two = experiment(1, candidate=NEW), experiment(2)
    results = {
        one.id: result(one, "merge", "improved", incumbent=0.1, candidate=0.9, pairs=3, sweeps=1),
        two.id: result(two, "reject", "screen_failed", incumbent=0.3, candidate=0.2, sweeps=1),
    }
    versions = [version(OLD), version(NEW)]
    given = {"experiments": [one, two], "results": results, "versions": versions}
    old, new = made(**given, kept={OLD: 0.7})
    assert (old.train, new.train) == (0.3, 0.9)
    assert made(**given, kept={NEW: 0.6})[1].train == 0.6


def test_a_text_that_came_back_is_one_version() -> None:
    moments = [
        (OLD, "2026-01-01T00:00:00+00:00"),
        (NEW, "2026-01-03T00:00:00+00:00"),
        (NEW, "2026-01-04T00:00:00+00:00"),
        (OLD, "2026-01-05T00:00:00+00:00"),
    ]
    old, new = lasted(moments, until="2026-01-06T00:00:00+00:00")
    assert (old.digest, old.seconds, old.current) == (OLD, 3 * DAY, True)
    assert (new.digest, new.seconds, new.current) == (NEW, 2 * DAY, False)
    assert lasted([], until=AT) == ()


def test_a_trend_has_a_gap_where_nothing_is_known() -> None:
    assert sparklines.spark([0.0, None, 1.0, 0.5], low=0, high=1) == "▁ █▅"


# The command ----------------------------------------------------------------------------------


def test_without_a_ledger_there_is_the_first_version(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    ran = world.ratchet("metrics", "--json")
    assert ran.code == 0, ran.err
    (row,) = ran.json["rows"]
    assert (row["origin"], row["current"], row["train"]) == ("first", True, None)
    assert world.branches() == {"main"}
    assert world.ratchet("metrics").code == 0


def test_versions_are_those_of_the_base_branch(tmp_path: Path) -> None:
    """By experiment and by hand, renamed, and joined with what was answered with them."""
    world = World.make(tmp_path / "p", model=script([idea(1, "Rule alpha.")]))
    world.run()
    merged = world.only().candidate
    world.git("switch", "--quiet", "--create", "side")
    world.write(SKILL, "of no account\n")
    world.commit("on the side")
    world.git("switch", "--quiet", "main")
    world.write(SKILL, f"{SKILL_TEXT}By hand.\n")
    world.commit("by hand")
    ledger = world.ledger()
    ledger.add_answers(answers(version=merged))
    ledger.add_correction(correction(version=merged, split="holdout", input=SEALED))
    ledger.flush("feedback")

    ran = world.ratchet("metrics", "--json")

    assert ran.code == 0, ran.err
    first, one, hand = ran.json["rows"]
    assert [row["origin"] for row in (first, one, hand)] == ["first", "experiment", "by hand"]
    assert (one["digest"], one["number"], one["rate"], one["corrections"]) == (merged, 1, 0.1, 1)
    assert (first["train"], first["holdout"]) == (0.0, 0.0)
    assert first["fate"]["first_pass"] == 1.0
    assert hand["current"]
    assert SEALED not in ran.out
    shown = world.ratchet("metrics")
    assert SEALED not in shown.out
    assert all(cell_len(line) <= 80 for line in shown.out.splitlines())
    assert "10% [6, 17]" in shown.out
    assert "exp 1" in shown.out


def test_a_file_that_was_renamed_is_followed(tmp_path: Path) -> None:
    from skill_ratchet.report import measuring  # noqa: PLC0415 - heavy

    world = World.make(tmp_path / "p")
    world.git("mv", SKILL, "skills/triage/OTHER.md")
    world.commit("rename")
    world.write("skills/triage/OTHER.md", f"{SKILL_TEXT}More.\n")
    world.commit("more")
    project = repository.open_project(world.path)
    found = measuring.versions(
        project, world.tip("main"), path="skills/triage/OTHER.md", now=clock.now()
    )
    texts = (SKILL_TEXT, f"{SKILL_TEXT}More.\n")
    assert [one.digest for one in found] == [workspace.text_of(text).digest for text in texts]


def test_completion_is_of_the_cases_a_program_judged(tmp_path: Path) -> None:
    program = {"type": "command", "command": ["grep", "-q", "yes"]}
    world = World.make(
        tmp_path / "p",
        config={"skills": {"triage": {"scorer": program}}},
        model=script([], right={"": ("t1",)}, deterministic=False),
    )
    assert world.run("--attempts", "0").code == 0
    (row,) = world.ratchet("metrics", "--json").json["rows"]
    assert (row["completion_cases"], row["completion"]) == (3, pytest.approx(1 / 3))
