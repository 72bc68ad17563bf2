"""The quantity of a claim from what was measured of runs: its value, and bootstrap samples over images and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from cascadebench.evidence.claims import SourcedClaim, Term
from cascadebench.evidence.metrics import EXACT, OF_MODEL
from cascadebench.evidence.published import complete_options
from cascadebench.study.run import Run
from cascadebench.uncertainty.bootstrap import RESAMPLES
from cascadebench.uncertainty.curves import Measured, read_off, signed_sum
from cascadebench.uncertainty.gaps import stage_label
from cascadebench.uncertainty.intervals import over_seeds
from cascadebench.uncertainty.seed_scatter import SeedScatter

Sampling = Literal["none", "exact", "images", "seeds", "images and seeds"]


class Key(NamedTuple):
    """What a measured number is that is no AP by IoU: metric, where it is read, range of IoU.

    `at` is the label of a test stage; ``stage 2`` for proposals that enter stage 2; empty for the whole model.
    """

    metric: str
    at: str = ""
    iou: tuple[float, float] | None = None


@dataclass(frozen=True)
class MeasuredRun:
    """A run of a study and what was measured of it."""

    run: Run
    problem: str = ""
    """Why there is nothing measured, such as ``failed: out of memory`` or ``not run``; empty: it was evaluated."""
    curves: Mapping[tuple[str, str], Measured] = field(default_factory=dict)
    """AP by IoU threshold, by test stage's label and area (``all``, ``small``, ``medium``, ``large``)."""
    others: Mapping[Key, Measured] = field(default_factory=dict)
    """Everything else."""


@dataclass(frozen=True)
class Estimate:
    """A claim's quantity as measured under one framework and backbone."""

    point: float
    """Mean over the seeds."""
    samples: np.ndarray | None
    """float64 [B]: its bootstrap samples, not finite where a resample gives no value. None: it is exact, or nothing is
    known of its error."""
    sampling: Sampling
    """What the samples vary: ``images``, ``seeds``, both; ``exact``: it is counted; ``none``: its error is unknown."""
    by_seed: dict[int, float]
    """The quantity of every seed."""
    runs: tuple[Run, ...]
    """The runs that it is of."""
    notes: tuple[str, ...] = ()
    """What a reader must know, such as a seed that is left out."""
    over_images: Mapping[int, np.ndarray] = field(default_factory=dict)
    """With several seeds, the quantity of each on the resamples of the images, float64 [B]."""
    scatter: SeedScatter | None = None
    """The study's, where `samples` are drawn with it."""

    @property
    def sample_count(self) -> int:
        """Samples that have a value."""
        return 0 if self.samples is None else int(np.isfinite(self.samples).sum())


@dataclass(frozen=True)
class NotMeasured:
    """A quantity that no seed has; `missing` says what of which run."""

    missing: tuple[str, ...]


def estimate(
    claim: SourcedClaim,
    runs: Sequence[MeasuredRun],
    seed: int = 0,
    resamples: int = RESAMPLES,
    scatter: SeedScatter | None = None,
) -> Estimate | NotMeasured:
    """Measure a claim's quantity.

    Every term of one value comes from the runs of one seed; over several seeds they are pooled as every number is
    (:func:`cascadebench.uncertainty.intervals.over_seeds`).

    Parameters
    ----------
    runs : sequence of MeasuredRun
        All runs of the study in one framework on one backbone, unfinished ones too.
    seed, resamples : int
        Of the draws of the seeds' part.
    scatter : SeedScatter or None
        How trainings of the study scatter in AP; a quantity of anything else has its own seeds alone.

    Returns
    -------
    Estimate or NotMeasured
        The latter if no seed has every term.
    """
    values, used, missing = {}, [], []
    for number in sorted({measured.run.seed for measured in runs}):
        of_seed = [measured for measured in runs if measured.run.seed == number]
        problems = list(dict.fromkeys(filter(None, (term_problem(term, of_seed) for term in claim.terms))))
        missing += [f"{problem}, seed {number}" for problem in problems]
        if not problems:
            values[number] = _value(claim, of_seed)
            used += [find_run(term, of_seed).run for term in claim.terms]
    if not values:
        return NotMeasured(tuple(missing) or ("the study has no runs",))
    runs_used = tuple({id(run): run for run in used}.values())
    of_ap = all(term.metric == "AP" for term in claim.terms) and len(values) > 1
    return _estimate(claim, values, runs_used, missing, seed, resamples, scatter if of_ap else None)


