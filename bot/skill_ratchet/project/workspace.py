"""Everything one skill's experiments depend on, read once from one commit (or the work tree)."""

from __future__ import annotations

import difflib
import json
import posixpath
import re
import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from skill_ratchet import __version__
from skill_ratchet.base import documents
from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import gate, scoring, wording
from skill_ratchet.core.evidence import VERSION
from skill_ratchet.core.records import Binding, How, Setting, Text, digest, skill_digest, split_of
from skill_ratchet.project import branches, config, fixtures, programs, repository, skill_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from skill_ratchet.core.records import Fixture, Split
    from skill_ratchet.core.scoring import Spec
    from skill_ratchet.project.config import AnyProvider, CallConfig, Config, SkillConfig
    from skill_ratchet.project.repository import Project, Tree

INSTRUCTIONS = "skills/improve-skill/SKILL.md"
BOTH: tuple[Split, ...] = ("train", "holdout")
TRAIN: tuple[Split, ...] = ("train",)
PROGRAMS = ("command", "metric")  # scorers that run code
PERSON = "person"  # in the place of a proposer: a person's edit, which only a person merges


@dataclass(frozen=True, slots=True)
class Workspace:
    """One skill with its fixtures and settings.

    ``base`` is the commit it was read from, empty when it was read from the work tree. ``blind``
    says that no held-out file was opened, whether there is one or not: ``holdout`` is empty then.
    """

    project: Project
    tree: Tree
    config: Config
    name: str
    skill: SkillConfig
    text: Text
    train: tuple[Fixture, ...]
    holdout: tuple[Fixture, ...]
    vault: tuple[Fixture, ...]
    scorer: Spec
    scorers: Mapping[str, Spec]
    how: How
    base: str
    branch: str
    blind: bool = False

    @property
    def sealed(self) -> tuple[str, ...]:
        """Folders that a process which is blind must not open, those of other skills too."""
        folders = {one.fixtures for one in self.config.skills.values()}
        return tuple(sorted(f"{one}/{split}" for one in folders for split in ("holdout", "vault")))

    @property
    def provider(self) -> AnyProvider:
        """Where the task's answers come from."""
        return self.config.provider

    @property
    def policy(self) -> gate.Policy:
        """The gate's settings."""
        wanted = self.config.gate
        return gate.Policy(
            rule=wanted.rule,
            merge=wanted.merge.mode,
            after=wanted.merge.seconds,
            alpha=wanted.alpha,
            k=wanted.k,
            confirm_effort=wanted.confirm_effort,
            patience=wanted.patience,
            floor=wanted.floor,
        )

    def fixtures(self, split: Split) -> tuple[Fixture, ...]:
        """The fixtures of one split."""
        return self.train if split == "train" else self.holdout

    def setting(self, *, by_person: bool = False) -> Setting:
        """What an experiment's numbers depend on besides the two texts, and who made the edit."""
        proposer = PERSON if by_person else self.config.meta.proposer
        with_model = proposer == "meta"
        return Setting(
            provider=self.provider.type,
            model=self.how.model,
            model_digest=self.how.digest,
            meta_model=self.config.meta_model if with_model else None,
            proposer=proposer,
            scorer_digest=_scorer_digest(self.tree, self.config, self.scorer, self.scorers),
            config_digest=self.config.digest,
            train_digest=fixtures.fixtures_digest(self.train),
            holdout_digest=fixtures.fixtures_digest(self.holdout) if self.holdout else None,
            rules=self._rules(),
            evaluator=__version__,
            gate=VERSION,
            base=self.base,
            branch=self.branch,
            seed=self.config.loop.seed,
        )

    def binding(self, *, head: str) -> Binding:
        """What a verdict on the candidate ``head`` is bound to."""
        return Binding(
            base=self.base,
            head=head,
            skill=self.text.digest,
            fixtures=fixtures.fixtures_digest((*self.train, *self.holdout)),
            config=self.config.digest,
            model=self.how.digest,
            evaluator=__version__,
        )

    def _rules(self) -> str:
        """Names what decides about a candidate; how a merge waits for people is left out."""
        gates = self.config.gate.model_dump(mode="json", exclude={"merge"})
        return digest("rules", VERSION, gates, self.skill.max_chars, sorted(self.skill.freeze))


def text_of(content: str) -> Text:
    """A version of the skill, named by its content."""
    return Text(content, skill_digest(content))


