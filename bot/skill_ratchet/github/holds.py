"""What people stop by label and by box: how it is put on, and who may let go again.

Whoever may label may stop something. To let it go takes write access: a label that anybody else
takes off is put on again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import markdown, wording
from skill_ratchet.github import dashboard, pages
from skill_ratchet.github.reviews import WRITERS
from skill_ratchet.project.proposal import proposal_branch
from skill_ratchet.project.repository import HOLD_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skill_ratchet.github.api import GitHub, Labeling, Pull

LABEL: Final = "ratchet:hold"


def is_on(labels: Iterable[str]) -> bool:
    """Whether the label is among these, in whatever case: GitHub takes such for one label."""
    return any(one.casefold() == LABEL for one in labels)


def by_label(github: GitHub, number: int) -> bool:
    """Whether the label holds a pull request: it is on, or nobody who may has taken it off.

    In the latter case it is on again afterwards, and the pull request says why.
    """
    if is_on(github.labels(number)):
        return True
    last = next((one for one in reversed(github.labelings(number)) if is_on([one.label])), None)
    if last is None or _is_release(github, last):
        return False
    github.add_label(number, LABEL)
    name = f"label-{last.id}"
    github.reply(number, pages.reply(name, _put_back(last)), pages.marker("reply", name))
    return True


def stop(github: GitHub, skill: str) -> None:
    """Stop a skill, whatever else is wrong with it: its pull request's label, and its box.

    Raises:
        RatchetError: There is neither, or GitHub refused both, or may still merge it.
    """
    pull, problem = _pull(github, skill), None
    if pull is not None:
        try:
            github.add_label(pull.number, LABEL)
        except RatchetError as error:
            problem = error
    if not dashboard.set_held(github, skill, held=True) and (problem or pull is None):
        raise problem or RatchetError(
            f"Skill {skill} has no open pull request, and there is no dashboard yet.",
            hint=f"Commit a file {HOLD_FILE} to stop everything.",
        )
    if pull is not None:
        github.cancel_merge(pull.number)


def release(github: GitHub, skill: str) -> None:
    """Let a skill go on, for somebody who may.

    Raises:
        RatchetError: There was nothing that could have stopped it.
    """
    pull = _pull(github, skill)
    if pull is not None:
        take_off(github, pull.number)
    if not dashboard.set_held(github, skill, held=False) and pull is None:
        raise RatchetError(f"Skill {skill} has no open pull request, and there is no dashboard.")


def take_off(github: GitHub, number: int) -> None:
    """Take the label off for somebody who may; also where somebody who may not did it before."""
    if by_label(github, number):
        github.remove_label(number, LABEL)


def _pull(github: GitHub, skill: str) -> Pull | None:
    return github.find_pull(pages.marker("pull", skill), proposal_branch(skill))


def _is_release(github: GitHub, last: Labeling) -> bool:
    """Whether the label was taken off by the bot, which was asked to, or by who may write."""
    if last.on:
        return False  # the label itself was deleted, or GitHub does not show yet who took it off
    return last.actor == github.me() or github.permission(last.actor) in WRITERS


def _put_back(last: Labeling) -> str:
    who = "GitHub does not say who took it off"
    if not last.on:
        name = markdown.inert(wording.one_line(markdown.clean(last.actor), 100)) or "somebody"
        who = f"{name}, who took it off, has no write access to this repository"
    return (
        f"The label `{LABEL}` is on again: {who}. Somebody with write access takes it off, or "
        "replies `/ratchet resume`."
    )
