"""Names, units and scales of everything that a paper prints or a claim is about."""

from typing import Literal

from cascadebench.metrics.coco.rules import AP_AT_IOU

Unit = Literal["percent", "s/image", "images/s", "GFLOPs", "millions", "GB", "MB"]

_PRECISION = ("AP", *AP_AT_IOU, "APs", "APm", "APl")
_PROPOSAL_RECALL = tuple(f"proposal_AR{area}{count}" for count in (100, 1000) for area in ("", "s", "m", "l"))
PUBLISHED_METRICS: dict[str, Unit] = {
    **dict.fromkeys(_PRECISION, "percent"),
    **dict.fromkeys((f"mask_{name}" for name in _PRECISION), "percent"),
    # Mean recall of class-agnostic proposals over the IoU thresholds, for 100 or 1000 per image.
    **dict.fromkeys(_PROPOSAL_RECALL, "percent"),
    # Share of proposals with an IoU of at least 0.7.
    "proposals_at_iou70": "percent",
    "seconds_per_image": "s/image",
    "train_seconds_per_image": "s/image",
    "fps": "images/s",
    "GFLOPs": "GFLOPs",
    "parameters_M": "millions",
    "model_size_MB": "MB",
    "memory_GB": "GB",
}
"""Metrics of published values, with the unit that they are printed in."""
MEASURED_SCALE: dict[Unit, float] = {"percent": 1e-2, "GFLOPs": 1e9, "millions": 1e6, "GB": 1e3}
"""Factor from the printed unit to the unit in which this project measures the same (fraction, multiply-adds, count,
MB); 1 for a unit that is not named."""
ClaimMetric = Literal[
    "AP",
    "AR1",
    "AR10",
    "AR100",
    "proposal_AR100",
    "proposal_AR1000",
    "score_mean",
    "score_balance",
    "parameters",
    "trainable_parameters",
    "flops",
    "seconds_per_image",
]
"""What a claim may be about. ``score_mean`` is the mean score of detections whose IoU with a ground truth of their
class lies in a range; ``score_balance`` divides it by the mean score of those whose IoU lies above the range, so that a
factor common to all scores cancels out."""
OF_IOU_RANGE = frozenset({"AP", "score_mean", "score_balance"})
"""Metrics of a claim that have a range of IoU."""
OF_MODEL = frozenset({"parameters", "trainable_parameters", "flops", "seconds_per_image"})
"""Metrics of a claim that have no test stage."""
EXACT = frozenset({"parameters", "trainable_parameters", "flops"})
"""Metrics of a claim that are counted: they have no sampling error."""
MEASURED_UNITS: dict[str, str] = {
    **dict.fromkeys(("AP", "AR1", "AR10", "AR100", "proposal_AR100", "proposal_AR1000"), "fraction"),
    "score_mean": "score",
    "score_balance": "share",
    **dict.fromkeys(("parameters", "trainable_parameters"), "count"),
    "flops": "multiply-adds",
    "seconds_per_image": "s",
}
"""Unit of a claim's metric as it is measured; a fraction of 0.01 is a point."""
RATIO = "ratio"
"""Unit of a quantity that is divided."""
