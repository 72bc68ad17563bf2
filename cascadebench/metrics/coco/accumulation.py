"""Precision and recall out of matches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascadebench.metrics.coco.compiled import compiled
from cascadebench.metrics.coco.ground_truth_table import GroundTruthTable
from cascadebench.metrics.coco.matching import Matches
from cascadebench.metrics.coco.rules import AREAS, EVERY_IOU, IOU_THRESHOLDS, MAX_DETS, RECALLS, SPACING


@dataclass(frozen=True)
class Accumulation:
    """Precision and recall of one set of detections; -1 where a class has no ground truth in the area."""

    precision: np.ndarray
    """float64 [10 IoU thresholds, 101 recalls, classes, 4 areas, max_dets]: interpolated precision; 0 beyond the
    highest recall."""
    recall: np.ndarray
    """float64 [10 IoU thresholds, classes, 4 areas, max_dets]: highest recall."""
    ap: np.ndarray
    """float64 [10 IoU thresholds, classes, 4 areas, max_dets]: mean of `precision` over the recalls, added up from
    recall 0 on."""
    max_dets: tuple[int, ...]
    """Most detections per image and class."""


def mean_of_known(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean along an axis of AP or recall over what is not -1; NaN where all are."""
    known = values > -1
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def accumulate(table: GroundTruthTable, matches: Matches, max_dets: Sequence[int] = MAX_DETS) -> Accumulation:
    """Accumulate precision over all images, for every class, area and limit of detections.

    Every number equals pycocotools' to the bit.

    Parameters
    ----------
    matches : Matches
        Of :func:`cascadebench.metrics.coco.matching.match` with the same `table`.
    max_dets : sequence of int
        Rising; none above ``matches.limit``.
    """
    if max(max_dets) > matches.limit:
        raise ValueError(f"max_dets {tuple(max_dets)}: detections were matched up to {matches.limit} only")
    shape = table.classes, len(AREAS), len(max_dets), len(IOU_THRESHOLDS)
    precision = np.full((*shape, len(RECALLS)), -1.0)
    recall, ap = np.full(shape, -1.0), np.full(shape, -1.0)
    _accumulate(
        (matches.start, matches.matched, matches.ignored, matches.rank),
        table.counted,
        (np.asarray(max_dets, dtype=np.int64), RECALLS, SPACING, int(EVERY_IOU)),
        (precision, recall, ap),
    )
    # As pycocotools orders the axes.
    return Accumulation(
        precision.transpose(3, 4, 0, 1, 2), recall.transpose(3, 0, 1, 2), ap.transpose(3, 0, 1, 2), tuple(max_dets)
    )


@compiled
def _accumulate(matches, counted, rules, result):
    """Fill `result`; -1 stays where nothing is counted."""
    start, matched, ignored, rank = matches
    max_dets, recalls, spacing, every = rules
    precision, recall, ap = result
    thresholds = precision.shape[3]
    at_hit = np.empty((thresholds, counted.max() + 1 if counted.size else 1), np.int64)
    hits = np.empty(thresholds, np.int64)
    needed = np.empty(len(recalls), np.int64)
    for category in range(precision.shape[0]):
        rows = slice(start[category], start[category + 1])
        for area in range(precision.shape[1]):
            objects = counted[area, category]
            if objects == 0:
                continue
            _hits_needed(objects, recalls, needed)
            for limit in range(len(max_dets)):
                _walk(matched[area, rows], ignored[area, rows], rank[rows], max_dets[limit], every, hits, at_hit)
                for t in range(thresholds):
                    recall[category, area, limit, t] = hits[t] / objects
                    curve = precision[category, area, limit, t]
                    ap[category, area, limit, t] = _interpolate(hits[t], at_hit[t], needed, spacing, curve)


@compiled
def _walk(matched, ignored, rank, limit, every, hits, at_hit):
    """Note for every threshold t how many detections count up to each true positive.

    ``hits[t]`` becomes the number of true positives, ``at_hit[t, k]`` that of detections up to the k-th, from 1, that
    are not ignored. Only true positives are needed: between them precision falls.
    """
    thresholds = len(hits)
    hits[:] = 0
    # Most detections count at every threshold and are false; they are counted once for all.
    false = 0
    others = np.zeros(thresholds, np.int64)
    for row in range(len(matched)):
        if rank[row] >= limit:
            continue
        found, unseen = np.int64(matched[row]), np.int64(ignored[row])
        if found == 0:
            if unseen == every:
                continue
            if unseen == 0:
                false += 1
                continue
        for t in range(thresholds):
            others[t] += 1 - ((unseen >> t) & 1)
            if (found >> t) & 1:
                hits[t] += 1
                at_hit[t, hits[t]] = false + others[t]


@compiled
def _hits_needed(objects, recalls, needed):
    """For every recall the fewest true positives, at least 1, that reach it by pycocotools' comparison of floats."""
    hits = 1
    for place in range(len(recalls)):
        while hits / objects < recalls[place]:
            hits += 1
        needed[place] = hits


@compiled
def _interpolate(hits, at_hit, needed, spacing, curve):
    """Fill the interpolated precision at every recall, and return its mean."""
    curve[:] = 0.0
    place = len(needed) - 1
    while place >= 0 and needed[place] > hits:
        place -= 1
    best = 0.0
    for hit in range(hits, 0, -1):
        best = max(best, hit / (at_hit[hit] + spacing))
        while place >= 0 and needed[place] == hit:
            curve[place] = best
            place -= 1
    total = 0.0
    for value in curve:
        total += value
    return total / len(curve)
