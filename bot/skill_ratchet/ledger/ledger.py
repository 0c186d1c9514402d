"""The ledger in the words of the project: experiments, results, traces, texts.

``TrainLedger`` is all a proposer is given. It holds a reader of one branch and nothing that
leads to the other. ``Ledger`` adds the writing and what people may see of the holdout.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.edits import unified_diff
from skill_ratchet.core.looks import Confirmation, Look
from skill_ratchet.core.records import (
    Answers,
    Correction,
    Experiment,
    Landing,
    Note,
    Record,
    Result,
    Run,
    Settled,
    Shipped,
    Trace,
    digest,
)
from skill_ratchet.core.transfer import OWNER, Transfer
from skill_ratchet.ledger import sight
from skill_ratchet.ledger.sight import CaseOnRecord
from skill_ratchet.ledger.store import BADGE, Ref, check_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from skill_ratchet.core.records import Fixture, Reply, RolloutKey, Split
    from skill_ratchet.ledger.sight import Sight
    from skill_ratchet.ledger.store import Reader, Store

R = TypeVar("R", bound=Record)
Job = Literal["task", "meta", "judge"]
_TAKEN = frozenset({"ledger", "holdout", "fixtures"})  # ratchet/<skill> is a proposal's branch
_FOLDERS = {"task": "traces", "judge": "judge", "meta": "proposer"}  # of traces, by their job
_JOBS = {folder: job for job, folder in _FOLDERS.items()}
_SHOWN = 5
ID_DIGITS = 12  # of a digest in the name of a folder
NAMED = 8  # digits of a digest in the name of a file
# A run's file that is a later repeat of one: its number is not 0.
_REPEAT: Final = re.compile(r"\.[1-9]\d*\.[0-9a-f]{8}(?:\.failed-[0-9a-f]{8})?\.json$")
_BATCH = 1000  # traces held in memory at a time while looking through all of them


@dataclass(frozen=True, kw_only=True, slots=True)
class PastAttempt:
    """A past experiment as a proposer may know it."""

    experiment: Experiment
    result: Result
    outcome: Literal["merged", "not merged"]


class _Reads:
    """What both views can read of the train side."""

    def __init__(self, reader: Reader, skill: str) -> None:
        if reader.ref != Ref.LEDGER:
            raise ValueError(reader.ref)
        if skill in _TAKEN or "/" in skill:
            raise RatchetError(
                f"a skill cannot be named {skill!r}",
                hint=f"Use a plain name, and none of {', '.join(sorted(_TAKEN))}.",
            )
        check_path(f"{skill}/x.json")
        self.skill = skill
        self._train = reader
        self._experiments = f"{skill}/experiments"
        self._transfers = f"{skill}/transfers"

    def experiments(self) -> list[Experiment]:
        """Every experiment of the skill, by number."""
        found = self._all("experiment.json", Experiment)
        return sorted(found, key=lambda found: (found.number, found.started_at, found.id))

    def results(self) -> dict[str, Result]:
        """The results by experiment id."""
        return {result.experiment: result for result in self._all("result.json", Result)}

    def landings(self) -> dict[str, Landing]:
        """What went in, by experiment id."""
        return {landing.experiment: landing for landing in self._all("landed.json", Landing)}

    def reversions(self) -> dict[str, Landing]:
        """What was taken out again, by experiment id."""
        return {landing.experiment: landing for landing in self._all("reverted.json", Landing)}

    def result(self, experiment: str) -> Result | None:
        """What became of an experiment; None while it is unfinished."""
        return self._one(experiment, "result.json", Result)

    def landing(self, experiment: str) -> Landing | None:
        """The commit that took an experiment in."""
        return self._one(experiment, "landed.json", Landing)

    def reversion(self, experiment: str) -> Landing | None:
        """The commit that took an experiment out again."""
        return self._one(experiment, "reverted.json", Landing)

    def notes(self) -> list[Note]:
        """What people said, oldest first."""
        found = _folder(self._train, f"{self.skill}/notes/", Note)
        return sorted(found, key=lambda note: (note.at, note.url))

    def shipped(self) -> dict[str, Shipped]:
        """What people made of proposals, by experiment id."""
        return {one.experiment: one for one in self._all("shipped.json", Shipped)}

    def shipment(self, experiment: str) -> Shipped | None:
        """What people made of one proposal before it went in."""
        return self._one(experiment, "shipped.json", Shipped)

    def answers(self) -> list[Answers]:
        """What logs showed of the skill at work, oldest first."""
        found = _folder(self._train, f"{self.skill}/answers/", Answers)
        return sorted(found, key=lambda one: (one.at, one.log))

    def train_corrections(self) -> list[Correction]:
        """What people said should have been answered in train cases, oldest first."""
        return _corrections([self._train], self.skill)

    def candidate_text(self, experiment: str) -> str | None:
        """The skill as the experiment proposed it; None when it could not be applied."""
        return self._train.get(f"{self._home(experiment)}/candidate.txt")

    def candidate_texts(self, experiments: Iterable[str]) -> dict[str, str]:
        """The skill as each of these experiments proposed it, where it could be applied."""
        paths = {f"{self._home(one)}/candidate.txt": one for one in experiments}
        return {paths[path]: text for path, text in self._train.read_many(paths).items()}

    def texts(self) -> tuple[dict[str, str], dict[str, str]]:
        """Every text the skill has had, and every one that was proposed and could be applied.

        By the first ``ID_DIGITS`` of the text's digest, and of the experiment's id. They are kept.
        """
        had = self._train.leaves(f"{self.skill}/incumbents", "skill.txt", _as_it_is)
        return had, self._train.leaves(self._experiments, "candidate.txt", _as_it_is)

    def skill_text(self, skill_digest: str) -> str | None:
        """A text the skill has had, or was proposed to have, by its digest."""
        text = self._train.get(f"{self._incumbent(skill_digest)}/skill.txt")
        if text is not None:
            return text
        ids = (found.id for found in self.experiments() if found.candidate == skill_digest)
        return next(map(self.candidate_text, ids), None)

    def kept_runs(
        self, skill_digest: str, model_digest: str, *, deterministic: bool = False
    ) -> dict[tuple[str, int], Trace]:
        """The incumbent's scored train runs that may be used again, by (fixture, replicate).

        Args:
            skill_digest: The incumbent's text.
            model_digest: How it was run.
            deterministic: A run made again would be the same run, so those from when the text was
                a candidate count too (see ``Runner``).
        """
        homes = self._homes(skill_digest) if deterministic else [self._incumbent(skill_digest)]
        return {
            (trace.key.fixture, trace.key.replicate): trace
            for trace in self._scored(self._train, homes, skill_digest, model_digest)
            if trace.key and (deterministic or not trace.key.experiment) and trace.split == "train"
        }

    def _homes(self, skill_digest: str) -> list[str]:
        """The folders with a text's runs, of when it was a candidate first."""
        tried = (one.id for one in self.experiments() if one.candidate == skill_digest)
        return [*map(self._home, tried), self._incumbent(skill_digest)]

    def _scored(
        self, reader: Reader, homes: Sequence[str], skill_digest: str, model_digest: str
    ) -> Iterator[Trace]:
        """The runs in these folders that a text made with a model and that have a score."""
        paths = [path for home in homes for path in reader.list(f"{home}/traces/")]
        named = (skill_digest, model_digest)
        for trace in sorted(_traces(reader, paths), key=_answered):  # an answer goes last
            key = trace.key
            if key and (key.skill, key.model) == named and trace.score is not None:
                yield trace

    def _task_run(self, trace_id: str) -> Trace | None:
        """The task run on train with this id."""
        paths = [path for path in _find(self._train, self.skill, trace_id) if self._is_run(path)]
        found = (one for one in _traces(self._train, paths) if one.split == "train")
        return next((trace for trace in found if trace.id == trace_id), None)

    def proposer_reply(self, key: RolloutKey) -> Reply | None:
        """The meta-agent's answer to one question, if it was asked and did not fail."""
        found = self._asked(key.digest)
        kept = (trace.reply for trace in found if trace.key == key and trace.reply.error is None)
        return next(kept, None)

    def _asked(self, name: str) -> Iterator[Trace]:
        """The proposer's calls whose file is named after a question or a key, by its digest."""
        paths = self._train.list(f"{self.skill}/proposer/")
        return _traces(self._train, [path for path in paths if _is_named(path, name)])

    def _home(self, owner: str) -> str:
        """The folder of an experiment, or of a transfer."""
        if owner.startswith(OWNER):
            return f"{self._transfers}/{owner.removeprefix(OWNER)[:ID_DIGITS]}"
        return f"{self._experiments}/{owner[:ID_DIGITS]}"

    def _incumbent(self, skill_digest: str) -> str:
        return f"{self.skill}/incumbents/{skill_digest[:ID_DIGITS]}"

    def _is_run(self, path: str) -> bool:
        return _job_of(path) == "task" and not path.startswith(f"{self._transfers}/")

    def _all(self, leaf: str, kind: type[R]) -> list[R]:
        parse = partial(_parse, kind)
        return [*self._train.leaves(self._experiments, leaf, parse).values()]

    def _one(self, experiment: str, leaf: str, kind: type[R]) -> R | None:
        path = f"{self._home(experiment)}/{leaf}"
        text = self._train.get(path)
        return None if text is None else _parse(kind, text, path)


