"""Plain pycocotools, the field's reference, which the kernel is compared with."""

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cascadebench.metrics.coco.ap_table import metrics
from cascadebench.metrics.coco.rules import AREAS, IOUS, LIMITS, MAX_DETS

TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""Names of its twelve numbers."""


def pycocotools_evaluation(truth, results, kind="bbox", *, max_dets=None, class_agnostic=False, recalls=None):
    """Evaluate and accumulate as its demo does; the dictionaries stay as they are."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        if results:
            found = coco.loadRes(copy.deepcopy(results))
        else:  # on which loadRes fails
            found = COCO()
            found.dataset = {key: truth[key] for key in ("images", "categories")} | {"annotations": []}
            found.createIndex()
        evaluation = COCOeval(coco, found, kind)
        if max_dets is not None:
            evaluation.params.maxDets = list(max_dets)
        if recalls is not None:
            evaluation.params.recThrs = recalls
        evaluation.params.useCats = 0 if class_agnostic else 1
        evaluation.evaluate()
        evaluation.accumulate()
        if len(evaluation.params.maxDets) == 3:
            evaluation.summarize()
    return evaluation


def check_equal(found, expected):
    """The kernel's accumulation, bit by bit: precision, highest recall, AP of every class."""
    np.testing.assert_array_equal(found.precision, expected.eval["precision"])
    np.testing.assert_array_equal(found.recall, expected.eval["recall"])
    np.testing.assert_array_equal(found.ap, expected.eval["precision"].mean(axis=1))


def check_table(table, expected):
    """The table's numbers are means of pycocotools' arrays, to the bit; the twelve are those that it prints."""
    absent = expected.eval["recall"] < 0
    for name, values in (("ap", expected.eval["precision"].mean(axis=1)), ("recall", expected.eval["recall"])):
        known = np.where(absent, 0.0, values)
        count = (~absent).sum(axis=1)
        mean = np.divide(known.sum(axis=1), count, out=np.full(count.shape, np.nan), where=count > 0)
        every = np.concatenate([mean[:, None], np.where(absent, np.nan, values)], axis=1)
        limits = [every[:, :, AREAS.index(area), MAX_DETS.index(most)] for area, most in LIMITS]
        rows = np.stack(limits).transpose(2, 0, 1).ravel()
        np.testing.assert_array_equal(table[name], rows)
    assert tuple(table["iou"][:10]) == IOUS
    found = metrics(table).loc["(1,1)"]
    categories = expected.cocoGt.loadCats(sorted(expected.cocoGt.getCatIds()))
    assert list(found.index) == ["all", *(category["name"] for category in categories)]
    stats = np.where(expected.stats < 0, np.nan, expected.stats)
    np.testing.assert_allclose(found.loc["all", list(TWELVE)], stats, atol=1e-9, rtol=0)
