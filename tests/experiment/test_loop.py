"""What becomes of an edit, seen from the command line."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet import providers
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.cli.progress import Reporter
from skill_ratchet.core.records import Reply
from skill_ratchet.experiment import session
from skill_ratchet.experiment.budget import Budget, BudgetSpent
from skill_ratchet.ledger import clock as clocks
from skill_ratchet.project import branches
from skill_ratchet.providers.scripted import Scripted
from world import BOTH, META, SEALED, SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skill_ratchet.core.records import Request

TRAIN, HOLDOUT = BOTH[:3], BOTH[3:]
LEDGER = "refs/heads/ratchet/ledger"
EDITED = f"{SKILL_TEXT}Rule alpha.\n"


# Verdicts -------------------------------------------------------------------------------------


def test_an_edit_that_helps_is_merged(tmp_path: Path) -> None:
    """Base branch and checkout have the edit, and nothing else changed."""
    world = World.make(tmp_path / "p")
    start = world.tip("main")

    ran = world.run()

    assert ran.code == ExitCode.DONE
    assert ran.verdicts == [("merge", "improved")]
    assert world.skill() == EDITED
    assert world.git("rev-parse", "main^") == start
    assert world.git("diff", "--name-only", "main^", "main") == SKILL
    assert (world.path / SKILL).read_text() == EDITED
    assert world.status() == ""


REJECTED = {
    "changes nothing": script(right={}),
    "hurts": script(right={"": TRAIN[:2]}, wrong={"alpha": TRAIN}),
    "helps and hurts alike": script(
        right={"alpha": ("t1",), "": ("t2",)}, wrong={"alpha": ("t2",)}
    ),
}


@pytest.mark.parametrize("model", REJECTED.values(), ids=REJECTED)
def test_an_edit_that_does_not_help_on_train_is_known_to_the_ledger_alone(
    tmp_path: Path, model: str
) -> None:
    """No branch, no change of the base, no look at the holdout."""
    world = World.make(tmp_path / "p", model=model)
    start = world.tip("main")

    ran = world.run()

    assert ran.code == ExitCode.DONE
    assert ran.verdicts == [("reject", "screen_failed")]
    assert ran.json["experiments"][0]["holdout"] is None
    assert ran.json["merged"] == 0
    assert world.tip("main") == start
    assert (world.path / SKILL).read_text() == SKILL_TEXT
    assert world.branches() == {"main", "ratchet/ledger"}
    result = world.ledger().results()[world.only().id]
    assert (result.action, result.reason) == ("reject", "screen_failed")


def test_an_edit_that_helps_on_train_alone_is_not_merged_and_not_explained(tmp_path: Path) -> None:
    """The owner sees why; the record that the proposer reads says only that it was not merged."""
    world = World.make(tmp_path / "p", model=script(right={"alpha": TRAIN}))
    start = world.tip("main")

    ran = world.run()

    assert ran.verdicts == [("reject", "no_improvement")]
    assert ran.json["experiments"][0]["holdout"] == {"incumbent": 0.0, "candidate": 0.0}
    assert world.tip("main") == start
    assert "ratchet/triage" not in world.branches()
    result = world.ledger().results()[world.only().id]
    assert (result.action, result.reason, result.detail) == (
        "reject",
        "not_confirmed",
        "Not merged.",
    )
    assert "no_improvement" in world.ratchet("log").out
    assert "no_improvement" not in world.told(LEDGER)


@pytest.mark.parametrize(
    "right", [{"alpha": BOTH}, {"alpha": TRAIN}, {"alpha": (*TRAIN, "h1")}], ids=str
)
def test_nothing_held_out_reaches_the_ledger_branch(
    tmp_path: Path, right: dict[str, tuple[str, ...]]
) -> None:
    """Not an input, an id, an expectation or a score of a held-out case, in any blob or message."""
    world = World.make(tmp_path / "p", model=script(right=right))
    world.write(
        "fixtures/triage/holdout/h3.yml",
        json.dumps({"id": "okapi-7", "input": f"Is the {SEALED} h3?", "expected": "quagga"}),
    )
    world.commit("another")

    assert world.run().code == ExitCode.DONE
    assert world.ratchet("eval", "--split", "holdout").code == ExitCode.DONE

    told = world.told(LEDGER)
    assert "t1" in told
    for secret in (SEALED, "okapi", "quagga", "h1", "h2", "h3", '"holdout"'):
        assert secret not in told, secret
    sealed = world.told("refs/heads/ratchet/holdout")
    assert SEALED in sealed
    assert "okapi" in sealed


def test_a_candidate_that_copies_held_out_text_is_rejected(tmp_path: Path) -> None:
    """It costs no run on either split, and the record does not say what leaked."""
    copied = f"Would the {SEALED} agree to h1? Say yes."
    world = World.make(tmp_path / "p", model=script([idea(1, copied)], right={"": TRAIN[:1]}))

    ran = world.run()

    assert ran.verdicts == [("reject", "leaks_holdout")]
    assert ran.json["experiments"][0]["calls"] == 1
    assert world.skill() == SKILL_TEXT
    assert world.ledger().results()[world.only().id].reason == "not_confirmed"
    assert list(world.ledger().traces(split="holdout")) == []


def test_the_loop_goes_on_from_what_it_merged(tmp_path: Path) -> None:
    """The second edit is measured against the first; a third attempt has nothing left to do."""
    replies = [idea(1, "Rule alpha."), idea(2, "Rule beta.")]
    halves = {"alpha": ("t1", "t2", "t3", "h1", "h2"), "beta": ("t4", "t5", "t6", "h3", "h4")}
    cases = {"train": [f"t{n}" for n in range(1, 7)], "holdout": ["h1", "h2", "h3", "h4"]}
    model = script(replies, right=halves)
    world = World.make(tmp_path / "p", model=model, cases=cases)

    ran = world.run("--attempts", "3")

    assert ran.verdicts == [("merge", "improved")] * 2
    assert world.skill() == f"{EDITED}Rule beta.\n"
    assert [one["train"]["incumbent"] for one in ran.json["experiments"]] == [0.0, 0.5]
    assert [c.attempt for c in world.ledger().confirmations()] == [1, 1]
    again = world.run()
    assert (again.json["experiments"], again.json["calls"]) == ([], 0)


# What happens meanwhile -----------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], Any]], None]:
    """Do something once, as a phase of the run begins."""

    def arrange(phase: str, action: Callable[[], Any]) -> None:
        real, todo = Reporter.phase, [action]

        def begins(self: Reporter, name: str, *, runs: int, **more: Any) -> None:
            real(self, name, runs=runs, **more)
            if name.startswith(phase) and todo:
                todo.pop()()

        monkeypatch.setattr(Reporter, "phase", begins)

    return arrange


@pytest.mark.parametrize(
    ("phase", "model", "action"),
    [
        *((phase, script(), "merge") for phase in ("baseline", "screen", "confirm")),
        *((phase, script(right={}), "reject") for phase in ("baseline", "screen")),
    ],
    ids=lambda value: value if len(value) < 9 else "",
)
def test_a_commit_on_the_base_meanwhile_makes_it_wait_and_costs_nothing(
    tmp_path: Path, meanwhile: Any, phase: str, model: str, action: str
) -> None:
    """Nothing is decided on numbers of another base; the next run decides without a call."""
    world = World.make(tmp_path / "p", model=model)

    def commit() -> None:
        world.write("README.md", "news\n")
        world.commit("news")

    meanwhile(phase, commit)
    ran = world.run()
    news = world.tip("main")

    assert ran.verdicts == [("hold", "stale")]
    assert world.git("log", "-1", "--format=%s", news) == "news"
    assert "ratchet/triage" not in world.branches()
    again = world.run()
    assert [verdict[0] for verdict in again.verdicts] == [action]
    assert again.json["calls"] == 0
    assert world.git("rev-list", "--count", f"{news}..main") == ("1" if action == "merge" else "0")
    assert world.show("README.md") == "news\n"
    assert len(world.ledger().confirmations()) == (action == "merge")


def test_another_text_of_the_skill_meanwhile_ends_the_experiment(
    tmp_path: Path, meanwhile: Any
) -> None:
    """What was measured against the old text says nothing about the new one."""
    world = World.make(
        tmp_path / "p", model=script([idea(1, "Rule alpha."), idea(2, "Rule beta.")])
    )

    def edit() -> None:
        world.write(SKILL, f"{SKILL_TEXT}By a person.\n")
        world.commit("by a person")

    meanwhile("confirm", edit)
    assert world.run().verdicts == [("hold", "stale")]
    assert world.skill() == f"{SKILL_TEXT}By a person.\n"
    assert world.run().verdicts == [("reject", "screen_failed")]
    results = world.ledger().results()
    assert sorted(result.reason for result in results.values()) == ["screen_failed", "superseded"]
    assert world.skill() == f"{SKILL_TEXT}By a person.\n"


def test_an_unsaved_edit_of_the_skill_meanwhile_is_left_alone(
    tmp_path: Path, meanwhile: Any
) -> None:
    """The run ends naming the file; once it is put away the edit is merged without a call."""
    world = World.make(tmp_path / "p")
    meanwhile("confirm", lambda: world.write(SKILL, "mine\n"))

    ran = world.run()

    assert ran.code == ExitCode.ERROR
    assert SKILL in ran.err
    assert (world.path / SKILL).read_text() == "mine\n"
    assert world.skill() == SKILL_TEXT
    world.git("checkout", "--", SKILL)
    again = world.run()
    assert (again.verdicts, again.json["calls"]) == ([("merge", "improved")], 0)


def test_an_edit_of_the_skill_at_the_last_moment_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even after everything was checked: git moves the branch, or nothing moves."""
    world = World.make(tmp_path / "p")
    real = branches.publish

    def publish(*args: Any, **kwargs: Any) -> str:
        world.write(SKILL, "mine\n")
        return real(*args, **kwargs)

    monkeypatch.setattr(branches, "publish", publish)
    ran = world.run()

    assert ran.verdicts == [("hold", "merge_refused")]
    assert (world.path / SKILL).read_text() == "mine\n"
    assert world.skill() == SKILL_TEXT
    world.git("checkout", "--", SKILL)
    assert world.run().code == ExitCode.DONE
    assert world.skill() == EDITED
    assert [result.action for result in world.ledger().results().values()] == ["merge"]


