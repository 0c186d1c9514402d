"""What the documentation says is there, is there, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from bot.cli import cli
from bot.errors import ExitCode
from bot.forge import Reason

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", *ROOT.glob("docs/**/*.md")])
COMMANDS = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_its_heading_and_is_in_the_readme(name: str) -> None:
    assert f"\n## `ratchet {name}`\n" in COMMANDS
    assert re.search(rf"`(ratchet )?{name}\b", README)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_of_a_command_is_described_where_people_type_it(name: str) -> None:
    for parameter in cli.commands[name].params:
        if parameter.param_type_name == "option":
            assert getattr(parameter, "help", None), f"{name} {parameter.opts}"


def test_no_command_is_described_that_is_not_there() -> None:
    assert set(re.findall(r"\n## `ratchet (\w+)`", COMMANDS)) == set(cli.commands)


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_code_is_described(code: ExitCode) -> None:
    assert f"| `{code.value}` |" in COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_threat_names_tests_that_are_there() -> None:
    table = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("| threat |")[2]
    rows = [line.split("|") for line in table.splitlines()[2:] if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row[3])
        assert named, row[1]
        for name in named:
            assert (ROOT / f"tests/{name}.py").is_file(), name


def test_every_refusal_of_a_merge_is_described() -> None:
    page = (ROOT / "docs/design/forge.md").read_text(encoding="utf-8")
    assert {reason for reason in get_args(Reason) if f"\n| `{reason}` |" not in page} == set()


def test_the_readme_example_is_a_valid_config() -> None:
    from bot.config import load  # noqa: PLC0415 - only this test needs it

    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        assert load(block).skills
