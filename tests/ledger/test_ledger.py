"""What is recorded comes back, each on its own side, and a proposer sees the train side only."""

from __future__ import annotations

import dataclasses
import gc
import json
import subprocess
from enum import Enum
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import pytest

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import Redactor
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import (
    Experiment,
    Landing,
    Proposal,
    Reply,
    Result,
    Rewrite,
    RolloutKey,
    Score,
    Setting,
    Tally,
    Trace,
    digest,
)
from skill_ratchet.ledger import Ledger, Ref, Store, TrainLedger
from skill_ratchet.ledger.sight import Sight
from views import open_eyes

SKILL = "triage"
PARENT_TEXT = "---\nname: triage\n---\nSort mail.\nBe brief.\n"
PARENT = digest(PARENT_TEXT)
MODEL = digest("model")
AT = "2026-01-01T00:00:00Z"

SETTING = Setting(
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


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path / "repo")], check=True)
    return tmp_path / "repo"


@pytest.fixture
def ledger(repo: Path) -> Ledger:
    return reopen(repo)


def reopen(repo: Path) -> Ledger:
    return Ledger(Store(repo, redactor=Redactor({}), clock=lambda: 0.0), SKILL)


def candidate_text(number: int) -> str:
    return f"{PARENT_TEXT}Rule {number}.\n"


def make_experiment(number: int = 1, **changes: Any) -> Experiment:
    text = candidate_text(number)
    fields: dict[str, Any] = {
        "id": digest(SKILL, PARENT_TEXT, text),
        "skill": SKILL,
        "number": number,
        "parent": PARENT,
        "candidate": digest(text),
        "setting": SETTING,
        "proposal": Proposal(
            proposer="meta", model="m", hypothesis="h", edits=(Rewrite(text=text),)
        ),
        "started_at": AT,
    }
    return Experiment(**fields | changes)


def make_key(**changes: Any) -> RolloutKey:
    fields: dict[str, Any] = {
        "skill": PARENT,
        "fixture": digest("refund"),
        "model": MODEL,
        "replicate": 0,
    }
    return RolloutKey(**fields | changes)


def make_trace(**changes: Any) -> Trace:
    fields: dict[str, Any] = {
        "id": digest(sorted(map(str, changes.items()))),
        "key": make_key(),
        "skill": SKILL,
        "fixture": "refund",
        "model": "m",
        "provider": "scripted",
        "started_at": AT,
        "reply": Reply(text="an answer", request={"a": [1, None]}, response={"b": "é\u2028\x00"}),
        "score": Score(value=0.5, reason="half", scorer="exact"),
        "expected": {"label": "x"},
    }
    return Trace(**fields | changes)


def own_run(experiment: Experiment, **changes: Any) -> Trace:
    """A run that belongs to one experiment alone."""
    key = make_key(experiment=experiment.id, replicate=changes.pop("replicate", 0))
    fields = {"key": key, "experiment": experiment.id, "side": "candidate"} | changes
    return make_trace(**fields)


def key_of(trace: Trace) -> str:
    """The digits of a run's key that are in the name of its file."""
    assert trace.key is not None
    return trace.key.digest[:8]


def make_result(experiment: Experiment, **changes: Any) -> Result:
    fields: dict[str, Any] = {
        "experiment": experiment.id,
        "action": "reject",
        "reason": "not_confirmed",
        "detail": "not confirmed",
        "train": Tally(incumbent=0.5, candidate=0.6, pairs=3, wins=1),
        "calls": 6,
        "usd": 0.25,
        "seconds": 1.5,
        "finished_at": AT,
    }
    return Result(**fields | changes)


def make_landing(experiment: Experiment) -> Landing:
    return Landing(experiment=experiment.id, commit="b" * 40, branch="main", at=AT, by="dev")


def add(ledger: Ledger, experiment: Experiment) -> Experiment:
    text = candidate_text(experiment.number) if experiment.candidate else None
    ledger.add_experiment(experiment, parent_text=PARENT_TEXT, candidate_text=text)
    return experiment


