"""ImageNet weights for MMDetection's residual networks."""

import torch
from torch import nn

from cascadebench.errors import InputError
from cascadebench.run import Run


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
