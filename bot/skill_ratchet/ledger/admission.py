"""What may be added to the ledger's branches by somebody else: the rules for what a bundle brings.

Pure but for its errors: it is given paths and texts. A record must be of the kind that its path
says, of the one skill, and in its place; a record from before may not change, except for the ways
in which Ratchet itself goes on with one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import ValidationError

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import Experiment, Landing, Record, Result, Run, Trace, digest
from skill_ratchet.core.transfer import OWNER, Transfer
from skill_ratchet.ledger import badge
from skill_ratchet.ledger.clock import moment
from skill_ratchet.ledger.store import README, READMES, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from skill_ratchet.core.records import Fixture

_RUN: Final = r"(?P<run>traces|judge)/[^/]+\.json"
_ASKED: Final = r"(?P<asked>proposer)/[0-9]+(\.[0-9a-f]{8}){0,2}\.json"
_OWNER: Final = r"(?P<owner>[0-9a-f]{12})"
_INCUMBENT: Final = rf"incumbents/{_OWNER}"
_EXPERIMENT: Final = rf"(?P<home>experiments/{_OWNER})"
_TRANSFER: Final = rf"(?P<transfer>transfers)/{_OWNER}"
# What may lie below the skill's folder, and as what it is read; None is a plain text.
_LAYOUT: Final[dict[Ref, tuple[tuple[re.Pattern[str], type[Record] | None], ...]]] = {
    Ref.LEDGER: tuple(
        (re.compile(pattern), kind)
        for pattern, kind in (
            (rf"{_INCUMBENT}/(?P<text>skill\.txt)", None),
            (rf"{_INCUMBENT}/{_RUN}", Trace),
            (rf"{_EXPERIMENT}/candidate\.(txt|diff)", None),
            (rf"{_EXPERIMENT}/experiment\.json", Experiment),
            (rf"{_EXPERIMENT}/result\.json", Result),
            (rf"{_EXPERIMENT}/(landed|reverted)\.json", Landing),
            (rf"{_EXPERIMENT}/{_RUN}", Trace),
            (rf"{_EXPERIMENT}/{_ASKED}", Trace),
            (_ASKED, Trace),
            (rf"{_TRANSFER}/(old|new)\.txt", None),
            (rf"{_TRANSFER}/transfer\.json", Transfer),
            (rf"{_TRANSFER}/{_RUN}", Trace),
            (r"(?P<badge>badge\.svg)", None),
            (r"runs/(?P<named>[0-9]{8}T[0-9]{12}-[a-z]+)\.json", Run),
        )
    ),
    Ref.HOLDOUT: tuple(
        (re.compile(pattern), kind)
        for pattern, kind in (
            (rf"{_INCUMBENT}/{_RUN}", Trace),
            (rf"{_EXPERIMENT}/confirm\.json", Confirmation),
            (rf"{_EXPERIMENT}/{_RUN}", Trace),
            (rf"{_TRANSFER}/(old|new)\.txt", None),
            (rf"{_TRANSFER}/transfer\.json", Transfer),
            (rf"{_TRANSFER}/{_RUN}", Trace),
        )
    ),
}
_JOBS: Final = {"traces": "task", "judge": "judge"}
# Of a result that waited, what may change when it turns out what became of the proposal.
_AMENDED: Final = ("action", "reason", "detail", "finished_at")
_TIMES: Final = ("started_at", "finished_at", "completed_at", "at")
_SUPERSEDED: Final = "superseded"
_REDACTED: Final = "[redacted:"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a train record may not speak of: the held-out cases, by every name they have."""

    ids: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()

    @classmethod
    def of(cls, held_out: Collection[Fixture], *, train: Collection[Fixture]) -> Sealed:
        """The held-out cases; an input that a train case has too gives nothing away."""
        known = {fixture.input_text for fixture in train}
        return cls(
            frozenset(fixture.id for fixture in held_out),
            frozenset(fixture.digest for fixture in held_out),
            frozenset(fixture.input_text for fixture in held_out) - known,
        )

    def shows(self, trace: Trace) -> bool:
        """Whether a run is one of a held-out case."""
        named = trace.fixture in self.ids or trace.fixture_input in self.inputs
        return named or (trace.key is not None and trace.key.fixture in self.digests)


