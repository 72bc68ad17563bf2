"""Cost: size, arithmetic, time and memory of every detector, with what sources print of them."""

from collections.abc import Iterator
from typing import Any

from cascadebench.evidence.comparability import Beside
from cascadebench.report.data.study_results import DetectorRecord, Rows, StudyResults
from cascadebench.report.parts.caveats import range_caption
from cascadebench.report.parts.cells import Cell, Column, Line, Row, Spread, Table, number, number_cell, points, scaled
from cascadebench.report.parts.cost_chart import cost_figure
from cascadebench.report.parts.detector_rows import detector_groups, mean_over_seeds
from cascadebench.report.parts.printed_rows import printed_cost, printed_costs, printed_in
from cascadebench.report.parts.section import Section, has_runs

# Title, column of cost.csv, factor, decimals.
_COSTS = {
    "Parameters, M": ("parameters", 1e-6, 2),
    "Trainable, M": ("trainable_parameters", 1e-6, 2),
    "FLOPs, G": ("flops", 1e-9, 2),
    "Training, s/iteration": ("seconds_per_iteration", 1, 3),
    "Test, s/image": ("seconds_per_image", 1, 4),
    "Peak memory, MB": ("peak_memory_mb", 1, 0),
}


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
