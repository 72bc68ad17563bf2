"""How a run trains in every framework: what is built, which images are read, how the rate moves, how it goes on."""

import hashlib
import importlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook
from trainings import (
    at_iteration,
    changed,
    control_values,
    killed,
    left,
    log_of,
    run_of,
    train,
    trained,
    trained_model,
    with_truth,
)

from adapters.commands import initial_model, load_adapter
from adapters.contract import Adapter
from adapters.data.training_dataset import TrainingDataset
from adapters.training import training_session
from adapters.training.training_session import TrainingSession
from cascadebench.core.errors import InputError
from cascadebench.datasets.prepared import ImageRecord, PreparedSplit, trainable
from cascadebench.determinism.training_order import TrainingOrder, planned_chains, resized_shape, training_order
from cascadebench.study.study_file import Execution, load_protocol

TRAINED = ["faster_rcnn", "cascade_rcnn", "fscascade", "decoupled_rcnn", "integral_loss"]
"""Every variant that is trained."""


@pytest.fixture
def with_boxes(records) -> list[ImageRecord]:
    """The images that a training reads."""
    return with_truth(records)


def module(framework, name):
    """Import a module of a framework's adapter."""
    return importlib.import_module(f"adapters.{framework}.{name}")


# One assembly for inspection and training


@pytest.fixture
def assembled(monkeypatch):
    """Note what an adapter assembles from here on."""
    made, assemble = [], Adapter.assemble
    monkeypatch.setattr(Adapter, "assemble", lambda *arguments: made.append(assemble(*arguments)) or made[-1])
    return made


def test_what_is_inspected_is_what_trains(framework, assembled, small_run, with_boxes, execution, tmp_path):
    """One function makes what controls are read from and what trains; nothing else steps, moves the rate or reads."""
    run, adapter = small_run(framework, "cascade_rcnn"), load_adapter(framework)
    inspected, stepped = adapter.build(run), []
    hooked = register_optimizer_step_post_hook(lambda optimizer, *_: stepped.append(optimizer))
    try:
        trained(run, with_boxes, tmp_path, execution)
    finally:
        hooked.remove()
    first, built = assembled
    assert first is inspected
    names = ("model", "engine", "session", "reader", "optimizer", "loader", "dataset")
    assert [type(getattr(built, name)) for name in names] == [type(getattr(inspected, name)) for name in names]
    assert [type(hook) for hook in built.hooks] == [type(hook) for hook in inspected.hooks]
    assert {id(one) for one in stepped} == {id(getattr(built.optimizer, "optimizer", built.optimizer))}
    held = {id(weight) for group in built.optimizer.param_groups for weight in group["params"]}
    assert held == {id(weight) for weight in built.model.parameters() if weight.requires_grad}
    steps = [[scheduler.last_step if framework == "mmdet" else scheduler.last_epoch for scheduler in one.schedulers]
             for one in (inspected, built)]  # fmt: skip
    assert set(steps[0]) == {0} and min(steps[1]) > 0
    assert inspected.loader._reading is None and built.loader._reading is not None
    assert built.session.loader is built.loader
    assert built.session in [getattr(hook, "session", None) for hook in built.hooks]


def test_a_change_in_the_assembly_is_read_and_trained(
    framework, small_run, with_boxes, execution, tmp_path, monkeypatch
):
    """Of an optimizer or a loader built a second time, one of the two would not know of it."""
    run, assemble = small_run(framework, "faster_rcnn"), Adapter.assemble
    before = control_values(run)
    trained(run, with_boxes, tmp_path / "before", execution)

    def changed_assembly(*arguments):
        built = assemble(*arguments)
        for group in built.optimizer.param_groups:
            group["momentum"] = 0.5
        built.dataset.order.images[:] = built.dataset.order.images[:, ::-1].copy()
        return built

    monkeypatch.setattr(Adapter, "assemble", changed_assembly)
    read = {name: value for name, value in control_values(run).items() if value != before[name]}
    assert read.keys() == {"optimizer.momentum", "training.order_sha256"}
    state = trained(run, with_boxes, tmp_path / "after", execution)
    assert {group["momentum"] for group in state["optimizer"]["param_groups"]} == {0.5} == {read["optimizer.momentum"]}
    logs = [log_of(tmp_path / name) for name in ("before", "after")]
    assert all(one["consumed_sha256"] != other["consumed_sha256"] for one, other in zip(*logs, strict=True))


