"""The residual convolutions of a double head; the same module in every framework.

Source: Wu et al., Rethinking Classification and Localization for Object Detection, CVPR 2020, Fig. 4; with four
bottlenecks as in Decoupled R-CNN, Table XI.
"""

from torch import Tensor, nn

BOTTLENECKS = 4


class Widening(nn.Module):
    """A residual block that widens a pooled RoI from the pyramid's channels to a head's width."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.ModuleDict(
            {"conv": nn.Conv2d(channels, width, 1, bias=False), "norm": nn.BatchNorm2d(width)}
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """From [R, channels, H, W] to [R, width, H, W]."""
        inner = self.norm2(self.conv2(self.norm1(self.conv1(pooled)).relu()))
        return (inner + self.shortcut["norm"](self.shortcut["conv"](pooled))).relu()


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; a quarter of the width inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inside = width // 4
        self.conv1 = nn.Conv2d(width, inside, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(inside)
        self.conv3 = nn.Conv2d(inside, width, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)

    def forward(self, pooled: Tensor) -> Tensor:
        """From [R, width, H, W] to the same shape."""
        inner = self.norm1(self.conv1(pooled)).relu()
        inner = self.norm2(self.conv2(inner)).relu()
        return (pooled + self.norm3(self.conv3(inner))).relu()


class ConvolutionBranch(nn.Module):
    """From a pooled RoI to a feature: one block that widens, four bottlenecks, the mean over the RoI.

    Parameters
    ----------
    channels : int
        Of the pooled RoI.
    width : int
        Length of the feature.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        blocks = [Widening(channels, width), *(Bottleneck(width) for _ in range(BOTTLENECKS))]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, pooled: Tensor) -> Tensor:
        """From [R, channels, H, W] to [R, width]."""
        for block in self.blocks:
            pooled = block(pooled)
        return pooled.mean(dim=(2, 3))