class TrainLedger(_Reads):
    """The read-only view a proposer gets: built on the ledger branch, it cannot see the other.

    It tells of no case that is not a train case now, whatever side it was on: neither the runs of
    it, nor texts that repeat it. See ``ledger.sight``.

    Args:
        reader: Of the ledger branch.
        skill: The skill's name.
        sight: What the proposer may know.
    """

    def __init__(self, reader: Reader, skill: str, sight: Sight) -> None:
        super().__init__(reader, skill)
        self._sight = sight

    def experiments(self) -> list[Experiment]:
        """Every experiment of the skill, by number."""
        return [self._sight.experiment(one) for one in super().experiments()]

    def results(self) -> dict[str, Result]:
        """The results by experiment id."""
        return {name: self._sight.result(one) for name, one in super().results().items()}

    def result(self, experiment: str) -> Result | None:
        """What became of an experiment; None while it is unfinished."""
        found = super().result(experiment)
        return None if found is None else self._sight.result(found)

    def notes(self) -> list[Note]:
        """What people said, oldest first."""
        return [note for note in super().notes() if self._sight.tells(note.words)]

    def shipped(self) -> dict[str, Shipped]:
        """What people made of proposals, by experiment id."""
        return {name: self._sight.shipped(one) for name, one in super().shipped().items()}

    def shipment(self, experiment: str) -> Shipped | None:
        """What people made of one proposal before it went in."""
        found = super().shipment(experiment)
        return None if found is None else self._sight.shipped(found)

    def train_corrections(self) -> list[Correction]:
        """What people said should have been answered in train cases, oldest first."""
        return list(filter(self._sight.knows_of, super().train_corrections()))

    def candidate_text(self, experiment: str) -> str | None:
        """The skill as the experiment proposed it; None if it was not applied, or may not be told.

        An experiment's id may be given by its first digits, as everywhere.
        """
        return self.candidate_texts([experiment]).get(experiment)

    def candidate_texts(self, experiments: Iterable[str]) -> dict[str, str]:
        """The skill as each of these experiments proposed it, where that may be told."""
        found = super().candidate_texts(experiments)
        return {name: text for name, text in found.items() if self._sight.tells(text)}

    def texts(self) -> tuple[dict[str, str], dict[str, str]]:
        """Every text the skill has had, and every one that was proposed, which may be told."""
        had, proposed = (
            {name: text for name, text in texts.items() if self._sight.tells(text)}
            for texts in super().texts()
        )
        return had, proposed

    def skill_text(self, skill_digest: str) -> str | None:
        """A text the skill has had, or was proposed to have, by its digest."""
        text = super().skill_text(skill_digest)
        return text if text is not None and self._sight.tells(text) else None

    def kept_runs(
        self, skill_digest: str, model_digest: str, *, deterministic: bool = False
    ) -> dict[tuple[str, int], Trace]:
        """The incumbent's scored runs on what is train now, by (fixture, replicate)."""
        found = super().kept_runs(skill_digest, model_digest, deterministic=deterministic)
        return {name: run for name, run in found.items() if self._sight.shows(run)}

    def attempts(self) -> list[PastAttempt]:
        """Finished experiments by number, each with whether it was merged and still is."""
        results, landed, reverted = self.results(), self.landings(), self.reversions()
        return [
            PastAttempt(
                experiment=found,
                result=results[found.id],
                outcome="merged" if found.id in landed.keys() - reverted.keys() else "not merged",
            )
            for found in self.experiments()
            if found.id in results
        ]

    def runs(self, experiment: str) -> list[Trace]:
        """An experiment's own runs on what is train now."""
        found = _runs(self._train, self._home(experiment), "train")
        return list(filter(self._sight.shows, found))

    def task_runs(self, *, skip: int, most: int) -> tuple[list[Trace], int]:
        """Up to ``most`` task runs on train, the newest first, and how many there are.

        None is one of a transfer. An experiment's runs come before those of earlier ones, and the
        kept runs of a text after the first experiment against it.

        Args:
            skip: Leave out so many of the newest.
            most: At most so many.
        """
        folders: dict[str, list[str]] = {}
        names = self._sight.names
        for path in filter(self._is_run, self._train.list(f"{self.skill}/")):
            if sight.is_named_after(path, names):  # a run of anything else need not be loaded
                folders.setdefault(path.rpartition("/traces/")[0], []).append(path)
        age = self._ages()
        newest_first = sorted(folders, key=lambda folder: age.get(folder, 0))
        paths = [path for folder in newest_first for path in folders[folder]]
        found = _traces(self._train, paths[skip : skip + most])
        return [run for run in found if run.split == "train" and self._sight.shows(run)], len(paths)

    def _ages(self) -> dict[str, int]:
        """Folders of experiments and of texts by how old what is in them is; 1 is the newest."""
        newest_first = super().experiments()[::-1]
        age = {self._home(one.id): 2 * at for at, one in enumerate(newest_first, 1)}
        age |= {self._incumbent(one.parent): age[self._home(one.id)] + 1 for one in newest_first}
        return age

    def trace(self, trace_id: str) -> Trace | None:
        """The task run with this id, on what is train now."""
        found = self._task_run(trace_id)
        return found if found is not None and self._sight.shows(found) else None

    def failures(self, skill_digest: str, model_digest: str) -> list[Trace]:
        """The incumbent's kept train runs that scored below 1, worst first."""
        kept = self.kept_runs(skill_digest, model_digest).values()
        scored = [(trace.score.value, trace) for trace in kept if trace.score is not None]
        failed = [pair for pair in scored if pair[0] < 1]
        return [trace for _, trace in sorted(failed, key=lambda pair: (pair[0], pair[1].fixture))]


