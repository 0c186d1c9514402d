"""The action and the workflow files: who may do what in them, and that two linters find nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases.correction_text import LABELS
from skill_ratchet.github.commands import BRAKES, PEDALS, SYNONYMS
from skill_ratchet.project import workflows
from skill_ratchet.project.config import load

ROOT = Path(__file__).parents[2]
ACTION = f"octo/ratchet@{'0123456789' * 4}"
CONFIG = "skills:\n  triage:\n    scorer: label\n"
RENDERED = {
    Path(path).name: content.decode()
    for path, content in workflows.render(load(CONFIG), action=ACTION, prefix="").items()
}
FILES = {name: text for name, text in RENDERED.items() if name != workflows.FORM}
CI = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
JOBS = {
    ("ratchet.yml", "plan"): {"contents": "read", "issues": "read", "pull-requests": "read"},
    ("ratchet.yml", "propose"): {"contents": "read"},
    ("ratchet.yml", "confirm"): {"contents": "read"},
    ("ratchet.yml", "publish"): {
        "contents": "write",
        "issues": "write",
        "pull-requests": "write",
        "statuses": "write",
    },
    ("ratchet-gate.yml", "test"): {"contents": "read", "pull-requests": "read"},
    ("ratchet-gate.yml", "say"): {
        "contents": "write",
        "pull-requests": "write",
        "statuses": "write",
    },
    ("ratchet-transfer.yml", "transfer"): {"contents": "read"},
    ("ratchet-transfer.yml", "tell"): {
        "contents": "write",
        "issues": "write",
        "pull-requests": "write",
    },
    ("ratchet-command.yml", "command"): {
        "actions": "write",
        "contents": "write",
        "issues": "write",
        "pull-requests": "write",
        "statuses": "write",
    },
    ("ratchet-watch.yml", "watch"): {
        "contents": "write",
        "issues": "read",
        "pull-requests": "write",
        "statuses": "write",
    },
    ("ratchet-pages.yml", "report"): {"contents": "read"},
    ("ratchet-pages.yml", "deploy"): {"id-token": "write", "pages": "write"},
}
DEPLOY = ("ratchet-pages.yml", "deploy")
OURS = tuple(name for name in JOBS if name != DEPLOY)  # jobs that run Ratchet
WITH_KEY = {
    ("ratchet.yml", "propose"),
    ("ratchet.yml", "confirm"),
    ("ratchet-gate.yml", "test"),
    ("ratchet-transfer.yml", "transfer"),
}


class _Yaml12(yaml.SafeLoader):
    """``on`` is a key, as it is for GitHub, and not the boolean of YAML 1.1."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [(tag, match) for tag, match in found if tag != "tag:yaml.org,2002:bool"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def parsed(text: str) -> Any:
    # A loader of plain data.
    return yaml.load(text, Loader=_Yaml12)  # noqa: S506


def steps(document: Any) -> list[dict[str, Any]]:
    """Every step of an action or of all jobs of a workflow."""
    if "runs" in document:
        return list(document["runs"]["steps"])
    return [step for job in document["jobs"].values() for step in job["steps"]]


def job(name: tuple[str, str]) -> Any:
    return parsed(FILES[name[0]])["jobs"][name[1]]


def everything() -> dict[str, str]:
    action = (ROOT / "action.yml").read_text("utf-8")
    return {"action.yml": action, "ci.yml": CI, **FILES}


def test_this_repository_runs_what_init_writes() -> None:
    """Its own workflows are the templates, with the action it brings; two are its own alone."""
    config = load((ROOT / "ratchet.yml").read_text("utf-8"))
    rendered = workflows.render(config, action=workflows.choose_action(None, ROOT), prefix="")
    there = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for folder in (workflows.FOLDER, workflows.FORMS)
        for path in (ROOT / folder).iterdir()
    }
    release = ".github/workflows/release.yml"  # see test_release
    own = {".github/workflows/ci.yml": CI.encode(), release: (ROOT / release).read_bytes()}
    assert there == {**rendered, **own}


