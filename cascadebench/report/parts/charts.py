"""Charts as Vega-Lite specifications. Colours and fonts come from a theme that the page chooses: light or dark."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pandas as pd

# Okabe and Ito's colours, told apart with any colour vision; every variant has a dash and a shape of its own as well.
_SERIES = {
    "light": ["#7d8791", "#0072b2", "#c44e00", "#007d5a", "#a8478a", "#8a6a00", "#2f8fc4"],
    "dark": ["#b4bcc6", "#56b4e9", "#ee8a45", "#2fc39a", "#e08fc4", "#e3b53a", "#9fd3f5"],
}
_DASHES = [[1, 0], [1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4], [12, 3]]
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke"]
_AROUND = 98
"""Pixels of height for a chart's title, axis and two rows of legend."""
ALL_SEEDS = "all"
"""Choice of the seed that shows the means."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def _theme(name: str, background: str, text: str, muted: str, grid: str) -> dict[str, Any]:
    """Configuration of all charts for one colour scheme."""
    labels = {
        "labelColor": muted,
        "titleColor": muted,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": 400,
    }
    return {
        "background": background,
        "font": _FONT,
        "view": {"stroke": None},
        "title": {"color": text, "anchor": "start", "fontSize": 13, "fontWeight": 600, "offset": 8},
        "axis": labels | {"gridColor": grid, "domain": False, "ticks": False, "labelPadding": 6, "titlePadding": 8},
        "legend": {
            "orient": "top",
            "title": None,
            "labelColor": text,
            "labelFontSize": 12,
            "labelLimit": 260,
            "symbolSize": 70,
            "symbolStrokeWidth": 2,
            "symbolOpacity": 1,
        },
        "rule": {"color": text, "strokeWidth": 1},
        "range": {"category": _SERIES[name]},
    }


THEMES = {
    "light": _theme("light", "#ffffff", "#1c2127", "#59636e", "#e6e9ed"),
    "dark": _theme("dark", "#14171b", "#e4e7eb", "#a1aab5", "#2a3038"),
}


@dataclass(frozen=True)
class Drawing:
    """A chart before it has an id: `height` is of what it shows, `shows` what that is by what a reader can choose."""

    title: str
    description: str
    chart: alt.LayerChart | alt.Chart
    height: int = 260
    shows: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """One chart: its id in the page, its specification, and what it shows by the name of what a reader can choose."""

    id: str
    spec: dict[str, Any]
    shows: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """Charts side by side under one caption; `see` names the table with the same values, if not `whole` a summary.

    With `seeds`, its charts have a parameter of the name ``seed``: one of these, each with its words.
    """

    id: str
    caption: str
    see: str
    panels: tuple[Panel, ...]
    whole: bool = True
    seeds: dict[str, str] = field(default_factory=dict)

    @property
    def choices(self) -> dict[str, list[str]]:
        """What a reader can choose among the panels: everything in which they differ."""
        names = dict.fromkeys(name for panel in self.panels for name in panel.shows)
        shown = {name: list(dict.fromkeys(panel.shows.get(name, "") for panel in self.panels)) for name in names}
        return {name: values for name, values in shown.items() if len(values) > 1}


class Encodings:
    """Colour, dash and shape of every label, the same in all charts; the legend names those `shown`.

    The first label is the baseline: it is grey. `dashes` are those of every label, in place of the usual ones.
    """

    def __init__(self, labels: list[str], shown: pd.Series, dashes: list[list[int]] | None = None) -> None:
        named = [label for label in labels if label in set(shown)]
        short = all(len(label) <= 12 for label in named)
        self.legend = legend = alt.Legend(values=named, columns=4 if short else 2)
        repeat = -(-len(labels) // len(_DASHES))
        self.color = alt.Color("label:N", scale=alt.Scale(domain=labels), legend=legend)
        dashes, shapes = dashes or (_DASHES * repeat)[: len(labels)], (_SHAPES * repeat)[: len(labels)]
        self.dash = alt.StrokeDash("label:N", scale=alt.Scale(domain=labels, range=dashes), legend=legend)
        self.shape = alt.Shape("label:N", scale=alt.Scale(domain=labels, range=shapes), legend=legend)


def tooltips(*fields: tuple[str, ...]) -> list[alt.Tooltip]:
    """What a mark says of itself: a field, its title, and how its number is written, if not as it is."""
    return [alt.Tooltip(field, title=title, **({"format": more[0]} if more else {})) for field, title, *more in fields]


def shaded_table(
    base: alt.Chart, tooltip: list[alt.Tooltip], shade: str, ends: Sequence[float], *, dark: float, size: int
) -> alt.LayerChart:
    """A table of the column `value` in which the column `shade` gives the colour of a cell: from `dark` on, one that
    needs white text.
    """
    color = alt.Color(f"{shade}:Q", scale=alt.Scale(scheme="blues", domain=list(ends)), legend=None)
    text = alt.condition(getattr(alt.datum, shade) > dark, alt.value("#ffffff"), alt.value("#1c2127"))
    cells = base.mark_rect().encode(color=color, tooltip=tooltip)
    return alt.layer(cells, base.mark_text(fontSize=size).encode(text=alt.Text("value:Q", format=".1f"), color=text))


def iou_axis() -> alt.X:
    """IoU thresholds from 0.50 to 0.95."""
    scale = alt.Scale(domain=[0.48, 0.97], nice=False)
    return alt.X(
        "iou:Q", scale=scale, title="IoU threshold", axis=alt.Axis(values=[0.5, 0.6, 0.7, 0.8, 0.9], format=".1f")
    )


def zero_line() -> alt.Chart:
    """The line at zero."""
    return alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule().encode(y="zero:Q")


def figure(
    identifier: str, caption: str, see: str, drawings: Iterable[Drawing], *, panels: str = "", **more: Any
) -> Figure:
    """Finish the charts of a figure; those of a figure ``recall`` are ``recall-1``, ``recall-2``, ...

    `panels` is the beginning of their ids, where that is not the figure's; `more` are further fields of the figure.
    """
    finished = (_panel(f"{panels or identifier}-{number}", one) for number, one in enumerate(drawings, start=1))
    return Figure(identifier, caption, see, tuple(finished), **more)


def _panel(identifier: str, drawing: Drawing) -> Panel:
    """Finish a chart: as wide as its place, without a theme of its own.

    The legend takes more rows where it is narrow; the whole stays as high as it was promised to be, so that nothing
    below moves when it is drawn, least of all a button that somebody is about to press.
    """
    fitted = alt.AutoSizeParams(type="fit", contains="padding")
    chart = drawing.chart.properties(
        width="container",
        height=drawing.height + _AROUND,
        autosize=fitted,
        title=drawing.title,
        description=drawing.description,
    )
    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict()
    spec.pop("config", None)
    # Empty values say nothing and make the page long.
    spec["datasets"] = {
        name: [{key: value for key, value in row.items() if value is not None} for row in rows]
        for name, rows in spec["datasets"].items()
    }
    return Panel(identifier, spec, drawing.shows)
