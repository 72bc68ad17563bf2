"""Cost: size, arithmetic, time and memory of every detector, with what sources print of them."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from cascadebench.evidence.comparability import Beside
from cascadebench.report.data.study_results import DetectorRecord, Rows, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Line, Row, Spread, Table, number, number_cell, points, scaled
from cascadebench.report.parts.charts import Drawing, Figure, figure, tooltips
from cascadebench.report.parts.detector_rows import detector_groups, mean_over_seeds, range_caption
from cascadebench.report.parts.printed_rows import printed_cost, printed_costs, printed_in
from cascadebench.report.parts.section import Section, has_runs

# Column of cost.csv, title of the axis, factor.
_AXES = (
    ("parameters", "Parameters, M", 1e-6),
    ("flops", "FLOPs, G", 1e-9),
    ("seconds_per_image", "Test time, s per image", 1.0),
)
# Where a name can stand: alignment to the point, and the way from it.
_SIDES = (
    ("left", "middle", 8, 0),
    ("right", "middle", -8, 0),
    ("center", "bottom", 0, -7),
    ("center", "top", 0, 7),
    ("left", "bottom", 4, -5),
    ("left", "top", 4, 5),
    ("right", "bottom", -4, -5),
    ("right", "top", -4, 5),
)
# Pixels of the narrowest chart, of a name's letters, and of a point.
_WIDTH, _HEIGHT, _NAME_WIDTH, _LETTER, _LINE, _POINT = 230, 240, 120, 6, 12, 10
_SHAPES = ["circle", "square", "triangle-up", "diamond"]
# Title, column of cost.csv, factor, decimals.
_COSTS = {
    "Parameters, M": ("parameters", 1e-6, 2),
    "Trainable, M": ("trainable_parameters", 1e-6, 2),
    "FLOPs, G": ("flops", 1e-9, 2),
    "Training, s/iteration": ("seconds_per_iteration", 1, 3),
    "Test, s/image": ("seconds_per_image", 1, 4),
    "Peak memory, MB": ("peak_memory_mb", 1, 0),
}
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _point(
    results: StudyResults, detector: DetectorRecord, costs: Rows, column: str, factor: float
) -> dict[str, Any] | None:
    """AP and one cost of a detector, means over its seeds; None where one of them is missing."""
    ap = mean_over_seeds(detector, results.headline_rows, "AP")
    cost = mean_over_seeds(detector, costs, column)
    if ap is None or cost is None:
        return None
    low, high = results.interval(detector, "AP", test_stage=detector.headline) or (ap, ap)
    return {
        "label": detector.label,
        "name": results.with_backbone(detector.label, detector.backbone),
        "framework": detector.framework_title,
        "cost": float(f"{factor * cost:.5g}"),
    } | {key: round(100 * value, 2) for key, value in (("value", ap), ("low", low), ("high", high))}


def cost_figure(results: StudyResults) -> Figure:
    """AP against each cost: colour by detector, shape by framework, the detector's name beside its best point."""
    costs, drawings, intervals = results.rows("cost"), [], False
    for column, title, factor in _AXES:
        points = [_point(results, detector, costs, column, factor) for detector in results.detectors]
        data = pd.DataFrame([point for point in points if point])
        if len(data):
            intervals |= bool((data["low"] < data["high"]).any())
            drawings.append(_drawing(title, data, results.labels))
    caption = "AP × 100 of the headline test stage against its cost; up and to the left is better."
    if intervals:
        caption += " Vertical lines are 95% intervals."
    return figure("cost-accuracy", caption, "cost-values", drawings, whole=False)


def _drawing(title: str, data: pd.DataFrame, labels: list[str]) -> Drawing:
    frameworks = list(dict.fromkeys(data["framework"]))
    shapes = [_SHAPES[number % len(_SHAPES)] for number in range(len(frameworks))]
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
    tooltip = tooltips(
        ("name:N", "Detector"), ("framework:N", "Framework"), ("cost:Q", title), ("value:Q", "AP × 100", ".1f")
    )
    names = [
        base.properties(data=part)
        .mark_text(align=align, baseline=baseline, dx=dx, dy=dy, fontSize=11, limit=_NAME_WIDTH)
        .encode(y=y, text="name:N")
        for (align, baseline, dx, dy), part in named_points(data, ends)
    ]
    chart = alt.layer(
        base.mark_rule(strokeWidth=1, opacity=0.45).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, shape=shape, tooltip=tooltip),
        *names,
    )
    description = f"AP times 100 against {title.lower()}, one point per detector and framework."
    return Drawing(title, description, chart, height=_HEIGHT)


