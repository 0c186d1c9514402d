"""The commands. Imports stay inside them: ``ratchet --help`` must answer at once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skill_ratchet import __version__
from skill_ratchet.base.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skill_ratchet.experiment.jobs import Confirmed, MadeShard, NoiseReport
    from skill_ratchet.experiment.loop import Report
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.ledger.shards import Shard
    from skill_ratchet.project.scaffold import Workflows, Written
    from skill_ratchet.project.workspace import Workspace

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 80}
DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)  # to be made
OUT_FILE = click.Path(dir_okay=False, path_type=Path)  # may be made
PROVIDERS = ("anthropic", "local", "scripted", "command")
PROPOSERS = ("meta", "examples")
OUTCOMES = ("merged", "rejected", "held", "open", "reverted")
FORMATS = ("csv", "jsonl", "fixtures", "otel", "messages", "promptfoo", "evals")


def _keep_start(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.obj = value


def options(command: Callable[..., None]) -> Callable[..., None]:
    """``--json`` and ``-C``, which every command has."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(
        command
    )
    return click.option(
        "-C",
        type=DIRECTORY,
        expose_value=False,
        is_eager=True,
        callback=_keep_start,
        help="Work in this directory.",
    )(command)


skill_argument = click.argument("skill", required=False)
skill_option = click.option("--skill", help="Which skill; not needed when there is one.")
provider_option = click.option(
    "--provider", type=click.Choice(PROVIDERS), help="Instead of ratchet.yml's provider."
)
experiment_argument = click.argument("experiment")


def _finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("expected a number of dollars")  # 'nan' is in every range
    return value


def _shard(_: click.Context, __: click.Parameter, value: str | None) -> Shard | None:
    if value is None:
        return None
    from skill_ratchet.ledger.shards import Shard  # noqa: PLC0415

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


usd_option = click.option(
    "--usd", type=click.FloatRange(min=0), callback=_finite, help="Spend at most that in this run."
)


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


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="ratchet")
@click.option("-C", "start", type=DIRECTORY, help="Work in this directory.")
@click.pass_context
def cli(context: click.Context, start: Path | None) -> None:
    """Improve an agent's skill file by experiment.

    An edit is kept only when the held-out metric improves.
    """
    context.obj = start or Path()


