"""The fixed pictures and weights of a witness, the same for every run."""

import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import nn

from adapters.inspection.probe_inputs import probe_picture
from adapters.weights.initial_weights import fill_with_common_weights
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.run import Run

SHORT_SIDE = 64
"""Shorter side of the pictures on which a network runs, whatever the protocol's sizes: seconds on a CPU, not minutes."""
BOXES = np.array([[20, 10, 90, 80], [96, 30, 140, 92], [60, 60, 84, 78]], np.float32)


def named(model: nn.Module, common_name: Callable[[str], str | None]) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a model by their common names; those that have none are left out."""
    state = model.state_dict(keep_vars=True)
    return {common_name(name): tensor for name, tensor in state.items() if common_name(name) is not None}


@contextmanager
def saved_records(classes: int) -> Iterator[list[ImageRecord]]:
    """Save a landscape and a portrait while the block runs; each has three boxes, and a mask in each box."""
    with TemporaryDirectory() as folder:
        records = []
        for number, (picture, boxes) in enumerate(
            [(probe_picture(), BOXES), (turned(probe_picture()), BOXES[:, [1, 0, 3, 2]])]
        ):
            path = Path(folder) / f"{number}.png"
            picture.save(path, compress_level=1)
            labels = np.arange(number, number + len(boxes)) % classes
            outlines = tuple([[x, y, X, y, X, Y, (x + X) / 2, Y, x, y + 1]] for x, y, X, Y in boxes.tolist())
            records.append(ImageRecord(1 + number, path, *picture.size, boxes, labels.astype(np.int64), outlines))
        yield records


def turned(picture: Image.Image) -> Image.Image:
    """A picture mirrored along its diagonal."""
    return picture.transpose(Image.Transpose.TRANSPOSE)


def like(record: ImageRecord, planned: ImageRecord) -> ImageRecord:
    """A record under the id of another."""
    return replace(record, id=planned.id)


@torch.no_grad()
def fix_weights(model: nn.Module, common_name: Callable[[str], str | None], run: Run) -> None:
    """Give a model weights that are the same for every seed, and with which every part has something to do.

    They are the initial ones of seed 0, and noise by the common names on what starts as a constant and on what decides:
    boxes move, classes differ, maps between stages carry something.
    """
    fill_with_common_weights(model, common_name, run.model_copy(update={"seed": 0}))
    for common, tensor in named(model, common_name).items():
        scale = _noise(common)
        if scale and tensor.is_floating_point():
            random = np.random.default_rng(zlib.crc32(common.encode()))
            noise = scale * random.standard_normal(tuple(tensor.shape), np.float32)
            tensor.add_(torch.from_numpy(np.abs(noise) if common.endswith("running_var") else noise))


def _noise(common: str) -> float:
    """Deviation of the noise on a tensor; 0: none."""
    if re.search(r"\.regressor\.|rpn\.deltas\.", common):
        return 0.01  # boxes that jump far leave later stages without a positive
    if re.search(r"\.classifier\.weight|rpn\.objectness\.weight|\.predictor\.weight", common):
        return 0.1
    if common.endswith((".embedding.weight", ".reduction.weight")):
        return 0.02
    return 0.05 if common.endswith((".bias", ".running_mean", ".running_var")) or ".norm" in common else 0.0
