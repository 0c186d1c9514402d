"""A whole project to run the commands on: a repository, cases, and a model that plays a script.

Run as a program it is the place where commands end early: see ``Mortuary``.
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
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import templates
from boundaries import EXIT, Boundaries
from gitrepo import GitRepo
from skill_ratchet.cases import importer
from skill_ratchet.cli import error_handler
from skill_ratchet.cli.main import cli
from skill_ratchet.ledger import Ref, Store, access, journal
from skill_ratchet.ledger.gitref import GitRef
from skill_ratchet.project import branches, repository
from skill_ratchet.providers.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from skill_ratchet.core.records import Experiment, Reply, Request
    from skill_ratchet.ledger import Ledger

SKILL = "skills/triage/SKILL.md"
SKILL_TEXT = "---\nname: triage\ndescription: Says yes or no.\n---\n\n# Triage\n\nSay yes or no.\n"
META = "You improve one text file"  # how the meta-agent's instructions begin
CASES = {"train": ("t1", "t2", "t3"), "holdout": ("h1", "h2")}
SEALED = "zebra"  # a word of every held-out input, and of nothing else
BOTH = (*CASES["train"], *CASES["holdout"])
PRELOADED = ("cases.check", "report.history", "experiment.jobs", "cli.terminal")
OUTPUTS = ("out", "err")  # of a command that is a process of its own


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


def typed(*args: str) -> Ran:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = error_handler.run(cli, args)
    return Ran(code, out.getvalue(), err.getvalue())


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
        said = {name: list(those) for name, those in cases.items()}
        given = (model, json.dumps(dict(config or {})), json.dumps(said), prefix)
        templates.copy(path, lambda made: cls._new(made, *given), "world", *given)
        return cls(path)

    @classmethod
    def _new(cls, path: Path, model: str | None, config: str, cases: str, prefix: str) -> None:
        world = cls(path)
        path.mkdir(parents=True)
        world.git("init", "--quiet", "--initial-branch=main")
        settings = {
            "provider": "scripted",
            "skills": {"triage": {"scorer": "label"}},
            "loop": {"attempts": 1},
            "meta": {"turns": 1},  # one call a proposal, so that calls can be counted
        }
        world.write(f"{prefix}ratchet.yml", json.dumps(settings | json.loads(config)))
        world.write(f"{prefix}{SKILL}", SKILL_TEXT)
        world.write(f"{prefix}ratchet.script.yml", model or script())
        for split, names in json.loads(cases).items():
            for name in names:
                world.write(f"{prefix}fixtures/triage/{split}/{name}.yml", case(name, split))
        world.write("README.md", "readme\n")
        world.commit("start")

    def ratchet(self, *args: str) -> Ran:
        """Run a command here, in this process."""
        command, *rest = args
        return typed(command, "-C", str(self.path), *rest)

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
        return access.open_ledger(repository.open_project(self.path), "triage")

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


def outcome(world: World) -> dict[str, Any]:
    """What came of it all, but for times and names of commits."""
    rows = world.ratchet("log", "--json").json
    for row in rows:
        row["started_at"] = row["landed"] = None
        row["result"] = row["result"] and row["result"] | {"seconds": None, "finished_at": None}
        if row["reverted"]:
            row["reverted"] |= {"at": None, "commit": None}
        for shipped in (one for one in row.values() if isinstance(one, dict) and "link" in one):
            shipped |= {"by": None, "at": None, "link": None}  # who found it, and where
        if row["state"] in (
            "merged",
            "reverted",
        ):  # in the gate's words, or in those of who found it merged
            row["result"]["detail"] = None
    ledger = world.ledger()
    traces = [*ledger.traces(), *ledger.traces(split="holdout")]
    return {
        "experiments": rows,
        "looks": [look.attempt for look in ledger.confirmations()],
        "calls": sorted((one.job, one.side or "", one.fixture) for one in traces),
        "branches": world.branches(),
        "skill": world.skill(),
    }


# Commands that end early ----------------------------------------------------------------------


class Mortuary:
    """One process with everything imported that forks a child for each command it is sent.

    A command that dies must have a process of its own, and a new interpreter for each of them
    would take most of a second.

    Args:
        folder: Where the children's output goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        world: World,
        *args: str,
        at: str = "",
        stop: str = "",
        tape: Path | None = None,
        by: int = signal.SIGKILL,
    ) -> Ran:
        """Run a command in a child; its code is negative for a signal.

        Every call of its model that came back is a line of ``calls`` beside the project.

        Args:
            world: Where.
            args: The command.
            at: A moment of the run, as ``Moments`` names them, at which the child sends itself a
                signal; ``#2`` behind it means the second time.
            stop: The same for a moment that a tape has.
            tape: Where every moment is written down: see ``Boundaries``.
            by: The signal; 0 for a disk that is full from ``stop`` on.
        """
        command, *rest = args
        order = {
            "args": [command, "-C", str(world.path), *rest],
            "env": dict(os.environ),
            "output": str(self._folder),
            "calls": str(calls_file(world)),
            "at": at,
            "by": by,
            "watch": {"root": str(world.path.parent), "at": stop, "tape": str(tape or "")},
        }
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        out, err = ((self._folder / name).read_text("utf-8") for name in OUTPUTS)
        return Ran(code, out, err)

    def close(self) -> None:
        """End the process."""
        self._server.communicate()