def open_at_base(
    project: Project,
    *,
    skill: str | None,
    override: Mapping[str, object],
    branch: str | None = None,
    blind: bool = False,
) -> Workspace:
    """The workspace as it is committed on the base branch.

    An experiment reads everything from one commit, so that its result belongs to something that
    can be named. Uncommitted changes to what it reads are refused instead of being ignored.

    Args:
        project: The repository.
        skill: Which skill; None for the only one.
        override: Settings given on the command line: ``provider``, ``proposer``.
        branch: The base branch; None for the config's, or else the one that is checked out.
        blind: Open no held-out file; there need not be any.
    """
    checked_out = repository.require_branch(project)
    if branch is None:
        branch = config.load_config(repository.CommitTree(project, "HEAD")).base or checked_out
    tree = repository.CommitTree(project, f"refs/heads/{branch}")
    settings = overridden(config.load_config(tree), override)
    name = config.choose_skill(settings, skill)
    if branch == checked_out:
        paths = [
            *_read_paths(settings, name, blind=blind),
            *_harness(tree, settings),
        ]
        refuse_uncommitted(project, paths, skill=name, branch=branch)
    return read(project, tree, settings, name, base=tree.commit, branch=branch, blind=blind)


def _read_paths(settings: Config, name: str, *, blind: bool) -> list[str]:
    """Files and folders of the base commit that an experiment reads."""
    chosen = settings.skill(name)
    named = [
        settings.meta.instructions,
        *(getattr(one, "file", None) for one in (settings.provider, settings.meta.provider)),
    ]
    cases = f"{chosen.fixtures}/train" if blind else chosen.fixtures
    own = [repository.CONFIG_FILE, chosen.path, cases]
    return own + [path for path in named if path is not None]


def open_anywhere(
    project: repository.Project,
    *,
    skill: str | None,
    ref: str | None,
    override: Mapping[str, object],
    require: Sequence[Split],
) -> Workspace:
    """The workspace of the work tree, or of a commit."""
    tree: repository.Tree
    if ref is None:
        tree, base = repository.WorkTree(project), ""
    else:
        tree = repository.CommitTree(project, ref)
        base = tree.commit
    settings = overridden(config.load_config(tree), override)
    name = config.choose_skill(settings, skill)
    return read(project, tree, settings, name, base=base, branch="", require=require)


def refuse_uncommitted(project: Project, paths: list[str], *, skill: str, branch: str) -> None:
    """Raise RatchetError when anything an experiment reads is not committed.

    A file that holds what the skill's open proposal makes of it is no edit of a person's: that is
    what a merge leaves that was killed half-way, and the next one finishes it.
    """
    changed = [
        path
        for path in repository.dirty(project, paths)
        if not branches.half_merged(project, skill=skill, branch=branch, path=path)
    ]
    if changed and (lock := project.git_dir / "index.lock").exists():
        raise RatchetError(
            f"Another git is at work, or one was killed: {lock} exists, and these are changed: "
            f"{', '.join(changed[:10])}",
            hint=f"If no git is running, delete it ('rm {lock}'), then look at 'git status'.",
        )
    if changed:
        shown = "\n  ".join(wording.first(changed, 10, "and {} more"))
        raise RatchetError(
            f"Uncommitted changes in what the experiment reads:\n  {shown}",
            hint="Commit them first (git add, git commit), or put them away (git stash).",
        )


def read(
    project: Project,
    tree: Tree,
    settings: Config,
    name: str,
    *,
    base: str,
    branch: str,
    require: Collection[Split] = BOTH,
    blind: bool = False,
) -> Workspace:
    """Read one skill's file and fixtures from a tree, and check that they fit together."""
    chosen = settings.skill(name)
    text = skill_file.decode(tree.read(chosen.path), path=chosen.path)
    if problems := skill_file.check(text, path=chosen.path):
        raise RatchetError("\n".join(problems), hint="See docs/skills.md for the format.")
    cases = read_fixtures(tree, chosen.fixtures, require=TRAIN if blind else require, blind=blind)
    where = f"ratchet.yml: skills.{name}"
    train = split_of(cases, "train")
    spec = scoring.parse_spec(chosen.scorer, where=f"{where}.scorer")
    scorer = _of_train(spec, train, where=f"{chosen.fixtures}/train")
    scorers = {
        label: scoring.parse_spec(spec, where=f"{where}.scorers.{label}")
        for label, spec in chosen.scorers.items()
    }
    call = settings.call(name)
    return Workspace(
        project=project,
        tree=tree,
        config=settings,
        name=name,
        skill=chosen,
        text=text_of(text),
        train=train,
        holdout=split_of(cases, "holdout"),
        vault=split_of(cases, "vault"),
        scorer=scorer,
        scorers=scorers,
        how=_how(tree, settings, name, call, _scorer_digest(tree, settings, scorer, scorers)),
        base=base,
        branch=branch,
        blind=blind,
    )


