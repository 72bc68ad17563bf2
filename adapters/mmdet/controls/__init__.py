"""Effective values of a run in MMDetection, read back from what was built or probed by what it does."""

import torch

from adapters.contract import Control
from adapters.mmdet.controls.backbone import backbone_rows, neck_rows
from adapters.mmdet.controls.heads import head_rows
from adapters.mmdet.controls.images import input_rows
from adapters.mmdet.controls.inference import inference_rows
from adapters.mmdet.controls.masks import mask_rows
from adapters.mmdet.controls.pooling import pooling_rows
from adapters.mmdet.controls.proposals import proposal_rows
from adapters.mmdet.controls.samples import sample_rows
from adapters.mmdet.controls.training import optimizer_rows, schedule_rows, training_rows
from adapters.training.assembly import Built

READERS = (
    schedule_rows, optimizer_rows, training_rows, input_rows, backbone_rows, neck_rows, proposal_rows, head_rows,
    sample_rows, pooling_rows, mask_rows, inference_rows,
)  # fmt: skip


def read_controls(built: Built) -> list[Control]:
    """Read every control; the random state stays as it was."""
    built.model.train()
    with torch.random.fork_rng(devices=[]):
        return [Control(*row) for reader in READERS for row in reader(built)]