def test_a_branch_switched_to_meanwhile_is_not_worked_on(tmp_path: Path, meanwhile: Any) -> None:
    """The run stays on the branch it began with, for its later attempts too."""
    model = script(
        [idea(1, "Rule alpha."), idea(2, "Rule beta.")], right={"alpha": (*TRAIN[:2], *HOLDOUT)}
    )
    cases = {"train": ("t1", "t2", "t3"), "holdout": HOLDOUT}
    world = World.make(
        tmp_path / "p", model=model, cases=cases, config={"gate": {"rule": "improves"}}
    )
    start = world.tip("main")
    meanwhile("confirm", lambda: world.git("switch", "--quiet", "--create", "topic"))

    ran = world.run("--attempts", "2")

    assert ran.verdicts == [("merge", "improved"), ("reject", "screen_failed")]
    first, second = world.ledger().experiments()
    assert second.parent == first.candidate  # measured against what was merged
    assert world.skill("main") == EDITED
    assert world.tip("topic") == start
    assert world.git("symbolic-ref", "--short", "HEAD") == "topic"
    assert world.status() == ""


def test_the_stop_file_stops_everything(tmp_path: Path, meanwhile: Any) -> None:
    """Made meanwhile it holds what is under way; without it the same edit is merged for nothing."""
    world = World.make(tmp_path / "p")
    stop = world.path / ".ratchet-hold"
    meanwhile("confirm", stop.touch)

    assert world.run().verdicts == [("hold", "held")]
    on_hold = world.run()
    assert (on_hold.code, on_hold.json["calls"]) == (ExitCode.DONE, 0)
    assert ".ratchet-hold" in world.ratchet("run").out
    assert world.branches() == {"main", "ratchet/ledger", "ratchet/holdout"}
    assert world.skill() == SKILL_TEXT

    stop.unlink()
    again = world.run()
    assert (again.verdicts, again.json["calls"]) == ([("merge", "improved")], 0)


