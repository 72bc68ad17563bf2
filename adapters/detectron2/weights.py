"""Names of weights: Detectron2's against the library's common ones and against torchvision's."""

import re

import torch
from torch import nn

from cascadebench.errors import InputError
from cascadebench.run import Run

# Detectron2's name as a pattern, and the common one; None for what holds no weights.
COMMON_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"(?:.*\.)?num_batches_tracked", None),
    (r"pixel_mean|pixel_std|proposal_generator\.anchor_generator\.cell_anchors\.\d+", None),
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(\w+)", r"backbone.stem.norm.\1"),
    (r"backbone\.bottom_up\.stem\.conv1\.(\w+)", r"backbone.stem.conv.\1"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm\.(\w+)", r"backbone.stage{stage}.\2.norm\3.\4"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.(\w+)", r"backbone.stage{stage}.\2.conv\3.\4"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.norm\.(\w+)", r"backbone.stage{stage}.\2.shortcut.norm.\3"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.(\w+)", r"backbone.stage{stage}.\2.shortcut.conv.\3"),
    (r"backbone\.fpn_(lateral|output)(\d)\.(\w+)", r"neck.\1\2.\3"),
    (r"proposal_generator\.rpn_head\.conv\.(\w+)", r"rpn.conv.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"rpn.objectness.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.(\d+)\.(fc\d)\.(\w+)", r"heads.{head}.\2.\3"),
    (r"roi_heads\.box_predictor\.(\d+)\.cls_score\.(\w+)", r"heads.{head}.classifier.\2"),
    (r"roi_heads\.box_predictor\.(\d+)\.bbox_pred\.(\w+)", r"heads.{head}.regressor.\2"),
)


def common_name(name: str) -> str | None:
    """Translate a name of the model's state dict into the common one; None if it holds no weights.

    Raises
    ------
    ValueError
        If the table has no such name.
    """
    for pattern, common in COMMON_NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            if common is None:
                return None
            # Residual stages count from res2, heads from 0; the common names count both from 1.
            number = int(match[1]) if match[1].isdigit() else 0
            return match.expand(common).format(stage=number - 1, head=number + 1)
    raise ValueError(f"no common name for the weight {name!r}")


def detectron2_name(name: str) -> str:
    """Translate torchvision's name of a tensor: ``layer1.0.bn2.weight`` becomes ``res2.0.conv2.norm.weight``."""
    head, *rest = name.split(".")
    if head in ("conv1", "bn1"):
        return ".".join(["stem", *_convolution(head), *rest])
    if not head.startswith("layer"):
        return name
    block, part, *rest = rest
    if part == "downsample":
        position, *rest = rest
        inside = ["shortcut"] if position == "0" else ["shortcut", "norm"]
    else:
        inside = _convolution(part)
    return ".".join([f"res{int(head.removeprefix('layer')) + 1}", block, *inside, *rest])


def _convolution(part: str) -> list[str]:
    """In Detectron2 a convolution owns its norm: ``bn2`` is ``conv2.norm``."""
    return [part.replace("bn", "conv"), "norm"] if part.startswith("bn") else [part]


def load_backbone_weights(model: nn.Module, run: Run) -> None:
    """Fill the backbone from torchvision's state dict.

    Raises
    ------
    InputError
        If the file is missing or another one, a tensor of the backbone has no counterpart of its shape, or a tensor of
        the file other than the classifier's has no place.
    """
    path = run.backbone.weights.find()
    backbone = model.backbone.bottom_up
    given = torch.load(path, map_location="cpu", weights_only=True)
    translated = {detectron2_name(name): tensor for name, tensor in given.items()}
    # Counters of batches take no part where statistics have a momentum: files from before torch 0.4.1 lack them, and so
    # do Detectron2's frozen norms.
    shapes = {name: tensor.shape for name, tensor in translated.items() if not name.endswith("num_batches_tracked")}
    wanted = {
        name: tensor.shape for name, tensor in backbone.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    missing = [name for name, shape in wanted.items() if shapes.get(name) != shape]
    if missing:
        raise InputError(f"{path}: no tensor of the right shape for {missing[0]} (and {len(missing) - 1} more)")
    left = sorted(set(shapes) - set(wanted) - {"fc.weight", "fc.bias"})
    if left:
        raise InputError(f"{path}: {left[0]} (and {len(left) - 1} more) has no place in the backbone")
    backbone.load_state_dict(translated, strict=False)
