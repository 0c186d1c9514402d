"""The workflow files as they run, with Ratchet's own action: jobs, artifacts, tokens, conditions.

What single commands do is tested elsewhere; here it is that the files put them together rightly.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from act import ACTION, KEY, Act
from fakehub import FakeHub
from skill_ratchet.base import sandbox
from skill_ratchet.cases.correction_text import LABELS
from skill_ratchet.project import workflows
from skill_ratchet.project.config import load
from skill_ratchet.project.proposal import FIXTURES
from world import CASES, SEALED, SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.full
EDITED = f"{SKILL_TEXT}Rule alpha.\n"
RUN = ("Plan", "Propose (triage)", "Confirm (triage)", "Publish")
MANUAL = {"gate": {"merge": "manual"}}
SCHEDULE = ("ratchet.yml", "schedule", {"schedule": "23 4 * * *"})

# A harness that also says whether a held-out case is on the disk, or among git's objects. It is let
# out, so that what it says is about the checkout.
PROBE = f"""
cd "$GITHUB_WORKSPACE"
place=$ACT_ARTIFACTS/../seen-$GITHUB_JOB
word={SEALED[:2]}''{SEALED[2:]} # which this file does not have
grep -rq --exclude-dir=.git $word . && echo disk >> "$place"
git cat-file --batch-all-objects --batch | grep -aq $word && echo objects >> "$place"
echo looked >> "$place"
grep -q 'Rule alpha' "$RATCHET_SKILL" && echo yes || echo no
"""
HARNESS: dict[str, Any] = {
    "provider": {"type": "command", "command": ["sh", "probe.sh"], "deterministic": True},
    "meta": {"turns": 1, "provider": "scripted"},
    "sealed": "trust",
}
# Answers well if it finds nothing of the checkout.
SHUT_IN = """
[ -e "$GITHUB_WORKSPACE/ratchet.yml" ] || [ -e "$GITHUB_WORKSPACE/.git" ] || ls "$RUNNER_TEMP/"* &&
  echo no && exit
grep -q 'Rule alpha' "$RATCHET_SKILL" && echo yes || echo no
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Act]]:
    """A repository on GitHub that has the workflows, and act to run them."""
    made: list[Act] = []

    def build(shards: int = 1, **project: Any) -> Act:
        start = World.make(tmp_path / "start", **project)
        config = load((start.path / "ratchet.yml").read_text())
        files = workflows.render(config, action=ACTION, prefix="", shards=shards)
        for path, content in files.items():
            start.write(path, content.decode())
        start.write("probe.sh", PROBE)
        start.write("shut_in.sh", SHUT_IN)
        start.commit("run on GitHub")
        bare = tmp_path / "bare.git"
        subprocess.run(
            ["git", "clone", "--quiet", "--bare", str(start.path), str(bare)], check=True
        )
        hub = FakeHub(bare)
        hub.__enter__()
        act = Act(hub, tmp_path / "act", token=hub.actions_token())
        made.append(act)
        return act

    yield build
    for act in made:
        told = act.hub.world()
        violations = act.hub.violations
        act.hub.__exit__(None, None, None)
        assert violations == []
        assert KEY not in told
        assert SEALED not in told


def ledger(act: Act) -> list[str]:
    """What became of the experiments that the published ledger knows, newest first."""
    path = act.folder / "look"
    if not path.exists():
        url = act.hub.clone_url_for(act.token)
        subprocess.run(["git", "clone", "--quiet", url, str(path)], check=True)
    World(path).git("fetch", "--quiet", "origin", "+refs/heads/ratchet/*:refs/heads/ratchet/*")
    return [row["state"] for row in World(path).ratchet("log", "--json").json]


