"""A machine's clock that jumps changes no verdict, no count and no cost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from kills import KILLED
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.base.redact import Redactor
from skill_ratchet.ledger import Ref, Store
from skill_ratchet.ledger import clock as clocks
from skill_ratchet.ledger.clock import Clock
from world import Mortuary, World, calls_file, outcome, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
RUN = ("--attempts", "2")
CALLS = 3 + 1 + 3 + 2 * 2


@pytest.fixture(scope="module")
def mortuary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortuary]:
    """Where commands die."""
    made = Mortuary(tmp_path_factory.mktemp("mortuary"))
    yield made
    made.close()


def jumping(at: int, by: timedelta) -> Callable[[], datetime]:
    """A clock that runs, and from its ``at``-th reading on is wrong by so much."""
    reads = 0

    def read() -> datetime:
        nonlocal reads
        reads += 1
        return NOW + timedelta(seconds=reads) + (by if reads >= at else timedelta())

    return read


@pytest.mark.parametrize(("at", "by"), [(6, -YEAR), (14, -YEAR), (9, YEAR)], ids=str)
def test_a_jump_within_a_run_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, by: timedelta
) -> None:
    """The next run finds nothing to do, and everything is on record as without it."""
    world = World.make(tmp_path / "p")
    with monkeypatch.context() as clock:
        clock.setattr(clocks, "now", jumping(at, by))
        ran = world.run(*RUN)
    assert (ran.verdicts, ran.json["calls"]) == ([("merge", "improved")], CALLS), ran.err

    again = world.run(*RUN)

    assert (again.json["experiments"], again.json["calls"]) == ([], 0)
    experiment = world.only()
    ledger = world.ledger()
    assert ledger.unfinished() == []
    assert ledger.results()[experiment.id].finished_at > experiment.started_at
    assert [row["state"] for row in world.ratchet("log", "--json").json] == ["merged"]
    (look,) = ledger.confirmations()
    assert (look.attempt, look.verdict is not None) == (1, True)


MANUAL: dict[str, Any] = {"config": {"gate": {"merge": "manual"}}}
DEATHS: list[tuple[str, dict[str, Any]]] = [
    ("after put trace #5", {"model": script(right={})}),
    ("after put trace #9", {}),
    ("after publish", MANUAL),
]


@pytest.mark.parametrize(("death", "project"), DEATHS, ids=[death for death, _ in DEATHS])
def test_a_killed_run_is_gone_on_with_though_the_clock_was_set_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mortuary: Mortuary,
    death: str,
    project: dict[str, Any],
) -> None:
    """What the first has paid for is the experiment's, and is not paid for again."""
    whole = World.make(tmp_path / "whole" / "p", **project)
    calls = whole.run(*RUN).json["calls"]
    world = World.make(tmp_path / "p" / "p", **project)

    assert mortuary.run(world, "run", "--json", *RUN, at=death).code == KILLED
    paid = len(calls_file(world).read_text().splitlines())
    monkeypatch.setattr(clocks, "now", jumping(1, -10 * YEAR))
    again = world.run(*RUN)

    assert again.code == ExitCode.DONE, again.err
    assert paid + again.json["calls"] == calls
    assert outcome(world) == outcome(whole)


def test_the_younger_of_two_journals_is_believed_whatever_the_clock_said(tmp_path: Path) -> None:
    """What a dead process wrote with its clock ahead does not undo what was written after it."""
    world, path = World.make(tmp_path / "p"), "triage/notes/x.json"
    folder = world.path / ".git/ratchet/journal/ledger"
    folder.mkdir(parents=True)
    dead = folder / f"{4_102_444_800 * 10**9:020d}-1-ab.jsonl"  # the year 2100
    dead.write_text(json.dumps({"path": path, "data": "old"}) + "\n")
    store = Store(world.path, redactor=Redactor({}))

    store.put(Ref.LEDGER, path, "new")

    assert store.get(Ref.LEDGER, path) == "new"
    store.flush("x")
    assert world.git("show", f"{Ref.LEDGER}:{path}") == "new"


def test_a_clock_only_goes_forward() -> None:
    readings = iter([NOW, NOW - YEAR, NOW, NOW, NOW + YEAR])
    clock = Clock(lambda: next(readings))
    told = [clock() for _ in range(5)]
    assert told == sorted(set(told))
    assert (told[0], told[-1]) == (NOW, NOW + YEAR)


@pytest.mark.parametrize("stamp", ["9999-12-31T23:59:59.999999+00:00", "zzz", "2026-01-01", ""])
def test_a_record_with_any_time_at_all_stops_no_clock(stamp: str) -> None:
    class Told:
        started_at = finished_at = stamp

    class Ledger:
        def experiments(self) -> list[Told]:
            return [Told()]

        def results(self) -> dict[str, Told]:
            return {"x": Told()}

    clock = Clock.of(Ledger(), lambda: NOW)  # type: ignore[arg-type]  # all that it reads
    assert clock() <= clock()