def test_every_job_has_the_permissions_that_are_written_here() -> None:
    """And nothing has any by default."""
    found = {
        (name, job): facts["permissions"]
        for name, text in FILES.items()
        for job, facts in parsed(text)["jobs"].items()
    }
    assert found == JOBS
    assert [parsed(text)["permissions"] for text in (CI, *FILES.values())] == [{}] * (
        1 + len(FILES)
    )
    assert parsed(CI)["jobs"]["test"]["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("name", JOBS, ids="/".join)
def test_no_job_has_both_a_model_key_and_the_right_to_write(name: tuple[str, str]) -> None:
    found = re.findall(r"secrets\.(\w+)", str(job(name)))
    writes = "write" in JOBS[name].values() and name != DEPLOY
    assert (
        found == ["ANTHROPIC_API_KEY"] * (name in WITH_KEY) + ["RATCHET_APP_PRIVATE_KEY"] * writes
    )
    assert len(found) <= 1


@pytest.mark.parametrize("name", sorted(WITH_KEY), ids="/".join)
def test_a_key_is_given_to_one_step_alone(name: tuple[str, str]) -> None:
    """Not to the job, where other people's actions would have it, too."""
    assert "env" not in job(name)
    assert "env" not in parsed(FILES[name[0]])
    (step,) = (step for step in job(name)["steps"] if "secrets." in str(step))
    assert step["uses"] == ACTION
    assert "secrets." not in str(step["with"])


def test_the_proposer_sees_no_held_out_case() -> None:
    """What git writes to the disk in its job, tried with git."""
    checkout = job(("ratchet.yml", "propose"))["steps"][0]["with"]
    assert checkout["sparse-checkout"].split() == [
        "/*",
        "!/fixtures/*/holdout/",
        "!/fixtures/*/vault/",
    ]
    assert (checkout["filter"], checkout["sparse-checkout-cone-mode"]) == ("blob:none", "false")
    others = [name for name in JOBS if name != ("ratchet.yml", "propose")]
    assert [name for name in others if "sparse" in str(job(name))] == []


@pytest.mark.parametrize(
    ("settings", "prefix", "hidden", "seen"),
    [
        ("a: {}", "", ["fixtures/a/holdout/1.yml", "fixtures/later/vault/1.yml"], []),
        ("a: {fixtures: cases}", "", ["cases/holdout/x/1.yml"], ["cases/train/1.yml"]),
        ("a: {fixtures: 'c[1]*'}", "", ["c[1]*/holdout/1.yml"], ["c1x/holdout/1.yml"]),
        ("a: {fixtures: cases}", "sub/", ["sub/cases/vault/1.yml"], ["cases/vault/1.yml"]),
        ("a: {}", "my [sub]/", ["my [sub]/fixtures/a/holdout/1.yml"], ["fixtures/a/holdout/1"]),
    ],
)
def test_the_patterns_hide_the_held_out_folders_and_nothing_else(
    tmp_path: Path, settings: str, prefix: str, hidden: list[str], seen: list[str]
) -> None:
    """As git understands them."""
    made = workflows.render(load(f"skills:\n  {settings}\n"), action=ACTION, prefix=prefix)
    text = made[".github/workflows/ratchet.yml"].decode()
    checkout = parsed(text)["jobs"]["propose"]["steps"][0]["with"]
    seen = [*seen, "README.md", f"{prefix}skills/a/SKILL.md", f"{prefix}fixtures/a/train/1.yml"]
    for path in (*hidden, *seen):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("text\n")
    for line in (["init", "-q"], ["add", "."], ["commit", "-qm", "start"]):
        subprocess.run(["git", *line], cwd=tmp_path, check=True)
    subprocess.run(["git", "config", "core.sparseCheckout", "true"], cwd=tmp_path, check=True)
    (tmp_path / ".git/info").mkdir(exist_ok=True)
    (tmp_path / ".git/info/sparse-checkout").write_text(f"\n{checkout['sparse-checkout']}\n")
    subprocess.run(["git", "read-tree", "-mu", "HEAD"], cwd=tmp_path, check=True)
    assert [path for path in hidden if (tmp_path / path).exists()] == []
    assert [path for path in seen if not (tmp_path / path).exists()] == []


@pytest.mark.parametrize("name", everything())
def test_what_others_wrote_is_pinned_and_said_which(name: str) -> None:
    """By a commit, with the version as a comment; and one action has one version everywhere."""
    lines = re.findall(r"^\s*(?:- )?uses: (.+)$", everything()[name], re.MULTILINE)
    assert lines
    for line in lines:
        assert line == ACTION or re.fullmatch(
            r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line
        ), line
    versions = set(re.findall(r"uses: (actions/\S+)", "".join(everything().values())))
    assert len(versions) == len({version.partition("@")[0] for version in versions})


@pytest.mark.parametrize("name", everything())
def test_no_text_of_an_event_is_part_of_a_script(name: str) -> None:
    found = steps(parsed(everything()[name]))
    assert [step for step in found if "${{" in step.get("run", "")] == []
    assert [step for step in found if step.get("shell", "bash") != "bash"] == []


def test_the_triggers() -> None:
    """Never one that gives a pull request's code the repository's secrets."""
    triggers = {name: parsed(text)["on"] for name, text in {**FILES, "ci.yml": CI}.items()}
    assert {name: set(found) for name, found in triggers.items()} == {
        "ratchet.yml": {"schedule", "workflow_dispatch"},
        "ratchet-gate.yml": {"pull_request", "workflow_dispatch"},
        "ratchet-transfer.yml": {"workflow_dispatch"},
        "ratchet-command.yml": {"issue_comment", "issues", "pull_request_review"},
        "ratchet-watch.yml": {
            "issues",
            "merge_group",
            "pull_request",
            "pull_request_review",
            "push",
        },
        "ratchet-pages.yml": {"schedule", "workflow_dispatch"},
        "ci.yml": {"push", "pull_request"},
    }
    (schedule,) = triggers["ratchet.yml"]["schedule"]
    assert int(schedule["cron"].split()[0]) % 60 != 0
    assert set(triggers["ratchet.yml"]["workflow_dispatch"]["inputs"]) == {
        "skill",
        "attempts",
        "reply",
    }
    assert set(triggers["ratchet-gate.yml"]["workflow_dispatch"]["inputs"]) == {
        "pull",
        "sha",
        "reply",
    }
    assert set(triggers["ratchet-transfer.yml"]["workflow_dispatch"]["inputs"]) == {
        "skill",
        "models",
        "to",
        "reply",
    }
    assert triggers["ratchet-command.yml"]["issue_comment"] == {"types": ["created"]}
    assert triggers["ratchet-command.yml"]["pull_request_review"] == {"types": ["submitted"]}
    assert triggers["ratchet-command.yml"]["issues"] == {"types": ["opened"]}


def test_the_issue_form_is_what_ratchet_reads() -> None:
    """Its labels are known, in its order, and what is written comes into code blocks."""
    config = load("skills:\n  b: {scorer: label}\n  a: {scorer: label}\n")
    made = workflows.render(config, action=ACTION, prefix="")
    form = yaml.safe_load(made[f"{workflows.FORMS}/{workflows.FORM}"])
    fields = [one for one in form["body"] if one["type"] != "markdown"]
    assert [one["attributes"]["label"] for one in fields] == list(LABELS)
    skill, *texts = fields
    assert (skill["type"], skill["attributes"]["options"]) == ("dropdown", ["a", "b"])
    assert {(one["type"], one["attributes"]["render"]) for one in texts} == {("textarea", "text")}
    needed = {one["id"] for one in fields if one.get("validations", {}).get("required")}
    assert needed == {"skill", "input", "expected"}


def test_only_issues_of_the_form_cost_a_runner() -> None:
    condition = parsed(FILES["ratchet-command.yml"])["jobs"]["command"]["if"]
    label = next(name for name, section in LABELS.items() if section == "expected")
    assert f"contains(github.event.issue.body, '### {label}')" in condition


@pytest.mark.parametrize("name", OURS, ids="/".join)
def test_every_job_ends_and_keeps_no_credentials(name: tuple[str, str]) -> None:
    facts = job(name)
    assert 0 < int(facts["timeout-minutes"]) <= 180
    (checkout,) = (one for one in facts["steps"] if "actions/checkout@" in one["uses"])
    assert checkout["with"]["persist-credentials"] == "false"
    # The whole history is every branch, and the report must not have ratchet/holdout. What is due
    # is told by the tip of the branch, and by what runs have cost.
    shallow = name[0] == "ratchet-pages.yml" or name == ("ratchet.yml", "plan")
    assert checkout["with"]["fetch-depth"] == (1 if shallow else 0)


def test_the_site_is_made_only_where_somebody_asked_for_it() -> None:
    """By a variable, as a site is public; then by jobs of which one reads and one deploys."""
    report, deploy = job(("ratchet-pages.yml", "report")), job(DEPLOY)
    assert report["if"] == "vars.RATCHET_PAGES == 'true'"
    assert (deploy["needs"], "if" in deploy) == ("report", False)  # skipped with it
    assert 0 < int(deploy["timeout-minutes"]) <= 180
    assert "secrets." not in FILES["ratchet-pages.yml"]
    assert "github.token" not in FILES["ratchet-pages.yml"]
    checkout, ours, upload = report["steps"]
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    assert ours["with"]["out"] == upload["with"]["path"]
    assert ours["with"]["extras"] == "report"
    assert [step["uses"].partition("@")[0] for step in deploy["steps"]] == ["actions/deploy-pages"]
    assert deploy["environment"]["name"] == "github-pages"


def test_the_site_is_made_after_the_run_it_shows() -> None:
    """Not by 'workflow_run', whose jobs have rights that the run it follows may lack."""
    crons = [
        parsed(FILES[name])["on"]["schedule"][0]["cron"].split()
        for name in ("ratchet.yml", "ratchet-pages.yml")
    ]
    (minute, hour), (later_minute, later_hour) = (map(int, cron[:2]) for cron in crons)
    assert 60 * hour + minute + 180 < 60 * later_hour + later_minute  # what one job may take
    assert later_minute != 0


def line_of(login: str, body: str = "/ratchet help", **event: Any) -> str:
    """The line that a comment, a review or an issue waits in: the expression, read as Python."""
    group = job(("ratchet-command.yml", "command"))["concurrency"]["group"]
    before, told = group.removesuffix(" }}").split("${{")
    event = {"comment": {"body": body, "author_association": "NONE"}} | event
    found = {"event": event | {"sender": {"login": login}}}

    def value(at: re.Match[str]) -> str:
        part: Any = found
        for step in at[0].split(".")[1:]:
            part = part.get(step, {})
        return repr(part or "")

    def contains(where: Any, what: str) -> bool:
        return what.casefold() in (
            where.casefold() if isinstance(where, str) else map(str.casefold, where)
        )

    told = re.sub(r"github(?:\.\w+)+", value, told).replace("&&", " and ").replace("||", " or ")
    names = {
        "contains": contains,
        "fromJSON": json.loads,
        "format": lambda text, *of: text.format(*of),
    }
    return f"{before}{eval(f'({told})', {'__builtins__': {}}, names)}"  # noqa: S307 - our own file


def test_nobodys_comments_are_in_the_way_of_what_stops_a_merge() -> None:
    """A line has room for a hundred, and takes one after the other."""
    outsider, owner = {"author_association": "NONE"}, {"author_association": "OWNER"}
    spam = {line_of("eve", body) for body in ("/ratchet help", "/ratchet hold", "/ratchet merge")}
    hold = line_of("keeper", comment=owner | {"body": "/ratchet hold"})
    assert hold == "ratchet-command-brake-keeper"
    assert hold not in spam
    team = line_of("keeper", comment=owner | {"body": "/ratchet merge"})
    assert (
        team == line_of("other", comment=owner | {"body": "/ratchet run"}) == "ratchet-command-team"
    )
    assert team not in spam
    hidden = line_of(
        "private", comment=outsider | {"body": "/ratchet merge"}
    )  # who does not show it
    assert hidden == "ratchet-command-by-private"
    assert hidden not in spam


def test_every_brake_has_a_line_of_its_own() -> None:
    owner = {"author_association": "OWNER"}
    for word in (*BRAKES, *SYNONYMS, "do not merge", "don't merge", "never run", "no merge"):
        body = f"Hm.\n\n/ratchet {word.upper()} it"
        assert line_of("keeper", comment=owner | {"body": body}) == "ratchet-command-brake-keeper"
    for word in sorted(PEDALS):
        body = f"/ratchet {word}"
        assert line_of("keeper", comment=owner | {"body": body}) == "ratchet-command-team"
    review = {"state": "changes_requested", "author_association": "OWNER"}
    assert line_of("keeper", comment={}, review=review) == "ratchet-command-brake-keeper"
    approval = {"state": "approved", "author_association": "OWNER"}
    assert line_of("keeper", comment={}, review=approval) == "ratchet-command-team"
    assert line_of("eve", comment={}, issue={"author_association": "NONE"}).endswith("by-eve")


def test_nothing_that_may_write_is_stopped_half_way() -> None:
    """And no command and no run that somebody asked for is dropped while it waits."""
    group = {name: parsed(text).get("concurrency") for name, text in FILES.items()}
    command = job(("ratchet-command.yml", "command"))["concurrency"]
    assert group["ratchet-command.yml"] is None  # or comments that are skipped would wait in line
    assert group["ratchet.yml"] | {"group": ""} == command | {"group": ""}
    assert group["ratchet-transfer.yml"] | {"group": ""} == command | {"group": ""}
    assert (command["cancel-in-progress"], command["queue"]) == ("false", "max")
    assert group["ratchet-gate.yml"]["cancel-in-progress"] == "false"
    assert group["ratchet-pages.yml"]["cancel-in-progress"] == "false"
    watch = job(("ratchet-watch.yml", "watch"))["concurrency"]
    assert watch["group"].startswith("ratchet-watch")  # behind no command
    assert watch["cancel-in-progress"] == "false"


@pytest.mark.parametrize(
    ("name", "artifact"),
    [
        (("ratchet.yml", "propose"), "ratchet-proposal-${{ matrix.skill }}"),
        (("ratchet.yml", "confirm"), "ratchet-confirmation-${{ matrix.skill }}"),
        # These may be missing: see the templates.
        (("ratchet-gate.yml", "test"), "ratchet-gate"),
        (("ratchet-transfer.yml", "transfer"), "ratchet-transfer"),
    ],
)
def test_what_was_tried_is_handed_on_in_any_case(name: tuple[str, str], artifact: str) -> None:
    (upload,) = (one for one in job(name)["steps"] if "upload-artifact@" in one["uses"])
    assert upload["if"] == "${{ !cancelled() }}"
    given = upload["with"]
    missing = "error" if name[0] == "ratchet.yml" else "ignore"
    assert (given["name"], given["if-no-files-found"]) == (artifact, missing)
    assert 7 <= int(given["retention-days"]) <= 90


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        (("ratchet.yml", "confirm"), ["plan", "propose"]),
        (("ratchet.yml", "publish"), ["plan", "propose", "confirm"]),
        (("ratchet-gate.yml", "say"), "test"),
        (("ratchet-transfer.yml", "tell"), "transfer"),
    ],
)
def test_the_next_job_comes_also_after_a_failed_one(name: tuple[str, str], needs: Any) -> None:
    assert job(name)["needs"] == needs
    assert "!cancelled()" in job(name)["if"]