def test_a_scheduled_run_ends_in_a_merge(make: Callable[..., Act]) -> None:
    """And the job that asks for edits could not have seen a held-out case, wherever it looked."""
    act = make(config=HARNESS)

    done = act.run(*SCHEDULE)

    assert done.jobs == dict.fromkeys(RUN, "success"), done.log
    assert act.hub.read("main", SKILL) == EDITED
    pull = act.hub.issue(1).pull
    assert pull
    assert pull.merged_at
    assert ledger(act) == ["merged"]
    assert KEY not in done.log
    seen = {job: set(act.file(f"seen-{job}").split()) for job in ("propose", "confirm")}
    assert seen == {"propose": {"looked"}, "confirm": {"looked", "disk", "objects"}}


@pytest.mark.skipif(not sandbox.can_enclose(), reason="programs cannot be enclosed here")
def test_programs_in_a_job_find_nothing_of_the_checkout(make: Callable[..., Act]) -> None:
    """Each job has that proved first; see test_workflows for how a runner is set up."""
    shut_in = {"provider": HARNESS["provider"] | {"command": ["sh", "shut_in.sh"]}}
    act = make(config=HARNESS | shut_in | {"sealed": "require"})

    done = act.run(*SCHEDULE)

    assert ledger(act) == ["merged"], done.log
    for job in ("Propose (triage)", "Confirm (triage)"):
        assert "Programs find no held-out case" in done.said(job)


def test_a_scheduled_run_ends_in_a_rejection(make: Callable[..., Act]) -> None:
    """Nobody is bothered; the next run knows of it."""
    act = make(model=script([idea(1, "Rule alpha.")], right={"alpha": CASES["train"]}))

    done = act.run(*SCHEDULE)

    assert done.jobs == dict.fromkeys(RUN, "success"), done.log
    assert act.hub.read("main", SKILL) == SKILL_TEXT
    assert act.hub.tip("ratchet/triage") is None
    assert "pull request" not in act.hub.world()
    (state,) = ledger(act)
    assert state.startswith("reject")


def test_a_comment_starts_a_run_that_answers_it(make: Callable[..., Act]) -> None:
    """The comment's workflow starts the other one, with inputs that it has."""
    act = make()
    issue = act.hub.person_opens_issue("dora", "Ideas")

    asked = act.comment("dora", issue, "/ratchet run triage")

    assert asked.jobs == {"Command": "success"}, asked.log
    (started,) = act.hub.dispatches
    assert (started.workflow, started.ref) == ("ratchet.yml", "main")
    assert started.inputs["skill"] == "triage"
    assert started.inputs["reply"].startswith(f"{issue}/")
    assert KEY not in asked.log


def test_a_person_s_pull_request_is_tested(make: Callable[..., Act]) -> None:
    """Its head gets the status, it gets one comment, and a person merges it."""
    act = make()
    sha = act.hub.person_pushes("dora", "idea", {SKILL: EDITED})
    number = act.hub.person_opens_pull("dora", head="idea", title="Idea")

    done = act.run("ratchet-gate.yml", "pull_request", act.pull_facts(number))

    assert done.jobs == {"Test": "success", "Say what came of it": "success"}, done.log
    assert act.status(sha) == "success"
    assert len(act.hub.comments(number)) == 1
    assert act.hub.issue(number).state == "open"
    assert act.hub.read("main", SKILL) == SKILL_TEXT
    assert KEY not in done.log


def fork(act: Act) -> tuple[str, str, dict[str, Any]]:
    act.hub.person_pushes("dora", "idea", {SKILL: EDITED}, fork=True)
    number = act.hub.person_opens_pull("dora", head="dora:idea", title="Idea")
    return "ratchet-gate.yml", "pull_request", act.pull_facts(number)


def own_branch(act: Act) -> tuple[str, str, dict[str, Any]]:
    act.hub.person_pushes("dora", "ratchet/triage", {SKILL: EDITED})
    number = act.hub.person_opens_pull("dora", head="ratchet/triage", title="Idea")
    return "ratchet-gate.yml", "pull_request", act.pull_facts(number)


def other_base(act: Act) -> tuple[str, str, dict[str, Any]]:
    act.hub.person_pushes("dora", "develop", {"README.md": "new\n"})
    act.hub.person_pushes("dora", "idea", {SKILL: EDITED})
    number = act.hub.person_opens_pull("dora", head="idea", base="develop", title="Idea")
    return "ratchet-gate.yml", "pull_request", act.pull_facts(number)


