"""Other tools' formats: what each becomes, what is left out, and how each is recognised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases.conversion import Imported, import_rows
from skill_ratchet.cases.formats import LISTED, MAX_BROKEN, recognise
from skill_ratchet.core.golden import Rules
from skill_ratchet.core.records import Message

if TYPE_CHECKING:
    from skill_ratchet.project.config import Kind


def imported(
    text: str, *, kind: Kind, columns: dict[str, str] | None = None, **more: Any
) -> Imported:
    lines = text.splitlines(keepends=True)
    rules = Rules(near=100, ratio=more.pop("ratio", 0.5))
    return import_rows(lines, kind=kind, columns=columns or {}, path="log", rules=rules, **more)


def only(result: Imported) -> Any:
    (fixture,) = result.fixtures
    return fixture


def message(role: str, *texts: str, **more: Any) -> dict[str, Any]:
    parts = [{"type": "text", "content": text} for text in texts]
    return {"role": role, "parts": parts, **more}


SAID = message("assistant", "Paris", finish_reason="stop")


def wrapped(value: Any) -> dict[str, Any]:
    """OTLP's spelling of a JSON value."""
    if isinstance(value, list):
        return {"arrayValue": {"values": [wrapped(one) for one in value]}}
    if isinstance(value, dict):
        pairs = [{"key": key, "value": wrapped(one)} for key, one in value.items()]
        return {"kvlistValue": {"values": pairs}}
    return {"stringValue": value}


def attributes(**given: Any) -> list[dict[str, Any]]:
    return [
        {"key": "gen_ai." + key.replace("__", "."), "value": wrapped(given[key])} for key in given
    ]


def span(asked: Any, said: Any, *, where: str = "attributes", text: bool = True) -> dict[str, Any]:
    form = json.dumps if text else (lambda value: value)
    told = attributes(input__messages=form(asked), output__messages=form(said))
    name = "gen_ai.client.inference.operation.details"
    if where == "attributes":
        return {"spanId": "5fb3", "name": "chat m", "attributes": told}
    return {"spanId": "5fb3", "attributes": [], "events": [{"name": name, "attributes": told}]}


def otlp(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


@pytest.mark.parametrize("text", [True, False], ids=["JSON text", "structured"])
@pytest.mark.parametrize("where", ["attributes", "event"])
@pytest.mark.parametrize("indent", [None, 2], ids=["a line", "a document"])
def test_a_span_becomes_a_case(where: str, indent: int | None, *, text: bool) -> None:
    asked = [message("system", "Be brief."), message("user", "Capital of", "France?")]
    line = json.dumps(otlp(span(asked, [SAID], where=where, text=text)), indent=indent)
    case = only(imported(line, kind="otel", ratio=1))
    assert (case.input, case.expected, case.source) == (
        "Capital of\nFrance?",
        "Paris",
        "production",
    )
    assert case.correction is None  # a model's answer is nobody's correction
    assert recognise(line.splitlines(keepends=True), path="x.json") == "otel"


def test_a_log_record_and_a_conversation() -> None:
    turns = [message("user", "hi"), message("assistant", "yes?"), message("user", "capital?")]
    entry = span(turns, [SAID])
    line = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [entry]}]}]})
    assert only(imported(line, kind="otel")).input == (
        Message(role="user", content="hi"),
        Message(role="assistant", content="yes?"),
        Message(role="user", content="capital?"),
    )


def test_older_conventions_and_a_span_a_line() -> None:
    line = json.dumps(
        {
            "name": "chat",
            "attributes": {"gen_ai.system": "x"},
            "events": [
                {"attributes": {"gen_ai.prompt": '[{"role": "user", "content": "Q?"}]'}},
                {"attributes": {"gen_ai.completion": "A."}},
            ],
        }
    )
    case = only(imported(line, kind="otel"))
    assert (case.input, case.expected) == ("Q?", "A.")
    assert recognise([line], path="x.jsonl") == "otel"


