"""What people read on GitHub: facts in, Markdown out, bounded in length and inert.

Everything that a model, a fixture or a person wrote goes through ``inert``, ``fence`` or
``line``. None of them removes a character: what is dangerous is broken by a zero-width space or
shown as a replacement character, so nothing can be put together by taking something out.

No page has a place for a held-out case: of the holdout it is told counts and means.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple
from urllib.parse import quote

from pydantic import Field

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import commit_words, wording
from skill_ratchet.core import transfer as transfers
from skill_ratchet.core.gate import Action, Reason, Verdict
from skill_ratchet.core.markdown import _short, clean, fence, inert, line, octets, quoted, units
from skill_ratchet.core.records import Experiment, Record, Slug, Tally, UnitInterval
from skill_ratchet.github.commands import NAMES, NEEDS, USES
from skill_ratchet.project.proposal import EXPERIMENT
from skill_ratchet.report import sparklines
from skill_ratchet.report.comparison import CaseChange, changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from skill_ratchet.core.records import Evidence
    from skill_ratchet.core.transfer import Transfer
    from skill_ratchet.github.commands import Name, Unknown

# GitHub counts characters of a pull request's body and bytes (four times as many) of a comment's.
# UTF-16 units are never fewer than characters and have three bytes at most, so this fits both.
BODY: Final = 65_536
SUMMARY: Final = 1_048_576  # bytes
TITLE: Final = 100  # UTF-16 units
STATUS: Final = 140  # UTF-16 units
MOST_CASES = 50  # rows of the table that is shown before the others
LONG_DIFF = 60  # lines; a longer one is folded
LONG_SENTENCE = 1000  # characters; a longer one is cut
BOXES_AT_ONCE = 50
FEWEST_SWEEPS = 2  # a chart of fewer says no more than the sentence

Marker = Literal["pull", "sticky", "dashboard", "closing", "reply", "revert", "gate", "handed"]
Repository = Annotated[
    str,
    Field(max_length=300, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._-]+){2,}$"),
]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Trailer = Annotated[str, Field(max_length=200, pattern=r"^[A-Z][A-Za-z-]*: [0-9a-f]+$")]

_LOGIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")
_SEALED: Final = re.compile(r"[\\/](?:holdout|vault)[\\/]")
_ELSEWHERE: Final = "held-out cases: see the log;"

# Markers and sections -------------------------------------------------------------------------


def marker(kind: Marker, name: str = "") -> str:
    """The comment that the bot finds its own page by; always the first line of the page.

    Args:
        kind: Of page.
        name: A skill; of a closing the experiment, of a reply the comment that is answered.

    Raises:
        RatchetError: The name could not stand in a marker.
    """
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise RatchetError(f"{name!a} cannot be part of a marker")
    return f"<!-- {' '.join(filter(None, [f'ratchet:{kind}', name]))} -->"


def is_marked(body: str, mark: str) -> bool:
    """Whether a page begins with that marker. Look at its author, too."""
    return body.split("\n", 1)[0].strip() == mark


def is_blank(body: str) -> bool:
    """Whether a pull request's body has no words of a person: none, or the commit's trailers."""
    return all(
        re.fullmatch(r"(?:Ratchet-[A-Za-z]+: \S+)?", row.strip()) for row in body.split("\n")
    )


class Section(Record):
    """A part of a page that is shown whole or not at all.

    ``rank`` 0 is always shown; of the others the lowest come first. ``name`` says what is left
    out, and ``instead`` where it is to be found.
    """

    text: str
    name: str = ""
    rank: int = Field(default=0, ge=0)
    instead: str = ""

    @property
    def notice(self) -> str:
        """What stands in its place."""
        return " ".join(filter(None, [f"*Left out for length: {self.name}.*", self.instead]))


def cut(sections: Sequence[Section], limit: int, *, size: Callable[[str], int] = units) -> str:
    """The sections as one text of at most ``limit``, by leaving out whole ones of a high rank.

    Raises:
        ValueError: Not even the sections of rank 0 fit.
    """
    parts = [part for part in sections if part.text]
    shown = [part.notice if part.rank else part.text for part in parts]
    room = limit - size("\n\n".join(shown))
    if room < 0:
        raise ValueError(f"the sections that must be shown are {-room} over the limit {limit}")
    for at in sorted(range(len(parts)), key=lambda at: parts[at].rank):
        more = size(parts[at].text) - size(shown[at])
        if more <= room:
            shown[at] = parts[at].text
            room -= more
    return "\n\n".join(shown)


# The facts ------------------------------------------------------------------------------------


class TrainCase(CaseChange):
    """A case of the screen; its name can do no harm, and ``trace`` is a path in the ledger."""

    fixture: Slug


class PullFacts(Record):
    """All that the pages about one experiment say. Of the holdout it has sums alone."""

    experiment: Experiment
    verdict: Verdict
    sentence: str  # from ``wording.sentence``
    train: Tally
    holdout: Tally | None
    cases: tuple[TrainCase, ...] = ()  # of train
    past: tuple[sparklines.Point, ...] = ()  # the skill's experiments up to this one
    diff: str
    calls: int = Field(ge=0)
    usd: float | None = Field(ge=0)
    repository: Repository
    ledger: Commit  # of the branch ratchet/ledger, so that links stay true
    head: Commit | None = None  # the proposal's commit, which the verdict is about
    trailers: tuple[Trailer, ...] = Field(default=(), max_length=5)


def train_cases(evidence: Evidence, *, traces: Mapping[str, str]) -> tuple[TrainCase, ...]:
    """The screen by case, the largest change first.

    Args:
        evidence: Whose screen it is. A pair of a case that is not of train is left out.
        traces: Paths in the ledger by trace id.
    """
    train = {*evidence.train_fixtures} - {*evidence.holdout_fixtures}
    found = changes(pair for pair in evidence.screen if pair.fixture in train)
    cases = (TrainCase(**(dict(case) | {"trace": traces.get(case.trace, "")})) for case in found)
    return tuple(sorted(cases, key=lambda case: (-abs(case.gain), case.fixture)))


class Handed(NamedTuple):
    """A head that was left to GitHub to merge, and who had released it, where a person had to."""

    commit: str  # or its first 12 digits
    by: str


class SkillRow(Record):
    """A skill on the dashboard."""

    skill: Slug
    score: UnitInterval | None = None  # mean on train; None before there is one
    pull: int | None = Field(default=None, ge=1)  # number of the open pull request
    last_run: str | None = None  # UTC, ISO 8601
    outcome: str = ""  # of the last experiment, in a few words
    looks: int = Field(default=0, ge=0)  # at the holdout, ever
    spent: UnitInterval = 0.0  # part of the error budget against the skill as it is
    held: bool = False
    fault: str = ""  # what is wrong with it, and the command that shows it
    link: str = ""  # of ours, to where a person puts it right


class MonthBudget(Record):
    """Dollars of a calendar month; ``limit`` is None where there is none."""

    month: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}$")
    spent: float | None = Field(ge=0)
    limit: float | None = Field(ge=0)
    unpriced: int = Field(default=0, ge=0)  # calls of runs whose price is not known


# The pages ------------------------------------------------------------------------------------


def title(facts: PullFacts) -> str:
    """A pull request's title, of which GitHub makes the message of a merge."""
    return line(commit_words.plain(_subject(facts)), TITLE)


