"""Words and charts: what a person reads is right, narrow, and cannot be forged."""

from __future__ import annotations

import math

import pytest

from skill_ratchet.core import wording
from skill_ratchet.core.gate import Action, Reason, Verdict
from skill_ratchet.core.records import Tally

HELD = Tally(incumbent=0.5, candidate=0.69, pairs=140, wins=41, losses=14, sweeps=7)


def verdict(action: Action = Action.MERGE, **changes: object) -> Verdict:
    fields: dict[str, object] = {
        "action": action,
        "reason": Reason.IMPROVED if action is Action.MERGE else Reason.FUTILE,
        "detail": "The confirm run ended: futile.",
        "attempt": 2,
        "log_e": math.log(229.4),
        "log_bar": math.log(84),
    }
    return Verdict.model_validate(fields | changes)


def said(given: Verdict, *, fixtures: int = 20, rule: str = "evidence", same: bool = False) -> str:
    return wording.sentence(given, holdout=HELD, fixtures=fixtures, rule=rule, deterministic=same)


def test_the_sentence_of_a_merge_gives_the_evidence_and_its_limit() -> None:
    assert said(verdict()) == (
        "Merged: over 7 fresh sweeps of 20 sealed fixtures the new skill won 41 decisive runs and "
        "lost 14 (+19 points). If it were no better on these fixtures, evidence this strong "
        "(229:1; bar 84:1, attempt 2) would appear less than 1 time in 200. This does not show it "
        "helps beyond them."
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (said(verdict(), fixtures=5), "fits your fixtures"),
        (said(verdict(), same=True), "deterministic"),
        (said(verdict(false_merge_rate=0.44), rule="improves"), "merges 44% of useless edits"),
        (said(verdict(Action.REJECT)), "Rejected: over 7 fresh sweeps"),
        (said(verdict(Action.REJECT)), "229:1"),
    ],
)
def test_the_sentence_says_what_the_verdict_rests_on(text: str, wanted: str) -> None:
    assert wanted in text


def test_a_rejection_claims_no_rarity() -> None:
    assert "less than 1 time" not in said(verdict(Action.REJECT))
    assert "beyond them" not in said(verdict(Action.REJECT))


def test_without_a_confirm_run_the_sentence_is_the_reason() -> None:
    given = verdict(Action.REJECT, detail="The screen on train ended: losing.")
    assert (
        wording.sentence(given, holdout=None, fixtures=20, rule="evidence", deterministic=False)
        == "Rejected: The screen on train ended: losing."
    )


@pytest.mark.parametrize("length", [1, 2, 7, 25, 200])
@pytest.mark.parametrize("end", [-1.5, 0.0, 2.0, 9.0])
def test_the_chart_fits_80_columns_and_shows_the_bar(length: int, end: float) -> None:
    path = [end * (n + 1) / length for n in range(length)]
    lines = wording.chart(path, log_bar=4.1).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any("---" in line or "-" in line.split("|")[-1] for line in lines if "|" in line)
    assert f"to {length}" in lines[-1]


def test_the_chart_of_nothing_says_so() -> None:
    assert wording.chart([], log_bar=4.1) == "(no complete sweep)"


@pytest.mark.parametrize(
    "hostile", ["\x1b[2Jgone", "a\x07b", "\u202etxt.exe", "a\x9b31m", "x\u200by", "a\rb", "\x00"]
)
def test_no_terminal_control_gets_through(hostile: str) -> None:
    shown = wording.safe(hostile)
    assert not set(shown) & set("\x1b\x07\u202e\x9b\u200b\r\x00")


def test_plain_text_of_any_script_is_left_alone() -> None:
    text = "naïve café\n\tמזל طوبى 好 🙂\n"
    assert wording.safe(text) == text
    assert wording.safe("a\r\nb") == "a\nb"


@pytest.mark.parametrize(
    ("usd", "shown"), [(None, "unknown"), (0.0, "$0.00"), (0.0123, "$0.0123"), (12.345, "$12.35")]
)
def test_dollars(usd: float | None, shown: str) -> None:
    assert wording.dollars(usd) == shown


@pytest.mark.parametrize(
    ("log_e", "shown"),
    [
        (math.log(0.25), "0.25:1"),
        (0.0, "1:1"),
        (math.log(59.6), "60:1"),
        (1e9, "1,000,000,000:1"),
    ],
)
def test_odds_stay_finite(log_e: float, shown: str) -> None:
    assert wording.odds(log_e) == shown


def test_one_line_is_one_line() -> None:
    assert wording.one_line("a\n b\tc", 80) == "a b c"
    assert wording.one_line("x" * 100, 10) == "x" * 9 + "…"
