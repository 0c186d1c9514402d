"""The tools read the train side and nothing else, whole, and answer whatever they are asked."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_ratchet.agents import toolbox as tools
from skill_ratchet.agents.breadth import Accepted
from skill_ratchet.agents.briefing import PastExperiment, View
from skill_ratchet.agents.toolbox import NAMES, PROPOSE, Toolbox, ToolError, definitions, in_words
from skill_ratchet.base.redact import Redactor
from skill_ratchet.core.edits import Limits
from skill_ratchet.core.records import (
    Experiment,
    Proposal,
    Reply,
    Rewrite,
    RolloutKey,
    Score,
    Setting,
    Trace,
    digest,
)
from skill_ratchet.ledger import Ledger, Store
from tests.ledger.test_feedback_records import correction
from views import open_eyes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

NONCE = "k3yQ81zzP0"
SKILL = "---\nname: triage\ndescription: Sorts mail.\n---\n\nSay yes or no, and say nothing else.\n"
PARENT, MODEL = digest(SKILL), digest("model")
AT = "2026-01-01T00:00:00Z"
SEALED = "zebra"  # in everything that is held out, and in nothing else
READING = tuple(name for name in NAMES if name != PROPOSE)


def make_trace(name: str, score: float | None = 0.0, **changes: Any) -> Trace:
    """A kept run of the skill as it is, on the case of that name."""
    fields: dict[str, Any] = {
        "id": f"run-{name}",
        "key": RolloutKey(skill=PARENT, fixture=digest(name), model=MODEL, replicate=0),
        "skill": "triage",
        "fixture": name,
        "side": "incumbent",
        "model": "m",
        "provider": "scripted",
        "started_at": AT,
        "reply": Reply(
            text=f"answer to {name}",
            request={"system": SKILL, "messages": [f"asked {name}"]},
            response={"content": [{"type": "thinking", "thinking": f"hm, {name}\n\t<b>&é"}]},
        ),
        "score": None if score is None else Score(value=score, reason="so", scorer="label"),
        "fixture_input": f"Is it {name}?",
        "expected": {"label": "yes"},
        "correction": f"No: {name}.",
    }
    return Trace(**fields | changes)


def own_run(experiment: Experiment, name: str, score: float, **changes: Any) -> Trace:
    """A run that belongs to one experiment alone."""
    key = RolloutKey(
        skill=digest("candidate"),
        fixture=digest(name),
        model=MODEL,
        replicate=0,
        experiment=experiment.id,
    )
    fields = {"id": f"own-{name}", "key": key, "experiment": experiment.id, "side": "candidate"}
    return make_trace(name, score, **fields | changes)


def make_experiment(number: int = 1) -> Experiment:
    setting = Setting(
        provider="scripted",
        model="m",
        model_digest=MODEL,
        meta_model=None,
        proposer="meta",
        scorer_digest=digest("scorer"),
        config_digest=digest("config"),
        train_digest=digest("train"),
        holdout_digest=None,
        evaluator="0.1.0",
        base="a" * 40,
        branch="main",
        seed=1,
    )
    return Experiment(
        id=digest("experiment", number),
        skill="triage",
        number=number,
        parent=PARENT,
        candidate=digest(number),
        setting=setting,
        proposal=Proposal(proposer="meta", model="m", hypothesis="h", edits=(Rewrite(text="x"),)),
        started_at=AT,
    )


def past_of(experiment: Experiment, **changes: Any) -> PastExperiment:
    fields: dict[str, Any] = {
        "id": experiment.id[:12],
        "hypothesis": f"cause {experiment.number}",
        "diff": f"--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n+Rule {experiment.number}.\n",
        "outcome": "not merged",
    }
    return PastExperiment(**fields | changes)


def make_view(**changes: Any) -> View:
    fields: dict[str, Any] = {
        "skill_name": "triage",
        "skill_path": "skills/triage/SKILL.md",
        "skill_text": SKILL,
    }
    return View.model_validate(fields | changes)


@dataclass
class Shelf:
    """A library in memory."""

    traces: list[Trace] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def runs(self, experiment: str) -> list[Trace]:
        self.asked.append(experiment)
        return [one for one in self.traces if one.experiment[:12] == experiment[:12]]

    def task_runs(self, *, skip: int, most: int) -> tuple[list[Trace], int]:
        return self.traces[skip : skip + most], len(self.traces)

    def trace(self, trace_id: str) -> Trace | None:
        self.asked.append(trace_id)
        return next((one for one in self.traces if one.id == trace_id), None)

    def candidate_text(self, experiment: str) -> str | None:
        self.asked.append(experiment)
        return self.texts.get(experiment)


def shown(text: str) -> dict[str, str]:
    """What stands between each pair of markers, by label."""
    return dict(
        re.findall(
            rf"^<<<{NONCE} (.*?)>>>\n(.*?)\n<<<end {NONCE}>>>$", text, re.MULTILINE | re.DOTALL
        )
    )


def rows(text: str) -> list[list[str]]:
    """The rows of a table, without its heading."""
    blocks = re.findall(rf"<<<{NONCE} \w+>>>\n(.*?)\n<<<end", text, re.DOTALL)
    return [line.split("\t") for data in blocks for line in data.split("\n")[1:]]


def pages_of(box: Toolbox, name: str, given: Mapping[str, JsonValue]) -> list[str]:
    """Every page of a result."""
    first = box.answer(name, dict(given))
    more = re.search(r"\n\n\(page 1 of (\d+)\)\Z", first)
    last = int(more[1]) if more else 1
    rest = [box.answer(name, {**given, "page": page}) for page in range(2, last + 1)]
    with pytest.raises(ToolError, match="no such page"):
        box.answer(name, {**given, "page": last + 1})
    return [re.sub(rf"\n\n\(page \d+ of {last}\)\Z", "", page) for page in (first, *rest)]


# On a real ledger -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Real:
    """A repository's ledger with both sides, the tools on it, and what is on record."""

    ledger: Ledger
    box: Toolbox
    experiment: Experiment
    hidden: tuple[Trace, ...]


