"""How many task calls it takes to learn twelve rules: Ratchet beside GEPA, with the same fakes.

    python benchmarks/sample_efficiency.py            # minutes; rewrites docs/benchmarks.md
    python benchmarks/sample_efficiency.py --quick    # seconds; one seed, prints, writes nothing
    python benchmarks/sample_efficiency.py --ours     # without GEPA (requirements/bench.txt)

A hidden rule gives parcels of one kind one code, and decides two train and two held-out cases.
The fake task model answers a case right if the skill has the line of its rule, and says 'unknown'
if not. The fake meta-agent adds one line a proposal: the first rule that the text it was shown
gives away and that was not written before.

Both tools are counted alike: every task call on train and on held-out cases, from the first
until the tool has adopted a skill that it has measured to be right on all held-out cases.
"""

from __future__ import annotations

import argparse
import importlib
import random
import re
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import shared
from shared import Answer, Case, Model, Watch
from skill_ratchet.core import evidence as stats
from skill_ratchet.core.records import Pair
from skill_ratchet.experiment.proposer import NO_EDIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RULES = 12
PER_RULE = 2  # cases of each split that a rule decides
SPLIT = RULES * PER_RULE
GEPA = "0.1.4"
GEPA_MOST = 5_000  # metric calls, after which it is stopped
ATTEMPTS = RULES + 4  # no rule is proposed twice
KINDS = (
    "amber",
    "basil",
    "cedar",
    "denim",
    "ember",
    "fable",
    "glass",
    "hazel",
    "ivory",
    "jolly",
    "khaki",
    "lemon",
)
UNKNOWN = "unknown"
INSTRUCTIONS = (
    f"---\nname: {shared.NAME}\ndescription: Answers with the code of a parcel.\n---\n\n"
    f"# Codes\n\nAnswer with the code of the parcel and nothing else, or with '{UNKNOWN}'.\n"
)
CODE = re.compile(r"K-([a-z]+)-\d{4}")
RULE = re.compile(r"^[+ ]?- [a-z]+: (K-[a-z]+-\d{4})$", re.MULTILINE)  # also as a diff has it
TRACE_ID = re.compile(r"\b[0-9a-f]{16}-\d{10,}\b")


@dataclass(frozen=True, slots=True)
class RuleWorld:
    """Twelve rules drawn from a seed."""

    codes: Mapping[str, str]  # by kind
    cases: tuple[Case, ...]
    skill: str = INSTRUCTIONS

    @classmethod
    def draw(cls, seed: int) -> RuleWorld:
        """The world of a seed; cases are in random order."""
        rng = random.Random(f"rules/{seed}")  # noqa: S311 - an order, not a secret
        kinds = rng.sample(KINDS, RULES)  # in random order
        codes = {kind: f"K-{kind}-{rng.randint(1000, 9999)}" for kind in kinds}
        cases = []
        for split in ("train", "holdout"):
            order = [kind for kind in kinds for _ in range(PER_RULE)]
            rng.shuffle(order)
            cases += [_case(split, n, kind, codes[kind]) for n, kind in enumerate(order)]
        return cls(codes, tuple(cases))

    def split(self, name: str) -> list[Case]:
        """The cases of one split."""
        return [case for case in self.cases if case.split == name]

    def answer(self, skill: str, asked: str) -> Answer:
        """The code, if the skill has the rule for it."""
        kind = next(kind for kind in self.codes if f" {kind} " in asked)
        return Answer(self.codes[kind] if self.codes[kind] in RULE.findall(skill) else UNKNOWN)

    def propose(self, prompt: str) -> str:
        """One rule that the prompt gives away, and the runs that show it."""
        code = rule_to_add(prompt)
        if code is None:
            return "Nothing that I was shown needs a rule that was not tried."
        targets = _runs_that_show(code, prompt)
        return shared.added_line(line(code), why=f"No rule says {code}.", targets=targets)


def _case(split: Any, number: int, kind: str, code: str) -> Case:
    where = "shop" if split == "train" else "gate"
    asked = f"Parcel {number} at the {where} is a {kind} one. Which code?"
    return Case(f"{split}-{number:02}", split, asked, code)


def line(code: str) -> str:
    """The line of a rule."""
    return f"- {code.split('-')[1]}: {code}"


