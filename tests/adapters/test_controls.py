"""What an adapter builds, read back in every framework: names of weights, controls, common and own rules."""

import random
from functools import cache

import numpy as np
import pytest
import torch
from trainings import changed, control_values, run_of

import adapters.mmdet  # noqa: F401 (before MMDetection: it provides mmcv's operators)

# isort: split
from detectron2.modeling.box_regression import Box2BoxTransform
from mmengine.structures import InstanceData

from adapters.commands import load_adapter
from adapters.detectron2.rules import TwoSidedBoxTransform
from adapters.detectron2.weights import common_name as detectron2_name
from adapters.inspection.box_probes import delta_clamp
from adapters.inspection.control_rows import Control
from adapters.inspection.probe_inputs import probe_boxes
from adapters.mmdet.weights import common_name as mmdet_name
from cascadebench.controls.definitions import CONTROLS
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.determinism.initial_weights import initial_tensor
from cascadebench.study.run import Run

TABLES = {"mmdet": mmdet_name, "detectron2": detectron2_name}
CASES = [
    ("faster_rcnn", {}),
    ("faster_rcnn", {"heads": "unshared", "iou_threshold": 0.6}),
    ("faster_rcnn", {"heads": "unshared", "regression": "class_specific", "nms_reg": 0.85, "iou_threshold": 0.6}),
    ("faster_rcnn", {"nms_cls": 0.6, "regression": "class_specific"}),
    ("cascade_rcnn", {}),
    ("cascade_rcnn", {"stages": 4, "iou_thresholds": "constant", "target_statistics": "constant", "stage_loss": "avg"}),
    ("cascade_rcnn", {"stages": 1, "iou_thresholds": "constant"}),
    ("cascade_rcnn", {"later_ground_truth": "dropped_and_added"}),
    ("fscascade", {}),
    ("fscascade", {"borrowed_loss": "relative", "later_ground_truth": "dropped_and_added"}),
    ("fscascade", {"cfs": False, "share_gradient": False, "embed": "identity"}),
    ("fscascade", {"lfs": False, "merge": "concat", "stages": 2}),
    ("fscascade", {"cfs": False, "lfs": False}),
    ("decoupled_rcnn", {}),
    ("decoupled_rcnn", {"classifiers": 3, "iou_thresholds": "rising", "later_weights": "pytorch", "nms_cls": 0.6}),
    ("decoupled_rcnn", {"regression": "class_specific", "stage_weights": "halved", "lambda": 2.0}),
    ("decoupled_rcnn", {"regression": "class_specific", "stage_weights": "halved", "lambda": 0.0}),
    ("decoupled_rcnn", {"regression": "class_specific", "moved_by": "ground_truth_class"}),
    ("decoupled_rcnn", {"stages": 1, "heads": "shared", "regression_ground_truth": True}),
    ("decoupled_rcnn", {"stages": 2, "double_head": True, "later_weights": "pytorch"}),
    ("iterative_bbox", {}),
    ("integral_loss", {}),
]
"""Variants, with their defaults and with other options."""
EVERY = pytest.mark.parametrize(("variant", "options"), CASES)
NAMES = {
    "mmdet": {
        "backbone.layer2.0.downsample.0.weight": "backbone.stage2.0.shortcut.conv.weight",
        "backbone.layer1.0.bn1.running_var": "backbone.stage1.0.norm1.running_var",
        "neck.fpn_convs.3.conv.weight": "neck.output5.weight",
        "rpn_head.rpn_cls.weight": "rpn.objectness.weight",
        "roi_head.bbox_head.0.shared_fcs.0.weight": "heads.1.fc1.weight",
        "roi_head.bbox_head.2.fc_reg.weight": "heads.3.regressor.weight",
    },
    "detectron2": {
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
    },
}
"""Names in a framework's state dicts, and the common ones."""
UNKNOWN = [
    ("mmdet", "backbone.conv2.weight"), ("mmdet", "roi_head.bbox_head.0.shared_fcs.2.weight"), ("mmdet", "neck.gamma"),
    ("detectron2", "roi_heads.mask_head.weight"), ("detectron2", "backbone.fpn_lateral2"),
    ("detectron2", "backbone.bottom_up.res2.0.conv1.gamma.x"),
]  # fmt: skip


