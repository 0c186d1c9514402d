"""Many skills in one repository: side by side, one ledger, one budget, one dashboard."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from skill_ratchet.base.errors import ExitCode, RatchetError
from skill_ratchet.core import markdown
from skill_ratchet.core.records import Reply, Request, Run
from skill_ratchet.experiment import budget as budgets
from skill_ratchet.github import dashboard, http, pages, schedule
from skill_ratchet.ledger import Ledger, TrainLedger, access
from skill_ratchet.project import repository
from skill_ratchet.providers.scripted import Scripted
from stage import staging
from views import proposers
from world import CASES, SEALED, SKILL_TEXT, Mortuary, World, case, idea, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stage import Stage

NAMES = ("triage", "notes", "tone")
MANUAL = {"gate": {"merge": "manual"}}
ON_TRAIN, ON_HOLDOUT = 3 + 1 + 3, 2 * 2  # calls: old skill, proposer and candidate; both sides
NOW = datetime(2026, 7, 14, 9, 30, tzinfo=UTC)


def settings(names: Sequence[str], **more: Any) -> dict[str, Any]:
    return {"skills": {name: {"scorer": "label"} for name in names}} | more


def add_skills(names: Sequence[str]) -> dict[str, str]:
    """The files of skills besides the first, which ``World.make`` writes."""
    files: dict[str, str] = {}
    for name in names[1:]:
        files[f"skills/{name}/SKILL.md"] = SKILL_TEXT.replace("triage", name)
        for split, cases in CASES.items():
            for one in cases:
                files[f"fixtures/{name}/{split}/{one}.yml"] = case(one, split)
    return files


def project(path: Path, names: Sequence[str] = NAMES, **more: Any) -> World:
    world = World.make(path, config=settings(names, **more))
    for file, text in add_skills(names).items():
        world.write(file, text)
    world.commit("skills")
    return world


@pytest.fixture
def make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Sequence[str]], Stage]]:
    """A repository on GitHub with some skills, and no wait between two writes."""
    monkeypatch.setattr(http, "_PACE", 0.0)
    with staging(tmp_path, monkeypatch) as build:

        def several(names: Sequence[str] = NAMES, model: str | None = None, **more: Any) -> Stage:
            stage: Stage = build(config=settings(names, **more), model=model)
            if more_files := add_skills(names):
                stage.hub.person_pushes("octo", "main", more_files)
            return stage

        yield several


def ledger_of(world: World, name: str) -> Ledger:
    return access.open_ledger(repository.open_project(world.path), name)


def matrix(stage: Stage, names: Sequence[str], round_: str = "1", *args: str) -> dict[str, Any]:
    """Every skill proposed, then every one confirmed, all from one commit and one ledger."""
    stage.sha = stage.hub.tip("main")
    done: dict[str, Any] = {}
    for name in names:
        bundle = stage.folder / f"proposals{round_}" / name
        world = stage.job(f"propose-{name}{round_}")
        ran = world.ratchet("propose", name, "--json", "--bundle", str(bundle), *args)
        assert ran.code in {ExitCode.DONE, ExitCode.BUDGET}, ran.err
    for name in names:
        folders = [stage.folder / f"{kind}{round_}" / name for kind in ("proposals", "bundles")]
        world = stage.job(f"confirm-{name}{round_}")
        given = ["--bundle", str(folders[0]), "--out", str(folders[1])]
        given += args if "--usd" in args else ()
        ran = world.ratchet("confirm", name, "--json", *given)
        assert ran.code in {ExitCode.DONE, ExitCode.BUDGET}, ran.err
        done[name] = json.loads(ran.out)
    return done


def publish(stage: Stage, round_: str = "1", *, into: str = "publish") -> Any:
    world = stage.job(f"{into}{round_}")
    folder = stage.folder / f"bundles{round_}"
    return world.ratchet("publish", "--json", "--bundles", str(folder))


def pull_numbers(stage: Stage) -> dict[str, int]:
    """The open pull requests by branch; there are never two of one."""
    found = [one for one in stage.hub.state.issues.values() if one.pull and one.state == "open"]
    branches = {one.pull.head: one.number for one in found if one.pull}
    assert len(branches) == len(found)
    return branches


def issues(stage: Stage) -> list[Any]:
    return [one for one in stage.hub.state.issues.values() if one.pull is None]


# Side by side ---------------------------------------------------------------------------------


def test_skills_that_ran_side_by_side_are_published_one_after_the_other(
    make: Callable[..., Stage],
) -> None:
    """A pull request each, every record of each, one dashboard; and doing it twice is once."""
    stage = make(**MANUAL)
    confirmed = matrix(stage, NAMES)
    assert {name: one["action"] for name, one in confirmed.items()} == dict.fromkeys(NAMES, "hold")

    ran = publish(stage)

    assert ran.code == 0, ran.err
    reasons = {one["skill"]: one["reason"] for one in ran.json["skills"]}
    assert reasons == dict.fromkeys(NAMES, "awaits_person")
    pulls = pull_numbers(stage)
    assert sorted(pulls) == sorted(f"ratchet/{name}" for name in NAMES)
    after = stage.job("after")
    for name in NAMES:
        ledger, own = ledger_of(after, name), ledger_of(World(confirm_job(stage, name)), name)
        assert [one.attempt for one in ledger.confirmations()] == [1]
        for split, runs in (("train", 6), ("holdout", ON_HOLDOUT)):
            kept = {trace.id for trace in ledger.traces(split=split, job="task")}  # type: ignore[arg-type]
            assert len(kept) == runs
            assert kept == {trace.id for trace in own.traces(split=split, job="task")}  # type: ignore[arg-type]
        assert [row["state"] for row in after.ratchet("log", name, "--json").json] == [
            "hold: awaits_person"
        ]
    (board,) = issues(stage)
    assert board.title == "Ratchet"
    world, writes = stage.hub.world(), len(stage.hub.writes)

    again = publish(stage, into="again")

    assert (again.code, again.json) == (0, ran.json)
    assert stage.hub.world() == world
    assert [one for one in stage.hub.writes[writes:] if "git-receive-pack" not in one] == []
    assert SEALED not in "".join(str(one.body) for one in stage.hub.state.issues.values())


def confirm_job(stage: Stage, name: str) -> Path:
    return stage.folder / f"confirm-{name}1"


def test_a_second_round_goes_on_from_the_first(make: Callable[..., Stage]) -> None:
    """Each skill is merged in the first; in the second each one's ledger knows of its own."""
    ideas = [idea(1, "Rule alpha."), idea(2, "Rule beta.")]
    names = NAMES[:2]
    stage = make(names, model=script(ideas))
    matrix(stage, names)
    assert [one["action"] for one in publish(stage).json["skills"]] == ["merge", "merge"]
    stage.sha = None

    rows = stage.job("look").ratchet("log", "notes", "--json").json
    assert [row["state"] for row in rows] == ["merged"]
    ran = stage.job("propose2").ratchet(
        "propose", "notes", "--bundle", str(stage.folder / "second")
    )

    assert ran.code == 0, ran.err
    assert "Every train case passes" in ran.out


