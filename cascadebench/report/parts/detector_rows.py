"""Rows of tables: one per detector or per run, under their framework and backbone; a value that many runs share."""

from collections.abc import Callable, Iterable, Sequence

from cascadebench.report.data.study_results import DetectorRecord, Rows, RunRecord, StudyResults
from cascadebench.report.parts.cells import ABSENT, Cell, Group, Line, Row, Spread, note, score_cell

Panels = Iterable[tuple[str, list[DetectorRecord]]]
"""Detectors that are compared with each other, under a title."""


def detector_groups(
    panels: Panels, rows: Callable[[DetectorRecord, DetectorRecord | None], Iterable[Row]]
) -> tuple[Group, ...]:
    """A group for every panel: `rows` of each detector and the panel's baseline, None for the baseline itself."""
    return tuple(
        Group(title, tuple(row for one in detectors for row in rows(one, baseline_among(one, detectors))))
        for title, detectors in panels
    )


def run_groups(results: StudyResults, cells: Callable[[RunRecord], Iterable[Cell]]) -> tuple[Group, ...]:
    """A row for every run, under its label and seed; without cells, none."""

    def rows(detector: DetectorRecord, _: DetectorRecord | None) -> Iterable[Row]:
        for record in detector.runs:
            if values := tuple(cells(record)):
                yield Row(Cell(record.label, note(f"seed {record.run.seed}")), values)

    return detector_groups(results.panels(), rows)


def baseline_among(detector: DetectorRecord, detectors: Iterable[DetectorRecord]) -> DetectorRecord | None:
    """The baseline among `detectors`, for a detector that is not the baseline itself."""
    return None if detector.is_baseline else next((other for other in detectors if other.is_baseline), None)


def stage_head(detector: DetectorRecord) -> Cell:
    """Header of a detector's row: its label, and the test stage that stands for it."""
    return Cell(detector.label, note(f"test stage {detector.headline}"))


def scores_of(detector: DetectorRecord, baseline: DetectorRecord | None, rows: Rows, column: str, *key: str) -> Cell:
    """An AP of a detector over its seeds, and the difference to the baseline."""
    reference = baseline.by_seed(rows, column, *key) if baseline else None
    return score_cell(detector.by_seed(rows, column, *key), reference)


def mean_over_seeds(detector: DetectorRecord, rows: Rows, column: str, *key: str) -> float | None:
    """Mean of a column over a detector's seeds; None without a value."""
    return Spread.of(detector.by_seed(rows, column, *key)).mean


Values = Sequence[tuple[RunRecord, str]]
"""A printed value of each run that has one."""


def by_label(values: Values) -> dict[str, set[str]]:
    """The values that occur, by label."""
    labels: dict[str, set[str]] = {}
    for record, text in values:
        labels.setdefault(record.label, set()).add(text)
    return labels


def shared_value(values: Values) -> Cell:
    """The value that all runs share, or each value under the names of the runs that have it."""
    texts = list(dict.fromkeys(text for _, text in values))
    if len(texts) < 2:
        return Cell(texts[0] if texts else ABSENT)
    label_decides = all(len(of_label) == 1 for of_label in by_label(values).values())
    notes = []
    for text in texts:
        records = [record for record, other in values if other == text]
        names = dict.fromkeys(r.label if label_decides else f"{r.label}, seed {r.run.seed}" for r in records)
        notes += [Line("; ".join(names), "muted"), Line(text)]
    return Cell("", tuple(notes))


def range_caption(results: StudyResults) -> str:
    """What the range under a value is, where there are several seeds."""
    return " Two values with … between them are the lowest and the highest seed." if results.several_seeds else ""
