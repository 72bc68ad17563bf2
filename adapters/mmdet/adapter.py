"""MMDetection's side of the contract."""

from collections.abc import Iterator, Sequence

import mmcv
import mmdet
import mmengine
from mmcv.ops import batched_nms  # noqa: F401 (fails here, early, if mmcv has no operators)
from torch import nn

from adapters.contract import Prediction
from adapters.mmdet.assembly import build, train
from adapters.mmdet.config import build_detector
from adapters.mmdet.controls import read_controls
from adapters.mmdet.cost import trace_parts
from adapters.mmdet.data import ImageReader
from adapters.mmdet.inference import predict_one
from adapters.mmdet.operators import operators_in_use
from adapters.mmdet.weights import common_name, common_names, load_backbone_weights
from adapters.prediction.given_proposals import GivenProposals
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.study.run import Run


class MMDetectionAdapter:
    """Keeps :class:`adapters.contract.Adapter`."""

    build_model = staticmethod(build_detector)
    load_backbone_weights = staticmethod(load_backbone_weights)
    build = staticmethod(build)
    train = staticmethod(train)
    read_controls = staticmethod(read_controls)

    def versions(self) -> dict[str, str]:
        """Versions of OpenMMLab's packages and what serves mmcv's operators."""
        return {
            "mmdet": mmdet.__version__,
            "mmcv": mmcv.__version__,
            "mmengine": mmengine.__version__,
            "mmcv operators": operators_in_use(),
        }

    def common_name(self, name: str, run: Run | None = None) -> str | None:
        """Translate a name of the model's state dict."""
        return common_names(run)(name) if run else common_name(name)

    def trace_parts(
        self, model: nn.Module, run: Run, width: int, height: int, rois: int
    ) -> list[tuple[nn.Module, tuple]]:
        """Split one inference into parts that can be traced."""
        return trace_parts(model, run.variant.headline, width, height, rois)

    def predict(
        self, run: Run, model: nn.Module, records: Sequence[ImageRecord], given: GivenProposals | None = None
    ) -> Iterator[Prediction]:
        """Detect on every record; all test stages come from one pass."""
        reader = ImageReader(run)
        for record in records:
            yield predict_one(model, record, reader.test_image(record), run.variant.test_stages, given)


ADAPTER = MMDetectionAdapter()
