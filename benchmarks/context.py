"""What the meta-agent must see: one loop with whole traces, with summaries, with scores only.

    python benchmarks/context.py              # a simulated world; rewrites docs/benchmarks.md
    python benchmarks/context.py --quick      # seconds; two seeds, prints, writes nothing
    python benchmarks/context.py --provider anthropic --model claude-haiku-5-5
                                              # a real model on a project; prints

With ``--provider`` the loop runs on a copy of a project (``--project``, this repository's example
unless told otherwise) as its ``ratchet.yml`` has it, provider, model and proposer aside; with
``--provider scripted`` it plays the project's script. Each run, and the two sweeps of the holdout
around it, may spend up to the project's budget: modes x seeds x budget in all.

Modes, the ablation of Meta-Harness (arXiv 2603.28052):

raw      every trace whole: input, answer, expectation, raw request and response, corrections.
summary  one line a run: the case, its score, what was expected and what came.
scores   the case and its score.

Past experiments, with their diffs and outcomes, and the skill are in view in every mode.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import yaml

import shared
from shared import Answer, Case, Model, Watch
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Reply, Score, Trace, digest
from skill_ratchet.experiment import evaluation, jobs
from skill_ratchet.experiment.proposer import Proposing
from skill_ratchet.ledger import ledger
from skill_ratchet.project import repository

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence


ROOT = Path(__file__).parents[1]
MODES = ("raw", "summary", "scores")
CAUSES = 6
PER_CAUSE = 4  # cases of each split that a cause spoils
LEGIBLE = 2  # causes that show in expected and got; the others show in the reasoning alone
HABITS = 60  # fixes that sound plausible; six of them are right
ATTEMPTS = 12
PROVIDERS = ("anthropic", "local", "scripted", "command")


# What is left of a trace ----------------------------------------------------------------------


def reduced(trace: Trace, mode: str) -> Trace:
    """A trace as a proposer of this mode may know it; ids and scores are left in all of them."""
    if mode == "raw":
        return trace
    score = trace.score and Score(value=trace.score.value, reason="", scorer=trace.score.scorer)
    bare = trace.with_(
        reply=Reply(), score=score, scorer_error=None, fixture_input="", expected=None,
        correction=None, tags=(),
    )  # fmt: skip
    return bare if mode == "scores" else bare.with_(fixture_input=_one_line(trace))


def _one_line(trace: Trace) -> str:
    score = "none" if trace.score is None else f"{trace.score.value:g}"
    got = trace.reply.error or trace.reply.text
    return f"{trace.fixture}: score {score}, expected {trace.expected!r}, got {got!r}"


@contextlib.contextmanager
def proposer_sees(mode: str) -> Iterator[None]:
    """Within this, everything a proposer is given of a run is reduced: traces and the ledger."""
    whole = Proposing.propose

    class Reduced(ledger.TrainLedger):
        """The train ledger, its runs reduced."""

        def runs(self, experiment: str) -> list[Trace]:
            return [reduced(run, mode) for run in super().runs(experiment)]

        def task_runs(self, *, skip: int, most: int) -> tuple[list[Trace], int]:
            runs, on_record = super().task_runs(skip=skip, most=most)
            return [reduced(run, mode) for run in runs], on_record

        def trace(self, trace_id: str) -> Trace | None:
            found = super().trace(trace_id)
            return found and reduced(found, mode)

        def failures(self, skill_digest: str, model_digest: str) -> list[Trace]:
            return [reduced(run, mode) for run in super().failures(skill_digest, model_digest)]

    def propose(self: Proposing, baseline: Sequence[Trace], *rest: Any) -> Awaitable[Any]:
        return whole(self, [reduced(run, mode) for run in baseline], *rest)

    with (
        patch.object(ledger, "TrainLedger", Reduced),
        patch.object(Proposing, "propose", propose),
    ):
        yield


# The simulated world --------------------------------------------------------------------------

FIX = re.compile(r"habit-\d{2}-[a-z]{4}")
WRITTEN = re.compile(rf"^[+ ]?- Unlearn ({FIX.pattern})\.$", re.MULTILINE)
WRONG = ("north", "south", "east", "west", "centre")


@dataclass(frozen=True, slots=True)
class HabitWorld:
    """Six bad habits of the task model; the skill cures one by a line that names it.

    The expected answer of a case is a place. A habit makes the model name another one, and only
    its reasoning says which habit it was; two habits also show in the answer itself.
    """

    habits: tuple[str, ...]
    plausible: tuple[str, ...]  # what an uninformed proposer may think of
    legible: frozenset[str]
    spoils: Mapping[str, str]  # a case's input -> its habit
    cases: tuple[Case, ...]
    skill: str = (
        f"---\nname: {shared.NAME}\ndescription: Says where a parcel goes.\n---\n\n# Places\n\n"
        "Answer with the name of a place.\n"
    )

    @classmethod
    def draw(cls, seed: int) -> HabitWorld:
        """The world of a seed."""
        rng = random.Random(f"habits/{seed}")  # noqa: S311 - a simulation
        letters = "abcdefghijklmnopqrstuvwxyz"
        plausible = [f"habit-{n:02}-{''.join(rng.choices(letters, k=4))}" for n in range(HABITS)]
        habits = rng.sample(plausible, CAUSES)
        cases, spoils = [], {}
        for split in ("train", "holdout"):
            order = [habit for habit in habits for _ in range(PER_CAUSE)]
            rng.shuffle(order)
            for n, habit in enumerate(order):
                case = _case(split, n, rng.choice(WRONG))
                cases.append(case)
                spoils[case.input] = habit
        return cls(
            habits=tuple(habits),
            plausible=tuple(plausible),
            legible=frozenset(habits[:LEGIBLE]),
            spoils=spoils,
            cases=tuple(cases),
        )

    def answer(self, skill: str, asked: str) -> Answer:
        """The right place, unless the habit is not cured."""
        expected = next(case.expected for case in self.cases if case.input == asked)
        habit = self.spoils[asked]
        if habit in WRITTEN.findall(skill):
            return Answer(expected, thinking="The skill says what to watch for here.")
        wrong = WRONG[(WRONG.index(expected) + 1 + int(digest(asked)[:4], 16) % 4) % len(WRONG)]
        said = f"{wrong} ({habit})" if habit in self.legible else wrong
        return Answer(said, thinking=f"As ever I go by {habit}, so it is {wrong}.")

    def propose(self, prompt: str) -> str:
        """A cure for the first habit that the prompt names, or else for a plausible one."""
        written = set(WRITTEN.findall(prompt))
        named = [habit for habit in FIX.findall(prompt) if habit not in written]
        open_ = [habit for habit in self.plausible if habit not in written]
        rng = random.Random(digest(sorted(written)))  # noqa: S311 - a simulation
        habit = named[0] if named else rng.choice(open_)
        why = "A run shows it." if named else "A guess: nothing that I was shown says why."
        return shared.added_line(f"- Unlearn {habit}.", why=why)


def _case(split: Any, number: int, place: str) -> Case:
    where = "shop" if split == "train" else "gate"
    return Case(f"{split}-{number:02}", split, f"Parcel {number} of the {where}: where to?", place)


# Runs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run in one mode came to; scores are those on the held-out cases."""

    before: float
    after: float
    proposals: int
    merged: int


