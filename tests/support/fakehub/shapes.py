"""The JSON that GitHub shows of things, as far as a client of this project can tell."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from fakehub import merging
from fakehub.state import REACTIONS

if TYPE_CHECKING:
    from fakehub.model import Comment, Happening, Issue, Label, Pull, Reaction, Review, Status, User
    from fakehub.repo import Change, Commit, Entry
    from fakehub.state import State

Json = dict[str, Any]

_USER_URLS: Final = (
    "followers", "following", "gists", "starred", "subscriptions", "organizations", "repos",
    "events", "received_events",
)  # fmt: skip
_REPO_URLS: Final = (
    "archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare",
    "contents", "contributors", "deployments", "downloads", "events", "forks", "git_commits",
    "git_refs", "git_tags", "hooks", "issue_comment", "issue_events", "issues", "keys", "labels",
    "languages", "merges", "milestones", "notifications", "pulls", "releases", "stargazers",
    "statuses", "subscribers", "subscription", "tags", "teams", "trees",
)  # fmt: skip
_PATHS: Final = {  # where the path differs from the name
    "git_commits": "git/commits", "git_refs": "git/refs", "git_tags": "git/tags",
    "blobs": "git/blobs", "trees": "git/trees", "issue_comment": "issues/comments",
    "issue_events": "issues/events",
}  # fmt: skip


def node_id(kind: str, number: int) -> str:
    """An opaque id for GraphQL, such as ``PR_17``."""
    return f"{kind}_{number}"


class Shapes:
    """Renders ``state`` with URLs under ``api`` (REST) and ``web`` (pages and git)."""

    def __init__(self, state: State, *, api: str, web: str) -> None:
        self.state = state
        self.api = api
        self.web = web

    @property
    def repo_url(self) -> str:
        """The repository in the REST API."""
        return f"{self.api}/repos/{self.state.full_name}"

    @property
    def page(self) -> str:
        """The repository's page."""
        return f"{self.web}/{self.state.full_name}"

    def user(self, user: User) -> Json:
        """A simple user."""
        login = quote(user.login)
        url = f"{self.api}/users/{login}"
        return {
            "login": user.login,
            "id": user.id,
            "node_id": node_id("U", user.id),
            "avatar_url": f"{self.web}/avatars/{user.id}",
            "gravatar_id": "",
            "url": url,
            "html_url": f"{self.web}/{login}",
            **{f"{each}_url": f"{url}/{each}" for each in _USER_URLS},
            "type": user.kind,
            "site_admin": False,
        }

    def public_user(self, user: User) -> Json:
        """A user with the public parts of the profile."""
        empty = ("name", "company", "location", "email", "hireable", "bio", "twitter_username")
        counts = ("public_repos", "public_gists", "followers", "following")
        since = "2020-01-01T00:00:00Z"
        return {
            **self.user(user),
            **dict.fromkeys(empty),
            **dict.fromkeys(counts, 0),
            "blog": "",
            "created_at": since,
            "updated_at": since,
        }

    def repository(self, viewer: User) -> Json:
        """The full repository; its parts are enough where a smaller one is asked for."""
        state, switches = self.state, self.state.switches
        url = self.repo_url
        opened = sum(issue.state == "open" for issue in state.issues.values())
        levels = {"pull": "read", "triage": "triage", "push": "write", "maintain": "maintain"}
        may = {name: state.at_least(viewer, role) for name, role in levels.items()}  # type: ignore[arg-type]
        zero = ("forks", "stargazers", "watchers")
        since = "2025-12-31T00:00:00Z"
        return {
            "id": state.id,
            "node_id": node_id("R", state.id),
            "name": state.name,
            "full_name": state.full_name,
            "owner": self.user(state.owner),
            "private": switches.private,
            "visibility": "private" if switches.private else "public",
            "html_url": self.page,
            "description": None,
            "fork": False,
            "url": url,
            **{f"{each}_url": f"{url}/{_PATHS.get(each, each)}" for each in _REPO_URLS},
            "clone_url": f"{self.page}.git",
            "git_url": f"{self.page}.git",
            "ssh_url": f"{self.page}.git",
            "svn_url": self.page,
            "mirror_url": None,
            "homepage": None,
            "language": None,
            "license": None,
            "default_branch": state.default_branch,
            **dict.fromkeys([f"{each}_count" for each in zero], 0),
            **dict.fromkeys(("forks", "watchers", "size", "network_count", "subscribers_count"), 0),
            "open_issues": opened,
            "open_issues_count": opened,
            **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_downloads"), True),
            **dict.fromkeys(("has_pages", "has_discussions", "archived", "disabled"), False),
            "created_at": since,
            "updated_at": since,
            "pushed_at": since,
            "permissions": {**may, "admin": state.at_least(viewer, "admin")},
            "allow_merge_commit": "merge" in switches.merge_methods,
            "allow_squash_merge": "squash" in switches.merge_methods,
            "allow_rebase_merge": "rebase" in switches.merge_methods,
            "allow_auto_merge": switches.allow_auto_merge,
            "delete_branch_on_merge": switches.delete_branch_on_merge,
        }

    def association(self, user: User) -> str:
        """How close someone is, which says nothing about what they may do."""
        if user == self.state.owner:
            return "OWNER"
        known = self.state.roles.get(user.login, "none") != "none"
        return "COLLABORATOR" if known and user.kind == "User" else "NONE"

    def label(self, label: Label) -> Json:
        """A label."""
        return {
            "id": label.id,
            "node_id": node_id("LA", label.id),
            "url": f"{self.repo_url}/labels/{quote(label.name)}",
            "name": label.name,
            "color": label.color,
            "default": False,
            "description": label.description,
        }

    def labels(self, issue: Issue) -> list[Json]:
        """An issue's labels."""
        return [self.label(self.state.label(name)) for name in issue.labels]

    def reaction(self, reaction: Reaction) -> Json:
        """One reaction."""
        return {
            "id": reaction.id,
            "node_id": node_id("REA", reaction.id),
            "user": self.user(reaction.user),
            "content": reaction.content,
            "created_at": reaction.created_at,
        }

    def rollup(self, reactions: list[Reaction], url: str) -> Json:
        """How many of which reaction."""
        counts = {each: sum(r.content == each for r in reactions) for each in REACTIONS}
        return {"url": f"{url}/reactions", "total_count": len(reactions), **counts}

    def comment(self, comment: Comment) -> Json:
        """A comment of an issue or pull request."""
        url = f"{self.repo_url}/issues/comments/{comment.id}"
        kind = "pull" if self.state.issues[comment.number].pull else "issues"
        page = f"{self.page}/{kind}/{comment.number}#issuecomment-{comment.id}"
        return {
            "id": comment.id,
            "node_id": node_id("IC", comment.id),
            "url": url,
            "html_url": page,
            "issue_url": f"{self.repo_url}/issues/{comment.number}",
            "user": self.user(comment.user),
            "body": comment.body,
            "created_at": comment.created_at,
            "updated_at": comment.updated_at,
            "author_association": self.association(comment.user),
            "performed_via_github_app": None,
            "reactions": self.rollup(comment.reactions, url),
        }

    def happening(self, issue: Issue, happening: Happening) -> Json:
        """An issue event; commits are named by other kinds than those that the fake keeps."""
        label = happening.label
        named = {"label": {"name": label.name, "color": label.color}} if label else {}
        return {
            "id": happening.id,
            "node_id": node_id("EV", happening.id),
            "url": f"{self.repo_url}/issues/events/{happening.id}",
            "actor": self.user(happening.actor or issue.user),
            "event": happening.event,
            "commit_id": None,
            "commit_url": None,
            "created_at": happening.created_at,
            **named,
            "performed_via_github_app": None,
        }

    def issue(self, issue: Issue) -> Json:
        """An issue; a pull request is shown as one with ``pull_request``."""
        url = f"{self.repo_url}/issues/{issue.number}"
        pull = issue.pull
        pull_url = f"{self.repo_url}/pulls/{issue.number}"
        page = f"{self.page}/{'pull' if pull else 'issues'}/{issue.number}"
        linked = {
            "url": pull_url,
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "merged_at": pull.merged_at if pull else None,
        }
        return {
            **self._issue_parts(issue),
            "node_id": node_id("PR" if pull else "I", issue.id),
            "url": url,
            "repository_url": self.repo_url,
            **{f"{each}_url": f"{url}/{each}" for each in ("comments", "events", "timeline")},
            "labels_url": f"{url}/labels{{/name}}",
            "html_url": page,
            "state_reason": issue.state_reason,
            "comments": self._comment_count(issue),
            "closed_by": self.user(issue.closed_by) if issue.closed_by else None,
            "performed_via_github_app": None,
            "reactions": self.rollup(issue.reactions, url),
            **({"pull_request": linked, "draft": pull.draft} if pull else {}),
        }

    def _comment_count(self, issue: Issue) -> int:
        return sum(each.number == issue.number for each in self.state.comments.values())

    def _issue_parts(self, issue: Issue) -> Json:
        return {
            "id": issue.id,
            "number": issue.number,
            "title": issue.title,
            "body": issue.body,
            "user": self.user(issue.user),
            "labels": self.labels(issue),
            "state": issue.state,
            "locked": False,
            "active_lock_reason": None,
            "assignee": None,
            "assignees": [],
            "milestone": None,
            "created_at": issue.created_at,
            "updated_at": issue.updated_at,
            "closed_at": issue.closed_at,
            "author_association": self.association(issue.user),
        }

    def pull(self, issue: Issue, viewer: User) -> Json:
        """A pull request as lists show it."""
        pull = _pull_of(issue)
        url, page = f"{self.repo_url}/pulls/{issue.number}", f"{self.page}/pull/{issue.number}"
        talk = f"{self.repo_url}/issues/{issue.number}"
        urls = {
            "self": url,
            "html": page,
            "issue": talk,
            "comments": f"{talk}/comments",
            "review_comments": f"{url}/comments",
            "review_comment": f"{self.repo_url}/pulls/comments{{/number}}",
            "commits": f"{url}/commits",
            "statuses": f"{self.repo_url}/statuses/{pull.head_sha}",
        }
        links = {f"{key}_url": value for key, value in urls.items() if key not in ("self", "html")}
        wish = pull.auto_merge
        auto_merge = wish and {
            "enabled_by": self.user(wish.user),
            "merge_method": wish.method,
            "commit_title": wish.title or f"{issue.title} (#{issue.number})",
            "commit_message": wish.message or "",
        }
        return {
            **self._issue_parts(issue),
            "node_id": node_id("PR", issue.id),
            "url": url,
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            **links,
            "_links": {key: {"href": value} for key, value in urls.items()},
            "requested_reviewers": [],
            "requested_teams": [],
            "draft": pull.draft,
            "merged_at": pull.merged_at,
            "merge_commit_sha": pull.merge_commit,
            "head": self._end(pull.head_owner, pull.head, pull.head_sha, viewer),
            "base": self._end(self.state.owner.login, pull.base, pull.base_sha, viewer),
            "auto_merge": auto_merge,
        }

    def _end(self, owner: str, branch: str, sha: str, viewer: User) -> Json:
        repository = self.repository(viewer)
        user = self.state.users[owner]
        if user != self.state.owner:
            full_name = f"{owner}/{self.state.name}"
            ours = (self.repo_url, f"{self.api}/repos/{full_name}")
            repository = {
                key: value.replace(*ours) if isinstance(value, str) else value
                for key, value in repository.items()
            } | {"id": user.id, "full_name": full_name, "fork": True, "owner": self.user(user)}
        return {
            "label": f"{owner}:{branch}",
            "ref": branch,
            "sha": sha,
            "user": self.user(user),
            "repo": repository,
        }

    def full_pull(self, issue: Issue, viewer: User, *, reading: bool = False) -> Json:
        """A pull request alone; only ``reading`` it moves ``mergeable`` on."""
        pull = _pull_of(issue)
        git = self.state.git
        mergeable = merging.read_mergeable(self.state, issue, pull) if reading else None
        base = git.merge_base(pull.base_sha, pull.head_sha) or pull.base_sha
        changes = git.changes(base, pull.head_sha)
        known = mergeable is not None
        return {
            **self.pull(issue, viewer),
            "merged": pull.merged_at is not None,
            "merged_by": self.user(pull.merged_by) if pull.merged_by else None,
            "mergeable": mergeable,
            "rebaseable": mergeable,
            "mergeable_state": merging.condition(self.state, issue, pull, known=known),
            "comments": self._comment_count(issue),
            "review_comments": 0,
            "maintainer_can_modify": False,
            "commits": git.count(f"{base}..{pull.head_sha}"),
            "additions": sum(each.additions for each in changes),
            "deletions": sum(each.deletions for each in changes),
            "changed_files": len(changes),
        }

    def review(self, issue: Issue, review: Review) -> Json:
        """A review."""
        url = f"{self.repo_url}/pulls/{issue.number}"
        page = f"{self.page}/pull/{issue.number}#pullrequestreview-{review.id}"
        return {
            "id": review.id,
            "node_id": node_id("PRR", review.id),
            "user": self.user(review.user),
            "body": review.body,
            "state": review.state,
            "html_url": page,
            "pull_request_url": url,
            "_links": {"html": {"href": page}, "pull_request": {"href": url}},
            "submitted_at": review.submitted_at,
            "commit_id": review.commit,
            "author_association": self.association(review.user),
        }

    def status(self, status: Status) -> Json:
        """A commit status."""
        return {
            "url": f"{self.repo_url}/statuses/{status.sha}",
            "avatar_url": f"{self.web}/avatars/{status.user.id}",
            "id": status.id,
            "node_id": node_id("SC", status.id),
            "state": status.state,
            "description": status.description,
            "target_url": status.target_url,
            "context": status.context,
            "created_at": status.created_at,
            "updated_at": status.created_at,
            "creator": self.user(status.user),
        }

    def combined(self, sha: str, viewer: User) -> Json:
        """The newest status of each context, and one word for all."""
        latest = list(self.state.latest_statuses(sha).values())
        states = {each.state for each in latest}
        word = "success" if states == {"success"} else "pending"
        statuses = [
            {key: value for key, value in self.status(each).items() if key != "creator"}
            for each in latest
        ]
        return {
            "state": "failure" if states & {"failure", "error"} else word,
            "statuses": statuses,
            "sha": sha,
            "total_count": len(latest),
            "repository": self.repository(viewer),
            "commit_url": f"{self.repo_url}/commits/{sha}",
            "url": f"{self.repo_url}/commits/{sha}/status",
        }

    def git_commit(self, commit: Commit) -> Json:
        """A commit as git has it."""
        url = f"{self.repo_url}/git/commits/{commit.sha}"
        return {
            "sha": commit.sha,
            "node_id": f"C_{commit.sha}",
            "url": url,
            "html_url": f"{self.page}/commit/{commit.sha}",
            **self._commit_parts(commit),
            "parents": [self._parent(each, "git/commits") for each in commit.parents],
        }

    def _parent(self, sha: str, where: str) -> Json:
        url = f"{self.repo_url}/{where}/{sha}"
        return {"sha": sha, "url": url, "html_url": f"{self.page}/commit/{sha}"}

    def _commit_parts(self, commit: Commit) -> Json:
        signed = commit.sha in self.state.verified
        return {
            "author": vars(commit.author),
            "committer": vars(commit.committer),
            "message": commit.message,
            "tree": {"sha": commit.tree, "url": f"{self.repo_url}/git/trees/{commit.tree}"},
            "verification": {
                "verified": signed,
                "reason": "valid" if signed else "unsigned",
                "signature": "-----BEGIN PGP SIGNATURE-----" if signed else None,
                "payload": f"tree {commit.tree}" if signed else None,
                "verified_at": commit.committer.date if signed else None,
            },
        }

    def commit(self, commit: Commit) -> Json:
        """A commit as lists show it."""
        url = f"{self.repo_url}/commits/{commit.sha}"
        people = {user.email: user for user in self.state.users.values()}
        author, committer = (
            people.get(person.email) for person in (commit.author, commit.committer)
        )
        return {
            "sha": commit.sha,
            "node_id": f"C_{commit.sha}",
            "url": url,
            "html_url": f"{self.page}/commit/{commit.sha}",
            "comments_url": f"{url}/comments",
            "commit": {
                "url": f"{self.repo_url}/git/commits/{commit.sha}",
                "comment_count": 0,
                **self._commit_parts(commit),
            },
            "author": self.user(author) if author else None,
            "committer": self.user(committer) if committer else None,
            "parents": [self._parent(each, "commits") for each in commit.parents],
        }

    def change(self, change: Change, sha: str) -> Json:
        """One file of a diff."""
        where = f"{self.page}/blob/{sha}/{change.path}"
        more: Json = {"previous_filename": change.previous} if change.previous else {}
        if change.patch is not None:
            more["patch"] = change.patch
        return {
            "sha": change.blob,
            "filename": change.path,
            "status": change.status,
            "additions": change.additions,
            "deletions": change.deletions,
            "changes": change.additions + change.deletions,
            "blob_url": where,
            "raw_url": where.replace("/blob/", "/raw/"),
            "contents_url": f"{self.repo_url}/contents/{change.path}?ref={sha}",
            **more,
        }

    def ref(self, ref: str, sha: str) -> Json:
        """A git ref."""
        kind = self.state.git.kind(sha) or "commit"
        return {
            "ref": ref,
            "node_id": f"REF_{ref}",
            "url": f"{self.repo_url}/git/{ref}",
            "object": {"type": kind, "sha": sha, "url": f"{self.repo_url}/git/{kind}s/{sha}"},
        }

    def content(self, entry: Entry, ref: str, *, whole: bool = False) -> Json:
        """A file or folder at a path; ``whole`` adds the file's content."""
        kinds = {"tree": "dir", "commit": "submodule"}
        kind = "symlink" if entry.mode == "120000" else kinds.get(entry.kind, "file")
        url = f"{self.repo_url}/contents/{entry.path}?ref={ref}"
        git_url = f"{self.repo_url}/git/{entry.kind}s/{entry.sha}"
        page = f"{self.page}/{'tree' if kind == 'dir' else 'blob'}/{ref}/{entry.path}"
        shown = {
            "type": kind,
            "size": entry.size or 0,
            "name": entry.path.rpartition("/")[2],
            "path": entry.path,
            "sha": entry.sha,
            "url": url,
            "git_url": git_url,
            "html_url": page,
            "download_url": f"{self.page}/raw/{ref}/{entry.path}" if kind == "file" else None,
            "_links": {"self": url, "git": git_url, "html": page},
        }
        if whole and kind == "symlink":
            return shown | {"target": self.state.git.blob(entry.sha).decode()}
        if whole and kind == "submodule":
            return shown | {"submodule_git_url": ""}
        if whole:
            data = self.state.git.blob(entry.sha)
            shown |= {"encoding": "base64", "content": base64.encodebytes(data).decode()}
        return shown


def _pull_of(issue: Issue) -> Pull:
    assert issue.pull is not None
    return issue.pull
