"""Detectron2's own rules where they differ from the common ones, for a protocol with ``rules: detectron2``.

What the protocol has a value for (image sizes, batch norm, iterations) is not here: a protocol says it.
"""

from detectron2.config import LazyCall
from detectron2.modeling.box_regression import Box2BoxTransform
from omegaconf import DictConfig

CASCADE_TRAIN_POST_NMS = 2000


def keep_own_rules(config: DictConfig) -> None:
    """Change a detector's configuration tree, variant included, back to Detectron2's own rules.

    Weights start as Detectron2 draws them, too; that is no part of the tree (:func:`.config.build_detector`).
    """
    heads = config.roi_heads
    for sampler in (config.proposal_generator, heads, heads.get("regression_sampler", {})):
        sampler["shared_sampling"] = False
    # Boxes may shrink to nothing: the transform clamps from above alone.
    config.proposal_generator.box2box_transform = LazyCall(Box2BoxTransform)(weights=[1.0] * 4)
    for predictor in heads.box_predictors:
        # 10, 20 and 30 as they stand in Detectron2's files, in place of reciprocals of the deviations.
        weights = [round(weight, 6) for weight in predictor.box2box_transform.weights]
        predictor.box2box_transform = LazyCall(Box2BoxTransform)(weights=weights)
    if any(share != 1 for share in heads.trunk_gradient):
        # A cascade: every stage has the same share of the trunk's gradient.
        heads.trunk_gradient = [1 / len(heads.trunk_gradient)] * len(heads.trunk_gradient)
        # Base-RCNN-FPN.yaml keeps 1000, which protocols have; the cascade's file raises it.
        config.proposal_generator.post_nms_topk[0] = CASCADE_TRAIN_POST_NMS
