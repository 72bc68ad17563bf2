"""The table of cost, with what sources print of the same detectors."""

from cascadebench.evidence.matching import Beside
from cascadebench.report.data.study_results import Detector, Rows, StudyResults
from cascadebench.report.parts.cells import (
    Cell,
    Column,
    Group,
    Line,
    Row,
    Spread,
    Table,
    number,
    number_cell,
    points,
    scaled,
)
from cascadebench.report.sections.published import printed_cost, printed_costs, printed_in
from cascadebench.report.sections.tables import baseline_among, range_words

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
    printed = {detector.runs[0].run.id: printed_costs(detector) for detector in results.detectors}
    groups = []
    for title, detectors in results.panels():
        rows = []
        for detector in detectors:
            reference, beside = baseline_among(results, detector, detectors), printed[detector.runs[0].run.id]
            cells = [
                _cost_cell(detector, reference, costs, beside.get(name), name, *how) for name, *how in _COSTS.values()
            ]
            devices = dict.fromkeys(costs.get((record.id,), {}).get("train_device") for record in detector.runs)
            cells.append(Cell(", ".join(device for device in devices if device) or points(None)))
            if any(printed.values()):
                found = ((word, beside[name]) for word, (name, *_) in _COSTS.items() if name in beside)
                cells.append(Cell("", printed_in(found)))
            rows.append(Row(Cell(detector.label), tuple(cells)))
        groups.append(Group(title, tuple(rows)))
    columns = [Column("Detector", kind="text"), *map(Column, _COSTS), Column("Trained on", kind="text")]
    caption = "Cost of each detector, and under each value its ratio to the baseline of the same framework."
    if any(printed.values()):
        columns.append(Column("Printed in", kind="text"))
        caption += (
            " Printed is the closest value of a source. Its parameters (those that learn) and FLOPs are counted; its "
            "times and memory are of its own GPU, batch and software, and no measure of these runs."
        )
    return Table("cost-values", caption + range_words(results), tuple(columns), tuple(groups) if costs else ())


def _cost_cell(
    detector: Detector,
    reference: Detector | None,
    costs: Rows,
    printed: Beside | None,
    name: str,
    scale: float,
    digits: int,
) -> Cell:
    ours = Spread.of(detector.by_seed(costs, name))
    theirs = Spread.of(reference.by_seed(costs, name)) if reference else Spread(())
    notes = [ours.range_line(scale, digits)]
    if ours.mean and theirs.mean:
        ratio = ours.mean / theirs.mean
        notes.append(Line(f"×{ratio:.2f}", "muted", "ratio to the baseline", ratio))
    if printed is not None:
        value = printed_cost(printed)
        notes.append(Line(f"{number(value, scale, digits)} printed", "muted", "printed", scaled(value, scale)))
    return number_cell(ours.mean, scale, digits, tuple(line for line in notes if line.text))
