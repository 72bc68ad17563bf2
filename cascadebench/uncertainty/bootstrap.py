"""Bootstrap over images: AP or recall of detection sets on the same resamples of one validation set."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.accumulation import accumulate, mean_of_known
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable
from cascadebench.metrics.coco.matching import Matches
from cascadebench.metrics.coco.rules import AREAS
from cascadebench.uncertainty.curves import FRACTION, Measured, centred
from cascadebench.uncertainty.weighted_ap import weighted_ap, weighted_recall, weighting_plan

RESAMPLES = 1999
"""Resamples unless asked otherwise: the ends of a 95% interval are then the 50th sample from either side."""
MOST_RESAMPLES = 100_000
"""More would not fit the memory: for 5000 images and 80 classes these take 1.1 GB, and 0.6 GB for each further set."""


@dataclass(frozen=True)
class Bootstrap:
    """AP, or recall, of every detection set on the validation set and on its resamples; -1 without ground truth."""

    ap: dict[str, np.ndarray]
    """float64 [classes, 10 IoU thresholds]: on the validation set itself."""
    draws: dict[str, np.ndarray]
    """float64 [resamples, classes, 10 IoU thresholds]: on the resamples, which are the same for all sets."""

    images_of_class: np.ndarray
    """int64 [classes]: images that hold an object of the class that counts."""

    def curve(self, name: str) -> Measured:
        """AP of a set by IoU threshold: the mean over the classes with ground truth, in a resample over those there.

        A class scatters in the samples as :func:`widening` says, and the samples lie about the value.
        """
        factors, by_iou = widening(self.images_of_class), np.moveaxis(self.draws[name], -1, 0)
        samples = np.stack([_mean_of_widened(draws, factors) for draws in by_iou], axis=-1)
        return centred(mean_of_known(self.ap[name], axis=-2), samples, FRACTION)

    @property
    def absent_classes(self) -> np.ndarray:
        """Classes that have ground truth but not in the resample, int64 [resamples]; the same for every set."""
        ap, draws = (next(iter(values.values())) for values in (self.ap, self.draws))
        return ((draws[..., 0] < 0) & (ap[:, 0] >= 0)).sum(axis=1)


def widening(images_of_class: np.ndarray) -> np.ndarray:
    """How many times farther from its mean a class's AP is taken to be than it is on a resample.

    A resample draws the images of a class out of the few that there are, and a class in one image hardly varies at all.
    For a mean over m images that gives (m - 1)/m of the variance among sets of images. AP misses less, because an image
    drawn twice moves it by itself: in simulation (``benchmarks/coverage.py``) 1 + 1/(m - 1)^2 makes up for it from 1 to
    80 classes. Classes in one image are taken to vary as the others do on the average.

    Parameters
    ----------
    images_of_class : ndarray, int64 [classes]

    Returns
    -------
    ndarray, float64 [classes]
    """
    several = images_of_class > 1
    factors = np.ones(len(images_of_class))
    factors[several] = np.sqrt(1 + 1 / (images_of_class[several] - 1) ** 2)
    return factors * np.sqrt(np.count_nonzero(images_of_class) / max(np.count_nonzero(several), 1))


def _mean_of_widened(draws: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Mean over the classes at one IoU threshold: float64 [resamples] of [resamples, classes]; NaN without any."""
    known, middle = draws > -1, mean_of_known(draws, axis=0)
    count, total = known.sum(axis=1), np.where(known, middle + factors * (draws - middle), 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


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
    recall: bool = False,
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
    recall : bool
        Take the highest recall in place of AP.
    threads : int
        Threads that share the resamples.

    Raises
    ------
    InputError
        If there are no images, or `resamples` or `seed` is out of range.
    """
    weights = image_weights(len(table.image_ids), resamples, seed)
    place = AREAS.index(area)
    ap, draws, images_of_class = {}, {}, np.zeros(table.classes, dtype=np.int64)
    for name, matches in sets.items():
        found = accumulate(table, matches, (max_dets,))
        ap[name] = (found.recall if recall else found.ap)[:, :, place, 0].T.copy()
        plan = weighting_plan(table, matches, area=area, max_dets=max_dets)
        draws[name] = (weighted_recall if recall else weighted_ap)(plan, weights, threads=threads)
        images_of_class = plan.images_of_class
    return Bootstrap(ap, draws, images_of_class)
