"""Files of backbone weights: read into one dictionary of torchvision's names, then put into a framework's model."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapters.weights.caffe_pickle import read_caffe_pickle
from cascadebench.core.errors import InputError
from cascadebench.study.run import Run

PARTS = {"conv": "conv", "norm": "bn", "shortcut.conv": "downsample.0", "shortcut.norm": "downsample.1"}
"""Parts of a residual block: the library's common names and torchvision's."""


@torch.no_grad()
def fill_backbone(model: nn.Module, common_name: Callable[[str], str | None], run: Run) -> None:
    """Fill a model's backbone from the file that the run names.

    Parameters
    ----------
    common_name : callable
        From a name of the model's state dict to the common one (:mod:`cascadebench.determinism.initial_weights`).

    Raises
    ------
    InputError
        If the file is missing or another one, a tensor of the backbone has no counterpart of its shape, or a tensor of
        the file other than the classifier's has no place.
    """
    weights = run.backbone.weights
    path = weights.find()
    given = read_backbone_weights(path, weights.format)
    wanted = {
        torchvision_name(common): tensor
        for name, tensor in model.state_dict().items()
        if (common := common_name(name)) and common.startswith("backbone.")
    }
    missing = [name for name in wanted if name not in given]
    if missing:
        raise InputError(f"{path}: {missing[0]}: missing (and {len(missing) - 1} more)")
    left = sorted(set(given) - set(wanted))
    if left:
        raise InputError(f"{path}: {left[0]}: no place in the backbone {run.backbone.name} (and {len(left) - 1} more)")
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            shapes = f"{list(given[name].shape)}, the backbone {run.backbone.name} has {list(tensor.shape)}"
            raise InputError(f"{path}: {name}: not the right shape: {shapes}")
    for name, tensor in wanted.items():
        tensor.copy_(given[name])


def read_backbone_weights(path: Path, format: str) -> dict[str, Tensor]:
    """Read a file of weights.

    Parameters
    ----------
    path : Path
        A state dict, or for the format ``caffe`` a pickle of numpy arrays where the name ends in ``.pkl``.
    format : str
        ``torchvision`` or ``caffe`` (:class:`cascadebench.detectors.backbone.Weights`).

    Returns
    -------
    dict of str to Tensor, float32
        By torchvision's names, norms called ``bn`` whatever they are; without the classifier and the counters of
        batches, which take no part where statistics have a momentum and which older files lack.

    Raises
    ------
    InputError
        If the file cannot be read without running code, or holds something other than tensors.
    """
    if format == "caffe" and path.suffix == ".pkl":
        return {name: torch.from_numpy(array).float() for name, array in read_caffe_pickle(path).items()}
    left_out = r"fc\.(weight|bias)|.*\.num_batches_tracked"
    if format == "caffe":
        # Of the first ResNet-50's stem, which has a norm behind it: both frameworks leave it out.
        left_out += r"|conv1\.bias"
    given: dict[str, Tensor] = {}
    for name, value in _state_dict(path).items():
        if not isinstance(value, Tensor):
            raise InputError(f"{path}: {name}: a {type(value).__name__}; a tensor is expected")
        translated = re.sub(r"\bgn(?=\d\.)", "bn", str(name))
        if not re.fullmatch(left_out, translated):
            given[translated] = value.float()
    return given


def _state_dict(path: Path) -> dict[str, Any]:
    """Load a state dict, bare or under the key ``state_dict``."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"{path}: not read: no file of PyTorch, or it holds more than tensors") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; a state dict is expected")
    return content


def torchvision_name(common: str) -> str:
    """Translate the common name of a backbone's tensor: ``backbone.stage2.0.norm1.bias`` is ``layer2.0.bn1.bias``.

    Raises
    ------
    ValueError
        If it is no such name.
    """
    if found := re.fullmatch(r"backbone\.stem\.(conv|norm)\.(\w+)", common):
        return f"{PARTS[found[1]]}1.{found[2]}"
    if found := re.fullmatch(r"backbone\.stage(\d)\.(\d+)\.((?:shortcut\.)?(?:conv|norm))(\d?)\.(\w+)", common):
        stage, block, part, number, tensor = found.groups()
        return f"layer{stage}.{block}.{PARTS[part]}{number}.{tensor}"
    raise ValueError(f"no tensor of a backbone: {common!r}")