def paths(repo: Path, ref: Ref) -> list[str]:
    return Store(repo, redactor=Redactor({})).list(ref, f"{SKILL}/")


@pytest.fixture(params=["journal", "git"])
def stage(request: pytest.FixtureRequest, repo: Path) -> Any:
    """Gives the ledger read back at once, and after a flush by another process's store."""

    def read_back(ledger: Ledger) -> Ledger:
        if request.param == "git":
            ledger.flush("x")
        return reopen(repo)

    return read_back


def test_an_empty_ledger(ledger: Ledger) -> None:
    assert ledger.experiments() == []
    assert ledger.unfinished() == []
    assert list(ledger.traces()) == []
    assert ledger.kept_runs(PARENT, MODEL) == {}
    assert ledger.confirmations() == []
    assert ledger.skill_text(PARENT) is None
    assert ledger.result(digest("none")) is None


def test_an_experiment_and_what_became_of_it_come_back(ledger: Ledger, stage: Any) -> None:
    found = add(ledger, make_experiment())
    ledger.add_result(make_result(found))
    ledger.add_landing(make_landing(found))
    ledger.add_revert(make_landing(found))
    again = stage(ledger)
    assert again.experiments() == [found]
    assert again.result(found.id) == make_result(found)
    assert again.results() == {found.id: make_result(found)}
    assert again.landing(found.id) == again.reversion(found.id) == make_landing(found)
    assert again.landings() == again.reversions() == {found.id: make_landing(found)}
    assert again.skill_text(PARENT) == PARENT_TEXT
    assert again.candidate_text(found.id) == again.skill_text(found.candidate) == candidate_text(1)


def test_where_things_are(ledger: Ledger, repo: Path) -> None:
    found = add(ledger, make_experiment())
    home, kept = f"triage/experiments/{found.id[:12]}", f"triage/incumbents/{PARENT[:12]}"
    ledger.add_result(make_result(found))
    ledger.add_trace(make_trace())
    ledger.add_trace(run := own_run(found, replicate=2))
    ledger.add_trace(sealed := own_run(found, split="holdout"))
    asked = make_key(experiment="meta")
    ledger.add_trace(make_trace(job="meta", experiment=found.id, key=asked, fixture=""))
    ledger.add_trace(make_trace(job="judge", id="j", experiment=found.id, key=None))
    ledger.put_confirmation(look(found.id))
    ledger.flush("x")
    assert paths(repo, Ref.LEDGER) == [
        f"{home}/candidate.diff",
        f"{home}/candidate.txt",
        f"{home}/experiment.json",
        f"{home}/judge/refund.any.0.{digest('j')[:8]}.json",
        f"{home}/proposer/001.{asked.fixture[:8]}.{asked.digest[:8]}.json",
        f"{home}/result.json",
        f"{home}/traces/refund.candidate.2.{key_of(run)}.json",
        f"{kept}/skill.txt",
        f"{kept}/traces/refund.0.{make_key().digest[:8]}.json",
    ]
    assert paths(repo, Ref.HOLDOUT) == [
        f"{home}/confirm.json",
        f"{home}/traces/refund.candidate.0.{key_of(sealed)}.json",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("a\nb\n", "a\nc\n", "--- a/skill.txt\n+++ b/skill.txt\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"),
        (
            "a",
            "a\n",
            "--- a/skill.txt\n+++ b/skill.txt\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n",
        ),
        ("", "a\u2028b\r\n", "--- a/skill.txt\n+++ b/skill.txt\n@@ -0,0 +1 @@\n+a\u2028b\r\n"),
    ],
)
def test_the_difference_is_one_git_would_print(
    ledger: Ledger, old: str, new: str, expected: str
) -> None:
    found = make_experiment()
    ledger.add_experiment(found, parent_text=old, candidate_text=new)
    diff = ledger._train.get(f"triage/experiments/{found.id[:12]}/candidate.diff")
    assert diff == expected


