"""The fake's memory and what can happen in it, for the API and for people alike.

What a person does in the browser and what a program does through REST or GraphQL end in the same
methods. All are called with ``lock`` held.
"""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import yaml

from fakehub.model import (
    ACTIONS_BOT,
    COMMENT_LIMIT,
    ROLES,
    TITLE_LIMIT,
    Comment,
    Dispatch,
    Group,
    Happening,
    Issue,
    Label,
    Problem,
    Protection,
    Pull,
    Reaction,
    Review,
    Role,
    Status,
    Switches,
    Token,
    User,
)
from fakehub.repo import Person

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fakehub.repo import Bare

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
REACTIONS: Final = ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")
STATES: Final = ("error", "failure", "pending", "success")
DESCRIPTION_LIMIT: Final = 140
_CLOSING: Final = re.compile(r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+#(\d+)\b")
WEB_FLOW: Final = ("GitHub", "noreply@github.com")


class State:
    """One repository and everyone who may touch it."""

    def __init__(self, git: Bare, *, owner: str, name: str) -> None:
        self.lock = threading.RLock()
        self.git = git
        self.id = 1
        self.owner = User(id=1, login=owner)
        self.name = name
        self.default_branch = git.head
        self.switches = Switches()
        self.users: dict[str, User] = {owner: self.owner}
        self.roles: dict[str, Role] = {owner: "admin"}
        self.tokens: dict[str, Token] = {}
        self.labels: dict[str, Label] = {}  # by case-folded name
        self.issues: dict[int, Issue] = {}
        self.comments: dict[int, Comment] = {}
        self.statuses: list[Status] = []
        self.dispatches: list[Dispatch] = []
        self.protections: dict[str, Protection] = {}
        self.groups: dict[int, Group] = {}  # of the merge queue, by pull request
        self.verified: set[str] = set()  # commits that GitHub signed
        self._bases: dict[int, str] = {}  # where a pull request's base was when last looked at
        self._ids = 1000
        self._ticks = 0

    # Time, names, people

    @property
    def full_name(self) -> str:
        """The repository as ``owner/name``."""
        return f"{self.owner.login}/{self.name}"

    def next_id(self) -> int:
        """A number that was not given out before."""
        self._ids += 1
        return self._ids

    def now(self) -> str:
        """The fake's own clock; each look at it is a second later. ``set_clock`` moves it on."""
        self._ticks += 1
        return (START + timedelta(seconds=self._ticks)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def set_clock(self, at: datetime) -> None:
        """From now on it is at least that late."""
        self._ticks = max(self._ticks, int((at - START).total_seconds()))

    def happened(
        self, issue: Issue, event: Any, user: User | None, *, label: Label | None = None
    ) -> None:
        """Note an issue event."""
        issue.events.append(
            Happening(
                id=self.next_id(), event=event, actor=user, created_at=self.now(), label=label
            )
        )

    def add_user(self, login: str, role: Role) -> User:
        """A user with a role; ``[bot]`` at the end of the login makes it a bot."""
        known = self.users.get(login)
        kind: Any = "Bot" if login.endswith("[bot]") else "User"
        user = known or User(id=self.next_id(), login=login, kind=kind)
        self.users[login] = user
        self.roles[login] = role
        return user

    def role(self, user: User) -> Role:
        """What the user may do here; everyone reads a public repository."""
        given = self.roles.get(user.login, "none")
        return given if given != "none" or self.switches.private else "read"

    def at_least(self, user: User, role: Role) -> bool:
        """Whether the user has the role or a higher one."""
        return ROLES.index(self.role(user)) >= ROLES.index(role)

    def person(self, user: User) -> Person:
        """The user as the author of a commit, now."""
        return Person(name=user.login, email=user.email, date=self.now())

    def web_flow(self) -> Person:
        """GitHub as the committer, now."""
        return Person(name=WEB_FLOW[0], email=WEB_FLOW[1], date=self.now())

    # What git did meanwhile

    def sync(self) -> None:
        """Let open pull requests follow the branches, however those were moved."""
        refs = self.git.refs("refs/heads", "refs/forks")
        for issue in list(self.issues.values()):
            pull = issue.pull
            if pull is None or issue.state == "closed":
                continue
            head, base = refs.get(self.head_ref(pull)), refs.get(f"refs/heads/{pull.base}")
            if head is None or base is None:
                self._close(issue, None)
            elif (head, base) != (pull.head_sha, self._bases[issue.number]):
                self._follow(issue, pull, head, base)

    def _follow(self, issue: Issue, pull: Pull, head: str, base: str) -> None:
        if head != pull.head_sha:
            if not self.git.is_ancestor(pull.head_sha, head):
                self.happened(issue, "head_ref_force_pushed", None)
            # GitHub's ``base.sha`` is where the base was at the last push to the head, not now.
            pull.head_sha, pull.base_sha = head, base
            pull.queued = False
            self.git.move(f"refs/pull/{issue.number}/head", head)
        base_moved = base != self._bases[issue.number]
        self._bases[issue.number] = base
        pull.unknown_reads = self.switches.unknown_reads
        issue.updated_at = self.now()
        if base_moved and self.git.is_ancestor(head, base):
            self.landed(issue, pull, base, None)

    def head_ref(self, pull: Pull) -> str:
        """Where a head is in the bare repository; a fork's branches have a folder of their own."""
        return self.branch_ref(pull.head_owner, pull.head)

    def branch_ref(self, owner: str, branch: str) -> str:
        """The ref of a branch of this repository or of someone's fork."""
        ours = owner == self.owner.login
        return f"refs/heads/{branch}" if ours else f"refs/forks/{owner}/heads/{branch}"

    def base_tip(self, issue: Issue) -> str:
        """Where the base branch of a pull request is now."""
        return self._bases[issue.number]

    # Issues, comments, labels, reactions

    def issue(self, number: int) -> Issue:
        """An issue or pull request."""
        if number not in self.issues:
            raise Problem(404, "Not Found")
        return self.issues[number]

    def pull(self, number: int) -> tuple[Issue, Pull]:
        """A pull request."""
        issue = self.issue(number)
        if issue.pull is None:
            raise Problem(404, "Not Found")
        return issue, issue.pull

    def open_issue(
        self, user: User, title: str, body: str | None, *, labels: Iterable[str] = ()
    ) -> Issue:
        """A new issue; labels are for those who may set them and silently dropped for others."""
        check_text("Issue", title=title, body=body)
        now = self.now()
        issue = Issue(
            id=self.next_id(),
            number=len(self.issues) + 1,
            title=title,
            body=body,
            user=user,
            created_at=now,
            updated_at=now,
        )
        self.issues[issue.number] = issue
        if self.at_least(user, "triage"):
            self.add_labels(issue, labels, user)
        return issue

    def edit_issue(self, user: User, issue: Issue, change: Mapping[str, Any]) -> None:
        """Title, body, state, labels; without triage only of one's own, and no labels."""
        if not self.at_least(user, "triage") and (issue.user != user or "labels" in change):
            raise Problem(403, "Must have admin rights to Repository.")
        check_text("Issue", title=change.get("title", issue.title), body=change.get("body"))
        if change.get("title") is not None:
            issue.title = str(change["title"])
        if "body" in change:
            issue.body, issue.edited_at = change["body"], self.now()
        if "labels" in change:
            self.set_labels(issue, [_label_name(each) for each in change["labels"] or ()], user)
        if change.get("state") == "closed" and issue.state == "open":
            self._close(issue, user, reason=change.get("state_reason") or "completed")
        elif change.get("state") == "open" and issue.state == "closed":
            self._reopen(issue, user)
        issue.updated_at = self.now()

    def _close(self, issue: Issue, user: User | None, *, reason: str = "completed") -> None:
        issue.state, issue.closed_at, issue.closed_by = "closed", self.now(), user
        self.happened(issue, "closed", user)
        if issue.pull is None:
            issue.state_reason = reason
        else:
            issue.pull.auto_merge, issue.pull.queued = None, False

    def _reopen(self, issue: Issue, user: User) -> None:
        pull = issue.pull
        if pull is not None:
            tip = self.git.refs(self.head_ref(pull)).get(self.head_ref(pull))
            if pull.merged_at or tip is None:
                message = "state cannot be changed. The pull request cannot be reopened."
                raise Problem.invalid("PullRequest", "state", "invalid", message)
            pull.unknown_reads = self.switches.unknown_reads
        else:
            issue.state_reason = "reopened"
        issue.state, issue.closed_at, issue.closed_by = "open", None, None
        self.happened(issue, "reopened", user)

    def comment(self, user: User, issue: Issue, body: str) -> Comment:
        """A new comment."""
        check_text("IssueComment", body=body)
        if not body.strip():
            raise Problem.invalid("IssueComment", "body", "missing_field", "body can't be blank")
        now = self.now()
        made = Comment(
            id=self.next_id(),
            number=issue.number,
            user=user,
            body=body,
            created_at=now,
            updated_at=now,
        )
        self.comments[made.id] = made
        issue.updated_at = now
        return made

    def own_comment(self, user: User, number: int) -> Comment:
        """A comment the user may change: their own, or anyone's with write."""
        if number not in self.comments:
            raise Problem(404, "Not Found")
        comment = self.comments[number]
        if comment.user != user and not self.at_least(user, "write"):
            raise Problem(403, "Must have admin rights to Repository.")
        return comment

    def edit_comment(self, user: User, number: int, body: str) -> Comment:
        """Replace a comment's text."""
        check_text("IssueComment", body=body)
        comment = self.own_comment(user, number)
        comment.body, comment.updated_at = body, self.now()
        return comment

    def react(self, user: User, reactions: list[Reaction], content: str) -> tuple[Reaction, bool]:
        """An emoji, once a person; says whether it is new."""
        if content not in REACTIONS:
            raise Problem.invalid("Reaction", "content", "invalid")
        for each in reactions:
            if (each.user, each.content) == (user, content):
                return each, False
        made = Reaction(id=self.next_id(), user=user, content=content, created_at=self.now())
        reactions.append(made)
        return made, True

    def make_label(self, name: str, color: str = "ededed", description: str | None = None) -> Label:
        """A new label of the repository; names differ by more than case."""
        if name.casefold() in self.labels:
            raise Problem.invalid("Label", "name", "already_exists")
        if not re.fullmatch(r"[0-9a-fA-F]{6}", color):
            raise Problem.invalid("Label", "color", "invalid")
        label = Label(id=self.next_id(), name=name, color=color, description=description)
        self.labels[name.casefold()] = label
        return label

    def label(self, name: str) -> Label:
        """A label of the repository."""
        if name.casefold() not in self.labels:
            raise Problem(404, "Not Found")
        return self.labels[name.casefold()]

    def add_labels(self, issue: Issue, names: Iterable[str], user: User) -> None:
        """Label an issue; labels the repository does not have yet are made."""
        for name in names:
            known = self.labels.get(name.casefold()) or self.make_label(name)
            if known.name not in issue.labels:
                issue.labels.append(known.name)
                self.happened(issue, "labeled", user, label=known)

    def set_labels(self, issue: Issue, names: Iterable[str], user: User) -> None:
        """Have an issue bear these labels and no other."""
        wanted = list(names)
        kept = {name.casefold() for name in wanted}
        for name in [each for each in issue.labels if each.casefold() not in kept]:
            self.remove_label(issue, name, user)
        self.add_labels(issue, wanted, user)

    def remove_label(self, issue: Issue, name: str, user: User) -> None:
        """Take a label off an issue."""
        held = {each.casefold(): each for each in issue.labels}
        if name.casefold() not in held:
            raise Problem(404, "Label does not exist")
        issue.labels.remove(held[name.casefold()])
        self.happened(issue, "unlabeled", user, label=self.label(name))

    # Pull requests

    def open_pull(
        self,
        user: User,
        *,
        head: str,
        base: str,
        title: str,
        body: str | None,
        draft: bool = False,
    ) -> Issue:
        """A new pull request; ``head`` may be ``owner:branch``."""
        if user.login == ACTIONS_BOT and not self.switches.actions_may_open_pulls:
            raise Problem(
                403, "GitHub Actions is not permitted to create or approve pull requests."
            )
        check_text("PullRequest", title=title, body=body)
        owner, _, branch = head.rpartition(":")
        owner = owner or self.owner.login
        head_sha, base_sha = self._ends(owner, branch, base)
        for other in self.issues.values():
            old = other.pull
            same = old and (old.head_owner, old.head, old.base) == (owner, branch, base)
            if same and other.state == "open":
                message = f"A pull request already exists for {owner}:{branch}."
                error = {"resource": "PullRequest", "code": "custom", "message": message}
                raise Problem(422, "Validation Failed", error)
        if self.git.is_ancestor(head_sha, base_sha):
            message = f"No commits between {base} and {head}"
            error = {"resource": "PullRequest", "code": "custom", "message": message}
            raise Problem(422, "Validation Failed", error)
        issue = self.open_issue(user, title, body)
        issue.pull = Pull(
            base=base,
            head=branch,
            head_owner=owner,
            head_sha=head_sha,
            base_sha=base_sha,
            draft=draft,
            unknown_reads=self.switches.unknown_reads,
        )
        self._bases[issue.number] = base_sha
        self.git.move(f"refs/pull/{issue.number}/head", head_sha)
        return issue

    def _ends(self, owner: str, branch: str, base: str) -> tuple[str, str]:
        head_ref, base_ref = self.branch_ref(owner, branch), f"refs/heads/{base}"
        head_sha = self.git.refs(head_ref).get(head_ref)
        base_sha = self.git.refs(base_ref).get(base_ref)
        if head_sha is None:
            raise Problem.invalid("PullRequest", "head", "invalid")
        if base_sha is None:
            raise Problem.invalid("PullRequest", "base", "invalid")
        return head_sha, base_sha

    def review(self, user: User, issue: Issue, pull: Pull, event: str, body: str) -> Review:
        """A review of the head as it is."""
        states: dict[str, Any] = {
            "APPROVE": "APPROVED",
            "REQUEST_CHANGES": "CHANGES_REQUESTED",
            "COMMENT": "COMMENTED",
        }
        if user == issue.user and event != "COMMENT":
            wanted = "approve" if event == "APPROVE" else "request changes on"
            raise Problem(
                422, "Unprocessable Entity", f"Review Can not {wanted} your own pull request"
            )
        made = Review(
            id=self.next_id(),
            user=user,
            state=states[event],
            body=body,
            commit=pull.head_sha,
            submitted_at=self.now(),
        )
        pull.reviews.append(made)
        return made

    def landed(self, issue: Issue, pull: Pull, commit: str, user: User | None) -> None:
        """The pull request is merged: close it, and what its text says it closes."""
        pull.merged_at, pull.merged_by, pull.merge_commit = self.now(), user, commit
        self._close(issue, user)
        messages = self.git.fixed("log", "--format=%B", f"{pull.base_sha}..{pull.head_sha}")
        if pull.base == self.default_branch:
            for number in _CLOSING.findall(f"{issue.body or ''}\n{messages}"):
                other = self.issues.get(int(number))
                if other and other.pull is None and other.state == "open":
                    self._close(other, user)
        if self.switches.delete_branch_on_merge and pull.head_owner == self.owner.login:
            self.git.move(self.head_ref(pull), None)

    def set_draft(self, user: User, issue: Issue, pull: Pull, *, draft: bool) -> None:
        """Make a draft of it, or make it ready for review."""
        pull.draft = draft
        self.happened(issue, "convert_to_draft" if draft else "ready_for_review", user)

    def update_branch(self, user: User, issue: Issue, pull: Pull) -> str:
        """Merge the base into the head, as the button 'Update branch' does; GitHub signs it."""
        tip = self.base_tip(issue)
        tree = self.git.merge_tree(pull.head_sha, tip)
        if self.git.is_ancestor(tip, pull.head_sha):
            raise Problem(422, "There are no new commits on the base branch.")
        if tree is None:
            raise Problem(422, "merge conflict between base and head")
        author, committer = self.person(user), self.web_flow()
        text = f"Merge branch '{pull.base}' into {pull.head}"
        parents = [pull.head_sha, tip]
        new = self.git.make_commit(tree, parents, text, author=author, committer=committer)
        self.git.move(self.head_ref(pull), new, pull.head_sha)
        self.verified.add(new)
        return new

    # Commits and statuses

    def set_status(
        self,
        user: User,
        sha: str,
        *,
        state: str,
        context: str = "default",
        description: str | None = None,
        target_url: str | None = None,
    ) -> Status:
        """A status on a commit."""
        if not re.fullmatch(r"[0-9a-f]{40}", sha) or self.git.kind(sha) != "commit":
            raise Problem(422, f"No commit found for SHA: {sha}")
        if state not in STATES:
            raise Problem.invalid("Status", "state", "custom", "state is not included in the list")
        if len(description or "") > DESCRIPTION_LIMIT:
            message = f"description is too long (maximum is {DESCRIPTION_LIMIT} characters)"
            raise Problem.invalid("Status", "description", "custom", message)
        made = Status(
            id=self.next_id(),
            sha=sha,
            state=state,
            context=context,
            description=description,
            target_url=target_url,
            user=user,
            created_at=self.now(),
        )
        self.statuses.append(made)
        return made

    def latest_statuses(self, sha: str) -> dict[str, Status]:
        """The newest status of each context."""
        return {each.context: each for each in self.statuses if each.sha == sha}

    def dispatch(self, user: User, workflow: str, ref: str, inputs: Mapping[str, Any]) -> Dispatch:
        """Start a workflow of a branch; the default branch must have it, too."""
        path = f".github/workflows/{workflow}"
        if self.git.entry(self.default_branch, path) is None:
            raise Problem(404, "Not Found")
        name = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
        if self.git.refs(name).get(name) is None:
            raise Problem(422, f"No ref found for: {ref}")
        entry = self.git.entry(name, path)
        known = declared_inputs(self.git.blob(entry.sha).decode()) if entry else None
        if known is None:
            raise Problem(422, "Workflow does not have 'workflow_dispatch' trigger")
        if unknown := [name for name in inputs if name not in known]:
            raise Problem(422, f"Unexpected inputs provided: {json.dumps(unknown)}")
        made = Dispatch(
            id=self.next_id(), workflow=workflow, ref=ref, inputs=dict(inputs), user=user
        )
        self.dispatches.append(made)
        return made

    def move_branch(self, ref: str, new: str | None, *, force: bool = False) -> None:
        """What REST does to a ref; a protected branch takes nothing and no deletion."""
        old = self.git.refs(ref).get(ref)
        if old is None:
            raise Problem(422, "Reference does not exist")
        if self.protections.get(ref.removeprefix("refs/heads/")):
            raise Problem(422, "Changes must be made through a pull request.")
        if new is not None and not force and not self.git.is_ancestor(old, new):
            raise Problem(422, "Update is not a fast forward")
        self.git.move(ref, new, old)

    def commit_files(
        self, user: User, ref: str, parent: str, message: str, files: Mapping[str, bytes | None]
    ) -> str:
        """A commit that GitHub makes for a user, and signs, on a branch that must be at parent."""
        tree = self.git.tree_with(parent, files)
        author, committer = self.person(user), self.web_flow()
        sha = self.git.make_commit(tree, [parent], message, author=author, committer=committer)
        if not self.git.move(ref, sha, parent):
            raise Problem(409, "Reference cannot be updated")
        self.verified.add(sha)
        return sha


def declared_inputs(workflow: str) -> set[str] | None:
    """The inputs of a workflow's ``workflow_dispatch``; None when it is not started so."""
    read = yaml.safe_load(workflow)
    events = read.get("on", read.get(True))  # YAML 1.1 takes the key ``on`` for a truth
    if isinstance(events, str | list):
        return set() if "workflow_dispatch" in events else None
    if "workflow_dispatch" not in events:
        return None
    return set((events["workflow_dispatch"] or {}).get("inputs") or {})


def check_text(resource: str, *, title: str | None = "-", body: str | None = None) -> None:
    """Refuse what GitHub would not store."""
    if not (title or "").strip():
        raise Problem.invalid(resource, "title", "missing_field")
    for name, text, limit in (("title", title, TITLE_LIMIT), ("body", body, COMMENT_LIMIT)):
        if len(text or "") > limit:
            message = f"{name} is too long (maximum is {limit} characters)"
            raise Problem.invalid(resource, name, "custom", message)


def _label_name(label: str | dict[str, str]) -> str:
    return label if isinstance(label, str) else label["name"]