def named_points(data: pd.DataFrame, ends: list[float]) -> list[tuple[tuple[str, str, int, int], pd.DataFrame]]:
    """The best points of all detectors by the side where their names cover least; those at the edges choose first."""
    low, high = float(data["low"].min()), float(data["high"].max())
    x = _WIDTH * (data["cost"] - ends[0]) / (ends[1] - ends[0])
    y = _HEIGHT * (high - data["value"]) / (high - low or 1)
    taken: list[Box] = [_box(*point, _POINT, _POINT, _SIDES[0][:2]) for point in zip(x - _POINT / 2, y, strict=True)]
    chosen: dict[tuple[str, str, int, int], list[int]] = {}
    best = data.groupby("name", sort=False)["value"].idxmax()
    for point in sorted(best, key=lambda point: -abs(x[point] - _WIDTH / 2)):
        width = min(_NAME_WIDTH, _LETTER * len(data.loc[point, "name"]))
        boxes = {side: _box(x[point] + side[2], y[point] + side[3], width, _LINE, side[:2]) for side in _SIDES}
        side = min(boxes, key=lambda side: _covered(boxes[side], taken))
        taken.append(boxes[side])
        chosen.setdefault(side, []).append(point)
    return [(side, data.loc[points]) for side, points in chosen.items()]


def _box(x: float, y: float, width: float, height: float, anchor: tuple[str, str]) -> Box:
    left = x - width * {"left": 0, "center": 0.5, "right": 1}[anchor[0]]
    top = y - height * {"top": 0, "middle": 0.5, "bottom": 1}[anchor[1]]
    return left, top, left + width, top + height


def _covered(box: Box, taken: list[Box]) -> float:
    """Area that a box shares with others, and more for what is cut off at the sides of the chart."""
    outside = max(-box[0], 0) + max(box[2] - _WIDTH, 0)
    return 4 * outside * _LINE + sum(_shared(box, other) for other in taken)


def _shared(first: Box, other: Box) -> float:
    width = min(first[2], other[2]) - max(first[0], other[0])
    height = min(first[3], other[3]) - max(first[1], other[1])
    return max(width, 0) * max(height, 0)


def cost_table(results: StudyResults) -> Table:
    """Size, arithmetic, time and memory of every detector, with the ratio to the baseline and what sources print."""
    costs = results.rows("cost")
    printed = {detector.runs[0].id: printed_costs(detector) for detector in results.detectors}

    def rows(detector: DetectorRecord, baseline: DetectorRecord | None) -> Iterator[Row]:
        beside = printed[detector.runs[0].id]
        cells = [_cost_cell(detector, baseline, costs, beside.get(name), name, *how) for name, *how in _COSTS.values()]
        devices = dict.fromkeys(costs.get((record.id,), {}).get("train_device") for record in detector.runs)
        cells.append(Cell(", ".join(device for device in devices if device) or points(None)))
        if any(printed.values()):
            sources = ((title, beside[name]) for title, (name, *_) in _COSTS.items() if name in beside)
            cells.append(Cell("", printed_in(sources)))
        yield Row(Cell(detector.label), tuple(cells))

    columns = [Column("Detector", kind="text"), *map(Column, _COSTS), Column("Trained on", kind="text")]
    caption = "Cost of each detector, and under each value its ratio to the baseline of the same framework."
    if any(printed.values()):
        columns.append(Column("Printed in", kind="text"))
        caption += (
            " Printed is the closest value of a source. Its parameters (those that learn) and FLOPs are counted; its "
            "times and memory are of its own GPU, batch and software, and no measure of these runs."
        )
    groups = detector_groups(results.panels(), rows) if costs else ()
    return Table("cost-values", caption + range_caption(results), tuple(columns), groups)


def _cost_cell(
    detector: DetectorRecord,
    baseline: DetectorRecord | None,
    costs: Rows,
    printed: Beside | None,
    name: str,
    scale: float,
    digits: int,
) -> Cell:
    ours = Spread.of(detector.by_seed(costs, name))
    theirs = mean_over_seeds(baseline, costs, name) if baseline else None
    notes = [ours.range_line(scale, digits)]
    if ours.mean and theirs:
        ratio = ours.mean / theirs
        notes.append(Line(f"×{ratio:.2f}", "muted", "ratio to the baseline", ratio))
    if printed is not None:
        value = printed_cost(printed)
        notes.append(Line(f"{number(value, scale, digits)} printed", "muted", "printed", scaled(value, scale)))
    return number_cell(ours.mean, scale, digits, tuple(line for line in notes if line.text))


def flops_input(results: StudyResults) -> str:
    """What the FLOPs were counted on."""
    for record in results.runs:
        counted = record.files["cost"].get("flops_input")
        if isinstance(counted, dict) and {"width", "height", "rois"} <= set(counted):
            return f"an image of {counted['width']} × {counted['height']} pixels with {counted['rois']} proposals"
    return "one image"


def build(results: StudyResults) -> dict[str, Any]:
    """AP against cost, and the table of costs."""
    return {"flops_input": flops_input(results), "accuracy": cost_figure(results), "costs": cost_table(results)}


SECTION = Section("cost", "Cost", build, needs=has_runs)
