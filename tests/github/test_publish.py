"""The three jobs on GitHub: a candidate is proposed, confirmed, and merged or not, and why."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from fakehub import Protection
from scenes import said
from skill_ratchet.base.errors import ExitCode
from stage import later
from world import CASES, SEALED, SKILL, SKILL_TEXT, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scenes import Stages
    from stage import Stage

EDITED = f"{SKILL_TEXT}Rule alpha.\n"
PULL = 1


def test_a_candidate_that_won_is_merged(make: Stages) -> None:
    stage = make()
    assert stage.decide()["action"] == "merge"

    ran = stage.publish()

    assert ran.code == 0, ran.err
    assert (ran.json["action"], ran.json["reason"], ran.json["pull"]) == ("merge", "improved", PULL)
    assert stage.hub.read("main", SKILL) == EDITED
    assert "<!-- ratchet:pull triage -->" in (stage.hub.issue(PULL).body or "")
    (comment,) = stage.hub.comments(PULL)
    assert "<!-- ratchet:sticky triage -->" in comment.body
    assert SEALED not in stage.hub.world()
    rows = stage.job("after").ratchet("log", "--json").json
    assert [row["state"] for row in rows] == ["merged"]


def test_publishing_twice_is_publishing_once(make: Stages) -> None:
    stage = make.decided(config={"gate": {"merge": "manual"}})
    first = stage.publish().json
    world = stage.hub.world()
    writes = len(stage.hub.writes)
    (stage.folder / "publish1").rename(stage.folder / "first")

    again = stage.publish()

    assert (again.code, again.json) == (0, first)
    assert (first["action"], first["reason"]) == ("hold", "awaits_person")
    assert stage.hub.world() == world
    assert [one for one in stage.hub.writes[writes:] if "git-receive-pack" not in one] == []
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


@pytest.mark.parametrize("closed", [False, True], ids=["merged", "closed by a person"])
def test_a_branch_that_a_job_left_behind_is_deleted_by_the_next(
    make: Stages, monkeypatch: pytest.MonkeyPatch, *, closed: bool
) -> None:
    """It ended between the decision and the branch's deletion."""
    stage = make.published(config={"gate": {"merge": "after 1h"}})
    assert said(stage)["reason"] == "veto_window"
    stage.sha = None
    if closed:
        stage.hub.person_edits("octo", PULL, state="closed")
    else:
        later(monkeypatch)
    stage.hub.fail_next("DELETE", "/git/refs/", 403)
    assert stage.publish("2", bundle=False).code == ExitCode.ERROR
    assert stage.hub.tip("ratchet/triage") is not None

    ran = stage.publish("3", bundle=False)

    assert (ran.code, ran.json["action"]) == (0, None), ran.err
    assert stage.hub.tip("ratchet/triage") is None
    assert stage.hub.read("main", SKILL) == (SKILL_TEXT if closed else EDITED)


