"""Commands on detections: of files, of models from outside, of a run."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from cascadebench.cli.arguments import Results, console
from cascadebench.core.errors import InputError
from cascadebench.datasets.card import load_dataset_card
from cascadebench.execution.failures import noted
from cascadebench.results.layout import RESULTS, ResultsFolder
from cascadebench.study_loading import load_study


def evaluate(
    annotations: Annotated[Path, typer.Option(help="COCO annotation file")],
    detections: Annotated[Path, typer.Option(help="COCO results (.json) or detections.parquet")],
    iou_type: Annotated[Literal["bbox", "segm"], typer.Option(help="What overlaps: boxes or masks")] = "bbox",
    test_stage: Annotated[list[str] | None, typer.Option(help="Test stage; again for another; default: all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """AP at every IoU, by size and class, of detections against COCO annotations."""
    from cascadebench.metrics.coco.evaluate_files import evaluate_files, json_of, print_summaries

    summaries = evaluate_files(annotations, detections, iou_type, test_stage or ())
    if as_json:
        print(json.dumps(json_of(summaries), indent=2, allow_nan=False))
    else:
        print_summaries(summaries, console())


def compare(
    annotations: Annotated[Path, typer.Option(help="COCO annotation file")],
    detections: Annotated[list[Path], typer.Option(help="COCO results (.json) or detections.parquet: A, then B")],
    test_stage: Annotated[list[str] | None, typer.Option(help="Test stage of both, or twice: of A, then of B")] = None,
    resamples: Annotated[int, typer.Option(help="Resamples of the images, up to 100000")] = 1999,
    seed: Annotated[int, typer.Option(help="Of the resamples")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Difference of AP, B - A, at every IoU and over ranges, and where the curves cross, with paired 95% intervals."""
    from cascadebench.uncertainty.compare_files import compare_files, print_comparison

    comparison = compare_files(annotations, detections, test_stage or (), resamples, seed)
    if as_json:
        print(json.dumps(comparison, indent=2, allow_nan=False))
    else:
        print_comparison(comparison, detections, Console())


def import_detections(
    name: Annotated[str, typer.Argument(help="Name under results/imported/, which a study lists under 'imported'")],
    files: Annotated[list[Path] | None, typer.Argument(help="COCO results (.json) or detections.parquet")] = None,
    test_stage: Annotated[list[str] | None, typer.Option(help="STAGE=FILE, for each of several test stages")] = None,
    dataset: Annotated[str | None, typer.Option(help="Prepared dataset that the detections belong to")] = None,
    study: Annotated[str | None, typer.Option(help="In its place, a study that has the dataset")] = None,
    title: Annotated[str, typer.Option(help="Label in tables and pictures; default: the name")] = "",
    notes: Annotated[str, typer.Option(help="Where the model comes from; printed in the report")] = "",
    headline: Annotated[str, typer.Option(help="Test stage that stands for the model; default: the last")] = "",
    results: Results = RESULTS,
) -> None:
    """Bring in detections of any other model, and evaluate them."""
    from cascadebench.imported.importing import About, import_files

    if (dataset is None) == (study is None):
        raise InputError("import: give one of --dataset and --study")
    card = load_dataset_card(dataset) if dataset else load_study(study).dataset
    about = About(title=title, notes=notes, headline=headline)
    imported = import_files(name, card.name, results, files or (), test_stage or (), about)
    folder = ResultsFolder(results).imported(name).path
    print(f"{folder}: {imported.detections} detections, {len(imported.test_stages)} test stage(s)")


def evaluate_run(folder: Path, data: Annotated[Path, typer.Option(help="Prepared dataset")]) -> None:
    """Evaluate a run's detections.parquet into its ap.parquet."""
    from cascadebench.datasets.prepared import check_unchanged
    from cascadebench.execution.shared_runs import check_prediction
    from cascadebench.tables.run_evaluation import evaluate_run as evaluate_folder

    with noted(folder, "evaluate-run"):
        check_unchanged(data, "val")
        check_prediction(folder)
        evaluate_folder(folder, data)


def diagnose_run(folder: Path, data: Annotated[Path, typer.Option(help="Prepared dataset")]) -> None:
    """Write kinds of errors, scores of loose boxes, and AP on other RoIs and proposals of a run's detections."""
    from cascadebench.diagnostics.run_diagnostics import diagnose_run as diagnose_folder

    with noted(folder, "diagnose-run"):
        diagnose_folder(folder, data)
