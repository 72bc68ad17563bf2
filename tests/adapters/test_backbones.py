"""Backbones by name, in both frameworks: published sizes, the same features, what learns, the controls."""

import pytest
import torch
from backbone_sides import FRAMEWORKS, build, image, make_run, small
from torch import nn

from adapters.commands import load_adapter
from cascadebench.controls.definitions import CONTROLS
from cascadebench.study_loading import load_study

NARROW = {
    "resnet34": {"depth": 34},
    "resnext": {"groups": 4, "width_per_group": 8},
    "group norm": {"base_channels": 32, "norm": "group"},
    "group norm, basic blocks": {"depth": 18, "base_channels": 32, "norm": "group"},
    "resnext with group norm": {"base_channels": 32, "groups": 4, "width_per_group": 8, "norm": "group"},
    "caffe": {"stride_in_1x1": True},
}
SMALL = pytest.mark.parametrize("name", NARROW)


@pytest.mark.parametrize(
    ("label", "parameters"), [("Faster R-CNN FPN, class-specific", 41_527_712), ("Cascade R-CNN", 69_169_422)]
)
def test_published_parameter_counts(framework, label, parameters):
    runs = load_study("coco_1x").runs
    run = next(one.run for one in runs if (one.run.framework, one.label) == (framework, label))
    with torch.device("meta"):
        model = load_adapter(framework).build_model(run)
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == parameters


@SMALL
def test_both_frameworks_make_the_same_features(name):
    parts = [build(framework, small(**NARROW[name])) for framework in FRAMEWORKS]
    with torch.no_grad():
        for part in parts:  # the weights as they start make every norm the identity
            for module, tensor in part.state_dict().items():
                if (part.common_name(module) or "").endswith(("norm.bias", "norm1.bias", "norm2.bias", "running_mean")):
                    tensor.copy_(torch.linspace(-0.2, 0.2, len(tensor)))
        found = [part(image()) for part in parts]
        stages = [part.stages(image()) for part in parts]
    assert [level.shape[-1] for level in found[0]] == [16, 8, 4, 2, 1]
    assert [stage.shape[1] for stage in stages[0]] == small(**NARROW[name]).channels
    for ours, theirs in zip([*stages[0], *found[0]], [*stages[1], *found[1]], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@SMALL
@pytest.mark.parametrize("batch_norm", ["trained", "fixed_statistics", "frozen"])
def test_controls_say_what_was_built(name, batch_norm):
    backbone = small(**NARROW[name])
    training = {"frozen_stages": 2, "batch_norm": batch_norm}
    values = {framework: build(framework, backbone, **training).controls() for framework in FRAMEWORKS}
    assert values["mmdet"] == values["detectron2"]
    run = make_run("mmdet", backbone, **training)
    expected = {one: definition.expected(run) for one, definition in CONTROLS.items() if definition.expected}
    for control, value in values["mmdet"].items():
        assert value == expected.get(control, value), control
    grouped = backbone.norm == "group"
    assert values["mmdet"]["backbone.norm"] == ("group" if grouped else "batch")
    assert values["mmdet"]["neck.norm"] == ("group" if grouped else "none")
    assert values["mmdet"]["backbone.batch_norm"] == ("none" if grouped else batch_norm)
    assert values["mmdet"]["backbone.groups"] == NARROW[name].get("groups", 1)
    assert values["mmdet"]["backbone.stride_in_1x1"] == (name == "caffe")


def test_group_norm_learns_except_in_frozen_stages(framework):
    backbone = small(**NARROW["group norm"])
    part = build(framework, backbone, frozen_stages=2, batch_norm="frozen").train()
    learning = {part.common_name(name) for name, parameter in part.named_parameters() if parameter.requires_grad}
    named = {part.common_name(name) for name, _ in part.named_parameters()}
    frozen = {name for name in named if name.startswith(("backbone.stem.", "backbone.stage1."))}
    assert learning == named - frozen
    assert {"backbone.stage2.0.norm2.weight", "backbone.stage4.0.shortcut.norm.bias", "neck.lateral2.norm.weight"} < (
        learning
    )
    assert "neck.lateral2.bias" not in named, "a convolution with a norm behind it has no bias"
    groups = {module.num_groups for module in part.modules() if isinstance(module, nn.GroupNorm)}
    assert groups == {32}


def test_controls_notice_another_norm(framework):
    part = build(framework, small(**NARROW["group norm"]))
    inside = part.backbone if framework == "mmdet" else part.backbone.bottom_up
    norm = next(module for module in inside.modules() if isinstance(module, nn.GroupNorm))
    norm.num_groups = 16
    assert part.controls()["backbone.norm"] == "group, group of 16"
    pyramid = part.neck if framework == "mmdet" else part.backbone
    convolution, norm = (pyramid.fpn_convs[0], "gn") if framework == "mmdet" else (pyramid.output_convs[0], "norm")
    setattr(convolution, norm, nn.Identity())
    assert part.controls()["neck.norm"] == "group, none"
