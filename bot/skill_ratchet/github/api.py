"""GitHub: what is read there, and what Ratchet writes there.

Every write can be done twice and leaves what doing it once leaves. What could make a second thing
is looked for before and after; a merge is read back, whatever the answer to it was. A marker
(``<!-- ratchet:... -->``) counts only in what the bot itself wrote.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from datetime import datetime
from http import HTTPStatus
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import quote, urlsplit

from pydantic import AwareDatetime, Field

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Record
from skill_ratchet.github.http import API_URL, WAITS, Answer, Wire
from skill_ratchet.github.reviews import Review
from skill_ratchet.project.proposal import (
    CASES,
    EXPERIMENT,
    NOBODY,
    Identity,
    Merged,
    Reason,
    Refused,
    one_line,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Method = Literal["merge", "squash", "rebase"]
State = Literal["error", "failure", "pending", "success"]

_POLLS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0)  # seconds while mergeability is computed
_ACTIONS: Final = "github-actions[bot]"
_ACTIONS_ID: Final = 41898282  # of its account on github.com
_CONTEXT: Final = "ratchet/holdout"
_STATUS_WORDS: Final = 140  # characters of a commit status's description
_MARKER: Final = re.compile(r"<!-- ratchet:[^\n<>]+ -->")
_SHA: Final = r"^[0-9a-f]{40}$"
# Events of a pull request after which it is not what people saw before.
_SHOWN: Final = frozenset(
    {"ready_for_review", "reopened", "head_ref_force_pushed", "head_ref_restored"}
)
_PROPOSED: Final = re.compile(rf"^(?:{EXPERIMENT}|{CASES}): \S+$", re.MULTILINE)

_ANEW: Final = "Run again: the edit has to be measured against what is there now."
_RULES: Final = "See the rules of the branch in the repository's settings."

_QUEUE: Final = (
    "Put it into the queue, or set 'auto_merge: true' in section 'github' of ratchet.yml, and "
    "Ratchet does."
)

_CANNOT: Final = frozenset({"FORBIDDEN", "undefinedField", "HTTP 403", "HTTP 404"})

_COMMIT: Final = """mutation($input: CreateCommitOnBranchInput!) {
  createCommitOnBranch(input: $input) { commit { oid } } }"""
_ISSUE: Final = """query($input: Int!) { repository(owner: OWNER, name: NAME) {
  issue(number: $input) { body lastEditedAt author { __typename login } } } }"""
_AUTO_MERGE: Final = """mutation($input: EnablePullRequestAutoMergeInput!) {
  enablePullRequestAutoMerge(input: $input) { clientMutationId } }"""
_NO_AUTO_MERGE: Final = """mutation($input: DisablePullRequestAutoMergeInput!) {
  disablePullRequestAutoMerge(input: $input) { clientMutationId } }"""
_ENQUEUE: Final = """mutation($input: EnqueuePullRequestInput!) {
  enqueuePullRequest(input: $input) { clientMutationId } }"""
_IN_QUEUE: Final = """query($input: ID!) {
  node(id: $input) { ... on PullRequest { isInMergeQueue } } }"""
_DEQUEUE: Final = """mutation($input: DequeuePullRequestInput!) {
  dequeuePullRequest(input: $input) { clientMutationId } }"""


class Unsupported(RatchetError):
    """GitHub cannot or may not make the commit; a git push has to do it."""


class Unopened(RatchetError):
    """A pull request could not be opened. Its branch is kept; ``link`` leads to the comparison."""

    def __init__(self, message: str, *, hint: str, link: str) -> None:
        super().__init__(message, hint=hint)
        self.link = link


class Pull(Record):
    """A pull request as it was when it was read.

    ``base_sha`` is the base as GitHub noted it for this pull request, which may be older than the
    branch is: ``base_sha()`` reads the branch. ``mergeable`` is None while GitHub computes it.
    """

    number: int
    node: str
    url: str
    title: str
    body: str
    author: str
    state: Literal["open", "closed"]
    draft: bool
    merged: bool
    head_ref: str
    head_sha: str
    head_repository: str  # "" when it was deleted
    base_ref: str
    base_sha: str
    mergeable: bool | None
    mergeable_state: str
    merge_commit: str | None  # while it is open: a trial merge
    auto_merge: bool
    armed_by: str | None  # who has turned auto-merge on
    labels: tuple[str, ...]
    created_at: AwareDatetime
    merged_by: str | None = None  # a login; from a list it is not known


class Comment(Record):
    """A comment on an issue or pull request."""

    id: int
    url: str
    author: str
    body: str


class Issue(Record):
    """An issue; never a pull request."""

    number: int
    url: str
    state: Literal["open", "closed"]
    title: str
    author: str
    body: str


class Opening(Record):
    """What an issue says, by whom; ``edited_at`` is None where its text was never changed."""

    author: str
    is_person: bool
    body: str
    edited_at: AwareDatetime | None


class Labeling(Record):
    """That somebody put a label on, or took it off."""

    id: int
    on: bool
    label: str
    actor: str  # "" when the account was deleted


class Status(Record):
    """What was said last about a commit under one context."""

    context: str
    state: State
    description: str
    creator: str


class Waiting(Record):
    """Not merged yet: GitHub merges it when the rules of the branch are met."""

    how: Literal["auto_merge", "merge_queue"]


class MergeOrder(Record):
    """A merge that was decided on, and all that has to be as it was then.

    Any of ``hold_labels`` on the pull request stops it. ``message`` is for the commit that GitHub
    makes; without one it writes its own.
    """

    number: int
    head_sha: str = Field(pattern=_SHA)
    base_ref: str
    base_sha: str = Field(pattern=_SHA)
    method: Method
    message: str | None = None
    hold_labels: frozenset[str] = frozenset()


class FileCommit(Record):
    """A commit of one file, on top of ``parent``, which is where the branch has to be."""

    branch: str
    parent: str = Field(pattern=_SHA)
    path: str
    content: bytes
    message: str


class _Blocked(NamedTuple):
    pull: Pull
    words: str


class GitHub:
    """One repository on GitHub, with one token; ``connect`` makes it.

    Every method raises RatchetError, with a hint, when GitHub refuses or does not answer. No
    message, repr or log holds the token.
    """

    def __init__(self, wire: Wire) -> None:
        self.repository = wire.repository
        self.url = wire.url
        self._wire = wire
        self._login: str | None = None

    def __repr__(self) -> str:
        return f"GitHub({self.url})"

    # Who and what is there

    def me(self) -> str:
        """The login whose token this is; an App's or workflow's ends in ``[bot]``."""
        if self._login is None:
            # REST has no such question that an installation's token may ask.
            reply = self._wire.graphql("query { viewer { login } }")
            login = (reply.data.get("viewer") or {}).get("login")
            if not login:
                raise RatchetError(
                    f"GitHub does not say whose token this is: {reply.problem or 'no login'}",
                    hint="Check the token; it may have expired.",
                )
            self._login = str(login)
        return self._login

    def identity(self) -> Identity:
        """Who commits with git what is pushed with this token: its account, as GitHub knows it."""
        login = self.me()
        host = urlsplit(self.url).hostname or "github.com"
        number = _ACTIONS_ID if (login, host) == (_ACTIONS, "github.com") else self._id_of(login)
        return Identity(login, f"{number}+{login}@users.noreply.{host}") if number else NOBODY

    def _id_of(self, login: str) -> int | None:
        answer = self._wire.ask("GET", f"/users/{quote(login)}", ok=(200, 404))
        number = answer.data.get("id") if isinstance(answer.data, dict) else None
        return number if isinstance(number, int) else None

    def permission(self, user: str) -> str:
        """The role of a user: ``admin``, ``maintain``, ``write``, ``triage``, ``read``, ``none``.

        Or the name of an organisation's own role. Whatever goes wrong, the answer is ``none``.
        """
        try:
            url = self._wire.path("collaborators", user, "permission")
            answer = self._wire.ask("GET", url)
        except RatchetError:
            return "none"
        role = answer.data.get("role_name") if isinstance(answer.data, dict) else None
        return role if isinstance(role, str) and role else "none"

    def head_of(self, branch: str) -> str | None:
        """The commit at the tip of a branch; None when there is no such branch."""
        answer = self._wire.ask(
            "GET", self._wire.path("git/ref/heads", branch, slashes=True), ok=(200, 404)
        )
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        return self._wire.made(answer, lambda data: _sha(data["object"]["sha"]))

    def base_sha(self, branch: str) -> str:
        """The commit at the tip of a branch that must be there."""
        tip = self.head_of(branch)
        if tip is None:
            raise RatchetError(
                f"{self.repository} has no branch {one_line(branch)}, or the token cannot see it",
                hint="Check 'base' in ratchet.yml, and that the token may read contents.",
            )
        return tip

    # Commits

    def create_branch(self, branch: str, *, sha: str) -> None:
        """Make a branch at ``sha``; one that is there already has to be at it."""
        tip = self.head_of(branch)
        if tip == sha:
            return
        if tip is not None:
            raise self._moved(branch, None, tip)
        self._wire.create(
            self._wire.path("git/refs"),
            {"ref": f"refs/heads/{branch}", "sha": sha},
            find=lambda: self.head_of(branch),
            make=lambda data: _sha(data["object"]["sha"]),
        )
        if (tip := self.head_of(branch)) != sha:
            raise self._moved(branch, sha, tip)

    def delete_branch(self, branch: str, *, expected: str) -> None:
        """Delete a branch if it still is at ``expected``; one that is gone already is fine.

        GitHub has no such condition: the look comes just before.
        """
        tip = self.head_of(branch)
        if tip is None:
            return
        if tip != expected:
            raise self._moved(branch, expected, tip)
        url = self._wire.path("git/refs/heads", branch, slashes=True)
        answer = self._wire.ask("DELETE", url, ok=(204, 404, 409, 422))
        if answer.status != HTTPStatus.NO_CONTENT and self.head_of(branch) is not None:
            raise self._wire.error(answer)

    def put_file_commit(self, order: FileCommit) -> str:
        """Commit one file on a branch that is at its parent; made there if it is not.

        GitHub signs the commit, and refuses it when the branch has moved. Returns its SHA; when
        the branch already ends in this very commit, that one's.

        Raises:
            Unsupported: This token, or this server, cannot commit so.
            RatchetError: The branch is elsewhere, or a rule forbids it. Nothing was committed.
        """
        if (tip := self.head_of(order.branch)) is None:
            self.create_branch(order.branch, sha=order.parent)
        elif tip != order.parent:
            return self._own_commit(tip, order)
        reply = self._wire.graphql(_COMMIT, _commit_input(self.repository, order), once=True)
        if (tip := self.base_sha(order.branch)) != order.parent:  # the branch is the judge
            return self._own_commit(tip, order)
        said = f"GitHub did not commit to {order.branch}: {reply.problem or 'it gave no reason'}"
        if reply.kinds & _CANNOT:
            raise Unsupported(said, hint="Push the commit with git.")
        raise RatchetError(said, hint="Check the rules of the branch, and run again.")

    def _own_commit(self, tip: str, order: FileCommit) -> str:
        """``tip``, if it is what ``put_file_commit`` was to make."""
        answer = self._wire.ask("GET", self._wire.path("commits", tip))
        if not self._wire.made(answer, lambda data: _is_commit(data, order)):
            raise self._moved(order.branch, order.parent, tip)
        return tip

    def _moved(self, branch: str, expected: str | None, tip: str | None) -> RatchetError:
        was, now = (sha[:12] if sha else "nothing" for sha in (expected, tip))
        return RatchetError(
            f"branch {one_line(branch)} is not at {was} but at {now}; it was left as it is",
            hint="Run again: Ratchet looks at what is there now.",
        )

    # Pull requests

    def pull(self, number: int) -> Pull:
        """A pull request as it is now."""
        return self._wire.made(self._wire.ask("GET", self._wire.path("pulls", number)), _pull)

    def find_pull(
        self,
        marker: str,
        branch: str,
        *,
        base: str | None = None,
        state: Literal["open", "closed"] = "open",
    ) -> Pull | None:
        """The bot's newest pull request from this repository's ``branch``: see ``is_own``."""
        owner = self.repository.partition("/")[0]
        query = {"head": f"{owner}:{branch}", "state": state}
        newest = next(self._my_pulls({branch: marker}, base, query), None)
        return self.pull(newest.number) if newest else None

    def my_pulls(self, markers: Mapping[str, str], *, base: str) -> dict[str, Pull]:
        """The bot's open pull requests from this repository's branches, by branch, in one list.

        Args:
            markers: What each branch's pull request has to bear: see ``is_own``.
            base: Where they go.
        """
        found: dict[str, Pull] = {}
        for pull in self._my_pulls(markers, base, {"state": "open"}):
            found.setdefault(pull.head_ref, pull)
        return found

    def _my_pulls(
        self, markers: Mapping[str, str], base: str | None, query: Mapping[str, str]
    ) -> Iterator[Pull]:
        """The bot's own among those that are listed, newest first."""
        for pull in self._wire.listed(self._wire.path("pulls"), _pull, **query):
            marker = markers.get(pull.head_ref)
            if marker and self.is_own(pull, marker, base=base):
                yield pull

    def is_own(self, pull: Pull, marker: str, *, base: str | None) -> bool:
        """Whether a pull request, from the branch that is the bot's, is one of the bot's.

        The bot's own text bears the marker. One that a person opened, as they have to where the bot
        may not, is known by the bot's commit in it, and by no text: a commit on a branch of this
        repository is one that somebody with write access put there. Such a one has to go to
        ``base``, if that is given.
        """
        if not self._is_here(pull):
            return False
        if pull.author == self.me():
            return self._is_mine(pull, marker)
        return base in (None, pull.base_ref) and self._brings_proposal(pull.number)

    def _brings_proposal(self, number: int) -> bool:
        """Whether a commit of a pull request has a trailer of the bot's."""
        path = self._wire.path("pulls", number, "commits")
        messages = self._wire.listed(path, lambda data: str(data["commit"]["message"]))
        return any(_PROPOSED.search(message) for message in messages)

    def _is_here(self, pull: Pull) -> bool:
        """Whether its head is a branch of this repository, where only writers can push."""
        return pull.head_repository.casefold() == self.repository.casefold()

    def open_pulls(self) -> tuple[Pull, ...]:
        """All open pull requests, as a list shows them."""
        return tuple(self._wire.listed(self._wire.path("pulls"), _pull, state="open"))

    def siblings(self, number: int, *, head: str) -> tuple[int, ...]:
        """The other open pull requests of this repository's branches that share a head.

        They have its statuses, too. One from a fork does not count: anybody can open that, and it
        would bring in nothing but the same commit.
        """
        return tuple(
            one.number
            for one in self.open_pulls()
            if one.head_sha == head and one.number != number and self._is_here(one)
        )

    def open_pull(
        self, *, branch: str, base: str, title: str, body: str, marker: str, draft: bool = False
    ) -> Pull:
        """The bot's open pull request from ``branch``; opened if there is none.

        Raises:
            Unopened: It cannot be opened. The branch stays; the hint links to the comparison.
        """
        order = {"head": branch, "base": base, "title": title, "draft": draft}
        try:
            return self._wire.create(
                self._wire.path("pulls"),
                order | {"body": _marked(body, marker)},
                find=lambda: self.find_pull(marker, branch, base=base),
                make=_pull,
            )
        except RatchetError as error:
            link = f"{self.url}/compare/{quote(base)}...{quote(branch)}"
            allow = "Allow it in Settings, Actions, General, or use the token of a GitHub App. "
            hint = allow if "not permitted to create" in error.message else f"{error.hint} "
            hint += f"The branch is kept; open the pull request by hand: {link}"
            raise Unopened(error.message, hint=hint, link=link) from None

    def update_pull(self, number: int, *, title: str, body: str) -> None:
        """Set title and body; written only what differs."""
        pull = self.pull(number)
        wanted = {"title": (pull.title, title), "body": (pull.body, body)}
        self._edit(self._wire.path("pulls", number), wanted)

    def close_pull(self, number: int, reason: str) -> None:
        """Close a pull request, after the reason was said in a comment."""
        pull = self.pull(number)
        if pull.state == "open":
            self.say_closed(pull, reason)
            self._shut(number)

    def say_closed(self, pull: Pull, reason: str) -> None:
        """Say once why a pull request with this head is closed."""
        said = hashlib.sha256(f"{pull.head_sha} {reason}".encode()).hexdigest()[:12]
        self.reply(pull.number, reason, f"<!-- ratchet:closed {said} -->")

    def shut_pull(self, number: int) -> Pull:
        """Close a pull request, and see what it is then: it may have been merged just before."""
        self._shut(number)
        return self.pull(number)

    def _shut(self, number: int) -> None:
        url = self._wire.path("pulls", number)
        self._wire.ask("PATCH", url, body={"state": "closed"}, ok=(200, 422))

    def shown_since(self, pull: Pull) -> datetime:
        """When people could first see a pull request as it is, by GitHub's clock.

        That is when it was opened, or later: made ready for review, reopened, or its branch put
        somewhere else.
        """
        url = self._wire.path("issues", pull.number, "events")
        happened = self._wire.listed(url, _happened)
        return max([pull.created_at, *(at for what, at in happened if what in _SHOWN)])

    def reviews(self, number: int) -> tuple[Review, ...]:
        """All reviews of a pull request, oldest first."""
        return tuple(self._wire.listed(self._wire.path("pulls", number, "reviews"), _review))

    # Merging

    def merge_pull(
        self,
        order: MergeOrder,
        *,
        auto: bool,
        queue: bool,
        veto: Callable[[], str] | None = None,
    ) -> Merged | Waiting | Refused:
        """Merge exactly its head into its base, which must be where it was just before.

        Args:
            order: What was decided on.
            auto: Where the rules of the branch ask for more, let GitHub merge later (auto-merge).
                It then merges this head, but maybe onto a newer base.
            queue: Where the branch demands a merge queue, put it there; GitHub merges later, too.
            veto: Says why it must not be merged after all, or nothing. It is asked just before
                each call that merges, when all waiting is over.

        Returns:
            What is true after reading it back, whatever GitHub's first answer was.
        """
        done = self._merge(order, veto)
        if not isinstance(done, _Blocked):
            return done
        entry = {"pullRequestId": done.pull.node, "expectedHeadOid": order.head_sha}
        if "merge queue" in done.words.casefold():
            if not queue:
                return _refuse("blocked", done.words, _QUEUE)
            return self._arrange(done.pull, _ENQUEUE, entry)
        if not auto or done.pull.mergeable_state != "blocked":
            return _refuse("blocked", done.words, _RULES)
        later = self._arrange(done.pull, _AUTO_MERGE, entry | {"mergeMethod": order.method.upper()})
        if isinstance(later, Refused) and "clean status" in later.detail:
            done = self._merge(order, veto)  # nothing is left to wait for
            return _refuse("blocked", done.words, _RULES) if isinstance(done, _Blocked) else done
        return later

    def cancel_merge(self, number: int) -> None:
        """Take back what ``merge_pull`` left to GitHub: auto-merge, or a place in the queue."""
        problem = ""
        for _ in range(3):  # both may be set, and then a look
            pull = self.pull(number)
            how = self._waits(pull) if pull.state == "open" else None
            if how is None:
                return
            if how == "auto_merge":
                problem = self._wire.graphql(_NO_AUTO_MERGE, {"pullRequestId": pull.node}).problem
            else:
                problem = self._wire.graphql(_DEQUEUE, {"id": pull.node}).problem
        raise RatchetError(
            f"GitHub may still merge #{number} by itself: {problem or 'it says so'}",
            hint="Take it back on the page of the pull request.",
        )

    def _merge(
        self, order: MergeOrder, veto: Callable[[], str] | None
    ) -> Merged | Refused | _Blocked:
        """PUT the merge until its outcome is known, looking afresh before each time."""
        answer = None
        for wait in (0.0, *WAITS):
            self._wire.pause(wait)
            pull = self._computed(order.number)
            if (objection := self._objection(pull, order)) is not None:
                return objection
            if pull.mergeable is None:
                detail = f"GitHub has not said whether #{order.number} can be merged"
                return _refuse("uncertain", detail, "Run again in a minute.")
            if veto is not None:
                if said := veto():
                    return _refuse("held", said)
                # That took time to read; head, label and base are looked at last.
                if (objection := self._objection(self.pull(order.number), order)) is not None:
                    return objection
            answer = self._wire.send(
                "PUT", self._wire.path("pulls", order.number, "merge"), _merge_body(order)
            )
            if not answer.unsure:
                return self._merged(order, answer)
        self._wire.pause(WAITS[-1])
        found = self._objection(self.pull(order.number), order)
        return found or _refuse(
            "uncertain",
            f"GitHub did not answer when it was to merge #{order.number}, which is still open",
            "Look at the pull request, then run again.",
        )

    def _merged(self, order: MergeOrder, answer: Answer) -> Merged | Refused | _Blocked:
        """What a definite answer to the PUT means. Anything but 'merged' is read back."""
        said = answer.data if isinstance(answer.data, dict) else {}
        if answer.status == HTTPStatus.OK and said.get("merged") is True:
            return Merged(
                branch=order.base_ref, commit=self._wire.made(answer, lambda data: data["sha"])
            )
        pull = self.pull(order.number)
        if (found := self._objection(pull, order)) is not None:
            return found
        words = self._wire.words(answer)
        if answer.status == HTTPStatus.CONFLICT or "head branch was modified" in words.casefold():
            return _refuse("head_moved", words, _ANEW)
        if "base branch was modified" in words.casefold():
            return _refuse("base_moved", words, _ANEW)
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            return _Blocked(pull, words)
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return _refuse("blocked", words, _RULES)
        raise self._wire.error(answer)

    def _computed(self, number: int) -> Pull:
        """The pull request, after GitHub computed whether it can be merged, or took too long."""
        pull = self.pull(number)
        for wait in _POLLS:
            if pull.mergeable is not None or pull.state == "closed":
                break
            self._wire.pause(wait)
            pull = self.pull(number)
        return pull

    def _objection(self, pull: Pull, order: MergeOrder) -> Merged | Refused | None:
        """Why there is nothing to merge, or nothing that may be; the base is read last."""
        if pull.head_sha != order.head_sha:
            detail = f"#{pull.number} has head {pull.head_sha[:12]}, not {order.head_sha[:12]}"
            return _refuse("head_moved", detail, _ANEW)
        if pull.merged:
            commit = pull.merge_commit or pull.head_sha
            return Merged(branch=pull.base_ref, commit=commit, already=True)
        if (objection := _not_mergeable(pull, order)) is not None:
            return objection
        if (tip := self.base_sha(order.base_ref)) != order.base_sha:
            detail = f"{order.base_ref} has moved from {order.base_sha[:12]} to {tip[:12]}"
            return _refuse("base_moved", detail, _ANEW)
        return None

    def _arrange(self, pull: Pull, mutation: str, entry: dict[str, Any]) -> Waiting | Refused:
        """Leave the merge to GitHub; the state afterwards says whether it took it."""
        problem = self._wire.graphql(mutation, entry).problem
        if not problem:
            return Waiting(how="merge_queue" if mutation == _ENQUEUE else "auto_merge")
        how = self._waits(self.pull(pull.number))
        return Waiting(how=how) if how else _refuse("blocked", problem, _RULES)

    def _waits(self, pull: Pull) -> Literal["auto_merge", "merge_queue"] | None:
        """Whether GitHub is to merge it later by itself."""
        if pull.auto_merge:
            return "auto_merge"
        reply = self._wire.graphql(_IN_QUEUE, pull.node)
        queued = (reply.data.get("node") or {}).get("isInMergeQueue")
        if queued is None and "undefinedField" not in reply.kinds:  # a server without queues
            raise RatchetError(
                f"GitHub does not say whether #{pull.number} is in the merge queue: "
                f"{reply.problem or 'no answer'}",
                hint="Look at the pull request.",
            )
        return "merge_queue" if queued else None

    # Comments, reactions, issues

    def comments(self, number: int) -> tuple[Comment, ...]:
        """All comments on an issue or pull request, oldest first."""
        return tuple(self._wire.listed(self._wire.path("issues", number, "comments"), _comment))

    def sticky_comment(self, number: int, marker: str, body: str) -> Comment:
        """The bot's one comment with this marker says ``body``; written only when it did not.

        A twin, left by a POST that GitHub carried out after it had failed, is deleted.
        """
        body = _marked(body, marker)
        if not (mine := self.my_comments(number, marker)):
            created = self.reply(number, body, marker)
            mine = self.my_comments(number, marker) or [created]
        first, *twins = mine
        for twin in twins:
            url = self._wire.path("issues/comments", twin.id)
            self._wire.ask("DELETE", url, ok=(204, 404))
        self._edit(self._wire.path("issues/comments", first.id), {"body": (first.body, body)})
        return first.with_(body=body)

    def reply(self, number: int, body: str, marker: str) -> Comment:
        """A comment that is written once: the marker names what it replies to."""
        return self._wire.create(
            self._wire.path("issues", number, "comments"),
            {"body": _marked(body, marker)},
            find=lambda: next(iter(self.my_comments(number, marker)), None),
            make=_comment,
        )

    def react(self, comment_id: int, content: Literal["eyes", "rocket", "-1", "+1"]) -> None:
        """Put a reaction on a comment; GitHub keeps one of a kind for each user."""
        url = self._wire.path("issues/comments", comment_id, "reactions")
        self._wire.ask("POST", url, body={"content": content})

    def opening(self, number: int) -> Opening:
        """The text of an issue as it is now, and when it was edited last."""
        owner, _, name = self.repository.partition("/")
        query = _ISSUE.replace("OWNER", json.dumps(owner)).replace("NAME", json.dumps(name))
        reply = self._wire.graphql(query, number)
        found = (reply.data.get("repository") or {}).get("issue")
        if found is None:
            raise RatchetError(
                f"GitHub does not show issue {number}: {reply.problem or 'no answer'}",
                hint="Check that the token may read issues.",
            )
        return self._wire.made(found, _opening)

    def issue_by_marker(self, marker: str) -> Issue | None:
        """The bot's oldest issue with this marker, open or closed."""
        query = {"creator": self.me(), "state": "all", "sort": "created", "direction": "asc"}
        for data in self._wire.pages(self._wire.path("issues"), **query):
            if not data.get("pull_request"):
                issue = self._wire.made(data, _issue)
                if self._is_mine(issue, marker):
                    return issue
        return None

    def upsert_issue(self, *, marker: str, title: str, body: str) -> Issue:
        """The bot's one issue with this marker has this title and body.

        Written only when it had not. One that a person closed stays closed.
        """
        body = _marked(body, marker)
        issue = self._wire.create(
            self._wire.path("issues"),
            {"title": title, "body": body},
            find=lambda: self.issue_by_marker(marker),
            make=_issue,
        )
        wanted = {"title": (issue.title, title), "body": (issue.body, body)}
        self._edit(self._wire.path("issues", issue.number), wanted)
        return issue.with_(title=title, body=body)

    def my_comments(self, number: int, marker: str) -> list[Comment]:
        """The bot's own comments with this marker at their head, oldest first.

        Further down it may stand in a text that the comment quotes.
        """
        own = (each for each in self.comments(number) if each.author == self.me())
        return [each for each in own if marker in _head(each.body)]

    def _is_mine(self, written: Pull | Issue, marker: str) -> bool:
        """A marker counts on a line of its own, in what the bot wrote: people add to both."""
        lines = [line.strip() for line in written.body.splitlines()]
        return marker in lines and written.author == self.me()

    def _edit(self, url: str, wanted: Mapping[str, tuple[str, str]]) -> None:
        """PATCH what differs from what is there; each is given as it is, and as it shall be."""
        changes = {
            name: new for name, (old, new) in wanted.items() if _comparable(old) != _comparable(new)
        }
        if changes:
            self._wire.ask("PATCH", url, body=changes)

    # Labels and statuses

    def labels(self, number: int) -> frozenset[str]:
        """The labels of an issue or pull request."""
        url = self._wire.path("issues", number, "labels")
        return frozenset(self._wire.listed(url, lambda data: str(data["name"])))

    def labelings(self, number: int) -> tuple[Labeling, ...]:
        """Who has put which label on an issue or pull request or taken it off, oldest first."""
        url = self._wire.path("issues", number, "events")
        told = self._wire.listed(url, _labeling)
        return tuple(one for one in told if one is not None)

    def add_label(self, number: int, name: str) -> None:
        """Put a label on; GitHub makes it if the repository has none of that name, in any case."""
        if self._spelt(number, name) is None:
            self._wire.ask(
                "POST", self._wire.path("issues", number, "labels"), body={"labels": [name]}
            )

    def remove_label(self, number: int, name: str) -> None:
        """Take a label off, if it is there."""
        if (there := self._spelt(number, name)) is not None:
            self._wire.ask(
                "DELETE", self._wire.path("issues", number, "labels", there), ok=(200, 404)
            )

    def _spelt(self, number: int, name: str) -> str | None:
        """A label as the repository spells it, if it is on: GitHub's differ by more than case."""
        there = {one.casefold(): one for one in self.labels(number)}
        return there.get(name.casefold())

    def statuses(self, sha: str) -> tuple[Status, ...]:
        """The latest status of each context of a commit."""
        latest: dict[str, Status] = {}
        for status in self._wire.listed(self._wire.path("commits", sha, "statuses"), _status):
            latest.setdefault(status.context, status)
        return tuple(latest.values())

    def set_status(self, sha: str, *, state: State, description: str) -> None:
        """Say something about a commit, as ``ratchet/holdout``; not again what the bot said last.

        More than 140 characters of description are cut, as GitHub takes no more.
        """
        line = one_line(description)
        line = line if len(line) <= _STATUS_WORDS else line[: _STATUS_WORDS - 1] + "…"
        wanted = Status(context=_CONTEXT, state=state, description=line, creator=self.me())
        self._wire.create(
            self._wire.path("statuses", sha),
            {"state": state, "context": _CONTEXT, "description": line},
            find=lambda: wanted if wanted in self.statuses(sha) else None,
            make=_status,
        )

    # Workflows

    def dispatch(self, workflow: str, *, ref: str, inputs: Mapping[str, str]) -> None:
        """Start a workflow by its ``workflow_dispatch``.

        It is asked for once. Nothing tells afterwards which request a run came from, and a second
        run costs what the first one does, so an unsure answer is an error that says just that.

        Args:
            workflow: Its file's name in ``.github/workflows``.
            ref: The branch whose version of it runs. It must be on the default branch, too.
            inputs: Only such as it declares.
        """
        url = self._wire.path("actions/workflows", workflow, "dispatches")
        answer = self._wire.send("POST", url, {"ref": ref, "inputs": dict(inputs)})
        if answer.unsure:
            raise RatchetError(
                f"GitHub did not say whether it has started {workflow}: {self._wire.words(answer)}",
                hint="Look under 'Actions' whether it runs before you ask again.",
            )
        if answer.status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
            return
        error = self._wire.error(answer)
        if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}:
            error.hint = (
                f"{workflow} must be on the default branch and on {ref} as "
                "'ratchet init --github' writes it."
            )
        raise error


