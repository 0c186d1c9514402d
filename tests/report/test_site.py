"""The static report: what is in it, what must not be, and what it does to a folder."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from posixpath import normpath
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urlsplit

import pytest

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core.records import Landing, Note
from skill_ratchet.project import workspace
from skill_ratchet.report import history
from skill_ratchet.report.site import output_folder
from skill_ratchet.report.site.build import refuse_publication
from world import CASES, SEALED, SKILL, SKILL_TEXT, World, case, idea, script

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VOID = {"meta", "link", "br", "hr", "img", "input"}
NOWHERE = "0" * 64


class Page(HTMLParser):
    """Links, ids and text of a page; a tag that is not closed is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.links.append(value or "")
            if name == "id":
                assert value not in self.ids
                self.ids.add(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open = self._open[:-1] if tag not in VOID else self._open

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """What a person reads, on one line."""
        return " ".join(" ".join(self.words).split())


class Report:
    """A report that was written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def html(self, path: str) -> str:
        return self.files[path].decode()

    def page(self, path: str = "index.html") -> Page:
        return Page(self.html(path))

    def named(self, part: str) -> str:
        """The one path with this in it."""
        (found,) = [path for path in self.files if part in path]
        return found

    @property
    def pages(self) -> list[str]:
        return [path for path in self.files if path.endswith(".html")]

    @property
    def everything(self) -> str:
        """All files as one text, and their names; JSON in scripts also as it was before."""
        told = "\n".join([*self.files, *(data.decode() for data in self.files.values())])
        plain = re.sub(r"\\u([0-9a-f]{4})", lambda at: chr(int(at[1], 16)), told)
        return f"{told}\n{plain}"


def build(world: World, *args: str) -> Report:
    out = world.path.parent / f"{world.path.name}-report"
    ran = world.ratchet("report", "--json", "--out", str(out), *args)
    assert ran.code == 0, ran.err
    assert ran.json["folder"] == str(out)
    return Report(out)


def many(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}{number}" for number in range(1, count + 1))


WIDE = {"train": many("t", 6), "holdout": many("sealed", 6)}
ALL = (*WIDE["train"], *WIDE["holdout"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One that failed the screen, one that failed to confirm, one that was merged; repeated runs.

    The model is sealed by hand, as this is made before the seal of a single test.
    """
    model = script(
        [idea(1, "Rule beta."), idea(2, "Rule gamma."), idea(3, "Rule alpha.")],
        right={"alpha": ALL, "gamma": WIDE["train"][:3]},
        deterministic=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{name}_NAME", "A Developer")
            patch.setenv(f"GIT_{name}_EMAIL", "dev@example.com")
        patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        world = World.make(tmp_path_factory.mktemp("story") / "w", model=model, cases=WIDE)
        for _ in range(3):
            ran = world.run()
            assert ran.code == 0, ran.err
    return world


@pytest.fixture(scope="module")
def told(story: World) -> Report:
    """Its report."""
    return build(story)


# What is there --------------------------------------------------------------------------------


def test_the_overview_has_scores_spend_looks_and_every_experiment(told: Report) -> None:
    page = told.page()
    for words in (
        "Score on train 100% 6 cases",
        "Held-out score 100%",
        "Experiments 3 1 kept",
        "Looks at the holdout 2",
        "Last run done",
        "3 kept 0%\N{NO-BREAK SPACE}\N{RIGHTWARDS ARROW}\N{NO-BREAK SPACE}100% 100%",
    ):
        assert words.replace("\N{NO-BREAK SPACE}", " ") in page.text, words
    assert {"scores", "spend", "newest"} <= page.ids
    assert sum("experiments/" in link for link in page.links) >= 3


def test_numbers_of_a_chart_are_a_table_too(told: Report) -> None:
    for path in told.pages:
        html = told.html(path)
        drawn = html.count("<svg ")
        assert html.count('class="chart" role="img" aria-label="') == drawn
        if drawn and "skills/" not in path:
            assert "The numbers as a table" in html


def test_an_experiment_has_its_reason_edit_cases_and_evidence(told: Report) -> None:
    page = told.page(told.named("experiments/3-"))
    ledger_words = (
        "merged",
        "0 lost",
        "Hypothesis idea 3",
        "Rule alpha.",
        "Train cases",
        "Screen on train",
        "Confirm run on the holdout",
        "Merged",
    )
    assert [words for words in ledger_words if words not in page.text] == []
    assert told.html(told.named("experiments/2-")).count("<svg ") >= 1


def test_a_case_has_the_pairs_that_the_gate_counted(story: World, told: Report) -> None:
    """A run that came in after the screen had ended is not on the page; ``show`` has it, too."""
    ledger = story.ledger()
    looked = [one for one in ledger.experiments() if ledger.confirmation(one.id)]
    assert len(looked) == 2
    for one in looked:  # of others the pairs are not on record
        result = ledger.result(one.id)
        assert result
        assert sum(case.pairs for case in history.cases(ledger, one)) >= result.train.pairs
        html = told.html(told.named(f"experiments/{one.number}-"))
        links = sum(html.count(f'aria-label="trace of {name} after,') for name in WIDE["train"])
        assert links == result.train.pairs


def test_the_way_of_the_evidence_is_drawn_for_a_screen_of_several_sweeps(told: Report) -> None:
    html = told.html(told.named("experiments/2-"))
    assert "Evidence at the end of each sweep" in html
    assert "The dashed line is the bar, 8:1" in Page(html).text


def test_transfers_and_what_people_made_of_it_are_tables(tmp_path: Path) -> None:
    """Of the held-out cases only means; there is no table of nothing."""
    model = script([idea(1, "Rule alpha.")], right={"alpha": ALL})
    world = World.make(tmp_path / "p", model=model, cases=WIDE)
    assert "What people made of it" not in build(world).everything
    assert world.run().verdicts == [("merge", "improved")]
    for split in ("train", "holdout"):
        moved = world.ratchet("transfer", "--models", "scripted", "--split", split)
        assert moved.code == 0, moved.err
    said = world.ratchet("correct", "--input", "Is it over?", "--expected", "no", "--why", "So.")
    assert said.code == 0, said.err

    report = build(world)

    page = report.page().text
    assert "on train" in page
    assert "on holdout" in page
    assert page.count("The new text is better on") == 2
    assert "What people made of it" in page
    assert all(f"agree to {name}?" not in report.everything for name in WIDE["holdout"])
    assert build(world).files == report.files


def test_every_link_leads_somewhere(told: Report) -> None:
    """Also to the right place in a page; traces are in the script that their address names."""
    for path in told.pages:
        for link in told.page(path).links:
            if link.startswith("https://"):
                continue
            target, anchor = urldefrag(urlsplit(link)._replace(query="").geturl())
            known = normpath(f"{path}/../{target}") if target else path
            assert known in told.files, f"{path}: {link}"
            if anchor and known != "trace.html":
                assert anchor in told.page(known).ids


def test_no_page_needs_anything_from_elsewhere(told: Report) -> None:
    for path in told.pages:
        page = told.page(path)
        assert "default-src &#39;none&#39;" in told.html(path)
        assert "style" not in page.attributes, path
        assert not [name for name in page.attributes if name.startswith("on")], path
        assert not [link for link in page.links if "//" in link], path
        assert len(told.files[path]) < 1_000_000


def test_the_history_of_a_case_is_told(told: Report) -> None:
    page = told.page(told.named("cases/t1-"))
    assert "experiment 1" in page.text
    assert "no experiment yes 0%" in page.text
    assert "experiment 3 yes 100%" in page.text
    assert "experiment 1 no 0%" in page.text


def test_a_flaky_case_comes_first(tmp_path: Path) -> None:
    """t3 is answered well once; the text, the case and the model are the same."""
    once = {"when": {"input_matches": r"\bt3\b"}, "text": "yes", "times": 1}
    model = script(
        [idea(1, "Rule beta.")], right={"beta": ["t1"]}, first=[once], deterministic=False
    )
    world = World.make(tmp_path / "w", model=model)
    assert world.run().code == 0
    report = build(world)
    page = report.page("skills/triage/cases.html")
    rows = [link for link in page.links if "cases/t" in link]
    assert rows[0].startswith("../../skills/triage/cases/t3-")
    assert "flaky" in report.page(report.named("cases/t3-")).text
    assert "flaky with" not in report.page(report.named("cases/t1-")).text


def test_a_report_without_experiments(tmp_path: Path) -> None:
    report = build(World.make(tmp_path / "w"))
    assert "No experiment yet" in report.page().text
    assert report.page("skills/triage/cases.html").text.count("authored") == 3


def test_one_under_way_and_one_taken_out_again(story: World, tmp_path: Path) -> None:
    world = _copy(story, tmp_path)
    ledger = world.ledger()
    first, _, third = ledger.experiments()
    gone = Landing(experiment=third.id, commit="f" * 40, branch="main", at="2026-01-02", by="x")
    ledger.add_revert(gone)
    begun = third.with_(id=NOWHERE, number=4, started_at="2099-01-01T00:00:00+00:00")
    ledger.add_experiment(begun, parent_text=SKILL_TEXT, candidate_text=f"{SKILL_TEXT}More.\n")
    again = first.with_(started_at="2099-01-01T00:00:00+00:00")
    ledger.add_experiment(again, parent_text=SKILL_TEXT, candidate_text=f"{SKILL_TEXT}x\n")
    ledger.flush("more")
    report = build(world)
    text = report.page().text
    assert "Experiments 4 0 kept" in text
    for number, state in ((1, "under way"), (3, "reverted"), (4, "under way")):
        assert state in report.page(report.named(f"experiments/{number}-")).text
    assert "fffffffff" in report.page(report.named("experiments/3-")).text


def test_a_look_by_an_experiment_that_is_not_on_the_ledger_counts(
    story: World, tmp_path: Path
) -> None:
    """As 'ratchet looks' counts it: a run that died, or one whose record never came here."""
    world = _copy(story, tmp_path)
    ledger = world.ledger()
    seen = next(look for look in ledger.confirmations() if look.attempt)
    ledger.put_confirmation(seen.with_(experiment=NOWHERE, attempt=7, evidence=None, verdict=None))
    ledger.flush("a look")
    looks = world.ratchet("looks", "--json").json["looks"]
    assert looks == 7 + 1 * (seen.parent != ledger.experiments()[-1].parent)
    assert f"Looks at the holdout {looks}" in build(world).page().text


def test_one_skill_of_many(tmp_path: Path) -> None:
    world = World.make(tmp_path / "w")
    known = json.loads((world.path / "ratchet.yml").read_text())
    world.write("skills/other/SKILL.md", SKILL_TEXT.replace("triage", "other"))
    for split, names in CASES.items():
        for name in names:
            world.write(f"fixtures/other/{split}/{name}.yml", case(name, split))
    world.configure(skills=known["skills"] | {"other": {"scorer": "label"}})
    assert world.run("triage").code == 0
    both = build(world)
    assert {"skills/triage/index.html", "skills/other/index.html"} <= both.files.keys()
    assert "triage" in both.page().text
    assert "other" in both.page().text
    one = build(world, "other")
    assert "No experiment yet" in one.page().text
    assert "triage" not in one.everything
    assert world.ratchet("report", "nothing").code == 1


def test_many_experiments_are_listed_in_parts(
    story: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skill_ratchet.report.site.html.ROWS", 2)
    monkeypatch.setattr("skill_ratchet.report.site.html.NEWEST", 1)
    report = build(_copy(story, tmp_path))
    assert "All 3 experiments" in report.page().text
    assert "3 to 2" not in report.page("skills/triage/experiments.html").text
    assert "2 to 3, newest first" in report.page("skills/triage/experiments.html").text
    assert "1 to 1, newest first" in report.page("skills/triage/experiments-2.html").text


# What must not be there -----------------------------------------------------------------------


def test_nothing_held_out_is_in_it(told: Report) -> None:
    """No id, input or word of a held-out case, in any file or file name, in any spelling."""
    everything = told.everything
    assert SEALED not in everything
    for name in WIDE["holdout"]:
        assert not re.search(rf"\b{name}\b", everything), name
    assert "Is it t1" in everything  # the train cases are there, so the search would find it


def test_with_holdout_it_is_and_every_page_warns(story: World, tmp_path: Path) -> None:
    report = build(_copy(story, tmp_path), "--with-holdout")
    assert SEALED in report.everything
    page = report.page(report.named("experiments/3-"))
    assert "Held-out cases" in page.text
    assert "sealed6" in page.text
    for path in report.pages:
        assert "Do not publish this." in report.page(path).text, path
    assert report.files[".gitignore"] == b"*\n"


@pytest.mark.parametrize("environ", [{"GITHUB_ACTIONS": "true"}, {"CI": "true"}, {"CI": "1"}])
def test_with_holdout_is_refused_in_a_workflow(environ: Mapping[str, str]) -> None:
    with pytest.raises(RatchetError, match="must not be published"):
        refuse_publication(environ)


def test_the_command_refuses_it_in_a_workflow(
    story: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _copy(story, tmp_path)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ran = world.ratchet("report", "--with-holdout")
    assert ran.code == 1
    assert "must not be published" in ran.err
    assert not (world.path / ".ratchet").exists()


@pytest.mark.parametrize("text", ["Is it t2?", "IS IT  T2?\n"])
def test_a_case_that_moved_to_the_holdout_is_sealed(
    story: World, tmp_path: Path, text: str
) -> None:
    """The ledger has it as a train case of old; its name and its spelling are of no account."""
    world = _copy(story, tmp_path)
    world.git("mv", "fixtures/triage/train/t2.yml", "fixtures/triage/holdout/migrant.yml")
    case = {"input": text, "expected": "yes"}
    world.write("fixtures/triage/holdout/migrant.yml", json.dumps(case))
    world.commit("move")
    everything = build(world).everything
    assert "Is it t2" not in everything
    assert "migrant" not in everything
    assert not re.search(r"cases/t2\b", everything)


def test_a_candidate_with_held_out_text_is_not_shown(tmp_path: Path) -> None:
    """Nor its hypothesis or traces: also one that never came as far as the holdout."""
    words = f"Would the {SEALED} agree to h1"
    for command in ("run", "propose"):
        reply = idea(1, f"Rule alpha.\n\n{words}?")
        world = World.make(tmp_path / command, model=script([reply]))
        assert world.ratchet(command).code == 0
        report = build(world)
        assert SEALED not in report.everything
        page = report.page(report.named("experiments/1-"))
        assert "are not shown: it holds text of held-out cases" in page.text
        assert "idea 1" not in report.everything


def test_kept_runs_of_a_text_with_held_out_words_are_not_shown(tmp_path: Path) -> None:
    """A person who scores a rejected candidate, and a transfer of it, put it into prompts anew."""
    words = f"Would the {SEALED} agree to h1"
    world = World.make(tmp_path / "w", model=script([idea(1, f"Rule alpha.\n\n{words}?")]))
    assert world.run().code == 0
    ledger = world.ledger()
    text = ledger.candidate_text(world.only().id)
    assert text
    before = world.skill()
    world.write(SKILL, text)
    assert world.ratchet("eval").code == 0
    world.write(SKILL, before)
    name = workspace.text_of(text).digest
    run = next(one for one in world.ledger().traces() if one.key and one.key.skill == name)
    assert run.key
    assert not run.key.experiment
    owner = run.key.with_(experiment="transfer-1234567890ab")
    ledger.add_trace(run.with_(id="elsewhere", key=owner, side="candidate"))
    ledger.flush("a transfer")
    everything = build(world).everything
    assert SEALED not in everything
    assert "elsewhere" not in everything


def test_of_a_candidate_that_cannot_be_searched_nothing_is_shown(
    story: World, tmp_path: Path
) -> None:
    """Where the held-out cases are not: only what the gate has found clean."""
    world = _copy(story, tmp_path)
    for name in WIDE["holdout"]:
        (world.path / f"fixtures/triage/holdout/{name}.yml").unlink()
    report = build(world)
    assert "could not be searched" in report.page(report.named("experiments/1-")).text
    assert "Rule beta." not in report.everything
    assert "Rule alpha." in report.page(report.named("experiments/3-")).text


def test_a_note_with_held_out_text_is_not_shown(story: World, tmp_path: Path) -> None:
    world = _copy(story, tmp_path)
    ledger = world.ledger()
    third = ledger.experiments()[-1]
    for number, words in enumerate(["Good one.", f"Would the {SEALED} agree to sealed1?"]):
        ledger.add_note(
            Note(
                skill="triage",
                author="maintainer",
                at="2026-01-02T00:00:00+00:00",
                words=words,
                url=("https://example.com/1", "javascript:alert(1)")[number],
                experiment=third.id,
                kind="review",
            )
        )
    ledger.flush("notes")
    report = build(world)
    page = report.page(report.named("experiments/3-"))
    assert "Good one." in page.text
    assert "https://example.com/1" in page.links
    assert SEALED not in report.everything
    assert "javascript:" not in "".join(page.links)


@pytest.mark.parametrize(("count", "means", "sweeps"), [(2, True, False), (5, True, True)])
def test_of_few_held_out_cases_no_number_tells_of_one(
    tmp_path: Path, *, count: int, means: bool, sweeps: bool
) -> None:
    """One case's mean is its score; of a few, what a sweep won tells nearly as much."""
    cases = {"train": many("t", 6), "holdout": many("sealed", count)}
    model = script(
        [idea(1, "Rule alpha.")],
        right={"alpha": (*cases["train"], *cases["holdout"])},
        deterministic=False,
    )
    world = World.make(
        tmp_path / "w", model=model, cases=cases, config={"gate": {"confirm_effort": 3}}
    )
    assert world.run().code == 0
    assert world.ledger().confirmations()[0].evidence
    report = build(world)
    text = report.page(report.named("experiments/1-")).text
    assert ("Held-out 0%" in text) is means
    assert ("won 100%" in text) is False
    assert ("would tell of single cases" in text) is (means and not sweeps)
    assert ("is not shown" in report.page().text) is not means
    if not means:
        assert "decisive runs" not in text


# What people and models wrote -----------------------------------------------------------------


def test_every_text_is_text(tmp_path: Path) -> None:
    """Markup is escaped, and what has no shape or turns text around is made visible."""
    evil = "</td><script>alert(1)</script>\u202egnorw\u200b <img src=x onerror=alert(2)> {{ 7*7 }}"
    reply = json.dumps(
        {"hypothesis": f"idea {evil}", "edits": [{"op": "add", "after": None, "lines": evil}]}
    )
    world = World.make(tmp_path / "w", model=script([f"```json\n{reply}\n```"]))
    assert world.run().code == 0
    report = build(world)
    for path in report.pages:
        html = report.html(path)
        if path != "trace.html":
            assert "<script" not in html
        assert "onerror" not in report.page(path).attributes
        assert "\u202e" not in html
        assert "\u200b" not in html
    text = report.page(report.named("experiments/1-")).text
    assert "<script>alert(1)</script>\N{REPLACEMENT CHARACTER}gnorw" in text
    assert "{{ 7*7 }}" in text


def test_a_secret_is_not_in_it(
    story: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that came to the environment after the ledger was written."""
    monkeypatch.setenv("SOME_TOKEN", "Rule gamma.")
    report = build(_copy(story, tmp_path))
    assert "Rule gamma." not in report.everything
    assert "[redacted:SOME_TOKEN]" in report.everything


# The folder -----------------------------------------------------------------------------------


def test_building_twice_gives_the_same_bytes(story: World, tmp_path: Path) -> None:
    world = _copy(story, tmp_path)
    first = build(world).files
    assert build(world).files == first


def test_by_default_git_does_not_see_it(story: World, tmp_path: Path) -> None:
    world = _copy(story, tmp_path)
    ran = world.ratchet("report")
    assert ran.code == 0, ran.err
    assert str(world.path / output_folder.DEFAULT / "index.html") in ran.out.splitlines()
    assert world.git("status", "--porcelain") == ""
    assert ".gitignore" not in build(world).files  # where one said where to, one may want it


@pytest.mark.parametrize("kind", ["folder", "file", "project", "forged"])
def test_what_is_no_report_is_left_alone(story: World, tmp_path: Path, kind: str) -> None:
    world = _copy(story, tmp_path)
    out = tmp_path / "out"
    if kind == "project":
        out = world.path
    elif kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    if kind == "forged":
        (out / output_folder.MARK).write_text('["ratchet report"]')
    before = sorted(path.name for path in tmp_path.rglob("*"))
    ran = world.ratchet("report", "--out", str(out))
    assert ran.code in (1, 2)
    assert "is not a report" in ran.err or "is a file" in ran.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_an_empty_folder_and_a_former_report_are_replaced(story: World, tmp_path: Path) -> None:
    world = _copy(story, tmp_path)
    out = tmp_path / "w-report"
    out.mkdir()
    build(world)
    (out / "left.html").write_text("over")
    assert "left.html" not in build(world).files
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_failure_leaves_the_former_report(
    story: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _copy(story, tmp_path)
    first = build(world)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("skill_ratchet.report.site.html.Site.skill", fail)
        ran = world.ratchet("report", "--out", str(first.folder))
    assert ran.code == 1
    assert "No space left" in ran.err
    assert Report(first.folder).files == first.files
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("library", ["jinja2", "vl_convert"])
def test_a_library_that_is_missing_is_named(
    story: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    world = _copy(story, tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    ran = world.ratchet("report")
    assert ran.code == 1
    assert "pip install 'skill-ratchet[report]'" in ran.err
    assert not (world.path / output_folder.DEFAULT).exists()


def test_it_is_opened_in_the_browser(
    story: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def browse(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    world = _copy(story, tmp_path)
    ran = world.ratchet("report", "--open")
    assert ran.code == 0
    assert opened == [(world.path / output_folder.DEFAULT / "index.html").as_uri()]


def _copy(world: World, folder: Path) -> World:
    """The same project with its ledger, in another place."""
    shutil.copytree(world.path, folder / "w")
    return World(folder / "w")