# A person has the last word -------------------------------------------------------------------


def test_manual_waits_for_a_person_and_takes_a_merge_as_the_answer(tmp_path: Path) -> None:
    """Until then every run stops and says what to do; a merge by hand is written down as one."""
    world = World.make(tmp_path / "p", config={"gate": {"merge": "manual"}})

    assert world.run().verdicts == [("hold", "awaits_person")]
    assert world.skill() == SKILL_TEXT
    assert world.skill("ratchet/triage") == EDITED
    waiting = world.ratchet("run")
    assert waiting.code == ExitCode.DONE
    assert "git merge ratchet/triage" in " ".join(waiting.out.split())
    assert "git branch -D ratchet/triage" in " ".join(waiting.out.split())
    assert world.run().json["calls"] == 0
    assert world.skill() == SKILL_TEXT

    world.git("merge", "--quiet", "--no-ff", "--message=taken", "ratchet/triage")
    after = world.run()
    assert (after.code, after.json["experiments"]) == (ExitCode.DONE, [])
    shown = world.ratchet("log", "--json").json
    assert [row["state"] for row in shown] == ["merged"]
    assert shown[0]["landed"]["commit"] == world.tip("main^2")


def test_a_deleted_proposal_lets_the_loop_go_on(tmp_path: Path) -> None:
    """Dropped is dropped: it is not proposed a second time."""
    model = script([idea(1, "Rule alpha."), idea(2, "Rule alpha."), idea(3, "Rule beta.")])
    world = World.make(tmp_path / "p", model=model, config={"gate": {"merge": "manual"}})
    world.run()

    world.git("branch", "-D", "ratchet/triage")
    after = world.run("--attempts", "2")

    assert after.verdicts == [("reject", "duplicate"), ("reject", "screen_failed")]
    assert world.skill() == SKILL_TEXT
    assert "ratchet/triage" not in world.branches()


