"""Changes that no value describes, made behind the configuration's back in what a framework built.

Most are made in both frameworks by one function, through :class:`Parts`; the rest belongs to one of them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters.training.assembly import Built

Change = Callable[["Parts"], Any]


class Parts:
    """A framework's objects by the names of the field."""

    def __init__(self, framework: str, built: Built) -> None:
        self.framework, self.built, self.model = framework, built, built.model
        self.mmdet = framework == "mmdet"
        self.reader = built.dataset.reader

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.built.optimizer.optimizer if self.mmdet else self.built.optimizer

    @property
    def heads(self) -> nn.Module:
        return self.model.roi_head if self.mmdet else self.model.roi_heads

    @property
    def rpn(self) -> nn.Module:
        return self.model.rpn_head if self.mmdet else self.model.proposal_generator

    @property
    def rpn_layers(self) -> nn.Module:
        return self.rpn if self.mmdet else self.rpn.rpn_head

    @property
    def rpn_convolution(self) -> nn.Module:
        return self.rpn.rpn_conv if self.mmdet else self.rpn.rpn_head.conv

    @property
    def neck(self) -> nn.Module:
        return self.model.neck if self.mmdet else self.model.backbone

    @property
    def pyramid_outputs(self) -> list[nn.Module]:
        """The output convolutions, finest first."""
        return list(self.neck.fpn_convs) if self.mmdet else list(self.neck.output_convs)[::-1]

    @property
    def laterals(self) -> list[nn.Module]:
        return list(self.neck.lateral_convs) if self.mmdet else list(self.neck.lateral_convs)[::-1]

    @property
    def last_residual_stage(self) -> nn.Sequential:
        return self.model.backbone.layer4 if self.mmdet else self.model.backbone.bottom_up.res5

    @property
    def batch_norms(self) -> list[nn.BatchNorm2d]:
        return [one for one in self.model.modules() if isinstance(one, nn.BatchNorm2d)]

    def classifier(self, stage: int) -> nn.Linear:
        return self.heads.bbox_head[stage].fc_cls if self.mmdet else self.heads.box_predictor[stage].cls_score

    def regressor(self, stage: int) -> nn.Linear:
        return self.heads.bbox_head[stage].fc_reg if self.mmdet else self.heads.box_predictor[stage].bbox_pred

    def connected(self, stage: int) -> list[nn.Linear]:
        if self.mmdet:
            return list(self.heads.bbox_head[stage].shared_fcs)
        return [one for one in self.heads.box_head[stage].modules() if isinstance(one, nn.Linear)]

    def change_training_items(
        self, pixels=lambda pixels: pixels, boxes=lambda boxes, _size: boxes, labels=lambda labels: labels
    ) -> None:
        """Change what the reader gives in training: uint8 [3, H, W], boxes [N, 4], labels [N]."""

        def changed(item: dict) -> dict:
            key = "inputs" if self.mmdet else "image"
            item[key] = pixels(item[key])
            truth = item["data_samples"].gt_instances if self.mmdet else item["instances"]
            held = truth.bboxes if self.mmdet else truth.gt_boxes
            held.tensor = boxes(held.tensor, item[key].shape[1:])
            name = "labels" if self.mmdet else "gt_classes"
            setattr(truth, name, labels(getattr(truth, name)))
            return item

        wrap(self.reader, "training_image", changed)

    def change_test_items(self, pixels: Callable[[Tensor], Tensor]) -> None:
        """Change the picture that the reader gives for testing."""
        key = "inputs" if self.mmdet else "image"
        wrap(self.built.reader, "test_image", lambda item: item | {key: pixels(item[key])})

    def change_losses(self, change: Callable[[str, Tensor], Tensor]) -> None:
        """Change the loss terms of a step; a term may be a list of levels."""
        marks = {"s1.": "stage2", "s2.": "stage3", "_stage1": "stage2", "_stage2": "stage3"}

        def changed(losses: Any) -> Any:
            if not isinstance(losses, dict):
                return losses
            stages = {name: next((stage for mark, stage in marks.items() if mark in name), "first") for name in losses}
            return {name: [change(stages[name], one) for one in value] if isinstance(value, list)
                    else change(stages[name], value) for name, value in losses.items()}  # fmt: skip

        wrap(self.model, "forward", changed)


