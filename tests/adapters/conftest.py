"""A handful of drawn images and small runs, for the adapters' tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from cascadebench.datasets.card import load_dataset_card
from cascadebench.datasets.prepare import prepare
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution
from cascadebench.study_loading import chosen_variant, load_study

torch.set_num_threads(1)


@pytest.fixture(params=["mmdet", "detectron2"])
def framework(request) -> str:
    """Each framework in turn."""
    return request.param


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> list[ImageRecord]:
    """Six images with one or two rectangles each, one of them portrait, one without ground truth."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    found = []
    for number in range(6):
        width, height = (96, 128) if number == 1 else (128, 96)
        picture = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        boxes = []
        for _ in range(0 if number == 5 else 1 + number % 2):
            x, y = random.integers(0, 50, 2)
            box = (int(x), int(y), int(x) + int(random.integers(20, 45)), int(y) + int(random.integers(20, 45)))
            ImageDraw.Draw(picture).rectangle(box, fill=tuple(int(value) for value in random.integers(0, 256, 3)))
            boxes.append(box)
        path = folder / f"{number}.png"
        picture.save(path)
        labels = np.arange(len(boxes), dtype=np.int64)
        array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        found.append(ImageRecord(10 + number, Path(path), width, height, array, labels))
    return found


@pytest.fixture(scope="session")
def drawn_images():
    """Return a function that prepares the embedded dataset with so few images in a folder, and returns the folder."""

    def draw(folder: Path, train: int, val: int) -> Path:
        card = load_dataset_card("shapes", "test")
        few = card.data.model_copy(update={"train_images": train, "val_images": val})
        prepare(card.model_copy(update={"data": few}), folder)
        return folder

    return draw


@pytest.fixture(scope="session")
def small_run():
    """Return a function that makes the run of a framework and variant, with a schedule of six iterations."""

    def make(framework: str, variant: str, **options) -> Run:
        run = next(planned.run for planned in load_study("tiny").runs if planned.run.framework == framework)
        schedule = run.protocol.schedule.model_copy(
            update={"iterations": 6, "warmup_iterations": 2, "steps": (4,), "batch_size": 2, "base_lr": 0.005}
        )
        protocol = run.protocol.model_copy(update={"schedule": schedule})
        found = find_variant(variant, "test")
        chosen = chosen_variant(found, found.card.complete_options(options, "test"), "test")
        return run.model_copy(update={"protocol": protocol, "variant": chosen})

    return make


@pytest.fixture
def execution() -> Execution:
    """Checkpoints every three iterations."""
    return Execution(checkpoint_interval=3, log_interval=1)
