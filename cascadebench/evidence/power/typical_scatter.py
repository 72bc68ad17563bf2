"""The scatter of a claim's quantity before anything is measured, from ``typical_scatter.yaml``."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Le, MinLen

from cascadebench.core.configuration import Configuration, read_model
from cascadebench.evidence.claims import SourcedClaim, Term
from cascadebench.evidence.metrics import MEASURED_UNITS
from cascadebench.evidence.quantities import place_in
from cascadebench.metrics.coco.rules import IOUS

POINT = 0.01
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Le(1)]


class SeedSd(Configuration):
    """Standard deviation of AP between trainings, from so many training images on."""

    from_images: Annotated[int, Ge(1)]
    points: Positive
    says: str
    sources: Annotated[tuple[str, ...], MinLen(1)]


class ImageSe(Configuration):
    """Standard error of an AP, and of the gap between two detectors, on so many images."""

    images: Annotated[int, Ge(1)]
    ap: Positive
    gap: Positive
    says: str


class TypicalScatter(Configuration):
    """``typical_scatter.yaml``."""

    seed_sd: Annotated[tuple[SeedSd, ...], MinLen(1)]
    image_se: ImageSe
    own_share: Share
    stages_alike: Share
    range_factor: Positive
    threshold_factor: Positive
    area_factor: Positive

    def between_seeds(self, training_images: int) -> SeedSd:
        """What is known of data of this size."""
        return next(one for one in self.seed_sd if training_images >= one.from_images)


@cache
def typical_scatter() -> TypicalScatter:
    """Read the file."""
    return read_model(TypicalScatter, Path(__file__).with_suffix(".yaml"))


def typical_errors(claim: SourcedClaim, training_images: int, images: int) -> tuple[float, float] | None:
    """Standard deviation between seeds and standard error over images of a claim's quantity, with one seed.

    Every test stage of a training scatters like the AP of one detector, and two of them correlate by a half, so that a
    gap of two detectors has sqrt(2) times as much, that of two stages of one as much, and a gap of gaps sqrt(2) times
    as much. APs at several IoU thresholds of one stage go together. Over the images all detectors share the rest of the
    error of an AP, which is left where the coefficients do not add up to zero.

    Returns
    -------
    tuple of float or None
        In the unit of the quantity; None where nothing is known: it is no AP and no recall, or a ratio.

    Examples
    --------
    >>> from cascadebench.evidence.claims import load_claims
    >>> errors = typical_errors(load_claims()["cascade-gains-ap"], 118_287, 5_000)
    >>> [round(100 * error, 2) for error in errors]
    [0.21, 0.2]
    """
    if claim.divided_by or any(MEASURED_UNITS[term.metric] != "fraction" for term in claim.terms):
        return None
    known = typical_scatter()
    times = math.sqrt(_own_variance(claim.quantity))
    seeds = known.between_seeds(training_images).points * times
    one = known.image_se.gap / math.sqrt(2)
    shared = sum(term.coefficient * _factor(term) for term in claim.quantity)
    over_images = math.hypot(one * times, shared * math.sqrt(max(0.0, known.image_se.ap**2 - one**2)))
    return POINT * seeds, POINT * over_images * math.sqrt(known.image_se.images / images)


def _own_variance(terms: Sequence[Term]) -> float:
    """Variance of a sum whose terms have one each, alike within a training and apart between detectors."""
    alike, total = typical_scatter().stages_alike, 0.0
    for by_place in _coefficients(terms).values():
        total += alike * sum(by_place.values()) ** 2 + (1 - alike) * sum(one**2 for one in by_place.values())
    return total


def _coefficients(terms: Sequence[Term]) -> Mapping[str, dict[str, float]]:
    """Coefficients times factors by detector, and by test stage and area."""
    found: dict[str, dict[str, float]] = {}
    for term in terms:
        detector = term.detector()
        of_detector = found.setdefault(f"{term.framework} {detector.name} {sorted(detector.options.items())}", {})
        place = f"{place_in(term, detector)} {term.area}"
        of_detector[place] = of_detector.get(place, 0.0) + term.coefficient * _factor(term)
    return found


def _factor(term: Term) -> float:
    """How much more an AP scatters that is not over all thresholds and areas."""
    known, (low, high) = typical_scatter(), term.ends
    of_part = known.threshold_factor if low == high else known.range_factor
    whole = (low, high) == (IOUS[0], IOUS[-1])
    return (1.0 if whole else of_part) * (1.0 if term.area == "all" else known.area_factor)
