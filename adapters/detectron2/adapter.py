"""Detectron2's side of the contract."""

from collections.abc import Iterator, Sequence
from importlib import metadata

import detectron2
import torchvision
from torch import nn

from adapters.contract import Control, Prediction
from adapters.detectron2.assembly import Built, build, train
from adapters.detectron2.config import build_detector
from adapters.detectron2.controls import read_controls
from adapters.detectron2.cost import trace_parts
from adapters.detectron2.data import ImageReader
from adapters.detectron2.inference import predict_one
from adapters.detectron2.operators import operators_in_use, origin
from adapters.detectron2.weights import common_name, common_names, load_backbone_weights
from adapters.prediction.given_proposals import GivenProposals
from adapters.training.training_session import TrainingSession
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import TrainingOrder
from cascadebench.study.run import Run


class Detectron2Adapter:
    """Keeps :class:`adapters.contract.Adapter`."""

    def versions(self) -> dict[str, str]:
        """Versions of Detectron2 and its base library, where it comes from, and what serves its operators."""
        return {
            "detectron2": detectron2.__version__,
            "detectron2 origin": origin(),
            "fvcore": metadata.version("fvcore"),
            "torchvision": torchvision.__version__,
            "detectron2 operators": operators_in_use(),
        }

    def build_model(self, run: Run) -> nn.Module:
        """Build the detector with its initial weights."""
        return build_detector(run)

    def load_backbone_weights(self, model: nn.Module, run: Run) -> None:
        """Fill the backbone from the run's file."""
        load_backbone_weights(model, run)

    def build(self, run: Run) -> Built:
        """Build everything that training and testing use."""
        return build(run)

    def read_controls(self, built: Built) -> list[Control]:
        """Read the effective values back."""
        return read_controls(built)

    def common_name(self, name: str, run: Run | None = None) -> str | None:
        """Translate a name of a weight."""
        return common_names(run)(name) if run else common_name(name)

    def trace_parts(
        self, model: nn.Module, run: Run, width: int, height: int, rois: int
    ) -> list[tuple[nn.Module, tuple]]:
        """Split one inference into parts that can be traced."""
        return trace_parts(model, run, width, height, rois)

    def train(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], order: TrainingOrder, session: TrainingSession
    ) -> None:
        """Train with Detectron2's trainer."""
        train(run, model, records, order, session)

    def predict(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], given: GivenProposals | None = None
    ) -> Iterator[Prediction]:
        """Detect on every record; all test stages come from one pass."""
        reader = ImageReader(run)
        for record in records:
            yield predict_one(model, record, reader.test_image(record), run.variant.test_stages, given)


ADAPTER = Detectron2Adapter()
