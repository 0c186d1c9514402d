"""What a page shows of a model call, and the files that its data are in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.core.records import Reply, RolloutKey, Score, Trace, Usage, digest
from skill_ratchet.report.conversation import Block, blocks, facts
from skill_ratchet.report.site import html, traces
from world import SEALED, World, idea, script

if TYPE_CHECKING:
    from pathlib import Path

OWNER = digest("experiment")


def make_trace(number: int = 1, *, owner: str = OWNER, **changes: Any) -> Trace:
    key = RolloutKey(
        skill=digest("s"),
        fixture=digest("f"),
        model=digest("m"),
        replicate=number,
        experiment=owner,
    )
    fields: dict[str, Any] = {
        "id": f"run-{number}",
        "key": key,
        "skill": "triage",
        "fixture": "late-parcel",
        "side": "candidate",
        "model": "m",
        "provider": "scripted",
        "started_at": "2026-01-01T00:00:00Z",
        "reply": Reply(text="yes"),
    }
    return Trace(**fields | changes)


def said(reply: Reply, **changes: Any) -> list[tuple[str, str, str, str]]:
    """Role, kind, name and text of each block that a page shows."""
    found = blocks(make_trace(reply=reply, **changes))
    return [(one.role, one.kind, one.name, one.text) for one in found if not one.aside]


# Blocks ---------------------------------------------------------------------------------------


def test_a_call_of_the_messages_api() -> None:
    """System text, every block of every message, the answer's, in their order."""
    request = {
        "system": [{"type": "text", "text": "Sort.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "read", "input_schema": {}}],
        "messages": [
            {"role": "user", "content": "Which?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                    {"type": "tool_use", "id": "1", "name": "read", "input": {"n": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": "one"},
                    {"type": "tool_result", "is_error": True, "content": [{"type": "text"}]},
                    {"type": "image", "source": {"data": "aGk="}},
                ],
            },
        ],
    }
    response = {
        "content": [
            {"type": "redacted_thinking", "data": "c2Vh"},
            {"type": "text", "text": "yes", "citations": [{"at": 1}]},
        ]
    }
    found = said(Reply(text="yes", request=request, response=response))
    assert found == [
        ("system", "text", "", "Sort."),
        ("system", "tools", "read", json.dumps(request["tools"], indent=2)),
        ("user", "text", "", "Which?"),
        ("assistant", "thinking", "", "hm"),
        ("assistant", "tool call", "read", '{\n  "n": 1\n}'),
        ("tool", "tool result", "", "one"),
        ("tool", "failed tool result", "", '{\n  "type": "text"\n}'),
        ("user", "image", "", json.dumps({"type": "image", "source": {"data": "aGk="}}, indent=2)),
        ("assistant", "redacted thinking", "", "c2Vh"),
        # It says more than its text, so it is shown whole.
        ("assistant", "text", "", json.dumps(response["content"][1], indent=2)),
    ]


def test_a_call_of_the_embedded_model() -> None:
    """Its prompt is one text."""
    reply = Reply(text="yes", request={"prompt": "<sys>Sort."}, response={"text": "yes"})
    assert said(reply) == [("user", "prompt", "", "<sys>Sort."), ("assistant", "text", "", "yes")]


def test_a_command() -> None:
    """What it was given, and all that it wrote; its standard output is its answer."""
    body = {"exit_status": 0, "stdout": "yes\n", "stderr": "note", "trace": '{"steps": []}'}
    assert said(Reply(text="yes", response=body), fixture_input="Which?") == [
        ("user", "text", "", "Which?"),
        ("assistant", "text", "", "yes"),
        ("program", "stderr", "", "note"),
        ("program", "trace", "", '{"steps": []}'),
    ]


def test_a_command_that_failed() -> None:
    """Its standard output is no answer, and is shown."""
    body = {"exit_status": 1, "stdout": "half", "stderr": "", "trace": {"base64": "/w=="}}
    trace = make_trace(reply=Reply(error="it ended with 1", response=body))
    assert [one for one in blocks(trace) if not one.aside] == [
        Block(part="came back", role="program", kind="stdout", text="half"),
        Block(part="came back", role="program", kind="trace", text='{\n  "base64": "/w=="\n}'),
    ]
    assert facts(trace)["Error"] == "it ended with 1"


