"""The rooms: who may import whom, and which modules touch nothing outside themselves.

``docs/design/layout.md`` says what each room is for. A finding names file, line and import.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "skill_ratchet"
# From the ground up; rooms on one floor do not know each other.
FLOORS: Final = (
    {"base"},
    {"core"},
    {"project"},
    {"agents", "ledger"},
    {"providers", "cases"},
    {"experiment"},
    {"report"},
    {"github"},
    {"cli"},
)
FLOOR: Final = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Beside all of core: text and records in, text and records out.
PURE: Final = frozenset(
    {
        "base.errors",
        "base.documents",
        "agents.breadth",
        "agents.memory",
        "agents.prompts",
        "cases.batch",
        "cases.correction_text",
        "cases.drift",
        "experiment.diagnosis",
        "github.commands",
        "github.events",
        "github.intake_page",
        "github.intake_policy",
        "github.pages",
        "github.reviews",
        "github.touched_paths",
        "ledger.badge",
        "project.proposal",
        "providers.forecast",
        "providers.messages",
        "providers.pricing",
        "report.comparison",
        "report.conversation",
        "report.graph",
        "report.intervals",
        "report.metrics",
        "report.side_by_side",
        "report.sparklines",
    }
)
# Files, processes, the network, clocks, chance that no seed fixes, and other people's services.
OUTSIDE: Final = frozenset(
    {
        "os",
        "pathlib",
        "shutil",
        "tempfile",
        "subprocess",
        "socket",
        "http.client",
        "http.server",
        "urllib.request",
        "time",
        "random",
        "secrets",
        "uuid",
        "threading",
        "asyncio",
        "anyio",
        "signal",
        "requests",
        "httpx2",
        "git",
        "github",
        "anthropic",
    }
)


CALLS: Final = frozenset({"open", "__import__", "input", "datetime.now", "date.today"})


class Import(NamedTuple):
    """One module that another imports."""

    importer: str  # without the package's name
    line: int
    target: str  # the same for a module of ours
    ours: bool
    typing: bool  # for annotations only

    def __str__(self) -> str:
        path = f"bot/{PACKAGE}/{self.importer.replace('.', '/')}.py"
        return f"{path}:{self.line} imports {self.target}"


def read(package: Path) -> list[Import]:
    """Every import of every module of a package."""
    names = {dotted(path, package) for path in package.rglob("*.py")}
    return [
        found
        for path in sorted(package.rglob("*.py"))
        for found in _of(ast.parse(path.read_text("utf-8")), dotted(path, package), names)
    ]


def dotted(path: Path, package: Path) -> str:
    """A module's name within the package."""
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")


