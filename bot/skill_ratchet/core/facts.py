"""The facts ``gate.decide`` looks at, and the one place where they become ``Evidence``.

Half of them are about an experiment's runs and stay as they were found; the others are about the
present and are read anew whenever the gate is asked. None has a default: whoever asks says what is
known of each, and ``None`` is what is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BeforeValidator

from skill_ratchet.core.evidence import VERSION
from skill_ratchet.core.records import Evidence

if TYPE_CHECKING:
    from skill_ratchet.core.records import Binding, FailedCalls, Pair

# What it means that a record has not a fact, because it was written before that was one: it is not
# known, so nothing is merged for it.
_ABSENT: Final[dict[str, Any]] = {
    "version": 1,
    "seed": None,
    "train_scores": (),
    "targeted": (),
    "failed": None,
    "age": None,
    "released": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What an experiment's runs came to, and what they were bound to. For each see ``Evidence``."""

    experiment: str
    tested: Binding | None
    leaks: tuple[str, ...] | None
    version: int
    seed: int | None
    deterministic: bool
    train_fixtures: tuple[str, ...]
    holdout_fixtures: tuple[str, ...]
    train_scores: tuple[float, ...]
    screen: tuple[Pair, ...]
    confirm: tuple[Pair, ...]
    targeted: tuple[Pair, ...]
    missing: int
    failed: FailedCalls | None
    attempt: int | None

    @classmethod
    def of(cls, recorded: Evidence) -> Findings:
        """Those on record; what was the present then is left out."""
        return cls(**{one.name: getattr(recorded, one.name) for one in fields(cls)})

    @classmethod
    def none(cls, experiment: str) -> Findings:
        """Those of an experiment of which no run is known."""
        return cls(
            experiment=experiment,
            tested=None,
            leaks=None,
            version=VERSION,
            seed=None,
            deterministic=False,
            train_fixtures=(),
            holdout_fixtures=(),
            train_scores=(),
            screen=(),
            confirm=(),
            targeted=(),
            missing=0,
            failed=None,
            attempt=None,
        )

    def followed(self, current: Binding | None) -> Findings:
        """Bound to the base there is now, if the commits it has gained change no number.

        The very same findings where that is not so.
        """
        if self.tested is None or current is None or self.tested == current:
            return self
        followed = self.tested.with_(base=current.base)
        return replace(self, tested=followed) if followed == current else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What is there now, and what people say to it. For each see ``Evidence``."""

    current: Binding | None
    held: bool | None
    landed: bool | None
    age: float | None
    released: bool

    @classmethod
    def unknown(cls) -> Present:
        """Nothing is known of it."""
        return cls(current=None, held=None, landed=None, age=None, released=False)


def gather(findings: Findings, present: Present) -> Evidence:
    """Everything the gate looks at. No other place makes evidence, or changes a fact of it."""
    return Evidence(
        experiment=findings.experiment,
        tested=findings.tested,
        current=present.current,
        held=present.held,
        landed=present.landed,
        leaks=findings.leaks,
        version=findings.version,
        seed=findings.seed,
        deterministic=findings.deterministic,
        train_fixtures=findings.train_fixtures,
        holdout_fixtures=findings.holdout_fixtures,
        train_scores=findings.train_scores,
        screen=findings.screen,
        confirm=findings.confirm,
        targeted=findings.targeted,
        missing=findings.missing,
        failed=findings.failed,
        attempt=findings.attempt,
        age=present.age,
        released=present.released,
    )


def _with_absent(value: Any) -> Any:
    return _ABSENT | value if isinstance(value, dict) else value


# Evidence as a record holds it, which may be of before some of the facts.
Recorded = Annotated[Evidence, BeforeValidator(_with_absent)]
