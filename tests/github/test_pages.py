"""What the bot posts: says all there is to say, fits, and nothing in it acts by itself."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # comes with rich
from pydantic import ValidationError

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import markdown, wording
from skill_ratchet.core.gate import Action, Reason, Verdict
from skill_ratchet.core.markdown import ZWSP
from skill_ratchet.core.records import Evidence, Experiment, Proposal, Setting, Tally, digest
from skill_ratchet.github import pages
from skill_ratchet.github.commands import NAMES, Unknown
from skill_ratchet.github.pages import MonthBudget, PullFacts, Section, SkillRow, TrainCase
from skill_ratchet.report.sparklines import Point
from tests.core.test_gate import HOLDOUT, TRAIN, make_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from markdown_it.token import Token

REPOSITORY = "https://github.com/acme/shop"
LEDGER, HEAD = "ab" * 20, "cd" * 20
HOME = f"{REPOSITORY}/tree/{LEDGER}/triage"
PLAIN = "Refunds are billing."
WAITS = Verdict(
    action=Action.HOLD,
    reason=Reason.AWAITS_PERSON,
    detail="Improved; a person merges it.",
    attempt=2,
    log_e=math.log(229.4),
    log_bar=math.log(84),
    path=(0.9, 1.8, 2.4, 3.9, 4.6, 5.0, 5.43),
)
SEALED = Tally(incumbent=0.5, candidate=0.69, pairs=140, wins=41, losses=14, sweeps=7)
PAST = (
    Point(number=10, before=0.33, score=0.41, kept=True),
    Point(number=11, before=0.41, score=0.36, kept=False),
    Point(number=12, before=0.41, score=0.58, kept=False),
)
DIFF = """--- a/triage.md
+++ b/triage.md
@@ -1,2 +1,3 @@
 # Triage
+Refunds are `billing`.
 Be brief.