def _estimate(
    claim: SourcedClaim,
    values: Mapping[int, Measured],
    runs: tuple[Run, ...],
    missing: Sequence[str],
    seed: int,
    resamples: int,
    scatter: SeedScatter | None,
) -> Estimate:
    """Pool the values of the seeds, and say what they are."""
    pooled = over_seeds(values, seed, resamples, scatter)
    samples, of_images = pooled.samples, pooled.over_images
    notes = [f"left out: {text}" for text in missing]
    if of_images is not None and (empty := int(np.sum(~np.isfinite(of_images)))):
        notes.append(f"{empty} of {len(of_images)} bootstrap samples have no value")
    varied = [name for name, varies in (("images", of_images is not None), ("seeds", len(values) > 1)) if varies]
    sampling: Sampling = " and ".join(varied) or "none"
    if all(term.metric in EXACT for term in claim.terms) and len({value.point for value in values.values()}) == 1:
        samples, sampling = None, "exact"
    if sampling == "images":
        notes.append("one seed: the interval does not hold what another training would change")
    by_seed = {number: value.point for number, value in values.items()}
    both = sampling == "images and seeds"
    over_images = {number: value.samples for number, value in values.items()} if both else {}
    return Estimate(
        float(pooled.point), samples, sampling, by_seed, runs, tuple(notes), over_images, scatter if both else None
    )


def is_of(term: Term, run: Run) -> bool:
    """Whether a term is read off a run of this detector, whatever its framework, backbone and seed."""
    variant = run.variant
    if variant.name != term.variant or variant.folder is not None:
        return False
    return variant.options == complete_options(term.variant, term.options, "claim")


def find_run(term: Term, runs: Sequence[MeasuredRun]) -> MeasuredRun | None:
    """The run of a term among those of one seed."""
    return next((measured for measured in runs if is_of(term, measured.run)), None)


def term_problem(term: Term, runs: Sequence[MeasuredRun]) -> str | None:
    """What is missing of a term among the runs of one seed; None if it was measured."""
    name = " ".join([term.variant, *(f"{key}={value}" for key, value in term.options.items())])
    measured = find_run(term, runs)
    if measured is None:
        return f"{name}: not in the study"
    if measured.problem and term.metric not in OF_MODEL:
        return f"{name}: {measured.problem}"
    if measured_term(term, measured) is None:
        return f"{name}: {_what(term, measured.run)} was not measured"
    return None


def _what(term: Term, run: Run) -> str:
    """Metric and place of a term, in words."""
    area = f" {term.area}" if term.area != "all" else ""
    where = "" if term.metric in OF_MODEL else f" at {place_of(term, run)}"
    return f"{term.metric}{area}{where}"


def place_of(term: Term, run: Run) -> str:
    """Label of the test stage that a term is read at; the stage's name for proposals, empty for the whole model."""
    if term.metric in OF_MODEL:
        return ""
    variant = run.variant
    if term.at.startswith("stage "):
        last, _, back = term.at.removeprefix("stage ").partition("-")
        stage = (variant.stages if last == "T" else int(last)) - int(back or 0)
        return f"stage {stage}" if term.metric.startswith("proposal") else stage_label(stage, variant.classifiers)
    return variant.headline if term.at == "headline" else term.at


def measured_term(term: Term, measured: MeasuredRun) -> Measured | None:
    """A term's number of one run, without its coefficient; None if it was not measured or is no number."""
    place = place_of(term, measured.run)
    if term.metric != "AP":
        number = measured.others.get(Key(term.metric, place, term.iou))
    else:
        curve = measured.curves.get((place, term.area))
        number = read_off(curve, *term.ends) if curve else None
    return number if number is not None and np.isfinite(number.point) else None


def _value(claim: SourcedClaim, runs: Sequence[MeasuredRun]) -> Measured:
    """The quantity of one seed, every term of which is there."""
    above, below = (
        signed_sum((term.coefficient, measured_term(term, find_run(term, runs))) for term in terms) if terms else None
        for terms in (claim.quantity, claim.divided_by)
    )
    if below is None:
        return above
    if above.samples is None and below.samples is None:
        return Measured(above.point / below.point)
    numerator, divisor = (part.point if part.samples is None else part.samples for part in (above, below))
    return Measured(above.point / below.point, numerator / divisor)