def test_a_proposal_that_could_not_be_applied_has_no_candidate(ledger: Ledger) -> None:
    found = add(ledger, make_experiment(candidate=None))
    assert ledger.candidate_text(found.id) is None
    assert ledger.experiments() == [found]


def test_adding_everything_again_changes_nothing(ledger: Ledger, repo: Path) -> None:
    for _ in range(2):
        found = add(ledger, make_experiment())
        ledger.add_trace(make_trace())
        ledger.add_trace(make_trace(id="p", job="meta", experiment=found.id, key=None))
        ledger.flush("x")
    count = ["git", "-C", str(repo), "rev-list", "--count", Ref.LEDGER]
    assert subprocess.run(count, capture_output=True, check=True).stdout == b"1\n"


def test_two_experiments_of_one_name_are_refused(ledger: Ledger) -> None:
    found = add(ledger, make_experiment())
    twin = make_experiment(id=found.id[:12] + "0" * 52)
    with pytest.raises(RatchetError, match="share a name"):
        add(ledger, twin)


def test_experiments_are_in_order_of_their_number(ledger: Ledger) -> None:
    for number in (10, 2, 1):
        add(ledger, make_experiment(number))
    assert [found.number for found in ledger.experiments()] == [1, 2, 10]


def test_the_unfinished_experiment_is_the_first_without_a_result(ledger: Ledger) -> None:
    first, second = add(ledger, make_experiment(1)), add(ledger, make_experiment(2))
    assert ledger.unfinished() == [first, second]
    ledger.add_result(make_result(first))
    assert ledger.unfinished() == [second]
    ledger.add_result(make_result(second))
    assert ledger.unfinished() == []


@pytest.mark.parametrize(
    "trace",
    [
        make_trace(),
        make_trace(score=None, reply=Reply(error="overloaded")),
        make_trace(reply=Reply(text="\ud800 half a character")),
        make_trace(reply=Reply(text="x" * 300_000)),
        make_trace(fixture_input='"\\\n\r\t\x1b', correction="word for word \U0001f600"),
    ],
)
def test_a_trace_comes_back_word_for_word(ledger: Ledger, stage: Any, trace: Trace) -> None:
    ledger.add_trace(trace)
    assert list(stage(ledger).traces()) == [trace]


def test_only_the_incumbents_own_scored_train_runs_are_kept_runs(ledger: Ledger) -> None:
    found = make_experiment()
    kept = [
        make_trace(),
        make_trace(key=make_key(replicate=1)),
        make_trace(fixture="other", key=make_key(fixture=digest("other"))),
    ]
    others = [
        make_trace(key=make_key(replicate=2), score=None, reply=Reply(error="timeout")),
        make_trace(key=make_key(model=digest("another"))),
        make_trace(key=make_key(skill=digest("another"))),
        make_trace(key=make_key(replicate=3), split="holdout"),
        make_trace(key=make_key(replicate=4), job="judge"),
        own_run(found),
        own_run(found, side="incumbent"),
    ]
    for trace in [*kept, *others]:
        ledger.add_trace(trace)
    assert ledger.kept_runs(PARENT, MODEL) == {
        (trace.key.fixture, trace.key.replicate): trace for trace in kept if trace.key
    }


@pytest.mark.parametrize("split", ["holdout", "vault"])
@pytest.mark.parametrize("job", ["task", "judge", "meta"])
@pytest.mark.parametrize("owner", ["experiment", "incumbent"])
def test_a_trace_that_is_not_train_never_reaches_the_ledger_branch(
    ledger: Ledger, repo: Path, split: Any, job: Any, owner: str
) -> None:
    found = make_experiment()
    trace = own_run(found, split=split, job=job)
    if owner == "incumbent":
        trace = make_trace(split=split, job=job)
    ledger.add_trace(trace)
    ledger.flush("x")
    assert paths(repo, Ref.LEDGER) == []
    assert list(ledger.traces(split=split)) == [trace]
    assert list(ledger.traces()) == []


