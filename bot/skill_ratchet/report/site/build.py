"""``ratchet report``: a static site of a skill's experiments, made from the ledger alone.

``gather`` reads the ledger into frozen records (``views``), ``html`` draws them with jinja2 and
``charts``, ``traces`` writes the pages of single model calls, ``output_folder`` puts it where it
was asked for. Nothing of it needs a server.

Traces are read once, in the order of the ledger, and never all in memory. Each is handed to

    traces.Writer.add(trace: Trace) -> str    the trace's URL, relative to the report's folder

which is the only thing that ``gather`` knows of how they are stored.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from skill_ratchet.base import actions
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import wording
from skill_ratchet.project import config, repository

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skill_ratchet.core.records import Trace
    from skill_ratchet.report.site.gather import Book
    from skill_ratchet.report.site.html import Site
    from skill_ratchet.report.site.traces import Writer


class Listener(Protocol):
    """Is told what is being done."""

    def begin(self, name: str, *, total: int | None) -> None:
        """Begin a step of so many parts; None when their number is not known."""
        ...

    def advance(self) -> None:
        """One part is done."""
        ...


@dataclass(frozen=True, slots=True)
class Built:
    """What was written."""

    folder: Path
    index: Path
    skills: tuple[str, ...]
    experiments: int
    traces: int
    pages: int
    bytes: int
    with_holdout: bool


def refuse_publication(environ: Mapping[str, str]) -> None:
    """Raise RatchetError in a workflow: what is written there is on its way to be published."""
    if actions.in_workflow(environ):
        raise RatchetError(
            "--with-holdout is for your own machine, and this is a workflow (GITHUB_ACTIONS or CI "
            "is set): held-out cases must not be published.",
            hint="Leave --with-holdout out.",
        )


def build(
    start: Path, *, skill: str | None, out: Path | None, with_holdout: bool, progress: Listener
) -> Built:
    """Write the report of all skills, or of one.

    Building twice from the same ledger gives the same bytes. A failure leaves what was there.

    Args:
        start: The project, or a folder in it.
        skill: The only skill to be shown.
        out: Where to; None for ``.ratchet/report``, which git is kept from adding.
        with_holdout: Show held-out cases and their traces, too.
        progress: Is told what is being done.

    Raises:
        RatchetError: A library is missing, a record cannot be read, the folder is something else.
    """
    from skill_ratchet.report.site import gather, html, output_folder, traces  # noqa: PLC0415 - jinja2 is an extra

    if with_holdout:
        refuse_publication(os.environ)
    project = repository.open_project(start)
    settings = config.load_config(repository.WorkTree(project))
    folder = out or project.root / output_folder.DEFAULT
    with output_folder.placed(folder, ignored=out is None or with_holdout) as new:
        pages = html.Site(new, opened=with_holdout, redact=settings.redact)
        pages.static()
        writer = traces.Writer(new, environment=pages.environment, redact=pages.redact)
        skills = []
        for book in gather.books(project, settings, skill=skill, opened=with_holdout):
            _book(book, pages, writer, progress)
            skills.append(book.skill())
            writer.home(book.name, label=book.name, url=book.url)
            pages.skill(skills[-1], alone=book.alone)
            pages.cases(skills[-1], book.cases(), advance=progress.advance)
        if len(skills) > 1:
            pages.index(skills)
        writer.close()
    return Built(
        folder=folder.resolve(),
        index=folder.resolve() / "index.html",
        skills=tuple(one.name for one in skills),
        experiments=sum(len(one.points) for one in skills),
        traces=writer.traces,
        pages=pages.pages + 1,  # the traces' own
        bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        with_holdout=with_holdout,
    )


def _book(book: Book, pages: Site, writer: Writer, progress: Listener) -> None:
    """Write a skill's traces and experiments."""

    def keep(trace: Trace) -> str:
        progress.advance()
        return writer.add(trace)

    progress.begin(f"{book.name}: traces", total=book.traces)
    book.read_traces(keep)
    for owner, label, url in book.named():
        writer.name(book.name, owner, label=label, url=url)
    progress.begin(f"{book.name}: experiments", total=book.experiments)
    for page in book.pages():
        pages.experiment(page, skill_url=book.url)
        progress.advance()
    progress.begin(f"{book.name}: cases", total=book.seen)


def document(built: Built) -> dict[str, Any]:
    """What was written, as plain JSON values."""
    return asdict(built) | {"folder": str(built.folder), "index": str(built.index)}


def describe(built: Built) -> list[str]:
    """What was written, in words."""
    runs = wording.many(built.traces, "trace")
    what = f"{wording.many(built.experiments, 'experiment')} and {runs}"
    lines = [f"{built.pages:,} pages of {what}, {built.bytes / 1e6:.1f} MB."]
    if built.with_holdout:
        lines.append("It shows held-out cases: keep it on this machine.")
    return lines