"""


def make_experiment(text: str = PLAIN, **changes: Any) -> Experiment:
    """An experiment with ``text`` wherever there is free text."""
    setting = Setting(
        provider="scripted",
        model=text,
        model_digest=digest("model"),
        meta_model=text,
        proposer="meta",
        scorer_digest=digest("scorer"),
        config_digest=digest("config"),
        train_digest=digest("train"),
        holdout_digest=digest("holdout"),
        evaluator="0.1.0",
        base="c0ffee" * 6 + "0000",
        branch=text,
        seed=0,
    )
    fields = {
        "id": digest("experiment"),
        "skill": "triage",
        "number": 12,
        "parent": digest("parent"),
        "candidate": digest("candidate"),
        "setting": setting,
        "proposal": Proposal(proposer="meta", model=text, hypothesis=text),
        "started_at": "2026-11-02T10:11:12+00:00",
        "level": text,
        "chars": (1200, 1260),
    }
    return Experiment.model_validate(fields | changes)


def make_facts(text: str = PLAIN, **changes: Any) -> PullFacts:
    fields = {
        "experiment": make_experiment(text),
        "verdict": WAITS.with_(detail=text),
        "sentence": text,
        "train": Tally(incumbent=0.41, candidate=0.58, pairs=60, wins=14, losses=4, sweeps=3),
        "holdout": SEALED,
        "cases": (make_case(0), make_case(1)),
        "past": PAST,
        "diff": text,
        "calls": 412,
        "usd": 1.37,
        "repository": REPOSITORY,
        "ledger": LEDGER,
        "head": HEAD,
    }
    return PullFacts.model_validate(fields | changes)


def make_case(number: int, **changes: Any) -> TrainCase:
    trace = f"triage/experiments/f/traces/case_{number}.candidate.0.json"
    fields = {"fixture": f"case_{number}", "before": 0, "after": 1, "pairs": 3, "trace": trace}
    return TrainCase.model_validate(fields | {"old_runs": (), "new_runs": ()} | changes)


def make_row(text: str = PLAIN, **changes: Any) -> SkillRow:
    fields = {
        "skill": "triage",
        "score": 0.58,
        "pull": 7,
        "last_run": "2026-11-02T10:11:12+00:00",
        "outcome": text,
        "looks": 3,
        "spent": 0.2,
        "held": False,
    }
    return SkillRow.model_validate(fields | changes)


BUDGET = MonthBudget(month="2026-11", spent=1.2, limit=5)


def board(*rows: SkillRow) -> str:
    return pages.dashboard(rows, budget=BUDGET, repository=REPOSITORY, project="ratchet.yml")


# Every page in Markdown, with ``text`` in all its free places.
PAGES: dict[str, Callable[[str], str]] = {
    "pull request": lambda text: pages.pull_request(make_facts(text))[1],
    "sticky comment": lambda text: pages.sticky(make_facts(text)),
    "step summary": lambda text: pages.summary(make_facts(text)),
    "closing": lambda text: pages.closing(make_experiment(text), why=text, words=text),
    "dashboard": lambda text: board(make_row(text)),
    "reply": lambda text: pages.reply(
        7,
        markdown.inert(text),
        markdown.fence(text),
        pages.unknown(Unknown(word=text, nearest="merge")),
    ),
}
# And those that are not.
LINES: dict[str, Callable[[str], str]] = {
    "title": lambda text: pages.pull_request(make_facts(text))[0],
    "status": lambda text: pages.status(make_facts(text)),
    "a line": lambda text: markdown.line(text, pages.STATUS),
}

HOSTILE = {
    "mention": "thanks @octocat, @acme/team and mail bob@example.com",
    "mention behind markup": "*@octocat* _@octocat_ (@octocat) `@octocat` \\@octocat /@octocat",
    "mention by entity": "&#64;octocat &commat;octocat @&#111;ctocat",
    "mention split by invisible characters": "@\u200boctocat @\u2060octocat \u200b@octocat",
    "mention split by a comment": "@<!-- -->octocat",
    "reference": "see #1, acme/shop#2, GH-3, gh-4 and \\#5 &#35;6",
    "reference by URL": "https://github.com/acme/shop/issues/1 http://x.example/pull/2#a-3",
    "closing keyword": "fixes #1, Closes: GH-2\nresolves https://github.com/acme/shop/issues/3",
    "commit": "c0ffeec0ffee and " + "ab" * 20 + " and 1234567 acme/shop@c0ffee1",
    "comment": "a <!-- hidden --> b <!-- open",
    "our markers": "<!-- ratchet:pull triage -->\n<!-- ratchet:dashboard -->",
    "our marker on a line of its own": "x\n\n<!-- ratchet:pull other -->\n\ny",
    "image": "![x](https://evil.example/a.png) ![y][z]\n\n[z]: https://evil.example/b.png",
    "link": "[click](https://evil.example) [x][y] <https://evil.example> [z](javascript:alert(1))",
    "link reference": "[y]: https://evil.example\n\n[y] [^1]\n\n[^1]: note",
    "autolink": "https://evil.example www.evil.example ftp://evil.example mailto:a@evil.example",
    "HTML": "<img src=x onerror=alert(1)><script>x</script><details open><b>x</b></details>",
    "end of a fold": "</details></summary></td></table>",
    "fence": "```\n@octocat\n```\n~~~\nx\n~~~\n`````\n# out",
    "indented fence": "   ```\n</details>\n   ```",
    "code spans": "`a` ``b`` ```c``` `unbalanced",
    "headings": "# one\n## two\nthree\n===\nfour\n---\n####### seven",
    "lists": "- a\n+ b\n* c\n1. d\n2) e\n- [ ] f\n- [x] hold `triage`",
    "list with brackets": "1) a\n2) b",
    "quotation and alert": "> a\n> [!CAUTION]\n> b",
    "alert": "[!WARNING]\nYour account",
    "table": "| a | b |\n| - | - |\n| c | d |\na \\| b \\\\| c",
    "rules": "***\n---\n___\n* * *",
    "emphasis": "**a** __b__ ~~c~~ *d _e",
    "formula": "$x$ $$y$$ $`z`$ costs $5 and $6",
    "emoji": ":tada: :+1: :shipit: 10:30:45",
    "indented code": "    code\n\tcode\n\n    more",
    "backslashes": "\\ \\\\ \\` \\* a\\\nb\\",
    "entities": "&lt;b&gt; &amp; &#x3c;img&#x3e; &nbsp;",
    "workflow commands": "::set-output name=a::b\n  ::add-mask::x\n##[group]x\n::stop-commands::t",
    "commands in the middle": "a ::error file=x::y\u3000::warning::z \u2028::notice::q",
    "output in many lines": "a\nresult=merge\nEOF\nb<<EOF",
    "no workflows": "[skip ci] [CI skip] [no ci] [skip actions]\n\n\nskip-checks: true",
    "trailers": "x\n\nRatchet-Experiment: " + "0" * 64 + "\nCo-authored-by: A <a@b.example>",
    "a command": "/ratchet merge\n/ratchet reject x",
    "bidi": "\u202eevil\u202c \u2066x\u2069 \u200fx \u061cx",
    "invisible": "a\u200bb\u00adc\u2060d\ufeffe\U000e0041f\u2028g\u2029h\x00i\x1b[2Jj\x85k",
    "half a character": "a\ud83dz \udcff",
    "line ends": "a\rb\r\nc\x0bd\x0ce\x1cf\u2028g",
    "other scripts": "naïve café מזל طوبى 好 🙂 👩‍👩‍👧",
    "blank": " \n\t\n",
    "nothing": "",
    "one backslash": "\\",
    "template": "${{ secrets.TOKEN }} $(id) {{ x }}",
}
HUGE = {
    "a line of 100 KB": "x" * 100_000,
    "100 KB of backticks": "`" * 100_000,
    "100 KB of mentions": "@octocat " * 11_000,
    "100 KB of references": "fixes #1\n" * 11_000,
    "100 KB of colons": ":" * 100_000,
    "100 KB of hexadecimal": "a" * 100_000,
    "100 KB of emoji": "🙂" * 50_000,
    "100 KB of spaces": "a" + " " * 100_000 + "b",
    "100 KB of indentation": (" " * 99 + "a\n") * 1_000,
    "100 KB of comments": "<!-- ratchet:pull triage -->\n" * 3_500,
    "100 KB of brackets": "[" * 100_000,
    "100 KB of lines": "\n" * 100_000,
}
ALL = HOSTILE | HUGE

# What GitHub acts on, and a little more, in text that is not code ...
ACTS_IN_TEXT = re.compile(
    r"@[A-Za-z0-9] | [#][0-9] | gh-[0-9] | :// | www\. | (?<!\u200b)\b[0-9a-f]{7,40}\b"
    r"| \[! | :[\w+-]{1,50}: | /(issues|pull|discussions)/[0-9]",
    re.VERBOSE | re.IGNORECASE,
)
# ... and anywhere: in a log, in a commit message or an answer by e-mail made of the page.
ACTS_ANYWHERE = re.compile(
    r"@[A-Za-z0-9] | [#][0-9] | gh-[0-9] | :: | [#][#]\[ | \[(skip|ci|no|actions)\ | skip-checks:"
    r"| /(issues|pull|discussions)/[0-9]",
    re.VERBOSE | re.IGNORECASE,
)
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\u2028]"
)
OUR_HTML = re.compile(
    r"<!-- ratchet:(pull|sticky|dashboard|closing|reply)( [\w.-]+)? -->"
    r"|<details><summary>(the whole edit|\d+ more|Train score by experiment|Evidence by sweep)"
    r"</summary>|</details>"
)
OUR_HEADINGS = re.compile(
    r"Hypothesis|Edit|Edit: \+\d+ -\d+ lines|Train cases|Record|What you can do"
)


class Seen(NamedTuple):
    """A page as a renderer of CommonMark with tables reads it."""

    text: str  # all that is not code
    links: list[str]
    html: list[str]
    headings: list[str]
    kinds: Counter[str]  # of what is more than a paragraph


def seen(page: str) -> Seen:
    """Read a page; its images and its code are in ``kinds`` only."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    blocks = reader.parse(page)
    tokens = [token for block in blocks for token in (block, *(block.children or []))]
    words = {"paragraph_open", "paragraph_close", "inline", "text", "softbreak", "hardbreak"}
    after_heading = [n + 1 for n, token in enumerate(blocks) if token.type == "heading_open"]
    return Seen(
        text=" ".join(_texts(blocks)),
        links=[str(token.attrs["href"]) for token in tokens if token.type == "link_open"],
        html=[token.content.strip() for token in tokens if token.type.startswith("html")],
        headings=[blocks[n].content for n in after_heading],
        kinds=Counter(token.type for token in tokens if token.type not in words),
    )


