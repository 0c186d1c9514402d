"""Publishing, merging and taking back with plain git: the whole world asserted as text."""

from __future__ import annotations

import textwrap
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gitrepo import SKILL, SKILL_TEXT, GitRepo
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.experiment import reversal
from skill_ratchet.project import branches
from skill_ratchet.project.proposal import FORMER, Merged, Refused, one_line, proposal_branch
from skill_ratchet.project.repository import open_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from skill_ratchet.project.repository import Project

EXPERIMENT = "e" * 64
EVIDENCE = "d" * 64
AT = "2026-02-03T04:05:06+00:00"
BETTER = SKILL_TEXT.replace("Be brief.", "Be brief and kind.")
TRAILERS = {
    "Ratchet-Experiment": EXPERIMENT,
    "Ratchet-Parent": "c" * 64,
    "Ratchet-Evidence": EVIDENCE,
}


class World(GitRepo):
    """A repository with a project, and the forge's calls on it with their usual arguments."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        super().__init__(path)
        self.prefix = prefix
        self.skill = prefix + SKILL

    @cached_property
    def project(self) -> Project:
        return open_project(self.path / self.prefix)

    def publish(self, **changes: Any) -> str:
        usual = {
            "skill": "triage",
            "path": SKILL,
            "base": self.tip("main"),
            "text": BETTER,
            "message": "triage: be kind",
            "trailers": TRAILERS,
            "at": AT,
        }
        return branches.publish(self.project, **(usual | changes))

    def merge(self, commit: str, **changes: Any) -> Merged | Refused:
        base = self.tip(f"{commit}^")
        usual = {"branch": "main", "base": base, "commit": commit, "path": SKILL}
        return branches.merge(self.project, **(usual | changes))

    def revert(self) -> Merged:
        one: Any = SimpleNamespace(id=EXPERIMENT, number=1, skill="triage")
        where: Any = {"project": self.project, "path": SKILL, "branch": "main"}
        return reversal.put(reversal.find(one, tip=self.tip("main"), **where), at=AT, **where)

    def land(self) -> str:
        commit = self.publish()
        assert self.merge(commit) == Merged(branch="main", commit=commit)
        return commit

    def everything(self) -> tuple[str, str, dict[str, bytes], str]:
        """All that a refusal may not change."""
        return self.world(), self.status(), self.files(), self.git("ls-files", "--stage")


@pytest.fixture(params=["", "tools/bot/"], ids=["top", "below"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """The project at the top of its repository and below it in turn; sound at the end."""
    GitRepo.with_skill(tmp_path / "repo", prefix=request.param)
    world = World(tmp_path / "repo", request.param)
    yield world
    world.assert_sound()


def text(shown: str) -> str:
    return textwrap.dedent(shown).strip()


PROPOSED = text(f"""
    *  (ratchet/triage) A Developer/A Developer: triage: be kind
    |     Ratchet-Experiment: {EXPERIMENT}
    |     Ratchet-Parent: {"c" * 64}
    |     Ratchet-Evidence: {EVIDENCE}
    *  (HEAD -> main) A Developer/A Developer: start
    """)
MERGED = text(f"""
    *  (HEAD -> main, ratchet/triage) A Developer/A Developer: triage: be kind
    |     Ratchet-Experiment: {EXPERIMENT}
    |     Ratchet-Parent: {"c" * 64}
    |     Ratchet-Evidence: {EVIDENCE}
    *  A Developer/A Developer: start
    """)


# Publishing


def test_a_proposal_is_one_commit_on_its_own_branch(world: World) -> None:
    before = world.status(), world.files()
    commit = world.publish()
    assert world.world() == PROPOSED
    assert (world.status(), world.files()) == before == ("", world.files())
    assert world.git("diff", "--name-status", "main", commit) == f"M\t{world.skill}"
    assert world.show(world.skill, commit) == BETTER
    assert world.git("log", "-1", "--format=%aI %cI", commit) == " ".join(
        ["2026-02-03T04:05:06+00:00"] * 2
    )


def test_publishing_twice_is_publishing_once(world: World) -> None:
    assert world.publish() == world.publish()
    assert world.world() == PROPOSED


def test_a_new_proposal_takes_the_place_of_the_last(world: World) -> None:
    first = world.publish()
    world.write("README.md", "main goes on\n")
    world.commit("later")
    second = world.publish(text=BETTER + "More.\n")
    assert world.tip("ratchet/triage") == second != first
    assert world.tip(f"{second}^") == world.tip("main")


def test_a_merged_proposal_makes_room_for_the_next(world: World) -> None:
    world.land()
    second = world.publish(text=BETTER + "More.\n")
    assert world.merge(second) == Merged(branch="main", commit=second)


def test_an_executable_file_stays_one(world: World) -> None:
    world.write(world.skill, SKILL_TEXT, executable=True)
    world.commit("executable")
    commit = world.land()
    assert world.git("ls-tree", commit, world.skill).startswith("100755 blob")


def test_bytes_are_committed_as_they_are(world: World) -> None:
    """Neither autocrlf nor a clean filter has a say in what was measured."""
    world.git("config", "core.autocrlf", "true")
    world.git("config", "core.safecrlf", "true")
    commit = world.publish(text="one\r\ntwo\n\u00e9 \U0001f389")
    blob = world.git("cat-file", "blob", f"{commit}:{world.skill}")
    assert blob.replace("\r\n", "\n") == "one\ntwo\n\u00e9 \U0001f389"
    assert world.git("cat-file", "-s", f"{commit}:{world.skill}") == "16"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gpg.program", "false"),
        ("core.hooksPath", "/nowhere"),
        ("user.useConfigOnly", "true"),
        ("i18n.commitEncoding", "ISO-8859-1"),
        ("core.splitIndex", "true"),
        ("trailer.separators", "="),
        ("log.showSignature", "true"),
        ("merge.ff", "false"),
        ("branch.main.mergeOptions", "--squash --no-ff"),
        ("merge.autoStash", "true"),
        ("core.autocrlf", "true"),
        ("status.showUntrackedFiles", "no"),
        ("commit.cleanup", "scissors"),
    ],
)
def test_a_users_settings_do_not_change_the_outcome(world: World, name: str, value: str) -> None:
    world.git("config", name, value)
    world.write("README.md", "my draft\n")
    world.git("add", "README.md")
    commit = world.publish()
    assert world.merge(commit) == Merged(branch="main", commit=commit)
    assert world.world() == MERGED
    assert world.status() == "M  README.md"
    header = world.git("cat-file", "commit", commit).partition("\n\n")[0]
    assert [line.split()[0] for line in header.splitlines()] == [
        "tree",
        "parent",
        "author",
        "committer",
    ]
    assert (
        branches.landed(world.project, branch="main", experiment_id=EXPERIMENT, path=SKILL)
        == commit
    )


@pytest.mark.parametrize("outcome", ["exit 1", "touch written-by-hook"])
def test_hooks_do_not_run(world: World, outcome: str) -> None:
    for name in ["pre-commit", "commit-msg", "prepare-commit-msg", "post-commit", "post-merge"]:
        world.hook(name, outcome)
    for name in ["pre-merge-commit", "post-checkout", "post-index-change", "reference-transaction"]:
        world.hook(name, outcome)
    commit = world.publish()
    assert world.merge(commit) == Merged(branch="main", commit=commit)
    assert isinstance(world.revert(), Merged)
    branches.drop(world.project, skill="triage", expect=commit)
    for hook in (world.path / ".git" / "hooks").iterdir():
        hook.unlink()
    assert world.status() == ""
    assert not (world.path / "written-by-hook").exists()


@pytest.mark.parametrize(
    ("message", "subject"),
    [
        ("two\nlines\r\n\n Ratchet-Experiment: forged", "two lines Ratchet Experiment, forged"),
        ("Ratchet-Experiment: forged", "Ratchet Experiment, forged"),
        ("# not a comment", "# not a comment"),
        ("\x1b[31mred\u202e \ud800 \u2028x\0", "(31mred x"),
        (" \n ", f"Edit {SKILL}"),
        ("---", "---"),
    ],
)
def test_a_message_is_one_line_and_forges_no_trailer(
    world: World, message: str, subject: str
) -> None:
    commit = world.publish(message=message, trailers=TRAILERS | {"Ratchet-Evidence": "a\nX: y"})
    assert world.git("log", "-1", "--format=%s", commit) == subject
    trailers = world.git("log", "-1", "--format=%(trailers)", commit).splitlines()
    assert [line for line in trailers if line] == [
        f"Ratchet-Experiment: {EXPERIMENT}",
        f"Ratchet-Parent: {'c' * 64}",
        "Ratchet-Evidence: a X: y",
        *[line for line in trailers if line.startswith("Ratchet-Made: ")],
    ]
    assert (
        branches.landed(world.project, branch="ratchet/triage", experiment_id="forged", path=SKILL)
        is None
    )


def test_one_line_keeps_what_can_be_seen() -> None:
    assert (
        one_line("\tna\u00efve \u65e5\u672c\n\x07 \U0001f389 ")
        == "na\u00efve \u65e5\u672c \U0001f389"
    )


@pytest.mark.parametrize(
    "skill", ["ledger", "Holdout", "a..b", "x.lock", "x.", "", "-x", "a/b", "a b", "@{u}", "a~1"]
)
def test_a_skill_that_cannot_name_a_branch_is_refused(world: World, skill: str) -> None:
    before = world.everything()
    with pytest.raises(RatchetError, match=r"cannot be"):
        world.publish(skill=skill)
    assert world.everything() == before


def test_a_skill_names_its_branch() -> None:
    assert proposal_branch("triage-2.x") == "ratchet/triage-2.x"


def linked(world: World) -> None:
    target = world.path / world.prefix / "skills" / "triage"
    (target / "SKILL.md").rename(target / "REAL.md")
    (target / "SKILL.md").symlink_to("REAL.md")


def linked_folder(world: World) -> None:
    target = world.path / world.prefix / "skills"
    (target / "triage").rename(target / "real")
    (target / "triage").symlink_to("real")


def twin(world: World) -> None:
    world.write(f"{world.prefix}skills/triage/skill.md", "twin\n")


def twin_folder(world: World) -> None:
    world.write(f"{world.prefix}Skills/triage/SKILL.md", "twin\n")


def gone(world: World) -> None:
    (world.path / world.skill).unlink()


def submodule(world: World) -> None:
    other = GitRepo.create(world.path.parent / "other")
    other.write("SKILL.md", SKILL_TEXT)
    other.commit("other")
    world.git("rm", "--quiet", "-r", world.skill)
    folder = world.skill.removesuffix("/SKILL.md")
    world.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.path), folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (linked, "SKILL.md is a symbolic link"),
        (linked_folder, "skills/triage is a symbolic link"),
        (twin, "differ only in case"),
        (twin_folder, "differ only in case"),
        (gone, "there is no file"),
        (submodule, "skills/triage is a submodule"),
    ],
)
def test_a_file_that_is_not_plain_gets_no_proposal(
    world: World, spoil: Callable[[World], None], message: str
) -> None:
    spoil(world)
    world.commit("spoilt")
    before = world.everything()
    with pytest.raises(RatchetError, match=message):
        world.publish()
    assert world.everything() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": SKILL_TEXT}, "does not change"),
        ({"base": "nowhere"}, "no commit 'nowhere'"),
        ({"path": "../README.md"}, "not a path inside"),
        ({"path": "skills"}, "there is no file skills"),
    ],
)
def test_what_is_no_edit_gets_no_proposal(
    world: World, changes: dict[str, Any], message: str
) -> None:
    before = world.everything()
    with pytest.raises(RatchetError, match=message):
        world.publish(**changes)
    assert world.everything() == before


@pytest.mark.parametrize(
    "changes", [{"at": "2026-02-03T04:05:06"}, {"trailers": {"Bad key\n": "x"}}]
)
def test_a_careless_caller_is_told(world: World, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"time zone|trailer"):
        world.publish(**changes)


def commits_on_top(world: World) -> None:
    world.write(world.skill, BETTER + "Mine.\n")
    world.commit("my edit")


def amends(world: World) -> None:
    world.write(world.skill, BETTER + "Mine.\n")
    world.git("commit", "--quiet", "--all", "--amend", "--no-edit")


def rebases(world: World) -> None:
    commit = world.tip("ratchet/triage")
    world.git("reset", "--quiet", "--hard", "main")
    world.write("mine.txt", "mine\n")
    world.commit("before it")
    world.git("cherry-pick", commit)


def poses_as_the_bot(world: World) -> None:
    """The bot's name without a trailer: not a commit of the bot."""
    author = "--author=Ratchet <ratchet@users.noreply.github.com>"
    committer = {
        "GIT_COMMITTER_NAME": "Ratchet",
        "GIT_COMMITTER_EMAIL": "ratchet@users.noreply.github.com",
    }
    world.git("commit", "--quiet", "--allow-empty", "-m", "x", author, **committer)


