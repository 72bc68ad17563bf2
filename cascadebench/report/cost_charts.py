"""What accuracy costs: AP against parameters, FLOPs and time."""

from typing import Any

import altair as alt
import pandas as pd

from cascadebench.report.cells import Spread
from cascadebench.report.charts import Figure, Panel, panel
from cascadebench.report.collect import Detector, StudyResults
from cascadebench.report.intervals import Ends, Key, interval_of, known_intervals

# Column of cost.csv, title of the axis, factor.
COSTS = (
    ("parameters", "Parameters, M", 1e-6),
    ("flops", "FLOPs, G", 1e-9),
    ("seconds_per_image", "Test time, s per image", 1.0),
)
_SHAPES = ["circle", "square", "triangle-up", "diamond"]


def _point(
    results: StudyResults, detector: Detector, column: str, factor: float, known: dict[Key, Ends]
) -> dict[str, Any] | None:
    """AP and one cost of a detector, means over its seeds; None where one of them is missing."""
    ap = Spread.of(detector.by_seed(results.headline_rows, "AP")).mean
    cost = Spread.of(detector.by_seed(results.rows("cost"), column)).mean
    if ap is None or cost is None:
        return None
    low, high = interval_of(known, detector, "AP", test_stage=detector.headline) or (ap, ap)
    several = len(results.study.file.backbones) > 1
    return {
        "label": detector.label,
        "name": f"{detector.label}, {detector.backbone}" if several else detector.label,
        "framework": detector.framework_title,
        "cost": float(f"{factor * cost:.5g}"),
    } | {key: round(100 * value, 2) for key, value in (("value", ap), ("low", low), ("high", high))}


def cost_figure(results: StudyResults) -> Figure:
    """AP against each cost: colour by detector, shape by framework, the detector's name beside its best point."""
    known, panels, intervals = known_intervals(results), [], False
    for column, title, factor in COSTS:
        points = [_point(results, detector, column, factor, known) for detector in results.detectors]
        data = pd.DataFrame([point for point in points if point])
        if len(data):
            intervals |= bool((data["low"] < data["high"]).any())
            panels.append(_panel(f"cost-accuracy-{len(panels) + 1}", title, data, results.labels))
    caption = "AP × 100 of the headline test stage against its cost; up and to the left is better."
    if intervals:
        caption += " Vertical lines are 95% intervals."
    return Figure("cost-accuracy", caption, "cost-values", tuple(panels), whole=False)


def _panel(identifier: str, title: str, data: pd.DataFrame, labels: list[str]) -> Panel:
    frameworks = list(dict.fromkeys(data["framework"]))
    shapes = [_SHAPES[place % len(_SHAPES)] for place in range(len(frameworks))]
    cost = data["cost"]
    margin = 0.08 * float(cost.max() - cost.min()) or 0.1 * float(cost.max())
    ends = [max(0.0, float(cost.min()) - margin), float(cost.max()) + margin]
    base = alt.Chart(data).encode(
        x=alt.X(
            "cost:Q", title=title, scale=alt.Scale(domain=ends, nice=False, zero=False), axis=alt.Axis(tickCount=5)
        ),
        color=alt.Color("label:N", scale=alt.Scale(domain=labels), legend=None),
    )
    scale = alt.Scale(zero=False, nice=True)
    y = alt.Y("value:Q", title="AP × 100", scale=scale)
    shape = alt.Shape(
        "framework:N",
        scale=alt.Scale(domain=frameworks, range=shapes),
        # A grey that shows on light and on dark: colours belong to the detectors.
        legend=alt.Legend(symbolFillColor="#8a929b", symbolStrokeColor="#8a929b") if len(frameworks) > 1 else None,
    )
    tooltip = [
        alt.Tooltip("name:N", title="Detector"),
        alt.Tooltip("framework:N", title="Framework"),
        alt.Tooltip("cost:Q", title=title),
        alt.Tooltip("value:Q", title="AP × 100", format=".1f"),
    ]
    best = data.loc[data.groupby("name", sort=False)["value"].idxmax()]
    # A name has its room on the side of the middle.
    right = best["cost"] > (cost.min() + cost.max()) / 2
    names = [
        base.properties(data=part).mark_text(align=align, dx=dx, fontSize=11, limit=120).encode(y=y, text="name:N")
        for part, align, dx in ((best[~right], "left", 8), (best[right], "right", -8))
        if len(part)
    ]
    chart = alt.layer(
        base.mark_rule(strokeWidth=1, opacity=0.45).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, shape=shape, tooltip=tooltip),
        *names,
    )
    description = f"AP times 100 against {title.lower()}, one point per detector and framework."
    return panel(identifier, title, description, chart, height=240)
