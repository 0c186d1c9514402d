"""What the ledger says of past experiments, for the people of the repository."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot.bench import now
from bot.core import compare, edits, reign, render
from bot.core import evidence as stats
from bot.core.records import Landing
from bot.errors import RatchetError
from bot.forge import Refused, plain
from bot.recording import NOT_CONFIRMED, tally

if TYPE_CHECKING:
    from bot.core.gate import Verdict
    from bot.core.records import Evidence, Experiment, Reply, Result, Shipped, Tally, Trace
    from bot.core.reign import Confirmation
    from bot.ledger import Ledger
    from bot.workspace import Workspace


LOOKS_PER_CASE = 1  # looks at the holdout per held-out case before it is advised to renew it


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment with everything that is known of its outcome."""

    experiment: Experiment
    result: Result | None
    confirmation: Confirmation | None
    landing: Landing | None
    reversion: Landing | None
    shipped: Shipped | None = None

    @property
    def state(self) -> str:
        """One or two words: ``merged``, ``reverted``, ``under way`` or action and reason."""
        if self.reversion:
            return "reverted"
        if self.result is None:
            return "under way"
        if self.result.action == "merge":
            return "merged"
        verdict = self.confirmation.verdict if self.confirmation else None
        told = self.result.reason
        reason = verdict.reason.value if verdict and told == NOT_CONFIRMED else told
        return f"{self.result.action}: {reason}"


def rows(ledger: Ledger, *, most: int) -> list[Row]:
    """The newest experiments, newest first."""
    return [row(ledger, experiment) for experiment in ledger.experiments()[: -most - 1 : -1]]


def row(ledger: Ledger, experiment: Experiment) -> Row:
    """One experiment's row."""
    return Row(
        experiment=experiment,
        result=ledger.result(experiment.id),
        confirmation=ledger.confirmation(experiment.id),
        landing=ledger.landing(experiment.id),
        reversion=ledger.reversion(experiment.id),
        shipped=ledger.shipment(experiment.id),
    )


def document(row: Row) -> dict[str, Any]:
    """A row as plain JSON values."""
    verdict = row.confirmation.verdict if row.confirmation else None
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
        "started_at": row.experiment.started_at,
        "result": row.result and row.result.model_dump(mode="json"),
        "verdict": verdict and verdict.model_dump(mode="json"),
        "landed": row.landing and row.landing.model_dump(mode="json"),
        "reverted": row.reversion and row.reversion.model_dump(mode="json"),
        "shipped": row.shipped and row.shipped.model_dump(mode="json"),
    }


def details(ledger: Ledger, row: Row) -> dict[str, Any]:
    """What ``show --json`` adds to a row."""
    runs = ledger.experiment_runs(row.experiment.id, "train")
    return {
        "proposal": row.experiment.proposal.model_dump(mode="json"),
        "setting": row.experiment.setting.model_dump(mode="json"),
        "diff": patch(ledger, row.experiment),
        "traces": [trace.id for trace in runs],
    }


def comparison(ledger: Ledger, *, by: str) -> tuple[compare.Group, ...]:
    """Every finished experiment, tabulated by a field that ``compare.field_named`` knows."""
    results, reverted = ledger.results(), ledger.reversions()
    looks = {look.experiment: look for look in ledger.confirmations()}
    done = (
        compare.Done(
            experiment=experiment,
            result=results[experiment.id],
            confirmation=looks.get(experiment.id),
            merged=results[experiment.id].action == "merge" and experiment.id not in reverted,
        )
        for experiment in ledger.experiments()
        if experiment.id in results
    )
    return compare.tabulate(done, by=by)


def patch(ledger: Ledger, experiment: Experiment) -> str:
    """The edit as a unified diff; empty when the proposal did not apply."""
    before, after = ledger.skill_text(experiment.parent), ledger.candidate_text(experiment.id)
    if before is None or after is None:
        return ""
    return edits.unified_diff(before, after, path=f"{experiment.skill}.md")