class RecordPlace(NamedTuple):
    """Where on a branch a file is: the folder of its experiment, if it has one, and its name."""

    path: str
    home: str
    leaf: str
    kind: type[Record] | None
    match: re.Match[str] | None


def place(ref: Ref, path: str, *, skill: str) -> RecordPlace:
    """The place of ``path``.

    Raises:
        RatchetError: It is outside the skill's folder, or nothing Ratchet writes is there.
    """
    if path == README:
        return RecordPlace(path, "", README, None, None)
    folder, _, rest = path.partition("/")
    for pattern, kind in _LAYOUT[ref] if folder == skill else ():
        if found := pattern.fullmatch(rest):
            home = found.groupdict().get("home")
            leaf = path.rpartition("/")[2]
            return RecordPlace(path, f"{skill}/{home}" if home else "", leaf, kind, found)
    raise RatchetError(
        f"The bundle writes {path!a} on {ref.branch}, which is no place of a record of "
        f"skill {skill}."
    )


class Stage(Enum):
    """How far an experiment is: its records are final once it is decided."""

    UNKNOWN = "unknown"
    OPEN = "open"  # or given up because its surroundings changed: it may be tried again
    CLOSED = "closed"


class Before:
    """The ledger as it is here, to compare with.

    Args:
        files: Names of contents by path, of each branch.
        read: A content by its name.
    """

    def __init__(
        self, files: Mapping[Ref, Mapping[str, str]], read: Callable[[str], bytes]
    ) -> None:
        self._files, self._read = files, read
        self._states: dict[str, Stage] = {}

    def has(self, ref: Ref, path: str) -> bool:
        """Whether there is a record at ``path``."""
        return path in self._files[ref]

    def record(self, path: str, kind: type[Record], *, ref: Ref = Ref.LEDGER) -> Record | None:
        """A record of a branch, by default of the ledger's own."""
        sha = self._files[ref].get(path)
        return None if sha is None else parse(kind, self._read(sha), path)

    def state(self, home: str) -> Stage:
        """How far the experiment in a folder is."""
        if home not in self._states:
            self._states[home] = self._look(home)
        return self._states[home]

    def _look(self, home: str) -> Stage:
        experiment = self.record(f"{home}/experiment.json", Experiment)
        result = self.record(f"{home}/result.json", Result)
        if not isinstance(experiment, Experiment):
            return Stage.UNKNOWN
        if not isinstance(result, Result):
            return Stage.OPEN
        begun_anew = result.finished_at < experiment.started_at
        return Stage.OPEN if begun_anew or result.reason == _SUPERSEDED else Stage.CLOSED


def check_change(ref: Ref, where: RecordPlace, data: bytes, before: Before) -> None:
    """Refuse a file that changes what was written before and is final.

    Raises:
        RatchetError: It does.
    """
    new = not before.has(ref, where.path)
    if where.match is not None and "badge" in where.match.groupdict():
        return  # it says what the other records come to by now
    state = before.state(where.home) if where.home else Stage.UNKNOWN
    if state is Stage.CLOSED:
        settles = new and where.leaf in ("landed.json", "reverted.json")
        if settles or (where.leaf == "result.json" and _amends(before, data, where)):
            return
    elif new or state is Stage.OPEN or _goes_on(ref, before, data, where):
        return
    raise RatchetError(
        f"The bundle changes {where.path} on {ref.branch}, a record from before.",
        hint="Fetch the ledger's branches and run again. If it still does, do not use it.",
    )


def _amends(before: Before, data: bytes, where: RecordPlace) -> bool:
    """Whether a result says what became of a proposal that waited, and changes nothing else."""
    old, new = before.record(where.path, Result), parse(Result, data, where.path)
    if not isinstance(old, Result) or not isinstance(new, Result) or old.action != "hold":
        return False
    return old.with_(**{name: getattr(new, name) for name in _AMENDED}) == new


