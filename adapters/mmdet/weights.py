"""Weights of MMDetection's detectors: their common names, and ImageNet weights for the residual networks."""

import re
from collections.abc import Callable

from adapters.weights.weight_names import with_own_names
from cascadebench.study.run import Run

TENSORS = ("weight", "bias", "running_mean", "running_var")
MODULES = {
    "backbone.conv1": "backbone.stem.conv",
    "backbone.bn1": "backbone.stem.norm",
    "backbone.gn1": "backbone.stem.norm",
    "rpn_head.rpn_conv": "rpn.conv",
    "rpn_head.rpn_cls": "rpn.objectness",
    "rpn_head.rpn_reg": "rpn.deltas",
}
"""Common names of the modules that every detector has once."""
IN_BLOCK = {
    "conv": "conv", "bn": "norm", "gn": "norm", "downsample.0": "shortcut.conv", "downsample.1": "shortcut.norm",
}  # fmt: skip
IN_NECK = {"lateral_convs": "lateral", "fpn_convs": "output"}
IN_HEAD = {
    r"shared_fcs\.0": "fc1",
    r"shared_fcs\.1": "fc2",
    r"cls_fcs\.0": "classification.fc1",
    r"cls_fcs\.1": "classification.fc2",
    r"reg_fcs\.0": "regression.fc1",
    r"reg_fcs\.1": "regression.fc2",
    r"regression_convolutions\.blocks\.(.*)": r"regression.block\1",
    "fc_cls": "classifier",
    "fc_reg": "regressor",
}
IN_MASK_BRANCH = {"upsample": "deconv", "conv_logits": "predictor"}
IN_SHARING = {"embeddings": "embedding", "reductions": "reduction"}


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
    if found := re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(conv|bn|gn)(\d)", module):
        stage, block, kind, number = found.groups()
        return f"backbone.stage{stage}.{block}.{IN_BLOCK[kind]}{number}"
    if found := re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(downsample\.[01])", module):
        stage, block, kind = found.groups()
        return f"backbone.stage{stage}.{block}.{IN_BLOCK[kind]}"
    if found := re.fullmatch(r"neck\.(lateral_convs|fpn_convs)\.(\d)\.(conv|gn)", module):
        kind, level, part = found.groups()
        # MMDetection counts the pyramid's levels from 0.
        return f"neck.{IN_NECK[kind]}{int(level) + 2}{'.norm' if part == 'gn' else ''}"
    if found := re.fullmatch(r"roi_head\.sharing\.(embeddings|reductions)\.(\d)", module):
        kind, stage = found.groups()
        return f"heads.{stage}.{IN_SHARING[kind]}"
    if found := re.fullmatch(r"roi_head\.mask_head\.(\d)\.(?:convs\.(\d)\.conv|(upsample|conv_logits))", module):
        stage, convolution, other = found.groups()  # mask branches are counted from 1
        return f"heads.{stage}.mask.{IN_MASK_BRANCH[other] if other else f'conv{int(convolution) + 1}'}"
    if found := re.fullmatch(r"roi_head\.bbox_head\.(\d)\.(.*)", module):
        stage, inside = found.groups()
        return _in_head(int(stage) + 1, inside)  # MMDetection counts heads from 0
    return None


def _in_head(stage: int, module: str) -> str | None:
    """Translate the name of a module of a head."""
    for pattern, common in IN_HEAD.items():
        if found := re.fullmatch(pattern, module):
            return f"heads.{stage}.{found.expand(common)}"
    return None


def common_names(run: Run) -> Callable[[str], str | None]:
    """Return what translates a run's names: :func:`common_name`, and its variant for the layers that it adds."""
    return with_own_names(common_name, run)
