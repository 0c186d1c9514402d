"""What one job hands to the next: made here, checked there, and refused if anything is odd."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import pytest

from scenes import Scenes
from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.core import gate
from skill_ratchet.core.facts import Findings, Present, gather
from skill_ratchet.core.records import Experiment, Reply, Setting, digest, experiment_id
from skill_ratchet.ledger import Ref, access, bundles, remote
from skill_ratchet.ledger.gitref import AUTHOR, AUTHORS, GitRef
from skill_ratchet.project import repository, workspace
from skill_ratchet.providers.scripted import Scripted
from world import SEALED, SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skill_ratchet.core.records import Request
    from skill_ratchet.project.workspace import Workspace

LEDGER, HOLDOUT = Ref.LEDGER.value, Ref.HOLDOUT.value
BOTS = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "Ratchet") | dict.fromkeys(
    ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "ratchet@skill-ratchet.invalid"
)
EDITED = f"{SKILL_TEXT}Rule alpha.\n"
ON_TRAIN, ON_HOLDOUT = 3 + 1 + 3, 2 * 2  # calls: old skill, proposer and candidate; both sides


class Jobs:
    """A repository on a server, and the clones that jobs work in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hub = folder, World(folder / "hub")

    @classmethod
    def make(cls, folder: Path, **project: Any) -> Self:
        World.make(folder / "hub", **project)
        return cls(folder)

    def clone(self, name: str) -> World:
        """A clone of the repository as it is, or as it was in the scene that has this one."""
        if not (self.folder / name).exists():
            self.hub.git("clone", "--quiet", str(self.hub.path), str(self.folder / name))
        return World(self.folder / name)

    def at(self, name: str) -> Path:
        return self.folder / name

    def propose(self, world: World, name: str = "proposal", *args: str) -> Any:
        return world.ratchet("propose", "--json", "--bundle", str(self.at(name)), *args)

    def confirm(self, world: World, name: str = "proposal", out: str = "confirmation") -> Any:
        folders = ("--bundle", str(self.at(name)), "--out", str(self.at(out)))
        return world.ratchet("confirm", "--json", *folders)

    def push(self, world: World) -> None:
        """What the publish job does with the ledger."""
        refs = [ref for ref in Ref if world.git("for-each-ref", ref)]
        world.git("push", "--quiet", "origin", *refs)


def space_of(world: World) -> Workspace:
    return workspace.open_at_base(repository.open_project(world.path), skill=None, override={})


def read(world: World, folder: Path, kind: Any = "confirmation", **limits: int) -> bundles.Checked:
    return bundles.read(folder, space_of(world), kind=kind, limits=bundles.BundleLimits(**limits))


def document(folder: Path, name: str = "manifest.json") -> Any:
    return json.loads((folder / name).read_text())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def objects(world: World) -> int:
    listed = world.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return len(listed.splitlines())


def kept(world: World) -> dict[str, bytes]:
    """Every file of a clone and of git in it, but for the index, which is refreshed by looking."""
    files = (path for path in world.path.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if path.name != "index"}


def proposed(jobs: Jobs) -> None:
    """The first job has run; the other two have their clones."""
    assert jobs.propose(jobs.clone("one")).code == ExitCode.DONE
    jobs.clone("two")
    jobs.clone("three")


def confirmed_too(jobs: Jobs) -> None:
    """The second has run as well."""
    proposed(jobs)
    assert jobs.confirm(jobs.clone("two")).json["action"] == "merge"


@pytest.fixture
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return Scenes(tmp_path_factory)


@pytest.fixture
def after(tmp_path: Path, scenes: Scenes) -> Callable[..., Jobs]:
    """What was made by one of the functions above, of a project."""

    def copy(step: Callable[[Jobs], object], **project: Any) -> Jobs:
        folder = tmp_path / "jobs"
        scenes.copied(
            folder, lambda scene: step(Jobs.make(scene, **project)), [step.__qualname__, project]
        )
        return Jobs(folder)

    return copy


# Propose, confirm, publish --------------------------------------------------------------------


def test_a_candidate_goes_from_one_job_to_the_next_and_every_call_is_paid_once(
    tmp_path: Path,
) -> None:
    """The third has all that ``gate.decide`` needs, and no job moved a branch but the ledger's."""
    jobs = Jobs.make(tmp_path)
    proposer, confirmer, publisher = map(jobs.clone, ("one", "two", "three"))

    proposed = jobs.propose(proposer)
    confirmed = jobs.confirm(confirmer)
    checked = read(publisher, jobs.at("confirmation"))

    assert (proposed.code, proposed.json["calls"]) == (ExitCode.DONE, ON_TRAIN)
    assert names(jobs.at("proposal")) == ["manifest.json", "refs.bundle"]
    assert (confirmed.code, confirmed.json["calls"]) == (ExitCode.DONE, ON_HOLDOUT)
    assert (confirmed.json["action"], confirmed.json["reason"]) == ("merge", "improved")
    assert confirmed.json["holdout"] == {"incumbent": 0.0, "candidate": 1.0}
    assert confirmer.branches() == {"main", "ratchet/ledger", "ratchet/holdout"}
    assert confirmer.skill() == SKILL_TEXT
    assert publisher.branches() == {"main"}
    assert checked.candidate == workspace.text_of(EDITED)
    assert checked.experiment
    assert checked.experiment.id == proposed.json["experiments"][0]["id"]
    now = space_of(publisher).binding(head=checked.candidate.digest)
    assert checked.decision
    findings, policy = Findings.of(checked.decision.evidence), space_of(publisher).policy
    there = Present(current=now, held=False, landed=False, age=0.0, released=False)
    assert gate.decide(gather(findings, there), policy).action == "merge"
    moved = replace(there, current=now.with_(base="0" * 40))
    assert gate.decide(gather(findings, moved), policy).reason == "stale"

    bundles.apply(checked, space_of(publisher))

    for branch in ("ratchet/ledger", "ratchet/holdout"):
        assert publisher.tip(branch) == confirmer.tip(branch)
    assert publisher.branches() == {"main", "ratchet/ledger", "ratchet/holdout"}
    publisher.assert_sound()


def test_until_somebody_has_acted_a_candidate_that_won_is_on_record_as_waiting(
    after: Callable[..., Jobs],
) -> None:
    """Of the holdout nothing is on the ledger; a merge by whomever completes the record."""
    jobs = after(confirmed_too)
    confirmer = jobs.clone("two")
    experiment = confirmer.only().id

    result = confirmer.ledger().results()[experiment]
    assert (result.action, result.reason, result.detail) == (
        "hold",
        "not_confirmed",
        "Not merged.",
    )
    assert SEALED not in confirmer.told(LEDGER)
    assert SEALED in confirmer.told(HOLDOUT)
    jobs.push(confirmer)
    jobs.hub.write(SKILL, EDITED)
    jobs.hub.commit(f"merge\n\nRatchet-Experiment: {experiment}")

    later = jobs.clone("later")
    ran = jobs.propose(later, "next")

    assert ran.code == ExitCode.DONE
    assert later.ledger().results()[experiment].action == "merge"
    again = jobs.clone("again")
    assert jobs.confirm(again, "next", "next-out").code == ExitCode.DONE
    assert again.ledger().landings()[experiment].commit == jobs.hub.tip("main")
    assert read(jobs.clone("last"), jobs.at("next-out")).decision is None


def test_what_did_not_pass_the_screen_is_recorded_too(tmp_path: Path) -> None:
    """The bundle has the ledger alone; nothing is asked of the model where it is confirmed."""
    jobs = Jobs.make(tmp_path, model=script([idea(1, "Rule beta.")]))
    ran = jobs.propose(jobs.clone("one"))
    confirmer = jobs.clone("two")

    done = jobs.confirm(confirmer)

    assert ran.verdicts == [("reject", "screen_failed")]
    assert document(jobs.at("proposal"))["experiment"] is None
    assert (done.code, done.json["action"], done.json["calls"]) == (ExitCode.DONE, None, 0)
    assert "no candidate" in done.json["note"]
    publisher = jobs.clone("three")
    checked = read(publisher, jobs.at("confirmation"))
    assert (checked.experiment, checked.candidate, checked.decision) == (None, None, None)
    bundles.apply(checked, space_of(publisher))
    assert [one.reason for one in publisher.ledger().results().values()] == ["screen_failed"]


