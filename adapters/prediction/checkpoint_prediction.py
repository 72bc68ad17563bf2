"""``python -m adapters FRAMEWORK predict-checkpoint``: detections of a checkpoint that was trained elsewhere.

Nothing of it is under control: the framework's own configuration file decides model, preprocessing and testing. What it
detects is imported as detections from outside are.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from adapters.prediction.predict_image import Detections
from adapters.prediction.prediction_files import detection_columns
from adapters.weights.caffe_pickle import first_line, read_arrays
from cascadebench.core.errors import InputError
from cascadebench.core.files import sha256_of
from cascadebench.datasets.card import load_dataset_card
from cascadebench.datasets.prepared import ImageRecord, load_split
from cascadebench.detectors.inference_stages import TestStage, all_test_stages
from cascadebench.imported.importing import FINAL, About, import_rows
from cascadebench.imported.record import SourceFile
from cascadebench.results.layout import ResultsFolder


class StockModel(Protocol):
    """A detector as a framework's own configuration file builds it: ``stock_model.py`` of every adapter has one."""

    model: nn.Module
    classes: int
    """Number of classes that it tells apart."""
    stages: int
    """Stages that can be read one by one; 0: nothing but what the framework itself puts out."""

    def predict(self, record: ImageRecord) -> dict[str, Detections]:
        """Detect on one image: what the framework puts out as ``final``, and the test stages of a cascade."""


@dataclass(frozen=True)
class CheckpointJob:
    """What the command line asks for; :func:`parse` says what each is."""

    framework: str
    command: str
    config: Path
    checkpoint: Path
    dataset: str
    out: Path
    title: str
    notes: str
    headline: str
    gpus: int
    threads: int


def parse(argv: list[str]) -> CheckpointJob:
    """Read the command line; a wrong one exits with code 2."""
    parser = argparse.ArgumentParser(prog="python -m adapters", description=__doc__.splitlines()[0])
    parser.add_argument("framework")
    parser.add_argument("command", choices=["predict-checkpoint"])
    parser.add_argument("--config", type=Path, required=True, help="the framework's configuration file")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights: .pth; Detectron2 also .pkl")
    parser.add_argument("--dataset", required=True, help="dataset card, prepared; its validation images")
    parser.add_argument("--out", type=Path, required=True, help="results/imported/NAME")
    parser.add_argument("--title", default="", help="label in tables and pictures; default: NAME")
    parser.add_argument("--notes", default="", help="where the checkpoint comes from; printed in the report")
    parser.add_argument("--headline", default=FINAL, help="test stage that stands for the model")
    parser.add_argument("--gpus", type=int, choices=[0, 1], default=0)
    parser.add_argument("--threads", type=int, default=1)
    return CheckpointJob(**vars(parser.parse_args(argv)))


def predict_checkpoint(
    stock_model: Any, job: CheckpointJob, device: torch.device, made_with: Mapping[str, Any]
) -> None:
    """Detect on the validation images with a checkpoint, import the detections and evaluate them.

    Parameters
    ----------
    stock_model : module
        ``stock_model.py`` of the adapter.
    made_with : mapping
        Framework, versions and device.
    """
    if job.out.parent.name != ResultsFolder.all_imported:
        raise InputError(f"--out: {job.out}; results/imported/NAME is expected")
    results, dataset = job.out.parent.parent, load_dataset_card(job.dataset)
    data = ResultsFolder(results).dataset(dataset.name)
    if not data.lock.exists():
        prepare = f"`cascadebench prepare {job.dataset} --out {data.path}`"
        raise InputError(f"{data.path}: not prepared; {prepare} does it")
    split = load_split(data.path, "val")
    for path in (job.config, job.checkpoint):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    stock: StockModel = stock_model.load(job.config, device)
    if stock.classes != len(split.category_ids):
        has = (
            f"dataset {dataset.name} has {len(split.category_ids)}; they are mapped in order, so the numbers must agree"
        )
        raise InputError(f"{job.config}: the model tells {stock.classes} classes apart, {has}")
    load_weights(stock.model, job.checkpoint)
    found = []
    for record in split.records:
        record.picture_bytes()  # the framework's own pipeline reads it once more; here it is compared
        found.append((record.id, stock.predict(record)))
    columns = detection_columns(found, np.array(split.category_ids))
    sources = [SourceFile(name=path.name, sha256=sha256_of(path)) for path in (job.config, job.checkpoint)]
    about = About(job.title, job.notes, job.headline, made_with, sources)
    rows = pd.DataFrame({name: column for name, column in columns.items() if name != "segmentation"})
    name, stages = job.out.name, list(found[0][1])
    import_rows(name, dataset.name, results, rows, stages, about, str(job.checkpoint))


@contextmanager
def building(config: Path) -> Iterator[None]:
    """Turn whatever a configuration raises while a detector is built from it into one InputError."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{config}: no detector could be built from it: {first_line(error)}") from error


def own_stages(stages: int) -> list[TestStage]:
    """Test stages of a cascade that one pass of the framework's own test gives: all but those on the last RoIs."""
    return [stage for stage in all_test_stages(stages, stages) if stage.rule != "last_rois"] if stages > 1 else []


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint into a model; every tensor must find its place.

    Raises
    ------
    InputError
        If the file cannot be read without running code from it, or its tensors are not the model's.
    """
    given = read_weights(path)
    own = model.state_dict()
    # Some versions save what others compute: means of pixels and corners of anchors.
    computed = ("pixel_mean", "pixel_std", "cell_anchors", "num_batches_tracked")
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in own and not any(word in name for word in computed)]
    shapes = [name for name in own if name in given and own[name].shape != given[name].shape]
    for names, what in ((missing, "lacks"), (unknown, "has, but not the model,"), (shapes, "has in another shape")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(f"{path}: {what} {names[0]}{more}; does the configuration belong to it?")
    model.load_state_dict({name: given[name] for name in own if name in given}, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name; a ``.pkl`` is read as arrays, anything else by torch, and neither runs code."""
    if path.suffix == ".pkl":
        return {str(name): torch.from_numpy(np.asarray(array)) for name, array in read_arrays(path).items()}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"{path}: not read as a checkpoint of tensors: {first_line(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: holds no tensors by name, bare or under 'state_dict' or 'model'")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}
