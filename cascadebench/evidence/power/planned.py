"""What a study will decide on every question that it asks, from scatter that it measured or else from typical one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cascadebench.evidence.claims import SourcedClaim
from cascadebench.evidence.hypotheses import study_claims
from cascadebench.evidence.metrics import EXACT
from cascadebench.evidence.power.design import Design, least_effect
from cascadebench.evidence.power.measured import with_seeds
from cascadebench.evidence.power.typical_scatter import typical_errors, typical_scatter
from cascadebench.evidence.quantities import is_in, is_of
from cascadebench.evidence.readings import asked_in, question_name
from cascadebench.execution.plan import image_count
from cascadebench.results.layout import ResultsFolder
from cascadebench.study.run import Run
from cascadebench.study.study import Study, by_detector

SEEDS = (3, 5, 10)
"""Numbers of seeds for which effects are given beside that of the study."""
FEWEST = 2
"""Seeds from which on something is decided."""


@dataclass(frozen=True)
class PlannedQuestion:
    """A question of a study and what the study decides on it."""

    claim: SourcedClaim
    framework: str
    backbone: str
    source: str
    """Where its scatter comes from; without a design, why nothing is said."""
    design: Design | None = None
    """Of the seeds of the study, or of two if it has one."""

    def effects(self, seeds: Sequence[int]) -> dict[int, float]:
        """Least effect, or margin of *equal*, by the number of seeds; infinite with one."""
        if self.design is None:
            return {}
        between = self.claim.direction == "within"
        return {
            number: least_effect(with_seeds(self.design, number), between=between) if number >= FEWEST else math.inf
            for number in seeds
        }


def planned_questions(study: Study, results: Path) -> list[PlannedQuestion]:
    """Say of every question of a study what the study decides.

    Parameters
    ----------
    results : Path
        The folder that holds ``studies/``; scatter that ``verdicts.csv`` has is used.

    Returns
    -------
    list of PlannedQuestion
        In the order of the study's tables.
    """
    runs = [planned.run for planned in study.runs]
    asked = asked_in(study_claims(study), runs)
    sampled = [one for one in asked if _why_not(*one, runs) is None]
    measured = _measured(ResultsFolder(results).study(study.name).verdicts)
    detectors, seeds = len(by_detector(study.runs)), max(FEWEST, len(study.file.seeds))
    family = Design(seeds, 0.0, 0.0, questions=max(1, len(sampled)), freedom=detectors * (seeds - 1))
    counts = image_count(study.dataset, results, "train"), image_count(study.dataset, results)
    found = []
    for claim, framework, backbone in asked:
        why = _why_not(claim, framework, backbone, runs)
        design, source = None, why
        if why is None:
            row = measured.get(question_name(claim, framework, backbone))
            design, source = _of_row(row, claim, family) if row else _typical(claim, family, *counts)
        found.append(PlannedQuestion(claim, framework, backbone, source, design))
    return found


def json_of(questions: Sequence[PlannedQuestion], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """What a study decides as objects; an effect is null where nothing is decided."""
    return [
        {
            "question": question_name(one.claim, one.framework, one.backbone),
            "claim": one.claim.id,
            "asks": one.claim.asks,
            "margin": one.claim.margin,
            "unit": one.claim.unit,
            "scatter": one.source.replace("\n", " "),
            "design": one.design and asdict(one.design),
            "least_effect": {
                str(number): effect if math.isfinite(effect) else None for number, effect in one.effects(seeds).items()
            },
        }
        for one in questions
    ]


def _why_not(claim: SourcedClaim, framework: str, backbone: str, runs: Sequence[Run]) -> str | None:
    """Why there is no effect to give; None: there is."""
    here = [run for run in runs if is_in((framework, backbone), run)]
    if not all(any(is_of(term, run) for run in here) for term in claim.terms):
        return "a run that it needs is not in the study"
    return "counted: it has no error" if all(term.metric in EXACT for term in claim.terms) else None


def _measured(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of ``verdicts.csv`` that have measured scatter, by question; a table of an earlier version has none."""
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    return {row["question"]: row for row in rows if not math.isnan(row.get("seed_sd", math.nan))}


def _of_row(row: Mapping[str, Any], claim: SourcedClaim, family: Design) -> tuple[Design, str]:
    scatter = {name: float(row[name]) for name in ("seed_sd", "image_se", "own_share")}
    return replace(_own(claim, family), **scatter), f"measured over {int(row['seeds'])} seeds: verdicts.csv"


def _typical(
    claim: SourcedClaim, family: Design, training_images: int | None, images: int | None
) -> tuple[Design | None, str]:
    if training_images is None or images is None:
        return None, "unknown until the dataset is prepared: nobody has counted its images"
    errors = typical_errors(claim, training_images, images)
    if errors is None:
        return None, "unknown before it is measured: there is no typical scatter of such a quantity"
    # The recall of proposals is not resampled.
    over_images = 0.0 if any(term.metric.startswith("proposal") for term in claim.terms) else errors[1]
    known = typical_scatter()
    between, image = known.between_seeds(training_images), known.image_se
    of_image = math.sqrt(image.images / images)
    source = (
        f"assumed until it is measured: standard deviation of an AP between seeds, {between.points:g} points. "
        f"{between.says} {', '.join(between.sources)}\n"
        f"assumed: standard error on {images:,} images, {image.ap * of_image:.2g} points of an AP and "
        f"{image.gap * of_image:.2g} of a gap between two detectors. {image.says}"
    )
    scatter = {"seed_sd": errors[0], "image_se": over_images, "own_share": known.own_share}
    return replace(_own(claim, family), **scatter), source


def _own(claim: SourcedClaim, family: Design) -> Design:
    """The family, whose scatter helps only quantities of AP."""
    return family if all(term.metric == "AP" for term in claim.terms) else replace(family, freedom=0)
