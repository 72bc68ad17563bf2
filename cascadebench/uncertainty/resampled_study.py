"""The measurements of a study's runs on one set of resamples of the images, which all of its intervals are made of."""

from functools import cached_property
from pathlib import Path

import numpy as np

from cascadebench.imported.record import ImportedRun, find_imported
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.metrics.coco.ground_truth import ALL, GroundTruth, read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable, ground_truth_table
from cascadebench.metrics.coco.stage_matches import match_stages
from cascadebench.results.layout import ResultsFolder
from cascadebench.study.study import PlannedRun, Study, by_detector
from cascadebench.uncertainty.bootstrap import RESAMPLES, bootstrap, image_weights
from cascadebench.uncertainty.curves import IOU_RANGES, Measured, read_off, signed_sum
from cascadebench.uncertainty.gaps import Curve, Gap, coefficients
from cascadebench.uncertainty.seed_scatter import SeedScatter, seed_scatter, stages_and_gaps


class ResampledStudy:
    """A study's curves of AP by IoU, each matched and resampled when it is first asked for.

    Parameters
    ----------
    results : Path
        The folder that holds ``runs/``, ``datasets/`` and ``studies/``; as an attribute a ``ResultsFolder``.
    resamples, seed : int
        Resamples of the images, the same for everything, and their seed.

    Attributes
    ----------
    evaluated : list of PlannedRun
        Runs that are evaluated and have detections.
    imported : list of ImportedRun
    absent_classes : float
        Classes that a resample lacks, in the mean over the resamples; NaN before anything is resampled.
    """

    def __init__(self, study: Study, results: Path, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.study, self.results, self.resamples, self.seed = study, ResultsFolder(results), resamples, seed
        self.evaluated = [planned for planned in study.runs if self._is_evaluated(planned)]
        self.imported: list[ImportedRun] = find_imported(study, results)[0]
        self.absent_classes = np.nan
        self._curves: dict[tuple[Curve, str], Measured] = {}
        self._detections = {planned.run.id: self.results.run(planned.run.id).detections for planned in self.evaluated}
        self._detections |= {one.id: self.results.imported(one.file.name).detections for one in self.imported}

    def _is_evaluated(self, planned: PlannedRun) -> bool:
        folder = self.results.run(planned.run.id)
        return folder.ap.exists() and folder.detections.exists()

    @cached_property
    def truth(self) -> GroundTruth:
        """The annotations of the validation set; InputError if the prepared dataset is missing."""
        return read_ground_truth(self.results.dataset(self.study.dataset.name).val)

    @cached_property
    def table(self) -> GroundTruthTable:
        """The annotations as matching reads them."""
        return ground_truth_table(self.truth)

    @cached_property
    def image_weights(self) -> np.ndarray:
        """How often every image is in every resample, float64 [resamples, images]."""
        return image_weights(len(self.table.image_ids), self.resamples, self.seed).astype(np.float64)

    def curve(self, curve: Curve, area: str = ALL) -> Measured:
        """AP by IoU of a test stage, mean over the classes: float64 [10], and its samples.

        Raises
        ------
        InputError
            If the detections are malformed, or the number of resamples or their seed is out of range.
        KeyError
            If the run is not evaluated or has no such test stage.
        """
        if (curve, area) not in self._curves:
            # All test stages of a file at once; of a part of the objects the one that a claim asks for.
            self._resample(curve.run, self._test_stages(curve.run) if area == ALL else [curve.test_stage], area)
        return self._curves[curve, area]

    def number(self, term: Curve | Gap, low: float, high: float) -> Measured:
        """Mean over the IoU thresholds from `low` to `high` of a curve, or of the difference that a gap is."""
        return signed_sum((count, read_off(self.curve(one), low, high)) for one, count in coefficients(term).items())

    def difference(self, gap: Gap) -> Measured:
        """A gap by IoU threshold: float64 [10], and its samples."""
        return signed_sum((count, self.curve(one)) for one, count in coefficients(gap).items())

    def recall(self, curve: Curve, max_dets: int) -> Measured:
        """Average recall of a test stage with so many detections per image; what it raises is as for :meth:`curve`."""
        path = self._detections[curve.run]
        rows = read_detections(path)
        rows = rows[rows["test_stage"] == curve.test_stage]
        ((_, matches),) = match_stages(self.table, rows, [curve.test_stage], source=str(path))
        settings = {"seed": self.seed, "resamples": self.resamples, "max_dets": max_dets, "recall": True}
        return read_off(bootstrap(self.table, {"": matches}, **settings).curve(""), *IOU_RANGES["0.50-0.95"])

    @cached_property
    def scatter(self) -> SeedScatter | None:
        """How much trainings scatter, from all detectors with several seeds; None without any."""
        detectors = [runs for runs in by_detector(self.evaluated).values() if len(runs) > 1]
        return seed_scatter(
            stages_and_gaps(
                {planned.run.seed: self.curve(Curve(planned.run.id, label)) for planned in runs}
                for label in self._test_stages(runs[0].run.id)
            )
            for runs in detectors
        )

    def has(self, term: Curve | Gap) -> bool:
        """Whether all runs that a term needs are evaluated."""
        return {curve.run for curve in coefficients(term)} <= self._detections.keys()

    def _test_stages(self, run_id: str) -> list[str]:
        imported = {one.id: one for one in self.imported}
        run = imported[run_id] if run_id in imported else self.study.run(run_id)
        return [stage.label for stage in run.variant.test_stages]

    def _resample(self, run_id: str, labels: list[str], area: str) -> None:
        """Match test stages of a run, or of imported detections, and take their AP on every resample."""
        path = self._detections[run_id]
        detections = read_detections(path)
        detections = detections[detections["test_stage"].isin(labels)]
        for label, matches in match_stages(self.table, detections, labels, source=str(path)):
            # One set at a time: the resamples depend on the seed alone, and the classes' AP of all would be large.
            drawn = bootstrap(self.table, {label: matches}, seed=self.seed, resamples=self.resamples, area=area)
            self._curves[Curve(run_id, label), area] = drawn.curve(label)
            if area == ALL:
                self.absent_classes = float(drawn.absent_classes.mean())
