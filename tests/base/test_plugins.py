"""What stands in for pydantic's search for plugins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BOT = Path(__file__).parents[2] / "bot"
VALIDATES = "from pydantic import BaseModel\nclass M(BaseModel):\n    n: int\nM(n=1)\n"
OFF = "from skill_ratchet.base import plugins\nplugins.switch_off()\n"
MORE = "from pydantic.plugin._loader import PYDANTIC_ENTRY_POINT_GROUP as group\n"


def runs(code: str) -> list[str]:
    """What a process of its own prints."""
    kept = {name: said for name, said in os.environ.items() if name != "PYDANTIC_DISABLE_PLUGINS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "PYTHONPATH": str(BOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_records_are_validated_and_nothing_is_searched() -> None:
    said = "import sys\nprint('importlib.metadata' in sys.modules)\n"
    assert runs(VALIDATES + said) == ["True"], "pydantic no longer searches like that"
    assert runs(OFF + VALIDATES + said) == ["False"]


def test_whatever_else_is_asked_for_is_the_originals() -> None:
    """A newer pydantic may need more of it, and gets its own module, with plugins off."""
    after = VALIDATES + "import os\nprint(group, os.environ['PYDANTIC_DISABLE_PLUGINS'])\n"
    assert runs(OFF + MORE + after) == ["pydantic", "__all__"]


def test_a_search_that_was_made_before_stays() -> None:
    said = "import sys\nprint(sys.modules['pydantic.plugin._loader'].__name__)\n"
    assert runs(MORE + OFF + VALIDATES + said) == ["pydantic.plugin._loader"]
