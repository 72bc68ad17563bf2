"""What a prediction tells beside its detections, in both frameworks."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from drawn_images import few_shapes
from PIL import Image
from torchvision.ops import batched_nms
from trainings import command, same, save_model

from adapters.commands import initial_model, load_adapter
from cascadebench.diagnostics.nms_survivors import survivors
from cascadebench.diagnostics.observations import quality_stages
from cascadebench.metrics.coco.detections import PROPOSALS, read_detections
from cascadebench.metrics.coco.parquet import read_parquet

VARIANTS = ["faster_rcnn", "cascade_rcnn", "fscascade", "decoupled_rcnn", "integral_loss", "iterative_bbox"]
WHOLE_HEADS = {"cascade_rcnn": 3, "fscascade": 3, "decoupled_rcnn": 1, "iterative_bbox": 1}


@pytest.fixture(scope="module")
def scaled_record(records, tmp_path_factory):
    """A picture that is shrunk to half before it is seen."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    Image.open(records[0].path).resize((256, 192)).save(path)
    return replace(records[0], id=99, path=path, width=256, height=192, boxes=2 * records[0].boxes)


def moving_model(run):
    """A detector in test mode whose regressors move boxes and whose classifiers prefer some."""
    model = initial_model(load_adapter(run.framework), run, with_weights=False)
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("fc_reg", "bbox_pred", "fc_cls", "cls_score")):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=random))
    return model.eval()


def detections(boxes, probabilities, inference):
    """Filter, suppress class by class and cut, written out again: boxes, scores and labels by falling score."""
    rows, labels = np.nonzero(probabilities[:, :-1] > inference.score_threshold)
    scores = probabilities[rows, labels]
    kept = batched_nms(*(torch.from_numpy(one) for one in (boxes[rows], scores, labels)), inference.nms_iou)
    kept = kept[: inference.max_detections].numpy()
    return boxes[rows][kept], scores[kept], labels[kept]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_rows_of_an_observation_reproduce_the_detections_of_every_stage(framework, variant, small_run, records):
    run = small_run(framework, variant)
    for prediction in load_adapter(framework).predict(run, moving_model(run), records):
        image = prediction.observe(False)
        assert image.image_id == prediction.image_id
        assert image.candidates is None
        assert len(image.stages) == max(run.variant.stages, run.variant.classifiers)
        assert np.array_equal(image.proposals, prediction.proposals.boxes)
        assert np.array_equal(image.objectness, prediction.proposals.scores)
        assert np.array_equal(image.stages[0].rois, image.proposals)
        for number, stage in enumerate(image.stages, start=1):
            assert (stage.boxes is not None) == (number <= run.variant.stages)
            assert (stage.probabilities is not None) == (number <= run.variant.classifiers)
            regressor = min(number, run.variant.stages)
            if number > regressor:
                assert np.array_equal(stage.rois, image.proposals)
            elif number > 1:
                assert np.array_equal(stage.rois, image.stages[number - 2].boxes)
            if stage.probabilities is not None:
                found = prediction.test_stages[f"({regressor},{number})"]
                expected = detections(image.stages[regressor - 1].boxes, stage.probabilities, run.protocol.inference)
                for one, other in zip((found.boxes, found.scores, found.labels), expected, strict=True):
                    assert np.array_equal(one, other)
                assert len(found.scores) > 0


@pytest.mark.parametrize("variant", ["cascade_rcnn", "decoupled_rcnn"])
def test_boxes_of_an_observation_are_those_of_the_original_image(framework, variant, small_run, scaled_record):
    run = small_run(framework, variant)
    (prediction,) = load_adapter(framework).predict(run, moving_model(run), [scaled_record])
    observed = prediction.observe(True)
    assert np.array_equal(observed.proposals, prediction.proposals.boxes)
    assert observed.proposals[:, 2].max() > 128
    assert observed.candidates.boxes[:, 2].max() > 128
    for number, stage in enumerate(observed.stages[: run.variant.classifiers], start=1):
        rows = {box.tobytes() for box in stage.boxes}
        found = prediction.test_stages[f"({number},{number})"].boxes
        assert len(found)
        assert all(box.tobytes() in rows for box in found)
        assert np.array_equal(prediction.quality()[f"head {number} on stage {number}"].boxes, found)


def test_with_a_box_for_every_class_that_of_the_best_one_leaves(framework, small_run, records):
    run = small_run(framework, "faster_rcnn", regression="class_specific")
    (prediction,) = load_adapter(framework).predict(run, moving_model(run), records[:1])
    stage = prediction.observe(False).stages[0]
    best = stage.probabilities[:, :-1].argmax(1)
    expected = {(label, box.tobytes()) for label, box in zip(best.tolist(), stage.boxes, strict=True)}
    found = prediction.test_stages["(1,1)"]
    assert (int(found.labels[0]), found.boxes[0].tobytes()) in expected
    assert len({box for _, box in expected}) > 1
    assert stage.boxes.shape == (len(best), 4)


