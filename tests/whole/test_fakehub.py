"""The fake of GitHub behaves as GitHub does where Ratchet depends on it."""

from __future__ import annotations

import base64
import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from github import Auth, Github, GithubException

from data.slice import sliced
from fakehub import FakeHub, Fault, Protection, rest, validate
from fakehub.validate import ALLOWED, Checker
from gitrepo import SKILL, SKILL_TEXT, GitRepo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REPO = "/repos/octo/demo"
BRANCH = "ratchet/triage"
NEW = SKILL_TEXT.replace("Be brief.", "Be brief and kind.")


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str]

    @property
    def message(self) -> str:
        """The error's words, those of its parts too."""
        return json.dumps(self.body, ensure_ascii=False)


class Asker:
    """A plain HTTP client with one token: no retry, no redirect."""

    def __init__(self, hub: FakeHub, token: str | None) -> None:
        self.hub = hub
        self.token = token

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        url = urlsplit(self.hub.url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port)
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = json.dumps(body) if body is not None else None
        try:
            connection.request(method, f"{url.path}{path}", data, sent | headers)
            got = connection.getresponse()
            text = got.read()
        finally:
            connection.close()
        is_json = "json" in (got.headers["content-type"] or "") and "raw" not in str(headers)
        shown = json.loads(text) if text and is_json else text
        lower = {name.lower(): value for name, value in got.headers.items()}
        return Answer(status=got.status, body=shown, headers=lower)

    def graphql(self, query: str, **variables: Any) -> Any:
        return self("POST", "/graphql", {"query": query, "variables": variables}).body


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: a bare repository with one commit."""
    folder = tmp_path_factory.mktemp("template")
    sealed = {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sealed.items():
            patch.setenv(name, value)
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "A Developer")
            patch.setenv(f"GIT_{who}_EMAIL", "dev@example.com")
        repo = GitRepo.with_skill(folder / "origin")
        repo.git("clone", "--quiet", "--bare", "--template=", ".", str(folder / "bare.git"))
    return folder / "bare.git"


@pytest.fixture
def bare(template: Path, tmp_path: Path) -> Path:
    """A bare repository with one commit."""
    return shutil.copytree(template, tmp_path / "bare.git")


@pytest.fixture
def hub(bare: Path) -> Iterator[FakeHub]:
    """A hub with a writer and a reader; nothing may differ from the description at its end."""
    with FakeHub(bare) as running:
        running.add_user("writer", "write")
        running.add_user("reader", "read")
        yield running
        assert running.violations == []
        assert running.pending == 0


@pytest.fixture
def bot(hub: FakeHub) -> Asker:
    """The GITHUB_TOKEN's bot."""
    return Asker(hub, hub.actions_token())


def open_pull(hub: FakeHub, **more: Any) -> int:
    """A pull request of the bot's branch; returns its number."""
    hub.person_pushes("writer", BRANCH, {SKILL: NEW}, "Say it kindly")
    hub.actions_token()
    return hub.person_opens_pull("github-actions[bot]", head=BRANCH, title="Be kind", **more)


def head_of(hub: FakeHub, number: int = 1) -> str:
    pull = hub.issue(number).pull
    assert pull is not None
    return pull.head_sha


# What it does without a process of git's is what git would have done


def test_commits_of_people_are_sound_to_git(hub: FakeHub) -> None:
    """Folders are sorted among files as git sorts them, and empty ones go."""
    files = {
        "a/b": "1",
        "a.b": "2",
        "a": None,
        "a0": "3",
        "x/y/z": "4",
        "x/y-z": "5",
        "\u00e9": "6",
    }
    hub.person_pushes("writer", "more", files)
    sha = hub.person_pushes("writer", "more", {"x/y/z": None, "a/b": "7", "README.md": None})
    bare = GitRepo(hub.state.git.path)
    bare.git("fsck", "--strict", "--no-dangling")
    listed = bare.git("-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", sha)
    assert listed.split("\n")[:4] == ["a.b", "a/b", "a0", "fixtures/triage/train/a.yml"]
    assert [name for name in listed.split("\n") if name[0] in "xR\u00e9"] == ["x/y-z", "\u00e9"]
    assert bare.git("log", "--format=%an <%ae> %cn %B", "-1", sha).startswith("writer <")


@pytest.mark.parametrize("pack", [False, True], ids=["loose", "packed"])
def test_refs_are_those_that_git_lists(hub: FakeHub, *, pack: bool) -> None:
    bare = GitRepo(hub.state.git.path)
    hub.person_pushes("writer", "a/b", {"x": "1"})
    hub.person_pushes("writer", "a-b", {"x": "2"}, fork=True)
    bare.git("tag", "--annotate", "--message=x", "v1", "a/b")
    if pack:
        bare.git("pack-refs", "--all")
    hub.person_pushes("writer", "a/b", {"x": "3"})
    names = ("refs", "refs/heads", "refs/heads/a", "refs/heads/a/b", "refs/heads/ma", "refs/tags")
    for under in (*((name,) for name in names), ("refs/heads", "refs/forks")):
        listed = bare.git("for-each-ref", "--format=%(refname) %(objectname)", *under)
        assert hub.state.git.refs(*under) == dict(line.split(" ") for line in listed.splitlines())


def test_commits_are_read_as_git_shows_them(hub: FakeHub) -> None:
    bare = GitRepo(hub.state.git.path)
    hub.person_pushes("writer", "a", {"x": "1"}, "One\n\nTwo\n")
    where = {"GIT_AUTHOR_DATE": "@1700000000 -0330", "GIT_COMMITTER_DATE": "@1700000000 +1245"}
    made = ("commit-tree", "-p", "main", "-p", "a", "-m", "Three", "a^{tree}")
    merge = bare.git(*made, GIT_AUTHOR_NAME="\u00c9 <x", **where)
    for sha in (merge, bare.tip("a"), bare.tip("main")):
        found = hub.state.git.commit(sha)
        people = [part for one in (found.author, found.committer) for part in vars(one).values()]
        said = [sha, found.tree, " ".join(found.parents), *people, found.message]
        shown = bare.git("show", "--no-patch", "--format=%H|%T|%P|%an|%ae|%aI|%cn|%ce|%cI|%B", sha)
        assert "|".join(said) == shown.replace("Z|", "+00:00|").rstrip("\n")


def test_what_people_push_over_http_is_seen_at_once(hub: FakeHub, tmp_path: Path) -> None:
    """An answer that was given before is not given again for other refs."""
    repo = clone(hub, tmp_path, hub.add_user("writer"))
    for number in range(3):
        sha = hub.person_pushes("writer", "main", {"x": str(number)})
        assert repo.git("ls-remote", "origin", "refs/heads/main").split("\t")[0] == sha
        repo.git("fetch", "--quiet", "origin")
        assert repo.tip("origin/main") == sha
        repo.git("reset", "--quiet", "--hard", "origin/main")
        own = repo.commit("mine")
        repo.git("push", "--quiet", "origin", "main")
        assert hub.tip("main") == own


