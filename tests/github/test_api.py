"""The GitHub client, request by request: what it sends, what it makes of every kind of answer.

Each test says what GitHub would answer to each request, in order; the last answer is repeated. A
request that no test planned fails it, so what must not be sent is asserted by not planning it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import subprocess
import sys
import traceback
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
import requests
import responses

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.github.api import (
    FileCommit,
    GitHub,
    MergeOrder,
    Status,
    Unsupported,
    Waiting,
)
from skill_ratchet.github.http import Wire
from skill_ratchet.project.proposal import Merged, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "ghs_1234_" + "canarycanary" * 42  # as long as an installation's token is nowadays
REPO = "acme/shop"
ROOT = f"/repos/{REPO}"
BOT = "github-actions[bot]"
MARKER = "<!-- ratchet:sticky refunds -->"
BRANCH = "ratchet/refunds"
BASE, HEAD, OTHER = "b" * 40, "a" * 40, "c" * 40
GRAPHQL = "POST /graphql"
PULL = f"GET {ROOT}/pulls/7"
PULLS = f"GET {ROOT}/pulls"
OPEN = f"POST {ROOT}/pulls"
PUT = f"PUT {ROOT}/pulls/7/merge"
MAIN = f"GET {ROOT}/git/ref/heads/main"
TIP = f"GET {ROOT}/git/ref/heads/{BRANCH}"
COMMENTS = f"GET {ROOT}/issues/7/comments"
COMMENT = f"POST {ROOT}/issues/7/comments"
ISSUES = f"GET {ROOT}/issues"
STATUSES = f"GET {ROOT}/commits/{HEAD}/statuses"
LOST = requests.exceptions.ReadTimeout("the read took too long")
VIEWER = {"data": {"viewer": {"login": BOT}}}

Plan = Any  # a status, a body, (status, body), (status, body, headers), or an exception


class Hub:
    """Answers as planned and records what was asked."""

    def __init__(self, mock: responses.RequestsMock, host: str) -> None:
        self.plans: dict[str, list[Plan]] = {}
        self.asked: list[str] = []
        self.bodies: defaultdict[str, list[Any]] = defaultdict(list)
        self.queries: list[str] = []
        self.headers: list[Any] = []
        self.unplanned: list[str] = []
        self.slept: list[float] = []
        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            mock.add_callback(verb, re.compile(re.escape(host)), self._answer)

    def plan(self, plans: dict[str, Plan]) -> None:
        for key, value in plans.items():
            self.plans[key] = list(value) if isinstance(value, list) else [value]

    def _answer(self, request: Any) -> tuple[int, dict[str, str], str]:
        key = f"{request.method} {urlsplit(request.url).path}"
        body = json.loads(request.body) if request.body else None
        if body and "viewer" in body.get("query", ""):
            key += " viewer"
        self.headers.append(request.headers)
        self.asked.append(key)
        self.bodies[key].append(body)
        self.queries.append(urlsplit(request.url).query)
        if key not in self.plans:
            self.unplanned.append(key)
            return 500, {}, "unplanned"
        queue = self.plans[key]
        return _http(queue.pop(0) if len(queue) > 1 else queue[0])

    @property
    def writes(self) -> list[str]:
        """What was asked, without reads."""
        reads = ("GET ", f"{GRAPHQL} viewer")
        return [key for key in self.asked if not key.startswith(reads)]


def _http(plan: Plan) -> tuple[int, dict[str, str], str]:
    if isinstance(plan, Exception):
        raise plan
    if isinstance(plan, int):
        return plan, {}, json.dumps({"message": f"status {plan}"})
    status, body, headers = (*plan, {})[:3] if isinstance(plan, tuple) else (200, plan, {})
    return status, headers, body if isinstance(body, str) else json.dumps(body)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        world = Hub(mock, "https://api.github.com:443/")
        world.plan({f"{GRAPHQL} viewer": VIEWER})
        yield world
        assert not world.unplanned


def connect(hub: Hub, **overrides: Any) -> GitHub:
    base: dict[str, Any] = {
        "token": TOKEN,
        "repository": REPO,
        "clock": lambda: 0.0,
        "sleep": hub.slept.append,
    }
    return GitHub(Wire(**(base | overrides)))


def ref(sha: str) -> dict[str, Any]:
    return {"ref": "refs/heads/x", "object": {"sha": sha, "type": "commit"}}


def pull(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "number": 7,
        "node_id": "PR_7",
        "html_url": "https://github.com/acme/shop/pull/7",
        "title": "refunds: ask for the order number",
        "body": f"{MARKER}\nWhy.",
        "user": {"login": BOT},
        "state": "open",
        "draft": False,
        "merged_at": None,
        "head": {"ref": BRANCH, "sha": HEAD, "repo": {"full_name": REPO}},
        "base": {"ref": "main", "sha": BASE},
        "mergeable": True,
        "mergeable_state": "clean",
        "merge_commit_sha": OTHER,
        "auto_merge": None,
        "labels": [{"name": "ratchet"}],
        "created_at": "2026-01-01T00:00:00Z",
    }
    return base | changes


def merged_pull(**changes: Any) -> dict[str, Any]:
    return pull(state="closed", merged_at="2026-01-01T00:00:00Z", mergeable=None, **changes)


def head(sha: str = HEAD, *, repository: str | None = REPO, name: str = BRANCH) -> dict[str, Any]:
    return {"ref": name, "sha": sha, "repo": {"full_name": repository} if repository else None}


def comment(number: int, body: str, author: str | None = BOT) -> dict[str, Any]:
    user = {"login": author} if author else None
    return {"id": number, "html_url": f"https://x/{number}", "user": user, "body": body}


def issue(number: int, body: str, **changes: Any) -> dict[str, Any]:
    base = {"number": number, "html_url": f"https://x/{number}", "state": "open", "title": "R"}
    return base | {"user": {"login": BOT}, "body": body} | changes


def status(state: str = "pending", creator: str = BOT, **changes: Any) -> dict[str, Any]:
    base = {"context": "ratchet/holdout", "state": state, "description": "d", "target_url": None}
    return base | {"creator": {"login": creator}} | changes


def said(words: str, kind: str | None = "UNPROCESSABLE") -> dict[str, Any]:
    """GraphQL's way to fail: with status 200."""
    return {"data": {"x": None}, "errors": [{"message": words} | ({"type": kind} if kind else {})]}


# Merging


def merge(
    hub: Hub, plans: dict[str, Plan], *, auto: bool = True, **overrides: Any
) -> Merged | Waiting | Refused:
    hub.plan({PULL: pull(), MAIN: ref(BASE)} | plans)
    order: dict[str, Any] = {
        "number": 7,
        "head_sha": HEAD,
        "base_ref": "main",
        "base_sha": BASE,
        "method": "squash",
        "hold_labels": {"ratchet:hold"},
    }
    return connect(hub).merge_pull(MergeOrder(**(order | overrides)), auto=auto, queue=auto)


DONE = {"merged": True, "sha": OTHER, "message": "Pull Request successfully merged"}
BLOCKED = (405, {"message": "At least 1 approving review is required by reviewers."})
QUEUE = (405, {"message": "Changes must be made through the merge queue"})
NOT_MERGEABLE = (405, {"message": "Pull Request is not mergeable"})
NOT_QUEUED = {"data": {"node": {"isInMergeQueue": False}}}
QUEUED = {"data": {"node": {"isInMergeQueue": True}}}
CLEAN = said("Pull request Pull request is in clean status")
RULED = pull(mergeable_state="blocked")

