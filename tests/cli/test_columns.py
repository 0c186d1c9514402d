"""Text in columns: what fits, what is wrapped, what is cut, whatever characters there are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from skill_ratchet.cli import columns

LONG = "several words that are longer than a line"


def drawn(rows: list[tuple[str, ...]], **told: Any) -> list[str]:
    return ["".join(line).rstrip() for line in columns.lines(rows, **told)]


@pytest.mark.parametrize(
    ("rows", "told", "expected"),
    [
        ([("a", "b"), ("long", "c")], {}, ["a     b", "long  c"]),
        ([("a", "b"), ("long", "c")], {"gap": 1, "right": (0,)}, ["   a b", "long c"]),
        ([("返金", "b"), ("a", "b")], {}, ["返金  b", "a     b"]),
        ([("e\u0301", "b"), ("ab", "b")], {}, ["e\u0301   b", "ab  b"]),
        ([("a", LONG)], {"cut": 1}, ["a  several words th…"]),
        ([("a", LONG)], {"cut": 1, "ellipsis": "~"}, ["a  several words th~"]),
        ([("a", "返金返金返金返金返金")], {"cut": 1}, ["a  返金返金返金返金…"]),
        (
            [("a", LONG)],
            {"wraps": (1,)},
            ["a  several words", "   that are longer", "   than a line"],
        ),
        ([("a", "two\nlines")], {"wraps": (1,)}, ["a  two", "   lines"]),
        ([("x" * 30, "a", "b")], {}, ["x" * 14 + "  a  b", "x" * 14, "xx"]),
        ([("x" * 30, LONG)], {"cut": 1, "wraps": ()}, ["x" * 17 + "  …"]),
        ([("", "")], {}, [""]),
    ],
)
def test_cells_are_as_wide_as_their_columns(
    rows: list[tuple[str, ...]], told: dict[str, Any], expected: list[str]
) -> None:
    assert drawn(rows, width=20, **told) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [""]),
        ("two words", ["two words"]),
        ("two words more", ["two words", "more"]),
        ("a\n\nb", ["a", "", "b"]),
        ("0123456789abc d", ["0123456789", "abc d"]),
        ("ab 0123456789abc", ["ab", "0123456789", "abc"]),
        ("返金返金返金", ["返金返金返", "金"]),
        ("a\tb", ["a       b"]),
        ("   indented", ["   indente", "d"]),
    ],
)
def test_text_is_broken_between_words(text: str, expected: list[str]) -> None:
    assert columns.wrap(text, 10) == expected


WORDS = st.text("ab 返\u0301\n👩\u200d", max_size=30)


@given(rows=st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1), wide=st.integers(12, 30))
def test_no_line_is_too_wide_and_no_word_is_lost(
    rows: list[tuple[str, str, str]], wide: int
) -> None:
    lines = list(columns.lines(rows, width=wide))
    assert max(cell_len("".join(line).rstrip()) for line in lines) <= wide
    for column in range(3):
        said = "".join(line[column] for line in lines)
        assert "".join(said.split()) == "".join("".join(row[column] for row in rows).split())
