"""What the claims of a study ask of its runs, measured from the files under ``results/``."""

from collections.abc import Sequence

import numpy as np

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_object
from cascadebench.diagnostics.recall import RECALL, average_recall
from cascadebench.diagnostics.score_quality import best_ious
from cascadebench.evidence.claims import Range, SourcedClaim, Term
from cascadebench.evidence.metrics import OF_MODEL
from cascadebench.evidence.quantities import Key, MeasuredRun, is_of, place_of
from cascadebench.evidence.readings import under_readings
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.ground_truth import ALL
from cascadebench.metrics.coco.ground_truth_table import check_known
from cascadebench.metrics.coco.parquet import read_parquet
from cascadebench.results.layout import RunFolder
from cascadebench.results.run_state import run_state
from cascadebench.study.run import Run
from cascadebench.uncertainty.curves import FRACTION, Measured, centred
from cascadebench.uncertainty.gaps import Curve
from cascadebench.uncertainty.resampled_study import ResampledStudy

FILE_OF_MODEL = {"seconds_per_image": RunFolder.predicted}
"""File of a run that a metric of the whole model stands in under its own name; the others: ``cost.json``."""


def measure_study(resampled: ResampledStudy, claims: Sequence[SourcedClaim]) -> list[MeasuredRun]:
    """Measure what claims ask of the runs of a study.

    Returns
    -------
    list of MeasuredRun
        All runs of the study in its order; one that is not evaluated says why.

    Raises
    ------
    InputError
        If a file that exists is malformed, or a run is evaluated and the prepared dataset is missing.
    """
    terms = [term for claim in claims for one in under_readings(claim) for term in one.terms]
    return [
        _measure(planned.run, [term for term in terms if is_of(term, planned.run)], resampled)
        for planned in resampled.study.runs
    ]


def _measure(run: Run, terms: Sequence[Term], resampled: ResampledStudy) -> MeasuredRun:
    """Measure the terms of one run."""
    folder = resampled.results.run(run.id)
    problem, known = _problem(folder), {stage.label for stage in run.variant.test_stages}
    curves: dict[tuple[str, str], Measured] = {}
    others: dict[Key, Measured | None] = {}
    for term in terms:
        key = Key(term.metric, place_of(term, run), term.iou)
        if term.metric in OF_MODEL:
            others[key] = _of_model(key, folder)
        elif problem or key in others:
            continue
        elif term.metric.startswith("score"):
            others[key] = _score(key, term.ends, folder, resampled)
        elif term.metric.startswith("proposal"):
            others[key] = _proposal_recall(key, folder)
        elif key.at not in known:
            continue
        elif term.metric != "AP":
            others[key] = resampled.recall(Curve(run.id, key.at), int(key.metric.removeprefix("AR")))
        else:
            curves[key.at, term.area] = resampled.curve(Curve(run.id, key.at), term.area)
    return MeasuredRun(run, problem, curves, {key: found for key, found in others.items() if found is not None})


def _problem(folder: RunFolder) -> str:
    """Why a run has no detections to measure; empty if it has."""
    state, detail = run_state(folder.path)
    if state == "evaluated":
        return "" if folder.detections.exists() else f"{RunFolder.detections} is missing"
    return ": ".join(filter(None, (state if state in ("failed", "not run") else f"not evaluated, {state}", detail)))


def _score(key: Key, ends: Range, folder: RunFolder, resampled: ResampledStudy) -> Measured | None:
    """Mean score of the detections whose IoU lies in a range, for the balance over that of those above the range.

    In a resample every image has its weight. None: there is no such detection.
    """
    detections, table = read_detections(folder.detections), resampled.table
    check_known(detections, table, str(folder.detections))
    detections = detections[detections["test_stage"] == key.at]
    ious, scores = best_ious(resampled.truth, detections), detections["score"].to_numpy(np.float64)
    image = table.image_index(detections["image_id"].to_numpy())

    def mean(group: np.ndarray) -> tuple[float, np.ndarray]:
        totals, counts = (np.bincount(image[group], of, len(table.image_ids)) for of in (scores[group], None))
        return scores[group].mean(), (resampled.image_weights @ totals) / (resampled.image_weights @ counts)

    inside, above = (ious >= ends[0]) & (ious <= ends[1]), ious > ends[1]
    balance = key.metric == "score_balance"
    if not inside.any() or (balance and not above.any()):
        return None
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where a resample has no such detection
        found = mean(inside)
        return centred(*map(np.divide, found, mean(above))) if balance else centred(*found, FRACTION)


def _proposal_recall(key: Key, folder: RunFolder) -> Measured | None:
    """Average recall of proposals, which are not resampled."""
    if not folder.recall.exists():
        return None
    recalls = average_recall(read_parquet(folder.recall, RECALL))
    # What enters stage t is what left stage t - 1; stage 0 are the proposals.
    place = int(key.at.removeprefix("stage ")) - 1, ALL, int(key.metric.removeprefix("proposal_AR"))
    return Measured(float(recalls[place]), within=FRACTION) if place in recalls.index else None


def _of_model(key: Key, folder: RunFolder) -> Measured | None:
    """A number of the whole model; None if the run's folder does not hold it."""
    path = folder.path / FILE_OF_MODEL.get(key.metric, RunFolder.cost)
    if not path.exists():
        return None
    value = read_object(path).get(key.metric)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError(f"{path}: {key.metric}: {value!r} is no number")
    return None if value is None else Measured(float(value))
