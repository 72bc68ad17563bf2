"""For one seed every variant in both frameworks trains on the same images and flips, however they are read."""

import importlib
import json

import pytest
import torch

from adapters.commands import initial_model
from adapters.training.training_session import TrainingSession
from cascadebench.determinism.training_order import training_order
from cascadebench.study.study_file import Execution


def consumed(framework: str, variant: str, small_run, records, out, workers: int, seed: int = 0) -> list[str]:
    """Train for six iterations and return the log's hash of every iteration."""
    adapter = importlib.import_module(f"adapters.{framework}.adapter").ADAPTER
    run = small_run(framework, variant).model_copy(update={"seed": seed})
    execution = Execution(loader_workers=workers, checkpoint_interval=100, log_interval=100)
    session = TrainingSession(run, out, torch.device("cpu"), execution)
    model = initial_model(adapter, run, with_weights=False)
    adapter.train(run, model, records, training_order(records, run.protocol, run.seed), session)
    session.finish()
    return [json.loads(line)["consumed_sha256"] for line in (out / "train_log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("workers", [0, 2])
def test_frameworks_and_variants_consume_the_same(workers, small_run, records, tmp_path):
    with_boxes = [record for record in records if len(record.boxes)]
    hashes = {
        (framework, variant): consumed(
            framework, variant, small_run, with_boxes, tmp_path / framework / variant, workers
        )
        for framework in ("mmdet", "detectron2")
        for variant in ("faster_rcnn", "cascade_rcnn")
    }
    first = next(iter(hashes.values()))
    assert len(set(first)) == 6
    assert all(found == first for found in hashes.values()), hashes
    # The order of no workers, which has no way to mix anything up.
    assert first == consumed("mmdet", "faster_rcnn", small_run, with_boxes, tmp_path / "alone", 0)


def test_another_seed_consumes_another_order(small_run, records, tmp_path):
    with_boxes = [record for record in records if len(record.boxes)]
    first, second = (
        consumed("mmdet", "faster_rcnn", small_run, with_boxes, tmp_path / str(seed), 0, seed) for seed in (0, 1)
    )
    assert first != second
