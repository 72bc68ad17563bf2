"""With the same weights and the same input both frameworks give the same numbers.

Every variant that both frameworks have joins by itself. Weights are the common initial ones with noise on top, so that
boxes move and classes differ. Where a step samples at random, the protocol asks for so many samples that everything is
taken: then the sampled RoIs are the same.
"""

import json

import numpy as np
import pytest
import torch
from comparison import (
    add_noise,
    differences_of_inference,
    differences_of_steps,
    ground_truth,
    run_of,
    two_images,
)
from sides import Detectron2Side, MMDetectionSide

from adapters.training.training_session import TrainingSession
from cascadebench.core.configuration import CONFIG
from cascadebench.datasets.masks import bitmap
from cascadebench.detectors.cards import load_framework_card
from cascadebench.detectors.variant_catalog import find_variant, own_variants
from cascadebench.determinism.training_order import training_order
from cascadebench.study.study_file import Execution, load_protocol

torch.set_num_threads(1)
BOTH = ("mmdet", "detectron2")
OPTIONS = {
    "faster_rcnn": [{"heads": "unshared"}, {"nms_cls": 0.6, "nms_reg": 0.8}, {"regression": "class_specific"}],
    "cascade_rcnn": [{"stages": 4, "iou_thresholds": "constant", "target_statistics": "constant", "stage_loss": "avg"}],
    "cascade_mask_rcnn": [{"mask_on": "every"}],
    "fscascade": [
        {"merge": "concat", "share_gradient": False},
        {"merge": "sum", "embed": "identity", "stages": 2},
        {"cfs": False, "lfs": False},
    ],
    "decoupled_rcnn": [
        {"classifiers": 3, "iou_thresholds": "rising", "later_weights": "pytorch", "regression_ground_truth": True},
        {"regression": "class_specific", "stage_weights": "halved", "regression_ground_truth": True},
        {"stages": 1, "heads": "shared", "nms_reg": 0.95},
        {"double_head": True, "stages": 2},
        {"double_head": True, "classifiers": 2},
    ],
}
"""Options that are tried beside the defaults of each variant."""
CASES = [
    (name, options)
    for name in own_variants()
    if set(BOTH) <= set(find_variant(name, "test").card.frameworks)
    for options in [{}, *OPTIONS.get(name, [])]
]


def case_name(case: tuple[str, dict]) -> str:
    """A variant and the values of the options that it is tried with."""
    return "-".join([case[0], *(f"{name}={value}" for name, value in case[1].items())])


@pytest.fixture(scope="module", params=CASES, ids=case_name)
def pair(request):
    """Both frameworks' side, run and model of a variant."""
    found = []
    for side in (MMDetectionSide(), Detectron2Side()):
        run = run_of(side.framework, find_variant(request.param[0], "test"), request.param[1])
        torch.manual_seed(0)
        model = side.adapter.build_model(run)
        add_noise(model, side.adapter.common_name)
        found.append((side, run, model))
    return found


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Two images of different size, so that the batch is padded."""
    return two_images()


@pytest.fixture(scope="module")
def truth() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ground truth of the two images."""
    return ground_truth()


def test_the_models_have_the_same_weights(pair):
    states = []
    for side, _, model in pair:
        named = {side.adapter.common_name(name): tensor for name, tensor in model.state_dict().items()}
        named.pop(None, None)
        states.append(named)
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_inference_agrees(pair, images, record_property):
    one, other = (side.infer(model, images) for side, _, model in pair)
    reached = differences_of_inference(one, other)
    assert sum(len(found) for found in one.proposals) > 50
    record_property("reached", json.dumps(reached))
    assert all(value <= 1e-4 for value in reached.values()), reached


def test_losses_and_gradients_agree(pair, images, truth, record_property):
    # In the double head's twenty convolutions a rounding error turns a ReLU now and then.
    tolerance = 1e-3 if pair[0][1].variant.options.get("double_head") else 1e-4
    one, other = (side.step(model, images, truth) for side, _, model in pair)
    losses, gradients = differences_of_steps(one, other)
    worst = max(gradients, key=gradients.get)
    record_property("reached", json.dumps({"losses": losses, "gradients": {worst: gradients[worst]}}))
    assert all(value <= 1e-5 for value in losses.values()), losses
    assert gradients[worst] <= tolerance, (worst, gradients[worst])


