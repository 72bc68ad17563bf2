"""Whether what was measured may be held against a claim, and what a printed value beside it differs in."""

from collections.abc import Sequence
from dataclasses import dataclass

from cascadebench.controls.findings import Audit, Finding
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.evidence.claims import SourcedClaim
from cascadebench.evidence.published import NOT_GIVEN, PublishedValue, load_published
from cascadebench.evidence.schedules import (
    find_schedule,
    length_difference,
    setting_differences,
    settings_not_given,
)
from cascadebench.study.run import Run

WEIGHTS_SUFFIX = "_caffe"
"""A backbone's name with this at its end is the same network from weights that were trained in Caffe."""
SHOWN = 5
"""Violations of the audit that are told one by one."""
EVALUATED_ON = {"coco2017": "val2017", "voc0712": "VOC2007 test"}
"""Split that this project evaluates on, by dataset."""
SIDE_OPTIONS = frozenset({"regression", "regression_ground_truth", "stage_weights", "later_weights"})
"""Options about which paper and code disagree or are silent: another value is a difference, not another detector."""


def network(backbone: str) -> str:
    """Name of a backbone without the word for its initial weights."""
    return backbone.removesuffix(WEIGHTS_SUFFIX)


def reasons_not_comparable(claim: SourcedClaim, runs: Sequence[Run], audit: Audit | None) -> tuple[str, ...]:
    """Say why a quantity measured on these runs is not what the claim is about; nothing if it is.

    Another framework is no reason: the claims are about detectors. Nor are other settings of a schedule of the same
    length, which a study holds equal for all of its runs; :func:`other_settings` tells them. Without an audit the
    study's controls were not audited, which is a reason.
    """
    asked = claim.claimed_on
    schedule = find_schedule(asked.schedule, f"claim {claim.id}")
    reasons = []
    for run in runs:
        if run.dataset.name != asked.dataset:
            reasons.append(f"data: {run.dataset.name} here, {asked.dataset} in the source")
        elif schedule.images is not None:
            reasons.append(length_difference(run.protocol, schedule))
        if asked.backbones and network(run.backbone.name) not in asked.backbones:
            reasons.append(f"backbone: {run.backbone.name} here, {' or '.join(asked.backbones)} in the source")
    found = list(dict.fromkeys(reason for reason in reasons if reason))
    return (*found, *_audited(runs, audit))


def other_settings(claim: SourcedClaim, runs: Sequence[Run]) -> tuple[str, ...]:
    """Settings of the runs' schedule that are not the source's, or whose value the source does not say.

    No reason against a verdict, as they are the same for both sides of a difference, and never hidden. Of other data
    they would say nothing: a schedule belongs to its dataset.
    """
    schedule = find_schedule(claim.claimed_on.schedule, f"claim {claim.id}")
    texts: list[str | None] = []
    for run in (run for run in runs if run.dataset.name == claim.claimed_on.dataset):
        if schedule.images is None:
            texts.append(length_difference(run.protocol, schedule))
        texts += [*setting_differences(run.protocol, schedule), settings_not_given(run.protocol, schedule)]
    return tuple(dict.fromkeys(text for text in texts if text))


def accepted_violations(runs: Sequence[Run], audit: Audit | None) -> tuple[str, ...]:
    """Violations that the study's file accepts, of these runs: no reason against a verdict, and never hidden."""
    accepted = audit.of_kind("accepted") if audit else []
    ids = {run.id for run in runs}
    texts = [f"accepted violation: {one.control}: {one.reason}" for one in accepted if _touches(one, ids)]
    return tuple(dict.fromkeys(texts))


def _audited(runs: Sequence[Run], audit: Audit | None) -> list[str]:
    if audit is None:
        return ["the controls were not audited"]
    ids = {run.id for run in runs}
    violations = [
        f"audit: {one.control} of {one.run}: {one.reason}" for one in audit.of_kind("violation") if _touches(one, ids)
    ]
    more = [f"audit: {len(violations) - SHOWN} more violations"] if len(violations) > SHOWN else []
    return violations[:SHOWN] + more


def _touches(finding: Finding, ids: set[str]) -> bool:
    """Whether a finding is about one of the runs.

    Where seeds or frameworks differ either of the two may be wrong; where a variant differs from the baseline it is the
    variant.
    """
    either = finding.check in ("seeds", "frameworks")
    return finding.run in ids or (either and finding.other_run in ids)


@dataclass(frozen=True)
class Beside:
    """A published value that a measured one can be set beside, and every known difference of circumstances."""

    value: PublishedValue
    differences: tuple[str, ...]


def published_beside(run: Run, test_stage: str, metrics: Sequence[str] | None = None) -> list[Beside]:
    """Published values of the detector that a run is, at a test stage.

    Dataset, variant, options and, if the source gives it, the backbone's network are the same, and so are the boxes and
    the classifiers of the test stage. Everything else may differ and is told: framework, initial weights, length and
    settings of the schedule, split, the rule that averages classifiers, options about which the sources are silent, and
    what the value's own entry says.

    Parameters
    ----------
    test_stage : str
        Label of a test stage of the run.
    metrics : sequence of str, optional
        Names of published metrics; None: all.

    Returns
    -------
    list of Beside
        Those with the fewest differences first.
    """
    if run.variant.folder is not None:
        return []
    found = [
        Beside(value, tuple(_differences(run, test_stage, value)))
        for value in load_published().values()
        if (metrics is None or value.metric in metrics) and _is_of(run, test_stage, value)
    ]
    return sorted(found, key=lambda beside: len(beside.differences))


def _is_of(run: Run, test_stage: str, value: PublishedValue) -> bool:
    """Whether a value is of the run's detector, on its dataset and kind of backbone, at the test stage."""
    if (value.variant, value.dataset) != (run.variant.name, run.dataset.name):
        return False
    if _backbone_given(value) and network(value.backbone or "") != network(run.backbone.name):
        return False
    if any(value.options[name] != given for name, given in run.variant.options.items() if name not in SIDE_OPTIONS):
        return False
    printed, here = TestStage.parse(value.test_stage or run.variant.headline), TestStage.parse(test_stage)
    return (printed.boxes, printed.classifiers) == (here.boxes, here.classifiers)


def _backbone_given(value: PublishedValue) -> bool:
    """Whether the source says the backbone, be it one of this project's or not."""
    return value.backbone is not None or value.backbone_words is not None


def _differences(run: Run, test_stage: str, value: PublishedValue) -> list[str]:
    differences = []
    if value.framework == NOT_GIVEN:
        differences.append(f"framework: {run.framework} here, not given in the source")
    elif value.framework != run.framework:
        differences.append(f"framework: {run.framework} here, {value.framework} in the source")
    if not _backbone_given(value):
        differences.append(f"backbone: {run.backbone.name} here, not given in the source")
    elif value.backbone != run.backbone.name:
        differences.append(f"initial weights: {run.backbone.name} here, {value.backbone} in the source")
    differences.append(length_difference(run.protocol, value.schedule))
    differences += setting_differences(run.protocol, value.schedule)
    split = EVALUATED_ON.get(run.dataset.name, "val")
    if value.split == NOT_GIVEN:
        differences.append(f"split: {split} here, not given in the source")
    elif value.split != split:
        differences.append(f"split: {split} here, {value.split} in the source")
    if value.test_stage is not None and value.test_stage != test_stage:
        differences.append(f"score rule: {test_stage} here, {value.test_stage} in the source")
    for name, given in run.variant.options.items():
        if given != value.options[name]:
            differences.append(f"option {name}: {given} here, {value.options[name]} in the source")
    return [*(text for text in differences if text), *value.differs]