def print_json(document: Any) -> None:
    """The one JSON document of a command with ``--json``."""
    from skill_ratchet.cli.error_handler import redacted  # noqa: PLC0415

    text = redacted(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
    click.echo(text.replace("##[", "##\\u005b"))  # in a workflow's log that is a command


# Set up and check -----------------------------------------------------------------------------


@cli.command()
@click.option("--no-commit", is_flag=True, help="Write the files, commit nothing.")
@click.option("--github", is_flag=True, help="Also write the workflows that run it on GitHub.")
@click.option("--action", metavar="OWNER/REPO@SHA", help="Ratchet's action, for --github.")
@click.option("--force", is_flag=True, help="With --github: replace workflows that differ.")
@click.option(
    "--shards",
    type=click.IntRange(1, 256),
    help="With --github: machines that share a confirm run (as before, or 1).",
)
@options
@click.pass_obj
def init(
    start: Path,
    *,
    no_commit: bool,
    github: bool,
    action: str | None,
    force: bool,
    shards: int | None,
    as_json: bool,
) -> None:
    """Write a skill, five fixtures, a config and a scripted model.

    'ratchet run' then closes a loop at once. Nothing is ever overwritten. With --github the
    workflow files are written, too; in a project that has its config, only those.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from skill_ratchet.project import scaffold  # noqa: PLC0415

    begun: scaffold.Written | None
    if github:
        begun, made = scaffold.init_github(
            start.resolve(), action=action, commit=not no_commit, force=force, shards=shards
        )
    elif action or force or shards:
        raise click.UsageError("--action, --force and --shards go with --github.")
    else:
        begun, made = scaffold.init(start.resolve(), commit=not no_commit), None
    if as_json:
        settings = {"settings": scaffold.SETTINGS}
        workflows = {"workflows": asdict(made) | settings} if made else {}
        print_json((asdict(begun) if begun else {}) | workflows)
        return
    if begun:
        _show_begun(begun)
    if made:
        _show_workflows(made, no_commit=no_commit)


def _show_begun(written: Written) -> None:
    if written.made_repository:
        click.echo("Made a git repository here.")
    for path in written.files:
        click.echo(f"wrote {path}")
    for path in written.kept:
        click.echo(f"kept  {path} (it was there already)")
    if written.commit:
        click.echo(f"Committed as {written.commit[:12]}. Next: ratchet run")
    else:
        click.echo("Next: git add -A && git commit -m 'Set up ratchet' && ratchet run")


def _show_workflows(made: Workflows, *, no_commit: bool) -> None:
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.project import scaffold  # noqa: PLC0415

    for path in made.written:
        click.echo(f"wrote {path}")
    for path in made.replaced:
        click.echo(f"replaced {path}, which was different")
    for path in made.same:
        click.echo(f"kept  {path} (it is as it would be written)")
    for path in made.different:
        click.echo(f"kept  {path}, which is DIFFERENT; to replace it: --force")
    if made.commit:
        click.echo(f"Committed as {made.commit[:12]}. Next: git push")
    elif no_commit and (made.written or made.replaced):
        click.echo("Next: git add .github && git commit -m 'Run ratchet on GitHub' && git push")
    terminal.say("\nOn GitHub, a person still has to set:")
    for number, setting in enumerate(scaffold.SETTINGS, start=1):
        terminal.say(f"{number}. {setting}")


@cli.command()
@skill_argument
@click.option("--noise", is_flag=True, help="Run the skill against itself; costs calls.")
@options
@click.pass_obj
def check(start: Path, *, skill: str | None, noise: bool, as_json: bool) -> None:
    """Check the config, the skills and the fixtures as they are on disk.

    Nothing is run and nothing is spent, unless --noise is given: then the skill is run twice
    on train to find out what these fixtures can show.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from skill_ratchet.cases import check  # noqa: PLC0415
    from skill_ratchet.project import repository  # noqa: PLC0415

    findings = check.check(repository.open_project(start, unborn=True), skill=skill)
    report = _noise(start, skill) if noise else None
    if as_json:
        document = {"skills": [asdict(finding) for finding in findings]}
        print_json(document | ({"noise": asdict(report)} if report else {}))
        return
    from skill_ratchet.cli import terminal  # noqa: PLC0415

    for finding in findings:
        for line in check.describe(finding):
            terminal.say(line)
    if report:
        for line in check.describe_noise(report):
            terminal.say(line)
    terminal.say("Everything is in order.")


def _noise(start: Path, skill: str | None) -> NoiseReport:
    from skill_ratchet.cli.progress import Reporter  # noqa: PLC0415
    from skill_ratchet.experiment import jobs  # noqa: PLC0415

    with Reporter() as reporter:
        return jobs.measure_noise(start, skill=skill, reporter=reporter)


# Run ------------------------------------------------------------------------------------------


@cli.command()
@loop_options
@click.pass_obj
def run(start: Path, /, **given: Any) -> None:
    """Try edits of a skill and keep those that improve the held-out metric."""
    _improve(start, **given)


@cli.command()
@loop_options
@click.option("--bundle", type=FOLDER, metavar="DIR", help="Write what 'ratchet confirm' needs.")
@click.pass_obj
def propose(start: Path, /, **given: Any) -> None:
    """Try edits on train until one passes the screen; open no held-out file.

    'ratchet run' confirms that one where the held-out cases are, and pays for nothing again;
    'ratchet confirm' does so from a bundle and leaves acting on the verdict to others.
    """
    if given["bundle"] and (given["provider"] or given["proposer"]):
        raise click.UsageError(
            "--bundle goes with the settings of ratchet.yml alone: no --provider, no --proposer."
        )
    _improve(start, blind=True, **given)


@cli.command()
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
    """Decide about a proposal bundle on the holdout; publish and merge nothing.

    The verdict and its evidence go to a new bundle, for whoever may act on it. With --shard only
    runs are made, and nothing is decided.
    """
    from skill_ratchet.cli.progress import Reporter  # noqa: PLC0415
    from skill_ratchet.experiment import jobs  # noqa: PLC0415
    from skill_ratchet.experiment.loop import Share  # noqa: PLC0415

    _require_fitting(shard, from_shards)
    if sweeps and not shard:
        raise click.UsageError("--sweeps goes with --shard: the whole takes what it needs.")
    with Reporter() as reporter:
        if shard:
            share = Share(shard, sweeps)
            made = jobs.confirm_shard(start, share=share, reporter=reporter, **given)
        else:
            done = jobs.confirm(start, handed_in=from_shards, reporter=reporter, **given)
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
    from skill_ratchet.cli.progress import Reporter  # noqa: PLC0415
    from skill_ratchet.experiment import jobs  # noqa: PLC0415

    with Reporter() as reporter:
        report = jobs.improve(
            start,
            skill=skill,
            attempts=attempts,
            override=_override(provider=provider, proposer=proposer),
            reporter=reporter,
            blind=blind,
            bundle=bundle,
            usd=usd,
        )
    if as_json:
        print_json(_run_document(report))
    else:
        _show_report(report)
    if report.error is not None:
        _fail(report.error)


@cli.command(name="eval")
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
    from skill_ratchet.cli.progress import Reporter  # noqa: PLC0415
    from skill_ratchet.experiment import evaluation  # noqa: PLC0415

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
            from skill_ratchet.cli import terminal  # noqa: PLC0415

            terminal.say(f"Shard {shard}: its runs are in {out}.")
    if done.failed:
        from skill_ratchet.cli.error_handler import ReportedError  # noqa: PLC0415

        first = done.failed[0]
        raise ReportedError(
            f"{len(done.failed)} of {len(done.traces)} runs have no score. First: "
            f"{first.reply.error or first.scorer_error}",
            hint="Run again: what succeeded is kept.",
        )


def _show_shard(made: MadeShard, shard: Shard, *, as_json: bool) -> None:
    """What was made of a confirm run, and the error if it ended with one."""
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.core import wording  # noqa: PLC0415

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
            f"{calls} calls, {wording.dollars(usd)}. Nothing was decided."
        )
    if report and report.error:
        _fail(report.error)


