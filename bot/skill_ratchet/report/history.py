"""What the ledger says of past experiments, for the people of the repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skill_ratchet.core import edits, wording
from skill_ratchet.core import evidence as stats
from skill_ratchet.core import looks as core_looks
from skill_ratchet.core.looks import Confirmation
from skill_ratchet.core.records import NOT_CONFIRMED
from skill_ratchet.ledger import scores
from skill_ratchet.report import comparison as compared
from skill_ratchet.report import graph, sparklines

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from skill_ratchet.core.gate import Verdict
    from skill_ratchet.core.looks import Look
    from skill_ratchet.core.records import Evidence, Experiment, Landing, Result, Shipped, Tally
    from skill_ratchet.ledger import Ledger
    from skill_ratchet.project.workspace import Workspace


LOOKS_PER_CASE = 1  # looks at the holdout per held-out case before it is advised to renew it


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment with everything that is known of its outcome."""

    experiment: Experiment
    result: Result | None
    look: Look | None
    landing: Landing | None
    reversion: Landing | None
    shipped: Shipped | None = None

    @property
    def confirmation(self) -> Confirmation | None:
        """The look with its evidence, which a row of many (``rows``) does not have.

        Raises:
            TypeError: This is such a row.
        """
        if self.look is not None and not isinstance(self.look, Confirmation):
            raise TypeError(f"experiment {self.experiment.number}: the evidence was not read")
        return self.look

    @property
    def state(self) -> str:
        """One or two words: ``merged``, ``reverted``, ``under way`` or action and reason."""
        if self.reversion:
            return "reverted"
        if self.result is None:
            return "under way"
        if self.result.action == "merge":
            return "merged"
        verdict = self.look.verdict if self.look else None
        told = self.result.reason
        reason = verdict.reason.value if verdict and told == NOT_CONFIRMED else told
        return f"{self.result.action}: {reason}"

    @property
    def kind(self) -> graph.Kind:
        """Which mark it has."""
        action = self.result.action if self.result else None
        return graph.kind(action, reverted=self.reversion is not None)


def rows(ledger: Ledger, *, most: int, only: Collection[str] = ()) -> list[Row]:
    """The newest experiments, newest first; with ``only`` those that have one of these marks."""
    found = every(ledger, {look.experiment: look for look in ledger.looks()})
    return [one for one in reversed(found) if not only or one.kind in only][:most]


def every(ledger: Ledger, looks: Mapping[str, Look]) -> list[Row]:
    """All experiments by number, with these looks; each kind of record is read in one go."""
    results, landed, reverted = ledger.results(), ledger.landings(), ledger.reversions()
    return [
        Row(
            experiment=one,
            result=results.get(one.id),
            look=looks.get(one.id),
            landing=landed.get(one.id),
            reversion=reverted.get(one.id),
        )
        for one in ledger.experiments()
    ]


def points(ledger: Ledger, *, last: int | None = None) -> tuple[sparklines.Point, ...]:
    """Every experiment with a score on train, oldest first, up to number ``last``."""
    done = every(ledger, {})
    known = train_scores(ledger, done)
    found = (
        sparklines.point(one.experiment, one.result, kept=one.kind == "merged", known=known)
        for one in done
        if last is None or one.experiment.number <= last
    )
    return tuple(one for one in found if one is not None)


def train_scores(ledger: Ledger, done: Sequence[Row]) -> dict[str, scores.TrainScore]:
    """By text, what it scores on train; of what was kept last, as the badge and the status say."""
    results = {one.experiment.id: one.result for one in done if one.result}
    known = scores.of_experiments([one.experiment for one in done], results)
    if (last := kept_text(done)) and (now := scores.of_text(ledger, last)):
        known[last] = now
    return known


def kept_text(done: Sequence[Row]) -> str | None:
    """The text of the last edit that was merged and is in, or else the one it all began with."""
    kept = [one.experiment.candidate for one in done if one.kind == "merged"]
    first = [one.experiment.parent for one in done[:1]]
    return next(iter([*reversed(kept), *first]), None)


