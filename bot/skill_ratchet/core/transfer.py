"""Does an edit help other models too: paired runs of an old and a new text, a row for each model.

A transfer decides nothing and is no attempt of the gate. What it says of a model is a claim about
these cases, at an error level that is divided among the models and the two directions, so that
the chance of any wrong 'better' or 'worse' in the table is at most ``alpha`` for models whose runs
are repeated. Pure: pairs and numbers in, records, cells and words out.
"""

from __future__ import annotations

import math
import re
from statistics import stdev
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import evidence as stats
from skill_ratchet.core import wording
from skill_ratchet.core.records import NO_TALLY, Digest, Pair, Record, Slug, Tally, digest, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from skill_ratchet.core.records import Fixture, Trace

OWNER: Final = "transfer-"  # before the id, in the place of an experiment's: no run counts as both
FEWEST_ERRORS: Final = 2.0  # standard errors, for a model that always answers the same
MOST_MODELS: Final = 20
MOST_SWEEPS: Final = 100
USUAL_SWEEPS: Final = 20  # at most, unless a person asks for more
MOST_LOG: Final = math.log(99_999)  # larger odds are shown as more than this

Outcome = Literal["better", "worse", "unclear"]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S+$")]
# A model as a person names it on a command line or in a comment.
_NAMED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}")


class TransferRow(Record):
    """What a transfer came to on one model: means and counts, no case.

    ``tally`` has the old text as the incumbent and the new one as the candidate; it is empty until
    every run of the model has a score. ``outcome`` is None until then, too.
    """

    provider: str
    model: Name
    model_digest: Digest  # provider, model, every parameter of a call, and the scorer
    deterministic: bool
    tally: Tally = NO_TALLY
    log_better: float | None = None  # log of the evidence against 'no better'
    log_worse: float | None = None  # the same against 'no worse'
    error: float | None = Field(default=None, ge=0)  # standard error of the mean change
    outcome: Outcome | None = None
    missing: int = Field(default=0, ge=0)  # runs that should have a score and have none
    calls: int = Field(default=0, ge=0)  # on record, a judge's too
    usd: float | None = Field(default=0.0, ge=0)  # None when a call's price was not known

    @property
    def points(self) -> float | None:
        """The mean change in points, new minus old; None when it is not known."""
        if self.tally.incumbent is None or self.tally.candidate is None:
            return None
        return 100 * (self.tally.candidate - self.tally.incumbent)


class Transfer(Record):
    """Two texts of a skill on several models; written before its first call, and as it goes on.

    ``finished_at`` is None until every row has an outcome. The texts are told by their digests;
    ``old_name`` and ``new_name`` are what a person called them.
    """

    id: Digest
    skill: Slug
    split: Literal["train", "holdout"]
    old: Digest
    new: Digest
    old_name: str = Field(max_length=200)
    new_name: str = Field(max_length=200)
    base: str  # commit that config, cases and scorers were read from
    cases: Digest  # of the split's
    scorer: Digest
    judge: str  # digest of the model that judges for the scorer 'rubric'; empty without one
    evaluator: str  # version of Ratchet
    fixtures: int = Field(ge=1)
    sweeps: int = Field(ge=1, le=MOST_SWEEPS)  # of each model whose runs are repeated
    alpha: float = Field(gt=0, le=0.5)
    round: int = Field(ge=1)  # the same question asked anew has the next number
    rows: tuple[TransferRow, ...] = Field(min_length=1, max_length=MOST_MODELS)
    started_at: str
    finished_at: str | None = None

    @property
    def owner(self) -> str:
        """What its runs have in the place of an experiment."""
        return f"{OWNER}{self.id}"

    @property
    def log_bar(self) -> float:
        """Log of the odds at which a repeated model's change is called better or worse."""
        return log_bar(len(self.rows), alpha=self.alpha)

    def named(self) -> Digest:
        """The id that goes with everything the numbers depend on; models in any order."""
        return digest(
            "transfer",
            self.skill,
            self.split,
            self.old,
            self.new,
            self.cases,
            self.scorer,
            self.judge,
            self.evaluator,
            self.sweeps,
            sorted(row.model_digest for row in self.rows),
            self.round,
        )

    def in_round(self, number: int) -> Transfer:
        """The same question, asked for so many times; its id goes with that."""
        numbered = self.with_(round=number)
        return numbered.with_(id=numbered.named())

    def with_row(self, row: TransferRow) -> Transfer:
        """A copy with what has become of one model."""
        rows = tuple(row if row.model_digest == one.model_digest else one for one in self.rows)
        return self.with_(rows=rows)


# Which models -----------------------------------------------------------------------------------


