"""Evidence has one maker, and no fact of it can be forgotten there."""

from __future__ import annotations

import ast
from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

import skill_ratchet
from skill_ratchet.core import facts
from skill_ratchet.core.facts import Findings, Present, gather
from skill_ratchet.core.gate import Action, Policy, Reason, decide, out_of_date
from skill_ratchet.core.looks import Confirmation, Look, waited
from skill_ratchet.core.records import Binding, Evidence
from skill_ratchet.experiment.open_proposal import evidence_digest
from tests.core.test_gate import make_binding, make_evidence

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(skill_ratchet.__file__).parent
CHANGERS = ("with_", "replace", "model_copy", "model_validate", "model_construct")
# Calls that change a field of another record that has the name of a fact.
OTHERS = {
    ("github/dashboard.py", "row", "held"),
    ("experiment/runner.py", "key", "experiment"),
    ("experiment/runner.py", "NO_DUEL", "missing"),
    ("ledger/shards.py", "plan", "attempt"),
}


def calls(source: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))


def named(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def makers(source: str) -> list[ast.Call]:
    """Calls that make evidence, by whatever way pydantic has."""
    found = []
    for call in calls(source):
        of = getattr(call.func, "value", None)
        if named(call) == "Evidence" or (isinstance(of, ast.Name) and of.id == "Evidence"):
            found.append(call)
    return found


def changes(source: str) -> set[tuple[str, str]]:
    """Which fact of what gets another value."""
    return {
        (ast.unparse(call.args[0] if call.args else getattr(call.func, "value", call)), key.arg)
        for call in calls(source)
        if named(call) in CHANGERS
        for key in call.keywords
        if key.arg in Evidence.model_fields
    }


# One maker ------------------------------------------------------------------------------------


def test_evidence_is_made_in_one_place_with_every_fact() -> None:
    made = {
        str(path.relative_to(PACKAGE)): found
        for path in sorted(PACKAGE.rglob("*.py"))
        if (found := makers(path.read_text("utf-8")))
    }
    assert list(made) == ["core/facts.py"]
    (call,) = made["core/facts.py"]
    assert call.args == []
    assert [key.arg for key in call.keywords] == list(Evidence.model_fields)


def test_no_other_place_changes_a_fact() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), *change)
        for path in PACKAGE.rglob("*.py")
        for change in changes(path.read_text("utf-8"))
        if path.name != "facts.py"
    }
    assert found == OTHERS


@pytest.mark.parametrize(
    "source",
    [
        "Evidence(held=None)",
        "records.Evidence(held=None)",
        "Evidence.model_validate(data)",
        "Evidence.model_construct(held=False)",
    ],
)
def test_another_maker_would_be_seen(source: str) -> None:
    assert makers(source)


@pytest.mark.parametrize(
    "source",
    ["tested.with_(held=False)", "replace(now, released=True)", "x.model_copy(current=None)"],
)
def test_a_changed_fact_would_be_seen(source: str) -> None:
    assert changes(source)


# No default -----------------------------------------------------------------------------------


def test_no_fact_has_a_default() -> None:
    assert [name for name, one in Evidence.model_fields.items() if not one.is_required()] == []
    for kind in (Findings, Present):
        assert {(one.default, one.default_factory) for one in fields(kind)} == {(MISSING, MISSING)}


def test_each_fact_is_about_the_runs_or_about_the_present() -> None:
    both = [one.name for kind in (Findings, Present) for one in fields(kind)]
    assert sorted(both) == sorted(Evidence.model_fields)


def test_a_fact_that_the_maker_does_not_know_of_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(Evidence):
        vetoed: bool | None

    monkeypatch.setattr(facts, "Evidence", Wider)
    with pytest.raises(ValidationError, match=r"vetoed\n +Field required"):
        gather(Findings.none("a" * 64), Present.unknown())


@pytest.mark.parametrize("kind", [Findings, Present])
def test_nothing_can_be_left_out(kind: type[Any]) -> None:
    whole = {one.name: None for one in fields(kind)}
    kind(**whole)
    for name in whole:
        with pytest.raises(TypeError, match=name):
            kind(**{key: value for key, value in whole.items() if key != name})


def test_what_is_not_known_waits() -> None:
    evidence = make_evidence()
    whole = Present(current=evidence.current, held=False, landed=False, age=9.0, released=False)
    window = Policy(merge="after", after=5)
    assert decide(gather(Findings.of(evidence), whole), window).action is Action.MERGE
    for name in ("current", "held", "landed", "age"):
        unknown = gather(Findings.of(evidence), replace(whole, **dict[str, Any]({name: None})))
        assert decide(unknown, window).action is Action.HOLD, name
    for policy in (Policy(), window, Policy(merge="manual")):
        assert decide(gather(Findings.of(evidence), Present.unknown()), policy).reason == "unknown"
        nothing = gather(Findings.none(evidence.experiment), whole)
        assert decide(nothing, policy).reason == "unknown"


def test_the_present_of_a_record_is_not_taken_over() -> None:
    recorded = make_evidence(released=True, age=1e6)
    again = gather(Findings.of(recorded), Present.unknown())
    assert (again.current, again.held, again.landed, again.age, again.released) == (
        *(None,) * 4,
        False,
    )
    assert Findings.of(again) == Findings.of(recorded)


# What is on record ----------------------------------------------------------------------------

