"""From a picture to the tensor that the model sees."""

from collections.abc import Iterator

import numpy as np
from mmcv.transforms import Compose
from mmdet.datasets.transforms import Resize
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate

from adapters.inspection.control_rows import Row, one_or_all, rounded
from adapters.inspection.image_probes import ProbedImages, image_rows
from adapters.training.assembly import Built


def rows(built: Built) -> Iterator[Row]:
    """Yield ``input.*``."""
    preprocessor = built.model.data_preprocessor
    yield "input.pixel_mean", rounded(preprocessor.mean), "data_preprocessor.mean"
    yield "input.pixel_std", rounded(preprocessor.std), "data_preprocessor.std"
    # MMDetection reads BGR; the preprocessor swaps it.
    order = "rgb" if preprocessor._channel_conversion else "bgr"
    yield "input.channel_order", order, "data_preprocessor._channel_conversion"
    yield "input.size_divisor", preprocessor.pad_size_divisor, "data_preprocessor.pad_size_divisor"
    both = built.dataset.reader.training_transforms, built.reader.test_transforms
    names = one_or_all(resizing(transforms) for transforms in both)
    yield "input.resize", names, "Resize.backend, .interpolation in training and testing"
    yield from image_rows(probed_images(built))


def probed_images(built: Built) -> ProbedImages:
    """Let the probes ask for the images of what was built."""
    return ProbedImages(
        built.reader,
        built.dataset.reader,
        np.unique(built.dataset.order.short_sides).tolist(),
        lambda item: item["inputs"],
        lambda item: item["data_samples"].gt_instances.bboxes.tensor,
        lambda image: {"inputs": image, "data_samples": DetDataSample(metainfo={"img_shape": image.shape[1:]})},
        lambda items: built.model.data_preprocessor(pseudo_collate(items), False)["inputs"],
        "bgr",
    )


def resizing(transforms: Compose) -> str:
    """Name library and filter of the one step that resizes."""
    (resize,) = [step for step in transforms.transforms if isinstance(step, Resize)]
    return f"{resize.backend}_{resize.interpolation}"
