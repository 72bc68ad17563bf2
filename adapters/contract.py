"""The contract between the pipeline and a framework's adapter.

An adapter is a module ``adapters/<framework>/adapter.py`` with an object ``ADAPTER``, an :class:`Adapter`. The
command line (``python -m adapters``) does everything else: reading the run, writing the files, logging, checkpoints.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from adapters.data.training_dataset import ImageReader, TrainingDataset
from adapters.detector.cascade_stages import CascadeStages
from adapters.inspection.control_rows import Control, read_rows
from adapters.inspection.probe_inputs import planned_order, probe_records
from adapters.prediction.given_proposals import GivenProposals
from adapters.prediction.predict_image import Prediction, ProposedImage, predict_image
from adapters.training.assembly import Built, Engine
from adapters.training.seeding import seed_everything
from adapters.training.training_loader import training_loader
from adapters.training.training_session import TrainingSession
from adapters.weights.initial_weights import fill_with_common_weights
from adapters.weights.weight_names import with_own_names
from adapters.witness.framework import WitnessedFramework
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.determinism.training_order import TrainingOrder
from cascadebench.study.run import Run
from cascadebench.study.study_file import Execution


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
    control_parts : sequence of module
        Whose ``rows`` read the controls back from what was built.
    """

    image_reader: Callable[[Run], ImageReader]
    collate: Callable[[list], Any]
    engine: Callable[[Run, nn.Module, DataLoader, TrainingSession], Engine]
    witnessed: WitnessedFramework
    control_parts: Sequence[ModuleType]

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Name and version of every package of the framework, and what serves its operators."""

    @abstractmethod
    def build_detector(self, run: Run) -> nn.Module:
        """Build the detector of a run; under the framework's own rules with the weights that it draws itself."""

    @abstractmethod
    def common_name(self, name: str) -> str | None:
        """Translate a state dict's name (:mod:`cascadebench.determinism.initial_weights`); None: it holds no weights.

        Raises ValueError for a name that no detector of the project has.
        """

    @abstractmethod
    def roi_heads(self, model: nn.Module) -> CascadeStages:
        """What of a detector runs on RoIs."""

    @abstractmethod
    def dense_outputs(self, model: nn.Module, image: Tensor) -> list[Tensor]:
        """What backbone, neck and RPN head give of normalised images [N, 3, H, W]."""

    @abstractmethod
    def proposed(self, model: nn.Module, record: ImageRecord, image: dict[str, Any]) -> ProposedImage:
        """Run one image as the reader gave it through a detector in evaluation mode, up to its proposals."""

    def common_names(self, run: Run) -> Callable[[str], str | None]:
        """Return what translates a run's names: :meth:`common_name`, and its variant for the layers that it adds."""
        return with_own_names(self.common_name, run)

    def build_model(self, run: Run) -> nn.Module:
        """Build the detector of a run with random initial weights; the caller has seeded torch.

        They are the library's, from the run's seed, or under the framework's own rules those that it draws.
        """
        model = self.build_detector(run)
        if run.protocol.rules == "aligned":
            fill_with_common_weights(model, self.common_names(run), run)
        return model

    def assemble(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
    ) -> Built:
        """Build everything around a model: what an inspection reads, and what trains."""
        dataset = TrainingDataset(self.image_reader(run), records, order)
        loader = training_loader(dataset, order, session, self.collate)
        return Built(run, model, self.engine(run, model, loader, session), session, self.image_reader(run))

    def read_controls(self, built: Built) -> list[Control]:
        """Read every control of :mod:`cascadebench.controls.definitions`; what was built is left as it was."""
        return read_rows(built, [part.rows for part in self.control_parts])

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

    @torch.inference_mode()
    def predict_one(
        self,
        model: nn.Module,
        record: ImageRecord,
        image: dict[str, Any],
        test_stages: Sequence[TestStage],
        given: GivenProposals | None = None,
    ) -> Prediction:
        """Detect on one image as the reader gave it, in one forward pass; `given`: with other proposals."""
        return predict_image(self.roi_heads(model), self.proposed(model, record, image), record, test_stages, given)

    def predict(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], given: GivenProposals | None = None
    ) -> Iterator[Prediction]:
        """Detect on every record on the model's device; all test stages come from one pass."""
        reader = self.image_reader(run)
        for record in records:
            yield self.predict_one(model, record, reader.test_image(record), run.variant.test_stages, given)
