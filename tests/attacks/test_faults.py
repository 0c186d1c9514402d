"""One skill is broken, by mistake or on purpose, to stop all the others: its fault is its own.

Whoever may commit a case, or write to the ledger's branch, breaks one skill. The others are
planned, published and shown; the broken one is named where people look, and the run is red.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.github import http
from stage import staging
from world import CASES, SEALED, SKILL_TEXT, case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stage import Stage

GOOD, BAD = "triage", "notes"
SKILLS = {"skills": {name: {"scorer": "label"} for name in (GOOD, BAD)}}
RECORD = f"{BAD}/experiments/000000000000/experiment.json"


def second() -> dict[str, str]:
    """The files of the second skill."""
    files = {f"skills/{BAD}/SKILL.md": SKILL_TEXT.replace(GOOD, BAD)}
    for split, names in CASES.items():
        files |= {f"fixtures/{BAD}/{split}/{one}.yml": case(one, split) for one in names}
    return files


def expects(label: str, split: str) -> dict[str, str]:
    """A case of the second skill whose label is spelt in another way than the others'."""
    told = json.loads(case("x9", split)) | {"expected": label}
    return {f"fixtures/{BAD}/{split}/x9.yml": json.dumps(told)}


def held_out_label(stage: Stage) -> None:
    files = expects("YES", "holdout")
    files[f"fixtures/{BAD}/train/x7.yml"] = json.dumps({"input": "Is it x7?", "expected": "no"})
    stage.hub.person_pushes("octo", "main", files)


def no_holdout(stage: Stage) -> None:
    gone = {f"fixtures/{BAD}/holdout/{one}.yml": None for one in CASES["holdout"]}
    stage.hub.person_pushes("octo", "main", gone)


def long_text(stage: Stage) -> None:
    """Longer than a skill may be: no file is wrong, but no experiment could succeed."""
    text = f"{SKILL_TEXT.replace(GOOD, BAD)}{'word ' * 8000}\n"
    stage.hub.person_pushes("octo", "main", {f"skills/{BAD}/SKILL.md": text})


def scorer(stage: Stage) -> None:
    own = json.loads(case("t1", "train")) | {"scorer": {"type": "regex", "pattern": "("}}
    stage.hub.person_pushes("octo", "main", {f"fixtures/{BAD}/train/t1.yml": json.dumps(own)})


def ledger(stage: Stage) -> None:
    world = stage.job("breaker")
    if not stage.hub.tip("ratchet/ledger"):
        world.git("checkout", "--quiet", "--orphan", "ratchet/ledger")
        world.git("rm", "-rfq", ".")
    else:
        world.git("checkout", "--quiet", "ratchet/ledger")
    world.write(RECORD, "{}\n")
    world.commit("mine")
    world.git("push", "--quiet", "origin", "ratchet/ledger")


def defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else goes wrong with the one skill, a mistake of ours included."""
    from skill_ratchet.project import workspace  # noqa: PLC0415 - what is broken here

    real = workspace.read

    def read(project: Any, tree: Any, settings: Any, name: str, **more: Any) -> Any:
        if name == BAD:
            raise ZeroDivisionError(f"a {SEALED}")
        return real(project, tree, settings, name, **more)

    monkeypatch.setattr(workspace, "read", read)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Stage]]:
    """Two skills; the first has a proposal that was confirmed, or one that waits."""
    monkeypatch.setattr(http, "_PACE", 0.0)
    with staging(tmp_path, monkeypatch) as build:
        yield lambda: build(prepare=two, config=SKILLS | {"gate": {"merge": "manual"}})


def two(stage: Stage) -> None:
    stage.hub.person_pushes("octo", "main", second())


def decide(stage: Stage) -> Path:
    """The first skill's bundle, in a folder of such."""
    stage.sha = stage.hub.tip("main")
    proposal, folder = stage.folder / "proposal", stage.folder / "bundles"
    job = stage.job("propose")
    for held_out in job.path.glob("fixtures/*/holdout"):  # as its checkout leaves them out
        shutil.rmtree(held_out)
    proposed = job.ratchet("propose", GOOD, "--bundle", str(proposal))
    assert proposed.code == 0, proposed.err
    given = ("--bundle", str(proposal), "--out", str(folder / GOOD))
    confirmed = stage.job("confirm").ratchet("confirm", GOOD, *given)
    assert confirmed.code == 0, confirmed.err
    return folder


