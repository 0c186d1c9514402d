"""A forgotten case is nowhere on the ledger's branches, and nothing else has changed there."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.cases import forget
from skill_ratchet.cases.forget import MARK, Quotes
from skill_ratchet.ledger import Ref, RunLock
from tests.cli.test_cli import SEALING
from world import META, SKILL, World, case, idea, script

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.core.records import Experiment

T1, T2, H1 = "Is it t1?", "Is it t2?", "agree to h1?"
BRANCHES = ("ratchet/ledger", "ratchet/holdout")
JSONL = "fixtures/triage/train/more.jsonl"
LINES = [json.dumps({"id": f"j{n}", "input": f"Was  it j{n}?", "expected": "yes"}) for n in (1, 2)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a merge, and a rejected edit that quotes a train case."""
    path = tmp_path_factory.mktemp("template") / "p"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for name in SEALING:
            patch.setenv(f"GIT_{name}", "dev@example.com")
        quoting = f"To '{T1}' say no."
        model = script(
            [idea(1, "Rule alpha."), idea(2, quoting)], right={"alpha": ("t1", "t2", "h1", "h2")}
        )
        world = World.make(path, model=model, config={"gate": {"rule": "improves"}})
        world.write(JSONL, f"{LINES[0]}\r\n\n{LINES[1]}\n")
        world.commit("more")
        ran = world.run("--attempts", "2")
    assert [action for action, _ in ran.verdicts] == ["merge", "reject"], ran.err
    return path


@pytest.fixture
def world(template: Path, tmp_path: Path) -> World:
    """A copy of that project."""
    shutil.copytree(template, tmp_path / "p", symlinks=True)
    return World(tmp_path / "p")


def blobs(world: World, branch: str) -> list[dict[str, str]]:
    """Of every commit, oldest first: its files' objects by path."""
    commits = world.git("rev-list", "--reverse", branch).split()
    return [
        {
            line.split("\t")[1]: line.split()[2]
            for line in world.git("ls-tree", "-r", one).split("\n")
        }
        for one in commits
    ]


def about(world: World, branch: str) -> str:
    """Authors, dates and messages of all commits, in order."""
    return world.git("log", "--format=%an %ae %at %cn %ce %ct %B", branch)


def views(world: World) -> list[str]:
    """What people are shown of decisions."""
    commands = [("log",), ("explain", "1"), ("explain", "2"), ("compare", "--by", "level")]
    seen = world.ratchet("looks", "--json").json
    shown = [str({key: seen[key] for key in ("attempts", "looks", "alpha", "spent", "next_bar")})]
    return shown + [world.ratchet(*command).out for command in commands]


def named(path: str, case: str) -> bool:
    """Whether a path is of a run of a case."""
    return path.rpartition("/")[2].startswith(f"{case}.")


def test_of_many_records_that_quoted_it_the_first_are_named() -> None:
    done = forget.Forgotten(
        skill="triage",
        fixture="t1",
        file=None,
        commit=None,
        traces=1,
        replaced=tuple(f"record{number}.json" for number in range(1000)),
        kept=(),
        skill_file=None,
        refs=(),
        remote=None,
        pruned=True,
        left=0,
    )
    lines = [line for line in forget.describe(done) if "record" in line]
    assert [line.partition(":")[0] for line in lines[:-1]] == list(done.replaced[:10])
    assert lines[-1].startswith("and 990 more such records")


@pytest.mark.parametrize(("name", "text"), [("t1", T1), ("h1", H1), ("j2", "j2?")])
def test_no_commit_has_it_any_more_and_all_else_is_as_it_was(
    world: World, name: str, text: str
) -> None:
    assert any(text in world.told(branch) for branch in BRANCHES)
    before = {branch: (blobs(world, branch), about(world, branch)) for branch in BRANCHES}
    seen, main = views(world), world.tip("main")

    ran = world.ratchet("forget", name, "--json")

    assert ran.code == ExitCode.DONE, ran.err
    told = ran.json
    changed = set(told["replaced"])
    for branch, (old, said) in before.items():
        assert text not in world.told(branch)
        assert about(world, branch) == said
        for was, now in zip(old, blobs(world, branch), strict=True):
            assert {path for path in was if not named(path, name)} == set(now)
            assert {path for path in now if now[path] != was[path]} <= changed
    assert views(world) == seen
    assert world.tip("main^") == main
    assert world.git("show", "--format=%s", "--name-only").split("\n") == [
        f"triage: forget case {name}",
        "",
        told["file"],
    ]
    assert world.status() == ""
    assert world.git("for-each-ref", "refs/ratchet") == ""
    assert world.git("reflog", "show", "ratchet/ledger") == ""
    world.assert_sound()