def test_an_inspection_writes_nothing(framework, small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    control_values(small_run(framework, "faster_rcnn"))
    assert list(tmp_path.iterdir()) == []


def test_an_inspection_plans_the_beginning_of_the_order(framework):
    run = run_of(framework, "faster_rcnn")
    dataset = load_adapter(framework).build(run).dataset
    order = training_order(dataset.records, run.protocol, run.seed)
    for position in (0, 5, 999):
        image_id, flip, side = dataset.planned(position)
        assert image_id == dataset.records[order.images.flat[position]].id
        assert (flip, side) == (order.flips.flat[position], order.short_sides.flat[position])
        assert type(image_id) is type(side) is int and type(flip) is bool


# Training and going on


@pytest.mark.parametrize("variant", ["cascade_rcnn", "decoupled_rcnn"])
def test_resuming_equals_never_stopping(framework, variant, small_run, records, execution, tmp_path, monkeypatch):
    """The conformance suite asks it of every variant; here of log, statistics and reading beside, too."""
    run = small_run(framework, variant)
    monkeypatch.setattr(training_session, "RECORDED_EVERY", 1)
    trained(run, records, tmp_path / "whole", execution)
    out = tmp_path / "stopped"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        at_iteration(patched, 5, killed)
        train(run, records, out, execution)
    recorded = (out / "stage_statistics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in recorded][:3] == [0, 1, 2]
    session = train(run, records, out, execution)
    assert session.start == 3
    session.finish()
    trained(run, records, tmp_path / "beside", execution.model_copy(update={"loader_workers": 1}))
    # The log of a resumed training reads as if it had never stopped, but for the seconds.
    assert left(out) == left(tmp_path / "whole") == left(tmp_path / "beside")
    if variant == "cascade_rcnn":
        terms = {f"stage{stage}_{task}" for stage in (1, 2, 3) for task in ("classification", "regression")}
        assert log_of(out)[0]["losses"].keys() == terms | {"rpn_classification", "rpn_regression"}
    # Killed after the last checkpoint: nothing is left to train, and the table is written all the same.
    (out / "stage_statistics.parquet").unlink()
    TrainingSession(run, out, torch.device("cpu"), execution).finish()
    assert left(out) == left(tmp_path / "whole")


@pytest.mark.parametrize("variant", TRAINED)
def test_a_run_under_own_rules_trains_and_predicts(framework, variant, small_run, with_boxes, execution, tmp_path):
    run = changed(small_run(framework, variant), rules=framework)
    model = trained_model(run, trained(run, with_boxes, tmp_path, execution))
    (prediction,) = load_adapter(framework).predict(run, model, with_boxes[:1])
    assert list(prediction.test_stages) == [stage.label for stage in run.variant.test_stages]


@pytest.mark.parametrize("batch_norm", ["trained", "fixed_statistics", "frozen"])
def test_what_of_the_backbone_learns(framework, batch_norm, small_run, with_boxes, execution, tmp_path):
    run = changed(small_run(framework, "faster_rcnn"), backbone={"batch_norm": batch_norm, "frozen_stages": 2})
    adapter = load_adapter(framework)
    before = initial_model(adapter, run, with_weights=False).state_dict()
    after = trained(run, with_boxes, tmp_path, execution)["model"]
    learnt = {adapter.common_names(run)(name) for name, value in before.items() if not torch.equal(value, after[name])}
    assert not any(name.startswith(("backbone.stem", "backbone.stage1")) for name in learnt if name)
    assert "backbone.stage2.0.conv1.weight" in learnt
    assert ("backbone.stage2.0.norm1.weight" in learnt) == (batch_norm != "frozen")
    assert ("backbone.stage2.0.norm1.running_mean" in learnt) == (batch_norm == "trained")
    assert control_values(run)["backbone.batch_norm"] == batch_norm


def test_a_training_split_without_boxes_is_refused(records):
    with pytest.raises(InputError, match="no image has a ground-truth box"):
        trainable(PreparedSplit((records[5],), (1,)))


# Optimizer and learning rate

SCHEDULES = [
    {},
    {"iterations": 90, "steps": (3, 4, 89), "warmup_iterations": 2, "gamma": 0.3},
    {"iterations": 50, "steps": (1,), "warmup_iterations": 0},
    {"iterations": 7, "steps": (), "warmup_iterations": 6, "warmup_factor": 1e-6},
    {"iterations": 7, "steps": (), "warmup_iterations": 6, "warmup_factor": 0.0},  # mmdet refuses it
]


TOLERANCE = {"mmdet": 1e-9, "detectron2": 1e-12}
"""MMEngine multiplies its way up, step by step."""


def optimizer_of(run, model):
    """A framework's optimizer and schedulers around a model."""
    training = module(run.framework, "training")
    optimizer = training.build_optimizer(model, run)
    return optimizer, training.build_schedulers(optimizer, run)


def test_the_learning_rate_is_the_protocol_s_at_every_iteration(framework, small_run):
    run = small_run(framework, "faster_rcnn")
    schedules = SCHEDULES if framework == "detectron2" else SCHEDULES[:-1]
    protocols = [changed(run, schedule=schedule).protocol for schedule in schedules]
    for protocol in [*protocols, load_protocol("tiny", {}, "test"), load_protocol("coco_1x", {}, "test")]:
        run = run.model_copy(update={"protocol": protocol})
        optimizer, schedulers = optimizer_of(run, torch.nn.Linear(1, 1))
        getattr(optimizer, "optimizer", optimizer).step()
        for iteration in range(protocol.schedule.iterations):
            wanted = run.protocol.schedule.learning_rate(iteration)
            assert math.isclose(optimizer.param_groups[0]["lr"], wanted, rel_tol=TOLERANCE[framework]), iteration
            for scheduler in schedulers:
                scheduler.step()


def test_a_warm_up_from_nothing_is_refused_by_mmdet(small_run):
    run = changed(small_run("mmdet", "faster_rcnn"), schedule={"warmup_factor": 0.0})
    with pytest.raises(InputError, match=r"schedule\.warmup_factor: 0"):
        optimizer_of(run, torch.nn.Linear(1, 1))


def test_a_schedule_too_long_for_detectron2_is_refused(small_run):
    run = changed(small_run("detectron2", "faster_rcnn"), schedule={"iterations": 4_000_000, "steps": (2_000_000,)})
    with pytest.raises(InputError, match=r"schedule\.iterations"):
        optimizer_of(run, torch.nn.Linear(1, 1))


def test_clipping_bounds_the_whole_gradient(framework, small_run):
    run = changed(small_run(framework, "faster_rcnn"), optimizer={"gradient_clip_norm": 0.5, "weight_decay": 0.0})
    model = torch.nn.Linear(3, 3)
    optimizer, _ = optimizer_of(run, model)
    loss = (model(torch.ones(1, 3)) * 100).sum()
    if framework == "mmdet":
        optimizer.backward(loss)
    else:
        loss.backward()
    optimizer.step()
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.5), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("rule", "shares"), [("decay", [1.0, 0.5, 0.25]), ("avg", [0.3333333] * 3)])
def test_controls_of_a_cascade(framework, rule, shares, small_run):
    sizes = {"train_short_sides": (48, 64), "test_short_side": 64, "max_long_side": 80}
    values = control_values(changed(small_run(framework, "cascade_rcnn", stage_loss=rule), input=sizes))
    assert values["heads.trunk_gradient"] == pytest.approx(shares)
    assert values["heads.iou_threshold"] == [0.5, 0.6, 0.7]
    assert values["heads.target_stds"][2] == [0.0333333333, 0.0333333333, 0.0666666667, 0.0666666667]
    assert values["schedule.milestones"] == [4] and values["schedule.warmup_iterations"] == 2
    assert values["optimizer.parameter_groups"] == 1 and values["optimizer.gradient_clip_norm"] == 10.0
    assert values["input.train_short_sides"] == [48, 64] and values["input.max_long_side"] == 80
    assert values["input.resize"] == "pillow_bilinear" and values["input.channel_order"] == "rgb"