def test_an_experiments_runs_are_its_own_and_of_one_split(ledger: Ledger, stage: Any) -> None:
    found, other = make_experiment(1), make_experiment(2)
    train = [own_run(found, side=side) for side in ("candidate", "incumbent")]
    sealed, vault = own_run(found, split="holdout"), own_run(found, split="vault", replicate=1)
    for trace in [*train, sealed, vault, own_run(other), make_trace()]:
        ledger.add_trace(trace)
    again = stage(ledger)
    assert again.experiment_runs(found.id, "train") == train
    assert again.experiment_runs(found.id, "holdout") == [sealed]
    assert again.experiment_runs(found.id, "vault") == [vault]


def test_a_call_made_again_stands_beside_the_one_that_failed(ledger: Ledger) -> None:
    found = make_experiment()
    ledger.add_trace(own_run(found, id="1", score=None, reply=Reply(error="overloaded")))
    ledger.add_trace(own_run(found, id="2"))
    assert {trace.id for trace in ledger.experiment_runs(found.id, "train")} == {"1", "2"}


def test_proposer_calls_are_numbered_as_they_come(ledger: Ledger, repo: Path) -> None:
    found = make_experiment()
    for name in ("a", "b", "a"):
        ledger.add_trace(make_trace(id=name, job="meta", experiment=found.id, key=None))
    ledger.add_trace(make_trace(id="c", job="meta", key=None))
    assert [path.rpartition("/")[2] for path in paths(repo, Ref.LEDGER)] == [
        "001.json",
        "002.json",
        "001.json",
    ]
    assert [trace.id for trace in ledger.traces(job="meta")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "changes", [{"key": None}, {"key": make_key(experiment="0" * 64)}, {"fixture": "../x"}]
)
def test_a_trace_without_a_place_is_refused(ledger: Ledger, changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, RatchetError)):
        ledger.add_trace(make_trace(**changes))


def test_an_experiment_is_found_by_number_or_start_of_id(ledger: Ledger) -> None:
    first = add(ledger, make_experiment(1, id="2abc" + "0" * 60))
    second = add(ledger, make_experiment(2, id="2abd" + "0" * 60))
    for prefix in ("1", "#1", "2abc", " 2ABC ", first.id):
        assert ledger.find(prefix) == first
    assert ledger.find("2") == second


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("2ab", r"'2ab' matches 2 experiments, such as 1 \(2abc0+\), 2 \(2abd0+\)"),
        ("3", "no experiment matches '3'"),
        ("xyz", "no experiment matches 'xyz'"),
    ],
)
def test_an_unclear_experiment_is_an_error(ledger: Ledger, prefix: str, message: str) -> None:
    add(ledger, make_experiment(1, id="2abc" + "0" * 60))
    add(ledger, make_experiment(2, id="2abd" + "0" * 60))
    with pytest.raises(RatchetError, match=message):
        ledger.find(prefix)


def test_a_trace_is_found_by_the_start_of_its_id(ledger: Ledger) -> None:
    found = make_experiment()
    train = own_run(found, id="aa-1", fixture_input='"id": "aa-2')
    sealed = own_run(found, id="aa-2", split="holdout")
    ledger.add_trace(train)
    ledger.add_trace(sealed)
    assert ledger.find_trace("aa") == train
    assert ledger.find_trace("aa-2", split="holdout") == sealed
    with pytest.raises(RatchetError, match="no trace matches 'aa-2'"):
        ledger.find_trace("aa-2")
    ledger.add_trace(make_trace(id="aa-3"))
    with pytest.raises(RatchetError, match="'aa' matches 2 traces"):
        ledger.find_trace("aa")


