"""Edits change what they say and nothing else, and a change stays inside one file."""

from __future__ import annotations

import difflib
import subprocess
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.core.edits import (
    MAX_BYTES,
    Change,
    EditError,
    EditProblem,
    Limits,
    apply,
    changed_lines,
    check_paths,
    unified_diff,
)
from skill_ratchet.core.records import AddLines, Edit, Replace, Rewrite

if TYPE_CHECKING:
    from pathlib import Path

SKILL = "---\nname: x\n---\n\n# Rules\n\n- one\n- two\n- two and a half\n\n# End\n"
WIDE = Limits(operations=("add", "replace", "rewrite"), max_lines=1000)
PATH = "skills/x/SKILL.md"


def add(lines: str, after: str | None = None) -> AddLines:
    return AddLines(lines=lines, after=after)


def swap(old: str, new: str) -> Replace:
    return Replace(old=old, new=new)


@pytest.mark.parametrize(
    ("text", "edits", "expected"),
    [
        pytest.param("a\nb\n", [add("c")], "a\nb\nc\n", id="add at the end"),
        pytest.param("a\nb\n", [add("c\nd\n")], "a\nb\nc\nd\n", id="several lines"),
        pytest.param("a\nb\n", [add("x", "a")], "a\nx\nb\n", id="add after a line"),
        pytest.param(
            "a\nb\n", [add("x", "a\n")], "a\nx\nb\n", id="the anchor's newline is no part"
        ),
        pytest.param("a\nab\n", [add("x", "a")], "a\nx\nab\n", id="an anchor is a whole line"),
        pytest.param("a\nb", [add("c")], "a\nb\nc", id="no final newline stays so"),
        pytest.param("a\nb", [add("c\n\n")], "a\nb\nc", id="not even with blank lines"),
        pytest.param("a\nb", [add("x", "b")], "a\nb\nx", id="after an unfinished last line"),
        pytest.param("", [add("a")], "a\n", id="an empty file gets a newline"),
        pytest.param("a\nb\n", [swap("b", "B")], "a\nB\n", id="replace"),
        pytest.param("a\nb\nc\n", [swap("a\nb", "x")], "x\nc\n", id="replace across lines"),
        pytest.param("a\nb\n", [swap("b\n", "")], "a\n", id="remove a line"),
        pytest.param("a\nb\n", [swap("b\n", "c")], "a\nc\n", id="the final newline comes back"),
        pytest.param("a.b\naxb\n", [swap("a.b", "c")], "c\naxb\n", id="old is text, no pattern"),
        pytest.param("a\n", [swap("a", r"\1\g<0>")], "\\1\\g<0>\n", id="new is text, no template"),
        pytest.param("a\nb\n", [Rewrite(text="c")], "c\n", id="rewrite"),
        pytest.param("a\nb", [Rewrite(text="c\n")], "c", id="rewrite without final newline"),
        pytest.param("a\r\nb\r\n", [add("c\nd")], "a\r\nb\r\nc\r\nd\r\n", id="CRLF file"),
        pytest.param("a\r\nb\r\n", [add("x", "a")], "a\r\nx\r\nb\r\n", id="CRLF anchor"),
        pytest.param("a\r\nb\r\nc\r\n", [swap("a\nb", "x\ny")], "x\r\ny\r\nc\r\n", id="CRLF old"),
        pytest.param("a\nb\n", [swap("a\r\nb", "x\r\ny")], "x\ny\n", id="CRLF edit, LF file"),
        pytest.param("a\r\nb\r\n", [swap("\nb", "\nc")], "a\r\nc\r\n", id="old begins at a CRLF"),
        pytest.param("a\r\nb\nc\r\n", [swap("b", "B")], "a\r\nB\nc\r\n", id="mixed newlines stay"),
        pytest.param("a\r\nb\r\n", [Rewrite(text="c\nd\n")], "c\r\nd\r\n", id="CRLF rewrite"),
        pytest.param("a\n", [add("b"), add("c")], "a\nb\nc\n", id="adds keep their order"),
        pytest.param("a\nb\n", [swap("b", "a"), swap("a", "b")], "b\na\n", id="original text"),
        pytest.param("ab\n", [swap("a", "x"), swap("b", "y")], "xy\n", id="neighbours"),
        pytest.param("a\nb\n", [swap("b\n", "x\n"), add("c")], "a\nx\nc\n", id="replace, then add"),
        pytest.param(
            "a\nb\n", [swap("b", "x"), add("c", "a")], "a\nc\nx\n", id="add, then replace"
        ),
        pytest.param(
            "a\u2028b\x0cc\nd\n", [swap("d", "e")], "a\u2028b\x0cc\ne\n", id="only LF ends"
        ),
        pytest.param("\u202ea\n", [add("b")], "\u202ea\nb\n", id="a control that was there"),
        pytest.param("a\n", [add("\u06cc\u200c\u062e")], "a\n\u06cc\u200c\u062e\n", id="Persian"),
        pytest.param(
            "a\n",
            [add("❤\ufe0f\u200d🔥 1\ufe0f\u20e3")],
            "a\n❤\ufe0f\u200d🔥 1\ufe0f\u20e3\n",
            id="emoji",
        ),
        pytest.param("a\n", [add("\tb")], "a\n\tb\n", id="tab"),
    ],
)
def test_edits_apply(text: str, edits: list[Edit], expected: str) -> None:
    assert apply(text, edits, limits=WIDE) == expected


