"""Chromium, driven by Playwright: where it is, and how it is begun so that it stays by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def find() -> str | None:
    """The browser's program: ``RATCHET_CHROMIUM``, or one on the path."""
    named = os.environ.get("RATCHET_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def browser(program: str) -> Iterator[Browser]:
    """The browser, without a window. As root it runs without its sandbox, as it must."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  half a second

    args = [*QUIET, "--no-sandbox"] if os.geteuid() == 0 else [*QUIET]
    with sync_playwright() as play:
        yield play.chromium.launch(executable_path=program, args=args)