# The world


def test_a_whole_life_of_a_pull_request_reads_as_one_text(hub: FakeHub, bot: Asker) -> None:
    hub.person_pushes("writer", BRANCH, {SKILL: NEW}, "Say it kindly")
    opened = {"head": BRANCH, "base": "main", "title": "Be kind", "body": "Why.\n\nCloses #2"}
    sha = bot("POST", f"{REPO}/pulls", opened).body["head"]["sha"]
    bot("POST", f"{REPO}/issues", {"title": "Be nicer", "labels": ["wish"]})
    bot("POST", f"{REPO}/issues/1/labels", {"labels": ["ratchet", "score:up"]})
    status = {"state": "pending", "context": "ratchet/holdout"}
    bot("POST", f"{REPO}/statuses/{sha}", status)
    bot("POST", f"{REPO}/statuses/{sha}", status | {"state": "success", "description": "+0.10"})
    said = hub.person_comments("writer", 1, "/ratchet explain")
    bot("POST", f"{REPO}/issues/comments/{said}/reactions", {"content": "eyes"})
    sticky = bot("POST", f"{REPO}/issues/1/comments", {"body": "one"}).body["id"]
    bot("PATCH", f"{REPO}/issues/comments/{sticky}", {"body": "two\n\nlines"})
    hub.person_reviews("writer", 1, "APPROVE", "fine")
    merged = bot("PUT", f"{REPO}/pulls/1/merge", {"sha": sha, "merge_method": "squash"})
    assert merged.status == 200
    assert hub.read("main", SKILL) == NEW
    assert hub.world() == (
        "pull #1 merged by github-actions[bot]: Be kind (by github-actions[bot])\n"
        "    main <- ratchet/triage at 'Say it kindly'\n"
        "    status ratchet/holdout success by github-actions[bot]: +0.10\n"
        "    labels: ratchet, score:up\n"
        "      | Why.\n"
        "      |\n"
        "      | Closes #2\n"
        "    review by writer: APPROVED\n"
        "      | fine\n"
        "    comment by writer [eyes by github-actions[bot]]:\n"
        "      | /ratchet explain\n"
        "    comment by github-actions[bot] (edited):\n"
        "      | two\n"
        "      |\n"
        "      | lines\n"
        "issue #2 closed by github-actions[bot]: Be nicer (by github-actions[bot])\n"
        "    labels: wish\n"
        "commits:\n"
        "    *  (main) github-actions[bot]/GitHub: Say it kindly (#1)\n"
        "    | *  (ratchet/triage) writer/writer: Say it kindly\n"
        "    *  A Developer/A Developer: start\n"
    )


def test_the_same_doings_make_the_same_commits(tmp_path: Path, bare: Path) -> None:
    tips = []
    for name in ("one", "two"):
        copy = tmp_path / name
        subprocess.run(["git", "clone", "--quiet", "--bare", bare, copy], check=True)
        with FakeHub(copy) as hub:
            hub.add_user("writer")
            number = open_pull(hub)
            tips.append(hub.person_merges("writer", number))
    assert tips[0] == tips[1]


def test_exchanges_say_who_wrote_what(hub: FakeHub, bot: Asker) -> None:
    bot("GET", REPO)
    bot("POST", f"{REPO}/issues", {"title": "x"})
    bot.graphql("query { viewer { login } }")
    assert [str(each) for each in hub.exchanges] == [
        f"GET {REPO} -> 200",
        f"POST {REPO}/issues -> 201",
        "POST /graphql -> 200",
    ]
    assert hub.writes == [f"POST {REPO}/issues -> 201"]
    assert {each.user for each in hub.exchanges} == {"github-actions[bot]"}


# What GitHub refuses


def nothing(_: FakeHub) -> None:
    """The world as it is."""


def draft(hub: FakeHub) -> None:
    hub.state.pull(1)[1].draft = True


def conflict(hub: FakeHub) -> None:
    hub.person_pushes("writer", "main", {SKILL: NEW.replace("kind", "rude")})


def closed(hub: FakeHub) -> None:
    hub.person_edits("writer", 1, state="closed")


def needs_status(hub: FakeHub) -> None:
    hub.protect("main", Protection(contexts=("ratchet/holdout",)))


def failing_status(hub: FakeHub) -> None:
    needs_status(hub)
    bot = hub.state.users["github-actions[bot]"]
    hub.state.set_status(bot, head_of(hub), state="failure", context="ratchet/holdout")


def needs_review(hub: FakeHub) -> None:
    hub.protect("main", Protection(approvals=1))


def review_by_a_reader(hub: FakeHub) -> None:
    needs_review(hub)
    hub.person_reviews("reader", 1, "APPROVE")


def changes_requested(hub: FakeHub) -> None:
    needs_review(hub)
    hub.person_reviews("octo", 1, "APPROVE")
    hub.person_reviews("writer", 1, "REQUEST_CHANGES")


def strict(hub: FakeHub) -> None:
    hub.protect("main", Protection(strict=True))
    hub.person_pushes("writer", "main", {"other.txt": "x\n"})


def queue(hub: FakeHub) -> None:
    hub.protect("main", Protection(merge_queue=True))


def squash_only(hub: FakeHub) -> None:
    hub.switches.merge_methods = ("squash",)


@pytest.mark.parametrize(
    ("prepare", "status", "says"),
    [
        pytest.param(draft, 405, "still a draft", id="draft"),
        pytest.param(conflict, 405, "Pull Request is not mergeable", id="conflict"),
        pytest.param(closed, 405, "Pull Request is not mergeable", id="closed"),
        pytest.param(needs_status, 405, 'check \\"ratchet/holdout\\" is expected', id="no-status"),
        pytest.param(failing_status, 405, "is failing", id="failing-status"),
        pytest.param(needs_review, 405, "At least 1 approving review", id="no-review"),
        pytest.param(review_by_a_reader, 405, "At least 1 approving", id="review-by-reader"),
        pytest.param(changes_requested, 405, "Changes have been requested", id="changes-requested"),
        pytest.param(strict, 405, "not up to date", id="behind-a-strict-base"),
        pytest.param(queue, 405, "made through the merge queue", id="merge-queue"),
        pytest.param(squash_only, 405, "Merge commits are not allowed", id="method"),
    ],
)
def test_a_merge_is_refused(
    hub: FakeHub, bot: Asker, prepare: Callable[[FakeHub], None], status: int, says: str
) -> None:
    open_pull(hub)
    prepare(hub)
    before = hub.world()
    answer = bot("PUT", f"{REPO}/pulls/1/merge", {"sha": head_of(hub)})
    assert (answer.status, says in answer.message) == (status, True), answer.message
    assert hub.world() == before