def describe(ledger: Ledger, row: Row) -> str:
    """One experiment in words, a line each; its patch is apart."""
    experiment, result = row.experiment, row.result
    setting = experiment.setting
    models = setting.model + (f", proposed by {setting.meta_model}" if setting.meta_model else "")
    lines = [
        f"experiment {experiment.number}  {experiment.id}",
        f"outcome    {row.state}",
        f"started    {experiment.started_at}",
        f"proposer   {setting.proposer}",
        f"models     {models}",
        f"base       {setting.branch} at {setting.base[:12]}",
        *_breadth(experiment),
        f"hypothesis {experiment.proposal.hypothesis or '-'}",
    ]
    if result:
        lines += [
            f"train      {_counted(result.train)}",
            f"cost       {_cost(result)}",
            *_tokens(result),
            f"reason     {result.detail}",
        ]
    if row.confirmation and row.confirmation.verdict:
        lines.append(f"verdict    {row.confirmation.verdict.detail}")
    if row.shipped and not row.shipped.unchanged:
        lines.append(f"shipped    {_shipped(row.shipped)}")
    elif row.landing:
        lines.append(f"merged     {row.landing.commit} by {row.landing.by}")
    if row.reversion:
        lines.append(f"reverted   {row.reversion.commit}")
    runs = ledger.experiment_runs(experiment.id, "train")
    if runs:
        lines.append(f"traces     {len(runs)} on train, such as {runs[0].id}")
    return "\n".join(lines)


def _breadth(experiment: Experiment) -> list[str]:
    lines = [f"level      {experiment.level}"] if experiment.level else []
    if experiment.proposal.start is not None:
        lines.append(f"start      {render.one_line(experiment.proposal.start, 64)}")
    if experiment.chars:
        lengths = render.arrow([f"{count:,}" for count in experiment.chars])
        lines.append(f"size       {lengths} characters ({render.growth(experiment.chars)})")
    return lines


def _tokens(result: Result) -> list[str]:
    if result.tokens is None:
        return []
    return [f"tokens     {render.arrow([f'{mean:,.0f}' for mean in result.tokens])} a run on train"]


def _counted(tally: Tally) -> str:
    return f"{render.change(tally)} over {tally.pairs} pairs: {tally.wins} won, {tally.losses} lost"


def _cost(result: Result) -> str:
    spent = f"{result.calls} calls, {render.dollars(result.usd)}"
    return f"{spent}, {render.duration(result.seconds)}"


def _shipped(one: Shipped) -> str:
    alike = f"{one.similarity:.1%} like the proposal"
    return f"{one.commit} by {one.by}, with changes: {alike}"


def _usage(reply: Reply) -> str:
    used = reply.usage
    tokens = f"{used.input_tokens} in, {used.output_tokens} out, {used.cache_read_tokens} cached"
    return f"{tokens}; {render.dollars(reply.usd)}"


