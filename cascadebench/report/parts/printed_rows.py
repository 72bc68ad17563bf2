"""What sources print of a detector, beside the study's own values: the closest row of each, and what differs there."""

from collections.abc import Iterable, Iterator

from cascadebench.evidence.comparability import Beside, published_beside
from cascadebench.evidence.metrics import PUBLISHED_METRICS
from cascadebench.evidence.published import load_published
from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.study_results import DetectorRecord, Rows, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Line, Row, Table, listing, number, points, signed_points
from cascadebench.report.parts.detector_rows import detector_groups, mean_over_seeds, stage_head

_SIZES = ("APs", "APm", "APl")
_OF_BOXES = ("AP", *AP_AT_IOU, *_SIZES)
_MASK = "mask_"
_OF_MASKS = tuple(f"{_MASK}{name}" for name in _OF_BOXES)
_KINDS = (("AP",), tuple(AP_AT_IOU), _SIZES, _OF_MASKS)
"""Metrics that sources print together: of each kind the closest row is shown."""
_COSTS = {
    "trainable_parameters": ("parameters_M",),
    "flops": ("GFLOPs",),
    "seconds_per_image": ("seconds_per_image", "fps"),
    "peak_memory_mb": ("memory_GB",),
}
"""Metrics that sources print of a column of ``cost.csv``; the parameters that they count are those that learn."""


def closest_rows(detector: DetectorRecord) -> list[dict[str, Beside]]:
    """The printed row with the fewest differences to a detector at its headline test stage, by metric.

    If it does not print AP at single IoU thresholds, by size, or of masks, the closest row that does follows. Empty: no
    source prints any.
    """
    rows: dict[str, dict[str, Beside]] = {}
    for beside in published_beside(detector.runs[0].run, detector.headline, (*_OF_BOXES, *_OF_MASKS)):
        rows.setdefault(beside.value.id.rpartition(".")[0], {})[beside.value.metric] = beside
    chosen: list[dict[str, Beside]] = []
    for kind in _KINDS:
        if not any(row.keys() & set(kind) for row in chosen):
            chosen += [row for row in rows.values() if row.keys() & set(kind)][:1]
    return chosen


def published_table(results: StudyResults) -> Table:
    """AP of every detector beside the closest printed rows; empty if no source prints one."""
    rows_of = {detector.runs[0].id: closest_rows(detector) for detector in results.detectors}
    metrics = {name for rows in rows_of.values() for row in rows for name in row}
    printed = [name for name in (*_OF_BOXES, *_OF_MASKS) if name in metrics]
    masks = results.rows("ap_masks", "test_stage") if results.study.masks else {}

    def rows(detector: DetectorRecord, _: DetectorRecord | None) -> Iterator[Row]:
        for row in rows_of[detector.runs[0].id]:
            cells = (_cell(results, masks, detector, row.get(name), name) for name in printed)
            yield Row(stage_head(detector), (*cells, *_source_cells(next(iter(row.values())))))

    columns = (
        Column("Detector", kind="text"),
        *(_column(name) for name in printed),
        Column("Printed in", kind="text"),
        Column("What differs there", kind="text"),
    )
    caption = (
        "AP × 100 of every detector beside the printed row of the same detector, data and kind of backbone with the "
        "fewest known differences; if that does not print AP at single thresholds, by size of the objects, or of "
        "masks, the closest one that does follows. Such a difference has no interval: nobody can resample what is "
        "printed."
    )
    return Table("beside-published", caption, columns, detector_groups(results.panels(), rows))


def printed_costs(detector: DetectorRecord) -> dict[str, Beside]:
    """The closest printed value by column of ``cost.csv``."""
    run = detector.runs[0].run
    closest = {column: published_beside(run, detector.headline, metrics)[:1] for column, metrics in _COSTS.items()}
    return {column: beside[0] for column, beside in closest.items() if beside}


def printed_cost(beside: Beside) -> float:
    """A printed cost in the unit of ``cost.csv``."""
    value = beside.value
    return 1 / value.measured if value.metric == "fps" else value.measured


def printed_recalls(detector: DetectorRecord) -> dict[tuple[int, str], Beside]:
    """Printed recall of proposals by the stage that they have left, 0 for none, and metric; the closest of each."""
    run, closest = detector.runs[0].run, {}
    metrics = [name for name in PUBLISHED_METRICS if name.startswith("proposal_AR")]
    for beside in published_beside(run, detector.headline, metrics):
        if beside.value.entering_stage is not None:
            closest.setdefault((beside.value.entering_stage - 1, beside.value.metric), beside)
    return closest


def printed_in(values: Iterable[tuple[str, Beside]]) -> tuple[Line, ...]:
    """Where values are printed and what differs there, each source once, after the names of its values."""
    names: dict[str, list[str]] = {}
    for name, beside in values:
        about = f" ({'; '.join(beside.differences)})" if beside.differences else ""
        names.setdefault(f"{beside.value.place}, {_source(beside)}{about}", []).append(name)
    return tuple(
        Line(f"{'; '.join(dict.fromkeys(of_source))}: {source}", "muted") for source, of_source in names.items()
    )


def not_published(results: StudyResults) -> str:
    """Which detectors no source prints values of; empty if there is none."""
    dataset = results.study.dataset
    if dataset.name not in {value.dataset for value in load_published().values()}:
        return (
            f"No paper in the collection prints values on “{dataset.title}”, so nothing stands beside these numbers; "
            "they say nothing about those that papers print on other data."
        )
    without = [detector for detector in results.detectors if not closest_rows(detector)]
    names = list(dict.fromkeys(f"{detector.label} ({detector.backbone})" for detector in without))
    return f"No source in the collection prints AP of {listing(names)} on “{dataset.title}”." if names else ""


def _column(name: str) -> Column:
    """Column of a metric: AP with the threshold or the size under it, over what the cells hold."""
    masks, title = name.startswith(_MASK), name.removeprefix(_MASK)
    over = f"{'masks: ' if masks else ''}here, printed, and the difference of the two, in percent"
    return Column("AP", title.removeprefix("AP").upper(), over)


def _cell(results: StudyResults, masks: Rows, detector: DetectorRecord, beside: Beside | None, name: str) -> Cell:
    """A measured value, the printed one, and the difference between them."""
    if name.startswith(_MASK):
        measured = mean_over_seeds(detector, masks, name.removeprefix(_MASK), detector.headline)
    else:
        measured = mean_over_seeds(detector, results.headline_rows, name)
    if beside is None:
        return Cell(points(measured))
    notes = [Line(f"{number(beside.value.value)} printed", "muted")]
    if measured is not None:
        notes.append(Line(signed_points(measured - beside.value.measured).text))
    return Cell(points(measured), tuple(notes))


def _source(beside: Beside) -> str:
    return beside.value.source.split(":")[0]


def _source_cells(beside: Beside) -> tuple[Cell, Cell]:
    """Where a row is printed, and what is different there."""
    words = beside.value.words.replace("|", " ")
    source = Cell(beside.value.place, (Line(" ".join(words.split())), Line(_source(beside), "muted")))
    count = len(beside.differences)
    head = "nothing that is known" if not count else f"{count} known difference{'s' if count > 1 else ''}"
    return source, Cell(head, tuple(Line(text) for text in beside.differences))
