"""Where RoIs come from, asked of each framework's own functions: two lists of proposals, draws, odd batches."""

import dataclasses
import pkgutil

import numpy as np
import pytest
import torch
from head_sides import IMAGES, SIZE, detector
from torchvision.ops import batched_nms, box_iou

from cascadebench.study.stage_settings import stage_settings

LISTS = pytest.mark.parametrize(
    ("variant", "options", "overlaps"),
    [
        ("decoupled_rcnn", {}, [0.7, 0.85]),
        ("decoupled_rcnn", {"nms_cls": 0.5, "nms_reg": 0.95}, [0.5, 0.95]),
        ("faster_rcnn", {"nms_cls": 0.6}, [0.6, 0.7]),
        ("faster_rcnn", {"nms_reg": 0.9}, [0.7, 0.9]),
    ],
)


@LISTS
def test_two_lists_come_from_the_same_candidates(framework, variant, options, overlaps, monkeypatch):
    """What is kept overlaps by no more than it may, and what is not overlaps something better by more."""
    one = detector(framework, variant, 0.02, **options)
    rpn, calls, suppress = one.run.protocol.rpn, [], pkgutil.resolve_name(one.nms_in)

    def recorded(boxes, scores, levels, overlap):
        given = suppress(boxes, scores, levels, overlap)
        overlap, kept = (overlap["iou_threshold"], given[1]) if framework == "mmdet" else (overlap, given)
        assert torch.equal(kept, batched_nms(boxes, scores, levels, overlap))
        calls.append((boxes, levels, overlap, kept))
        return given

    monkeypatch.setattr(one.nms_in, recorded)
    images = torch.randn(IMAGES, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    lists = one.propose(images)
    assert [overlap for _, _, overlap, _ in calls] == [overlaps[0]] * 2 + [overlaps[1]] * 2
    for image, pair in enumerate(lists):
        (boxes, levels, *_), (again, levels_again, *_) = calls[image], calls[image + 2]
        assert torch.equal(boxes, again)
        assert torch.equal(levels, levels_again)
        assert levels.bincount().max() == rpn.train_pre_nms
        for proposals, (_, _, overlap, kept) in zip(pair, (calls[image], calls[image + 2]), strict=True):
            assert torch.equal(proposals, boxes[kept][: rpn.train_post_nms])
            between = box_iou(boxes, boxes[kept]) * (levels[:, None] == levels[kept])
            assert (between[kept] - torch.eye(len(kept))).max() <= overlap + 1e-6
            dropped = torch.ones(len(boxes), dtype=torch.bool)
            dropped[kept] = False
            assert (between[dropped].max(1)[0] > overlap).all()
        assert len(calls[image + 2][3]) > len(calls[image][3])
    one.model.eval()
    for tested, (boxes, _, overlap, kept) in zip(one.propose(images), calls[4:], strict=True):
        assert overlap == rpn.nms_iou
        assert torch.equal(tested, boxes[kept][: rpn.test_post_nms])


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("faster_rcnn", {}),
        ("faster_rcnn", {"nms_reg": 0.8, "regression": "class_specific"}),
        ("cascade_rcnn", {}),
        ("fscascade", {}),
        ("iterative_bbox", {}),
        ("integral_loss", {}),
        ("decoupled_rcnn", {}),
        ("decoupled_rcnn", {"classifiers": 3, "regression": "class_specific"}),
        ("decoupled_rcnn", {"double_head": True, "stages": 2}),
    ],
)
def test_images_without_ground_truth_positives_or_proposals(framework, variant, options, records):
    one = detector(framework, variant, 0.01, **options)
    outside = dataclasses.replace(records[0], boxes=np.array([[-30, -30, -10, -10]], np.float32), labels=np.array([1]))
    empty = records[5]
    assert len(empty.boxes) == 0
    stages = list(enumerate(stage_settings(one.run), start=1))
    names = {f"stage{number}_classification" for number, stage in stages if stage.has_classifier}
    names |= {f"stage{number}_regression" for number, stage in stages if stage.has_regressor}

    def check(batch) -> None:
        losses, gradients = one.step(batch)
        assert losses.keys() == names | {"rpn_classification", "rpn_regression"}
        assert all(value.isfinite().all() for value in (*losses.values(), *gradients.values()))
        if framework == "mmdet":
            assert gradients.keys() == {name for name, weight in one.parameters.items() if weight.requires_grad}

    for batch in (records[:2], [empty, empty], [empty, records[1]]):
        check(batch)
    if framework == "detectron2":  # MMDetection cuts boxes at the image's border
        check([outside, outside])
    one.propose_above(1e6)  # no proposals
    for batch in (records[:2], [empty, empty]):
        check(batch)
    assert all(tensor.isfinite().all() for tensor in one.model.state_dict().values())
    (prediction,) = one.predictions(records[:1])
    assert all(len(stage.scores) == 0 for stage in prediction.test_stages.values())
    one.propose_above(0.0)
    for prediction in one.predictions([records[0], empty]):
        assert list(prediction.test_stages) == [stage.label for stage in one.run.variant.test_stages]
        assert all(len(stage.scores) for stage in prediction.test_stages.values())
