"""Bootstrap over images: the AP of detection sets on the same resamples of one validation set."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.accumulation import accumulate, mean_of_known
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable
from cascadebench.metrics.coco.matching import Matches
from cascadebench.metrics.coco.rules import AREAS
from cascadebench.uncertainty.curves import Measured
from cascadebench.uncertainty.weighted_ap import weighted_ap, weighting_plan

RESAMPLES = 1999
"""Resamples unless asked otherwise: the ends of a 95% interval are then the 50th sample from either side."""
MOST_RESAMPLES = 100_000
"""More would not fit the memory: for 5000 images and 80 classes these take 1.1 GB, and 0.6 GB for each further set."""


@dataclass(frozen=True)
class Bootstrap:
    """AP of every detection set on the validation set and on its resamples; -1 without ground truth."""

    ap: dict[str, np.ndarray]
    """float64 [classes, 10 IoU thresholds]: on the validation set itself."""
    draws: dict[str, np.ndarray]
    """float64 [resamples, classes, 10 IoU thresholds]: on the resamples, which are the same for all sets."""

    def curve(self, name: str) -> Measured:
        """AP of a set by IoU threshold: the mean over the classes with ground truth, in a resample over those there."""
        return Measured(mean_of_known(self.ap[name], axis=-2), mean_of_known(self.draws[name], axis=-2))

    @property
    def absent_classes(self) -> np.ndarray:
        """Classes that have ground truth but not in the resample, int64 [resamples]; the same for every set."""
        ap, draws = (next(iter(values.values())) for values in (self.ap, self.draws))
        return ((draws[..., 0] < 0) & (ap[:, 0] >= 0)).sum(axis=1)


def image_weights(images: int, resamples: int, seed: int) -> np.ndarray:
    """How often each image is drawn: `images` draws with replacement, `resamples` times.

    Returns
    -------
    ndarray, uint8 [resamples, images]
        Row b depends on `seed`, b and `images` only, so more resamples keep the earlier ones.

    Raises
    ------
    InputError
        If there are no images, or `resamples` or `seed` is out of range.
    """
    if images == 0 or not 2 <= resamples <= MOST_RESAMPLES or seed < 0:
        raise InputError(
            f"bootstrap: images {images}, resamples {resamples}, seed {seed}; "
            f"at least 1 image, 2 to {MOST_RESAMPLES} resamples and a seed of 0 or more are needed"
        )
    weights = np.empty((resamples, images), dtype=np.uint8)
    for number in range(resamples):
        drawn = np.random.default_rng([seed, number]).integers(images, size=images)
        counts = np.bincount(drawn, minlength=images)
        if counts.max(initial=0) > 255:
            raise RuntimeError(f"resample {number} of seed {seed} draws an image more than 255 times")
        weights[number] = counts
    return weights


def bootstrap(
    table: GroundTruthTable,
    sets: Mapping[str, Matches],
    *,
    seed: int,
    resamples: int = RESAMPLES,
    area: str = "all",
    max_dets: int = 100,
    threads: int = 1,
) -> Bootstrap:
    """Resample the images, once for all detection sets, and take the AP of every set on every resample.

    Nothing is matched anew: a resample is the same matching with a weight for every image. The same arguments give the
    same bytes, whatever `threads` is and whichever other sets there are.

    Parameters
    ----------
    sets : mapping of str to Matches
        Detections of any models, frameworks and test stages, matched with `table`.
    seed : int
        Not negative.
    area : str
        One of ``all``, ``small``, ``medium``, ``large``.
    threads : int
        Threads that share the resamples.

    Raises
    ------
    InputError
        If there are no images, or `resamples` or `seed` is out of range.
    """
    weights = image_weights(len(table.image_ids), resamples, seed)
    ap, draws = {}, {}
    for name, matches in sets.items():
        ap[name] = accumulate(table, matches, (max_dets,)).ap[:, :, AREAS.index(area), 0].T.copy()
        plan = weighting_plan(table, matches, area=area, max_dets=max_dets)
        draws[name] = weighted_ap(plan, weights, threads=threads)
    return Bootstrap(ap, draws)
