"""Every test is in one of the two sets that CI runs, and in one alone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def recipe(target: str) -> str:
    """What a target of the Makefile does."""
    found = re.search(rf"(?m)^{target}:.*\n((?:\t.*\n)+)", MAKEFILE)
    assert found, target
    return found[1]


def test_one_set_is_what_the_other_leaves_out() -> None:
    """Neither names files or tests, so what has the marker is in one and all else in the other."""
    settings = SETTINGS["ini_options"]
    assert settings["addopts"].count("-m ") == 1
    assert "-m 'not full'" in settings["addopts"]
    assert [one.partition(":")[0] for one in settings["markers"]] == ["full"]
    pytest = "$(BIN)/python -m pytest"
    run = "-n auto --dist worksteal"
    assert recipe("test") == f"\t{pytest} {run}\n"
    assert recipe("test-full") == f"\t{pytest} -m full -rs {run}\n"


def test_ci_runs_both() -> None:
    local = (ROOT / ".ci/run").read_text("utf-8")
    github = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    for said in (local, github):
        assert re.findall(r"(?m)(?:^|run: )(make [a-z-]+)", said) == ["make test", "make test-full"]