@pytest.mark.parametrize("name", OURS, ids="/".join)
def test_an_action_gets_inputs_that_it_has(name: tuple[str, str]) -> None:
    """And what a job says about itself is what it is given."""
    known = parsed((ROOT / "action.yml").read_text("utf-8"))["inputs"]
    (step,) = (one for one in job(name)["steps"] if one["uses"] == ACTION)
    assert set(step["with"]) <= set(known)
    commands = {
        "plan": "due",
        "test": "gate",
        "say": "gate",
        "tell": "transfer",
        "watch": "command",
    }
    assert step["with"]["command"] == commands.get(name[1], name[1])
    writes = "write" in JOBS[name].values()
    app = "${{ steps.app.outputs.token || github.token }}"
    assert step["with"].get("token") == (app if writes else None)


def with_shards(count: int) -> dict[str, str]:
    made = workflows.render(load(CONFIG), action=ACTION, prefix="", shards=count)
    return {Path(path).name: content.decode() for path, content in made.items()}


def test_shards_are_a_job_more_and_nothing_else() -> None:
    """So whatever is tested of the other jobs holds with shards, too."""
    alone, shared = RENDERED, with_shards(4)
    assert {name for name in alone if alone[name] != shared[name]} == {"ratchet.yml"}
    document = parsed(shared["ratchet.yml"])
    del document["jobs"]["shard"]
    confirm = document["jobs"]["confirm"]
    confirm["needs"].remove("shard")
    (taken,) = [
        one for one in confirm["steps"] if "shard" in str(one.get("with", {}).get("pattern"))
    ]
    confirm["steps"].remove(taken)
    assert taken["with"]["path"] == "${{ runner.temp }}/shards"
    del confirm["steps"][2]["with"]["from-shards"]
    assert document == parsed(alone["ratchet.yml"])