MERGES: dict[str, tuple[dict[str, Plan], int]] = {  # plans, PUTs
    "at once": ({PUT: DONE}, 1),
    "mergeable null, then true": ({PULL: [pull(mergeable=None), pull()], PUT: DONE}, 1),
    "merged before": ({PULL: merged_pull()}, 0),
    "502, and it had merged": ({PULL: [pull(), merged_pull()], PUT: 502}, 1),
    "timeout, and it had merged": ({PULL: [pull(), merged_pull()], PUT: LOST}, 1),
    "502, had not merged, then does": ({PUT: [502, DONE]}, 2),
    "502, stale read, then 405, had merged": (
        {PULL: [pull(), pull(), merged_pull()], PUT: [502, NOT_MERGEABLE]},
        2,
    ),
    "four times 502, merged by the last": (
        {PULL: [pull(), pull(), pull(), pull(), merged_pull()], PUT: 502},
        4,
    ),
    "200 that is not JSON, had merged": ({PULL: [pull(), merged_pull()], PUT: (200, "<html>")}, 1),
    "clean in the meantime": (
        {PULL: [RULED, RULED, RULED, pull()], GRAPHQL: [CLEAN, NOT_QUEUED], PUT: [BLOCKED, DONE]},
        2,
    ),
}


@pytest.mark.parametrize("row", MERGES, ids=str)
def test_merges(hub: Hub, row: str) -> None:
    """What merged is reported as merged, whatever GitHub's first answer was."""
    plans, puts = MERGES[row]
    done = merge(hub, plans)
    assert isinstance(done, Merged), done
    assert (done.branch, done.commit) == ("main", OTHER)
    assert done.already is (PUT not in hub.asked or PULL in hub.asked[hub.asked.index(PUT) :]) or (
        row in {"502, had not merged, then does", "clean in the meantime"}
    )
    assert hub.asked.count(PUT) == puts


def test_every_merge_names_the_head_that_was_measured(hub: Hub) -> None:
    merge(hub, {PUT: [502, 502, DONE]}, message="m")
    wanted = {"sha": HEAD, "merge_method": "squash", "commit_message": "m"}
    assert hub.bodies[PUT] == [wanted] * 3


def test_everything_is_read_afresh_before_each_attempt(hub: Hub) -> None:
    merge(hub, {PUT: [502, DONE]})
    assert hub.asked == [PULL, MAIN, PUT, PULL, MAIN, PUT]


@pytest.mark.parametrize("sha", ["", "HEAD", "a" * 39, HEAD + "\n", HEAD.upper(), "main"])
@pytest.mark.parametrize("field", ["head_sha", "base_sha"])
def test_no_merge_without_the_exact_commits(hub: Hub, field: str, sha: str) -> None:
    with pytest.raises(ValueError, match=field):
        merge(hub, {}, auto=True, **{field: sha})
    assert hub.asked == []


MOVED_HEAD = pull(head=head(OTHER))
MOVED_BASE = [ref(BASE), ref(OTHER)]
REFUSALS: dict[str, tuple[dict[str, Plan], str, int]] = {  # plans, reason, PUTs
    "head moved": ({PULL: MOVED_HEAD}, "head_moved", 0),
    "merged with another head": ({PULL: merged_pull(head=head(OTHER))}, "head_moved", 0),
    "head moved while mergeability was computed": (
        {PULL: [pull(mergeable=None), MOVED_HEAD]},
        "head_moved",
        0,
    ),
    "base moved": ({MAIN: ref(OTHER)}, "base_moved", 0),
    "base moved during a 502": ({MAIN: MOVED_BASE, PUT: 502}, "base_moved", 1),
    "aims elsewhere": ({PULL: pull(base={"ref": "dev", "sha": BASE})}, "closed", 0),
    "closed": ({PULL: pull(state="closed")}, "closed", 0),
    "closed during a 502": ({PULL: [pull(), pull(state="closed")], PUT: 502}, "closed", 1),
    "draft": ({PULL: pull(draft=True)}, "closed", 0),
    "held": ({PULL: pull(labels=[{"name": "ratchet:hold"}])}, "held", 0),
    "held during a 502": (
        {PULL: [pull(), pull(labels=[{"name": "ratchet:hold"}])], PUT: 502},
        "held",
        1,
    ),
    "conflict": ({PULL: pull(mergeable=False)}, "conflict", 0),
    "mergeable stays null": ({PULL: pull(mergeable=None)}, "uncertain", 0),
    "409": ({PUT: 409}, "head_moved", 1),
    "405, head moved": ({PULL: [pull(), MOVED_HEAD], PUT: NOT_MERGEABLE}, "head_moved", 1),
    "405, base moved": ({MAIN: MOVED_BASE, PUT: NOT_MERGEABLE}, "base_moved", 1),
    "405 says that the base moved": (
        {PUT: (405, {"message": "Base branch was modified. Review and try the merge again."})},
        "base_moved",
        1,
    ),
    "405 for no known reason": ({PUT: NOT_MERGEABLE}, "blocked", 1),
    "405, someone else merged another head": (
        {PULL: [pull(), merged_pull(head=head(OTHER))], PUT: NOT_MERGEABLE},
        "head_moved",
        1,
    ),
    "422": ({PUT: (422, {"message": "Invalid", "errors": ["sha"]})}, "blocked", 1),
    "502 for ever": ({PUT: 502}, "uncertain", 4),
    "timeout for ever": ({PUT: LOST}, "uncertain", 4),
    "blocked, auto-merge is off": (
        {PULL: RULED, PUT: BLOCKED, GRAPHQL: [said("Auto merge is not allowed"), NOT_QUEUED]},
        "blocked",
        1,
    ),
    "blocked, then clean, then blocked": (
        {PULL: RULED, PUT: BLOCKED, GRAPHQL: [CLEAN, NOT_QUEUED]},
        "blocked",
        2,
    ),
    "blocked, then clean, then moved": (
        {PULL: [RULED, RULED, RULED, MOVED_HEAD], PUT: BLOCKED, GRAPHQL: [CLEAN, NOT_QUEUED]},
        "head_moved",
        1,
    ),
    "blocked, and unstable is not clean": (
        {
            PULL: RULED,
            PUT: BLOCKED,
            GRAPHQL: [said("Pull request Pull request is in unstable status"), NOT_QUEUED],
        },
        "blocked",
        1,
    ),
    "the queue says no": (
        {PUT: QUEUE, GRAPHQL: [said("Head sha does not match"), NOT_QUEUED]},
        "blocked",
        1,
    ),
}


@pytest.mark.parametrize("row", REFUSALS, ids=str)
def test_does_not_merge(hub: Hub, row: str) -> None:
    plans, reason, puts = REFUSALS[row]
    done = merge(hub, plans)
    assert isinstance(done, Refused), done
    assert done.reason == reason
    assert done.detail
    assert hub.asked.count(PUT) == puts


@pytest.mark.parametrize("code", [401, 403, 404, 301, 307, 418])
def test_a_merge_that_the_token_may_not_make_is_an_error(hub: Hub, code: int) -> None:
    with pytest.raises(RatchetError, match=rf"PUT .*/merge \({301 if code == 307 else code}\)"):
        merge(hub, {PUT: code})
    assert hub.asked.count(PUT) == 1


@pytest.mark.parametrize(
    ("plans", "how"),
    [
        pytest.param({PULL: RULED, PUT: BLOCKED, GRAPHQL: {"data": {}}}, "auto_merge", id="rules"),
        pytest.param({PUT: QUEUE, GRAPHQL: {"data": {}}}, "merge_queue", id="queue"),
        pytest.param(
            {PUT: QUEUE, GRAPHQL: [said("It is already there"), QUEUED]},
            "merge_queue",
            id="already in the queue",
        ),
        pytest.param(
            {
                PULL: [RULED, RULED, pull(auto_merge={"merge_method": "squash"})],
                PUT: BLOCKED,
                GRAPHQL: said("It is already on"),
            },
            "auto_merge",
            id="already on",
        ),
        pytest.param(
            {PUT: QUEUE, GRAPHQL: [502, LOST, {"data": {}}]}, "merge_queue", id="after a 502"
        ),
    ],
)
def test_github_merges_later(hub: Hub, plans: dict[str, Plan], how: str) -> None:
    """Where rules demand it; and only the head that was measured."""
    assert merge(hub, plans) == Waiting.model_validate({"how": how})
    for body in hub.bodies[GRAPHQL]:
        wanted = {"pullRequestId": "PR_7", "expectedHeadOid": HEAD}
        if how == "auto_merge":
            wanted["mergeMethod"] = "SQUASH"
        assert body["variables"]["input"] in (wanted, "PR_7")


