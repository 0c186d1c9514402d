"""Every test runs sealed: its own HOME, git identity, dates and no real credentials."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

import templates
from fakehub import FakeHub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scenes import Stages

settings.register_profile("sealed", deadline=None)  # a slow machine fails no test
settings.load_profile("sealed")

EXCHANGES: Counter[str] = Counter()  # with the fake GitHub, of all worker processes


def _count() -> dict[str, int]:
    return {"judged": FakeHub.judged, "objected": FakeHub.objected}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell what this process has exchanged with the fake GitHub: a worker to its controller."""
    told = getattr(session.config, "workeroutput", None)
    if told is None:
        EXCHANGES.update(_count())
    else:
        told["exchanges"] = _count()


def pytest_testnodedown(node: Any) -> None:
    """Add up what a worker told."""
    EXCHANGES.update(getattr(node, "workeroutput", {}).get("exchanges", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many exchanges were held against GitHub's official description."""
    if judged := EXCHANGES["judged"]:
        terminalreporter.write_line(
            f"{judged:,} exchanges with the fake GitHub were held against GitHub's description; "
            f"{EXCHANGES['objected']:,} did not agree with it (by tests that make them)."
        )


# All that a test gets of the environment it is run in: programs are found and their libraries,
# and coverage, Docker and a browser work. It is not to know of anything else; and each variable
# more takes time at the start of each of a hundred thousand processes.
KEPT = ("PATH", "LANG", "TMPDIR", "TERM", "PYENV_ROOT", "VIRTUAL_ENV")
FAMILIES = (
    *("LC_", "LD_", "PYTHON", "PYTEST_", "COV_", "COVERAGE_", "PIP_", "SSL_"),
    *("DOCKER_", "PLAYWRIGHT_"),
)

# No hooks to copy into each new repository, nothing tidied up, and nothing that waits for a disk;
# and files that were copied with their index are known to be the same.
GIT_CONFIG = """
[init]
    defaultBranch = main
    templateDir =
[commit]
    gpgsign = false
[maintenance]
    auto = false
[receive]
    autogc = false
[core]
    fsync = none
    checkStat = minimal
"""
HOMES = itertools.count()


@pytest.fixture(autouse=True)
def hermetic_seal(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Pin HOME, git's configuration, identity and dates, the terminal, and drop credentials."""
    templates.keep_in(tmp_path_factory.getbasetemp() / "templates")
    home = tmp_path_factory.mktemp(f"home{next(HOMES)}", numbered=False)
    for name in list(os.environ):
        if name not in KEPT and not name.startswith(FAMILIES):
            monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "false",
        "GIT_AUTHOR_NAME": "A Developer",
        "GIT_AUTHOR_EMAIL": "dev@example.com",
        "GIT_AUTHOR_DATE": "2026-01-01T00:00:00+0000",
        "GIT_COMMITTER_NAME": "A Developer",
        "GIT_COMMITTER_EMAIL": "dev@example.com",
        "GIT_COMMITTER_DATE": "2026-01-01T00:00:00+0000",
        "TZ": "UTC",
        "NO_COLOR": "1",
        "COLUMNS": "80",
    }.items():
        monkeypatch.setenv(name, value)
    (home / ".gitconfig").write_text(GIT_CONFIG)
    return home


@pytest.fixture
def make(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stages]:
    """Stages on the fake GitHub: new ones, or copies of what was played before."""
    from scenes import stages  # noqa: PLC0415 - only where it is asked for

    with stages(tmp_path, tmp_path_factory, monkeypatch) as made:
        yield made
