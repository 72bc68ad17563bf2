"""Parameters and FLOPs of a detector, by the field's counter, and one inference as the parts that it traces."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from adapters.contract import Adapter
from cascadebench.core.files import canonical_json
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.determinism.training_order import resized_shape
from cascadebench.study.run import Run

STRIDES = (4, 8, 16, 32)
"""Of the maps that RoIs are pooled from."""
TracedPart = tuple[nn.Module, tuple[Tensor, ...]]
"""A module and its inputs."""


@functools.cache
def _remembered(architecture: str) -> dict[str, Any]:
    """A place for the counts of one architecture: seeds and schedules share them within a process."""
    return {}


def cost_of(adapter: Adapter, model: nn.Module, run: Run) -> dict[str, Any]:
    """Count what ``cost.json`` says, once per architecture and process: counting runs a whole inference."""
    decides = run.identity()
    del decides["seed"], decides["protocol"]["schedule"], decides["protocol"]["optimizer"], decides["dataset"]["data"]
    counts = _remembered(canonical_json(decides))
    if not counts:
        counts.update(count_cost(adapter, model, run))
    return counts


def count_cost(adapter: Adapter, model: nn.Module, run: Run) -> dict[str, Any]:
    """Count parameters and FLOPs of one model.

    One multiply-add counts as one FLOP. The image has the largest test size of the protocol, padded to the size
    divisor, and every head sees the protocol's number of test proposals, whatever an untrained RPN would propose.
    """
    short, longest = run.protocol.input.test_short_side, run.protocol.input.max_long_side
    divisor = run.protocol.input.size_divisor
    width, height = resized_shape(longest, short, short, longest)
    padded_width, padded_height = (-(-side // divisor) * divisor for side in (width, height))
    rois = run.protocol.rpn.test_post_nms
    model.eval()
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    flops = 0
    with torch.no_grad():
        for module, inputs in trace_parts(adapter, model, run, padded_width, padded_height, rois):
            analysis = (
                FlopCountAnalysis(module, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            )
            flops += analysis.total()
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable_parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "flops": int(flops),
        "flops_input": {"width": padded_width, "height": padded_height, "rois": rois},
    }


class _Part(nn.Module):
    """A part of a model's inference."""

    def __init__(self, model: nn.Module, operations: Callable[..., list[Tensor]]) -> None:
        super().__init__()
        self.model, self.operations = model, operations

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return self.operations(*inputs)


def trace_parts(adapter: Adapter, model: nn.Module, run: Run, width: int, height: int, rois: int) -> list[TracedPart]:
    """Split one inference into modules and inputs whose operations add up to it, for an image of this size.

    Backbone, neck and RPN head see the image; the stages that the headline's detections need see `rois` boxes spread
    over sizes, hence over levels; mask branches as many of these, evenly spread, as there are detections at most.
    """
    heads, headline = adapter.roi_heads(model), TestStage.parse(run.variant.headline)
    channels = run.protocol.neck.channels
    features = [torch.zeros(1, channels, height // stride, width // stride) for stride in STRIDES]
    sides = torch.linspace(16, min(width, height), rois)
    boxes = torch.stack([torch.zeros(rois), torch.zeros(rois), sides, sides], 1)

    def stages(boxes: Tensor, *features: Tensor) -> list[Tensor]:
        given = heads.run_stages(heads.held(features), boxes, (height, width), [headline])
        return [*given.boxes, *given.logits, *given.last_logits]

    def masks(boxes: Tensor, *features: Tensor) -> list[Tensor]:
        return heads.mask_logits(heads.held(features), boxes)

    dense = functools.partial(adapter.dense_outputs, model)
    parts = [(_Part(model, dense), (torch.zeros(1, 3, height, width),)), (_Part(model, stages), (boxes, *features))]
    if run.variant.masks:
        detections = torch.linspace(0, rois - 1, min(rois, run.protocol.inference.max_detections)).long()
        parts.append((_Part(model, masks), (boxes[detections], *features)))
    return parts
