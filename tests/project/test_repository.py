"""What Ratchet reads from the working tree or a commit, and what it refuses to read."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gitrepo import SKILL, SKILL_TEXT, GitRepo
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.project import repository
from skill_ratchet.project.repository import (
    CommitTree,
    WorkTree,
    current_branch,
    dirty,
    open_project,
    resolve,
)

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.project.repository import Project, Tree

FIXTURES = "fixtures/triage/train"


@pytest.fixture(params=["", "tools/bot/"], ids=["top", "below"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> GitRepo:
    return GitRepo.with_skill(tmp_path / "repo", prefix=request.param)


@pytest.fixture
def project(repo: GitRepo) -> Project:
    """The project, at the top of its repository and below it in turn."""
    (config,) = repo.path.rglob("ratchet.yml")
    return open_project(config.parent)


def trees(project: Project) -> list[Tree]:
    """The same files, once from the disk and once from the last commit."""
    return [WorkTree(project), CommitTree(project, "HEAD")]


def here(project: Project) -> GitRepo:
    """A repository helper whose paths are relative to the project."""
    return GitRepo(project.root)


# Finding the project


def test_a_project_is_found_from_any_folder_in_it(repo: GitRepo, project: Project) -> None:
    assert open_project(project.root / "skills" / "triage") == project
    assert project.toplevel == repo.path
    assert project.git_dir == project.common_dir == repo.path / ".git"
    assert project.root == repo.path / project.prefix


def test_a_linked_worktree_is_a_project_of_its_own(
    repo: GitRepo, project: Project, tmp_path: Path
) -> None:
    linked = repo.worktree(tmp_path / "linked", "-b", "other")
    found = open_project(linked.path / project.prefix)
    assert found.toplevel == linked.path
    assert found.common_dir == project.common_dir
    assert found.git_dir != project.git_dir
    assert repository.checkout_at(project, linked.path) == found


def test_a_project_reached_through_a_link_is_the_real_one(project: Project, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project.root)
    assert open_project(tmp_path / "link") == project


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_the_variables_git_sets_in_a_hook_change_nothing(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert dirty(project, [""]) == []
    assert CommitTree(project, "main").read(SKILL) == SKILL_TEXT.encode()


def no_repository(path: Path) -> Path:
    path.mkdir()
    return path


def no_folder(path: Path) -> Path:
    return path


def no_config(path: Path) -> Path:
    repo = GitRepo.create(path)
    repo.write("a", "a\n")
    repo.commit("start")
    return path


def no_commit(path: Path) -> Path:
    GitRepo.create(path).write("ratchet.yml", "")
    return path


def bare(path: Path) -> Path:
    path.mkdir()
    GitRepo(path).git("init", "--quiet", "--bare")
    return path


def sha256(path: Path) -> Path:
    path.mkdir()
    repo = GitRepo(path)
    repo.git("init", "--quiet", "--object-format=sha256")
    repo.write("ratchet.yml", "")
    repo.commit("start")
    return path


@pytest.mark.parametrize(
    ("build", "message", "hint"),
    [
        (no_repository, "is not in a git repository", "git init"),
        (no_folder, "there is no folder", None),
        (no_config, "no ratchet.yml in", "ratchet init"),
        (no_commit, "has no commit yet", "git commit"),
        (bare, "is a bare repository", "clone"),
        (sha256, "does not use SHA-1", None),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, build: object, message: str, hint: str | None
) -> None:
    assert callable(build)
    with pytest.raises(RatchetError, match=message) as caught:
        open_project(build(tmp_path / "x"))
    assert (hint or "") in (caught.value.hint or "")


def test_a_config_above_the_repository_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "ratchet.yml").write_text("")
    with pytest.raises(RatchetError, match=r"no ratchet\.yml"):
        open_project(no_config(tmp_path / "repo"))


def test_a_repository_of_someone_else_is_explained(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(RatchetError, match="dubious ownership") as caught:
        open_project(project.root)
    assert "safe.directory" in str(caught.value.hint)


def test_a_git_that_is_too_old_is_refused(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\necho git version 2.29.9\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(RatchetError, match=r"git version 2\.29\.9"):
        open_project(project.root)


def test_a_missing_git_is_explained(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project.root))
    with pytest.raises(RatchetError, match="git command was not found") as caught:
        dirty(project, [""])
    assert "2.30" in str(caught.value.hint)


def test_a_git_missing_from_the_start_is_explained(project: Project) -> None:
    """GitPython looks for git when it is imported, so this needs a process of its own."""
    script = (
        "import pathlib, sys; from skill_ratchet.base.errors import RatchetError\n"
        "from skill_ratchet.project.repository import *\n"
        "try: open_project(pathlib.Path(sys.argv[1]))\n"
        "except RatchetError as error: print(error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(project.root)],
        env=os.environ | {"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "the git command was not found\n"


def test_this_module_does_not_import_gitpython_at_the_start() -> None:
    modules = "skill_ratchet.project.repository, skill_ratchet.project.branches"
    script = f"import {modules}, sys; print('git' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


# Names of commits and branches


def test_a_branch_is_known_until_head_is_detached(repo: GitRepo, project: Project) -> None:
    repo.git("tag", "main")  # makes the short name ambiguous, which must not show
    assert current_branch(project) == repository.require_branch(project) == "main"
    repo.git("checkout", "--quiet", "--detach")
    assert current_branch(project) is None
    with pytest.raises(RatchetError, match="HEAD is detached"):
        repository.require_branch(project)


@pytest.mark.parametrize("ref", ["HEAD", "main", "refs/heads/main", "v1"])
def test_a_ref_becomes_a_commit(repo: GitRepo, project: Project, ref: str) -> None:
    repo.git("tag", "--annotate", "--message=x", "v1")
    assert resolve(project, ref) == repo.tip("main")


@pytest.mark.parametrize(
    "ref",
    ["", "nowhere", "--all", "-x", "HEAD^{tree}", "a\nb", "main\0", f"HEAD:{SKILL}", "0" * 40],
)
def test_what_is_not_a_commit_is_refused(project: Project, ref: str) -> None:
    with pytest.raises(RatchetError, match="commit"):
        resolve(project, ref)


def test_a_shallow_clone_is_named_as_the_cause(
    repo: GitRepo, project: Project, tmp_path: Path
) -> None:
    first = repo.tip("main")
    repo.write("more", "x\n")
    repo.commit("more")
    repo.git("clone", "--quiet", "--depth=1", f"file://{repo.path}", str(tmp_path / "shallow"))
    shallow = open_project(tmp_path / "shallow" / project.prefix)
    with pytest.raises(RatchetError, match="no commit") as caught:
        resolve(shallow, first)
    assert "fetch-depth: 0" in str(caught.value.hint)


# Reading


def test_both_trees_read_the_same(project: Project) -> None:
    for tree in trees(project):
        assert tree.read(SKILL) == tree.read(f"./{SKILL}") == SKILL_TEXT.encode()
        assert tree.size(SKILL) == len(SKILL_TEXT)
        assert tree.files(FIXTURES) == tree.files("fixtures") == [f"{FIXTURES}/a.yml"]
        assert tree.files(f"{FIXTURES}/") == [f"{FIXTURES}/a.yml"]
        assert tree.files("nothing/here") == []
        assert {SKILL, "ratchet.yml", f"{FIXTURES}/a.yml"} <= set(tree.files(""))


def test_a_commit_is_read_as_it_was(project: Project) -> None:
    """Neither the disk, nor the index, nor a branch that moves, changes what was opened."""
    tree = CommitTree(project, "main")
    here(project).write(SKILL, "changed\n")
    here(project).write(f"{FIXTURES}/b.yml", "input: new\n")
    here(project).commit("later")
    assert tree.read(SKILL) == SKILL_TEXT.encode()
    assert tree.files(FIXTURES) == [f"{FIXTURES}/a.yml"]


def test_the_working_tree_is_read_as_it_is(project: Project) -> None:
    at = here(project)
    at.write(".gitignore", "*.swp\n")
    at.write(f"{FIXTURES}/.a.yml.swp", "x")
    at.write(f"{FIXTURES}/new ü\n.yml", "input: new\n")
    (project.root / FIXTURES / "a.yml").unlink()
    assert WorkTree(project).files(FIXTURES) == [f"{FIXTURES}/new ü\n.yml"]


def test_bytes_are_what_was_committed(project: Project) -> None:
    """No line-end conversion and no filter stands between a commit and its reader."""
    at = here(project)
    at.git("config", "core.autocrlf", "true")
    at.write(".gitattributes", "*.id ident\n")
    at.write("a.id", "$Id$\n")
    at.write("b.bin", b"\x00\xff\r\n")
    at.commit("more")
    tree = CommitTree(project, "HEAD")
    assert (tree.read("a.id"), tree.read("b.bin")) == (b"$Id$\n", b"\x00\xff\r\n")


def test_a_replaced_object_is_not_read(repo: GitRepo, project: Project) -> None:
    """``git replace`` would let a ref change what a commit's name stands for."""
    first = repo.tip("main")
    here(project).write(SKILL, "changed\n")
    repo.git("replace", first, here(project).commit("later"))
    assert CommitTree(project, first).read(SKILL) == SKILL_TEXT.encode()