def test_a_shard_has_the_model_s_key_and_no_right_to_write() -> None:
    """The key in one step; what it hands in, in any case, under a name of its own."""
    facts = parsed(with_shards(4)["ratchet.yml"])["jobs"]["shard"]
    assert facts["permissions"] == {"contents": "read"}
    assert (facts["needs"], "env" in facts) == (["plan", "propose"], False)
    assert "!cancelled()" in facts["if"]
    assert 0 < int(facts["timeout-minutes"]) <= 180
    assert facts["strategy"]["fail-fast"] == "false"
    assert facts["strategy"]["matrix"]["shard"] == [1, 2, 3, 4]
    checkout, _, ours, upload = facts["steps"]
    assert checkout["with"]["persist-credentials"] == "false"
    assert re.findall(r"secrets\.(\w+)", str(facts)) == ["ANTHROPIC_API_KEY"]
    assert ("secrets." in str(ours), "secrets." in str(ours["with"])) == (True, False)
    known = parsed((ROOT / "action.yml").read_text("utf-8"))["inputs"]
    assert set(ours["with"]) <= set(known)
    assert (ours["with"]["command"], ours["with"]["shard"]) == ("confirm", "${{ matrix.shard }}/4")
    assert upload["if"] == "${{ !cancelled() }}"
    assert upload["with"]["name"] == "ratchet-shard-${{ matrix.shard }}-${{ matrix.skill }}"
    assert upload["with"]["path"] == "${{ runner.temp }}/shards"


