"""One story of the bot on GitHub, told step by step by whoever answers: the fake, or a double.

``play`` takes a connected client and hands for what people do meanwhile, and returns what came of
every step in a few words that hold no commit, number of a comment or address, so that two tellings
can be compared. It knows nothing of who answers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.github.api import FileCommit, MergeOrder
from skill_ratchet.github.http import Answer, Wire
from skill_ratchet.project.proposal import Merged, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skill_ratchet.github.api import GitHub, Issue, Pull

REPOSITORY = "octo/demo"
OWNER, BOT = "octo", "robot"  # the owner's hands are the other people's, too
FILE = "skills/triage/SKILL.md"
TEXT = "---\nname: triage\ndescription: Sorts tickets.\n---\n\nBe brief.\n"
HOLD = "ratchet:hold"
MARKER = "<!-- ratchet:pull triage -->"
STICKY, ANSWER = "<!-- ratchet:sticky triage -->", "<!-- ratchet:reply 1 -->"
BOARD = "<!-- ratchet:dashboard -->"
NOWHERE = "f" * 40
T = TypeVar("T")


class Hands(Protocol):
    """What people do beside the bot."""

    def push(self, branch: str, text: str) -> str:
        """Commit ``FILE`` on a branch that is there; returns the commit."""
        ...

    def hold(self, number: int, *, held: bool) -> None:
        """Put the label that stops a merge on a pull request, or take it off."""
        ...

    def approve(self, number: int, words: str) -> None:
        """Approve a pull request."""
        ...

    def merge(self, number: int) -> None:
        """Merge a pull request."""
        ...


class Tap(Wire):
    """The client's wire, tapped: merges are noted, and something can happen just before one.

    ``fills`` put in what a double leaves out and no client can do without; ``filled`` tells which
    of them were needed.
    """

    def __init__(
        self,
        *,
        token: str,
        fills: Mapping[str, Callable[[Tap, Answer, Any], Answer]],
        **address: Any,
    ) -> None:
        settings = {"graphql_url": None, "clock": lambda: 0.0, "sleep": lambda _: None}
        super().__init__(token=token, repository=REPOSITORY, **(settings | address))
        self.merges: list[int] = []  # what the requests to merge were answered
        self.writes = 0
        self.before_merge: Callable[[], object] | None = None
        self.filled: set[str] = set()
        self._fills = fills

    def send(
        self,
        verb: str,
        url: str,
        body: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
    ) -> Answer:
        """One request, once."""
        merging = verb == "PUT" and url.endswith("/merge")
        if merging and self.before_merge:
            happening, self.before_merge = self.before_merge, None
            happening()
        answer = super().send(verb, url, body, query)
        self.writes += verb != "GET" and not str((body or {}).get("query")).startswith("query")
        if merging:
            self.merges.append(answer.status)
        for name, fill in self._fills.items():
            whole = fill(self, answer, body)
            if whole != answer:
                self.filled.add(name)
                answer = whole
        return answer


class Story:
    """The steps so far, and what they need."""

    def __init__(self, github: GitHub, tap: Tap, hands: Hands) -> None:
        self.github = github
        self.tap = tap
        self.hands = hands
        self.told: dict[str, str] = {}

    def step(
        self, name: str, act: Callable[[], T], show: Callable[[T], object] = lambda it: it
    ) -> T | None:
        """Do something, and note what came of it and how many writes it took."""
        assert name not in self.told, name
        before, value = self.tap.writes, None
        try:
            value = act()
            told = _words(show(value))
        except RatchetError as error:
            told = _problem(error)
        written = self.tap.writes - before
        self.told[name] = told + (f" ({written} written)" if written else "")
        return value

    def pull(self, branch: str, line: str) -> Pull:
        """The bot's pull request from a new branch that adds one line."""
        self.github.create_branch(branch, sha=self.github.base_sha("main"))
        self.hands.push(branch, f"{TEXT}{line}\n")
        return self.open(branch)

    def open(self, branch: str) -> Pull:
        """The bot's pull request from a branch that is there."""
        return self.github.open_pull(
            branch=branch, base="main", title=f"Try {branch}", body="Why.", marker=MARKER
        )

    def merge(self, pull: Pull, *, auto: bool = False, **other: Any) -> str:
        """Merge, and tell how it ended, where the head then is, and what the requests met."""
        self.tap.merges.clear()
        order: dict[str, Any] = {
            "number": pull.number,
            "head_sha": pull.head_sha,
            "base_ref": "main",
            "base_sha": self.github.base_sha("main"),
            "method": "squash",
            "hold_labels": {HOLD},
        }
        done = self.github.merge_pull(MergeOrder(**(order | other)), auto=auto, queue=auto)
        ending = _words(done)
        if isinstance(done, Merged):
            ending += ", on main" if self.github.head_of("main") == done.commit else ", not on main"
        return f"{ending}; PUT {self.tap.merges or 'none'}"