def fixture_spec(space: Workspace, fixture: Fixture) -> Spec:
    """The scorer of one fixture: its own, one of the skill's by name, or the skill's.

    Where nobody has listed the labels, that which a case expects is one of them for it: the first
    case of a new label may be a held-out one.
    """
    if (own := fixture.scorer) is not None:
        named = space.scorers.get(str(own["type"]))
        return named or _own_spec(own, fixture)
    spec, given = space.scorer, fixture.expected
    if not isinstance(spec, scoring.Label) or spec.labels is None or "labels" in space.skill.scorer:
        return spec
    more = given if isinstance(given, list) else [given]
    return _with_labels(spec, more, where=f"fixture {fixture.id}")


def _own_spec(given: Mapping[str, JsonValue], fixture: Fixture) -> Spec:
    """The scorer that a case brings itself; a fault of a held-out one quotes nothing of it."""
    where = f"fixture {fixture.id}: scorer"
    try:
        return scoring.parse_spec(given, where=where)
    except RatchetError:
        if fixture.split == "train":
            raise
    raise RatchetError(f"{where}: not valid (the case is held out, so it is not quoted here)")


def _of_train(scorer: Spec, train: Sequence[Fixture], *, where: str) -> Spec:
    """The scorer ``label`` without a list takes the labels that the train cases expect."""
    if not isinstance(scorer, scoring.Label) or scorer.labels is not None:
        return scorer
    expected = {one.expected for one in train if isinstance(one.expected, str)}
    return _with_labels(scorer, sorted(expected), where=where) if len(expected) > 1 else scorer


def _with_labels(scorer: scoring.Label, more: Iterable[JsonValue], *, where: str) -> scoring.Label:
    """The scorer with those texts among its labels, behind the ones it has.

    Raises:
        RatchetError: Two of them cannot be told apart, or one is none.
    """
    known = scorer.labels or ()
    new = [one for one in more if isinstance(one, str) and one not in known]
    try:
        return scorer.with_(labels=(*known, *dict.fromkeys(new))) if new else scorer
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise RatchetError(
            f"{where}: the labels that cases expect: {why.removeprefix('Value error, ')}",
            hint="Spell each label one way in every case, or list them: `scorer: {type: label, "
            "labels: [...]}`.",
        ) from error


def read_fixtures(
    tree: Tree, folder: str, *, require: Collection[Split], blind: bool = False
) -> tuple[Fixture, ...]:
    """All fixtures below a folder; errors name every faulty file and line.

    The vault stays closed unless it is asked for, and the holdout too when ``blind``.
    """
    sealed = () if "vault" in require else (f"{folder}/vault/",)
    if blind:
        sealed = (*sealed, f"{folder}/holdout/")
    files = [source(tree, path) for path in tree.files(folder) if not path.startswith(sealed)]
    return fixtures.parse(files, root=folder, require=require)


def locate_fixtures(space: Workspace) -> dict[str, fixtures.Located]:
    """Where the train and held-out cases of a workspace stand, by id."""
    folder = space.skill.fixtures
    files = [source(space.tree, path) for path in space.tree.files(folder)]
    shown = [one for one in files if not one.path.startswith(f"{folder}/vault/")]
    return {one.fixture.id: one for one in fixtures.locate(shown, root=folder)}


def source(tree: Tree, path: str) -> fixtures.SourceFile:
    """A file of a tree that may hold fixtures."""
    return fixtures.SourceFile(path, tree.size(path), partial(tree.read, path))


def overridden(settings: Config, override: Mapping[str, object]) -> Config:
    """The config with the settings that were given on the command line."""
    changed = settings
    if provider := override.get("provider"):
        chosen = settings.provider
        if provider != chosen.type:
            names = ", ".join(config.PROVIDERS)
            if provider not in config.PROVIDERS:
                close = difflib.get_close_matches(str(provider), config.PROVIDERS, n=1)
                also = f" Did you mean '{close[0]}'?" if close else ""
                raise RatchetError(f"There is no provider '{provider}'.{also}", hint=names)
            if provider == "command":
                raise RatchetError(
                    "The provider 'command' needs a command line.",
                    hint="Set provider: {type: command, command: ...} in ratchet.yml.",
                )
            changed = changed.with_(provider=config.PROVIDERS[str(provider)](), model=None)
    if proposer := override.get("proposer"):
        changed = changed.with_(meta=changed.meta.with_(proposer=proposer))
    return changed


