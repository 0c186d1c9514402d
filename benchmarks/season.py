"""A season of a skill at work: corrections come in by every way, and the loop learns from them.

    PYTHONPATH=tests/support:. python benchmarks/season.py           # minutes; docs/benchmarks.md
    PYTHONPATH=tests/support:. python benchmarks/season.py --runs 2  # prints, writes nothing
    PYTHONPATH=tests/support:. python benchmarks/season.py --table FILE.csv LABEL...

A repository on the fake GitHub begins with five cases that somebody wrote. Each day people send
messages, the skill as it is answers them, and people correct some of what it got wrong: in a
comment, by the issue form, in the terminal, by importing the day's log. The pull request with new
fixtures merges itself; proposals wait for a person, who ships most of them as they are and changes
one in three before merging it.

The score is that of messages that are in no fixture; the correction rate is the share of the day's
answers that were wrong. Without ``--table`` the messages are drawn from hidden rules and the model
is simulated; with it they are rows (text, label) of a file, and the embedded model answers.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from unittest.mock import patch

import pytest
from tests.github.test_corrections import Desk, form

import shared
from sample_efficiency import UNKNOWN, RuleWorld
from shared import Answer, Model, markdown, write_section
from skill_ratchet import providers
from skill_ratchet.agents import task
from skill_ratchet.core.records import Fixture, How, Text, skill_digest
from skill_ratchet.core.scoring import parse_spec, score_pure
from skill_ratchet.project.config import DEFAULT_MODELS
from skill_ratchet.providers.local import Local
from stage import Stage, staging

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skill_ratchet.core.records import Reply
    from world import World

SKILL_NAME = "triage"  # of the stage's projects
SKILL = f"skills/{SKILL_NAME}/SKILL.md"
DAY = 40  # messages
CORRECTED = 4  # of them, by one way each
FRESH = 60  # messages that nobody ever corrects
NOISE = 0.05  # share of answers that the simulated model gets wrong whatever the skill says
WAYS = ("comment", "issue", "terminal", "import")
SHIPPED = 3  # one in so many proposals is changed before it is merged
OWNER = "owner"


class Message(NamedTuple):
    """What somebody asks, and what the right answer is."""

    text: str
    truth: str


class Shop(Protocol):
    """Where messages come from, and who answers them."""

    config: dict[str, Any]
    skill: str

    def authored(self) -> dict[str, list[Message]]:
        """The five cases that somebody wrote, by split."""
        ...

    def day(self, number: int) -> list[Message]:
        """The messages of a day."""
        ...

    def fresh(self) -> list[Message]:
        """Messages that are in no fixture."""
        ...

    def answers(self, skill: str, messages: Sequence[Message]) -> list[str]:
        """What the skill's model answers."""
        ...

    def patches(self) -> Any:
        """What has to be in place while commands run."""
        ...


