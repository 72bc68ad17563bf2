"""What the proposal network gives to its NMS."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import Instances

from adapters.prediction.predict_image import Candidates


@contextmanager
def noted_candidates(generator: RPN) -> Iterator[list[Callable[[], Candidates]]]:
    """Fill a list with what gives the candidates of proposals that are made while the block runs, of one image."""
    noted: list[Callable[[], Candidates]] = []
    propose = generator.predict_proposals

    def note(*arguments: Any) -> list[Instances]:
        noted.append(partial(candidates_of, generator, arguments))
        return propose(*arguments)

    generator.predict_proposals = note
    try:
        yield noted
    finally:
        del generator.predict_proposals


def candidates_of(generator: RPN, noted: tuple) -> Candidates:
    """What enters NMS of one image: the best of every level, from the arguments of ``predict_proposals``."""
    anchors, logits, deltas, sizes = noted
    number, found = generator.pre_nms_topk[False], []
    for boxes, scores in zip(generator._decode_proposals(anchors, deltas), logits, strict=True):
        # A level by itself, with an NMS that finds no overlap too great.
        (level,) = find_top_rpn_proposals(
            [boxes], [scores], sizes, math.inf, number, number, generator.min_box_size, training=False
        )
        found.append(level)
    boxes = torch.cat([level.proposal_boxes.tensor for level in found])
    scores = torch.cat([level.objectness_logits for level in found]).sigmoid()
    counts = torch.tensor([len(level) for level in found], device=boxes.device)
    return boxes, scores, torch.arange(len(found), device=boxes.device).repeat_interleave(counts)
