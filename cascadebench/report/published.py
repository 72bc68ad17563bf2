"""Published values beside the study's own: the closest printed row of every detector, and what differs there."""

from cascadebench.evidence.matching import Beside, published_beside
from cascadebench.evidence.published import load_published
from cascadebench.report.cells import (
    Cell,
    Column,
    Group,
    Line,
    Row,
    Spread,
    Table,
    listing,
    number,
    points,
    signed_points,
)
from cascadebench.report.collect import AP_BY_IOU, Detector, StudyResults

METRICS = ("AP", *AP_BY_IOU)


def closest_rows(detector: Detector) -> list[dict[str, Beside]]:
    """The printed row with the fewest differences to a detector at its headline test stage, by metric.

    If it prints AP alone, the closest row with AP at single IoU thresholds follows. Empty: no source prints any.
    """
    found = published_beside(detector.runs[0].run, detector.headline, METRICS)
    rows: dict[str, dict[str, Beside]] = {}
    for beside in found:
        rows.setdefault(beside.value.id.rpartition(".")[0], {})[beside.value.metric] = beside
    closest, *others = list(rows.values()) or [{}]
    further = [] if set(closest) - {"AP"} else [row for row in others if set(row) - {"AP"}]
    return [row for row in (closest, *further[:1]) if row]


def published_table(results: StudyResults) -> Table:
    """AP of every detector beside the closest printed row; empty if no source prints one."""
    rows_of = {detector.runs[0].run.id: closest_rows(detector) for detector in results.detectors}
    printed = [name for name in METRICS if any(name in row for found in rows_of.values() for row in found)]
    groups = []
    for title, detectors in results.panels():
        rows = []
        for detector in detectors:
            for beside in rows_of[detector.runs[0].run.id]:
                cells = [_cell(results, detector, beside.get(name), name) for name in printed]
                head = Cell(detector.label, (Line(f"test stage {detector.headline}", "muted"),))
                rows.append(Row(head, (*cells, *_words(next(iter(beside.values()))))))
        groups.append(Group(title, tuple(rows)))
    over = "here, printed, and the difference of the two, in percent"
    columns = (
        Column("Detector", kind="text"),
        *(Column("AP", name.removeprefix("AP"), over) for name in printed),
        Column("Printed in", kind="text"),
        Column("What differs there", kind="text"),
    )
    caption = (
        "AP × 100 of every detector beside the printed row of the same detector, data and kind of backbone with the "
        "fewest known differences; if it prints AP alone, the closest one with AP at single thresholds follows. "
        "Such a difference has no interval: nobody can resample what is printed."
    )
    return Table("beside-published", caption, columns, tuple(groups))


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


def _cell(results: StudyResults, detector: Detector, beside: Beside | None, name: str) -> Cell:
    """A measured value, the printed one, and the difference between them."""
    measured = Spread.of(detector.by_seed(results.headline_rows, name)).mean
    if beside is None:
        return Cell(points(measured))
    notes = [Line(f"{number(beside.value.value)} printed", "muted")]
    if measured is not None:
        notes.append(Line(signed_points(measured - beside.value.measured).text))
    return Cell(points(measured), tuple(notes))


def _words(beside: Beside) -> tuple[Cell, Cell]:
    """Where a row is printed, and what is different there."""
    source, words = beside.value.source.split(":")[0], beside.value.words.replace("|", " ")
    place = Cell(beside.value.place, (Line(" ".join(words.split())), Line(source, "muted")))
    count = len(beside.differences)
    head = "nothing that is known" if not count else f"{count} known difference{'s' if count > 1 else ''}"
    return place, Cell(head, tuple(Line(text) for text in beside.differences))
