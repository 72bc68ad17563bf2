"""Instance masks in plain torch: ground truth, what a mask branch learns, and pasting; the same in every framework.

The branch is Mask R-CNN's (He et al., ICCV 2017) on RoIs pooled to 14 x 14 cells; it gives 28 x 28 probabilities for
every class, of which the RoI's own class counts.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.ops import roi_align

from cascadebench.datasets.masks import Segmentation, bitmap, encoded_bitmap
from cascadebench.datasets.prepared import ImageRecord

POOL_SIZE = 14
"""Side of a RoI as a mask branch sees it, in cells."""
MASK_SIZE = 28
"""Side of what a mask branch gives, in cells."""
THRESHOLD = 0.5


def record_bitmaps(record: ImageRecord, width: int, height: int, flip: bool) -> np.ndarray:
    """Masks of a record in its resized image, uint8 [boxes, height, width] of 0 and 1.

    Polygons are scaled and then filled; run lengths are filled and then scaled to the nearest pixel.

    Parameters
    ----------
    width, height : int
        Of the resized image.
    flip : bool
        Whether it is mirrored left to right.
    """
    resized = np.zeros((len(record.segmentations), height, width), dtype=np.uint8)
    for number, segmentation in enumerate(record.segmentations):
        resized[number] = _resized_bitmap(segmentation, record, width, height)
    return np.ascontiguousarray(resized[:, :, ::-1]) if flip else resized


def _resized_bitmap(segmentation: Segmentation, record: ImageRecord, width: int, height: int) -> np.ndarray:
    if isinstance(segmentation, dict):
        filled = Image.fromarray(bitmap(segmentation, record.width, record.height))
        return np.asarray(filled.resize((width, height), Image.Resampling.NEAREST))
    factors = np.array([width / record.width, height / record.height])
    scaled = [(np.reshape(polygon, (-1, 2)) * factors).ravel().tolist() for polygon in segmentation]
    return bitmap(scaled, width, height)


@torch.no_grad()
def mask_targets(bitmaps: Tensor, boxes: Tensor, matched: Tensor) -> Tensor:
    """What a mask branch shall give for the positive RoIs of one image.

    Parameters
    ----------
    bitmaps : Tensor, uint8 [ground truths, H, W]
        Of the image as the model sees it.
    boxes : Tensor, float32 [R, 4]
        RoIs as x1, y1, x2, y2 in pixels of that image.
    matched : Tensor, int64 [R]
        Ground truth of every RoI.

    Returns
    -------
    Tensor, float32 [R, 28, 28]
        1 where RoIAlign of the ground truth's bitmap, with as many samples as a cell has pixels, is at least one half.
    """
    if not len(boxes):
        return boxes.new_zeros(0, MASK_SIZE, MASK_SIZE)
    rois = torch.cat([matched[:, None].to(boxes), boxes], dim=1)
    shares = roi_align(bitmaps[:, None].to(boxes), rois, MASK_SIZE, sampling_ratio=0, aligned=True)
    return (shares[:, 0] >= THRESHOLD).to(boxes)


def mask_loss(logits: Tensor, labels: Tensor, targets: list[Tensor]) -> Tensor:
    """Binary cross-entropy of the RoIs' own classes, mean over pixels and RoIs; zero with a gradient without RoIs.

    Parameters
    ----------
    logits : Tensor, float32 [R, classes, 28, 28]
    labels : Tensor, int64 [R]
    targets : list of Tensor, float32 [R, 28, 28] together
    """
    if not len(logits):
        return logits.sum()
    return F.binary_cross_entropy_with_logits(of_class(logits, labels), torch.cat(targets))


def of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Choose each RoI's own class: [R, 28, 28] of [R, classes, 28, 28]."""
    return logits[torch.arange(len(labels), device=logits.device), labels]


def mean_probabilities(branches: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Probabilities of each RoI's own class, float32 [R, 28, 28], the mean over the logits of several branches."""
    return torch.stack([of_class(logits, labels).sigmoid() for logits in branches]).mean(0)


def pasted(probabilities: Tensor, boxes: Tensor, width: int, height: int) -> list[str]:
    """Put masks into the image at their boxes.

    A pixel belongs to a mask if the probability at its centre is at least one half: bilinear between the centres of
    the mask's cells, with cells of zero around them. All of it happens on the CPU and gives the same bytes every time.

    Parameters
    ----------
    probabilities : Tensor, float32 [N, 28, 28]
    boxes : Tensor, float32 [N, 4]
        In pixels of the image, inside it and with an area.
    width, height : int
        Of the image.

    Returns
    -------
    list of str
        Run lengths of every mask over the image, in COCO's text.
    """
    found = []
    for cells, box in zip(probabilities.float().cpu(), boxes.float().cpu(), strict=True):
        left, top = (int(value) for value in box[:2].floor())
        right, bottom = (int(value) for value in box[2:].ceil())
        x, y = (
            2 * (torch.arange(start, stop) + 0.5 - box[axis]) / (box[axis + 2] - box[axis]) - 1
            for axis, start, stop in ((0, left, right), (1, top, bottom))
        )
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
        values = F.grid_sample(cells[None, None], grid, align_corners=False)[0, 0]
        filled = np.zeros((height, width), dtype=bool)
        filled[top:bottom, left:right] = (values >= THRESHOLD).numpy()
        found.append(encoded_bitmap(filled))
    return found