def row(ledger: Ledger, experiment: Experiment) -> Row:
    """One experiment's row."""
    return Row(
        experiment=experiment,
        result=ledger.result(experiment.id),
        look=ledger.confirmation(experiment.id),
        landing=ledger.landing(experiment.id),
        reversion=ledger.reversion(experiment.id),
        shipped=ledger.shipment(experiment.id),
    )


def document(row: Row) -> dict[str, Any]:
    """A row as plain JSON values."""
    verdict = row.look.verdict if row.look else None
    return {
        "id": row.experiment.id,
        "number": row.experiment.number,
        "state": row.state,
        "hypothesis": row.experiment.proposal.hypothesis,
        "level": row.experiment.level,
        "chars": row.experiment.chars,
        "proposer": row.experiment.setting.proposer,
        "model": row.experiment.setting.model,
        "meta_model": row.experiment.setting.meta_model,
        "sealed": row.experiment.sealed,
        "started_at": row.experiment.started_at,
        "result": row.result and row.result.model_dump(mode="json"),
        "verdict": verdict and verdict.model_dump(mode="json"),
        "landed": row.landing and row.landing.model_dump(mode="json"),
        "reverted": row.reversion and row.reversion.model_dump(mode="json"),
        "shipped": row.shipped and row.shipped.model_dump(mode="json"),
    }


def details(ledger: Ledger, row: Row, *, path: str) -> dict[str, Any]:
    """What ``show --json`` adds to a row; ``path`` is the skill's."""
    runs = ledger.experiment_runs(row.experiment.id, "train")
    return {
        "proposal": row.experiment.proposal.model_dump(mode="json"),
        "setting": row.experiment.setting.model_dump(mode="json"),
        "diff": patch(ledger, row.experiment, path=path),
        "traces": [trace.id for trace in runs],
    }


def comparison(ledger: Ledger, *, by: str) -> tuple[compared.Group, ...]:
    """Every finished experiment, tabulated by a field that ``comparison.field_named`` knows."""
    looks = {look.experiment: look for look in ledger.confirmations()}
    done = (
        compared.Done(
            experiment=one.experiment,
            result=one.result,
            confirmation=one.confirmation,
            merged=one.kind == "merged",
        )
        for one in every(ledger, looks)
        if one.result
    )
    return compared.tabulate(done, by=by)


def patch(ledger: Ledger, experiment: Experiment, *, path: str) -> str:
    """The edit of ``path`` as a unified diff; empty when the proposal did not apply."""
    before, after = ledger.skill_text(experiment.parent), ledger.candidate_text(experiment.id)
    if before is None or after is None:
        return ""
    return edits.unified_diff(before, after, path=path)


def facts(row: Row) -> list[tuple[str, str]]:
    """One experiment in words, by name; its cases and its patch are apart."""
    experiment, result = row.experiment, row.result
    setting = experiment.setting
    models = setting.model + (f", proposed by {setting.meta_model}" if setting.meta_model else "")
    told = [
        ("experiment", str(experiment.number)),
        ("id", experiment.id),
        ("outcome", row.state),
        ("started", experiment.started_at),
        ("proposer", setting.proposer),
        ("models", models),
        ("base", f"{setting.branch} at {setting.base[:12]}"),
        *([("held-out cases", wording.SEALED[experiment.sealed])] if experiment.sealed else []),
        *_breadth(experiment),
        ("hypothesis", experiment.proposal.hypothesis or "-"),
    ]
    if result:
        told += [
            ("train", _counted(result.train)),
            ("cost", _cost(result)),
            *_tokens(result),
            ("reason", result.detail),
        ]
    verdict = row.look.verdict if row.look else None
    if verdict and (result is None or verdict.detail != result.detail):
        told.append(("verdict", verdict.detail))
    if row.shipped and not row.shipped.unchanged:
        told.append(("shipped", _shipped(row.shipped)))
    elif row.landing:
        told.append(("merged", f"{row.landing.commit} by {row.landing.by}"))
    if row.reversion:
        told.append(("reverted", row.reversion.commit))
    return told


