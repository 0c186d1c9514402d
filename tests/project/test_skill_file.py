"""Skill files: what a good one is, and what no edit may touch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.project.skill_file import (
    CLOSE,
    KNOWN,
    MAX_SKILL,
    OPEN,
    check,
    decode,
    frozen_parts,
    protected_changes,
    split_frontmatter,
)

PATH = "skills/triage/SKILL.md"
HEAD = """\
---
name: triage
description: Sorts messages. Use when a customer writes.
license: Apache-2.0
x-owner: payments  # ask them first
x-list:
  - one
  - two
metadata:
  version: 1.0
---
"""
FROZEN_A = f"{OPEN}\nNever ask for a PIN.\n\nNever.\n{CLOSE}\n"
FROZEN_B = f"{OPEN}\nAnswer with one label.\n{CLOSE}\n"
BODY = f"# Triage\n\nSort it.\n\n{FROZEN_A}\n- A rule.\n\n{FROZEN_B}"
SKILL = HEAD + BODY


def skill(head: str) -> str:
    return f"---\n{head}\n---\n\n# Do it\n"


def refused(
    after: str, *, before: str = SKILL, path: str = PATH, freeze: tuple[str, ...] = ()
) -> str:
    return "\n".join(protected_changes(before, after, path=path, freeze=freeze))


def test_a_file_is_decoded_as_it_is() -> None:
    text = "---\r\nname: é\r\n---\r\n\N{GRINNING FACE}\u2028"
    assert decode(text.encode(), path=PATH) == text


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"one\ntwo \xff", f"{PATH}:2: not UTF-8 text (byte 0xff at offset 8)"),
        (b"one\n\ntwo\x00", f"{PATH}:3: contains a NUL character"),
        (b"\xef\xbb\xbf---\n", f"{PATH}:1: starts with a byte order mark"),
        (b"\xff\xfea\x00", f"{PATH}:1: not UTF-8 text"),
        (b"x" * (MAX_SKILL + 1), f"{PATH}: 1000001 bytes; a skill has at most 1000000"),
    ],
)
def test_a_file_that_is_not_text_is_refused_with_its_line(data: bytes, wanted: str) -> None:
    with pytest.raises(RatchetError) as caught:
        decode(data, path=PATH)
    assert caught.value.message.startswith(wanted)
    assert caught.value.hint


@pytest.mark.parametrize(
    "head",
    [
        "name: triage\ndescription: Sorts.",
        "name: triage\ndescription: " + "x" * 1024,
        "name: triage\ndescription: >\n  Sorts\n  messages.\n",
        '"name": "triage"\ndescription: "Use when: asked."',
        "name: triage\ndescription: no\nlicense: MIT\nallowed-tools: Bash(git:*) Read",
        "name: triage\ndescription: x\ncompatibility: git\nmetadata:\n  a: b\n  version: 1.0",
        "name: triage\ndescription: x\nallowed-tools:\n  - Read\n  - Bash(jq:*)",
        "name: triage\ndescription: x\nunknown: {any: [thing, 1]}",
        "{name: triage, description: x}",
        "# a comment\nname: triage\ndescription: 2026-01-01",
    ],
)
def test_a_good_skill_has_no_problems(head: str) -> None:
    assert check(skill(head), path=PATH) == []
    assert check(skill(head).replace("\n", "\r\n"), path=PATH) == []


@pytest.mark.parametrize("name", ["a", "a1", "1", "a-b-c", "x" * 64])
def test_a_good_name(name: str) -> None:
    assert check(skill(f"name: {name}\ndescription: x"), path=f"{name}/SKILL.md") == []


@pytest.mark.parametrize(
    "name", ["A", "-a", "a-", "a--b", "a_b", "a b", "é", "x" * 65, "''", "[a]", "", "a\u00adb"]
)
def test_a_bad_name(name: str) -> None:
    (problem,) = check(skill(f"name: {name}\ndescription: x"), path=PATH)
    assert problem.startswith(f"{PATH}:2: 'name' must be 1 to 64 of a-z")


def test_the_name_is_the_folders() -> None:
    text = skill("description: x\nname: sorting")
    assert check(text, path=PATH) == [
        f"{PATH}:3: 'name' is 'sorting' but the folder is 'triage': they must be the same"
    ]
    assert check(text, path="skills/sorting/SKILL.md") == []
    assert check(text, path="SKILL.md") == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("# No frontmatter\n", ":1: the frontmatter is not there"),
        ("\n" + skill("name: triage\ndescription: x"), ":1: the frontmatter is not there"),
        ("---\nname: triage\n", ":1: the frontmatter is not closed"),
        (skill("name: triage"), ":1: 'description' is missing"),
        (skill("description: x"), ":1: 'name' is missing"),
        (skill(""), ":2: frontmatter: not a mapping of keys"),
        (skill("- name"), ":2: frontmatter: not a mapping of keys"),
        (skill("name: triage\ndescription:"), ":3: 'description' must be text of 1 to 1024"),
        (skill("name: triage\ndescription: [x]"), ":3: 'description' must be text of 1 to 1024"),
        (skill("name: triage\ndescription: " + "x" * 1025), ":3: 'description' must be text of"),
        (skill("name: triage\ndescription: x\ncompatibility: " + "x" * 501), ":4: 'compatibility"),
        (skill("name: triage\ndescription: x\nlicense: [MIT]"), ":4: 'license' must be text"),
        (skill("name: triage\ndescription: x\nmetadata: v1"), ":4: 'metadata' must be a mapping"),
        (skill("name: triage\ndescription: x\nmetadata: {a: [b]}"), ":4: 'metadata' must be a ma"),
        (skill("name: triage\ndescription: x\nallowed-tools: {a: b}"), ":4: 'allowed-tools' must"),
        (skill("name: triage\ndescription: x\nallowed-tools: [[a]]"), ":4: 'allowed-tools' must"),
        (skill("name: triage\ndescription: Use: when"), ":3: frontmatter: not valid YAML"),
        (skill("name: triage\ndescription: x\nname: triage"), ":4: frontmatter: key 'name' is alr"),
        (skill("name: &a triage\ndescription: *a"), ":3: frontmatter: YAML aliases"),
        (skill("name: triage\n...\ndescription: x"), ":4: frontmatter: not valid YAML"),
        ("", ":1: the file is empty"),
        (skill("name: triage\ndescription: x") + "a\0b", ":7: contains a NUL character"),
        (skill("name: triage\ndescription: x") + "\ud800", ":7: contains a lone surrogate"),
        ("\ufeff" + skill("name: triage\ndescription: x"), ":1: starts with a byte order mark"),
        (
            skill("name: triage\ndescription: x") + "x" * MAX_SKILL,
            ": 1000045 bytes; a skill has at most 1000000",
        ),
        (
            skill("name: triage\ndescription: x").replace(
                "# Do it\n", "---\nname: triage\ndescription: evil\n---\n"
            ),
            ":6: a second frontmatter",
        ),
    ],
)
def test_a_bad_skill_is_named_with_its_line(text: str, wanted: str) -> None:
    assert any(problem.startswith(PATH + wanted) for problem in check(text, path=PATH))


def test_a_thematic_break_is_not_a_second_frontmatter() -> None:
    text = skill("name: triage\ndescription: x") + "---\n\nSome words\n\n---\n"
    assert check(text.replace("# Do it\n", ""), path=PATH) == []


def test_another_file_needs_no_frontmatter() -> None:
    assert check("Answer briefly.", path="prompts/answer.txt") == []
    assert check("---\n- x\n---\n", path="prompts/answer.md") == []
    assert check(" \n", path="prompts/answer.txt") == ["prompts/answer.txt:1: the file is empty"]


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("---\na: b\n---\nbody\n---\n", "---\na: b\n---\n"),
        ("---\r\na: b\r\n---\r\nbody", "---\r\na: b\r\n---\r\n"),
        ("---\na: b\n--- \nbody", "---\na: b\n--- \n"),
        ("---\na: b\n---", "---\na: b\n---"),
        ("---\n---\nbody", "---\n---\n"),
        ("---\na: |\n  ---\n---\nbody", "---\na: |\n  ---\n---\n"),
        ("---\na: b\n", ""),
        ("----\na: b\n---\n", ""),
        (" ---\na: b\n---\n", ""),
        ("body\n---\na: b\n---\n", ""),
        ("---", ""),
        ("", ""),
    ],
)
def test_the_frontmatter_is_split_off_word_for_word(text: str, head: str) -> None:
    assert split_frontmatter(text) == (head, text[len(head) :])


def test_frozen_parts_are_word_for_word_with_their_markers() -> None:
    assert frozen_parts(SKILL) == (FROZEN_A.removesuffix("\n"), FROZEN_B.removesuffix("\n"))
    assert frozen_parts("nothing") == ()


def test_a_marker_may_be_indented_and_end_in_crlf() -> None:
    text = f"- x\n\n  {OPEN}\r\n  kept\r\n  {CLOSE}\r\n- y\r\n"
    assert frozen_parts(text) == (f"  {OPEN}\r\n  kept\r\n  {CLOSE}\r",)
    assert check(text, path="a.md") == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            f"a\n{OPEN}\nb\n",
            ["a.md:2: a frozen section is not closed: add <!-- /ratchet:frozen -->"],
        ),
        (f"a\n{CLOSE}\n", ["a.md:2: a frozen section is closed that was not opened"]),
        (
            f"{OPEN}\n{OPEN}\na\n{CLOSE}\n{CLOSE}\n",
            [
                "a.md:2: a frozen section inside the one opened on line 1",
                "a.md:5: a frozen section is closed that was not opened",
            ],
        ),
    ],
)
def test_markers_must_pair(text: str, wanted: list[str]) -> None:
    assert check(text, path="a.md") == wanted


@pytest.mark.parametrize(
    "line",
    [
        "<!-- RATCHET:FROZEN -->",
        "<!--ratchet:frozen-->",
        "<!--  ratchet:frozen  -->",
        "<!-- / ratchet:frozen -->",
        "<!-- ratchet: frozen -->",
        "<!-- ratchet-frozen -->",
        "<!-- end ratchet:frozen -->",
        "<!-- ratchet:frozen",
        "<!- ratchet:frozen ->",
        f"{OPEN} keep this {CLOSE}",
        f"> {OPEN}",
        f"text\r{OPEN}",
    ],
)
def test_a_misspelt_marker_is_a_problem_and_never_silently_nothing(line: str) -> None:
    (problem,) = check(f"a\n{line}\nb\n", path="a.md")
    assert problem.startswith("a.md:2: a misspelt marker")


@pytest.mark.parametrize("line", ["the ratchet is frozen", "<!-- ratchet -->", "<!-- frozen -->"])
def test_other_words_are_no_markers(line: str) -> None:
    assert check(line, path="a.md") == []


def test_a_code_fence_does_not_switch_markers_off() -> None:
    """Otherwise an edit could open a fence above a frozen section and then change it."""
    fenced = f"```\n{FROZEN_A}```\n"
    assert frozen_parts(fenced) == (FROZEN_A.removesuffix("\n"),)


@pytest.mark.parametrize(
    "after",
    [
        SKILL,
        SKILL.replace("Sort it.", "Sort it well.\nThen stop."),
        SKILL.replace("- A rule.\n", ""),
        SKILL + "\n- One more.\n",
        SKILL.replace("Sorts messages.", "Sorts all messages."),
        SKILL.replace("version: 1.0", "version: 1.1"),
        SKILL.replace("license: Apache-2.0\n", "license: Apache-2.0\ncompatibility: git\n"),
        SKILL.replace("license: Apache-2.0\n", "").replace(
            "name: triage\n", "name: triage\nlicense: Apache-2.0\n"
        ),
        SKILL.replace(f"\n{FROZEN_A}", f"\nMore.\n\n```\n{FROZEN_A}```\n"),
    ],
)
def test_everything_else_may_change(after: str) -> None:
    assert protected_changes(SKILL, after, path=PATH, freeze=()) == []


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        (SKILL.replace("Never ask for a PIN.", "Ask for a PIN."), ":16: this frozen section was"),
        (SKILL.replace("Never.\n", "Never. \n"), "changed or removed"),
        (SKILL.replace("PIN.\n\nNever", "PIN.\nNever"), "changed or removed"),
        (SKILL.replace(FROZEN_A, ""), "changed or removed"),
        (SKILL.replace(FROZEN_A, FROZEN_A.replace(OPEN + "\n", "")), "changed or removed"),
        (SKILL.replace(f"\nNever.\n{CLOSE}\n", f"{CLOSE}\n\nNever.\n"), "changed or removed"),
        (SKILL.replace(f"Sort it.\n\n{OPEN}\n", f"{OPEN}\nSort it.\n\n"), "changed or removed"),
        (SKILL.replace(OPEN, OPEN.upper()), "changed or removed"),
        (SKILL.replace(CLOSE, "<!-- /ratchet:frozen  -->"), "changed or removed"),
        (SKILL.replace(OPEN, " " + OPEN), "changed or removed"),
        (SKILL.replace(FROZEN_A, FROZEN_A.replace("\n", "\r\n")), "changed or removed"),
        (SKILL.replace("\n", "\r\n"), "changed or removed"),
        (SKILL.replace(FROZEN_A, FROZEN_A.replace(CLOSE + "\n", "")), "changed or removed"),
        (SKILL.replace(f"{CLOSE}\n\n- A rule.\n\n{OPEN}\n", ""), "changed or removed"),
        (SKILL.replace("Never.\n", "Never.\u200b\n"), "changed or removed"),
        (SKILL + FROZEN_A, "a frozen section was added or repeated"),
        (SKILL + f"{OPEN}\nmine now\n{CLOSE}\n", "a frozen section was added or repeated"),
        (SKILL + OPEN, "a frozen section was added or repeated"),
        (SKILL + CLOSE, "a frozen section is closed that was not opened"),
        (SKILL + "<!-- Ratchet:Frozen -->", "a misspelt marker"),
        (
            SKILL.replace(FROZEN_A, "@").replace(FROZEN_B, FROZEN_A).replace("@", FROZEN_B),
            "the frozen sections were reordered",
        ),
        (SKILL.replace("name: triage", "name: other"), ":2: the frontmatter key 'name' may not"),
        (SKILL.replace("Apache-2.0", "MIT"), ":4: the frontmatter key 'license' may not change"),
        (SKILL.replace("license: Apache-2.0\n", ""), ":4: the frontmatter key 'license' may not"),
        (SKILL.replace("x-owner: payments", "x-owner: me"), "key 'x-owner' may not change"),
        (SKILL.replace("ask them first", "no need"), "key 'x-owner' may not change"),
        (SKILL.replace("x-owner: payments  #", "x-owner: payments #"), "key 'x-owner' may not"),
        (SKILL.replace("  - two\n", "  - two\n  - three\n"), "key 'x-list' may not change"),
        (SKILL.replace("- one\n  - two", "- two\n  - one"), "key 'x-list' may not change"),
        (SKILL.replace("x-owner: ", "x-Owner: "), "key 'x-owner' may not change"),
        (SKILL.replace("metadata:", "x-new: 1\nmetadata:"), "key 'x-new' may not change"),
        (SKILL.replace("metadata:", "allowed-tools: Bash(*)\nmetadata:"), "key 'allowed-tools'"),
        (SKILL.replace("name: triage", "<<: {x: y}\nname: triage"), "key '<<' may not change"),
        (SKILL.replace("license:", "  license:"), "cannot be compared"),
        (SKILL.replace("x-owner", "name: triage\nx-owner"), "cannot be compared"),
        (
            SKILL.replace("description: Sorts", "description: |\n  Sorts").replace(
                "license", "  license"
            ),
            "the frontmatter key 'license' may not change",
        ),
        (BODY, ":1: the frontmatter was removed"),
        ("\n" + SKILL, ":1: the frontmatter was removed"),
        ("# Title\n" + SKILL, ":1: the frontmatter was removed"),
        (SKILL.replace("---\n# Triage", "# Triage"), ":1: the frontmatter was removed"),
        ("", ":1: the frontmatter was removed"),
        ("---\nname: triage\ndescription: evil\n---\n" + SKILL, "a second frontmatter"),
        (HEAD + "---\nname: triage\ndescription: evil\n---\n" + BODY, "a second frontmatter"),
        (SKILL.replace("Sorts messages.", "x" * 1025), "'description' must be text of 1 to 1024"),
        (SKILL + "\0", "contains a NUL character"),
        (SKILL + "x" * MAX_SKILL, "a skill has at most"),
    ],
)
def test_what_no_edit_may_do(after: str, wanted: str) -> None:
    assert wanted in refused(after)


@pytest.mark.parametrize(
    "after",
    [
        SKILL.replace("Sorts messages.", "Sorts all messages."),
        SKILL.replace("description: Sorts messages. Use when a customer writes.\n", ""),
        SKILL.replace("Sorts messages. Use when a customer writes.", "'Sorts messages.'"),
    ],
)
def test_a_key_named_in_the_config_may_not_change(after: str) -> None:
    assert "the frontmatter key 'description' may not change" in refused(
        after, freeze=("description",)
    )
    assert "'description' may not" not in refused(after)


def test_a_key_named_in_the_config_may_not_be_added() -> None:
    after = SKILL.replace("license", "compatibility: git\nlicense")
    assert "'compatibility' may not change" in refused(after, freeze=("compatibility",))


def test_a_bad_skill_may_still_be_edited_without_repairing_it() -> None:
    """Only what was good must stay good; markers and storable text are asked of every edit."""
    before = SKILL.replace("Sorts messages.", "x" * 1025)
    assert refused(before + "More.\n", before=before) == ""
    assert "a frozen section is not closed" in refused(before + OPEN, before=before)
    assert "contains a NUL" in refused(before + "\0", before=before)


def test_a_frontmatter_that_cannot_be_read_may_not_change() -> None:
    before = skill("name: triage\ndescription: Use: when")
    assert refused(before + "More.\n", before=before) == ""
    assert "cannot be compared" in refused(before.replace("when", "if"), before=before)


def test_an_unclosed_section_in_the_skill_is_frozen_to_its_end() -> None:
    before = f"a\n{OPEN}\nb\nc\n"
    after = before.replace("c\n", "d\n")
    assert "a.md:2: this frozen section was changed" in refused(after, before=before, path="a.md")


def test_another_files_frontmatter_is_free_but_for_the_keys_named() -> None:
    before = "---\nmodel: small\ntitle: x\n---\nAnswer.\n"
    path = "prompts/answer.md"
    after = before.replace("small", "large")
    assert refused(after, before=before, path=path) == ""
    assert refused("Answer.\n", before=before, path=path) == ""
    wanted = f"{path}:2: the frontmatter key 'model' may not change"
    assert refused(after, before=before, path=path, freeze=("model",)) == wanted
    assert refused("Answer.\n", before=before, path=path, freeze=("model",)) == wanted


def test_the_example_in_the_documentation_is_a_good_skill() -> None:
    text = (Path(__file__).parents[2] / "docs" / "skills.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```markdown\n(.*?)```", text, flags=re.DOTALL)
    assert check(example, path=PATH) == []
    assert len(frozen_parts(example)) == 1
    assert [key for key in KNOWN if f"| `{key}` |" not in text] == []


PIECES = st.sampled_from(
    [OPEN, CLOSE, "a", "b", "", "---", "name: triage", "```", f" {OPEN} ", OPEN.upper(), "\r"]
)
TEXTS = st.lists(PIECES, max_size=12).map("\n".join)


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS)
def test_an_allowed_edit_keeps_every_frozen_part(before: str, after: str) -> None:
    for path in (PATH, "a.md"):
        if not protected_changes(before, after, path=path, freeze=()):
            assert frozen_parts(before) == frozen_parts(after)
    head, body = split_frontmatter(before)
    assert head + body == before
    if not check(before, path="a.md"):
        assert protected_changes(before, before, path="a.md", freeze=("name",)) == []
