"""What of a skill's ledger may be published: nothing held-out, and nothing that repeats it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from skill_ratchet.core import leaks
from skill_ratchet.core.gate import Reason
from skill_ratchet.core.golden import folded

if TYPE_CHECKING:
    from skill_ratchet.core.leaks import Watch
    from skill_ratchet.core.looks import Confirmation
    from skill_ratchet.core.records import Experiment, Trace
    from skill_ratchet.project.workspace import Workspace

# Of one case a mean is that case's score; of a few, wins and losses of a sweep nearly are.
FEWEST_FOR_MEANS: Final = 2
FEWEST_FOR_SWEEPS: Final = 5

LEAKS = "it holds text of held-out cases"
UNCHECKED = (
    "the held-out cases are not in this checkout, so it could not be searched for their text"
)


@dataclass(frozen=True, slots=True)
class Seal:
    """Decides what may be shown. ``open`` is for the owner's own machine: everything may.

    A case that is held-out now is sealed also where the ledger has it as a train case of old.
    """

    open: bool
    known: str  # the skill as it is, which is public
    watch: Watch | None  # None when no held-out case is there to look for
    names: frozenset[str]  # of held-out cases
    inputs: frozenset[str]  # folded
    digests: frozenset[str]

    @classmethod
    def of(cls, space: Workspace, *, opened: bool) -> Seal:
        """The seal of one skill's held-out cases, as they are on disk."""
        sealed = (*space.holdout, *space.vault)
        return cls(
            open=opened,
            known=space.text.text,
            watch=leaks.watch(train=space.train, holdout=sealed) if sealed else None,
            names=frozenset(case.id for case in sealed),
            inputs=frozenset(folded(case.input_text) for case in sealed),
            digests=frozenset(case.digest for case in sealed),
        )

    def hides(self, trace: Trace) -> bool:
        """Whether a call on record is of a case that is not to be seen."""
        if self.open:
            return False
        case = trace.key.fixture if trace.key else ""
        return (
            trace.split != "train"
            or trace.fixture in self.names
            or folded(trace.fixture_input) in self.inputs
            or case in self.digests
        )

    def withholds(
        self, experiment: Experiment, *, parent: str, candidate: str, looked: Confirmation | None
    ) -> str:
        """Why an experiment's text must not be shown; empty when it may.

        Where the holdout was consulted, the gate has looked for held-out text. Of every other
        candidate nobody knows what a model put into it.
        """
        if self.open:
            return ""
        verdict = looked.verdict if looked else None
        if verdict and verdict.reason is Reason.LEAKS_HOLDOUT:
            return LEAKS
        if self.watch is None:
            evidence = looked.evidence if looked else None
            return "" if evidence and evidence.leaks == () else UNCHECKED
        said = f"{candidate}\n{experiment.proposal.said}"
        return LEAKS if self.watch.found(said, known=[parent, self.known]) else ""

    def speaks(self, words: str) -> bool:
        """Whether what a person wrote may be shown."""
        return self.open or self.watch is None or not self.watch.found(words, known=[self.known])
