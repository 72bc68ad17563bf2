"""The protocol: everything that is held equal between the runs of a study."""

from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import model_validator

from cascadebench.core.configuration import Configuration

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Four = tuple[float, float, float, float]


def regression_loss_name(beta: float) -> str:
    """Name of smooth L1 that squares errors below `beta`, 0 or more; with nothing smoothed it is L1.

    Example
    -------
    >>> regression_loss_name(0.0), regression_loss_name(1 / 9)
    ('l1', 'smooth_l1 up to 0.1111')
    """
    return f"smooth_l1 up to {beta:.4g}" if beta else "l1"


class Schedule(Configuration):
    """Iterations and learning rate: linear warm-up, then steps."""

    iterations: Count
    """Optimizer steps."""
    batch_size: Count
    """Images per step over all processes."""
    base_lr: Positive
    """Learning rate after warm-up."""
    warmup_iterations: Annotated[int, Ge(0)]
    """The rate reaches `base_lr` at this iteration, counted from 0."""
    warmup_factor: Fraction
    """Share of `base_lr` at iteration 0."""
    steps: tuple[Count, ...]
    """Iterations at which the rate is multiplied by `gamma`."""
    gamma: Positive = 0.1
    """Factor on the rate at every one of `steps`."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps must rise")
        if self.steps and self.steps[-1] >= self.iterations:
            raise ValueError("the last of steps must come before iterations")
        if self.warmup_iterations >= (self.steps[0] if self.steps else self.iterations):
            raise ValueError("warmup_iterations must end before the first of steps and before iterations")
        return self

    def learning_rate(self, iteration: int) -> float:
        """Learning rate of `iteration` (0-based): what both frameworks' schedulers must give."""
        factor = self.gamma ** sum(iteration >= step for step in self.steps)
        if iteration < self.warmup_iterations:
            share = iteration / self.warmup_iterations
            factor *= self.warmup_factor * (1 - share) + share
        return self.base_lr * factor


class Optimizer(Configuration):
    """Stochastic gradient descent; biases of convolutions and linear layers may have a rate and a decay of their own.

    Scale and shift of a norm are trained as weights are.
    """

    name: Literal["sgd"] = "sgd"
    """The optimizer."""
    momentum: Fraction = 0.9
    """Without Nesterov's correction."""
    weight_decay: NotNegative = 1e-4
    """L2 penalty added to the gradient, times the weight."""
    bias_lr_factor: Positive = 1.0
    """Factor on the learning rate of biases."""
    bias_decay_factor: NotNegative = 1.0
    """Factor on the weight decay of biases; 0: they do not decay."""
    gradient_clip_norm: Positive | None = None
    """Clip the L2 norm of the whole gradient to this; null: no clipping."""


class Input(Configuration):
    """How an image becomes a tensor. Resizing is Pillow's antialiased bilinear in every framework."""

    train_short_sides: Annotated[tuple[Count, ...], MinLen(1)]
    """Lengths of the shorter side in training, one drawn per image, in pixels."""
    test_short_side: Count
    """Length of the shorter side in testing, in pixels."""
    max_long_side: Count
    """The longer side never exceeds this, in pixels."""
    flip_probability: Fraction = 0.5
    """Share of the training images that are mirrored left to right."""
    aspect_ratio_grouping: bool = True
    """Batches hold only portrait or only other images."""
    size_divisor: Count = 32
    """Batches are padded with zeros to a multiple of this."""


class BackboneTraining(Configuration):
    """What of the backbone learns."""

    frozen_stages: Annotated[int, Ge(0), Le(5)]
    """0: everything learns; 1: the stem is frozen; 2: stem and first residual stage; and so on."""
    batch_norm: Literal["trained", "fixed_statistics", "frozen"]
    """`trained`: statistics of the batch; `fixed_statistics`: stored ones, while scale and shift learn; `frozen`:
    nothing learns."""


