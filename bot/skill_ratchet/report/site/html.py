"""Draws the records of ``views`` as pages; every text in them is escaped and made visible."""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from skill_ratchet import __version__
from skill_ratchet.base.redact import Redactor
from skill_ratchet.core import markdown, transfer, wording
from skill_ratchet.report.site import charts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from jinja2 import Environment

    from skill_ratchet.report.comparison import Rollout
    from skill_ratchet.report.site.views import CaseHistory, ExperimentEntry, ExperimentPage, Skill

NEWEST: Final = 20  # experiments on a skill's page
ROWS: Final = 200  # experiments on a page of the list
KEPT_TEXTS: Final = 4096  # that were made safe
FEWEST_SWEEPS: Final = 2  # a chart of fewer says no more than the numbers
FEWEST_VERSIONS: Final = 3
# 'self' is not the same in every browser for a page that was opened from the disk.
_POLICY: Final = (
    "default-src 'none'; style-src 'self' file:; script-src {script}; img-src 'self' file:; "
    "base-uri 'none'; form-action 'none'"
)
NO_SCRIPT: Final = _POLICY.format(script="'none'")
OWN_SCRIPT: Final = _POLICY.format(script="'self' file:")


class Site:
    """Writes pages below a folder.

    Args:
        folder: Where to; it is there.
        opened: Each page warns that it has held-out cases.
        redact: Names of further variables of the environment that hold secrets.
    """

    def __init__(self, folder: Path, *, opened: bool, redact: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.pages = 0
        self.redact = Redactor.from_environ(os.environ, extra=redact).redact
        self.environment = environment(opened=opened, redact=self.redact)

    def page(self, path: str, template: str, **values: Any) -> None:
        """Write one page at ``path`` below the folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        html = self.environment.get_template(template).render(
            path=path, root="../" * path.count("/"), **values
        )
        file.write_text(html, encoding="utf-8", errors="replace", newline="\n")
        self.pages += 1

    def static(self) -> None:
        """Copy the style sheet and whatever else is the same in every report."""
        source = resources.files("skill_ratchet").joinpath("templates/report/static")
        with resources.as_file(source) as there:
            shutil.copytree(there, self.folder / "static", copy_function=shutil.copyfile)

    def experiment(self, one: ExperimentPage, *, skill_url: str) -> None:
        """An experiment's page."""
        trials = {"screen": one.screen, "confirm": one.confirm}
        drawn = {
            name: charts.evidence(trial)
            for name, trial in trials.items()
            if trial and len(trial.sweeps) >= FEWEST_SWEEPS
        }
        self.page(one.point.url, "experiment.html", one=one, charts=drawn, skill_url=skill_url)

    def cases(
        self, skill: Skill, cases: Sequence[CaseHistory], *, advance: Callable[[], None]
    ) -> None:
        """The list of train cases, and a page for each; ``advance`` is called for each."""
        self.page(skill.fixtures_url, "cases.html", skill=skill, cases=cases)
        for case in cases:
            drawn = charts.case(case) if len(case.versions) >= FEWEST_VERSIONS else ""
            self.page(case.url, "case.html", skill=skill, case=case, chart=drawn)
            advance()

    def skill(self, skill: Skill, *, alone: bool) -> None:
        """A skill's page, and the whole list of its experiments."""
        drawn = {}
        if any(point.train for point in skill.points):
            drawn["scores"] = charts.scores(skill.points)
        if skill.points:
            drawn["calls"] = charts.spend(skill.points, dollars=False)
        if skill.by_experiments.usd:
            drawn["dollars"] = charts.spend(skill.points, dollars=True)
        values = {"skill": skill, "alone": alone, "charts": drawn}
        newest = skill.points[: -NEWEST - 1 : -1]
        self.page(skill.url, "skill.html", newest=newest, thinned=_thinned(skill), **values)
        lists = list(_listed(skill))
        urls = [url for url, _ in lists]
        for url, points in lists:
            self.page(url, "experiments.html", skill=skill, points=points, urls=urls)

    def index(self, skills: Sequence[Skill]) -> None:
        """The page of all skills."""
        drawn = {
            one.name: charts.scores(one.points)
            for one in skills
            if any(p.train for p in one.points)
        }
        small = drawn if sum(map(len, drawn.values())) < charts.ROOM else {}
        self.page("index.html", "index.html", skills=skills, charts=small)


def _thinned(skill: Skill) -> bool:
    return len(charts.thinned(skill.points)) < len(skill.points)


def _listed(skill: Skill) -> Iterator[tuple[str, Sequence[ExperimentEntry]]]:
    """The pages of the list of experiments, newest first: their URLs and what is on them."""
    newest = skill.points[::-1]
    for number, start in enumerate(range(0, len(newest) or 1, ROWS), 1):
        mark = f"-{number}" if number > 1 else ""
        url = skill.experiments_url.replace(".html", f"{mark}.html")
        yield url, newest[start : start + ROWS]


def environment(*, opened: bool, redact: Callable[[str], str]) -> Environment:
    """The templates, with what every page needs."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra
        from markupsafe import Markup, escape  # noqa: PLC0415
    except ImportError as error:
        raise charts.missing("jinja2") from error

    def fresh(text: str) -> Markup:
        return escape(markdown.clean(redact(text)))

    safe = lru_cache(maxsize=KEPT_TEXTS)(fresh)  # names and numbers come again and again

    def shown(value: object) -> object:
        """Text of any origin: no secret, every character visible. What is markup already, is."""
        return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    def traces(runs: Sequence[Rollout], root: str, what: str) -> Markup:
        """Links to the traces of runs; a page has hundreds of them."""
        made = []
        for number, run in enumerate(runs, 1):
            score = safe(wording.percent(run.score))
            label = fresh(f"trace of {what}, run {number}")
            link = f'<a href="{fresh(f"{root}{run.url}")}" aria-label="{label}">{score}</a>'
            made.append(link if run.url else score)
        return Markup(" ".join(made) or "\N{EN DASH}")  # noqa: S704 - each part is escaped above

    made = Environment(
        loader=PackageLoader("skill_ratchet", "templates/report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "arrow": wording.arrow,
        "dollars": wording.dollars,
        "duration": wording.duration,
        "growth": wording.growth,
        "odds": wording.odds,
        "one_line": wording.one_line,
        "percent": wording.percent,
        "points": _points,
        "traces": traces,
        "svg": Markup,  # what Vega drew of our own numbers
        "when": wording.moment,
    }
    made.globals |= {
        "opened": opened,
        "policy": NO_SCRIPT,
        "script_policy": OWN_SCRIPT,
        "transfers": transfer,  # how it is told
        "version": __version__,
    }
    return made


def _points(gain: float | None) -> str:
    """A difference of scores in [-1, 1] as signed points; a dash when there is none."""
    return wording.points(None if gain is None else 100 * gain)
