"""Tables of results: average precision, test stages, gaps, categories, training, cost and runs."""

import math
from collections.abc import Callable

from cascadebench.report.cells import (
    Cell,
    Column,
    Group,
    Line,
    Row,
    Spread,
    Table,
    number,
    points,
    score_cell,
    signed_points,
)
from cascadebench.report.collect import AP_BY_IOU, IOU_PERCENTS, Detector, RunRecord, StudyResults
from cascadebench.test_stages import cascade_test_stages

_AT_IOU = "at one IoU threshold, in percent"
_BY_IOU = tuple(Column("AP", str(percent), _AT_IOU) for percent in IOU_PERCENTS)
_BY_SIZE = tuple(Column("AP", size, "by object size") for size in "SML")


def _by_seed(detector: Detector, value: Callable[[str], float | None]) -> dict[int, float | None]:
    """A value of every run of a detector, by seed."""
    return {record.run.seed: value(record.run.id) for record in detector.runs}


def _name(results: StudyResults, detector: Detector, seeds: int) -> Cell:
    """Header of a detector's row: label, what it is in the comparison, over how many seeds the values are means."""
    stage = "baseline" if detector.label == results.baseline else f"test stage {detector.headline}"
    notes = [Line(stage, "muted")]
    if len(detector.runs) > 1:
        notes.append(Line(f"mean of {seeds} of {len(detector.runs)} seeds", "muted"))
    if detector.failed:
        notes.append(Line("failed, see Runs", "bad"))
    elif not seeds:
        notes.append(Line("no result yet", "bad"))
    return Cell(detector.label, tuple(notes))


def _baseline(results: StudyResults, detectors: list[Detector]) -> Detector | None:
    return next((detector for detector in detectors if detector.label == results.baseline), None)


def headline_scores(results: StudyResults) -> dict[str, dict]:
    """Row of the headline test stage in ``ap.csv``, by run."""
    table = results.tables["ap"]
    chosen = table[table["headline"].str.lower().isin(["true", "1"])]
    return {row["run"]: row for row in chosen.to_dict("records")}


def headline_table(results: StudyResults) -> Table:
    """AP by IoU and by size for every detector, with the difference to the baseline of the same framework."""
    scores = headline_scores(results)
    names = ("AP", *AP_BY_IOU, "APs", "APm", "APl", "AR100")
    groups = []
    for title, detectors in results.panels():
        baseline = _baseline(results, detectors)
        rows = []
        for detector in detectors:
            cells = []
            for name in names:
                value = lambda run, name=name: scores.get(run, {}).get(name)  # noqa: E731
                reference = None if baseline is None or detector is baseline else _by_seed(baseline, value)
                cells.append(score_cell(_by_seed(detector, value), reference))
            evaluated = sum(record.run.id in scores for record in detector.runs)
            rows.append(Row(_name(results, detector, evaluated), tuple(cells)))
        groups.append(Group(title, tuple(rows)))
    columns = (Column("Detector", kind="text"), Column("AP"), *_BY_IOU, *_BY_SIZE, Column("AR", "100"))
    caption = (
        "Average precision × 100 on the validation split, and under each value its difference to the baseline of the "
        "same framework (+ better, − worse, from unrounded values). AP is the mean over ten IoU thresholds; S, M and "
        "L are small, medium and large objects; AR100 is average recall with up to 100 detections per image."
    )
    return Table("headline", caption, columns, tuple(groups))


def stage_table(results: StudyResults) -> Table:
    """AP by IoU of every test stage of the detectors with several."""
    scores = results.rows("ap", "run", "test_stage")
    groups = []
    for title, detectors in results.panels():
        for detector in detectors:
            runs = {record.run.id for record in detector.runs}
            found = {stage for run, stage in scores if run in runs}
            expected = [stage.label for stage in cascade_test_stages(detector.runs[0].run.variant.stages)]
            stages = [stage for stage in expected if stage in found] + sorted(found - set(expected))
            if len(stages) < 2:
                continue
            rows = []
            for stage in stages:
                cells = [
                    score_cell(_by_seed(detector, lambda run, s=stage, n=name: scores.get((run, s), {}).get(n)))
                    for name in ("AP", *AP_BY_IOU)
                ]
                note = (Line("headline", "muted"),) if stage == detector.headline else ()
                rows.append(Row(Cell(stage, note), tuple(cells)))
            groups.append(Group(f"{title}: {detector.label}", tuple(rows)))
    columns = (Column("Test stage", kind="text"), Column("AP"), *_BY_IOU)
    caption = "AP × 100 of every test stage; all of them come from the same weights and the same pass over the images."
    return Table("stages", caption, columns, tuple(groups))


def gap_table(results: StudyResults) -> Table:
    """Every gap at every IoU threshold."""
    gaps = results.tables["gaps"]
    gaps = gaps.assign(percent=(gaps["iou"] * 100).round())
    values = {(row["run"], row["gap"], row["percent"]): row["gap_ap"] for row in gaps.to_dict("records")}
    groups = []
    for title, detectors in results.panels():
        rows = []
        for detector in detectors:
            runs = {record.run.id for record in detector.runs}
            for gap in dict.fromkeys(gap for run, gap, _ in values if run in runs):
                cells = []
                for percent in IOU_PERCENTS:
                    by_seed = _by_seed(detector, lambda run, g=gap, p=percent: values.get((run, g, p)))
                    spread = Spread.of(by_seed)
                    notes = tuple(Line(text, "muted") for text in [spread.range(100, 1)] if text)
                    cells.append(Cell(signed_points(spread.mean).text or points(None), notes))
                rows.append(Row(Cell(gap.replace(" - ", " − "), (Line(detector.label, "muted"),)), tuple(cells)))
        groups.append(Group(title, tuple(rows)))
    caption = "Differences of AP × 100 at each IoU threshold; above zero, the first of the two is better."
    return Table("gap-values", caption, (Column("Gap", kind="text"), *_BY_IOU), tuple(groups))