P = EditProblem


@pytest.mark.parametrize(
    ("edits", "code", "words"),
    [
        pytest.param([], P.NO_EDITS, "no edits", id="none"),
        pytest.param([add("x", "- three")], P.NOT_FOUND, "'- three'", id="anchor not found"),
        pytest.param([add("x", "two")], P.NOT_FOUND, "'two'", id="an anchor is no part of a line"),
        pytest.param([add("x", "- one\n- two")], P.NOT_FOUND, "not in", id="anchor of two lines"),
        pytest.param([add("x", "---")], P.AMBIGUOUS, "2 times (lines 1, 3)", id="anchor twice"),
        pytest.param([add("x", "")], P.AMBIGUOUS, "3 times (lines 4, 6, 10)", id="blank anchor"),
        pytest.param([swap("three", "3")], P.NOT_FOUND, "'three'", id="old not found"),
        pytest.param([swap("Two", "2")], P.NOT_FOUND, "'Two'", id="case counts"),
        pytest.param([swap("two", "2")], P.AMBIGUOUS, "2 times (lines 8, 9)", id="old twice"),
        pytest.param(
            [swap("--", "")], P.AMBIGUOUS, "4 times (lines 1, 1, 3, 3)", id="occurrences overlap"
        ),
        pytest.param(
            [swap("one", "1"), swap("- one", "x")], P.OVERLAP, "line 7", id="two replaces"
        ),
        pytest.param(
            [swap("one", "1"), swap("one", "1")], P.OVERLAP, "line 7", id="the same twice"
        ),
        pytest.param(
            [swap("one\n- two\n", "x"), add("y", "- one")], P.OVERLAP, "line 8", id="add within"
        ),
        pytest.param(
            [swap("# End\n", "x"), add("y")], P.OVERLAP, "line 12", id="add glued to new text"
        ),
        pytest.param([Rewrite(text="x"), add("y")], P.OVERLAP, "only edit", id="rewrite and more"),
        pytest.param([swap("one", "one")], P.NO_CHANGE, "changes nothing", id="same text"),
        pytest.param([Rewrite(text=SKILL)], P.NO_CHANGE, "changes nothing", id="same file"),
        pytest.param(
            [Rewrite(text=SKILL.replace("\n", "\r\n"))], P.NO_CHANGE, "nothing", id="newlines"
        ),
        pytest.param(
            [swap("one", "2"), swap("two and", "one and")], None, "", id="sanity: applies"
        ),
        pytest.param([add("x\0")], P.CONTROL_CHARACTER, "U+0000", id="NUL"),
        pytest.param([add("x\x1b[31m")], P.CONTROL_CHARACTER, "U+001B", id="terminal escape"),
        pytest.param([add("x\ry")], P.CONTROL_CHARACTER, "U+000D", id="lone carriage return"),
        pytest.param([add("x\x85y")], P.CONTROL_CHARACTER, "U+0085", id="C1 control"),
        pytest.param([add("x\u2028y")], P.CONTROL_CHARACTER, "LINE SEPARATOR", id="line separator"),
        pytest.param([add("\ud800")], P.CONTROL_CHARACTER, "D800", id="surrogate"),
        pytest.param([add("\u202ex")], P.INVISIBLE_CHARACTER, "RIGHT-TO-LEFT OVERRIDE", id="bidi"),
        pytest.param(
            [swap("one", "o\u2066ne")], P.INVISIBLE_CHARACTER, "U+2066", id="bidi isolate"
        ),
        pytest.param([add("a\u200bb")], P.INVISIBLE_CHARACTER, "ZERO WIDTH SPACE", id="zero width"),
        pytest.param(
            [add("a\u200db")], P.INVISIBLE_CHARACTER, "U+200D", id="joiner between letters"
        ),
        pytest.param([add("\ufeffx")], P.INVISIBLE_CHARACTER, "U+FEFF", id="byte order mark"),
        pytest.param([add("x\U000e0041")], P.INVISIBLE_CHARACTER, "TAG LATIN", id="tag characters"),
        pytest.param([add("x\U000e0101")], P.INVISIBLE_CHARACTER, "VARIATION", id="selector"),
        pytest.param([add("é\ufe0f\ufe0f")], P.INVISIBLE_CHARACTER, "U+FE0F", id="two selectors"),
        pytest.param(
            [Rewrite(text="\u200b" + SKILL)], P.INVISIBLE_CHARACTER, "U+200B", id="rewrite"
        ),
        pytest.param(
            [Rewrite(text="x" * (MAX_BYTES + 1))], P.TOO_LONG, "1,000,000", id="a megabyte"
        ),
        pytest.param([Rewrite(text="€" * 400_000)], P.TOO_LONG, "bytes", id="bytes count, too"),
    ],
)
def test_edits_that_do_not_apply(edits: list[Edit], code: EditProblem | None, words: str) -> None:
    if code is None:
        assert apply(SKILL, edits, limits=WIDE) != SKILL
        return
    with pytest.raises(EditError) as caught:
        apply(SKILL, edits, limits=WIDE)
    assert caught.value.code is code
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("edit", "limits", "code"),
    [
        pytest.param(add("x"), Limits(operations=("replace",)), P.NOT_ALLOWED, id="add"),
        pytest.param(Rewrite(text="x"), Limits(), P.NOT_ALLOWED, id="no rewrite unless broadened"),
        pytest.param(add("x\ny\nz"), Limits(max_lines=2), P.TOO_MANY_LINES, id="added"),
        pytest.param(
            swap("one", "1"), Limits(max_lines=1), P.TOO_MANY_LINES, id="added and removed"
        ),
        pytest.param(
            swap("- one\n- two\n", "x\n"), Limits(max_lines=2), P.TOO_MANY_LINES, id="removed"
        ),
        pytest.param(add("12345"), Limits(max_chars=len(SKILL) + 5), P.TOO_LONG, id="characters"),
        pytest.param(add("x"), Limits(max_chars=10), P.TOO_LONG, id="longer than it already is"),
    ],
)
def test_limits_refuse(edit: Edit, limits: Limits, code: EditProblem) -> None:
    with pytest.raises(EditError) as caught:
        apply(SKILL, [edit], limits=limits)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("edit", "limits"),
    [
        (add("x\ny\nz"), Limits(max_lines=3)),
        (swap("one", "1"), Limits(max_lines=2)),
        (add("1234"), Limits(max_chars=len(SKILL) + 5)),
        (swap("- one\n", ""), Limits(max_chars=10)),
    ],
    ids=["added", "added and removed", "characters", "a long file may be shortened"],
)
def test_limits_allow_their_own_value(edit: Edit, limits: Limits) -> None:
    assert apply(SKILL, [edit], limits=limits) != SKILL


