"""The report in a browser: from the disk and from a server, by keyboard, in any light, unharmed."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import re
import threading
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

import chromium
from skill_ratchet.core.records import Note, Reply, RolloutKey, Score, Trace, Usage, digest
from world import World, script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page

PROGRAM = chromium.find()
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: sh requirements/chromium.sh"),
]

# All that could do harm as markup, script, address or pattern; ``canary`` would tell.
PATIENCE: Final = 20_000  # milliseconds; nothing takes that long but on a busy machine
expect.set_options(timeout=PATIENCE)
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
EVIL = (
    "<script>canary=1</script><img src=x onerror=canary=1><svg onload=canary=1>"
    "</script></style></title></textarea>--><b>bold</b>'\"` ${canary=1} {{ 7*7 }} {% raw %} \\u003c"
    " javascript:canary=1 [x](javascript:canary=1)"
)
UNSEEN = "a\u202eb\u2066c\u200bd\u0007e\U000e0041f\u2028g\ufeffh"
SHOWN = "aU+202EbU+2066cU+200BdU+0007eU+E0041fU+2028gU+FEFFh"
# Joiners and a selector as they are meant: Persian, a family, a heart.
WRITTEN = "\u0645\u06cc\u062e\u200c\u0648 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f"
HOSTILE = "evil<b>&?t=#'\""  # a trace's id


def hostile_trace(world: World) -> Trace:
    """A call of which every part that a model or a person writes is meant to do harm."""
    one = world.ledger().experiments()[0]
    content = [
        {"type": "thinking", "thinking": f"{EVIL} {UNSEEN}", "signature": "s"},
        {"type": "text", "text": f"Found: needle. {EVIL}"},
        {"type": "tool_use", "id": "1", "name": EVIL, "input": {"__proto__": {"canary": 1}}},
        {"type": f"{EVIL} tool", "__proto__": 1},
        {"type": "server_tool_use", "name": "search", "input": {"query": WRITTEN}},
        {"type": "web_search_tool_result", "content": [{"type": "text", "text": "half \ud800"}]},
    ]
    messages = [
        {"role": "user", "content": EVIL},
        {"role": "assistant", "content": [{"type": "tool_use", "name": "read", "input": {"n": 1}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "is_error": True, "content": "no such needle"}],
        },
    ]
    return Trace(
        id=HOSTILE,
        key=RolloutKey(
            skill=one.candidate or "",
            fixture=digest("f"),
            model=one.setting.model_digest,
            replicate=7,
            experiment=one.id,
        ),
        skill="triage",
        experiment=one.id,
        fixture="t1",
        side="candidate",
        model=EVIL,
        provider="scripted",
        started_at="2026-01-01T00:00:00+00:00",
        reply=Reply(
            text=EVIL,
            stop_reason=EVIL,
            request={"system": "line\n" * 1000, "messages": messages, "constructor": EVIL},
            response={"content": content, "__proto__": {"canary": 1}},
            usage=Usage(input_tokens=1234),
            request_id=EVIL,
        ),
        score=Score(value=0.25, reason=EVIL, scorer="label"),
        fixture_input=EVIL,
        expected={"__proto__": EVIL},
        correction=f"{EVIL} {UNSEEN}",
        tags=(EVIL,),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a project whose model and people mean harm."""
    edit = {"op": "add", "after": None, "lines": f"Rule alpha. {EVIL}"}
    reply = json.dumps({"hypothesis": EVIL, "edits": [edit]})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{name}_NAME", "A Developer")
            patch.setenv(f"GIT_{name}_EMAIL", "dev@example.com")
        patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        path = tmp_path_factory.mktemp("browser") / "w"
        world = World.make(path, model=script([f"```json\n{reply}\n```"]))
        ran = world.run()
        assert ran.code == 0, ran.err
        ledger = world.ledger()
        ledger.add_trace(hostile_trace(world))
        one = ledger.experiments()[0]
        said = {"author": EVIL, "words": f"{EVIL} {UNSEEN}", "url": "javascript:canary=1"}
        ledger.add_note(
            Note(skill="triage", at="2026-01-02", experiment=one.id, kind="review", **said)
        )
        ledger.flush("hostile")
        out = world.path.parent / "site" / "triage"
        ran = world.ratchet("report", "--out", str(out))
        assert ran.code == 0, ran.err
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.browser(PROGRAM or "") as started:
        yield started


class Watched:
    """A page, and everything that should not happen on it."""

    def __init__(self, context: BrowserContext) -> None:
        self.requests: list[str] = []
        self.faults: list[str] = []
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("dialog", lambda dialog: self.faults.append(f"dialog {dialog.message}"))
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def check(self, within: str) -> None:
        """Nothing failed, nothing ran, nothing was asked of anybody else."""
        assert self.faults == []
        assert self.page.evaluate("typeof canary") == "undefined"
        assert self.page.evaluate("({}).canary === undefined")
        outside = [url for url in self.requests if not url.startswith((within, "data:"))]
        assert outside == []


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    context = browser.new_context()
    yield Watched(context)
    context.close()