def test_without_a_commit_files_on_disk_can_be_read(tmp_path: Path) -> None:
    repo = GitRepo.create(tmp_path / "new")
    repo.write("ratchet.yml", "skills: {}\n")
    project = open_project(repo.path, unborn=True)
    assert WorkTree(project).files("") == ["ratchet.yml"]


@pytest.mark.parametrize(
    "path",
    ["", ".", "/etc/passwd", "../x", "skills/../../x", ".git/config", "a/.GIT/x", "a\\b", "a\0b"],
)
def test_a_path_stays_in_the_project(project: Project, path: str) -> None:
    for tree in trees(project):
        for method in (tree.read, tree.size):
            with pytest.raises(RatchetError, match="not a path inside the project"):
                method(path)
    with pytest.raises(RatchetError, match="not a path inside the project"):
        dirty(project, [path or "/"])


@pytest.mark.parametrize("path", ["nothing", "skills/none/SKILL.md", f"{SKILL}/x", SKILL.lower()])
def test_a_missing_file_is_an_error(project: Project, path: str) -> None:
    for tree in trees(project):
        with pytest.raises(RatchetError, match=r"there is no file|is not a folder"):
            tree.read(path)


def test_a_folder_is_not_a_file(project: Project) -> None:
    for tree in trees(project):
        with pytest.raises(RatchetError, match=r"regular file|there is no file"):
            tree.read("skills")
        with pytest.raises(RatchetError, match="is not a folder"):
            tree.files(SKILL)


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("skills/linked", "triage", "skills/linked/SKILL.md"),
        ("skills/l.md", "triage/SKILL.md", "skills/l.md"),
        ("skills/out.md", "/etc/passwd", "skills/out.md"),
        ("skills/dangling", "nowhere", "skills/dangling"),
    ],
)
def test_a_symbolic_link_is_refused(project: Project, link: str, target: str, path: str) -> None:
    (project.root / link).symlink_to(target)
    here(project).commit("link")
    for tree in trees(project):
        for method in (tree.read, tree.size):
            with pytest.raises(RatchetError, match=f"{link} is a symbolic link"):
                method(path)
        with pytest.raises(RatchetError, match=f"{link} is a symbolic link"):
            tree.files("skills")


