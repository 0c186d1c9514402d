"""A change that is nearly one that was tried is found; another change is not taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.agents.memory import nearest
from skill_ratchet.core.edits import unified_diff

PARAGRAPH = (
    "Read the whole message first, then name the one team that can answer it without asking"
    " anybody else, and say nothing besides its name."
)
SKILL = f"# Triage\n\n- Say yes or no.\n- Never guess.\n\n{PARAGRAPH}\n"
RULE = "- A message that names a charge and a card goes to the team of the charge."
OTHER = "- Answer in the language that the customer wrote in, also when it is not English."


def diff(after: str, before: str = SKILL) -> str:
    return unified_diff(before, after, path="skills/triage/SKILL.md")


def added(rule: str, *, behind: str = "", to: str = SKILL) -> str:
    """The change that puts a rule at the end, or behind a line."""
    if not behind:
        return diff(f"{to}{rule}\n", to)
    return diff(to.replace(f"{behind}\n", f"{behind}\n{rule}\n"), to)


def replaced(old: str, new: str) -> str:
    assert SKILL.count(old) == 1
    return diff(SKILL.replace(old, new))


NEAR = {
    "the same": (added(RULE), added(RULE)),
    "in another place": (added(RULE), added(RULE, behind="- Say yes or no.")),
    "in another file": (added(RULE), added(RULE, to="Another text.\n")),
    "in capitals": (added(RULE), added(RULE.upper())),
    "without the list marker": (added(RULE), added(RULE.removeprefix("- "))),
    "with another list marker": (added(RULE), added(f"  3. {RULE.removeprefix('- ')}")),
    "indented with a tab": (added("- Say yes."), added("\t- Say yes.")),
    "with more white space": (added(RULE), added(RULE.replace(" ", "  ") + " ")),
    "on two lines": (added(RULE), added(RULE.replace(" and ", "\nand "))),
    "with a typing error": (added(RULE), added(RULE.replace("message", "mesage"))),
    "two rules in another order": (added(f"{RULE}\n{OTHER}"), added(f"{OTHER}\n{RULE}")),
    "the same words out of a paragraph": (
        replaced(" and say nothing besides its name", ""),
        replaced(", and say nothing besides its name", ""),
    ),
    "a file without a newline at its end": (
        added(RULE),
        diff(f"{SKILL}{RULE}", SKILL.removesuffix("\n")),
    ),
    "a file with other line ends": (
        added(RULE),
        diff(f"{SKILL}{RULE}\n".replace("\n", "\r\n"), SKILL.replace("\n", "\r\n")),
    ),
}


@pytest.mark.parametrize(("change", "tried"), NEAR.values(), ids=NEAR)
def test_nearly_the_same_change_is_found(change: str, tried: str) -> None:
    """Whichever of the two came first."""
    assert nearest(change, [("e1", tried)]) == "e1"
    assert nearest(tried, [("e1", change)]) == "e1"


FAR = {
    "another rule": (added(RULE), added(OTHER)),
    "a short rule with another word": (added("Rule alpha."), added("Rule beta.")),
    "one rule, and two": (added(RULE), added(f"{RULE}\n{OTHER}")),
    "taken out, not put in": (
        diff(SKILL, f"{SKILL}{RULE}\n"),
        added(RULE),
    ),
    "the same line replaced by another": (
        replaced("- Never guess.", "- Say what you do not know."),
        replaced("- Never guess.", "- Ask a person instead."),
    ),
    "another word of the same long line": (
        replaced("Read the whole message", "Skim the whole message"),
        replaced("that can answer it", "that must answer it"),
    ),
    "the same word for another": (
        replaced("one team", "one person"),
        replaced("one team", "one queue"),
    ),
    "nothing, of an experiment that could not be applied": (added(RULE), ""),
    "nothing, of either": ("", ""),
    "only file names": (diff(f"{SKILL}x\n").split("@@", maxsplit=1)[0], added(RULE)),
    "white space alone": (diff(SKILL.replace("\n\n", "\n\n\n")), diff(f"{SKILL}\n\n")),
}


@pytest.mark.parametrize(("change", "tried"), FAR.values(), ids=FAR)
def test_another_change_is_not_taken_for_it(change: str, tried: str) -> None:
    assert nearest(change, [("e1", tried)]) is None
    assert nearest(tried, [("e1", change)]) is None


def test_the_most_alike_is_named_and_of_equals_the_latest() -> None:
    tried = [
        ("other", added(OTHER)),
        ("same", added(RULE)),
        ("same again", added(RULE, behind="- Never guess.")),
        ("nearly", added(RULE.replace("message", "mesage"))),
    ]
    assert nearest(added(RULE), tried) == "same again"
    assert nearest(added(RULE), tried[:2]) == "same"
    assert nearest(added(RULE), []) is None


def test_how_near_is_near_can_be_said() -> None:
    change, tried = added("Rule alpha."), [("e1", added("Rule beta."))]
    assert nearest(change, tried, near=50) == "e1"
    assert nearest(change, tried, near=100) is None


TEXTS = st.text(st.sampled_from("ab-* \t\n\r\u2028é1."), max_size=40)


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_any_change_is_near_itself_or_is_of_no_words(before: str, after: str, other: str) -> None:
    """And whatever the texts are, nothing fails."""
    change = diff(after, before)
    found = nearest(change, [("e1", diff(other, before)), ("e2", change)])
    assert found in {"e1", "e2", None}
    assert nearest(change, [("e2", change)]) in ({"e2"} if found else {None})
