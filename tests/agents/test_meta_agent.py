"""The meta-agent's work in turns: what it is answered, what is kept, and how each work ends."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.agents.meta import MOST_CALLS, Terms, propose
from skill_ratchet.agents.toolbox import NAMES, PROPOSE, Toolbox
from skill_ratchet.base.errors import ExitCode
from skill_ratchet.cli.progress import Reporter
from skill_ratchet.core.records import AddLines, Reply
from skill_ratchet.providers.scripted import Scripted
from tests.agents.test_toolbox import NONCE, SKILL, Shelf, make_trace, make_view, shown
from world import META, SKILL_TEXT, Mortuary, World, calls_file, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from skill_ratchet.agents.meta import Proposed
    from skill_ratchet.core.records import Proposal, Request, Trace

ADD = {"op": "add", "lines": "- three"}
MADE: dict[str, Any] = {"hypothesis": "h", "targets": ["run-a"], "edits": [ADD]}
OTHER: dict[str, Any] = {"hypothesis": "h2", "edits": [{"op": "add", "lines": "- four"}]}
LAST = "This is your last turn: propose now."
THINKING = {"type": "thinking", "thinking": "hm\n{é}", "signature": "c2lnbmF0dXJl+/="}
SEALED_THINKING = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4a"}


def text(words: str, stop: str = "end_turn") -> Reply:
    content = [{"type": "text", "text": words}] if words else []
    return Reply(text=words, stop_reason=stop, response={"content": content})


def use(name: str, given: Any, number: int = 1) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": given}


def blocks(*content: dict[str, Any], stop: str = "tool_use") -> Reply:
    said = "".join(part.get("text", "") for part in content if part["type"] == "text")
    return Reply(text=said, stop_reason=stop, response={"content": list(content)})


def reading(number: int = 1) -> Reply:
    return blocks(use("read_trace", {"id": "run-a"}, number))


def proposing(made: Any = None) -> Reply:
    return blocks(use(PROPOSE, MADE if made is None else made))


@dataclass
class Talk:
    """A conversation with a model that plays a list of replies, the last one again and again."""

    replies: list[Reply]
    objections: list[str | None] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    looked_at: list[Proposal] = field(default_factory=list)

    async def _ask(self, turn: int, request: Request) -> Reply:
        self.turns.append(turn)
        self.requests.append(request)
        return self.replies[min(turn, len(self.replies) - 1)]

    def _objection(self, proposal: Proposal) -> str | None:
        self.looked_at.append(proposal)
        return self.objections.pop(0) if self.objections else None

    def held(self, **terms: Any) -> Proposed:
        """Have it, up to its end."""
        view = make_view(failing=(make_trace("a"),))
        given: dict[str, Any] = {"model": "m", "instructions": "i", "max_tokens": 9, "options": {}}
        return asyncio.run(
            propose(
                view,
                toolbox=Toolbox(view, Shelf([make_trace("b")]), NONCE),
                terms=Terms(**given | terms),
                ask=self._ask,
                objection=self._objection,
            )
        )

    def told(self, turn: int) -> Any:
        """The message that turn begins with."""
        return self.requests[turn].messages[-1]["content"]


def hold(*replies: Reply, objections: Sequence[str | None] = (), **terms: Any) -> Talk:
    talk = Talk(list(replies), list(objections))
    talk.held(**terms)
    return talk


# Tool calls -----------------------------------------------------------------------------------


def test_a_native_call_is_answered_and_the_conversation_goes_on() -> None:
    talk = Talk([reading(), proposing()])
    made = talk.held()
    assert made.proposal
    assert made.problem is None
    assert made.proposal.edits == (AddLines(lines="- three"),)
    assert (made.proposal.hypothesis, made.proposal.targets) == ("h", ("run-a",))
    assert (made.proposal.proposer, made.proposal.model) == ("meta", "m")
    assert talk.turns == [0, 1]
    (result,) = talk.told(1)
    assert (result["type"], result["tool_use_id"]) == ("tool_result", "toolu_1")
    assert "is_error" not in result
    assert shown(result["content"])["trace: output"] == "answer to a"


def test_what_the_model_said_goes_back_as_it_is() -> None:
    """Thinking with its signature too: an API refuses a conversation that changed it."""
    content = [
        THINKING,
        SEALED_THINKING,
        {"type": "text", "text": " I look.\n"},
        use("x", {"b": 1}),
    ]
    talk = hold(blocks(*content), proposing())
    said = talk.requests[1].messages[-2]
    assert json.dumps(said) == json.dumps({"role": "assistant", "content": content})


def test_every_turn_has_all_turns_before_it() -> None:
    """The beginning never changes, so that it can be cached."""
    talk = hold(reading(1), reading(2), reading(3), proposing())
    for before, after in zip(talk.requests, talk.requests[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages
        assert after.with_(messages=()) == before.with_(messages=())
    roles = [message["role"] for message in talk.requests[-1].messages]
    assert roles == ["user", "assistant"] * 3 + ["user"]


def test_each_of_several_calls_has_its_answer() -> None:
    """In order; one that cannot be answered says so and does not disturb the others."""
    calls = [
        use("read_trace", {"id": "../../holdout"}, 1),
        use("list_traces", {}, 2),
        use("bash", {"command": "id"}, 3),
        use("search_traces", {"pattern": "("}, 4),
        use("read_skill", None, 5),
        use("read_trace", "run-a", 6),
    ]
    results = hold(blocks(*calls), proposing()).told(1)
    assert [one["tool_use_id"] for one in results] == [f"toolu_{n}" for n in range(1, 7)]
    assert [one.get("is_error", False) for one in results] == [True, False, True, True, False, True]
    assert shown(results[4]["content"]) == {"file": SKILL}
    assert "There is no tool 'bash'" in results[2]["content"]


def test_too_many_calls_are_each_answered_but_not_run() -> None:
    calls = [use("read_skill", {}, n) for n in range(MOST_CALLS + 3)]
    results = hold(blocks(*calls), proposing()).told(1)
    assert [one["tool_use_id"] for one in results] == [one["id"] for one in calls]
    assert [one.get("is_error", False) for one in results] == [False] * MOST_CALLS + [True] * 3
    assert "at most 10 calls" in results[-1]["content"]


def test_too_many_calls_in_words_are_answered_too() -> None:
    many = '{"tool": "read_skill", "input": {}}\n' * (MOST_CALLS + 1)
    told = hold(text(many), text(json.dumps(MADE)), protocol="text").told(1)
    assert told.count("Say yes or no") == MOST_CALLS
    assert told.count("at most 10 calls") == 1


def test_a_proposal_beside_other_calls_counts_and_they_are_not_run() -> None:
    calls = [use("read_trace", {"id": "run-a"}, 1), use(PROPOSE, MADE, 2), use("bash", {}, 3)]
    made = Talk([blocks(*calls)]).held()
    assert made.proposal
    talk = hold(blocks(*calls), proposing(OTHER), objections=["No."])
    results = talk.told(1)
    assert [one["tool_use_id"] for one in results] == ["toolu_1", "toolu_2", "toolu_3"]
    assert [one["is_error"] for one in results] == [True] * 3
    assert results[1]["content"].startswith("No.")
    assert "answer to a" not in json.dumps(results)


def test_results_have_the_room_of_the_first_message_together() -> None:
    """What is read stays in the conversation, so there is an end to it; no result is shortened."""
    page = len(hold(reading(), proposing()).told(1)[0]["content"])
    many = blocks(*(use("read_trace", {"id": "run-a"}, n) for n in range(3)))
    results = hold(many, reading(9), proposing(), room=2 * page + 100, turns=9).told(1)
    assert [len(one["content"]) == page for one in results] == [True, True, False]
    assert results[2]["is_error"]
    assert f"that is {page:,} characters, and 100 are left" in results[2]["content"]
    again = hold(many, reading(9), proposing(), room=2 * page + 100, turns=9).told(2)
    assert "100 are left" in again[0]["content"]


BLANK = [{"type": "text", "text": ""}, {"type": "text", "text": " \n"}]


def test_blank_text_beside_a_call_does_not_go_back() -> None:
    """An API gives such blocks and takes none."""
    said = hold(blocks(*BLANK, use("read_skill", {})), proposing()).requests[1].messages[-2]
    assert said["content"] == [use("read_skill", {})]


@pytest.mark.parametrize("words", ["", " \n"])
def test_an_empty_reply_goes_back_as_something(words: str) -> None:
    """An API takes no message without text."""
    talk = hold(text(words), proposing())
    assert talk.requests[1].messages[-2] == {"role": "assistant", "content": "(nothing)"}
    assert talk.told(1).startswith("the reply is empty")


# Protocols ------------------------------------------------------------------------------------


def test_native_tools_are_offered_to_the_api() -> None:
    request = hold(proposing()).requests[0]
    assert tuple(one["name"] for one in request.tools) == NAMES
    assert "# Tools" not in str(request.messages[0]["content"])


def test_in_text_the_tools_are_explained_and_the_results_are_text() -> None:
    talk = hold(
        text('I look.\n{"tool": "read_trace", "input": {"id": "run-a"}}'),
        text(json.dumps(MADE)),
        protocol="text",
    )
    first = talk.requests[0]
    assert first.tools == ()
    assert "- read_trace(" in str(first.messages[0]["content"])
    assert talk.requests[1].messages[-2]["content"].startswith("I look.")  # type: ignore[union-attr]
    assert shown(talk.told(1))["trace: output"] == "answer to a"


IN_WORDS = {
    "as asked for": '{"tool": "read_skill", "input": {}}',
    "Hermes and Qwen": '<tool_call>\n{"name": "read_skill", "arguments": {}}\n</tool_call>',
    "Llama 3.1": "<function=read_skill>{}</function>",
    "Llama 3.2": "[read_skill()]",
    "Mistral": '[TOOL_CALLS] [{"name": "read_skill", "arguments": {}}]',
    "OpenAI": '{"tool_calls": [{"function": {"name": "read_skill", "arguments": "{}"}}]}',
}


@pytest.mark.parametrize("protocol", ["native", "text"])
@pytest.mark.parametrize("words", IN_WORDS.values(), ids=IN_WORDS)
def test_a_call_in_words_is_answered_in_every_protocol_with_tools(
    words: str, protocol: str
) -> None:
    talk = hold(text(words), text(json.dumps(MADE)), protocol=protocol)
    assert talk.turns == [0, 1]
    assert shown(talk.told(1)) == {"file": SKILL}


@pytest.mark.parametrize("words", IN_WORDS.values(), ids=IN_WORDS)
def test_without_tools_no_call_is_answered(words: str) -> None:
    """It is sent back once like any reply without an edit."""
    talk = Talk([text(words)])
    made = talk.held(protocol="none")
    assert (made.proposal, made.problem) == (None, "there are no tools to call")
    assert talk.turns == [0, 1]
    assert "Say yes or no" not in talk.told(1)
    assert talk.requests[0].tools == ()
    assert "# Tools" not in str(talk.requests[0].messages[0]["content"])


PROPOSED = {
    "by the API": proposing(),
    "JSON": text(f"```json\n{json.dumps(MADE)}\n```"),
    "a call in words": text(json.dumps({"tool": PROPOSE, "input": MADE})),
    "a Python call": text(f"[propose(hypothesis='h', targets=['run-a'], edits=[{ADD}])]"),
    "rule lines": text("ADD: - three\nWHY: h"),
    "cut behind it": text(f"{json.dumps(MADE)}\n\nThis will", stop="max_tokens"),
}


@pytest.mark.parametrize("protocol", ["native", "text", "none"])
@pytest.mark.parametrize("reply", PROPOSED.values(), ids=PROPOSED)
def test_a_single_shot_is_a_proposal_in_every_protocol(reply: Reply, protocol: str) -> None:
    talk = Talk([reply])
    made = talk.held(protocol=protocol)
    assert made.proposal
    assert (made.proposal.hypothesis, made.proposal.edits) == ("h", (AddLines(lines="- three"),))
    assert talk.turns == [0]


def test_a_proposal_by_the_api_goes_before_one_in_the_text() -> None:
    said = {"type": "text", "text": json.dumps(OTHER)}
    made = Talk([blocks(said, use(PROPOSE, MADE))]).held()
    assert made.proposal
    assert made.proposal.hypothesis == "h"


# One second chance ----------------------------------------------------------------------------


def test_an_objection_is_put_to_the_model_once_and_the_second_proposal_counts() -> None:
    talk = Talk([proposing(), proposing(OTHER)], ["That cannot be tried: no.", "Nor that."])
    made = talk.held()
    assert made.proposal
    assert made.proposal.hypothesis == "h2"
    assert talk.turns == [0, 1]
    (result,) = talk.told(1)
    assert result["is_error"]
    assert result["content"] == "That cannot be tried: no.\n\nPropose again."
    assert [one.hypothesis for one in talk.looked_at] == ["h"]


def test_who_insists_is_taken_at_their_word() -> None:
    talk = Talk([proposing()], ["Nearly the same as e1.", "Nearly the same as e1."])
    made = talk.held()
    assert made.proposal
    assert made.proposal.hypothesis == "h"
    assert talk.turns == [0, 1]


def test_between_an_objection_and_the_next_proposal_the_model_may_read() -> None:
    talk = Talk([proposing(), reading(2), reading(3), proposing(OTHER)], ["No."])
    made = talk.held()
    assert made.proposal
    assert made.proposal.hypothesis == "h2"
    assert talk.turns == [0, 1, 2, 3]


def test_there_is_no_second_chance_in_the_last_turn() -> None:
    """It could not be used; the proposal counts as it is."""
    talk = Talk([proposing()], ["No."])
    made = talk.held(turns=1)
    assert made.proposal
    assert talk.turns == [0]


MALFORMED = {
    "no edits": (proposing({"hypothesis": "h"}), "the reply proposes no edit"),
    "no object": (proposing("x"), "the call of propose has no fields"),
    "nothing": (blocks(use(PROPOSE, None)), "the call of propose has no fields"),
    "an unknown operation": (
        proposing({"edits": [{"op": "delete", "path": "ratchet.yml"}]}),
        "'op' is none of add, replace, rewrite",
    ),
    "half of it in words": (text('{"edits": [{"op": '), "malformed JSON"),
    "no edit": (text("I would rather not say."), "no edit found in the reply"),
    "empty": (text(""), "the reply is empty"),
}


@pytest.mark.parametrize(("reply", "problem"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_proposal_is_sent_back_once(reply: Reply, problem: str) -> None:
    """Twice the same is the end, with the reason."""
    talk = Talk([reply])
    made = talk.held()
    assert made.proposal is None
    assert problem in str(made.problem)
    assert talk.turns == [0, 1]
    assert problem in json.dumps(talk.told(1))
    better = Talk([reply, proposing()])
    assert better.held().proposal


def test_a_second_chance_is_one_whatever_it_was_used_for() -> None:
    talk = Talk([text("Hm."), proposing()], ["No."])
    assert talk.held().proposal
    assert talk.turns == [0, 1]
    assert talk.looked_at == []


FINAL = {
    "a refusal": (text("", stop="refusal"), "the model refused to answer"),
    "a refusal with a proposal": (
        Reply(text=json.dumps(MADE), stop_reason="refusal"),
        "the model refused to answer",
    ),
    "cut in words": (text('{"edits": [{"op":', stop="max_tokens"), "cut at the token limit"),
    "cut in a call": (
        blocks({"type": "text", "text": "So"}, use(PROPOSE, {}), stop="max_tokens"),
        "cut at the token limit",
    ),
    "cut in a call that reads": (blocks(use("read_trace", {}), stop="length"), "cut at the token"),
    "a full context": (
        text("Let me", stop="model_context_window_exceeded"),
        "cut at the token limit",
    ),
}


@pytest.mark.parametrize(("reply", "problem"), FINAL.values(), ids=FINAL)
def test_where_asking_again_would_not_help_it_is_not_done(reply: Reply, problem: str) -> None:
    talk = Talk([reply, proposing()])
    made = talk.held()
    assert made.proposal is None
    assert problem in str(made.problem)
    assert talk.turns == [0]


# Turns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [2, 3, 8])
def test_whoever_only_reads_is_told_of_the_last_turn_and_stopped_after_it(turns: int) -> None:
    talk = Talk([reading()])
    made = talk.held(turns=turns)
    assert (made.proposal, made.problem) == (None, f"no proposal within {turns} turns")
    assert talk.turns == list(range(turns))
    hints = [LAST in json.dumps(request.messages) for request in talk.requests]
    assert hints == [False] * (turns - 1) + [True]
    assert talk.told(turns - 1)[-1] == {"type": "text", "text": LAST}


def test_in_text_the_last_turn_is_told_too() -> None:
    talk = hold(text('{"tool": "read_skill"}'), protocol="text", turns=2)
    assert talk.told(1).endswith(f"\n\n{LAST}")


def test_one_turn_is_one_without_tools_that_read() -> None:
    """What they show could be of no use."""
    talk = Talk([reading()])
    made = talk.held(turns=1)
    assert (made.proposal, made.problem) == (None, "no proposal within 1 turn")
    assert [one["name"] for one in talk.requests[0].tools] == [PROPOSE]
    alone = hold(text("x"), protocol="text", turns=1)
    assert "# Tools" not in str(alone.requests[0].messages[0]["content"])


# Through `ratchet run` ------------------------------------------------------------------------

ALPHA: dict[str, Any] = {
    "hypothesis": "idea 1",
    "targets": [],
    "edits": [{"op": "add", "lines": "Rule alpha."}],
}
BAD: dict[str, Any] = {
    "hypothesis": "idea 1",
    "edits": [{"op": "add", "after": "No such line", "lines": "x"}],
}


def turn(*content: dict[str, Any], **given: Any) -> dict[str, Any]:
    """A response of the script for the meta-agent, given once."""
    return {
        "when": {"system_contains": META},
        "times": 1,
        "blocks": list(content),
        "stop_reason": "tool_use",
    } | given


def said(words: str, **given: Any) -> dict[str, Any]:
    """One in words."""
    return turn({"type": "text", "text": words}, **{"stop_reason": "end_turn"} | given)


READS = turn(THINKING, {"type": "text", "text": "I look."}, use("list_traces", {"max_score": 0}))
SEARCHES = turn(use("search_traces", {"pattern": "t2"}, 2), use("read_skill", {}, 3))
PROPOSES = turn(use(PROPOSE, ALPHA, 4))


def make(tmp_path: Path, *turns: dict[str, Any], **options: Any) -> World:
    """A project whose meta-agent takes these turns."""
    settings = {"meta": {"turns": 8}} | options.pop("config", {})
    model = script(options.pop("replies", []), first=turns, **options.pop("script", {}))
    return World.make(tmp_path / "p", model=model, config=settings, **options)


def turns_of(world: World) -> list[Trace]:
    """The meta-agent's traces in the order of its turns."""
    found = world.ledger().traces(job="meta")
    return sorted(found, key=lambda one: one.key.replicate if one.key else -1)


