"""What becomes of a case that comes in: the rules by which a golden dataset grows.

1. A case is named by its content, and its side is a hash of its input: neither ever changes.
2. The same input with the same expectation is counted and not added; with another expectation it
   is a conflict, which people resolve. Nothing is overwritten.
3. Nearly the same input goes to the same side. With the same expectation it is counted there;
   with another it is a case of its own, in the same cluster.
   So is a case that has another one in it: a conversation that goes on from there, and with the
   answer; or one that repeats all of the other, if that has six words or more.
4. Fixtures that people wrote are never edited, not even to count.
5. No source brings in more cases than its cap, so that a flood of one cannot drown the rest.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ConfigDict, Field

from skill_ratchet.core import words
from skill_ratchet.core.records import Digest, Fixture, Message, Record, canonical_json, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skill_ratchet.core.records import Source, Split

_SLUG: Final = 40  # characters of an expectation in an id
_DIGITS: Final = (10, 16, 64)  # of the digest in an id, more where somebody has taken the first
OWNED: Final = frozenset({"correction", "production"})  # sources whose fixtures are the bot's


class Caps(Record):
    """The most cases that each source may have in a skill."""

    model_config = ConfigDict(strict=True)  # it is a section of ratchet.yml

    correction: int = Field(default=1000, ge=0, description="Cases that people corrected.")
    production: int = Field(default=1000, ge=0, description="Cases out of logs and tables.")


class Rules(Record):
    """How new cases join the fixtures of a skill.

    ``ratio`` is the share of train, in [0, 1], among inputs like no other; ``near`` the percent of
    rapidfuzz's normalised Indel similarity from which two inputs are nearly the same.
    """

    ratio: float = Field(default=0.5, ge=0, le=1)
    near: float = Field(default=90.0, ge=50, le=100)
    caps: Caps = Caps.model_construct()


class Filed(Record):
    """What became of one case.

    ``case`` is for ``new`` the fixture to write, for ``counted`` the one it was added to with its
    count raised (as it was, if people wrote it), for ``conflict`` the one it contradicts, and for
    ``full`` the case itself. ``detail`` says it in words that name no held-out case.
    """

    outcome: Literal["new", "counted", "conflict", "full"]
    case: Fixture
    detail: str


def astray(
    train: Iterable[Fixture], sealed: Sequence[Fixture], *, rules: Rules
) -> tuple[Fixture, ...]:
    """The train cases that would be sealed, had they come in after the sealed ones."""
    shelf = Shelf(sealed, rules=rules)
    return tuple(one for one in train if shelf.home(one) is not None)


class Shelf:
    """Fixtures in their places, and those that join them one by one.

    Args:
        existing: All fixtures of a skill, of every split.
        rules: How others join them.
    """

    def __init__(self, existing: Sequence[Fixture], *, rules: Rules) -> None:
        self._rules = rules
        self._before = {one.id: one for one in existing}
        self._cases = dict(self._before)
        self._asked: dict[Digest, list[str]] = {}
        self._texts: dict[str, str] = {}
        self._begun: dict[Digest, list[str]] = {}  # by how they begin, those that go on from there
        self._said: dict[str, str] = {}  # all that is told in a case, as bare words
        self._room: dict[Source, int] = {
            source: getattr(rules.caps, source) - sum(one.source == source for one in existing)
            for source in ("correction", "production")
        }
        for one in existing:
            self._see(one)

    @property
    def added(self) -> tuple[Fixture, ...]:
        """The new fixtures, as they are to be written, in the order they came."""
        return tuple(one for name, one in self._cases.items() if name not in self._before)

    def home(self, case: Fixture) -> Split | None:
        """The side that a case has to be on; None when it is like no other."""
        same = self._asked.get(input_digest(case), [None])[0]
        kin = same or self._nearest(case) or self._within(case)
        return self._cases[kin].split if kin else None

    def put(self, case: Fixture, *, side: Split | None = None) -> Filed:
        """Find a case's place; its own split does not count.

        Args:
            case: Named 'case' if its name is to be made of its content.
            side: Where it goes if it is like no other; None for what its input says.
        """
        same = self._asked.get(input_digest(case), [])
        near = None if same else self._nearest(case)
        for name in same or filter(None, [near]):
            if agree(case, self._cases[name]):
                return self._counted(name, case)
        if same:
            return _conflict(self._cases[same[0]])
        if self._room.get(case.source, 1) <= 0:
            cap = f"the skill has all the cases that feedback.caps.{case.source} allows"
            return Filed(outcome="full", case=case, detail=cap)
        return self._new(case, near=near, side=side)

    def _within(self, case: Fixture) -> str | None:
        """The id of a case that is in this one, or that has this one in it.

        If several are and they are on two sides, no train case is to have a held-out one in it.
        """
        text = _bare(_text(case))
        inner = [name for one in _beginnings(case) for name in self._asked.get(one, ())]
        inner += [name for name, said in self._said.items() if said in text and _is_quotable(said)]
        outer = list(self._begun.get(input_digest(case), ()))
        if _is_quotable(text):
            outer += [name for name, said in self._said.items() if text in said]
        sealed = [name for name in inner if self._cases[name].split != "train"]
        taught = [name for name in outer if self._cases[name].split == "train"]
        return next(iter([*sealed, *taught, *inner, *outer]), None)

    def _nearest(self, case: Fixture) -> str | None:
        """The id of the fixture most like a case, if one is near enough."""
        from rapidfuzz import fuzz, process  # noqa: PLC0415 - heavy

        found = process.extractOne(
            _text(case), self._texts, scorer=fuzz.ratio, score_cutoff=self._rules.near
        )
        return found[2] if found else None

    def _counted(self, name: str, case: Fixture) -> Filed:
        there = self._cases[name]
        if there.source in OWNED:
            there = self._cases[name] = there.with_(count=there.count + case.count)
        where = f"the case {name}" if there.split == "train" else "a case that is held out"
        return Filed(outcome="counted", case=there, detail=f"{where} says the same already")

    def _new(self, case: Fixture, *, near: str | None, side: Split | None) -> Filed:
        kin = near or self._within(case)
        other = self._cases[kin] if kin is not None else None
        new = case.with_(
            id=case.id if case.id != UNNAMED else self._name(case),
            split=other.split if other else side or side_of(case, ratio=self._rules.ratio),
            cluster=case.cluster or ((other.cluster or other.id) if other else None),
        )
        self._cases[new.id] = new
        self._see(new)
        if new.source in self._room:
            self._room[new.source] -= 1
        how = "which is nearly the same" if near else "as one has the other in it"
        beside = f", beside the case {kin}, {how}" if other else ""
        where = f"train{beside}" if new.split == "train" else "the held-out cases"
        return Filed(outcome="new", case=new, detail=f"it joins {where}")

    def _see(self, case: Fixture) -> None:
        self._asked.setdefault(input_digest(case), []).append(case.id)
        self._texts[case.id] = _text(case)
        self._said[case.id] = _bare(self._texts[case.id])
        for one in _beginnings(case):
            self._begun.setdefault(one, []).append(case.id)

    def _name(self, case: Fixture) -> str:
        names = (name_of(case, digits=digits) for digits in _DIGITS)
        return next(name for name in names if name not in self._cases)


UNNAMED: Final = "case"  # the id of a case whose name is to be made of its content


def name_of(case: Fixture, *, digits: int = _DIGITS[0]) -> str:
    """The id that a case's content gives it: what is expected, and a digest of the input."""
    expected = case.expected if isinstance(case.expected, str) else ""
    slug = re.sub(r"[^a-z0-9_]+", "-", expected.casefold()).strip("-_")[:_SLUG].strip("-_")
    return f"{slug or 'case'}-{input_digest(case)[:digits]}"


