"""Backbone and pyramid alone, in each framework, with the names that they have in a whole detector."""

from importlib import import_module
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from trainings import changed, run_of

from adapters.weights.backbone_weights import fill_backbone
from adapters.weights.initial_weights import fill_with_common_weights
from cascadebench.detectors.backbone import Backbone
from cascadebench.study.run import Run

INPUT = {"channel_order": "rgb", "pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (1.0, 1.0, 1.0)}
FRAMEWORKS = ("mmdet", "detectron2")


class Part(nn.Module):
    """Backbone and pyramid of a run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.common_name = import_module(f"adapters.{run.framework}.weights").common_name

    def load(self) -> None:
        """Fill the backbone from the file of its weights."""
        fill_backbone(self, self.common_name, self.run)

    def controls(self) -> dict:
        """Read back the values of the backbone's and the neck's controls."""
        rows = import_module(f"adapters.{self.run.framework}.controls.backbone").rows
        return {name: value for name, value, _ in rows(SimpleNamespace(model=self, run=self.run))}


class MMDetectionPart(Part):
    """MMDetection's backbone and neck."""

    def __init__(self, run: Run) -> None:
        from mmdet.registry import MODELS
        from mmengine.config import ConfigDict
        from mmengine.registry import init_default_scope

        from adapters.mmdet.config import base_config

        super().__init__(run)
        init_default_scope("mmdet")
        config = ConfigDict(base_config(run))
        self.backbone, self.neck = MODELS.build(config.backbone), MODELS.build(config.neck)

    def stages(self, image: Tensor) -> list[Tensor]:
        """Outputs of the residual stages."""
        return list(self.backbone(image))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Levels of the pyramid."""
        return list(self.neck(self.backbone(image)))


class Detectron2Part(Part):
    """Detectron2's pyramid, which owns its backbone."""

    def __init__(self, run: Run) -> None:
        from detectron2.config import instantiate

        from adapters.detectron2.config import pyramid_config

        super().__init__(run)
        self.backbone = instantiate(pyramid_config(run))

    def stages(self, image: Tensor) -> list[Tensor]:
        """Outputs of the residual stages."""
        return list(self.backbone.bottom_up(image).values())

    def forward(self, image: Tensor) -> list[Tensor]:
        """Levels of the pyramid."""
        return list(self.backbone(image).values())


PARTS = {"mmdet": MMDetectionPart, "detectron2": Detectron2Part}


def make_run(framework: str, backbone: Backbone, **training) -> Run:
    """Make a run of the embedded study with this backbone; `training` says what of it learns."""
    run = changed(run_of(framework, "faster_rcnn"), backbone=training)
    return run.model_copy(update={"backbone": backbone})


def small(**architecture) -> Backbone:
    """Make a small residual network with random weights."""
    return Backbone(**({"name": "small", "depth": 50, "base_channels": 16} | INPUT | architecture))


def build(framework: str, backbone: Backbone, **training) -> Part:
    """Build backbone and neck with the common weights."""
    run = make_run(framework, backbone, **training)
    part = PARTS[framework](run)
    fill_with_common_weights(part, part.common_name, run)
    return part.eval()


def image(side: int = 64) -> Tensor:
    """Make a fixed picture of noise."""
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
