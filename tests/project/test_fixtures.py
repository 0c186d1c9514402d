"""Fixture files: what is read, what is refused and where it says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.base import documents
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.golden import input_digest
from skill_ratchet.core.records import Fixture, Message, Split
from skill_ratchet.project.fixtures import (
    MAX_FILE,
    SHAPES,
    CaseError,
    SourceFile,
    build,
    dump_jsonl,
    fixtures_digest,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Collection

ROOT = "fixtures/triage"


def source(path: str, text: str | bytes, *, size: int | None = None) -> SourceFile:
    data = text.encode() if isinstance(text, str) else text
    return SourceFile(f"{ROOT}/{path}", len(data) if size is None else size, lambda: data)


def read(files: dict[str, str | bytes], *, require: Collection[Split] = ()) -> tuple[Fixture, ...]:
    return parse([source(path, text) for path, text in files.items()], root=ROOT, require=require)


def refusal(files: dict[str, str | bytes], *, require: Collection[Split] = ()) -> str:
    with pytest.raises(RatchetError) as caught:
        read(files, require=require)
    return caught.value.message


def one(text: str) -> Fixture:
    (fixture,) = read({"train/case.yml": text})
    return fixture


def make_fixture(**override: Any) -> Fixture:
    return Fixture.model_validate({"id": "case", "split": "train", "input": "hi"} | override)


def test_a_whole_case() -> None:
    fixture = one(
        "input: |\n  My card was swallowed.\n  Help!\n"
        "context: The customer is abroad.\n"
        "expected: {queue: cards, urgent: true}\n"
        "scorer: {type: json, fields: [queue]}\n"
        "cluster: swallowed\ntags: [cards, abroad]\nsource: correction\n"
        "correction: It is urgent when they are abroad.\n"
    )
    assert fixture == Fixture(
        id="case",
        split="train",
        input="My card was swallowed.\nHelp!\n",
        context="The customer is abroad.",
        expected={"queue": "cards", "urgent": True},
        scorer={"type": "json", "fields": ["queue"]},
        cluster="swallowed",
        tags=("cards", "abroad"),
        source="correction",
        correction="It is urgent when they are abroad.",
    )


def test_folders_decide_the_split_and_order_is_by_split_then_id() -> None:
    fixtures = read(
        {
            "vault/v.yml": "input: five",
            "holdout/many.jsonl": '{"id": "h2", "input": "4"}\n\n{"id": "h1", "input": "3"}\n',
            "train/b.yaml": "input: two",
            "train/deeper/a.yml": "input: one",
        },
        require=("train", "holdout"),
    )
    assert [(one.split, one.id) for one in fixtures] == [
        ("train", "a"),
        ("train", "b"),
        ("holdout", "h1"),
        ("holdout", "h2"),
        ("vault", "v"),
    ]


@pytest.mark.parametrize("root", [".", "", "fixtures/", "fixtures"])
def test_root_may_be_written_in_several_ways(root: str) -> None:
    prefix = "fixtures/" if root.startswith("f") else ""
    file = SourceFile(f"{prefix}train/a.yml", 8, lambda: b"input: a")
    assert [fixture.id for fixture in parse([file], root=root)] == ["a"]


def test_a_conversation_is_an_input() -> None:
    fixture = one(
        "input:\n- {role: user, content: hello}\n- {role: assistant, content: yes}\n"
        "- {role: user, content: bye}\n"
    )
    assert fixture.input == (
        Message(role="user", content="hello"),
        Message(role="assistant", content="yes"),
        Message(role="user", content="bye"),
    )


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", "True"),
        ("2026-01-01", "2026-01-01"),
        ("007", "007"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        (".inf", ".inf"),
        ("+1", "+1"),
        ("1.", "1."),
        ("'1'", "1"),
        ("!!str 5", "5"),
        ("<<", "<<"),
        ("=", "="),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("-1", -1),
        ("1.5e3", 1500.0),
        ("1e3", 1000.0),
        ("[no, {no: 1, 2: two}]", ["no", {"no": 1, "2": "two"}]),
    ],
)
def test_yaml_keeps_what_was_typed(typed: str, kept: object) -> None:
    assert one(f"input: x\nexpected: {typed}\n").expected == kept


def test_a_named_scorer_is_kept_for_the_skill_to_resolve() -> None:
    assert one("input: x\nscorer: our-own").scorer == {"type": "our-own"}


def test_what_editors_on_windows_write_is_read() -> None:
    """A byte order mark and CRLF line ends change nothing."""
    fixtures = read(
        {
            "train/a.yml": b"\xef\xbb\xbfinput: |\r\n  one\r\n  two\r\nexpected: x\r\n",
            "train/b.jsonl": b'\xef\xbb\xbf{"id": "b", "input": "three"}\r\n\r\n',
        }
    )
    assert [fixture.input for fixture in fixtures] == ["one\ntwo\n", "three"]


def test_other_files_are_left_alone() -> None:
    def never() -> bytes:
        raise AssertionError

    ignored = [
        SourceFile(path, 10, never)
        for path in (
            f"{ROOT}/README.md",
            f"{ROOT}/train/notes.txt",
            f"{ROOT}/train/.gitkeep",
            f"{ROOT}/train/._a.yml",
            f"{ROOT}/.cache/train/a.yml",
            "fixtures/triage2/train/a.yml",
            "ratchet.yml",
        )
    ]
    assert len(parse([*ignored, source("train/a.yml", "input: a")], root=ROOT)) == 1


ALIASES = "input: &a [x, x]\nexpected: [*a, *a]\n"
DEEP_YAML = "input: x\nexpected: " + "[" * 2000 + "]" * 2000
DEEP_JSON = '{"id": "a", "input": "x", "expected": ' + "[" * 5000 + "]" * 5000 + "}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("input: x\nexpcted: y\n", ":2: unknown key 'expcted'; did you mean 'expected'?"),
        ("input: x\nqqq: y\n", ":2: unknown key 'qqq'; known: id, input, "),
        ("split: train\ninput: x\n", ":1: 'split' is not a key: the folder decides"),
        ("expected: x\n", ":1: 'input' is missing"),
        ("\n\nexpected: x\ninput:\n", ":4: 'input' is missing"),
        ("id: a b\ninput: x\n", ":1: 'id' must be text of letters"),
        ("id: 7\ninput: x\n", ":1: 'id' must be text of letters"),
        ("input: 42\n", ":1: 'input' must be text, or a list"),
        ("input:\n- {role: system, content: x}\n", ":1: 'input' must be text, or a list"),
        ("input: [just text]\n", ":1: 'input' must be text, or a list"),
        ("input: ' \t'\n", ":1: 'input' is empty"),
        ("input: []\n", ":1: 'input' has an empty message or none"),
        ("input: [{role: user, content: ' '}]\n", ":1: 'input' has an empty message or none"),
        ("input: [{role: assistant, content: x}]\n", ":1: the last message of 'input' must"),
        ("input: x\ntags: cards\n", ":2: 'tags' must be a list of texts"),
        ("input: x\ntags: [1]\n", ":2: 'tags' must be a list of texts"),
        ("input: x\ncontext: {a: b}\n", ":2: 'context' must be text"),
        ("input: x\nsource: invented\n", ":2: 'source' must be authored, correction or"),
        ("input: x\nscorer: 3\n", ":2: 'scorer' must be a scorer's name, or a mapping"),
        ("input: x\nscorer: {of: exact}\n", ":2: 'scorer' must be a scorer's name, or a mapping"),
        ("input: x\nscorer: ' '\n", ":2: 'scorer' has an empty name"),
        ("input: x\ninput: y\n", ":2: key 'input' is already on line 1"),
        ("input: x\nexpected:\n  a: 1\n  a: 2\n", ":4: key 'a' is already on line 3"),
        ("input: x\nexpected: {[1]: 2}\n", ":2: a key must be text"),
        ('input: x\nexpected: {"\\0": 2}\n', ":2: contains a NUL character"),
        ("- input: x\n- input: y\n", ":1: a list: write one case a file, or one case a line in a"),
        ("just text\n", ":1: not a case"),
        ("", ":1: not a case"),
        ("# only a comment\n", ":1: not a case"),
        ("input: x\n---\ninput: y\n", ":2: not valid YAML: expected a single document"),
        ("input: x\n  expected: y\n", ":2: not valid YAML: mapping values are not allowed"),
        ("input: 'x\n", ":2: not valid YAML: while scanning a quoted scalar"),
        ("input: x\nexpected: \x01\n", ":2: contains the control character"),
        (ALIASES, ":2: YAML aliases (*name) are not allowed"),
        ("input: *nowhere\n", ":1: YAML aliases (*name) are not allowed"),
        (DEEP_YAML, ":2: nested deeper than 32 levels"),
        ("input: x\nexpected: !!python/name:os.system x\n", ":2: the YAML tag python/name:os.syst"),
        ("input: x\nexpected: !!binary aGk=\n", ":2: the YAML tag binary is not allowed"),
        ("input: x\nexpected: !!set {a, b}\n", ":2: the YAML tag set is not allowed"),
        ("input: x\nexpected: !!int 0x1F\n", ":2: not valid JSON"),
        ("input: x\nexpected: 1e999\n", ":2: a number is too large"),
        ("input: x\nexpected: " + "9" * 5000, ":2: a number is too large"),
        ('input: "\\ud800"\n', ":1: contains a lone surrogate (\\ud800)"),
        ('input: "a\\0b"\n', ":1: contains a NUL character"),
    ],
)
def test_a_bad_yaml_case_is_refused_with_its_line(text: str, wanted: str) -> None:
    assert refusal({"train/a.yml": text}).startswith(f"{ROOT}/train/a.yml{wanted}")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"input": "x"}', "'id' is missing"),
        ('{"id": "a"}', "'input' is missing"),
        ('{"id": "a", "input": "x", "inputs": 1}', "unknown key 'inputs'; did you mean 'input'?"),
        ('{"id": "a", "id": "b", "input": "x"}', "key 'id' is there twice"),
        ('{"id": "a", "input": "x", "expected": {"k": 1, "k": 1}}', "key 'k' is there twice"),
        ('{"id": "a", "input": "x", "expected": NaN}', "NaN is not a JSON number"),
        ('{"id": "a", "input": "x", "expected": -Infinity}', "-Infinity is not a JSON number"),
        ('{"id": "a", "input": "x", "expected": 1e999}', "a number is too large"),
        ('{"id": "a", "input": "x", "expected": ' + "9" * 5000 + "}", "a number is too large"),
        ('{"id": "a", "input": "\\ud800"}', "contains a lone surrogate (\\ud800)"),
        ('{"id": "a", "input": "x", "expected": {"\\udfff": 1}}', "contains a lone surrogate"),
        ('{"id": "a", "input": "a\\u0000b"}', "contains a NUL character"),
        ('{"id": "a", "input": ""}', "'input' is empty"),
        ("{'id': 'a'}", "not valid JSON: Expecting property name"),
        ("[1]", "not a case"),
        ('{"id": "a"', "not valid JSON: Expecting ',' delimiter (column 11)"),
        (DEEP_JSON, "nested deeper than 32 levels"),
        (DEEP_JSON.replace("[" * 5000, "[" * 40).replace("]" * 5000, "]" * 40), "nested deeper"),
    ],
)
def test_a_bad_jsonl_case_is_refused_with_its_line(line: str, wanted: str) -> None:
    text = '{"id": "ok", "input": "fine"}\n\n' + line + "\n"
    assert refusal({"train/a.jsonl": text}).startswith(f"{ROOT}/train/a.jsonl:3: {wanted}")


def test_a_surrogate_pair_in_json_is_one_character() -> None:
    (fixture,) = read({"train/a.jsonl": '{"id": "a", "input": "\\ud83d\\ude00"}'})
    assert fixture.input == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    "scorer",
    [
        "rubric",
        "command",
        "metric",
        "' Command '",
        "{type: command, run: 'rm -rf .'}",
        "{type: RUBRIC, text: be nice}",
        "{type: all, of: [{type: exact}, {type: metric, path: x.py}]}",
        "{type: weighted, parts: {a: {scorer: {type: command}}}}",
    ],
)
def test_a_fixture_cannot_bring_code_or_a_judge(scorer: str) -> None:
    """Commands and judges come from ratchet.yml only, however deep they hide."""
    message = refusal({"train/a.yml": f"input: x\nscorer: {scorer}\n"})
    assert ":2: a fixture cannot bring a '" in message
    assert "ratchet.yml" in message


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("train/a.json", ".json is not a fixture file; turn it into .jsonl with 'ratchet import'"),
        ("train/a.CSV", ".csv is not a fixture file"),
        ("a.yml", "not inside one of the folders train, holdout, vault"),
        ("Train/a.yml", "not inside one of the folders train, holdout, vault"),
        ("hold-out/a.jsonl", "not inside one of the folders train, holdout, vault"),
        ("train.yml", "not inside one of the folders train, holdout, vault"),
    ],
)
def test_a_file_in_the_wrong_place_is_an_error(path: str, wanted: str) -> None:
    assert refusal({path: "input: x"}).startswith(f"{ROOT}/{path}: {wanted}")


def test_bytes_that_are_not_utf8_are_named_with_line_and_offset() -> None:
    message = refusal({"train/a.yml": b"input: x\nexpected: caf\xe9\n"})
    assert message == f"{ROOT}/train/a.yml:2: not UTF-8 text (byte 0xe9 at offset 22)"
    assert ":1: not UTF-8" in refusal({"train/a.yml": "input: x".encode("utf-16")})


def test_a_raw_nul_is_named_with_its_line() -> None:
    assert refusal({"train/a.jsonl": b'{"id": "a",\n\x00'}) == (
        f"{ROOT}/train/a.jsonl:2: contains a NUL character"
    )


def test_a_file_too_large_is_not_read() -> None:
    def never() -> bytes:
        raise AssertionError

    with pytest.raises(RatchetError, match=r"10\.0 MB; a fixture file has at most 10\.0 MB"):
        parse([SourceFile(f"{ROOT}/train/a.yml", MAX_FILE + 1, never)], root=ROOT)
    six = [SourceFile(f"{ROOT}/train/{n}.yml", MAX_FILE - 1, never) for n in range(6)]
    with pytest.raises(RatchetError, match=f"{ROOT}: 60.0 MB of fixtures; at most 50.0 MB"):
        parse(six, root=ROOT)


def test_a_duplicate_id_names_both_places() -> None:
    message = refusal(
        {
            "train/a.yml": "input: one",
            "train/sub/a.yml": "input: two",
            "holdout/b.jsonl": '{"id": "b", "input": "three"}\n{"id": "a", "input": "four"}',
        }
    )
    assert message.splitlines() == [
        f"{ROOT}/holdout/b.jsonl:2: id 'a' is already used at {ROOT}/train/a.yml:1",
        f"{ROOT}/train/sub/a.yml:1: id 'a' is already used at {ROOT}/train/a.yml:1",
    ]


@pytest.mark.parametrize(
    ("train", "holdout"),
    [
        ("input: Where is my card?", "input: Where is my card?"),
        ("input: Where is my card?", "input: '  where IS\n\n  my card? '"),
        ("input: Straße", "input: STRASSE"),
        ('input: "caf\\u00e9"', 'input: "cafe\\u0301"'),
        ("input: hi", "input: [{role: user, content: HI}]"),
        ("input: hi\ncontext: A  b", "input: hi\ncontext: a b"),
        ("input: hi\nexpected: a", "input: hi\nexpected: b\ntags: [x]"),
    ],
)
def test_the_same_input_on_both_sides_is_refused(train: str, holdout: str) -> None:
    """Otherwise the proposer would see what it is judged on."""
    message = refusal({"train/a.yml": train, "holdout/b.yml": holdout})
    assert message == f"{ROOT}/holdout/b.yml:1: the same input is in train at {ROOT}/train/a.yml:1"


@pytest.mark.parametrize(
    ("train", "holdout"),
    [
        ("input: hi", "input: hi!"),
        ("input: hi", "input: hi\ncontext: a"),
        ("input: ab", "input: a b"),
        (
            "input: hi",
            "input: [{role: user, content: a}, {role: user, content: hi}]",
        ),
    ],
)
def test_different_inputs_may_be_on_both_sides(train: str, holdout: str) -> None:
    assert len(read({"train/a.yml": train, "holdout/b.yml": holdout})) == 2


def test_the_vault_shares_no_input_either() -> None:
    files: dict[str, str | bytes] = {"holdout/a.yml": "input: x", "vault/b.yml": "input: x"}
    assert "the same input is in holdout" in refusal(files)


def test_the_same_input_twice_on_one_side_needs_another_expectation() -> None:
    """Otherwise it is the same case, which would count as two."""
    cases: dict[str, str | bytes] = {
        "train/a.yml": "input: x\nexpected: 1",
        "train/b.yml": "input: x\nexpected: 2",
    }
    assert len(read(cases)) == 2
    with pytest.raises(RatchetError, match=r"b\.yml:1: the same case as at .*a\.yml:1"):
        read({"train/a.yml": "input: x", "train/b.yml": "input: x"})


def test_a_required_split_must_have_a_fixture() -> None:
    files: dict[str, str | bytes] = {"train/a.yml": "input: x", "holdout/b.jsonl": "\n"}
    message = refusal(files, require=("train", "holdout"))
    needed = "no fixtures; write the first one there (only 'ratchet propose' needs none)"
    assert message == f"{ROOT}/holdout: {needed}"
    assert read({}, require=()) == ()


def test_all_problems_of_all_files_come_at_once_and_at_most_twenty() -> None:
    bad = "\n".join('{"id": "a b", "input": "x", "nope": 1}' for _ in range(12))
    lines = refusal({"train/a.jsonl": bad, "holdout/b.yml": "inptu: x"}).splitlines()
    assert len(lines) == 21
    assert lines[0].startswith(f"{ROOT}/holdout/b.yml:1: 'input' is missing")
    assert lines[1].startswith(f"{ROOT}/holdout/b.yml:1: unknown key 'inptu'")
    assert lines[-1] == "and 6 more"


def test_one_bad_case_among_good_ones_yields_nothing() -> None:
    assert "a.yml:1" in refusal({"train/a.yml": "inptu: x", "train/b.yml": "input: fine"})


def test_build_says_every_fault_of_a_case() -> None:
    with pytest.raises(CaseError) as caught:
        build({"id": "a b", "tags": 3, "colour": "red"}, split="train")
    assert [key for key, _ in caught.value.faults] == ["colour", "input", "id", "tags"]


def test_the_digest_of_a_set_ignores_order_and_tags_but_not_what_decides_scores() -> None:
    first, second = make_fixture(), make_fixture(id="other", input="bye")
    base = fixtures_digest([first, second])
    assert fixtures_digest([second, first.with_(tags=("new",))]) == base
    for changed in (
        first.with_(id="renamed"),
        first.with_(expected="x"),
        first.with_(cluster="c"),
        first.with_(input="HI"),
    ):
        assert fixtures_digest([changed, second]) != base


def test_input_digest_is_of_the_question_alone() -> None:
    assert input_digest(make_fixture()) == input_digest(make_fixture(id="b", expected="x"))
    assert input_digest(make_fixture()) != input_digest(make_fixture(context="c"))


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
LINES = st.lists(TEXT | st.sampled_from(["no", "- x", "  in", "a: b", "# c", "---", "\t"])).map(
    "\n".join
)
WORDS = st.sampled_from(
    ["no", "1e5", "0x1F", "2026-01-01", "~", "null", "true", "1.0", "", "=", "*a"]
)
SAID = LINES | WORDS | TEXT
ASKED = SAID.filter(str.strip)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | SAID,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SAID, inner, max_size=3),
    max_leaves=8,
)
FIXTURES = st.builds(
    Fixture,
    id=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,12}\Z"),
    split=st.just("train"),
    input=ASKED | ASKED.map(lambda text: (Message(role="user", content=text),)),
    context=st.none() | SAID,
    expected=JSON,
    scorer=st.none() | SAID.map(lambda text: {"type": "exact", "option": text}),
    cluster=st.none() | SAID,
    tags=st.lists(SAID, max_size=3).map(tuple),
    source=st.sampled_from(["authored", "correction", "production"]),
    correction=st.none() | SAID,
)


class Dumper(yaml.SafeDumper):
    """Writes what may be taken for something else in quotes, by YAML 1.1's rules and by ours."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # PyYAML's signature
        """The reader refuses aliases, so the writer makes none."""
        return True