def side_of(case: Fixture, *, ratio: float) -> Split:
    """The side that a case's input gives it; ``ratio`` is the share of train, in [0, 1]."""
    # A digest of its own: who sorts by the plain one would find one side first.
    share = int(digest("side", input_digest(case))[:8], 16) / 2**32
    return "train" if share < ratio else "holdout"


def asks_nearly(
    asked: str | tuple[Message, ...], context: str | None, case: Fixture, *, near: float = 90.0
) -> bool:
    """Whether nearly the same is asked as in a case; ``near`` as in ``Rules``."""
    from rapidfuzz import fuzz  # noqa: PLC0415 - heavy

    one = case.with_(input=asked, context=context)
    return input_digest(one) == input_digest(case) or fuzz.ratio(_text(one), _text(case)) >= near


def agree(one: Fixture, other: Fixture) -> bool:
    """Whether two cases expect the same."""
    return canonical_json(one.expected) == canonical_json(other.expected)


def input_digest(fixture: Fixture) -> Digest:
    """Names what is asked, whatever its case, white space or Unicode composition."""
    return _digest(_turns(fixture), fixture.context)


def _beginnings(case: Fixture) -> list[Digest]:
    """Names the conversations that this one goes on from: what was asked at each earlier turn."""
    turns = _turns(case)
    ends = (end for end in range(1, len(turns)) if turns[end - 1].role == "user")
    return [_digest(turns[:end], case.context) for end in ends]


def _turns(case: Fixture) -> tuple[Message, ...]:
    given = case.input
    return (Message(role="user", content=given),) if isinstance(given, str) else given


def _digest(turns: Sequence[Message], context: str | None) -> Digest:
    said = [[turn.role, folded(turn.content)] for turn in turns]
    return digest("input", said, None if context is None else folded(context))


def folded(text: str) -> str:
    """A text without its case, its white space and its way of composing characters."""
    return " ".join(unicodedata.normalize("NFD", text.casefold()).split())


def _text(case: Fixture) -> str:
    return folded("\n".join(filter(None, (case.input_text, case.context))))


def _bare(text: str) -> str:
    """The words of a text, each between spaces: what is between them makes no difference."""
    return f" {' '.join(words.words(unicodedata.normalize('NFKC', text)))} "


def _is_quotable(bare: str) -> bool:
    return words.says(bare.split()) >= words.RUN


def _conflict(there: Fixture) -> Filed:
    where = f"the case {there.id}" if there.split == "train" else "a case that is held out"
    detail = f"{where} has the same input, and expects something else"
    return Filed(outcome="conflict", case=there, detail=detail)
