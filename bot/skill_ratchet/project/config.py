"""``ratchet.yml`` as a frozen ``Config``: every problem of a file at once, each with its line.

The models below are the only list of keys and defaults; docs/config.md and
docs/ratchet.schema.json (``python -m skill_ratchet.project.config``) are tested against them.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import shlex
import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.golden import Caps, Rules
from skill_ratchet.core.records import Record, UnitInterval, digest
from skill_ratchet.project import repository, skill_file

if TYPE_CHECKING:
    from skill_ratchet.project.repository import Tree


CONFIG_PATH = "ratchet.yml"
MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_DIGITS = 30
MAX_ECHO = 40
EXAMPLE = "skills:\n  triage:\n    scorer: label\n"

ScorerType = Literal[
    "exact",
    "label",
    "contains",
    "regex",
    "json",
    "edit_similarity",
    "command",
    "metric",
    "rubric",
]
SCORER_TYPES: tuple[str, ...] = get_args(ScorerType)

# What an unset `model` means for each provider.
DEFAULT_MODELS = {
    "anthropic": "claude-haiku-5-5",
    "local": "smollm2-135m-instruct",
    "scripted": "scripted",
    "command": "command",
}

# `ratchet/<skill>` is the branch of a proposal; these are the ledger's, and that of new fixtures.
RESERVED_NAMES = ("ledger", "holdout", "fixtures")

_NAME = r"^[a-z0-9]+([-_][a-z0-9]+)*$"
_BRANCH = r"^[A-Za-z0-9_][^\s~^:?*\[\\]*$"
_URL = r"^https?://[^\s/@]+(/[^\s@]*)?$"
_WORD = r"^\S+$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_REPO_PATH = r"^(?!/)(?!(.*/)?\.\.(/|$))[^\\]+$"
_DURATION = r"[1-9][0-9]{0,5}\s*[smhdw]"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_OUTSIDE = "expected a path inside the repository, relative to its root, with '/'"

# What a value that does not match its pattern should have been. Such a value is never echoed:
# a URL may hold a password, and `redact` may hold the secret itself.
_SHAPES = {
    _NAME: "a name is lowercase letters and digits, joined by single '-' or '_'",
    _BRANCH: "expected the name of a branch",
    _URL: "expected an http:// or https:// address with no user name or password in it",
    _WORD: "expected one word without spaces",
    _VARIABLE: "expected the name of an environment variable, not its value",
}


def _wrong(what: str, *at: str) -> PydanticCustomError:
    """A problem in plain words, at the keys ``at`` below the value being validated."""
    return PydanticCustomError("ratchet", "{what}", {"what": what, "at": at})


# ---------------------------------------------------------------- the types of values


def _repo_path(value: str) -> str:
    """A normalised relative POSIX path that git's and GitHub's own machinery is not under."""
    path = PurePosixPath(value)
    parts = [part.casefold() for part in path.parts]
    if not parts or path.is_absolute() or ".." in parts or "\\" in value:
        raise _wrong(_OUTSIDE)
    if not value.isprintable():
        raise _wrong("a path may not contain invisible characters")
    if any(re.match(r"\.git(?!hub$)|git~", part) for part in parts):
        raise _wrong("git's own files cannot be used")
    if parts[:2] in ([".github", "workflows"], [".github", "actions"]):
        raise _wrong("workflows and actions cannot be used")
    return str(path)


def _argv(value: Any) -> Any:
    """A command written as one string, split the way a POSIX shell splits words."""
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise _wrong(f"cannot be split into words: {str(error).lower()}") from error
    if words in ([], [""]):
        raise _wrong("is empty")
    return words


def _typed(value: Any) -> Any:
    """``name`` as short for ``{type: name}``."""
    return {"type": value} if isinstance(value, str) else value


def _scorer(value: Any) -> Any:
    """A scorer's mapping, its type known; the options are the scorer's own business."""
    scorer = _typed(value)
    if not isinstance(scorer, dict):
        raise _wrong(f"expected the name of a scorer or a mapping, found {_found(value)}")
    at = () if isinstance(value, str) else ("type",)
    if "type" not in scorer:
        raise _wrong(f"is missing; one of {_listed(SCORER_TYPES)}", *at)
    if scorer["type"] not in SCORER_TYPES:
        raise _wrong(_not_one_of(SCORER_TYPES, scorer["type"]), *at)
    return scorer


Kind = Literal["csv", "jsonl", "fixtures", "otel", "messages", "promptfoo", "evals"]
Column = Literal["input", "expected", "output", "context", "correction", "cluster", "tags", "id"]


class ScorerMapping(Record):
    """A scorer's type, and its options beside it."""

    model_config = ConfigDict(extra="allow")

    type: ScorerType


