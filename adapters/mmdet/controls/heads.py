"""Controls of the heads: their stages, losses and samples."""

from collections.abc import Iterator

import torch
from mmdet.models.losses import CrossEntropyLoss
from torch import Tensor, nn

from adapters.mmdet.built import Built
from adapters.mmdet.controls.rows import Row, delta_clamp, one_value, regression_loss
from adapters.mmdet.stages import stage_modules
from adapters.probe_inputs import probe_features


def head_rows(built: Built) -> Iterator[Row]:
    """Thresholds, targets, losses and samples of every stage."""
    roi_head = built.model.roi_head
    heads = [head for _, head in stage_modules(roi_head)]
    yield "heads.stages", len(heads), "len(roi_head.bbox_head)"
    is_cascade = isinstance(roi_head.bbox_head, nn.ModuleList)
    assigners = roi_head.bbox_assigner if is_cascade else [roi_head.bbox_assigner]
    yield "heads.iou_threshold", [one.pos_iou_thr for one in assigners], "roi_head.bbox_assigner[t].pos_iou_thr"
    for kind in ("means", "stds"):
        values = [[round(float(one), 10) for one in getattr(head.bbox_coder, kind)] for head in heads]
        yield f"heads.target_{kind}", values, f"roi_head.bbox_head[t].bbox_coder.{kind}"
    clamps = [delta_clamp(head.bbox_coder) for head in heads]
    yield "heads.delta_clamp", clamps, "probe: roi_head.bbox_head[t].bbox_coder.decode()"
    agnostic = one_value("class_agnostic" if head.reg_class_agnostic else "class_specific" for head in heads)
    yield "heads.regression", agnostic, "roi_head.bbox_head[t].reg_class_agnostic"
    yield from _loss_rows(built, heads)
    widths = one_value(layer.out_features for head in heads for layer in head.shared_fcs)
    yield "heads.width", widths, "roi_head.bbox_head[t].shared_fcs[k].out_features"
    layers = one_value(len(head.shared_fcs) for head in heads)
    yield "heads.fully_connected_layers", layers, "len(roi_head.bbox_head[t].shared_fcs)"
    sampler = roi_head.bbox_sampler[0] if is_cascade else roi_head.bbox_sampler
    yield "heads.rois_per_image", sampler.num, "roi_head.bbox_sampler[0].num"
    yield "heads.positive_fraction", sampler.pos_fraction, "roi_head.bbox_sampler[0].pos_fraction"
    yield "heads.add_ground_truth", sampler.add_gt_as_proposals, "roi_head.bbox_sampler[0].add_gt_as_proposals"


def _loss_rows(built: Built, heads: list[nn.Module]) -> Iterator[Row]:
    names = one_value(classification_loss(head.loss_cls) for head in heads)
    yield "heads.classification_loss", names, "type(roi_head.bbox_head[t].loss_cls)"
    losses = one_value(regression_loss(head.loss_bbox) for head in heads)
    yield "heads.regression_loss", losses, "type(roi_head.bbox_head[t].loss_bbox)"
    weights = getattr(built.model.roi_head, "stage_loss_weights", [1.0])
    terms = [
        one_value(float(weight * loss.loss_weight) for loss in (head.loss_cls, head.loss_bbox))
        for weight, head in zip(weights, heads, strict=True)
    ]
    yield "heads.loss_weight", terms, "roi_head.stage_loss_weights[t] * bbox_head[t].loss_*.loss_weight"
    divisors = one_value(loss_normalizer(head) for head in heads)
    yield "heads.loss_normalizer", divisors, "probe: roi_head.bbox_head[t].loss() over the sums of its losses"
    where = "probe: gradient at the pyramid over that without scaling"
    yield "heads.trunk_gradient", trunk_gradients(built), where


def classification_loss(module: nn.Module) -> str:
    """Name of a classification loss over all classes and background."""
    is_plain = not (module.use_sigmoid or module.class_weight)
    return "cross_entropy" if type(module) is CrossEntropyLoss and is_plain else type(module).__name__


def loss_normalizer(head: nn.Module) -> str:
    """Probe what divides both losses of a stage, with two positives among eight RoIs."""
    rois, positives = 8, 2
    scores, deltas = torch.zeros(rois, head.num_classes + 1), torch.zeros(rois, head.fc_reg.out_features)
    labels = torch.full((rois,), head.num_classes)
    labels[:positives] = 0
    targets, target_weights = torch.zeros(rois, 4), torch.zeros(rois, 4)
    targets[:positives], target_weights[:positives] = 1.0, 1.0
    weights = torch.ones(rois)
    losses = head.loss(scores, deltas, torch.zeros(rois, 5), labels, weights, targets, target_weights)
    sums = {
        "loss_cls": head.loss_cls(scores, labels, weights, reduction_override="sum"),
        "loss_bbox": head.loss_bbox(torch.zeros(rois, 4), targets, target_weights, reduction_override="sum"),
    }
    divisors = {round(float(total / losses[name]), 3) for name, total in sums.items()}
    return "RoIs" if divisors == {float(rois)} else "other"


def trunk_gradients(built: Built) -> list[float]:
    """Probe the share of each stage's gradient that reaches the trunk.

    Backpropagates through a stage as it trains, and through its extractor and head alone; the ratio of the gradients at
    the feature map is the share.
    """
    roi_head = built.model.roi_head
    maps = [features[:1] for features in probe_features(built.model.neck.out_channels)]
    rois = torch.tensor([[0.0, 8.0, 8.0, 100.0, 90.0], [0.0, 20.0, 30.0, 60.0, 50.0]])
    shares = []
    for stage, (extractor, head) in enumerate(stage_modules(roi_head)):
        plain, trained = ([one.clone().requires_grad_() for one in maps] for _ in range(2))
        alone = head(extractor(plain[: extractor.num_inputs], rois))[0]
        arguments = (stage, trained, rois) if isinstance(roi_head.bbox_head, nn.ModuleList) else (trained, rois)
        in_training = roi_head._bbox_forward(*arguments)["cls_score"]
        pairs = ((in_training, trained), (alone, plain))
        norms = [_gradient(scores, given[0]).double().norm() for scores, given in pairs]
        shares.append(round(float(norms[0] / norms[1]), 7))
    return shares


def _gradient(scores: Tensor, features: Tensor) -> Tensor:
    """Gradient of the squared scores at a feature map."""
    return torch.autograd.grad(scores.square().sum(), features)[0]