def _breadth(experiment: Experiment) -> list[tuple[str, str]]:
    told = [("level", experiment.level)] if experiment.level else []
    if experiment.proposal.start is not None:
        told.append(("start", wording.one_line(experiment.proposal.start, 64)))
    if experiment.chars:
        lengths = wording.arrow([f"{count:,}" for count in experiment.chars])
        told.append(("size", f"{lengths} characters ({wording.growth(experiment.chars)})"))
    return told


def cases(ledger: Ledger, one: Experiment) -> tuple[compared.CaseChange, ...]:
    """An experiment's train cases, the worst first; with runs that ended after its screen had."""
    kept = ledger.kept_runs(one.parent, one.setting.model_digest, deterministic=True)
    kept |= ledger.kept_runs(one.parent, one.setting.model_digest)
    found = [*kept.values(), *ledger.experiment_runs(one.id, "train")]
    return compared.changes(compared.screened(one, filter(None, map(compared.rollout, found))))


def _tokens(result: Result) -> list[tuple[str, str]]:
    if result.tokens is None:
        return []
    means = wording.arrow([f"{mean:,.0f}" for mean in result.tokens])
    return [("tokens", f"{means} a run on train")]


def _counted(tally: Tally) -> str:
    return (
        f"{wording.change(tally)} over {tally.pairs} pairs: {tally.wins} won, {tally.losses} lost"
    )


def _cost(result: Result) -> str:
    spent = wording.cost(result.calls, result.usd)
    return f"{spent}, {wording.duration(result.seconds)}"


def _shipped(one: Shipped) -> str:
    alike = f"{one.similarity:.1%} like the proposal"
    return f"{one.commit} by {one.by}, with changes: {alike}"


