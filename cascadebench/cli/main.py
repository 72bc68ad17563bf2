"""The command line: ``cascadebench COMMAND``. Wrong input ends in one line and exit code 2."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from cascadebench.cli.arguments import Json, PreparedDataset, Results, SizesOnly, StudyName
from cascadebench.cli.plan import plan
from cascadebench.cli.register import register
from cascadebench.core.configuration import PROJECT
from cascadebench.core.errors import InputError
from cascadebench.datasets.card import load_dataset_card
from cascadebench.execution.failures import failure_of, noted
from cascadebench.results.layout import RESULTS, ResultsFolder, report_of
from cascadebench.study_loading import load_study

# Every command imports what it works with when it is called, and stands here in its place in ``--help``.
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


def _console() -> Console:
    """As wide as a terminal; in a file or pipe as wide as what is printed, so that nothing is folded there."""
    return Console() if sys.stdout.isatty() else Console(width=10_000)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


@app.command()
def doctor() -> None:
    """Say what is installed, what serves mmcv's operators, which GPUs there are, and how to get what is missing."""
    from cascadebench.cli.doctor import examine

    raise typer.Exit(examine(Console()))


app.command()(plan)
app.command()(register)


@app.command()
def prepare(
    dataset: str, out: Annotated[Path, typer.Option(help="Folder to write")], sizes_only: SizesOnly = False
) -> None:
    """Check a dataset of config/datasets/ (or draw the embedded one), read all pictures once, and lock it."""
    from cascadebench.datasets import prepare as preparation

    preparation.prepare(load_dataset_card(dataset), out, sizes_only)


@app.command()
def describe_dataset(
    name: str,
    root: Path,
    train: Annotated[tuple[str, str], typer.Option(help="Annotation file and image folder, relative to the root")],
    val: Annotated[tuple[str, str], typer.Option(help="Annotation file and image folder, relative to the root")],
) -> None:
    """Print a card for a COCO-format folder, to be saved as config/datasets/NAME.yaml."""
    from cascadebench.datasets.describe import describe_folder

    print(describe_folder(root, name, train, val), end="")


@app.command()
def freeze(study: StudyName, run: Annotated[str, typer.Option()], out: Annotated[Path, typer.Option()]) -> None:
    """Write one run of a study as run.yaml."""
    planned = load_study(study)
    if run not in planned.run_ids:
        raise InputError(f"study {study}: no run {run!r}; `cascadebench plan {study}` lists its runs")
    planned.run(run).write(out)


@app.command()
def audit(study: StudyName, results: Results = RESULTS) -> None:
    """Compare the effective values of a study's runs; exit code 1 if one differs that must not."""
    from cascadebench.controls.audit_files import audit_study, print_audit

    outcome = audit_study(load_study(study), results)
    print_audit(outcome, _console())
    raise typer.Exit(0 if outcome.passed else 1)


@app.command()
def evaluate(
    annotations: Annotated[Path, typer.Option(help="COCO annotation file")],
    detections: Annotated[Path, typer.Option(help="COCO results (.json) or detections.parquet")],
    iou_type: Annotated[Literal["bbox", "segm"], typer.Option(help="What overlaps: boxes or masks")] = "bbox",
    test_stage: Annotated[list[str] | None, typer.Option(help="Test stage; again for another; default: all")] = None,
    as_json: Json = False,
) -> None:
    """AP at every IoU, by size and class, of detections against COCO annotations."""
    from cascadebench.metrics.coco.evaluate_files import evaluate_files, json_of, print_summaries

    summaries = evaluate_files(annotations, detections, iou_type, test_stage or ())
    if as_json:
        _print_json(json_of(summaries))
    else:
        print_summaries(summaries, _console())


@app.command()
def compare(
    annotations: Annotated[Path, typer.Option(help="COCO annotation file")],
    detections: Annotated[list[Path], typer.Option(help="COCO results (.json) or detections.parquet: A, then B")],
    test_stage: Annotated[list[str] | None, typer.Option(help="Test stage of both, or twice: of A, then of B")] = None,
    resamples: Annotated[int, typer.Option(help="Resamples of the images, up to 100000")] = 1999,
    seed: Annotated[int, typer.Option(help="Of the resamples")] = 0,
    as_json: Json = False,
) -> None:
    """Difference of AP, B - A, at every IoU and over ranges, and where the curves cross, with paired 95% intervals."""
    from cascadebench.uncertainty.compare_files import compare_files, print_comparison

    comparison = compare_files(annotations, detections, test_stage or (), resamples, seed)
    if as_json:
        _print_json(comparison)
    else:
        print_comparison(comparison, detections, Console())


@app.command("import")
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
    imported = import_files(name, card.name, results, files or (), test_stage or (), About(title, notes, headline))
    folder = ResultsFolder(results).imported(name).path
    print(f"{folder}: {imported.detections} detections, {len(imported.test_stages)} test stage(s)")