def test_a_skill_is_only_scored(make: Callable[..., Stage]) -> None:
    """With no attempts, also while its pull request waits: nothing is proposed, settled, merged."""
    names = NAMES[:1]
    stage = make(names, **MANUAL)
    matrix(stage, names)
    publish(stage)
    stage.hub.person_pushes("octo", "main", {"skills/triage/SKILL.md": f"{SKILL_TEXT}Mine.\n"})
    stage.sha = None
    before = stage.hub.tip("ratchet/triage")

    world = stage.job("shown")
    ran = world.ratchet("propose", "--attempts", "0", "--bundle", str(stage.folder / "shown1"))
    scored = matrix(stage, names, "2", "--attempts", "0")
    assert publish(stage, "2").code == 0

    assert ran.code == 0, ran.err
    assert "triage with scripted: 0% on train; 3 calls, $0.00" in ran.out
    assert (scored["triage"]["experiment"], scored["triage"]["calls"]) == (None, 0)
    assert stage.hub.tip("main") == stage.sha
    ledger = ledger_of(stage.job("after"), "triage")
    assert len(ledger.experiments()) == 1
    run = ledger.last_run()
    assert run is not None
    assert (run.job, run.ended, run.calls) == ("propose", "done", 3)
    assert before is not None


# What a run spent -----------------------------------------------------------------------------


def bundled(world: World, *words: str) -> tuple[str, ...]:
    return tuple(word.replace("DIR", str(world.path.parent)) for word in words)


