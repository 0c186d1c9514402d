"""``ratchet correct``: a correction given in the terminal becomes a case in the working tree.

What a person said goes to the ledger first, so that it is not lost when the file cannot be written,
and what they typed into an editor is kept until it could be taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skill_ratchet.base import documents
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.cases import batch, check, correction, correction_text, importer
from skill_ratchet.cases.correction import GivenBy
from skill_ratchet.cases.correction_text import FaultyError, Given
from skill_ratchet.core import wording
from skill_ratchet.ledger import access, clock
from skill_ratchet.project import config, repository, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skill_ratchet.cases.correction import Claim
    from skill_ratchet.cases.correction_text import Section
    from skill_ratchet.core.golden import Filed
    from skill_ratchet.core.records import Correction, Fixture, Trace
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.config import Config
    from skill_ratchet.project.repository import Project

DRAFT: Final = "ratchet/correction.txt"  # below .git
CUT: Final = "# ------------------------ >8 ------------------------"
_HELP: Final = f"""
{CUT}
Say what should have been answered, and save; nothing below the line above is read.
A section begins with its name and a colon and may have many lines. A text that has such names in
it goes into a fence (```). 'Context:', 'Answered:' and 'Why:' may be left out; the reason goes to
the proposer word for word, if the case is one it may see.
"""


@dataclass(frozen=True, slots=True)
class Corrected:
    """What became of a correction; ``file`` is the one that was written, if any."""

    correction: Correction
    filed: Filed
    file: str | None
    folder: str
    redacted: int


@dataclass(frozen=True, slots=True)
class _OnDisk:
    """A skill as it is on disk, and its ledger."""

    project: Project
    settings: Config
    skill: str
    ledger: Ledger

    @property
    def folder(self) -> str:
        return self.settings.skill(self.skill).fixtures

    @property
    def tree(self) -> repository.WorkTree:
        return repository.WorkTree(self.project)

    @property
    def draft(self) -> Any:
        """Where a text waits that could not be taken yet."""
        return self.project.common_dir / DRAFT

    def cases(self) -> tuple[Fixture, ...]:
        return workspace.read_fixtures(self.tree, self.folder, require=())


def correct(
    project: Project,
    *,
    skill: str | None,
    trace: str | None,
    texts: Mapping[Section, str],
    edit: Callable[[str], str | None],
) -> Corrected:
    """Keep a correction, and add its case to the fixtures on disk.

    Args:
        project: Where.
        skill: Whose; None for the only one.
        trace: The run on train that went wrong, by the beginning of its id.
        texts: What was said already.
        edit: Lets a person write the rest; None when they leave without saving.

    Raises:
        RatchetError: It cannot be taken; what was typed is kept, and offered the next time.
    """
    settings = config.load_config(repository.WorkTree(project))
    name = config.choose_skill(settings, skill)
    ledger = access.open_to_write(project, name, redact=settings.redact)
    desk = _OnDisk(project, settings, name, ledger)
    run = desk.ledger.find_trace(trace) if trace else None
    wanted = {"expected"} if run else set(correction_text.NEEDED)
    if wanted <= texts.keys():
        said = _said(desk, correction_text.given(texts), run)
        return _keep(desk, said)
    typed = _typed(desk, texts, run, edit)
    try:
        done = _keep(desk, _said(desk, correction_text.parse(typed), run))
    except RatchetError as error:
        desk.draft.parent.mkdir(parents=True, exist_ok=True)
        desk.draft.write_text(typed, encoding="utf-8")
        hint = "What you wrote is kept: 'ratchet correct' opens it again."
        raise RatchetError(error.message, hint=hint) from error
    desk.draft.unlink(missing_ok=True)
    return done


def _typed(
    desk: _OnDisk,
    texts: Mapping[Section, str],
    run: Trace | None,
    edit: Callable[[str], str | None],
) -> str:
    """What a person writes; begins with what they wrote before, if that was not taken."""
    kept = desk.draft.read_text(encoding="utf-8") if desk.draft.is_file() else ""
    wanted = correction_text.NEEDED if run is None else ("expected",)
    begun = kept or correction_text.written(texts, also=wanted)
    shown = "" if run is None else f"\nThe run had the input:\n\n{run.fixture_input}\n"
    shown += "" if run is None else f"\nand was answered:\n\n{run.reply.text or ''}\n"
    typed = edit(f"{begun}{_HELP}{shown}")
    text = (typed or "").partition(CUT)[0].strip("\n")
    if typed is None or not text.strip():
        raise RatchetError("Nothing was written, so nothing is recorded.")
    return text


def _said(desk: _OnDisk, given: Given, run: Trace | None) -> Claim:
    if given.words:
        raise FaultyError(["there is text in front of the first section"])
    skill, redact = desk.settings.skill(desk.skill), desk.settings.redact
    if run is None:
        return correction.of_text(given, skill=skill, redact=redact)
    case = correction.case_of(run, desk.cases())
    if case is None:
        raise RatchetError(
            f"Trace {run.id} is not of a train case as it is now.",
            hint="Give the input and the answer yourself: --input, --answered.",
        )
    return correction.of_trace(given, run, case, skill=skill, redact=redact)


def _keep(desk: _OnDisk, said: Claim) -> Corrected:
    """On the ledger first, then in the file."""
    there = desk.cases()
    known = desk.ledger.corrections()
    ids = {one.id for one in there}
    waits = batch.waiting(known, settled=desk.ledger.settled())
    filed = batch.find_home(
        said.case,
        after=(one for one in waits if one.fixture not in ids),
        existing=there,
        rules=desk.settings.feedback.rules,
    )
    who = repository.run(desk.project, "var", "GIT_AUTHOR_IDENT", ok=range(256)).text
    source = GivenBy(who.partition(" <")[0] or "somebody here", None, clock.now(), None, "terminal")
    kept = correction.record(said, filed.case, source, skill=desk.skill)
    if any(one.id == kept.id for one in known) and filed.outcome == "counted":
        return Corrected(kept, filed, None, desk.folder, said.redacted)
    _require_fit(desk, kept, filed, there)
    desk.ledger.add_correction(kept)
    desk.ledger.flush(f"{desk.skill}: a correction")
    return Corrected(kept, filed, _write(desk, kept, filed, there), desk.folder, said.redacted)


def _require_fit(desk: _OnDisk, kept: Correction, filed: Filed, there: tuple[Fixture, ...]) -> None:
    """Refuse a case that no answer could score well on, and a reason that gives cases away."""
    text = documents.decode(desk.tree.read(desk.settings.skill(desk.skill).path))
    if correction.repeats_sealed(kept, there, skill_text=text):
        raise FaultyError(["'Why:' repeats text of held-out cases; say it in other words"])
    space = workspace.open_anywhere(
        desk.project, skill=desk.skill, ref=None, override={}, require=()
    )
    if filed.outcome == "new" and (problem := check.unscorable(space, filed.case)):
        raise FaultyError([f"the skill's scorer could not score that 'Expected:': {problem}"])


def _write(desk: _OnDisk, kept: Correction, filed: Filed, there: tuple[Fixture, ...]) -> str | None:
    """The case, or its count, in the bot's file; None when no file changes."""
    if filed.outcome == "new":
        case = batch.case_of(kept).with_(id=filed.case.id, cluster=filed.case.cluster)
        return importer.add(desk.tree, [case], folder=desk.folder)[0]
    counted = next((one for one in there if one.id == filed.case.id), None)
    if filed.outcome != "counted" or counted is None or counted == filed.case:
        return None
    path = batch.path_of(filed.case, folder=desk.folder)
    if not desk.tree.has(path):
        return None
    before = documents.decode(desk.tree.read(path))
    importer.write(desk.tree, path, batch.with_counts(before, [filed.case]))
    return path


def describe(done: Corrected) -> list[str]:
    """What became of it, in words."""
    kept, filed = done.correction, done.filed
    known = f"Kept on the ledger as correction {kept.id[:12]} of skill {kept.skill}."
    lines = {
        "new": [f"Case {filed.case.id}: {filed.detail}."],
        "counted": [known, f"Nothing new: {filed.detail}."],
        "conflict": [
            known,
            f"CONFLICT: {filed.detail}. That is for people to decide; nothing was changed.",
        ],
        "full": [known, f"It is no case: {filed.detail}."],
    }[filed.outcome]
    if done.redacted:
        lines.append(f"{wording.many(done.redacted, 'secret')} taken out before anything was kept.")
    if done.file:
        lines += [
            f"wrote {done.file}",
            f"Next: git add {done.folder} && git commit -m 'Add a case'",
        ]
    return lines


def document(done: Corrected) -> dict[str, Any]:
    """The same as plain JSON values."""
    return {
        "skill": done.correction.skill,
        "correction": done.correction.id,
        "outcome": done.filed.outcome,
        "fixture": done.filed.case.id,
        "split": done.filed.case.split,
        "detail": done.filed.detail,
        "file": done.file,
        "redacted": done.redacted,
    }
