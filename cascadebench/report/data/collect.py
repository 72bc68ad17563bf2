"""Everything that the report reads. A file that is missing or unreadable is noted and never stops the report."""

from pathlib import Path

from cascadebench.imported.record import find_imported
from cascadebench.report.data.diagnostic_files import read_diagnostics
from cascadebench.report.data.result_files import (
    read_audit_file,
    read_examples_file,
    read_log,
    read_object,
    read_table,
)
from cascadebench.report.data.study_results import AP_BY_IOU, RunRecord, StudyResults
from cascadebench.study.study import Study

_VERDICT_WORDS = (
    "claim", "words", "source", "place", "framework", "backbone", "verdict", "reading", "unadjusted_reading", "unit",
    "direction", "threshold_reason", "sampling", "reasons", "notes",
)  # fmt: skip
_VERDICT_NUMBERS = (
    "value", "low", "high", "adjusted_low", "adjusted_high", "adjusted_p_value", "holm_level", "threshold",
    "threshold_high", "published", "seeds", "samples",
)  # fmt: skip

# The tables of a study: their columns of text and of numbers. Other columns are left alone.
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "status": (("run", "state", "detail"), ()),
    "ap": (("run", "test_stage", "headline"), ("AP", *AP_BY_IOU, "APs", "APm", "APl", "AR100")),
    "ap_per_class": (("run", "test_stage", "category"), ("AP", "AP50", "AP75")),
    "ap_masks": (("run", "test_stage"), ("AP", *AP_BY_IOU, "APs", "APm", "APl", "AR100")),
    "gaps": (("run", "gap"), ("iou", "gap_ap")),
    "intervals": (
        ("label", "framework", "backbone", "test_stage", "gap", "quantity"),
        ("value", "low", "high", "bias", "seeds", "resamples", "bootstrap_seed"),
    ),
    "verdicts": (_VERDICT_WORDS, _VERDICT_NUMBERS),
    "cost": (
        ("run", "train_device"),
        (
            "parameters",
            "trainable_parameters",
            "flops",
            "seconds_per_iteration",
            "seconds_per_image",
            "peak_memory_mb",
        ),
    ),
}
RUN_FILES = ("controls", "cost", "trained", "predicted")


def collect(study: Study, results: Path) -> StudyResults:
    """Read everything that exists of a study.

    Parameters
    ----------
    results : Path
        The folder that holds ``studies/``, ``runs/`` and ``datasets/``.
    """
    missing: list[str] = []
    folder = results / "studies" / study.name
    # A table of masks says something only where a variant predicts them, verdicts only where there are claims.
    idle = {"ap_masks": not study.masks, "verdicts": not study.file.claims}
    names = [name for name in TABLES if not idle.get(name)]
    tables = {name: read_table(folder / f"{name}.csv", *TABLES[name], missing) for name in names}
    states = {row["run"]: row for row in tables["status"].to_dict("records")}
    records, gone = [], {}
    for planned in study.runs:
        identifier = planned.run.id
        run_folder = results / "runs" / identifier
        files = {}
        for name in (*RUN_FILES, "failed"):
            files[name], problem = read_object(run_folder / f"{name}.json")
            if problem and not (name == "failed" and problem == "missing"):
                gone.setdefault((f"{name}.json", problem), []).append(identifier)
        log = read_log(run_folder / "train_log.jsonl")
        if log.empty:
            gone.setdefault(("train_log.jsonl", "missing or empty"), []).append(identifier)
        status = states.get(identifier, {"state": "unknown", "detail": "not in status.csv"})
        diagnostics = read_diagnostics(run_folder, missing)
        words = (status["state"], status["detail"])
        records.append(RunRecord(planned.run, planned.label, *words, files, log, diagnostics))
    for (name, problem), runs in gone.items():
        which = "" if len(runs) == len(study.runs) else f": {', '.join(runs)}"
        missing.append(f"{name} is {problem} for {len(runs)} of {len(study.runs)} runs{which}.")
    lock, problem = read_object(results / "datasets" / study.dataset.name / "lock.json")
    if problem:
        missing.append(f"datasets/{study.dataset.name}/lock.json is {problem}.")
    audit = read_audit_file(folder / "audit.json", missing) if study.runs else None
    examples = read_examples_file(folder, missing) if study.runs else None
    imported, problems = find_imported(study, results)
    missing += [f"Imported detections {name} are not shown: {problem}." for name, problem in problems.items()]
    return StudyResults(study, tables, tuple(records), lock, audit, examples, missing, tuple(imported))
