"""Stands in for pydantic's search for plugins, which are off here.

The search itself imports a package's metadata and with it all of ``email``, a twentieth of a short
command, before it looks whether plugins are wanted. Whatever else is asked of it is the original's.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Final

SEARCH: Final = "pydantic.plugin._loader"


def switch_off() -> None:
    """Let no plugin of pydantic's see a record; for the start of a process."""
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    sys.modules.setdefault(SEARCH, sys.modules[__name__])


def get_plugins(*_: Any) -> tuple[()]:
    """None."""
    return ()


def __getattr__(name: str) -> Any:
    """Anything that a newer pydantic asks for."""
    if sys.modules.get(SEARCH) is not sys.modules[__name__] or name.startswith("__"):
        raise AttributeError(name)
    del sys.modules[SEARCH]
    return getattr(import_module(SEARCH), name)
