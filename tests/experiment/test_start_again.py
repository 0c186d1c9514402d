"""Going back to an earlier accepted version, seen from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.core import records
from skill_ratchet.project import workspace
from world import SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TRAIN = [f"t{n}" for n in range(1, 9)]
HOLDOUT = ["h1", "h2", "h3", "h4"]
# What there is to gain by each rule; something is left after both.
RIGHT = {"alpha": [*TRAIN[:4], *HOLDOUT[:2]], "gamma": [*TRAIN[:7], *HOLDOUT]}
ALPHA = f"{SKILL_TEXT}Rule alpha.\n"
# Level by level: an edit that is merged, three that change nothing, and then the one to look at.
NARROW = [idea(1, "Rule alpha."), *(idea(n, f"Rule {n}.") for n in (2, 3, 4))]
UP_TO_IT = [("merge", "improved"), *[("reject", "screen_failed")] * 3]


def back(number: int, start: str, edits: Sequence[Mapping[str, Any]] | str = ()) -> str:
    """A meta-agent's reply that starts again from a version."""
    made = [{"op": "add", "after": None, "lines": edits}] if isinstance(edits, str) else list(edits)
    said = {"hypothesis": f"idea {number}", "start": start, "edits": made}
    return f"```json\n{json.dumps(said)}\n```"


def experiment(text: str, parent: str = SKILL_TEXT) -> str:
    """The id of the experiment that makes ``text`` of ``parent``."""
    names = (workspace.text_of(one).digest for one in (parent, text))
    return records.experiment_id("triage", parent=next(names), candidate=next(names))


def world_of(path: Path, *last: str, widen_after: int = 1) -> World:
    return World.make(
        path / "p",
        model=script([*NARROW, *last], right=RIGHT),
        cases={"train": TRAIN, "holdout": HOLDOUT},
        config={"loop": {"attempts": 1, "widen_after": widen_after}},
    )


def test_a_proposal_that_starts_again_is_merged_like_any_other(tmp_path: Path) -> None:
    """It is measured against the incumbent, and is one commit on top of it."""
    world = world_of(tmp_path, back(5, "first", "Rule gamma."))

    ran = world.run("--attempts", "5")

    assert ran.verdicts == [*UP_TO_IT, ("merge", "improved")]
    assert world.skill() == f"{SKILL_TEXT}Rule gamma.\n"
    assert world.skill("main^") == ALPHA
    assert world.git("diff", "--name-only", "main^", "main") == SKILL
    last = world.ledger().experiments()[-1]
    assert (last.level, last.proposal.start) == ("start again", "first")
    assert last.parent == workspace.text_of(ALPHA).digest
    assert [one.level for one in world.ledger().experiments()] == [
        "add lines",
        "add lines",
        "replace",
        "rewrite",
        "start again",
    ]


def test_the_levels_are_narrow_again_after_it(tmp_path: Path) -> None:
    last = [back(5, "first", "Rule gamma."), back(6, "first", "Rule delta.")]
    world = world_of(tmp_path, *last)

    ran = world.run("--attempts", "6")

    assert ran.verdicts == [*UP_TO_IT, ("merge", "improved"), ("reject", "not_applied")]
    assert world.ledger().experiments()[-1].level == "add lines"


def test_without_edits_the_version_comes_back_as_it_was(tmp_path: Path) -> None:
    """And has to be better to be merged, which here it is not."""
    world = world_of(tmp_path, back(5, "first"))

    ran = world.run("--attempts", "5")

    assert ran.verdicts == [*UP_TO_IT, ("reject", "screen_failed")]
    assert world.skill() == ALPHA
    last = world.ledger().experiments()[-1]
    assert world.ledger().candidate_text(last.id) == SKILL_TEXT
    assert last.chars == (len(ALPHA), len(SKILL_TEXT))
    assert "-Rule alpha." in world.ratchet("diff", "5").out
    shown = world.ratchet("show", "5").out
    assert "level      start again\n" in shown
    assert "start      first\n" in shown
    assert f"size       {len(ALPHA)} → {len(SKILL_TEXT)} characters (-12)\n" in shown


REFUSED = {
    "rejected": experiment(f"{ALPHA}Rule 2.\n", ALPHA),
    "unknown": "0" * 64,
    "the incumbent": experiment(ALPHA),
}


@pytest.mark.parametrize("start", REFUSED.values(), ids=REFUSED)
def test_what_is_no_earlier_accepted_version_is_not_tried(tmp_path: Path, start: str) -> None:
    """It ends in the ledger with the reason; no run is made and nothing is changed."""
    world = world_of(tmp_path, back(5, start))

    ran = world.run("--attempts", "5")

    assert ran.code == ExitCode.DONE
    assert ran.verdicts == [*UP_TO_IT, ("reject", "not_applied")]
    assert world.skill() == ALPHA
    assert world.ledger().candidate_text(world.ledger().experiments()[-1].id) is None


def test_not_at_a_narrower_level(tmp_path: Path) -> None:
    world = world_of(tmp_path, back(5, "first", "Rule gamma."), widen_after=2)

    ran = world.run("--attempts", "5")

    assert ran.verdicts == [*UP_TO_IT, ("reject", "not_applied")]
    assert "not allowed now" in world.ratchet("show", "5").out
    assert world.skill() == ALPHA


def test_a_reverted_version_is_none_to_go_back_to(tmp_path: Path) -> None:
    """A person took it out; the bot does not bring it back as it was."""
    first = experiment(ALPHA)
    world = world_of(tmp_path, back(5, first[:12], "Rule gamma."))
    world.run("--attempts", "1")
    assert world.ratchet("revert", "1").code == ExitCode.DONE

    ran = world.run("--attempts", "4")

    assert ran.verdicts == [*UP_TO_IT[1:], ("reject", "not_applied")]
    assert world.skill() == SKILL_TEXT
    assert "no accepted version" in world.ratchet("show", "5").out


def test_what_a_person_froze_since_stays(tmp_path: Path) -> None:
    """Going back would take it out of the file."""
    world = world_of(tmp_path, back(5, "first", "Rule gamma."))
    world.run("--attempts", "4")
    frozen = f"{ALPHA}<!-- ratchet:frozen -->\nBe polite.\n<!-- /ratchet:frozen -->\n"
    world.write(SKILL, frozen)
    world.commit("freeze")

    ran = world.run("--attempts", "1")

    assert ran.verdicts == [("reject", "protected")]
    assert world.skill() == frozen


def test_the_proposer_is_told_what_it_may_go_back_to_and_only_then(tmp_path: Path) -> None:
    """With length and train score; the incumbent is not in the list."""
    world = world_of(tmp_path, back(5, "first", "Rule gamma."))
    world.run("--attempts", "5")
    asked = [
        json.dumps(trace.reply.request, ensure_ascii=False)
        for trace in world.ledger().traces(job="meta")
    ]
    assert len(asked) == 5
    offered = [f"first\\t{len(SKILL_TEXT)} characters\\t0\\n" in one for one in asked]
    assert offered == [False] * 4 + [True]
    assert f"{experiment(ALPHA)[:12]}\\t{len(ALPHA)} characters" not in asked[-1]