def test_a_proposal_that_a_person_edited_is_theirs(tmp_path: Path) -> None:
    """It is neither merged nor moved, whatever the settings say."""
    world = World.make(tmp_path / "p", config={"gate": {"merge": "after 1h"}})
    world.run()
    world.git("switch", "--quiet", "ratchet/triage")
    world.write(SKILL, f"{EDITED}And mine.\n")
    theirs = world.commit("mine")
    world.git("switch", "--quiet", "main")

    ran = world.ratchet("run")

    assert "edited by a person" in ran.out
    assert world.tip("ratchet/triage") == theirs
    assert world.skill() == SKILL_TEXT


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of day as the loop sees it; set ``at`` to change it."""
    hands = SimpleNamespace(at=datetime(2026, 1, 1, tzinfo=UTC))

    def now() -> Any:
        hands.at += timedelta(microseconds=1)  # as a real one, it never shows the same time twice
        return hands.at

    monkeypatch.setattr(clocks, "now", now)
    return hands


def test_after_merges_once_nobody_objected_for_that_long(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    """Not a second before, and then without a call."""
    world = World.make(tmp_path / "p", config={"gate": {"merge": "after 1h"}})

    assert world.run().verdicts == [("hold", "veto_window")]
    clock.at += timedelta(minutes=59)
    early = world.run()
    assert (early.json["calls"], world.skill()) == (0, SKILL_TEXT)
    clock.at += timedelta(minutes=2)
    world.run()
    assert world.skill() == EDITED
    assert [row["state"] for row in world.ratchet("log", "--json").json] == ["merged"]
    assert world.git("rev-list", "--count", "main") == "2"


def test_a_waiting_proposal_that_went_stale_is_dropped_and_may_be_tried_again(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    """The second try is a look at the holdout of its own, at a higher bar, with its own runs.

    Those of the incumbent are kept: of this model one made again would be the same run.
    """
    again = [idea(1, "Rule alpha."), idea(2, "Rule alpha."), idea(3, "Rule beta.")]
    world = World.make(tmp_path / "p", model=script(again), config={"gate": {"merge": "after 1h"}})
    world.run()
    first = world.ledger().confirmations()[0]
    world.configure(budget={"calls": 1999})
    news = world.tip("main")
    clock.at += timedelta(hours=2)

    ran = world.ratchet("run", "--json", "--attempts", "1")

    assert "out of date" in ran.err
    assert "Changed since the runs: base, config." in " ".join(ran.err.split())
    assert ran.verdicts == [("hold", "veto_window")]
    assert ran.json["experiments"][0]["calls"] == 1 + 3 + 2
    assert world.tip("main") == news
    (second,) = world.ledger().confirmations()
    assert (first.attempt, second.attempt) == (1, 2)
    evidence = [one.evidence for one in (first, second) if one.evidence]
    runs = [{pair.candidate_run for pair in one.confirm} for one in evidence]
    assert len(runs) == 2
    assert not runs[0] & runs[1]
    assert [row["number"] for row in world.ratchet("log", "--json").json] == [2]
    clock.at += timedelta(hours=2)
    world.run()
    assert world.skill() == EDITED
    assert '"calls": 1999' in world.show("ratchet.yml")


def test_a_waiting_proposal_outlasts_commits_it_does_not_depend_on(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    """It is put on top of them without a call, and its window goes on from where it was."""
    world = World.make(tmp_path / "p", config={"gate": {"merge": "after 2h"}})
    world.run()
    for hour in (1, 2):
        clock.at += timedelta(hours=1)
        world.write("README.md", f"news {hour}\n")
        news = world.commit("news")
        ran = world.run()
        assert ran.json["calls"] == 0 or hour == 2
    assert world.skill() == EDITED
    assert world.show("README.md") == "news 2\n"
    assert world.git("rev-parse", "main^") == news
    assert [row["state"] for row in world.ratchet("log", "--json").json] == ["merged"]


def test_settings_of_the_command_line_do_not_drop_a_waiting_proposal(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p", config={"gate": {"merge": "manual"}})
    world.run()
    waiting = world.tip("ratchet/triage")

    ran = world.ratchet("run", "--proposer", "examples")

    assert "other settings" in ran.out
    assert world.tip("ratchet/triage") == waiting


# Calls that fail ------------------------------------------------------------------------------


@pytest.fixture
def model_of(monkeypatch: pytest.MonkeyPatch) -> dict[str, Scripted]:
    """One model for all runs of a test, so that what it used up stays used up."""
    made: dict[str, Scripted] = {}
    build = providers.PROVIDERS["scripted"]

    def once(*args: Any) -> Any:
        return made.setdefault("task", build(*args))  # type: ignore[arg-type]  # it is one

    monkeypatch.setitem(providers.PROVIDERS, "scripted", once)
    return made


FAILURES = {
    "baseline": {"input_contains": "t2"},
    "proposing": {"system_contains": META},
    "screen": {"system_contains": "Rule alpha.", "input_contains": "t2"},
    "confirm, candidate": {"system_contains": "Rule alpha.", "input_contains": "h2"},
    "confirm, incumbent": {"system_matches": r"no\.\n\Z", "input_contains": "h2"},
}


@pytest.mark.parametrize("when", FAILURES.values(), ids=FAILURES)
def test_a_failed_call_decides_nothing_and_is_the_only_one_made_again(
    tmp_path: Path, model_of: dict[str, Scripted], when: dict[str, str]
) -> None:
    """No score is not a score of 0: the run ends with 1, the trace keeps the error."""
    broken = {"when": when, "error": "overloaded 529", "times": 1}
    world = World.make(tmp_path / "p", model=script(first=[broken]))

    ran = world.run()

    assert ran.code == ExitCode.ERROR
    assert ran.json["experiments"] == []
    assert "overloaded 529" in ran.err
    assert world.skill() == SKILL_TEXT
    assert world.ledger().results() == {}
    told = "".join(world.told(ref) for ref in world.branches() if ref.startswith("ratchet/"))
    assert "overloaded 529" in told

    again = world.run()
    assert again.verdicts == [("merge", "improved")]
    assert len(model_of["task"].requests) == 11 + 1
    assert ran.json["calls"] + again.json["calls"] == 11 + 1
    assert [c.attempt for c in world.ledger().confirmations()] == [1]


@pytest.mark.parametrize("stop", ["refusal", "max_tokens"])
def test_an_answer_that_was_refused_or_cut_is_an_answer(tmp_path: Path, stop: str) -> None:
    """It is scored like any other, so the experiment is decided."""
    first = {
        "when": {"system_contains": "Rule alpha.", "input_contains": "t2"},
        "text": "I cannot",
        "stop_reason": stop,
    }
    world = World.make(tmp_path / "p", model=script(first=[first]))

    ran = world.run()

    assert (ran.code, ran.verdicts) == (ExitCode.DONE, [("reject", "screen_failed")])
    assert ran.json["experiments"][0]["train"]["candidate"] == pytest.approx(2 / 3)


# Proposals that cannot be tried ---------------------------------------------------------------

GOOD = idea(2, "Rule alpha.")
FROZEN = f"{SKILL_TEXT}<!-- ratchet:frozen -->\nKeep this.\n<!-- /ratchet:frozen -->\n"
UNUSABLE: dict[str, tuple[str, str]] = {
    "does not apply": (
        idea(1, [{"op": "add", "after": "No such line", "lines": "x"}]),
        "not_applied",
    ),
    "replaces too early": (
        idea(1, [{"op": "replace", "old": "Say yes", "new": "Say no"}]),
        "not_applied",
    ),
    "too many lines": (idea(1, "\n".join(f"line {n}" for n in range(13))), "not_applied"),
    "too long": (idea(1, "x" * 400), "not_applied"),
    "proposes nothing": ('{"hypothesis": "all is well", "edits": []}', "no_edit"),
    "frozen section": (
        idea(1, [{"op": "add", "after": "Keep this.", "lines": "Or not."}]),
        "protected",
    ),
    "frontmatter": (
        idea(1, [{"op": "add", "after": "description: Says yes or no.", "lines": "license: MIT"}]),
        "protected",
    ),
    "hidden text": (idea(1, "Rule\u200b alpha."), "not_applied"),
    "no edit": ("I would rather not say.", "no_edit"),
    "empty": ("", "no_edit"),
}


@pytest.mark.parametrize(("reply", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_proposal_that_cannot_be_tried_costs_one_call_and_the_run_goes_on(
    tmp_path: Path, reply: str, reason: str
) -> None:
    """It is recorded with the reason, no run is spent on it, and the skill is as it was."""
    skills = {"triage": {"scorer": "label", "max_chars": 400}}
    world = World.make(tmp_path / "p", model=script([reply, GOOD]), config={"skills": skills})
    world.write(SKILL, FROZEN)
    world.commit("freeze")

    ran = world.run("--attempts", "2")

    assert ran.code == ExitCode.DONE
    assert ran.verdicts == [("reject", reason), ("merge", "improved")]
    first = ran.json["experiments"][0]
    assert (first["calls"], first["train"], first["holdout"]) == (
        1,
        {"incumbent": None, "candidate": None},
        None,
    )
    assert world.skill() == f"{FROZEN}Rule alpha.\n"
    result = world.ledger().results()[first["id"]]
    assert result.reason == reason
    assert result.detail


def test_a_refusal_to_propose_is_recorded(tmp_path: Path) -> None:
    """As any other reply without an edit."""
    refusal = {"when": {"system_contains": META}, "text": "", "stop_reason": "refusal", "times": 1}
    world = World.make(tmp_path / "p", model=script([GOOD], first=[refusal]))

    ran = world.run("--attempts", "2")

    assert ran.verdicts == [("reject", "no_edit"), ("merge", "improved")]
    assert "refused" in world.ratchet("show", "1").out


def test_an_edit_that_was_tried_before_is_not_tried_again(tmp_path: Path) -> None:
    """Neither in the same run nor in a later one."""
    model = script([idea(1, "Rule beta."), idea(2, "Rule beta.")])
    world = World.make(tmp_path / "p", model=model)

    ran = world.run("--attempts", "2")

    assert ran.verdicts == [("reject", "screen_failed"), ("reject", "duplicate")]
    assert ran.json["experiments"][1]["calls"] == 1
    assert len(world.ledger().experiments()) == 2


# Budget ---------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def budget(**caps: float) -> Budget:
    given: dict[str, Any] = {"usd": None, "calls": None, "minutes": None, "clock": Clock()} | caps
    return Budget(**given)


@pytest.mark.parametrize(
    ("caps", "calls"),
    [
        ({"calls": 3}, 3),
        ({"usd": 1.0}, 4),  # three cost 0.60; a fourth may cost 0.40 and be the last
        ({"usd": 0.3}, 0),
        ({"usd": 0.0}, 0),
        ({"calls": 9, "usd": 1.0}, 4),
    ],
)
def test_a_cap_is_checked_before_a_call_with_the_worst_it_can_cost(
    caps: dict[str, float], calls: int
) -> None:
    """No call is booked that could take the run past its cap, and the cap stays held."""
    spent = budget(**caps)
    for _ in range(calls):
        spent.settle(spent.reserve(0.4), 0.2)
    with pytest.raises(BudgetSpent) as stop:
        spent.reserve(0.4)
    assert spent.calls == calls
    assert spent.usd <= caps.get("usd", 1000)
    assert stop.value.exit_code == ExitCode.BUDGET


def test_calls_under_way_count_with_the_worst_they_can_cost() -> None:
    """Eight at once cannot each take what is left."""
    spent = budget(usd=1.0)
    booked = [spent.reserve(0.4), spent.reserve(0.4)]
    with pytest.raises(BudgetSpent, match=r"\$1\.00"):
        spent.reserve(0.4)
    for one in booked:
        spent.settle(one, 0.1)
    spent.reserve(0.4)
    assert spent.usd == pytest.approx(0.2)


def test_a_call_of_unknown_price_costs_what_was_booked_and_makes_the_sum_unknown() -> None:
    """A missing price is not a price of nothing."""
    spent = budget(usd=1.0)
    spent.settle(spent.reserve(0.6), None)
    assert spent.spent is None
    with pytest.raises(BudgetSpent):
        spent.reserve(0.6)


def test_minutes_are_those_since_the_run_began() -> None:
    """At the cap nothing more is begun."""
    clock = Clock()
    spent = Budget(usd=None, calls=None, minutes=2, clock=clock)
    clock.seconds = 119.9
    spent.settle(spent.reserve(None), 0.0)
    clock.seconds = 120.0
    with pytest.raises(BudgetSpent, match="2 minutes"):
        spent.reserve(None)
    assert spent.calls == 1


class Priced(Scripted):
    """A model whose calls cost ten cents and may cost fifty; each takes a minute."""

    clock: SimpleNamespace

    async def complete(self, request: Request) -> Reply:
        reply = await super().complete(request)
        self.clock.seconds += 60
        return reply.with_(usd=0.10)

    def worst_case_usd(self, request: Request) -> float | None:  # noqa: ARG002  the Protocol's
        return 0.50


@pytest.mark.parametrize(
    "config",
    [
        {"provider": "anthropic", "model": "no-such-model"},
        {"provider": "anthropic", "meta": {"model": "no-such-model"}},
        {"meta": {"model": "no-such-model", "provider": "anthropic"}},
    ],
    ids=["task", "meta", "meta with a provider of its own"],
)
def test_a_model_of_unknown_price_is_refused_while_dollars_are_capped(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    world = World.make(tmp_path / "p", config=config)
    ran = world.ratchet("run")
    assert ran.code == 1
    assert "price of model 'no-such-model' is not known" in " ".join(ran.err.split())


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Makes the scripted model cost money and time."""
    clock = SimpleNamespace(seconds=0.0)
    build = providers.PROVIDERS["scripted"]

    def pay(*args: Any) -> Any:
        model = build(*args)
        model.__class__ = Priced
        model.clock = clock  # type: ignore[attr-defined]  # it is Priced by now
        return model

    monkeypatch.setitem(providers.PROVIDERS, "scripted", pay)
    monkeypatch.setattr(
        session, "time", SimpleNamespace(time=time.time, monotonic=lambda: clock.seconds)
    )
    return clock