def test_every_turn_is_a_trace_of_its_own_and_whole(tmp_path: Path) -> None:
    """Calls, thinking, results: as they went to and came from the model."""
    world = make(tmp_path, READS, SEARCHES, PROPOSES)

    ran = world.run()

    assert ran.verdicts == [("merge", "improved")]
    assert ran.json["experiments"][0]["calls"] == 3 + 3 + 2 * 2
    kept = turns_of(world)
    assert [one.key.replicate for one in kept if one.key] == [0, 1, 2]
    responses: Any = [one.reply.response for one in kept]
    assert [one["content"] for one in responses] == [
        one["blocks"] for one in (READS, SEARCHES, PROPOSES)
    ]
    requests: Any = [one.reply.request for one in kept]
    assert [len(one["messages"]) for one in requests] == [1, 3, 5]
    assert requests[2]["messages"][1]["content"] == READS["blocks"]
    runs = {one.id for one in world.ledger().traces(job="task") if not one.experiment}
    told = requests[1]["messages"][2]["content"][0]["content"]
    assert sum(name in told for name in runs) == 3
    for one in kept:
        assert world.ratchet("trace", one.id, "--json").json["reply"] == one.reply.model_dump(
            mode="json"
        )
        shown_to_people = world.ratchet("trace", one.id)
        assert shown_to_people.code == ExitCode.DONE
        assert "skill    triage\njob      meta\n" in shown_to_people.out
    assert "c2lnbmF0dXJl+/=" in world.ratchet("trace", kept[0].id, "--raw").out


