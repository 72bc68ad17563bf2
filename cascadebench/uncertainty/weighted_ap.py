"""Average precision and recall of many resamples of the images out of one matching, by weights instead of copies."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cascadebench.metrics.coco.compiled import compiled
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable
from cascadebench.metrics.coco.matching import Matches
from cascadebench.metrics.coco.rules import AREAS, EVERY_IOU, IOU_THRESHOLDS, RECALLS

LANES = 64
"""Resamples that are accumulated side by side."""
_RECALL_STEP = RECALLS[1]


@dataclass(frozen=True)
class Plan:
    """What weighted accumulation reads of the matches of one area and limit of detections."""

    images: int
    """Number of images."""
    start: np.ndarray
    """int64 [classes + 1]: rows of class c are ``start[c]`` up to, without, ``start[c + 1]``."""
    image: np.ndarray
    """int32 [rows]: position of the image of every detection that counts at some threshold; score falling within a
    class."""
    matched: np.ndarray
    ignored: np.ndarray
    """uint16 [rows]; bit t: true positive, or ignored, at IoU threshold t."""
    ends: np.ndarray
    """uint16 [rows]; bit t: the last of true positives in a row. Within such a run precision cannot fall, whatever the
    weights are, so it is enough to look at its end."""
    object_start: np.ndarray
    """int64 [classes + 1]: objects of class c are ``object_start[c]`` up to, without, ``object_start[c + 1]``."""
    object_image: np.ndarray
    """int32 [objects]: position of the image of every object that counts."""

    @property
    def images_of_class(self) -> np.ndarray:
        """Images that hold an object of each class that counts: int64 [classes]."""
        classes = len(self.object_start) - 1
        category = np.repeat(np.arange(classes), np.diff(self.object_start))
        return np.bincount(np.unique(category * self.images + self.object_image) // self.images, minlength=classes)


def weighting_plan(table: GroundTruthTable, matches: Matches, *, area: str = "all", max_dets: int = 100) -> Plan:
    """Pick out what weighted accumulation needs.

    Parameters
    ----------
    matches : Matches
        Of :func:`cascadebench.metrics.coco.matching.match` with the same `table`.
    area : str
        One of ``all``, ``small``, ``medium``, ``large``.
    max_dets : int
        Most detections per image and class, not above ``matches.limit``.
    """
    if max_dets > matches.limit:
        raise ValueError(f"max_dets {max_dets}: detections were matched up to {matches.limit} only")
    place = AREAS.index(area)
    matched, ignored = matches.matched[place], matches.ignored[place]
    kept = np.flatnonzero((matches.rank < max_dets) & (ignored != EVERY_IOU))
    start = np.searchsorted(kept, matches.start)
    matched, ignored = matched[kept], ignored[kept]
    objects = np.flatnonzero(~table.ignored[place])
    object_start = np.searchsorted(objects, table.start[:: max(len(table.image_ids), 1)])
    return Plan(
        images=len(table.image_ids),
        start=start,
        image=matches.image[kept],
        matched=matched,
        ignored=ignored,
        ends=_ends(start, matched, ignored),
        object_start=object_start,
        object_image=table.image[objects],
    )


@compiled
def _ends(start, matched, ignored):
    """Ends of runs of true positives, uint16 [rows]; an ignored detection does not end a run."""
    ends = np.zeros(len(matched), np.uint16)
    for category in range(len(start) - 1):
        # At these thresholds the next detection that counts is false, or there is none.
        false_follows = np.int64(-1)
        for row in range(start[category + 1] - 1, start[category] - 1, -1):
            found, unseen = np.int64(matched[row]), np.int64(ignored[row])
            ends[row] = found & false_follows
            false_follows = (false_follows & unseen) | (~found & ~unseen)
    return ends


def weighted_ap(plan: Plan, weights: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """AP of every class at every IoU threshold as if each image were there as often as its weight says.

    The copies of an image stand beside it, and so do those of a detection where scores are equal.

    Parameters
    ----------
    weights : ndarray, uint8 [resamples, images]
        How often each image is drawn.
    threads : int
        Threads that share the resamples; the result does not depend on their number.

    Returns
    -------
    ndarray, float64 [resamples, classes, 10 IoU thresholds]
        In [0, 1]; -1 where a resample holds no object of the class.
    """
    return _by_blocks(_accumulate_weighted, plan, weights, threads)


def weighted_recall(plan: Plan, weights: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Highest recall of every class at every IoU threshold; parameters and shape are those of :func:`weighted_ap`."""
    return _by_blocks(_count_weighted, plan, weights, threads)


def _by_blocks(kernel: Callable[..., None], plan: Plan, weights: np.ndarray, threads: int) -> np.ndarray:
    """Run a kernel on blocks of :data:`LANES` resamples."""
    if weights.dtype != np.uint8 or weights.ndim != 2 or weights.shape[1] != plan.images:
        raise ValueError(f"weights are uint8 [resamples, {plan.images}], not {weights.dtype} {list(weights.shape)}")
    classes = len(plan.start) - 1
    ap = np.empty((len(weights), classes, len(IOU_THRESHOLDS)))

    def fill(first: int) -> None:
        block = np.zeros((plan.images, LANES), dtype=np.uint8)
        rows = weights[first : first + LANES]
        block[:, : len(rows)] = rows.T
        result = np.empty((classes, len(IOU_THRESHOLDS), LANES))
        kernel(
            (plan.start, plan.image, plan.matched, plan.ignored, plan.ends),
            (plan.object_start, plan.object_image),
            block,
            _RECALL_STEP,
            result,
        )
        ap[first : first + LANES] = result.transpose(2, 0, 1)[: len(rows)]

    blocks = range(0, len(weights), LANES)
    if threads == 1:
        for first in blocks:
            fill(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, blocks))
    return ap