def _texts(blocks: Sequence[Token]) -> Iterator[str]:
    """The words of each paragraph, heading and cell as they are shown."""
    for block in blocks:
        if block.children is not None:
            shown = {"softbreak": "\n", "hardbreak": "\n"}
            yield "".join(shown.get(part.type, "") or _word(part) for part in block.children)


def _word(part: Token) -> str:
    return part.content if part.type == "text" else ""


def words(text: str) -> str:
    """Text without our zero-width spaces and with white space that does not count."""
    return " ".join(text.replace(ZWSP, "").split())


def check(page: str) -> Seen:
    """Nothing on the page acts by itself, and all its structure is ours."""
    given = seen(page)
    assert not ACTS_IN_TEXT.search(given.text)
    assert not ACTS_ANYWHERE.search(re.sub(rf"\({re.escape(REPOSITORY)}/[^)\s]*\)", "", page))
    assert not HIDDEN.search(page)
    assert all(link.startswith(f"{REPOSITORY}/") for link in given.links)
    assert all(OUR_HTML.fullmatch(html) for html in given.html)
    assert given.kinds["image"] == given.kinds["hr"] == given.kinds["code_block"] == 0
    assert page.count("<!--") == sum(html.startswith("<!--") for html in given.html) <= 1
    page.encode("utf-8")
    return given


# The whole page ---------------------------------------------------------------------------------


def test_the_body_of_a_pull_request() -> None:
    """A mid-dot stands for each zero-width space."""
    said = "Refunds are billing, as @octocat said in #7.\n\nSee `rules`."
    facts = make_facts(
        experiment=make_experiment("scripted-1").with_(
            level="add lines",
            proposal=Proposal(proposer="meta", model="m", hypothesis=said),
            setting=make_experiment("scripted-1").setting.with_(branch="main"),
        ),
        verdict=WAITS,
        sentence=wording.sentence(
            WAITS, holdout=SEALED, fixtures=20, rule="evidence", deterministic=False
        ),
        diff=DIFF,
        cases=(make_case(1), make_case(2, before=0.5, after=0.25, trace="")),
        trailers=("Ratchet-Experiment: " + "0" * 64,),
    )
    title, body = pages.pull_request(facts)
    assert title.replace(ZWSP, "·") == (
        "triage: Refunds are billing, as @ octocat said in # 7. See `rules`."
    )
    mine = digest("experiment")[:12]
    assert (
        body.replace(ZWSP, "·")
        == f"""\
<!-- ratchet:pull triage -->

Waiting: over 7 fresh sweeps of 20 sealed fixtures the new skill won 41 decisive runs and lost 14 \
(+19 points). If it were no better on these fixtures, evidence this strong (229:1; bar 84:1, \
attempt 2) would appear less than 1 time in 200.

|  | before | after | points | runs | won | lost | tied |
| --- | --: | --: | --: | --: | --: | --: | --: |
| train | 41% | 58% | +17.0 | 60 | 14 | 4 | 42 |
| held-out | 50% | 69% | +19.0 | 140 | 41 | 14 | 85 |

### Hypothesis

> Refunds are billing, as @·octocat said in #·7.
>
> See \\`rules\\`.

### Edit: +1 -0 lines

```diff
--- a/triage.md
+++ b/triage.md
@@ -1,2 +1,3 @@
 # Triage
+Refunds are `billing`.
 Be brief.
```

### Train cases

| case | before | after | points | runs | raw |
| --- | --: | --: | --: | --: | --- |
| case\\_1 | 0% | 100% | +100.0 | 3 | \
[trace]({REPOSITORY}/blob/{LEDGER}/triage/experiments/f/traces/case_1.candidate.0.json) |
| case\\_2 | 50% | 25% | -25.0 | 3 | - |

<details><summary>Train score by experiment</summary>

```mermaid
%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "#a3bfea, #c2410c"}}}}}}}}%%
xychart-beta
    title "Train score (bars), and the best kept (line)"
    x-axis "experiment" 10 --> 12
    y-axis "percent" 0 --> 100
    bar [41, 36, 58]
    line [41, 41, 41]
```

| experiment | on train | best kept |
| --: | --: | --: |
| 10 | 41% | 41% |
| 11 | 36% | 41% |
| 12 | 58% | 41% |

</details>

<details><summary>Evidence by sweep</summary>

```mermaid
%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "#a3bfea, #c2410c"}}}}}}}}%%
xychart-beta
    title "Evidence by sweep (bars), and what it must reach (line)"
    x-axis "sweep" 1 --> 7
    y-axis "E, powers of ten" 0 --> 3
    bar [0.26, 0.79, 1.05, 1.57, 2.1, 2.1, 2.36]
    line [1.83, 1.83, 1.83, 1.83, 1.83, 1.83, 1.83]
```

```text
228:1 |      *
125:1 |    **
 68:1 |-------
 37:1 |   *
 20:1 |
 11:1 |  *
6.1:1 | *
3.3:1 |
1.8:1 |*
  1:1 |
      +-------
       sweeps 1 to 7; --- is the bar
```

</details>

### Record

|  |  |
| --- | --- |
| verdict | `awaits_person`: Improved; a person merges it. |
| experiment | 12 (`{mine}`) |
| cost | 412 calls, $1.37 |
| breadth | add lines |
| size | 1,200 → 1,260 characters (+60) |
| model | scripted-1, proposed by scripted-1 |
| measured on | main at `c0ffeec0ffee` |
| commit | `cdcdcdcdcdcd` |
| raw traces | [its runs on train]({HOME}/experiments/{mine}/traces), \
[this experiment]({HOME}/experiments/{mine}), [all of the skill]({HOME}) |

### What you can do

- nothing: a comment below says what the gate makes of it at the moment
- `/ratchet merge` or an approving review releases one that waits for a person
- `/ratchet hold` or the label `ratchet:hold` stops the merge; so does a request for changes, \
which the proposer reads
- `/ratchet reject <reason>` closes this pull request; the proposer reads the reason
- `ratchet explain {digest("experiment")[:12]}` shows the evidence
- `/ratchet help` lists what to reply

Ratchet-Experiment: {"0" * 64}"""
    )


