"""Controls of training and input: schedule, optimizer, order of the images, and how an image becomes a tensor."""

from cascadebench.controls.control_definition import ControlDefinition as Control
from cascadebench.controls.control_definition import always, value
from cascadebench.determinism.image_size import resized_shape
from cascadebench.study.run import Run

ODD_SIZES = ((500, 333), (333, 500), (640, 427), (97, 101))
"""Width and height of the images whose resized sizes are probed, in pixels."""


def _learning_rate_last(run: Run) -> float:
    schedule = run.protocol.schedule
    return schedule.learning_rate(schedule.iterations - 1)


def _resized_shapes(run: Run) -> list[list[int]]:
    sizes = run.protocol.input
    return [list(resized_shape(*size, sizes.test_short_side, sizes.max_long_side)) for size in ODD_SIZES]


def _normalized_pixel(run: Run) -> list[float]:
    """Red 200, green 100, blue 50 as the model sees them."""
    pixel = (200, 100, 50) if run.backbone.channel_order == "rgb" else (50, 100, 200)
    triples = zip(pixel, run.backbone.pixel_mean, run.backbone.pixel_std, strict=True)
    return [round((level - mean) / std, 4) for level, mean, std in triples]


SCHEDULE = (
    Control("schedule.iterations", "Optimizer steps.", "iterations", expected=value("protocol.schedule.iterations")),
    Control(
        "schedule.learning_rate_first",
        "Learning rate of the first step.",
        expected=lambda run: run.protocol.schedule.learning_rate(0),
    ),
    Control("schedule.learning_rate_peak", "Greatest learning rate.", expected=value("protocol.schedule.base_lr")),
    Control("schedule.learning_rate_last", "Learning rate of the last step.", expected=_learning_rate_last),
    Control(
        "schedule.warmup_iterations",
        "First step at the full rate, counted from 0.",
        "iterations",
        expected=value("protocol.schedule.warmup_iterations"),
    ),
    Control(
        "schedule.milestones",
        "Steps at which the rate drops.",
        "iterations",
        expected=value("protocol.schedule.steps"),
    ),
    Control("schedule.learning_rates_sha256", "Hash of the rate of every step, to nine digits.", kind="equal"),
)

OPTIMIZER = (
    Control("optimizer.name", "Optimizer.", expected=value("protocol.optimizer.name")),
    Control("optimizer.momentum", "Momentum.", expected=value("protocol.optimizer.momentum")),
    Control(
        "optimizer.weight_decay",
        "Weight decay of all parameters.",
        expected=value("protocol.optimizer.weight_decay"),
    ),
    Control("optimizer.nesterov", "Whether momentum is Nesterov's.", expected=always(False)),
    Control(
        "optimizer.parameter_groups",
        "Number of different settings among the parameters, norm and bias included.",
        expected=always(1),
    ),
    Control(
        "optimizer.parameters_covered",
        "Whether every parameter that learns belongs to the optimizer exactly once.",
        expected=always(True),
    ),
    Control(
        "optimizer.gradient_clip_norm",
        "L2 norm to which the whole gradient is clipped; none: no clipping.",
        expected=value("protocol.optimizer.gradient_clip_norm"),
    ),
)

TRAINING = (
    Control("training.precision", "Number format of the forward pass.", expected=always("float32")),
    Control("training.weight_averaging", "Averaging of weights over steps.", expected=always("none")),
    Control(
        "training.batch_size",
        "Images of a step over all processes.",
        "images",
        expected=value("protocol.schedule.batch_size"),
    ),
    Control(
        "training.order_sha256",
        "Hash of the first 1,000 images that the loader reads, over a fixed list of images.",
        kind="equal",
        per_seed=True,
    ),
    Control("training.flips_sha256", "Hash of which of those are mirrored.", kind="equal", per_seed=True),
    Control(
        "training.step_seeds_sha256", "Hash of the random state in the first 100 steps.", kind="equal", per_seed=True
    ),
)

INPUT = (
    Control("input.pixel_mean", "Subtracted from the pixels.", "grey levels", expected=value("backbone.pixel_mean")),
    Control("input.pixel_std", "Divides the pixels.", "grey levels", expected=value("backbone.pixel_std")),
    Control("input.channel_order", "Order of the colour channels.", expected=value("backbone.channel_order")),
    Control(
        "input.normalized_pixel",
        "Probe: a pixel of red 200, green 100, blue 50 as the model sees it.",
        expected=_normalized_pixel,
    ),
    Control(
        "input.size_divisor",
        "Batches are padded to a multiple of this.",
        "pixels",
        expected=value("protocol.input.size_divisor"),
    ),
    Control("input.padding_value", "Probe: value of padding after normalisation.", expected=always(0.0)),
    Control("input.resize", "Library and filter that resize.", expected=always("pillow_bilinear")),
    Control(
        "input.resized_image_sha256", "Probe: hash of a fixed image as it is resized for testing, RGB.", kind="equal"
    ),
    Control("input.resized_shapes", "Probe: sizes of odd images after resizing.", "pixels", expected=_resized_shapes),
    Control(
        "input.train_short_sides",
        "Shorter sides in training.",
        "pixels",
        expected=lambda run: sorted(run.protocol.input.train_short_sides),
    ),
    Control(
        "input.test_short_side", "Shorter side in testing.", "pixels", expected=value("protocol.input.test_short_side")
    ),
    Control("input.max_long_side", "Greatest longer side.", "pixels", expected=value("protocol.input.max_long_side")),
    Control(
        "input.ground_truth_boxes",
        "Probe: ground-truth boxes that are left of a fixed image's, among them tiny ones.",
        kind="equal",
    ),
)