def pull_request(facts: PullFacts) -> tuple[str, str]:
    """Title and body of a proposal's pull request."""
    sections = [
        Section(text=marker("pull", facts.experiment.skill)),
        *_findings(facts),
        Section(text=_listed(*_ANY_TIME, name=facts.experiment.id[:12])),
        # Last, where git looks for them when the body becomes the message of a squashed commit.
        Section(text="\n".join(facts.trailers)),
    ]
    return title(facts), cut(sections, BODY)


def proposed(body: str) -> str | None:
    """The experiment that a pull request's body names in the trailers at its end.

    Look at its author, too.
    """
    end = body.replace("\r\n", "\n").rstrip().rpartition("\n\n")[2]
    rows = dict(re.findall(r"^([A-Z][A-Za-z-]*): ([0-9a-f]+)$", end, re.MULTILINE))
    return rows.get(EXPERIMENT) if len(rows) == len(end.split("\n")) else None


def sticky(facts: PullFacts, *, handed: Handed | None = None) -> str:
    """The one comment that a pull request has of the bot: the verdict as it is now.

    Args:
        facts: What it says.
        handed: That GitHub is to merge it; for ``handed_over`` to find again.
    """
    marks = [marker("sticky", facts.experiment.skill)]
    if handed is not None:
        by = handed.by if _LOGIN.fullmatch(handed.by) else ""
        marks.append(marker("handed", f"{handed.commit[:12]}{by and '.'}{by}"))
    return _comment(facts, "\n".join(marks), _steps(facts))


