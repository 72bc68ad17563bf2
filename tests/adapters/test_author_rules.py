"""Rules of authors' codes that are offered: later stages' ground truth, losses, biases, borrowed layers."""

import pytest
import torch
from trainings import changed, control_values, run_of

from adapters.commands import load_adapter
from adapters.training.parameter_groups import parameter_groups
from adapters.variants.fscascade.feature_sharing import FeatureSharing, borrowed_gradients
from adapters.witness.double_precision import double_precision
from adapters.witness.fixtures import fix_weights
from adapters.witness.later_rois import passing_quantities
from adapters.witness.subject import Subject
from cascadebench.controls.definitions import CONTROLS
from cascadebench.controls.witness import close

HEADS = {"mmdet": ("roi_head", "bbox_head"), "detectron2": ("roi_heads", "box_predictor")}
GROUND_TRUTH = {"later_ground_truth": "dropped_and_added"}
OWN_CLASS = {"regression": "class_specific", "moved_by": "ground_truth_class"}


def passed_as_the_card_says(built, run) -> bool:
    """Whether what entered the later regressors is what a plain computation gives."""
    stds = "heads.target_stds"
    subject = Subject(load_adapter(run.framework), built, {stds: CONTROLS[stds].expected(run)})
    built.model.double().train()
    with double_precision():
        fix_weights(subject)
        noted = list(passing_quantities(subject))
    assert len(noted) == run.variant.stages - 1
    assert all(one.wanted is not None for one in noted)
    return all(close(one.value, one.wanted, 1e-8) for one in noted)


@pytest.mark.parametrize(
    ("variant", "options"),
    [("cascade_rcnn", {}), ("cascade_rcnn", GROUND_TRUTH), ("decoupled_rcnn", {}), ("decoupled_rcnn", OWN_CLASS)],
)
def test_later_stages_get_what_the_options_say(framework, variant, options):
    run = run_of(framework, variant, **options)
    assert passed_as_the_card_says(load_adapter(framework).build(run), run)


def keeps_copies(heads, name) -> None:
    for head in getattr(heads, name):
        head.drops_ground_truth = False


def adds_nothing(heads, name) -> None:
    heads.later_ground_truth = False
    if name == "bbox_head":
        from mmdet.models.task_modules.samplers import PseudoSampler

        heads.bbox_sampler[1:] = [PseudoSampler() for _ in heads.bbox_sampler[1:]]


def moves_by_the_predicted_class(heads, name) -> None:
    heads.moved_by = "predicted_class"


@pytest.mark.parametrize(
    ("variant", "options", "change", "control"),
    [
        ("cascade_rcnn", GROUND_TRUTH, keeps_copies, "heads.later_ground_truth"),
        ("cascade_rcnn", GROUND_TRUTH, adds_nothing, "heads.later_ground_truth"),
        ("decoupled_rcnn", OWN_CLASS, moves_by_the_predicted_class, "heads.moved_by"),
    ],
)
def test_other_boxes_are_seen(framework, variant, options, change, control):
    run, adapter = run_of(framework, variant, **options), load_adapter(framework)
    built, (heads, name) = adapter.build(run), HEADS[framework]
    change(getattr(built.model, heads), name)
    values = {one.name: one.value for one in adapter.read_controls(built)}
    assert values[control] != CONTROLS[control].expected(run)
    assert not passed_as_the_card_says(built, run)


PROTOCOL = {
    "rpn": {"smooth_l1_beta": 1 / 9},
    "heads": {"smooth_l1_beta": 1.0},
    "optimizer": {"bias_lr_factor": 2.0, "bias_decay_factor": 0.0},
    "backbone": {"frozen_stages": 2, "batch_norm": "frozen"},
}


def test_losses_and_biases_follow_the_protocol(framework):
    run = changed(run_of(framework, "cascade_rcnn"), **PROTOCOL)
    values = control_values(run)
    wanted = {
        "rpn.regression_loss": "smooth_l1 up to 0.1111",
        "heads.regression_loss": "smooth_l1 up to 1",
        "optimizer.weight_decay": 1e-4,
        "optimizer.bias_lr_factor": 2.0,
        "optimizer.bias_weight_decay": 0.0,
        "optimizer.parameter_groups": 2,
        "backbone.batch_norm": "frozen",
    }
    assert {name: values[name] for name in wanted} == wanted
    assert {name: CONTROLS[name].expected(run) for name in wanted} == wanted
    assert values["optimizer.parameters_covered"]


def test_the_shift_of_a_norm_is_no_bias(framework):
    run = changed(run_of(framework, "decoupled_rcnn", double_head=True, stages=1), optimizer=PROTOCOL["optimizer"])
    adapter = load_adapter(framework)
    model, common_name = adapter.build_model(run), adapter.common_names(run)
    names = {id(parameter): common_name(name) for name, parameter in model.named_parameters()}
    weights, biases = ([names[id(one)] for one in group["params"]] for group in parameter_groups(model, run))
    assert all(name.endswith(".bias") and "norm" not in name for name in biases)
    assert not [name for name in weights if name.endswith(".bias") and "norm" not in name]
    assert [name for name in weights if name.endswith(".bias")], "norms have shifts"


@pytest.mark.parametrize("embed", ["linear", "identity"])
def test_a_stage_has_its_relative_weight_in_what_it_borrows(embed):
    """As if every head's gradient were that of the weighted losses, over the head's own weight."""
    gradients = []
    for rule in ("full", "relative"):
        run = run_of("mmdet", "fscascade", borrowed_loss=rule)
        torch.manual_seed(0)
        heads = [torch.nn.Linear(6, 4) for _ in range(3)]
        factors = borrowed_gradients(run)
        sharing = FeatureSharing(3, 4, True, True, "mean", True, embed, factors)
        for layer in sharing.embeddings.values():
            torch.nn.init.normal_(layer.weight)
        pooled = torch.randn(5, 6, requires_grad=True)
        read = sharing(2, pooled, lambda head, rois, heads=heads: heads[head](rois).relu())
        parameters = [one for head in heads for one in head.parameters()] + list(sharing.parameters())
        gradients.append(torch.autograd.grad(sum(one.square().sum() for one in read), [pooled, *parameters]))
    shares = [1.0, 0.25, 0.25, 0.5, 0.5, 1.0, 1.0, *([0.5, 1.0] if embed == "linear" else [])]
    for share, full, relative in zip(shares, *gradients, strict=True):
        assert torch.allclose(relative, share * full, rtol=1e-5, atol=1e-6)
        assert full.abs().sum() > 0
