"""How git is asked: which repository, where a ref is, and the process that reads objects."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gitrepo import SKILL, SKILL_TEXT, GitRepo
from skill_ratchet.base import git
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.git import read_object, read_objects
from skill_ratchet.ledger import Ref, access
from skill_ratchet.project import repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAIN = "refs/heads/main"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return GitRepo.with_skill(tmp_path / "repo")


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every process that was started to read objects."""
    found: list[subprocess.Popen[bytes]] = []
    start = git._Objects._start

    def seen(reader: git._Objects) -> subprocess.Popen[bytes]:
        found.append(start(reader))
        return found[-1]

    git.close_readers()
    monkeypatch.setattr(git._Objects, "_start", seen)
    yield found
    git.close_readers()
    assert [process.poll() is None for process in found] == [False] * len(found)


def git_dir(repo: GitRepo) -> Path:
    return repo.path.resolve() / ".git"


def text(repo: GitRepo, name: str) -> str | None:
    found = read_object(git_dir(repo), name)
    return None if found is None else found.data.decode()


# One process a repository ---------------------------------------------------------------------


def test_one_process_sees_what_others_write(
    repo: GitRepo, started: list[subprocess.Popen[bytes]]
) -> None:
    """New objects, moved refs, and what a ``git gc`` makes of both."""
    assert text(repo, f"main:{SKILL}") == SKILL_TEXT
    assert read_object(git_dir(repo), "main:new.txt") is None
    repo.write("new.txt", "new\n")
    commit = repo.commit("later")
    assert text(repo, "main:new.txt") == "new\n"
    repo.git("gc", "--quiet", "--prune=now")
    found = read_object(git_dir(repo), "main^{commit}")
    assert found
    assert (found.oid, found.kind) == (commit, "commit")
    repo.write("new.txt", "newer\n")
    repo.commit("in the end")
    repo.git("repack", "-adq")
    assert text(repo, "main:new.txt") == "newer\n"
    assert len(started) == 1


def test_what_is_not_there_is_none(repo: GitRepo) -> None:
    names = ["main:nothing", "nowhere", "0" * 40, "", "main:missing missing", "main^{tree}"]
    found = read_objects(git_dir(repo), names)
    assert [one is None for one in found] == [True] * 5 + [False]


def test_an_object_of_which_a_few_digits_are_given(repo: GitRepo) -> None:
    """As ``git rev-parse`` takes them; also where they are not enough."""
    assert text(repo, repo.git("rev-parse", f"main:{SKILL}")[:12]) == SKILL_TEXT
    assert read_object(git_dir(repo), "4") is None


def test_any_number_of_objects_of_any_size(repo: GitRepo) -> None:
    """More questions than a pipe holds, and answers that are larger than one."""
    large = os.urandom(300_000) + b"\n"
    repo.write("large.bin", large)
    repo.write("empty", "")
    repo.commit("more")
    names = ["main:large.bin", "main:none", "main:empty", f"main:{SKILL}"] * 2_000
    found = read_objects(git_dir(repo), names)
    data = [None if one is None else one.data for one in found]
    assert data == [large, None, b"", SKILL_TEXT.encode()] * 2_000


def test_a_size_is_known_without_the_content(repo: GitRepo) -> None:
    repo.write("large.bin", b"x" * 100_000)
    repo.commit("more")
    found = read_object(git_dir(repo), "main:large.bin", most=1_000)
    assert found
    assert (found.size, found.data) == (100_000, b"")
    assert text(repo, f"main:{SKILL}") == SKILL_TEXT
    assert text(repo, found.oid) == "x" * 100_000


def test_a_name_of_two_lines_is_two_questions(repo: GitRepo) -> None:
    """Whoever asks them would take the second answer for that to the next question."""
    with pytest.raises(ValueError, match="two"):
        read_object(git_dir(repo), "main\ntwo")


def test_what_was_read_is_kept_within_bounds(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "_KEPT", 1_000)
    for number in range(20):
        repo.write(f"{number}.txt", f"{number}".zfill(200))
    repo.commit("more")
    for _ in range(2):
        for number in range(20):
            assert text(repo, f"main:{number}.txt") == f"{number}".zfill(200)
    (reader,) = git._READERS.values()
    assert sum(one.size for one in reader._kept.values()) == reader._bytes <= 1_000


# Processes that end ---------------------------------------------------------------------------