def test_looks_at_the_holdout_come_back_even_without_their_experiment(
    ledger: Ledger, repo: Path, stage: Any
) -> None:
    looks = [
        Confirmation(experiment=digest(name), parent=PARENT, attempt=1, started_at=AT)
        for name in "ab"
    ]
    for look in looks:
        ledger.put_confirmation(look)
    again = stage(ledger)
    assert again.confirmation(looks[0].experiment) == looks[0]
    assert again.confirmation(digest("none")) is None
    assert sorted(again.confirmations(), key=str) == sorted(looks, key=str)
    assert paths(repo, Ref.LEDGER) == []


def test_a_proposers_answer_is_found_by_its_question(ledger: Ledger, stage: Any) -> None:
    key, other = make_key(experiment="meta"), make_key(experiment="meta", replicate=1)

    def asked(key: RolloutKey, when: str, reply: Reply) -> Trace:
        return make_trace(id=f"{key.digest[:16]}-{when}", key=key, job="meta", reply=reply)

    ledger.add_trace(asked(other, "1", Reply(text="another question's")))
    ledger.add_trace(asked(key, "1", Reply(error="overloaded")))
    assert stage(ledger).proposer_reply(key) is None
    ledger.add_trace(asked(key, "2", Reply(text="yes")))
    again = stage(ledger)
    assert again.proposer_reply(key) == Reply(text="yes")
    assert again.proposer_reply(make_key(replicate=9)) is None


def test_skills_are_apart(ledger: Ledger, repo: Path) -> None:
    add(ledger, make_experiment())
    other = Ledger(Store(repo, redactor=Redactor({})), "triage-two")
    assert other.experiments() == []
    assert list(other.traces()) == []


@pytest.mark.parametrize("skill", ["ledger", "holdout", "", "a/b", "..", "x.json", ".git"])
def test_a_skill_name_that_cannot_be_kept_is_refused(repo: Path, skill: str) -> None:
    with pytest.raises(RatchetError):
        Ledger(Store(repo, redactor=Redactor({})), skill)


def test_a_record_that_cannot_be_read_names_its_path(ledger: Ledger) -> None:
    found = add(ledger, make_experiment())
    path = f"triage/experiments/{found.id[:12]}/result.json"
    ledger._store.put(Ref.LEDGER, path, '{"experiment": 1}')
    with pytest.raises(RatchetError, match=rf"{path} in the ledger is not a Result"):
        ledger.results()


def test_a_secret_in_a_reply_leaves_a_trace_that_can_be_read(repo: Path) -> None:
    secret = 'sk-"quoted"-\n-7f3a'  # noqa: S105  made up
    ledger = Ledger(Store(repo, redactor=Redactor({"API_KEY": secret})), SKILL)
    ledger.add_trace(make_trace(reply=Reply(text=f"it is {secret}!", response={"k": [secret]})))
    (trace,) = ledger.traces()
    assert trace.reply.text == "it is [redacted:API_KEY]!"
    assert trace.reply.response == {"k": ["[redacted:API_KEY]"]}


def look(experiment: str, started_at: str = AT) -> Confirmation:
    return Confirmation(experiment=experiment, parent=PARENT, attempt=1, started_at=started_at)


def sealed_ledger(repo: Path) -> Ledger:
    """A ledger with two experiments, one landed, and held-out words on the holdout branch."""
    ledger = reopen(repo)
    for number in (1, 2, 3):
        add(ledger, make_experiment(number))
        ledger.add_trace(own_run(make_experiment(number)))
        held = own_run(make_experiment(number), split="holdout", fixture_input="HELD-OUT WORDS")
        ledger.add_trace(held)
        ledger.put_confirmation(look(make_experiment(number).id, "HELD-OUT NUMBERS"))
    for number in (1, 2):
        ledger.add_result(make_result(make_experiment(number)))
    ledger.add_landing(make_landing(make_experiment(1)))
    return ledger