RepoPath = Annotated[
    str, AfterValidator(_repo_path), Field(json_schema_extra={"pattern": _REPO_PATH})
]
SkillName = Annotated[str, Field(pattern=_NAME, max_length=64)]
Word = Annotated[str, Field(pattern=_WORD)]
_Text = Annotated[str, Field(min_length=1)]
_Words = Annotated[list[str], Field(min_length=1)]
Argv = Annotated[
    tuple[str, ...],
    Field(strict=False),
    BeforeValidator(_argv, json_schema_input_type=_Text | _Words),
]
ScorerConfig = Annotated[
    dict[str, JsonValue],
    BeforeValidator(_scorer, json_schema_input_type=ScorerType | ScorerMapping),
]
Options: TypeAlias = dict[str, JsonValue]


class _Section(Record):
    """A mapping of the file. Strict: the text '5' is not the number 5.

    As a default it is made by ``model_construct``: each validator is built when a file is read,
    within that of ``Config``, and one of its own would take its time from every command.
    """

    model_config = ConfigDict(strict=True)


# ---------------------------------------------------------------- providers


def _require_type(schema: dict[str, Any]) -> None:
    schema.setdefault("required", []).append("type")


class _Provider(_Section):
    # `type` has a default for code that builds one; in a file it tells the mappings apart.
    model_config = ConfigDict(json_schema_extra=_require_type)


class AnthropicConfig(_Provider):
    """Anthropic's Messages API, or any server that speaks it."""

    type: Literal["anthropic"] = "anthropic"
    base_url: Annotated[str, Field(pattern=_URL)] | None = Field(
        default=None,
        description="Address of another server that speaks the Messages API; "
        "null for ANTHROPIC_BASE_URL or Anthropic itself.",
    )
    timeout: float = Field(default=120.0, gt=0, le=3600, description="Seconds one call may take.")
    max_retries: int = Field(
        default=4, ge=0, le=20, description="Retries after 408, 409, 429, 5xx and 529."
    )
    concurrency: int = Field(default=8, ge=1, le=256, description="Calls in flight at once.")
    cache: bool = Field(default=True, description="Mark the skill as a cached prompt prefix.")
    batch: bool = Field(
        default=False, description="Send the calls of a sweep as one batch, at half the price."
    )
    batch_wait: Annotated[str, Field(pattern=f"^{_DURATION}$")] = Field(
        default="4h", description="How long a batch is waited for until it is cancelled."
    )

    @property
    def batch_seconds(self) -> int:
        """``batch_wait`` in seconds."""
        return int(self.batch_wait[:-1]) * _UNITS[self.batch_wait[-1]]


class LocalConfig(_Provider):
    """The small embedded model: no key, no server."""

    type: Literal["local"] = "local"
    batch: int = Field(default=32, ge=1, le=1024, description="Prompts generated together.")


class ScriptedConfig(_Provider):
    """Answers read from a YAML script, for trials and tests."""

    type: Literal["scripted"] = "scripted"
    file: RepoPath = Field(default="ratchet.script.yml", description="The script.")
    concurrency: int = Field(default=8, ge=1, le=256, description="Calls in flight at once.")


class CommandConfig(_Provider):
    """Your own harness, run once for each call."""

    type: Literal["command"] = "command"
    command: Argv = Field(
        description="The program and its arguments, as a list or as one string that is split "
        "into words; no shell is involved."
    )
    timeout: float = Field(default=300.0, gt=0, le=86_400, description="Seconds one call may take.")
    concurrency: int = Field(default=2, ge=1, le=256, description="Processes at once.")
    deterministic: bool = Field(
        default=False,
        description="The same request always gets the same answer, so repeats are not run.",
    )


