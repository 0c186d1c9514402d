"""May the pull request with new fixtures be merged without a person? Facts in, a decision out.

``decide`` is the policy. Whatever is not known is a reason to wait.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from skill_ratchet.core.records import Record

Mode = Literal["manual", "auto", "after"]
Reason = Literal[
    "held",
    "objection",
    "edited",
    "other_paths",
    "not_additions",
    "moved",
    "conflicts",
    "unsound",
    "awaits_person",
    "too_young",
    "complete",
]


class IntakeFacts(Record):
    """All that is looked at, read just before. None: it could not be established."""

    mode: Mode | None
    after: float = Field(default=0.0, ge=0)  # seconds that people have to object, for 'after'
    age: float | None = Field(
        default=None, ge=0
    )  # seconds since people could see the newest commit
    held: bool | None  # by the label, a box of the dashboard, the stop file
    objections: int | None = Field(ge=0)  # people who ask for changes, twins that share the head
    own_commits: bool | None  # every commit on the branch is Ratchet's
    own_paths: bool | None  # only the bot's files of fixtures differ, and stay regular files
    additions: bool | None  # in them cases were added and counts raised, and nothing else
    current: bool | None  # they are what the ledger and the base as they are now come to
    conflicts: int | None = Field(ge=0)  # corrections that contradict a case
    sound: bool | None  # every skill can be read and scored with them


class IntakeDecision(NamedTuple):
    """Whether to merge, and why (not); ``detail`` is a sentence for a person."""

    merge: bool
    reason: Reason
    detail: str


def decide(facts: IntakeFacts) -> IntakeDecision:
    """Decide whether new fixtures are merged without a person.

    1. A person's hold stops it: a label, a box, the stop file.
    2. So does anybody with write access who asks for changes, and a second pull request with the
       same head, of which the checks would be these.
    3. The branch holds Ratchet's own commits alone.
    4. Only files that are the bot's differ, and only by cases added and counts raised.
    5. They are what the corrections on the ledger come to on the base as it is at this moment.
    6. Nothing is left for people to decide.
    7. Every skill can be read and scored with them.
    8. ``manual``, the default, leaves it to people; ``after`` gives them time.
    """
    stops: tuple[tuple[bool, Reason, str], ...] = (
        (facts.held is not False, "held", "It is held, or that is not known."),
        (facts.objections != 0, "objection", "Somebody objects, or that is not known."),
        (facts.own_commits is not True, "edited", "The branch has commits of other people."),
        (facts.own_paths is not True, "other_paths", "It touches files that are not the bot's."),
        (facts.additions is not True, "not_additions", "It does more than add cases."),
        (facts.current is not True, "moved", "It is not what the ledger comes to now."),
        (facts.conflicts != 0, "conflicts", "There are contradictions for people to decide."),
        (facts.sound is not True, "unsound", "A skill cannot be scored with these cases."),
        (facts.mode not in ("auto", "after"), "awaits_person", "A person merges it."),
        (_is_young(facts), "too_young", "People still have time to object."),
    )
    for stop, reason, detail in stops:
        if stop:
            return IntakeDecision(merge=False, reason=reason, detail=detail)
    return IntakeDecision(merge=True, reason="complete", detail="Nobody has anything against it.")


def _is_young(facts: IntakeFacts) -> bool:
    return facts.mode != "auto" and (facts.age is None or facts.age < facts.after)
