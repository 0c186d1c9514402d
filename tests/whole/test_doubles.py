"""The bot's story on GitHub, as the fake tells it, and how a double's telling is judged.

The doubles themselves are other people's and not installed here: ``make doubles`` plays on them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import doubles
from doubles import DIFFERENCES, Difference
from github_scenario import REPOSITORY
from skill_ratchet.github.http import Answer

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/support/data"
SAID = "RatchetError: branch ratchet/triage is not at … but at …; it was left as it is"

# What each step comes to. A write more than here is a second thing where there was to be one.
TOLD = {
    "who am I": "robot",
    "permission of the owner": "admin",
    "permission of the bot": "write",
    "permission of a stranger": "none",
    "head of main": "a commit",
    "head of no branch": "nothing",
    "base that is not there": (
        "RatchetError: octo/demo has no branch nothing, or the token cannot see it"
    ),
    "make a branch": "nothing (1 written)",
    "make it again": "nothing",
    "head after a push": "yes",
    "make it elsewhere": SAID.replace("…", "nothing", 1),
    "commit through the API": "a commit (2 written)",
    "commit it again": "yes",
    "open a pull request": "open, robot, main, yes (1 written)",
    "open it again": "yes",
    "find it": "yes",
    "find another marker": "nothing",
    "find by head": "1",
    "can it be merged": "yes, clean",
    "update its body": "nothing (1 written)",
    "update it again": "nothing",
    "a push moves its head": "yes",
    "add a label": "nothing (1 written)",
    "add it again": "nothing",
    "labels": "ratchet",
    "remove the label": "nothing (1 written)",
    "remove it again": "nothing",
    "set a status": "nothing (1 written)",
    "set it again": "nothing",
    "set a later one": "nothing (1 written)",
    "statuses": "ratchet/holdout, success, robot",
    "reply": "robot (1 written)",
    "reply again": "yes",
    "sticky comment": "robot (1 written)",
    "sticky comment again": "robot",
    "sticky comment, changed": "robot (1 written)",
    "comments": "Done., 9 of 9",
    "reviews": "octo, APPROVED, Good., yes",
    "react": "nothing (1 written)",
    "react again": "nothing (1 written)",  # GitHub keeps one of a kind for each user
    "no issue yet": "nothing",
    "make an issue": "robot, open (1 written)",
    "make it again, the same": "robot, open",
    "make it again, changed": "robot, open (1 written)",
    "find the issue": "two",
    "merge another head": "refused: head_moved; PUT none",
    "merge into another branch": "refused: closed; PUT none",
    "merge onto another base": "refused: base_moved; PUT none",
    "merge what is held": "refused: held; PUT none",
    "merge": "merged, on main; PUT [200] (1 written)",
    "merge again": "merged already, on main; PUT none",
    "merged pull request": "closed, merged",
    "head moves at the last moment": "refused: head_moved; PUT [409] (1 written)",
    "a person merges at the last moment": "merged already, on main; PUT [405] (1 written)",
    "closed at the last moment": "refused: closed; PUT [405] (3 written)",
    "merge a conflict": "refused: conflict; PUT none",
    "PUT another head": "409 (1 written)",
    "close with a reason": "nothing (2 written)",
    "close again": "nothing",
    "closed pull request": "closed, not merged",
    "the reason": "It is stale.",
    "merge what is closed": "refused: closed; PUT none",
    "find it among the closed": "yes",
    "delete a branch that is elsewhere": SAID.replace("triage", "close"),
    "delete the branch": "nothing (1 written)",
    "delete it again": "nothing",
    "head of what was deleted": "nothing",
}


def test_the_story_on_the_fake(tmp_path: Path) -> None:
    with doubles.fakehub(tmp_path) as (tap, hands, hub):
        assert doubles.play(tap, hands) == TOLD
        assert hub.violations == []
        assert tap.filled == set()


# What is known --------------------------------------------------------------------------------

FILLS = {
    name: {e.fill for e in DIFFERENCES if e.double == name and e.fill} for name in doubles.DOUBLES
}


@pytest.mark.parametrize("double", doubles.DOUBLES)
def test_a_double_that_is_as_it_is_known_to_be(double: str) -> None:
    told = TOLD | doubles.known(double)
    assert doubles.compare(double, TOLD, told, FILLS[double]) == []


WRONG: dict[str, tuple[dict[str, str], set[str], str]] = {  # told, put in, what is said
    "a new difference": (
        {"merge": "refused: blocked"},
        {"viewer"},
        "merge: 'refused: blocked', not",
    ),
    "a known one that has gone": (
        {"react": TOLD["react"]},
        {"viewer"},
        "a difference that has gone",
    ),
    "a known one that is another": (
        {"react": "yes"},
        {"viewer"},
        "react: 'yes', not 'RatchetError",
    ),
    "a step of its own": ({"dance": "yes"}, {"viewer"}, "dance: the fake's story has no such step"),
    "nothing to put in any more": ({}, set(), "viewer: no longer missing"),
    "more put in than is known": ({}, {"viewer", "x"}, "x: put in, but not known to be missing"),
}


@pytest.mark.parametrize("row", WRONG, ids=str)
def test_anything_else_is_said(row: str) -> None:
    told, filled, said = WRONG[row]
    story = TOLD | doubles.known("emulate") | told
    (line,) = doubles.compare("emulate", TOLD, story, filled)
    assert said in line


def test_a_step_that_was_not_told_is_said() -> None:
    story = TOLD | doubles.known("emulate")
    del story["merge"]
    (line,) = doubles.compare("emulate", TOLD, story, FILLS["emulate"])
    assert line.startswith("merge: 'not told'")


@pytest.mark.parametrize("known", DIFFERENCES, ids=lambda it: f"{it.double}: {it.what}")
def test_a_known_difference_is_one_and_github_says_so(known: Difference) -> None:
    assert bool(known.steps) != bool(known.fill)
    assert all(TOLD[step] != says for step, says in known.steps.items())
    assert known.double in doubles.DOUBLES
    assert described(known.source), known.source


def test_no_step_has_two_reasons() -> None:
    for double in doubles.DOUBLES:
        steps = [step for each in DIFFERENCES if each.double == double for step in each.steps]
        assert len(steps) == len(set(steps))


def described(source: str) -> bool:
    """Whether GitHub's own description has it; its pages are not here to look at."""
    if source.startswith("https://docs.github.com/"):
        return True
    kind, name, *more = source.split()
    if kind in {"query", "mutation"}:
        schema = (DATA / "github-graphql.graphql").read_text("utf-8")
        fields = schema.split(f"\ntype {kind.title()} ")[1].split("\n}")[0]
        return bool(re.search(rf"^  {name}\b", fields, re.MULTILINE))
    api = json.loads((DATA / "github-api.json").read_text("utf-8"))
    answers = api["paths"][name][kind.lower()]["responses"]
    if not more or more[0].isdigit():
        return (more or ["200"])[0] in answers or "201" in answers
    node = answers["200"]["content"]["application/json"]["schema"]
    for field in more[0].split("."):
        if ref := node.get("$ref"):
            node = api["components"]["schemas"][ref.rsplit("/", 1)[1]]
        if field not in node["required"]:
            return False
        node = node["properties"][field]
    return True