def _goes_on(ref: Ref, before: Before, data: bytes, where: RecordPlace) -> bool:
    """Whether a transfer that was not finished is further than it was: its rows, and its end."""
    if where.kind is not Transfer:
        return False
    old, new = before.record(where.path, Transfer, ref=ref), parse(Transfer, data, where.path)
    if not isinstance(old, Transfer) or not isinstance(new, Transfer) or old.finished_at:
        return False
    # With other models it would have another id, which is looked at too.
    return old.with_(rows=new.rows, finished_at=new.finished_at) == new


def check_record(ref: Ref, where: RecordPlace, data: bytes, *, skill: str, sealed: Sealed) -> None:
    """Refuse a file that is not what its place says, or a held-out run beside the train runs.

    Raises:
        RatchetError: It is.
    """
    if where.match is None:
        wrong = data.decode("utf-8", "replace") != READMES[ref]
    elif where.kind is None:
        wrong = not _is_text(where.match, data, skill=skill)
    else:
        record = parse(where.kind, data, where.path)
        if isinstance(record, Trace):
            _refuse_held_out(ref, record, where, sealed)
        if isinstance(record, Transfer) and (ref is Ref.LEDGER) != (record.split == "train"):
            raise RatchetError(f"The bundle has a transfer on the wrong branch: {where.path}")
        wrong = not (_fits(record, where.match, skill=skill) and _is_timed(record))
    if wrong:
        raise RatchetError(f"The bundle's {where.path} on {ref.branch} is not what belongs there.")


def _is_text(match: re.Match[str], data: bytes, *, skill: str) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if "badge" in match.groupdict():  # browsers run what an SVG says: no other than ours
        made = badge.parse(text)
        return made is not None and made.skill == skill
    if "text" not in match.groupdict() or _REDACTED in text:
        return True
    return digest("skill", text).startswith(match["owner"])


def _refuse_held_out(ref: Ref, trace: Trace, where: RecordPlace, sealed: Sealed) -> None:
    held_out = trace.split != "train"
    if ref is Ref.LEDGER and (held_out or sealed.shows(trace)):
        raise RatchetError(f"The bundle has a held-out run beside the train runs: {where.path}")
    if ref is Ref.HOLDOUT and not held_out:
        raise RatchetError(f"The bundle has a train run on {ref.branch}: {where.path}")


def _fits(record: Record, match: re.Match[str], *, skill: str) -> bool:
    """Whether a record is of the skill, and of the experiment or the text its folder is named by.

    A call of the proposer belongs to no experiment yet.
    """
    groups = match.groupdict()
    if isinstance(record, Experiment | Transfer):
        forged = isinstance(record, Transfer) and record.id != record.named()
        return record.skill == skill and record.id.startswith(match["owner"]) and not forged
    if isinstance(record, Result | Landing | Confirmation):
        return record.experiment.startswith(match["owner"])
    if isinstance(record, Run):
        return (record.skill, record.name) == (skill, match["named"])
    if not isinstance(record, Trace) or record.skill != skill:
        return False
    if "asked" in groups:
        return record.job == "meta"
    owner = record.experiment if record.key is None else record.key.experiment
    if "transfer" in groups:
        owner = owner.removeprefix(OWNER) if owner.startswith(OWNER) else ""
    elif "home" not in groups:
        owner = record.key.skill if record.key and not owner else ""
    return record.job == _JOBS[match["run"]] and owner.startswith(match["owner"])


def _is_timed(record: Record) -> bool:
    """Whether its times are some: what came first is told by them, and how long ago it was."""
    stamps = (getattr(record, name, None) for name in _TIMES)
    return all(moment(stamp) for stamp in stamps if stamp is not None)


def parse(kind: type[Record], data: bytes, path: str) -> Record:
    """A record of ``kind``.

    Raises:
        RatchetError: ``data`` is none.
    """
    try:
        return kind.model_validate(json.loads(data.decode("utf-8")))
    except (ValueError, ValidationError, RecursionError) as error:
        raise RatchetError(f"The bundle's {path} is not a {kind.__name__}.") from error