def _require_fitting(shard: Shard | None, from_shards: Path | None) -> None:
    if shard and from_shards:
        raise click.UsageError("Give one of --shard (a part) and --from-shards (the whole).")


# Look back ------------------------------------------------------------------------------------


@cli.command()
@skill_argument
@click.option("-n", "--max-count", type=click.IntRange(1), default=30, help="Newest N (30).")
@click.option(
    "--outcome",
    "outcomes",
    type=click.Choice(OUTCOMES),
    multiple=True,
    help="Only those that ended so. Repeatable.",
)
@options
@click.pass_obj
def log(
    start: Path, *, skill: str | None, max_count: int, outcomes: tuple[str, ...], as_json: bool
) -> None:
    """List past experiments, newest first, as a graph of what was kept."""
    from skill_ratchet.cli import log_view  # noqa: PLC0415
    from skill_ratchet.report import history  # noqa: PLC0415

    ledger = _ledger(start, skill)
    rows = history.rows(ledger, most=max_count, only=outcomes)
    if as_json:
        print_json([history.document(row) for row in rows])
        return
    log_view.show_log(ledger, rows, filtered=bool(outcomes))


@cli.command()
@skill_argument
@click.option("--by", required=True, metavar="FIELD", help="Such as meta.model, level, provider.")
@options
@click.pass_obj
def compare(start: Path, *, skill: str | None, by: str, as_json: bool) -> None:
    """Tabulate past experiments by any recorded field.

    How many were merged, what they gained and cost, and how strong the evidence was.
    """
    from skill_ratchet.report import comparison, history  # noqa: PLC0415

    field = comparison.field_named(by)
    groups = history.comparison(_ledger(start, skill), by=field)
    if as_json:
        rows = [group.model_dump(mode="json") for group in groups]
        print_json({"by": field, "rows": rows})
        return
    _show_comparison(groups, by=by)