def test_the_sticky_comment_has_the_verdict_and_not_the_proposal() -> None:
    page = pages.sticky(make_facts(sentence="Waiting: so it is.", diff=DIFF))
    assert page.startswith("<!-- ratchet:sticky triage -->\n\nWaiting: so it is.\n\n|  | before |")
    assert "| held-out | 50% | 69% | +19.0 | 140 | 41 | 14 | 85 |" in page
    assert "Hypothesis" not in page
    assert "```diff" not in page


def test_the_closing_comment_gives_the_reason_and_what_was_heard() -> None:
    page = pages.closing(
        make_experiment(), why="A person rejected it.", words="Too long,\n- really"
    )
    assert page == (
        f"<!-- ratchet:closing {digest('experiment')[:12]} -->\n\n"
        "Closed. A person rejected it.\n\n"
        "The proposer is told, word for word:\n\n> Too long,\n> \\- really\n\n"
        "Experiment 12 stays in the ledger: `ratchet explain 12` shows it."
    )
    assert "word for word" not in pages.closing(make_experiment(), why="Out of date.")


def test_the_dashboard() -> None:
    rows = [
        make_row("merged"),
        make_row("", skill="reply", score=None, pull=None, last_run=None, spent=0, held=True),
    ]
    assert (
        board(*rows)
        == f"""\
<!-- ratchet:dashboard -->

Of `ratchet.yml`.

Spent in 2026-11: $1.20 of $5.00.

| skill | score on train | open | last run | outcome | looks | error budget |
| --- | --: | --- | --- | --- | --: | --: |
| `triage` | 58% | [7]({REPOSITORY}/pull/7) | 2026-11-02 10:11 | merged | 3 | 20% |
| `reply` | - | - | never | - | 3 | 0% |

Tick a box to stop a skill, clear it to let it go on.

- [ ] hold `triage`
- [x] hold `reply`

No run for days? GitHub stops schedules of a quiet repository: start one."""
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Awaits person: held-out 50% → 69%, train 41% → 58%"),
        ({"holdout": None}, "Awaits person: train 41% → 58%"),
        (
            {"verdict": WAITS.with_(reason=Reason.STALE)},
            "Stale: held-out 50% → 69%, train 41% → 58%",
        ),
        (
            {"holdout": None, "train": Tally(incumbent=None, candidate=None)},
            "Awaits person: train -",
        ),
    ],
)
def test_the_status_gives_the_reason_and_the_means(changes: dict[str, Any], said: str) -> None:
    assert pages.status(make_facts(**changes)) == said


@pytest.mark.parametrize("reason", Reason)
def test_every_verdict_has_a_page_that_says_what_to_do(reason: Reason) -> None:
    for action in Action:
        facts = make_facts(verdict=WAITS.with_(action=action, reason=reason))
        for page in (pages.pull_request(facts)[1], pages.sticky(facts)):
            assert "### What you can do\n\n- " in page
            assert f"| verdict | `{reason.value}`: " in page
            check(page)
        assert len(pages.status(facts)) <= pages.STATUS


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        (Reason.AWAITS_PERSON, "`/ratchet merge` or an approving review merges it"),
        (Reason.AWAITS_PERSON, "`/ratchet reject <reason>` closes this pull request"),
        (Reason.VETO_WINDOW, "`/ratchet hold` or the label `ratchet:hold` stops that"),
        (Reason.VETO_WINDOW, "`/ratchet merge` merges it now"),
        (Reason.HELD, "`/ratchet resume` takes the label `ratchet:hold`"),
        (Reason.STALE, "`/ratchet retry` tries again"),
        (Reason.MERGE_REFUSED, "`/ratchet retry` looks again now"),
        (
            Reason.IMPROVED,
            f"`/ratchet revert {digest('experiment')[:12]}` takes the edit out again",
        ),
    ],
)
def test_what_can_be_done_fits_the_reason(reason: Reason, step: str) -> None:
    action = Action.MERGE if reason is Reason.IMPROVED else Action.HOLD
    verdict = WAITS.with_(reason=reason, action=action)
    assert f"- {step}" in pages.sticky(make_facts(verdict=verdict))


