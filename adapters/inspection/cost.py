"""Parameters and FLOPs of a detector, by the field's counter."""

import functools
import logging
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from adapters.contract import Adapter
from cascadebench.core.files import canonical_json
from cascadebench.determinism.image_size import resized_shape
from cascadebench.study.run import Run


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
        for module, inputs in adapter.trace_parts(model, run, padded_width, padded_height, rois):
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