def test_a_run_that_failed_writes_what_it_did(tmp_path: Path) -> None:
    """So what was paid for is kept, and the exit status says that it failed."""
    broken = {"when": {"input_contains": "t3"}, "error": "overloaded"}
    jobs = Jobs.make(tmp_path, model=script(first=[broken]))

    ran = jobs.propose(jobs.clone("one"))

    assert ran.code == ExitCode.ERROR
    confirmer = jobs.clone("two")
    assert jobs.confirm(confirmer).code == ExitCode.DONE
    assert len(list(confirmer.ledger().traces())) == 3


def test_a_confirm_run_that_failed_keeps_its_look_and_is_gone_on_with(
    after: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look counts; the next job pays for what is missing alone."""
    jobs = after(proposed)
    first = jobs.clone("two")
    with monkeypatch.context() as overload:
        overload.setattr(Scripted, "complete", _failing_on("h2", Scripted.complete))
        failed = jobs.confirm(first)
    checked = read(jobs.clone("three"), jobs.at("confirmation"))
    jobs.push(first)

    assert failed.code == ExitCode.ERROR
    assert checked.decision is None
    assert [look.attempt for look in first.ledger().confirmations()] == [1]
    second = jobs.clone("four")
    again = jobs.confirm(second, out="again")  # the same proposal bundle
    assert again.code == ExitCode.DONE
    assert (again.json["action"], again.json["calls"]) == ("merge", ON_HOLDOUT // 2)
    assert [look.attempt for look in second.ledger().confirmations()] == [1]
    assert read(jobs.clone("five"), jobs.at("again")).decision


def _failing_on(case: str, real: Callable[..., Any]) -> Callable[..., Any]:
    async def complete(model: Scripted, request: Request) -> Reply:
        if case in str(request.messages):
            return Reply(error="overloaded")
        made: Reply = await real(model, request)
        return made

    return complete


@pytest.mark.parametrize(
    ("project", "verdict"),
    [
        pytest.param({"config": {"gate": {"merge": "manual"}}}, ("hold", "awaits_person"), id="m"),
        pytest.param({"model": script(right={"alpha": ["t1", "t2", "t3"]})}, None, id="no-better"),
        pytest.param(
            {"model": script([idea(1, f"Rule alpha. Would the {SEALED} agree to h1?")])},
            ("reject", "leaks_holdout"),
            id="leak",
        ),
    ],
)
def test_every_verdict_is_handed_on(
    tmp_path: Path, project: dict[str, Any], verdict: tuple[str, str] | None
) -> None:
    """Also those against the candidate, and those that wait for a person."""
    jobs = Jobs.make(tmp_path, **project)
    jobs.propose(jobs.clone("one"))
    confirmer = jobs.clone("two")

    done = jobs.confirm(confirmer)

    found = (done.json["action"], done.json["reason"])
    assert done.code == ExitCode.DONE
    assert found == verdict if verdict else found[0] == "reject"
    decision = read(jobs.clone("three"), jobs.at("confirmation")).decision
    assert decision
    assert (decision.verdict.action, decision.verdict.reason) == found
    assert confirmer.branches() == {"main", "ratchet/ledger", "ratchet/holdout"}


def test_the_same_bundle_twice_is_the_same_as_once(after: Callable[..., Jobs]) -> None:
    """No call, no commit, the same verdict; reading alone changes nothing at all."""
    jobs = after(proposed)
    confirmer = jobs.clone("two")
    before = objects(confirmer)
    for _ in range(2):
        assert read(confirmer, jobs.at("proposal"), "proposal").moves
    assert (objects(confirmer), confirmer.branches()) == (before, {"main"})
    jobs.confirm(confirmer)
    world, count = confirmer.world(), objects(confirmer)

    again = jobs.confirm(confirmer, out="again")

    assert (again.code, again.json["action"], again.json["calls"]) == (ExitCode.DONE, "merge", 0)
    assert (confirmer.world(), objects(confirmer)) == (world, count)
    assert (jobs.at("again") / "verdict.json").read_text() == (
        jobs.at("confirmation") / "verdict.json"
    ).read_text()
    assert read(confirmer, jobs.at("again")).moves == {}


def test_later_bundles_hold_what_is_new_alone(tmp_path: Path) -> None:
    """They build on the ledger that the server has, and are no good without it."""
    ideas = [idea(1, "Rule beta."), idea(2, "Rule alpha.")]
    jobs = Jobs.make(tmp_path, model=script(ideas))
    first = jobs.clone("one")
    jobs.propose(first, "first")
    jobs.push(first)

    assert jobs.propose(jobs.clone("two"), "second").verdicts == [("hold", "confirm_open")]

    header = (jobs.at("second") / "refs.bundle").read_bytes().split(b"\n\n")[0]
    assert f"-{first.tip('ratchet/ledger')}".encode() in header
    assert jobs.confirm(jobs.clone("three"), "second").json["action"] == "merge"
    jobs.hub.git(
        "clone", "--quiet", "--single-branch", f"file://{jobs.hub.path}", str(jobs.at("s"))
    )
    stranger = World(jobs.at("s"))
    refused = jobs.confirm(stranger, "second", "other")
    assert refused.code == ExitCode.ERROR
    assert "ratchet fetch" in refused.err
    assert stranger.branches() == {"main"}


def test_an_open_proposal_of_a_person_and_hooks_are_left_alone(
    tmp_path: Path, after: Callable[..., Jobs]
) -> None:
    """``confirm`` neither settles what waits on the skill's branch nor starts a program."""
    jobs = after(proposed)
    confirmer = jobs.clone("two")
    confirmer.git("branch", "ratchet/triage", "main")
    for name in ("reference-transaction", "post-checkout", "update"):
        confirmer.hook(name, f"touch {tmp_path}/started")
    tip, files = confirmer.tip("ratchet/triage"), confirmer.files()

    assert jobs.confirm(confirmer).json["action"] == "merge"

    assert (confirmer.tip("ratchet/triage"), confirmer.files()) == (tip, files)
    assert not (tmp_path / "started").exists()


def test_the_stop_file_stops_the_confirm_run(after: Callable[..., Jobs]) -> None:
    """Before any call; what was proposed is kept."""
    jobs = after(proposed)
    confirmer = jobs.clone("two")
    (confirmer.path / ".ratchet-hold").touch()

    done = jobs.confirm(confirmer)

    assert (done.code, done.json["action"], done.json["calls"]) == (ExitCode.DONE, None, 0)
    assert "On hold" in done.json["note"]
    assert not (jobs.at("confirmation") / "verdict.json").exists()


@pytest.mark.parametrize(
    "args", [("--provider", "scripted"), ("--proposer", "examples")], ids=lambda args: args[0]
)
def test_settings_of_the_command_line_cannot_go_into_a_bundle(
    tmp_path: Path, args: tuple[str, str]
) -> None:
    """The next job has those of ratchet.yml."""
    jobs = Jobs.make(tmp_path)

    ran = jobs.propose(jobs.clone("one"), "proposal", *args)

    assert ran.code == ExitCode.USAGE
    assert not jobs.at("proposal").exists()


def test_a_folder_that_is_in_use_is_refused_before_a_call(tmp_path: Path) -> None:
    """Neither job writes over anything."""
    jobs = Jobs.make(tmp_path)
    world = jobs.clone("one")
    jobs.at("proposal").mkdir()
    (jobs.at("proposal") / "mine").write_text("x")

    assert jobs.propose(world).code == ExitCode.ERROR

    assert world.branches() == {"main"}
    jobs.propose(world, "good")
    other = jobs.clone("two")
    assert jobs.confirm(other, "good", "proposal").code == ExitCode.ERROR
    assert other.branches() == {"main"}
    assert names(jobs.at("proposal")) == ["mine"]


# What must not get through: proposals ---------------------------------------------------------


class Forge:
    """A bundle and the clone it was made in, to make a worse one of it."""

    def __init__(self, jobs: Jobs, maker: World, reader: World, folder: Path) -> None:
        self.jobs, self.maker, self.reader, self.folder = jobs, maker, reader, folder

    def file(self, name: str, data: str | bytes) -> None:
        """Replace a file, the manifest's digest of it too."""
        (self.folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
        self.manifest(files=self.document["files"] | {name: self.sha256(name)})

    def sha256(self, name: str) -> str:
        return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()

    @property
    def document(self) -> Any:
        return document(self.folder)

    def manifest(self, **changes: Any) -> None:
        text = json.dumps(self.document | changes)
        (self.folder / "manifest.json").write_text(text)

    def raw(self, text: str | bytes) -> None:
        """Replace the manifest."""
        data = text.encode() if isinstance(text, str) else text
        (self.folder / "manifest.json").write_bytes(data)

    @property
    def experiment(self) -> str:
        return f"triage/experiments/{self.document['experiment'][:12]}"

    @property
    def record(self) -> Experiment:
        return self.maker.only()

    def get(self, path: str, ref: str = LEDGER) -> str:
        return self.maker.git("cat-file", "blob", f"{ref}:{path}") + "\n"

    def path(self, part: str, ref: str = LEDGER) -> str:
        names = self.maker.git("ls-tree", "-r", "--name-only", ref).split("\n")
        return next(name for name in names if part in name)

    def commit(
        self, files: dict[str, str], *, message: str = "triage: x", ref: str = LEDGER
    ) -> None:
        """Add files to a branch in Ratchet's own name, and pack it again."""
        branch = GitRef(self.maker.path / ".git", ref)
        branch.commit(files, message=message, at=0, onto=branch.tip())
        self.pack()

    def plumb(self, listing: str, *parents: str, **who: str) -> None:
        """A commit whose tree has one entry more or another one, as ``git mktree`` takes it."""
        tree = self.maker.git("ls-tree", LEDGER).split("\n")
        lines = "\n".join([*tree, listing]) + "\n"
        target = self.maker.write(".git/listing", lines)
        made = self.maker.git("-c", f"alias.m=!git mktree --missing < {target}", "m", **BOTS)
        self.onto(made, *(parents or (LEDGER,)), **who)

    def onto(self, tree: str, *parents: str, message: str = "triage: x", **who: str) -> None:
        links = [word for parent in parents for word in ("-p", parent)]
        commit = self.maker.git("commit-tree", tree, *links, "-m", message, **(BOTS | who))
        self.maker.git("update-ref", LEDGER, commit)
        self.pack()

    def pack(self, *more: str) -> None:
        """Make ``refs.bundle`` and its entry in the manifest anew."""
        here = [ref for ref in (LEDGER, HOLDOUT) if ref in self.document["refs"]]
        known = ("--not", "--remotes=*/ratchet/ledger", "--remotes=*/ratchet/holdout")
        target = str(self.folder / "refs.bundle")
        self.maker.git("bundle", "create", "--quiet", target, *here, *more, *known)
        self.manifest(
            refs={ref: self.maker.tip(ref) for ref in here},
            files=self.document["files"] | {"refs.bundle": self.sha256("refs.bundle")},
        )

    def propose_text(self, text: str) -> None:
        """A candidate with a record of its own, everything in agreement."""
        named, old = workspace.text_of(text).digest, self.record
        made = experiment_id("triage", parent=old.parent, candidate=named)
        new = old.with_(id=made, candidate=named, number=2)
        ledger = access.open_ledger(repository.open_project(self.maker.path), "triage")
        ledger.add_experiment(new, parent_text=SKILL_TEXT, candidate_text=text)
        ledger.flush("triage: x")
        self.pack()
        self.manifest(experiment=made, candidate=named)


@pytest.fixture
def forge(after: Callable[..., Jobs]) -> Forge:
    """A proposal bundle that would be accepted."""
    jobs = after(proposed)
    return Forge(jobs, jobs.clone("one"), jobs.clone("two"), jobs.at("proposal"))


def extra_file(forge: Forge) -> None:
    (forge.folder / "run.sh").write_text("echo")


def extra_folder(forge: Forge) -> None:
    (forge.folder / "more").mkdir()


def extra_listed(forge: Forge) -> None:
    forge.file("run.sh", "echo")


def slips_out(forge: Forge) -> None:
    (forge.folder / "..\\..\\evil").write_text("x")


def slips_out_by_manifest(forge: Forge) -> None:
    forge.manifest(files=forge.document["files"] | {"../evil": "0" * 64})


def verdict_in_a_proposal(forge: Forge) -> None:
    forge.file("verdict.json", "{}")


def link(forge: Forge) -> None:
    (forge.folder / "refs.bundle").rename(forge.jobs.at("elsewhere"))
    (forge.folder / "refs.bundle").symlink_to(forge.jobs.at("elsewhere"))


def link_to_the_manifest(forge: Forge) -> None:
    (forge.folder / "manifest.json").rename(forge.jobs.at("elsewhere"))
    (forge.folder / "manifest.json").symlink_to(forge.jobs.at("elsewhere"))


def hard_link(forge: Forge) -> None:
    os.link(forge.folder / "refs.bundle", forge.jobs.at("elsewhere"))


def pipe(forge: Forge) -> None:
    (forge.folder / "refs.bundle").unlink()
    os.mkfifo(forge.folder / "refs.bundle")


def missing_refs(forge: Forge) -> None:
    (forge.folder / "refs.bundle").unlink()


def missing_and_not_listed(forge: Forge) -> None:
    (forge.folder / "refs.bundle").unlink()
    forge.manifest(files={})


def missing_manifest(forge: Forge) -> None:
    (forge.folder / "manifest.json").unlink()


FOLDERS = {
    extra_file: "does not belong",
    extra_folder: "does not belong",
    extra_listed: "does not belong",
    slips_out: "does not belong",
    slips_out_by_manifest: "does not belong",
    verdict_in_a_proposal: "does not belong",
    link: "no file refs.bundle",
    link_to_the_manifest: "no file manifest.json",
    hard_link: "not a file of its own",
    pipe: "not a file of its own",
    missing_refs: "not those its manifest lists",
    missing_and_not_listed: "cannot be used",
    missing_manifest: "no file manifest.json",
}


def unknown_key(forge: Forge) -> None:
    forge.manifest(merge=True)


def unknown_key_inside(forge: Forge) -> None:
    forge.manifest(setting=forge.document["setting"] | {"trust": "me"})


def key_twice(forge: Forge) -> None:
    forge.raw(json.dumps(forge.document)[:-1] + ', "skill": "triage"}')


def missing_key(forge: Forge) -> None:
    forge.raw(json.dumps({key: one for key, one in forge.document.items() if key != "refs"}))


def other_format(forge: Forge) -> None:
    forge.manifest(format=2)


def deep_bomb(forge: Forge) -> None:
    forge.raw('{"setting":' + "[" * 30_000)


def closed_bomb(forge: Forge) -> None:
    forge.manifest(setting=json.loads("[" * 100 + "]" * 100))


def number_bomb(forge: Forge) -> None:
    forge.raw(json.dumps(forge.document).replace('"format": 1', '"format": 1' + "0" * 20_000))


def large_manifest(forge: Forge) -> None:
    forge.raw(json.dumps(forge.document) + " " * 64_000)


def not_a_number(forge: Forge) -> None:
    forge.manifest(format=float("nan"))


def not_utf8(forge: Forge) -> None:
    forge.raw(b"\xff\xfe{}")


def no_object(forge: Forge) -> None:
    forge.raw("[]")


def confirmation_kind(forge: Forge) -> None:
    forge.manifest(kind="confirmation")


MANIFESTS = {
    unknown_key: "manifest.json is wrong: 'merge'",
    unknown_key_inside: "'setting.trust'",
    key_twice: "not JSON",
    missing_key: "'refs'",
    other_format: "'format'",
    deep_bomb: "not JSON",
    closed_bomb: "not JSON",
    number_bomb: "not JSON",
    large_manifest: "larger than",
    not_a_number: "not JSON",
    not_utf8: "not JSON",
    no_object: "manifest.json is wrong",
    confirmation_kind: "a proposal bundle is needed",
}


def other_digest(forge: Forge) -> None:
    forge.manifest(files={"refs.bundle": "0" * 64})


def cut_off(forge: Forge) -> None:
    data = (forge.folder / "refs.bundle").read_bytes()
    (forge.folder / "refs.bundle").write_bytes(data[:-100])


def cut_off_and_listed(forge: Forge) -> None:
    forge.file("refs.bundle", (forge.folder / "refs.bundle").read_bytes()[:-100])


def cut_to_the_header(forge: Forge) -> None:
    forge.file("refs.bundle", (forge.folder / "refs.bundle").read_bytes().split(b"PACK")[0])


def empty(forge: Forge) -> None:
    forge.file("refs.bundle", b"")


def bit_flipped(forge: Forge) -> None:
    data = bytearray((forge.folder / "refs.bundle").read_bytes())
    data[len(data) // 2] ^= 0x40
    forge.file("refs.bundle", bytes(data))


def more_behind_it(forge: Forge) -> None:
    forge.file("refs.bundle", (forge.folder / "refs.bundle").read_bytes() + b"junk")


def other_version(forge: Forge) -> None:
    forge.maker.git("bundle", "create", "--version=3", str(forge.folder / "refs.bundle"), LEDGER)
    forge.file("refs.bundle", (forge.folder / "refs.bundle").read_bytes())


def header_line(forge: Forge) -> None:
    data = (forge.folder / "refs.bundle").read_bytes()
    forge.file("refs.bundle", data.replace(b"bundle\n", b"bundle\n@filter=blob:none\n", 1))


def ref_twice(forge: Forge) -> None:
    data = (forge.folder / "refs.bundle").read_bytes()
    line = f"{forge.maker.tip(LEDGER)} {LEDGER}\n".encode()
    forge.file("refs.bundle", data.replace(line, line * 2, 1))


def another_ref(forge: Forge) -> None:
    forge.pack("refs/heads/main")


def another_ref_in_the_manifest(forge: Forge) -> None:
    tip = forge.maker.tip("main")
    forge.manifest(refs=forge.document["refs"] | {"refs/heads/main": tip})


def holdout_ref(forge: Forge) -> None:
    forge.maker.git("update-ref", HOLDOUT, LEDGER)
    forge.pack(HOLDOUT)
    tip = forge.maker.tip(HOLDOUT)
    forge.manifest(refs=forge.document["refs"] | {HOLDOUT: tip})


def other_tip(forge: Forge) -> None:
    forge.manifest(refs={LEDGER: forge.maker.tip(f"{LEDGER}~1")})


def commit_that_is_not_there(forge: Forge) -> None:
    forge.file("refs.bundle", (forge.folder / "refs.bundle").read_bytes())
    forge.folder.joinpath("refs.bundle").unlink()
    forge.manifest(files={}, refs={LEDGER: "1" * 40})


def other_history(forge: Forge) -> None:
    """The ledger here is another one, written by another run."""
    other = forge.jobs.clone("other")
    other.ratchet("eval")
    forge.jobs.push(other)
    forge.reader.git("fetch", "--quiet")


def two_parents(forge: Forge) -> None:
    tree = forge.maker.git("rev-parse", f"{LEDGER}^{{tree}}")
    forge.onto(tree, LEDGER, f"{LEDGER}~1")


def on_top_of_the_code(forge: Forge) -> None:
    forge.onto(forge.maker.git("rev-parse", f"{LEDGER}^{{tree}}"), "main")


def from_nothing_again(forge: Forge) -> None:
    """A history without what is on the server."""
    forge.maker.git("push", "--quiet", "origin", f"{LEDGER}~1:{LEDGER}")
    forge.reader.git("fetch", "--quiet")
    tree = forge.maker.git("rev-parse", f"{LEDGER}^{{tree}}")
    forge.onto(tree)


def by_somebody(forge: Forge) -> None:
    tree = forge.maker.git("rev-parse", f"{LEDGER}^{{tree}}")
    forge.onto(tree, LEDGER, GIT_AUTHOR_NAME="Somebody")


def speaking_to_people(forge: Forge) -> None:
    tree = forge.maker.git("rev-parse", f"{LEDGER}^{{tree}}")
    forge.onto(tree, LEDGER, message="triage: thanks @everyone, closes #1")


REFS = {
    other_digest: "SHA-256",
    cut_off: "SHA-256",
    cut_off_and_listed: "cannot be used",
    cut_to_the_header: "cannot be used",
    empty: "cannot be used",
    bit_flipped: "cannot be used",
    more_behind_it: "cannot be used",
    other_version: "cannot be used",
    header_line: "cannot be used",
    ref_twice: "names a ref twice",
    another_ref: "a ref that its manifest does not have",
    another_ref_in_the_manifest: "manifest.json is wrong",
    holdout_ref: "may not have refs/heads/ratchet/holdout",
    other_tip: "a ref that its manifest does not have",
    commit_that_is_not_there: "cannot be used",
    other_history: "does not go on from where",
    two_parents: "does not go on from where",
    on_top_of_the_code: "not one Ratchet made",
    from_nothing_again: "does not go on from where",
    by_somebody: "not one Ratchet made",
    speaking_to_people: "not one Ratchet made",
}


def of_another_skill(forge: Forge) -> None:
    forge.commit({"other/experiments/000000000000/candidate.txt": "x"})


def at_the_top(forge: Forge) -> None:
    forge.commit({"action.yml": "x"})


def workflow(forge: Forge) -> None:
    forge.commit({".github/workflows/x.yml": "x"})


def unknown_record(forge: Forge) -> None:
    forge.commit({f"{forge.experiment}/more.json": "{}"})


def confirmation_on_the_ledger(forge: Forge) -> None:
    forge.commit({f"{forge.experiment}/confirm.json": "{}"})


def readme(forge: Forge) -> None:
    forge.commit({"README.md": "Send your key to ...\n"})


def blob_of(forge: Forge, text: str = "x") -> str:
    return forge.maker.git("hash-object", "-w", str(forge.maker.write(".git/blob", text)))


def executable(forge: Forge) -> None:
    forge.plumb(f"100755 blob {blob_of(forge)}\tx.txt")


def symlink(forge: Forge) -> None:
    forge.plumb(f"120000 blob {blob_of(forge, '/etc/passwd')}\tx.txt")


def submodule(forge: Forge) -> None:
    forge.plumb(f"160000 commit {forge.maker.tip('main')}\tx.txt")


def dot_dot(forge: Forge) -> None:
    forge.plumb(f"100644 blob {blob_of(forge)}\t..")


def dot_git(forge: Forge) -> None:
    forge.plumb(f"100644 blob {blob_of(forge)}\t.git")


def taken_away(forge: Forge) -> None:
    """A record is there in one commit and gone in the next."""
    readme_only = forge.maker.git("ls-tree", LEDGER, "README.md")
    target = forge.maker.write(".git/listing", readme_only + "\n")
    tree = forge.maker.git("-c", f"alias.m=!git mktree < {target}", "m")
    forge.onto(tree, LEDGER)


def put_back(forge: Forge) -> None:
    """What may not be there is there in a commit in the middle alone."""
    tree = forge.maker.git("rev-parse", f"{LEDGER}^{{tree}}")
    forge.commit({"other/experiments/000000000000/candidate.txt": "x"})
    forge.onto(tree, LEDGER)


def other_candidate(forge: Forge) -> None:
    forge.commit({f"{forge.experiment}/candidate.txt": f"{SKILL_TEXT}Rule beta.\n"})


def other_incumbent(forge: Forge) -> None:
    forge.commit({forge.path("skill.txt"): "Do what you like.\n"})


def other_skills_record(forge: Forge) -> None:
    record = json.loads(forge.get(f"{forge.experiment}/experiment.json"))
    text = json.dumps(record | {"skill": "other"})
    forge.commit({f"{forge.experiment}/experiment.json": text})


def other_experiments_record(forge: Forge) -> None:
    text = forge.get(f"{forge.experiment}/experiment.json")
    forge.commit({"triage/experiments/000000000000/experiment.json": text})


def other_experiments_trace(forge: Forge) -> None:
    text = forge.get(forge.path("t1.candidate"))
    forge.commit({"triage/experiments/000000000000/traces/t1.candidate.0.json": text})


def no_time(forge: Forge) -> None:
    path = f"{forge.experiment}/experiment.json"
    forge.commit({path: forge.record.with_(started_at="soon").model_dump_json()})


def time_without_a_zone(forge: Forge) -> None:
    path = f"{forge.experiment}/experiment.json"
    record = forge.record.with_(started_at="2026-07-14T09:30:00.000000")
    forge.commit({path: record.model_dump_json()})


def no_trace(forge: Forge) -> None:
    forge.commit({f"{forge.experiment}/traces/t9.json": '{"id": 1}'})


def bomb_in_a_trace(forge: Forge) -> None:
    forge.commit({f"{forge.experiment}/traces/t9.json": "[" * 100_000})


RUN = {
    "skill": "triage",
    "job": "propose",
    "started_at": "2026-07-14T09:30:00.000000+00:00",
    "ended_at": None,
    "ended": None,
    "calls": 0,
    "usd": None,
    "counted": 5.0,
}
RUN_PATH = "triage/runs/20260714T093000000000-propose.json"


def run_of_another_skill(forge: Forge) -> None:
    forge.commit({RUN_PATH: json.dumps(RUN | {"skill": "other"})})


def run_in_another_place(forge: Forge) -> None:
    forge.commit({RUN_PATH: json.dumps(RUN | {"started_at": "2026-06-14T09:30:00.000000+00:00"})})


def run_of_another_job(forge: Forge) -> None:
    forge.commit({RUN_PATH: json.dumps(RUN | {"job": "run"})})


def run_that_quotes(forge: Forge) -> None:
    forge.commit({RUN_PATH: json.dumps(RUN | {"ended": f"would the {SEALED} agree"})})


def run_that_earned(forge: Forge) -> None:
    forge.commit({RUN_PATH: json.dumps(RUN | {"counted": -5.0})})


def run_without_a_number(forge: Forge) -> None:
    forge.commit({RUN_PATH: json.dumps(RUN | {"counted": float("nan")})})


def run_among_the_experiments(forge: Forge) -> None:
    forge.commit({f"{forge.experiment}/runs/20260714T093000000000-propose.json": json.dumps(RUN)})


def decided_already(forge: Forge) -> None:
    result = {
        "experiment": forge.document["experiment"],
        "action": "merge",
        "reason": "improved",
        "detail": "",
        "train": {"incumbent": 0.0, "candidate": 1.0},
        "calls": 0,
        "usd": 0.0,
        "seconds": 0.0,
        "finished_at": "9999-01-01T00:00:00+00:00",
    }
    forge.commit({f"{forge.experiment}/result.json": json.dumps(result)})


PATHS = {
    of_another_skill: "no place of a record",
    at_the_top: "no place of a record",
    workflow: "no place of a record",
    unknown_record: "no place of a record",
    confirmation_on_the_ledger: "no place of a record",
    readme: "README.md",
    executable: "plain files",
    symlink: "plain files",
    submodule: "plain files",
    dot_dot: "cannot be used",
    dot_git: "cannot be used",
    taken_away: "plain files",
    put_back: "no place of a record",
    other_candidate: "not the text its experiment was made for",
    other_incumbent: "not what belongs there",
    other_skills_record: "not what belongs there",
    other_experiments_record: "not what belongs there",
    other_experiments_trace: "not what belongs there",
    no_time: "not what belongs there",
    time_without_a_zone: "not what belongs there",
    no_trace: "is not a Trace",
    bomb_in_a_trace: "is not a Trace",
    run_of_another_skill: "not what belongs there",
    run_in_another_place: "not what belongs there",
    run_of_another_job: "not what belongs there",
    run_that_quotes: "is not a Run",
    run_that_earned: "is not a Run",
    run_without_a_number: "is not a Run",
    run_among_the_experiments: "no place of a record",
    decided_already: "decided already",
}


def held_out_trace(forge: Forge) -> None:
    trace(forge, split="holdout")


def held_out_id(forge: Forge) -> None:
    trace(forge, fixture="h1")


def held_out_input(forge: Forge) -> None:
    trace(forge, fixture_input=f"Would the {SEALED} agree to h1?")


def held_out_digest(forge: Forge) -> None:
    case = space_of(forge.reader).holdout[0].digest
    kept = json.loads(forge.get(forge.path("t1.candidate")))
    trace(forge, key=kept["key"] | {"fixture": case})


def vaulted(forge: Forge) -> None:
    trace(forge, split="vault")


def trace(forge: Forge, **changes: Any) -> None:
    kept = json.loads(forge.get(forge.path("t1.candidate")))
    text = json.dumps(kept | {"id": "x"} | changes)
    forge.commit({f"{forge.experiment}/traces/t9.candidate.0.json": text})


HELD_OUT = dict.fromkeys(
    (held_out_trace, held_out_id, held_out_input, held_out_digest, vaulted), "held-out run"
)


def other_name(forge: Forge) -> None:
    forge.propose_text(EDITED.replace("name: triage", "name: other"))


def hidden_text(forge: Forge) -> None:
    forge.propose_text(f"{EDITED}Rule\u202e beta.\n")


def control_character(forge: Forge) -> None:
    forge.propose_text(f"{EDITED}\x1b[2J\n")


def much_too_long(forge: Forge) -> None:
    forge.propose_text(EDITED + "Rule.\n" * 20_000)


def unchanged(forge: Forge) -> None:
    forge.propose_text(SKILL_TEXT)


def no_text(forge: Forge) -> None:
    forge.commit({f"{forge.experiment}/candidate.txt": "\0"})


def other_id(forge: Forge) -> None:
    forge.manifest(experiment="0" * 64)


def other_candidate_digest(forge: Forge) -> None:
    forge.manifest(candidate="0" * 64)


def no_candidate_digest(forge: Forge) -> None:
    forge.manifest(candidate=None)


def same_start_of_the_id(forge: Forge) -> None:
    forge.manifest(experiment=forge.document["experiment"][:12] + "0" * 52)


CANDIDATES = {
    other_name: "may not be used",
    hidden_text: "invisible character",
    control_character: "control character",
    much_too_long: "characters",
    unchanged: "changes nothing",
    no_text: "NUL",
    other_id: "no such experiment",
    other_candidate_digest: "not the one its manifest names",
    no_candidate_digest: "without its candidate",
    same_start_of_the_id: "not the one its manifest names",
}
PROPOSALS: dict[Callable[[Forge], None], str] = {}
PROPOSALS |= FOLDERS | MANIFESTS | REFS | PATHS | HELD_OUT | CANDIDATES


@pytest.mark.parametrize("spoil", PROPOSALS, ids=lambda one: one.__name__)
def test_a_proposal_that_is_not_as_it_should_be_is_refused(
    forge: Forge, spoil: Callable[[Forge], None]
) -> None:
    """No branch, object or file is there afterwards that was not before."""
    spoil(forge)
    before = kept(forge.reader)

    with pytest.raises(RatchetError) as refused:
        read(forge.reader, forge.folder, "proposal")

    assert PROPOSALS[spoil] in refused.value.message
    assert kept(forge.reader) == before


@pytest.mark.parametrize(
    "spoil",
    [extra_file, unknown_key, bit_flipped, other_history, symlink, held_out_trace, other_name],
    ids=lambda one: one.__name__,
)
def test_what_is_refused_is_not_confirmed(forge: Forge, spoil: Callable[[Forge], None]) -> None:
    """One of each family; before a call, and nothing is handed on."""
    spoil(forge)
    reader = forge.reader
    before = (reader.world(), objects(reader), reader.files())

    done = forge.jobs.confirm(reader)

    assert done.code == ExitCode.ERROR, done.err
    assert PROPOSALS[spoil] in " ".join(done.err.split())
    assert not forge.jobs.at("confirmation").exists()
    if spoil is not other_history:  # for which the ledger that is here is taken up first
        assert reader.branches() == {"main"}
        assert (reader.world(), objects(reader), reader.files()) == before
    reader.assert_sound()


OTHER: dict[str, Any] = {
    "seed": 1,
    "meta_model": None,
    "holdout_digest": "0" * 64,
    "base": "0" * 40,
    "rules": None,
} | dict.fromkeys(("provider", "model", "proposer", "evaluator", "branch"), "other")


@pytest.mark.parametrize("name", Setting.model_fields)
def test_a_bundle_for_something_else_is_refused_by_every_single_difference(
    forge: Forge, name: str
) -> None:
    """Base, config, fixtures, rules and evaluator, each as it is read afresh."""
    setting = forge.document["setting"]
    forge.manifest(setting=setting | {name: OTHER.get(name, "0" * 64)})
    before = kept(forge.reader)

    with pytest.raises(RatchetError) as refused:
        read(forge.reader, forge.folder, "proposal")

    assert ("held-out cases are" if name == "holdout_digest" else name) in refused.value.message
    assert kept(forge.reader) == before


def base_moved(world: World) -> None:
    world.write("README.md", "other\n")


def skill_changed(world: World) -> None:
    world.write(SKILL, f"{SKILL_TEXT}By a person.\n")


def case_changed(world: World) -> None:
    world.write("fixtures/triage/train/t1.yml", json.dumps({"input": "other", "expected": "yes"}))


@pytest.mark.parametrize("change", [base_moved, skill_changed, case_changed])
def test_a_bundle_for_another_commit_is_refused(
    forge: Forge, change: Callable[[World], None]
) -> None:
    """Whatever else agrees, every job works on one commit."""
    change(forge.reader)
    forge.reader.commit("change")

    done = forge.jobs.confirm(forge.reader)

    assert done.code == ExitCode.ERROR
    assert "these differ" in done.err
    assert "base" in done.err


def test_a_bundle_for_another_skill_is_refused(tmp_path: Path) -> None:
    """The command may say which skill it expects."""
    skills = {"triage": {"scorer": "label"}, "other": {"scorer": "label"}}
    jobs = Jobs.make(tmp_path, config={"skills": skills})
    for split in ("train", "holdout"):
        for name in (f"{split}-1", f"{split}-2", f"{split}-3"):
            text = json.dumps({"input": f"{name}?", "expected": "yes"})
            jobs.hub.write(f"fixtures/other/{split}/{name}.yml", text)
    jobs.hub.write("skills/other/SKILL.md", SKILL_TEXT.replace("triage", "other"))
    jobs.hub.commit("two skills")
    jobs.propose(jobs.clone("one"), "proposal", "triage")
    reader = jobs.clone("two")
    folders = ("--bundle", str(jobs.at("proposal")), "--out", str(jobs.at("confirmation")))

    done = reader.ratchet("confirm", "other", *folders)

    assert done.code == ExitCode.ERROR
    assert "something else than other" in done.err
    assert reader.branches() == {"main"}
    assert reader.ratchet("confirm", "triage", *folders).code == ExitCode.DONE


@pytest.mark.parametrize(
    "limits",
    [
        {"manifest": 100},
        {"refs": 1000},
        {"objects": 5},
        {"commits": 1},
        {"records": 3},
        {"record": 2000},
        {"total": 4000},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_every_size_has_its_limit(forge: Forge, limits: dict[str, int]) -> None:
    """And what is within them all is fine."""
    assert read(forge.reader, forge.folder, "proposal").experiment

    with pytest.raises(RatchetError):
        read(forge.reader, forge.folder, "proposal", **limits)


def test_a_bomb_is_not_unpacked(forge: Forge) -> None:
    """A few kilobytes that git would inflate to many megabytes."""
    forge.commit({f"{forge.experiment}/candidate.diff": "0" * 30_000_000})
    assert (forge.folder / "refs.bundle").stat().st_size < 100_000

    with pytest.raises(RatchetError, match="cannot be used"):
        read(forge.reader, forge.folder, "proposal", record=1_000_000)


# What must not get through: older records -----------------------------------------------------


def run_twice_before(jobs: Jobs) -> None:
    """One experiment was rejected and one waits; then the first job has run."""
    first = jobs.clone("first")
    first.run()
    first.run()
    jobs.push(first)
    assert jobs.propose(jobs.clone("one")).verdicts == [("hold", "confirm_open")]
    jobs.clone("two")


@pytest.fixture
def later(after: Callable[..., Jobs]) -> Forge:
    """A proposal bundle on top of a ledger with a rejected, and a waiting, experiment."""
    ideas = [idea(1, "Rule beta."), idea(2, "Rule alpha."), idea(3, "Rule gamma.")]
    right = {"alpha": ("t1", "t2", "t3", "h1", "h2"), "gamma": ("t1", "t2", "t3", "h1", "h2")}
    manual = {"gate": {"merge": "manual"}}
    jobs = after(run_twice_before, model=script(ideas, right=right), config=manual)
    return Forge(jobs, jobs.clone("one"), jobs.clone("two"), jobs.at("proposal"))


def older(forge: Forge, number: int) -> str:
    found = {one.number: one.id for one in forge.maker.ledger().experiments()}
    return f"triage/experiments/{found[number][:12]}"


def rewrite(forge: Forge, path: str, **changes: Any) -> None:
    text = json.dumps(json.loads(forge.get(path)) | changes)
    forge.commit({path: text})


def older_result(forge: Forge) -> None:
    rewrite(forge, f"{older(forge, 1)}/result.json", action="merge", reason="improved")


def older_numbers(forge: Forge) -> None:
    rewrite(forge, f"{older(forge, 2)}/result.json", action="merge", calls=1)


def older_proposal(forge: Forge) -> None:
    rewrite(forge, f"{older(forge, 1)}/experiment.json", number=9)


def older_text(forge: Forge) -> None:
    forge.commit({f"{older(forge, 1)}/candidate.txt": "x\n"})


def older_trace(forge: Forge) -> None:
    rewrite(forge, forge.path(f"{older(forge, 1)}/traces/t1"), model="other")


def trace_of_the_incumbent(forge: Forge) -> None:
    names = forge.maker.git("ls-tree", "-r", "--name-only", LEDGER).split("\n")
    path = next(name for name in names if "/incumbents/" in name and "/traces/t1" in name)
    rewrite(forge, path, model="other")


def proposers_call(forge: Forge) -> None:
    rewrite(forge, forge.path("triage/proposer/001."), model="other")


def new_trace_of_an_older_one(forge: Forge) -> None:
    text = forge.get(forge.path(f"{older(forge, 1)}/traces/t1"))
    forge.commit({f"{older(forge, 1)}/traces/t9.candidate.0.json": text})


def older_run(forge: Forge) -> None:
    """What was spent before was less."""
    names = forge.maker.git("ls-tree", "-r", "--name-only", LEDGER).split("\n")
    path = min(name for name in names if "/runs/" in name)
    rewrite(forge, path, calls=0, usd=0.0, counted=0.0)


OLDER = (
    older_run,
    older_result,
    older_numbers,
    older_proposal,
    older_text,
    older_trace,
    trace_of_the_incumbent,
    proposers_call,
    new_trace_of_an_older_one,
)


@pytest.mark.parametrize("spoil", OLDER, ids=lambda one: one.__name__)
def test_a_record_from_before_may_not_change(later: Forge, spoil: Callable[[Forge], None]) -> None:
    """Neither what was decided nor what was measured."""
    spoil(later)
    before = kept(later.reader)

    with pytest.raises(RatchetError, match="a record from before"):
        read(later.reader, later.folder, "proposal")

    assert kept(later.reader) == before


def test_a_proposal_that_waited_may_turn_out_merged(later: Forge) -> None:
    """That is the one change to an older record; the rest of it is as it was."""
    home = older(later, 2)
    rewrite(later, f"{home}/result.json", action="merge", reason="improved", detail="Merged.")
    identifier = json.loads(later.get(f"{home}/experiment.json"))["id"]
    landing = {"experiment": identifier, "commit": "0" * 40, "branch": "main", "by": ""}
    landing["at"] = "2026-01-01T00:00:00+00:00"
    later.commit({f"{home}/landed.json": json.dumps(landing)})

    checked = read(later.reader, later.folder, "proposal")

    assert checked.experiment
    assert checked.experiment.number == 3


# What must not get through: confirmations -----------------------------------------------------


@pytest.fixture
def confirmed(after: Callable[..., Jobs]) -> Forge:
    """A confirmation bundle that would be accepted."""
    jobs = after(confirmed_too)
    return Forge(jobs, jobs.clone("two"), jobs.clone("three"), jobs.at("confirmation"))


def decision(forge: Forge, **changes: Any) -> None:
    made = document(forge.folder, "verdict.json") | changes
    forge.file("verdict.json", json.dumps(made))


def evidence(forge: Forge, *, kept: bool = False, **changes: Any) -> None:
    """Change the evidence; ``kept`` on the holdout branch as well, with the verdict it has now."""
    old = document(forge.folder, "verdict.json")
    new = bundles.Decision.model_validate(old | {"evidence": old["evidence"] | changes})
    verdict = gate.decide(new.evidence, space_of(forge.reader).policy)
    new = new.with_(verdict=verdict)
    text = json.loads(new.model_dump_json())
    forge.file("verdict.json", json.dumps(text))
    if kept:
        path = f"{forge.experiment}/confirm.json"
        record = json.loads(forge.get(path, HOLDOUT))
        both = {"evidence": text["evidence"], "verdict": text["verdict"]}
        forge.commit({path: json.dumps(record | both)}, ref=HOLDOUT)


def verdict_alone(forge: Forge) -> None:
    verdict = document(forge.folder, "verdict.json")["verdict"]
    decision(forge, verdict=verdict | {"detail": "Trust me."})


def merge_for_a_hold(forge: Forge) -> None:
    made = document(forge.folder, "verdict.json")
    decision(forge, evidence=made["evidence"] | {"held": True})


def unknown_key_in_the_verdict(forge: Forge) -> None:
    decision(forge, released=True)


def other_experiment(forge: Forge) -> None:
    decision(forge, experiment="0" * 64)


def other_text_confirmed(forge: Forge) -> None:
    decision(forge, candidate="0" * 64)


def evidence_of_another(forge: Forge) -> None:
    evidence(forge, experiment="0" * 64)


def measured_elsewhere(forge: Forge) -> None:
    both = document(forge.folder, "verdict.json")["evidence"]["tested"] | {"base": "0" * 40}
    evidence(forge, tested=both, current=both)


def fewer_cases(forge: Forge) -> None:
    evidence(forge, holdout_fixtures=["h1"])


def not_as_recorded(forge: Forge) -> None:
    evidence(forge, age=1.0)


def made_up_runs(forge: Forge) -> None:
    pairs = document(forge.folder, "verdict.json")["evidence"]["confirm"]
    evidence(
        forge, kept=True, confirm=[one | {"candidate_run": f"x{n}"} for n, one in enumerate(pairs)]
    )


def made_up_scores(forge: Forge) -> None:
    pairs = document(forge.folder, "verdict.json")["evidence"]["confirm"]
    evidence(forge, kept=True, confirm=[one | {"incumbent": 0.1} for one in pairs])


def says_it_repeats_nothing(forge: Forge) -> None:
    """As if the same request could get another answer, which changes what the gate asks for."""
    evidence(forge, kept=True, deterministic=False)


def leaks_not_looked_for(forge: Forge) -> None:
    evidence(forge, kept=True, leaks=None)


def swapped_sides(forge: Forge) -> None:
    pairs = document(forge.folder, "verdict.json")["evidence"]["confirm"]
    swapped = [
        one | {"incumbent_run": one["candidate_run"], "candidate_run": one["incumbent_run"]}
        for one in pairs
    ]
    evidence(forge, kept=True, confirm=swapped)


def counted_again(forge: Forge) -> None:
    """Another experiment has the look that this one says is its first."""
    record = json.loads(forge.get(f"{forge.experiment}/confirm.json", HOLDOUT))
    other = record | {"experiment": "0" * 64, "evidence": None, "verdict": None}
    path = "triage/experiments/000000000000/confirm.json"
    forge.commit({path: json.dumps(other)}, ref=HOLDOUT)


def train_run_on_the_holdout(forge: Forge) -> None:
    text = forge.get(forge.path("t1.candidate"))
    forge.commit({f"{forge.experiment}/traces/t1.candidate.0.json": text}, ref=HOLDOUT)


def held_out_run_on_the_ledger(forge: Forge) -> None:
    text = forge.get(forge.path("h1.candidate", HOLDOUT), HOLDOUT)
    forge.commit({f"{forge.experiment}/traces/h1.candidate.0.json": text})


def no_holdout(forge: Forge) -> None:
    refs = forge.document["refs"]
    forge.manifest(refs={LEDGER: refs[LEDGER]})
    forge.pack()


def a_proposal(forge: Forge) -> None:
    forge.manifest(kind="proposal")


def other_holdout(forge: Forge) -> None:
    forge.manifest(setting=forge.document["setting"] | {"holdout_digest": "0" * 64})


CONFIRMATIONS: dict[Callable[[Forge], None], str] = {
    verdict_alone: "not what the gate says",
    merge_for_a_hold: "not what the gate says",
    unknown_key_in_the_verdict: "verdict.json is wrong",
    other_experiment: "another experiment",
    other_text_confirmed: "another experiment",
    evidence_of_another: "another experiment",
    measured_elsewhere: "something else",
    fewer_cases: "something else",
    not_as_recorded: "not the one its holdout branch records",
    made_up_runs: "not on record",
    made_up_scores: "not on record",
    swapped_sides: "not on record",
    says_it_repeats_nothing: "repeat",
    leaks_not_looked_for: "held-out text",
    counted_again: "miscounts",
    train_run_on_the_holdout: "train run",
    held_out_run_on_the_ledger: "held-out run",
    no_holdout: "not the one its holdout branch records",
    a_proposal: "a confirmation bundle is needed",
    other_holdout: "holdout_digest",
}


@pytest.mark.parametrize("spoil", CONFIRMATIONS, ids=lambda one: one.__name__)
def test_a_confirmation_that_is_not_as_it_should_be_is_refused(
    confirmed: Forge, spoil: Callable[[Forge], None]
) -> None:
    """The verdict is what the gate says, over runs that are on record."""
    spoil(confirmed)
    before = kept(confirmed.reader)

    with pytest.raises(RatchetError) as refused:
        read(confirmed.reader, confirmed.folder)

    assert CONFIRMATIONS[spoil] in refused.value.message
    assert kept(confirmed.reader) == before


def test_held_out_text_in_a_candidate_is_looked_for_again(tmp_path: Path) -> None:
    """Whatever the bundle says of it: the job that may merge has the cases itself."""
    leak = f"Rule alpha. Would the {SEALED} agree to h1?"
    jobs = Jobs.make(tmp_path, model=script([idea(1, leak)]))
    assert jobs.propose(jobs.clone("one")).code == 0
    told = jobs.confirm(jobs.clone("two"))
    assert told.json["reason"] == "leaks_holdout", told.err
    forge = Forge(jobs, jobs.clone("two"), jobs.clone("three"), jobs.at("confirmation"))
    assert read(forge.reader, forge.folder).decision
    evidence(forge, kept=True, leaks=[])

    with pytest.raises(RatchetError, match="held-out text") as refused:
        read(forge.reader, forge.folder)

    assert SEALED not in refused.value.message


def test_a_branch_that_moved_after_the_check_is_not_overwritten(confirmed: Forge) -> None:
    """Both branches move, or neither."""
    reader = confirmed.reader
    checked = read(reader, confirmed.folder)
    reader.git("update-ref", HOLDOUT, "main")

    with pytest.raises(RatchetError):
        bundles.apply(checked, space_of(reader))

    assert reader.branches() == {"main", "ratchet/holdout"}
    assert reader.tip(HOLDOUT) == reader.tip("main")


def test_what_was_checked_is_what_is_used(confirmed: Forge) -> None:
    """Whatever becomes of the folder in between."""
    checked = read(confirmed.reader, confirmed.folder)
    shutil.rmtree(confirmed.folder)

    bundles.apply(checked, space_of(confirmed.reader))

    assert confirmed.reader.tip(LEDGER) == confirmed.maker.tip(LEDGER)


# What others wrote meanwhile ------------------------------------------------------------------


def begun(jobs: Jobs) -> None:
    """Something is on both branches before; the second job has run, in a clone that took it up."""
    first = jobs.clone("first")
    first.ratchet("eval")
    Meanwhile.write(first, HOLDOUT, "other/experiments/aaaaaaaaaaaa/confirm.json")
    jobs.push(first)
    not_begun(jobs)


def not_begun(jobs: Jobs) -> None:
    """The same where neither branch was there."""
    reader = jobs.clone("reader")
    confirmed_too(jobs)
    access.adopt(repository.open_project(reader.path))


class Meanwhile:
    """A confirmation bundle, and a clone whose ledger goes on from the same commits."""

    def __init__(self, jobs: Jobs) -> None:
        self.reader, self.maker = jobs.clone("reader"), jobs.clone("two")
        self.forge = Forge(jobs, self.maker, self.reader, jobs.at("confirmation"))

    @staticmethod
    def write(world: World, ref: str, *paths: str, text: str = "{}\n") -> None:
        branch = GitRef(world.path / ".git", ref)
        files = dict.fromkeys(paths, text)
        branch.commit(files, message="other: x", at=0, onto=branch.tip())

    def files(self, world: World, ref: str) -> dict[str, str]:
        listed = world.git("ls-tree", "-r", ref).split("\n")
        return {line.split("\t")[1]: line.split()[2] for line in listed}

    def read(self) -> bundles.Checked:
        return read(self.reader, self.forge.folder)


ELSEWHERE = {
    LEDGER: ("other/experiments/bbbbbbbbbbbb/result.json", "triage2/runs/x-run.json"),
    HOLDOUT: ("other/experiments/bbbbbbbbbbbb/confirm.json",),
}


@pytest.mark.parametrize("start", [begun, not_begun])
@pytest.mark.parametrize("moved", [(LEDGER,), (HOLDOUT,), (LEDGER, HOLDOUT), ()], ids=len)
def test_what_others_wrote_meanwhile_stays_and_the_bundle_goes_on_top(
    after: Callable[..., Jobs], start: Callable[[Jobs], None], moved: tuple[str, ...]
) -> None:
    """On either branch or both, also where neither was there; every check is made as ever."""
    meanwhile = Meanwhile(after(start))
    reader, maker = meanwhile.reader, meanwhile.maker
    for ref in moved:
        meanwhile.write(reader, ref, *ELSEWHERE[ref])
    here = {ref: (reader.tip(ref), meanwhile.files(reader, ref)) for ref in moved}

    checked = meanwhile.read()
    bundles.apply(checked, space_of(reader))

    assert checked.decision
    for ref in (LEDGER, HOLDOUT):
        if ref not in moved:
            assert reader.tip(ref) == maker.tip(ref)
            continue
        tip, files = here[ref]
        assert reader.git("rev-parse", f"{ref}^") == tip
        assert meanwhile.files(reader, ref) == meanwhile.files(maker, ref) | files
        assert reader.git("log", "-1", "--format=%an <%ae>|%cn <%ce>|%s", ref) == (
            f"{AUTHOR}|{AUTHOR}|triage: published"
        )
    assert [look.attempt for look in reader.ledger().confirmations()] == [1]
    reader.assert_sound()


def test_a_bundle_that_was_put_on_top_is_recognised(after: Callable[..., Jobs]) -> None:
    """Also after its records went on, and others' were written again."""
    meanwhile = Meanwhile(after(begun))
    reader = meanwhile.reader
    for ref in (LEDGER, HOLDOUT):
        meanwhile.write(reader, ref, *ELSEWHERE[ref])
    bundles.apply(meanwhile.read(), space_of(reader))
    tips = [reader.tip(ref) for ref in (LEDGER, HOLDOUT)]

    assert meanwhile.read().moves == {}
    experiment = reader.only()
    result = reader.ledger().results()[experiment.id]
    reader.ledger().add_result(result.with_(action="merge", reason="improved", detail="Merged."))
    reader.ledger().flush("triage: merged")
    meanwhile.write(reader, HOLDOUT, "other/experiments/cccccccccccc/confirm.json")
    later = [reader.tip(ref) for ref in (LEDGER, HOLDOUT)]
    again = meanwhile.read()
    bundles.apply(again, space_of(reader))

    assert again.moves == {}
    assert later != tips
    assert [reader.tip(ref) for ref in (LEDGER, HOLDOUT)] == later
    assert reader.ledger().results()[experiment.id].action == "merge"


def test_a_note_and_a_run_on_the_skill_itself_are_in_nobodys_way(
    after: Callable[..., Jobs],
) -> None:
    """A person may speak while a run is under way; no number depends on what is said."""
    meanwhile = Meanwhile(after(begun))
    paths = ("triage/notes/0123456789ab.json", "triage/runs/20990101T000000000000-gate.json")
    meanwhile.write(meanwhile.reader, LEDGER, *paths)

    bundles.apply(meanwhile.read(), space_of(meanwhile.reader))

    assert set(paths) < meanwhile.files(meanwhile.reader, LEDGER).keys()


def look_of_the_skill(meanwhile: Meanwhile) -> None:
    """The bundle's number of looks would go back to what it was before this one."""
    meanwhile.write(meanwhile.reader, HOLDOUT, "triage/experiments/bbbbbbbbbbbb/confirm.json")


def other_experiment_of_the_skill(meanwhile: Meanwhile) -> None:
    meanwhile.write(meanwhile.reader, LEDGER, "triage/experiments/bbbbbbbbbbbb/result.json")


def same_experiment(meanwhile: Meanwhile) -> None:
    meanwhile.write(meanwhile.reader, LEDGER, f"{meanwhile.forge.experiment}/result.json")


def kept_run_of_the_skill(meanwhile: Meanwhile) -> None:
    meanwhile.write(meanwhile.reader, LEDGER, "triage/incumbents/bbbbbbbbbbbb/traces/t1.0.x.json")


def one_branch_alone(meanwhile: Meanwhile) -> None:
    """The ledger could be joined; the holdout cannot."""
    meanwhile.write(meanwhile.reader, LEDGER, *ELSEWHERE[LEDGER])
    look_of_the_skill(meanwhile)


def others_in_the_bundle(meanwhile: Meanwhile) -> None:
    meanwhile.write(meanwhile.reader, LEDGER, *ELSEWHERE[LEDGER])
    meanwhile.forge.commit({"other/experiments/bbbbbbbbbbbb/candidate.txt": "x"})


def others_looks_in_the_bundle(meanwhile: Meanwhile) -> None:
    meanwhile.write(meanwhile.reader, HOLDOUT, *ELSEWHERE[HOLDOUT])
    path = "other/experiments/aaaaaaaaaaaa/confirm.json"
    meanwhile.forge.commit({path: "[]\n"}, ref=HOLDOUT)


def a_name_that_begins_alike(meanwhile: Meanwhile) -> None:
    meanwhile.write(meanwhile.reader, LEDGER, *ELSEWHERE[LEDGER])
    meanwhile.forge.commit({"triage2/runs/x-run.json": "{}"})


def same_run(meanwhile: Meanwhile) -> None:
    """Two records of one run, of which neither is the later."""
    paths = meanwhile.files(meanwhile.maker, LEDGER)
    path = next(path for path in paths if path.endswith("-confirm.json"))
    meanwhile.write(meanwhile.reader, LEDGER, path)


def forgets_the_fork(meanwhile: Meanwhile) -> None:
    """A history of its own, as if there had been nothing before."""
    maker = meanwhile.maker
    meanwhile.write(meanwhile.reader, LEDGER, *ELSEWHERE[LEDGER])
    tree = maker.git("rev-parse", f"{LEDGER}^{{tree}}")
    meanwhile.forge.onto(tree)


def joins_it_itself(meanwhile: Meanwhile) -> None:
    """A commit with what is here as a second parent."""
    maker, reader = meanwhile.maker, meanwhile.reader
    meanwhile.write(reader, LEDGER, *ELSEWHERE[LEDGER])
    maker.git("fetch", "--quiet", str(reader.path), f"{LEDGER}:refs/heads/theirs")
    tree = maker.git("rev-parse", f"{LEDGER}^{{tree}}")
    meanwhile.forge.onto(tree, LEDGER, "theirs")


OVERLAPS: dict[Callable[[Meanwhile], None], str] = {
    look_of_the_skill: "does not go on from where",
    other_experiment_of_the_skill: "does not go on from where",
    same_experiment: "does not go on from where",
    kept_run_of_the_skill: "does not go on from where",
    one_branch_alone: "does not go on from where",
    others_in_the_bundle: "no place of a record",
    others_looks_in_the_bundle: "no place of a record",
    a_name_that_begins_alike: "no place of a record",
    same_run: "Two jobs changed",
    forgets_the_fork: "does not go on from where",
    joins_it_itself: "does not go on from where",
}


@pytest.mark.parametrize("spoil", OVERLAPS, ids=lambda one: one.__name__)
def test_two_jobs_on_one_skill_are_not_joined(
    after: Callable[..., Jobs], spoil: Callable[[Meanwhile], None]
) -> None:
    """Neither branch moves, whichever of them it is about."""
    meanwhile = Meanwhile(after(begun))
    spoil(meanwhile)
    reader = meanwhile.reader
    before = reader.world()

    with pytest.raises(RatchetError, match=OVERLAPS[spoil]):
        bundles.apply(meanwhile.read(), space_of(reader))

    assert reader.world() == before
    reader.assert_sound()


@pytest.mark.parametrize(
    ("ref", "path", "joined"),
    [
        (LEDGER, "other/experiments/bbbbbbbbbbbb/result.json", True),
        (LEDGER, "triage/notes/0123456789ab.json", True),
        (LEDGER, "triage/experiments/bbbbbbbbbbbb/landed.json", True),
        (LEDGER, "triage/experiments/aaaaaaaaaaaa/result.json", False),
        (HOLDOUT, "other/experiments/bbbbbbbbbbbb/confirm.json", True),
        (HOLDOUT, "triage/experiments/bbbbbbbbbbbb/confirm.json", False),
    ],
)
def test_what_is_pushed_goes_on_top_of_what_was_pushed_meanwhile(
    tmp_path: Path, ref: str, path: str, *, joined: bool
) -> None:
    """Other records of the skill too, unless both have the same one, or both have looked."""
    jobs = Jobs.make(tmp_path)
    ours, theirs = jobs.clone("ours"), jobs.clone("theirs")
    own = {LEDGER: "result", HOLDOUT: "confirm"}[ref]
    Meanwhile.write(ours, ref, f"triage/experiments/aaaaaaaaaaaa/{own}.json")
    Meanwhile.write(theirs, ref, path, text="[]\n")
    jobs.push(theirs)
    before = jobs.hub.tip(ref)
    project = repository.open_project(ours.path)

    if not joined:
        with pytest.raises(RatchetError, match="Two jobs changed"):
            remote.push_ledger(project, skill="triage")
        assert jobs.hub.tip(ref) == before
        return
    for _ in range(2):
        remote.push_ledger(project, skill="triage")

    assert jobs.hub.git("rev-parse", f"{ref}^") == before
    names = jobs.hub.git("ls-tree", "-r", "--name-only", ref).split("\n")
    assert names == sorted([f"triage/experiments/aaaaaaaaaaaa/{own}.json", path])


def test_the_identity_of_the_forged_commits_is_the_bots() -> None:
    """Or the tables above would test something else."""
    name, email = BOTS["GIT_AUTHOR_NAME"], BOTS["GIT_AUTHOR_EMAIL"]
    assert f"{name} <{email}>" == AUTHOR
    former = "Ratchet <ratchet@users.noreply.github.com>"
    assert {AUTHOR, former} == AUTHORS, "a ledger of the version before is read, too"
    assert workspace.text_of("x").digest == digest("skill", "x")
