"""A secret that comes in from every side is in nothing that the commands write, print or send."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest

from skill_ratchet.base.errors import ExitCode
from skill_ratchet.experiment import jobs
from skill_ratchet.providers.scripted import Scripted
from stage import comment_event, staging
from world import SKILL, SKILL_TEXT, World, idea, script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fakehub import FakeHub
    from skill_ratchet.core.records import Reply, Request
    from stage import Stage
    from world import Ran


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the environment's, made anew each time, with all that an encoding may change."""
    made = f'{os.urandom(6).hex()}/"+& é\\{os.urandom(6).hex()}'
    monkeypatch.setenv("ANTHROPIC_API_KEY", made)
    return made


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A project on GitHub, and the files that an Action's step writes to."""
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with staging(tmp_path, monkeypatch) as build:
        yield build(model=script([idea(1, "Rule alpha.")]))


def spellings(secret: str) -> list[bytes]:
    """As it is, and as URLs, JSON and base64 write it, whatever stands before it."""
    data = secret.encode()
    plain = {secret, quote(secret, safe=""), quote_plus(secret)}
    plain |= {json.dumps(secret, ensure_ascii=ascii_)[1:-1] for ascii_ in (True, False)}
    plain |= {json.dumps(one)[1:-1] for one in tuple(plain)}
    coded = [base64.b64encode(b"x" * before + data)[4:-4] for before in range(3)]
    halves = [data[:12], data[-12:]]  # the two random parts, in whatever spelling
    return [one.encode() for one in plain] + coded + halves


