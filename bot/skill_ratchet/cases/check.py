"""``ratchet check``: is everything an experiment reads in order, before anything is spent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Final

from skill_ratchet.base import actions, sandbox
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.base.redact import find_key
from skill_ratchet.cases import drift
from skill_ratchet.core import evidence as stats
from skill_ratchet.core import golden, leaks, wording
from skill_ratchet.core.records import canonical_json
from skill_ratchet.core.scoring import Label, ScorerError, objection, score_pure
from skill_ratchet.ledger import Ref, access
from skill_ratchet.project import (
    branches,
    config,
    fixtures,
    programs,
    repository,
    sealing,
    workflows,
    workspace,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skill_ratchet.core.records import Fixture
    from skill_ratchet.core.scoring import Spec
    from skill_ratchet.project.repository import Project
    from skill_ratchet.project.workspace import Workspace

MOST = 20  # problems listed
NAMED = 5  # train cases
WORKFLOW = f"{workflows.FOLDER}/{workflows.NAMES[0]}"
WATCH = f"{workflows.FOLDER}/ratchet-watch.yml"
SMALL = 20  # held-out cases below which small gains cannot be shown


@dataclass(frozen=True, slots=True)
class Finding:
    """One skill that is in order, and what could be better about it."""

    skill: str
    path: str
    chars: int
    train: int
    holdout: int
    scorer: str
    provider: str
    model: str
    advice: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what is as it should be, and good to know
    sealed: str = ""  # whether held-out cases are hidden from the provider's program, if it is one


def check(project: Project, *, skill: str | None) -> list[Finding]:
    """Check one skill or all of them, as they are on disk.

    Raises:
        RatchetError: Everything that is wrong, in one message.
    """
    settings = config.load_config(repository.WorkTree(project))
    names = [config.choose_skill(settings, skill)] if skill else sorted(settings.skills)
    findings: list[Finding] = []
    problems: list[str] = []
    for folder in sorted({settings.skill(name).fixtures for name in names}):
        problems += _keys(repository.WorkTree(project), folder)
    problems += [*_left_in(project, settings), *_unwatched(project, settings)]
    for name in names:
        try:
            space = workspace.open_anywhere(
                project, skill=name, ref=None, override={}, require=workspace.BOTH
            )
            require_sound(space)
            findings.append(_finding(space))
        except RatchetError as error:
            problems.append(error.message)
    if problems:
        raise RatchetError("\n".join(problems), hint="docs/config.md, docs/fixtures.md")
    if sealing.state(settings) == "hidden":
        _prove(repository.WorkTree(project), settings)
    return findings


def _keys(tree: repository.Tree, folder: str) -> list[str]:
    """Where a key stands in a file of fixtures; the key itself is not repeated."""
    found = []
    for path in tree.files(folder):
        if tree.size(path) <= fixtures.MAX_FILE:  # a larger one is refused anyway
            lines = tree.read(path).decode("utf-8", "replace").split("\n")
            kinds = ((number, find_key(line)) for number, line in enumerate(lines, start=1))
            found += [
                f"{path}:{number}: looks like a secret ({kind}); take it out, and make it invalid"
                for number, kind in kinds
                if kind
            ]
    return wording.first(found, MOST, "and {} more secrets")


def _workflow(project: Project) -> str:
    """The workflow that proposes, as it is on disk; empty where there is none."""
    file = project.toplevel / WORKFLOW
    return file.read_text("utf-8", "replace") if file.is_file() else ""


def _rewrite(project: Project) -> str:
    """The command that writes the workflows for the config as it is now."""
    action = workflows.action_of(_workflow(project))
    return "ratchet init --github --force" + (f" --action {action}" if action else "")


def _left_in(project: Project, settings: config.Config) -> list[str]:
    """What the workflow that is there does not keep from the job that proposes."""
    return [
        f"{WORKFLOW} does not know of {folder}: the job that proposes would have its held-out "
        f"cases on the disk. Run '{_rewrite(project)}', and commit what it writes"
        for folder in workflows.left_in(_workflow(project), settings, prefix=project.prefix)
    ]


def _unwatched(project: Project, settings: config.Config) -> list[str]:
    """That nothing would stop a merge which is left to GitHub, if that is so."""
    watch = project.toplevel / WATCH
    if not settings.github.auto_merge or not _workflow(project) or watch.is_file():
        return []
    missed = "with github.auto_merge nothing would hear a hold after a merge was left to GitHub"
    return [f"{WATCH} is missing: {missed}. Run '{_rewrite(project)}', and commit what it writes"]


def require_blind(space: Workspace) -> None:
    """Raise RatchetError for a job of a workflow that proposes and has held-out cases on its disk.

    In a clone of a person's they lie beside, and are not opened.
    """
    if not space.blind or not actions.is_step():
        return
    for folder in space.sealed:
        if any(one.is_file() for one in (space.project.root / folder).rglob("*")):
            raise RatchetError(
                f"The held-out cases in {folder} are on the disk of the job that proposes.",
                hint=f"{WORKFLOW} was written before they were there: run "
                f"'{_rewrite(space.project)}', and commit what it writes.",
            )


_NOT_QUOTED: Final = (
    "'expected' does not fit the scorer (held out, so not quoted here: 'ratchet check' in a clone "
    "says why)"
)


def require_sound(space: Workspace) -> None:
    """Raise RatchetError for a workspace in which no experiment could ever succeed."""
    faulty = {
        fixture.id: problem
        for fixture in (*space.train, *space.holdout)
        if (problem := unscorable(space, fixture))
    }
    problems = _told(space, faulty) if faulty else []
    problems += _unreachable(space)
    if len(space.text.text) > space.skill.max_chars:
        problems.append(
            f"{space.skill.path} has {len(space.text.text):,} characters; "
            f"skills.{space.name}.max_chars allows {space.skill.max_chars:,}"
        )
    if problems:
        raise RatchetError("\n".join(wording.first(problems, MOST, "and {} more")))


def _told(space: Workspace, faulty: Mapping[str, str]) -> list[str]:
    """What is wrong with cases.

    What is quoted of a held-out one stays out of a workflow's log, and its line begins with the
    file, so that pages leave it out.
    """
    sealed = {one.id for one in space.holdout} & faulty.keys()
    places = workspace.locate_fixtures(space) if sealed else {}
    told = []
    for name, problem in faulty.items():
        said = f"fixture {name}: {problem.removeprefix(f'fixture {name}: ')}"
        if name in sealed:
            quoted = not actions.in_workflow()
            said = f"{places[name].path}:{places[name].line}: {said if quoted else _NOT_QUOTED}"
        told.append(said)
    return told


def unscorable(space: Workspace, fixture: Fixture) -> str | None:
    """Why no answer to a case could be scored well: shown by scoring what it expects itself."""
    try:
        spec = workspace.fixture_spec(space, fixture)
    except RatchetError as error:
        return error.message
    if problem := objection(spec, fixture):
        return problem
    answer = _expected_answer(spec, fixture)
    if answer is None:
        return None
    try:
        score = score_pure(spec, answer, fixture)
    except ScorerError as error:
        return str(error)
    if score.value < 1:
        return f"its own expected answer scores {score.value:g}: {score.reason}"
    return None


def _expected_answer(spec: Spec, fixture: Fixture) -> str | None:
    """The answer that ``expected`` stands for; None where it stands for a rule, not an answer."""
    expected = fixture.expected
    if spec.type == "json" and not isinstance(expected, str):
        return canonical_json(expected)
    if spec.type == "contains" and isinstance(expected, list):
        return "\n".join(str(text) for text in expected)
    if spec.type not in ("exact", "label", "contains", "json", "edit_similarity"):
        return None
    texts = expected if isinstance(expected, list) else [expected]
    return texts[0] if texts and isinstance(texts[0], str) else None


def _unreachable(space: Workspace) -> list[str]:
    """Configs in which the gate's bar cannot be reached, with the number that would do."""
    if space.blind:  # it is found out where the held-out cases are
        return []
    policy, clusters = space.policy, _clusters(space.holdout)
    problems = []
    if policy.rule == "evidence" and _clusters(space.train) < stats.FEWEST_CLUSTERS:
        problems.append(
            f"{space.name}: {_clusters(space.train)} independent train case; the screen needs at "
            f"least {stats.FEWEST_CLUSTERS}"
        )
    if policy.rule == "evidence" and clusters < stats.FEWEST_CLUSTERS:
        problems.append(
            f"{space.name}: {clusters} independent held-out case; the gate needs at least "
            f"{stats.FEWEST_CLUSTERS}"
        )
    if policy.rule == "evidence" and space.holdout:
        attempts = space.config.loop.attempts
        least = stats.smallest_effort(
            fixtures=len(space.holdout), attempt=attempts, alpha=policy.alpha, k=policy.k
        )
        if policy.confirm_effort < least:
            problems.append(
                f"gate.confirm_effort {policy.confirm_effort:g}: attempt {attempts} could never "
                f"reach its bar; {least:g} is the least that can"
            )
    return problems