# Reading GitHub's JSON


def _login(user: dict[str, Any] | None) -> str:
    return str(user["login"]) if user else ""  # the account was deleted


def _sha(text: str) -> str:
    if not re.fullmatch(_SHA, text):
        raise ValueError("not a commit")
    return text


def _pull(data: dict[str, Any]) -> Pull:
    """From a list, ``mergeable`` and its state are not known."""
    head, base = data["head"], data["base"]
    return Pull(
        number=data["number"],
        node=data["node_id"],
        url=data["html_url"],
        title=data["title"],
        body=data["body"] or "",
        author=_login(data["user"]),
        state=data["state"],
        draft=bool(data.get("draft")),
        merged=data.get("merged_at") is not None,
        head_ref=head["ref"],
        head_sha=_sha(head["sha"]),
        head_repository=head["repo"]["full_name"] if head["repo"] else "",
        base_ref=base["ref"],
        base_sha=_sha(base["sha"]),
        mergeable=data.get("mergeable"),
        mergeable_state=data.get("mergeable_state") or "unknown",
        merge_commit=data.get("merge_commit_sha"),
        auto_merge=data.get("auto_merge") is not None,
        armed_by=_login((data.get("auto_merge") or {}).get("enabled_by")) or None,
        labels=tuple(label["name"] for label in data["labels"]),
        created_at=datetime.fromisoformat(data["created_at"]),
        merged_by=_login(data["merged_by"]) if data.get("merged_by") else None,
    )