CASES = {"refund": (0.0, ("money", "short")), "card": (0.5, ("money",)), "hello": (1.0, ())}


@pytest.fixture(scope="module", params=["journal", "git"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Real:
    """Runs as they are journaled, and after they are committed."""
    path = tmp_path_factory.mktemp("repo")
    subprocess.run(["git", "init", "--quiet", str(path)], check=True)
    ledger = Ledger(Store(path, redactor=Redactor({}), clock=lambda: 0.0), "triage")
    kept = [make_trace(name, score, tags=tags) for name, (score, tags) in CASES.items()]
    for trace in kept:
        ledger.add_trace(trace)
    tried = make_experiment(1)
    ledger.add_skill_text(PARENT, SKILL)
    ledger.add_experiment(tried, parent_text=SKILL, candidate_text=f"{SKILL}Rule 1.\n")
    failed = make_experiment(2).with_(candidate=None)
    ledger.add_experiment(failed, parent_text=SKILL, candidate_text=None)
    ledger.add_trace(own_run(tried, "refund", 1.0, tags=("money",)))
    ledger.add_trace(make_trace("broken", None, reply=Reply(error="529 overloaded"), id="failed"))
    sealed: dict[str, Any] = {
        "fixture_input": SEALED,
        "expected": SEALED,
        "correction": SEALED,
        "reply": Reply(text=SEALED, response=SEALED),
        "tags": (SEALED,),
    }
    hidden = (
        make_trace("h1", split="holdout", **sealed),
        own_run(tried, "h2", 0.0, split="holdout", **sealed),
        make_trace("v1", split="vault", **sealed),
        own_run(tried, "refund", 0.0, job="judge", **sealed | {"id": "own-refund-judge"}),
        make_trace("t", job="judge", **sealed | {"id": "run-t-judge"}),
        make_trace(
            "",
            None,
            job="meta",
            **sealed | {"id": "meta-turn", "key": make_key("meta"), "side": None},
        ),
        own_run(tried, "", 0.0, job="meta", **sealed | {"id": "meta-own"}),
    )
    for trace in hidden:
        ledger.add_trace(trace)
    if request.param == "git":
        ledger.flush("all")
    view = make_view(
        failing=tuple(one for one in kept if one.score and one.score.value < 1),
        passing=tuple(one for one in kept if one.score and one.score.value == 1),
        past=(
            past_of(tried),
            past_of(failed, outcome="not applied: the edit changes nothing", diff=""),
        ),
    )
    return Real(ledger, Toolbox(view, open_eyes(ledger), NONCE), tried, hidden)


def make_key(experiment: str) -> RolloutKey:
    return RolloutKey(
        skill=PARENT, fixture=digest("q"), model=MODEL, replicate=0, experiment=experiment
    )


def test_experiments_are_listed_newest_first(real: Real) -> None:
    found = shown(real.box.answer("list_experiments", {}))
    newest, oldest = found.values()
    assert list(found) == [f"experiment {past.id}" for past in reversed(real.box.view.past)]
    assert newest.startswith("outcome: not applied: the edit changes nothing\nhypothesis: cause 2")
    assert oldest.startswith("outcome: not merged\nhypothesis: cause 1\n\n--- a/x\n")
    assert oldest.endswith("+Rule 1.\n")


def test_without_experiments_the_list_says_so() -> None:
    box = Toolbox(make_view(), Shelf(), NONCE)
    assert box.answer("list_experiments", None) == "There are no past experiments."


def test_corrections_are_listed_newest_first_and_by_case() -> None:
    said = (correction(fixture="a"), correction(fixture="b"), correction(fixture="a", link="x"))
    box = Toolbox(make_view(corrections=said), Shelf(), NONCE)
    assert list(shown(box.answer("list_corrections", {}))) == ["correction of a", "correction of b"]
    only = shown(box.answer("list_corrections", {"fixture": "b"}))
    assert list(only) == ["correction of b"]
    assert box.answer("list_corrections", {"fixture": "c"}) == "There is no correction."


FILTERS: dict[str, tuple[dict[str, JsonValue], list[str]]] = {
    "all of the file as it is": ({}, ["refund", "card", "hello"]),
    "of one case": ({"fixture": "card"}, ["card"]),
    "with a tag": ({"tag": "money"}, ["refund", "card"]),
    "up to a score": ({"max_score": 0.5}, ["refund", "card"]),
    "up to zero": ({"max_score": 0}, ["refund"]),
    "tag and score": ({"tag": "money", "max_score": 0.1}, ["refund"]),
    "nulls are as nothing": (
        {"experiment": None, "fixture": None, "tag": None, "max_score": None},
        ["refund", "card", "hello"],
    ),
    "a part of a tag": ({"tag": "mon"}, []),
    "a part of a case": ({"fixture": "car"}, []),
    "neither is a pattern": ({"fixture": ".*"}, []),
}


@pytest.mark.parametrize(("given", "cases"), FILTERS.values(), ids=FILTERS)
def test_runs_are_listed_by_filters(
    real: Real, given: dict[str, JsonValue], cases: list[str]
) -> None:
    text = real.box.answer("list_traces", given)
    if not cases:
        assert text == "No run matches."
    else:
        assert [row[1] for row in rows(text)] == cases


def test_a_row_has_id_case_side_score_and_tags(real: Real) -> None:
    assert rows(real.box.answer("list_traces", {"fixture": "refund"})) == [
        ["run-refund", "refund", "incumbent", "0", "money short"]
    ]


def test_the_runs_of_an_experiment_are_its_own(real: Real) -> None:
    own: dict[str, JsonValue] = {"experiment": real.experiment.id[:12]}
    assert rows(real.box.answer("list_traces", own)) == [
        ["own-refund", "refund", "candidate", "1", "money"]
    ]
    assert real.box.answer("list_traces", own | {"max_score": 0.9}) == "No run matches."


@pytest.mark.parametrize("trace_id", ["run-refund", "run-hello", "own-refund", "failed"])
def test_a_run_is_read_whole(real: Real, trace_id: str) -> None:
    """Of the first message, or from anywhere on record."""
    (trace,) = (one for one in real.ledger.traces(job="task") if one.id == trace_id)
    found = shown(real.box.answer("read_trace", {"id": trace_id}))
    part = {name.removeprefix("trace: "): data for name, data in found.items()}
    assert part["id"] == trace_id
    assert part["input"] == trace.fixture_input
    assert part["correction by a person"] == trace.correction
    assert json.loads(part["expected"]) == trace.expected
    if trace.reply.error:
        assert part["failure"] == "529 overloaded"
    else:
        assert part["output"] == trace.reply.text
        assert json.loads(part["raw response"]) == trace.reply.response


def test_a_search_covers_every_run_on_record(real: Real) -> None:
    """Those of experiments and those that failed too, part by part."""
    found = rows(real.box.answer("search_traces", {"pattern": r"refund\b|overl\w+"}))
    assert ["failed", "broken", "failure", "529 overloaded"] in found
    assert {row[0] for row in found} == {"run-refund", "own-refund", "failed"}
    assert {"input", "output", "raw request", "raw response"} <= {row[2] for row in found}
    assert real.box.answer("search_traces", {"pattern": "nowhere"}) == "Nothing on record matches."


def test_a_search_goes_through_some_runs_at_a_time_the_newest_first(
    real: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows what it says has seen every run once."""
    everything: dict[str, JsonValue] = {"pattern": "^answer|overloaded"}
    runs = [row[0] for row in rows(real.box.answer("search_traces", everything))]
    assert len(runs) == len(set(runs)) > 2
    assert runs.index("own-refund") < runs.index("run-refund")
    monkeypatch.setattr(tools, "SEARCHED", 2)
    found: list[str] = []
    skip: int | None = 0
    while skip is not None:
        said = real.box.answer("search_traces", {**everything, "skip": skip})
        found += [row[0] for row in rows(said)]
        more = re.search(r"(\d+) older runs were not searched: skip (\d+)\.\Z", said)
        assert more is None or int(more[2]) == skip + 2
        skip = int(more[2]) if more else None
    assert found == runs
    older = real.box.answer("search_traces", {"pattern": "nowhere", "skip": 0})
    assert older.startswith("None of these runs matches. ")
    assert real.box.answer("search_traces", {**everything, "skip": 99}) == "No older run matches."


def test_the_file_can_be_read_as_it_is_and_as_it_was_proposed(real: Real) -> None:
    assert shown(real.box.answer("read_skill", {})) == {"file": SKILL}
    tried, failed = (past.id for past in real.box.view.past)
    assert shown(real.box.answer("read_skill", {"experiment": tried})) == {
        f"file in experiment {tried}": f"{SKILL}Rule 1.\n"
    }
    with pytest.raises(ToolError, match="could not be applied"):
        real.box.answer("read_skill", {"experiment": failed})


# What must not be reached ---------------------------------------------------------------------

UNKNOWN = {
    "none": "",
    "another": "run-nothing",
    "a part of one": "run-refun",
    "a pattern": "run-.*",
    "the holdout's": "run-h1",
    "the holdout's of an experiment": "own-h2",
    "the vault's": "run-v1",
    "a judgement": "run-t-judge",
    "a judgement of an experiment": "own-refund-judge",
    "a turn of the meta-agent": "meta-turn",
    "a turn on an experiment": "meta-own",
    "a path out": "../../holdout",
    "a path on the ledger": "triage/incumbents",
    "an absolute path": "/etc/passwd",
    "a branch": "ratchet/holdout:triage",
    "an option": "--open-files-in-pager=touch",
    "a flag of the search": "-e",
    "more than one line": 'x",\n"id": "run-h1',
    "a quote": '"id": "run-h1"',
    "zero": "a\0b",
    "half a character": "\ud800",
    "a million characters": "x" * 1_000_000,
}


@pytest.mark.parametrize("wanted", UNKNOWN.values(), ids=UNKNOWN)
def test_an_id_that_is_none_is_answered_with_a_sentence(real: Real, wanted: str) -> None:
    """Whether a run or an experiment is asked for."""
    with pytest.raises(ToolError, match=r"^There is no run with that id|cannot take that: id: "):
        real.box.answer("read_trace", {"id": wanted})
    for name in ("list_traces", "read_skill"):
        with pytest.raises(ToolError, match=r"^There is no experiment with that id\."):
            real.box.answer(name, {"experiment": wanted})


def test_an_experiment_that_is_not_in_view_is_not_looked_up() -> None:
    """Not even if the library has it: only what the conversation began with exists."""
    tried = make_experiment()
    shelf = Shelf([own_run(tried, "x", 0.0)], {tried.id: "text", tried.id[:12]: "text"})
    box = Toolbox(make_view(), shelf, NONCE)
    for name in ("list_traces", "read_skill"):
        for wanted in (tried.id, tried.id[:12], "../../holdout"):
            with pytest.raises(ToolError):
                box.answer(name, {"experiment": wanted})
    assert shelf.asked == []


def test_no_call_shows_anything_held_out(real: Real) -> None:
    """Every listing and every search, on a ledger that has a holdout, judgements and turns."""
    tried = real.experiment.id[:12]
    texts = [
        page
        for name, given in [
            ("list_experiments", {}),
            ("list_traces", {}),
            ("list_traces", {"experiment": tried}),
            ("search_traces", {"pattern": "."}),
            ("search_traces", {"pattern": r"(?s)\A.*\Z"}),
            ("read_skill", {"experiment": tried}),
        ]
        for page in pages_of(real.box, name, given)
    ]
    assert real.box.answer("search_traces", {"pattern": SEALED}) == "Nothing on record matches."
    told = "\n".join(texts)
    assert "run-refund" in told
    for secret in (SEALED, "holdout", "vault", *(trace.id for trace in real.hidden)):
        assert secret not in told, secret
    assert {one.id for one in real.ledger.traces(split="holdout")} == {"run-h1", "own-h2"}


# Whatever is asked ----------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, Any, str]] = {
    "no such tool": ("write_file", {}, "no tool 'write_file'"),
    "a shell": ("bash", {"command": "id"}, "no tool 'bash'"),
    "propose, which ends the work": (PROPOSE, {}, "no tool 'propose'"),
    "no tool": ("", {}, "no tool ''"),
    "its class": ("ReadTrace", {"id": "x"}, "no tool"),
    "a method": ("_known", {}, "no tool"),
    "no id": ("read_trace", {}, "id: Field required"),
    "nothing": ("read_trace", None, "id: Field required"),
    "an id that is a number": ("read_trace", {"id": 3}, "id: Input should be a valid string"),
    "another field": ("read_trace", {"id": "x", "path": "/etc"}, "path: Extra inputs"),
    "a list": ("read_trace", ["x"], "input: Input should be a valid dictionary"),
    "a word": ("list_traces", "all", "input: Input should be"),
    "page zero": ("list_traces", {"page": 0}, "page: Input should be greater"),
    "a page too far": ("read_skill", {"page": 2}, "the last one is 1"),
    "a page far too far": ("read_skill", {"page": 10**5000}, "page"),
    "a score above 1": ("list_traces", {"max_score": 2}, "max_score: "),
    "a score that is none": ("list_traces", {"max_score": float("nan")}, "max_score: "),
    "no pattern": ("search_traces", {}, "pattern: Field required"),
    "an empty pattern": ("search_traces", {"pattern": ""}, "pattern: "),
    "a pattern too long": ("search_traces", {"pattern": "x" * 1001}, "pattern: "),
    "half a pattern": ("search_traces", {"pattern": "(a"}, "no regular expression"),
    "nested too deep": ("search_traces", {"pattern": "(" * 500 + ")" * 500}, "no regular"),
    "flags at odds": ("search_traces", {"pattern": "(?u)(?L)a"}, "no regular expression"),
    "a repeat beyond counting": ("search_traces", {"pattern": "a{2,1}"}, "no regular expression"),
}


@pytest.mark.parametrize(("name", "given", "words"), REFUSED.values(), ids=REFUSED)
def test_a_call_that_cannot_be_answered_says_why(name: str, given: JsonValue, words: str) -> None:
    box = Toolbox(make_view(), Shelf([make_trace("a")]), NONCE)
    with pytest.raises(ToolError) as caught:
        box.answer(name, given)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "pattern", "experiment", "fixture", "tag", "max_score", "page"])
            | st.text(max_size=3),
            inner | st.sampled_from(["run-a", "(", "a+", ".", "../../holdout", "\ud800", 1]),
            max_size=3,
        )
    ),
    max_leaves=8,
)
SETTINGS = settings(deadline=None, max_examples=200)  # a busy machine is no failure


@SETTINGS
@given(st.sampled_from(READING) | st.text(max_size=8), JSON)
def test_any_call_is_answered_or_refused_with_a_sentence(name: str, given: JsonValue) -> None:
    tried = make_experiment()
    shelf = Shelf([make_trace("a"), own_run(tried, "a", 1.0)], {tried.id[:12]: "text"})
    view = make_view(failing=(shelf.traces[0],), past=(past_of(tried),))
    try:
        text = Toolbox(view, shelf, NONCE).answer(name, given)
    except ToolError as error:
        text = str(error)
    assert text.strip()


PATTERNS = st.text(
    st.sampled_from(r"ab()[]{}<>?*+.|^$\-:=!0123,PLpNRr&~#"), min_size=1, max_size=12
)


@SETTINGS
@given(PATTERNS)
def test_any_pattern_is_searched_for_or_refused(pattern: str) -> None:
    try:
        text = Toolbox(make_view(), Shelf([make_trace("a")]), NONCE).answer(
            "search_traces", {"pattern": pattern}
        )
    except ToolError as error:
        text = str(error)
    assert text.strip()


@pytest.mark.parametrize("pattern", ["(a+)+$", "(?R)", "(a|aa)+$", "(?:a?){90}a{90}b"])
def test_a_pattern_that_takes_for_ever_is_given_up(
    monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    """All blocks together have the time, so that many of them do not add up."""
    monkeypatch.setattr(tools, "SECONDS", 0.05)
    long = [make_trace(str(n), fixture_input="a" * 4000 + "b\n") for n in range(1000)]
    with pytest.raises(ToolError, match=r"takes more than 0\.05 s"):
        Toolbox(make_view(), Shelf(long), NONCE).answer("search_traces", {"pattern": pattern})


# Pages ----------------------------------------------------------------------------------------


@SETTINGS
@given(st.lists(st.integers(0, 90), max_size=12), st.integers(10, 60))
def test_every_block_is_whole_on_one_page(sizes: list[int], page: int) -> None:
    """And all pages together are all blocks, in order, with no character lost."""
    past = tuple(
        past_of(make_experiment(n), id=f"e{n}", diff=f"{n}:" + "x" * size)
        for n, size in enumerate(sizes, 1)
    )
    box = Toolbox(make_view(past=past), Shelf(), NONCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tools, "PAGE", page * 5)
        pages = pages_of(box, "list_experiments", {})
        patch.setattr(tools, "PAGE", 10**9)
        whole = box.answer("list_experiments", {})
    assert "\n\n".join(pages) == whole
    if past:
        assert [label for page in pages for label in shown(page)] == [
            f"experiment {one.id}" for one in reversed(past)
        ]
        assert [data.rpartition("\n")[2] for page in pages for data in shown(page).values()] == [
            one.diff for one in reversed(past)
        ]


def test_a_block_longer_than_a_page_stands_alone_and_is_not_shortened() -> None:
    big = "\n".join(f"line {n} of it" for n in range(20_000))
    trace = make_trace("big", correction=big, fixture_input=big[::-1])
    box = Toolbox(make_view(failing=(trace,)), Shelf(), NONCE)
    pages = pages_of(box, "read_trace", {"id": trace.id})
    parts = {name: data for page in pages for name, data in shown(page).items()}
    assert parts["trace: correction by a person"] == big
    assert parts["trace: input"] == big[::-1]
    assert [list(shown(page)) for page in pages if len(page) > tools.PAGE] == [
        ["trace: input"],
        ["trace: correction by a person"],
    ]
    assert parts["trace: output"] == trace.reply.text


def test_a_read_run_points_to_the_file_that_is_shown_and_to_nothing_else() -> None:
    """The one thing that is not repeated is the file, word for word as it is."""
    old = make_trace("old", reply=Reply(text="", request={"system": f"{SKILL}More.\n"}))
    now = make_trace("now")
    box = Toolbox(make_view(failing=(now, old)), Shelf(), NONCE)
    raw = shown(box.answer("read_trace", {"id": now.id}))["trace: raw request"]
    assert "as shown above" in raw
    assert "asked now" in raw
    raw = shown(box.answer("read_trace", {"id": old.id}))["trace: raw request"]
    assert json.loads(raw) == {"system": f"{SKILL}More.\n"}


@pytest.fixture(scope="module")
def many() -> Toolbox:
    """500 failing runs of 100 KB."""
    traces = [
        make_trace(f"c{n}", n / 1000, fixture_input=f"{n} " * 20_000, tags=("even",) * (n % 2 == 0))
        for n in range(500)
    ]
    return Toolbox(make_view(failing=tuple(traces)), Shelf(traces), NONCE)


def test_500_runs_of_100_kb_are_listed_in_pages_and_read_one_by_one(many: Toolbox) -> None:
    listed = [row[0] for page in pages_of(many, "list_traces", {}) for row in rows(page)]
    assert listed == [f"run-c{n}" for n in range(500)]
    some = rows(many.answer("list_traces", {"tag": "even", "max_score": 0.01}))
    assert [row[1] for row in some] == ["c0", "c2", "c4", "c6", "c8", "c10"]
    pages = pages_of(many, "read_trace", {"id": "run-c499"})
    parts = {name: data for page in pages for name, data in shown(page).items()}
    assert parts["trace: input"] == "499 " * 20_000


def test_a_search_over_500_runs_of_100_kb_shows_a_line_for_each_place(many: Toolbox) -> None:
    pages = pages_of(many, "search_traces", {"pattern": r"answer to c\d+"})
    found = [row for page in pages for row in rows(page)]
    assert [row[0] for row in found] == [f"run-c{n}" for n in range(500)]
    assert {row[2] for row in found} == {"output"}
    (hit,) = rows(many.answer("search_traces", {"pattern": r"(?:499 ){3,}"}))
    assert hit[:3] == ["run-c499", "c499", "input"]
    assert len(hit[3]) <= tools.LONGEST + 2 * tools.AROUND


# What is offered ------------------------------------------------------------------------------

EVERY = ("add", "replace", "rewrite")


def proposing(limits: Limits) -> dict[str, Any]:
    """What ``propose`` takes."""
    schema = definitions(limits)[-1]["input_schema"]
    assert isinstance(schema, dict)
    return schema


@pytest.mark.parametrize("restart", [False, True])
def test_definitions_are_json_schema(*, restart: bool) -> None:
    found = definitions(Limits(operations=EVERY, restart=restart))
    assert tuple(one["name"] for one in found) == NAMES
    for one in found:
        schema: Any = one["input_schema"]
        jsonschema_rs.meta.validate(schema)
        assert schema["type"] == "object"
        assert len(str(one["description"])) > 20
        assert "$ref" not in json.dumps(schema)


TAKEN: list[tuple[str, dict[str, JsonValue]]] = [
    ("list_experiments", {}),
    ("list_traces", {"experiment": None, "tag": "x", "max_score": 0.5, "page": 1}),
    ("read_trace", {"id": "run-a"}),
    ("search_traces", {"pattern": "a"}),
    ("read_skill", {"experiment": None}),
]


@pytest.mark.parametrize(("name", "given"), TAKEN, ids=[name for name, _ in TAKEN])
def test_what_a_definition_allows_is_what_the_tool_takes(
    name: str, given: dict[str, JsonValue]
) -> None:
    schema: Any = {one["name"]: one["input_schema"] for one in definitions(Limits())}[name]
    validator = jsonschema_rs.Draft202012Validator(schema)
    box = Toolbox(make_view(), Shelf([make_trace("a", tags=("x",))]), NONCE)
    assert validator.is_valid(given)
    assert box.answer(name, given)
    wrongs: list[Any] = [{**given, "path": "x"}, {**given, "page": 0}, {**given, "page": "x"}, []]
    for wrong in wrongs:
        assert not validator.is_valid(wrong)
        with pytest.raises(ToolError):
            box.answer(name, wrong)


EDITS: dict[str, dict[str, JsonValue]] = {
    "add": {"op": "add", "lines": "x", "after": None},
    "replace": {"op": "replace", "old": "x", "new": "y"},
    "rewrite": {"op": "rewrite", "text": "x"},
}


@pytest.mark.parametrize("operations", [("add",), ("add", "replace"), EVERY, ("rewrite",)], ids=str)
def test_propose_offers_the_allowed_operations_only(operations: Any) -> None:
    schema = proposing(Limits(operations=operations))
    validator = jsonschema_rs.Draft202012Validator(schema)
    for operation, edit in EDITS.items():
        made = {"hypothesis": "h", "targets": [], "edits": [edit]}
        assert validator.is_valid(made) == (operation in operations)
    fields = {"add": {"lines", "after"}, "replace": {"old", "new"}, "rewrite": {"text"}}
    offered = set(schema["properties"]["edits"]["items"]["properties"])
    assert offered == {"op"}.union(*(fields[one] for one in operations))
    assert not validator.is_valid({"hypothesis": "h"})


@pytest.mark.parametrize("restart", [False, True])
def test_starting_again_is_offered_where_it_is_allowed(*, restart: bool) -> None:
    offered = proposing(Limits(operations=EVERY, restart=restart))["properties"]
    assert ("start" in offered) == restart
    assert not {"path", "file", "skill"} & set(offered)


def test_in_words_every_tool_that_reads_is_named_with_what_it_takes() -> None:
    text = in_words(Limits())
    for name in READING:
        assert f"\n- {name}(" in text
    assert "- read_trace(page: integer, id: string)" in text
    assert "max_score: number" in text
    assert f"- {PROPOSE}" not in text
    assert json.loads(text.split("\n\n")[2]) == {"tool": "read_trace", "input": {"id": "..."}}


def test_a_version_to_start_from_is_in_no_library() -> None:
    """It is data of the first message: the tools look no version up by a path or a name."""
    shelf = Shelf([], {"first": "text"})
    view = make_view(versions=(Accepted(id="first", number=0, chars=4, score=None),))
    with pytest.raises(ToolError, match="no experiment with that id"):
        Toolbox(view, shelf, NONCE).answer("read_skill", {"experiment": "first"})
    assert shelf.asked == []