def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if re.search("[\x85\u2028\u2029]", text):  # YAML takes these for line ends and folds them
        style = '"'
    elif "\n" in text:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, represent_text)
for _tag, _pattern, _first in documents.IMPLICIT:
    Dumper.add_implicit_resolver(_tag, _pattern, _first)


def dump_yaml(fixture: Fixture) -> str:
    values = json.loads(dump_jsonl([fixture]))
    return str(yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000))


@settings(max_examples=120, deadline=None)
@given(FIXTURES)
def test_what_is_written_reads_back(fixture: Fixture) -> None:
    """Neither YAML nor JSONL changes a character or a type, whatever is in it."""
    assert read({"train/other-name.yml": dump_yaml(fixture)}) == (fixture,)
    assert read({"train/a.jsonl": dump_jsonl([fixture])}) == (fixture,)


def test_jsonl_is_one_line_a_case() -> None:
    text = dump_jsonl([make_fixture(input="a\nb"), make_fixture(id="z", expected="é")])
    assert [json.loads(line)["id"] for line in text.splitlines()] == ["case", "z"]
    assert "é" in text


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=80) | TEXT.map(str.encode))
def test_any_bytes_give_fixtures_or_one_kind_of_error(data: bytes) -> None:
    for name in ("train/a.yml", "train/a.jsonl"):
        try:
            read({name: data})
        except RatchetError as error:
            assert error.message.startswith(ROOT)  # noqa: PT017  # either outcome is right


def examples(kind: str) -> list[str]:
    text = (Path(__file__).parents[2] / "docs" / "fixtures.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def test_the_examples_in_the_documentation_are_fixtures() -> None:
    files = {f"train/{n}.yml": text for n, text in enumerate(examples("yaml"))}
    files |= {f"train/{n}.jsonl": text for n, text in enumerate(examples("jsonl"))}
    assert len(read({**files})) == 4


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "fixtures.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = "".join(line.split(" | ")[0] for line in rows)
    assert [key for key in SHAPES if f"`{key}`" not in named] == []


def test_a_suggestion_lists_the_names_when_none_is_near() -> None:
    assert documents.suggestion("INPUT ", ["input"]) == "; did you mean 'input'?"
    assert documents.suggestion("zzz", ["input", "id"]) == "; known: input, id"