@pytest.mark.parametrize("count", [1, 2, 12, 256])
def test_how_many_shards_there_are_is_read_in_the_file(count: int) -> None:
    assert workflows.shards_of(with_shards(count)["ratchet.yml"]) == count


@pytest.mark.parametrize(
    "text", ["", "shard: [1, 2]\n", "        shard: [2]\n", "  shard: [1, x]\n"]
)
def test_what_says_nothing_of_shards(text: str) -> None:
    assert workflows.shards_of(text) == 1


def test_an_app_may_do_what_the_job_may() -> None:
    """No more, and no less."""
    for name, permissions in JOBS.items():
        for step in job(name)["steps"]:
            if "create-github-app-token@" in step["uses"]:
                given = {
                    key.removeprefix("permission-"): value
                    for key, value in step["with"].items()
                    if key.startswith("permission-")
                }
                assert given == permissions
                assert step["if"] == "vars.RATCHET_APP_CLIENT_ID != ''"


@pytest.mark.parametrize("name", [("ratchet-gate.yml", "test"), ("ratchet-gate.yml", "say"),
                                  ("ratchet-transfer.yml", "transfer"),
                                  ("ratchet-transfer.yml", "tell"),
                                  ("ratchet-watch.yml", "watch"),
                                  ("ratchet-command.yml", "command")], ids="/".join)  # fmt: skip
