"""The commands about cases: check, import, correct, export, forget."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cli.app import (
    OUT_FILE,
    options,
    print_json,
    skill_argument,
    skill_option,
)

if TYPE_CHECKING:
    from skill_ratchet.experiment.noise import NoiseReport

FORMATS = ("csv", "jsonl", "fixtures", "otel", "messages", "promptfoo", "evals")


@click.command()
@skill_argument
@click.option("--noise", is_flag=True, help="Run the skill against itself; costs calls.")
@click.option("--sealed", is_flag=True, help="Only whether programs find held-out cases.")
@options
@click.pass_obj
def check(start: Path, *, skill: str | None, noise: bool, sealed: bool, as_json: bool) -> None:
    """Check the config, the skills and the fixtures as they are on disk.

    Nothing is asked of a model and nothing is spent, unless --noise is given: then the skill is
    run twice on train to find out what these fixtures can show. With --sealed it fails where the
    held-out cases cannot be hidden from programs.
    """
    from dataclasses import asdict

    from skill_ratchet.cases import check
    from skill_ratchet.experiment.noise import describe_noise
    from skill_ratchet.project import repository

    if sealed:
        said = check.require_sealed(repository.open_project(start, unborn=True))
        print_json({"sealed": said}) if as_json else click.echo(said)
        return
    findings = check.check(repository.open_project(start, unborn=True), skill=skill)
    report = _noise(start, skill) if noise else None
    if as_json:
        document = {"skills": [asdict(finding) for finding in findings]}
        print_json(document | ({"noise": asdict(report)} if report else {}))
        return
    from skill_ratchet.cli import terminal

    for finding in findings:
        for line in check.describe(finding):
            terminal.say(line)
    if report:
        for line in describe_noise(report):
            terminal.say(line)
    terminal.say("Everything is in order.")


def _noise(start: Path, skill: str | None) -> NoiseReport:
    from skill_ratchet.cli.progress import Reporter
    from skill_ratchet.experiment import noise

    with Reporter() as reporter:
        return noise.measure_noise(start, skill=skill, observer=reporter)


@click.command(name="import")
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
    from skill_ratchet.cases import importer
    from skill_ratchet.cli import terminal
    from skill_ratchet.project import repository

    as_json = given.pop("as_json")
    brought = importer.bring(repository.open_project(start, unborn=True), **given)
    if as_json:
        print_json(importer.document(brought))
        return
    for line in importer.describe(brought):
        terminal.say(line)


@click.command()
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
    from skill_ratchet.cases import correction_editor
    from skill_ratchet.cli import terminal
    from skill_ratchet.project import repository

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


@click.command()
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
    """Write cases as JSONL, which 'ratchet import' reads back."""
    from skill_ratchet.cases import exporter
    from skill_ratchet.cli import terminal
    from skill_ratchet.project import repository

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


@click.command()
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
    from dataclasses import asdict

    from skill_ratchet.cases import forget
    from skill_ratchet.cli import terminal

    done = forget.forget(
        start, skill=skill, fixture=fixture, commit=not no_commit, push=push, prune=prune
    )
    if as_json:
        print_json(asdict(done))
        return
    for line in forget.describe(done):
        terminal.say(line)


def _edited(text: str) -> str | None:
    """What a person makes of a text in their editor; None when they leave without saving.

    Without a terminal only an editor that was chosen for it is started, as a script may do.
    """
    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not chosen and not sys.stdin.isatty():
        hint = "Give it all as options, --input and --expected, or set EDITOR."
        raise RatchetError("There is no terminal for an editor.", hint=hint)
    try:
        return click.edit(text, extension=".md")
    except click.ClickException as error:
        hint = "Set EDITOR to one that works, or give it all as options: --input, --expected."
        raise RatchetError(error.format_message(), hint=hint) from error
    except UnicodeDecodeError as error:
        hint = "Have it save as UTF-8; nothing was recorded."
        raise RatchetError("What the editor saved is not UTF-8.", hint=hint) from error