def test_every_parameter_gets_a_gradient(pair, images, truth):
    for side, _, model in pair:
        gradients = side.step(model, images, truth).gradients
        wanted = {side.adapter.common_name(name) for name, p in model.named_parameters() if p.requires_grad}
        assert wanted == set(gradients)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Twelve drawn images of the embedded dataset."""
    from cascadebench.datasets.card import load_dataset_card
    from cascadebench.datasets.prepare import prepare
    from cascadebench.datasets.prepared import load_split, trainable

    card = load_dataset_card("shapes")
    few = card.data.model_copy(update={"train_images": 12, "val_images": 4})
    folder = tmp_path_factory.mktemp("few") / "shapes"
    prepare(card.model_copy(update={"data": few}), folder)
    return trainable(load_split(folder, "train", segmentations=True))


def test_final_detections_agree(pair, records):
    one, other = (list(side.adapter.predict(run, model.eval(), records[:4])) for side, run, model in pair)
    total = 0
    for first, second, record in zip(one, other, records[:4], strict=True):
        for label, found in first.test_stages.items():
            expected = second.test_stages[label]
            assert len(found.scores) == len(expected.scores), label
            total += len(found.scores)
            # Equal scores may stand in another order.
            orders = [np.lexsort((*d.boxes.T.round(2), d.labels, -d.scores.round(5))) for d in (found, expected)]
            assert np.abs(found.scores[orders[0]] - expected.scores[orders[1]]).max(initial=0) <= 1e-4
            assert np.abs(found.boxes[orders[0]] - expected.boxes[orders[1]]).max(initial=0) <= 2e-3
            assert (found.labels[orders[0]] == expected.labels[orders[1]]).all()
            assert differing_pixels((found.masks, expected.masks), orders, record) <= 1e-3
    assert total > 20


def differing_pixels(masks, orders, record) -> float:
    """Share of the pixels of two frameworks' masks that differ; both of them give masks, or none."""
    assert (masks[0] is None) == (masks[1] is None)
    if not masks[0]:
        return 0.0
    size = {"size": [record.height, record.width]}
    one, other = (
        np.array([bitmap(size | {"counts": given[row]}, record.width, record.height) for row in order])
        for given, order in zip(masks, orders, strict=True)
    )
    return float(np.mean(one != other))


TOGETHER, AFTERWARDS = 1e-5, 0.05
"""Relative difference of the loss in each of the first five steps, and of its mean over all twenty.

Later a difference in the last bit lets a proposal live or die in one framework alone, and single steps drift apart.
"""


def test_loss_curves_stay_together(pair, records, tmp_path, record_property):
    curves = []
    for side, run, _ in pair:
        out = tmp_path / side.framework
        session = TrainingSession(run, out, torch.device("cpu"), Execution(log_interval=100))
        torch.manual_seed(0)
        model = side.adapter.build_model(run)
        side.adapter.train(run, model, records, training_order(records, run.protocol, run.seed), session)
        session.finish()
        lines = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
        curves.append(lines)
    assert [line["consumed_sha256"] for line in curves[0]] == [line["consumed_sha256"] for line in curves[1]]
    assert np.allclose([line["lr"] for line in curves[0]], [line["lr"] for line in curves[1]], rtol=1e-9)
    losses = np.array([[line["loss"] for line in lines] for lines in curves])
    relative = np.abs(losses[0] - losses[1]) / losses[0]
    means = losses.mean(axis=1)
    reached = {"first five": relative[:5].max(), "mean": abs(means[0] - means[1]) / means[0]}
    record_property("reached", json.dumps(reached | {"single step": relative.max()}))
    assert reached["first five"] <= TOGETHER, relative
    assert reached["mean"] <= AFTERWARDS, relative


ALIGNED = [
    name
    for name in sorted(path.stem for path in (CONFIG / "protocols").glob("*.yaml"))
    if load_protocol(name, {}, "test").rules == "aligned"  # others run in one framework alone: nothing to agree with
]


@pytest.mark.parametrize("name", ALIGNED)
def test_learning_rates_agree_at_every_iteration(name):
    """Each framework's own schedule, stepped through, gives one hash."""
    from adapters.detectron2.adapter import ADAPTER as detectron2
    from adapters.mmdet.adapter import ADAPTER as mmdet

    protocol = load_protocol(name, {}, "test")
    hashes = set()
    for adapter, framework in ((mmdet, "mmdet"), (detectron2, "detectron2")):
        run = run_of(framework, find_variant("faster_rcnn", "test")).model_copy(update={"protocol": protocol})
        if run.backbone.base_channels != 16:
            raise AssertionError("the narrow backbone keeps this test quick")
        controls = {control.name: control.value for control in adapter.read_controls(adapter.build(run))}
        hashes.add(controls["schedule.learning_rates_sha256"])
    assert len(hashes) == 1


def test_both_frameworks_are_known():
    assert {load_framework_card(name).name for name in BOTH} == set(BOTH)
