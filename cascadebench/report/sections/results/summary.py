"""Summary: what was compared, what was checked, the verdicts, and what came out, in sentences."""

from typing import Any

from cascadebench.evidence.hypotheses import AGREEMENT_MARGIN
from cascadebench.metrics.coco.rules import AP_AT_IOU
from cascadebench.report.data.study_results import DetectorRecord, StudyResults, framework_title
from cascadebench.report.parts.cells import Spread, from_to, listing, plain, points, signed_points
from cascadebench.report.parts.detector_rows import mean_over_seeds
from cascadebench.report.parts.section import Section
from cascadebench.report.sections.results.agreement import framework_pairs
from cascadebench.report.sections.results.claims import strip_values


def comparison(results: StudyResults) -> str:
    """What was compared, on what, under which protocol."""
    study = results.study
    if study.protocol is None:
        titles = listing([one.file.title for one in results.imported]) or "nothing that could be read"
        return f"Imported detections, not controlled, on the dataset “{study.dataset.title}”: {titles}."
    file, schedule = study.file, study.protocol.schedule
    others = [label for label in results.labels if label != results.baseline]
    detectors = f"{listing(others)} against the baseline {results.baseline}" if others else results.baseline
    frameworks = listing([framework_title(name) for name in file.frameworks])
    seeds = "one seed" if len(file.seeds) == 1 else f"{len(file.seeds)} seeds"
    backbones = f"{'backbone' if len(file.backbones) == 1 else 'backbones'} {listing(list(file.backbones))}"
    return (
        f"{detectors}, each trained in {frameworks} with {seeds}, {backbones}, on the dataset “{study.dataset.title}”. "
        f"All runs share the protocol {study.protocol.name}: {plain(schedule.iterations)} iterations of "
        f"{schedule.batch_size} images at a learning rate of {plain(schedule.base_lr)}, and every other value listed "
        "under Protocol."
    )


def state_counts(results: StudyResults) -> list[tuple[str, int]]:
    """Number of runs in every state that occurs, evaluated first and failed second."""
    states = [record.state for record in results.runs]
    order = ["evaluated", "failed", "predicted", "trained", "started", "inspected", "not run"]
    known = [state for state in order if state in states]
    return [(state, states.count(state)) for state in [*known, *sorted(set(states) - set(order))]]


def _best_sentence(results: StudyResults, title: str, detectors: list[DetectorRecord]) -> str | None:
    """Which detector of a framework has the highest AP, and at which IoU it gains and loses."""
    scores = results.headline_rows
    means = [(mean_over_seeds(detector, scores, "AP"), detector) for detector in detectors]
    known = [(mean, detector) for mean, detector in means if mean is not None]
    if not known:
        return None
    best_mean, best = max(known, key=lambda pair: pair[0])
    sentence = f"{title}: {best.label} has the highest AP, {points(best_mean)}"
    baseline = next((detector for _, detector in known if detector.is_baseline), None)
    if baseline is None:
        return f"{sentence}; the baseline has no result."
    if best is baseline:
        return f"{sentence}; it is the baseline." if len(known) > 1 else f"{title}: only the baseline has a result."
    gaps = {
        name: Spread.of_differences(best.by_seed(scores, name), baseline.by_seed(scores, name)).mean
        for name in ("AP", *AP_AT_IOU)
    }
    by_iou = {iou: gaps[name] for name, iou in AP_AT_IOU.items() if gaps[name] is not None}
    sentence += f" ({signed_points(gaps['AP']).text} against {results.baseline})"
    if by_iou:
        high, low = max(by_iou, key=by_iou.get), min(by_iou, key=by_iou.get)
        sentence += (
            f". The difference is largest at IoU {high:.2f} ({signed_points(by_iou[high]).text}) "
            f"and smallest at {low:.2f} ({signed_points(by_iou[low]).text})"
        )
    return sentence + "."


def _framework_sentence(results: StudyResults) -> str | None:
    """By how much the frameworks differ on the same detector, where they differ most, and whether that is equal."""
    known = [(title, pair) for title, pairs in framework_pairs(results) for pair in pairs]
    if not known:
        return None
    title, pair = max(known, key=lambda one: abs(one[1].difference(results, "AP").mean))
    difference, ends = signed_points(pair.difference(results, "AP").mean).text, pair.interval(results, "AP")
    sentence = f"Between frameworks {pair.name} differs most: {difference} AP, {title}"
    sentence += f" (95% interval {from_to(ends)[0].text})" if ends else ""
    verdict = pair.verdict(results)
    return f"{sentence}. Equal within {points(AGREEMENT_MARGIN)}: {verdict['verdict']}." if verdict else f"{sentence}."


def findings(results: StudyResults) -> list[str]:
    """What came out, one sentence per framework and one between frameworks."""
    sentences = [_best_sentence(results, title, detectors) for title, detectors in results.panels()]
    return [sentence for sentence in [*sentences, _framework_sentence(results)] if sentence]


def interval_warning(results: StudyResults) -> str:
    """What the number of seeds lets one say."""
    seeds = len(results.study.file.seeds)
    if not len(results.tables["intervals"]):
        return "There are no intervals: intervals.csv is missing. A difference of AP without an interval is no verdict."
    if not seeds:
        return "Intervals are over the validation images alone: nothing is known of the trainings."
    if seeds == 1:
        return (
            "Intervals are over the validation images alone: with one seed they do not say what another training with "
            "the same settings would give."
        )
    return f"Intervals are over the validation images and over {seeds} seeds."


def build(results: StudyResults) -> dict[str, Any]:
    """Sentences, the states of the runs, and the strip of verdicts."""
    named = {"claims": results.study.file.claims, "hypotheses": results.study.file.hypotheses}
    return {
        "comparison": comparison(results),
        "runs": len(results.runs),
        "evaluated": sum(record.state == "evaluated" for record in results.runs),
        "states": state_counts(results),
        "failed": results.failed,
        "audit": results.audit,
        "asked": listing([f"{len(asked)} {word}" for word, asked in named.items() if asked]),
        **strip_values(results),
        "findings": findings(results),
        "warning": interval_warning(results),
    }


SECTION = Section("summary", "", build)