@pytest.fixture(scope="module")
def mortuary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortuary]:
    """Where commands die."""
    made = Mortuary(tmp_path_factory.mktemp("mortuary"))
    yield made
    made.close()


DEATHS = {
    "after put proposal": 0,
    "before put proposal #2": 1,
    "half of put proposal #3": 1,
}


@pytest.mark.parametrize(("death", "lost"), DEATHS.items(), ids=DEATHS)
def test_a_run_that_dies_between_turns_pays_no_turn_twice(
    tmp_path: Path, mortuary: Mortuary, death: str, lost: int
) -> None:
    """And the experiment has cost what it would have cost."""
    after = {"when": {"system_contains": META, "input_contains": "assistant: I look."}}
    world = make(
        tmp_path,
        # A later process begins its script anew, so each turn says what is before it.
        turn(*PROPOSES["blocks"]) | {"when": {"input_contains": "assistant: Now."}},
        turn({"type": "text", "text": "Now."}, *SEARCHES["blocks"]) | after,
        READS,
    )

    assert mortuary.run(world, "run", "--json", at=death).code == -signal.SIGKILL
    again = world.run()

    assert again.verdicts == [("merge", "improved")]
    died = len(calls_file(world).read_text().splitlines())
    assert died + again.json["calls"] == 3 + 10 + lost
    assert again.json["experiments"][0]["calls"] == 10
    assert [one.key.replicate for one in turns_of(world) if one.key] == [0, 1, 2]