def test_a_queue_is_not_used_unasked(hub: Hub) -> None:
    done = merge(hub, {PUT: QUEUE}, auto=False)
    assert isinstance(done, Refused)
    assert (done.reason, GRAPHQL in hub.asked) == ("blocked", False)
    assert "auto_merge: true" in (done.hint or "")


def test_auto_merge_is_not_used_unasked(hub: Hub) -> None:
    """It may merge onto another base than the one measured."""
    done = merge(hub, {PULL: RULED, PUT: BLOCKED}, auto=False)
    assert isinstance(done, Refused)
    assert (done.reason, GRAPHQL in hub.asked) == ("blocked", False)


AUTO = pull(auto_merge={"merge_method": "squash"})
CANCELS: dict[str, tuple[list[Plan], list[Plan], list[str]]] = {  # pulls, GraphQL, mutations
    "nothing to take back": ([pull()], [NOT_QUEUED], []),
    "auto-merge": ([AUTO, pull()], [{"data": {}}, NOT_QUEUED], ["disablePullRequestAutoMerge"]),
    "queue": ([pull()], [QUEUED, {"data": {}}, NOT_QUEUED], ["dequeuePullRequest"]),
    "a server without queues": (
        [pull()],
        [{"errors": [{"message": "no", "extensions": {"code": "undefinedField"}}]}],
        [],
    ),
    "merged already": ([merged_pull()], [500], []),
}


@pytest.mark.parametrize("row", CANCELS, ids=str)
def test_a_merge_left_to_github_is_taken_back(hub: Hub, row: str) -> None:
    pulls, replies, mutations = CANCELS[row]
    hub.plan({PULL: pulls, GRAPHQL: replies})
    connect(hub).cancel_merge(7)
    asked = [body["query"] for body in hub.bodies[GRAPHQL] if "mutation" in body["query"]]
    assert [re.findall(r"(\w+)\(input", query)[0] for query in asked] == mutations


@pytest.mark.parametrize(
    ("pulls", "replies"),
    [
        pytest.param(AUTO, said("no"), id="auto-merge stays"),
        pytest.param(pull(), QUEUED, id="it stays in the queue"),
        pytest.param(pull(), said("something"), id="not known"),
        pytest.param(pull(), 502, id="502"),
    ],
)
def test_a_merge_that_may_still_come_is_never_reported_as_taken_back(
    hub: Hub, pulls: Plan, replies: Plan
) -> None:
    hub.plan({PULL: pulls, GRAPHQL: replies})
    with pytest.raises(RatchetError, match="#7"):
        connect(hub).cancel_merge(7)


# Commits

SKILL = "skills/refunds/SKILL.md"
TEXT = b"Ask for the order number.\n"
BLOB = hashlib.sha1(b"blob %d\0" % len(TEXT) + TEXT, usedforsecurity=False).hexdigest()
MESSAGE = "refunds: ask\n\nRatchet-Experiment: 1234\n"
READ = f"GET {ROOT}/commits/{HEAD}"
REFS = f"POST {ROOT}/git/refs"
MADE = {"data": {"createCommitOnBranch": {"commit": {"oid": HEAD}}}}


def commit(**changes: Any) -> dict[str, Any]:
    file = {"filename": SKILL, "sha": BLOB, "status": "modified"}
    base = {"parents": [{"sha": BASE}], "commit": {"message": MESSAGE}, "files": [file]}
    return base | changes


def put(hub: Hub, plans: dict[str, Plan]) -> str:
    hub.plan({READ: commit()} | plans)
    return connect(hub).put_file_commit(
        FileCommit(branch=BRANCH, parent=BASE, path=SKILL, content=TEXT, message=MESSAGE)
    )


AT_BASE, AT_HEAD, AT_OTHER = ref(BASE), ref(HEAD), ref(OTHER)
COMMITS: dict[str, tuple[dict[str, Plan], int]] = {  # plans, mutations
    "on a branch": ({TIP: [AT_BASE, AT_HEAD], GRAPHQL: MADE}, 1),
    "on a new branch": (
        {TIP: [404, 404, 404, AT_BASE, AT_HEAD], REFS: (201, AT_BASE), GRAPHQL: MADE},
        1,
    ),
    "done before": ({TIP: AT_HEAD}, 0),
    "502, and it was made": ({TIP: [AT_BASE, AT_HEAD], GRAPHQL: 502}, 1),
    "timeout, and it was made": ({TIP: [AT_BASE, AT_HEAD], GRAPHQL: LOST}, 1),
    "an error, and it was made": (
        {TIP: [AT_BASE, AT_HEAD], GRAPHQL: said("Something went wrong", None)},
        1,
    ),
    "signed off by GitHub": (
        {TIP: AT_HEAD, READ: commit(commit={"message": MESSAGE + "Signed-off-by: x"})},
        0,
    ),
}


@pytest.mark.parametrize("row", COMMITS, ids=str)
def test_commits_one_file(hub: Hub, row: str) -> None:
    plans, mutations = COMMITS[row]
    assert put(hub, plans) == HEAD
    assert hub.asked.count(GRAPHQL) == mutations
    for body in hub.bodies[GRAPHQL]:
        order = body["variables"]["input"]
        assert order["branch"] == {"repositoryNameWithOwner": REPO, "branchName": BRANCH}
        assert order["expectedHeadOid"] == BASE
        (added,) = order["fileChanges"].pop("additions")
        assert (added["path"], base64.b64decode(added["contents"])) == (SKILL, TEXT)
        assert order["fileChanges"] == {}
        assert order["message"] == {"headline": "refunds: ask", "body": MESSAGE.split("\n")[2]}


FILE = {"filename": SKILL, "sha": BLOB, "status": "modified"}
NOT_COMMITTED: dict[str, tuple[dict[str, Plan], type[RatchetError]]] = {
    "moved": ({TIP: AT_OTHER, f"GET {ROOT}/commits/{OTHER}": commit(files=[])}, RatchetError),
    "moved meanwhile": (
        {
            TIP: [AT_BASE, AT_OTHER],
            GRAPHQL: said("Expected branch to point to", "STALE_DATA"),
            f"GET {ROOT}/commits/{OTHER}": commit(parents=[{"sha": OTHER}]),
        },
        RatchetError,
    ),
    "another parent": ({TIP: AT_HEAD, READ: commit(parents=[{"sha": OTHER}])}, RatchetError),
    "two parents": ({TIP: AT_HEAD, READ: commit(parents=[{"sha": BASE}] * 2)}, RatchetError),
    "another file": (
        {TIP: AT_HEAD, READ: commit(files=[FILE | {"filename": "x"}])},
        RatchetError,
    ),
    "a second file": (
        {TIP: AT_HEAD, READ: commit(files=[FILE, FILE | {"filename": "x"}])},
        RatchetError,
    ),
    "another content": ({TIP: AT_HEAD, READ: commit(files=[FILE | {"sha": OTHER}])}, RatchetError),
    "a rename": (
        {TIP: AT_HEAD, READ: commit(files=[FILE | {"status": "renamed"}])},
        RatchetError,
    ),
    "another message": (
        {TIP: AT_HEAD, READ: commit(commit={"message": "x"})},
        RatchetError,
    ),
    "a 502, and it was not made": ({TIP: AT_BASE, GRAPHQL: 502}, RatchetError),
    "a rule": ({TIP: AT_BASE, GRAPHQL: said("Repository rule violations found")}, RatchetError),
    "no permission": (
        {TIP: AT_BASE, GRAPHQL: said("Resource not accessible by integration", "FORBIDDEN")},
        Unsupported,
    ),
    "no such mutation": (
        {
            TIP: AT_BASE,
            GRAPHQL: {"errors": [{"message": "?", "extensions": {"code": "undefinedField"}}]},
        },
        Unsupported,
    ),
    "no GraphQL": ({TIP: AT_BASE, GRAPHQL: 404}, Unsupported),
    "a bad token": ({TIP: AT_BASE, GRAPHQL: 401}, RatchetError),
    "a redirect": ({TIP: AT_BASE, GRAPHQL: 307}, RatchetError),
}


