"""What waiting corrections come to on the fixtures of the base."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from skill_ratchet.cases import batch
from skill_ratchet.core.golden import Caps, Rules, input_digest
from skill_ratchet.core.records import Correction, Fixture, Settled
from skill_ratchet.github import intake_page
from skill_ratchet.project.fixtures import dump_jsonl

AT: Final = "2026-01-0{}T00:00:00.000000+00:00"
RULES: Final = Rules(ratio=1.0)
SEALED: Final = "The zebra lost its card in the garden"


def said(text: str, expected: Any = "yes", *, number: int = 1, **changes: Any) -> Correction:
    """A correction of a case of train, the ``number``-th that came in."""
    given: dict[str, Any] = {
        "skill": "triage",
        "version": None,
        "fixture": "x",
        "split": "train",
        "input": text,
        "output": None,
        "expected": expected,
        "why": None,
        "author": "ada",
        "at": AT.format(number),
        "link": f"https://github.com/o/r/issues/{number}",
        "via": "comment",
        **changes,
    }
    case = Fixture(id="case", split="train", input=text)
    link = given["link"]
    name = Correction.name(skill="triage", asked=input_digest(case), expected=expected, link=link)
    return Correction(id=name, **given)


def case(text: str, expected: Any = "yes", **changes: Any) -> Fixture:
    return Fixture(
        **{"id": "there", "split": "train", "input": text, "expected": expected} | changes
    )


def settled(*done: Correction, merged: bool, pull: int = 1) -> Settled:
    ids = tuple(one.id for one in done)
    return Settled(skill="triage", pull=pull, merged=merged, corrections=ids, at=AT.format(9))


def gather(*known: Correction, **changes: Any) -> batch.Batch:
    given: dict[str, Any] = {"settled": (), "existing": (), "rules": RULES} | changes
    return batch.gather("triage", known, **given)


def test_new_cases_in_the_order_they_came() -> None:
    two, one = said("How do I pay in euros?", number=2), said("My card is gone", number=1)
    found = gather(two, one)
    assert [one.input for one in found.added] == ["My card is gone", "How do I pay in euros?"]
    assert found.taken == (one, two)
    first = found.added[0]
    assert (first.source, first.author, first.date) == ("correction", "ada", "2026-01-01")
    assert first.correction == "yes", "without a reason it is what was expected"


def test_said_twice_is_counted() -> None:
    found = gather(said("My card is gone"), said("my card is GONE ", number=2))
    assert [one.count for one in found.added] == [2]
    assert len(found.taken) == 2


def test_a_case_keeps_the_side_it_was_recorded_on() -> None:
    """What was kept with the train cases has been seen, whatever is like it by now."""
    held_out = case("My card is gone now", split="holdout")
    found = gather(said("My card is gone!"), existing=[held_out.with_(expected="no")])
    assert [one.split for one in found.added] == ["train"]
    sealed = said(SEALED, split="holdout")
    assert [one.split for one in gather(sealed).added] == ["holdout"]
    assert gather(sealed).added[0].correction is None, "nobody learns from it"
    beside_the_vault = said(SEALED, split="vault")
    assert [one.split for one in gather(beside_the_vault).added] == ["holdout"]


def test_another_expectation_is_for_people() -> None:
    other = said("My card is gone", expected="no")
    found = gather(other, existing=[case("My card is gone")])
    assert (found.is_empty, found.conflicts, found.taken) == (True, (other,), ())


def test_a_persons_own_case_is_never_counted() -> None:
    assert gather(said("My card is gone"), existing=[case("My card is gone")]).is_empty


@pytest.mark.parametrize(
    ("there", "known", "count"),
    [(1, 1, None), (1, 2, 2), (2, 2, None), (6, 2, None), (1, 3, 3)],
)
def test_a_count_is_how_many_say_so(there: int, known: int, count: int | None) -> None:
    """Also where the terminal has counted it by itself, and where an import counted more."""
    own = case("My card is gone", id="own", source="correction", count=there)
    cases = [said("My card is gone", number=n + 1, fixture="own") for n in range(known)]
    found = gather(*cases, existing=[own])
    assert [one.count for one in found.raised] == ([] if count is None else [count])


def test_what_was_settled_waits_no_more() -> None:
    one, two = said("My card is gone"), said("How do I pay in euros?", number=2)
    assert gather(one, two, settled=[settled(one, merged=False)]).taken == (two,)
    again = said("My card is gone", number=3)
    assert gather(one, again, settled=[settled(one, merged=False)]).taken == (again,)


def test_a_no_is_not_counted() -> None:
    one, two = (said("My card is gone", number=n, fixture="own") for n in (1, 2))
    own = case("My card is gone", id="own", source="correction")
    assert gather(one, two, settled=[settled(one, merged=False)], existing=[own]).is_empty
    found = gather(one, two, settled=[settled(one, merged=True)], existing=[own])
    assert [one.count for one in found.raised] == [2]


def test_more_than_the_cap_stay_on_the_ledger() -> None:
    one, two = said("My card is gone"), said("How do I pay in euros?", number=2)
    found = gather(one, two, rules=RULES.with_(caps=Caps(correction=1)))
    assert (found.taken, found.full) == ((one,), (two,))


def test_where_a_case_would_be_is_known_over_the_cap_too() -> None:
    new = Fixture(id="case", split="holdout", input=SEALED, expected="yes", source="correction")
    rules = Rules(ratio=0.0, caps=Caps(correction=0))
    filed = batch.find_home(new, after=(), existing=(), rules=rules)
    assert (filed.outcome, filed.case.split) == ("full", "holdout")
    assert filed.case.id.startswith("yes-")


# Files


def test_every_case_goes_to_a_file_of_the_bots() -> None:
    for source in ("authored", "correction", "production"):
        assert batch.path_of(case("a", source=source), folder="f") in batch.own_paths("f")


LINES: Final = dump_jsonl([case("a", id="a"), case("b\u2028c", id="b", count=2)])


def test_counts_are_raised_in_their_lines_alone() -> None:
    text = "\n" + LINES.replace('"id": "a"', '"id":"a"')
    new = batch.with_counts(text, [case("b", id="b", count=5)])
    assert new == text.replace('"count": 2', '"count": 5')
    assert batch.with_counts(LINES, []) == LINES
    first = batch.with_counts(LINES, [case("a", id="a", count=2)])
    assert json.loads(first.split("\n")[0])["count"] == 2
    assert batch.grown(LINES, first)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", LINES),
        (LINES, LINES),
        (LINES, LINES + '{"id": "c"}\n'),
        (LINES.rstrip("\n"), LINES),
        (LINES, LINES.replace('"count": 2', '"count": 3')),
    ],
)
def test_what_has_grown(before: str, after: str) -> None:
    assert batch.grown(before, after)


@pytest.mark.parametrize(
    "after",
    [
        "",
        LINES.split("\n", 1)[1],
        '{"id": "c"}\n' + LINES,
        LINES.replace('"count": 2', '"count": 1'),
        LINES.replace('"count": 2', '"count": true'),
        LINES.replace('"count": 2', '"count": "3"'),
        LINES.replace('"expected": "yes"', '"expected": "no"', 1),
        LINES.replace('"id": "a"', '"id": "z"'),
        LINES.replace('"count": 2', '"count": 3, "tags": ["x"]'),
        "\n".join(reversed(LINES.split("\n"))),
        "not JSON\n" + LINES,
    ],
)
def test_what_must_not_pass_for_growth(after: str) -> None:
    assert not batch.grown(LINES, after)


# The page


def test_the_page_has_no_held_out_text() -> None:
    open_one = said("My card is gone", author="@ada <b>")
    sealed = said(SEALED, "zebra_label", number=2, split="holdout", author="eve")
    contradiction = said(SEALED, "other_label", number=3, split="holdout", fixture="zebra_label-1")
    page = intake_page.body(
        [gather(open_one, sealed, contradiction)], repository="https://github.com/o/r"
    )
    assert "1 train case, 1 held-out" in page
    assert "`yes-" in page
    assert "https://github.com/o/r/issues/1" in page
    for word in ("zebra", "garden", "_label", "eve", "issues/2", "issues/3", "@ada", "<b>"):
        assert word not in page.replace("@\u200bada", "")
    assert "expects something else than a case that is held out" in page
    ids = {one.id[:12] for one in (open_one, sealed, contradiction)}
    assert intake_page.named(page) == ids


def test_a_link_that_leads_elsewhere_is_no_link() -> None:
    one = said("My card is gone", link="https://evil.example/x")
    page = intake_page.body([gather(one)], repository="https://github.com/o/r")
    assert "evil" not in page


def test_a_page_of_thousands_keeps_its_marker_and_ids() -> None:
    many = [said(f"case {n} " + "abcdefgh"[n % 8] * (n + 20), number=1) for n in range(600)]
    page = intake_page.body(
        [gather(*many, rules=Rules(ratio=1.0, near=100))], repository="https://github.com/o/r"
    )
    assert len(page) <= 65_536
    assert page.startswith("<!-- ratchet:pull fixtures -->\n")
    assert len(intake_page.named(page)) == 600
    assert "more" in page


@pytest.mark.parametrize("text", ["", "Ratchet-Corrections:", "Ratchet-Corrections: zz", "x"])
def test_a_page_that_names_nothing(text: str) -> None:
    assert intake_page.named(text) == frozenset()
