"""Merges that happen later: people must be able to see what is merged, and to stop it until then.

What waits for a window, or was handed to GitHub (auto-merge, the merge queue), is merged when
nobody of Ratchet's looks. So whatever stops a merge has to stop these, too, and what came of them
is judged again and recorded as what it was.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from scenes import stages
from skill_ratchet.github import publish as publish_job
from stage import clock
from tests.github.test_corrections import TRAIN, Desk, seated, settings
from world import SKILL, SKILL_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from scenes import Stages
    from stage import Stage

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
BRANCH = "ratchet/triage"
PULL = 1
DAY_0 = datetime(2090, 1, 1, tzinfo=UTC)


@pytest.fixture
def make(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stages]:
    with stages(tmp_path, tmp_path_factory, monkeypatch) as made:
        yield made


def look(stage: Stage, name: str) -> Any:
    """The publish job of another day, which finds the base as it is by then."""
    stage.sha = None
    return stage.job(name).ratchet("publish", "--json")


@pytest.fixture
def days_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage, float], None]:
    """Let it be so many days later, for GitHub and for the jobs."""

    def arrange(stage: Stage, days: float) -> None:
        at = DAY_0 + timedelta(days=days)
        stage.hub.set_clock(at)
        monkeypatch.setattr(publish_job, "datetime", clock(at + timedelta(minutes=5)))

    return arrange


# A window counts from when people could see it ------------------------------------------------


def draft_until_now(stage: Stage) -> None:
    stage.hub.person_sets_draft("octo", PULL, draft=True)
    stage.hub.person_sets_draft("octo", PULL, draft=False)


def reopened_now(stage: Stage) -> None:
    stage.hub.person_edits("octo", PULL, state="closed")
    stage.hub.person_edits("octo", PULL, state="open")


def something_else_until_now(stage: Stage) -> None:
    """Somebody had put another commit there, and puts the bot's back."""
    bots, other = stage.hub.tip(BRANCH), stage.hub.person_pushes("octo", "other", {"x": "x\n"})
    for old, new in ((bots, other), (other, bots)):
        stage.hub.state.git.move(f"refs/heads/{BRANCH}", new, old)
        stage.hub.issue(PULL)  # GitHub sees it


@pytest.mark.parametrize("does", [draft_until_now, reopened_now, something_else_until_now])
def test_a_window_begins_when_people_see_it_again(
    make: Stages, days_later: Callable[..., None], does: Callable[[Stage], None]
) -> None:
    stage = make.published(config={"gate": {"merge": "after 2d"}})
    days_later(stage, 3)
    does(stage)

    assert look(stage, "three").json["reason"] == "veto_window"
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    days_later(stage, 6)
    assert look(stage, "six").json["action"] == "merge"


def test_a_window_does_not_run_while_there_is_no_pull_request(
    make: Stages, days_later: Callable[..., None]
) -> None:
    """The branch waits for three days until somebody allows Actions to open it."""
    stage = make.decided(config={"gate": {"merge": "after 2d"}})
    days_later(stage, 0)
    stage.hub.switches.actions_may_open_pulls = False
    assert stage.publish().code != 0
    assert stage.hub.tip(BRANCH) is not None
    stage.hub.switches.actions_may_open_pulls = True
    days_later(stage, 3)

    ran = look(stage, "three")

    assert (ran.code, ran.json["reason"]) == (0, "veto_window"), ran.err
    assert stage.hub.read("main", SKILL) == SKILL_TEXT
    days_later(stage, 6)
    assert look(stage, "six").json["action"] == "merge"


def test_nor_does_that_of_new_fixtures(
    make: Stages, days_later: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make.after(seated, config=settings(merge="after 2d"))
    desk = Desk(stage.hub, stage, monkeypatch)
    days_later(stage, 0)
    stage.hub.switches.actions_may_open_pulls = False
    assert desk.correct().code != 0
    stage.hub.switches.actions_may_open_pulls = True
    days_later(stage, 3)
    assert look(stage, "three").code == 0
    assert stage.hub.read("main", TRAIN) is None

    days_later(stage, 6)
    look(stage, "six")

    assert stage.hub.read("main", TRAIN) is not None