BROKEN = script(first=[{"when": {"input_contains": "t3"}, "error": "overloaded"}])


@pytest.mark.parametrize(
    ("words", "more", "job", "ended", "calls"),
    [
        (("run",), {}, "run", "done", ON_TRAIN + ON_HOLDOUT),
        (("run", "--attempts", "0"), {}, "run", "done", 3),
        (("propose", "--bundle", "DIR/out"), {}, "propose", "stopped", ON_TRAIN),
        (("eval",), {}, "eval", "done", 3),
        (("eval", "--split", "holdout"), {}, "eval", "done", 2),
        (("check", "--noise"), {}, "noise", "done", 9),
        (("run",), {"model": BROKEN}, "run", "error", 3),
        (("run",), {"config": {"budget": {"calls": 5}}}, "run", "budget", 5),
        (("run",), {"hold": True}, "run", "stopped", 0),
    ],
)
def test_every_run_writes_down_what_it_spent(
    tmp_path: Path,
    words: tuple[str, ...],
    more: dict[str, Any],
    job: str,
    *,
    ended: str,
    calls: int,
) -> None:
    """Also one that failed, or that tried nothing."""
    hold = more.pop("hold", False) if (more := dict(more)) else False
    world = World.make(tmp_path / "p", **more)
    if hold:
        (world.path / ".ratchet-hold").touch()

    world.ratchet(*bundled(world, *words))

    run = world.ledger().last_run()
    assert run is not None
    assert (run.job, run.ended, run.calls, run.usd, run.counted) == (job, ended, calls, 0.0, 0.0)
    assert run.ended_at is not None
    assert run.started_at <= run.ended_at
    paths = world.git("ls-tree", "-r", "--name-only", "ratchet/ledger").split("\n")
    assert [path for path in paths if "/runs/" in path] == [f"triage/runs/{run.name}.json"]


def test_a_run_that_was_killed_counts_as_all_it_could_have_spent(tmp_path: Path) -> None:
    """It is told from one that ended; the next run has a record of its own."""
    world = World.make(tmp_path / "p", config={"budget": {"usd": 2.5}})
    mortuary = Mortuary(tmp_path)
    try:
        assert mortuary.run(world, "run", at="after call #2").code < 0
    finally:
        mortuary.close()

    run = world.ledger().last_run()
    assert run is not None
    assert (run.ended, run.ended_at, run.usd, run.counted) == (None, None, None, 2.5)
    assert world.run().code == 0
    month = world.ledger().runs_of_month(run.started_at[:7])
    assert [one.ended for one in month] == [None, "done"]
    assert budgets.counted(month) == 2.5
    assert budgets.known(month) is None


def test_the_proposer_sees_nothing_of_it(tmp_path: Path) -> None:
    """Its view of the ledger has no way to the runs' records, and they are no task runs."""
    world = World.make(tmp_path / "p")
    world.ratchet("eval")
    world.run()

    view = proposers(world)
    assert isinstance(view, TrainLedger)
    assert not [name for name in dir(view) if name in ("last_run", "runs_of_month", "add_run")]
    assert {trace.job for trace in view.task_runs(skip=0, most=1000)[0]} == {"task"}
    (asked,) = world.ledger().traces(job="meta")
    assert "started_at" not in json.dumps(asked.reply.request)
    assert "counted" not in json.dumps(asked.reply.request)


# One budget a month ---------------------------------------------------------------------------


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The scripted model's calls cost something."""
    real = Scripted.complete

    def arrange(usd: float | None, worst: float = 0.25) -> None:
        async def complete(model: Scripted, request: Request) -> Reply:
            return (await real(model, request)).with_(usd=usd)

        monkeypatch.setattr(Scripted, "complete", complete)
        monkeypatch.setattr(Scripted, "worst_case_usd", lambda *_: worst)

    return arrange


def spent(
    world: World, usd: float, *, skill: str = "tone", at: datetime | None = None, **more: Any
) -> None:
    """Put down what a run of another skill has spent."""
    stamp = (at or datetime.now(UTC)).isoformat(timespec="microseconds")
    given: dict[str, Any] = {"ended_at": stamp, "ended": "done", "calls": 1, "usd": usd} | more
    run = Run(skill=skill, job="run", started_at=stamp, **({"counted": usd} | given))
    ledger = ledger_of(world, skill)
    ledger.add_run(run)
    ledger.flush("tone: x")