@compiled
def _accumulate_weighted(detections, objects, weights, recall_step, ap):
    """Fill `ap`, float64 [classes, thresholds, lanes], from `weights`, uint8 [images, lanes]."""
    start, image, matched, ignored, ends = detections
    object_start, object_image = objects
    thresholds, lanes = ap.shape[1], ap.shape[2]
    positives = np.empty((1, lanes), np.int32)
    seen = np.empty((1, lanes), np.int32)
    hits = np.empty((thresholds, lanes), np.int32)
    unseen = np.empty((thresholds, lanes), np.int32)
    best = np.empty((thresholds, lanes), np.float64)
    rise = np.empty(lanes, np.float64)
    for category in range(len(start) - 1):
        first, last = start[category], start[category + 1]
        positives[:] = 0
        for row in range(object_start[category], object_start[category + 1]):
            _add(positives, 1, weights, object_image[row])
        seen[:] = 0
        hits[:] = 0
        unseen[:] = 0
        best[:] = 0.0
        ap[category] = 0.0
        for row in range(first, last):
            _add(seen, 1, weights, image[row])
            _add(hits, np.int64(matched[row]), weights, image[row])
            _add(unseen, np.int64(ignored[row]), weights, image[row])
        # From the worst score back to the best, so that the best precision so far is the interpolated one.
        for row in range(last - 1, first - 1, -1):
            bits, t = np.int64(ends[row]), 0
            while bits >> t:
                if (bits >> t) & 1 and _raise(t, hits, seen[0], unseen, best, rise):
                    _add_recalls(t, hits, positives[0], rise, recall_step, ap[category])
                t += 1
            _take(seen, 1, weights, image[row])
            _take(hits, np.int64(matched[row]), weights, image[row])
            _take(unseen, np.int64(ignored[row]), weights, image[row])
        for t in range(thresholds):
            for lane in range(lanes):
                ap[category, t, lane] = ap[category, t, lane] / 101.0 if positives[0, lane] else -1.0


@compiled
def _count_weighted(detections, objects, weights, recall_step, recall):
    """Fill `recall`, float64 [classes, thresholds, lanes], from `weights`, uint8 [images, lanes]."""
    start, image, matched, _, _ = detections
    object_start, object_image = objects
    thresholds, lanes = recall.shape[1], recall.shape[2]
    positives = np.empty((1, lanes), np.int32)
    hits = np.empty((thresholds, lanes), np.int32)
    for category in range(len(start) - 1):
        positives[:] = 0
        for row in range(object_start[category], object_start[category + 1]):
            _add(positives, 1, weights, object_image[row])
        hits[:] = 0
        for row in range(start[category], start[category + 1]):
            _add(hits, np.int64(matched[row]), weights, image[row])
        for t in range(thresholds):
            for lane in range(lanes):
                count = positives[0, lane]
                recall[category, t, lane] = hits[t, lane] / count if count else -1.0


@compiled
def _add(total, bits, weights, place):
    """Add the weights of the image at `place` to `total`, int32 [thresholds, lanes], at thresholds that `bits` name."""
    t = 0
    while bits >> t:
        if (bits >> t) & 1:
            for lane in range(total.shape[1]):
                total[t, lane] += weights[place, lane]
        t += 1


@compiled
def _take(total, bits, weights, place):
    """Take the weights away again, as :func:`_add` adds them."""
    t = 0
    while bits >> t:
        if (bits >> t) & 1:
            for lane in range(total.shape[1]):
                total[t, lane] -= weights[place, lane]
        t += 1


@compiled
def _raise(t, hits, seen, unseen, best, rise):
    """Raise the best precision at threshold `t` to that of this place.

    By how much goes to `rise`; the number of lanes in which it rose is returned.
    """
    risen = 0
    for lane in range(len(seen)):
        # Where nothing was seen, nothing was hit.
        precision = np.float64(hits[t, lane]) / np.float64(max(np.int32(seen[lane] - unseen[t, lane]), np.int32(1)))
        before = best[t, lane]
        higher = precision if precision > before else before
        risen += 1 if precision > before else 0
        rise[lane] = higher - before
        best[t, lane] = higher
    return risen


@compiled
def _add_recalls(t, hits, positives, rise, recall_step, area):
    """Add the rise of precision at every recall that is reached here, to `area`, float64 [thresholds, lanes].

    The number of recalls that are reached is ``1 + floor(100 * recall)``; where the recall is a hundredth, pycocotools'
    comparison of two rounded numbers decides whether it is reached.
    """
    for lane in range(len(positives)):
        recall = np.float64(hits[t, lane]) / np.float64(max(positives[lane], np.int32(1)))
        whole = np.float64(np.int32(recall * 100.0 + 1e-9))
        reached = whole + (1.0 if recall >= whole * recall_step else 0.0)
        area[t, lane] += rise[lane] * reached
