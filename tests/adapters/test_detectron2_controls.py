"""Detectron2's controls, the names of its weights, and the two sets of rules."""

import random

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling.box_regression import Box2BoxTransform

from adapters.detectron2.adapter import ADAPTER
from adapters.detectron2.common_rules import TwoSidedBoxTransform
from adapters.detectron2.weights import common_name
from adapters.inspection.probe_inputs import probe_boxes
from cascadebench.controls.definitions import CONTROLS
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.determinism.initial_weights import initial_tensor
from cascadebench.study.run import Run
from cascadebench.study_loading import chosen_variant, load_study

torch.set_num_threads(1)
RUNS = {one.run.variant.name: one.run for one in load_study("tiny").runs if one.run.framework == "detectron2"}
BOTH = pytest.mark.parametrize("variant", ["faster_rcnn", "cascade_rcnn"])
CASES = [
    ("faster_rcnn", {}),
    ("faster_rcnn", {"heads": "unshared", "iou_threshold": 0.6}),
    ("faster_rcnn", {"nms_cls": 0.6, "regression": "class_specific"}),
    ("cascade_rcnn", {}),
    ("cascade_rcnn", {"stages": 4, "stage_loss": "avg", "target_statistics": "constant"}),
    ("cascade_rcnn", {"stages": 1, "iou_thresholds": "constant"}),
    ("fscascade", {}),
    ("fscascade", {"cfs": False, "share_gradient": False}),
    ("fscascade", {"lfs": False, "merge": "concat"}),
    ("fscascade", {"cfs": False, "lfs": False}),
    ("decoupled_rcnn", {}),
    ("decoupled_rcnn", {"classifiers": 3, "iou_thresholds": "rising", "nms_cls": 0.6}),
    ("decoupled_rcnn", {"regression": "class_specific", "stage_weights": "halved", "lambda": 2.0}),
    ("decoupled_rcnn", {"stages": 1, "heads": "shared", "regression_ground_truth": True}),
    ("decoupled_rcnn", {"stages": 2, "double_head": True, "later_weights": "pytorch"}),
    ("iterative_bbox", {}),
    ("integral_loss", {}),
]
EVERY = pytest.mark.parametrize(("variant", "options"), CASES)


def run_of(variant: str, **options) -> Run:
    """The embedded study's run of a variant."""
    found = find_variant(variant, "test")
    chosen = chosen_variant(found, found.card.complete_options(options, "test"), "test")
    return RUNS["faster_rcnn"].model_copy(update={"variant": chosen})


def with_rules(run: Run, rules: str) -> Run:
    return run.model_copy(update={"protocol": run.protocol.model_copy(update={"rules": rules})})


def values(run: Run) -> dict:
    return {control.name: control.value for control in ADAPTER.read_controls(ADAPTER.build(run))}


@EVERY
def test_every_weight_has_one_common_name(variant, options):
    with torch.device("meta"):
        model = ADAPTER.build_model(run_of(variant, **options))
    names = {name: common_name(name) for name in model.state_dict()}
    assert all(names[name] for name, _ in model.named_parameters())
    common = [name for name in names.values() if name]
    assert len(common) == len(set(common)) > 100
    for name, tensor in model.state_dict().items():
        if names[name]:
            assert initial_tensor(names[name], tuple(tensor.shape), 0).shape == tensor.shape
    assert {name.split(".")[-1] for name, one in names.items() if one is None} == {"num_batches_tracked"}


def test_names_of_weights():
    for name, common in {
        "backbone.bottom_up.stem.conv1.weight": "backbone.stem.conv.weight",
        "backbone.bottom_up.stem.conv1.norm.bias": "backbone.stem.norm.bias",
        "backbone.bottom_up.res2.0.conv1.weight": "backbone.stage1.0.conv1.weight",
        "backbone.bottom_up.res5.2.conv3.norm.running_var": "backbone.stage4.2.norm3.running_var",
        "backbone.bottom_up.res3.0.shortcut.weight": "backbone.stage2.0.shortcut.conv.weight",
        "backbone.bottom_up.res3.0.shortcut.norm.weight": "backbone.stage2.0.shortcut.norm.weight",
        "backbone.bottom_up.res3.0.shortcut.norm.num_batches_tracked": None,
        "backbone.fpn_lateral2.weight": "neck.lateral2.weight",
        "backbone.fpn_output5.bias": "neck.output5.bias",
        "proposal_generator.rpn_head.objectness_logits.bias": "rpn.objectness.bias",
        "roi_heads.box_head.0.fc2.weight": "heads.1.fc2.weight",
        "roi_heads.box_predictor.2.cls_score.weight": "heads.3.classifier.weight",
        "roi_heads.box_predictor.1.bbox_pred.bias": "heads.2.regressor.bias",
        "roi_heads.box_head.1.classification.fc2.bias": "heads.2.classification.fc2.bias",
        "roi_heads.box_head.0.regression.blocks.4.norm3.running_var": "heads.1.regression.block4.norm3.running_var",
        "roi_heads.box_head.2.regression.blocks.0.shortcut.norm.bias": "heads.3.regression.block0.shortcut.norm.bias",
        "roi_heads.sharing.embeddings.3.weight": "heads.3.embedding.weight",
        "roi_heads.sharing.reductions.2.weight": "heads.2.reduction.weight",
        "pixel_mean": None,
    }.items():
        assert common_name(name) == common
    for unknown in ("roi_heads.mask_head.weight", "backbone.fpn_lateral2", "backbone.bottom_up.res2.0.conv1.gamma.x"):
        with pytest.raises(ValueError, match="no common name"):
            common_name(unknown)


