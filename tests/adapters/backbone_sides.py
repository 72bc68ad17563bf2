"""Backbone and pyramid alone, in each framework, with the names that they have in a whole detector."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from adapters.weights.backbone_weights import fill_backbone
from adapters.weights.initial_weights import fill_with_common_weights
from cascadebench.detectors.backbone import Backbone
from cascadebench.study.run import Run
from cascadebench.study_loading import load_study

INPUT = {"channel_order": "rgb", "pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (1.0, 1.0, 1.0)}
FRAMEWORKS = ("mmdet", "detectron2")


class MMDetectionPart(nn.Module):
    """MMDetection's backbone and neck."""

    def __init__(self, run: Run) -> None:
        from mmdet.registry import MODELS
        from mmengine.config import ConfigDict
        from mmengine.registry import init_default_scope

        from adapters.mmdet.config import base_config
        from adapters.mmdet.weights import common_name

        super().__init__()
        init_default_scope("mmdet")
        config = ConfigDict(base_config(run))
        self.backbone, self.neck = MODELS.build(config.backbone), MODELS.build(config.neck)
        self.run, self.common_name = run, common_name
        self.load = lambda: fill_backbone(self, common_name, run)

    def stages(self, image: Tensor) -> list[Tensor]:
        """Outputs of the residual stages."""
        return list(self.backbone(image))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Levels of the pyramid."""
        return list(self.neck(self.backbone(image)))

    def controls(self) -> dict:
        """Read back the values of the backbone's and the neck's controls."""
        from adapters.mmdet.controls.backbone import rows

        return {name: value for name, value, _ in rows(SimpleNamespace(model=self, run=self.run))}


class Detectron2Part(nn.Module):
    """Detectron2's pyramid, which owns its backbone."""

    def __init__(self, run: Run) -> None:
        from detectron2.config import instantiate

        from adapters.detectron2.config import pyramid_config
        from adapters.detectron2.weights import common_name

        super().__init__()
        self.backbone = instantiate(pyramid_config(run))
        self.run, self.common_name = run, common_name
        self.load = lambda: fill_backbone(self, common_name, run)

    def stages(self, image: Tensor) -> list[Tensor]:
        """Outputs of the residual stages."""
        return list(self.backbone.bottom_up(image).values())

    def forward(self, image: Tensor) -> list[Tensor]:
        """Levels of the pyramid."""
        return list(self.backbone(image).values())

    def controls(self) -> dict:
        """Read back the values of the backbone's and the neck's controls."""
        from adapters.detectron2.controls.backbone import rows

        return {name: value for name, value, _ in rows(SimpleNamespace(model=self, run=self.run))}


PARTS = {"mmdet": MMDetectionPart, "detectron2": Detectron2Part}


def make_run(framework: str, backbone: Backbone, **training) -> Run:
    """Make a run of the embedded study with this backbone; `training` says what of it learns."""
    run = next(one.run for one in load_study("tiny").runs if one.run.framework == framework)
    learning = run.protocol.backbone.model_copy(update=training)
    protocol = run.protocol.model_copy(update={"backbone": learning})
    return run.model_copy(update={"backbone": backbone, "protocol": protocol})


def small(**architecture) -> Backbone:
    """Make a small residual network with random weights."""
    return Backbone(**({"name": "small", "depth": 50, "base_channels": 16} | INPUT | architecture))


def build(framework: str, backbone: Backbone, **training) -> MMDetectionPart | Detectron2Part:
    """Build backbone and neck with the common weights."""
    torch.set_num_threads(1)
    run = make_run(framework, backbone, **training)
    part = PARTS[framework](run)
    fill_with_common_weights(part, part.common_name, run)
    return part.eval()


def image(side: int = 64) -> Tensor:
    """Make a fixed picture of noise."""
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
