"""Commands on a study: its plan, its audit, its tables, its report."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cascadebench.cli.arguments import Results, StudyName, console
from cascadebench.core.configuration import PROJECT
from cascadebench.core.errors import InputError
from cascadebench.results.layout import RESULTS, report_of
from cascadebench.study_loading import load_study


def plan(
    study: StudyName,
    results: Results = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Check a study; list its runs by state, with the hours and the disk that they will take."""
    from cascadebench.execution.plan import plan_study
    from cascadebench.execution.plan_output import json_of, print_plan

    planned = load_study(study)
    plans = plan_study(planned, results)
    if as_json:
        print(json.dumps(json_of(planned, plans), indent=2, allow_nan=False))
    else:
        print_plan(planned, plans, Console(width=10_000))  # as wide as its ids: they are there to be copied


def freeze(study: StudyName, run: Annotated[str, typer.Option()], out: Annotated[Path, typer.Option()]) -> None:
    """Write one run of a study as run.yaml."""
    planned = load_study(study)
    if run not in planned.run_ids:
        raise InputError(f"study {study}: no run {run!r}; `cascadebench plan {study}` lists its runs")
    planned.run(run).write(out)


def audit(study: StudyName, results: Results = RESULTS) -> None:
    """Compare the effective values of a study's runs; exit code 1 if one differs that must not."""
    from cascadebench.controls.audit_files import audit_study
    from cascadebench.controls.audit_tables import print_audit

    outcome = audit_study(load_study(study), results)
    print_audit(outcome, console())
    raise typer.Exit(0 if outcome.passed else 1)


def aggregate(study: StudyName, results: Results = RESULTS) -> None:
    """Write the tables of a study, whatever the state of its runs."""
    from cascadebench.tables.aggregate import aggregate as write_tables

    write_tables(load_study(study), results)


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


def examples(
    study: StudyName,
    results: Results = RESULTS,
    score: Annotated[float, typer.Option(help="Lowest score that is shown", min=0, max=1)] = 0.5,
) -> None:
    """Write detections on a few validation images, chosen by a rule, for the report."""
    from cascadebench.examples.write import write_examples

    write_examples(load_study(study), results, score)


def report(
    study: StudyName,
    results: Results = RESULTS,
    out: Annotated[Path | None, typer.Option(help="File to write; default: reports/STUDY.html")] = None,
) -> None:
    """Write the HTML report of a study from its tables."""
    from cascadebench.report.page import write_report

    planned = load_study(study)
    write_report(planned, results, out or report_of(planned.name))


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
    from cascadebench.export import export_study

    said = {"published": date, "license": license, "author": author, "orcid": orcid}
    path, found = export_study(study, results, report, out, detections=detections, **said)
    print(f"{path}: {len(found.files)} files")
    for phrase in found.missing:
        print(f"missing: {phrase}")


def docs(
    study: StudyName,
    results: Results = RESULTS,
    out: Annotated[Path, typer.Option(help="File to write")] = PROJECT / "docs" / "controlled-variables.md",
) -> None:
    """Write the page of all controls, with the places where an inspected study's runs read them."""
    from cascadebench.controls.docs_page import write_page

    write_page(load_study(study), results, out)