def describe_trace(trace: Trace) -> str:
    """One model call, whole."""
    reply = trace.reply
    head = [
        f"trace    {trace.id}",
        f"job      {trace.job} of {trace.skill}",
        f"case     {trace.fixture or '-'} ({trace.split}, {trace.side or '-'})",
        f"model    {trace.model} ({trace.provider})",
        f"started  {trace.started_at}, took {reply.latency:.2f} s",
        f"usage    {_usage(reply)}",
        f"stop     {reply.stop_reason or '-'}",
    ]
    if trace.score:
        head.append(f"score    {trace.score.value:g} by {trace.score.scorer}: {trace.score.reason}")
    if reply.error or trace.scorer_error:
        head.append(f"error    {reply.error or trace.scorer_error}")
    parts: list[tuple[str, Any]] = [
        ("input", trace.fixture_input),
        ("output", reply.text),
        ("expected", trace.expected),
        ("correction", trace.correction),
        ("request", reply.request),
        ("response", reply.response),
    ]
    body = [f"\n--- {name}\n{_text(value)}" for name, value in parts if value not in (None, "")]
    return "\n".join([*head, *body])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def revert(ledger: Ledger, experiment: Experiment, *, space: Workspace, branch: str) -> Landing:
    """Undo a merge by a new commit on ``branch``, and record it in the ledger.

    Raises:
        RatchetError: It was not merged here, or the file has changed too much since.
    """
    wanted = space.config.base or branch
    commit = plain.landed(space.project, branch=wanted, experiment_id=experiment.id)
    if commit is None:
        raise RatchetError(
            f"Experiment {experiment.id[:12]} is not merged into {wanted}.",
            hint="'ratchet log' lists what was.",
        )
    stamp = now().isoformat(timespec="microseconds")
    done = plain.revert(
        space.project,
        branch=wanted,
        path=space.skill.path,
        commit=commit,
        experiment_id=experiment.id,
        message=f"{space.name}: revert experiment {experiment.number}",
        at=stamp,
    )
    if isinstance(done, Refused):
        raise RatchetError(done.detail, hint=done.hint)
    record = Landing(
        experiment=experiment.id, commit=done.commit, branch=wanted, at=stamp, by="ratchet revert"
    )
    ledger.add_revert(record)
    ledger.flush(f"{space.name}: revert of experiment {experiment.number}")
    return record


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an experiment ended as it did."""

    sentence: str
    numbers: str
    document: dict[str, Any]


def explain(row: Row) -> Explanation:
    """The verdict as a sentence, the numbers behind it, and the evidence by sweep."""
    done = row.confirmation
    if done is None or done.evidence is None or done.verdict is None:
        sentence = "It is still under way. The holdout was not consulted."
        if (ended := row.result) is not None:
            head = f"{render.HEADS[ended.action]} ({ended.reason})"
            sentence = f"{head}: {ended.detail} The holdout was not consulted."
        if done is not None:
            sentence = "The holdout was consulted, and the run did not end yet."
        numbers = _train_numbers(row)
        return Explanation(sentence, numbers, document(row) | {"sentence": sentence})
    evidence, verdict = done.evidence, done.verdict
    held = tally(evidence.confirm, evidence.holdout_fixtures)
    rule = "improves" if verdict.false_merge_rate is not None else "evidence"
    sentence = render.sentence(
        verdict,
        holdout=held if held.pairs else None,
        fixtures=len(evidence.holdout_fixtures),
        rule=rule,
        deterministic=evidence.deterministic,
    )
    lines = [_train_numbers(row), *_holdout_numbers(evidence, verdict, held)]
    if rule == "evidence" and not evidence.deterministic and verdict.log_bar is not None:
        lines += ["", render.chart(verdict.path, log_bar=verdict.log_bar)]
    more = {"sentence": sentence, "holdout": held.model_dump(mode="json")}
    return Explanation(sentence, "\n".join(lines), document(row) | more)


def _train_numbers(row: Row) -> str:
    return f"screen on train    {_counted(row.result.train) if row.result else '-'}"


def _holdout_numbers(evidence: Evidence, verdict: Verdict, held: Tally) -> list[str]:
    means = stats.cluster_means(evidence.confirm)
    lines = [f"confirm on holdout {_counted(held)}, {held.ties} ties, {held.sweeps} sweeps"]
    if verdict.log_e is None or verdict.log_bar is None:
        return lines
    if evidence.deterministic:
        gain, bar = 100 * verdict.log_e, 100 * verdict.log_bar
        lines.append(f"mean gain          {gain:+.1f} points, bar {bar:.1f} (one standard error)")
    elif verdict.false_merge_rate is not None:
        lines.append(f"false-merge rate   {verdict.false_merge_rate:.0%} of edits without effect")
    else:
        lines.append(
            f"evidence E         {render.odds(verdict.log_e)}, bar {render.odds(verdict.log_bar)}"
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
    now = reign.reign(ledger.confirmations(), parent=space.text.digest, policy=policy)
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
