"""ratchet.yml: what it may say, what each mistake is told, and that schema and docs agree."""

# ruff: noqa: E501 - a row of a table is easiest to read as one line

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.project import config as module
from skill_ratchet.project.config import (
    EXAMPLE,
    PROVIDERS,
    AnthropicConfig,
    CallConfig,
    Config,
    MergeConfig,
    json_schema,
    load,
)

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs/config.md").read_text(encoding="utf-8")
SCHEMA = jsonschema_rs.Draft202012Validator(json_schema())
TYPES = "exact, label, contains, regex, json, edit_similarity, command, metric, rubric"


def with_skill(text: str) -> str:
    """A file with one skill on line 1, and ``text`` from line 2."""
    return f"skills: {{triage: {{}}}}\n{text}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(RatchetError) as caught:
        load(text)
    return caught.value.message.splitlines()


def test_three_lines_are_a_whole_configuration() -> None:
    config = load(EXAMPLE)
    skill = config.skills["triage"]
    assert (skill.path, skill.fixtures) == ("skills/triage/SKILL.md", "fixtures/triage")
    assert skill.scorer == {"type": "label"}
    assert config.provider == AnthropicConfig()
    assert config.task_model == "claude-haiku-5-5"
    assert config.gate.merge == MergeConfig(mode="auto")


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(EXAMPLE).max_tokens = 3  # type: ignore[misc]  # the point of the test


ACCEPTED = [
    "",
    "version: 1",
    "base: release/2.x",
    "base: null",
    "provider: anthropic",
    "provider: local",
    "provider: scripted",
    "provider: {type: anthropic, base_url: 'http://localhost:8080/v1', timeout: 5, cache: false}",
    "provider: {type: local, batch: 4}",
    "provider: {type: scripted, file: tests/script.yml}",
    "provider: {type: command, command: 'python run.py'}",
    "provider: {type: command, command: [python, run.py], deterministic: true}",
    "model: claude-sonnet-5-5",
    "options: {thinking: {type: adaptive, deep: [1, 2.5, null, true, text]}}",
    "meta: {proposer: examples, per_label: 2}",
    "meta: {provider: local, model: null}",
    "meta: {provider: {type: anthropic}, instructions: skills/meta/SKILL.md}",
    "budget: {usd: null, calls: null, minutes: null}",
    "budget: {usd: 0, calls: 1, minutes: 0.5}",
    "gate: {merge: manual}",
    "gate: {merge: after 2d}",
    "gate: {merge: {after: 36h}}",
    "gate: {rule: improves, floor: 0.25}",
    "gate: {alpha: 0.5, k: 1, confirm_effort: 2}",
    "loop: {attempts: 50, seed: 7, widen_after: 1, max_lines: 40}",
    "redact: [MY_TOKEN, _x]",
]

ACCEPTED_SKILLS = [
    "on: {}",
    "off: {scorer: {type: regex, pattern: '^a', flags: [i]}}",
    "1: {scorers: {strict: exact, loose: {type: contains}}}",
    "a-b_c: {path: ./prompts//a.txt, fixtures: fixtures/a/}",
    "a: {path: .github/copilot-instructions.md}",
    "a: {model: m, max_tokens: 5, options: {}, max_chars: 10, freeze: []}",
    "a: {model: null, max_tokens: null, options: null}",
    "a: {fixtures: shared}\n  b: {fixtures: shared}",
]

GOOD = [with_skill(text) for text in ACCEPTED] + [
    f"skills:\n  {text}\n" for text in ACCEPTED_SKILLS
]


@pytest.mark.parametrize("text", GOOD)
def test_accepted(text: str) -> None:
    """The schema accepts what ``load`` accepts, and a loaded file written out loads as itself."""
    config = load(text)
    assert load(config.model_dump_json()) == config
    # BaseLoader would make numbers text; the module's own reader is YAML 1.2, as editors are.
    node = module._compose(text, path="ratchet.yml")
    assert node is not None
    SCHEMA.validate(module._Reader().read(node))


