"""The commands that run a skill: run, propose, confirm, eval, audit; and revert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from skill_ratchet.cli.app import (
    DIRECTORY,
    FOLDER,
    PROPOSERS,
    experiment_argument,
    fail,
    ledger_of,
    on_disk,
    options,
    print_json,
    provider_option,
    skill_argument,
    skill_option,
    usd_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from skill_ratchet.experiment.jobs import Confirmed, MadeShard
    from skill_ratchet.experiment.loop import Report
    from skill_ratchet.ledger.shards import Shard


def _shard(_: click.Context, __: click.Parameter, value: str | None) -> Shard | None:
    if value is None:
        return None
    from skill_ratchet.ledger.shards import Shard

    try:
        return Shard.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def shard_options(command: Callable[..., None]) -> Callable[..., None]:
    """How the work of a command is shared by several machines."""
    gather = click.option(
        "--from-shards",
        type=FOLDER,
        metavar="DIR",
        help="Put together what all the shards wrote: a folder of their folders.",
    )
    part = click.option(
        "--shard",
        metavar="I/N",
        callback=_shard,
        help="Make the runs of one of N shares of the cases, and hand them in.",
    )
    return part(gather(command))


def loop_options(command: Callable[..., None]) -> Callable[..., None]:
    """What the commands that run the loop are told."""
    proposer = click.option(
        "--proposer", type=click.Choice(PROPOSERS), help="Instead of ratchet.yml's."
    )
    attempts = click.option(
        "--attempts",
        type=click.IntRange(0, 50),
        help="Experiments at most; 0 only scores the skill on train.",
    )
    return skill_argument(attempts(usd_option(provider_option(proposer(options(command))))))


@click.command()
@loop_options
@click.pass_obj
def run(start: Path, /, **given: Any) -> None:
    """Try edits; merge those that do better on held-out cases."""
    _improve(start, **given)


@click.command()
@loop_options
@click.option("--bundle", type=FOLDER, metavar="DIR", help="Write what 'ratchet confirm' needs.")
@click.pass_obj
def propose(start: Path, /, **given: Any) -> None:
    """Try edits on train until one passes; open no held-out file.

    'ratchet run' confirms that one where the held-out cases are, and pays for nothing again;
    'ratchet confirm' does so from a bundle and leaves acting on the verdict to others.
    """
    if given["bundle"] and (given["provider"] or given["proposer"]):
        raise click.UsageError(
            "--bundle goes with the settings of ratchet.yml alone: no --provider, no --proposer."
        )
    _improve(start, blind=True, **given)


@click.command()
@skill_argument
@click.option(
    "--bundle", type=DIRECTORY, metavar="DIR", required=True, help="What 'ratchet propose' wrote."
)
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    required=True,
    help="Where the verdict goes, or the runs of the shard.",
)
@shard_options
@click.option(
    "--sweeps",
    type=click.IntRange(1),
    help="With --shard: how often its cases are run (as few as may be enough).",
)
@usd_option
@options
@click.pass_obj
def confirm(
    start: Path,
    /,
    *,
    shard: Shard | None,
    from_shards: Path | None,
    sweeps: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Test a proposal on the held-out cases; publish and merge nothing.

    The verdict and its evidence go to a new bundle, for whoever may act on it. With --shard only
    runs are made, and nothing is decided.
    """
    from skill_ratchet.cli.progress import Reporter
    from skill_ratchet.experiment import jobs
    from skill_ratchet.experiment.loop import Share

    _require_fitting(shard, from_shards)
    if sweeps and not shard:
        raise click.UsageError("--sweeps goes with --shard: the whole takes what it needs.")
    with Reporter() as reporter:
        if shard:
            share = Share(shard, sweeps)
            made = jobs.confirm_shard(start, share=share, observer=reporter, **given)
        else:
            done = jobs.confirm(start, handed_in=from_shards, observer=reporter, **given)
    if shard:
        _show_shard(made, shard, as_json=as_json)
    else:
        show_confirmed(done, as_json=as_json)


