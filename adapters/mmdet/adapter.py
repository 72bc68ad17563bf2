"""MMDetection's side of the contract."""

from operator import attrgetter

import mmcv
import mmdet
import mmengine
from mmcv.ops import batched_nms  # noqa: F401 (fails here, early, if mmcv has no operators)
from mmengine.dataset import pseudo_collate

from adapters.contract import Adapter
from adapters.mmdet import witness
from adapters.mmdet.config import build_detector
from adapters.mmdet.controls import backbone, heads, images, inference, proposals, training
from adapters.mmdet.data import ImageReader
from adapters.mmdet.inference import dense_outputs, proposed
from adapters.mmdet.operators import operators_in_use
from adapters.mmdet.training import SessionRunner
from adapters.mmdet.weights import common_name


class MMDetectionAdapter(Adapter):
    """What MMDetection gives."""

    build_detector = staticmethod(build_detector)
    common_name = staticmethod(common_name)
    image_reader, collate, engine = ImageReader, staticmethod(pseudo_collate), SessionRunner
    witnessed = witness
    roi_heads = staticmethod(attrgetter("roi_head"))
    dense_outputs, proposed = staticmethod(dense_outputs), staticmethod(proposed)
    control_parts = (training, images, backbone, proposals, heads, inference)

    def versions(self) -> dict[str, str]:
        """Versions of OpenMMLab's packages and what serves mmcv's operators."""
        return {
            "mmdet": mmdet.__version__,
            "mmcv": mmcv.__version__,
            "mmengine": mmengine.__version__,
            "mmcv operators": operators_in_use(),
        }


ADAPTER = MMDetectionAdapter()
