"""What the claims of a study ask of its runs, measured from the files under ``results/``.

Only what a claim needs is resampled: the test stages and areas that its terms name. Resample b of every run has the
same weights of the images.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json
from cascadebench.diagnostics.recall import RECALL, average_recall
from cascadebench.diagnostics.score_quality import best_ious
from cascadebench.evidence.claims import Claim, Term
from cascadebench.evidence.measured import APCurve, Key, Measured, MeasuredRun, ap_curve
from cascadebench.evidence.metrics import OF_MODEL
from cascadebench.evidence.quantities import is_of, place_of
from cascadebench.metrics.coco.ap_table import read_ap
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.ground_truth import ALL, GroundTruth, read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable, check_known, ground_truth_table
from cascadebench.metrics.coco.parquet import read_parquet
from cascadebench.metrics.coco.rules import IOUS
from cascadebench.metrics.coco.stage_matches import match_stages
from cascadebench.metrics.coco.summary import metrics
from cascadebench.study.run import Run
from cascadebench.study.study import Study
from cascadebench.tables.aggregate import run_state
from cascadebench.uncertainty.bootstrap import bootstrap, image_weights

FILE_OF_MODEL = {"seconds_per_image": "predicted.json"}
"""File of a run that a metric of the whole model stands in under its own name; the others: ``cost.json``."""


class ResampledImages:
    """The validation set and the weights of its images in every resample, read when they are first needed."""

    def __init__(self, annotations: Path, resamples: int, seed: int) -> None:
        self._annotations = annotations
        self.resamples = resamples
        self.seed = seed

    @cached_property
    def truth(self) -> GroundTruth:
        """The annotations."""
        return read_ground_truth(self._annotations)

    @cached_property
    def table(self) -> GroundTruthTable:
        """The annotations as matching reads them."""
        return ground_truth_table(self.truth)

    @cached_property
    def weights(self) -> np.ndarray:
        """How often every image is in every resample, float64 [resamples, images]."""
        return image_weights(len(self.table.image_ids), self.resamples, self.seed).astype(np.float64)


def measure_study(study: Study, claims: Sequence[Claim], results: Path, resamples: int, seed: int) -> list[MeasuredRun]:
    """Measure what claims ask of the runs of a study.

    Parameters
    ----------
    results : Path
        The folder that holds ``runs/`` and ``datasets/``.
    resamples, seed : int
        Of the images.

    Returns
    -------
    list of MeasuredRun
        All runs of the study in its order; one that is not evaluated says why.

    Raises
    ------
    InputError
        If a file that exists is malformed, or a run is evaluated and the prepared dataset is missing.
    """
    images = ResampledImages(results / "datasets" / study.dataset.name / "val.json", resamples, seed)
    terms = [term for claim in claims for term in claim.terms]
    return [
        _measure(planned.run, [term for term in terms if is_of(term, planned.run)], results, images)
        for planned in study.runs
    ]


def _measure(run: Run, terms: Sequence[Term], results: Path, images: ResampledImages) -> MeasuredRun:
    """Measure the terms of one run."""
    folder = results / "runs" / run.id
    problem = _problem(folder)
    others = {Key(term.metric): _of_model(term.metric, folder) for term in terms if term.metric in OF_MODEL}
    curves: dict[tuple[str, str], APCurve] = {}
    if not problem:
        curves = _curves(run, terms, folder, images)
        others |= _scores(run, terms, folder, images)
        others |= _recalls(run, terms, folder)
    return MeasuredRun(run, problem, curves, {key: found for key, found in others.items() if found is not None})


def _problem(folder: Path) -> str:
    """Why a run has no detections to measure; empty if it has."""
    state, detail = run_state(folder)
    if state == "evaluated":
        return "" if (folder / "detections.parquet").exists() else "detections.parquet is missing"
    return ": ".join(filter(None, (state if state in ("failed", "not run") else f"not evaluated, {state}", detail)))


def _curves(run: Run, terms: Sequence[Term], folder: Path, images: ResampledImages) -> dict[tuple[str, str], APCurve]:
    """AP by IoU of the test stages and areas that the terms name, on the same resamples for all runs."""
    asked = dict.fromkeys((place_of(term, run), term.area) for term in terms if term.metric == "AP")
    known = {stage.label for stage in run.variant.test_stages}
    labels = list(dict.fromkeys(label for label, _ in asked if label in known))
    if not labels:
        return {}
    path = folder / "detections.parquet"
    detections = read_detections(path)
    detections = detections[detections["test_stage"].isin(labels)]
    matches = match_stages(images.table, detections, labels, source=str(path))
    curves = {}
    for area in dict.fromkeys(area for _, area in asked):
        chosen = {label: matches[label] for label in labels if (label, area) in asked}
        drawn = bootstrap(images.table, chosen, seed=images.seed, resamples=images.resamples, area=area)
        curves |= {(label, area): ap_curve(drawn.ap[label], drawn.draws[label]) for label in chosen}
    return curves


def _scores(run: Run, terms: Sequence[Term], folder: Path, images: ResampledImages) -> dict[Key, Measured]:
    """Mean and standard deviation of the scores of detections whose IoU lies in a range."""
    found: dict[Key, Measured] = {}
    path = folder / "detections.parquet"
    for term in (term for term in terms if term.metric.startswith("score")):
        key = Key(term.metric, place_of(term, run), term.iou)
        if key in found:
            continue
        detections = read_detections(path)
        detections = detections[detections["test_stage"] == key.at]
        low, high = term.iou or (IOUS[0], IOUS[-1])
        ious = best_ious(images.truth, detections)
        near = detections[(ious >= low) & (ious <= high)]
        if len(near):
            found[key] = _score_statistic(term.metric, near, images, str(path))
    return found


def _score_statistic(metric: str, detections: pd.DataFrame, images: ResampledImages, source: str) -> Measured:
    """One statistic of the scores, and the same where every image has its weight in a resample."""
    ids, scores = detections["image_id"].to_numpy(), detections["score"].to_numpy(dtype=np.float64)
    position = images.table.image_index(ids)
    check_known(position, ids, "image_id", images.table, source)
    # Taken from the mean, so that the squares do not cancel.
    middle = scores.mean()
    powers = np.stack([np.ones(len(scores)), scores - middle, (scores - middle) ** 2], axis=1)
    of_image = np.zeros((len(images.table.image_ids), 3))
    np.add.at(of_image, position, powers)
    count, first, second = (images.weights @ of_image).T
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where a resample has no such detection
        mean, square = first / count, second / count
        spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    if metric == "score_mean":
        return Measured(float(middle), middle + mean)
    return Measured(float(scores.std()), spread)


def _recalls(run: Run, terms: Sequence[Term], folder: Path) -> dict[Key, Measured]:
    """Average recall of detections and of proposals; they are not resampled."""
    found: dict[Key, Measured] = {}
    for term in terms:
        key = Key(term.metric, place_of(term, run))
        if term.metric.startswith("AR"):
            rows = metrics(read_ap(folder / "ap.parquet"))
            if (key.at, ALL) in rows.index:
                found[key] = Measured(float(rows.loc[(key.at, ALL), term.metric]))
        elif term.metric.startswith("proposal_AR") and (folder / "recall.parquet").exists():
            recalls = average_recall(read_parquet(folder / "recall.parquet", RECALL))
            # What enters stage t is what left stage t - 1; stage 0 are the proposals.
            stage, limit = int(key.at.removeprefix("stage ")) - 1, int(term.metric.removeprefix("proposal_AR"))
            if (stage, ALL, limit) in recalls.index:
                found[key] = Measured(float(recalls[stage, ALL, limit]))
    return found


def _of_model(metric: str, folder: Path) -> Measured | None:
    """A number of the whole model; None if the run's folder does not hold it."""
    path = folder / FILE_OF_MODEL.get(metric, "cost.json")
    if not path.exists():
        return None
    content = read_json(path)
    value = content.get(metric) if isinstance(content, dict) else None
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError(f"{path}: {metric}: {value!r} is no number")
    return None if value is None else Measured(float(value))