@pytest.mark.parametrize("edit", [commits_on_top, amends, rebases, poses_as_the_bot])
def test_a_persons_commits_on_a_proposal_are_left_alone(
    world: World, edit: Callable[[World], None]
) -> None:
    world.publish()
    world.git("checkout", "--quiet", "ratchet/triage")
    edit(world)
    world.git("checkout", "--quiet", "main")
    before = world.everything()
    with pytest.raises(RatchetError, match="not Ratchet's") as caught:
        world.publish(text=BETTER + "More.\n")
    assert "git branch -D ratchet/triage" in str(caught.value.hint)
    assert world.everything() == before


def test_a_persons_own_branch_of_that_name_is_left_alone(world: World) -> None:
    world.git("checkout", "--quiet", "-b", "ratchet/triage")
    world.write("mine.txt", "mine\n")
    world.commit("mine")
    world.git("checkout", "--quiet", "main")
    with pytest.raises(RatchetError, match="not Ratchet's"):
        world.publish()
    assert world.git("log", "-1", "--format=%s", "ratchet/triage") == "mine"


@pytest.mark.parametrize("where", ["here", "linked"])
def test_a_proposal_that_is_checked_out_is_left_alone(
    world: World, tmp_path: Path, where: str
) -> None:
    """Moving the branch would make the checkout look edited."""
    first = world.publish()
    if where == "here":
        world.git("checkout", "--quiet", "ratchet/triage")
    else:
        world.worktree(tmp_path / "linked", "ratchet/triage")
    before = world.everything()
    with pytest.raises(RatchetError, match="is checked out in"):
        world.publish(text=BETTER + "More.\n")
    with pytest.raises(RatchetError, match="is checked out in"):
        branches.drop(world.project, skill="triage", expect=first)
    assert world.publish() == first
    assert world.everything() == before