def _happened(data: dict[str, Any]) -> tuple[str, datetime]:
    return str(data["event"]), datetime.fromisoformat(data["created_at"])


def _comment(data: dict[str, Any]) -> Comment:
    author, body = _login(data["user"]), data.get("body") or ""
    return Comment(id=data["id"], url=data["html_url"], author=author, body=body)


def _issue(data: dict[str, Any]) -> Issue:
    return Issue(
        number=data["number"],
        url=data["html_url"],
        state=data["state"],
        title=data["title"],
        author=_login(data["user"]),
        body=data.get("body") or "",
    )


def _opening(data: dict[str, Any]) -> Opening:
    author = data["author"] or {}  # null: the account was deleted
    at = data["lastEditedAt"]
    return Opening(
        author=_login(author or None),
        is_person=author.get("__typename") == "User",
        body=data["body"],
        edited_at=datetime.fromisoformat(at) if at else None,
    )


def _labeling(data: dict[str, Any]) -> Labeling | None:
    """None of an event of another kind."""
    if data["event"] not in {"labeled", "unlabeled"}:
        return None
    return Labeling(
        id=data["id"],
        on=data["event"] == "labeled",
        label=data["label"]["name"],
        actor=_login(data.get("actor")),
    )


def _review(data: dict[str, Any]) -> Review:
    return Review(
        id=data["id"],
        author=_login(data["user"]),
        state=data["state"],
        commit=data["commit_id"] or "",
        body=data.get("body") or "",
        url=data["html_url"],
    )


