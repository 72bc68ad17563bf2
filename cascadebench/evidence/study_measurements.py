"""What the claims of a study ask of its runs, measured from the files under ``results/``."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_object
from cascadebench.diagnostics.recall import RECALL, average_recall
from cascadebench.diagnostics.score_quality import best_ious
from cascadebench.evidence.claims import Claim, Term
from cascadebench.evidence.metrics import OF_MODEL
from cascadebench.evidence.quantities import Key, MeasuredRun, is_of, place_of
from cascadebench.metrics.coco.ap_table import metrics, read_ap
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.ground_truth import ALL
from cascadebench.metrics.coco.ground_truth_table import check_known
from cascadebench.metrics.coco.parquet import read_parquet
from cascadebench.results.layout import RunFolder
from cascadebench.results.run_state import run_state
from cascadebench.study.run import Run
from cascadebench.uncertainty.curves import Measured
from cascadebench.uncertainty.gaps import Curve
from cascadebench.uncertainty.resampled_study import ResampledStudy

FILE_OF_MODEL = {"seconds_per_image": RunFolder.predicted}
"""File of a run that a metric of the whole model stands in under its own name; the others: ``cost.json``."""


def measure_study(resampled: ResampledStudy, claims: Sequence[Claim]) -> list[MeasuredRun]:
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
    terms = [term for claim in claims for term in claim.terms]
    return [
        _measure(planned.run, [term for term in terms if is_of(term, planned.run)], resampled)
        for planned in resampled.study.runs
    ]


def _measure(run: Run, terms: Sequence[Term], resampled: ResampledStudy) -> MeasuredRun:
    """Measure the terms of one run."""
    folder = resampled.results.run(run.id)
    problem = _problem(folder)
    others = {Key(term.metric): _of_model(term.metric, folder) for term in terms if term.metric in OF_MODEL}
    curves: dict[tuple[str, str], Measured] = {}
    if not problem:
        known = {stage.label for stage in run.variant.test_stages}
        asked = dict.fromkeys((place_of(term, run), term.area) for term in terms if term.metric == "AP")
        curves = {(label, area): resampled.curve(Curve(run.id, label), area) for label, area in asked if label in known}
        others |= _scores(run, terms, folder, resampled)
        others |= _recalls(run, terms, folder)
    return MeasuredRun(run, problem, curves, {key: found for key, found in others.items() if found is not None})


def _problem(folder: RunFolder) -> str:
    """Why a run has no detections to measure; empty if it has."""
    state, detail = run_state(folder.path)
    if state == "evaluated":
        return "" if folder.detections.exists() else f"{RunFolder.detections} is missing"
    return ": ".join(filter(None, (state if state in ("failed", "not run") else f"not evaluated, {state}", detail)))


def _scores(run: Run, terms: Sequence[Term], folder: RunFolder, resampled: ResampledStudy) -> dict[Key, Measured]:
    """Mean and standard deviation of the scores of detections whose IoU lies in a range."""
    found: dict[Key, Measured] = {}
    path = folder.detections
    for term in (term for term in terms if term.metric.startswith("score")):
        key = Key(term.metric, place_of(term, run), term.iou)
        if key in found:
            continue
        detections = read_detections(path)
        detections = detections[detections["test_stage"] == key.at]
        low, high = term.ends
        ious = best_ious(resampled.truth, detections)
        near = detections[(ious >= low) & (ious <= high)]
        if len(near):
            found[key] = _score_statistic(term.metric, near, resampled, str(path))
    return found


def _score_statistic(metric: str, detections: pd.DataFrame, resampled: ResampledStudy, source: str) -> Measured:
    """One statistic of the scores, and the same where every image has its weight in a resample."""
    check_known(detections, resampled.table, source)
    position = resampled.table.image_index(detections["image_id"].to_numpy())
    scores = detections["score"].to_numpy(dtype=np.float64)
    # Taken from the mean, so that the squares do not cancel.
    middle = scores.mean()
    powers = np.stack([np.ones(len(scores)), scores - middle, (scores - middle) ** 2], axis=1)
    of_image = np.zeros((len(resampled.table.image_ids), 3))
    np.add.at(of_image, position, powers)
    count, first, second = (resampled.image_weights @ of_image).T
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where a resample has no such detection
        mean, square = first / count, second / count
        spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    if metric == "score_mean":
        return Measured(float(middle), middle + mean)
    return Measured(float(scores.std()), spread)


def _recalls(run: Run, terms: Sequence[Term], folder: RunFolder) -> dict[Key, Measured]:
    """Average recall of detections and of proposals; they are not resampled."""
    found: dict[Key, Measured] = {}
    for term in terms:
        key = Key(term.metric, place_of(term, run))
        if term.metric.startswith("AR"):
            rows = metrics(read_ap(folder.ap))
            if (key.at, ALL) in rows.index:
                found[key] = Measured(float(rows.loc[(key.at, ALL), term.metric]))
        elif term.metric.startswith("proposal_AR") and folder.recall.exists():
            recalls = average_recall(read_parquet(folder.recall, RECALL))
            # What enters stage t is what left stage t - 1; stage 0 are the proposals.
            stage, limit = int(key.at.removeprefix("stage ")) - 1, int(term.metric.removeprefix("proposal_AR"))
            if (stage, ALL, limit) in recalls.index:
                found[key] = Measured(float(recalls[stage, ALL, limit]))
    return found


def _of_model(metric: str, folder: RunFolder) -> Measured | None:
    """A number of the whole model; None if the run's folder does not hold it."""
    path = folder.path / FILE_OF_MODEL.get(metric, RunFolder.cost)
    if not path.exists():
        return None
    value = read_object(path).get(metric)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError(f"{path}: {metric}: {value!r} is no number")
    return None if value is None else Measured(float(value))
