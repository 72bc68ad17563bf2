"""Verdicts on the claims of one study."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cascadebench.controls.findings import Audit
from cascadebench.evidence.claims import SourcedClaim
from cascadebench.evidence.comparability import accepted_violations, other_settings, reasons_not_comparable
from cascadebench.evidence.holm import decision_p_value, holm, samples_needed
from cascadebench.evidence.quantities import Estimate, MeasuredRun, NotMeasured, estimate
from cascadebench.evidence.readings import asked_of, over_readings, readings_left_out
from cascadebench.uncertainty.bootstrap import RESAMPLES
from cascadebench.uncertainty.intervals import ALPHA, Ends, order_statistics
from cascadebench.uncertainty.seed_scatter import SeedScatter

Reading = Literal["supported", "not supported", "inconclusive", "one seed"]
Word = Literal["supported", "not supported", "inconclusive", "one seed", "not run", "not comparable"]


@dataclass(frozen=True)
class Question:
    """A claim under one reading as it is asked of the runs in one framework on one backbone, with what they give."""

    claim: SourcedClaim
    framework: str
    backbone: str
    answer: Estimate | NotMeasured
    reasons: tuple[str, ...] = ()
    """Why it is not run, not comparable, or not decided for another reason than its interval."""
    notes: tuple[str, ...] = ()
    """What a reader must know beside."""

    @property
    def name(self) -> str:
        """Its name in all tables of a study; a reading other than the cards' own stands in it."""
        reading = ",".join(f"{name}={json.dumps(value)}".replace('"', "") for name, value in self.claim.reading.items())
        return " ".join(filter(None, [self.claim.id, self.framework, self.backbone, reading]))

    @property
    def point(self) -> float | None:
        """The quantity, also where it is not comparable."""
        return self.estimate.point if self.estimate else None

    @property
    def estimate(self) -> Estimate | None:
        """What was measured."""
        return None if isinstance(self.answer, NotMeasured) else self.answer

    @property
    def decides(self) -> bool:
        """Whether it has samples over several seeds, without which nothing is said about a method."""
        return self.estimate is not None and self.estimate.samples is not None and len(self.estimate.by_seed) > 1


@dataclass(frozen=True, kw_only=True)
class Verdict(Question):
    """What a study says about one claim, under one framework and backbone: a question with its answer read."""

    word: Word
    """``supported``: the adjusted interval lies on the claim's side of the threshold. ``not supported``: it lies on the
    other side. ``inconclusive``: it spans the threshold, or there is none. ``one seed``: only one training of each
    method has the quantity, which says nothing of another. ``not comparable``: the data, the protocol or the backbone
    is not the claim's, or the audit found a violation. ``not run``: a run that the quantity needs is missing or failed,
    with every seed."""
    reading: Reading | None = None
    unadjusted_reading: Reading | None = None
    """What the adjusted and the unadjusted interval say, whatever the word; None: nothing was measured."""
    interval: Ends | None = None
    adjusted_interval: Ends | None = None
    """At the study's level, and at the level that Holm compared with; ends may be infinite. Both are the point where
    the quantity is exact. None: its error is unknown, and of one seed nothing is adjusted."""
    p_value: float | None = None
    adjusted_p_value: float | None = None
    level: float | None = None
    """The p-value, Holm's adjusted p-value, and the alpha that Holm compared the p-value with, which is also that of
    the adjusted interval. None where the quantity has no samples over several seeds."""


def study_verdicts(
    claims: Sequence[SourcedClaim],
    runs: Sequence[MeasuredRun],
    audit: Audit | None,
    alpha: float = ALPHA,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    scatter: SeedScatter | None = None,
) -> list[Verdict]:
    """Verdicts on every claim in every framework and on every backbone of a study.

    Parameters
    ----------
    runs : sequence of MeasuredRun
        All runs of the study, unfinished ones too.
    audit : Audit or None
        Of the study; None: its controls were not audited, and no verdict is given.
    alpha : float
        Probability of any wrong decision in the study.
    seed, resamples : int
        Those of the study's resamples; the draws of the training seeds' part take them too.
    scatter : SeedScatter or None
        How trainings of the study scatter; None: nothing is known of it but by each quantity itself.

    Returns
    -------
    list of Verdict
        Claim by claim; frameworks and backbones in the order of the runs, readings in that of the claim.
    """
    return judge(study_questions(claims, runs, audit, seed, resamples, scatter=scatter), alpha)


