"""Where proposals are published and merged: plain git, or GitHub. What both have in common."""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal, NamedTuple

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Record


class Identity(NamedTuple):
    """Who writes and commits."""

    name: str
    email: str

    def __str__(self) -> str:
        """As git writes it."""
        return f"{self.name} <{self.email}>"

    @property
    def environ(self) -> dict[str, str]:
        """For git's environment."""
        said = (("NAME", self.name), ("EMAIL", self.email))
        return {f"GIT_{role}_{what}": to for role in ("AUTHOR", "COMMITTER") for what, to in said}


# For what no person and no account commits, and where git knows of nobody: an address that can
# never be anybody's (RFC 2606).
NOBODY: Final = Identity("Ratchet", "ratchet@skill-ratchet.invalid")
# What it was once, which may be a stranger's account on GitHub. Such commits are still ours.
FORMER: Final = Identity("Ratchet", "ratchet@users.noreply.github.com")

EXPERIMENT: Final = "Ratchet-Experiment"
PARENT: Final = "Ratchet-Parent"
EVIDENCE: Final = "Ratchet-Evidence"
REVERT: Final = "Ratchet-Revert"
MADE: Final = "Ratchet-Made"  # names what the commit does, so that one that was changed shows

FIXTURES: Final = "ratchet/fixtures"  # the branch of the pull request with new fixtures
CASES: Final = "Ratchet-Fixtures"
# Refs the ledger keeps under the same name, and the branch above.
RESERVED: Final = frozenset({"ledger", "holdout", "fixtures"})

Reason = Literal[
    "base_moved",  # the base branch is no longer where the verdict was reached
    "dirty",  # someone is editing the file
    "in_progress",  # a merge, rebase or the like is under way in the checkout
    "locked",  # another git is at work, or one was killed
    "checkout_blocked",  # git itself would not touch the checkout
    "conflict",  # the file has changed since, in the same place
    "not_landed",  # there is nothing to take back
    "head_moved",  # the pull request has another head than the one that was measured
    "closed",  # the pull request is closed, a draft, or aims at another branch
    "held",  # a label says stop
    "blocked",  # the rules of the branch forbid it
    "uncertain",  # GitHub would not say whether it can be merged, or was
]


class Merged(Record):
    """The base branch now has ``commit``; ``already`` when nothing was left to do."""

    branch: str
    commit: str
    already: bool = False


class Refused(Record):
    """Nothing was changed: why, in words, and what a person can do about it."""

    reason: Reason
    detail: str
    hint: str | None = None


class OpenProposal(Record):
    """A proposal that waits for a person.

    ``commit`` is the tip of its branch, ``experiment`` and ``evidence`` what its trailers say, and
    ``edited`` tells that someone has committed to the branch after the bot.
    """

    skill: str
    commit: str
    experiment: str
    parent: str
    committed_at: str  # ISO 8601
    evidence: str = ""
    edited: bool = False


def proposal_branch(skill: str) -> str:
    """The branch a skill's proposals are published on.

    Raises:
        RatchetError: The name is taken, or cannot be part of a branch's name.
    """
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", skill)
    if skill.casefold() in RESERVED:
        raise RatchetError(
            f"a skill cannot be called {skill!r}: the branch ratchet/{skill} is Ratchet's own",
            hint="Rename the skill in ratchet.yml.",
        )
    if not plain or ".." in skill or skill.endswith((".", ".lock")):
        raise RatchetError(
            f"{skill!r} cannot be part of a branch's name",
            hint="Use letters, digits, '-' and '_'.",
        )
    return f"ratchet/{skill}"


def one_line(text: str) -> str:
    """``text`` on one line, without control, invisible or unpaired characters."""
    visible = (" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    return " ".join("".join(visible).split())