def simulate(mode: str, seed: int) -> Outcome:
    """The loop on the simulated world."""
    world = HabitWorld.draw(seed)
    model, watch = Model(world, deterministic=True), Watch()
    with shared.workplace() as folder, proposer_sees(mode):
        shared.write_project(folder, world, deterministic=True, loop={"seed": seed})
        shared.improve(folder, model, attempts=ATTEMPTS, watch=watch)
        skill = shared.committed_skill(folder)
    return Outcome(
        before=shared.held_out_score(world, world.skill),
        after=shared.held_out_score(world, skill),
        proposals=len(watch.attempts),
        merged=watch.merged,
    )


@dataclass(frozen=True, slots=True)
class Real:
    """A project to run on a copy of, with another provider and model if they are given."""

    project: Path
    skill: str | None
    provider: str
    model: str | None
    attempts: int

    def run(self, mode: str, seed: int) -> Outcome:
        """The loop on a copy of the project.

        Raises:
            RatchetError: The run or an evaluation ended by an error.
        """
        watch = Watch()
        with shared.workplace() as place, proposer_sees(mode):
            folder = self._copy(place / "project", seed)
            before = self._score(folder)
            report = jobs.improve(
                folder, skill=self.skill, attempts=self.attempts, override={}, observer=watch
            )
            if report.error:
                raise report.error
            after = self._score(folder) if watch.merged else before
        return Outcome(before, after, proposals=len(watch.attempts), merged=watch.merged)

    def _copy(self, target: Path, seed: int) -> Path:
        """The project as it is committed, configured for this run."""
        project = repository.open_project(self.project)
        shared.git(project.toplevel, "clone", "--quiet", str(project.toplevel), str(target))
        shared.git(target, "checkout", "--quiet", "-B", "benchmark")
        folder = target / project.prefix
        path = folder / repository.CONFIG_FILE
        path.write_text(configured(path.read_text("utf-8"), self, seed=seed), "utf-8")
        shared.git(folder, "commit", "--quiet", "--message=benchmark", "--", path.name)
        return folder

    def _score(self, folder: Path) -> float:
        space = evaluation.space_of(
            folder, skill=self.skill, split="holdout", ref=None, override={}
        )
        done = evaluation.evaluate(space, "holdout", Watch())
        if done.score is None or done.failed:
            raise RatchetError(f"{len(done.failed)} held-out runs have no score.")
        return done.score