def category_table(results: StudyResults) -> Table:
    """AP, AP50 and AP75 of every category at the headline test stage, with the difference to the baseline."""
    scores = results.rows("ap_per_class", "run", "test_stage", "category")
    found = list(dict.fromkeys(category for _, _, category in scores))
    known = [category for category in results.study.dataset.categories if category in found]
    columns = [Column("Category", kind="text")]
    cells: dict[str, list[Cell]] = {category: [] for category in [*known, *(c for c in found if c not in known)]}
    for title, detectors in results.panels():
        baseline = _baseline(results, detectors)
        for detector in detectors:
            group = f"{title}: {detector.label}"
            columns += [Column("AP", subscript, group) for subscript in ("", "50", "75")]
            for category, row in cells.items():
                for name in ("AP", "AP50", "AP75"):
                    ours, theirs = (
                        _by_seed(d, lambda run, s=d.headline, c=category, n=name: scores.get((run, s, c), {}).get(n))
                        if d
                        else None
                        for d in (detector, None if detector is baseline else baseline)
                    )
                    row.append(score_cell(ours or {}, theirs))
    caption = "AP × 100 of each category at the headline test stage, with the difference to the baseline."
    rows = tuple(Row(Cell(category), tuple(row)) for category, row in cells.items())
    return Table("categories", caption, tuple(columns), (Group("", rows),))


def _run_name(record: RunRecord) -> Cell:
    return Cell(record.label, (Line(f"seed {record.run.seed}", "muted"),))


def training_table(results: StudyResults) -> Table:
    """Loss and learning rate at both ends of every training."""
    groups = []
    for title, detectors in results.panels():
        rows = []
        for record in (record for detector in detectors for record in detector.runs if record.log):
            losses = [line["loss"] for line in record.log]
            share = max(1, len(losses) // 20)
            ends = (math.fsum(losses[:share]) / share, math.fsum(losses[-share:]) / share)
            last = record.log[-1]
            iterations = f"{last['iteration'] + 1} of {record.run.protocol.schedule.iterations}"
            cells = (iterations, number(ends[0], digits=3), number(ends[1], digits=3), f"{last['lr']:.3g}")
            rows.append(Row(_run_name(record), tuple(Cell(text) for text in cells)))
        groups.append(Group(title, tuple(rows)))
    titles = ("Iterations", "First loss", "Last loss", "Last learning rate")
    caption = "The total loss as mean over the first and over the last 5 % of the logged iterations."
    columns = (Column("Run", kind="text"), *(Column(title) for title in titles))
    return Table("training-ends", caption, columns, tuple(groups))


# Column of cost.csv, title, factor, decimals.
_COSTS = (
    ("parameters", "Parameters, M", 1e-6, 2),
    ("trainable_parameters", "Trainable, M", 1e-6, 2),
    ("flops", "FLOPs, G", 1e-9, 2),
    ("seconds_per_iteration", "Training, s/iteration", 1, 3),
    ("seconds_per_image", "Test, s/image", 1, 4),
    ("peak_memory_mb", "Peak memory, MB", 1, 0),
)


def cost_table(results: StudyResults) -> Table:
    """Size, arithmetic, time and memory of every detector, with the ratio to the baseline."""
    costs = {row["run"]: row for row in results.tables["cost"].to_dict("records")}
    groups = []
    for title, detectors in results.panels():
        baseline = _baseline(results, detectors)
        rows = []
        for detector in detectors:
            cells = []
            for name, _, scale, digits in _COSTS:
                ours, theirs = (
                    Spread.of(_by_seed(d, lambda run, n=name: costs.get(run, {}).get(n))) if d else Spread(())
                    for d in (detector, None if detector is baseline else baseline)
                )
                notes = [Line(spread_range, "muted")] if (spread_range := ours.range(scale, digits)) else []
                if ours.mean and theirs.mean:
                    notes.append(Line(f"×{ours.mean / theirs.mean:.2f}", "muted"))
                cells.append(Cell(number(ours.mean, scale, digits), tuple(notes)))
            devices = dict.fromkeys(costs.get(record.run.id, {}).get("train_device", "") for record in detector.runs)
            cells.append(Cell(", ".join(device for device in devices if device) or points(None)))
            rows.append(Row(Cell(detector.label), tuple(cells)))
        groups.append(Group(title, tuple(rows)))
    columns = (
        Column("Detector", kind="text"),
        *(Column(title) for _, title, _, _ in _COSTS),
        Column("Device", kind="text"),
    )
    caption = "Cost of each detector, and under each value its ratio to the baseline of the same framework."
    return Table("cost-values", caption, columns, tuple(groups) if costs else ())


def run_table(results: StudyResults) -> Table:
    """State of every run, with its id."""
    groups = []
    for title, detectors in results.panels():
        rows = []
        for record in (record for detector in detectors for record in detector.runs):
            state = Cell(record.state, tone="bad" if record.state == "failed" else "")
            rows.append(Row(_run_name(record), (state, Cell(record.detail), Cell(record.run.id))))
        groups.append(Group(title, tuple(rows)))
    columns = (
        Column("Run", kind="text"),
        Column("State", kind="text"),
        Column("Detail", kind="text"),
        Column("Folder under results/runs/", kind="code"),
    )
    return Table("run-states", "State of every run of the study.", columns, tuple(groups))
