"""Backbones by name: architecture, the weights they may start from and the pixel statistics that belong to them.

``config/backbones/<name>.yaml`` (:class:`BackboneFile`) says the architecture and names the card of its weights,
``config/weights/<name>.yaml`` (:class:`WeightsCard`). A run holds both as one :class:`Backbone`.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from annotated_types import Ge
from pydantic import model_validator

from cascadebench.core.configuration import CONFIG, Configuration, expand_environment, named_file, read_named
from cascadebench.core.errors import InputError
from cascadebench.core.files import sha256_of

Three = tuple[float, float, float]
ChannelOrder = Literal["rgb", "bgr"]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Residual blocks per stage, by depth; from 50 layers on they are bottlenecks."""
NORM_GROUPS = 32
"""Groups of channels of a group norm."""


class Weights(Configuration):
    """A file of ImageNet weights, never downloaded: the user says where it is."""

    path: str
    """File, absolute or relative to the project; ``${NAME}`` stands for an environment variable."""
    sha256: Annotated[str, "hex digits"]
    """SHA-256 of the file, or its first 8 or more hex digits (torchvision prints 8 into its file names)."""
    format: Literal["torchvision", "caffe"]
    """`torchvision`: a state dict as torchvision's models save it. `caffe`: weights that were trained in Caffe, as a
    state dict with such names or, in a file that ends in ``.pkl``, as Detectron's pickle of numpy arrays."""

    @model_validator(mode="after")
    def _hex(self) -> Self:
        if not 8 <= len(self.sha256) <= 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError("sha256 must be 8 to 64 lower-case hex digits")
        return self

    def find(self) -> Path:
        """Return the file after checking its checksum; raises InputError if it is missing or another file."""
        expanded = expand_environment(self.path)
        if expanded is None:
            raise InputError(f"backbone weights: set the environment variable in {self.path!r} to the file's path")
        path = Path(expanded)
        if not path.is_file():
            raise InputError(f"backbone weights: no file {path}")
        digest = sha256_of(path)
        if not digest.startswith(self.sha256):
            raise InputError(f"backbone weights: {path} has SHA-256 {digest}, expected {self.sha256}")
        return path


class WeightsCard(Weights):
    """``config/weights/<name>.yaml``: a file of weights, and the input and stride that it was trained with."""

    name: str
    description: str
    """What the weights are."""
    source: str
    """Who publishes the file, under which name."""
    channel_order: ChannelOrder
    """Order of the colour channels."""
    pixel_mean: Three
    """Subtracted from 0..255 pixel values, in `channel_order`."""
    pixel_std: Three
    """Divides the pixel values after the mean, in `channel_order`."""
    stride_in_1x1: bool
    """Where a bottleneck block strides: its first 1x1 convolution (caffe) or its 3x3 (torchvision)."""