REFUSED = [
    # wrong types, in plain words
    ("max_tokens: '5'", "2: max_tokens: expected a whole number, found the text '5'"),
    ("max_tokens: 1.5", "2: max_tokens: expected a whole number, found the number 1.5"),
    ("max_tokens: true", "2: max_tokens: expected a whole number, found true"),
    ("model: 5", "2: model: expected text, found the number 5"),
    ("options: 3", "2: options: expected a mapping, found the number 3"),
    ("redact: KEY", "2: redact: expected a list, found the text 'KEY'"),
    ("gate:", "2: gate: expected a mapping, found nothing; write {} for every default"),
    ("gate: auto", "2: gate: expected a mapping, found the text 'auto'"),
    (
        "provider: {type: anthropic, cache: on}",
        "2: provider.cache: expected true or false, found the text 'on'",
    ),
    ("provider: [a]", "2: provider: expected a name or a mapping, found a list"),
    ("model: |\n  a\n  b", "2: model: expected one word without spaces"),
    (
        "loop:\n  seed: |\n    a\n    b",
        r"3: loop.seed: expected a whole number, found the text 'a\nb\n'",
    ),
    # ranges
    ("version: 2", "2: version: must be at most 1, found the number 2"),
    ("gate: {alpha: 0}", "2: gate.alpha: must be more than 0.0, found the number 0"),
    ("gate: {alpha: 0.6}", "2: gate.alpha: must be at most 0.5, found the number 0.6"),
    ("loop: {attempts: 51}", "2: loop.attempts: must be at most 50, found the number 51"),
    ("loop: {attempts: 0}", "2: loop.attempts: must be at least 1, found the number 0"),
    ("budget: {usd: .inf}", "2: budget.usd: expected a number, found the text '.inf'"),
    ("budget: {usd: 1e999}", "2: budget.usd: is too large a number"),
    # keys
    ("mta: {}", "2: mta: unknown key (did you mean 'meta'?)"),
    ("loop:\n  atempts: 3", "3: loop.atempts: unknown key (did you mean 'attempts'?)"),
    ("attempts: 3", "2: attempts: unknown key here; it belongs under loop"),
    ("zzz: 3", "2: zzz: unknown key"),
    (
        "meta:\n  provider:\n    type: local\n    bach: 3",
        "5: meta.provider.bach: unknown key (did you mean 'batch'?)",
    ),
    (
        "provider: {type: anthropic, api_key: sk-ant-secret}",
        "2: provider.api_key: unknown key; secrets come from the environment, never from this file",
    ),
    ("<<: {model: m}", "2: <<: unknown key"),
    ("model: a\nmodel: b", "3: model: is written twice; the first time on line 2"),
    ("? [a]\n: b", "2: a key must be text"),
    # choices
    (
        "provider: antropic",
        (
            "2: provider: expected one of anthropic, local, scripted, command, "
            "found the text 'antropic' (did you mean 'anthropic'?)"
        ),
    ),
    ("provider: {batch: 3}", "2: provider.type: is missing"),
    ("provider: command", "2: provider.command: is missing"),
    ("provider: {type: command, command: ''}", "2: provider.command: is empty"),
    ("provider: {type: command, command: []}", "2: provider.command: is empty"),
    (
        'provider: {type: command, command: "a \'b"}',
        "2: provider.command: cannot be split into words: no closing quotation",
    ),
    (
        "provider:\n  type: command\n  command:\n    - a\n    - 1",
        "6: provider.command.1: expected text, found the number 1",
    ),
    (
        "gate: {rule: mean}",
        "2: gate.rule: expected one of evidence, improves, found the text 'mean'",
    ),
    # merge
    *(
        (
            f"gate: {{merge: {written}}}",
            f"2: gate.merge: expected auto, manual or a wait such as 'after 2d', found {found}",
        )
        for written, found in [
            ("3", "the number 3"),
            ("after 0d", "the text 'after 0d'"),
            ("after 2 years", "the text 'after 2 years'"),
            ("2d", "the text '2d'"),
            ("{after: 2}", "the number 2"),
            ("{after: 2d, before: 3d}", "a mapping"),
            ("true", "true"),
            ("{mode: auto}", "a mapping"),
        ]
    ),
    # settings that would do nothing
    (
        "gate: {rule: improves, alpha: 0.01}",
        "2: gate.alpha: has no effect with gate.rule: improves",
    ),
    ("gate: {floor: 0.5}", "2: gate.floor: has no effect with gate.rule: evidence"),
    # what could be taken for something else further on
    ("base: --upload-pack=x", "2: base: expected the name of a branch"),
    ("base: a b", "2: base: expected the name of a branch"),
    ('model: "a\\0"', "2: model: contains a character that is not text"),
    ('options: {"\\ud800": 1}', "2: options: a key must be text"),
    ("meta: {instructions: ../x}", f"2: meta.instructions: {module._OUTSIDE}"),
    # YAML
    (
        "gate:\n  merge: after: 2d",
        "3: a second ': ' on one line; put quotes around a value that contains one",
    ),
    ("gate:\n\tk: 3", "3: a tab where YAML needs spaces"),
    ("options: &a {b: *a}", "2: aliases are not read here; write the value out"),
    (
        "model: !!python/name:os.system ''",
        "2: tags are not read here; write the value without one",
    ),
    ("options: " + "[" * 50 + "]" * 50, "2: nested more than 32 deep"),
    (
        "options: {a: [",
        "3: while parsing a flow node, expected the node content, but found '<stream end>'",
    ),
    ("---\na: 1", "2: expected a single document in the stream, but found another document"),
    ("model: \x07", "2: contains a character that is not text"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_refused(text: str, said: str) -> None:
    assert problems(with_skill(text)) == [f"ratchet.yml:{said}"]


NOT_OURS = "git's own files cannot be used"
APART = "the skill and its fixtures must lie apart"

REFUSED_SKILLS = [
    ("a:", "2: skills.a: expected a mapping, found nothing; write {} for every default"),
    ("a: {}\n  a: {}", "3: skills.a: is written twice; the first time on line 2"),
    ("A b: {}", f"2: skills.A b: {module._SHAPES[module._NAME]}"),
    ("../x: {}", f"2: skills.../x: {module._SHAPES[module._NAME]}"),
    (f"{'a' * 65}: {{}}", f"2: skills.{'a' * 65}: is longer than 64 characters"),
    ("a: {}\n  ledger: {}", "3: skills.ledger: is kept for a branch of Ratchet's own; choose another name"),
    ("holdout: {}", "2: skills.holdout: is kept for a branch of Ratchet's own; choose another name"),
    ("a: {scorrer: x}", "2: skills.a.scorrer: unknown key (did you mean 'scorer'?)"),
    ("a: {log: {formt: csv}}", "2: skills.a.log.formt: unknown key (did you mean 'format'?)"),
    ("a: {scorer: lable}", f"2: skills.a.scorer: expected one of {TYPES}, found the text 'lable' (did you mean 'label'?)"),
    ("a: {scorer: {pattern: x}}", f"2: skills.a.scorer.type: is missing; one of {TYPES}"),
    ("a: {scorer: {type: 3}}", f"2: skills.a.scorer.type: expected one of {TYPES}, found the number 3"),
    ("a: {scorer: [label]}", "2: skills.a.scorer: expected the name of a scorer or a mapping, found a list"),
    ("a: {scorers: {json: exact}}", "2: skills.a.scorers.json: is already the name of a type of scorer"),
    *((f"a: {{path: '{path}'}}", f"2: skills.a.path: {module._OUTSIDE}")
      for path in ["", ".", "/etc/passwd", "../x", "a/../../x", "a\\b", "//x"]),
    *((f"a: {{path: {path}}}", f"2: skills.a.path: {NOT_OURS}")
      for path in [".git/config", ".GIT/hooks/x", "a/.gitmodules", ".gitattributes", "git~1/x"]),
    *((f"a: {{path: {path}}}", "2: skills.a.path: workflows and actions cannot be used")
      for path in [".github/workflows/ci.yml", ".GitHub/Workflows/ci.yml", ".github/actions/a/action.yml"]),
    ('a: {path: "a\\u200cb"}', "2: skills.a.path: a path may not contain invisible characters"),
    ("a: {path: Ratchet.yml}", "2: skills.a.path: an experiment may not edit ratchet.yml itself"),
    ("a: {path: ./ratchet.yml}", "2: skills.a.path: an experiment may not edit ratchet.yml itself"),
    ("a: {path: Fixtures/a/train/x.md}", f"2: skills.a.path: {APART}"),
    ("a: {path: fixtures}", f"2: skills.a.path: {APART}"),
    ("a: {fixtures: skills}", f"2: skills.a.path: {APART}"),
    ("a: {}\n  b: {path: fixtures/a/x.md}", "3: skills.b.path: lies in the fixtures of the skill 'a'"),
    ("a: {path: x.md}\n  b: {path: ./X.md}", "3: skills.b.path: is also the path of the skill 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED_SKILLS)
def test_refused_skill(text: str, said: str) -> None:
    assert problems(f"skills:\n  {text}\n") == [f"ratchet.yml:{said}"]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_is_answered_with_one_that_works(text: str) -> None:
    with pytest.raises(RatchetError, match=r"^ratchet\.yml:1: the file is empty$") as caught:
        load(text)
    assert caught.value.hint is not None
    load(caught.value.hint.partition("\n")[2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "1: expected a mapping of settings, found a list"),
        ("hello", "1: expected a mapping of settings, found the text 'hello'"),
        ("model: m", "1: skills: is missing"),
        ("skills: {}", "1: skills: is empty"),
        ("skills: []", "1: skills: expected a mapping, found a list"),
        ("x" * 300_000, " is larger than 256 KB"),
        ('model: "\\UFFFFFFFF"', " contains an escape of no character"),
    ],
)
def test_not_a_configuration(text: str, said: str) -> None:
    assert problems(text) == [f"ratchet.yml:{said}"]


def test_every_problem_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = with_skill("modle: m\nloop: {attempts: x}\nmax_tokens: 0\nmax_tokens: 1\nversion: 3")
    assert [line.split(":")[1] for line in problems(text)] == ["2", "3", "4", "5", "6"]


def test_the_file_is_called_what_the_caller_calls_it() -> None:
    with pytest.raises(RatchetError, match=r"^main:ratchet\.yml:1: skills: is missing$"):
        load("version: 1", path="main:ratchet.yml")


@pytest.mark.parametrize(
    "text",
    [
        "redact: [sk-ant-s3cret]",
        "provider: {type: anthropic, base_url: 'https://me:s3cret@example.com'}",
        "provider: {type: anthropic, auth_token: s3cret}",
        "base: s3cret secret",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(text: str) -> None:
    assert "s3cret" not in "".join(problems(with_skill(text)))


def complaint(text: str) -> str:
    try:
        load(text)
    except RatchetError as error:
        return error.message
    return ""


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*Config.model_fields, "type", "after", "a"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    sorted(
        {
            *(("skills", "a", key) for key in module.SkillConfig.model_fields),
            *((key,) for key in Config.model_fields),
            *((s, k) for s in ("meta", "budget", "gate", "loop") for k in module._keys((s,))),
            *(("provider", key) for model in PROVIDERS.values() for key in model.model_fields),
        }
    )
)


@settings(deadline=None)
@given(path=KEYS, value=JSON_VALUES)
def test_whatever_stands_there_it_loads_or_is_explained(path: tuple[str, ...], value: Any) -> None:
    """No value anywhere ends in a traceback or in a validator's jargon."""
    data: dict[str, Any] = {"skills": {"a": {}}, "provider": {"type": "local"}}
    at = data
    for key in path[:-1]:
        at = at.setdefault(key, {})
    at[path[-1]] = value
    said = complaint(json.dumps(data))
    assert re.fullmatch(r"(ratchet\.yml:1: .+\n?)*", said)
    assert not re.search(r"pydantic|https?://errors|Input should|is not valid", said)


@settings(deadline=None)
@given(text=st.text(alphabet="ab1:-[]{}()\"'\\UuxF0 \n\t\r#&*!%?|>,~.<=\ufeff\ud800\x85"))
def test_whatever_the_text_it_loads_or_is_explained(text: str) -> None:
    lines = complaint(text).split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines == [""] or all(line.startswith("ratchet.yml:") for line in lines)


def test_a_change_made_in_code_is_validated_too() -> None:
    """The command line overrides settings with ``with_``."""
    config = load(EXAMPLE)
    assert config.with_(model="m", redact=("A",)).task_model == "m"
    with pytest.raises(ValidationError):
        config.loop.with_(attempts=0)


SAME = [
    ("provider: local", "provider: {type: local, batch: 32}"),
    ("model: null", "model: claude-haiku-5-5"),
    ("gate: {merge: after 2d}", "gate: {merge: {after: 48h}}"),
    ("meta: {provider: anthropic}", ""),
    ("# a comment", ""),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_spellings_of_one_meaning_have_one_digest(one: str, other: str) -> None:
    assert load(with_skill(one)).digest == load(with_skill(other)).digest


def test_different_settings_have_different_digests() -> None:
    texts = ["", "model: m", "gate: {alpha: 0.2}", "gate: {merge: after 2d}", "meta: {model: m}"]
    assert len({load(with_skill(text)).digest for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "task", "meta"),
    [
        ("", "claude-haiku-5-5", "claude-haiku-5-5"),
        ("provider: local", "smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("provider: scripted", "scripted", "scripted"),
        ("provider: {type: command, command: x}", "command", "command"),
        ("model: m", "m", "m"),
        ("model: m\nmeta: {model: n}", "m", "n"),
        ("model: m\nmeta: {provider: {type: anthropic, timeout: 9}}", "m", "m"),
        (
            "provider: local\nmeta: {provider: anthropic}",
            "smollm2-135m-instruct",
            "claude-haiku-5-5",
        ),
    ],
)
def test_models(text: str, task: str, meta: str) -> None:
    """The meta-agent uses the task's model, except where another provider has never heard of it."""
    config = load(with_skill(text))
    assert (config.task_model, config.meta_model) == (task, meta)


def test_a_skill_overrides_what_its_calls_are_made_with() -> None:
    config = load(
        "options: {a: 1}\nmodel: m\nskills: {a: {}, b: {model: n, max_tokens: 7, options: {}}}"
    )
    assert config.call("a") == CallConfig(model="m", max_tokens=1024, options={"a": 1})
    assert config.call("b") == CallConfig(model="n", max_tokens=7, options={})


def test_a_skill_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(RatchetError, match=r"has no skill 'tirage'.*mean 'triage'") as caught:
        load(EXAMPLE).skill("tirage")
    assert caught.value.hint == "It has triage."


SCHEMA_REFUSES = [
    "",
    "skills: {}",
    "skills: {A: {}}",
    "skills: {a: {scorer: lable}}",
    "skills: {a: {scorer: {pattern: x}}}",
    "skills: {a: {path: ../x}}",
    "skills: {a: {path: /x}}",
    *(
        with_skill(text)
        for text in [
            "modle: m",
            "provider: {timeout: 3}",
            "provider: command",
            "provider: {type: command}",
            "provider: {type: local, timeout: 3}",
            "provider: {type: anthropic, base_url: x}",
            "gate: {merge: sometimes}",
            "gate: {merge: {after: 2}}",
            "gate: {alpha: 0}",
            "loop: {attempts: 51}",
            "budget: {calls: 0}",
            "max_tokens: '5'",
            "version: 2",
        ]
    ),
]


@pytest.mark.parametrize("text", SCHEMA_REFUSES)
def test_the_schema_refuses(text: str) -> None:
    """An editor marks these, and so does ``load``."""
    assert not SCHEMA.is_valid(yaml.safe_load(text))
    problems(text)


def described(schema: dict[str, Any]) -> list[str]:
    """The keys that an editor could say nothing about."""
    silent = []
    for name, model in {"": schema, **schema["$defs"]}.items():
        for key, value in model.get("properties", {}).items():
            known = "description" in value or "$ref" in value or key in {"type", "after"}
            silent += [] if known else [f"{name}.{key}"]
    return silent


def test_the_schema_describes_every_key() -> None:
    assert described(json_schema()) == []


def test_the_schema_in_docs_is_current() -> None:
    """``python -m skill_ratchet.project.config > docs/ratchet.schema.json`` was run after the last change."""
    run = [sys.executable, "-m", "skill_ratchet.project.config"]
    printed = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs/ratchet.schema.json").read_text(encoding="utf-8") == printed
    jsonschema_rs.meta.validate(json.loads(printed))


EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", DOC, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_docs_load(text: str) -> None:
    load(text)
    SCHEMA.validate(yaml.safe_load(text))


def rows(heading: str) -> dict[str, str]:
    """Key and default of each row of the table under a heading of the docs."""
    section = re.search(rf"^##+ `{heading}`$(.*?)(?=^##|\Z)", DOC, flags=re.MULTILINE | re.DOTALL)
    assert section, f"docs/config.md has no heading `{heading}`"
    return dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section[1], flags=re.MULTILINE))


def written(model: type[BaseModel], name: str) -> str:
    """A field's default as a person would write it in the file."""
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    default = json.loads(json.dumps(field.get_default(), default=BaseModel.model_dump))
    if isinstance(default, dict) and "type" in default:
        default = default["type"]
    flow = yaml.safe_dump(default, default_flow_style=True, width=200)
    return flow.removesuffix("\n").removesuffix("\n...")


DOCUMENTED: list[tuple[str, type[BaseModel]]] = [
    ("meta", module.MetaConfig),
    ("budget", module.BudgetConfig),
    ("skills", module.SkillConfig),
    ("gate", module.GateConfig),
    ("loop", module.LoopConfig),
    ("github", module.GithubConfig),
    ("feedback", module.FeedbackConfig),
    *((f"type: {kind}", model) for kind, model in PROVIDERS.items()),
]


@pytest.mark.parametrize(("heading", "model"), DOCUMENTED)
def test_the_docs_list_every_key_with_its_default(heading: str, model: type[BaseModel]) -> None:
    expected = {name: written(model, name) for name in model.model_fields if name != "type"}
    assert rows(heading) == expected


def test_the_docs_have_a_heading_for_every_top_level_key() -> None:
    assert re.findall(r"^## `(\w+)`$", DOC, flags=re.MULTILINE) == list(Config.model_fields)
    sections = {heading for heading, _ in DOCUMENTED}
    for name in set(Config.model_fields) - sections:
        assert rows(name) == {name: written(Config, name)}


def test_the_docs_name_every_default_model_and_scorer() -> None:
    for word in (*module.DEFAULT_MODELS.values(), *module.SCORER_TYPES, *module.RESERVED_NAMES):
        assert f"`{word}`" in DOC


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, skill_ratchet.project.config; heavy = {'anthropic', 'git', 'rich', 'anyio', 'rapidfuzz'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert run.stderr == b""
    assert run.returncode == 0
