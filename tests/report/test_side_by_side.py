"""A side-by-side view says all that changed, and nothing that did not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_ratchet.report.side_by_side import DiffRow, Piece, rows

WORDS = st.sampled_from(["a", "b", "cat", "dog", " ", "\n", "\n\n", ".", "\u2028"])
TEXTS = st.lists(WORDS, max_size=40).map("".join)


def text(pieces: tuple[Piece, ...]) -> str:
    return "".join(piece.text for piece in pieces)


def lines(content: str) -> list[str]:
    return content.removesuffix("\n").split("\n")


@given(old=TEXTS, new=TEXTS)
def test_both_texts_can_be_read_off_it(old: str, new: str) -> None:
    """Every line of both stands in a row with its number, or in a gap."""
    made = rows(old, new, context=10_000)
    if lines(old) == lines(new):
        assert made == ()
        return
    left = [(row.left, text(row.old)) for row in made if row.left is not None]
    right = [(row.right, text(row.new)) for row in made if row.right is not None]
    assert left == list(enumerate(lines(old), 1))
    assert right == list(enumerate(lines(new), 1))


@given(old=TEXTS, new=TEXTS)
def test_gaps_count_what_is_left_out(old: str, new: str) -> None:
    made = rows(old, new, context=1)
    shown = sum(row.gap if row.kind == "gap" else row.left is not None for row in made)
    assert shown == (len(lines(old)) if made else 0)


@given(old=TEXTS, new=TEXTS)
def test_what_is_not_marked_is_the_same_on_both_sides(old: str, new: str) -> None:
    for row in rows(old, new):
        if row.kind == "changed" and any(piece.changed for piece in (*row.old, *row.new)):
            kept = [
                "".join(piece.text for piece in side if not piece.changed)
                for side in (row.old, row.new)
            ]
            assert kept[0] == kept[1]


def test_changed_words_are_marked() -> None:
    (row,) = rows("Answer with one label.\n", "Answer with two labels.\n")
    assert row.kind == "changed"
    assert [piece.text for piece in row.old if piece.changed] == ["one", "label"]
    assert [piece.text for piece in row.new if piece.changed] == ["two", "labels"]


def test_lines_with_nothing_in_common_are_not_marked_word_by_word() -> None:
    (row,) = rows("alpha beta gamma\n", "1-2-3-4-5-6-7\n")
    assert row.old == (Piece("alpha beta gamma", changed=False),)


def test_a_very_long_line_is_compared_as_a_whole() -> None:
    (row,) = rows("word " * 300 + "a\n", "word " * 300 + "b\n")
    assert len(row.old) == 1


def test_far_lines_are_a_gap() -> None:
    old = "".join(f"line {number}\n" for number in range(30))
    made = rows(old, old.replace("line 15\n", ""))
    assert made[0] == DiffRow("gap", gap=12)
    assert [row.kind for row in made[1:-1]] == ["same"] * 3 + ["removed"] + ["same"] * 3
    assert made[-1] == DiffRow("gap", gap=11)


@pytest.mark.parametrize(("old", "new"), [("a\n", "a\n"), ("", ""), ("a\n", "a")])
def test_the_same_lines_have_no_rows(old: str, new: str) -> None:
    assert rows(old, new) == ()
