"""What GitHub says has happened, as a workflow finds it in its event file: data in, facts out.

Nothing in it is trusted but what GitHub itself says: who, where, when. Texts are kept as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, Strict, ValidationError

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Number = Annotated[int, Field(gt=0)]
Moment = Annotated[AwareDatetime, Strict(strict=False)]  # GitHub writes it as text


class NewComment(Record):
    """A comment that a person has just written on an issue or pull request."""

    id: int
    number: int  # of the issue or pull request
    on_pull: bool
    author: str
    at: AwareDatetime
    body: str


class NewReview(Record):
    """A review that a person has just given, and that says yes or no."""

    id: int
    number: int  # of the pull request
    author: str
    state: Literal["APPROVED", "CHANGES_REQUESTED"]
    body: str


class Opened(Record):
    """An issue that a person has just opened."""

    number: int
    author: str
    at: AwareDatetime
    body: str


class Changed(Record):
    """Something has changed that may stop a merge: a label, a box, a branch, a review."""


class Grouped(Record):
    """The merge queue wants a commit judged that it would put on the base branch."""

    head_sha: Sha
    base_sha: Sha
    branch: str  # of that commit; GitHub names it after the pull request
    into: str  # the base branch

    @property
    def pull(self) -> int:
        """The pull request that this commit would bring in."""
        return int(self.branch.rpartition("/pr-")[2].partition("-")[0])


class Ignored(NamedTuple):
    """Nothing to do, and why."""

    why: str


def read(
    name: str, event: Mapping[str, Any], *, repository: str
) -> NewComment | NewReview | Opened | Ignored:
    """What an event comes to.

    Args:
        name: ``GITHUB_EVENT_NAME``.
        event: The content of the event file.
        repository: ``owner/name`` of the one this is about.

    Raises:
        RatchetError: It is not what GitHub sends.
    """
    if name == "issue_comment":
        return _comment(_parse(_CommentEvent, event), repository)
    if name == "pull_request_review":
        return _review(_parse(_ReviewEvent, event), repository)
    if name == "issues":
        return _opened(_parse(_IssueEvent, event), repository)
    return Ignored("it is neither a comment, nor a review, nor a new issue")


_DASHBOARD: Final = "<!-- ratchet:dashboard -->"  # the only issue whose text stops a merge
# What may stop a merge, by event and action; a push has no action.
_CHANGES: Final = frozenset(
    {
        ("push", ""),
        ("issues", "edited"),
        ("pull_request_review", "dismissed"),
        *(
            ("pull_request", action)
            for action in ("labeled", "synchronize", "edited", "reopened", "converted_to_draft")
        ),
    }
)


def changed(name: str, event: Mapping[str, Any], *, repository: str) -> Changed | Grouped | None:
    """What an event tells of the merges that are to happen later; None when it is none of that.

    Who has done it makes no difference: everything is looked at again.

    Args: as for ``read``.

    Raises:
        RatchetError: It is not what GitHub sends.
    """
    grouped = name == "merge_group" and event.get("action") == "checks_requested"
    if not grouped and (name, event.get("action", "")) not in _CHANGES:
        return None
    if name == "issues" and _DASHBOARD not in str((event.get("issue") or {}).get("body")):
        return None
    told = _parse(_AnyEvent, event)
    if told.repository.full_name.casefold() != repository.casefold():
        return None
    if not grouped:
        return Changed()
    group = _parse(_GroupEvent, event).merge_group
    heads = "refs/heads/"
    return Grouped(
        head_sha=group.head_sha,
        base_sha=group.base_sha,
        branch=group.head_ref.removeprefix(heads),
        into=group.base_ref.removeprefix(heads),
    )


def _comment(event: _CommentEvent, repository: str) -> NewComment | Ignored:
    said = event.comment
    author = _author(event, said.user, repository, action="created")
    if isinstance(author, Ignored):
        return author
    if said.created_at != said.updated_at:
        return Ignored("it was edited")
    if said.performed_via_github_app is not None:
        return Ignored("an app wrote it")
    return NewComment(
        id=said.id,
        number=event.issue.number,
        on_pull=event.issue.pull_request is not None,
        author=author,
        at=said.created_at,
        body=said.body or "",
    )


def _review(event: _ReviewEvent, repository: str) -> NewReview | Ignored:
    given = event.review
    author = _author(event, given.user, repository, action="submitted")
    if isinstance(author, Ignored):
        return author
    state = given.state.upper()
    if state not in ("APPROVED", "CHANGES_REQUESTED"):
        return Ignored("the review says neither yes nor no")
    return NewReview(
        id=given.id,
        number=event.pull_request.number,
        author=author,
        state=state,
        body=given.body or "",
    )


def _opened(event: _IssueEvent, repository: str) -> Opened | Ignored:
    issue = event.issue
    author = _author(event, issue.user, repository, action="opened")
    if isinstance(author, Ignored):
        return author
    if issue.performed_via_github_app is not None:
        return Ignored("an app wrote it")
    return Opened(
        number=issue.number,
        author=author,
        at=issue.created_at,
        body=issue.body or "",
    )


def _author(event: _Event, author: _User | None, repository: str, *, action: str) -> str | Ignored:
    """The person who has done just that here; otherwise why nothing is done about an event."""
    if event.repository.full_name.casefold() != repository.casefold():
        return Ignored("it is about another repository")
    if event.action != action:
        return Ignored(f"only one that was {action} just now counts")
    if author is None or author.login != event.sender.login:
        return Ignored("who wrote it is not who sent it")
    if author.type != "User" or author.login.endswith("[bot]"):
        return Ignored("a bot wrote it")
    return author.login


# What is read of GitHub's JSON; everything else in it is left alone


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _User(_Part):
    login: str
    type: str


class _Repository(_Part):
    full_name: str


class _AnyEvent(_Part):
    repository: _Repository


class _GroupPart(_Part):
    head_sha: Sha
    base_sha: Sha
    head_ref: Annotated[str, Field(pattern=r"^refs/heads/gh-readonly-queue/\S+/pr-[1-9][0-9]*-")]
    base_ref: Annotated[str, Field(pattern=r"^refs/heads/\S+$")]


class _GroupEvent(_AnyEvent):
    merge_group: _GroupPart


class _Event(_Part):
    action: str
    repository: _Repository
    sender: _User


class _CommentPart(_Part):
    id: Number
    user: _User | None
    body: str | None
    created_at: Moment
    updated_at: Moment
    performed_via_github_app: Any = None


class _IssuePart(_Part):
    number: Number
    pull_request: Any = None


class _CommentEvent(_Event):
    comment: _CommentPart
    issue: _IssuePart


class _NewIssuePart(_Part):
    number: Number
    user: _User | None
    body: str | None
    created_at: Moment
    performed_via_github_app: Any = None


class _IssueEvent(_Event):
    issue: _NewIssuePart


class _ReviewPart(_Part):
    id: Number
    user: _User | None
    body: str | None
    state: str


class _PullPart(_Part):
    number: Number


class _ReviewEvent(_Event):
    review: _ReviewPart
    pull_request: _PullPart


E = TypeVar("E", bound=_Part)


def _parse(kind: type[E], event: Mapping[str, Any]) -> E:
    try:
        return kind.model_validate(event)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
    raise RatchetError(
        f"The event is not one that GitHub sends: look at '{place}'.",
        hint="Give the file that GITHUB_EVENT_PATH names.",
    )
