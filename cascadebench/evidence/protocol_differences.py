"""Which differences from a source's protocol make another question of a study, and which are told beside a verdict.

One row per value of a protocol (:data:`RULES`), with the reason. A test holds the table to the protocol's keys, and the
table in ``docs/evidence.md`` to this one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from cascadebench.evidence.source_protocols import OF_LENGTH, SourceProtocol, protocol_values
from cascadebench.study.protocol import Protocol

Weight = Literal["reason", "note"]
SAME_LENGTH = 0.05
"""Two schedules whose numbers of images, or drops of the rate, differ by no more than this share are of one length:
Detectron's 1x is 2.3% longer than MMDetection's."""


@dataclass(frozen=True)
class Rule:
    """How a difference of one value is taken."""

    words: str
    """What the value is called in a verdict."""
    weight: Weight
    """``reason``: the study asks another question, and no verdict is given. ``note``: told beside the verdict."""
    why: str
    """Why it weighs so, for a reader."""
    too_far: Callable[[Any, Any], bool] = lambda here, there: False
    """Of a note, from the value here and the source's: whether they are so far apart that it becomes a reason."""


class Difference(NamedTuple):
    """A difference from a source's protocol, in words."""

    key: str
    weight: Weight
    text: str


def _beyond(factor: float) -> Callable[[Any, Any], bool]:
    """More than `factor` times as much, or less than that part of it; one of the two off counts as well."""

    def too_far(here: float | None, there: float | None) -> bool:
        low, high = sorted((here or 0.0, there or 0.0))
        return high > factor * low

    return too_far


BOTH_SIDES = "Held equal for all runs, so it stands on both sides of every difference; papers claim a method, not this."
UP_TO_FOUR = f"{BOTH_SIDES} Up to four times."
RULES: dict[str, Rule] = {
    "rules": Rule("rules", "note", BOTH_SIDES),
    "arithmetic": Rule("arithmetic of the CPU", "note", BOTH_SIDES),
    "schedule.iterations": Rule(
        "training", "reason",
        "Images trained on, beyond 5%. A detector that learns faster looks like a better one in a short training.",
    ),
    "schedule.batch_size": Rule("batch size", "note", BOTH_SIDES),
    "schedule.base_lr": Rule(
        "learning rate", "note", f"{BOTH_SIDES} Beyond ten times it trains far more or less, as a length does.",
        _beyond(10),
    ),
    "schedule.warmup_iterations": Rule("warm-up iterations", "note", BOTH_SIDES),
    "schedule.warmup_factor": Rule("rate at the start of the warm-up", "note", BOTH_SIDES),
    "schedule.steps": Rule(
        "drops of the rate", "note", f"{BOTH_SIDES} With none at all the training is not brought to its end.",
        lambda here, there: bool(here) != bool(there),
    ),
    "schedule.gamma": Rule(
        "factor of the rate at a drop", "reason", "Without a low rate at its end a training is unfinished."
    ),
    "optimizer.name": Rule("optimizer", "reason", "Another optimizer is another training."),
    "optimizer.momentum": Rule(
        "momentum", "reason", "A step goes 1 / (1 - momentum) times as far: it changes what the same length trains."
    ),
    "optimizer.weight_decay": Rule(
        "weight decay", "note", f"{BOTH_SIDES} Beyond ten times, or without, weights are of another size.", _beyond(10)
    ),
    "optimizer.bias_lr_factor": Rule("learning rate of biases over that of weights", "note", BOTH_SIDES),
    "optimizer.bias_decay_factor": Rule("weight decay of biases over that of weights", "note", BOTH_SIDES),
    "optimizer.gradient_clip_norm": Rule("clipping of the gradient", "note", BOTH_SIDES),
    "input.train_short_sides": Rule(
        "shorter side in training", "reason", "Objects have another size in pixels, or several."
    ),
    "input.test_short_side": Rule("shorter side in testing", "reason", "Objects have another size in pixels."),
    "input.max_long_side": Rule("longest side", "reason", "Objects have another size in pixels."),
    "input.flip_probability": Rule(
        "share of mirrored images", "reason", "Without mirroring there is half as much to learn from, and no less time."
    ),
    "input.aspect_ratio_grouping": Rule("batches by aspect ratio", "note", BOTH_SIDES),
    "input.size_divisor": Rule("divisor of padded sizes", "note", BOTH_SIDES),
    "backbone.frozen_stages": Rule("frozen stages", "reason", "It decides how much of the detector learns."),
    "backbone.batch_norm": Rule(
        "batch norm", "note", "Whether scale and shift learn is on both sides. Statistics of small batches are another "
        "network, at test as well.",
        lambda here, there: "trained" in (here, there),
    ),
    "neck.channels": Rule("channels of the pyramid", "reason", "Another width is another network."),
    "rpn.anchors.scale": Rule("scale of the anchors", "reason", "Objects of other sizes are proposed."),
    "rpn.anchors.aspect_ratios": Rule("shapes of the anchors", "reason", "Objects of other shapes are proposed."),
    "rpn.positive_iou": Rule("IoU of positive anchors", "reason", "It changes how well proposals fit."),
    "rpn.negative_iou": Rule("IoU of negative anchors", "reason", "It changes how well proposals fit."),
    "rpn.anchors_per_image": Rule("anchors per image", "note", UP_TO_FOUR, _beyond(4)),
    "rpn.positive_fraction": Rule("share of positive anchors", "note", UP_TO_FOUR, _beyond(4)),
    "rpn.train_pre_nms": Rule("proposals before NMS in training", "note", UP_TO_FOUR, _beyond(4)),
    "rpn.test_pre_nms": Rule("proposals before NMS in testing", "note", UP_TO_FOUR, _beyond(4)),
    "rpn.train_post_nms": Rule("proposals in training", "note", UP_TO_FOUR, _beyond(4)),
    "rpn.test_post_nms": Rule("proposals in testing", "note", UP_TO_FOUR, _beyond(4)),
    "rpn.nms_iou": Rule("IoU of NMS of proposals", "reason", "How dense proposals are is what some methods change."),
    "rpn.smooth_l1_beta": Rule("beta of smooth L1 of the proposals (0: L1)", "note", BOTH_SIDES),
    "heads.pool_size": Rule("side of pooled features", "reason", "Heads see objects at another resolution."),
    "heads.sampling_ratio": Rule("samples of RoIAlign", "note", BOTH_SIDES),
    "heads.width": Rule("width of the heads", "reason", "Another width is another network."),
    "heads.rois_per_image": Rule("RoIs per image", "note", UP_TO_FOUR, _beyond(4)),
    "heads.positive_fraction": Rule("share of positive RoIs", "note", UP_TO_FOUR, _beyond(4)),
    "heads.add_ground_truth": Rule(
        "ground truth among the RoIs", "reason", "It changes the quality of what the first stage learns from."
    ),
    "heads.iou_threshold": Rule("IoU of positive RoIs", "reason", "What a stage takes as positive is what is studied."),
    "heads.target_stds": Rule("deviations of the targets", "reason", "They weigh regression against classification."),
    "heads.smooth_l1_beta": Rule("beta of smooth L1 of the heads (0: L1)", "note", BOTH_SIDES),
    "inference.score_threshold": Rule(
        "lowest score", "note", "Detections of low scores hardly move AP. Above twice the source's, recall is cut off.",
        lambda here, there: here > 2 * there,
    ),
    "inference.nms_iou": Rule("IoU of NMS of detections", "reason", "It decides how many detections an object keeps."),
    "inference.max_detections": Rule(
        "detections per image", "reason", "AP counts 100 of an image: with fewer, recall is cut off."
    ),
}  # fmt: skip