def last_month() -> datetime:
    return datetime.now(UTC).replace(day=1) - timedelta(days=1)


@pytest.mark.parametrize(
    ("before", "args", "calls", "said"),
    [
        ([], (), 4, "what is left of the month's budget of $1.00"),
        ([0.5], (), 2, "what is left of the month's budget of $0.50"),
        ([0.3, 0.2], (), 2, "what is left of the month's budget of $0.50"),
        ([1.0], (), 0, "what is left of the month's budget of $0.00"),
        ([7.0], (), 0, "what is left of the month's budget of $0.00"),
        ([0.5], ("--usd", "0.25"), 1, "this run's cap of $0.25"),
        ([0.5], ("--usd", "0.75"), 2, "what is left of the month's budget of $0.50"),
        ([], ("--usd", "0"), 0, "this run's cap of $0.00"),
    ],
)
def test_a_run_may_spend_what_the_month_has_left(
    tmp_path: Path,
    priced: Callable[..., None],
    before: list[float],
    args: tuple[str, ...],
    *,
    calls: int,
    said: str,
) -> None:
    """All skills together; the error names the key, or the option."""
    priced(0.25)
    world = World.make(tmp_path / "p", config={"budget": {"month_usd": 1.0}})
    spent(world, 50.0, at=last_month())
    for number, usd in enumerate(before):
        spent(world, usd, skill=("tone", "gone")[number % 2])

    ran = world.run(*args)

    assert ran.code == ExitCode.BUDGET
    assert ran.json["calls"] == calls
    assert said in ran.err
    assert ("`--usd`" if "cap" in said else "`budget.month_usd`") in ran.err


def test_the_month_is_not_exceeded_however_often_a_run_is_tried(
    tmp_path: Path, priced: Callable[..., None]
) -> None:
    """By three skills in turn; and a call that is free is made all the same."""
    priced(0.25)
    world = project(tmp_path / "p", budget={"month_usd": 2.0, "usd": 0.75})

    for name in NAMES * 2:
        world.ratchet("run", name)

    month = world.ledger().runs_of_month(budgets.month_of(datetime.now(UTC)))
    assert len(month) == 6
    assert budgets.known(month) == 2.0
    priced(0.0, worst=0.0)
    assert world.ratchet("eval", "tone", "--split", "holdout").code == 0


def test_a_price_that_is_not_known_counts_as_what_was_reserved(
    tmp_path: Path, priced: Callable[..., None]
) -> None:
    """It is not taken for nothing: neither for this run nor for the month."""
    priced(None, worst=0.4)
    world = World.make(tmp_path / "p", config={"budget": {"month_usd": 1.0}})

    assert world.run().code == ExitCode.BUDGET

    run = world.ledger().last_run()
    assert run is not None
    assert (run.calls, run.usd) == (2, None)
    assert run.counted == pytest.approx(0.8)
    assert world.run().code == ExitCode.BUDGET
    assert world.ledger().last_run() != run
    assert "of $0.20" in world.run().err


@pytest.mark.parametrize(
    "provider",
    [
        {"provider": {"type": "command", "command": "true"}},
        {"provider": "anthropic", "model": "no-such-model"},
        {"provider": {"type": "anthropic", "base_url": "http://127.0.0.1:9"}, "model": "mine"},
    ],
)
def test_a_month_of_unknown_prices_is_refused(tmp_path: Path, provider: dict[str, Any]) -> None:
    """A cap that cannot hold would be none."""
    world = World.make(tmp_path / "p", config={"budget": {"month_usd": 1.0}} | provider)

    ran = world.run()

    assert ran.code == ExitCode.ERROR
    assert "budget.month_usd cannot hold" in " ".join(ran.err.split())
    assert world.branches() == {"main"}


@pytest.mark.parametrize("usd", ["nan", "inf", "-1", "much"])
@pytest.mark.parametrize("command", ["run", "propose", "confirm"])
def test_a_cap_is_a_number_of_dollars(tmp_path: Path, command: str, usd: str) -> None:
    world = World.make(tmp_path / "p")
    folders = ("--bundle", str(tmp_path), "--out", str(tmp_path / "out"))
    more = folders if command == "confirm" else ()
    assert world.ratchet(command, "--usd", usd, *more).code == ExitCode.USAGE
    assert world.branches() == {"main"}


