"""The variants that both frameworks have, in both, in double precision."""

import pytest
import torch
from comparison import SHORT, TWENTY_STEPS, both_sides
from drawn_images import few_shapes
from sides import SIDES

from adapters.witness.double_precision import double_precision
from cascadebench.datasets.prepared import load_split, trainable
from cascadebench.detectors.variant_catalog import find_variant, own_variants

torch.set_num_threads(1)
OPTIONS = {
    "faster_rcnn": [{"heads": "unshared"}, {"nms_cls": 0.6, "nms_reg": 0.8}, {"regression": "class_specific"}],
    "cascade_rcnn": [
        {"stages": 4, "iou_thresholds": "constant", "target_statistics": "constant", "stage_loss": "avg"},
        {"later_ground_truth": "dropped_and_added"},
    ],
    "cascade_mask_rcnn": [{"mask_on": "every", "later_ground_truth": "dropped_and_added"}],
    "fscascade": [
        {"merge": "concat", "share_gradient": False},
        {"merge": "sum", "embed": "identity", "stages": 2},
        {"cfs": False, "lfs": False},
        {"borrowed_loss": "relative"},
    ],
    "decoupled_rcnn": [
        {"classifiers": 3, "iou_thresholds": "rising", "later_weights": "pytorch", "regression_ground_truth": True},
        {"regression": "class_specific", "stage_weights": "halved", "regression_ground_truth": True},
        {"regression": "class_specific", "moved_by": "ground_truth_class", "classifiers": 2, "nms_reg": 0.8},
        {"stages": 1, "heads": "shared", "nms_reg": 0.95},
        {"double_head": True, "stages": 2},
        {"double_head": True, "classifiers": 2},
    ],
}
"""Options that are tried beside the defaults of each variant."""
CASES = [
    (name, options)
    for name in own_variants()
    if set(SIDES) <= set(find_variant(name, "test").card.frameworks)
    for options in [{}, *OPTIONS.get(name, [])]
]


def case_name(case: tuple[str, dict]) -> str:
    """A variant and the values of the options that it is tried with."""
    return "-".join([case[0], *(f"{name}={value}" for name, value in case[1].items())])


@pytest.fixture(scope="module")
def in_double():
    """Everything of a module is computed in float64."""
    with double_precision():
        yield


@pytest.fixture(scope="module", params=CASES, ids=case_name)
def pair(request, in_double):
    """Both frameworks' side and model of a variant."""
    variant, options = request.param
    return both_sides(find_variant(variant, "test"), options, SHORT if options else TWENTY_STEPS)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Twelve drawn images of the embedded dataset."""
    folder = few_shapes(tmp_path_factory.mktemp("few") / "shapes", 12, 4)
    return trainable(load_split(folder, "train", segmentations=True))