def draft(act: Act) -> tuple[str, str, dict[str, Any]]:
    act.hub.person_pushes("dora", "idea", {SKILL: EDITED})
    number = act.hub.person_opens_pull("dora", head="idea", title="Idea")
    facts = act.pull_facts(number)
    facts["pull_request"]["draft"] = True
    return "ratchet-gate.yml", "pull_request", facts


def dependabot(act: Act) -> tuple[str, str, dict[str, Any]]:
    act.hub.person_pushes("dora", "idea", {SKILL: EDITED})
    number = act.hub.person_opens_pull("dora", head="idea", title="Bump")
    facts = act.pull_facts(number)
    facts["pull_request"]["user"]["login"] = "dependabot[bot]"
    return "ratchet-gate.yml", "pull_request", facts


@pytest.mark.parametrize(
    "event",
    [fork, own_branch, other_base, draft, dependabot],
    ids=lambda one: one.__name__,
)
def test_pull_requests_that_are_not_tested_by_themselves(
    make: Callable[..., Act], event: Callable[[Act], tuple[str, str, dict[str, Any]]]
) -> None:
    act = make()
    done = act.run(*event(act))
    assert (done.code, done.jobs) == (0, {}), done.log


@pytest.mark.parametrize(
    ("body", "user"),
    [("Nice work.", {}), ("/ratchet run", {"type": "Bot"}), ("/ratchetrun", {"type": "Bot"})],
)
def test_comments_that_cost_no_runner(
    make: Callable[..., Act], body: str, user: dict[str, str]
) -> None:
    act = make()
    issue = act.hub.person_opens_issue("dora", "Ideas")
    done = act.comment("dora", issue, body, **user)
    assert (done.code, done.jobs) == (0, {}), done.log


def test_a_review_of_a_person_s_branch_costs_no_runner(make: Callable[..., Act]) -> None:
    act = make()
    act.hub.person_pushes("dora", "idea", {SKILL: EDITED})
    number = act.hub.person_opens_pull("dora", head="idea", title="Idea")
    act.hub.add_user("eve")
    done = act.review("eve", number, "APPROVE")
    assert (done.code, done.jobs) == (0, {}), done.log


def test_a_confirm_run_that_four_machines_share(make: Callable[..., Act]) -> None:
    """Ends as that of one; each has the key and reads alone, and each case is one machine's."""
    act = make(config=HARNESS, shards=4, cases=CASES | {"holdout": ("h1", "h2", "h3", "h4", "h5")})
    shards = [f"Shard {nth} of 4 (triage)-{nth}" for nth in (1, 2, 3, 4)]  # so act calls them

    done = act.run(*SCHEDULE)

    assert done.jobs == dict.fromkeys((*RUN, *shards), "success"), done.log
    assert act.hub.read("main", SKILL) == EDITED
    assert ledger(act) == ["merged"]
    assert KEY not in done.log
    asked = act.file("seen-shard").split().count("looked")
    assert (asked, (act.folder / "run1" / "seen-confirm").exists()) == (2 * 5, False)
    look = World(act.folder / "look").ledger()
    assert [one.attempt for one in look.confirmations()] == [1]
    held_out = list(look.traces(split="holdout"))
    assert len(held_out) == 2 * 5
    spent = [run for run in look.spent_by_runs() if run.job == "confirm"]
    assert sorted(run.calls for run in spent) == [0, 2, 2, 2, 4]


def test_nothing_is_due(make: Callable[..., Act]) -> None:
    """Then nothing is asked of a model, and what is open is looked at all the same."""
    act = make()
    act.hub.person_pushes("dora", "main", {".ratchet-hold": ""})

    done = act.run(*SCHEDULE)

    assert done.jobs == {"Plan": "success", "Publish": "success"}, done.log
    assert act.hub.read("main", SKILL) == SKILL_TEXT