class Architecture(Configuration):
    """A residual network: ResNet, or ResNeXt where 3x3 convolutions have groups."""

    name: str
    depth: Literal[18, 34, 50, 101, 152]
    """Layers: basic blocks below 50, bottleneck blocks from 50 on."""
    base_channels: Annotated[int, Ge(4)] = 64
    """Channels of the stem and of the first residual stage (before expansion); later stages double."""
    groups: Annotated[int, Ge(1)] = 1
    """Groups of a bottleneck's 3x3 convolution; more than 1: ResNeXt."""
    width_per_group: Annotated[int, Ge(1)] | None = None
    """Channels of one of the groups in the first residual stage; later stages double. null: no groups."""
    norm: Literal["batch", "group"] = "batch"
    """`group`: group norm in 32 groups, in the residual network and in the feature pyramid; it always learns, whatever
    the protocol says about batch norm, except in frozen stages."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.groups > 1) != (self.width_per_group is not None):
            raise ValueError("groups and width_per_group: a ResNeXt has both, with more than 1 group; others neither")
        if self.groups > 1 and self.depth < 50:
            raise ValueError(f"groups: depth {self.depth} has basic blocks; groups need a depth of 50 or more")
        if self.norm == "group" and (self.base_channels % NORM_GROUPS or self.inner_channels[0] % NORM_GROUPS):
            raise ValueError(f"norm: group norm needs channels in multiples of {NORM_GROUPS}")
        return self

    @property
    def blocks(self) -> list[int]:
        """Blocks per residual stage."""
        return list(BLOCKS[self.depth])

    @property
    def inner_channels(self) -> list[int]:
        """Channels of the last 3x3 convolution of a block, per residual stage."""
        first = self.base_channels if self.width_per_group is None else self.groups * self.width_per_group
        return [first * 2**stage for stage in range(4)]

    @property
    def channels(self) -> list[int]:
        """Output channels per residual stage; bottleneck blocks have four times the base."""
        expansion = 1 if self.depth < 50 else 4
        return [self.base_channels * expansion * 2**stage for stage in range(4)]


class BackboneFile(Architecture):
    """``config/backbones/<name>.yaml``: pixel statistics and stride stand here only where weights are random."""

    weights: str | None = None
    """Name of a card under ``config/weights/``; null: random initial weights."""
    channel_order: ChannelOrder | None = None
    """Order of the colour channels; null: the weights' card says it."""
    pixel_mean: Three | None = None
    """Subtracted from 0..255 pixel values, in `channel_order`; null: the weights' card says it."""
    pixel_std: Three | None = None
    """Divides the pixel values after the mean, in `channel_order`; null: the weights' card says it."""
    stride_in_1x1: bool | None = None
    """Where a bottleneck block strides: its first 1x1 convolution, or (false, or null with random weights) its 3x3;
    null: the weights' card says it."""


class Backbone(Architecture):
    """A residual network with everything that its weights bring along, as a run holds it."""

    stride_in_1x1: bool = False
    """Where a bottleneck block strides: its first 1x1 convolution (caffe) or its 3x3 (torchvision)."""
    channel_order: ChannelOrder
    pixel_mean: Three
    """Subtracted from 0..255 pixel values, in `channel_order`."""
    pixel_std: Three
    """Divides the pixel values after the mean, in `channel_order`."""
    weights: Weights | None = None
    """None: random initial weights."""


def load_backbone(name: str, asked_by: str = "backbones") -> Backbone:
    """Read ``config/backbones/<name>.yaml`` and the card of its weights.

    Raises
    ------
    InputError
        If a file is missing or wrong, or if pixel statistics stand in both files or in neither.
    """
    path = named_file(CONFIG / "backbones", name, asked_by)
    file = read_named(BackboneFile, CONFIG / "backbones", name, asked_by)
    architecture = {key: getattr(file, key) for key in Architecture.model_fields}
    of_weights = [key for key in Backbone.model_fields if key not in (*architecture, "weights")]
    said = {key: getattr(file, key) for key in of_weights if getattr(file, key) is not None}
    if file.weights is None:
        missing = [key for key in of_weights if key not in said and key != "stride_in_1x1"]
        if missing:
            raise InputError(f"{path}: {missing[0]}: missing; a backbone with random weights says it itself")
        return Backbone(**architecture, **said)
    if said:
        raise InputError(f"{path}: {next(iter(said))}: the card of the weights {file.weights!r} says it; leave it out")
    card = read_named(WeightsCard, CONFIG / "weights", file.weights, f"{path}: weights")
    weights = Weights(path=card.path, sha256=card.sha256, format=card.format)
    return Backbone(**architecture, **{key: getattr(card, key) for key in of_weights}, weights=weights)


def check_pyramid(backbone: Backbone, channels: int, asked_by: str) -> None:
    """Raise InputError if a feature pyramid of so many channels cannot have the backbone's norm."""
    if backbone.norm == "group" and channels % NORM_GROUPS:
        needed = f"backbone {backbone.name} has group norm, which needs a multiple of {NORM_GROUPS}"
        raise InputError(f"{asked_by}: neck.channels: {channels}; {needed}")
