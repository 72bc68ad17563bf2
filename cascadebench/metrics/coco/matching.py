"""Matching of detections with ground truth by COCO's rules, for all IoU thresholds and areas in one pass."""

from dataclasses import dataclass

import numpy as np

from cascadebench.metrics.coco.compiled import compiled
from cascadebench.metrics.coco.detection_order import OrderedDetections
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable
from cascadebench.metrics.coco.rules import AREA_ENDS, EVERY_IOU, LEAST_IOU


@dataclass(frozen=True)
class Overlaps:
    """IoU of detections with the objects of their class in their image, where boxes do not give it."""

    start: np.ndarray
    """int64 [detections]: where the values of a detection begin; its objects follow in the order of the ground truth's
    table."""
    iou: np.ndarray
    """float64 [values]: IoU, or with a crowd region the share of the detection that lies inside."""


@dataclass(frozen=True)
class Matches:
    """What became of every detection, in the order of :class:`OrderedDetections`.

    Bit t of `matched` and `ignored` stands for IoU threshold t; no detection has both, and one with neither is false.
    """

    start: np.ndarray
    """int64 [classes + 1]: detections of class c are ``start[c]`` up to, without, ``start[c + 1]``."""
    image: np.ndarray
    """int32 [detections]: position of the image."""
    matched: np.ndarray
    """uint16 [4 areas, detections]: the detection found an object that counts."""
    ignored: np.ndarray
    """uint16 [4 areas, detections]: it found an object that does not count, or found none and its own area is outside
    the range."""
    rank: np.ndarray
    """uint16 [detections]: detections of the same class and image before it; those with a rank of `limit` or more were
    not matched."""
    limit: int
    """Most detections that count, per image and class."""


def match(
    table: GroundTruthTable, detections: OrderedDetections, *, limit: int = 100, overlaps: Overlaps | None = None
) -> Matches:
    """Match the detections of every image and class, best score first.

    A detection takes the free object of highest IoU among those that count, the later one on equal IoU; if there is
    none from the threshold on, it takes an ignored one by the same rule. Crowd regions are never used up. What a
    detection takes does not depend on detections after it, so one pass serves every smaller limit.

    The result is pycocotools', but for its reading of annotation id 0 as "no match": ids play no part here.

    Parameters
    ----------
    limit : int
        Most detections that count per image and class, up to 65535.
    overlaps : Overlaps, optional
        IoU of masks; without it that of the boxes is computed.
    """
    if not 0 < limit < 2**16:
        raise ValueError(f"limit {limit}: 1 to 65535 detections per image and class")
    shape = len(AREA_ENDS), len(detections.image)
    matched, ignored = np.zeros(shape, dtype=np.uint16), np.zeros(shape, dtype=np.uint16)
    rank = np.zeros(shape[1], dtype=np.uint16)
    if overlaps is None:
        overlaps = Overlaps(np.zeros(0, dtype=np.int64), np.zeros(0))
    _match(
        (detections.start, detections.image, detections.box, detections.area),
        (table.start, table.box, table.crowd, table.ignored),
        (overlaps.start, overlaps.iou),
        (LEAST_IOU, AREA_ENDS, int(EVERY_IOU), len(table.image_ids), limit),
        (matched, ignored, rank, np.zeros((len(table.crowd), len(AREA_ENDS)), dtype=np.uint16)),
    )
    return Matches(detections.start, detections.image, matched, ignored, rank, limit)