def build_model(run: Run) -> torch.nn.Module:
    return load_adapter(run.framework).build_model(run)


def read(run: Run) -> dict[str, Control]:
    """Controls by name."""
    adapter = load_adapter(run.framework)
    controls = adapter.read_controls(adapter.build(run))
    found = {control.name: control for control in controls}
    assert len(found) == len(controls)
    return found


@cache
def default_values(framework: str, variant: str) -> dict:
    return control_values(run_of(framework, variant))


@EVERY
def test_every_weight_has_one_common_name(framework, variant, options):
    run = run_of(framework, variant, **options)
    with torch.device("meta"):
        model = build_model(run)
    names = {name: TABLES[framework](name) for name in model.state_dict()}
    assert all(names[name] for name, _ in model.named_parameters())
    common = [name for name in names.values() if name]
    assert len(common) == len(set(common)) > 100
    for name, tensor in model.state_dict().items():
        if names[name]:
            assert initial_tensor(names[name], tuple(tensor.shape), 0).shape == tensor.shape
    assert {name.split(".")[-1] for name, one in names.items() if one is None} == {"num_batches_tracked"}
    heads = {int(name.split(".")[1]) for name in common if name.startswith("heads.")}
    assert heads == set(range(1, run.variant.heads + 1))


def test_names_of_weights(framework):
    for name, common in NAMES[framework].items():
        assert TABLES[framework](name) == common


@pytest.mark.parametrize(("framework", "name"), UNKNOWN)
def test_a_name_outside_the_table_is_refused(framework, name):
    with pytest.raises(ValueError, match="no common name"):
        TABLES[framework](name)


def test_initial_weights_are_the_common_ones_of_the_runs_seed_alone(framework):
    torch.manual_seed(1)
    faster, cascade, other = (
        build_model(run_of(framework, variant).model_copy(update={"seed": seed})).state_dict()
        for variant, seed in (("faster_rcnn", 3), ("cascade_rcnn", 3), ("faster_rcnn", 1))
    )
    assert faster.keys() < cascade.keys()
    assert all(torch.equal(faster[name], cascade[name]) for name in faster)
    named = {name: common for name, common in NAMES[framework].items() if common and name in cascade}
    assert len(named) > 5
    for name, common in named.items():
        assert np.array_equal(cascade[name].numpy(), initial_tensor(common, tuple(cascade[name].shape), 3)), name
        if common == "heads.1.fc1.weight":
            assert not torch.equal(faster[name], other[name])


@EVERY
def test_every_control_is_what_the_run_says_and_the_card_declares_what_differs(framework, variant, options):
    run = run_of(framework, variant, **options)
    controls = read(run)
    assert controls.keys() == CONTROLS.keys()
    for name, control in controls.items():
        assert control.read_from
        if expected := CONTROLS[name].expected:
            assert same(control.value, expected(run)), control
    baseline = default_values(framework, "faster_rcnn")
    differing = {name for name, control in controls.items() if control.value != baseline[name]}
    assert differing <= set(find_variant(variant, "test").card.treatment_of(run.variant.options))


def same(found, wanted) -> bool:
    """Numbers to nine digits, everything else exactly."""
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(same(*pair) for pair in zip(found, wanted, strict=True))
    if isinstance(wanted, float):
        return found == pytest.approx(wanted, rel=1e-8)
    return type(found) is type(wanted) and found == wanted