TOOL = {"role": "assistant", "parts": [{"type": "tool_call", "name": "f"}]}


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (span([message("user", "a"), TOOL, message("user", "b")], [SAID]), "'tool_call'"),
        (span([message("user", "a"), message("tool", "b")], [SAID]), "the role 'tool'"),
        (span([message("user", "a")], [SAID, SAID]), "2 answers"),
        (span([message("user", "a")], [{**SAID, "finish_reason": "length"}]), "'length'"),
        (span([message("user", "a"), message("assistant", "b")], [SAID]), "the assistant's"),
        (span([message("user", " ")], [SAID]), "without text"),
        ({"spanId": "5fb3", "attributes": attributes(operation__name="chat")}, "captured"),
    ],
)
def test_a_span_that_no_fixture_can_hold_is_left_out_with_its_line(entry: Any, why: str) -> None:
    result = imported(
        "\n" + json.dumps(otlp(entry, span([message("user", "q")], [SAID]))), kind="otel"
    )
    assert only(result).input == "q"
    (told,) = result.left_out
    assert told.startswith("log:2: span 5fb3: ")
    assert why in told


def test_spans_of_other_things_are_no_matter() -> None:
    result = imported(json.dumps(otlp({"spanId": "1", "attributes": []})), kind="otel")
    assert (result.fixtures, result.left_out, result.skipped) == ((), (), ())


def test_a_broken_line_of_a_log_is_refused_or_skipped() -> None:
    text = '{"resourceSpans": 3}\n{oops\n' + json.dumps(otlp(span([message("user", "q")], [SAID])))
    with pytest.raises(RatchetError) as caught:
        imported(text, kind="otel")
    assert "log:1: 'resourceSpans' is not a list" in caught.value.message
    assert "log:2: not valid JSON" in caught.value.message
    assert only(imported(text, kind="otel", skip_broken=True)).input == "q"


def call(*, pair: bool, **response: Any) -> str:
    request = {"model": "m", "system": "s", "messages": [{"role": "user", "content": "Q?"}]}
    said = {"type": "message", "content": [{"type": "thinking"}, {"type": "text", "text": "A."}]}
    said |= response
    return json.dumps({"request": request, "response": said} if pair else request | said)


@pytest.mark.parametrize("pair", [True, False])
def test_a_call_of_the_messages_api_becomes_a_case(*, pair: bool) -> None:
    case = only(imported(call(pair=pair), kind="messages"))
    assert (case.input, case.expected) == ("Q?", "A.")
    assert recognise([call(pair=pair)], path="x.jsonl") == "messages"
    unanswered = imported(call(pair=pair), kind="messages", columns={"expected": ""})
    assert only(unanswered).expected is None


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({"stop_reason": "max_tokens"}, "'max_tokens'"),
        ({"type": "error"}, "is an error"),
        ({"content": [{"type": "tool_use"}]}, "'tool_use'"),
        ({"content": []}, "without text"),
    ],
)
def test_a_call_without_a_whole_answer_is_left_out(response: Any, why: str) -> None:
    result = imported(call(pair=True, **response), kind="messages")
    assert result.fixtures == ()
    assert why in result.left_out[0]


EVALS = """\
{"skill_name": "pdf",
 "evals": [
  {"id": 1, "prompt": "Do it.", "expected_output": "It is done.",
   "files": [], "expectations": ["X is there"]},
  {"id": 2, "prompt": "Read it.", "expected_output": "Read.", "files": ["a.pdf"]}
 ]}
"""


def test_evals_of_a_skill() -> None:
    result = imported(EVALS, kind="evals")
    assert only(result).input == "Do it."
    assert only(result).expected == "It is done.\n- X is there"
    assert result.left_out == ("log:5: eval 2: it has files, which a fixture cannot hold",)
    assert recognise(EVALS.splitlines(keepends=True), path="evals.json") == "evals"


def promptfoo(*tests: Any, **more: Any) -> str:
    return yaml.safe_dump({"prompts": ["{{q}}"], "tests": list(tests), **more}, sort_keys=False)


def asserting(*asserts: Any, **variables: Any) -> dict[str, Any]:
    return {"vars": {"q": "Hello?"} | variables, "assert": list(asserts)}


@pytest.mark.parametrize(
    ("asserts", "expected", "scorer"),
    [
        ([("equals", "Yes")], "Yes", {"type": "exact", "strip": False}),
        ([("contains", "a")], "a", {"type": "contains", "ignore_case": False}),
        ([("icontains", "a"), ("icontains", "b")], ["a", "b"], {"type": "contains"}),
        ([("icontains-any", ["a", "b"])], ["a", "b"], {"type": "contains", "all": False}),
        (
            [("contains-all", "a, b"), ("contains", "c")],
            ["a", "b", "c"],
            {"type": "contains", "ignore_case": False},
        ),
        ([("regex", "^a+$")], "^a+$", {"type": "regex"}),
    ],
)
def test_assertions_become_a_scorer(asserts: Any, expected: Any, scorer: Any) -> None:
    test = asserting(*({"type": kind, "value": value} for kind, value in asserts))
    case = only(imported(promptfoo(test), kind="promptfoo"))
    assert (case.input, case.expected, case.scorer) == ("Hello?", expected, scorer)