@pytest.mark.parametrize("row", NOT_COMMITTED, ids=str)
def test_does_not_commit(hub: Hub, row: str) -> None:
    """Only what the token or server cannot do calls for a push; a commit is not sent twice."""
    plans, kind = NOT_COMMITTED[row]
    with pytest.raises(RatchetError) as caught:
        put(hub, plans)
    assert type(caught.value) is kind
    assert caught.value.hint
    assert hub.asked.count(GRAPHQL) <= 1


@pytest.mark.parametrize(
    ("tips", "writes"),
    [
        pytest.param([404, 404, AT_BASE], [REFS], id="made"),
        pytest.param([AT_BASE], [], id="there already"),
        pytest.param([404, 404, AT_BASE, AT_BASE], [REFS], id="made in spite of a 502"),
    ],
)
def test_makes_a_branch(hub: Hub, tips: list[Plan], writes: list[str]) -> None:
    made = 502 if len(tips) > 3 else (201, AT_BASE)
    hub.plan({TIP: tips, REFS: made})
    connect(hub).create_branch(BRANCH, sha=BASE)
    assert hub.writes == writes


def test_leaves_a_branch_that_is_there_alone(hub: Hub) -> None:
    hub.plan({TIP: [AT_OTHER]})
    with pytest.raises(RatchetError, match="left as it is"):
        connect(hub).create_branch(BRANCH, sha=BASE)
    assert hub.writes == []


DROP = f"DELETE {ROOT}/git/refs/heads/{BRANCH}"
GONE_ALREADY = (422, {"message": "Reference does not exist"})
DROPS: dict[str, tuple[dict[str, Plan], list[str]]] = {
    "deleted": ({TIP: AT_BASE, DROP: (204, "")}, [DROP]),
    "gone before": ({TIP: 404}, []),
    "gone meanwhile": ({TIP: [AT_BASE, 404], DROP: GONE_ALREADY}, [DROP]),
    "deleted in spite of a 502": ({TIP: [AT_BASE, 404], DROP: [502, GONE_ALREADY]}, [DROP, DROP]),
    "not deleted at a 502": ({TIP: AT_BASE, DROP: [502, (204, "")]}, [DROP, DROP]),
}


@pytest.mark.parametrize("row", DROPS, ids=str)
def test_deletes_a_branch(hub: Hub, row: str) -> None:
    plans, writes = DROPS[row]
    hub.plan(plans)
    connect(hub).delete_branch(BRANCH, expected=BASE)
    assert hub.writes == writes


@pytest.mark.parametrize(
    ("plans", "said", "writes"),
    [
        pytest.param({TIP: AT_OTHER}, "left as it is", [], id="it has moved"),
        pytest.param(
            {TIP: AT_BASE, DROP: (422, {"message": "Cannot delete a protected branch"})},
            "Cannot delete a protected branch",
            [DROP],
            id="a rule forbids it",
        ),
        pytest.param({TIP: AT_BASE, DROP: 403}, "refused", [DROP], id="the token may not"),
    ],
)
def test_does_not_delete_a_branch(
    hub: Hub, plans: dict[str, Plan], said: str, writes: list[str]
) -> None:
    hub.plan(plans)
    with pytest.raises(RatchetError, match=said):
        connect(hub).delete_branch(BRANCH, expected=BASE)
    assert hub.writes == writes


def test_a_base_that_is_not_there_is_an_error(hub: Hub) -> None:
    hub.plan({MAIN: 404, TIP: 404})
    assert connect(hub).head_of(BRANCH) is None
    with pytest.raises(RatchetError, match="no branch main"):
        connect(hub).base_sha("main")


# People


@pytest.mark.parametrize("role", ["admin", "maintain", "write", "triage", "read", "none", "docs"])
def test_the_role_is_the_one_that_github_names(hub: Hub, role: str) -> None:
    """``permission`` says write for maintain and read for triage; ``role_name`` does not."""
    url = f"GET {ROOT}/collaborators/ada/permission"
    hub.plan({url: {"permission": "admin", "role_name": role}})
    assert connect(hub).permission("ada") == role


LIMIT = (403, {"message": "API rate limit exceeded for installation."})


@pytest.mark.parametrize(
    "answer",
    [
        *(301, 401, 403, 404, 500, 502, LIMIT, LOST),
        *((200, "<html>"), (200, "[]"), (200, ""), (200, '"admin"')),
        *({"permission": "admin"}, {"role_name": None}, {"role_name": ["admin"]}),
    ],
    ids=str,
)
def test_a_permission_that_is_not_known_is_none(hub: Hub, answer: Plan) -> None:
    hub.plan({f"GET {ROOT}/collaborators/ada/permission": answer})
    assert connect(hub).permission("ada") == "none"


@pytest.mark.parametrize("user", ["", ".", ".."])
def test_a_name_that_would_change_the_address_has_no_permission(hub: Hub, user: str) -> None:
    assert connect(hub).permission(user) == "none"
    assert hub.asked == []


def test_a_name_stays_one_segment_of_the_address(hub: Hub) -> None:
    path = f"{ROOT}/collaborators/ada%2F..%2F..%2Feve%3Fx%23/permission"
    hub.plan({f"GET {path}": {"role_name": "read"}})
    assert connect(hub).permission("ada/../../eve?x#") == "read"


@pytest.mark.parametrize("branch", ["a//b", "../../x", "a/./b", ""])
def test_a_branch_cannot_leave_its_place_in_the_address(hub: Hub, branch: str) -> None:
    with pytest.raises(RatchetError, match="cannot be part"):
        connect(hub).head_of(branch)
    assert hub.asked == []


def test_the_bot_asks_once_who_it_is(hub: Hub) -> None:
    github = connect(hub)
    assert [github.me(), github.me()] == [BOT, BOT]
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    "answer", [{"data": {"viewer": None}}, {"data": None}, said("no"), 502, 401, 403], ids=str
)
def test_not_knowing_who_it_is_is_an_error(hub: Hub, answer: Plan) -> None:
    """Otherwise anybody's marker, or nobody's, would count."""
    hub.plan({f"{GRAPHQL} viewer": answer})
    with pytest.raises(RatchetError):
        connect(hub).me()


# Pull requests


def test_finds_its_own_pull_request(hub: Hub) -> None:
    hub.plan({PULLS: [[pull()]], PULL: pull(body="read again")})
    found = connect(hub).find_pull(MARKER, BRANCH, base="main")
    assert found is not None
    assert (found.number, found.body, found.mergeable) == (7, "read again", True)
    assert "head=acme%3Aratchet%2Frefunds" in hub.queries[0]
    assert "state=open" in hub.queries[0]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"user": {"login": "eve"}}, id="someone else's"),
        pytest.param({"user": {"login": "github-actions"}}, id="a person called like the bot"),
        pytest.param({"user": None}, id="nobody's"),
        pytest.param({"body": "no marker"}, id="no marker"),
        pytest.param({"body": f"See {MARKER} here"}, id="marker inside a line"),
        pytest.param({"body": "<!-- ratchet:sticky refunds2 -->"}, id="another marker"),
        pytest.param({"body": None}, id="no body"),
        pytest.param({"head": head(repository="eve/shop")}, id="a fork's"),
        pytest.param({"head": head(repository=None)}, id="a deleted fork's"),
        pytest.param({"head": head(name="ratchet/refunds2")}, id="another branch"),
    ],
)
def test_does_not_take_another_pull_request_for_its_own(hub: Hub, changes: dict[str, Any]) -> None:
    hub.plan({PULLS: [[pull(**changes)]], f"{PULL}/commits": [[made_by("mine")]]})
    assert connect(hub).find_pull(MARKER, BRANCH, base="main") is None