AnyProvider = AnthropicConfig | LocalConfig | ScriptedConfig | CommandConfig
PROVIDERS: dict[str, type[_Section]] = {
    "anthropic": AnthropicConfig,
    "local": LocalConfig,
    "scripted": ScriptedConfig,
    "command": CommandConfig,
}
_Tagged = Annotated[AnyProvider, Field(discriminator="type")]
ProviderConfig = Annotated[
    _Tagged,
    # `command` has no short form: it needs the command.
    BeforeValidator(
        _typed, json_schema_input_type=Literal["anthropic", "local", "scripted"] | _Tagged
    ),
]


# ---------------------------------------------------------------- the other sections


class MetaConfig(_Section):
    """Who proposes edits."""

    proposer: Literal["meta", "examples"] = Field(
        default="meta",
        description="`meta`: a model reads the traces and proposes an edit. "
        "`examples`: corrections become worked examples in the skill, with no model.",
    )
    model: Word | None = Field(
        default=None, description="Model of the meta-agent; null for the task's."
    )
    provider: ProviderConfig | None = Field(
        default=None, description="Provider of the meta-agent; null for the task's."
    )
    max_tokens: int = Field(
        default=8192, ge=1, le=1_000_000, description="Longest answer of the meta-agent, in tokens."
    )
    turns: int = Field(
        default=8, ge=1, le=50, description="Calls the meta-agent may make for one proposal."
    )
    tools: Literal["native", "text", "none"] | None = Field(
        default=None,
        description="How the meta-agent calls its tools: by the API (`native`), written as "
        "`text`, or `none`; null for what the provider can do.",
    )
    context: int = Field(
        default=200_000,
        ge=1_000,
        le=10_000_000,
        description="Length of its first message, in characters (four are about a token), and of "
        "all its tools' results together. Failing traces are shown whole as long as they fit; the "
        "others are listed by id.",
    )
    usd: float | None = Field(
        default=None, ge=0, description="Part of `budget.usd` the meta-agent may spend in a run."
    )
    per_label: int = Field(
        default=4, ge=1, le=100, description="Worked examples a label, for `examples`."
    )
    instructions: RepoPath | None = Field(
        default=None,
        description="The meta-agent's own skill file; null for the one that comes with Ratchet.",
    )


class BudgetConfig(_Section):
    """Caps of one run, and of a month; null takes a cap away."""

    usd: float | None = Field(default=5.0, ge=0, description="US dollars.")
    calls: int | None = Field(default=2000, ge=1, description="Model calls.")
    minutes: float | None = Field(default=60.0, gt=0, description="Minutes of wall clock.")
    month_usd: float | None = Field(
        default=None,
        ge=0,
        description="US dollars of a calendar month (UTC), for all runs of all skills together.",
    )


class LogConfig(_Section):
    """What `ratchet import` is told of this skill's logs, unless its options say otherwise."""

    format: Kind | None = Field(
        default=None, description="How the log is written; null to recognise it."
    )
    columns: dict[Column, str] = Field(
        default={},
        description="Column by what it holds; a dot leads into an object: `request.text`.",
    )
    labels: tuple[str, ...] = Field(
        default=(), strict=False, description="Keep only rows that expect one of these."
    )


class SkillConfig(_Section):
    """One skill: the file that is edited, and how its answers are scored."""

    path: RepoPath = Field(
        default="skills/<name>/SKILL.md", description="The one file an experiment may edit."
    )
    fixtures: RepoPath = Field(
        default="fixtures/<name>", description="Folder that holds train/ and holdout/."
    )
    scorer: ScorerConfig = Field(
        default={"type": "exact"},
        description="How an answer is scored: a scorer's name, or its type with options.",
    )
    scorers: dict[SkillName, ScorerConfig] = Field(
        default={},
        description="Further scorers, by the names that fixtures use for them.",
        json_schema_extra={"additionalProperties": False},
    )
    model: Word | None = Field(default=None, description="Model of this skill; null for `model`.")
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Longest answer for this skill; null for `max_tokens`."
    )
    options: Options | None = Field(
        default=None, description="Used in place of the top-level `options`; null for those."
    )
    max_chars: int = Field(
        default=20_000, ge=1, le=1_000_000, description="Longest the skill may grow, in characters."
    )
    freeze: tuple[Word, ...] = Field(
        default=("name",), strict=False, description="Frontmatter keys that no edit may change."
    )
    log: LogConfig | None = Field(
        default=None, description="How this skill's logs are written, for `ratchet import`."
    )

    @model_validator(mode="after")
    def _editable(self) -> SkillConfig:
        """The edited file is neither the config nor anything an experiment is judged by."""
        if self.path.casefold() == CONFIG_PATH:
            raise _wrong("an experiment may not edit ratchet.yml itself", "path")
        if _inside(self.path, self.fixtures) or _inside(self.fixtures, self.path):
            raise _wrong("the skill and its fixtures must lie apart", "path")
        for name in self.scorers:
            if name in SCORER_TYPES:
                raise _wrong("is already the name of a type of scorer", "scorers", name)
        return self