A = "a" * 64
BINDING = dict.fromkeys(("head", "skill", "fixtures", "config", "model"), A) | {
    "base": "b0",
    "evaluator": "1",
}
PAIR = {
    "fixture": "h1",
    "cluster": "h1",
    "sweep": 0,
    "incumbent": 0.0,
    "candidate": 1.0,
    "incumbent_run": "i",
    "candidate_run": "c",
    "made_for": A,
}
OLD = {
    "experiment": A,
    "tested": BINDING,
    "current": BINDING,
    "held": False,
    "landed": False,
    "leaks": [],
    "deterministic": False,
    "train_fixtures": ["t1"],
    "holdout_fixtures": ["h1"],
    "screen": [],
    "confirm": [PAIR],
    "missing": 0,
    "attempt": 1,
}
FULL = OLD | {
    "train_scores": [0.5],
    "targeted": [PAIR | {"fixture": "t1", "made_for": ""}],
    "age": 1.5,
    "released": True,
}
TRIED = FULL | {"failed": {"candidate": 2, "incumbent": 1, "stuck": 0}}


def read(evidence: object) -> Evidence:
    """As the ledger has it."""
    look = {"experiment": A, "parent": A, "attempt": 1, "started_at": "x", "evidence": evidence}
    found = Confirmation.model_validate(look).evidence
    assert found
    return found


@pytest.mark.parametrize(
    ("recorded", "named"),
    [
        (OLD, "502ae5d65bbc480c52757afc7b55f5d8e8de4c0e45c890f943f0ff2d489f8aad"),
        (FULL, "da1510b3d3f74c42a251a293b9753588236551bf820857f4bbcde46816779993"),
        (TRIED, "bc93e66c47edbef701b2b34efc36ca0d1d67b2bbc61c015be7d6bf70a155b742"),
    ],
    ids=["old", "full", "tried"],
)
def test_evidence_keeps_its_name(recorded: dict[str, Any], named: str) -> None:
    """Commits of open pull requests have it in a trailer."""
    assert evidence_digest(read(recorded)) == named
    assert evidence_digest(read(read(recorded).model_dump(mode="json"))) == named


def test_what_an_old_record_does_not_say_is_not_known() -> None:
    old = read(OLD)
    assert (old.train_scores, old.targeted, old.age, old.released) == ((), (), None, False)
    assert old.failed is None


@pytest.mark.parametrize("name", sorted(OLD))
def test_a_record_has_every_fact_there_has_always_been(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        read({key: value for key, value in OLD.items() if key != name})


def test_evidence_of_the_second_version_is_named_with_its_version_and_seed() -> None:
    names = {
        evidence_digest(make_evidence(**changes))
        for changes in ({}, {"seed": 1}, {"seed": None}, {"version": 3}, {"version": 1})
    }
    assert len(names) == 5


@pytest.mark.parametrize("merge", ["auto", "manual", "after"])
def test_an_old_record_is_one_of_the_first_version_and_merges_nothing(merge: str) -> None:
    whole = make_evidence().model_dump(mode="json")
    found = read({key: whole[key] for key in OLD})
    assert (found.version, found.seed) == (1, None)
    verdict = decide(found, Policy.model_validate({"merge": merge}))
    assert verdict.reason is Reason.STALE


def test_a_record_without_later_facts_merges_nothing_that_people_have_a_say_in() -> None:
    whole = make_evidence().model_dump(mode="json")
    short = {key: whole[key] for key in (*OLD, "version", "seed")}
    for policy in (Policy(), Policy(merge="manual"), Policy(merge="after", after=0)):
        assert decide(read(short), policy).reason is Reason.UNKNOWN
    counted = short | {"failed": whole["failed"]}
    assert decide(read(counted), Policy(merge="manual")).reason is Reason.AWAITS_PERSON
    assert decide(read(counted), Policy(merge="after", after=0)).reason is Reason.VETO_WINDOW


# The base goes on -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tested", "current", "follows"),
    [
        (make_binding(), make_binding(base="d0d0"), True),
        (make_binding(), make_binding(), False),
        (make_binding(), make_binding(base="d0d0", model="f" * 64), False),
        (make_binding(), make_binding(base="d0d0", head="f" * 64), False),
        (make_binding(), make_binding(skill="f" * 64), False),
        (None, make_binding(), False),
        (make_binding(), None, False),
    ],
)
def test_only_a_base_that_changed_no_number_is_followed(
    tested: Binding | None,
    current: Binding | None,
    follows: bool,  # noqa: FBT001 - a row
) -> None:
    findings = Findings.of(make_evidence(tested=tested))
    followed = findings.followed(current)
    assert followed == (replace(findings, tested=current) if follows else findings)


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({"current": make_binding(base="d0d0")}, True),
        ({"current": make_binding(base="d0d0"), "held": None}, True),
        ({"current": make_binding(base="d0d0"), "held": True}, True),
        ({}, False),
        ({"current": None}, False),
        ({"tested": None}, False),
        ({"current": make_binding(base="d0d0"), "landed": True}, False),
        ({"current": make_binding(base="d0d0"), "landed": None}, False),
    ],
)
def test_only_what_is_known_to_have_changed_is_out_of_date(
    changes: dict[str, Any],
    stale: bool,  # noqa: FBT001 - a row
) -> None:
    found = out_of_date(make_evidence(**changes))
    assert (found is not None and found.reason is Reason.STALE) is stale
    assert (found is None) is not stale


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("confirmed", "shown", "seconds"),
    [
        (60, 50, 50),
        (50, 60, 50),
        (50, 10**8, 50),  # a commit that claims to be old
        (-5, 50, 0),
        (None, 10**8, None),
    ],
)
def test_people_are_given_their_time_from_the_later_moment(
    confirmed: int | None, shown: int, seconds: int | None
) -> None:
    done = None if confirmed is None else (NOW - timedelta(seconds=confirmed)).isoformat()
    look = Look(experiment=A, parent=A, attempt=1, started_at="x", completed_at=done)
    at = NOW - timedelta(seconds=shown)
    assert waited(look, shown=at, now=NOW) == seconds
    assert waited(None, shown=at, now=NOW) is None