def test_a_proposal_in_the_middle_of_a_rebase_is_left_alone(world: World) -> None:
    first = world.publish()
    world.git("checkout", "--quiet", "ratchet/triage")
    world.git("-c", "sequence.editor=sed -i 1s/^pick/edit/", "rebase", "--quiet", "-i", "main")
    with pytest.raises(RatchetError, match="is checked out in"):
        world.publish(text=BETTER + "More.\n")
    assert world.tip("ratchet/triage") == first


@pytest.mark.parametrize(
    ("ref", "target", "message"),
    [
        ("refs/heads/ratchet/triage", "refs/heads/main", "is another name for refs/heads/main"),
        ("refs/heads/ratchet", None, "the branch 'ratchet' is in the way"),
    ],
)
def test_a_branch_in_the_way_is_explained(
    world: World, ref: str, target: str | None, message: str
) -> None:
    world.git(*(["symbolic-ref", ref, target] if target else ["update-ref", ref, "HEAD"]))
    before = world.everything()
    with pytest.raises(RatchetError, match=message):
        world.publish()
    assert world.everything() == before


def test_a_locked_branch_is_explained(world: World) -> None:
    world.write(".git/refs/heads/ratchet/triage.lock", "")
    with pytest.raises(RatchetError, match=r"triage\.lock") as caught:
        world.publish()
    assert "delete the lock" in str(caught.value.hint)
    (world.path / ".git/refs/heads/ratchet/triage.lock").unlink()


# Merging


def test_a_proposal_is_merged_where_the_branch_is_checked_out(world: World) -> None:
    commit = world.publish()
    assert world.merge(commit) == Merged(branch="main", commit=commit)
    assert world.world() == MERGED
    assert world.status() == ""
    assert (world.path / world.skill).read_text() == BETTER