def rule_to_add(prompt: str) -> str | None:
    """The first code in a prompt that no rule in it has, be it in the skill or in a past edit."""
    written = set(RULE.findall(prompt))
    return next((code[0] for code in CODE.finditer(prompt) if code[0] not in written), None)


def _runs_that_show(code: str, prompt: str) -> list[str]:
    """The id in front of each place that has the code."""
    ids: dict[str, None] = {}
    latest = ""
    for found in re.finditer(f"{TRACE_ID.pattern}|{re.escape(code)}", prompt):
        if found[0] != code:
            latest = found[0]
        elif latest:
            ids[latest] = None
    return list(ids)


# The two tools --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to, at the edit that was adopted last."""

    calls: Mapping[str, int]  # task calls, by what they were for
    on_train: int
    adopted: int
    proposals: int
    score: float  # on the held-out cases
    seconds: float = 0.0  # of the whole run, also beyond that edit
    all_calls: int = 0

    @property
    def total(self) -> int:
        """Task calls."""
        return sum(self.calls.values())


@dataclass(frozen=True, slots=True)
class Ours:
    """Ratchet under one rule; ``deterministic`` is what the model says of itself."""

    rule: str
    deterministic: bool

    def run(self, seed: int) -> Run:
        """One run of the loop, until nothing is left to propose."""
        world = RuleWorld.draw(seed)
        model = Model(world, deterministic=self.deterministic)
        watch = Watch()
        with shared.workplace() as folder:
            shared.write_project(
                folder,
                world,
                deterministic=self.deterministic,
                gate={"rule": self.rule},
                loop={"seed": seed},
            )
            start = time.monotonic()
            shared.improve(folder, model, attempts=ATTEMPTS, watch=watch)
            seconds = time.monotonic() - start
            score = shared.held_out_score(world, shared.committed_skill(folder))
        assert sum(watch.calls.values()) == model.calls
        counted = watch.at_last_merge if watch.merged else watch.calls
        return Run(
            calls=counted,
            on_train=sum(n for name, n in counted.items() if "holdout" not in name),
            adopted=watch.merged,
            proposals=sum(one.reason != NO_EDIT for one in watch.attempts),
            score=score,
            seconds=seconds,
            all_calls=model.calls,
        )


class Gepa:
    """GEPA with its defaults: a Pareto front, minibatches of 3, every acceptance validated."""

    def run(self, seed: int) -> Run:
        """One run, until its best candidate is right on the whole validation set."""
        gepa = _gepa()
        world = RuleWorld.draw(seed)
        adapter = Adapter(world, importlib.import_module("gepa.core.adapter").EvaluationBatch)
        asked = 0

        def reflect(prompt: str) -> str:
            nonlocal asked
            asked += 1
            code = rule_to_add(prompt)
            skill = prompt.split("```")[1].strip()
            return f"```\n{skill}\n{line(code) if code else ''}\n```"

        start = time.monotonic()
        result = gepa.optimize(
            {"skill": world.skill},
            trainset=world.split("train"),
            valset=world.split("holdout"),
            adapter=adapter,
            reflection_lm=reflect,
            seed=seed,
            max_metric_calls=GEPA_MOST,
            stop_callbacks=lambda state: max(state.program_full_scores_val_set) == 1,
            logger=SimpleNamespace(log=lambda _: None),
        )
        assert result.total_metric_calls == sum(adapter.calls.values())
        return Run(
            calls=adapter.calls,
            on_train=sum(n for name, n in adapter.calls.items() if "minibatch" in name),
            adopted=len(result.candidates) - 1,
            proposals=asked,
            score=shared.held_out_score(world, result.best_candidate["skill"]),
            seconds=time.monotonic() - start,
            all_calls=result.total_metric_calls,
        )


