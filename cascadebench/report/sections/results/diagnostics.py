"""Diagnostics: why the curves are as they are. Each part appears where its files are."""

from typing import Any

from cascadebench.report.data.diagnostic_files import PROPOSALS_OF, RunDiagnostics
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.cells import listing
from cascadebench.report.parts.diagnostics import (
    entering_rois,
    error_kinds,
    localization_curves,
    loose_scores,
    nms_survivors,
    other_proposals,
    proposal_recall,
    quality_matrix,
)
from cascadebench.report.parts.section import Section, has_runs
from cascadebench.results.layout import DetectionFolder

PARTS = tuple(
    module.PART
    for module in (
        *(entering_rois, localization_curves, proposal_recall, quality_matrix),
        *(other_proposals, loose_scores, error_kinds, nms_survivors),
    )
)
"""In the order of the page."""


def _has(diagnostics: RunDiagnostics, file: str) -> bool:
    return bool(diagnostics.proposals_of) if file == PROPOSALS_OF else file in diagnostics.tables


def file_name(file: str) -> str:
    """Where a diagnostic lies in a run's folder."""
    return f"{PROPOSALS_OF}/*/{DetectionFolder.ap}" if file == PROPOSALS_OF else f"{file}.parquet"


def _missing(results: StudyResults, file: str) -> str:
    expected = (record for record in results.runs if file != "quality_ap" or record.run.variant.stages > 1)
    gone = [record.title for record in expected if not _has(record.diagnostics, file)]
    if not gone:
        return ""
    return f"No {file_name(file)}: {listing(gone)}."


def build(results: StudyResults) -> dict[str, Any]:
    """The parts that some run has, each with its figures and tables and with what is missing; names of the others."""
    parts, absent = [], []
    for part in PARTS:
        if any(_has(record.diagnostics, part.file) for record in results.runs):
            parts.append((part, part.build(results), _missing(results, part.file)))
        else:
            absent.append(f"{part.title} ({file_name(part.file)})")
    return {"parts": parts, "absent": absent}


SECTION = Section("diagnostics", "Diagnostics", build, needs=has_runs)