@cli.command()
@experiment_argument
@skill_option
@options
@click.pass_obj
def show(start: Path, *, experiment: str, skill: str | None, as_json: bool) -> None:
    """Show one experiment: hypothesis, edit, scores, verdict, cost.

    EXPERIMENT is a number of 'ratchet log' or the beginning of an id.
    """
    from skill_ratchet.cli import log_view  # noqa: PLC0415
    from skill_ratchet.report import history  # noqa: PLC0415

    ledger, path = _skill_on_record(start, skill)
    row = history.row(ledger, ledger.find(experiment))
    if as_json:
        print_json(history.document(row) | history.details(ledger, row, path=path))
        return
    log_view.show_experiment(ledger, row, path=path)


@cli.command()
@experiment_argument
@skill_option
@options
@click.pass_obj
def explain(start: Path, *, experiment: str, skill: str | None, as_json: bool) -> None:
    """Say why an experiment was merged or not, and show the evidence."""
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.report import history  # noqa: PLC0415

    ledger = _ledger(start, skill)
    explanation = history.explain(history.row(ledger, ledger.find(experiment)))
    if as_json:
        print_json(explanation.document)
        return
    terminal.say(explanation.sentence)
    terminal.raw("\n" + explanation.numbers)


@cli.command()
@skill_argument
@options
@click.pass_obj
def looks(start: Path, *, skill: str | None, as_json: bool) -> None:
    """Show how often the holdout was consulted, and what that leaves."""
    from dataclasses import asdict  # noqa: PLC0415

    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.report import history  # noqa: PLC0415

    space = _on_disk(start, skill)
    seen = history.looks(_ledger_of(space), space)
    if as_json:
        print_json(asdict(seen))
        return
    for line in history.describe_looks(seen):
        terminal.say(line)


@cli.command()
@skill_argument
@options
@click.pass_obj
def audit(start: Path, *, skill: str | None, as_json: bool) -> None:
    """Compare the holdout with a vault that the gate never reads.

    The vault is an optional folder vault/ beside train/ and holdout/.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.cli.progress import Reporter  # noqa: PLC0415
    from skill_ratchet.experiment import jobs  # noqa: PLC0415

    with Reporter() as reporter:
        done = jobs.audit(start, skill=skill, reporter=reporter)
    if as_json:
        print_json(asdict(done) | {"excess": done.excess, "worn": done.worn})
        return
    for line in jobs.describe_audit(done):
        terminal.say(line)


@cli.command()
@click.argument("trace_id", metavar="ID")
@skill_option
@click.option("--raw", is_flag=True, help="Request and response as they were sent.")
@click.option("--no-pager", is_flag=True, help="Do not page on a terminal.")
@options
@click.pass_obj
def trace(
    start: Path, *, trace_id: str, skill: str | None, raw: bool, no_pager: bool, as_json: bool
) -> None:
    """Show one model call whole: what was said, usage, score, correction.

    On a terminal it goes through the pager that PAGER names.
    """
    from skill_ratchet.cli import log_view, terminal  # noqa: PLC0415

    found = _ledger(start, skill).find_trace(trace_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    text = log_view.trace_text(found, raw=raw)
    terminal.raw(text) if no_pager else terminal.paged(text)


@cli.command()
@experiment_argument
@skill_option
@options
@click.pass_obj
def diff(start: Path, *, experiment: str, skill: str | None, as_json: bool) -> None:
    """Show an experiment's edit as a patch."""
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.report import history  # noqa: PLC0415

    ledger, path = _skill_on_record(start, skill)
    found = ledger.find(experiment)
    patch = history.patch(ledger, found, path=path)
    if as_json:
        print_json({"experiment": found.id, "diff": patch})
        return
    terminal.raw(patch or "This proposal could not be applied, so there is no edit to show.")