def test_what_quotes_it_says_so_and_what_was_decided_stays(world: World) -> None:
    before = world.ledger()
    old = {one.number: one for one in before.experiments()}
    results, looks = before.results(), before.confirmations()

    told = world.ratchet("forget", "t1", "--json").json

    ledger = world.ledger()
    new = {one.number: one for one in ledger.experiments()}
    assert new[1] == old[1]
    assert new[2].proposal.edits != old[2].proposal.edits
    assert new[2].with_(proposal=old[2].proposal) == old[2]
    assert MARK in (ledger.candidate_text(new[2].id) or "")
    assert (ledger.results(), ledger.confirmations()) == (results, looks)
    home = f"triage/experiments/{new[2].id[:12]}"
    assert {f"{home}/candidate.txt", f"{home}/experiment.json"} <= set(told["replaced"])
    meta = list(ledger.traces(job="meta"))
    assert meta
    assert all(MARK in one.reply.model_dump_json() for one in meta)
    assert all(META in json.dumps(one.reply.request) for one in meta)
    assert any(T2 in json.dumps(one.reply.request) for one in meta)


def test_the_next_run_measures_only_what_is_missing(world: World) -> None:
    world.ratchet("forget", "t1")
    told = world.ratchet("eval", "--json").json
    assert (told["calls"], told["runs"], told["reused"]) == (0, 4, 4)


def test_other_lines_of_a_file_stay_byte_for_byte(world: World) -> None:
    world.ratchet("forget", "j1")
    assert (world.path / JSONL).read_bytes() == f"\n{LINES[1]}\n".encode()


def test_without_a_commit_and_then_with_one(world: World) -> None:
    main = world.tip("main")
    assert world.ratchet("forget", "j2", "--no-commit").code == ExitCode.DONE
    assert world.tip("main") == main
    assert world.status() == f" M {JSONL}"
    ledger = world.tip("ratchet/ledger")
    assert world.ratchet("forget", "j2", "--json").json["commit"] == world.tip("main") != main
    assert world.tip("ratchet/ledger") == ledger
    world.git("commit", "--quiet", "--allow-empty", "--message=triage: forget case j22")
    # And once more, from the commit that took it out.
    again = world.ratchet("forget", "j2", "--json").json
    assert (again["file"], again["commit"], again["traces"]) == (None, None, 0)
    assert world.status() == ""


def test_what_is_staged_besides_stays_staged(world: World) -> None:
    world.write("README.md", "staged\n")
    world.git("add", "README.md")
    assert world.ratchet("forget", "t1").code == ExitCode.DONE
    assert world.status() == "M  README.md"


def test_a_killed_call_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for step in ("_import", "_expire", "_take_out"):
        with monkeypatch.context() as patch:
            patch.setattr(forget, step, die)
            with pytest.raises(KeyboardInterrupt):
                forget.forget(world.path, skill=None, fixture="t1")
        assert (world.path / "fixtures/triage/train/t1.yml").exists()
    assert world.ratchet("forget", "t1").code == ExitCode.DONE
    assert T1 not in world.told("ratchet/ledger")


def test_one_that_was_deleted_by_hand_is_found_by_its_runs(world: World) -> None:
    (world.path / "fixtures/triage/train/t1.yml").unlink()
    world.commit("by hand")
    told = world.ratchet("forget", "t1", "--json").json
    assert told["file"] is None
    assert told["traces"]
    assert T1 not in world.told("ratchet/ledger")


def test_a_journal_that_was_left_is_folded_in_and_cleaned(world: World) -> None:
    ledger = world.ledger()
    trace = next(one for one in ledger.traces() if one.fixture == "t1")
    ledger.add_trace(trace.with_(id="late", score=None, scorer_error="none"))
    del ledger  # its writer is gone
    assert world.ratchet("forget", "t1").code == ExitCode.DONE
    assert not list((world.path / ".git/ratchet/journal").rglob("*.jsonl"))
    assert T1 not in world.told("ratchet/ledger")


def refuse(world: World, *args: str, about: str) -> None:
    """The command is refused, and nothing has changed."""
    refs, status = world.git("for-each-ref"), world.status()
    ran = world.ratchet("forget", *args)
    assert ran.code == ExitCode.ERROR
    assert about in " ".join(ran.err.split())
    assert (world.git("for-each-ref"), world.status()) == (refs, status)


def test_what_is_refused(world: World) -> None:
    refuse(world, "t11", about="did you mean 't1'?")
    world.write("fixtures/triage/train/t1.yml", case("other", "train"))
    refuse(world, "t1", about="t1.yml has changes that are not committed")
    world.git("checkout", "--quiet", "--", ".")
    world.write("fixtures/triage/train/new.yml", case("new", "train"))
    refuse(world, "new", about="new.yml has changes that are not committed")
    same = json.dumps({"input": T1, "expected": "no"})
    world.write("fixtures/triage/train/new.yml", same)
    world.commit("twin")
    refuse(world, "t1", about="Case 'new' has the same input")
    world.git("mv", "fixtures/triage/train/new.yml", "fixtures/triage/holdout/new.yml")
    world.commit("both sides")
    refuse(world, "t1", about="the same input is in")
    with RunLock(world.path, "triage"):
        refuse(world, "t2", about="another run of skill 'triage' is going on")