class Rules:
    """Messages of six kinds, of which a hidden rule gives each one code, and a simulated model.

    The model answers right what the skill has the code for, but for ``NOISE``; the simulated
    meta-agent proposes the code that it is shown most often and that the skill does not have.
    """

    KINDS = 6
    WORDS = (
        "order",
        "parcel",
        "green",
        "window",
        "early",
        "label",
        "answer",
        "river",
        "table",
        "morning",
        "paper",
        "ticket",
        "music",
        "winter",
        "garden",
        "letter",
        "silver",
        "engine",
        "corner",
        "market",
        "bridge",
        "copper",
        "button",
        "candle",
        "pocket",
        "summer",
    )
    config: dict[str, Any] = {  # noqa: RUF012 - read only
        "provider": {"type": "command", "command": ["false"], "deterministic": False},
        "budget": {"usd": None, "calls": None, "minutes": None},
        "skills": {SKILL_NAME: {"scorer": "exact"}},
    }

    def __init__(self) -> None:
        drawn = RuleWorld.draw(0).codes.items()
        self.codes = dict(list(drawn)[: self.KINDS])
        self.skill = (
            "---\nname: triage\ndescription: Answers with the code of a parcel.\n---\n\n# Codes\n\n"
            f"Answer with the code of the parcel and nothing else, or with '{UNKNOWN}'.\n"
        )
        self._chance = random.Random("noise")  # noqa: S311 - no secret
        self._seen = self.skill
        self._proposed: Counter[str] = Counter()

    def authored(self) -> dict[str, list[Message]]:
        """One case of each of the first five kinds."""
        some = [self._message("authored", n, kind) for n, kind in enumerate(self.codes)][:5]
        return {"train": some[:3], "holdout": some[3:]}

    def day(self, number: int) -> list[Message]:
        """Every kind is as frequent as every other one."""
        kinds = random.Random(f"day {number}").choices(list(self.codes), k=DAY)  # noqa: S311
        return [self._message(f"day {number}", n, kind) for n, kind in enumerate(kinds)]

    def fresh(self) -> list[Message]:
        """Ten of each kind."""
        kinds = [kind for kind in self.codes for _ in range(FRESH // self.KINDS)]
        return [self._message("fresh", n, kind) for n, kind in enumerate(kinds)]

    def _message(self, day: str, number: int, kind: str) -> Message:
        chance = random.Random(f"{day} {number}")  # noqa: S311 - words, no secret
        before, after = (" ".join(chance.sample(self.WORDS, 7)) for _ in range(2))
        return Message(f"{before}: a {kind} one, {after}?", self.codes[kind])

    def answer(self, skill: str, asked: str) -> Answer:
        """What the simulated model says."""
        self._seen = skill
        code = next(code for kind, code in self.codes.items() if f" a {kind} one" in asked)
        known = code in skill and self._chance.random() >= NOISE
        return Answer(code if known else UNKNOWN)

    def propose(self, prompt: str) -> str:
        """The code that is shown most often and not written yet, in words not used before."""
        shown = {code: prompt.count(code) for code in self.codes.values() if code not in self._seen}
        code = max(shown, key=lambda one: shown[one], default=None)
        if code is None or not shown[code]:
            return "Nothing that I was shown needs another rule."
        self._proposed[code] += 1
        kind = next(kind for kind, one in self.codes.items() if one == code)
        times = self._proposed[code]
        text = f"- {kind}: {code}" if times == 1 else f"- {kind} ({times}): {code}"
        return shared.added_line(text, why=f"No rule says {code}.")

    def answers(self, skill: str, messages: Sequence[Message]) -> list[str]:
        """One answer each."""
        return [self.answer(skill, one.text).text for one in messages]

    @contextmanager
    def patches(self) -> Iterator[None]:
        """The simulated model answers instead of the provider of the config."""
        model = Model(self, deterministic=False)  # type: ignore[arg-type]  # a world without cases
        with patch.dict(providers.PROVIDERS, {"command": lambda *_, **__: model}):
            yield


class Table:
    """Rows of a file with some labels, and the embedded model, which learns from examples."""

    def __init__(self, file: Path, labels: Sequence[str], *, runs: int) -> None:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = [Message(row["text"], row["label"]) for row in csv.DictReader(opened)]
        some = [row for row in rows if row.truth in labels]
        random.Random("table").shuffle(some)  # noqa: S311 - an order, no secret
        self._authored, rest = some[:5], some[5:]
        self._fresh, days = rest[: len(rest) // 3], rest[len(rest) // 3 :]
        self._days = [days[n::runs] for n in range(runs)]
        self.skill = (
            "---\nname: triage\ndescription: Sorts a message of a bank customer by intent.\n---\n\n"
            "# Intent\n\nSay what the customer wants.\n"
        )
        self.config: dict[str, Any] = {
            "provider": "local",
            "max_tokens": 12,
            "options": {"stop": ["\n"]},
            "meta": {"proposer": "examples"},
            "loop": {"attempts": 2},
            "skills": {SKILL_NAME: {"scorer": "label"}},
        }
        self._loop, self._model = asyncio.new_event_loop(), Local(batch=32)

    def authored(self) -> dict[str, list[Message]]:
        """The first five rows."""
        return {"train": self._authored[:3], "holdout": self._authored[3:]}

    def day(self, number: int) -> list[Message]:
        """A part of two thirds of the rows."""
        return self._days[number - 1]

    def fresh(self) -> list[Message]:
        """A third of the rows."""
        return self._fresh

    def answers(self, skill: str, messages: Sequence[Message]) -> list[str]:
        """What the embedded model says."""
        model = DEFAULT_MODELS["local"]
        how = How(SKILL_NAME, SKILL, model, max_tokens=12, options={"stop": ["\n"]}, digest="")
        text = Text(skill, skill_digest(skill))
        requests = [task.request(how, text, _fixture(one)) for one in messages]

        async def ask() -> list[Reply]:
            return await asyncio.gather(*map(self._model.complete, requests))

        return [reply.text or "" for reply in self._loop.run_until_complete(ask())]

    @contextmanager
    def patches(self) -> Iterator[None]:
        """Nothing is replaced."""
        yield


def _fixture(one: Message) -> Fixture:
    return Fixture(id="message", split="train", input=one.text, expected=one.truth)


# The season -----------------------------------------------------------------------------------


class Day(NamedTuple):
    """What a day and the night's run came to."""

    number: int
    corrected: int  # corrections so far
    train: int
    holdout: int
    rate: float  # share of the day's answers that were wrong
    score: float  # of the messages in no fixture, after the run
    outcome: str


@dataclass
class Season:
    """A repository on GitHub, the people around it, and what they did so far."""

    shop: Table | Rules
    stage: Stage
    desk: Desk
    ways: Counter[str] = field(default_factory=Counter)
    proposals: int = 0
    hands: int = 0

    def day(self, number: int) -> Day:
        """Messages, corrections, the fixtures they become, and the run of the night."""
        messages = self.shop.day(number)
        given = self.shop.answers(self.skill(), messages)
        wrong = [
            (one, said)
            for one, said in zip(messages, given, strict=True)
            if not self._is_right(one, said)
        ]
        noted = wrong[:CORRECTED]
        self._import(number, noted[-1:], answers=list(zip(messages, given, strict=True)))
        for way, (one, said) in zip(WAYS, noted[:-1], strict=False):
            getattr(self, f"_{way}")(one, said)
            self.ways[way] += 1
        self.ways["import"] += len(noted[-1:])
        outcome = self._night(number)
        counts = {split: self._count(split) for split in ("train", "holdout")}
        fresh = self.shop.fresh()
        right = [
            self._is_right(one, said)
            for one, said in zip(fresh, self.shop.answers(self.skill(), fresh), strict=True)
        ]
        return Day(
            number=number,
            corrected=self.ways.total(),
            train=counts["train"],
            holdout=counts["holdout"],
            rate=len(wrong) / len(messages),
            score=sum(right) / len(right),
            outcome=outcome,
        )

    def skill(self) -> str:
        """The skill as the base branch has it."""
        text = self.stage.hub.read("main", SKILL)
        assert text is not None
        return text

    def _is_right(self, one: Message, said: str) -> bool:
        scorer = self.shop.config["skills"][SKILL_NAME]["scorer"]
        return score_pure(parse_spec(scorer, where="season"), said, _fixture(one)).value == 1

    # The ways in

    def _comment(self, one: Message, said: str) -> None:
        text = f"Input: {one.text}\nAnswered: {said}\nExpected: {one.truth}"
        _done(self.desk.correct(text, OWNER))

    def _issue(self, one: Message, said: str) -> None:
        _done(self.desk.opens(OWNER, form(asked=one.text, answered=said, expected=one.truth)))

    def _terminal(self, one: Message, said: str) -> None:
        given = ("--input", one.text, "--answered", said, "--expected", one.truth)
        self._by_hand("correct", *given)

    def _import(
        self,
        number: int,
        noted: Sequence[tuple[Message, str]],
        *,
        answers: list[tuple[Message, str]],
    ) -> None:
        """The log of the day: what nobody looked at is only counted."""
        told = {one.text: one.truth for one, _ in noted}
        rows = [
            {"input": one.text, "output": said, "expected": told.get(one.text, "")}
            for one, said in answers
        ]
        log = self.stage.folder / f"day{number}.jsonl"
        log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self._by_hand("import", str(log), "--output", "output", "--answered-by", "HEAD")

    def _by_hand(self, *command: str) -> None:
        """Somebody does it in a clone, and pushes what came of it."""
        self.stage.sha = None
        self.hands += 1
        world = self.stage.job(f"hand{self.hands}")
        _done(world.ratchet(*command))
        world.git("add", "--all")
        if world.git("status", "--porcelain"):
            world.commit("cases")
        mine = [name for name in world.branches() if name.startswith("ratchet/")]
        world.git("push", "--quiet", "origin", "main", *mine)

    # The night

    def _night(self, number: int) -> str:
        """New fixtures go in, an edit is tried, and what won is shipped by a person."""
        name = f"night{number}"
        self.stage.sha = None
        _done(self.stage.publish(f"{name}-before", bundle=False))
        decided = self.stage.decide(name)
        _done(self.stage.publish(name))
        pull = self._proposal()
        if pull is None:
            return str(decided["reason"] or "nothing to try")
        self.proposals += 1
        changed = self.proposals % SHIPPED == 0
        if changed:
            text = self.stage.hub.read(BRANCH, SKILL) or ""
            files = {SKILL: f"{text}\nAnswer politely: as short as that.\n"}
            self.stage.hub.person_pushes(OWNER, BRANCH, files)
        self.stage.hub.person_merges(OWNER, pull)
        self.stage.sha = None
        _done(self.stage.publish(f"{name}-after", bundle=False))
        return "shipped, changed by a person" if changed else "shipped as proposed"

    def _proposal(self) -> int | None:
        """The bot's open pull request with an edit of the skill."""
        issues = self.stage.hub.state.issues.values()
        own = (one for one in issues if one.pull and one.pull.head == BRANCH)
        return next((one.number for one in own if one.state == "open"), None)

    def _count(self, split: str) -> int:
        """The cases of a split on the base branch."""
        world: World = self.stage.job(f"count{len(list(self.stage.folder.iterdir()))}")
        files = (world.path / f"fixtures/{SKILL_NAME}/{split}").iterdir()
        texts = [one.read_text(encoding="utf-8") for one in files]
        return sum(text.count("\n") if text.startswith('{"id"') else 1 for text in texts)


BRANCH = f"ratchet/{SKILL_NAME}"


def _done(ran: Any) -> None:
    assert ran.code == 0, ran.err or ran.out


def play(shop: Table | Rules, *, runs: int, tell: Any) -> tuple[list[Day], str]:
    """A season; returns its days, and what ``ratchet metrics`` says at the end."""
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as monkeypatch,
        shop.patches(),
    ):
        for name, value in shared.IDENTITY.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COLUMNS", "80")
        with staging(Path(folder), monkeypatch) as build:
            season = _begin(shop, build, monkeypatch)
            days = []
            for number in range(1, runs + 1):
                days.append(season.day(number))
                tell(days[-1])
            season.stage.sha = None
            told = season.stage.job("metrics").ratchet("metrics")
            _done(told)
            tell(f"corrections by way: {dict(season.ways)}")
        return days, told.out


def _begin(shop: Table | Rules, build: Any, monkeypatch: pytest.MonkeyPatch) -> Season:
    """Five cases that somebody wrote, and people with their roles."""
    policy = {"gate": {"merge": "manual"}, "feedback": {"merge": "auto"}}
    stage = build(config=policy | shop.config, cases={"train": (), "holdout": ()})
    files = {SKILL: shop.skill}
    for split, cases in shop.authored().items():
        for number, one in enumerate(cases):
            case = {"input": one.text, "expected": one.truth, "correction": one.truth}
            if split != "train":
                del case["correction"]
            files[f"fixtures/{SKILL_NAME}/{split}/{split}-{number}.yml"] = json.dumps(case)
    stage.hub.add_user(OWNER, "admin")
    stage.hub.person_pushes(OWNER, "main", files)
    stage.hub.person_opens_issue(OWNER, "What people noted")  # where they comment
    return Season(shop, stage, Desk(stage.hub, stage, monkeypatch))


# What is shown --------------------------------------------------------------------------------

HEAD = ("run", "corrections", "train", "held-out", "answers wrong", "score", "what the run came to")


def row(day: Day) -> tuple[str, ...]:
    """A day as a row of the table."""
    shares = (f"{day.rate:.0%}", f"{day.score:.0%}")
    counts = (day.number, day.corrected, day.train, day.holdout)
    return (*map(str, counts), *shares, day.outcome)


def main() -> None:
    """Play one season, and put it on the page unless it is a short one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--table", nargs="+", metavar="FILE LABEL...")
    asked = parser.parse_args()
    shop: Table | Rules = Rules()
    if asked.table:
        file, *labels = asked.table
        shop = Table(Path(file), labels, runs=asked.runs)

    def tell(said: Day | str) -> None:
        print(said if isinstance(said, str) else "  ".join(row(said)), flush=True)

    days, metrics = play(shop, runs=asked.runs, tell=tell)
    print(metrics)
    if asked.runs == 10:
        text = f"{markdown(HEAD, map(row, days))}\n\n```text\n{metrics.rstrip()}\n```"
        write_section("season-table" if asked.table else "season", text)


if __name__ == "__main__":
    main()
