"""What people say to a proposal counts, wherever the gate is asked about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.experiment.test_tampering import bots
from world import SKILL_TEXT, World

if TYPE_CHECKING:
    from pathlib import Path


def test_a_commit_that_claims_to_be_old_cuts_no_window_short(tmp_path: Path) -> None:
    """It is the same text in the bot's name, and everything else is as it was published."""
    world = World.make(tmp_path / "p", config={"gate": {"merge": "after 1h"}})
    assert world.run().verdicts == [("hold", "veto_window")]
    who = bots(world)
    old = "2020-01-01T00:00:00+00:00"
    dates = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), old)
    world.git("switch", "--quiet", "ratchet/triage")
    world.git("commit", "--quiet", "--amend", "--no-edit", "--reset-author", **who, **dates)
    world.git("switch", "--quiet", "main")
    assert world.git("log", "-1", "--format=%cI", "ratchet/triage").startswith("2020")

    ran = world.ratchet("run")

    assert "merges by itself in" in " ".join(ran.out.split())
    assert world.skill() == SKILL_TEXT