def test_a_merge_of_another_head_is_refused_with_409(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)
    old = head_of(hub)
    hub.just_before(
        "PUT", r"/merge$", lambda: hub.person_pushes("writer", BRANCH, {SKILL: NEW + "\nMore.\n"})
    )
    answer = bot("PUT", f"{REPO}/pulls/1/merge", {"sha": old})
    assert answer.status == 409
    assert "Head branch was modified" in answer.message
    assert hub.read("main", SKILL) == SKILL_TEXT


LONG = "x" * 65_537
PULL = {"head": BRANCH, "base": "main", "title": "t"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/pulls", PULL, 422, "A pull request already exists for octo:ratchet/triage."),
        ("POST", "/pulls", PULL | {"head": "same"}, 422, "No commits between main and same"),
        ("POST", "/pulls", PULL | {"head": "gone"}, 422, '"field": "head", "code": "invalid"'),
        ("POST", "/pulls", PULL | {"base": "gone"}, 422, '"field": "base", "code": "invalid"'),
        ("POST", "/pulls", PULL | {"body": LONG}, 422, "body is too long (maximum is 65536"),
        ("POST", "/pulls", PULL | {"title": "x" * 257}, 422, "title is too long"),
        ("GET", "/pulls/2", None, 404, "Not Found"),
        ("GET", "/pulls/9", None, 404, "Not Found"),
        ("PATCH", "/pulls/1", {"body": LONG}, 422, "body is too long"),
        ("POST", "/issues/1/comments", {"body": LONG}, 422, "body is too long"),
        ("POST", "/issues/1/comments", {"body": "  "}, 422, "body can't be blank"),
        ("POST", "/labels", {"name": "RATCHET"}, 422, '"code": "already_exists"'),
        ("DELETE", "/issues/1/labels/none", None, 404, "Label does not exist"),
        ("POST", f"/statuses/{'0' * 40}", {"state": "success"}, 422, "No commit found for SHA"),
        (
            "POST",
            "/statuses/HEAD_SHA",
            {"state": "success", "description": "x" * 141},
            422,
            "description is too long (maximum is 140 characters)",
        ),
        ("POST", "/git/refs", {"ref": "refs/heads/same", "sha": "HEAD_SHA"}, 422, "already exists"),
        ("POST", "/git/refs", {"ref": "refs/heads/n", "sha": "0" * 40}, 422, "does not exist"),
        ("PATCH", f"/git/refs/heads/{BRANCH}", {"sha": "BASE_SHA"}, 422, "not a fast forward"),
        ("DELETE", "/git/refs/heads/gone", None, 422, "Reference does not exist"),
        ("GET", "/git/ref/heads/gone", None, 404, "Not Found"),
        ("GET", "/branches/gone", None, 404, "Branch not found"),
        ("GET", "/contents/gone.md", None, 404, "Not Found"),
        ("GET", "/contents/README.md?ref=gone", None, 404, "No commit found for the ref gone"),
        ("GET", "/commits/gone", None, 422, "No commit found for SHA: gone"),
        ("GET", "/compare/main...gone", None, 404, "Not Found"),
        ("GET", "/collaborators/nobody/permission", None, 404, "nobody is not a user"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else None,
)
def test_a_request_is_refused(  # noqa: PLR0917 - one argument a column of the table
    hub: FakeHub, bot: Asker, method: str, path: str, body: Any, status: int, says: str
) -> None:
    open_pull(hub)
    hub.person_opens_issue("writer", "an issue")
    hub.person_labels(1, "ratchet")
    base = hub.tip("main") or ""
    hub.state.git.move("refs/heads/same", base)
    before = hub.world()
    real = {"HEAD_SHA": head_of(hub), "BASE_SHA": base}
    for name, sha in real.items():
        path = path.replace(name, sha)
        body = json.loads(json.dumps(body).replace(name, sha))
    answer = bot(method, f"{REPO}{path}", body)
    assert (answer.status, says in answer.message) == (status, True), answer.message
    assert hub.world() == before


def test_an_installation_may_forbid_pull_requests_by_actions(hub: FakeHub, bot: Asker) -> None:
    hub.switches.actions_may_open_pulls = False
    hub.person_pushes("writer", BRANCH, {SKILL: NEW})
    answer = bot("POST", f"{REPO}/pulls", PULL)
    assert answer.status == 403
    assert "GitHub Actions is not permitted to create or approve pull requests" in answer.message
    assert "pull #" not in hub.world()
    app = Asker(hub, hub.add_user("ratchet-app[bot]"))
    assert app("POST", f"{REPO}/pulls", PULL).status == 201


FLOW = f"{REPO}/actions/workflows/go.yml/dispatches"
GO = "on:\n  workflow_dispatch:\n    inputs:\n      skill: {type: string}\n"


@pytest.mark.parametrize(
    ("flow", "body", "status", "says"),
    [
        (GO, {"ref": "main", "inputs": {"skill": "a"}}, 204, ""),
        (GO, {"ref": "main", "return_run_details": True}, 200, "workflow_run_id"),
        ("on: workflow_dispatch", {"ref": "main"}, 204, ""),
        ("on: [push, workflow_dispatch]", {"ref": "refs/heads/main"}, 204, ""),
        ("on: {workflow_dispatch: }", {"ref": "main"}, 204, ""),
        (None, {"ref": "main"}, 404, "Not Found"),
        (GO, {"ref": "gone"}, 422, "No ref found for: gone"),
        (GO, {"ref": "older"}, 422, "does not have 'workflow_dispatch'"),
        ("on: {push: }", {"ref": "main"}, 422, "does not have 'workflow_dispatch'"),
        ("on: push", {"ref": "main"}, 422, "does not have 'workflow_dispatch'"),
        (GO, {"ref": "main", "inputs": {"skil": "a"}}, 422, 'provided: ["skil"]'),
    ],
)
def test_a_workflow_is_started_as_its_file_says(  # noqa: PLR0917 - one argument a column of the table
    hub: FakeHub, bot: Asker, flow: str | None, body: Any, status: int, says: str
) -> None:
    hub.state.git.move("refs/heads/older", hub.tip("main") or "")
    if flow is not None:
        hub.person_pushes("writer", "main", {".github/workflows/go.yml": flow})
    answer = bot("POST", FLOW, body)
    assert (answer.status, says in str(answer.body)) == (status, True), answer.body
    started = [(one.workflow, one.ref, one.inputs) for one in hub.dispatches]
    wanted = ("go.yml", body["ref"], body.get("inputs", {}))
    assert started == ([wanted] if status < 300 else [])
    assert ("started go.yml on" in hub.world()) == (status < 300)


def test_labels_are_made_as_needed_and_once(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)
    for names in (["one"], ["ONE", "two"]):
        bot("POST", f"{REPO}/issues/1/labels", {"labels": names})
    assert hub.issue(1).labels == ["one", "two"]
    assert bot("DELETE", f"{REPO}/issues/1/labels/one").status == 200
    assert hub.issue(1).labels == ["two"]


def test_a_reaction_counts_once_a_person(hub: FakeHub, bot: Asker) -> None:
    number = hub.person_opens_issue("writer", "x")
    said = hub.person_comments("writer", number, "/ratchet status")
    path = f"{REPO}/issues/comments/{said}/reactions"
    assert [bot("POST", path, {"content": "eyes"}).status for _ in range(2)] == [201, 200]
    assert [each["content"] for each in bot("GET", path).body] == ["eyes"]


# Who may do what


@pytest.mark.parametrize(
    ("role", "permission", "shown"),
    [
        ("admin", "admin", "admin"),
        ("maintain", "write", "maintain"),
        ("write", "write", "write"),
        ("triage", "read", "triage"),
        ("read", "read", "read"),
        ("none", "read", "read"),
    ],
)
def test_the_old_permission_hides_what_the_role_says(
    hub: FakeHub, bot: Asker, role: Any, permission: str, shown: str
) -> None:
    hub.add_user("someone", role)
    body = bot("GET", f"{REPO}/collaborators/someone/permission").body
    assert (body["permission"], body["role_name"]) == (permission, shown)


def test_a_stranger_is_nothing_in_a_private_repository(hub: FakeHub, bot: Asker) -> None:
    hub.switches.private = True
    stranger = Asker(hub, hub.add_user("stranger", "none"))
    body = bot("GET", f"{REPO}/collaborators/stranger/permission").body
    assert body["role_name"] == "none"
    assert stranger("GET", REPO).status == 404


WRITES = [
    ("POST", "/git/refs", {"ref": "refs/heads/n", "sha": "HEAD_SHA"}),
    ("PATCH", f"/git/refs/heads/{BRANCH}", {"sha": "HEAD_SHA"}),
    ("DELETE", f"/git/refs/heads/{BRANCH}", None),
    ("POST", "/statuses/HEAD_SHA", {"state": "success"}),
    ("PUT", "/pulls/1/merge", {}),
    ("PATCH", "/pulls/1", {"state": "closed"}),
    ("POST", "/issues/1/labels", {"labels": ["x"]}),
    ("PATCH", "/issues/comments/COMMENT", {"body": "changed"}),
    ("DELETE", "/issues/comments/COMMENT", None),
    ("POST", "/actions/workflows/go.yml/dispatches", {"ref": "main"}),
]


@pytest.mark.parametrize("who", ["reader", "read-token", "nobody", "wrong-token"])
def test_nobody_writes_without_the_right(hub: FakeHub, who: str) -> None:
    open_pull(hub)
    said = str(hub.person_comments("writer", 1, "mine"))
    only_read = hub.actions_token(contents="read", issues="read", pull_requests="read")
    tokens = {
        "reader": hub.add_user("reader", "read"),
        "read-token": only_read,
        "nobody": None,
        "wrong-token": "ghs_wrong",
    }
    before = hub.world()
    ask = Asker(hub, tokens[who])
    for method, path, body in WRITES:
        real = path.replace("HEAD_SHA", head_of(hub)).replace("COMMENT", said)
        text = json.dumps(body).replace("HEAD_SHA", head_of(hub))
        answer = ask(method, f"{REPO}{real}", json.loads(text))
        assert answer.status in (401, 403), (method, path, answer)
    assert hub.world() == before


def test_a_token_of_actions_has_no_user_but_a_viewer(hub: FakeHub, bot: Asker) -> None:
    """GET /user is refused to installations; only GraphQL tells a bot its name."""
    assert bot("GET", "/user").status == 403
    assert bot.graphql("query { viewer { login } }") == {
        "data": {"viewer": {"login": "github-actions[bot]"}}
    }
    writer = Asker(hub, hub.add_user("writer"))
    assert writer("GET", "/user").body["login"] == "writer"


def test_association_says_nothing_about_write_access(hub: FakeHub, bot: Asker) -> None:
    number = hub.person_opens_issue("reader", "hello")
    shown = bot("GET", f"{REPO}/issues/{number}").body
    assert shown["author_association"] == "COLLABORATOR"


# What git does, the API shows


def test_mergeable_is_unknown_at_first_and_after_each_push(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)

    def look() -> tuple[bool | None, str]:
        body = bot("GET", f"{REPO}/pulls/1").body
        return body["mergeable"], body["mergeable_state"]

    assert [look(), look(), look()] == [(None, "unknown"), (True, "clean"), (True, "clean")]
    conflict(hub)
    assert [look(), look()] == [(None, "unknown"), (False, "dirty")]
    needs_status(hub)
    hub.person_pushes("writer", "main", {SKILL: SKILL_TEXT})
    assert [look(), look()] == [(None, "unknown"), (True, "blocked")]


def test_a_push_moves_the_head_and_the_base_shown_is_that_of_the_push(
    hub: FakeHub, bot: Asker
) -> None:
    """``base.sha`` of a pull request is not where the base branch is now."""
    open_pull(hub)
    start = hub.tip("main")
    moved = hub.person_pushes("writer", "main", {"other.txt": "x\n"})
    assert bot("GET", f"{REPO}/pulls/1").body["base"]["sha"] == start
    head = hub.person_pushes("writer", BRANCH, {SKILL: NEW + "\nMore.\n"})
    shown = bot("GET", f"{REPO}/pulls/1").body
    assert (shown["head"]["sha"], shown["base"]["sha"]) == (head, moved)
    assert hub.state.git.refs("refs/pull") == {"refs/pull/1/head": head}


def test_a_head_merged_by_hand_or_deleted_ends_the_pull_request(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)
    hub.state.git.move("refs/heads/main", head_of(hub))
    assert bot("GET", f"{REPO}/pulls/1").body["merged"] is True
    assert bot("GET", f"{REPO}/pulls/1/merge").status == 204
    hub.person_pushes("writer", "other", {"x": "y\n"})
    other = hub.person_opens_pull("writer", head="other", title="Other")
    hub.person_deletes_branch("other")
    shown = bot("GET", f"{REPO}/pulls/{other}").body
    assert (shown["state"], shown["merged"]) == ("closed", False)
    assert bot("PATCH", f"{REPO}/pulls/{other}", {"state": "open"}).status == 422


@pytest.mark.parametrize(
    ("method", "parents", "subject"),
    [
        ("merge", 2, "Merge pull request #1 from octo/ratchet/triage"),
        ("squash", 1, "Say it kindly (#1)"),
        ("rebase", 1, "Say it kindly"),
    ],
)
def test_the_three_ways_to_merge(
    hub: FakeHub, bot: Asker, method: str, parents: int, subject: str
) -> None:
    open_pull(hub)
    base = hub.person_pushes("writer", "main", {"other.txt": "x\n"}, "Other")
    body = {"merge_method": method, "sha": head_of(hub)}
    sha = bot("PUT", f"{REPO}/pulls/1/merge", body).body["sha"]
    made = bot("GET", f"{REPO}/commits/{sha}").body
    assert made["commit"]["message"].splitlines()[0] == subject
    assert next(each["sha"] for each in made["parents"]) == base
    assert len(made["parents"]) == parents
    assert hub.read("main", SKILL) == NEW
    assert hub.read("main", "other.txt") == "x\n"
    assert hub.tip("main") == sha


def test_compare_files_and_contents_are_git_s(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)
    hub.person_pushes("writer", "main", {"other.txt": "x\n"})
    hub.person_pushes("writer", BRANCH, {"README.md": None, "docs/readme.md": "readme\n"})
    compared = bot("GET", f"{REPO}/compare/main...ratchet%2Ftriage").body
    assert (compared["status"], compared["ahead_by"], compared["behind_by"]) == ("diverged", 2, 1)
    shown = [(f["filename"], f["status"], f["changes"]) for f in compared["files"]]
    assert shown == [("docs/readme.md", "renamed", 0), (SKILL, "modified", 2)]
    assert bot("GET", f"{REPO}/pulls/1/files").body == compared["files"]
    assert compared["files"][1]["patch"].splitlines()[-3:] == [
        " ",
        " Answer with one label.",
        " ",
    ]
    path = f"{REPO}/contents/{SKILL}?ref={BRANCH}"
    file = bot("GET", path).body
    assert base64.b64decode(file["content"]).decode() == NEW
    assert bot("GET", path, Accept="application/vnd.github.raw+json").body == NEW.encode()
    folder = bot("GET", f"{REPO}/contents/skills").body
    assert [(each["type"], each["path"]) for each in folder] == [("dir", "skills/triage")]


def test_a_commit_s_pull_requests_name_siblings(hub: FakeHub, bot: Asker) -> None:
    """A status belongs to a commit: a second pull request may have the same head."""
    open_pull(hub)
    hub.state.git.move("refs/heads/sibling", head_of(hub))
    hub.person_opens_pull("writer", head="sibling", title="Same")
    found = bot("GET", f"{REPO}/commits/{head_of(hub)}/pulls").body
    assert sorted(each["number"] for each in found) == [1, 2]


def test_a_fork_s_pull_request_has_its_own_head(hub: FakeHub, bot: Asker) -> None:
    hub.person_pushes("reader", "main", {SKILL: NEW}, "From outside", fork=True)
    number = hub.person_opens_pull("reader", head="reader:main", title="Please")
    head = bot("GET", f"{REPO}/pulls/{number}").body["head"]
    assert (head["label"], head["repo"]["full_name"]) == ("reader:main", "reader/demo")
    assert hub.tip("main") != head["sha"]
    assert "main <- reader:main at 'From outside'" in hub.world()
    assert bot("GET", f"{REPO}/pulls?head=octo:main").body == []
    assert len(bot("GET", f"{REPO}/pulls?head=reader:main").body) == 1
    assert len(bot("GET", f"{REPO}/pulls?head=nonsense").body) == 1, "GitHub ignores it"


def test_lists_come_in_pages(hub: FakeHub, bot: Asker) -> None:
    number = hub.person_opens_issue("writer", "x")
    for at in range(31):
        hub.person_comments("writer", number, f"number {at}")
    first = bot("GET", f"{REPO}/issues/1/comments")
    links = dict(re.findall(r'<[^>]*(\?[^>]*)>; rel="(\w+)"', first.headers["link"]))
    assert (len(first.body), links) == (30, {"?page=2": "next"} | {"?page=2": "last"})
    second = bot("GET", f"{REPO}/issues/1/comments?page=2")
    assert [each["body"] for each in second.body] == ["number 30"]
    whole = bot("GET", f"{REPO}/issues/1/comments?per_page=100")
    assert (len(whole.body), "link" in whole.headers) == (31, False)


# GraphQL

COMMIT = """
mutation($input: CreateCommitOnBranchInput!) {
  createCommitOnBranch(input: $input) { commit { oid } ref { name } }
}"""
AUTO = """
mutation($input: EnablePullRequestAutoMergeInput!) {
  enablePullRequestAutoMerge(input: $input) {
    pullRequest { number autoMergeRequest { mergeMethod } isInMergeQueue merged }
  }
}"""


def queueing(verb: str) -> str:
    """The mutation that puts into the merge queue, or takes out."""
    return (
        f"mutation($input: {verb.title()}PullRequestInput!) {{"
        f" {verb}PullRequest(input: $input) {{ mergeQueueEntry {{ position }} }} }}"
    )


def commit_input(hub: FakeHub, expected: str, branch: str = BRANCH) -> dict[str, Any]:
    contents = base64.b64encode(b"new\n").decode()
    return {
        "branch": {"repositoryNameWithOwner": hub.repository, "branchName": branch},
        "message": {"headline": "One edit", "body": "Ratchet-Experiment: abc"},
        "expectedHeadOid": expected,
        "fileChanges": {"additions": [{"path": SKILL, "contents": contents}]},
    }


def test_a_commit_through_graphql_is_verified_and_changes_one_file(
    hub: FakeHub, bot: Asker
) -> None:
    open_pull(hub)
    old = head_of(hub)
    done = bot.graphql(COMMIT, input=commit_input(hub, old))["data"]["createCommitOnBranch"]
    made = bot("GET", f"{REPO}/commits/{done['commit']['oid']}").body
    assert made["commit"]["verification"]["verified"] is True
    assert made["commit"]["message"] == "One edit\n\nRatchet-Experiment: abc"
    assert made["author"]["login"] == "github-actions[bot]"
    assert [each["sha"] for each in made["parents"]] == [old]
    assert [each["filename"] for each in made["files"]] == [SKILL]
    assert head_of(hub) == done["commit"]["oid"]
    assert bot("GET", f"{REPO}/commits/{old}").body["commit"]["verification"]["verified"] is False


@pytest.mark.parametrize(
    ("case", "kind", "says"),
    [
        ("stale", "STALE_DATA", 'Expected branch to point to "%s" but it did not.  Pull and try'),
        ("gone", "NOT_FOUND", "does not exist"),
        ("protected", "UNPROCESSABLE", "Changes must be made through a pull request"),
        ("reader", "FORBIDDEN", "does not have the correct permissions"),
        ("read-token", "FORBIDDEN", "Resource not accessible by integration"),
    ],
)
def test_a_commit_through_graphql_is_refused(
    hub: FakeHub, bot: Asker, case: str, kind: str, says: str
) -> None:
    open_pull(hub)
    base, head = hub.tip("main") or "", head_of(hub)
    if case == "protected":
        hub.protect(BRANCH, Protection())
    if case == "reader":
        bot = Asker(hub, hub.add_user("reader", "read"))
    if case == "read-token":
        bot = Asker(hub, hub.actions_token(contents="read"))
    before = hub.world()
    given = commit_input(
        hub, base if case == "stale" else head, "gone" if case == "gone" else BRANCH
    )
    body = bot.graphql(COMMIT, input=given)
    assert body["data"] == {"createCommitOnBranch": None}
    assert body["errors"][0]["type"] == kind
    assert (says % base if "%s" in says else says) in body["errors"][0]["message"]
    assert hub.world() == before


def test_of_two_commits_on_one_head_one_wins(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)
    given = commit_input(hub, head_of(hub))
    bodies: list[Any] = []
    threads = [
        threading.Thread(target=lambda: bodies.append(bot.graphql(COMMIT, input=given)))
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted("errors" in each for each in bodies) == [False, True, True, True]


def test_auto_merge_is_refused_where_github_refuses_it(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)
    node = bot("GET", f"{REPO}/pulls/1").body["node_id"]

    def enable(**more: str) -> Any:
        return bot.graphql(AUTO, input={"pullRequestId": node, "mergeMethod": "SQUASH"} | more)

    says = []
    says.append(enable()["errors"][0]["message"])
    hub.switches.allow_auto_merge = True
    says.append(enable()["errors"][0]["message"])
    hub.protect("main", Protection())
    says.append(enable()["errors"][0]["message"])
    assert says == [
        '["Pull request Auto merge is not allowed for this repository"]',
        '["Pull request Protected branch rules not configured for this branch"]',
        '["Pull request Pull request is in clean status"]',
    ]
    needs_status(hub)
    assert "expected head" in enable(expectedHeadOid=hub.tip("main") or "")["errors"][0]["message"]
    done = enable(expectedHeadOid=head_of(hub))["data"]["enablePullRequestAutoMerge"]
    assert done["pullRequest"]["autoMergeRequest"] == {"mergeMethod": "SQUASH"}
    assert "[auto-merge]" in hub.world()
    status = {"state": "success", "context": "ratchet/holdout"}
    bot("POST", f"{REPO}/statuses/{head_of(hub)}", status)
    assert bot("GET", f"{REPO}/pulls/1").body["merged"] is True


def test_a_merge_queue_merges_when_it_is_run(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)
    hub.switches.allow_auto_merge = True
    queue(hub)
    node = bot("GET", f"{REPO}/pulls/1").body["node_id"]
    done = bot.graphql(AUTO, input={"pullRequestId": node})["data"]["enablePullRequestAutoMerge"]
    assert done["pullRequest"]["isInMergeQueue"] is True
    assert hub.read("main", SKILL) == SKILL_TEXT
    assert "[auto-merge, queued]" in hub.world()
    bot.graphql(queueing("dequeue"), input={"id": node})
    assert hub.run_merge_queue() == []
    bot.graphql(queueing("enqueue"), input={"pullRequestId": node})
    asked = "query($id: ID!) { node(id: $id) { ... on PullRequest { isInMergeQueue } } }"
    assert bot.graphql(asked, id=node)["data"]["node"] == {"isInMergeQueue": True}
    assert hub.run_merge_queue() == [1]
    assert hub.read("main", SKILL) == NEW


def test_a_query_reads_a_pull_request(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)
    asked = """query($n: Int!) { repository(owner: "octo", name: "demo") {
      mergeQueue(branch: "main") { id }
      ref(qualifiedName: "refs/heads/main") { target { oid } }
      pullRequest(number: $n) { mergeable mergeStateStatus headRefOid state } } }"""
    got = [bot.graphql(asked, n=1)["data"]["repository"] for _ in range(2)]
    assert got[1] == {
        "mergeQueue": None,
        "ref": {"target": {"oid": hub.tip("main")}},
        "pullRequest": {
            "mergeable": "MERGEABLE",
            "mergeStateStatus": "CLEAN",
            "headRefOid": head_of(hub),
            "state": "OPEN",
        },
    }
    assert got[0]["pullRequest"]["mergeable"] == "UNKNOWN"
    missing = bot.graphql(asked, n=7)["errors"][0]
    assert missing["type"] == "NOT_FOUND"


# Git over HTTP


def clone(hub: FakeHub, tmp_path: Path, token: str, *args: str) -> GitRepo:
    """A clone with a token in its remote."""
    target = tmp_path / "clone"
    url = hub.clone_url_for(token)
    subprocess.run(["git", "clone", "--quiet", *args, url, target], check=True)
    return GitRepo(target)


def refused(repo: GitRepo, *args: str) -> str:
    """What git says when it fails."""
    done = subprocess.run(
        ["git", *args], cwd=repo.path, check=False, capture_output=True, text=True
    )
    assert done.returncode != 0, done
    return done.stderr


def test_a_real_push_opens_and_moves_a_pull_request(
    hub: FakeHub, bot: Asker, tmp_path: Path
) -> None:
    repo = clone(hub, tmp_path, hub.add_user("writer"))
    repo.git("switch", "--quiet", "-c", BRANCH)
    repo.write(SKILL, NEW)
    first = repo.commit("Say it kindly")
    repo.git("push", "--quiet", "origin", BRANCH)
    assert bot("POST", f"{REPO}/pulls", PULL).body["head"]["sha"] == first
    repo.write(SKILL, NEW + "\nMore.\n")
    second = repo.commit("More")
    repo.git("push", "--quiet", "origin", BRANCH)
    assert bot("GET", f"{REPO}/pulls/1").body["head"]["sha"] == second
    repo.git("fetch", "--quiet", "origin", "refs/pull/1/head")
    assert repo.tip("FETCH_HEAD") == second


def test_a_push_that_is_no_fast_forward_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    open_pull(hub)
    repo = clone(hub, tmp_path, hub.add_user("writer"))
    repo.git("switch", "--quiet", BRANCH)
    theirs = hub.person_pushes("writer", BRANCH, {SKILL: "theirs\n"})
    repo.write(SKILL, "ours\n")
    ours = repo.commit("Ours")
    assert "rejected" in refused(repo, "push", "origin", BRANCH)
    assert "stale info" in refused(repo, "push", "--force-with-lease", "origin", BRANCH)
    assert hub.tip(BRANCH) == theirs
    repo.git("push", "--quiet", "--force", "origin", BRANCH)
    assert hub.tip(BRANCH) == ours


@pytest.mark.parametrize(
    ("who", "says"),
    [
        ("reader", "403"),
        ("read-token", "403"),
        ("wrong", "Authentication failed"),
    ],
)
def test_a_push_needs_the_right(hub: FakeHub, tmp_path: Path, who: str, says: str) -> None:
    repo = clone(hub, tmp_path, hub.add_user("reader", "read"))
    tokens = {"read-token": hub.actions_token(contents="read"), "wrong": "nonsense"}
    if who in tokens:
        repo.git("remote", "set-url", "origin", hub.clone_url_for(tokens[who]))
    repo.write(SKILL, NEW)
    repo.commit("Mine")
    before = hub.tip("main")
    assert says in refused(repo, "push", "origin", "main")
    assert hub.tip("main") == before


def test_a_protected_branch_and_pull_refs_take_no_push(hub: FakeHub, tmp_path: Path) -> None:
    hub.protect("main", Protection())
    repo = clone(hub, tmp_path, hub.add_user("writer"))
    repo.write(SKILL, NEW)
    repo.commit("Mine")
    assert "GH006: Protected branch update failed" in refused(repo, "push", "origin", "main")
    assert "hidden ref" in refused(repo, "push", "origin", "HEAD:refs/pull/7/head")
    repo.git("push", "--quiet", "origin", "HEAD:free")
    assert hub.tip("main") != hub.tip("free")


def test_large_pushes_and_partial_clones_work(hub: FakeHub, tmp_path: Path) -> None:
    token = hub.add_user("writer")
    repo = clone(hub, tmp_path, token, "--depth=1", "--filter=blob:none", "--sparse")
    assert not (repo.path / SKILL).exists()
    repo.git("sparse-checkout", "disable")
    assert (repo.path / SKILL).read_text() == SKILL_TEXT
    noise = b"".join(f"{n * 7919 % 104729:x}".encode() for n in range(60_000))
    repo.write("noise.txt", noise)
    repo.commit("Noise")
    repo.git("-c", "http.postBuffer=4096", "push", "--quiet", "origin", "HEAD:noise")
    assert hub.read("noise", "noise.txt") == noise.decode()


def test_the_repository_s_own_settings_stay_as_they_are(bare: Path, tmp_path: Path) -> None:
    before = (bare / "config").read_bytes(), sorted(each.name for each in bare.iterdir())
    with FakeHub(bare) as hub:
        clone(hub, tmp_path, hub.add_user("writer"))
    after = (bare / "config").read_bytes(), sorted(each.name for each in bare.iterdir())
    assert before == after


# Faults


@pytest.mark.parametrize(("after", "there"), [(False, 0), (True, 1)], ids=["before", "after"])
def test_a_502_comes_before_or_after_the_effect(
    hub: FakeHub, bot: Asker, *, after: bool, there: int
) -> None:
    hub.fail_next("POST", r"/issues$", 502, after_effect=after)
    assert bot("POST", f"{REPO}/issues", {"title": "x"}).status == 502
    assert len(bot("GET", f"{REPO}/issues").body) == there
    assert bot("POST", f"{REPO}/issues", {"title": "y"}).status == 201


def test_a_merge_may_have_happened_although_the_answer_was_lost(hub: FakeHub, bot: Asker) -> None:
    open_pull(hub)
    hub.fail_next("PUT", r"/merge$", Fault.disconnect(), after_effect=True)
    with pytest.raises(http.client.RemoteDisconnected):
        bot("PUT", f"{REPO}/pulls/1/merge", {"sha": head_of(hub)})
    assert bot("PUT", f"{REPO}/pulls/1/merge", {}).status == 405
    assert bot("GET", f"{REPO}/pulls/1").body["merged"] is True


@pytest.mark.parametrize(
    ("fault", "status", "header", "value"),
    [
        (Fault.secondary_limit(), 403, "retry-after", "1"),
        (Fault.secondary_limit(status=429, retry_after=None), 429, "retry-after", None),
        (Fault.primary_limit(reset=1_767_229_200), 403, "x-ratelimit-remaining", "0"),
        (Fault.redirect("/elsewhere"), 307, "location", "/elsewhere"),
        (Fault(status=200, body={"errors": [{"type": "RATE_LIMITED"}]}), 200, "location", None),
    ],
    ids=["secondary", "secondary-429-without-retry-after", "primary", "redirect", "body"],
)
def test_limits_and_redirects(  # noqa: PLR0917 - one argument a column of the table
    hub: FakeHub, bot: Asker, fault: Fault, status: int, header: str, value: str | None
) -> None:
    hub.fail_next("GET", f"{REPO}$", fault, times=2)
    answers = [bot("GET", REPO) for _ in range(3)]
    assert [each.status for each in answers] == [status, status, 200]
    assert answers[0].headers.get(header) == value
    assert [each.injected for each in hub.exchanges] == [True, True, False]


def test_a_fault_may_be_meant_for_one_mutation_or_for_git(
    hub: FakeHub, bot: Asker, tmp_path: Path
) -> None:
    hub.fail_next("POST", "graphql", 502, containing="createCommitOnBranch")
    hub.fail_next("GET", r"info/refs$", 500)
    assert "data" in bot.graphql("query { viewer { login } }")
    open_pull(hub)
    given = commit_input(hub, head_of(hub))
    assert bot.graphql(COMMIT, input=given) == {"message": "Server Error"}
    with pytest.raises(subprocess.CalledProcessError):
        clone(hub, tmp_path, hub.add_user("writer"))


def test_a_renamed_repository_redirects(bare: Path) -> None:
    """Reads get 301, writes 307, and the way by number works."""
    with FakeHub(bare, formerly="octo/old") as hub:
        writer = Asker(hub, hub.add_user("writer"))
        read, write = (
            writer("GET", "/repos/octo/old/issues"),
            writer("POST", "/repos/octo/old/issues", {"title": "x"}),
        )
        assert (read.status, write.status) == (301, 307)
        assert hub.world().startswith("commits:")
        path = write.headers["location"].removeprefix(hub.url)
        assert writer("POST", path, {"title": "x"}).status == 201
        assert hub.violations == []


def test_a_silent_client_does_not_keep_the_hub_from_ending(bare: Path) -> None:
    before = threading.active_count()
    with FakeHub(bare) as hub:
        port = urlsplit(hub.url).port or 0
        silent = socket.create_connection(("127.0.0.1", port))
        Asker(hub, hub.add_user("writer"))("GET", REPO)
    silent.close()
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


# The official description


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "/issues", {"title": "x", "labls": []}, "property labls is unknown"),
        ("POST", "/issues", {"body": "x"}, '"title" is a required property'),
        ("POST", "/issues", None, "the body is missing"),
        ("GET", "/issues?page=two", None, 'query page: at top: "two" is not of type "integer"'),
        ("GET", "/issues?color=red", None, "query color is unknown"),
        ("GET", "/pulls?state=merged", None, "query state"),
        ("GET", "/milestones", None, "is not in the slice"),
        ("POST", "/issues/1/labels", {"labels": [1]}, "at top"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_request_is_a_violation(
    bare: Path, method: str, path: str, body: Any, says: str
) -> None:
    with FakeHub(bare) as hub:
        Asker(hub, hub.add_user("writer"))(method, f"{REPO}{path}", body)
        assert any(says in each for each in hub.violations), hub.violations


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("query { viewer { name_ } }", "Cannot query field 'name_'"),
        (
            "mutation { enablePullRequestAutoMerge(input: {}) { clientMutationId } }",
            "include required field",
        ),
        ("nonsense", "Syntax Error"),
    ],
)
def test_a_wrong_query_is_a_violation(bare: Path, query: str, says: str) -> None:
    with FakeHub(bare) as hub:
        Asker(hub, hub.add_user("writer")).graphql(query)
        assert any(says in each for each in hub.violations), hub.violations