@pytest.mark.parametrize(
    "caps",
    [{"calls": 2}, {"calls": 3}, {"calls": 5}, {"usd": 0.75}, {"minutes": 4}],
    ids=str,
)
@pytest.mark.usefixtures("priced")
def test_a_run_out_of_budget_goes_on_where_it_stopped(
    tmp_path: Path, caps: dict[str, float]
) -> None:
    """Exit 4 until it is done; not one call more than without a cap, and none lost."""
    settings = {
        "budget": {"usd": None, "calls": None, "minutes": None} | caps,
        "provider": {"type": "scripted", "concurrency": 1},
    }
    world = World.make(tmp_path / "p", config=settings)

    runs = [world.run()]
    while runs[-1].code == ExitCode.BUDGET:
        assert runs[-1].json["experiments"] == []
        assert 0 < runs[-1].json["calls"] <= caps.get("calls", 4)
        assert runs[-1].json["usd"] <= caps.get("usd", 1.0)
        assert "budget" in runs[-1].err
        assert world.skill() == SKILL_TEXT
        runs.append(world.run())

    assert len(runs) > 2
    assert (runs[-1].code, runs[-1].verdicts) == (ExitCode.DONE, [("merge", "improved")])
    assert sum(run.json["calls"] for run in runs) == 11
    assert sum(run.json["usd"] for run in runs) == pytest.approx(1.1)
    assert runs[-1].json["experiments"][0]["calls"] == 8
    assert [c.attempt for c in world.ledger().confirmations()] == [1]


