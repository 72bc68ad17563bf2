"""Dataset: what every run reads, in counts and checksums."""

from collections.abc import Iterator
from typing import Any

from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Row, Table, number, plain
from cascadebench.report.parts.section import Section


def _splits(results: StudyResults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of every split in ``lock.json``; empty if it has another form."""
    splits = results.lock.get("splits")
    for name, split in splits.items() if isinstance(splits, dict) else ():
        yield name, split if isinstance(split, dict) else {}


def dataset_table(results: StudyResults) -> Table:
    """Counts of each split, as prepared."""
    keys = ("images", "annotations", "crowd", "dropped", "clipped")
    rows = (Row(Cell(name), tuple(_count(split.get(key)) for key in keys)) for name, split in _splits(results))
    titles = ("Images", "Annotations", "Crowd regions", "Dropped", "Clipped")
    columns = (Column("Split", kind="text"), *(Column(title) for title in titles))
    caption = "The dataset as every run reads it: boxes dropped for having no area, boxes clipped at the image border."
    return Table("dataset-splits", caption, columns, (Group("", tuple(rows)),))


def _count(value: Any) -> Cell:
    return Cell(number(value, digits=0) if isinstance(value, int) else ABSENT if value is None else plain(value))


def checksum_table(results: StudyResults) -> Table:
    """SHA-256 of every file that the runs read: annotations as they came and as prepared, and initial weights."""
    rows = []
    for name, split in _splits(results):
        for key, words in (
            ("source_sha256", "annotations as they came"),
            ("prepared_sha256", f"{name}.json as prepared"),
        ):
            rows.append(Row(Cell(f"{name}: {words}"), (Cell(str(split.get(key) or ABSENT)),)))
    weights = {record.run.backbone.name: record.run.backbone.weights for record in results.runs}
    for name, file in weights.items():
        if file:
            rows.append(Row(Cell(f"initial weights of {name}"), (Cell(file.sha256 or ABSENT),)))
    columns = (Column("File", kind="text"), Column("SHA-256", kind="code"))
    caption = "Checksums of the files that the runs read. Pictures are not part of them."
    return Table("file-checksums", caption, columns, (Group("", tuple(rows)),))


def build(results: StudyResults) -> dict[str, Any]:
    """What the dataset is, its counts, and the checksums of the files that runs read."""
    return {
        "dataset": results.study.dataset,
        "digest": results.lock.get("digest"),
        "splits": dataset_table(results),
        "checksums": checksum_table(results),
    }


SECTION = Section("dataset", "Dataset", build)