def play(github: GitHub, tap: Tap, hands: Hands) -> dict[str, str]:
    """The whole story: steps, in order, and what came of each."""
    story = Story(github, tap, hands)
    _people(story)
    _branches(story)
    pull = _opening(story)
    _labels_and_statuses(story, pull)
    _talk(story, pull)
    _issues(story)
    _no_merge(story, pull)
    _merging(story, pull)
    _races(story)
    _closing(story)
    return story.told


def _people(story: Story) -> None:
    github = story.github
    story.step("who am I", github.me)
    story.step("permission of the owner", lambda: github.permission(OWNER))
    story.step("permission of the bot", lambda: github.permission(BOT))
    story.step("permission of a stranger", lambda: github.permission("stranger"))


def _branches(story: Story) -> None:
    github, new = story.github, "ratchet/triage"
    main = github.base_sha("main")
    story.step("head of main", lambda: main)
    story.step("head of no branch", lambda: github.head_of("nothing"))
    story.step("base that is not there", lambda: github.base_sha("nothing"))
    story.step("make a branch", lambda: github.create_branch(new, sha=main))
    story.step("make it again", lambda: github.create_branch(new, sha=main))
    pushed = story.hands.push(new, TEXT + "Be kind.\n")
    story.step("head after a push", lambda: github.head_of(new) == pushed)
    story.step("make it elsewhere", lambda: github.create_branch(new, sha=NOWHERE))

    def commit() -> str:
        order = FileCommit(
            branch="ratchet/signed", parent=main, path=FILE, content=b"new\n", message="By API"
        )
        return github.put_file_commit(order)

    story.step("commit through the API", commit)
    story.step("commit it again", commit, lambda sha: sha == github.head_of("ratchet/signed"))


def _opening(story: Story) -> Pull:
    github, branch = story.github, "ratchet/triage"
    pull = story.step(
        "open a pull request",
        lambda: story.open(branch),
        lambda it: (it.state, it.author, it.base_ref, it.head_sha == github.head_of(branch)),
    )
    assert pull, story.told  # there is no story without it
    number, body = pull.number, f"{MARKER}\nBecause.\n"
    story.step("open it again", lambda: story.open(branch), lambda it: it.number == number)
    story.step(
        "find it", lambda: github.find_pull(MARKER, branch), lambda it: it and it.number == number
    )
    story.step("find another marker", lambda: github.find_pull(STICKY, branch))
    story.step("find by head", lambda: github.siblings(0, head=pull.head_sha), len)
    story.step("can it be merged", lambda: _computed(github, number))
    story.step("update its body", lambda: github.update_pull(number, title=pull.title, body=body))
    story.step("update it again", lambda: github.update_pull(number, title=pull.title, body=body))
    head = story.hands.push(branch, TEXT + "Be very kind.\n")
    story.step("a push moves its head", lambda: github.pull(number).head_sha == head)
    return github.pull(number)


def _computed(github: GitHub, number: int) -> object:
    pull = github.pull(number)
    for _ in range(5):
        pull = pull if pull.mergeable is not None else github.pull(number)
    return pull.mergeable, pull.mergeable_state


def _labels_and_statuses(story: Story, pull: Pull) -> None:
    github, number, sha = story.github, pull.number, pull.head_sha
    story.step("add a label", lambda: github.add_label(number, "ratchet"))
    story.step("add it again", lambda: github.add_label(number, "ratchet"))
    story.step("labels", lambda: sorted(github.labels(number)))
    story.step("remove the label", lambda: github.remove_label(number, "ratchet"))
    story.step("remove it again", lambda: github.remove_label(number, "ratchet"))

    def say(state: Literal["pending", "success"]) -> None:
        github.set_status(sha, state=state, description="8 of 9")

    story.step("set a status", lambda: say("pending"))
    story.step("set it again", lambda: say("pending"))
    story.step("set a later one", lambda: say("success"))
    story.step(
        "statuses",
        lambda: github.statuses(sha),
        lambda all_: [(each.context, each.state, each.creator) for each in all_],
    )


def _talk(story: Story, pull: Pull) -> None:
    github, number = story.github, pull.number
    first = story.step("reply", lambda: github.reply(number, "Done.", ANSWER), lambda it: it.author)
    assert first, story.told
    story.step(
        "reply again",
        lambda: github.reply(number, "Done.", ANSWER),
        lambda it: it.id == first.id,
    )

    def stick(body: str) -> str:
        return github.sticky_comment(number, STICKY, body).author

    story.step("sticky comment", lambda: stick("8 of 9"))
    story.step("sticky comment again", lambda: stick("8 of 9"))
    story.step("sticky comment, changed", lambda: stick("9 of 9"))
    story.step(
        "comments",
        lambda: github.comments(number),
        lambda all_: [each.body.splitlines()[-1] for each in all_],
    )
    story.hands.approve(number, "Good.")
    story.step(
        "reviews",
        lambda: github.reviews(number),
        lambda all_: [(it.author, it.state, it.body, it.commit == pull.head_sha) for it in all_],
    )
    story.step("react", lambda: github.react(first.id, "eyes"))
    story.step("react again", lambda: github.react(first.id, "eyes"))