def configured(text: str, real: Real, *, seed: int) -> str:
    """A ``ratchet.yml`` that proposes with a model, merges by itself, and asks this provider."""
    settings = yaml.safe_load(text)
    now = settings.get("provider", "anthropic")
    if real.provider != (now if isinstance(now, str) else now["type"]):
        settings["provider"] = real.provider
        settings.pop("model", None)
    if real.model:
        settings["model"] = real.model
    settings["meta"] = {**settings.get("meta", {}), "proposer": "meta"}
    settings["gate"] = {**settings.get("gate", {}), "merge": "auto"}
    settings["loop"] = {**settings.get("loop", {}), "seed": seed}
    settings.pop("base", None)
    return yaml.safe_dump(settings, sort_keys=False)


# The page -------------------------------------------------------------------------------------

HEAD = ("the meta-agent sees", "held-out score before", "after", "merged", "proposals")
SEEN = {
    "raw": "raw: every trace whole",
    "summary": "summary: a line a run",
    "scores": "scores only",
}


def table(results: Mapping[str, Sequence[Outcome]]) -> str:
    """A line a mode: means over the seeds, with the standard deviation."""
    rows = [
        [
            SEEN[mode],
            _spread([100 * run.before for run in runs], "%"),
            _spread([100 * run.after for run in runs], "%"),
            _spread([run.merged for run in runs]),
            _spread([run.proposals for run in runs]),
        ]
        for mode, runs in results.items()
    ]
    return shared.markdown(HEAD, rows)


def _spread(values: Sequence[float], unit: str = "") -> str:
    mean = f"{statistics.fmean(values):.3g}{unit}"
    error = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean} \N{PLUS-MINUS SIGN} {error:.2g}" if error else mean


INTRODUCTION = f"""\
Written by `python benchmarks/context.py` ({{seeds}} seeds; mean \N{PLUS-MINUS SIGN} standard
deviation). The whole loop with the default rule, at most {ATTEMPTS} proposals, in a simulated
world: a task model has {CAUSES} bad habits, each of which spoils {PER_CAUSE} train and
{PER_CAUSE} held-out cases, and a line of the skill that names a habit cures it. Its reasoning names
the habit in every raw trace; in {LEGIBLE} of {CAUSES} habits the answer does too, so a summary
shows it; scores show none. A simulated meta-agent writes the cure of a habit it can read, or else
guesses one of {HABITS}.

So the order of the lines is built in, and says nothing about real models. What the table shows is
that the whole way from a trace to a proposal carries the details, and that a reduced view really
hides them. `--provider anthropic --model ...` runs the same ablation with a real model on a project
of yours; there the order is a finding."""


# The program ----------------------------------------------------------------------------------


def measure(
    run: Callable[[str, int], Outcome], *, seeds: int, jobs: int
) -> dict[str, list[Outcome]]:
    """All modes and seeds, with progress on stderr."""
    work = [(mode, seed) for seed in range(seeds) for mode in MODES]
    results: dict[str, list[Outcome]] = {mode: [] for mode in MODES}
    with ProcessPoolExecutor(jobs) as pool:
        for (mode, seed), done in zip(work, pool.map(partial(_call, run), work), strict=True):
            results[mode].append(done)
            print(f"{mode}, seed {seed}: {100 * done.after:.0f}%", file=sys.stderr, flush=True)
    return results


def _call(run: Callable[[str, int], Outcome], job: tuple[str, int]) -> Outcome:
    return run(*job)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare what the meta-agent may see.")
    parser.add_argument("--quick", action="store_true", help="two seeds; prints, writes nothing")
    parser.add_argument("--seeds", type=int, help="runs of each mode")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--provider", choices=PROVIDERS, help="run on a project, with real calls")
    parser.add_argument("--model", help="its model; the provider's default unless given")
    parser.add_argument("--project", type=Path, default=ROOT, help="folder of its ratchet.yml")
    parser.add_argument("--skill", help="which skill, if the project has several")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="experiments of a run")
    options = parser.parse_args(arguments)
    if options.model and not options.provider:
        parser.error("--model needs --provider")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page (or print, with ``--quick`` or a provider)."""
    options = _options(arguments)
    if options.provider is None:
        seeds = options.seeds or (2 if options.quick else 10)
        results = measure(simulate, seeds=seeds, jobs=options.jobs)
        text = f"{INTRODUCTION.format(seeds=seeds)}\n\n{table(results)}"
        if options.quick:
            print(text)
        else:
            shared.write_section("context", text)
        return
    real = Real(options.project, options.skill, options.provider, options.model, options.attempts)
    seeds = options.seeds or (1 if options.quick else 3)
    try:
        print(table(measure(real.run, seeds=seeds, jobs=options.jobs)))
    except RatchetError as error:
        raise SystemExit(f"{error.message}\n{error.hint or ''}".strip()) from None


if __name__ == "__main__":
    main()