SETTINGS = settings(deadline=None, max_examples=60)  # a busy machine is no failure
LINE = st.text(
    st.characters(
        categories=["L", "N", "P", "S"], exclude_characters="\u115f\u1160\u3164\uffa0\ufffc"
    ),
    min_size=1,
    max_size=6,
)
NEWLINE = st.sampled_from(["\n", "\r\n"])


@st.composite
def files(draw: st.DrawFn) -> tuple[list[str], str, bool]:
    """Distinct lines, how they end, and whether the last one does."""
    lines = draw(st.lists(LINE, min_size=2, max_size=12, unique=True))
    return [f"{n} {line}" for n, line in enumerate(lines)], draw(NEWLINE), draw(st.booleans())


def join(lines: list[str], newline: str, *, final: bool) -> str:
    return newline.join(lines) + (newline if final else "")


@SETTINGS
@given(files(), st.lists(LINE, min_size=1, max_size=4), st.data())
def test_add_touches_no_other_line(
    file: tuple[list[str], str, bool], new: list[str], data: st.DataObject
) -> None:
    lines, newline, final = file
    at = data.draw(st.integers(0, len(lines) - 1))
    text = join(lines, newline, final=final)
    after = data.draw(st.sampled_from([lines[at], lines[at] + newline]))
    given_lines = data.draw(NEWLINE).join(new)
    result = apply(text, [add(given_lines, after)], limits=WIDE)
    assert result == join([*lines[: at + 1], *new, *lines[at + 1 :]], newline, final=final)
    assert apply(text, [add(given_lines)], limits=WIDE) == join(
        [*lines, *new], newline, final=final
    )
    if final:
        assert changed_lines(text, result) == len(new)


