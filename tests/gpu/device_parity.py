"""How far a forward pass and a training step on a device are from the same on the CPU, for every variant.

Weights, images and the questions are those of tests/parity. Nothing is judged here: the figures are written.
"""

import argparse
import copy
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in ("parity", "adapters")]

from comparison import SHORT, add_noise, difference, differences_of_steps, ground_truth, run_of, two_images
from sides import SIDES, Inference, Step

from adapters.training.arithmetic import arithmetic, set_arithmetic
from cascadebench.core.files import write_json

VARIANTS = ("faster_rcnn", "cascade_rcnn", "fscascade", "decoupled_rcnn")
EVERYTHING = SHORT | {
    "rpn": {"anchors_per_image": 100_000, "positive_fraction": 1.0},
    "heads": {"rois_per_image": 10_000, "positive_fraction": 1.0},
}
"""All candidates are sampled: one that a device has alone would change which others are drawn."""
SAME_PLACE = 0.01
"""Pixels within which two proposals are the same one."""


def on_cpu(value: Any) -> Any:
    """Bring the tensors of nested lists and dicts to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, list):
        return [on_cpu(one) for one in value]
    return {name: on_cpu(one) for name, one in value.items()} if isinstance(value, dict) else value


def greatest(first: Any, second: Any) -> float:
    """Greatest absolute difference between nested lists of tensors; 0 where there are none."""
    if isinstance(first, Tensor):
        return difference(first, second)
    return max((greatest(*pair) for pair in zip(first, second, strict=True)), default=0.0)


def proposals_compared(first: list[Tensor], second: list[Tensor]) -> dict[str, float | int]:
    """Compare the proposals of all images whatever their order: a tie may be broken otherwise on another device."""
    alone, greatest_shift = 0, 0.0
    for one, other in zip(first, second, strict=True):
        distances = (one[:, None] - other[None]).abs().amax(-1)
        for nearest in (distances.amin(0), distances.amin(1)):
            alone += int((nearest > SAME_PLACE).sum())
            same = nearest[nearest <= SAME_PLACE]
            greatest_shift = max(greatest_shift, float(same.max()) if len(same) else 0.0)
    counts = [sum(map(len, found)) for found in (first, second)]
    return {"number": counts[0], "number_on_device": counts[1], "without_partner": alone, "pixels": greatest_shift}


def compare(cpu: Inference, device: Inference, cpu_step: Step, device_step: Step) -> dict[str, Any]:
    """Greatest differences; boxes and logits are those of the CPU's proposals on both sides."""
    losses, gradients = differences_of_steps(cpu_step, device_step)
    worst = max(gradients, key=gradients.get)
    named = {name: greatest(getattr(cpu, name), getattr(device, name)) for name in ("features", "boxes", "logits")}
    return named | {
        "proposals": proposals_compared(cpu.proposals, device.proposals),
        "losses_relative": max(losses.values()),
        "gradient_relative": gradients[worst],
        "gradient_of": worst,
    }


def measure(variant: str, device: torch.device) -> dict[str, Any]:
    """Ask both frameworks on the CPU and on the device, and compare the frameworks with each other on the device."""
    images, found, on_device, given = two_images(), {}, [], None
    for framework, kind in SIDES.items():
        torch.manual_seed(0)
        side = kind(run_of(framework, variant, protocol=EVERYTHING))
        model = side.adapter.build_model(side.run)
        add_noise(model, side.common_name)
        moved = copy.deepcopy(model).to(device)
        cpu = side.infer(model, images)
        given = given or cpu.proposals
        cpu = side.infer(model, images, given)
        there = Inference(**on_cpu(asdict(side.infer(moved, images, [boxes.to(device) for boxes in given]))))
        steps = [Step(**on_cpu(asdict(side.step(one, images, ground_truth())))) for one in (model, moved)]
        found[framework] = compare(cpu, there, *steps)
        on_device.append(there)
    parts = ("features", "boxes", "logits")
    found["between the frameworks on the device"] = {
        name: greatest(*(getattr(one, name) for one in on_device)) for name in parts
    }
    return found


def main() -> None:
    """Measure every variant and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    set_arithmetic(deterministic=False)
    device = torch.device(arguments.device)
    variants = {}
    for variant in arguments.variants.split(","):
        variants[variant] = measure(variant, device)
        print(variant, variants[variant], flush=True)
    write_json(arguments.out, {"device": arguments.device, "arithmetic": arithmetic(), "variants": variants})


if __name__ == "__main__":
    main()
