"""What was measured of the runs of a study, as the claims' quantities read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cascadebench.study.run import Run


@dataclass(frozen=True)
class APCurve:
    """AP by IoU of one run and test stage, mean over the categories.

    Attributes
    ----------
    point : float64[10]
        AP at IoU 0.5, 0.55, ..., 0.95, a fraction.
    samples : float64[B, 10]
        The same for B resamples of the images. Row b of every run and test stage of a study comes from the same weights
        of the images.
    """

    point: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True)
class Measured:
    """A number that is no AP by IoU; `samples`, float64[B], as in :class:`APCurve`, None: there are none."""

    point: float
    samples: np.ndarray | None = None


class Key(NamedTuple):
    """What a :class:`Measured` number is: metric, where it is read, range of IoU.

    `at` is the label of a test stage; ``stage 2`` for proposals that enter stage 2; empty for the whole model.
    """

    metric: str
    at: str = ""
    iou: tuple[float, float] | None = None


@dataclass(frozen=True)
class MeasuredRun:
    """A run of a study and what was measured of it.

    Attributes
    ----------
    run : Run
        The run.
    problem : str
        Why there is nothing measured, such as ``failed: out of memory`` or ``not run``; empty: it was evaluated.
    curves : mapping
        AP by test stage's label and area (``all``, ``small``, ``medium``, ``large``).
    others : mapping
        Everything else.
    """

    run: Run
    problem: str = ""
    curves: Mapping[tuple[str, str], APCurve] = field(default_factory=dict)
    others: Mapping[Key, Measured] = field(default_factory=dict)


def ap_curve(ap: np.ndarray, draws: np.ndarray) -> APCurve:
    """AP by IoU as the mean over the categories, from AP by category.

    Parameters
    ----------
    ap : float64[categories, 10]
        -1 where a category has no ground truth.
    draws : float64[B, categories, 10]
        The same on B resamples of the images.

    Returns
    -------
    APCurve
        NaN where no category has ground truth; a category that a resample lacks is left out of that resample's mean.
    """
    return APCurve(_mean_over_categories(ap), _mean_over_categories(draws))


def _mean_over_categories(ap: np.ndarray) -> np.ndarray:
    known = ap > -1
    count = known.sum(axis=-2)
    total = np.where(known, ap, 0.0).sum(axis=-2)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
