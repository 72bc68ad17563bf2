"""What the RPN's NMS leaves."""

from collections.abc import Iterator

import pandas as pd

from cascadebench.diagnostics.nms_survivors import NMS_IOUS
from cascadebench.report.data.diagnostic_files import summed
from cascadebench.report.data.study_results import DetectorRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Row, Table, note, number_cell
from cascadebench.report.parts.diagnostics.part import Part, groups, values


def _survivors(detector: DetectorRecord) -> pd.DataFrame | None:
    """NMS survivors by IoU: nms_iou, images, candidates, survivors, overlap and positives."""
    sums = summed(detector.diagnostics, "nms_survivors", ["nms_iou"])
    if sums is None:
        return None
    per_image = sums[["candidates", "survivors"]].div(sums["images"], axis=0)
    overlap = sums["overlap_sum"] / sums["survivors"].where(sums["survivors"] > 0)
    positives = sums["top_positives"] / sums["top"].where(sums["top"] > 0)
    table = per_image.assign(nms_iou=sums["nms_iou"], images=sums["images"], overlap=overlap)
    return table.assign(positives=positives).head(len(NMS_IOUS))


def nms_table(results: StudyResults) -> Table:
    """Survivors of the RPN's NMS at several IoU thresholds."""

    def rows(_: DetectorRecord, table: pd.DataFrame) -> Iterator[Row]:
        for row in table.to_dict("records"):
            cells = (
                number_cell(row["survivors"], digits=0),
                number_cell(row["overlap"], digits=3),
                number_cell(row["positives"], 100, 2),
            )
            head = Cell(f"{row['nms_iou']:.2f}", note(f"{row['images']:.0f} images"))
            yield Row(head, (number_cell(row["candidates"], digits=0), *cells))

    columns = (
        Column("NMS IoU", kind="text"), Column("Candidates"), Column("Survivors"), Column("Highest overlap"),
        Column("Positives, %"),
    )  # fmt: skip
    caption = (
        "RPN candidates of a few images under NMS at several thresholds, level by level: candidates and survivors "
        "per image; the mean, over survivors, of the highest IoU with another survivor; and how many of the best "
        "1000 survivors of an image have an IoU of 0.5 or more with an object."
    )
    return Table("nms-values", caption, columns, groups(values(results, _survivors), rows))


def build(results: StudyResults) -> tuple[Table, ...]:
    """Survivors at several thresholds."""
    return (nms_table(results),)


PART = Part(
    "nms-survivors",
    "What the RPN's NMS leaves",
    "nms_survivors",
    "A looser NMS keeps more boxes near an object, which helps a regressor, and more that are nearly the same, "
    "which does not help a classifier (Decoupled R-CNN, Table I).",
    "Counted on a few images only, with the weights at the end of the training.",
    build,
)