def test_a_failed_call_between_turns_is_the_only_one_made_again(tmp_path: Path) -> None:
    world = make(
        tmp_path,
        turn(*READS["blocks"]) | {"when": {"system_contains": META, "model": "scripted"}},
        {"when": {"system_contains": META}, "error": "529 overloaded", "times": 1},
        PROPOSES,
    )

    failed = world.run()
    world.write("ratchet.script.yml", script([], first=[PROPOSES]))
    world.commit("up again")
    again = world.run()

    assert failed.code == ExitCode.ERROR
    assert "529 overloaded" in failed.err
    assert again.verdicts == [("merge", "improved")]
    assert again.json["experiments"][0]["calls"] == 2 + 3 + 4
    # Another script is another model, so the old skill is measured again.
    assert again.json["calls"] == 3 + 1 + 3 + 4


# Settings -------------------------------------------------------------------------------------


def test_meta_turns_is_the_most_calls_for_a_proposal(tmp_path: Path) -> None:
    world = make(tmp_path, READS | {"times": 9}, config={"meta": {"turns": 3}})

    ran = world.run()

    assert ran.verdicts == [("reject", "no_edit")]
    assert ran.json["experiments"][0]["calls"] == 3
    assert "no proposal within 3 turns" in world.ratchet("show", "1").out
    assert LAST in json.dumps(turns_of(world)[-1].reply.request)