def test_every_command_that_a_page_names_is_one() -> None:
    for reason in Reason:
        for action in Action:
            page = pages.sticky(make_facts(verdict=WAITS.with_(action=action, reason=reason)))
            named = set(re.findall(r"`/ratchet (\w+)", page))
            assert "help" in named
            assert named <= set(NAMES)


def test_the_help_lists_every_command_with_who_may_give_it() -> None:
    rows = pages.usage().split("\n")[2:]
    assert [re.findall(r"`/ratchet (\w+)", row) for row in rows] == [[name] for name in NAMES]
    assert "| `/ratchet status` | say what is under way | anyone |" in rows
    assert "| `/ratchet merge` | merge a proposal that waits for a person | write |" in rows


def test_an_unknown_command_gets_the_nearest() -> None:
    said = pages.unknown(Unknown(word="me`rg", nearest="merge"))
    assert said == (
        "there is no command 'me\\`rg'. Did you mean `/ratchet merge`? `/ratchet help` lists them."
    )
    assert "Did you" not in pages.unknown(Unknown(word="x", nearest=None))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"verdict": WAITS.with_(false_merge_rate=0.4)}, id="rule improves"),
        pytest.param({"verdict": WAITS.with_(path=(0.1,))}, id="one sweep, deterministic"),
        pytest.param({"verdict": WAITS.with_(path=(), log_bar=None)}, id="no confirm run"),
    ],
)
def test_there_is_no_chart_of_what_is_no_evidence_by_sweep(changes: dict[str, Any]) -> None:
    assert "Evidence by sweep" not in pages.pull_request(make_facts(**changes))[1]


@pytest.mark.parametrize("past", [(), PAST[:1]], ids=["none", "one"])
def test_there_is_no_chart_of_less_than_two_experiments(past: tuple[Point, ...]) -> None:
    for page in (pages.sticky, pages.summary):
        assert "Train score by experiment" not in page(make_facts(past=past))


@pytest.mark.parametrize("page", [pages.sticky, lambda facts: pages.pull_request(facts)[1]])
def test_the_charts_are_the_first_to_go(page: Callable[[PullFacts], str]) -> None:
    """What was decided, the edit and the cases are worth more than pictures of them."""
    many = tuple(make_case(number, trace="") for number in range(1500))
    found = [page(make_facts(diff=DIFF, cases=many[:count])) for count in range(1420, 1500)]
    assert all(markdown.units(one) <= pages.BODY for one in found)
    first = next(one for one in found if "Left out for length" in one)
    assert "*Left out for length: the chart of train scores.*" in first
    assert first.count("Left out") == 1
    both = [one for one in found if one.count("*Left out for length: the chart") == 2]
    assert both
    assert all(one.count("Left out") == 2 for one in both)  # and so nothing else


def test_an_experiment_with_nothing_to_show_has_a_page() -> None:
    nothing = Tally(incumbent=None, candidate=None)
    facts = make_facts("", train=nothing, holdout=None, cases=(), head=None, usd=None)
    title, body = pages.pull_request(facts)
    assert title == "triage: experiment 12"
    assert "Hypothesis" not in body
    assert "### Edit" not in body
    assert "| before |" not in body
    assert "| cost | 412 calls of unknown price |" in body
    assert "/traces)" not in body, "a link to a folder that is not there"


# Nothing acts by itself -------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ALL)
def test_no_text_makes_a_page_act(attack: str) -> None:
    for name, make in PAGES.items():
        made = make(ALL[attack])
        found = check(made)
        assert markdown.octets(made) <= pages.SUMMARY
        if name == "step summary":  # its first heading names the skill and the hypothesis
            assert found.headings.pop(0).startswith("triage: ")
        else:
            assert markdown.units(made) <= pages.BODY
            assert made.startswith("<!-- ratchet:")
            assert made.count("<!-- ratchet:") == 1
        assert all(OUR_HEADINGS.fullmatch(heading) for heading in found.headings)


@pytest.mark.parametrize("attack", [name for name in HOSTILE if HOSTILE[name].strip()])
def test_no_text_changes_the_structure_of_a_page(attack: str) -> None:
    """Fences, tables, lists, headings, folds and links are as many as with a harmless text."""
    for make in PAGES.values():
        assert seen(make(HOSTILE[attack])).kinds == seen(make(PLAIN)).kinds


@pytest.mark.parametrize("attack", ALL)
def test_no_text_makes_a_line_act(attack: str) -> None:
    for name, make in LINES.items():
        shown = make(ALL[attack])
        assert not ACTS_ANYWHERE.search(shown)
        assert not HIDDEN.search(shown)
        assert "\n" not in shown
        assert "<!--" not in shown
        assert markdown.units(shown) <= pages.STATUS
        if name == "title":
            assert 1 <= markdown.units(shown) <= pages.TITLE


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_text_can_still_be_read(attack: str) -> None:
    text = HOSTILE[attack]
    assert words(seen(markdown.inert(text)).text) == words(markdown.clean(text))


PIECES = st.sampled_from(
    [
        *"@#<>!-[]()`~*_|\\&$:;./=+ \t\n\r\x00\u200b\u202e\u2028\ud800🙂a1",
        *("octocat", "GH-1", "fixes ", "https://", "www.", "<!-- ratchet:pull triage -->", "```"),
        *("&#64;", "c0ffee1", "::set-output name=x::", "##[group]", "[skip ci]", "- [x] hold "),
        *("1. ", "    ", "\n\n", "---", "</details>", "![x](y)", "[x]: y", ":tada:", "[!NOTE]"),
    ]
)
SETTINGS = settings(deadline=None)  # a busy machine is no failure
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=25).map("".join)


