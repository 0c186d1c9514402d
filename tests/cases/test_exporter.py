"""Export, import back, and secrets on the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.base.redact import find_key, redact_keys
from skill_ratchet.cases.conversion import import_rows
from skill_ratchet.cases.exporter import dump
from skill_ratchet.core.golden import Rules
from skill_ratchet.core.records import Fixture
from world import World, script, typed

if TYPE_CHECKING:
    from pathlib import Path

CASES = (
    Fixture(id="b", split="train", input="x\u2028y", expected="", scorer={"type": "regex"}),
    Fixture(id="a", split="holdout", input="z", expected={"k": [1]}, context="c", tags=("t",)),
)
KEY = "sk-ant-" + "a1B2" * 8


@pytest.fixture
def project(tmp_path: Path) -> World:
    return World.make(tmp_path / "p", model=script([]))


def test_what_is_exported_is_imported_as_it_was() -> None:
    lines = dump(CASES).split("\n")
    back = import_rows(lines, kind="fixtures", columns={}, rules=Rules(ratio=0.0)).fixtures
    assert back == CASES
    assert {one.digest for one in back} == {one.digest for one in CASES}


def test_held_out_cases_only_when_asked_for(project: World) -> None:
    shown = project.ratchet("export")
    assert {json.loads(line)["split"] for line in shown.out.splitlines()} == {"train"}
    for split, sides in (("holdout", {"holdout"}), ("all", {"train", "holdout"})):
        told = project.ratchet("export", "--split", split)
        assert {json.loads(line)["split"] for line in told.out.splitlines()} == sides


def test_a_file_is_replaced_only_with_force(project: World, tmp_path: Path) -> None:
    out = tmp_path / "cases.jsonl"
    out.write_text("mine")
    refused = project.ratchet("export", "--out", str(out))
    assert refused.code == ExitCode.ERROR
    assert "already there" in refused.err
    assert out.read_text() == "mine"
    assert project.ratchet("export", "--out", str(out), "--force").code == ExitCode.DONE
    assert out.read_text() == project.ratchet("export").out
    again = project.ratchet("import", str(out), "--json").json
    assert (again["format"], again["fixtures"]) == ("fixtures", [])
    assert again["already"] == len(out.read_text().splitlines())


def test_secrets_are_redacted_on_the_way_in(
    project: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery")
    rows = [
        {"text": f"my key is {KEY}", "label": "a"},
        {"text": "say correct-horse-battery", "label": "b"},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = project.ratchet("import", str(path), "--json").json
    written = "".join((project.path / name).read_text() for name in told["files"])
    assert told["redacted"] == len(rows)
    assert "correct-horse" not in written
    assert "sk-ant" not in written
    assert "[redacted:anthropic_key]" in written
    assert "[redacted:SOME_API_KEY]" in written


def test_check_refuses_a_fixture_with_a_key(project: World) -> None:
    assert project.ratchet("check").code == ExitCode.DONE
    project.write("fixtures/triage/train/keyed.yml", f"expected: x\ninput: my key is {KEY}\n")
    shown = project.ratchet("check")
    assert shown.code == ExitCode.ERROR
    assert "fixtures/triage/train/keyed.yml:2: looks like a secret (anthropic_key)" in shown.err
    assert KEY not in shown.err + shown.out


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (KEY, "anthropic_key"),
        ("ghp_" + "a" * 36, "github_token"),
        ("AKIA" + "ABCD" * 4, "aws_key"),
        ("eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 20, "jwt"),
        ("-----BEGIN RSA PRIVATE KEY-----", "private_key"),
        ("task-ant-" + "a" * 30, None),
        ("sk-short", None),
        ("[redacted:anthropic_key]", None),
        ("AKIAlowercase", None),
    ],
)
def test_keys_have_a_shape(text: str, kind: str | None) -> None:
    assert find_key(f"say {text} now") == kind
    redacted, count = redact_keys(text)
    assert count == (kind is not None)
    assert (redacted == text) == (kind is None)


def test_an_unknown_format_is_named(project: World) -> None:
    (project.path.parent / "x.md").write_text("# Title\n")
    shown = typed("-C", str(project.path), "import", str(project.path.parent / "x.md"))
    assert shown.code == ExitCode.ERROR
    assert "--format" in shown.err
