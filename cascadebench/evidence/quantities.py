"""The quantity of a claim from measured runs: its value, and bootstrap samples over images and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from cascadebench.evidence.claims import SourcedClaim, Term
from cascadebench.evidence.measured import Key, Measured, MeasuredRun
from cascadebench.evidence.metrics import EXACT, OF_MODEL
from cascadebench.evidence.variant_options import complete_options
from cascadebench.study.run import Run
from cascadebench.uncertainty.gaps import stage_label

SEED_DRAWS = 9999
"""Samples of a quantity that varies between seeds and has no samples over images."""

Sampling = Literal["none", "exact", "images", "seeds", "images and seeds"]


@dataclass(frozen=True)
class Estimate:
    """A claim's quantity as measured under one framework and backbone.

    Attributes
    ----------
    point : float
        Mean over the seeds.
    samples : float64[B] or None
        Bootstrap samples of it; None: it is exact, or nothing is known of its error.
    sampling : str
        What the samples vary: ``images``, ``seeds``, both; ``exact``: it is counted; ``none``: its error is unknown.
    by_seed : dict
        The quantity of every seed.
    runs : tuple of Run
        The runs that it is of.
    notes : tuple of str
        What a reader must know, such as a seed that is left out.
    numbers : int64[B] or None
        Numbers of the resamples of the images that `samples` come from: all, but for those that hold no ground truth.
        None: the samples vary no images.
    over_images : float64[B] or None
        With several seeds, the part of `samples` that varies the images alone.
    """

    point: float
    samples: np.ndarray | None
    sampling: Sampling
    by_seed: dict[int, float]
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()
    numbers: np.ndarray | None = None
    over_images: np.ndarray | None = None


@dataclass(frozen=True)
class NotMeasured:
    """A quantity that too few seeds have; `missing` says what of which run, and `partial` is what the others give."""

    missing: tuple[str, ...]
    partial: Estimate | None = None


def estimate(claim: SourcedClaim, runs: Sequence[MeasuredRun], seed: int = 0) -> Estimate | NotMeasured:
    """Measure a claim's quantity.

    Every term of one value comes from the runs of one seed. Over several seeds the value is their mean. Its samples
    then have a part for the images, the mean over the seeds of sample b, and a part for the seeds: the standard error
    of their mean times a draw of Student's t with one degree of freedom less than seeds. With two seeds that part is
    wide: two trainings say little about a third. What each training finds on these very images is in both parts, so the
    intervals of several seeds err on the wide side; taking it off would let the coverage of two or three seeds fall
    below what is promised. Samples without a value, where a resample of the images holds no
    ground truth, are left out and counted.

    Parameters
    ----------
    runs : sequence of MeasuredRun
        All runs of the study in one framework on one backbone, unfinished ones too.
    seed : int
        Of the draws of the seeds' part.

    Returns
    -------
    Estimate or NotMeasured
        The latter if fewer seeds than ``claim.seeds`` have every term.
    """
    values, used, missing = {}, [], []
    for number in sorted({measured.run.seed for measured in runs}):
        of_seed = [measured for measured in runs if measured.run.seed == number]
        problems = list(dict.fromkeys(filter(None, (term_problem(term, of_seed) for term in claim.terms))))
        missing += [f"{problem}, seed {number}" for problem in problems]
        if not problems:
            values[number] = _value(claim, of_seed)
            used += [find_run(term, of_seed).run for term in claim.terms]
    runs_used = tuple({id(run): run for run in used}.values())
    found = _over_seeds(claim, values, runs_used, tuple(missing), seed) if values else None
    if len(values) >= claim.seeds and found is not None:
        return found
    if len(values) < claim.seeds and not missing:
        missing = [f"the claim needs {claim.seeds} seeds, the study has {len(values)}"]
    return NotMeasured(tuple(missing), found)


def _over_seeds(
    claim: SourcedClaim, values: Mapping[int, Measured], runs: tuple[Run, ...], missing: tuple[str, ...], seed: int
) -> Estimate:
    """Combine the values of the seeds."""
    points = np.array([value.point for value in values.values()])
    point = float(points.mean())
    per_image = [value.samples for value in values.values() if value.samples is not None]
    samples = np.mean(per_image, axis=0) if per_image else None
    error = float(points.std(ddof=1) / np.sqrt(len(points))) if len(points) > 1 else 0.0
    notes = [f"left out: {text}" for text in missing]
    numbers = over_images = None
    if samples is not None:
        numbers = np.flatnonzero(np.isfinite(samples))
        if len(numbers) < len(samples):
            notes.append(f"{len(samples) - len(numbers)} of {len(samples)} bootstrap samples have no value")
        numbers, samples = (numbers, samples[numbers]) if len(numbers) else (None, None)
    sampling: Sampling = "images" if samples is not None else "none"
    if all(term.metric in EXACT for term in claim.terms) and error == 0.0:
        sampling = "exact"
    elif len(points) > 1:
        over_images = samples
        base = samples if samples is not None else np.full(SEED_DRAWS, point)
        draws = stats.t.rvs(len(points) - 1, size=len(base), random_state=np.random.default_rng(seed))
        samples = base + error * draws
        sampling = "images and seeds" if sampling == "images" else "seeds"
    if len(points) == 1 and sampling == "images":
        notes.append("one seed: the interval does not hold what another training would change")
    by_seed = {number: value.point for number, value in values.items()}
    return Estimate(point, samples, sampling, by_seed, runs, tuple(notes), numbers, over_images)


def is_of(term: Term, run: Run) -> bool:
    """Whether a term is read off a run of this detector, whatever its framework, backbone and seed."""
    options = complete_options(term.variant, term.options, "claim")
    variant = run.variant
    return variant.name == term.variant and variant.options == options and variant.folder is None


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
        found = measured.others.get(Key(term.metric, place, term.iou))
    elif (place, term.area) in measured.curves:
        curve = measured.curves[place, term.area]
        point = float(curve.point[term.thresholds].mean())
        found = Measured(point, curve.samples[:, term.thresholds].mean(axis=1))
    else:
        found = None
    return found if found is not None and np.isfinite(found.point) else None


def _value(claim: SourcedClaim, runs: Sequence[MeasuredRun]) -> Measured:
    """The quantity of one seed, every term of which is there."""
    above = _sum(claim.quantity, runs)
    if not claim.divided_by:
        return above
    below = _sum(claim.divided_by, runs)
    if above.samples is None and below.samples is None:
        return Measured(above.point / below.point)
    numerator = above.point if above.samples is None else above.samples
    return Measured(above.point / below.point, numerator / (below.point if below.samples is None else below.samples))


def _sum(terms: Sequence[Term], runs: Sequence[MeasuredRun]) -> Measured:
    parts = [(term.coefficient, measured_term(term, find_run(term, runs))) for term in terms]
    point = sum(coefficient * part.point for coefficient, part in parts)
    if all(part.samples is None for _, part in parts):
        return Measured(point)
    return Measured(
        point, sum(coefficient * (part.point if part.samples is None else part.samples) for coefficient, part in parts)
    )
