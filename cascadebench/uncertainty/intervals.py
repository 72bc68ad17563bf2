"""Confidence intervals of AP and of gaps of AP, from resamples of the images and from several training seeds.

``docs/statistics.md`` says what the intervals mean, for whom they hold, and what they leave out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.uncertainty.bootstrap import Bootstrap

NORMAL_QUANTILE = 1.96
"""Standard errors to each side of an absolute value."""
PERCENTILES = (2.5, 97.5)
"""Ends of a gap's interval."""
QUANTITIES = ("AP", *AP_AT_IOU)
"""AP over all IoU thresholds, and at each."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval.

    Attributes
    ----------
    value : float
        On the validation set itself, mean over the seeds.
    low, high : float
        Ends of the interval.
    standard_error : float
        Of both parts together.
    image_error : float
        The part that comes from the choice of images.
    seed_error : float
        The part that comes from the choice of training seeds alone, 0 where it is too small to be seen; NaN with one
        seed, and then not in `standard_error`.
    widening : float
        Factor by which the interval is wider than with very many seeds; 1 with one seed.
    bias : float
        Mean over the resamples minus value: how far AP rises when the same images are drawn again. It is not taken off.
    seeds : int
        Training seeds.
    resamples : int
        Resamples of the images that were asked for.
    empty_resamples : int
        Among them those that were left out because they hold no object of any class in question.
    """

    value: float
    low: float
    high: float
    standard_error: float
    image_error: float
    seed_error: float
    widening: float
    bias: float
    seeds: int
    resamples: int
    empty_resamples: int


def quantities(ap: np.ndarray, category: int | None = None) -> dict[str, np.ndarray]:
    """AP over all IoU thresholds and at each, as the mean over the classes that have ground truth.

    Parameters
    ----------
    ap : ndarray, float64 [..., classes, 10 IoU thresholds]
        -1 without ground truth.
    category : int, optional
        One class instead of the mean.

    Returns
    -------
    dict of str to ndarray, float64 [...]
        By the names in :data:`QUANTITIES`; NaN without any ground truth.
    """
    if category is not None:
        ap = ap[..., category : category + 1, :]
    known = ap > -1
    count = known.sum(axis=-2)
    total = np.where(known, ap, 0.0).sum(axis=-2)
    by_iou = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    columns = {name: by_iou[..., place] for place, name in enumerate(AP_AT_IOU)}
    return {"AP": by_iou.mean(axis=-1)} | columns


def ap_by_iou(ap: np.ndarray) -> np.ndarray:
    """Mean over the classes at every IoU threshold: float64 [..., IoU] of [..., classes, IoU]; NaN without any."""
    of_all = quantities(ap)
    return np.stack([of_all[name] for name in AP_AT_IOU], axis=-1)


def absent_classes(bootstrap: Bootstrap) -> np.ndarray:
    """Classes that have ground truth but not in the resample, int64 [resamples]; the same for every detection set."""
    ap, draws = (next(iter(values.values())) for values in (bootstrap.ap, bootstrap.draws))
    return ((draws[..., 0] < 0) & (ap[:, 0] >= 0)).sum(axis=1)


def absolute_interval(values: np.ndarray, draws: np.ndarray) -> Interval:
    """Interval of a value as the expectation at a validation set of this size: value plus and minus 1.96 errors.

    With several seeds it is widened, because few numbers tell how seeds scatter.

    The percentiles of the resamples would not do: AP is biased upwards, and more so with fewer different images.

    Parameters
    ----------
    values : ndarray, float64 [seeds]
        On the validation set, of a training with each seed.
    draws : ndarray, float64 [seeds, resamples]
        The same on the resamples; NaN where one holds no ground truth.
    """
    parts = _parts(values, draws)
    reach = NORMAL_QUANTILE * parts["widening"] * parts["standard_error"]
    return Interval(low=parts["value"] - reach, high=parts["value"] + reach, **parts)


def gap_interval(values: np.ndarray, draws: np.ndarray, seed: int) -> Interval:
    """Interval of a paired difference: percentiles of its resamples.

    With several seeds both levels are resampled: the seeds, and the images. What two trainings find differently on the
    same images is in the resamples of the images already, so the seeds are made to scatter by their own part only.

    Parameters
    ----------
    values : ndarray, float64 [seeds]
        Differences on the validation set, of two trainings with the same seed.
    draws : ndarray, float64 [seeds, resamples]
        The same on the resamples, both sides on the same images; NaN where a resample holds no ground truth.
    seed : int
        Of the resampling of seeds.
    """
    parts = _parts(values, draws)
    samples = _samples(parts, values, draws, seed)
    known = samples[~np.isnan(samples)]
    low, high = np.percentile(known, PERCENTILES) if len(known) else (np.nan, np.nan)
    return Interval(low=float(low), high=float(high), **parts)


def gap_samples(values: np.ndarray, draws: np.ndarray, seed: int) -> np.ndarray:
    """The samples whose percentiles are :func:`gap_interval`'s ends, from the same arguments.

    Samples of several quantities go together, as long as their seeds and resamples are the same.

    Returns
    -------
    ndarray, float64 [resamples]
        NaN where a resample holds no ground truth.
    """
    return _samples(_parts(values, draws), values, draws, seed)


