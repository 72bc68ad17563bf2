"""The contract between the pipeline and a framework's adapter.

An adapter is a module ``adapters/<framework>/adapter.py`` with an object ``ADAPTER``, an :class:`Adapter`. The
command line (``python -m adapters``) does everything else: reading the run, writing the files, logging, checkpoints.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from adapters.data.training_dataset import ImageReader, TrainingDataset
from adapters.inspection.probe_inputs import planned_order, probe_records
from adapters.prediction.given_proposals import GivenProposals
from adapters.training.assembly import Built, Engine
from adapters.training.seeding import seed_everything
from adapters.training.training_loader import training_loader
from adapters.training.training_session import TrainingSession
from adapters.weights.backbone_weights import fill_backbone
from adapters.witness.framework import WitnessedFramework
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.determinism.training_order import TrainingOrder
from cascadebench.diagnostics.observations import ImageObservation
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution


@dataclass(frozen=True)
class Control:
    """One effective value, read back from a built object.

    Attributes
    ----------
    name : str
        Common name, e.g. ``rpn.nms_iou``; the same in every framework.
    value : bool, int, float, str, None or a list of them
        As the object holds it, in the common unit.
    read_from : str
        The attribute it was read from, as code.
    """

    name: str
    value: Any
    read_from: str


@dataclass(frozen=True)
class Detections:
    """Detections of one test stage on one image.

    Attributes
    ----------
    boxes : ndarray, float32 [N, 4]
        x1, y1, x2, y2 in pixels of the original image.
    scores : ndarray, float32 [N]
        In [0, 1].
    labels : ndarray, int64 [N]
        Position of the category in the dataset card, from 0.
    masks : sequence of str or None
        For every box the run lengths of its mask over the original image, in COCO's text
        (:mod:`cascadebench.datasets.masks`); None: this test stage has no masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Sequence[str] | None = None


@dataclass(frozen=True)
class Prediction:
    """Everything that one pass over one image gives.

    Attributes
    ----------
    image_id : int
        Image id of the annotation file.
    proposals : Detections
        RPN proposals; scores are objectness in [0, 1], labels are all 0.
    test_stages : dict of str to Detections
        By label of the test stage (:class:`cascadebench.detectors.inference_stages.TestStage`).
    observe : callable or None
        Gives the RoIs and boxes of every stage of the same pass, and the RPN's candidates if its argument is true.
    quality : callable or None
        Gives detections of every whole head (classifier and regressor) on the RoIs of every stage, by label of the cell
        (:class:`cascadebench.diagnostics.observations.QualityStage`); none with one regressor in a row.

    The two are called apart, so that they have no part in the time of a prediction. They hold what the stages gave:
    drop them when they have been called.
    """

    image_id: int
    proposals: Detections
    test_stages: dict[str, Detections]
    observe: Callable[[bool], ImageObservation] | None = None
    quality: Callable[[], dict[str, Detections]] | None = None


class Adapter(ABC):
    """What a framework gives, and what follows from it in every framework. Models live on the CPU until they are moved.

    Attributes
    ----------
    image_reader : callable
        From a run to what reads its images (:class:`adapters.data.training_dataset.ImageReader`).
    collate : callable
        From a list of items to a batch.
    engine : callable
        From run, model, loader and session to the framework's loop (:class:`adapters.training.assembly.Engine`).
    witnessed : module
        What the witness asks of the framework.
    """

    image_reader: Callable[[Run], ImageReader]
    collate: Callable[[list], Any]
    engine: Callable[[Run, nn.Module, DataLoader, TrainingSession], Engine]
    witnessed: WitnessedFramework

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Name and version of every package of the framework, and what serves its operators."""

    @abstractmethod
    def build_model(self, run: Run) -> nn.Module:
        """Build the detector of a run with random initial weights; the caller has seeded torch."""

    @abstractmethod
    def read_controls(self, built: Built) -> list[Control]:
        """Read every control of :mod:`cascadebench.controls.definitions` back from what was built."""

    @abstractmethod
    def common_names(self, run: Run) -> Callable[[str], str | None]:
        """Return what translates names of a run's state dict (:mod:`cascadebench.determinism.initial_weights`)."""

    @abstractmethod
    def trace_parts(
        self, model: nn.Module, run: Run, width: int, height: int, rois: int
    ) -> list[tuple[nn.Module, tuple]]:
        """Modules and example inputs whose operations add up to one inference, for counting FLOPs."""

    @abstractmethod
    def predict_one(
        self,
        model: nn.Module,
        record: ImageRecord,
        image: dict[str, Any],
        test_stages: Sequence[TestStage],
        given: GivenProposals | None = None,
    ) -> Prediction:
        """Detect on one image as the reader gave it, in one forward pass; `given`: with other proposals."""

    def load_backbone_weights(self, model: nn.Module, run: Run) -> None:
        """Fill the backbone from the run's file of weights; raises InputError if it does not fit."""
        fill_backbone(model, self.common_names(run), run)

    def assemble(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
    ) -> Built:
        """Build everything around a model: what an inspection reads, and what trains."""
        dataset = TrainingDataset(self.image_reader(run), records, order)
        loader = training_loader(dataset, order, session, self.collate)
        return Built(run, model, self.engine(run, model, loader, session), session, self.image_reader(run))

    def build(self, run: Run) -> Built:
        """Build a model and everything around it for an inspection: nothing is read and nothing written.

        torch's random state is that of the run's seed afterwards.
        """
        seed_everything(run.seed)  # as training does before it builds the model
        model = self.build_model(run)
        # A session in no folder finds no checkpoint, and opens no log before it is told to restore.
        session = TrainingSession(run, Path(os.devnull), torch.device("cpu"), Execution())
        return self.assemble(run, model, probe_records(), planned_order(run), session)

    def train(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
    ) -> None:
        """Train with the framework's own engine from ``session.start`` to the end of the schedule."""
        self.assemble(run, model, records, order, session).engine.train()

    def predict(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], given: GivenProposals | None = None
    ) -> Iterator[Prediction]:
        """Detect on every record on the model's device; all test stages come from one pass."""
        reader = self.image_reader(run)
        for record in records:
            yield self.predict_one(model, record, reader.test_image(record), run.variant.test_stages, given)