@pytest.mark.parametrize(
    ("variant", "options"), [("cascade_rcnn", {}), ("decoupled_rcnn", {"double_head": True, "stages": 2})]
)
def test_reading_controls_disturbs_nothing(framework, variant, options):
    adapter = load_adapter(framework)
    built = adapter.build(run_of(framework, variant, **options))
    next(part for name, part in built.model.named_children() if name in ("roi_head", "roi_heads")).eval()
    modes = [module.training for module in built.model.modules()]
    weights = {name: tensor.clone() for name, tensor in built.model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first = adapter.read_controls(built)
    assert adapter.read_controls(built) == first
    assert modes == [module.training for module in built.model.modules()]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in built.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    assert all(parameter.grad is None for parameter in built.model.parameters())
    scheduler = built.schedulers[0]
    assert (scheduler.last_step if framework == "mmdet" else scheduler.last_epoch) == 0
    assert built.optimizer.param_groups[0]["lr"] == built.run.protocol.schedule.learning_rate(0)


def test_order_and_seeds_depend_on_the_seed_alone(framework):
    order = ["training.order_sha256", "training.flips_sha256", "training.step_seeds_sha256"]
    faster, cascade = (default_values(framework, variant) for variant in ("faster_rcnn", "cascade_rcnn"))
    other = control_values(run_of(framework, "faster_rcnn").model_copy(update={"seed": 1}))
    assert all(faster[name] == cascade[name] != other[name] for name in order)


def test_a_protocol_may_keep_mmdetection_s_own_rules():
    own = control_values(changed(run_of("mmdet", "cascade_rcnn"), "mmdet"))
    aligned = default_values("mmdet", "cascade_rcnn")
    differing = {name: value for name, value in own.items() if value != aligned[name]}
    hashes = {"input.resized_image_sha256", "weights.trunk_sha256", "weights.first_head_sha256"}
    assert hashes <= differing.keys()
    # The first stage moves all 33 RoIs of an image onto its ground truth, and later ones take 16 positives of 64 RoIs.
    assert {name: value for name, value in differing.items() if name not in hashes} == {
        "input.resize": "cv2_bilinear",
        "rpn.low_quality_floor": 0.3,
        "rpn.low_quality_ground_truth": "the one it is best for",
        "rpn.loss_normalizer": "sampled anchors",
        "rpn.train_post_nms": 200,
        "rpn.border": 0,
        "rpn.padding_anchors": False,
        "rpn.regression_loss": "smooth_l1 up to 0.1111",
        "heads.target_stds": [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]],
        "heads.regression_loss": "smooth_l1 up to 1",
        "heads.classification_loss_weight": [1.0, 0.5, 0.25],
        "heads.regression_loss_weight": [1.0, 0.5, 0.25],
        "heads.trunk_gradient": [1.0, 1.0, 1.0],
        "heads.rois_entering": [66, 32, 32],
        "heads.positives_entering": [2, 32, 32],
        "heads.regression_rois_entering": [66, 32, 32],
        "heads.regression_positives_entering": [2, 32, 32],
        "heads.later_ground_truth": "dropped_and_added",
    }


@pytest.mark.parametrize("variant", ["faster_rcnn", "cascade_rcnn"])
def test_detectron2s_own_rules(variant):
    run = changed(run_of("detectron2", variant), "detectron2")
    stages = run.variant.stages
    own, aligned = control_values(run), default_values("detectron2", variant)
    differ = {name for name in own if own[name] != aligned[name]}
    wanted = {"rpn.delta_clamp", "heads.delta_clamp", "weights.trunk_sha256", "weights.first_head_sha256"}
    assert own["rpn.delta_clamp"] == [0.0, 62.5] and own["heads.delta_clamp"] == [[0.0, 62.5]] * stages
    assert own["heads.classification_loss_weight"] == own["heads.regression_loss_weight"] == [1.0] * stages
    if variant == "cascade_rcnn":
        wanted |= {"heads.trunk_gradient", "rpn.train_post_nms"}
        assert own["heads.trunk_gradient"] == [0.3333333] * 3 and own["rpn.train_post_nms"] == 2000
        weights = [one.box2box_transform.weights for one in build_model(run).roi_heads.box_predictor]
        assert weights == [[10, 10, 5, 5], [20, 20, 10, 10], [30, 30, 15, 15]]
    # With other weights, boxes of later stages may fall on other sides of the thresholds.
    positives = {"heads.positives_entering", "heads.regression_positives_entering"}
    assert differ | positives == wanted | positives