@pytest.mark.parametrize(
    "source",
    [
        f"{doubles.MERGE} 418",
        f"GET {doubles.REPO}/pulls/{{pull_number}} head.mood",
        "mutation viewer",
        "query createCommitOnBranch",
    ],
)
def test_what_github_does_not_say_is_no_source(source: str) -> None:
    assert not described(source)


def test_the_page_has_them_all() -> None:
    page = doubles.PAGE.read_text("utf-8")
    assert doubles.section(len(TOLD)) in page


# What is put in -------------------------------------------------------------------------------

NO_REPO: dict[str, Any] = {"head": {"ref": "x"}}
IN: dict[str, Any] = {"head": {"ref": "x", "repo": {"full_name": REPOSITORY}}}
DELETED: dict[str, Any] = {"head": {"ref": "x", "repo": None}}  # the fork is gone


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NO_REPO, IN),
        ([NO_REPO, DELETED], [IN, DELETED]),
        (DELETED, DELETED),
        ({"head": "x"}, {"head": "x"}),
    ],
    ids=["one", "in a list", "a deleted one stays", "something else"],
)
def test_a_heads_repository_is_put_in_where_none_is_said(before: Any, after: Any) -> None:
    answer = Answer("GET /x", 200, {}, before)
    tap: Any = None  # it is not asked
    assert doubles.head_repo(tap, answer, None).data == after


@pytest.mark.parametrize(
    ("asked", "status", "query"),
    [
        ("POST /graphql", 200, "query { viewer { login } }"),
        ("POST /graphql", 502, "query { viewer { login } }"),
        ("POST /graphql", 404, "mutation { createCommitOnBranch }"),
        ("GET /user", 404, ""),
    ],
)
def test_a_viewer_is_put_in_for_nothing_else(asked: str, status: int, query: str) -> None:
    answer = Answer(asked, status, {}, None)
    tap: Any = None  # asking would fail
    assert doubles.viewer(tap, answer, {"query": query}) == answer


# What is installed ----------------------------------------------------------------------------


def test_the_doubles_are_pinned() -> None:
    listed = (ROOT / "requirements/doubles.txt").read_text("utf-8")
    lines = [line for line in listed.splitlines() if not line.startswith(" ")]
    assert all("==" in line for line in lines)
    assert listed.count("--hash=sha256:") >= len(lines)
    assert f"myworld=={doubles.VERSIONS['myworld']} " in listed
    folder = ROOT / "requirements/doubles"
    wanted = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]
    assert wanted == {"emulate": doubles.VERSIONS["emulate"]}
    locked = json.loads((folder / "package-lock.json").read_text("utf-8"))["packages"]
    assert locked["node_modules/emulate"]["version"] == doubles.VERSIONS["emulate"]
    assert all("integrity" in package for name, package in locked.items() if name)
