"""The files of ``ratchet init --github``: the packaged templates, filled in for a project.

They are the only copy: this repository's own workflows are what they give for the action ``./``.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from skill_ratchet.base.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from skill_ratchet.project.config import Config

FOLDER = ".github/workflows"
NAMES = (
    "ratchet.yml",
    "ratchet-gate.yml",
    "ratchet-transfer.yml",
    "ratchet-command.yml",
    "ratchet-watch.yml",
    "ratchet-pages.yml",
)
FORMS = ".github/ISSUE_TEMPLATE"
FORM = "ratchet-correction.yml"
PATHS = (*(f"{FOLDER}/{name}" for name in NAMES), f"{FORMS}/{FORM}")  # of all that is written
HERE = "./"  # the action of the repository that the workflow itself is in

# GitHub's '$/' would take the action from the commit of the event: in a pull request, from that.
_OWN = f"{HERE} # zizmor: ignore[self-repository] of the branch that is checked out"
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*@[0-9a-f]{40}")
_SHARDS = re.compile(r"^ +shard: \[(1(?:, [0-9]+)*)\]$", re.MULTILINE)
_HELD_OUT = ("holdout", "vault")


def choose_action(given: str | None, toplevel: Path) -> str:
    """The action that the workflows use: as given, or the repository's own.

    Raises:
        RatchetError: It is not pinned to a commit, or there is none.
    """
    if given is None:
        if _is_ours(toplevel):
            return HERE
        raise RatchetError(
            "The workflows need Ratchet's action, and this repository has none of its own.",
            hint="Name it: --action OWNER/REPO@SHA, with the commit's 40 digits.",
        )
    if given == HERE and _is_ours(toplevel):
        return HERE
    if not _PINNED.fullmatch(given):
        raise RatchetError(
            f"--action {given}: expected OWNER/REPO@ and the 40 digits of a commit.",
            hint="Whoever owns a tag or a branch can move it to other code; a commit stays.",
        )
    return given


def shards_of(workflow: str) -> int:
    """How many machines share a confirm run in a workflow file of ours; 1 where it says nothing."""
    found = _SHARDS.search(workflow)
    return len(found[1].split(",")) if found else 1


def action_of(workflow: str) -> str:
    """The action that a workflow file of ours uses, pinned; empty for the repository's own."""
    found = re.search(r"uses: (\S+)[^\n]*\n\s+with:\n\s+command: propose\n", workflow)
    return found[1] if found and _PINNED.fullmatch(found[1]) else ""


def left_in(workflow: str, config: Config, *, prefix: str) -> list[str]:
    """Folders of held-out cases that a workflow of ours does not keep from the job that proposes.

    Args:
        workflow: The text of ``ratchet.yml`` in the folder of workflows.
        config: Where the cases are now.
        prefix: As for `render`.
    """
    lines = {line.strip() for line in workflow.splitlines()}
    if "/*" not in lines:  # it proposes nothing, or another way
        return []
    return [one for one in _held_out(config) if f"!/{_literal(prefix)}{one}/" not in lines]


def render(config: Config, *, action: str, prefix: str, shards: int = 1) -> dict[str, bytes]:
    """The workflow files and the issue form, by path from the root of the repository.

    Args:
        config: What is kept from the proposer, and which provider is installed.
        action: What stands behind ``uses:``.
        prefix: The project's folder in the repository, with a slash at its end; or nothing.
        shards: Machines that share the runs of a confirm run.

    Raises:
        RatchetError: A path that a workflow file cannot hold.
    """
    held_out = [f"!/{_literal(prefix)}{folder}/" for folder in _held_out(config)]
    for text in (prefix, *held_out):
        if not text.isprintable() or "${{" in text:
            raise RatchetError(f"{text!a} cannot be written into a workflow; rename it.")
    providers = {config.provider.type, config.meta_provider.type}
    values = {
        "@SHARDED@": [""] if shards > 1 else [],
        "@SHARDS@": [str(shards)],
        "@NUMBERS@": [", ".join(str(number) for number in range(1, shards + 1))],
        "@AND_SHARD@": [", shard"] if shards > 1 else [""],
        "@SHARD_AND@": ["'shard', "] if shards > 1 else [""],
        "@ACTION@": [_OWN if action == HERE else action],
        "@HELD_OUT@": ["/*", *held_out],
        # A line whose value is the action's default is left out.
        "@DIRECTORY@": [_quoted(prefix.rstrip("/"))] if prefix else [],
        "@EXTRAS@": ["local"] if "local" in providers else [],
        "@SKILLS@": sorted(config.skills),
    }
    folder = resources.files("skill_ratchet").joinpath("templates/github")
    made = {}
    for path in PATHS:
        name = path.rpartition("/")[2]
        lines = folder.joinpath(name).read_text(encoding="utf-8").splitlines()
        filled = "".join(f"{new}\n" for line in lines for new in _filled(line, values))
        made[path] = filled.encode()
    return made


def _filled(line: str, values: Mapping[str, Sequence[str]]) -> list[str]:
    """The line once for each value of every placeholder in it; just the line without one."""
    for name, texts in values.items():
        if name in line:
            return [one for text in texts for one in _filled(line.replace(name, text), values)]
    return [line]


def _is_ours(toplevel: Path) -> bool:
    """Whether the repository is Ratchet's own."""
    action = toplevel / "action.yml"
    return (
        (toplevel / "bot/skill_ratchet/__main__.py").is_file()
        and action.is_file()
        and action.read_text(encoding="utf-8").startswith("name: Ratchet\n")
    )


def _held_out(config: Config) -> list[str]:
    """Folders that the proposer's checkout leaves out, as git's patterns."""
    # Where fixtures usually are: of every skill, also of one that is added later.
    usual = [f"fixtures/*/{split}" for split in _HELD_OUT]
    own = {
        f"{_literal(skill.fixtures)}/{split}"
        for name, skill in config.skills.items()
        for split in _HELD_OUT
        if skill.fixtures != f"fixtures/{name}"
    }
    return [*usual, *sorted(own)]


def _literal(path: str) -> str:
    """A pattern of git that matches just this path."""
    return re.sub(r"([*?\[\\])", r"\\\1", path)


def _quoted(text: str) -> str:
    """A YAML scalar."""
    return "'" + text.replace("'", "''") + "'"
