"""Runs, models, images and ground truth on which the frameworks are compared."""

import zlib

import numpy as np
import torch
import trainings
from sides import SIDES, Inference, Side, Step

from adapters.witness.double_precision import double_precision
from cascadebench.detectors.variant_catalog import FoundVariant
from cascadebench.study.run import Run
from cascadebench.study.study_file import load_protocol

SCHEDULE = {"iterations": 8, "batch_size": 2, "base_lr": 0.0005, "warmup_iterations": 2, "steps": [6]}
SHORT = {"schedule": SCHEDULE, "inference": {"score_threshold": 0.05}}
TWENTY_STEPS = SHORT | {"schedule": SCHEDULE | {"iterations": 20}}


def run_of(framework: str, found: str | FoundVariant, options: dict | None = None, protocol: dict = SHORT) -> Run:
    """Return the embedded study's run of a variant, with some values of its protocol changed."""
    run = trainings.run_of(framework, found, **(options or {}))
    return run.model_copy(update={"protocol": load_protocol("tiny", protocol, "test")})


def add_noise(model: torch.nn.Module, common_name) -> None:
    """Move every parameter by noise that depends on its common name alone.

    Regressors move by less: boxes that jump far leave later stages without a positive, and nothing to compare.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            common = common_name(name)
            random = torch.Generator().manual_seed(zlib.crc32(common.encode()))
            scale = 0.02 if common.endswith("weight") and parameter.ndim > 1 else 0.05
            scale = 0.005 if ".regressor." in common else scale
            parameter.add_(scale * torch.randn(parameter.shape, generator=random))


def two_images() -> list[np.ndarray]:
    """Two images of different size, so that the batch is padded."""
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 256, (6, 8, 3)), random.integers(0, 256, (8, 6, 3))]
    return [np.kron(one, np.ones((16, 16, 1))).astype(np.uint8) for one in coarse]


def ground_truth() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ground truth of the two images."""
    first = torch.tensor([[10.0, 12.0, 60.0, 70.0], [70.0, 20.0, 120.0, 90.0]])
    second = torch.tensor([[5.0, 5.0, 40.0, 120.0], [30.0, 60.0, 90.0, 110.0], [50.0, 8.0, 66.0, 30.0]])
    return [(first, torch.tensor([0, 3])), (second, torch.tensor([1, 2, 4]))]


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    """Greatest absolute difference."""
    assert first.shape == second.shape
    return float((first - second).abs().max()) if first.numel() else 0.0


def differences_of_inference(one, other) -> dict[str, float]:
    """Greatest difference of every part of two :class:`sides.Inference`."""
    reached = {name: max(map(difference, getattr(one, name), getattr(other, name))) for name in
               ("features", "proposals", "objectness")}  # fmt: skip
    for name in ("boxes", "logits", "last_logits", "mask_logits"):
        first, second = ([tensor for image in getattr(answer, name) for tensor in image] for answer in (one, other))
        assert len(first) == len(second)
        reached[name] = max(map(difference, first, second), default=0.0)
    return reached


def differences_of_steps(one, other) -> tuple[dict[str, float], dict[str, float]]:
    """Relative differences of losses and of gradients of two :class:`sides.Step`.

    A gradient's is relative to the largest entry of its tensor; one that is zero in one must be zero in both.
    """
    assert one.losses.keys() == other.losses.keys()
    assert one.gradients.keys() == other.gradients.keys()
    losses = {name: abs(value - other.losses[name]) / max(abs(value), 1e-12) for name, value in one.losses.items()}
    gradients = {
        name: difference(gradient, other.gradients[name]) / max(float(gradient.abs().max()), 1e-12)
        for name, gradient in one.gradients.items()
    }
    return losses, gradients


def both_sides(found: FoundVariant, options: dict, protocol: dict = SHORT) -> list[tuple[Side, torch.nn.Module]]:
    """Both frameworks' side and model of a variant, with the same weights in double precision."""
    pair = [SIDES[framework](run_of(framework, found, options, protocol)) for framework in SIDES]
    models = [side.adapter.build_model(side.run).double() for side in pair]
    for side, model in zip(pair, models, strict=True):
        add_noise(model, side.common_name)
    return list(zip(pair, models, strict=True))


@double_precision()
def answers_of_both(found: FoundVariant, options: dict) -> tuple[list[Inference], list[Step]]:
    """Ask both frameworks for a forward pass and a training step with the same weights, in double precision."""
    pair = both_sides(found, options)
    inferences = [side.infer(model, two_images()) for side, model in pair]
    return inferences, [side.step(model, two_images(), ground_truth()) for side, model in pair]


def assert_agreement(inferences: list[Inference], steps: list[Step]) -> None:
    """All numbers of both frameworks, computed in double precision, are the same to nine digits."""
    for differences in (differences_of_inference(*inferences), *differences_of_steps(*steps)):
        assert all(value <= 1e-9 for value in differences.values()), differences
