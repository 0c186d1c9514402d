"""What each REST operation does. Importing this module fills the table in ``routes``."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from fakehub import merging
from fakehub.model import ACTIONS_BOT, ROLES, Problem, Wish
from fakehub.routes import REPO, ROUTES, Call, Reply, route

if TYPE_CHECKING:
    from fakehub.model import Issue, Reaction

ISSUE = f"{REPO}/issues/{{issue_number}}"
COMMENT = f"{REPO}/issues/comments/{{comment_id}}"
PULL = f"{REPO}/pulls/{{pull_number}}"
LABEL = f"{REPO}/labels/{{name}}"
TALK_READ, TALK = "issues|pull-requests:read", "issues|pull-requests:write"


__all__ = ["ROUTES"]  # importing this module is what fills it


# People and limits


@route("GET", "/rate_limit")
def rate_limit(_: Call) -> Reply:
    limit = {"limit": 5000, "remaining": 4999, "reset": 1_767_229_200, "used": 1}
    names = ("core", "search", "graphql")
    return Reply(body={"resources": dict.fromkeys(names, limit), "rate": limit})


@route("GET", "/user")
def viewer(call: Call) -> Reply:
    if call.user.kind == "Bot":
        raise Problem(403, "Resource not accessible by integration")
    return Reply(body=call.shapes.public_user(call.user))


@route("GET", "/users/{username}")
def user(call: Call) -> Reply:
    if call.params["username"] not in call.state.users:
        raise Problem(404, "Not Found")
    return Reply(body=call.shapes.public_user(call.state.users[call.params["username"]]))


@route("GET", f"{REPO}/collaborators/{{username}}", role="write")
def collaborator(call: Call) -> Reply:
    if call.state.roles.get(call.params["username"], "none") == "none":
        raise Problem(404, "Not Found")
    return Reply(status=204)


@route("GET", f"{REPO}/collaborators/{{username}}/permission", role="write")
def permission(call: Call) -> Reply:
    login = call.params["username"]
    if login not in call.state.users:
        raise Problem(404, f"{login} is not a user")
    someone = call.state.users[login]
    role = call.state.role(someone)
    shown = {"maintain": "write", "triage": "read"}.get(role, role)  # the coarse old scale
    order = ROLES.index(role)
    names = ("pull", "triage", "push", "maintain", "admin")
    may = {name: order > at for at, name in enumerate(names)}
    about = call.shapes.user(someone) | {"permissions": may, "role_name": role}
    return Reply(body={"permission": shown, "role_name": role, "user": about})


# The repository and git


@route("GET", REPO)
def repository(call: Call) -> Reply:
    return Reply(body=call.shapes.repository(call.user))


@route("GET", f"{REPO}/branches", needs="contents:read")
def branches(call: Call) -> Reply:
    refs = call.state.git.refs("refs/heads")
    names = [(ref.removeprefix("refs/heads/"), sha) for ref, sha in refs.items()]
    return call.page(
        names,
        lambda each: {
            "name": each[0],
            "commit": {"sha": each[1], "url": f"{call.shapes.repo_url}/commits/{each[1]}"},
            "protected": each[0] in call.state.protections,
        },
    )


@route("GET", f"{REPO}/branches/{{branch}}", needs="contents:read")
def branch(call: Call) -> Reply:
    name = call.params["branch"]
    tip = call.state.git.refs(f"refs/heads/{name}").get(f"refs/heads/{name}")
    if tip is None:
        raise Problem(404, "Branch not found")
    rules = call.state.protections.get(name)
    url = f"{call.shapes.repo_url}/branches/{name}"
    contexts = list(rules.contexts) if rules else []
    level = "non_admins" if rules else "off"
    checks = {"enforcement_level": level, "contexts": contexts, "checks": []}
    return Reply(
        body={
            "name": name,
            "commit": call.shapes.commit(call.state.git.commit(tip)),
            "_links": {"self": url, "html": f"{call.shapes.page}/tree/{name}"},
            "protected": rules is not None,
            "protection": {"enabled": rules is not None, "required_status_checks": checks},
            "protection_url": f"{url}/protection",
        }
    )


@route("GET", f"{REPO}/commits", needs="contents:read")
def commits(call: Call) -> Reply:
    start = call.commit(call.query.get("sha", call.state.default_branch))
    path = call.query.get("path")
    found = call.state.git.log(start, *(["--", f":(literal){path}"] if path else []))
    return call.page(found, call.shapes.commit)


@route("GET", f"{REPO}/commits/{{ref}}", needs="contents:read")
def commit(call: Call) -> Reply:
    git = call.state.git
    found = git.commit(call.commit(call.params["ref"]))
    empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's empty tree
    changes = git.changes(found.parents[0] if found.parents else empty, found.sha)
    added, deleted = (sum(getattr(c, k) for c in changes) for k in ("additions", "deletions"))
    stats = {"total": added + deleted, "additions": added, "deletions": deleted}
    files = [call.shapes.change(each, found.sha) for each in changes]
    return Reply(body={**call.shapes.commit(found), "stats": stats, "files": files})


@route("GET", f"{REPO}/commits/{{ref}}/status", needs="statuses:read")
def combined_status(call: Call) -> Reply:
    return Reply(body=call.shapes.combined(call.commit(call.params["ref"]), call.user))


@route("GET", f"{REPO}/commits/{{ref}}/statuses", needs="statuses:read")
def statuses(call: Call) -> Reply:
    sha = call.commit(call.params["ref"])
    found = [each for each in reversed(call.state.statuses) if each.sha == sha]
    return call.page(found, call.shapes.status)


@route("POST", f"{REPO}/statuses/{{sha}}", needs="statuses:write", role="write")
def create_status(call: Call) -> Reply:
    made = call.state.set_status(
        call.user,
        call.params["sha"],
        state=call.wants("state"),
        context=call.maybe("context", "default"),
        description=call.maybe("description"),
        target_url=call.maybe("target_url"),
    )
    merging.settle(call.state)
    return Reply(status=201, body=call.shapes.status(made))


@route("GET", f"{REPO}/commits/{{commit_sha}}/pulls", needs="pull-requests:read")
def pulls_of_commit(call: Call) -> Reply:
    """Open pull requests that contain the commit, and the merged one that brought it."""
    git, sha = call.state.git, call.commit(call.params["commit_sha"])
    found = []
    for issue in call.state.issues.values():
        pull = issue.pull
        if pull is None or (issue.state == "closed" and not pull.merged_at):
            continue
        base = git.merge_base(pull.base_sha, pull.head_sha) or pull.base_sha
        inside = git.is_ancestor(sha, pull.head_sha) and not git.is_ancestor(sha, base)
        if inside or sha == pull.merge_commit:
            found.append(issue)
    return call.page(found, lambda each: call.shapes.pull(each, call.user))


@route("GET", f"{REPO}/compare/{{basehead}}", needs="contents:read")
def compare(call: Call) -> Reply:
    git, shapes = call.state.git, call.shapes
    old_name, dots, new_name = call.params["basehead"].partition("...")
    old, new = git.resolve(old_name), git.resolve(new_name) if dots else None
    middle = git.merge_base(old, new) if old and new else None
    if old is None or new is None or middle is None:
        raise Problem(404, "Not Found")
    ahead, behind = git.count(f"{old}..{new}"), git.count(f"{new}..{old}")
    word = ("identical", "ahead", "behind", "diverged")[bool(ahead) + 2 * bool(behind)]
    shown, headers = call.paged(git.log("--reverse", f"{old}..{new}"))
    page = f"{shapes.page}/compare/{call.params['basehead']}"
    body = {
        "url": f"{shapes.repo_url}/compare/{call.params['basehead']}",
        "html_url": page,
        "permalink_url": f"{shapes.page}/compare/{old}...{new}",
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "base_commit": shapes.commit(git.commit(old)),
        "merge_base_commit": shapes.commit(git.commit(middle)),
        "status": word,
        "ahead_by": ahead,
        "behind_by": behind,
        "total_commits": ahead,
        "commits": [shapes.commit(each) for each in shown],
        "files": [shapes.change(each, new) for each in git.changes(middle, new)],
    }
    return Reply(body=body, headers=headers)


@route("GET", f"{REPO}/contents/{{path}}", needs="contents:read")
def contents(call: Call) -> Reply:
    git = call.state.git
    ref, path = call.query.get("ref", call.state.default_branch), call.params["path"].strip("/")
    sha = git.resolve(ref)
    if sha is None:
        raise Problem(404, f"No commit found for the ref {ref}")
    entry = git.entry(sha, path)
    if entry is None:
        raise Problem(404, "Not Found")
    if entry.kind == "tree":
        return Reply(body=[call.shapes.content(each, ref) for each in git.entries(sha, path)])
    if "application/vnd.github.raw" in call.accept:
        return Reply(body=git.blob(entry.sha), media="application/vnd.github.raw+json")
    return Reply(body=call.shapes.content(entry, ref, whole=True))


@route("GET", f"{REPO}/git/blobs/{{file_sha}}", needs="contents:read")
def blob(call: Call) -> Reply:
    sha = call.params["file_sha"]
    if call.state.git.kind(sha) != "blob":
        raise Problem(404, "Not Found")
    data = call.state.git.blob(sha)
    body = {
        "sha": sha,
        "node_id": f"B_{sha}",
        "url": f"{call.shapes.repo_url}/git/blobs/{sha}",
        "size": len(data),
        "content": base64.encodebytes(data).decode(),
        "encoding": "base64",
    }
    return Reply(body=body)


@route("GET", f"{REPO}/git/commits/{{commit_sha}}", needs="contents:read")
def git_commit(call: Call) -> Reply:
    sha = call.params["commit_sha"]
    if call.state.git.kind(sha) != "commit":
        raise Problem(404, "Not Found")
    return Reply(body=call.shapes.git_commit(call.state.git.commit(sha)))


@route("GET", f"{REPO}/git/trees/{{tree_sha}}", needs="contents:read")
def tree(call: Call) -> Reply:
    git, rev = call.state.git, call.params["tree_sha"]
    sha = rev if git.kind(rev) == "tree" else git.resolve(rev)
    if sha is None:
        raise Problem(404, "Not Found")
    url = call.shapes.repo_url
    lines: list[dict[str, Any]] = [
        {
            "path": each.path,
            "mode": each.mode,
            "type": each.kind,
            "sha": each.sha,
            **({"size": each.size} if each.size is not None else {}),
            **({"url": f"{url}/git/{each.kind}s/{each.sha}"} if each.kind != "commit" else {}),
        }
        for each in git.entries(sha, deep=bool(call.query.get("recursive")))
    ]
    name = git.tree(sha)
    body = {"sha": name, "url": f"{url}/git/trees/{name}", "tree": lines, "truncated": False}
    return Reply(body=body)


@route("GET", f"{REPO}/git/ref/{{ref}}", needs="contents:read")
def ref(call: Call) -> Reply:
    name = f"refs/{call.params['ref']}"
    sha = call.state.git.refs(name).get(name)
    if sha is None:
        raise Problem(404, "Not Found")
    return Reply(body=call.shapes.ref(name, sha))


@route("GET", f"{REPO}/git/matching-refs/{{ref}}", needs="contents:read")
def matching_refs(call: Call) -> Reply:
    start = f"refs/{call.params['ref']}"
    found = call.state.git.refs("refs/heads", "refs/tags")
    return Reply(
        body=[call.shapes.ref(name, sha) for name, sha in found.items() if name.startswith(start)]
    )


@route("POST", f"{REPO}/git/refs", needs="contents:write", role="write")
def create_ref(call: Call) -> Reply:
    git, name, sha = call.state.git, str(call.wants("ref")), str(call.wants("sha"))
    if not name.startswith("refs/") or name.count("/") < 2 or not git.valid_ref(name):
        raise Problem(
            422, "Reference name must start with 'refs' and contain at least two slashes."
        )
    if git.kind(sha) != "commit":
        raise Problem(422, "Object does not exist")
    if name in git.refs(name):
        raise Problem(422, "Reference already exists")
    if not git.move(name, sha, "0" * 40):
        raise Problem(422, "Reference cannot be created")
    return Reply(status=201, body=call.shapes.ref(name, sha))


@route("PATCH", f"{REPO}/git/refs/{{ref}}", needs="contents:write", role="write")
def update_ref(call: Call) -> Reply:
    name, sha = f"refs/{call.params['ref']}", str(call.wants("sha"))
    if call.state.git.kind(sha) != "commit":
        raise Problem(422, "Object does not exist")
    call.state.move_branch(name, sha, force=bool(call.maybe("force", default=False)))
    return Reply(body=call.shapes.ref(name, sha))


@route("DELETE", f"{REPO}/git/refs/{{ref}}", needs="contents:write", role="write")
def delete_ref(call: Call) -> Reply:
    call.state.move_branch(f"refs/{call.params['ref']}", None)
    return Reply(status=204)


# Workflows


@route(
    "POST",
    f"{REPO}/actions/workflows/{{workflow_id}}/dispatches",
    needs="actions:write",
    role="write",
)
def dispatch(call: Call) -> Reply:
    made = call.state.dispatch(
        call.user,
        call.params["workflow_id"],
        str(call.wants("ref")),
        call.maybe("inputs", {}),
    )
    if not call.maybe("return_run_details", default=False):
        return Reply(status=204)
    run = f"actions/runs/{made.id}"
    page = {"run_url": f"{call.shapes.repo_url}/{run}", "html_url": f"{call.shapes.page}/{run}"}
    return Reply(body={"workflow_run_id": made.id} | page)


# Issues, comments, labels, reactions


@route("GET", f"{REPO}/issues", needs=TALK_READ)
def issues(call: Call) -> Reply:
    query = call.query
    state, wanted = (
        query.get("state", "open"),
        set(filter(None, query.get("labels", "").split(","))),
    )
    found = [
        each
        for each in call.state.issues.values()
        if state in ("all", each.state)
        and wanted <= set(each.labels)
        and query.get("creator", each.user.login) == each.user.login
        and each.updated_at >= query.get("since", "")
    ]
    return call.page(_sorted(call, found), call.shapes.issue)


def _sorted(call: Call, found: list[Issue]) -> list[Issue]:
    keys = {"created": "number", "updated": "updated_at"}
    key = keys.get(call.query.get("sort", "created"), "number")
    newest_first = call.query.get("direction", "desc") == "desc"
    return sorted(found, key=lambda each: getattr(each, key), reverse=newest_first)


@route("POST", f"{REPO}/issues", needs="issues:write")
def create_issue(call: Call) -> Reply:
    names = [each if isinstance(each, str) else each["name"] for each in call.maybe("labels") or ()]
    title = str(call.wants("title"))
    made = call.state.open_issue(call.user, title, call.maybe("body"), labels=names)
    return Reply(status=201, body=call.shapes.issue(made))


@route("GET", ISSUE, needs=TALK_READ)
def issue(call: Call) -> Reply:
    return Reply(body=call.shapes.issue(call.state.issue(call.number("issue_number"))))


@route("PATCH", ISSUE, needs=TALK)
def update_issue(call: Call) -> Reply:
    found = call.state.issue(call.number("issue_number"))
    call.state.edit_issue(call.user, found, call.body)
    return Reply(body=call.shapes.issue(found))


@route("GET", f"{ISSUE}/comments", needs=TALK_READ)
def comments(call: Call) -> Reply:
    found = call.state.issue(call.number("issue_number"))
    since = call.query.get("since", "")
    said = [each for each in call.state.comments.values() if each.number == found.number]
    return call.page([each for each in said if each.updated_at >= since], call.shapes.comment)


@route("POST", f"{ISSUE}/comments", needs=TALK)
def create_comment(call: Call) -> Reply:
    found = call.state.issue(call.number("issue_number"))
    made = call.state.comment(call.user, found, str(call.wants("body")))
    return Reply(status=201, body=call.shapes.comment(made))


@route("GET", COMMENT, needs=TALK_READ)
def comment(call: Call) -> Reply:
    number = call.number("comment_id")
    if number not in call.state.comments:
        raise Problem(404, "Not Found")
    return Reply(body=call.shapes.comment(call.state.comments[number]))


@route("PATCH", COMMENT, needs=TALK)
def update_comment(call: Call) -> Reply:
    body = str(call.wants("body"))
    changed = call.state.edit_comment(call.user, call.number("comment_id"), body)
    return Reply(body=call.shapes.comment(changed))


@route("DELETE", COMMENT, needs=TALK)
def delete_comment(call: Call) -> Reply:
    del call.state.comments[call.state.own_comment(call.user, call.number("comment_id")).id]
    return Reply(status=204)


def _reactions(call: Call) -> list[Reaction]:
    if "issue_number" in call.params:
        return call.state.issue(call.number("issue_number")).reactions
    number = call.number("comment_id")
    if number not in call.state.comments:
        raise Problem(404, "Not Found")
    return call.state.comments[number].reactions


@route("GET", f"{ISSUE}/reactions", needs=TALK_READ)
@route("GET", f"{COMMENT}/reactions", needs=TALK_READ)
def reactions(call: Call) -> Reply:
    wanted = call.query.get("content")
    found = [each for each in _reactions(call) if wanted in (None, each.content)]
    return call.page(found, call.shapes.reaction)


@route("POST", f"{ISSUE}/reactions", needs=TALK)
@route("POST", f"{COMMENT}/reactions", needs=TALK)
def create_reaction(call: Call) -> Reply:
    made, new = call.state.react(call.user, _reactions(call), str(call.wants("content")))
    return Reply(status=201 if new else 200, body=call.shapes.reaction(made))


@route("DELETE", f"{COMMENT}/reactions/{{reaction_id}}", needs=TALK)
def delete_reaction(call: Call) -> Reply:
    held = _reactions(call)
    mine = [e for e in held if e.id == call.number("reaction_id") and e.user == call.user]
    if not mine:
        raise Problem(404, "Not Found")
    held.remove(mine[0])
    return Reply(status=204)


@route("GET", f"{REPO}/labels", needs=TALK_READ)
def labels(call: Call) -> Reply:
    return call.page(list(call.state.labels.values()), call.shapes.label)


@route("POST", f"{REPO}/labels", needs=TALK, role="write")
def create_label(call: Call) -> Reply:
    color = call.maybe("color", "ededed")
    made = call.state.make_label(str(call.wants("name")), color, call.maybe("description"))
    return Reply(status=201, body=call.shapes.label(made))


@route("GET", LABEL, needs=TALK_READ)
def label(call: Call) -> Reply:
    return Reply(body=call.shapes.label(call.state.label(call.params["name"])))


@route("PATCH", LABEL, needs=TALK, role="write")
def update_label(call: Call) -> Reply:
    found = call.state.label(call.params["name"])
    new = call.maybe("new_name", found.name)
    if new.casefold() != found.name.casefold() and new.casefold() in call.state.labels:
        raise Problem.invalid("Label", "name", "already_exists")
    for each in call.state.issues.values():
        each.labels = [new if name == found.name else name for name in each.labels]
    del call.state.labels[found.name.casefold()]
    found.name, found.color = new, call.maybe("color", found.color)
    found.description = call.maybe("description", found.description)
    call.state.labels[new.casefold()] = found
    return Reply(body=call.shapes.label(found))


@route("DELETE", LABEL, needs=TALK, role="write")
def delete_label(call: Call) -> Reply:
    found = call.state.label(call.params["name"])
    for each in call.state.issues.values():
        each.labels = [name for name in each.labels if name != found.name]
    del call.state.labels[found.name.casefold()]
    return Reply(status=204)


@route("GET", f"{ISSUE}/events", needs=TALK_READ)
def issue_events(call: Call) -> Reply:
    found = call.state.issue(call.number("issue_number"))
    return call.page(found.events, lambda one: call.shapes.happening(found, one))


@route("GET", f"{ISSUE}/labels", needs=TALK_READ)
def issue_labels(call: Call) -> Reply:
    found = call.state.issue(call.number("issue_number"))
    return call.page(found.labels, lambda name: call.shapes.label(call.state.label(name)))


@route("POST", f"{ISSUE}/labels", needs=TALK, role="triage")
def add_labels(call: Call) -> Reply:
    found = call.state.issue(call.number("issue_number"))
    call.state.add_labels(found, _names(call.body), call.user)
    return Reply(body=call.shapes.labels(found))


@route("PUT", f"{ISSUE}/labels", needs=TALK, role="triage")
def set_labels(call: Call) -> Reply:
    found = call.state.issue(call.number("issue_number"))
    call.state.set_labels(found, _names(call.body), call.user)
    return Reply(body=call.shapes.labels(found))


def _names(body: Any) -> list[str]:
    """Label names: in an object, as a bare array, or one string."""
    given = body.get("labels", []) if isinstance(body, dict) else body
    listed = given if isinstance(given, list) else [given]
    return [each if isinstance(each, str) else each["name"] for each in listed]


@route("DELETE", f"{ISSUE}/labels", needs=TALK, role="triage")
def remove_labels(call: Call) -> Reply:
    call.state.set_labels(call.state.issue(call.number("issue_number")), (), call.user)
    return Reply(status=204)


@route("DELETE", f"{ISSUE}/labels/{{name}}", needs=TALK, role="triage")
def remove_label(call: Call) -> Reply:
    found = call.state.issue(call.number("issue_number"))
    call.state.remove_label(found, call.params["name"], call.user)
    return Reply(body=call.shapes.labels(found))


# Pull requests


@route("GET", f"{REPO}/pulls", needs="pull-requests:read")
def pulls(call: Call) -> Reply:
    query = call.query
    found = []
    for each in call.state.issues.values():
        pull = each.pull
        if (
            pull
            and query.get("state", "open") in ("all", each.state)
            and query.get("base", pull.base) == pull.base
            # Without an owner GitHub ignores the filter: it is then no filter at all.
            and (
                ":" not in (head := query.get("head", ""))
                or head == f"{pull.head_owner}:{pull.head}"
            )
        ):
            found.append(each)
    return call.page(_sorted(call, found), lambda each: call.shapes.pull(each, call.user))


@route("POST", f"{REPO}/pulls", needs="pull-requests:write")
def create_pull(call: Call) -> Reply:
    made = call.state.open_pull(
        call.user,
        head=str(call.wants("head")),
        base=str(call.wants("base")),
        title=str(call.wants("title")),
        body=call.maybe("body"),
        draft=bool(call.maybe("draft", default=False)),
    )
    return Reply(status=201, body=call.shapes.full_pull(made, call.user))


@route("GET", PULL, needs="pull-requests:read")
def pull(call: Call) -> Reply:
    found, _ = call.state.pull(call.number("pull_number"))
    return Reply(body=call.shapes.full_pull(found, call.user, reading=True))


@route("PATCH", PULL, needs="pull-requests:write")
def update_pull(call: Call) -> Reply:
    found, its = call.state.pull(call.number("pull_number"))
    base = call.maybe("base")
    if base is not None and base != its.base:
        raise Problem.invalid("PullRequest", "base", "invalid", "the fake keeps a pull's base")
    call.state.edit_issue(call.user, found, call.body)
    call.state.sync()
    return Reply(body=call.shapes.full_pull(found, call.user))


@route("GET", f"{PULL}/commits", needs="pull-requests:read")
def pull_commits(call: Call) -> Reply:
    _, its = call.state.pull(call.number("pull_number"))
    found = call.state.git.log("--reverse", f"{its.base_sha}..{its.head_sha}")
    return call.page(found, call.shapes.commit)


@route("GET", f"{PULL}/files", needs="pull-requests:read")
def pull_files(call: Call) -> Reply:
    _, its = call.state.pull(call.number("pull_number"))
    git = call.state.git
    base = git.merge_base(its.base_sha, its.head_sha) or its.base_sha
    found = git.changes(base, its.head_sha)
    return call.page(found, lambda each: call.shapes.change(each, its.head_sha))


@route("GET", f"{PULL}/merge", needs="pull-requests:read")
def is_merged(call: Call) -> Reply:
    _, its = call.state.pull(call.number("pull_number"))
    if its.merged_at is None:
        raise Problem(404, "Not Found")
    return Reply(status=204)


@route("PUT", f"{PULL}/merge", needs="contents:write", role="write")
def merge(call: Call) -> Reply:
    found, its = call.state.pull(call.number("pull_number"))
    wish = Wish(
        user=call.user,
        method=call.maybe("merge_method", "merge"),
        title=call.maybe("commit_title"),
        message=call.maybe("commit_message"),
    )
    sha = merging.merge(call.state, found, its, wish, sha=call.maybe("sha"))
    told = {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}
    return Reply(body=told)


@route("PUT", f"{PULL}/update-branch", needs="pull-requests:write", role="write")
def update_branch(call: Call) -> Reply:
    found, its = call.state.pull(call.number("pull_number"))
    wanted = call.maybe("expected_head_sha")
    if wanted is not None and wanted != its.head_sha:
        raise Problem(422, "expected head sha didn\u2019t match current head ref.")
    call.state.update_branch(call.user, found, its)
    url = f"{call.shapes.repo_url}/pulls/{found.number}"
    return Reply(status=202, body={"message": "Updating pull request branch.", "url": url})


@route("GET", f"{PULL}/reviews", needs="pull-requests:read")
def reviews(call: Call) -> Reply:
    found, its = call.state.pull(call.number("pull_number"))
    return call.page(its.reviews, lambda each: call.shapes.review(found, each))


@route("POST", f"{PULL}/reviews", needs="pull-requests:write")
def create_review(call: Call) -> Reply:
    found, its = call.state.pull(call.number("pull_number"))
    event = str(call.wants("event"))
    may_approve = call.user.login != ACTIONS_BOT or call.state.switches.actions_may_open_pulls
    if event == "APPROVE" and not may_approve:
        raise Problem(403, "GitHub Actions is not permitted to create or approve pull requests.")
    made = call.state.review(call.user, found, its, event, call.maybe("body", ""))
    merging.settle(call.state)
    return Reply(body=call.shapes.review(found, made))
