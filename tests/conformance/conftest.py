"""One variant at a time, in every framework that its card names."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from adapters.commands import load_adapter
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.variant_catalog import FoundVariant, find_variant
from cascadebench.study.run import Run
from cascadebench.study.study import PlannedRun
from cascadebench.study.study_file import Execution
from cascadebench.study_loading import load_study

sys.path.append(str(Path(__file__).parents[1] / "parity"))
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def found(variant_name, request) -> FoundVariant:
    """The variant's card."""
    folders = [Path(folder) for folder in request.config.getoption("--variant-folder")]
    return find_variant(variant_name, "--variant", folders)


@pytest.fixture(scope="module")
def study(found, request, tmp_path_factory):
    """The variant beside the baseline, in every framework of its card, four iterations each."""
    folder = tmp_path_factory.mktemp("conformance")
    folders = [str(Path(one).resolve()) for one in request.config.getoption("--variant-folder")]
    entries = [{"variant": "faster_rcnn", "label": "baseline"}, {"variant": found.card.name, "label": "examined"}]
    if found.card.name == "faster_rcnn":
        entries = entries[:1]
    content = {
        "name": "conformance",
        "title": "Conformance",
        "dataset": "shapes",
        "protocol": "tiny",
        "protocol_override": {
            "schedule": {"iterations": 4, "batch_size": 2, "base_lr": 0.005, "warmup_iterations": 2, "steps": [3]},
            "inference": {"score_threshold": 0.0},
        },
        "frameworks": list(found.card.frameworks),
        "backbones": ["resnet18_narrow"],
        "variants": entries,
        "baseline": "baseline",
        "seeds": [0],
        "variant_folders": folders,
    }
    path = folder / "conformance.yaml"
    path.write_text(json.dumps(content))
    return load_study(str(path))


@pytest.fixture(scope="module", params=["mmdet", "detectron2"])
def planned(request, study, found) -> PlannedRun:
    """The run under examination in one framework."""
    if request.param not in found.card.frameworks:
        pytest.skip(f"the card of {found.card.name} does not name {request.param}")
    return next(one for one in reversed(study.runs) if one.run.framework == request.param)


@pytest.fixture(scope="module")
def run(planned) -> Run:
    """The run under examination."""
    return planned.run


@pytest.fixture(scope="module")
def adapter(run):
    """Its framework's adapter."""
    return load_adapter(run.framework)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[ImageRecord]:
    """Six small images: four with rectangles, one of them portrait, one without ground truth, one of a single grey."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    found = []
    for number in range(6):
        width, height = (96, 128) if number == 1 else (128, 96)
        noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(np.full_like(noise, 128) if number == 5 else noise)
        boxes = []
        for _ in range(0 if number >= 4 else 1 + number % 2):
            x, y = (int(value) for value in random.integers(0, 50, 2))
            box = (x, y, x + int(random.integers(20, 45)), y + int(random.integers(20, 45)))
            ImageDraw.Draw(picture).rectangle(box, fill=tuple(int(value) for value in random.integers(0, 256, 3)))
            boxes.append(box)
        path = folder / f"{number}.png"
        picture.save(path)
        array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        labels = np.arange(len(boxes), dtype=np.int64)
        masks = tuple([np.array([x, y, right, y, right, bottom, x, bottom])] for x, y, right, bottom in boxes)
        found.append(ImageRecord(10 + number, path, width, height, array, labels, masks))
    return found


@pytest.fixture
def execution() -> Execution:
    """A checkpoint every two iterations."""
    return Execution(checkpoint_interval=2, log_interval=10)
