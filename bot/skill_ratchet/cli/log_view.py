"""Past experiments on a terminal: the log as a graph, one experiment, one model call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skill_ratchet.cli import terminal
from skill_ratchet.core import wording
from skill_ratchet.report import conversation, graph, history, sparklines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill_ratchet.core.records import Trace
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.report.comparison import CaseChange

SPARKS: Final = 20  # columns of a line of values; two of them and their scale fit into one line
TRACE: Final = 16  # characters of a trace's id that tell it apart from other cases' runs
NONE: Final = "No experiment yet in this clone: ratchet run, or ratchet fetch for those of others."


def show_log(ledger: Ledger, rows: Sequence[history.Row], *, filtered: bool) -> None:
    """The experiments newest first, below what they came to together.

    Args:
        ledger: The skill's.
        rows: What is shown of it, newest first.
        filtered: Experiments between the rows are left out, so no line joins them.
    """
    every = ledger.experiments()
    if not rows:
        terminal.say("No experiment ended so." if every else NONE)
        return
    for line in _head(ledger):
        terminal.say(line)
    kinds, style = [row.kind for row in rows], terminal.style()
    whole = rows[-1].experiment == every[0]
    drawn = graph.draw(kinds, style=style, whole=whole)
    if filtered:
        drawn = [style.marks[kind] for kind in kinds]
    terminal.table(
        [
            (
                mark,
                str(row.experiment.number),
                row.state.removeprefix("reject: "),
                row.experiment.level or "-",
                wording.growth(row.experiment.chars),
                _train(row),
                wording.one_line(row.experiment.proposal.hypothesis, 2 * wording.WIDTH),
            )
            for mark, row in zip(drawn, rows, strict=True)
        ],
        header=("", "#", "outcome", "level", "size", "train", "hypothesis"),
        right=(1, 4),
        rest=6,
    )
    terminal.say(f"\n{graph.legend(kinds, style=style)}")


def _head(ledger: Ledger) -> list[str]:
    """How many there were, and the scores on train as two lines of marks."""
    every, results, reverted = ledger.experiments(), ledger.results(), ledger.reversions()
    kept = sum(one.action == "merge" and name not in reverted for name, one in results.items())
    many = "1 experiment" if len(every) == 1 else f"{len(every)} experiments"
    points = history.points(ledger)
    drawn = sparklines.lines(points, SPARKS)
    if not drawn:
        return [f"{ledger.skill}: {many}, {kept} merged", ""]
    said = f"{ledger.skill}: {many}, {kept} merged; train: {_reached(ledger, points[0].before)}"
    if len(drawn) < sparklines.FEWEST:
        return [said, ""]
    values = [value for one in drawn for value in (one.score, one.best)]
    low, high, marks = min(values), max(values), terminal.sparks()
    tried, held = (
        sparklines.spark(some, low=low, high=high, marks=marks)
        for some in ([one.score for one in drawn], [one.best for one in drawn])
    )
    scale = f"({marks[0]} is {wording.percent(low)}, {marks[-1]} is {wording.percent(high)})"
    return [said, f"tried {tried}  kept {held}  {scale}", ""]


def _train(row: history.Row) -> str:
    """The means of its screen; of how many pairs, where that stopped before all cases were run."""
    train = row.result.train if row.result else None
    few = f" ({train.pairs})" if train and train.pairs and not train.sweeps else ""
    return f"{wording.change(train)}{few}"


def _reached(ledger: Ledger, first: float) -> str:
    """What the skill scored at first, and what it scores as it was merged last, of how many runs.

    The same as the badge, the status and the report say.
    """
    done = history.every(ledger, {})
    text = history.kept_text(done)
    now = history.train_scores(ledger, done).get(text or "")
    if now is None:
        return wording.arrow([wording.percent(first), "not measured yet: 'ratchet eval'"])
    means = wording.arrow([wording.percent(first), wording.percent(now.value)])
    return f"{means} ({wording.many(now.runs, 'run')})"


def show_experiment(ledger: Ledger, row: history.Row, *, path: str) -> None:
    """One experiment: what is known of it, its cases, its edit of ``path``, where to look next."""
    mark = terminal.style().marks[row.kind]
    told = [
        (name, f"{mark} {said}" if name == "outcome" else said) for name, said in history.facts(row)
    ]
    terminal.fields(told)
    cases = history.cases(ledger, row.experiment)
    if cases:
        _show_cases(cases)
    patch = history.patch(ledger, row.experiment, path=path)
    if patch:
        terminal.raw(f"\n{patch}")
    terminal.say(f"\n{_next(row, cases)}")


def _show_cases(cases: Sequence[CaseChange]) -> None:
    """The train cases, the worst first; those that did not change are only named."""
    worse = [case for case in cases if case.gain < 0]
    same = [case for case in cases if case.gain == 0]
    better = [case for case in cases if case.gain > 0]
    counts = f"{len(better)} improved, {len(worse)} worse, {len(same)} unchanged"
    terminal.say(f"\ntrain cases: {counts}")
    shown = [*worse, *better]
    if shown:
        terminal.table(
            [
                (
                    wording.points(100 * case.gain),
                    wording.arrow([wording.percent(case.before), wording.percent(case.after)]),
                    str(case.pairs),
                    case.trace[:TRACE],
                    case.fixture,
                )
                for case in shown[: terminal.MOST_ROWS]
            ],
            header=("points", "train", "runs", "trace", "case"),
            right=(0, 2),
            rest=4,
        )
    if len(shown) > terminal.MOST_ROWS:
        names = ", ".join(case.fixture for case in shown[terminal.MOST_ROWS :])
        terminal.say(f"and {len(shown) - terminal.MOST_ROWS} more: {names}")
    if same:
        terminal.say(f"unchanged: {', '.join(case.fixture for case in same)}")


def _next(row: history.Row, cases: Sequence[CaseChange]) -> str:
    number = row.experiment.number
    lines = [f"why it ended so: ratchet explain {number}"] if row.result else []
    if cases:
        lines.append(f"a model call, whole: ratchet trace {cases[0].trace}")
    return "\n".join(lines)


def trace_text(trace: Trace, *, raw: bool) -> str:
    """One model call, a heading above each thing that was said.

    What was said is indented, so that no text can pass for a heading; raw bodies are as they are.
    """
    told = {"Skill": trace.skill} | conversation.facts(trace)
    head = [
        f"{name.lower():<8} {wording.one_line(said, 10 * wording.WIDTH)}"
        for name, said in told.items()
        if name not in ("Score", "Why")  # they are the last block
    ]
    indent = "" if raw else "  "
    blocks = conversation.raw(trace) if raw else conversation.blocks(trace)
    return "\n".join([*head, *(_block(block, indent) for block in blocks)])


def _block(block: conversation.Block, indent: str) -> str:
    import textwrap

    called = " ".join(filter(None, [block.name, block.call]))
    text = "\n".join(filter(None, [called, block.text])).rstrip()
    return f"\n{_heading(block.heading)}\n{textwrap.indent(text, indent)}"


def _heading(name: str) -> str:
    return f"--- {wording.one_line(name, 40)} ".ljust(wording.WIDTH, "-")
