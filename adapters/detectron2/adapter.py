"""Detectron2's side of the contract."""

from collections.abc import Iterator, Sequence
from importlib import metadata

import detectron2
import torchvision
from torch import nn

from adapters.contract import Prediction
from adapters.detectron2.assembly import build, train
from adapters.detectron2.config import build_detector
from adapters.detectron2.controls import read_controls
from adapters.detectron2.cost import trace_parts
from adapters.detectron2.data import ImageReader
from adapters.detectron2.inference import predict_one
from adapters.detectron2.operators import operators_in_use, origin
from adapters.detectron2.weights import common_name, common_names, load_backbone_weights
from adapters.prediction.given_proposals import GivenProposals
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.run import Run


class Detectron2Adapter:
    """Keeps :class:`adapters.contract.Adapter`."""

    build_model = staticmethod(build_detector)
    load_backbone_weights = staticmethod(load_backbone_weights)
    build = staticmethod(build)
    train = staticmethod(train)
    read_controls = staticmethod(read_controls)
    trace_parts = staticmethod(trace_parts)

    def versions(self) -> dict[str, str]:
        """Versions of Detectron2 and its base library, where it comes from, and what serves its operators."""
        return {
            "detectron2": detectron2.__version__,
            "detectron2 origin": origin(),
            "fvcore": metadata.version("fvcore"),
            "torchvision": torchvision.__version__,
            "detectron2 operators": operators_in_use(),
        }

    def common_name(self, name: str, run: Run | None = None) -> str | None:
        """Translate a name of a weight."""
        return common_names(run)(name) if run else common_name(name)

    def predict(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], given: GivenProposals | None = None
    ) -> Iterator[Prediction]:
        """Detect on every record; all test stages come from one pass."""
        reader = ImageReader(run)
        for record in records:
            yield predict_one(model, record, reader.test_image(record), run.variant.test_stages, given)


ADAPTER = Detectron2Adapter()