@pytest.mark.parametrize("jobs", [2, 6, 40, 400])
@pytest.mark.parametrize("usd", [0.0, 1.0, 0.1, 9.99, 1e-7])
def test_shares_are_never_more_than_the_whole(jobs: int, usd: float) -> None:
    share = float(f"{budgets.share(usd, jobs):.6f}")
    assert 0 <= share * jobs <= usd
    assert usd - share * jobs <= jobs * 1e-5


def test_the_jobs_of_a_matrix_keep_within_the_month(
    make: Callable[..., Stage], priced: Callable[..., None]
) -> None:
    """They cannot see each other's records, so each has a share; the remote has the sum."""
    priced(0.25)
    names = NAMES[:2]
    stage = make(names, budget={"month_usd": 4.0})
    planned = plan_of(stage.job("plan"), "--json")
    assert planned.json["usd"] == 1.0

    matrix(stage, names, "1", "--usd", str(planned.json["usd"]))
    ran = publish(stage)

    assert ran.code == 0, ran.err
    stage.sha = None
    month = ledger_of(stage.job("after"), "triage").runs_of_month(
        budgets.month_of(datetime.now(UTC))
    )
    assert Counter(run.job for run in month) == {"propose": 2}
    assert budgets.known(month) == 2.0
    assert plan_of(stage.job("plan2"), "--json").json["usd"] == 0.5


# Which skills are due -------------------------------------------------------------------------


def plan_of(world: World, *args: str) -> Any:
    return world.ratchet("due", *args)


def box(stage: Stage) -> None:
    publish(stage, "0")
    (board,) = issues(stage)
    assert "- [ ] hold `notes`" in board.body
    ticked = board.body.replace("- [ ] hold `notes`", "- [x] hold `notes`")
    stage.hub.person_edits("octo", board.number, body=ticked)


def stop_file(stage: Stage) -> None:
    stage.hub.person_pushes("octo", "main", {".ratchet-hold": ""})


def bot_pull(stage: Stage, *labels: str) -> None:
    """As publish opens it."""
    stage.hub.person_pushes("octo", "ratchet/notes", {"skills/notes/SKILL.md": "x\n"})
    github_of(stage).open_pull(
        branch="ratchet/notes",
        base="main",
        title="t",
        body="b",
        marker=pages.marker("pull", "notes"),
    )
    stage.hub.person_labels(max(stage.hub.state.issues), *labels)


def held_pull(stage: Stage) -> None:
    bot_pull(stage, "ratchet:hold")


def persons_pull(stage: Stage) -> None:
    """With the bot's marker, from the branch that would be the bot's."""
    body = pages.marker("pull", "notes")
    stage.hub.person_pushes("octo", "ratchet/notes", {"skills/notes/SKILL.md": "x\n"})
    stage.hub.person_opens_pull("octo", head="ratchet/notes", title="t", body=body)


def bots_other_pull(stage: Stage) -> None:
    """From a branch that is no skill's."""
    stage.hub.person_pushes("octo", "elsewhere", {"README.md": "x\n"})
    github_of(stage).open_pull(
        branch="elsewhere", base="main", title="t", body="b", marker=pages.marker("pull", "notes")
    )


def closed_pull(stage: Stage) -> None:
    bot_pull(stage)
    stage.hub.person_edits("octo", max(stage.hub.state.issues), state="closed")


def unsound(stage: Stage) -> None:
    stage.hub.person_pushes("octo", "main", {"fixtures/notes/train/t1.yml": "{}"})


def no_holdout(stage: Stage) -> None:
    gone = {f"fixtures/notes/holdout/{one}.yml": None for one in CASES["holdout"]}
    stage.hub.person_pushes("octo", "main", gone)


def nothing(_: Stage) -> None:
    """So the others show that they keep a skill from a run."""


def github_of(stage: Stage) -> Any:
    from skill_ratchet.github import api  # noqa: PLC0415 - after the stage has set the environment

    return api.connect(stage.hub.repository)