def made_by(message: str) -> dict[str, Any]:
    """A commit of a pull request."""
    return {"sha": HEAD, "commit": {"message": message}}


TRAILER = f"Ratchet-Experiment: {'e' * 64}"


@pytest.mark.parametrize(
    ("changes", "messages", "own"),
    [
        ({"body": None}, [f"refunds: idea\n\n{TRAILER}\n"], True),
        ({"body": "Mine."}, [f"refunds: idea\n\n{TRAILER}\n", "Merge branch 'main'"], True),
        ({"body": None}, [f"refunds: idea\n\nRatchet-Fixtures: {'e' * 64}\n"], True),
        ({"body": f"{MARKER}\n{TRAILER}"}, ["mine"], False),
        ({"body": None}, [f"see {TRAILER}"], False),
        ({"body": None}, [], False),
    ],
)
def test_a_persons_pull_request_is_the_bots_by_its_commits(
    hub: Hub, changes: dict[str, Any], messages: list[str], *, own: bool
) -> None:
    """And by no text, where it goes to the base: where the bot may open none, people have to."""
    theirs = pull(user={"login": "octo"}, **changes)
    commits = [made_by(one) for one in messages]
    hub.plan({PULLS: [[theirs]], PULL: theirs, f"{PULL}/commits": [commits]})
    assert (connect(hub).find_pull(MARKER, BRANCH, base="main") is not None) is own
    assert connect(hub).find_pull(MARKER, BRANCH, base="release") is None
    assert (connect(hub).find_pull(MARKER, BRANCH) is not None) is own


def open_pull(hub: Hub, plans: dict[str, Plan]) -> int:
    hub.plan({PULL: pull()} | plans)
    made = connect(hub).open_pull(branch=BRANCH, base="main", title="t", body="Why.", marker=MARKER)
    return made.number


NONE: list[Any] = []
OPENINGS: dict[str, tuple[dict[str, Plan], int]] = {  # plans, POSTs
    "none yet": ({PULLS: [NONE], OPEN: (201, pull())}, 1),
    "there already": ({PULLS: [[pull()]]}, 0),
    "502, and it was made": ({PULLS: [NONE, [pull()]], OPEN: 502}, 1),
    "timeout, and it was made": ({PULLS: [NONE, [pull()]], OPEN: LOST}, 1),
    "502, and it was not": ({PULLS: [NONE], OPEN: [502, (201, pull())]}, 2),
    "502, not seen at once, then 422": ({PULLS: [NONE, NONE, [pull()]], OPEN: [502, 422]}, 2),
    "502 four times, the last one made it": (
        {PULLS: [NONE, NONE, NONE, NONE, [pull()]], OPEN: 502},
        4,
    ),
}


@pytest.mark.parametrize("row", OPENINGS, ids=str)
def test_opens_one_pull_request(hub: Hub, row: str) -> None:
    plans, posts = OPENINGS[row]
    assert open_pull(hub, plans) == 7
    assert hub.asked.count(OPEN) == posts
    for body in hub.bodies[OPEN]:
        assert body == {
            "head": BRANCH,
            "base": "main",
            "title": "t",
            "draft": False,
            "body": f"{MARKER}\nWhy.",
        }


@pytest.mark.parametrize("answer", [307, 301, 302, 308], ids=str)
def test_a_redirect_is_not_a_pull_request(hub: Hub, answer: int) -> None:
    """PyGithub alone gives an empty one back, as if it had been made."""
    hub.plan({PULLS: [NONE], OPEN: (answer, "", {"Location": "https://api.github.com/x"})})
    with pytest.raises(RatchetError, match="redirects") as caught:
        open_pull(hub, {})
    assert "renamed" in (caught.value.hint or "")


def test_a_repository_where_actions_may_not_open_pull_requests(hub: Hub) -> None:
    words = "GitHub Actions is not permitted to create or approve pull requests."
    with pytest.raises(RatchetError, match="not permitted") as caught:
        open_pull(hub, {PULLS: [NONE], OPEN: (403, {"message": words})})
    assert "https://github.com/acme/shop/compare/main...ratchet/refunds" in str(caught.value.hint)
    assert "Settings" in str(caught.value.hint)


def test_an_answer_without_what_a_pull_request_has_is_an_error(hub: Hub) -> None:
    with pytest.raises(RatchetError, match="form that Ratchet does not know"):
        open_pull(hub, {PULLS: [NONE], OPEN: (201, {"number": 7})})


PATCH = f"PATCH {ROOT}/pulls/7"


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        pytest.param({"title": "new", "body": "new"}, {"title": "new", "body": "new"}, id="both"),
        pytest.param({"title": "new", "body": "old"}, {"title": "new"}, id="title"),
        pytest.param({"title": "T", "body": "new"}, {"body": "new"}, id="only what differs"),
        pytest.param({"title": "T", "body": "old"}, None, id="nothing"),
        pytest.param({"title": "T", "body": "old\n"}, None, id="GitHub trims"),
        pytest.param({"title": "T", "body": ""}, {"body": ""}, id="empty"),
    ],
)
def test_writes_a_pull_request_only_when_it_changes(
    hub: Hub, wanted: dict[str, str], sent: dict[str, str] | None
) -> None:
    hub.plan({PULL: pull(title="T", body="old\r\n"), PATCH: [502, pull()]})
    connect(hub).update_pull(7, **wanted)
    assert hub.bodies[PATCH] == ([sent] * 2 if sent else [])


def test_the_reason_is_said_before_it_is_closed(hub: Hub) -> None:
    hub.plan({PULL: pull(), COMMENTS: [NONE], COMMENT: (201, comment(1, "x")), PATCH: pull()})
    connect(hub).close_pull(7, "The edit lost.")
    assert hub.writes == [COMMENT, PATCH]
    assert "The edit lost." in hub.bodies[COMMENT][0]["body"]
    assert hub.bodies[PATCH] == [{"state": "closed"}]


def test_without_its_reason_it_is_not_closed(hub: Hub) -> None:
    hub.plan({PULL: pull(), COMMENTS: [NONE], COMMENT: 403})
    with pytest.raises(RatchetError):
        connect(hub).close_pull(7, "The edit lost.")
    assert PATCH not in hub.asked


def test_closing_twice_says_the_reason_once(hub: Hub) -> None:
    said = hashlib.sha256(f"{HEAD} Lost.".encode()).hexdigest()[:12]
    before = comment(1, f"<!-- ratchet:closed {said} -->\nLost.")
    hub.plan({PULL: [pull(), pull(state="closed")], COMMENTS: [[before]], PATCH: pull()})
    connect(hub).close_pull(7, "Lost.")
    connect(hub).close_pull(7, "Lost.")
    assert hub.writes == [PATCH]


def test_siblings_are_found_on_every_page_but_not_in_forks(hub: Hub) -> None:
    """A status belongs to a commit, so it would hold for them too; anybody can open a fork's."""
    link = '<https://api.github.com/repositories/1/pulls?page=2>; rel="next", <x>; rel="last"'
    fork = pull(number=9, head=head(repository="eve/shop"))
    listed = [pull(), pull(number=5), pull(number=8, head=head(OTHER))]
    more = [fork, pull(number=10)]
    hub.plan({PULLS: (200, listed, {"Link": link}), "GET /repositories/1/pulls": [more]})
    assert connect(hub).siblings(7, head=HEAD) == (5, 10)
    assert hub.queries[-1] == "page=2"


# Comments