def test_merging_twice_is_merging_once(world: World) -> None:
    commit = world.land()
    after = world.everything()
    assert world.merge(commit) == Merged(branch="main", commit=commit, already=True)
    assert world.everything() == after
    world.write("README.md", "main goes on\n")
    world.commit("later")
    assert world.merge(commit) == Merged(branch="main", commit=commit, already=True)


def test_another_branch_that_is_checked_out_is_not_touched(world: World) -> None:
    world.git("checkout", "--quiet", "-b", "feature")
    world.write(world.skill, "my draft\n")
    before = world.status(), world.files()
    commit = world.publish()
    assert world.merge(commit) == Merged(branch="main", commit=commit)
    assert (world.status(), world.files()) == before
    assert world.tip("main") == commit
    assert world.tip("feature") == world.tip(f"{commit}^")


def test_a_branch_in_a_linked_worktree_is_merged_there(world: World, tmp_path: Path) -> None:
    world.git("checkout", "--quiet", "-b", "feature")
    there = world.worktree(tmp_path / "linked", "main")
    commit = world.publish()
    assert world.merge(commit) == Merged(branch="main", commit=commit)
    assert (there.path / world.skill).read_text() == BETTER
    assert (there.status(), world.status()) == ("", "")
    assert (world.path / world.skill).read_text() == SKILL_TEXT


def test_a_merge_from_a_linked_worktree_moves_the_main_one(world: World, tmp_path: Path) -> None:
    there = world.worktree(tmp_path / "linked", "-b", "feature")
    commit = World(there.path, world.prefix).publish()
    assert World(there.path, world.prefix).merge(commit) == Merged(branch="main", commit=commit)
    assert (world.path / world.skill).read_text() == BETTER
    assert (there.status(), world.status()) == ("", "")


def test_unfinished_work_elsewhere_is_kept_byte_for_byte(world: World) -> None:
    for name in ["both.txt", "staged.txt", "unstaged.txt", "deleted.txt"]:
        world.write(name, "committed\n")
    world.commit("more")
    world.write("both.txt", "staged\n")
    world.write("staged.txt", "staged\r\n")
    world.write("added.txt", "staged, new\n")
    world.git("add", "--all")
    world.write("both.txt", "and edited again\n")
    world.write("unstaged.txt", b"\x00\xff")
    world.write("untracked/new.txt", "untracked\n")
    (world.path / "deleted.txt").unlink()
    status, files = world.status(), world.files()
    staged = world.git("diff", "--cached")
    commit = world.publish()
    assert world.merge(commit) == Merged(branch="main", commit=commit)
    assert world.status() == status
    assert world.git("diff", "--cached") == staged
    assert world.files() == files | {world.skill: BETTER.encode()}
    assert isinstance(world.revert(), Merged)
    assert (world.status(), world.files()) == (status, files)


def edited(world: World) -> None:
    world.write(world.skill, SKILL_TEXT + "My draft.\n")


def staged(world: World) -> None:
    edited(world)
    world.git("add", "--all")


def staged_then_restored(world: World) -> None:
    """Only the index still holds the draft."""
    staged(world)
    world.write(world.skill, SKILL_TEXT)


def staged_then_as_proposed(world: World) -> None:
    """Here too, though the file is what would be merged."""
    staged(world)
    world.write(world.skill, BETTER)


def deleted(world: World) -> None:
    (world.path / world.skill).unlink()


def made_executable(world: World) -> None:
    (world.path / world.skill).chmod(0o755)


def half_written(world: World) -> None:
    world.write(world.skill, BETTER[:40])


def replaced_by_a_link(world: World) -> None:
    world.write("copy", SKILL_TEXT)
    (world.path / world.skill).unlink()
    (world.path / world.skill).symlink_to(world.path / "copy")


def hidden(world: World) -> None:
    edited(world)
    world.git("update-index", "--assume-unchanged", world.skill)


def skipped(world: World) -> None:
    edited(world)
    world.git("update-index", "--skip-worktree", world.skill)


@pytest.mark.parametrize(
    "draft",
    [
        edited,
        staged,
        staged_then_restored,
        staged_then_as_proposed,
        deleted,
        made_executable,
        half_written,
        replaced_by_a_link,
        hidden,
        skipped,
    ],
)
def test_a_draft_of_the_skill_is_never_overwritten(
    world: World, draft: Callable[[World], None]
) -> None:
    commit = world.publish()
    draft(world)
    before = world.everything()
    refused = world.merge(commit)
    assert isinstance(refused, Refused)
    assert refused.reason == "dirty"
    assert SKILL in refused.detail
    assert refused.hint
    assert world.everything() == before


def test_a_branch_that_moved_is_not_merged(world: World) -> None:
    commit = world.publish()
    world.write("README.md", "main goes on\n")
    world.commit("later")
    before = world.everything()
    refused = world.merge(commit)
    assert isinstance(refused, Refused)
    assert refused.reason == "base_moved"
    assert world.everything() == before


def merging(world: World) -> None:
    world.write(".git/MERGE_HEAD", world.tip("main") + "\n")


def rebasing(world: World) -> None:
    """HEAD is detached, but the branch will be moved when the rebase ends."""
    world.git("commit", "--quiet", "--allow-empty", "--message=x")
    world.git("-c", "sequence.editor=sed -i 1s/^pick/edit/", "rebase", "-q", "-i", "HEAD^")


def bisecting(world: World) -> None:
    world.git("commit", "--quiet", "--allow-empty", "--message=x")
    world.git("commit", "--quiet", "--allow-empty", "--message=y")
    world.git("bisect", "start", "HEAD", "HEAD~2")


