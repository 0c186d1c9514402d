"""The store loses nothing, doubles nothing, and touches nothing that is the user's."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.ledger import Ref, RunLock, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skill_ratchet.ledger.store import Reader

BRANCH = {ref: ref.removeprefix("refs/heads/") for ref in Ref}
both_refs = pytest.mark.parametrize("ref", list(Ref))


def git(repo: Path, *args: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["git", "-C", str(repo), *args], input=stdin, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def init(path: Path, *options: str) -> Path:
    path.mkdir()
    git(path, "init", "-q", *options)
    return path


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with a commit, and a change of every kind on top of it."""
    path = init(tmp_path / "repo")
    (path / "tracked.txt").write_text("one\n")
    (path / "other.txt").write_text("other\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    (path / "staged.txt").write_text("staged\n")
    git(path, "add", "staged.txt")
    (path / "tracked.txt").write_text("two\n")
    (path / "untracked.txt").write_text("untracked\n")
    return path


def make_store(repo: Path, clock: Callable[[], float] = lambda: 1_780_000_000.0) -> Store:
    return Store(repo, redactor=Redactor({}), clock=clock)


def journals(repo: Path) -> list[Path]:
    return sorted((make_store(repo).common_dir / "ratchet").rglob("*.jsonl"))


def commits(repo: Path, ref: Ref) -> int:
    return int(git(repo, "rev-list", "--count", ref))


def run_script(
    script: str, repo: Path, *args: str, after: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``script`` in a process of its own, with a store on ``repo`` already made."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script + "\n" + after, str(repo), *args],
        capture_output=True,
        text=True,
        check=False,
    )


PRELUDE = """
import os, resource, signal, sys
from pathlib import Path
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.ledger import Ref, RunLock, Store
from skill_ratchet.ledger.gitref import GitRef
from skill_ratchet.base.redact import Redactor

store = Store(Path(sys.argv[1]), redactor=Redactor({}))

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(call, owner, name, *, after=False):
    # Die before or after the call-th call of owner.name.
    calls, real = [], getattr(owner, name)
    def wrapper(*args, **kwargs):
        calls.append(1)
        if len(calls) == call and not after:
            die()
        done = real(*args, **kwargs)
        if len(calls) == call:
            die()
        return done
    setattr(owner, name, wrapper)
"""


@both_refs
def test_what_is_put_is_read_before_and_after_a_flush(repo: Path, ref: Ref) -> None:
    texts = {f"s/f{i}/x.txt": text for i, text in enumerate(["", "a\n", "a\r\nb", "\x00é\u2028"])}
    store = make_store(repo)
    for path, text in texts.items():
        store.put(ref, path, text)
    for _ in range(2):
        for reader in (store, make_store(repo)):
            assert reader.read_many(ref, [*texts, "s/none.txt"]) == texts
            assert reader.list(ref, "s/") == sorted(texts)
            assert reader.list(ref, "s/f1") == ["s/f1/x.txt"]
            assert reader.get(ref, "s/f1/x.txt") == "a\n"
            assert reader.get(ref, "s/f1/y.txt") is None
            assert reader.reader(ref).children("s") == ["f0", "f1", "f2", "f3"]
            assert reader.reader(ref).leaves("s", "x.txt", lambda text, _: text) == {
                path.split("/")[1]: text for path, text in texts.items()
            }
        store.flush("all of it")
    assert journals(repo) == []


@pytest.mark.parametrize("flushed", [True, False])
def test_a_search_is_literal_and_stays_in_its_folder(
    repo: Path,
    flushed: bool,  # noqa: FBT001
) -> None:
    """Whatever the user's own settings for searching are."""
    for name, value in {"grep.patternType": "perl", "submodule.recurse": "true"}.items():
        git(repo, "config", name, value)
    store = make_store(repo)
    assert store.reader(Ref.LEDGER).grep("-a.c", "s") == []
    for path, text in {"s/d/a.txt": "x-a.c", "s/b.txt": "-abc", "t/c.txt": "-a.c"}.items():
        store.put(Ref.LEDGER, path, text)
    if flushed:
        store.flush("x")
    assert store.reader(Ref.LEDGER).grep("-a.c", "s") == ["s/d/a.txt"]
    assert store.reader(Ref.LEDGER).grep("none", "s") == []


@both_refs
def test_an_absent_branch_is_empty(repo: Path, ref: Ref) -> None:
    store = make_store(repo)
    assert (store.get(ref, "s/x.txt"), store.list(ref), store.reader(ref).children("s")) == (
        None,
        [],
        [],
    )


def test_the_journal_lies_over_the_branch(repo: Path) -> None:
    store = make_store(repo)
    store.put(Ref.LEDGER, "s/a.txt", "old")
    store.put(Ref.LEDGER, "s/b.txt", "b")
    store.flush("old")
    store.put(Ref.LEDGER, "s/a.txt", "newer")
    store.put(Ref.LEDGER, "s/a.txt", "newest")
    assert store.read_many(Ref.LEDGER, ["s/a.txt", "s/b.txt"]) == {
        "s/a.txt": "newest",
        "s/b.txt": "b",
    }
    store.flush("new")
    assert git(repo, "show", f"{Ref.LEDGER}:s/a.txt") == "newest"
    assert git(repo, "show", f"{Ref.LEDGER}~:s/a.txt") == "old"


def test_a_flush_is_one_commit_per_branch_that_changes(repo: Path) -> None:
    store = make_store(repo)
    store.put(Ref.LEDGER, "s/a.txt", "a")
    store.put(Ref.HOLDOUT, "s/a.txt", "a")
    store.flush("both")
    store.put(Ref.LEDGER, "s/b.txt", "b")
    store.put(Ref.HOLDOUT, "s/a.txt", "a")
    store.flush("ledger only: the other says the same as before")
    store.flush("nothing")
    assert (commits(repo, Ref.LEDGER), commits(repo, Ref.HOLDOUT)) == (2, 1)


@both_refs
def test_a_branch_explains_itself_and_its_author_is_ratchet(repo: Path, ref: Ref) -> None:
    store = make_store(repo)
    store.put(ref, "s/a.txt", "a")
    store.flush("Experiment 7: reject\n\nbecause")
    ratchet = "Ratchet <ratchet@skill-ratchet.invalid>"
    shown = git(repo, "log", "-1", "--format=%an <%ae>|%cn <%ce>|%at|%ct|%P|%B", ref)
    assert shown == f"{ratchet}|{ratchet}|1780000000|1780000000||Experiment 7: reject\n\nbecause"
    title = {Ref.LEDGER: "# Ratchet's ledger", Ref.HOLDOUT: "# Ratchet's sealed records"}[ref]
    assert git(repo, "show", f"{ref}:README.md").startswith(title)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x.txt",
        "README.md",
        "/s/x.txt",
        "s//x.txt",
        "s/../x.txt",
        "s/./x.txt",
        "../x.txt",
        ".git/x.txt",
        "s/.git/config.txt",
        "s/.x.txt",
        "s/-x.txt",
        "s/x",
        "s/x.txt/y.txt",
        "s.json/x.txt",
        "s./x.txt",
        "s/x.txt\n",
        "s/x\ny.txt",
        "s/é.txt",
        "s\\x.txt",
        "s/git~1/x.txt",
        f"s/{'x' * 300}.txt",
    ],
)
def test_other_paths_are_refused(repo: Path, path: str) -> None:
    store = make_store(repo)
    with pytest.raises(RatchetError, match="cannot be"):
        store.put(Ref.LEDGER, path, "x")
    with pytest.raises(RatchetError, match="cannot be"):
        store.get(Ref.LEDGER, path)
    assert journals(repo) == []