def test_a_proposer_sees_finished_experiments_and_whether_they_were_merged(repo: Path) -> None:
    ledger = sealed_ledger(repo)
    view = open_eyes(ledger)
    assert [(seen.experiment.number, seen.outcome) for seen in view.attempts()] == [
        (1, "merged"),
        (2, "not merged"),
    ]
    assert view.runs(make_experiment(1).id) == [own_run(make_experiment(1))]
    ledger.add_revert(make_landing(make_experiment(1)))
    assert [seen.outcome for seen in view.attempts()] == ["not merged", "not merged"]


def test_a_proposer_sees_failures_worst_first(ledger: Ledger) -> None:
    for replicate, value in enumerate([1.0, 0.5, 0.0]):
        score = Score(value=value, reason="r", scorer="exact")
        ledger.add_trace(make_trace(key=make_key(replicate=replicate), score=score))
    failures = open_eyes(ledger).failures(PARENT, MODEL)
    assert [trace.score.value for trace in failures if trace.score] == [0.0, 0.5]


def reachable(root: object) -> list[object]:
    """Everything ``root`` carries: attributes, items, bound objects and closures, all the way."""
    found: dict[int, object] = {}
    queue = [root]
    while queue:
        item = queue.pop()
        if id(item) in found or isinstance(item, (type, ModuleType)):
            continue  # code is no secret: what matters is what an object was given
        found[id(item)] = item
        if isinstance(item, FunctionType):
            queue += [cell.cell_contents for cell in item.__closure__ or ()]
        elif isinstance(item, MethodType):
            queue += [item.__self__, item.__func__]
        else:
            queue += gc.get_referents(item)
    return list(found.values())


def leads_to_holdout(root: object) -> bool:
    words = ("HELD-OUT", "ratchet/holdout", "journal/holdout")
    return any(
        isinstance(item, (Store, Ledger, Enum))
        or (isinstance(item, (str, Path)) and any(word in str(item) for word in words))
        for item in reachable(root)
    )


@pytest.mark.parametrize("flushed", [True, False])
def test_nothing_in_a_proposers_view_leads_to_the_holdout(
    repo: Path,
    flushed: bool,  # noqa: FBT001
) -> None:
    ledger = sealed_ledger(repo)
    if flushed:
        ledger.flush("x")
    view = open_eyes(ledger)
    shown = [view.attempts(), view.experiments(), view.skill_text(PARENT)]
    shown += [view.runs(make_experiment(1).id), view.kept_runs(PARENT, MODEL)]
    assert not leads_to_holdout(view)
    assert not leads_to_holdout(shown)
    assert leads_to_holdout(ledger)  # the search does find it where it is


def test_a_proposers_view_has_no_way_to_write_or_to_ask_for_a_split() -> None:
    public = {name for name in dir(TrainLedger) if not name.startswith("_")}
    assert not {name for name in public if name.startswith(("add", "put", "flush", "confirm"))}
    assert not issubclass(Ledger, TrainLedger)


def test_a_proposers_view_cannot_be_built_on_the_holdout(repo: Path) -> None:
    store = Store(repo, redactor=Redactor({}))
    with pytest.raises(ValueError, match="holdout"):
        TrainLedger(store.reader(Ref.HOLDOUT), SKILL, Sight((), frozenset(), frozenset()))


def test_an_attempt_cannot_be_changed(repo: Path) -> None:
    attempt = open_eyes(sealed_ledger(repo)).attempts()[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        attempt.outcome = "merged"  # type: ignore[misc]  # the point of the test


def test_traces_are_pretty_enough_to_read_in_a_browser(ledger: Ledger, repo: Path) -> None:
    ledger.add_trace(make_trace(correction="né\n"))
    ledger.flush("x")
    (path,) = paths(repo, Ref.LEDGER)
    text = Store(repo, redactor=Redactor({})).get(Ref.LEDGER, path) or ""
    assert '\n  "correction": "né\\n",\n' in text
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
