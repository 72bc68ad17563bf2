"""Evaluating any file of detections against any COCO annotations, outside the pipeline."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.ap_table import METRICS, summarize
from cascadebench.metrics.coco.detections import read_coco_results, read_detections
from cascadebench.metrics.coco.evaluate import evaluate

_OF_A_CLASS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_GAP = 3  # between two columns of a table


def evaluate_files(
    annotations: str | Path, detections: str | Path, iou_type: str = "bbox", test_stages: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Evaluate a file of detections from anywhere.

    Parameters
    ----------
    annotations : str or Path
        COCO annotations, JSON.
    detections : str or Path
        COCO results, ``.json``, or CascadeBench's ``.parquet``.
    iou_type : str
        ``bbox``, or ``segm`` for masks, of the test stages that have them.
    test_stages : sequence of str
        Test stages to evaluate; empty: all of the file.

    Returns
    -------
    dict of str to dict
        Summary (:func:`cascadebench.metrics.coco.ap_table.summarize`) by test stage; a ``.json`` has one, named ``""``.

    Raises
    ------
    InputError
        If a file is missing or malformed or lacks a test stage, or the detections do not belong to the annotations.
    """
    annotations, detections = Path(annotations), Path(detections)
    if detections.suffix not in (".json", ".parquet"):
        raise InputError(f"{detections}: detections are COCO results, .json, or .parquet")
    rows = read_coco_results(detections, iou_type) if detections.suffix == ".json" else read_detections(detections)
    if test_stages:
        rows = _of_stages(rows, test_stages, detections)
    if iou_type == "segm":
        rows = _with_masks(rows, detections)
    # A file without a single detection is one test stage that found nothing.
    table = evaluate(annotations, rows, () if len(rows) else ("",), source=str(detections), iou_type=iou_type)
    return {label: summarize(table, label) for label in table["test_stage"].unique()}


def _of_stages(rows: pd.DataFrame, test_stages: Sequence[str], path: Path) -> pd.DataFrame:
    """Rows of some test stages; raises InputError if one is not there."""
    known = list(rows["test_stage"].unique())
    for stage in test_stages:
        if stage not in known:
            there = ", ".join(filter(None, known)) or "none"
            raise InputError(f"{path}: --test-stage: {stage!r} is not in this file; there are: {there}")
    return rows[rows["test_stage"].isin(test_stages)].reset_index(drop=True)


def _with_masks(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Rows of the test stages that have masks; raises InputError if there are detections and none has."""
    if "segmentation" not in rows or (len(rows) and rows["segmentation"].isna().all()):
        raise InputError(f"{path}: no test stage has masks; --iou-type bbox evaluates boxes")
    masked = rows.loc[rows["segmentation"].notna(), "test_stage"].unique()
    return rows[rows["test_stage"].isin(masked)].reset_index(drop=True)


def json_of(summaries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What ``cascadebench evaluate --json`` prints of :func:`evaluate_files`.

    Returns
    -------
    dict
        Of one test stage ``test_stage``, its name (None if the file names none), and its summary; of several
        ``test_stages``, which holds the summary of each by name.
    """
    if len(summaries) > 1:
        return {"test_stages": dict(summaries)}
    ((label, summary),) = summaries.items()
    return {"test_stage": label or None} | summary


def print_summaries(summaries: Mapping[str, dict[str, Any]], console: Console) -> None:
    """Print every metric of every test stage, then the classes; fractions with three decimals, as pycocotools does.

    Parameters
    ----------
    summaries : mapping of str to dict
        As :func:`evaluate_files` returns it. One test stage is a column of metrics, and the classes have a column for
        each of several metrics; of more each is a row, and the classes have their AP in each. Columns that do not fit
        beside each other follow below.
    """
    classes = [summary["per_class"] for summary in summaries.values()]
    if len(classes) == 1:
        ((label, summary),) = summaries.items()
        _print_table(console, "", [label or "all classes"], {metric: [summary[metric]] for metric in METRICS})
        rows = {name: [values[metric] for metric in _OF_A_CLASS] for name, values in classes[0].items()}
        _print_table(console, "class", _OF_A_CLASS, rows)
    else:
        overall = {label: [summary[metric] for metric in METRICS] for label, summary in summaries.items()}
        _print_table(console, "test stage", METRICS, overall)
        rows = {name: [stage[name]["AP"] for stage in classes] for name in classes[0]}
        _print_table(console, "AP of class", list(summaries), rows)


def _print_table(
    console: Console, corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]
) -> None:
    """Print numbers under column names, ``-`` where there is no ground truth; as many tables as the width asks for."""
    longest = max(cell_len(name) for name in (corner, *rows))
    for part in _parts(columns, console.width - min(longest, console.width // 2) - _GAP - 1):
        table = Table(box=SIMPLE)
        table.add_column(corner, overflow="fold")
        for name in columns[part]:
            table.add_column(Text(name), justify="right", no_wrap=True, overflow="fold")
        for name, values in rows.items():
            # As Text, because a class may be called "[red]".
            table.add_row(Text(name), *("-" if value is None else f"{value:.3f}" for value in values[part]))
        console.print(table)


def _parts(columns: Sequence[str], room: int) -> Iterator[slice]:
    """Neighbouring columns that fit into a width, at least one."""
    first, taken = 0, 0
    for place, name in enumerate(columns):
        width = max(cell_len(name), len("0.000")) + _GAP
        if place > first and taken + width > room:
            yield slice(first, place)
            first, taken = place, 0
        taken += width
    yield slice(first, len(columns))
