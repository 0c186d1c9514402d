"""The base branch as it is on GitHub: its settings, and its skills with their ledgers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_ratchet.base import git
from skill_ratchet.ledger import access, remote
from skill_ratchet.project import config, repository, workspace
from skill_ratchet.project.repository import CommitTree

if TYPE_CHECKING:
    from skill_ratchet.github.api import GitHub
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.config import Config
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Base:
    """One commit of the base branch."""

    project: Project
    tree: CommitTree
    branch: str
    config: Config

    def space(self, skill: str) -> Workspace:
        """A skill as it is there."""
        return workspace.read(
            self.project, self.tree, self.config, skill, base=self.tree.commit, branch=self.branch
        )

    def ledger(self, skill: str) -> Ledger:
        """A skill's ledger, as it is in this clone."""
        return access.open_ledger(self.project, skill, redact=self.config.redact)


def name(project: Project) -> str:
    """The branch that experiments are merged into: as configured, or the one checked out."""
    own = config.load_config(CommitTree(project, "HEAD")).base
    return own or repository.require_branch(project)


def now(project: Project, github: GitHub) -> Base:
    """The base branch as it is on GitHub at this moment."""
    branch = name(project)
    return at(project, github.base_sha(branch), branch=branch)


def at(project: Project, sha: str, *, branch: str) -> Base:
    """The base branch at a commit, which is fetched if this clone does not have it."""
    if git.read_object(project.git_dir, sha, most=0) is None:
        remote.fetch(project, branch)
    tree = CommitTree(project, sha)
    return Base(project, tree, branch, config.load_config(tree))