@cli.command()
@experiment_argument
@skill_option
@options
@click.pass_obj
def revert(start: Path, *, experiment: str, skill: str | None, as_json: bool) -> None:
    """Undo a merged experiment by a new commit, and record it."""
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.project import repository  # noqa: PLC0415
    from skill_ratchet.report import history  # noqa: PLC0415

    space = _on_disk(start, skill)
    ledger = _ledger_of(space)
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


# Bring in -------------------------------------------------------------------------------------


@cli.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@skill_option
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Instead of recognising it.")
@click.option("--input", "input_column", help="Column of the input (guessed if clear).")
@click.option("--expected", "expected_column", help="Column of the expected answer.")
@click.option("--column", "columns", multiple=True, metavar="KEY=COLUMN", help="Other columns.")
@click.option("--label", "labels", multiple=True, help="Keep only these labels. Repeatable.")
@click.option("--train", type=click.IntRange(0), help="Cases for train, exactly.")
@click.option("--holdout", type=click.IntRange(0), help="Cases for holdout, exactly.")
@click.option("--output", "output_column", help="Column of what was answered.")
@click.option("--answered-by", metavar="REF", help="Where the skill was that gave the answers.")
@click.option("--ratio", type=click.FloatRange(0, 1), help="Share of train (feedback.ratio).")
@click.option("--limit", type=click.IntRange(1), help="New cases at most, all labels alike.")
@click.option("--skip-broken", is_flag=True, help="Leave broken rows out.")
@click.option(
    "--corrections/--no-corrections",
    default=None,
    help="Use the expected answer as correction where there is none (on for CSV and JSONL).",
)
@options
@click.pass_obj
def import_(start: Path, /, **given: Any) -> None:
    """Turn a table, a log or another tool's tests into fixtures.

    Which split a case goes to depends on its text alone, so importing again never moves one.
    """
    from skill_ratchet.cases import importer  # noqa: PLC0415
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.project import repository  # noqa: PLC0415

    as_json = given.pop("as_json")
    brought = importer.bring(repository.open_project(start, unborn=True), **given)
    if as_json:
        print_json(importer.document(brought))
        return
    for line in importer.describe(brought):
        terminal.say(line)


@cli.command()
@skill_argument
@click.option("--trace", metavar="ID", help="The run that went wrong; it has input and answer.")
@click.option("--input", "input_text", help="What was asked.")
@click.option("--context", help="What was shown with it.")
@click.option("--answered", help="What was answered.")
@click.option("--expected", help="What should have been answered.")
@click.option("--why", help="Why; the proposer reads it word for word.")
@options
@click.pass_obj
def correct(
    start: Path,
    /,
    *,
    skill: str | None,
    trace: str | None,
    input_text: str | None,
    as_json: bool,
    **said: str | None,
) -> None:
    """Say what should have been answered; it becomes a case.

    What is not said by options is asked for in an editor. The rules for where the case goes are
    those for every case that comes in (docs/fixtures.md).
    """
    from skill_ratchet.cases import correction_editor  # noqa: PLC0415
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.project import repository  # noqa: PLC0415

    texts: Any = {"input": input_text} | said
    texts = {key: text for key, text in texts.items() if text is not None}
    done = correction_editor.correct(
        repository.open_project(start, unborn=True),
        skill=skill,
        trace=trace,
        texts=texts,
        edit=_edited,
    )
    if as_json:
        print_json(correction_editor.document(done))
        return
    for line in correction_editor.describe(done):
        terminal.say(line)