@pytest.mark.parametrize(
    "body",
    [
        None,
        "a proxy's page",
        [1],
        {"messages": "x", "system": 1, "tools": {"a": 1}},
        {"messages": [1, None, {"role": 3, "content": 4}, {"content": [None, 5, {"type": 6}]}]},
        {"content": "x", "prompt": 7},
        {"messages": [{"content": [{"type": "tool_result", "content": None}]}]},
        {"content": [{"type": "tool_use"}, {"type": "text", "text": 8}, {}]},
    ],
)
def test_a_body_of_any_shape_is_shown(body: Any) -> None:
    """A ledger may be edited by hand, and providers change."""
    trace = make_trace(reply=Reply(request=body, response=body), expected=["x"])
    found = blocks(trace)
    assert found[-1] == Block(part="wanted", role="fixture", kind="expected", text='[\n  "x"\n]')
    assert all(isinstance(one.text, str) for one in found)


def test_facts() -> None:
    """Cost and score in words; nothing is said of what there is not."""
    reply = Reply(text="yes", usage=Usage(input_tokens=1200, cache_read_tokens=7), usd=0.0123)
    score = Score(value=0.5, reason="half of it", scorer="json")
    found = facts(make_trace(reply=reply, score=score))
    assert found["Score"] == "50% by json"
    assert found["Why"] == "half of it"
    assert found["Usage"] == "1,200 tokens in, 0 out; cache: 7 read, 0 written"
    assert found["Cost"] == "$0.0123"
    assert found["Run"] == "2"
    assert "Error" not in found
    assert "Tags" not in found
    assert facts(make_trace())["Score"] == "none"


# Files ----------------------------------------------------------------------------------------


def read(file: Path) -> Any:
    """The JSON that a script hands over, as a browser would read it."""
    text = file.read_bytes().decode("ascii")
    begin, end = "ratchet(String.raw`", "`);\n"
    assert text.startswith(begin)
    assert text.endswith(end)
    told = text[len(begin) : -len(end)]
    assert not {*told} & {*"`$<>&\u007f\r\n"}
    return json.loads(told)


@pytest.fixture
def writer(tmp_path: Path) -> traces.Writer:
    environment = html.environment(opened=False, redact=str)
    return traces.Writer(tmp_path, environment=environment)


def test_nothing_that_is_said_ends_a_script(tmp_path: Path, writer: traces.Writer) -> None:
    """It is ASCII, without a mark that means something in a script or a page."""
    evil = "</script>`${1}`<!-- \u2028\u2029\u202e\\u0060 \\` \\ \ud800 \u007f\x00 é"
    trace = make_trace(reply=Reply(text=evil, response={"__proto__": {evil: evil}}))
    url = writer.add(trace)
    writer.close()
    assert url == f"trace.html?x=triage/{OWNER[:12]}&t=run-1"
    told = read(tmp_path / "traces" / "triage" / OWNER[:12] / "0.js")
    (kept,) = told["traces"]
    assert kept["blocks"] == [["came back", "assistant", "text", "", evil]]
    parts = [told["texts"][it] if isinstance(it, int) else it for it in kept["bodies"]["response"]]
    assert json.loads("\n".join(parts)) == {"__proto__": {evil: evil}}


def test_a_file_has_a_text_once(tmp_path: Path, writer: traces.Writer) -> None:
    """A skill that every call of an experiment was sent takes no more room than one call's."""
    text = "word " * 1000
    for number in range(20):
        writer.add(make_trace(number, reply=Reply(text="yes", request={"system": text})))
    writer.close()
    file = tmp_path / "traces" / "triage" / OWNER[:12] / "0.js"
    told = read(file)
    assert file.stat().st_size < 4 * len(text)
    assert told["texts"][told["traces"][7]["blocks"][0][4]] == text


def test_files_stay_small(tmp_path: Path, writer: traces.Writer) -> None:
    """Each but that of a trace which is longer than a file may be."""
    for number in range(30):
        length = 3 * traces.ROOM if number == 11 else 40_000
        writer.add(make_trace(number, reply=Reply(text=f"{number} {'x' * length}")))
    writer.close()
    folder = tmp_path / "traces" / "triage" / OWNER[:12]
    rows = read(folder / "index.js")["traces"]
    files = {row[1] for row in rows}
    assert files == set(range(len(files)))
    for number in files:
        told = read(folder / f"{number}.js")
        assert [one["id"] for one in told["traces"]] == [row[0] for row in rows if row[1] == number]
        large = (folder / f"{number}.js").stat().st_size > traces.ROOM + 50_000
        assert large == ("run-11" in {one["id"] for one in told["traces"]})
    assert len([row for row in rows if row[1] == rows[11][1]]) == 1