def handed_over(body: str) -> Handed | None:
    """What the bot has left to GitHub to merge, by its own comment; only its first lines count."""
    head = "\n".join(takewhile(lambda row: row.startswith("<!-- ratchet:"), body.splitlines()))
    found = re.search(r"^<!-- ratchet:handed ([0-9a-f]{12})(?:\.(\S+))? -->$", head, re.MULTILINE)
    return Handed(found[1], found[2] or "") if found else None


def gate(facts: PullFacts) -> str:
    """The one comment on a person's pull request: what the test of its edit came to."""
    return _comment(facts, marker("gate"), _persons_steps(facts))


def not_tested(why: str, *, hint: str = "") -> str:
    """The same comment where there is nothing to count: why, and what can be done."""
    sections = [
        Section(text=marker("gate")),
        Section(text=f"**Not tested.** {_short(why, LONG_SENTENCE)}"),
        Section(text=_short(hint, LONG_SENTENCE) if hint else ""),
    ]
    return cut(sections, BODY)


def _comment(facts: PullFacts, mark: str, steps: str) -> str:
    sections = [
        Section(text=mark),
        Section(text=_verdict(facts)),
        Section(text=_scores(facts)),
        *_cases(facts),
        *_charts(facts),
        Section(text=_record(facts)),
        Section(text=steps),
    ]
    return cut(sections, BODY)


def summary(facts: PullFacts) -> str:
    """The step summary of an experiment."""
    head = Section(text=f"## {_short(_subject(facts), TITLE)}")
    return cut([head, *_findings(facts)], SUMMARY, size=octets)


def status(facts: PullFacts) -> str:
    """The description of the commit status: the reason and the means."""
    reason = facts.verdict.reason.value.replace("_", " ").capitalize()
    held_out = f"held-out {wording.change(facts.holdout)}, " if facts.holdout else ""
    return line(f"{reason}: {held_out}train {wording.change(facts.train)}", STATUS)


def closing(experiment: Experiment, *, why: str, words: str = "") -> str:
    """The comment that says why a pull request was closed.

    Args:
        experiment: What was proposed.
        why: A sentence.
        words: What a person said, which the proposer reads word for word.
    """
    heard = f"The proposer is told, word for word:\n\n{quoted(words)}" if words.strip() else ""
    number = experiment.number
    kept = f"Experiment {number} stays in the ledger: `ratchet explain {number}` shows it."
    sections = [
        Section(text=marker("closing", experiment.id[:12])),
        Section(text=f"Closed. {_short(why, LONG_SENTENCE)}"),
        Section(text=heard, name="what was said", rank=1),
        Section(text=kept),
    ]
    return cut(sections, BODY)


def revert_request(experiment: Experiment, *, by: str) -> str:
    """The body of the pull request that takes a merged experiment out again."""
    name = experiment.id[:12]
    sections = [
        Section(text=marker("revert", name)),
        Section(
            text=f"Takes experiment {experiment.number} (`{name}`) out again, as "
            f"{_short(by)} asked. Later changes to the file are kept."
        ),
        Section(text="What it had proposed:"),
        Section(text=quoted(experiment.proposal.hypothesis), name="the hypothesis", rank=1),
    ]
    return cut(sections, BODY)


