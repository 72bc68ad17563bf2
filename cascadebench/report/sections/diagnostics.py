"""The section of the diagnostics: its parts, each of which appears where its files are."""

from collections.abc import Callable
from dataclasses import dataclass

from cascadebench.report.data.diagnostic_files import PROPOSALS_OF, RunDiagnostics
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.cells import Table, listing
from cascadebench.report.parts.charts import Figure
from cascadebench.report.sections import detection_charts
from cascadebench.report.sections import diagnostic_charts as charts
from cascadebench.report.sections import diagnostic_tables as tables


@dataclass(frozen=True)
class Part:
    """One diagnostic.

    Attributes
    ----------
    id, title : str
    text : str
        What it shows and what it came from.
    limits : str
        What it does not say.
    blocks : tuple of Figure or Table
        In the order of the page.
    missing : str
        Which runs have no file of it; empty if all have.
    """

    id: str
    title: str
    text: str
    limits: str
    blocks: tuple[Figure | Table, ...]
    missing: str


@dataclass(frozen=True)
class _Plan:
    """A part before anything is drawn; `file` is the diagnostic that it reads."""

    id: str
    title: str
    file: str
    text: str
    limits: str
    blocks: tuple[Callable[[StudyResults], Figure | Table], ...]


_PLANS = (
    _Plan(
        "entering-rois",
        "What enters each stage in training",
        "stage_statistics",
        "IoU of the RoIs at the entrance of each stage, and the regression targets of its positives (Cascade R-CNN, "
        "Figs. 4 and 5). A cascade is meant to give every stage about as many positives as the first one has, "
        "although it asks for more IoU, and targets that grow narrower.",
        "Recorded every few iterations, by one process; the weights change meanwhile. Where classifier and regressor "
        "have RoIs of their own, those of the regressor.",
        (charts.stage_iou_figure, charts.target_figure, tables.stage_table),
    ),
    _Plan(
        "localization-curves",
        "Regressors and classifiers by IoU",
        "localization",
        "What a regressor makes of RoIs of a certain IoU (Cascade R-CNN, Fig. 2a), what several in a row make of the "
        "proposals (Fig. 9a), and how hard RoIs of a certain IoU are for a classifier (Fig. 2b). All RoIs of the "
        "prediction pass over the validation images count.",
        "Bins with few RoIs are noisy. Losses compare between classifiers of one IoU threshold only: another "
        "threshold gives other labels. RoIs on crowd regions count as background.",
        (
            charts.localization_figure,
            tables.localization_table,
            charts.accumulated_figure,
            tables.accumulated_table,
            charts.loss_by_iou_figure,
            tables.loss_table,
        ),
    ),
    _Plan(
        "proposal-recall",
        "Recall of the stages",
        "recall",
        "How many objects the boxes of each stage find, whatever class they are given (Cascade R-CNN, Table 8; its "
        "stage t is what enters stage t, so its stage 1 are the proposals here).",
        "Boxes keep the objectness of the proposal that they began as, and no NMS follows a stage.",
        (charts.recall_figure, tables.recall_table),
    ),
    _Plan(
        "quality-matrix",
        "Heads and RoIs of different quality",
        "quality_ap",
        "Every head on the RoIs of every stage, from the same weights (Cascade R-CNN, Fig. 8): on the diagonal each "
        "head has the RoIs that it was trained on.",
        "The heads were trained together, so a head that suffers from other RoIs may still owe its trunk to them.",
        (detection_charts.quality_figure, detection_charts.quality_iou_figure, tables.quality_table),
    ),
    _Plan(
        "other-proposals",
        "Other proposals",
        PROPOSALS_OF,
        "The same weights with ground truth added to the proposals, or with the proposals of another run (Cascade "
        "R-CNN, Fig. 7): what is lost because the proposals are not better.",
        "With ground truth added, AP is a bound that no detector can reach without knowing the answer.",
        (detection_charts.proposals_figure, tables.proposals_table),
    ),
    _Plan(
        "loose-scores",
        "Scores of loose boxes",
        "score_quality",
        "The scores of detections that are right at IoU 0.50 and not above 0.75 (FSCascade, Fig. 5). A last stage "
        "that gives them low scores loses AP at low IoU.",
        "Every such detection counts, also a second one on the same object. Scores of different detectors need not "
        "be on one scale; compare their order, too.",
        (detection_charts.score_figure, tables.score_table),
    ),
    _Plan(
        "error-kinds",
        "Kinds of errors",
        "error_kinds",
        "Why detections are wrong at IoU 0.5, by the kinds of TIDE (Bolya et al., ECCV 2020): the wrong class, a "
        "loose box, both, a duplicate, background, or an object missed.",
        "Kinds depend on the thresholds 0.5 and 0.1, and on all detections down to the lowest score that a run keeps.",
        (detection_charts.error_figure, tables.error_table),
    ),
    _Plan(
        "nms-survivors",
        "What the RPN's NMS leaves",
        "nms_survivors",
        "A looser NMS keeps more boxes near an object, which helps a regressor, and more that are nearly the same, "
        "which does not help a classifier (Decoupled R-CNN, Table I).",
        "Counted on a few images only, with the weights at the end of the training.",
        (tables.nms_table,),
    ),
)


def _has(diagnostics: RunDiagnostics, file: str) -> bool:
    return bool(diagnostics.proposals_of) if file == PROPOSALS_OF else file in diagnostics.tables


def file_name(file: str) -> str:
    """Where a diagnostic lies in a run's folder."""
    return f"{PROPOSALS_OF}/*/ap.parquet" if file == PROPOSALS_OF else f"{file}.parquet"


def _missing(results: StudyResults, file: str) -> str:
    expected = (one for one in results.runs if file != "quality_ap" or one.run.variant.stages > 1)
    gone = [record.title for record in expected if not _has(record.diagnostics, file)]
    if not gone:
        return ""
    return f"No {file_name(file)}: {listing(gone)}."


def parts(results: StudyResults) -> tuple[list[Part], list[str]]:
    """Draw the diagnostics that some run has.

    Returns
    -------
    parts : list of Part
    absent : list of str
        Title and file of every diagnostic that no run has.
    """
    found, absent = [], []
    for plan in _PLANS:
        if any(_has(record.diagnostics, plan.file) for record in results.runs):
            blocks = tuple(block(results) for block in plan.blocks)
            missing = _missing(results, plan.file)
            found.append(Part(plan.id, plan.title, plan.text, plan.limits, blocks, missing))
        else:
            absent.append(f"{plan.title} ({file_name(plan.file)})")
    return found, absent
