"""The variants that both frameworks have, in both, in double precision."""

import numpy as np
import pytest
import torch
from comparison import BOTH, SHORT, TWENTY_STEPS, add_noise, ground_truth, run_of, two_images
from sides import Detectron2Side, MMDetectionSide

from adapters.witness.double_precision import double_precision
from cascadebench.detectors.variant_catalog import find_variant, own_variants

torch.set_num_threads(1)
OPTIONS = {
    "faster_rcnn": [{"heads": "unshared"}, {"nms_cls": 0.6, "nms_reg": 0.8}, {"regression": "class_specific"}],
    "cascade_rcnn": [{"stages": 4, "iou_thresholds": "constant", "target_statistics": "constant", "stage_loss": "avg"}],
    "cascade_mask_rcnn": [{"mask_on": "every"}],
    "fscascade": [
        {"merge": "concat", "share_gradient": False},
        {"merge": "sum", "embed": "identity", "stages": 2},
        {"cfs": False, "lfs": False},
    ],
    "decoupled_rcnn": [
        {"classifiers": 3, "iou_thresholds": "rising", "later_weights": "pytorch", "regression_ground_truth": True},
        {"regression": "class_specific", "stage_weights": "halved", "regression_ground_truth": True},
        {"stages": 1, "heads": "shared", "nms_reg": 0.95},
        {"double_head": True, "stages": 2},
        {"double_head": True, "classifiers": 2},
    ],
}
"""Options that are tried beside the defaults of each variant."""
CASES = [
    (name, options)
    for name in own_variants()
    if set(BOTH) <= set(find_variant(name, "test").card.frameworks)
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
    """Both frameworks' side, run and model of a variant."""
    variant, options = request.param
    pair = []
    for kind in (MMDetectionSide, Detectron2Side):
        run = run_of(kind.framework, find_variant(variant, "test"), options, SHORT if options else TWENTY_STEPS)
        side = kind(run)
        model = side.adapter.build_model(run).double()
        add_noise(model, side.common_name)
        pair.append((side, run, model))
    return pair


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Two images of different size, so that the batch is padded."""
    return two_images()


@pytest.fixture(scope="module")
def truth(in_double) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ground truth of the two images."""
    return ground_truth()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Twelve drawn images of the embedded dataset."""
    from cascadebench.datasets.card import load_dataset_card
    from cascadebench.datasets.prepare import prepare
    from cascadebench.datasets.prepared import load_split, trainable

    card = load_dataset_card("shapes")
    few = card.data.model_copy(update={"train_images": 12, "val_images": 4})
    folder = tmp_path_factory.mktemp("few") / "shapes"
    prepare(card.model_copy(update={"data": few}), folder)
    return trainable(load_split(folder, "train", segmentations=True))