def _of(tree: ast.Module, importer: str, names: set[str]) -> Iterator[Import]:
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and _is_guard(node.test)]
    typing = {id(node) for guard in guards for node in ast.walk(guard)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [
                name if name.removeprefix(f"{PACKAGE}.") in names else str(node.module)
                for name in whole
            ]
        else:
            continue
        for target in targets:
            ours = target.partition(".")[0] == PACKAGE
            name = target.partition(".")[2] if ours else target
            yield Import(importer, node.lineno, name, ours, id(node) in typing)


def _is_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def room(module: str) -> str:
    """The room a module is in; empty for the package itself."""
    first = module.partition(".")[0]
    return first if first in FLOOR else ""


def upward(imports: list[Import]) -> list[str]:
    """Imports of a room above, or beside on the same floor."""
    return [
        str(one)
        for one in imports
        if one.ours and room(one.importer) and room(one.target)
        if room(one.importer) != room(one.target)
        if FLOOR[room(one.target)] >= FLOOR[room(one.importer)]
    ]


def circle(imports: list[Import]) -> list[str]:
    """Imports, at run time, by which modules import each other in a ring."""
    graph: dict[str, dict[str, Import]] = {}
    for one in imports:
        if one.ours and not one.typing and one.importer != one.target:
            graph.setdefault(one.importer, {})[one.target] = one
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        ring = error.args[1]  # each is imported by the next
        return [str(graph[importer][target]) for target, importer in pairwise(ring)]
    return []


def impure(imports: list[Import]) -> list[str]:
    """Imports by which a pure module would reach what is outside."""
    return [
        str(one)
        for one in imports
        if _is_pure(one.importer) and not one.typing
        if (one.target and not _is_pure(one.target) if one.ours else _is_outside(one.target))
    ]


def named_twice(package: Path) -> dict[str, list[str]]:
    """Names that several classes have, and the modules these are in."""
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(dotted(path, package))
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def _is_pure(module: str) -> bool:
    return module in PURE or room(module) == "core"


def reached(package: Path) -> list[str]:
    """Calls in pure modules that reach outside without an import that says so."""
    found = []
    for path in sorted(package.rglob("*.py")):
        if not _is_pure(dotted(path, package)):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
                where = f"bot/{PACKAGE}/{path.relative_to(package).as_posix()}:{node.lineno}"
                found.append(f"{where} calls {ast.unparse(node.func)}")
    return found


def _is_outside(module: str) -> bool:
    return module in OUTSIDE or module.partition(".")[0] in OUTSIDE


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return read(ROOT / "bot" / PACKAGE)


def test_every_module_is_in_a_room(imports: list[Import]) -> None:
    apart = {"", "__init__", "__main__"}
    assert {one.importer for one in imports if not room(one.importer)} <= apart
    package = ROOT / "bot" / PACKAGE
    assert {dotted(path, package) for path in package.rglob("*.py")} >= PURE


def test_no_room_imports_one_above_it(imports: list[Import]) -> None:
    assert upward(imports) == []


def test_no_modules_import_each_other_in_a_circle(imports: list[Import]) -> None:
    ring = circle(imports)
    assert not ring, "\n".join(ring)


def test_pure_modules_reach_nothing_outside(imports: list[Import]) -> None:
    assert impure(imports) == []


def test_one_name_means_one_class() -> None:
    assert named_twice(ROOT / "bot" / PACKAGE) == {}


def test_a_name_of_two_classes_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class Same: ...\nclass Only: ...\n")
    (tmp_path / "b.py").write_text("def f():\n    class Same: ...\n")
    assert named_twice(tmp_path) == {"Same": ["a", "b"]}


def test_pure_modules_open_no_file_and_ask_no_clock(tmp_path: Path) -> None:
    assert reached(ROOT / "bot" / PACKAGE) == []
    (tmp_path / "core").mkdir()
    (tmp_path / "core/gate.py").write_text("def f():\n    return datetime.now(UTC), open('x')\n")
    told = f"bot/{PACKAGE}/core/gate.py:2 calls "
    assert reached(tmp_path) == [f"{told}datetime.now", f"{told}open"]


@pytest.mark.parametrize(
    ("path", "text", "rule"),
    [
        ("core/gate.py", "from skill_ratchet.github import pages", upward),
        ("base/git.py", "from skill_ratchet.core.gate import decide", upward),
        ("agents/meta.py", "from skill_ratchet.ledger.store import Store", upward),
        ("report/status.py", "def f():\n    from skill_ratchet.cli import terminal", upward),
        ("core/gate.py", "import os", impure),
        ("core/gate.py", "from time import monotonic", impure),
        ("github/commands.py", "def f():\n    from pathlib import Path", impure),
        ("github/commands.py", "from skill_ratchet.base import git", impure),
    ],
)
def test_a_broken_rule_is_found(path: str, text: str, rule: object, tmp_path: Path) -> None:
    """It names the file and the import."""
    package = tmp_path / PACKAGE
    for name in (
        "core/gate.py",
        "core/__init__.py",
        "github/pages.py",
        "ledger/store.py",
        "base/git.py",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    (package / path).parent.mkdir(exist_ok=True)
    (package / path).write_text(f"{text}\n")
    assert callable(rule)
    [found] = rule(read(package))
    assert found.startswith(f"bot/{PACKAGE}/{path}:{text.count(chr(10)) + 1} imports ")


def test_a_circle_is_found(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / f"{name}.py").write_text(f"from {PACKAGE} import {other}\n")
    assert set(circle(read(tmp_path))) == {
        f"bot/{PACKAGE}/{name}.py:1 imports {other}"
        for name, other in (("a", "b"), ("b", "c"), ("c", "a"))
    }


def test_what_only_annotations_need_makes_no_circle(tmp_path: Path) -> None:
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
    (tmp_path / "a.py").write_text(f"from {PACKAGE} import b\n")
    (tmp_path / "b.py").write_text(f"{guarded}from {PACKAGE} import a\n")
    assert circle(read(tmp_path)) == []