def address(folder: Path, trace: str = HOSTILE, *, more: str = "") -> str:
    """The page of a trace of the first experiment."""
    (group,) = [
        file.parent
        for file in folder.rglob("index.js")
        if "evil" in file.read_text() and "kept" not in str(file)
    ]
    name = group.relative_to(folder / "traces").as_posix()
    return f"{(folder / 'trace.html').as_uri()}?x={name}&t={quote(trace, safe='')}{more}"


def shown(page: Page, url: str) -> None:
    """Open a trace and wait for it."""
    page.goto(url)
    page.wait_for_selector("#trace[aria-busy=false]")


WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# The lowest contrast of any text with what is behind it (WCAG 2.2, 1.4.3), and the text.
CONTRAST = """() => {
  const colour = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length > 3 && found[3] < 1 ? (found[3] === 0 ? null : found) : found.slice(0, 3);
  };
  const light = (rgb) => rgb.map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let up = node; up; up = up.parentElement) {
      const found = colour(getComputedStyle(up).backgroundColor);
      if (found) return found;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const ink = colour(node.closest("svg") ? style.fill : style.color);
    if (!ink) continue;
    const [high, low] = [light(ink), light(behind(node))].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < worst[0]) worst = [ratio, `${node.tagName} ${node.textContent.slice(0, 80)}`];
  }
  return worst;
}"""


def test_every_page_opens_from_the_disk(folder: Path, watched: Watched) -> None:
    """No error, no request to anybody else, no line wider than a phone; readable in any light.

    Every text has the contrast that WCAG asks for.
    """
    page = watched.page
    page.set_viewport_size({"width": 375, "height": 800})
    files = sorted(folder.rglob("*.html"))
    assert len(files) == 8
    for file in files:
        trace = file.name == "trace.html"
        page.goto(address(folder, more="&q=found") if trace else file.as_uri())
        expect(page.locator("h1")).to_have_count(1)
        if trace:
            expect(page.locator("mark")).to_have_count(1)
        assert page.evaluate(WIDE) == 0, file
        backs = set()
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            ratio, where = page.evaluate(CONTRAST)
            assert ratio >= 4.5, f"{file.name}, {scheme}: {ratio:.2f} for {where}"
            backs.add(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
        assert len(backs) == len(SCHEMES)
        watched.check(folder.as_uri())


def test_hostile_text_is_shown_and_does_nothing(folder: Path, watched: Watched) -> None:
    """Whatever a model or a person wrote stands on the page as they wrote it."""
    page = watched.page
    shown(page, address(folder))
    told = page.locator("#trace").inner_text()
    assert page.locator("#trace .facts").inner_text().count(EVIL) == 5
    assert told.count(EVIL) >= 10
    assert told.count(SHOWN) == 2
    assert WRITTEN in told
    assert "half U+D800" in told
    assert page.locator("#trace :is(script, img, svg, b b, style, iframe)").count() == 0
    watched.check(folder.as_uri())
    experiment = page.locator("#home a").get_attribute("href")
    assert experiment
    page.goto((folder / experiment).as_uri())
    assert EVIL in page.locator("main").inner_text()
    assert page.locator("a[href^='javascript' i]").count() == 0
    watched.check(folder.as_uri())


def test_the_policy_is_in_force_on_a_page_from_the_disk(folder: Path, watched: Watched) -> None:
    """Markup can be made of no text, and a script that is not the report's own does not run."""
    shown(watched.page, address(folder))
    with pytest.raises(Exception, match="TrustedHTML"):
        watched.page.evaluate("document.body.innerHTML = '<p>x'")
    with pytest.raises(Exception, match="TrustedScriptURL"):
        watched.page.evaluate("document.createElement('script').src = 'trace.js'")
    tag = "s = document.createElement('script'); s.append('canary = 1'); document.head.append(s)"
    with contextlib.suppress(Exception):
        watched.page.evaluate(tag)
    assert watched.page.evaluate("typeof canary") == "undefined"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?x=triage/../..&t=1",
        "?x=//evil.example/a&t=1",
        "?x=https://evil.example/a&t=1",
        "?x=triage/nothing&t=<img src=x onerror=canary=1>",
        "?x=a/b/../../static&t=1",
        "?x=__proto__&t=__proto__",
    ],
)
def test_an_address_that_names_no_trace_says_so(folder: Path, watched: Watched, query: str) -> None:
    """And asks for no file outside of the traces."""
    page = watched.page
    page.goto(f"{(folder / 'trace.html').as_uri()}{query}")
    page.wait_for_selector("#trace[aria-busy=false]")
    assert page.locator("h1").inner_text() == "No such trace"
    scripts = [url for url in watched.requests if url.endswith(".js")]
    kept = (f"{folder.as_uri()}/static/trace.js", f"{folder.as_uri()}/traces/triage/nothing/")
    assert all(url.startswith(kept) for url in scripts)
    assert page.evaluate("typeof canary") == "undefined"


