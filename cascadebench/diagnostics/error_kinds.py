"""Why detections are wrong, and how much AP at IoU 0.5 each kind of mistake costs.

The kinds are those of Bolya et al., TIDE, ECCV 2020, with its thresholds 0.5 (right) and 0.1 (background). A detection
that is no true positive is the first of these that fits:

- localization: its IoU with a ground truth of its class is from 0.1 to 0.5;
- classification: its IoU with a ground truth of another class is at least 0.5;
- duplicate: its IoU with a ground truth of its class is at least 0.5, but another detection has it;
- background: its IoU with every ground truth is at most 0.1;
- both: none of these, so a box that is loose on an object of another class.

A ground truth that no detection has, and that no localization or classification mistake is about, is missed. What a
kind costs is the AP that the detector would have if the mistakes of this kind alone were mended: a localization or
classification mistake becomes a true positive of the ground truth that it is about (the one with the highest score of
those about it, unless that ground truth is found already; the others vanish), a duplicate, a background detection or
one of kind both vanishes, a missed ground truth is taken off the count. Costs of different kinds do not add up to what
is missing.

The authors' package ``tidecv`` is not used: it has not changed since 2020; importing it needs seaborn, matplotlib and
OpenCV; it averages over classes that have no ground truth, limits detections per image instead of per image and class,
has recall thresholds of its own, and works through lists, one detection at a time. Here AP is the evaluation's, so that
costs stand beside the table's AP50. On cases where those differences play no part, the kinds agree with ``tidecv`` one
by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from cascadebench.diagnostics.boxes import corners, highest, iou_matrix
from cascadebench.metrics.coco.ground_truth import GroundTruth
from cascadebench.metrics.coco.matching import match_boxes
from cascadebench.metrics.coco.parquet import WORD, required
from cascadebench.metrics.coco.rules import MAX_DETS, RECALLS

RIGHT_IOU, BACKGROUND_IOU = 0.5, 0.1
KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALIZATION = KINDS.index("classification"), KINDS.index("localization")

ERROR_KINDS = pa.schema(
    [
        required("test_stage", WORD),
        required("kind", WORD),
        required("count", pa.int64()),
        required("ap50", pa.float64()),
        required("cost", pa.float64()),
    ]
)
"""Columns of ``error_kinds.parquet``: one row per test stage and kind. `ap50` is the same in all rows of a test stage;
`cost` is AP50 with the kind mended minus AP50."""


def error_kinds(truth: GroundTruth, detections: pd.DataFrame, test_stages: Sequence[str] = ()) -> pd.DataFrame:
    """Count the mistakes of every test stage by kind, and what each kind costs.

    Parameters
    ----------
    detections : DataFrame
        As :func:`cascadebench.metrics.coco.detections.read_detections` returns it.
    test_stages : sequence of str
        Test stages that must be in the table, with or without a detection.

    Returns
    -------
    DataFrame
        The columns of :data:`ERROR_KINDS`. Detections beyond 100 per image and class do not count, and neither do those
        that are matched to a crowd region. AP is a mean over the classes with ground truth.
    """
    annotations = _by_image(truth, truth.boxes, truth.boxes["iscrowd"].to_numpy() == 1)
    rows = []
    for label in dict.fromkeys([*test_stages, *detections["test_stage"].unique()]):
        of_stage = detections[detections["test_stage"] == label]
        ranked = of_stage.iloc[np.argsort(-of_stage["score"].to_numpy(dtype=np.float64), kind="stable")]
        ranked = ranked[ranked.groupby(["image_id", "category_id"]).cumcount() < MAX_DETS[-1]]
        images = _by_image(truth, ranked, ranked["score"].to_numpy(dtype=np.float64))
        judged = [_judge(image, its_truth) for image, its_truth in zip(images, annotations, strict=True)]
        rows += [{"test_stage": label} | row for row in _costs(truth, judged)]
    return pd.DataFrame(rows, columns=ERROR_KINDS.names)


@dataclass(frozen=True)
class _Boxes:
    """Detections of an image by falling score, or its ground truth; `mark` is the score, or whether it is a crowd."""

    category: np.ndarray
    corners: np.ndarray
    mark: np.ndarray

    def chosen(self, rows: np.ndarray) -> "_Boxes":
        return _Boxes(self.category[rows], self.corners[rows], self.mark[rows])


def _by_image(truth: GroundTruth, rows: pd.DataFrame, mark: np.ndarray) -> list[_Boxes]:
    """The rows of every image, in the order of the images' ids; rows of an image keep their order."""
    order = np.argsort(rows["image_id"].to_numpy(), kind="stable")
    every = _Boxes(rows["category_id"].to_numpy()[order], corners(rows)[order], mark[order])
    starts = np.searchsorted(rows["image_id"].to_numpy()[order], truth.image_ids)
    return [every.chosen(slice(start, end)) for start, end in zip(starts, [*starts[1:], len(order)], strict=True)]