def _inside(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies under it, on a file system that folds case."""
    parts = PurePosixPath(path.casefold()).parts
    above = PurePosixPath(folder.casefold()).parts
    return parts[: len(above)] == above


class MergeConfig(Record):
    """When a confirmed proposal is merged; ``seconds`` is the wait of ``after``, else 0."""

    mode: Literal["auto", "manual", "after"]
    seconds: int = Field(default=0, ge=0)

    @model_serializer
    def _as_written(self) -> str:
        return f"after {self.seconds}s" if self.mode == "after" else self.mode


class MergeAfter(Record):
    """Merge when nobody objected for that long."""

    after: Annotated[str, Field(pattern=f"^{_DURATION}$")]


_MergeText = Annotated[str, Field(pattern=rf"^(auto|manual|after\s+{_DURATION})$")]


def _merge(value: Any) -> MergeConfig:
    if isinstance(value, MergeConfig):
        return value
    if value in ("auto", "manual"):
        return MergeConfig(mode=value)
    wait = value["after"] if isinstance(value, dict) and list(value) == ["after"] else value
    words = rf"({_DURATION})" if wait is not value else rf"after\s+({_DURATION})"
    match = re.fullmatch(words, wait) if isinstance(wait, str) else None
    if match is None:
        raise _wrong(f"expected auto, manual or a wait such as 'after 2d', found {_found(wait)}")
    number, unit = match[1][:-1], match[1][-1]
    return MergeConfig(mode="after", seconds=int(number) * _UNITS[unit])


class GateConfig(_Section):
    """What counts as better, and what happens then (docs/gate.md)."""

    rule: Literal["evidence", "improves"] = Field(
        default="evidence",
        description="`evidence`: sequential test with an error budget. "
        "`improves`: the mean went up in one paired sweep.",
    )
    merge: Annotated[
        MergeConfig, BeforeValidator(_merge, json_schema_input_type=_MergeText | MergeAfter)
    ] = Field(
        default=MergeConfig.model_construct(mode="auto"),
        description="`auto`, `manual`, or `after 2d`: merge when nobody objected for that long.",
    )
    alpha: float = Field(
        default=0.10,
        gt=0,
        le=0.5,
        description="Chance, at most, that an incumbent is ever replaced by something no better.",
    )
    k: int = Field(
        default=5, ge=1, le=1000, description="How slowly the bar rises from attempt to attempt."
    )
    confirm_effort: float = Field(
        default=1.0, gt=0, le=100, description="Multiplies the most pairs a confirm run may take."
    )
    patience: Literal["default", "patient"] = Field(
        default="default",
        description="`patient`: give an edit up later. More small gains are found, for more calls.",
    )
    floor: UnitInterval = Field(
        default=0.0, description="Lowest score any fixture may fall to, for `improves`."
    )

    @model_validator(mode="after")
    def _used(self) -> GateConfig:
        """A setting that its author believes in force is in force."""
        evidence = ("alpha", "k", "confirm_effort", "patience")
        idle = ("floor",) if self.rule == "evidence" else evidence
        for key in idle:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise _wrong(f"has no effect with gate.rule: {self.rule}", key)
        return self


class GithubConfig(_Section):
    """How proposals are published on GitHub (docs/github.md)."""

    publish: Literal["improved", "all"] = Field(
        default="improved",
        description="`improved`: pull requests for edits that the gate would merge. "
        "`all`: rejected ones are opened and closed, with the reason.",
    )
    method: Literal["merge", "squash", "rebase"] = Field(
        default="merge", description="How a pull request is merged."
    )
    auto_merge: bool = Field(
        default=False,
        description="Where the branch's rules ask for more, let GitHub merge as soon as they are "
        "met, by auto-merge or by the merge queue; the base may have moved by then. Otherwise the "
        "next run looks again, and merges.",
    )


class FeedbackConfig(_Section):
    """How corrections and logs become fixtures (docs/fixtures.md)."""

    merge: Annotated[
        MergeConfig, BeforeValidator(_merge, json_schema_input_type=_MergeText | MergeAfter)
    ] = Field(
        default=MergeConfig.model_construct(mode="manual"),
        description="When the pull request with new fixtures is merged: `manual`, `auto`, or "
        "`after 2d`: when nobody objected for that long.",
    )
    ratio: UnitInterval = Field(
        default=0.5, description="Share of train among new cases whose input is like no other."
    )
    near: float = Field(
        default=90.0,
        ge=50,
        le=100,
        description="Percent of likeness from which two inputs are nearly the same.",
    )
    caps: Caps = Field(
        default=Caps.model_construct(),
        description="The most cases a skill may have of each source.",
    )

    @property
    def rules(self) -> Rules:
        """The same for ``core.golden``."""
        return Rules(ratio=self.ratio, near=self.near, caps=self.caps)


class LoopConfig(_Section):
    """How a run searches."""

    attempts: int = Field(default=5, ge=1, le=50, description="Experiments in one run.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of every random order.")
    widen_after: int = Field(
        default=3, ge=1, le=50, description="Rejections in a row before the loop broadens."
    )
    max_lines: int = Field(
        default=12, ge=1, le=1000, description="Lines that a narrow edit may change."
    )


class CallConfig(Record):
    """What a skill's task calls are made with, every default filled in."""

    model: str
    max_tokens: int
    options: Options


class Config(_Section):
    """The whole of ``ratchet.yml``."""

    model_config = ConfigDict(title="ratchet.yml")

    version: int = Field(default=1, ge=1, le=1, description="Version of this format.")
    base: Annotated[str, Field(pattern=_BRANCH)] | None = Field(
        default=None, description="Branch merged into; null for the one checked out."
    )
    provider: ProviderConfig = Field(
        default=AnthropicConfig.model_construct(), description="Where the task's answers come from."
    )
    model: Word | None = Field(
        default=None, description="Model of the task; null for the provider's default."
    )
    max_tokens: int = Field(
        default=1024, ge=1, le=1_000_000, description="Longest answer to a fixture, in tokens."
    )
    options: Options = Field(
        default={}, description="Passed on to the provider, such as thinking or effort."
    )
    meta: MetaConfig = Field(
        default=MetaConfig.model_construct(), description="Who proposes edits."
    )
    budget: BudgetConfig = Field(
        default=BudgetConfig.model_construct(),
        description="Caps of one run; null takes a cap away.",
    )
    skills: dict[SkillName, SkillConfig] = Field(
        min_length=1,
        max_length=200,
        description="The skills to improve, by name.",
        json_schema_extra={"additionalProperties": False},
    )
    gate: GateConfig = Field(
        default=GateConfig.model_construct(),
        description="What counts as better, and what happens then.",
    )
    loop: LoopConfig = Field(
        default=LoopConfig.model_construct(), description="How a run searches."
    )
    github: GithubConfig = Field(
        default=GithubConfig.model_construct(), description="How proposals are published on GitHub."
    )
    feedback: FeedbackConfig = Field(
        default=FeedbackConfig.model_construct(),
        description="How corrections and logs become fixtures.",
    )
    sealed: Literal["require", "trust"] = Field(
        default="require",
        description="Whether the repository is hidden from the programs of a provider `command`. "
        "`require`: where it cannot be, nothing is merged by itself. `trust`: it is not hidden; "
        "you vouch for the programs, and every result says so.",
    )
    visible: tuple[RepoPath, ...] = Field(
        default=(),
        strict=False,
        description="Files and folders of the repository that programs (a provider `command`, "
        "scorers) find; empty for all but fixtures, skills and settings.",
    )
    redact: tuple[Annotated[str, Field(pattern=_VARIABLE)], ...] = Field(
        default=(),
        strict=False,
        description="Environment variables whose values are always redacted, "
        "besides those that look like secrets.",
    )

    @field_validator("skills", mode="before")
    @classmethod
    def _fill_paths(cls, skills: Any) -> Any:
        if not isinstance(skills, dict):
            return skills
        return {
            name: {"path": f"skills/{name}/SKILL.md", "fixtures": f"fixtures/{name}"} | skill
            if isinstance(skill, dict) and re.fullmatch(_NAME, name)
            else skill
            for name, skill in skills.items()
        }

    @field_validator("skills")
    @classmethod
    def _apart(cls, skills: dict[str, SkillConfig]) -> dict[str, SkillConfig]:
        """No experiment can edit a file that another skill's experiments depend on."""
        seen: dict[str, str] = {}
        for name, skill in skills.items():
            if name in RESERVED_NAMES:
                raise _wrong("is kept for a branch of Ratchet's own; choose another name", name)
            other = seen.setdefault(skill.path.casefold(), name)
            if other != name:
                raise _wrong(f"is also the path of the skill '{other}'", name, "path")
            for owner, judged in skills.items():
                if _inside(skill.path, judged.fixtures):
                    raise _wrong(f"lies in the fixtures of the skill '{owner}'", name, "path")
        return skills

    @property
    def task_model(self) -> str:
        """The task's model, unless a skill names its own."""
        return self.model or DEFAULT_MODELS[self.provider.type]

    @property
    def meta_provider(self) -> AnyProvider:
        """The meta-agent's provider."""
        return self.meta.provider or self.provider

    @property
    def meta_model(self) -> str:
        """The meta-agent's model: the task's, unless it is another provider that answers."""
        if self.meta.model:
            return self.meta.model
        same = self.meta_provider.type == self.provider.type
        return self.task_model if same else DEFAULT_MODELS[self.meta_provider.type]

    def skill(self, name: str) -> SkillConfig:
        """The skill of that name; raises RatchetError when the file has none."""
        if name not in self.skills:
            raise RatchetError(
                f"{CONFIG_PATH} has no skill '{name}'{_nearest(name, self.skills)}",
                hint=f"It has {_listed(self.skills)}.",
            )
        return self.skills[name]

    def call(self, name: str) -> CallConfig:
        """What that skill's task calls are made with; raises RatchetError as ``skill`` does."""
        skill = self.skill(name)
        return CallConfig(
            model=skill.model or self.task_model,
            max_tokens=skill.max_tokens or self.max_tokens,
            options=self.options if skill.options is None else skill.options,
        )

    @property
    def digest(self) -> str:
        """Names what the file means: two spellings of the same settings have one digest."""
        resolved = self.model_dump(mode="json")
        resolved["model"] = self.task_model
        resolved["meta"] |= {
            "model": self.meta_model,
            "provider": self.meta_provider.model_dump(mode="json"),
        }
        for name in self.skills:
            resolved["skills"][name] |= self.call(name).model_dump(mode="json")
            del resolved["skills"][name]["log"]
        del resolved["feedback"]  # what comes in decides nothing until it is a fixture
        del resolved["visible"]  # of what programs see there is a digest of its own
        if self.sealed == "require":  # as it was before there was a choice
            del resolved["sealed"]
        return digest("config", resolved)


# ---------------------------------------------------------------- reading YAML

_Path: TypeAlias = tuple[str | int, ...]


class _Problem(NamedTuple):
    line: int
    path: _Path
    what: str


class _ConfigLoader(yaml.SafeLoader):
    """Composes nodes of YAML 1.2's core scalars, so that `on`, `no` and `1:30` are text.

    Aliases and tags are refused: nothing here needs them, and an alias can multiply a small
    text into a huge value.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # not in the stubs
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases are not read here; write the value out"
        elif getattr(event, "tag", None) is not None:
            problem = "tags are not read here; write the value without one"
        elif self.depth >= MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} deep"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _first in (
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _ConfigLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


class _Reader:
    """Turns nodes into plain values, and remembers the line of every key and item."""

    def __init__(self) -> None:
        self.lines: dict[_Path, int] = {}
        self.problems: list[_Problem] = []

    def read(self, node: yaml.Node, path: _Path = ()) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return _scalar(node)
        except ValueError as error:
            self.problems.append(_Problem(self.lines[path], path, str(error)))
            return None

    def _mapping(self, node: yaml.MappingNode, path: _Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or _NOT_TEXT.search(key.value):
                self.problems.append(_Problem(line, path, "a key must be text"))
            elif key.value in found:
                first = self.lines[*path, key.value]
                what = f"is written twice; the first time on line {first}"
                self.problems.append(_Problem(line, (*path, key.value), what))
            else:
                self.lines[*path, key.value] = line
                found[key.value] = self.read(value, (*path, key.value))
        return found


_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")  # YAML's escapes can write them


def _scalar(node: yaml.Node) -> Any:
    """The value of a scalar; raises ValueError for one that no setting can hold."""
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "str":
        if _NOT_TEXT.search(text):
            raise ValueError("contains a character that is not text")
        return text
    if len(text) > MAX_DIGITS or not math.isfinite(float(text)):
        raise ValueError("is too large a number")
    return int(text) if kind == "int" else float(text)


def _compose(text: str, *, path: str) -> yaml.Node | None:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise RatchetError(f"{path}: is larger than {MAX_BYTES // 1024} KB")
    try:
        return _ConfigLoader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RatchetError(f"{path}:{line}: contains a character that is not text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise RatchetError(f"{path}:{line}: {_yaml_words(error)}") from error
    except (ValueError, OverflowError) as error:  # PyYAML of an escape such as "\UFFFFFFFF"
        raise RatchetError(f"{path}: contains an escape of no character") from error


def _yaml_words(error: yaml.MarkedYAMLError) -> str:
    said = ", ".join(part for part in (error.context, error.problem) if part)
    if "mapping values are not allowed" in said:
        return "a second ': ' on one line; put quotes around a value that contains one"
    if "'\\t'" in said:
        return "a tab where YAML needs spaces"
    return said


# ---------------------------------------------------------------- saying what is wrong


def _listed(words: Any) -> str:
    return ", ".join(words)


def _nearest(word: str, choices: Any) -> str:
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _not_one_of(choices: Any, value: Any) -> str:
    near = _nearest(value, choices) if isinstance(value, str) else ""
    return f"expected one of {_listed(choices)}, found {_found(value)}{near}"


def _quoted(text: str) -> str:
    """One short line: nothing in it can break a line or move a terminal's cursor."""
    short = text if len(text) <= MAX_ECHO else text[:MAX_ECHO] + "..."
    return f"'{short}'" if short.isprintable() else ascii(short)


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {_quoted(value)}"
    return "a list" if isinstance(value, list) else "a mapping"


_SAID = {
    "string_type": "expected text, found {found}",
    "int_type": "expected a whole number, found {found}",
    "float_type": "expected a number, found {found}",
    "bool_type": "expected true or false, found {found}",
    "tuple_type": "expected a list, found {found}",
    "dict_type": "expected a mapping, found {found}",
    "model_type": "expected a mapping, found {found}",
    "empty_section": "expected a mapping, found nothing; write {{}} for every default",
    "model_attributes_type": "expected a name or a mapping, found {found}",
    "greater_than": "must be more than {gt}, found {found}",
    "greater_than_equal": "must be at least {ge}, found {found}",
    "less_than_equal": "must be at most {le}, found {found}",
    "string_too_long": "is longer than {max_length} characters",
    "too_short": "is empty",
    "too_long": "has more than {max_length} entries",
    "missing": "is missing",
    "union_tag_not_found": "is missing",
    "ratchet": "{what}",
}


def _words(error: ErrorDetails) -> str:
    """What is wrong with one value, in plain words."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(error["loc"])
    if kind == "string_pattern_mismatch":
        return _SHAPES[context["pattern"]]
    if kind in {"literal_error", "union_tag_invalid"}:
        choices = re.findall(r"'([^']*)'", context.get("expected") or context["expected_tags"])
        return _not_one_of(choices, context.get("tag", value))
    if kind == "model_type" and value is None:
        kind = "empty_section"
    said = _SAID.get(kind, "is not valid, found {found}")
    return said.format(**context, found=_found(value))


def _unknown_key(loc: _Path) -> str:
    key = str(loc[-1])
    near = _nearest(key, _keys(loc[:-1]))
    if near:
        return f"unknown key{near}"
    if home := _home(key):
        return f"unknown key here; it belongs under {home}"
    if re.search("key|token|secret|passw", key.lower()):
        return "unknown key; secrets come from the environment, never from this file"
    return "unknown key"


def _keys(parent: _Path) -> list[str]:
    """The keys of the mapping at ``parent``, a location as pydantic gives it."""
    match parent:
        case ():
            model: Any = Config
        case ("skills", _):
            model = SkillConfig
        case ("skills", _, "log"):
            model = LogConfig
        case (*_, "provider", str(kind)):
            model = PROVIDERS[kind]
        case _:
            model = Config.model_fields[str(parent[0])].annotation
    return list(model.model_fields)


def _home(key: str) -> str | None:
    """The section that a key standing in the wrong place is a key of."""
    sections = ("meta", "budget", "gate", "loop", "github")
    return next((name for name in sections if key in _keys((name,))), None)


def _key_path(error: ErrorDetails) -> _Path:
    """Where the value stands in the file: pydantic's location without its own segments."""
    loc = tuple(part for part in error["loc"] if part != "[key]")
    for head in (("provider",), ("meta", "provider")):
        if loc[: len(head)] == head:  # followed by the type, which is no key
            loc = head + loc[len(head) + 1 :]
    return loc + tuple(error.get("ctx", {}).get("at", ()))


def _problem(error: ErrorDetails, lines: dict[_Path, int]) -> _Problem:
    path = _key_path(error)
    kind = (*path, "type")
    # `provider: nmae` is short for a mapping with a type, and has no line for that type.
    tagless = error["type"] == "union_tag_not_found"
    if tagless or (error["type"] == "union_tag_invalid" and kind in lines):
        path = kind
    nearest = path
    while nearest not in lines:
        nearest = nearest[:-1]
    return _Problem(lines[nearest], path, _words(error))


def _dotted(path: _Path) -> str:
    parts = (str(part) for part in path)
    text = ".".join(part if part.isprintable() else _quoted(part) for part in parts)
    return f"{text}: " if text else ""


def _report(problems: list[_Problem], *, path: str) -> RatchetError:
    ordered = sorted(problems, key=lambda problem: problem.line)
    said = [f"{path}:{line}: {_dotted(keys)}{what}" for line, keys, what in ordered]
    return RatchetError("\n".join(said), hint="docs/config.md describes every key.")


def load(text: str, *, path: str = CONFIG_PATH) -> Config:
    """The configuration that ``text`` describes.

    Args:
        text: YAML (or JSON) of at most 256 KB.
        path: The file's name, for messages.

    Raises:
        RatchetError: The text is not a configuration; the message has one line for each
            problem, ``path:line: key: what is wrong``.
    """
    node = _compose(text, path=path)
    reader = _Reader()
    value = None if node is None else reader.read(node)
    if value is None and not reader.problems:
        raise RatchetError(f"{path}:1: the file is empty", hint=f"This is enough:\n{EXAMPLE}")
    if not isinstance(value, dict):
        raise RatchetError(
            f"{path}:1: expected a mapping of settings, found {_found(value)}",
            hint=f"This is enough:\n{EXAMPLE}",
        )
    config, problems = None, reader.problems
    try:
        config = Config.model_validate(value)
    except ValidationError as invalid:
        unread = {problem[:2] for problem in reader.problems}
        details = (_problem(error, reader.lines) for error in invalid.errors(include_url=False))
        problems = [*problems, *(problem for problem in details if problem[:2] not in unread)]
    if config is None or problems:
        raise _report(problems, path=path)
    return config


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of ``ratchet.yml``, for editors."""
    schema = Config.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def load_config(tree: Tree) -> Config:
    """``ratchet.yml`` of a tree."""
    path = repository.CONFIG_FILE
    return load(skill_file.decode(tree.read(path), path=path), path=path)


def choose_skill(settings: Config, name: str | None) -> str:
    """The named skill, or the only one there is."""
    if name is not None:
        settings.skill(name)
        return name
    if len(settings.skills) == 1:
        return next(iter(settings.skills))
    raise RatchetError(
        f"ratchet.yml has {len(settings.skills)} skills; say which one.",
        hint=f"One of: {', '.join(sorted(settings.skills))}.",
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