# Images


def pixels_and_boxes(item):
    """RGB pixels [H, W, 3] and boxes of an item, as either framework's model takes it."""
    if "inputs" in item:  # MMDetection reads BGR; its preprocessor swaps it
        boxes = getattr(item["data_samples"], "gt_instances", None)
        return item["inputs"].permute(1, 2, 0).flip(2).numpy(), boxes.bboxes.tensor.numpy() if boxes else None
    boxes = item.get("instances")
    return item["image"].permute(1, 2, 0).numpy(), boxes.gt_boxes.tensor.numpy() if boxes else None


def test_images_are_resized_and_mirrored_as_planned(framework, small_run, with_boxes):
    run = small_run(framework, "faster_rcnn")
    order = TrainingOrder(
        np.array([[0, 1], [2, 3]]), np.array([[False, True], [True, False]]), np.array([[128, 96], [64, 128]])
    )
    dataset = TrainingDataset(module(framework, "data").ImageReader(run), with_boxes, order)
    assert len(dataset) == 4
    for position, record in enumerate(with_boxes[:4]):
        size = resized_shape(record.width, record.height, int(order.short_sides.flat[position]), 128)
        with Image.open(record.path) as picture:
            wanted = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
        boxes = record.boxes * np.tile([size[0] / record.width, size[1] / record.height], 2)
        if order.flips.flat[position]:
            wanted = wanted[:, ::-1]
            boxes[:, [0, 2]] = size[0] - boxes[:, [2, 0]]
        pixels, given = pixels_and_boxes(dataset[position])
        assert np.array_equal(pixels, wanted)
        np.testing.assert_allclose(given, boxes, atol=1e-4)


