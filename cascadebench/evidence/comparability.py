"""Whether what was measured may be held against a claim, and what a printed value beside it differs in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cascadebench.controls.findings import Audit, Finding
from cascadebench.datasets.card import DatasetCard, Folder, Voc, load_dataset_card
from cascadebench.detectors.backbone import Architecture, Backbone, load_backbone
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.evidence.claims import SourcedClaim
from cascadebench.evidence.protocol_differences import Weight, protocol_differences, values_not_given
from cascadebench.evidence.published import NOT_GIVEN, PublishedValue, load_published, reading_options
from cascadebench.evidence.source_data import data_differences, not_compared
from cascadebench.evidence.source_protocols import find_schedule
from cascadebench.study.run import Run

WEIGHTS_SUFFIX = "_caffe"
"""A backbone's name with this at its end is the same network from weights that were trained in Caffe."""
SHOWN = 5
"""Violations of the audit that are told one by one."""
EVALUATED_ON = {"coco2017": "val2017", "voc0712": "VOC2007 test"}
"""Split that this project evaluates on, by dataset."""


def network(backbone: str) -> str:
    """Name of a backbone without the word for its initial weights."""
    return backbone.removesuffix(WEIGHTS_SUFFIX)


def reasons_not_comparable(
    claim: SourcedClaim, runs: Sequence[Run], audit: Audit | None, lock: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Say why a quantity measured on these runs is not what the claim is about; nothing if it is.

    Data and network are compared by what they are, whatever they are called: data by the content that `lock`, its
    ``lock.json``, says, or by its card where there is none. The protocol is compared value by value, as far as the
    source gives it (:data:`cascadebench.evidence.protocol_differences.RULES` says which differences weigh). Another
    framework is no reason: the claims are about detectors. Without an audit the controls were not audited: a reason.
    What no source claims is asked of this study alone: there the audit is all.
    """
    reasons: list[str] = []
    for run in runs if claim.claimed_on else ():  # a hypothesis is about the study's own data, network and protocol
        other_data = list(_other_data(run.dataset, claim.claimed_on.dataset, lock))
        reasons += [*other_data, *([] if other_data else _of_protocol(claim, run, "reason"))]
        reasons += _other_backbone(run.backbone, claim.claimed_on.backbones)
    return (*dict.fromkeys(reasons), *_audited(runs, audit))


def other_settings(claim: SourcedClaim, runs: Sequence[Run], lock: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Values of the runs' protocol that are not the source's and no reason against a verdict, and what it leaves out.

    They are the same for both sides of a difference, and never hidden.
    """
    if claim.claimed_on is None:
        return ()
    schedule, dataset = find_schedule(claim.claimed_on.schedule, f"claim {claim.id}"), claim.claimed_on.dataset
    texts: list[str | None] = []
    for run in runs:
        if list(_other_data(run.dataset, dataset, lock)):
            continue  # a schedule belongs to its data
        texts.append(not_compared(lock, dataset) if lock else None)
        texts += [*_of_protocol(claim, run, "note"), values_not_given(schedule)]
    return tuple(dict.fromkeys(text for text in texts if text))


def _of_protocol(claim: SourcedClaim, run: Run, weight: Weight) -> list[str]:
    """Differences of one weight from the source's protocol."""
    schedule = find_schedule(claim.claimed_on.schedule, f"claim {claim.id}")
    return [one.text for one in protocol_differences(run.protocol, schedule) if one.weight == weight]


def _other_data(here: DatasetCard, name: str, lock: Mapping[str, Any] | None) -> Iterator[str]:
    """What is other data than that of a source: by content, or by the cards where nothing is prepared.

    The counts of a card are those of its files: preparing refuses others.
    """
    if lock:
        yield from data_differences(here.name, lock, name)
        return
    there = _data(name)
    if here == there:
        return
    if here.name != name and (here.categories, _amounts(here)) != (there.categories, _amounts(there)):
        yield f"data: {here.name} here, {name} in the source"
        return
    if here.categories != there.categories:
        yield f"data: {here.name} here has other categories than {name}"
    for what, amount in _amounts(there).items():
        found = _amounts(here).get(what)
        if found != amount:
            said = "not said by the card" if found is None else f"{found:,}"
            yield f"data: {what}: {said} here, {amount:,} in the source"


@cache
def _data(name: str) -> DatasetCard:
    return load_dataset_card(name, "claim")


def _amounts(card: DatasetCard) -> dict[str, int | None]:
    """Numbers of images and annotations of each split, as the card says them."""
    if isinstance(card.data, Folder):
        splits = {"training": card.data.train, "validation": card.data.val}
        return {
            f"{split} {what}": count
            for split, part in splits.items()
            for what, count in (("images", part.image_count), ("annotations", part.annotation_count))
        }
    if isinstance(card.data, Voc):
        splits = {"training images": card.data.train, "validation images": card.data.val}
        return {what: sum(part.image_count or 0 for part in parts) for what, parts in splits.items()}
    return {}


def _other_backbone(here: Backbone, asked: Sequence[str]) -> Iterator[str]:
    """Why a backbone is none of those that the claim is about: its network, or that it starts from nothing."""
    keys = [key for key in Architecture.model_fields if key != "name"]
    differing = {name: [key for key in keys if getattr(here, key) != getattr(_card(name), key)] for name in asked}
    if not asked or not all(differing.values()):
        if here.weights is None:
            yield "initial weights: random here, trained on ImageNet in the source"
    elif network(here.name) not in asked:
        yield f"backbone: {here.name} here, {' or '.join(asked)} in the source"
    else:
        there = _card(network(here.name))
        for key in differing[there.name]:
            yield f"backbone: {key} {getattr(here, key)} here, {getattr(there, key)} in the source ({there.name})"


@cache
def _card(backbone: str) -> Backbone:
    return load_backbone(backbone, "claim")


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
    readings = reading_options(run.variant.name)
    if any(value.options[name] != given for name, given in run.variant.options.items() if name not in readings):
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
    differences += [one.text for one in protocol_differences(run.protocol, value.schedule)]
    split = EVALUATED_ON.get(run.dataset.name, "val")
    if value.split == NOT_GIVEN:
        differences.append(f"split: {split} here, not given in the source")
    elif value.split != split:
        differences.append(f"split: {split} here, {value.split} in the source")
    if value.test_stage is not None and value.test_stage != test_stage:
        differences.append(f"score rule: {test_stage} here, {value.test_stage} in the source")
    for name, why in reading_options(run.variant.name).items():
        given, printed = run.variant.options[name], NOT_GIVEN if why == NOT_GIVEN else value.options[name]
        if given != printed:
            differences.append(f"option {name}: {given} here, {printed} in the source")
    return [*differences, *value.differs]
