"""Held-out text in a candidate is found, unless train or the incumbent has it too."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_ratchet.core.leaks import found
from skill_ratchet.core.records import Fixture

SEALED = "My invoice from last March shows the annual plan charged two times"
CHINESE = "我的银行卡昨天在机场丢了。我应该马上联系谁来冻结它"
JAPANESE = "昨日空港でカードをなくしました。どこに電話すればいいですか。"
THAI = "ฉันทำบัตรเอทีเอ็มหายที่สนามบินเมื่อวานนี้ต้องโทรหาใคร"
INCUMBENT = "Label each message with one team.\n"


def fixture(split: str, **changes: Any) -> Fixture:
    base = {"id": split, "split": split, "input": "Where is my parcel?", "expected": "shipping"}
    return Fixture.model_validate(base | changes)


def leaked(added: str, *, train: Any = None, incumbent: str = INCUMBENT, **held_out: Any) -> Any:
    """What is found when ``added`` is appended to the incumbent."""
    return found(
        f"{incumbent}{added}",
        incumbent=incumbent,
        train=[fixture("train", **(train or {}))],
        holdout=[fixture("holdout", **({"input": SEALED} | held_out))],
    )


@pytest.mark.parametrize(
    ("added", "held_out"),
    [
        pytest.param(SEALED, {}, id="the whole input"),
        pytest.param("shows the annual plan charged two", {}, id="six words of it"),
        pytest.param("SHOWS the  annual,\nplan -- charged 'two'", {}, id="case and punctuation"),
        pytest.param("- shows **the annual plan** charged two", {}, id="Markdown between"),
        pytest.param("a b c d e f", {"context": "x a b c d e f y"}, id="context"),
        pytest.param("a b c d e f", {"correction": "No: a b c d e f!"}, id="correction"),
        pytest.param(
            "Reply: refund the annual plan",
            {"expected": "Refund the annual plan."},
            id="short expectation",
        ),
        pytest.param(
            "refund the annual plan",
            {"expected": {"answer": "refund the annual plan", "why": "x"}},
            id="value in JSON",
        ),
        pytest.param(
            "refund the annual plan",
            {"expected": ["refund the annual plan", "x"]},
            id="value in a list",
        ),
        pytest.param(
            '{"a":1,"b":2,"c":3}',
            {"expected": {"a": 1, "b": 2, "c": 3}},
            id="JSON as it is written",
        ),
        pytest.param(
            "charged two times too",
            {"input": [{"role": "user", "content": "Charged two times too!"}]},
            id="short message",
        ),
        pytest.param(
            "Straße über Öl ist dort gesperrt",
            {"input": "STRASSE ÜBER ÖL IST DORT GESPERRT"},
            id="folded",
        ),
        pytest.param(
            "Wo war gestern früh die Tür",
            {"input": unicodedata.normalize("NFD", "Wo war gestern früh die Tür?")},
            id="letters composed in another way",
        ),
        pytest.param(CHINESE, {"input": CHINESE}, id="Chinese"),
        pytest.param(
            f"如果{CHINESE[2:15]}就", {"input": CHINESE}, id="some Chinese in other words"
        ),
        pytest.param(JAPANESE[2:-4], {"input": JAPANESE}, id="Japanese"),
        pytest.param(THAI[4:], {"input": THAI}, id="Thai"),
    ],
)
def test_found(added: str, held_out: dict[str, Any]) -> None:
    assert leaked(added, **held_out)


@pytest.mark.parametrize(
    ("added", "more"),
    [
        pytest.param("", {}, id="nothing added"),
        pytest.param("Charges go to billing.", {}, id="other words"),
        pytest.param("the annual plan charged two", {}, id="five words of a longer text"),
        pytest.param("shows the annual plan was charged two times", {}, id="a word between"),
        pytest.param("billing", {"expected": "billing"}, id="a label"),
        pytest.param("fraud desk", {"expected": "fraud desk"}, id="a label of two words"),
        pytest.param("null", {"expected": None}, id="no expectation"),
        pytest.param("银行卡", {"expected": "银行卡"}, id="a label in Chinese"),
        pytest.param("我的银行卡", {"input": CHINESE}, id="three words in Chinese"),
        pytest.param(SEALED, {"train": {"input": SEALED}}, id="train has it"),
        pytest.param(
            "charged two times",
            {"train": {"correction": "charged two times"}, "expected": "charged two times"},
            id="train's correction has it",
        ),
        pytest.param(
            "refund the plan",
            {"train": {"expected": {"x": "Refund the plan"}}, "expected": "refund the plan"},
            id="train's JSON has it",
        ),
        pytest.param(SEALED, {"incumbent": f"Known: {SEALED}\n"}, id="the incumbent has it"),
    ],
)
def test_not_found(added: str, more: dict[str, Any]) -> None:
    assert leaked(added, **more) == ()


def test_what_is_found_is_named_sorted() -> None:
    assert leaked("shows the annual plan charged two times") == (
        "shows the annual plan charged two",
        "the annual plan charged two times",
    )


def test_words_are_matched_across_the_joint_with_the_incumbent() -> None:
    """A candidate cannot hide a copy by letting the incumbent's last words begin it."""
    assert leaked("plan charged two times", incumbent="It shows the annual ")


def test_no_held_out_cases_leak_nothing() -> None:
    assert found(SEALED, incumbent="", train=[], holdout=[]) == ()


words = st.lists(st.sampled_from("abcdefgh"), min_size=6, max_size=30)


@given(words, words)
def test_six_words_in_a_row_are_always_found(secret: list[str], rest: list[str]) -> None:
    """Wherever they stand, unless the incumbent has them."""
    held_out = fixture("holdout", input=" ".join(secret))
    text = " ".join(["xx", *rest, *secret[-6:], "yy"])
    assert " ".join(secret[-6:]) in found(text, incumbent="xx", train=[], holdout=[held_out])
    assert found(text, incumbent=text, train=[], holdout=[held_out]) == ()
    assert (
        found(text, incumbent="", train=[held_out.with_(split="train")], holdout=[held_out]) == ()
    )