def test_initial_weights_come_from_the_runs_seed_alone():
    torch.manual_seed(1)
    faster = ADAPTER.build_model(RUNS["faster_rcnn"]).state_dict()
    cascade = ADAPTER.build_model(RUNS["cascade_rcnn"]).state_dict()
    assert faster.keys() < cascade.keys()
    assert all(torch.equal(faster[name], cascade[name]) for name in faster)
    other = ADAPTER.build_model(RUNS["faster_rcnn"].model_copy(update={"seed": 1})).state_dict()
    assert not torch.equal(faster["roi_heads.box_head.0.fc1.weight"], other["roi_heads.box_head.0.fc1.weight"])


@EVERY
def test_every_control_is_what_the_run_says(variant, options):
    run = run_of(variant, **options)
    controls = ADAPTER.read_controls(ADAPTER.build(run))
    assert sorted(control.name for control in controls) == sorted(CONTROLS)
    for control in controls:
        assert control.read_from
        definition = CONTROLS[control.name]
        if definition.expected:
            assert same(control.value, definition.expected(run)), control


@EVERY
def test_a_variant_changes_only_what_its_card_declares(variant, options, baseline):
    run = run_of(variant, **options)
    card = find_variant(variant, "test").card
    changed = {name for name, value in values(run).items() if value != baseline[name]}
    assert changed <= set(card.treatment_of(run.variant.options))


@pytest.fixture(scope="module")
def baseline() -> dict:
    """Controls of the baseline."""
    return values(RUNS["faster_rcnn"])


def same(found, wanted) -> bool:
    """Numbers to nine digits, everything else exactly."""
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(same(*pair) for pair in zip(found, wanted, strict=True))
    if isinstance(wanted, float):
        return found == pytest.approx(wanted, rel=1e-8)
    return type(found) is type(wanted) and found == wanted


@pytest.mark.parametrize(("variant", "options"), [("cascade_rcnn", {}), ("decoupled_rcnn", {"double_head": True})])
def test_reading_controls_disturbs_nothing(variant, options):
    built = ADAPTER.build(run_of(variant, **options))
    built.model.roi_heads.eval()
    modes = [module.training for module in built.model.modules()]
    weights = {name: tensor.clone() for name, tensor in built.model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first = ADAPTER.read_controls(built)
    assert ADAPTER.read_controls(built) == first
    assert modes == [module.training for module in built.model.modules()]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in built.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    assert all(parameter.grad is None for parameter in built.model.parameters())


def test_order_and_seeds_depend_on_the_seed_alone():
    order = ["training.order_sha256", "training.flips_sha256", "training.step_seeds_sha256"]
    faster, cascade = values(RUNS["faster_rcnn"]), values(RUNS["cascade_rcnn"])
    other = values(RUNS["faster_rcnn"].model_copy(update={"seed": 1}))
    assert all(faster[name] == cascade[name] != other[name] for name in order)


def test_boxes_shrink_no_further_than_they_grow():
    transform, parent = (kind(weights=(20.0, 20.0, 10.0, 10.0)) for kind in (TwoSidedBoxTransform, Box2BoxTransform))
    boxes = probe_boxes(20)
    deltas = torch.randn(20, 12, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(
        transform.apply_deltas(deltas, boxes), parent.apply_deltas(deltas, boxes), rtol=0, atol=0
    )
    great = torch.tensor([[0.0, 0.0, -1e3, 1e3]])
    decoded = transform.apply_deltas(great, torch.tensor([[-8.0, -8.0, 8.0, 8.0]]))
    torch.testing.assert_close(decoded, torch.tensor([[-0.128, -500.0, 0.128, 500.0]]))
    assert transform.apply_deltas(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


@BOTH
def test_detectron2s_own_rules(variant):
    run = with_rules(RUNS[variant], "detectron2")
    stages = run.variant.stages
    own, aligned = values(run), values(RUNS[variant])
    differ = {name for name in own if own[name] != aligned[name]}
    wanted = {"rpn.delta_clamp", "heads.delta_clamp", "weights.trunk_sha256", "weights.first_head_sha256"}
    assert own["rpn.delta_clamp"] == [0.0, 62.5] and own["heads.delta_clamp"] == [[0.0, 62.5]] * stages
    assert own["heads.classification_loss_weight"] == own["heads.regression_loss_weight"] == [1.0] * stages
    if variant == "cascade_rcnn":
        wanted |= {"heads.trunk_gradient", "rpn.train_post_nms"}
        assert own["heads.trunk_gradient"] == [0.3333333] * 3 and own["rpn.train_post_nms"] == 2000
        weights = [one.box2box_transform.weights for one in ADAPTER.build_model(run).roi_heads.box_predictor]
        assert weights == [[10, 10, 5, 5], [20, 20, 10, 10], [30, 30, 15, 15]]
    # With other weights, boxes of later stages may fall on other sides of the thresholds.
    positives = {"heads.positives_entering", "heads.regression_positives_entering"}
    assert differ | positives == wanted | positives


def test_own_rules_leave_what_belongs_to_a_variant():
    own = values(with_rules(run_of("decoupled_rcnn", target_statistics="constant"), "detectron2"))
    assert own["heads.target_stds"] == [[0.1, 0.1, 0.2, 0.2]] * 3
    assert own["heads.regression_loss_weight"] == [0.5] * 3
    assert own["heads.trunk_gradient"] == [1.0] * 3
    assert own["rpn.train_post_nms"] == 100
    model = ADAPTER.build_model(with_rules(run_of("fscascade"), "detectron2"))
    assert not any(layer.weight.any() for layer in model.roi_heads.sharing.embeddings.values())
