"""The sizes that Decoupled R-CNN's paper prints, and the field's counter on parts of a detector."""

import logging

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from adapters.contract import Adapter
from cascadebench.study.run import Run

SPECIFIC = {"regression": "class_specific"}
PUBLISHED = [
    ("resnet50", "faster_rcnn", SPECIFIC, 41.53, 215.82),
    ("resnet50", "decoupled_rcnn", SPECIFIC | {"stages": 1}, 55.42, 229.72),
    ("resnet50", "decoupled_rcnn", SPECIFIC, 83.22, 257.52),
    ("resnet50", "decoupled_rcnn", SPECIFIC | {"double_head": True, "stages": 1}, 47.12, 490.02),
    ("resnet50", "decoupled_rcnn", SPECIFIC | {"double_head": True}, 58.30, 1038.83),
    ("resnet101", "faster_rcnn", SPECIFIC, 60.52, 295.70),
    ("resnet101", "decoupled_rcnn", SPECIFIC | {"stages": 1}, 74.42, 309.59),
    ("resnet101", "decoupled_rcnn", SPECIFIC, 102.22, 337.39),
    ("resnet101", "cascade_rcnn", {}, 88.16, 323.34),
    ("resnet101", "decoupled_rcnn", {"classifiers": 3}, 129.85, 365.03),
    ("resnext101_32x4d", "faster_rcnn", SPECIFIC, 60.16, 299.61),
    ("resnext101_32x4d", "decoupled_rcnn", SPECIFIC | {"stages": 1}, 74.05, 313.51),
    ("resnext101_32x4d", "decoupled_rcnn", SPECIFIC, 101.85, 341.31),
]
"""Backbone, variant, options, trainable parameters in millions and GFLOPs (Tables VIII to XI)."""
WIDTH, HEIGHT = 1344, 800
"""The image that the tables count, padded."""


def trainable(model: nn.Module) -> int:
    """Parameters that learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def dense_flops(adapter: Adapter, model: nn.Module, run: Run) -> float:
    """Operations of backbone, neck and RPN of a model on ``meta``; they grow with the pixels, so a part is counted."""
    _give_zeros(model)
    (dense, _) = adapter.trace_parts(model, run, 128, 128, 1)
    return _flops(*dense) * (WIDTH * HEIGHT) / (128 * 128)


def stage_flops(adapter: Adapter, model: nn.Module, heads: nn.Module, run: Run) -> float:
    """Operations of all stages of a model on ``meta``; they grow with the RoIs, so a few are counted."""
    _give_zeros(heads)
    (_, stages) = adapter.trace_parts(model, run, WIDTH, HEIGHT, 4)
    return _flops(*stages) * run.protocol.rpn.test_post_nms / 4


def _give_zeros(module: nn.Module) -> None:
    """Give a module without memory weights of zero on the CPU."""
    module.to_empty(device="cpu")
    for tensor in module.state_dict().values():
        tensor.zero_()


def _flops(module: nn.Module, inputs: tuple) -> int:
    """Operations of a module by fvcore, a multiply-add counted as one, as :mod:`adapters.inspection.cost` counts."""
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    with torch.no_grad():
        analysis = FlopCountAnalysis(module, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return analysis.total()