def test_a_model_that_fails_loses_nothing(make: Callable[..., Act]) -> None:
    """The run is red, and the ledger has what was tried."""
    act = make(model=json.dumps({"deterministic": True, "responses": []}))

    done = act.run(*SCHEDULE)

    assert done.code == 1
    assert done.jobs == {
        "Plan": "success",
        "Propose (triage)": "failure",
        "Confirm (triage)": "success",
        "Publish": "success",
    }, done.log
    assert act.hub.tip("ratchet/ledger")
    assert act.hub.read("main", SKILL) == SKILL_TEXT


def test_an_app_speaks_where_there_is_one(make: Callable[..., Act]) -> None:
    act = make()
    done = act.run(
        *SCHEDULE,
        variables={"RATCHET_APP_CLIENT_ID": "Iv23"},
        secrets={"RATCHET_APP_PRIVATE_KEY": "-----BEGIN-----"},
    )
    assert done.jobs == dict.fromkeys(RUN, "success"), done.log
    assert act.hub.read("main", SKILL) == EDITED
    assert act.hub.issue(1).user.login == "dora"  # whose token the test's App gives


def test_several_skills_at_once(make: Callable[..., Act]) -> None:
    """One artifact lies in its folder as several do; the ledger takes up both."""
    act = make(config={"skills": {"triage": {"scorer": "label"}, "other": {"scorer": "label"}}})
    other = SKILL.replace("triage", "other")
    cases = {f"fixtures/other/{split}/{name}.yml": case_of(name, split) for split in CASES
             for name in CASES[split]}  # fmt: skip
    act.hub.person_pushes("dora", "main", {other: SKILL_TEXT.replace("triage", "other"), **cases})

    done = act.run(*SCHEDULE)

    assert done.code == 0, done.log
    assert len(done.jobs) == 6
    assert act.hub.read("main", SKILL) == EDITED
    assert (act.hub.read("main", other) or "").endswith("Rule alpha.\n")


def case_of(name: str, split: str) -> str:
    return json.dumps({"input": f"Is it {name} ({SEALED if split == 'holdout' else 'no'})?",
                       "expected": "yes"})  # fmt: skip


def test_a_pull_request_from_a_fork_is_tested_when_a_person_says_so(
    make: Callable[..., Act],
) -> None:
    """At the commit that they have looked at."""
    act = make()
    sha = act.hub.person_pushes("dora", "idea", {SKILL: f"{SKILL_TEXT}Rule beta.\n"}, fork=True)
    number = act.hub.person_opens_pull("dora", head="dora:idea", title="Idea")
    asked = act.comment("dora", number, f"/ratchet gate {sha}")
    assert asked.jobs == {"Command": "success"}, asked.log

    done = act.dispatched()

    assert done.jobs == {"Test": "success", "Say what came of it": "success"}, done.log
    assert act.status(sha) == "failure"


def test_a_pull_request_that_edits_no_skill_may_be_merged(make: Callable[..., Act]) -> None:
    act = make()
    sha = act.hub.person_pushes("dora", "idea", {"README.md": "new\n"})
    number = act.hub.person_opens_pull("dora", head="idea", title="Idea")

    done = act.run("ratchet-gate.yml", "pull_request", act.pull_facts(number))

    assert done.jobs == {"Test": "success", "Say what came of it": "success"}, done.log
    assert act.status(sha) == "success"


def test_a_transfer_is_asked_for_and_answered(make: Callable[..., Act]) -> None:
    """From the comment to the table, on a pull request of Ratchet's."""
    act = make(config=MANUAL)
    act.run(*SCHEDULE)
    number = next(one for one in (1, 2) if act.hub.issue(one).pull)
    before = len(act.hub.comments(number))
    asked = act.comment("dora", number, "/ratchet transfer this,that")
    assert asked.jobs == {"Command": "success"}, asked.log

    done = act.dispatched()

    assert done.jobs == {"Transfer": "success", "Say what came of it": "success"}, done.log
    comments = [one.body for one in act.hub.comments(number)]
    assert len(comments) == before + 2
    assert "The new text is better on all 2 models." in comments[-1]
    assert act.hub.issue(number).state == "open"
    assert act.hub.read("main", SKILL) == SKILL_TEXT
    assert KEY not in done.log