def _clusters(fixtures: tuple[Fixture, ...]) -> int:
    return len({fixture.cluster or fixture.id for fixture in fixtures})


def require_sealed(project: Project) -> str:
    """What is known of whether programs find the held-out cases, with one that has looked.

    Also of scorers' programs, which nothing is refused for elsewhere.

    Raises:
        RatchetError: They may, and nobody vouches for them.
    """
    tree = repository.WorkTree(project)
    settings = config.load_config(tree)
    if not programs.has_any(settings):
        return "No program answers or scores."
    if settings.sealed == "trust":
        return f"{sealing.TRUSTED}."
    if not sandbox.can_enclose():
        raise RatchetError(f"{sealing.OPEN[0].upper()}{sealing.OPEN[1:]}.", hint=sealing.HOW)
    _prove(tree, settings)
    return "Programs find no held-out case: one has looked, as this user and by sudo."


def _prove(tree: repository.WorkTree, settings: config.Config) -> None:
    with programs.exported(tree.project, tree, settings) as place:
        asyncio.run(sealing.prove(tree.project, settings, place))


def _finding(space: Workspace) -> Finding:
    advice = []
    sealed = sealing.state(space.config)
    if len(space.holdout) < SMALL:
        advice.append(
            f"with {len(space.holdout)} held-out cases only large gains can be shown, and they may "
            f"not carry over; {SMALL} or more are better"
        )
    specs = (space.scorer, *space.scorers.values())
    if any(spec.type in workspace.PROGRAMS for spec in specs) and not sandbox.can_enclose():
        advice.append(
            "this system cannot keep a scorer's program off the network, or from the repository"
        )
    if note := sealing.note(space.config):
        advice.append(f"{note}. {sealing.HOW}" if sealed == "open" else note)
    if space.scorer.type == "rubric":
        advice.append("an LLM judge is noisy and can be gamed; see docs/scorers.md")
    if hooks := branches.idle_hooks(space.project):
        advice.append(f"a commit of Ratchet's does not run your hooks: {', '.join(hooks)}")
    advice += filter(None, (_astray(space), _quoting(space)))
    advice += drift.advice(_facts(space))
    return Finding(
        skill=space.name,
        path=space.skill.path,
        chars=len(space.text.text),
        train=len(space.train),
        holdout=len(space.holdout),
        scorer=space.scorer.type,
        provider=space.provider.type,
        model=space.how.model,
        advice=tuple(advice),
        notes=tuple(filter(None, [_hidden(space)])),
        sealed=sealed or "",
    )


