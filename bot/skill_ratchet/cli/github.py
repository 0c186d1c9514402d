"""The commands of the jobs on GitHub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skill_ratchet.cli.app import (
    DIRECTORY,
    FOLDER,
    options,
    print_json,
    skill_argument,
    usd_option,
)
from skill_ratchet.cli.experiments import show_confirmed

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.github.publish import Round

repository_option = click.option(
    "--repository", metavar="OWNER/NAME", help="Instead of GITHUB_REPOSITORY."
)


reply_option = click.option(
    "--reply", metavar="ISSUE/COMMENT", help="Say what came of it in answer to that comment."
)


@click.command()
@click.option("--train", is_flag=True, help="Only what the proposer may see.")
@click.option("--runs", is_flag=True, help="Into a shallow clone only what runs have cost.")
@options
@click.pass_obj
def fetch(start: Path, *, train: bool, runs: bool, as_json: bool) -> None:
    """Fetch the ledger's branches from the remote 'origin'.

    In a workflow GITHUB_TOKEN is used where the checkout has kept no credentials.
    """
    from skill_ratchet.cli import terminal
    from skill_ratchet.ledger import Ref, remote
    from skill_ratchet.project import repository

    refs = (Ref.LEDGER,) if train else tuple(Ref)
    project = repository.open_project(start)
    found = remote.fetch_runs(project) if runs else remote.fetch_ledger(project, refs)
    if as_json:
        print_json({ref.branch: there for ref, there in found.items()})
        return
    for ref, there in found.items():
        said = "is here" if there else "is not on the remote yet"
        terminal.say(f"{ref.removeprefix('refs/heads/')} {said}.")


@click.command()
@skill_argument
@click.option("--bundle", type=DIRECTORY, metavar="DIR", help="What 'ratchet confirm' wrote.")
@click.option(
    "--bundles",
    type=FOLDER,
    metavar="DIR",
    help="A folder of such folders, each of its skill's name; every other skill is looked at, too.",
)
@click.option(
    "--planned", metavar="JSON", help="The skills that bundles may be for, as 'ratchet due' says."
)
@reply_option
@repository_option
@options
@click.pass_obj
def publish(
    start: Path,
    *,
    skill: str | None,
    bundle: Path | None,
    bundles: Path | None,
    planned: str | None,
    reply: str | None,
    repository: str | None,
    as_json: bool,
) -> None:
    """Publish a decided experiment; merge it if the gate still says so.

    Without a bundle the skill's open pull request is looked at again. The token is read from
    GITHUB_TOKEN; no model is called.
    """
    from skill_ratchet.github import api, publish, replies

    if bundles and (bundle or skill):
        raise click.UsageError("--bundles is for every skill: no SKILL and no --bundle beside it.")
    if planned and not bundles:
        raise click.UsageError("--planned goes with --bundles.")
    skills = _names(planned) if planned else None
    asked = replies.parse(reply) if reply else None
    github = api.connect(repository)
    if bundles:
        done = publish.publish_all(start, github=github, folder=bundles, planned=skills)
    else:
        one = publish.publish(start, github=github, bundle=bundle, skill=skill)
        done = publish.with_fixtures(start, github=github, done=one)
    _show_round(done, alone=not bundles, as_json=as_json)
    if asked:
        publish.answer(github, asked, done)
    if done.failed:
        _fail_round(done, as_json=as_json)


def _names(planned: str) -> list[str]:
    """What ``due`` has given as its output ``skills``."""
    from json import loads

    try:
        names = loads(planned)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise click.UsageError("--planned takes a JSON array of names.")
    return names


def _show_round(done: Round, *, alone: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from skill_ratchet.base import actions
    from skill_ratchet.cli import terminal
    from skill_ratchet.github import publish

    documents = [
        {key: value for key, value in asdict(one).items() if key != "page"} for one in done.done
    ]
    if len(documents) == 1:
        actions.set_outputs({key: str(value or "") for key, value in documents[0].items()})
    for one in done.done:
        actions.add_summary(one.page)
    actions.add_summary(publish.faults_page(done.failed))
    if as_json:
        failed = [{"where": where, "error": error.message} for where, error in done.failed]
        several = {"skills": documents, "failed": failed, "dashboard": done.dashboard or None}
        print_json(documents[0] if alone else several)
        return
    for one in done.done:
        head = f"{one.skill}: {one.action}, {one.reason}. " if one.action else f"{one.skill}: "
        terminal.say(f"{head}{one.detail}")
        if one.url:
            terminal.say(one.url)
    if done.dashboard:
        terminal.say(f"Dashboard: {done.dashboard}")


def _fail_round(done: Round, *, as_json: bool) -> None:
    """End with one error for all that failed; the gravest says how the process ends."""
    from skill_ratchet.base.errors import RatchetError
    from skill_ratchet.cli import error_handler

    kind = error_handler.ReportedError if as_json else RatchetError
    lines = [f"{where}: {error.message}" for where, error in done.failed]
    hints = dict.fromkeys(error.hint for _, error in done.failed if error.hint)
    for _, error in done.failed:
        error_handler.report_defect(error)
    code = max(error.exit_code for _, error in done.failed)
    raise kind("\n".join(lines), hint=" ".join(hints) or None, exit_code=code)


@click.command()
@skill_argument
@click.option(
    "--attempts",
    type=click.IntRange(0, 50),
    help="As for the run; with 0 an open pull request is not in the way.",
)
@repository_option
@options
@click.pass_obj
def due(
    start: Path, *, skill: str | None, attempts: int | None, repository: str | None, as_json: bool
) -> None:
    """Say which skills get a run now, and what a job may spend.

    Not due is a skill that is on hold, whose pull request is open, or that 'ratchet check' finds
    something wrong with; and none is when the month's budget is spent.
    """
    from dataclasses import asdict
    from json import dumps

    from skill_ratchet.base import actions
    from skill_ratchet.cli import terminal
    from skill_ratchet.github import api
    from skill_ratchet.github import schedule as planning

    github = api.connect(repository)
    found = planning.plan(start, github=github, skill=skill, attempts=attempts)
    usd = "" if found.usd is None else f"{found.usd:.6f}"
    actions.set_outputs({"skills": dumps(found.due), "usd": usd})
    actions.add_summary(planning.faults_page(found))
    if as_json:
        print_json(asdict(found) | {"due": found.due})
        return
    for one in found.skills:
        terminal.say(f"{one.skill}: {'due' if one.due else 'not due'}, {one.reason}")
    if usd and found.due:
        terminal.say(f"Each job may spend ${usd}.")


@click.command("command")
@click.option(
    "--event",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="The event, instead of GITHUB_EVENT_PATH's.",
)
@repository_option
@options
@click.pass_obj
def obey(start: Path, *, event: str | None, repository: str | None, as_json: bool) -> None:
    """Do what a comment, review or issue on GitHub asks for.

    Reads the event that started the workflow; its kind is GITHUB_EVENT_NAME. What is no command
    of a person who may give it is left alone. No model is called.

    After an event that may stop a merge (a push, a label, the dashboard's box) what was left to
    GitHub to merge is judged again, and taken back if it does not hold any more.
    """
    from dataclasses import asdict

    from skill_ratchet.cli import terminal
    from skill_ratchet.github import api, comments, handover

    name, content = comments.read_event(event)
    github = api.connect(repository)
    done = handover.heed(start, github=github, name=name, event=content)
    if done is None:
        done = comments.handle(start, github=github, name=name, event=content)
    if as_json:
        print_json(asdict(done))
        return
    terminal.say(f"{done.command or 'event'}: {done.outcome}; {done.detail}")


@click.command()
@click.argument("pull", type=click.IntRange(min=1))
@click.argument("sha")
@click.option("--out", type=FOLDER, metavar="DIR", help="Test it; the verdict goes there.")
@click.option(
    "--bundle", type=FOLDER, metavar="DIR", help="Say what the test came to that wrote this."
)
@usd_option
@reply_option
@repository_option
@options
@click.pass_obj
def gate(
    start: Path,
    *,
    pull: int,
    sha: str,
    out: Path | None,
    bundle: Path | None,
    usd: float | None,
    reply: str | None,
    repository: str | None,
    as_json: bool,
) -> None:
    """Test a person's edit of a skill, or say what came of the test.

    SHA is its head. With --out, screen and confirm run as for the bot's own; with --bundle, the
    status 'ratchet/holdout' and one comment are set. Nothing is ever merged.
    """
    if bool(out) == bool(bundle):
        raise click.UsageError("Give one of --out (the test) and --bundle (what to say of it).")
    if out and (reply or repository):
        raise click.UsageError("--reply and --repository go with --bundle: a test writes nothing.")
    if bundle and usd is not None:
        raise click.UsageError("--usd goes with --out: nothing is spent to say what came of it.")
    if out:
        _test_pull(start, pull, sha, out, usd=usd, as_json=as_json)
    if bundle:
        _say_of_pull(start, pull, sha, bundle, reply=reply, repository=repository, as_json=as_json)


def _test_pull(
    start: Path, pull: int, sha: str, out: Path, *, usd: float | None, as_json: bool
) -> None:
    from skill_ratchet.cli import terminal
    from skill_ratchet.cli.progress import Reporter
    from skill_ratchet.github import gate_check

    with Reporter() as reporter:
        done = gate_check.try_out(start, number=pull, sha=sha, out=out, observer=reporter, usd=usd)
    if done is not None:
        show_confirmed(done, as_json=as_json)
    elif as_json:
        print_json({"skill": None, "note": gate_check.NOTHING})
    else:
        terminal.say(gate_check.NOTHING)


def _say_of_pull(
    start: Path,
    pull: int,
    sha: str,
    bundle: Path,
    *,
    reply: str | None,
    repository: str | None,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from skill_ratchet.base import actions
    from skill_ratchet.cli import terminal
    from skill_ratchet.github import api, gate_check, replies

    asked = replies.parse(reply) if reply else None
    github = api.connect(repository)
    told = gate_check.say(start, github=github, number=pull, sha=sha, bundle=bundle)
    document = {key: value for key, value in asdict(told).items() if key != "page"}
    actions.set_outputs({key: str(value or "") for key, value in document.items()})
    actions.add_summary(told.page)
    if as_json:
        print_json(document)
    else:
        terminal.say(f"#{told.pull} at {sha[:12]}: {told.state or 'no status'}. {told.detail}")
    if asked:
        gate_check.answer(github, asked, told)