def babble(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """Have the model repeat it in everything but an answer that is right."""
    real = Scripted.complete

    async def complete(model: Scripted, request: Request) -> Reply:
        reply = await real(model, request)
        said = reply.text or ""
        inside = f"{json.dumps(secret)[1:-1]} idea"
        told = said.replace("idea", inside) if "idea" in said else f"{said} {secret}"
        return reply.with_(
            text=said if said == "yes" else told,
            response={"thinking": secret, "quoted": json.dumps({"key": secret})},
        )

    monkeypatch.setattr(Scripted, "complete", complete)


def written(*folders: Path) -> bytes:
    """Every file, and every object of every repository, in these folders."""
    parts = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                parts.append(path.read_bytes())
            if path.name in ("objects", "quarantine") and (path.parent / "HEAD").exists():
                command = [
                    "git",
                    "-C",
                    str(path.parent),
                    "cat-file",
                    "--batch-all-objects",
                    "--batch",
                ]
                parts.append(subprocess.run(command, check=True, capture_output=True).stdout)
    return b"\n".join(parts)


def nowhere(secret: str, ran: list[Ran], hub: FakeHub, *folders: Path) -> None:
    """It was redacted in what was said and written, and is not in what was sent either."""
    assert [one.err for one in ran if one.code == ExitCode.BUG] == []
    said = "".join(one.out + one.err for one in ran).encode()
    sent = json.dumps([[one.path, one.query, one.request] for one in hub.exchanges]).encode()
    kept = written(*folders)
    assert b"[redacted:ANTHROPIC_API_KEY]" in kept
    for place, text in {"said": said, "sent": sent, "written": kept}.items():
        assert [one for one in spellings(secret) if one in text] == [], place


MEASURING = [
    ("check", "--noise"),
    ("eval", "--json"),
    ("eval", "--split", "holdout"),
    ("run", "--json", "--attempts", "1"),
    ("run", "--attempts", "2"),
]
SHOWING = [
    ("log",),
    ("log", "--json"),
    ("show",),
    ("looks", "--json"),
    ("explain", "1"),
    ("explain", "2", "--json"),
    ("forget", "t1", "--json"),
    ("revert", "1"),
    ("init",),
]


def test_a_secret_of_the_environment_is_nowhere(
    stage: Stage, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in a git object, a journal, a bundle, an output, a page, a request, or on the screen."""
    babble(monkeypatch, secret)
    world = stage.job("local")
    log = tmp_path / "log.csv"
    log.write_text(f'input,expected\n"Who has {secret.replace(chr(34), chr(34) * 2)}?",yes\n')
    ran = [world.ratchet(*command) for command in MEASURING]
    traces = [
        one.id for split in ("train", "holdout") for one in world.ledger().traces(split=split)
    ]
    assert len(traces) > 10
    ran += [world.ratchet("trace", name) for name in traces]
    ran += [world.ratchet("export", "--out", str(tmp_path / "exported.yml"))]
    ran += [world.ratchet("import", str(log), "--json")]
    shards = ("eval", "--split", "holdout", "--shard", "1/1", "--out", str(tmp_path / "parts/1"))
    handed = [
        world.ratchet(*shards),
        world.ratchet(*shards[:3], "--from-shards", str(tmp_path / "parts")),
    ]
    assert [one.code for one in handed] == [ExitCode.DONE] * 2
    ran += handed
    ran += [world.ratchet(*command) for command in SHOWING]
    log.unlink()  # this one had it
    assert stage.decide()["action"] == "merge"
    ran += [stage.publish(), stage.job("again").ratchet("publish", "--bundles", str(tmp_path))]

    assert stage.hub.issue(1).title.startswith("triage: (redacted:ANTHROPIC_API_KEY) idea 1")
    assert "[redacted:ANTHROPIC_API_KEY]" in "".join(one.out for one in ran)
    nowhere(secret, ran, stage.hub, tmp_path)


PULL = 1
HELD = f"{SKILL_TEXT}Rule alpha.\n"


@dataclass
class People:
    """What people start on GitHub, with the secret in all that they may write."""

    stage: Stage
    secret: str
    monkeypatch: pytest.MonkeyPatch
    ran: list[Ran]

    def job(self, *args: str) -> Ran:
        """A job of a workflow, in a clone of its own."""
        self.ran.append(self.stage.job(f"job{len(self.ran)}").ratchet(*args))
        return self.ran[-1]

    def says(self, words: str) -> Ran:
        """A comment, and its job."""
        hub, event = self.stage.hub, self.stage.folder / "event.json"
        event.write_text(json.dumps(comment_event(hub, hub.person_comments("octo", PULL, words))))
        self.monkeypatch.setenv("GITHUB_EVENT_NAME", "issue_comment")
        ran = self.job("command", "--json", "--event", str(event))
        event.unlink()  # GitHub's own, which has it
        return ran


def test_a_secret_is_nowhere_either_in_what_people_start(
    stage: Stage, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests of pull requests, comments, transfers, corrections, and the report of it all."""
    babble(monkeypatch, secret)
    people, hub = People(stage, secret, monkeypatch, []), stage.hub
    sha = hub.person_pushes("octo", "edit", {SKILL: HELD})
    assert hub.person_opens_pull("octo", head="edit", title=f"Better {secret}") == PULL
    tested = str(tmp_path / "tested")
    assert people.job("gate", str(PULL), sha, "--out", tested).code == ExitCode.DONE
    assert people.job("gate", str(PULL), sha, "--bundle", tested).code == ExitCode.DONE
    for words in COMMENTS:
        assert people.says(words.replace("{}", secret)).code == ExitCode.DONE
    models = ("--models", "a,b", "--from", hub.tip("main") or "", "--to", sha)
    bundle = str(tmp_path / "transferred")
    assert people.job("transfer", "--out", bundle, *models).code == ExitCode.DONE
    asked = f"{PULL}/{hub.person_comments('octo', PULL, '/ratchet transfer a,b')}"
    assert people.job("transfer", "--bundle", bundle, "--reply", asked).code == ExitCode.DONE
    world = stage.job("local")
    people.ran += [
        world.ratchet("fetch"),
        world.ratchet("eval"),
        world.ratchet("correct", "--input", secret, "--expected", "yes", "--why", secret),
        world.ratchet("report", "--with-holdout", "--out", str(tmp_path / "report")),
    ]
    people.job("publish", "--bundles", str(tmp_path / "none"))
    assert [one.err for one in people.ran if one.code] == []

    hub_said = [one.body.encode() for one in hub.comments(PULL) if one.user.kind == "Bot"]
    assert len(hub_said) == len(COMMENTS) + 2
    nowhere(secret, people.ran, hub, tmp_path)


COMMENTS = (
    "/ratchet explain",
    "/ratchet reject {}",
    "/ratchet run {}",
    "/ratchet transfer {}",
    "/ratchet status {}",
    "/ratchet {}",
    "/ratchet correct triage\nInput: Is my card {} gone?\nAnswered: no\nExpected: yes\nWhy: {}",
)


def test_an_error_does_not_tell_it(
    stage: Stage, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a model's error, nor the report of a defect."""
    world = stage.job("local")

    async def fail(*_: Any) -> Reply:
        from skill_ratchet.core.records import Reply  # noqa: PLC0415

        return Reply(error=f"401: the key {secret} is not valid")

    monkeypatch.setattr(Scripted, "complete", fail)
    ran = [world.ratchet("eval", "--json"), world.ratchet("run", "--json"), world.ratchet("eval")]

    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError(secret, {"key": secret})

    monkeypatch.setattr(jobs, "improve", crash)
    ran.append(world.ratchet("run", "--json"))

    assert [one.code for one in ran[:3]] == [ExitCode.ERROR] * 3
    assert ran[3].code == ExitCode.BUG
    told = "".join(one.out + one.err for one in ran).encode() + written(world.path)
    assert [one for one in spellings(secret) if one in told] == []
    assert b"[redacted:ANTHROPIC_API_KEY]" in told


@pytest.mark.parametrize("args", [("fetch",), ("publish", "--json"), ("run", "--json")])
def test_a_password_in_the_remotes_address_is_not_told(
    stage: Stage, args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it cannot be reached either; the address stays where the user has put it."""
    world = stage.job("local")
    password = os.urandom(12).hex()
    away = f"http://bot:{password}@127.0.0.1:9/octo/demo.git"
    monkeypatch.delenv("GITHUB_TOKEN")
    monkeypatch.setenv("GITHUB_TOKEN", stage.token)
    world.git("remote", "set-url", "origin", away)

    ran = world.ratchet(*args)

    config = world.path / ".git/config"
    text = config.read_text()
    config.write_text("")
    told = (ran.out + ran.err).encode() + written(world.path / ".git")
    config.write_text(text)
    assert ran.code != ExitCode.BUG, ran.err
    assert [one for one in spellings(password) if one in told] == []


# What is held out -----------------------------------------------------------------------------

CANARY = "quokka"  # in every value of the held-out cases, and nowhere else
HARNESS = """\
#!/usr/bin/env python3
import json, sys
case = json.load(sys.stdin)["input"]
if "quokka" in case:
    sys.exit(f"cannot answer: {case}")
print("yes")
"""
SCORER = """\
#!/usr/bin/env python3
import os, sys
case = open(os.environ["RATCHET_FIXTURE"]).read()
sys.exit(case if "quokka" in case else 0)
"""
SEALED = {"input": f"Would the {CANARY} agree to h1?", "expected": f"{CANARY} yes"}
FAULTS = {
    "a label that is none": json.dumps(SEALED),
    "a key that is none": json.dumps({"input": "x", f"{CANARY} says": 1}),
    "not YAML": f"input: {{'{CANARY}' {CANARY}: [\n",
    "a tag": f"input: !{CANARY} 'x'\n",
    "a key twice": f"{CANARY}: 1\n{CANARY}: 2\n",
    "an alias": f"input: *{CANARY}\n",
    "an escape": f'input: "\\{CANARY}"\n',
    "a type": json.dumps({"input": {CANARY: CANARY}, "expected": CANARY}),
    "an id of another": json.dumps(SEALED | {"id": f"{CANARY}-1"}),
    "a scorer": json.dumps(SEALED | {"scorer": {"type": CANARY}}),
    "an option": json.dumps(SEALED | {"scorer": {"type": "label", "labels": CANARY}}),
    "a pattern": json.dumps(SEALED | {"scorer": "regex", "expected": f"({CANARY}"}),
    "a field": json.dumps(SEALED | {"scorer": {"type": "json", "fields": ["a"]}}),
}


@pytest.fixture
def in_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workflow's step: whatever is printed, annotated or summed up is public."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    return summary


def in_public(ran: list[Ran], summary: Path) -> str:
    """All that anybody can read of these commands."""
    page = summary.read_text() if summary.exists() else ""
    return "".join(one.out + one.err for one in ran) + page


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_held_out_case_quotes_nothing_of_it(
    fault: str, tmp_path: Path, in_actions: Path
) -> None:
    """The error names the file, and where there is one the line; the value is for its owner."""
    settings = {"skills": {"triage": {"scorer": {"type": "label", "labels": ["yes", "no"]}}}}
    world = World.make(tmp_path / "p", config=settings)
    world.write("fixtures/triage/holdout/h3.yml", FAULTS[fault])
    if fault == "an id of another":
        world.write("fixtures/triage/holdout/h4.yml", FAULTS[fault])
    world.commit("a faulty case")
    ran = [world.ratchet("check"), world.ratchet("run", "--json")]
    assert [one.code for one in ran] != [ExitCode.DONE] * 2
    assert ExitCode.BUG not in [one.code for one in ran]
    assert CANARY not in in_public(ran, in_actions)
    assert all("h3" in one.err or "h4" in one.err for one in ran if one.code), ran


@pytest.mark.parametrize("part", ["harness", "scorer"])
def test_a_program_that_repeats_its_case_is_not_repeated(
    part: str, tmp_path: Path, in_actions: Path
) -> None:
    """A harness writes the case to stderr and fails, a scorer's program crashes on it."""
    command = {"type": "command", "command": ["python3", f"{part}.py"]}
    harness = {"provider": command, "meta": {"proposer": "examples"}}
    settings: dict[str, Any] = (
        harness if part == "harness" else {"skills": {"triage": {"scorer": command}}}
    )
    world = World.make(tmp_path / "p", config=settings, model=script([idea(1, "Rule alpha.")]))
    world.write(f"{part}.py", HARNESS if part == "harness" else SCORER)
    for name in ("h1", "h2"):
        world.write(
            f"fixtures/triage/holdout/{name}.yml",
            json.dumps(SEALED | {"input": f"{CANARY} {name}"}),
        )
        world.write(
            f"fixtures/triage/vault/{name}v.yml",
            json.dumps(SEALED | {"input": f"{CANARY} {name} v"}),
        )
    world.commit("programs")
    ran = [
        world.ratchet("check"),
        world.ratchet("eval", "--split", "holdout"),
        world.ratchet("eval", "--split", "holdout", "--json"),
        world.ratchet("audit"),
        world.ratchet("run", "--json", "--attempts", "1"),
        world.ratchet("log"),
        world.ratchet("status"),
    ]
    assert CANARY not in in_public(ran, in_actions)
    assert ExitCode.BUG not in [one.code for one in ran]
    kept = "".join(one.model_dump_json() for one in world.ledger().traces(split="holdout"))
    assert CANARY in kept  # it is on record for the owner, whole


def test_a_defect_does_not_quote_a_held_out_case(
    tmp_path: Path, in_actions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception's words may be a case's; in a workflow its kind and its place are told."""
    world = World.make(tmp_path / "p")

    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"no score for {CANARY}") from KeyError(CANARY)

    monkeypatch.setattr(jobs, "improve", crash)
    ran = [world.ratchet("run", "--json")]
    assert ran[0].code == ExitCode.BUG
    assert CANARY not in in_public(ran, in_actions)
    assert "KeyError" in ran[0].err
    assert "RuntimeError" in ran[0].err