def picking(world: World) -> None:
    world.write(".git/CHERRY_PICK_HEAD", world.tip("main") + "\n")


def reverting(world: World) -> None:
    world.write(".git/REVERT_HEAD", world.tip("main") + "\n")


@pytest.mark.parametrize("start", [merging, rebasing, bisecting, picking, reverting])
def test_nothing_is_merged_in_the_middle_of_something(
    world: World, start: Callable[[World], None]
) -> None:
    start(world)
    commit = world.publish()
    before = world.everything()
    refused = world.merge(commit)
    assert isinstance(refused, Refused)
    assert refused.reason == "in_progress"
    assert "under way" in refused.detail
    assert world.everything() == before


@pytest.mark.parametrize("lock", ["index.lock", "HEAD.lock", "refs/heads/main.lock"])
def test_a_lock_left_behind_stops_a_merge_before_it_starts(world: World, lock: str) -> None:
    commit = world.publish()
    world.write(f".git/{lock}", "")
    before = world.everything()
    refused = world.merge(commit)
    assert isinstance(refused, Refused)
    assert refused.reason == "locked"
    assert lock in refused.detail
    assert world.everything() == before
    (world.path / ".git" / lock).unlink()
    assert world.merge(commit) == Merged(branch="main", commit=commit)
    assert world.world() == MERGED


def test_a_lock_on_a_branch_that_is_not_checked_out_is_explained(world: World) -> None:
    world.git("checkout", "--quiet", "-b", "feature")
    commit = world.publish()
    world.write(".git/refs/heads/main.lock", "")
    refused = world.merge(commit)
    assert isinstance(refused, Refused)
    assert refused.reason == "locked"
    (world.path / ".git/refs/heads/main.lock").unlink()


def killed_after_the_file(world: World, commit: str) -> None:
    world.write(world.skill, world.show(world.skill, commit))


def killed_after_the_index(world: World, commit: str) -> None:
    world.git("read-tree", "-m", "-u", "main", commit)


@pytest.mark.parametrize("killed", [killed_after_the_file, killed_after_the_index])
@pytest.mark.parametrize("autocrlf", ["false", "true"])
def test_a_merge_that_was_killed_is_finished(
    world: World, killed: Callable[[World, str], None], autocrlf: str
) -> None:
    world.git("config", "core.autocrlf", autocrlf)
    world.write("README.md", "my draft\n")
    commit = world.publish()
    killed(world, commit)
    assert world.merge(commit) == Merged(branch="main", commit=commit)
    assert world.world() == MERGED
    assert world.status() == " M README.md"


def other_file(world: World) -> str:
    world.write("README.md", "changed\n")
    return world.commit("both")


def other_mode(world: World) -> str:
    (world.path / world.skill).chmod(0o755)
    return world.commit("mode")


def moved(world: World) -> str:
    world.git("mv", world.skill, world.skill + ".md")
    return world.commit("moved")


def a_link(world: World) -> str:
    linked(world)
    return world.commit("link")


def two_steps(world: World) -> str:
    world.commit("empty")
    world.write(world.skill, BETTER)
    return world.commit("edit")


def two_parents(world: World) -> str:
    tree = world.git("rev-parse", f"{world.publish()}^{{tree}}")
    start = world.tip("main")
    other = world.git("commit-tree", "-m", "x", "-p", start, f"{start}^{{tree}}")
    return world.git("commit-tree", "-m", "x", "-p", start, "-p", other, tree)


def hidden_submodule(world: World) -> str:
    """A change that .gitmodules asks git not to show."""
    world.write(".gitmodules", '[submodule "s"]\n\tpath = s\n\turl = ./s\n\tignore = all\n')
    world.git("update-index", "--add", "--cacheinfo", f"160000,{world.tip('main')},s")
    world.write(world.skill, BETTER)
    world.git("add", "--", ".gitmodules", world.skill)
    world.git("commit", "--quiet", "--message=pointer")
    return world.tip("HEAD")


@pytest.mark.parametrize(
    "make", [other_file, other_mode, moved, a_link, two_steps, two_parents, hidden_submodule]
)
def test_a_commit_that_is_not_one_edit_is_not_merged(
    world: World, make: Callable[[World], str]
) -> None:
    """Whatever it is called and whoever made it: the verdict was about one file."""
    start = world.tip("main")
    commit = make(world)
    world.git("reset", "--quiet", "--hard", start)
    before = world.everything()
    with pytest.raises(RatchetError, match="is not one edit of"):
        world.merge(commit, base=start)
    assert world.everything() == before


def test_a_submodule_pointer_beside_the_edit_is_not_merged(world: World) -> None:
    hidden_submodule(world)
    start = world.tip("main")
    world.git("update-index", "--cacheinfo", f"160000,{start},s")
    world.write(world.skill, SKILL_TEXT)
    world.git("add", "--", world.skill)
    world.git("commit", "--quiet", "--message=pointer moved")
    commit = world.tip("HEAD")
    world.git("reset", "--quiet", "--hard", start)
    with pytest.raises(RatchetError, match="is not one edit of"):
        world.merge(commit)


@pytest.mark.parametrize("branch", ["nowhere", "main~0", "main*", "", "--all", "refs/heads/main"])
def test_a_branch_that_is_not_there_is_explained(world: World, branch: str) -> None:
    commit = world.publish()
    with pytest.raises(RatchetError, match="there is no branch"):
        world.merge(commit, branch=branch)
    assert world.world() == PROPOSED