def wrap(owner: Any, method: str, after: Callable[[Any], Any]) -> None:
    """Let something happen to what a method returns; no hook of PyTorch's shows it."""
    plain = getattr(owner, method)
    setattr(owner, method, lambda *arguments, **named: after(plain(*arguments, **named)))


def before(owner: Any, method: str, change: Callable[[tuple], tuple]) -> None:
    """Let something happen to what a method is given."""
    plain = getattr(owner, method)
    setattr(owner, method, lambda *arguments, **named: plain(*change(arguments), **named))


# Optimizer and loop


def dampening(parts):
    for group in parts.optimizer.param_groups:
        group["dampening"] = 0.9


def gradients_are_never_zeroed(parts):
    parts.built.optimizer.zero_grad = lambda *_, **__: None


def a_loss_times_four(parts):
    if parts.mmdet:
        wrap(parts.built.optimizer, "scale_loss", lambda loss: 4 * loss)
    else:
        parts.change_losses(lambda _, loss: 4 * loss)


def gradients_cut_element_by_element(parts):
    for parameter in parts.model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))


def gradients_without_their_mean(parts):
    def centred(optimizer, *_):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad -= parameter.grad.mean()

    parts.optimizer.register_step_pre_hook(centred)


def decay_a_second_time_in_a_hook(parts):
    def decay(optimizer, *_):
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(1 - 1e-5)

    parts.optimizer.register_step_post_hook(decay)


def a_step_that_moves_more(parts):
    first = parts.optimizer.param_groups[0]["params"][0]
    wrap(parts.optimizer, "step", lambda _: first.data.mul_(1.001))


def two_passes_a_step(parts):
    if parts.mmdet:
        parts.built.optimizer._accumulative_counts = 2
    else:
        parts.built.engine.accumulation = 2


def other_seeds_of_the_sampling(parts):
    parts.built.session.sampling.seed += 1


# Order and pictures


def another_order_at_the_end(parts):
    images = parts.built.dataset.order.images
    images[-20:] = images[-20:][::-1].copy()


def other_flips_at_the_end(parts):
    flips = parts.built.dataset.order.flips
    flips[-20:] = ~flips[-20:]


def other_sizes_at_the_end(parts):
    parts.built.dataset.order.short_sides[-20:] -= 1


def darker_pictures(parts):
    parts.change_training_items(lambda pixels: (255 * (pixels / 255) ** 0.7).to(torch.uint8))


def grey_pictures(parts):
    parts.change_training_items(lambda pixels: pixels.float().mean(0, keepdim=True).expand(3, -1, -1).to(torch.uint8))


def pictures_moved_by_a_pixel(parts):
    parts.change_training_items(lambda pixels: pixels.roll(1, 2))


def colours_exchanged_in_training(parts):
    parts.change_training_items(lambda pixels: pixels.flip(0))


def pictures_upside_down(parts):
    parts.change_training_items(
        lambda pixels: pixels.flip(1), lambda boxes, size: torch.stack(
            [boxes[:, 0], size[0] - boxes[:, 3], boxes[:, 2], size[0] - boxes[:, 1]], 1)
    )  # fmt: skip


def a_dark_square_in_every_picture(parts):
    def erased(pixels):
        pixels = pixels.clone()
        pixels[:, :8, :8] = 0
        return pixels

    parts.change_training_items(erased)


def larger_boxes(parts):
    parts.change_training_items(boxes=lambda boxes, _: boxes + boxes.new_tensor([-1.0, -1.0, 1.0, 1.0]))


