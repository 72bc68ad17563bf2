"""The fixed pictures and weights of a witness, the same for every run."""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adapters.inspection.probe_inputs import probe_picture
from adapters.weights.initial_weights import fill_with_common_weights
from adapters.witness.subject import Subject
from cascadebench.datasets.prepared import ImageRecord

SHORT_SIDE = 48
"""Shorter side of the pictures on which a network runs, whatever the protocol's sizes: seconds on a CPU."""
BOXES = np.array([[20, 10, 90, 80], [96, 30, 140, 92], [60, 60, 84, 78]], np.float32)


@contextmanager
def saved_records(classes: int) -> Iterator[list[ImageRecord]]:
    """Save a landscape and a portrait while the block runs; each has three boxes, and a mask in each box."""
    with TemporaryDirectory() as folder:
        records = []
        landscape = probe_picture()
        portrait = landscape.transpose(Image.Transpose.TRANSPOSE)
        for number, (picture, boxes) in enumerate([(landscape, BOXES), (portrait, BOXES[:, [1, 0, 3, 2]])]):
            path = Path(folder) / f"{number}.png"
            picture.save(path, compress_level=1)
            labels = np.arange(number, number + len(boxes)) % classes
            outlines = tuple([[x, y, X, y, X, Y, (x + X) / 2, Y, x, y + 1]] for x, y, X, Y in boxes.tolist())
            records.append(ImageRecord(1 + number, path, *picture.size, boxes, labels.astype(np.int64), outlines))
        yield records


def like(record: ImageRecord, planned: ImageRecord) -> ImageRecord:
    """A record under the id of another."""
    return replace(record, id=planned.id)


@torch.no_grad()
def fix_weights(subject: Subject) -> None:
    """Give a model weights that are the same for every seed, and with which every part has something to do.

    They are the initial ones of seed 0, and noise by the common names on what starts as a constant and on what decides:
    boxes move, classes differ, maps between stages carry something.
    """
    run = subject.built.run.model_copy(update={"seed": 0})
    fill_with_common_weights(subject.built.model, subject.names.get, run)
    for common, tensor in subject.tensors().items():
        scale = _noise(common, tensor)
        if scale:
            random = np.random.default_rng(zlib.crc32(common.encode()))
            noise = scale * random.standard_normal(tuple(tensor.shape), np.float32)
            tensor.add_(torch.from_numpy(np.abs(noise) if common.endswith("running_var") else noise))


def _noise(common: str, tensor: Tensor) -> float:
    """Deviation of the noise on a tensor; 0: none."""
    # By the width of what comes in: at full size, too, boxes do not jump far, which would leave later stages without a
    # positive and crowd boxes at the border, and no probability is one to the last digit. Both would make ties, which
    # fall as a framework sorts.
    per_input = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 1 / 8
    if re.search(r"\.regressor\.|rpn\.deltas\.", common):
        return 0.08 * per_input
    if re.search(r"\.classifier\.weight|rpn\.objectness\.weight|\.predictor\.weight", common):
        return 0.8 * per_input
    if common.endswith((".embedding.weight", ".reduction.weight")):
        return 0.02
    return 0.05 if common.endswith((".bias", ".running_mean", ".running_var")) or ".norm" in common else 0.0
