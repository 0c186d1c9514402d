"""The README badge: what it says, where it is kept, and that nothing else passes for one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.core.records import Landing
from skill_ratchet.experiment import badges
from skill_ratchet.ledger import Ref, access, badge, replay
from skill_ratchet.ledger.admission import Before, Sealed, check_change, check_record, place
from skill_ratchet.ledger.badge import Badge, draw, parse
from skill_ratchet.ledger.gitref import GitRef
from skill_ratchet.project import repository
from stage import staging
from tests.cli.test_log_view import add, run
from views import open_eyes
from world import SKILL_TEXT, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stage import Stage

FILE = "triage/badge.svg"
LEDGER = Ref.LEDGER.removeprefix("refs/heads/")
SOME = Badge(skill="triage", score=83, merged="2026-11-20")
BADGES = st.builds(
    Badge,
    skill=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True),
    score=st.integers(min_value=0, max_value=100),
    merged=st.none() | st.dates().map(str),
)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (SOME, "train 83%, merged 2026-11-20"),
        (SOME.with_(merged=None), "train 83%, no merge yet"),
        (SOME.with_(score=None), "no data yet"),
        (SOME.with_(score=None, merged=None), "no data yet"),
    ],
)
def test_what_it_says(made: Badge, message: str) -> None:
    """The split stands before the number; without a number it says so."""
    root = ET.fromstring(draw(made))  # noqa: S314 - of our own making
    spoken, shown = root.attrib["aria-label"], [text.text for text in root.iter() if text.text]
    assert spoken == f"ratchet triage: {message}"
    assert spoken in shown
    assert [text for text in shown if text.strip()][-2:] == ["ratchet triage", message]


@given(BADGES)
def test_a_badge_is_known_again(made: Badge) -> None:
    svg = draw(made)
    assert parse(svg) == made
    assert draw(made) == svg
    ET.fromstring(svg)  # noqa: S314 - of our own making
    assert svg.isascii() or len(made.skill) > badge.WIDTH  # only the mark of a cut name is not


def test_every_text_has_its_width() -> None:
    """So that no font makes it wider than its box."""
    for made in (SOME, SOME.with_(score=None), SOME.with_(skill="W" * 100)):
        root = ET.fromstring(draw(made))  # noqa: S314 - of our own making
        boxes = [one for one in root.iter() if one.tag.endswith("}rect")][1:]
        texts = [one for one in root.iter() if one.tag.endswith("}text")]
        for box, text in zip(boxes, texts, strict=True):
            begin = float(box.attrib.get("x", 0))
            end = begin + float(box.attrib["width"])
            assert begin < float(text.attrib["x"])
            assert float(text.attrib["x"]) + float(text.attrib["textLength"]) < end
        assert float(root.attrib["width"]) == end


GOOD = draw(SOME)


@pytest.mark.parametrize(
    "svg",
    [
        "",
        GOOD.replace("</svg>", "<script>alert(1)</script></svg>"),
        GOOD.replace("<svg ", "<svg onload='alert(1)' "),
        GOOD.replace("role='img'", "role='img' style='width:9999px'"),
        GOOD.replace("83%", "84%", 1),
        GOOD.replace("83%", "101%"),
        GOOD.replace("83%", "\u0668\u0663%"),  # digits of another script
        GOOD.replace("train", "held-out"),
        GOOD.replace("2026-11-20", "20261120"),
        f"{GOOD}\n",
        GOOD.replace("\n", "\r\n"),
        GOOD + GOOD,
    ],
)
def test_nothing_else_is_a_badge(svg: str) -> None:
    assert parse(svg) is None


@pytest.mark.parametrize("skill", ["<b>", "a b", "a'b", "a\n", "\u202ea", ""])
def test_a_name_that_is_no_name_is_refused(skill: str) -> None:
    with pytest.raises(ValidationError):
        Badge(skill=skill, score=1, merged=None)


# Kept -----------------------------------------------------------------------------------------


def kept(world: World) -> Badge | None:
    return parse(world.git("show", f"{LEDGER}:{FILE}") + "\n")


def test_a_run_keeps_it(tmp_path: Path) -> None:
    """Of the text as it is now, also right after a merge; never what the holdout came to."""
    world = World.make(tmp_path / "p")
    world.run("--attempts", "0")
    before = kept(world)
    assert before == Badge(skill="triage", score=0, merged=None)

    ran = world.run()

    found = kept(world)
    assert ran.verdicts == [("merge", "improved")]
    landed = next(iter(world.ledger().landings().values()))
    assert found == Badge(skill="triage", score=100, merged=landed.at[:10])
    tip = world.tip(LEDGER)
    assert not badges.refresh(world.ledger(), space(world))
    assert world.tip(LEDGER) == tip


def space(world: World) -> Any:
    from tests.ledger.test_bundles import space_of  # noqa: PLC0415 - a large module, for one line

    return space_of(world)


def test_a_job_that_hands_on_what_it_found_leaves_it_alone(tmp_path: Path) -> None:
    """Or two jobs of one run would both have changed it."""
    world = World.make(tmp_path / "p")
    made, out = tmp_path / "proposal", tmp_path / "confirmation"
    assert world.ratchet("propose", "--bundle", str(made)).code == ExitCode.DONE
    assert world.ratchet("confirm", "--bundle", str(made), "--out", str(out)).code == ExitCode.DONE
    assert FILE not in world.git("ls-tree", "-r", "--name-only", LEDGER).split()


def test_it_is_of_the_text_as_it_is(tmp_path: Path) -> None:
    """What was taken out again, and what an older text scored, does not count."""
    world = World.make(tmp_path / "p")
    ledger = world.ledger()
    made = [add(ledger, number, action) for number, action in ((1, "merge"), (2, "merge"))]
    for one, day in zip(made, ("03", "05"), strict=True):
        facts = {"experiment": one.id, "commit": "c" * 40, "branch": "main", "by": "ratchet"}
        ledger.add_landing(Landing(**facts, at=f"2026-01-{day}T00:00:00+00:00"))
    here = space(world)
    now = [badges.facts(ledger, here, text=one.candidate) for one in made]
    assert [(one.score, one.merged) for one in now] == [(20, "2026-01-05"), (30, "2026-01-05")]
    ledger.add_revert(Landing(**facts, at="2026-01-06T00:00:00+00:00"))
    back = badges.facts(ledger, here, text=made[1].parent)
    assert (back.score, back.merged) == (20, "2026-01-03")
    assert badges.facts(ledger, here).score is None  # the text in the project was never measured


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    with staging(tmp_path, monkeypatch) as build:
        yield build


def test_a_publication_brings_it_to_github(make: Callable[..., Stage]) -> None:
    """Where nothing has changed it writes nothing."""
    stage = make()
    stage.decide()
    assert stage.publish().json["action"] == "merge"
    found = parse(stage.hub.read(LEDGER, FILE) or "")
    assert found is not None
    assert (found.score, found.merged is None) == (100, False)
    tip = stage.hub.tip(LEDGER)
    stage.sha = None
    stage.publish("2", bundle=False)
    assert stage.hub.tip(LEDGER) == tip


# Known to those who look at every file ----------------------------------------------------------


def check(svg: str, *, skill: str = "triage", path: str = FILE, ref: Ref = Ref.LEDGER) -> None:
    """What a bundle's file has to pass, where an older badge is there already."""
    where = place(ref, path, skill=skill)
    data = svg.encode()
    there = Before({Ref.LEDGER: {path: "0" * 40}, Ref.HOLDOUT: {}}, lambda _: b"older")
    check_change(ref, where, data, there)
    check_record(ref, where, data, skill=skill, sealed=Sealed())