@SETTINGS
@given(TEXTS)
def test_inert_text_is_paragraphs_and_nothing_is_lost(text: str) -> None:
    shown = seen(markdown.inert(text))
    assert not shown.kinds
    assert not ACTS_IN_TEXT.search(shown.text)
    assert words(shown.text) == words(markdown.clean(text))


@SETTINGS
@given(TEXTS)
def test_a_quotation_is_one_quotation(text: str) -> None:
    wanted = {"blockquote_open": 1, "blockquote_close": 1} if markdown.clean(text).strip() else {}
    assert seen(markdown.quoted(text)).kinds == wanted


@SETTINGS
@given(TEXTS)
def test_a_fence_holds_all_of_the_text_and_stays_shut(text: str) -> None:
    made = markdown.fence(text, "diff")
    (token,) = MarkdownIt("commonmark").parse(made)
    assert (token.type, token.info) == ("fence", "diff")
    assert token.content.replace(ZWSP, "") == markdown.clean(text).removesuffix("\n") + "\n"
    assert not ACTS_ANYWHERE.search(made)
    assert "<!--" not in made


@SETTINGS
@given(st.sampled_from(sorted(PAGES)), TEXTS)
def test_no_page_of_any_text_acts(page: str, text: str) -> None:
    kinds = check(PAGES[page](text)).kinds
    assert kinds <= seen(PAGES[page](PLAIN)).kinds


@SETTINGS
@given(TEXTS, st.integers(min_value=1, max_value=60))
def test_a_line_is_one_line_of_the_length_asked_for(text: str, limit: int) -> None:
    shown = markdown.line(text, limit)
    assert "\n" not in shown
    assert markdown.units(shown) <= limit
    assert not ACTS_ANYWHERE.search(shown)


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("a  b\nc", 9, "a b c"),
        ("abcdef", 5, "abcd…"),
        ("see #12", 8, "see #·12"),
        ("see #12", 7, "see #…"),
        ("🙂🙂", 4, "🙂🙂"),
        ("🙂🙂", 3, "…"),
        ("🙂", 1, ""),
    ],
)
def test_a_line_is_cut_before_it_is_made_inert(text: str, limit: int, shown: str) -> None:
    assert markdown.line(text, limit).replace(ZWSP, "·") == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, (round) 'quotes' 50% - a/b", "plain words, (round) 'quotes' 50% - a/b"),
        ("a\n\nb", "a\n\nb"),
        ("a #channel, a # b, C#", "a #channel, a # b, C#"),
        ("+19 points", "\\+19 points"),
        ("10. of May", "10\\. of May"),
        ("snake_case", "snake\\_case"),
        ("see [1], $5", "see \\[1\\], \\$5"),
        ("naïve 好 🙂", "naïve 好 🙂"),
    ],
)
def test_harmless_text_is_left_as_readable_as_it_was(text: str, shown: str) -> None:
    assert markdown.inert(text) == shown


def test_a_diff_reads_as_it_is() -> None:
    """No zero-width space where nothing would act: what is copied is what was written."""
    assert markdown.fence(DIFF, "diff") == f"```diff\n{DIFF}```"


# Nothing of the holdout -------------------------------------------------------------------------


def make_evidence(**changes: Any) -> Evidence:
    fields = {
        "experiment": digest("experiment"),
        "tested": None,
        "current": None,
        "held": False,
        "landed": False,
        "leaks": (),
        "version": 2,
        "seed": 0,
        "deterministic": False,
        "train_fixtures": TRAIN,
        "holdout_fixtures": HOLDOUT,
        "screen": make_pairs([1, 0, -1, 0.5, 0] * 2, TRAIN),
        "confirm": make_pairs([1, 0, -1, 0.5, 0], HOLDOUT, made_for=digest("experiment")),
        "missing": 0,
        "attempt": 1,
    }
    fields |= {"train_scores": (), "targeted": (), "age": None, "released": False, "failed": None}
    return Evidence.model_validate(fields | changes)


def test_the_cases_are_those_of_the_screen_the_largest_change_first() -> None:
    cases = pages.train_cases(make_evidence(), traces={"t1-candidate-2": "triage/x.json"})
    assert [(case.fixture, case.gain, case.pairs) for case in cases] == [
        ("t1", 1.0, 2),
        ("t3", -1.0, 2),
        ("t4", 0.5, 2),
        ("t2", 0.0, 2),
        ("t5", 0.0, 2),
    ]
    assert [case.trace for case in cases] == ["", "triage/x.json", "", "", ""]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as it should be"),
        pytest.param({"screen": make_pairs([1] * 5, HOLDOUT)}, id="held-out pairs in the screen"),
        pytest.param(
            {"holdout_fixtures": (), "screen": make_pairs([1] * 5, HOLDOUT)}, id="of no split"
        ),
        pytest.param({"train_fixtures": (*TRAIN, *HOLDOUT)}, id="a fixture on both sides"),
        pytest.param(
            {"train_fixtures": (*TRAIN, *HOLDOUT), "screen": make_pairs([1] * 5, HOLDOUT)},
            id="both",
        ),
    ],
)
def test_no_held_out_case_is_on_a_page(changes: dict[str, Any]) -> None:
    cases = pages.train_cases(make_evidence(**changes), traces={})
    facts = make_facts(cases=cases)
    made = [pages.pull_request(facts)[1], pages.sticky(facts), pages.summary(facts)]
    for page in made:
        assert not re.search(r"\bh[1-5]\b", page)


