"""A value of many runs: the one that all share, or each with the runs that have it."""

from collections.abc import Sequence

from cascadebench.report.data.study_results import RunRecord
from cascadebench.report.parts.cells import ABSENT, Cell, Line

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