def test_candidates_are_what_the_rpn_s_nms_chooses_the_proposals_from(framework, small_run, records):
    run = small_run(framework, "faster_rcnn")
    (prediction,) = load_adapter(framework).predict(run, moving_model(run), records[:1])
    candidates = prediction.observe(True).candidates
    assert len(set(candidates.levels.tolist())) == 5
    assert np.bincount(candidates.levels).max() <= run.protocol.rpn.test_pre_nms
    assert len(candidates.boxes) > len(prediction.proposals.boxes)
    kept = np.flatnonzero(survivors(candidates, (run.protocol.rpn.nms_iou,))[0])
    best = kept[np.argsort(-candidates.scores[kept], kind="stable")][: run.protocol.rpn.test_post_nms]
    assert np.array_equal(np.sort(candidates.scores[best]), np.sort(prediction.proposals.scores))
    rows = {box.tobytes() for box in candidates.boxes[best]}
    assert {box.tobytes() for box in prediction.proposals.boxes} == rows


@pytest.mark.parametrize("variant", VARIANTS)
def test_on_its_own_rois_a_head_gives_the_detections_of_its_test_stage(framework, variant, small_run, records):
    run = small_run(framework, variant)
    several = run.variant.stages > 1
    cells = quality_stages(WHOLE_HEADS[variant], run.variant.stages) if several else []
    for prediction in load_adapter(framework).predict(run, moving_model(run), records[:2]):
        quality = prediction.quality()
        assert list(quality) == [cell.label for cell in cells]
        for cell in cells:
            on_own = cell.head == cell.stage or variant == "iterative_bbox"
            own = prediction.test_stages[f"({cell.stage},{cell.stage if on_own else 1})"]
            assert same(quality[cell.label], own) or not on_own, cell
            assert on_own or not np.array_equal(quality[cell.label].scores, own.scores)


@pytest.mark.parametrize("variant", ["cascade_rcnn", "fscascade"])
def test_on_the_proposals_a_head_gives_what_it_gives_as_the_first(framework, variant, small_run, records):
    """With the second head in the place of the first, the first stage's detections are a cell of the matrix."""
    options = {"cfs": False, "lfs": False} if variant == "fscascade" else {}
    run = small_run(framework, variant, **options)
    model = moving_model(run)
    (prediction,) = load_adapter(framework).predict(run, model, records[:1])
    expected = prediction.quality()["head 2 on stage 1"]
    if framework == "mmdet":
        model.roi_head.bbox_head[0] = model.roi_head.bbox_head[1]
    else:
        model.roi_heads.box_head[0] = model.roi_heads.box_head[1]
        model.roi_heads.box_predictor[0] = model.roi_heads.box_predictor[1]
    (moved,) = load_adapter(framework).predict(run, model, records[:1])
    found = moved.test_stages["(1,1)"]
    assert same(found, expected)
    assert not np.array_equal(found.scores, prediction.test_stages["(1,1)"].scores)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Eight drawn validation images."""
    return few_shapes(tmp_path_factory.mktemp("data") / "shapes", 2, 8)


@pytest.mark.parametrize("variant", ["faster_rcnn", "cascade_rcnn"])
def test_the_diagnostics_change_no_byte_of_a_prediction(framework, variant, small_run, dataset, tmp_path):
    run, folder = small_run(framework, variant), tmp_path / "run"
    save_model(run, folder, moving_model(run))
    assert command(run, "predict", folder, dataset, "--diagnostics", "0") == 0
    names = ("detections.parquet", "proposals.parquet")
    without = [(folder / name).read_bytes() for name in names]
    made = ("localization.parquet", "recall.parquet", "nms_survivors.parquet", "quality_detections.parquet")
    assert not any((folder / name).exists() for name in made)
    assert command(run, "predict", folder, dataset) == 0
    assert [(folder / name).read_bytes() for name in names] == without
    several = run.variant.stages > 1
    assert [(folder / name).exists() for name in made] == [True, True, True, several]
    assert json.loads((folder / "predicted.json").read_text())["images"] == 8
    recall = pd.read_parquet(folder / "recall.parquet")
    assert sorted(set(recall["stage"])) == list(range(run.variant.stages + 1))
    assert set(pd.read_parquet(folder / "nms_survivors.parquet")["images"]) == {8}
    assert len(read_parquet(folder / "proposals.parquet", PROPOSALS)) > 0
    if several:
        quality, found = (read_detections(folder / name) for name in (made[3], names[0]))
        for number in (1, 2, 3):
            cell = quality[quality["test_stage"] == f"head {number} on stage {number}"]
            stage = found[found["test_stage"] == f"({number},{number})"]
            columns = [name for name in cell if name != "test_stage"]
            assert cell[columns].reset_index(drop=True).equals(stage[columns].reset_index(drop=True))