def test_an_edit_that_repeats_held_out_text_is_not_shown() -> None:
    canary = "the sealed sentence about penguins"
    rejected = WAITS.with_(action=Action.REJECT, reason=Reason.LEAKS_HOLDOUT, detail="It leaks.")
    experiment = make_experiment().with_(
        proposal=Proposal(proposer="meta", model=None, hypothesis=canary)
    )
    facts = make_facts(experiment=experiment, verdict=rejected, diff=f"+{canary}\n")
    made = [
        *pages.pull_request(facts),
        pages.sticky(facts),
        pages.summary(facts),
        pages.status(facts),
        pages.closing(experiment, why=rejected.detail),
    ]
    assert not [page for page in made if "penguins" in page]
    assert "Not shown: it repeats text of held-out cases." in made[1]


def test_the_facts_have_no_room_for_a_held_out_case() -> None:
    """A new field is looked at here before it is on a page."""
    assert set(PullFacts.model_fields) == {
        *("experiment", "verdict", "sentence", "train", "holdout", "cases", "past"),
        *("diff", "calls", "usd", "repository", "ledger", "head", "trailers"),
    }
    assert set(Tally.model_fields) == {
        *("incumbent", "candidate", "pairs", "wins", "losses", "sweeps", "size"),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": "https://github.com/acme/shop) [x](https://evil.example"},
        {"repository": "javascript:alert(1)"},
        {"repository": "https://github.com"},
        {"repository": "https://github.com/acme/shop\n"},
        {"ledger": "main"},
        {"ledger": "AB" * 20},
        {"head": "HEAD"},
        {"trailers": ("Ratchet-Experiment: 00\nRatchet-Revert: 00",)},
        {"trailers": ("Co-authored-by: a <a@b.example>",)},
        {"cases": [{**dict(make_case(1)), "fixture": "a|b"}]},
        {"unheard": "of"},
    ],
    ids=str,
)
def test_facts_that_could_break_a_page_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_facts(**changes)


def test_a_path_in_the_ledger_cannot_leave_its_link() -> None:
    page = pages.sticky(
        make_facts(cases=(make_case(1, trace="a) [x](https://evil.example/b c|d"),))
    )
    check(page)
    assert f"{REPOSITORY}/blob/{LEDGER}/a%29%20%5Bx%5D%28https%3A//evil.example/b%20c%7Cd)" in page


# Lengths ----------------------------------------------------------------------------------------


def test_sections_are_left_out_whole_from_the_highest_rank() -> None:
    parts = [
        Section(text="<!-- x -->"),
        Section(text="a" * 100, name="a", rank=2),
        Section(text="b" * 100, name="b", rank=1),
        Section(text="c" * 100, name="c", rank=2, instead="It is there."),
        Section(text="the end"),
    ]
    whole = "\n\n".join(part.text for part in parts)
    assert pages.cut(parts, len(whole)) == whole
    assert pages.cut(parts, len(whole) - 1) == "\n\n".join(
        [
            "<!-- x -->",
            "a" * 100,
            "b" * 100,
            "*Left out for length: c.* It is there.",
            "the end",
        ]
    )
    assert pages.cut(parts, 200).count("Left out") == 2
    assert "b" * 100 in pages.cut(parts, 200)
    with pytest.raises(ValueError, match="over the limit"):
        pages.cut(parts, 50)
    with pytest.raises(ValueError, match="over the limit"):
        pages.cut([Section(text="x" * 101)], 100)


@SETTINGS
@given(
    st.lists(
        st.builds(
            Section,
            text=st.text(max_size=80),
            name=st.just("this"),
            rank=st.integers(min_value=1, max_value=4),
        ),
        max_size=8,
    ),
    st.integers(min_value=300, max_value=600),
    st.sampled_from([markdown.units, markdown.octets]),
)
def test_a_cut_text_fits_and_says_what_is_missing(
    parts: list[Section], limit: int, size: Callable[[str], int]
) -> None:
    mark = Section(text="<!-- mark -->")
    made = pages.cut([mark, *parts], limit, size=size)
    assert size(made) <= limit
    assert pages.is_marked(made, "<!-- mark -->")
    wanted = [part for part in parts if part.text]
    missing = made.count("*Left out for length: this.*")
    assert missing + sum(part.text in made for part in wanted) >= len(wanted)
    if size("\n\n".join(part.text for part in [mark, *wanted])) <= limit:
        assert not missing


@pytest.mark.parametrize("letter", ["x", "é", "好", "🙂"], ids=["ascii", "two", "three", "four"])
@pytest.mark.parametrize("over", [False, True], ids=["just fits", "one more"])
def test_a_body_is_counted_as_github_counts(letter: str, over: bool) -> None:  # noqa: FBT001 - a table's cell
    """Characters for a pull request, bytes (four times as many) for a comment."""
    bare: dict[str, Any] = {"past": (), "verdict": WAITS.with_(path=())}  # pictures would go first
    empty = markdown.units(pages.pull_request(make_facts(diff="+", **bare))[1])
    room = (pages.BODY - empty) // markdown.units(letter)
    body = pages.pull_request(make_facts(diff="+" + letter * (room + over), **bare))[1]
    assert len(body) <= markdown.units(body) <= pages.BODY
    assert markdown.octets(body) <= 4 * pages.BODY
    assert ("Left out for length: the edit." in body) == over


