"""Small runs with some values changed, and their training."""

import json
from pathlib import Path
from typing import Any

import torch

from adapters.commands import initial_model, load_adapter
from adapters.training.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import training_order
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution


def changed(run: Run, rules: str | None = None, **parts: dict[str, Any]) -> Run:
    """A run with some values of its protocol changed: ``schedule={"iterations": 5}``; `rules`: whose it keeps."""
    update = {name: getattr(run.protocol, name).model_copy(update=values) for name, values in parts.items()}
    update |= {"rules": rules} if rules else {}
    return run.model_copy(update={"protocol": run.protocol.model_copy(update=update)})


def train(run: Run, records: list[ImageRecord], out: Path, execution: Execution) -> TrainingSession:
    """Train a run in a folder on the images with ground truth; returns the session, which is not finished."""
    adapter = load_adapter(run.framework)
    session = TrainingSession(run, out, torch.device("cpu"), execution)
    model = initial_model(adapter, run, with_weights=False)
    with_boxes = [record for record in records if len(record.boxes)]
    adapter.train(run, model, with_boxes, training_order(with_boxes, run.protocol, run.seed), session)
    return session


def trained(run: Run, records: list[ImageRecord], out: Path, execution: Execution) -> dict[str, Any]:
    """Train a run in a folder on the images with ground truth; returns its last checkpoint."""
    train(run, records, out, execution).finish()
    return torch.load(out / "checkpoints" / "last.pt", weights_only=True)


def log_of(out: Path) -> list[dict[str, Any]]:
    """Lines of a training's log, without the seconds."""
    return [json.loads(line) | {"seconds": 0} for line in (out / "train_log.jsonl").read_text().splitlines()]