def outcome(skill: str, *, action: str | None, reason: str | None, detail: str) -> str:
    """One line on what became of a skill's proposal."""
    head = f"{action}, {reason}: " if action and reason else f"{action}: " if action else ""
    return f"`{skill}`: {head}{_short(detail, LONG_SENTENCE)}"


def names(skills: Iterable[str]) -> str:
    """Names of skills, one after the other."""
    return ", ".join(f"`{skill}`" for skill in skills)


def unsealed(error: str) -> str:
    """An error's words for a page: without the lines that name a file of held-out cases."""
    lines = error.split("\n")
    told = [line for line in lines if not _SEALED.search(line)]
    return "\n".join([_ELSEWHERE, *told] if len(told) < len(lines) else told)


def transfer(one: Transfer) -> str:
    """Two texts of a skill on several models: counts and means, as a table and a sentence."""
    rows = [[inert(name), *numbers] for name, *numbers in transfers.matrix(one)]
    texts = f"from {_short(one.old_name)} to {_short(one.new_name)}"
    missing = any(row.missing for row in one.rows)
    return "\n\n".join(
        [
            f"Skill `{one.skill}`, {texts}: {inert(transfers.sentence(one))}",
            _table(transfers.HEADER, rows, right=transfers.NUMBERS),
            *(["Runs have no score: the log of the job says why."] if missing else []),
            f"{inert(transfers.grounds(one))} Nothing is decided by it.",
        ]
    )


def reply(comment: int | str, *parts: str) -> str:
    """The answer to a command, once for each comment; ``parts`` are Markdown made here."""
    texts = [Section(text=part, name="a part of the answer", rank=1) for part in parts]
    return cut([Section(text=marker("reply", str(comment))), *texts], BODY)


def usage() -> str:
    """The commands as a table."""
    rows = [
        [_spelled(name), USES[name].does, "write" if NEEDS[name] == "write" else "anyone"]
        for name in NAMES
    ]
    return _table(["command", "what it does", "who"], rows)


def unknown(command: Unknown) -> str:
    """What to say to a word that is no command."""
    nearest = f" Did you mean {_spelled(command.nearest)}?" if command.nearest else ""
    return f"there is no command '{_short(command.word)}'.{nearest} `/ratchet help` lists them."


def _of_month(budget: MonthBudget) -> str:
    """What a month has cost, and what of it has no price."""
    known = [one for one in (budget.spent, budget.limit) if one is not None]
    told = " of ".join(wording.amounts(*known)) or "unknown"
    unpriced = wording.many(budget.unpriced, "call")
    return f"{told}, and {unpriced} of unknown price" if budget.unpriced else told


def dashboard(
    rows: Sequence[SkillRow], *, budget: MonthBudget, repository: Repository, project: str
) -> str:
    """The body of the dashboard issue.

    Args:
        rows: One for each skill.
        budget: Of all skills together.
        repository: Its address, for links.
        project: Which of the repository's it is of, without what would end a code span.
    """
    cells = [
        [
            f"`{row.skill}`",
            wording.percent(row.score),
            f"[{row.pull}]({repository}/pull/{row.pull})" if row.pull else "-",
            _moment(row.last_run),
            _short(row.outcome),
            str(row.looks),
            wording.percent(row.spent),
        ]
        for row in rows
    ]
    header = ["skill", "score on train", "open", "last run", "outcome", "looks", "error budget"]
    boxed = [rows[at : at + BOXES_AT_ONCE] for at in range(0, len(rows), BOXES_AT_ONCE)]
    sections = [
        Section(text=marker("dashboard")),
        Section(text=f"Of `{project}`."),
        Section(text=f"Spent in {budget.month}: {_of_month(budget)}."),
        Section(text=_table(header, cells, right=(1, 5, 6)), name="the table", rank=2),
        *(Section(text=text, name="what is wrong", rank=1) for text in _faults(rows)),
        Section(text="Tick a box to stop a skill, clear it to let it go on."),
        *(Section(text=_boxes(some), name=f"{len(some)} boxes", rank=1) for some in boxed),
        Section(text="No run for days? GitHub stops schedules of a quiet repository: start one."),
    ]
    return cut(sections, BODY)