@pytest.mark.parametrize(
    ("arrange", "args", "skills", "reason"),
    [
        (nothing, (), ["triage", "notes"], "due, gets a run"),
        (nothing, ("notes",), ["notes"], "due, gets a run"),
        (box, (), ["triage"], "not due, on hold by its box on the dashboard"),
        (box, ("--attempts", "0"), ["triage"], "not due, on hold by its box"),
        (stop_file, (), [], "not due, on hold by the file .ratchet-hold"),
        (bot_pull, (), ["triage"], "not due, #1 waits"),
        (bot_pull, ("notes",), [], "not due, #1 waits"),
        (bot_pull, ("--attempts", "0"), ["triage", "notes"], "due, gets a run"),
        (bot_pull, ("--attempts", "3"), ["triage"], "not due, #1 waits"),
        (held_pull, (), ["triage"], "not due, on hold by the label ratchet:hold on #1"),
        (held_pull, ("--attempts", "0"), ["triage"], "not due, on hold by the label"),
        (persons_pull, (), ["triage", "notes"], "due, gets a run"),
        (bots_other_pull, (), ["triage", "notes"], "due, gets a run"),
        (closed_pull, (), ["triage", "notes"], "due, gets a run"),
        (unsound, (), ["triage"], "not due, fixtures/notes/train/t1.yml"),
        (no_holdout, (), ["triage"], "not due, fixtures/notes"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_which_skills_get_a_run(
    make: Callable[..., Stage],
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[Stage], None],
    args: tuple[str, ...],
    skills: list[str],
    *,
    reason: str,
) -> None:
    """One line a skill, and the output that the next jobs' matrix is made of."""
    stage = make(NAMES[:2])
    arrange(stage)
    world = stage.job("plan")
    writes = len(stage.hub.writes)
    outputs = stage.folder / "outputs"
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))

    ran = plan_of(world, *args)

    assert ran.code == 0, ran.err
    lines = " ".join(ran.out.split())
    assert f"notes: {reason}" in lines
    read = dict(re.findall(r"(?ms)^(\w+)<<(?:end_\w+)\n(.*?)\nend_", outputs.read_text()))
    assert json.loads(read["skills"]) == skills
    assert read["usd"] == ""
    assert stage.hub.writes[writes:] == []


