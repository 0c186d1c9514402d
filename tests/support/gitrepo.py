"""Real repositories for tests, sealed by conftest's environment."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import templates

if TYPE_CHECKING:
    from pathlib import Path

SKILL = "skills/triage/SKILL.md"
SKILL_TEXT = (
    "---\nname: triage\ndescription: Sorts tickets.\n---\n\n# Triage\n\n"
    "Be brief.\n\nAnswer with one label.\n\nNever guess.\n"
)


class GitRepo:
    """A checkout, and the few things tests do to one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> GitRepo:
        """A new repository on branch ``main``, without a commit."""
        path.mkdir(parents=True)
        repo = cls(path)
        repo.git("init", "--quiet", "--initial-branch=main")
        return repo

    @classmethod
    def with_skill(cls, path: Path, *, prefix: str = "") -> GitRepo:
        """A repository with one commit: a project in ``prefix`` with one skill and two others."""
        templates.copy(path, lambda made: cls._with_skill(made, prefix), "with skill", prefix)
        return cls(path)

    @classmethod
    def _with_skill(cls, path: Path, prefix: str) -> None:
        repo = cls.create(path)
        repo.write(f"{prefix}ratchet.yml", "skills: {}\n")
        repo.write(f"{prefix}{SKILL}", SKILL_TEXT)
        repo.write(f"{prefix}fixtures/triage/train/a.yml", "input: a\nexpected: b\n")
        repo.write("README.md", "readme\n")
        repo.commit("start")

    def git(self, *args: str, **env: str) -> str:
        """Run git here and return what it printed; a failure fails the test."""
        done = subprocess.run(
            ["git", *args],
            cwd=self.path,
            env=os.environ | env if env else None,
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
        assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr}"
        return done.stdout.removesuffix("\n")

    def write(self, path: str, text: str | bytes, *, executable: bool = False) -> Path:
        """Write a file byte for byte, with its folders."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        target.chmod(0o755 if executable else 0o644)
        return target

    def commit(self, message: str) -> str:
        """Commit everything in the checkout; returns the commit's name."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--no-verify", f"--message={message}")
        return self.tip("HEAD")

    def tip(self, ref: str) -> str:
        """The commit a branch or other name points to."""
        return self._loose(ref) or self.git("rev-parse", "--verify", f"{ref}^{{commit}}")

    def _loose(self, ref: str) -> str | None:
        """A branch's commit from the file it is in, if it surely is what git would take."""
        git = self.path / ".git"
        try:
            if ref == "HEAD":
                kind, _, name = (git / "HEAD").read_text().strip().partition("ref: refs/heads/")
                return None if kind or not name else self._loose(name)
            if (git / "refs/tags" / ref).exists() or (git / "packed-refs").exists():
                return None
            found = (git / "refs/heads" / ref).read_text().strip()
        except OSError:
            return None
        return found if len(found) == 40 else None

    def show(self, path: str, ref: str = "HEAD") -> str:
        """A file's text in a commit, line ends and all."""
        return self.git("cat-file", "blob", f"{ref}:{path}") + "\n"

    def status(self) -> str:
        """Everything that is not committed, a line each."""
        return self.git("status", "--porcelain", "--untracked-files=all")

    def hook(self, name: str, script: str) -> None:
        """Install a hook that runs ``script``."""
        self.write(f".git/hooks/{name}", f"#!/bin/sh\n{script}\n", executable=True)

    def worktree(self, path: Path, *args: str) -> GitRepo:
        """A linked worktree at ``path``; ``args`` as for ``git worktree add``."""
        self.git("worktree", "add", "--quiet", str(path), *args)
        return GitRepo(path)

    def world(self) -> str:
        """All branches as one text: the commit graph with refs, authors, subjects, trailers."""
        shown = "%d %an/%cn: %s%n%w(0,4,4)%(trailers:only,unfold)"
        ours = ("-c", "trailer.separators=:", "-c", "log.showSignature=false")
        lines = self.git(*ours, "log", "--graph", "--all", "--decorate=short", f"--format={shown}")
        told = [line.rstrip() for line in lines.splitlines() if line.strip(" |*/\\")]
        return "\n".join(line for line in told if " Ratchet-Made: " not in line)  # names commits

    def files(self) -> dict[str, bytes]:
        """Every file of the checkout, byte for byte."""
        return {
            file.relative_to(self.path).as_posix(): file.read_bytes()
            for file in self.path.rglob("*")
            if file.is_file() and ".git" not in file.relative_to(self.path).parts
        }

    def assert_sound(self) -> None:
        """No object or ref is damaged."""
        self.git("fsck", "--strict", "--no-dangling")
