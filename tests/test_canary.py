"""A secret that comes in from every side is in nothing that the commands write, print or send."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
from stage import staging
from world import idea, script

from bot import running
from bot.errors import ExitCode
from bot.providers.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stage import Stage

    from bot.core.records import Reply, Request


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

    assert [one.err for one in ran if one.code == ExitCode.BUG] == []
    assert stage.hub.issue(1).title.startswith("triage: [redacted:ANTHROPIC_API_KEY] idea 1")
    said = "".join(one.out + one.err for one in ran).encode()
    sent = json.dumps([[one.path, one.query, one.request] for one in stage.hub.exchanges]).encode()
    kept = written(tmp_path)
    assert b"[redacted:ANTHROPIC_API_KEY]" in kept
    assert b"[redacted:ANTHROPIC_API_KEY]" in said
    for place, text in {"said": said, "sent": sent, "written": kept}.items():
        assert [one for one in spellings(secret) if one in text] == [], place


def test_an_error_does_not_tell_it(
    stage: Stage, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a model's error, nor the report of a defect."""
    world = stage.job("local")

    async def fail(*_: Any) -> Reply:
        from bot.core.records import Reply  # noqa: PLC0415

        return Reply(error=f"401: the key {secret} is not valid")

    monkeypatch.setattr(Scripted, "complete", fail)
    ran = [world.ratchet("eval", "--json"), world.ratchet("run", "--json"), world.ratchet("eval")]

    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError(secret, {"key": secret})

    monkeypatch.setattr(running, "improve", crash)
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