def parse_models(text: str) -> tuple[str, ...]:
    """The models of a list such as ``claude-haiku-5-5,local``, in its order.

    Raises:
        RatchetError: There is none, one is named twice, there are too many, or one has a character
            that no model's name has.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not _NAMED.fullmatch(name):
            raise RatchetError(
                f"{wording.one_line(name, 40)!a} is not the name of a model.",
                hint="Name them like this: --models claude-haiku-5-5,claude-sonnet-5-5",
            )
    if len(names) > MOST_MODELS:
        raise RatchetError(f"{len(names)} models are named; {MOST_MODELS} fit into one transfer.")
    refuse_doubles(names)
    return names


def refuse_doubles(names: Sequence[str]) -> None:
    """Raise RatchetError when a model is there twice."""
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise RatchetError(f"The model {twice} is named twice.", hint="Name each model once.")


# How many runs, and what they show ----------------------------------------------------------------


def log_bar(models: int, *, alpha: float) -> float:
    """Log of 2 * models / alpha: the level of one model in one direction, as odds."""
    return math.log(2 * models / alpha)


def enough_sweeps(*, fixtures: int, models: int, alpha: float) -> int:
    """The fewest sweeps in which a change can be shown that wins 4 of 5 decisive pairs.

    Three pairs in ten are expected to be decisive, as the gate does before it has seen any. At
    most ``USUAL_SWEEPS``.
    """
    bar = log_bar(models, alpha=alpha)
    counts = range(1, USUAL_SWEEPS)
    found = (n for n in counts if stats.reachable(stats.no_bets(), cap=n * fixtures, log_bar=bar))
    return next(found, USUAL_SWEEPS)


def sweeps_of(transfer: Transfer, row: TransferRow) -> int:
    """How often a model runs each case: once, if it always answers the same."""
    return 1 if row.deterministic else transfer.sweeps


def runs_wanted(transfer: Transfer, row: TransferRow) -> int:
    """Task runs of a model: each case with both texts in every sweep."""
    return 2 * transfer.fixtures * sweeps_of(transfer, row)


def own_runs(transfer: Transfer, row: TransferRow, runs: Iterable[Trace]) -> list[Trace]:
    """Those of the runs that were made for this transfer, with this model."""
    wanted = (transfer.owner, row.model_digest)
    return [run for run in runs if run.key and (run.key.experiment, run.key.model) == wanted]


def own_pairs(
    transfer: Transfer, row: TransferRow, runs: Iterable[Trace], fixtures: Sequence[Fixture]
) -> tuple[Pair, ...]:
    """The pairs of one model that both have a score, by sweep and case.

    Args:
        transfer: Whose.
        row: Which model's.
        runs: Runs on record; others than this model's for this transfer count for nothing.
        fixtures: The split's cases.
    """
    scored = {
        (run.key.skill, run.key.fixture, run.key.replicate): run
        for run in own_runs(transfer, row, runs)
        if run.key and run.score
    }
    found = (
        Pair.of(case, old, new, sweep=sweep, made_for=transfer.owner)
        for sweep in range(sweeps_of(transfer, row))
        for case in sorted(fixtures, key=lambda one: one.id)
        if (old := scored.get((transfer.old, case.digest, sweep)))
        and (new := scored.get((transfer.new, case.digest, sweep)))
    )
    return tuple(pair for pair in found if pair)


def unscored(runs: Iterable[Trace]) -> int:
    """How many of the runs that were made have no score, also after they were made again."""
    keys = [(run.key, run.score is not None) for run in runs if run.key]
    return len({key for key, _ in keys} - {key for key, scored in keys if scored})


def measured(
    transfer: Transfer,
    row: TransferRow,
    *,
    runs: Iterable[Trace],
    judged: Iterable[Trace],
    fixtures: Sequence[Fixture],
) -> TransferRow:
    """The row with what its runs came to; without numbers while one of them is missing.

    Args:
        transfer: Whose row it is.
        row: Which model's.
        runs: Every run on record for the transfer.
        judged: Every call of a judge on record for it.
        fixtures: The split's cases.
    """
    own = own_runs(transfer, row, runs)
    costs = [run.reply.usd for run in (*own, *own_runs(transfer, row, judged))]
    spent = TransferRow(
        provider=row.provider,
        model=row.model,
        model_digest=row.model_digest,
        deterministic=row.deterministic,
        missing=unscored(own),
        calls=len(costs),
        usd=total(costs),
    )
    pairs = own_pairs(transfer, row, own, fixtures)
    if spent.missing or 2 * len(pairs) != runs_wanted(transfer, row):
        return spent
    return _compared(transfer, spent, pairs)


def _compared(transfer: Transfer, row: TransferRow, pairs: Sequence[Pair]) -> TransferRow:
    means = stats.cluster_means(pairs)
    spread = len(means) >= stats.FEWEST_CLUSTERS
    row = row.with_(
        tally=Tally.of(pairs, sweeps=sweeps_of(transfer, row)),
        error=stdev(means) / math.sqrt(len(means)) if spread else None,
    )
    sides = (pairs, [_turned(pair) for pair in pairs])
    if row.deterministic:
        better, worse = (
            stats.clears(stats.cluster_means(side), errors=FEWEST_ERRORS) for side in sides
        )
        return row.with_(outcome=_outcome(better=better, worse=worse))
    up, down = (stats.log_wealth(side, block=transfer.fixtures) for side in sides)
    bar = transfer.log_bar
    return row.with_(
        log_better=up, log_worse=down, outcome=_outcome(better=up >= bar, worse=down >= bar)
    )


def _turned(pair: Pair) -> Pair:
    """The same runs with the texts' parts exchanged."""
    return pair.with_(incumbent=pair.candidate, candidate=pair.incumbent)