EDIT = f"PATCH {ROOT}/issues/comments/2"
DROP = f"DELETE {ROOT}/issues/comments/3"
MINE = comment(2, f"{MARKER}\nold")
TWIN = comment(3, f"{MARKER}\ntwin")
NEW = (201, comment(2, f"{MARKER}\nnew"))
AFTER = comment(2, f"{MARKER}\nnew")
STICKY: dict[str, tuple[dict[str, Plan], list[str]]] = {
    "the first": ({COMMENTS: [NONE, NONE, [AFTER]], COMMENT: NEW}, [COMMENT]),
    "a change": ({COMMENTS: [[MINE]], EDIT: AFTER}, [EDIT]),
    "no change": ({COMMENTS: [[AFTER]]}, []),
    "no change but line ends": ({COMMENTS: [[comment(2, f"{MARKER}\r\nnew\r\n")]]}, []),
    "a change and a 502": ({COMMENTS: [[MINE]], EDIT: [502, AFTER]}, [EDIT, EDIT]),
    "502, and it was made": ({COMMENTS: [NONE, NONE, [AFTER]], COMMENT: 502}, [COMMENT]),
    "timeout, and it was made": ({COMMENTS: [NONE, NONE, [AFTER]], COMMENT: LOST}, [COMMENT]),
    "502, and it was not": (
        {COMMENTS: [NONE, NONE, NONE, [AFTER]], COMMENT: [502, NEW]},
        [COMMENT, COMMENT],
    ),
    "502, made late": (
        {COMMENTS: [NONE, NONE, NONE, [AFTER, TWIN]], COMMENT: [502, NEW], DROP: (204, "")},
        [COMMENT, COMMENT, DROP],
    ),
    "a twin of an earlier run": ({COMMENTS: [[AFTER, TWIN]], DROP: 404}, [DROP]),
    "someone else's marker": (
        {
            COMMENTS: [
                [comment(1, MARKER, "eve")],
                [comment(1, MARKER, "eve")],
                [comment(1, MARKER, "eve"), AFTER],
            ],
            COMMENT: NEW,
        },
        [COMMENT],
    ),
    "nobody's marker": ({COMMENTS: [[comment(1, MARKER, None), AFTER]]}, []),
    "a quoted marker": ({COMMENTS: [[comment(1, f"> {MARKER}"), AFTER]]}, []),
    "a marker in a text that its own comment quotes": (
        {COMMENTS: [[comment(1, f"It said:\n```\n{MARKER}\n```"), AFTER]]},
        [],
    ),
}


@pytest.mark.parametrize("row", STICKY, ids=str)
def test_one_sticky_comment(hub: Hub, row: str) -> None:
    plans, writes = STICKY[row]
    hub.plan(plans)
    kept = connect(hub).sticky_comment(7, MARKER, "new")
    assert (kept.id, kept.body) == (2, f"{MARKER}\nnew")
    assert hub.writes == writes


def test_a_marker_on_the_last_page_counts(hub: Hub) -> None:
    link = '<https://api.github.com/repos/acme/shop/issues/7/comments?page=2>; rel="next"'
    others = [comment(number, "hello", "ada") for number in range(100, 200)]
    hub.plan({COMMENTS: [(200, others, {"Link": link}), [AFTER]]})
    connect(hub).sticky_comment(7, MARKER, "new")
    assert hub.writes == []
    assert hub.queries[:2] == ["per_page=100", "page=2"]


def test_pages_without_end_are_an_error(hub: Hub) -> None:
    link = '<https://api.github.com/repos/acme/shop/issues/7/comments?page=2>; rel="next"'
    hub.plan({COMMENTS: (200, [], {"Link": link})})
    with pytest.raises(RatchetError, match="more than 10000"):
        connect(hub).comments(7)


def test_a_page_that_cannot_be_read_is_not_the_last_one(hub: Hub) -> None:
    """Otherwise its marker would be written a second time."""
    link = '<https://api.github.com/repos/acme/shop/issues/7/comments?page=2>; rel="next"'
    hub.plan({COMMENTS: [(200, [], {"Link": link}), 502]})
    with pytest.raises(RatchetError, match="did not answer"):
        connect(hub).sticky_comment(7, MARKER, "new")
    assert hub.writes == []


def test_a_link_to_another_host_is_not_followed_there(hub: Hub) -> None:
    link = '<https://evil.example/repos/acme/shop/issues/7/comments?page=2>; rel="next"'
    hub.plan({COMMENTS: [(200, [], {"Link": link}), []]})
    assert connect(hub).comments(7) == ()
    assert len(hub.asked) == 2


def test_a_reply_is_written_once(hub: Hub) -> None:
    hub.plan({COMMENTS: [NONE, [AFTER]], COMMENT: NEW})
    github = connect(hub)
    assert github.reply(7, "new", MARKER) == github.reply(7, "else", MARKER)
    assert hub.writes == [COMMENT]


@pytest.mark.parametrize("marker", ["", "ratchet", "<!-- ratchet:a -->\n", "<!-- ratchet:--> -->"])
def test_what_is_no_marker_is_a_mistake(hub: Hub, marker: str) -> None:
    hub.plan({COMMENTS: [NONE]})
    with pytest.raises(ValueError, match="not a marker"):
        connect(hub).sticky_comment(7, marker, "x")
    assert hub.writes == []


def test_a_reaction_may_be_sent_twice(hub: Hub) -> None:
    react = f"POST {ROOT}/issues/comments/5/reactions"
    hub.plan({react: [502, {"id": 1}]})
    connect(hub).react(5, "eyes")
    assert hub.bodies[react] == [{"content": "eyes"}] * 2


# Issues

BOARD = "<!-- ratchet:dashboard -->"
ADD = f"POST {ROOT}/issues"
SET = f"PATCH {ROOT}/issues/4"
BODY = f"{BOARD}\nnew"
BOARDS: dict[str, tuple[dict[str, Plan], list[str]]] = {
    "the first": ({ISSUES: [NONE], ADD: (201, issue(4, BODY))}, [ADD]),
    "a change": ({ISSUES: [[issue(4, f"{BOARD}\nold")]], SET: issue(4, BODY)}, [SET]),
    "no change": ({ISSUES: [[issue(4, BODY)]]}, []),
    "the older of two": ({ISSUES: [[issue(4, BODY), issue(5, BODY)]]}, []),
    "closed by a person": ({ISSUES: [[issue(4, BODY, state="closed")]]}, []),
    "502, and it was made": ({ISSUES: [NONE, [issue(4, BODY)]], ADD: 502}, [ADD]),
    "a pull request with the marker": (
        {ISSUES: [[issue(3, BODY, pull_request={"url": "x"}), issue(4, BODY)]]},
        [],
    ),
    "someone else's": (
        {ISSUES: [[issue(3, BODY, user={"login": "eve"})]], ADD: (201, issue(4, BODY))},
        [ADD],
    ),
}


@pytest.mark.parametrize("row", BOARDS, ids=str)
def test_one_issue(hub: Hub, row: str) -> None:
    plans, writes = BOARDS[row]
    hub.plan(plans)
    kept = connect(hub).upsert_issue(marker=BOARD, title="R", body="new")
    assert (kept.number, kept.body) == (4, BODY)
    assert hub.writes == writes


# Reviews

REVIEWS = f"GET {ROOT}/pulls/7/reviews"


def review(number: int, state: str, **changes: Any) -> dict[str, Any]:
    base = {"id": number, "user": {"login": "octo"}, "state": state, "commit_id": HEAD}
    return base | {"body": "Why?", "html_url": f"https://x/{number}"} | changes


def test_reviews_are_read_on_every_page(hub: Hub) -> None:
    more = {"Link": f'<https://api.github.com{ROOT}/pulls/7/reviews?page=2>; rel="next"'}
    states = ("APPROVED", "CHANGES_REQUESTED", "COMMENTED", "DISMISSED", "PENDING")
    first = [review(at, state) for at, state in enumerate(states)]
    last = review(9, "APPROVED", user=None, commit_id=None, body=None)
    hub.plan({REVIEWS: [(200, first, more), [last]]})
    found = connect(hub).reviews(7)
    assert [one.state for one in found] == [*states, "APPROVED"]
    assert (found[0].author, found[0].commit, found[0].body) == ("octo", HEAD, "Why?")
    assert (found[-1].id, found[-1].author, found[-1].commit, found[-1].body) == (9, "", "", "")


