"""The charts, drawn as SVG by Vega-Lite; their colours are variables of the page's style sheet.

Every chart's data are numbers and words of this program: no text of a model or a person is in an
SVG. A mark's shape or dash says what its colour says.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from skill_ratchet.base.errors import RatchetError
from skill_ratchet.core import wording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill_ratchet.report.site.views import CaseHistory, ExperimentEntry, Trial

HINT: Final = "pip install 'skill-ratchet[report]'"
VEGALITE: Final = "5.21"  # as it is called by vl-convert; another draws another chart
WIDTH: Final = 640
MOST: Final = 400  # points that are not kept experiments; of more, evenly chosen ones are drawn
FEW: Final = 12  # steps of an axis
ROOM: Final = 400_000  # characters of charts on the page of all skills
_SMALL: Final = 420
_OUTCOMES: Final = ("kept", "reverted", "waiting", "under way", "discarded")
_SHAPES: Final = ("circle", "diamond", "triangle-up", "square", "M-1,-1L1,1M-1,1L1,-1")
_INK: Final = ("var(--kept)", "var(--reverted)", "var(--waiting)", "var(--waiting)", "var(--faint)")
_FILL: Final = (_INK[0], *["transparent"] * 4)
_KINDS: Final = ("shape", "stroke", "fill")
_HEAD = re.compile(r"<svg ([^>]*?)width=\"[\d.]+\" height=\"[\d.]+\" ")


def scores(points: Sequence[ExperimentEntry]) -> str:
    """Score of each experiment's candidate on train, by outcome, with the running best.

    The line begins one step before the first experiment, at the skill it found.
    """
    drawn = [
        {"n": one.number, "score": round(one.train[1], 4), "outcome": one.outcome}
        for one in thinned(points)
        if one.train
    ]
    best = [{"n": one.number, "best": round(one.best, 4)} for one in points if one.best is not None]
    first = next((one for one in points if one.train), None)
    if first and first.train:
        best.insert(0, {"n": first.number - 1, "best": round(first.train[0], 4)})
    return _draw("scores", points=drawn, best=_corners(best, "best"))


def spend(points: Sequence[ExperimentEntry], *, dollars: bool) -> str:
    """What was spent up to each experiment: dollars, or calls."""
    rows = [
        {"n": one.number, "sum": round(one.total_usd, 6) if dollars else one.total_calls}
        for one in points
    ]
    return _draw("dollars" if dollars else "calls", points=_corners(rows, "sum"))


def evidence(trial: Trial) -> str:
    """Evidence at the end of each sweep as odds, on a logarithmic scale, against the bar."""
    log_bar = trial.log_bar or 0.0
    path = [{"sweep": 0, "odds": 1.0}]
    path += [{"sweep": one.number, "odds": _odds(one.log_e)} for one in trial.sweeps]
    return _draw("evidence", points=path, bar=[{"bar": _odds(log_bar)}])


def case(one: CaseHistory) -> str:
    """Mean score of every text of the skill on one case, with the lowest and highest."""
    rows = [
        {
            "n": version.number or 0,
            "score": round(version.mean, 4),
            "low": round(version.low, 4),
            "high": round(version.high, 4),
            "outcome": "in the skill" if version.used else "candidate only",
        }
        for version in _some(one.versions, MOST)
    ]
    return _draw("case", points=rows)


def thinned(points: Sequence[ExperimentEntry]) -> list[ExperimentEntry]:
    """What is drawn: every experiment that was kept or taken out, and of the others some."""
    rest = [one for one in points if one.outcome not in ("kept", "reverted")]
    some = {id(one) for one in _some(rest, MOST)}
    return [one for one in points if one.outcome in ("kept", "reverted") or id(one) in some]


def _some(rows: Sequence[Any], most: int) -> list[Any]:
    """At most so many rows, evenly chosen, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(at * (len(rows) - 1) / (most - 1))] for at in range(most)]


def _corners(rows: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """A line's points without those between two equal ones, or evenly fewer of a rising line."""
    kept = [
        row
        for at, row in enumerate(rows)
        if at in (0, len(rows) - 1)
        or rows[at - 1][key] != row[key]
        or rows[at + 1][key] != row[key]
    ]
    return _some(kept, MOST)


def _odds(log_e: float) -> float:
    return float(f"{math.exp(min(log_e, wording.MOST_LOG)):.6g}")


# Vega-Lite --------------------------------------------------------------------------------------


def _draw(name: str, **data: Sequence[dict[str, Any]]) -> str:
    """One chart as an ``svg`` element without a fixed size."""
    vega = json.loads(_compiled(name))
    for source in vega["data"]:
        if source["name"] in data:
            source["values"] = data[source["name"]]
    there = {row.get("outcome") for rows in data.values() for row in rows}
    for scale in vega["scales"]:
        if scale["name"] in _KINDS:  # the legend names what is there, and nothing else
            kinds = zip(scale["domain"], scale["range"], strict=True)
            some = [kind for kind in kinds if kind[0] in there]
            scale["domain"], scale["range"] = (
                map(list, zip(*some, strict=True)) if some else ([], [])
            )
    _whole_steps(vega["axes"], [*data["points"], *data.get("best", ())])
    drawn: str = _library().vega_to_svg(vega)
    return _HEAD.sub(r"<svg \1", drawn, count=1)


def _whole_steps(axes: Sequence[dict[str, Any]], points: Sequence[dict[str, Any]]) -> None:
    """Of a few experiments or sweeps each has its tick; there is none between two of them."""
    steps = [int(row["sweep"] if "sweep" in row else row["n"]) for row in points]
    if steps and max(steps) - min(steps) <= FEW:
        for axis in axes:
            if axis["scale"] == "x":
                axis["values"] = list(range(min(steps), max(steps) + 1))


def _library() -> Any:
    try:
        import vl_convert  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        raise missing("vl-convert-python") from error
    return vl_convert


def missing(library: str) -> RatchetError:
    """The error for a library of the extra that is not installed."""
    return RatchetError(f"'ratchet report' needs {library}, which is not installed.", hint=HINT)


@cache
def _compiled(name: str) -> str:
    """A chart's Vega, made once: Vega-Lite takes longer than drawing."""
    return json.dumps(_library().vegalite_to_vega(_SPECS[name](), vl_version=VEGALITE))


def _spec(layers: list[dict[str, Any]], *, width: int = WIDTH, height: int = 220) -> dict[str, Any]:
    names = sorted({layer["data"]["name"] for layer in layers})
    axis = {
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--grid)",
        "labelColor": "var(--text)",
        "titleColor": "var(--text)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
    }
    legend = {
        "orient": "top",
        "title": None,
        "labelColor": "var(--text)",
        "labelFontSize": 12,
        "symbolStrokeWidth": 1.5,
    }
    return {
        "width": width,
        "height": height,
        "background": None,
        "datasets": {name: [] for name in names},
        "layer": layers,
        "config": {
            "aria": False,  # the page describes the chart, and has its data as a table
            "font": "system-ui, sans-serif",
            "view": {"stroke": None},
            "axis": axis,
            "legend": legend,
        },
    }