def test_a_bundle_may_bring_a_newer_one() -> None:
    check(GOOD)


@pytest.mark.parametrize(
    "changes",
    [
        {"svg": GOOD.replace("<svg ", "<svg onload='x' ")},
        {"svg": draw(SOME.with_(skill="other"))},
        {"path": "other/badge.svg"},
        {"path": "triage/other.svg"},
        {"path": "triage/experiments/000000000000/badge.svg"},
        {"ref": Ref.HOLDOUT},
    ],
    ids=str,
)
def test_a_bundle_may_bring_no_other_picture(changes: dict[str, Any]) -> None:
    with pytest.raises(RatchetError, match=r"no place of a record|not what belongs there"):
        check(**({"svg": GOOD} | changes))


def test_two_jobs_that_both_drew_it_are_joined(tmp_path: Path) -> None:
    """It is made of the other records, so it is in nobody's way; the next one draws it anew."""
    world = World.make(tmp_path / "p")
    project = repository.open_project(world.path)
    branch = GitRef(project.common_dir, Ref.LEDGER.value)

    def commit(files: dict[str, str]) -> str:
        branch.commit(files, message="triage: x", at=0, onto=branch.tip())
        return world.tip(LEDGER)

    fork = commit({"triage/notes/000000000000.json": "{}"})
    ours = commit({FILE: GOOD, "triage/notes/111111111111.json": "{}"})
    world.git("update-ref", f"refs/heads/{LEDGER}", fork)
    theirs = commit({FILE: draw(SOME.with_(score=1))})
    joined = replay.put_on_top(project, Ref.LEDGER, ours, here=theirs, skill="triage")
    assert parse(world.git("show", f"{joined}:{FILE}") + "\n") == SOME.with_(score=1)
    assert "triage/notes/111111111111.json" in world.git("ls-tree", "-r", "--name-only", joined)
    assert replay.overlapping([FILE], skill="triage") == []
    assert replay.overlapping(["triage/result.json"], skill="triage") == ["triage/result.json"]