TOOLS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "by default what the provider can": ({}, True, False),
    "native": ({"tools": "native"}, True, False),
    "text": ({"tools": "text"}, False, True),
    "none": ({"tools": "none"}, False, False),
}


@pytest.mark.parametrize(("given", "native", "words"), TOOLS.values(), ids=TOOLS)
def test_meta_tools_is_how_tools_are_called(
    tmp_path: Path, given: dict[str, Any], *, native: bool, words: bool
) -> None:
    model = said(json.dumps(ALPHA))
    world = make(tmp_path, model, config={"meta": {"turns": 8} | given})

    assert world.run().verdicts == [("merge", "improved")]

    (trace,) = turns_of(world)
    request: Any = trace.reply.request
    assert bool(request["tools"]) == native
    assert ("- read_trace(" in request["messages"][0]["content"]) == words


def test_a_provider_without_a_tool_channel_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "tools", False)
    world = make(tmp_path, said('{"tool": "read_skill", "input": {}}'), said(json.dumps(ALPHA)))

    assert world.run().verdicts == [("merge", "improved")]

    requests: Any = [one.reply.request for one in turns_of(world)]
    assert [one["tools"] for one in requests] == [[], []]
    assert SKILL_TEXT in requests[1]["messages"][2]["content"]


def test_native_tools_of_a_provider_that_has_none_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a silent change to something else; and nothing is paid for the proposal."""
    monkeypatch.setattr(Scripted, "tools", False)
    world = make(tmp_path, config={"meta": {"tools": "native"}})

    ran = world.run()

    assert ran.code == ExitCode.ERROR
    assert "no tool channel" in ran.err
    assert "meta.tools: text" in ran.err
    assert turns_of(world) == []


@pytest.mark.parametrize("room", [4_000, 200_000])
def test_meta_context_bounds_the_first_message(tmp_path: Path, room: int) -> None:
    """A failing run is in it whole, or is listed."""
    world = make(tmp_path, PROPOSES, config={"meta": {"context": room}})

    assert world.run().code == ExitCode.DONE

    request: Any = turns_of(world)[0].reply.request
    content = request["messages"][0]["content"]
    assert len(content) < room + 300
    runs = [one.id for one in world.ledger().traces(job="task") if not one.experiment][:3]
    assert all(name in content for name in runs)
    assert ("ids of failing traces not shown" in content) == (room == 4_000)


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have every call of the scripted model cost this much."""

    def arrange(usd: float) -> None:
        real = Scripted.complete

        async def complete(self: Scripted, request: Request) -> Reply:
            return (await real(self, request)).with_(usd=usd)

        monkeypatch.setattr(Scripted, "complete", complete)
        monkeypatch.setattr(Scripted, "worst_case_usd", lambda *_: usd)

    return arrange