def _status(data: dict[str, Any]) -> Status:
    return Status(
        context=data["context"],
        state=data["state"],
        description=data.get("description") or "",
        creator=_login(data.get("creator")),
    )


def _is_commit(data: dict[str, Any], order: FileCommit) -> bool:
    """Whether a commit is this edit; GitHub may have added a trailer to the message."""
    name = hashlib.sha1(b"blob %d\0" % len(order.content) + order.content, usedforsecurity=False)
    (changed,) = data["files"] if len(data["files"]) == 1 else ({},)
    words = order.message.split()
    return (
        [each["sha"] for each in data["parents"]] == [order.parent]
        and (changed.get("filename"), changed.get("sha")) == (order.path, name.hexdigest())
        and changed.get("status") in {"added", "modified"}
        and data["commit"]["message"].split()[: len(words)] == words
    )


# Small things


def _commit_input(repository: str, order: FileCommit) -> dict[str, Any]:
    headline, _, body = order.message.strip().partition("\n")
    contents = base64.b64encode(order.content).decode("ascii")
    return {
        "branch": {"repositoryNameWithOwner": repository, "branchName": order.branch},
        "expectedHeadOid": order.parent,
        "fileChanges": {"additions": [{"path": order.path, "contents": contents}]},
        "message": {"headline": headline, "body": body.strip()},
    }