def test_must_not_happen_that_a_persons_branch_is_deleted(
    make: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has pushed to what the job left behind."""
    stage = make.published(config={"gate": {"merge": "after 1h"}})
    stage.sha = None
    later(monkeypatch)
    stage.hub.fail_next("DELETE", "/git/refs/", 403)
    stage.publish("2", bundle=False)
    theirs = stage.hub.person_pushes("octo", "ratchet/triage", {SKILL: f"{EDITED}Mine.\n"})

    ran = stage.publish("3", bundle=False)

    assert ran.code == 0, ran.err
    assert stage.hub.tip("ratchet/triage") == theirs


def test_a_rejection_opens_nothing(make: Stages) -> None:
    stage = make(model=script([idea(1, "Rule alpha.")], right={"alpha": CASES["train"]}))
    assert stage.decide()["action"] == "reject"

    ran = stage.publish()

    assert (ran.code, ran.json["action"], ran.json["pull"]) == (0, "reject", None)
    assert stage.hub.tip("ratchet/triage") is None
    assert stage.hub.tip("ratchet/ledger") is not None
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


def label(stage: Stage) -> None:
    stage.hub.person_labels(PULL, "ratchet:hold")


def stop_file(stage: Stage) -> None:
    stage.hub.person_pushes("octo", "main", {".ratchet-hold": ""})


def other_skill(stage: Stage) -> None:
    stage.hub.person_pushes("octo", "main", {SKILL: f"{SKILL_TEXT}Mine.\n"})


def other_case(stage: Stage) -> None:
    case = '{"input": "Well?", "expected": "yes"}'
    stage.hub.person_pushes("octo", "main", {"fixtures/triage/holdout/h9.yml": case})


def other_config(stage: Stage) -> None:
    text = json.loads(stage.hub.read("main", "ratchet.yml") or "")
    text["gate"]["alpha"] = 0.2
    stage.hub.person_pushes("octo", "main", {"ratchet.yml": json.dumps(text)})


def protect(stage: Stage) -> None:
    stage.hub.protect("main", Protection(contexts=("ci",)))


@pytest.mark.parametrize(
    ("meanwhile", "reason"),
    [
        (None, "improved"),
        (label, "held"),
        (stop_file, "held"),
        (other_skill, "stale"),
        (other_case, "stale"),
        (other_config, "stale"),
        (protect, "merge_refused"),
    ],
    ids=lambda one: getattr(one, "__name__", one or "nothing"),
)
def test_what_changed_while_it_waited_stops_the_merge(
    make: Stages,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[Stage], None] | None,
    reason: str,
) -> None:
    """The window has passed; 'improved' shows that it would have been merged otherwise."""
    stage = make.published(config={"gate": {"merge": "after 1h"}})
    assert said(stage)["reason"] == "veto_window"
    if meanwhile is not None:
        meanwhile(stage)
    before = stage.hub.read("main", SKILL)
    stage.sha = None
    later(monkeypatch)

    ran = stage.publish("2", bundle=False)

    assert (ran.code, ran.json["reason"]) == (0, reason), ran.err
    assert stage.hub.read("main", SKILL) == (EDITED if reason == "improved" else before)


def test_a_branch_that_a_person_edited_is_theirs(
    make: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make.published(config={"gate": {"merge": "after 1h"}})
    theirs = stage.hub.person_pushes("octo", "ratchet/triage", {SKILL: f"{EDITED}Mine.\n"})
    later(monkeypatch)

    for round_, bundle in (("1", True), ("2", False)):
        ran = stage.publish(round_, bundle=bundle)
        assert (ran.code, ran.json["action"], ran.json["reason"]) == (0, "hold", "edited")

    assert stage.hub.tip("ratchet/triage") == theirs
    assert stage.hub.read("main", SKILL) == SKILL_TEXT


def test_unrelated_commits_do_not(make: Stages) -> None:
    stage = make.decided()
    news = stage.hub.person_pushes("octo", "main", {"README.md": "news\n"})

    ran = stage.publish()

    assert ran.code == 0, ran.err
    assert ran.json["action"] == "merge"
    assert stage.hub.read("main", SKILL) == EDITED
    assert stage.hub.read("main", "README.md") == "news\n"
    assert news


def test_one_proposal_at_a_time(make: Stages) -> None:
    """While a pull request waits, the next scheduled run proposes nothing and pays nothing."""
    stage = make.published(config={"gate": {"merge": "manual"}})

    ran = stage.job("next").ratchet("propose", "--json", "--bundle", str(stage.folder / "next1"))

    assert (ran.code, ran.json["experiments"], ran.json["calls"]) == (0, [], 0)


def test_another_skills_records_stay(make: Stages) -> None:
    """Its job has published its part of the ledger in between."""
    stage = make.decided()
    other = stage.job("other")
    other.git("checkout", "--quiet", "--orphan", "ratchet/ledger")
    other.git("rm", "-rfq", ".")
    other.write("other/experiments/1/experiment.json", "{}\n")
    other.commit("other: published")
    publisher = stage.job("publish1")
    other.git("push", "--quiet", "origin", "ratchet/ledger")

    ran = publisher.ratchet("publish", "--json", "--bundle", str(stage.folder / "confirmation1"))

    assert ran.code == 0, ran.err
    assert ran.json["action"] == "merge"
    files = stage.hub.state.git.run("ls-tree", "-r", "--name-only", "ratchet/ledger")
    assert "other/experiments/1/experiment.json" in str(files)
    assert "triage/experiments/" in str(files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"GITHUB_TOKEN": ""}, "no token"),
        ({"GITHUB_REPOSITORY": ""}, "Which repository"),
    ],
)
def test_what_is_not_known_is_said(
    make: Stages,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    message: str,
) -> None:
    stage = make()
    world = stage.job("publish")
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    ran = world.ratchet("publish")
    assert ran.code == 1
    assert message in ran.err


def test_a_step_gets_outputs_and_a_page(
    make: Stages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    stage = make.decided()
    stage.publish()
    pairs = re.findall(r"(?ms)^(\w+)<<(?:end_\w+)\n(.*?)\nend_", outputs.read_text())
    read = dict(pairs)
    assert (read["action"], read["reason"], read["pull"]) == ("merge", "improved", "1")
    assert "Rule alpha." in summary.read_text()
    assert SEALED not in summary.read_text()
