"""Regressors and classifiers by the IoU of the RoIs that they are given."""

from collections.abc import Iterator
from functools import partial

import altair as alt
import pandas as pd

from cascadebench.diagnostics.boxes import IOU_BINS
from cascadebench.report.data.diagnostic_files import summed
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Row, Table, number_cell
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure
from cascadebench.report.parts.diagnostics.part import STAGES, Part, Values, groups, lines, over_iou, rounded, values

LOWEST_IOU = 0.3
"""Input IoU from which curves over it are drawn: below it are most RoIs, and no object."""


def _by_iou(part: str, detector: DetectorRecord) -> pd.DataFrame | None:
    """Mean output IoU or loss by stage and bin of input IoU: stage, low, iou, count, value."""
    sums = summed(detector.diagnostics, "localization", ["part", "stage", "iou_low"])
    if sums is None:
        return None
    table = sums[(sums["part"] == part) & (sums["count"] > 0) & (sums["iou_low"] >= LOWEST_IOU - 1e-9)]
    value, centre = table["value_sum"] / table["count"], table["iou_low"] + 0.5 / IOU_BINS
    return table.assign(value=value, low=table["iou_low"].round(2), iou=centre)


def _by_stage(
    results: StudyResults, known: Values, unit: str, part: str, y: alt.Y, *, diagonal: bool
) -> Iterator[Drawing]:
    """A panel per framework and stage with a line per detector, over the IoU of what enters."""
    rows = [
        {"panel": title.removesuffix(f": {detector.label}"), "stage": row.stage, "label": detector.label}
        | {"iou": row.iou, "value": row.value}
        for title, detector, table in known
        for row in table.itertuples()
    ]
    if not rows:
        return
    # Sorted by stage, the frameworks stand beside each other.
    by_panel = rounded(rows).groupby(["stage", "panel"], sort=False)
    for (stage, title), data in sorted(by_panel, key=lambda item: item[0][0]):
        x = over_iou("Input IoU", LOWEST_IOU)
        chart = lines(data, Encodings(results.labels, data["label"]), x, y, detail="Detector")
        description = f"{title}, {part} {stage}: {unit} by the IoU of the RoIs that enter it, one line per detector."
        chart = _with_diagonal(chart, x, y) if diagonal else chart
        yield Drawing(f"{title}: {part} {stage}", description, chart, height=220)


def _output_iou() -> alt.Y:
    return alt.Y("value:Q", title="Mean output IoU", scale=alt.Scale(domain=[LOWEST_IOU, 1], nice=False))


def _with_diagonal(chart: alt.LayerChart, x: alt.X, y: alt.Y) -> alt.LayerChart:
    """Add the line on which the output is as good as the input."""
    ends = pd.DataFrame({"iou": [LOWEST_IOU, 1], "value": [LOWEST_IOU, 1]})
    return alt.layer(alt.Chart(ends).mark_line(color="#8a929b", strokeWidth=1).encode(x=x, y=y), chart)


def _table(identifier: str, caption: str, known: Values, part: str, digits: int) -> Table:
    """Values by bin of input IoU, a row per stage."""
    lows = sorted({low for _, _, table in known for low in table["low"]})

    def rows(_: DetectorRecord, table: pd.DataFrame) -> Iterator[Row]:
        for stage, of_stage in table.groupby("stage"):
            by_low = of_stage.set_index("low")["value"]
            yield Row(Cell(f"{part} {stage}"), tuple(number_cell(by_low.get(low), digits=digits) for low in lows))

    columns = [Column(part.capitalize(), kind="text")]
    columns += [Column(f"{low:.2f}", group="input IoU from") for low in lows]
    return Table(identifier, caption, tuple(columns), groups(known, rows))


def _regressors(results: StudyResults) -> tuple[Figure, Table]:
    """Mean output IoU of every regressor."""
    known = values(results, partial(_by_iou, "regressor"))
    drawings = _by_stage(results, known, "mean output IoU", "regressor", _output_iou(), diagonal=True)
    caption = "Above the straight line a regressor improves the boxes that it is given."
    drawn = figure("localization", caption, "localization-values", drawings)
    caption = (
        "Mean IoU of the boxes that leave a regressor, by the IoU of the RoIs that enter it, both with the ground "
        "truth that fits the RoI best."
    )
    return drawn, _table("localization-values", caption, known, "regressor", 3)


def _accumulated(results: StudyResults) -> tuple[Figure, Table]:
    """Mean output IoU of every stage by the IoU of the proposals, of detectors with several regressors."""
    every = values(results, partial(_by_iou, "regressors so far"))
    known = [(title, detector, table) for title, detector, table in every if table["stage"].nunique() > 1]
    drawings = []
    for title, _, table in known:
        data = rounded(
            [{"label": f"stage {row.stage}", "iou": row.iou, "value": row.value} for row in table.itertuples()]
        )
        x, y = over_iou("IoU of the proposal", LOWEST_IOU), _output_iou()
        chart = _with_diagonal(lines(data, Encodings(STAGES, data["label"]), x, y), x, y)
        description = (
            f"{title}: mean IoU of the boxes that leave each stage, by the IoU of the proposals they began as."
        )
        drawings.append(Drawing(title, description, chart, height=220))
    caption = "Where a later line falls below an earlier one, regressing once more made these boxes worse."
    drawn = figure("accumulated", caption, "accumulated-values", drawings)
    caption = "Mean IoU of the boxes that leave each stage, by the IoU of the proposals that they began as."
    return drawn, _table("accumulated-values", caption, known, "stage", 3)


def _losses(results: StudyResults) -> tuple[Figure, Table]:
    """Mean classification loss of every classifier."""
    known = values(results, partial(_by_iou, "classifier"))
    y = alt.Y("value:Q", title="Mean cross-entropy", scale=alt.Scale(zero=True))
    drawings = _by_stage(results, known, "mean classification loss", "classifier", y, diagonal=False)
    caption = "The loss is highest where a classifier must draw its line between object and background."
    drawn = figure("loss-by-iou", caption, "loss-by-iou-values", drawings)
    caption = (
        "Mean cross-entropy of the RoIs in each bin. A RoI at or above the stage's IoU threshold has the class of "
        "its best ground truth, one below it is background."
    )
    return drawn, _table("loss-by-iou-values", caption, known, "classifier", 3)


def build(results: StudyResults) -> tuple[Figure | Table, ...]:
    """Every regressor alone, several in a row, every classifier."""
    return *_regressors(results), *_accumulated(results), *_losses(results)


PART = Part(
    "localization-curves",
    "Regressors and classifiers by IoU",
    "localization",
    "What a regressor makes of RoIs of a certain IoU (Cascade R-CNN, Fig. 2a), what several in a row make of the "
    "proposals (Fig. 9a), and how hard RoIs of a certain IoU are for a classifier (Fig. 2b). All RoIs of the "
    "prediction pass over the validation images count.",
    "Bins with few RoIs are noisy. Losses compare between classifiers of one IoU threshold only: another "
    "threshold gives other labels. RoIs on crowd regions count as background.",
    build,
)