def test_forgetting_a_case_leaves_it(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    world.run()
    before = kept(world)
    ran = world.ratchet("forget", "t1", "--json")
    assert ran.code == ExitCode.DONE, ran.err
    assert FILE not in ran.json["replaced"]
    assert before is not None
    assert kept(world) == before


@pytest.mark.parametrize("name", ["traces", "judge", "proposer", "runs"])
def test_a_skill_may_be_called_as_a_folder_of_the_ledger_is(tmp_path: Path, name: str) -> None:
    """A picture beside its folders is not taken for one of their records."""
    world = World.make(tmp_path / "p")
    ledger = access.open_ledger(repository.open_project(world.path), name)
    made = add(ledger, 1, "reject").with_(skill=name)
    ledger.put_badge(draw(SOME.with_(skill=name)))
    ledger.add_trace(run(made, "t1", 1.0, side="candidate").with_(skill=name))
    ledger.flush("all")
    assert [trace.fixture for trace in ledger.traces()] == ["t1"]
    assert ledger.find_trace("1-c-t1").fixture == "t1"
    assert len(list(open_eyes(ledger).task_runs(skip=0, most=1000)[0])) == 1


# Pasted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "home"),
    [
        ("https://github.com/acme/shop.git", "https://github.com/acme/shop"),
        ("https://github.com/acme/shop/", "https://github.com/acme/shop"),
        ("https://user:ghp_secret@github.com/acme/shop", "https://github.com/acme/shop"),
        ("git@github.com:acme/shop.git", "https://github.com/acme/shop"),
        ("ssh://git@github.com/acme/shop.git", "https://github.com/acme/shop"),
        ("ssh://git@github.com:22/acme/shop.git", "https://github.com/acme/shop"),
        ("https://git.acme.example/acme/shop", "https://git.acme.example/acme/shop"),
        ("https://gitlab.example/acme/shop.git", None),
        ("https://github.com.evil.example/acme/shop", None),
        ("https://evil.example/github.com/acme", None),
        ("https://github.com/acme/shop/more", None),
        ("https://github.com/acme/sh)op](x", None),
        ("/srv/git/shop.git", None),
        (None, None),
    ],
)
def test_the_line_for_a_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str | None, home: str | None
) -> None:
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.acme.example")
    world = World.make(tmp_path / "p")
    if origin:
        world.git("remote", "add", "origin", origin)
    shown = world.ratchet("badge")
    assert shown.code == ExitCode.DONE, shown.err
    if home is None:
        assert shown.out == "![ratchet triage](badge.svg)\n"
        assert "--out" in shown.err
        return
    assert shown.out == (
        f"[![ratchet triage]({home}/raw/refs/heads/ratchet/ledger/triage/badge.svg)]"
        f"({home}/tree/ratchet/ledger/triage)\n"
    )
    assert shown.err == ""


def test_the_picture_can_be_written(tmp_path: Path) -> None:
    world = World.make(tmp_path / "p")
    file = tmp_path / "my badge.svg"
    shown = world.ratchet("badge", "--out", str(file), "--json")
    assert parse(file.read_text()) == Badge(skill="triage", score=None, merged=None)
    assert shown.json == {
        "skill": "triage",
        "score": None,
        "merged": None,
        "markdown": f"![ratchet triage]({str(file).replace(' ', '%20')})",
        "out": str(file),
    }
    failed = world.ratchet("badge", "--out", str(tmp_path / "no" / "b.svg"))
    assert (failed.code, "cannot be written" in failed.err) == (ExitCode.ERROR, True)
    assert world.show("skills/triage/SKILL.md", "HEAD") == SKILL_TEXT