@pytest.mark.parametrize(
    ("test", "why"),
    [
        (asserting({"type": "llm-rubric", "value": "kind"}), "'llm-rubric'"),
        (asserting({"type": "is-json"}), "'is-json'"),
        (asserting({"type": "not-contains", "value": "x"}), "'not-contains'"),
        (asserting({"type": "equals", "value": {"a": 1}}), "the value of"),
        (asserting({"type": "equals", "value": "x", "weight": 0}), "'weight'"),
        (asserting({"type": "equals", "value": "file://x.txt"}), "from a file"),
        (asserting({"type": "equals", "value": "{{ q | upper }}"}), "a template"),
        (asserting({"type": "equals", "value": "x"}, {"type": "regex", "value": "x"}), "together"),
        (asserting({"type": "equals", "value": "x"}, other="y"), "'q' is not clear"),
        (asserting(), "asserts nothing"),
        ("file://more.yaml", "another file"),
    ],
)
def test_what_no_scorer_means_is_left_out_with_its_line(test: Any, why: str) -> None:
    good = asserting({"type": "equals", "value": "x"})
    result = imported(promptfoo(good, test), kind="promptfoo")
    assert len(result.fixtures) == 1
    (told,) = result.left_out
    assert told.startswith("log:")
    assert why.replace("'q' is", "is") in told


def test_variables_have_places() -> None:
    test = asserting({"type": "equals", "value": "{{want}}"}, want="yes", place="shop")
    config = promptfoo(test, defaultTest={"vars": {"want": "no"}})
    assert (
        "'place' has no place"
        in imported(config, kind="promptfoo", columns={"input": "q"}).left_out[0]
    )
    case = only(imported(config, kind="promptfoo", columns={"input": "q", "context": "place"}))
    assert (case.input, case.expected, case.context) == ("Hello?", "yes", "shop")


def test_what_holds_for_all_tests_is_asserted_too() -> None:
    default = {"assert": [{"type": "latency", "threshold": 3}]}
    config = promptfoo(asserting({"type": "equals", "value": "x"}), defaultTest=default)
    assert imported(config, kind="promptfoo").fixtures == ()


@pytest.mark.parametrize("text", ["prompts: [a]", "tests: file://x.csv", "a: [", "scenarios: []"])
def test_no_tests_is_an_error(text: str) -> None:
    with pytest.raises(RatchetError, match=r"^log:1: "):
        imported(text, kind="promptfoo")


@pytest.mark.parametrize(
    ("text", "path", "kind"),
    [
        ("a,b\n", "x.csv", "csv"),
        ('{"text": "a"}\n', "x.jsonl", "jsonl"),
        ('{"text": "a"}\n', "x.log", "jsonl"),
        ('{"id": 1, "input": "a", "label": "b"}\n', "x.jsonl", "jsonl"),
        ('{"id": "1", "input": "a", "split": "train"}\n', "x.jsonl", "fixtures"),
        ('{"resourceSpans": [{"a"\n' + '{"resourceSpans": []}\n', "x.jsonl", "otel"),
        ("oops\n" + '{"resourceSpans": []}\n', "x.jsonl", "otel"),
        ("", "x.jsonl", "jsonl"),
        ("tests: []", "x.yaml", "promptfoo"),
        ('{\n"tests": []}', "x.json", "promptfoo"),
        ("# Title\n", "README.md", None),
    ],
)
def test_recognised_by_content(text: str, path: str, kind: str | None) -> None:
    assert recognise(text.splitlines(keepends=True), path=path) == kind


def test_lists_of_what_is_wrong_are_bounded() -> None:
    with pytest.raises(RatchetError, match="more than 10,000 broken rows"):
        imported("{\n" * (MAX_BROKEN + 1), kind="jsonl", skip_broken=True)
    lines = (call(pair=True, type="error") + "\n") * (LISTED + 2)
    told = imported(lines, kind="messages").left_out
    assert (len(told), told[-1]) == (LISTED + 1, "and 2 more")


def test_a_format_without_columns_has_none_to_name() -> None:
    with pytest.raises(RatchetError, match="has no columns"):
        imported(EVALS, kind="evals", columns={"input": "prompt"})
