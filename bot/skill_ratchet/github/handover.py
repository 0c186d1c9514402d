"""Merges that were left to GitHub: judged again whenever something changes that may stop them.

With auto-merge or a merge queue it is GitHub that merges, some time later. It knows nothing of a
hold, a box or a new case. So each event that may stop a merge leads here, and so does each commit
that the merge queue makes. Nothing is merged or recorded here.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import markdown
from skill_ratchet.github import base_branch, events, gate_check, intake, pages
from skill_ratchet.github.comments import Handled
from skill_ratchet.github.pull_request import HOLD_LABEL, Job
from skill_ratchet.ledger import clock, remote
from skill_ratchet.project import branches, repository
from skill_ratchet.project.proposal import FIXTURES, proposal_branch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skill_ratchet.github.api import GitHub, Pull
    from skill_ratchet.github.base_branch import Base
    from skill_ratchet.github.events import Grouped
    from skill_ratchet.project.repository import Project

NAME = "watch"
_REVERT = re.compile(r"ratchet/revert-[0-9a-f]{12}")


def heed(start: Path, *, github: GitHub, name: str, event: dict[str, Any]) -> Handled | None:
    """Look again at what GitHub is to merge; None when the event does not concern that.

    Args: as for ``comments.handle``.

    Raises:
        RatchetError: Something could not be judged. GitHub was stopped from merging that.
    """
    heard = events.changed(name, event, repository=github.repository)
    if heard is None:
        return None
    project = repository.open_project(start)
    if isinstance(heard, events.Grouped):
        return _judge(project, github, heard)
    return _look(project, github)


# Something has changed ------------------------------------------------------------------------


def _look(project: Project, github: GitHub) -> Handled:
    """Judge every open pull request again that Ratchet has a say in."""
    branch = base_branch.name(project)
    base = base_branch.now(project, github)
    own = {proposal_branch(skill): skill for skill in base.config.skills}
    failed: list[str] = []

    def attempt(what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except RatchetError as error:
            failed.append(f"{what}: {error.message}")

    open_now = github.open_pulls()
    for skill in own.values():
        if any(one.head_ref == proposal_branch(skill) for one in open_now):
            attempt(skill, partial(_recheck, base, github, skill))
    if any(one.head_ref == FIXTURES for one in open_now):
        attempt("the new fixtures", lambda: intake.open_intake(project, github).recheck())
    for pull in open_now:
        ours = pull.author == github.me() and pull.head_ref in {*own, FIXTURES}
        if pull.base_ref == branch and not ours and not _is_revert(pull, github):
            again = partial(gate_check.recheck, project, github, pull, base=base)
            attempt(f"#{pull.number}", again)
    if failed:
        raise RatchetError("\n".join(failed), hint="What could not be judged waits.")
    return Handled(NAME, "done", "what is open was judged again")


def _recheck(base: Base, github: GitHub, skill: str) -> None:
    try:
        space = base.space(skill)
    except RatchetError:  # a case that cannot be read: so nothing can be judged
        pull = github.find_pull(pages.marker("pull", skill), proposal_branch(skill))
        if pull is not None:
            github.cancel_merge(pull.number)
        raise
    Job.of(space, github=github, now=clock.now).recheck()


# The merge queue ------------------------------------------------------------------------------


def _judge(project: Project, github: GitHub, group: Grouped) -> Handled:
    """Set the status of a commit that the merge queue would put on the base branch.

    Where it must not go in, the bot's own pull request leaves the queue as well: the branch may not
    ask for the status.
    """
    if group.into != base_branch.name(project):
        return Handled(NAME, "ignored", f"it would go into {markdown.line(group.into, 100)}")
    pull = github.pull(group.pull)
    try:
        good, why = _verdict(project, github, pull, group)
    except RatchetError:
        _refuse(github, pull, group.head_sha, "It could not be judged; the log says why.")
        raise
    if good:
        said = markdown.line(why, pages.STATUS)
        github.set_status(group.head_sha, state="success", description=said)
        return Handled(NAME, "done", f"#{pull.number} may be merged")
    _refuse(github, pull, group.head_sha, why)
    return Handled(NAME, "done", f"#{pull.number} must not be merged")


def _refuse(github: GitHub, pull: Pull, sha: str, why: str) -> None:
    if pull.author == github.me():
        github.cancel_merge(pull.number)
    github.set_status(sha, state="failure", description=markdown.line(why, pages.STATUS))


def _verdict(project: Project, github: GitHub, pull: Pull, group: Grouped) -> tuple[bool, str]:
    remote.fetch(project, group.into)
    remote.fetch(project, group.branch)
    if not branches.in_history(project, group.base_sha, tip=group.head_sha):
        return False, "It is not made on what it says."
    if _is_revert(pull, github):
        return True, "A person asked for it."
    base = base_branch.at(project, group.base_sha, branch=group.into)
    if pull.author == github.me() and pull.head_ref == FIXTURES:
        held = HOLD_LABEL in pull.labels or base.tree.has(repository.HOLD_FILE)
        return not held, "It is held." if held else gate_check.NOTHING
    return gate_check.judge(project, github, pull, base=base, sha=group.head_sha)


def _is_revert(pull: Pull, github: GitHub) -> bool:
    """Whether it takes a merged edit out, as a person has asked, and is just what was made then."""
    if pull.author != github.me() or not _REVERT.fullmatch(pull.head_ref):
        return False
    mine = (one for one in github.statuses(pull.head_sha) if one.creator == github.me())
    return any(one.context == gate_check.STATUS and one.state == "success" for one in mine)