def test_an_experiment_under_way_is_closed_first(world: World) -> None:
    ledger = world.ledger()
    first: Experiment = ledger.experiments()[0]
    late = first.with_(id="e" * 64, number=3, started_at="2999-01-01T00:00:00Z")
    ledger.add_experiment(late, parent_text="a", candidate_text="b")
    ledger.flush("begun")
    del ledger
    refuse(world, "t1", about="Experiment 3 of skill triage is under way")


def test_a_skill_that_quotes_it_is_reported(world: World) -> None:
    world.write(SKILL, world.skill() + f"To {T1} say yes.\n")
    world.commit("by hand")
    ran = world.ratchet("forget", "t1")
    assert f"{SKILL} QUOTES IT" in ran.out
    assert T1 in world.skill()
    assert T2 not in ran.out


def test_prune_deletes_it_from_the_clone(world: World) -> None:
    """Of the objects only the base branch's own file is left."""
    told = world.ratchet("forget", "h1", "--prune", "--json").json
    assert told["left"] == 0
    assert world.objects().count(H1.encode()) == 1
    world.assert_sound()


def test_push_replaces_the_branches_of_the_remote(world: World, tmp_path: Path) -> None:
    hub = tmp_path / "hub.git"
    world.git("clone", "--quiet", "--bare", str(world.path), str(hub))
    world.git("remote", "add", "origin", str(hub))
    world.git("fetch", "--quiet", "origin")
    assert "git push --force-with-lease origin ratchet/ledger" in world.ratchet("forget", "t1").out

    told = world.ratchet("forget", "t1", "--push", "--json").json

    assert (told["remote"], told["refs"]) == (True, [])
    remote = World(hub)
    for branch in BRANCHES:
        assert remote.tip(branch) == world.tip(branch) == world.tip(f"origin/{branch}")
    assert T1 not in remote.told("ratchet/ledger")
    # Somebody else's records are not thrown away.
    tree, tip = remote.git("rev-parse", "ratchet/ledger^{tree}"), remote.tip("ratchet/ledger")
    other = remote.git("commit-tree", "-p", tip, "-m", "other", tree)
    remote.git("update-ref", Ref.LEDGER.value, other)
    mine = world.git("commit-tree", "-p", tip, "-m", "mine", tree)
    world.git("update-ref", Ref.LEDGER.value, mine)
    ran = world.ratchet("forget", "t2", "--push")
    assert "has records that this clone has not" in ran.err
    assert (remote.tip("ratchet/ledger"), world.tip("ratchet/ledger")) == (other, mine)
    assert (world.path / "fixtures/triage/train/t2.yml").exists()


LONG = 'My card "Gold" was kept\nby the machine at the station, says Zoë.'
KEPT = "The machine at the corner kept my card"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LONG, MARK),
        (f"<{LONG}>", f"<{MARK}>"),
        (json.dumps({"a": LONG}), f'{{"a": "{MARK}"}}'),
        (json.dumps(json.dumps(LONG)), f'"\\"{MARK}\\""'),
        ("so: WAS KEPT by the  machine at, and", f"so: {MARK}, and"),
        ("was kept by the machine", None),  # five words are anybody's
        (KEPT, None),
        ("Yes", None),
        ("a\nno\nb", f"a\n{MARK}\nb"),  # a short text only as a line
        ('{"input": "no"}', f'{{"input": "{MARK}"}}'),
        ("no, there is no such", None),
        ("classified", None),
        ("it is classify-me here", f"it is {MARK} here"),
        ("it is classify-mean here", None),
    ],
)
def test_a_quotation_is_found(text: str, said: str | None) -> None:
    quotes = Quotes([LONG, "no", "classify-me", f"{KEPT} again"], [KEPT])
    assert quotes.replace(text) == (text if said is None else said)
    assert quotes.replace(quotes.replace(text)) == quotes.replace(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("客户说我的银行卡昨天在机场丢了怎么办所以", f"客户说{MARK}所以"),
        ("客户说银行卡昨天在机场丢了怎么所以", f"客户说{MARK}所以"),
        ("我的银行卡在机场", None),
    ],
)
def test_a_quotation_is_found_where_no_spaces_are_written(text: str, said: str | None) -> None:
    assert Quotes(["我的银行卡昨天在机场丢了怎么办"]).replace(text) == (said or text)