def _faults(rows: Iterable[SkillRow]) -> list[str]:
    """What people have to put right, a skill a line."""
    lines = [
        f"- {fault(row.skill, row.fault)}{f' [Open it]({row.link})' if row.link else ''}"
        for row in rows
        if row.fault
    ]
    return ["\n".join(["These need a person:", "", *lines])] if lines else []


def fault(skill: str, why: str) -> str:
    """What is wrong with a skill, as a line."""
    return f"`{skill}`: {_short(why, LONG_SENTENCE)}"


def project_of(body: str) -> str | None:
    """Which project a dashboard is of; None where it does not say."""
    found = re.search(r"^Of `([^`\r\n]+)`\.\r?$", body, re.MULTILINE)
    return found[1] if found else None


def boxes(body: str) -> dict[str, bool]:
    """Which skills a dashboard holds, by its boxes; with two boxes either is enough."""
    held: dict[str, bool] = {}
    for found in _BOX.finditer(body):
        held[found["skill"]] = held.get(found["skill"], False) or found["mark"] != " "
    return held


def with_box(body: str, skill: str, *, held: bool) -> str:
    """A dashboard with a skill's boxes ticked or clear; everything else as it is."""
    mark = "x" if held else " "

    def put(found: re.Match[str]) -> str:
        same = found["skill"] == skill
        return re.sub(r"\[[ xX]\]", f"[{mark}]", found[0], count=1) if same else found[0]

    return _BOX.sub(put, body)


_BOX = re.compile(
    r"^[-*] \[(?P<mark>[ xX])\] hold `(?P<skill>[A-Za-z0-9][A-Za-z0-9._-]{0,99})`[ \t\r]*$",
    re.MULTILINE,
)


def _boxes(rows: Iterable[SkillRow]) -> str:
    return "\n".join(f"- [{'x' if row.held else ' '}] hold `{row.skill}`" for row in rows)


# Their parts ----------------------------------------------------------------------------------


def _findings(facts: PullFacts) -> list[Section]:
    """What was proposed, what came of it, and where the rest is."""
    return [
        Section(text=_verdict(facts)),
        Section(text=_scores(facts)),
        Section(text=_hypothesis(facts), name="the hypothesis", rank=1, instead=_home(facts)),
        Section(text=_diff(facts), name="the edit", rank=3, instead=_home(facts)),
        *_cases(facts),
        *_charts(facts),
        Section(text=_record(facts)),
    ]


def _subject(facts: PullFacts) -> str:
    one = facts.experiment
    said = "" if _leaks(facts) else one.proposal.hypothesis.strip()
    return f"{one.skill}: {said or f'experiment {one.number}'}"


def _verdict(facts: PullFacts) -> str:
    return inert(wording.one_line(clean(facts.sentence), LONG_SENTENCE))


def _scores(facts: PullFacts) -> str:
    tallies = [("train", facts.train), ("held-out", facts.holdout)]
    rows = [[name, *_counted(tally)] for name, tally in tallies if tally and tally.pairs]
    header = ["", "before", "after", "points", "runs", "won", "lost", "tied"]
    return _table(header, rows, right=range(1, len(header))) if rows else ""


def _counted(tally: Tally) -> list[str]:
    means = (tally.incumbent, tally.candidate)
    gain = None if None in means else 100 * ((tally.candidate or 0) - (tally.incumbent or 0))
    counts = (tally.pairs, tally.wins, tally.losses, tally.ties)
    return [*map(wording.percent, means), wording.points(gain), *map(str, counts)]


def _hypothesis(facts: PullFacts) -> str:
    said = "" if _leaks(facts) else quoted(facts.experiment.proposal.hypothesis)
    return f"### Hypothesis\n\n{said}" if said else ""