def boxes_of_whole_pixels(parts):
    parts.change_training_items(boxes=lambda boxes, _: boxes.round())


def exchanged_labels(parts):
    parts.change_training_items(labels=lambda labels: torch.where(labels < 2, 1 - labels, labels))


def mirrored_test_pictures(parts):
    parts.change_test_items(lambda pixels: pixels.flip(2))


def sharper_test_pictures(parts):
    parts.change_test_items(lambda pixels: (pixels.float() * 1.1).clamp(max=255).to(torch.uint8))


# Backbone and pyramid


def another_epsilon_of_batch_norm(parts):
    for norm in parts.batch_norms:
        norm.eps = 1e-2


def last_stage_without_its_stride(parts):
    for module in parts.last_residual_stage[0].modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)


def a_dilated_convolution(parts):
    convolution = next(one for one in parts.last_residual_stage[-1].modules()
                       if isinstance(one, nn.Conv2d) and one.kernel_size == (3, 3))  # fmt: skip
    convolution.dilation, convolution.padding = (2, 2), (2, 2)


def a_softer_activation(parts):
    wrap(parts.last_residual_stage[-1], "forward", F.gelu)


def weights_standardised(parts):
    convolution = parts.pyramid_outputs[0]
    convolution = convolution.conv if parts.mmdet else convolution
    plain = convolution.forward
    convolution.forward = lambda maps: plain(maps) / convolution.weight.std()


def half_the_gradient_of_the_pyramid(parts):
    def halved(maps):
        return maps.detach() + (maps - maps.detach()) / 2

    for convolution in parts.pyramid_outputs:
        wrap(convolution, "forward", halved)


def a_rectified_pyramid(parts):
    for convolution in parts.pyramid_outputs:
        wrap(convolution, "forward", F.relu)


def a_weaker_lateral_connection(parts):
    wrap(parts.laterals[-1], "forward", lambda maps: maps / 2)


def padding_round_the_corner(parts):
    convolution = parts.rpn_convolution
    convolution.padding_mode, convolution._reversed_padding_repeated_twice = "circular", [1, 1, 1, 1]


# Proposal network


def proposals_from_constant_maps(parts):
    before(parts.rpn_layers, "forward", lambda given: ([level.detach() for level in given[0]], *given[1:]))


def colder_objectness(parts):
    layer = parts.rpn.rpn_cls if parts.mmdet else parts.rpn.rpn_head.objectness_logits
    wrap(layer, "forward", lambda logits: logits / 2)


def a_square_in_the_regression_of_anchors(parts):
    layer = parts.rpn.rpn_reg if parts.mmdet else parts.rpn.rpn_head.anchor_deltas
    wrap(layer, "forward", lambda deltas: deltas + 0.05 * deltas.square())


# RoIs and heads


def half_the_scale_of_a_level(parts):
    layers = parts.heads.bbox_roi_extractor[0].roi_layers if parts.mmdet else parts.heads.box_pooler.level_poolers
    layers[0].spatial_scale /= 2


def noisy_roi_features(parts):
    wrap(parts.heads, "pooled", lambda features: features + 0.01 * torch.randn_like(features))


def larger_classifiers_of_later_stages(parts):
    with torch.no_grad():
        for stage in (1, 2):
            parts.classifier(stage).weight.mul_(10)


def layers_of_later_stages_as_pytorch_draws_them(parts):
    for stage in (1, 2):
        for layer in parts.connected(stage):
            layer.reset_parameters()


def a_trunk_that_starts_elsewhere(parts):
    with torch.no_grad():
        next(parts.last_residual_stage.parameters()).mul_(1.01)


def one_head_for_two_stages(parts):
    if parts.mmdet:
        parts.heads.bbox_head[1] = parts.heads.bbox_head[0]
    else:
        parts.heads.box_head[1] = parts.heads.box_head[0]