def test_what_a_pull_request_brings_is_not_checked_out(name: tuple[str, str]) -> None:
    """GitHub's own choice for these events would be the pull request, merged."""
    checkout = job(name)["steps"][0]
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"


def test_the_action_describes_what_it_takes_and_gives() -> None:
    action = parsed((ROOT / "action.yml").read_text("utf-8"))
    assert action["runs"]["using"] == "composite"
    for name, facts in {**action["inputs"], **action["outputs"]}.items():
        assert len(facts["description"]) > 10, name
    assert set(action["outputs"]) == {
        "action",
        "reason",
        "experiment",
        "pull",
        "url",
        "skills",
        "usd",
    }
    script = action["runs"]["steps"][-1]
    used = set(re.findall(r"inputs\.([\w-]+)", str(action["runs"])))
    assert used == set(action["inputs"])
    variables = set(re.findall(r"\$\{?(GIVEN_\w+)", script["run"]))
    assert variables | {"GITHUB_TOKEN"} == set(script["env"])


def lint(*line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sysconfig.get_path("scripts")) / line[0]
    return subprocess.run(
        [str(program), *line[1:]], cwd=cwd, check=False, capture_output=True, text=True
    )


@pytest.fixture(params=["here", "elsewhere", "shards"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with workflow files: this repository's, or what init writes for another one."""
    if request.param == "here":
        (tmp_path / "action.yml").write_bytes((ROOT / "action.yml").read_bytes())
        made = {
            str(path.relative_to(ROOT)): path.read_bytes()
            for path in (ROOT / ".github/workflows").iterdir()
        }
    else:
        config = load("provider: local\nskills:\n  a: {fixtures: 'my cases'}\n  b: {}\n")
        shards = 4 if request.param == "shards" else 1
        made = workflows.render(config, action=ACTION, prefix="it's here/", shards=shards)
    for path, content in made.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


def test_zizmor_finds_nothing(files: Path) -> None:
    """Beyond what is ignored in the file, each with its reason."""
    done = lint("zizmor", "--offline", "--pedantic", "--no-progress", ".", cwd=files)
    assert done.returncode == 0, done.stdout + done.stderr
    for file in files.glob(".github/workflows/*"):
        for reason in re.findall(r"zizmor: ignore\[[\w-]+\](.*)", file.read_text("utf-8")):
            assert len(reason) > 20


def test_actionlint_finds_nothing(files: Path) -> None:
    found = sorted(str(path) for path in files.glob(".github/workflows/*"))
    # Its other linters are programs that are here on some machines only.
    done = lint("actionlint", "-oneline", "-shellcheck=", "-pyflakes=", *found, cwd=files)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("linter", "line", "bad"),
    [
        (["zizmor", "--offline", "--pedantic"], "permissions: {}\n", "permissions: write-all\n"),
        (["actionlint"], "${{ matrix.skill }}", "${{ matrix.skil }}"),
    ],
    ids=["zizmor", "actionlint"],
)
def test_the_linters_look(tmp_path: Path, linter: list[str], line: str, bad: str) -> None:
    """A linter that reads nothing would find nothing, too."""
    file = tmp_path / ".github/workflows/ratchet.yml"
    file.parent.mkdir(parents=True)
    file.write_text(FILES["ratchet.yml"].replace(line, bad))
    assert lint(*linter, str(file), cwd=tmp_path).returncode != 0


def test_the_action_s_scripts_are_bash() -> None:
    """And what is empty is not passed; see test_act for what they do."""
    for step in steps(parsed((ROOT / "action.yml").read_text("utf-8"))):
        if "run" in step:
            done = subprocess.run(
                ["bash", "-n"], input=step["run"], check=False, capture_output=True, text=True
            )
            assert (done.returncode, done.stderr) == (0, "")


def run_set_up(folder: Path, *, sealed: str, sudo: bool = True) -> tuple[str, str]:
    """The action's step that hides held-out cases, as far as programs go that it may start.

    Args:
        folder: Where the programs and what they are told is written.
        sealed: A shell's condition for `check --sealed` to be content.
        sudo: Whether the user may become root without a password.

    Returns:
        What it printed, and the commands that it ran as root.
    """
    (step,) = (
        step
        for step in steps(parsed((ROOT / "action.yml").read_text("utf-8")))
        if "--sealed" in step.get("run", "")
    )
    says = f'echo "$*" >> {folder}/asked; if {sealed}; then echo hidden; else echo open; exit 1; fi'
    programs = {
        "ratchet-venv/bin/python": says,
        "bin/sudo": f'echo "$*" >> {folder}/root; [ "$2" != tee ] || cat >> {folder}/profile'
        if sudo
        else "exit 1",
        "bin/sysctl": "echo 1",
        "bin/apt-get": "exit 9",
        "bin/bwrap": "exit 9",
    }
    for name, text in programs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "root").write_text("")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "RUNNER_TEMP": str(folder),
            "GIVEN_DIRECTORY": ".",
        },
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert set((folder / "asked").read_text().splitlines()) == {
        "-I -m skill_ratchet check --sealed"
    }
    return done.stdout, (folder / "root").read_text()


