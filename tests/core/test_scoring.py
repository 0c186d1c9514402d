"""Pure scorers and the reading of specs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Fixture
from skill_ratchet.core.scoring import (
    PURE,
    SPECS,
    ScorerError,
    find_json,
    metric_score,
    needs_expected,
    objection,
    parse_spec,
    score_pure,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skill_ratchet.core.records import Score
    from skill_ratchet.core.scoring import Spec

LABELS = {"type": "label", "labels": ["card", "card payment", "Top-up", "node.js", "not spam"]}


def make_spec(spec: str | Mapping[str, Any]) -> Spec:
    return parse_spec(spec, where="ratchet.yml:3")


def make_fixture(expected: Any = None) -> Fixture:
    return Fixture(id="a", split="train", input="question", expected=expected)


def scored(spec: str | Mapping[str, Any], output: str, expected: Any = None) -> Score:
    return score_pure(make_spec(spec), output, make_fixture(expected))


@pytest.mark.parametrize(
    ("spec", "expected", "output"),
    [
        ("exact", "Paris", " Paris\n"),
        ("exact", ["Paris", "Lutetia"], "Lutetia"),
        ("exact", "a\nb", "a\r\nb"),
        ("exact", 42, "42"),
        ("exact", "", "  "),
        ({"type": "exact", "ignore_case": True}, "Straße", "STRASSE"),
        ({"type": "exact", "strip": False}, " Paris", " Paris"),
        ("label", "card_payment", "**Card payment.**"),
        ("label", ["billing", "invoice"], "Invoice"),
        ("label", "किराया", "किराया।"),
        (LABELS, "card", "The label is **Card**."),
        (LABELS, "card payment", "card_payment"),
        (LABELS, "card payment", "Label: card-payment\nReason: it did not go through."),
        (LABELS, "top up", '{"label":"TOP UP","reason":"not a payment"}'),
        (LABELS, "Top-up", "Top-up. Yes, top up!"),
        (LABELS, "node.js", "It's node.js"),
        (LABELS, "card", "The customer can't pay, so card."),
        (LABELS, "not spam", "This isn't anything else: not spam"),
        (LABELS, ["card", "top-up"], "top-up"),
        ({"type": "label", "labels": ["yes", "no"]}, "no", "No, it is not."),
        ("contains", "refund", "Your REFUND is on its way"),
        ("contains", ["refund", "3 days"], "refund in 3 days"),
        ({"type": "contains", "all": False}, ["refund", "money back"], "a refund"),
        ({"type": "regex", "pattern": r"INV-\d+"}, None, "see INV-12."),
        ("regex", r"^\d+$", "12"),
        ("regex", ["a+", "b+"], "xbb"),
        ({"type": "regex", "pattern": "yes", "fullmatch": True, "ignore_case": True}, None, "YES"),
        ("json", {"a": 1, "b": {"c": [1, 2]}}, '{"b": {"c": [2, 1]}, "a": 1.0, "extra": null}'),
        ("json", {"a": 1}, 'Here you are:\n```json\n{"a": 1}\n```\nAnything else?'),
        ("json", {"a": 1}, 'The object is {"a": 1}, as you asked.'),
        ("json", [{"a": 1}, {"a": 2}], 'so: [{"a": 2}, {"a": 1, "b": 0}]'),
        ("json", {"a": None, "b": {}, "c": []}, '{"a": null, "b": {}, "c": []}'),
        ("json", '{"a": 1}', '{"a": 1}'),
        ("json", "yes", '"yes"'),
        ({"type": "json", "tolerance": 0.01}, {"a": 1.5}, '{"a": 1.505}'),
        ({"type": "json", "fields": ["a.b"]}, {"a": {"b": 1, "c": 2}}, '{"a": {"b": 1, "c": 3}}'),
        ({"type": "json", "fields": ["a"]}, {"a": 1, "ab": 2}, '{"a": 1, "ab": 3}'),
        ("edit_similarity", "Dear Ann", " Dear Ann\n"),
        ("edit_similarity", ["Dear Ann", "Hello"], "Hello"),
        ("edit_similarity", "", ""),
    ],
)
def test_scores_one(spec: Any, expected: Any, output: str) -> None:
    assert scored(spec, output, expected).value == 1


@pytest.mark.parametrize(
    ("spec", "expected", "output", "reason"),
    [
        ("exact", "Paris", "The answer is Paris", "expected 'Paris', got 'The answer is Paris'"),
        ("exact", "Paris", "paris", "differs from the expected text only in case"),
        ("exact", "Paris", "", "expected 'Paris', got ''"),
        ({"type": "exact", "strip": False}, "Paris", "Paris\n", "expected 'Paris', got 'Paris\\n'"),
        ("label", "billing", "The label is billing", "expected 'billing' alone"),
        ("label", "billing", "not billing", "expected 'billing' alone"),
        ("label", "billing", "", "expected 'billing' alone"),
        (LABELS, "card", "card payment", "expected 'card', got 'card payment'"),
        (LABELS, "card", "card or card payment", "ambiguous: names 'card' and 'card payment'"),
        (LABELS, "card payment", "Card. Payment was late.", "got 'card'"),
        (LABELS, "card", "discard, cards, CARDINAL", "names none of the labels"),
        (LABELS, "card", "", "names none of the labels"),
        (LABELS, "card", "It is not card", "ambiguous: 'card' stands beside a negation"),
        (LABELS, "card", "This isn\u2019t about a card at all", "ambiguous: 'card' stands beside"),
        (LABELS, "card", "I do not think that this is Card", "ambiguous: 'card' stands beside"),
        (LABELS, "card", "card is never right", "ambiguous: 'card' stands beside a negation"),
        (LABELS, "card", "card, card payment, top-up, node.js, not spam", "ambiguous: names"),
        ({"type": "label", "labels": ["spam", "ham"]}, "spam", "not spam", "ambiguous"),
        ("contains", "refund", "re-fund", "contains 0 of 1 expected texts; missing 'refund'"),
        ({"type": "contains", "ignore_case": False}, "Refund", "refund", "missing 'Refund'"),
        ({"type": "contains", "all": False}, ["a", "b"], "c", "missing 'a', 'b'"),
        ("regex", r"^\d+$", "12a", "does not match"),
        ({"type": "regex", "pattern": "yes", "fullmatch": True}, None, "yes!", "does not match"),
        ({"type": "regex", "pattern": "yes"}, None, "YES", "does not match 'yes': 'YES'"),
        ("json", {"a": 1}, "I cannot do that", "no single valid JSON document in the answer"),
        ("json", {"a": 1}, '{"a": 1} or {"a": 2}', "no single valid JSON document"),
        ("json", {"a": 1}, '{"b": {"a": 1}, oops}', "no single valid JSON document"),
        ("json", {"a": 1}, '```\n{"a": 1}\n```\n```\n{"a": 2}\n```', "more than one JSON document"),
        ("json", {"a": 1}, '{"a": true}', "0 of 1 values match; a: expected 1, got true"),
        ("json", {"a": True}, '{"a": 1}', "a: expected true, got 1"),
        ("json", {"a": 3}, '{"a": "3"}', 'a: expected 3, got "3"'),
        ("json", {"a": None}, "{}", "a: expected null, got nothing"),
        ("json", {"a": {}}, '{"a": {"b": 1}}', 'a: expected {}, got {"b": 1}'),
        ("json", {"a": []}, '{"a": [1]}', "0 of 1 values match; a: expected [], got [1]"),
        ("json", {"a": 1.5}, '{"a": NaN}', "no single valid JSON document"),
        ("json", {"a": 1.5}, '{"a": 1e999}', "a: expected 1.5, got Infinity"),
        ("json", {"a": 1.5}, f'{{"a": {"9" * 400}}}', "a: expected 1.5, got 999"),
        ("json", {"a": "x"}, '{"a": "\\ud800"}', 'a: expected "x", got "\\ud800"'),
        ("json", {"a": 1}, "[" * 100_000, "no single valid JSON document"),
        ("json", {"a": 1}, "9" * 300_000, "the answer is longer than 200,000 characters"),
        ("json", "yes", "yes", "no single valid JSON document"),
        ("edit_similarity", "abc", "xyz", "0.0% like the expected text"),
        ("edit_similarity", "abc", "abc" * 100_000, "the answer is longer than 50,000"),
    ],
)
def test_must_not_score(spec: Any, expected: Any, output: str, reason: str) -> None:
    """A wrong, hedged or broken answer gets nothing, and the reason says why."""
    got = scored(spec, output, expected)
    assert (got.value, reason in got.reason) == (0, True), got.reason


@pytest.mark.parametrize(
    ("spec", "expected", "output", "value", "reason"),
    [
        ("contains", ["a", "b", "x"], "abc", 2 / 3, "contains 2 of 3 expected texts; missing 'x'"),
        ("json", {"a": 1, "b": {"c": 2, "d": 3}}, '{"a": 1, "b": {"c": 2, "d": 4}}', 2 / 3,
         "2 of 3 values match; b.d: expected 3, got 4"),
        ("json", {"a": ["x", "y"]}, '{"a": ["y", "z"]}', 1 / 2,
         '1 of 2 values match; a: expected ["x", "y"], got ["y", "z"]'),
        ("json", {"a": [1, 1]}, '{"a": [1, 2, 3, 4]}', 1 / 4, "1 of 4 values match"),
        ("json", {"a": [1, 2], "b": 1}, '{"a": "no", "b": 1}', 1 / 3, "1 of 3 values match"),
        ("edit_similarity", "abcd", "abcx", 3 / 4, "75.0% like the expected text"),
    ],
)  # fmt: skip
def test_scores_in_part(spec: Any, expected: Any, output: str, value: float, reason: str) -> None:
    got = scored(spec, output, expected)
    assert got.value == pytest.approx(value)
    assert got.reason.startswith(reason)


@pytest.mark.parametrize(
    ("options", "text", "value"),
    [
        ({}, "loss 0.25", 0.25),
        ({}, "step 10\nloss=7.5e-1 in 5s", 0.75),
        ({}, "+.5", 0.5),
        ({}, "1.2.5 then 0.5.", 0.5),
        ({}, "12", 1),
        ({}, "-3", 0),
        ({"direction": "min"}, "0.25", 0.75),
        ({"low": 1000, "high": 2000}, "took 1,500.0", 0.5),
        ({"low": -1}, "-0.5", 0.25),
        ({"pattern": r"loss: (\S+)"}, "loss: 0.9\nloss: 0.5\nend 3", 0.5),
    ],
)
def test_metric_places_the_last_number_on_its_scale(
    options: dict[str, Any], text: str, value: float
) -> None:
    spec = make_spec({"type": "metric", "low": 0, "high": 1} | options)
    assert metric_score(spec, text).value == pytest.approx(value)  # type: ignore[arg-type] # it is


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({}, "", "no number found"),
        ({}, "version v1 took 5s", "no number found"),
        ({}, "step 1 loss: nan", "nan is not a finite number"),
        ({"direction": "min"}, "step 1 loss: -inf", "-inf is not a finite number"),
        ({"direction": "min"}, "1e999", "inf is not a finite number"),
        ({"pattern": r"loss: (\S+)"}, "0.5", "no number found"),
        ({"pattern": r"loss: (\S+)"}, "loss: 0.5\nloss: low", "'low' is not a number"),
        ({"pattern": r"loss(: \d)?"}, "loss", "'' is not a number"),
    ],
)
def test_metric_without_a_finite_number_scores_0(
    options: dict[str, Any], text: str, reason: str
) -> None:
    """Neither the number before a NaN nor the better end of the scale may be taken for it."""
    got = metric_score(make_spec({"type": "metric", "low": 0, "high": 1} | options), text)  # type: ignore[arg-type] # it is a Metric
    assert (got.value, reason in got.reason) == (0, True), got.reason


@pytest.mark.parametrize(
    ("spec", "expected", "why"),
    [
        *((name, None, f"{name} needs `expected`") for name in PURE),
        ("exact", 1.5, "must be a text or a list of texts"),
        ("label", True, "must be a text or a list of texts"),
        ("contains", {"a": 1}, "must be a text or a list of texts"),
        ("contains", [], "must be a text or a list of texts"),
        ("contains", ["a", ""], "every answer contains the empty text"),
        ("label", "?!", "has no letter or digit"),
        (LABELS, "cards", "'cards' is not one of labels (did you mean 'card'?)"),
        (LABELS, ["card", "spam"], "'spam' is not one of labels"),
        ("regex", "(", "'(' is not a regular expression"),
        ("edit_similarity", "x" * 50_001, "longer than 50,000"),
        ({"type": "json", "fields": ["totl"]}, {"total": 1}, "(did you mean 'total'?)"),
    ],
)
def test_a_fixture_that_cannot_be_scored_is_named_and_gets_no_score(
    spec: Any, expected: Any, why: str
) -> None:
    """`check` can say it beforehand, and a run never makes a 0 of it."""
    assert why in str(objection(make_spec(spec), make_fixture(expected)))
    with pytest.raises(ScorerError, match=re.escape(why)):
        scored(spec, "answer", expected)


def test_an_answer_on_which_a_pattern_takes_too_long_scores_0() -> None:
    """Whether there is a score must not depend on the answer."""
    spec = {"type": "regex", "pattern": "(a+a+)+b", "timeout": 0.01, "fullmatch": True}
    found = scored(spec, "a" * 5000)
    assert found.value == 0
    assert found.reason.startswith("'(a+a+)+b' took more than 0.01 s")


@pytest.mark.parametrize("name", SPECS)
def test_who_needs_expected(name: str) -> None:
    required = {"command": "x", "rubric": "x", "low": 0, "high": 1}
    fields = SPECS[name].model_fields
    options = {key: value for key, value in required.items() if key in fields}
    spec = make_spec({"type": name} | options)
    assert needs_expected(spec) == (name in PURE)
    assert not needs_expected(make_spec({"type": "regex", "pattern": "x"}))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, ["a scorer has no type"]),
        ({"labels": []}, ["a scorer has no type"]),
        (["exact"], ["a scorer has no type"]),
        ({"type": ["exact"]}, ["unknown scorer ['exact']"]),
        ("exakt", ["unknown scorer 'exakt' (did you mean 'exact'?)"]),
        ({"type": "exact", "ignorecase": True, "strip": "perhaps"},
         ["scorer exact: strip: Input should be a valid boolean",
          "scorer exact: unknown option 'ignorecase' (did you mean 'ignore_case'?)"]),
        ({"type": "label", "labels": ["a", "b", True]}, ["labels.2: Input should be a valid str"]),
        ({"type": "label", "labels": []}, ["labels: Tuple should have at least 2 items"]),
        ({"type": "label", "labels": ["C", "C++"]}, ["'C' and 'C++' cannot be told apart"]),
        ({"type": "label", "labels": ["a", "+"]}, ["'+' has no letter or digit"]),
        ({"type": "regex", "pattern": "("}, ["pattern: '(' is not a regular expression"]),
        ({"type": "regex", "pattern": "a", "timeout": 0}, ["timeout: Input should be greater"]),
        ({"type": "json", "tolerance": -1}, ["tolerance: Input should be greater than or equal"]),
        ({"type": "json", "tolerance": float("nan")}, ["tolerance: Input should be a finite"]),
        ({"type": "command"}, ["command: Field required"]),
        ({"type": "command", "command": ""}, ["command: Tuple should have at least 1 item"]),
        ({"type": "command", "command": "a 'b"}, ["command: No closing quotation"]),
        ({"type": "command", "command": "a", "memory_mb": -1}, ["memory_mb: Input should be"]),
        ({"type": "metric"}, ["low: Field required", "high: Field required"]),
        ({"type": "metric", "low": 1, "high": 1}, ["low (1) must be below high (1)"]),
        ({"type": "metric", "low": 0, "high": float("inf")}, ["high: Input should be a finite"]),
        ({"type": "metric", "low": 0, "high": 1, "pattern": "x"}, ["exactly one group"]),
        ({"type": "metric", "low": 0, "high": 1, "direction": "up"}, ["direction: Input should"]),
        ({"type": "rubric", "rubric": ""}, ["rubric: String should have at least 1 character"]),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_refused_with_all_that_is_wrong(value: Any, told: list[str]) -> None:
    with pytest.raises(RatchetError) as caught:
        make_spec(value)
    lines = caught.value.message.splitlines()
    assert len(lines) == len(told)
    for line, text in zip(lines, told, strict=True):
        assert line.startswith("ratchet.yml:3: ")
        assert text in line
    assert caught.value.hint


def test_a_command_may_be_one_line() -> None:
    spec = make_spec({"type": "command", "command": "python 'a b.py' -x"})
    assert spec.model_dump()["command"] == ("python", "a b.py", "-x")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(document=st.dictionaries(st.text(), json_values, max_size=4), prose=st.text("ab \n.,"))
def test_json_matches_itself_wherever_it_stands(document: dict[str, Any], prose: str) -> None:
    written = json.dumps(document, indent=1)
    assert scored("json", f"{prose}{written}{prose}", document).value == 1
    assert find_json(f"{prose}\n```json\n{written}\n```\n{prose}", like={}) == document


@settings(deadline=None)
@given(output=st.text(), expected=st.text(min_size=1))
def test_every_answer_gets_a_score_and_a_reason(output: str, expected: str) -> None:
    """No answer can make a scorer fail: that would be a way to put an experiment off."""
    fixture = make_fixture(expected)
    for name in PURE:
        spec = make_spec(name)
        if objection(spec, fixture) is None:
            assert score_pure(spec, output, fixture).reason


# --- docs/scorers.md -------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs" / "scorers.md"
SECTIONS = dict(re.findall(r"(?ms)^## (\w+)\n(.*?)(?=^## |\Z)", DOCS.read_text()))


def test_every_scorer_has_a_heading() -> None:
    assert list(SECTIONS) == list(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_the_documented_example_is_read(name: str) -> None:
    examples = re.findall(r"(?ms)^```yaml\n(.*?)^```", SECTIONS[name])
    assert examples
    for example in examples:
        spec = yaml.safe_load(example)["scorer"]
        assert spec["type"] == name
        make_spec(spec)


@pytest.mark.parametrize("name", SPECS)
def test_the_documented_options_are_the_real_ones(name: str) -> None:
    """Names and defaults alike."""
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| `?([^|`]+)`? \|", SECTIONS[name]))
    fields = {key: field for key, field in SPECS[name].model_fields.items() if key != "type"}
    written = {
        key: "required" if field.is_required() else yaml_text(field.default)
        for key, field in fields.items()
    }
    assert rows == written


def yaml_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)
