"""A job on GitHub to each of whose exchanges something happens, and which is then started again.

An undisturbed job shows its exchanges: every request to the API and of git. Each of them is met by
each fault, for as long as the job lasts, so that repeating it is no way out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fakehub import Fault
from kills import Clone, Job, badly_said, unlike
from skill_ratchet.base.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

FAULTS: Final[dict[str, tuple[Fault, bool]]] = {  # and whether what was asked is done all the same
    "502": (Fault(status=502), False),
    "502, and done": (Fault(status=502), True),
    "403, no permission": (Fault(status=403, message="Resource not accessible"), False),
    "403, secondary limit": (Fault.secondary_limit(), False),
    "429, no Retry-After": (Fault.secondary_limit(status=429, retry_after=None), False),
    "307": (Fault.redirect("https://example.invalid/elsewhere"), False),
    "connection cut": (Fault.disconnect(), False),
    "connection cut, and done": (Fault.disconnect(), True),
    "half of the answer": (Fault(status=200, body=b'{"sha": "0'), False),
    "half of the answer, and done": (Fault(status=200, body=b'{"sha": "0'), True),
}


@dataclass(frozen=True)
class Exchanged:
    """A job that nothing happened to: its exchanges, and what came of it."""

    scene: Job
    template: Path
    exchanges: tuple[str, ...]
    outcome: Any

    @property
    def every(self) -> list[tuple[int, str]]:
        """Each exchange with each fault that makes a difference to it: reading has no effect."""
        return [
            (number, fault)
            for number, asked in enumerate(self.exchanges)
            for fault, (_, done) in FAULTS.items()
            if not (done and (asked.startswith("GET ") or asked.endswith("git-upload-pack")))
        ]

    def spoiled(self, folder: Path, number: int, fault: str) -> list[str]:
        """Play it with a fault from one exchange on; returns everything that is wrong."""
        with self.scene.place(self.template, folder) as world:
            assert isinstance(world, Clone)
            met = _spoil(world, number, fault)
            first = world.ratchet(*self.scene.command(world))
            if not met:
                return [f"was not reached; it ended with {first.code}: {first.err[-500:]}"]
            world.hub.cancel_planned()
            wrong = badly_said(first)
            second = first if self.scene.done(world) else self.scene.again(world)
            if second.code != ExitCode.DONE:
                return [*wrong, f"the second ended with {second.code}: {second.err[-700:]}"]
            found = self.scene.outcome(world)
            if fault == "403, no permission":  # then Ratchet makes the commit, and pushes it
                found, expected = _whoever_signs(found), _whoever_signs(self.outcome)
            else:
                expected = self.outcome
            return wrong + unlike(found, expected) + self.scene.objections(world)


def exchange(scene: Job, folder: Path) -> Exchanged:
    """Play a job to its end."""
    template = folder / "template"
    template.mkdir(parents=True)
    scene.build(template)
    with scene.place(template, folder / "whole") as world:
        assert isinstance(world, Clone)
        before = len(world.hub.exchanges)
        ran = world.ratchet(*scene.command(world))
        assert ran.code == ExitCode.DONE, ran.err
        assert scene.objections(world) == []
        made = world.hub.exchanges[before:]
        return Exchanged(
            scene=scene,
            template=template,
            exchanges=tuple(f"{one.method} {one.path}" for one in made),
            outcome=scene.outcome(world),
        )


def _whoever_signs(outcome: dict[str, Any]) -> dict[str, Any]:
    by = r"(?m)(?<=\* )( *)github-actions\[bot\]/(?:GitHub|github-actions\[bot\])(?=: triage)"
    return outcome | {"hub": re.sub(by, r"\1Ratchet/Ratchet", outcome["hub"])}


def _spoil(world: Clone, number: int, name: str) -> list[str]:
    """Spoil the request of that number, from 0, and every one like it after it.

    Returns a list that the request is in once it was met.
    """
    fault, done = FAULTS[name]
    met: list[str] = []
    count = 0

    def look(method: str, path: str) -> None:
        nonlocal count
        if count == number:
            met.append(f"{method} {path}")
            world.hub.fail_next(method, f"^{re.escape(path)}$", fault, after_effect=done, times=100)
        count += 1

    world.hub.watch(look)
    return met
