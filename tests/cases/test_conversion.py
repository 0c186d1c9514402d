"""Importing rows: what becomes a fixture, on which side, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases.conversion import Imported, import_rows
from skill_ratchet.core.golden import Caps, Rules, input_digest
from skill_ratchet.core.records import Fixture, Message
from skill_ratchet.project.fixtures import SourceFile, append_jsonl, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGES = """\
text,label
Where is my card?,cards
"My card,
it never came",cards
I was charged twice,fees
What does it cost?,fees
"""


def imported(text: str, *, kind: Any = "csv", **options: Any) -> Imported:
    """Import, with texts that are told apart however alike they are."""
    rules = Rules(near=100, ratio=options.pop("ratio", 0.5))
    chosen: dict[str, Any] = {"columns": {}, "corrections": False, "path": "log.csv"}
    chosen |= {"rules": rules, **options}
    return import_rows(text.splitlines(keepends=True), kind=kind, **chosen)


def refusal(text: str, **options: Any) -> str:
    with pytest.raises(RatchetError) as caught:
        imported(text, **options)
    return caught.value.message


def table(rows: Sequence[tuple[str, str]]) -> str:
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


def many(count: int, *, labels: Sequence[str] = ("a", "b")) -> str:
    return table([(f"message {n}", labels[n % len(labels)]) for n in range(count)])


def sides(result: Imported) -> Counter[tuple[str, object]]:
    return Counter((one.split, str(one.expected)) for one in result.fixtures)


def test_rows_of_a_csv_become_fixtures() -> None:
    result = imported(MESSAGES)
    assert {(one.input, one.expected, one.source) for one in result.fixtures} == {
        ("Where is my card?", "cards", "production"),
        ("My card,\nit never came", "cards", "production"),
        ("I was charged twice", "fees", "production"),
        ("What does it cost?", "fees", "production"),
    }
    assert (result.duplicates, result.conflicts, result.skipped, result.already) == (0, (), (), 0)


def test_every_column_has_a_place() -> None:
    text = (
        "id,question,answer,context,correction,cluster,tags\n"
        'q-1,Why?,Because.,in a shop,Say because.,whys,"one; two"\n'
        "q-2,How?,So.,,,,\n"
    )
    first, second = sorted(
        imported(text, columns={"id": "id"}, source="correction").fixtures, key=lambda one: one.id
    )
    assert first == Fixture(
        id="q-1",
        split=first.split,
        input="Why?",
        expected="Because.",
        context="in a shop",
        correction="Say because.",
        cluster="whys",
        tags=("one", "two"),
        source="correction",
    )
    assert (second.context, second.correction, second.cluster, second.tags) == (
        None,
        None,
        None,
        (),
    )


def test_rows_of_jsonl_keep_their_values() -> None:
    turns = [{"role": "user", "content": "hi"}]
    lines = [
        {"prompt": turns, "output": {"queue": "cards"}, "tags": ["x"]},
        {"prompt": "bye", "output": 3, "context": "late", "seen": None},
    ]
    text = "\n".join(map(json.dumps, lines))
    by_input = {one.input_text: one for one in imported(text, kind="jsonl").fixtures}
    assert by_input["user: hi"].input == (Message(role="user", content="hi"),)
    assert by_input["user: hi"].expected == {"queue": "cards"}
    assert by_input["user: hi"].tags == ("x",)
    assert (by_input["bye"].expected, by_input["bye"].context) == (3, "late")


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        ("cards", "cards-"),
        ("Lost or stolen card!", "lost-or-stolen-card-"),
        ("lost_or_stolen", "lost_or_stolen-"),
        ("???", "case-"),
        ("x" * 200, "x" * 40 + "-"),
        (12, "case-"),
    ],
)
def test_an_id_is_made_of_content(expected: object, name: str) -> None:
    line = json.dumps({"text": "Hello  THERE", "label": expected})
    (fixture,) = imported(line, kind="jsonl").fixtures
    assert fixture.id == name + input_digest(fixture)[:10]
    (again,) = imported(line.replace("Hello  THERE", "hello there"), kind="jsonl").fixtures
    assert again.id == fixture.id


def test_a_name_for_a_column_wins_over_a_guess() -> None:
    result = imported("text,body,label\na,b,c\n", columns={"input": "body"})
    assert [one.input for one in result.fixtures] == ["b"]


def test_a_column_that_is_named_for_one_thing_is_not_guessed_for_another() -> None:
    result = imported("text,output,label\na,b,c\n", columns={"output": "output"})
    assert [(one.expected, result.outputs[one.id]) for one in result.fixtures] == [("c", "b")]


def test_an_empty_name_means_no_such_column() -> None:
    (fixture,) = imported("text,note\na,b\n", columns={"expected": ""}).fixtures
    assert fixture.expected is None


@pytest.mark.parametrize(
    ("header", "columns", "wanted"),
    [
        ("text,message,label", {}, "the column for 'input' may be any of text, message; columns"),
        ("body,label", {}, "'input' is not to be guessed; columns found: body, label"),
        ("text,label,Category", {}, "'expected' may be any of label, Category; columns found"),
        ("text,note", {}, "the column for 'expected' is not to be guessed; columns found: text, n"),
        ("text,label", {"input": "txet"}, "no column 'txet'; did you mean 'text'?"),
        ("text,label", {"correction": "note"}, "no row has a column 'note'"),
        ("text,label", {"inputs": "text"}, "'inputs' cannot be imported; did you mean 'input'?"),
        ("text,label", {"scorer": "text"}, "'scorer' cannot be imported"),
        ("text,label,label", {}, "log.csv:1: the column 'label' is there 2 times"),
    ],
)
def test_columns_that_cannot_be_told_are_an_error(
    header: str, columns: dict[str, str], wanted: str
) -> None:
    row = ",".join("x" for _ in header.split(","))
    assert wanted in refusal(f"{header}\n{row}\n", columns=columns)


def test_a_byte_order_mark_and_crlf_change_nothing() -> None:
    plain = imported(MESSAGES.replace('"My card,\nit never came"', "mine"))
    other = imported(
        "\ufeff" + MESSAGES.replace('"My card,\nit never came"', "mine").replace("\n", "\r\n")
    )
    assert other == plain


BROKEN_CSV = [
    ("a,b,c", "3 cells under 2 columns"),
    ("a", "1 cells under 2 columns"),
    (",b", "'input' is missing"),
    ("a,", "'expected' is missing"),
    (" ,b", "'input' is empty"),
    ('"a"x,b', "not valid CSV"),
    ("a\0,b", "contains a NUL character"),
    ("caf\udce9,b", "contains a lone surrogate"),
]
BROKEN_JSONL = [
    ("{", "not valid JSON"),
    ("[1]", "not an object"),
    ('{"text": "a"}', "'expected' is missing"),
    ('{"label": "a"}', "'input' is missing"),
    ('{"text": 3, "label": "a"}', "'input' must be text"),
    ('{"text": "a", "label": NaN}', "NaN is not a JSON number"),
    ('{"text": "a", "text": "b", "label": "c"}', "key 'text' is there twice"),
    ('{"text": "\\ud800", "label": "a"}', "contains a lone surrogate"),
    ('{"text": "a", "label": "b", "tags": [1]}', "'tags' must be a list of texts"),
]


@pytest.mark.parametrize(
    ("kind", "row", "wanted"),
    [("csv", *case) for case in BROKEN_CSV] + [("jsonl", *case) for case in BROKEN_JSONL],
)
def test_a_broken_row_is_refused_with_its_line_or_skipped_and_counted(
    kind: str, row: str, wanted: str
) -> None:
    good = ["text,label", "fine,b"] if kind == "csv" else ["", '{"text": "fine", "label": "b"}']
    text = "\n".join([*good, row, ""])
    assert refusal(text, kind=kind).startswith(f"log.csv:3: {wanted}")
    result = imported(text, kind=kind, skip_broken=True)
    assert [one.input for one in result.fixtures] == ["fine"]
    assert len(result.skipped) == 1
    assert result.skipped[0].startswith(f"log.csv:3: {wanted}")


def test_broken_rows_are_counted_in_lines_of_the_file() -> None:
    """A cell of several lines does not shift the lines that follow it."""
    assert refusal(MESSAGES + "\nbroken\n") == "log.csv:8: 1 cells under 2 columns"


def test_rows_after_a_broken_one_are_read() -> None:
    result = imported('text,label\n"a"x,b\nc,d\n', skip_broken=True)
    assert [one.input for one in result.fixtures] == ["c"]


def test_the_same_input_twice_is_merged_when_the_expectations_agree() -> None:
    result = imported(table([("Hello there", "a"), (" hello  THERE", "a"), ("bye", "b")]))
    assert {one.input for one in result.fixtures} == {"Hello there", "bye"}
    assert result.duplicates == 1


def test_the_same_input_with_two_expectations_is_left_out_and_reported() -> None:
    rows = [("hello", "a"), ("bye", "b"), ("HELLO", "c"), ("hello", "a"), ("hello", "d")]
    result = imported(table(rows))
    assert [one.input for one in result.fixtures] == ["bye"]
    assert result.conflicts == (
        "log.csv:4: the same input as line 2, but something else is expected",
    )


def test_the_same_input_in_another_context_is_another_case() -> None:
    result = imported("text,label,context\nhi,a,x\nhi,b,y\n")
    assert len(result.fixtures) == 2
    assert len({one.id for one in result.fixtures}) == 2


def test_an_id_may_be_used_once() -> None:
    text = "id,text,label\n1,a,x\n1,b,x\n"
    assert refusal(text, columns={"id": "id"}) == "log.csv:3: the id '1' is already used"
    mine = Fixture(id="1", split="train", input="other")
    wanted = "log.csv:2: the id '1' is already used"
    assert refusal(text, columns={"id": "id"}, existing=[mine]).startswith(wanted)


@pytest.mark.parametrize("options", [{}, {"sizes": {"train": 6, "holdout": 4}}, {"limit": 9}])
def test_importing_again_changes_nothing(options: dict[str, Any]) -> None:
    first = imported(many(30), **options)
    again = imported(many(30), existing=first.fixtures, **(options if "sizes" in options else {}))
    assert again.already == len(first.fixtures)
    assert not {one.id for one in again.fixtures} & {one.id for one in first.fixtures}
    if "limit" not in options:
        assert again.fixtures == ()


def test_a_fixture_there_is_wins_on_whichever_side_it_is() -> None:
    new = imported(MESSAGES).fixtures
    moved = [one.with_(split="vault", id=f"mine-{n}") for n, one in enumerate(new[:2])]
    result = imported(MESSAGES, existing=moved)
    assert result.already == 2
    assert set(result.fixtures) == set(new[2:])


def test_a_fixture_that_expects_something_else_is_a_conflict() -> None:
    mine = Fixture(id="mine", split="train", input="where is MY card?", expected="lost")
    result = imported(MESSAGES, existing=[mine])
    assert result.conflicts == (
        "log.csv:2: the same input as the fixture 'mine', but something else is expected",
    )
    assert result.already == 0
    assert len(result.fixtures) == 3


def test_a_side_depends_on_the_input_alone() -> None:
    """More rows, another order, label or spelling: a case stays where it is."""
    before = {str(one.input): one.split for one in imported(many(40)).fixtures}
    rows = [(f"MESSAGE  {n}", "z") for n in reversed(range(60))]
    after = {str(one.input): one.split for one in imported(table(rows)).fixtures}
    assert all(after[text.replace("message", "MESSAGE ")] == before[text] for text in before)


@pytest.mark.parametrize(("ratio", "low", "high"), [(0, 0, 0), (1, 200, 200), (0.3, 40, 80)])
def test_ratio_is_the_share_of_train(ratio: float, low: int, high: int) -> None:
    fixtures = imported(many(200), ratio=ratio).fixtures
    assert low <= sum(one.split == "train" for one in fixtures) <= high


def test_exact_sizes_share_labels_evenly() -> None:
    text = many(90, labels=("a", "a", "a", "a", "b", "c"))
    result = imported(text, sizes={"train": 12, "holdout": 9})
    assert sides(result) == {
        **{("train", label): 4 for label in "abc"},
        **{("holdout", label): 3 for label in "abc"},
    }


def test_a_rare_label_is_on_both_sides() -> None:
    rows = [(f"common {n}", "a") for n in range(40)] + [(f"rare {n}", "b") for n in range(4)]
    result = imported(table(rows), sizes={"train": 10, "holdout": 10})
    assert sides(result) == {
        ("train", "a"): 8,
        ("train", "b"): 2,
        ("holdout", "a"): 8,
        ("holdout", "b"): 2,
    }


def test_exact_sizes_take_the_lowest_digests_and_grow_evenly() -> None:
    small = imported(many(60), sizes={"train": 4, "holdout": 4})
    for label in "ab":
        digests = sorted(
            input_digest(one) for one in imported(many(60)).fixtures if one.expected == label
        )
        taken = sorted(input_digest(one) for one in small.fixtures if one.expected == label)
        assert taken == digests[:4]
    grown = imported(many(80), sizes={"train": 6, "holdout": 8}, existing=small.fixtures)
    assert sides(grown) == {
        ("train", "a"): 1,
        ("train", "b"): 1,
        ("holdout", "a"): 2,
        ("holdout", "b"): 2,
    }


def test_where_every_case_has_its_own_label_the_lowest_digests_are_taken() -> None:
    """And not the labels that come first in the alphabet."""
    text = many(60, labels=[f"label {n}" for n in range(60)])
    digests = sorted(map(input_digest, imported(text).fixtures))
    taken = imported(text, sizes={"holdout": 5}).fixtures
    assert sorted(map(input_digest, taken)) == digests[:5]


def test_too_few_cases_for_exact_sizes_is_an_error() -> None:
    message = refusal(many(10), sizes={"train": 8, "holdout": 8})
    assert message == "log.csv: 8 cases asked for train, and there are 5"


def test_a_limit_takes_the_same_cases_from_both_sides() -> None:
    """Not the lowest digests of one side: the side has a digest of its own."""
    fixtures = imported(many(200), limit=40).fixtures
    assert Counter(one.expected for one in fixtures) == {"a": 20, "b": 20}
    assert {one.split for one in fixtures} == {"train", "holdout"}
    assert set(fixtures) <= set(imported(many(200)).fixtures)
    assert imported(many(3), limit=40).fixtures == imported(many(3)).fixtures
    assert imported(many(3), limit=0).fixtures == ()


def test_labels_keep_only_their_rows() -> None:
    assert {one.expected for one in imported(MESSAGES, labels=["fees"]).fixtures} == {"fees"}
    assert refusal(MESSAGES, labels=["cards", "fee"]) == (
        "log.csv: no row has the label 'fee'; did you mean 'fees'?"
    )


def test_an_expected_text_becomes_the_correction_of_a_train_case_only() -> None:
    text = "text,label,correction\n" + "".join(f"m{n},a,\n" for n in range(20)) + "own,a,Do it.\n"
    result = imported(text, corrections=True, columns={})
    said = {(one.split, one.correction) for one in result.fixtures if one.input != "own"}
    assert said == {("train", "a"), ("holdout", None)}
    assert {one.correction for one in result.fixtures if one.input == "own"} == {"Do it."}
    (value,) = imported(
        '{"text": "x", "label": 3}', kind="jsonl", corrections=True, ratio=1
    ).fixtures
    assert value.correction is None


def stored(split: str, *batches: Sequence[Fixture]) -> SourceFile:
    """The file of a split after one import a batch, its last line end lost in between."""
    text = ""
    for batch in batches:
        text = append_jsonl(text.rstrip("\n"), [one for one in batch if one.split == split])
    return SourceFile(f"f/{split}/imported.jsonl", len(text.encode()), text.encode)


def test_what_is_imported_reads_back_from_files_appended_to() -> None:
    first = imported(many(10)).fixtures
    result = imported(many(30), existing=first)
    files = [stored("train", first, result.fixtures), stored("holdout", first, result.fixtures)]
    read = parse(files, root="f", require=("train", "holdout"))
    assert set(read) == {*first, *result.fixtures}


@pytest.mark.parametrize("text", ["", '{"id": "a"}\n', '{"id": "a"}', "\n"])
def test_appending_nothing_changes_nothing(text: str) -> None:
    assert append_jsonl(text, []) == text


@pytest.mark.parametrize("text", ["", "text,label\n"])
def test_a_file_without_rows_gives_nothing(text: str) -> None:
    assert imported(text).fixtures == ()


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(12)), st.sampled_from([{}, {"limit": 5}, {"sizes": {"train": 3}}]))
def test_the_order_of_rows_does_not_matter(order: list[int], options: dict[str, Any]) -> None:
    rows = [(f"message {n // 2 if n > 9 else n}", "abc"[n % 3]) for n in range(12)]
    mixed = imported(table([rows[n] for n in order]), **options)
    assert mixed.fixtures == imported(table(rows), **options).fixtures


# The rules for what joins a golden dataset ----------------------------------------------------

PARIS = "How do I get from the airport to the hotel in Paris tonight?"
PRAGUE = "How do I get from the airport to the hotel in Prague tonight?"


def test_what_is_nearly_the_same_is_counted_and_not_added() -> None:
    text = table([(PARIS, "way"), (PRAGUE, "way"), ("What is a visa?", "visa")])
    result = imported(text, rules=Rules())
    assert (len(result.fixtures), result.near) == (2, 1)
    (way,) = [one for one in result.fixtures if one.expected == "way"]
    assert way.count == 2
    (there,) = imported(table([(PARIS, "way")])).fixtures
    again = imported(table([(PRAGUE, "way")]), existing=[there], rules=Rules())
    assert (again.fixtures, again.near, again.already) == ((), 1, 0)


@pytest.mark.parametrize("options", [{}, {"limit": 9}, {"sizes": {"train": 1, "holdout": 1}}])
@pytest.mark.parametrize("side", ["train", "holdout"])
def test_what_is_nearly_the_same_is_never_on_the_other_side(
    side: str, options: dict[str, Any]
) -> None:
    there = Fixture(id="a", split=side, input=PARIS, expected="way")
    text = table([(PRAGUE, "stay"), ("What is a visa?", "visa"), ("Any trains left?", "train")])
    result = imported(text, existing=[there], rules=Rules(), **options)
    assert {one.split for one in result.fixtures if one.input == PRAGUE} <= {side}


def test_exact_sizes_are_kept_although_near_duplicates_fall_out() -> None:
    rows = [(PARIS.replace("Paris", city), "way") for city in ("Paris", "Praha", "Parma", "Padua")]
    text = table([*rows, ("What is a visa?", "visa"), ("Any trains left?", "train")])
    result = imported(text, rules=Rules(), sizes={"train": 2, "holdout": 1})
    assert Counter(one.split for one in result.fixtures) == {"train": 2, "holdout": 1}
    said = refusal(text, rules=Rules(), sizes={"train": 2, "holdout": 2})
    assert said == "log.csv: 2 cases asked for holdout, and there are 1"


def test_equal_rows_are_counted() -> None:
    result = imported(table([("Why?", "a"), ("why? ", "a"), ("How?", "b")]))
    assert {one.input: one.count for one in result.fixtures} == {"Why?": 2, "How?": 1}
    assert result.duplicates == 1


def test_no_more_than_the_cap_comes_in() -> None:
    rules = Rules(near=100, caps=Caps(production=7))
    result = imported(many(20), rules=rules)
    assert (len(result.fixtures), result.full) == (7, 13)
    more = imported(many(30), rules=rules, existing=result.fixtures)
    assert (more.fixtures, more.already, more.full) == ((), 7, 23)
    with pytest.raises(RatchetError) as caught:
        imported(many(20), rules=rules, sizes={"train": 5, "holdout": 5})
    assert caught.value.hint == "No more are allowed: feedback.caps in ratchet.yml."


# Answers, and what became of them -------------------------------------------------------------

ANSWERS = """\
text,answered,label
Where is my card?,cards,cards
Where is my PIN?,cards,pins
What is the fee?,fees,
Who are you?,,nobody
Where is  my pin?,fees,pins
"""


def test_an_answer_that_somebody_changed_is_a_correction() -> None:
    result = imported(ANSWERS, columns={"output": "answered"})
    assert {(one.input, one.source, one.count) for one in result.fixtures} == {
        ("Where is my card?", "production", 1),
        ("Where is my PIN?", "correction", 2),
        ("Who are you?", "production", 1),
    }
    (name,) = (one.id for one in result.fixtures if one.source == "correction")
    assert result.outputs == {name: "cards"}
    assert result.seen is not None
    assert (result.seen.answers, result.seen.corrected) == (4, 2)
    assert 2 < result.seen.likeness < 4


def test_the_same_log_has_the_same_name_and_another_has_another() -> None:
    columns = {"output": "answered"}
    one, same = (imported(ANSWERS, columns=columns).seen for _ in range(2))
    other = imported(ANSWERS.replace("fees,pins", "fee,pins"), columns=columns).seen
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.log == same.log != other.log


def test_without_a_column_of_answers_nothing_is_said_of_them() -> None:
    assert imported(ANSWERS, columns={"expected": "label"}, skip_broken=True).seen is None


def test_a_dot_leads_into_an_object() -> None:
    line = json.dumps({"request": {"text": "Why?"}, "agent": {"label": "why", "x": None}})
    columns = {"input": "request.text", "expected": "agent.label", "output": "agent.x.y"}
    (fixture,) = imported(line, kind="jsonl", columns=columns).fixtures
    assert (fixture.input, fixture.expected, fixture.source) == ("Why?", "why", "production")


def test_a_column_with_a_dot_in_its_name_is_itself() -> None:
    line = json.dumps({"a.b": "Why?", "a": {"b": "no"}, "label": "x"})
    (fixture,) = imported(line, kind="jsonl", columns={"input": "a.b"}).fixtures
    assert fixture.input == "Why?"
