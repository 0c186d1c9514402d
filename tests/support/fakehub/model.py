"""What the fake remembers that git does not: people, issues, pull requests, statuses, switches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

Role = Literal["none", "read", "triage", "write", "maintain", "admin"]
ROLES: Final[tuple[Role, ...]] = ("none", "read", "triage", "write", "maintain", "admin")
MergeMethod = Literal["merge", "squash", "rebase"]

ACTIONS_BOT: Final = "github-actions[bot]"
COMMENT_LIMIT: Final = 65_536
TITLE_LIMIT: Final = 256


class Problem(Exception):
    """A refusal in GitHub's words."""

    def __init__(self, status: int, message: str, *errors: dict[str, Any] | str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors

    @classmethod
    def invalid(cls, resource: str, field_name: str, code: str, message: str = "") -> Problem:
        """A 422 with one error, as the validation of a resource words it."""
        error = {"resource": resource, "field": field_name, "code": code}
        if message:
            error["message"] = message
        return cls(422, "Validation Failed", error)


@dataclass(frozen=True, kw_only=True)
class User:
    """Someone who acts; a GitHub App or GITHUB_TOKEN acts as a ``Bot``."""

    id: int
    login: str
    kind: Literal["User", "Bot"] = "User"

    @property
    def email(self) -> str:
        """The address GitHub puts into the commits it makes for a user."""
        return f"{self.id}+{self.login}@users.noreply.github.com"


@dataclass(frozen=True, kw_only=True)
class Token:
    """Acts for a user, with no more than ``permissions`` where they are given.

    Their names are those of a workflow's ``permissions:``, the levels ``read`` and ``write``.
    """

    user: User
    permissions: dict[str, str] | None = None


@dataclass(kw_only=True)
class Label:
    """One of the repository's labels."""

    id: int
    name: str
    color: str = "ededed"
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """One person's emoji."""

    id: int
    user: User
    content: str
    created_at: str


@dataclass(kw_only=True)
class Comment:
    """A comment of an issue or pull request."""

    id: int
    number: int
    user: User
    body: str
    created_at: str
    updated_at: str
    reactions: list[Reaction] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Review:
    """What a reviewer said of one commit."""

    id: int
    user: User
    state: Literal["APPROVED", "CHANGES_REQUESTED", "COMMENTED"]
    body: str
    commit: str
    submitted_at: str


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How someone wants a pull request merged, at once or as soon as nothing blocks it."""

    user: User
    method: MergeMethod = "merge"
    enabled_at: str = ""
    title: str | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Happening:
    """An issue event: of a label, or one that tells when people could see what a pull request has.

    https://docs.github.com/rest/using-the-rest-api/issue-event-types
    """

    id: int
    event: Literal["closed", "reopened", "ready_for_review", "convert_to_draft",
                   "head_ref_force_pushed", "labeled", "unlabeled"]  # fmt: skip
    actor: User | None
    created_at: str
    label: Label | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """A merge group: the commit that the queue would merge a pull request as.

    Each is made on top of the one before it; required checks have to be reported on ``head_sha``,
    or the pull request leaves the queue. https://docs.github.com/webhooks (merge_group), and
    https://docs.github.com/repositories (Managing a merge queue).
    """

    number: int
    head_sha: str
    head_ref: str  # whole
    base_sha: str
    base_ref: str  # whole


@dataclass(kw_only=True)
class Pull:
    """The part of an issue that makes it a pull request."""

    base: str
    head: str
    head_owner: str
    head_sha: str
    base_sha: str
    draft: bool = False
    merged_at: str | None = None
    merged_by: User | None = None
    merge_commit: str | None = None
    unknown_reads: int = 0  # how often ``mergeable`` will still be read as null
    auto_merge: Wish | None = None
    queued: bool = False
    enqueued_by: User | None = None
    reviews: list[Review] = field(default_factory=list)


@dataclass(kw_only=True)
class Issue:
    """An issue, or a pull request where ``pull`` is there."""

    id: int
    number: int
    title: str
    body: str | None
    user: User
    created_at: str
    updated_at: str
    state: Literal["open", "closed"] = "open"
    state_reason: str | None = None
    closed_at: str | None = None
    closed_by: User | None = None
    labels: list[str] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    pull: Pull | None = None
    edited_at: str | None = None  # its text, the last time
    events: list[Happening] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Status:
    """One commit status; the newest of a context counts."""

    id: int
    sha: str
    state: str
    context: str
    description: str | None
    target_url: str | None
    user: User
    created_at: str


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """A workflow that was started by hand or by a program; the fake runs none."""

    id: int
    workflow: str  # the file's name
    ref: str
    inputs: dict[str, str]
    user: User


@dataclass(frozen=True, kw_only=True)
class Protection:
    """What a protected branch demands; nobody pushes to it, and no one forces."""

    contexts: tuple[str, ...] = ()
    approvals: int = 0
    strict: bool = False  # the head must contain the base
    merge_queue: bool = False


@dataclass(kw_only=True)
class Switches:
    """The repository's settings."""

    private: bool = False
    actions_may_open_pulls: bool = True
    allow_auto_merge: bool = False
    delete_branch_on_merge: bool = False
    merge_methods: tuple[MergeMethod, ...] = ("merge", "squash", "rebase")
    unknown_reads: int = 1  # how often ``mergeable`` is null after a head or base moved