def test_a_folder_outside_cannot_be_listed(repo: Path) -> None:
    with pytest.raises(RatchetError, match="cannot be a folder"):
        make_store(repo).list(Ref.LEDGER, "../holdout/")


def test_text_that_is_not_unicode_is_refused(repo: Path) -> None:
    with pytest.raises(RatchetError, match="not valid Unicode"):
        make_store(repo).put(Ref.LEDGER, "s/x.txt", "\ud800")


def snapshot(repo: Path) -> dict[str, object]:
    """Everything of the user's that the store must leave as it is."""
    files = [path for path in repo.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {
        "files": {str(path): path.read_bytes() for path in files},
        "index": (repo / ".git/index").read_bytes(),
        "HEAD": (repo / ".git/HEAD").read_bytes(),
        "config": (repo / ".git/config").read_bytes(),
        "status": git(repo, "--no-optional-locks", "status", "--porcelain=v2", "--branch"),
        "branches": git(repo, "for-each-ref", "refs/heads/main", "refs/tags", "refs/remotes"),
    }


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"commit.gpgsign": "true", "gpg.program": "/bin/false"},
        {"core.autocrlf": "true", "core.eol": "crlf", "core.safecrlf": "true"},
        {"core.quotePath": "true", "core.precomposeUnicode": "true"},
        {"i18n.commitEncoding": "latin1", "core.bigFileThreshold": "1"},
        {"fastimport.unpackLimit": "100000", "transfer.unpackLimit": "1"},
        {"user.useConfigOnly": "true"},
        {"safe.bareRepository": "explicit"},
        {"log.showSignature": "true", "color.ui": "always", "column.ui": "always"},
    ],
)
def test_the_users_tree_index_and_head_stay_as_they_are(
    repo: Path, config: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under any configuration, and without an identity of the user's own."""
    for name in [name for name in os.environ if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER"))]:
        monkeypatch.delenv(name)
    for name, value in config.items():
        git(repo, "config", name, value)
    before = snapshot(repo)
    store = make_store(repo)
    store.put(Ref.LEDGER, "s/a.txt", "a\r\nb\né")
    store.put(Ref.HOLDOUT, "s/a.txt", "a\nb")
    store.flush("é")
    assert (store.get(Ref.LEDGER, "s/a.txt"), store.list(Ref.HOLDOUT, "s/")) == (
        "a\r\nb\né",
        ["s/a.txt"],
    )
    assert snapshot(repo) == before


def test_no_hook_runs(repo: Path) -> None:
    for name in ("reference-transaction", "post-commit", "pre-commit", "pre-auto-gc"):
        hook = repo / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch '{repo}/hooked'\n")
        hook.chmod(0o755)
    store = make_store(repo)
    store.put(Ref.LEDGER, "s/a.txt", "a")
    store.flush("x")
    assert not (repo / "hooked").exists()
    git(repo, "update-ref", "refs/heads/x", "HEAD")
    assert (repo / "hooked").exists()  # they would have


def test_variables_that_a_git_hook_inherits_do_not_lead_astray(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = init(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(repo / ".git/index"))
    store = make_store(repo)
    store.put(Ref.LEDGER, "s/a.txt", "a")
    store.flush("x")
    monkeypatch.delenv("GIT_DIR")
    assert git(repo, "show", f"{Ref.LEDGER}:s/a.txt") == "a"
    assert git(other, "for-each-ref") == ""


@pytest.mark.parametrize("options", [["--bare"], [], ["--object-format=sha256"]])
def test_repositories_without_a_commit(tmp_path: Path, options: list[str]) -> None:
    repo = init(tmp_path / "repo", *options)
    for text in "ab":
        store = make_store(repo)
        store.put(Ref.LEDGER, "s/a.txt", text)
        store.flush(text)
        assert make_store(repo).get(Ref.LEDGER, "s/a.txt") == text
    assert commits(repo, Ref.LEDGER) == 2
    git(repo, "fsck", "--strict")


def test_worktrees_and_subfolders_share_one_store(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    (tmp_path / "linked/deep").mkdir()
    places = [repo, tmp_path / "linked", tmp_path / "linked/deep", repo / ".git"]
    stores = [make_store(place) for place in places]
    for i, store in enumerate(stores):
        store.put(Ref.LEDGER, f"s/{i}.txt", str(i))
    for store in stores:
        assert store.list(Ref.LEDGER, "s/") == [f"s/{i}.txt" for i in range(4)]
    for store in stores:
        store.flush("x")
    assert make_store(repo).list(Ref.LEDGER, "s/") == [f"s/{i}.txt" for i in range(4)]
    assert git(tmp_path / "linked", "status", "--porcelain") == ""


def test_outside_a_repository_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RatchetError, match="not in a git repository"):
        make_store(tmp_path)


FILL = """
for i in range(5):
    for ref in Ref:
        store.put(ref, f"s/{i}.txt", str(i))
"""


@pytest.mark.parametrize(
    "death",
    [
        "die()",
        'os.write(store._journals[Ref.LEDGER]._lock.fd, b\'{"path": "s/torn.txt", "da\'); die()',
        "os.write(store._journals[Ref.LEDGER]._lock.fd, b'\\0\\0\\0\\0\\n'); die()",
        "die_at(1, GitRef, 'commit')",
        "die_at(1, GitRef, 'commit', after=True)",
        "die_at(1, Path, 'unlink', after=True)",
        "die_at(2, GitRef, 'commit')",
        "die_at(2, GitRef, 'commit', after=True)",
        "die_at(2, Path, 'unlink', after=True)",
    ],
)
def test_a_killed_process_loses_nothing_and_doubles_nothing(repo: Path, death: str) -> None:
    done = run_script(FILL + death, repo, after="store.flush('x')")
    assert done.returncode == -9, done.stderr
    expected = {f"s/{i}.txt": str(i) for i in range(5)}
    for _ in range(2):
        store = make_store(repo)
        for ref in Ref:
            assert store.list(ref, "s/") == sorted(expected)
            assert store.read_many(ref, expected) == expected
        store.flush("go on")
    assert journals(repo) == []
    assert [commits(repo, ref) for ref in Ref] == [1, 1]
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_a_process_killed_at_any_moment_keeps_what_it_reported(repo: Path) -> None:
    script = """
for i in range(1000000):
    store.put([*Ref][i % 2], f"s/{i}.txt", "x" * 2000)
    print(i, flush=True)
    if i % 7 == 6:
        store.flush(f"up to {i}")
"""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(repo)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(40)]
        process.kill()
        reported += [int(line) for line in process.stdout if line.endswith("\n")]
    store = make_store(repo)
    store.flush("adopted")
    kept = {path for ref in Ref for path in make_store(repo).list(ref, "s/")}
    assert {f"s/{i}.txt" for i in reported} <= kept
    assert journals(repo) == []


def test_two_processes_at_once_lose_nothing(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    script = """
for i in range(50):
    store.put(Ref.LEDGER, f"s/{sys.argv[2]}-{i}.txt", str(i))
    if i % 5 == 4:
        store.flush("five more")
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", PRELUDE + script, str(place), name])
        for name, place in (("a", repo), ("b", tmp_path / "linked"))
    ]
    assert [process.wait() for process in processes] == [0, 0]
    expected = {f"s/{name}-{i}.txt": str(i) for name in "ab" for i in range(50)}
    store = make_store(repo)
    assert store.list(Ref.LEDGER, "s/") == sorted(expected)
    assert store.read_many(Ref.LEDGER, expected) == expected
    assert journals(repo) == []
    assert commits(repo, Ref.LEDGER) == 20
    assert git(repo, "rev-list", "--merges", Ref.LEDGER) == ""


def test_a_living_writers_journal_is_read_and_left_alone(repo: Path) -> None:
    living, other = make_store(repo), make_store(repo)
    living.put(Ref.LEDGER, "s/a.txt", "a")
    other.put(Ref.LEDGER, "s/b.txt", "b")
    assert other.list(Ref.LEDGER, "s/") == ["s/a.txt", "s/b.txt"]
    other.flush("only its own")
    assert git(repo, "ls-tree", "-r", "--name-only", Ref.LEDGER, "s/") == "s/b.txt"
    living.put(Ref.LEDGER, "s/c.txt", "c")
    living.flush("and the rest")
    assert make_store(repo).list(Ref.LEDGER, "s/") == ["s/a.txt", "s/b.txt", "s/c.txt"]


def test_the_younger_of_two_journals_is_believed(repo: Path) -> None:
    done = run_script('store.put(Ref.LEDGER, "s/a.txt", "old"); die()', repo)
    assert done.returncode == -9, done.stderr
    store = make_store(repo)
    store.put(Ref.LEDGER, "s/a.txt", "new")
    assert store.get(Ref.LEDGER, "s/a.txt") == "new"
    store.flush("x")
    assert store.get(Ref.LEDGER, "s/a.txt") == "new"


def test_a_journal_damaged_in_its_middle_is_an_error(repo: Path) -> None:
    store = make_store(repo)
    store.put(Ref.LEDGER, "s/a.txt", "a")
    (path,) = journals(repo)
    good = path.read_bytes()
    path.write_bytes(good + b"garbage\n" + good)
    with pytest.raises(RatchetError, match=rf"{path.name}: damaged at byte {len(good)}"):
        make_store(repo).get(Ref.LEDGER, "s/a.txt")
    with pytest.raises(RatchetError, match="damaged"):
        store.flush("x")
    assert path.exists()


def test_a_journal_removed_under_a_writer_is_an_error(repo: Path) -> None:
    store = make_store(repo)
    store.put(Ref.LEDGER, "s/a.txt", "a")
    journals(repo)[0].unlink()
    with pytest.raises(RatchetError, match="was removed"):
        store.flush("x")


def foreign_commit(repo: Path, ref: Ref, name: str) -> None:
    """Someone else's commit on the branch, as a fetch might bring."""
    tip = git(repo, "for-each-ref", "--format=%(objectname)", ref)
    old = git(repo, "ls-tree", tip) if tip else ""
    blob = git(repo, "hash-object", "-w", "--stdin", stdin=name)
    tree = git(repo, "mktree", stdin=f"{old}\n100644 blob {blob}\t{name}\n".lstrip())
    commit = git(repo, "commit-tree", tree, "-m", name, *(["-p", tip] if tip else []))
    git(repo, "update-ref", ref, commit)


@pytest.mark.parametrize("existing", [True, False])
def test_a_lost_race_is_run_again_on_the_new_tip(repo: Path, existing: bool) -> None:  # noqa: FBT001
    """The clock is read between looking at the tip and moving it: there the other gets in."""
    if existing:
        foreign_commit(repo, Ref.LEDGER, "before.txt")
    races = iter(["during.txt"])

    def clock() -> float:
        for name in races:
            foreign_commit(repo, Ref.LEDGER, name)
        return 0.0

    store = make_store(repo, clock)
    store.put(Ref.LEDGER, "s/a.txt", "a")
    store.flush("mine")
    assert store.list(Ref.LEDGER)[-2:] == ["during.txt", "s/a.txt"]
    assert git(repo, "log", "--format=%s", Ref.LEDGER).split()[:2] == ["mine", "during.txt"]
    assert journals(repo) == []


def test_a_race_lost_again_and_again_is_an_error_that_keeps_the_journal(repo: Path) -> None:
    names = iter(f"{i}.txt" for i in range(100))

    def clock() -> float:
        foreign_commit(repo, Ref.LEDGER, next(names))
        return 0.0

    store = make_store(repo, clock)
    store.put(Ref.LEDGER, "s/a.txt", "a")
    with pytest.raises(RatchetError, match="5 times in a row"):
        store.flush("x")
    assert len(journals(repo)) == 1
    store.put(Ref.LEDGER, "s/b.txt", "b")
    make_store(repo).flush("adopts the first, the second's writer lives")
    assert make_store(repo).list(Ref.LEDGER, "s/") == ["s/a.txt", "s/b.txt"]


def all_objects(repo: Path) -> bytes:
    return subprocess.run(
        ["git", "-C", str(repo), "cat-file", "--batch", "--batch-all-objects"],
        capture_output=True,
        check=True,
    ).stdout


def test_a_secret_of_the_environment_is_nowhere(repo: Path) -> None:
    canary = 'canary/"7f3a9c\\d1'
    redactor = Redactor.from_environ({"ANTHROPIC_API_KEY": canary})
    store = Store(repo, redactor=redactor)
    encoded = base64.b64encode(f"user:{canary}".encode()).decode()
    for i, text in enumerate([canary, json.dumps({"marker": canary}), f"marker {encoded}"]):
        for ref in Ref:
            store.put(ref, f"s/{i}.json", text)
    written = b"".join(path.read_bytes() for path in journals(repo))
    store.flush(f"marker {canary}")
    written += all_objects(repo)
    assert written.count(b"marker") >= 5
    # Six journal lines, three blobs that both branches share, two commits.
    assert written.count(b"[redacted:ANTHROPIC_API_KEY]") == 11
    for spelling in (canary, json.dumps(canary)[1:-1], "canary", "7f3a9c", encoded[8:16]):
        assert spelling.encode() not in written
    with pytest.raises(RatchetError, match="path would contain a secret"):
        Store(repo, redactor=Redactor({"A": "fixture-17"})).put(Ref.LEDGER, "s/fixture-17.txt", "")


@pytest.mark.parametrize("linked", [True, False])
@both_refs
def test_a_checked_out_branch_is_refused(
    repo: Path,
    tmp_path: Path,
    ref: Ref,
    linked: bool,  # noqa: FBT001
) -> None:
    early = make_store(repo)
    early.put(ref, "s/a.txt", "a")
    early.flush("x")
    early.put(ref, "s/b.txt", "b")
    git(repo, "stash", "-qu")
    where = tmp_path / "linked" if linked else repo
    if linked:
        git(repo, "worktree", "add", "-q", str(where), BRANCH[ref])
    else:
        git(repo, "switch", "-q", BRANCH[ref])
    message = rf"branch {BRANCH[ref]} is checked out in {re.escape(str(where))}"
    with pytest.raises(RatchetError, match=message):
        make_store(repo).put(ref, "s/c.txt", "c")
    with pytest.raises(RatchetError, match=message):
        early.flush("x")
    assert git(where, "status", "--porcelain") == ""
    assert make_store(repo).list(ref, "s/") == ["s/a.txt", "s/b.txt"]  # reading is allowed


def test_a_branch_named_ratchet_is_in_the_way(repo: Path) -> None:
    git(repo, "branch", "ratchet")
    with pytest.raises(RatchetError, match="branch ratchet is in the way of branch ratchet/ledger"):
        make_store(repo).put(Ref.LEDGER, "s/a.txt", "a")


def test_a_git_directory_that_cannot_be_written_is_a_clear_error(repo: Path) -> None:
    (repo / ".git/ratchet").write_text("in the way, also for root")
    store = make_store(repo)
    with pytest.raises(RatchetError, match=r"cannot write .*/\.git/ratchet") as error:
        store.put(Ref.LEDGER, "s/a.txt", "a")
    assert error.value.hint
    with pytest.raises(RatchetError, match="cannot write"):
        store.flush("x")
    assert store.get(Ref.LEDGER, "s/a.txt") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_git_directory_is_a_clear_error(repo: Path) -> None:
    (repo / ".git").chmod(0o500)
    try:
        with pytest.raises(RatchetError, match="cannot write"):
            make_store(repo).put(Ref.LEDGER, "s/a.txt", "a")
    finally:
        (repo / ".git").chmod(0o700)


def test_an_object_store_that_cannot_be_written_keeps_the_journal(repo: Path) -> None:
    pack = repo / ".git/objects/pack"
    pack.rmdir()
    pack.write_text("in the way, also for root")
    store = make_store(repo)
    store.put(Ref.LEDGER, "s/a.txt", "a")
    with pytest.raises(RatchetError, match="git fast-import failed"):
        store.flush("x")
    pack.unlink()
    assert store.get(Ref.LEDGER, "s/a.txt") == "a"
    store.flush("again")
    assert git(repo, "show", f"{Ref.LEDGER}:s/a.txt") == "a"


def test_a_write_cut_short_leaves_no_half_line(repo: Path) -> None:
    """A full disk, played by a limit on the size of files."""
    script = """
store.put(Ref.LEDGER, "s/a.txt", "a")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))
try:
    store.put(Ref.LEDGER, "s/b.txt", "b" * 1000)
except RatchetError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.put(Ref.LEDGER, "s/c.txt", "c")
die()
"""
    done = run_script(script, repo)
    assert "cannot write" in done.stdout
    store = make_store(repo)
    assert store.list(Ref.LEDGER, "s/") == ["s/a.txt", "s/c.txt"]


def test_one_run_per_skill_at_a_time(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    with RunLock(repo, "triage"):
        with (
            pytest.raises(RatchetError, match=rf"'triage' .*process {os.getpid()}\)"),
            RunLock(tmp_path / "linked", "triage"),
        ):
            pass
        with RunLock(repo, "other-skill"):
            pass
    with RunLock(repo, "triage"):
        pass


def test_a_killed_runs_lock_is_free(repo: Path) -> None:
    done = run_script("lock = RunLock(Path(sys.argv[1]), 'triage').__enter__(); die()", repo)
    assert done.returncode == -9, done.stderr
    with RunLock(repo, "triage"):
        pass


@pytest.mark.parametrize("skill", ["", "../x", "a/b", ".x", "é"])
def test_a_lock_needs_a_plain_skill_name(repo: Path, skill: str) -> None:
    with pytest.raises(RatchetError, match="skill name"):
        RunLock(repo, skill)


def without(repo: Path, path: str) -> Reader:
    """The holdout's branch, of which one object is lost: the one at that path."""
    (pack,) = (repo / ".git/objects/pack").glob("*.pack")
    pack.with_suffix(".idx").unlink()
    away = pack.rename(repo / "away.pack")
    with away.open("rb") as file:
        subprocess.run(["git", "unpack-objects", "-q"], cwd=repo, stdin=file, check=True)
    oid = git(repo, "rev-parse", f"{Ref.HOLDOUT}:{path}")
    (repo / ".git/objects" / oid[:2] / oid[2:]).unlink()
    return make_store(repo).reader(Ref.HOLDOUT)


@pytest.mark.parametrize("lost", ["", "s", "s/experiments"])
def test_a_folder_that_is_lost_is_not_an_empty_one(repo: Path, lost: str) -> None:
    """As if nothing had been tried, the looks at the holdout would be counted from 1 again."""
    store = make_store(repo)
    store.put(Ref.HOLDOUT, "s/experiments/e/confirm.json", "{}")
    store.flush("one")
    reader = without(repo, lost)
    for ask in (
        lambda: reader.children("s/experiments"),
        lambda: reader.leaves("s/experiments", "confirm.json", lambda text, _: text),
        lambda: reader.list("s/"),
        lambda: reader.get("s/experiments/e/confirm.json"),
    ):
        with pytest.raises(RatchetError, match="has no sound object"):
            ask()


def test_a_record_that_is_lost_is_not_one_that_is_absent(repo: Path) -> None:
    """Of a lost confirm.json no look would be counted. One that was never written is no error."""
    store = make_store(repo)
    store.put(Ref.HOLDOUT, "s/experiments/e/confirm.json", "{}")
    store.put(Ref.HOLDOUT, "s/experiments/f/other.json", "[]")
    store.flush("one")
    reader = without(repo, "s/experiments/e/confirm.json")
    for ask in (
        lambda: reader.leaves("s/experiments", "confirm.json", lambda text, _: text),
        lambda: reader.get("s/experiments/e/confirm.json"),
    ):
        with pytest.raises(RatchetError, match="has no sound object"):
            ask()
    read = reader.leaves("s/experiments", "other.json", lambda text, _: text)
    assert list(read.values()) == ["[]"]
    assert reader.get("s/experiments/f/confirm.json") is None
