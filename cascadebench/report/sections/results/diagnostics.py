"""Diagnostics: why the curves are as they are. Each part appears where its files are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cascadebench.report.data.diagnostic_files import PROPOSALS_OF, Diagnostics
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.cells import Table, listing
from cascadebench.report.parts.charts import Figure
from cascadebench.report.parts.diagnostics import detections, proposals, stages
from cascadebench.report.parts.diagnostics.part import Values, values
from cascadebench.report.parts.section import Section, has_runs
from cascadebench.results.layout import DetectionFolder


@dataclass(frozen=True)
class Part:
    """One diagnostic.

    Attributes
    ----------
    file : str
        The diagnostic that it reads; the part appears where some run has it.
    text : str
        What it shows and what it came from.
    limits : str
        What it does not say.
    values : function
        Values of every detector that has some.
    blocks : tuple of functions
        Give its figures and tables, in the order of the page.
    """

    id: str
    title: str
    file: str
    text: str
    limits: str
    values: Callable[[StudyResults], Values]
    blocks: tuple[Callable[[StudyResults, Values], Figure | Table], ...]

    def build(self, results: StudyResults) -> list[Figure | Table]:
        """Its figures and tables."""
        known = self.values(results)
        return [block(results, known) for block in self.blocks]


PARTS = (
    Part(
        "entering-rois",
        "What enters each stage in training",
        "stage_statistics",
        "IoU of the RoIs at the entrance of each stage, and the regression targets of its positives (Cascade R-CNN, "
        "Figs. 4 and 5). A cascade is meant to give every stage about as many positives as the first one has, "
        "although it asks for more IoU, and targets that grow narrower.",
        "Recorded every few iterations, by one process; the weights change meanwhile. Where classifier and regressor "
        "have RoIs of their own, those of the regressor.",
        partial(values, stages.entering_rois),
        (stages.entering_figure, stages.target_figure, stages.entering_table),
    ),
    Part(
        "localization-curves",
        "Regressors and classifiers by IoU",
        "localization",
        "What a regressor makes of RoIs of a certain IoU (Cascade R-CNN, Fig. 2a), what several in a row make of the "
        "proposals (Fig. 9a), and how hard RoIs of a certain IoU are for a classifier (Fig. 2b). All RoIs of the "
        "prediction pass over the validation images count.",
        "Bins with few RoIs are noisy. Losses compare between classifiers of one IoU threshold only: another "
        "threshold gives other labels. RoIs on crowd regions count as background.",
        partial(values, stages.by_input_iou),
        (
            stages.regressor_figure,
            stages.regressor_table,
            stages.accumulated_figure,
            stages.accumulated_table,
            stages.loss_figure,
            stages.loss_table,
        ),
    ),
    Part(
        "proposal-recall",
        "Recall of the stages",
        "recall",
        "How many objects the boxes of each stage find, whatever class they are given (Cascade R-CNN, Table 8; its "
        "stage t is what enters stage t, so its stage 1 are the proposals here).",
        "Boxes keep the objectness of the proposal that they began as, and no NMS follows a stage.",
        partial(values, proposals.recall),
        (proposals.recall_figure, proposals.recall_table),
    ),
    Part(
        "quality-matrix",
        "Heads and RoIs of different quality",
        "quality_ap",
        "Every head on the RoIs of every stage, from the same weights (Cascade R-CNN, Fig. 8): on the diagonal each "
        "head has the RoIs that it was trained on.",
        "The heads were trained together, so a head that suffers from other RoIs may still owe its trunk to them.",
        partial(values, detections.quality_matrix),
        (detections.quality_figure, detections.quality_iou_figure, detections.quality_table),
    ),
    Part(
        "other-proposals",
        "Other proposals",
        PROPOSALS_OF,
        "The same weights with ground truth added to the proposals, or with the proposals of another run (Cascade "
        "R-CNN, Fig. 7): what is lost because the proposals are not better.",
        "With ground truth added, AP is a bound that no detector can reach without knowing the answer.",
        proposals.other_proposals,
        (proposals.proposals_figure, proposals.proposals_table),
    ),
    Part(
        "loose-scores",
        "Scores of loose boxes",
        "score_quality",
        "The scores of detections that are right at IoU 0.50 and not above 0.75 (FSCascade, Fig. 5). A last stage "
        "that gives them low scores loses AP at low IoU.",
        "Every such detection counts, also a second one on the same object. Scores of different detectors need not "
        "be on one scale; compare their order, too.",
        partial(values, detections.loose_scores),
        (detections.score_figure, detections.score_table),
    ),
    Part(
        "error-kinds",
        "Kinds of errors",
        "error_kinds",
        "Why detections are wrong at IoU 0.5, by the kinds of TIDE (Bolya et al., ECCV 2020): the wrong class, a "
        "loose box, both, a duplicate, background, or an object missed.",
        "Kinds depend on the thresholds 0.5 and 0.1, and on all detections down to the lowest score that a run keeps.",
        partial(values, detections.error_kinds),
        (detections.error_figure, detections.error_table),
    ),
    Part(
        "nms-survivors",
        "What the RPN's NMS leaves",
        "nms_survivors",
        "A looser NMS keeps more boxes near an object, which helps a regressor, and more that are nearly the same, "
        "which does not help a classifier (Decoupled R-CNN, Table I).",
        "Counted on a few images only, with the weights at the end of the training.",
        partial(values, proposals.nms_survivors),
        (proposals.nms_table,),
    ),
)
"""In the order of the page."""


def _has(diagnostics: Diagnostics, file: str) -> bool:
    return any(name.partition("/")[0] == file for name in diagnostics)


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
