"""Detectron2's side of the contract."""

from importlib import metadata

import detectron2
import torchvision
from detectron2.data.build import trivial_batch_collator

from adapters.contract import Adapter
from adapters.detectron2 import witness
from adapters.detectron2.config import build_detector
from adapters.detectron2.controls import read_controls
from adapters.detectron2.cost import trace_parts
from adapters.detectron2.data import ImageReader
from adapters.detectron2.inference import predict_one
from adapters.detectron2.operators import operators_in_use, origin
from adapters.detectron2.training import SessionTrainer
from adapters.detectron2.weights import common_names


class Detectron2Adapter(Adapter):
    """What Detectron2 gives."""

    build_model = staticmethod(build_detector)
    common_names = staticmethod(common_names)
    image_reader, collate, engine = ImageReader, staticmethod(trivial_batch_collator), SessionTrainer
    witnessed = witness
    predict_one = staticmethod(predict_one)
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


ADAPTER = Detectron2Adapter()
