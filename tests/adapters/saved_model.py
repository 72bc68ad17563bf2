"""A checkpoint of a model as if it had been trained to the end, for tests that predict."""

from pathlib import Path

import torch

from adapters.training.checkpoints import Checkpoints


def save_model(folder: Path, iterations: int, model: torch.nn.Module) -> None:
    """Write the last checkpoint of a training of so many iterations."""
    state = {"iteration": iterations, "consumed_sha256": "", "model": model.state_dict()}
    Checkpoints(folder).save(state | {"optimizer": {}, "scheduler": {}})