def _astray(space: Workspace) -> str:
    """Which train cases give held-out ones away; empty if none does. No held-out case is named."""
    rules = space.config.feedback.rules
    found = golden.astray(space.train, (*space.holdout, *space.vault), rules=rules)
    if not found:
        return ""
    named = ", ".join(one.id for one in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return (
        "train cases are nearly the same as held-out ones, or one has the other in it, so the "
        f"proposer sees what it is judged on; move them: {named}{more}"
    )


def _quoting(space: Workspace) -> str:
    """Whether the skill gives held-out cases away; empty if not. No held-out case is quoted."""
    sealed = (*space.holdout, *space.vault)
    if not leaks.watch(train=space.train, holdout=sealed).found(space.text.text):
        return ""
    return (
        "the skill repeats text of held-out cases, so it has seen what it is tested on; make train "
        "cases of them, or take that text out of the skill"
    )


def _hidden(space: Workspace) -> str:
    """What on record the proposer is not shown, as it is of no train case; empty if nothing."""
    if access.ledger_tip(space.project, Ref.LEDGER) is None:
        return ""
    ledger = access.open_ledger(space.project, space.name, redact=space.config.redact)
    found = ledger.hidden_runs(space.train)
    if not found:
        return ""
    named = ", ".join(wording.first(sorted(found), NAMED, "and {} more"))
    runs, cases = sum(found.values()), len(found)
    what = "that is not a train case" if cases == 1 else "that are not train cases"
    return (
        f"the proposer is not shown {wording.many(runs, 'earlier run')} of "
        f"{wording.many(cases, 'case')} {what} now: {named}"
    )


def _facts(space: Workspace) -> drift.DriftFacts:
    """What is on record of the skill as it is on disk; nothing where there is no ledger yet."""
    labels = isinstance(space.scorer, Label)
    facts = drift.DriftFacts(space.train, space.holdout, labels)
    if access.ledger_tip(space.project, Ref.LEDGER) is None:
        return facts
    ledger = access.open_ledger(space.project, space.name, redact=space.config.redact)
    kept: dict[str, list[float]] = {}
    for run in ledger.kept_runs(space.text.digest, space.how.digest).values():
        if run.key is not None and run.score is not None:
            kept.setdefault(run.key.fixture, []).append(run.score.value)
    looks = drift.held_out_scores(ledger.confirmations(), version=space.text.digest)
    scores = {
        ("train", one.id): fmean(kept[one.digest]) for one in space.train if one.digest in kept
    }
    scores |= {("holdout", name): score for name, score in looks.items()}
    return replace(facts, scores=scores, corrections=tuple(ledger.corrections()))


def describe(finding: Finding) -> list[str]:
    """A finding in words."""
    one = finding
    cases = f"{one.train} train and {one.holdout} held-out cases"
    how = f"scorer {one.scorer}, {one.provider} ({one.model})"
    head = f"{one.skill}: {one.path} ({one.chars:,} characters), {cases}, {how}"
    proved = "  the held-out cases are hidden from the provider's program: one has looked for them"
    return [
        head,
        *([proved] if one.sealed == "hidden" else []),
        *(f"  advice: {advice}" for advice in one.advice),
        *(f"  note: {note}" for note in one.notes),
    ]
