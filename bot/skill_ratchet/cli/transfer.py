"""``ratchet transfer``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from skill_ratchet.cli.app import FOLDER, options, print_json, skill_argument, usd_option
from skill_ratchet.cli.github import reply_option, repository_option

if TYPE_CHECKING:
    from pathlib import Path

    from skill_ratchet.core.transfer import Transfer, TransferRow
    from skill_ratchet.experiment.transfer import MadeTransfer


@click.command()
@skill_argument
@click.option("--models", metavar="A,B,C", help="Models, or providers as PROVIDER:MODEL.")
@click.option("--from", "old", metavar="REF", help="The old text (before the last merge).")
@click.option("--to", "new", metavar="REF", help="The new text (the base branch's).")
@click.option("--split", type=click.Choice(["holdout", "train"]), help="Which cases (holdout).")
@click.option(
    "--sweeps", type=click.IntRange(1, 100), help="Runs of each case with each text and model."
)
@click.option("--again", is_flag=True, help="Run anew what is answered on record.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Also write what --bundle needs.")
@click.option(
    "--bundle", type=FOLDER, metavar="DIR", help="Publish what a run with --out wrote; run nothing."
)
@usd_option
@reply_option
@repository_option
@options
@click.pass_obj
def transfer(start: Path, /, *, bundle: Path | None, as_json: bool, **given: Any) -> None:
    """Score an old and a new text of a skill on several models.

    REF is a branch, tag, commit or experiment. Nothing is decided or merged, and it is no attempt
    of the gate. The same call again shows what is on record.
    """
    reply, repository = given.pop("reply"), given.pop("repository")
    if bundle:
        if any(value not in (None, False) for value in given.values()):
            raise click.UsageError("--bundle goes with --reply and --repository alone.")
        _relay(start, bundle, reply=reply, repository=repository, as_json=as_json)
        return
    if not given["models"]:
        raise click.UsageError("Give --models (the runs), or --bundle (what to say of them).")
    if reply or repository:
        raise click.UsageError("--reply and --repository go with --bundle: runs write nothing.")
    _run(start, as_json=as_json, **given | {"split": given["split"] or "holdout"})


def _run(start: Path, *, as_json: bool, **given: Any) -> None:
    from skill_ratchet.cli.progress import Reporter
    from skill_ratchet.experiment import transfer

    with Reporter() as reporter:
        done = transfer.transfer(start, observer=reporter, **given)
    if as_json:
        print_json(document(done))
    else:
        show(done)
    fail(done)


def _relay(
    start: Path, bundle: Path, *, reply: str | None, repository: str | None, as_json: bool
) -> None:
    from skill_ratchet.base import actions
    from skill_ratchet.cli import terminal
    from skill_ratchet.github import api, replies, transfer

    asked = replies.parse(reply) if reply else None
    relayed = transfer.relay(start, bundle=bundle)
    actions.add_summary(relayed.page)
    if asked:
        transfer.answer(api.connect(repository), asked, relayed)
    if as_json:
        one = relayed.transfer
        print_json({"id": one and one.id, "skill": one and one.skill, "detail": relayed.detail})
    else:
        terminal.say(relayed.detail)


def document(done: MadeTransfer) -> dict[str, Any]:
    """What ``--json`` prints."""
    from skill_ratchet.core import transfer as core

    one = done.transfer
    return {
        "id": one.id,
        "skill": one.skill,
        "split": one.split,
        "base": one.base,
        "old": {"name": one.old_name, "digest": one.old},
        "new": {"name": one.new_name, "digest": one.new},
        "fixtures": one.fixtures,
        "sweeps": one.sweeps,
        "alpha": one.alpha,
        "round": one.round,
        "finished": one.finished_at is not None,
        "kept": done.kept,
        "sentence": core.sentence(one),
        "models": [_row(row) for row in one.rows],
        "calls": done.calls,
        "usd": done.usd,
    }


def _row(row: TransferRow) -> dict[str, Any]:
    shown: dict[str, Any] = row.model_dump(mode="json", exclude={"tally", "model_digest"})
    tally = row.tally
    counts = {"pairs": tally.pairs, "won": tally.wins, "lost": tally.losses, "tied": tally.ties}
    means = {"old": tally.incumbent, "new": tally.candidate, "points": row.points}
    return shown | means | counts


def show(done: MadeTransfer) -> None:
    """The matrix, and what it means."""
    from skill_ratchet.cli import terminal
    from skill_ratchet.core import transfer as core
    from skill_ratchet.core import wording

    one = done.transfer
    terminal.table(core.matrix(one), header=core.HEADER, right=core.NUMBERS, rest=0)
    terminal.say("")
    terminal.say(core.sentence(one))
    terminal.say(core.grounds(one))
    spent = wording.cost(done.calls, done.usd)
    terminal.say(f"{one.skill}, {_texts(one)}: {f'on record; {spent}' if done.kept else spent}.")


def _texts(one: Transfer) -> str:
    return f"from {one.old_name} to {one.new_name}"


def fail(done: MadeTransfer) -> None:
    """End with what ended the runs, or with the runs that have no score."""
    from skill_ratchet.cli.error_handler import ReportedError

    if error := done.error:
        raise ReportedError(error.message, hint=error.hint, exit_code=error.exit_code) from error
    if done.failures:
        raise ReportedError(
            "\n".join(done.failures), hint="Run again: what succeeded is kept, and not paid twice."
        )
