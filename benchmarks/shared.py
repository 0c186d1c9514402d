"""What the benchmarks of the whole loop share: a project, a model in this process, a page.

The loop that runs here is the one that users run: a git repository, a ledger with its journal,
``skill_ratchet.experiment.jobs.improve``. Only the provider is replaced, by ``Model``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from unittest.mock import patch

from skill_ratchet import providers
from skill_ratchet.cli.progress import Reporter
from skill_ratchet.core.gate import Action
from skill_ratchet.core.records import Reply, Request
from skill_ratchet.experiment import jobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from skill_ratchet.core.records import Trace
    from skill_ratchet.experiment.loop import Report
    from skill_ratchet.experiment.recorder import Attempt

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
NAME = "simulated"  # of the skill
SKILL = f"skills/{NAME}/SKILL.md"
IDENTITY = {
    **{f"GIT_{who}_NAME": "Benchmark" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "benchmark@example.com" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A fixture: its id, its split, the input, and the one right answer."""

    id: str
    split: Literal["train", "holdout"]
    input: str
    expected: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the task model says, and what it thought before (shown in raw traces alone)."""

    text: str
    thinking: str = ""


class World(Protocol):
    """Cases, a task model that answers them, and a meta-agent that reads prompts."""

    @property
    def skill(self) -> str:
        """The skill to begin with."""
        ...

    @property
    def cases(self) -> Sequence[Case]:
        """Train and held-out cases."""
        ...

    def answer(self, skill: str, asked: str) -> Answer:
        """The task model's answer to an input."""
        ...

    def propose(self, prompt: str) -> str:
        """The meta-agent's reply. It knows what the prompt says, and nothing else."""
        ...


class Model:
    """A provider that answers from a world. ``calls`` counts task calls, ``asked`` the others."""

    name = "simulated"
    tools = False
    concurrency = 2  # one pair at a time: nothing is run that is not looked at

    def __init__(self, world: World, *, deterministic: bool) -> None:
        self.deterministic = deterministic
        self.calls = self.asked = 0
        self._world = world

    async def complete(self, request: Request) -> Reply:
        """The task model's answer, or the meta-agent's when the request is about no case."""
        content = str(request.messages[0]["content"])
        if request.case is None:
            self.asked += 1
            return _reply(request, Answer(self._world.propose(content)))
        self.calls += 1
        return _reply(request, self._world.answer(request.system, content))

    def worst_case_usd(self, request: Request) -> float | None:  # noqa: ARG002  the Protocol's
        """Nothing."""
        return 0.0

    async def aclose(self) -> None:
        """Nothing to release."""


def _reply(request: Request, answer: Answer) -> Reply:
    thought: list[Any] = [{"type": "thinking", "thinking": answer.thinking}]
    blocks = [*(thought if answer.thinking else []), {"type": "text", "text": answer.text}]
    return Reply(
        text=answer.text,
        stop_reason="end_turn",
        request=request.model_dump(mode="json"),
        response={"content": blocks, "stop_reason": "end_turn"},
        usd=0.0,
    )


def added_line(line: str, *, why: str, targets: Sequence[str] = ()) -> str:
    """A meta-agent's reply that adds one line at the end of the skill."""
    edit = {"op": "add", "after": None, "lines": line}
    return json.dumps({"hypothesis": why, "targets": list(targets), "edits": [edit]})


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder, with git's settings those of nobody."""
    with patch.dict(os.environ, IDENTITY), tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def git(folder: Path, *args: str) -> str:
    """Run git there; what it printed."""
    command = ["git", "-C", str(folder), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write_project(folder: Path, world: World, *, deterministic: bool, **settings: Any) -> None:
    """A repository with a world's skill and cases, all committed."""
    config = {
        # ``improve`` puts the model in the place of this provider, so nothing is ever started.
        "provider": {"type": "command", "command": ["false"], "deterministic": deterministic},
        "skills": {NAME: {"scorer": "exact"}},
        "budget": {"usd": None, "calls": None, "minutes": None},
        **settings,
    }
    files = {"ratchet.yml": json.dumps(config), SKILL: world.skill}
    for case in world.cases:
        fixture = {"input": case.input, "expected": case.expected}
        files[f"fixtures/{NAME}/{case.split}/{case.id}.yml"] = json.dumps(fixture)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=start")


def improve(
    folder: Path, model: Model, *, attempts: int, watch: Watch, skill: str = NAME
) -> Report:
    """Run the loop on the project with this model.

    Raises:
        RatchetError: The run ended by an error.
    """
    builders: Mapping[str, Any] = {"command": lambda *_, **__: model}
    with patch.dict(providers.PROVIDERS, builders):
        report = jobs.improve(folder, skill=skill, attempts=attempts, override={}, observer=watch)
    if report.error:
        raise report.error
    return report


def committed_skill(folder: Path, path: str = SKILL) -> str:
    """The skill as the base branch has it."""
    return git(folder, "show", f"HEAD:{path}") + "\n"


def held_out_score(world: World, skill: str) -> float:
    """The share of held-out cases that are answered right with a skill; no call is counted."""
    held = [case for case in world.cases if case.split == "holdout"]
    right = sum(world.answer(skill, case.input).text == case.expected for case in held)
    return right / len(held)


class Watch(Reporter):
    """Counts a run instead of showing it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()  # task calls by phase, since the run began
        self.attempts: list[Attempt] = []
        self.at_last_merge: Counter[str] = Counter()
        self._phase = ""

    def phase(self, name: str, *, runs: int, incumbent: str = "") -> None:  # noqa: ARG002  the Reporter's
        """What follows is counted under this name."""
        self._phase = name

    def ran(self, trace: Trace, paid: bool) -> None:  # noqa: ARG002, FBT001  the Reporter's
        """Count a call that was made."""
        self.calls[self._phase] += paid

    def said(self, text: str) -> None:
        """Nobody listens."""

    def decided(self, attempt: Attempt) -> None:
        """Remember where the count stood when an edit was merged."""
        self.attempts.append(attempt)
        if attempt.action == Action.MERGE:
            self.at_last_merge = self.calls.copy()

    @property
    def merged(self) -> int:
        """Edits that were merged."""
        return sum(attempt.action == Action.MERGE for attempt in self.attempts)


# The page -------------------------------------------------------------------------------------


def markdown(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_section(name: str, text: str, *, page: Path = PAGE) -> None:
    """Put ``text`` between the two markers of a section of the page."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = page.read_text("utf-8").split(begin)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}", "utf-8")
