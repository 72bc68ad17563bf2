"""What the proposal network gives to its NMS."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmdet.models.dense_heads import RPNHead
from mmengine.structures import InstanceData
from torch import Tensor


@contextmanager
def noted_candidates(rpn_head: RPNHead) -> Iterator[list[InstanceData]]:
    """Fill a list, image by image, with what enters NMS while the block runs: the best of every level."""
    noted: list[InstanceData] = []
    suppress = rpn_head._bbox_post_process

    def note(results: InstanceData, *others: Any, **named: Any) -> InstanceData:
        noted.append(results)
        return suppress(results, *others, **named)

    rpn_head._bbox_post_process = note
    try:
        yield noted
    finally:
        del rpn_head._bbox_post_process


def candidates_of(noted: InstanceData) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [N, 4] with an area, scores [N] and levels [N] of one image."""
    kept = (noted.bboxes[:, 2:] > noted.bboxes[:, :2]).all(dim=1)
    return noted.bboxes[kept], noted.scores[kept], noted.level_ids[kept]
