"""The verdicts of a study as tables: the verdicts, the terms that they are made of, and their bootstrap samples.

Every number of the first follows from the other two; ``docs/evidence.md`` says how to check one by hand.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cascadebench.controls.audit_files import read_audit
from cascadebench.core.files import read_object, write_csv, write_text
from cascadebench.evidence.holm import samples_needed
from cascadebench.evidence.hypotheses import study_claims
from cascadebench.evidence.metrics import OF_IOU_RANGE
from cascadebench.evidence.power.measured import Decides, decides
from cascadebench.evidence.published import load_published
from cascadebench.evidence.quantities import MeasuredRun, find_run, is_in, measured_term, place_of, term_problem
from cascadebench.evidence.readings import asked_in, described, formula
from cascadebench.evidence.registration.content import registered_question, rule_of
from cascadebench.evidence.registration.standing import RegistrationState, find_trainings, registration_state
from cascadebench.evidence.study_measurements import measure_study
from cascadebench.evidence.verdicts import ALPHA, Question, Verdict, judge, study_questions
from cascadebench.results.registered import read_registrations
from cascadebench.study.study import Study
from cascadebench.uncertainty.bootstrap import RESAMPLES
from cascadebench.uncertainty.resampled_study import ResampledStudy

MARGIN = 4
"""Times the fewest samples with which the first step of Holm's correction can decide: its interval then ends at the
fourth sample from outside, where the outermost would be mostly chance."""
SEPARATOR = "; "
"""Between the entries of a cell that holds several."""
VERDICTS = (
    "question", "claim", "words", "formula", "source", "place", "link", "framework", "backbone", "under", "verdict",
    "reading", "unadjusted_reading", "value", "unit", "low", "high", "adjusted_low", "adjusted_high", "p_value",
    "adjusted_p_value", "holm_level", "alpha", "asks", "margin", "direction", "threshold", "threshold_high",
    "threshold_reason", "published", "seeds", "sampling", "samples", "bootstrap_seed", "scatter_ratio",
    "scatter_freedom", "seed_sd", "image_se", "own_share", "least_effect", "seeds_needed", "images_needed", "reasons",
    "notes", "registered", "registered_why",
)  # fmt: skip
"""Columns of ``verdicts.csv``."""
TERMS = (
    "question", "claim", "framework", "backbone", "seed", "term", "coefficient", "divides", "run", "at", "place",
    "metric", "iou_low", "iou_high", "area", "value", "problem", "published", "published_value",
)  # fmt: skip
"""Columns of ``claim_terms.csv``."""
SAMPLE = "sample"
"""First column of ``claim_samples.csv``; the others are questions."""
OVER_IMAGES = " over images, seed "
"""Between a question and a seed: the name of a column with what that seed gives on the resamples of the images."""


def write_verdicts(resampled: ResampledStudy) -> None:
    """Write the verdicts of a study, whatever the state of its runs.

    Writes ``verdicts.csv``, ``claim_terms.csv`` and ``claim_samples.csv`` under ``results/studies/<study>/``; for a
    study without claims they have a header alone.

    Raises
    ------
    InputError
        If a file of an evaluated run is malformed or the prepared dataset is missing.
    """
    study, seed = resampled.study, resampled.seed
    folder = resampled.results.study(study.name)
    claims = study_claims(study)
    runs = measure_study(resampled, claims)
    audit = read_audit(folder.audit) if folder.audit.is_file() else None
    path = resampled.results.dataset(study.dataset.name).lock
    lock = read_object(path) if path.is_file() else None
    questions = study_questions(claims, runs, audit, seed, resampled.resamples, lock, resampled.scatter)
    verdicts = judge(questions)
    states = _registration_states(resampled, verdicts)
    images = len(resampled.table.image_ids) if any(one.decides for one in verdicts) else 0
    rows = [
        _verdict_row(one, state, seed) | _power_row(decides(one, verdicts, images))
        for one, state in zip(verdicts, states, strict=True)
    ]
    write_csv(folder.verdicts, rows, VERDICTS)
    write_csv(folder.claim_terms, [row for one in questions for row in _term_rows(one, runs)], TERMS)
    samples = {SAMPLE: np.arange(resampled.resamples)} | _sample_columns(questions)
    table = pd.DataFrame(samples if len(samples) > 1 else {SAMPLE: []})
    write_text(folder.claim_samples, table.to_csv(index=False, lineterminator="\n"))


def enough_resamples(study: Study) -> int:
    """Resamples with which every claim can be decided, under each reading, in every framework and on every backbone."""
    questions = asked_in(study_claims(study), [planned.run for planned in study.runs])
    return max(RESAMPLES, samples_needed(MARGIN * len(questions), ALPHA))


def _registration_states(resampled: ResampledStudy, verdicts: Sequence[Verdict]) -> list[RegistrationState]:
    """Whether each question was registered before the trainings that it is about."""
    study, results = resampled.study, resampled.results
    registrations = read_registrations(results.study(study.name).registered)
    runs, rule = {planned.run.id: planned.run for planned in study.runs}, rule_of(resampled.seed)
    questions = [registered_question(one.claim, one.framework, one.backbone, runs) for one in verdicts]
    trainings = find_trainings(results, list(runs)) if questions else []
    return [
        registration_state(
            one, rule, registrations, [training for training in trainings if training.run in one["runs"]]
        )
        for one in questions
    ]


def _verdict_row(verdict: Verdict, registered: RegistrationState, seed: int) -> dict[str, Any]:
    claim, found = verdict.claim, verdict.estimate
    low, high = claim.threshold if isinstance(claim.threshold, tuple) else (claim.threshold, None)
    ends, adjusted = verdict.interval or (None, None), verdict.adjusted_interval or (None, None)
    count = found.sample_count if found and found.samples is not None else None
    scatter = found.scatter if found else None
    return {
        "question": verdict.name,
        "claim": claim.id,
        "words": claim.words,
        "formula": formula(claim),
        "source": claim.title,
        "place": claim.place,
        "link": claim.link,
        "framework": verdict.framework,
        "backbone": verdict.backbone,
        "under": described(claim),
        "verdict": verdict.word,
        "reading": verdict.reading,
        "unadjusted_reading": verdict.unadjusted_reading,
        "value": verdict.point,
        "unit": claim.unit,
        "low": ends[0],
        "high": ends[1],
        "adjusted_low": adjusted[0],
        "adjusted_high": adjusted[1],
        "p_value": verdict.p_value,
        "adjusted_p_value": verdict.adjusted_p_value,
        "holm_level": verdict.level,
        "alpha": ALPHA,
        "asks": claim.asks,
        "margin": claim.margin,
        "direction": claim.direction,
        "threshold": low,
        "threshold_high": high,
        "threshold_reason": claim.reason,
        "published": claim.published_value(),
        "seeds": len(found.by_seed) if found else 0,
        "sampling": found.sampling if found else None,
        "samples": count,
        "bootstrap_seed": None if count is None else seed,
        "scatter_ratio": scatter.ratio if scatter else None,
        "scatter_freedom": scatter.prior_freedom(len(found.by_seed)) if scatter else None,
        "reasons": SEPARATOR.join(verdict.reasons),
        "notes": SEPARATOR.join(verdict.notes),
        "registered": registered.word,
        "registered_why": registered.why,
    }


def _power_row(found: Decides) -> dict[str, Any]:
    scatter = dict.fromkeys(("seed_sd", "image_se", "own_share"))
    if found.design:
        scatter = {name: getattr(found.design, name) for name in scatter}
    return scatter | {name: getattr(found, name) for name in ("least_effect", "seeds_needed", "images_needed")}


def _term_rows(question: Question, runs: Sequence[MeasuredRun]) -> Iterator[dict[str, Any]]:
    """Every term of a question, seed by seed, those that are missing too."""
    claim = question.claim
    here = [one for one in runs if is_in((question.framework, question.backbone), one.run)]
    for seed in sorted({one.run.seed for one in here}):
        of_seed = [one for one in here if one.run.seed == seed]
        for number, term in enumerate(claim.terms, start=1):
            measured = find_run(term, of_seed)
            value = measured_term(term, measured) if measured else None
            ends = term.ends if term.metric in OF_IOU_RANGE else (None, None)
            yield {
                "question": question.name,
                "claim": claim.id,
                "framework": question.framework,
                "backbone": question.backbone,
                "seed": seed,
                "term": number,
                "coefficient": term.coefficient,
                "divides": number > len(claim.quantity),
                "run": measured.run.id if measured else None,
                "at": term.at,
                "place": place_of(term, measured.run) if measured else None,
                "metric": term.metric,
                "iou_low": ends[0],
                "iou_high": ends[1],
                "area": term.area if term.metric == "AP" else None,
                "value": value.point if value else None,
                "problem": term_problem(term, of_seed),
                "published": term.published,
                "published_value": load_published()[term.published].measured if term.published else None,
            }


def _sample_columns(questions: Sequence[Question]) -> dict[str, np.ndarray]:
    """Samples of every question that has some, by name."""
    columns = {}
    for question in questions:
        found = question.estimate
        if found is not None and found.samples is not None:
            columns[question.name] = found.samples
            columns |= {f"{question.name}{OVER_IMAGES}{seed}": draws for seed, draws in found.over_images.items()}
    return columns