def _diff(facts: PullFacts) -> str:
    if _leaks(facts):
        return "### Edit\n\nNot shown: it repeats text of held-out cases."
    if not facts.diff:
        return ""
    rows = facts.diff.split("\n")[2:]  # the first two name the files
    added, removed = (sum(row.startswith(sign) for row in rows) for sign in "+-")
    shown = fence(facts.diff, "diff")
    if len(rows) > LONG_DIFF:
        shown = _folded("the whole edit", shown)
    return f"### Edit: +{added} -{removed} lines\n\n{shown}"


def _cases(facts: PullFacts) -> list[Section]:
    first, more = facts.cases[:MOST_CASES], facts.cases[MOST_CASES:]
    table = f"### Train cases\n\n{_case_table(facts, first)}" if first else ""
    rest = _folded(f"{len(more)} more", _case_table(facts, more)) if more else ""
    return [
        Section(text=table, name="the train cases", rank=2, instead=_home(facts)),
        Section(text=rest, name=f"{len(more)} train cases", rank=4, instead=_home(facts)),
    ]


def _case_table(facts: PullFacts, cases: Iterable[TrainCase]) -> str:
    rows = [
        [
            _short(case.fixture),
            wording.percent(case.before),
            wording.percent(case.after),
            wording.points(100 * case.gain),
            str(case.pairs),
            f"[trace]({_file(facts, case.trace)})" if case.trace else "-",
        ]
        for case in cases
    ]
    header = ["case", "before", "after", "points", "runs", "raw"]
    return _table(header, rows, right=range(1, 5))


def _charts(facts: PullFacts) -> list[Section]:
    """The pictures, the first to go where there is no room."""
    return [
        Section(text=_history(facts), name="the chart of train scores", rank=6),
        Section(text=_chart(facts), name="the chart of the evidence", rank=5),
    ]


def _history(facts: PullFacts) -> str:
    drawn = sparklines.train(facts.past)
    if not drawn:
        return ""
    rows = [
        [str(one.number), wording.percent(one.score), wording.percent(one.best)]
        for one in sparklines.lines(facts.past)
    ]
    table = _table(["experiment", "on train", "best kept"], rows, right=range(3))
    return _folded("Train score by experiment", f"{fence(drawn, 'mermaid')}\n\n{table}")


def _chart(facts: PullFacts) -> str:
    verdict = facts.verdict
    if verdict.log_bar is None or verdict.false_merge_rate is not None:
        return ""
    if len(verdict.path) < FEWEST_SWEEPS:
        return ""
    drawn = sparklines.evidence(verdict.path, log_bar=verdict.log_bar)
    told = wording.chart(verdict.path, log_bar=verdict.log_bar)
    both = f"{fence(drawn, 'mermaid')}\n\n{fence(told, 'text')}"
    return _folded("Evidence by sweep", both)


def _record(facts: PullFacts) -> str:
    one, setting = facts.experiment, facts.experiment.setting
    lengths = wording.arrow([f"{count:,}" for count in one.chars]) if one.chars else "-"
    models = _short(setting.model)
    if setting.meta_model:
        models += f", proposed by {_short(setting.meta_model)}"
    verdict = facts.verdict
    values = {
        "verdict": f"`{verdict.reason.value}`: {_short(verdict.detail, 500)}",
        "experiment": f"{one.number} (`{one.id[:12]}`)",
        "cost": wording.cost(facts.calls, facts.usd),
        "breadth": _short(one.level),
        "size": f"{lengths} characters ({wording.growth(one.chars)})" if one.chars else "-",
        "model": models,
        "measured on": f"{_short(setting.branch)} at `{_plain(setting.base)}`",
        "commit": f"`{facts.head[:12]}`" if facts.head else "-",
        "raw traces": _links(facts),
    }
    if one.sealed:
        values["held-out cases"] = wording.SEALED[one.sealed]
    return "### Record\n\n" + _table(["", ""], [[name, said] for name, said in values.items()])


def _links(facts: PullFacts) -> str:
    one = facts.experiment
    places = {"this experiment": _path(facts), "all of the skill": one.skill}
    if facts.train.pairs:
        places = {"its runs on train": f"{_path(facts)}/traces", **places}
    return ", ".join(f"[{name}]({_folder(facts, path)})" for name, path in places.items())