def _judge(detections: _Boxes, truth: _Boxes) -> tuple[np.ndarray, ...]:
    """What became of the detections of one image, and of its ground truth.

    Of every detection that counts: score, category, whether it is true, kind, and the category in which it would be a
    true positive, or -1 if mending removes it. Last, the category of every missed ground truth.
    """
    counted, crowd = truth.chosen(~truth.mark), truth.chosen(truth.mark)
    overlaps = iou_matrix(detections.corners, counted.corners)
    same = detections.category[:, None] == counted.category[None, :]
    true, used = (bits[0, 0] for bits in match_boxes(np.where(same, overlaps, -1.0), np.array([RIGHT_IOU])))
    (own, its_own), (other, its_other) = highest(np.where(same, overlaps, 0.0)), highest(np.where(same, 0.0, overlaps))
    kind = _kinds(own, other, highest(np.where(same & used, overlaps, 0.0))[0])
    kind[true] = -1

    kept = true | ~_on_crowd(detections, crowd)
    about = np.select([kind == LOCALIZATION, kind == CLASSIFICATION], [its_own, its_other], -1)
    # What is about a ground truth that is found already mends nothing, and neither does what lies on a crowd.
    about[~kept | (np.append(used, False)[about])] = -1
    # Detections stand by falling score, so the first about a ground truth is the one that is mended.
    mended = np.full(len(kind), -1, dtype=np.int64)
    places, first = np.unique(about, return_index=True)
    mended[first[places >= 0]] = counted.category[places[places >= 0]]
    missed = ~used
    missed[places[places >= 0]] = False
    of_detections = detections.mark, detections.category, true, kind, mended
    return (*(values[kept] for values in of_detections), counted.category[missed])


def _kinds(own: np.ndarray, other: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Position in :data:`KINDS` of detections that are not true, from their highest IoU with ground truth of their own
    class, of other classes, and of their own class and found already.
    """
    tests = {  # in the order in which they are asked
        "localization": (own >= BACKGROUND_IOU) & (own <= RIGHT_IOU),
        "classification": other >= RIGHT_IOU,
        "duplicate": taken >= RIGHT_IOU,
        "background": np.maximum(own, other) <= BACKGROUND_IOU,
    }
    return np.select(list(tests.values()), [KINDS.index(name) for name in tests], KINDS.index("both"))


def _on_crowd(detections: _Boxes, crowd: _Boxes) -> np.ndarray:
    """Whether at least half of a detection's area lies in a crowd region of its class."""
    low = np.maximum(detections.corners[:, None, :2], crowd.corners[None, :, :2])
    high = np.minimum(detections.corners[:, None, 2:], crowd.corners[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(axis=2)
    areas = (detections.corners[:, 2:] - detections.corners[:, :2]).prod(axis=1)[:, None]
    share = np.divide(inside, areas, out=np.zeros_like(inside), where=areas > 0)
    return ((share >= RIGHT_IOU) & (detections.category[:, None] == crowd.category[None, :])).any(axis=1)


def _costs(truth: GroundTruth, judged: list[tuple[np.ndarray, ...]]) -> list[dict[str, object]]:
    """Rows of one test stage, from what :func:`_judge` gives of every image."""
    score, category, true, kind, mended, missed = (np.concatenate(parts) for parts in zip(*judged, strict=True))
    counted = truth.boxes.loc[truth.boxes["iscrowd"] == 0, "category_id"].to_numpy()
    categories, totals = np.unique(counted, return_counts=True)
    positives = dict(zip(categories.tolist(), totals.tolist(), strict=True))
    ap50 = _mean_ap(score, category, true, positives)
    rows = []
    for number, name in enumerate(KINDS):
        if name == "missed":
            left = {one: total - int((missed == one).sum()) for one, total in positives.items()}
            count, ap = len(missed), _mean_ap(score, category, true, left)
        else:
            wrong = kind == number
            kept = ~wrong | (mended >= 0)
            moved = np.where(wrong, mended, category)
            count, ap = int(wrong.sum()), _mean_ap(score[kept], moved[kept], (true | wrong)[kept], positives)
        rows.append({"kind": name, "count": count, "ap50": ap50, "cost": ap - ap50})
    return rows


def _mean_ap(score: np.ndarray, category: np.ndarray, true: np.ndarray, positives: dict[int, int]) -> float:
    """Mean over the classes of the precision at 101 recalls, as COCO interpolates it; 0 for a class whose all are
    missed.
    """
    values = []
    for one, total in positives.items():
        of_class = np.flatnonzero(category == one)
        ranked = of_class[np.argsort(-score[of_class], kind="stable")]
        found = np.cumsum(true[ranked])
        if not total or not len(found):
            values.append(0.0)
            continue
        precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
        places = np.searchsorted(found / total, RECALLS, side="left")
        values.append(float(np.append(precision, 0.0)[places].mean()))
    return float(np.mean(values)) if values else float("nan")
