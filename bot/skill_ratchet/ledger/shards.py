"""A split's cases dealt out to several machines, and the folder that each of them hands in.

Every machine gets a share of the cases and makes all runs of those. ``write`` makes the folder: a
manifest, and the runs of its share; ``read`` checks all of them against each other and against what
is here, and changes nothing; ``take_up`` writes their runs to the ledger, where a run of one
machine that was killed would have left them. What one machine could not have made is refused:
every reason is in docs/design/github.md. Nothing here decides about a candidate.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.core import draw, scoring
from skill_ratchet.core.records import (
    JUDGE,
    Digest,
    Fixture,
    Record,
    RolloutKey,
    Run,
    Setting,
    Side,
    Slug,
    Split,
    Trace,
    trace_id,
    unanswered,
)
from skill_ratchet.ledger import bundles
from skill_ratchet.ledger.clock import moment
from skill_ratchet.project import workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from skill_ratchet.core.records import Experiment
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.workspace import Workspace

MOST: Final = 256  # shards; what GitHub runs of one matrix
_WRITTEN: Final = re.compile(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})")
RUNS: Final = "runs.jsonl"
_REDACTED: Final = "[redacted:"
AGAIN: Final = "Run that shard again and hand in all of them; what it has made is not paid twice."


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One machine's part of the work: the ``number``-th, from 1, of so many."""

    number: int
    of: int

    def __post_init__(self) -> None:
        """Refuse what is no part of anything."""
        if not 1 <= self.number <= self.of <= MOST:
            raise ValueError(f"expected I/N with 1 <= I <= N <= {MOST}, such as 2/4")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What ``2/4`` says.

        Raises:
            ValueError: It is nothing of the kind.
        """
        found = _WRITTEN.fullmatch(text)
        return cls(*map(int, found.groups())) if found else cls(0, 0)

    def __str__(self) -> str:
        """As it is written on a command line."""
        return f"{self.number}/{self.of}"

    def cases(self, fixtures: Sequence[Fixture]) -> tuple[Fixture, ...]:
        """Its cases. The shares have each case once, and differ by one case at most.

        They are dealt out by what the cases are, so a new id or another order changes nothing.
        """
        dealt = sorted(fixtures, key=lambda one: (one.digest, one.id))
        return tuple(dealt[self.number - 1 :: self.of])

    def part(self, total: int) -> int:
        """Its part of so many calls; the parts add up to them."""
        return (total + self.of - self.number) // self.of


class ShardPlan(Record):
    """What the shards of one evaluation, or of one confirm run, have in common.

    A confirm run has an ``experiment``, the time it was ``begun`` (another try is another plan),
    and which ``attempt`` at the holdout it is. ``sweeps`` is 0, and ``attempt`` None, where there
    was nothing to run. ``block`` is how many cases of a large holdout are drawn for each sweep; 0
    for all of them.
    """

    job: Literal["eval", "confirm"]
    skill: Slug
    parent: Digest  # the text that is scored: the incumbent
    setting: Setting
    split: Split
    experiment: Digest | None = None
    candidate: Digest | None = None
    begun: str = ""
    attempt: int | None = Field(default=None, ge=1)
    sweeps: int = Field(default=1, ge=0, le=100_000)
    block: int = Field(default=0, ge=0)

    def differences(self, other: ShardPlan) -> list[str]:
        """The names of what differs, those of the setting by their own."""
        own = [name for name in self.differing(other) if name != "setting"]
        return sorted([*own, *self.setting.differing(other.setting)])

    def wanted(self, cases: Sequence[Fixture], *, of: Sequence[Fixture]) -> dict[str, Wanted]:
        """Every run that belongs to these cases, ``of`` the split, by the digest of its key."""
        drawn = [self._drawn(of, sweep) for sweep in range(self.sweeps)]
        sides: list[tuple[Side, str]] = [("incumbent", self.parent)]
        if self.candidate is not None:
            sides.append(("candidate", self.candidate))
        return {
            RolloutKey(
                skill=text,
                fixture=case.digest,
                model=self.setting.model_digest,
                replicate=sweep,
                experiment=self.experiment or "",
            ).digest: Wanted(case, side)
            for case in cases
            for sweep, names in enumerate(drawn)
            if case.id in names
            for side, text in sides
        }

    def _drawn(self, cases: Sequence[Fixture], sweep: int) -> set[str]:
        """The cases of a sweep."""
        names = {case.id for case in cases}
        if not self.block:
            return names
        seed = draw.seed_of(self.setting.seed, self.experiment or "", self.split)
        planned = draw.block(names, seed=seed, number=sweep, size=self.block)
        return {one.fixture for one in planned}


class Wanted(NamedTuple):
    """Whose run it is."""

    case: Fixture
    side: Side


@dataclass(frozen=True, slots=True)
class Sorted:
    """The runs of one shard: one for each key, what else was called for it, and what lacks."""

    runs: Mapping[str, Trace]  # by the digest of the key
    others: tuple[Trace, ...]  # calls that failed, and those of judges
    lacking: int  # runs that are not there (in a confirm run: that have no score)


# What is handed in ----------------------------------------------------------------------------


class ShardLimits(Record):
    """How large what is handed in may be; more is refused before it is read."""

    manifest: int = 64_000  # bytes
    runs: int = 1_000_000_000  # bytes, of one shard
    run: int = 32_000_000  # bytes, of one of them


LIMITS: Final = ShardLimits()


class ShardManifest(Record):
    """What a shard is, and what its runs were made for.

    ``reused`` counts those that were on record before; ``spent`` says what the others cost, and is
    None where nothing was opened that costs.
    """

    format: Literal[1] = 1
    kind: Literal["shard"] = "shard"
    number: int = Field(ge=1, le=MOST)
    of: int = Field(ge=1, le=MOST)
    plan: ShardPlan
    reused: int = Field(ge=0)
    spent: Run | None
    files: dict[str, Digest]

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.number > self.of:
            raise ValueError(f"there is no shard {self.number} of {self.of}")
        return self

    @property
    def shard(self) -> Shard:
        """Which it is."""
        return Shard(self.number, self.of)


@dataclass(frozen=True, slots=True)
class HandedIn:
    """The shards of a plan that are there, each checked; ``lacking`` says what is not, or ''."""

    found: Mapping[Shard, tuple[ShardManifest, Sorted]]
    lacking: str
    budget: bool = False  # it lacks because a cap was reached

    @property
    def traces(self) -> list[Trace]:
        """Every call they have, of judges too."""
        made = (one for _, one in self.found.values())
        return [trace for one in made for trace in (*one.runs.values(), *one.others)]

    @property
    def spent(self) -> list[Run]:
        """What each cost."""
        return [manifest.spent for manifest, _ in self.found.values() if manifest.spent]

    @property
    def reused(self) -> int:
        """Runs that were on record before."""
        return sum(manifest.reused for manifest, _ in self.found.values())

    def require_all(self) -> None:
        """Raise RatchetError unless all is there: nothing is decided on a part."""
        if self.lacking:
            code = ExitCode.BUDGET if self.budget else ExitCode.ERROR
            raise RatchetError(self.lacking, hint=AGAIN, exit_code=code)


# Writing --------------------------------------------------------------------------------------


def plan_of(
    space: Workspace,
    *,
    job: Literal["eval", "confirm"],
    split: Split,
    experiment: Experiment | None = None,
    attempt: int | None = None,
    sweeps: int = 1,
    block: int = 0,
) -> ShardPlan:
    """The plan of an evaluation, or of the confirm run of an experiment (None: there is none)."""
    return ShardPlan(
        job=job,
        skill=space.name,
        parent=space.text.digest,
        setting=space.setting(),
        split=split,
        experiment=experiment.id if experiment else None,
        candidate=experiment.candidate if experiment else None,
        begun=experiment.started_at if experiment else "",
        attempt=attempt,
        sweeps=sweeps,
        block=block if block < len(space.fixtures(split)) else 0,
    )


def write(
    folder: Path,
    shard: Shard,
    plan: ShardPlan,
    *,
    traces: Sequence[Trace],
    reused: int,
    spent: Run | None,
) -> ShardManifest:
    """Write what a shard hands in.

    Args:
        folder: Missing or empty.
        shard: Which it is.
        plan: What its runs were made for.
        traces: As the ledger has them: without secrets.
        reused: How many of them were on record before.
        spent: The record of what the others cost.
    """
    with bundles.filled(folder) as made:
        with (made / RUNS).open("w", encoding="utf-8") as file:
            file.writelines(f"{_line(trace)}\n" for trace in traces)
        manifest = ShardManifest(
            number=shard.number,
            of=shard.of,
            plan=plan,
            reused=reused,
            spent=spent,
            files=bundles.digests(made),
        )
        text = f"{manifest.model_dump_json(indent=2)}\n"
        (made / bundles.MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _line(trace: Trace) -> str:
    # Escaped, since a model may have written what is not Unicode.
    return json.dumps(trace.model_dump(mode="json"), separators=(",", ":"))


# Reading --------------------------------------------------------------------------------------


def read(
    folder: Path, plan: ShardPlan, space: Workspace, *, most: int = 1, limits: ShardLimits = LIMITS
) -> HandedIn:
    """Check every shard in a folder: that each is sound, and that all are of one plan.

    Args:
        folder: Has one folder for each shard, whatever their names.
        plan: What they have to be made for; of a confirm run, in so many sweeps as all of them say.
        space: What is here.
        most: Sweeps that there may be.
        limits: How large they may be.

    Raises:
        RatchetError: One is not what it should be, or is there twice. What is missing is no error
            yet: see ``HandedIn.require_all``.
    """
    manifests = _manifests(folder, limits)
    for name, manifest in manifests.items():
        with _naming(name):
            _check_plan(manifest, plan, space, most=most)
    _check_together(manifests)
    cases = space.fixtures(plan.split)
    found: dict[Shard, tuple[ShardManifest, Sorted]] = {}
    for name, manifest in manifests.items():
        with _naming(name):
            made = sort_out(
                _traces(folder / name, manifest, limits),
                plan=manifest.plan,
                share=manifest.plan.wanted(manifest.shard.cases(cases), of=cases),
                everything=manifest.plan.wanted(cases, of=cases),
                score_again=lambda trace, case: _scores(space, trace, case),
            )
            if made.runs and manifest.spent is None:  # or no cap would count them
                raise RatchetError("It has runs and does not say what they have cost.")
            found[manifest.shard] = (manifest, made)
    lacking, budget = _lacking(folder, found)
    return HandedIn(dict(sorted(found.items())), lacking, budget)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say of which shard an error is."""
    try:
        yield
    except RatchetError as error:
        raise RatchetError(f"Shard {name!a}: {error.message}", hint=error.hint or AGAIN) from error