def match_boxes(
    overlaps: np.ndarray, thresholds: np.ndarray, ignored: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Match the boxes of one image, best first, with its objects by the same rule, whatever the class of either.

    Parameters
    ----------
    overlaps : ndarray, float64 [N, G]
        IoU of boxes and objects.
    thresholds : ndarray, float64 [T]
        At most 16 IoU thresholds, rising.
    ignored : ndarray, bool [S, G], optional
        Objects that do not count, for each of several questions; without it there is one, and all count.

    Returns
    -------
    of_boxes : ndarray, bool [S, T, N]
        Whether a box found an object that counts.
    of_objects : ndarray, bool [S, T, G]
        Whether an object was found.
    """
    boxes, objects = overlaps.shape
    ignored = np.zeros((1, objects), dtype=bool) if ignored is None else ignored
    matched, others = np.zeros((2, len(ignored), boxes), dtype=np.uint16)
    taken = np.zeros((objects, len(ignored)), dtype=np.uint16)
    _match(
        (np.array([0, boxes]), np.zeros(boxes, dtype=np.int32), np.zeros((boxes, 4)), np.zeros(boxes)),
        (np.array([0, objects]), np.zeros((objects, 4)), np.zeros(objects, dtype=bool), ignored),
        (np.arange(boxes) * objects, np.ascontiguousarray(overlaps, dtype=np.float64).ravel()),
        (thresholds, np.zeros((len(ignored), 2)), 2 ** len(thresholds) - 1, 1, boxes),
        (matched, others, np.zeros(boxes, dtype=np.uint16), taken),
    )
    bit = np.arange(len(thresholds), dtype=np.uint16)[:, None]
    return (matched[:, None] >> bit & 1).astype(bool), (taken.T[:, None] >> bit & 1).astype(bool)


@compiled
def _match(detections, objects, overlaps, rules, result):
    """Fill `result` for all classes; see :func:`match` and the classes above for the arrays."""
    start, image, box, area = detections
    object_start, object_box, crowd, object_ignored = objects
    least_iou, area_ends, every, images, limit = rules
    matched, ignored, rank, taken = result
    seen = np.zeros(images, np.int64)
    most = 1
    for cell in range(len(object_start) - 1):
        most = max(most, object_start[cell + 1] - object_start[cell])
    candidates = np.empty(most, np.int64)
    candidate_iou = np.empty(most, np.float64)
    passes = np.empty(most, np.int64)
    for category in range(len(start) - 1):
        seen[:] = 0
        for detection in range(start[category], start[category + 1]):
            place = image[detection]
            rank[detection] = min(seen[place], limit)
            if seen[place] >= limit:
                continue
            seen[place] += 1
            cell = category * images + place
            first, last = object_start[cell], object_start[cell + 1]
            count = 0
            for number in range(first, last):
                if len(overlaps[0]):
                    iou = overlaps[1][overlaps[0][detection] + number - first]
                else:
                    iou = _box_iou(box, detection, object_box, number, crowd[number])
                if iou >= least_iou[0]:
                    _insert(number, iou, count, least_iou, candidates, candidate_iou, passes)
                    count += 1
            for a in range(len(area_ends)):
                outside = area[detection] < area_ends[a, 0] or area[detection] > area_ends[a, 1]
                if count:
                    found, unseen, left = _take(a, count, candidates, passes, crowd, object_ignored, taken, every)
                    matched[a, detection] = found
                    ignored[a, detection] = unseen | left if outside else unseen
                elif outside:
                    ignored[a, detection] = every


@compiled
def _box_iou(box, detection, object_box, number, crowd):
    """IoU of two boxes x, y, width, height, in pycocotools' order of operations."""
    x, y, w, h = box[detection, 0], box[detection, 1], box[detection, 2], box[detection, 3]
    x2, y2, w2, h2 = object_box[number, 0], object_box[number, 1], object_box[number, 2], object_box[number, 3]
    width = min(w + x, w2 + x2) - max(x, x2)
    if width <= 0:
        return 0.0
    height = min(h + y, h2 + y2) - max(y, y2)
    if height <= 0:
        return 0.0
    inside = width * height
    return inside / (w * h) if crowd else inside / (w * h + w2 * h2 - inside)


@compiled
def _insert(number, iou, count, least_iou, candidates, candidate_iou, passes):
    """Put an object among `count` candidates by falling IoU, before equal ones; note the thresholds that it passes."""
    place = count
    while place > 0 and candidate_iou[place - 1] <= iou:
        candidates[place] = candidates[place - 1]
        candidate_iou[place] = candidate_iou[place - 1]
        passes[place] = passes[place - 1]
        place -= 1
    passed = 1
    while passed < len(least_iou) and iou >= least_iou[passed]:
        passed += 1
    candidates[place] = number
    candidate_iou[place] = iou
    passes[place] = (1 << passed) - 1


@compiled
def _take(a, count, candidates, passes, crowd, object_ignored, taken, every):
    """Give a detection its object at every threshold, for one area.

    Returned are the thresholds, as bits, at which it took an object that counts, took an ignored one, took none.
    """
    found, unseen, left = 0, 0, every
    for place in range(count):
        number = candidates[place]
        if not object_ignored[a, number]:
            bits = left & passes[place] & ~np.int64(taken[number, a])
            taken[number, a] |= bits
            found |= bits
            left &= ~bits
    for place in range(count):
        number = candidates[place]
        if object_ignored[a, number]:
            bits = left & passes[place]
            if not crowd[number]:
                bits &= ~np.int64(taken[number, a])
            taken[number, a] |= bits
            unseen |= bits
            left &= ~bits
    return found, unseen, left