def in_a_workflow(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a step's page is."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    summary = stage.folder / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    return summary


def plain(page: str) -> str:
    """A page as people see it."""
    return page.replace("\u200b", "").replace("\\", "")


def board(stage: Stage) -> str:
    (issue,) = [one for one in stage.hub.state.issues.values() if one.title == "Ratchet"]
    return str(issue.body)


FAULTS = [
    (held_out_label, "held-out"),
    (no_holdout, f"fixtures/{BAD}/holdout"),
    (long_text, "max_chars"),
    (scorer, "pattern"),
    (ledger, RECORD),
    (None, "ZeroDivisionError"),
]


@pytest.mark.parametrize(
    ("break_it", "said"), FAULTS, ids=[getattr(one, "__name__", "defect") for one, _ in FAULTS]
)
def test_a_fault_of_one_skill_is_its_own(
    make: Callable[[], Stage],
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[Stage], None] | None,
    said: str,
) -> None:
    """The other one is due and looked at; the run is red, and everything says why."""
    stage = make()
    summary = in_a_workflow(stage, monkeypatch)
    (break_it or defect)(stage if break_it else monkeypatch)  # type: ignore[arg-type]

    planned = stage.job("plan").ratchet("due", "--json")
    ran = stage.job("publish").ratchet("publish", "--json", "--bundles", "none")
    status = stage.job("status").ratchet("status", "--json")

    assert planned.code == 0, planned.err
    assert GOOD in planned.json["due"]
    assert (BAD in planned.json["due"]) is (break_it is ledger)  # propose finds that out
    assert ran.code == (ExitCode.ERROR if break_it else ExitCode.BUG), ran.err
    assert [one["skill"] for one in ran.json["skills"] if one["skill"] == GOOD] == [GOOD]
    assert [one["where"] for one in ran.json["failed"]] == [BAD]
    assert status.code == 0, status.err
    assert [one["skill"] for one in status.json["skills"]] == [BAD, GOOD]
    for page in (shown := plain(board(stage)), plain(summary.read_text("utf-8"))):
        assert BAD in page
        assert said in page
    see = "log" if break_it is ledger else "check"
    assert f"See it: ratchet {see} {BAD}" in shown
    told = (shown, summary.read_text("utf-8"), planned.out, planned.err, ran.out, ran.err)
    assert SEALED not in "".join(told)


def test_the_others_are_published_whatever_is_wrong_with_one(
    make: Callable[[], Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label that differs in case and punctuation is committed for one; the other has won."""
    stage = make()
    in_a_workflow(stage, monkeypatch)
    stage.hub.person_pushes("octo", "main", expects("Yes!", "train"))

    planned = stage.job("plan").ratchet("due", "--json")
    folder = decide(stage)
    ran = stage.job("publish").ratchet("publish", "--json", "--bundles", str(folder))

    assert (planned.code, planned.json["due"]) == (0, [GOOD]), planned.err
    assert ran.code == ExitCode.ERROR, ran.err
    assert [(one["skill"], one["reason"]) for one in ran.json["skills"]] == [
        (GOOD, "awaits_person")
    ]
    assert "cannot be told apart" in plain(board(stage))
    assert [one.pull.head for one in stage.hub.state.issues.values() if one.pull] == [
        f"ratchet/{GOOD}"
    ]


def test_what_is_everybodys_still_stops_all(make: Callable[[], Stage]) -> None:
    """Settings that cannot be read are no skill's own."""
    stage = make()
    stage.hub.person_pushes("octo", "main", {"ratchet.yml": "skills: ["})
    for words in (("due",), ("publish", "--bundles", "none")):
        ran = stage.job(words[0]).ratchet(*words)
        assert ran.code == ExitCode.ERROR
        assert "ratchet.yml" in ran.err
    assert not stage.hub.state.issues