def test_own_rules_leave_what_belongs_to_a_variant():
    own = control_values(changed(run_of("detectron2", "decoupled_rcnn", target_statistics="constant"), "detectron2"))
    assert own["heads.target_stds"] == [[0.1, 0.1, 0.2, 0.2]] * 3
    assert own["heads.regression_loss_weight"] == [0.5] * 3
    assert own["heads.trunk_gradient"] == [1.0] * 3
    assert own["rpn.train_post_nms"] == 100
    model = build_model(changed(run_of("detectron2", "fscascade"), "detectron2"))
    assert not any(layer.weight.any() for layer in model.roi_heads.sharing.embeddings.values())


def test_positive_anchors_regress_to_their_best_ground_truth():
    assigner = build_model(run_of("mmdet", "faster_rcnn")).rpn_head.assigner
    anchors = torch.tensor([[0.0, 0.0, 40.0, 100.0], [0.0, 0.0, 100.0, 100.0], [300.0, 300.0, 320.0, 320.0]])
    truth = InstanceData(
        bboxes=torch.tensor([[0.0, 0.0, 40.0, 100.0], [65.0, 0.0, 100.0, 100.0]]), labels=torch.zeros(2).long()
    )
    result = assigner.assign(InstanceData(priors=anchors), truth)
    assert result.gt_inds.tolist() == [1, 1, 0]
    assert result.labels.tolist() == [0, 0, -1]
    none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    assert assigner.assign(InstanceData(priors=anchors), none).gt_inds.tolist() == [0, 0, 0]


def test_deltas_are_clamped_on_both_sides():
    model = build_model(run_of("mmdet", "cascade_rcnn"))
    coders = [model.rpn_head.bbox_coder, *(head.bbox_coder for head in model.roi_head.bbox_head)]
    assert [delta_clamp(coder.decode) for coder in coders] == [[0.016, 62.5]] * 4


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


@pytest.mark.parametrize(
    ("variant", "changes", "seen"),
    [
        ("fscascade", {"sharing.cfs": False}, {"heads.classifier_trains": [[1], [2], [3]]}),
        ("fscascade", {"sharing.lfs": False}, {"heads.regressor_trains": [[1], [2], [3]]}),
        (
            "fscascade",
            {"sharing.share_gradient": False},
            {"heads.classifier_trains": [[1], [2], [3]], "heads.regressor_trains": [[1], [2], [3]]},
        ),
        (
            "fscascade",
            {"sharing.cfs": False, "sharing.lfs": False},
            {
                "heads.trunks_run": [[1], [2], [3]],
                "heads.classifier_trains": [[1], [2], [3]],
                "heads.regressor_trains": [[1], [2], [3]],
            },
        ),
        ("decoupled_rcnn", {"regression_sampler.num": 40}, {"heads.rois_per_image": [64, 40]}),
        (
            "decoupled_rcnn",
            {"regression_sampler.num": 20},
            {
                "heads.rois_per_image": [64, 20],
                "heads.regression_rois_entering": [40, 40, 40],
            },
        ),
        (
            "decoupled_rcnn",
            {"stage_loss_weights": [1.0, 0.5, 0.25]},
            {"heads.regression_loss_weight": [0.5, 0.25, 0.125]},
        ),
        ("decoupled_rcnn", {"trunk_gradient": [1.0, 0.5, 1.0]}, {"heads.trunk_gradient": [1.0, 0.5, 1.0]}),
        ("integral_loss", {"bbox_assigner.2.pos_iou_thr": 0.9}, {"heads.iou_threshold": [0.5, 0.6, 0.9]}),
        ("iterative_bbox", {"applications": 2}, {"heads.stages": 2, "heads.classifiers": 2}),
    ],
)
def test_a_change_in_another_variant_is_read(variant, changes, seen):
    adapter = load_adapter("mmdet")
    built = adapter.build(run_of("mmdet", variant))
    before = {control.name: control.value for control in adapter.read_controls(built)}
    for path, value in changes.items():
        *parts, name = path.split(".")
        target = built.model.roi_head
        for part in parts:
            target = target[int(part)] if part.isdigit() else getattr(target, part)
        setattr(target, name, value)
    after = {control.name: control.value for control in adapter.read_controls(built)}
    counts = {"heads.positives_entering", "heads.regression_positives_entering"}
    assert {name: value for name, value in after.items() if value != before[name] and name not in counts} == seen