@SETTINGS
@given(files(), st.data())
def test_replace_touches_no_other_line(
    file: tuple[list[str], str, bool], data: st.DataObject
) -> None:
    """Any set of lines can be replaced at once, in any order, and the others stay."""
    lines, newline, final = file
    text = join(lines, newline, final=final)
    chosen = data.draw(st.lists(st.sampled_from(lines), min_size=1, unique=True))
    new = {line: f"new {line}" for line in chosen}
    edits = [
        swap(f"{newline}{line}", f"\n{new[line]}") if line != lines[0] else swap(line, new[line])
        for line in chosen
        if text.count(line) == 1
    ]
    if not edits:
        return
    changed = {line for line in chosen if text.count(line) == 1}
    expected = [new[line] if line in changed else line for line in lines]
    assert apply(text, edits, limits=WIDE) == join(expected, newline, final=final)


@SETTINGS
@given(
    st.text(max_size=40),
    st.lists(
        st.builds(add, st.text(max_size=5), st.text(max_size=3))
        | st.builds(swap, st.text(min_size=1, max_size=3), st.text(max_size=3))
        | st.builds(Rewrite, text=st.text(max_size=9)),
        max_size=3,
    ),
)
def test_any_edit_applies_or_is_refused(text: str, edits: list[Edit]) -> None:
    """No other exception, and what applies is different and within the limits."""
    limits = WIDE.with_(max_lines=3)
    try:
        result = apply(text, edits, limits=limits)
    except EditError:
        return
    assert result != text
    assert 1 <= changed_lines(text, result) <= 3
    assert bool(result) <= (result.endswith("\n") == (text.endswith("\n") or not text))


@cache
def lcs(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    if not a or not b:
        return 0
    return max(
        lcs(a[1:], b), lcs(a, b[1:]), (a[0] == b[0]) + lcs(a[1:], b[1:]) if a[0] == b[0] else 0
    )


@SETTINGS
@given(*[st.text("ab\n", max_size=16)] * 2)
def test_changed_lines_is_the_fewest(before: str, after: str) -> None:
    a, b = (tuple(t.splitlines(keepends=True)) for t in (before, after))
    least = changed_lines(before, after)
    assert least == len(a) + len(b) - 2 * lcs(a, b)
    shown = [line for line in difflib.ndiff(a, b) if line[0] in "+-"]
    assert least <= len(shown)


def test_changed_lines_of_hostile_texts_are_counted_quickly() -> None:
    """Thousands of equal lines are where a quadratic count would hang."""
    assert changed_lines("\n" * 20_000, "x\n" + "\n" * 19_000) == 1_001


def test_changed_lines_sees_line_endings() -> None:
    assert changed_lines("a\nb\n", "a\r\nb\n") == 2
    assert changed_lines("a\nb\n", "a\nb") == 2
    assert changed_lines("a\n", "a\n") == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb\nc\n", "a\nB\nc\n"),
        ("a\nb", "a\nb\nc"),
        ("a\nb", "a\nb\n"),
        ("a\r\nb\r\n", "a\r\nB\r\n"),
        ("a\x0cb\u2028c\nd\n", "a\x0cb\u2028c\ne\n"),
        ("\n" * 50 + "é\n", "\n" * 50 + "è\n"),
    ],
)
def test_the_diff_is_one_git_applies(tmp_path: Path, before: str, after: str) -> None:
    target = tmp_path / PATH
    target.parent.mkdir(parents=True)
    target.write_bytes(before.encode())
    patch = unified_diff(before, after, path=PATH)
    subprocess.run(["git", "apply"], cwd=tmp_path, input=patch.encode(), check=True)
    assert target.read_bytes() == after.encode()


