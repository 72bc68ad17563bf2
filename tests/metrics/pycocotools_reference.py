"""Plain pycocotools, the field's reference, which the kernel is compared with."""

import contextlib
import copy
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def pycocotools_evaluation(truth, results, kind="bbox", *, max_dets=None):
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
        evaluation.evaluate()
        evaluation.accumulate()
        if len(evaluation.params.maxDets) == 3:
            evaluation.summarize()
    return evaluation