class Neck(Configuration):
    """Feature pyramid network."""

    channels: Count = 256
    """Of every pyramid level."""


class Anchors(Configuration):
    """One anchor size per pyramid level."""

    scale: Positive = 8.0
    """Anchor side = `scale` x stride of the level (4, 8, 16, 32, 64)."""
    aspect_ratios: Annotated[tuple[Positive, ...], MinLen(1)] = (0.5, 1.0, 2.0)
    """Height over width; one anchor of the same area each."""


class ProposalNetwork(Configuration):
    """Region proposal network. Every anchor takes part, also across the image border."""

    anchors: Anchors = Anchors()
    positive_iou: Fraction = 0.7
    """An anchor at or above this IoU is positive, and so are each ground truth's best anchors whatever their IoU."""
    negative_iou: Fraction = 0.3
    """An anchor below this IoU is negative; between the two it takes no part."""
    anchors_per_image: Count = 256
    """Anchors sampled for the losses."""
    positive_fraction: Fraction = 0.5
    """At most this share of the sampled anchors is positive."""
    train_pre_nms: Count = 2000
    """Proposals kept per level before NMS, in training."""
    test_pre_nms: Count = 1000
    """The same in testing."""
    train_post_nms: Count = 1000
    """Proposals kept over all levels after NMS, in training."""
    test_post_nms: Count = 1000
    """The same in testing."""
    nms_iou: Fraction = 0.7
    """Of two proposals of a level that overlap by more, the lower scored goes."""
    smooth_l1_beta: NotNegative = 0.0
    """The regression loss is smooth L1, which squares errors below this; 0: L1."""


class RegionHeads(Configuration):
    """What every stage's head has in common."""

    pool_size: Count = 7
    """Side of the pooled feature map of a RoI."""
    sampling_ratio: Annotated[int, Ge(0)] = 0
    """RoIAlign samples per bin side; 0: as many as the bin has feature cells."""
    width: Count = 1024
    """Outputs of each of the two fully connected layers."""
    rois_per_image: Count = 512
    """RoIs sampled for the first stage."""
    positive_fraction: Fraction = 0.25
    """At most this share of the sampled RoIs is positive."""
    add_ground_truth: bool = True
    """Ground-truth boxes join the first stage's proposals in training."""
    iou_threshold: Fraction = 0.5
    """A RoI of the first stage at or above this IoU is positive."""
    target_stds: Four = (0.1, 0.1, 0.2, 0.2)
    """Standard deviations that divide the first stage's regression targets; the means are 0."""
    smooth_l1_beta: NotNegative = 0.0
    """The regression losses are smooth L1, which squares errors below this, in deviations of the targets; 0: L1."""


class Inference(Configuration):
    """From scores and boxes to detections: score filter, class-wise hard NMS, the best of what is left."""

    score_threshold: Fraction = 0.05
    """Detections score above this."""
    nms_iou: Fraction = 0.5
    """Of two detections of a class that overlap by more, the lower scored goes."""
    max_detections: Count = 100
    """Detections kept per image."""


class Protocol(Configuration):
    """Everything that every run of a study shares."""

    name: str
    description: str = ""
    rules: Literal["aligned", "mmdet", "detectron2"] = "aligned"
    """`aligned`: where the frameworks' own rules differ, one rule for both. A framework's name: that framework keeps
    its own rules, and the protocol runs in it alone."""
    arithmetic: Literal["native", "portable"] = "native"
    """Of the CPU. `native`: the kernels that suit the processor best; another's numbers may differ. `portable`: those
    that every processor with AVX2 has; with one thread a run gives the same bytes on each."""
    schedule: Schedule
    input: Input
    backbone: BackboneTraining
    optimizer: Optimizer = Optimizer()
    neck: Neck = Neck()
    rpn: ProposalNetwork = ProposalNetwork()
    heads: RegionHeads = RegionHeads()
    inference: Inference = Inference()