def test_meta_usd_is_the_meta_agents_part_of_the_budget(
    tmp_path: Path, priced: Callable[[float], None]
) -> None:
    """The call that could exceed it is not made; a later run goes on behind those that were."""
    priced(0.25)
    world = make(
        tmp_path, READS, SEARCHES, PROPOSES, config={"meta": {"usd": 0.5}, "budget": {"usd": 50}}
    )

    ran = world.run()

    assert ran.code == ExitCode.BUDGET
    assert "the budget of the meta-agent of $0.50" in ran.err
    assert "meta.usd" in ran.err
    assert len(turns_of(world)) == 2
    assert world.ledger().experiments() == []
    world.write("ratchet.script.yml", script([], first=[PROPOSES]))
    world.commit("the rest of the script")
    again = world.run()
    assert again.verdicts == [("merge", "improved")]
    assert again.json["experiments"][0]["usd"] == pytest.approx(0.25 * 10)
    assert len(turns_of(world)) == 3


def test_what_the_meta_agent_spends_counts_in_the_whole(
    tmp_path: Path, priced: Callable[[float], None]
) -> None:
    priced(0.25)
    world = make(
        tmp_path, READS, SEARCHES, PROPOSES, config={"meta": {"usd": 40}, "budget": {"usd": 1.25}}
    )

    ran = world.run()

    assert ran.code == ExitCode.BUDGET
    assert "the budget of $1.25" in ran.err
    assert len(turns_of(world)) == 2
    assert ran.json["usd"] == pytest.approx(1.25)


