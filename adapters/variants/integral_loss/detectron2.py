"""Integral loss: classifiers at several IoU thresholds over the layers of one head, and one regressor."""

from typing import Any

from detectron2.structures import Instances
from omegaconf import DictConfig
from torch import Tensor, nn

from adapters.detectron2.config import box_head_config, set_stages
from adapters.detectron2.stages import ControlledRoIHeads
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


class IntegralLossRoIHeads(ControlledRoIHeads):
    """One head with several classifiers, which all learn from the RoIs that are sampled at the first threshold."""

    def __init__(self, *, box_predictors: list[nn.Module], proposal_matchers: list, **arguments: Any) -> None:
        super().__init__(box_predictors=box_predictors[:1], proposal_matchers=proposal_matchers[:1], **arguments)
        self.box_predictor, self.proposal_matchers = nn.ModuleList(box_predictors), proposal_matchers

    def tell(self, stage: int, proposals: list[Instances], targets: list[Instances]) -> None:
        """Tell what enters the one regressor; the further classifiers are given the RoIs that were sampled for it."""
        if stage == 0:
            super().tell(stage, proposals, targets)

    def stage_forward(self, stage: int, pooled: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run the one head's layers; the first of its classifiers has the regressor beside it."""
        return self.box_predictor[stage](self.box_head[0](pooled))

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances], targets: list[Instances]
    ) -> dict[str, Tensor]:
        """Losses of all classifiers; testing goes through :meth:`run_stages`."""
        levels = [features[name] for name in self.box_in_features]
        read = self.box_head[0](self.pooled(0, levels, [one.proposal_boxes for one in proposals]))
        losses: dict[str, Tensor] = {}
        for stage, predictor in enumerate(self.box_predictor):
            if stage > 0:
                same = [Instances(one.image_size, proposal_boxes=one.proposal_boxes) for one in proposals]
                proposals = self._match_and_label_boxes(same, stage, targets)
            terms = predictor.losses(predictor(read), proposals)
            losses |= {f"{name}_stage{stage}": term for name, term in terms.items()}
        return losses

    def stage_outputs(self, stage: int, pooled: Tensor) -> tuple[list[Tensor], Tensor]:
        """Logits of all classifiers, and deltas; the layers run once."""
        read = self.box_head[0](pooled)
        return [predictor.cls_score(read) for predictor in self.box_predictor], self.box_predictor[0].bbox_pred(read)


def configure(config: DictConfig, run: Run) -> None:
    """Add the classifiers; only the first stage keeps layers."""
    settings = stage_settings(run)
    set_stages(config, run, settings, [box_head_config(run, settings[0])])
    config.roi_heads["_target_"] = IntegralLossRoIHeads
