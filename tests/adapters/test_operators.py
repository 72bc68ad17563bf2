"""The operators that serve MMDetection."""

import sys

import pytest
import torch

from adapters.mmdet.operators import operators_in_use


def test_operators_are_served():
    assert operators_in_use() in ("torchvision", "mmcv compiled")
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    _, kept = nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
    assert kept.tolist() == [1, 2]


def test_an_operator_that_torchvision_lacks_says_so():
    if operators_in_use() != "torchvision":
        pytest.skip("needs an mmcv without compiled operators; this one has them")
    with pytest.raises(NotImplementedError, match="carafe_forward"):
        sys.modules["mmcv._ext"].carafe_forward()