def test_a_review_of_a_kind_that_is_not_known_is_an_error(hub: Hub) -> None:
    hub.plan({REVIEWS: [[review(1, "BLESSED")]]})
    with pytest.raises(RatchetError, match="does not know"):
        connect(hub).reviews(7)


# Workflows

START = f"POST {ROOT}/actions/workflows/ratchet.yml/dispatches"
RUN = {"workflow_run_id": 1, "run_url": "https://x", "html_url": "https://x"}


@pytest.mark.parametrize("answer", [(204, ""), (200, RUN)], ids=["without the run", "with it"])
def test_starts_a_workflow(hub: Hub, answer: Plan) -> None:
    """The API's version of 2022 answers 204, that of 2026 with the run."""
    hub.plan({START: answer})
    connect(hub).dispatch("ratchet.yml", ref="main", inputs={"skill": "triage"})
    assert hub.bodies[START] == [{"ref": "main", "inputs": {"skill": "triage"}}]


@pytest.mark.parametrize(
    ("answer", "said", "hint"),
    [
        (502, "did not say whether", "Look under 'Actions'"),
        (LOST, "did not say whether", "Look under 'Actions'"),
        ((200, "{"), "did not say whether", "Look under 'Actions'"),
        (404, "refused", "must be on the default branch"),
        ((422, {"message": "No ref found for: main"}), "No ref found", "must be on the default"),
        (403, "refused", "Give the token the permission"),
        (307, "redirects", "renamed or moved"),
        (429, "rate limit", "in a few minutes"),
    ],
    ids=str,
)
def test_a_workflow_is_asked_for_once(hub: Hub, answer: Plan, said: str, hint: str) -> None:
    hub.plan({START: answer})
    with pytest.raises(RatchetError, match=said) as caught:
        connect(hub).dispatch("ratchet.yml", ref="main", inputs={})
    assert hint in str(caught.value.hint)
    assert hub.writes == [START]


def test_a_workflow_stays_one_segment_of_the_address(hub: Hub) -> None:
    hub.plan({f"POST {ROOT}/actions/workflows/..%2F..%2Fx/dispatches": 404})
    with pytest.raises(RatchetError, match="refused"):
        connect(hub).dispatch("../../x", ref="main", inputs={})


# Labels and statuses

LABELS = f"GET {ROOT}/issues/7/labels"
LABEL = f"POST {ROOT}/issues/7/labels"
UNLABEL = f"DELETE {ROOT}/issues/7/labels/ratchet%3A%20hold"


def test_labels_are_put_on_and_taken_off_once(hub: Hub) -> None:
    there = [{"name": "ratchet: hold"}]
    hub.plan({LABELS: [NONE, there, there, NONE], LABEL: [502, there], UNLABEL: [502, 404]})
    github = connect(hub)
    github.add_label(7, "ratchet: hold")
    github.add_label(7, "ratchet: hold")
    github.remove_label(7, "ratchet: hold")
    github.remove_label(7, "ratchet: hold")
    assert hub.writes == [LABEL, LABEL, UNLABEL, UNLABEL]
    assert hub.bodies[LABEL] == [{"labels": ["ratchet: hold"]}] * 2


SAY = f"POST {ROOT}/statuses/{HEAD}"
SAID: dict[str, tuple[list[Plan], Plan, int]] = {  # what is there, answers to the POST, POSTs
    "the first": ([NONE], (201, status("success")), 1),
    "the same": ([[status("success")]], 500, 0),
    "another": ([[status("pending")]], (201, status("success")), 1),
    "the same, but overruled since": ([[status("error"), status("success")]], (201, status()), 1),
    "the same, by someone else": ([[status("success", "eve")]], (201, status()), 1),
    "the same, by nobody": ([[status("success") | {"creator": None}]], (201, status()), 1),
    "the same, elsewhere": ([[status("success", context="ci")]], (201, status()), 1),
    "502, and it was said": ([NONE, [status("success")]], 502, 1),
}


@pytest.mark.parametrize("row", SAID, ids=str)
def test_says_a_status_once(hub: Hub, row: str) -> None:
    there, answer, posts = SAID[row]
    hub.plan({STATUSES: there, SAY: answer})
    connect(hub).set_status(HEAD, state="success", description="d")
    wanted = {"state": "success", "context": "ratchet/holdout", "description": "d"}
    assert hub.bodies[SAY] == [wanted] * posts


def test_a_description_is_one_line_that_github_takes(hub: Hub) -> None:
    hub.plan({STATUSES: [NONE], SAY: (201, status())})
    connect(hub).set_status(HEAD, state="failure", description="a\nb " * 99)
    (sent,) = hub.bodies[SAY]
    assert len(sent["description"]) == 140
    assert "\n" not in sent["description"]


def test_the_newest_status_of_a_context_holds(hub: Hub) -> None:
    hub.plan({STATUSES: [[status("error"), status("success"), status(context="ci")]]})
    found = {each.context: each.state for each in connect(hub).statuses(HEAD)}
    assert found == {"ratchet/holdout": "error", "ci": "pending"}


# Requests

LIMITS: dict[str, tuple[Plan, str]] = {  # answer, what the hint says
    "hourly": (
        (403, {"message": "API rate limit exceeded for x."}, {"X-RateLimit-Reset": "1767225600"}),
        "after 2026-01-01 00:00:00 UTC",
    ),
    "hourly, by its header": (
        (403, {"message": "?"}, {"X-RateLimit-Remaining": "0"}),
        "in a few minutes",
    ),
    "secondary": (
        (403, {"message": "You have exceeded a secondary rate limit."}),
        "in a few minutes",
    ),
    "secondary, with a time": ((403, {"message": "abuse"}, {"Retry-After": "900"}), "900 seconds"),
    "429": (429, "in a few minutes"),
    "429, with a time": ((429, "slow down", {"Retry-After": "60"}), "60 seconds"),
}
CALLS: dict[str, Callable[[GitHub], object]] = {
    "read": lambda github: github.head_of("main"),
    "list": lambda github: github.comments(7),
    "create": lambda github: github.reply(7, "x", MARKER),
    "edit": lambda github: github.update_pull(7, title="x", body="y"),
    "merge": lambda github: github.merge_pull(
        MergeOrder(number=7, head_sha=HEAD, base_ref="main", base_sha=BASE, method="merge"),
        auto=True,
        queue=True,
    ),
}


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("row", LIMITS, ids=str)
def test_a_rate_limit_is_said_at_once(hub: Hub, row: str, call: str) -> None:
    """PyGithub by itself waits, for a quarter of an hour if need be, and says nothing."""
    answer, when = LIMITS[row]
    reads = {PULL: pull(), COMMENTS: [NONE]} if call in {"create", "edit"} else {}
    limited = [MAIN, PULL, COMMENTS, COMMENT, PATCH]
    hub.plan(dict.fromkeys(limited, answer) | reads)
    with pytest.raises(RatchetError, match="rate limit is used up") as caught:
        CALLS[call](connect(hub))
    assert when in str(caught.value.hint)
    assert hub.slept == []


def test_a_rate_limit_of_graphql_is_said_too(hub: Hub) -> None:
    hub.plan({f"{GRAPHQL} viewer": said("API rate limit exceeded", "RATE_LIMITED")})
    with pytest.raises(RatchetError, match="rate limit is used up"):
        connect(hub).me()


@pytest.mark.parametrize("failure", [500, 502, 503, 504, LOST, requests.ConnectionError()], ids=str)
def test_a_read_is_repeated_for_seconds(hub: Hub, failure: Plan) -> None:
    hub.plan({MAIN: [failure, failure, failure, ref(BASE)]})
    assert connect(hub).base_sha("main") == BASE
    assert hub.slept == [1.0, 3.0, 6.0]


ODD = (200, ref(BASE), {"X-RateLimit-Reset": "soon"})  # PyGithub raises ValueError


