"""ImageNet weights for Detectron2's residual networks."""

import torch
from torch import nn

from cascadebench.errors import InputError
from cascadebench.run import Run


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