def calls_file(world: World) -> Path:
    """Where the children of a mortuary write down the calls of their models."""
    return world.path.parent / "calls"


def _serve() -> None:
    for name in PRELOADED:
        import_module(f"skill_ratchet.{name}")
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _live(**json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def _live(
    *,
    args: list[str],
    env: dict[str, str],
    output: str,
    calls: str,
    at: str,
    by: int,
    watch: dict[str, str],
) -> None:
    """Be the command, up to its end."""
    os.environ.clear()
    os.environ.update(env | {"VICTIM": str(os.getpid())})
    for name, stream in zip(OUTPUTS, (sys.stdout, sys.stderr), strict=True):
        fd = os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(fd, stream.fileno())
    # A shell that starts its tests in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Moments(calls=calls, at=at, by=by).arm()
    boundaries = Boundaries(**watch, by=by, deaf=(Path(calls).name,))
    if watch["at"] or watch["tape"]:
        boundaries.arm()
    code = error_handler.run(cli, args)
    sys.stdout.flush()
    sys.stderr.flush()
    boundaries.reached(EXIT)
    os._exit(code)


class Moments:
    """The moments of a command at which something is left behind, or is just about to be.

    They are ``before`` or ``after`` one of: ``call``, ``put`` and the kind of record, ``flush``,
    ``commit`` and the ledger's branch, ``publish``, ``merge``, ``git`` and its command; and there
    is ``half of put``, in the middle of a line of the journal.
    """

    def __init__(self, *, calls: str, at: str, by: int) -> None:
        self._calls, self._by = calls, by
        self._at, _, nth = at.partition(" #")
        self._left = int(nth or 1)
        self._record = ""

    def arm(self) -> None:
        """Wrap every step."""
        self._wrap(Store, "put", self._put)
        self._wrap(Store, "flush", lambda *_: "flush")
        self._wrap(GitRef, "commit", lambda git, *_: f"commit {git.ref.rpartition('/')[2]}")
        self._wrap(branches, "publish", lambda *_: "publish")
        self._wrap(branches, "merge", lambda *_: "merge")
        self._wrap(branches, "run", lambda _, command, *__: f"git {command}")
        self._wrap(importer, "write", lambda *_: "write")
        for owner, name, made in (
            (journal, "_append_whole", self._append),
            (Scripted, "complete", self._complete),
        ):
            setattr(owner, name, made(getattr(owner, name)))

    def _now(self, moment: str) -> bool:
        self._left -= moment == self._at
        return moment == self._at and self._left == 0

    def _end(self) -> None:
        os.kill(os.getpid(), self._by)

    def _reached(self, moment: str) -> None:
        if self._now(moment):
            self._end()

    def _wrap(self, owner: Any, name: str, describe: Callable[..., str]) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            step = describe(*args)
            self._reached(f"before {step}")
            result = real(*args, **kwargs)
            self._reached(f"after {step}")
            return result

        setattr(owner, name, call)

    def _put(self, _: Store, __: Ref, path: str, ___: str) -> str:
        folder, name = path.split("/")[-2:]
        self._record = {"traces": "trace", "proposer": "proposal"}.get(folder, name)
        return f"put {self._record}"

    def _append(self, real: Callable[[int, bytes], None]) -> Callable[[int, bytes], None]:
        def append(fd: int, line: bytes) -> None:
            if self._now(f"half of put {self._record}"):
                real(fd, line[: len(line) // 2])
                self._end()
            real(fd, line)

        return append

    def _came_back(self, request: Request) -> None:
        with Path(self._calls).open("a") as calls:
            calls.write(f"{request.model}\n")

    def _complete(self, real: Callable[..., Awaitable[Reply]]) -> Callable[..., Awaitable[Reply]]:
        async def complete(model: Scripted, request: Request) -> Reply:
            self._reached("before call")
            reply = await real(model, request)
            self._came_back(request)
            self._reached("after call")
            return reply

        return complete


if __name__ == "__main__":
    _serve()