class Adapter:
    """Evaluates candidates for GEPA, and counts what for."""

    propose_new_texts = None

    def __init__(self, world: RuleWorld, batch: Callable[..., Any]) -> None:
        self.calls: Counter[str] = Counter()
        self._world, self._batch = world, batch
        self._validated: set[str] = set()

    def evaluate(
        self,
        batch: list[Case],
        candidate: dict[str, str],
        capture_traces: bool = False,  # noqa: ARG002, FBT001, FBT002  GEPA's signature
    ) -> Any:
        """Answers and scores; the trajectories are always given."""
        skill = candidate["skill"]
        self.calls[self._purpose(batch, skill)] += len(batch)
        answers = [self._world.answer(skill, case.input).text for case in batch]
        scores = [float(text == case.expected) for text, case in zip(answers, batch, strict=True)]
        return self._batch(
            outputs=answers, scores=scores, trajectories=list(zip(batch, answers, strict=True))
        )

    def make_reflective_dataset(
        self,
        candidate: dict[str, str],  # noqa: ARG002  GEPA's signature
        eval_batch: Any,
        components_to_update: list[str],  # noqa: ARG002
    ) -> dict[str, list[dict[str, str]]]:
        """A record a run, with the right answer as feedback."""
        records = [
            {
                "Inputs": case.input,
                "Generated Outputs": text,
                "Feedback": f"The right answer is {case.expected}",
            }
            for case, text in eval_batch.trajectories
        ]
        return {"skill": records}

    def _purpose(self, batch: list[Case], skill: str) -> str:
        if batch[0].split == "train":
            known = skill in self._validated
            return f"{'incumbent' if known else 'candidate'} on a minibatch"
        first = not self._validated
        self._validated.add(skill)
        return f"{'first skill' if first else 'candidate'} on all held-out cases"


def _gepa() -> Any:
    try:
        return importlib.import_module("gepa")
    except ImportError:
        raise SystemExit(
            "gepa is not installed: pip install -r requirements/bench.txt, or run with --ours"
        ) from None


DEFAULT_SAMPLED = "Ratchet, the default rule; the model samples"
DEFAULT = "Ratchet, the default rule; the model is deterministic"
IMPROVES = "Ratchet, `gate.rule: improves`"
THEIRS = f"GEPA {GEPA}"
TOOLS: dict[str, Ours | Gepa] = {
    THEIRS: Gepa(),
    IMPROVES: Ours("improves", deterministic=True),
    DEFAULT_SAMPLED: Ours("evidence", deterministic=False),
    DEFAULT: Ours("evidence", deterministic=True),
}


# The page -------------------------------------------------------------------------------------


def fewest_fixed(cases: int) -> int:
    """Cases that an edit must fix, spoiling none, to pass the screen of a deterministic model."""
    for fixed in range(cases + 1):
        pairs = [
            Pair(
                fixture=str(n),
                cluster=str(n),
                sweep=0,
                incumbent=0,
                candidate=float(n < fixed),
                incumbent_run=f"i{n}",
                candidate_run=f"c{n}",
            )
            for n in range(cases)
        ]
        if stats.screen(pairs, fixtures=cases, deterministic=True).state is stats.State.PASS:
            return fixed
    raise ValueError(f"{cases} cases are too few for any edit")


def middle(values: Sequence[float]) -> str:
    """Median, and the range where there is one."""
    low, high = min(values), max(values)
    spread = "" if low == high else f" ({low:g} to {high:g})"
    return f"{statistics.median(values):g}{spread}"


def row(name: str, runs: Sequence[Run]) -> list[str]:
    """A tool's line of the first table."""
    reached = [run.total for run in runs if run.score == 1]
    return [
        name,
        f"{len(reached)} of {len(runs)}",
        middle(reached) if reached else "-",
        middle([run.on_train for run in runs]),
        middle([run.total - run.on_train for run in runs]),
        middle([run.proposals for run in runs]),
        middle([run.adopted for run in runs]),
        f"{100 * statistics.fmean(run.score for run in runs):.0f}%",
    ]


HEAD = (
    "",
    "runs at 100%",
    "task calls to 100%",
    "of them on train",
    "on held-out cases",
    "proposals",
    "adopted",
    "held-out score at the end",
)


def purposes(results: Mapping[str, Sequence[Run]]) -> list[list[str]]:
    """Where the calls went: mean a run, and a share of it for each adopted edit."""
    rows = []
    for name, runs in results.items():
        adopted = statistics.fmean(run.adopted for run in runs)
        names = dict.fromkeys(purpose for run in runs for purpose in run.calls)
        for purpose in names:
            calls = statistics.fmean(run.calls.get(purpose, 0) for run in runs)
            each = f"{calls / adopted:.1f}" if adopted else "-"
            rows.append([name, purpose, f"{calls:.0f}", each])
    return rows