def _manifests(folder: Path, limits: ShardLimits) -> dict[str, ShardManifest]:
    """The manifests, by the names of their folders."""
    entries = sorted(os.scandir(folder), key=lambda one: one.name) if folder.is_dir() else []
    found: dict[str, ShardManifest] = {}
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            raise RatchetError(
                f"{entry.name!a} in {folder} is no folder of a shard.",
                hint="Give the folder that has one folder for each shard, and nothing else.",
            )
        with _naming(entry.name):
            data = bundles.read_file(folder / entry.name, bundles.MANIFEST, most=limits.manifest)
            found[entry.name] = bundles.parse_file(ShardManifest, data, bundles.MANIFEST)
    return found


def _check_plan(manifest: ShardManifest, plan: ShardPlan, space: Workspace, *, most: int) -> None:
    """It was made for what is here, and says one record of what it spent."""
    there, spent = manifest.plan, manifest.spent
    here = plan
    if plan.job == "confirm":
        here = plan.with_(
            sweeps=there.sweeps,
            attempt=plan.attempt if there.sweeps else None,
            block=there.block and plan.block,  # of a model that always answers the same: all
        )
    if changed := here.differences(there):
        raise RatchetError(
            f"It was made for something else than {space.name} here; these differ: "
            f"{', '.join(changed)}.",
            hint="Every shard must work on the same commit, bundle and ledger, with the same "
            "Ratchet and settings.",
        )
    if there.sweeps > most:
        raise RatchetError(f"It has {there.sweeps} sweeps; there may be {most} at most.")
    if spent and (spent.skill, spent.job) != (plan.skill, plan.job):
        raise RatchetError("What it says that it spent is of another run.")