def test_no_change_is_an_empty_diff() -> None:
    assert unified_diff(SKILL, SKILL, path=PATH) == ""


def change(path: str = PATH, old: str = "100644", new: str = "100644", status: str = "M") -> Change:
    return Change(path=path, old_mode=old, new_mode=new, status=status)


@pytest.mark.parametrize("mode", ["100644", "100755"])
def test_the_one_change_that_is_allowed(mode: str) -> None:
    assert check_paths([change(old=mode, new=mode)], allowed=PATH) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param([], "no file", id="nothing"),
        pytest.param(
            [change(), change("README.md")], "outside the search space", id="one more file"
        ),
        pytest.param([change(), change()], "2 times", id="listed twice"),
        pytest.param([change("fixtures/x/train/1.yml")], "outside", id="fixtures"),
        pytest.param([change(".github/workflows/ci.yml")], "outside", id="workflow"),
        pytest.param([change("ratchet.yml", "000000", "100644", "A")], "outside", id="config"),
        pytest.param([change(f"{PATH}/x")], "outside", id="below the file"),
        pytest.param([change("skills/x")], "outside", id="its folder"),
        pytest.param([change(f"{PATH}.bak")], "outside", id="prefix"),
        pytest.param([change(f"../{PATH}")], "plain relative path", id="traversal"),
        pytest.param(
            [change("skills/x/../x/SKILL.md")], "plain relative path", id="inner traversal"
        ),
        pytest.param([change(f"./{PATH}")], "plain relative path", id="dot"),
        pytest.param([change(f"/{PATH}")], "plain relative path", id="absolute"),
        pytest.param([change("skills//x/SKILL.md")], "plain relative path", id="empty part"),
        pytest.param([change("skills\\x\\SKILL.md")], "plain relative path", id="backslash"),
        pytest.param([change("skills/.GIT/config")], "plain relative path", id=".git"),
        pytest.param([change("skills/x/SKILL.md\n")], "plain relative path", id="newline"),
        pytest.param([change("skills/x/\u200bSKILL.md")], "plain relative path", id="zero width"),
        pytest.param([change("")], "plain relative path", id="empty"),
        pytest.param([change("skills/x/skill.md")], "case or Unicode", id="case twin"),
        pytest.param([change("skills/x/\uff33KILL.md")], "case or Unicode", id="width twin"),
        pytest.param([change("skills/x/SKILL.md.")], "case or Unicode", id="trailing dot twin"),
        pytest.param([change(old="000000", status="A")], "status 'A'", id="added"),
        pytest.param([change(new="000000", status="D")], "status 'D'", id="deleted"),
        pytest.param([change(status="R100")], "status 'R100'", id="renamed"),
        pytest.param([change(status="C75")], "status 'C75'", id="copied"),
        pytest.param([change(new="120000", status="T")], "status 'T'", id="type"),
        pytest.param([change(status="X")], "status 'X'", id="unknown"),
        pytest.param([change(status="")], "status ''", id="no status"),
        pytest.param([change(new="120000")], "not a regular file", id="symlink"),
        pytest.param(
            [change(old="120000", new="120000")], "not a regular file", id="was a symlink"
        ),
        pytest.param([change(new="160000")], "not a regular file", id="submodule"),
        pytest.param([change(new="040000")], "not a regular file", id="folder"),
        pytest.param([change(new="100755")], "changes its mode", id="executable"),
    ],
)
def test_a_change_outside_the_search_space_is_refused(changes: list[Change], words: str) -> None:
    objections = check_paths(changes, allowed=PATH)
    assert len(objections) == 1
    assert words in objections[0]
    assert objections[0].isprintable()


def test_a_unicode_twin_is_shown_so_that_it_can_be_told_apart() -> None:
    allowed = "skills/caf\u00e9/SKILL.md"
    (objection,) = check_paths([change("skills/cafe\u0301/SKILL.md")], allowed=allowed)
    assert "case or Unicode" in objection
    assert r"cafe\u0301" in objection
    assert r"caf\xe9" in objection


@pytest.mark.parametrize(
    "allowed", ["../SKILL.md", "/SKILL.md", ".git/config", "a/.Git/hooks/x", ""]
)
def test_a_path_outside_the_tree_is_never_allowed(allowed: str) -> None:
    assert check_paths([change(allowed)], allowed=allowed)
