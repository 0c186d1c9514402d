"""What a proposer is given of a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skill_ratchet.ledger import TrainLedger, access
from skill_ratchet.ledger.sight import Sight
from skill_ratchet.project import repository, workspace

if TYPE_CHECKING:
    from skill_ratchet.ledger import Ledger
    from world import World


def open_eyes(ledger: Ledger) -> TrainLedger:
    """A view for which every case on record is a train case now."""
    known = frozenset((one.fixture, one.key.fixture) for one in ledger.traces() if one.key)
    return TrainLedger(ledger._train, ledger.skill, Sight((), known, frozenset()))


def proposers(world: World) -> TrainLedger:
    """The view a proposer would be given now."""
    project = repository.open_project(world.path)
    space = workspace.open_at_base(project, skill="triage", override={})
    return access.for_proposer(world.ledger(), space)
