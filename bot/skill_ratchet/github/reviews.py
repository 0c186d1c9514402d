"""What the reviews of a pull request come to: who holds it, and who has let it go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from skill_ratchet.core.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# GitHub's own roles that may push. An organisation's own role is none of them, whatever it allows.
WRITERS: Final = frozenset({"admin", "maintain", "write"})
UNKNOWN: Final = "none"  # the role of somebody GitHub would not tell the role of

State = Literal["APPROVED", "CHANGES_REQUESTED", "COMMENTED", "DISMISSED", "PENDING"]


class Review(Record):
    """One review; ``commit`` is the head it was given for."""

    id: int
    author: str
    state: State
    commit: str
    body: str
    url: str


class Standing(NamedTuple):
    """``holders`` asked for changes, ``releasers`` approved this very head; logins, sorted."""

    holders: tuple[str, ...]
    releasers: tuple[str, ...]


def last_word(reviews: Iterable[Review]) -> dict[str, Review]:
    """Each person's newest review that says yes or no, or takes that back; bots have no say.

    Args:
        reviews: Oldest first.
    """
    told = (one for one in reviews if one.author and not one.author.endswith("[bot]"))
    return {one.author: one for one in told if one.state not in ("COMMENTED", "PENDING")}


def standing(reviews: Iterable[Review], *, head: str, roles: Mapping[str, str]) -> Standing:
    """Who holds the pull request with this head, and who releases it.

    A request for changes holds also when its author's role is not known; an approval counts only
    from somebody who is known to have write access, and only for the head it was given for.
    """
    words = last_word(reviews)
    holders = [
        author
        for author, one in words.items()
        if one.state == "CHANGES_REQUESTED" and roles.get(author, UNKNOWN) in {*WRITERS, UNKNOWN}
    ]
    releasers = [
        author
        for author, one in words.items()
        if one.state == "APPROVED" and one.commit == head and roles.get(author) in WRITERS
    ]
    return Standing(tuple(sorted(holders)), tuple(sorted(releasers)))
