"""Everything that training and testing use, built in one place: controls are read from the very same objects."""

from collections.abc import Sequence

from mmengine.dataset import pseudo_collate
from torch import nn

from adapters.inspection.assembly import assemble_for_inspection
from adapters.mmdet.config import build_detector
from adapters.mmdet.data import ImageReader
from adapters.mmdet.training import SessionRunner
from adapters.training.assembly import Built, assemble_training
from adapters.training.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder
from cascadebench.study.run import Run


def assemble(
    run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
) -> Built:
    """Build everything around a model."""
    return assemble_training(run, model, records, order, session, ImageReader, pseudo_collate, SessionRunner)


def build(run: Run) -> Built:
    """Build a run's objects for inspection."""
    return assemble_for_inspection(run, build_detector, assemble)


def train(
    run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
) -> None:
    """Train with MMEngine's runner from the session's first iteration to the last."""
    assemble(run, model, records, order, session).engine.train()
