"""Merges that were left to GitHub: judged again whenever something changes that may stop them.

With auto-merge or a merge queue it is GitHub that merges, some time later. It knows nothing of a
hold, a box or a new case. So each event that may stop a merge leads here, and so does each commit
that the merge queue makes. Nothing is merged or recorded here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import markdown
from skill_ratchet.github import base_branch, events, gate_check, holds, intake, pages
from skill_ratchet.github.comments import Handled
from skill_ratchet.github.pull_request import EDITED, Job, reviewed
from skill_ratchet.ledger import clock, remote
from skill_ratchet.project import branches, repository
from skill_ratchet.project.proposal import FIXTURES, proposal_branch

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.github.api import GitHub, Pull
    from skill_ratchet.github.base_branch import Base
    from skill_ratchet.github.events import Grouped
    from skill_ratchet.github.pull_request import Published
    from skill_ratchet.project.repository import Project

NAME = "watch"
_OWN = "ratchet/"  # how the bot's branches begin
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
    open_now = github.open_pulls()
    try:
        base = base_branch.now(project, github)
    except RatchetError:  # settings that cannot be read: so nothing can be judged
        for pull in open_now:
            if _is_bots(github, pull):
                github.cancel_merge(pull.number)
        raise
    failed: list[str] = []
    for pull in open_now:
        try:
            _look_at(base, github, pull)
        except RatchetError as error:
            failed.append(f"#{pull.number}: {error.message}")
    if failed:
        raise RatchetError("\n".join(failed), hint="What could not be judged waits.")
    return Handled(NAME, "done", "what is open was judged again")


def _look_at(base: Base, github: GitHub, pull: Pull) -> None:
    """Judge an open pull request; what is the bot's and nobody can judge is stopped."""
    here = pull.base_ref == base.branch
    if not _is_bots(github, pull):
        if here:
            gate_check.recheck(base.project, github, pull, base=base)
        return
    skill = next((one for one in base.config.skills if proposal_branch(one) == pull.head_ref), None)
    if here and pull.head_ref == FIXTURES:
        intake.open_intake(base.project, github).recheck()
    elif here and skill and github.is_own(pull, pages.marker("pull", skill), base=base.branch):
        if _recheck(base, github, skill, pull).reason == EDITED:
            gate_check.recheck(base.project, github, pull, base=base)
    elif not _is_revert(pull, github) or _is_refused(github, pull):
        github.cancel_merge(pull.number)


def _recheck(base: Base, github: GitHub, skill: str, pull: Pull) -> Published:
    try:
        space = base.space(skill)
    except RatchetError:  # a case that cannot be read: so nothing can be judged
        github.cancel_merge(pull.number)
        raise
    return Job.of(space, github=github, now=clock.now).recheck()


# The merge queue ------------------------------------------------------------------------------


def _judge(project: Project, github: GitHub, group: Grouped) -> Handled:
    """Set the status of a commit that the merge queue would put on the base branch.

    Where it must not go in, the bot's own pull request leaves the queue as well: the branch may not
    ask for the status.
    """
    pull = github.pull(group.pull)
    try:
        if group.into != base_branch.name(project):
            return Handled(NAME, "ignored", f"it would go into {markdown.line(group.into, 100)}")
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
    github.set_status(sha, state="failure", description=markdown.line(why, pages.STATUS))
    if _is_bots(github, pull):
        github.cancel_merge(pull.number)


def _verdict(project: Project, github: GitHub, pull: Pull, group: Grouped) -> tuple[bool, str]:
    remote.fetch(project, group.into)
    remote.fetch(project, group.branch)
    if not branches.in_history(project, group.base_sha, tip=group.head_sha):
        return False, "It is not made on what it says."
    if _is_revert(pull, github):
        held = _is_refused(github, pull)
        return not held, "It is held." if held else "A person asked for it."
    base = base_branch.at(project, group.base_sha, branch=group.into)
    ours = _is_bots(github, pull) and pull.head_ref == FIXTURES
    if ours and (why := intake.open_intake(project, github).recheck()):
        return False, why
    return gate_check.judge(project, github, pull, base=base, sha=group.head_sha)


def _is_bots(github: GitHub, pull: Pull) -> bool:
    """Whether the bot has proposed it, whoever opened it, and wherever it goes by now."""
    if not pull.head_ref.startswith(_OWN):
        return False
    return pull.author == github.me() or github.is_own(pull, "", base=None)


def _is_refused(github: GitHub, pull: Pull) -> bool:
    """Whether people stop a pull request, by label or by review."""
    held = holds.by_label(github, pull.number)
    return held or bool(reviewed(github, pull, head=pull.head_sha).holders)


def _is_revert(pull: Pull, github: GitHub) -> bool:
    """Whether it takes a merged edit out, as a person has asked, and is just what was made then."""
    if pull.author != github.me() or not _REVERT.fullmatch(pull.head_ref):
        return False
    mine = (one for one in github.statuses(pull.head_sha) if one.creator == github.me())
    return any(one.context == gate_check.STATUS and one.state == "success" for one in mine)
