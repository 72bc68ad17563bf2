"""Which published values a run can be set beside, and what is different there."""

from collections.abc import Sequence
from dataclasses import dataclass

from cascadebench.detectors.inference_stages import TestStage
from cascadebench.evidence.comparability import network
from cascadebench.evidence.published import NOT_GIVEN, PublishedValue, load_published
from cascadebench.evidence.schedules import length_difference, setting_differences
from cascadebench.study.run import Run

EVALUATED_ON = {"coco2017": "val2017", "voc0712": "VOC2007 test"}
"""Split that this project evaluates on, by dataset."""
SIDE_OPTIONS = frozenset({"regression", "regression_ground_truth", "stage_weights", "later_weights"})
"""Options about which paper and code disagree or are silent: another value is a difference, not another detector."""


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