class Ledger(_Reads):
    """Everything recorded about one skill, to read and to write.

    Writes are safe against a killed process at once and are in git after ``flush``.

    Args:
        store: The repository's store.
        skill: The skill's name, one folder on each branch.
        blind: Read nothing of the holdout branch, as if there were none.
    """

    def __init__(self, store: Store, skill: str, *, blind: bool = False) -> None:
        super().__init__(store.reader(Ref.LEDGER), skill)
        self._store = store
        self._sealed = None if blind else store.reader(Ref.HOLDOUT)
        self._seen: dict[
            str, CaseOnRecord
        ] = {}  # the case of each run that was read for it, by its path

    def for_proposer(
        self, *, train: Sequence[Fixture], sealed: Sequence[Fixture] = (), shown: str
    ) -> TrainLedger:
        """The view to hand to a proposer.

        Args:
            train: The cases that are train cases now.
            sealed: Those that are not, as far as they are known here.
            shown: The skill as the proposer is shown it.
        """
        seen = self._cases_on_record()
        corrections = self.train_corrections()
        settled = _folder(self._train, f"{self.skill}/settled/", Settled)
        awaited = sight.waiting(corrections, settled=settled, seen=seen, sealed=sealed)
        watch = sight.look(
            train=train, sealed=sealed, seen=seen, corrections=corrections, awaited=awaited
        )
        withheld = self._shut() | sight.withheld(self._written(), watch, shown=shown)
        allowed = sight.Sight(tuple(train), sight.known_of(train), withheld, awaited)
        return TrainLedger(self._train, self.skill, allowed)

    def hidden_runs(self, train: Sequence[Fixture]) -> dict[str, int]:
        """How many runs on record a proposer is not shown, by the id of their case."""
        names = frozenset(one.id for one in sight.hidden(self._cases_on_record(), train))
        paths = (
            path
            for path in self._train.list(f"{self.skill}/")
            if self._is_run(path) and sight.is_named_after(path, names)
        )
        known = sight.known_of(train)
        runs = (CaseOnRecord.of(run) for run in _traces(self._train, list(paths)))
        return Counter(one.id for one in runs if (one.id, one.digest) not in known)

    def _cases_on_record(self) -> list[CaseOnRecord]:
        """Every case that was ever run on train. Whatever else is run, the text of then is first.

        So its first runs have them all; those that were read before are not read again.
        """
        folder = f"{self.skill}/incumbents/"
        paths = [
            path
            for path in self._train.list(folder)
            if self._is_run(path) and not _REPEAT.search(path) and path not in self._seen
        ]
        found = map(CaseOnRecord.of, _traces(self._train, paths))
        self._seen |= zip(paths, found, strict=True)
        return list(self._seen.values())

    def _shut(self) -> frozenset[str]:
        """Digests of what was proposed and is kept from proposers, whatever is train."""
        shut = {name for name, one in self.results().items() if one.withheld}
        said = [one.proposal.said for one in self.experiments() if one.id in shut]
        return sight.digests([*said, *self.candidate_texts(shut).values()])

    def _written(self) -> Iterator[str]:
        """Every text on record that a proposer could be told."""
        had, proposed = self.texts()
        yield from (*had.values(), *proposed.values())
        yield from (one.proposal.said for one in self.experiments())
        yield from (one.detail for one in self.results().values())
        yield from (one.words for one in self.notes())
        yield from (one.text for one in self.shipped().values() if one.text is not None)
        yield from ("\n".join(sight.words_of(one)) for one in self.train_corrections())

    def task_run(self, trace_id: str) -> Trace | None:
        """The task run on train with this id."""
        return self._task_run(trace_id)

    def incumbent_runs(self, skill_digest: str) -> list[Trace]:
        """Every scored train run of a text as the incumbent, with any model."""
        return [run for run in self.incumbent_tries(skill_digest) if run.score is not None]

    def incumbent_tries(self, skill_digest: str, *, since: str = "") -> list[Trace]:
        """Every train run of a text as the incumbent that began then or later, failed ones too."""
        paths = self._train.list(f"{self._incumbent(skill_digest)}/traces/")
        return [run for run in _traces(self._train, paths) if run.started_at >= since]

    def proposer_calls(self, question: str) -> list[Trace]:
        """Every call that asked the meta-agent a question, whatever came of it."""
        found = self._asked(question)
        return [trace for trace in found if trace.key and trace.key.fixture == question]

    def flush(self, message: str) -> None:
        """Commit everything added so far to the branches (see ``Store.flush``)."""
        self._store.flush(message)

    def add_trace(self, trace: Trace) -> None:
        """Record one model call; whatever is not of the train split goes to the holdout branch.

        Adding a trace again is harmless. A run that failed is kept beside the one that is made in
        its place.
        """
        ref = Ref.LEDGER if trace.split == "train" else Ref.HOLDOUT
        self._store.put(ref, self._trace_path(trace, self._store.reader(ref)), _json(trace))

    def add_experiment(
        self, experiment: Experiment, *, parent_text: str, candidate_text: str | None
    ) -> None:
        """Record a proposal before it is tried, with both texts and the difference.

        Raises:
            RatchetError: Another experiment has the same first twelve digits of its id.
        """
        home = self._home(experiment.id)
        there = self._one(experiment.id, "experiment.json", Experiment)
        if there is not None and there.id != experiment.id:
            raise RatchetError(f"experiments {there.id} and {experiment.id} share a name")
        texts = {f"{self._incumbent(experiment.parent)}/skill.txt": parent_text}
        if candidate_text is not None:
            texts[f"{home}/candidate.txt"] = candidate_text
            patch = unified_diff(parent_text, candidate_text, path="skill.txt")
            texts[f"{home}/candidate.diff"] = patch
        texts[f"{home}/experiment.json"] = _json(experiment)
        for path, text in texts.items():
            self._store.put(Ref.LEDGER, path, text)

    def add_skill_text(self, skill_digest: str, text: str) -> None:
        """Record a text the skill has, so that its runs can be read beside it."""
        self._store.put(Ref.LEDGER, f"{self._incumbent(skill_digest)}/skill.txt", text)

    def add_result(self, result: Result) -> None:
        """Record what became of an experiment; from here on it is finished."""
        self._add(result.experiment, "result.json", result)

    def add_landing(self, landing: Landing) -> None:
        """Record the commit that took an experiment in."""
        self._add(landing.experiment, "landed.json", landing)

    def add_revert(self, landing: Landing) -> None:
        """Record the commit that took an experiment out again."""
        self._add(landing.experiment, "reverted.json", landing)

    def add_note(self, note: Note) -> None:
        """Record what a person said; the same words at the same place once."""
        name = digest("note", note.url, note.words)[:12]
        self._store.put(Ref.LEDGER, f"{self.skill}/notes/{name}.json", _json(note))

    def add_shipped(self, shipped: Shipped) -> None:
        """Record what a person made of a proposal."""
        self._add(shipped.experiment, "shipped.json", shipped)

    def add_answers(self, answers: Answers) -> None:
        """Record what a log showed; the same log once."""
        path = f"{self.skill}/answers/{answers.log[:12]}.json"
        self._store.put(Ref.LEDGER, path, _json(answers))

    def add_correction(self, correction: Correction) -> None:
        """Record what a person said; beside the held-out cases if it is of one."""
        ref = Ref.LEDGER if correction.split == "train" else Ref.HOLDOUT
        path = f"{self.skill}/corrections/{correction.id[:12]}.json"
        self._store.put(ref, path, _json(correction))

    def corrections(self) -> list[Correction]:
        """What people said should have been answered, of every case, oldest first."""
        return _corrections(self._readers("train", "holdout"), self.skill)

    def add_settled(self, settled: Settled, *, split: Split) -> None:
        """Record what became of corrections of one side."""
        ref = Ref.LEDGER if split == "train" else Ref.HOLDOUT
        self._store.put(ref, f"{self.skill}/settled/{settled.pull}.json", _json(settled))

    def settled(self) -> list[Settled]:
        """What became of corrections, of both sides, by pull request."""
        readers, folder = self._readers("train", "holdout"), f"{self.skill}/settled/"
        found = (one for reader in readers for one in _folder(reader, folder, Settled))
        return sorted(found, key=lambda one: one.pull)

    def add_run(self, run: Run) -> None:
        """Record what a run spends; at its end once more, in the same place."""
        self._store.put(Ref.LEDGER, f"{self.skill}/runs/{run.name}.json", _json(run))

    def badge(self) -> str | None:
        """The skill's badge, an SVG."""
        return self._train.get(f"{self.skill}/{BADGE}")

    def put_badge(self, svg: str) -> None:
        """Replace the skill's badge."""
        self._store.put(Ref.LEDGER, f"{self.skill}/{BADGE}", svg)

    def last_run(self) -> Run | None:
        """The skill's newest run."""
        paths = self._train.list(f"{self.skill}/runs/")
        text = self._train.get(paths[-1]) if paths else None
        return None if text is None else _parse(Run, text, paths[-1])

    def spent_by_runs(self) -> list[Run]:
        """What every run of the skill spent, oldest first."""
        return _folder(self._train, f"{self.skill}/runs/", Run)

    def runs_of_month(self, month: str) -> list[Run]:
        """The runs of every skill that began in a month such as ``2026-07``."""
        begin = month.replace("-", "")
        begins = [f"{skill}/runs/{begin}" for skill in self._train.skills()]
        return [run for one in begins for run in _folder(self._train, one, Run)]

    def unfinished(self) -> list[Experiment]:
        """The experiments without a result, by number: a run died in each, or another has it.

        A result from before it was begun is that of an earlier try.
        """
        ended = {name: result.finished_at for name, result in self.results().items()}
        return [one for one in self.experiments() if ended.get(one.id, "") < one.started_at]

    def find(self, prefix: str) -> Experiment:
        """The experiment a person means by a number (``12``, ``#12``) or the start of an id.

        A number comes first: ``12`` is experiment 12 even if an id begins so.

        Raises:
            RatchetError: There is none, or there are several.
        """
        wanted = prefix.strip().removeprefix("#").lower()
        experiments = self.experiments()
        numbered = [found for found in experiments if str(found.number) == wanted]
        matches = numbered or [found for found in experiments if found.id.startswith(wanted)]
        names = [f"{found.number} ({found.id[:12]})" for found in matches]
        return matches[_only(names, what="experiment", wanted=prefix)]

    def train_paths(self, experiment: str) -> dict[str, str]:
        """Where an experiment's own train runs are on the ledger's branch, by trace id."""
        paths = self._train.list(f"{self._home(experiment)}/traces/")
        found = zip(paths, _traces(self._train, paths), strict=True)
        return {trace.id: path for path, trace in found if trace.split == "train"}

    def experiment_runs(
        self, experiment: str, split: Split, *, job: Literal["task", "judge"] = "task"
    ) -> list[Trace]:
        """An experiment's own runs on one split, or the judgements of them."""
        return self._split_runs(self._home(experiment), split, job)

    def text_runs(
        self, skill_digest: str, split: Split, *, job: Literal["task", "judge"] = "task"
    ) -> list[Trace]:
        """A text's runs as the incumbent on one split, or the judgements of them."""
        return self._split_runs(self._incumbent(skill_digest), split, job)

    def traces(self, *, split: Split = "train", job: Job | None = None) -> Iterator[Trace]:
        """Every trace of one split, one at a time; ``job`` narrows it."""
        return (
            trace
            for reader in self._readers(split)
            for trace in _traces(reader, list(filter(_job_of, reader.list(f"{self.skill}/"))))
            if trace.split == split and job in (None, trace.job)
        )

    def count_traces(self) -> int:
        """How many calls are on record in the ledger's branch."""
        paths = self._train.list(f"{self.skill}/")
        return sum(path.split("/")[-2] in _FOLDERS.values() for path in paths)

    def find_trace(self, prefix: str, *, split: Split = "train") -> Trace:
        """The trace whose id begins with ``prefix``.

        Raises:
            RatchetError: There is none, or there are several.
        """
        matches = [
            trace
            for reader in self._readers(split)
            for trace in _traces(reader, list(filter(_job_of, _find(reader, self.skill, prefix))))
            if trace.split == split and trace.id.startswith(prefix)
        ]
        return matches[_only([trace.id for trace in matches], what="trace", wanted=prefix)]

    def put_confirmation(self, confirmation: Confirmation) -> None:
        """Record a look at the holdout, on the holdout branch only."""
        path = f"{self._home(confirmation.experiment)}/confirm.json"
        self._store.put(Ref.HOLDOUT, path, _json(confirmation))

    def confirmation(self, experiment: str) -> Confirmation | None:
        """An experiment's look at the holdout."""
        return self.some_confirmations([experiment]).get(experiment)

    def looks(self) -> list[Look]:
        """Every look at the holdout, also of experiments that are not on the ledger (any more)."""
        if self._sealed is None:
            return []
        parse = partial(_parse, Look)
        return [*self._sealed.leaves(self._experiments, "confirm.json", parse).values()]

    def confirmations(self) -> list[Confirmation]:
        """The same with the evidence of each, which takes a while for hundreds."""
        found = self.some_confirmations(one.experiment for one in self.looks())
        return [*found.values()]

    def add_transfer(
        self, transfer: Transfer, *, old_text: str | None = None, new_text: str | None = None
    ) -> None:
        """Record a transfer, with its texts when it begins.

        Nothing but what came of train cases goes to the ledger's own branch.
        """
        ref = Ref.LEDGER if transfer.split == "train" else Ref.HOLDOUT
        home = self._home(transfer.owner)
        for name, text in (("old.txt", old_text), ("new.txt", new_text)):
            if text is not None:
                self._store.put(ref, f"{home}/{name}", text)
        self._store.put(ref, f"{home}/transfer.json", _json(transfer))

    def transfers(self) -> list[Transfer]:
        """Every transfer on either split, oldest first; those on the holdout unless blind."""
        parse = partial(_parse, Transfer)
        found = [
            one
            for reader in self._readers("train", "holdout")
            for one in reader.leaves(self._transfers, "transfer.json", parse).values()
        ]
        return sorted(found, key=lambda one: (one.started_at, one.id))

    def transfer_texts(self, transfer: Transfer) -> tuple[str | None, str | None]:
        """The old and the new text of a transfer, as they are kept."""
        reader = self._train if transfer.split == "train" else self._sealed
        home = self._home(transfer.owner)
        names = [f"{home}/old.txt", f"{home}/new.txt"]
        texts = {} if reader is None else reader.read_many(names)
        return texts.get(names[0]), texts.get(names[1])

    def transfer_runs(
        self, transfer: Transfer, *, job: Literal["task", "judge"] = "task"
    ) -> list[Trace]:
        """The runs that were made for a transfer, or the judgements of them."""
        return self.experiment_runs(transfer.owner, transfer.split, job=job)

    def some_confirmations(self, experiments: Iterable[str]) -> dict[str, Confirmation]:
        """The looks at the holdout of these experiments, by their ids, in one go."""
        paths = {f"{self._home(one)}/confirm.json": one for one in experiments}
        texts = {} if self._sealed is None else self._sealed.read_many(paths)
        return {paths[path]: _parse(Confirmation, text, path) for path, text in texts.items()}

    def _add(self, experiment: str, leaf: str, record: Record) -> None:
        self._store.put(Ref.LEDGER, f"{self._home(experiment)}/{leaf}", _json(record))

    def _readers(self, *splits: Split) -> list[Reader]:
        """The branches that have records of these splits; never the holdout's when blind."""
        sides = (self._train if split == "train" else self._sealed for split in splits)
        return [side for side in sides if side is not None]

    def kept_held_out(self, skill_digest: str, model_digest: str) -> list[Trace]:
        """The held-out runs of a text by a model that always answers the same.

        One made again would be the same run. Those from when the text was a candidate come first.
        """
        if self._sealed is None:
            return []
        homes = self._homes(skill_digest)
        made = self._scored(self._sealed, homes, skill_digest, model_digest)
        return [trace for trace in made if trace.split == "holdout"]

    def _split_runs(self, home: str, split: Split, job: Job) -> list[Trace]:
        readers, folder = self._readers(split), _FOLDERS[job]
        return [run for reader in readers for run in _runs(reader, home, split, folder=folder)]

    def _trace_path(self, trace: Trace, reader: Reader) -> str:
        if trace.job == "meta":
            return self._proposer_path(trace, reader)
        folder, run = self._run(trace)
        if trace.job == "judge":  # there may be several judgements of one run
            return f"{folder}/judge/{trace.fixture}.{run}.{digest(trace.id)[:8]}.json"
        return f"{folder}/traces/{trace.fixture}.{run}.json"

    def _run(self, trace: Trace) -> tuple[str, str]:
        """Whose run it is, as a folder, and which of that one's runs."""
        key = trace.key
        owner = trace.experiment if key is None else key.experiment
        # A failed run is made again under the same key; neither call may hide the other.
        answered = trace.score and trace.reply.error is None
        failed = "" if answered or trace.job == "judge" else f".failed-{digest(trace.id)[:8]}"
        if owner and (trace.side or trace.job == "judge"):
            # The key tells a transfer's models apart, which have the same runs; a trace's id begins
            # with it, so that it is found by its name.
            run = f"{key.replicate}.{key.digest[:NAMED]}" if key else "0"
            return self._home(owner), f"{trace.side or 'any'}.{run}{failed}"
        if key is not None and not owner:
            return self._incumbent(key.skill), f"{key.replicate}.{key.digest[:NAMED]}{failed}"
        raise ValueError(f"trace {trace.id} has neither a kept run's key nor an experiment's side")

    def _proposer_path(self, trace: Trace, reader: Reader) -> str:
        """Numbered in the order of the calls; a trace added again keeps its number.

        The question and the key are in the name, so that asking for them loads no other call.
        """
        folder = f"{self._home(trace.experiment) if trace.experiment else self.skill}/proposer"
        key, paths = trace.key, reader.list(f"{folder}/")
        names = [key.fixture[:NAMED], key.digest[:NAMED]] if key else []
        same = [path for path in paths if all(_is_named(path, name) for name in names)]
        ids = {found.id: path for found, path in zip(_traces(reader, same), same, strict=True)}
        new = ".".join([f"{folder}/{len(paths) + 1:03d}", *names, "json"])
        return ids.get(trace.id, new)