def test_a_wrong_response_is_a_violation(hub: FakeHub, bot: Asker) -> None:
    number = hub.person_opens_issue("writer", "x")
    path = f"{REPO}/issues/{number}"
    shown = bot("GET", path).body
    template = "/repos/{owner}/{repo}/issues/{issue_number}"

    def wrong(status: int, body: Any) -> list[str]:
        return Checker().response("GET", template, status, "application/json", body)

    assert wrong(200, shown) == []
    assert any("number" in each for each in wrong(200, shown | {"number": "1"}))
    assert any("title" in each for each in wrong(200, {k: shown[k] for k in shown if k != "title"}))
    assert any(
        "at user" in each for each in wrong(200, shown | {"user": shown["user"] | {"url": "?"}})
    )
    assert wrong(418, {"message": "teapot"}) != []
    assert any("response 403" in each for each in wrong(403, {"message": 7})), "allowed, not exempt"


def test_the_slice_and_the_routes_are_the_same_operations() -> None:
    described = {
        (verb.upper(), path)
        for path, verbs in validate._description()["paths"].items()
        for verb in verbs
    }
    assert described == {(each.verb, each.template) for each in rest.ROUTES}


def test_every_exception_names_an_operation_and_a_reason() -> None:
    operations = {f"{each.verb} {each.template}" for each in rest.ROUTES} | {"*"}
    assert {each.operation for each in ALLOWED} <= operations
    assert all(len(each.reason) > 20 for each in ALLOWED)


