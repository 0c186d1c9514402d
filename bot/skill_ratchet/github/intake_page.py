"""What the pull request with new fixtures says. Of a held-out case it has a count and no more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from skill_ratchet.cases import batch
from skill_ratchet.core import markdown, wording
from skill_ratchet.github import pages
from skill_ratchet.github.pages import Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skill_ratchet.cases.batch import Batch
    from skill_ratchet.core.records import Correction, Fixture

MOST_NAMED: Final = 2000  # corrections, by twelve digits each
MOST_LISTED: Final = 200  # cases of a skill
_NAMED: Final = "Ratchet-Corrections: "

_STALE: Final = (
    "An open proposal of a skill whose cases change goes stale with the merge, as it should: its "
    "numbers are of other cases. The next run tries anew."
)
_STEPS: Final = (
    "merge this pull request: its cases count from the next run on",
    "close it: a no to all that is in it, which is not proposed again (`/ratchet correct` can)",
    "edit a case on this branch: then it is yours, and what comes in waits for the next one",
    "the label `ratchet:hold` or a request for changes keeps it from being merged by itself",
    "`/ratchet correct` in a comment adds another correction to it",
)


def subject(batches: Sequence[Batch]) -> str:
    """The title, and the subject of its commits."""
    added = sum(len(one.added) for one in batches)
    raised = sum(len(one.raised) for one in batches)
    parts = [f"{wording.many(added, 'new case')}"] if added else []
    parts += [f"{wording.many(raised, 'case')} said again"] if raised else []
    return f"Fixtures: {', '.join(parts)}"


def summary(batches: Iterable[Batch]) -> str:
    """One line on what there is, by skill."""
    return "; ".join(_count(one) for one in batches if not one.is_empty)


def body(batches: Sequence[Batch], *, repository: str) -> str:
    """The page of the pull request.

    Args:
        batches: Of all skills; those with nothing are left out.
        repository: Its address: links to other places are not made.
    """
    told = [one for one in batches if not one.is_empty]
    sections = [
        Section(text=pages.marker("pull", "fixtures")),
        Section(text="Corrections from use become fixtures: cases that an edit is judged on."),
        Section(text="\n".join(f"- {_count(one)}" for one in told)),
        Section(text=_conflicts(batches, repository), name="what is to be decided", rank=1),
        Section(text=_full(batches)),
        *(
            Section(text=_cases(one, repository), name=f"the cases of {one.skill}", rank=2)
            for one in told
        ),
        Section(text=_STALE),
        Section(text="\n".join(["### What you can do", "", *(f"- {step}" for step in _STEPS)])),
        Section(text=_names(batches)),
    ]
    return pages.cut(sections, pages.BODY)


def named(text: str) -> frozenset[str]:
    """The corrections that a page was about, by the first twelve digits of their ids."""
    found = re.findall(rf"^{_NAMED}([0-9a-f ]+)\s*$", text, re.MULTILINE)
    return frozenset(re.findall(r"\b[0-9a-f]{12}\b", found[-1])) if found else frozenset()


def _count(one: Batch) -> str:
    sides = batch.counts(one)
    parts = [f"{wording.many(sides['train'], 'train case')}, {sides['holdout']} held-out"]
    if one.raised:
        parts.append(f"{wording.many(len(one.raised), 'case')} said again")
    return f"`{one.skill}`: {', '.join(parts)}"


def _cases(one: Batch, repository: str) -> str:
    rows = [_case(case, repository) for case in (*one.added, *one.raised) if case.split == "train"]
    return _listed(f"Train cases of `{one.skill}`", rows)


def _listed(title: str, rows: Sequence[str]) -> str:
    shown = wording.first(rows, MOST_LISTED, "- and {:,} more")
    return "\n".join([f"### {title}", "", *shown]) if rows else ""


def _case(case: Fixture, repository: str) -> str:
    times = f", said {case.count} times" if case.count > 1 else ""
    return f"- `{case.id}` ({case.source}{times}): {_by(case.author, case.link, repository)}"


def _conflicts(batches: Iterable[Batch], repository: str) -> str:
    rows = [_conflict(one, said, repository) for one in batches for said in one.conflicts]
    return _listed("To be decided by people", rows)


def _conflict(one: Batch, said: Correction, repository: str) -> str:
    where = f"the case `{said.fixture}`" if said.split == "train" else "a case that is held out"
    link = said.link if said.split == "train" else None
    by = _by(said.author, link, repository) if said.split == "train" else "correction"
    return (
        f"- `{one.skill}`: {by} `{said.id[:12]}` expects something else than {where}. "
        "Nothing was changed; edit the case if it is wrong."
    )


def _full(batches: Iterable[Batch]) -> str:
    return "\n".join(
        f"- `{one.skill}`: {wording.many(len(one.full), 'correction')} more than `feedback.caps` "
        "in ratchet.yml allows; kept on the ledger."
        for one in batches
        if one.full
    )


def _by(author: str | None, link: str | None, repository: str) -> str:
    who = markdown.inert(wording.one_line(markdown.clean(author or "unknown"), 100))
    own = link is not None and re.fullmatch(rf"{re.escape(repository)}/[A-Za-z0-9/#_-]+", link)
    return f"{who}, [said here]({link})" if own else who


def _names(batches: Iterable[Batch]) -> str:
    """Last and for the bot: which corrections come to an end with this pull request."""
    ids = [said.id[:12] for one in batches for said in (*one.taken, *one.conflicts)]
    return _NAMED + " ".join(ids[:MOST_NAMED]) if ids else ""