def test_a_linked_folder_is_not_listed(project: Project) -> None:
    (project.root / "cases").symlink_to("fixtures")
    here(project).commit("link")
    for tree in trees(project):
        for folder in ("cases", "cases/triage"):
            with pytest.raises(RatchetError, match="cases is not a folder"):
                tree.files(folder)


def test_a_submodule_is_refused(repo: GitRepo, project: Project, tmp_path: Path) -> None:
    other = GitRepo.with_skill(tmp_path / "other")
    allow = ("-c", "protocol.file.allow=always")
    here(project).git(*allow, "submodule", "--quiet", "add", str(other.path), "skills/sub")
    repo.commit("submodule")
    for tree in trees(project):
        with pytest.raises(RatchetError, match="skills/sub is a submodule"):
            tree.read("skills/sub/README.md")
        with pytest.raises(RatchetError, match="skills/sub is a submodule"):
            tree.files("skills")


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        (f"{FIXTURES}/A.yml", FIXTURES),
        ("Fixtures/other.yml", "fixtures"),
        ("fixtures/Triage/train/b.yml", FIXTURES),
        ("skills/TRIAGE/SKILL.md", "skills"),
    ],
)
def test_two_paths_that_differ_only_in_case_are_refused(
    project: Project, path: str, folder: str
) -> None:
    here(project).write(path, "x\n")
    here(project).commit("twin")
    for tree in trees(project):
        with pytest.raises(RatchetError, match="differ only in case"):
            tree.files(folder)
        assert tree.read(path) == b"x\n"


def test_accents_written_in_two_ways_are_twins(project: Project) -> None:
    here(project).write(f"{FIXTURES}/\u00e9.yml", "x\n")
    here(project).write(f"{FIXTURES}/e\u0301.yml", "x\n")
    with pytest.raises(RatchetError, match="differ only in case"):
        WorkTree(project).files(FIXTURES)


def test_a_damaged_object_is_an_error(repo: GitRepo, project: Project) -> None:
    tree = CommitTree(project, "HEAD")
    sha = tree.entry(SKILL).sha
    (repo.path / ".git" / "objects" / sha[:2] / sha[2:]).unlink()
    for method in (tree.read, tree.size):
        with pytest.raises(RatchetError, match="cannot be read"):
            method(SKILL)
    assert tree.files(FIXTURES)


