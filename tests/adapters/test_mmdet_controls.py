"""What MMDetection's adapter builds, read back: names of weights, controls, common and own rules."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from adapters.inspection.box_probes import delta_clamp
from adapters.mmdet.adapter import ADAPTER
from adapters.mmdet.weights import common_name
from cascadebench.controls.audit import same_value
from cascadebench.controls.definitions import CONTROLS
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.determinism.initial_weights import initial_tensor
from cascadebench.study_loading import chosen_variant, load_study

torch.set_num_threads(1)
VARIANTS = [
    ("faster_rcnn", {}),
    ("faster_rcnn", {"heads": "unshared", "regression": "class_specific", "nms_reg": 0.85, "iou_threshold": 0.6}),
    ("cascade_rcnn", {}),
    ("cascade_rcnn", {"stages": 4, "iou_thresholds": "constant", "target_statistics": "constant", "stage_loss": "avg"}),
    ("fscascade", {}),
    ("fscascade", {"lfs": False, "merge": "concat", "stages": 2}),
    ("fscascade", {"cfs": False, "share_gradient": False, "embed": "identity"}),
    ("decoupled_rcnn", {}),
    ("decoupled_rcnn", {"classifiers": 3, "iou_thresholds": "rising", "later_weights": "pytorch", "nms_cls": 0.6}),
    ("decoupled_rcnn", {"regression": "class_specific", "stage_weights": "halved", "lambda": 0.0}),
    ("decoupled_rcnn", {"stages": 1, "heads": "shared", "regression_ground_truth": True}),
    ("decoupled_rcnn", {"double_head": True, "stages": 2}),
    ("iterative_bbox", {}),
    ("integral_loss", {}),
]
"""Variants and options other than the defaults."""


def values_of(run) -> dict:
    """Controls by name."""
    controls = ADAPTER.read_controls(ADAPTER.build(run))
    values = {control.name: control.value for control in controls}
    assert len(values) == len(controls)
    return values


def embedded_run(variant, rules="aligned", options=None):
    """A run of the embedded study with another variant, under the rules of a protocol."""
    found = find_variant(variant, "test")
    chosen = chosen_variant(found, found.card.complete_options(options or {}, "test"), "test")
    run = next(p.run for p in load_study("tiny").runs if p.run.framework == "mmdet")
    protocol = run.protocol.model_copy(update={"rules": rules})
    return run.model_copy(update={"protocol": protocol, "variant": chosen})


@pytest.mark.parametrize(("variant", "options"), VARIANTS)
def test_every_weight_has_one_common_name(variant, options):
    run = embedded_run(variant, options=options)
    names = {name: common_name(name) for name in ADAPTER.build_model(run).state_dict()}
    assert {name.rpartition(".")[2] for name, common in names.items() if common is None} == {"num_batches_tracked"}
    given = [common for common in names.values() if common]
    assert len(set(given)) == len(given)
    assert {int(common.split(".")[1]) for common in given if common.startswith("heads.")} == set(
        range(1, run.variant.heads + 1)
    )


@pytest.mark.parametrize("name", ["backbone.conv2.weight", "roi_head.bbox_head.0.shared_fcs.2.weight", "neck.gamma"])
def test_a_name_outside_the_table_is_refused(name):
    with pytest.raises(ValueError, match="no common name"):
        common_name(name)


def test_initial_weights_are_the_common_ones_of_the_seed():
    run = embedded_run("cascade_rcnn").model_copy(update={"seed": 3})
    state = ADAPTER.build_model(run).state_dict()
    for name, common in {
        "backbone.layer2.0.downsample.0.weight": "backbone.stage2.0.shortcut.conv.weight",
        "backbone.layer1.0.bn1.running_var": "backbone.stage1.0.norm1.running_var",
        "neck.fpn_convs.3.conv.weight": "neck.output5.weight",
        "rpn_head.rpn_cls.weight": "rpn.objectness.weight",
        "roi_head.bbox_head.2.fc_reg.weight": "heads.3.regressor.weight",
    }.items():
        assert np.array_equal(state[name].numpy(), initial_tensor(common, tuple(state[name].shape), 3)), name


@pytest.mark.parametrize(("variant", "options"), VARIANTS)
def test_every_control_is_read_and_what_the_protocol_says(variant, options):
    run = embedded_run(variant, options=options)
    values = values_of(run)
    assert values.keys() == CONTROLS.keys()
    for name, control in CONTROLS.items():
        if control.expected:
            assert same_value(values[name], control.expected(run)), (name, values[name], control.expected(run))


@pytest.mark.parametrize(
    ("variant", "options"), [("cascade_rcnn", {}), ("decoupled_rcnn", {"double_head": True, "stages": 2})]
)
def test_reading_controls_changes_nothing(variant, options):
    built = ADAPTER.build(embedded_run(variant, options=options))
    before = {name: tensor.clone() for name, tensor in built.model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = ADAPTER.read_controls(built)
    assert torch.equal(torch.get_rng_state(), state)
    assert ADAPTER.read_controls(built) == first
    assert all(torch.equal(tensor, before[name]) for name, tensor in built.model.state_dict().items())
    assert built.schedulers[0].last_step == 0
    assert built.optimizer.param_groups[0]["lr"] == built.run.learning_rate(0)


def test_a_protocol_may_keep_mmdetection_s_own_rules():
    values = values_of(embedded_run("cascade_rcnn", "mmdet"))
    aligned = values_of(embedded_run("cascade_rcnn"))
    changed = {name: value for name, value in values.items() if value != aligned[name]}
    hashes = {"input.resized_image_sha256", "weights.trunk_sha256", "weights.first_head_sha256"}
    assert hashes <= changed.keys()
    # The first stage moves all 33 RoIs of an image onto its ground truth, and later ones take 16 positives of 64 RoIs.
    assert {name: value for name, value in changed.items() if name not in hashes} == {
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
    }


def test_positive_anchors_regress_to_their_best_ground_truth():
    assigner = ADAPTER.build_model(embedded_run("faster_rcnn")).rpn_head.assigner
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
    model = ADAPTER.build_model(embedded_run("cascade_rcnn"))
    coders = [model.rpn_head.bbox_coder, *(head.bbox_coder for head in model.roi_head.bbox_head)]
    assert [delta_clamp(coder.decode) for coder in coders] == [[0.016, 62.5]] * 4


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
    built = ADAPTER.build(embedded_run(variant))
    before = {control.name: control.value for control in ADAPTER.read_controls(built)}
    for path, value in changes.items():
        *parts, name = path.split(".")
        target = built.model.roi_head
        for part in parts:
            target = target[int(part)] if part.isdigit() else getattr(target, part)
        setattr(target, name, value)
    after = {control.name: control.value for control in ADAPTER.read_controls(built)}
    counts = {"heads.positives_entering", "heads.regression_positives_entering"}
    assert {name: value for name, value in after.items() if value != before[name] and name not in counts} == seen