RUBRIC = {"triage": {"scorer": {"type": "rubric", "rubric": "Says yes."}}}
JUDGE: list[dict[str, Any]] = [
    {
        "when": {
            "system_contains": "You judge one answer",
            "input_matches": rf"(?m)^answer \w+\n{answer}$",
        },
        "text": json.dumps({"reason": f"says {answer}", "score": score}),
    }
    for answer, score in (("yes", 10), ("no", 0))
]


def test_a_judge_counts_in_the_budget_and_is_kept(tmp_path: Path) -> None:
    """Its calls are paid for like any other, and each is a trace."""
    world = World.make(tmp_path / "p", model=script(first=JUDGE), config={"skills": RUBRIC})

    ran = world.run()

    assert ran.verdicts == [("merge", "improved")]
    assert ran.json["calls"] == 11 + 10
    judged = list(world.ledger().traces(job="judge"))
    assert len(judged) == 6
    assert {trace.split for trace in judged} == {"train"}
    assert SEALED not in world.told(LEDGER)


def test_a_judge_is_not_asked_beyond_the_budget(tmp_path: Path) -> None:
    """The answer it should have judged was paid for, and is kept."""
    settings = {
        "skills": RUBRIC,
        "provider": {"type": "scripted", "concurrency": 1},
        "budget": {"calls": 3},
    }
    world = World.make(tmp_path / "p", model=script(first=JUDGE), config=settings)

    ran = world.run()

    assert (ran.code, ran.json["calls"]) == (ExitCode.BUDGET, 3)
    traces = list(world.ledger().traces())
    assert [trace.job for trace in traces].count("task") == 2
    assert [trace.job for trace in traces].count("judge") == 1