def test_what_is_listed_together(tmp_path: Path, writer: traces.Writer) -> None:
    """An experiment's runs; its held-out ones by themselves; a text's kept runs; the proposer's."""
    urls = [
        writer.add(make_trace(1)),
        writer.add(make_trace(2, owner="")),
        writer.add(make_trace(3, split="holdout")),
        writer.add(make_trace(4, job="meta", owner="")),
        writer.add(make_trace(5, owner="../../etc")),
        writer.add(make_trace(6)),  # again, after others
        writer.add(make_trace(7, id="a&b c/<")),
    ]
    writer.name("triage", OWNER, label="Experiment 3", url="skills/triage/experiments/3.html")
    writer.home("triage", label="Cases", url="skills/triage/cases.html")
    writer.close()
    groups = [url.split("x=")[1].split("&")[0] for url in urls]
    odd = groups[4].removeprefix("triage/")
    assert len(odd) == 12
    assert odd.isalnum()
    assert [group.removeprefix("triage/") for group in groups] == [
        OWNER[:12],
        f"kept-{digest('s')[:12]}",
        f"{OWNER[:12]}-holdout",
        "proposer",
        odd,
        OWNER[:12],
        OWNER[:12],
    ]
    assert urls[-1].endswith("&t=a%26b%20c%2F%3C")
    first = read(tmp_path / "traces" / groups[0] / "index.js")
    assert (first["label"], first["url"]) == ("Experiment 3", "skills/triage/experiments/3.html")
    assert [row[0] for row in first["traces"]] == ["run-1", "run-6", "a&b c/<"]
    assert read(tmp_path / "traces" / groups[1] / "index.js")["label"] == "Cases"
    assert writer.traces == 7


def test_secrets_of_this_machine_are_left_out(tmp_path: Path) -> None:
    """Also one that was none when the trace was kept."""
    environment = html.environment(opened=False, redact=str)
    writer = traces.Writer(
        tmp_path, environment=environment, redact=lambda told: told.replace("hunter22", "[gone]")
    )
    writer.add(make_trace(reply=Reply(text="it is hunter22")))
    writer.close()
    assert "hunter22" not in "".join(file.read_text() for file in tmp_path.rglob("*.js"))


# The proposer's calls -------------------------------------------------------------------------

LEAKED = f"Would the {SEALED} agree to h1?"


def reported(world: World, *args: str) -> dict[str, Any]:
    """The lists of traces of a report, by their folder."""
    out = world.path.parent / "report"
    ran = world.ratchet("report", "--out", str(out), *args)
    assert ran.code == 0, ran.err
    home = out / "traces" / "triage"
    return {file.parent.name: read(file)["traces"] for file in home.glob("*/index.js")}


def test_what_the_proposer_read_and_wrote_is_shown(tmp_path: Path) -> None:
    """Its calls are listed by themselves."""
    world = World.make(tmp_path / "w")
    assert world.run().code == 0
    (row,) = reported(world)["proposer"]
    assert row[2] == "meta"
    told = read(tmp_path / "report" / "traces" / "triage" / "proposer" / "0.js")
    assert "What was" not in str(told)
    assert any("Is it t1?" in text for text in told["texts"])
    page = (tmp_path / "report" / "index.html").read_text()
    assert f"trace.html?x=triage/proposer&amp;t={row[0]}" in page


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(
    "sealed", ["it said so", "it wrote so", "its case is held-out now", "nobody can tell"]
)
def test_a_call_that_may_quote_a_held_out_case_is_not(
    tmp_path: Path, sealed: str, *, opened: bool
) -> None:
    """Unless the owner asks for everything."""
    lines = f"Rule alpha.\n{LEAKED}" if sealed == "it wrote so" else "Rule alpha."
    reply = f"{idea(1, lines)}\n{LEAKED if sealed == 'it said so' else ''}"
    world = World.make(tmp_path / "w", model=script([reply]))
    assert world.run().code == 0
    folder = world.path / "fixtures" / "triage"
    if sealed == "its case is held-out now":
        (folder / "train" / "t1.yml").rename(folder / "holdout" / "t1.yml")
    elif sealed == "nobody can tell":
        for file in (folder / "holdout").iterdir():
            file.unlink()
    found = reported(world, *["--with-holdout"] * opened)
    assert ("proposer" in found) == opened