@pytest.mark.parametrize("failure", [502, LOST, ODD, (200, "{")], ids=str)
def test_a_read_is_not_repeated_for_ever(hub: Hub, failure: Plan) -> None:
    hub.plan({MAIN: failure})
    with pytest.raises(RatchetError, match="did not answer GET"):
        connect(hub).head_of("main")
    assert len(hub.asked) == 4


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_read_does_not_follow_a_redirect(hub: Hub, code: int) -> None:
    """PyGithub drops the query on the way: another page, another filter."""
    there = "https://api.github.com/repositories/1/issues/7/comments"
    hub.plan({COMMENTS: (code, "", {"Location": there})})
    with pytest.raises(RatchetError, match="redirects"):
        connect(hub).comments(7)
    assert hub.asked == [COMMENTS]


@pytest.mark.parametrize(
    ("code", "hint"),
    [(401, "token"), (403, "permission"), (404, "repository's name"), (410, "what GitHub said")],
)
def test_a_refusal_says_what_to_do(hub: Hub, code: int, hint: str) -> None:
    headers = {"X-Accepted-GitHub-Permissions": "contents=write"}
    hub.plan({PULL: (code, {"message": "No.\n::error::x", "errors": ["why"]}, headers)})
    with pytest.raises(RatchetError, match=r"No\. ::error::x; why") as caught:
        connect(hub).pull(7)
    assert hint in str(caught.value.hint) or code == 410
    assert "contents=write" in str(caught.value.hint)


def test_writes_keep_a_second_apart(hub: Hub) -> None:
    hub.plan({f"POST {ROOT}/issues/comments/5/reactions": {"id": 1}})
    github = connect(hub, clock=iter([0.0, 5.0, 5.0, 5.25, 6.0, 9.0, 9.0]).__next__)
    for _ in range(3):
        github.react(5, "eyes")
    assert hub.slept == [0.75]


# Where it connects to


@pytest.mark.parametrize(
    ("api", "graphql", "host", "prefix", "wanted", "web"),
    [
        ("https://api.github.com", None, "api.github.com:443", "", "/graphql", "github.com"),
        ("https://api.github.com/", "https://api.github.com:443/graphql", "api.github.com:443", "",
         "/graphql", "github.com"),
        ("https://git.acme.example/api/v3", None, "git.acme.example:443", "/api/v3",
         "/api/graphql", "git.acme.example"),
        ("https://api.acme.example/api/v3", "https://api.acme.example/api/graphql",
         "api.acme.example:443", "/api/v3", "/api/graphql", "api.acme.example"),
        ("https://api.acme.ghe.com", "https://api.acme.ghe.com/graphql", "api.acme.ghe.com:443", "",
         "/graphql", "acme.ghe.com"),
        ("https://git.acme.example:8443/api/v3", None, "git.acme.example:8443", "/api/v3",
         "/api/graphql", "git.acme.example:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/graphql", "127.0.0.1:8080", "",
         "/graphql", "127.0.0.1:8080"),
        ("http://localhost:80/api/v3", None, "localhost:80", "/api/v3", "/api/graphql",
         "localhost:80"),
    ],
)  # fmt: skip
def test_enterprise_addresses(  # noqa: PLR0917  the columns of the table
    api: str, graphql: str | None, host: str, prefix: str, wanted: str, web: str
) -> None:
    scheme = urlsplit(api).scheme
    with responses.RequestsMock() as mock:
        hub = Hub(mock, f"{scheme}://{host}/")
        hub.plan({f"POST {wanted} viewer": VIEWER, f"GET {prefix}{ROOT}/pulls/7": pull()})
        for verb in ("PUT", "PATCH", "DELETE"):
            mock.remove(verb, re.compile(re.escape(f"{scheme}://{host}/")))
        github = connect(hub, api_url=api, graphql_url=graphql)
        assert (github.me(), github.pull(7).number) == (BOT, 7)
        assert not hub.unplanned
    assert github.url == f"{scheme}://{web}/{REPO}"
    assert all(each["Authorization"] == f"token {TOKEN}" for each in hub.headers)


@pytest.mark.parametrize(
    "changes",
    [
        {"token": ""},
        {"token": " \n"},
        {"token": "a\nb"},
        {"token": "tökenstring"},
        {"repository": "shop"},
        {"repository": "acme/shop/x"},
        {"repository": "../shop"},
        {"repository": "acme/.."},
        {"repository": "acme/shop?x"},
        {"api_url": "http://api.github.com"},
        {"api_url": "http://127.0.0.1.evil.example"},
        {"api_url": "ftp://api.github.com"},
        {"api_url": "api.github.com"},
        {"api_url": "https://user:secretpass@api.github.com"},
        {"api_url": "https://api.github.com?x=1"},
        {"api_url": "https://[broken"},
        {"api_url": "https://api.github.com:port"},
        {"graphql_url": "https://evil.example/graphql"},
        {"graphql_url": "http://api.github.com/graphql"},
        {"graphql_url": "https://api.github.com:8443/graphql"},
    ],
    ids=str,
)
def test_the_token_goes_nowhere_else(hub: Hub, changes: dict[str, str]) -> None:
    with pytest.raises(RatchetError) as caught:
        connect(hub, **changes)
    assert caught.value.hint
    assert "secretpass" not in f"{caught.value} {caught.value.hint}"


def test_connecting_sends_nothing(hub: Hub) -> None:
    connect(hub)
    assert hub.asked == []


# The token


@pytest.mark.parametrize("plan", [401, 403, 404, 422, 502, 307, 429, LOST], ids=str)
def test_the_token_is_in_nothing_that_is_said(
    hub: Hub, plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even when GitHub echoes it, and not in what a debugger's traceback would print."""
    echo = {"message": f"bad {TOKEN}", "errors": [{"message": TOKEN}, TOKEN]}
    hub.plan({MAIN: (plan, echo) if isinstance(plan, int) else plan})
    github = connect(hub)
    with caplog.at_level(logging.DEBUG), pytest.raises(RatchetError) as caught:
        github.base_sha("main")
    error = caught.value
    texts = [repr(github), str(github), repr(vars(github)), repr(error), str(error)]
    texts += [str(error.hint), *traceback.format_exception(error)]
    texts += [str(error.__cause__), str(error.__context__)]
    texts += [f"{record.getMessage()} {record.args}" for record in caplog.records]
    assert "canary" not in " ".join(texts)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import skill_ratchet.github.api", id="the module"),
        pytest.param(
            "from skill_ratchet.cli.main import cli; cli(['--help'], standalone_mode=False)",
            id="help",
        ),
    ],
)
def test_the_client_is_loaded_only_where_it_is_used(code: str) -> None:
    """PyGithub and its cryptography are slow to import, and most commands have no use for them."""
    loaded = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", f"{code}; {loaded}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = done.stdout.splitlines()[-1].split()
    assert "skill_ratchet" in names
    assert not {"github", "requests", "urllib3", "jwt", "nacl"}.intersection(names)


def test_records_are_what_they_say(hub: Hub) -> None:
    hub.plan({PULL: pull(user=None, draft=True, labels=[{"name": "a"}, {"name": "b"}])})
    found = connect(hub).pull(7)
    assert (found.author, found.draft, found.labels) == ("", True, ("a", "b"))
    assert (found.head_ref, found.head_sha, found.base_sha) == (BRANCH, HEAD, BASE)
    with pytest.raises(ValueError, match="frozen"):
        found.number = 8  # type: ignore[misc]  # that is the point
    assert Status.model_fields.keys() == {"context", "state", "description", "creator"}


# In whose name ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("login", "found", "email"),
    [
        ("github-actions[bot]", 404, "41898282+github-actions[bot]@users.noreply.github.com"),
        ("our-app[bot]", (200, {"id": 77}), "77+our-app[bot]@users.noreply.github.com"),
        ("our-app[bot]", 404, "ratchet@skill-ratchet.invalid"),
    ],
)
def test_what_is_pushed_is_in_the_name_of_the_tokens_account(
    hub: Hub, login: str, found: Any, email: str
) -> None:
    """An address without the account's number may be a stranger's."""
    hub.plan({f"GET /users/{quote(login)}": found})
    github = connect(hub)
    github._login = login
    assert github.identity().email == email