def protocol_differences(protocol: Protocol, source: SourceProtocol) -> list[Difference]:
    """Every value of a protocol that is not the source's, as far as the source gives it.

    Parameters
    ----------
    protocol : Protocol
        Of the runs.
    source : SourceProtocol
        For the same dataset.

    Returns
    -------
    list of Difference
        In the order of :data:`RULES`.
    """
    values = protocol_values(protocol)
    found = {"schedule.iterations": _length(protocol, source), "schedule.steps": _drops(protocol, source)}
    for key, rule in RULES.items():
        if key in source.given and values[key] != source.given[key].value:
            here, there = values[key], source.given[key].value
            found[key] = _difference(key, rule, here, there, source.given[key].place)
    return [found[key] for key in RULES if found.get(key)]


def values_not_given(source: SourceProtocol) -> str | None:
    """Say which values would be a reason, and which of the schedule a note, if the source gave them; None: none."""
    told = [key for key, rule in RULES.items() if rule.weight == "reason" and key != "optimizer.name"]
    told += ["schedule.batch_size", "schedule.base_lr", "heads.rois_per_image"]
    known = {*source.given, *(() if source.images is None else OF_LENGTH)}
    absent = [rule.words for key, rule in RULES.items() if key in told and key not in known]
    return f"not given in the source: {', '.join(absent)}" if absent else None


def _difference(key: str, rule: Rule, here: Any, there: Any, place: str = "") -> Difference:
    weight = "reason" if rule.weight == "reason" or rule.too_far(here, there) else "note"
    by_reference = f" ({place})" if place else ""
    return Difference(key, weight, f"{rule.words}: {_shown(here)} here, {_shown(there)} in the source{by_reference}")


def _length(protocol: Protocol, source: SourceProtocol) -> Difference | None:
    """How much longer or shorter a protocol trains; None if it is the same length."""
    here, there = protocol.schedule.iterations * protocol.schedule.batch_size, source.images
    text = f"{RULES['schedule.iterations'].words}: {here:,} images here"
    if there is None:
        unknown = f"{text}, and the source's schedule ({source.words}) is not known in numbers"
        return Difference("schedule.iterations", "note", unknown)
    if abs(here - there) <= SAME_LENGTH * there:
        return None
    return Difference("schedule.iterations", "reason", f"{text}, {there:,} in the source ({source.words})")


def _drops(protocol: Protocol, source: SourceProtocol) -> Difference | None:
    """Where the learning rate falls at other parts of the length."""
    if source.drops is None:
        return None
    here = [step / protocol.schedule.iterations for step in protocol.schedule.steps]
    same = len(here) == len(source.drops)
    if same and all(abs(one - other) <= SAME_LENGTH for one, other in zip(here, source.drops, strict=True)):
        return None
    shares = ([f"{share:.0%}" for share in shares] for shares in (here, source.drops))
    return _difference("schedule.steps", RULES["schedule.steps"], *shares)


def _shown(value: Any) -> str:
    """A value of a protocol in words."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