def _refuse(reason: Reason, detail: str, hint: str | None = None) -> Refused:
    return Refused(reason=reason, detail=detail, hint=hint)


def _not_mergeable(pull: Pull, order: MergeOrder) -> Refused | None:
    """What the pull request itself says against it; unknown mergeability is not looked at."""
    what = f"#{pull.number}"
    stops_by = {one.casefold() for one in order.hold_labels}
    held = sorted(one for one in pull.labels if one.casefold() in stops_by)
    stops: tuple[tuple[object, Reason, str, str | None], ...] = (
        (pull.state == "closed", "closed", f"{what} is closed", None),
        (pull.draft, "closed", f"{what} is a draft", None),
        (pull.base_ref != order.base_ref, "closed", f"{what} aims at {pull.base_ref}", None),
        (held, "held", f"{what} has the label {', '.join(held)}", "Remove it to go on."),
        (pull.mergeable is False, "conflict", f"{what} conflicts with {order.base_ref}", None),
    )
    return next(
        (_refuse(reason, detail, hint) for stop, reason, detail, hint in stops if stop), None
    )


def _merge_body(order: MergeOrder) -> dict[str, Any]:
    message = {} if order.message is None else {"commit_message": order.message}
    return {"sha": order.head_sha, "merge_method": order.method, **message}