def test_the_task_may_spend_beyond_the_meta_agents_part(
    tmp_path: Path, priced: Callable[[float], None]
) -> None:
    priced(0.25)
    world = make(tmp_path, PROPOSES, config={"meta": {"usd": 0.25}, "budget": {"usd": 50}})

    ran = world.run()

    assert ran.verdicts == [("merge", "improved")]
    assert ran.json["usd"] == pytest.approx(0.25 * (3 + 1 + 3 + 4))


# Objections -----------------------------------------------------------------------------------


def test_a_proposal_that_cannot_be_tried_is_sent_back_with_the_reason(tmp_path: Path) -> None:
    world = make(tmp_path, turn(use(PROPOSE, BAD)), PROPOSES)

    ran = world.run()

    assert ran.verdicts == [("merge", "improved")]
    request: Any = turns_of(world)[1].reply.request
    (result,) = request["messages"][2]["content"]
    assert result["is_error"]
    assert "That cannot be tried: the line 'No such line' is not in the text" in result["content"]


def test_who_proposes_twice_what_cannot_be_tried_is_recorded(tmp_path: Path) -> None:
    world = make(tmp_path, turn(use(PROPOSE, BAD), times=2))

    ran = world.run()

    assert ran.verdicts == [("reject", "not_applied")]
    assert ran.json["experiments"][0]["calls"] == 2


def nearly(rule: str) -> dict[str, Any]:
    return {"hypothesis": f"says {rule}", "edits": [{"op": "add", "lines": rule}]}


RULE = "When somebody asks for a refund, name the team that pays it out."
SAME_AGAIN = RULE.replace("somebody", "someone")


@pytest.mark.parametrize("insists", [True, False])
def test_nearly_the_same_is_sent_back_with_the_earlier_result(
    tmp_path: Path, *, insists: bool
) -> None:
    """Then it may be tried all the same."""
    second = nearly(SAME_AGAIN) if insists else ALPHA
    world = make(
        tmp_path,
        turn(use(PROPOSE, nearly(RULE))),
        turn(use(PROPOSE, nearly(SAME_AGAIN))),
        turn(use(PROPOSE, second)),
    )

    ran = world.run("--attempts", "2")

    last = ("reject", "screen_failed") if insists else ("merge", "improved")
    assert ran.verdicts == [("reject", "screen_failed"), last]
    first = ran.json["experiments"][0]["id"][:12]
    kept = sorted(world.ledger().traces(job="meta"), key=lambda one: one.started_at)
    told = json.dumps(kept[2].reply.request)
    assert len(kept) == 3
    assert f"nearly the same change as experiment {first}, which was not merged" in told


def test_what_was_never_decided_is_no_reason_to_object(tmp_path: Path) -> None:
    """An experiment that was given up because the file changed may be made again at once."""
    world = make(tmp_path, turn(use(PROPOSE, nearly(RULE)), times=2), script={"right": {RULE: ()}})
    stop = world.path / ".ratchet-hold"
    real = Reporter.phase
    with pytest.MonkeyPatch.context() as patch:

        def begins(self: Reporter, name: str, *, runs: int, **more: Any) -> None:
            real(self, name, runs=runs, **more)
            if name.startswith("screen"):
                stop.touch()

        patch.setattr(Reporter, "phase", begins)
        assert world.run().verdicts == [("hold", "held")]
    stop.unlink()
    world.write("skills/triage/SKILL.md", f"{SKILL_TEXT}By a person.\n")
    world.commit("by a person")

    ran = world.run()

    assert ran.verdicts == [("reject", "screen_failed")]
    assert sorted(one.reason for one in world.ledger().results().values()) == [
        "screen_failed",
        "superseded",
    ]
    assert len(list(world.ledger().traces(job="meta"))) == 2


# Bad input ------------------------------------------------------------------------------------


def long_case(name: str) -> str:
    """One whose runs are traces of 100 KB: it stands in the request and beside it."""
    asked = f"Is it {name}? " + "lorem " * 8_000
    return json.dumps({"id": name, "input": asked, "expected": "yes"})


