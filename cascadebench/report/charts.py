"""Charts as Vega-Lite specifications. Colours and fonts come from a theme that the page chooses: light or dark."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from cascadebench.report.collect import AP_BY_IOU, IOU_PERCENTS, StudyResults

POINTS_PER_CURVE, POINTS_PER_FIGURE = 200, 6000
"""Longer training logs are thinned to this: a report must stay light in the browser."""

# Okabe and Ito's colours, told apart with any colour vision; every variant has a dash and a shape of its own as well.
_SERIES = {
    "light": ["#7d8791", "#0072b2", "#c44e00", "#007d5a", "#a8478a", "#8a6a00", "#2f8fc4"],
    "dark": ["#b4bcc6", "#56b4e9", "#ee8a45", "#2fc39a", "#e08fc4", "#e3b53a", "#9fd3f5"],
}
_DASHES = [[1, 0], [1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4], [12, 3]]
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke"]
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
class Panel:
    """One chart: its id in the page and its specification."""

    id: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """Charts side by side under one caption; `see` names the table with the same values, if not `whole` a summary."""

    id: str
    caption: str
    see: str
    panels: tuple[Panel, ...]
    whole: bool = True


class Encodings:
    """Colour, dash and shape of every label, the same in all charts; the legend names those `shown`.

    Parameters
    ----------
    labels : list of str
        The baseline first: it is grey.
    shown : Series of str
    dashes : list of list of int, optional
        Dash of every label, in place of the usual ones.
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


def panel(identifier: str, title: str, description: str, chart: alt.LayerChart | alt.Chart, height: int = 260) -> Panel:
    """Finish a chart: as wide as its place, without a theme of its own."""
    chart = chart.properties(width="container", height=height, title=title, description=description)
    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict()
    spec.pop("config", None)
    return Panel(identifier, spec)


def _iou_axis() -> alt.X:
    scale = alt.Scale(domain=[0.48, 0.97], nice=False)
    return alt.X(
        "iou:Q", scale=scale, title="IoU threshold", axis=alt.Axis(values=[0.5, 0.6, 0.7, 0.8, 0.9], format=".1f")
    )


def _curves(data: pd.DataFrame, encodings: Encodings, value: str, domain: list[float]) -> alt.LayerChart:
    """Lines with points over the IoU, a band from the smallest to the largest seed where there are several."""
    y = alt.Y("value:Q", title=value, scale=alt.Scale(domain=domain, nice=True))
    tooltip = [
        alt.Tooltip("label:N", title="Detector"),
        alt.Tooltip("iou:Q", title="IoU", format=".2f"),
        alt.Tooltip("value:Q", title=value, format=".2f"),
        alt.Tooltip("seeds:Q", title="Seeds"),
    ]
    base = alt.Chart(data).encode(x=_iou_axis(), color=encodings.color, tooltip=tooltip)
    line = base.mark_line().encode(y=y, strokeDash=encodings.dash)
    marks = base.mark_point(filled=True, size=45, opacity=1).encode(y=y, shape=encodings.shape)
    if (data["seeds"] > 1).any() or data["interval"].any():
        band = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=value), y2="high:Q")
        return alt.layer(band, line, marks)
    return alt.layer(line, marks)