def test_a_fence_is_never_cut_in_the_middle() -> None:
    for length in range(64_000, 66_000, 37):
        body = pages.pull_request(make_facts(diff="+x\n" * (length // 3)))[1]
        found = check(body)
        fences = {"the edit": 1, "the chart of the evidence": 2, "the chart of train scores": 1}
        missing = (n * body.count(f"Left out for length: {name}.") for name, n in fences.items())
        assert found.kinds["fence"] + sum(missing) == sum(fences.values())
        assert body.count("<details>") == body.count("</details>")


def test_what_is_left_out_first_is_what_is_elsewhere() -> None:
    """The marker, the verdict, the numbers, the links and what to reply are always there."""
    cases = tuple(make_case(n, fixture=f"c{n}" + "x" * 90, after=0.5) for n in range(500))
    huge = "word " * 20_000
    facts = make_facts(
        experiment=make_experiment(huge), sentence=huge, diff=huge, cases=cases, verdict=WAITS
    )
    body = pages.pull_request(facts)[1]
    assert markdown.units(body) <= pages.BODY
    assert body.startswith("<!-- ratchet:pull triage -->\n\nword word")
    assert "| held-out | 50% | 69% |" in body
    assert "### What you can do" in body
    assert "### Record" in body
    assert "### Train cases" in body
    for gone in ("the hypothesis", "the edit", "450 train cases"):
        assert f"*Left out for length: {gone}.* It is [in the ledger]({HOME}/experiments/" in body
    assert "word " * 15_000 in pages.summary(facts), "a summary has more room"


def test_many_cases_show_the_largest_changes_and_fold_the_rest() -> None:
    body = pages.pull_request(make_facts(cases=tuple(make_case(n) for n in range(60))))[1]
    shown, folded = body.split("<details><summary>10 more</summary>")
    assert shown.count("[trace](") == 50
    assert folded.count("[trace](") == 10


def test_a_long_edit_is_folded() -> None:
    body = pages.pull_request(make_facts(diff="--- a\n+++ b\n" + "+x\n" * 100))[1]
    assert (
        "### Edit: +100 -0 lines\n\n<details><summary>the whole edit</summary>\n\n```diff" in body
    )
    check(body)


def test_a_dashboard_of_very_many_skills_fits() -> None:
    rows = [make_row(skill=f"skill-{n}", held=n % 2 == 1) for n in range(3_000)]
    page = board(*rows)
    assert markdown.units(page) <= pages.BODY
    held = pages.boxes(page)
    assert 1_000 < len(held) < 3_000
    assert all(held[f"skill-{n}"] == (n % 2 == 1) for n in range(1_000))
    assert "Left out for length: the table." in page


# Markers and boxes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "mark"),
    [
        (pages.marker("pull", "triage"), "<!-- ratchet:pull triage -->"),
        (pages.marker("sticky", "a--b.c_d"), "<!-- ratchet:sticky a--b.c_d -->"),
        (pages.marker("dashboard"), "<!-- ratchet:dashboard -->"),
    ],
)
def test_markers(given: str, mark: str) -> None:
    assert given == mark


@pytest.mark.parametrize("name", ["a b", "-->", "a\n", "../x", "-", "x" * 101, "é"])
def test_a_name_that_could_end_a_marker_is_refused(name: str) -> None:
    with pytest.raises(RatchetError):
        pages.marker("pull", name)


@pytest.mark.parametrize(
    ("body", "marked"),
    [
        ("<!-- ratchet:pull triage -->\n\nx", True),
        ("<!-- ratchet:pull triage -->\r\n\r\nx", True),
        ("<!-- ratchet:pull triage -->", True),
        ("x\n<!-- ratchet:pull triage -->", False),
        ("> <!-- ratchet:pull triage -->", False),
        ("<!-- ratchet:pull triage2 -->", False),
        ("<!-- ratchet:pull triage --> x", False),
        ("", False),
    ],
)
def test_a_page_is_marked_by_its_first_line(body: str, marked: bool) -> None:  # noqa: FBT001 - a table's cell
    assert pages.is_marked(body, pages.marker("pull", "triage")) is marked


@pytest.mark.parametrize(
    ("body", "held"),
    [
        ("- [ ] hold `a`\n- [x] hold `b`\n- [X] hold `c`", {"a": False, "b": True, "c": True}),
        ("- [x] hold `a`\r\n- [ ] hold `b`\r\n", {"a": True, "b": False}),
        ("* [x] hold `a.b-c_d`  ", {"a.b-c_d": True}),
        ("- [ ] hold `a`\n- [x] hold `a`\n- [ ] hold `a`", {"a": True}),
        ("text - [x] hold `a`", {}),
        ("> - [x] hold `a`", {}),
        ("\\- \\[x\\] hold \\`a\\`", {}),
        ("- [x] hold `a` and more", {}),
        ("- [] hold `a`\n- [y] hold `b`", {}),
        ("", {}),
    ],
)
def test_boxes_are_read_back(body: str, held: dict[str, bool]) -> None:
    assert pages.boxes(body) == held


@pytest.mark.parametrize("attack", HOSTILE)
def test_no_outcome_ticks_a_box(attack: str) -> None:
    page = board(make_row(HOSTILE[attack]), make_row("- [x] hold `triage`", skill="b", held=True))
    assert pages.boxes(page) == {"triage": False, "b": True}
    assert pages.boxes(page.replace("[ ]", "[x]")) == {"triage": True, "b": True}


def test_pages_are_the_same_for_the_same_facts() -> None:
    """So that one is written only when it changed."""
    again = PullFacts.model_validate(json.loads(make_facts().model_dump_json()))
    assert pages.pull_request(again) == pages.pull_request(make_facts())


@pytest.mark.parametrize(
    ("body", "blank"),
    [
        ("", True),
        (f"Ratchet-Experiment: {'e' * 64}\r\nRatchet-Parent: {'f' * 64}\r\n", True),
        ("Please look.", False),
        (f"Please look.\n\nRatchet-Experiment: {'e' * 64}", False),
        ("Ratchet-Experiment: my own words", False),
    ],
)
def test_only_a_body_without_a_persons_words_is_written_over(body: str, *, blank: bool) -> None:
    """GitHub fills it with the commit's message, which is of trailers alone."""
    assert pages.is_blank(body) is blank