def _outcome(*, better: bool, worse: bool) -> Outcome:
    if better == worse:
        return "unclear"
    return "better" if better else "worse"


# For people -------------------------------------------------------------------------------------

HEADER: Final = ("model", "old", "new", "points", "won/lost/tied", "evidence", "calls", "cost")
NUMBERS: Final = (1, 2, 3, 4, 5, 6, 7)  # columns of HEADER


def labels(transfer: Transfer) -> tuple[str, ...]:
    """The models' names; with the provider where two have the same name."""
    names = [row.model for row in transfer.rows]
    return tuple(
        row.model if names.count(row.model) == 1 else f"{row.provider}:{row.model}"
        for row in transfer.rows
    )


def matrix(transfer: Transfer) -> list[tuple[str, ...]]:
    """The cells below ``HEADER``, a row for each model: plain text, nothing of any case."""
    return [
        (
            name,
            wording.percent(row.tally.incumbent),
            wording.percent(row.tally.candidate),
            wording.points(row.points),
            _counts(row),
            evidence(row),
            f"{row.calls:,}",
            wording.dollars(row.usd),
        )
        for name, row in zip(labels(transfer), transfer.rows, strict=True)
    ]


def _counts(row: TransferRow) -> str:
    if row.missing:
        return f"{row.missing} unscored"
    if row.outcome is None:
        return "not finished"
    return f"{row.tally.wins}/{row.tally.losses}/{row.tally.ties}"


def evidence(row: TransferRow) -> str:
    """How strong it is: odds in the direction of the change, or standard errors."""
    points = row.points
    if points is None:
        return "-"
    if row.log_better is not None and row.log_worse is not None:
        log_e = row.log_better if points >= 0 else row.log_worse
        return f">{wording.odds(MOST_LOG)}" if log_e > MOST_LOG else wording.odds(log_e)
    if row.error is None:
        return "-"
    if row.error == 0:
        return "no spread"
    return f"{abs(points) / (100 * row.error):.1f} SE"


def sentence(transfer: Transfer) -> str:
    """What the rows mean, in plain words."""
    named = list(zip(labels(transfer), transfer.rows, strict=True))
    by: Mapping[Outcome | None, list[str]] = {
        kind: [name for name, row in named if row.outcome == kind]
        for kind in ("better", "worse", "unclear", None)
    }
    every, better = len(named), len(by["better"])
    if better == every:
        return f"The new text is better on {_all(every)}."
    if len(by["worse"]) == every:
        return f"The new text is worse on {_all(every)}."
    if len(by["unclear"]) == every:
        return f"No difference can be shown on {_all(every)}."
    if len(by[None]) == every:
        return "There is no result yet."
    parts = [f"better on {better or 'none'} of {wording.many(every, 'model')}"]
    if by["worse"]:
        parts.append(f"worse on {_listed(by['worse'])}")
    if by["unclear"]:
        parts.append(f"on {_listed(by['unclear'])} no difference can be shown")
    if by[None]:
        has = "has" if len(by[None]) == 1 else "have"
        parts.append(f"{_listed(by[None])} {has} no result yet")
    return f"The new text is {'; '.join(parts)}."


def grounds(transfer: Transfer) -> str:
    """What 'better' asks for here, in one sentence."""
    asked = []
    if any(not row.deterministic for row in transfer.rows):
        asked.append(f"odds of {wording.odds(transfer.log_bar)}")
    if any(row.deterministic for row in transfer.rows):
        asked.append(
            f"{FEWEST_ERRORS:g} standard errors (SE) of a model that always answers the same"
        )
    where = "sealed" if transfer.split == "holdout" else "train"
    sweeps = "1 sweep" if transfer.sweeps == 1 else f"up to {transfer.sweeps} sweeps"
    return (
        f"Fresh paired runs, {sweeps} of {transfer.fixtures} {where} cases; better or worse takes "
        f"{' or '.join(asked)}."
    )


def _all(count: int) -> str:
    return "the one model" if count == 1 else f"all {count} models"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
