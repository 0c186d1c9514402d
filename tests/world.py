"""A whole project to run the commands on: a repository, cases, and a model that plays a script.

Run as a program it is the place where commands die: see ``Mortuary``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gitrepo import GitRepo

from bot import bench, edge, skillrepo
from bot.cli import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bot.core.records import Experiment
    from bot.ledger import Ledger

SKILL = "skills/triage/SKILL.md"
SKILL_TEXT = "---\nname: triage\ndescription: Says yes or no.\n---\n\n# Triage\n\nSay yes or no.\n"
META = "You improve one text file"  # how the meta-agent's instructions begin
CASES = {"train": ("t1", "t2", "t3"), "holdout": ("h1", "h2")}
SEALED = "zebra"  # a word of every held-out input, and of nothing else
BOTH = (*CASES["train"], *CASES["holdout"])


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """Action and reason of every experiment of ``run --json``."""
        return [(one["action"], one["reason"]) for one in self.json["experiments"]]


def idea(number: int, edits: Sequence[Mapping[str, Any]] | str) -> str:
    """A meta-agent's reply: one edit, or a line to add."""
    made = [{"op": "add", "after": None, "lines": edits}] if isinstance(edits, str) else edits
    return f"```json\n{json.dumps({'hypothesis': f'idea {number}', 'edits': made})}\n```"


def script(
    replies: Iterable[str] = (idea(1, "Rule alpha."),),
    *,
    right: Mapping[str, Iterable[str]] | None = None,
    wrong: Mapping[str, Iterable[str]] | None = None,
    first: Sequence[Mapping[str, Any]] = (),
    deterministic: bool = True,
) -> str:
    """A model's script.

    Args:
        replies: The meta-agent's, in order. One that has an idea also answers a later process
            that has seen the idea before it.
        right: For a rule of the skill, the cases that are answered well with it.
        wrong: The same for the worse; goes before ``right``.
        first: Responses that go before all others.
        deterministic: What the script says of itself.
    """
    good = {"alpha": BOTH} if right is None else right
    responses = [
        *first,
        *_meta(list(replies)),
        *(_answer(rule, cases, "no") for rule, cases in (wrong or {}).items()),
        *(_answer(rule, cases, "yes") for rule, cases in good.items()),
        {"when": {"input_matches": "."}, "text": "no"},
    ]
    return json.dumps({"deterministic": deterministic, "responses": responses})


def _meta(replies: list[str]) -> list[dict[str, Any]]:
    """Later ideas first: each is for a prompt that tells of the one before it."""
    made: list[dict[str, Any]] = []
    once: list[dict[str, Any]] = []
    before = ""
    for reply in replies:
        when = {"system_contains": META} | ({"input_contains": before} if before else {})
        found = re.search(r'"hypothesis": "(idea \d+)"', reply)
        response = {"when": when, "text": reply}
        if found:
            before = f"hypothesis: {found[1]}\n"
            made.insert(0, response)
        else:
            once.append(response | {"times": 1})
    return once + made


def _answer(rule: str, cases: Iterable[str], text: str) -> dict[str, Any]:
    when = {"input_matches": rf"\b({'|'.join(cases)})\b"}
    return {"when": when | ({"system_contains": f"Rule {rule}."} if rule else {}), "text": text}