def test_a_link_leads_to_a_block(folder: Path, watched: Watched) -> None:
    """It is scrolled to, unfolded and marked, at once and whenever the address changes."""
    page = watched.page
    page.set_viewport_size({"width": 800, "height": 400})
    shown(page, address(folder, more="#block-7"))
    assert page.locator(".target").get_attribute("id") == "block-7"
    assert page.evaluate("document.activeElement.id") == "block-7"
    assert 0 <= page.locator("#block-7").bounding_box()["y"] < 400  # type: ignore[index]
    page.locator("#block-2 .anchor").click()
    assert page.locator(".target").get_attribute("id") == "block-2"
    page.goto(page.url.replace("#block-2", "#block-1"))  # the system text is long, so it is folded
    assert page.locator("#block-1 details").get_attribute("open") is not None
    page.goto(page.url.replace("#block-1", "#response"))
    assert '"__proto__": {' in page.locator("#response pre").inner_text()
    watched.check(folder.as_uri())


def test_blocks_say_what_they_are(folder: Path, watched: Watched) -> None:
    """A conversation with tools has a block for each thing that was said, in order."""
    shown(watched.page, address(folder))
    heads = watched.page.locator(".block summary").all_inner_texts()
    kinds = [re.sub(r"\s*[\d,]+ characters", "", head) for head in heads]
    assert kinds[:6] == [
        "system", "user", "assistant tool call: read", "tool failed tool result",
        "assistant thinking", "assistant",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "fixture expected", "fixture correction",
        "the provider's own request", "the provider's own response",
    ]  # fmt: skip


def test_search_by_keyboard(folder: Path, watched: Watched) -> None:
    """/ begins it, Enter and arrows go through the hits, Escape ends it."""
    page = watched.page
    shown(page, address(folder))
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "words"
    page.keyboard.type("needle")
    expect(page.locator("mark")).to_have_count(2)
    told = page.locator("#hits")
    assert told.inner_text() == "2 in this trace"
    seen = []
    for key in ("Enter", "ArrowDown", "Enter", "ArrowUp", "Shift+Enter"):
        page.keyboard.press(key)
        assert page.locator("mark.now").count() == 1
        assert page.locator("mark.now").is_visible()
        seen.append(told.inner_text().split()[0])
    assert seen == ["1", "2", "1", "2", "1"]
    assert page.locator("#count").inner_text().startswith("1 of ")
    page.keyboard.press("Escape")
    assert page.locator("mark").count() == 0
    assert page.locator("#words").input_value() == ""
    watched.check(folder.as_uri())


def test_search_chooses_traces(folder: Path, watched: Watched) -> None:
    """By what they are and by what is said in them; the address keeps the words."""
    page = watched.page
    shown(page, f"{address(folder)}&q={quote('case:T1 score<30%', safe='')}")
    for query, found in (
        ("case:T1 score<30%", {"t1"}),
        ("side:candidate case:t2", {"t2"}),
        ("score:none", set()),
        ("score:25%", {"t1"}),
        ("needle nowhere-else", set()),
        ("needle", {"t1"}),
        ("is it t3", {"t3"}),
        ('"found: needle"', {"t1"}),
        ("(.*", set()),
        ("evil<b>", {"t1"}),
    ):
        page.locator("#words").fill(query)
        page.wait_for_selector("#traces[aria-busy=false]", state="attached")
        rows = page.locator("#traces li .of-case").all_inner_texts()
        assert {row.split("\n")[0] for row in rows} == found, query
    watched.check(folder.as_uri())


def test_everything_is_reached_by_tab(folder: Path, watched: Watched) -> None:
    """Search, list, folds and links to blocks."""
    page = watched.page
    shown(page, address(folder))
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "(({tagName, id, className, parentElement: up}) => "
                "id || className || `${up.id || up.className} ${tagName}`)(document.activeElement)"
            )
        )
    assert {"skip", "words", "home A", "anchor", "listed SUMMARY", "trace BUTTON"} <= seen


def test_from_one_trace_to_the_next(folder: Path, watched: Watched) -> None:
    """The links lead through the list and back to the experiment."""
    page = watched.page
    shown(page, address(folder))
    page.locator(":is(#earlier, #later) a:visible").first.click()
    page.wait_for_selector("#trace[aria-busy=false]")
    assert page.locator("#traces [aria-current]").count() == 1
    assert HOSTILE not in page.locator("#trace").inner_text()
    page.locator("#home a").click()
    assert page.locator("h1").inner_text().startswith("Experiment ")
    watched.check(folder.as_uri())


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    """The address of the report below a path of a server, as GitHub Pages has it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{folder.name}"
        server.shutdown()
        thread.join()


def test_served_below_a_path(folder: Path, served: str, watched: Watched) -> None:
    """Pages and traces open from a server, too."""
    watched.page.goto(f"{served}/")
    watched.page.locator("main a[href*='/experiments/']:visible").first.click()
    shown(watched.page, address(folder).replace(folder.as_uri(), served))
    assert EVIL in watched.page.locator("#trace").inner_text()
    watched.check(served)