def _improve(
    start: Path,
    *,
    skill: str | None,
    attempts: int | None,
    provider: str | None,
    proposer: str | None,
    usd: float | None,
    as_json: bool,
    blind: bool = False,
    bundle: Path | None = None,
) -> None:
    from skill_ratchet.cli.progress import Reporter
    from skill_ratchet.experiment import jobs

    with Reporter() as reporter:
        report = jobs.improve(
            start,
            skill=skill,
            attempts=attempts,
            override=_override(provider=provider, proposer=proposer),
            observer=reporter,
            blind=blind,
            bundle=bundle,
            usd=usd,
        )
    if as_json:
        print_json(_run_document(report))
    else:
        _show_report(report)
    if report.error is not None:
        fail(report.error)


@click.command(name="eval")
@skill_argument
@click.option(
    "--split", type=click.Choice(["train", "holdout"]), default="train", help="Which split (train)."
)
@click.option("--ref", help="A branch, tag or commit, instead of the files on disk.")
@provider_option
@shard_options
@click.option("--out", type=FOLDER, metavar="DIR", help="Where the runs of the shard go.")
@options
@click.pass_obj
def evaluate(
    start: Path,
    /,
    *,
    provider: str | None,
    shard: Shard | None,
    from_shards: Path | None,
    out: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Score a skill on one split, each case once.

    Runs the ledger has already are re-used. Of the holdout only the mean is shown.
    """
    from skill_ratchet.cli.progress import Reporter
    from skill_ratchet.experiment import evaluation

    _require_fitting(shard, from_shards)
    if bool(shard) != bool(out):
        raise click.UsageError("--shard and --out go together.")
    asked["override"] = _override(provider=provider)
    space, split = evaluation.space_of(start, **asked), asked["split"]
    with Reporter() as reporter:
        if from_shards:
            done = evaluation.put_together(space, split, folder=from_shards)
        elif shard and out:
            done = evaluation.evaluate_shard(space, split, reporter, shard=shard, out=out)
        else:
            done = evaluation.evaluate(space, split, reporter)
    if as_json:
        print_json(_eval_document(done) | ({"shard": str(shard)} if shard else {}))
    else:
        _show_evaluation(done)
        if shard:
            from skill_ratchet.cli import terminal

            terminal.say(f"Shard {shard}: its runs are in {out}.")
    if done.failed:
        from skill_ratchet.cli.error_handler import ReportedError

        first = done.failed[0]
        raise ReportedError(
            f"{len(done.failed)} of {len(done.traces)} runs have no score. First: {first.failure}",
            hint="Run again: what succeeded is kept.",
        )


def _show_shard(made: MadeShard, shard: Shard, *, as_json: bool) -> None:
    """What was made of a confirm run, and the error if it ended with one."""
    from skill_ratchet.cli import terminal
    from skill_ratchet.core import wording

    report, sweeps = made.report, made.look.sweeps if made.look else 0
    plan = made.manifest.plan
    calls, usd = (report.calls, report.usd) if report else (0, 0.0)
    document = {
        "skill": plan.skill,
        "shard": str(shard),
        "base": plan.setting.base,
        "experiment": plan.experiment,
        "candidate": plan.candidate,
        "cases": made.cases,
        "sweeps": sweeps,
        "runs": made.runs,
        "reused": made.manifest.reused,
        "calls": calls,
        "usd": usd,
    }
    if as_json:
        print_json(document)
    else:
        stopped = (report.stopped if report else None) or "There is nothing to run."
        terminal.say(f"Shard {shard}: {made.runs} runs" if report and report.error else stopped)
        terminal.say(
            f"{plan.skill}: {made.cases} held-out cases, {sweeps} sweeps, {made.runs} runs; "
            f"{wording.cost(calls, usd)}. Nothing was decided."
        )
    if report and report.error:
        fail(report.error)


def _require_fitting(shard: Shard | None, from_shards: Path | None) -> None:
    if shard and from_shards:
        raise click.UsageError("Give one of --shard (a part) and --from-shards (the whole).")


@click.command()
@skill_argument
@options
@click.pass_obj
def audit(start: Path, *, skill: str | None, as_json: bool) -> None:
    """Compare the holdout with a vault that the gate never reads.

    The vault is an optional folder vault/ beside train/ and holdout/.
    """
    from dataclasses import asdict

    from skill_ratchet.cli import terminal
    from skill_ratchet.cli.progress import Reporter
    from skill_ratchet.experiment import audit

    with Reporter() as reporter:
        done = audit.audit(start, skill=skill, observer=reporter)
    if as_json:
        print_json(asdict(done) | {"excess": done.excess, "worn": done.worn})
        return
    for line in audit.describe_audit(done):
        terminal.say(line)


@click.command()
@experiment_argument
@skill_option
@options
@click.pass_obj
def revert(start: Path, *, experiment: str, skill: str | None, as_json: bool) -> None:
    """Undo a merged experiment by a new commit, and record it."""
    from skill_ratchet.cli import terminal
    from skill_ratchet.project import repository
    from skill_ratchet.report import history

    space = on_disk(start, skill)
    ledger = ledger_of(space)
    done = history.revert(
        ledger,
        ledger.find(experiment),
        space=space,
        branch=repository.require_branch(space.project),
    )
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    terminal.say(f"Experiment {done.experiment[:12]} is undone by commit {done.commit[:12]}.")


def _override(**given: str | None) -> Mapping[str, object]:
    return {key: value for key, value in given.items() if value is not None}


def _means(tally: Any) -> dict[str, float | None] | None:
    return tally and {"incumbent": tally.incumbent, "candidate": tally.candidate}


def show_confirmed(done: Confirmed, *, as_json: bool) -> None:
    """What came of a candidate, and the error if the run ended with one."""
    if as_json:
        print_json(_confirm_document(done))
    else:
        _show_confirmed(done)
    if done.error is not None:
        fail(done.error)


def _confirm_document(done: Confirmed) -> dict[str, Any]:
    from skill_ratchet.experiment.recorder import tally

    made, found = done.manifest, done.decision
    shown: dict[str, Any] = dict.fromkeys(("action", "reason", "detail", "train", "holdout"))
    if found is not None:
        evidence, verdict = found.evidence, found.verdict
        shown |= {"action": verdict.action, "reason": verdict.reason, "detail": verdict.detail}
        shown["train"] = _means(tally(evidence.screen, evidence.train_fixtures))
        if evidence.confirm:
            shown["holdout"] = _means(tally(evidence.confirm, evidence.holdout_fixtures))
    names = {"skill": made.skill, "base": made.setting.base, "experiment": made.experiment}
    note = None if found else done.note
    spent = {"calls": done.calls, "surplus": done.surplus, "usd": done.usd}
    return names | {"candidate": made.candidate} | shown | {"note": note} | spent


def _show_confirmed(done: Confirmed) -> None:
    from skill_ratchet.cli import terminal
    from skill_ratchet.core import wording
    from skill_ratchet.experiment.recorder import tally

    name, found = (done.manifest.experiment or "")[:12], done.decision
    if found is None:
        terminal.say(f"Experiment {name}: {done.note}" if name else done.note)
    else:
        evidence, verdict = found.evidence, found.verdict
        train = tally(evidence.screen, evidence.train_fixtures)
        holdout = tally(evidence.confirm, evidence.holdout_fixtures)
        terminal.say(f"Experiment {name}: {verdict.action}, {verdict.reason}. {verdict.detail}")
        terminal.say(f"train {wording.change(train)}, held-out {wording.change(holdout)}")
        terminal.say("Nothing was published: that is for who may act on the verdict.")
    over = f" Held-out runs that were not needed: {done.surplus}." if done.surplus else ""
    terminal.say(f"{done.manifest.skill}: {wording.cost(done.calls, done.usd)}.{over}")


def _run_document(report: Report) -> dict[str, Any]:
    return {
        "skill": report.skill,
        "model": report.model,
        "experiments": [
            {
                "id": attempt.experiment,
                "action": attempt.action,
                "reason": attempt.reason,
                "train": _means(attempt.train),
                "holdout": _means(attempt.holdout),
                "calls": attempt.calls,
                "usd": attempt.usd,
            }
            for attempt in report.attempts
        ],
        "merged": report.merged,
        "calls": report.calls,
        "usd": report.usd,
    }


def _eval_document(done: Any) -> dict[str, Any]:
    cases = [
        {
            "id": trace.fixture,
            "score": trace.score and trace.score.value,
            "reason": trace.score.reason if trace.score else trace.reply.error,
            "trace": trace.id,
        }
        for trace in done.traces
        if trace.split == "train"
    ]
    return {
        "skill": done.skill,
        "model": done.model,
        "split": done.split,
        "score": done.score,
        "runs": len(done.traces),
        "failed": len(done.failed),
        "reused": done.reused,
        "cases": cases,
        "calls": done.calls,
        "usd": done.usd,
    }


def _show_report(report: Report) -> None:
    from skill_ratchet.cli import terminal
    from skill_ratchet.core import wording

    if report.attempts:
        terminal.table(
            [
                (
                    str(attempt.number),
                    attempt.experiment[:8],
                    wording.change(attempt.train),
                    wording.change(attempt.holdout),
                    f"{attempt.action}: {attempt.reason}",
                    str(attempt.calls),
                    wording.dollars(attempt.usd),
                )
                for attempt in report.attempts
            ],
            header=("#", "id", "train", "held-out", "verdict", "calls", "cost"),
            right=(0, 5, 6),
        )
        terminal.say("")
    for attempt in report.attempts:
        for line in _sentences(report, attempt):
            terminal.say(line)
    if report.stopped:
        terminal.say(report.stopped)
    kept = f"{report.merged} of {len(report.attempts)} experiments merged"
    if not report.attempts and report.baseline is not None:
        kept = f"{wording.percent(report.baseline)} on train"
    spent = wording.cost(report.calls, report.usd)
    terminal.say(
        f"{report.skill} with {report.model}: {kept}; {spent}, {wording.duration(report.seconds)}."
    )


def _sentences(report: Report, attempt: Any) -> list[str]:
    from skill_ratchet.core import wording

    if attempt.verdict is None or attempt.holdout is None:
        return [f"{attempt.number}. {wording.HEADS[attempt.action]}: {attempt.detail}"]
    said = wording.sentence(
        attempt.verdict,
        holdout=attempt.holdout,
        fixtures=attempt.sealed,
        rule=report.rule,
        deterministic=attempt.deterministic,
    )
    return [f"{attempt.number}. {said}"]


def _show_evaluation(done: Any) -> None:
    from skill_ratchet.cli import terminal
    from skill_ratchet.core import wording

    if done.split == "train":
        worst = sorted(done.traces, key=lambda one: one.score.value if one.score else -1.0)
        few = len(done.traces) <= terminal.MOST_ROWS
        shown = done.traces if few else worst[: terminal.MOST_ROWS]
        terminal.table(
            [
                (
                    trace.fixture,
                    wording.percent(trace.score.value if trace.score else None),
                    wording.one_line(trace.score.reason if trace.score else "no score", 44),
                )
                for trace in shown
            ],
            header=("case", "score", "why"),
            right=(1,),
        )
        more = len(done.traces) - len(shown)
        terminal.say(f"and {more} that scored no less; --json has them all\n" if more else "")
    reused = f", {done.reused} of them re-used" if done.reused else ""
    terminal.say(
        f"{done.skill} with {done.model} on {done.split}: {wording.percent(done.score)} "
        f"over {len(done.traces)} runs{reused}; {wording.cost(done.calls, done.usd)}."
    )
