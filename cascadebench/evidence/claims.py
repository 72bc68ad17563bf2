"""Claims as data: what a paper says, as a quantity over runs, and from which value on it is supported.

One YAML file per source under ``cascadebench/evidence/claims/``.
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from annotated_types import Ge, MinLen
from pydantic import model_validator

from cascadebench.core.configuration import Configuration, read_named
from cascadebench.core.errors import InputError
from cascadebench.detectors.cards import Value
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.evidence.metrics import MEASURED_UNITS, OF_IOU_RANGE, OF_MODEL, RATIO, ClaimMetric
from cascadebench.evidence.published import complete_options, load_published, reading_options
from cascadebench.evidence.source_protocols import TRAINING_IMAGES, find_schedule
from cascadebench.metrics.coco.rules import IOUS

FOLDER = Path(__file__).parent / "claims"
Range = tuple[float, float]


class Term(Configuration):
    """One measured number of one run, times a coefficient."""

    coefficient: float = 1.0
    variant: str
    """Name of a variant's card."""
    options: dict[str, Value] = {}
    """Options that are not the card's defaults."""
    at: str = "headline"
    """Where it is read: ``headline``, ``stage 2``, ``stage T`` (the last), ``stage T-1``, or the label of a test stage.
    For recall of proposals the stage that they enter."""
    metric: ClaimMetric = "AP"
    iou: Range | None = None
    """First and last IoU threshold of a mean, ends included; null: 0.5 to 0.95. For statistics of scores the range that
    the detections' IoU lies in."""
    area: Literal["all", "small", "medium", "large"] = "all"
    """Area of the ground truth, for AP."""
    published: str | None = None
    """Id of the printed value of this term; null: the source prints none."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.iou is not None and self.metric not in OF_IOU_RANGE:
            raise ValueError(f"iou: {self.metric} has no range; those that have: {', '.join(sorted(OF_IOU_RANGE))}")
        if self.iou is not None and not (self.iou[0] in IOUS and self.iou[1] in IOUS and self.iou[0] <= self.iou[1]):
            raise ValueError("iou: two of 0.5, 0.55, ..., 0.95 are allowed, the lower first")
        if self.area != "all" and self.metric != "AP":
            raise ValueError("area: only AP has areas")
        if self.metric in OF_MODEL and self.at != "headline":
            raise ValueError(f"at: {self.metric} is of the whole model; leave it out")
        stage = re.fullmatch(r"stage (T(-[1-3])?|[1-4])", self.at)
        if self.metric.startswith("proposal") and not stage:
            raise ValueError("at: proposals need a stage that they enter, such as stage 2")
        if self.at != "headline" and not stage:
            TestStage.parse(self.at)
        return self

    @property
    def ends(self) -> Range:
        """First and last IoU threshold."""
        return self.iou or (IOUS[0], IOUS[-1])


class ClaimedOn(Configuration):
    """Where the claim was made; elsewhere it is measured, and the verdict says that it is not comparable."""

    dataset: str
    """Name of a card under ``config/datasets/``."""
    schedule: str
    """Name of a schedule under ``protocols/``; :mod:`cascadebench.evidence.protocol_differences` compares a run's."""
    backbones: tuple[str, ...] = ()
    """Names under ``config/backbones/``, whichever weights they start from; none: any."""


class Claim(Configuration):
    """One claim of a source."""

    id: Annotated[str, MinLen(1)]
    words: str
    """What is claimed, in words of our own."""
    place: str
    """Table or figure of the source."""
    quantity: Annotated[tuple[Term, ...], MinLen(1)]
    """The sum of these terms; AP, AR and scores are fractions."""
    divided_by: tuple[Term, ...] = ()
    """The sum of these terms divides the quantity; none: it is not divided."""
    direction: Literal["greater", "less", "within"]
    threshold: float | Range
    """The claim holds where the quantity is greater or less than this, or ``within``: strictly between two values."""
    reason: str = ""
    """Why this threshold, if it is not zero."""
    claimed_on: ClaimedOn | None = None
    """Null: as the file says."""
    readings: tuple[dict[str, Value], ...] = ()
    """Readings of the sources that it is asked under, options of each: they replace those of every term whose variant
    has them. A study asks those that it runs. Empty: asked once, as the terms say."""

    @model_validator(mode="after")
    def _threshold_fits(self) -> Self:
        if isinstance(self.threshold, tuple) != (self.direction == "within"):
            raise ValueError("threshold: two values belong to within, one to greater and less")
        if isinstance(self.threshold, tuple) and self.threshold[0] >= self.threshold[1]:
            raise ValueError("threshold: the lower value comes first")
        if self.threshold not in (0, 0.0) and not self.reason:
            raise ValueError("reason: missing; a threshold other than 0 is this project's choice and needs one")
        if len({MEASURED_UNITS[term.metric] for term in self.quantity}) > 1:
            raise ValueError("quantity: its terms have several units")
        return self

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms, those of the divisor last."""
        return (*self.quantity, *self.divided_by)

    @property
    def unit(self) -> str:
        """Unit of the quantity, a name of :data:`cascadebench.evidence.metrics.MEASURED_UNITS` or ``ratio``."""
        return RATIO if self.divided_by else MEASURED_UNITS[self.quantity[0].metric]

    def holds(self, value: float) -> bool:
        """Whether a value of the quantity, taken as exact, fulfils the claim."""
        if isinstance(self.threshold, tuple):
            return self.threshold[0] < value < self.threshold[1]
        return value > self.threshold if self.direction == "greater" else value < self.threshold

    def published_value(self) -> float | None:
        """The quantity from the printed values, in the units of this project; None if a term has none."""
        if any(term.published is None for term in self.terms):
            return None

        def total(terms: Sequence[Term]) -> float:
            return sum(term.coefficient * load_published()[term.published].measured for term in terms)

        value = total(self.quantity) / (total(self.divided_by) if self.divided_by else 1.0)
        return round(value, 10)


class ClaimsFile(Configuration):
    """``cascadebench/evidence/claims/<name>.yaml``: the claims of one source."""

    name: Annotated[str, MinLen(1)]
    order: Annotated[int, Ge(1)]
    """Place among the files; the first claim of the first file comes first in every list."""
    title: str
    source: str
    claimed_on: ClaimedOn
    claims: Annotated[tuple[Claim, ...], MinLen(1)]


class SourcedClaim(Claim):
    """A claim with what its file says of it."""

    title: str
    """Short name of the source."""
    source: str
    claimed_on: ClaimedOn
    reading: dict[str, Value] = {}
    """The one of its readings that it is asked under, as far as it is not the cards' default."""