def with_model(space: Workspace, *, provider: AnyProvider, model: str) -> Workspace:
    """The same skill and cases, asked of another model; with no meta-agent."""
    skill = space.skill.with_(model=model)
    settings = space.config.with_(
        provider=provider,
        model=model,
        # What programs see does not depend on who is asked, so neither does its digest.
        meta=config.MetaConfig(proposer="examples", instructions=space.config.meta.instructions),
        skills=space.config.skills | {space.name: skill},
    )
    scorer = _scorer_digest(space.tree, settings, space.scorer, space.scorers)
    how = _how(space.tree, settings, space.name, settings.call(space.name), scorer)
    return replace(space, config=settings, skill=skill, how=how)


def repeats(space: Workspace) -> bool:
    """Whether the same request always gets the same answer, as the settings say.

    What the provider says of itself, for a process that has no key and builds none.
    """
    provider = space.provider
    if isinstance(provider, config.ScriptedConfig):
        script = documents.compose(documents.decode(space.tree.read(provider.file)))
        said = documents.value(script) if script is not None else {}
        return bool(said.get("deterministic", True)) if isinstance(said, dict) else True
    return isinstance(provider, config.LocalConfig) or getattr(provider, "deterministic", False)


def instructions(workspace: Workspace) -> str:
    """The meta-agent's own skill: from the base commit if the config names one, else packaged."""
    path = workspace.config.meta.instructions
    if path is not None:
        return skill_file.decode(workspace.tree.read(path), path=path)
    root = Path(__file__).parents[1]
    # In an installed wheel skills/ lies inside the package, in a checkout beside it.
    homes = (root / INSTRUCTIONS, root.parents[1] / INSTRUCTIONS)
    found = next(home for home in homes if home.is_file())
    return found.read_text(encoding="utf-8")


def held(project: Project) -> bool:
    """Whether a person put the stop file into the checkout, where it counts for the project."""
    return repository.WorkTree(project).is_stopped()


def _harness(tree: Tree, settings: Config) -> list[str]:
    """Files of the tree that the command providers name; what is committed of them is run."""
    providers = (settings.provider, settings.meta_provider)
    commands = [{"command": getattr(one, "command", ())} for one in providers]
    return sorted(path for path in set(named_files(commands)) if tree.has(path))


def _how(tree: Tree, settings: Config, name: str, call: CallConfig, scorer: str) -> How:
    provider = settings.provider.model_dump(
        mode="json", exclude={"concurrency", "batch", "batch_wait"}
    )
    if script := provider.get("file"):
        provider["script"] = digest("script", tree.read(str(script)).decode("utf-8", "replace"))
    if settings.provider.type == "command":
        provider["tree"] = programs.tree_digest(tree, settings)
    parameters = call.model_dump(mode="json")
    return How(
        skill_name=name,
        path=settings.skill(name).path,
        model=call.model,
        max_tokens=call.max_tokens,
        options=dict(call.options),
        digest=digest("how", provider, parameters, scorer),
    )


def _scorer_digest(tree: Tree, settings: Config, scorer: Spec, scorers: Mapping[str, Spec]) -> str:
    """Names how answers are scored: the options, and all that programs that score can read."""
    specs = [scorer.model_dump(mode="json")]
    specs += [{"name": name} | spec.model_dump(mode="json") for name, spec in scorers.items()]
    runs = any(spec.get("command") for spec in specs)
    read = {"tree": programs.tree_digest(tree, settings)} if runs else {}
    return digest("scorers", json.loads(json.dumps(specs)), read)


_FILES: Final = frozenset({"command", "file", "fixtures", "instructions"})  # keys that name files


_APART: Final = re.compile(r"[\s;&|()<>'\"=,:]+")  # what may stand between names in a word


_ROOT: Final = re.compile(r"^\$(RATCHET_ROOT|\{RATCHET_ROOT\})/")  # the project, in a command


def named_files(value: object) -> Iterator[str]:
    """Every path that settings name, as far as it can be told: programs, scripts, fixtures.

    Args:
        value: A part of the config as JSON.
    """
    if isinstance(value, dict):
        for key, part in value.items():
            names = key in _FILES and not isinstance(part, dict)
            yield from _words(part) if names else named_files(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from named_files(part)


def _words(value: object) -> Iterator[str]:
    """The paths in a command or a path; a word of a shell's command line may hold several."""
    words = value if isinstance(value, list | tuple) else [value]
    for word in filter(None, words):
        for part in (str(word), *_split(str(word))):
            path = posixpath.normpath(_ROOT.sub("", part))
            if path != "." and not path.startswith(("/", "..")):
                yield path


def _split(word: str) -> list[str]:
    try:
        parts = shlex.split(word)
    except ValueError:  # an open quotation
        parts = []
    return [piece for part in (word, *parts) for piece in _APART.split(part) if piece]