def test_the_slice_keeps_whole_components_and_leaves_prose_out() -> None:
    """A property that is called like a keyword of prose stays."""
    item = {"type": "object", "properties": {"description": {"type": "string"}, "example": {}}}
    schema = {"$ref": "#/components/schemas/a"}
    operation = {"summary": "s", "x-github": {}, "responses": {"200": {"schema": schema}}}
    description: dict[str, Any] = {
        "openapi": "3.0.3",
        "info": {"version": "1", "license": {"name": "MIT"}},
        "paths": {each.template: {} for each in rest.ROUTES},
        "components": {
            "schemas": {
                "a": {"description": "A.", "items": {"$ref": "#/components/schemas/b"}},
                "b": item | {"examples": [1], "description": "B."},
                "unused": {},
            }
        },
    }
    for each in rest.ROUTES:
        description["paths"][each.template][each.verb.lower()] = operation
    got = sliced(description)
    assert got["components"] == {
        "schemas": {"a": {"items": {"$ref": "#/components/schemas/b"}}, "b": item}
    }
    assert got["paths"]["/user"] == {"get": {"responses": {"200": {"schema": schema}}}}


# A real client


@pytest.mark.parametrize("enterprise", [False, True], ids=["github.com", "enterprise"])
def test_pygithub_works_on_it(bare: Path, *, enterprise: bool) -> None:
    with FakeHub(bare, enterprise=enterprise) as hub:
        hub.add_user("writer")
        hub.person_pushes("writer", BRANCH, {SKILL: NEW}, "Say it kindly")
        client = Github(
            auth=Auth.Token(hub.actions_token()),
            base_url=hub.url,
            retry=None,
            seconds_between_requests=0,
            seconds_between_writes=0,
        )
        with client:
            drive(client, hub)
        assert hub.violations == []
        assert "merged by github-actions[bot]: Be kind" in hub.world()
        assert "issue #2 closed by github-actions[bot] (not_planned): Dashboard" in hub.world()