def test_the_empty_skill_is_not_run_twice(tmp_path: Path, model_of: dict[str, Scripted]) -> None:
    """What a run measured to see whether the evaluation works, the next one re-uses."""
    first: list[dict[str, Any]] = [
        {"when": {"system_contains": META}, "error": "overloaded", "times": 1},
        {"when": {"system_matches": r"(no\.\n|\A)\Z"}, "text": "yea"},
    ]
    skills = {"triage": {"scorer": "edit_similarity"}}
    world = World.make(tmp_path / "p", model=script(first=first), config={"skills": skills})

    assert world.run().code == ExitCode.ERROR
    assert world.run().verdicts == [("merge", "improved")]
    systems = [request.system for request in model_of["task"].requests]
    assert (systems.count(""), systems.count(SKILL_TEXT)) == (3, 3 + 2)


# Secrets --------------------------------------------------------------------------------------

CANARY = "canary-5f0e1c9b7a"


@pytest.fixture
def leaky(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says a secret of the environment wherever its script has SECRET."""

    class Leaky(Scripted):
        async def complete(self, request: Request) -> Reply:
            reply = (await super().complete(request)).model_dump_json()
            return Reply.model_validate_json(reply.replace("SECRET", CANARY))

    def build(*args: Any) -> Any:
        model = scripted(*args)
        model.__class__ = Leaky
        return model

    scripted = providers.PROVIDERS["scripted"]
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    monkeypatch.setitem(providers.PROVIDERS, "scripted", build)


def _says(text: str, **more: Any) -> dict[str, Any]:
    said = more or {"text": text}
    return {"when": {"system_contains": "# Triage", "input_contains": "t2"}} | said


def _reply(lines: str, *, after: str | None = None, why: str = "idea 1") -> str:
    edits = [{"op": "add", "after": after, "lines": lines}]
    return json.dumps({"hypothesis": why, "edits": edits})


LEAKS = {
    "in an answer": (script(right={}, first=[_says("SECRET")]), "screen_failed"),
    "in an error": (script(first=[_says("", error="no such key SECRET")]), None),
    "in the reason": (script([_reply("Rule alpha.", why="because SECRET")]), "improved"),
    "in the edit": (script([_reply("Rule alpha. Use SECRET.")]), "protected"),
    "in what does not apply": (script([_reply("x", after="at SECRET")]), "not_applied"),
    "in place of an edit": (script(["SECRET"]), "no_edit"),
}


@pytest.mark.parametrize(("model", "reason"), LEAKS.values(), ids=LEAKS)
@pytest.mark.usefixtures("leaky")
def test_a_secret_that_a_model_repeats_is_written_nowhere(
    tmp_path: Path, model: str, reason: str | None
) -> None:
    """Not into an object of git, a file below .git, the checkout or the terminal."""
    world = World.make(tmp_path / "p", model=model)

    ran = [world.run()]
    assert [verdict[1] for verdict in ran[0].verdicts] == ([reason] if reason else [])
    traces = [trace.id for trace in world.ledger().traces()]
    ran += [
        world.ratchet("run"),
        world.ratchet("log"),
        *(world.ratchet("trace", t) for t in traces),
    ]
    ran += [world.ratchet(command, "1") for command in ("show", "diff") if reason]

    shown = "".join(one.out + one.err for one in ran)
    assert CANARY not in shown
    assert "[redacted:SOME_API_KEY]" in shown
    assert CANARY.encode() not in world.objects()
    files = [path for path in world.path.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    assert CANARY not in world.git("log", "--all", "--format=%B")


def test_a_skill_that_holds_what_looks_like_a_secret_is_not_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that is an ordinary word must not be blotted out of the skill by a merge."""
    monkeypatch.setenv("PGPASSWORD", "postgres")
    world = World.make(tmp_path / "p")
    text = f"{SKILL_TEXT}Ask about postgres.\n"
    world.write(SKILL, text)
    world.commit("ask")

    ran = world.run()

    assert ran.verdicts == [("reject", "protected")]
    assert "secret" in world.ratchet("show", "1").out
    assert world.skill() == text