def study_questions(
    claims: Sequence[SourcedClaim],
    runs: Sequence[MeasuredRun],
    audit: Audit | None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    lock: Mapping[str, Any] | None = None,
    scatter: SeedScatter | None = None,
) -> list[Question]:
    """Ask every claim in every framework and on every backbone, under each of its readings that the study runs.

    Parameters are those of :func:`study_verdicts`; `lock` is ``lock.json`` of the study's data, which says what it is.
    """
    conditions = list(dict.fromkeys((one.run.framework, one.run.backbone.name) for one in runs))
    questions = []
    for claim in claims:
        for framework, backbone in conditions:
            here = [one for one in runs if (one.run.framework, one.run.backbone.name) == (framework, backbone)]
            left_out = readings_left_out(claim, [one.run for one in here])
            for asked in asked_of(claim, [one.run for one in here]):
                answer = estimate(asked, here, seed, resamples, scatter)
                found = None if isinstance(answer, NotMeasured) else answer
                of_claim = found.runs if found else ()
                reasons = reasons_not_comparable(asked, of_claim, audit, lock) if found else ()
                notes = (*accepted_violations(of_claim, audit), *other_settings(asked, of_claim, lock), *left_out)
                questions.append(Question(asked, framework, backbone, answer, reasons, notes))
    return questions


def judge(questions: Sequence[Question], alpha: float = ALPHA) -> list[Verdict]:
    """Give the verdicts of one study.

    All questions that have samples over several seeds are one family for Holm's correction, those that are not
    comparable too: their adjusted intervals are shown, and leaving them out would let the choice of what is comparable
    decide how strict the others are judged. Of one seed nothing is decided. Exact quantities are compared with the
    threshold as they are.
    """
    sampled = [number for number, one in enumerate(questions) if one.decides]
    p_values = {
        number: decision_p_value(questions[number].claim, questions[number].estimate.samples) for number in sampled
    }
    steps = dict(zip(sampled, holm([p_values[number] for number in sampled], alpha), strict=True))
    verdicts = []
    for number, question in enumerate(questions):
        if not question.decides:
            verdicts.append(_undecided(question))
            continue
        found = question.estimate
        level = steps[number].level
        interval, adjusted = order_statistics(found.samples, alpha), order_statistics(found.samples, level)
        count, needed = found.sample_count, samples_needed(len(sampled), alpha)
        few = f"{count} bootstrap samples; a decision among {len(sampled)} questions needs {needed}"
        verdicts.append(
            _verdict(
                question,
                reading(question.claim, adjusted),
                reading(question.claim, interval),
                interval=interval,
                adjusted_interval=adjusted,
                p_value=p_values[number],
                adjusted_p_value=steps[number].adjusted,
                level=level,
                more_notes=(few,) if count < needed else (),
            )
        )
    return [_among_readings(one, verdicts) for one in verdicts]


def _among_readings(verdict: Verdict, verdicts: Sequence[Verdict]) -> Verdict:
    """A verdict with what the others say that differ from it in the reading alone."""
    if not verdict.claim.readings:
        return verdict
    key = verdict.claim.id, verdict.framework, verdict.backbone
    words = [one.word for one in verdicts if (one.claim.id, one.framework, one.backbone) == key]
    return replace(verdict, notes=(*verdict.notes, *over_readings(words)))


def reading(claim: SourcedClaim, interval: Ends) -> Reading:
    """What an interval says about a claim; one that touches the threshold spans it."""
    low, high = interval
    if isinstance(claim.threshold, tuple):
        lowest, highest = claim.threshold
        if lowest < low and high < highest:
            return "supported"
        return "not supported" if high < lowest or low > highest else "inconclusive"
    above, below = low > claim.threshold, high < claim.threshold
    if not (above or below):
        return "inconclusive"
    return "supported" if above == (claim.direction == "greater") else "not supported"


def _undecided(question: Question) -> Verdict:
    """Verdict of a quantity that was not measured, is exact, or is of one seed."""
    found = question.estimate
    if found is None:
        return _verdict(question, None, None)
    if found.sampling == "exact":
        says: Reading = "supported" if question.claim.holds(found.point) else "not supported"
        exact = (found.point, found.point)
        return _verdict(question, says, says, interval=exact, adjusted_interval=exact)
    if found.samples is None:
        unknown = ("one measurement: its error is not known",)
        return _verdict(question, "one seed", "one seed", more_notes=unknown)
    return _verdict(question, "one seed", "one seed", interval=order_statistics(found.samples))


def _verdict(
    question: Question,
    says: Reading | None,
    unadjusted: Reading | None,
    more_notes: tuple[str, ...] = (),
    **numbers: Ends | float,
) -> Verdict:
    found = question.estimate
    missing = question.answer.missing if isinstance(question.answer, NotMeasured) else ()
    word: Word = "not comparable" if question.reasons else says or "not run"  # more seeds would not mend the first
    notes = (*question.notes, *(found.notes if found else ()), *more_notes)
    told = vars(question) | {"reasons": (*question.reasons, *missing), "notes": notes}
    return Verdict(**told, word=word, reading=says, unadjusted_reading=unadjusted, **numbers)