def _check_together(manifests: Mapping[str, ShardManifest]) -> None:
    """The shards are of one plan, and none is there twice."""
    by_shard: dict[Shard, str] = {}
    first_name, first = next(iter(manifests.items()), ("", None))
    for name, one in manifests.items():
        assert first is not None  # noqa: S101 - there is one
        if one.of != first.of:
            raise RatchetError(
                f"Shard {name!a} is one of {one.of}, and {first_name!a} one of {first.of}.",
                hint="Hand in the shards of one run alone.",
            )
        if changed := first.plan.differences(one.plan):
            raise RatchetError(
                f"Shards {first_name!a} and {name!a} were made for two plans; these differ: "
                f"{', '.join(changed)}.",
                hint="Hand in the shards of one run alone.",
            )
        if (other := by_shard.setdefault(one.shard, name)) != name:
            raise RatchetError(
                f"Shard {one.shard} is there twice: in {other!a} and in {name!a}.",
                hint="Hand in the one that was made first, and it alone.",
            )


def _traces(folder: Path, manifest: ShardManifest, limits: ShardLimits) -> list[Trace]:
    files = bundles.read_files(folder, manifest.files, allowed={RUNS: limits.runs})
    if RUNS not in files:
        raise RatchetError(f"The bundle has no file {RUNS}.")
    lines = files[RUNS].split(b"\n")
    if lines.pop():
        raise RatchetError(f"The bundle's {RUNS} is cut off.")
    if max(map(len, lines), default=0) > limits.run:
        raise RatchetError(f"The bundle's {RUNS} has a run larger than {limits.run:,} bytes.")
    return [
        bundles.parse_file(Trace, line, f"{RUNS}:{number}")
        for number, line in enumerate(lines, start=1)
    ]


