"""Training, prediction and parity on a GPU. Without one nothing of this is tested anywhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from device_parity import VARIANTS, measure
from study_for_gpu import shortened, write_study

from adapters.training.arithmetic import set_arithmetic
from adapters.training.shared_sampling import draw
from cascadebench.core.configuration import PROJECT
from cascadebench.datasets.prepare import prepare
from cascadebench.study.run import Run
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="missing resource: an NVIDIA GPU that torch sees")
FRAMEWORKS = ("mmdet", "detectron2")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, Study]:
    """Few drawn shapes, prepared, and the embedded study on them."""
    folder = tmp_path_factory.mktemp("gpu")
    write_study(folder / "trial.yaml", "tiny", 12, None, "few_shapes", 1)
    study = load_study(str(folder / "trial.yaml"))
    prepare(study.dataset, folder / "few_shapes")
    return folder / "few_shapes", study


def adapters(command: str, run: Run, folder: Path, data: Path, gpus: int) -> dict:
    """Run one command of an adapter; return the manifest that it writes."""
    run.write(folder / "run.yaml")
    arguments = ["--run", folder / "run.yaml", "--out", folder, "--data", data, "--gpus", str(gpus)]
    done = subprocess.run(
        [sys.executable, "-m", "adapters", run.framework, command, *arguments],
        capture_output=True, text=True, check=False, cwd=PROJECT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / {"train": "trained.json", "predict": "predicted.json"}[command]).read_text())


def of_variant(study: Study, framework: str, variant: str) -> Run:
    """Find the study's run of a variant, six iterations long."""
    runs = [planned.run for planned in study.runs]
    return shortened(next(run for run in runs if (run.framework, run.variant.name) == (framework, variant)), 6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_device_agrees_with_the_cpu(variant):
    """Bounds that float32 sums of another order stay within; TF32 would not."""
    set_arithmetic(deterministic=False)
    found = measure(variant, torch.device("cuda", 0))
    for side, one in found.items():
        assert one["features"] <= 1e-3, (side, one)
        assert one["boxes"] <= 1e-2, (side, one)
        assert one["logits"] <= 1e-3, (side, one)


def test_the_device_draws_what_the_cpu_draws():
    positive = torch.arange(200_000) % 900 == 0
    here, there = (draw(one, ~one, 256, 0.5, seed=1) for one in (positive, positive.cuda()))
    assert all(other.is_cuda and torch.equal(one, other.cpu()) for one, other in zip(here, there, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_detector_trains_and_predicts(framework, variant, prepared, tmp_path):
    data, study = prepared
    run = of_variant(study, framework, variant)
    trained = adapters("train", run, tmp_path, data, gpus=1)
    assert trained["device"] == torch.cuda.get_device_name(0)
    assert trained["peak_memory_mb"] > 0
    assert trained["arithmetic"]["tf32_convolutions"] is trained["arithmetic"]["tf32_products"] is False
    assert trained["hardware"]["gpu"] == trained["device"] and trained["hardware"]["driver"]
    assert adapters("predict", run, tmp_path, data, gpus=1)["device"] == torch.cuda.get_device_name(0)
    assert adapters("predict", run, tmp_path, data, gpus=0)["device"].startswith("CPU")  # from the same checkpoint


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="missing resource: two NVIDIA GPUs")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_two_gpus_share_each_batch(framework, prepared, tmp_path):
    data, study = prepared
    trained = adapters("train", of_variant(study, framework, "cascade_rcnn"), tmp_path, data, gpus=2)
    assert trained["processes"] == 2