def _runs(reader: Reader, home: str, split: Split, *, folder: str = "traces") -> list[Trace]:
    found = _traces(reader, reader.list(f"{home}/{folder}/"))
    return [trace for trace in found if trace.split == split]


def _corrections(readers: list[Reader], skill: str) -> list[Correction]:
    folder = f"{skill}/corrections/"
    found = (one for reader in readers for one in _folder(reader, folder, Correction))
    return sorted(found, key=lambda one: (one.at, one.id))


def _folder(reader: Reader, folder: str, kind: type[R]) -> list[R]:
    paths = reader.list(folder)
    texts = reader.read_many(paths)
    return [_parse(kind, texts[path], path) for path in paths]


def _is_named(path: str, name: str) -> bool:
    """Whether a file's name has the first digits of a digest in it, between dots."""
    return name[:NAMED] in path.rpartition("/")[2].split(".")[1:-1]


def _find(reader: Reader, skill: str, trace_id: str) -> list[str]:
    """The files that may hold a trace whose id begins so; not many."""
    if len(trace_id) >= NAMED:
        # To compare names is quick; a search goes through every trace there is.
        named = [path for path in reader.list(f"{skill}/") if _is_named(path, trace_id)]
        if named:
            return named
    return reader.grep(f'"id": {json.dumps(trace_id, ensure_ascii=False)[:-1]}', skill)