def test_where_programs_are_sealed_already_nothing_is_set_up(tmp_path: Path) -> None:
    assert run_set_up(tmp_path, sealed="true") == ("hidden\n", "")


def test_a_runner_is_set_up_so_that_programs_are_sealed(tmp_path: Path) -> None:
    """With a profile for bubblewrap, and for nothing else."""
    said, root = run_set_up(tmp_path, sealed=f"[ -e {tmp_path}/profile ]")
    assert said == "hidden\n"
    assert root.splitlines() == [
        "-n true",
        "-n tee /etc/apparmor.d/ratchet-bwrap",
        "-n apparmor_parser --replace /etc/apparmor.d/ratchet-bwrap",
    ]
    assert (tmp_path / "profile").read_text().splitlines() == [
        "abi <abi/4.0>,",
        "include <tunables/global>",
        "profile ratchet-bwrap /usr/bin/bwrap flags=(unconfined) {",
        "  userns,",
        "}",
    ]


@pytest.mark.parametrize("sudo", [True, False])
def test_where_programs_cannot_be_sealed_the_job_says_so(tmp_path: Path, *, sudo: bool) -> None:
    """And goes on to the command, which refuses whatever could be merged by itself."""
    said, _ = run_set_up(tmp_path, sealed="false", sudo=sudo)
    warning, why = said.splitlines()
    assert warning.startswith("::warning title=Ratchet::")
    assert why == "open"


NAMES = ("command", "directory", "skill", "bundle", "bundles", "planned", "out", "shard",
         "from-shards", "attempts", "usd", "pull", "sha", "models", "to", "reply")  # fmt: skip


def run_action(
    folder: Path, given: dict[str, str], *, statuses: dict[str, int] | None = None
) -> tuple[int, str, list[list[str]]]:
    """The action's last script as a step of a job, with a Python that writes down its arguments."""
    (script,) = (
        step
        for step in steps(parsed((ROOT / "action.yml").read_text("utf-8")))
        if step.get("id") == "ratchet"
    )
    python = folder / "ratchet-venv/bin/python"
    python.parent.mkdir(parents=True)
    ends = "".join(f"[ $4 = {name} ] && exit {code}\n" for name, code in (statuses or {}).items())
    python.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" '\n' >> {folder}/calls\n{ends}exit 0\n")
    python.chmod(0o755)
    inputs = {"directory": "."} | given
    env = {f"GIVEN_{name.upper().replace('-', '_')}": inputs.get(name, "") for name in NAMES}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script["run"]],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "RUNNER_TEMP": str(folder), **env},
        check=False,
        capture_output=True,
        text=True,
    )
    calls = (folder / "calls").read_text().split("\n\0")[:-1]
    return done.returncode, done.stdout, [call.split("\0")[:-1] for call in calls]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"command": "due"}, [["fetch", "--runs"], ["due", "--"]]),
        (
            {"command": "propose", "skill": "a", "bundle": "b c", "attempts": "0", "usd": "1.5"},
            [
                ["fetch", "--train"],
                ["propose", "--bundle", "b c", "--attempts", "0", "--usd", "1.5", "--", "a"],
            ],
        ),
        (
            {"command": "confirm", "skill": "a", "bundle": "b", "out": "c"},
            [["fetch"], ["confirm", "--bundle", "b", "--out", "c", "--", "a"]],
        ),
        (
            {"command": "confirm", "bundle": "b", "out": "c", "shard": "2/4", "usd": "1"},
            [
                ["fetch"],
                ["confirm", "--bundle", "b", "--out", "c", "--shard", "2/4", "--usd", "1", "--"],
            ],
        ),
        (
            {"command": "confirm", "bundle": "b", "out": "c", "from-shards": "d e"},
            [["fetch"], ["confirm", "--bundle", "b", "--out", "c", "--from-shards", "d e", "--"]],
        ),
        (
            {"command": "publish", "bundles": "b", "planned": '["a"]', "reply": "1/2"},
            [
                ["fetch"],
                ["publish", "--bundles", "b", "--planned", '["a"]', "--reply", "1/2", "--"],
            ],
        ),
        (
            {"command": "gate", "pull": "7", "sha": "abc", "out": "d"},
            [["fetch"], ["gate", "--out", "d", "--", "7", "abc"]],
        ),
        (
            {"command": "transfer", "skill": "a", "models": "b,c", "to": "abc", "out": "d"},
            [
                ["fetch"],
                ["transfer", "--out", "d", "--models", "b,c", "--to", "abc", "--", "a"],
            ],
        ),
        (
            {"command": "transfer", "bundle": "d", "reply": "1/2"},
            [["fetch"], ["transfer", "--bundle", "d", "--reply", "1/2", "--"]],
        ),
        (
            {"command": "transfer", "models": "--out=/etc $(touch x)", "to": "`touch x`"},
            [
                ["fetch"],
                ["transfer", "--models", "--out=/etc $(touch x)", "--to", "`touch x`", "--"],
            ],
        ),
        ({"command": "check"}, [["check", "--"]]),
        (
            {"command": "report", "out": "a b"},
            [["fetch", "--train"], ["report", "--out", "a b", "--"]],
        ),
        (
            {"command": "due", "skill": "--provider=local $(touch x) `touch x`; touch x\n*"},
            [
                ["fetch", "--runs"],
                ["due", "--", "--provider=local $(touch x) `touch x`; touch x\n*"],
            ],
        ),
        (
            {"command": "publish", "reply": "'\"$(touch x)"},
            [["fetch"], ["publish", "--reply", "'\"$(touch x)", "--"]],
        ),
    ],
    ids=lambda one: one["command"] if isinstance(one, dict) else "",
)
def test_what_the_action_runs(
    tmp_path: Path, given: dict[str, str], expected: list[list[str]]
) -> None:
    """What is empty is not passed, and no value is anything but a value."""
    status, _, calls = run_action(tmp_path, given)
    assert (status, calls) == (0, [["-I", "-m", "skill_ratchet", *line] for line in expected])
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("statuses", "expected", "commands"),
    [
        ({"due": 1}, 1, ["fetch", "due"]),
        ({"due": 3}, 3, ["fetch", "due"]),
        ({"due": 4}, 0, ["fetch", "due"]),  # a cap was reached: a warning
        ({"fetch": 1}, 1, ["fetch"]),
        ({"fetch": 4}, 4, ["fetch"]),
    ],
)
def test_how_the_action_ends(
    tmp_path: Path, statuses: dict[str, int], expected: int, commands: list[str]
) -> None:
    status, out, calls = run_action(tmp_path, {"command": "due"}, statuses=statuses)
    assert (status, [call[3] for call in calls]) == (expected, commands)
    assert ("::warning" in out) is (expected == 0)