def test_a_process_that_was_killed_is_started_again(
    repo: GitRepo, started: list[subprocess.Popen[bytes]]
) -> None:
    """As by Ctrl-C, which a terminal sends to all: what is written down then has to be read."""
    assert text(repo, f"main:{SKILL}") == SKILL_TEXT
    started[0].kill()
    started[0].wait()
    assert text(repo, "main:README.md") == "readme\n"
    assert len(started) == 2


def test_an_answer_that_was_broken_off_is_not_taken_for_the_next(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(git._Objects, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_object(git_dir(repo), f"main:{SKILL}")
    assert text(repo, "main:README.md") == "readme\n"


def test_a_git_that_dies_of_every_question_is_an_error(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\necho 'fatal: out of luck' >&2\nexit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    with pytest.raises(RatchetError, match=r"git cat-file failed .* out of luck"):
        read_object(git_dir(repo), "main")


def test_without_git_it_is_said(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo.path))
    with pytest.raises(RatchetError, match="git command was not found"):
        read_object(git_dir(repo), "main")


def test_a_few_processes_are_enough(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """However many repositories there are; each is read rightly whichever was closed."""
    repos = [GitRepo.create(tmp_path / str(number)) for number in range(6)]
    for number, repo in enumerate(repos):
        repo.write("n", str(number))
        repo.commit("n")
    for _ in range(2):
        assert [text(repo, "main:n") for repo in repos] == list("012345")
    gc.collect()
    assert sum(process.poll() is None for process in started) == git._RUNNING


def test_other_settings_are_another_process(
    repo: GitRepo, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nothing is fetched where a job says that nothing may be."""
    assert text(repo, "main:README.md") == "readme\n"
    monkeypatch.setenv("GIT_NO_LAZY_FETCH", "1")
    assert text(repo, "main:README.md") == "readme\n"
    assert len(started) == 2


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_where_a_hook_says_we_are_is_no_matter(
    repo: GitRepo, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/nowhere")
    assert text(repo, "main:README.md") == "readme\n"


def test_nothing_runs_on_when_we_end(repo: GitRepo) -> None:
    script = (
        "import sys; from pathlib import Path; from skill_ratchet.base import git as plumbing\n"
        "plumbing.read_object(Path(sys.argv[1]), 'main')\n"
        "(reader,) = plumbing._READERS.values(); print(reader._process.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(git_dir(repo))],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_fork_has_a_process_of_its_own(
    repo: GitRepo, started: list[subprocess.Popen[bytes]]
) -> None:
    """Two that read the answers of one would each get half of them."""
    assert text(repo, "main:README.md") == "readme\n"
    child = os.fork()
    if not child:
        right = text(repo, f"main:{SKILL}") == SKILL_TEXT and len(started) == 2
        git.close_readers()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert text(repo, f"main:{SKILL}") == SKILL_TEXT
    assert len(started) == 1


# Folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_folders_are_what_git_says_they_are(tmp_path: Path, form: str) -> None:
    repo = GitRepo(tmp_path)
    repo.git("init", "--quiet", "--initial-branch=main", f"--object-format={form}")
    for path in ("a", "b/c", "b/d/e", "b.x", "ü/name with\nlines", "é"):
        repo.write(path, path)
    repo.write("run", "x", executable=True)
    (tmp_path / "link").symlink_to("a")
    repo.commit("start")
    listed = repo.git("ls-tree", "-r", "-z", "--full-tree", "main").split("\0")[:-1]
    entries = [(head.split(), path) for head, _, path in (one.partition("\t") for one in listed)]
    expected = {path: (mode, oid) for (mode, _, oid), path in entries}
    assert git.files_below(git_dir(repo), "main:") == expected
    assert git.files_below(git_dir(repo), "main:b") == {
        path.removeprefix("b/"): one for path, one in expected.items() if path.startswith("b/")
    }


@pytest.mark.parametrize("name", ["main:nothing", "main:README.md", "main^{commit}"])
def test_what_is_no_folder_has_no_files(repo: GitRepo, name: str) -> None:
    assert git.files_below(git_dir(repo), name) is None


def test_a_folder_that_is_lost_is_not_an_empty_one(repo: GitRepo) -> None:
    lost = repo.git("rev-parse", "main:skills/triage")
    (git_dir(repo) / "objects" / lost[:2] / lost[2:]).unlink()
    assert git.files_below(git_dir(repo), "main:") is None


# Where a ref is -------------------------------------------------------------------------------


def loose(repo: GitRepo) -> None:
    repo.git("branch", "other")


def packed(repo: GitRepo) -> None:
    repo.git("branch", "other")
    repo.git("pack-refs", "--all")


def loose_over_packed(repo: GitRepo) -> None:
    packed(repo)
    repo.commit("later")
    repo.git("branch", "--force", "other", "main")


def pointer(repo: GitRepo) -> None:
    repo.git("symbolic-ref", "refs/heads/other", MAIN)


def below(repo: GitRepo) -> None:
    repo.git("branch", "other/one")


def below_packed(repo: GitRepo) -> None:
    repo.git("branch", "other/one")
    repo.git("pack-refs", "--all")


def tag(repo: GitRepo) -> None:
    """Who asks ``git rev-parse`` for a branch that is not there gets this."""
    repo.git("update-ref", "refs/tags/refs/heads/other", "HEAD")


def longer(repo: GitRepo) -> None:
    repo.git("branch", "other2")
    repo.git("branch", "another")
    repo.git("update-ref", "refs/x/refs/heads/other", "HEAD")
    repo.git("pack-refs", "--all")


@pytest.mark.parametrize("there", [loose, packed, loose_over_packed, pointer])
def test_a_ref_is_where_git_says(repo: GitRepo, there: object) -> None:
    assert callable(there)
    there(repo)
    asked = ("for-each-ref", "--format=%(objectname)", "refs/heads/other")
    assert git.tip(git_dir(repo), "refs/heads/other") == repo.git(*asked) == repo.tip("main")


@pytest.mark.parametrize("pack", [False, True])
def test_a_branch_may_be_named_in_any_language(repo: GitRepo, *, pack: bool) -> None:
    repo.git("branch", "--move", "main", "förbättra")
    if pack:
        repo.git("pack-refs", "--all")
    assert git.pointed_to(git_dir(repo), "HEAD") == "refs/heads/förbättra"
    assert git.tip(git_dir(repo), "refs/heads/förbättra") == repo.tip("HEAD")


def test_an_empty_file_is_not_the_branch_that_was_packed_before(repo: GitRepo) -> None:
    """A machine that lost its power leaves such a file; git takes no older value for it."""
    packed(repo)
    (git_dir(repo) / "refs" / "heads" / "other").write_text("")
    assert git.tip(git_dir(repo), "refs/heads/other") is None


@pytest.mark.parametrize("there", [below, below_packed, tag, longer])
def test_a_ref_that_is_not_there_is_no_other(repo: GitRepo, there: object) -> None:
    assert callable(there)
    there(repo)
    assert git.tip(git_dir(repo), "refs/heads/other") is None


@pytest.mark.parametrize("pack", [False, True])
def test_where_a_branch_is_on_the_remotes(repo: GitRepo, *, pack: bool) -> None:
    """On each of them, and nothing else that is called nearly so."""
    first = repo.tip("main")
    second = repo.commit("later")
    for name, at in (("origin/a/b", first), ("fork/a/b", second), ("x/y/a/b", repo.commit("x"))):
        repo.git("update-ref", f"refs/remotes/{name}", at)
    for name in ("refs/remotes/origin/a/b2", "refs/heads/a/b", "refs/remotes/a/b"):
        repo.git("update-ref", name, "HEAD")
    if pack:
        repo.git("pack-refs", "--all")
        repo.git("update-ref", "refs/remotes/fork/a/b", first)
    asked = ("for-each-ref", "--format=%(objectname)", "refs/remotes/*/a/b")
    found = git.tips_of_remotes(git_dir(repo), "a/b")
    assert found == {*repo.git(*asked).split()} == ({first} if pack else {first, second})
    assert git.tips_of_remotes(git_dir(repo), "none") == set()


def test_a_ledger_is_taken_over_unless_there_are_two(repo: GitRepo) -> None:
    project = repository.open_project(repo.path)
    ours, theirs = repo.tip("main"), repo.commit("later")
    for ref in Ref:
        name = ref.removeprefix("refs/heads/")
        repo.git("update-ref", f"refs/remotes/origin/{name}", ours)
    repo.git("update-ref", Ref.HOLDOUT, theirs)
    access.adopt(project)
    assert (repo.tip(Ref.LEDGER), repo.tip(Ref.HOLDOUT)) == (ours, theirs)
    repo.git("update-ref", "-d", Ref.LEDGER)
    repo.git("update-ref", "refs/remotes/fork/ratchet/ledger", theirs)
    for ask in (access.adopt, lambda one: access.ledger_tip(one, Ref.LEDGER)):
        with pytest.raises(RatchetError, match="Several remotes have a branch ratchet/ledger"):
            ask(project)
    assert git.tip(git_dir(repo), Ref.LEDGER) is None


@pytest.mark.parametrize("there", [loose, packed, below, tag])
def test_a_branch_is_no_other_name(repo: GitRepo, there: object) -> None:
    assert callable(there)
    there(repo)
    assert git.pointed_to(git_dir(repo), "refs/heads/other") is None


def test_another_name_for_a_branch_is_known(repo: GitRepo) -> None:
    pointer(repo)
    assert git.pointed_to(git_dir(repo), "refs/heads/other") == MAIN
    assert git.pointed_to(git_dir(repo), "HEAD") == MAIN
    repo.git("switch", "--quiet", "--detach")
    assert git.pointed_to(git_dir(repo), "HEAD") is None


def test_the_branch_that_is_checked_out_has_its_own_name(repo: GitRepo) -> None:
    """Also where HEAD is a link, as core.preferSymlinkRefs makes it, or names another name."""
    project = repository.open_project(repo.path)
    head = git_dir(repo) / "HEAD"
    head.unlink()
    head.symlink_to(MAIN)
    assert repository.current_branch(project) == "main"
    head.unlink()
    head.write_text(f"ref: {MAIN}\n")
    pointer(repo)
    repo.git("symbolic-ref", "HEAD", "refs/heads/other")
    assert repository.current_branch(project) == "main"


def test_a_branch_that_leads_nowhere_is_not_there(repo: GitRepo) -> None:
    repo.git("symbolic-ref", "refs/heads/other", "refs/heads/none")
    assert git.tip(git_dir(repo), "refs/heads/other") is None
    assert git.pointed_to(git_dir(repo), "refs/heads/other") == "refs/heads/none"


def test_a_repository_that_is_gone_has_not_just_no_branch(repo: GitRepo) -> None:
    """Or a ledger on a disk that was unmounted would begin again."""
    where = git_dir(repo)
    assert git.tip(where, "refs/heads/none") is None
    where.rename(where.with_name("elsewhere"))
    with pytest.raises(RatchetError, match="there is no git repository"):
        git.tip(where, MAIN)


def test_where_refs_are_in_tables_git_is_asked(repo: GitRepo) -> None:
    """A repository of that kind has a file in the place of the folder, and a HEAD of no meaning."""
    asked: list[str] = []
    heads = git_dir(repo) / "refs" / "heads"
    heads.rename(git_dir(repo) / "elsewhere")
    heads.write_text("this repository uses the reftable format\n")
    (git_dir(repo) / "HEAD").write_text("ref: refs/heads/.invalid\n")

    def answer(_: Path, args: tuple[str, ...]) -> git.Output:
        asked.append(args[1])
        said = f"{MAIN} {'1' * 40}\n" if args[1] == "for-each-ref" else f"{MAIN}\n"
        return git.Output(0, said.encode(), "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(git, "execute", answer)
        assert git.tip(git_dir(repo), MAIN) == "1" * 40
        assert git.pointed_to(git_dir(repo), "HEAD") == MAIN
    assert asked == ["for-each-ref", "symbolic-ref"]


# Which repository -----------------------------------------------------------------------------


def test_a_repository_is_looked_for_once(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    found = git.locate(repo.path)

    def again(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(git, "execute", again)
    assert git.locate(repo.path) == found


def test_a_repository_made_within_one_is_found(repo: GitRepo) -> None:
    inner = repo.path / "skills"
    assert git.locate(inner).toplevel == repo.path.resolve()
    GitRepo(inner).git("init", "--quiet")
    assert git.locate(inner).toplevel == inner.resolve()
    (inner / ".git").rename(inner / "git")
    assert git.locate(inner).toplevel == repo.path.resolve()


def test_the_version_of_git_is_asked_once(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = GitRepo.with_skill(tmp_path / "other")
    asked: list[str] = []
    execute = git.execute
    monkeypatch.setattr(repository, "_VERSIONS", {})

    def seen(where: Path, args: list[str], **given: object) -> git.Output:
        asked.extend(args)
        return execute(where, args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(git, "execute", seen)
    for one in (repo, other, repo):
        repository.open_project(one.path)
    assert asked.count("version") == 1