def _scores(space: Workspace, trace: Trace, case: Fixture) -> bool:
    """Whether an answer has the score that its trace says, as far as that can be told here.

    A program or a judge is not asked again, and what was redacted is not what was scored.
    """
    spec = workspace.fixture_spec(space, case)
    answer = trace.reply.text
    if answer is None:  # which was looked at before
        return True
    if spec.type not in scoring.PURE or _REDACTED in answer:
        return True
    try:
        again = scoring.score_pure(spec, answer, case)
    except scoring.ScorerError:
        return False
    return trace.score is not None and again.value == trace.score.value


def _lacking(folder: Path, found: Mapping[Shard, tuple[ShardManifest, Sorted]]) -> tuple[str, bool]:
    """What is not there, in words, and whether that is for a cap that was reached."""
    if not found:
        return f"There is no shard in {folder}.", False
    of = next(iter(found)).of
    missing = [Shard(one, of) for one in range(1, of + 1) if Shard(one, of) not in found]
    if missing:
        return f"Missing: shard {', '.join(map(str, missing))}.", False
    for shard, (manifest, made) in sorted(found.items()):
        if made.lacking:
            spent = manifest.spent is not None and manifest.spent.ended == "budget"
            why = ": a cap was reached" if spent else ""
            return f"Shard {shard} lacks {made.lacking} of its runs{why}.", spent
    return "", False


# Whether the runs are what they should be --------------------------------------------------------


