"""Weights of MMDetection's detectors: their common names, and ImageNet weights for the residual networks."""

import re

import torch
from torch import nn

from cascadebench.errors import InputError
from cascadebench.run import Run

TENSORS = ("weight", "bias", "running_mean", "running_var")
MODULES = {
    "backbone.conv1": "backbone.stem.conv",
    "backbone.bn1": "backbone.stem.norm",
    "rpn_head.rpn_conv": "rpn.conv",
    "rpn_head.rpn_cls": "rpn.objectness",
    "rpn_head.rpn_reg": "rpn.deltas",
}
"""Common names of the modules that every detector has once."""
IN_BLOCK = {"conv": "conv", "bn": "norm", "downsample.0": "shortcut.conv", "downsample.1": "shortcut.norm"}
IN_NECK = {"lateral_convs": "lateral", "fpn_convs": "output"}
IN_HEAD = {"shared_fcs.0": "fc1", "shared_fcs.1": "fc2", "fc_cls": "classifier", "fc_reg": "regressor"}


def common_name(name: str) -> str | None:
    """Translate a name of a detector's state dict into the common one; None for a norm's counter of batches.

    Raises
    ------
    ValueError
        If the table has no such name: a part was added to a detector and not to the table.
    """
    module, _, tensor = name.rpartition(".")
    if tensor == "num_batches_tracked":
        return None
    common = _common_module(module)
    if common is None or tensor not in TENSORS:
        raise ValueError(f"no common name for {name!r}")
    return f"{common}.{tensor}"


def _common_module(module: str) -> str | None:
    """Translate a module's name; None if the table has none."""
    if module in MODULES:
        return MODULES[module]
    if found := re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(conv|bn)(\d)", module):
        stage, block, kind, number = found.groups()
        return f"backbone.stage{stage}.{block}.{IN_BLOCK[kind]}{number}"
    if found := re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(downsample\.[01])", module):
        stage, block, kind = found.groups()
        return f"backbone.stage{stage}.{block}.{IN_BLOCK[kind]}"
    if found := re.fullmatch(r"neck\.(lateral_convs|fpn_convs)\.(\d)\.conv", module):
        kind, level = found.groups()
        return f"neck.{IN_NECK[kind]}{int(level) + 2}"  # MMDetection counts the pyramid's levels from 0
    if found := re.fullmatch(r"roi_head\.bbox_head\.(?:(\d+)\.)?(shared_fcs\.[01]|fc_cls|fc_reg)", module):
        stage, kind = found.groups()
        return f"heads.{int(stage or 0) + 1}.{IN_HEAD[kind]}"  # a head that is no cascade has no number
    return None


def load_backbone_weights(model: nn.Module, run: Run) -> None:
    """Fill the backbone from torchvision's state dict, whose names MMDetection's ResNet shares.

    Raises
    ------
    InputError
        If the file is missing or another one, or a tensor of the backbone has no counterpart of its shape.
    """
    path = run.backbone.weights.find()
    given = torch.load(path, map_location="cpu", weights_only=True)
    wanted = model.backbone.state_dict()
    missing = [name for name, tensor in wanted.items() if name not in given or given[name].shape != tensor.shape]
    # Files from before torch 0.4.1 do not count batches; the counter takes no part when statistics have a momentum.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing:
        raise InputError(f"{path}: no tensor of the right shape for {missing[0]} (and {len(missing) - 1} more)")
    left = sorted(set(given) - set(wanted) - {"fc.weight", "fc.bias"})
    if left:
        raise InputError(f"{path}: {left[0]} (and {len(left) - 1} more) has no place in the backbone")
    model.backbone.load_state_dict(given, strict=False)