def report(results: Mapping[str, Sequence[Run]], *, seeds: int) -> str:
    """Everything between the page's markers."""
    parts = [
        INTRODUCTION.format(seeds=seeds),
        shared.markdown(HEAD, [row(name, runs) for name, runs in results.items()]),
        comparison(results),
        CERTAINTY.format(fewest=fewest_fixed(SPLIT), share=PER_RULE, split=SPLIT),
        "### Where the calls go",
        shared.markdown(
            ("", "what for", "calls a run", "for each adopted edit"), purposes(results)
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def comparison(results: Mapping[str, Sequence[Run]]) -> str:
    """The two medians beside each other, in words."""
    if THEIRS not in results:
        return ""
    theirs = statistics.median(run.total for run in results[THEIRS])
    ours = statistics.median(run.total for run in results[IMPROVES])
    more = 100 * (ours / theirs - 1)
    said = (
        f"By the same plain rule Ratchet's median is {ours:g} calls and GEPA's {theirs:g}: "
        f"{abs(more):.0f}% {'more' if more > 0 else 'fewer'}."
    )
    return f"{said} {WHY_MORE}" if more > 0 else said


INTRODUCTION = f"""\
Written by `python benchmarks/sample_efficiency.py` ({{seeds}} seeds). {RULES} hidden rules, each of
which decides {PER_RULE} of {SPLIT} train cases and {PER_RULE} of {SPLIT} held-out cases. The task
model is right if the skill has the rule, and the meta-agent adds one rule a proposal that the text
it is shown gives away: both are fakes, the same for both tools, so every proposal is good and only
the price of finding that out differs. Counted are all task calls, on train and on held-out cases
(GEPA's validation set), until the tool has adopted a skill that it has measured to be right on all
held-out cases. Calls of the meta-agent are the proposals. Median (lowest to highest)."""

WHY_MORE = """\
The last table shows where they go: Ratchet runs both sides afresh on the held-out cases, where GEPA
keeps the incumbent's scores, and it screens on the whole of train, where GEPA takes a minibatch of
3. That is the price of not trusting scores that won by luck, and a deterministic model has none."""

CERTAINTY = """\
The plain rule and GEPA adopt whatever scored higher once, and here nothing is ever higher by luck.
The default rule does not know that. It promises that an incumbent is ever replaced by something no
better with a chance of at most 10% (see [gate.md](gate.md)). From a model that samples, {share} of
{split} cases yield the evidence for it slowly, by repeats. With a deterministic model repeats say
nothing new, and an edit must fix at least {fewest} of {split} cases to be told from chance: one
that fixes {share} is rejected, whatever it is worth. What helps is more cases, or edits that remove
a cause which many cases share."""


# The program ----------------------------------------------------------------------------------


def run_one(job: tuple[str, int]) -> Run:
    """One tool, one seed."""
    name, seed = job
    return TOOLS[name].run(seed)


def measure(names: Sequence[str], *, seeds: int, jobs: int) -> dict[str, list[Run]]:
    """All runs, with progress and the loop's own time on stderr."""
    work = [(name, seed) for name in names for seed in range(seeds)]
    results: dict[str, list[Run]] = {name: [] for name in names}
    with ProcessPoolExecutor(jobs) as pool:
        for (name, seed), run in zip(work, pool.map(run_one, work), strict=True):
            results[name].append(run)
            spent = 1000 * run.seconds / run.all_calls
            said = (
                f"{name}, seed {seed}: {run.total} calls, {run.seconds:.1f} s, {spent:.1f} ms each"
            )
            print(said, file=sys.stderr, flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page (or print, with ``--quick``)."""
    parser = argparse.ArgumentParser(description="Count the calls that learning a skill takes.")
    parser.add_argument("--quick", action="store_true", help="one seed; prints, writes nothing")
    parser.add_argument("--ours", action="store_true", help="without GEPA; prints, writes nothing")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args(arguments)
    names = [name for name in TOOLS if name != THEIRS or not options.ours]
    seeds = 1 if options.quick else 10
    if not options.ours:
        _gepa()
    text = report(measure(names, seeds=seeds, jobs=options.jobs), seeds=seeds)
    if options.quick or options.ours:
        print(text)
    else:
        shared.write_section("sample-efficiency", text)


if __name__ == "__main__":
    main()