@pytest.mark.parametrize(
    ("used", "skills", "usd"),
    [(0.0, 2, 1.25), (4.0, 2, 0.25), (5.0, 0, 0.0), (6.0, 0, 0.0)],
)
def test_a_jobs_share_of_the_month(
    make: Callable[..., Stage], used: float, skills: int, usd: float
) -> None:
    """What is left, by two jobs of each skill that is due; nothing is when nothing is left."""
    stage = make(NAMES[:2], budget={"month_usd": 5.0})
    world = stage.job("plan")
    spent(world, used)

    ran = plan_of(world, "--json")

    assert ran.code == 0, ran.err
    assert (len(ran.json["due"]), ran.json["usd"] if skills else 0.0) == (skills, usd)
    reasons = {one["reason"] for one in ran.json["skills"]}
    assert reasons == {"gets a run" if skills else "the month's budget of $5.00 is spent"}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/pulls$"), ("GET", "/issues$"), ("POST", "/graphql$")]
)
def test_what_github_does_not_say_is_no_permission(
    make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    """No skill is due, and the command fails."""
    stage = make(NAMES[:2])
    bot_pull(stage)
    world = stage.job("plan")
    outputs = stage.folder / "outputs"
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    stage.hub.fail_next(method, path, 403)

    ran = plan_of(world)

    assert ran.code == ExitCode.ERROR
    assert "GitHub" in ran.err
    assert (outputs.exists(), ran.out) == (False, "")
    assert stage.hub.pending == 0


def test_a_skill_that_is_not_there_is_an_error(make: Callable[..., Stage]) -> None:
    stage = make(NAMES[:2])
    ran = plan_of(stage.job("plan"), "nots")
    assert ran.code == ExitCode.ERROR
    assert "did you mean 'notes'?" in ran.err


# The dashboard --------------------------------------------------------------------------------


def show(stage: Stage, name: str, *, at: datetime = NOW) -> str:
    project = repository.open_project(stage.job(name).path)
    return dashboard.update(project, github_of(stage), now=lambda: at)


def test_the_dashboard_as_a_whole(make: Callable[..., Stage]) -> None:
    """Nothing was run; a skill with a run, a pull request and a merge; one that cannot be read."""
    stage = make(NAMES, budget={"month_usd": 5.0}, **MANUAL)
    matrix(stage, NAMES[:1])
    world = stage.job("spender")
    publish(stage)
    stage.sha = None
    unsound(stage)
    world = stage.job("spender2")
    world.git("checkout", "--quiet", "ratchet/ledger")
    (record,) = [one for one in (world.path / "triage/runs").iterdir() if "confirm" in one.name]
    run = json.loads(record.read_text()) | {"ended_at": "2026-07-14T08:00:00.000000+00:00"}
    record.write_text(json.dumps(run))
    spend = run | {"skill": "gone", "started_at": "2026-07-02T00:00:00.000000+00:00"}
    spend |= {"usd": 1.25, "counted": 1.25}
    world.write("gone/runs/20260702T000000000000-confirm.json", json.dumps(spend))
    world.commit("gone: x")
    world.git("push", "--quiet", "origin", "ratchet/ledger")

    url = show(stage, "board")

    (board,) = issues(stage)
    assert url.endswith(f"/issues/{board.number}")
    web = stage.hub.web
    assert board.body == (
        "<!-- ratchet:dashboard -->\n\nOf `ratchet.yml`.\n\n"
        "Spent in 2026-07: $1.25 of $5.00.\n\n"
        "| skill | score on train | open | last run | outcome | looks | error budget |\n"
        "| --- | --: | --- | --- | --- | --: | --: |\n"
        f"| `triage` | 0% | [1]({web}/octo/demo/pull/1) | 2026-07-14 08:00 | "
        "experiment 1: hold: awaits\\_person | 1 | 17% |\n"
        "| `notes` | - | - | never | - | 0 | 0% |\n"
        "| `tone` | - | - | never | - | 0 | 0% |\n\n"
        "These need a person:\n\n"
        f"- `notes`: fixtures/notes/train/t1.yml:{markdown.ZWSP}1: "
        "'input' is missing See it: ratchet check notes\n\n"
        "Tick a box to stop a skill, clear it to let it go on.\n\n"
        "- [ ] hold `triage`\n- [ ] hold `notes`\n- [ ] hold `tone`\n\n"
        "No run for days? GitHub stops schedules of a quiet repository: start one."
    )


def test_no_page_names_a_held_out_case_that_cannot_be_read(make: Callable[..., Stage]) -> None:
    """Neither the dashboard nor the answer to a comment; the log does."""
    stage = make(NAMES[:2])
    broken = {f"fixtures/notes/{one}.yml": "{}" for one in ("holdout/zebras-9", "train/t1")}
    stage.hub.person_pushes("octo", "main", broken)
    number = stage.hub.person_opens_issue("octo", "x", "")
    asked = stage.hub.person_comments("octo", number, "/ratchet run")
    reply = f"{number}/{asked}"

    ran = stage.job("publish").ratchet("publish", "--bundles", "none", "--reply", reply)

    said = [one.body for one in stage.hub.comments(number)]
    (board,) = [one for one in issues(stage) if one.number != number]
    for page in (board.body, said[-1]):
        assert "fixtures/notes/train/t1.yml" in page
        assert "held-out cases: see the log" in page
        assert "zebras" not in page
    assert "zebras-9.yml:1: 'input' is missing" in ran.err


def test_the_dashboard_is_written_once_and_keeps_what_people_set(
    make: Callable[..., Stage],
) -> None:
    """Its boxes, its title, that it is closed; a skill that is gone loses its row."""
    stage = make()
    show(stage, "one")
    writes = len(stage.hub.writes)
    show(stage, "two")
    assert stage.hub.writes[writes:] == []
    (board,) = issues(stage)
    ticked = board.body.replace("- [ ] hold `notes`", "- [X] hold `notes`").replace("\n", "\r\n")
    stage.hub.person_edits("octo", board.number, body=ticked, title="Skills", state="closed")
    stage.hub.person_pushes("octo", "main", {"ratchet.yml": config_of(stage, NAMES[:2])})

    show(stage, "three")

    (board,) = issues(stage)
    assert (board.title, board.state) == ("Skills", "closed")
    assert pages.boxes(board.body) == {"triage": False, "notes": True}
    assert "tone" not in board.body
    github = github_of(stage)
    assert dashboard.held(github) == {"notes"}
    assert dashboard.set_held(github, "triage", held=True)
    assert dashboard.set_held(github, "notes", held=False)
    assert not dashboard.set_held(github, "tone", held=True)
    assert dashboard.held(github) == {"triage"}
    show(stage, "four")
    assert dashboard.held(github) == {"triage"}


def config_of(stage: Stage, names: Sequence[str]) -> str:
    known = json.loads(stage.hub.read("main", "ratchet.yml") or "")
    return json.dumps(known | settings(names))


def test_an_issue_of_a_person_is_no_dashboard(make: Callable[..., Stage]) -> None:
    """Whatever marker it has: nobody can stop a skill, or seem to, by an issue of their own."""
    stage = make()
    body = f"{pages.marker('dashboard')}\n\n- [x] hold `notes`"
    stage.hub.person_opens_issue("octo", "Ratchet", body)

    assert dashboard.held(github_of(stage)) == frozenset()
    show(stage, "one")
    assert len(issues(stage)) == 2
    assert stage.hub.issue(1).body == body


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/issues$"), ("PATCH", "/issues/"), ("GET", "/issues$")]
)
def test_a_repository_without_issues_has_no_dashboard(
    make: Callable[..., Stage], method: str, path: str
) -> None:
    """It is said, and nothing fails for it."""
    stage = make(NAMES[:2])
    if method == "PATCH":
        show(stage, "before")
        stage.hub.person_pushes("octo", "main", {"ratchet.yml": config_of(stage, NAMES[:1])})
    stage.hub.fail_next(method, path, 410, times=10)

    assert show(stage, "one") == dashboard.NO_ISSUES
    ran = publish(stage, "0")

    assert ran.code == 0, ran.err
    assert ran.json["dashboard"] == dashboard.NO_ISSUES
    assert dashboard.held(github_of(stage)) == frozenset()
    assert not dashboard.set_held(github_of(stage), "triage", held=True)


