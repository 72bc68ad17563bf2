"""Every control, defined once: here those of training and input. ``docs/controlled-variables.md`` is made from them."""

from cascadebench.controls.control_definition import ControlDefinition, constant, derived, equal, stated
from cascadebench.controls.definitions_model import BACKBONE, HEADS, INFERENCE, MASKS, MODEL, RPN
from cascadebench.determinism.training_order import resized_shape
from cascadebench.study.run import Run

ODD_SIZES = ((500, 333), (333, 500), (640, 427), (97, 101))
"""Width and height of the images whose resized sizes are probed, in pixels."""


def _learning_rate_last(run: Run) -> float:
    schedule = run.protocol.schedule
    return schedule.learning_rate(schedule.iterations - 1)


def _factors_of_biases(run: Run) -> tuple[float, float]:
    return run.protocol.optimizer.bias_lr_factor, run.protocol.optimizer.bias_decay_factor


def _bias_weight_decay(run: Run) -> float:
    return run.protocol.optimizer.weight_decay * run.protocol.optimizer.bias_decay_factor


def _resized_shapes(run: Run) -> list[list[int]]:
    sizes = run.protocol.input
    return [list(resized_shape(*size, sizes.test_short_side, sizes.max_long_side)) for size in ODD_SIZES]


def _normalized_pixel(run: Run) -> list[float]:
    """Red 200, green 100, blue 50 as the model sees them."""
    pixel = (200, 100, 50) if run.backbone.channel_order == "rgb" else (50, 100, 200)
    triples = zip(pixel, run.backbone.pixel_mean, run.backbone.pixel_std, strict=True)
    return [round((level - mean) / std, 4) for level, mean, std in triples]


SCHEDULE = (
    stated("schedule.iterations", "Optimizer steps.", "iterations"),
    derived(
        "schedule.learning_rate_first",
        "Learning rate of the first step.",
        lambda run: run.protocol.schedule.learning_rate(0),
    ),
    stated("schedule.learning_rate_peak", "Greatest learning rate.", at="protocol.schedule.base_lr"),
    derived("schedule.learning_rate_last", "Learning rate of the last step.", _learning_rate_last),
    stated("schedule.warmup_iterations", "First step at the full rate, counted from 0.", "iterations"),
    stated("schedule.milestones", "Steps at which the rate drops.", "iterations", at="protocol.schedule.steps"),
    equal("schedule.learning_rates_sha256", "Hash of the rate of every step, to nine digits."),
)

OPTIMIZER = (
    stated("optimizer.name", "Optimizer."),
    stated("optimizer.momentum", "Momentum."),
    stated("optimizer.weight_decay", "Weight decay of all parameters but biases of convolutions and linear layers."),
    stated("optimizer.bias_lr_factor", "Learning rate of those biases over that of all other parameters."),
    derived("optimizer.bias_weight_decay", "Weight decay of those biases.", _bias_weight_decay),
    constant("optimizer.nesterov", "Whether momentum is Nesterov's.", False),
    derived(
        "optimizer.parameter_groups",
        "Number of different settings among the parameters, norm and bias included.",
        lambda run: 1 if _factors_of_biases(run) == (1.0, 1.0) else 2,
    ),
    constant(
        "optimizer.parameters_covered",
        "Whether every parameter that learns belongs to the optimizer exactly once.",
        True,
    ),
    stated("optimizer.gradient_clip_norm", "L2 norm to which the whole gradient is clipped; none: no clipping."),
)

TRAINING = (
    constant("training.precision", "Number format of the forward pass.", "float32"),
    stated(
        "training.arithmetic",
        "Kernels of the CPU: portable where every library was told so and torch's own are those of AVX2.",
        at="protocol.arithmetic",
    ),
    constant("training.weight_averaging", "Averaging of weights over steps.", "none"),
    stated("training.batch_size", "Images of a step over all processes.", "images", at="protocol.schedule.batch_size"),
    equal(
        "training.order_sha256",
        "Hash of the first 1,000 images that the loader reads, over a fixed list of images.",
        per_seed=True,
    ),
    equal("training.flips_sha256", "Hash of which of those are mirrored.", per_seed=True),
    equal("training.step_seeds_sha256", "Hash of the random state in the first 100 steps.", per_seed=True),
)

INPUT = (
    stated("input.pixel_mean", "Subtracted from the pixels.", "grey levels", at="backbone.pixel_mean"),
    stated("input.pixel_std", "Divides the pixels.", "grey levels", at="backbone.pixel_std"),
    stated("input.channel_order", "Order of the colour channels.", at="backbone.channel_order"),
    derived(
        "input.normalized_pixel",
        "Probe: a pixel of red 200, green 100, blue 50 as the model sees it.",
        _normalized_pixel,
    ),
    stated("input.size_divisor", "Batches are padded to a multiple of this.", "pixels"),
    constant("input.padding_value", "Probe: value of padding after normalisation.", 0.0),
    constant("input.resize", "Library and filter that resize.", "pillow_bilinear"),
    equal("input.resized_image_sha256", "Probe: hash of a fixed image as it is resized for testing, RGB."),
    derived("input.resized_shapes", "Probe: sizes of odd images after resizing.", _resized_shapes, "pixels"),
    derived(
        "input.train_short_sides",
        "Shorter sides in training.",
        lambda run: sorted(run.protocol.input.train_short_sides),
        "pixels",
    ),
    stated("input.test_short_side", "Shorter side in testing.", "pixels"),
    stated("input.max_long_side", "Greatest longer side.", "pixels"),
    equal(
        "input.ground_truth_boxes", "Probe: ground-truth boxes that are left of a fixed image's, among them tiny ones."
    ),
)

GROUPS: dict[str, tuple[ControlDefinition, ...]] = {
    "Schedule": SCHEDULE,
    "Optimizer": OPTIMIZER,
    "Training": TRAINING,
    "Input": INPUT,
    "Backbone and neck": BACKBONE,
    "Region proposal network": RPN,
    "Heads": HEADS,
    "Masks": MASKS,
    "Inference": INFERENCE,
    "Model": MODEL,
}
"""The controls by part of a detector, under a title."""

CONTROLS: dict[str, ControlDefinition] = {control.name: control for group in GROUPS.values() for control in group}
"""The controls by name."""