def _marked(body: str, marker: str) -> str:
    """``body`` with its marker as its first line."""
    if not _MARKER.fullmatch(marker):
        raise ValueError(f"{marker!r} is not a marker")
    return body if marker in _head(body) else f"{marker}\n{body}"


def _head(body: str) -> list[str]:
    """The markers that a text begins with, a line each."""
    lines = (line.strip() for line in body.lstrip().splitlines())
    return list(takewhile(_MARKER.fullmatch, lines))


def _comparable(text: str) -> str:
    """GitHub's web pages save line ends as CRLF, and it trims what is at the end."""
    return text.replace("\r\n", "\n").rstrip()


TOKEN = "GITHUB_TOKEN"  # noqa: S105 - the variable's name


def connect(repository: str | None, *, environ: Mapping[str, str] = os.environ) -> GitHub:
    """GitHub as the environment says: token, repository and, on Enterprise, the API's address.

    Raises:
        RatchetError: No token or no repository.
    """
    token = environ.get(TOKEN) or environ.get("GH_TOKEN")
    if not token:
        raise RatchetError(
            f"There is no token for GitHub in {TOKEN}.",
            hint="In a workflow: env: {GITHUB_TOKEN: ${{ github.token }}}, or an App's token.",
        )
    name = repository or environ.get("GITHUB_REPOSITORY")
    if not name:
        raise RatchetError(
            "Which repository on GitHub is not known.",
            hint="Give --repository OWNER/NAME, or set GITHUB_REPOSITORY.",
        )
    wire = Wire(
        token=token,
        repository=name,
        api_url=environ.get("GITHUB_API_URL") or API_URL,
        graphql_url=environ.get("GITHUB_GRAPHQL_URL") or None,
    )
    return GitHub(wire)