def test_github_that_does_not_answer_holds_nothing_back(make: Callable[..., Stage]) -> None:
    """Neither 'held' nor 'not held' is made of an error."""
    stage = make(NAMES[:1])
    show(stage, "one")
    for path in ("/issues$", "/graphql$"):
        stage.hub.fail_next("GET" if "issues" in path else "POST", path, 403)
        with pytest.raises(RatchetError):
            dashboard.held(github_of(stage))


def test_many_skills_take_no_more_requests_than_a_few(make: Callable[..., Stage]) -> None:
    """The plan and the dashboard of twenty skills ask what those of one do."""
    names = [f"skill{number:02}" for number in range(20)]
    asked: dict[int, list[int]] = {}
    stage = make(("triage", *names[1:]))
    for many in (20, 1):
        stage.hub.person_pushes(
            "octo", "main", {"ratchet.yml": config_of(stage, ("triage", *names[1:many]))}
        )
        world = stage.job(f"job{many}")
        counts = [api(stage)]
        assert len(due_skills(world)) == many
        counts.append(api(stage))
        assert "/issues/" in show(stage, f"board{many}")
        counts.append(api(stage))
        assert publish(stage, "0", into=f"publish{many}").code == 0
        counts.append(api(stage))
        asked[many] = [after - before for before, after in pairwise(counts)]
    assert asked[20][0] == asked[1][0] <= 3
    assert asked[20][1] == asked[1][1] <= 7
    # Each one's pull request is looked for, and a branch that was left behind.
    assert asked[20][2] - asked[1][2] <= 4 * 19


def due_skills(world: World) -> list[str]:
    found: list[str] = plan_of(world, "--json").json["due"]
    return found


def api(stage: Stage) -> int:
    """Requests so far, git's own apart."""
    return sum(
        "/git-" not in one.path and "/info/refs" not in one.path for one in stage.hub.exchanges
    )


def test_a_plan_is_of_what_was_asked(make: Callable[..., Stage]) -> None:
    """For other code than the command."""
    stage = make(NAMES[:2], budget={"month_usd": 1.0})
    world = stage.job("plan")
    spent(world, 0.75, at=NOW)

    found = schedule.plan(
        world.path, github=github_of(stage), skill="notes", attempts=None, now=lambda: NOW
    )

    assert (found.due, found.usd) == (["notes"], 0.125)
    subprocess.run(["git", "fsck", "--strict"], cwd=world.path, check=True, capture_output=True)
