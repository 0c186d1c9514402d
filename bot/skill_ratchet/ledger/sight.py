"""What a proposer may know of the record: what is of cases that are train cases now, and no more.

A case that was once a train case has runs on the ledger's branch, and proposals may quote it. When
it is held out from now on, or gone, a proposer that read on about it would know what its next edit
is tested on. So nothing is remembered as open: each time it is asked which cases are train now.

1. A run is shown if its case is a train case now, by id and by content: an id may be used again.
2. A correction is shown if its case is one now and asks nearly the same; or if it came in on a
   forge, no pull request has made a case of it yet, and nothing that is held out is like it.
3. A text (a version of the skill, a hypothesis, a note) is told if it repeats nothing of a case
   that is on record and is no train case now, nor of one that is known to be held out, unless the
   skill that the proposer is shown anyway says it too.
4. A run of a version of the skill that is not told is not shown: its request has that version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from skill_ratchet.core import golden, leaks
from skill_ratchet.core.records import Fixture, Record, skill_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import JsonValue

    from skill_ratchet.core.leaks import Watch
    from skill_ratchet.core.records import Correction, Experiment, Result, Settled, Shipped, Trace

_FORGE: Final = frozenset({"comment", "issue", "pull"})
WITHHELD: Final = "(not shown: it repeats text of a case that is not a train case)"


class CaseOnRecord(Record):
    """A case as a run on record has it: its id, its digest, and every text of it."""

    id: str
    digest: str
    texts: tuple[str, ...]

    @classmethod
    def of(cls, run: Trace) -> CaseOnRecord:
        """The case of a run; one without a key has a digest that no case has."""
        texts = [run.fixture_input, run.correction or "", *_asked(run.reply.request)]
        return cls(
            id=run.fixture,
            digest=run.key.fixture if run.key else "",
            texts=(*texts, *leaks.texts_of(run.expected)),
        )


def _asked(request: JsonValue) -> list[str]:
    """What a request says besides the skill, in whatever way a provider writes it."""
    messages = request.get("messages") if isinstance(request, dict) else None
    if not isinstance(messages, list):
        return []
    said = [one for one in messages if isinstance(one, dict) and one.get("role") != "system"]
    return [text for one in said for text in leaks.strings(one.get("content"))]


@dataclass(frozen=True, slots=True)
class Sight:
    """What a proposer may know. It has the train cases, and digests of what may not be told."""

    train: tuple[Fixture, ...]
    known: frozenset[tuple[str, str]]  # ids and digests of the train cases
    withheld: frozenset[str]  # digests of texts
    waiting: frozenset[str] = frozenset()  # ids of corrections whose cases are still to come

    @property
    def names(self) -> frozenset[str]:
        """The ids of the train cases."""
        return frozenset(name for name, _ in self.known)

    def shows(self, run: Trace) -> bool:
        """Whether a run is of a train case, made with a text that may be told."""
        key = run.key
        if key is None or key.skill in self.withheld:
            return False
        return (run.fixture, key.fixture) in self.known

    def knows_of(self, said: Correction) -> bool:
        """Whether a correction is of a train case, and its words may be told."""
        case = next((one for one in self.train if one.id == said.fixture), None)
        mine = _is_like(said, case) if case else said.id in self.waiting
        return mine and self.tells("\n".join(words_of(said)))

    def tells(self, text: str) -> bool:
        """Whether a text may be told."""
        return skill_digest(text) not in self.withheld

    def experiment(self, one: Experiment) -> Experiment:
        """An experiment without what may not be told."""
        if self.tells(one.proposal.said):
            return one
        told = one.proposal.with_(hypothesis=WITHHELD, edits=(), targets=())
        return one.with_(proposal=told)

    def result(self, one: Result) -> Result:
        """A result without what may not be told."""
        told = self.tells(one.detail) and not one.withheld
        return one if told else one.with_(detail=WITHHELD)

    def shipped(self, one: Shipped) -> Shipped:
        """What a person made of a proposal, without its text where that may not be told."""
        told = one.text is None or self.tells(one.text)
        return one if told else one.with_(text=None)


def _is_like(said: Correction, case: Fixture) -> bool:
    return golden.asks_nearly(said.input, said.context, case)


def waiting(
    corrections: Iterable[Correction],
    *,
    settled: Iterable[Settled],
    seen: Iterable[CaseOnRecord],
    sealed: Sequence[Fixture],
) -> frozenset[str]:
    """Ids of the corrections that are to become train cases and have not been cases yet.

    Those of a terminal or a table become cases at once.
    """
    done = {name for one in settled for name in one.corrections}
    known = {*(one.id for one in seen), *(one.id for one in sealed)}
    return frozenset(
        one.id
        for one in corrections
        if one.via in _FORGE
        and one.id not in done
        and one.fixture not in known
        and not any(_is_like(one, case) for case in sealed)
    )


def words_of(said: Correction) -> tuple[str, ...]:
    """Every text that a correction brings to its case."""
    return (said.output or "", said.why or "", *leaks.texts_of(said.expected))


def hidden(seen: Iterable[CaseOnRecord], train: Sequence[Fixture]) -> list[CaseOnRecord]:
    """The cases on record that are no train cases now, each once."""
    known = known_of(train)
    found = {(one.id, one.digest): one for one in seen}
    return [one for name, one in found.items() if name not in known]


def known_of(train: Sequence[Fixture]) -> frozenset[tuple[str, str]]:
    """Ids and digests of the train cases."""
    return frozenset((one.id, one.digest) for one in train)


def look(
    *,
    train: Sequence[Fixture],
    sealed: Sequence[Fixture],
    seen: Iterable[CaseOnRecord],
    corrections: Sequence[Correction],
    awaited: frozenset[str],
) -> Watch:
    """What no text may repeat.

    Args:
        train: The train cases.
        sealed: Those that are held out, as far as they are known here.
        seen: Every case on record on the ledger's branch.
        corrections: Those on the ledger's branch.
        awaited: Ids of those that are to become train cases.
    """
    sight = Sight(tuple(train), known_of(train), frozenset(), awaited)
    past = [text for one in hidden(seen, train) for text in one.texts]
    for one in corrections:
        if not sight.knows_of(one):
            turns = () if isinstance(one.input, str) else one.input
            asked = [one.input] if isinstance(one.input, str) else [turn.content for turn in turns]
            past += [*asked, one.context or "", one.why or "", *leaks.texts_of(one.expected)]
    return leaks.watch(train=train, holdout=sealed, also=past)


def digests(texts: Iterable[str]) -> frozenset[str]:
    """Names texts, as ``Sight.withheld`` does."""
    return frozenset(map(skill_digest, texts))


def withheld(texts: Iterable[str], watch: Watch, *, shown: str) -> frozenset[str]:
    """Digests of the texts that may not be told.

    Args:
        texts: All that is on record.
        watch: What they may not repeat.
        shown: The skill as the proposer is shown it.
    """
    return digests(text for text in texts if watch.found(text, known=[shown]))


def is_named_after(path: str, names: frozenset[str]) -> bool:
    """Whether a run's file may be of one of these cases: its name begins with the case's id."""
    parts = path.rpartition("/")[2].split(".")
    return any(".".join(parts[:end]) in names for end in range(1, len(parts)))