def revert(ledger: Ledger, experiment: Experiment, *, space: Workspace, branch: str) -> Landing:
    """Undo a merge by a new commit on ``branch``, and record it in the ledger.

    Raises:
        RatchetError: It was not merged here, or the file has changed too much since.
    """
    from skill_ratchet.experiment import reversal  # noqa: PLC0415 - only this writes

    wanted = space.config.base or branch
    return reversal.take_out(experiment, space=space, ledger=ledger, branch=wanted)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an experiment ended as it did."""

    sentence: str
    numbers: str
    document: dict[str, Any]


def explain(row: Row) -> Explanation:
    """The verdict as a sentence, the numbers behind it, and the evidence by sweep."""
    done, sentence = row.confirmation, verdict_sentence(row)
    if done is None or done.evidence is None or done.verdict is None:
        numbers = _train_numbers(row)
        return Explanation(sentence, numbers, document(row) | {"sentence": sentence})
    evidence, verdict = done.evidence, done.verdict
    held = _held_out(evidence)
    lines = [_train_numbers(row), *_holdout_numbers(evidence, verdict, held)]
    repeated = verdict.false_merge_rate is None and not evidence.deterministic
    if repeated and verdict.log_bar is not None:
        lines += ["", wording.chart(verdict.path, log_bar=verdict.log_bar)]
    more = {"sentence": sentence, "holdout": held.model_dump(mode="json")}
    return Explanation(sentence, "\n".join(lines), document(row) | more)


def verdict_sentence(row: Row) -> str:
    """Why an experiment ended as it did, or that it did not end yet."""
    done, ended = row.confirmation, row.result
    if done is not None and (done.evidence is None or done.verdict is None):
        return "The holdout was consulted, and the run did not end yet."
    if done is None or done.evidence is None or done.verdict is None:
        if ended is None:
            return "It is still under way. The holdout was not consulted."
        head = f"{wording.HEADS[ended.action]} ({ended.reason})"
        return f"{head}: {ended.detail} The holdout was not consulted."
    held = _held_out(done.evidence)
    return wording.sentence(
        done.verdict,
        holdout=held if held.pairs else None,
        fixtures=len(done.evidence.holdout_fixtures),
        rule="evidence" if done.verdict.false_merge_rate is None else "improves",
        deterministic=done.evidence.deterministic,
    )


def _held_out(evidence: Evidence) -> Tally:
    from skill_ratchet.experiment.recorder import tally  # noqa: PLC0415 - brings the proposers with it

    return tally(evidence.confirm, evidence.holdout_fixtures)


def _train_numbers(row: Row) -> str:
    train = row.result.train if row.result else None
    return f"screen on train    {_counted(train) if train and train.pairs else 'not run'}"


def _holdout_numbers(evidence: Evidence, verdict: Verdict, held: Tally) -> list[str]:
    means = stats.cluster_means(evidence.confirm)
    sweeps = wording.many(held.sweeps, "sweep")
    if 0 < held.size < len(evidence.holdout_fixtures):
        sweeps = f"{wording.many(held.sweeps, 'block')} of {held.size}"
    lines = [f"confirm on holdout {_counted(held)}, {held.ties} ties, {sweeps}"]
    if verdict.log_e is None or verdict.log_bar is None:
        return lines
    if evidence.deterministic:
        gain, bar = 100 * verdict.log_e, 100 * verdict.log_bar
        told = f"{gain:+.1f} points, bar {bar:.1f} ({wording.errors(verdict.errors)})"
        lines.append(f"mean gain          {told}")
    elif verdict.false_merge_rate is not None:
        lines.append(f"false-merge rate   {verdict.false_merge_rate:.0%} of edits without effect")
    else:
        lines.append(
            f"evidence E         {wording.odds(verdict.log_e)}, bar {wording.odds(verdict.log_bar)}"
        )
    passed = "passed" if stats.clears(means, errors=1.0) else "not passed"
    lines.append(f"guard              {passed}, over {len(means)} independent fixtures")
    lines.append(f"attempt            {evidence.attempt} against this incumbent")
    return lines


@dataclass(frozen=True, slots=True)
class Looks:
    """How often the holdout of a skill was consulted."""

    skill: str
    attempts: int  # against the skill as it is now
    looks: int  # ever
    alpha: float
    spent: float  # of alpha, this reign
    next_bar: float  # odds the next attempt must reach, where runs are repeated
    holdout: int
    transfers: int  # over the holdout; no attempt of the gate, but people read what they say
    advice: tuple[str, ...]


def looks(ledger: Ledger, space: Workspace) -> Looks:
    """Count the looks at the holdout, with advice."""
    policy = space.policy
    now = core_looks.reign(ledger.looks(), parent=space.text.digest, policy=policy)
    advice = []
    if now.looks > LOOKS_PER_CASE * len(space.holdout):
        advice.append("the holdout was consulted often for its size: add or swap cases")
    if now.share >= 1 / 2:
        advice.append("half of the error budget is spent against this skill: a merge renews it")
    if not space.vault:
        advice.append("a vault/ split would show whether the holdout is worn: 'ratchet audit'")
    return Looks(
        skill=space.name,
        attempts=now.attempts,
        looks=now.looks,
        alpha=now.alpha,
        spent=now.alpha_spent,
        next_bar=1 / stats.level(now.attempts + 1, alpha=policy.alpha, k=policy.k),
        holdout=len(space.holdout),
        transfers=sum(one.split == "holdout" for one in ledger.transfers()),
        advice=tuple(advice),
    )


def describe_looks(seen: Looks) -> list[str]:
    """The looks in words."""
    times = "once" if seen.looks == 1 else f"{seen.looks} times"
    budget = f"{seen.spent:.3f} of {seen.alpha:g} spent"
    transfers = "1 transfer" if seen.transfers == 1 else f"{seen.transfers} transfers"
    besides = [f"Besides, people were shown {transfers} over them, which spends none of it."]
    return [
        f"{seen.skill}: its {seen.holdout} held-out cases were consulted {times}.",
        f"Attempts against the skill as it is now: {seen.attempts}.",
        f"Error budget: {budget}; the next attempt must reach {seen.next_bar:,.0f}:1 (a model",
        "that always answers the same is judged by one sweep instead).",
        *(besides if seen.transfers else []),
        *(f"advice: {advice}" for advice in seen.advice),
    ]
