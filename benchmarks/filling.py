"""A made-up ledger of hundreds of experiments, filled through the code that fills users' own.

Train runs of each experiment, kept runs of each text the skill has had, evidence of confirm runs.
A trace has 3 to 4 kB, every hundredth 60 kB more.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from shared import git
from skill_ratchet.core.gate import Action, Reason, Verdict
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import (
    NO_FAILED_CALLS,
    AddLines,
    Evidence,
    Experiment,
    Landing,
    Pair,
    Proposal,
    Reply,
    Result,
    RolloutKey,
    Run,
    Score,
    Tally,
    Trace,
    Usage,
    digest,
    experiment_id,
    trace_id,
)
from skill_ratchet.experiment.proposer import question
from skill_ratchet.ledger import access
from skill_ratchet.project import repository, workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skill_ratchet.core.records import Fixture, Side, Split, Text
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.workspace import Workspace

NAME: Final = "support"  # of the skill
SKILL: Final = f"skills/{NAME}/SKILL.md"
CASES: Final = 20  # in each split, where nothing else is said
SWEEPS: Final = 10  # of a confirm run
CONFIRMED: Final = 5  # every so manieth experiment has one
KEPT: Final = 20  # every so manieth experiment is merged
LABELS: Final = 5
LONG: Final = 100  # every so manieth trace is long
MESSAGE: Final = 60_000  # characters of the proposer's first message
AT_ONCE: Final = 50  # experiments a commit
RULES: Final = (
    "Say what was found before what is to be done, and name the order it is about.",
    "A refund is only promised where the order was paid for and has not been shipped.",
    "Ask one question if the message can be read in two ways, and none otherwise.",
)
START: Final = "\n".join(["---", f"name: {NAME}", "description: Answers mail.", "---", *RULES * 8])
WORDS: Final = "The card that I ordered has not come and nobody could tell me where it may be. "


@dataclass(frozen=True, slots=True)
class Size:
    """What is made.

    ``whole`` adds what the pages do not show: the proposer's calls, records of runs, held-out runs
    (one sweep), merges on the branch itself, and a commit for each experiment.
    """

    experiments: int
    traces: int  # of an experiment, on train
    cases: int = CASES  # on train
    whole: bool = False


class Filler:
    """Fills the ledger of a project with experiments that look like real ones."""

    def __init__(self, folder: Path, size: Size) -> None:
        project = repository.open_project(folder)
        self._space: Workspace = workspace.open_anywhere(
            project, skill=NAME, ref="HEAD", override={}, require=("holdout",)
        )
        self._ledger: Ledger = access.open_ledger(project, NAME)
        self._size, self._random = size, random.Random(1)  # noqa: S311  no secret
        self._at = datetime(2026, 1, 1, tzinfo=UTC)
        self._folder = folder
        self._text = workspace.text_of(START)
        self.traces = 0
        self._kept(self._text)

    def fill(self, last: int, *, first: int = 1) -> None:
        """Make the experiments ``first`` to ``last``, each against the newest merged text."""
        for number in range(first, last + 1):
            self._experiment(number)
            if self._size.whole or number % AT_ONCE == 0:
                self._ledger.flush(f"up to experiment {number}")
            if number % AT_ONCE == 0:
                print(f"\r{number} experiments", end="", file=sys.stderr, flush=True)
        self._ledger.flush("the rest")
        print(file=sys.stderr)

    def _now(self) -> str:
        self._at += timedelta(seconds=3.7)
        return self._at.isoformat(timespec="microseconds")

    def _kept(self, text: Text) -> None:
        """The incumbent's own runs on train."""
        self._ledger.add_skill_text(text.digest, text.text)
        for sweep in range(max(1, self._size.traces // self._size.cases)):
            for fixture in self._space.train:
                self._run(text, fixture, sweep, side="incumbent", owner="")

    def _experiment(self, number: int) -> None:
        rule = f"Rule {number}: {self._random.choice(RULES)}"
        edited = workspace.text_of(f"{self._text.text}\n{rule}")
        one = Experiment(
            id=experiment_id(NAME, parent=self._text.digest, candidate=edited.digest),
            skill=NAME,
            number=number,
            parent=self._text.digest,
            candidate=edited.digest,
            setting=self._space.setting(),
            proposal=Proposal(
                proposer="meta",
                model="m",
                hypothesis=f"Half of the failures promise too much; {rule}",
                edits=(AddLines(lines=rule),),
            ),
            started_at=self._now(),
            level="narrow",
            chars=(len(self._text.text), len(edited.text)),
        )
        if self._size.whole:
            self._ask(number)
        self._ledger.add_experiment(one, parent_text=self._text.text, candidate_text=edited.text)
        for at in range(self._size.traces):
            fixture = self._space.train[at % self._size.cases]
            self._run(edited, fixture, at // self._size.cases, side="candidate", owner=one.id)
        # The first of those that looked, too: then what follows is always against a merged text.
        first = self._size.whole and number == CONFIRMED
        self._end(one, edited, kept=first or number % KEPT == 0)

    def _end(self, one: Experiment, edited: Text, *, kept: bool) -> None:
        looked = one.number % CONFIRMED == 0
        action, reason = (
            (Action.MERGE, Reason.IMPROVED)
            if kept
            else (Action.REJECT, Reason.FUTILE if looked else Reason.SCREEN_FAILED)
        )
        if looked:
            self._look(one, edited, action, reason)
        self._ledger.add_result(
            Result(
                experiment=one.id,
                action=action.value,
                reason=reason.value if kept or not looked else "not_confirmed",
                detail="The screen says so.",
                train=Tally(incumbent=0.5, candidate=0.5 + kept / 10, pairs=self._size.traces),
                calls=self._size.traces + 1,
                usd=0.0031 * self._size.traces,
                seconds=93.0,
                finished_at=self._now(),
                tokens=(900.0, 920.0),
            )
        )
        if kept:
            at = self._now()
            self._ledger.add_landing(
                Landing(experiment=one.id, commit="a" * 40, branch="main", at=at, by="ratchet run")
            )
            self._text = edited
            if self._size.whole:
                (self._folder / SKILL).write_text(edited.text, "utf-8")
                git(
                    self._folder,
                    "-c",
                    "gc.auto=0",
                    "commit",
                    "--quiet",
                    "--all",
                    f"--message={rule_of(one)}",
                )
            self._kept(edited)

    def _look(self, one: Experiment, edited: Text, action: Action, reason: Reason) -> None:
        bar, gain = 3.0, 0.35 if action is Action.MERGE else 0.0
        pairs = self._pairs(one, "holdout", self._space.holdout, sweeps=SWEEPS)
        sweeps = self._size.traces // self._size.cases
        screen = self._pairs(one, "train", self._space.train, sweeps=sweeps)
        for case in self._space.holdout if self._size.whole else ():
            self._run(self._text, case, 0, side="incumbent", owner=one.id)
            self._run(edited, case, 0, side="candidate", owner=one.id)
        evidence = Evidence(
            experiment=one.id,
            tested=None,
            current=None,
            held=False,
            landed=False,
            leaks=(),
            version=2,
            seed=0,
            deterministic=False,
            train_fixtures=tuple(case.id for case in self._space.train),
            holdout_fixtures=tuple(case.id for case in self._space.holdout),
            screen=screen,
            confirm=pairs,
            missing=0,
            failed=NO_FAILED_CALLS,
            attempt=1 + (one.number % KEPT) // CONFIRMED,
            train_scores=(),
            targeted=(),
            age=None,
            released=False,
        )
        verdict = Verdict(
            action=action,
            reason=reason,
            detail="It is said by the evidence.",
            attempt=1,
            log_e=gain * SWEEPS,
            log_bar=bar,
            path=tuple(gain * sweep for sweep in range(1, SWEEPS + 1)),
        )
        self._ledger.put_confirmation(
            Confirmation(
                experiment=one.id,
                parent=one.parent,
                attempt=evidence.attempt or 1,
                started_at=one.started_at,
                evidence=evidence,
                verdict=verdict,
                completed_at=self._now(),
            )
        )

    def _pairs(
        self, one: Experiment, split: Split, cases: Sequence[Fixture], *, sweeps: int
    ) -> tuple[Pair, ...]:
        return tuple(
            Pair(
                fixture=case.id,
                cluster=case.id,
                sweep=sweep,
                incumbent=float(self._random.random() < 0.5),
                candidate=float(self._random.random() < 0.6),
                incumbent_run=digest(split, one.parent, case.id, sweep)[:16],
                candidate_run=digest(split, one.id, case.id, sweep)[:16],
                made_for=one.id if split == "holdout" else "",
            )
            for sweep in range(sweeps)
            for case in cases
        )

    def _run(self, text: Text, fixture: Fixture, sweep: int, *, side: Side, owner: str) -> None:
        key = RolloutKey(
            skill=text.digest,
            fixture=fixture.digest,
            model=self._space.how.digest,
            replicate=sweep,
            experiment=owner,
        )
        started, right = self._now(), self._is_right(fixture)
        self.traces += 1
        self._ledger.add_trace(
            Trace(
                id=trace_id(key, started),
                key=key,
                skill=NAME,
                experiment=owner,
                fixture=fixture.id,
                split=fixture.split,
                side=side,
                model="m",
                provider="anthropic",
                started_at=started,
                reply=self._reply(text, fixture, right=right),
                score=Score(value=float(right), reason="it is the label", scorer="label"),
                fixture_input=fixture.input_text,
                expected=fixture.expected,
            )
        )

    def _is_right(self, fixture: Fixture) -> bool:
        """Six of ten; always the same ones where a loop goes on with these runs."""
        if self._size.whole:
            return int(fixture.id.rpartition("-")[2]) % 10 < 6
        return self._random.random() < 0.6

    def _ask(self, number: int) -> None:
        """What the meta-agent was asked: a first message with failing runs whole, and its reply."""
        model = digest("meta", "m")
        key = RolloutKey(
            skill=self._text.digest,
            fixture=question(NAME, number),
            model=model,
            replicate=0,
            experiment="meta",
        )
        started = self._now()
        told = "".join(self._random.choice(RULES) for _ in range(MESSAGE // len(RULES[0])))
        usage = Usage(input_tokens=MESSAGE // 4, output_tokens=200)
        self._ledger.add_trace(
            Trace(
                id=trace_id(key, started),
                key=key,
                skill=NAME,
                job="meta",
                model="m",
                provider="anthropic",
                started_at=started,
                reply=Reply(
                    text="An edit.",
                    stop_reason="end_turn",
                    request={"messages": [{"role": "user", "content": told}]},
                    response={"content": [{"type": "text", "text": "An edit."}]},
                    usage=usage,
                    usd=0.05,
                ),
            )
        )
        ran = Run(
            skill=NAME,
            job="run",
            started_at=started,
            ended_at=self._now(),
            ended="done",
            calls=self._size.traces,
            usd=0.3,
            counted=0.3,
        )
        self._ledger.add_run(ran)

    def _reply(self, text: Text, fixture: Fixture, *, right: bool) -> Reply:
        thought = WORDS * (750 if self.traces % LONG == 0 else 4)
        answer = str(fixture.expected) if right else "something else"
        usage = {"input_tokens": 812, "output_tokens": 190}
        request: dict[str, Any] = {
            "model": "m",
            "max_tokens": 1024,
            "system": [{"type": "text", "text": text.text[: 2 * len(RULES[0]) * 8]}],
            "messages": [{"role": "user", "content": fixture.input_text}],
        }
        response: dict[str, Any] = {
            "id": f"msg_{self.traces:08d}",
            "content": [
                {"type": "thinking", "thinking": f"{self.traces}: {thought}", "signature": "c2ln"},
                {"type": "text", "text": answer},
            ],
            "stop_reason": "end_turn",
            "usage": usage,
        }
        return Reply(
            text=answer,
            stop_reason="end_turn",
            request=request,
            response=response,
            usage=Usage(**usage),
            usd=0.0031,
            latency=2.4,
            request_id=f"req_{self.traces:08d}",
        )


def rule_of(one: Experiment) -> str:
    """The line that an experiment adds."""
    (edit,) = one.proposal.edits
    assert isinstance(edit, AddLines)
    return edit.lines


def write_project(folder: Path, *, train: int = CASES, **settings: Any) -> None:
    """A repository with the skill as it is before the first merge, and ``CASES`` held-out cases."""
    config = {"provider": "local", "skills": {NAME: {"scorer": "label"}}, **settings}
    files = {"ratchet.yml": json.dumps(config), SKILL: START}
    for split, cases in (("train", train), ("holdout", CASES)):
        for number in range(cases):
            words = f"{split} {number}: {WORDS * 3}"
            fixture = {"input": words, "expected": f"label {number % LABELS}"}
            files[f"fixtures/{NAME}/{split}/{split}-{number:03d}.yml"] = json.dumps(fixture)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=start")