def test_a_worktree_that_is_gone_stops_the_merge(world: World, tmp_path: Path) -> None:
    world.git("checkout", "--quiet", "-b", "feature")
    there = world.worktree(tmp_path / "linked", "main")
    commit = world.publish()
    there.path.rename(tmp_path / "moved")
    refused = world.merge(commit)
    assert isinstance(refused, Refused)
    assert refused.reason == "checkout_blocked"
    world.git("worktree", "prune")
    assert world.merge(commit) == Merged(branch="main", commit=commit)


def test_a_branch_checked_out_twice_stops_the_merge(world: World, tmp_path: Path) -> None:
    world.worktree(tmp_path / "linked", "--force", "main")
    commit = world.publish()
    refused = world.merge(commit)
    assert isinstance(refused, Refused)
    assert refused.reason == "checkout_blocked"
    assert world.world() == PROPOSED


def test_what_git_itself_refuses_is_told_in_its_words(world: World) -> None:
    """The user's rule that only signed commits are merged holds for the bot too."""
    world.git("config", "merge.verifySignatures", "true")
    commit = world.publish()
    before = world.everything()
    refused = world.merge(commit)
    assert isinstance(refused, Refused)
    assert refused.reason == "checkout_blocked"
    assert "signature" in refused.detail
    assert world.everything() == before


def test_line_ends_in_the_checkout_follow_the_users_setting(world: World) -> None:
    world.git("config", "core.autocrlf", "true")
    world.land()
    assert (world.path / world.skill).read_bytes() == BETTER.replace("\n", "\r\n").encode()
    assert world.status() == ""


# Waiting proposals


def test_a_proposal_waits_until_it_is_merged_or_dropped(world: World) -> None:
    def waiting() -> object:
        return branches.open_proposal(world.project, skill="triage", branch="main")

    assert waiting() is None
    commit = world.publish()
    found = branches.open_proposal(world.project, skill="triage", branch="main")
    assert found is not None
    assert found.model_dump() == {
        "skill": "triage",
        "commit": commit,
        "experiment": EXPERIMENT,
        "parent": "c" * 64,
        "committed_at": AT,
        "edited": False,
        "evidence": EVIDENCE,
    }
    world.merge(commit)
    assert waiting() is None
    branches.drop(world.project, skill="triage", expect=commit)
    branches.drop(world.project, skill="triage", expect=commit)
    assert waiting() is None
    assert world.world() == MERGED.replace(", ratchet/triage", "")


def test_a_proposal_with_a_persons_commits_still_waits(world: World) -> None:
    first = world.publish()
    world.git("checkout", "--quiet", "ratchet/triage")
    commits_on_top(world)
    world.git("checkout", "--quiet", "main")
    found = branches.open_proposal(world.project, skill="triage", branch="main")
    assert found is not None
    assert (found.experiment, found.edited) == (EXPERIMENT, True)
    assert found.commit == world.tip("ratchet/triage") != first
    with pytest.raises(RatchetError, match="has moved from"):
        branches.drop(world.project, skill="triage", expect=first)
    assert world.tip("ratchet/triage") == found.commit


def test_a_branch_without_a_proposal_is_none(world: World) -> None:
    """Not even when an old proposal lies below it, in the base branch."""
    world.land()
    world.git("branch", "--force", "ratchet/triage", "main")
    world.git("checkout", "--quiet", "ratchet/triage")
    world.commit("mine")
    assert branches.open_proposal(world.project, skill="triage", branch="main") is None


# What landed


def by_rebase(world: World, commit: str) -> str:
    world.write("README.md", "main goes on\n")
    world.commit("later")
    world.git("cherry-pick", commit)
    return world.tip("main")


def by_merge_commit(world: World, commit: str) -> str:
    world.write("README.md", "main goes on\n")
    world.commit("later")
    world.git("merge", "--quiet", "--no-ff", "--message=Merge it", commit)
    return commit


def by_squash(world: World, commit: str) -> str:
    world.git("merge", "--quiet", "--squash", commit)
    world.git("commit", "--quiet", f"--message=Squashed\n\nRatchet-Experiment: {EXPERIMENT}\n")
    return world.tip("main")


@pytest.mark.parametrize("how", [by_rebase, by_merge_commit, by_squash])
def test_a_person_may_merge_a_proposal_in_any_way(
    world: World, how: Callable[[World, str], str]
) -> None:
    commit = world.publish()
    assert (
        branches.landed(world.project, branch="main", experiment_id=EXPERIMENT, path=SKILL) is None
    )
    expected = how(world, commit)
    assert (
        branches.landed(world.project, branch="main", experiment_id=EXPERIMENT, path=SKILL)
        == expected
    )
    assert branches.reverted_in(world.project, "main", experiment_id=EXPERIMENT, path=SKILL) is None


FAKE_GPG = """\
#!/bin/sh
cat >/dev/null
case "$*" in *--verify*) echo "gpg: Good signature" >&2; echo "[GNUPG:] GOODSIG x y"; exit;; esac
echo "[GNUPG:] SIG_CREATED x" >&2
printf -- "-----BEGIN PGP SIGNATURE-----\\nx\\n-----END PGP SIGNATURE-----\\n"
"""


def test_a_signature_that_is_shown_is_not_taken_for_a_commit(world: World, tmp_path: Path) -> None:
    """With this setting git's log prints what gpg says between the commits."""
    (tmp_path / "gpg").write_text(FAKE_GPG)
    (tmp_path / "gpg").chmod(0o755)
    world.git("config", "gpg.program", str(tmp_path / "gpg"))
    world.git("config", "log.showSignature", "true")
    message = f"Squashed\n\nRatchet-Experiment: {EXPERIMENT}\n"
    world.write(world.skill, BETTER)
    world.git("commit", "--quiet", "--all", "--gpg-sign", f"--message={message}")
    assert "Good signature" in world.git("log", "-1")
    expected = world.tip("main")
    assert (
        branches.landed(world.project, branch="main", experiment_id=EXPERIMENT, path=SKILL)
        == expected
    )