def _layer(mark: dict[str, Any], data: str, **encoding: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"name": data}, "mark": mark, "encoding": encoding}


def _x(field: str, title: str) -> dict[str, Any]:
    axis = {"format": "d", "tickMinStep": 1, "grid": False, "title": title}
    scale = {"zero": False, "nice": False, "padding": 10}
    return {"field": field, "type": "quantitative", "axis": axis, "scale": scale}


def _y(field: str, title: str, form: str, **scale: Any) -> dict[str, Any]:
    axis = {"format": form, "title": title, "tickCount": 5}
    return {"field": field, "type": "quantitative", "axis": axis, "scale": scale}


def _marked(names: Sequence[str], *looks: Sequence[str]) -> dict[str, Any]:
    """The encoding of a kind of point by shape, stroke and fill."""
    base = {"field": "outcome", "type": "nominal"}
    return {
        kind: base | {"scale": {"domain": list(names), "range": list(look)}}
        for kind, look in zip(_KINDS, looks, strict=True)
    }


def _scores() -> dict[str, Any]:
    x = _x("n", "experiment (0: before the first)")
    y = _y("score", "score on train", ".0%", zero=False, nice=True)
    best = {"type": "line", "interpolate": "step-after", "color": "var(--kept)", "strokeWidth": 2}
    point = {"type": "point", "strokeWidth": 1.6, "size": 60, "opacity": 1}
    return _spec(
        [
            _layer(best, "best", x=x, y=y | {"field": "best"}),
            _layer(point, "points", x=x, y=y, **_marked(_OUTCOMES, _SHAPES, _INK, _FILL)),
        ]
    )


def _sum(title: str, form: str) -> dict[str, Any]:
    line = {"type": "line", "color": "var(--accent)", "strokeWidth": 2, "interpolate": "step-after"}
    y = _y("sum", title, form, zero=True)
    return _spec([_layer(line, "points", x=_x("n", "experiment"), y=y)], width=_SMALL, height=140)


def _evidence() -> dict[str, Any]:
    x = _x("sweep", "sweep")
    y = _y("odds", "evidence, as odds to 1", "~g", type="log")
    y["axis"]["grid"] = False  # there would be nine lines for every power of ten
    line = {
        "type": "line",
        "color": "var(--accent)",
        "strokeWidth": 2,
        "point": {"color": "var(--accent)"},
    }
    bar = {"type": "rule", "color": "var(--reverted)", "strokeWidth": 2, "strokeDash": [6, 4]}
    label = {
        "type": "text",
        "align": "left",  # evidence begins below it
        "baseline": "bottom",
        "x": 0,
        "dx": 14,
        "dy": -3,
        "fontSize": 12,
        "color": "var(--text)",
        "text": "the bar",
    }
    return _spec(
        [
            _layer(line, "points", x=x, y=y),
            _layer(bar, "bar", y=y | {"field": "bar"}),
            _layer(label, "bar", y=y | {"field": "bar"}),
        ],
        width=_SMALL,
        height=180,
    )


def _case() -> dict[str, Any]:
    x = _x("n", "experiment that made the text (0: the first)")
    y = _y("score", "score", ".0%", domain=[0, 1])
    span = {"type": "rule", "color": "var(--faint)", "strokeWidth": 1.5}
    point = {"type": "point", "strokeWidth": 1.6, "size": 60, "opacity": 1}
    kinds = _marked(
        ("in the skill", "candidate only"),
        (_SHAPES[0], _SHAPES[-1]),
        ("var(--kept)", "var(--faint)"),
        ("var(--kept)", "transparent"),
    )
    low, high = y | {"field": "low"}, {"field": "high"}
    return _spec(
        [
            _layer(span, "points", x=x, y=low, y2=high),
            _layer(point, "points", x=x, y=y, **kinds),
        ],
        height=160,
    )


_SPECS: Final = {
    "scores": _scores,
    "dollars": lambda: _sum("dollars", "$~r"),
    "calls": lambda: _sum("model calls", "~s"),
    "evidence": _evidence,
    "case": _case,
}