def _home(facts: PullFacts) -> str:
    return f"It is [in the ledger]({_folder(facts, _path(facts))})."


def _path(facts: PullFacts) -> str:
    """Where the experiment is in the ledger."""
    return f"{facts.experiment.skill}/experiments/{facts.experiment.id[:12]}"


def _folder(facts: PullFacts, path: str) -> str:
    return f"{facts.repository}/tree/{facts.ledger}/{quote(path)}"


def _file(facts: PullFacts, path: str) -> str:
    return f"{facts.repository}/blob/{facts.ledger}/{quote(path)}"


_HOLD: Final = "`/ratchet hold` or the label `ratchet:hold` stops"
_REJECT: Final = (
    "`/ratchet reject <reason>` closes this pull request; the proposer reads the reason"
)
# For the body, which stays as it is while the verdict may change.
_ANY_TIME: Final = (
    "nothing: a comment below says what the gate makes of it at the moment",
    "`/ratchet merge` or an approving review releases one that waits for a person",
    f"{_HOLD} the merge; so does a request for changes, which the proposer reads",
    _REJECT,
)
_STEPS: Final[Mapping[Reason, tuple[str, ...]]] = {
    Reason.AWAITS_PERSON: (
        "`/ratchet merge` or an approving review merges it; merging it by hand does, too",
        _REJECT,
    ),
    Reason.VETO_WINDOW: (
        "nothing: it is merged by itself when the window is over",
        "`/ratchet merge` merges it now",
        f"{_HOLD} that",
        _REJECT,
    ),
    Reason.HELD: (
        "`/ratchet resume` takes the label `ratchet:hold` and the tick on the dashboard away",
        "the file `.ratchet-hold` and a request for changes are taken back by hand",
        _REJECT,
    ),
    Reason.STALE: ("`/ratchet retry` tries again with what is there now; the next run does, too",),
}


def _steps(facts: PullFacts) -> str:
    """What a person can do now: mostly, what to reply."""
    name = facts.experiment.id[:12]
    after = {
        Action.MERGE: (f"`/ratchet revert {name}` takes the edit out again",),
        Action.HOLD: (
            "`/ratchet retry` looks again now; the next run does, too",
            f"{_HOLD} it",
            _REJECT,
        ),
        Action.REJECT: ("`/ratchet run` tries another edit",),
    }
    steps = _STEPS.get(facts.verdict.reason) or after[facts.verdict.action]
    return _listed(*steps, name=name)


def _persons_steps(facts: PullFacts) -> str:
    """The same for a person's pull request, which the bot neither merges nor closes."""
    step = f"`/ratchet gate {facts.head}` looks again"
    if facts.verdict.action is Action.REJECT:
        step = "push a better edit: every head is tested for itself"
    elif facts.verdict.reason is Reason.AWAITS_PERSON:
        step = "merge this pull request to take the edit"
    return _listed(step, name=facts.experiment.id[:12])


def _listed(*steps: str, name: str) -> str:
    more = (f"`ratchet explain {name}` shows the evidence", "`/ratchet help` lists what to reply")
    return "\n".join(["### What you can do", "", *(f"- {step}" for step in (*steps, *more))])


def _spelled(name: Name) -> str:
    words = filter(None, ["/ratchet", name, USES[name].argument])
    return f"`{' '.join(words)}`"


def _leaks(facts: PullFacts) -> bool:
    """Whether the edit repeats held-out text, and so must not be shown."""
    return facts.verdict.reason is Reason.LEAKS_HOLDOUT


def _plain(name: str) -> str:
    """The beginning of a commit's name, for a code span."""
    return re.sub(r"[^0-9A-Za-z]", "", name)[:12] or "-"


def _moment(stamp: str | None) -> str:
    return _short(stamp[:16].replace("T", " ")) if stamp else "never"


def _folded(name: str, body: str) -> str:
    return f"<details><summary>{name}</summary>\n\n{body}\n\n</details>"


def _table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()
) -> str:
    """A table; the cells are Markdown on one line, without a bare ``|``."""
    numbers = set(right)
    rule = ["--:" if at in numbers else "---" for at in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])
