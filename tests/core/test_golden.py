"""How a golden dataset grows: nothing moves, nothing is overwritten, nothing drowns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.core.golden import (
    UNNAMED,
    Caps,
    Filed,
    Rules,
    Shelf,
    input_digest,
    name_of,
    side_of,
)
from skill_ratchet.core.records import Fixture, Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOST = "I have lost my card on the train to Leeds this morning, what now?"
LIKE = "I have lost my card on the train to Leeds this evening, what now?"
OTHER = "How much does it cost to send money to another country?"


def case(text: Any = LOST, expected: Any = "lost", **changes: Any) -> Fixture:
    given: dict[str, Any] = {"id": UNNAMED, "split": "holdout", "source": "correction"}
    return Fixture(**(given | {"input": text, "expected": expected} | changes))


def there(name: str = "mine", split: Any = "train", **changes: Any) -> Fixture:
    """A fixture that is there already, written by a person unless said otherwise."""
    given: dict[str, Any] = {"id": name, "split": split, "source": "authored"}
    return case(**(given | changes))


class Filing(NamedTuple):
    """What became of the cases given, in their order; what is to be written, and written anew."""

    filed: tuple[Filed, ...]
    added: tuple[Fixture, ...]
    changed: tuple[Fixture, ...]


def file(cases: Iterable[Fixture], *, existing: Sequence[Fixture], rules: Rules) -> Filing:
    shelf = Shelf(existing, rules=rules)
    filed = tuple(map(shelf.put, cases))
    before = {one.id: one for one in existing}
    after = before | {one.case.id: one.case for one in filed if one.outcome == "counted"}
    changed = (one for name, one in after.items() if name in before and one != before[name])
    return Filing(filed, shelf.added, tuple(changed))


def put(new: Fixture, *existing: Fixture, **rules: Any) -> Filing:
    return file([new], existing=existing, rules=Rules(**rules))


def outcome(filing: Filing) -> str:
    (filed,) = filing.filed
    return filed.outcome


# What becomes of a case -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "existing", "wanted"),
    [
        (case(), (), "new"),
        (case(OTHER), (there(),), "new"),
        (case(), (there(),), "counted"),
        (case(f"  {LOST.upper()}\n"), (there(),), "counted"),
        (case(LIKE), (there(),), "counted"),
        (case(expected="stolen"), (there(),), "conflict"),
        (case(LIKE, "stolen"), (there(),), "new"),
        (case(context="abroad"), (there(),), "counted"),
        (case(), (there(split="holdout"),), "counted"),
        (case(), (there(split="vault"),), "counted"),
        (case(expected="stolen"), (there(split="holdout"),), "conflict"),
        (case(expected={"b": 1, "a": 2}), (there(expected={"a": 2, "b": 1}),), "counted"),
        (case(expected=1), (there(expected=True),), "conflict"),
    ],
)
def test_outcome(new: Fixture, existing: tuple[Fixture, ...], wanted: str) -> None:
    assert outcome(put(new, *existing)) == wanted


def test_nearness_is_a_setting() -> None:
    assert outcome(put(case(LIKE), there(), near=100)) == "new"
    assert outcome(put(case(OTHER), there(), near=50)) == "new"


def test_what_agrees_with_any_case_of_that_input_is_no_conflict() -> None:
    two = (there("a", scorer={"type": "label"}), there("b", expected="stolen"))
    assert outcome(put(case(expected="stolen"), *two)) == "counted"
    assert outcome(put(case(expected="fee"), *two)) == "conflict"


# What must not happen -------------------------------------------------------------------------


@pytest.mark.parametrize("new", [case(), case(LIKE), case(expected="stolen"), case(LIKE, "stolen")])
@pytest.mark.parametrize("split", ["train", "holdout", "vault"])
def test_what_people_wrote_is_never_changed(new: Fixture, split: str) -> None:
    filing = put(new, there(split=split))
    assert filing.changed == ()
    assert "mine" not in {one.id for one in filing.added}


@pytest.mark.parametrize("split", ["train", "holdout", "vault"])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_near_duplicate_never_gets_to_the_other_side(split: str, ratio: float) -> None:
    (new,) = put(case(LIKE, "stolen"), there(split=split), ratio=ratio).added
    assert new.split == split
    assert new.cluster == "mine"


def talk(*said: str, **changes: Any) -> Fixture:
    """A conversation, the user's turns and the answers by turns."""
    roles = ("user", "assistant") * len(said)
    turns = [Message(role=role, content=text) for role, text in zip(roles, said, strict=False)]
    return case(tuple(turns), **({"expected": "go on"} | changes))


