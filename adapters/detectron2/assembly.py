"""Everything that training and testing use, built in one place: controls are read from the very same objects."""

from collections.abc import Sequence

from detectron2.data.build import trivial_batch_collator
from torch import nn

from adapters.detectron2.config import build_detector
from adapters.detectron2.data import ImageReader
from adapters.detectron2.training import SessionTrainer
from adapters.inspection.assembly import assemble_for_inspection
from adapters.training.assembly import Built, assemble_training
from adapters.training.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder
from cascadebench.study.run import Run


def assemble(
    run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
) -> Built:
    """Build everything around a model."""
    return assemble_training(run, model, records, order, session, ImageReader, trivial_batch_collator, SessionTrainer)


def build(run: Run) -> Built:
    """Build a run's objects for inspection."""
    return assemble_for_inspection(run, build_detector, assemble)


def train(
    run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
) -> None:
    """Train with Detectron2's trainer from the session's first iteration to the last."""
    assemble(run, model, records, order, session).engine.train()
