"""Backbones by name: architecture, the weights it may start from and the pixel statistics that belong to them."""

from pathlib import Path
from typing import Annotated, Literal, Self

from annotated_types import Ge
from pydantic import model_validator

from cascadebench.configuration import CONFIG, Configuration, expand_environment, read_named
from cascadebench.errors import InputError
from cascadebench.files import sha256_of

Three = tuple[float, float, float]


class Weights(Configuration):
    """A file of ImageNet weights, never downloaded: the user says where it is."""

    path: str
    """File, absolute or relative to the project; ``${NAME}`` stands for an environment variable."""
    sha256: Annotated[str, "hex digits"]
    """SHA-256 of the file, or its first 8 or more hex digits (torchvision prints 8 into its file names)."""
    format: Literal["torchvision"]
    """Naming of the tensors: a state dict as torchvision's models save it."""

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


class Backbone(Configuration):
    """A residual network."""

    name: str
    depth: Literal[18, 34, 50, 101]
    base_channels: Annotated[int, Ge(4)] = 64
    """Channels of the stem and of the first residual stage (before expansion); later stages double."""
    stride_in_1x1: bool = False
    """Where a bottleneck block strides: its first 1x1 convolution (caffe) or its 3x3 (torchvision)."""
    channel_order: Literal["rgb", "bgr"]
    pixel_mean: Three
    """Subtracted from 0..255 pixel values, in `channel_order`."""
    pixel_std: Three
    """Divides the pixel values after the mean, in `channel_order`."""
    weights: Weights | None = None
    """None: random initial weights."""


def load_backbone(name: str, asked_by: str = "backbones") -> Backbone:
    """Read ``config/backbones/<name>.yaml``."""
    return read_named(Backbone, CONFIG / "backbones", name, asked_by)