def test_a_commit_without_the_project_is_an_error(tmp_path: Path) -> None:
    repo = GitRepo.create(tmp_path / "repo")
    repo.write("README.md", "x\n")
    before = repo.commit("before")
    repo.write("bot/ratchet.yml", "")
    repo.commit("project")
    with pytest.raises(RatchetError, match="there is no file bot/ in commit"):
        CommitTree(open_project(repo.path / "bot"), before).files("")


# What is not committed


def test_only_what_differs_from_the_commit_is_dirty(repo: GitRepo, project: Project) -> None:
    at = here(project)
    at.write(".gitignore", "*.log\n")
    at.write("fixtures/gone.yml", "x\n")
    repo.commit("more")
    assert dirty(project, ["", "skills"]) == []
    at.write(SKILL, "unstaged\n")
    at.write(f"{FIXTURES}/a.yml", "staged\n")
    at.git("add", FIXTURES)
    at.write(f"{FIXTURES}/b c\n.yml", "untracked\n")
    at.write(f"{FIXTURES}/b.log", "ignored\n")
    (project.root / "fixtures" / "gone.yml").unlink()
    repo.write("elsewhere", "outside the paths\n")
    assert dirty(project, [SKILL]) == [SKILL]
    expected = ["fixtures/gone.yml", f"{FIXTURES}/a.yml", f"{FIXTURES}/b c\n.yml"]
    assert dirty(project, ["fixtures"]) == expected
    assert dirty(project, ["none"]) == dirty(project, []) == []


@pytest.mark.parametrize(
    "setting", ["status.showUntrackedFiles=no", "status.relativePaths=false", "core.quotePath=true"]
)
def test_settings_do_not_hide_what_is_dirty(project: Project, setting: str) -> None:
    here(project).git("config", *setting.split("="))
    here(project).write("fixtures/é.yml", "new\n")
    assert dirty(project, ["fixtures"]) == ["fixtures/é.yml"]


def test_a_path_is_not_a_pattern(project: Project) -> None:
    here(project).write(f"{FIXTURES}/a.yml", "changed\n")
    assert dirty(project, ["fixtures/*", ":/"]) == []


def test_a_rename_is_two_dirty_paths(project: Project) -> None:
    here(project).git("mv", SKILL, "skills/triage/OTHER.md")
    assert dirty(project, ["skills"]) == ["skills/triage/OTHER.md", SKILL]


# Copying out


def test_the_files_of_a_commit_are_copied_out(project: Project, tmp_path: Path) -> None:
    """As they were committed: export-subst, export-ignore and filters have no say."""
    at = here(project)
    at.write(".gitattributes", "a.txt export-subst\nb.txt export-ignore\nc.txt filter=bad\n")
    at.git("config", "filter.bad.smudge", "false")
    at.write("a.txt", "$Format:%H$\n")
    at.write("b.txt", "b\n")
    at.write("scorers/run.sh", "#!/bin/sh\n", executable=True)
    (project.root / "link").symlink_to("/etc/passwd")
    at.commit("more")
    dest = tmp_path / "out"
    written = CommitTree(project, "HEAD").extract(dest)
    assert sorted(GitRepo(dest).files()) == written
    assert "link" not in written
    assert (dest / "a.txt").read_text() == "$Format:%H$\n"
    assert (dest / "b.txt").read_text() == "b\n"
    assert (dest / SKILL).read_text() == SKILL_TEXT
    assert os.access(dest / "scorers" / "run.sh", os.X_OK)
    assert not os.access(dest / SKILL, os.X_OK)


def test_one_folder_is_copied_out_under_its_path(project: Project, tmp_path: Path) -> None:
    written = CommitTree(project, "HEAD").extract(tmp_path / "out", folder="skills")
    assert written == [SKILL]
    assert GitRepo(tmp_path / "out").files() == {SKILL: SKILL_TEXT.encode()}


def test_nothing_is_copied_over_other_files(project: Project, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(RatchetError, match="is not empty"):
        CommitTree(project, "HEAD").extract(tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]


def test_too_much_is_not_copied(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "MAX_EXTRACT", len(SKILL_TEXT) - 1)
    with pytest.raises(RatchetError, match=r"take .* bytes"):
        CommitTree(project, "HEAD").extract(tmp_path / "out", folder="skills")
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_not_copied(project: Project, tmp_path: Path) -> None:
    with pytest.raises(RatchetError, match="there is no file none"):
        CommitTree(project, "HEAD").extract(tmp_path / "out", folder="none")


def test_a_failing_command_says_what_git_said(project: Project) -> None:
    with pytest.raises(RatchetError, match=r"git cat-file failed .* valid object name"):
        repository.run(project, "cat-file", "blob", "nowhere")