def _samples(parts: Mapping[str, float], values: np.ndarray, draws: np.ndarray, seed: int) -> np.ndarray:
    """Mean over the seeds on every resample, of seeds too where there are several, and widened for how few they are."""
    seeds, resamples = draws.shape
    mean = draws.mean(axis=0)
    scatter = values.std() / np.sqrt(seeds)
    if seeds > 1 and scatter > 0:
        # The images' weights take [seed, resample]; three numbers make another stream.
        chosen = np.random.default_rng([seed, resamples, seeds]).integers(seeds, size=(seeds, resamples))
        mean = mean + parts["seed_error"] / scatter * (values[chosen].mean(axis=0) - values.mean())
    if parts["widening"] == 1 or np.isnan(mean).all():
        return mean
    centre = np.nanmean(mean)
    return centre + parts["widening"] * (mean - centre)


def _parts(values: np.ndarray, draws: np.ndarray) -> dict[str, float]:
    """Everything of an interval but its ends."""
    seeds, resamples = draws.shape
    draws = draws[:, ~np.isnan(draws).any(axis=0)]
    mean = draws.mean(axis=0)
    image_error = float(mean.std(ddof=1)) if len(mean) > 1 else np.nan
    seed_error = _seed_error(values, draws) if seeds > 1 else np.nan
    standard_error = float(np.hypot(image_error, seed_error)) if seeds > 1 else image_error
    return {
        "value": float(values.mean()),
        "standard_error": standard_error,
        "widening": _widening(values, standard_error),
        "image_error": image_error,
        "seed_error": seed_error,
        "bias": float(mean.mean() - values.mean()) if len(mean) else np.nan,
        "seeds": seeds,
        "resamples": resamples,
        "empty_resamples": resamples - len(mean),
    }


def _seed_error(values: np.ndarray, draws: np.ndarray) -> float:
    """Standard error of the mean over the seeds that comes from the seeds whatever the images are.

    On one validation set seeds differ for two reasons: some trainings are better, and each finds other objects of these
    images. The second evens out over more images and is part of the image error; how large it is shows in how much the
    seeds' differences change between resamples. It is taken off the seeds' variance.
    """
    changes = (draws - values[:, None]).var(axis=0, ddof=1).mean() if draws.shape[1] else 0.0
    return float(np.sqrt(max(values.var(ddof=1) - changes, 0.0) / len(values)))


def _widening(values: np.ndarray, standard_error: float) -> float:
    """Quantile of Student's t over that of the normal distribution.

    Few seeds tell their own variance badly. Its degrees of freedom, seeds less one, count the more the larger its part
    in the whole variance is (Welch and Satterthwaite's rule).
    """
    of_seeds = values.var(ddof=1) / len(values) if len(values) > 1 else 0.0
    if not of_seeds > 0 or not standard_error > 0:
        return 1.0
    freedom = (len(values) - 1) * max(standard_error**2 / of_seeds, 1.0) ** 2
    return max(float(stdtrit(freedom, 0.975)) / NORMAL_QUANTILE, 1.0)


def interval_table(
    bootstrap: Bootstrap,
    models: Mapping[str, Sequence[str]],
    gaps: Sequence[tuple[str, str]] = (),
    category: int | None = None,
) -> pd.DataFrame:
    """Intervals of models, and of gaps between them, for AP and for AP at every IoU threshold.

    Parameters
    ----------
    models : mapping of str to sequence of str
        The detection sets of every model, one for each training seed, in the same order of seeds for all models.
    gaps : sequence of tuple of str
        Pairs of models: the first minus the second. They need the same number of seeds.
    category : int, optional
        One class instead of the mean over classes.

    Returns
    -------
    DataFrame
        model, minus (the subtracted model, empty for an absolute value), quantity (:data:`QUANTITIES`), the fields of
        :class:`Interval`, absent_classes (mean over the resamples of how many classes one lacks), bootstrap_seed, area,
        max_dets.

    Raises
    ------
    InputError
        If a gap's models differ in their number of seeds.
    """
    values = {name: _by_seed(bootstrap.ap, sets, category) for name, sets in models.items()}
    draws = {name: _by_seed(bootstrap.draws, sets, category) for name, sets in models.items()}
    settings = {
        "absent_classes": float(absent_classes(bootstrap).mean()),
        "bootstrap_seed": bootstrap.seed,
        "area": bootstrap.area,
        "max_dets": bootstrap.max_dets,
    }
    rows = []
    for name in models:
        for quantity in QUANTITIES:
            interval = absolute_interval(values[name][quantity], draws[name][quantity])
            rows.append({"model": name, "minus": "", "quantity": quantity} | asdict(interval) | settings)
    for name, minus in gaps:
        if len(models[name]) != len(models[minus]):
            raise InputError(f"gap {name} - {minus}: {len(models[name])} seeds and {len(models[minus])}; pair them")
        for quantity in QUANTITIES:
            difference, resampled = (numbers[name][quantity] - numbers[minus][quantity] for numbers in (values, draws))
            interval = gap_interval(difference, resampled, bootstrap.seed)
            rows.append({"model": name, "minus": minus, "quantity": quantity} | asdict(interval) | settings)
    return pd.DataFrame(rows)


def _by_seed(ap: Mapping[str, np.ndarray], sets: Sequence[str], category: int | None) -> dict[str, np.ndarray]:
    """Quantities of the detection sets of one model, float64 [seeds, ...]."""
    of_seeds = [quantities(ap[name], category) for name in sets]
    return {quantity: np.stack([values[quantity] for values in of_seeds]) for quantity in QUANTITIES}