def sort_out(
    traces: Sequence[Trace],
    *,
    plan: ShardPlan,
    share: Mapping[str, Wanted],
    everything: Mapping[str, Wanted],
    score_again: Callable[[Trace, Fixture], bool],
) -> Sorted:
    """The traces of one shard, each found to be what it says.

    Args:
        traces: As the shard has them.
        plan: What they were made for.
        share: The runs that are the shard's, by the digest of their key.
        everything: The runs of all shards.
        score_again: Whether an answer has the score that its trace says, as far as can be told.

    Raises:
        RatchetError: One of them is something else. No text of a case is in the message.
    """
    runs: dict[str, Trace] = {}
    others: list[Trace] = []
    for trace in traces:
        key = trace.key.digest if trace.key else ""
        if key not in share:
            elsewhere = key in everything
            raise RatchetError(
                "It has a run of a case that is not in its share."
                if elsewhere
                else "It has a run that was not made for this: another text, case, model or try."
            )
        _check(trace, plan=plan, wanted=share[key])
        if trace.job == "judge" or (trace.score is None and plan.job == "confirm"):
            others.append(trace)
        elif key in runs:
            raise RatchetError("It has a run twice.")
        elif trace.score is not None and not score_again(trace, share[key].case):
            raise RatchetError("It has a run with another score than its answer gives.")
        else:
            runs[key] = trace
    _check_judges(others, [*runs.values(), *others])
    return Sorted(runs, tuple(others), len(share) - len(runs))


def _check(trace: Trace, *, plan: ShardPlan, wanted: Wanted) -> None:
    """A trace says of itself what its key says, and was made since the experiment was begun."""
    case, side = wanted
    says = (trace.skill, trace.fixture, trace.split, trace.side, trace.experiment, trace.model)
    here = (plan.skill, case.id, plan.split, side, plan.experiment or "", plan.setting.model)
    assert trace.key is not None  # noqa: S101 - it was found by it
    name = trace_id(trace.key, trace.started_at) + (JUDGE if trace.job == "judge" else "")
    if says != here or trace.id != name or trace.job == "meta":
        raise RatchetError("It has a run that is not what its key says.")
    if not moment(trace.started_at) or trace.started_at < plan.begun:
        raise RatchetError("It has a run from before its experiment was begun: a kept one is none.")
    answered = trace.reply.text is not None and trace.reply.error is None
    if trace.score is not None and not answered and trace.score != unanswered(trace.reply):
        raise RatchetError("It has a score without an answer.")


def _check_judges(others: Sequence[Trace], traces: Sequence[Trace]) -> None:
    made = {trace.id for trace in traces if trace.job == "task"}
    judged = [trace.id for trace in others if trace.job == "judge"]
    if len(set(judged)) != len(judged) or not {one.removesuffix(JUDGE) for one in judged} <= made:
        raise RatchetError("It has a judgement of a run that is not there, or one twice.")


# Taking up ------------------------------------------------------------------------------------


def take_up(
    handed: HandedIn, plan: ShardPlan, ledger: Ledger, *, own: Sequence[Trace] = ()
) -> None:
    """Write the runs to the ledger, and what they cost. It is not flushed.

    Args:
        handed: What was checked.
        plan: What it was checked against.
        ledger: Where to.
        own: The runs of a confirm run that are on record.

    Raises:
        RatchetError: The ledger has another answer for a run: nobody may choose between two.
    """
    on_record = {one.key.digest: one for one in own if one.key and one.score}
    for trace in handed.traces:
        there = on_record.get(trace.key.digest) if trace.key else None
        if there and trace.job == "task" and trace.score and trace != there:
            raise RatchetError(
                "The ledger has another answer for a run that a shard has made.",
                hint="The first one counts: run that shard again on the ledger as it is now.",
            )
    known_runs = {run.name: run for run in ledger.spent_by_runs()}
    for run in handed.spent:
        if known_runs.setdefault(run.name, run) != run:
            raise RatchetError(f"The ledger has another record of what {run.name} spent.")
    kept = set()  # of an evaluation: a text's runs that experiments were measured with
    if plan.job == "eval":
        kept = set(ledger.kept_runs(plan.parent, plan.setting.model_digest))
    for trace in handed.traces:
        assert trace.key is not None  # noqa: S101 - it was sorted out by it
        if (trace.key.fixture, trace.key.replicate) not in kept:
            ledger.add_trace(trace)
    for run in handed.spent:
        ledger.add_run(run)