@pytest.mark.parametrize(
    "message",
    [
        f"Ratchet-Experiment: {EXPERIMENT}",
        f"x\n\nRatchet-Experiment: {EXPERIMENT}\n\nis what I mean",
        f"x\n\nRatchet-Experiment: {EXPERIMENT}0\n",
        f"x\n\nRatchet-Experiment: see {EXPERIMENT}\n",
        f"x\n\nNot-Ratchet-Experiment: {EXPERIMENT}\n",
    ],
)
def test_only_a_real_trailer_counts(world: World, message: str) -> None:
    world.write(world.skill, BETTER)
    world.git("commit", "--quiet", "--all", f"--message={message}")
    assert (
        branches.landed(world.project, branch="main", experiment_id=EXPERIMENT, path=SKILL) is None
    )


def test_a_trailer_on_a_commit_that_leaves_the_skill_alone_counts_for_nothing(
    world: World,
) -> None:
    """Anybody's commit may have one; a merge of it, too."""
    said = f"Docs\n\nRatchet-Experiment: {EXPERIMENT}\n"
    world.git("commit", "--quiet", "--allow-empty", f"--message={said}")
    world.git("switch", "--quiet", "--create", "docs")
    world.write("README.md", "news\n")
    world.git("add", "--all")
    world.git("commit", "--quiet", f"--message={said}")
    world.git("switch", "--quiet", "main")
    world.git("merge", "--quiet", "--no-ff", f"--message={said}", "docs")
    found = {"branch": "main", "experiment_id": EXPERIMENT, "path": SKILL}
    assert branches.landed(world.project, **found) is None
    commit = world.publish(base=world.tip("main"))
    world.merge(commit, base=world.tip("main"))
    assert branches.landed(world.project, **found) == commit


@pytest.mark.parametrize("experiment_id", ["", "a\nb", "--all", "a b"])
def test_only_an_id_is_looked_for(world: World, experiment_id: str) -> None:
    if experiment_id == "--all":
        assert (
            branches.landed(
                world.project, branch="main", experiment_id=experiment_id, path=world.skill
            )
            is None
        )
        return
    with pytest.raises(ValueError, match="is not the id"):
        branches.landed(world.project, branch="main", experiment_id=experiment_id, path=SKILL)


# Taking back


def test_an_edit_is_taken_back_by_a_new_commit(world: World) -> None:
    world.land()
    done = world.revert()
    assert isinstance(done, Merged)
    shown = text(f"""
        *  (HEAD -> main) A Developer/A Developer: triage: revert experiment 1
        |     Ratchet-Revert: {EXPERIMENT}
        *  (ratchet/triage) A Developer/A Developer: triage: be kind
        """)
    assert world.world().startswith(shown)
    assert (world.path / world.skill).read_text() == SKILL_TEXT
    assert world.status() == ""
    assert (
        branches.reverted_in(world.project, "main", experiment_id=EXPERIMENT, path=SKILL)
        == done.commit
    )


def test_taking_back_twice_is_taking_back_once(world: World) -> None:
    world.land()
    done = world.revert()
    after = world.everything()
    assert isinstance(done, Merged)
    assert world.revert() == Merged(branch="main", commit=done.commit, already=True)
    assert world.everything() == after


def test_later_edits_elsewhere_in_the_file_are_kept(world: World) -> None:
    world.land()
    world.write(world.skill, BETTER + "Added later.\n")
    world.commit("later")
    assert isinstance(world.revert(), Merged)
    assert (world.path / world.skill).read_text() == SKILL_TEXT + "Added later.\n"


def test_what_a_person_took_back_is_not_taken_back_again(world: World) -> None:
    commit = world.land()
    world.git("revert", "--no-edit", commit)
    by_hand = world.tip("main")
    assert (
        branches.reverted_in(world.project, "main", experiment_id=EXPERIMENT, path=SKILL) == by_hand
    )
    assert world.revert() == Merged(branch="main", commit=by_hand, already=True)
    assert world.tip("main") == by_hand


def test_what_a_person_took_back_is_out_whatever_came_after_it(world: World) -> None:
    """In the same place too, where taking it back once more would be a conflict."""
    commit = world.land()
    world.git("revert", "--no-edit", commit)
    by_hand = world.tip("main")
    world.write(world.skill, SKILL_TEXT.replace("Be brief.", "Be long."))
    world.commit("another edit")
    assert world.revert() == Merged(branch="main", commit=by_hand, already=True)


def test_what_was_undone_without_a_word_needs_no_commit(world: World) -> None:
    world.land()
    world.write(world.skill, SKILL_TEXT)
    by_hand = world.commit("I liked the old one")
    assert world.revert() == Merged(branch="main", commit=by_hand, already=True)


def test_an_edit_that_landed_again_can_be_taken_back_again(world: World) -> None:
    world.land()
    world.revert()
    second = world.publish(base=world.tip("main"))
    assert isinstance(world.merge(second), Merged)
    assert (
        branches.landed(world.project, branch="main", experiment_id=EXPERIMENT, path=SKILL)
        == second
    )
    assert branches.reverted_in(world.project, "main", experiment_id=EXPERIMENT, path=SKILL) is None
    assert isinstance(world.revert(), Merged)
    assert (world.path / world.skill).read_text() == SKILL_TEXT


