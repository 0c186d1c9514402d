"""Every test runs sealed: its own HOME, git identity, dates and no real credentials."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from fakehub import FakeHub

if TYPE_CHECKING:
    from pathlib import Path

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


# What tells a program where it runs: a test says so itself when it matters.
WHERE = ("CI", "EDITOR", "VISUAL", "PAGER", "LESS", "FORCE_COLOR", "COLORTERM", "CLICOLOR_FORCE")


@pytest.fixture(autouse=True)
def hermetic_seal(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Pin HOME, git's configuration, identity and dates, the terminal, and drop credentials."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name in WHERE or name.startswith(("GIT_", "ANTHROPIC_", "GITHUB_", "RATCHET_", "XDG_")):
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
    (home / ".gitconfig").write_text(
        "[init]\n\tdefaultBranch = main\n[commit]\n\tgpgsign = false\n"
    )
    return home
