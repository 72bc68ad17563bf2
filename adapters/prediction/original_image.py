"""From what was found on a resized image to detections on the original one; the same in every framework."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from adapters.contract import Detections
from adapters.layers.instance_masks import pasted
from cascadebench.datasets.prepared import ImageRecord

Rows = tuple[Tensor, Tensor, Tensor]
"""Boxes, float32 [N, 4] in pixels of the resized image, scores [N] and labels [N]."""


def on_original(
    found: Mapping[str, Rows],
    original_boxes: Callable[[Tensor], Tensor],
    record: ImageRecord,
    masked: str | None = None,
    probabilities: Tensor | None = None,
) -> dict[str, Detections]:
    """Scale boxes to the original image and drop what has no area.

    Everything goes at once: by itself, every test stage would take as many small steps and copies from the device.

    Parameters
    ----------
    found : mapping of str to Rows
        By test stage, for instance.
    original_boxes : callable
        From boxes [N, 4] in pixels of the resized image to the same boxes in the original one, clipped, row by row.
    masked : str or None
        Which of `found` has masks: `probabilities`, float32 [N, 28, 28], are pasted at what its boxes have become.
    """
    if not found:
        return {}
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*found.values(), strict=True))
    boxes = original_boxes(boxes)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    arrays = [part.cpu().numpy() for part in (keep, boxes, scores, labels)]
    detections, start = {}, 0
    for name, (_, _, own_labels) in found.items():
        rows = slice(start, start + len(own_labels))
        start = rows.stop
        kept, own_boxes, own_scores, own_labels = (array[rows] for array in arrays)
        detections[name] = Detections(
            own_boxes[kept].astype(np.float32),
            own_scores[kept].astype(np.float32),
            own_labels[kept].astype(np.int64),
            pasted(probabilities[keep[rows]], boxes[rows][keep[rows]], record.width, record.height)
            if name == masked
            else None,
        )
    return detections