def test_what_is_installed_was_reviewed() -> None:
    """By hash, as wheels, resolving nothing."""
    (script,) = (
        step["run"]
        for step in steps(parsed((ROOT / "action.yml").read_text("utf-8")))
        if "-m pip" in step.get("run", "")
    )
    for option in ("--no-deps", "--require-hashes", "--only-binary :all:"):
        assert option in script
    for name in ("runtime", "local", "report"):
        text = (ROOT / f"requirements/{name}.txt").read_text("utf-8")
        names = re.findall(r"^(\S+==\S+).*\\\n    --hash=sha256:", text, re.MULTILINE)
        assert len(names) == len(re.findall(r"^\S", text, re.MULTILINE))


def test_a_path_that_would_be_an_expression_is_refused() -> None:
    config = load("skills:\n  a: {fixtures: 'x${{ github.token }}'}\n")
    with pytest.raises(RatchetError, match="cannot be written into a workflow"):
        workflows.render(config, action=ACTION, prefix="")


@pytest.mark.parametrize(
    ("given", "fine"),
    [
        (ACTION, True),
        (f"octo/mono/tools/ratchet@{'a' * 40}", True),
        ("octo/ratchet@v1", False),
        ("octo/ratchet@main", False),
        (f"octo/ratchet@{'a' * 39}", False),
        (f"octo/ratchet@{'a' * 41}", False),
        (f"octo/ratchet@{'A' * 40}", False),
        (f"octo@{'a' * 40}", False),
        (f"octo/ratchet@{'a' * 40}\n", False),
        (f"docker://octo/ratchet@{'a' * 40}", False),
        ("./", False),
        (None, False),
    ],
)
def test_an_action_is_pinned_or_refused(tmp_path: Path, given: str | None, fine: bool) -> None:  # noqa: FBT001 - a column of the table
    if fine:
        assert workflows.choose_action(given, tmp_path) == given
    else:
        with pytest.raises(RatchetError, match="action"):
            workflows.choose_action(given, tmp_path)


def test_the_action_puts_the_folder_of_the_package_on_the_path() -> None:
    """Not the top of the repository, where nothing can be imported."""
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    [folder] = re.findall(r'cd "\$GITHUB_ACTION_PATH/?(.*?)" && pwd\) > "\$packages/', text)
    assert (ROOT / folder / "skill_ratchet/__main__.py").is_file()
