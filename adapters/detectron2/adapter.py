"""Detectron2's side of the contract."""

from importlib import metadata
from operator import attrgetter

import detectron2
import torchvision
from detectron2.data.build import trivial_batch_collator

from adapters.contract import Adapter
from adapters.detectron2 import witness
from adapters.detectron2.config import build_detector
from adapters.detectron2.controls import backbone, heads, images, inference, proposals, training
from adapters.detectron2.data import ImageReader
from adapters.detectron2.inference import dense_outputs, proposed
from adapters.detectron2.operators import operators_in_use, origin
from adapters.detectron2.training import SessionTrainer
from adapters.detectron2.weights import common_name


class Detectron2Adapter(Adapter):
    """What Detectron2 gives."""

    build_detector = staticmethod(build_detector)
    common_name = staticmethod(common_name)
    image_reader, collate, engine = ImageReader, staticmethod(trivial_batch_collator), SessionTrainer
    witnessed = witness
    roi_heads = staticmethod(attrgetter("roi_heads"))
    dense_outputs, proposed = staticmethod(dense_outputs), staticmethod(proposed)
    control_parts = (training, images, backbone, proposals, heads, inference)

    def versions(self) -> dict[str, str]:
        """Versions of Detectron2 and its base library, where it comes from, and what serves its operators."""
        return {
            "detectron2": detectron2.__version__,
            "detectron2 origin": origin(),
            "fvcore": metadata.version("fvcore"),
            "torchvision": torchvision.__version__,
            "detectron2 operators": operators_in_use(),
        }


ADAPTER = Detectron2Adapter()