def _issues(story: Story) -> None:
    github = story.github

    def upsert(body: str) -> object:
        issue = github.upsert_issue(marker=BOARD, title="Dashboard", body=body)
        return issue.author, issue.state

    def body(issue: Issue | None) -> str | None:
        return issue.body.splitlines()[-1] if issue else None

    story.step("no issue yet", lambda: github.issue_by_marker(BOARD))
    story.step("make an issue", lambda: upsert("one"))
    story.step("make it again, the same", lambda: upsert("one"))
    story.step("make it again, changed", lambda: upsert("two"))
    story.step("find the issue", lambda: github.issue_by_marker(BOARD), body)


def _no_merge(story: Story, pull: Pull) -> None:
    story.step("merge another head", lambda: story.merge(pull, head_sha=NOWHERE))
    story.step("merge into another branch", lambda: story.merge(pull, base_ref="dev"))
    story.step("merge onto another base", lambda: story.merge(pull, base_sha=NOWHERE))
    story.hands.hold(pull.number, held=True)
    story.step("merge what is held", lambda: story.merge(pull))
    story.hands.hold(pull.number, held=False)


def _merging(story: Story, pull: Pull) -> None:
    if pull.head_sha != story.github.head_of(pull.head_ref):  # its head does not follow pushes
        pull = story.pull("ratchet/fresh", "Be fresh.")
    story.step("merge", lambda: story.merge(pull))
    story.step("merge again", lambda: story.merge(pull))
    story.step("merged pull request", lambda: _state(story.github, pull.number))


def _races(story: Story) -> None:
    """What comes between the client's last look and its request; the server has to see it."""
    github, hands = story.github, story.hands
    late = story.pull("ratchet/late", "Be late.")
    story.tap.before_merge = lambda: hands.push("ratchet/late", TEXT + "Be later.\n")
    story.step("head moves at the last moment", lambda: story.merge(late))

    other = story.pull("ratchet/other", "Be other.")
    story.tap.before_merge = lambda: hands.merge(other.number)
    story.step("a person merges at the last moment", lambda: story.merge(other))

    gone = story.pull("ratchet/gone", "Be gone.")
    story.tap.before_merge = lambda: github.close_pull(gone.number, "Not now.")
    story.step("closed at the last moment", lambda: story.merge(gone))

    clash = story.pull("ratchet/clash", "Be one thing.")
    hands.push("main", TEXT + "Be another thing.\n")
    story.step("merge a conflict", lambda: story.merge(clash))

    wrong = story.pull("ratchet/wrong", "Be wrong.")
    url = story.tap.path("pulls", wrong.number, "merge")
    order = {"sha": NOWHERE, "merge_method": "squash"}
    story.step("PUT another head", lambda: story.tap.send("PUT", url, order).status)


def _closing(story: Story) -> None:
    github = story.github
    pull = story.pull("ratchet/close", "Be closed.")
    story.step("close with a reason", lambda: github.close_pull(pull.number, "It is stale."))
    story.step("close again", lambda: github.close_pull(pull.number, "It is stale."))
    story.step("closed pull request", lambda: _state(github, pull.number))
    story.step(
        "the reason",
        lambda: github.comments(pull.number),
        lambda all_: [each.body.splitlines()[-1] for each in all_],
    )
    story.step("merge what is closed", lambda: story.merge(pull))
    story.step(
        "find it among the closed",
        lambda: github.find_pull(MARKER, pull.head_ref, state="closed"),
        lambda it: it and it.number == pull.number,
    )

    def delete(expected: str) -> None:
        github.delete_branch(pull.head_ref, expected=expected)

    story.step("delete a branch that is elsewhere", lambda: delete(NOWHERE))
    story.step("delete the branch", lambda: delete(pull.head_sha))
    story.step("delete it again", lambda: delete(pull.head_sha))
    story.step("head of what was deleted", lambda: github.head_of(pull.head_ref))


def _state(github: GitHub, number: int) -> object:
    pull = github.pull(number)
    return pull.state, "merged" if pull.merged else "not merged"


# Words ----------------------------------------------------------------------------------------


def _words(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case Merged():
            return "merged already" if value.already else "merged"
        case Refused():
            return f"refused: {value.reason}"
        case tuple() | list():
            return ", ".join(map(_words, value)) or "none"
        case _:
            return "a commit" if re.fullmatch("[0-9a-f]{40}", str(value)) else str(value)


def _problem(error: RatchetError) -> str:
    """An error's kind, and what was refused; not the server's words, which are its own."""
    kind = type(error).__name__
    if asked := re.match(r"GitHub refused (\w+) \S+/([a-z]+)(?:/\d+)? \((\d+)\)", error.message):
        return f"{kind}: {asked[1]} {asked[2]} answered {asked[3]}"
    return f"{kind}: {re.sub(r'[0-9a-f]{12,40}', '…', error.message).split(':')[0]}"