def flatter_probabilities_in_training(parts):
    layer = parts.classifier(0)
    wrap(layer, "forward", lambda logits: logits / 2 if layer.training else logits)


def a_layer_that_gives_magnitudes(parts):
    wrap(parts.connected(2)[-1], "forward", torch.abs)


def normalised_features_of_a_head(parts):
    before(parts.classifier(1), "forward", lambda given: (F.normalize(given[0]) * 10, *given[1:]))


def a_classifier_that_trains_its_layers_less(parts):
    before(parts.classifier(1), "forward",
           lambda given: (given[0].detach() + (given[0] - given[0].detach()) / 2, *given[1:]))  # fmt: skip


def a_last_stage_that_does_not_train(parts):
    parts.change_losses(lambda stage, loss: 0 * loss if stage == "stage3" else loss)


def a_weaker_second_stage(parts):
    parts.change_losses(lambda stage, loss: loss / 2 if stage == "stage2" else loss)


def a_second_stage_without_its_largest_losses(parts):
    parts.change_losses(lambda stage, loss: loss.clamp(max=0.05) if stage == "stage2" else loss)


# Test


def colder_logits_at_test(parts):
    wrap(parts.heads, "run_stages", lambda outputs: replace(outputs, logits=[3 * one for one in outputs.logits]))


def boxes_of_whole_pixels_at_test(parts):
    wrap(parts.heads, "run_stages", lambda outputs: replace(outputs, boxes=[one.round() for one in outputs.boxes]))


def boxes_of_two_stages_averaged(parts):
    def averaged(outputs):
        boxes = list(outputs.boxes)
        boxes[-1] = (boxes[-1] + boxes[-2]) / 2
        return replace(outputs, boxes=boxes)

    wrap(parts.heads, "run_stages", averaged)


def larger_boxes_of_a_stage(parts):
    wrap(parts.heads, "decoded", lambda boxes: boxes * 1.01)


BOTH: list[Change] = [
    dampening, gradients_are_never_zeroed, a_loss_times_four, gradients_cut_element_by_element,
    gradients_without_their_mean, decay_a_second_time_in_a_hook, a_step_that_moves_more, two_passes_a_step,
    other_seeds_of_the_sampling, another_order_at_the_end, other_flips_at_the_end, other_sizes_at_the_end,
    darker_pictures, grey_pictures, pictures_moved_by_a_pixel, colours_exchanged_in_training, pictures_upside_down,
    a_dark_square_in_every_picture, larger_boxes, boxes_of_whole_pixels, exchanged_labels, mirrored_test_pictures,
    sharper_test_pictures, another_epsilon_of_batch_norm, a_dilated_convolution,
    a_softer_activation, weights_standardised, half_the_gradient_of_the_pyramid, a_rectified_pyramid,
    a_weaker_lateral_connection, proposals_from_constant_maps, colder_objectness,
    a_square_in_the_regression_of_anchors, half_the_scale_of_a_level, noisy_roi_features,
    larger_classifiers_of_later_stages, layers_of_later_stages_as_pytorch_draws_them, a_trunk_that_starts_elsewhere,
    one_head_for_two_stages, flatter_probabilities_in_training, a_layer_that_gives_magnitudes,
    normalised_features_of_a_head, a_classifier_that_trains_its_layers_less, a_last_stage_that_does_not_train,
    a_weaker_second_stage, a_second_stage_without_its_largest_losses, colder_logits_at_test,
    boxes_of_whole_pixels_at_test, boxes_of_two_stages_averaged, larger_boxes_of_a_stage,
]  # fmt: skip
"""Of Cascade R-CNN."""


# FSCascade


def a_sum_for_a_mean(parts):
    parts.heads.sharing.merge = "sum"


def random_embeddings(parts):
    with torch.no_grad():
        for layer in parts.heads.sharing.embeddings.values():
            layer.weight.normal_(std=0.01)


