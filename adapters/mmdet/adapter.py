"""MMDetection's side of the contract."""

import mmcv
import mmdet
import mmengine
from mmcv.ops import batched_nms  # noqa: F401 (fails here, early, if mmcv has no operators)
from mmengine.dataset import pseudo_collate
from torch import nn

from adapters.contract import Adapter
from adapters.mmdet import witness
from adapters.mmdet.config import build_detector
from adapters.mmdet.controls import read_controls
from adapters.mmdet.cost import trace_parts
from adapters.mmdet.data import ImageReader
from adapters.mmdet.inference import predict_one
from adapters.mmdet.operators import operators_in_use
from adapters.mmdet.training import SessionRunner
from adapters.mmdet.weights import common_names
from cascadebench.study.run import Run


class MMDetectionAdapter(Adapter):
    """What MMDetection gives."""

    build_model = staticmethod(build_detector)
    common_names = staticmethod(common_names)
    image_reader, collate, engine = ImageReader, staticmethod(pseudo_collate), SessionRunner
    witnessed = witness
    predict_one = staticmethod(predict_one)
    read_controls = staticmethod(read_controls)

    def versions(self) -> dict[str, str]:
        """Versions of OpenMMLab's packages and what serves mmcv's operators."""
        return {
            "mmdet": mmdet.__version__,
            "mmcv": mmcv.__version__,
            "mmengine": mmengine.__version__,
            "mmcv operators": operators_in_use(),
        }

    def trace_parts(
        self, model: nn.Module, run: Run, width: int, height: int, rois: int
    ) -> list[tuple[nn.Module, tuple]]:
        """Split one inference into parts that can be traced."""
        return trace_parts(model, run, width, height, rois)


ADAPTER = MMDetectionAdapter()
