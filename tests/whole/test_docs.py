"""What the documentation says is there, is there, and the other way round."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest

import world
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.cli import app as main
from skill_ratchet.cli.main import WHERE, command
from skill_ratchet.core.scoring import SPECS
from skill_ratchet.project import config
from skill_ratchet.project.proposal import Reason
from skill_ratchet.providers import PROVIDERS
from tests.whole.test_layers import FLOOR

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMANDS = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
LAYOUT = (ROOT / "docs/design/layout.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "bot/skill_ratchet"


@pytest.mark.parametrize("name", sorted(WHERE))
def test_every_command_has_its_heading_and_is_in_the_readme(name: str) -> None:
    assert f"\n## `ratchet {name}`\n" in COMMANDS
    assert re.search(rf"`(ratchet )?{name}\b", README)


@pytest.mark.parametrize("name", sorted(WHERE))
def test_every_option_of_a_command_is_described_where_people_type_it(name: str) -> None:
    for parameter in command(name).params:
        if parameter.param_type_name == "option":
            assert getattr(parameter, "help", None), f"{name} {parameter.opts}"


def test_no_command_is_described_that_is_not_there() -> None:
    assert set(re.findall(r"\n## `ratchet (\w+)`", COMMANDS)) == set(WHERE)


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
            assert list((ROOT / "tests").rglob(f"{name}.py")), name


def test_every_refusal_of_a_merge_is_described() -> None:
    page = (ROOT / "docs/design/forge.md").read_text(encoding="utf-8")
    assert {reason for reason in get_args(Reason) if f"\n| `{reason}` |" not in page} == set()


def test_the_readme_example_is_a_valid_config() -> None:
    from skill_ratchet.project.config import load  # noqa: PLC0415 - only this test needs it

    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        assert load(block).skills


def keys(part: Any) -> set[str]:
    """Every key that a part of the config's schema knows, at any depth."""
    if isinstance(part, list):
        return set().union(*map(keys, part))
    if not isinstance(part, dict):
        return set()
    found = set(part.get("properties", {})) | keys(list(part.get("properties", {}).values()))
    names = ("additionalProperties", "anyOf", "oneOf", "allOf", "items")
    found |= keys([part[name] for name in names if name in part])
    name = part.get("$ref", "").rpartition("/")[2]
    return found | keys(SCHEMA["$defs"][name]) if name and name != "JsonValue" else found


SCHEMA = json.loads((ROOT / "docs/ratchet.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("section", sorted(SCHEMA["properties"]))
def test_every_key_of_the_config_is_under_its_heading(section: str) -> None:
    page = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    assert f"\n## `{section}`\n" in page
    told = page.partition(f"\n## `{section}`\n")[2].partition("\n## ")[0]
    known = keys(SCHEMA["properties"][section])
    if section == "meta":  # its `provider` is another of the same, under that heading
        known = (known - keys(SCHEMA["properties"]["provider"])) | {"provider"}
    for key in known:
        assert re.search(rf"(`|\b){re.escape(key)}\b", told), f"{section}: {key}"


@pytest.mark.parametrize("page", [ROOT / "docs/README.md"], ids=["index"])
def test_the_index_names_every_page(page: Path) -> None:
    named = {(page.parent / to).resolve() for to in re.findall(r"\]\(([^)#]+)", page.read_text())}
    there = {one.resolve() for one in PAGES if one not in {page, ROOT / "CHANGELOG.md"}}
    assert there - named == set()


NAMED = re.compile(rf"`((?:bot|tests|{'|'.join(FLOOR)})/[\w./*]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    """From the top of the repository, or from that of the package."""
    named = set(NAMED.findall(page.read_text(encoding="utf-8")))
    assert len(named) > 10 or page.name not in {"CONTRIBUTING.md", "layout.md"}
    assert {path for path in named if not any(top.glob(path) for top in (ROOT, PACKAGE))} == set()


def test_every_room_has_its_row_and_what_to_start_with_is_in_it() -> None:
    rows = re.findall(r"^\| `(\w+)/` \|.*\| (.*) \|$", LAYOUT, re.MULTILINE)
    assert sorted(room for room, _ in rows) == sorted(FLOOR)
    for room, files in rows:
        for file in re.findall(r"`([\w/]+\.py)`", files):
            assert (PACKAGE / room / file).is_file(), f"{room}/{file}"


def test_the_steps_to_a_scorer_or_provider_were_gone_by_those_there_are() -> None:
    scorers = (ROOT / "docs/scorers.md").read_text(encoding="utf-8")
    providers = (ROOT / "docs/providers.md").read_text(encoding="utf-8")
    assert set(SPECS) == set(config.SCORER_TYPES)
    assert set(PROVIDERS) == set(config.DEFAULT_MODELS) == set(main.PROVIDERS)
    for name in SPECS:
        assert f"\n## {name}\n" in scorers
    for name in PROVIDERS:
        assert f"\n## `{name}`\n" in providers


def consoles(text: str) -> list[list[str]]:
    """What people type, block by block, without the comments."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [
        [line[2:].partition("  #")[0].strip() for line in block.splitlines() if line[:2] == "$ "]
        for block in blocks
    ]


def test_the_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, in one project. Those of make and pip are compared with what is there."""
    project = tmp_path / "your-repository"
    server = tmp_path / "server.git"
    subprocess.run(["git", "init", "--quiet", "--bare", server], check=True)
    subprocess.run(["git", "init", "--quiet", project], check=True)
    subprocess.run(["git", "-C", project, "remote", "add", "origin", server], check=True)
    subprocess.run(["git", "-C", project, "config", "push.autoSetupRemote", "true"], check=True)
    monkeypatch.chdir(project)
    typed_ones = [line for block in consoles(README) for line in block]
    assert len(typed_ones) > 6
    for line in typed_ones:
        program, *args = line.replace("@COMMIT", "@" + "0" * 40).split()
        if program == "ratchet":
            ran = world.typed(*args)
            assert ran.code == 0, f"{line}: {ran.err}"
        elif program == "git":
            subprocess.run([program, *args], check=True, capture_output=True)
        elif program == "make":
            assert re.search(rf"(?m)^{args[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"))
        else:
            assert line in {"cd your-repository", "pip install ."}, line
    pushed = ["git", "-C", str(server), "ls-tree", "--name-only", "main", ".github/workflows/"]
    listed = subprocess.run(pushed, check=True, capture_output=True, text=True).stdout
    assert len(listed.split()) == 6
