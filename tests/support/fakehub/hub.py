"""The fake as a test holds it: where it is, who is there, what they do, what came of it."""

from __future__ import annotations

import copy
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fakehub import githttp, merging
from fakehub.model import ACTIONS_BOT, Protection, Switches, Token, Wish
from fakehub.repo import Bare
from fakehub.server import Server
from fakehub.service import Service
from fakehub.state import START, State
from fakehub.text import world
from fakehub.wire import Exchange, Fault, Planned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from types import TracebackType

    from fakehub.model import Comment, Dispatch, Group, Issue, MergeMethod, Role, User


class FakeHub:
    """GitHub with one repository, for as long as the ``with`` lasts.

    ``judged`` counts the exchanges of this process that were held against GitHub's description,
    ``objected`` those that did not agree with it.

    Args:
        bare: An existing bare repository; commits, branches and merges are really in there.
        repository: Its ``owner/name``; the owner is an admin.
        formerly: Another ``owner/name`` that redirects here, as after a rename.
        enterprise: Serve the API under ``/api/v3`` and ``/api/graphql``.
    """

    START: ClassVar[datetime] = START  # of its clock
    judged: ClassVar[int] = 0
    objected: ClassVar[int] = 0

    def __init__(
        self,
        bare: Path,
        *,
        repository: str = "octo/demo",
        formerly: str | None = None,
        enterprise: bool = False,
    ) -> None:
        owner, name = repository.split("/")
        self.state = State(Bare(bare), owner=owner, name=name)
        self._formerly = formerly
        self._api = ("/api/v3", "/api/graphql") if enterprise else ("", "/graphql")
        self._stack = ExitStack()
        self._running: Service | None = None

    def __enter__(self) -> Self:
        hooks = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server()
        self._stack.callback(server.stop)
        self._running = Service(
            self.state,
            web=f"http://127.0.0.1:{server.server_port}",
            prefix=self._api[0],
            graphql_path=self._api[1],
            formerly=self._formerly,
            backend=githttp.Backend(self.state.git, hooks),
        )
        server.start(self._running)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self.state.git.files.close()
        judged = [one for one in self.exchanges if ".git/" not in one.path and not one.injected]
        FakeHub.judged += len(judged)
        FakeHub.objected += sum(bool(one.violations) for one in judged)

    @property
    def _service(self) -> Service:
        assert self._running is not None, "the hub runs inside of its 'with'"
        return self._running

    def remembered(self) -> dict[str, Any]:
        """All that the repository itself does not hold, tokens aside, for ``recall``."""
        apart = {"lock", "git", "tokens"}
        return copy.deepcopy({k: v for k, v in vars(self.state).items() if k not in apart})

    def recall(self, remembered: Mapping[str, Any]) -> None:
        """Be as another fake was, on a copy of its repository; tokens of this one stay good."""
        vars(self.state).update(copy.deepcopy(dict(remembered)))

    # Where it is

    @property
    def web(self) -> str:
        """What a workflow knows as ``GITHUB_SERVER_URL``."""
        return self._service.web

    @property
    def url(self) -> str:
        """The REST API, ``GITHUB_API_URL``."""
        return f"{self.web}{self._api[0]}"

    @property
    def graphql(self) -> str:
        """The GraphQL API, ``GITHUB_GRAPHQL_URL``."""
        return f"{self.web}{self._api[1]}"

    @property
    def repository(self) -> str:
        """The repository as ``owner/name``."""
        return self.state.full_name

    @property
    def clone_url(self) -> str:
        """Git over HTTP, without a token."""
        return f"{self.web}/{self.repository}.git"

    def clone_url_for(self, token: str) -> str:
        """Git over HTTP with a token, the way workflows write it."""
        return self.clone_url.replace("://", f"://x-access-token:{token}@")

    # Who may do what

    def add_user(self, login: str, role: Role = "write") -> str:
        """Add a user, or change the role of one, and return a token of theirs."""
        with self.state.lock:
            return self.add_token(self.state.add_user(login, role))

    def actions_token(self, **permissions: str) -> str:
        """A GITHUB_TOKEN with a job's ``permissions:`` (``pull_requests="write"``); none is all."""
        given = {name.replace("_", "-"): level for name, level in permissions.items()}
        user = self.state.add_user(ACTIONS_BOT, "write")
        return self.add_token(user, given or None)

    def add_token(self, user: User, permissions: Mapping[str, str] | None = None) -> str:
        """A token that looks like today's: long, with a JWT's dots in it."""
        number = len(self.state.tokens) + 1
        value = f"ghs_{number}_eyJhbGciOiJSUzI1NiJ9.{'x' * 480}.{number:04}"
        granted = None if permissions is None else dict(permissions)
        self.state.tokens[value] = Token(user=user, permissions=granted)
        return value

    @property
    def switches(self) -> Switches:
        """The repository's settings."""
        return self.state.switches

    def protect(self, branch: str, protection: Protection) -> None:
        """Protect a branch from now on."""
        self.state.protections[branch] = protection

    # What goes wrong, and what happens in between

    def fail_next(
        self,
        method: str,
        path: str,
        fault: Fault | int = 502,
        *,
        after_effect: bool = False,
        times: int = 1,
        containing: str = "",
    ) -> None:
        """Spoil the next matching requests.

        Args:
            method: The verb.
            path: A regular expression, searched for in the path (git's requests too).
            fault: The answer, or just its status.
            after_effect: Do what was asked, and lose only the answer.
            times: How many requests.
            containing: A text the request's body must have, such as a mutation's name.
        """
        answer = Fault(status=fault) if isinstance(fault, int) else fault
        for _ in range(times):
            self._service.planned.append(
                Planned(
                    method=method,
                    path=re.compile(path),
                    containing=containing,
                    fault=answer,
                    after_effect=after_effect,
                )
            )

    def just_before(
        self, method: str, path: str, action: Callable[[], object], *, containing: str = ""
    ) -> None:
        """Run ``action`` once when the next matching request arrives, before it is looked at."""
        planned = Planned(
            method=method, path=re.compile(path), containing=containing, action=action
        )
        self._service.planned.append(planned)

    def watch(self, look: Callable[[str, str], object]) -> None:
        """Have ``look`` told of the method and path of every request, before it is looked at."""
        self._service.watchers.append(look)

    def cancel_planned(self) -> None:
        """Nothing more happens to any request."""
        self._service.planned.clear()
        self._service.watchers.clear()

    @property
    def pending(self) -> int:
        """How many planned faults and actions no request has met; a test ends with 0."""
        return len(self._service.planned)

    # What people do, in a browser or with git

    def person_pushes(
        self,
        login: str,
        branch: str,
        files: Mapping[str, str | bytes | None],
        message: str = "edit",
        *,
        start: str | None = None,
        fork: bool = False,
    ) -> str:
        """Add a commit to a branch, made at ``start`` (the default branch) if there is none.

        With ``fork`` the branch is one of the person's fork. A file that is None is removed.
        """
        with self.state.lock:
            git, user = self.state.git, self.state.users[login]
            ref = self.state.branch_ref(login if fork else self.state.owner.login, branch)
            old = git.refs(ref).get(ref)
            parent = old or git.resolve(start or self.state.default_branch)
            assert parent is not None, f"no commit {start}"
            put = {p: t.encode() if isinstance(t, str) else t for p, t in files.items()}
            person = self.state.person(user)
            tree = git.tree_with(parent, put)
            sha = git.make_commit(tree, [parent], message, author=person, committer=person)
            assert git.move(ref, sha, old), f"{ref} did not move"
            self.state.sync()
            return sha

    def person_deletes_branch(self, branch: str) -> None:
        """Delete a branch; open pull requests of it are closed."""
        with self.state.lock:
            self.state.git.move(f"refs/heads/{branch}", None)
            self.state.sync()

    def person_opens_issue(self, login: str, title: str, body: str = "") -> int:
        """Open an issue; returns its number."""
        with self.state.lock:
            return self.state.open_issue(self.state.users[login], title, body).number

    def person_opens_pull(
        self, login: str, *, head: str, title: str, body: str = "", base: str | None = None
    ) -> int:
        """Open a pull request (``owner:branch`` from a fork); returns its number."""
        with self.state.lock:
            user, target = self.state.users[login], base or self.state.default_branch
            made = self.state.open_pull(user, head=head, base=target, title=title, body=body)
            return made.number

    def person_comments(self, login: str, number: int, body: str) -> int:
        """Comment; returns the comment's id."""
        with self.state.lock:
            user, issue = self.state.users[login], self.state.issue(number)
            return self.state.comment(user, issue, body).id

    def person_edits_comment(self, login: str, comment: int, body: str) -> None:
        """Change a comment."""
        with self.state.lock:
            self.state.edit_comment(self.state.users[login], comment, body)

    def person_edits(self, login: str, number: int, **change: Any) -> None:
        """Change an issue's or pull request's title, body, state or labels."""
        with self.state.lock:
            self.state.edit_issue(self.state.users[login], self.state.issue(number), change)

    def person_labels(self, number: int, *names: str, by: str = "") -> None:
        """Add labels; by the owner, if nobody else is named."""
        with self.state.lock:
            user = self.state.users[by] if by else self.state.owner
            self.state.add_labels(self.state.issue(number), names, user)

    def person_unlabels(self, login: str, number: int, name: str) -> None:
        """Take a label off."""
        with self.state.lock:
            self.state.remove_label(self.state.issue(number), name, self.state.users[login])

    def person_sets_draft(self, login: str, number: int, *, draft: bool) -> None:
        """Make a draft of a pull request, or make it ready for review."""
        with self.state.lock:
            issue, pull = self.state.pull(number)
            self.state.set_draft(self.state.users[login], issue, pull, draft=draft)

    def person_updates_branch(self, login: str, number: int) -> str:
        """Press 'Update branch'; returns the merge."""
        with self.state.lock:
            issue, pull = self.state.pull(number)
            made = self.state.update_branch(self.state.users[login], issue, pull)
            self.state.sync()
            return made

    def person_enqueues(self, login: str, number: int) -> None:
        """Press 'Merge when ready'."""
        with self.state.lock:
            issue, pull = self.state.pull(number)
            merging.enqueue(self.state, issue, pull, user=self.state.users[login], sha=None)

    def set_clock(self, at: datetime) -> None:
        """Let it be that late for GitHub."""
        with self.state.lock:
            self.state.set_clock(at)

    def person_reviews(self, login: str, number: int, event: str, body: str = "") -> None:
        """Review with APPROVE, REQUEST_CHANGES or COMMENT."""
        with self.state.lock:
            issue, pull = self.state.pull(number)
            self.state.review(self.state.users[login], issue, pull, event, body)
            merging.settle(self.state)

    def person_merges(
        self,
        login: str,
        number: int,
        *,
        method: MergeMethod = "merge",
        message: str | None = None,
    ) -> str:
        """Press the merge button, with a message of their own or GitHub's."""
        with self.state.lock:
            issue, pull = self.state.pull(number)
            wish = Wish(user=self.state.users[login], method=method, title=message, message=message)
            sha = merging.merge(self.state, issue, pull, wish)
            self.state.sync()
            return sha

    def form_groups(self) -> list[Group]:
        """Let the merge queue make its groups; each is what an event ``merge_group`` tells of."""
        with self.state.lock:
            return merging.form_groups(self.state)

    def run_merge_queue(self) -> list[int]:
        """Let the merge queue do its work; returns what it merged."""
        with self.state.lock:
            return merging.run_merge_queue(self.state)

    # What came of it

    def issue(self, number: int) -> Issue:
        """An issue or pull request as it is."""
        with self.state.lock:
            self.state.sync()
            return self.state.issue(number)

    def comments(self, number: int) -> list[Comment]:
        """The comments of an issue or pull request."""
        return [each for each in self.state.comments.values() if each.number == number]

    @property
    def dispatches(self) -> list[Dispatch]:
        """The workflows that were started, in order."""
        return list(self.state.dispatches)

    def tip(self, branch: str) -> str | None:
        """Where a branch is."""
        return self.state.git.refs(f"refs/heads/{branch}").get(f"refs/heads/{branch}")

    def read(self, branch: str, path: str) -> str | None:
        """A file's text at the tip of a branch."""
        tip = self.tip(branch)
        entry = self.state.git.entry(tip, path) if tip else None
        return self.state.git.blob(entry.sha).decode() if entry else None

    def world(self) -> str:
        """Everything as one readable text, without anything that differs from run to run."""
        with self.state.lock:
            self.state.sync()
            return world(self.state)

    @property
    def exchanges(self) -> list[Exchange]:
        """Every request and its answer so far."""
        return self._service.exchanges

    @property
    def violations(self) -> list[str]:
        """Every way in which an exchange differed from the official description."""
        return [f"{each}: {wrong}" for each in self.exchanges for wrong in each.violations]

    @property
    def writes(self) -> list[str]:
        """The requests that could change something, in order: for 'nothing was written'."""
        return [
            str(each)
            for each in self.exchanges
            if each.method != "GET"
            and not each.path.endswith("/git-upload-pack")
            and not (each.path.endswith("graphql") and "mutation" not in str(each.request))
        ]
