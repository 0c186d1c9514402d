"""Narrow first; wider after failures in a row; narrow again after a merge."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.agents import breadth
from skill_ratchet.agents.breadth import FIRST, Accepted
from skill_ratchet.core import records
from skill_ratchet.core.records import (
    AddLines,
    Edit,
    Experiment,
    Proposal,
    Replace,
    Result,
    Rewrite,
    Setting,
    Tally,
    digest,
)
from skill_ratchet.experiment import proposer
from skill_ratchet.experiment.proposer import (
    NOT_APPLIED,
    PROTECTED,
    Candidate,
    Past,
    Unusable,
    accepted,
    applied,
)
from skill_ratchet.project import repository, workspace
from world import SKILL, SKILL_TEXT, World

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.core.edits import Limits
    from skill_ratchet.project.workspace import Workspace

STEPS = breadth.levels(max_lines=12, max_chars=1000)
MERGED, REJECTED = True, False


@pytest.mark.parametrize(
    ("outcomes", "number"),
    [
        ([], 0),
        ([REJECTED] * 2, 0),
        ([REJECTED] * 3, 1),
        ([REJECTED] * 6, 2),
        ([REJECTED] * 8, 2),
        ([REJECTED] * 9, 3),
        ([REJECTED] * 60, 3),
        ([REJECTED] * 60 + [MERGED], 0),
        ([MERGED, REJECTED, REJECTED, REJECTED], 1),
        ([REJECTED, REJECTED, MERGED, REJECTED], 0),
    ],
)
def test_level_follows_rejections_in_a_row(outcomes: list[bool], number: int) -> None:
    assert breadth.level(outcomes, widen_after=3, steps=STEPS).number == number


def test_each_step_allows_all_the_narrower_one_does_and_something_more() -> None:
    for narrow, wide in pairwise(one.limits for one in STEPS):
        assert set(narrow.operations) <= set(wide.operations)
        assert narrow.max_lines <= wide.max_lines
        assert narrow.restart <= wide.restart
        assert narrow.traces_shown < wide.traces_shown
        assert (narrow.operations, narrow.restart) != (wide.operations, wide.restart)


def test_only_the_last_step_starts_again() -> None:
    assert [step.name for step in STEPS if step.limits.restart] == ["start again"]
    assert STEPS[-1].name == "start again"


def test_the_ceiling_of_length_never_widens() -> None:
    assert {step.limits.max_chars for step in STEPS} == {1000}


# Which versions there are ---------------------------------------------------------------------


def version(number: int, chars: int, score: float | None) -> Accepted:
    return Accepted(id=f"{number:012}", number=number, chars=chars, score=score)


@pytest.mark.parametrize(
    ("versions", "order"),
    [
        ([], []),
        ([(1, 50, 0.2), (2, 60, 0.4), (3, 70, 0.6)], [3, 2, 1]),
        ([(1, 50, 0.6), (2, 60, 0.4), (3, 70, 0.6)], [1, 3, 2]),
        ([(1, 70, 0.6), (2, 60, 0.4), (3, 50, 0.6)], [3, 1, 2]),
        ([(1, 50, 0.4), (2, 60, 0.4), (3, 70, 0.6)], [3, 1, 2]),
        ([(1, 50, 0.4), (2, 50, 0.4)], [2, 1]),
        ([(1, 50, None), (2, 60, None)], [2, 1]),
        ([(0, 90, 0.0), (1, 50, 0.0)], [1, 0]),
    ],
    ids=[
        "none",
        "newest first",
        "equal, older is shorter",
        "equal, newer is shorter",
        "equal, but neither is the newest",
        "equal in all",
        "not known is not equal",
        "zero is a score",
    ],
)
def test_newest_first_but_equal_evidence_and_shorter_text_wins(
    versions: list[tuple[int, int, float | None]], order: list[int]
) -> None:
    made = breadth.by_preference([version(*one) for one in versions])
    assert [one.number for one in made] == order


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


def past(
    number: int,
    before: str,
    after: str,
    *,
    action: str = "merge",
    reverted: bool = False,
    scores: tuple[float | None, float | None] = (None, None),
    sweeps: int = 1,
) -> Past:
    """Experiment ``number``, which made one text of another."""
    parent, candidate = (workspace.text_of(text).digest for text in (before, after))
    experiment = Experiment(
        id=records.experiment_id("triage", parent=parent, candidate=candidate),
        skill="triage",
        number=number,
        parent=parent,
        candidate=candidate,
        setting=SETTING,
        proposal=Proposal(proposer="meta", model="m", hypothesis="h"),
        started_at="2026-01-01T00:00:00",
    )
    result = Result.model_validate(
        {
            "experiment": experiment.id,
            "action": action,
            "reason": "",
            "detail": "",
            "train": Tally(incumbent=scores[0], candidate=scores[1], sweeps=sweeps),
            "calls": 0,
            "usd": 0.0,
            "seconds": 0.0,
            "finished_at": "",
        }
    )
    return Past(experiment, result, before, after, reverted)


def listed(*history: Past) -> list[tuple[int, int, float | None]]:
    return [(one.number, one.chars, one.score) for one in accepted(history)]


@pytest.mark.parametrize(
    ("history", "versions"),
    [
        ([], []),
        ([past(1, "a", "bb", action="reject")], []),
        ([past(1, "a", "bb", action="hold")], []),
        ([past(1, "a", "bb")], [(1, 2, None), (0, 1, None)]),
        ([past(1, "a", "bb", reverted=True)], [(0, 1, None)]),
        ([past(1, "a", "bb"), past(2, "bb", "a")], [(2, 1, None), (1, 2, None)]),
        (
            [past(1, "a", "bb", action="reject"), past(2, "a", "ccc"), past(3, "ccc", "dddd")],
            [(3, 4, None), (2, 3, None), (0, 1, None)],
        ),
        (
            [past(1, "a", "bb"), past(2, "bb", "ccc", reverted=True), past(3, "bb", "dddd")],
            [(3, 4, None), (1, 2, None), (0, 1, None)],
        ),
    ],
    ids=[
        "nothing tried",
        "rejected",
        "waiting",
        "merged",
        "reverted",
        "back to the first",
        "rejected before",
        "reverted between",
    ],
)
def test_accepted_is_what_was_merged_and_what_it_began_with(
    history: list[Past], versions: list[tuple[int, int, float | None]]
) -> None:
    """Each text is listed once; what was rejected, waits or was reverted is not."""
    assert listed(*history) == versions


def test_a_version_has_the_score_of_its_measurement_as_the_incumbent() -> None:
    """Not of the runs it won by, unless there is no other; nor of a sweep that was broken off."""
    first = past(1, "a", "bb", scores=(0.2, 0.9))
    assert listed(first) == [(1, 2, 0.9), (0, 1, 0.2)]
    second = past(2, "bb", "ccc", action="reject", scores=(0.5, 0.1))
    assert listed(first, second) == [(1, 2, 0.5), (0, 1, 0.2)]
    third = past(3, "bb", "dddd", action="reject", scores=(1.0, 0.0), sweeps=0)
    assert listed(first, second, third) == [(1, 2, 0.5), (0, 1, 0.2)]


def test_the_incumbent_can_be_left_out() -> None:
    history = [past(1, "a", "bb"), past(2, "bb", "ccc")]
    assert [one.number for one in accepted(history, besides="ccc")] == [1, 0]


def test_a_text_that_was_kept_without_its_secret_is_no_version() -> None:
    """It is not what was merged: a proposal that starts from it would put the gap into the file."""
    merged = past(1, "a", "token s3cret")
    kept = Past(merged.experiment, merged.result, "a", "token [redacted]")
    assert listed(kept) == [(0, 1, None)]


# What a proposal makes of one -----------------------------------------------------------------

HEAD = SKILL_TEXT.removesuffix("Say yes or no.\n")
OLD = f"{HEAD}Say maybe.\n"
BETWEEN = f"{HEAD}Say yes.\n"
HISTORY = [
    past(1, OLD, BETWEEN),
    past(2, BETWEEN, f"{HEAD}Say no.\n", action="reject"),
    past(3, BETWEEN, f"{HEAD}Say so.\n", reverted=True),
    past(4, BETWEEN, SKILL_TEXT),
]
IDS = [one.experiment.id for one in HISTORY]
WIDE = STEPS[-1].limits


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """A project whose skill is what experiment 4 made of it."""
    return opened(World.make(tmp_path / "p"))


def opened(world: World) -> Workspace:
    project = repository.open_project(world.path)
    return workspace.open_at_base(project, skill=None, override={})


def made(
    space: Workspace, start: str | None, *edits: Edit, limits: Limits = WIDE
) -> Candidate | Unusable:
    proposal = Proposal(proposer="meta", model="m", hypothesis="h", edits=edits, start=start)
    return applied(proposal, space, past=HISTORY, limits=limits)


@pytest.mark.parametrize(
    ("start", "edits", "text"),
    [
        (FIRST, [], OLD),
        (IDS[0], [], BETWEEN),
        (IDS[0][:12], [], BETWEEN),
        (FIRST, [AddLines(lines="And why.")], f"{OLD}And why.\n"),
        (FIRST, [Replace(old="maybe", new="nothing")], f"{HEAD}Say nothing.\n"),
        (IDS[0], [Rewrite(text=f"{HEAD}New.")], f"{HEAD}New.\n"),
        (IDS[3], [AddLines(lines="And why.")], f"{SKILL_TEXT}And why.\n"),
        (None, [AddLines(lines="And why.")], f"{SKILL_TEXT}And why.\n"),
    ],
    ids=["first", "id", "prefix", "add", "replace", "rewrite", "incumbent", "no start"],
)
def test_edits_refer_to_the_version_a_proposal_starts_from(
    space: Workspace, start: str | None, edits: list[Edit], text: str
) -> None:
    """Without edits it comes back as it was. The experiment is one against the incumbent."""
    candidate = made(space, start, *edits)
    assert isinstance(candidate, Candidate), candidate.detail
    assert candidate.text.text == text
    assert candidate.proposal.start == start


@pytest.mark.parametrize("step", STEPS[:-1], ids=lambda step: step.name)
def test_no_narrower_level_starts_again(space: Workspace, step: breadth.Level) -> None:
    edits = [AddLines(lines="And why.")]
    refused = made(space, FIRST, *edits, limits=step.limits)
    assert isinstance(refused, Unusable)
    assert refused.reason == NOT_APPLIED
    assert "not allowed now" in refused.detail


@pytest.mark.parametrize(
    ("start", "edits", "why"),
    [
        (IDS[1], [], "no accepted version"),
        (IDS[2], [], "no accepted version"),
        ("0" * 12, [], "no accepted version"),
        (IDS[0][:11], [], "no accepted version"),
        ("1", [], "no accepted version"),
        ("", [], "no accepted version"),
        ("first\x1b[2J", [], "no accepted version"),
        (IDS[3], [], "changes nothing"),
        (FIRST, [Rewrite(text=SKILL_TEXT)], "changes nothing"),
        (FIRST, [Replace(old="Say yes", new="Say no")], "is not in the text"),
        (None, [], "no edits"),
    ],
    ids=[
        "rejected",
        "reverted",
        "unknown",
        "too short",
        "number",
        "empty",
        "control characters",
        "the incumbent",
        "edited to the incumbent",
        "edits of the incumbent",
        "neither start nor edits",
    ],
)
def test_what_must_not_start_a_proposal(
    space: Workspace, start: str | None, edits: list[Edit], why: str
) -> None:
    refused = made(space, start, *edits)
    assert isinstance(refused, Unusable)
    assert refused.reason == NOT_APPLIED
    assert why in refused.detail
    assert refused.detail.isprintable()


def test_going_back_is_tried_once(space: Workspace) -> None:
    """Return to a text against the same incumbent is the same experiment, whatever it is called."""
    again = past(5, SKILL_TEXT, OLD, action="reject")
    proposal = Proposal(proposer="meta", model="m", hypothesis="h", start=FIRST)
    refused = applied(proposal, space, past=[*HISTORY, again], limits=WIDE)
    assert isinstance(refused, Unusable)
    assert refused.reason == proposer.DUPLICATE


FROZEN = "<!-- ratchet:frozen -->\nBe polite.\n<!-- /ratchet:frozen -->\n"


@pytest.mark.parametrize(
    "incumbent",
    [
        f"{SKILL_TEXT}{FROZEN}",
        SKILL_TEXT.replace("name: triage", "name: triage\nlicense: MIT"),
        SKILL_TEXT.replace("name: triage", "name: triage\nhouse-rule: kind"),
    ],
    ids=["frozen section", "license", "unknown key"],
)
@pytest.mark.parametrize("edits", [[], [AddLines(lines="And why.")]], ids=["plain", "edited"])
def test_going_back_takes_no_protected_part_out(
    tmp_path: Path, incumbent: str, edits: list[Edit]
) -> None:
    """What a person froze after that version stays as it is now."""
    world = World.make(tmp_path / "p")
    world.write(SKILL, incumbent)
    world.commit("freeze")
    refused = made(opened(world), FIRST, *edits)
    assert isinstance(refused, Unusable)
    assert refused.reason == PROTECTED


# Simplicity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "edits", "ceiling", "fits"),
    [
        (None, [AddLines(lines="!")], len(SKILL_TEXT) + 2, True),
        (None, [AddLines(lines="!!")], len(SKILL_TEXT) + 2, False),
        (None, [Replace(old="Say yes", new="Say Yes")], 10, False),
        (None, [Replace(old="Say yes", new="Say yea!")], 10, False),
        (None, [Replace(old="Say yes", new="Say y")], 10, True),
        (FIRST, [], 10, True),
        (FIRST, [AddLines(lines="x")], len(OLD), True),
        (FIRST, [AddLines(lines="x" * 9)], 10, False),
        (FIRST, [Rewrite(text=SKILL_TEXT.replace("yes", "Yes"))], 10, False),
    ],
    ids=[
        "at the ceiling",
        "over it",
        "over it before, as long",
        "over it before, longer",
        "over it before, shorter",
        "shorter version",
        "longer than that version, shorter than the incumbent",
        "longer than the incumbent",
        "as long as the incumbent",
    ],
)
def test_over_the_ceiling_only_a_shorter_text_may_be_tried(
    space: Workspace, start: str | None, edits: list[Edit], ceiling: int, *, fits: bool
) -> None:
    """Shorter than the incumbent, whichever version the edits refer to."""
    candidate = made(space, start, *edits, limits=WIDE.with_(max_chars=ceiling))
    if fits:
        assert isinstance(candidate, Candidate), candidate.detail
        return
    assert isinstance(candidate, Unusable)
    assert candidate.reason == NOT_APPLIED
    assert f"(most: {ceiling:,} characters" in candidate.detail
    assert ("may only get shorter" in candidate.detail) == (ceiling < len(SKILL_TEXT))