def _over_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean, smallest and largest value over the seeds at every IoU threshold."""
    data = pd.DataFrame(rows, columns=["panel", "facet", "label", "iou", "value"]).dropna(subset=["value"])
    grouped = data.groupby(["panel", "facet", "label", "iou"], sort=False)["value"]
    summary = grouped.agg(value="mean", low="min", high="max", seeds="count").reset_index()
    return summary.round({"value": 3, "low": 3, "high": 3})


def _with_intervals(data: pd.DataFrame, results: StudyResults, gap_of_facet: Mapping[str, str]) -> pd.DataFrame:
    """Bands that are 95% intervals in place of the range of the seeds, where ``intervals.csv`` has them.

    Parameters
    ----------
    gap_of_facet : mapping of str to str
        Name of the gap by the facet; empty: headline test stages are drawn.
    """
    detectors = {(title, one.label): one for title, group in results.panels_with_imported() for one in group}
    words = ["label", "framework", "backbone", "test_stage", "gap", "quantity"]
    known = {tuple(row[name] for name in words): row for row in results.tables["intervals"].to_dict("records")}
    data = data.astype({"low": float, "high": float}).assign(interval=False)
    for place, row in data.iterrows():
        detector = detectors[row["panel"], row["label"]]
        run = detector.runs[0].run
        stage, gap = ("", gap_of_facet[row["facet"]]) if gap_of_facet else (detector.headline, "")
        quantity = f"AP{round(row['iou'] * 100)}"
        found = known.get((detector.label, run.framework, run.backbone.name, stage, gap, quantity))
        if found and not math.isnan(found["low"]):
            data.loc[place, ["low", "high"]] = round(100 * found["low"], 3), round(100 * found["high"], 3)
            data.loc[place, "interval"] = True
    return data


def _band_words(data: pd.DataFrame) -> str:
    """What the band around a line is."""
    if data["interval"].any():
        return " Bands are 95% intervals from resamples of the images, and of the seeds where there are several."
    return " Bands go from the lowest seed to the highest." if (data["seeds"] > 1).any() else ""


def _domain(data: pd.DataFrame) -> list[float]:
    """One range of values for all panels of a figure, with zero in it, so that they can be compared by eye."""
    low, high = min(float(data["low"].min()), 0), max(float(data["high"].max()), 0)
    margin = max(0.05 * (high - low), 0.5)
    return [low - margin if low < 0 else 0, high + margin]


def ap_figure(results: StudyResults) -> Figure:
    """AP at every IoU threshold, one panel per framework."""
    rows = [
        {"panel": title, "facet": "", "label": detector.label, "iou": percent / 100, "value": 100 * value}
        for title, detectors in results.panels_with_imported()
        for detector in detectors
        for name, percent in zip(AP_BY_IOU, IOU_PERCENTS, strict=True)
        for value in detector.by_seed(results.headline_rows, name).values()
    ]
    data, panels = _with_intervals(_over_seeds(rows), results, {}), []
    for title, part in data.groupby("panel", sort=False):
        encodings = Encodings(results.all_labels, part["label"])
        description = f"{title}: AP times 100 at IoU thresholds from 0.50 to 0.95, one line per detector."
        chart = _curves(part, encodings, "AP × 100", _domain(data))
        panels.append(panel(f"ap-by-iou-{len(panels) + 1}", title, description, chart))
    caption = "Headline test stage. The scale is the same in all panels." + _band_words(data)
    return Figure("ap-by-iou", caption, "headline", tuple(panels))


_LAST_STAGE_GAP = re.compile(r"stage (\d+) - (?:baseline|stage (\d+))")


def _gap_title(results: StudyResults, gap: str, stages: int) -> str | None:
    """Title of a gap that is drawn: the last stage against the baseline and against the stage before; else None."""
    match = _LAST_STAGE_GAP.fullmatch(gap)
    if not match or int(match[1]) != stages or (match[2] and int(match[2]) != stages - 1):
        return None
    return gap.replace(" - ", " − ").replace("baseline", results.baseline)


def gap_figure(results: StudyResults) -> Figure:
    """Gaps of the last stage at every IoU threshold, one panel per gap and framework."""
    gaps = {str(run): rows for run, rows in results.tables["gaps"].groupby("run", sort=False)}
    rows = [
        {"panel": title, "facet": facet, "label": d.label, "iou": row["iou"], "value": 100 * row["gap_ap"]}
        for title, detectors in results.panels()
        for d in detectors
        for record in d.runs
        if record.run.id in gaps
        for row in gaps[record.run.id].to_dict("records")
        if (facet := _gap_title(results, row["gap"], record.run.variant.stages))
    ]
    names = {
        _gap_title(results, row["gap"], record.run.variant.stages): row["gap"]
        for record in results.runs
        if record.run.id in gaps
        for row in gaps[record.run.id].to_dict("records")
    }
    data, panels = _with_intervals(_over_seeds(rows), results, names), []
    encodings = Encodings(results.labels, data["label"])
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule().encode(y="zero:Q")
    # Sorted by gap, the frameworks stand beside each other.
    for (facet, title), part in sorted(data.groupby(["facet", "panel"], sort=False), key=lambda item: item[0][0]):
        description = f"{title}, {facet}: difference of AP times 100 at IoU thresholds from 0.50 to 0.95."
        chart = alt.layer(zero, _curves(part, encodings, "Difference of AP × 100", _domain(data)))
        panels.append(panel(f"gaps-by-iou-{len(panels) + 1}", f"{title}: {facet}", description, chart, height=220))
    caption = "Above the zero line the last stage is better. The scale is the same in all panels."
    caption += _band_words(data)
    return Figure("gaps-by-iou", caption, "gap-values", tuple(panels))


def _thinned(log: pd.DataFrame, value: str, every: int) -> pd.DataFrame:
    """One point for `every` iterations of a training log: the mean of the losses, the first of the learning rates."""
    points = log.groupby(log["iteration"] // every)
    return points.agg(iteration=("iteration", "first"), value=(value, "mean" if value == "loss" else "first"))


def _iterations_per_point(results: StudyResults) -> int:
    points = max(20, min(POINTS_PER_CURVE, POINTS_PER_FIGURE // max(1, len(results.runs))))
    return -(-results.study.protocol.schedule.iterations // points)


def _training_curves(results: StudyResults, value: str, axis: str, widths: tuple[float, float]) -> tuple[Panel, ...]:
    """One panel per framework with a line per run, as wide as `widths` for the first and for the last variant."""
    panels = []
    every, labels = _iterations_per_point(results), results.labels
    step = (widths[1] - widths[0]) / max(1, len(labels) - 1)
    width_scale = alt.Scale(
        type="ordinal", domain=labels, range=[round(widths[0] + step * i, 2) for i in range(len(labels))]
    )
    for title, detectors in results.panels():
        logs = [
            _thinned(record.log, value, every).assign(label=detector.label, seed=record.run.seed)
            for detector in detectors
            for record in detector.runs
            if len(record.log)
        ]
        if not logs:
            continue
        data = pd.concat(logs, ignore_index=True)
        data["value"] = data["value"].map(lambda number: float(f"{number:.4g}"))
        encodings = Encodings(labels, data["label"])
        tooltip = [
            alt.Tooltip("label:N", title="Detector"),
            alt.Tooltip("seed:N", title="Seed"),
            alt.Tooltip("iteration:Q", title="Iteration"),
            alt.Tooltip("value:Q", title=axis),
        ]
        x = alt.X("iteration:Q", title="Iteration", axis=alt.Axis(tickCount=6, format="~s"))
        y = alt.Y("value:Q", title=axis, scale=alt.Scale(zero=True))
        width = alt.StrokeWidth("label:O", scale=width_scale, legend=encodings.legend)
        common = {"color": encodings.color, "strokeDash": encodings.dash, "strokeWidth": width, "detail": "seed:N"}
        chart = alt.Chart(data).mark_line().encode(x=x, y=y, tooltip=tooltip, **common)
        description = f"{title}: {axis.lower()} over the iterations of the training, one line per run."
        panels.append(panel(f"training-{value}-{len(panels) + 1}", title, description, chart, height=200))
    return tuple(panels)


def loss_figure(results: StudyResults) -> Figure:
    """Total training loss of every run."""
    every = _iterations_per_point(results)
    caption = f"Total loss of every run, each point the mean of {every} iterations." if every > 1 else "Total loss."
    return Figure("training-loss", caption, "training-ends", _training_curves(results, "loss", "Loss", (1.5, 1.5)))


def learning_rate_figure(results: StudyResults) -> Figure:
    """Learning rate that every run's optimizer used."""
    caption = "Learning rate as the optimizer used it. Lines that coincide are drawn over each other, the widest first."
    panels = _training_curves(results, "lr", "Learning rate", (5, 1.5))
    return Figure("learning-rate", caption, "training-ends", panels)