@cache
def load_claims(folder: Path = FOLDER) -> dict[str, SourcedClaim]:
    """Read every claim, by id, in the order of the files.

    Raises
    ------
    InputError
        A file is malformed; a variant, option, schedule or published value does not exist; two claims have one id.
    """
    files = [(read_named(ClaimsFile, folder, path.stem, "claims"), path) for path in sorted(folder.glob("*.yaml"))]
    found: dict[str, SourcedClaim] = {}
    for file, path in sorted(files, key=lambda pair: pair[0].order):
        for claim in file.claims:
            if claim.id in found:
                raise InputError(f"{path}: claims: the id {claim.id!r} is given twice")
            given = {name: getattr(claim, name) for name in Claim.model_fields}
            given["claimed_on"] = claim.claimed_on or file.claimed_on
            found[claim.id] = SourcedClaim(**given, title=file.title, source=file.source)
            _check(found[claim.id], f"{path}: claim {claim.id}")
    return found


def find_claims(ids: Sequence[str], asked_by: str) -> list[SourcedClaim]:
    """Find claims by id; the first id that is none, or is given twice, raises InputError."""
    claims = load_claims() if ids else {}
    for place, name in enumerate(ids):
        if name not in claims:
            close = get_close_matches(name, claims, n=3)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise InputError(f"{asked_by}: unknown claim {name!r}; {hint}docs/evidence.md lists them")
        if name in ids[:place]:
            raise InputError(f"{asked_by}: the claim {name!r} is given twice")
    return [claims[name] for name in ids]


def as_written(ids: Sequence[str], asked_by: str) -> list[str]:
    """What claims, their printed values and their sources' protocols say: a change asks for new verdicts."""
    return [
        f"{claim.model_dump_json()} {claim.published_value()} {find_schedule(claim.claimed_on.schedule, asked_by)}"
        for claim in find_claims(ids, asked_by)
    ]


def _check(claim: SourcedClaim, asked_by: str) -> None:
    """Refuse names that do not exist, and a printed value that is of another metric than its term."""
    if claim.claimed_on.dataset not in TRAINING_IMAGES:
        known = ", ".join(TRAINING_IMAGES)
        raise InputError(f"{asked_by}: claimed_on.dataset: {claim.claimed_on.dataset!r}; allowed: {known}")
    find_schedule(claim.claimed_on.schedule, f"{asked_by}: claimed_on.schedule")
    for number, term in enumerate(claim.terms):
        place = f"{asked_by}: term {number}"
        options = complete_options(term.variant, term.options, place)
        for reading in (reading for reading in claim.readings if set(reading) <= set(options)):
            complete_options(term.variant, term.options | reading, f"{asked_by}: readings")
        if term.published is None:
            continue
        value = load_published().get(term.published)
        if value is None:
            raise InputError(f"{place}: published: {term.published!r} is no published value")
        if value.metric != _printed_metric(term):
            raise InputError(f"{place}: published: {value.id} is {value.metric}, the term is {_printed_metric(term)}")
        if value.variant != term.variant:
            raise InputError(f"{place}: published: {value.id} is of {value.variant}, the term of {term.variant}")
        # A reading may differ: the report says what each stands on.
        fixed = options.keys() - reading_options(term.variant)
        differing = sorted(name for name in fixed if options[name] != value.options[name])
        if differing:
            raise InputError(f"{place}: published: {value.id} has another value of the option {differing[0]}")
    known = [set(reading_options(term.variant)) for term in claim.terms]
    for number, reading in enumerate(claim.readings):
        if not any(set(reading) <= names for names in known):
            there = ", ".join(sorted(set().union(*known))) or "none"
            what = f"{', '.join(reading)}: not all of them are readings in the card of one term's variant"
            raise InputError(f"{asked_by}: readings.{number}: {what}; there are: {there}")


def _printed_metric(term: Term) -> str:
    """Name of the published metric that a term is: AP50 for AP at 0.5, GFLOPs for flops."""
    if term.metric != "AP":
        return {"flops": "GFLOPs", "trainable_parameters": "parameters_M"}.get(term.metric, term.metric)
    low, high = term.ends
    if (low, high) == (IOUS[0], IOUS[-1]):
        return "AP" if term.area == "all" else f"AP{term.area[0]}"
    return f"AP{round(100 * low)}" if low == high and term.area == "all" else ""
