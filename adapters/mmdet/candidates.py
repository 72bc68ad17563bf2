"""What the proposal network gives to its NMS."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from mmdet.models.dense_heads import RPNHead
from mmengine.structures import InstanceData

from adapters.prediction.predict_image import Candidates


@contextmanager
def noted_candidates(rpn_head: RPNHead) -> Iterator[list[Callable[[], Candidates]]]:
    """Fill a list, image by image, with what gives the candidates of proposals that are made while the block runs."""
    noted: list[Callable[[], Candidates]] = []
    suppress = rpn_head._bbox_post_process

    def note(results: InstanceData, *others: Any, **named: Any) -> InstanceData:
        noted.append(partial(candidates_of, results))
        return suppress(results, *others, **named)

    rpn_head._bbox_post_process = note
    try:
        yield noted
    finally:
        del rpn_head._bbox_post_process


def candidates_of(noted: InstanceData) -> Candidates:
    """What enters NMS of one image: the best of every level that have an area."""
    kept = (noted.bboxes[:, 2:] > noted.bboxes[:, :2]).all(dim=1)
    return noted.bboxes[kept], noted.scores[kept], noted.level_ids[kept]
