"""What a step says to GitHub Actions, and what nobody can make it say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.base import actions
from world import World, idea, script

if TYPE_CHECKING:
    from pathlib import Path

IN = {"GITHUB_ACTIONS": "true"}


@pytest.mark.parametrize(
    "text",
    [
        "::error::no",
        "  ::add-mask::x",
        "line\n::stop-commands::x",
        "##[group]x",
        "words ##[error] words",
        ":::warning::x",
        "%0A::error::x",
    ],
)
def test_no_text_is_a_command(text: str) -> None:
    shown = actions.defused(text, environ=IN)
    assert "::" not in shown
    assert "##[" not in shown
    assert shown.replace("\u200b", "") == text
    assert actions.defused(text, environ={}) == text


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Not sound.", ["::error::Not sound."]),
        (
            "skills/a/SKILL.md:3: no name\nfixtures/x,y.yml:12: 100% wrong",
            [
                "::error file=skills/a/SKILL.md,line=3::no name",
                "::error file=fixtures/x%2Cy.yml,line=12::100%25 wrong",
            ],
        ),
        ("a\n" * 30, ["::error::a"] * actions.MOST_ANNOTATIONS),
        ("::set-env name=x::y", ["::error::::set-env name=x::y"]),
    ],
)
def test_errors_are_shown_where_they_are(message: str, shown: list[str]) -> None:
    assert actions.annotated(message, environ=IN) == shown
    assert actions.annotated(message, environ={}) == []


def test_a_broken_skill_is_annotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World.make(tmp_path / "p")
    world.write("skills/triage/SKILL.md", "no frontmatter\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ran = world.ratchet("check")
    assert ran.code == 1
    assert "::error file=skills/triage/SKILL.md,line=1::" in ran.err


def test_a_model_gives_the_runner_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says goes through the log of the job, whole and broken."""
    evil = idea(1, "Rule alpha.").replace("idea 1", "::add-mask::x\\n::error::y ##[group]z")
    world = World.make(tmp_path / "p", model=script([evil]))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ran = world.ratchet("run")
    assert ran.code == 0, ran.err
    for stream in (ran.out, ran.err, *(world.ratchet(*look).out for look in _LOOKS)):
        lines = [line.strip() for line in stream.splitlines()]
        assert not [line for line in lines if line.startswith("::") or "##[" in line]
    assert json.loads(world.ratchet("log", "--json").out)


_LOOKS = (("log",), ("show", "1"), ("diff", "1"), ("explain", "1"), ("log", "--json"))
