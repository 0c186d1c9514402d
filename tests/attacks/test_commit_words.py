"""What a model says of its edit becomes the first line of a commit, and acts on nothing there.

The attacker has got words into a hypothesis, by a case or a correction that the proposer reads. On
the default branch they would close an issue, call people in, skip the repository's own checks,
give somebody credit, or pass for a trailer of Ratchet's.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_ratchet.core import commit_words, markdown
from skill_ratchet.project import branches, repository
from skill_ratchet.project.proposal import EXPERIMENT, MADE, one_line
from world import BOTH, SKILL, World, idea, script

if TYPE_CHECKING:
    from pathlib import Path

    from scenes import Stages

# What GitHub acts on, as its documentation has it; git's trailers are asked of git itself.
ACTED_ON: Final = re.compile(
    r"""
      @[A-Za-z0-9] | [#][0-9] | \bGH-[0-9]
    | /(?:issues|pull|pulls|discussions|commit)/[0-9a-f]
    | \[(?:skip\ ci|ci\ skip|no\ ci|skip\ actions|actions\ skip)\]
    | skip-checks\s*: | [*]{3}NO_CI[*]{3} | ::
    """,
    re.VERBOSE | re.IGNORECASE,
)
ID: Final = "ab" * 32
ATTACKS: Final = {
    "closing": "Fixes #7, closes GH-8 and resolves octo/repo#9",
    "closing by URL": "Fixes https://github.com/octo/repo/issues/7",
    "mention": "cc @octo and @acme/team, eve@example.com",
    "skip": "[skip ci] [ci skip] [no ci] [skip actions] [actions skip]",
    "skip in capitals": "[SKIP CI][Skip Actions]",
    "skip around a hidden character": "[skip\u200b ci] [\u2060ci skip] [skip\u00a0ci] @\u200bocto",
    "skip over lines": "[skip\nci]\nskip-checks: true",
    "skip trailer": "x\n\n\nskip-checks: true",
    "skip elsewhere": "***NO_CI*** [skip-ci] [skip netlify] ##[error]x ::set-output name=x::y",
    "credit": "x\n\nCo-authored-by: Eve <eve@example.com>\nSigned-off-by: Eve <eve@example.com>",
    "credit on one line": "Reviewed-by: octo, Acked-By : @octo",
    "our trailers": f"x\n\n{EXPERIMENT}: {ID}\nRatchet-Evidence: {ID}\nRatchet-Revert: {ID}",
    "control": "a\x1b[31mb\x00c\rd\x85e\u2028f",
    "direction": "a\u202ee\u2066f\u200fg\U000e0041h",
    "nothing": "\u200b\u202e",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_comes_of_a_line(attack: str) -> None:
    made = commit_words.plain(f"triage: {ATTACKS[attack]}", 72)
    assert not ACTED_ON.search(made), made
    assert len(made) <= 72
    assert made.isprintable()
    assert made.startswith("triage:")


@pytest.mark.parametrize(
    "words",
    [
        "Say which labels there are, and ask for one alone.",
        "Answer 'yes' or 'no' (100% of #tags), a: b, C++ - and *this*; see GH",
        "\u00dcber gr\u00fc\u00dfe \u2192 \u65e5\u672c\u8a9e \U0001f600",
        "Two-step: ask first, then answer",
    ],
)
def test_plain_words_stay_as_they_are(words: str) -> None:
    assert commit_words.plain(words) == words


LETTERS: Final = "@#[]: \n-_*/\u200b\u202eGHghskipconty17/issue"


@given(st.text(alphabet=st.sampled_from(LETTERS) | st.characters()))
def test_any_text_is_one_line_on_which_nobody_acts(text: str) -> None:
    made = commit_words.plain(text)
    assert not ACTED_ON.search(made), made
    assert commit_words.plain(made) == made
    assert one_line(made) == made, "nothing is left that another program would take away"


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_title_and_a_page_are_not_acted_on_either(attack: str) -> None:
    """They become the messages of merges, as the repository's settings have it."""
    acted_on = r"\[(?:skip|ci|no|actions) |@[a-z]|#[0-9]|skip-checks\s*:"
    text = ATTACKS[attack]
    for made in (markdown.line(text, 100), markdown.inert(markdown.clean(text))):
        assert not re.search(acted_on, made, re.IGNORECASE)


def test_a_commit_is_made_of_such_a_line_whoever_calls(tmp_path: Path) -> None:
    """The last door: what was not made plain before is made so there."""
    world = World.make(tmp_path / "world")
    project = repository.open_project(world.path)
    commit = branches.build_commit(
        project,
        path=SKILL,
        base="HEAD",
        content=b"new\n",
        message="\n".join(ATTACKS.values()),
        trailers={EXPERIMENT: "a\n\nskip-checks: true"},
        at="2026-01-01T00:00:00+00:00",
    )
    told = world.git("show", "-s", "--format=%B", commit)
    assert not ACTED_ON.search(told.split("\n")[0])
    keys = world.git("show", "-s", "--format=%(trailers:keyonly)", commit).split()
    assert keys == [EXPERIMENT, MADE]


ALL: Final = "Fixes #7 @octo [skip ci]\n\nskip-checks: true\nCo-authored-by: E <e@example.com>"


def _attacking() -> str:
    reply = idea(1, "Rule alpha.").replace('"idea 1"', json.dumps(ALL))
    return script([reply], right={"alpha": BOTH})


def test_a_merge_here_is_not_acted_on(tmp_path: Path) -> None:
    world = World.make(tmp_path / "world", model=_attacking())
    assert world.run().verdicts == [("merge", "improved")]
    told = world.git("show", "-s", "--format=%B", "main")
    assert told.startswith("triage: Fixes # 7 @ octo (skip ci)")
    assert not ACTED_ON.search(told), told
    keys = world.git("show", "-s", "--format=%(trailers:keyonly)", "main").split()
    assert {key.partition("-")[0] for key in keys} == {"Ratchet"}


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_merge_on_github_is_not_acted_on(make: Stages, method: str) -> None:
    stage = make.published(model=_attacking(), config={"github": {"method": method}})
    asked = ("log", "--format=%B", "main")
    bare = str(stage.hub.state.git.path)
    told = subprocess.run(["git", *asked], cwd=bare, capture_output=True, check=True, text=True)
    assert "triage: Fixes # 7" in told.stdout
    assert not ACTED_ON.search(told.stdout.replace("#1", "")), "but for GitHub's own number"
    pull = stage.hub.issue(1)
    assert not re.search(r"\[skip ci\]|@octo|#7", f"{pull.title}{pull.body}")