ENDS: dict[str, tuple[list[dict[str, Any]], tuple[str, str], int]] = {
    "a reply with no edit": ([said("Rather not.", times=2)], ("reject", "no_edit"), 2),
    "an empty reply": ([turn(times=2, stop_reason="end_turn")], ("reject", "no_edit"), 2),
    "malformed tool input": ([turn(use(PROPOSE, {"edits": 3}), times=2)], ("reject", "no_edit"), 2),
    "malformed input of a tool that reads": (
        [
            turn(use("read_trace", {"id": 3})),
            turn(use("search_traces", {"pattern": "("})),
            PROPOSES,
        ],
        ("merge", "improved"),
        3,
    ),
    "a refusal": ([turn(stop_reason="refusal")], ("reject", "no_edit"), 1),
    "a stop at the token limit": (
        [said("Let me think about", stop_reason="max_tokens")],
        ("reject", "no_edit"),
        1,
    ),
    "only reading": ([turn(use("read_skill", {}), times=8)], ("reject", "no_edit"), 8),
}


@pytest.mark.parametrize(("turns", "verdict", "calls"), ENDS.values(), ids=ENDS)
def test_bad_input_ends_in_a_recorded_experiment(
    tmp_path: Path, turns: list[dict[str, Any]], verdict: tuple[str, str], calls: int
) -> None:
    """On an empty ledger; and the next experiment goes on from there."""
    world = make(tmp_path, *turns)

    ran = world.run()

    assert ran.code == ExitCode.DONE
    assert "Traceback" not in ran.err
    assert ran.verdicts == [verdict]
    assert len(turns_of(world)) == calls
    (result,) = world.ledger().results().values()
    assert (result.action, result.reason) == verdict
    assert result.detail
    assert world.skill() == (f"{SKILL_TEXT}Rule alpha.\n" if verdict[0] == "merge" else SKILL_TEXT)


def test_an_edit_that_changes_nothing_ends_in_a_recorded_experiment(tmp_path: Path) -> None:
    """The first attempt only makes a replacement possible."""
    same = {"op": "replace", "old": "Say yes", "new": "Say yes"}
    world = make(
        tmp_path,
        turn(stop_reason="refusal"),
        turn(use(PROPOSE, {"edits": [same]}), times=2),
        config={"loop": {"attempts": 2, "widen_after": 1}},
    )

    ran = world.run()

    assert ran.verdicts == [("reject", "no_edit"), ("reject", "not_applied")]
    assert ran.json["experiments"][1]["calls"] == 2
    assert "the edit changes nothing" in world.ratchet("show", "2").out
    assert world.skill() == SKILL_TEXT


def test_a_skill_of_one_line(tmp_path: Path) -> None:
    """Neither markdown nor frontmatter is needed."""
    world = make(tmp_path, turn(use("read_skill", {})), PROPOSES)
    world.configure(skills={"triage": {"scorer": "label", "path": "prompt.txt"}})
    world.write("prompt.txt", "Say yes or no.")
    world.commit("one line")

    assert world.run().verdicts == [("merge", "improved")]
    assert world.show("prompt.txt", "main").rstrip("\n") == "Say yes or no.\nRule alpha."


def test_none_failing_asks_for_harder_cases(tmp_path: Path) -> None:
    """Without a call of the meta-agent, and without an experiment."""
    world = make(tmp_path, script={"right": {"": ("t1", "t2", "t3")}})

    ran = world.run()

    assert (ran.code, ran.json["experiments"]) == (ExitCode.DONE, [])
    assert "harder fixtures" in " ".join(world.ratchet("run").out.split())
    assert turns_of(world) == []


def test_500_failing_runs_of_100_kb(tmp_path: Path) -> None:
    """Its message and its reading stay within their bounds; what has no room is said in words."""
    names = [f"t{n}" for n in range(500)]
    world = make(
        tmp_path,
        turn(use("search_traces", {"pattern": r"Is it t\d+"})),
        turn(*(use("list_traces", {}, n) for n in range(10))),
        turn({"type": "text", "text": "x"}, use("bash", {})),
        said("I give up.", times=2),
        cases={"train": (), "holdout": ("h1", "h2")},
        script={"right": {}},
        config={"meta": {"turns": 8, "context": 150_000}},
    )
    for start in range(0, 500, 100):
        some = "\n".join(map(long_case, names[start : start + 100]))
        world.write(f"fixtures/triage/train/{start}.jsonl", some)
    world.commit("many")

    ran = world.run()

    assert ran.code == ExitCode.DONE, ran.err
    assert ran.verdicts == [("reject", "no_edit")]
    requests: Any = [one.reply.request for one in turns_of(world)]
    assert len(requests) == 5
    assert len(requests[0]["messages"][0]["content"]) < 150_000 + 500 * 40
    results = requests[2]["messages"][-1]["content"]
    assert ["No room" in one["content"] for one in results[:2] + results[-2:]] == [
        *[False] * 2,
        *[True] * 2,
    ]
    assert sum(len(json.dumps(message)) for message in requests[4]["messages"]) < 350_000