def test_pixels_are_those_of_the_file(framework, small_run, tmp_path):
    """EXIF orientation is ignored: annotations speak of the stored pixels."""
    run, path = small_run(framework, "faster_rcnn"), tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = 6  # a viewer would turn it by a quarter
    Image.new("RGB", (64, 32), (255, 0, 0)).save(path, exif=exif)
    record = ImageRecord(1, path, 64, 32, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    reader = module(framework, "data").ImageReader(run)
    pixels, _ = pixels_and_boxes(reader.test_image(record))
    assert pixels.shape == (64, 128, 3)
    assert (pixels[..., 0] > 250).all() and (pixels[..., 1:] < 5).all()
    with pytest.raises(InputError, match="64 x 32"):
        reader.test_image(replace(record, width=32, height=64))
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read"):
        reader.test_image(record)


def consumed_by_order(records, run):
    """The log's chain of hashes of the images of every step, from the order of a run."""
    order, chain = training_order(records, run.protocol, run.seed), [""]
    sides, longest = run.protocol.input.train_short_sides, run.protocol.input.max_long_side
    assert len(sides) > 1 and max(sides) * 4 / 3 < longest  # a size says something, and is the one that was drawn
    for images, flips, short_sides in zip(order.images, order.flips, order.short_sides, strict=True):
        items = zip(images, flips, short_sides, strict=True)
        step = "".join(f"{records[image].id}{'-' if flip else '+'}{side} " for image, flip, side in items)
        chain.append(hashlib.sha256(f"{chain[-1]}{step}".encode()).hexdigest())
    assert chain[1:] == list(planned_chains(records, order, longest))
    return chain[1:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_s_images_are_consumed_whatever_trains(workers, small_run, with_boxes, tmp_path):
    sizes = {"train_short_sides": (64, 80, 96), "max_long_side": 160}

    def seeded(framework, variant, seed):
        return changed(small_run(framework, variant), input=sizes).model_copy(update={"seed": seed})

    expected = {seed: consumed_by_order(with_boxes, seeded("mmdet", "faster_rcnn", seed)) for seed in (0, 1)}
    assert len(set(expected[0])) == 6 and not set(expected[0]) & set(expected[1])
    once = Execution(loader_workers=workers, checkpoint_interval=100, log_interval=100)
    weights = {}
    for framework, variant, seed in [
        ("mmdet", "faster_rcnn", 0), ("mmdet", "faster_rcnn", 1), ("mmdet", "cascade_rcnn", 0),
        ("detectron2", "faster_rcnn", 0), ("detectron2", "faster_rcnn", 1), ("detectron2", "cascade_rcnn", 0),
    ]:  # fmt: skip
        run = seeded(framework, variant, seed)
        out = tmp_path / run.id
        weights[framework, variant, seed] = trained(run, with_boxes, out, once)["model"]
        assert [line["consumed_sha256"] for line in log_of(out)] == expected[seed]
    for framework, name in (("mmdet", "backbone.conv1.weight"), ("detectron2", "backbone.bottom_up.stem.conv1.weight")):
        first, second = (weights[framework, "faster_rcnn", seed][name] for seed in (0, 1))
        assert not torch.equal(first, second)