TURNS = (OTHER, "Two per cent, and at least a pound.", "And back?", "Nothing.", "Good. How long?")


@pytest.mark.parametrize("split", ["train", "holdout"])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (case(OTHER), talk(*TURNS[:3])),
        (talk(*TURNS[:3]), case(OTHER)),
        (case(OTHER), talk(*TURNS)),
        (talk(*TURNS[:3]), talk(*TURNS)),
        (talk(*TURNS[:3]).with_(context="x"), talk(*TURNS).with_(context="X")),
    ],
)
def test_a_conversation_never_gets_to_both_sides(
    first: Fixture, second: Fixture, split: Any, ratio: float
) -> None:
    """What was answered in the longer one is what is expected of the shorter one."""
    before = first.with_(id="mine", split=split, source="authored")
    (new,) = put(second, before, ratio=ratio).added
    assert (new.split, new.cluster) == (split, "mine")
    assert Shelf([before], rules=Rules(ratio=ratio)).home(second) == split


@pytest.mark.parametrize("split", ["train", "holdout"])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize(
    "quoting",
    [
        case(f"Hello again. I asked you: '{LOST}' and nobody has told me yet. Please do!"),
        case(
            "See below.\n\n> I have lost my card on\n> THE TRAIN to Leeds this\n> morning, what now"
        ),
        case("What about this one, then?", context=f"Mail of Monday: {LOST}"),
        talk("Good morning to you all!", "How can I help?", LOST),
    ],
)
def test_a_case_that_repeats_another_goes_to_its_side(
    quoting: Fixture, split: Any, ratio: float
) -> None:
    """In whichever order they come: the text of a held-out case is not to be seen on train."""
    for first, second in ((case(), quoting), (quoting, case())):
        before = first.with_(id="mine", split=split, source="authored")
        (new,) = put(second, before, ratio=ratio).added
        assert (new.split, new.cluster) == (split, "mine")


def test_an_instruction_that_all_cases_have_is_not_a_case() -> None:
    """Where the input is always the same, it is the context that makes the case."""
    ask = "Please sum up this letter in one sentence, for the files:"
    before = case(ask, context=LOST).with_(id="mine", split="holdout")
    (new,) = put(case(ask, context=OTHER), before, ratio=1).added
    assert (new.split, new.cluster) == ("train", None)


def test_a_short_text_is_in_many_others_by_chance() -> None:
    before = case("Hello, are you there?").with_(id="mine", split="holdout")
    (new,) = put(case(f"Hello, are you there? {OTHER}"), before, ratio=1).added
    assert (new.split, new.cluster) == ("train", None)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("other", [talk("Hi", *TURNS[1:3]), talk(*TURNS[:2], "What?")])
def test_another_conversation_goes_where_its_input_says(other: Fixture, ratio: float) -> None:
    before = talk(*TURNS[:3]).with_(id="mine", split="train" if ratio == 0 else "holdout")
    (new,) = put(other, before, ratio=ratio, near=100).added
    assert (new.split, new.cluster) == ("holdout" if ratio == 0 else "train", None)


@pytest.mark.parametrize(
    ("new", "held_out", "train", "wanted"),
    [
        (case(OTHER), talk(*TURNS[:2], "Why?"), talk(*TURNS[:3]), "train"),
        (talk(*TURNS), talk(*TURNS[:3]), case(OTHER), "holdout"),
        (talk(*TURNS), case(OTHER), talk(*TURNS[:3]), "holdout"),
        (talk(*TURNS[:3]), case(OTHER), talk(*TURNS), "holdout"),
    ],
)
def test_no_train_case_gets_the_answer_to_a_held_out_one(
    new: Fixture, held_out: Fixture, train: Fixture, wanted: str
) -> None:
    """Where a conversation is on two sides already."""
    before = [held_out.with_(id="h", split="holdout"), train.with_(id="t", split="train")]
    assert [one.split for one in put(new, *before).added] == [wanted]
    assert [one.split for one in put(new, *reversed(before)).added] == [wanted]


