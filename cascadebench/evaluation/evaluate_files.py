"""Evaluating any file of detections against any COCO annotations, outside the pipeline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cascadebench.errors import InputError
from cascadebench.evaluation.coco import evaluate
from cascadebench.evaluation.detections import read_coco_results, read_detections
from cascadebench.evaluation.summary import METRICS, summarize

_OF_A_CLASS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def evaluate_files(annotations: Path, detections: Path, iou_type: str = "bbox") -> dict[str, dict[str, Any]]:
    """Evaluate a file of detections from anywhere.

    Parameters
    ----------
    annotations : Path
        COCO annotations, JSON.
    detections : Path
        COCO results, ``.json``, or CascadeBench's ``.parquet``.
    iou_type : str
        ``bbox``, or ``segm`` for masks, of the test stages that have them.

    Returns
    -------
    dict of str to dict
        Summary (:func:`cascadebench.evaluation.summary.summarize`) by test stage; a ``.json`` has one, named ``""``.

    Raises
    ------
    InputError
        If a file is missing or malformed, or the detections do not belong to the annotations.
    """
    if detections.suffix not in (".json", ".parquet"):
        raise InputError(f"{detections}: detections are COCO results, .json, or .parquet")
    if detections.suffix == ".json":
        rows = read_coco_results(detections, iou_type)
    else:
        rows = read_detections(detections)
        if iou_type == "segm":
            rows = _with_masks(rows, detections)
    # A file without a single detection is one test stage that found nothing.
    table = evaluate(annotations, rows, () if len(rows) else ("",), source=str(detections), iou_type=iou_type)
    return {label: summarize(table, label) for label in table["test_stage"].unique()}


def _with_masks(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Rows of the test stages that have masks; raises InputError if there are detections and none has."""
    if "segmentation" not in rows or (len(rows) and rows["segmentation"].isna().all()):
        raise InputError(f"{path}: no test stage has masks; --iou-type bbox evaluates boxes")
    masked = rows.loc[rows["segmentation"].notna(), "test_stage"].unique()
    return rows[rows["test_stage"].isin(masked)].reset_index(drop=True)


def print_summaries(summaries: Mapping[str, dict[str, Any]], console: Console) -> None:
    """Print every metric of every test stage, then the classes; fractions with three decimals, as pycocotools does.

    Parameters
    ----------
    summaries : mapping of str to dict
        As :func:`evaluate_files` returns it. With one test stage the classes have a column for each of several metrics,
        with more they have their AP in each.
    """
    overall = {metric: [summary[metric] for summary in summaries.values()] for metric in METRICS}
    console.print(_table("", [label or "all classes" for label in summaries], overall))
    classes = [summary["per_class"] for summary in summaries.values()]
    if len(classes) == 1:
        rows = {name: [values[metric] for metric in _OF_A_CLASS] for name, values in classes[0].items()}
        console.print(_table("class", _OF_A_CLASS, rows))
    else:
        rows = {name: [stage[name]["AP"] for stage in classes] for name in classes[0]}
        console.print(_table("AP of class", list(summaries), rows))


def _table(corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> Table:
    """Numbers under column names; ``-`` where there is no ground truth."""
    table = Table(corner, box=SIMPLE)
    for name in columns:
        table.add_column(Text(name), justify="right")
    for name, values in rows.items():
        # As Text, because a class may be called "[red]".
        table.add_row(Text(name), *("-" if value is None else f"{value:.3f}" for value in values))
    return table