@cli.command()
@skill_argument
@click.option(
    "--split",
    type=click.Choice(("train", "holdout", "all")),
    default="train",
    help="Which cases; held-out ones only when they are asked for (train).",
)
@click.option("--out", type=OUT_FILE, help="Write to this file, not to stdout.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@options
@click.pass_obj
def export(
    start: Path, *, skill: str | None, split: str, out: Path | None, force: bool, as_json: bool
) -> None:
    """Write fixtures as JSONL, which 'ratchet import' reads back as they were."""
    from skill_ratchet.cases import exporter  # noqa: PLC0415
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.project import repository  # noqa: PLC0415

    project = repository.open_project(start, unborn=True)
    exported = exporter.export(project, skill=skill, split=split)
    if out is not None:
        exporter.write(exported, out, force=force)
    if as_json:
        print_json(exporter.document(exported, out))
    elif out is None:
        click.echo(exported.text, nl=False)
    else:
        terminal.say(f"{len(exported.fixtures)} cases written to {out}.")


@cli.command()
@click.argument("fixture")
@skill_option
@click.option("--no-commit", is_flag=True, help="Change the fixture's file, commit nothing.")
@click.option("--push", is_flag=True, help="Replace the ledger's branches of origin, too.")
@click.option("--prune", is_flag=True, help="Delete every object that nothing leads to.")
@options
@click.pass_obj
def forget(
    start: Path,
    *,
    fixture: str,
    skill: str | None,
    no_commit: bool,
    push: bool,
    prune: bool,
    as_json: bool,
) -> None:
    """Remove a case from the fixtures and from everything on record.

    The ledger's branches are rewritten. Verdicts, counts and looks at the holdout stay.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from skill_ratchet.cases import forget  # noqa: PLC0415
    from skill_ratchet.cli import terminal  # noqa: PLC0415

    done = forget.forget(
        start, skill=skill, fixture=fixture, commit=not no_commit, push=push, prune=prune
    )
    if as_json:
        print_json(asdict(done))
        return
    for line in forget.describe(done):
        terminal.say(line)


# Shared ---------------------------------------------------------------------------------------


def _override(**given: str | None) -> Mapping[str, object]:
    return {key: value for key, value in given.items() if value is not None}


def _on_disk(start: Path, skill: str | None) -> Workspace:
    from skill_ratchet.project import repository, workspace  # noqa: PLC0415

    project = repository.open_project(start)
    return workspace.open_anywhere(project, skill=skill, ref=None, override={}, require=())


def _ledger_of(space: Workspace) -> Ledger:
    from skill_ratchet.experiment import session  # noqa: PLC0415

    return session.open_ledger(space.project, space.name, redact=space.config.redact)


def _edited(text: str) -> str | None:
    """What a person makes of a text in their editor; None when they leave without saving."""
    try:
        return click.edit(text, extension=".md")
    except click.ClickException as error:
        hint = "Set EDITOR to one that works, or give it all as options: --input, --expected."
        raise RatchetError(error.format_message(), hint=hint) from error
    except UnicodeDecodeError as error:
        hint = "Have it save as UTF-8; nothing was recorded."
        raise RatchetError("What the editor saved is not UTF-8.", hint=hint) from error


def _ledger(start: Path, skill: str | None) -> Ledger:
    return _skill_on_record(start, skill)[0]


def _skill_on_record(start: Path, skill: str | None) -> tuple[Ledger, str]:
    """A skill's ledger, and the path of its file."""
    from skill_ratchet.ledger import access  # noqa: PLC0415
    from skill_ratchet.project import repository  # noqa: PLC0415

    project = repository.open_project(start)
    settings = access.load_config(repository.WorkTree(project))
    name = access.choose_skill(settings, skill)
    ledger = access.open_ledger(project, name, redact=settings.redact)
    return ledger, settings.skill(name).path


def _fail(error: RatchetError) -> None:
    from skill_ratchet.cli.error_handler import ReportedError  # noqa: PLC0415

    raise ReportedError(error.message, hint=error.hint, exit_code=error.exit_code) from error


def _means(tally: Any) -> dict[str, float | None] | None:
    return tally and {"incumbent": tally.incumbent, "candidate": tally.candidate}


def show_confirmed(done: Confirmed, *, as_json: bool) -> None:
    """What came of a candidate, and the error if the run ended with one."""
    if as_json:
        print_json(_confirm_document(done))
    else:
        _show_confirmed(done)
    if done.error is not None:
        _fail(done.error)


def _confirm_document(done: Confirmed) -> dict[str, Any]:
    from skill_ratchet.experiment.recorder import tally  # noqa: PLC0415

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
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.core import wording  # noqa: PLC0415
    from skill_ratchet.experiment.recorder import tally  # noqa: PLC0415

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
    terminal.say(f"{done.manifest.skill}: {done.calls} calls, {wording.dollars(done.usd)}.{over}")


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
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.core import wording  # noqa: PLC0415

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
    spent = f"{report.calls} calls, {wording.dollars(report.usd)}"
    terminal.say(
        f"{report.skill} with {report.model}: {kept}; {spent}, {wording.duration(report.seconds)}."
    )


def _sentences(report: Report, attempt: Any) -> list[str]:
    from skill_ratchet.core import wording  # noqa: PLC0415

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
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.core import wording  # noqa: PLC0415

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
        f"over {len(done.traces)} runs{reused}; {done.calls} calls, {wording.dollars(done.usd)}."
    )