def test_nothing_said_names_a_held_out_case() -> None:
    """Its id tells what it expects."""
    for new in (case(), case(LIKE), case(expected="stolen"), case(LIKE, "stolen")):
        (filed,) = put(new, there("secret-9", "holdout")).filed
        assert "secret-9" not in filed.detail
        (seen,) = put(new, there("open-9", "train")).filed
        assert "open-9" in seen.detail


def test_a_conflict_writes_nothing() -> None:
    filing = put(case(expected="stolen"), there(source="correction"))
    assert (filing.added, filing.changed) == ((), ())


# Counting -------------------------------------------------------------------------------------


def test_a_case_of_the_bots_own_is_counted() -> None:
    own = there("own", source="production", count=3)
    filing = file([case(), case(LIKE, count=2)], existing=[own], rules=Rules())
    assert filing.changed == (own.with_(count=6),)
    assert filing.added == ()


def test_a_new_case_is_counted_too() -> None:
    filing = file([case(), case(LIKE), case()], existing=[], rules=Rules())
    (new,) = filing.added
    assert new.count == 3
    assert [one.outcome for one in filing.filed] == ["new", "counted", "counted"]


# Names and sides ------------------------------------------------------------------------------


def test_a_name_is_made_of_content() -> None:
    (new,) = put(case(expected="Lost or stolen!")).added
    assert new.id == f"lost-or-stolen-{input_digest(new)[:10]}"
    assert put(case(expected="Lost or stolen!")).added == (new,)


def test_a_name_that_is_taken_gets_more_digits() -> None:
    squatter = there(name_of(case()), input=OTHER)
    (new,) = put(case(), squatter).added
    assert new.id == name_of(case(), digits=16)


def test_a_name_of_its_own_stays() -> None:
    assert put(case(id="q-1")).added[0].id == "q-1"


@given(text=st.text(min_size=1, max_size=40), ratio=st.floats(0, 1))
@settings(max_examples=50)
def test_a_side_depends_on_the_input_alone(text: str, ratio: float) -> None:
    sides = {
        side_of(case(form, expected), ratio=ratio)
        for form in (text, f" {text}\t")
        for expected in ("a", "b")
    }
    assert len(sides) == 1
    if side_of(case(text), ratio=ratio) == "train":
        assert side_of(case(text), ratio=1.0) == "train"


def test_about_as_many_go_to_each_side_as_asked_for() -> None:
    texts = [f"message {n}" for n in range(400)]
    train = [side_of(case(text), ratio=0.25) for text in texts].count("train")
    assert 70 < train < 130


# Caps -----------------------------------------------------------------------------------------


def words(number: int) -> str:
    """Texts that are not like each other."""
    return " ".join(f"{word}{number**2}" for word in ("card", "fee", "pin", "rate"))


def test_a_flood_of_one_source_does_not_drown_the_rest() -> None:
    rules = Rules(near=100, caps=Caps(correction=3, production=2))
    flood = [case(words(n), source="production") for n in range(10)]
    said = [case(words(n), source="correction") for n in range(20, 24)]
    filing = file([*flood, *said], existing=[], rules=rules)
    sources = [one.source for one in filing.added]
    assert (sources.count("production"), sources.count("correction")) == (2, 3)
    assert [one.outcome for one in filing.filed].count("full") == 9
    assert "feedback.caps.production" in filing.filed[2].detail


def test_what_is_there_counts_towards_the_cap_and_what_people_write_does_not() -> None:
    rules = Rules(caps=Caps(correction=1))
    own = there("own", source="correction", input=OTHER)
    assert outcome(file([case()], existing=[own], rules=rules)) == "full"
    assert outcome(file([case(source="authored")], existing=[own], rules=rules)) == "new"
    assert outcome(file([case(OTHER)], existing=[own], rules=rules)) == "counted"


def test_where_a_case_has_to_be_can_be_asked_before() -> None:
    shelf = Shelf([there(split="vault", source="production")], rules=Rules())
    assert shelf.home(case()) == shelf.home(case(LIKE, "stolen")) == "vault"
    assert shelf.home(case(OTHER)) is None
    assert shelf.added == ()
    assert shelf.put(case()).case.count == 2, "what was only asked is not counted"