def test_measuring_only(make: Callable[..., Act]) -> None:
    """``/ratchet eval``, up to its answer."""
    act = make()
    issue = act.hub.person_opens_issue("dora", "Ideas")
    assert act.comment("dora", issue, "/ratchet eval").jobs == {"Command": "success"}

    done = act.dispatched()

    assert done.jobs == dict.fromkeys(RUN, "success"), done.log
    assert act.hub.read("main", SKILL) == SKILL_TEXT
    assert ledger(act) == []
    assert len(act.hub.comments(issue)) == 2


def test_commands_about_a_proposal_that_waits(make: Callable[..., Act]) -> None:
    """One after another, as a person would give them; each has one answer."""
    act = make(config=MANUAL)
    act.run(*SCHEDULE)
    number = next(one for one in (1, 2) if act.hub.issue(one).pull)
    for said in ("help", "status", "explain", "hold", "resume", "retry", "correct Say no.", "walk"):
        before = len(act.hub.comments(number))
        done = act.comment("dora", number, f"/ratchet {said}")
        assert done.jobs == {"Command": "success"}, done.log
        assert len(act.hub.comments(number)) == before + 2, said
    assert act.hub.issue(number).state == "open"

    merged = act.comment("dora", number, "/ratchet merge")

    assert merged.jobs == {"Command": "success"}, merged.log
    assert act.hub.read("main", SKILL) == EDITED
    assert ledger(act) == ["merged"]
    rows = World(act.folder / "look").ratchet("log", "--json").json
    act.comment("dora", number, f"/ratchet revert {rows[0]['id'][:12]}")
    assert act.hub.read("main", SKILL) == SKILL_TEXT


@pytest.mark.parametrize("how", ["command", "review"])
def test_a_proposal_is_rejected(make: Callable[..., Act], how: str) -> None:
    act = make(config=MANUAL)
    act.run(*SCHEDULE)
    number = next(one for one in (1, 2) if act.hub.issue(one).pull)
    if how == "command":
        done = act.comment("dora", number, "/ratchet reject It is too curt.")
        assert act.hub.issue(number).state == "closed"
    else:
        done = act.review("dora", number, "REQUEST_CHANGES", "It is too curt.")
        assert act.hub.issue(number).state == "open"  # a review holds it
    url = act.hub.clone_url_for(act.token)
    subprocess.run(["git", "clone", "--quiet", url, str(act.folder / "look")], check=True)
    assert "It is too curt." in World(act.folder / "look").told("origin/ratchet/ledger")
    assert done.jobs == {"Command": "success"}, done.log
    assert act.hub.read("main", SKILL) == SKILL_TEXT


def test_a_correction_by_comment_and_by_form(make: Callable[..., Act]) -> None:
    """Both wait in one pull request; an issue that is no form costs no runner."""
    act = make(config={"feedback": {"ratio": 1.0}})
    assert act.issue("dora", "It is wrong.").jobs == {}
    said = act.comment("dora", 1, "/ratchet correct\nInput: My card is gone\nExpected: yes")
    assert said.jobs == {"Command": "success"}, said.log
    values = ("How do I pay in euros?", "no", "yes", "It is.")
    fields = zip(list(LABELS)[1:], values, strict=True)
    form = [
        "### Skill\n\ntriage",
        *(f"### {name}\n\n```text\n{text}\n```" for name, text in fields),
    ]
    opened = act.issue("dora", "\n\n".join(form))
    assert opened.jobs == {"Command": "success"}, opened.log
    lines = act.hub.read(FIXTURES, "fixtures/triage/train/corrections.jsonl") or ""
    asked = [json.loads(line)["input"] for line in lines.splitlines()]
    assert asked == ["My card is gone", "How do I pay in euros?"]
    assert act.hub.issue(2).title == "Fixtures: 2 new cases"