def _job_of(path: str) -> str | None:
    """Whose trace is at a path, if one is: a skill may be called as one of our folders is."""
    return _JOBS.get(path.split("/")[-2]) if path.endswith(".json") else None


def _answered(trace: Trace) -> bool:
    return trace.reply.error is None


def _traces(reader: Reader, paths: list[str]) -> Iterator[Trace]:
    """The traces at ``paths``, in order."""
    for start in range(0, len(paths), _BATCH):
        some = paths[start : start + _BATCH]
        texts = reader.read_many(some)
        yield from (_parse(Trace, texts[path], path) for path in some)


def _as_it_is(text: str, path: str) -> str:  # noqa: ARG001  what a Reader calls
    return text


def _json(record: Record) -> str:
    """Readable on a web page; escaped only where a model wrote what is not Unicode."""
    try:
        text = record.model_dump_json(indent=2)  # ten times as quick as json with an indent
    except PydanticSerializationError:
        text = json.dumps(record.model_dump(mode="json"), indent=2)
    return f"{text}\n"


def _parse(kind: type[R], text: str, path: str) -> R:
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        pass  # it refuses the lone surrogates that json.dumps can write; twice as quick otherwise
    try:
        return kind.model_validate(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise RatchetError(
            f"{path} in the ledger is not a {kind.__name__}: {_fault(error)}",
            hint="Written by a newer Ratchet, or edited by hand? Update, or restore that file.",
        ) from error


def _fault(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"


_WHERE: Final = {
    "experiment": "'ratchet log' lists them by number.",
    "trace": "'ratchet show EXPERIMENT' and 'ratchet eval --json' print their ids.",
}


def _only(names: list[str], *, what: Literal["experiment", "trace"], wanted: str) -> int:
    """0, if there is exactly one name."""
    if len(names) == 1:
        return 0
    if not names:
        raise RatchetError(f"no {what} matches {wanted!r}", hint=_WHERE[what])
    shown = ", ".join(names[:_SHOWN])
    raise RatchetError(
        f"{wanted!r} matches {len(names)} {what}s, such as {shown}", hint="Give more of it."
    )