@app.command()
def evaluate_run(folder: Path, data: PreparedDataset) -> None:
    """Evaluate a run's detections.parquet into its ap.parquet."""
    from cascadebench.datasets.prepared import check_unchanged
    from cascadebench.execution.shared_runs import check_prediction
    from cascadebench.tables.run_evaluation import evaluate_run as evaluate_folder

    with noted(folder, "evaluate-run"):
        check_unchanged(data, "val")
        check_prediction(folder)
        evaluate_folder(folder, data)


@app.command()
def diagnose_run(folder: Path, data: PreparedDataset) -> None:
    """Write kinds of errors, scores of loose boxes, and AP on other RoIs and proposals of a run's detections."""
    from cascadebench.diagnostics.run_diagnostics import diagnose_run as diagnose_folder

    with noted(folder, "diagnose-run"):
        diagnose_folder(folder, data)


@app.command()
def aggregate(study: StudyName, results: Results = RESULTS) -> None:
    """Write the tables of a study, whatever the state of its runs."""
    from cascadebench.tables.aggregate import aggregate as write_tables

    write_tables(load_study(study), results)


@app.command()
def intervals(
    study: StudyName,
    results: Results = RESULTS,
    resamples: Annotated[int | None, typer.Option(help="Resamples of the images; default: enough for claims")] = None,
    seed: Annotated[int, typer.Option(help="Of the resamples")] = 0,
) -> None:
    """Write the intervals of a study's detectors and gaps and the verdicts on its claims, from paired resamples."""
    from cascadebench.evidence.verdict_files import enough_resamples, write_verdicts
    from cascadebench.tables.study_intervals import write_intervals
    from cascadebench.uncertainty.resampled_study import ResampledStudy

    planned = load_study(study)
    resampled = ResampledStudy(planned, results, resamples or enough_resamples(planned), seed)
    write_intervals(resampled)
    write_verdicts(resampled)


@app.command()
def examples(
    study: StudyName,
    results: Results = RESULTS,
    score: Annotated[float, typer.Option(help="Lowest score that is shown", min=0, max=1)] = 0.5,
) -> None:
    """Write detections on a few validation images, chosen by a rule, for the report."""
    from cascadebench.examples.write import write_examples

    write_examples(load_study(study), results, score)


@app.command()
def report(
    study: StudyName,
    results: Results = RESULTS,
    out: Annotated[Path | None, typer.Option(help="File to write; default: reports/STUDY.html")] = None,
) -> None:
    """Write the HTML report of a study from its tables."""
    from cascadebench.report.page import write_report

    planned = load_study(study)
    write_report(planned, results, out or report_of(planned.name))


@app.command()
def export(
    study: StudyName,
    results: Results = RESULTS,
    report: Annotated[Path | None, typer.Option(help="Its report; default: reports/STUDY.html")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: STUDY.zip")] = None,
    detections: Annotated[bool, typer.Option("--detections", help="With detections and proposals")] = False,
    date: Annotated[str, typer.Option(help="Date of publication; default: that of the newest result")] = "",
    license: Annotated[str, typer.Option(help="SPDX identifier or URL; default: that of CITATION.cff")] = "",
    author: Annotated[str, typer.Option(help="Your name; default: the authors of CITATION.cff")] = "",
    orcid: Annotated[str, typer.Option(help="Your address at orcid.org")] = "",
) -> None:
    """Write a study's tables, run manifests, report and cards into one zip, an RO-Crate."""
    from cascadebench.export import Published, export_study

    said = Published(date, license, author, orcid)
    path, found = export_study(study, results, report, out, detections, said)
    print(f"{path}: {len(found.files)} files")
    for phrase in found.missing:
        print(f"missing: {phrase}")


@app.command()
def new_variant(
    name: str,
    base: Annotated[str, typer.Option("--from", help="Variant to start from")],
    folder: Annotated[Path | None, typer.Option(help="Folder outside the project; default: inside")] = None,
) -> None:
    """Write the card and the modules of a new variant, to be edited."""
    from cascadebench.detectors.new_variant import new_variant as write_variant

    for path in write_variant(name, base, folder):
        print(path)
    if folder is None:
        print(f"written into the project itself, {PROJECT}; --folder DIR keeps a variant outside", file=sys.stderr)


@app.command()
def docs(
    study: StudyName,
    results: Results = RESULTS,
    out: Annotated[Path, typer.Option(help="File to write")] = PROJECT / "docs" / "controlled-variables.md",
) -> None:
    """Write the page of all controls, with the places where an inspected study's runs read them."""
    from cascadebench.controls.docs_page import write_page

    write_page(load_study(study), results, out)


@app.command()
def schemas(out: Path = PROJECT / "workflows" / "schemas") -> None:
    """Write the JSON Schemas of studies, protocols, datasets, backbones, cards and runs."""
    from cascadebench.cli.schemas import write_schemas

    write_schemas(out)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (InputError, OSError) as error:
        failure = failure_of(error)
        if failure.kind == "error":
            raise
        print(failure.lines[0], file=sys.stderr)
        sys.exit(2 if failure.kind == "input" else 1)