def _show_comparison(groups: Any, *, by: str) -> None:
    from skill_ratchet.cli import terminal  # noqa: PLC0415
    from skill_ratchet.core import wording  # noqa: PLC0415

    if not groups:
        terminal.say("No experiment yet: ratchet run")
        return
    tried = sum(group.experiments for group in groups)
    many = "1 experiment" if tried == 1 else f"{tried} experiments"
    terminal.say(f"{many} by {by}; gains are points, summed over what was merged and is in.\n")
    names = ["-" if group.value is None else _shortened(str(group.value)) for group in groups]
    terminal.table(
        [
            (
                name,
                str(group.experiments),
                str(group.merged),
                wording.percent(group.rate),
                wording.points(group.gain),
                wording.points(group.train_gain),
                _evidence(group),
                wording.points(group.size),
            )
            for name, group in zip(names, groups, strict=True)
        ],
        header=(by, "tried", "merged", "rate", "held-out", "train", "evidence", "size"),
        right=(1, 2, 3, 4, 5, 6, 7),
        rest=0,
    )
    terminal.say("")
    terminal.table(
        [
            (
                name,
                f"{group.calls:,}",
                wording.dollars(group.usd),
                wording.points(group.gain_per_usd),
            )
            for name, group in zip(names, groups, strict=True)
        ],
        header=(by, "calls", "cost", "held-out points a dollar"),
        right=(1, 2, 3),
        rest=0,
    )


def _evidence(group: Any) -> str:
    from skill_ratchet.core import wording  # noqa: PLC0415

    parts = [] if group.log_e is None else [wording.odds(group.log_e)]
    if group.mean_gain is not None:
        parts.append(f"{wording.points(group.mean_gain)} pt")
    return ", ".join(parts) or "-"


def _shortened(value: str) -> str:
    """A digest or a commit by its first digits; anything else on one line."""
    from skill_ratchet.core import wording  # noqa: PLC0415

    is_digest = len(value) >= 40 and not value.strip("0123456789abcdef")  # noqa: PLR2004 - SHA-1
    return value[:12] if is_digest else wording.one_line(value)


# The commands of these modules register themselves: they need what is above.
import skill_ratchet.cli.badge  # noqa: E402
import skill_ratchet.cli.feedback  # noqa: E402
import skill_ratchet.cli.github  # noqa: E402
import skill_ratchet.cli.report  # noqa: E402
import skill_ratchet.cli.status  # noqa: E402
import skill_ratchet.cli.transfer  # noqa: E402, F401