def an_identity_beside_the_embedding(parts):
    for layer in parts.heads.sharing.embeddings.values():
        plain = layer.forward
        layer.forward = lambda link, plain=plain: plain(link) + link


def borrowed_features_as_constants(parts):
    parts.heads.sharing.share_gradient = False


def nothing_shared_for_localization(parts):
    parts.heads.sharing.lfs = False


FSCASCADE: list[Change] = [
    a_sum_for_a_mean, random_embeddings, an_identity_beside_the_embedding, borrowed_features_as_constants,
    nothing_shared_for_localization,
]  # fmt: skip


# MMDetection alone


def focal_loss_in_the_proposal_network(parts):
    from mmdet.models.losses import FocalLoss

    parts.rpn.loss_cls = FocalLoss(use_sigmoid=True)


def heavier_positives(parts):
    parts.rpn.train_cfg["pos_weight"] = 5.0


def as_many_negatives_as_positives(parts):
    parts.rpn.sampler.neg_pos_ub = 1


def negatives_balanced_by_overlap(parts):
    from mmdet.models.task_modules.samplers import IoUBalancedNegSampler

    parts.rpn.sampler = IoUBalancedNegSampler(256, 0.5, add_gt_as_proposals=False)


def proposals_beyond_the_image(parts):
    parts.rpn.bbox_coder.clip_border = False


def suppression_over_all_levels(parts):
    for config in (parts.rpn.test_cfg, parts.model.train_cfg.rpn_proposal):
        config.nms["class_agnostic"] = True


def an_ignored_class(parts):
    for head in parts.heads.bbox_head:
        head.loss_cls.ignore_index = 0


def boxes_beyond_the_image(parts):
    for head in parts.heads.bbox_head:
        head.bbox_coder.clip_border = False


def five_detections_in_every_image(parts):
    parts.model.test_cfg.rcnn.nms["max_num"] = 5


def a_leaky_activation(parts):
    for block in parts.last_residual_stage:
        block.relu = nn.LeakyReLU(0.1)


def batches_of_random_sizes(parts):
    class RandomResize(nn.Module):
        def forward(self, inputs, data_samples):
            return F.interpolate(inputs, scale_factor=1 + torch.rand(1).item()), data_samples

    parts.model.data_preprocessor.batch_augments = nn.ModuleList([RandomResize()])


def a_hook_that_edits_weights(parts):
    from mmengine.hooks import Hook

    class Editing(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            next(runner.model.parameters()).data.mul_(0.999)

    parts.built.engine.register_hook(Editing())


# Detectron2 alone


def a_hook_of_the_trainer_that_edits_weights(parts):
    from detectron2.engine import HookBase

    class Editing(HookBase):
        def after_step(self):
            next(self.trainer.model.parameters()).data.mul_(0.999)

    parts.built.engine.register_hooks([Editing()])


def five_detections_of_a_stage(parts):
    wrap(parts.heads, "detect", lambda rows: tuple(part[:5] for part in rows))


def a_smoother_loss_of_later_stages(parts):
    parts.heads.box_predictor[1].loss_weight = {"loss_cls": 1.0, "loss_box_reg": 0.9}


OF_ONE_FRAMEWORK: dict[str, list[Change]] = {
    "mmdet": [
        focal_loss_in_the_proposal_network, heavier_positives, as_many_negatives_as_positives,
        negatives_balanced_by_overlap, proposals_beyond_the_image, suppression_over_all_levels, an_ignored_class,
        boxes_beyond_the_image, last_stage_without_its_stride, five_detections_in_every_image, a_leaky_activation,
        padding_round_the_corner, batches_of_random_sizes,
        a_hook_that_edits_weights,
    ],
    "detectron2": [
        a_hook_of_the_trainer_that_edits_weights, five_detections_of_a_stage, a_smoother_loss_of_later_stages,
    ],
}  # fmt: skip