def drive(client: Github, hub: FakeHub) -> None:
    """The calls a forge makes, the way PyGithub makes them."""
    repo = client.get_repo(hub.repository)
    pull = repo.create_pull(base="main", head=BRANCH, title="Be kind", body="Why.")
    with pytest.raises(GithubException, match="already exists") as twice:
        repo.create_pull(base="main", head=BRANCH, title="Be kind")
    assert twice.value.status == 422
    assert [each.number for each in repo.get_pulls(head=f"octo:{BRANCH}")] == [1]
    pull.edit(body="Why not.")
    pull.add_to_labels("ratchet", "gone")
    pull.remove_from_labels("gone")
    pull.set_labels("ratchet")
    comment = pull.create_issue_comment("sticky")
    comment.edit("still sticky")
    comment.create_reaction("rocket")
    commit = repo.get_commit(pull.head.sha)
    commit.create_status("success", context="ratchet/holdout", description="+0.10")
    assert commit.get_combined_status().state == "success"
    assert [each.context for each in commit.get_statuses()] == ["ratchet/holdout"]
    assert [each.number for each in commit.get_pulls()] == [1]
    assert repo.get_collaborator_role_name("writer") == "write"
    compared = repo.compare("main", BRANCH)
    assert [each.filename for each in compared.files] == [SKILL]
    content = repo.get_contents(SKILL, ref=BRANCH)
    assert not isinstance(content, list)
    assert content.decoded_content.decode() == NEW
    issue = repo.create_issue("Dashboard", "text", labels=["dashboard"])
    issue.edit(body="other", state="closed", state_reason="not_planned")
    found = repo.get_issues(state="all", labels=["dashboard"])
    assert [each.number for each in found] == [2]
    _, body = client.requester.graphql_query("query { viewer { login } }", {})
    assert body["data"]["viewer"]["login"] == "github-actions[bot]"
    given = commit_input(hub, hub.tip("main") or "")
    with pytest.raises(GithubException, match="STALE_DATA"):
        client.requester.graphql_query(COMMIT, {"input": given})
    with pytest.raises(GithubException, match="Head branch was modified") as moved:
        pull.merge(sha=hub.tip("main") or "")
    assert moved.value.status == 409
    assert pull.merge(sha=pull.head.sha, merge_method="squash").merged
    ref = repo.create_git_ref("refs/heads/spare", pull.head.sha)
    ref.delete()
    assert pull.is_merged()
