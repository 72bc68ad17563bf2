"""One variant at a time, in every framework that its card names."""

import json
from pathlib import Path

import pytest
import torch
from drawn_images import rectangles

from adapters.commands import load_adapter
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.variant_catalog import FoundVariant, find_variant
from cascadebench.study.run import Run
from cascadebench.study.study import PlannedRun
from cascadebench.study.study_file import Execution
from cascadebench.study_loading import load_study

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def found(variant_name, request) -> FoundVariant:
    """The variant's card."""
    folders = [Path(folder) for folder in request.config.getoption("--variant-folder")]
    return find_variant(variant_name, "--variant", folders)


@pytest.fixture(scope="module")
def study(found, request, tmp_path_factory):
    """The variant beside the baseline, in every framework of its card, four iterations each."""
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
    path = tmp_path_factory.mktemp("conformance") / "conformance.yaml"
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
    return rectangles(tmp_path_factory.mktemp("images"), seen=4, grey=True)


@pytest.fixture(scope="session")
def execution() -> Execution:
    """A checkpoint every two iterations."""
    return Execution(checkpoint_interval=2, log_interval=10)