class World(GitRepo):
    """A project under git, and the commands on it."""

    @classmethod
    def make(
        cls,
        path: Path,
        *,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        cases: Mapping[str, Sequence[str]] = CASES,
        prefix: str = "",
    ) -> Self:
        """A project with one skill, ``triage``, in ``prefix``, all committed."""
        world = cls(path)
        path.mkdir(parents=True)
        world.git("init", "--quiet", "--initial-branch=main")
        settings = {
            "provider": "scripted",
            "skills": {"triage": {"scorer": "label"}},
            "loop": {"attempts": 1},
        }
        world.write(f"{prefix}ratchet.yml", json.dumps(settings | dict(config or {})))
        world.write(f"{prefix}{SKILL}", SKILL_TEXT)
        world.write(f"{prefix}ratchet.script.yml", model or script())
        for split, names in cases.items():
            for name in names:
                world.write(f"{prefix}fixtures/triage/{split}/{name}.yml", case(name, split))
        world.write("README.md", "readme\n")
        world.commit("start")
        return world

    def ratchet(self, *args: str) -> Ran:
        """Run a command here, in this process."""
        command, *rest = args
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = edge.run(cli, [command, "-C", str(self.path), *rest])
        return Ran(code, out.getvalue(), err.getvalue())

    def run(self, *args: str) -> Ran:
        """``ratchet run --json``."""
        return self.ratchet("run", "--json", *args)

    def configure(self, **settings: Any) -> None:
        """Change keys of ratchet.yml, and commit."""
        known = json.loads((self.path / "ratchet.yml").read_text())
        self.write("ratchet.yml", json.dumps(known | settings))
        self.commit("configure")

    def ledger(self) -> Ledger:
        """The ledger, to look into."""
        return bench.open_ledger(skillrepo.open_project(self.path), "triage")

    def only(self) -> Experiment:
        """The one experiment there is."""
        (experiment,) = self.ledger().experiments()
        return experiment

    def skill(self, ref: str = "main") -> str:
        """The skill in a commit."""
        return self.show(SKILL, ref)

    def branches(self) -> set[str]:
        """All branches."""
        return set(self.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split())

    def objects(self) -> bytes:
        """The content of every object there is, reachable or not."""
        command = ["git", "cat-file", "--batch-all-objects", "--batch"]
        return subprocess.run(command, cwd=self.path, check=True, capture_output=True).stdout

    def told(self, ref: str) -> str:
        """Everything reachable from a ref: every blob, path and commit message, as one text."""
        # As patches from nothing on, which show every line that any blob ever had.
        return self.git("log", "-p", "--root", "--text", "--no-renames", "--format=%B", ref)


def case(name: str, split: str) -> str:
    """A case that a model gets right with 'yes'."""
    about = f"Would the {SEALED} agree to {name}" if split == "holdout" else f"Is it {name}"
    return json.dumps({"input": f"{about}?", "expected": "yes"})


# Commands that die ----------------------------------------------------------------------------


class Mortuary:
    """One process with everything imported that forks a child for each command it is sent.

    A command that dies must have a process of its own, and a new interpreter for each of them
    would take most of a second.
    """

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, world: World, *args: str, die_after: str = "") -> int:
        """Run a command in a child; returns its exit status, negative for a signal.

        Args:
            world: Where.
            args: The command.
            die_after: A step, such as ``put result.json`` or ``merge``, at whose end the child
                kills itself; ``#2`` behind it means the second time.
        """
        command, *rest = args
        order = {
            "args": [command, "-C", str(world.path), *rest],
            "env": dict(os.environ),
            "die_after": die_after,
        }
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._server.communicate()


def _serve() -> None:
    import bot.checking
    import bot.history
    import bot.providers.command
    import bot.providers.scripted
    import bot.running
    import bot.terminal  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _live(**json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def _live(*, args: list[str], env: dict[str, str], die_after: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    if die_after:
        _arm(die_after)
    os._exit(edge.run(cli, args))


def _arm(die_after: str) -> None:
    """Wrap every step that leaves something behind."""
    from bot.forge import plain
    from bot.ledger import Store

    step, _, nth = die_after.partition("#")
    done: Counter[str] = Counter()

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            path = str(args[2]).rpartition("/")[2] if name == "put" else ""
            this = f"{name} {path}".strip()
            done[this] += 1
            if this == step and done[this] == int(nth or 1):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for owner, name in (
        (Store, "put"),
        (Store, "flush"),
        (plain, "publish"),
        (plain, "merge"),
        (plain, "drop"),
    ):
        setattr(owner, name, wrapped(name, getattr(owner, name)))


if __name__ == "__main__":
    _serve()