def test_a_conflict_is_left_to_a_person(world: World) -> None:
    commit = world.land()
    world.write(world.skill, BETTER.replace("kind", "kind, always"))
    world.commit("same line")
    before = world.everything()
    with pytest.raises(RatchetError, match="in the same place") as refused:
        world.revert()
    assert f"git revert {commit}" in str(refused.value.hint)
    assert world.everything() == before


def test_a_draft_is_not_lost_to_a_revert(world: World) -> None:
    world.land()
    world.write(world.skill, BETTER + "My draft.\n")
    before = world.everything()
    with pytest.raises(RatchetError, match="not committed"):
        world.revert()
    assert world.everything() == before


def test_what_did_not_land_is_not_taken_back(world: World) -> None:
    world.write("README.md", "changed\n")
    world.commit("not the skill")
    before = world.everything()
    with pytest.raises(RatchetError, match="Experiment 1 is not merged into main"):
        world.revert()
    assert world.everything() == before
    world.publish()
    with pytest.raises(RatchetError, match="is not merged into main"):
        world.revert()
    world.write("README.md", "changed again\n")
    world.commit(f"not the skill\n\nRatchet-Experiment: {EXPERIMENT}")
    before = world.everything()
    with pytest.raises(RatchetError, match="is not merged into main"):
        world.revert()
    assert world.everything() == before


def test_a_revert_keeps_the_mode_the_file_has_now(world: World) -> None:
    world.land()
    (world.path / world.skill).chmod(0o755)
    world.commit("executable")
    assert isinstance(world.revert(), Merged)
    assert world.git("ls-tree", "HEAD", world.skill).startswith("100755 blob")


# In whose name -------------------------------------------------------------------------------


def people(world: World, commit: str) -> str:
    return world.git("show", "-s", "--format=%an <%ae>, %cn <%ce>", commit)


def test_a_commit_is_in_the_name_of_whoever_the_clone_is_of(world: World) -> None:
    developer = "A Developer <dev@example.com>"
    assert people(world, world.publish()) == f"{developer}, {developer}"


def test_where_git_knows_of_nobody_the_address_is_nobodys(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    world.git("config", "user.useConfigOnly", "true")
    nobody = "Ratchet <ratchet@skill-ratchet.invalid>"
    assert people(world, world.publish()) == f"{nobody}, {nobody}"
    assert world.merge(world.tip("ratchet/triage")) is not None


def test_commit_gpgsign_is_honoured(world: World, tmp_path: Path) -> None:
    (tmp_path / "gpg").write_text(FAKE_GPG)
    (tmp_path / "gpg").chmod(0o755)
    world.git("config", "gpg.program", str(tmp_path / "gpg"))
    assert "gpgsig" not in world.git("cat-file", "commit", world.publish())
    world.git("config", "commit.gpgsign", "true")
    commit = world.publish(text=BETTER + "More.\n")
    assert "gpgsig" in world.git("cat-file", "commit", commit)
    assert world.merge(commit) == Merged(branch="main", commit=commit)


def test_a_key_that_cannot_sign_is_said_and_nothing_moves(world: World) -> None:
    world.git("config", "commit.gpgsign", "true")
    world.git("config", "gpg.program", "false")
    before = world.everything()
    with pytest.raises(RatchetError, match="could not make the commit") as caught:
        world.publish()
    assert "git config commit.gpgsign false" in str(caught.value.hint)
    assert world.everything() == before


def test_a_proposal_of_an_earlier_version_is_still_ratchets(world: World) -> None:
    """It was by an address that is a stranger's, and named nothing that it does."""
    world.git("checkout", "--quiet", "-b", "ratchet/triage")
    world.write(SKILL, BETTER)
    world.git("add", "--all")
    old = {
        f"GIT_{role}_{what}": to
        for role in ("AUTHOR", "COMMITTER")
        for what, to in (("NAME", FORMER.name), ("EMAIL", FORMER.email))
    }
    message = f"triage: be kind\n\nRatchet-Experiment: {EXPERIMENT}\n"
    world.git("commit", "--quiet", f"--message={message}", **old)
    world.git("checkout", "--quiet", "main")
    found = branches.open_proposal(world.project, skill="triage", branch="main")
    assert found is not None
    assert (found.experiment, found.edited) == (EXPERIMENT, False)
    world.publish(text=BETTER + "More.\n")


def test_a_person_of_the_same_name_is_known_by_what_they_change(world: World) -> None:
    """The trailers are copied; what they name is another commit."""
    commit = world.publish()
    world.git("checkout", "--quiet", "ratchet/triage")
    world.write(SKILL, BETTER + "Mine.\n")
    world.git("add", "--all")
    world.git("commit", "--quiet", "--amend", "--no-edit")
    world.git("checkout", "--quiet", "main")
    found = branches.open_proposal(world.project, skill="triage", branch="main")
    assert found is not None
    assert (found.commit != commit, found.edited) == (True, True)


@pytest.mark.parametrize("where", [".git/hooks", "own-hooks"])
def test_hooks_that_are_not_run_are_known(world: World, where: str) -> None:
    assert branches.idle_hooks(world.project) == []
    folder = world.path / where
    folder.mkdir(exist_ok=True)
    if where != ".git/hooks":
        world.git("config", "core.hooksPath", where)
    for name, mode in (("commit-msg", 0o755), ("pre-commit", 0o755), ("post-commit", 0o644)):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(mode)
    assert branches.idle_hooks(world.project) == ["pre-commit", "commit-msg"]
    for name in ("commit-msg", "pre-commit", "post-commit"):
        (folder / name).unlink()
